"""A function of a matrix of designs in two stages: what few axes decide first, once, and kept.

XLA fuses every cheap expression into the last one and so computes again, for each cell, what only
its row or column decides; an optimization barrier does not stop it on the CPU. A loop does: what it
reads is in memory. So the low-rank stage runs before a loop over tiles of the designs, whose body
has only the arithmetic that every cell needs, and reduces it at once: nothing of the size of the
grid is ever written.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

# Cells of a tile: long enough that a turn of the loop costs little beside its work.
TILE_CELLS = 2**17
# Designs of a tile at least: the reduction over them is unrolled in vectors.
_LEAST = 32
# The axis of the designs; the kept axis after it lies along the vectors.
DESIGNS = -2


def tiles_of(designs: int, kept: int = 1) -> int:
    """Tiles into which the designs are cut: equal ones, at least two; 1 if that cannot be.

    Args:
        designs: how many there are.
        kept: cells of each design.
    """
    widest = max(2 * _LEAST, TILE_CELLS // kept)
    counts = range(2, designs // _LEAST + 1)
    return next((n for n in counts if designs % n == 0 and designs // n <= widest), 1)


def parts_of(width: int) -> int:
    """Equal parts of a tile, each of `_LEAST` designs or a little more; 1 if that cannot be."""
    counts = range(width // _LEAST, 1, -1)
    return next((n for n in counts if width % n == 0), 1)


def _stages(closed: ClosedJaxpr, full: tuple[int, ...]) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """The equations that lack one of the last axes `full`, and the others with what they read."""
    jaxpr = closed.jaxpr
    live = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    needed = []
    for eqn in reversed(jaxpr.eqns):
        if live.intersection(eqn.outvars):
            needed.append(eqn)
            live |= {v for v in eqn.invars if not isinstance(v, Literal)}
    low, high, made = [], [], set()
    for eqn in reversed(needed):
        is_full = any(v.aval.shape[-len(full) :] == full for v in eqn.outvars)
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


def has_designs(leaf: jax.Array, shape: tuple[int, ...]) -> bool:
    """Whether a leaf of a block of this shape has the axis of the designs."""
    return leaf.ndim == len(shape) and leaf.shape[DESIGNS] == shape[DESIGNS] > 1


def map_tiles(
    function: Callable[..., Any], arguments: Any, shape: tuple[int, ...], tiles: int, parts: int
) -> Any:
    """`function(*arguments)` tile by tile of the axis `DESIGNS`.

    Args:
        function: of a tile, whose axes are those of `shape` with the parts ahead of the designs;
            its results are arrays.
        arguments: a tuple of pytrees; leaves of the rank of `shape` are cut, others are scalars.
        shape: of the whole.
        tiles: how many; divides the designs.
        parts: of a tile; divides its designs.

    Returns:
        The results with a new first axis of tiles.
    """
    leaves, tree = jax.tree.flatten(arguments)
    leaves = [jnp.asarray(x) for x in leaves]
    width = shape[DESIGNS] // (tiles * parts)
    is_cut = [has_designs(x, shape) for x in leaves]

    def cut(x: jax.Array) -> jax.Array:
        apart = x.reshape(*x.shape[:DESIGNS], tiles, parts, width, x.shape[-1])
        return jnp.moveaxis(apart, DESIGNS - 2, 0)

    def ranked(x: jax.Array) -> jax.Array:
        return jnp.expand_dims(x, DESIGNS - 1) if x.ndim == len(shape) else x

    moving = [cut(x) if c else ranked(x) for x, c in zip(leaves, is_cut, strict=True)]
    one_tile = [x[0] if c else x for x, c in zip(moving, is_cut, strict=True)]

    def flat(*values: jax.Array) -> Any:
        return function(*jax.tree.unflatten(tree, values))

    if tiles == 1:
        return jax.tree.map(lambda x: x[None], flat(*one_tile))
    closed, result = jax.make_jaxpr(flat, return_shape=True)(*one_tile)
    first, second = _stages(closed, (parts, width, shape[-1]))
    in_axes = [0 if c else None for c in is_cut]
    kept = jax.vmap(jaxpr_as_fun(first), in_axes=in_axes)(*moving)
    body = jaxpr_as_fun(second)
    # A GPU wants every cell at once, and keeps what a barrier closes.
    found = jax.lax.platform_dependent(
        kept,
        cpu=lambda given: jax.lax.map(lambda values: body(*values), given),
        default=lambda given: jax.vmap(body)(*jax.lax.optimization_barrier(given)),
    )
    return jax.tree.unflatten(jax.tree.structure(result), found)


def slice_tile(arguments: Any, shape: tuple[int, ...], tiles: int, tile: Any, row: Any) -> Any:
    """`arguments` of one tile of the designs and one place on the axes before them.

    Args:
        arguments: as for `map_tiles`.
        shape: of the whole.
        tiles: how many.
        tile: which tile.
        row: flat index over the axes before `DESIGNS`.

    Returns:
        The pytree whose leaves broadcast to (1, ..., 1, designs of the tile, last axis).
    """
    width = shape[DESIGNS] // tiles
    lead = shape[:DESIGNS]
    at: list[Any] = []
    for size in reversed(lead):
        row, index = row // size, row % size
        at.insert(0, index)

    def cut(leaf: Any) -> jax.Array:
        x = jnp.asarray(leaf)
        if x.ndim != len(shape):
            return x
        for axis, index in enumerate(at):
            if x.shape[axis] > 1:
                x = jax.lax.dynamic_slice_in_dim(x, index, 1, axis)
        if has_designs(jnp.asarray(leaf), shape):
            x = jax.lax.dynamic_slice_in_dim(x, tile * width, width, len(lead))
        return x

    return jax.tree.map(cut, arguments)


def vector_axis(kept: tuple[int, ...]) -> int:
    """The longest kept axis: the one along the vectors."""
    return max(range(len(kept)), key=lambda k: (kept[k], k), default=0)


def arrange(arguments: Any, kept: tuple[int, ...]) -> Any:
    """Leaves with the kept axes first and the designs last, brought into the order of a tile.

    The longest kept axis moves behind the designs; a grid without kept axes gets one of length 1.
    """
    rank = len(kept) + 1

    def move(leaf: Any) -> jax.Array:
        x = jnp.asarray(leaf)
        if x.ndim != rank:
            return x
        return jnp.moveaxis(x, vector_axis(kept), -1) if kept else x[:, None]

    return jax.tree.map(move, arguments)


def arranged_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of `arrange`d arrays, from kept axes and designs."""
    *kept, designs = shape
    if not kept:
        return (designs, 1)
    along = kept.pop(vector_axis(tuple(kept)))
    return (*kept, designs, along)


def restore(result: jax.Array, kept: tuple[int, ...]) -> jax.Array:
    """A result over the kept axes of `arrange`d arrays, with its last axis back in its place."""
    return jnp.moveaxis(result, -1, vector_axis(kept) - len(kept)) if kept else result[..., 0]
