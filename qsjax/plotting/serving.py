"""What a serving team looks at: throughput against interactivity."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from qsjax.plotting import scales, style
from qsjax.plotting.labels import Name, name_points
from qsjax.plotting.rows import METRICS, design, named
from qsjax.plotting.style import Row
from qsjax.records.rows import grouped

_APART = 8.0  # pixels between the points of a line that names keep clear of


@style.styled
def pareto_front(
    rows: Sequence[Row],
    ax: Axes | None = None,
    *,
    designs: bool = True,
    logarithmic: bool = True,
    title: str | None = None,
) -> Axes:
    """Tokens/s/GPU against tokens/s/user: the designs that no other beats in both.

    Between two points stands a step, not a slope: there is no design in between.

    Args:
        rows: mappings with `tokens_per_s_per_user`, `tokens_per_s_per_gpu`, a `label` or `variant`
            and `q` for the series, and the degrees of the design.
        ax: where to draw.
        designs: whether to name some designs of each front.
        logarithmic: whether both axes are logarithmic.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 4.8), "both")
    name_of, looks = named(rows)
    fronts = grouped(rows, name_of)
    if logarithmic:
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
    if designs and not style.is_narrow(ax):
        _name_designs(ax, fronts, looks)
    return ax


def _name_designs(ax: Axes, fronts: dict[str, list[Row]], looks: dict[str, style.Look]) -> None:
    names, drawn = [], []
    for name, members in fronts.items():
        last = len(members) - 1
        for k in sorted({0, last // 2, last}):
            row = members[k]
            text = design(row) + (f", B={row['batch']:g}" if "batch" in row else "")
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
    found = []
    for start, end in pairwise(ax.transData.transform(corners)):
        inner = int(np.abs(end - start).max() // _APART)
        found += [start + (end - start) * k / (inner + 1) for k in range(1, inner + 1)]
    places = ax.transData.inverted().transform(np.reshape(found, (-1, 2)))
    return [(float(x), float(y)) for x, y in places]


def _place(row: Row) -> tuple[float, float]:
    return row["tokens_per_s_per_user"], row["tokens_per_s_per_gpu"]
