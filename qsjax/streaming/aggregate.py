"""Results that a sweep accumulates over blocks; merging is exact and independent of order."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from qsjax.cost.feasibility import REASONS
from qsjax.grid.cells import GPU_DEGREES, concatenated, take
from qsjax.grid.fronts import undominated
from qsjax.grid.scoring import TIE_TOLERANCE, Reduced, lowest, tolerance
from qsjax.streaming.engine import Engine
from qsjax.streaming.kernels import BINS, bin_edges, detail_one, survivors_one
from qsjax.streaming.plan import Plan, winner_coordinates

# Points of the front that the devices compare with; the exact front is kept on the host.
FRONT_PROBES = 8


class Designs(NamedTuple):
    """Some designs: kept cell (flat), position in the plan's list, GPUs, score, front axes."""

    cell: np.ndarray
    position: np.ndarray
    gpus: np.ndarray
    score: np.ndarray
    rate: np.ndarray
    speed: np.ndarray


def no_designs() -> Designs:
    """An empty set."""
    return Designs(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)


def rank_of(score: np.ndarray) -> np.ndarray:
    """Scores as whole numbers that are equal within the tie tolerance, larger is better."""
    with np.errstate(divide="ignore"):
        size = np.round(np.log(np.abs(score)) / TIE_TOLERANCE)
    return np.sign(score) * np.clip(size + 1e12, 0, None)


def top(designs: Designs, count: int) -> Designs:
    """The best `count`: by score, equal ones by fewest GPUs, kept cell and position."""
    order = np.lexsort((designs.position, designs.cell, designs.gpus, -rank_of(designs.score)))
    return take(designs, order[:count])


def front(designs: Designs) -> Designs:
    """Those that no other one beats in tokens/s/GPU and tokens/s/user, the fastest user last.

    Of designs equal in both the first stays, by the order of `top`.
    """
    ties = designs.gpus, designs.cell, designs.position
    return take(designs, undominated(designs.rate, designs.speed, *ties))


@dataclasses.dataclass(slots=True)
class Tally:
    """Sums and sets over a part of a sweep.

    Attributes:
        computed: designs compared: every one of every kept cell.
        evaluated: those that were evaluated.
        doubtful: kept cells whose winner was decided by bounds or by NumPy where two programs may
            round to different sides of a tie or of a limit.
        feasible: those that can run.
        reasons: designs with each reason, in the order of REASONS.
        low: smallest value of each metric of `Job.statistics`; `high` the largest.
        bins: histogram of each metric.
        wins: keys of designs that win somewhere, ascending, and the kept cells that each wins;
            `plan.stacked` axes first, then the position in the plan's list.
        best: the top designs.
        edge: the Pareto front.
    """

    computed: int
    evaluated: int
    doubtful: int
    feasible: int
    reasons: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bins: np.ndarray
    wins: np.ndarray
    best: Designs
    edge: Designs


def new_tally(metrics: int) -> Tally:
    """An empty tally."""
    return Tally(
        *(0, 0, 0, 0),
        np.zeros(len(REASONS), np.int64),
        np.full(metrics, np.inf),
        np.full(metrics, -np.inf),
        np.zeros((metrics, BINS), np.int64),
        np.zeros((2, 0), np.int64),
        no_designs(),
        no_designs(),
    )


def merge(one: Tally, other: Tally, top_k: int) -> Tally:
    """The tally of two disjoint parts; the order does not matter."""
    names = ("computed", "evaluated", "doubtful", "feasible", "reasons", "bins")
    return Tally(
        **{name: getattr(one, name) + getattr(other, name) for name in names},
        low=np.minimum(one.low, other.low),
        high=np.maximum(one.high, other.high),
        wins=summed(np.concatenate([one.wins, other.wins], axis=1)),
        best=top(concatenated(one.best, other.best), top_k),
        edge=front(concatenated(one.edge, other.edge)),
    )


def summed(wins: np.ndarray) -> np.ndarray:
    """Keys and counts with every key once, ascending."""
    keys, place = np.unique(wins[0], return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, place, wins[1])
    return np.stack([keys, counts])


def add_wins(tally: Tally, plan: Plan, blocks: np.ndarray, reduced: Reduced) -> None:
    """Count the kept cells that each design wins."""
    inner = math.prod(plan.kept[plan.stacked :])
    starts, sizes = plan.ranges(blocks)
    parts = [tally.wins]
    for at, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        position, feasible = (
            np.asarray(x[at]).reshape(-1)[:size] for x in (reduced.best.position, reduced.feasible)
        )
        key = (start + np.arange(size)) // inner * len(plan.designs) + position
        parts.append(np.stack(np.unique(key[feasible > 0], return_counts=True)))
    tally.wins = summed(np.concatenate(parts, axis=1))


def quantiles(tally: Tally, metric: int, shares: np.ndarray) -> np.ndarray:
    """Quantiles of a metric over all feasible designs, right to 0.4 %; NaN without any."""
    if not tally.bins[metric].any():
        return np.full(len(shares), np.nan)
    total = np.cumsum(tally.bins[metric])
    at = np.searchsorted(total, np.maximum(1, np.ceil(shares * total[-1])))
    edges = bin_edges()
    middle = 0.5 * (edges[at] + edges[at + 1])
    return np.clip(middle, tally.low[metric], tally.high[metric])


