"""Gradient-safe arithmetic: guarded division and selection, rounding with a stated derivative."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Rounding = Literal["straight_through", "floor", "relaxed"]


def scalar(x: ArrayLike) -> float:
    """The one number of `x` as a Python float, for host-side code."""
    return float(np.asarray(x))


def safe_divide(
    numerator: ArrayLike, denominator: ArrayLike, default: ArrayLike = 0.0
) -> jax.Array:
    """`numerator / denominator`, and `default` with zero gradient where the denominator is 0."""
    is_zero = jnp.equal(denominator, 0)
    return jnp.where(is_zero, default, numerator / jnp.where(is_zero, 1.0, denominator))


def safe_log(x: ArrayLike) -> jax.Array:
    """log x, and 0 with zero gradient where x <= 0."""
    is_positive = jnp.greater(x, 0)
    return jnp.where(is_positive, jnp.log(jnp.where(is_positive, x, 1.0)), 0.0)


def safe_sqrt(x: ArrayLike) -> jax.Array:
    """sqrt x, and 0 with zero gradient where x <= 0."""
    is_positive = jnp.greater(x, 0)
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, x, 1.0)), 0.0)


@jax.jit
def blend(first: jax.Array, second: jax.Array, share: ArrayLike) -> jax.Array:
    """Time of two resources that overlap in part [s]: their maximum at share 0, their sum at 1.

    The larger root of (t - a)(t - b) = share * a * b: a smooth curve with one square root, whose
    value at a = b is that of the p-norm if share = (2^(1/p) - 1)^2; elsewhere within 2.3 % of it.
    At share 0 the maximum to the last bit, which the root's formula misses by its rounding.

    >>> float(blend(jnp.asarray(3.0), jnp.asarray(5.0), 0.0))
    5.0
    >>> float(blend(jnp.asarray(3.0), jnp.asarray(5.0), 1.0))
    8.0
    """
    apart = first - second
    overlap = 4.0 * share * (first * second)
    is_smooth = overlap > 0
    root = jnp.sqrt(jnp.where(is_smooth, apart * apart + overlap, 1.0))
    smooth = 0.5 * ((first + second) + root)
    return jnp.where(is_smooth, smooth, jnp.maximum(first, second))


def at_least(x: ArrayLike, bound: float) -> jax.Array:
    """max(x, bound) whose derivative at equality is that of x (jnp.maximum halves it)."""
    return jnp.where(jnp.greater_equal(x, bound), x, bound)


@jax.custom_jvp
def _floor_straight_through(x: jax.Array) -> jax.Array:
    return jnp.floor(x)


@_floor_straight_through.defjvp
def _floor_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[Any, Any]:
    # Not jnp.floor: its own derivative is 0, which would falsify second derivatives.
    return _floor_straight_through(primals[0]), tangents[0]


def floor(x: ArrayLike, rounding: Rounding = "straight_through") -> jax.Array:
    """Largest integer not above x.

    Args:
        x: any array.
        rounding: `floor` has derivative 0, `straight_through` the same value with derivative 1,
            `relaxed` does not round at all.
    """
    x = jnp.asarray(x)
    if rounding == "relaxed":
        return x
    return _floor_straight_through(x) if rounding == "straight_through" else jnp.floor(x)


def ceil(x: ArrayLike, rounding: Rounding = "straight_through") -> jax.Array:
    """Smallest integer not below x; `rounding` as for `floor`."""
    return -floor(-jnp.asarray(x), rounding)
