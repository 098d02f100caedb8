"""Gain of speculation against the batch: where drafts stop paying."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from qsjax.plotting import scales, style
from qsjax.plotting.style import Row


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
        own = sorted((row for row in rows if row["curve"] == name), key=lambda row: row["batch"])
        ax.plot([row["batch"] for row in own], [row["gain"] for row in own], color=look.colour,
                linestyle=look.line, marker=look.marker, markersize=4.2, linewidth=1.6,
                label=name)  # fmt: skip
    ax.axhline(1.0, color=style.INFEASIBLE.colour, linewidth=0.9, zorder=1)
    scales.number_axis(ax.xaxis)
    style.label(
        ax, title, "sequences of an attention replica [1]", "tokens/s over those without [1]"
    )
    return style.legend_above(ax, 2)
