"""RESULTS.md from results.json: every number with its target, and why one is missed."""

import json
from pathlib import Path

from benchmarks import operations, problem
from benchmarks.causes import causes
from benchmarks.scaling import STARTS
from benchmarks.wording import DTYPES, Found, M, millions, sizes, table

Row = tuple[str, str, str, str]


def _against(name: str, value: float, target: float, show: str, *, at_most: bool = False) -> Row:
    met = value <= target if at_most else value >= target
    verdict = "met" if met else f"missed by {abs(value / target - 1):.0%}" if target else "missed"
    sign = "<=" if at_most else ">="
    return name, show.format(value), f"{sign} {show.format(target)}", verdict


def _flat(found: Found) -> float | None:
    """Largest over smallest cost of a cell among grids of 10^7 cells or more, less 1."""
    rows = found.get("scaling", {}).get("cells", ())
    costs = [r["ns_per_cell"] for r in rows if "ns_per_cell" in r and r["cells"] > 5e6]
    return max(costs) / min(costs) - 1.0 if len(costs) > 1 else None


def targets(found: Found) -> list[Row]:
    """Name, value, target and verdict of every target of two CPU cores."""
    rows = [
        _against(
            "fused arg-max, float64 [M cells/s]",
            found["argmax_f64_cells_per_s"] / M,
            150.0,
            "{:.0f}",
        ),
        _against("over NumPy, same run", found["numpy_speedup"], 15.0, "{:.1f}x"),
        _against("share of the element-wise ceiling", found["ceiling_fraction_f64"], 0.6, "{:.0%}"),
        _against("float32 over float64", found["f32_over_f64"], 2.5, "{:.2f}x"),
    ]
    flat = _flat(found)
    if flat is not None:
        rows.append(
            _against(
                "spread of the cost per cell from 10^7 cells on", flat, 0.2, "{:.0%}", at_most=True
            )
        )
        ran = [r for r in found["scaling"]["cells"] if "peak_rss_mb" in r]
        largest = f"peak memory at {ran[-1]['cells']:.1e} cells [MB]"
        rows.append(_against(largest, ran[-1]["peak_rss_mb"], 1000.0, "{:.0f}", at_most=True))
        first = found["scaling"]["first"]["first_result_s"]
        rows.append(_against("first result of 10^10 cells [s]", first, 3.0, "{:.2f}", at_most=True))
    if "grids" in found:
        again = float(found["grids"]["recompilations"])
        rows.append(
            _against("programs compiled again for new hardware", again, 0.0, "{:.0f}", at_most=True)
        )
    return rows


def _rates(found: Found) -> str:
    block, grid = sizes(found)
    rows = [
        (f"fused arg-max, one call of {block} cells", "argmax_block_f64_cells_per_s", "float64"),
        (f"fused arg-max, one call of {grid} cells", "argmax_grid_f64_cells_per_s", "float64"),
        ("streamed on all cores, 281 M cells, winners kept", "stream_f64_cells_per_s", "float64"),
        (f"fused arg-max, one call of {block} cells", "argmax_block_f32_cells_per_s", "float32"),
        (f"fused arg-max, one call of {grid} cells", "argmax_grid_f32_cells_per_s", "float32"),
        ("streamed on all cores, 281 M cells, winners kept", "stream_f32_cells_per_s", "float32"),
        ("gradient of every cell in all hardware numbers", "gradient_f64_cells_per_s", "float64"),
        ("NumPy, the same search", "numpy_f64_cells_per_s", "float64"),
    ]
    lines = [(name, dtype, millions(found[key])) for name, key, dtype in rows]
    if "grids" in found:
        grids = found["grids"]
        lines += [
            (
                f"fused arg-max, all {problem.EVERY_DESIGNS:,} partitions, {contexts} contexts",
                dtype,
                millions(rate),
            )
            for dtype, short in DTYPES.items()
            for contexts, rate in grids[f"every_{short}_cells_per_s"].items()
        ]
        lines += [
            (
                "tokens/s/GPU and reasons of every cell written",
                "float64",
                millions(grids["dense_f64_cells_per_s"]),
            ),
            (
                "search and gradient of every optimum",
                "float64",
                millions(grids["optimum_gradient_f64_cells_per_s"]),
            ),
            (
                "streamed, all partitions, illegal ones left out: grid cells",
                "float64",
                millions(grids["stream_legal"]["grid_cells_per_s"]),
            ),
            (
                "streamed, all partitions, illegal ones left out: cells computed",
                "float64",
                millions(grids["stream_legal"]["computed_per_s"]),
            ),
        ]
    return table(("what", "dtype", "cells/s"), lines)


