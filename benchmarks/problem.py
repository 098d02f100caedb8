"""The grids that the measurements evaluate: one model and its dense twin, many partitions."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from qsjax import catalog
from qsjax.cost.decode import decode_parts
from qsjax.grid.axes import Axes, make_axes, matrix_arrays, place, stack, twin_of
from qsjax.grid.scoring import WIDE, Reduced, Scored, StepObjective, scores_of
from qsjax.grid.tiles import reduce_tiles
from qsjax.records.specs import PHYSICAL, Partition, Records, Workload

MODEL, HARDWARE, Q = "deepseek-v3", "h100-sxm", 5.0
OBJECTIVE: StepObjective = "tokens_per_s_per_gpu"
VARIANTS = 2
CONTEXTS = (1024.0, 2.0**24)
DEGREES = (1, 2, 4, 8, 16, 32, 64)
# Every combination is legal for the model and for its twin, whatever its number of GPUs: no cell is
# cheap because a rule excludes it.
LEGAL = {
    "tp": DEGREES,
    "pp": DEGREES[:-1],
    "dp": DEGREES,
    "kvp": DEGREES[1:],
    "kv_mode": ("kvp", "cp"),
}
DESIGNS = math.prod(len(values) for values in LEGAL.values())
# What `qsjax explore --gpus 64` searches: 7^5 partitions in two KV modes, legal or not.
EVERY = {**dict.fromkeys(("tp", "ep", "pp", "dp", "kvp"), DEGREES), "kv_mode": ("kvp", "cp")}
EVERY_DESIGNS, GPUS = 2 * len(DEGREES) ** 5, 64.0


def records(gpus: float | None = None) -> Records:
    """The model and its dense twin, stacked, on one accelerator; the batch is the largest."""
    model = catalog.model(MODEL)
    both = stack([model, twin_of(model, Q)])
    return Records(both, catalog.hardware(HARDWARE), Partition(), Workload(context=1.0), gpus)


def axes(
    contexts: int,
    partitions: Mapping[str, Sequence[float | str]] = LEGAL,
    **further: Sequence[float] | np.ndarray,
) -> Axes:
    """Two variants, `further` kept axes, `contexts` lengths, and the partitions."""
    return make_axes(
        {
            "model": ["moe", f"dense q={Q:g}"],
            **further,
            "context": np.geomspace(*CONTEXTS, contexts).round(),
            **partitions,
        }
    )


def axes_of(cells: float) -> Axes:
    """About `cells` cells: more contexts first, then bandwidths beside them."""
    kept = max(1, round(cells / DESIGNS / VARIANTS))
    if kept <= 512:
        return axes(kept)
    return axes(512, hbm_bw=np.linspace(2e12, 8e12, round(kept / 512)))


def block(grid: Axes, dtype: str, gpus: float | None = None) -> tuple[Records, tuple[int, ...]]:
    """Records placed on the matrix of a grid, as arrays of `dtype`, and its shape."""
    placed = place(records(gpus), matrix_arrays(grid), PHYSICAL)
    kept = tuple(len(axis.values) for axis in grid.kept)
    arrays: Any = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), placed)
    return arrays, (*kept, grid.cells // math.prod(kept))


def scores(records: Records) -> Scored:
    """Scores of a block's designs."""
    return scores_of(*decode_parts(records, PHYSICAL), records.gpus, OBJECTIVE)


@partial(jax.jit, static_argnames="shape", compiler_options=WIDE)
def reduce_block(records: Records, shape: tuple[int, ...]) -> Reduced:
    """The fused arg-max of a block, as sweeps compile it."""
    return reduce_tiles(scores, (records,), shape)[0]


def command(*further: str) -> str:
    """The command that repeats a measurement."""
    return " ".join(("python -m benchmarks.run", *further))
