"""The theory in pictures: roofline, the q-s plane, and reuse as routing times capacity."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from qsjax.plotting import scales, style
from qsjax.plotting.labels import Name, name_points
from qsjax.plotting.style import DENSE, MOE, Row
from qsjax.records import units

PHASE_MARKERS = {"attention": "o", "projection": "s", "ffn": "^", "head": "D"}


@style.styled
def roofline(
    points: Sequence[Row],
    roofs: Mapping[str, Any],
    ax: Axes | None = None,
    *,
    title: str | None = None,
) -> Axes:
    """Every phase of every variant under the roofs of the accelerator.

    Args:
        points: rows with `variant`, `q`, `phase`, `intensity` [FLOP/B] and `flops_per_s` reached
            while the phase runs [FLOP/s].
        roofs: `hbm_bw` [B/s], and `peaks`: FLOP/s by dtype.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, lines="both")
    looks = style.variant_looks(points)
    peaks: Mapping[str, float] = roofs["peaks"]
    bandwidth, top = float(roofs["hbm_bw"]), max(peaks.values())
    seen = [row["intensity"] for row in points if row["intensity"] > 0]
    low = min([*seen, 1.0]) / 3
    high = max([*seen, top / bandwidth]) * 4
    ax.set(xscale="log", yscale="log", xlim=(low, high))
    ax.set_ylim(min([bandwidth * low, *(r["flops_per_s"] for r in points)]) / 1.5, top * 2.6)
    _roofs(ax, peaks, bandwidth, low, high)
    for row in points:
        look = looks[style.variant_label(row)]
        ax.plot(
            row["intensity"],
            row["flops_per_s"],
            marker=PHASE_MARKERS.get(row["phase"], "P"),
            color=look.colour,
            markersize=9,
            markeredgecolor="#20242a",
            markeredgewidth=0.6,
            linestyle="none",
            zorder=4,
            fillstyle="full" if row["variant"] == "moe" else "left",
            markerfacecoloralt="#f4f5f6",
        )
    scales.number_axis(ax.xaxis, ax.yaxis)
    style.label(ax, title, "arithmetic intensity [FLOP per HBM byte]", "rate reached [FLOP/s]")
    phases = [phase for phase in PHASE_MARKERS if any(row["phase"] == phase for row in points)]
    handles = [
        *(Patch(facecolor=look.colour, label=name) for name, look in looks.items()),
        *(style.mark(PHASE_MARKERS[phase], phase, color=style.ink().text) for phase in phases),
    ]
    style.legend_above(ax, 5, handles)
    if not style.is_narrow(ax):  # the markers of the legend have to do
        _name_phases(ax, points, looks, bandwidth, list(peaks.values()))
    return ax


def _name_phases(
    ax: Axes,
    points: Sequence[Row],
    looks: dict[str, style.Look],
    bandwidth: float,
    peaks: Sequence[float],
) -> None:
    places: dict[tuple[float, float, str], list[str]] = {}
    for row in points:  # phases at one place have one name
        x, y = (float(f"{row[name]:.2g}") for name in ("intensity", "flops_per_s"))
        places.setdefault((x, y, style.variant_label(row)), []).append(str(row["phase"]))
    names = []
    for (x, y, label), phases in places.items():
        text = ", ".join(phases) if len(looks) == 1 else f"{label} {', '.join(phases)}"
        names.append(Name(x, y, text, looks[label].colour))
    reach = np.geomspace(*ax.get_xlim(), 60)
    roofs = [(float(x), float(x * bandwidth)) for x in reach]
    for peak in peaks:
        # The line, and the name at its right end.
        roofs += [(float(x), peak) for x in reach if x * bandwidth > peak]
        beside = 1.25 if peak == max(peaks) else 0.8
        roofs += [(float(x), beside * peak) for x in reach[-20:]]
    # The legend has the colours of several variants: names that find no place can go.
    name_points(ax, names, roofs, 7.8, optional=len(looks) > 1)


def _roofs(ax: Axes, peaks: Mapping[str, float], bandwidth: float, low: float, high: float) -> None:
    colour = style.ink().text
    top = max(peaks.values())
    ax.plot([low, top / bandwidth], [bandwidth * low, top], color=colour, linewidth=1.6, zorder=2)
    named, at = f"HBM {units.with_unit(bandwidth, 'B/s')}", (low * 1.6, bandwidth * low * 1.6)
    style.note(ax, named, at, (0, 9), rotation=_slope(ax), rotation_mode="anchor", color=colour)
    for peak in sorted(set(peaks.values())):
        is_top = peak == top  # the others have their names beneath
        names = ", ".join(name for name, value in peaks.items() if value == peak)
        ax.plot([peak / bandwidth, high], [peak, peak], color=colour, linewidth=1.6, zorder=2)
        named, va = f"{names} {units.with_unit(peak, 'FLOP/s')}", "bottom" if is_top else "top"
        offset = (-3, 4 if is_top else -4)
        style.note(ax, named, (high, peak), offset, ha="right", va=va, color=colour)


def _slope(ax: Axes) -> float:
    """Angle of a line of slope 1 in log-log [degree], from the size of the axes on paper."""
    fig = ax.get_figure(root=True)
    assert fig is not None
    box = ax.get_position()
    width, height = fig.get_size_inches()
    (x0, x1), (y0, y1) = np.log10(ax.get_xlim()), np.log10(ax.get_ylim())
    rise = box.height * height / (y1 - y0)
    run = box.width * width / (x1 - x0)
    return float(np.degrees(np.arctan2(rise, run)))


