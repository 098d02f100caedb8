"""Why no design keeps the limits: which one, or which two together, and what would be possible."""

import dataclasses
from itertools import combinations
from typing import Any

import numpy as np

from qsjax.cost.metrics import Economy, Objective
from qsjax.grid.batches import MINIMISED, score_candidates
from qsjax.grid.limits import LIMITS, Limits, describe, is_given
from qsjax.grid.screening import Candidates
from qsjax.records.specs import Convention

# What a limit bounds. Limits on degrees have no single number that would be enough.
BOUNDED: dict[str, Objective] = {
    "max_tpot": "tpot",
    "min_user_rate": "tokens_per_s_per_user",
    "max_gpus": "gpus",
    "min_headroom": "headroom",
    "max_usd": "usd_per_million_tokens",
    "max_joules": "joules_per_token",
}


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


def only(limits: Limits, names: tuple[str, ...]) -> Limits:
    """The named limits; the others allow everything."""
    kept: dict[str, Any] = {name: getattr(limits, name) for name in names}
    return Limits(**kept)


def refusals(
    found: Candidates,
    limits: Limits,
    economy: Economy,
    convention: Convention,
    batches: np.ndarray | None = None,
) -> tuple[Refusal, ...]:
    """Why no candidate keeps `limits`, and which single limit to move, and to what.

    Each question is a search under some of the limits, so the answers are as exact as the search.
    """
    if not len(found.largest):
        counts = ", ".join(f"{name} ({n})" for name, n in found.reasons.items() if n)
        text = f"none of the {found.cells} partitions can run: {counts}"
        return (Refusal("memory", (), np.nan, text),)
    given = tuple(name for name in LIMITS if is_given(limits, name))

    def best(names: tuple[str, ...], objective: Objective = "tokens_per_s") -> float:
        scores = score_candidates(
            found, only(limits, names), economy, convention, objective, batches
        )
        score = float(np.max(scores.score, initial=-np.inf))
        return -score if objective in MINIMISED else score

    def possible(limit: str, names: tuple[str, ...]) -> float:
        """Best value of what `limit` bounds under `names`; infinite or NaN if there is none."""
        return best(names, BOUNDED[limit]) if limit in BOUNDED else np.nan

    alone = {name for name in given if not np.isfinite(best((name,)))}
    out = [
        Refusal("alone", (name,), value, _alone(limits, name, value))
        for name in given
        if name in alone
        for value in [possible(name, ())]
    ]
    for pair in combinations([name for name in given if name not in alone], 2):
        if not np.isfinite(best(pair)):
            first, second = (describe(limits, name) for name in pair)
            text = f"{first} and {second} contradict each other: each can be kept, both cannot"
            out.append(Refusal("together", pair, np.nan, text))
    for name in given:
        others = tuple(other for other in given if other != name)
        if others and np.isfinite(best(others)):
            value = possible(name, others)
            out.append(Refusal("remedy", (name,), value, _remedy(limits, name, value)))
    return tuple(out)


def _at(name: str, value: float) -> str:
    return describe(Limits(**{name: value}), name)


def _alone(limits: Limits, name: str, value: float) -> str:
    text = f"no design keeps {describe(limits, name)}"
    return text if np.isnan(value) else f"{text}; the best that can be had is {_at(name, value)}"


def _remedy(limits: Limits, name: str, value: float) -> str:
    if np.isnan(value):
        return f"without {describe(limits, name)} there is a design"
    return f"with {_at(name, value)} instead of {describe(limits, name)} there is a design"
