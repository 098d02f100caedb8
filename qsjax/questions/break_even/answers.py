"""The answers of break-even and of targets."""

import dataclasses
from collections.abc import Iterable
from functools import partial

from qsjax.cost.meanings import Meaning, meaning_of
from qsjax.cost.metrics import METRICS
from qsjax.grid.prefixes import PARAMETERS
from qsjax.grid.problem import Problem
from qsjax.grid.remarks import long_limits
from qsjax.output import words
from qsjax.output.labels import with_fields
from qsjax.output.result import Drawing, Result, Row, Table
from qsjax.questions.break_even.roots import SIDES, Roots

SHOWN = 3  # cells in the first lines
# Columns in the parameter's unit.
OF_PARAMETER = {
    "roots": "values at which the order changes",
    "now": "value in the problem",
    "low": "least value tried",
    "high": "largest value tried",
}


def _place(row: Row, fields: Iterable[str]) -> str:
    """A cell in words, with these fields."""
    twin = f" (q = {row['q']:g})" if row.get("q") is not None else ""
    count = f"{row['gpus']:,.0f} " if row.get("gpus") is not None and "tried" not in row else ""
    context = f" at {words.length(row['context'])}" if "context" in row else ""
    where = f"{count}{row['hardware']}{context}{with_fields(row, fields)}"
    return f"{row['model']}{twin} on {where}"


def _values(row: Row) -> list[str]:
    """Roots with their unit."""
    return words.values(row["roots"], meaning_of(row["parameter"]).units)


def _last(rows: list[Row]) -> str:
    """The side that leads at the upper end, where few accelerators agree on it, and from where."""
    told = [
        f"from {values[-1]} with {where}" if (values := _values(row)) else f"always with {where}"
        for row in rows
        if (where := row["label"].partition(" on ")[2])
    ]
    who = rows[0]["label"].partition(" on ")[0]
    return f"{who}: {SIDES[rows[0]['sides'][-1]]} {words.joined(told)}"


