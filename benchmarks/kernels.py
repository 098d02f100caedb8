"""Which kernels of a streamed sweep take the time, as the profiler of JAX sees them."""

import re
import tempfile
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from benchmarks import problem, rates
from qsjax.records.specs import PHYSICAL
from qsjax.streaming.engine import Engine, Job, Precision
from qsjax.streaming.kernels import reduce_one

# Kernels of XLA by name: what only passes on other kernels' time is left out.
_KERNEL = re.compile(r"^(?!while|call|conditional|end)[a-z][a-z_\-]*[\w.\-]*$")
_REDUCTION = re.compile(r"reduce|ynn")
# Calls of a profile, and profiles, of which the fastest counts.
CALLS, PROFILES = 3, 4


def _recorded(folder: Path) -> Counter[str]:
    """Seconds of every kernel in a recorded profile."""
    seconds: Counter[str] = Counter()
    for path in folder.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    if _KERNEL.match(event.name):
                        seconds[event.name] += event.duration_ns * 1e-9
    return seconds


def core_ns_per_cell(precision: Precision) -> dict[str, float]:
    """Nanoseconds of a core that each cell takes: in reductions, and in all other kernels."""
    job = Job(problem.records(), PHYSICAL, problem.OBJECTIVE, precision=precision)
    plan = rates.stream_plan()
    engine, blocks = Engine(job, plan), np.arange(plan.per_call)
    engine.call(blocks, reduce_one)

    def profile() -> Counter[str]:
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                for _ in range(CALLS):
                    engine.call(blocks, reduce_one)
            return _recorded(Path(folder))

    seconds = min((profile() for _ in range(PROFILES)), key=lambda found: sum(found.values()))
    cells = CALLS * plan.per_call * np.prod(plan.inner) * len(plan.designs)
    reductions = sum(s for name, s in seconds.items() if _REDUCTION.search(name))
    others = sum(seconds.values()) - reductions
    return {"reductions": float(reductions / cells * 1e9), "others": float(others / cells * 1e9)}
