"""What speculation gains at every batch, of a model and of its dense twins."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.speculation import ACCEPTANCE, METHODS, NO_HEAD, Method, accepted_tokens, speculated
from qsjax.grid.case import best_partition, records_at
from qsjax.grid.cells import Cells, label_of, take, variants_alone
from qsjax.grid.problem import Problem, check_single, describe, question
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.output.labels import split_name
from qsjax.output.result import Drawing, Result, Row, Table, plain
from qsjax.records import checks
from qsjax.records.fields import COUNT, POSITIVE, SHARE
from qsjax.records.rows import grouped
from qsjax.records.specs import DEGREES, Convention, Partition, Records
from qsjax.records.units import MS


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Speculation(Result):
    """Decode steps with and without speculation.

    Attributes:
        problem: what was asked.
        speculation: acceptance, drafts, method and parameters of the head, as they were given.
        found: one row for each model, accelerator, variant and batch.
    """

    problem: Problem
    speculation: Row
    found: tuple[Row, ...]

    stem = "speculate"
    index = ("model", "hardware", "variant", "batch")
    given = ("speculation",)

    def rows(self) -> list[Row]:
        """One row for each batch of each variant; times in s."""
        return [dict(row) for row in self.found]

    def summary(self) -> str:
        """The gain at the smallest and the largest batch, and where it ends."""
        lines = list[str]()
        chance = f"if {100 * self.speculation['acceptance']:g} % of the drafts are accepted"
        for rows in self._curves():
            first, last = rows[0], rows[-1]
            lost = next((row for row in rows if row["gain"] < 1.0), None)
            end = "it gains at every batch"
            if lost is not None:
                end = f"from a batch of {lost['batch']:,.0f} on it costs more than it gains"
            drafting = words.milliseconds(first["draft_time"])
            at = f"{first['gain']:.2f} times the tokens at a batch of {first['batch']:,.0f}"
            if len(rows) > 1:
                at += f", {last['gain']:.2f} at {last['batch']:,.0f}; {end}"
            lines.append(
                f"{self._where(first)}, {chance}: {at}. "
                f"Drafts take {drafting} of a step at a batch of {first['batch']:,.0f}."
            )
        if lines and self.speculation["method"] == "mtp":
            bare = [one.name for one in self.problem.stated.models if not one.mtp_layers]
            lines += [f"Note: {NO_HEAD.format(name)} (--method)." for name in bare]
        return "\n".join(lines) or f"{describe(self.problem)}: nothing runs."

    def tables(self) -> list[Table]:
        """Every batch of every design, times in ms."""
        heads = ["model", "hardware", "variant", "split", "batch", "TPOT ms", "with drafts"]
        heads += ["drafting ms", "tokens a step", "gain"]
        cells = [
            [
                *(str(row[name]) for name in ("model", "hardware", "variant")),
                split_name(row),
                f"{row['batch']:,.0f}",
                *(f"{row[n] / MS:,.2f}" for n in ("tpot", "tpot_speculated", "draft_time")),
                f"{row['tokens_per_step']:.2f}",
                f"{row['gain']:.2f}x",
            ]
            for row in self.found
        ]
        return [Table("", heads, cells, 4)]

    def _where(self, row: Row) -> str:
        """Who drafts where: model or twin, GPUs and context."""
        stated = self.problem.stated
        return words.cell(row | {"gpus": stated.gpus[0], "context": stated.contexts[0]})

    def _curves(self) -> list[list[Row]]:
        return list(grouped(self.found, lambda row: words.subject(row, counted=False)).values())

    def record(self) -> Row:
        """Rows, and what was asked."""
        return Result.record(self) | {"speculation": self.speculation}

    def drawings(self) -> dict[str, Drawing]:
        """Gain against batch."""
        from qsjax import plotting

        what = (" times the tokens at a batch of", " at")
        ends = [
            f"{row['gain']:.2f}{said} {row['batch']:,.0f}"
            for curve in self._curves()[:1]
            for said, row in zip(what, (*curve[:1], *curve[1:][-1:]), strict=False)
        ]
        how = f"{self.speculation['method']}, {words.count(self.speculation['drafts'], 'draft')}"
        where = self._where(self.found[0]) if self.found else describe(self.problem)
        title = ": ".join(filter(None, [f"{where}, {how}", words.joined(ends)]))
        rows = [row | {"curve": words.subject(row, counted=False)} for row in self.found]
        return {"speculation": partial(plotting.speculation_gain, rows, title=title)}


@on_host
def _steps(
    records: Records, acceptance: Any, drafts: Any, head_params: Any, *, convention: Convention,
    method: Method,
) -> tuple[StepCost, StepCost, Any]:  # fmt: skip
    design = speculated(records, convention, method, acceptance, drafts, head_params)
    plain_step = decode_step(records, convention)
    return plain_step, decode_step(design, convention), design.workload.draft_time


def _rows(
    cells: Cells, partition: Partition | None, batches: Sequence[float] | None, asked: Row
) -> list[Row]:
    partition = best_partition(cells) if partition is None else partition
    if partition is None:
        return []
    records, rules = records_at(cells, 0, partition), take(cells.inputs, 0).convention
    numbers = [asked[name] for name in ("acceptance", "drafts", "head_params")]

    def at(counts: Any) -> tuple[StepCost, StepCost, Any]:
        work = dataclasses.replace(
            records.workload, query_tokens=1.0, tokens_per_step=1.0, batch=counts
        )
        batched = records._replace(workload=work)
        return _steps(batched, *numbers, convention=rules, method=asked["method"])

    alone, fast, _ = at(np.ones(1))
    most = min(scalar(np.ravel(x.capacity.max_batch)[0]) for x in (alone, fast))
    if most < 1:
        return []
    counts = 2.0 ** np.arange(np.floor(np.log2(most)) + 1) if batches is None else np.array(batches)
    counts = counts[counts <= most]
    alone, fast, drafting = at(counts)
    part = {name: int(scalar(getattr(partition, name))) for name in DEGREES}
    kept = (np.asarray(alone.reasons) == 0) & (np.asarray(fast.reasons) == 0)
    columns = {
        "batch": counts,
        "tpot": alone.tpot,
        "tpot_speculated": fast.tpot,
        "draft_time": drafting,
        "tokens_per_s_per_gpu": fast.tokens_per_s_per_gpu,
        "gain": np.asarray(alone.tpot) / np.asarray(fast.tpot),
    }
    full = {name: np.broadcast_to(np.asarray(x), counts.shape) for name, x in columns.items()}
    label = label_of(cells) | {"variant": cells.variants[0].label, **part}
    label["tokens_per_step"] = asked["tokens_per_step"]
    runs = np.broadcast_to(kept, counts.shape)
    return [
        label | {name: float(x[i]) for name, x in full.items()}
        for i in range(len(counts))
        if runs[i]
    ]


def _check(acceptance: float, drafts: float, method: str, head_params: float | None) -> None:
    rules = {"acceptance": (SHARE, acceptance), "drafts": (COUNT, drafts)}
    if head_params is not None:
        rules["head_params"] = POSITIVE, head_params
    wrong = {name: checks.value_problem(*asked) for name, asked in rules.items()}
    lists = {
        name: f"{x} is a list; give one number" for name, (_, x) in rules.items() if np.ndim(x)
    }
    problems = [f"  {name}: {problem}" for name, problem in (wrong | lists).items() if problem]
    if method not in METHODS:
        problems.append(f"  method: {method!r} is not known; give one of {', '.join(METHODS)}")
    if head_params is not None and method != "eagle":
        problems.append(f"  head_params: {method} has no head of its own; give the method eagle")
    if problems:
        raise ValueError("\n".join(["speculate:", *problems]))


@question
def speculate(
    problem: Problem,
    partition: Partition | None = None,
    *,
    acceptance: float = ACCEPTANCE,
    drafts: int = 1,
    method: Method = "mtp",
    head_params: float | None = None,
    batches: Sequence[float] | None = None,
) -> Speculation:
    """Decode with and without speculation at every batch, for each model and dense twin.

    A step verifies the drafts of every sequence and yields (1 - a^(k+1)) / (1 - a) tokens. Drafting
    takes passes of one layer of the model's own kind (`mtp`) or of a dense head (`eagle`), by the
    laws of the step; `ngram` takes none.

    Args:
        problem: one GPU count and context; models, accelerators and twins each get an answer.
        partition: the design of all; if None, each has its best one without speculation.
        acceptance: chance that a draft is accepted if those before it are.
        drafts: tokens drafted in each step.
        method: `mtp`, `eagle` or `ngram`.
        head_params: parameters of the Eagle head without embedding and output head; those of a
            Llama layer of the model's width if None.
        batches: sequences of an attention replica; those of the problem, or powers of two up to
            the largest, if None.

    Raises:
        ValueError: with everything that is out of range.

    >>> found = speculate(Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k"), acceptance=0.5)
    >>> found.rows()[0]["tokens_per_step"]
    1.5
    """
    _check(acceptance, drafts, method, head_params)
    partition = checks.one_partition(partition)
    check_single(problem, "gains are for one number of GPUs and one context", "gpus", "context")
    asked: Row = {
        "acceptance": float(acceptance),
        "drafts": float(drafts),
        "method": method,
        "head_params": head_params,
        "tokens_per_step": float(np.asarray(_accepted(float(acceptance), float(drafts)))),
    }
    batches = problem.stated.batches if batches is None else batches
    if batches is not None:
        batches = list(checks.check_positive("batches", batches, "sequences"))
    alone = variants_alone(problem)
    rows = [row for cells in alone for row in _rows(cells, partition, batches, asked)]
    return Speculation(problem, plain(asked), tuple(rows))


_accepted = on_host(accepted_tokens)
