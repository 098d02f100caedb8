"""The optimum of every cell of a problem, as labelled arrays and rows."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.feasibility import REASONS
from qsjax.cost.ledger import RESOURCES, time_ledger
from qsjax.cost.meanings import attributes_of
from qsjax.cost.metrics import METRICS, PRICES, Economy, metric_value
from qsjax.cost.roofline import communication
from qsjax.grid.cells import Cells, Winners, blocks_of, full, records_on_host, step_on_host, take
from qsjax.grid.limits import LIMITS, describe, given_limits
from qsjax.grid.optimum import Best, best_of, binding_resource, least_hbm_bytes, winners_at
from qsjax.grid.problem import Problem
from qsjax.grid.progress import over
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.specs import DEGREES, KV_MODES, Convention, Partition

if TYPE_CHECKING:
    import xarray as xr

Row = dict[str, Any]
Arrays = dict[str, np.ndarray]
# What rows say of any design that runs: degrees, copies, batch, users, metrics without a price.
DESIGN_COLUMNS = (
    *(*DEGREES, "kv_mode", "replicas", "batch", "users"),
    *(name for name in METRICS if name != "gpus" and name not in PRICES),
)
_on_host_ledger, _on_host_messages = on_host(time_ledger), on_host(communication)


@on_host
def _on_host_metrics(step: StepCost, economy: Economy) -> dict[str, Array]:
    return {name: metric_value(name, step, economy) for name in METRICS}


@dataclasses.dataclass(frozen=True, slots=True)
class Solution:
    """The cells of one model on one accelerator with their best designs.

    Attributes:
        cells: what was solved.
        best: winners, runners-up and counts per cell.
        winners: inputs and designs of the winners, one row per cell.
        step: their cost, every term of shape (cells,).
    """

    cells: Cells
    best: Best
    winners: Winners
    step: StepCost

    @property
    def is_feasible(self) -> np.ndarray:
        """Whether any design of the cell runs and keeps the limits."""
        return np.asarray(self.best.feasible) > 0

    @property
    def margin(self) -> np.ndarray:
        """Score of the winner over that of the runner-up, less 1; NaN without a runner-up."""
        first, second = self.best.score, self.best.second_score
        has_second = np.isfinite(second) & (second != 0)
        ratio: np.ndarray = np.abs(first / np.where(has_second, second, 1.0) - 1.0)
        return np.where(has_second, ratio, np.nan)

    @property
    def reasons(self) -> np.ndarray:
        """Designs with each of `REASONS`, shape (reason, cell)."""
        return self.best.reasons + self.cells.illegal


def solve(cells: Cells) -> Solution:
    """The best design of every cell."""
    best = best_of(cells)
    chosen = winners_at(cells, cells.inputs, best)
    step: StepCost = full(step_on_host(chosen), (cells.cells,))
    return Solution(cells, best, chosen, step)


def solve_all(problem: Problem, rules: Convention | None = None) -> tuple[Solution, ...]:
    """The solutions of `blocks_of`."""
    return tuple(solve(cells) for cells in over(blocks_of(problem, rules)))


def plain(value: float) -> float | int:
    """A whole number as an int."""
    return int(value) if value == int(value) and abs(value) < 2**53 else float(value)


def cell_labels(cells: Cells) -> list[Row]:
    """Model, accelerator and coordinates of every cell by name, with the variant's q."""
    names, labels = {"model": cells.model.name, "hardware": cells.hardware.name}, []
    for at in np.ndindex(cells.shape):
        variant = cells.variants[at[0]]
        pairs = zip(cells.axes[1:], at[1:], strict=True)
        at_axes: Row = {axis.name: plain(axis.values[k]) for axis, k in pairs}
        labels.append(names | {"variant": variant.name, "q": variant.q, **at_axes})
    return labels


def kv_mode_name(code: float, kvp: float) -> str:
    """A KV mode in words; without KV parallelism there is none.

    >>> kv_mode_name(KV_MODES["cp"], 2.0), kv_mode_name(KV_MODES["cp"], 1.0)
    ('cp', 'none')
    """
    return next(name for name, own in KV_MODES.items() if own == code) if kvp > 1 else "none"


