"""The rules of engines: memory and releases, constants of kernels, flags; each in a TOML."""

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def load_engines() -> dict[str, dict[str, Any]]:
    """How each engine divides an accelerator's memory [GiB] and runs four-bit experts."""
    return tomllib.loads((resources.files("qsjax.engines") / "engines.toml").read_text("utf-8"))


@functools.cache
def load_kernels() -> dict[str, Any]:
    """The constants of kernels by generation, engine and format."""
    return tomllib.loads((resources.files("qsjax.engines") / "kernels.toml").read_text("utf-8"))


@functools.cache
def load_flags() -> dict[str, dict[str, Any]]:
    """Flags by engine: which are read, which have no effect, which are not read."""
    return tomllib.loads((resources.files("qsjax.engines") / "flags.toml").read_text("utf-8"))
