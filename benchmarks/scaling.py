"""How the cost per cell changes with cells, axes, devices and processes; memory; first result.

Every measurement is a process of its own, `python -m benchmarks.scaling '{"what": ...}'`, so that
its memory and its number of devices are its own. It prints one JSON object.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

# Cold starts of a process, of which the fastest counts.
STARTS = 3
# Kept axes that are added one by one, in this order, with two values each.
FURTHER = {
    "intra_bw": (3e11, 6e11),
    "inter_bw": (2.5e10, 5e10),
    "flops_fp8": (2e15, 4e15),
    "usable_fraction": (0.85, 0.9),
    "layer_overhead": (0.0, 2e-6),
    "bytes_kv": (1.0, 2.0),
}


def run_apart(task: dict[str, Any], devices: int = 1, timeout: float = 900.0) -> dict[str, Any]:
    """Result of one task in a new process with this many (simulated) devices."""
    return collect(start_apart(task, devices), timeout)


def start_apart(task: dict[str, Any], devices: int = 1) -> "subprocess.Popen[str]":
    """The process of one task."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    given = json.dumps({**task, "started": time.time()})
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scaling", given],
        env={**os.environ, "XLA_FLAGS": flags.strip()},
        stdout=subprocess.PIPE,
        text=True,
    )


