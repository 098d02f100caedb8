"""The rules of engines: memory and releases, constants of kernels, flags, steps; each in a TOML."""

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("qsjax.engines") / f"{name}.toml").read_text("utf-8"))


# How each engine divides an accelerator's memory [GiB] and runs four-bit experts.
load_engines = functools.partial(_table, "engines")
# The constants of kernels by generation, engine and format.
load_kernels = functools.partial(_table, "kernels")
# Flags by engine: which are read, which have no effect, which are not read.
load_flags = functools.partial(_table, "flags")
# The default rules of each engine's scheduler.
load_schedulers = functools.partial(_table, "schedulers")
