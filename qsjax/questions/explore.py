"""The main question: the best design of every cell, under one convention or both."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.cost.feasibility import MEMORY_REASONS, REASONS
from qsjax.cost.laws.memory import usable_bytes
from qsjax.cost.metrics import METRICS, OF_TIME
from qsjax.engines.spread import LEVEL, check_level
from qsjax.grid.case import best_case
from qsjax.grid.cells import Cells
from qsjax.grid.intervals import NamedCase, bounds_of, is_sure, lead_of, names_in
from qsjax.grid.needs import least_gpus
from qsjax.grid.problem import Problem, question
from qsjax.grid.remarks import kernels_used
from qsjax.grid.solution import Arrays, Solution, dataset_of, joined, rows_of, solve_all
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output import columns, words
from qsjax.output.labels import axis_value, series_name, split_name, variant_name, with_fields
from qsjax.output.result import Drawing, Result, Row, Table
from qsjax.records.rows import grouped
from qsjax.records.specs import is_papers
from qsjax.records.units import GIB, tokens

if TYPE_CHECKING:
    import xarray as xr

RATE = "tokens_per_s_per_gpu"
IS = ("is", "has")
IsSure = Callable[[Row, Row], bool]
NUMBERS = ("batch", "users", "tpot", "between", "gpu")  # of a design in the table


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Exploration(Result):
    """The best design of every cell of a problem.

    Attributes:
        problem: what was asked.
        solutions: one for each model and accelerator.
        beside: the same cells under the second accounting; none unless it was asked for.
        least_gpus: by solution, the fewest GPUs (a power of two) that hold each cell that does not
            fit; NaN where it fits or none do.
        level: probability with which measured values lie in the intervals.
    """

    problem: Problem
    solutions: tuple[Solution, ...]
    beside: tuple[Solution, ...]
    least_gpus: tuple[np.ndarray, ...]
    level: float = LEVEL

    stem = "best"

    def rows(self) -> list[Row]:
        """One row for each cell: the winner, or why there is none and what it would need."""
        rows: list[Row] = []
        for solution, beside, least in self._blocks():
            gain, bounds = self._gains(solution, beside), bounds_of(solution, self.level)
            for cell, row in enumerate(rows_of(solution)):
                if row["is_feasible"]:
                    row |= {name: float(x[cell]) for name, x in gain.items()}
                    known = {name: x[cell].item() for name, x in bounds.items()}
                    row |= {name: x for name, x in known.items() if x == x}  # the MoE leads nobody
                else:
                    row["least_gpus"] = float(least[cell])
                rows.append(row)
        return rows

    def _blocks(self) -> list[tuple[Solution, Solution | None, np.ndarray]]:
        beside = self.beside or [None] * len(self.solutions)
        return list(zip(self.solutions, beside, self.least_gpus, strict=True))

    def _gains(self, solution: Solution, beside: Solution | None) -> Arrays:
        """Tokens/s/GPU over the first variant's, under each accounting; NaN where infeasible."""
        if len(solution.cells.variants) < 2:
            return {}
        gains = {"speedup_over_moe": _gain(solution)}
        if beside is not None:
            gains[f"speedup_over_moe_{self.problem.stated.second}"] = _gain(beside)
        return gains

    def _bounds(self, solution: Solution) -> Arrays:
        bounds = bounds_of(solution, self.level)
        return {name: x for name, x in bounds.items() if np.issubdtype(x.dtype, np.floating)}

    @property
    def cells(self) -> int:
        """Designs decided: legal or not, of every cell."""
        return sum(solution.cells.cells * solution.cells.enumerated for solution in self.solutions)

    @property
    def feasible(self) -> int:
        """Designs that run and keep the limits."""
        return sum(int(solution.best.feasible.sum()) for solution in self.solutions)

    def counts(self) -> Row:
        """Designs decided, feasible, and with each reason."""
        total = sum(solution.reasons.sum(axis=1) for solution in self.solutions)
        return {
            "convention": self.problem.stated.convention,
            "cells_evaluated": self.cells,
            "cells_feasible": self.feasible,
            "infeasible_reasons": dict(zip(REASONS, np.asarray(total).tolist(), strict=True)),
        }

    def summary(self) -> str:
        """The fastest design, what its dense twins would gain, and what does not run."""
        rows = self.rows()
        places = [
            (solution, cell) for solution in self.solutions for cell in range(solution.cells.cells)
        ]
        of_row = {id(row): place for row, place in zip(rows, places, strict=True)}

        def side(row: Row) -> NamedCase:
            solution, cell = of_row[id(row)]
            case = best_case(solution.cells, cell, solution.best)
            assert case is not None  # it runs
            return NamedCase(case, names_in(row, self.problem.engine))

        def sure(row: Row, best: Row) -> bool:
            ratio = row[objective] / best[objective]
            return lead_of(side(row), side(best), ratio=ratio).is_sure

        objective = self.problem.objective
        has_error = objective in OF_TIME and not is_papers(self.problem.stated.rules)
        return answer(self.problem, rows, sure if has_error else None)

    def tables(self) -> list[Table]:
        """The winners of every model and accelerator, by GPU count and context."""
        rows, tables = self.rows(), []
        stated = self.problem.stated
        for served in stated.models:
            for device in stated.accelerators:
                of_pair = [
                    r for r in rows if (r["model"], r["hardware"]) == (served.name, device.name)
                ]
                usable = scalar(on_host(usable_bytes)(served.spec, device.spec))
                title = (
                    f"{served.name} on {device.name} ({usable / GIB:.0f} GiB usable), "
                    f"{stated.convention} convention"
                )
                tables.append(_table(self.problem, of_pair, title))
        return tables

    def cautions(self) -> list[str]:
        """What to know before the answer, and which axes change nothing."""
        axes = {name: len(values) for name, values in self.problem.stated.kept.items()}
        rows = self.rows() if max(axes.values(), default=1) > 1 else []
        idle = []
        for name, values in axes.items():
            # Cells that differ in this axis alone are as many as it has values, or all different.
            distinct = {repr({**row, name: None}) for row in rows}
            if len(distinct) * values == len(rows) > len(distinct):
                idle.append(f"Note: {name} changes nothing here: every value has the same answer.")
        return [*Result.cautions(self), *idle]

    def remarks(self) -> list[str]:
        """How many designs there are, and what cells without one would need."""
        reasons = {k: v for k, v in self.counts()["infeasible_reasons"].items() if v}
        listed = "; ".join(f"{name} {count:,}" for name, count in reasons.items())
        return [
            f"{self.cells:,} designs decided, {self.feasible:,} feasible.",
            *words.open_limits(self.problem, [row for row in self.rows() if row["is_feasible"]]),
            *(f"Note: {note}." for note in kernels_used(self.problem)),
            *words.rests_on(self.rows(), self.level),
            f"Infeasible, by reason (a design may have several): {listed or 'none'}.",
            *also_missing(self.problem, self.rows(), self.summary()),
        ]

    def record(self) -> Row:
        """Counts and rows."""
        return {**self.counts(), "best": self.rows()}

    @property
    def dataset(self) -> "xr.Dataset":
        """The winners over (model, hardware, variant, gpus, context, ...), with units.

        `term_*` sum to `tpot`; measured values lie between `*_low` and `*_high` with a probability
        of `level`. Infeasible cells are NaN; `infeasible_reasons` counts the designs of each cell
        by reason.
        """
        blocks = [
            dataset_of(solution, self._gains(solution, beside) | self._bounds(solution))
            for solution, beside, _ in self._blocks()
        ]
        attributes = {"objective": self.problem.objective, "level": self.level}
        return joined(self.problem, blocks, attributes)

    def drawings(self) -> dict[str, Drawing]:
        """Throughput over context, the map of the winners, and where their time goes."""
        from qsjax import plotting

        rows, over = self.rows(), _swept(self.problem)
        if _has_several(self.problem):  # else the figures name variants, and ring their crossings
            rows = [row | {"label": series_name(self.problem, row)} for row in rows]
        if not any(row["is_feasible"] for row in rows):
            return {}
        counts = list(dict.fromkeys(row["gpus"] for row in rows))
        several = any(row["q"] is not None for row in rows)
        twins = [row for row in _compared(rows) if row["q"] is not None]
        title = _rates(self.problem, rows)
        if twins and not _has_several(self.problem):
            says = finding(twins, _subject(self.problem))
            drawn: dict[str, Drawing] = {
                "throughput": partial(_throughput, rows, twins, title, says)
            }
            drawn["ratio"] = partial(plotting.ratio_vs_context, twins, title=says)
        else:
            drawn = {"throughput": partial(plotting.throughput_vs_context, rows, title=title)}
        if over:
            named = [row | {"label": series_name(self.problem, row, over)} for row in rows]
            drawn["throughput"] = partial(
                plotting.throughput_vs_context, named, over=over, title=_along(named, over)
            )
        for count in counts:
            part = [row for row in rows if row["gpus"] == count]
            running = [row for row in part if row["is_feasible"]]
            if running:
                end = f"-{count}-gpus" if len(counts) > 1 else ""
                line = [row for row in running if _line(row) == _line(running[0])]
                head = _who(line[0], of_several=several)
                drawn[f"partition{end}"] = partial(
                    plotting.best_partition_map,
                    part,
                    title=f"{head}: best is {_course(line, split_name)}",
                )
                most = _course(line, lambda row: words.largest(row)[0])
                drawn[f"time{end}"] = partial(
                    plotting.time_breakdown,
                    part,
                    share=True,
                    title=f"{head}: the largest part of the time is {most}",
                )
        return drawn


