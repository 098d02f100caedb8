"""The rules of engines, each kind in a TOML."""

from functools import partial

from qsjax.records.tables import table

# How each engine divides an accelerator's memory [GiB], runs four-bit experts, and where it runs.
load_engines = partial(table, "engines/engines.toml")
# The constants of kernels by generation, engine and format.
load_kernels = partial(table, "engines/kernels.toml")
# Flags by engine: which are read, which have no effect, which are not read.
load_flags = partial(table, "engines/flags.toml")
# The default rules of each engine's scheduler.
load_schedulers = partial(table, "engines/schedulers.toml")


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
