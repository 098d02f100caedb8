"""What the optimum depends on, as plain rows: slopes, where they end, maps, and spreads."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qsjax.cost.feasibility import REASONS
from qsjax.cost.ledger import RESOURCES
from qsjax.grid.parameters import read, resolve
from qsjax.grid.solution import cell_labels, design_label
from qsjax.questions.sensitivity import (
    Sensitivity,
    Solution,
    of_variant,
    problem,
    sensitivity,
    solve,
)
from qsjax.questions.sensitivity.switching import KINDS, Switches
from qsjax.questions.sensitivity.uncertainty import Outcome
from qsjax.records.specs import HardwareSpec, ModelSpec
from qsjax.records.units import GIB


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def cell_rows(solution: Solution) -> list[dict[str, Any]]:
    """One row per cell: the best design and its runner-up, or why there is none.

    An infeasible cell has `reasons` (designs by reason) and `least_hbm_bytes`, the capacity from
    which one of its legal designs fits (None if none is legal).
    """
    stated, best = solution.problem, solution.best
    resources, rows = list(RESOURCES), []
    for cell, label in enumerate(cell_labels(stated)):
        row = {**label, "is_feasible": bool(solution.is_feasible[cell])}
        if row["is_feasible"]:
            row |= design_label(stated, int(best.position[cell]))
            row[stated.objective] = abs(float(best.score[cell]))
            row["bound_by"] = resources[int(best.resource[cell])]
            row["margin"] = _number(solution.margin[cell])
            if row["margin"] is not None:
                row["runner_up"] = design_label(stated, int(best.second[cell]))
        else:
            counts = dict(zip(REASONS, np.asarray(best.reasons)[:, cell].tolist(), strict=True))
            row["reasons"] = {name: count for name, count in counts.items() if count}
            row["least_hbm_bytes"] = _number(solution.least_hbm_bytes[cell])
        rows.append(row)
    return rows


def slope_rows(result: Sensitivity, switches: Switches | None = None) -> list[dict[str, Any]]:
    """One row per (metric, parameter, cell).

    Elasticities of infeasible cells are None, with `masked` saying why. `switch_down` and
    `switch_up` are the nearest factors at which anything changes, and `switch_down_what`,
    `switch_up_what` say what; `partition_down`, `resource_up`, `winner_up` and so on are the
    factors of each kind. None means that nothing changes within the factors tried.
    """
    cells = cell_rows(result.solution)
    labels = cell_labels(result.solution.problem)
    changes = _switch_columns(switches) if switches is not None else None
    slopes, rows = result.slopes, []
    for m, metric in enumerate(result.metrics):
        for k, parameter in enumerate(result.parameters):
            at = np.asarray(read(result.solution.winners.inputs, parameter.members[0]))
            for cell, label in enumerate(labels):
                defined = bool(result.is_defined[m, cell])
                row: dict[str, Any] = {**label, "metric": metric, "parameter": parameter.name}
                row["value"] = float(at[cell])
                for name in ("elasticity", "left", "right", "derivative"):
                    number = getattr(slopes, name)[m, k, cell]
                    row[name] = float(number) if defined else None
                row["rounding"] = result.rounding
                row["bound_by"] = cells[cell].get("bound_by")
                if not defined:
                    row["masked"] = _why(cells[cell])
                if changes is not None:
                    row |= changes[k][cell]
                rows.append(row)
    return rows


def _why(cell: dict[str, Any]) -> str:
    if cell["is_feasible"]:
        return "no feasible MoE to compare with"
    reasons = ", ".join(cell["reasons"])
    least = cell["least_hbm_bytes"]
    if least is None:
        return f"infeasible ({reasons}): no legal design at any capacity"
    return f"infeasible ({reasons}): fits from hbm_bytes = {least:.6g} B ({least / GIB:,.1f} GiB)"


def _switch_columns(found: Switches) -> list[list[dict[str, Any]]]:
    """Columns of the switches, by parameter and cell."""
    nearest = found.nearest()
    sides = {"down": (found.down, found.down_to), "up": (found.up, found.up_to)}
    table: list[list[dict[str, Any]]] = []
    for k in range(len(found.parameters)):
        by_cell: list[dict[str, Any]] = []
        for cell in range(found.solution.problem.cells):
            row: dict[str, Any] = {
                "switch_down": _number(nearest[0][k, cell]),
                "switch_up": _number(nearest[1][k, cell]),
            }
            for side, (factor, to) in sides.items():
                at = row[f"switch_{side}"]
                first = factor[:, k, cell] == at if at is not None else np.zeros(len(KINDS), bool)
                kinds = [kind for kind, own in zip(KINDS, first, strict=True) if own]
                row[f"switch_{side}_what"] = " and ".join(
                    f"{kind} to {found.describe(kind, int(to[KINDS.index(kind), k, cell]))}"
                    for kind in kinds
                )
                for n, kind in enumerate(KINDS):
                    row[f"{kind}_{side}"] = _number(factor[n, k, cell])
            by_cell.append(row)
        table.append(by_cell)
    return table


@dataclasses.dataclass(frozen=True, slots=True)
class Map:
    """Tokens/s/GPU of the optimum over two hardware fields, with its elasticities.

    Arrays have the shape (y, x); NaN where no design is feasible.
    """

    x_name: str
    y_name: str
    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    x_elasticity: np.ndarray
    y_elasticity: np.ndarray
    today: tuple[float, float]


def throughput_map(
    model: ModelSpec,
    hardware: HardwareSpec,
    *,
    x: str = "hbm_bw",
    y: str = "hbm_bytes",
    context: float = 131072.0,
    span: float = 4.0,
    points: int = 17,
    variant: int = 0,
    **settings: Any,
) -> Map:
    """The optimum over two hardware fields, each from 1/span to span times its present value.

    Args:
        model: as for `sensitivity.problem`.
        hardware: likewise.
        x: continuous hardware field along the last axis.
        y: along the first axis.
        context: length [tokens].
        span: factor to both sides of the present values.
        points: values of each field.
        variant: 0 is the model itself, 1 its first twin.
        **settings: further arguments of `sensitivity.problem`.
    """
    chosen: Sequence[str] = (y, x)
    resolve(chosen)
    today = [float(np.asarray(getattr(hardware, name))) for name in chosen]
    values = [now * np.geomspace(1 / span, span, points) for now in today]
    overrides = {**settings.pop("overrides", {}), **dict(zip(chosen, values, strict=True))}
    stated = problem(model, hardware, contexts=[context], overrides=overrides, **settings)
    solution = solve(of_variant(stated, variant))
    slopes = sensitivity(solution, chosen, one_sided=False).slopes.elasticity[0]
    shape = (points, points)

    def shown(numbers: Any) -> np.ndarray:
        masked = np.where(solution.is_feasible, np.asarray(numbers), np.nan)
        first: np.ndarray = masked.reshape(-1, *shape)[0]
        return first

    rate = np.abs(solution.best.score)
    maps = (shown(rate), shown(slopes[1]), shown(slopes[0]))
    return Map(x, y, values[1], values[0], *maps, (today[1], today[0]))


def outcome_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """One row per cell: quantiles, probabilities and first-order indices by name."""
    rows = []
    for cell, label in enumerate(outcome.labels):
        row: dict[str, Any] = {**label, "seed": outcome.seed}
        levels = [f"p{100 * level:g}" for level in outcome.quantiles]
        row["objective"] = dict(zip(levels, outcome.throughput[:, cell].tolist(), strict=True))
        row["speedup_over_moe"] = dict(zip(levels, outcome.speedup[:, cell].tolist(), strict=True))
        row["p_feasible"] = float(outcome.p_feasible[cell])
        row["p_dense_wins"] = float(outcome.p_dense_wins[cell])
        for name, index in (
            ("first_order", outcome.first_order),
            ("first_order_verdict", outcome.first_order_verdict),
        ):
            row[name] = dict(zip(outcome.names, index[:, cell].tolist(), strict=True))
        rows.append(row)
    return rows
