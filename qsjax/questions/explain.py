"""One stated deployment: does it run, where do memory and time go, and what would be better."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.disaggregation import Companion, companion
from qsjax.cost.metrics import Economy, costs, elasticities
from qsjax.grid.case import Case, best_case, case_at, case_record
from qsjax.grid.cells import Cells, cells_of, of_variant
from qsjax.grid.diagnosis import remarks
from qsjax.grid.limits import Limits
from qsjax.grid.needs import least_gpus
from qsjax.grid.optimum import any_batch
from qsjax.grid.problem import Problem, describe, question
from qsjax.grid.solution import solve
from qsjax.numerics.safe import scalar
from qsjax.output.result import Drawing, Result, Row, inputs_of, plain
from qsjax.records import checks
from qsjax.records.specs import CONVENTIONS, Convention, Partition

# To the laws a dense model is a mixture of one expert; to people it has an FFN.
_DENSE_NAMES = {"weights: routed experts": "weights: FFN", "hbm_routed": "hbm_ffn"}


class Needs(NamedTuple):
    """What a cell would need to run; NaN or infinite where no value is enough.

    Attributes:
        hbm_bytes: HBM of each GPU from which another split of as many GPUs fits [B].
        gpus: smallest power of two of these GPUs that holds it.
    """

    hbm_bytes: float
    gpus: float


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """A stated design under one convention, and better ones of as many GPUs.

    Attributes:
        convention: name of the accounting.
        stated: the design itself.
        best: the best one within the problem's limits, at any batch; None if nothing runs.
        best_as_fast: the same among those whose TPOT is not longer than the stated one's; None if
            the stated design does not run.
        needs: with what something would run; None if the stated design runs.
    """

    convention: str
    stated: Case
    best: Case | None
    best_as_fast: Case | None
    needs: Needs | None

    def cases(self) -> dict[str, Case]:
        """The designs that there are, by name."""
        names = ("stated", "best", "best_as_fast")
        return {name: case for name in names if (case := getattr(self, name)) is not None}


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Explanation(Result):
    """A stated design under two accountings.

    Attributes:
        problem: what was asked.
        own: under the problem's accounting.
        beside: under the other one.
        economy: price and power.
        prefill: what prompts cost beside it; None unless requests were given and it runs.
        notes: what is legal about it, but dear, and what else is to be said.
        more: further facts of the designs, by their name, such as flags of engines.
    """

    problem: Problem
    own: Side
    beside: Side
    economy: Economy
    prefill: Companion | None
    notes: tuple[str, ...]
    more: Mapping[str, Row] = dataclasses.field(default_factory=dict)

    stem = "explain"
    columns = (
        *("convention", "design", "is_feasible", "tp", "ep", "pp", "dp", "kvp", "replicas"),
        *("batch", "tpot", "tokens_per_s_per_user", "tokens_per_s_per_gpu"),
    )

    @property
    def stated(self) -> Case:
        """The design under the problem's accounting."""
        return self.own.stated

    @property
    def is_moe(self) -> bool:
        """Whether what is served has experts."""
        return scalar(self.stated.records.model.experts) > 1

    def rows(self) -> list[Row]:
        """One row for each design under each accounting."""
        names = ("roofline", "shortcomings", "memory_bytes", "hidden")
        return [
            {"convention": side.convention, "design": name}
            | {key: x for key, x in case_record(case).items() if key not in names}
            for side in (self.own, self.beside)
            for name, case in side.cases().items()
        ]

    def summary(self) -> str:
        """Whether it runs, and what it lacks."""
        verdict = "runs" if self.stated.is_feasible else "does not run"
        lines = [f"{describe(self.problem)}: the design {verdict}"]
        lines += [f"  {item.text}" for item in self.stated.shortcomings]
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])

    def record(self) -> Row:
        """Both sides, prices, prefill and notes; what there is none of is None."""
        stated = self.problem.stated
        found: Row = {
            "model": stated.models[0].name,
            "hardware": stated.accelerators[0].name,
            "is_moe": self.is_moe,
            "context": stated.contexts[0],
            **_side_record(self.own),
            "beside": _side_record(self.beside),
            "prefill": None if self.prefill is None else dataclasses.asdict(self.prefill),
            "notes": list(self.notes),
            "cost_elasticities": elasticities(self.stated.rate, self.economy),
        }
        for name, case in self.own.cases().items():
            found[name] |= {"costs": costs(case.rate, self.economy), **self.more.get(name, {})}
        return found

    def inputs(self) -> Row:
        """The problem's records, and the design, as plain numbers."""
        partition, batch = self.stated.records.partition, self.stated.records.workload.batch
        return inputs_of(self.problem) | {"partition": plain(partition), "batch_stated": batch}

    def drawings(self) -> dict[str, Drawing]:
        """Phases under the roofline, and what fills the memory."""
        from qsjax import plotting

        title, chip = describe(self.problem), self.stated.records.hardware
        cases = {n: case_record(c) for n, c in self.own.cases().items() if n != "best_as_fast"}
        points = [
            {"variant": "moe" if self.is_moe else "dense", "q": None, "phase": name, **roof}
            for name, roof in cases["stated"]["roofline"].items()
        ]
        peaks = {name: scalar(getattr(chip, f"flops_{name}")) for name in ("bf16", "fp8")}
        roofs = {"hbm_bw": scalar(chip.hbm_bw), "peaks": peaks}
        found: dict[str, Drawing] = {
            "roofline": partial(plotting.roofline, points, roofs, title=title)
        }
        ledgers = [
            {
                "label": name,
                "terms": for_people(case["memory_bytes"], self.is_moe),
                "capacity": case["hbm_bytes"],
            }
            for name, case in cases.items()
        ]
        if all(min(ledger["terms"].values()) >= 0 for ledger in ledgers):
            found["memory"] = partial(plotting.memory_ledger, ledgers, title=title)
        return found