def _operations(found: Found) -> str:
    rows = [(t.name, *t[1:6], "once" if t.once else "", t.what) for t in operations.BY_HAND]
    shared = found["bandwidths_f64"]
    for count in dict.fromkeys((1, shared)):
        total = operations.by_hand(count)
        numbers = (f"{n:.3g}" for n in total.values())
        rows.append(
            (f"**all, {count} in a block**", *numbers, "", f"{sum(total.values()):.3g} operations")
        )
    text = table(("term", *operations.KINDS, "bandwidths", "what"), rows)
    if "grids" in found:
        compiled = found["grids"]["xla"]["by_kind"]
        text += (
            f"\n\nThe compiled program of a block of {found['grids']['xla']['contexts']} contexts "
        )
        text += "executes, all ranks together and spread over its cells: "
        text += ", ".join(f"{kind} {count:.1f}" for kind, count in compiled.items()) + "."
    units = [
        (kind, *(f"{found[f'ceilings_{short}'][kind] / 1e9:,.2f} G" for short in ("f64", "f32")))
        for kind in (*operations.KINDS, "copy_bytes")
    ]
    units.append(
        (
            "cells/s at these ceilings",
            *(millions(found[f"ceiling_{s}_cells_per_s"]) for s in ("f64", "f32")),
        )
    )
    units.append(
        ("share reached", *(f"{found[f'ceiling_fraction_{s}']:.0%}" for s in ("f64", "f32")))
    )
    return text + "\n\n" + table(("per second", "float64", "float32"), units)


def _scaling(found: Found) -> str:
    scaling = found["scaling"]
    cells = [
        (
            f"{r['cells']:,.0f}",
            f"{r['seconds']:.3g}",
            f"{r['ns_per_cell']:.2f}",
            f"{r['peak_rss_mb']:.0f}",
        )
        if "ns_per_cell" in r
        else (f"{r['cells']:,.0f}", "not run: " + r["skipped"], "", "")
        for r in scaling["cells"]
    ]
    axes = [
        (r["axes"], f"{r['cells']:,}", millions(r["cells_per_s"]), f"{r['compile_s']:.1f}")
        for r in scaling["axes"]
    ]
    devices = [(r["devices"], millions(r["cells_per_s"])) for r in scaling["devices"]]
    processes = [(r["processes"], millions(r["cells_per_s"])) for r in scaling["processes"]]
    return "\n\n".join(
        (
            "Streamed, one process with a device for each core, memory never given back:",
            table(("cells", "seconds", "ns per cell", "peak RSS [MB]"), cells),
            "Kept axes added, the cells staying the same:",
            table(("axes", "cells", "cells/s", "first call [s]"), axes),
            "Simulated CPU devices of one process (the cores stay the same: flat is the aim):",
            table(("devices", "cells/s"), devices),
            "Processes that share the chunks of one sweep:",
            table(("processes", "cells/s"), processes),
            f"First result of a grid of {scaling['first']['cells']:.1e} cells, from the start of "
            f"Python: {scaling['first']['first_result_s']:.2f} s, the best of {STARTS} starts.",
        )
    )


def _float32(found: Found) -> str:
    e = found["grids"]["float32"]
    return (
        f"{e['winners_changed']} of {e['kept_cells']} winners change (a changed winner is at most "
        f"{e['largest_loss_of_a_changed_winner']:.1e} worse in float64). Over "
        f"{e['designs_compared']:,} feasible designs the largest relative error of tokens/s/GPU is "
        f"{e['largest_relative_error']:.1e}, the median {e['median_relative_error']:.1e}; at "
        f"{e['batches_changed']:,} of them one sequence more or less fits, at the others the "
        f"largest is {e['largest_relative_error_at_the_same_batch']:.1e}; "
        f"{e['feasibility_changed']} designs change between feasible and not."
    )


