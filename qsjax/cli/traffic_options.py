"""Flags that `simulate` and `size` share: requests, limits of latency, rules of the engine."""

import math
from typing import Any

from qsjax.cli.options import Engines, flag, options
from qsjax.cli.serving_options import Duration, prefix_option
from qsjax.engines.rules import ENGINES
from qsjax.questions.simulation.traffic import LENGTH

demand_options = options(
    *(flag(f"--{name}", str, f"Input and output tokens: {LENGTH}.") for name in ("isl", "osl")),
    prefix_option,
    flag(
        "--think",
        Duration(),
        "Mean pause of a user between requests, as 5s.  [default: none]",
        0.0,
        show_default=False,
    ),
    flag("--seed", int, "Seed of lengths and arrivals.", 0),
)
LATENCY = "Longest time to the first token, per further token, as 2s or 50ms."
limit_options = options(*(flag(f"--{name}", Duration(), LATENCY) for name in ("ttft", "tpot")))
ENGINE = "Whose scheduler and kernels run.  [default: vllm's scheduler, what fits all kernels]"
_STEP = "Most tokens of a step, most running requests.  [default: the engine's]"
engine_options = options(
    flag("--engine", Engines(ENGINES), ENGINE),
    *(flag(f"--{name}", float, _STEP) for name in ("budget", "sequences")),
    flag(
        "--mixed/--prompts-first",
        bool,
        "Prompts within decode steps, or before.  [default: the engine's]",
    ),
)


def arguments_of(flags: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `simulate` and `size`: lengths, limits, and the rules of the engine."""
    named = ("isl", "osl", "prefix_hit_rate", "think", "seed")
    rules = {name: flags[name] for name in ("budget", "sequences") if flags[name] is not None}
    if flags["mixed"] is not None:
        rules["mixed"] = float(flags["mixed"])
    limits = {name: flags[name] or math.inf for name in ("ttft", "tpot")}
    return {name: flags[name] for name in named} | limits | {"scheduler": rules or None}
