"""Operations per cell: counted by hand, counted in the compiled program, and what they allow.

A cell is one design at one context and one bandwidth. What does not depend on both the design and
the kept cell is computed at its own rank, so these are the operations of the innermost loop alone.
"""

import math
import re
from collections import Counter
from typing import Any, NamedTuple

from benchmarks import problem


class Term(NamedTuple):
    """Operations of one term of the model in one cell, what they are, and whether for each cell.

    What the HBM bandwidth does not change is computed `once` for all bandwidths of a block.
    """

    name: str
    multiply_add: int
    max_min: int
    compare_select: int
    divide: int
    exp: int
    what: str
    once: bool = False


# Read off the formulas of docs/concepts/cost-model.md, physical convention, batch = largest.
# A floor counts as one compare/select, "at least" as two (`numerics.at_least`); a term that is the
# same for all contexts counts nothing. A square root runs on the divider and counts as a division.
# The shares of a blend are traced, so that accelerators of the plain form pay for it as well.
BY_HAND = (
    Term("cache of a sequence", 4, 0, 0, 0, 0, "two products with the context, two sums", True),
    Term(
        "largest batch", 0, 0, 1, 1, 0, "(room / sequence), floor; the room is the design's", True
    ),
    Term("batch, microbatch", 1, 0, 4, 0, 0, "at least 1, over the stages, at least 1", True),
    Term("experts hit", 2, 0, 0, 0, 1, "1 - exp(tokens x log miss), tokens folded", True),
    Term("attention arithmetic", 4, 0, 0, 0, 0, "scores x share + index x share + state", True),
    Term("attention HBM", 4, 0, 0, 0, 0, "cache of full and indexed layers, state, activations"),
    Term("attention bound", 1, 1, 0, 0, 0, "slower side, times the microbatch"),
    Term("projection arithmetic", 1, 0, 0, 0, 0, "tokens x share", True),
    Term("projection bound", 2, 1, 0, 0, 0, "weights + activations; slower side"),
    Term("FFN arithmetic", 2, 0, 0, 0, 0, "tokens x share + shared experts", True),
    Term("FFN bound", 3, 1, 0, 0, 0, "pool x hit + weights + activations; slower side"),
    Term("head arithmetic", 1, 0, 0, 0, 0, "tokens x share", True),
    Term("head bound", 2, 1, 0, 0, 0, "weights + activations; slower side"),
    Term("sum of phases", 3, 0, 0, 0, 0, ""),
    Term("blends", 24, 0, 9, 3, 0, "three phases; a root in each, at share 0 too"),
    Term("messages", 4, 0, 0, 0, 0, "bandwidth parts of four kinds", True),
    Term("one shot or two", 2, 1, 0, 0, 0, "latency + two shots; one shot; the faster", True),
    Term("tensor-parallel exposed", 3, 1, 0, 0, 0, "bandwidth part - overlap x (two phases)"),
    Term("expert exchange exposed", 2, 1, 0, 0, 0, "bandwidth part - overlap x FFN"),
    Term("layout exposed", 2, 1, 0, 0, 0, "bandwidth part - overlap x FFN"),
    Term("KV exchange exposed", 3, 1, 0, 0, 0, "tail + the rest - overlap x attention, times b"),
    Term("TPOT", 8, 0, 0, 0, 0, "four exposed, hand-over and host per sequence, per step"),
    Term("tokens/s/GPU", 1, 0, 0, 1, 0, "replicas per GPU x batch / TPOT"),
    Term("feasibility", 0, 0, 2, 0, 0, "legal or not; room for a sequence", True),
    Term("masked", 0, 0, 1, 0, 0, "no score where infeasible"),
    Term("best", 0, 1, 0, 0, 0, "max; where it is, is looked up in few cells"),
    Term("counts", 1, 0, 5, 0, 0, "feasible; has room for one sequence; both in one sum", True),
)
KINDS = ("multiply_add", "max_min", "compare_select", "divide", "exp")

