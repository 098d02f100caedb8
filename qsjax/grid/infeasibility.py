"""Why no design of a cell keeps the limits, and which single changes would help."""

import dataclasses
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from qsjax.cost.feasibility import REASONS
from qsjax.cost.metrics import METRICS, Objective
from qsjax.grid.cells import Cells, cells_of, take
from qsjax.grid.limits import Limits, describe, given_limits
from qsjax.grid.optimum import best_of, candidates_of
from qsjax.grid.pairs import score_candidates
from qsjax.grid.parameters import Inputs, Parameter, scaled, write
from qsjax.grid.problem import Problem

# What a limit bounds. Limits on degrees have no single number that would be enough.
BOUNDED: dict[str, Objective] = {
    "max_tpot": "tpot",
    "min_user_rate": "tokens_per_s_per_user",
    "max_gpus": "gpus",
    "min_headroom": "headroom",
    "max_usd": "usd_per_million_tokens",
    "max_joules": "joules_per_token",
}
_ROUNDED = ("max_tpot", "min_user_rate", "max_usd", "max_joules")  # others are counts and shares
# Rates that a faster accelerator of the same capacity scales.
RATES = Parameter(
    "rates", ("hbm_bw", "flops_bf16", "flops_fp8", "flops_fp4", "flops_exp", "intra_bw", "inter_bw")
)
MOST_FACTOR, GPU_DOUBLINGS, HALVINGS = 1024.0, 3, 14


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """One finding about limits that no design keeps.

    Attributes:
        kind: `memory` (nothing fits), `alone` (no design keeps this limit), `together` (each of
            the two can be kept, both cannot), `remedy` (with this value instead, a design exists).
        limits: names of the limits.
        possible: for `alone` and `remedy`, the best value that can be had, in SI units; NaN if the
            limit has no number.
        text: the finding as a sentence.
    """

    kind: str
    limits: tuple[str, ...]
    possible: float
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Remedies:
    """Changes each of which alone is enough; NaN where none of those tried is.

    Attributes:
        context: longest context among the halvings of the one asked for [tokens].
        gpus: smallest GPU count among its doublings, up to eightfold.
        speed: smallest factor on all rates of the accelerator (HBM, arithmetic, links), to 1 %;
            latencies and overheads stay.
    """

    context: float
    gpus: float
    speed: float


def only(limits: Limits, names: tuple[str, ...]) -> Limits:
    """The named limits; the others allow everything."""
    kept: dict[str, Any] = {name: getattr(limits, name) for name in names}
    return Limits(**kept)


def refusals(cells: Cells, row: int, batches: np.ndarray | None = None) -> tuple[Refusal, ...]:
    """Why no design of a cell keeps the limits, and which single limit to move, and to what.

    Each question is a search under some of the limits, so the answers are as exact as the search.

    Args:
        cells: the cells, their designs without a batch.
        row: which of them.
        batches: those to try; all of them if None.
    """
    limits = cells.limits
    candidates, counted = candidates_of(cells, *take((cells.inputs, cells.economy), [row]))
    if not len(candidates.largest):
        counts = counted.reasons[:, 0] + cells.illegal[:, row]
        listed = ", ".join(f"{name} ({n})" for name, n in zip(REASONS, counts, strict=True) if n)
        text = f"none of the {cells.enumerated} partitions can run: {listed}"
        return (Refusal("memory", (), np.nan, text),)
    given = given_limits(limits)

    def best(names: tuple[str, ...], objective: Objective = "tokens_per_s") -> float:
        scores = score_candidates(candidates, only(limits, names), objective, batches)
        score = float(np.max(scores.score, initial=-np.inf))
        return -score if METRICS[objective].less_is_better else score

    def possible(limit: str, names: tuple[str, ...]) -> float:
        """Best value of what `limit` bounds under `names`; infinite or NaN if there is none."""
        return best(names, BOUNDED[limit]) if limit in BOUNDED else np.nan

    alone = {name for name in given if not np.isfinite(best((name,)))}
    out = []
    for name in given:
        if name in alone:
            value = possible(name, ())
            out.append(Refusal("alone", (name,), value, _alone(limits, name, value)))
    for pair in combinations([name for name in given if name not in alone], 2):
        if not np.isfinite(best(pair)):
            first, second = (describe(limits, name) for name in pair)
            text = f"{first} and {second} contradict each other: each can be kept, both cannot"
            out.append(Refusal("together", pair, np.nan, text))
    for name in given:
        others = tuple(other for other in given if other != name)
        if others and np.isfinite(best(others)):
            value = possible(name, others)
            how = "without" if np.isnan(value) else f"with {_at(name, value)} instead of"
            told = f"{how} {describe(limits, name)} there is a design"
            out.append(Refusal("remedy", (name,), value, told))
    return tuple(out)


def _at(name: str, value: float) -> str:
    """A limit that can just be kept: three digits, rounded to the side that can be kept too."""
    if name in _ROUNDED and value > 0:
        unit = 10.0 ** (np.floor(np.log10(value)) - 2)
        value = unit * (np.ceil if name.startswith("max_") else np.floor)(value / unit)
    return describe(Limits(**{name: value}), name)


def _alone(limits: Limits, name: str, value: float) -> str:
    text = f"no design keeps {describe(limits, name)}"
    return f"{text}; the best that can be had is {_at(name, value)}" if np.isfinite(value) else text


def remedies(problem: Problem, model: int, hardware: int, row: int) -> Remedies:
    """Single changes that give a cell a design within the limits.

    Every batch is tried, unless the problem prescribes some.
    """
    if problem.stated.batches is None:
        problem = dataclasses.replace(problem, batch="best")
    cells = cells_of(problem, model, hardware)
    own: Inputs = take(cells.inputs, [row])

    def is_possible(inputs: Inputs) -> bool:
        return bool(best_of(cells, inputs).feasible[0] > 0)

    asked = float(np.asarray(own.workload.context)[0])
    lengths = (max(1.0, asked / 2.0**k) for k in range(1, HALVINGS + 1))
    shorter = ((x, write(own, {"context": np.full(1, x)})) for x in lengths)
    return Remedies(
        context=next((x for x, row in shorter if is_possible(row)), np.nan),
        gpus=_least_doubling(problem, model, hardware, np.unravel_index(row, cells.shape)),
        speed=_least_factor(lambda x: is_possible(scaled(own, RATES, x))),
    )


def _least_doubling(problem: Problem, model: int, hardware: int, at: tuple[Any, ...]) -> float:
    """Smallest of the doublings of a cell's GPUs with a design; NaN if there is none.

    `at` holds the cell's places along the axes, variant and GPU count first.
    """
    asked = problem.stated.gpus[at[1]]
    for count in (asked * 2**k for k in range(1, GPU_DOUBLINGS + 1)):
        more = cells_of(dataclasses.replace(problem, gpus=[count]), model, hardware)
        row = int(np.ravel_multi_index((at[0], 0, *at[2:]), more.shape))
        inputs, economy = take((more.inputs, more.economy), [row])
        if best_of(more, inputs, economy).feasible[0] > 0:
            return float(count)
    return np.nan


def _least_factor(works: Callable[[float], bool]) -> float:
    """Smallest factor of at least 1 that works, to 1 %; NaN if MOST_FACTOR does not."""
    if not works(MOST_FACTOR):
        return np.nan
    low, high = 1.0, MOST_FACTOR
    while high / low > 1.01:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if works(middle) else (middle, high)
    return high
