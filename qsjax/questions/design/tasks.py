"""One inverse problem, its exact search and its smooth refinement."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from qsjax.cost.metrics import METRICS, Economy, Objective, score_of
from qsjax.grid.cells import Cells, Winners, step_of, take
from qsjax.grid.optimum import Best, best_of
from qsjax.grid.parameters import read, with_rounding, write
from qsjax.numerics.jax import jax
from qsjax.numerics.jaxpr import hoisted_by_jax, host_unless_traced
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.numpy_backend import Hoisted
from qsjax.questions.design.costs import CostModel, cost_of, cost_slopes, members

SPAN = 100.0  # hardware is sought within this factor of the reference, both ways
WHOLE = 1e-9  # slack (log) by which batches fit, so that rounding cannot lose a whole one
MET = 1e-9  # relative distance by which a target still counts as met


@host_unless_traced
def _laws(
    winners: Winners,
    economy: Economy,
    x: Sequence[Array],
    *,
    quantities: tuple[str, ...],
    metric: Objective,
) -> tuple[Array, Array]:
    """Log metric (larger is better) and log of B_max over the least batch, at log factors x."""
    fields = {
        field: read(winners.inputs, field) * xp.exp(own)
        for own, name in zip(x, quantities, strict=True)
        for field in members(name)
    }
    step = step_of(winners._replace(inputs=write(winners.inputs, fields)))
    value = xp.log(xp.abs(score_of(metric, step, economy)))
    batch = winners.designs.batch
    room = step.capacity.max_batch / (1.0 if batch is None else xp.asarray(batch))
    # Linear below what must fit, so that the constraint has a slope where nothing fits yet.
    fits = xp.where(room > 1, xp.log(xp.where(room > 1, room, 1.0)), room - 1.0)
    return (-value if METRICS[metric].less_is_better else value), fits


def _slopes_along(
    winners: Winners, economy: Economy, along: tuple[Array, ...], x: tuple[Array, ...], **how: Any
) -> tuple[Array, Array]:
    return jax.jvp(partial(_laws, winners, economy, **how), (x,), (along,))[1]


Law = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _latest(law: Law) -> Law:
    """`law` with its last answer kept: goal and limits ask for one point after the other."""
    kept = lru_cache(maxsize=1)(lambda point: law(np.frombuffer(point)))
    return lambda x: kept(x.tobytes())


class Laws:
    """Log metric and log room of every workload at log factors, and their slopes, by NumPy.

    A solver asks some hundred times: compiling takes longer, and what the factors do not reach is
    computed once.
    """

    def __init__(self, task: "Task", winners: Winners) -> None:
        self.rows = np.shape(winners.inputs.q)
        kept = winners, task.stated.economy
        how: dict[str, Any] = {"quantities": task.quantities, "metric": task.metric}
        nowhere = (0.0,) * len(task.quantities)
        directions = tuple(np.eye(len(nowhere))[:, :, None])
        self._law = Hoisted(_laws, kept, nowhere, **how)
        self._slope = hoisted_by_jax(_slopes_along, (*kept, directions), nowhere, **how)
        self.values, self.slopes = _latest(self._values), _latest(self._slopes)

    def _values(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of both logs, each of shape (workload,)."""
        first, second = (np.broadcast_to(log, self.rows) for log in self._law(tuple(x)))
        return first, second

    def _slopes(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of both logs in every log factor, each of shape (workload, quantity)."""
        shape = len(x), *self.rows
        first, second = (np.broadcast_to(slope, shape).T for slope in self._slope(tuple(x)))
        return first, second


class Task:
    """One inverse problem: workloads, weights, cost, and what is sought."""

    def __init__(
        self,
        stated: Cells,
        cost: CostModel,
        weights: Sequence[float] | None,
        budget: float | None,
        targets: np.ndarray | None,
    ) -> None:
        self.stated, self.cost, self.metric = stated, cost, stated.objective
        self.budget, self.targets = budget, targets
        given = np.ones(stated.cells) if weights is None else np.asarray(weights, float)
        if given.shape != (stated.cells,) or not (np.isfinite(given) & (given > 0)).all():
            raise ValueError(f"weights: give {stated.cells} numbers above 0, one per workload")
        self.weights = given / given.sum()
        self.quantities = tuple(cost.prices)
        fields = [field for name in self.quantities for field in members(name)]
        free = [field for field in fields if not np.any(read(stated.inputs, field))]
        if free:
            names = ", ".join(free)
            raise ValueError(f"{names}: 0 on the reference hardware; price what it has")
        self.sign = -1.0 if METRICS[stated.objective].less_is_better else 1.0

    def search(self, factors: np.ndarray) -> Best:
        """Exact best designs, shape (hardware, workload), of several hardware factors."""
        count, cells = len(factors), self.stated.cells
        rows = take(self.stated.inputs, np.tile(np.arange(cells), count))
        scale = np.repeat(factors, cells, axis=0)
        fields = {
            field: np.asarray(read(rows, field)) * scale[:, k]
            for k, name in enumerate(self.quantities)
            for field in members(name)
        }
        best = best_of(self.stated, write(rows, fields))
        return Best(*(np.asarray(x).reshape(*np.shape(x)[:-1], count, cells) for x in best))

    def mix(self, log_metric: np.ndarray) -> np.ndarray:
        """Log of the mix over the last axis: harmonic mean of rates, mean of times.

        `log_metric` is the log of a rate, or minus the log of a time.
        """
        return -np.log((self.weights * np.exp(-log_metric)).sum(axis=-1))

    def exact(self, best: Best) -> np.ndarray:
        """Log of the mix per hardware; -inf where a workload does not fit."""
        score = np.asarray(best.score)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = self.sign * np.log(np.abs(score))
            mixed: np.ndarray = np.where(np.isfinite(score).all(-1), self.mix(logs), -np.inf)
        return mixed

    def misses(self, best: Best) -> np.ndarray:
        """Whether any workload of each hardware is infeasible or misses its target."""
        score = np.asarray(best.score)
        if self.targets is None:
            met = np.isfinite(score)
        else:
            met = score >= self.sign * self.targets * (1 - self.sign * MET)
        return ~met.all(axis=-1)


def refine(
    task: Task, position: np.ndarray, start: np.ndarray, batch: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log factors and largest (fractional) batches from SLSQP at fixed splits.

    Args:
        task: what is sought.
        position: split of every workload.
        start: log factors to begin with.
        batch: batches to hold, instead of the largest that fit.
    """
    designs = take(task.stated.designs, position)
    if batch is not None:
        designs = designs._replace(batch=batch)
    laws = Laws(task, Winners(with_rounding(task.stated.inputs, "relaxed"), designs))
    goal, limit = _goal_and_limit(task, laws)
    # All batches fit.
    room = _Law(lambda x: laws.values(x)[1] - WHOLE, lambda x: laws.slopes(x)[1])
    edge = np.log(SPAN)
    found = minimize(
        goal.value,
        start,
        jac=goal.slope,
        bounds=[(-edge, edge)] * len(start),
        constraints=[{"type": "ineq", "fun": own.value, "jac": own.slope} for own in (room, limit)],
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-12},
    )
    held = designs.batch if designs.batch is not None else 1.0
    return found.x, np.exp(laws.values(found.x)[1]) * np.asarray(held)