def degrees_of(part: Partition) -> Row:
    """Degrees of one partition by name; `kv_mode` in words."""
    row: Row = {name: int(scalar(getattr(part, name))) for name in DEGREES}
    return row | {"kv_mode": kv_mode_name(scalar(part.kv_mode), row["kvp"])}


def design_label(cells: Cells, position: int) -> Row:
    """Degrees of a design by name; `kv_mode` in words, `batch` where it is given."""
    label = degrees_of(take(cells.designs.partition, position))
    if cells.designs.batch is not None:
        label["batch"] = int(np.asarray(cells.designs.batch)[position])
    return label


def ledger_of(winners: Winners, step: StepCost) -> Arrays:
    """The time ledger of designs with their cost, one a row [s]; it sums to `tpot`."""
    records = records_on_host(winners.inputs, winners.designs.partition)
    ledger = _on_host_ledger(step, records, winners.inputs.convention)
    return full(ledger, np.shape(step.tpot))


def hidden_of(winners: Winners, step: StepCost) -> Arrays:
    """Communication that overlap hides [s], by the name of its ledger term, one a row."""
    records = records_on_host(winners.inputs, winners.designs.partition)
    messages = _on_host_messages(step, records, winners.inputs.convention)
    shape = np.shape(step.tpot)
    return {f"comm_{k}": np.broadcast_to(m.hidden, shape) for k, m in messages.items()}


def bound_by(solution: Solution) -> np.ndarray:
    """Name of the resource that takes the largest part of TPOT, per cell."""
    return np.array(list(RESOURCES))[binding_resource(solution.winners)]


def metrics_of(step: StepCost, economy: Economy) -> Arrays:
    """Every metric of `METRICS` that the hardware has a price or a power for, one a row."""
    known = [
        name
        for name in METRICS
        if name not in PRICES or np.all(np.asarray(getattr(economy, PRICES[name])) > 0)
    ]
    shape = np.shape(step.tpot)
    metrics = _on_host_metrics(step, economy)
    return {name: np.broadcast_to(np.asarray(metrics[name]), shape) for name in known}


def design_of(part: Partition, step: StepCost) -> Arrays:
    """Degrees, copies, batch and users (the sequences of all replicas) of designs, one a row."""
    degrees = {name: np.asarray(getattr(part, name)) for name in DEGREES}
    mode = np.where(degrees["kvp"] > 1, np.asarray(part.kv_mode), KV_MODES["none"])
    copies, batch = np.asarray(step.replicas), np.asarray(step.capacity.batch)
    return degrees | {
        "kv_mode": mode,
        "replicas": copies,
        "batch": batch,
        "users": copies * degrees["dp"] * batch,
    }


def design_row(design: Arrays, metrics: Arrays, at: int) -> Row:
    """One of many designs, with `kv_mode` in words, and its metrics."""
    row: Row = {name: plain(x[at]) for name, x in design.items()}
    row["kv_mode"] = kv_mode_name(float(design["kv_mode"][at]), row["kvp"])
    return row | {name: float(x[at]) for name, x in metrics.items() if name != "gpus"}


def limits_broken(solution: Solution) -> list[Row]:
    """Per cell, designs that run but break each limit that was given, in words."""
    limits = solution.cells.limits
    given = given_limits(limits)
    counts = dict(zip(LIMITS, solution.best.limits, strict=True))
    return [
        {describe(limits, name): int(counts[name][cell]) for name in given if counts[name][cell]}
        for cell in range(solution.cells.cells)
    ]


def rows_of(solution: Solution) -> list[Row]:
    """One row for each cell: the winner, or why there is none. Times in s."""
    metrics = metrics_of(solution.step, solution.cells.economy)
    design = design_of(solution.winners.designs.partition, solution.step)
    terms, hidden = (of(solution.winners, solution.step) for of in (ledger_of, hidden_of))
    binds = bound_by(solution)
    reasons, broken = solution.reasons, limits_broken(solution)
    least = least_hbm_bytes(solution.cells.inputs, solution.best)
    margin, feasible = solution.margin, solution.is_feasible
    rows = []
    for cell, label in enumerate(cell_labels(solution.cells)):
        row: Row = {
            **label,
            "is_feasible": bool(feasible[cell]),
            "cells_feasible": int(solution.best.feasible[cell]),
        }
        if row["is_feasible"]:
            row |= design_row(design, metrics, cell)
            row |= {
                "bound_by": str(binds[cell]),
                "terms": {name: float(t[cell]) for name, t in terms.items()},
                "hidden": {name: float(t[cell]) for name, t in hidden.items()},
                "margin": float(margin[cell]),
            }
            if np.isfinite(margin[cell]):
                row["runner_up"] = design_label(solution.cells, int(solution.best.second[cell]))
        else:
            counts = dict(zip(REASONS, reasons[:, cell].tolist(), strict=True))
            row["reasons"] = {name: count for name, count in counts.items() if count}
            row["reasons"] |= broken[cell]
            row["least_hbm_bytes"] = float(least[cell])
        rows.append(row)
    return rows


