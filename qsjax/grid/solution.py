"""The optimum of every cell of a problem, and how its cells and designs are labelled."""

import dataclasses
from typing import Any

import numpy as np

from qsjax.grid.axes import PARTITION_AXES
from qsjax.grid.optimum import Best, Problem, Winners, best_of, winners_at
from qsjax.records.specs import DEGREES, KV_MODES


@dataclasses.dataclass(frozen=True, slots=True)
class Solution:
    """A problem with its best designs; arrays over the cells.

    Attributes:
        problem: what was solved.
        best: winners, runners-up and counts per cell.
        winners: inputs and designs of the winners, one row per cell.
    """

    problem: Problem
    best: Best
    winners: Winners

    @property
    def is_feasible(self) -> np.ndarray:
        """Whether any design of the cell is feasible."""
        return np.asarray(self.best.feasible) > 0

    @property
    def margin(self) -> np.ndarray:
        """Score of the winner over that of the runner-up, less 1; NaN without a runner-up."""
        first, second = np.asarray(self.best.score), np.asarray(self.best.second_score)
        has_second = np.isfinite(second)
        ratio: np.ndarray = np.abs(first / np.where(has_second, second, 1.0) - 1.0)
        return np.where(has_second, ratio, np.nan)

    @property
    def least_hbm_bytes(self) -> np.ndarray:
        """HBM capacity from which the cell has a feasible design [B]; inf if none would do."""
        hardware = self.winners.inputs.hardware
        lacking = np.asarray(self.best.shortfall) / np.asarray(hardware.usable_fraction)
        least: np.ndarray = np.asarray(hardware.hbm_bytes) + lacking
        return least


def solve(problem: Problem) -> Solution:
    """The best design of every cell."""
    best = best_of(problem.inputs, problem.designs, problem.objective)
    chosen = winners_at(problem.inputs, problem.designs, np.asarray(best.position))
    return Solution(problem, best, chosen)


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 2**53 else float(value)


def cell_labels(problem: Problem) -> list[dict[str, Any]]:
    """Coordinates of every cell by name, with the variant's q."""
    labels = []
    for at in np.ndindex(problem.shape):
        variant = problem.variants[at[0]]
        cell: dict[str, Any] = {"variant": variant.name, "q": variant.q}
        pairs = zip(problem.axes[1:], at[1:], strict=True)
        labels.append(cell | {axis.name: _plain(axis.values[k]) for axis, k in pairs})
    return labels


def design_label(problem: Problem, position: int) -> dict[str, Any]:
    """Degrees of a design by name; `kv_mode` in words, `batch` where it is given."""
    designs = problem.designs
    degrees = {name: float(getattr(designs.partition, name)[position]) for name in PARTITION_AXES}
    label: dict[str, Any] = {name: int(degrees[name]) for name in DEGREES}
    modes = {code: name for name, code in KV_MODES.items()}
    label["kv_mode"] = modes[degrees["kv_mode"]] if label["kvp"] > 1 else "none"
    if designs.batch is not None:
        label["batch"] = int(designs.batch[position])
    return label
