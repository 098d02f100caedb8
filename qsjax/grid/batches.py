"""Batches as an axis: every candidate partition at every batch, in blocks of one shape.

A batch above a partition's largest one is replaced by that one, so the largest batch that fits is
always among those tried, and every cell of a block is a design that runs.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.metrics import METRICS, Economy, Objective, score_of
from qsjax.grid.limits import LIMITS, RISING, Limits, is_given, violations
from qsjax.grid.screening import Candidates, as_float64
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention

OBJECTIVES = tuple(METRICS)
MINIMISED = tuple(name for name, metric in METRICS.items() if metric.less_is_better)

# Shape of a block: partitions times batches. One shape is one compilation.
ROWS, COLUMNS = 128, 128
# The default ladder: every batch up to DENSE, then steps of at most SPACING.
DENSE, SPACING = 64, 0.02


class Block(NamedTuple):
    """A rectangle of designs.

    Attributes:
        records: partition fields of shape (rows, 1), the rest scalars; no batch.
        largest: largest batch of each row, (rows, 1); 0 in rows that only pad.
        batches: (1, columns).
        rows: which candidates the rows are, without the padding.
    """

    records: Records
    largest: np.ndarray
    batches: np.ndarray
    rows: np.ndarray


def every(largest: float) -> np.ndarray:
    """All batches from 1 to `largest`."""
    return np.arange(1.0, max(1.0, np.floor(largest)) + 1.0)


def ladder(largest: float, spacing: float = SPACING, dense: int = DENSE) -> np.ndarray:
    """Every batch up to `dense`, then a geometric ladder of whole batches, up to `largest`.

    Between two steps b1 < b2 TPOT does not fall, so for each batch left out b1 serves its users at
    least as fast, and gives at least b1/b of its throughput: no more than `spacing` is lost, or
    1/b1 where whole batches are further apart than that.

    >>> ladder(20, spacing=0.5, dense=4)
    array([ 1.,  2.,  3.,  4.,  6.,  9., 13., 19., 20.])
    """
    steps = [float(b) for b in range(1, dense + 1)]
    while steps[-1] < largest:
        steps.append(max(steps[-1] + 1.0, np.floor(steps[-1] * (1.0 + spacing))))
    return np.array([*(b for b in steps if b < largest), max(1.0, np.floor(largest))])


def spacing_of(batches: np.ndarray) -> float:
    """Largest relative gap to a batch left out: an upper bound of the throughput lost by it [1].

    >>> spacing_of(np.array([1.0, 2.0, 4.0]))
    0.5
    """
    return float(np.max((np.diff(batches) - 1.0) / batches[:-1], initial=0.0))


def clip_to(batches: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Each largest batch lowered to one of the list; 0 where all of them are above it."""
    at = np.searchsorted(batches, largest, side="right")
    return np.where(at > 0, batches[np.maximum(at - 1, 0)], 0.0)


def rectangles(found: Candidates, largest: np.ndarray, batches: np.ndarray) -> Iterator[Block]:
    """Blocks of ROWS that cover every candidate at every batch up to its own largest one.

    Args:
        found: candidates of a cell.
        largest: largest batch allowed for each of them, at most B_max; 0 excludes it.
        batches: in rising order, up to at least the largest of all.
    """
    order = np.argsort(-largest, kind="stable")
    order = order[largest[order] >= 1]
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        records = jax.tree.map(lambda x, at=rows: x[at] if x.ndim else x, found.records)
        # The rows are sorted, so batches beyond the first row's repeat what was there before.
        last = int(np.searchsorted(batches, largest[rows[0]])) + 1
        yield Block(records, largest[rows][:, None], batches[None, :last], rows)


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def blocks(found: Candidates, largest: np.ndarray, batches: np.ndarray) -> Iterator[Block]:
    """`rectangles` cut and padded to ROWS and COLUMNS, for compiled code: one shape, one program.

    Arguments are those of `rectangles`.
    """
    for block in rectangles(found, largest, batches):
        records = jax.tree.map(lambda x: _padded(x, ROWS) if x.ndim else x, block.records)
        n = len(block.rows)
        top = np.where(np.arange(ROWS)[:, None] < n, _padded(block.largest, ROWS), 0.0)
        for left in range(0, block.batches.size, COLUMNS):
            columns = _padded(block.batches[0, left : left + COLUMNS], COLUMNS)[None, :]
            yield Block(records, top, columns, block.rows)


def step_at(records: Records, batch: jax.Array, convention: Convention) -> StepCost:
    """The step of designs at the given batches."""
    workload = dataclasses.replace(records.workload, batch=jnp.maximum(batch, 1.0))
    return decode_step(
        records.model, records.hardware, records.partition, workload, convention, records.gpus
    )


