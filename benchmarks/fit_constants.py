"""Fit the catalogue's default constants to the shipped measurements, split by accelerator.

They are those of the plain form, which holds where no engine is stated; `benchmarks.fit_kernels`
fits what engines add to it.

Run `python -m benchmarks.fit_constants`. It prints the constants with their intervals, the errors
on the accelerators that were fitted and on those left out, and fits made on fewer accelerators.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from qsjax.evidence.calibration import Fit, fit
from qsjax.evidence.measurements import Case, load_records, predict, read_cases
from qsjax.evidence.measurements.cases import plain
from qsjax.evidence.measurements.storage import Record
from qsjax.evidence.validation import FILLED
from qsjax.records.units import US

# Fitted: accelerators with high-confidence serving records, and the one with static batches.
FITTED = ("a100", "h100", "b200")
SPLITS = (FITTED, ("b200", "b300"), ("h100", "h200", "a100"))
SERVED = "inferencex_agg"
CATEGORIES = (SERVED, "trtllm_static_batch", "itl_linear_fit", "itl_load", "infersim")
WEIGHTS = {"high": 1.0, "medium": 0.5}
# Measured on kernels by themselves: docs/guides/calibration.md.
FROM_KERNELS = {
    "eff_kv_read": 0.87,
    "eff_attention": 0.6,
    "eff_link": 0.75,
    "intra_latency": 3 * US,
    "inter_latency": 25 * US,
    "exchange_overhead": 12 * US,
    "eager_overhead": 10 * US,
}


def summary(cases: Sequence[Case], constants: dict[str, float]) -> str:
    """Count, median and 90th percentile of the absolute error, and bias, in per cent."""
    if not cases:
        return "no records"
    found = predict(cases, constants)
    errors = np.array([p.value / p.case.measured - 1.0 for p in found])
    size = 100 * np.abs(errors)
    return (
        f"n={len(errors):4d}  median {np.median(size):5.1f} %  p90 {np.percentile(size, 90):5.1f} %"
        f"  bias {100 * np.median(errors):+5.1f} %"
    )


def show(fitted: Fit) -> None:
    """Constants with their intervals, and what is not determined."""
    for c in fitted.constants:
        scale, unit = (US, " us") if c.unit == "us" else (1.0, "")
        values = (x / scale for x in (c.value, c.low, c.high))
        print("  {:<18} {:8.3f}  ({:.3f} to {:.3f}){}".format(c.name, *values, unit))
    for line in fitted.warnings:
        print("  note:", line)


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    """The shipped cases, with what their records say of themselves."""

    cases: tuple[Case, ...]
    by_id: dict[str, Record]

    def category(self, case: Case) -> str:
        """Category of a case's record."""
        return str(self.by_id[case.id]["category"])

    def confidence(self, case: Case) -> str:
        """Confidence of a case's record."""
        return str(self.by_id[case.id]["confidence"])

    def fit_on(self, names: Sequence[str]) -> Fit:
        """Constants from the records of some accelerators."""
        chosen = [
            case
            for case in self.cases
            if is_on(case, names)
            and self.category(case) in CATEGORIES
            and self.confidence(case) in WEIGHTS
        ]
        weights = [WEIGHTS[self.confidence(case)] for case in chosen]
        return fit(chosen, fixed=FROM_KERNELS, weights=weights)

    def served(self, names: Sequence[str], level: str, is_in: bool) -> list[Case]:
        """Aggregated serving on some accelerators, or on the others."""
        return [
            case
            for case in self.cases
            if self.category(case) == SERVED
            and self.confidence(case) == level
            and is_on(case, names) == is_in
        ]

    def served_errors(
        self, names: Sequence[str], level: str, is_in: bool, constants: dict[str, float]
    ) -> np.ndarray:
        """Relative errors of those cases."""
        found = predict(self.served(names, level, is_in), constants)
        return np.array([p.value / p.case.measured - 1.0 for p in found])


def is_on(case: Case, names: Sequence[str]) -> bool:
    """Whether a case was measured on one of the accelerators, by the start of their names."""
    return case.deployments[0].hardware_name.startswith(tuple(names))


def load() -> Data:
    """The shipped data."""
    records = [record for record in load_records() if record["category"] != FILLED]
    read = (case for case in read_cases(records) if isinstance(case, Case))
    cases = tuple(plain(case) for case in read if not case.not_scored)
    return Data(cases, {str(record["id"]): record for record in records})


def main() -> None:
    """Fit, then report."""
    data = load()
    for names in SPLITS:
        fitted = data.fit_on(names)
        constants = {**FROM_KERNELS, **fitted.values}
        print(f"fitted on {', '.join(names)}: {fitted.records} records")
        show(fitted)
        for level in ("high", "medium"):
            for gpu in ("h100", "b200", "h200", "b300"):
                mark = "fitted  " if gpu in names else "left out"
                one = summary(data.served((gpu,), level, True), constants)
                print(f"  {mark} {gpu} {level:<6} {one}")
            for mark, is_in in (("fitted", True), ("left out", False)):
                both = summary(data.served(names, level, is_in), constants)
                print(f"  all {mark:<8} {level:<8} {both}")
        for category in sorted({data.category(case) for case in data.cases} - {SERVED}):
            some = [case for case in data.cases if data.category(case) == category]
            print(f"  {category:<26} {summary(some, constants)}")


if __name__ == "__main__":
    main()
