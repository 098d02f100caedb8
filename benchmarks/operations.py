"""Operations per cell: counted by hand, counted in the compiled program, and what they allow.

A cell is one design at one context. Everything that does not depend on both is computed at its own
rank, so these are the operations of the innermost loop alone.
"""

import math
import re
from collections import Counter
from typing import Any, NamedTuple

from benchmarks import problem
from qsjax.search import reduce_block
from qsjax.specs import PHYSICAL


class Term(NamedTuple):
    """Operations of one term of the model in one cell, and what they are."""

    name: str
    multiply_add: int
    max_min: int
    compare_select: int
    divide: int
    exp: int
    what: str


# Read off the formulas of docs/concepts/cost-model.md, physical convention, batch = largest.
# A floor counts as one compare/select; a term that is the same for all contexts counts nothing.
BY_HAND = (
    Term("cache of a sequence", 4, 0, 0, 0, 0, "two products with the context, two sums"),
    Term("largest batch", 0, 0, 1, 1, 0, "(room / sequence), floor; the room is the design's"),
    Term("batch, microbatch", 1, 2, 0, 0, 0, "at least 1, over the stages, at least 1"),
    Term("experts hit", 2, 0, 0, 0, 1, "1 - exp(tokens x log miss), tokens per sequence folded"),
    Term("attention arithmetic", 2, 0, 0, 0, 0, "context part x share + state"),
    Term("attention HBM", 4, 0, 0, 0, 0, "cache of full and indexed layers, state, activations"),
    Term("attention bound", 1, 1, 0, 0, 0, "slower side, times the microbatch"),
    Term("projection bound", 3, 1, 0, 0, 0, "arithmetic; weights + activations"),
    Term("FFN bound", 5, 1, 0, 0, 0, "arithmetic; pool x hit + weights + activations"),
    Term("head bound", 3, 1, 0, 0, 0, "arithmetic; weights + activations"),
    Term("sum of phases", 3, 0, 0, 0, 0, ""),
    Term("tensor-parallel exposed", 4, 1, 0, 0, 0, "bandwidth part - overlap x (two phases)"),
    Term("expert exchange exposed", 3, 1, 0, 0, 0, "bandwidth part - overlap x FFN"),
    Term("layout exposed", 3, 1, 0, 0, 0, "bandwidth part - overlap x FFN"),
    Term("KV exchange exposed", 4, 1, 0, 0, 0, "tail + the rest - overlap x attention, times b"),
    Term("TPOT", 8, 0, 0, 0, 0, "four exposed, hand-over and host per sequence, per step"),
    Term("tokens/s/GPU", 1, 0, 0, 1, 0, "replicas per GPU x batch / TPOT"),
    Term("feasibility", 0, 0, 3, 0, 0, "legal or not; room for a sequence (compare, select)"),
    Term("best", 0, 2, 4, 0, 0, "max; tied and real; its place, the first"),
    Term("next best", 0, 2, 6, 0, 0, "the same without the best"),
    Term("counts", 2, 0, 2, 0, 0, "feasible; has room for one sequence"),
)
KINDS = ("multiply_add", "max_min", "compare_select", "divide", "exp")

# The opcodes of compiled programs by the unit that executes them.
OPCODES = {
    "multiply_add": ("multiply", "add", "subtract", "negate"),
    "max_min": ("maximum", "minimum"),
    "compare_select": ("compare", "select", "floor", "and", "or", "not", "xor"),
    "divide": ("divide", "remainder"),
    "exp": ("exponential", "log", "log-plus-one", "power", "exponential-minus-one"),
}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = \w+\[([\d,]*)\]\S* ([\w\-]+)\(")


def by_hand() -> dict[str, int]:
    """Operations per cell by kind, from the table."""
    return {kind: sum(getattr(term, kind) for term in BY_HAND) for kind in KINDS}


def in_program(text: str, cells: int) -> dict[str, int]:
    """Operations per cell by kind in optimised HLO: instructions whose result has every cell.

    The steps of a reduction itself, whose result is smaller, are not among them.
    """
    found: Counter[str] = Counter()
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        size = math.prod(int(n) for n in match.group(1).split(",") if n)
        if size == cells:
            found[match.group(2)] += 1
    return {kind: sum(found[code] for code in codes) for kind, codes in OPCODES.items()}


def compiled_counts(contexts: int, dtype: str) -> dict[str, Any]:
    """What XLA says about the compiled search of one block: operations and bytes per cell."""
    grid = problem.axes(contexts)
    records, shape = problem.block(grid, dtype)
    program = reduce_block.lower(records, PHYSICAL, shape, problem.OBJECTIVE).compile()
    analysis: Any = program.cost_analysis() or {}
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    memory = program.memory_analysis()
    return {
        "cells": grid.cells,
        "by_kind": in_program(program.as_text(), grid.cells),
        "cost_analysis_flops_per_cell": analysis.get("flops", math.nan) / grid.cells,
        "cost_analysis_exp_per_cell": analysis.get("transcendentals", math.nan) / grid.cells,
        "cost_analysis_bytes_per_cell": analysis.get("bytes accessed", math.nan) / grid.cells,
        "temporary_bytes_per_cell": getattr(memory, "temp_size_in_bytes", math.nan) / grid.cells,
    }


def cells_per_s_at_the_ceiling(counts: dict[str, int], rates: dict[str, float]) -> float:
    """Cells per second if every unit did its operations at its own ceiling, one after another."""
    return 1.0 / sum(count / rates[kind] for kind, count in counts.items())


def share_of_time(counts: dict[str, int], rates: dict[str, float]) -> dict[str, float]:
    """Which part of that limit each kind of operation is."""
    seconds = {kind: count / rates[kind] for kind, count in counts.items()}
    return {kind: s / sum(seconds.values()) for kind, s in seconds.items()}
