"""Gradient-safe arithmetic: guarded division and selection, rounding with a stated derivative."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from qsjax.numerics.namespace import Array, ArrayLike, whole, xp
from qsjax.numerics.tape import Symbol, applied, writer_here

Rounding = Literal["straight_through", "floor", "relaxed"]


def scalar(x: ArrayLike) -> float:
    """The one number of `x` as a Python float, for host-side code."""
    return float(np.asarray(x))


def safe_divide(numerator: ArrayLike, denominator: ArrayLike, default: ArrayLike = 0.0) -> Array:
    """`numerator / denominator`, and `default` with zero gradient where the denominator is 0."""
    is_zero = xp.equal(denominator, 0)
    return xp.where(is_zero, default, numerator / xp.where(is_zero, 1.0, denominator))


def safe_log(x: ArrayLike) -> Array:
    """log x, and 0 with zero gradient where x <= 0."""
    is_positive = xp.greater(x, 0)
    return xp.where(is_positive, xp.log(xp.where(is_positive, x, 1.0)), 0.0)


def safe_sqrt(x: ArrayLike) -> Array:
    """sqrt x, and 0 with zero gradient where x <= 0."""
    is_positive = xp.greater(x, 0)
    return xp.where(is_positive, xp.sqrt(xp.where(is_positive, x, 1.0)), 0.0)


@whole
def blend(first: Array, second: Array, share: ArrayLike) -> Array:
    """Time of two resources that overlap in part [s]: their maximum at share 0, their sum at 1.

    The larger root of (t - a)(t - b) = share * a * b: a smooth curve with one square root, whose
    value at a = b is that of the p-norm if share = (2^(1/p) - 1)^2; elsewhere within 2.3 % of it.
    At share 0 the maximum to the last bit, which the root's formula misses by its rounding.

    >>> float(blend(xp.asarray(3.0), xp.asarray(5.0), 0.0))
    5.0
    >>> float(blend(xp.asarray(3.0), xp.asarray(5.0), 1.0))
    8.0
    """
    apart = first - second
    overlap = 4.0 * share * (first * second)
    is_smooth = overlap > 0
    root = xp.sqrt(xp.where(is_smooth, apart * apart + overlap, 1.0))
    smooth = 0.5 * ((first + second) + root)
    return xp.where(is_smooth, smooth, xp.maximum(first, second))


def at_least(x: ArrayLike, bound: float) -> Array:
    """max(x, bound) whose derivative at equality is that of x (xp.maximum halves it)."""
    return xp.where(xp.greater_equal(x, bound), x, bound)


@lru_cache(maxsize=1)
def _straight_through() -> Callable[[Any], Any]:
    from qsjax.numerics.jax import jax

    @jax.custom_jvp
    def floored(x: Array) -> Array:
        return xp.floor(x)

    @floored.defjvp
    def tangent(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
        # Not xp.floor: its own derivative is 0, which would falsify second derivatives.
        return floored(primals[0]), tangents[0]

    return floored


def whole_number(x: Array) -> Array:
    """Floor whose derivative is 1; one operation of tapes that JAX differentiates."""
    writer = writer_here()
    if writer is None:
        return _straight_through()(x)
    is_one = isinstance(x, Symbol) and "whole_number" in writer.whole
    return applied("whole_number", x) if is_one else xp.floor(x)  # type: ignore[return-value]


def floor(x: ArrayLike, rounding: Rounding = "straight_through") -> Array:
    """Largest integer not above x.

    Args:
        x: any array.
        rounding: `floor` has derivative 0, `straight_through` the same value with derivative 1,
            `relaxed` does not round at all.
    """
    x = xp.asarray(x)
    if rounding == "relaxed":
        return x
    return xp.floor(x) if rounding == "floor" else whole_number(x)


def ceil(x: ArrayLike, rounding: Rounding = "straight_through") -> Array:
    """Smallest integer not below x; `rounding` as for `floor`."""
    return -floor(-xp.asarray(x), rounding)
