"""The hardware that was found, as a table, a figure and files."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from qsjax.cost.meanings import meaning_of
from qsjax.cost.metrics import METRICS
from qsjax.grid.problem import Problem
from qsjax.output import words
from qsjax.output.labels import cell_name, split_name
from qsjax.output.result import Drawing, Result, Row, Table, plain
from qsjax.questions.design.costs import CostModel, members
from qsjax.records import units

EVEN = 0.005  # marginal gains nearer than this are equal [%]
NO_COPY = {"replicas": 1, "kv_mode": "none"}


def _called(name: str) -> str:
    return meaning_of(name).long_name


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
    given = ("cost",)

    def rows(self) -> list[Row]:
        """One row for each quantity: over the reference, and what 1 % more cost of it gains."""
        rows = []
        for design in self.answers:
            head = {name: design.labels[0][name] for name in ("model", "hardware", "variant", "q")}
            for name, factor in design.factors.items():
                rows.append(
                    {
                        **head,
                        "quantity": name,
                        "factor": factor,
                        "marginal": design.marginal[name],
                        "at_bound": name in design.at_bound,
                        "fields": {field: design.hardware[field] for field in members(name)},
                    }
                )
        return rows

    def summary(self) -> str:
        """The hardware, what it reaches against the reference, and why marginal gains differ."""
        return "\n".join(line for design in self.answers for line in self._said(design))

    def _said(self, design: Design) -> list[str]:
        first, objective = design.labels[0], self.problem.objective
        twin = words.twin(first["q"])
        shown = {name: f"{factor:.2g}" for name, factor in design.factors.items()}
        fields = [
            f"{'just' if factor == '1' else f'{factor} times'} the {_called(name)}"
            for name, factor in shown.items()
        ]
        unit = METRICS[objective].unit
        gain = design.objective / design.reference
        ahead = ""
        if not np.isnan(gain):
            whole = f"{first['hardware']} scaled as a whole to the same cost"
            ahead = f", {words.against(gain, whole)}"
        lines = [
            f"For {first['model']}{twin}, hardware at a cost of {design.cost:.4g} should have "
            f"{words.joined(fields)} of {first['hardware']}.",
            f"It reaches {words.value(design.objective, unit)}{ahead}.",
        ]
        gains = design.marginal
        low, high = min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__)
        if len(gains) > 1 and gains[high] - gains[low] > EVEN:
            edge = [_called(name) for name in design.at_bound]
            why = (
                f"{words.joined(edge)} stopped at the edge of the range that was searched"
                if edge
                else "the best split changes there, so a gain holds to one side alone"
            )
            lines.append(
                f"1 % more cost gains {gains[high]:.1f} % in {_called(high)} but "
                f"{gains[low]:.1f} % in {_called(low)}: {why}."
            )
        return lines

    def tables(self) -> list[Table]:
        """Every quantity of every answer, and what each workload reaches."""
        lines = [
            [
                *([row["model"], row["hardware"]] if len(self.answers) > 1 else []),
                row["quantity"],
                _shown(row)["value"],
                f"x{row['factor']:.4g}",
                f"{row['marginal']:+.3f} %",
                "edge of the range" if row["at_bound"] else "",
            ]
            for row in self.rows()
        ]
        heads = ["model", "reference"] if len(self.answers) > 1 else []
        heads += ["quantity", "value", "over the reference", "gain for 1 % more cost", "held by"]
        unit = METRICS[self.problem.objective].unit
        reached = [
            [cell_name(label), words.value(value, unit), split_name({**label, **NO_COPY, **split})]
            for design in self.answers
            for label, value, split in zip(
                design.labels, design.metrics, design.designs, strict=True
            )
        ]
        return [
            Table("", heads, lines, len(heads) - 4),
            Table(
                "Each workload, with whole batches", ["workload", "reaches", "split"], reached, 3
            ),
        ]

    def remarks(self) -> list[str]:
        """How much better any hardware could be, and what fractional batches would reach."""
        unit = METRICS[self.problem.objective].unit
        return [
            "No hardware in the range is better"
            f"{f' by more than {design.gap:.2%}' if design.gap else ''}, with any split: proved."
            for design in self.answers
            if np.isfinite(design.gap)
        ] + [
            f"With fractional batches {words.value(design.relaxed, unit)}: whole batches cost "
            f"{100 * abs(design.objective / design.relaxed - 1):.1f} %."
            for design in self.answers
        ]

    def record(self) -> Row:
        """The first design's fields, and all of them."""
        answers = [plain(design) for design in self.answers]
        head = {"convention": self.problem.stated.convention, "metric": self.problem.objective}
        return {**head, **answers[0], "answers": answers}

    def drawings(self) -> dict[str, Drawing]:
        """The accelerator of each answer, quantity by quantity."""
        from qsjax import plotting

        drawings: dict[str, Drawing] = {}
        per = len(self.cost.prices)
        rows = [_shown(row) for row in self.rows()]
        for n, answer in enumerate(self.answers):
            name = f"design-{n + 1}" if len(self.answers) > 1 else "design"
            title = (
                f"{answer.labels[0]['model']}: {words.number(answer.objective)} "
                f"{METRICS[self.problem.objective].unit} at a cost of {answer.cost:.4g}"
            )
            of_answer = rows[n * per : (n + 1) * per]
            drawings[name] = partial(plotting.chosen_hardware, of_answer, title=title)
        return drawings


def _shown(row: Row) -> Row:
    values = [units.with_unit(x, meaning_of(name).units) for name, x in row["fields"].items()]
    # The dtypes of arithmetic scale together: the first stands for all.
    text = ", ".join(dict.fromkeys(values)) if len(values) < 3 else f"{values[0]} in BF16"
    return row | {"value": text}
