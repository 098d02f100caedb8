"""Where MoE and dense twin are equal, and what reaches a target: every root in an interval.

Both sides are re-optimised over all designs, and batches where these matter, at every value tried.
"""

import dataclasses
from typing import Any

import numpy as np

from qsjax.cost.metrics import METRICS, TARGETS, Objective, check_metrics
from qsjax.cost.prefix import Reuse
from qsjax.grid import prefixes
from qsjax.grid.cells import Cells, blocks_of, take
from qsjax.grid.optimum import best_of
from qsjax.grid.parameters import Parameter, bounds, read, resolve, varied
from qsjax.grid.problem import Problem, question
from qsjax.grid.roots import ONE_SIDED, SCAN_POINTS, SPAN
from qsjax.grid.solution import cell_labels
from qsjax.numerics.safe import scalar
from qsjax.output.result import Row
from qsjax.output.words import goal as goal_of
from qsjax.questions.break_even.answers import Crossings, LeastGpus
from qsjax.questions.break_even.reasons import explained
from qsjax.questions.break_even.roots import Roots, collect
from qsjax.records.checks import check_positive, value_problem
from qsjax.records.conversion import NoNumberError, as_float64
from qsjax.records.fields import Rule, facts_of
from qsjax.records.specs import FIELDS

POINTS = Rule(low=2.0, whole=True)
RANGES: dict[str, tuple[float, float]] = {"q": (0.1, 1e4), "context": (1024.0, 2.0**24)}
NO_GPUS = (
    "gpus counts whole GPUs, which have no equality: give a target (solve_for, or --metric and "
    "--target), or compare counts with explore"
)


def _ends(name: str, given: tuple[Any, Any]) -> tuple[float | None, float | None]:
    """The ends of an interval as numbers ("8k" is 8,192); None where none is given."""
    try:
        facts = {**FIELDS, **facts_of(Reuse)}.get(name)
        unit = facts.unit if facts else "1"
        low, high = (None if end is None else float(as_float64(end, unit)) for end in given)
    except (NoNumberError, TypeError) as error:
        raise ValueError(f"interval of {name}: {error}; give numbers for low and high") from error
    return low, high


def _whole(points: Any) -> int:
    if problem := value_problem(POINTS, points):
        raise ValueError(f"points: {problem}")
    return int(points)


def _interval(
    stated: Cells, parameter: Parameter, low: float | None, high: float | None
) -> tuple[float, float]:
    """The interval to search: as given, or a default around the present value."""
    name = parameter.members[0]
    low, high = _ends(name, (low, high))
    least, most = bounds(name)
    now = np.asarray(read(stated.inputs, name))
    around = (now[0] / SPAN, now[0] * SPAN) if now[0] > 0 else (None, None)
    start, end = RANGES.get(name, around)
    if name == "context" and stated.model.max_context > (low or start or 0.0):
        end = float(stated.model.max_context)  # beyond it no answer is asked for
    low, high = low if low is not None else start, high if high is not None else end
    if low is None or high is None:
        raise ValueError(f"{name} is 0 here, so there is no interval around it; give low and high")
    high = min(high, most)
    problems = []
    if not np.isfinite([low, high]).all() or low <= 0 or low < least:
        above = f"at least {least:g}" if least > 0 else "above 0"
        problems.append(f"low={low:g} must be {above}")
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