def dataset_of(solution: Solution, extra: Arrays | None = None) -> "xr.Dataset":
    """The winners of one model on one accelerator over (variant, gpus, context, ...)."""
    import xarray as xr  # 1.4 s to import: only those who ask for it pay

    cells = solution.cells
    dims = tuple(axis.name for axis in cells.axes)
    feasible = solution.is_feasible.reshape(cells.shape)
    least = least_hbm_bytes(cells.inputs, solution.best)

    def masked(x: Any) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, np.where(feasible, np.reshape(x, cells.shape), np.nan)

    numbers = metrics_of(solution.step, cells.economy) | {"margin": solution.margin}
    numbers |= design_of(solution.winners.designs.partition, solution.step)
    for kind, of in (("terms", ledger_of), ("hidden", hidden_of)):
        terms = of(solution.winners, solution.step)
        numbers |= {f"{kind}.{name}": t for name, t in terms.items()}
    numbers |= extra or {}
    data: dict[str, Any] = {name: masked(x) for name, x in numbers.items() if name not in dims}
    data |= {
        "bound_by": (dims, np.where(feasible, bound_by(solution).reshape(cells.shape), "")),
        "least_hbm_bytes": (dims, np.reshape(least, cells.shape)),
        "cells_feasible": (dims, solution.best.feasible.reshape(cells.shape)),
        "is_feasible": (dims, feasible),
        "infeasible_reasons": (("reason", *dims), solution.reasons.reshape(-1, *cells.shape)),
    }
    coords: dict[str, Any] = {axis.name: axis.values for axis in cells.axes}
    coords |= {"variant": [variant.label for variant in cells.variants], "reason": list(REASONS)}
    return xr.Dataset(data, coords)


def joined(
    problem: Problem, blocks: Sequence["xr.Dataset"], attributes: Row | None = None
) -> "xr.Dataset":
    """The data sets of all models and accelerators over axes of their own, with units.

    Blocks are in the order of `pairs_of`.
    What was asked with one value is a coordinate without an axis.
    """
    stated = problem.stated
    names = [device.name for device in stated.accelerators]
    if not stated.twins:
        blocks = [block.isel(variant=0) for block in blocks]
    lines = [list(blocks[k : k + len(names)]) for k in range(0, len(blocks), len(names))]
    by_model = [_concatenated(line, "hardware", names) for line in lines]
    data = _concatenated(by_model, "model", [model.name for model in stated.models])
    data = data.isel({name: 0 for name in stated.single if name in data.dims})
    for name in (*data.data_vars, *data.coords):
        data[name].attrs |= attributes_of(str(name))
    from importlib.metadata import version

    head = {"qsjax": version("qsjax"), "convention": stated.convention}
    return data.assign_attrs(head | (attributes or {}))


def _concatenated(parts: list["xr.Dataset"], name: str, labels: list[str]) -> "xr.Dataset":
    import pandas as pd
    import xarray as xr

    whole: xr.Dataset = xr.concat(
        parts,
        pd.Index(labels, name=name, dtype=object),  # as NumPy and xarray reduce them
        join="outer",
        data_vars="all",
        coords="different",
        compat="equals",
    )
    # Where one model has a variant that another lacks, nothing is feasible.
    filled = {"is_feasible": False, "cells_feasible": 0, "infeasible_reasons": 0, "bound_by": ""}
    for field, value in filled.items():
        if field in whole and whole[field].isnull().any():
            whole[field] = whole[field].fillna(value).astype(parts[0][field].dtype)
    return whole
