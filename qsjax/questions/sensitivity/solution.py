"""Slopes at the optimum of every cell, with labels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qsjax.cost.feasibility import REASONS
from qsjax.cost.ledger import RESOURCES
from qsjax.grid.optimum import Winners
from qsjax.grid.parameters import Parameter, read, resolve, with_rounding
from qsjax.grid.solution import Solution
from qsjax.numerics.safe import Rounding
from qsjax.questions.sensitivity.gradients import Slopes, slopes_at
from qsjax.questions.sensitivity.metrics import METRICS, check_metrics, check_prices


@dataclasses.dataclass(frozen=True, slots=True)
class Sensitivity:
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
        difference: np.ndarray = x[of] - partner(x[of])
        return difference

    value = slopes.value[of] / np.where(slopes.value[of] > 0, partner(slopes.value[of]), 1.0)
    rate = slopes.derivative[of] / slopes.value[of]
    derivative = value * (rate - partner(rate))
    sides = (less(slopes.left), less(slopes.right))
    return Slopes(value, less(slopes.elasticity), derivative, *sides)


def sensitivity(
    solution: Solution,
    parameters: Sequence[str],
    metrics: Sequence[str] = ("tokens_per_s_per_gpu",),
    rounding: Rounding = "straight_through",
    *,
    one_sided: bool = True,
) -> Sensitivity:
    """Elasticities of every metric in every parameter at the best design of every cell.

    By the envelope theorem they are also the slopes of the optimum itself, wherever the winner is
    unique (`stability.switches` says how far that holds).

    Args:
        solution: from `solve`.
        parameters: names of continuous fields of any record, `q`, or groups of fields.
        metrics: names of `METRICS`; `speedup` is tokens/s/GPU over that of the first variant.
        rounding: `straight_through` (value of the whole batch, slope of the unrounded one),
            `floor` (slope of the whole batch: none between steps), or `relaxed` (fractional
            batches, in the value too). The winner is always that of whole batches.
        one_sided: also evaluate both sides of kinks.

    Raises:
        ValueError: a name is not a parameter or a metric, or is discrete, or a cost has no price.
    """
    chosen = resolve(parameters)
    check_metrics(metrics)
    problem = solution.problem
    check_prices(metrics, solution.winners.inputs)
    direct = tuple(dict.fromkeys(name for name in metrics if name != "speedup"))
    if "speedup" in metrics and "tokens_per_s_per_gpu" not in direct:
        direct = (*direct, "tokens_per_s_per_gpu")
    inputs = with_rounding(solution.winners.inputs, rounding)
    slopes = slopes_at(
        Winners(inputs, solution.winners.designs), chosen, direct, one_sided=one_sided
    )
    columns, defined = [], []
    moe = np.tile(solution.is_feasible[: problem.cells // len(problem.variants)], problem.shape[0])
    for name in metrics:
        if name == "speedup":
            of = direct.index("tokens_per_s_per_gpu")
            columns.append(_over_first_variant(slopes, of, problem.cells, problem.shape[0]))
        else:
            columns.append(Slopes(*(x[direct.index(name)] for x in slopes)))
        defined.append(solution.is_feasible & (moe | (name != "speedup")))
    stacked = Slopes(*(np.stack(x) for x in zip(*columns, strict=True)))
    return Sensitivity(solution, chosen, tuple(metrics), rounding, stacked, np.stack(defined))


def to_dataset(result: Sensitivity) -> Any:
    """The slopes as an `xarray.Dataset` over (metric, parameter, variant, gpus, context, ...).

    NaN where a cell is infeasible; `infeasible_reasons` counts its designs by reason, and
    `least_hbm_bytes` is the capacity from which it has a feasible one.
    """
    import xarray as xr  # 1.4 s to import: only those who ask for it pay

    solution, problem = result.solution, result.solution.problem
    cell_dims = tuple(axis.name for axis in problem.axes)
    dims = ("metric", "parameter", *cell_dims)

    def cells(x: Any) -> Any:
        return cell_dims, np.reshape(np.asarray(x), problem.shape)

    def slope(x: np.ndarray) -> Any:
        masked = np.where(result.is_defined[:, None], x, np.nan)
        return dims, masked.reshape(*x.shape[:2], *problem.shape)

    values = [np.asarray(read(solution.winners.inputs, p.members[0])) for p in result.parameters]
    metric = np.where(result.is_defined, result.slopes.value, np.nan)
    best = solution.best
    data = {
        "elasticity": slope(result.slopes.elasticity),
        "left": slope(result.slopes.left),
        "right": slope(result.slopes.right),
        "derivative": slope(result.slopes.derivative),
        "value": (("metric", *cell_dims), metric.reshape(-1, *problem.shape)),
        "at": (("parameter", *cell_dims), np.stack(values).reshape(-1, *problem.shape)),
        "bound_by": cells(np.array(list(RESOURCES))[np.asarray(best.resource)]),
        "margin": cells(solution.margin),
        "is_feasible": cells(solution.is_feasible),
        "least_hbm_bytes": cells(solution.least_hbm_bytes),
        "infeasible_reasons": (
            ("reason", *cell_dims),
            np.asarray(best.reasons).reshape(-1, *problem.shape),
        ),
    }
    coords: dict[str, Any] = {axis.name: axis.labels for axis in problem.axes}
    coords |= {
        "metric": list(result.metrics),
        "parameter": [parameter.name for parameter in result.parameters],
        "reason": list(REASONS),
        "unit": ("metric", [METRICS[name] for name in result.metrics]),
    }
    return xr.Dataset(data, coords, {"rounding": result.rounding, "objective": problem.objective})
