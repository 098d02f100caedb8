"""Cut a grid of any size into blocks of one shape; every kept cell is whole in one block."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qsjax.grid.axes import STACKED, Axes, Axis, matrix_arrays, place
from qsjax.grid.cells import illegality
from qsjax.grid.staging import LANES
from qsjax.records.specs import Convention, Records

# A block has so many cells that its fixed cost disappears: these, of which the memory allows two
# devices half, give 12 % more cells/s than 2**23 (`python -m benchmarks.run --quick`). A call
# strings small blocks together (a program of one block is the smaller one); a chunk is what a
# killed run loses at most.
BLOCK_CELLS = 2**25
# Share of the work that larger blocks may waste: the host's overhead of a call is about that.
WASTE = 0.02
# Kept cells of a block at least: they share what only the design decides.
BLOCK_ROWS = 256
# Designs come in multiples of this, so that tiles of any usual size divide them.
MULTIPLE = 64
CALL_CELLS = 2**21
# Up to this many calls take less time than compiling a loop over blocks, half a second.
FEW_CALLS = 500
CHUNK_CELLS = 2**27
# Numbers held per listed design beside its coordinates: the rules it may break.
LISTING = 8
# Where every score of a block is wanted: three numbers and a temporary; coefficients of a design.
BYTES_PER_CELL, COEFFICIENTS = 32, 80
# Axes that change little of a design's cost come last: what does not depend on them is computed
# once for all of their values.
LIGHT = ("gpus", "context", "batch")


class Few(NamedTuple):
    """The designs that bounds leave, with the counts of all designs of the grid.

    Attributes:
        at: places in the plan's list, ascending: every design that wins or ties somewhere.
        feasible: designs that can run, over the kept axes, of length 1 where that does not vary.
        reasons: designs with each reason, along a first axis, likewise.
    """

    at: np.ndarray
    feasible: np.ndarray
    reasons: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A grid in blocks.

    A block has one coordinate on each kept axis before `split`, up to `step` on that axis, all on
    the axes after it, and every design. The last block of a row is padded by its last coordinate.

    Attributes:
        axes: the grid, kept axes in the order of execution.
        designs: flat positions over the searched axes that are evaluated, ascending.
        split: index of the kept axis that is cut; its number of axes if there are none.
        step: coordinates of that axis in a block.
        per_call: blocks of one call, over all devices.
        per_chunk: blocks of one chunk, the unit of progress that is recorded.
        pruned: bounds decide who wins (`streaming.pruning`), and no block is evaluated whole.
        few: the designs that blocks are evaluated for, where bounds have left some of all.
    """

    axes: Axes
    designs: np.ndarray
    split: int
    step: int
    per_call: int
    per_chunk: int
    pruned: bool = False
    few: Few | None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """Lengths of the kept axes."""
        return tuple(len(axis.values) for axis in self.axes.kept)

    @property
    def inner(self) -> tuple[int, ...]:
        """Shape of the kept cells of a block."""
        return (self.step, *self.kept[self.split + 1 :])

    @property
    def row_blocks(self) -> int:
        """Blocks along the split axis."""
        return math.ceil(self.kept[self.split] / self.step) if self.kept else 1

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return math.prod(self.kept[: self.split]) * self.row_blocks

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return math.ceil(self.blocks / self.per_chunk)

    @property
    def stacked(self) -> int:
        """Number of the kept axes along which whole records change: the first ones."""
        return sum(axis.name in STACKED for axis in self.axes.kept)

    def ranges(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First kept cell of each block (flat, order of execution), and how many are real."""
        inner = math.prod(self.inner[1:])
        row, part = np.divmod(blocks, self.row_blocks)
        length = self.kept[self.split] if self.kept else 1
        count = np.minimum(self.step, length - part * self.step)
        return (row * length + part * self.step) * inner, count * inner


def in_order(axes: Axes) -> Axes:
    """The same grid with the kept axes in the order of execution."""
    places = dict.fromkeys(STACKED, -1) | {name: 1 + k for k, name in enumerate(LIGHT)}
    kept = sorted(axes.kept, key=lambda axis: places.get(axis.name, 0))
    return Axes(kept=tuple(kept), searched=axes.searched)


def legal_designs(records: Records, axes: Axes, convention: Convention) -> np.ndarray:
    """Flat positions of the designs that some kept cell allows, memory apart, and few others."""
    placed = place(records, matrix_arrays(axes), convention)
    length = math.prod(len(axis.values) for axis in axes.searched)
    allowed = np.atleast_1d(illegality(placed, convention) == 0)
    is_legal = np.broadcast_to(allowed.any(axis=tuple(range(allowed.ndim - 1))), length)
    legal = np.flatnonzero(is_legal)
    # Filled up with others to a number that is cut into equal tiles; the mask holds for them too.
    # Where nothing is legal they are a block of such others: its counts say so.
    missing = -max(1, len(legal)) % min(MULTIPLE, length) + (len(legal) == 0)
    return np.sort(np.append(legal, np.flatnonzero(~is_legal)[:missing]))


def _step(length: int, longest: int, rows: int, devices: int) -> int:
    """Coordinates of a block: as many as waste little on padding and on idle devices."""

    def waste(step: int) -> float:
        blocks = rows * math.ceil(length / step)
        return math.ceil(blocks / devices) * devices * step / (rows * length)

    steps = range(longest, max(1, longest // 4) - 1, -1)
    least = min(map(waste, steps))
    good = [step for step in steps if waste(step) <= least + WASTE]
    return next((step for step in good if step % LANES == 0), good[0])


def _check_listing(length: int, axes: int, memory: float) -> None:
    needed = 8.0 * length * (axes + LISTING)
    if needed > memory:
        raise ValueError(
            f"memory: the searched axes have {length:,} designs, whose list needs "
            f"{needed / 2**30:.2g} GiB, more than the {memory / 2**30:.2g} GiB allowed; raise the "
            "limit, or shorten a searched axis"
        )


def make_plan(
    records: Records,
    axes: Axes,
    convention: Convention,
    *,
    skip_illegal: bool = True,
    devices: int = 1,
    memory: float = 2.0**30,
    chunk_cells: int | None = None,
) -> Plan:
    """Blocks that fit into `memory` bytes on `devices` devices together.

    Args:
        records: the inputs.
        axes: the grid.
        convention: accounting.
        skip_illegal: leave out designs that no kept cell allows, whatever its memory.
        devices: devices of this process.
        memory: bytes that the blocks in flight may take.
        chunk_cells: designs of a chunk, about; by default some seconds of work.

    Raises:
        ValueError: the list of the designs, or one kept cell alone, needs more.
    """
    axes = in_order(axes)
    length = math.prod(len(axis.values) for axis in axes.searched)
    _check_listing(length, len(axes.searched), memory)
    designs = legal_designs(records, axes, convention) if skip_illegal else np.arange(length)
    kept = [len(axis.values) for axis in axes.kept]
    budget = memory / devices / (8.0 * len(designs))
    room = int((budget - COEFFICIENTS) * 8 / BYTES_PER_CELL)
    if room < 1:
        needed = devices * len(designs) * (8.0 * COEFFICIENTS + BYTES_PER_CELL)
        raise ValueError(
            f"memory: one kept cell has {len(designs):,} designs and needs {needed / 2**30:.2g} "
            f"GiB on {devices} devices, more than the {memory / 2**30:.2g} GiB allowed; raise the "
            "limit, or shorten a searched axis"
        )
    chunk = chunk_cells or CHUNK_CELLS
    cells = min(room, max(BLOCK_ROWS, BLOCK_CELLS // len(designs)))
    cells = max(1, min(cells, chunk // len(designs)))
    split = len(kept) - 1
    # Models and accelerators stay apart: they share little, and more axes take longer to compile.
    first = sum(axis.name in STACKED for axis in axes.kept)
    while split > first and math.prod(kept[split:]) <= cells:
        split -= 1
    step = 1
    if kept:
        longest = max(1, cells // math.prod(kept[split + 1 :]))
        step = _step(kept[split], min(longest, kept[split]), math.prod(kept[:split]), devices)
    plan = Plan(axes, designs, max(split, 0), step, 1, 1)
    block = math.prod(plan.inner) * len(designs)
    shares = -(-plan.blocks // devices)
    per_device = min(CALL_CELLS // block, chunk // (block * devices), shares)
    per_device = max(1, per_device) if shares > FEW_CALLS else 1
    per_call = devices * per_device
    calls = max(1, min(chunk // (block * per_call), math.ceil(plan.blocks / per_call)))
    return dataclasses.replace(plan, per_call=per_call, per_chunk=per_call * calls)


def chunk_range(plan: Plan, chunk: int) -> tuple[int, int]:
    """Kept cells of a chunk (flat, order of execution): first, and one past the last."""
    ends = np.array([chunk * plan.per_chunk, min((chunk + 1) * plan.per_chunk, plan.blocks) - 1])
    starts, counts = plan.ranges(ends)
    return int(starts[0]), int(starts[1] + counts[1])


def counts_of(plan: Plan, counts: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Numbers over the kept axes, as for `Few`, for the cells of blocks: (..., blocks, cells)."""
    start, _ = plan.ranges(blocks)
    cells = start[:, None] + np.arange(math.prod(plan.inner))
    places = np.unravel_index(np.minimum(cells, math.prod(plan.kept) - 1), plan.kept)
    lengths = counts.shape[counts.ndim - len(plan.kept) :]
    own = tuple(np.minimum(x, n - 1) for x, n in zip(places, lengths, strict=True))
    return counts[(..., *own)]


def coordinates(axes: Sequence[Axis], positions: np.ndarray) -> dict[str, np.ndarray]:
    """Values of each axis at flat positions over all of them."""
    at = np.unravel_index(positions, [len(axis.values) for axis in axes]) if axes else ()
    return {axis.name: axis.values[i] for axis, i in zip(axes, at, strict=True)}


def design_arrays(plan: Plan) -> dict[str, np.ndarray]:
    """Coordinates of the designs along the last axis of a block."""
    ahead, found = (1,) * (len(plan.inner) + 1), coordinates(plan.axes.searched, plan.designs)
    return {name: x.reshape(*ahead, -1) for name, x in found.items()}


def kept_arrays(plan: Plan, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """Coordinates of the kept axes for some blocks, which come along the first axis."""
    arrays = {}
    rank = len(plan.inner) + 2
    row, part = np.divmod(blocks, plan.row_blocks)
    outer = np.unravel_index(row, plan.kept[: plan.split]) if plan.split else ()
    for k, axis in enumerate(plan.axes.kept):
        shape = [1] * rank
        if k < plan.split:
            values = axis.values[outer[k]]
            shape[0] = -1
        elif k == plan.split:
            at = part[:, None] * plan.step + np.arange(plan.step)
            values = axis.values[np.minimum(at, len(axis.values) - 1)]
            shape[0], shape[1] = len(blocks), plan.step
        else:
            values = axis.values
            shape[k - plan.split + 1] = -1
        arrays[axis.name] = values.reshape(shape)
    return arrays


def winner_coordinates(
    plan: Plan, cells: np.ndarray, positions: np.ndarray
) -> dict[str, np.ndarray]:
    """Coordinates of designs given by kept cell and by position in `plan.designs`, flat."""
    chosen = coordinates(plan.axes.kept, cells)
    return chosen | coordinates(plan.axes.searched, plan.designs[positions])