# The opcodes of compiled programs by the unit that executes them.
OPCODES = {
    "multiply_add": ("multiply", "add", "subtract", "negate"),
    "max_min": ("maximum", "minimum"),
    "compare_select": ("compare", "select", "floor", "and", "or", "not", "xor"),
    "divide": ("divide", "remainder", "sqrt"),
    "exp": ("exponential", "log", "log-plus-one", "power", "exponential-minus-one"),
}
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([\w\-]+)\(")
_DIMENSIONS = re.compile(r"^\w+\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|body|to_apply)=%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count"?:\{"n":"(\d+)"')


def by_hand(bandwidths: int = 1) -> dict[str, float]:
    """Operations per cell by kind, from the table, with so many bandwidths in a block."""
    return {
        kind: sum(getattr(term, kind) / (bandwidths if term.once else 1) for term in BY_HAND)
        for kind in KINDS
    }


def in_program(text: str) -> dict[str, float]:
    """Element-wise operations that a run of a program executes, by kind, from its optimised HLO.

    Loops count as often as they turn, where XLA knows how often. The steps of a reduction itself
    are not counted, nor what a fused loop computes again for every element that it writes.
    """
    kind_of = {code: kind for kind, codes in OPCODES.items() for code in codes}
    own: dict[str, Counter[str]] = {}
    calls: dict[str, list[tuple[str, int]]] = {}
    entry = name = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name = head.group(1)
            own[name], calls[name] = Counter(), []
            entry = name if line.startswith("ENTRY") else entry
        elif found := _INSTRUCTION.match(line):
            shape, code = _DIMENSIONS.match(found.group(1)), found.group(2)
            if code in kind_of and shape:
                size = math.prod(int(n) for n in shape.group(1).split(",") if n)
                own[name][kind_of[code]] += size
            elif code in ("fusion", "call", "while"):
                trips = _TRIPS.search(line)
                often = int(trips.group(1)) if trips else 1
                calls[name] += [(called, often) for called in _CALLED.findall(line)]

    def total(name: str) -> Counter[str]:
        counted = Counter(own[name])
        for called, often in calls[name]:
            for kind, number in total(called).items():
                counted[kind] += often * number
        return counted

    whole = total(entry)
    return {kind: float(whole[kind]) for kind in OPCODES}


def compiled_counts(contexts: int, dtype: str) -> dict[str, Any]:
    """What XLA says about the compiled search of one block: operations and bytes per cell."""
    grid = problem.axes(contexts)
    records, shape = problem.block(grid, dtype)
    program = problem.reduce_block.lower(records, shape).compile()
    analysis: Any = program.cost_analysis() or {}
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    memory = program.memory_analysis()
    return {
        "cells": grid.cells,
        "contexts": contexts,
        "by_kind": {k: n / grid.cells for k, n in in_program(program.as_text()).items()},
        "cost_analysis_flops_per_cell": analysis.get("flops", math.nan) / grid.cells,
        "cost_analysis_exp_per_cell": analysis.get("transcendentals", math.nan) / grid.cells,
        "cost_analysis_bytes_per_cell": analysis.get("bytes accessed", math.nan) / grid.cells,
        "temporary_bytes_per_cell": getattr(memory, "temp_size_in_bytes", math.nan) / grid.cells,
    }


def cells_per_s_at_the_ceiling(counts: dict[str, float], rates: dict[str, float]) -> float:
    """Cells per second if every unit did its operations at its own ceiling, one after another."""
    return 1.0 / sum(count / rates[kind] for kind, count in counts.items())


def share_of_time(counts: dict[str, float], rates: dict[str, float]) -> dict[str, float]:
    """Which part of that limit each kind of operation is."""
    seconds = {kind: count / rates[kind] for kind, count in counts.items()}
    return {kind: s / sum(seconds.values()) for kind, s in seconds.items()}
