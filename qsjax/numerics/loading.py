"""JAX is loaded by what needs it: the command answers most questions by NumPy, twice as fast.

Only `qsjax.numerics.jax` imports JAX. Records become its pytrees, and what surrounds the running
question takes effect, when that module is imported. A program that imports qsjax has JAX at once;
the command asks to wait.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Action = Callable[[], Any]


class _State(threading.local):
    """What waits in this thread: contexts around what runs."""

    def __init__(self) -> None:
        self.waiting: list[tuple[ExitStack, Callable[[], AbstractContextManager[Any]]]] = []


_state = _State()
_later: list[Action] = []
_is_loaded = False
_may_wait = False


def wait() -> None:
    """From now on JAX is loaded by what needs it."""
    global _may_wait
    _may_wait = True


def when_loaded(action: Action) -> None:
    """Run `action` with JAX: now, or when it is loaded."""
    if not _may_wait:
        import qsjax.numerics.jax  # noqa: F401  # which runs what waits
    if _is_loaded:
        action()
    else:
        _later.append(action)


def loaded() -> None:
    """JAX is there: run what waited for it."""
    global _is_loaded
    _is_loaded = True
    while _later:
        _later.pop(0)()
    for stack, make in _state.waiting:
        stack.enter_context(make())
    _state.waiting.clear()


@contextmanager
def within(make: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """A context that means something to JAX alone: around what runs of it in this thread."""
    with ExitStack() as stack:
        if _is_loaded:
            stack.enter_context(make())
        else:
            _state.waiting.append((stack, make))
        try:
            yield
        finally:
            _state.waiting[:] = [(s, m) for s, m in _state.waiting if s is not stack]


def _wide() -> AbstractContextManager[Any]:
    from qsjax.numerics.jax import jax

    return jax.enable_x64(True)


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """`function` run with 64-bit numbers, in this thread, whatever the process has set.

    Byte counts reach 1e15, and floor() of a batch must not flip; the switch that JAX has for all
    of a process belongs to the user.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with within(_wide):
            return function(*args, **kwargs)

    return run


def is_tracer(x: Any) -> bool:
    """Whether `x` stands for a number that a transformation of JAX will give."""
    return _is_loaded and isinstance(x, sys.modules["jax"].core.Tracer)


def jitted(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    """`jax.jit` of a function, made when it is first called."""

    @lru_cache(maxsize=1)
    def compiled() -> Callable[..., Any]:
        from qsjax.numerics.jax import jax

        return jax.jit(function, **options)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled()(*args, **kwargs)

    return call
