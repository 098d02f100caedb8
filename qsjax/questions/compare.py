"""Models, accelerators and conventions side by side: who wins, by how much, where, and why.

A design's GPU time per token, N TPOT / (D B), is the reciprocal of its tokens/s/GPU and a sum of
terms, so the gap between two designs divides exactly into the gaps of their terms.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qsjax.cost.ledger import RESOURCES
from qsjax.cost.metrics import economy_of
from qsjax.grid.axes import twin_of
from qsjax.grid.batches import score_candidates
from qsjax.grid.limits import Limits
from qsjax.grid.screening import candidates
from qsjax.numerics.safe import scalar
from qsjax.questions.explain import Case, best_case, partition_axes
from qsjax.records.scenario import Records
from qsjax.records.specs import (
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
    named_convention,
)

# Relative width to which a turning point is found.
TURN_WIDTH = 0.02


class Subject(NamedTuple):
    """One side of a comparison; `q` makes it the dense twin of its model."""

    label: str
    model: ModelSpec
    hardware: HardwareSpec
    workload: Workload
    q: float | None = None


class Crossover(NamedTuple):
    """A context at which two subjects change places: `after` is ahead from there on."""

    context: float
    before: str
    after: str


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """The best design of every subject at every context, under one convention.

    Attributes:
        convention: name of the accounting.
        gpus: GPUs of every design.
        subjects: along the first axis.
        contexts: along the second axis [tokens].
        cases: best designs; None where nothing runs.
        crossovers: where the order of two neighbours at the top changes, in order of context.
    """

    convention: str
    gpus: int
    subjects: tuple[Subject, ...]
    contexts: tuple[float, ...]
    cases: tuple[tuple[Case | None, ...], ...]
    crossovers: tuple[Crossover, ...]

    def rate(self, subject: int, context: int) -> float:
        """Tokens/s/GPU of a cell; 0 where nothing runs."""
        case = self.cases[subject][context]
        return 0.0 if case is None else scalar(case.parts.step.tokens_per_s_per_gpu)

    def winner(self, context: int) -> int | None:
        """The subject with the most tokens/s/GPU; None where nothing runs."""
        rates = [self.rate(i, context) for i in range(len(self.subjects))]
        return int(np.argmax(rates)) if max(rates) > 0 else None


def gpu_time(case: Case) -> dict[str, float]:
    """GPU-seconds of one output token by term [s]; their sum is 1 / (tokens/s/GPU)."""
    step, part = case.parts.step, case.records.partition
    share = scalar(step.gpus) / (
        scalar(step.replicas) * scalar(part.dp) * scalar(step.capacity.batch)
    )
    # TPOT is per accepted token, and so are the terms of its ledger.
    return {name: share * scalar(term) for name, term in case.parts.time.items()}


def by_resource(terms: dict[str, float]) -> dict[str, float]:
    """Terms of a time ledger summed by resource."""
    return {name: sum(terms[term] for term in members) for name, members in RESOURCES.items()}


def attribution(first: Case, second: Case) -> dict[str, float]:
    """Share of each resource in the gap of GPU time between two designs [1].

    The shares sum to 1; a negative one is a resource in which the slower design is ahead. All are 0
    if there is no gap.
    """
    a, b = by_resource(gpu_time(first)), by_resource(gpu_time(second))
    gap = sum(b.values()) - sum(a.values())
    return {name: (b[name] - a[name]) / gap if gap else 0.0 for name in a}


def table_5(case: Case) -> dict[str, float]:
    """HBM, compute and exposed communication of an output token [GPU-s], as the paper's table 5.

    Both sides of the roofline count in full, so the three overlap and do not sum to the time. For
    designs of one split, as in the paper, ratios are those of its times per token.
    """
    step, part = case.parts.step, case.records.partition
    tokens = scalar(step.replicas) * scalar(part.dp) * scalar(step.capacity.batch)
    share = scalar(part.pp) * scalar(step.gpus) / tokens
    share /= scalar(case.records.workload.tokens_per_step)
    return {
        "HBM": share * sum(scalar(t) for t in step.hbm.phases()),
        "compute": share * sum(scalar(t) for t in step.compute),
        "communication": share * sum(scalar(t) for t in step.exposed),
    }


def _spec(subject: Subject, convention: Convention) -> ModelSpec:
    if subject.q is None:
        return subject.model
    return twin_of(subject.model, subject.q, definition=convention.twin)


def best_design(subject: Subject, gpus: int, context: float, convention: Convention) -> Case | None:
    """The design of a subject with the most tokens/s/GPU, over all splits and batches."""
    model = _spec(subject, convention)
    records = Records(model, subject.hardware, Partition(), subject.workload)
    found = candidates(records, partition_axes(gpus, context), (0, 0), convention)
    return best_case(found, Limits(), economy_of(subject.hardware), convention)


def best_rate(subject: Subject, gpus: int, context: float, convention: Convention) -> float:
    """Tokens/s/GPU of `best_design`; 0 if nothing runs."""
    model = _spec(subject, convention)
    records = Records(model, subject.hardware, Partition(), subject.workload)
    found = candidates(records, partition_axes(gpus, context), (0, 0), convention)
    scores = score_candidates(found, Limits(), economy_of(subject.hardware), convention)
    return max(0.0, float(np.max(scores.score, initial=0.0)))


def _turn(
    pair: tuple[Subject, Subject], gpus: int, low: float, high: float, rules: Convention
) -> float:
    """Context between two at which the second of the pair gets ahead [tokens]."""
    while high / low > 1.0 + TURN_WIDTH:
        middle = float(np.round(np.sqrt(low * high)))
        if middle in (low, high):
            break
        first, second = (best_rate(subject, gpus, middle, rules) for subject in pair)
        low, high = (low, middle) if second > first else (middle, high)
    return high


def compare(
    subjects: Sequence[Subject],
    gpus: int,
    contexts: Sequence[float],
    convention: str = "physical",
) -> Comparison:
    """The best design of every subject at every context, and where the lead changes.

    Args:
        subjects: at least two.
        gpus: GPUs of every design.
        contexts: context lengths [tokens], in rising order.
        convention: name of the accounting.

    Raises:
        ValueError: fewer than two subjects, two of the same name, or an unknown convention.
    """
    labels = [subject.label for subject in subjects]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(
            f"a comparison needs at least two different subjects; given: {', '.join(labels)}"
        )
    rules = named_convention(convention)
    cases = tuple(
        tuple(best_design(subject, gpus, context, rules) for context in contexts)
        for subject in subjects
    )
    plain = Comparison(convention, gpus, tuple(subjects), tuple(contexts), cases, ())
    crossovers = []
    for k in range(len(contexts) - 1):
        before, after = plain.winner(k), plain.winner(k + 1)
        if before is None or after is None or before == after:
            continue
        pair = subjects[before], subjects[after]
        at = _turn(pair, gpus, contexts[k], contexts[k + 1], rules)
        crossovers.append(Crossover(at, pair[0].label, pair[1].label))
    return dataclasses.replace(plain, crossovers=tuple(crossovers))
