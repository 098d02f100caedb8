"""Maps and fans: throughput over two hardware parameters, and how sure a verdict is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from qsjax.plotting import scales, style
from qsjax.plotting.rows import METRICS
from qsjax.plotting.style import DENSE
from qsjax.records import units

TODAY: dict[str, Any] = {"marker": "*", "color": DENSE[0].colour, "markeredgecolor": "#20242a"}


@style.styled
def iso_throughput(
    x: ArrayLike,
    y: ArrayLike,
    values: ArrayLike,
    ax: Axes | None = None,
    *,
    gradient: tuple[ArrayLike, ArrayLike] | None = None,
    point: tuple[float, float] | None = None,
    title: str | None = None,
) -> Axes:
    """Contours of equal throughput over HBM bandwidth and capacity, with the gradient field.

    Over other parameters set the labels of the axes that it returns.

    Args:
        x: values of the bandwidth [B/s], (n,).
        y: values of the capacity [B], (m,).
        values: throughput, (m, n); NaN where no design is feasible.
        ax: where to draw.
        gradient: elasticities along x and y, each (m, n): the arrows.
        point: today's accelerator.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.0, 4.9))
    xs, ys, zs = (np.asarray(part, dtype=float) for part in (x, y, values))
    known = np.ma.masked_invalid(zs)
    ax.set(xscale="log", yscale="log", xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]))
    ax.set_facecolor("none")
    if known.mask.any():
        ax.patch.set(hatch="////", edgecolor=style.ink().quiet, alpha=0.4, linewidth=0)
    if known.count():
        _contours(ax, xs, ys, known)
    if known.count() and gradient is not None:
        _arrows(ax, xs, ys, gradient, np.isfinite(zs))
    if point is not None:
        ax.plot(*point, markersize=16, **TODAY)
    scales.number_axis(ax.xaxis, ax.yaxis)
    style.label(ax, title, "hbm_bw [B/s]", "hbm_bytes [B]")
    handles: list[Any] = []
    if point is not None:
        handles.append(style.mark(label="today", markersize=11, **TODAY))
    if known.count() and gradient is not None:
        arrow = Line2D([], [], marker=">", markersize=4.5, linewidth=1.2, markevery=(1, 2),
                       color=style.ink().text, label="steepest gain")  # fmt: skip
        handles.append(arrow)
    if known.mask.any():
        handles.append(style.infeasible_key("////", "no feasible design"))
    if handles:
        style.legend_above(ax, 3, handles)
    return ax


def _contours(ax: Axes, xs: np.ndarray, ys: np.ndarray, known: Any) -> None:
    low, high = float(known.min()), float(known.max())
    high = max(high, 1.001 * low)
    # As much ground for each colour, so that contours do not crowd where the slope is steep.
    levels = np.unique(np.quantile(known.compressed(), np.linspace(0, 1, 9)))
    levels = levels if len(levels) > 2 else np.geomspace(low, high, 3)
    norm = BoundaryNorm(levels, style.SEQUENTIAL.N)
    filled = ax.contourf(xs, ys, known, levels=levels, cmap=style.SEQUENTIAL, norm=norm)
    lines = ax.contour(xs, ys, known, levels=levels[1:-1], colors="#f4f5f6", linewidths=0.8)
    # In a small panel the bar of colours alone names them.
    named = levels[:0] if style.is_narrow(ax) else levels[1:-1]
    for text in ax.clabel(lines, named, fmt=units.quantity, fontsize=7.5, colors="#ffffff"):
        text.set_path_effects([withStroke(linewidth=1.8, foreground=style.EDGE)])
    fig = ax.get_figure(root=True)
    assert fig is not None
    bar = fig.colorbar(filled, ax=ax, pad=0.02, format=lambda v, _: units.quantity(v))
    bar.set_label("tokens/s/GPU", color=style.ink().text)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, labelcolor=style.ink().text, color=style.ink().quiet)


def _arrows(
    ax: Axes,
    xs: np.ndarray,
    ys: np.ndarray,
    gradient: tuple[ArrayLike, ArrayLike],
    is_known: np.ndarray,
) -> None:
    gx, gy = (np.where(is_known, np.asarray(part, dtype=float), np.nan) for part in gradient)
    rows, columns = (slice(n // 10, n - n // 12, max(1, n // 6)) for n in (len(ys), len(xs)))
    ax.quiver(xs[columns], ys[rows], gx[rows, columns], gy[rows, columns], color="#f4f5f6",
              pivot="mid", width=0.0042, zorder=4)  # fmt: skip


@style.styled
def verdict_fan(
    contexts: Sequence[float],
    quantiles: Mapping[float, Sequence[float]],
    ax: Axes | None = None,
    *,
    probability: Sequence[float] | None = None,
    probability_label: str = "P(dense wins)",
    title: str | None = None,
) -> Axes:
    """How sure the verdict is: quantiles of the dense twin's speed-up over the MoE.

    Args:
        contexts: context lengths [tokens].
        quantiles: speed-up over contexts [1] by level, such as 0.05, 0.25, 0.5, 0.75, 0.95.
        ax: where to draw.
        probability: that the dense twin wins, over contexts [1]; written along the top.
        probability_label: what stands beneath these numbers.
        title: what the picture shows.
    """
    ax = style.dressed(ax, lines="y")
    levels = sorted(quantiles)
    outer = [(low, high) for low, high in zip(levels, reversed(levels), strict=True) if low < high]
    colour = DENSE[0].colour
    for k, (low, high) in enumerate(outer):
        name = f"{100 * (high - low):.0f} % of cases"
        ax.fill_between(contexts, quantiles[low], quantiles[high], color=colour, linewidth=0,
                        alpha=0.18 + 0.17 * k, label=name)  # fmt: skip
    middle = levels[len(levels) // 2]
    ax.plot(contexts, quantiles[middle], color=colour, marker="s", label="median")
    ax.axhline(1.0, color=style.ink().text, linewidth=1.2, linestyle=(0, (4, 2)))
    ax.set_yscale("log")
    scales.token_axis(ax.xaxis, contexts)
    scales.number_axis(ax.yaxis)
    low, high = ax.get_ylim()
    low, high = min(low, 0.8), max(high, 1.25)
    ax.set_ylim(low, high * (high / low) ** 0.14 if probability is not None else high)
    for text, offset, side in (("dense wins", 4, "bottom"), ("MoE wins", -4, "top")):
        style.note(ax, text, (1.01, 1.0), (0, offset), 8.5, xycoords=ax.get_yaxis_transform(),
                   va=side, ha="left", annotation_clip=False)  # fmt: skip
    if probability is not None:
        _probabilities(ax, contexts, probability, probability_label)
    style.label(ax, title, "context [tokens]", METRICS["speedup_over_moe"])
    return style.legend_above(ax, 4)


def _probabilities(
    ax: Axes, contexts: Sequence[float], probability: Sequence[float], label: str
) -> None:
    step = max(1, math.ceil(len(contexts) / 8))
    for context, share in list(zip(contexts, probability, strict=True))[::step]:
        style.note(ax, units.chance(share), (context, 0.965), size=8, ha="center", va="top",
                   xycoords=ax.get_xaxis_transform())  # fmt: skip
    style.note(ax, label, (0.01, 0.915), size=8, xycoords="axes fraction", va="top")
