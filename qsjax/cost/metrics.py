"""What a design is judged by: the list of metrics, and what a token costs in money and energy."""

import dataclasses
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.numerics import trees
from qsjax.numerics.jaxpr import on_host_by_jax
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import safe_log
from qsjax.records.checks import check_rules
from qsjax.records.fields import (
    AT_LEAST_ONE,
    EFFICIENCY,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    hint,
)
from qsjax.records.specs import HardwareSpec
from qsjax.records.tables import table
from qsjax.records.units import HOUR

TOKENS_PER_PRICE = 1e6  # prices are quoted per million tokens
NO_SLOPE = 1e-12  # a slope below is the rounding of two that cancel
# What an economy has of the hardware, unless it is stated.
OF_HARDWARE = ("usd_per_hour", "watts", "power_base", "power_gain", "power_exponent")


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Economy:
    """Price and power of a GPU, and the share of the time in which it serves at full rate.

    While serving a GPU draws `watts` times `power_base` + `power_gain` * load ^ `power_exponent`,
    at most `watts`. The defaults draw `watts` at any load.

    Attributes:
        usd_per_hour: price of one GPU, serving or idle [USD/h].
        watts: power of one GPU at full load [W]; the catalogue has the nameplate's.
        power_base: share of `watts` drawn while serving next to nothing.
        power_gain: further share at full load; above 1 - `power_base`, `watts` is drawn earlier.
        power_exponent: exponent of the load, the mean of the shares of the time in which
            arithmetic and HBM run.
        utilisation: share of the paid time in which the design serves at its rate, above 0 to 1.
        idle_power: share of `watts` drawn while not serving.
        pue: power of the facility over that of the GPUs (power usage effectiveness), at least 1.
    """

    usd_per_hour: ArrayLike
    watts: ArrayLike
    power_base: ArrayLike = 1.0
    power_gain: ArrayLike = 0.0
    power_exponent: ArrayLike = 1.0
    utilisation: ArrayLike = 1.0
    idle_power: ArrayLike = 0.0
    pue: ArrayLike = 1.0


_RULES = {
    **dict.fromkeys(("usd_per_hour", "watts", "power_gain"), NOT_NEGATIVE),
    **dict.fromkeys(("power_base", "idle_power"), SHARE),
    "utilisation": EFFICIENCY,
    "power_exponent": POSITIVE,
    "pue": AT_LEAST_ONE,
}


def economy_of(hardware: HardwareSpec, **given: float | None) -> Economy:
    """Economy of an accelerator: the catalogue's price and power unless fields are given.

    Watts that are given are drawn at any load; those of the catalogue by its law.

    Raises:
        ValueError: with every number out of its range.
    """
    stated: dict[str, Any] = {name: x for name, x in given.items() if x is not None}
    of_hardware = {name: getattr(hardware, name) for name in not_stated(stated)}
    economy = Economy(**of_hardware, **stated)
    check_economy(economy)
    return economy


def not_stated(stated: Collection[str]) -> tuple[str, ...]:
    """What the hardware says of an economy of which these fields are stated."""
    skipped = ("power_base", "power_gain", "power_exponent") if "watts" in stated else ()
    return tuple(name for name in OF_HARDWARE if name not in (*stated, *skipped))


def check_economy(economy: Economy) -> None:
    """Raise `ValueError` with every number of `economy` that is out of its range."""
    check_rules("economy", economy, _RULES)


def usd_per_million_tokens(tokens_per_s_per_gpu: ArrayLike, economy: Economy) -> Array:
    """Price of a million output tokens [USD]: GPU-hours paid over tokens made.

    >>> float(usd_per_million_tokens(1000.0, Economy(usd_per_hour=3.6, watts=0.0)))
    1.0
    """
    made = xp.asarray(tokens_per_s_per_gpu) * economy.utilisation
    return TOKENS_PER_PRICE * xp.asarray(economy.usd_per_hour) / (HOUR * made)


def busy_share(load: ArrayLike, economy: Economy) -> Array:
    """Share of `watts` that a GPU draws while it serves [1].

    Idle plus a power of the load, at most all; the form, with the arithmetic alone as load, is that
    of Vidur-Energy (https://github.com/ozcanmiraay/vidur-energy).

    Args:
        load: mean of the shares of the time in which arithmetic and HBM run.
        economy: power.

    >>> economy = Economy(usd_per_hour=0.0, watts=700.0, power_base=0.3, power_gain=0.8)
    >>> float(busy_share(0.25, economy)), float(busy_share(1.0, economy))
    (0.5, 1.0)
    """
    is_loaded = xp.greater(load, 0)
    grown = xp.where(is_loaded, xp.exp(economy.power_exponent * safe_log(load)), 0.0)
    share = economy.power_base + economy.power_gain * grown
    return xp.where(share < 1.0, share, 1.0)


def joules_per_token(
    tokens_per_s_per_gpu: ArrayLike, economy: Economy, load: ArrayLike = 1.0
) -> Array:
    """Energy of an output token, idle time and facility included [J].

    Args:
        tokens_per_s_per_gpu: while serving.
        economy: power and shares.
        load: as for `busy_share`, of the serving time.

    >>> float(joules_per_token(1000.0, Economy(usd_per_hour=0.0, watts=700.0)))
    0.7
    """
    used = xp.asarray(economy.utilisation)
    share = busy_share(load, economy) * used + economy.idle_power * (1.0 - used)
    made = xp.asarray(tokens_per_s_per_gpu) * used
    return xp.asarray(economy.pue) * (xp.asarray(economy.watts) * share) / made


