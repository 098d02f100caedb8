"""What changes the winner: cells that a variation turns, one way and the other."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from qsjax.plotting import style
from qsjax.plotting.style import DENSE, MOE, Row


@style.styled
def winner_shifts(rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """Share of cells whose winner each variation turns, to the MoE at the left, to dense right.

    Args:
        rows: mappings with `dimension`, `value`, `cells`, `flips` and `to_dense` of them.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 1.9 + 0.23 * len(rows)), "x")
    whole, most = len(rows), int(style.most_rows(ax) / 1.2)
    if whole > most:
        first = sorted(range(whole), key=lambda k: -rows[k]["flips"] / max(1, rows[k]["cells"]))
        rows = [rows[k] for k in sorted(first[:most])]
    twin = DENSE[0]._replace(hatch="////")
    last, y, places = None, 0.0, []
    for row in rows:
        y += 1.0 if last in (None, row["dimension"]) else 1.4
        last = row["dimension"]
        places.append(y)
        cells = max(1, row["cells"])
        sides = ((row["flips"] - row["to_dense"], -1, MOE), (row["to_dense"], 1, twin))
        for count, side, look in sides:
            if count:
                share = 100.0 * count / cells
                ax.barh(y, side * share, 0.8, **style.filled(look), zorder=2)
                size, ha = min(7.5, style.sizes(ax).tick), "left" if side > 0 else "right"
                at = (side * share, y)
                style.note(ax, f"{count}", at, (3 * side, 0), size, va="center", ha=ha)
    ax.axvline(0.0, color=style.ink().text, linewidth=1.0)
    ax.margins(x=0.12)
    ax.set_ylim(y + 0.8, 0.2)
    style.name_rows(ax, places, [_name(row) for row in rows])
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    part = f"; {len(rows)} of {whole} variations, the largest" if whole > len(rows) else ""
    what = "cells (model, q, context) whose winner changes [%]; numbers: cells"
    style.label(ax, title, f"{what}{part}")
    handles = style.keys({"to the MoE": MOE, "to the dense twin": twin})
    return style.legend_above(ax, 2, handles)


def _name(row: Row) -> str:
    """Dimension and value, or the value alone where it names its dimension."""
    value = str(row["value"])
    is_named = "=" in value or row["dimension"] in value or value.endswith("only")
    return value if is_named else f"{row['dimension']} {value}"
