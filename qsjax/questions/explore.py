"""The main question: the best design of every cell, and what it gains over another accounting."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from qsjax.cost.feasibility import REASONS
from qsjax.engines.spread import LEVEL, check_level
from qsjax.grid.cells import Cells
from qsjax.grid.intervals import bounds_of
from qsjax.grid.needs import least_gpus
from qsjax.grid.problem import Problem, describe, question
from qsjax.grid.solution import Arrays, Solution, dataset_of, joined, rows_of, solve_all
from qsjax.output.labels import series_name
from qsjax.output.result import Drawing, Result, Row, inputs_of
from qsjax.records.specs import CONVENTIONS

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Exploration(Result):
    """The best design of every cell of a problem.

    Attributes:
        problem: what was asked.
        solutions: one for each model (outer) and accelerator.
        other: name of the accounting shown beside the problem's own.
        beside: the same cells under it.
        least_gpus: by solution, the fewest GPUs (a power of two) that hold each infeasible cell;
            NaN where it is feasible or none do.
        level: probability with which measured values lie in the intervals.
    """

    problem: Problem
    solutions: tuple[tuple[Solution, ...], ...]
    other: str
    beside: tuple[tuple[Solution, ...], ...]
    least_gpus: tuple[tuple[np.ndarray, ...], ...]
    level: float = LEVEL

    stem = "best"
    columns = (
        *("model", "hardware", "variant", "q", "gpus", "context"),
        *("tp", "ep", "pp", "dp", "kvp", "kv_mode", "replicas", "batch"),
        *("tpot", "tpot_low", "tpot_high", "tokens_per_s_per_gpu", "bound_by"),
    )

    def rows(self) -> list[Row]:
        """One row for each cell: the winner, or why there is none and what it would need."""
        found: list[Row] = []
        for own, other, least in self._blocks():
            gain, bounds = _gains(own, other, self.other), bounds_of(own, self.level)
            for cell, row in enumerate(rows_of(own)):
                if row["is_feasible"]:
                    row |= {name: float(x[cell]) for name, x in gain.items()}
                    row |= {name: x[cell].item() for name, x in bounds.items()}
                else:
                    row["least_gpus"] = float(least[cell])
                found.append(row)
        return found

    def _blocks(self) -> list[tuple[Solution, Solution, np.ndarray]]:
        tables = zip(self.solutions, self.beside, self.least_gpus, strict=True)
        return [block for rows in tables for block in zip(*rows, strict=True)]

    def _bounds(self, own: Solution) -> Arrays:
        bounds = bounds_of(own, self.level)
        return {name: x for name, x in bounds.items() if np.issubdtype(x.dtype, np.floating)}

    @property
    def cells(self) -> int:
        """Designs decided: legal or not, of every cell."""
        blocks = [own.cells for row in self.solutions for own in row]
        return sum(block.cells * block.enumerated for block in blocks)

    @property
    def feasible(self) -> int:
        """Designs that run and keep the limits."""
        return sum(int(own.best.feasible.sum()) for row in self.solutions for own in row)

    def counts(self) -> Row:
        """Designs decided, feasible, and with each reason."""
        total = sum(own.reasons.sum(axis=1) for row in self.solutions for own in row)
        return {
            "convention": self.problem.stated.convention,
            "cells_evaluated": self.cells,
            "cells_feasible": self.feasible,
            "infeasible_reasons": dict(zip(REASONS, np.asarray(total).tolist(), strict=True)),
        }

    def summary(self) -> str:
        """What was asked, and how many designs there are and fit."""
        return (
            f"{describe(self.problem)}: {self.cells:,} designs decided, {self.feasible:,} feasible"
        )

    def record(self) -> Row:
        """Counts and rows."""
        return {**self.counts(), "best": self.rows()}

    def inputs(self) -> Row:
        """The problem's records as plain numbers."""
        return inputs_of(self.problem)

    @property
    def dataset(self) -> "xr.Dataset":
        """The winners over (model, hardware, variant, gpus, context, ...), with units.

        `term_*` sum to `tpot`; measured values lie between `*_low` and `*_high` with a probability
        of `level`. Infeasible cells are NaN; `infeasible_reasons` counts the designs of
        each cell by reason.
        """
        blocks = [
            [
                dataset_of(own, _gains(own, other, self.other) | self._bounds(own))
                for own, other in zip(row, others, strict=True)
            ]
            for row, others in zip(self.solutions, self.beside, strict=True)
        ]
        attributes = {"objective": self.problem.objective, "level": self.level}
        return joined(self.problem, blocks, attributes)

    def drawings(self) -> dict[str, Drawing]:
        """Throughput over context, the map of the winners, and where their time goes."""
        from functools import partial

        from qsjax import plotting

        rows = self.rows()
        if _has_several(self.problem):  # else the figures name variants, and ring their crossings
            rows = [row | {"label": series_name(self.problem, row)} for row in rows]
        if not any(row["is_feasible"] for row in rows):
            return {}
        stated = self.problem.stated
        models, devices = (
            ", ".join(item.name for item in items) for items in (stated.models, stated.accelerators)
        )
        title = f"{models} on {devices}"
        found: dict[str, Drawing] = {
            "throughput": partial(plotting.throughput_vs_context, rows, title=title)
        }
        counts = list(dict.fromkeys(row["gpus"] for row in rows))
        for count in counts:
            part = [row for row in rows if row["gpus"] == count]
            if any(row["is_feasible"] for row in part):
                end = f"-{count}-gpus" if len(counts) > 1 else ""
                head = f"{title}, {count} GPUs"
                found[f"partition{end}"] = partial(plotting.best_partition_map, part, title=head)
                found[f"time{end}"] = partial(plotting.time_breakdown, part, share=True, title=head)
        return found


def _has_several(problem: Problem) -> bool:
    stated = problem.stated
    return len(stated.models) > 1 or len(stated.accelerators) > 1 or bool(stated.kept)


def _gains(own: Solution, other: Solution, name: str) -> Arrays:
    """Tokens/s/GPU over the first variant's, under both accountings; NaN where infeasible."""
    if len(own.cells.variants) < 2:
        return {}

    def gain(found: Solution) -> np.ndarray:
        rate = np.where(found.is_feasible, found.step.tokens_per_s_per_gpu, np.nan)
        table = rate.reshape(found.cells.shape)
        ratio: np.ndarray = (table / table[:1]).ravel()
        return ratio

    return {"speedup_over_moe": gain(own), f"speedup_over_moe_{name}": gain(other)}


def _needs(solution: Solution) -> np.ndarray:
    cells: Cells = solution.cells
    where = ~solution.is_feasible
    return least_gpus(cells, where) if where.any() else np.full(cells.cells, np.nan)


@question
def explore(problem: Problem, *, level: float = LEVEL) -> Exploration:
    """The best design of every cell, under the problem's accounting and another beside it.

    Args:
        problem: what is asked.
        level: probability of the intervals of TPOT and throughput.

    Raises:
        ValueError: `level` is no probability.

    >>> from qsjax.grid.problem import Problem
    >>> found = explore(Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="32k"))
    >>> found.rows()[0]["replicas"]
    1
    """
    check_level(level)
    name = problem.stated.convention
    other = "paper" if name == "physical" else "physical"
    solutions = tuple(map(tuple, solve_all(problem)))
    beside = tuple(map(tuple, solve_all(problem, CONVENTIONS[other])))
    least = tuple(tuple(_needs(own) for own in row) for row in solutions)
    return Exploration(problem, solutions, other, beside, least, level)
