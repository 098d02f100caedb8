"""The exact front of tokens/s/GPU against tokens/s/user of a cell, and the design of each point."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.metrics import Economy
from qsjax.grid.batches import clip_to, every, ladder, spacing_of
from qsjax.grid.cells import Cells, Designs, Winners, concatenated, step_on_host, take
from qsjax.grid.evaluation import full
from qsjax.grid.limits import Limits, violations
from qsjax.grid.optimum import candidates_of
from qsjax.grid.pairs import Block, Candidates, allowed_batches, blocks, judge, rectangles, step_at
from qsjax.grid.solution import Row, cell_labels, design_of, design_row, metrics_of

# Points that a front may hold at first; a cell with more is done again with twice as many.
CAPACITY = 2048
# Up to this many designs NumPy finishes before XLA would compile.
SMALL = 2**20


class Points(NamedTuple):
    """Designs as arrays; unused entries have both rates at -inf.

    Attributes:
        user: tokens/s/user, falling.
        gpu: tokens/s/GPU, rising.
        gpus: GPUs of the design.
        row: which candidate.
        batch: sequences per attention replica.
    """

    user: jax.Array
    gpu: jax.Array
    gpus: jax.Array
    row: jax.Array
    batch: jax.Array


def front_of(points: Points, capacity: int) -> tuple[Points, jax.Array]:
    """The points that no other beats in both rates, and their number (it may exceed `capacity`).

    Sorted by the first rate, a point is on the front if its second exceeds all before it. Of equal
    points the one with the fewest GPUs stays, then the lowest row, then the smallest batch.
    """
    keys = (-points.user, -points.gpu, points.gpus, points.row, points.batch)
    user, gpu, gpus, row, batch = jax.lax.sort(keys, num_keys=len(keys))
    before = jnp.concatenate([jnp.full((1,), -jnp.inf), jax.lax.cummax(-gpu)[:-1]])
    is_front = -gpu > before
    (at,) = jnp.nonzero(is_front, size=capacity, fill_value=len(user))
    ordered = Points(-user, -gpu, gpus, row, batch)
    unused = (-jnp.inf, -jnp.inf, jnp.inf, jnp.inf, jnp.inf)
    kept = [
        x.at[at].get(mode="fill", fill_value=value)
        for x, value in zip(ordered, unused, strict=True)
    ]
    return Points(*kept), jnp.sum(is_front)


@jax.jit
def absorb(points: Points, block: Block, limits: Limits) -> tuple[Points, jax.Array]:
    """The front of `points` and a block of designs, and its number of points."""
    (inputs, designs), economy, largest, batches, rows = block
    batch = jnp.minimum(batches, largest)
    step = step_at(block.winners, batch)
    broken = violations(limits, designs.partition, inputs.hardware, step, economy)
    allowed = (batch >= 1.0) & (broken == 0)

    def flat(x: jax.Array) -> jax.Array:
        return jnp.where(allowed, jnp.broadcast_to(x, batch.shape), -jnp.inf).reshape(-1)

    new = Points(
        flat(step.tokens_per_s_per_user),
        flat(step.tokens_per_s_per_gpu),
        jnp.broadcast_to(step.gpus, batch.shape).reshape(-1),
        jnp.broadcast_to(rows[:, None], batch.shape).reshape(-1),
        batch.reshape(-1),
    )
    both = Points(*(jnp.concatenate(pair) for pair in zip(points, new, strict=True)))
    return front_of(both, len(points.user))


@dataclasses.dataclass(frozen=True, slots=True)
class Front:
    """The front of one cell, by falling tokens/s/user.

    Attributes:
        label: model, accelerator and coordinates of the cell.
        winners: inputs and design of every point, with its batch; one a row.
        step: their cost.
        economy: price and power of each.
        decided: designs of the cell: partitions times batches.
        evaluated: of them, those whose step was computed; the others are illegal or do not fit.
        spacing: upper bound of the throughput lost, at the same tokens/s/user, by the batches that
            the ladder leaves out; 0 if all (or all those asked for) were tried.
    """

    label: Row
    winners: Winners
    step: StepCost
    economy: Economy
    decided: int
    evaluated: int
    spacing: float

    @property
    def user(self) -> np.ndarray:
        """Tokens/s/user of every point."""
        return np.asarray(self.step.tokens_per_s_per_user)

    @property
    def gpu(self) -> np.ndarray:
        """Tokens/s/GPU of every point."""
        return np.asarray(self.step.tokens_per_s_per_gpu)

    @property
    def batch(self) -> np.ndarray:
        """Sequences per attention replica of every point."""
        return np.asarray(self.winners.designs.batch)

    def rows(self) -> list[Row]:
        """One row for each point."""
        design = design_of(self.winners.designs.partition, self.step)
        metrics = metrics_of(self.step, self.economy)
        return [self.label | design_row(design, metrics, k) for k in range(len(self.user))]


def _front_on_host(points: Points) -> Points:
    """`front_of` by NumPy."""
    keys = (points.batch, points.row, points.gpus, -points.gpu, -points.user)
    ordered: Points = take(points, np.lexsort(keys))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(ordered.gpu)[:-1]])
    return take(ordered, ordered.gpu > before)


def _points_on_host(
    found: Candidates, largest: np.ndarray, batches: np.ndarray, limits: Limits
) -> tuple[Points, int]:
    """`_points` by NumPy: nothing is compiled."""
    parts, evaluated = [Points(*np.empty((5, 0)))], 0
    for block in rectangles(found, largest, batches):
        batch = np.minimum(block.batches, block.largest)
        own = (block.winners, block.economy, limits, batch)
        *rates, broken = judge(*own, objective="tokens_per_s_per_user")
        tried = (*rates, block.rows[:, None], batch)
        keeps = (batch >= 1.0) & np.broadcast_to(broken == 0, batch.shape)
        parts.append(
            _front_on_host(Points(*(np.broadcast_to(x, batch.shape)[keeps] for x in tried)))
        )
        evaluated += batch.size
    return _front_on_host(concatenated(*parts)), evaluated


def _points(
    found: Candidates, largest: np.ndarray, batches: np.ndarray, limits: Limits
) -> tuple[Points, int]:
    if sum(min(len(batches), top) for top in largest.tolist()) <= SMALL:
        return _points_on_host(found, largest, batches, limits)
    bounds = jax.tree.map(lambda x: np.asarray(x, np.float64), limits)
    capacity = CAPACITY
    while True:
        low, high = jnp.full(capacity, -jnp.inf), jnp.full(capacity, jnp.inf)
        points, evaluated = Points(low, low, high, high, high), 0
        most = jnp.zeros((), int)
        for block in blocks(found, largest, batches):
            rows = np.zeros(len(block.largest))
            rows[: len(block.rows)] = block.rows
            points, count = absorb(points, block._replace(rows=rows), bounds)
            most = jnp.maximum(most, count)
            evaluated += len(block.rows) * block.batches.size
        if int(most) <= capacity:
            return points, evaluated
        capacity = max(2 * capacity, 1 << (int(most) - 1).bit_length())


def front_of_cell(
    cells: Cells, cell: int, asked: np.ndarray | None = None, every_batch: bool = False
) -> Front:
    """The front of a cell over its designs and batches within the limits.

    Args:
        cells: whose batch is searched (`optimum.any_batch`).
        cell: which of them.
        asked: batches to choose from, in rising order; if None the ladder of `batches.ladder`, and
            of each partition its largest batch.
        every_batch: every whole batch up to the largest, instead of the ladder.
    """
    found, _ = candidates_of(cells, *take((cells.inputs, cells.economy), [cell]))
    largest = allowed_batches(found, cells.limits)
    most = float(np.max(largest, initial=1.0))
    if asked is not None:
        batches, largest = asked, clip_to(asked, largest)
    else:
        batches = every(most) if every_batch else ladder(most)
    points, evaluated = _points(found, largest, batches, cells.limits)
    n = int(np.count_nonzero(np.asarray(points.user) > -np.inf))
    at, batch = np.asarray(points.row)[:n].astype(np.int64), np.asarray(points.batch)[:n]
    (inputs, (partition, _)), economy = found.flat(at)
    winners = Winners(inputs, Designs(partition, batch))
    step = full(step_on_host(winners), (n,))
    return Front(
        label=cell_labels(cells)[cell],
        winners=winners,
        step=step,
        economy=economy,
        decided=cells.enumerated * len(batches),
        evaluated=evaluated,
        spacing=0.0 if asked is not None else spacing_of(batches),
    )
