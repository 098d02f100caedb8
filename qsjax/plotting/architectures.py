"""What architectures of equal quality gain over a reference."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from qsjax.plotting import style
from qsjax.plotting.style import Row
from qsjax.records.rows import grouped
from qsjax.records.units import quantity

MOST = 24  # architectures drawn


@style.styled
def architecture_gains(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Throughput of every architecture over the reference's, one mark for each accelerator.

    The best stand at the top; beside each stand its parameters.

    Args:
        rows: mappings with `architecture`, `hardware`, `gain` [1], `total_params` and
            `active_params`.
        ax: where to draw.
        title: what the picture shows.
    """
    by_name = grouped(rows, lambda row: row["architecture"])
    names = sorted(by_name, key=lambda name: max(row["gain"] for row in by_name[name]))[-MOST:]
    looks = style.category_looks([row["hardware"] for row in rows])
    ax = style.dressed(ax, (7.4, 1.9 + 0.26 * len(names)), "x")
    for y, name in enumerate(names):
        gains = [row["gain"] for row in by_name[name]]
        ax.plot([min(gains), max(gains)], [y, y], color=style.ink().quiet, linewidth=1.0, zorder=2)
        for row in by_name[name]:
            look = looks[row["hardware"]]
            is_first = y == len(names) - 1
            ax.plot(row["gain"], y, linestyle="none", marker=look.marker, color=look.colour,
                    label=row["hardware"] if is_first else None, zorder=3)  # fmt: skip
    ax.axvline(1.0, color=style.ink().text, linewidth=1.0)
    labels = []
    for name in names:
        total, active = (
            f"{quantity(by_name[name][0][k])}".replace("G", "B")
            for k in ("total_params", "active_params")
        )
        labels.append(f"{name}  {total}, {active} active")
    style.name_rows(ax, range(len(names)), labels, 7.5)
    ax.margins(x=0.08)
    style.label(ax, title, "tokens/s/GPU over the reference's, at equal quality [1]")
    return style.legend_above(ax, 4)
