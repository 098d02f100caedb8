"""Flags that `simulate` and `size` share: requests, limits of latency, rules of the engine."""

import math
from typing import Any

from qsjax.cli.options import flag, options
from qsjax.cli.serving_options import Duration, prefix_option
from qsjax.engines.flags import ENGINES
from qsjax.questions.simulation.traffic import LENGTH

demand_options = options(
    flag("--isl", str, f"Input tokens of a request: {LENGTH}."),
    flag("--osl", str, "Output tokens of a request, likewise."),
    prefix_option,
    flag(
        "--think",
        Duration(),
        "Time that a user takes from an answer to the next request, as 5s.  [default: none]",
        0.0,
        show_default=False,
    ),
    flag("--seed", int, "Of lengths and arrivals.", 0),
)
limit_options = options(
    flag("--ttft", Duration(), "Longest time to first token, as 2s."),
    flag("--tpot", Duration(), "Longest time per output token, as 50ms."),
)
engine_options = options(
    flag("--engine", ENGINES, "Whose rules fill the steps.", "vllm"),
    flag("--budget", float, "Most tokens of a step.  [default: the engine's]"),
    flag("--sequences", float, "Most running requests.  [default: the engine's]"),
    flag(
        "--mixed/--prompts-first",
        bool,
        "Whether prompts ride in decode steps.  [default: as the engine does]",
    ),
)


def arguments_of(flags: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `simulate` and `size`: lengths, limits, and the rules of the engine."""
    named = ("isl", "osl", "prefix_hit_rate", "think", "seed", "engine")
    rules = {name: flags[name] for name in ("budget", "sequences") if flags[name] is not None}
    if flags["mixed"] is not None:
        rules["mixed"] = float(flags["mixed"])
    limits = {name: flags[name] or math.inf for name in ("ttft", "tpot")}
    return {name: flags[name] for name in named} | limits | {"scheduler": rules or None}
