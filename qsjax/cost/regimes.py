"""Regimes of a step: which kind of resource takes the largest share of its time."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Resources of the time ledger by regime; "prefill" is the wait for the prompts of others.
REGIMES: dict[str, tuple[str, ...]] = {
    "bandwidth-bound": ("HBM KV", "HBM weights", "HBM activations"),
    "compute-bound": ("compute",),
    "latency-bound": ("overhead",),
    "communication-bound": ("comm TP", "comm KV", "comm EP", "comm layout", "comm PP"),
    "prefill-bound": ("prefill",),
}


def regimes_of(times: Mapping[str, Any]) -> np.ndarray:
    """Name of the regime of every step, from its times or shares by resource.

    >>> str(regimes_of({"HBM KV": 2.0, "HBM weights": 2.0, "compute": 3.0}))
    'bandwidth-bound'
    """
    sums = [sum(np.asarray(times.get(part, 0.0)) for part in parts) for parts in REGIMES.values()]
    largest = np.argmax(np.stack(np.broadcast_arrays(*sums)), axis=0)
    return np.array(list(REGIMES))[largest]
