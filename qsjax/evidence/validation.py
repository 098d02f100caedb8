"""Predicted against measured: every record that can be predicted, and why the others cannot."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.engines.releases import release
from qsjax.evidence.measurements import (
    Case,
    Constants,
    Kernel,
    Prediction,
    Skipped,
    load_left_out,
    load_records,
    predict,
    read_cases,
    records_given,
)
from qsjax.evidence.measurements.deployment import engine_of
from qsjax.evidence.measurements.facts import checked
from qsjax.evidence.measurements.kernels import CATEGORIES as KERNELS
from qsjax.evidence.measurements.kernels import times
from qsjax.grid.entry import entry
from qsjax.numerics.safe import scalar
from qsjax.output.result import Drawing, Result, Row, Table
from qsjax.records.conversion import names_of
from qsjax.records.rows import grouped
from qsjax.records.tables import table

# What is left out of the fit whole, in turn.
LEFT_OUT = ("accelerator", "engine", "model")
WORST = 10
# Errors up to here [%] count as near in titles of pictures.
NEAR = 10.0


class Headline(NamedTuple):
    """A group of records that README and documents quote.

    Attributes:
        name: what was measured.
        role: `in the fit`; `left out`: not in the fit, but in view when the form of the laws was
            chosen; `never fitted`: nor in view.
        wanted: by column, what its value begins with.
    """

    name: str
    role: str
    wanted: Mapping[str, Sequence[str]]


FILLED = "trtllm_maxthroughput"  # as many requests as fit; nothing is fitted to them
HEADLINES = tuple(Headline(**told) for told in table("evidence/headlines.toml")["headline"])
IN_TURN = "serving, each accelerator in turn"


class Cause(NamedTuple):
    """A known cause of large errors.

    Attributes:
        text: what is missing.
        wanted: by column, what the value of a record begins with.
        above: by column, what its value is larger than.
    """

    text: str
    wanted: Mapping[str, Sequence[str]] = {}
    above: Mapping[str, float] = {}


CAUSES = tuple(Cause(**told) for told in table("evidence/headlines.toml")["cause"])


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Report(Result):
    """Rows of all records in their order, and errors summed up.

    A row has `id`, `category`, `model`, `gpu`, `engine`, `confidence`, `unit`, `measured` and
    either `predicted`, `error_pct`, `regime` and `shares` (of the predicted time by resource), or
    `skipped_because`. Deployments also have `release`, `speculation`, `kv_dtype`, `isl`, `osl` and
    `not_scored`: why an error is shown but not summed up, "" where it is. `first_tokens` are the
    same rows for the time to first token of the records that have one; `is_shipped` says whether
    all that ships with the package was asked for.
    """

    records: list[Row]
    asked: Row = dataclasses.field(default_factory=dict)
    first_tokens: list[Row] = dataclasses.field(default_factory=list)
    is_shipped: bool = False

    stem = "records"

    def first_tokens_by(self, name: str) -> dict[str, dict[str, float | int | None]]:
        """Errors of the time to first token by a column of its rows [%], and of all."""
        return _grouped(self.first_tokens, name) | {"all": _errors(self.first_tokens)}

    def rows(self) -> list[Row]:
        """The records, with the same columns and without nested values."""
        names = dict.fromkeys(name for row in self.records for name in row if name != "shares")
        return [{name: row.get(name) for name in names} for row in self.records]

    def headlines(self) -> list[Row]:
        """The groups that README and documents quote, in per cent; empty ones are left out."""
        groups = []
        for group in HEADLINES:
            rows = [row for row in self.predicted if _belongs(row, group)]
            if rows:
                groups.append({"what": group.name, "role": group.role, **_errors(rows)})
        if self.is_shipped:
            groups.append({"what": IN_TURN, "role": "left out", **left_out()["accelerator"]["all"]})
        return groups

    def summary(self) -> str:
        """How near it comes, where it was fitted and where not, and the largest error."""
        told = []
        groups = [group for group in HEADLINES if group.role == "in the fit"]
        rows = [row for row in self.predicted if any(_belongs(row, group) for group in groups)]
        known = [("of the kinds that the constants are fitted to", _errors(rows))] if rows else []
        if self.is_shipped:
            known.append((LEFT_OUT_IN_TURN, left_out()["accelerator"]["all"]))
        for role, errors in known:
            told.append(
                f"{errors['predicted']:,} measurements {role}: median error "
                f"{errors['median_abs_error_pct']:.1f} %, 90 % of them below "
                f"{errors['p90_abs_error_pct']:.1f} %, bias {errors['bias_pct']:+.1f} %."
            )
        if worst := self.worst(1):
            told.append(
                f"The largest error is {worst[0]['error_pct']:+.0f} % ({worst[0]['model']} on "
                f"{worst[0]['gpu']}, {worst[0]['category']}); {len(self.predicted):,} of "
                f"{len(self.records):,} records can be predicted."
            )
        return "\n".join(told) or f"None of {len(self.records):,} records can be predicted."

    def tables(self) -> list[Table]:
        """Groups left out of the fit, what documents quote, all groups, and what is skipped."""
        lines = [
            [row["what"], row["role"], *(_cell(row[name]) for _, name in COLUMNS)]
            for row in self.headlines()
        ]
        heads = [head for head, _ in COLUMNS]
        # What to expect of a group that the fit has not seen.
        tables = [
            Table(f"Serving, each {name} left out of the fit", [name, *heads], _cells(groups))
            for name, groups in (left_out() if self.is_shipped else {}).items()
        ]
        tables.append(
            Table("What README and documents quote", ["measured", "role", *heads], lines, 2)
        )
        for name in ("category", "gpu", "regime"):
            tables.append(Table(f"Errors by {name}", [name, *heads], _cells(self.by(name))))
        if self.first_tokens:
            cells = _cells(self.first_tokens_by("engine"))
            tables.append(Table("Errors of the time to first token", ["engine", *heads], cells))
        largest = [
            [row["id"], row["model"], row["gpu"], f"{row['error_pct']:+.0f}", row["reason"]]
            for row in self.worst()
        ]
        heads = ["record", "model", "accelerator", "error %", "known reason"]
        tables.append(Table("Largest errors of deployments", heads, largest, 3))
        for title, counts in (
            ("Predicted but not scored", self.not_scored()),
            ("Not predicted", self.skipped()),
        ):
            rows = [[reason, f"{count:,}"] for reason, count in counts.items()]
            tables.append(Table(title, ["reason", "records"], rows))
        return tables

    def record(self) -> Row:
        """The records, the groups that documents quote, and errors by category."""
        return {
            "left_out": left_out() if self.is_shipped else None,
            "first_tokens": self.first_tokens_by("engine") if self.first_tokens else None,
            "records": self.records,
            "headlines": self.headlines(),
            "summary": self.errors,
        }

    def drawings(self) -> dict[str, Drawing]:
        """Predicted against measured, and the errors by accelerator, model and regime."""
        from qsjax import plotting

        times = [row for row in self.deployments if row["unit"] == "ms"]
        drawings: dict[str, Drawing] = {}
        if times:
            drawings["parity"] = partial(plotting.parity, times, title=_near(times))
        if self.deployments:
            for name in ("gpu", "model", "regime"):
                drawings[f"residuals_by_{name}"] = partial(
                    plotting.residuals, self.deployments, by=name, title=_near(self.deployments)
                )
        return drawings

    @property
    def predicted(self) -> list[Row]:
        """The rows with a prediction that is held against the measurement."""
        return [row for row in self.records if _is_scored(row)]

    @property
    def deployments(self) -> list[Row]:
        """The scored rows that are no kernels by themselves."""
        return [row for row in self.predicted if row["category"] not in KERNELS]

    def by(self, name: str) -> dict[str, dict[str, float | int | None]]:
        """Errors by a column of the rows [%]; records without a scored one are counted.

        Kernels by themselves count in their categories only.
        """
        kept = (r for r in self.records if name == "category" or r["category"] not in KERNELS)
        return _grouped(kept, name)

    @property
    def errors(self) -> dict[str, dict[str, float | int | None]]:
        """Errors by category [%]."""
        return self.by("category")

    def skipped(self) -> dict[str, int]:
        """Records without a prediction, by reason, most frequent first."""
        return _counted(row["skipped_because"] for row in self.records if "skipped_because" in row)

    def not_scored(self) -> dict[str, int]:
        """Records with a prediction that is not scored, by reason, most frequent first."""
        return _counted(row["not_scored"] for row in self.records if row.get("not_scored"))

    def worst(self, count: int = WORST) -> list[Row]:
        """The deployments with the largest errors."""
        ordered = sorted(self.deployments, key=lambda row: -abs(row["error_pct"]))
        return [{**row, "reason": reason_of(row)} for row in ordered[:count]]


COLUMNS = (
    ("scored", "predicted"),
    ("median |e| %", "median_abs_error_pct"),
    ("90th |e| %", "p90_abs_error_pct"),
    ("bias %", "bias_pct"),
    ("largest |e| %", "worst_abs_error_pct"),
)
LEFT_OUT_IN_TURN = (
    "of serving, each accelerator left out of the fit in turn (but in view when the form of the "
    "laws was chosen)"
)


def _near(rows: Sequence[Row]) -> str:
    """How many predictions come near, for the title of a picture."""
    errors = [abs(row["error_pct"]) for row in rows]
    near = sum(error <= NEAR for error in errors)
    return f"{near:,} of {len(rows):,} predictions within {NEAR:g} % of the measurement"


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,d}" if isinstance(value, int) else f"{value:.1f}"


def _cells(groups: Mapping[str, Mapping[str, float | int | None]]) -> list[list[str]]:
    known = {key: row for key, row in groups.items() if row["predicted"]}
    return [[key, *(_cell(row[x]) for _, x in COLUMNS)] for key, row in known.items()]


def _belongs(row: Mapping[str, Any], group: Headline | Cause) -> bool:
    """Whether a record counts in a headline, or a cause may concern it."""
    return all(str(row[name]).startswith(tuple(values)) for name, values in group.wanted.items())


def left_out() -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Errors of the shipped measurements of serving whose group was left out of the fit [%].

    By kind of group (accelerator, engine, model) and its name, and "all". Times, or rates as
    times. None of the groups counts as unseen: the model's form was chosen while looking at
    records of all of them; only its constants were not.
    """
    rows = load_left_out()
    by_kind = {}
    for by in LEFT_OUT:
        # The columns hold logarithms of measured over predicted time.
        errors: list[Row] = [
            {by: row[by], "error_pct": 100.0 * math.expm1(-float(row[f"without_{by}"]))}
            for row in rows
        ]
        by_kind[by] = _grouped(errors, by) | {"all": _errors(errors)}
    return by_kind


