"""float64 of our own: byte counts reach 1e15, and floor() of a batch must not flip.

The switch that JAX has for all of a process belongs to the user. Entry points turn it on for as
long as they run.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from qsjax.numerics.loading import within

P = ParamSpec("P")
R = TypeVar("R")


def _enabled() -> AbstractContextManager[Any]:
    from qsjax.numerics.jax import jax

    return jax.enable_x64(True)


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """`function` run with 64-bit numbers, in this thread, whatever the process has set."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with within(_enabled):
            return function(*args, **kwargs)

    return run
