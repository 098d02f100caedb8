"""Models, accelerators and conventions side by side: who wins, by how much, where, and why.

A design's GPU time per token, N TPOT / (D B), is the reciprocal of its tokens/s/GPU and a sum of
terms, so the gap between two designs divides exactly into the gaps of their terms.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.grid.case import Case, best_case, by_resource, design_record, gpu_time, sequences_of
from qsjax.grid.cells import Cells, cells_of, of_variant, take
from qsjax.grid.optimum import best_of
from qsjax.grid.parameters import write
from qsjax.grid.problem import Problem, describe, question, variants_of
from qsjax.numerics.safe import scalar
from qsjax.output.labels import series_name
from qsjax.output.result import Drawing, Result, Row, inputs_of
from qsjax.records.specs import CONVENTIONS, Convention

# Relative width to which a turning point is found.
TURN_WIDTH = 0.02


class Subject(NamedTuple):
    """One side of a comparison: places in the problem's lists; `q` makes it that dense twin."""

    model: int = 0
    hardware: int = 0
    q: float | None = None


class Crossover(NamedTuple):
    """A context at which two subjects change places: `after` is ahead from there on."""

    context: float
    before: str
    after: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ranking:
    """The best design of every subject at every context, under one convention.

    Attributes:
        convention: name of the accounting.
        subjects: names, along the first axis.
        contexts: along the second axis [tokens].
        cases: best designs; None where nothing runs.
        crossovers: where the order of two neighbours at the top changes, in order of context.
    """

    convention: str
    subjects: tuple[str, ...]
    contexts: tuple[float, ...]
    cases: tuple[tuple[Case | None, ...], ...]
    crossovers: tuple[Crossover, ...] = ()

    def rate(self, subject: int, context: int) -> float:
        """Tokens/s/GPU of a cell; 0 where nothing runs."""
        case = self.cases[subject][context]
        return 0.0 if case is None else case.rate

    def winner(self, context: int) -> int | None:
        """The subject with the most tokens/s/GPU; None where nothing runs."""
        rates = [self.rate(i, context) for i in range(len(self.subjects))]
        return int(np.argmax(rates)) if max(rates) > 0 else None

    def rows(self) -> list[Row]:
        """One row for each subject at each context, with the factor over the first one and why."""
        running = [case for row in self.cases for case in row if case is not None]
        unit = table_5(running[0])["compute"] if running else None
        found: list[Row] = []
        for k, context in enumerate(self.contexts):
            best, first = self.winner(k), self.cases[0][k]
            for i, subject in enumerate(self.subjects):
                case = self.cases[i][k]
                row: Row = {
                    "convention": self.convention,
                    "context": int(context),
                    "subject": subject,
                    "is_feasible": case is not None,
                    "is_winner": i == best,
                }
                if case is not None:
                    row |= design_record(case)
                    row["gpu_time"] = by_resource(gpu_time(case))
                    row["table_5"] = {
                        n: t / unit if unit else None for n, t in table_5(case).items()
                    }
                if case is not None and first is not None:
                    row["factor"] = self.rate(i, k) / self.rate(0, k)
                    row |= {"attribution": attribution(first, case)} if i else {}
                found.append(row)
        return found


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Comparison(Result):
    """Subjects side by side under two accountings: a factor means nothing without its accounting.

    Attributes:
        problem: what was asked.
        subjects: by name.
        own: under its accounting.
        beside: under the other one.
    """

    problem: Problem
    subjects: Mapping[str, Subject]
    own: Ranking
    beside: Ranking

    stem = "compare"
    columns = (
        *("convention", "context", "subject", "tp", "ep", "pp", "dp", "kvp", "replicas", "batch"),
        *("tpot", "tokens_per_s_per_gpu", "factor", "is_winner"),
    )
    index = ("convention", "subject", "context")

    def rows(self) -> list[Row]:
        """One row for each subject at each context under each accounting."""
        return [*self.own.rows(), *self.beside.rows()]

    def leads(self) -> list[str]:
        """Who overtakes whom and where, or who leads, by accounting."""
        found = []
        for side in (self.own, self.beside):
            for turn in side.crossovers:
                about = f"at about {turn.context:,.0f} tokens"
                found.append(f"{side.convention}: {turn.after} overtakes {turn.before} {about}.")
            if not side.crossovers:
                leaders = [side.winner(k) for k in range(len(side.contexts))]
                named = [side.subjects[i] for i in leaders if i is not None]
                where = "at every context" + (" at which something runs" if None in leaders else "")
                says = f"{named[0]} leads {where}" if named else "nothing runs"
                found.append(f"{side.convention}: {says}.")
        return found

    def summary(self) -> str:
        """What was asked, and who leads where."""
        return "\n".join([describe(self.problem), *self.leads()])

    def turns(self) -> list[Row]:
        """Where the lead changes, under both accountings."""
        return [
            {"convention": side.convention, **turn._asdict()}
            for side in (self.own, self.beside)
            for turn in side.crossovers
        ]

    def record(self) -> Row:
        """Rows of both accountings, and where the lead changes."""
        return {"rows": self.own.rows(), "beside": self.beside.rows(), "turns": self.turns()}

    def inputs(self) -> Row:
        """The problem's records as plain numbers, and the subjects."""
        stated = self.problem.stated
        sides = [
            {
                "label": name,
                "model": stated.models[one.model].name,
                "hardware": stated.accelerators[one.hardware].name,
                "q": one.q,
            }
            for name, one in self.subjects.items()
        ]
        return inputs_of(self.problem) | {"subjects": sides}

    def drawings(self) -> dict[str, Drawing]:
        """Why each is as fast as it is, and throughput over context; both accountings."""
        from qsjax import plotting
        from qsjax.plotting.comparison import used_resources

        sides = self.own.rows(), self.beside.rows()
        named = used_resources(self.rows())
        contexts = {row["context"] for row in sides[0]}
        tall = 2.4 + 0.26 * (len(sides[0]) + len(contexts))

        def why(rows: list[Row], ax: Any, *, turns: list[Row], title: str) -> None:
            plotting.gpu_time(rows, ax, resources=named, title=title)

        found: dict[str, Drawing] = {"why": partial(self._panels, why, tall)}
        if len(contexts) > 1 and all(any(row["is_feasible"] for row in side) for side in sides):
            found["throughput"] = partial(self._panels, plotting.lead_over_context, 4.6)
        return found

    def _panels(self, draw: Any, tall: float, ax: Any = None) -> Any:
        """Both accountings beside each other; on `ax`, if it is given, the problem's own."""
        from qsjax import plotting

        sides = (self.own,) if ax is not None else (self.own, self.beside)
        axes = [ax] if ax is not None else plotting.figure(1, 2, size=(12.8, tall))[1][0]
        for panel, side in zip(axes, sides, strict=True):
            turns = [turn for turn in self.turns() if turn["convention"] == side.convention]
            draw(side.rows(), panel, turns=turns, title=f"{side.convention} accounting")
        return axes[0]


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
    step = case.parts.step
    share = scalar(case.records.partition.pp) * scalar(step.gpus) / sequences_of(case)
    share /= scalar(case.records.workload.tokens_per_step)
    return {
        "HBM": share * sum(scalar(t) for t in step.hbm.phases()),
        "compute": share * sum(scalar(t) for t in step.compute),
        "communication": share * sum(scalar(t) for t in step.exposed),
    }


