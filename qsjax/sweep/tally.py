"""What a sweep keeps of its blocks, and how two parts of it become one: exact and orderless."""

import dataclasses
from typing import Any

import numpy as np

from qsjax.feasibility import REASONS
from qsjax.reduction import TIE_TOLERANCE, lowest, tolerance
from qsjax.sweep.engine import Engine
from qsjax.sweep.kernels import BINS, Reduction, bin_edges, detail_one, survivors_one
from qsjax.sweep.plan import Plan, winner_coordinates

# Points of the front that the devices compare with; the exact front is kept on the host.
FRONT_PROBES = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Designs:
    """Some designs: kept cell (flat), position in the plan's list, GPUs, score, front axes."""

    cell: np.ndarray
    position: np.ndarray
    gpus: np.ndarray
    score: np.ndarray
    rate: np.ndarray
    speed: np.ndarray

    def pick(self, at: np.ndarray) -> "Designs":
        """Those at some indices."""
        return Designs(*(getattr(self, f.name)[at] for f in dataclasses.fields(self)))

    def join(self, other: "Designs") -> "Designs":
        """Both."""
        names = [f.name for f in dataclasses.fields(self)]
        return Designs(*(np.append(getattr(self, n), getattr(other, n)) for n in names))


def no_designs() -> Designs:
    """An empty set."""
    return Designs(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)


def rank_of(score: np.ndarray) -> np.ndarray:
    """Scores as whole numbers that are equal within the tie tolerance, larger is better."""
    with np.errstate(divide="ignore"):
        size = np.round(np.log(np.abs(score)) / TIE_TOLERANCE)
    ranks: np.ndarray = np.sign(score) * np.clip(size + 1e12, 0, None)
    return ranks


def top(designs: Designs, count: int) -> Designs:
    """The best `count`: by score, equal ones by fewest GPUs, kept cell and position."""
    order = np.lexsort((designs.position, designs.cell, designs.gpus, -rank_of(designs.score)))
    return designs.pick(order[:count])


def front(designs: Designs) -> Designs:
    """Those that no other one beats in tokens/s/GPU and tokens/s/user, the fastest user last.

    Of designs equal in both the first stays, by the order of `top`.
    """
    order = np.lexsort(
        (designs.position, designs.cell, designs.gpus, -designs.speed, -designs.rate)
    )
    ordered = designs.pick(order)
    before = np.append(-np.inf, np.maximum.accumulate(ordered.speed)[:-1])
    return ordered.pick(np.flatnonzero(ordered.speed > before))


@dataclasses.dataclass(slots=True)
class Tally:
    """Sums and sets over a part of a sweep.

    Attributes:
        computed: designs evaluated.
        feasible: those that can run.
        reasons: designs with each reason, in the order of REASONS.
        low: smallest value of each metric of `Job.statistics`; `high` the largest.
        bins: histogram of each metric.
        best: the top designs.
        edge: the Pareto front.
    """

    computed: int
    feasible: int
    reasons: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bins: np.ndarray
    best: Designs
    edge: Designs


def new_tally(metrics: int) -> Tally:
    """Nothing counted yet."""
    return Tally(
        0,
        0,
        np.zeros(len(REASONS), np.int64),
        np.full(metrics, np.inf),
        np.full(metrics, -np.inf),
        np.zeros((metrics, BINS), np.int64),
        no_designs(),
        no_designs(),
    )


def merge(one: Tally, other: Tally, top_k: int) -> Tally:
    """The tally of two disjoint parts; the order does not matter."""
    return Tally(
        one.computed + other.computed,
        one.feasible + other.feasible,
        one.reasons + other.reasons,
        np.minimum(one.low, other.low),
        np.maximum(one.high, other.high),
        one.bins + other.bins,
        top(one.best.join(other.best), top_k),
        front(one.edge.join(other.edge)),
    )


def quantiles(tally: Tally, metric: int, shares: np.ndarray) -> np.ndarray:
    """Quantiles of a metric over all feasible designs, right to 0.4 %; NaN without any."""
    total = np.cumsum(tally.bins[metric])
    if not len(total) or total[-1] == 0:
        return np.full(len(shares), np.nan)
    at = np.searchsorted(total, np.maximum(1, np.ceil(shares * total[-1])))
    edges = bin_edges()
    middle = 0.5 * (edges[at] + edges[at + 1])
    clipped: np.ndarray = np.clip(middle, tally.low[metric], tally.high[metric])
    return clipped


def add_sums(tally: Tally, plan: Plan, blocks: np.ndarray, found: Reduction) -> None:
    """Count the blocks of a call."""
    _, counts = plan.ranges(blocks)
    for at, count in enumerate(counts):
        flat = found.reasons[at].reshape(len(REASONS), -1)[:, :count]
        tally.reasons += flat.sum(axis=1, dtype=np.int64)
        tally.feasible += int(found.feasible[at].reshape(-1)[:count].sum())
        tally.computed += int(count) * len(plan.designs)
    for k, spread in enumerate(found.spread):
        tally.low[k] = min(tally.low[k], spread.low.min())
        tally.high[k] = max(tally.high[k], spread.high.max())
        tally.bins[k] += spread.bins.sum(axis=0, dtype=np.int64)


def _designs_of(plan: Plan, block: int, parts: Any, threshold: float) -> Designs:
    # Feasible designs of one block with at least the score `threshold`.
    start, count = (int(x[0]) for x in plan.ranges(np.array([block])))
    score, rate, speed = (np.asarray(x, np.float64).reshape(-1, len(plan.designs)) for x in parts)
    row, position = np.nonzero(
        (score[:count] > lowest(parts[0].dtype)) & (score[:count] >= threshold)
    )
    at = winner_coordinates(plan, start + row, position)
    degrees = [at[name] for name in ("tp", "pp", "dp", "kvp") if name in at]
    gpus = np.prod(degrees, axis=0) if degrees else np.ones(len(row))
    return Designs(
        start + row, position, gpus, score[row, position], rate[row, position], speed[row, position]
    )


def add_best(
    tally: Tally, engine: Engine, blocks: np.ndarray, found: Reduction, count: int
) -> None:
    """Let the blocks' designs into the top `count`, looking only into blocks that may hold some."""
    highest = found.best.score.reshape(len(blocks), -1).max(axis=1).astype(np.float64)
    for at in np.argsort(-highest, kind="stable"):
        threshold = -np.inf
        if len(tally.best.score) == count:
            last = tally.best.score[-1]
            threshold = last - 2.0 * tolerance(found.best.score.dtype) * abs(last)
        if highest[at] <= lowest(found.best.score.dtype) or highest[at] < threshold:
            return
        parts = engine.one(blocks[at], detail_one)
        new = _designs_of(engine.plan, int(blocks[at]), parts, threshold)
        tally.best = top(tally.best.join(new), count)


def add_front(tally: Tally, engine: Engine, blocks: np.ndarray) -> None:
    """Let the blocks' designs into the front, looking only into blocks with some beyond it."""
    pair = np.zeros((2, FRONT_PROBES))
    if len(tally.edge.rate):
        at = np.linspace(0, len(tally.edge.rate) - 1, FRONT_PROBES).round().astype(int)
        pair = np.stack([tally.edge.rate[at], tally.edge.speed[at]])
    probes = tuple(tuple(map(float, row)) for row in pair)
    beyond = engine.call(blocks, survivors_one, front=probes)
    for block in blocks[beyond > 0]:
        parts = engine.one(block, detail_one)
        new = _designs_of(engine.plan, int(block), parts, -np.inf)
        tally.edge = front(tally.edge.join(front(new)))
