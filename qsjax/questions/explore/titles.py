"""Titles and findings of the figures of the best designs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qsjax.grid.problem import Problem
from qsjax.output import words
from qsjax.output.labels import axis_value
from qsjax.output.result import Row

if TYPE_CHECKING:
    pass

from qsjax.questions.explore import sentences


def swept(problem: Problem) -> str:
    """The field over which a problem of one context and one GPU count is drawn; none if empty."""
    stated = problem.stated
    several = [name for name, values in stated.kept.items() if len(values) > 1]
    is_one = len(stated.gpus) == len(stated.contexts) == 1
    return several[0] if several and is_one else ""


def along(rows: Sequence[Row], field: str) -> str:
    """Who is fastest at the least value of a field and at the largest, and how fast."""
    running = [row for row in rows if row["is_feasible"]]
    several = len({row["label"] for row in running}) > 1
    ends: list[str] = []
    for value in dict.fromkeys(f(row[field] for row in running) for f in (min, max)):
        there = [row for row in running if row[field] == value]
        best = max(there, key=lambda row: row["tokens_per_s_per_gpu"])
        who = f" ({best['label']})" if several else ""
        rate = f"{words.number(best['tokens_per_s_per_gpu'])}{'' if ends else ' tokens/s/GPU'}"
        at = axis_value(field, value)
        ends.append(f"{rate} with {at if ends else f'{field} = {at}'}{who}")
    first = running[0]
    where = f"{first['gpus']:,.0f} {first['hardware']} at {words.length(first['context'])}"
    model = "" if several else f"{first['model']} on "
    return f"{model or 'On '}{where}: {words.joined(ends)}"


def line(row: Row) -> str:
    """The name of the line that a row is drawn on."""
    from qsjax.plotting.style import variant_label

    return str(row.get("label") or variant_label(row))


def who(row: Row, *, of_several: bool) -> str:
    """Title of a picture: the model or its twin, and where it runs."""
    from qsjax.plotting.style import variant_label

    parts = [variant_label(row)] if of_several else []
    if "label" in row:  # several are drawn: which one it is
        parts = [part for part in row["label"].split(", ") if part not in row.values()]
    return ", ".join([f"{row['model']} on {row['gpus']:,.0f} {row['hardware']}", *parts])


def subject(problem: Problem) -> str:
    """Models and accelerators of a problem, and the GPUs if there is one count."""
    stated = problem.stated
    models, devices = (
        words.joined(item.name for item in items) for items in (stated.models, stated.accelerators)
    )
    return f"{models} on {f'{stated.gpus[0]:,.0f} ' if len(stated.gpus) == 1 else ''}{devices}"


def _place(row: Row, rows: Sequence[Row]) -> str:
    """The place of a row on the horizontal axis of its picture: GPU count or context."""
    contexts, counts = ({one[name] for one in rows} for name in ("context", "gpus"))
    if len(contexts) == 1 < len(counts):
        return f"on {words.count(row['gpus'], 'GPU')}"
    return f"at {words.length(row['context'])}"


def _ends(rows: Sequence[Row]) -> list[Row]:
    """The first and the last of rows along the horizontal axis; the largest count of GPUs."""
    if len({row["context"] for row in rows}) > 1:
        most = max(row["gpus"] for row in rows)
        rows = [row for row in rows if row["gpus"] == most]
    ordered = sorted(rows, key=lambda row: (row["context"], row["gpus"]))
    return [ordered[0], ordered[-1]]


def course(rows: Sequence[Row], read: Callable[[Row], str]) -> str:
    """What cells show at the shortest context and at the longest, once where both are alike."""
    first, last = _ends(rows)
    if read(first) == read(last):
        return read(first)
    return f"{read(first)} {_place(first, rows)}, {read(last)} {_place(last, rows)}"


def rates(problem: Problem, rows: Sequence[Row]) -> str:
    """The finding of the curves of throughput: how fast the only one is, or which one leads."""
    running = [row for row in rows if row["is_feasible"]]
    if len({line(row) for row in running}) == 1:
        ends = [
            f"{words.number(row['tokens_per_s_per_gpu'])} tokens/s/GPU {_place(row, running)}"
            for row in _ends(running)
        ]
        return f"{subject(problem)}: {words.joined(dict.fromkeys(ends))}"
    places: dict[tuple[float, float], Row] = {}
    for row in running:
        at = row["context"], row["gpus"]
        best = places.get(at, row)
        places[at] = max(best, row, key=lambda one: one["tokens_per_s_per_gpu"])
    where = words.heading(problem) if has_several(problem) else subject(problem)
    where = f"{where}: " if where else ""
    first, last = _ends(list(places.values()))
    if line(first) == line(last):
        return f"{where}{line(first)} is fastest"
    ends = [f"{line(row)} {_place(row, running)}" for row in (first, last)]
    return f"{where}fastest is {words.joined(ends)}"


def finding(twins: Sequence[Row], title: str) -> str:
    """What the ratio of a dense twin says, in a line."""
    q = sentences.usual_twin(twins)["q"]
    same = [row for row in twins if row["q"] == q]
    ends = [f"{row['speedup_over_moe']:.2f}x {_place(row, same)}" for row in _ends(same)]
    if len(same) == 1:
        return f"{title}: the dense twin (q = {q:g}) has {ends[0]} of the MoE's throughput"
    rates = f"{ends[0]} and {ends[1]}"
    return f"{title}: the dense twin (q = {q:g}) makes {rates} of the MoE's tokens/s/GPU"


def has_several(problem: Problem) -> bool:
    """Whether lines and bars have to name their model, accelerator or kept field."""
    stated = problem.stated
    return len(stated.models) > 1 or len(stated.accelerators) > 1 or bool(stated.kept)