class _Law(NamedTuple):
    """A goal or a limit, which is kept where it is not negative, as a function of log factors."""

    value: Callable[[np.ndarray], Any]
    slope: Callable[[np.ndarray], Any]


def _goal_and_limit(task: Task, laws: Laws) -> tuple[_Law, _Law]:
    """The best mix within a budget, or the least cost that reaches the targets."""

    def mix_slope(x: np.ndarray) -> Any:
        share = task.weights * np.exp(-laws.values(x)[0])
        return (share / share.sum()) @ laws.slopes(x)[0]

    def log_cost(x: np.ndarray) -> float:
        return float(np.log(cost_of(task.cost, np.exp(x))))

    def cost_slope(x: np.ndarray) -> Any:
        return cost_slopes(task.cost, np.exp(x)) / np.exp(log_cost(x))

    if task.targets is None:
        ceiling = np.log(task.budget or np.inf)
        loss = _Law(lambda x: -float(task.mix(laws.values(x)[0])), lambda x: -mix_slope(x))
        return loss, _Law(lambda x: ceiling - log_cost(x), lambda x: -cost_slope(x))
    wanted = task.sign * np.log(task.targets)
    excess = _Law(lambda x: laws.values(x)[0] - wanted, lambda x: laws.slopes(x)[0])
    return _Law(log_cost, cost_slope), excess
