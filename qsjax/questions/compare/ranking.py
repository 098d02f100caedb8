"""Who wins where, by how much and how surely, under one accounting.

A design's GPU time per token, N TPOT / (D B), is the reciprocal of its tokens/s/GPU and a sum of
terms, so the gap between two designs divides exactly into the gaps of their terms.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from qsjax.cost.ledger import resource_times
from qsjax.engines.spread import LEVEL
from qsjax.grid.case import Case, best_case, design_record, gpu_time, sequences_of
from qsjax.grid.cells import Cells, cells_of, of_variant, take
from qsjax.grid.infeasibility import refusals
from qsjax.grid.intervals import Lead, NamedCase, Names, bounds_of_case, lead_of, names_of
from qsjax.grid.needs import least_gpus
from qsjax.grid.optimum import Best, best_of, least_hbm_bytes
from qsjax.grid.parameters import write
from qsjax.grid.problem import Problem, check_single
from qsjax.grid.served import variants_of
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.output.labels import series_name
from qsjax.output.result import Row
from qsjax.records.conversion import kind_of
from qsjax.records.specs import Convention, is_papers

# Relative width to which a turning point is found.
TURN_WIDTH = 0.02
# A measurement that removes less of the variance than this share is not named.
WORTH = 0.05


class Subject(NamedTuple):
    """One side of a comparison: indices of its model and accelerator, and q of a dense twin."""

    model: int = 0
    hardware: int = 0
    q: float | None = None


class Place(NamedTuple):
    """Where subjects are compared: a context [tokens], and the batch if several were stated."""

    context: float
    batch: float | None = None

    @property
    def words(self) -> str:
        """`at 8k`, or `at batch 16 and 8k`."""
        at = words.length(self.context)
        return f"at {at}" if self.batch is None else f"at batch {self.batch:,.0f} and {at}"


class Crossover(NamedTuple):
    """A context at which two subjects change places: `after` is ahead from there on."""

    context: float
    before: str
    after: str


class Decision(NamedTuple):
    """How sure the winner of a context is, and what would make it surer.

    Attributes:
        context: where [tokens].
        batch: if several were stated.
        winner: the subject with the most tokens/s/GPU.
        rival: the subject most likely to beat it.
        factor: predicted tokens/s/GPU of the winner over the rival's.
        chance: probability that the winner beats the rival.
        margin: factor from which the difference would be larger than the error.
        is_sure: whether it is.
        measure: subject of which one measurement would remove most of the variance of the factor.
        removes: how much of it that would be [1].
    """

    context: float
    batch: float | None
    winner: str
    rival: str
    factor: float
    chance: float
    margin: float
    is_sure: bool
    measure: str
    removes: float

    @property
    def claim(self) -> str:
        """Who beats whom, and how probably."""
        sure = f"with a probability of {words.chance(self.chance)}"
        return f"{self.winner} beats {self.rival} {sure}"

    def __str__(self) -> str:
        """In words, with what would decide it where it is not sure."""
        at = Place(self.context, self.batch).words
        line = f"{at[0].upper()}{at[1:]} {self.claim}"
        if self.is_sure:
            return f"{line}."
        return (
            f"{line}: a lead of {self.factor:.2f} times is within the error, one of "
            f"{self.margin:.2f} times would not be.{self._measured()}"
        )

    def _measured(self) -> str:
        """Which measurement would decide most; nothing where none would help."""
        if self.removes < WORTH:
            return ""
        return (
            f" A measurement of {self.measure} would decide most: it removes "
            f"{100 * self.removes:.0f} % of the variance."
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Ranking:
    """The best design of every subject at every place, under one convention.

    Attributes:
        convention: name of the accounting.
        subjects: names, along the first axis.
        places: contexts [tokens] and stated batches, along the second axis.
        cases: best designs; None where nothing runs.
        crossovers: where the order of two neighbours at the top changes, in order of context.
        names: of every subject, names of its accelerator and of its model.
        level: probability with which measured values lie in the intervals.
        is_real: whether the accounting is not the paper's, which no machine keeps.
        refusals: why nothing runs where it does not, a sentence each.
    """

    convention: str
    subjects: tuple[str, ...]
    places: tuple[Place, ...]
    cases: tuple[tuple[Case | None, ...], ...]
    crossovers: tuple[Crossover, ...] = ()
    names: tuple[Names, ...] = ()
    level: float = LEVEL
    is_real: bool = True
    refusals: tuple[str, ...] = ()

    def named_case(self, subject: int, place: int) -> NamedCase | None:
        """A cell's design under the names of its subject; None where nothing runs."""
        case = self.cases[subject][place]
        return None if case is None else NamedCase(case, self.names[subject])

    def lead(self, first: int, second: int, place: int) -> Lead | None:
        """How sure one subject is to be ahead of another; None where one of them does not run."""
        a, b = self.named_case(first, place), self.named_case(second, place)
        return None if a is None or b is None else lead_of(a, b)

    def decision(self, place: int) -> Decision | None:
        """The winner against the subject most likely to beat it; None with nobody beside it."""
        best = self.winner(place)
        if best is None:
            return None
        leads = {
            k: lead
            for k in range(len(self.subjects))
            if k != best and (lead := self.lead(best, k, place)) is not None
        }
        if not leads:
            return None
        rival = min(leads, key=lambda k: leads[k].chance)
        lead, names = leads[rival], (self.subjects[best], self.subjects[rival])
        measure = int(lead.gains[1] > lead.gains[0])
        return Decision(
            *(*self.places[place], *names),
            factor=self.rate(best, place) / self.rate(rival, place),
            chance=lead.chance,
            margin=lead.margin,
            is_sure=lead.is_sure,
            measure=names[measure],
            removes=lead.gains[measure],
        )

    def decisions(self) -> list[Decision]:
        """The decision at every place where two subjects run."""
        decisions = map(self.decision, range(len(self.places)))
        return [decision for decision in decisions if decision is not None]

    def rate(self, subject: int, place: int) -> float:
        """Tokens/s/GPU of a cell; 0 where nothing runs."""
        case = self.cases[subject][place]
        return 0.0 if case is None else case.rate

    def winner(self, place: int) -> int | None:
        """The subject with the most tokens/s/GPU; None where nothing runs."""
        rates = [self.rate(i, place) for i in range(len(self.subjects))]
        return int(np.argmax(rates)) if max(rates) > 0 else None

    def row(self, subject: int, place: int) -> Row:
        """A subject at a place, with the factor over the first subject and why."""
        first, case = self.cases[0][place], self.cases[subject][place]
        context, batch = self.places[place]
        row: Row = {
            "convention": self.convention,
            "context": int(context),
            "subject": self.subjects[subject],
            "is_feasible": case is not None,
            "is_winner": subject == self.winner(place),
        }
        side = self.named_case(subject, place)
        if case is not None and side is not None:
            row |= design_record(case) | bounds_of_case(side, self.level)
            row["is_moe"] = case.records.model.is_moe
            row["gpu_time"] = resource_times(gpu_time(case))
            unit = self.unit
            row["table_5"] = {n: t / unit if unit else None for n, t in table_5(case).items()}
        if case is not None and first is not None:
            row["factor"] = self.rate(subject, place) / self.rate(0, place)
            lead = self.lead(subject, 0, place) if subject else None
            if lead is not None:
                row |= {"attribution": attribution(first, case)}
                row |= {"chance": lead.chance, "is_sure": lead.is_sure, "margin": lead.margin}
        return row | ({} if batch is None else {"batch": int(batch)})

    def short_names(self) -> dict[str, str]:
        """Names of the subjects, all but the first shortened to what sets them apart."""
        first, *rest = self.subjects
        device, model, _ = self.names[0]
        short = {first: first}
        for name in rest:
            # Whole names alone: a100-sxm is no part of a100-sxm-40g, nor deepseek-v3 of ...-v3.2.
            ending = re.sub(rf"^{re.escape(model)}(?=[:@,]|$)", "", name)
            ending = re.sub(rf"@{re.escape(device)}(\.toml)?(?=[:,]|$)", "", ending, count=1)
            short[name] = ending.lstrip(":@, ") or name
            if re.fullmatch(r"q=[\d.]+", short[name]):
                short[name] = f"the dense twin ({short[name]})"
        clash = len(set(short.values())) < len(short)
        return dict(zip(short, short, strict=True)) if clash else short

    @property
    def unit(self) -> float | None:
        """Compute of the first design that runs, by which table 5 is divided [GPU-s]."""
        running = (case for row in self.cases for case in row if case is not None)
        return next((table_5(case)["compute"] for case in running), None)


