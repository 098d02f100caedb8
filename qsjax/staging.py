"""A function of a block of designs in two stages: what few axes decide first, once, and kept.

XLA fuses every cheap expression into the last one and so computes again, for each cell, what only
its row or column decides; an optimization barrier does not stop it on the CPU. A loop does: what it
reads is in memory. So the low-rank stage runs before a loop over tiles of the designs, whose body
has only the arithmetic that every cell needs, and reduces it at once: nothing of the size of the
grid is ever written.

The longest kept axis lies along the vectors; equal sections of it are the lanes. A block is a
matrix of designs and lanes for each row: a place on the other kept axes, and a section. Its
smallest unit is a part, some designs of one row. The function is written for a part; tiles have
several parts of every row.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

# Cells of a tile: long enough that a turn of the loop costs little beside its work.
TILE_CELLS = 2**17
# Designs of a part at least: fewer do not fill a processor's vectors and pipelines.
_LEAST = 32
# Lanes of a part at most: what is scored again for one cell is scored for all of its lanes.
_LANES = 128


class Cut(NamedTuple):
    """How a block is cut: `rows` are the kept axes but the longest, and the sections of that."""

    rows: tuple[int, ...]
    tiles: int
    parts: int
    width: int
    lanes: int

    @property
    def outer(self) -> tuple[int, ...]:
        """Axes around a part, from the outermost."""
        return (self.tiles, *self.rows, self.parts)


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


def vector_axis(kept: tuple[int, ...]) -> int:
    """The longest kept axis: the one along the vectors."""
    return max(range(len(kept)), key=lambda k: (kept[k], k), default=0)


def lanes_of(length: int) -> int:
    """Length of the equal sections of an axis; the whole where none is long enough."""
    fitting = (n for n in range(min(length, _LANES), _LEAST - 1, -1) if length % n == 0)
    return next(fitting, length)


def cut_of(shape: tuple[int, ...]) -> Cut:
    """How a block of kept axes, then designs, is cut."""
    *kept, designs = shape
    rows = list(kept)
    length = rows.pop(vector_axis(tuple(kept))) if kept else 1
    lanes = lanes_of(length)
    tiles = tiles_of(designs, math.prod(kept))
    parts = parts_of(designs // tiles)
    return Cut((*rows, length // lanes), tiles, parts, designs // (tiles * parts), lanes)


def restore(result: jax.Array, kept: tuple[int, ...]) -> jax.Array:
    """A result over rows and lanes, its last axes, brought into the order of the kept axes."""
    whole = result.reshape(*result.shape[:-2], -1)
    return jnp.moveaxis(whole, -1, vector_axis(kept) - len(kept)) if kept else whole[..., 0]


def _split(leaf: Any, kept: tuple[int, ...], cut: Cut) -> tuple[jax.Array, tuple[bool, ...]]:
    """A leaf as the outer axes that it has, then (designs, lanes); and which ones it has."""
    x = jnp.asarray(leaf)
    if x.ndim != len(kept) + 1:
        return x, (False,) * len(cut.outer)
    x = jnp.moveaxis(x, vector_axis(kept), -1) if kept else x[:, None]
    *rows, designs, length = x.shape
    split = (cut.tiles, cut.parts, cut.width) if designs > 1 else (1, 1, 1)
    lanes = (cut.rows[-1], cut.lanes) if length > 1 else (1, 1)
    x = x.reshape(*rows, *split, *lanes)
    # To tiles, rows, sections, parts, designs, lanes.
    x = jnp.moveaxis(x, (-5, -2), (0, len(rows) + 1))
    has = tuple(n > 1 for n in x.shape[:-2])
    return x.squeeze([axis for axis, own in enumerate(has) if not own]), has


def _stages(closed: ClosedJaxpr, full: tuple[int, int]) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """The equations of fewer cells than a part has, and the others with what they read."""
    jaxpr = closed.jaxpr
    live = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    needed = []
    for eqn in reversed(jaxpr.eqns):
        if live.intersection(eqn.outvars):
            needed.append(eqn)
            live |= {v for v in eqn.invars if not isinstance(v, Literal)}
    low, high, made = [], [], set()
    for eqn in reversed(needed):
        is_full = full[1] > 1 and any(v.aval.shape == full for v in eqn.outvars)
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


Axes = tuple[bool, ...]


def _reach(closed: ClosedJaxpr, has: Sequence[Axes]) -> list[Axes]:
    """Which outer axes the results depend on, from those that the arguments have."""
    nothing = (False,) * len(has[0])
    known: dict[Any, Axes] = dict(zip(closed.jaxpr.invars, has, strict=True))

    def union(values: Sequence[Any]) -> Axes:
        own = [known.get(v, nothing) for v in values if not isinstance(v, Literal)]
        return tuple(any(axis) for axis in zip(nothing, *own, strict=True))

    for eqn in closed.jaxpr.eqns:
        known.update(dict.fromkeys(eqn.outvars, union(eqn.invars)))
    return [union([v]) for v in closed.jaxpr.outvars]


def _over(function: Callable[..., Any], has: Sequence[Axes], sizes: tuple[int, ...]) -> Any:
    """`function` of a part made one of arrays with outer axes; its results have all of them."""
    used = [axis for axis in range(len(sizes)) if any(own[axis] for own in has)]
    mapped = function
    for axis in reversed(used):
        mapped = jax.vmap(mapped, in_axes=tuple(0 if own[axis] else None for own in has))

    def with_all(x: jax.Array) -> jax.Array:
        x = jnp.expand_dims(x, [axis for axis in range(len(sizes)) if axis not in used])
        return jnp.broadcast_to(x, (*sizes, *x.shape[len(sizes) :]))

    return lambda *values: jax.tree.map(with_all, mapped(*values))


class Staged:
    """A function of a part, its low-rank stage evaluated for a whole block.

    Args:
        function: of a part; its intermediate results broadcast to (designs, lanes), its results
            are arrays.
        arguments: a tuple of pytrees; leaves have the kept axes first and the designs last, or are
            scalars.
        kept: lengths of the kept axes.
        cut: how the block is cut.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Any, kept: tuple[int, ...], cut: Cut
    ) -> None:
        leaves, tree = jax.tree.flatten(arguments)
        arrays, has = zip(*(_split(leaf, kept, cut) for leaf in leaves), strict=True)

        def flat(*values: jax.Array) -> Any:
            return function(*jax.tree.unflatten(tree, values))

        parts = [
            jax.ShapeDtypeStruct(x.shape[sum(own) :], x.dtype)
            for x, own in zip(arrays, has, strict=True)
        ]
        closed, result = jax.make_jaxpr(flat, return_shape=True)(*parts)
        first, second = _stages(closed, (cut.width, cut.lanes))
        low = _over(jaxpr_as_fun(first), has, cut.outer)(*arrays)
        self._cut, self._tree = cut, jax.tree.structure(result)
        self._has = _reach(first, has)
        self._high = jaxpr_as_fun(second)
        self._kept = [
            x[tuple(slice(None) if axis else 0 for axis in own)]
            for x, own in zip(low, self._has, strict=True)
        ]

    def _result(self, values: Sequence[jax.Array]) -> Any:
        return jax.tree.unflatten(self._tree, self._high(*values))

    def map(self, finish: Callable[[Any], Any]) -> Any:
        """`finish` of the results of every part, with the outer axes ahead."""
        rest = self._cut.outer[1:]
        body = _over(lambda *own: finish(self._result(own)), [h[1:] for h in self._has], rest)
        if self._cut.tiles == 1:
            return jax.tree.map(lambda x: x[None], body(*self._kept))

        def one_tile(moving: Sequence[jax.Array]) -> Any:
            own = iter(moving)
            return body(
                *(next(own) if has[0] else x for x, has in zip(self._kept, self._has, strict=True))
            )

        # A GPU wants every cell at once, and keeps what a barrier closes.
        return jax.lax.platform_dependent(
            [x for x, has in zip(self._kept, self._has, strict=True) if has[0]],
            cpu=lambda moving: jax.lax.map(one_tile, moving),
            default=lambda moving: jax.vmap(one_tile)(jax.lax.optimization_barrier(moving)),
        )

    def at(self, part: jax.Array, row: jax.Array) -> Any:
        """Results of one part.

        Args:
            part: its index, of tiles * parts.
            row: flat index over the rows.
        """
        at = [part % self._cut.parts]
        for length in reversed(self._cut.rows):
            row, index = row // length, row % length
            at.insert(0, index)
        at.insert(0, part // self._cut.parts)

        # One flat index for all arrays with the same axes: fewer steps, and fewer to compile.
        flat = {has: jnp.int32(0) for has in self._has}
        for has in flat:
            for own, length, place in zip(has, self._cut.outer, at, strict=True):
                flat[has] = flat[has] * length + place if own else flat[has]

        def pick(x: jax.Array, has: Axes) -> jax.Array:
            if not any(has):
                return x
            apart = x.reshape(-1, *x.shape[sum(has) :])
            picked: jax.Array = jax.lax.dynamic_index_in_dim(apart, flat[has], keepdims=False)
            return picked

        return self._result([pick(x, h) for x, h in zip(self._kept, self._has, strict=True)])
