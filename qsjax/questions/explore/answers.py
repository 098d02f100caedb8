"""The main question: the best design of every cell, under one convention or both."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.cost.feasibility import REASONS
from qsjax.cost.laws.memory import usable_bytes
from qsjax.cost.metrics import OF_TIME
from qsjax.engines.spread import LEVEL, check_level
from qsjax.grid.case import best_case
from qsjax.grid.cells import Cells
from qsjax.grid.intervals import NamedCase, bounds_of, lead_of, names_in
from qsjax.grid.needs import least_gpus
from qsjax.grid.problem import Problem, question
from qsjax.grid.remarks import kernels_used
from qsjax.grid.solution import (
    DESIGN_COLUMNS,
    Arrays,
    Solution,
    dataset_of,
    joined,
    rows_of,
    solve_all,
)
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output import columns, words
from qsjax.output.labels import axis_value, series_name, split_name, variant_name
from qsjax.output.result import Drawing, Result, Row, Table
from qsjax.records.specs import is_papers
from qsjax.records.units import GIB, tokens

if TYPE_CHECKING:
    import xarray as xr

from qsjax.questions.explore import sentences, titles

NUMBERS = ("batch", "users", "tpot", "between", "gpu")  # of a design in the table


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Exploration(Result):
    """The best design of every cell of a problem.

    Attributes:
        problem: what was asked.
        solutions: one for each model and accelerator.
        beside: the same cells under the second accounting; none unless it was asked for.
        least_gpus: by solution, the fewest GPUs (a power of two) that hold each cell that does not
            fit; NaN where it fits or none do.
        level: probability with which measured values lie in the intervals.
    """

    problem: Problem
    solutions: tuple[Solution, ...]
    beside: tuple[Solution, ...]
    least_gpus: tuple[np.ndarray, ...]
    level: float = LEVEL

    stem = "best"
    framed = DESIGN_COLUMNS

    def rows(self) -> list[Row]:
        """One row for each cell: the winner, or why there is none and what it would need."""
        rows: list[Row] = []
        for solution, beside, least in self._blocks():
            gain, bounds = self._gains(solution, beside), bounds_of(solution, self.level)
            for cell, row in enumerate(rows_of(solution)):
                if row["is_feasible"]:
                    row |= {name: float(x[cell]) for name, x in gain.items()}
                    known = {name: x[cell].item() for name, x in bounds.items()}
                    row |= {name: x for name, x in known.items() if x == x}  # the MoE leads nobody
                else:
                    row["least_gpus"] = float(least[cell])
                rows.append(row)
        return rows

    def _blocks(self) -> list[tuple[Solution, Solution | None, np.ndarray]]:
        beside = self.beside or [None] * len(self.solutions)
        return list(zip(self.solutions, beside, self.least_gpus, strict=True))

    def _gains(self, solution: Solution, beside: Solution | None) -> Arrays:
        """Tokens/s/GPU over the first variant's, under each accounting; NaN where infeasible."""
        if len(solution.cells.variants) < 2:
            return {}
        gains = {"speedup_over_moe": _gain(solution)}
        if beside is not None:
            gains[f"speedup_over_moe_{self.problem.stated.second}"] = _gain(beside)
        return gains

    def _bounds(self, solution: Solution) -> Arrays:
        bounds = bounds_of(solution, self.level)
        return {name: x for name, x in bounds.items() if np.issubdtype(x.dtype, np.floating)}

    @property
    def cells(self) -> int:
        """Designs decided: legal or not, of every cell."""
        return sum(solution.cells.cells * solution.cells.enumerated for solution in self.solutions)

    @property
    def feasible(self) -> int:
        """Designs that run and keep the limits."""
        return sum(int(solution.best.feasible.sum()) for solution in self.solutions)

    def counts(self) -> Row:
        """Designs decided, feasible, and with each reason."""
        total = sum(solution.reasons.sum(axis=1) for solution in self.solutions)
        return {
            "convention": self.problem.stated.convention,
            "cells_evaluated": self.cells,
            "cells_feasible": self.feasible,
            "infeasible_reasons": dict(zip(REASONS, np.asarray(total).tolist(), strict=True)),
        }

    def summary(self) -> str:
        """The fastest design, what its dense twins would gain, and what does not run."""
        rows = self.rows()
        places = [
            (solution, cell) for solution in self.solutions for cell in range(solution.cells.cells)
        ]
        of_row = {id(row): place for row, place in zip(rows, places, strict=True)}

        def side(row: Row) -> NamedCase:
            solution, cell = of_row[id(row)]
            case = best_case(solution.cells, cell, solution.best)
            assert case is not None  # it runs
            return NamedCase(case, names_in(row, self.problem.engine))

        def sure(row: Row, best: Row) -> bool:
            ratio = row[objective] / best[objective]
            return lead_of(side(row), side(best), ratio=ratio).is_sure

        objective = self.problem.objective
        has_error = objective in OF_TIME and not is_papers(self.problem.stated.rules)
        return sentences.answer(self.problem, rows, sure if has_error else None)

    def tables(self) -> list[Table]:
        """The winners of every model and accelerator, by GPU count and context."""
        rows, tables = self.rows(), []
        stated = self.problem.stated
        for served in stated.models:
            for device in stated.accelerators:
                of_pair = [
                    r for r in rows if (r["model"], r["hardware"]) == (served.name, device.name)
                ]
                usable = scalar(on_host(usable_bytes)(served.spec, device.spec))
                title = (
                    f"{served.name} on {device.name} ({usable / GIB:.0f} GiB usable), "
                    f"{stated.convention} convention"
                )
                tables.append(_table(self.problem, of_pair, title))
        return tables

    def cautions(self) -> list[str]:
        """What to know before the answer, and which axes change nothing."""
        axes = {name: len(values) for name, values in self.problem.stated.kept.items()}
        rows = self.rows() if max(axes.values(), default=1) > 1 else []
        idle = []
        for name, values in axes.items():
            # Cells that differ in this axis alone are as many as it has values, or all different.
            distinct = {repr({**row, name: None}) for row in rows}
            if len(distinct) * values == len(rows) > len(distinct):
                idle.append(f"Note: {name} changes nothing here: every value has the same answer.")
        return [*Result.cautions(self), *idle]

    def remarks(self) -> list[str]:
        """How many designs there are, and what cells without one would need."""
        reasons = {k: v for k, v in self.counts()["infeasible_reasons"].items() if v}
        listed = "; ".join(f"{name} {count:,}" for name, count in reasons.items())
        return [
            f"{self.cells:,} designs decided, {self.feasible:,} feasible.",
            *words.open_limits(self.problem, [row for row in self.rows() if row["is_feasible"]]),
            *(f"Note: {note}." for note in kernels_used(self.problem)),
            *words.rests_on(self.rows(), self.level),
            f"Infeasible, by reason (a design may have several): {listed or 'none'}.",
            *sentences.also_missing(self.problem, self.rows(), self.summary()),
        ]

    def record(self) -> Row:
        """Counts and rows."""
        return {**self.counts(), "best": self.rows()}

    @property
    def dataset(self) -> "xr.Dataset":
        """The winners over (model, hardware, variant, gpus, context, ...), with units.

        `term_*` sum to `tpot`; measured values lie between `*_low` and `*_high` with a probability
        of `level`. Infeasible cells are NaN; `infeasible_reasons` counts the designs of each cell
        by reason.
        """
        blocks = [
            dataset_of(solution, self._gains(solution, beside) | self._bounds(solution))
            for solution, beside, _ in self._blocks()
        ]
        attributes = {"objective": self.problem.objective, "level": self.level}
        return joined(self.problem, blocks, attributes)

    def drawings(self) -> dict[str, Drawing]:
        """Throughput over context, the map of the winners, and where their time goes."""
        from qsjax import plotting

        rows, over = self.rows(), titles.swept(self.problem)
        if titles.has_several(self.problem):
            # Else the figures name variants, and ring their crossings.
            rows = [row | {"label": series_name(self.problem, row)} for row in rows]
        if not any(row["is_feasible"] for row in rows):
            return {}
        counts = list(dict.fromkeys(row["gpus"] for row in rows))
        several = any(row["q"] is not None for row in rows)
        twins = [row for row in sentences.compared(rows) if row["q"] is not None]
        title = titles.rates(self.problem, rows)
        if twins and not titles.has_several(self.problem):
            says = titles.finding(twins, titles.subject(self.problem))
            drawn: dict[str, Drawing] = {
                "throughput": partial(_throughput, rows, twins, title, says)
            }
            drawn["ratio"] = partial(plotting.ratio_vs_context, twins, title=says)
        else:
            drawn = {"throughput": partial(plotting.throughput_vs_context, rows, title=title)}
        if over:
            named = [row | {"label": series_name(self.problem, row, over)} for row in rows]
            drawn["throughput"] = partial(
                plotting.throughput_vs_context, named, over=over, title=titles.along(named, over)
            )
        for count in counts:
            part = [row for row in rows if row["gpus"] == count]
            end = f"-{count}-gpus" if len(counts) > 1 else ""
            drawn |= {
                f"{name}{end}": draw for name, draw in _maps(part, of_several=several).items()
            }
        return drawn


