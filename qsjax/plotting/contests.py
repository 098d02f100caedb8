"""Who wins where: maps of two sides over context and a limit on TPOT."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from qsjax.plotting import style
from qsjax.plotting.style import DENSE, INFEASIBLE, MOE, Row
from qsjax.records.units import tokens

LOOKS = {"moe": MOE, "dense": DENSE[0]._replace(hatch="////")}
# Share of the colour at which a win is even, and what a probability of 1 adds.
PALEST, DEEPER = 0.12, 0.75


def _face(row: Row) -> tuple[float, float, float]:
    """The winner's colour, paler the less sure it is."""
    sure = 2.0 * max(row["p_dense_wins"], row["p_moe_wins"], 0.5) - 1.0
    share = PALEST + DEEPER * sure
    red, green, blue = (share * x + 1.0 - share for x in to_rgb(LOOKS[row["winner"]].colour))
    return red, green, blue


def _words(row: Row) -> str:
    """The winner's lead and its probability."""
    speed = row.get("speedup_over_moe")
    if row["winner"] == "neither":
        return "neither\nserves"
    lead = "alone"
    if speed:
        lead = f"x{speed if row['winner'] == 'dense' else 1.0 / speed:.3g}"
        lead = "equal" if lead == "x1" else lead
    sure = 100.0 * row[f"p_{row['winner']}_wins"]
    return f"{lead}\n{'>99' if sure > 99 else f'{sure:.0f}'} %"


@style.styled
def contest_map(rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """The winner of every (context, limit on TPOT), by how much and with which probability.

    Args:
        rows: mappings with `context`, `tpot_limit` [s] (infinite: any), `winner` (`moe`, `dense`
            or `neither`), `p_dense_wins`, `p_moe_wins`, and the twin's `speedup_over_moe` [1].
        ax: where to draw.
        title: what the picture shows.
    """
    contexts = sorted({row["context"] for row in rows})
    limits = sorted({row["tpot_limit"] for row in rows})
    is_own = ax is None  # then the picture has the height that all cells need
    ax = style.dressed(ax, (max(7.0, 1.9 + 0.85 * len(contexts)), 1.9 + 0.55 * len(limits)))
    room = (math.inf, math.inf) if is_own else (style.panel_width(ax), style.panel_height(ax))
    place = room[0] / len(contexts), room[1] / len(limits)
    size = 5.6 if style.is_narrow(ax) else 7.5
    for row in rows:
        x, y = contexts.index(row["context"]), limits.index(row["tpot_limit"])
        is_won = row["winner"] in LOOKS
        ground = {"facecolor": _face(row) if is_won else "none", "edgecolor": "none", "pad": 0.8}
        ax.add_patch(
            Rectangle(
                (x + 0.02, y + 0.03),
                0.96,
                0.94,
                facecolor=_face(row) if is_won else "none",
                edgecolor=style.ink().quiet,
                hatch=LOOKS[row["winner"]].hatch[:2] if is_won else INFEASIBLE.hatch[:3],
                linewidth=0,
                alpha=1.0 if is_won else 0.5,
            )
        )
        ax.text(x + 0.5, y + 0.5, style.fitting(_words(row), size, place), ha="center",
                va="center", fontsize=size,
                color="#1b1f24" if is_won else style.ink().text, linespacing=1.15,
                bbox=ground if is_won else None)  # fmt: skip
    ax.set(xlim=(0, len(contexts)), ylim=(0, len(limits)))
    ax.set_xticks(np.arange(len(contexts)) + 0.5, [tokens(c) for c in contexts])
    names = [f"{1e3 * limit:g}" if np.isfinite(limit) else "any" for limit in limits]
    ax.set_yticks(np.arange(len(limits)) + 0.5, names)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    style.label(ax, title, "context [tokens]", "longest time per output token [ms]")
    handles = [
        Patch(
            facecolor=LOOKS[who].colour,
            hatch=LOOKS[who].hatch,
            edgecolor=style.EDGE,
            linewidth=0,
            label=f"{name} wins (paler: less sure)",
        )
        for who, name in (("moe", "MoE"), ("dense", "dense twin"))
    ]
    style.legend_above(ax, 2, handles=handles)
    return ax
