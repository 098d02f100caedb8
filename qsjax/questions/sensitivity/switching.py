"""How far each parameter may move before the best split, its bottleneck or the winner changes.

A derivative holds for the design that is best now. These factors say for how long it is.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qsjax.cost.ledger import RESOURCES
from qsjax.grid.cells import Cells, take
from qsjax.grid.optimum import Best, best_of, binding_resource, winners_at
from qsjax.grid.parameters import Inputs, Parameter, factor_bounds, read, resolve, write
from qsjax.grid.solution import Solution, design_label
from qsjax.numerics.loading import in_float64

KINDS = ("partition", "resource", "winner")
SPAN = 16.0
SCAN_STEPS = 16  # factors tried on each side: a change and its return between two are not seen
BISECTIONS, OF_ALL = 24, 4  # of which the first ones compare all designs
# No law of the step depends on them, so nothing can switch.
INERT = ("usd_per_hour", "watts")


class State(NamedTuple):
    """What may change, per row: winner's position (-1: none feasible), resource, verdict."""

    partition: np.ndarray
    resource: np.ndarray
    winner: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Switches:
    """Factors on each parameter at which something changes, shape (kind, parameter, cell).

    Attributes:
        solution: the optima that are varied.
        parameters: along the second axis.
        down: largest factor below 1 at which the kind changes; NaN if it does not down to `low`.
        up: smallest factor above 1, likewise.
        down_to: what it changes to: position of the design (-1: infeasible), index of the
            resource, 1 where the twin wins and 0 where the MoE does (-1: neither is feasible).
        up_to: likewise.
        low: least factor tried, per parameter; physical limits such as efficiency 1 end it earlier.
        high: largest factor tried.
    """

    solution: Solution
    parameters: tuple[Parameter, ...]
    down: np.ndarray
    up: np.ndarray
    down_to: np.ndarray
    up_to: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Nearest factor of any kind below and above 1, shape (parameter, cell); NaN if none."""
        return np.fmax.reduce(self.down), np.fmin.reduce(self.up)

    def describe(self, kind: str, to: int) -> str:
        """New partition, resource or winner, in words."""
        if kind == "resource":
            return list(RESOURCES)[to]
        if kind == "winner":
            return {-1: "neither feasible", 0: "moe", 1: "dense"}[to]
        if to < 0:
            return "infeasible"
        label = design_label(self.solution.cells, to)
        return " ".join(f"{name}={value}" for name, value in label.items())


class _Varier:
    """States of cells under scaled parameters."""

    def __init__(self, stated: Cells, parameters: tuple[Parameter, ...]) -> None:
        self.stated, self.parameters = stated, parameters
        self.partner_of = np.arange(stated.cells) % stated.per_variant

    def inputs(self, cell: np.ndarray, which: np.ndarray, factor: np.ndarray) -> Inputs:
        """One row per item: a cell whose parameter `which` is scaled by `factor`."""
        rows: Inputs = take(self.stated.inputs, cell)
        changed: dict[str, np.ndarray] = {}
        for k, parameter in enumerate(self.parameters):
            for name in parameter.members:
                value = changed.get(name, np.asarray(read(rows, name)))
                changed[name] = np.where(which == k, value * factor, value)
        return write(rows, changed)

    def best(
        self,
        cell: np.ndarray,
        which: np.ndarray,
        factor: np.ndarray,
        among: np.ndarray | None = None,
    ) -> tuple[Best, np.ndarray]:
        """The best design of every item, of `among` if given, and its binding resource."""
        rows = self.inputs(cell, which, factor)
        best = best_of(self.stated, rows, among=among)
        return best, binding_resource(winners_at(self.stated, rows, best))

    def scan(self, which: np.ndarray, factor: np.ndarray) -> State:
        """States of all cells at every (parameter, factor), shape (tries, cells)."""
        cells, tries = self.stated.cells, len(which)
        best, resource = self.best(
            np.tile(np.arange(cells), tries), np.repeat(which, cells), np.repeat(factor, cells)
        )
        flat = (best.position, resource, best.score)
        position, resource, score = (x.reshape(tries, cells) for x in flat)
        return _state(position, resource, score, score[:, self.partner_of])


def _state(
    position: np.ndarray, resource: np.ndarray, score: np.ndarray, other: np.ndarray
) -> State:
    is_feasible = np.isfinite(score)
    winner = np.where(is_feasible | np.isfinite(other), score > other, -1)
    return State(np.where(is_feasible, position, -1), np.where(is_feasible, resource, -1), winner)


def _tries(
    solution: Solution, parameters: tuple[Parameter, ...], limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameter, side (0 down, 1 up) and factors (run, step) of every scan that can change any."""
    runs, factors = [], []
    for which, parameter in enumerate(parameters):
        values = [np.asarray(read(solution.winners.inputs, name)) for name in parameter.members]
        for side, end in enumerate(limits[which]):
            if end != 1.0 and parameter.name not in INERT and np.any(values):
                runs.append((which, side))
                factors.append(np.geomspace(1.0, end, SCAN_STEPS + 1)[1:])
    of_run, sides = np.array(runs, dtype=int).reshape(-1, 2).T
    return of_run, sides, np.array(factors).reshape(-1, SCAN_STEPS)


