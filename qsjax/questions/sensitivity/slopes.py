"""Slopes at the optimum of every cell of one model on one accelerator."""

import dataclasses
from collections.abc import Sequence
from typing import get_args

import numpy as np

from qsjax.cost.metrics import OF_HARDWARE, Objective, check_metrics, check_prices
from qsjax.grid.cells import Winners
from qsjax.grid.gradients import Slopes, slopes_at
from qsjax.grid.parameters import Parameter, resolve, with_rounding, write
from qsjax.grid.solution import Solution
from qsjax.numerics.safe import Rounding
from qsjax.records.checks import check_choice

# `speedup` compares tokens/s/GPU with that of the first variant.
METRIC_NAMES: tuple[str, ...] = (*get_args(Objective), "speedup")


@dataclasses.dataclass(frozen=True, slots=True)
class CellSlopes:
    """Slopes at the optimum of every cell.

    Attributes:
        solution: the optima.
        parameters: along the second axis of every slope.
        metrics: along the first axis of every slope.
        rounding: how batch and cache blocks are rounded in the slopes.
        slopes: arrays (metric, parameter, cell), finite also where a cell is infeasible.
        is_defined: mask (metric, cell): feasible, and for `speedup` beside a feasible MoE.
    """

    solution: Solution
    parameters: tuple[Parameter, ...]
    metrics: tuple[str, ...]
    rounding: Rounding
    slopes: Slopes
    is_defined: np.ndarray


def _over_first_variant(slopes: Slopes, of: int, cells: int, variants: int) -> Slopes:
    """The slopes of metric `of` less those of the first variant: those of the ratio."""
    per = cells // variants

    def partner(x: np.ndarray) -> np.ndarray:
        return np.tile(x[..., :per], variants)

    def less(x: np.ndarray) -> np.ndarray:
        return x[of] - partner(x[of])

    value = slopes.value[of] / np.where(slopes.value[of] > 0, partner(slopes.value[of]), 1.0)
    rate = slopes.derivative[of] / slopes.value[of]
    derivative = value * (rate - partner(rate))
    sides = (less(slopes.left), less(slopes.right))
    return Slopes(value, less(slopes.elasticity), derivative, *sides)


def priced_winners(solution: Solution, rounding: Rounding) -> Winners:
    """The winners with the rounding of slopes, and with the price and power of the problem."""
    check_choice("rounding", rounding, Rounding)
    economy = solution.cells.economy
    prices = {name: np.asarray(getattr(economy, name)) for name in OF_HARDWARE}
    inputs = write(with_rounding(solution.winners.inputs, rounding), prices)
    return Winners(inputs, solution.winners.designs)


def slopes_of(
    solution: Solution,
    parameters: Sequence[str],
    metrics: Sequence[str] = ("tokens_per_s_per_gpu",),
    rounding: Rounding = "straight_through",
    *,
    one_sided: bool = True,
) -> CellSlopes:
    """Elasticities at the best design of every cell of a solution, as for `sensitivity`."""
    chosen = resolve(parameters)
    check_metrics(metrics, METRIC_NAMES)
    cells = solution.cells
    check_prices(metrics, cells.economy, cells.hardware.name)
    direct = tuple(dict.fromkeys(name for name in metrics if name != "speedup"))
    if "speedup" in metrics and "tokens_per_s_per_gpu" not in direct:
        direct = (*direct, "tokens_per_s_per_gpu")
    slopes = slopes_at(
        priced_winners(solution, rounding), chosen, direct, cells.economy, one_sided=one_sided
    )
    columns, defined = [], []
    moe = np.tile(solution.is_feasible[: cells.per_variant], cells.shape[0])
    for name in metrics:
        if name == "speedup":
            of = direct.index("tokens_per_s_per_gpu")
            columns.append(_over_first_variant(slopes, of, cells.cells, cells.shape[0]))
        else:
            columns.append(Slopes(*(x[direct.index(name)] for x in slopes)))
        defined.append(solution.is_feasible & (moe | (name != "speedup")))
    stacked = Slopes(*(np.stack(x) for x in zip(*columns, strict=True)))
    return CellSlopes(solution, chosen, tuple(metrics), rounding, stacked, np.stack(defined))
