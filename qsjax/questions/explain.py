"""One stated deployment: does it run, where do memory and time go, and what would be better."""

import dataclasses
from typing import Any

import jax
import numpy as np

from qsjax.cost.ledger import RESOURCES
from qsjax.cost.metrics import Economy, Objective, economy_of
from qsjax.cost.roofline import Parts, take_apart
from qsjax.grid.axes import Axes, make_axes, twin_of
from qsjax.grid.batches import score_candidates
from qsjax.grid.limits import Limits
from qsjax.grid.problem import axis_values
from qsjax.grid.screening import Candidates, as_float64, candidates
from qsjax.questions.diagnosis import Shortcoming, shortcomings
from qsjax.questions.serving import Relaxation, relax, winner
from qsjax.records import checks
from qsjax.records.scenario import Records
from qsjax.records.specs import (
    CONVENTIONS,
    DEGREES,
    KV_MODES,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
    named_convention,
)
from qsjax.records.units import MS


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A design under one convention, taken apart; all leaves are floats.

    Attributes:
        records: the design with its batch.
        parts: its cost; of an infeasible design that at a batch of at least 1.
        shortcomings: what it lacks; empty if it runs.
    """

    records: Records
    parts: Parts
    shortcomings: tuple[Shortcoming, ...] = ()

    @property
    def is_feasible(self) -> bool:
        """Whether the design runs."""
        return not self.shortcomings


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """A stated design under one convention, and better ones of as many GPUs.

    Attributes:
        convention: name of the accounting.
        stated: the design itself.
        best: the one with the most tokens/s/GPU, at any batch; None if nothing runs.
        best_as_fast: the same among those whose TPOT is not longer than the stated one's; None if
            the stated design does not run.
        needs: memory and GPUs with which something runs; None if the stated design runs.
    """

    convention: str
    stated: Case
    best: Case | None
    best_as_fast: Case | None
    needs: Relaxation | None


def _floats(tree: Any) -> Any:
    return jax.tree.map(lambda x: float(np.asarray(x)), tree)


def case_of(records: Records, convention: Convention, batch: float | None) -> Case:
    """One design of scalars taken apart, at a batch or at the largest that fits."""

    def at(sequences: float) -> tuple[Records, Parts]:
        workload = dataclasses.replace(records.workload, batch=sequences)
        placed = as_float64(records._replace(workload=workload))
        return placed, _floats(take_apart(placed, convention))

    # B_max does not depend on the batch, so one program serves both questions.
    placed, parts = at(1.0 if batch is None else batch)
    largest = float(parts.step.capacity.max_batch)
    if batch is None and largest > 1:
        placed, parts = at(largest)
    return Case(placed, parts, tuple(shortcomings(placed, parts.step, batch, convention)))


def best_case(
    found: Candidates,
    limits: Limits,
    economy: Economy,
    convention: Convention,
    objective: Objective = "tokens_per_s_per_gpu",
) -> Case | None:
    """The best candidate within limits, taken apart."""
    scores = score_candidates(found, limits, economy, convention, objective)
    row = winner(scores)
    if row is None:
        return None
    at = jax.tree.map(lambda x: x[row, 0] if x.ndim else x, found.records)
    return case_of(at, convention, float(scores.batch[row]))


def partition_axes(gpus: float, context: float) -> Axes:
    """Every partition of that many GPUs, searched."""
    return make_axes(axis_values([int(gpus)], [context], {}))


def explain(
    model: ModelSpec,
    hardware: HardwareSpec,
    partition: Partition,
    workload: Workload,
    convention: str = "physical",
    q: float | None = None,
) -> Explanation:
    """Take one stated design apart, and look for a better one with as many GPUs.

    Args:
        model: shapes.
        hardware: accelerator.
        partition: its degrees.
        workload: context, dtypes, and the batch of each attention replica (None: the largest).
        convention: name of the accounting.
        q: if given, the model is the dense twin of `model` at this quality factor.

    Raises:
        ValueError: an unknown convention, or every number out of its range. An illegal or too large
            design is no error: the explanation says what it lacks.
    """
    rules = named_convention(convention)
    model, hardware, partition, workload = checks.check_records(
        model=model, hardware=hardware, partition=partition, workload=workload, single=True
    )
    # Of no further use, and each of its dtypes would be traced anew.
    model = dataclasses.replace(model, precision=None)
    if q is not None:
        checks.check_axes({"q": q})
        model = twin_of(model, q, definition=rules.twin)
    batch = None if workload.batch is None else float(np.asarray(workload.batch))
    records = Records(model, hardware, partition, workload)
    stated = case_of(records, rules, batch)
    axes = partition_axes(float(stated.parts.step.gpus), float(np.asarray(workload.context)))
    found = candidates(records, axes, (0, 0), rules)
    economy = economy_of(hardware)
    best = best_case(found, Limits(), economy, rules)
    as_fast = None
    if stated.is_feasible:
        # A hair more than its own TPOT, so that rounding does not exclude the design itself.
        limit = Limits(max_tpot=stated.parts.step.tpot * (1.0 + 1e-9))
        as_fast = best_case(found, limit, economy, rules)
    return Explanation(
        convention=convention,
        stated=stated,
        best=best,
        best_as_fast=as_fast,
        needs=None if stated.is_feasible else relax(records, axes, rules),
    )


def explain_both(
    model: ModelSpec,
    hardware: HardwareSpec,
    partition: Partition,
    workload: Workload,
    convention: str = "physical",
    q: float | None = None,
) -> tuple[Explanation, Explanation]:
    """The explanation under `convention`, and under the other one beside it.

    Arguments and errors are those of `explain`.
    """
    other = next(name for name in CONVENTIONS if name != convention)
    return (
        explain(model, hardware, partition, workload, convention, q),
        explain(model, hardware, partition, workload, other, q),
    )


# Order in which the terms of the memory ledger are read.
MEMORY_TERMS = (
    "weights: attention",
    "weights: routed experts",
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


def case_record(case: Case) -> dict[str, Any]:
    """A case as plain numbers: degrees, rates, and ledgers in the order in which they are read.

    Times are in ms, memory in bytes, rates in tokens/s.
    """
    step, parts = case.parts.step, case.parts
    modes = {code: name for name, code in KV_MODES.items()}
    design = {name: int(np.asarray(getattr(case.records.partition, name))) for name in DEGREES}
    hidden = {f"comm_{name}": float(m.hidden) / MS for name, m in parts.messages.items()}
    return {
        **design,
        "kv_mode": modes[float(np.asarray(case.records.partition.kv_mode))],
        "gpus": int(step.gpus),
        "replicas": int(step.replicas),
        "batch": int(step.capacity.batch),
        "max_batch": int(step.capacity.max_batch),
        "is_feasible": case.is_feasible,
        "shortcomings": [dataclasses.asdict(item) for item in case.shortcomings],
        "tpot_ms": float(step.tpot) / MS,
        "tokens_per_s": float(step.tokens_per_s),
        "tokens_per_s_per_gpu": float(step.tokens_per_s_per_gpu),
        "tokens_per_s_per_user": float(step.tokens_per_s_per_user),
        "memory_bytes": {name: float(parts.memory[name]) for name in MEMORY_TERMS},
        "hbm_bytes": float(np.asarray(case.records.hardware.hbm_bytes)),
        "time_ms": {name: float(parts.time[name]) / MS for name in TIME_TERMS},
        "hidden_ms": hidden,
        "roofline": {
            name: {**{key: float(x) for key, x in roof._asdict().items()}, "bound": roof.bound}
            for name, roof in parts.roofs.items()
        },
    }


def explanation_record(explanation: Explanation) -> dict[str, Any]:
    """An explanation as plain numbers (see `case_record`); what there is none of is None."""
    stated, needs = explanation.stated, explanation.needs
    rate = float(stated.parts.step.tokens_per_s_per_gpu)
    record: dict[str, Any] = {
        "convention": explanation.convention,
        "stated": case_record(stated),
        "needs": None
        if needs is None
        else {"hbm_bytes": float(needs.hbm_bytes.flat[0]), "gpus": float(needs.gpus.flat[0])},
    }
    for name in ("best", "best_as_fast"):
        case: Case | None = getattr(explanation, name)
        record[name] = None if case is None else case_record(case)
        if case is not None and stated.is_feasible:
            record[name]["gain"] = float(case.parts.step.tokens_per_s_per_gpu) / rate
    return record
