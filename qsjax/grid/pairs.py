"""Evaluate the designs that run at every batch up to their largest, all rows at once.

A batch above a partition's largest one is replaced by that one, so the largest batch that fits is
always among those tried, and every cell of a block is a design that runs.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.metrics import Economy, Objective, score_of
from qsjax.grid.batches import clip_to, ladder
from qsjax.grid.cells import Winners, concatenated, step_of
from qsjax.grid.limits import RISING, Limits, given_limits, violations
from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.numpy_backend import Hoisted, on_host, picked

CELLS = 2**16  # of a block of designs and batches: as many as stay in the caches
AT_ONCE = 2**13  # designs that NumPy tries at a batch each: as many as stay in the caches
TOGETHER = 2**16  # cells whose terms without a batch are kept: a few dozen numbers of each


class Candidates(NamedTuple):
    """Designs that run with one sequence, each in the row of its cell.

    Attributes:
        winners: inputs of the rows, (rows, 1), and partitions of the designs, (1, designs); no
            batch. What all share is of shape (1, 1).
        economy: price and power, (rows, 1) or (1, 1).
        row: whose cell each candidate is, shape (n,), rising.
        position: which design, shape (n,).
        largest: B_max, shape (n,).
    """

    winners: Winners
    economy: Economy
    row: np.ndarray
    position: np.ndarray
    largest: np.ndarray

    def of_rows(self, first: int, last: int) -> "Candidates":
        """The candidates of the rows from the first to before the last."""

        def own(x: np.ndarray) -> np.ndarray:
            return x[first:last] if len(x) > 1 else x

        start, end = np.searchsorted(self.row, (first, last))
        inputs, economy = trees.map(own, (self.winners.inputs, self.economy))
        row, *others = (x[start:end] for x in (self.row, self.position, self.largest))
        return Candidates(self.winners._replace(inputs=inputs), economy, row - first, *others)

    def at(self, which: np.ndarray) -> tuple[Winners, Economy]:
        """Inputs, partition and prices of some candidates, (n, 1); (1, 1) where all share one."""
        index = self.row[which], self.position[which]
        own = picked((self.winners, self.economy), index)
        return trees.map(lambda x: np.reshape(x, (-1, 1)), own)

    def flat(self, which: np.ndarray) -> tuple[Winners, Economy]:
        """The same of shape (n,)."""
        return trees.map(lambda x: np.broadcast_to(x[:, 0], len(which)), self.at(which))


class Block(NamedTuple):
    """A rectangle of designs.

    Attributes:
        winners: inputs and partition of the candidates, (rows, 1); no batch.
        economy: price and power, (rows, 1).
        largest: largest batch of each row, (rows, 1).
        batches: (1, columns).
        rows: which candidates the rows are.
    """

    winners: Winners
    economy: Economy
    largest: np.ndarray
    batches: np.ndarray
    rows: np.ndarray


def rectangles(candidates: Candidates, largest: np.ndarray, batches: np.ndarray) -> Iterator[Block]:
    """Blocks of about CELLS that cover every candidate at every batch up to its own largest one.

    Args:
        candidates: designs that run with one sequence.
        largest: largest batch allowed for each of them, at most B_max; 0 excludes it.
        batches: in rising order, up to at least the largest of all.
    """
    order = np.argsort(-largest, kind="stable")
    order = order[largest[order] >= 1]
    while len(order):
        # The rows are sorted, so batches beyond the first row's repeat what was there before.
        last = int(np.searchsorted(batches, largest[order[0]])) + 1
        rows, order = np.split(order, [max(1, CELLS // last)])
        yield Block(*candidates.at(rows), largest[rows][:, None], batches[None, :last], rows)


class Judged(NamedTuple):
    """Designs at their batches: the objective turned so that more is better, limits broken."""

    score: Array
    rate: Array
    gpus: Array
    broken: Array


def _judge(
    winners: Winners, economy: Economy, limits: Limits, batch: Any, *, objective: Objective
) -> Judged:
    """Evaluate designs at a batch."""
    inputs, designs = winners
    step = step_of(Winners(inputs, designs._replace(batch=xp.maximum(batch, 1.0))))
    broken = violations(limits, designs.partition, inputs.hardware, step, economy)
    return Judged(score_of(objective, step, economy), step.tokens_per_s_per_gpu, step.gpus, broken)


judge = on_host(_judge)


class RowBest(NamedTuple):
    """Best batch of each row or candidate: its score (-inf if none is allowed), it, the GPUs."""

    score: np.ndarray
    batch: np.ndarray
    gpus: np.ndarray


def best_batches(block: Block, limits: Limits, objective: Objective) -> RowBest:
    """The best batch of each row of a block within the limits."""
    batch = np.minimum(block.batches, block.largest)
    judged = judge(block.winners, block.economy, limits, batch, objective=objective)
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


def allowed_batches(candidates: Candidates, limits: Limits) -> np.ndarray:
    """Largest batch of each candidate that keeps the limits on TPOT and memory, shape (n,).

    Bisection over whole numbers, since neither TPOT nor memory falls with the batch.
    """
    rising = [name for name in given_limits(limits) if name in RISING]
    if not rising:
        return candidates.largest
    bounds = Limits(**{name: getattr(limits, name) for name in rising})
    return np.concatenate([_bisected(group, bounds) for group in groups(candidates)])


def _bisected(candidates: Candidates, limits: Limits) -> np.ndarray:
    """`allowed_batches` under limits that a smaller batch also keeps."""
    judged = judged_at(candidates, limits)
    # `low` keeps the limits (0 stands for no batch at all), `high` breaks them.
    low, high = np.zeros_like(candidates.largest), candidates.largest + 1.0
    while len(left := np.flatnonzero(high - low > 1.0)):
        # One sequence first: most designs that break the limits break them with it.
        middle = np.where(low[left] == 0, 1.0, np.floor(0.5 * (low[left] + high[left])))
        is_kept = judged(left, middle).broken == 0
        low[left] = np.where(is_kept, middle, low[left])
        high[left] = np.where(is_kept, high[left], middle)
    return low


def groups(candidates: Candidates) -> Iterator[Candidates]:
    """The candidates in groups of rows, of about TOGETHER cells each."""
    rows, designs = (int(np.max(at, initial=0)) + 1 for at in (candidates.row, candidates.position))
    step = max(1, TOGETHER // designs)
    for first in range(0, rows, step):
        yield candidates.of_rows(first, first + step)


def judged_at(candidates: Candidates, limits: Limits) -> Callable[[np.ndarray, np.ndarray], Judged]:
    """A function that evaluates some candidates, each at its own batch, shape (n,).

    What no batch changes is computed once, of every row and design.
    """
    kept = candidates.winners, candidates.economy, limits
    judged = Hoisted(_judge, kept, objective="tokens_per_s_per_gpu")

    def some(which: np.ndarray, batch: np.ndarray) -> Judged:
        of_some = judged(batch, (candidates.row[which], candidates.position[which]))
        return trees.map(lambda x: np.broadcast_to(x, len(which)), of_some)

    def at(which: np.ndarray, batch: np.ndarray) -> Judged:
        starts = range(0, len(which), AT_ONCE)
        parts = [some(which[k : k + AT_ONCE], batch[k : k + AT_ONCE]) for k in starts]
        return concatenated(*parts) if parts else Judged(*np.empty((4, 0)))

    return at


def score_candidates(
    candidates: Candidates,
    limits: Limits,
    objective: Objective = "tokens_per_s_per_gpu",
    batches: np.ndarray | None = None,
) -> RowBest:
    """The best batch of every candidate within the limits.

    Args:
        candidates: designs that run with one sequence.
        limits: what a design must keep.
        objective: what is maximised (times, price and energy are minimised).
        batches: those to try; others are left out, also the largest. If None: the ladder, and of
            each partition the largest batch that the limits allow.
    """
    largest = allowed_batches(candidates, limits)
    n = len(largest)
    score, batch, gpus = np.full(n, -np.inf), np.zeros(n), np.zeros(n)
    if batches is not None:
        steps, largest = np.sort(batches), clip_to(np.sort(batches), largest)
    else:
        steps = ladder(float(np.max(largest, initial=1.0)))
    for block in rectangles(candidates, largest, steps):
        best = best_batches(block, limits, objective)
        score[block.rows], batch[block.rows], gpus[block.rows] = best
    return RowBest(score, batch, gpus)
