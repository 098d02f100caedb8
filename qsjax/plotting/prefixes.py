"""What keeping, loading or recomputing prefixes costs, and where the cheapest of them turns."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from qsjax.cost.prefix import PLACES
from qsjax.plotting import scales, style
from qsjax.plotting.style import Row
from qsjax.records import units

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
    for k, design in enumerate(designs[1:]):
        own = [row for row in rows if row["design"] == design]
        least = np.min([row["seconds"] for row in own], axis=0)
        ax.plot(own[0]["values"], least, color=style.ink().quiet, linewidth=1.2,
                linestyle=(0, (1 + 2 * k, 1.5)), label=f"{design}: cheapest")  # fmt: skip
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
