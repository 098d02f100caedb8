"""The hardware that was found, as a table, a figure and files."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from qsjax.cost.meanings import meaning_of
from qsjax.grid.problem import Problem, describe
from qsjax.output.labels import cell_name
from qsjax.output.result import Drawing, Result, Row, inputs_of, plain
from qsjax.questions.design.costs import CostModel, members


@dataclasses.dataclass(frozen=True, slots=True)
class Design:
    """Hardware found, and how it does on the exact grid.

    Attributes:
        factors: by quantity, over the reference hardware.
        hardware: the chosen fields, in SI units.
        cost: in the cost model's unit.
        objective: the mix (see `design`) with whole batches: the exact answer.
        relaxed: the mix with fractional batches at the same hardware, an upper estimate.
        reference_cost: cost of the reference hardware.
        reference: mix of the reference hardware, scaled as a whole to the same cost; NaN where it
            does not fit.
        metrics: per workload, the exact metric.
        designs: per workload, the exact best split.
        labels: per workload, its coordinates.
        marginal: by quantity, d log mix / d log cost with fractional batches: all are equal where
            the design is optimal and neither a bound nor a whole batch holds it.
        at_bound: quantities that ended at the edge of the range that was searched.
        starts: splits from which the optimiser was started.
        gap: no hardware in the range that was searched is better (cheaper, for targets) by a
            larger share, over all splits: proved. 0 where none is better at all; NaN where no
            bounds were sought or the batch is searched within limits.
        parts: boxes of hardware that were judged for it.
    """

    factors: dict[str, float]
    hardware: dict[str, float]
    cost: float
    objective: float
    relaxed: float
    reference_cost: float
    reference: float
    metrics: list[float]
    designs: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    marginal: dict[str, float]
    at_bound: list[str]
    starts: int
    gap: float
    parts: int


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class HardwareDesign(Result):
    """The hardware found for each model, from each reference accelerator.

    Attributes:
        problem: what was asked, with the metric as its objective.
        cost: what could be chosen, and its price.
        answers: one for each model and accelerator.
    """

    problem: Problem
    cost: CostModel
    answers: tuple[Design, ...]

    stem = "design"

    def rows(self) -> list[Row]:
        """One row for each quantity: over the reference, and what 1 % more cost of it gains."""
        rows = []
        for found in self.answers:
            head = {name: found.labels[0][name] for name in ("model", "hardware", "variant", "q")}
            for name, factor in found.factors.items():
                own = {field: found.hardware[field] for field in members(name)}
                rows.append(
                    {
                        **head,
                        "quantity": name,
                        "factor": factor,
                        "marginal": found.marginal[name],
                        "at_bound": name in found.at_bound,
                        "fields": own,
                    }
                )
        return rows

    def summary(self) -> str:
        """What was asked, what it costs and what it reaches, workload by workload."""
        metric, lines = self.problem.objective, [describe(self.problem)]
        unit = " s" if metric == "tpot" else ""
        for found in self.answers:
            lines.append(f"Hardware that costs {found.cost:.6g}:")
            for label, value, design in zip(
                found.labels, found.metrics, found.designs, strict=True
            ):
                split = " ".join(f"{name}={degree}" for name, degree in design.items())
                lines.append(f"{cell_name(label)}: {metric} {value:.6g}{unit} with {split}")
            lines.append(
                f"Mix {found.objective:.6g}{unit} with whole batches ({found.relaxed:.6g}{unit} "
                "with fractional ones); the reference, scaled to the same cost, reaches "
                f"{found.reference:.6g}{unit}."
            )
            if np.isfinite(found.gap):
                lines.append(_certainty(found.gap))
            if found.at_bound:
                lines.append(f"At the edge of the range searched: {', '.join(found.at_bound)}.")
        return "\n".join(lines)

    def record(self) -> Row:
        """The first design's fields, and all of them."""
        answers = [plain(found) for found in self.answers]
        head = {"convention": self.problem.stated.convention, "metric": self.problem.objective}
        return {**head, **answers[0], "answers": answers}

    def inputs(self) -> Row:
        """Records and prices."""
        return {**inputs_of(self.problem), "cost": plain(self.cost)}

    def drawings(self) -> dict[str, Drawing]:
        """The accelerator of each answer, quantity by quantity."""
        found: dict[str, Drawing] = {}
        per = len(self.cost.prices)
        rows = [_shown(row) for row in self.rows()]
        for n, answer in enumerate(self.answers):
            name = f"design-{n + 1}" if len(self.answers) > 1 else "design"
            title = (
                f"{answer.labels[0]['model']}: {self.problem.objective} {answer.objective:.4g} "
                f"at a cost of {answer.cost:.4g}"
            )
            found[name] = partial(_draw, rows[n * per : (n + 1) * per], title)
        return found


def _certainty(gap: float) -> str:
    if gap == 0.0:
        return "No hardware in the range is better, with any split: proved."
    return f"No hardware in the range is better by more than {gap:.2%}, with any split: proved."


def _draw(rows: list[Row], title: str, ax: Any = None) -> Any:
    from qsjax import plotting

    return plotting.chosen_hardware(rows, ax, title=title)


def _shown(row: Row) -> Row:
    from qsjax.plotting import scales

    values = [scales.with_unit(x, meaning_of(name).units) for name, x in row["fields"].items()]
    # The dtypes of arithmetic scale together: the first stands for all.
    text = ", ".join(dict.fromkeys(values)) if len(values) < 3 else f"{values[0]} in BF16"
    return row | {"value": text}
