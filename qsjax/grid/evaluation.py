"""Many designs at once, each with its own inputs, by NumPy."""

from typing import Any

import numpy as np

from qsjax.cost.decode import decode_step
from qsjax.numerics import trees
from qsjax.numerics.numpy_backend import on_host

evaluate = on_host(decode_step)  # the decode step of records that broadcast


def full(tree: Any, shape: tuple[int, ...]) -> Any:
    """Every leaf as a NumPy array of `shape`."""
    return trees.map(lambda leaf: np.broadcast_to(np.asarray(leaf), shape), tree)
