"""What hardware costs: a sum of power laws that must grow with everything that may be chosen."""

import dataclasses
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from scipy.optimize import elementwise

from qsjax.grid.parameters import GROUPS, HARDWARE_PARAMETERS, bounds
from qsjax.numerics import trees
from qsjax.records.conversion import kind_of
from qsjax.records.fields import hint

LOG_SCALE = 20.0  # hardware is scaled by at most e^20 to cost a budget


@trees.record
@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """Cost of one quantity: `cost` at the reference value, growing with value^`exponent`."""

    cost: float
    exponent: float = 1.0


@trees.record
@dataclasses.dataclass(frozen=True, slots=True)
class CostModel:
    """Cost of hardware in any unit (USD, W, mm2): a sum of power laws.

    Attributes:
        prices: by hardware field or group (`flops`, `link_bw`), each relative to the reference
            hardware; these are the quantities that the design may choose.
        base: cost that does not depend on them.
    """

    prices: Mapping[str, Price]
    base: float = 0.0


def members(quantity: str) -> tuple[str, ...]:
    """Hardware fields that a quantity scales."""
    return GROUPS.get(quantity, (quantity,))


def _objection(name: str, price: Any) -> str:
    """Why a quantity cannot have a price; empty where it can."""
    known = [*HARDWARE_PARAMETERS, "flops", "link_bw"]
    if not isinstance(price, Price):
        return f"{name}: {price!r} is not a Price; give for example qsjax.Price(3.0)"
    if name not in known or any(m not in HARDWARE_PARAMETERS for m in members(name)):
        return f"{name}: not a hardware quantity; {hint(name, known)}"
    if bounds(members(name)[0])[1] <= 1.0:
        return f"{name}: a share between 0 and 1 is not bought; choose capacity or rates"
    if name.endswith(("latency", "overhead")) or "reserve" in name:
        return f"{name}: less of it is better: a cost that grows with it limits nothing"
    if not (np.isfinite(price.cost) and price.cost > 0):
        return f"{name}: cost {price.cost:g} allows infinite hardware; give a number above 0"
    if not (np.isfinite(price.exponent) and price.exponent > 0):
        return (
            f"{name}: exponent {price.exponent:g} allows infinite hardware, as its cost does not "
            "grow; give an exponent above 0"
        )
    return ""


def check_cost(model: CostModel, budget: float | None = None) -> None:
    """Raise one `ValueError` with everything that makes a cost model unusable.

    A quantity whose cost does not grow with it would become infinite.
    """
    example = 'qsjax.CostModel({"hbm_bw": qsjax.Price(3.0)})'
    if not isinstance(model, CostModel):
        raise ValueError(f"cost: {kind_of(model)} is not a CostModel; give for example {example}")
    if not isinstance(model.prices, Mapping):
        raise ValueError(
            f"cost: prices are {model.prices!r}, and no prices by name; give for example {example}"
        )
    numbers = [("base", model.base), ("budget", 0.0 if budget is None else budget)]
    sound = [(name, price) for name, price in model.prices.items() if isinstance(price, Price)]
    numbers += [(name, x) for name, price in sound for x in (price.cost, price.exponent)]
    wrong = [(n, x) for n, x in numbers if not isinstance(x, Real) and not hasattr(x, "dtype")]
    if wrong:
        told = [f"  {name}: {x!r} is not a number; give one" for name, x in wrong]
        raise ValueError("\n".join(["cost model:", *told]))
    priced = (_objection(name, price) for name, price in model.prices.items())
    problems = [text for text in priced if text]
    scaled = [m for name in model.prices for m in members(name)]
    twice = sorted({m for m in scaled if scaled.count(m) > 1})
    if twice:
        problems.append(f"{', '.join(twice)}: priced twice; price the group or its members")
    if not model.prices:
        problems.append("no quantity has a price; give for example hbm_bw=1")
    if budget is not None and not budget > model.base:
        problems.append(f"budget {budget:g} does not exceed the base cost {model.base:g}")
    if problems:
        raise ValueError("cost model:\n" + "\n".join(f"  {line}" for line in problems))


def cost_of(model: CostModel, factors: np.ndarray) -> np.ndarray:
    """Cost of hardware factors, shape (..., quantity)."""
    cost, exponent = np.array([(p.cost, p.exponent) for p in model.prices.values()]).T
    return model.base + (cost * factors**exponent).sum(axis=-1)


def cost_slopes(model: CostModel, factors: np.ndarray) -> np.ndarray:
    """Slopes of the cost in the logarithm of every factor, shape (..., quantity)."""
    cost, exponent = np.array([(p.cost, p.exponent) for p in model.prices.values()]).T
    return cost * exponent * factors**exponent


def affordable(model: CostModel, factors: np.ndarray, budget: float) -> np.ndarray:
    """`factors` scaled together so that they cost exactly the budget."""

    def excess(log_scale: np.ndarray, *quantities: np.ndarray) -> np.ndarray:
        return cost_of(model, np.stack(quantities, axis=-1) * np.exp(log_scale)[..., None]) - budget

    edge = np.full(factors.shape[:-1], LOG_SCALE)
    exact = {"xatol": 1e-15, "xrtol": 1e-15, "fatol": 0.0, "frtol": 0.0}
    columns = tuple(np.moveaxis(factors, -1, 0))
    solved = elementwise.find_root(excess, (-edge, edge), args=columns, tolerances=exact)
    return factors * np.exp(solved.x)[..., None]