def _throughput(rows: list[Row], twins: list[Row], title: str, says: str, ax: Any = None) -> Any:
    """Throughput over context, and beside it the ratio of the twins, where curves coincide."""
    from qsjax import plotting

    if ax is not None:
        return plotting.throughput_vs_context(rows, ax, title=says)
    _, panels = plotting.figure(1, 2, (12.4, 4.4))
    plotting.ratio_vs_context(twins, panels[0, 1], title=says)
    return plotting.throughput_vs_context(rows, panels[0, 0], title=title)


def _maps(rows: list[Row], *, of_several: bool) -> dict[str, Drawing]:
    """The map of the winners on one count of GPUs, and where their time goes."""
    from qsjax import plotting

    running = [row for row in rows if row["is_feasible"]]
    if not running:
        return {}
    line = [row for row in running if titles.line(row) == titles.line(running[0])]
    head = titles.who(line[0], of_several=of_several)
    best = f"{head}: best is {titles.course(line, split_name)}"
    most = titles.course(line, lambda row: words.largest(row)[0])
    most = f"{head}: the largest part of the time is {most}"
    return {
        "partition": partial(plotting.best_partition_map, rows, title=best),
        "time": partial(plotting.time_breakdown, rows, share=True, title=most),
    }


def _gain(solution: Solution) -> np.ndarray:
    rate = np.where(solution.is_feasible, solution.step.tokens_per_s_per_gpu, np.nan)
    table = rate.reshape(solution.cells.shape)
    return (table / table[:1]).ravel()