def _scores(stated: Cells, name: str, cell: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Best objective of each item: a cell with the field `name` at `value`; -inf if infeasible."""
    return np.asarray(best_of(stated, varied(take(stated.inputs, cell), {name: value})).score)


def _distinct_cells(stated: Cells, name: str) -> np.ndarray:
    """Cells that differ in something else than the varied parameter."""
    at = np.array(list(np.ndindex(stated.shape)))
    keep = np.ones(len(at), dtype=bool)
    for k, axis in enumerate(stated.axes):
        if axis.name == name:
            keep &= at[:, k] == 0
    if name == "q":
        keep &= at[:, 0] <= 1
    return np.flatnonzero(keep)


@question
def break_even(
    problem: Problem,
    parameter: str = "q",
    low: float | None = None,
    high: float | None = None,
    *,
    points: int = SCAN_POINTS,
    **requests: Any,
) -> Crossings:
    """Every value of a parameter at which the dense twin and the MoE are equally good.

    For `prefix_hit_rate`, `reuse_interval` and the fields of memory tiers (`host_bw`, ...): every
    value from which on another place for the cache of prefixes, or computing it again, makes the
    most tokens/s, for each model and each twin; `prefix_cache` says what is compared.

    Args:
        problem: what is asked; an axis of the parameter itself is ignored.
        parameter: `q`, `context`, or any continuous field.
        low: start of the interval; by default 1/100 of the present value (q: 0.1, context: 1k).
        high: its end; by default 100 times the present value (q: 10^4, context: what the model is
            published for, 16M where that is unknown), or the largest value that is allowed.
        points: values scanned; two roots within one step of them are not seen.
        **requests: `isl`, `osl`, `prefix_hit_rate` and `reuse_interval`, as for `prefix_cache`.

    Raises:
        ValueError: requests for a parameter that they do not affect, not one continuous parameter,
            an empty interval, or no twin to compare.
    """
    points = _whole(points)
    if parameter == "gpus":
        raise ValueError(NO_GPUS)
    if parameter in prefixes.PARAMETERS:
        ends = _ends(parameter, (low, high))
        return _places(problem, parameter, ends, points, prefixes.reuse_of(requests))
    if requests:
        raise ValueError(
            f"{', '.join(requests)}: requests do not affect {parameter}; leave them out, or "
            f"give one of {', '.join(prefixes.PARAMETERS)}"
        )
    chosen, stated = _one_member(parameter), problem.stated
    asked = _with_twins(problem, parameter)
    crossings = [
        r for cells in blocks_of(asked) for r in _equalities(cells, chosen, low, high, points)
    ]
    if not stated.twins:
        crossings = [dataclasses.replace(one, now=np.nan) for one in crossings]
    return Crossings(asked, parameter, None, tuple(crossings))


def _with_twins(problem: Problem, parameter: str) -> Problem:
    """A problem with dense twins, of any q where q is what is sought."""
    stated = problem.stated
    if stated.dense:
        names = ", ".join(dict.fromkeys(stated.dense))
        raise ValueError(
            f"{names}: no experts, so there is no dense twin to compare with; give a target"
        )
    if parameter != "q" and not stated.twins:
        raise ValueError("there is no dense twin to compare with: give twins, such as twins=[5]")
    return problem if stated.twins else dataclasses.replace(problem, twins=(1.0,))


def _places(
    problem: Problem,
    parameter: str,
    ends: tuple[float | None, float | None],
    points: int,
    reuse: Reuse,
) -> Crossings:
    """Where another place for prefixes becomes the best, for each design."""
    is_tiers, crossings = parameter in prefixes.TIER_FIELDS, []
    tiers = [parameter.partition("_")[0]] if is_tiers else None
    for design in prefixes.designs_of(problem, reuse, tiers=tiers):
        interval = prefixes.interval_of(design, parameter, *ends)
        turned = prefixes.turns(design, parameter, interval, points)
        now = scalar(getattr(design.records.hardware if is_tiers else reuse, parameter))
        cell, (roots, sides) = prefixes.design_label(design), turned
        crossings.append(Roots(cell, parameter, *interval, roots, sides, now=now))
    asked = dataclasses.replace(problem, objective="tokens_per_s_per_gpu")
    return Crossings(asked, parameter, None, tuple(crossings))


def _equalities(
    stated: Cells, chosen: Parameter, low: float | None, high: float | None, points: int
) -> list[Roots]:
    name, per = chosen.name, stated.per_variant

    def margin(cell: np.ndarray, x: np.ndarray) -> np.ndarray:
        both = _scores(stated, name, np.concatenate([cell, cell % per]), np.tile(np.exp(x), 2))
        dense, moe = both[: len(cell)], both[len(cell) :]
        feasible = np.isfinite(dense), np.isfinite(moe)
        safe = (np.where(ok, s, 1.0) for ok, s in zip(feasible, (dense, moe), strict=True))
        ratio = _log_ratio(*safe)
        ratio = np.where(feasible[0] & ~feasible[1], ONE_SIDED, ratio)
        ratio = np.where(feasible[1] & ~feasible[0], -ONE_SIDED, ratio)
        return np.where(feasible[0] | feasible[1], ratio, np.nan)

    cells = _distinct_cells(stated, name)
    words = ("moe", "equal", "dense", "neither feasible")
    interval = _interval(stated, chosen, low, high)
    twins = cells[cells >= per]
    crossings = collect(stated, name, interval, twins, margin, words=words, points=points)
    return explained(stated, crossings, twins)


def _log_ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How much better a is than b, as a logarithm; times are negative scores."""
    return np.sign(a) * (np.log(np.abs(a)) - np.log(np.abs(b)))


@question
def solve_for(
    problem: Problem,
    parameter: str,
    low: float | None = None,
    high: float | None = None,
    *,
    points: int = SCAN_POINTS,
    **target: float,
) -> Crossings | LeastGpus:
    """Every value of a parameter at which the best design of a cell just meets a target.

    Args:
        problem: what is asked; the metric of the target is its objective.
        parameter: a continuous field, such as `hbm_bw` or `inter_bw`; or `gpus`, for the least of
            the problem's GPU counts.
        low: start of the interval, as for `break_even`.
        high: its end.
        points: values scanned.
        **target: one metric and what it must reach, in its unit: `tpot=0.02` for at most 20 ms.

    Raises:
        ValueError: not a single continuous parameter, an empty interval, not one target above 0,
            an unknown metric.
    """
    metric, wanted = _target(target)
    points = _whole(points)
    given = problem.stated.twins
    if parameter == "q":
        problem = _with_twins(problem, parameter)
    asked = dataclasses.replace(problem, objective=metric)
    if parameter == "gpus":
        low, high = _ends(parameter, (low, high))
        counts = sorted(n for n in asked.stated.gpus if (low or 0) <= n <= (high or np.inf))
        if not counts:
            raise ValueError(f"gpus: no count of the problem lies in [{low}, {high}]; give others")
        asked = dataclasses.replace(asked, gpus=counts)
        rows = [r for cells in blocks_of(asked) for r in _least(cells, wanted)]
        return LeastGpus(asked, parameter, wanted, tuple(rows))
    chosen = _one_member(parameter)
    crossings = [
        root
        for cells in blocks_of(asked)
        for root in _targets(cells, chosen, _interval(cells, chosen, low, high), wanted, points)
    ]
    if parameter == "q" and not given:
        crossings = [dataclasses.replace(one, now=np.nan) for one in crossings]
    return Crossings(asked, parameter, wanted, tuple(crossings))


def _target(target: dict[str, Any]) -> tuple[Objective, float]:
    """The metric and the number of the one target.

    Raises:
        ValueError: there is not one, it is unknown, or no finite number above zero.
    """
    if len(target) != 1:
        raise ValueError(f"give one target, such as tpot=0.02; got {', '.join(target) or 'none'}")
    (metric,) = target
    check_metrics([metric], TARGETS)
    wanted = check_positive(metric, target[metric], METRICS[metric].unit)  # type: ignore[index]  # checked
    if len(wanted) > 1:
        raise ValueError(f"{metric}: {len(wanted)} values are given; give one")
    return metric, float(wanted[0])  # type: ignore[return-value]  # checked


def _targets(
    stated: Cells, chosen: Parameter, interval: tuple[float, float], target: float, points: int
) -> list[Roots]:
    goal = -target if METRICS[stated.objective].less_is_better else target

    def margin(cell: np.ndarray, x: np.ndarray) -> np.ndarray:
        score = _scores(stated, chosen.name, cell, np.exp(x))
        is_feasible = np.isfinite(score)
        ratio = _log_ratio(np.where(is_feasible, score, goal), np.full(len(score), goal))
        return np.where(is_feasible, ratio, np.nan)

    cells = _distinct_cells(stated, chosen.name)
    if chosen.name == "q":  # the mixture has none
        cells = cells[cells >= stated.per_variant]
    words = ("missed", "met", "met", "infeasible")
    crossings = collect(stated, chosen.name, interval, cells, margin, words=words, points=points)
    grid = np.geomspace(*interval, points)
    scores = _scores(stated, chosen.name, np.tile(cells, points), np.repeat(grid, len(cells)))
    best = np.abs(scores.reshape(points, -1).max(axis=0))
    told, unit = goal_of(stated.objective, target), METRICS[stated.objective].unit
    return [
        dataclasses.replace(one, best=float(value), goal=told, unit=unit)
        for one, value in zip(crossings, best, strict=True)
    ]


def _least(stated: Cells, target: float) -> list[Row]:
    """The first GPU count of each other cell that meets a target."""
    score = np.asarray(best_of(stated).score)
    is_less = METRICS[stated.objective].less_is_better
    is_met = np.isfinite(score) & (score >= (-target if is_less else target))
    at = [axis.name for axis in stated.axes].index("gpus")
    labels, rows = np.array(cell_labels(stated), dtype=object), []
    grid = [np.moveaxis(x.reshape(stated.shape), at, -1) for x in (labels, score, is_met)]
    for index in np.ndindex(grid[0].shape[:-1]):
        cell, scores, met = (x[index] for x in grid)
        first, any_fits = int(np.argmax(met)), bool(np.isfinite(scores).any())
        row: Row = dict(cell[0])
        row["gpus"] = int(cell[first]["gpus"]) if met.any() else None
        row["value"] = float(abs(scores[first])) if met.any() else None
        row["best"] = float(abs(scores.max())) if any_fits else None
        rows.append(row)
    return rows
