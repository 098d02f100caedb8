"""Why the lead changes at a root: which part of a token's time turned the balance.

A side's GPU time per token is a sum of its resources, so the change of the difference between two
sides, from the middle of the interval before a root to just behind it, divides exactly among them.
"""

import dataclasses
from typing import Any

import numpy as np

from qsjax.cost.ledger import resource_times
from qsjax.grid.case import Case, best_case, design_record, gpu_time
from qsjax.grid.cells import Cells, take
from qsjax.grid.optimum import best_of
from qsjax.grid.parameters import varied
from qsjax.output import words
from qsjax.questions.break_even.roots import Roots

BEHIND = 1.0 + 1e-6  # factor over a root at which the order behind it holds
NAMES = ("moe", "dense")
Pair = tuple[Case | None, Case | None]  # best designs of the MoE and of its dense twin


def explained(stated: Cells, crossings: list[Roots], twins: np.ndarray) -> list[Roots]:
    """The roots of each twin's cell with a clause for each of them, where throughput is compared.

    Args:
        stated: the cells.
        crossings: roots of each twin's cell, in their order.
        twins: positions of their cells; the MoE's is the same in the first variant.
    """
    points = [(k, x) for k, one in enumerate(crossings) for pair in _points(one) for x in pair]
    if not points or stated.objective != "tokens_per_s_per_gpu":  # GPU time explains that alone
        return crossings
    at = np.array([twins[k] for k, _ in points])
    rows = take(stated.inputs, np.concatenate([at, at % stated.per_variant]))
    values = np.tile([x for _, x in points], 2)
    placed = dataclasses.replace(stated, inputs=varied(rows, {crossings[0].parameter: values}))
    best = best_of(placed, placed.inputs)
    cases = [best_case(placed, k, best) for k in range(len(values))]
    half = len(points)
    pairs = iter(zip(cases[half:], cases[:half], strict=True))
    told = []
    for one in crossings:
        around = [(next(pairs), next(pairs)) for _ in one.roots]
        reasons = (_clause(side, *at) for side, at in zip(one.sides[1:], around, strict=True))
        halfway = tuple(_lead(before) for before, _ in around[1:])
        told.append(dataclasses.replace(one, reasons=tuple(reasons), halfway=halfway))
    return told


def _points(one: Roots) -> list[tuple[float, float]]:
    """Of each root, the middle of the interval before it and a value just behind it."""
    roots = [root.value for root in one.roots]
    before = [max(one.low, roots[0] / 2.0) if roots else one.low, *roots[:-1]]
    return [(float(np.sqrt(a * b)), b * BEHIND) for a, b in zip(before, roots, strict=False)]


def _clause(ahead: str, before: Pair, behind: Pair) -> str:
    """What turned the lead to `ahead`; nothing where a side does not run."""
    if ahead not in NAMES or any(case is None for case in (*before, *behind)):
        return ""
    # First the side that gets ahead, then the other one.
    at = (0, 1) if ahead == "moe" else (1, 0)
    sides: Any = [[pair[k] for k in at] for pair in (before, behind)]
    was, now = ([resource_times(gpu_time(case)) for case in two] for two in sides)
    splits = [[_split(case) for case in two] for two in sides]
    names = [("the MoE", "the dense twin")[k] for k in at]
    gained = {r: now[0][r] - was[0][r] - (now[1][r] - was[1][r]) for r in now[0]}
    what = min(gained, key=lambda r: gained[r])
    # The side on which this part changed most says why.
    one = int(abs(now[1][what] - was[1][what]) > abs(now[0][what] - was[0][what]))
    other = 1 - one
    shares = [100.0 * side[what] / sum(side.values()) for side in now]
    more = "more" if now[one][what] > was[one][what] else "less"
    turned = ""
    if splits[0][one] != splits[1][one]:
        turned = f", now best with {splits[1][one]}"
    elif splits[0][other] != splits[1][other]:
        turned = f", and {names[other]} is now best with {splits[1][other]}"
    return (
        f"{names[one]} spends {more} on {words.RESOURCE_WORDS[what]} ({shares[one]:.0f} % of its "
        f"time, {shares[other]:.0f} % of {names[other]}'s){turned}"
    )


def _lead(pair: Pair) -> float:
    """How much more the better one makes [1]; NaN where one does not run."""
    rates = [np.nan if case is None else case.rate for case in pair]
    return float(max(rates) / min(rates) - 1.0)


def _split(case: Any) -> str:
    return words.split(design_record(case), is_moe=case.records.model.is_moe)
