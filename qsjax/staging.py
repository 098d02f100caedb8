"""A function of a matrix of designs in two stages: what few axes decide first, once, and kept.

XLA fuses every cheap expression into the last one and so computes again, for each design, what only
its row or column decides; an optimization barrier does not stop it on the CPU. A loop does: what it
reads is in memory. So the low-rank stage runs before a loop over tiles of the designs, whose body
has only the arithmetic that every design needs, on coefficients that stay in the cache.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

# Designs of a tile: their coefficients fill the second-level cache of a core, not more.
TILE = 2560
_LEAST = 32


def tiles_of(designs: int) -> int:
    """Tiles into which a row of designs is cut: equal ones, at least two; 1 if that cannot be."""
    most = designs // _LEAST
    fitting = (n for n in range(2, most + 1) if designs % n == 0 and designs // n <= TILE)
    return next(fitting, 1)


def _stages(closed: ClosedJaxpr, full: int) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """The equations below the full size, and the others with what they read as arguments."""
    jaxpr = closed.jaxpr
    live = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    needed = []
    for eqn in reversed(jaxpr.eqns):
        if live.intersection(eqn.outvars):
            needed.append(eqn)
            live |= {v for v in eqn.invars if not isinstance(v, Literal)}
    low, high, made = [], [], set()
    for eqn in reversed(needed):
        is_full = any(math.prod(v.aval.shape) == full for v in eqn.outvars)
        if is_full or any(v in made for v in eqn.invars if not isinstance(v, Literal)):
            high.append(eqn)
            made.update(eqn.outvars)
        else:
            low.append(eqn)
    read = [v for eqn in high for v in eqn.invars] + list(jaxpr.outvars)
    between = list(dict.fromkeys(v for v in read if not isinstance(v, Literal) and v not in made))
    first = jaxpr.replace(eqns=low, outvars=between)
    second = jaxpr.replace(constvars=[], invars=between, eqns=high)
    return ClosedJaxpr(first, closed.consts), ClosedJaxpr(second, [])


def map_tiles(
    function: Callable[..., Any], arguments: Any, shape: tuple[int, ...], tiles: int
) -> Any:
    """`function(*arguments)` tile by tile of the last axis.

    Args:
        function: elementwise in leaves that broadcast to `shape`; its results are arrays.
        arguments: a tuple of pytrees; leaves whose last axis is that of `shape` are cut.
        shape: of the whole.
        tiles: how many; divides the last axis.

    Returns:
        The results with a new first axis of tiles.
    """
    leaves, tree = jax.tree.flatten(arguments)
    leaves = [jnp.asarray(x) for x in leaves]
    width = shape[-1] // tiles
    is_cut = [x.ndim == len(shape) and x.shape[-1] == shape[-1] for x in leaves]

    def cut(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(*x.shape[:-1], tiles, width), -2, 0)

    moving = [cut(x) if c else x for x, c in zip(leaves, is_cut, strict=True)]
    one_tile = [x[0] if c else x for x, c in zip(moving, is_cut, strict=True)]

    def flat(*values: jax.Array) -> Any:
        return function(*jax.tree.unflatten(tree, values))

    if tiles == 1:
        return jax.tree.map(lambda x: x[None], flat(*one_tile))
    closed, result = jax.make_jaxpr(flat, return_shape=True)(*one_tile)
    first, second = _stages(closed, math.prod(shape[:-1]) * width)
    axes = [0 if c else None for c in is_cut]
    kept = jax.vmap(jaxpr_as_fun(first), in_axes=axes)(*moving)
    found = jax.lax.map(lambda values: jaxpr_as_fun(second)(*values), kept)
    return jax.tree.unflatten(jax.tree.structure(result), found)
