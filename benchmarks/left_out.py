"""Errors of measurements whose group was left out of the fit, and the intervals that follow.

Run `python -m benchmarks.left_out` whenever the model or its constants change; it takes about three
minutes. It writes `qsjax/evidence/measurements/left_out.csv.gz`, from which `qsjax validate` prints
its first table, and `qsjax/engines/spread.json`, from which every prediction takes its interval.
"""

import gzip
import json
from importlib import resources
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from benchmarks.refits import LeftOut, leave_out, serving_of
from benchmarks.spreads import build, coverage, errors_of, scores
from qsjax.engines.spread import Spread
from qsjax.evidence.measurements import Case, load_records, read_cases
from qsjax.evidence.measurements.predict import (
    FirstToken,
    batches,
    first_token_name,
    outcomes,
    polls,
)
from qsjax.numerics.float64 import in_float64
from qsjax.output.files import csv_text
from qsjax.records.units import MS

ERRORS = Path(str(resources.files("qsjax.evidence.measurements"))) / "left_out.csv.gz"
SPREAD = Path(str(resources.files("qsjax.engines"))) / "spread.json"
DIGITS = 5


@in_float64
def measure() -> LeftOut:
    """The errors of all shipped measurements of serving, as they are predicted: with kernels."""
    records = load_records()
    levels = {str(record["id"]): str(record["confidence"]) for record in records}
    return leave_out(serving_of([c for c in read_cases(records) if isinstance(c, Case)], levels))


@in_float64
def first_tokens() -> dict[str, FirstToken]:
    """`FIRST_TOKENS`, fitted to the records with a time to first token.

    Records of SGLang that state no release are predicted, but not fitted to: at 4 requests in
    flight some wait for seconds, 30 times as long as their prompts take.
    """
    known = [
        record | {"metric": "TTFT", "value": record["ttft_ms"], "unit": "ms"}
        for record in load_records()
        if record["ttft_ms"]
    ]
    used = [
        case
        for record, case in zip(known, read_cases(known), strict=True)
        if isinstance(case, Case) and not case.not_scored and record["engine"] != "sglang"
    ]
    names = [first_token_name(case) for case in used]
    waits = np.array([polls(case) for case in used])
    is_median = np.array([case.is_median for case in used])
    outcome = outcomes(*batches(used), {})
    measured = np.array([case.measured * MS for case in used])

    def values(logs: np.ndarray) -> dict[str, FirstToken]:
        host, sglang_host, steps, ranked, rush, trtllm_rush = np.exp(logs).tolist()
        return {
            "vllm": FirstToken(host, 1.0, rush),
            "trtllm": FirstToken(host, steps, trtllm_rush),
            "trtllm dp": FirstToken(host, ranked, trtllm_rush),
            "sglang": FirstToken(sglang_host, 1.0, rush),
            "atom": FirstToken(host, 1.0, rush),
        }

    def residuals(logs: np.ndarray) -> np.ndarray:
        found = values(logs)
        host, steps, rush = np.array([found[name] for name in names]).T
        rush = np.where(is_median, 0.0, rush)
        times = outcome.ttft + host + (steps + waits) * outcome.tpot + rush * outcome.rush
        return np.log(np.asarray(times) / measured)

    start = np.log([0.02, 0.1, 5.0, 20.0, 0.2, 0.2])
    return values(least_squares(residuals, start, loss="soft_l1", f_scale=0.1).x)


def stored(spread: Spread) -> str:
    """A spread as text, rounded."""
    plain = spread._asdict()
    plain |= {name: getattr(spread, name).tolist() for name in ("quantiles", "covariance")}
    rounded = json.loads(json.dumps(plain), parse_float=lambda x: float(f"{float(x):.{DIGITS}g}"))
    return json.dumps(rounded, indent=1) + "\n"


def main() -> None:
    """Fit without each group, write both files, and print how many records the intervals hold."""
    found = measure()
    rows = [
        {name: round(x, DIGITS) if isinstance(x, float) else x for name, x in row.items()}
        for row in found.rows
    ]
    ERRORS.write_bytes(gzip.compress(csv_text(rows).encode(), mtime=0))
    SPREAD.write_text(stored(build(rows, found.constants, found.covariance)), encoding="utf-8")
    errors = errors_of(rows)
    for level in (0.5, 0.8, 0.9):
        inside = coverage(errors, scores(errors), level).values()
        held = sum(k for _, k in inside) / sum(n for n, _ in inside)
        print(f"intervals of {level:.0%} hold {held:.1%} of the records of groups left out")
    for name, (host, steps, rush) in first_tokens().items():
        print(
            f"time to first token: {name} {1e3 * host:.3g} ms, {steps:.3g} steps, rush {rush:.3g}"
        )


if __name__ == "__main__":
    main()
