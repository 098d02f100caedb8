"""Every change of order in an interval: scanned for changes of sign, then solved by SciPy."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.optimize import elementwise

# Factor around its value within which a parameter is searched by default, and at how many values.
SPAN, SCAN_POINTS = 100.0, 129
# Stands for the log ratio where only one side is feasible: larger than any real one.
ONE_SIDED = 1e3
TOLERANCE = 1e-13  # of log parameter
JUMP = 1e-6  # a root beside which |log ratio| stays above this is a step, not an equality

Kind = Literal["equal", "step", "feasibility"]


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """A value at which the order changes.

    `kind` is `equal` where both sides pass through equality, `step` where a whole batch or the
    design jumps from one side to the other, `feasibility` where one of them stops being feasible.
    """

    value: float
    kind: Kind


Margin = Callable[[np.ndarray, np.ndarray], np.ndarray]


def find_roots(
    margin: Margin, cells: np.ndarray, low: float, high: float, points: int
) -> list[list[tuple[float, Kind, float, float]]]:
    """Roots of every cell: value, kind, and the margin just before and after."""
    grid = np.linspace(np.log(low), np.log(high), points)
    scan = margin(np.tile(cells, points), np.repeat(grid, len(cells))).reshape(points, -1)
    before, after = scan[:-1], scan[1:]
    with np.errstate(invalid="ignore"):
        # A zero belongs to the interval that it starts, so that it is found once.
        crosses = (before * after < 0) | ((before == 0) & (after != 0))
        crosses |= np.isnan(before) != np.isnan(after)
    step, column = np.nonzero(crosses)
    roots: list[list[tuple[float, Kind, float, float]]] = [[] for _ in cells]
    if not len(step):
        return roots
    ends = np.stack([before[step, column], after[step, column]])
    item, start, end = cells[column], grid[step], grid[step + 1]
    only_one = np.isnan(ends).any(axis=0)
    root = _solved(margin, item, (start, end), only_one, np.where(np.isnan(ends[0]), -1.0, 1.0))
    root = np.where(ends[0] == 0, start, root)
    near = 1e-9 * (end - start)
    sides = margin(np.tile(item, 2), np.concatenate([root - near, root + near])).reshape(2, -1)
    # The order may change once more in the same step, before feasibility ends or after it begins.
    with np.errstate(invalid="ignore"):
        turned = only_one & (ends * sides < 0)
    where, k = np.nonzero(turned)
    if len(k):
        inner = np.stack([start, root + near]), np.stack([root - near, end])
        ends_of = inner[0][where, k], inner[1][where, k]
        more = _solved(margin, item[k], ends_of, np.zeros(len(k), bool), np.ones(len(k)))
        beside = np.concatenate([more - near[k], more + near[k]])
        root, column = np.append(root, more), np.append(column, column[k])
        sides = np.hstack([sides, margin(np.tile(item[k], 2), beside).reshape(2, -1)])
    for k in np.lexsort((root, column)):
        gap = float(np.min(np.abs(sides[:, k])))
        one_sided = np.isnan(sides[:, k]).any() or (np.abs(sides[:, k]) >= ONE_SIDED).any()
        kind: Kind = "feasibility" if one_sided else "step" if gap > JUMP else "equal"
        roots[column[k]].append((float(np.exp(root[k])), kind, *map(float, sides[:, k])))
    return roots


def _solved(
    margin: Margin,
    item: np.ndarray,
    ends: tuple[np.ndarray, ...],
    only_one: np.ndarray,
    sign: np.ndarray,
) -> np.ndarray:
    """Where the margin of each item turns between two values, or stops or begins to be defined.

    Args:
        margin: of items at logarithms of the parameter.
        item: which cells.
        ends: of each interval.
        only_one: whether the margin is defined at one end alone: what is sought is where that ends.
        sign: 1 where it is defined at the first end, else -1.
    """

    def signed(x: np.ndarray, k: np.ndarray) -> np.ndarray:
        value = margin(item[k], x)
        edge = np.where(np.isnan(value), -ONE_SIDED, ONE_SIDED) * sign[k]
        return np.where(only_one[k], edge, np.where(np.isnan(value), 0.0, value))

    solved = elementwise.find_root(
        signed,
        ends,
        args=(np.arange(len(item)),),
        tolerances={"xatol": TOLERANCE, "xrtol": TOLERANCE, "fatol": 0.0, "frtol": 0.0},
        maxiter=200,
    )
    return np.asarray(solved.x)
