"""The roots of a cell with its labels, and in words."""

import dataclasses
from typing import Any

import numpy as np

from qsjax.cost.meanings import meaning_of
from qsjax.grid.cells import Cells
from qsjax.grid.parameters import read
from qsjax.grid.prefixes import TIER_FIELDS, WAYS
from qsjax.grid.roots import Margin, Root, find_roots
from qsjax.grid.solution import cell_labels
from qsjax.output.words import value, values

NAMES = {
    "q": "a quality factor q",
    "context": "a context",
    "prefix_hit_rate": "a hit rate",
    "reuse_interval": "a reuse interval",
}
SIDES = {
    "dense": "the dense twin is ahead",
    "moe": "the MoE is ahead",
    "equal": "both are equal",
    "neither feasible": "neither runs",
    "met": "the target is met",
    "missed": "the target is missed",
    "infeasible": "no design runs",
} | dict(WAYS)
MOST_PARTS = 5


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
        goal: for a target, metric and value in words.
        unit: of the metric.
        now: the parameter's value in the problem; NaN where it has several, or none that counts.
        reasons: why the order changes at each root; empty where nothing says it.
        halfway: between roots, how much more the better one makes in the middle [1].
    """

    cell: dict[str, Any]
    parameter: str
    low: float
    high: float
    roots: tuple[Root, ...]
    sides: tuple[str, ...]
    best: float = float("nan")
    now: float = float("nan")
    reasons: tuple[str, ...] = ()
    halfway: tuple[float, ...] = ()
    goal: str = ""
    unit: str = ""

    def _said(self, side: str) -> str:
        return SIDES[side].replace("the target", self.goal or "the target")

    @property
    def message(self) -> str:
        """The answer in words, with the parameter, its unit, its value today, and the direction."""
        meaning = meaning_of(self.parameter)
        places = "prefixes are best " if self.sides[0] in WAYS else ""
        if self.parameter in TIER_FIELDS:  # only its tier is compared
            places = f"without other tiers {places}"
        name = NAMES.get(self.parameter, f"{meaning.long_name} ({self.parameter})")
        today = "" if np.isnan(self.now) else f"; today it is {value(self.now, meaning.units)}"
        if not self.roots:
            ends = " to ".join(value(x, meaning.units) for x in (self.low, self.high))
            best = ""
            if self.sides[0] == "missed":
                best = f"; the best is {value(self.best, self.unit)}"
            every = name.removeprefix("a ")
            return f"{places}{self._said(self.sides[0])} at every {every} from {ends}{best}{today}"
        parts = []
        shown = values([root.value for root in self.roots], meaning.units)
        fitting = "it" if self.goal else "one of them"
        for k, (root, side) in enumerate(zip(self.roots, self.sides, strict=False)):
            how = f" (where {fitting} starts or stops fitting)" * (root.kind == "feasibility")
            at = f"{shown[k]}{how}"
            said = self._said(side)
            parts.append(f"then {said} up to {at}" if k else f"{said} up to {name} of {at}")
        parts.append(f"then {self._said(self.sides[-1])}")
        if len(parts) > MOST_PARTS:
            parts = [*parts[:2], f"{len(parts) - 4} changes more", *parts[-2:]]
        return f"{places}{', '.join(parts)}{today}"


def collect(
    stated: Cells,
    parameter: str,
    interval: tuple[float, float],
    cells: np.ndarray,
    margin: Margin,
    *,
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
    for cell, crossed, first in zip(
        cells, find_roots(margin, cells, *interval, points), ends, strict=True
    ):
        sides = [
            side(crossed[0][2]) if crossed else side(first),
            *(side(behind) for *_, behind in crossed),
        ]
        label = {k: v for k, v in labels[cell].items() if k != parameter}
        roots = tuple(Root(value, kind) for value, kind, *_ in crossed)
        results.append(
            Roots(label, parameter, *interval, roots, tuple(sides), now=float(now[cell]))
        )
    return results
