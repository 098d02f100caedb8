"""Who wins where: maps of two sides over context and a limit on TPOT."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from qsjax.plotting import style
from qsjax.plotting.boards import Square, board, fill, tint
from qsjax.plotting.style import DENSE, INFEASIBLE, MOE, Row

LOOKS = {"moe": MOE, "dense": DENSE[0]._replace(hatch="////")}
# Share of the colour at which a win is even, and what a probability of 1 adds.
PALEST, DEEPER = 0.12, 0.75


def _square(row: Row, size: float) -> Square:
    """The winner's colour, paler the less sure it is; the lead, and its probability."""
    quiet = style.ink().quiet
    if row["winner"] not in LOOKS:
        return Square(_words(row), size, None, quiet, INFEASIBLE.hatch[:3])
    look = LOOKS[row["winner"]]
    sure = 2.0 * max(row["p_dense_wins"], row["p_moe_wins"], 0.5) - 1.0
    face = tint(look.colour, PALEST + DEEPER * sure)
    return Square(_words(row), size, face, quiet, look.hatch[:2])


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
    limits_told = [f"{1e3 * limit:g}" if np.isfinite(limit) else "any" for limit in limits]
    size = max(7.0, 1.9 + 0.85 * len(contexts)), 1.9 + 0.55 * len(limits)
    ax, place = board(ax, contexts, limits_told, size)
    for row in rows:
        at = contexts.index(row["context"]), limits.index(row["tpot_limit"])
        fill(ax, at, _square(row, 5.6 if style.is_narrow(ax) else 7.5), place)
    style.label(ax, title, "context [tokens]", "longest time per output token [ms]")
    names = {"moe": "MoE", "dense": "dense twin"}
    keys = style.keys({f"{names[who]} wins (paler: less sure)": LOOKS[who] for who in names})
    return style.legend_above(ax, 2, handles=keys)
