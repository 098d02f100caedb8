"""Flags that `simulate` and `size` share: requests, limits of latency, rules of the engine."""

import math
from typing import Any

import click

from qsjax.cli.options import options
from qsjax.cli.serving_options import Duration, prefix_option
from qsjax.engines.flags import ENGINES
from qsjax.questions.simulation.traffic import LENGTH

demand_options = options(
    click.option("--isl", help=f"Input tokens of a request: {LENGTH}."),
    click.option("--osl", help="Output tokens of a request, likewise."),
    prefix_option,
    click.option(
        "--think",
        type=Duration(),
        default=0.0,
        help="Time that a user takes from an answer to the next request, as 5s.  [default: none]",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of lengths and arrivals."),
)
limit_options = options(
    click.option("--ttft", type=Duration(), help="Longest time to first token, as 2s."),
    click.option("--tpot", type=Duration(), help="Longest time per output token, as 50ms."),
)
engine_options = options(
    click.option(
        "--engine",
        type=click.Choice(list(ENGINES)),
        default="vllm",
        show_default=True,
        help="Whose rules fill the steps.",
    ),
    click.option("--budget", type=float, help="Most tokens of a step.  [default: the engine's]"),
    click.option("--sequences", type=float, help="Most running requests.  [default: the engine's]"),
    click.option(
        "--mixed/--prompts-first",
        default=None,
        help="Whether prompts ride in decode steps.  [default: as the engine does]",
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
