"""Where the time of the search goes, and what keeps it from the ceilings: the report's prose."""

from benchmarks import operations
from benchmarks.wording import DTYPES, Found, millions, sizes


def causes(found: Found) -> list[str]:
    """The lines of the section, from one run's numbers."""
    lines = _ceilings(found)
    if "grids" in found:
        lines += _kernels(found["grids"])
    lines += _calls()
    if "scaling" in found:
        lines += _starts(found)
    block, grid = sizes(found)
    small, large = found["argmax_block_f64_cells_per_s"], found["argmax_grid_f64_cells_per_s"]
    return [
        *lines,
        f"One call over {block} cells runs at {millions(small)}, one over {grid} cells at "
        f"{millions(large)}, and the same designs streamed at "
        f"{millions(found['stream_f64_cells_per_s'])} cells/s: what the design alone decides is "
        "computed once for all of its cells.",
    ]


def _ceilings(found: Found) -> list[str]:
    counts, limits = found["ops_per_cell_by_kind"], found["ceilings_f64"]
    share = operations.share_of_time(counts, limits)
    parts = ", ".join(f"{kind} {part:.0%}" for kind, part in share.items())
    limits_32 = found["ceilings_f32"]
    ratio = found["ceiling_f32_cells_per_s"] / found["ceiling_f64_cells_per_s"]
    return [
        f"At its ceilings this machine would do {millions(found['ceiling_f64_cells_per_s'])} "
        f"cells/s ({parts}); the search does {millions(found['argmax_f64_cells_per_s'])}.",
        f"{found['bandwidths_f64']} HBM bandwidths in a block share what they do not change. One "
        f"alone, in one call, could do {millions(found['ceiling_call_f64_cells_per_s'])} cells/s, "
        f"and does {millions(found['argmax_grid_f64_cells_per_s'])}.",
        f"The same operations in float32 could be {ratio:.1f}x as fast on these units "
        f"(multiply-add {limits_32['multiply_add'] / limits['multiply_add']:.1f}x, divide "
        f"{limits_32['divide'] / limits['divide']:.1f}x, "
        f"exp {limits_32['exp'] / limits['exp']:.1f}x).",
    ]


def _kernels(grids: Found) -> list[str]:
    own, single = (grids["kernels"][s] for s in ("f64", "f32"))
    xla, alone = grids["xla"], sum(operations.by_hand().values())
    executed = sum(xla["by_kind"].values())
    return [
        "What keeps float32 from that, by the profiler: a cell takes "
        f"{own['others']:.2f} ns of a core in arithmetic and {own['reductions']:.2f} in "
        f"reductions in float64, {single['others']:.2f} and {single['reductions']:.2f} in "
        f"float32 ({own['others'] / single['others']:.1f}x and "
        f"{own['reductions'] / single['reductions']:.1f}x). The arithmetic gains about what "
        "multiply-adds gain: divisions, which gain more, run beside them and do not set the pace. "
        "Every kernel also sets up a design's numbers once, however many of its cells a vector "
        "holds, and the host's work for a call does not shrink.",
        f"XLA's own analysis of the compiled program: {xla['cost_analysis_flops_per_cell']:.0f}"
        f" operations and {xla['cost_analysis_bytes_per_cell']:.0f} bytes accessed per cell "
        f"(a loop counts as one turn), against {alone:.0f} by hand.",
        f"Counted over all turns of its loops the program executes {executed:.0f} operations a "
        "cell.",
    ]


def _calls() -> list[str]:
    return [
        "Where the winner is, is found by scoring a few tiles again.",
        "In one call the cores wait for each other after every tile; a streamed sweep has a device "
        "for each core, and they wait only at the end.",
    ]


def _starts(found: Found) -> list[str]:
    one, start = found["scaling"]["core"], found["scaling"]["first"]
    gain = {d: found[f"stream_{s}_cells_per_s"] / one[d] for d, s in DTYPES.items()}
    least = next(r for r in found["scaling"]["cells"] if r["cells"] > 5e6)
    return [
        f"Pinned to one core the streamed sweep does {millions(one['float64'])} cells/s in "
        f"float64, {one['float32'] / one['float64']:.2f} times as many in float32; all cores "
        f"do {gain['float64']:.2f} times as many in float64, {gain['float32']:.2f} times "
        "in float32.",
        f"{least['cells']:,} cells are one call of {1e3 * least['seconds']:.0f} ms: its start "
        "and end overlap with nothing, so that the spread varies from run to run with this one.",
        f"Until the first result of a sweep: {start['import_s']:.1f} s to start Python and "
        f"import, {start['trace']:.1f} s to trace, {start['lower']:.1f} s to lower and "
        f"{start['compile']:.1f} s for XLA to compile on all cores. `qsjax` keeps programs for "
        "later runs (`QSJAX_CACHE`), so this is the very first.",
    ]