def attribution(first: Case, second: Case) -> dict[str, float]:
    """Share of each resource in the gap of GPU time between two designs [1].

    The shares sum to 1; a negative one is a resource in which the slower design is ahead. All are 0
    if there is no gap.
    """
    a, b = resource_times(gpu_time(first)), resource_times(gpu_time(second))
    gap = sum(b.values()) - sum(a.values())
    return {name: (b[name] - a[name]) / gap if gap else 0.0 for name in a}


def table_5(case: Case) -> dict[str, float]:
    """HBM, compute and exposed communication of an output token [GPU-s], as the paper's table 5.

    Both sides of the roofline count in full, so the three overlap and do not sum to the time. For
    designs of one split, as in the paper, ratios are those of its times per token.
    """
    step = case.parts.step
    share = scalar(case.records.partition.pp) * scalar(step.gpus) / sequences_of(case)
    share /= scalar(case.records.workload.tokens_per_step)
    return {
        "HBM": share * sum(scalar(t) for t in step.hbm.phases()),
        "compute": share * sum(scalar(t) for t in step.compute),
        "communication": share * sum(scalar(t) for t in step.exposed),
    }


def subjects_of(problem: Problem, subjects: Mapping[str, Subject] | None) -> dict[str, Subject]:
    """The subjects by name: those given, or every model, accelerator and twin of the problem.

    Raises:
        ValueError: they are no subjects of the problem, or fewer than two.
    """
    check_single(problem, "a comparison is over contexts", "gpus")
    if not isinstance(subjects, Mapping | None):
        raise ValueError(f'subjects: {kind_of(subjects)} was given; give {{"A": qsjax.Subject()}}')
    named = _every_subject(problem) if subjects is None else dict(subjects)
    if strange := [name for name, one in named.items() if not isinstance(one, Subject)]:
        raise ValueError(f"subjects: {words.joined(strange)}: no Subject; give qsjax.Subject(0, 0)")
    _check_subjects(problem, named)
    return named


