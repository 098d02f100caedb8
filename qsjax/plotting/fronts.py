"""Fronts of throughput against interactivity, with what stands beneath them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from qsjax.plotting import scales, style
from qsjax.plotting.rows import METRICS
from qsjax.plotting.sensitivity import parameter_look
from qsjax.plotting.style import Row
from qsjax.records.rows import grouped

NAMED = 3  # places of the front at which the largest slope is written


@style.styled
def front_bands(rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """A front, the area beneath it divided among the parameters as their elasticities are.

    Where a parameter has the whole height, only it moves the front. At a few places stands how far.

    Args:
        rows: one for each (point, parameter), with `tokens_per_s_per_user`,
            `tokens_per_s_per_gpu`, `parameter` and `elasticity` [1].
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (7.4, 4.6), "y")
    table = grouped(rows, lambda row: row["parameter"])
    first = next(iter(table.values()))
    order = np.argsort([row["tokens_per_s_per_user"] for row in first])
    user = np.array([row["tokens_per_s_per_user"] for row in first])[order]
    gpu = np.array([row["tokens_per_s_per_gpu"] for row in first])[order]
    slopes = {n: np.array([r["elasticity"] for r in own])[order] for n, own in table.items()}
    size = {name: np.abs(slope) for name, slope in slopes.items()}
    whole = np.sum(list(size.values()), axis=0)
    parts = {n: gpu * x / np.where(whole > 0, whole, 1.0) for n, x in size.items()}
    parts = {n: x for n, x in parts.items() if np.max(x / gpu) > 0.01}
    base = np.zeros(len(user))
    for name, part in parts.items():
        look = style.filled(parameter_look(name))
        ax.fill_between(user, base, base + part, **look, label=name)
        base = base + part
    ax.plot(user, gpu, color=style.ink().text, linewidth=1.6)
    ax.set_xscale("log")
    ax.set_xlim(user[0], user[-1])
    ax.set_ylim(0, 1.18 * gpu.max())
    for k in np.unique(np.linspace(0, len(user) - 1, NAMED + 2).round().astype(int))[1:-1]:
        top = max(size, key=lambda name: size[name][k])
        change = "more" if slopes[top][k] > 0 else "less"
        gain = f"1 % {change} {top}: +{size[top][k]:.2g} %"
        style.note(ax, gain, (user[k], gpu[k]), (4, 6), min(7.5, style.sizes(ax).tick))
    scales.number_axis(ax.xaxis, ax.yaxis)
    style.label(ax, title, METRICS["tokens_per_s_per_user"], METRICS["tokens_per_s_per_gpu"])
    handles = style.keys({name: parameter_look(name) for name in parts})
    return style.legend_above(ax, 6, handles)
