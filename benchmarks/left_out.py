"""Errors of measurements whose group was left out of the fit, and the intervals that follow.

Run `python -m benchmarks.left_out` whenever the model or its constants change; it takes about three
minutes. It writes `qsjax/evidence/measurements/left_out.csv.gz`, from which `qsjax validate` prints
its first table, and `qsjax/engines/spread.json`, from which every prediction takes its interval.
"""

import gzip
import json
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from benchmarks import unseen
from benchmarks.refits import LeftOut, leave_out, serving_of
from benchmarks.spreads import build, coverage, errors_of, scores
from qsjax.engines.spread import Spread
from qsjax.evidence.measurements import Case, load_records, read_cases
from qsjax.evidence.measurements.predict import (
    batches,
    first_token_name,
    outcomes,
    polls,
)
from qsjax.evidence.validation import FILLED
from qsjax.numerics.loading import in_float64
from qsjax.output.files import csv_text
from qsjax.records.units import MS

ERRORS = Path(str(resources.files("qsjax.evidence.measurements"))) / "left_out.csv.gz"
SPREAD = Path(str(resources.files("qsjax.engines"))) / "spread.json"
DIGITS = 5


@in_float64
def measure() -> LeftOut:
    """The errors of shipped measurements of serving, as they are predicted: with kernels.

    Those that nothing is fitted to are no part of it.
    """
    records = [record for record in load_records() if record["category"] != FILLED]
    levels = {str(record["id"]): str(record["confidence"]) for record in records}
    return leave_out(serving_of([c for c in read_cases(records) if isinstance(c, Case)], levels))


class Delays(NamedTuple):
    """What times to first token have beyond the laws: schedulers.toml and `FIRST_TOKENS`.

    Attributes:
        frontend: of all engines but SGLang [s].
        sglang_frontend: of SGLang [s].
        trtllm_stream: steps that a token of TensorRT-LLM is on its way; of the others it is one.
        ranked: steps that its ranks of data parallelism wait for each other.
        rush: share of the mean time where all requests come at once, of all but TensorRT-LLM.
        trtllm_rush: of TensorRT-LLM.
    """

    frontend: float
    sglang_frontend: float
    trtllm_stream: float
    ranked: float
    rush: float
    trtllm_rush: float


@in_float64
def first_tokens() -> Delays:
    """The delays, fitted to the records with a time to first token.

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
    engines = np.array([case.deployments[0].engine for case in used])
    is_trtllm, is_sglang = engines == "trtllm", engines == "sglang"
    is_ranked = np.array([first_token_name(case) == "trtllm dp" for case in used])
    waits = np.array([polls(case) for case in used])
    is_median = np.array([case.is_median for case in used])
    measured = np.array([case.measured * MS for case in used])
    built, position = batches(used)
    order = np.argsort(position)

    def residuals(logs: np.ndarray) -> np.ndarray:
        delays = Delays(*np.exp(logs).tolist())
        streams = np.where(is_trtllm, delays.trtllm_stream, 1.0)[order]
        moved, start = [], 0
        for batch, convention in built:
            own = streams[start : start + len(batch.prompt)]
            start += len(own)
            rules = batch.rules._replace(stream_steps=own, frontend=np.zeros(len(own)))
            moved.append((batch._replace(rules=rules), convention))
        outcome = outcomes(moved, position, {})
        frontend = np.where(is_sglang, delays.sglang_frontend, delays.frontend)
        rush = np.where(is_trtllm, delays.trtllm_rush, delays.rush) * ~is_median
        steps = waits + delays.ranked * is_ranked
        times = outcome.ttft + frontend + steps * outcome.tpot + rush * outcome.rush
        return np.log(np.asarray(times) / measured)

    first = np.log([0.012, 0.05, 5.0, 25.0, 0.2, 0.2])
    fit = least_squares(residuals, first, loss="soft_l1", f_scale=0.1, diff_step=1e-3, max_nfev=15)
    return Delays(*np.exp(fit.x).tolist())


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
    spread = build(rows, found.constants, found.covariance)
    spread = spread._replace(elsewhere=unseen.elsewhere(unseen.rows()))
    SPREAD.write_text(stored(spread), encoding="utf-8")
    errors = errors_of(rows)
    for level in (0.5, 0.8, 0.9):
        inside = coverage(errors, scores(errors), level).values()
        held = sum(k for _, k in inside) / sum(n for n, _ in inside)
        print(f"intervals of {level:.0%} hold {held:.1%} of the records of groups left out")
    for name, value in first_tokens()._asdict().items():
        unit = " s" if "frontend" in name else " steps" if "rush" not in name else ""
        print(f"time to first token: {name} {value:.3g}{unit}")


if __name__ == "__main__":
    main()
