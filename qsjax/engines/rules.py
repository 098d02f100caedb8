"""The rules of engines, each kind in a TOML."""

from functools import partial
from typing import Any

from qsjax.records.tables import table

# How each engine divides an accelerator's memory [GiB], runs four-bit experts, and where it runs.
load_engines = partial(table, "engines/engines.toml")
# The constants of kernels by generation, engine and format.
load_kernels = partial(table, "engines/kernels.toml")
# Flags by engine: which are read, which have no effect, which are not read.
load_flags = partial(table, "engines/flags.toml")
# The default rules of each engine's scheduler.
load_schedulers = partial(table, "engines/schedulers.toml")
# What names engines, their flags and the facts of measurements elsewhere.
load_spellings = partial(table, "engines/spellings.toml")

NOT_READ = "not read, though it may change"  # begins notes on what numbers leave out


def engines_by(kind: str) -> dict[str, Any]:
    """The engine of each name of a kind: `programs`, or `calls` of Python."""
    named = load_spellings()[kind].items()
    return {name: engine for engine, names in named for name in names.split()}


def refuses(engine: str, accelerator: str) -> bool:
    """Whether an engine cannot run on an accelerator of the catalogue."""
    made = generation_of(accelerator)
    runs_on = load_engines()["runs_on"].get(engine)
    return bool(runs_on and made) and made not in runs_on


def left_behind(engine: str, accelerator: str) -> str:
    """The release since which an engine no longer runs on an accelerator, "" if there is none."""
    since: dict[str, str] = load_engines()["left_behind"].get(engine, {})
    return since.get(generation_of(accelerator), "")


def generation_of(name: str) -> str:
    """The generation of an accelerator of the catalogue; "" for one that is in none.

    >>> generation_of("h200-sxm"), generation_of("paper-reference")
    ('hopper', '')
    """
    generations = load_engines()["generations"].items()
    return next((made for made, starts in generations if name.startswith(tuple(starts))), "")