def _rivals(found: Found) -> str:
    ours = found["argmax_f64_cells_per_s"]
    rows = []
    for name, r in found["rivals"].items():
        if "configurations_per_s" in r:
            rate = r["configurations_per_s"]
            rows.append(
                (f"{name} {r['version']}", r["what"], f"{rate:,.0f}", f"{ours / rate:,.0f}x")
            )
        else:
            rows.append((name, f"not measured: {r['missing']}", "", ""))
    note = (
        "One call of a rival answers one split, batch and context, as one cell does here. They "
        "look up measured kernels or walk operators, so speed is all that is compared. To repeat:\n"
        "`python -m venv rivals && rivals/bin/pip install aiconfigurator llm-analysis genz-llm`, "
        "then `python -m benchmarks.run --rivals rivals/bin/python`."
    )
    return table(("tool", "what", "configurations/s", "this search"), rows) + "\n\n" + note


def _gpu(gpu: Found | None) -> str:
    if gpu is None:
        return (
            "Not measured yet: no GPU was at hand. `python -m benchmarks.run --device gpu` "
            "measures the rates, ceilings and float32 error there and adds them here. The target "
            "is 20 G cells/s float64 fused arg-max on an H100."
        )
    rate = gpu["argmax_f64_cells_per_s"]
    row = _against("fused arg-max, float64 [G cells/s]", rate / 1e9, 20.0, "{:.1f}")
    about = gpu["machine"]
    return "\n\n".join(
        (
            f"{about['device']}, jax {about['jax']}. Command: `{gpu['command']}`.",
            table(("target (H100)", "here", "target", ""), [row]),
            _rates(gpu),
            _operations(gpu),
        )
    )


def text(results: dict[str, Found]) -> str:
    """The whole report; `results` holds one run for each kind of device."""
    found = results["cpu"]
    about = found["machine"]
    contexts = "{} contexts in a block, {} in a grid".format(*found["contexts"])
    parts = [
        "# Measurements of speed",
        "Written by `python -m benchmarks.run` from `results.json`; do not edit.",
        f"Command: `{found['command']}`. Device: {about['processor']}, {about['cores']} cores, "
        f"backend {about['backend']}; jax {about['jax']}, numpy {about['numpy']}, Python "
        f"{about['python']}; load at the start {about['load_at_start']}. Every rate is the best of "
        "repeats; ratios are of this one run. `--quick` repeats the rates, ceilings and the NumPy "
        "comparison alone.",
        f"Grid: {problem.MODEL} and its dense twin (q={problem.Q:g}) on {problem.HARDWARE}, "
        f"{problem.DESIGNS:,} partitions (tp, pp, dp, kvp, two KV modes) that are all legal for "
        f"both, on any number of GPUs; {contexts}. The physical convention, every term, largest "
        "batch, the winner and all reasons counted. Illegal cells cost less, because the "
        "compiler skips their arithmetic; so they are left out here, and the grid of `qsjax "
        f"explore`, all {problem.EVERY_DESIGNS:,} partitions of 7 values each on "
        f"{problem.GPUS:g} GPUs, has rows of its own.",
        "## Targets",
        table(("target (two CPU cores)", "here", "target", ""), targets(found)),
        "### Where the time goes",
        "\n".join(f"- {line}" for line in causes(found)),
        "## Rates",
        _rates(found),
        f"Compilation of the fused search: {found['compile_s']:.1f} s. NumPy runs "
        f"{found['numpy_contexts']} contexts at a time, its best block.",
        "## Operations per cell and the machine's ceilings",
        _operations(found),
    ]
    if "scaling" in found:
        parts += ["## Scaling", _scaling(found)]
    if "grids" in found:
        parts += ["## float32", _float32(found)]
    if "rivals" in found:
        parts += ["## Other tools, same run", _rivals(found)]
    parts += ["## GPU", _gpu(results.get("gpu"))]
    return "\n\n".join(parts) + "\n"


def write(found: Found, folder: Path) -> None:
    """Put one run into results.json, beside those of other devices, and write RESULTS.md."""
    store = folder / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    results[found["machine"]["backend"]] = found
    store.write_text(json.dumps(results, indent=1) + "\n")
    if "cpu" in results:
        (folder / "RESULTS.md").write_text(text(results))
