"""The batch with the most tokens/s/GPU of every candidate, by bounds instead of trying all.

TPOT does not fall with the batch, so between two batches no throughput exceeds that of the lower
one times the ratio of the two. Ranges whose bound lies below the second best of their cell are left
out; the others are halved. What is found is what `pairs.score_candidates` finds by trying all.
"""

from typing import NamedTuple

import numpy as np

from qsjax.cost.metrics import Objective
from qsjax.grid.batches import ladder
from qsjax.grid.cells import concatenated, take
from qsjax.grid.limits import Limits, given_limits
from qsjax.grid.pairs import Candidates, RowBest, groups, judged_at
from qsjax.grid.scoring import tolerance

# Designs this near to the second best may be chosen in its place: ties, and roundings of a bound.
SLACK = 1.0 - 4.0 * tolerance(np.dtype(float))


def is_bounded(limits: Limits, objective: Objective) -> bool:
    """Whether bounds hold: tokens/s/GPU are asked for, and no limit falls with the batch."""
    falling = {"max_usd", "max_joules"}
    return objective == "tokens_per_s_per_gpu" and falling.isdisjoint(given_limits(limits))


class _Ranges(NamedTuple):
    """Ranges of ladder steps of which only the ends were tried.

    Attributes:
        who: the candidate of each.
        low, high: indices of steps; the lower one keeps the limits.
        rate: throughput at the lower one [tokens/s/GPU].
        is_kept: whether the upper one keeps the limits.
    """

    who: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rate: np.ndarray
    is_kept: np.ndarray


class _Search:
    """Candidates with the best batch and throughput found so far."""

    def __init__(self, candidates: Candidates, limits: Limits, steps: np.ndarray) -> None:
        self.candidates, self.steps = candidates, steps
        self.judged = judged_at(candidates, limits)
        self.score = np.full(len(candidates.largest), -np.inf)
        self.batch = np.zeros(len(candidates.largest))
        self.gpus = np.ones(len(candidates.largest))
        # Candidates are in the order of their cells.
        _, self.starts, self.cell = np.unique(
            candidates.row, return_index=True, return_inverse=True
        )

    def value(self, who: np.ndarray, step: np.ndarray) -> np.ndarray:
        """The batch of a step, cut to the candidate's largest."""
        return np.minimum(self.steps[step], self.candidates.largest[who])

    def attempt(self, who: np.ndarray, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether the limits are kept, and the throughput; the best of each candidate is noted."""
        judged = self.judged(who, batch)
        rate, self.gpus[who], broken = map(np.asarray, judged[1:])
        kept = broken == 0
        mine, most, own = who[kept], rate[kept], batch[kept]
        better = (most > self.score[mine]) | ((most == self.score[mine]) & (own < self.batch[mine]))
        self.score[mine[better]], self.batch[mine[better]] = most[better], own[better]
        return kept, rate

    def wanted(self) -> np.ndarray:
        """Throughput that would put a candidate among the best two of its cell [tokens/s/GPU]."""
        top = np.maximum.reduceat(self.score, self.starts)[self.cell]
        # Without one of the best, which is the first that has its score.
        places = np.flatnonzero(self.score == top)
        others = self.score.copy()
        others[places[np.unique(self.cell[places], return_index=True)[1]]] = -np.inf
        second = np.maximum.reduceat(others, self.starts)[self.cell]
        return np.where(second > 0, second * SLACK, second)

    def promising(self, ranges: _Ranges) -> _Ranges:
        """The ranges inside which a batch may be among the best two of its cell."""
        low, high = self.value(ranges.who, ranges.low), self.value(ranges.who, ranges.high)
        bound = ranges.rate * ((high - 1.0) / low)
        is_open = (high - low > 1.0) & (bound >= self.wanted()[ranges.who])
        return take(ranges, is_open)


def _halved(search: _Search, ranges: _Ranges) -> _Ranges:
    """Both halves of every range; the upper one only where its lower end keeps the limits."""
    middle = (ranges.low + ranges.high) // 2
    kept, rate = search.attempt(ranges.who, search.value(ranges.who, middle))
    lower = ranges._replace(high=middle, is_kept=kept)
    return concatenated(lower, take(ranges._replace(low=middle, rate=rate), kept))


def _to_the_limit(search: _Search, ranges: _Ranges) -> None:
    """Try the largest batch within the limits, between a step that keeps them and the next."""
    who = ranges.who
    low, high = search.value(who, ranges.low), search.value(who, ranges.high)
    rate = ranges.rate
    while len(who):
        is_open = (high - low > 1.0) & (rate * ((high - 1.0) / low) >= search.wanted()[who])
        who, low, high, rate = who[is_open], low[is_open], high[is_open], rate[is_open]
        middle = np.floor(0.5 * (low + high))
        kept, tried = search.attempt(who, middle)
        low, high = np.where(kept, middle, low), np.where(kept, high, middle)
        rate = np.where(kept, tried, rate)


def best_two(candidates: Candidates, limits: Limits) -> RowBest:
    """Best batch of the candidates that may be among the best two of their cell.

    Of the others a batch that is not their best one, of all whether any batch is allowed.
    """
    steps = ladder(float(np.max(candidates.largest, initial=1.0)))
    return concatenated(*(_best_two(_Search(group, limits, steps)) for group in groups(candidates)))


def _best_two(search: _Search) -> RowBest:
    every = np.arange(len(search.score))
    last = np.searchsorted(search.steps, search.candidates.largest)
    kept, rate = search.attempt(every, np.ones(len(every)))
    ranges: _Ranges = take(_Ranges(every, np.zeros_like(last), last, rate, kept), kept)
    is_kept, _ = search.attempt(ranges.who, search.value(ranges.who, ranges.high))
    ranges = ranges._replace(is_kept=is_kept)
    ends = []
    while len((ranges := search.promising(ranges)).who):
        is_split = ranges.high - ranges.low > 1
        ends.append(take(ranges, ~is_split & ~ranges.is_kept))
        ranges = _halved(search, take(ranges, is_split))
    if ends:
        _to_the_limit(search, concatenated(*ends))
    return RowBest(search.score, search.batch, search.gpus)
