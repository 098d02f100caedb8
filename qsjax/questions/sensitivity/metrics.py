"""What is differentiated: figures of merit of a design, all positive where it is feasible."""

import difflib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.grid.parameters import Inputs
from qsjax.records.units import HOUR

MILLION = 1e6
METRICS: dict[str, str] = {
    "tokens_per_s_per_gpu": "tokens/s/GPU",
    "tpot": "s",
    "max_batch": "sequences",
    "speedup": "dense over MoE",
    "tokens_per_s_per_user": "tokens/s/user",
    "usd_per_million_tokens": "USD per million tokens",
    "joules_per_token": "J",
}


# What a metric is proportional to; at 0 it has no logarithm.
PRICES = {"usd_per_million_tokens": "usd_per_hour", "joules_per_token": "watts"}


def metric_value(name: str, step: StepCost, inputs: Inputs) -> jax.Array:
    """The metric of every row, in the unit of `METRICS`; `speedup` is not a metric of one row."""
    rate = step.tokens_per_s_per_gpu
    match name:
        case "max_batch":
            return step.capacity.max_batch
        case "usd_per_million_tokens":
            return jnp.asarray(inputs.hardware.usd_per_hour) * (MILLION / HOUR) / rate
        case "joules_per_token":
            return jnp.asarray(inputs.hardware.watts) / rate
        case _:
            value: jax.Array = getattr(step, name)
            return value


def check_metrics(names: Sequence[str]) -> None:
    """Raise `ValueError` with every name that is not a metric."""
    for name in names:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=2) or list(METRICS)
            raise ValueError(f"{name!r} is not a metric; nearest names: {', '.join(near)}")


def check_prices(names: Sequence[str], inputs: Inputs) -> None:
    """Raise `ValueError` for a cost or an energy of hardware without a price or power."""
    for name in names:
        field = PRICES.get(name)
        if field is not None and not np.all(np.asarray(getattr(inputs.hardware, field)) > 0):
            raise ValueError(f"{name} needs {field} above 0; the hardware has none: give it one")