def _every_subject(problem: Problem) -> dict[str, Subject]:
    """Each model on each accelerator, with its twins."""
    stated, named = problem.stated, {}
    is_pair = len(stated.models) > 1 and len(stated.accelerators) > 1
    kept: Row = {name: values[0] for name, values in stated.kept.items()}
    for (m, model), (h, device) in product(
        enumerate(stated.models), enumerate(stated.accelerators)
    ):
        for variant in variants_of(model.spec, stated.twins):
            row = kept | {"model": model.name, "hardware": device.name}
            name = series_name(problem, row | {"variant": variant.name, "q": variant.q})
            # As the command names a pair.
            named[name.replace(", ", "@", 1) if is_pair else name] = Subject(m, h, variant.q)
    return named


def _check_subjects(problem: Problem, named: Mapping[str, Subject]) -> None:
    """Refuse subjects that the problem does not have, two of a kind, and one alone."""
    stated = problem.stated
    sizes = {"model": len(stated.models), "hardware": len(stated.accelerators)}
    names: dict[Subject, str] = {}
    for name, one in named.items():
        wrong = [what for what, size in sizes.items() if getattr(one, what) not in range(size)]
        wrong += ["q"] if one.q not in (None, *stated.twins) else []
        if wrong:
            raise ValueError(
                f"subjects: {name!r} is {one}, and the problem has no such {words.joined(wrong)}; "
                "models and accelerators count from 0, and q is one of its twins"
            )
        if (first := names.setdefault(one, name)) != name:
            both = f"{stated.models[one.model].name} on {stated.accelerators[one.hardware].name}"
            raise ValueError(f"{first!r} and {name!r} are both {both}; give one of them")
    if len(named) < 2:
        raise ValueError(
            "a comparison needs at least two different subjects; given: "
            f"{stated.models[0].name} on {stated.accelerators[0].name}; give several models or "
            "accelerators, or twins of a mixture"
        )


