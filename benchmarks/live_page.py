"""`python -m benchmarks.live_page`: how long a move of a slider takes, until answer and curves.

Needs the extra `app`. Without a browser: what is left out is sending and painting.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import qsjax as qs

MOVES = (1.19, 1.41, 1.68, 2.0, 2.38, 2.83, 3.36)


def _times(action: Callable[[float], Any]) -> dict[str, float]:
    """Median of wall and of processor time over the moves [ms]."""
    wall, cpu = [], []
    for factor in MOVES:
        start = time.perf_counter(), time.process_time()
        action(factor)
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return {
        f"{k}_ms": round(1e3 * statistics.median(x), 1) for k, x in (("wall", wall), ("cpu", cpu))
    }


def measured(model: str = "deepseek-v3", gpus: int = 64, **more: Any) -> dict[str, Any]:
    """Times of the answer alone, and of a whole update: answer, bars and curves."""
    from qsjax.output.live import view as live
    from qsjax.output.live.page import Page

    problem = qs.Problem(model, "h200-sxm", gpus=gpus, twins=5, **more)
    page = Page(problem)

    def answer(factor: float) -> None:
        live.view(problem, dataclasses.replace(live.first(problem), hbm_bw=factor))

    def update(factor: float) -> None:
        page.controls["hbm_bw"].value = factor

    return {"problem": repr(problem), "answer": _times(answer), "update": _times(update)}


def main() -> None:
    """Print the times without and with a limit."""
    found = [measured(), measured(limits=qs.Limits(max_tpot=0.05))]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