@style.styled
def qs_plane(models: Sequence[Row], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """Models over sparsity and quality factor, with q s = 1 and q s^2 = 1.

    Below q s = 1 the MoE moves more FFN bytes per token than its dense twin (eq. 18). The
    accounting of the paper's tables charges the whole pool by the routed share once more, which
    moves the border to q s^2 = 1.

    Args:
        models: rows with `model`, `s`, `q`, and optionally `q_low`, `q_high`.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 4.8))
    s = np.geomspace(min([*(row["s"] for row in models), 1e-3]) / 2, 1.0, 200)
    top = max([*(row.get("q_high", row["q"]) for row in models), 20.0]) * 2
    ax.set(xscale="log", yscale="log", xlim=(s[0], 1.0), ylim=(1.0, top))
    border, strict = np.minimum(1 / s, top), np.minimum(1 / s**2, top)
    ax.fill_between(s, 1.0, border, color=DENSE[0].colour, alpha=0.17, linewidth=0)
    ax.fill_between(s, border, strict, facecolor="none", edgecolor=style.ink().quiet, hatch="//",
                    alpha=0.35, linewidth=0)  # fmt: skip
    ax.fill_between(s, strict, top, color=MOE.colour, alpha=0.17, linewidth=0)
    for curve, line in ((1 / s, "-"), (1 / s**2, (0, (5, 2)))):
        ax.plot(s, curve, color=style.ink().text, linewidth=1.5, linestyle=line)
    _name_regions(ax, top)
    _models(ax, models, top)
    ax.set_xticks([10.0**-k for k in range(4) if 10.0**-k >= s[0]])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ticks = [q for q in (1, 2, 5, 10, 20, 50, 100, 200, 500) if q <= top]
    ax.set_yticks(ticks, [f"{q}" for q in ticks])
    ax.tick_params(which="minor", length=0, labelleft=False, labelbottom=False)
    style.label(ax, title, "sparsity s = K/E, share of the experts that a token uses [1]",
                "quality factor q of the dense twin [1]")  # fmt: skip
    handles = [
        Patch(facecolor=DENSE[0].colour, alpha=0.3, label="q s < 1: the MoE moves more FFN bytes"),
        style.infeasible_key("////", "the two accountings disagree"),
        Patch(facecolor=MOE.colour, alpha=0.3, label="q s² > 1: the dense twin does, in both"),
    ]  # fmt: skip
    return style.legend_above(ax, 2, handles)


def _name_regions(ax: Axes, top: float) -> None:
    for text, power in (("q s = 1", 1), ("q s² = 1", 2)):
        x = top ** (-1 / power)
        style.note(ax, text, (max(x, ax.get_xlim()[0]), top), (4, -9 if style.is_narrow(ax) else 2),
                   fontweight="bold", ha="center", annotation_clip=False)  # fmt: skip


def _models(ax: Axes, models: Sequence[Row], top: float) -> None:
    for row in models:
        if "q_low" in row:
            ax.plot([row["s"]] * 2, [row["q_low"], row["q_high"]], color=MOE.colour, linewidth=1.4)
        ax.plot(row["s"], row["q"], "o", color=MOE.colour, markersize=7, markeredgecolor="#f4f5f6",
                markeredgewidth=0.8, zorder=4)  # fmt: skip
    places: dict[tuple[float, float], list[str]] = {}
    for row in models:
        places.setdefault((float(row["s"]), float(row["q"])), []).append(str(row["model"]))
    names = [Name(*at, "\n".join(named), style.ink().text) for at, named in places.items()]
    line = np.geomspace(1.0, top, 40)
    borders = [(float(q ** (-1 / power)), float(q)) for power in (1, 2) for q in line]
    name_points(ax, names, borders, 8.5)


@style.styled
def reuse_decomposition(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Weight reuse of the dense twin over the MoE's, as routing times capacity.

    The axis is logarithmic, so that lengths multiply: routing (1/s) first, then capacity
    (B_dense/B_moe) forwards or, below 1, backwards. The diamond is the product.

    Args:
        rows: mappings with `label`, `routing`, `capacity` and `gap`, all [1].
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 1.5 + 0.42 * len(rows)), "x")
    ax.set_xscale("log")
    high = max(max(row["routing"], row["gap"]) for row in rows)
    for y, row in enumerate(reversed(rows)):
        routing, gap = float(row["routing"]), float(row["gap"])
        ax.barh(y, routing - 1, 0.58, left=1.0, color=MOE.colour, zorder=2)
        ax.barh(y, gap - routing, 0.34, left=routing, color=DENSE[0].colour, hatch="////",
                edgecolor=style.EDGE, linewidth=0.3, zorder=3)  # fmt: skip
        ax.plot(gap, y, "D", color="#f4f5f6", markeredgecolor="#20242a", markersize=5, zorder=4)
        text = f"{routing:.3g} × {row['capacity']:.3g} = {gap:.3g}"
        style.note(ax, text, (max(gap, routing), y), (9, 0), 8.5, va="center")
    style.name_rows(ax, range(len(rows)), [str(row["label"]) for row in reversed(rows)])
    ax.set_xlim(1.0, high**1.35 * 1.5)
    ticks = [2.0**k for k in range(16) if 2.0**k <= high * 1.5]
    step = max(1, len(ticks) // 7)
    ax.set_xticks(ticks[::step], [f"{tick:g}" for tick in ticks[::step]])
    ax.set_xticks([], minor=True)
    style.label(ax, title, "weight reuse, dense twin over MoE [1]")
    handles = [
        Patch(facecolor=MOE.colour, label="routing, 1/s"),
        Patch(facecolor=DENSE[0].colour, hatch="////", edgecolor=style.EDGE, linewidth=0.3,
              label="capacity, B dense / B MoE"),
        style.mark("D", "product", color="#f4f5f6", markeredgecolor="#20242a"),
    ]  # fmt: skip
    return style.legend_above(ax, 3, handles)
