"""What is said of the best designs: who leads, by how much, and what would help where none runs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.cost.feasibility import MEMORY_REASONS, REASONS
from qsjax.cost.metrics import METRICS
from qsjax.grid.intervals import is_sure
from qsjax.grid.problem import Problem
from qsjax.output import words
from qsjax.output.labels import with_fields
from qsjax.output.result import Row
from qsjax.records.rows import grouped

if TYPE_CHECKING:
    pass

RATE = "tokens_per_s_per_gpu"
IS = ("is", "has")
IsSure = Callable[[Row, Row], bool]


def usual(rows: Sequence[Row], objective: str = RATE) -> Row:
    """The row shown first: the best at the context nearest to 32k."""
    near = words.nearest(row["context"] for row in rows)
    at = [row for row in rows if row["context"] == near]
    models = [row for row in at if row["q"] is None] or at
    return max(models, key=partial(_worth, objective))


def _worth(objective: str, row: Row) -> float:
    """What more of is better."""
    is_less = METRICS[objective].less_is_better  # type: ignore[index]  # checked
    return -row[objective] if is_less else float(row[objective])


def answer(problem: Problem, rows: Sequence[Row], sure: IsSure | None = None) -> str:
    """The best design of these rows, what its dense twins would gain, and what does not run.

    `sure` says of two rows whether their difference is larger than the error.
    """
    running = [row for row in rows if row["is_feasible"]]
    if not running:
        lines = list(dict.fromkeys(missing(problem, row) for row in rows))
        rest = len(lines) - 1
        also = "The other cell has" if rest == 1 else f"The {rest} other cells have"
        more = f" {also} none either."
        head = (
            words.nothing(problem) if any(_fits(problem, row) for row in rows) else "Nothing runs"
        )
        return f"{head}.\n{lines[0]}{more if rest else ''}"
    shown = usual(running, problem.objective)
    lead = _lead(problem, shown)
    if len(set(map(_system, running))) > 1:
        lead += "\n" + _ranking(running, shown, problem.objective, sure)
    alike = [row for row in compared(running) if _system(row) == _system(shown)]
    sentences = [lead, _twins(alike, shown, problem, sure)]
    none = [row for row in rows if not row["is_feasible"]]
    if none:
        have = "has" if len(none) == 1 else "have"
        sentences.append(
            f"{len(none)} of {len(rows)} cells {have} no design. {missing(problem, none[0])}"
        )
    return "\n".join(filter(None, sentences))


def _system(row: Row) -> tuple[str, str, float]:
    """Model, accelerator and GPU count of a row."""
    return row["model"], row["hardware"], row["gpus"]


def compared(rows: Sequence[Row]) -> list[Row]:
    """Rows that run where the MoE runs too."""
    return [row for row in rows if np.isfinite(row.get("speedup_over_moe", np.nan))]


def _lead(problem: Problem, row: Row) -> str:
    """The design of a cell in a sentence."""
    objective = problem.objective
    best = "fastest"
    if objective != "tokens_per_s_per_gpu":
        amount = "" if objective == "tpot" else f" ({words.number(row[objective])})"
        best = f"best in {words.metric_name(objective)}{amount}"
    device = "of the paper's accelerators" if row["hardware"] == "paper-reference" else ""
    device = (
        f"{row['gpus']:,.0f} {device or row['hardware']}{with_fields(row, problem.stated.kept)}"
    )
    partition = words.split(row, row["variant"] == "moe")
    twin = "" if row["q"] is None else f"the dense twin (q = {row['q']:g}) of "
    return (
        f"On {device}, {twin}{row['model']} is {best} with {partition}: "
        f"{words.number(row['tokens_per_s_per_gpu'])} tokens/s on each GPU at "
        f"{words.length(row['context'])}, {words.batch_of(row)}, {words.time_of(row)}."
    )


def _ranking(rows: Sequence[Row], best: Row, objective: str, sure: IsSure | None) -> str:
    """The best of each other model, accelerator and GPU count at the same context."""
    others = [
        row
        for row in rows
        if row["context"] == best["context"] and row["q"] is None and row is not best
    ]
    named = []
    for row in sorted(others, key=partial(_worth, objective), reverse=True)[:2]:
        name = row["model"] if row["model"] != best["model"] else "it"
        if row["gpus"] != best["gpus"]:
            name = f"on {row['gpus']:,.0f} {row['hardware']} {name}"
        elif row["hardware"] != best["hardware"]:
            name = f"on {row['hardware']} {name}"
        named.append(f"{name} {_difference(row, best, objective, sure)}")
    return f"At that context {words.joined(named)}." if named else ""


def _difference(
    row: Row, best: Row, objective: str, sure: IsSure | None, verbs: Sequence[str] = IS
) -> str:
    """How a row stands against the best one, and whether that is sure.

    `is 3 % slower (within the error)`, `has 5 % more joules per token`.

    >>> _difference({"gpus": 4.0}, {"gpus": 2.0}, "gpus", None)
    'has 2.0 times as many GPUs'
    """
    be, have = verbs
    ratio = row[objective] / best[objective] if best[objective] else 1.0
    unsure = "" if sure is None or sure(row, best) else " (within the error)"
    if objective == RATE:
        gap = f"{be} {words.gap(ratio)}"
        return gap if gap.endswith("equally fast") else gap + unsure
    gap, name = words.gap(ratio, "more", "less"), words.metric_name(objective)
    if name == "GPUs":
        gap = gap.replace("much", "many").replace("less", "fewer")
    return f"{have} the same {name}" if gap == "equal" else f"{have} {gap} {name}{unsure}"


def usual_twin(twins: Sequence[Row]) -> Row:
    """The one whose q is nearest that of the paper's tables."""
    return min(twins, key=lambda row: abs(row["q"] - 5.0))


