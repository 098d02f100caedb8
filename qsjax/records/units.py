"""Unit factors (`80 * GB`, `t / MS`), and how numbers with units are written."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

GB, TB = 1e9, 1e12
KIB, MIB, GIB = 2.0**10, 2.0**20, 2.0**30
TFLOP, PFLOP = 1e12, 1e15
US, MS = 1e-6, 1e-3
HOUR = 3600.0
BITS_PER_BYTE = 8
LISTED = 3  # numbers that are named one by one
# Seconds of a unit of time, as people and files write it.
TIMES = {"ns": 1e-9, "us": US, "ms": MS, "s": 1.0, "min": 60.0, "h": HOUR}
# Units of other quantities as people write them, by the unit of a field: Gb would be bits.
WRITTEN: dict[str, dict[str, float]] = {
    "s": TIMES,
    "B": {"GB": GB, "GiB": GIB, "MiB": MIB, "TB": TB},
    "B/s": {"GB/s": GB, "TB/s": TB, "Gbit/s": GB / BITS_PER_BYTE},
    "FLOP/s": {"TFLOP/s": TFLOP, "PFLOP/s": PFLOP},
}


def _keys(units: dict[str, float]) -> dict[str, float]:
    """Units as keys of files end in them: `gb_per_s`."""
    return {unit.lower().replace("/", "_per_"): size for unit, size in units.items()}


class Dimension(NamedTuple):
    """What a unit measures, and the units that keys of files may end in: one of each in SI."""

    name: str
    units: dict[str, float]


# By the unit of a field.
DIMENSIONS: dict[str, Dimension] = {
    "B": Dimension("capacity", _keys(WRITTEN["B"])),
    "B/s": Dimension("bandwidth", _keys(WRITTEN["B/s"])),
    "FLOP/s": Dimension("compute rate", _keys(WRITTEN["FLOP/s"])),
    "s": Dimension("time", {unit: TIMES[unit] for unit in ("us", "ms")}),
    "USD/h": Dimension("price", {"usd_per_hour": 1.0}),
    "W": Dimension("power", {"watts": 1.0}),
}


SHORT = 1e-4  # below it times are told in us [s]


def part_of_second(seconds: float) -> tuple[str, float]:
    """The unit in which a time below a second is told, and its size [s].

    >>> part_of_second(2e-6), part_of_second(0.02)
    (('us', 1e-06), ('ms', 0.001))
    """
    return ("us", US) if 0.0 < seconds < SHORT else ("ms", MS)


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


def chance(probability: float) -> str:
    """A probability, which no model knows to be 0 or 1.

    >>> chance(0.001), chance(0.42), chance(0.9993)
    ('<1 %', '42 %', '>99 %')
    """
    percent = 100.0 * probability
    return "<1 %" if percent < 0.5 else ">99 %" if percent > 99.5 else f"{percent:.0f} %"


def with_unit(value: float, unit: str, digits: int = 3) -> str:
    """A number with an SI prefix and its unit, to `digits` significant digits.

    >>> with_unit(9.23e12, "B/s"), with_unit(0.5, "s")
    ('9.23 TB/s', '0.5 s')
    """
    text = quantity(value, digits)
    return f"{text[:-1]} {text[-1]}{unit}" if text[-1].isalpha() else f"{text} {unit}"


def listed(
    values: Sequence[Any], write: Callable[[Any], str] = lambda value: f"{value:,.10g}"
) -> str:
    """Numbers in words, each by `write`: all of a few, the ends of many.

    >>> listed([1024, 2048, 4096, 8192])
    '1,024 to 8,192'
    """
    if len(values) > LISTED:
        return f"{write(min(values))} to {write(max(values))}"
    return ", ".join(map(write, values))
