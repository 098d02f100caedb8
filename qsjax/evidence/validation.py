"""Predicted against measured: every record that can be predicted, and why the others cannot."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qsjax.engines.releases import release
from qsjax.evidence.measurements import (
    Case,
    Constants,
    Kernel,
    Prediction,
    Skipped,
    predict,
    read_cases,
)
from qsjax.evidence.measurements.kernels import CATEGORIES as KERNELS
from qsjax.evidence.measurements.kernels import times

Row = dict[str, Any]
# By what errors are summed up.
GROUPS = ("category", "confidence", "gpu", "model", "engine", "regime")
WORST = 10

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
        "concurrency also covers requests in prefill, so the batch is smaller",
    ),
    (
        lambda row: row["gpu"].startswith(("mi3", "tpu", "trainium", "inferentia")),
        "the shared constants were fitted on NVIDIA's GPUs; kernels of other makers reach other "
        "shares of the peaks",
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


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Rows of all records in their order, and errors summed up.

    A row has `id`, `category`, `model`, `gpu`, `engine`, `confidence`, `unit`, `measured` and
    either `predicted`, `error_pct`, `regime` and `shares` (of the predicted time by resource), or
    `skipped_because`. Deployments also have `release`, `speculation`, `kv_dtype`, `isl`, `osl` and
    `not_scored`: why an error is shown but not summed up, "" where it is.
    """

    records: list[Row]

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
        groups: dict[str, list[Row]] = {}
        for row in self.records:
            if row["category"] in KERNELS and name != "category":
                continue
            groups.setdefault(str(row.get(name) or "not stated"), []).append(row)
        return {key: _errors(rows) for key, rows in sorted(groups.items())}

    @property
    def summary(self) -> dict[str, dict[str, float | int | None]]:
        """Errors by category."""
        return self.by("category")

    def skipped(self) -> dict[str, int]:
        """Records without a prediction, by reason, most frequent first."""
        return _counted(row["skipped_because"] for row in self.records if "skipped_because" in row)

    def not_scored(self) -> dict[str, int]:
        """Records with a prediction that is not scored, by reason, most frequent first."""
        return _counted(row["not_scored"] for row in self.records if row.get("not_scored"))

    def worst(self, count: int = WORST) -> list[Row]:
        """The deployments with the largest error, one of each model, accelerator and category."""
        ordered = sorted(self.deployments, key=lambda row: -abs(row["error_pct"]))
        seen: set[tuple[Any, ...]] = set()
        found = []
        for row in ordered:
            key = (row["category"], row["model"], row["gpu"])
            if key not in seen:
                seen.add(key)
                found.append({**row, "reason": reason_of(row)})
        return found[:count]


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
        "tp": float(np.asarray(one.partition.tp)),
        "ep": float(np.asarray(one.partition.ep)),
        "dp": float(np.asarray(one.partition.dp)),
        "kvp": float(np.asarray(one.partition.kvp)),
        "batch": float(np.asarray(one.workload.batch)),
        "context": float(np.asarray(one.workload.context)),
        "measured": case.measured,
        "predicted": result.value,
        "error_pct": 100.0 * (result.value / case.measured - 1.0),
        "not_scored": case.not_scored,
        "regime": result.regime,
        "shares": result.shares,
    }


def validate(records: Sequence[Mapping[str, Any]], constants: Constants | None = None) -> Report:
    """Predictions of all records that can be predicted.

    Args:
        records: as `measurements.load_records` or `read_json` gives them.
        constants: hardware fields that replace the catalogue's, such as those of a calibration.
    """
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
    return Report(rows)
