"""Throughput over context, and which partition wins where."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from qsjax.cost.meanings import meaning_of
from qsjax.plotting import scales, style
from qsjax.plotting.labels import Name, name_points
from qsjax.plotting.rows import METRICS, as_rows, named
from qsjax.plotting.style import INFEASIBLE, Row
from qsjax.records import units
from qsjax.records.rows import grouped

if TYPE_CHECKING:
    import xarray as xr


AXES = {"context": "context [tokens]", "gpus": "GPUs [1]"}
RATE, RATIO = "tokens_per_s_per_gpu", "speedup_over_moe"


class _End(NamedTuple):
    """Where a line ends, what it is called, and how it looks."""

    height: float
    name: str
    look: style.Look


def crossings(first: Sequence[Row], second: Sequence[Row]) -> list[tuple[float, float]]:
    """Context and rate where two series cross, by straight lines between samples in log-log."""
    values = {row["context"]: row[RATE] for row in second if row["is_feasible"]}
    shared = sorted(
        (row["context"], np.log(row[RATE] / values[row["context"]]), row[RATE])
        for row in first
        if row["is_feasible"] and row["context"] in values
    )
    found = []
    for (left, a, from_), (right, b, to) in pairwise(shared):
        if a * b < 0:
            share = a / (a - b)
            found.append(
                (float(left * (right / left) ** share), float(from_ * (to / from_) ** share))
            )
    return found


@style.styled
def throughput_vs_context(
    data: "Sequence[Row] | xr.Dataset",
    ax: Axes | None = None,
    *,
    crossovers: bool = True,
    over: str | None = None,
    title: str | None = None,
) -> Axes:
    """One line for each variant over context, crossovers with the MoE marked.

    Rows of one context and of several GPU counts are drawn over these, rows of one of each over a
    field that varies.

    Args:
        data: rows of `explore` (with a `label`, if lines are no variants), or its data set.
        ax: where to draw.
        crossovers: whether to mark where a twin and the MoE change order.
        over: the field along the horizontal axis, such as `hbm_bw`, of rows that have one context
            and one GPU count.
        title: what the picture shows.
    """
    rows = as_rows(data)
    is_ours, ax = ax is None, style.dressed(ax, lines="y")
    x, lines, looks = _lines(rows)
    x = over or x
    ax.set_yscale("log")
    ends: list[_End] = []
    for (name, _), members in lines.items():
        look = looks[name]
        members.sort(key=lambda row: row[x])
        _line(ax, members, x, RATE, look)
        feasible = [row for row in members if row["is_feasible"]]
        if feasible:
            ends.append(_End(feasible[-1][RATE], name, look))
    _axis(ax, rows, x)
    scales.number_axis(ax.yaxis)
    _make_room(ax, [row[RATE] for row in rows if row["is_feasible"]])
    ends += _mark_infeasible(ax, lines, looks, x)
    meaning = meaning_of(x)
    quantity = AXES.get(x, f"{meaning.long_name} ({x}) [{meaning.units}]")
    style.label(ax, title, quantity, METRICS[RATE])
    if is_ours:
        _name_ends(ax, ends)
    else:  # what stands beside the panel may be another one
        if (inside := ax.get_legend()) is not None:
            ax.add_artist(inside)  # a second legend takes the place of the first
        keys = [
            Line2D([], [], **style.line(look), markersize=4.0, label=text) for _, text, look in ends
        ]
        style.legend_above(ax, 4, handles=keys)
    if crossovers and x == "context":
        _mark_crossings(ax, lines)
    return ax


def _lines(
    rows: Sequence[Row],
) -> tuple[str, dict[tuple[str, Any], list[Row]], dict[str, style.Look]]:
    """What the lines are over, the rows of each by name and GPU count, and looks by name."""
    name_of, looks = named(rows)
    counts = {row.get("gpus", 0) for row in rows}
    if len(counts) == 1 or len({row["context"] for row in rows}) == 1:
        x = "context" if len(counts) == 1 else "gpus"
        gpus = counts.pop() if len(counts) == 1 else None
        return x, {(name, gpus): own for name, own in grouped(rows, name_of).items()}, looks
    told: list[Row] = [{**row, "label": f"{name_of(row)}, {row['gpus']:,.0f} GPUs"} for row in rows]
    lines = grouped(told, lambda row: (row["label"], row["gpus"]))
    return "context", lines, style.family_looks(told)


def _axis(ax: Axes, rows: Sequence[Row], x: str) -> None:
    """The horizontal axis, with ticks at the values of the rows."""
    values = sorted({row[x] for row in rows})
    if x not in AXES:
        scales.number_axis(ax.xaxis)
        return
    scales.token_axis(ax.xaxis, values)
    if x == "gpus":
        ax.set_xticks(values, [f"{value:,.0f}" for value in values])


@style.styled
def ratio_vs_context(
    data: "Sequence[Row] | xr.Dataset", ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """How much faster each dense twin is than the MoE: what two curves that coincide do not show.

    Args:
        data: rows with `context`, `q` and the ratio.
        ax: where to draw.
        title: what the picture shows.
    """
    rows = [row for row in as_rows(data) if row.get("q") is not None]
    ax = style.dressed(ax, lines="y")
    ax.axhline(1.0, color=style.ink().text, linewidth=1.0)
    x, lines, looks = _lines(rows)
    for (name, _), members in lines.items():
        members.sort(key=lambda row: row[x])
        _line(ax, members, x, RATIO, looks[name], label=name)
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0.9), max(high, 1.1))
    _axis(ax, rows, x)
    scales.number_axis(ax.yaxis)
    style.label(ax, title, AXES[x], "tokens/s/GPU, dense over MoE [1]")
    return style.legend_above(ax, 4)


def _line(
    ax: Axes, rows: Sequence[Row], x: str, metric: str, look: style.Look, label: str | None = None
) -> None:
    values = [row[metric] if row["is_feasible"] else np.nan for row in rows]
    ax.plot([row[x] for row in rows], values, **style.line(look), label=label, zorder=3,
            markeredgecolor="#f4f5f6", markeredgewidth=0.5)  # fmt: skip


def _make_room(ax: Axes, values: Sequence[float]) -> None:
    """Limits around all values, also where panels share an axis whose limits another has set."""
    low, high = ax.get_ylim()
    if values and not ax.get_autoscaley_on():
        ax.set_ylim(min(low, min(values) / 1.3), max(high, max(values) * 1.3))


def _mark_infeasible(
    ax: Axes, lines: dict[Any, list[Row]], looks: dict[str, style.Look], x: str
) -> list[_End]:
    """Crosses along the bottom; the names of lines that are nothing else, as ends of lines."""
    if not any(not row["is_feasible"] for members in lines.values() for row in members):
        return []
    ends = []
    low, high = ax.get_ylim()
    ax.set_ylim(low * (low / high) ** (0.04 * len(lines)), high)  # room beneath the curves
    height = 0.02
    for (name, _), members in lines.items():
        missing = [row[x] for row in members if not row["is_feasible"]]
        if missing:
            ax.plot(
                missing,
                [height] * len(missing),
                transform=ax.get_xaxis_transform(),
                linestyle="none",
                marker=INFEASIBLE.marker,
                color=looks[name].colour,
                markersize=6,
                markeredgewidth=1.8,
                clip_on=False,
            )
            if len(missing) == len(members):
                bottom, top = ax.get_ylim()
                ends.append(_End(bottom * (top / bottom) ** height, name, looks[name]))
            height += 0.04
    colour = style.ink().text
    mark = style.mark("x", "infeasible", color=colour)
    ax.legend(handles=[mark], labelcolor=colour, loc="lower left", bbox_to_anchor=(0.0, height))
    return ends


def _name_ends(ax: Axes, ends: list[_End]) -> None:
    if not ends:
        return
    low, high = np.log10(ax.get_ylim())
    heights = [(np.log10(end.height) - low) / (high - low) for end in ends]
    moved = scales.spread(heights, 0.058)
    lift = max(0.0, 0.02 - min(moved))
    for end, height in zip(ends, moved, strict=True):
        style.note(ax, end.name, (1.015, height + lift), size=9, xycoords="axes fraction",
                   annotation_clip=False, color=end.look.colour, fontweight="bold",
                   va="center")  # fmt: skip


def _mark_crossings(ax: Axes, lines: dict[Any, list[Row]]) -> None:
    names = []
    for (label, gpus), members in lines.items():
        base = lines.get(("MoE", gpus))
        if base is None or label == "MoE":
            continue
        for context, value in crossings(base, members):
            ax.plot(context, value, "o", markersize=11, markerfacecolor="none", zorder=5,
                    markeredgecolor=style.ink().text, markeredgewidth=1.3)  # fmt: skip
            text = f"MoE = {label}\nnear {units.about(context)} tokens"
            names.append(Name(context, value, text, style.ink().text))
    if len({gpus for _, gpus in lines}) == 1:
        drawn = [point for members in lines.values() for point in _along(members)]
        name_points(ax, names, drawn, style.sizes(ax).tick)


def _along(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Points along the drawn line, for labels to keep clear of."""
    points = [(row["context"], row[RATE]) for row in rows if row["is_feasible"]]
    if len(points) < 2:
        return points
    logs = np.log(np.array(sorted(points)))
    x = np.linspace(logs[0, 0], logs[-1, 0], 90)
    y = np.interp(x, logs[:, 0], logs[:, 1])
    return [(float(a), float(b)) for a, b in zip(np.exp(x), np.exp(y), strict=True)]
