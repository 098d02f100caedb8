"""Every root of a margin in an interval: scanned for changes of sign, then solved by SciPy."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.optimize import elementwise

from qsjax.cost.meanings import meaning_of
from qsjax.grid.cells import Cells
from qsjax.grid.parameters import read
from qsjax.grid.solution import cell_labels
from qsjax.output.words import value

# Stands for the log ratio where only one side is feasible: larger than any real one.
ONE_SIDED = 1e3
TOLERANCE = 1e-13  # of log parameter
JUMP = 1e-6  # a root beside which |log ratio| stays above this is a step, not an equality

Kind = Literal["equal", "step", "feasibility"]
NAMES = {"q": "a quality factor q", "context": "a context"}
SIDES = {
    "dense": "the dense twin is ahead",
    "moe": "the MoE is ahead",
    "equal": "both are equal",
    "neither feasible": "neither runs",
    "met": "the target is met",
    "missed": "the target is missed",
    "infeasible": "no design runs",
}
MOST_PARTS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """A value at which the order changes.

    `kind` is `equal` where both sides pass through equality, `step` where a whole batch or the
    design jumps from one side to the other, `feasibility` where one of them stops being feasible.
    """

    value: float
    kind: Kind


@dataclasses.dataclass(frozen=True, slots=True)
class Roots:
    """All changes of order of one cell in [low, high].

    Attributes:
        cell: its coordinates.
        parameter: what is varied.
        low: start of the interval.
        high: end of the interval.
        roots: in ascending order; none is an answer too, see `message`.
        sides: the order between the roots, one more than roots: `dense`, `moe`, `equal`,
            `neither feasible`; for a target `met`, `missed`, `infeasible`.
        best: for a target, the best value of the metric in the interval; else NaN.
        now: the parameter's value in the problem; NaN where it has several, or none that counts.
    """

    cell: dict[str, Any]
    parameter: str
    low: float
    high: float
    roots: tuple[Root, ...]
    sides: tuple[str, ...]
    best: float = float("nan")
    now: float = float("nan")

    @property
    def message(self) -> str:
        """The answer in words, with the parameter, its unit, its value today, and the direction."""
        meaning = meaning_of(self.parameter)
        name = NAMES.get(self.parameter, f"{meaning.long_name} ({self.parameter})")
        today = "" if np.isnan(self.now) else f"; today it is {value(self.now, meaning.units)}"
        if not self.roots:
            ends = " to ".join(value(x, meaning.units) for x in (self.low, self.high))
            best = f"; the best is {self.best:.4g}" if self.sides[0] == "missed" else ""
            every = name.removeprefix("a ")
            return f"{SIDES[self.sides[0]]} at every {every} from {ends}{best}{today}"
        parts = []
        for k, (root, side) in enumerate(zip(self.roots, self.sides, strict=False)):
            how = " (where one of them starts or stops fitting)" * (root.kind == "feasibility")
            at = f"{value(root.value, meaning.units)}{how}"
            parts.append(
                f"then {SIDES[side]} up to {at}" if k else f"{SIDES[side]} up to {name} of {at}"
            )
        parts.append(f"then {SIDES[self.sides[-1]]}")
        if len(parts) > MOST_PARTS:
            parts = [*parts[:2], f"{len(parts) - 4} changes more", *parts[-2:]]
        return f"{', '.join(parts)}{today}"


Margin = Callable[[np.ndarray, np.ndarray], np.ndarray]


def find_roots(
    margin: Margin, cells: np.ndarray, low: float, high: float, points: int
) -> list[list[tuple[float, Kind, float, float]]]:
    """Roots of every cell: value, kind, and the margin just before and after."""
    grid = np.linspace(np.log(low), np.log(high), points)
    scan = margin(np.tile(cells, points), np.repeat(grid, len(cells))).reshape(points, -1)
    before, after = scan[:-1], scan[1:]
    with np.errstate(invalid="ignore"):
        # A zero belongs to the interval that it starts, so that it is found once.
        crosses = (before * after < 0) | ((before == 0) & (after != 0))
        crosses |= np.isnan(before) != np.isnan(after)
    step, column = np.nonzero(crosses)
    found: list[list[tuple[float, Kind, float, float]]] = [[] for _ in cells]
    if not len(step):
        return found
    item, start, end = cells[column], grid[step], grid[step + 1]
    only_one = np.isnan(before[step, column]) | np.isnan(after[step, column])
    # Where one end has no order at all, the root is the end of feasibility.
    sign = np.where(np.isnan(before[step, column]), -1.0, 1.0)

    def signed(x: np.ndarray, k: np.ndarray) -> np.ndarray:
        value = margin(item[k], x)
        edge = np.where(np.isnan(value), -ONE_SIDED, ONE_SIDED) * sign[k]
        return np.where(only_one[k], edge, np.where(np.isnan(value), 0.0, value))

    solved = elementwise.find_root(
        signed,
        (start, end),
        args=(np.arange(len(item)),),
        tolerances={"xatol": TOLERANCE, "xrtol": TOLERANCE, "fatol": 0.0, "frtol": 0.0},
        maxiter=200,
    )
    root = np.where(before[step, column] == 0, start, solved.x)
    near = 1e-9 * (end - start)
    sides = margin(np.tile(item, 2), np.concatenate([root - near, root + near])).reshape(2, -1)
    for k in np.lexsort((root, column)):
        gap = float(np.min(np.abs(sides[:, k])))
        one_sided = np.isnan(sides[:, k]).any() or (np.abs(sides[:, k]) >= ONE_SIDED).any()
        kind: Kind = "feasibility" if one_sided else "step" if gap > JUMP else "equal"
        found[column[k]].append((float(np.exp(root[k])), kind, *map(float, sides[:, k])))
    return found


def collect(
    stated: Cells,
    parameter: str,
    interval: tuple[float, float],
    cells: np.ndarray,
    margin: Margin,
    words: tuple[str, str, str, str],
    points: int,
) -> list[Roots]:
    """Roots with labels; `words` name a negative, zero, positive and undefined margin."""

    def side(value: float) -> str:
        return words[3] if np.isnan(value) else words[int(np.sign(value)) + 1]

    ends = margin(cells, np.full(len(cells), np.log(interval[0])))
    # A context is what is asked about, not what is given today.
    now = np.full(stated.cells, np.nan)
    if parameter != "context":
        now = np.broadcast_to(np.asarray(read(stated.inputs, parameter), float), now.shape)
    labels, results = cell_labels(stated), []
    for cell, found, first in zip(
        cells, find_roots(margin, cells, *interval, points), ends, strict=True
    ):
        sides = [side(found[0][2]) if found else side(first), *(side(f[3]) for f in found)]
        label = {k: v for k, v in labels[cell].items() if k != parameter}
        roots = tuple(Root(value, kind) for value, kind, *_ in found)
        results.append(
            Roots(label, parameter, *interval, roots, tuple(sides), now=float(now[cell]))
        )
    return results
