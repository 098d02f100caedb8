"""`xp`, the functions of arrays that laws are written in: those of JAX, or of a tape.

A law has one text. Called with arrays it is a function of JAX, under all of its transformations;
called while it is recorded (`numerics.tape`) it is its list of operations.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NewType, ParamSpec, TypeVar

import numpy as np

from qsjax.numerics.loading import is_tracer, jitted
from qsjax.numerics.tape import Symbol, applied, writer_here

__all__ = ["Array", "ArrayLike", "whole", "xp"]

P = ParamSpec("P")
R = TypeVar("R")


# What symbols do in other words than NumPy; JAX computes a logarithm of another base so too.
_OTHERS: dict[str, Callable[..., Any]] = {
    "asarray": lambda x, dtype=None: x if dtype is None else x.astype(dtype),
    "clip": lambda x, least, most: xp.minimum(xp.maximum(x, least), most),
    "round": lambda x: applied("rint", x),
    "where": lambda *args: applied("where", *args),
    "log2": lambda x: xp.log(x) / np.log(2.0),
    "log10": lambda x: xp.log(x) / np.log(10.0),
    "zeros_like": lambda x: np.zeros(()),
    "ones_like": lambda x: np.ones(()),
}


def _function(name: str) -> Callable[..., Any]:
    def by_jax(*args: Any, **kwargs: Any) -> Any:
        from qsjax.numerics.jax import jnp

        return getattr(jnp, name)(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        if writer_here() is None:
            return by_jax(*args, **kwargs)
        if any(isinstance(x, Symbol) for x in args):
            return _OTHERS.get(name, getattr(np, name))(*args, **kwargs)
        if any(is_tracer(x) for x in args):
            return by_jax(*args, **kwargs)
        return getattr(np, name)(*args, **kwargs)

    return call


class _Namespace:
    """Functions by the names that NumPy and JAX have for them."""

    inf, nan, pi = np.inf, np.nan, np.pi
    float64, float32, int32 = np.float64, np.float32, np.int32

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what others ask of any object
            raise AttributeError(name)
        made = _function(name)
        setattr(self, name, made)
        return made


if TYPE_CHECKING:
    import jax.numpy as xp
    from jax import Array
    from jax.typing import ArrayLike
else:
    xp = _Namespace()
    # What signatures show: the names of types that are JAX's.
    Array, ArrayLike = NewType("Array", object), NewType("ArrayLike", object)
    Array.__module__, ArrayLike.__module__ = "jax", "jax.typing"


def whole(function: Callable[P, R]) -> Callable[P, R]:
    """`function` compiled by itself in JAX, and one operation in tapes that want it so."""
    name = function.__name__
    compiled = jitted(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        writer = writer_here()
        if writer is None:
            return compiled(*args, **kwargs)
        if name in writer.whole:
            return applied(name, *args)  # type: ignore[return-value]  # a symbol stands for it
        return function(*args, **kwargs)

    return call
