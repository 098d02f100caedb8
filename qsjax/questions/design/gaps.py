"""How much better hardware can be than what was found: branch and bound over all hardware.

A box of hardware is dropped where even its best corner is no better than the answer, where its
cheapest corner costs too much, or where a tangent says so: the mix is concave in the logarithms of
rates, and cost is convex in those of hardware, so a slope of each bounds what money can buy there
(a fractional knapsack, solved by its dual).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from qsjax.grid.bounds import ELEMENTS, Bounds, Boxes, Judge, region_of
from qsjax.grid.cells import Cells, concatenated, take
from qsjax.grid.optimum import is_fastest_with_one
from qsjax.grid.parameters import read, resolve
from qsjax.grid.proofs import halved
from qsjax.questions.design.costs import affordable, cost_of, cost_slopes, members
from qsjax.questions.design.tasks import SPAN, Task

TOGETHER = 128  # boxes judged at a time, at most
COMBINATIONS = 512  # of designs of all workloads that are bounded together
PROVEN = 1e-6  # relative gap below which an answer counts as the best there is
# Gap at which a search that has judged so many boxes ends: predictions err by more.
ENOUGH, EARLY = 0.005, 4_000


class Gap(NamedTuple):
    """What is known of the best hardware: the answer's factors, and how much better one may be."""

    factors: np.ndarray
    gap: float
    boxes: int


class _Queue(NamedTuple):
    boxes: Boxes
    bound: np.ndarray
    active: list[np.ndarray]


