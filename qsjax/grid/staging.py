"""Evaluate terms of few axes first and keep them, then the full-rank rest.

XLA fuses every cheap expression into the last one and so computes again, for each cell, what only
its row or column decides; an optimization barrier does not stop it on the CPU. A loop does: what it
reads is in memory. So the low-rank stage runs before a loop over tiles of the designs, whose body
has only the arithmetic that every cell needs, and reduces it at once: nothing of the size of the
grid is ever written.

The longest kept axis lies along the vectors; equal sections of it are the lanes. A block is a
matrix of designs and lanes for each row: a place on the other kept axes, and a section. Its
smallest unit is a part, some designs of one row; tiles have several parts of every row.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from qsjax.numerics import trees
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.jaxpr import played
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import Slots
from qsjax.numerics.tape import REAL, Step, Tape, record

# Cells of a tile: long enough that a turn of the loop costs little beside its work.
TILE_CELLS = 2**17
# XLA reduces more than 32 numbers in vectors, by windows of 32, of which it runs the last one whole
# too; so a part has up to two windows of designs, and the fuller the better.
_WINDOW = 32
# Lanes of a part at most: what is scored again for one cell is scored for all of its lanes.
LANES = 128
# Numbers of a vector.
_VECTOR = 8


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


def part_of(designs: int) -> int:
    """Designs of a part, a divisor: the most in two windows, else the fewest in more, else all."""
    within = range(2 * _WINDOW, _WINDOW, -1)
    above = range(2 * _WINDOW + 1, min(designs, TILE_CELLS) + 1)
    return next((n for n in chain(within, above) if designs % n == 0), designs)


def tiles_of(designs: int, kept: int = 1) -> int:
    """Tiles into which the designs are cut: equal ones, at least two; 1 if that cannot be.

    Args:
        designs: how many there are.
        kept: cells of each design.
    """
    part = part_of(designs)
    parts = designs // part
    most = min(max(1, TILE_CELLS // (part * kept)), parts // 2)
    return next((parts // n for n in range(most, 0, -1) if parts % n == 0), 1)


def vector_axis(kept: tuple[int, ...]) -> int:
    """The longest kept axis: the one along the vectors."""
    return max(range(len(kept)), key=lambda k: (kept[k], k), default=0)


def lanes_of(length: int) -> int:
    """Length of the equal sections of an axis: the longest that fills vectors, or the whole."""
    sections = (n for n in range(min(length, LANES), LANES // 4 - 1, -1) if length % n == 0)
    # What a vector leaves over runs one by one.
    return next((n for n in sections if n // _VECTOR + n % _VECTOR <= 1.15 * n / _VECTOR), length)


def cut_of(shape: tuple[int, ...]) -> Cut:
    """How a block of kept axes, then designs, is cut."""
    *kept, designs = shape
    rows = list(kept)
    length = rows.pop(vector_axis(tuple(kept))) if kept else 1
    lanes = lanes_of(length)
    tiles, width = tiles_of(designs, math.prod(kept)), part_of(designs)
    return Cut((*rows, length // lanes), tiles, designs // (tiles * width), width, lanes)


def restore(result: Array, kept: tuple[int, ...]) -> Array:
    """A result over rows and lanes, its last axes, brought into the order of the kept axes."""
    whole = result.reshape(*result.shape[:-2], -1)
    return jnp.moveaxis(whole, -1, vector_axis(kept) - len(kept)) if kept else whole[..., 0]


def _split(leaf: Any, kept: tuple[int, ...], cut: Cut) -> Array:
    """A leaf as the outer axes, then (designs, lanes), of length 1 where it does not vary."""
    x = jnp.asarray(leaf)
    if x.ndim != len(kept) + 1:
        return x
    x = jnp.moveaxis(x, vector_axis(kept), -1) if kept else x[:, None]
    *rows, designs, length = x.shape
    split = (cut.tiles, cut.parts, cut.width) if designs > 1 else (1, 1, 1)
    lanes = (cut.rows[-1], cut.lanes) if length > 1 else (1, 1)
    x = x.reshape(*rows, *split, *lanes)
    # To tiles, rows, sections, parts, designs, lanes.
    return jnp.moveaxis(x, (-5, -2), (0, len(rows) + 1))


def _recorded(
    function: Callable[..., Any], arguments: Any, shaped: Callable[[Any], Array]
) -> tuple[Tape, Slots]:
    """The tape of a law, and its slots with the leaves of the arguments, each `shaped`."""
    leaves, tree = trees.flatten(arguments)
    slots: Slots = dict(enumerate(map(shaped, leaves)))
    (real,) = {x.dtype for x in slots.values() if x.dtype.kind == REAL}
    tape = record(function, tree, [x.dtype.kind for x in slots.values()], real=real)
    return tape, slots | tape.constants


def _result(tape: Tape, steps: Sequence[Step], slots: Slots) -> Any:
    found = played(steps, slots)
    return trees.unflatten(tape.tree, [found[at] for at in tape.results])


def evaluate(function: Callable[..., Any], arguments: Any) -> Any:
    """A law, elementwise, on arguments whose leaves broadcast: traced from its tape."""
    tape, slots = _recorded(function, arguments, jnp.asarray)
    return _result(tape, tape.steps, slots)


class Staged:
    """A law on a block, its low-rank stage evaluated.

    Args:
        function: elementwise, as if of scalars; each result has the axes that it depends on.
        arguments: a tuple of pytrees; leaves have the kept axes first and the designs last, or are
            scalars.
        kept: lengths of the kept axes.
        cut: how the block is cut.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Any, kept: tuple[int, ...], cut: Cut
    ) -> None:
        self._cut = cut
        self._tape, slots = _recorded(function, arguments, lambda x: _split(x, kept, cut))
        low, self._high = self._stages({at: np.shape(x) for at, x in slots.items()})
        slots = played(low, slots)
        read = {at for step in self._high for at in step.reads} | set(self._tape.results)
        self._kept = {at: x for at, x in slots.items() if at in read}

    def _stages(self, shapes: dict[int, tuple[int, ...]]) -> tuple[list[Step], list[Step]]:
        """The steps of fewer cells than a part has, and the others."""
        full = (self._cut.width, self._cut.lanes)
        low: list[Step] = []
        high: list[Step] = []
        made: set[int] = set()
        for step in self._tape.steps:
            shape = np.broadcast_shapes(*(shapes[at] for at in step.reads))
            shapes[step.writes] = shape
            if (full[1] > 1 and shape[-2:] == full) or made.intersection(step.reads):
                high.append(step)
                made.add(step.writes)
            else:
                low.append(step)
        return low, high

    def map(self, finish: Callable[[Any], Any]) -> Any:
        """`finish` of the results of every tile, with the tiles ahead.

        Args:
            finish: of results with the outer axes but the tiles ahead, of length 1 or none where
                they do not vary.
        """
        outer = {at: x for at, x in self._kept.items() if np.ndim(x)}
        moving = {at: x for at, x in outer.items() if x.shape[0] > 1}
        fixed = self._kept | {at: x[0] for at, x in outer.items() if at not in moving}

        def one_tile(own: Slots) -> Any:
            return finish(_result(self._tape, self._high, fixed | own))

        if self._cut.tiles == 1:
            return trees.map(lambda x: x[None], one_tile({}))
        # A GPU wants every cell at once, and keeps what a barrier closes.
        return jax.lax.platform_dependent(
            moving,
            cpu=lambda moving: jax.lax.map(one_tile, moving),
            default=lambda moving: jax.vmap(one_tile)(jax.lax.optimization_barrier(moving)),
        )

    def at(self, part: Array, row: Array) -> Any:
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
        flat: dict[tuple[bool, ...], Any] = {}

        def pick(x: Any) -> Any:
            *outer, designs, lanes = x.shape
            has = tuple(length > 1 for length in outer)
            if has not in flat:
                index = jnp.int32(0)
                for own, length, place in zip(has, self._cut.outer, at, strict=True):
                    index = index * length + place if own else index
                flat[has] = index
            apart = x.reshape(-1, designs, lanes)
            return jax.lax.dynamic_index_in_dim(apart, flat[has], keepdims=False)

        return _result(
            self._tape, self._high, {s: pick(x) if np.ndim(x) else x for s, x in self._kept.items()}
        )
