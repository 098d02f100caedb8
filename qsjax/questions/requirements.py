"""What would make an impossible limit possible: a shorter context, more or faster GPUs."""

import dataclasses
from collections.abc import Callable

import numpy as np

from qsjax.cost.metrics import Economy
from qsjax.grid.axes import make_axes
from qsjax.grid.batches import score_candidates
from qsjax.grid.limits import Limits
from qsjax.grid.problem import axis_values
from qsjax.grid.screening import candidates
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Workload

# What a faster accelerator of the same capacity has more of.
RATES = ("hbm_bw", "flops_bf16", "flops_fp8", "flops_fp4", "flops_exp", "intra_bw", "inter_bw")
MOST_FACTOR, GPU_DOUBLINGS, HALVINGS = 1024.0, 3, 14


@dataclasses.dataclass(frozen=True, slots=True)
class Remedies:
    """Changes each of which alone is enough; NaN where none of those tried is.

    Attributes:
        context: longest context among the halvings of the one asked for [tokens].
        gpus: smallest GPU count among its doublings, up to eightfold.
        speed: smallest factor on all rates of the accelerator (HBM, arithmetic, links), to 1 %;
            latencies and overheads stay.
    """

    context: float
    gpus: float
    speed: float


def faster(hardware: HardwareSpec, factor: float) -> HardwareSpec:
    """The same accelerator with all rates `factor` times as high."""
    rates = {name: np.multiply(getattr(hardware, name), factor) for name in RATES}
    return dataclasses.replace(hardware, **rates)


def remedies(
    model: ModelSpec,
    hardware: HardwareSpec,
    workload: Workload,
    gpus: int,
    limits: Limits,
    economy: Economy,
    convention: Convention,
) -> Remedies:
    """Single changes with which a design keeps `limits`, where none does as asked.

    Args:
        model: shapes.
        hardware: accelerator.
        workload: its context is the one asked for; all batches are tried.
        gpus: GPUs asked for.
        limits: what a design must keep.
        economy: price and power.
        convention: accounting.
    """
    context = float(np.asarray(workload.context))

    def is_possible(device: HardwareSpec, count: int, length: float) -> bool:
        axes = make_axes(axis_values([count], [length], {}))
        records = Records(model, device, Partition(), workload)
        found = candidates(records, axes, (0, 0), convention)
        scores = score_candidates(found, limits, economy, convention)
        return bool(np.max(scores.score, initial=-np.inf) > -np.inf)

    lengths = (max(1.0, context / 2.0**k) for k in range(1, HALVINGS + 1))
    counts = (gpus * 2**k for k in range(1, GPU_DOUBLINGS + 1))
    return Remedies(
        context=next((x for x in lengths if is_possible(hardware, gpus, x)), np.nan),
        gpus=next((float(n) for n in counts if is_possible(hardware, n, context)), np.nan),
        speed=_least_factor(lambda x: is_possible(faster(hardware, x), gpus, context)),
    )


def _least_factor(works: Callable[[float], bool]) -> float:
    """Smallest factor of at least 1 that works, to 1 %; NaN if MOST_FACTOR does not."""
    if not works(MOST_FACTOR):
        return np.nan
    low, high = 1.0, MOST_FACTOR
    while high / low > 1.01:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if works(middle) else (middle, high)
    return high
