"""Latency against load: where a deployment's knee is."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from qsjax.plotting import scales, style
from qsjax.plotting.style import Row
from qsjax.records.units import MS

NAMES = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "whole request"}


@style.styled
def latency_against_load(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Median latencies of a deployment against its load; bands reach to the 95th percentile.

    Args:
        rows: of one curve, with `load`, `load_unit`, and `ttft_p50` ... [s] as `simulate` has them;
            values that the requests do not tell are None and left out.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, lines="both")
    members = sorted(rows, key=lambda row: row["load"])
    load = [row["load"] for row in members]
    unit = members[0]["load_unit"] if members else "req/s"
    ax.set(xscale="log", yscale="log")
    for metric, look in style.category_looks(list(NAMES)).items():
        middle, high = (
            [math.nan if row[f"{metric}_{q}"] is None else row[f"{metric}_{q}"] / MS
             for row in members] for q in ("p50", "p95")
        )  # fmt: skip
        ax.plot(load, middle, color=look.colour, linestyle=look.line, marker=look.marker,
                markersize=4.2, linewidth=1.6, label=NAMES[metric])  # fmt: skip
        ax.fill_between(load, middle, high, color=look.colour, alpha=0.18, linewidth=0)
    scales.number_axis(ax.xaxis, ax.yaxis)
    quantity = "users in flight [1]" if unit == "users" else "requests that arrive [1/s]"
    style.label(ax, title, quantity, "median, band to p95 [ms]")
    return style.legend_above(ax, 3)
