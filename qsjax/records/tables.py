"""Tables of the package, which are data: TOML files beside the modules that use them."""

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def table(path: str) -> dict[str, Any]:
    """A table by its path in the package; nobody changes what all share.

    >>> sorted(table("engines/schedulers.toml"))[:2]
    ['atom', 'sglang']
    """
    return tomllib.loads((resources.files("qsjax") / path).read_text("utf-8"))