def _first_changes(
    varier: _Varier, base: State, tries: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> list[np.ndarray]:
    """Kind, parameter, side, cell, and the factors before and at the first change of each scan."""
    which, side, factors = tries
    state = varier.scan(np.repeat(which, SCAN_STEPS), factors.ravel())
    items: list[tuple[np.ndarray, ...]] = []
    for kind, name in enumerate(KINDS):
        now = state[kind].reshape(len(which), SCAN_STEPS, -1)
        changed = now != base[kind]
        if name == "winner":
            changed[..., : varier.stated.per_variant] = False  # the MoE against itself
        if name == "resource":  # an infeasible cell has no bottleneck: that is its partition
            changed &= now >= 0
        run, cell = np.nonzero(changed.any(axis=1))
        first = changed.argmax(axis=1)[run, cell]
        before = np.where(first > 0, factors[run, np.maximum(first - 1, 0)], 1.0)
        after = factors[run, first]
        items.append((np.full(len(run), kind), which[run], side[run], cell, before, after))
    return [np.concatenate(column) for column in zip(*items, strict=True)]


def check_span(span: float) -> None:
    """Raise `ValueError` unless there is something to vary."""
    if not span > 1.0:
        raise ValueError(f"span={span:g} leaves nothing to vary; give a factor above 1, such as 16")


@in_float64
def switches(solution: Solution, parameters: Sequence[str], span: float = SPAN) -> Switches:
    """Factors at which the best design, its binding resource, or the winner changes.

    The winner is tokens/s/GPU (or the objective) of a dense twin against the MoE, each at its own
    best design; for the MoE's own cells it is the nearest change against any twin. Each side is
    scanned in steps of span^(1/16) and the first change is bisected to 1e-8. Arguments and errors
    are those of `switching`.
    """
    check_span(span)
    chosen, stated = resolve(parameters), solution.cells
    varier, cells = _Varier(stated, chosen), stated.cells
    base = State(*(x[0] for x in varier.scan(np.zeros(1, int), np.ones(1))))
    limits = np.array([factor_bounds(solution.winners.inputs, p, span) for p in chosen])
    tries = _tries(solution, chosen, limits)
    factors = np.full((2, len(KINDS), len(chosen), cells), np.nan)
    to = np.full(factors.shape, -1)
    if len(tries[0]):
        items = _first_changes(varier, base, tries)
        index = (items[2], items[0], items[1], items[3])
        factors[index], to[index] = _bisect(varier, base, items)
    _winner_of_the_moe(factors, to, stated)
    return Switches(solution, chosen, factors[0], factors[1], to[0], to[1], *limits.T)


class _Items:
    """Changes that are looked for: each has a kind, and a cell whose parameter is scaled.

    Args:
        varier: of the cells.
        base: states of the cells as they are.
        kind: index in `KINDS` of each item.
        which: index of its parameter.
        cell: its cell.
    """

    def __init__(
        self, varier: _Varier, base: State, kind: np.ndarray, which: np.ndarray, cell: np.ndarray
    ) -> None:
        self._varier, self._kind = varier, kind
        # A verdict needs the MoE's cell beside that of each twin.
        self._beside = np.flatnonzero(kind == KINDS.index("winner"))
        self._cell = np.append(cell, varier.partner_of[cell[self._beside]])
        self._which = np.append(which, which[self._beside])
        self._base = np.stack(base)[kind, cell]

    def states(
        self, log_factor: np.ndarray, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, Best]:
        """What each item is, whether that is another than it was, and the searches behind it."""
        factor = np.exp(np.append(log_factor, log_factor[self._beside]))
        best, resource = self._varier.best(self._cell, self._which, factor, among)
        count = len(self._kind)
        score = best.score[:count]
        other = score.copy()
        other[self._beside] = best.score[count:]
        state = _state(best.position[:count], resource[:count], score, other)
        now = np.stack(state)[self._kind, np.arange(count)]
        return now, now != self._base, best

    def between(
        self, low: np.ndarray, high: np.ndarray, times: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ends, halved so many times, between which each item changes."""
        for _ in range(times):
            middle = 0.5 * (low + high)
            _, has_changed, _ = self.states(middle, among)
            low, high = np.where(has_changed, low, middle), np.where(has_changed, middle, high)
        return low, high


def _bisect(varier: _Varier, base: State, found: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Factor at which each item changes, and what to: all items at once, in log factor.

    Where two factors are near, the best designs at both and their runners-up are compared alone. If
    all designs say otherwise about the ends that this leaves, they are compared throughout.
    """
    kind, which, _, cell, before, after = found
    items = _Items(varier, base, kind, which, cell)
    low, high = items.between(np.log(before), np.log(after), OF_ALL)
    ends = [items.states(end)[2] for end in (low, high)]
    among = np.sort(np.column_stack([x for end in ends for x in (end.position, end.second)]))
    some = None if varier.stated.any_batch else among
    start, end = items.between(low, high, BISECTIONS - OF_ALL, some)
    is_early, (to, is_late, _) = items.states(start)[1], items.states(end)
    if (left := np.flatnonzero(is_early | ~is_late)).size:
        few = _Items(varier, base, kind[left], which[left], cell[left])
        end[left] = few.between(low[left], high[left], BISECTIONS - OF_ALL)[1]
        to[left] = few.states(end[left])[0]
    return np.exp(end), to


def _winner_of_the_moe(factors: np.ndarray, to: np.ndarray, stated: Cells) -> None:
    """Fill in the MoE's cells: the nearest change of its order with any twin."""
    variants, kind = stated.shape[0], KINDS.index("winner")
    if variants < 2:
        return
    by_variant = factors[:, kind].reshape(2, -1, variants, stated.per_variant)
    to_variant = to[:, kind].reshape(by_variant.shape)
    distance = np.abs(np.log(by_variant[:, :, 1:]))
    nearest = np.where(np.isnan(distance), np.inf, distance).argmin(axis=2)[:, :, None]
    for target in (by_variant, to_variant):
        target[:, :, :1] = np.take_along_axis(target[:, :, 1:], nearest, axis=2)
