"""Where MoE and dense twin are equal, and what reaches a target: every root in an interval.

Both sides are re-optimised over all designs at every value that is tried.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qsjax.grid.optimum import Problem, best_of, problem, take
from qsjax.grid.parameters import Parameter, bounds, read, resolve, write
from qsjax.grid.search import Objective, check_objective
from qsjax.grid.solution import cell_labels
from qsjax.questions.break_even.roots import ONE_SIDED, Roots, collect
from qsjax.records.specs import HardwareSpec, ModelSpec

SCAN_POINTS = 129
SPAN = 100.0
RANGES: dict[str, tuple[float, float]] = {"q": (0.1, 1e4), "context": (1024.0, 2.0**24)}
LEAST = {"tpot"}  # metrics of which less is better


def _interval(
    stated: Problem, parameter: Parameter, low: float | None, high: float | None
) -> tuple[float, float]:
    """The interval to search: as given, or a default around the present value."""
    name = parameter.members[0]
    least, most = bounds(name)
    now = np.asarray(read(stated.inputs, name))
    around = (now[0] / SPAN, now[0] * SPAN) if now[0] > 0 else (None, None)
    start, end = RANGES.get(name, around)
    low, high = low if low is not None else start, high if high is not None else end
    if low is None or high is None:
        raise ValueError(f"{name} is 0 here, so there is no interval around it; give low and high")
    high = min(high, most)
    problems = []
    if not np.isfinite([low, high]).all() or low <= 0 or low < least:
        problems.append(f"low={low:g} must be above 0 and at least {least:g}")
    if not low < high:
        problems.append(f"low={low:g} must be below high={high:g}")
    if problems:
        raise ValueError(f"interval of {name}: " + "; ".join(problems))
    return float(low), float(high)


def _one_member(name: str) -> Parameter:
    parameter = resolve([name])[0]
    if len(parameter.members) > 1:
        raise ValueError(
            f"{name} is a group ({', '.join(parameter.members)}), which has no one value; "
            "give one of its members"
        )
    return parameter


def _scores(stated: Problem, name: str, cell: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Best objective of each item: a cell with the field `name` at `value`; -inf if infeasible."""
    rows = take(stated.inputs, cell)
    if name == "q":  # the mixture itself has none
        value = np.where(np.asarray(rows.q) > 0, value, 0.0)
    rows = write(rows, {name: value})
    return np.asarray(best_of(rows, stated.designs, stated.objective).score)


def _distinct_cells(stated: Problem, name: str) -> np.ndarray:
    """Cells that differ in something else than the varied parameter."""
    at = np.array(list(np.ndindex(stated.shape)))
    keep = np.ones(len(at), dtype=bool)
    for k, axis in enumerate(stated.axes):
        if axis.name == name:
            keep &= at[:, k] == 0
    if name == "q":
        keep &= at[:, 0] <= 1
    return np.flatnonzero(keep)


def break_even(
    stated: Problem,
    parameter: str = "q",
    low: float | None = None,
    high: float | None = None,
    points: int = SCAN_POINTS,
) -> list[Roots]:
    """Every value of a parameter at which the dense twin and the MoE are equally good.

    Args:
        stated: cells from `sensitivity.problem`; an axis of the parameter itself is ignored.
        parameter: `q`, `context`, or any continuous field.
        low: start of the interval; by default 1/100 of the present value (q: 0.1, context: 1k).
        high: its end; by default 100 times the present value (q: 10^4, context: 16M), or the
            largest value that is allowed.
        points: values scanned; two roots within one step of them are not seen.

    Returns:
        One `Roots` for every cell of a twin.

    Raises:
        ValueError: not a single continuous parameter, an empty interval, or no twin to compare.
    """
    chosen = _one_member(parameter)
    if stated.shape[0] < 2:
        raise ValueError("the model has no experts, so there is no dense twin to compare it with")
    interval = _interval(stated, chosen, low, high)
    per = stated.cells // stated.shape[0]

    def margin(cell: np.ndarray, x: np.ndarray) -> np.ndarray:
        both = _scores(stated, parameter, np.concatenate([cell, cell % per]), np.tile(np.exp(x), 2))
        dense, moe = both[: len(cell)], both[len(cell) :]
        feasible = np.isfinite(dense), np.isfinite(moe)
        safe = (np.where(ok, s, 1.0) for ok, s in zip(feasible, (dense, moe), strict=True))
        ratio = _log_ratio(*safe)
        ratio = np.where(feasible[0] & ~feasible[1], ONE_SIDED, ratio)
        ratio = np.where(feasible[1] & ~feasible[0], -ONE_SIDED, ratio)
        return np.where(feasible[0] | feasible[1], ratio, np.nan)

    cells = _distinct_cells(stated, parameter)
    cells = cells[cells >= per]
    words = ("moe", "equal", "dense", "neither feasible")
    return collect(stated, parameter, interval, cells, margin, words, points)


