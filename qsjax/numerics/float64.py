"""float64 of our own: byte counts reach 1e15, and floor() of a batch must not flip.

The switch that JAX has for all of a process belongs to the user. Entry points turn it on for as
long as they run.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """`function` run with 64-bit numbers, in this thread, whatever the process has set."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return run