def bought(slope: np.ndarray, price: np.ndarray, money: np.ndarray) -> tuple[np.ndarray, Any]:
    """Most that sum(slope * t) reaches for t from -1 to 1 whose sum(price * t) is within money.

    A linear program with one constraint: the least value of its dual at the prices' break points.

    Args:
        slope: of shape (..., quantity).
        price: above 0, of the same shape.
        money: of shape (...).

    Returns:
        The maximum, and the multiplier of the constraint.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        points = np.concatenate([np.zeros_like(slope[..., :1]), slope / price], axis=-1)
    points = np.maximum(np.nan_to_num(points), 0.0)
    left = np.abs(slope[..., None, :] - points[..., :, None] * price[..., None, :]).sum(-1)
    value = points * money[..., None] + left
    at = value.argmin(axis=-1)[..., None]
    return tuple(np.take_along_axis(x, at, axis=-1)[..., 0] for x in (value, points))  # type: ignore[return-value]


class Search:
    """Branch and bound for one task."""

    def __init__(self, task: Task) -> None:
        self.task, cells = task, _at_one_batch(task.stated)
        self.sign = task.sign
        parameters = resolve(task.quantities)
        self.judges = []
        for cell in range(cells.cells):
            reference = {
                field: float(np.asarray(read(cells.inputs, field))[cell])
                for name in task.quantities
                for field in members(name)
            }
            ends = {field: (x / SPAN, x * SPAN) for field, x in reference.items()}
            self.judges.append(Judge(cells, cell, region_of(cells, cell, parameters, ends)))

    def factors(self, unit: np.ndarray) -> np.ndarray:
        """Factors of the reference at points of the unit cube."""
        return SPAN ** (2.0 * unit - 1.0)

    def costs(self, unit: np.ndarray) -> np.ndarray:
        """What points of the unit cube cost."""
        return cost_of(self.task.cost, self.factors(unit))

    @np.errstate(all="ignore")  # designs that run nowhere score the logarithm of 0
    def run(self, answer: np.ndarray, merit: float, most: int) -> Gap:
        """The gap of an answer, and a better answer if one was met.

        Args:
            answer: factors.
            merit: what is maximised, as the logarithm of a mix, or minus that of a cost.
            most: boxes that are judged before the gap is what it is by then.
        """
        task, count = self.task, len(self.judges)
        boxes, done = 0, np.inf
        whole = Boxes.whole(len(task.quantities))
        active = [np.ones((1, self.judges[0].cells.count), bool) for _ in range(count)]
        queue = _Queue(whole, np.full(1, np.inf), active)
        while len(queue.bound) and boxes < most:
            if boxes >= EARLY and done - merit < np.log1p(ENOUGH):
                break
            order = np.argsort(-queue.bound, kind="stable")
            together = max(1, min(TOGETHER, ELEMENTS // max(1, self._designs(queue, order))))
            head, queue = (take(queue, at) for at in np.split(order, [together]))
            boxes += len(head.bound)
            head, axis = self._judged(head, merit)
            answer, merit = self._tried(head, answer, merit)
            is_open = head.bound > merit + PROVEN
            queue = concatenated(queue, halved(take(head, is_open), axis[is_open]))
            queue = take(queue, queue.bound > merit + PROVEN)
            done = max(merit, float(queue.bound.max(initial=-np.inf)))
        return Gap(answer, float(np.expm1(max(0.0, done - merit))), boxes)

    def _designs(self, queue: _Queue, order: np.ndarray) -> int:
        head = take(queue.active, order[:TOGETHER])
        return max(int(mask.any(axis=0).sum()) for mask in head)

    def _tried(self, queue: _Queue, answer: np.ndarray, merit: float) -> tuple[np.ndarray, float]:
        """A better answer, where the centre of the most promising box is one."""
        task = self.task
        if not len(queue.bound) or task.budget is None:
            return answer, merit
        best = np.argsort(-queue.bound)[:2]
        middle = self.factors(queue.boxes.middle[best])
        factors = np.clip(affordable(task.cost, middle, task.budget), 1 / SPAN, SPAN)
        merits = task.exact(task.search(factors))
        merits = np.where(cost_of(task.cost, factors) <= task.budget * (1 + 1e-9), merits, -np.inf)
        k = int(np.argmax(merits))
        return (factors[k], float(merits[k])) if merits[k] > merit else (answer, merit)

    def _judged(self, queue: _Queue, merit: float) -> tuple[_Queue, np.ndarray]:
        """Bounds of boxes, the designs that still matter there, and where to cut."""
        boxes = queue.boxes
        axis = (boxes.high - boxes.low).argmax(axis=1)
        places = [np.flatnonzero(mask.any(axis=0)) for mask in queue.active]
        tops = []
        for judge, at, mask in zip(self.judges, places, queue.active, strict=True):
            low, high, may_run = judge.ranges(boxes, at)
            with np.errstate(all="ignore"):
                score = np.log(high) if self.sign > 0 else -np.log(low)
            score = np.where(np.isnan(score), np.inf, score)
            tops.append(np.where(may_run & mask[:, at], score, -np.inf))
        bound, needed = self._bounded(queue, tops, merit)
        active = []
        for mask, at, top, least in zip(queue.active, places, tops, needed, strict=True):
            kept = np.zeros_like(mask)
            kept[:, at] = top > least[:, None]
            active.append(kept)
        queue = _Queue(boxes, np.minimum(queue.bound, bound), active)
        rows = np.flatnonzero(queue.bound > merit + PROVEN)
        if len(rows):
            part: _Queue = take(queue, rows)
            sloped, cut = self._sloped(part, merit)
            queue.bound[rows] = np.minimum(queue.bound[rows], sloped)
            axis[rows] = cut
            for mask, left in zip(queue.active, part.active, strict=True):
                mask[rows] = left
        return queue, axis

    def _bounded(
        self, queue: _Queue, tops: list[np.ndarray], merit: float
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Bounds from the best each workload can have, and what a design of it must reach."""
        task = self.task
        top = np.stack([score.max(axis=1, initial=-np.inf) for score in tops], axis=-1)
        least_cost = self.costs(queue.boxes.low)
        if task.targets is None:
            with np.errstate(all="ignore"):
                parts = task.weights * np.exp(-top)
                bound = np.where(least_cost > task.budget, -np.inf, -np.log(parts.sum(axis=-1)))
                room = np.exp(-merit) - (parts.sum(axis=-1)[:, None] - parts)
                needed = np.where(room > 0, -np.log(room / task.weights), np.inf)
            return bound, list(needed.T)
        wanted = self.wanted
        meets = (top >= wanted).all(axis=-1)
        bound = np.where(meets, -np.log(least_cost), -np.inf)
        return bound, [np.full(len(top), goal - 1e-12) for goal in wanted]

    @property
    def wanted(self) -> np.ndarray:
        """Logarithmic scores that meet the targets."""
        return self.sign * np.log(np.asarray(self.task.targets)) - 1e-9

    def _sloped(self, queue: _Queue, merit: float) -> tuple[np.ndarray, np.ndarray]:
        """Bounds from slopes and prices, and the axis to cut; drops designs that cannot matter."""
        boxes = queue.boxes
        half = np.log(SPAN) * (boxes.high - boxes.low)
        middle = self.factors(boxes.middle)
        steep = cost_slopes(self.task.cost, middle) * half
        spent = cost_of(self.task.cost, middle)
        sides = []
        for judge, mask in zip(self.judges, queue.active, strict=True):
            at = np.flatnonzero(mask.any(axis=0))
            bounds = judge.bound(boxes, at)
            runs = mask[:, at] & bounds.may_run
            steps = runs & (bounds.batch[1] - bounds.batch[0] == 1.0)
            if not steps.any():
                sides.append(_side(bounds, runs, self.sign))
                continue
            forms = judge.by_batch(boxes, at, bounds)
            both = [
                _side(form, is_run, self.sign)
                for form, is_run in zip(forms, (runs, steps), strict=True)
            ]
            sides.append(_Side(*(np.concatenate(x, axis=1) for x in zip(*both, strict=True))))
        if self.task.targets is None:
            money = self.task.budget - spent
            tops = []
            for side in sides:  # what money buys for each design by itself
                value, _ = bought(side.slope, steep[:, None, :], money[:, None])
                each = np.nan_to_num(side.centre + side.spread + value, nan=np.inf)
                tops.append(np.where(side.centre > -np.inf, each, -np.inf))
            bound, needed = self._bounded(queue, tops, merit)
            for k, (mask, top, least) in enumerate(zip(queue.active, tops, needed, strict=True)):
                at = np.flatnonzero(mask.any(axis=0))
                kept = top > least[:, None]
                sides[k] = sides[k]._replace(centre=np.where(kept, sides[k].centre, -np.inf))
                mask[:, at] &= kept.reshape(len(kept), -1, len(at)).any(axis=1)
            mixed, axis = _most(self.task, sides, steep, money)
            return np.minimum(mixed, bound), axis
        return _least(sides, self.wanted, steep, spent)