def add_sums(tally: Tally, plan: Plan, blocks: np.ndarray, reduced: Reduced) -> None:
    """Count the blocks of a call."""
    _, counts = plan.ranges(blocks)
    for at, count in enumerate(counts):
        flat = reduced.reasons[at].reshape(len(REASONS), -1)[:, :count]
        tally.reasons += flat.sum(axis=1, dtype=np.int64)
        tally.feasible += int(reduced.feasible[at].reshape(-1)[:count].sum())
        tally.computed += int(count) * len(plan.designs)
        tally.evaluated += int(count) * len(plan.designs if plan.few is None else plan.few.at)
    for k, spread in enumerate(reduced.spread):
        tally.low[k] = min(tally.low[k], spread.low.min())
        tally.high[k] = max(tally.high[k], spread.high.max())
        tally.bins[k] += spread.bins.sum(axis=0, dtype=np.int64)


class _Scores(NamedTuple):
    """Scores of a block and its two axes of the front, shape (kept cells, designs)."""

    score: np.ndarray
    rate: np.ndarray
    speed: np.ndarray


def _scores_of(engine: Engine, block: int) -> tuple[int, _Scores]:
    """The first kept cell of a block, and the scores of those that are real."""
    start, count = (int(x[0]) for x in engine.plan.ranges(np.array([block])))
    parts = engine.one(block, detail_one)
    designs = len(engine.plan.designs)
    real = (np.asarray(x, np.float64).reshape(-1, designs)[:count] for x in parts)
    return start, _Scores(*real)


def _designs_at(
    plan: Plan, start: int, scores: _Scores, row: np.ndarray, position: np.ndarray
) -> Designs:
    at = winner_coordinates(plan, start + row, position)
    degrees = [at[name] for name in GPU_DEGREES if name in at]
    gpus = np.prod(degrees, axis=0) if degrees else np.ones(len(row))
    return Designs(start + row, position, gpus, *(x[row, position] for x in scores))


def _threshold(best: np.ndarray, known: Designs, count: int, near: float) -> float:
    """Score below which no design can be among the top `count`.

    Args:
        best: the highest score of every kept cell of a call.
        known: the top of what came before.
        count: how many are wanted.
        near: relative difference up to which scores count as equal.
    """
    limits = []
    if len(best) >= count:
        limits.append(np.partition(best, -count)[-count])
    if len(known.score) == count:
        limits.append(known.score[-1])
    least = max(limits, default=-np.inf)
    # Twice as wide as a tie: the winner of a cell may score a tie less than its best design.
    return float(least - 2.0 * near * abs(least)) if np.isfinite(least) else -np.inf


def add_best(
    tally: Tally, engine: Engine, blocks: np.ndarray, reduced: Reduced, count: int
) -> None:
    """Merge the blocks' designs into the top `count`, evaluating only blocks that may hold some."""
    best = reduced.best.score.reshape(len(blocks), -1).astype(np.float64)
    sizes = engine.plan.ranges(blocks)[1]
    none, near = lowest(reduced.best.score.dtype), tolerance(reduced.best.score.dtype)
    real = np.concatenate([own[:size] for own, size in zip(best, sizes, strict=True)])
    least = _threshold(real[real > none], tally.best, count, near)
    highest = best.max(axis=1)
    for at in np.argsort(-highest, kind="stable"):
        if highest[at] <= none or highest[at] < least:
            return
        start, scores = _scores_of(engine, blocks[at])
        rows = np.flatnonzero(best[at][: sizes[at]] >= least)
        row, position = np.nonzero((scores.score[rows] >= least) & (scores.score[rows] > none))
        new = _designs_at(engine.plan, start, scores, rows[row], position)
        tally.best = top(concatenated(tally.best, new), count)
        least = max(least, _threshold(np.zeros(0), tally.best, count, near))


def _undominated(scores: _Scores, edge: Designs, none: float) -> tuple[np.ndarray, np.ndarray]:
    """Kept cell and position of a block's designs that may be on the front.

    They are compared with the front so far, and with those designs of every kept cell that are best
    for the GPU and for the user.
    """
    is_feasible = scores.score > none
    both = [np.where(is_feasible, x, -np.inf) for x in (scores.rate, scores.speed)]
    ends = [x.argmax(axis=1)[:, None] for x in both]
    best = [[np.take_along_axis(x, at, axis=1)[:, 0] for at in ends] for x in both]
    rates = np.concatenate([*best[0], edge.rate])
    order = np.argsort(rates)
    rates, speeds = rates[order], np.concatenate([*best[1], edge.speed])[order]
    # The fastest of those with at least a rate, by the rate's place among them.
    fastest = np.append(np.maximum.accumulate(speeds[::-1])[::-1], -np.inf)

    def is_open(rate: np.ndarray, speed: np.ndarray) -> np.ndarray:
        return speed >= fastest[np.searchsorted(rates, rate)]

    # Of most cells not even the best of both together would be on the front.
    rows = np.flatnonzero(is_open(best[0][0], best[1][1]))
    row, position = np.nonzero(is_feasible[rows] & is_open(*(x[rows] for x in both)))
    return rows[row], position


def add_front(tally: Tally, engine: Engine, blocks: np.ndarray) -> None:
    """Merge the blocks' designs into the front, evaluating only blocks with some beyond it."""
    pair = np.zeros((2, FRONT_PROBES))
    if len(tally.edge.rate):
        at = np.linspace(0, len(tally.edge.rate) - 1, FRONT_PROBES).round().astype(int)
        pair = np.stack([tally.edge.rate[at], tally.edge.speed[at]])
    probes = tuple(tuple(map(float, row)) for row in pair)
    beyond = engine.call(blocks, survivors_one, front=probes)
    for block in blocks[beyond > 0]:
        start, scores = _scores_of(engine, block)
        open_at = _undominated(scores, tally.edge, lowest(engine.job.precision))
        new = _designs_at(engine.plan, start, scores, *open_at)
        tally.edge = front(concatenated(tally.edge, new))
