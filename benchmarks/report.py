"""RESULTS.md from results.json: every number with its target, and why one is missed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import operations, problem

M = 1e6
Found = dict[str, Any]
Row = tuple[str, str, str, str]
DTYPES = {"float64": "f64", "float32": "f32"}


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(x) for x in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _millions(rate: float) -> str:
    return f"{rate / M:,.1f} M" if rate < 1e9 else f"{rate / 1e9:,.2f} G"


def _sizes(found: Found) -> list[str]:
    """Cells of the smaller and of the larger grid of one call."""
    return [_millions(n * problem.DESIGNS * problem.VARIANTS) for n in found["contexts"]]


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
        rows.append(_against("first result of 10^10 cells [s]", first, 3.0, "{:.1f}", at_most=True))
    if "grids" in found:
        again = float(found["grids"]["recompilations"])
        rows.append(
            _against("programs compiled again for new hardware", again, 0.0, "{:.0f}", at_most=True)
        )
    return rows


def _causes(found: Found) -> list[str]:
    counts, limits = found["ops_per_cell_by_kind"], found["ceilings_f64"]
    share = operations.share_of_time(counts, limits)
    parts = ", ".join(f"{kind} {part:.0%}" for kind, part in share.items())
    lines = [
        f"At its ceilings this machine would do {_millions(found['ceiling_f64_cells_per_s'])} "
        f"cells/s ({parts}); the search does {_millions(found['argmax_f64_cells_per_s'])}.",
        f"{found['bandwidths_f64']} HBM bandwidths in a block share what they do not change. One "
        f"alone, in one call, could do {_millions(found['ceiling_call_f64_cells_per_s'])} cells/s, "
        f"and does {_millions(found['argmax_grid_f64_cells_per_s'])}.",
    ]
    limits_32 = found["ceilings_f32"]
    ratio = found["ceiling_f32_cells_per_s"] / found["ceiling_f64_cells_per_s"]
    lines.append(
        f"The same operations in float32 could be {ratio:.1f}x as fast on these units "
        f"(multiply-add {limits_32['multiply_add'] / limits['multiply_add']:.1f}x, divide "
        f"{limits_32['divide'] / limits['divide']:.1f}x, "
        f"exp {limits_32['exp'] / limits['exp']:.1f}x)."
    )
    if "grids" in found:
        own, single = (found["grids"]["kernels"][s] for s in ("f64", "f32"))
        lines.append(
            "What keeps float32 from that, by the profiler: a cell takes "
            f"{own['others']:.2f} ns of a core in arithmetic and {own['reductions']:.2f} in "
            f"reductions in float64, {single['others']:.2f} and {single['reductions']:.2f} in "
            f"float32 ({own['others'] / single['others']:.1f}x and "
            f"{own['reductions'] / single['reductions']:.1f}x). Most of the arithmetic is not "
            "division, and every kernel sets up a design's numbers once, however many of its cells "
            "a vector holds. The host's work for a call does not shrink either."
        )
        xla, alone = found["grids"]["xla"], sum(operations.by_hand().values())
        lines.append(
            f"XLA's own analysis of the compiled program: {xla['cost_analysis_flops_per_cell']:.0f}"
            f" operations and {xla['cost_analysis_bytes_per_cell']:.0f} bytes accessed per cell "
            f"(a loop counts as one turn), against {alone:.0f} by hand."
        )
        executed = sum(xla["by_kind"].values())
        lines.append(
            f"Counted over all turns of its loops the program executes {executed:.0f} operations a "
            "cell."
        )
    both = _millions(found["runner_up_f64_cells_per_s"])
    lines.append(
        "Where the winner is, is found by scoring a few tiles again; with the runner-up, which is "
        f"found the same way, one call does {both} cells/s."
    )
    lines.append(
        "In one call the cores wait for each other after every tile; a streamed sweep has a device "
        "for each core, and they wait only at the end."
    )
    if "scaling" in found:
        one, start = found["scaling"]["core"], found["scaling"]["first"]
        gain = {d: found[f"stream_{s}_cells_per_s"] / one[d] for d, s in DTYPES.items()}
        lines.append(
            f"Pinned to one core the streamed sweep does {_millions(one['float64'])} cells/s in "
            f"float64, {one['float32'] / one['float64']:.2f} times as many in float32; all cores "
            f"do {gain['float64']:.2f} times as many in float64, {gain['float32']:.2f} times "
            "in float32."
        )
        least = next(r for r in found["scaling"]["cells"] if r["cells"] > 5e6)
        lines.append(
            f"{least['cells']:,} cells are one call of {1e3 * least['seconds']:.0f} ms: its start "
            "and end overlap with nothing, so that the spread varies from run to run with this one."
        )
        lines.append(
            f"Until the first result of a sweep: {start['import_s']:.1f} s to start Python and "
            f"import, {start['trace']:.1f} s to trace, {start['lower']:.1f} s to lower and "
            f"{start['compile']:.1f} s for XLA to compile on all cores. `qsjax` keeps programs for "
            "later runs (`QSJAX_CACHE`), so this is the very first."
        )
    block, grid = _sizes(found)
    small, large = found["argmax_block_f64_cells_per_s"], found["argmax_grid_f64_cells_per_s"]
    lines.append(
        f"One call over {block} cells runs at {_millions(small)}, one over {grid} cells at "
        f"{_millions(large)}, and the same designs streamed at "
        f"{_millions(found['stream_f64_cells_per_s'])} cells/s: what the design alone decides is "
        "computed once for all of its cells."
    )
    return lines


def _rates(found: Found) -> str:
    block, grid = _sizes(found)
    rows = [
        (f"fused arg-max, one call of {block} cells", "argmax_block_f64_cells_per_s", "float64"),
        (f"fused arg-max, one call of {grid} cells", "argmax_grid_f64_cells_per_s", "float64"),
        (f"the same with the runner-up, {grid} cells", "runner_up_f64_cells_per_s", "float64"),
        ("streamed on all cores, 281 M cells, winners kept", "stream_f64_cells_per_s", "float64"),
        (f"fused arg-max, one call of {block} cells", "argmax_block_f32_cells_per_s", "float32"),
        (f"fused arg-max, one call of {grid} cells", "argmax_grid_f32_cells_per_s", "float32"),
        (f"the same with the runner-up, {grid} cells", "runner_up_f32_cells_per_s", "float32"),
        ("streamed on all cores, 281 M cells, winners kept", "stream_f32_cells_per_s", "float32"),
        ("gradient of every cell in all hardware numbers", "gradient_f64_cells_per_s", "float64"),
        ("NumPy, the same search", "numpy_f64_cells_per_s", "float64"),
    ]
    lines = [(name, dtype, _millions(found[key])) for name, key, dtype in rows]
    if "grids" in found:
        grids = found["grids"]
        lines += [
            (
                f"fused arg-max, all {problem.EVERY_DESIGNS:,} partitions, {contexts} contexts",
                dtype,
                _millions(rate),
            )
            for dtype, short in DTYPES.items()
            for contexts, rate in grids[f"every_{short}_cells_per_s"].items()
        ]
        lines += [
            (
                "tokens/s/GPU and reasons of every cell written",
                "float64",
                _millions(grids["dense_f64_cells_per_s"]),
            ),
            (
                "search and gradient of every optimum",
                "float64",
                _millions(grids["optimum_gradient_f64_cells_per_s"]),
            ),
            (
                "streamed, all partitions, illegal ones left out: grid cells",
                "float64",
                _millions(grids["stream_legal"]["grid_cells_per_s"]),
            ),
            (
                "streamed, all partitions, illegal ones left out: cells computed",
                "float64",
                _millions(grids["stream_legal"]["computed_per_s"]),
            ),
        ]
    return _table(("what", "dtype", "cells/s"), lines)


def _operations(found: Found) -> str:
    rows = [(t.name, *t[1:6], "once" if t.once else "", t.what) for t in operations.BY_HAND]
    shared = found["bandwidths_f64"]
    for count in dict.fromkeys((1, shared)):
        total = operations.by_hand(count)
        numbers = (f"{n:.3g}" for n in total.values())
        rows.append(
            (f"**all, {count} in a block**", *numbers, "", f"{sum(total.values()):.3g} operations")
        )
    text = _table(("term", *operations.KINDS, "bandwidths", "what"), rows)
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
            *(_millions(found[f"ceiling_{s}_cells_per_s"]) for s in ("f64", "f32")),
        )
    )
    units.append(
        ("share reached", *(f"{found[f'ceiling_fraction_{s}']:.0%}" for s in ("f64", "f32")))
    )
    return text + "\n\n" + _table(("per second", "float64", "float32"), units)


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
        (r["axes"], f"{r['cells']:,}", _millions(r["cells_per_s"]), f"{r['compile_s']:.1f}")
        for r in scaling["axes"]
    ]
    devices = [(r["devices"], _millions(r["cells_per_s"])) for r in scaling["devices"]]
    processes = [(r["processes"], _millions(r["cells_per_s"])) for r in scaling["processes"]]
    return "\n\n".join(
        (
            "Streamed, one process with a device for each core, memory never given back:",
            _table(("cells", "seconds", "ns per cell", "peak RSS [MB]"), cells),
            "Kept axes added, the cells staying the same:",
            _table(("axes", "cells", "cells/s", "first call [s]"), axes),
            "Simulated CPU devices of one process (the cores stay the same: flat is the aim):",
            _table(("devices", "cells/s"), devices),
            "Processes that share the chunks of one sweep:",
            _table(("processes", "cells/s"), processes),
            f"First result of a grid of {scaling['first']['cells']:.1e} cells, from the start of "
            f"Python: {scaling['first']['first_result_s']:.1f} s.",
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
    return _table(("tool", "what", "configurations/s", "this search"), rows) + "\n\n" + note


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
            _table(("target (H100)", "here", "target", ""), [row]),
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
        _table(("target (two CPU cores)", "here", "target", ""), targets(found)),
        "### Where the time goes",
        "\n".join(f"- {line}" for line in _causes(found)),
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
