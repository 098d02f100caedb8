"""`python -m benchmarks.serving`: the Pareto front and the verbs of a serving team, as JSON.

Every design of the grid is decided: illegal ones and those that do not fit by their partition, once
for all batches; all others are evaluated. Verbs are timed as processes: the first run of all, which
compiles (`first_s`), and the best of the next ones, as a user finds them from then on (`best_s`).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import click
import numpy as np

from benchmarks import problem
from benchmarks.timing import machine, peak_rss_mb
from qsjax.grid.problem import Problem
from qsjax.questions.pareto import pareto

CONTEXTS = (8, 80)  # 10^8 and 10^9 designs
VERBS = {
    "explain": "deepseek-v3 --hardware h100-sxm --tp 8 --dp 8 --ep 64 --context 8k",
    "compare": "deepseek-v3 deepseek-v3:q=5 --hardware h100-sxm --gpus 64",
}


def asked(contexts: int) -> Problem:
    """The model and its twin on 64 GPUs at so many contexts."""
    lengths = np.geomspace(*problem.CONTEXTS, contexts).round().tolist()
    return Problem(
        problem.MODEL, problem.HARDWARE, gpus=problem.GPUS, context=lengths, twins=problem.Q
    )


def front(contexts: int) -> dict[str, Any]:
    """Seconds, designs and memory of the fronts of both variants at so many contexts."""
    grid = asked(contexts)
    before = peak_rss_mb()
    start = time.perf_counter()
    fronts = pareto(grid).fronts
    seconds = time.perf_counter() - start
    decided = sum(one.decided for one in fronts)
    return {
        "seconds": seconds,
        "fronts": len(fronts),
        "points": int(np.sum([len(one.user) for one in fronts])),
        "designs_decided": decided,
        "designs_evaluated": sum(one.evaluated for one in fronts),
        "designs_per_s": decided / seconds,
        "peak_rss_mb": peak_rss_mb(),
        "peak_rss_growth_mb": peak_rss_mb() - before,
    }


def verb(name: str, arguments: str, repeats: int = 5) -> dict[str, float]:
    """Seconds of a verb from the prompt: the first run of all, and the best of the next ones."""
    times = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(1 + repeats):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "qsjax", name, *arguments.split()],
                check=True,
                capture_output=True,
                env={**os.environ, "QSJAX_CACHE": cache},
            )
            times.append(time.perf_counter() - start)
    return {"first_s": times[0], "best_s": min(times[1:])}


def main() -> None:
    """Measure and print one JSON object."""
    start = time.perf_counter()
    pareto(asked(1))
    found: dict[str, Any] = {"machine": machine(), "first_call_s": time.perf_counter() - start}
    for contexts in CONTEXTS:
        found[f"pareto_{contexts}_contexts"] = front(contexts)
    found |= {name: verb(name, arguments) for name, arguments in VERBS.items()}
    click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
