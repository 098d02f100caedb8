"""What a design is judged by: the list of metrics, and what a token costs in money and energy."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from qsjax.cost.decode import StepCost
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.specs import HardwareSpec
from qsjax.records.units import HOUR

TOKENS_PER_PRICE = 1e6  # prices are quoted per million tokens
NO_SLOPE = 1e-12  # a slope below is the rounding of two that cancel


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Economy:
    """Price and power of a GPU, and the share of the time in which it serves at full rate.

    Attributes:
        usd_per_hour: of one GPU, whether it serves or not.
        watts: of one GPU under load; the catalogue holds the nameplate, which is an upper bound.
        utilisation: share of the paid time in which the design serves at its rate, above 0 to 1.
        busy_power: share of `watts` drawn while serving.
        idle_power: share of `watts` drawn while not.
        pue: power of the facility over that of the GPUs (power usage effectiveness), at least 1.
    """

    usd_per_hour: ArrayLike
    watts: ArrayLike
    utilisation: ArrayLike = 1.0
    busy_power: ArrayLike = 1.0
    idle_power: ArrayLike = 0.0
    pue: ArrayLike = 1.0


def economy_of(
    hardware: HardwareSpec,
    *,
    usd_per_hour: float | None = None,
    watts: float | None = None,
    **shares: float,
) -> Economy:
    """Economy of an accelerator: the catalogue's price and power unless given.

    Raises:
        ValueError: with every number out of its range.
    """
    economy = Economy(
        usd_per_hour=hardware.usd_per_hour if usd_per_hour is None else usd_per_hour,
        watts=hardware.watts if watts is None else watts,
        **shares,
    )
    check_economy(economy)
    return economy


def check_economy(economy: Economy) -> None:
    """Raise `ValueError` with every number of `economy` that is out of its range."""
    bounds = {
        "usd_per_hour": (0.0, np.inf),
        "watts": (0.0, np.inf),
        "utilisation": (np.nextafter(0.0, 1.0), 1.0),
        "busy_power": (0.0, 1.0),
        "idle_power": (0.0, 1.0),
        "pue": (1.0, np.inf),
    }
    problems = []
    for name, (low, high) in bounds.items():
        value = np.asarray(getattr(economy, name), np.float64)
        if not np.all(np.isfinite(value) & (value >= low) & (value <= high)):
            allowed = f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"
            if name == "utilisation":
                allowed = "a share above 0, at most 1 (0.6 for 60 %)"
            problems.append(f"  {name}: {value.flat[0]:g} is not allowed; give {allowed}")
    if problems:
        raise ValueError("\n".join(["economy:", *problems]))


def usd_per_million_tokens(tokens_per_s_per_gpu: ArrayLike, economy: Economy) -> jax.Array:
    """Price of a million output tokens [USD]: GPU-hours paid over tokens made.

    >>> float(usd_per_million_tokens(1000.0, Economy(usd_per_hour=3.6, watts=0.0)))
    1.0
    """
    made = jnp.asarray(tokens_per_s_per_gpu) * economy.utilisation
    return TOKENS_PER_PRICE * jnp.asarray(economy.usd_per_hour) / (HOUR * made)


def joules_per_token(tokens_per_s_per_gpu: ArrayLike, economy: Economy) -> jax.Array:
    """Energy of an output token, idle time and facility included [J].

    >>> float(joules_per_token(1000.0, Economy(usd_per_hour=0.0, watts=700.0)))
    0.7
    """
    used = jnp.asarray(economy.utilisation)
    share = economy.busy_power * used + economy.idle_power * (1.0 - used)
    made = jnp.asarray(tokens_per_s_per_gpu) * used
    return jnp.asarray(economy.pue) * (jnp.asarray(economy.watts) * share) / made


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
METRICS: dict[Objective, Metric] = {
    "tokens_per_s_per_gpu": Metric("tokens/s/GPU", "throughput of each GPU"),
    "tokens_per_s_per_user": Metric("tokens/s/user", "rate of each sequence"),
    "tokens_per_s": Metric("tokens/s", "throughput of all GPUs together"),
    "tpot": Metric("s", "time per output token", less_is_better=True),
    "usd_per_million_tokens": Metric(
        "USD per million tokens", "price of output tokens", less_is_better=True
    ),
    "joules_per_token": Metric("J", "energy of an output token", less_is_better=True),
    "gpus": Metric("GPUs", "GPUs of the design", less_is_better=True),
    "headroom": Metric("1", "share of the usable memory that stays free"),
    "max_batch": Metric("sequences", "largest batch of an attention replica that fits"),
}
# What a metric is proportional to; without it there is none.
PRICES = {"usd_per_million_tokens": "usd_per_hour", "joules_per_token": "watts"}


def metric_value(name: str, step: StepCost, economy: Economy) -> jax.Array:
    """A metric of `METRICS` of every design, in its unit."""
    cap, rate = step.capacity, step.tokens_per_s_per_gpu
    match name:
        case "usd_per_million_tokens":
            return usd_per_million_tokens(rate, economy)
        case "joules_per_token":
            return joules_per_token(rate, economy)
        case "headroom":
            return 1.0 - (cap.weights + cap.batch * cap.kv_per_sequence) / cap.usable
        case "max_batch":
            return cap.max_batch
        case _:
            value: jax.Array = getattr(step, name)
            return value


def score_of(name: str, step: StepCost, economy: Economy) -> jax.Array:
    """A metric turned so that more is better."""
    value = metric_value(name, step, economy)
    return -value if METRICS[name].less_is_better else value  # type: ignore[index]  # checked


def check_metrics(names: Sequence[str], allowed: Sequence[str] = get_args(Objective)) -> None:
    """Raise `ValueError` with every name that is no metric, and the nearest ones."""
    problems = []
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, n=2) or allowed
            problems.append(f"{name!r} is not a metric; nearest names: {', '.join(near)}")
    if problems:
        raise ValueError("\n".join(problems))


def check_prices(names: Sequence[str], economy: Economy) -> None:
    """Raise `ValueError` for a cost or an energy of hardware without a price or power."""
    for name in names:
        field = PRICES.get(name)
        if field is not None and not np.all(np.asarray(getattr(economy, field)) > 0):
            raise ValueError(f"{name} needs {field} above 0; the hardware has none: give it one")


_usd, _joules = on_host(usd_per_million_tokens), on_host(joules_per_token)


def costs(tokens_per_s_per_gpu: float, economy: Economy) -> dict[str, float | None]:
    """Price and energy of a token at a rate; None without a price or a power."""
    usd, joules = (float(law(tokens_per_s_per_gpu, economy)) for law in (_usd, _joules))
    return {
        "usd_per_million_tokens": usd if np.all(np.asarray(economy.usd_per_hour)) else None,
        "joules_per_token": joules if np.all(np.asarray(economy.watts)) else None,
    }


@on_host
def _slopes(
    values: dict[str, jax.Array], rate: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """dy/dx x/y of price and energy for every input x."""

    def slopes(law: Any) -> dict[str, jax.Array]:
        def cost(at: dict[str, jax.Array]) -> jax.Array:
            fields: dict[str, Any] = {name: x for name, x in at.items() if name != "rate"}
            found: jax.Array = law(at["rate"], Economy(**fields))
            return found

        point = values | {"rate": rate}
        y, steep = jax.value_and_grad(cost)(point)
        return {name: steep[name] * x / y for name, x in point.items()}

    return slopes(usd_per_million_tokens), slopes(joules_per_token)


def elasticities(tokens_per_s_per_gpu: float, economy: Economy) -> dict[str, dict[str, float]]:
    """Per cent by which price and energy of a token change for one per cent of each input [1].

    Exact derivatives d(ln y)/d(ln x); inputs at 0 have none and are left out.
    """
    values: dict[str, Any] = {
        f.name: float(np.asarray(getattr(economy, f.name))) for f in dataclasses.fields(economy)
    }
    usd, joules = _slopes(values, tokens_per_s_per_gpu)  # type: ignore[arg-type]  # a number

    def kept(slopes: dict[str, jax.Array], needs: str) -> dict[str, float]:
        if values[needs] <= 0:
            return {}
        return {name: float(x) for name, x in slopes.items() if abs(x) > NO_SLOPE}

    return {
        "usd_per_million_tokens": kept(usd, "usd_per_hour"),
        "joules_per_token": kept(joules, "watts"),
    }
