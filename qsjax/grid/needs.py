"""How many GPUs an infeasible cell would need."""

import dataclasses
from functools import lru_cache
from itertools import combinations

import numpy as np

from qsjax.cost.feasibility import capacity, reasons
from qsjax.cost.laws.sharding import context_of
from qsjax.grid.cells import Cells, served_model, take
from qsjax.grid.parameters import Inputs
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.specs import KV_HELIX, Partition, Records

MOST_GPUS = 65_536  # powers of two up to this one are tried


@on_host
def _room(inputs: Inputs, partition: Partition) -> tuple[Array, Array]:
    """Reasons of designs at any GPU count, and the largest batch that fits."""
    workload = dataclasses.replace(inputs.workload, batch=None)
    records = Records(served_model(inputs), inputs.hardware, partition, workload)
    ctx = context_of(records, inputs.convention)
    cap = capacity(ctx)
    return reasons(ctx, cap, None), cap.max_batch


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
    tp, pp, dp, kvp = 2.0 ** exponents[row].T
    partition = Partition(tp=tp, ep=ep, pp=pp, dp=dp, kvp=kvp, kv_mode=KV_HELIX)
    return partition, 2.0 ** exponents[row].sum(axis=1)


def least_gpus(cells: Cells, where: np.ndarray) -> np.ndarray:
    """Smallest power of two of GPUs on which a cell holds its smallest batch; NaN where none does.

    Any power-of-two degrees are tried, whatever the problem allows.
    """
    batches = cells.designs.batch
    sequences = 1.0 if batches is None else float(np.min(batches))
    powers, counts = _power_of_two_partitions()
    least_counts = np.full(cells.cells, np.nan)
    for cell in np.flatnonzero(where):
        why, most = map(np.asarray, _room(take(cells.inputs, cell), powers))
        asked = cells.inputs.workload.batch
        least = max(1.0, sequences if asked is None else float(np.asarray(asked)[cell]))
        fits = (why == 0) & (most >= least)
        if fits.any():
            least_counts[cell] = counts[np.broadcast_to(fits, counts.shape)].min()
    return least_counts
