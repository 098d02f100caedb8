"""Boards: maps of cells over context and a second coordinate, each with a colour and words."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from qsjax.plotting import style
from qsjax.plotting.rows import as_rows, named, why_infeasible
from qsjax.plotting.style import DENSE, INFEASIBLE, MOE, RESOURCES, Row
from qsjax.records.rows import degrees
from qsjax.records.units import tokens

if TYPE_CHECKING:
    import xarray as xr

Colour = tuple[float, float, float]


def tint(colour: str, share: float = 0.55) -> Colour:
    """`colour` mixed with white: a ground on which dark text reads on any page."""
    red, green, blue = (share * part + 1.0 - share for part in to_rgb(colour))
    return red, green, blue


class Square(NamedTuple):
    """A cell of a board; one without a `face` is empty, and its text in our ink.

    `edge` is the colour of the hatch, `size` that of the text [pt].
    """

    text: str
    size: float
    face: Colour | None
    edge: Any
    hatch: str


def board(
    ax: Axes | None, contexts: Sequence[float], names: Sequence[str], size: tuple[float, float]
) -> tuple[Axes, tuple[float, float]]:
    """A panel with a column for each context and a row for each name, from below.

    Args:
        ax: where to draw; a new panel if None.
        contexts: of the columns [tokens].
        names: of the rows.
        size: of a new panel [inch].

    Returns:
        The panel, and the width and height of a cell for text [inch]; a new panel suits any.
    """
    is_own, ax = ax is None, style.dressed(ax, size)
    room = (math.inf, math.inf) if is_own else (style.panel_width(ax), style.panel_height(ax))
    ax.set(xlim=(0, len(contexts)), ylim=(0, len(names)))
    ax.set_xticks(np.arange(len(contexts)) + 0.5, [tokens(context) for context in contexts])
    style.name_rows(ax, [k + 0.5 for k in range(len(names))], names)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax, (room[0] / len(contexts), room[1] / len(names))


def fill(ax: Axes, at: tuple[int, int], cell: Square, place: tuple[float, float]) -> None:
    """Draw a cell at its column and row, with its text if that fits into the place of a cell."""
    x, y = at
    ground = {"facecolor": cell.face or "none", "edgecolor": "none", "pad": 0.8}
    ax.add_patch(
        Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, facecolor=cell.face or "none", hatch=cell.hatch,
                  edgecolor=cell.edge, linewidth=0, alpha=1.0 if cell.face else 0.55)
    )  # fmt: skip
    ax.text(x + 0.5, y + 0.5, style.fitting(cell.text, cell.size, place), ha="center", va="center",
            fontsize=cell.size, color="#1b1f24" if cell.face else style.ink().text,
            bbox=ground if cell.face else None, linespacing=1.1)  # fmt: skip


LOOKS = {"moe": MOE, "dense": DENSE[0]._replace(hatch="////")}
# Share of the colour at which a win is even, and what a probability of 1 adds.
PALEST, DEEPER = 0.12, 0.75


def _side(row: Row, size: float) -> Square:
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
        fill(ax, at, _side(row, 5.6 if style.is_narrow(ax) else 7.5), place)
    style.label(ax, title, "context [tokens]", "longest time per output token [ms]")
    names = {"moe": "MoE", "dense": "dense twin"}
    keys = style.keys({f"{names[who]} wins (paler: less sure)": LOOKS[who] for who in names})
    return style.legend_above(ax, 2, handles=keys)


@style.styled
def best_partition_map(
    data: "Sequence[Row] | xr.Dataset",
    ax: Axes | None = None,
    *,
    y: Literal["variant", "gpus", "q"] = "variant",
    title: str | None = None,
) -> Axes:
    """The winning partition of every (context, `y`) cell, on the colour of what binds it.

    Infeasible cells are hatched and say why.

    Args:
        data: rows with `context`, `y`, the degrees and `bound_by`; for `gpus` or `q`, rows of one
            variant.
        ax: where to draw.
        y: what stands on the vertical axis.
        title: what the picture shows.
    """
    rows = as_rows(data)
    read = named(rows)[0] if y == "variant" else lambda row: row[y]
    names = list(dict.fromkeys(read(row) for row in rows))
    names = names[::-1] if y == "variant" else sorted(names)
    contexts = sorted({row["context"] for row in rows})
    labels = [f"{name:g}" if isinstance(name, int | float) else str(name) for name in names]
    size = max(5.0, 1.7 + 0.62 * len(contexts)), 1.7 + 0.72 * len(names)
    ax, place = board(ax, contexts, labels, size)
    for row in rows:
        at = contexts.index(row["context"]), names.index(read(row))
        fill(ax, at, _design(row, is_narrow=style.is_narrow(ax)), place)
    what = {"variant": None, "gpus": "GPUs", "q": "quality factor q of the dense twin"}[y]
    style.label(ax, title, "context [tokens]", what)
    return style.legend_above(ax, 5, handles=_binding_handles(rows))


def _design(row: Row, *, is_narrow: bool) -> Square:
    """The design on the colour of what binds it, or why there is none."""
    if not row["is_feasible"]:
        size, hatch = 5.2 if is_narrow else 6.4, INFEASIBLE.hatch[:3]
        return Square(why_infeasible(row), size, None, style.ink().quiet, hatch)
    look = RESOURCES.get(row.get("bound_by", ""), INFEASIBLE)
    edge, hatch = tint(look.colour, 0.85), look.hatch[:2]
    return Square(degrees(row, "", "\n"), 5.2 if is_narrow else 6.8, tint(look.colour), edge, hatch)


def _binding_handles(rows: Sequence[Row]) -> list[Patch]:
    present = {row.get("bound_by") for row in rows if row["is_feasible"]}
    handles = [
        Patch(
            facecolor=tint(look.colour),
            edgecolor=tint(look.colour, 0.85),
            hatch=look.hatch,
            linewidth=0,
            label=f"bound by {name}",
        )
        for name, look in RESOURCES.items()
        if name in present
    ]
    if any(not row["is_feasible"] for row in rows):
        handles.append(style.infeasible_key(INFEASIBLE.hatch))
    return handles
