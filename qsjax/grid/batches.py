"""Which batches are tried: all, or a ladder with a bound on the throughput it loses."""

import numpy as np

# The default ladder: every batch up to DENSE, then steps of at most SPACING.
DENSE, SPACING = 64, 0.02


def every(largest: float) -> np.ndarray:
    """All batches from 1 to `largest`."""
    return np.arange(1.0, max(1.0, np.floor(largest)) + 1.0)


def ladder(largest: float, spacing: float = SPACING, dense: int = DENSE) -> np.ndarray:
    """Every batch up to `dense`, then a geometric ladder of whole batches, up to `largest`.

    Between two steps b1 < b2 TPOT does not fall, so for each batch left out b1 serves its users at
    least as fast, and gives at least b1/b of its throughput: no more than `spacing` is lost. A
    step is at least one batch: `dense` times `spacing` must be at least 1.

    >>> ladder(20, spacing=0.5, dense=4)
    array([ 1.,  2.,  3.,  4.,  6.,  9., 13., 19., 20.])
    """
    steps = [float(b) for b in range(1, dense + 1)]
    while steps[-1] < largest:
        steps.append(np.floor(steps[-1] * (1.0 + spacing)))
    return np.array([*(b for b in steps if b < largest), max(1.0, np.floor(largest))])


def spacing_of(batches: np.ndarray) -> float:
    """Largest relative gap between batches: bounds the throughput lost by those left out [1].

    >>> spacing_of(np.array([1.0, 2.0, 4.0]))
    0.5
    """
    return float(np.max((np.diff(batches) - 1.0) / batches[:-1], initial=0.0))


def clip_to(batches: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Each largest batch lowered to one of the list; 0 where all of them are above it."""
    at = np.searchsorted(batches, largest, side="right")
    return np.where(at > 0, batches[np.maximum(at - 1, 0)], 0.0)
