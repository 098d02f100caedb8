"""Claims about a whole box, proved by branch and bound: who is best there, how, and why.

A part of the box is settled where every rival is surely beaten: by ranges, or by the mean value
form of the difference, in which what both share (a faster HBM helps both) cancels. Else its centre
and the corner where the difference falls are tried for a counter-example, and it is halved along
the axis that contributes most.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.metrics import METRICS
from qsjax.grid.bounds import ELEMENTS, Bounds, Boxes, Judge, most_apart
from qsjax.grid.cells import concatenated, take
from qsjax.grid.scoring import TIE_TOLERANCE
from qsjax.numerics import trees
from qsjax.numerics.intervals import ROUNDING

MOST_PARTS = 20_000  # judged before the rest is left undecided
TOGETHER = 64  # parts judged at a time, at most
SMALLEST = 2.0**-40  # width of a part below which floats tell its ends no longer apart
SAMPLES = 128  # points and corners that are tried first


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a box.

    Attributes:
        contestant: it is the best one, if there are several.
        position: its best design has this place, if that is claimed.
        resource: the time of its best design goes to this resource most, if that is claimed; its
            judge must have been made for it.
    """

    contestant: int = 0
    position: int | None = None
    resource: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a claim.

    Attributes:
        proved: share of the box (by logarithms) in which it surely holds.
        refuted: a point of the unit cube at which it does not hold, if one was found.
        parts: of the box that were judged.
        evaluated: designs times parts that were judged.
    """

    proved: float
    refuted: np.ndarray | None
    parts: int
    evaluated: int

    @property
    def holds(self) -> bool:
        """Whether it was proved in the whole box."""
        return self.refuted is None and self.proved >= 1.0


class _Queue(NamedTuple):
    """Parts that are not settled, and which designs of each contestant may be best there."""

    boxes: Boxes
    active: tuple[np.ndarray, ...]


def _column(bounds: Bounds, at: np.ndarray) -> Bounds:
    """The bounds of one design a box: arrays of shape (boxes, 1)."""

    def pick(x: Any) -> Any:
        return np.take_along_axis(x, at[:, None], axis=1) if isinstance(x, np.ndarray) else x

    return trees.map(pick, bounds)


def _largest(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(low), np.abs(high))


class Lead(NamedTuple):
    """Lead of one design per box over others: logarithm of a ratio, shape (boxes, designs).

    `parts` is each parameter's share in its uncertainty, `slopes` its middle slope along each.
    """

    least: np.ndarray
    parts: np.ndarray
    slopes: np.ndarray


def lead(one: Bounds, others: Bounds, sign: float) -> Lead:
    """How far one design is surely ahead.

    Args:
        one: bounds of shape (boxes, 1).
        others: of shape (boxes, designs).
        sign: 1 where more is better, -1 where less is.
    """
    with np.errstate(all="ignore"):
        ahead = sign * (np.log(one.at_centre) - np.log(others.at_centre))
        first, second = (one, others) if sign > 0 else (others, one)
        apart = np.log(first.low) - np.log(second.high)
        parts, slopes = [], []
        for own, other in zip(one.slopes[: one.shared], others.slopes[: one.shared], strict=True):
            parts.append(most_apart(own, other))
            slopes.append(0.5 * sign * ((own[0] - other[1]) + (own[1] - other[0])))
        radius = np.stack(parts)
        mine, theirs = (side.slopes[side.shared :] for side in (one, others))
        is_same = (one.memory == others.memory) & (len(mine) == len(theirs))
        together = sum(
            (most_apart(x, y) for x, y in zip(mine, theirs, strict=False)), np.zeros(ahead.shape)
        )
        # Batches are rounded each by itself, unless they are equal everywhere.
        for side, remainders in ((one, mine), (others, theirs)):
            rest = sum((_largest(*slope) for slope in remainders), np.zeros(ahead.shape))
            rest = np.where(is_same, 0.5 * together, rest)
            moves = np.stack([_largest(*slope) for slope in side.batch_slopes])
            total = moves.sum(axis=0)
            # Only a batch that does not change any more has no remainder.
            share = np.where(total > 0, moves / np.where(total > 0, total, 1.0), 1.0 / len(moves))
            radius = radius + share * rest
        least = ahead - radius.sum(axis=0)
    least = np.fmax(np.where(np.isnan(least), -np.inf, least), apart) - ROUNDING
    return Lead(least, np.nan_to_num(radius, posinf=1e9), np.nan_to_num(np.stack(slopes)))


class Arena:
    """Contestants over one box: the designs of each, bounded together."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.judges = list(judges)
        self.sign = -1.0 if METRICS[judges[0].cells.objective].less_is_better else 1.0
        self.parameters = len(judges[0].region.parameters)

    def everything(self, parts: int = 1) -> tuple[np.ndarray, ...]:
        """All designs of each contestant, for so many parts."""
        return tuple(np.ones((parts, judge.cells.count), bool) for judge in self.judges)

    def scores(self, units: np.ndarray, active: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logarithmic scores at points, exactly, by contestant: (points, designs), -inf if none."""
        tables = []
        for judge, mask in zip(self.judges, active, strict=True):
            at = np.flatnonzero(mask.any(axis=0))
            table = np.full(mask.shape, -np.inf)
            judged = judge.exact(units, judge.designs(at))
            runs = (np.asarray(judged.reasons) == 0) & (np.asarray(judged.broken) == 0)
            with np.errstate(all="ignore"):
                score = np.where(runs, self.sign * np.log(judged.value), -np.inf)
            table[:, at] = np.where(mask[:, at], score, -np.inf)
            tables.append(table)
        return tables

    def disagree(self, claim: Claim, units: np.ndarray, active: Sequence[np.ndarray]) -> np.ndarray:
        """Whether a claim is wrong at points."""
        tables = self.scores(units, active)
        table = tables[claim.contestant]
        mine = table.max(axis=1, initial=-np.inf)
        others = [t.max(axis=1, initial=-np.inf) for k, t in enumerate(tables)]
        top = np.max(others, axis=0)
        wrong = ~(mine >= top - TIE_TOLERANCE) | (mine == -np.inf)
        if claim.position is not None:
            wrong |= table[:, claim.position] < mine - TIE_TOLERANCE
        if claim.resource is not None:
            judge = self.judges[claim.contestant]
            at = np.where(wrong, -1, table.argmax(axis=1))
            for best in np.unique(at[~wrong]):
                rows = np.flatnonzero(at == best)
                own = judge.exact(units[rows], judge.designs(np.array([best])))
                for gap in own.ahead.values():
                    wrong[rows] |= np.broadcast_to(gap, (len(rows), 1))[:, 0] < 0
        return wrong

    def prove(self, claim: Claim, most: int = MOST_PARTS) -> Verdict:
        """Prove or refute a claim in the whole box."""
        whole = Boxes.whole(self.parameters)
        sample = np.random.default_rng(0).random((2 * SAMPLES, self.parameters))
        sample[SAMPLES:] = np.round(sample[SAMPLES:])
        for units in np.array_split(np.concatenate([whole.middle, sample]), 8):
            wrong = self.disagree(claim, units, self.everything(len(units)))
            if wrong.any():
                return Verdict(0.0, units[wrong][0], 0, 0)
        queue, proved, parts, evaluated = _Queue(whole, self.everything()), 0.0, 0, 0
        while len(queue.boxes.low) and parts < most:
            together = min(TOGETHER, max(1, ELEMENTS // max(1, _designs(queue))))
            own, queue = (take(queue, at) for at in (slice(together), slice(together, None)))
            count = len(own.boxes.low)
            parts, evaluated = parts + count, evaluated + count * _designs(own)
            look = _look(self, claim, own)
            proved += float(own.boxes.share[look.settled].sum())
            is_open = ~look.settled
            if not is_open.any():
                continue
            left: _Queue = take(_Queue(own.boxes, look.active), is_open)
            corner, axis = look.corner[is_open], look.axis[is_open]
            for units in (corner, left.boxes.middle):
                wrong = np.flatnonzero(self.disagree(claim, units, left.active))
                if len(wrong):
                    return Verdict(proved, units[wrong[0]], parts, evaluated)
            queue = concatenated(queue, halved(left, axis))
        done = 1.0 if not len(queue.boxes.low) else min(proved, 1.0)
        return Verdict(done, None, parts, evaluated)


def _designs(queue: _Queue) -> int:
    """Designs that may be best in some of the next parts: they are bounded together."""
    return sum(int(mask.any(axis=0).sum()) for mask in take(queue.active, slice(TOGETHER)))


def halved(queue: Any, axis: np.ndarray) -> Any:
    """Both halves of the `boxes` of a queue, with what else it knows of each."""
    return concatenated(*(queue._replace(boxes=own) for own in queue.boxes.halved(axis)))


class _Look(NamedTuple):
    """Result of one pass over parts: settled ones, active designs, axis to cut, point to try."""

    settled: np.ndarray
    active: tuple[np.ndarray, ...]
    axis: np.ndarray
    corner: np.ndarray


def _spread(table: np.ndarray, at: np.ndarray, count: int, fill: Any) -> np.ndarray:
    """A table of some designs as one of all."""
    full = np.full((len(table), count), fill)
    full[:, at] = table
    return full


def _tightest(arena: Arena, ones: Sequence[Bounds], others: Sequence[Bounds]) -> Lead:
    """The least lead over all pairs of forms (a batch at each of its two values)."""
    tightest = None
    for i, one in enumerate(ones):
        for k, other in enumerate(others):
            pair = lead(one, other, arena.sign)
            if i != k and len(ones) > 1:  # not both where their batches are equal everywhere
                pair = pair._replace(least=np.where(one.memory == other.memory, np.inf, pair.least))
            if tightest is None:
                tightest = pair
                continue
            is_less = pair.least < tightest.least
            tightest = Lead(
                np.where(is_less, pair.least, tightest.least),
                np.where(is_less, pair.parts, tightest.parts),
                np.where(is_less, pair.slopes, tightest.slopes),
            )
    assert tightest is not None  # there is a form of each
    return tightest


class _Found:
    """What is known of some parts while their rivals are beaten one after another."""

    def __init__(self, count: int, parameters: int) -> None:
        self.settled = np.ones(count, bool)
        self.worst = np.full(count, np.inf)
        self.parts = np.zeros((parameters, count))
        self.slopes = np.zeros((parameters, count))

    def meet(self, rivals: np.ndarray, gap: Lead) -> None:
        """Rivals that are not beaten: the one that is furthest from it says where to cut."""
        self.settled &= ~rivals.any(axis=1)
        if not rivals.shape[1]:
            return
        rows = np.arange(len(rivals))
        least = np.where(rivals, gap.least, np.inf)
        at = least.argmin(axis=1)
        self.note(least[rows, at], gap.parts[:, rows, at], gap.slopes[:, rows, at])

    def note(self, least: np.ndarray, parts: np.ndarray, slopes: np.ndarray) -> None:
        """Something that holds by so little."""
        is_worse = least < self.worst
        self.worst = np.where(is_worse, least, self.worst)
        self.parts = np.where(is_worse, parts, self.parts)
        self.slopes = np.where(is_worse, slopes, self.slopes)


def _champion(arena: Arena, claim: Claim, own: Bounds, mask: np.ndarray, at: np.ndarray) -> Any:
    """Place of the design that must beat the rivals of each part."""
    if claim.position is not None:
        return np.full(len(mask), np.searchsorted(at, claim.position))
    with np.errstate(all="ignore"):
        score = arena.sign * np.log(own.at_centre)
    return np.where(mask & own.runs, score, -np.inf).argmax(axis=1)


def _look(arena: Arena, claim: Claim, queue: _Queue) -> _Look:
    """Two passes: all designs, then those that are left, with small batches one by one."""
    boxes, rows, active = queue.boxes, np.arange(len(queue.boxes.low)), list(queue.active)
    found = _Found(len(rows), arena.parameters)
    for passing in range(2):
        at = [np.flatnonzero(mask.any(axis=0)) for mask in active]
        own = claim.contestant
        if not len(at[own]):
            found.settled[:] = False
            break
        if passing and found.settled.all():
            break
        bounds = [j.bound(boxes, places) for j, places in zip(arena.judges, at, strict=True)]
        masks = [m[:, p] & b.may_run for m, p, b in zip(active, at, bounds, strict=True)]
        forms = [(b,) for b in bounds]
        if passing:
            steps = [b.batch[1] - b.batch[0] == 1.0 for b in bounds]
            if not any((step & mask).any() for step, mask in zip(steps, masks, strict=True)):
                break
            pairs = zip(arena.judges, at, bounds, strict=True)
            forms = [j.by_batch(boxes, places, b) for j, places, b in pairs]  # type: ignore[misc]
        found = _Found(len(rows), arena.parameters)
        champion = _champion(arena, claim, bounds[own], masks[own], at[own])
        runs = bounds[own].runs[rows, champion]
        ones = [_column(form, champion) for form in forms[own]]
        # What moves the batch decides whether a design runs.
        slopes = (np.nan_to_num(_largest(*x), posinf=1e9) for x in bounds[own].batch_slopes)
        moves = np.stack([x[rows, champion] for x in slopes])
        found.note(np.where(runs, np.inf, -np.inf), moves, np.zeros_like(moves))
        found.settled &= runs
        for k, mask in enumerate(masks):
            gap = _tightest(arena, ones, forms[k])
            left = mask & ~(runs[:, None] & (gap.least > 0))
            rivals = left.copy()
            if k == own:
                left[rows, champion] = mask[rows, champion]
                alike = arena.judges[k].alike[at[k]]
                rivals &= (alike != alike[champion][:, None]) & (claim.position is not None)
                if claim.resource is not None:
                    _slowest(found, forms[k], left)
            found.meet(rivals, gap)
            active[k] = _spread(left, at[k], active[k].shape[1], fill=False)
    # Where nothing tells an axis apart, the widest is cut.
    width = (boxes.high - boxes.low).T
    parts = np.where(width > SMALLEST, found.parts + 1e-9 * width, -1.0)
    corner = np.where(found.slopes.T > 0, boxes.low, boxes.high)
    return _Look(found.settled, tuple(active), parts.argmax(axis=0), corner)


def _slowest(found: _Found, forms: Sequence[Bounds], left: np.ndarray) -> None:
    """Whether the named resource takes most of the time of every design that is left."""
    rows = np.arange(len(left))
    for form in forms:
        least = np.where(left, form.ahead, np.inf)
        at = least.argmin(axis=1)
        fails = least[rows, at] < 0
        found.settled &= ~fails
        parts = np.stack([np.nan_to_num(x[rows, at], posinf=1e9) for x, _ in form.ahead_parts])
        slopes = np.stack([np.nan_to_num(x[rows, at]) for _, x in form.ahead_parts])
        # Of two things that fail, a rival comes first: it may be what has another bottleneck.
        found.note(np.where(fails, -1e-300, np.inf), parts, slopes)