class _Side(NamedTuple):
    """Tangents of the designs of one workload: arrays (boxes, designs[, quantity]).

    Designs whose batch has two values in some box come twice, at each of them.
    """

    centre: np.ndarray
    slope: np.ndarray
    radius: np.ndarray
    rest: np.ndarray
    moves: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """What the tangents leave open."""
        return np.nan_to_num(self.radius.sum(axis=-1) + self.rest, nan=np.inf)

    def parts(self) -> np.ndarray:
        """By quantity, its part in what is open; a batch's by what moves the batch."""
        total = self.moves.sum(axis=-1, keepdims=True)
        share = self.moves / np.where(total > 0, total, 1.0)
        return np.nan_to_num(self.radius + share * self.rest[..., None], posinf=1e9)


def _side(bounds: Bounds, runs: np.ndarray, sign: float) -> _Side:
    centre = sign * np.log(bounds.at_centre)
    ends = np.stack([np.stack(slope) for slope in bounds.slopes])
    size = np.abs(ends).max(axis=1)
    shared = ends[: bounds.shared]
    return _Side(
        centre=np.where(runs, centre, -np.inf),
        slope=np.moveaxis(0.5 * sign * shared.sum(axis=1), 0, -1),
        radius=np.moveaxis(0.5 * (shared[:, 1] - shared[:, 0]), 0, -1),
        rest=size[bounds.shared :].sum(axis=0),
        moves=np.moveaxis(np.abs(np.stack([s[1] for s in bounds.batch_slopes])), 0, -1),
    )