def _swept(problem: Problem) -> str:
    """The field over which a problem of one context and one GPU count is drawn; none if empty."""
    stated = problem.stated
    several = [name for name, values in stated.kept.items() if len(values) > 1]
    is_one = len(stated.gpus) == len(stated.contexts) == 1
    return several[0] if several and is_one else ""


def _along(rows: Sequence[Row], field: str) -> str:
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


def _line(row: Row) -> str:
    """The name of the line that a row is drawn on."""
    from qsjax.plotting.style import variant_label

    return str(row.get("label") or variant_label(row))


def _who(row: Row, *, of_several: bool) -> str:
    """Title of a picture: the model or its twin, and where it runs."""
    from qsjax.plotting.style import variant_label

    parts = [variant_label(row)] if of_several else []
    if "label" in row:  # several are drawn: which one it is
        parts = [part for part in row["label"].split(", ") if part not in row.values()]
    return ", ".join([f"{row['model']} on {row['gpus']:,.0f} {row['hardware']}", *parts])


def _subject(problem: Problem) -> str:
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


def _course(rows: Sequence[Row], read: Callable[[Row], str]) -> str:
    """What cells show at the shortest context and at the longest, once where both are alike."""
    first, last = _ends(rows)
    if read(first) == read(last):
        return read(first)
    return f"{read(first)} {_place(first, rows)}, {read(last)} {_place(last, rows)}"