class Metric(NamedTuple):
    """A figure of merit of a design: its unit, what it is, and which way is better."""

    unit: str
    meaning: str
    less_is_better: bool = False


Objective = Literal[
    "tokens_per_s_per_gpu",
    "tokens_per_s_per_user",
    "tokens_per_s",
    "tpot",
    "usd_per_million_tokens",
    "joules_per_token",
    "gpus",
    "headroom",
    "max_batch",
]
_METRICS = table("cost/meanings.toml")["metrics"]
METRICS: dict[Objective, Metric] = {name: Metric(**_METRICS[name]) for name in get_args(Objective)}
# Metrics that may be 0 or are no outcome have no target.
TARGETS = tuple(name for name in METRICS if name not in ("gpus", "headroom"))
# Metrics that follow from the time of a step; the others from memory and counts alone.
OF_TIME = tuple(name for name in METRICS if name not in ("gpus", "headroom", "max_batch"))
# What a metric is proportional to; without it there is none.
PRICES = {"usd_per_million_tokens": "usd_per_hour", "joules_per_token": "watts"}


def metric_value(name: str, step: StepCost, economy: Economy) -> Array:
    """A metric of `METRICS` of every design, in its unit."""
    cap, rate = step.capacity, step.tokens_per_s_per_gpu
    match name:
        case "usd_per_million_tokens":
            return usd_per_million_tokens(rate, economy)
        case "joules_per_token":
            return joules_per_token(rate, economy, step.busy)
        case "headroom":
            return 1.0 - (cap.weights + cap.batch * cap.kv_per_sequence) / cap.usable
        case "max_batch":
            return cap.max_batch
        case _:
            return getattr(step, name)


def score_of(name: str, step: StepCost, economy: Economy) -> Array:
    """A metric turned so that more is better."""
    value = metric_value(name, step, economy)
    return -value if METRICS[name].less_is_better else value  # type: ignore[index]  # checked


def check_metrics(names: Sequence[str], allowed: Sequence[str] = get_args(Objective)) -> None:
    """Raise `ValueError` with every name that is no metric, and the nearest ones, or for none."""
    problems = [] if names else ["metrics: none was given; give for example tpot"]
    for name in names:
        if name not in allowed:
            problems.append(f"{name!r} is not a metric; {hint(name, allowed)}")
    if problems:
        raise ValueError("\n".join(problems))


def check_prices(names: Sequence[str], economy: Economy, device: str) -> None:
    """Raise `ValueError` for a cost or an energy of an accelerator without a price or power."""
    for name in names:
        field = PRICES.get(name)
        if field is not None and not np.all(np.asarray(getattr(economy, field)) > 0):
            raise ValueError(f"{name} needs {field} above 0, and {device} has none: give it one")


_usd, _joules = on_host(usd_per_million_tokens), on_host(joules_per_token)
_share = on_host(busy_share)


def costs(tokens_per_s_per_gpu: float, load: float, economy: Economy) -> dict[str, float | None]:
    """Price and energy of a token at a rate and a load, and power; None where none is known."""
    has_price = np.all(np.asarray(economy.usd_per_hour))
    has_power = np.all(np.asarray(economy.watts))
    drawn = float(np.asarray(economy.watts) * _share(load, economy))
    return {
        "usd_per_million_tokens": float(_usd(tokens_per_s_per_gpu, economy)) if has_price else None,
        "joules_per_token": (
            float(_joules(tokens_per_s_per_gpu, economy, load)) if has_power else None
        ),
        "watts_per_gpu": drawn if has_power else None,
    }


def follows_load(economy: Economy) -> bool:
    """Whether a measured law says what a GPU draws; else it is the same at any load."""
    return bool(np.any(np.asarray(economy.power_gain) > 0))


@on_host_by_jax
def _slopes(
    values: dict[str, Array], rate: Array, load: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """dy/dx x/y of price and energy for every input x."""
    from qsjax.numerics.jax import jax

    def slopes(law: Any) -> dict[str, Array]:
        def cost(at: dict[str, Array]) -> Array:
            fields: dict[str, Any] = {name: x for name, x in at.items() if name != "rate"}
            return law(at["rate"], Economy(**fields))

        point = values | {"rate": rate}
        y, steep = jax.value_and_grad(cost)(point)
        return {name: steep[name] * x / y for name, x in point.items()}

    return slopes(usd_per_million_tokens), slopes(partial(joules_per_token, load=load))


def elasticities(
    tokens_per_s_per_gpu: float, load: float, economy: Economy
) -> dict[str, dict[str, float]]:
    """Per cent by which price and energy of a token change for one per cent of each input [1].

    Exact derivatives d(ln y)/d(ln x) at a load that stays; inputs at 0 have none and are left out.
    """
    values: dict[str, Any] = {
        f.name: float(np.asarray(getattr(economy, f.name))) for f in dataclasses.fields(economy)
    }
    usd, joules = _slopes(values, tokens_per_s_per_gpu, load)  # type: ignore[arg-type]  # numbers

    def kept(slopes: dict[str, Array], needs: str) -> dict[str, float]:
        if values[needs] <= 0:
            return {}
        return {name: float(x) for name, x in slopes.items() if abs(x) > NO_SLOPE}

    return {
        "usd_per_million_tokens": kept(usd, "usd_per_hour"),
        "joules_per_token": kept(joules, "watts"),
    }
