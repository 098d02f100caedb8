"""Every printed operating point, evaluated under the paper's convention and the physical one.

Throughput (tables 4 to 6) is computed at the batches that the paper prints, so that its error is
that of the time model alone. The batches themselves (tables 3 and 4) are computed with a
calibration per model, because no uniform rule reproduces them: the best one misses by 7 % rms and
12 % at worst. The physical column uses neither: one convention, its own capacity.
"""

import dataclasses
from typing import Any

import numpy as np

from qsjax.cost.decode import StepCost, evaluate
from qsjax.cost.laws.params import dense_twin
from qsjax.evidence.paper.printed import CALIBRATION, POINTS, Point
from qsjax.grid.axes import stack
from qsjax.grid.cells import full
from qsjax.records.specs import (
    PAPER,
    PHYSICAL,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Records,
    Workload,
)


def records_of(
    points: list[Point], models: dict[str, ModelSpec], hardware: HardwareSpec, twin: Any
) -> Records:
    """Records of the points at the reference partition: TP=8, EP=4, PP=1, KVP=GPUs/8 (table 2)."""
    specs = [
        models[p.model] if p.q is None else dense_twin(models[p.model], p.q, twin) for p in points
    ]
    partition = Partition(
        tp=8.0,
        ep=np.array([4.0 if p.q is None else 1.0 for p in points]),
        kvp=np.array([p.gpus / 8.0 for p in points]),
        kv_messages=2.0,
    )
    workload = Workload(
        context=np.array([p.context for p in points]),
        bytes_head_weight=1.0,
        bytes_embedding_weight=1.0,
    )
    return Records(stack(specs), hardware, partition, workload)


def calibrated_batches(
    points: list[Point], models: dict[str, ModelSpec], hardware: HardwareSpec
) -> np.ndarray:
    """B_max of each point with its model's calibration; below 1 where nothing fits [1]."""
    memory = [CALIBRATION[p.model, p.gpus] for p in points]
    convention = dataclasses.replace(PAPER, kv_overhead=np.array([m.kv_overhead for m in memory]))
    records = records_of(points, models, hardware, PAPER.twin)
    split = [m.expert_split if p.q is None else 1.0 for p, m in zip(points, memory, strict=True)]
    partition = dataclasses.replace(records.partition, ep=np.array(split))
    step = evaluate(records._replace(partition=partition), convention)
    return np.asarray(step.capacity.max_batch)


def steps(
    points: list[Point],
    models: dict[str, ModelSpec],
    hardware: HardwareSpec,
    convention: Convention,
    batches: np.ndarray | None,
) -> StepCost:
    """Cost of the points [arrays over points], at `batches` or at B_max."""
    records = records_of(points, models, hardware, convention.twin)
    workload = dataclasses.replace(records.workload, batch=batches)
    return full(evaluate(records._replace(workload=workload), convention), (len(points),))


@dataclasses.dataclass(frozen=True, slots=True)
class Results:
    """Every one of `POINTS` under both conventions.

    Attributes:
        batches: B_max with the calibration.
        paper: cost at the printed batch (at the calibrated one where none is printed).
        physical: cost under the physical convention at its own B_max.
    """

    batches: np.ndarray
    paper: StepCost
    physical: StepCost

    def at(self, point: Point) -> int:
        """Position of a point."""
        return POINTS.index(point)

    def largest(self, at: int) -> tuple[float, float]:
        """Largest batch of a point by both conventions, the paper's calibrated."""
        return float(self.batches[at]), float(self.physical.capacity.max_batch[at])

    def faster(self, at: int, other: int, scale: float = 1.0) -> tuple[float, float]:
        """Tokens/s/GPU of a point over another's by both conventions, times a scale."""
        rates = (step.tokens_per_s_per_gpu for step in (self.paper, self.physical))
        paper, physical = (scale * float(rate[at]) / float(rate[other]) for rate in rates)
        return paper, physical


def compute(models: dict[str, ModelSpec], hardware: HardwareSpec) -> Results:
    """Evaluate every point under both conventions."""
    batches = calibrated_batches(POINTS, models, hardware)
    printed = [p.batch or max(1.0, b) for p, b in zip(POINTS, batches, strict=True)]
    return Results(
        batches=batches,
        paper=steps(POINTS, models, hardware, PAPER, np.array(printed, dtype=float)),
        physical=steps(POINTS, models, hardware, PHYSICAL, None),
    )
