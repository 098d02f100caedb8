"""The grid that every measurement evaluates: one model and its dense twin, all partitions."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from qsjax import catalog
from qsjax.cost.params import dense_twin
from qsjax.grid import Axes, Records, make_axes, matrix_arrays, place, stack
from qsjax.search import Objective
from qsjax.specs import PHYSICAL, Partition, Workload

MODEL, HARDWARE, GPUS, Q = "deepseek-v3", "h100-sxm", 64.0, 5.0
OBJECTIVE: Objective = "tokens_per_s_per_gpu"
DEGREES = (1, 2, 4, 8, 16, 32, 64)
# 7^5 partitions in two KV modes; nothing is left out, legal or not.
DESIGNS = 2 * len(DEGREES) ** 5
VARIANTS = 2
CONTEXTS = (1024.0, 2.0**24)


def records() -> Records:
    """The model and its dense twin, stacked, on one accelerator; the batch is the largest."""
    model = catalog.model(MODEL)
    both = stack([model, dense_twin(model, Q)])
    return Records(both, catalog.hardware(HARDWARE), Partition(), Workload(context=1.0), GPUS)


def axes(contexts: int, **further: Sequence[float] | np.ndarray) -> Axes:
    """Two variants, `contexts` lengths, `further` kept axes, and every partition."""
    return make_axes(
        {
            "model": ["moe", f"dense q={Q:g}"],
            **further,
            "context": np.geomspace(*CONTEXTS, contexts).round(),
            **dict.fromkeys(("tp", "ep", "pp", "dp", "kvp"), DEGREES),
            "kv_mode": ["kvp", "cp"],
        }
    )


def axes_of(cells: float) -> Axes:
    """About `cells` cells: more contexts first, then bandwidths beside them."""
    kept = max(1, round(cells / DESIGNS / VARIANTS))
    if kept <= 512:
        return axes(kept)
    bandwidths = math.ceil(kept / 512)
    return axes(round(kept / bandwidths), hbm_bw=np.linspace(2e12, 8e12, bandwidths))


def small_axes(cells: float) -> Axes:
    """About `cells` cells of fewer degrees: grids smaller than one row of partitions."""
    length = max(1, min(len(DEGREES), int((cells / 4) ** 0.2)))
    degrees = dict.fromkeys(("tp", "ep", "pp", "dp", "kvp"), DEGREES[:length])
    contexts = np.geomspace(*CONTEXTS, max(1, round(cells / (4 * length**5))))
    return make_axes(
        {"model": ["moe", "dense"], "context": contexts, **degrees, "kv_mode": ["kvp", "cp"]}
    )


def block(grid: Axes, dtype: str) -> tuple[Records, tuple[int, ...]]:
    """Records placed on the matrix of a grid, as arrays of `dtype`, and its shape."""
    placed = place(records(), matrix_arrays(grid), PHYSICAL)
    kept = tuple(len(axis.values) for axis in grid.kept)
    arrays: Any = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), placed)
    return arrays, (*kept, grid.cells // math.prod(kept))


def command(*further: str) -> str:
    """The command that repeats a measurement."""
    return " ".join(("python -m benchmarks.run", *further))
