"""How numbers are written: token counts, SI prefixes, ticks, and labels moved apart."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis


def tokens(count: float) -> str:
    """A token count as people write it.

    >>> tokens(131072), tokens(1048576), tokens(1000)
    ('128k', '1M', '1000')
    """
    for unit, size in (("M", 2**20), ("k", 2**10)):
        if count >= size and count % size == 0:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


def about(count: float) -> str:
    """A token count to two digits, for a number between samples.

    >>> about(23456), about(6.2e6), about(300)
    ('23k', '5.9M', '300')
    """
    for unit, size in (("M", 2.0**20), ("k", 2.0**10)):
        if count >= size:
            return f"{float(f'{count / size:.2g}'):g}{unit}"
    return f"{float(f'{count:.2g}'):g}"


def quantity(value: float, digits: int = 3) -> str:
    """A number with an SI prefix, to `digits` significant digits.

    >>> quantity(34263), quantity(0.00612), quantity(4.5), quantity(0)
    ('34.3k', '0.00612', '4.5', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * (1 - 0.5 * 10**-digits):
            return f"{value / size:.{digits}g}{prefix}"
    return f"{value:.{digits}g}"


def with_unit(value: float, unit: str) -> str:
    """A number with an SI prefix and its unit.

    >>> with_unit(9.23e12, "B/s"), with_unit(0.5, "s")
    ('9.23 TB/s', '0.5 s')
    """
    text = quantity(value)
    return f"{text[:-1]} {text[-1]}{unit}" if text[-1].isalpha() else f"{text} {unit}"


def token_axis(axis: Axis, contexts: Sequence[float], most: int = 9) -> None:
    """Ticks at some of the given contexts on a base-2 axis, written 1k, 128k, 1M."""
    values = sorted(set(contexts))
    step = max(1, math.ceil(len(values) / most))
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_ticks(values[::step], labels=[tokens(value) for value in values[::step]])
    axis.set_ticks([], minor=True)


def number_axis(axis: Axis) -> None:
    """Ticks with SI prefixes; on a logarithmic axis only where a power of ten (or 1-2-5) stands."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.get_scale() == "log":
        low, high = sorted(axis.get_view_interval())
        span = high / low
        steps = (1.0,) if span > 300 else (1.0, 2.0, 5.0) if span > 8 else (1.0, 1.5, 2, 3, 5, 7)
        axis.set_major_locator(LogLocator(subs=steps))
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
