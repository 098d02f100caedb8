"""The rules of engines: memory, releases, kernels (`engines.toml`, with sources)."""

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def load_engines() -> dict[str, dict[str, Any]]:
    """How each engine divides an accelerator's memory [GiB] and runs four-bit experts."""
    return tomllib.loads((resources.files("qsjax.engines") / "engines.toml").read_text("utf-8"))