def _named(problem: Problem, subjects: Mapping[str, Subject] | None) -> dict[str, Subject]:
    """The subjects by name: those given, or every model, accelerator and twin of the problem."""
    stated = problem.stated
    several = [
        f"{name} ({len(values)} values)"
        for name, values in {"gpus": stated.gpus, **stated.kept}.items()
        if len(values) > 1
    ]
    if several:
        raise ValueError(f"a comparison is over contexts, so give one value: {', '.join(several)}")
    found = dict(subjects or {})
    if subjects is None:
        for m, model in enumerate(stated.models):
            for h, device in enumerate(stated.accelerators):
                for variant in variants_of(model.spec, stated.twins, stated.rules):
                    row: Row = {name: values[0] for name, values in stated.kept.items()}
                    row |= {"model": model.name, "hardware": device.name}
                    row |= {"variant": variant.name, "q": variant.q}
                    found[series_name(problem, row)] = Subject(m, h, variant.q)
    if len(found) < 2:
        raise ValueError(
            f"a comparison needs at least two different subjects; given: {', '.join(found)}"
        )
    return found


def _cells(problem: Problem, subject: Subject, rules: Convention) -> Cells:
    cells = cells_of(problem, subject.model, subject.hardware, rules)
    return of_variant(cells, [variant.q for variant in cells.variants].index(subject.q))


