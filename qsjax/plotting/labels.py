"""Names beside points: placed where they cover neither points nor each other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

# Offsets to try, in text heights and alignments, best first.
_PLACES = (
    (0.7, 0.0, "left", "center"),
    (0.4, 0.6, "left", "bottom"),
    (0.4, -0.6, "left", "top"),
    (-0.7, 0.0, "right", "center"),
    (-0.4, 0.6, "right", "bottom"),
    (-0.4, -0.6, "right", "top"),
    (0.0, 0.8, "center", "bottom"),
    (0.0, -0.8, "center", "top"),
    (0.8, 1.5, "left", "bottom"),
    (0.8, -1.5, "left", "top"),
    (-0.8, -1.5, "right", "top"),
    (-0.8, 1.5, "right", "bottom"),
    (2.0, -3.0, "left", "top"),
    (-2.0, 3.0, "right", "bottom"),
    (2.0, 3.0, "left", "bottom"),
    (-2.0, -3.0, "right", "top"),
    (4.0, -5.0, "left", "top"),
    (-4.0, 5.0, "right", "bottom"),
)
_FAR = 1.6  # text heights from which a thin line leads to the point
_OUTSIDE = 1000  # overlaps that a name takes before it leaves the panel
_GLYPH = 0.6  # width of an average glyph in text heights


class Name(NamedTuple):
    """A text for the point (x, y) in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def name_points(
    ax: Axes,
    names: Sequence[Name],
    obstacles: Sequence[tuple[float, float]] = (),
    size: float = 8.0,
    *,
    optional: bool = False,
) -> None:
    """Write each name near its point, at the first place that is free.

    Args:
        ax: axes with their final limits, title and legend.
        names: what to write, most important first.
        obstacles: points in data coordinates to keep clear.
        size: font size [pt].
        optional: leave out a name for which no place is free.
    """
    fig = ax.get_figure(root=True)
    assert fig is not None
    pixel = fig.dpi / 72
    height = size * pixel
    points = [(name.x, name.y) for name in names] + list(obstacles)
    pad = 0.45 * height
    _settle(ax)
    places = ax.transData.transform(np.array(points).reshape(-1, 2))
    taken = [Bbox.from_extents(x - pad, y - pad, x + pad, y + pad) for x, y in places]
    frame = ax.get_window_extent()
    for name in names:
        x, y = ax.transData.transform((name.x, name.y))
        boxes = [_box(name.text, x, y, place, height) for place in _PLACES]
        # A point's own mark is among those taken; a name may touch it.
        others = [box for box in taken if not box.fully_contains(x, y)]
        inside = [frame.contains(*box.min) and frame.contains(*box.max) for box in boxes]
        costs = [
            sum(map(box.fully_overlaps, others)) + _OUTSIDE * (not is_inside)
            for box, is_inside in zip(boxes, inside, strict=True)
        ]
        best = int(np.argmin(costs))
        if optional and costs[best]:
            continue
        taken.append(boxes[best])
        across, up, ha, va = _PLACES[best]
        ax.annotate(
            name.text,
            (name.x, name.y),
            xytext=(across * size, up * size),
            textcoords="offset points",
            ha=ha,
            va=va,
            fontsize=size,
            color=name.colour,
            zorder=6,
            arrowprops={"arrowstyle": "-", "color": name.colour, "linewidth": 0.6}
            if abs(up) > _FAR
            else None,
        )


def _settle(ax: Axes) -> None:
    """Do what is pending that `transData` depends on: limits, and the layout with its title."""
    ax.get_xlim(), ax.get_ylim()
    fig = ax.get_figure(root=True)
    if fig is not None and (layout := fig.get_layout_engine()) is not None:
        layout.execute(fig)


def _box(
    text: str, x: float, y: float, place: tuple[float, float, str, str], height: float
) -> Bbox:
    across, up, ha, va = place
    lines = text.split("\n")
    wide = _GLYPH * height * max(len(line) for line in lines)
    tall = 1.25 * height * len(lines)
    left = x + across * height - {"left": 0.0, "center": 0.5, "right": 1.0}[ha] * wide
    bottom = y + up * height - {"bottom": 0.0, "center": 0.5, "top": 1.0}[va] * tall
    return Bbox.from_bounds(left, bottom, wide, tall)