def _rates(problem: Problem, rows: Sequence[Row]) -> str:
    """The finding of the curves of throughput: how fast the only one is, or which one leads."""
    running = [row for row in rows if row["is_feasible"]]
    if len({_line(row) for row in running}) == 1:
        ends = [
            f"{words.number(row['tokens_per_s_per_gpu'])} tokens/s/GPU {_place(row, running)}"
            for row in _ends(running)
        ]
        return f"{_subject(problem)}: {words.joined(dict.fromkeys(ends))}"
    places: dict[tuple[float, float], Row] = {}
    for row in running:
        at = row["context"], row["gpus"]
        best = places.get(at, row)
        places[at] = max(best, row, key=lambda one: one["tokens_per_s_per_gpu"])
    where = words.heading(problem) if _has_several(problem) else _subject(problem)
    where = f"{where}: " if where else ""
    first, last = _ends(list(places.values()))
    if _line(first) == _line(last):
        return f"{where}{_line(first)} is fastest"
    ends = [f"{_line(row)} {_place(row, running)}" for row in (first, last)]
    return f"{where}fastest is {words.joined(ends)}"


def _throughput(rows: list[Row], twins: list[Row], title: str, says: str, ax: Any = None) -> Any:
    """Throughput over context, and beside it the ratio of the twins, where curves coincide."""
    from qsjax import plotting

    if ax is not None:
        return plotting.throughput_vs_context(rows, ax, title=says)
    _, panels = plotting.figure(1, 2, (12.4, 4.4))
    plotting.ratio_vs_context(twins, panels[0, 1], title=says)
    return plotting.throughput_vs_context(rows, panels[0, 0], title=title)


def finding(twins: Sequence[Row], title: str) -> str:
    """What the ratio of a dense twin says, in a line."""
    q = _usual_twin(twins)["q"]
    same = [row for row in twins if row["q"] == q]
    ends = [f"{row['speedup_over_moe']:.2f}x {_place(row, same)}" for row in _ends(same)]
    if len(same) == 1:
        return f"{title}: the dense twin (q = {q:g}) has {ends[0]} of the MoE's throughput"
    rates = f"{ends[0]} and {ends[1]}"
    return f"{title}: the dense twin (q = {q:g}) makes {rates} of the MoE's tokens/s/GPU"


def _has_several(problem: Problem) -> bool:
    stated = problem.stated
    return len(stated.models) > 1 or len(stated.accelerators) > 1 or bool(stated.kept)


def _gain(solution: Solution) -> np.ndarray:
    rate = np.where(solution.is_feasible, solution.step.tokens_per_s_per_gpu, np.nan)
    table = rate.reshape(solution.cells.shape)
    return (table / table[:1]).ravel()


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
    alike = [row for row in _compared(running) if _system(row) == _system(shown)]
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


