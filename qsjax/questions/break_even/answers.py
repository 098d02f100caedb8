"""The answers of break-even and of targets."""

import dataclasses
from functools import partial

from qsjax.cost.meanings import meaning_of
from qsjax.cost.metrics import METRICS, Objective
from qsjax.grid.problem import Problem, describe
from qsjax.output.labels import cell_name
from qsjax.output.result import Drawing, Result, Row, inputs_of
from qsjax.questions.break_even.roots import Roots


def in_unit(value: float, metric: Objective) -> str:
    """A metric with its unit, where that is not in its name."""
    return f"{value:.6g} s" if metric == "tpot" else f"{value:.6g}"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Turning(Result):
    """What the answers share.

    Attributes:
        problem: what was asked, with the metric as its objective.
        parameter: what was varied.
        target: of the metric; None where the variants are compared.
    """

    problem: Problem
    parameter: str
    target: float | None

    stem = "break-even"

    def summary(self) -> str:
        """What was asked, and the answer for each cell."""
        head = describe(self.problem)
        return "\n".join([head, *(f"{cell_name(row)}: {row['message']}" for row in self.rows())])

    def record(self) -> Row:
        """Metric and solutions."""
        metric = self.problem.objective
        return {
            "convention": self.problem.stated.convention,
            "metric": metric,
            "target": self.target,
            "unit": METRICS[metric].unit,
            "solutions": self.rows(),
        }

    def inputs(self) -> Row:
        """The problem's records as plain numbers."""
        return inputs_of(self.problem)

    def shown(self) -> list[Row]:
        """Rows as they are drawn."""
        return [row | {"label": cell_name(row)} for row in self.rows()]

    def drawings(self) -> dict[str, Drawing]:
        """What holds where along the parameter."""
        from qsjax import plotting

        metric, models = self.problem.objective, self.problem.stated.models
        title = f"{', '.join(m.name for m in models)}: {metric}, MoE against its twin"
        if self.target is not None:
            title = f"{models[0].name}: where {metric} reaches {in_unit(self.target, metric)}"
        axis = f"{self.parameter} [{meaning_of(self.parameter).units}]"
        draw = partial(
            plotting.turning_points,
            self.shown(),
            parameter=axis,
            tokens=self.parameter == "context",
            title=title,
        )
        return {"break-even": draw}


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Crossings(Turning):
    """Every value of a continuous parameter at which an order changes.

    Attributes:
        cells: one for each cell.
    """

    cells: tuple[Roots, ...]

    columns = ("model", "hardware", "variant", "gpus", "context", "parameter", "roots", "message")

    def rows(self) -> list[Row]:
        """One row for each cell: roots, their kinds, the sides between them, and in words."""
        return [
            {
                **found.cell,
                "parameter": found.parameter,
                "low": found.low,
                "high": found.high,
                "roots": [root.value for root in found.roots],
                "kinds": [root.kind for root in found.roots],
                "sides": list(found.sides),
                "message": found.message,
            }
            for found in self.cells
        ]


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class LeastGpus(Turning):
    """The fewest GPUs that meet a target.

    Attributes:
        cells: one row for each other cell: coordinates, `gpus` (None if no count does), `value`
            of the metric there, and `best` over all counts.
    """

    cells: tuple[Row, ...]

    columns = ("model", "hardware", "variant", "q", "context", "gpus", "value", "best", "message")

    def rows(self) -> list[Row]:
        """One row for each cell, also in words."""
        return [row | self._told(row) for row in self.cells]

    def _told(self, row: Row) -> Row:
        metric, tried = self.problem.objective, [int(n) for n in self.problem.stated.gpus]
        if row["gpus"] is not None:
            count = f"{row['gpus']} GPU{' reaches' if row['gpus'] == 1 else 's reach'}"
            words = f"{count} {metric} {in_unit(row['value'], metric)}"
        else:
            best = "none is feasible"
            if row["best"] is not None:
                best = f"the best is {in_unit(row['best'], metric)}"
            listed = ", ".join(map(str, tried))
            goal = in_unit(self.target or 0.0, metric)
            words = f"none of {listed} GPUs reaches {metric} {goal}; {best}"
        return {"parameter": "gpus", "tried": tried, "message": words}

    def shown(self) -> list[Row]:
        """Rows as they are drawn: missed up to the least count."""
        rows = []
        for row in self.rows():
            least, tried = row["gpus"], row["tried"]
            cell = {name: value for name, value in row.items() if name != "gpus"}
            cell |= {"label": cell_name(cell), "low": min(tried), "high": max(tried) + 1}
            if least is None:
                rows.append(cell | {"roots": [], "sides": ["missed"]})
            else:
                sides = ["missed" if least > min(tried) else "", ""]
                rows.append(cell | {"roots": [least], "sides": sides})
        return rows
