"""Answers of inverse questions: where an order turns, and the accelerator that was found."""

import math
from collections.abc import Callable, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from qsjax.plotting import scales, style
from qsjax.plotting.style import Row
from qsjax.records import units
from qsjax.records.tables import table

# What holds between two roots, and how it is drawn; anything else is left empty.
SIDES = style.looks_of("sides")
NAMES = {side: told["label"] for side, told in table("plotting/looks.toml")["sides"].items()}

# Name of a mark beyond which nothing is known.
LEAST = "least that meets the target"


@style.styled
def turning_points(
    rows: Sequence[Row],
    ax: Axes | None = None,
    *,
    parameter: str = "parameter [1]",
    tokens: bool = False,
    title: str | None = None,
) -> Axes:
    """For each cell, what holds where along a parameter, and the values at which it changes.

    Args:
        rows: mappings with `label`, `low`, `high`, `roots` (values in rising order) and `sides`
            (keys of SIDES, one more than roots).
        ax: where to draw.
        parameter: its name and unit.
        tokens: whether its values are token counts.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 1.7 + 0.62 * len(rows)), "x")
    ax.set_xscale("log")
    # Counts have the digits that sentences have, and not units of 1,024.
    write = (lambda x: f"{float(f'{x:.3g}'):,.0f}") if tokens else units.quantity
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    for k, row in enumerate(rows):
        y = len(rows) - 1 - k
        ends = [row["low"], *row["roots"], row["high"]]
        for side, left, right in zip(row["sides"], ends[:-1], ends[1:], strict=True):
            if side in SIDES:
                ax.barh(y, right - left, 0.42, left=left, **style.filled(SIDES[side]), zorder=2)
        for root in row["roots"]:
            ax.plot([root] * 2, [y - 0.32, y + 0.32], color=style.ink().text, linewidth=1.8)
        _name_roots(ax, y, row["roots"], (low, high), write)
    ax.set_xlim(low, high)
    ax.set_ylim(-0.55, len(rows) - 0.25)
    style.name_rows(ax, range(len(rows)), [str(row["label"]) for row in reversed(rows)])
    if tokens:
        powers = [2.0**k for k in range(60) if low <= 2.0**k <= high]
        scales.token_axis(ax.xaxis, powers or [low, high])
        ax.set_xlim(low, high)
    else:
        scales.number_axis(ax.xaxis)
    style.label(ax, title, parameter)
    used = {side for row in rows for side in row["sides"]}
    handles: list[Artist] = [
        *style.keys({NAMES[side]: look for side, look in SIDES.items() if side in used})
    ]
    if used - SIDES.keys():
        handles.append(Line2D([], [], color=style.ink().text, linewidth=1.8, label=LEAST))
    return style.legend_above(ax, 3, handles)


def _name_roots(
    ax: Axes,
    y: float,
    roots: Sequence[float],
    span: tuple[float, float],
    write: Callable[[float], str],
) -> None:
    """Values above their marks, or below where there is no room; a crowd has its ends named."""
    width, size = math.log(span[1] / span[0]), 5.8 if style.is_narrow(ax) else 8.0
    groups: list[list[float]] = []
    for root in roots:
        if groups and math.log(root / groups[-1][-1]) < 0.04 * width:
            groups[-1].append(root)
        else:
            groups.append([root])
    reached = {1: -1.0, -1: -1.0}
    for group in groups:
        text = " to ".join(dict.fromkeys(write(value) for value in (group[0], group[-1])))
        text += f" ({len(group)} changes)" if len(group) > 2 else ""
        place = math.log(math.sqrt(group[0] * group[-1]) / span[0]) / width
        half = 0.52 * style.text_width(text, size) / style.panel_width(ax)
        place = min(max(place, half), 1.0 - half)
        free = [side for side in (1, -1) if reached[side] < place - half]
        if not free and style.is_narrow(ax):
            continue  # the mark says where it is
        side = free[0] if free else 1
        reached[side] = place + half
        at, va = (
            (span[0] * math.exp(place * width), y + 0.32 * side),
            "bottom" if side > 0 else "top",
        )
        style.note(ax, text, at, (0, side), size, ha="center", va=va)


@style.styled
def chosen_hardware(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """The accelerator that was found, quantity by quantity, over the reference.

    Args:
        rows: mappings with `quantity`, `factor` over the reference, `value` (the number in words)
            and `marginal` (gain for 1 % more cost); `at_bound` where the search range ended.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 1.5 + 0.5 * len(rows)), "x")
    ax.set_xscale("log")
    colour = style.CATEGORIES[0].colour
    for k, row in enumerate(rows):
        y, factor = len(rows) - 1 - k, row["factor"]
        ax.barh(y, factor - 1.0, 0.5, left=1.0, color=colour, hatch="" if factor >= 1 else "////",
                edgecolor=style.EDGE, linewidth=0.25, zorder=2)  # fmt: skip
        text = f"×{factor:.3g}: {row['value']}; {row['marginal']:+.2f} % for 1 % more cost"
        if row.get("at_bound"):
            text += ", edge of the range"
        text = style.wrapped(text, 0.5 * style.panel_width(ax), style.sizes(ax).tick)
        style.note(ax, text, (max(factor, 1.0), y), (4, 0), va="center")
    factors = [row["factor"] for row in rows]
    low, high = min(1.0, *factors), max(1.0, *factors)
    # Half of the panel is for the texts.
    ax.set_xlim(low / 1.25, high * max(3.0, 1.25 * high / low))
    ax.axvline(1.0, color=style.ink().text, linewidth=1.2)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    style.name_rows(ax, range(len(rows)), [row["quantity"] for row in reversed(rows)])
    scales.number_axis(ax.xaxis)
    style.label(ax, title, "over the reference accelerator [1]")
    return ax
