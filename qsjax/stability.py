"""How far each parameter may move before the best split, its bottleneck or the winner changes.

A derivative holds for the design that is best now. These factors say for how long it is.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qsjax.ledger import RESOURCES
from qsjax.sensitivity.parameters import Inputs, Parameter, factor_bounds, read, resolve, write
from qsjax.sensitivity.cells import Problem, best_of, take
from qsjax.sensitivity.solution import Solution, design_label

KINDS = ("partition", "resource", "winner")
SPAN = 16.0
SCAN_STEPS = 16  # factors tried on each side: a change and its return between two are not seen
BISECTIONS = 24
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
        down = np.where(np.isnan(self.down), -np.inf, self.down).max(axis=0)
        up = np.where(np.isnan(self.up), np.inf, self.up).min(axis=0)
        return np.where(np.isfinite(down), down, np.nan), np.where(np.isfinite(up), up, np.nan)

    def describe(self, kind: str, to: int) -> str:
        """What a kind changes to, in words."""
        if kind == "resource":
            return list(RESOURCES)[to]
        if kind == "winner":
            return {-1: "neither feasible", 0: "moe", 1: "dense"}[to]
        if to < 0:
            return "infeasible"
        label = design_label(self.solution.problem, to)
        return " ".join(f"{name}={value}" for name, value in label.items())


class _Varier:
    """States of cells under scaled parameters, in blocks of the problem's own number of rows."""

    def __init__(self, problem: Problem, parameters: tuple[Parameter, ...]) -> None:
        self.problem, self.parameters = problem, parameters
        self.block = len(problem.inputs.q)
        self.partner_of = np.arange(problem.cells) % (problem.cells // problem.shape[0])

    def inputs(self, cell: np.ndarray, which: np.ndarray, factor: np.ndarray) -> Inputs:
        """One row per item: a cell whose parameter `which` is scaled by `factor`."""
        rows: Inputs = take(self.problem.inputs, cell)
        changed: dict[str, np.ndarray] = {}
        for k, parameter in enumerate(self.parameters):
            for name in parameter.members:
                value = changed.get(name, np.asarray(read(rows, name)))
                changed[name] = np.where(which == k, value * factor, value)
        return write(rows, changed)

    def _best(
        self, cell: np.ndarray, which: np.ndarray, factor: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(cell)
        padding = -count % self.block
        padded = (np.pad(x, (0, padding), mode="edge") for x in (cell, which, factor))
        rows = self.inputs(*padded)
        parts = [
            best_of(
                take(rows, slice(k, k + self.block)), self.problem.designs, self.problem.objective
            )
            for k in range(0, count + padding, self.block)
        ]
        columns = [
            (np.asarray(b.position), np.asarray(b.resource), np.asarray(b.score)) for b in parts
        ]
        position, resource, score = (np.concatenate(x)[:count] for x in zip(*columns, strict=True))
        return position, resource, score

    def states(
        self, cell: np.ndarray, which: np.ndarray, factor: np.ndarray, *, verdict: bool
    ) -> State:
        """States of the items; the verdict costs a second search, of the MoE beside each twin."""
        position, resource, score = self._best(cell, which, factor)
        is_feasible = np.isfinite(score)
        winner = np.zeros(len(cell), dtype=int)
        if verdict:
            other = self._best(self.partner_of[cell], which, factor)[2]
            winner = np.where(is_feasible | np.isfinite(other), score > other, -1)
        return State(
            np.where(is_feasible, position, -1), np.where(is_feasible, resource, -1), winner
        )


def _first_changes(
    varier: _Varier, base: State, which: int, side: np.ndarray, twins: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Kind, cells, and the factors before and at the first change along the scan `side`."""
    cells, steps = len(base.winner), len(side)
    cell = np.tile(np.arange(cells), steps)
    factor = np.repeat(side, cells)
    state = varier.states(cell, np.full(cell.shape, which), factor, verdict=bool(twins.any()))
    found = []
    for kind in range(len(KINDS)):
        changed = state[kind].reshape(steps, cells) != base[kind]
        if KINDS[kind] == "winner":
            changed &= twins
        if KINDS[kind] == "resource":  # an infeasible cell has no bottleneck: that is its partition
            changed &= state[kind].reshape(steps, cells) >= 0
        at = np.flatnonzero(changed.any(axis=0))
        first = changed[:, at].argmax(axis=0)
        found.append((kind, at, np.concatenate([[1.0], side])[first], side[first]))
    return found


def switches(solution: Solution, parameters: Sequence[str], span: float = SPAN) -> Switches:
    """Factors at which the best design, its binding resource, or the winner changes.

    The winner is tokens/s/GPU (or the objective) of a dense twin against the MoE, each at its own
    best design; for the MoE's own cells it is the nearest change against any twin. Each side is
    scanned in steps of span^(1/16) and the first change is bisected to 1e-8.

    Args:
        solution: from `solve`.
        parameters: names as for `sensitivity`.
        span: factors from 1/span to span are tried, within the fields' allowed values.

    Raises:
        ValueError: a name is not a parameter, or `span` is not above 1.
    """
    if not span > 1.0:
        raise ValueError(f"span={span:g} leaves nothing to vary; give a factor above 1, such as 16")
    chosen, problem = resolve(parameters), solution.problem
    varier, cells = _Varier(problem, chosen), problem.cells
    everything = np.arange(cells)
    base = varier.states(everything, np.zeros(cells, int), np.ones(cells), verdict=True)
    twins = everything >= cells // problem.shape[0]
    limits = np.array([factor_bounds(solution.winners.inputs, p, span) for p in chosen])
    items: list[tuple[np.ndarray, ...]] = []
    for which, parameter in enumerate(chosen):
        values = [np.asarray(read(solution.winners.inputs, name)) for name in parameter.members]
        if parameter.name in INERT or not np.any(values):
            continue
        for side, end in enumerate(limits[which]):
            if end == 1.0:
                continue
            scan = np.geomspace(1.0, end, SCAN_STEPS + 1)[1:]
            for kind, at, before, after in _first_changes(varier, base, which, scan, twins):
                same = np.ones(len(at), dtype=int)
                items.append((kind * same, which * same, side * same, at, before, after))
    shape = (len(KINDS), len(chosen), cells)
    factors, to = np.full((2, *shape), np.nan), np.full((2, *shape), -1)
    if items:
        columns = [np.concatenate(x) for x in zip(*items, strict=True)]
        index = (columns[2], columns[0], columns[1], columns[3])
        factors[index], to[index] = _bisect(varier, base, columns)
    _winner_of_the_moe(factors, to, problem)
    return Switches(solution, chosen, factors[0], factors[1], to[0], to[1], *limits.T)


def _bisect(
    varier: _Varier,
    base: State,
    items: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Factor at which each item changes, and what to: all items at once, in log factor."""
    kind, which, _, cell, before, after = items
    is_winner = kind == KINDS.index("winner")
    to = np.full(len(kind), -1)
    low, high = np.log(before), np.log(after)
    for last in [False] * BISECTIONS + [True]:
        middle = high if last else 0.5 * (low + high)
        state = np.empty(len(kind), dtype=int)
        for verdict in (False, True):
            own = is_winner == verdict
            if own.any():
                found = varier.states(cell[own], which[own], np.exp(middle[own]), verdict=verdict)
                state[own] = np.stack(found)[kind[own], np.arange(own.sum())]
        if last:
            to = state
            break
        has_changed = state != np.stack(base)[kind, cell]
        low, high = np.where(has_changed, low, middle), np.where(has_changed, middle, high)
    return np.exp(high), to


def _winner_of_the_moe(factors: np.ndarray, to: np.ndarray, problem: Problem) -> None:
    """Fill in the MoE's cells: the nearest change of its order with any twin."""
    variants, kind = problem.shape[0], KINDS.index("winner")
    if variants < 2:
        return
    by_variant = factors[:, kind].reshape(2, -1, variants, problem.cells // variants)
    to_variant = to[:, kind].reshape(by_variant.shape)
    distance = np.abs(np.log(by_variant[:, :, 1:]))
    nearest = np.where(np.isnan(distance), np.inf, distance).argmin(axis=2)[:, :, None]
    for target in (by_variant, to_variant):
        target[:, :, :1] = np.take_along_axis(target[:, :, 1:], nearest, axis=2)
