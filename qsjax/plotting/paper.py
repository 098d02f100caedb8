"""The paper's tables as pictures: printed beside computed, and what changes the winner."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from qsjax.plotting import scales, style
from qsjax.plotting.style import DENSE, MOE, Row
from qsjax.records.rows import grouped

_BESIDE = 1.4  # width of the numbers at the right [inch]
_ROOMY = 4.5  # width of a panel [inch] from which its legend has columns


@style.styled
def paper_table(
    cells: Sequence[Row],
    ax: Axes | None = None,
    *,
    physical: bool = False,
    title: str | None = None,
) -> Axes:
    """Every cell of one table: the printed number as a ring, ours as a dot, the gap between.

    Args:
        cells: mappings with `row`, `quantity`, `published`, `paper` (ours under the paper's
            convention) and optionally `physical`; a cell without both numbers is named, not drawn.
        ax: where to draw.
        physical: whether to add our value under the physical convention.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 1.5 + 0.235 * len(cells)), "both")
    whole, cells = len(cells), _worst(cells, ax)
    names = [f"{cell['row']}: {cell['quantity']}" for cell in cells]
    values = [cell[k] for cell in cells for k in ("published", "paper") if (cell.get(k) or 0) > 0]
    wide = bool(values) and max(values) / min(values) > 20
    ax.set_xscale("log" if wide else "linear")
    ink = style.ink()
    ring: Any = {"markerfacecolor": "none", "markeredgecolor": ink.text, "markersize": 9}
    for y, cell in enumerate(reversed(cells)):
        printed, ours = cell.get("published"), cell.get("paper")
        if physical and (cell.get("physical") or 0) > 0:
            ax.plot(cell["physical"], y, "x", color=ink.text, markersize=5, zorder=2)
        if printed is None or ours is None:
            text = "not comparable" if printed or ours else "infeasible in both"
        else:
            ax.plot([printed, ours], [y, y], color=MOE.colour, linewidth=1.6, zorder=2)
            ax.plot(printed, y, "o", **ring, markeredgewidth=1.3, zorder=3)
            ax.plot(ours, y, "o", color=MOE.colour, markersize=5, zorder=4)
            error = f"({100 * (ours / printed - 1):+.1f} %)" if printed else ""
            text = f"{printed:g} → {ours:.4g}  {error}"
        style.note(ax, text, (1.01, y), size=min(7.6, style.sizes(ax).tick), va="center",
                   xycoords=ax.get_yaxis_transform(), annotation_clip=False)  # fmt: skip
    style.name_rows(ax, range(len(cells)), names[::-1], 7.8)
    ax.set_ylim(-0.7, len(cells) - 0.3)
    scales.number_axis(ax.xaxis)
    quantities = list(grouped(cells, lambda cell: cell["quantity"]))
    what = quantities[0] if len(quantities) == 1 else "value, in each row's unit"
    part = f"; {len(cells)} of {whole}, those farthest off" if whole > len(cells) else ""
    style.label(ax, title, f"{what}{part}", beside=_BESIDE)
    handles = [
        style.mark("o", "published", **ring),
        style.mark("o", "qsjax, paper convention", color=MOE.colour),
    ]
    if physical:
        handles.append(style.mark("x", "qsjax, physical convention", color=ink.text))
    # The numbers at the right take from the room that a legend has.
    return style.legend_above(ax, 3 if style.panel_width(ax) > _ROOMY else 1, handles)


def _worst(cells: Sequence[Row], ax: Axes) -> list[Row]:
    """As many cells as a panel has room for: those farthest off, in their order."""
    most = style.most_rows(ax) // (2 if style.is_narrow(ax) else 1)
    worst = sorted(range(len(cells)), key=lambda k: -_gap(cells[k]))[:most]
    return [cells[k] for k in sorted(worst)]


def _gap(cell: Row) -> float:
    """How far our number is from the printed one [1]; 0 where either is missing."""
    printed, ours = cell.get("published"), cell.get("paper")
    return abs(ours / printed - 1) if printed and ours is not None else 0.0


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
    if not any(row["flips"] for row in rows):
        ax.set_xlim(-10.0, 10.0)  # per cents, not parts of one
    ax.set_ylim(y + 0.8, 0.2)
    style.name_rows(ax, places, [_name(row) for row in rows])
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    part = f"; {len(rows)} of {whole} variations, the largest" if whole > len(rows) else ""
    what = "cells (model, q, context) whose winner changes [%]; numbers: cells"
    style.label(ax, title, f"{what}{part}")
    return style.legend_above(ax, 2, style.keys({"to the MoE": MOE, "to the dense twin": twin}))


def _name(row: Row) -> str:
    """Dimension and value, or the value alone where it names its dimension."""
    value = str(row["value"])
    is_named = "=" in value or row["dimension"] in value or value.endswith("only")
    return value if is_named else f"{row['dimension']} {value}"