def _grouped(rows: Iterable[Row], name: str) -> dict[str, dict[str, float | int | None]]:
    groups = grouped(rows, lambda row: str(row.get(name) or "not stated"))
    return {key: _errors(own) for key, own in sorted(groups.items())}


def _is_scored(row: Mapping[str, Any]) -> bool:
    return "error_pct" in row and not row.get("not_scored")


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons).most_common())


def _errors(rows: Sequence[Row]) -> dict[str, float | int | None]:
    errors = np.array([row["error_pct"] for row in rows if _is_scored(row)])
    unscored = sum(bool(row.get("not_scored")) for row in rows)
    counts: dict[str, float | int | None] = {
        "predicted": len(errors),
        "not_scored": unscored,
        "skipped": len(rows) - len(errors) - unscored,
    }
    known = statistics_of(errors) if len(errors) else dict.fromkeys(n for _, n in COLUMNS[1:])
    return {**counts, **known}


def statistics_of(errors: np.ndarray) -> dict[str, float]:
    """Median, 90th percentile, bias and largest of some errors [%]."""
    size = np.abs(errors)
    return {
        "median_abs_error_pct": float(np.median(size)),
        "p90_abs_error_pct": float(np.percentile(size, 90)),
        "bias_pct": float(np.median(errors)),
        "worst_abs_error_pct": float(size.max()),
    }