def _log_ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How much better a is than b, as a logarithm; times are negative scores."""
    difference: np.ndarray = np.sign(a) * (np.log(np.abs(a)) - np.log(np.abs(b)))
    return difference


def solve_for(
    stated: Problem,
    parameter: str,
    metric: Objective,
    target: float,
    low: float | None = None,
    high: float | None = None,
    points: int = SCAN_POINTS,
) -> list[Roots]:
    """Every value of a parameter at which the best design of a cell just meets a target.

    Args:
        stated: cells; their objective is replaced by the metric.
        parameter: a continuous field, such as `hbm_bw` or `inter_bw`.
        metric: what must be reached: at least `target`, or at most for `tpot` [s].
        target: in the metric's unit.
        low: start of the interval, as for `break_even`.
        high: its end.
        points: values scanned.

    Raises:
        ValueError: not a single continuous parameter, an empty interval, a target not above 0,
            an unknown metric.
    """
    chosen = _one_member(parameter)
    check_target(target)
    check_objective(metric)
    wanted = dataclasses.replace(stated, objective=metric)
    interval = _interval(stated, chosen, low, high)
    goal = -target if metric in LEAST else target

    def margin(cell: np.ndarray, x: np.ndarray) -> np.ndarray:
        score = _scores(wanted, parameter, cell, np.exp(x))
        is_feasible = np.isfinite(score)
        ratio = _log_ratio(np.where(is_feasible, score, goal), np.full(len(score), goal))
        return np.where(is_feasible, ratio, np.nan)

    cells = _distinct_cells(stated, parameter)
    words = ("missed", "met", "met", "infeasible")
    found = collect(wanted, parameter, interval, cells, margin, words, points)
    grid = np.geomspace(*interval, points)
    scores = _scores(wanted, parameter, np.tile(cells, points), np.repeat(grid, len(cells)))
    best = np.abs(scores.reshape(points, -1).max(axis=0))
    return [dataclasses.replace(r, best=float(b)) for r, b in zip(found, best, strict=True)]


def check_target(target: float) -> None:
    """Raise `ValueError` unless a target is finite and above zero."""
    if not (np.isfinite(target) and target > 0):
        raise ValueError(f"target={target:g} must be a finite number above 0, in SI units")


def min_gpus(
    model: ModelSpec,
    hardware: HardwareSpec,
    counts: Sequence[int],
    metric: Objective,
    target: float,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Smallest GPU count whose best design meets a target, for every other cell.

    Args:
        model: as for `sensitivity.problem`.
        hardware: likewise.
        counts: GPU counts to try.
        metric: at least `target`, or at most for `tpot` [s].
        target: in the metric's unit.
        **settings: further arguments of `sensitivity.problem`.

    Returns:
        One row per cell: coordinates, `gpus` (None if no count does), `value` of the metric there,
        and `best` over all counts.
    """
    check_target(target)
    stated = problem(model, hardware, gpus=sorted(counts), objective=metric, **settings)
    score = np.asarray(best_of(stated.inputs, stated.designs, metric).score)
    value = np.where(np.isfinite(score), np.abs(score), np.nan)
    with np.errstate(invalid="ignore"):
        is_met = np.isfinite(score) & ((value <= target) if metric in LEAST else (value >= target))
    labels, rows = np.array(cell_labels(stated), dtype=object), []
    grid = [np.moveaxis(x.reshape(stated.shape), 1, -1) for x in (labels, value, is_met, score)]
    for at in np.ndindex(grid[0].shape[:-1]):
        cell, values, met, scores = (x[at] for x in grid)
        first = int(np.argmax(met))
        row = {name: number for name, number in cell[0].items() if name != "gpus"}
        best = float(values[np.argmax(scores)]) if np.isfinite(scores).any() else None
        row |= {"gpus": int(cell[first]["gpus"]) if met.any() else None, "best": best}
        row["value"] = float(values[first]) if met.any() else None
        rows.append(row)
    return rows