def _twins(rows: Sequence[Row], best: Row, problem: Problem, sure: IsSure | None) -> str:
    """What dense models of equal quality would gain, there and over all contexts."""
    twins = [row for row in rows if row["variant"] != "moe"]
    if not twins:
        return ""
    if problem.objective != RATE:
        there = [row for row in twins if row["context"] == best["context"]]
        alike = [row for row in there if all(row[k] == best[k] for k in problem.stated.kept)]
        if not alike or best["q"] is not None:
            return ""
        row = usual_twin(alike)
        gap = _difference(row, best, problem.objective, sure, ("be", "have"))
        at = words.length(best["context"])
        return f"A dense model of equal quality (q = {row['q']:g}) would {gap} at {at}."
    there = [row for row in twins if row["context"] == best["context"]] or twins[:1]
    row = usual_twin(there)
    same = [one for one in twins if one["q"] == row["q"]]
    ends = [min(same, key=lambda r: r["context"]), max(same, key=lambda r: r["context"])]
    others = [one for one in ends if one["context"] != row["context"]]
    gaps = ", ".join(map(_gap, [row, *others]))
    return f"A dense model of equal quality (q = {row['q']:g}) would be {gaps}."


def _gap(twin: Row) -> str:
    """How a twin stands against the MoE, and whether that is sure."""
    unsure = "" if is_sure(twin.get("chance_over_moe", 1.0)) else " (within the error)"
    return f"{words.gap(twin['speedup_over_moe'])} at {words.length(twin['context'])}{unsure}"


def also_missing(problem: Problem, rows: Sequence[Row], said: str) -> list[str]:
    """Why cells have no design, unless it is `said`; those that differ in context share a line."""
    axes = ("model", "variant", "q", "hardware", "gpus", *problem.stated.kept)

    def kind(row: Row) -> tuple[Any, ...]:
        return _would_help(problem, row).partition(" ")[0], *(row[name] for name in axes)

    alike = grouped((row for row in rows if not row["is_feasible"]), kind)
    lines = (missing(problem, *cells) for cells in alike.values())
    return [line for line in lines if line not in said]


def missing(problem: Problem, *rows: Row) -> str:
    """Why cells that differ only in context have no design, and what the last would need."""
    row = rows[-1]
    where = row["model"]
    if row["variant"] == "dense" and row["q"] is not None:
        where = f"the dense twin of {row['model']} at q={row['q']:g}"
    gpus = words.count(row["gpus"], f"{row['hardware']} GPU")
    gpus += with_fields(row, problem.stated.kept)
    why = _would_help(problem, row)
    contexts = list(dict.fromkeys(words.length(one["context"]) for one in rows))
    at = f"at {contexts[-1]} " if len(contexts) > 1 else ""
    return f"No design for {where} at {words.joined(contexts)} on {gpus}: {at}{why}."


def _fits(problem: Problem, row: Row) -> bool:
    """Whether limits alone are in the way of a cell."""
    held = {device.name: device.spec.hbm_bytes for device in problem.stated.accelerators}
    memory = row.get("hbm_bytes", held[row["hardware"]])
    return bool(words.kept(problem)) and row["least_hbm_bytes"] <= memory


def _would_help(problem: Problem, row: Row) -> str:
    if _fits(problem, row):
        given = words.kept(problem)
        full = ' with the largest batch that it holds; batch="best" tries smaller ones'
        at = full if problem.batch == "largest" else ""
        return f"some fit, but none keeps {given}{at}"
    if np.isfinite(row["least_hbm_bytes"]):
        smaller = "a smaller batch" if "batch does not fit" in row["reasons"] else ""
        needs = row["least_hbm_bytes"], row["least_gpus"]
        return words.would_fit(*needs, smaller, now=row["gpus"])
    why = ", ".join(n for n in row["reasons"] if not REASONS.get(n, 0) & MEMORY_REASONS)
    least = words.count(row["least_gpus"], "GPU") if np.isfinite(row["least_gpus"]) else ""
    free = (
        f"; with a free choice of the split it would fit on {least} of this kind" if least else ""
    )
    return f"no split of these axes is legal ({why}){free}"
