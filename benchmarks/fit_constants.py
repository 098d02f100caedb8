"""Fit the catalogue's default constants to the shipped measurements, split by accelerator.

Run `python -m benchmarks.fit_constants`. It prints the constants with their intervals, the errors
on the accelerators that were fitted and on those left out, and fits made on fewer accelerators.
"""

from collections.abc import Callable, Sequence

import numpy as np

from qsjax.calibration import Fit, fit
from qsjax.measurements import Case, load_records, predict, read_cases
from qsjax.units import US

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
    "prefill_overhead": 10 * US,
}

Chosen = Callable[[Case], bool]


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


def main() -> None:
    """Fit, then report."""
    records = load_records()
    by_id = {record["id"]: record for record in records}
    cases = [case for case in read_cases(records) if isinstance(case, Case)]

    def on(names: Sequence[str]) -> Chosen:
        return lambda case: case.deployments[0].hardware_name.startswith(tuple(names))

    def confidence(case: Case) -> str:
        return str(by_id[case.id]["confidence"])

    def fit_on(names: Sequence[str]) -> Fit:
        chosen = [
            case
            for case in cases
            if on(names)(case)
            and by_id[case.id]["category"] in CATEGORIES
            and confidence(case) in WEIGHTS
        ]
        weights = [WEIGHTS[confidence(case)] for case in chosen]
        return fit(chosen, fixed=FROM_KERNELS, weights=weights)

    served = [case for case in cases if by_id[case.id]["category"] == SERVED]
    for names in SPLITS:
        fitted = fit_on(names)
        constants = {**FROM_KERNELS, **fitted.values}
        print(f"fitted on {', '.join(names)}: {fitted.records} records")
        show(fitted)
        for level in ("high", "medium"):
            for gpu in ("h100", "b200", "h200", "b300"):
                some = [c for c in served if on((gpu,))(c) and confidence(c) == level]
                mark = "fitted  " if gpu in names else "left out"
                print(f"  {mark} {gpu} {level:<6} {summary(some, constants)}")
            inside = [c for c in served if on(names)(c) and confidence(c) == level]
            outside = [c for c in served if not on(names)(c) and confidence(c) == level]
            print(f"  all fitted {level:<11} {summary(inside, constants)}")
            print(f"  all left out {level:<9} {summary(outside, constants)}")
        for category in sorted({by_id[case.id]["category"] for case in cases} - {SERVED}):
            some = [c for c in cases if by_id[c.id]["category"] == category]
            print(f"  {category:<26} {summary(some, constants)}")


if __name__ == "__main__":
    main()
