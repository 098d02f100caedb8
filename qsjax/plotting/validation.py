"""Predicted against measured."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from qsjax.plotting import scales, style
from qsjax.plotting.style import Row
from qsjax.records.rows import grouped

REACH = 60.0  # errors beyond stand at the edge as triangles [%]


@style.styled
def parity(
    records: Sequence[Row],
    ax: Axes | None = None,
    *,
    by: str = "gpu",
    title: str | None = None,
) -> Axes:
    """Predicted over measured time per output token, with bands of 10 and 25 %.

    Args:
        records: mappings with `predicted`, `measured` [ms] and `by`; those without a
            prediction are left out.
        ax: where to draw.
        by: what gives the colour and marker.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (5.6, 5.6), "both")
    usable = [r for r in records if r.get("predicted") is not None and r.get("measured")]
    values = [row[name] for row in usable for name in ("predicted", "measured")]
    low, high = min(values, default=1.0) / 1.4, max(values, default=10.0) * 1.4
    line = np.array([low, high])
    for share, alpha in ((0.25, 0.13), (0.10, 0.22)):
        ax.fill_between(line, line / (1 + share), line * (1 + share), color=style.ink().quiet,
                        alpha=alpha, linewidth=0)  # fmt: skip
    ax.plot(line, line, color=style.ink().text, linewidth=1.0)
    groups = grouped(usable, lambda row: str(row.get(by, "other")))
    looks = style.category_looks(sorted(groups))
    for name in sorted(groups):
        look = looks[name]
        ax.plot(
            [row["measured"] for row in groups[name]],
            [row["predicted"] for row in groups[name]],
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=4.6,
            alpha=0.75,
            markeredgewidth=0,
            label=f"{name} ({len(groups[name])})",
        )
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    scales.number_axis(ax.xaxis, ax.yaxis)
    what = "time per output token [ms]"
    style.label(ax, title, f"measured {what}", f"predicted {what}")
    style.legend_above(ax, 3)
    style.note(
        ax, "bands: ±10 %, ±25 %", (0.98, 0.02), size=8, xycoords="axes fraction", ha="right"
    )
    return ax


@style.styled
def residuals(
    records: Sequence[Row],
    ax: Axes | None = None,
    *,
    by: str = "gpu",
    title: str | None = None,
) -> Axes:
    """Errors of every record, gathered by `by`: each point, the middle 80 %, the median.

    Args:
        records: mappings with `error_pct` (predicted over measured, less 1) and `by`.
        ax: where to draw.
        by: what the rows are.
        title: what the picture shows.
    """
    groups = grouped(
        [row for row in records if row.get("error_pct") is not None],
        lambda row: str(row.get(by, "other")),
    )
    names = sorted(groups, reverse=True)
    ax = style.dressed(ax, (7.4, 1.7 + 0.48 * len(names)), "x")
    for share, alpha in ((25.0, 0.10), (10.0, 0.16)):
        ax.axvspan(-share, share, color=style.ink().quiet, alpha=alpha, linewidth=0)
    ax.axvline(0, color=style.ink().text, linewidth=1.0)
    looks = style.category_looks(names[::-1])
    for y, name in enumerate(names):
        _strip(ax, y, np.array([float(row["error_pct"]) for row in groups[name]]), looks[name])
    style.name_rows(ax, range(len(names)), [f"{name}  (n={len(groups[name])})" for name in names])
    ax.set_ylim(-0.6, len(names) - 0.4)
    # The medians stand at the right of all points.
    told = (style.text_width(_median(99.9), _size(ax)) + 0.1) / style.panel_width(ax)
    ax.set_xlim(-REACH * 1.04, REACH * max(1.62, (1.06 + 1.04 * told) / (1.0 - told)))
    ax.set_xticks(np.linspace(-REACH, REACH, 7))
    style.label(ax, title, "error, predicted over measured [%]")
    handles = [
        Patch(facecolor=style.ink().quiet, alpha=0.3, label="±10 %, ±25 %"),
        Patch(facecolor="none", edgecolor=style.ink().text, label="middle 80 %, median"),
    ]
    return style.legend_above(ax, 3, handles)


def _strip(ax: Axes, y: int, errors: np.ndarray, look: style.Look) -> None:
    # A golden-ratio sequence spreads the points without randomness.
    jitter = ((np.arange(len(errors)) * 0.6180339887) % 1 - 0.5) * 0.5
    inside = np.abs(errors) <= REACH
    ax.plot(errors[inside], y + jitter[inside], linestyle="none", marker=look.marker,
            color=look.colour, markersize=3.4, alpha=0.8, markeredgewidth=0)  # fmt: skip
    for side, marker in ((-1.0, "<"), (1.0, ">")):
        far = ~inside & (errors * side > 0)
        ax.plot(np.full(far.sum(), side * REACH), y + jitter[far], linestyle="none", marker=marker,
                color=look.colour, markersize=5)  # fmt: skip
    low, middle, high = np.clip(np.quantile(errors, [0.1, 0.5, 0.9]), -REACH, REACH)
    box = Rectangle((low, y - 0.33), high - low, 0.66, facecolor="none")
    box.set(edgecolor=style.ink().text, linewidth=0.9)
    ax.add_patch(box)
    ax.plot([middle] * 2, [y - 0.33, y + 0.33], color=style.ink().text, linewidth=2.4, zorder=5)
    style.note(ax, _median(np.median(np.abs(errors))), (1.0, y), (-2, 0), _size(ax),
               xycoords=ax.get_yaxis_transform(), ha="right", va="center")  # fmt: skip


def _median(per_cent: float) -> str:
    return f"median |e| {per_cent:.1f} %"


def _size(ax: Axes) -> float:
    """Size of the medians [pt]."""
    return min(7.6, style.sizes(ax).tick - 0.4)