def reason_of(row: Mapping[str, Any]) -> str:
    """Why a prediction is known to be off; "" where it is not known."""
    of_row = (one for one in CAUSES if _belongs(row, one))
    texts = (x.text for x in of_row if all(row[name] > least for name, least in x.above.items()))
    return next(texts, "")


def _shared(record: Mapping[str, Any]) -> Row:
    return {
        "id": str(record["id"]),
        "category": record["category"],
        "model": record["model"],
        "gpu": record["gpu"],
        "engine": engine_of(record) or record.get("engine") or "",
        "confidence": record.get("confidence") or "",
        "metric": record["metric"],
        "unit": record["unit"],
        "source": record.get("source") or "",
        "release": release(record),
        "speculation": record.get("speculation") or "",
        "kv_dtype": record.get("kv_dtype") or "",
        "isl": record.get("isl"),
        "osl": record.get("osl"),
    }


def _kernel_row(record: Mapping[str, Any], kernel: Kernel, time: tuple[float, str]) -> Row:
    return {
        **_shared(record),
        "unit": "us",
        "model": kernel.one.model_name,
        "gpu": kernel.one.hardware_name,
        "measured": kernel.measured,
        "predicted": time[0],
        "error_pct": 100.0 * (time[0] / kernel.measured - 1.0),
        "regime": time[1],
        "shares": {},
    }


