"""Designs that run, of all rows at once, each at every batch up to its largest.

A batch above a partition's largest one is replaced by that one, so the largest batch that fits is
always among those tried, and every cell of a block is a design that runs.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.metrics import Economy, Objective, score_of
from qsjax.grid.batches import COLUMNS, ROWS, clip_to, ladder
from qsjax.grid.cells import Winners, step_of
from qsjax.grid.limits import LIMITS, RISING, Limits, is_given, violations
from qsjax.numerics.numpy_backend import on_host

AT_ONCE = 2**13  # designs that NumPy tries at a batch each: as many as stay in the caches


class Candidates(NamedTuple):
    """Designs that run with one sequence, each in the row of its cell.

    Attributes:
        winners: inputs and partition of each, of shape (n, 1); no batch.
        economy: price and power, of shape (n, 1).
        row: whose cell it is, shape (n,).
        position: which design, shape (n,).
        largest: B_max, shape (n,).
    """

    winners: Winners
    economy: Economy
    row: np.ndarray
    position: np.ndarray
    largest: np.ndarray


class Block(NamedTuple):
    """A rectangle of designs.

    Attributes:
        winners: inputs and partition of the candidates, (rows, 1); no batch.
        economy: price and power, (rows, 1).
        largest: largest batch of each row, (rows, 1); 0 in rows that only pad.
        batches: (1, columns).
        rows: which candidates the rows are, without the padding.
    """

    winners: Winners
    economy: Economy
    largest: np.ndarray
    batches: np.ndarray
    rows: np.ndarray


def shared_rows(found: Candidates) -> Any:
    """Inputs, partitions and prices of candidates, of leaves that all share one row.

    NumPy then computes what follows from those once.
    """
    tree = (found.winners, found.economy)
    return jax.tree.map(lambda x: x[:1] if len(x) and np.ptp(x) == 0 else x, tree)


def _some(shared: Any, rows: np.ndarray) -> Any:
    """These rows of what `shared_rows` gave."""
    return jax.tree.map(lambda x: x if len(x) == 1 else x[rows], shared)


def rectangles(found: Candidates, largest: np.ndarray, batches: np.ndarray) -> Iterator[Block]:
    """Blocks of ROWS that cover every candidate at every batch up to its own largest one.

    Args:
        found: candidates.
        largest: largest batch allowed for each of them, at most B_max; 0 excludes it.
        batches: in rising order, up to at least the largest of all.
    """
    order = np.argsort(-largest, kind="stable")
    order = order[largest[order] >= 1]
    shared = shared_rows(found)
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        winners, economy = _some(shared, rows)
        # The rows are sorted, so batches beyond the first row's repeat what was there before.
        last = int(np.searchsorted(batches, largest[rows[0]])) + 1
        yield Block(winners, economy, largest[rows][:, None], batches[None, :last], rows)


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def blocks(found: Candidates, largest: np.ndarray, batches: np.ndarray) -> Iterator[Block]:
    """`rectangles` cut and padded to ROWS and COLUMNS, for compiled code: one shape, one program.

    Arguments are those of `rectangles`.
    """
    for block in rectangles(found, largest, batches):
        winners, economy = jax.tree.map(lambda x: _padded(x, ROWS), (block.winners, block.economy))
        n = len(block.rows)
        top = np.where(np.arange(ROWS)[:, None] < n, _padded(block.largest, ROWS), 0.0)
        for left in range(0, block.batches.size, COLUMNS):
            columns = _padded(block.batches[0, left : left + COLUMNS], COLUMNS)[None, :]
            yield Block(winners, economy, top, columns, block.rows)


def step_at(winners: Winners, batch: jax.Array) -> StepCost:
    """The step of designs at the given batches."""
    designs = winners.designs._replace(batch=jnp.maximum(batch, 1.0))
    return step_of(winners._replace(designs=designs))


class Judged(NamedTuple):
    """Designs at their batches: the objective turned so that more is better, limits broken."""

    score: jax.Array
    rate: jax.Array
    gpus: jax.Array
    broken: jax.Array


@on_host
def judge(
    winners: Winners, economy: Economy, batch: Any, limits: Limits, *, objective: Objective
) -> Judged:
    """What becomes of designs at a batch."""
    step = step_at(winners, batch)
    inputs, designs = winners
    broken = violations(limits, designs.partition, inputs.hardware, step, economy)
    score = score_of(objective, step, economy)
    return Judged(score, step.tokens_per_s_per_gpu, step.gpus, broken)


class RowBest(NamedTuple):
    """Best batch of each row: its score (-inf if none is allowed), the batch, the GPUs."""

    score: np.ndarray
    batch: np.ndarray
    gpus: np.ndarray


def best_batches(block: Block, limits: Limits, objective: Objective) -> RowBest:
    """The best batch of each row of a block within the limits."""
    batch = np.minimum(block.batches, block.largest)
    judged = judge(block.winners, block.economy, batch, limits, objective=objective)
    allowed = (batch >= 1.0) & (np.asarray(judged.broken) == 0)
    masked = np.where(allowed, judged.score, -np.inf)
    # Batches below the pipeline's depth share one TPOT; of equals, the one with most tokens wins.
    is_best = masked == masked.max(axis=1, keepdims=True)
    at = np.where(is_best & allowed, judged.rate, -np.inf).argmax(axis=1)[:, None]
    return RowBest(
        np.take_along_axis(masked, at, axis=1)[:, 0],
        np.take_along_axis(batch, at, axis=1)[:, 0],
        np.broadcast_to(np.asarray(judged.gpus), block.largest.shape)[:, 0],
    )


class Scores(NamedTuple):
    """Best batch of every candidate, and the largest that the limits allow, shape (n,)."""

    score: np.ndarray
    batch: np.ndarray
    gpus: np.ndarray
    largest: np.ndarray


def allowed_batches(found: Candidates, limits: Limits) -> np.ndarray:
    """Largest batch of each candidate that keeps the limits on TPOT and memory, shape (n,).

    Bisection over whole numbers, since neither TPOT nor memory falls with the batch.
    """
    rising = [name for name, bit in LIMITS.items() if bit & RISING and is_given(limits, name)]
    if not rising:
        return found.largest
    bounds = Limits(**{name: getattr(limits, name) for name in rising})
    shared = shared_rows(found)
    # `low` keeps the limits (0 stands for no batch at all), `high` breaks them.
    low, high = np.zeros_like(found.largest), found.largest + 1.0
    while len(left := np.flatnonzero(high - low > 1.0)):
        # One sequence first: most designs that break the limits break them with it.
        middle = np.where(low[left] == 0, 1.0, np.floor(0.5 * (low[left] + high[left])))
        parts = np.split(np.arange(len(left)), range(AT_ONCE, len(left), AT_ONCE))
        judged = [judged_at(shared, left[part], middle[part], bounds) for part in parts]
        is_kept = np.concatenate([one.broken[:, 0] == 0 for one in judged])
        low[left] = np.where(is_kept, middle, low[left])
        high[left] = np.where(is_kept, high[left], middle)
    return low


def judged_at(shared: Any, rows: np.ndarray, batch: np.ndarray, limits: Limits) -> Judged:
    """These rows of what `shared_rows` gave, each at a batch of its own, shape (n, 1)."""
    winners, economy = _some(shared, rows)
    at: Any = batch[:, None]
    judged = judge(winners, economy, at, limits, objective="tokens_per_s_per_gpu")
    shape = (len(rows), 1)
    return jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), shape), judged)


def score_candidates(
    found: Candidates,
    limits: Limits,
    objective: Objective = "tokens_per_s_per_gpu",
    batches: np.ndarray | None = None,
) -> Scores:
    """The best batch of every candidate within the limits.

    Args:
        found: candidates.
        limits: what a design must keep.
        objective: what is maximised (times, price and energy are minimised).
        batches: those to try; others are left out, also the largest. If None: the ladder, and of
            each partition the largest batch that the limits allow.
    """
    largest = allowed_batches(found, limits)
    n = len(largest)
    score, batch, gpus = np.full(n, -np.inf), np.zeros(n), np.zeros(n)
    if batches is not None:
        steps, largest = np.sort(batches), clip_to(np.sort(batches), largest)
    else:
        steps = ladder(float(np.max(largest, initial=1.0)))
    for block in rectangles(found, largest, steps):
        best = best_batches(block, limits, objective)
        score[block.rows], batch[block.rows], gpus[block.rows] = best
    return Scores(score, batch, gpus, largest)
