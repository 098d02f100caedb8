"""`python -m benchmarks.run`: every measurement of speed, as one JSON object and a report.

\b
    python -m benchmarks.run --quick --json     under a minute, one JSON object
    python -m benchmarks.run                    everything; writes results.json and RESULTS.md
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
NS = 1e9


def _progress(text: str) -> None:
    click.echo(text, err=True)


def _rate(measured: tuple[float, int]) -> float:
    seconds, cells = measured
    return cells / seconds


def quick(seconds: float = 0.8) -> dict[str, Any]:
    """The headline numbers, each the best of repeats; ratios are of one and the same run."""
    import jax

    from benchmarks import ceilings, operations, rates
    from benchmarks.timing import machine
    from benchmarks.wording import DTYPES

    about = machine()
    found: dict[str, Any] = {"machine": about}
    bandwidths = rates.stream_plan().step  # of a block: they share what they do not change
    counts = {1: operations.by_hand(), bandwidths: operations.by_hand(bandwidths)}
    # Compilation first, while nothing is cached; the search right beside its own ceiling.
    found["compile_s"] = rates.compile_seconds(rates.BLOCK_CONTEXTS, "float64")
    for dtype, short in DTYPES.items():
        with jax.enable_x64(dtype == "float64"):
            limits = ceilings.ceilings(dtype, min(0.3, seconds))
            search = {
                contexts: _rate(rates.argmax_seconds(contexts, dtype, seconds))
                for contexts in (rates.BLOCK_CONTEXTS, rates.grid_contexts())
            }
        streamed = _rate(
            rates.stream_seconds(rates.stream_grid(), dtype, skip_illegal=False, seconds=seconds)
        )
        # Once more behind the search: a neighbour's work may have lowered the first.
        with jax.enable_x64(dtype == "float64"):
            again = ceilings.ceilings(dtype, min(0.3, seconds))
            limits = {k: max(x, limits[k]) for k, x in again.items()}
        limit = {k: operations.cells_per_s_at_the_ceiling(own, limits) for k, own in counts.items()}
        best, of = max(*((x, 1) for x in search.values()), (streamed, bandwidths))
        found |= {
            f"argmax_{short}_cells_per_s": best,
            f"argmax_block_{short}_cells_per_s": search[rates.BLOCK_CONTEXTS],
            f"argmax_grid_{short}_cells_per_s": search[rates.grid_contexts()],
            f"stream_{short}_cells_per_s": streamed,
            f"ceilings_{short}": limits,
            f"ceiling_{short}_cells_per_s": limit[of],
            f"ceiling_fraction_{short}": best / limit[of],
            f"ceiling_call_{short}_cells_per_s": limit[1],
            f"bandwidths_{short}": of,
            "contexts": list(search),
        }
    numpy_rate, numpy_contexts = rates.numpy_rate(seconds)
    gradient = _rate(rates.gradient_seconds(rates.BLOCK_CONTEXTS, "float64", seconds))
    return found | {
        "numpy_f64_cells_per_s": numpy_rate,
        "numpy_contexts": numpy_contexts,
        "gradient_f64_cells_per_s": gradient,
        "ops_per_cell": sum(counts[found["bandwidths_f64"]].values()),
        "ops_per_cell_by_kind": counts[found["bandwidths_f64"]],
        "numpy_speedup": found["argmax_f64_cells_per_s"] / numpy_rate,
        "f32_over_f64": found["argmax_f32_cells_per_s"] / found["argmax_f64_cells_per_s"],
    }


def _grids(budget: float) -> dict[str, Any]:
    import jax

    from benchmarks import kernels, operations, problem, rates
    from benchmarks.wording import DTYPES

    block = rates.BLOCK_CONTEXTS
    found: dict[str, Any] = {}
    found["dense_f64_cells_per_s"] = _rate(rates.dense_seconds(block, "float64"))
    found["optimum_gradient_f64_cells_per_s"] = _rate(
        rates.optimum_gradient_seconds(rates.GRID_CONTEXTS)
    )
    for dtype, short in DTYPES.items():
        with jax.enable_x64(dtype == "float64"):
            found[f"every_{short}_cells_per_s"] = {
                contexts: _rate(rates.every_seconds(contexts, dtype))
                for contexts in rates.EVERY_CONTEXTS
            }
    found["kernels"] = {short: kernels.core_ns_per_cell(dtype) for dtype, short in DTYPES.items()}
    found["recompilations"] = rates.recompilations()
    found["float32"] = rates.float32_error(rates.GRID_CONTEXTS // 4)
    found["xla"] = operations.compiled_counts(rates.GRID_CONTEXTS, "float64")
    grid = rates.stream_every(budget * 2e8)
    seconds, computed = rates.stream_seconds(grid, "float64", skip_illegal=True, gpus=problem.GPUS)
    found["stream_legal"] = {
        "grid_cells": grid.cells,
        "computed": computed,
        "computed_per_s": computed / seconds,
        "grid_cells_per_s": grid.cells / seconds,
    }
    return found


def _scaling(budget: float) -> dict[str, Any]:
    from benchmarks import scaling
    from benchmarks.timing import cores

    sizes = [1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10]
    tasks: dict[str, Callable[[], Any]] = {
        "first": lambda: min(
            (
                scaling.run_apart({"what": "first", "cells": 1e10}, cores())
                for _ in range(scaling.STARTS)
            ),
            key=lambda found: found["first_result_s"],
        ),
        "core": lambda: scaling.run_apart({"what": "core", "cells": 1e8}),
        "axes": lambda: scaling.run_apart({"what": "axes", "contexts": 64})["rows"],
        "devices": lambda: [
            scaling.run_apart({"what": "devices", "cells": 2e8}, count) for count in (1, 2, 8)
        ],
        "processes": lambda: scaling.over_processes(4e8),
        "cells": lambda: scaling.run_apart(
            {"what": "cells", "sizes": sizes, "budget_s": budget},
            cores(),
            timeout=4.0 * budget + 120.0,
        )["rows"],
    }
    found = {}
    for name, task in tasks.items():
        _progress(f"scaling with {name} ...")
        found[name] = task()
    return found


def everything(budget: float, python: str) -> dict[str, Any]:
    """The headline numbers and all others.

    Args:
        budget: seconds that the largest grids may take together.
        python: interpreter that has the rivals.
    """
    from benchmarks import rivals

    _progress("rates and ceilings ...")
    found = quick(seconds=3.0)
    _progress("further rates ...")
    found["grids"] = _grids(budget)
    import jax

    if jax.default_backend() == "cpu":
        found["scaling"] = _scaling(budget)
    _progress("rivals ...")
    found["rivals"] = rivals.measure(python)
    return found


@click.command(help=__doc__)
@click.option("--quick", "is_quick", is_flag=True, help="Headline numbers only, under a minute.")
@click.option("--seconds", default=0.8, help="That each headline rate is measured for.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object, write no report.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON object here.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto")
@click.option("--budget", default=300.0, help="Seconds that the largest grids may take together.")
@click.option("--rivals", default=sys.executable, help="Interpreter that has the rivals.")
def main(
    is_quick: bool,
    seconds: float,
    as_json: bool,
    out: Path | None,
    device: str,
    budget: float,
    rivals: str,
) -> None:
    """Measure and report."""
    if device != "auto":
        os.environ["JAX_PLATFORMS"] = "cuda" if device == "gpu" else "cpu"
    import jax

    import qsjax  # noqa: F401  (float64 before anything is measured)
    from benchmarks.timing import cores

    # As `qsjax sweep` does: a device for each core. One call still runs on one device.
    jax.config.update("jax_num_cpu_devices", cores())

    start = time.perf_counter()
    found = quick(seconds) if is_quick else everything(budget, rivals)
    given = ["rivals/bin/python" if word == rivals else word for word in sys.argv[1:]]
    found["command"] = " ".join(["python -m benchmarks.run", *given])
    found["seconds"] = time.perf_counter() - start
    text = json.dumps(found, indent=None if as_json else 2)
    if out:
        out.write_text(text + "\n")
    if not is_quick and not as_json:
        from benchmarks import report

        report.write(found, HERE)
    click.echo(text)


if __name__ == "__main__":
    main()
