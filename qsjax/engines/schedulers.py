"""How engines fill a step: token budget, running requests, prompts among answers, admission."""

import dataclasses
from typing import Any

import numpy as np

from qsjax.cost.shared import Filling
from qsjax.engines.rules import ENGINES, Engine, load_schedulers
from qsjax.numerics import trees
from qsjax.numerics.namespace import ArrayLike
from qsjax.numerics.safe import scalar
from qsjax.records.checks import check_rules
from qsjax.records.fields import COUNT, FLAG, NOT_NEGATIVE, SHARE, Rule
from qsjax.records.specs import ModelSpec, Partition
from qsjax.records.units import GIB, MS


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """The rules by which an attention replica fills its steps; the defaults are those of vLLM.

    Attributes:
        budget: most tokens of a step, prompts and answers together.
        divided: 1 if the budget is one of the server, of which attention replicas that share
            experts have a part each.
        sequences: most running requests.
        mixed: 1 if prompts ride in decode steps, 0 if decoding waits for them.
        whole: 1 if prompts are never cut; one beyond the budget then has a step of its own.
        reserve: share of the answer that must find room in the cache at admission; what is not
            reserved may run out, and the latest request then starts anew.
        block: tokens of a block of cache; half of one is lost to each sequence on average.
        state_share: share of the room for caches that is a pool of recurrent states alone; 0 where
            states and caches share the room.
        state_slots: states that a request holds in that pool.
        frontend: time from a request's arrival until the scheduler sees it [s]: the web server,
            the tokeniser, the way to the engine's process.
        stream_steps: decode steps until the user has a token that was made: steps are prepared
            ahead of the results of those before, and answers are written by other processes.
    """

    budget: ArrayLike = 8192.0
    divided: ArrayLike = 0.0
    sequences: ArrayLike = 1024.0
    mixed: ArrayLike = 1.0
    whole: ArrayLike = 0.0
    reserve: ArrayLike = 0.0
    block: ArrayLike = 16.0
    state_share: ArrayLike = 0.0
    state_slots: ArrayLike = 1.0
    frontend: ArrayLike = 0.0
    stream_steps: ArrayLike = 0.0


def default_scheduler(engine: Engine, hbm_bytes: float, hardware_name: str = "") -> Scheduler:
    """The rules that an engine starts with on an accelerator.

    Args:
        engine: one of `ENGINES`.
        hbm_bytes: its memory [B].
        hardware_name: its name; engines treat some by name.

    Raises:
        ValueError: the engine is unknown.

    >>> default_scheduler("vllm", 80 * GIB).budget
    8192.0
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; give {', '.join(ENGINES)}")
    rules = load_schedulers()[engine]
    tier = int(np.searchsorted(rules["below"], hbm_bytes / GIB, side="right"))
    if hardware_name.startswith(tuple(rules["small"])):
        tier = 0
    return Scheduler(
        budget=float(rules["budget"][tier]),
        divided=float(rules["divided"]),
        sequences=float(rules["sequences"][tier]),
        mixed=float(rules["mixed"]),
        whole=float(rules["whole"]),
        reserve=float(rules["reserve"]),
        state_share=float(rules["state_ratio"]) / (1.0 + float(rules["state_ratio"])),
        state_slots=float(rules["state_slots"]),
        frontend=float(rules["frontend_ms"]) * MS,
        stream_steps=float(rules["stream_steps"]),
    )


def sharing(model: ModelSpec, partition: Partition) -> float:
    """Attention replicas that share experts; copies of a dense model share nothing."""
    return scalar(partition.dp) if model.is_moe else 1.0


def of_replica(rules: Scheduler, replicas: float) -> Scheduler:
    """The rules of one of so many attention replicas that share experts.

    >>> of_replica(default_scheduler("sglang", 192 * GIB), 8.0).budget
    2048.0
    """
    budget = scalar(rules.budget) / (replicas if scalar(rules.divided) else 1.0)
    return dataclasses.replace(rules, budget=budget, divided=0.0)


def filling_of(
    engine: str, hbm_bytes: float, hardware_name: str = "", replicas: float = 1.0
) -> Filling:
    """How an attention replica fills its steps, by its engine's rules as shipped.

    vLLM's way for an engine whose rules are not known.

    Args:
        engine: its name; "" for none.
        hbm_bytes: memory of an accelerator [B].
        hardware_name: its name.
        replicas: attention replicas that share experts.
    """
    name: Any = engine if engine in ENGINES else "vllm"
    rules = default_scheduler(name, hbm_bytes, hardware_name)
    budget = scalar(of_replica(rules, replicas).budget)
    ways = (budget, rules.mixed, rules.whole, float(load_schedulers()[name]["lockstep"]))
    return Filling(*ways, rules.stream_steps, rules.frontend)


_RULES = {
    **dict.fromkeys(("budget", "sequences", "block", "state_slots"), COUNT),
    **dict.fromkeys(("divided", "mixed", "whole"), FLAG),
    "reserve": SHARE,
    "state_share": Rule(high=0.99),
    **dict.fromkeys(("frontend", "stream_steps"), NOT_NEGATIVE),
}


def check_scheduler(scheduler: Scheduler) -> None:
    """Raise `ValueError` with every rule that is out of its range."""
    check_rules("scheduler", scheduler, _RULES)
