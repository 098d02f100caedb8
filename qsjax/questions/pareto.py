"""The exact front of tokens/s/GPU against tokens/s/user, with the design behind every point."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.metrics import Economy, economy_of
from qsjax.grid.axes import Axes
from qsjax.grid.batches import (
    Block,
    allowed_batches,
    blocks,
    clip_to,
    every,
    ladder,
    spacing_of,
    step_at,
)
from qsjax.grid.limits import Limits, check_limits, violations
from qsjax.grid.screening import (
    Candidates,
    as_float64,
    batches_asked,
    candidates,
    cells,
    designs,
    labels_of,
    without_batch,
)
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention

# Points that a front may hold at first; a cell with more is done again with twice as many.
CAPACITY = 2048


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


@partial(jax.jit, static_argnames="convention")
def absorb(
    points: Points,
    block: Block,
    limits: Limits,
    economy: Economy,
    convention: Convention,
) -> tuple[Points, jax.Array]:
    """The front of `points` and a block of designs, and its number of points."""
    records, largest, batches, rows = block
    batch = jnp.minimum(batches, largest)
    step = step_at(records, batch, convention)
    allowed = (batch >= 1.0) & (
        violations(limits, records.partition, records.hardware, step, economy) == 0
    )

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
    """The front of one kept cell, by falling tokens/s/user.

    Attributes:
        labels: coordinates of the cell by axis.
        user: tokens/s/user, shape (n,).
        gpu: tokens/s/GPU.
        gpus: GPUs of each point.
        batch: sequences per attention replica of each point.
        design: values of the searched axes at each point, by name.
        decided: designs of the cell: partitions times batches.
        evaluated: of them, those whose step was computed; the others are illegal or do not fit.
        spacing: upper bound of the throughput lost, at the same tokens/s/user, by the batches that
            the ladder leaves out; 0 if all (or all those asked for) were tried.
    """

    labels: dict[str, str | float]
    user: np.ndarray
    gpu: np.ndarray
    gpus: np.ndarray
    batch: np.ndarray
    design: dict[str, np.ndarray]
    decided: int
    evaluated: int
    spacing: float


def _empty(capacity: int) -> Points:
    low, high = jnp.full(capacity, -jnp.inf), jnp.full(capacity, jnp.inf)
    return Points(low, low, high, high, high)


def _points(
    found: Candidates,
    largest: np.ndarray,
    batches: np.ndarray,
    limits: Limits,
    economy: Economy,
    convention: Convention,
) -> tuple[Points, int]:
    capacity = CAPACITY
    while True:
        points, evaluated = _empty(capacity), 0
        most = jnp.zeros((), int)
        for block in blocks(found, largest, batches):
            rows = np.zeros(len(block.largest))
            rows[: len(block.rows)] = block.rows
            padded = block._replace(rows=rows)
            points, count = absorb(points, padded, limits, economy, convention)
            most = jnp.maximum(most, count)
            evaluated += len(block.rows) * block.batches.size
        if int(most) <= capacity:
            return points, evaluated
        capacity *= 2


def pareto(
    records: Records,
    axes: Axes,
    convention: Convention,
    *,
    limits: Limits | None = None,
    economy: Economy | None = None,
    every_batch: bool = False,
) -> list[Front]:
    """The front of each kept cell over its searched axes and all batches.

    Partitions that are illegal or hold no sequence are decided once, whatever the batch; all others
    are evaluated at every batch tried, in blocks of one shape, with constant memory. The front over
    what was tried is exact: it equals the front of the whole list.

    Args:
        records: inputs.
        axes: the grid. Batches are those of an axis `batch` or of the workload if there is one,
            else the ladder of `batches.ladder`, and of each partition its largest batch.
        convention: accounting.
        limits: what a design must keep.
        economy: price and power; the accelerator's own if None.
        every_batch: try every whole batch up to the largest, instead of the ladder.
    """
    limits = limits or Limits()
    asked = batches_asked(records, axes)
    axes = without_batch(axes)
    fronts = []
    for cell in cells(axes):
        found = candidates(records, axes, cell, convention)
        own = economy or economy_of(found.records.hardware)
        check_limits(limits, own)
        bounds, prices = as_float64(limits), as_float64(own)
        largest = allowed_batches(found, bounds, prices, convention)
        most = float(np.max(largest, initial=1.0))
        if asked is not None:
            batches, largest = asked, clip_to(asked, largest)
        else:
            batches = every(most) if every_batch else ladder(most)
        points, evaluated = _points(found, largest, batches, bounds, prices, convention)
        user, gpu, gpus, row, batch = (np.asarray(x) for x in points)
        n = int(np.count_nonzero(user > -np.inf))
        fronts.append(
            Front(
                labels=labels_of(axes, cell),
                user=user[:n],
                gpu=gpu[:n],
                gpus=gpus[:n],
                batch=batch[:n],
                design=designs(axes, found.position[row[:n].astype(np.int64)]),
                decided=found.cells * len(batches),
                evaluated=evaluated,
                spacing=0.0 if asked is not None else spacing_of(batches),
            )
        )
    return fronts