def _turn(first: Cells, second: Cells, low: float, high: float) -> float:
    """Context between two at which the second subject gets ahead [tokens]."""
    while high / low > 1.0 + TURN_WIDTH:
        middle = float(np.round(np.sqrt(low * high)))
        if middle in (low, high):
            break
        here = {"context": np.full(1, middle)}
        before, after = (
            best_of(cells, write(take(cells.inputs, [0]), here)).score[0]
            for cells in (first, second)
        )
        low, high = (low, middle) if after > before else (middle, high)
    return high


def _refusal(problem: Problem, cells: Cells, best: Best, cell: int) -> str:
    """Why a cell has no design, and what would help."""
    if words.kept(problem) and cells.designs.batch is None:
        return refusals(cells, cell)[0].text
    hbm = float(least_hbm_bytes(cells.inputs, best)[cell])
    gpus = least_gpus(cells, np.arange(cells.cells) == cell)[cell]
    return words.would_fit(hbm, gpus, now=problem.stated.gpus[0]) or "no split is legal"


def _cells_of(problem: Problem, subject: Subject, rules: Convention) -> Cells:
    """Designs of one subject over the contexts."""
    cells = cells_of(problem, subject.model, subject.hardware, rules)
    return of_variant(cells, [variant.q for variant in cells.variants].index(subject.q))


def ranking_of(
    problem: Problem,
    subjects: Mapping[str, Subject],
    convention: str,
    rules: Convention,
    level: float,
) -> Ranking:
    """The best designs of all subjects under one accounting, and where the lead changes."""
    contexts, batches = problem.stated.contexts, problem.stated.batches or ()
    is_batched = len(batches) > 1
    each = [dataclasses.replace(problem, batch=[x]) for x in batches] if is_batched else [problem]
    places = [Place(at, x) for x in (batches if is_batched else (None,)) for at in contexts]
    cases: dict[str, list[Case | None]] = {name: [] for name in subjects}
    refused: list[str] = []
    for one in each:
        sides = [_cells_of(one, subject, rules) for subject in subjects.values()]
        for (name, column), cells in zip(cases.items(), sides, strict=True):
            best = best_of(cells)
            for k in range(len(contexts)):
                where = places[len(column)].words
                column.append(best_case(cells, k, best))
                if column[-1] is None:
                    why = _refusal(problem, cells, best, k)
                    refused.append(f"{name} has no design {where}: {why}.")
    ranking = Ranking(
        *(convention, tuple(subjects), tuple(places), tuple(map(tuple, cases.values()))),
        names=tuple(
            names_of(one.hardware.name, one.model.name, one.variants[0].q, one.hardware.engine)
            for one in sides
        ),
        level=level,
        is_real=not is_papers(rules),
        refusals=tuple(refused),
    )
    turns = () if is_batched else tuple(_crossovers(ranking, sides))
    return dataclasses.replace(ranking, crossovers=turns)


def _crossovers(ranking: Ranking, sides: Sequence[Cells]) -> Iterator[Crossover]:
    """Where the lead changes between neighbouring contexts."""
    for k, (one, next_one) in enumerate(pairwise(ranking.places)):
        before, after = ranking.winner(k), ranking.winner(k + 1)
        if before is not None and after is not None and before != after:
            at = _turn(sides[before], sides[after], one.context, next_one.context)
            yield Crossover(at, ranking.subjects[before], ranking.subjects[after])
