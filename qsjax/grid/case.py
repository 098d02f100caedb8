"""One design taken apart: its cost, what it lacks, and how its numbers read."""

import dataclasses
from typing import Any

import numpy as np

from qsjax.cost.disaggregation import Companion, companion
from qsjax.cost.ledger import RESOURCES
from qsjax.cost.roofline import Parts, take_apart
from qsjax.engines.schedulers import filling_of, sharing
from qsjax.grid.cells import Cells, records_on_host, take
from qsjax.grid.diagnosis import Shortcoming, shortcomings
from qsjax.grid.optimum import Best, best_of
from qsjax.grid.solution import Row, degrees_of
from qsjax.numerics import trees
from qsjax.numerics.safe import scalar
from qsjax.records.specs import Convention, Partition, Records

# Order in which the terms of the memory ledger are read.
MEMORY_TERMS = (
    "weights: attention",
    "weights: routed experts",
    "weights: experts of other modalities",
    "weights: shared experts",
    "weights: dense FFN",
    "weights: router",
    "weights: embedding and head",
    "weights: norms",
    "KV cache",
    "KV block waste",
    "reserve",
    "unused by engine",
    "free",
)
TIME_TERMS = tuple(term for terms in RESOURCES.values() for term in terms)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A design under one convention, taken apart; all leaves are floats.

    Attributes:
        records: the design with its batch.
        rules: the accounting.
        parts: its cost; of an infeasible design that at a batch of at least 1.
        shortcomings: what it lacks; empty if it runs.
    """

    records: Records
    rules: Convention
    parts: Parts
    shortcomings: tuple[Shortcoming, ...] = ()

    @property
    def is_feasible(self) -> bool:
        """Whether the design runs."""
        return not self.shortcomings

    @property
    def rate(self) -> float:
        """Tokens/s/GPU."""
        return scalar(self.parts.step.tokens_per_s_per_gpu)


def _floats(tree: Any) -> Any:
    return trees.map(lambda x: float(np.asarray(x)), tree)


def case_of(records: Records, convention: Convention, batch: float | None) -> Case:
    """One design of scalars taken apart, at a batch or at the largest that fits."""

    def at(sequences: float) -> tuple[Records, Parts]:
        workload = dataclasses.replace(records.workload, batch=sequences)
        placed = _floats(records._replace(workload=workload))
        return placed, _floats(take_apart(placed, convention))

    # B_max does not depend on the batch, so one program serves both questions.
    placed, parts = at(1.0 if batch is None else batch)
    largest = float(parts.step.capacity.max_batch)
    if batch is None and largest > 1:
        placed, parts = at(largest)
    lacks = tuple(shortcomings(placed, parts.step, batch, convention))
    return Case(placed, convention, parts, lacks)


def records_at(cells: Cells, cell: int, partition: Partition) -> Records:
    """The records of a design, stated or chosen, in a cell."""
    return records_on_host(take(cells.inputs, cell), partition)


def case_at(cells: Cells, cell: int, partition: Partition, batch: float | None) -> Case:
    """A design, stated or chosen, in a cell."""
    return case_of(records_at(cells, cell, partition), take(cells.inputs, cell).convention, batch)


def best_partition(cells: Cells) -> Partition | None:
    """The partition of the best design of the first cell; None where there is none."""
    best = best_of(cells)
    if best.feasible[0] == 0:
        return None
    return take(cells.designs.partition, int(best.position[0]))


def best_case(cells: Cells, cell: int, best: Best | None = None) -> Case | None:
    """The best design of a cell, taken apart; None without one. `best` saves the search."""
    if best is None:
        winner, at = best_of(cells, *take((cells.inputs, cells.economy), [cell])), 0
    else:
        winner, at = best, cell
    if winner.feasible[at] == 0:
        return None
    partition = take(cells.designs.partition, int(winner.position[at]))
    return case_at(cells, cell, partition, float(winner.batch[at]))


def alongside(
    case: Case, requests: tuple[float, float], cached: float, engine: str, device: str
) -> Companion:
    """Prefill alongside a design that runs, by its accounting and the rules of its engine.

    Args:
        case: the design.
        requests: input and output tokens of a request.
        cached: tokens of a prompt whose cache is there already.
        engine: whose rules fill the steps that prompts and answers share.
        device: name of the accelerator.
    """
    model, hardware, partition, *_ = records = case.records
    rules = filling_of(engine, scalar(hardware.hbm_bytes), device, sharing(model, partition))
    return companion(records, case.parts.step, case.rules, *requests, rules, cached=cached)


def sequences_of(case: Case) -> float:
    """Sequences in flight over all copies and their attention replicas."""
    step = case.parts.step
    return scalar(step.replicas) * scalar(case.records.partition.dp) * scalar(step.capacity.batch)


def memory_of(case: Case) -> dict[str, float]:
    """What fills the memory of a GPU, in the order in which it is read [B]."""
    held = case.parts.memory
    return {name: scalar(held[name]) for name in sorted(held, key=MEMORY_TERMS.index)}


def gpu_time(case: Case) -> dict[str, float]:
    """GPU-seconds of one output token by term [s]; their sum is 1 / (tokens/s/GPU)."""
    share = scalar(case.parts.step.gpus) / sequences_of(case)
    # TPOT is per accepted token, and so are the terms of its ledger.
    return {name: share * scalar(term) for name, term in case.parts.time.items()}


def design_record(case: Case) -> Row:
    """Degrees, copies, batch and rates of a design. Times in s."""
    step, design = case.parts.step, degrees_of(case.records.partition)
    return {
        **design,
        "replicas": int(step.replicas),
        "gpus": int(step.gpus),
        "batch": int(step.capacity.batch),
        "users": int(step.replicas) * design["dp"] * int(step.capacity.batch),
        "tpot": float(step.tpot),
        "tokens_per_s": float(step.tokens_per_s),
        "tokens_per_s_per_gpu": float(step.tokens_per_s_per_gpu),
        "tokens_per_s_per_user": float(step.tokens_per_s_per_user),
    }


def case_record(case: Case) -> Row:
    """A case as plain numbers: degrees, rates, and ledgers in the order in which they are read.

    Times are in s, memory in bytes, rates in tokens/s.
    """
    parts = case.parts
    return {
        **design_record(case),
        "max_batch": int(parts.step.capacity.max_batch),
        "is_feasible": case.is_feasible,
        "shortcomings": [dataclasses.asdict(item) for item in case.shortcomings],
        "memory_bytes": memory_of(case),
        "hbm_bytes": scalar(case.records.hardware.hbm_bytes),
        "terms": {name: float(parts.time[name]) for name in TIME_TERMS},
        "hidden": {f"comm_{name}": float(m.hidden) for name, m in parts.messages.items()},
        "roofline": {
            name: {**{key: float(x) for key, x in roof._asdict().items()}, "bound": roof.bound}
            for name, roof in parts.roofs.items()
        },
    }