def collect(process: "subprocess.Popen[str]", timeout: float) -> dict[str, Any]:
    """What a process printed last.

    Raises:
        RuntimeError: it failed or took longer than `timeout` seconds.
    """
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"a measurement took longer than {timeout:g} s") from None
    if process.returncode:
        raise RuntimeError(f"a measurement failed with exit code {process.returncode}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def _swept(cells: float, share: tuple[int, int] = (0, 1), precision: str = "float64") -> Any:
    import jax

    from benchmarks import problem
    from qsjax.records.specs import PHYSICAL
    from qsjax.streaming.aggregate import new_tally
    from qsjax.streaming.engine import Engine, Job
    from qsjax.streaming.plan import make_plan
    from qsjax.streaming.run import Outputs, run_chunk

    grid = problem.axes_of(cells)
    job = Job(problem.records(), PHYSICAL, problem.OBJECTIVE, precision=precision)
    plan = make_plan(
        job.records, grid, PHYSICAL, skip_illegal=False, devices=len(jax.local_devices())
    )
    engine, wanted = Engine(job, plan), Outputs(winners=False, top_k=0)
    index, count = share
    own = range(index, plan.chunks, count)

    def call(report: Any = lambda cells: None, most: int | None = None) -> int:
        computed = 0
        for chunk in own[:most]:
            tally, _ = run_chunk(engine, chunk, wanted, new_tally(0), report)
            computed += tally.computed
        return computed

    return call, grid


def cells(sizes: list[float], budget_s: float, **_: Any) -> dict[str, Any]:
    """Nanoseconds a cell and peak memory at rising sizes, until the next would take too long."""
    from benchmarks.timing import peak_rss_mb

    rows: list[dict[str, Any]] = []
    spent = 0.0
    for size in sizes:
        last = rows[-1]["ns_per_cell"] * 1e-9 * size if rows else 0.0
        if spent + last > budget_s:
            rows.append({"cells": size, "skipped": f"about {last:.0f} s, over the time allowed"})
            break
        call, grid = _swept(size)
        call(most=1)
        times = []
        for _attempt in range(max(1, min(10, int(1e9 / size)))):
            start = time.perf_counter()
            computed = call()
            times.append(time.perf_counter() - start)
        spent += sum(times)
        rows.append(
            {
                "cells": grid.cells,
                "computed": computed,
                "seconds": min(times),
                "ns_per_cell": min(times) / computed * 1e9,
                "peak_rss_mb": peak_rss_mb(),
            }
        )
    return {"rows": rows}


def first(cells: float, started: float, **_: Any) -> dict[str, Any]:
    """Seconds from the start of the process to the first winners of a grid, and what took them."""
    import jax

    found: list[float] = []
    parts = dict.fromkeys(("trace", "lower", "compile"), 0.0)
    events = {
        "/jax/core/compile/jaxpr_trace_duration": "trace",
        "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
        "/jax/core/compile/backend_compile_duration": "compile",
    }

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event in events:
            # Programs inside others are traced within the time of these.
            parts[events[event]] = max(parts[events[event]], seconds)

    imported = time.time() - started
    jax.monitoring.register_event_duration_secs_listener(listen)

    class DoneError(Exception):
        """The first result is there."""

    def report(_: int) -> None:
        found.append(time.time() - started)
        raise DoneError

    call, grid = _swept(cells)
    with contextlib.suppress(DoneError):
        call(report)
    return {"cells": grid.cells, "first_result_s": found[0], "import_s": imported, **parts}


def devices(cells: float, **_: Any) -> dict[str, Any]:
    """Rate of a sweep over the devices of this process."""
    import jax

    call, _grid = _swept(cells)
    call()
    start = time.perf_counter()
    computed = call()
    taken = time.perf_counter() - start
    return {"devices": jax.device_count(), "computed": computed, "cells_per_s": computed / taken}


def core(cells: float, **_: Any) -> dict[str, Any]:
    """Rates of a sweep that has one core of the processor, in both precisions."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rates = {}
    for precision in ("float64", "float32"):
        call, _grid = _swept(cells, precision=precision)
        call()
        start = time.perf_counter()
        computed = call()
        rates[precision] = computed / (time.perf_counter() - start)
    return rates


def process(cells: float, index: int, count: int, **_: Any) -> dict[str, Any]:
    """One process's share of the chunks of a sweep: when it began and ended, and its cells."""
    call, _grid = _swept(cells, (index, count))
    call(most=1)
    begun = time.time()
    computed = call()
    return {"computed": computed, "begun": begun, "ended": time.time()}


def axes(contexts: int, **_: Any) -> dict[str, Any]:
    """Rate of the fused search as kept axes are added, the number of cells staying the same."""
    import jax
    import numpy as np

    from benchmarks import problem
    from benchmarks.timing import best_seconds

    rows = []
    for number in range(len(FURTHER) + 1):
        if 2**number > contexts:
            break
        further = {name: np.array(FURTHER[name]) for name in list(FURTHER)[:number]}
        grid = problem.axes(contexts // 2**number, **further)
        records, shape = problem.block(grid, "float64")
        records = jax.device_put(records)
        call = partial(problem.reduce_block, records, shape)
        start = time.perf_counter()
        jax.block_until_ready(call())
        compiled = time.perf_counter() - start
        taken = best_seconds(call, 0.5)
        rows.append(
            {
                "axes": len(grid.all),
                "cells": grid.cells,
                "cells_per_s": grid.cells / taken,
                "compile_s": compiled,
            }
        )
    return {"rows": rows}


TASKS = {
    "cells": cells,
    "first": first,
    "core": core,
    "devices": devices,
    "process": process,
    "axes": axes,
}


def over_processes(cells: float, counts: tuple[int, ...] = (1, 2)) -> list[dict[str, Any]]:
    """Rate of a sweep whose chunks are dealt to several processes."""
    rows = []
    for count in counts:
        tasks = [
            {"what": "process", "cells": cells, "index": k, "count": count} for k in range(count)
        ]
        found = [collect(p, 600.0) for p in [start_apart(task) for task in tasks]]
        begun, ended = min(x["begun"] for x in found), max(x["ended"] for x in found)
        computed = sum(x["computed"] for x in found)
        rows.append({"processes": count, "cells_per_s": computed / (ended - begun)})
    return rows


if __name__ == "__main__":
    import qsjax  # noqa: F401  (float64 before anything else)

    task = json.loads(sys.argv[1])
    print(json.dumps(TASKS[task.pop("what")](**task)))
