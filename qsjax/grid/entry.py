"""The wrapper of every question: 64-bit numbers, compiled programs kept, progress shown."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import ParamSpec, TypeVar

from qsjax.grid.progress import watch
from qsjax.numerics.loading import in_float64, within

P = ParamSpec("P")
R = TypeVar("R")


def _kept() -> AbstractContextManager[None]:
    from qsjax.numerics.programs import kept

    return kept()


def entry(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with 64-bit numbers, its compiled programs kept, and its progress shown."""
    answer = in_float64(function)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with within(_kept), watch(function.__name__):
            return answer(*args, **kwargs)

    return run
