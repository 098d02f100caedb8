"""Sweeps decided by bounds: 10^12 designs, and 10^9 against the search that evaluates every one.

python -m benchmarks.pruning
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import qsjax as qs
from qsjax.streaming.question import Sweep

# Numbers of an H100, which four axes vary from half to twice.
RATES = {"hbm_bw": 3.35e12, "intra_bw": 4.5e11, "inter_bw": 5e10, "flops_fp8": 1.979e15}
CONTEXTS = [1024 * k for k in (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160)]
# Steps of each rate, and contexts: about 10^9 and 10^12 designs of every partition of 128 GPUs.
CHECKED, DECIDED = (19, 2), (62, 12)


def problem(steps: int, contexts: int) -> qs.Problem:
    """DeepSeek-V3 and its twin on 128 GPUs, four rates and contexts as axes."""
    return qs.Problem(
        "deepseek-v3",
        "h100-sxm",
        gpus=128,
        twins=[5],
        context=CONTEXTS[-contexts:],
        axes={name: np.geomspace(x / 2, 2 * x, steps) for name, x in RATES.items()},
    )


def timed(
    size: tuple[int, int], *, prune: bool, winners: bool = False
) -> tuple[Sweep, pd.DataFrame, float]:
    """A sweep that counts the wins of each design, or keeps the winners; its table and seconds."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = qs.sweep(
            problem(*size),
            Path(folder) / "sweep",
            winners=winners,
            top_k=10 if winners else 0,
            wins=not winners,
            prune=prune,
        )
        assert found is not None  # in the first process there is a result
        seconds = time.perf_counter() - start
        return found, found.frame() if winners else found.wins(), seconds


def told(name: str, found: Sweep, seconds: float) -> None:
    """A line on a sweep."""
    counts = found.counts
    share = counts["designs_computed"] / counts["designs_evaluated"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name}: {counts['designs_computed']:.4g} designs in {seconds:.1f} s, "
        f"{counts['designs_evaluated']:.4g} evaluated ({share:,.0f} times fewer), "
        f"{counts['cells_within_rounding_of_a_tie']} cells within rounding of a tie, "
        f"{memory:.2f} GiB at most so far"
    )


def main() -> None:
    """Print what both sweeps take, and whether both ways agree."""
    found, wins, seconds = timed(DECIDED, prune=True)
    told("decided by bounds", found, seconds)
    print(f"designs that win somewhere in it: {len(wins)}")
    same = True
    for winners in (False, True):
        kept = "winners, scores, top 10" if winners else "wins"
        one, own, seconds = timed(CHECKED, prune=True, winners=winners)
        told(f"{kept}, by bounds", one, seconds)
        other, full, seconds = timed(CHECKED, prune=False, winners=winners)
        told(f"{kept}, evaluated", other, seconds)
        counts = ("designs_computed", "designs_feasible", "designs_with_reason")
        agree = own.equals(full) and all(one.counts[k] == other.counts[k] for k in counts)
        print(f"bit-identical: {agree}")
        same = same and agree
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
