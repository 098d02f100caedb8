"""What throughput depends on: elasticities, where the optimum changes, and uncertain verdicts."""

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from qsjax.plotting import scales, style
from qsjax.plotting.rows import METRICS
from qsjax.plotting.style import MOE, RESOURCES, Look, Row
from qsjax.records.rows import grouped

# Parameters of a tornado, and of bands of their own.
MOST_ROWS, MOST_BANDS = 15, 9
# A parameter wears the colour of the resource that it feeds, by the first key in its name.
FEEDS = style.looks_of("parameters")


def parameter_look(name: str) -> Look:
    """Look of a parameter; grey for one that feeds no resource of its own."""
    looks = (look for key, look in FEEDS.items() if key == name or (len(key) > 1 and key in name))
    return next(looks, RESOURCES["overhead"])


def _called(metric: str) -> str:
    """A metric in words, without its unit."""
    known = METRICS | {"tpot": METRICS["tpot_ms"]}
    return known.get(metric, metric).partition(" [")[0]


@style.styled
def tornado(rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """Elasticities of one cell, largest first, variants side by side, as many as a panel holds.

    A pair of ticks shows the one-sided derivatives where they differ (at a kink).

    Args:
        rows: mappings with `variant`, `q`, `parameter`, `elasticity` [1], and optionally `left`
            and `right`; NaN or None is left out.
        ax: where to draw.
        title: what the picture shows.
    """
    rows = [row for row in rows if is_finite(row["elasticity"])]
    by_parameter = grouped(rows, lambda row: row["parameter"])
    size = {
        name: max(abs(r["elasticity"]) for r in members) for name, members in by_parameter.items()
    }
    looks = {
        label: look if look == MOE else look._replace(hatch="////")
        for label, look in style.variant_looks(rows).items()
    }
    most = style.rows_in(ax, MOST_ROWS, len(looks))
    names = sorted(size, key=lambda name: -size[name])[:most][::-1]
    ax = style.dressed(ax, (7.4, 1.5 + len(names) * (0.16 + 0.17 * len(looks))), "x")
    height = 0.78 / len(looks)
    for row in rows:
        if row["parameter"] in names:
            label = style.variant_label(row)
            offset = (len(looks) - 1) / 2 - list(looks).index(label)
            _bar(ax, names.index(row["parameter"]) + offset * height, height, row, looks[label])
    ax.axvline(0, color=style.ink().text, linewidth=1.0)
    style.name_rows(ax, range(len(names)), names)
    ax.margins(x=0.3 if style.is_narrow(ax) else 0.13)
    if style.is_narrow(ax):
        ax.xaxis.set_major_locator(MaxNLocator(5))
    metric = next((row["metric"] for row in rows if row.get("metric")), "throughput")
    style.label(
        ax, title, f"elasticity of {_called(metric)}: % change for 1 % more of the parameter"
    )
    return style.legend_above(ax, 4, handles=style.keys(looks))


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether a cell of a row holds a number."""
    return value is not None and math.isfinite(value)


def _bar(ax: Axes, y: float, height: float, row: Row, look: Look) -> None:
    value = float(row["elasticity"])
    ax.barh(y, value, height * 0.9, **style.filled(look), zorder=2)
    ends = [value]
    left, right = row.get("left"), row.get("right")
    if is_finite(left) and is_finite(right) and abs(left - right) > 1e-6:
        ends += [float(left), float(right)]
        ax.plot(ends[1:], [y, y], color=style.ink().text, marker="|", markersize=8, linewidth=1.0)
    edge = max(ends) if value >= 0 else min(ends)
    offset, ha = ((4, 0), "left") if value >= 0 else ((-4, 0), "right")
    style.note(ax, f"{value:+.2f}", (edge, y), offset, 7.5, ha=ha, va="center")


@style.styled
def elasticity_bands(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Elasticities of one variant stacked over context, with what binds beneath.

    Positive bands stand above zero, negative ones hang below; the smallest are summed up. Contexts
    without a feasible design leave a gap.

    Args:
        rows: mappings with `context`, `parameter`, `elasticity` [1] and optionally `bound_by`.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 4.6), "y")
    contexts = sorted({row["context"] for row in rows})
    values = {}
    for name, members in grouped(rows, lambda row: row["parameter"]).items():
        by_context = {
            row["context"]: row["elasticity"] for row in members if is_finite(row["elasticity"])
        }
        values[name] = np.array([by_context.get(context, math.nan) for context in contexts])
    shown = _largest(values)
    for sign in (1.0, -1.0):
        base = np.zeros(len(contexts))
        for name, value in shown.items():
            part = np.where(np.isnan(value), np.nan, np.maximum(sign * value, 0) * sign)
            if not np.nansum(np.abs(part)):
                continue
            ax.fill_between(contexts, base, base + part, **style.filled(parameter_look(name)))
            base = base + part
    ax.axhline(0, color=style.ink().text, linewidth=1.0)
    scales.token_axis(ax.xaxis, contexts)
    _hatch_gaps(ax, contexts, shown)
    ax.set_xlim(contexts[0], contexts[-1])
    low, high = ax.get_ylim()
    _binding_strip(ax, rows, contexts, low - 0.09 * (high - low), 0.06 * (high - low))
    ax.set_ylim(low - 0.1 * (high - low), high)
    metric = next((row["metric"] for row in rows if row.get("metric")), "throughput")
    style.label(ax, title, "context [tokens]", f"elasticity of {_called(metric)} [1]")
    return style.legend_above(ax, 4, handles=_band_handles(rows, list(shown)))


def _largest(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The largest bands in the given order, and the sum of those that are left."""
    size = {name: float(np.nanmax(np.abs(v), initial=0.0)) for name, v in values.items()}
    seen = [name for name in values if size[name] > 5e-3]
    if len(seen) <= MOST_BANDS:
        return {name: values[name] for name in seen}
    kept = set(sorted(seen, key=lambda name: -size[name])[:MOST_BANDS])
    rest = [values[name] for name in seen if name not in kept]
    named = {name: values[name] for name in seen if name in kept}
    others = "1 other" if len(rest) == 1 else f"{len(rest)} others"
    return named | {others: np.sum(rest, axis=0)}


def _hatch_gaps(ax: Axes, contexts: Sequence[float], values: dict[str, np.ndarray]) -> None:
    missing = np.all([np.isnan(v) for v in values.values()], axis=0) if values else np.array([True])
    for is_missing, run in groupby(range(len(missing)), key=lambda k: bool(missing[k])):
        if is_missing:
            members = list(run)
            left = contexts[max(0, members[0] - 1)]
            right = contexts[min(len(contexts) - 1, members[-1] + 1)]
            ax.axvspan(left, right, facecolor="none", edgecolor=style.ink().quiet, hatch="////",
                       alpha=0.4, linewidth=0)  # fmt: skip


def _band_handles(rows: Sequence[Row], names: Sequence[str]) -> list[Patch]:
    handles = style.keys({name: parameter_look(name) for name in names})
    binding = {row["bound_by"] for row in rows if row.get("bound_by")}
    if any(not is_finite(row["elasticity"]) for row in rows):
        handles.append(style.infeasible_key("////"))
    binds = {f"strip: {name} binds": look for name, look in RESOURCES.items() if name in binding}
    return handles + style.keys(binds)


def _binding_strip(
    ax: Axes, rows: Sequence[Row], contexts: Sequence[float], bottom: float, height: float
) -> None:
    binds = {row["context"]: row["bound_by"] for row in rows if row.get("bound_by")}
    shown = [context for context in contexts if context in binds]
    if not shown:
        return
    edges = [shown[0], *(math.sqrt(a * b) for a, b in pairwise(shown)), shown[-1]]
    for context, (left, right) in zip(shown, pairwise(edges), strict=True):
        look = style.filled(RESOURCES[binds[context]]) | {"linewidth": 0}
        ax.add_patch(Rectangle((left, bottom), right - left, height, **look))