def best_rates(cells: Cells, contexts: Sequence[float]) -> np.ndarray:
    """Tokens/s/GPU of a subject's best designs at other contexts; 0 where nothing runs."""
    rows = take(cells.inputs, np.zeros(len(contexts), int))
    score = best_of(cells, write(rows, {"context": np.asarray(contexts, float)})).score
    rates: np.ndarray = np.maximum(score, 0.0)
    return rates


def _turn(first: Cells, second: Cells, low: float, high: float) -> float:
    """Context between two at which the second subject gets ahead [tokens]."""
    while high / low > 1.0 + TURN_WIDTH:
        middle = float(np.round(np.sqrt(low * high)))
        if middle in (low, high):
            break
        rates = [best_rates(cells, [middle])[0] for cells in (first, second)]
        low, high = (low, middle) if rates[1] > rates[0] else (middle, high)
    return high


def _ranking(
    problem: Problem, subjects: Mapping[str, Subject], convention: str, rules: Convention
) -> Ranking:
    contexts = problem.stated.contexts
    sides = [_cells(problem, subject, rules) for subject in subjects.values()]
    cases = []
    for cells in sides:
        best = best_of(cells)
        cases.append(tuple(best_case(cells, k, best) for k in range(len(contexts))))
    plain = Ranking(convention, tuple(subjects), contexts, tuple(cases))
    crossovers = []
    for k in range(len(contexts) - 1):
        before, after = plain.winner(k), plain.winner(k + 1)
        if before is None or after is None or before == after:
            continue
        at = _turn(sides[before], sides[after], contexts[k], contexts[k + 1])
        crossovers.append(Crossover(at, plain.subjects[before], plain.subjects[after]))
    return dataclasses.replace(plain, crossovers=tuple(crossovers))


@question
def compare(problem: Problem, subjects: Mapping[str, Subject] | None = None) -> Comparison:
    """The best design of every subject at every context, and where the lead changes.

    Best is what makes the most tokens/s/GPU within the problem's limits, at its best batch unless
    the problem prescribes some. The other accounting stands beside the problem's own.

    Args:
        problem: its models, accelerators and twins are the subjects; at one GPU count.
        subjects: some of them, by the names that they shall have.

    Raises:
        ValueError: fewer than two subjects, or several values of something else.

    >>> from qsjax.grid.problem import Problem
    >>> found = compare(Problem("mixtral-8x7b", ["h100-sxm", "h200-sxm"], gpus=8, context="8k"))
    >>> found.leads()[0]
    'physical: h200-sxm leads at every context.'
    """
    stated = problem.stated
    arguments: dict[str, Any] = {
        "objective": "tokens_per_s_per_gpu",
        "context": sorted(stated.contexts),
    }
    arguments |= {"batch": "best"} if stated.batches is None else {}
    asked = dataclasses.replace(problem, **arguments)
    named = _named(asked, subjects)
    other = next(name for name in CONVENTIONS if name != stated.convention)
    return Comparison(
        asked,
        named,
        _ranking(asked, named, stated.convention, stated.rules),
        _ranking(asked, named, other, CONVENTIONS[other]),
    )
