"""The rules of engines, each kind in a TOML."""

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("qsjax.engines") / f"{name}.toml").read_text("utf-8"))


# How each engine divides an accelerator's memory [GiB], runs four-bit experts, and where it runs.
load_engines = functools.partial(_table, "engines")
# The constants of kernels by generation, engine and format.
load_kernels = functools.partial(_table, "kernels")
# Flags by engine: which are read, which have no effect, which are not read.
load_flags = functools.partial(_table, "flags")
# The default rules of each engine's scheduler.
load_schedulers = functools.partial(_table, "schedulers")


def refuses(engine: str, accelerator: str) -> bool:
    """Whether an engine cannot run on an accelerator of the catalogue."""
    made = generation_of(accelerator)
    runs_on = load_engines()["runs_on"].get(engine)
    return bool(runs_on and made) and made not in runs_on


def generation_of(name: str) -> str:
    """The generation of an accelerator of the catalogue; "" for one that is in none.

    >>> generation_of("h200-sxm"), generation_of("paper-reference")
    ('hopper', '')
    """
    generations = load_engines()["generations"].items()
    return next((made for made, starts in generations if name.startswith(tuple(starts))), "")
