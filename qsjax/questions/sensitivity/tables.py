"""What the optimum depends on, as plain rows: slopes, where they end, and maps."""

import dataclasses
from typing import Any

import numpy as np

from qsjax.grid.cells import cells_of, of_variant
from qsjax.grid.parameters import read
from qsjax.grid.problem import Problem, question
from qsjax.grid.solution import cell_labels, rows_of, solve
from qsjax.questions.sensitivity.slopes import CellSlopes, slopes_of
from qsjax.questions.sensitivity.switching import KINDS, Switches
from qsjax.records.units import GIB

MAPPED = ("hbm_bytes", "hbm_bw")  # fields of a `Map`, along its first axis and its last


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def slope_rows(result: CellSlopes, switches: Switches | None = None) -> list[dict[str, Any]]:
    """One row per (metric, parameter, cell).

    Elasticities of infeasible cells are None, with `masked` saying why. `switch_down` and
    `switch_up` are the nearest factors at which anything changes, and `switch_down_what`,
    `switch_up_what` say what; `partition_down`, `resource_up`, `winner_up` and so on are the
    factors of each kind. None means that nothing changes within the factors tried.
    """
    cells = rows_of(result.solution)
    labels = cell_labels(result.solution.cells)
    changes = switch_columns(switches) if switches is not None else None
    slopes, rows = result.slopes, []
    held = np.asarray(read(result.solution.winners.inputs, "hbm_bytes"))
    for m, metric in enumerate(result.metrics):
        for k, parameter in enumerate(result.parameters):
            at = np.asarray(read(result.solution.winners.inputs, parameter.members[0]))
            for cell, label in enumerate(labels):
                defined = bool(result.is_defined[m, cell])
                row: dict[str, Any] = {**label, "metric": metric, "parameter": parameter.name}
                row["value"] = float(at[cell])
                for name in ("elasticity", "left", "right", "derivative"):
                    row[name] = float(getattr(slopes, name)[m, k, cell]) if defined else None
                row["rounding"] = result.rounding
                row["bound_by"] = cells[cell].get("bound_by")
                if not defined:
                    row["masked"] = _why(cells[cell], float(held[cell]))
                if changes is not None:
                    row |= changes[k][cell]
                rows.append(row)
    return rows


def _why(cell: dict[str, Any], held: float) -> str:
    """Why a cell on accelerators that hold so many bytes has no slope."""
    if cell["is_feasible"]:
        return "no feasible MoE to compare with"
    reasons = ", ".join(cell["reasons"])
    least = cell["least_hbm_bytes"]
    if not np.isfinite(least):
        return f"infeasible ({reasons}): no legal design at any capacity"
    if least <= held:  # limits are in the way
        return f"infeasible ({reasons})"
    return f"infeasible ({reasons}): fits from hbm_bytes = {least:.6g} B ({least / GIB:,.1f} GiB)"


def switch_columns(switches: Switches) -> list[list[dict[str, Any]]]:
    """Columns of the switches, by parameter and cell."""
    down, up = switches.nearest()
    sides = {
        "down": (down, switches.down, switches.down_to),
        "up": (up, switches.up, switches.up_to),
    }

    def columns(k: int, cell: int) -> dict[str, Any]:
        row: dict[str, Any] = {
            "switch_down": _number(down[k, cell]),
            "switch_up": _number(up[k, cell]),
        }
        for side, (nearest, factor, to) in sides.items():
            row[f"switch_{side}_what"] = " and ".join(
                f"{kind} to {switches.describe(kind, int(to[n, k, cell]))}"
                for n, kind in enumerate(KINDS)
                if factor[n, k, cell] == nearest[k, cell]
            )
            for n, kind in enumerate(KINDS):
                row[f"{kind}_{side}"] = _number(factor[n, k, cell])
        return row

    cells, parameters = range(switches.solution.cells.cells), range(len(switches.parameters))
    return [[columns(k, cell) for cell in cells] for k in parameters]


@dataclasses.dataclass(frozen=True, slots=True)
class Map:
    """Tokens/s/GPU of the optimum over HBM bandwidth (x) and capacity (y), with its elasticities.

    Arrays have the shape (y, x); NaN where no design is feasible.
    """

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    x_elasticity: np.ndarray
    y_elasticity: np.ndarray
    today: tuple[float, float]


@question
def throughput_map(problem: Problem, *, span: float = 4.0, points: int = 17) -> Map:
    """The optimum over `MAPPED`, each field from 1/span to span times its present value.

    Args:
        problem: its first model, accelerator, GPU count and context are drawn.
        span: factor to both sides of the present values.
        points: values of each field.
    """
    hardware = problem.stated.accelerators[0].spec
    today = [float(np.asarray(getattr(hardware, name))) for name in MAPPED]
    values = [now * np.geomspace(1 / span, span, points) for now in today]
    axes = {**problem.axes, **dict(zip(MAPPED, values, strict=True))}
    gpus, context = problem.stated.gpus[:1], problem.stated.contexts[:1]
    stated = dataclasses.replace(problem, gpus=gpus, context=context, axes=axes)
    solution = solve(of_variant(cells_of(stated), 0))
    slopes = slopes_of(solution, MAPPED, one_sided=False).slopes

    def shown(numbers: Any) -> np.ndarray:
        masked = np.where(solution.is_feasible, np.asarray(numbers), np.nan)
        return masked.reshape(-1, points, points)[0]

    down, along = slopes.elasticity[0]
    # Axes that the problem has keep their place, which may turn the two.
    first, last = ([axis.name for axis in solution.cells.axes].index(name) for name in MAPPED)
    value, right, up = (shown(numbers) for numbers in (slopes.value[0], along, down))
    if last < first:
        value, right, up = value.T, right.T, up.T
    return Map(values[1], values[0], value, right, up, (today[1], today[0]))
