"""The questions about slopes, and their answers."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.cost.metrics import METRICS, check_metrics
from qsjax.grid.gradients import hessian_at
from qsjax.grid.parameters import DEFAULT_PARAMETERS, HARDWARE_PARAMETERS, Parameter, read, resolve
from qsjax.grid.problem import Problem, describe, question
from qsjax.grid.solution import Solution, cell_labels, dataset_of, joined, rows_of, solve_all
from qsjax.numerics.safe import Rounding
from qsjax.output import words
from qsjax.output.labels import cell_name, variant_name, with_fields
from qsjax.output.result import Drawing, Result, Row, Table
from qsjax.questions.sensitivity.draws import Uncertainty
from qsjax.questions.sensitivity.slopes import METRIC_NAMES, CellSlopes, priced_winners, slopes_of
from qsjax.questions.sensitivity.switching import SPAN, Switches, check_span, switches
from qsjax.questions.sensitivity.tables import slope_rows, switch_columns, throughput_map
from qsjax.records.conversion import names_of
from qsjax.records.rows import grouped
from qsjax.records.tables import table

if TYPE_CHECKING:
    import xarray as xr

FIGURE_CONTEXT = 131072.0
NO_EFFECT = 0.005  # a smaller elasticity is not shown where many parameters were asked for
DIFFERENT = 0.005  # sides of a kink that differ by less are shown as one
MOST_NAMED = 6  # so few parameters are all shown


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Sensitivity(Result):
    """Slopes at the optimum of every cell.

    Attributes:
        problem: what was asked.
        blocks: slopes, one for each model and accelerator.
        switches: how far they hold, likewise; None if it was not asked.
        span: factors to both sides within which that was sought.
        uncertainty: what uncertain inputs do to the same problem, if that was asked too.
    """

    problem: Problem
    blocks: tuple[CellSlopes, ...]
    switches: tuple[Switches, ...] | None
    span: float | None
    uncertainty: Uncertainty | None = None

    stem = "sensitivity"

    def rows(self) -> list[Row]:
        """One row for each (metric, parameter, cell); None where a cell is infeasible."""
        pairs = zip(self.blocks, self.switches or [None] * len(self.blocks), strict=True)
        return [row for slopes, changes in pairs for row in slope_rows(slopes, changes)]

    def summary(self) -> str:
        """What moves the optimum most, and how far that holds."""
        kept = self.problem.stated.kept
        cells = list(grouped(self._shown(), partial(cell_name, fields=kept)).values())
        sentences = [
            _strongest(rows, words.cell(rows[0]) + with_fields(rows[0], kept)) for rows in cells[:2]
        ]
        if self.uncertainty is not None:
            sentences.append(self.uncertainty.summary())
        return "\n".join(sentences)

    def _shown(self) -> list[Row]:
        """Rows of the first metric at the context nearest to 32k, of the first GPU count."""
        rows = self.rows()
        near = words.nearest(row["context"] for row in rows)
        same = {"metric": rows[0]["metric"], "gpus": rows[0]["gpus"], "context": near}
        return [row for row in rows if all(row[name] == x for name, x in same.items())]

    def tables(self) -> list[Table]:
        """For each metric one table of that context, the strongest first."""
        shown, rows = self._shown(), self.rows()
        context, gpus = shown[0]["context"], shown[0]["gpus"]
        at = [row for row in rows if (row["context"], row["gpus"]) == (context, gpus)]
        name = partial(cell_name, fields=self.problem.stated.kept)
        left = len({*map(name, rows)}) - len({*map(name, at)})
        more = f"; {left} cells more with --out or --format csv" if left else ""
        return [
            _slope_table(of_metric, name, f"{words.metric_name(metric)}{more}")
            for metric, of_metric in grouped(at, lambda row: row["metric"]).items()
        ]

    def record(self) -> Row:
        """Optima, slopes, and the spread of uncertain inputs."""
        record: Row = {
            "convention": self.problem.stated.convention,
            "rounding": self.blocks[0].rounding,
            "optima": [row for block in self.blocks for row in rows_of(block.solution)],
            "cells": self.rows(),
        }
        if self.uncertainty is not None:
            record["uncertainty"] = self.uncertainty.rows()
        return record

    @property
    def dataset(self) -> "xr.Dataset":
        """The slopes over (metric, parameter, model, hardware, variant, gpus, ...), with units.

        NaN where a cell is infeasible.
        """
        attributes = {"rounding": self.blocks[0].rounding, "objective": self.problem.objective}
        data = joined(self.problem, [_dataset(block) for block in self.blocks], attributes)
        for name, meaning in MEANINGS.items():
            data[name].attrs |= {"units": meaning[0], "long_name": meaning[1]}
        return data

    def drawings(self) -> dict[str, Drawing]:
        """Tornado, stability, elasticities over context, throughput over memory, and verdicts."""
        rows = self.rows()
        same = ("model", "hardware", "metric", "gpus")
        first = [row for row in rows if all(row[name] == rows[0][name] for name in same)]
        drawings = _slope_drawings(first, self.span)
        context = words.nearest((row["context"] for row in first), FIGURE_CONTEXT)
        drawings["iso-throughput"] = partial(
            _draw_map,
            dataclasses.replace(self.problem, context=context),
            words.cell(rows[0] | {"q": None, "context": context}),
        )
        return drawings | (self.uncertainty.drawings() if self.uncertainty is not None else {})


def _strongest(rows: Sequence[Row], cell: str) -> str:
    """The parameters that move a cell most, in a sentence."""
    if rows[0]["elasticity"] is None:
        return f"{cell}: {rows[0]['masked']}."
    metric = words.metric_name(rows[0]["metric"])
    order = sorted(rows, key=lambda row: -abs(row["elasticity"]))
    strong = [row for row in order[:3] if abs(row["elasticity"]) >= NO_EFFECT]
    if not strong:
        return f"{cell}: nothing of what was asked moves {metric}."
    listed = words.joined(f"{row['elasticity']:+.2f} % for {row['parameter']}" for row in strong)
    text = f"{cell}: 1 % more of a parameter changes {metric} by {listed}"
    first = strong[0]
    ends = [
        f"{word} {first[side]:.3g} times today's {first['parameter']}"
        f" ({_then(first[f'{side}_what'])})"
        for side, word in (("switch_down", "down to"), ("switch_up", "up to"))
        if first.get(side)
    ]
    holds = f"; that holds {words.joined(ends)}"
    return text + (holds if ends else "") + "."


def _then(what: str) -> str:
    """What follows a switch, in words: `then compute binds`, `then tp=2 dp=4 is best`."""
    kinds = {"resource": "{} binds", "partition": "{} is best", "winner": "the {} is ahead"}
    clauses = []
    for part in what.split(" and "):
        kind, _, to = part.partition(" to ")
        if to == "infeasible":
            clauses.append("nothing runs")
            continue
        names = {"moe": "MoE", "dense": "dense twin"}
        degrees = [names.get(x, x) for x in to.split(" ") if not x.endswith(("=1", "=none"))]
        clauses.append(kinds.get(kind, f"{kind} {{}}").format(" ".join(degrees) or "one GPU"))
    return f"then {words.joined(clauses)}"


def _slope(row: Row | None) -> str:
    """An elasticity; both sides only where they differ."""
    if row is None or row["elasticity"] is None:
        return "-"
    left, right = row["left"], row["right"]
    if left is not None and right is not None and abs(left - right) > DIFFERENT:
        return f"{left:+.3f} / {right:+.3f}"
    return f"{row['elasticity']:+.3f}"


def _slope_table(rows: Sequence[Row], name_of: Callable[[Row], str], title: str) -> Table:
    """Parameters by strength: the elasticity in every cell, and the range in which it holds."""
    cells = list(dict.fromkeys(map(name_of, rows)))
    names = list(dict.fromkeys(row["parameter"] for row in rows))
    by = {(row["parameter"], name_of(row)): row for row in rows}
    size = {name: max(abs(by[name, cell]["elasticity"] or 0.0) for cell in cells) for name in names}
    few = len(names) <= MOST_NAMED
    shown = [n for n in sorted(names, key=lambda n: -size[n]) if few or size[n] >= NO_EFFECT]
    has_range = any(row.get("switch_down") or row.get("switch_up") for row in rows)
    lines = []
    for name in shown:
        slopes = [by.get((name, cell)) for cell in cells]
        first = slopes[0] or {}
        ends = [
            "-" if first.get(end) is None else f"x{first[end]:.3g}: {_then(first[f'{end}_what'])}"
            for end in ("switch_down", "switch_up")
        ]
        lines.append([name, *map(_slope, slopes), *(ends if has_range else [])])
    bound = {cell: by[names[0], cell]["bound_by"] for cell in cells}
    where = [f"{c}, {f'bound by {what}' if what else 'does not run'}" for c, what in bound.items()]
    heads = ["parameter", *where, *(["below", "above"] if has_range else [])]
    left = len(names) - len(shown)
    rest = f"; {left} parameters below {NO_EFFECT:g} are left out" if left else ""
    return Table(
        f"Change of {title} [%] for 1 % more (left / right where they differ){rest}", heads, lines
    )


# Arrays of slopes, and numbers beside them: unit and meaning.
MEANINGS: dict[str, tuple[str, str]] = table("cost/meanings.toml")["slopes"]


def _dataset(result: CellSlopes) -> "xr.Dataset":
    cells, defined = result.solution.cells, result.is_defined
    dims = tuple(axis.name for axis in cells.axes)

    def slope(x: np.ndarray) -> Any:
        masked = np.where(defined[:, None], x, np.nan)
        return ("metric", "parameter", *dims), masked.reshape(*x.shape[:2], *cells.shape)

    inputs = result.solution.winners.inputs
    at = [np.asarray(read(inputs, p.members[0])) for p in result.parameters]
    value = np.where(defined, result.slopes.value, np.nan)
    data = {name: slope(getattr(result.slopes, name)) for name in list(MEANINGS)[:4]}
    data["value"] = (("metric", *dims), value.reshape(-1, *cells.shape))
    data["at"] = (("parameter", *dims), np.stack(at).reshape(-1, *cells.shape))
    units = [METRICS[n].unit if n in METRICS else "1" for n in result.metrics]
    coords = {
        "metric": list(result.metrics),
        "parameter": [parameter.name for parameter in result.parameters],
        "unit": ("metric", units),
    }
    return dataset_of(result.solution).assign(data).assign_coords(coords)


def _slope_drawings(rows: list[Row], span: float | None) -> dict[str, Drawing]:
    from qsjax import plotting

    drawn: dict[str, Drawing] = {}
    contexts = sorted({row["context"] for row in rows})
    context = words.nearest(contexts, FIGURE_CONTEXT)
    at, where = (
        [row for row in rows if row["context"] == context],
        words.subject(rows[0] | {"q": None}),
    )
    title = words.cell(rows[0] | {"q": None, "context": context})
    known = [row for row in at if row["elasticity"] is not None]
    if known:
        top = _strongest_of(known)
        says = (
            f"{title}: 1 % more {top['parameter']} changes {words.metric_name(top['metric'])} most"
        )
        drawn["tornado"] = partial(
            plotting.tornado, at, title=f"{says}, by {top['elasticity']:+.2f} %"
        )
    if moving := _moving(at):
        reach = span or SPAN
        says = f"{title}: {_first_turn(moving)}"
        drawn["stability"] = partial(plotting.stability_intervals, moving, reach=reach, title=says)
    for label, part in grouped(rows, variant_name).items():
        bands = _stackable(part)
        if len(contexts) > 1 and any(row["elasticity"] for row in bands):
            name = f"elasticities-{label.replace(' ', '-').replace('=', '')}"
            drawn[name] = partial(
                plotting.elasticity_bands, bands, title=f"{where}, {label}: {_course(bands)}"
            )
    return drawn


def _moving(rows: Sequence[Row]) -> list[Row]:
    """Rows with a switch, and what it switches."""
    what = {"what": "split, bottleneck or winner"}
    return [row | what for row in rows if row.get("switch_up") or row.get("switch_down")]


def _strongest_of(rows: Sequence[Row]) -> Row:
    """The row of the largest elasticity."""
    return max(rows, key=lambda row: abs(row["elasticity"]))


def _course(rows: Sequence[Row]) -> str:
    """The parameter that moves most at the shortest context and at the longest."""
    known = [row for row in rows if row["elasticity"] is not None]
    ends = []
    for context in (f(row["context"] for row in known) for f in (min, max)):
        top = _strongest_of([row for row in known if row["context"] == context])["parameter"]
        ends.append((top, f"{top} at {words.length(context)}"))
    if ends[0][0] == ends[1][0]:
        return f"{ends[0][0]} moves most"
    return f"{ends[0][1]} and {ends[1][1]} move most"


def _first_turn(rows: Sequence[Row]) -> str:
    """The parameter that needs to move least before something changes."""
    ends = [
        (abs(np.log(row[side])), f"the first change is at {row['parameter']} x{row[side]:.3g}")
        for row in rows
        for side in ("switch_down", "switch_up")
        if row[side]
    ]
    return min(ends)[1]


def _draw_map(problem: Problem, where: str, ax: Any = None) -> Any:
    from qsjax import plotting

    drawn = throughput_map(problem)
    at = tuple(
        int(np.argmin(np.abs(np.log(axis / today))))
        for axis, today in zip((drawn.y, drawn.x), drawn.today[::-1], strict=True)
    )
    gains = [
        f"{100 * (1.01**slope - 1):.2f} % for {name}"
        for name, slope in (
            ("hbm_bw", drawn.x_elasticity[at]), ("hbm_bytes", drawn.y_elasticity[at])
        )
        if np.isfinite(slope)
    ]  # fmt: skip
    says = f": today 1 % more gains {words.joined(gains)}" if gains else ""
    return plotting.iso_throughput(
        drawn.x,
        drawn.y,
        drawn.values,
        ax=ax,
        gradient=(drawn.x_elasticity, drawn.y_elasticity),
        point=drawn.today,
        title=f"{where}{says}",
    )


def _stackable(rows: list[Row]) -> list[Row]:
    """Rows of hardware and q without shares of another field, which would count it twice."""
    fields = [*HARDWARE_PARAMETERS, "q", "flops", "link_bw", "latency"]
    names = [n for n in fields if not n.startswith("eff_") and n != "usable_fraction"]
    kept = [row for row in rows if row["parameter"] in names]
    return kept or rows


@question
def sensitivity(
    problem: Problem,
    parameters: Sequence[str] | None = None,
    metrics: Sequence[str] = ("tokens_per_s_per_gpu",),
    rounding: Rounding = "straight_through",
    span: float | None = None,
    *,
    one_sided: bool = True,
) -> Sensitivity:
    """Elasticities of every metric in every parameter at the best design of every cell.

    By the envelope theorem they are also the slopes of the optimum itself, wherever the winner is
    unique (`switching`, or a span, says how far that holds).

    Args:
        problem: what is asked.
        parameters: names of continuous fields of any record, `q`, or groups of fields; `q`,
            `context`, and all continuous ones of the accelerator and of bytes if None.
        metrics: names of `METRIC_NAMES`; `speedup` is tokens/s/GPU over the first variant's.
        rounding: `straight_through` (value of the whole batch, slope of the unrounded one),
            `floor` (slope of the whole batch: none between steps), or `relaxed` (fractional
            batches, in the value too). The winner is always that of whole batches.
        span: factor up and down within which changes of the best design are sought too.
        one_sided: also evaluate both sides of kinks.

    Raises:
        ValueError: a name is not a parameter or a metric, or is discrete, or a cost has no price.
    """
    parameters = DEFAULT_PARAMETERS if parameters is None else parameters
    resolve(parameters)
    metrics = names_of(metrics)
    check_metrics(metrics, METRIC_NAMES)
    if span is not None:
        check_span(span)
    solutions = solve_all(problem)
    blocks = tuple(
        slopes_of(solution, parameters, metrics, rounding, one_sided=one_sided)
        for solution in solutions
    )
    changes = None
    if span is not None:
        changes = tuple(switches(solution, parameters, span) for solution in solutions)
    return Sensitivity(problem, blocks, changes, span)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Switching(Result):
    """How far each parameter may move before the best split, its bottleneck or the winner changes.

    Attributes:
        problem: what was asked.
        blocks: one for each model and accelerator.
    """

    problem: Problem
    blocks: tuple[Switches, ...]

    stem = "switching"
    index = ("cell", "parameter")
    columns = (
        *("model", "hardware", "variant", "q", "gpus", "context", "parameter"),
        *("switch_down", "switch_down_what", "switch_up", "switch_up_what"),
    )

    def rows(self) -> list[Row]:
        """One row for each (parameter, cell): the nearest factors, of any kind and of each."""
        rows = []
        for block in self.blocks:
            cells = block.solution.cells
            labels, columns = cell_labels(cells), switch_columns(block)
            for parameter, column in zip(block.parameters, columns, strict=True):
                for label, row in zip(labels, column, strict=True):
                    rows.append({**label, "parameter": parameter.name, **row})
        return rows

    def summary(self) -> str:
        """The nearest change of the best design, and of which parameter."""
        known = [
            (abs(np.log(row[side])), row, side)
            for row in self.rows()
            for side in ("switch_down", "switch_up")
            if row[side]
        ]
        if not known:
            return f"{describe(self.problem)}: no factor that was tried changes the best design."
        _, row, side = min(known, key=lambda item: item[0])
        return (
            f"{cell_name(row, self.problem.stated.kept)}: the nearest change of the best design "
            f"is at x{row[side]:.3g} of {row['parameter']} ({row[f'{side}_what']})."
        )

    def drawings(self) -> dict[str, Drawing]:
        """The factors of each cell between which nothing changes."""
        from qsjax import plotting

        drawings: dict[str, Drawing] = {}
        cells = grouped(_moving(self.rows()), partial(cell_name, fields=self.problem.stated.kept))
        for n, (name, moved) in enumerate(cells.items()):
            end = f"-{n + 1}" if len(cells) > 1 else ""
            drawings[f"stability{end}"] = partial(
                plotting.stability_intervals, moved, title=f"{name}: {_first_turn(moved)}"
            )
        return drawings


@question
def switching(
    problem: Problem, parameters: Sequence[str] | None = None, span: float = SPAN
) -> Switching:
    """Factors on each parameter at which the best design, its bottleneck or the winner changes.

    Args:
        problem: what is asked.
        parameters: names as for `sensitivity`.
        span: factors from 1/span to span are tried, within the fields' allowed values.

    Raises:
        ValueError: a name is not a parameter, or `span` is not above 1.
    """
    parameters = DEFAULT_PARAMETERS if parameters is None else parameters
    resolve(parameters)
    check_span(span)
    blocks = tuple(switches(solution, parameters, span) for solution in solve_all(problem))
    return Switching(problem, blocks)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Hessian(Result):
    """Second derivatives of a log metric in log parameters.

    Attributes:
        problem: what was asked.
        parameters: along both axes.
        metric: what is differentiated.
        blocks: solution and derivatives (cell, parameter, parameter), one for each model and
            accelerator.
    """

    problem: Problem
    parameters: tuple[Parameter, ...]
    metric: str
    blocks: tuple[tuple[Solution, np.ndarray], ...]

    stem = "hessian"
    index = ("cell", "metric", "parameter", "other")

    def rows(self) -> list[Row]:
        """One row for each (cell, parameter, other parameter); NaN where infeasible."""
        rows, names = [], [parameter.name for parameter in self.parameters]
        for solution, second in self.blocks:
            for cell, label in enumerate(cell_labels(solution.cells)):
                for i, j in np.ndindex(len(names), len(names)):
                    value = second[cell, i, j] if solution.is_feasible[cell] else np.nan
                    pair = {"metric": self.metric, "parameter": names[i], "other": names[j]}
                    rows.append({**label, **pair, "second": float(value)})
        return rows

    def summary(self) -> str:
        """The strongest pair of parameters."""
        rows = [row for row in self.rows() if np.isfinite(row["second"])]
        metric = words.metric_name(self.metric)
        head = f"{describe(self.problem)}: second derivatives of log {metric}"
        if not rows:
            return f"{head}; nothing runs."
        most = max(rows, key=lambda row: abs(row["second"]))
        pair = most["parameter"], most["other"]
        of = f"{pair[0]} twice" if pair[0] == pair[1] else f"{pair[0]} and {pair[1]}"
        return f"{head}; the largest is {most['second']:+.3f}, in {of}."


@question
def hessian(
    problem: Problem,
    parameters: Sequence[str],
    metric: str = "tokens_per_s_per_gpu",
    rounding: Rounding = "straight_through",
) -> Hessian:
    """Second derivatives of a log metric in log parameters at the best design of every cell.

    Args:
        problem: what is asked.
        parameters: names as for `sensitivity`.
        metric: one of `METRICS`.
        rounding: as for `sensitivity`.

    Raises:
        ValueError: a name is not a parameter or a metric.
    """
    chosen = resolve(parameters)
    check_metrics([metric])
    blocks = []
    for solution in solve_all(problem):
        winners = priced_winners(solution, rounding)
        blocks.append((solution, hessian_at(winners, chosen, metric, solution.cells.economy)))
    return Hessian(problem, chosen, metric, tuple(blocks))
