"""What a serving team looks at: fronts, latency against load, drafts, cached prefixes."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from qsjax.cost.prefix import PLACES
from qsjax.plotting import scales, style
from qsjax.plotting.labels import Name, name_points
from qsjax.plotting.rows import METRICS, named
from qsjax.plotting.sensitivity import parameter_look
from qsjax.plotting.style import Row
from qsjax.records import units
from qsjax.records.rows import degrees, grouped
from qsjax.records.units import MS

_APART = 8.0  # pixels between the points of a line that names keep clear of


@style.styled
def pareto_front(rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """Tokens/s/GPU against tokens/s/user: the designs that no other beats in both.

    Between two points stands a step, not a slope: there is no design in between.

    Args:
        rows: mappings with `tokens_per_s_per_user`, `tokens_per_s_per_gpu`, a `label` or `variant`
            and `q` for the series, and the degrees of the design.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 4.8), "both")
    name_of, looks = named(rows)
    fronts = grouped(rows, name_of)
    ax.set(xscale="log", yscale="log")
    for name, members in fronts.items():
        members.sort(key=lambda row: row["tokens_per_s_per_user"])
        x = [row["tokens_per_s_per_user"] for row in members]
        y = [row["tokens_per_s_per_gpu"] for row in members]
        look = looks[name]
        ax.step(x, y, where="pre", color=look.colour, linestyle=look.line, linewidth=1.6, zorder=2)
        # Both ends are marked: the last step would else look like a line to nowhere.
        marked = sorted({*range(0, len(x), max(1, len(x) // 40)), len(x) - 1})
        ax.plot(x, y, linestyle="none", marker=look.marker, color=look.colour, markersize=4.2,
                markevery=marked, label=name, zorder=3)  # fmt: skip
    scales.number_axis(ax.xaxis, ax.yaxis)
    style.label(ax, title, METRICS["tokens_per_s_per_user"], METRICS["tokens_per_s_per_gpu"])
    style.legend_above(ax, 4)
    if not style.is_narrow(ax):
        _name_designs(ax, fronts, looks)
    return ax


def _name_designs(ax: Axes, fronts: dict[str, list[Row]], looks: dict[str, style.Look]) -> None:
    names, drawn = [], []
    for name, members in fronts.items():
        last = len(members) - 1
        for k in sorted({0, last // 2, last}):
            row = members[k]
            text = degrees(row, "") + (f", B={row['batch']:g}" if "batch" in row else "")
            names.append(Name(*_place(row), text, looks[name].colour))
        drawn += [_place(row) for row in members] + _steps(ax, members)
    name_points(ax, names, drawn, 7.2, optional=True)


def _steps(ax: Axes, members: list[Row]) -> list[tuple[float, float]]:
    """Points along the steps between designs, for names to keep clear of lines too."""
    ax.get_xlim(), ax.get_ylim()  # settles pending autoscaling
    corners = [
        corner
        for (x, high), (across, low) in pairwise(_place(row) for row in members)
        for corner in ((x, high), (x, low), (across, low))
    ]
    if not corners:
        return []
    between = []
    for start, end in pairwise(ax.transData.transform(corners)):
        inner = int(np.abs(end - start).max() // _APART)
        between += [start + (end - start) * k / (inner + 1) for k in range(1, inner + 1)]
    places = ax.transData.inverted().transform(np.reshape(between, (-1, 2)))
    return [(float(x), float(y)) for x, y in places]


def _place(row: Row) -> tuple[float, float]:
    return row["tokens_per_s_per_user"], row["tokens_per_s_per_gpu"]


NAMED = 3  # places of the front at which the largest slope is written


@style.styled
def front_bands(rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """A front, the area beneath it divided among the parameters as their elasticities are.

    Where a parameter has the whole height, only it moves the front. At a few places stands how far.

    Args:
        rows: one for each (point, parameter), with `tokens_per_s_per_user`,
            `tokens_per_s_per_gpu`, `parameter` and `elasticity` [1].
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 4.6), "y")
    table = grouped(rows, lambda row: row["parameter"])
    first = next(iter(table.values()))
    order = np.argsort([row["tokens_per_s_per_user"] for row in first])
    user = np.array([row["tokens_per_s_per_user"] for row in first])[order]
    gpu = np.array([row["tokens_per_s_per_gpu"] for row in first])[order]
    slopes = {n: np.array([r["elasticity"] for r in line])[order] for n, line in table.items()}
    size = {name: np.abs(slope) for name, slope in slopes.items()}
    whole = np.sum(list(size.values()), axis=0)
    parts = {n: gpu * x / np.where(whole > 0, whole, 1.0) for n, x in size.items()}
    parts = {n: x for n, x in parts.items() if np.max(x / gpu) > 0.01}
    base = np.zeros(len(user))
    for name, part in parts.items():
        ax.fill_between(user, base, base + part, **style.filled(parameter_look(name)), label=name)
        base = base + part
    ax.plot(user, gpu, color=style.ink().text, linewidth=1.6)
    ax.set_xscale("log")
    ax.set_xlim(user[0], user[-1])
    ax.set_ylim(0, 1.18 * gpu.max())
    for k in np.unique(np.linspace(0, len(user) - 1, NAMED + 2).round().astype(int))[1:-1]:
        top = max(size, key=lambda name: size[name][k])
        change = "more" if slopes[top][k] > 0 else "less"
        gain = f"1 % {change} {top}: +{size[top][k]:.2g} %"
        style.note(ax, gain, (user[k], gpu[k]), (4, 6), min(7.5, style.sizes(ax).tick))
    scales.number_axis(ax.xaxis, ax.yaxis)
    style.label(ax, title, METRICS["tokens_per_s_per_user"], METRICS["tokens_per_s_per_gpu"])
    return style.legend_above(ax, 6, style.keys({name: parameter_look(name) for name in parts}))


NAMES = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "whole request"}


@style.styled
def latency_against_load(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Median latencies of a deployment against its load; bands reach to the 95th percentile.

    Args:
        rows: of one curve, with `load`, `load_unit`, and `ttft_p50` ... [s] as `simulate` has them;
            values that the requests do not tell are None and left out.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, lines="both")
    members = sorted(rows, key=lambda row: row["load"])
    load = [row["load"] for row in members]
    unit = members[0]["load_unit"] if members else "req/s"
    ax.set(xscale="log", yscale="log")
    for metric, look in style.category_looks(list(NAMES)).items():
        middle, high = (
            [math.nan if row[f"{metric}_{q}"] is None else row[f"{metric}_{q}"] / MS
             for row in members] for q in ("p50", "p95")
        )  # fmt: skip
        drawn = style.line(look)
        ax.plot(load, middle, **drawn, markersize=4.2, linewidth=1.6, label=NAMES[metric])
        ax.fill_between(load, middle, high, color=look.colour, alpha=0.18, linewidth=0)
    scales.number_axis(ax.xaxis, ax.yaxis)
    quantity = "users in flight [1]" if unit == "users" else "requests that arrive [1/s]"
    style.label(ax, title, quantity, "median, band to p95 [ms]")
    return style.legend_above(ax, 3)


@style.styled
def speculation_gain(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Throughput with speculation over that without, against the sequences of a replica.

    Args:
        rows: with `curve`, `batch` and `gain`, as `speculate` has them.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, lines="both")
    names = list(dict.fromkeys(str(row["curve"]) for row in rows))
    ax.set(xscale="log")
    for name, look in style.category_looks(names).items():
        line = sorted((row for row in rows if row["curve"] == name), key=lambda row: row["batch"])
        ax.plot([row["batch"] for row in line], [row["gain"] for row in line], **style.line(look),
                markersize=4.2, linewidth=1.6, label=name)  # fmt: skip
    ax.axhline(1.0, color=style.INFEASIBLE.colour, linewidth=0.9, zorder=1)
    scales.number_axis(ax.xaxis)
    style.label(
        ax, title, "sequences of an attention replica [1]", "tokens/s over those without [1]"
    )
    return style.legend_above(ax, 2)


AXES = {
    "reuse_interval": "time until a prefix comes again [s]",
    "prefix_hit_rate": "share of a prompt that was seen before [1]",
}


@style.styled
def prefix_places(
    rows: Sequence[Row],
    ax: Axes | None = None,
    *,
    parameter: str = "reuse_interval",
    title: str | None = None,
) -> Axes:
    """GPU time of a request in every place along a parameter; a line where the best one turns.

    Of several designs the first is drawn in full, of the others the cheapest place at each value.

    Args:
        rows: with `design`, `place`, `way` (what is done, in words), `values`, `seconds` (of a GPU)
            and `roots`.
        ax: where to draw.
        parameter: `reuse_interval` or `prefix_hit_rate`.
        title: what the picture shows.
    """
    ax = style.dressed(ax, lines="both")
    ax.set(xscale="log" if parameter == "reuse_interval" else "linear")
    designs = list(dict.fromkeys(row["design"] for row in rows))
    first = [row for row in rows if row["design"] == designs[0]]
    looks = style.category_looks(PLACES)
    for row in first:
        look = looks[row["place"]]
        ax.plot(row["values"], row["seconds"], color=look.colour, linestyle=look.line,
                linewidth=1.8, label=row["way"])  # fmt: skip
    for k, name in enumerate(designs[1:]):
        lines = [row for row in rows if row["design"] == name]
        least = np.min([row["seconds"] for row in lines], axis=0)
        ax.plot(lines[0]["values"], least, color=style.ink().quiet, linewidth=1.2,
                linestyle=(0, (1 + 2 * k, 1.5)), label=f"{name}: cheapest")  # fmt: skip
    top = max(float(np.max(r["seconds"])) for r in first)
    for root in first[0]["roots"]:
        ax.axvline(root, color=style.ink().quiet, linewidth=0.9, zorder=1)
        style.note(ax, units.quantity(root), (root, top), (3, 4), 8)
    low = ax.get_ylim()[0]
    ax.set_ylim(low, top + 0.12 * (top - low))  # room for the values above the lines
    if parameter == "reuse_interval":
        scales.number_axis(ax.xaxis)
    ax.set_xlim(float(first[0]["values"][0]), float(first[0]["values"][-1]))
    style.label(ax, title, AXES[parameter], "GPU time of a request [s]")
    return style.legend_above(ax, 3)