def _compared(rows: Sequence[Row]) -> list[Row]:
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


def _usual_twin(twins: Sequence[Row]) -> Row:
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
        row = _usual_twin(alike)
        gap = _difference(row, best, problem.objective, sure, ("be", "have"))
        at = words.length(best["context"])
        return f"A dense model of equal quality (q = {row['q']:g}) would {gap} at {at}."
    there = [row for row in twins if row["context"] == best["context"]] or twins[:1]
    row = _usual_twin(there)
    same = [one for one in twins if one["q"] == row["q"]]
    ends = [min(same, key=lambda r: r["context"]), max(same, key=lambda r: r["context"])]
    others = [one for one in ends if one["context"] != row["context"]]
    gaps = ", ".join(map(_gap, [row, *others]))
    return f"A dense model of equal quality (q = {row['q']:g}) would be {gaps}."


def _gap(twin: Row) -> str:
    """How a twin stands against the MoE, and whether that is sure."""
    unsure = "" if is_sure(twin.get("chance_over_moe", 1.0)) else " (within the error)"
    return f"{words.gap(twin['speedup_over_moe'])} at {words.length(twin['context'])}{unsure}"


def _table(problem: Problem, rows: Sequence[Row], title: str) -> Table:
    """The winners; a rule parts GPU counts and contexts."""
    several = len({row["gpus"] for row in rows}) > 1
    second = problem.stated.second
    gains = ["speedup_over_moe", *([f"speedup_over_moe_{second}"] if second else [])]
    gains = gains if len({variant_name(row) for row in rows}) > 1 else []
    factors = ["vs MoE", f"({second})"][: len(gains)]
    kept = list(problem.stated.kept)
    heads = ["context", *(["GPUs"] if several else []), *kept, "variant", "tp", "ep", "pp", "dp"]
    heads += ["kvp", "copies", *columns.heads(*NUMBERS), "bound by", *factors]
    place = itemgetter("gpus", "context")
    cells: list[Sequence[str]] = []
    for _, part in groupby(sorted(rows, key=place), place):
        cells += [()] if cells else []
        for row in part:
            first = [tokens(row["context"]), *([f"{row['gpus']:g}"] if several else [])]
            first += [*(axis_value(name, row[name]) for name in kept), variant_name(row)]
            cells.append([*first, *_cells(row), *(_factor(row, name) for name in gains)])
    return Table(title, heads, cells, 1 + several + len(kept))


def _cells(row: Row) -> list[str]:
    if not row["is_feasible"]:
        return [*["-"] * 11, "infeasible"]
    mode = {"none": "", "kvp": "", "cp": " cp"}[row["kv_mode"]]
    degrees = [str(row[name]) for name in ("tp", "ep", "pp", "dp")] + [f"{row['kvp']}{mode}"]
    return [*degrees, str(row["replicas"]), *columns.cells(row, *NUMBERS), row["bound_by"]]


def _factor(row: Row, name: str) -> str:
    gain = row.get(name, np.nan)
    return "" if row["variant"] == "moe" else f"{gain:.2f}x" if np.isfinite(gain) else "-"


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
        return words.would_fit(row["least_hbm_bytes"], row["least_gpus"], smaller)
    why = ", ".join(n for n in row["reasons"] if not REASONS.get(n, 0) & MEMORY_REASONS)
    least = words.count(row["least_gpus"], "GPU") if np.isfinite(row["least_gpus"]) else ""
    free = (
        f"; with a free choice of the split it would fit on {least} of this kind" if least else ""
    )
    return f"no split of these axes is legal ({why}){free}"


def _needs(solution: Solution) -> np.ndarray:
    """Fewest GPUs of cells that do not fit; where limits alone are in the way, they say it."""
    cells: Cells = solution.cells
    where = ~solution.is_feasible & (solution.best.shortfall > 0)
    return least_gpus(cells, where) if where.any() else np.full(cells.cells, np.nan)


@question
def explore(problem: Problem, *, level: float = LEVEL) -> Exploration:
    """The best design of every cell; with `convention="both"` the paper's accounting beside it.

    Args:
        problem: what is asked.
        level: probability of the intervals of TPOT and throughput.

    Raises:
        ValueError: `level` is no probability.

    >>> from qsjax.grid.problem import Problem
    >>> found = explore(Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="32k"))
    >>> found.rows()[0]["replicas"]
    1
    """
    check_level(level)
    solutions, *beside = (solve_all(problem, each) for each in problem.stated.accountings.values())
    least = tuple(_needs(each) for each in solutions)
    return Exploration(problem, solutions, sum(beside, ()), least, level)
