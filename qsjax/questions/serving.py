"""What a serving team asks of a grid: what fits, and the best design within its limits."""

import dataclasses
from functools import lru_cache
from itertools import combinations

import jax
import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.metrics import Economy, Objective, economy_of
from qsjax.grid.axes import Axes, axis_arrays, place
from qsjax.grid.batches import Scores, score_candidates
from qsjax.grid.limits import Limits, check_limits
from qsjax.grid.screening import (
    Candidates,
    Screened,
    as_float64,
    batches_asked,
    candidates,
    cell_axes,
    cells,
    flat_records,
    is_legal,
    labels_of,
    screen,
    without_batch,
)
from qsjax.grid.search import TIE_TOLERANCE, evaluate
from qsjax.questions.infeasibility import Refusal, refusals
from qsjax.records.scenario import Records
from qsjax.records.specs import KV_HELIX, Convention, HardwareSpec, Partition

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


def _least_capacity(screened: Screened, batch: float, hardware: HardwareSpec) -> float:
    """Smallest HBM that holds weights and `batch` sequences [B]; infinite if nothing is legal."""
    cap = screened.capacity
    fraction = np.asarray(hardware.usable_fraction)
    reserve = fraction * np.asarray(hardware.hbm_bytes) - np.asarray(cap.usable)
    needed = np.asarray(cap.weights) + batch * np.asarray(cap.kv_per_sequence) + reserve
    return float(np.min(needed / fraction, initial=np.inf, where=is_legal(screened)))


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
    asked = batches_asked(records, axes)
    batch = 1.0 if asked is None else max(1.0, float(np.min(asked)))
    axes = without_batch(axes)
    free = records._replace(workload=dataclasses.replace(records.workload, batch=None))
    shape = axes.shape[: len(axes.kept)]
    hbm, gpus = np.full(shape, np.nan), np.full(shape, np.nan)
    powers, counts = _power_of_two_partitions()
    for cell in cells(axes):
        if where is not None and not where[cell]:
            continue
        dense = as_float64(place(free, axis_arrays(cell_axes(axes, cell)), convention))
        one = flat_records(free, axes, cell, np.zeros((), np.int64), convention)
        least = _least_capacity(screen(dense, convention), batch, one.hardware)
        if np.isfinite(least):
            hbm[cell] = np.ceil(least) + 1.0  # a whole byte more than rounding can take away
        screened = screen(one._replace(partition=as_float64(powers), gpus=None), convention)
        fits = is_legal(screened) & (np.asarray(screened.capacity.max_batch) >= batch)
        if fits.any():
            gpus[cell] = counts[fits[:, 0]].min()
    return Relaxation(hbm, gpus)


@dataclasses.dataclass(frozen=True, slots=True)
class Design:
    """One design that runs: its inputs and its cost, all scalars."""

    records: Records
    step: StepCost


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """The best design of one kept cell within the limits.

    Attributes:
        labels: coordinates of the cell by axis.
        best: the winner; None if no design keeps the limits.
        found: the candidates: legal, with room for one sequence.
        scores: best allowed batch of each of them.
        refusals: if there is no winner, why and what would be one; else empty.
    """

    labels: dict[str, str | float]
    best: Design | None
    found: Candidates
    scores: Scores
    refusals: tuple[Refusal, ...]


def design_at(found: Candidates, row: int, batch: float, convention: Convention) -> Design:
    """The full cost of one candidate at a batch."""
    at = jax.tree.map(lambda x: x[row, 0] if x.ndim else x, found.records)
    workload = dataclasses.replace(at.workload, batch=np.asarray(batch, np.float64))
    at = at._replace(workload=workload)
    step = jax.tree.map(lambda x: float(np.asarray(x)), evaluate(at, convention))
    return Design(at, step)


def winner(scores: Scores) -> int | None:
    """The best row by the tie rule: score within 1e-9, then fewest GPUs, then lowest position."""
    best = np.max(scores.score, initial=-np.inf)
    if best == -np.inf:
        return None
    tied = scores.score >= best - TIE_TOLERANCE * abs(best)
    return int(np.argmin(np.where(tied, scores.gpus, np.inf)))


def serve(
    records: Records,
    axes: Axes,
    convention: Convention,
    limits: Limits | None = None,
    economy: Economy | None = None,
    objective: Objective = "tokens_per_s_per_gpu",
) -> list[Served]:
    """The best design within the limits for each kept cell, over all partitions and batches.

    Args:
        records: inputs.
        axes: the grid; batches are searched: those of an axis `batch` or of the workload if there
            is one, else all (see `batches.ladder`).
        convention: accounting.
        limits: what a design must keep.
        economy: price and power; the accelerator's own if None.
        objective: what is best.

    Raises:
        ValueError: a limit is out of range, or cannot be judged without a price or a power.
    """
    limits = limits or Limits()
    given = batches_asked(records, axes)
    axes = without_batch(axes)
    served = []
    for cell in cells(axes):
        found = candidates(records, axes, cell, convention)
        own = economy or economy_of(found.records.hardware)
        check_limits(limits, own)
        scores = score_candidates(found, limits, own, convention, objective, given)
        row = winner(scores)
        served.append(
            Served(
                labels=labels_of(axes, cell),
                best=None
                if row is None
                else design_at(found, row, float(scores.batch[row]), convention),
                found=found,
                scores=scores,
                refusals=() if row is not None else refusals(found, limits, own, convention, given),
            )
        )
    return served
