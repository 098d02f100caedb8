"""The rules of engines, each kind in a TOML."""

from functools import cache, partial
from typing import Any, Literal, NamedTuple, get_args

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

Engine = Literal["vllm", "sglang", "trtllm", "atom"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
MANY = 1_000  # values of a flag that takes any number

NOT_READ = "not read, though it may change"  # begins notes on what numbers leave out


class Flag(NamedTuple):
    """What a flag does here: the quantity that it sets, its effect, the values it takes."""

    name: str
    effect: Literal["read", "none", "unread"]
    values: int
    quantity: str = ""


@cache
def flags_of(engine: str) -> dict[str, Flag]:
    """Every known flag of an engine, by spelling."""
    known: dict[str, Flag] = {}
    rules = load_flags()[engine]
    for kind, values in (("reads", 1), ("switches", 0)):
        for quantity, spellings in rules[kind].items():
            for name in spellings.split():
                # Short names of vLLM and ATOM have one dash; the others' have two.
                short = len(name) <= 3 and engine in ("vllm", "atom")
                known[f"-{name}" if short else f"--{name}"] = Flag(name, "read", values, quantity)
    for effect in ("none", "unread"):
        group = rules["no_effect" if effect == "none" else "unread"]
        for kind, values in (("values", 1), ("many", MANY), ("switches", 0)):
            for name in group[kind].split():
                known[f"--{name}"] = Flag(name, effect, values)
                if len(name) <= 3:  # both are accepted: `-tp` and `--tp`
                    known[f"-{name}"] = known[f"--{name}"]
    return known


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