def _table(problem: Problem, rows: Sequence[Row], title: str) -> Table:
    """The winners; a rule parts GPU counts and contexts."""
    several = len({row["gpus"] for row in rows}) > 1
    second = problem.stated.second
    gains = ["speedup_over_moe", *([f"speedup_over_moe_{second}"] if second else [])]
    gains = gains if len({variant_name(row) for row in rows}) > 1 else []
    factors = ["vs MoE", f"({second})"][: len(gains)]
    kept = list(problem.stated.kept)
    heads = ["context", *(["GPUs"] if several else []), *kept, "variant", "tp", "ep", "pp", "dp"]
    heads += ["kvp", "copies", *columns.heads(*NUMBERS), "bound by", *factors]
    place = itemgetter("gpus", "context")
    cells: list[Sequence[str]] = []
    for _, part in groupby(sorted(rows, key=place), place):
        cells += [()] if cells else []
        for row in part:
            first = [tokens(row["context"]), *([f"{row['gpus']:g}"] if several else [])]
            first += [*(axis_value(name, row[name]) for name in kept), variant_name(row)]
            cells.append([*first, *_cells(row), *(_factor(row, name) for name in gains)])
    return Table(title, heads, cells, 1 + several + len(kept))


def _cells(row: Row) -> list[str]:
    if not row["is_feasible"]:
        return [*["-"] * 11, "infeasible"]
    mode = {"none": "", "kvp": "", "cp": " cp"}[row["kv_mode"]]
    degrees = [str(row[name]) for name in ("tp", "ep", "pp", "dp")] + [f"{row['kvp']}{mode}"]
    return [*degrees, str(row["replicas"]), *columns.cells(row, *NUMBERS), row["bound_by"]]


def _factor(row: Row, name: str) -> str:
    gain = row.get(name, np.nan)
    return "" if row["variant"] == "moe" else f"{gain:.2f}x" if np.isfinite(gain) else "-"


def _needs(solution: Solution) -> np.ndarray:
    """Fewest GPUs of cells that do not fit; where limits alone are in the way, they say it."""
    cells: Cells = solution.cells
    where = ~solution.is_feasible & (solution.best.shortfall > 0)
    return least_gpus(cells, where) if where.any() else np.full(cells.cells, np.nan)


@question
def explore(problem: Problem, *, level: float = LEVEL) -> Exploration:
    """The best design of every cell; with `convention="both"` the paper's accounting beside it.

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
    solutions, *beside = (solve_all(problem, each) for each in problem.stated.accountings.values())
    least = tuple(_needs(each) for each in solutions)
    return Exploration(problem, solutions, sum(beside, ()), least, level)