def _row(record: Mapping[str, Any], result: Prediction | Skipped) -> Row:
    shared = _shared(record)
    if isinstance(result, Skipped):
        return {**shared, "measured": record["value"], "skipped_because": result.because}
    case = result.case
    one = case.deployments[0]
    return {
        **shared,
        "model": one.model_name,
        "gpu": one.hardware_name,
        "engine": one.engine,
        **{name: scalar(getattr(one.partition, name)) for name in ("tp", "ep", "dp", "kvp")},
        **{name: scalar(getattr(one.workload, name)) for name in ("batch", "context")},
        "measured": case.measured,
        "predicted": result.value,
        "error_pct": 100.0 * (result.value / case.measured - 1.0),
        "not_scored": case.not_scored,
        "regime": result.regime,
        "shares": result.shares,
    }


@entry
def validate(
    records: Any = None,
    constants: Constants | None = None,
    *,
    category: str | Sequence[str] | None = None,
    told: Mapping[str, Any] | None = None,
) -> Report:
    """Predictions of all records that can be predicted, against what was measured.

    Args:
        records: a JSON or CSV file of records, a folder of them, a data frame with the columns of a
            CSV, or records as `measurements.load_records` has them; those that ship with the
            package if None.
        constants: hardware fields that replace the catalogue's, such as those of a calibration.
        category: categories to look at; all if None.
        told: what a file does not say, such as `{"hardware": "h100", "tp": 8}`.

    Raises:
        ValueError: the file cannot be read, or a category has no records.

    >>> found = validate(category=["trtllm_static_batch"])
    >>> len(found.predicted) + sum(found.skipped().values()) == len(found.records)
    True
    """
    asked: Row = {"category": category}
    is_shipped = records is None and category is None
    if records is None:
        records = load_records()
    elif not isinstance(records, list | tuple):
        records, asked["data"] = records_given(records, checked(told or {}))
    if category is not None:
        category = names_of(category)
        known = sorted({str(record["category"]) for record in records})
        missing = [name for name in category or ["no category"] if name not in known]
        if missing:
            raise ValueError(f"no records of {', '.join(missing)}; there are {', '.join(known)}")
        records = [record for record in records if record["category"] in category]
    first = [
        {**record, "metric": "TTFT", "value": record["ttft_ms"], "unit": "ms"}
        for record in records
        if record.get("ttft_ms") and not record.get("unusable")
    ]
    tables = (_rows(chosen, constants) for chosen in (records, first))
    return Report(next(tables), asked, next(tables), is_shipped)


def _rows(records: Sequence[Mapping[str, Any]], constants: Constants | None) -> list[Row]:
    cases = read_cases(records)
    predictions = iter(predict([case for case in cases if isinstance(case, Case)], constants))
    lone = [case for case in cases if isinstance(case, Kernel)]
    kernel_times = iter(times(lone, dict(constants or {})))
    rows = []
    for record, case in zip(records, cases, strict=True):
        if isinstance(case, Kernel):
            rows.append(_kernel_row(record, case, next(kernel_times)))
        else:
            rows.append(_row(record, next(predictions) if isinstance(case, Case) else case))
    return rows
