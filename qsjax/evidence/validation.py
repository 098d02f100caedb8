"""Predicted against measured: every record that can be predicted, and why the others cannot."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qsjax.evidence.measurements import (
    Case,
    Constants,
    Kernel,
    Prediction,
    Skipped,
    load_records,
    predict,
    read_cases,
    read_json,
)
from qsjax.evidence.measurements.kernels import CATEGORIES as KERNELS
from qsjax.evidence.measurements.kernels import times
from qsjax.grid.entry import entry
from qsjax.output import folder
from qsjax.output.result import Drawing, Result, Row, Table

# By what errors are summed up.
GROUPS = ("category", "confidence", "gpu", "model", "engine", "regime")
WORST = 10


class Headline(NamedTuple):
    """A group of records that README and documents quote.

    Attributes:
        name: what was measured.
        role: `in the fit`; `left out`: not in the fit, but in view when the form of the laws was
            chosen.
        wanted: by column, what its value begins with.
        is_fitted: whether the accelerator must be among `FITTED`, or must not; None for either.
    """

    name: str
    role: str
    wanted: Mapping[str, tuple[str, ...]]
    is_fitted: bool | None = None


# Accelerators whose records the constants are fitted to (`benchmarks.fit_constants`).
FITTED = ("a100", "h100", "b200")
SERVED = "inferencex_agg"
HEADLINES = (
    Headline(
        "serving on one node: A100, H100, B200",
        "in the fit",
        {"category": (SERVED,), "confidence": ("high",)},
        True,
    ),
    Headline("the same on other accelerators", "left out", {"category": (SERVED,)}, False),
    Headline("disaggregated serving", "left out", {"category": ("inferencex_disagg",)}),
    Headline(
        "wide expert parallelism, many nodes",
        "left out",
        {"category": ("wide_ep", "deepseek_official")},
    ),
    Headline("KV-cache capacity", "left out", {"category": ("kv_capacity",)}),
    Headline(
        "time between tokens: slope in the context, and intercept",
        "in the fit",
        {"category": ("itl_linear_fit",)},
    ),
)

# Known causes of large errors, tried in order: who is concerned, and what is missing.
REASONS: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (
        lambda row: row["kvp"] > 1,
        "this ring of queries runs eager kernels and NCCL calls of 33 to 81 us each (arXiv "
        "2411.01783, table 8); the model has their volume and one start-up of the fabric",
    ),
    (
        lambda row: row["category"] == "kv_capacity" and row["confidence"] == "high",
        "the share of the memory that the engine may take is not stated",
    ),
    (
        lambda row: row["category"] == "kv_capacity",
        "vLLM 0.5 counted all that the allocator had ever held as taken",
    ),
    (
        lambda row: "disagg" in row["category"] and row["error_pct"] > 0,
        "concurrency also covers requests in prefill, so the batch is smaller; multi-token "
        "prediction is not labelled",
    ),
    (
        lambda row: row["confidence"] == "low" and row["error_pct"] > 0,
        "multi-token prediction may have been on; it is not labelled",
    ),
    (
        lambda row: row["category"] == "trtllm_static_batch",
        "kernels of 2023 (TensorRT-LLM 0.5 and 0.6); the constants are those of 2025",
    ),
    (
        lambda row: row["gpu"] == "h20-96g" and row["regime"] == "compute-bound",
        "a narrow GPU reaches a larger share of its small arithmetic peak than the shared constant",
    ),
    (
        lambda row: row["regime"] == "prefill-bound",
        "chunked prefill with short prompts; the model runs whole prompts one at a time",
    ),
)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Report(Result):
    """Rows of all records in their order, and errors summed up.

    A row has `id`, `category`, `model`, `gpu`, `engine`, `confidence`, `unit`, `measured` and
    either `predicted`, `error_pct`, `regime` and `shares` (of the predicted time by resource), or
    `skipped_because`.
    """

    records: list[Row]
    asked: Row = dataclasses.field(default_factory=dict)

    stem = "records"

    def rows(self) -> list[Row]:
        """The records, with the same columns and without nested values."""
        names = dict.fromkeys(name for row in self.records for name in row if name != "shares")
        return [{name: row.get(name) for name in names} for row in self.records]

    def headlines(self) -> list[Row]:
        """The groups that README and documents quote, in per cent; empty ones are left out."""
        found = []
        for group in HEADLINES:
            rows = [row for row in self.predicted if _belongs(row, group)]
            if rows:
                found.append({"what": group.name, "role": group.role, **_errors(rows)})
        return found

    def summary(self) -> str:
        """How near it comes, where it was fitted and where not, and the largest error."""
        told = []
        for role in ("in the fit", "left out"):
            rows = [
                row
                for row in self.predicted
                if any(_belongs(row, group) for group in HEADLINES if group.role == role)
            ]
            if rows:
                found = _errors(rows)
                told.append(
                    f"{found['predicted']:,} measurements {ROLES[role]}: median error "
                    f"{found['median_abs_error_pct']:.1f} %, 90 % of them below "
                    f"{found['p90_abs_error_pct']:.1f} %, bias {found['bias_pct']:+.1f} %."
                )
        if worst := self.worst(1):
            told.append(
                f"The largest error is {worst[0]['error_pct']:+.0f} % ({worst[0]['model']} on "
                f"{worst[0]['gpu']}, {worst[0]['category']}); {len(self.predicted):,} of "
                f"{len(self.records):,} records can be predicted."
            )
        return "\n".join(told) or f"None of {len(self.records):,} records can be predicted."

    def tables(self) -> list[Table]:
        """The groups that documents quote, all groups, the largest errors, and what is skipped."""
        lines = [
            [row["what"], row["role"], *(_cell(row[name]) for _, name in COLUMNS)]
            for row in self.headlines()
        ]
        heads = [head for head, _ in COLUMNS]
        found = [Table("What README and documents quote", ["measured", "role", *heads], lines, 2)]
        for name in ("category", "gpu", "regime"):
            groups = {key: row for key, row in self.by(name).items() if row["predicted"]}
            cells = [[key, *(_cell(row[x]) for _, x in COLUMNS)] for key, row in groups.items()]
            found.append(Table(f"Errors by {name}", [name, *heads], cells))
        largest = [
            [row["id"], row["model"], row["gpu"], f"{row['error_pct']:+.0f}", row["reason"]]
            for row in self.worst()
        ]
        heads = ["record", "model", "accelerator", "error %", "known reason"]
        found.append(Table("Largest errors of deployments", heads, largest, 3))
        skipped = [[reason, f"{count:,}"] for reason, count in self.skipped().items()]
        return [*found, Table("Not predicted", ["reason", "records"], skipped)]

    def record(self) -> Row:
        """The records, the groups that documents quote, and errors by category."""
        return {
            "records": self.records,
            "headlines": self.headlines(),
            "summary": self.errors,
        }

    def inputs(self) -> Row:
        """Which records were asked for."""
        return self.asked

    def drawings(self) -> dict[str, Drawing]:
        """Predicted against measured, and the errors by accelerator, model and regime."""
        from qsjax import plotting

        times = [row for row in self.deployments if row["unit"] == "ms"]
        found: dict[str, Drawing] = {"parity": partial(plotting.parity, times)} if times else {}
        if self.deployments:
            for name in ("gpu", "model", "regime"):
                draw = partial(plotting.residuals, self.deployments, by=name)
                found[f"residuals_by_{name}"] = draw
        return found

    @property
    def predicted(self) -> list[Row]:
        """The rows with a prediction."""
        return [row for row in self.records if "error_pct" in row]

    @property
    def deployments(self) -> list[Row]:
        """The rows with a prediction that are no kernels by themselves."""
        return [row for row in self.predicted if row["category"] not in KERNELS]

    def by(self, name: str) -> dict[str, dict[str, float | int | None]]:
        """Errors by a column of the rows [%]; records without a prediction are counted.

        Kernels by themselves count in their categories only.
        """
        groups: dict[str, list[Row]] = {}
        for row in self.records:
            if row["category"] in KERNELS and name != "category":
                continue
            groups.setdefault(str(row.get(name) or "not stated"), []).append(row)
        return {key: _errors(rows) for key, rows in sorted(groups.items())}

    @property
    def errors(self) -> dict[str, dict[str, float | int | None]]:
        """Errors by category [%]."""
        return self.by("category")

    def skipped(self) -> dict[str, int]:
        """Records without a prediction, by reason, most frequent first."""
        reasons = [row["skipped_because"] for row in self.records if "skipped_because" in row]
        counts = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def worst(self, count: int = WORST) -> list[Row]:
        """The deployments with the largest errors."""
        ordered = sorted(self.deployments, key=lambda row: -abs(row["error_pct"]))
        return [{**row, "reason": reason_of(row)} for row in ordered[:count]]


COLUMNS = (
    ("predicted", "predicted"),
    ("median |e| %", "median_abs_error_pct"),
    ("90th |e| %", "p90_abs_error_pct"),
    ("bias %", "bias_pct"),
    ("largest |e| %", "worst_abs_error_pct"),
)
ROLES = {
    "in the fit": "of the kinds that the constants are fitted to",
    "left out": "left out of the fit (but in view when the form of the laws was chosen)",
}


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,d}" if isinstance(value, int) else f"{value:.1f}"


def _belongs(row: Mapping[str, Any], group: Headline) -> bool:
    """Whether a record counts in a headline."""
    if group.is_fitted is not None and group.is_fitted != str(row["gpu"]).startswith(FITTED):
        return False
    return all(str(row[name]).startswith(values) for name, values in group.wanted.items())


def _errors(rows: Sequence[Row]) -> dict[str, float | int | None]:
    errors = np.array([row["error_pct"] for row in rows if "error_pct" in row])
    counts: dict[str, float | int | None] = {
        "predicted": len(errors),
        "skipped": len(rows) - len(errors),
    }
    names = ("median_abs_error_pct", "p90_abs_error_pct", "bias_pct", "worst_abs_error_pct")
    if not len(errors):
        return {**counts, **dict.fromkeys(names)}
    size = np.abs(errors)
    values = (np.median(size), np.percentile(size, 90), np.median(errors), size.max())
    return {**counts, **dict(zip(names, map(float, values), strict=True))}


def reason_of(row: Mapping[str, Any]) -> str:
    """Why a prediction is known to be off; "" where it is not known."""
    return next((text for concerns, text in REASONS if concerns(row)), "")


def _shared(record: Mapping[str, Any]) -> Row:
    return {
        "id": str(record["id"]),
        "category": record["category"],
        "model": record["model"],
        "gpu": record["gpu"],
        "engine": record.get("engine") or "",
        "confidence": record.get("confidence") or "",
        "metric": record["metric"],
        "unit": record["unit"],
        "source": record.get("source") or "",
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
        "tp": float(np.asarray(one.partition.tp)),
        "ep": float(np.asarray(one.partition.ep)),
        "dp": float(np.asarray(one.partition.dp)),
        "kvp": float(np.asarray(one.partition.kvp)),
        "batch": float(np.asarray(one.workload.batch)),
        "context": float(np.asarray(one.workload.context)),
        "measured": case.measured,
        "predicted": result.value,
        "error_pct": 100.0 * (result.value / case.measured - 1.0),
        "regime": result.regime,
        "shares": result.shares,
    }


@entry
def validate(
    records: str | Path | Sequence[Mapping[str, Any]] | None = None,
    constants: Constants | None = None,
    *,
    category: Sequence[str] | None = None,
) -> Report:
    """Predictions of all records that can be predicted, against what was measured.

    Args:
        records: a JSON file of records, or records as `measurements.load_records` has them; those
            that ship with the package if None.
        constants: hardware fields that replace the catalogue's, such as those of a calibration.
        category: categories to look at; all if None.

    Raises:
        ValueError: the file cannot be read, or a category has no records.

    >>> found = validate(category=["trtllm_static_batch"])
    >>> len(found.predicted) + sum(found.skipped().values()) == len(found.records)
    True
    """
    asked: Row = {"category": category}
    if records is None:
        records = load_records()
    elif isinstance(records, str | Path):
        path = Path(records)
        records = read_json(path)
        asked["data"] = folder.of_file(path)
    if category is not None:
        known = sorted({str(record["category"]) for record in records})
        if missing := [name for name in category if name not in known]:
            raise ValueError(f"no records of {', '.join(missing)}; there are {', '.join(known)}")
        records = [record for record in records if record["category"] in category]
    cases = read_cases(records)
    found = iter(predict([case for case in cases if isinstance(case, Case)], constants))
    lone = [case for case in cases if isinstance(case, Kernel)]
    kernel_times = iter(times(lone, dict(constants or {})))
    rows = []
    for record, case in zip(records, cases, strict=True):
        if isinstance(case, Kernel):
            rows.append(_kernel_row(record, case, next(kernel_times)))
        else:
            rows.append(_row(record, next(found) if isinstance(case, Case) else case))
    return Report(rows, asked)