def _why(row: Row) -> str:
    """Why the lead changes at every root."""
    reasons = row.get("reasons") or []
    if not any(reasons):
        return ""
    told = [f"At {x} {why}." for x, why in zip(_values(row), reasons, strict=True) if why][:SHOWN]
    between = [f"{100 * lead:.1f} %" for lead in row["halfway"] if lead > 0]
    if between and len(reasons) <= SHOWN:
        told.append(f"Halfway between these the lead is {words.joined(between)}.")
    return " ".join(told)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class TurningPoints(Result):
    """Base of both answers.

    Attributes:
        problem: what was asked, with the metric as its objective.
        parameter: what was varied.
        target: of the metric; None where the variants are compared.
    """

    problem: Problem
    parameter: str
    target: float | None

    stem = "break-even"
    index = ("cell",)

    def cautions(self) -> list[str]:
        """What to know before the answer: targets in odd units too."""
        odd = long_limits(self.target or 0.0) if self.problem.objective == "tpot" else []
        return [*Result.cautions(self), *(f"Note: {line}" for line in odd)]

    def meaning(self, name: str) -> Meaning:
        """What a column is, and its unit: that of the parameter, or of the metric."""
        if name in OF_PARAMETER:
            return Meaning(OF_PARAMETER[name], meaning_of(self.parameter).units)
        metric = METRICS[self.problem.objective]
        if name in ("value", "best"):
            of = "with the fewest GPUs" if name == "value" else "of any count"
            return Meaning(f"{metric.meaning}, {of}", metric.unit)
        if name == "reasons":
            return Meaning("why the order changes")
        return meaning_of(name)

    def summary(self) -> str:
        """The answer for each of the first cells, one a line, then why each lead changes."""
        rows = self.placed()
        lines = [f"{row['label']}: {row['message']}{self._beyond(row)}." for row in rows[:SHOWN]]
        left = len(rows) - len(lines)
        more = [f"{words.count(left, 'more cell')} {'is' if left == 1 else 'are'} in the table."]
        why = [(row["label"], text) for row in rows[:SHOWN] if (text := _why(row))]
        told = [f"{place}: {text}" if len(rows) > 1 else text for place, text in why]
        return "\n".join([*lines, *(more if left else []), *told])

    def tables(self) -> list[Table]:
        """The answers that the first lines leave out."""
        rows = [[row["label"], row["message"]] for row in self.placed()[SHOWN:]]
        return [Table("", ("cell", "answer"), rows, 2)]

    def _beyond(self, row: Row) -> str:
        """A note where a root is beyond the context that the model is published for."""
        if self.parameter != "context" or not row.get("roots"):
            return ""
        longest = {m.name: m.max_context for m in self.problem.stated.models}[row["model"]]
        past = longest and max(row["roots"]) > longest
        return f" (the model is published for up to {longest:,} tokens)" if past else ""

    @staticmethod
    def _is_one_answer(rows: list[Row]) -> bool:
        """Whether the same side leads at the upper end of all rows, for one model and q."""
        ends = {(row["label"].partition(" on ")[0], tuple(row["sides"][-1:])) for row in rows}
        return len(ends) == 1 and all(row["sides"][-1:] and row["sides"][-1] for row in rows)

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

    def placed(self) -> list[Row]:
        """Rows, each with its cell in words."""
        fields = [name for name in self.problem.stated.kept if name != self.parameter]
        return [row | {"label": _place(row, fields)} for row in self.rows()]

    def shown(self) -> list[Row]:
        """Rows as they are drawn."""
        return self.placed()

    def drawings(self) -> dict[str, Drawing]:
        """What holds where along the parameter."""
        from qsjax import plotting

        metric, models = self.problem.objective, self.problem.stated.models
        names = words.joined(m.name for m in models)
        what = "who leads, MoE or dense twin,"
        if self.parameter in PARAMETERS:
            what = "the best way with prefixes"
        if self.target is not None:
            what = f"whether {words.goal(metric, self.target)} is met"
        rows = self.shown()
        turned = sum(bool(row["roots"]) for row in rows)
        every = "both" if turned == 2 else f"all {turned}"
        some = f"{turned or 'none'} of {len(rows)}"
        cases = every if turned == len(rows) else some
        along = "the number of GPUs" if self.parameter == "gpus" else self.parameter
        title = f"{names}: {what} changes with {along} in {cases} cases"
        if len(rows) == 1:
            title = self.summary().split("\n")[0].rstrip(".")
        elif len(rows) <= SHOWN and self._is_one_answer(rows):
            title = _last(rows)
        draw = partial(
            plotting.turning_points,
            rows,
            parameter=f"{self.parameter} [{meaning_of(self.parameter).units}]",
            tokens=self.parameter == "context",
            title=title,
        )
        return {"break-even": draw}


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Crossings(TurningPoints):
    """Every value of a continuous parameter at which an order changes.

    Attributes:
        cells: one for each cell.
    """

    cells: tuple[Roots, ...]

    listed = (("roots", "turn"),)

    def rows(self) -> list[Row]:
        """One row for each cell: roots, their kinds, the sides between them, and in words."""
        return [
            {
                **cell.cell,
                **{name: getattr(cell, name) for name in ("parameter", "now", "low", "high")},
                "roots": [root.value for root in cell.roots],
                "kinds": [root.kind for root in cell.roots],
                "sides": list(cell.sides),
                "message": cell.message,
                "reasons": list(cell.reasons),
                "halfway": list(cell.halfway),
            }
            for cell in self.cells
        ]


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class LeastGpus(TurningPoints):
    """The fewest GPUs that meet a target.

    Attributes:
        cells: one row for each other cell: coordinates, `gpus` (None if no count does), `value`
            of the metric there, and `best` over all counts.
    """

    cells: tuple[Row, ...]

    @property
    def index(self) -> tuple[str, ...]:  # type: ignore[override]  # `gpus` is the answer
        """Axes of the data set."""
        return ("model", "hardware", "variant", "context", *self.problem.stated.kept)

    def rows(self) -> list[Row]:
        """One row for each cell, also in words."""
        return [row | self._told(row) for row in self.cells]

    def _told(self, row: Row) -> Row:
        metric, tried = self.problem.objective, [int(n) for n in self.problem.stated.gpus]
        goal, unit = words.goal(metric, self.target or 0.0), METRICS[metric].unit
        listed = f"{words.joined(map(str, tried), 'or')} GPU{'' if tried == [1] else 's'}"
        if row["gpus"] is not None:
            count = words.count(row["gpus"], "GPU")
            reached = words.value(row["value"], unit)
            fewest = "" if len(tried) == 1 else ", and no fewer of those tried"
            told = (
                f"{count} {'keeps' if row['gpus'] == 1 else 'keep'} {goal} with {reached}{fewest}"
            )
        else:
            best = "nothing runs"
            if row["best"] is not None:
                best = f"the best is {words.value(row['best'], unit)}"
            told = f"no design on {listed} keeps {goal}; {best}"
        return {"parameter": "gpus", "tried": tried, "message": told}

    def shown(self) -> list[Row]:
        """Rows as they are drawn: missed up to the least count."""
        rows = []
        for row in self.placed():
            least, tried = row["gpus"], row["tried"]
            cell = {name: value for name, value in row.items() if name != "gpus"}
            cell |= {"low": min(tried), "high": max(tried) + 1, "roots": []}
            if least is None or least == min(tried):
                rows.append(cell | {"sides": ["missed" if least is None else "met"]})
            else:
                rows.append(cell | {"roots": [least], "sides": ["missed", "met"]})
        return rows
