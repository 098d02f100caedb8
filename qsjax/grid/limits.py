"""Limits of a serving team as masks: one bit for each limit that a design breaks."""

import dataclasses
import math

import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.feasibility import bits_of
from qsjax.cost.metrics import Economy, joules_per_token, usd_per_million_tokens
from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.records.conversion import seconds_of_text
from qsjax.records.specs import DEGREES, HardwareSpec, Partition
from qsjax.records.units import MS


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a design must keep; the defaults allow everything.

    Attributes:
        max_tpot: longest time per output token [s]; a text such as "50ms" too.
        min_user_rate: fewest tokens/s/user.
        max_gpus: most GPUs.
        min_headroom: share of the usable memory that stays free, 0 to below 1.
        max_usd: highest price of a million output tokens [USD].
        max_joules: highest energy of an output token [J].
        max_tp: largest degree; likewise `max_ep` and so on.
        tp_in_island: 1 if tensor parallelism must stay within an island.
    """

    max_tpot: ArrayLike = math.inf
    min_user_rate: ArrayLike = 0.0
    max_gpus: ArrayLike = math.inf
    min_headroom: ArrayLike = 0.0
    max_usd: ArrayLike = math.inf
    max_joules: ArrayLike = math.inf
    max_tp: ArrayLike = math.inf
    max_ep: ArrayLike = math.inf
    max_pp: ArrayLike = math.inf
    max_dp: ArrayLike = math.inf
    max_kvp: ArrayLike = math.inf
    tp_in_island: ArrayLike = 0.0

    def __post_init__(self) -> None:
        """Read a time with its unit; another text is refused with all that is wrong."""
        if isinstance(self.max_tpot, str):
            seconds = seconds_of_text(self.max_tpot)
            object.__setattr__(self, "max_tpot", self.max_tpot if seconds is None else seconds)


# Bit of each limit that a design breaks.
LIMITS: dict[str, int] = {
    field.name: 1 << bit for bit, field in enumerate(dataclasses.fields(Limits))
}
# A larger batch breaks these wherever a smaller one does: TPOT and memory rise with the batch.
RISING = ("max_tpot", "min_user_rate", "min_headroom")


def given_limits(limits: Limits) -> list[str]:
    """Names of the limits that differ from their default, which allows everything."""
    fields = dataclasses.fields(limits)
    return [f.name for f in fields if np.any(np.asarray(getattr(limits, f.name)) != f.default)]


def describe(limits: Limits, name: str) -> str:
    """A limit in words and in users' units.

    >>> describe(Limits(max_tpot=0.05), "max_tpot")
    'TPOT <= 50 ms'
    """
    value = float(np.asarray(getattr(limits, name)))
    if name.removeprefix("max_") in DEGREES:
        return f"{name.removeprefix('max_')} <= {value:g}"
    return {
        "max_tpot": f"TPOT <= {value / MS:g} ms",
        "min_user_rate": f"tokens/s/user >= {value:g}",
        "max_gpus": f"GPUs <= {value:g}",
        "min_headroom": f"memory headroom >= {value:.0%}",
        "max_usd": f"price <= {value:g} USD per million tokens",
        "max_joules": f"energy <= {value:g} J per token",
        "tp_in_island": "tp within an island",
    }[name]


def check_limits(limits: Limits, economy: Economy) -> None:
    """Raise `ValueError` with every limit that is out of range or cannot be judged.

    A limit on price needs a price per GPU-hour, and one on energy a power.
    """
    problems = []
    for field in dataclasses.fields(limits):
        given = getattr(limits, field.name)
        try:
            value = float(np.asarray(given))
        except (TypeError, ValueError):
            problems.append(f"{field.name}: {given!r} is not a number; give SI units (0.05 s)")
            continue
        if field.name == "min_headroom":
            if not 0 <= value < 1:
                problems.append(f"{field.name}: {value:g} is not allowed; give a share below 1")
        elif field.name != "tp_in_island" and (math.isnan(value) or value < 0):
            problems.append(f"{field.name}: {value:g} is not allowed; give a number above 0")
        elif field.name.startswith("max_") and value == 0:
            problems.append(f"{field.name}: 0 allows nothing; give a number above 0")
    for name, needs, flag in (
        ("max_usd", "usd_per_hour", "--usd-per-hour"),
        ("max_joules", "watts", "--watts"),
    ):
        if name in given_limits(limits) and not np.all(np.asarray(getattr(economy, needs)) > 0):
            problems.append(
                f"{name}: the accelerator has no {needs}, so nothing can be compared with the "
                f"limit; give {flag}"
            )
    if problems:
        raise ValueError("\n".join(["limits:", *(f"  {problem}" for problem in problems)]))


def violations(
    limits: Limits, part: Partition, hardware: HardwareSpec, step: StepCost, economy: Economy
) -> Array:
    """Bit set of `LIMITS` that each design breaks [int32]; 0 where it keeps all of them."""
    cap, rate = step.capacity, step.tokens_per_s_per_gpu
    filled = cap.weights + cap.batch * cap.kv_per_sequence
    broken = {
        "max_tpot": step.tpot > limits.max_tpot,
        "min_user_rate": step.tokens_per_s_per_user < limits.min_user_rate,
        "max_gpus": step.gpus > limits.max_gpus,
        # With no headroom asked for, B_max is what fits: rounding must not exclude it.
        "min_headroom": (xp.asarray(limits.min_headroom) > 0)
        & (filled > cap.usable * (1.0 - xp.asarray(limits.min_headroom))),
        "max_usd": usd_per_million_tokens(rate, economy) > limits.max_usd,
        "max_joules": joules_per_token(rate, economy, step.busy) > limits.max_joules,
        "tp_in_island": (xp.asarray(limits.tp_in_island) > 0)
        & (xp.asarray(part.tp) > hardware.island_size),
    }
    for degree in DEGREES:
        limit = getattr(limits, f"max_{degree}")
        broken[f"max_{degree}"] = xp.asarray(getattr(part, degree)) > limit
    return bits_of(broken, LIMITS)
