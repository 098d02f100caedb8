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

from benchmarks.fit_constants import load
from qsjax.engines.spread import Spread
from qsjax.evidence.left_out import LeftOut, leave_out, serving_of
from qsjax.evidence.measurements import Case, load_records, read_cases
from qsjax.evidence.measurements.predict import BURST, batches, outcomes_on_host
from qsjax.evidence.spreads import build, coverage, errors_of, scores
from qsjax.numerics.float64 import in_float64
from qsjax.numerics.safe import scalar
from qsjax.output.files import csv_text

ERRORS = Path(str(resources.files("qsjax.evidence.measurements"))) / "left_out.csv.gz"
SPREAD = Path(str(resources.files("qsjax.engines"))) / "spread.json"
DIGITS = 5


@in_float64
def measure() -> LeftOut:
    """The errors of all shipped measurements of serving."""
    data = load()
    levels = {case.id: data.confidence(case) for case in data.cases}
    return leave_out(serving_of(data.cases, levels))


@in_float64
def first_tokens() -> np.ndarray:
    """`PROMPT_STRETCH` and `FIRST_STEPS` of the time to first token, fitted to its records."""
    known = [record for record in load_records() if record["ttft_ms"]]
    pairs = zip(known, read_cases(known), strict=True)
    used = [(r, c) for r, c in pairs if isinstance(c, Case) and not c.not_scored]
    outcome = outcomes_on_host(*batches([case for _, case in used]), {})
    sequences = np.array([scalar(case.deployments[0].workload.batch) for _, case in used])
    prompts = (1.0 + 0.5 * BURST * (sequences - 1.0)) * np.asarray(outcome.ttft)
    terms = np.stack([prompts, np.asarray(outcome.tpot + outcome.wait)], axis=1)
    measured = 1e-3 * np.array([record["ttft_ms"] for record, _ in used])
    found = least_squares(
        lambda logs: np.log(terms @ np.exp(logs) / measured),
        np.zeros(2),
        loss="soft_l1",
        f_scale=0.3,
    )
    factors: np.ndarray = np.exp(found.x)
    return factors


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
    stretch, steps = first_tokens()
    print(f"time to first token: PROMPT_STRETCH {stretch:.2f}, FIRST_STEPS {steps:.2f}")


if __name__ == "__main__":
    main()
