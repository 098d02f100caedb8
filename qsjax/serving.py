"""What a serving team asks of a grid: what fits, and the best design within its limits."""

import dataclasses
from functools import lru_cache
from itertools import combinations

import numpy as np

from qsjax.candidates import (
    Screened,
    batch_axis,
    cell_axes,
    cells,
    flat_records,
    is_legal,
    screen,
    strong,
    without_batch,
)
from qsjax.grid import Axes, Records, axis_arrays, place
from qsjax.specs import KV_HELIX, Convention, Partition

# GPU counts that `relax` tries: powers of two up to this one.
MOST_GPUS = 65_536


@dataclasses.dataclass(frozen=True, slots=True)
class Relaxation:
    """What a cell would need to hold one sequence; NaN where no value is enough.

    Arrays have the shape of the kept axes (less `batch`).

    Attributes:
        hbm_bytes: smallest capacity of each GPU at which the sequences asked for fit in some legal
            partition of the grid [B].
        gpus: smallest power of two of GPUs, of the given capacity, with a partition in which they
            fit; any power-of-two degrees, whatever the grid allows.
    """

    hbm_bytes: np.ndarray
    gpus: np.ndarray


@lru_cache(maxsize=1)
def _power_of_two_partitions() -> tuple[Partition, np.ndarray]:
    """All power-of-two (tp, ep, pp, dp, kvp) of up to MOST_GPUS GPUs, and their GPU counts."""
    most = MOST_GPUS.bit_length() - 1
    # Bars between `most` stars: exponents of tp, pp, dp, kvp, and what is left over.
    bars = np.array(list(combinations(range(most + 4), 4)))
    exponents = np.diff(bars, prepend=-1, axis=1) - 1
    stage = exponents[:, [0, 2, 3]].sum(axis=1)
    row = np.repeat(np.arange(len(bars)), stage + 1)
    first = np.cumsum(stage + 1) - (stage + 1)
    ep = 2.0 ** (np.arange(len(row)) - first[row])
    tp, pp, dp, kvp = (2.0 ** exponents[row].T)[..., None]
    partition = Partition(tp=tp, ep=ep[:, None], pp=pp, dp=dp, kvp=kvp, kv_mode=KV_HELIX)
    return partition, 2.0 ** exponents[row].sum(axis=1)


def _least_bytes(screened: Screened, batch: float) -> float:
    """Fewest bytes that hold weights and `batch` sequences [B]; infinite if none is legal."""
    cap = screened.capacity
    needed = np.asarray(cap.weights) + batch * np.asarray(cap.kv_per_sequence)
    return float(np.min(needed, initial=np.inf, where=is_legal(screened)))


def relax(
    records: Records, axes: Axes, convention: Convention, where: np.ndarray | None = None
) -> Relaxation:
    """What each kept cell would need to run: more memory on each GPU, or more GPUs.

    Args:
        records: inputs of the search. If it prescribes a batch (or has an axis of them), the
            smallest one must fit; else one sequence.
        axes: the grid that was searched.
        convention: accounting.
        where: cells to look at, shape of the kept axes less `batch`; all of them if None. The
            others are NaN.
    """
    asked = batch_axis(axes)
    if asked is None and records.workload.batch is not None:
        asked = np.asarray(records.workload.batch)
    batch = 1.0 if asked is None else max(1.0, float(np.min(asked)))
    axes = without_batch(axes)
    free = records._replace(workload=dataclasses.replace(records.workload, batch=None))
    shape = axes.shape[: len(axes.kept)]
    hbm, gpus = np.full(shape, np.nan), np.full(shape, np.nan)
    powers, counts = _power_of_two_partitions()
    for cell in cells(axes):
        if where is not None and not where[cell]:
            continue
        dense = strong(place(free, axis_arrays(cell_axes(axes, cell)), convention))
        least = _least_bytes(screen(dense, convention), batch)
        one = flat_records(free, axes, cell, np.zeros((), np.int64), convention)
        if np.isfinite(least):
            needed = np.add(least, one.hardware.reserve_bytes) / one.hardware.usable_fraction
            hbm[cell] = np.ceil(needed) + 1.0  # a whole byte more than rounding can take away
        screened = screen(one._replace(partition=strong(powers), gpus=None), convention)
        fits = is_legal(screened) & (np.asarray(screened.capacity.max_batch) >= batch)
        if fits.any():
            gpus[cell] = counts[fits[:, 0]].min()
    return Relaxation(hbm, gpus)
