"""How far a parameter may move before the optimum changes, and boxes in which a claim is proved."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from qsjax.plotting import style
from qsjax.plotting.sensitivity import is_finite
from qsjax.plotting.style import CATEGORIES, Look, Row
from qsjax.records.rows import grouped

MOST = 15  # parameters shown


@style.styled
def stability_intervals(
    rows: Sequence[Row],
    ax: Axes | None = None,
    *,
    reach: float = 16.0,
    title: str | None = None,
) -> Axes:
    """For each parameter, the factors between which the optimum stays what it is.

    Those with the narrowest interval are shown. An arrow says that nothing switches within `reach`.

    Args:
        rows: mappings with `variant`, `q`, `parameter`, `switch_down`, `switch_up`: factors below
            and above 1, None where there is none; optionally `what` switches.
        ax: where to draw.
        reach: largest factor shown.
        title: what the picture shows.
    """
    widths = {
        name: min(_width(row, reach) for row in found)
        for name, found in grouped(rows, lambda row: row["parameter"]).items()
    }
    looks = style.variant_looks(rows)
    most = style.rows_in(ax, MOST, len(looks))
    names = sorted(widths, key=lambda name: widths[name])[:most][::-1]
    rows = [row for row in rows if row["parameter"] in names]
    kinds = list(dict.fromkeys(row.get("what") or "best partition" for row in rows))
    lanes = [(label, kind) for label in looks for kind in kinds]
    ax = style.dressed(ax, (7.4, 1.6 + len(names) * (0.13 + 0.105 * len(lanes))), "x")
    for row in rows:
        label, kind = style.variant_label(row), row.get("what") or "best partition"
        lane = (len(lanes) - 1) / 2 - lanes.index((label, kind))
        y = names.index(row["parameter"]) + lane * 0.8 / len(lanes)
        _interval(ax, y, row, looks[label], kinds.index(kind), reach)
    ax.axvline(1.0, color=style.ink().text, linewidth=1.0)
    ax.set_xscale("log")
    ax.set_xlim(1 / reach / 1.15, reach * 1.15)
    ticks = [2.0**k for k in range(-10, 11) if 1 / reach <= 2.0**k <= reach]
    ax.set_xticks(ticks, [f"×{t:g}" if t >= 1 else f"÷{1 / t:g}" for t in ticks])
    ax.set_xticks([], minor=True)
    style.name_rows(ax, range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    style.label(ax, title, "factor on the parameter at which the optimum changes [1]")
    handles = [
        *(Line2D([], [], color=look.colour, linestyle=look.line, linewidth=3, label=label)
          for label, look in looks.items()),
        *(style.mark(_KINDS[k % 4], f"{kind} changes", color=style.ink().text)
          for k, kind in enumerate(kinds)),
    ]  # fmt: skip
    return style.legend_above(ax, 3, handles)


def _width(row: Row, reach: float) -> float:
    """Factor between the two switches of a row; without one, up to the edge."""
    low, high = row.get("switch_down"), row.get("switch_up")
    bottom = max(low, 1 / reach) if is_finite(low) else 1 / reach
    return (min(high, reach) if is_finite(high) else reach) / bottom


_KINDS = ("|", "d", "o", "^")


def _interval(ax: Axes, y: float, row: Row, look: Look, kind: int, reach: float) -> None:
    down, up = row.get("switch_down"), row.get("switch_up")
    low = float(down) if is_finite(down) and down > 1 / reach else None
    high = float(up) if is_finite(up) and up < reach else None
    ends = (low or 1 / reach, high or reach)
    ax.plot(ends, [y, y], color=look.colour, linewidth=2.6, solid_capstyle="butt", zorder=2)
    for end, known, arrow in ((ends[0], low, "<"), (ends[1], high, ">")):
        marker = arrow if known is None else _KINDS[kind % 4]
        ax.plot(end, y, marker=marker, color=look.colour, markersize=7 if known is None else 9,
                markeredgewidth=2.0 if known is not None else 0.5, linestyle="none",
                zorder=3)  # fmt: skip


HATCHES = ("", "////", "..")  # of the claims that `certify` knows, in the order of the rows


@style.styled
def certified_boxes(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """For each claim the largest box in which it is proved, and the first that refutes it.

    Args:
        rows: mappings with `claim`, `says`, `verdict`, and `largest` and `refuted_from` in boxes of
            the size asked for (None or NaN where there is none); `variant` and `q`, and `model`,
            `gpus`, `context` and `hardware` where rows differ in them.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (8.4, 1.9 + 0.42 * len(rows)), "x")
    kinds = list(grouped(rows, lambda row: row["claim"]))
    looks = {kind: CATEGORIES[k]._replace(hatch=HATCHES[k]) for k, kind in enumerate(kinds)}
    told = ("model", "hardware", "gpus", "context")
    names = [name for name in told if len({row.get(name) for row in rows}) > 1]
    for y, row in enumerate(rows):
        look = looks[row["claim"]]
        reach = float(row["largest"]) if is_finite(row.get("largest")) else 0.0
        if row["verdict"] == "proved":
            reach = max(reach, 1.0)
        ax.barh(y, reach, 0.7, **style.filled(look), zorder=2)
        if is_finite(row.get("refuted_from")):
            ax.plot(row["refuted_from"], y, marker="x", color=style.ink().text, markersize=7,
                    linestyle="none", zorder=3)  # fmt: skip
    ax.axvline(1.0, color=style.ink().text, linewidth=1.0)
    ax.set_xlim(left=0.0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    style.name_rows(ax, range(len(rows)), [_name(row, names) for row in rows])
    style.label(ax, title, "half width of the box over the one asked for [1]")
    handles = [
        *style.keys({f"{kind}: proved": look for kind, look in looks.items()}),
        style.mark("x", "refuted", color=style.ink().text),
    ]
    return style.legend_above(ax, 4, handles)


def _name(row: Row, names: Sequence[str]) -> str:
    """What is claimed, of whom; degrees of 1 are not told."""
    parts = [f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names]
    if row["claim"] != "winner":
        parts.append(style.variant_label(row))
    said = [part for part in str(row["says"]).split(" ") if not part.endswith("=1")]
    what = f"{row['claim']}: {' '.join(said) or 'one GPU'}"
    return "\n".join([what, ", ".join(parts)]) if parts else what
