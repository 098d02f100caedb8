"""Ticks of token counts and of numbers with SI prefixes, and labels moved apart."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from qsjax.plotting import style
from qsjax.records.units import quantity, tokens

_LINEAR = 1.6  # where the ends differ by less, a logarithmic axis has even ticks


def token_axis(axis: Axis, contexts: Sequence[float], most: int = 9) -> None:
    """Ticks at some of the given contexts on a base-2 axis, written 1k, 128k, 1M."""
    values = sorted(set(contexts))
    step = max(1, math.ceil(len(values) / most))
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_ticks(values[::step], labels=[tokens(value) for value in values[::step]])
    axis.set_ticks([], minor=True)
    if len(values) == 1:  # matplotlib's own limits put it at the edge
        axis.set_view_interval(values[0] / 2.0, values[0] * 2.0, ignore=True)


def number_axis(*axes: Axis) -> None:
    """Ticks with SI prefixes; on a logarithmic axis only where a power of ten (or 1-2-5) stands."""
    for axis in axes:
        if axis.get_scale() == "log":
            low, high = sorted(axis.get_view_interval())
            span = high / low
            fine = (1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
            crowded = axis is axis.axes.xaxis and style.is_narrow(axis.axes)
            ends = (20.0, 3.0) if crowded else (300.0, 8.0)
            powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
            steps = fine[max(sum(span <= end for end in ends), int(powers < 2))]
            axis.set_major_locator(LogLocator(subs=steps) if span > _LINEAR else MaxNLocator(5))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """`positions` moved apart so that neighbours are at least `gap` away, order kept.

    >>> spread([0.0, 0.1, 1.0], 0.5)
    [-0.2, 0.3, 1.0]
    """
    order = np.argsort(np.asarray(positions, dtype=float), kind="stable")
    groups: list[tuple[float, list[int]]] = []
    for index in order:
        groups.append((float(positions[index]), [int(index)]))
        while len(groups) > 1:
            (below, first), (above, second) = groups[-2:]
            reach = gap * (len(first) + len(second)) / 2
            if above - below >= reach - 1e-12:
                break
            weight = len(first) + len(second)
            middle = (below * len(first) + above * len(second)) / weight
            groups[-2:] = [(middle, first + second)]
    placed = [0.0] * len(positions)
    for middle, members in groups:
        for k, index in enumerate(members):
            placed[index] = round(middle + gap * (k - (len(members) - 1) / 2), 9)
    return placed