def for_people(terms: Mapping[str, float], is_moe: bool) -> dict[str, float]:
    """Terms of a ledger under the names that people expect of this kind of model."""
    return {_DENSE_NAMES.get(n, n) if not is_moe else n: x for n, x in terms.items()}


def _side_record(side: Side) -> Row:
    found: Row = {"convention": side.convention, "best": None, "best_as_fast": None}
    for name, case in side.cases().items():
        found[name] = case_record(case)
        if name != "stated" and side.stated.is_feasible:
            found[name]["gain"] = case.rate / side.stated.rate
    return found | {"needs": None if side.needs is None else side.needs._asdict()}


def _one_cell(problem: Problem, rules: Convention | None = None) -> Cells:
    """The only cell of a problem, or that of its only twin.

    Raises:
        ValueError: the problem has several.
    """
    stated = problem.stated
    lengths = {
        "model": len(stated.models),
        "hardware": len(stated.accelerators),
        "gpus": len(stated.gpus),
        "context": len(stated.contexts),
        "twins": len(stated.twins),
        "batch": len(stated.batches or ()),
        **{name: len(values) for name, values in stated.kept.items()},
    }
    several = [f"{name} ({count} values)" for name, count in lengths.items() if count > 1]
    if several:
        raise ValueError(f"one design is explained, so give one value for: {', '.join(several)}")
    cells = cells_of(problem, rules=rules)
    return of_variant(cells, len(cells.variants) - 1)


def _side(
    problem: Problem, partition: Partition | None, convention: str, rules: Convention
) -> Side:
    cells = _one_cell(problem, rules)
    free = _one_cell(any_batch(problem)[0], rules)
    if partition is None:
        stated = best_case(cells, 0)
        if stated is None:
            raise ValueError(
                f"{describe(problem)}: no design runs within the limits, so none can be explained; "
                "give a partition, or ask pareto what is in the way"
            )
    else:
        asked = problem.stated.batches
        stated = case_at(cells, 0, partition, None if asked is None else asked[0])
    if not stated.is_feasible:
        whole = dataclasses.replace(cells, limits=Limits())
        hbm = float(solve(whole).least_hbm_bytes[0])
        needs = Needs(hbm, float(least_gpus(cells, np.ones(1, bool))[0]))
        return Side(convention, stated, best_case(free, 0), None, needs)
    # A hair more than its own TPOT, so that rounding does not exclude the design itself.
    own = scalar(stated.parts.step.tpot) * (1.0 + 1e-9)
    limits = problem.limits
    fast = dataclasses.replace(limits, max_tpot=min(own, scalar(limits.max_tpot)))
    as_fast = best_case(dataclasses.replace(free, limits=fast), 0)
    return Side(convention, stated, best_case(free, 0), as_fast, None)


@question
def explain(
    problem: Problem,
    partition: Partition | None = None,
    *,
    requests: tuple[float, float] | None = None,
) -> Explanation:
    """Take one design apart, and look for better ones with as many GPUs, under both accountings.

    An illegal or too large design is no error: the explanation says what it lacks.

    Args:
        problem: one cell: a single model, accelerator, GPU count and context. With one of `twins`,
            that dense twin is explained. Its batch is that of the design (the largest that fits
            unless given); better ones have any.
        partition: the design; the best one of the problem if None. What its degrees leave of the
            GPUs, copies fill.
        requests: input and output tokens of a request, for prefill beside decode.

    Raises:
        ValueError: the problem has several cells, a number is out of its range, or no partition is
            given and nothing runs.

    >>> from qsjax.grid.problem import Problem
    >>> found = explain(Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k"), Partition(tp=4))
    >>> found.stated.is_feasible, int(found.stated.parts.step.replicas)
    (True, 2)
    """
    stated = problem.stated
    if partition is not None:
        (partition,) = checks.check_records(partition=partition, single=True)
    other = next(name for name in CONVENTIONS if name != stated.convention)
    own = _side(problem, partition, stated.convention, stated.rules)
    if partition is None:
        partition = own.stated.records.partition
        batch = scalar(own.stated.parts.step.capacity.batch)
        problem = dataclasses.replace(any_batch(problem)[0], batch=[batch])
    beside = _side(problem, partition, other, CONVENTIONS[other])
    economy = _scalars(_one_cell(problem).economy)
    case = own.stated
    prefill = None
    if requests is not None and case.is_feasible:
        prefill = companion(case.records, scalar(case.parts.step.tpot), case.rate, *requests)
    notes = tuple(remarks(case.records, case.rules, case.parts.roofs["attention"]))
    return Explanation(problem, own, beside, economy, prefill, notes)


def _scalars(economy: Economy) -> Economy:
    fields: dict[str, Any] = {
        f.name: float(np.asarray(getattr(economy, f.name))[0]) for f in dataclasses.fields(economy)
    }
    return Economy(**fields)
