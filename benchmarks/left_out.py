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
from qsjax.evidence.measurements.predict import FIRST_TOKENS, batches, outcomes
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
def first_tokens() -> dict[str, tuple[float, float]]:
    """`FIRST_TOKENS`, fitted to the records with a time to first token, engine by engine."""
    known = [
        record | {"metric": "TTFT", "value": record["ttft_ms"], "unit": "ms"}
        for record in load_records()
        if record["ttft_ms"]
    ]
    scored = [c for c in read_cases(known) if isinstance(c, Case) and not c.not_scored]
    return {name: first_token(scored, name) for name in FIRST_TOKENS}


def first_token(cases: list[Case], engine: str) -> tuple[float, float]:
    """Steps and share of the rush that meet the cases of one engine best."""
    used = [case for case in cases if case.deployments[0].engine == engine]
    outcome = outcomes(*batches(used), {})
    terms = np.stack([np.asarray(outcome.tpot), np.asarray(outcome.rush)], axis=1)
    steady, measured = np.asarray(outcome.ttft), np.array([case.measured * MS for case in used])
    found = least_squares(
        lambda logs: np.log((steady + terms @ np.exp(logs)) / measured),
        np.log([4.0, 0.2]),
        bounds=(-9.0, 9.0),
        loss="soft_l1",
        f_scale=0.1,
    )
    steps, share = np.exp(found.x)
    return float(steps), float(share)


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
    for name, (steps, share) in first_tokens().items():
        print(f"time to first token: {name} ({steps:.3g}, {share:.3g})")


if __name__ == "__main__":
    main()