def _most(
    task: Task, sides: list[_Side], steep: np.ndarray, money: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bound of the mix that money buys in each box, over combinations of designs."""
    rows = len(steep)
    bound, axis = np.full(rows, np.inf), np.zeros(rows, int)
    for row in range(rows):
        at = [np.flatnonzero(side.centre[row] > -np.inf) for side in sides]
        within = [_Side(*(x[row][k] for x in side)) for side, k in zip(sides, at, strict=True)]
        if np.prod([len(places) for places in at], dtype=float) <= COMBINATIONS:
            bound[row], axis[row] = _combined(task, within, steep[row], money[row])
        else:
            parts = [np.median(side.parts() + np.abs(side.slope), axis=0) for side in within]
            axis[row] = np.sum(parts, axis=0).argmax()
    return bound, axis


def _combined(task: Task, sides: list[_Side], steep: np.ndarray, money: float) -> tuple[float, int]:
    """`_most` in one box: the tangent of the mix, for every combination of its designs."""
    counts = [len(side.centre) for side in sides]
    if not all(counts):
        return -np.inf, 0
    grid = [g.ravel() for g in np.meshgrid(*map(np.arange, counts), indexing="ij")]
    centre = np.stack([side.centre[at] for side, at in zip(sides, grid, strict=True)], axis=-1)
    mixed = task.mix(centre)
    share = task.weights * np.exp(mixed[..., None] - centre)
    slope, parts = np.zeros((len(mixed), len(steep))), np.zeros((len(mixed), len(steep)))
    spread = np.zeros(len(mixed))
    for k, (side, at) in enumerate(zip(sides, grid, strict=True)):
        slope = slope + share[:, k, None] * side.slope[at]
        spread = spread + share[:, k] * side.spread[at]
        parts = parts + share[:, k, None] * side.parts()[at]
    value, price = bought(slope, np.broadcast_to(steep, slope.shape), np.full(len(slope), money))
    bound = np.nan_to_num(mixed + spread + value, nan=np.inf)
    best = int(bound.argmax())
    cut = parts[best] + np.abs(slope[best] - price[best] * steep)
    return float(bound[best]), int(cut.argmax())


def _least(
    sides: list[_Side], wanted: np.ndarray, steep: np.ndarray, spent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minus the logarithm of the least cost in each box that may meet every target."""
    rows = np.arange(len(steep))
    bound, cut = np.zeros(len(steep)), np.zeros(steep.shape)
    least = np.full(len(steep), -np.inf)
    for side, goal in zip(sides, wanted, strict=True):
        # The cheapest way to a target: what it takes is what money buys, seen from the other side.
        price = np.broadcast_to(steep[:, None], side.slope.shape)
        need = goal - side.centre - side.spread
        with np.errstate(divide="ignore", invalid="ignore"):
            points = np.maximum(np.nan_to_num(price / side.slope, posinf=0.0, neginf=0.0), 0.0)
        left = np.abs(price[..., None, :] - points[..., :, None] * side.slope[..., None, :])
        with np.errstate(invalid="ignore"):
            dual = points * need[..., None] - left.sum(axis=-1)
        best = np.nan_to_num(dual, nan=-np.inf).argmax(axis=-1)[..., None]
        worth = np.take_along_axis(points, best, axis=-1)
        cost = np.fmax(np.take_along_axis(dual, best, axis=-1)[..., 0], -price.sum(axis=-1))
        reach = np.abs(side.slope).sum(axis=-1)
        cost = np.where((side.centre > -np.inf) & (need <= reach), cost, np.inf)
        at = cost.argmin(axis=1)
        cost_here = spent + cost[rows, at]
        is_more = cost_here > least
        least = np.where(is_more, cost_here, least)
        value = worth[rows, at]
        left = np.abs(steep - value * side.slope[rows, at]) + value * side.parts()[rows, at]
        cut = np.where(is_more[:, None], left, cut)
    with np.errstate(all="ignore"):
        bound = np.where(np.isposinf(least), -np.inf, -np.log(np.maximum(least, 1e-300)))
    return bound, cut.argmax(axis=1)


def _at_one_batch(cells: Cells) -> Cells:
    """Designs with the batch that serves one user best, where that is what is asked."""
    if not cells.any_batch:
        return cells
    ones = cells.designs._replace(batch=np.ones(cells.count))
    return dataclasses.replace(cells, designs=ones, any_batch=False)


def has_bounds(cells: Cells) -> bool:
    """Whether there are bounds: not where every batch is tried within limits."""
    return not cells.any_batch or is_fastest_with_one(cells)
