"""What a token costs, in money and in energy: price, power and how much of the time is used."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

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