def scores_of(step: StepCost, economy: Economy) -> dict[Objective, jax.Array]:
    """Every objective, turned so that more is better."""
    return {name: score_of(name, step, economy) for name in METRICS}


class RowBest(NamedTuple):
    """Best batch of each row: its score (-inf if none is allowed), the batch, the GPUs."""

    score: np.ndarray
    batch: np.ndarray
    gpus: np.ndarray


class Judged(NamedTuple):
    """Designs at their batches: every objective turned so that more is better, limits broken."""

    scores: dict[Objective, jax.Array]
    rate: jax.Array
    gpus: jax.Array
    broken: jax.Array


@on_host
def _judge(
    records: Records, batch: jax.Array, limits: Limits, economy: Economy, convention: Convention
) -> Judged:
    step = step_at(records, batch, convention)
    broken = violations(limits, records.partition, records.hardware, step, economy)
    return Judged(scores_of(step, economy), step.tokens_per_s_per_gpu, step.gpus, broken)


def best_batches(
    block: Block,
    limits: Limits,
    economy: Economy,
    convention: Convention,
    objective: Objective,
) -> RowBest:
    """The best batch of each row of a block within the limits."""
    batch = np.minimum(block.batches, block.largest)
    judged = _judge(block.records, batch, limits, economy, convention)
    allowed = (batch >= 1.0) & (np.asarray(judged.broken) == 0)
    masked = np.where(allowed, judged.scores[objective], -np.inf)
    # Batches below the pipeline's depth share one TPOT; of equals, the one with most tokens wins.
    is_best = masked == masked.max(axis=1, keepdims=True)
    at = np.where(is_best & allowed, judged.rate, -np.inf).argmax(axis=1)[:, None]
    return RowBest(
        np.take_along_axis(masked, at, axis=1)[:, 0],
        np.take_along_axis(batch, at, axis=1)[:, 0],
        np.broadcast_to(np.asarray(judged.gpus), block.largest.shape)[:, 0],
    )


class Scores(NamedTuple):
    """Best batch of every candidate, shape (n,); `tried` counts the designs evaluated."""

    score: np.ndarray
    batch: np.ndarray
    gpus: np.ndarray
    largest: np.ndarray
    tried: int


def allowed_batches(
    found: Candidates, limits: Limits, economy: Economy, convention: Convention
) -> np.ndarray:
    """Largest batch of each candidate that keeps the limits on TPOT and memory, shape (n,).

    Bisection over whole numbers, since neither TPOT nor memory falls with the batch.
    """
    rising = [name for name, bit in LIMITS.items() if bit & RISING and is_given(limits, name)]
    if not rising:
        return found.largest
    bounds = as_float64(Limits(**{name: getattr(limits, name) for name in rising}))
    prices = as_float64(economy)
    # `low` keeps the limits (0 stands for no batch at all), `high` breaks them.
    low, high = np.zeros_like(found.largest), found.largest + 1.0
    while (high - low > 1.0).any():
        middle = np.floor(0.5 * (low + high))
        keeps = np.zeros(len(middle), bool)
        # A list with nothing but a batch above all of them tries each row at its own `middle`.
        for block in rectangles(found, middle, np.full(1, np.inf)):
            best = best_batches(block, bounds, prices, convention, OBJECTIVES[0])
            keeps[block.rows] = best.score > -np.inf
        low, high = np.where(keeps, middle, low), np.where(keeps, high, middle)
    return low


def score_candidates(
    found: Candidates,
    limits: Limits,
    economy: Economy,
    convention: Convention,
    objective: Objective = "tokens_per_s_per_gpu",
    batches: np.ndarray | None = None,
) -> Scores:
    """The best batch of every candidate within the limits.

    Args:
        found: candidates of a cell.
        limits: what a design must keep.
        economy: price and power.
        convention: accounting.
        objective: what is maximised (times, price and energy are minimised).
        batches: those to try; others are left out, also the largest. If None: the ladder, and of
            each partition the largest batch that the limits allow.
    """
    limits, economy = as_float64(limits), as_float64(economy)
    largest = allowed_batches(found, limits, economy, convention)
    n = len(largest)
    score, batch, gpus = np.full(n, -np.inf), np.zeros(n), np.zeros(n)
    tried = 0
    if batches is not None:
        steps, largest = np.sort(batches), clip_to(np.sort(batches), largest)
    else:
        steps = ladder(float(np.max(largest, initial=1.0)))
    for block in rectangles(found, largest, steps):
        best = best_batches(block, limits, economy, convention, objective)
        score[block.rows], batch[block.rows], gpus[block.rows] = best
        tried += len(block.rows) * block.batches.size
    return Scores(score, batch, gpus, largest, tried)
