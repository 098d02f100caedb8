"""Flags that `simulate` and `size` share: requests, limits of latency, rules of the engine."""

import dataclasses
from typing import Any

import click

from qsjax import catalog
from qsjax.cli.options import options
from qsjax.cli.serving_options import Duration
from qsjax.engines.flags import ENGINES
from qsjax.engines.schedulers import Scheduler, check_scheduler, default_scheduler
from qsjax.numerics.safe import scalar
from qsjax.questions.simulation.traffic import Demand

LENGTH = "a number, a range such as 800-1000, or lognormal:MEDIAN:SIGMA"

demand_options = options(
    click.option("--isl", help=f"Input tokens of a request: {LENGTH}."),
    click.option("--osl", help="Output tokens of a request, likewise."),
    click.option(
        "--cached",
        type=float,
        default=0.0,
        show_default=True,
        help="Share of each prompt whose cache is there already (a shared prefix).",
    ),
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


def demand_of(flags: dict[str, Any], requests: int) -> Demand:
    """The requests that were asked for.

    Raises:
        ValueError: a length is missing.
    """
    missing = [f"--{name}" for name in ("isl", "osl") if flags[name] is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must say how long requests are: {LENGTH}")
    return Demand(
        flags["isl"], flags["osl"], flags["cached"], requests, flags["think"], flags["seed"]
    )


def scheduler_of(flags: dict[str, Any]) -> Scheduler:
    """The rules of the engine, with what the flags replace."""
    entry = catalog.hardware_entry(flags["hardware"])
    rules = default_scheduler(flags["engine"], scalar(entry.spec.hbm_bytes), entry.name)
    given = {name: flags[name] for name in ("budget", "sequences") if flags[name] is not None}
    if flags["mixed"] is not None:
        given["mixed"] = float(flags["mixed"])
    rules = dataclasses.replace(rules, **given)
    check_scheduler(rules)
    return rules
