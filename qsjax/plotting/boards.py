"""Boards: maps of cells over context and a second coordinate, each with a colour and words."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from qsjax.plotting import style
from qsjax.records.units import tokens

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


def fill(ax: Axes, at: tuple[int, int], own: Square, place: tuple[float, float]) -> None:
    """Draw a cell at its column and row, with its text if that fits into the place of a cell."""
    x, y = at
    ground = {"facecolor": own.face or "none", "edgecolor": "none", "pad": 0.8}
    ax.add_patch(
        Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, facecolor=own.face or "none", hatch=own.hatch,
                  edgecolor=own.edge, linewidth=0, alpha=1.0 if own.face else 0.55)
    )  # fmt: skip
    ax.text(x + 0.5, y + 0.5, style.fitting(own.text, own.size, place), ha="center", va="center",
            fontsize=own.size, color="#1b1f24" if own.face else style.ink().text,
            bbox=ground if own.face else None, linespacing=1.1)  # fmt: skip
