"""Unit factors: multiply on the way in, divide on the way out (`80 * GB`, `t / MS`)."""

from typing import NamedTuple

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KIB, MIB, GIB = 2.0**10, 2.0**20, 2.0**30
GFLOP, TFLOP, PFLOP = 1e9, 1e12, 1e15
US, MS = 1e-6, 1e-3
HOUR = 3600.0
BITS_PER_BYTE = 8


class Dimension(NamedTuple):
    """What a unit measures, and the units that keys of files may end in: one of each in SI."""

    name: str
    units: dict[str, float]


# By the unit of a field.
DIMENSIONS: dict[str, Dimension] = {
    "B": Dimension("capacity", {"gb": GB, "gib": GIB, "mib": MIB, "tb": TB}),
    "B/s": Dimension(
        "bandwidth", {"gb_per_s": GB, "tb_per_s": TB, "gbit_per_s": GB / BITS_PER_BYTE}
    ),
    "FLOP/s": Dimension("compute rate", {"tflop_per_s": TFLOP, "pflop_per_s": PFLOP}),
    "s": Dimension("time", {"us": US, "ms": MS}),
    "USD/h": Dimension("price", {"usd_per_hour": 1.0}),
    "W": Dimension("power", {"watts": 1.0}),
}
