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
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.namespace import Array
from qsjax.questions.design.costs import CostModel, cost_of, cost_slopes, members

SPAN = 100.0  # hardware is sought within this factor of the reference, both ways
WHOLE = 1e-9  # slack (log) by which batches fit, so that rounding cannot lose a whole one
MET = 1e-9  # relative distance by which a target still counts as met


@partial(jax.jit, static_argnames=("quantities", "metric"))
def log_metrics(
    winners: Winners, economy: Economy, x: Array, quantities: tuple[str, ...], metric: Objective
) -> tuple[Array, Array]:
    """Log metric (larger is better) and log of B_max over the least batch, at log factors x."""
    fields = {
        field: read(winners.inputs, field) * jnp.exp(x[k])
        for k, name in enumerate(quantities)
        for field in members(name)
    }
    step = step_of(winners._replace(inputs=write(winners.inputs, fields)))
    value = jnp.log(jnp.abs(score_of(metric, step, economy)))
    batch = winners.designs.batch
    room = step.capacity.max_batch / (1.0 if batch is None else jnp.asarray(batch))
    # Linear below what must fit, so that the constraint has a slope where nothing fits yet.
    fits = jnp.where(room > 1, jnp.log(jnp.where(room > 1, room, 1.0)), room - 1.0)
    return (-value if METRICS[metric].less_is_better else value), fits


# Slopes of both logs in every log factor, shape (row, quantity); arguments as of `log_metrics`.
log_slopes = jax.jit(jax.jacfwd(log_metrics, argnums=2), static_argnames=("quantities", "metric"))


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
    winners = Winners(with_rounding(task.stated.inputs, "relaxed"), designs)
    logs, slopes = _laws_at(task, winners)
    goal, limit = _goal_and_limit(task, logs, slopes)
    # All batches fit.
    room = _Law(lambda x: logs(x)[1] - WHOLE, lambda x: slopes(x)[1])
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
    return found.x, np.exp(logs(found.x)[1]) * np.asarray(held)


Pair = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # of metric and room


class _Law(NamedTuple):
    """A goal or a limit, which is kept where it is not negative, as a function of log factors."""

    value: Callable[[np.ndarray], Any]
    slope: Callable[[np.ndarray], Any]


def _laws_at(task: Task, winners: Winners) -> tuple[Pair, Pair]:
    """Log metric and log room of every workload at log factors, and the slopes of both."""
    # Handing over some hundred numbers of NumPy took longer than the laws themselves.
    given = jax.device_put((winners, task.stated.economy))

    def of(law: Any) -> Pair:
        @lru_cache(maxsize=1)  # goal and limits ask for the same point one after the other
        def at(point: bytes) -> tuple[np.ndarray, np.ndarray]:
            first, second = law(*given, np.frombuffer(point), task.quantities, task.metric)
            return np.asarray(first), np.asarray(second)

        return lambda x: at(x.tobytes())

    return of(log_metrics), of(log_slopes)


def _goal_and_limit(task: Task, logs: Pair, slopes: Pair) -> tuple[_Law, _Law]:
    """The best mix within a budget, or the least cost that reaches the targets."""

    def mix_slope(x: np.ndarray) -> Any:
        share = task.weights * np.exp(-logs(x)[0])
        return (share / share.sum()) @ slopes(x)[0]

    def log_cost(x: np.ndarray) -> float:
        return float(np.log(cost_of(task.cost, np.exp(x))))

    def cost_slope(x: np.ndarray) -> Any:
        return cost_slopes(task.cost, np.exp(x)) / np.exp(log_cost(x))

    if task.targets is None:
        ceiling = np.log(task.budget or np.inf)
        loss = _Law(lambda x: -float(task.mix(logs(x)[0])), lambda x: -mix_slope(x))
        return loss, _Law(lambda x: ceiling - log_cost(x), lambda x: -cost_slope(x))
    wanted = task.sign * np.log(task.targets)
    excess = _Law(lambda x: logs(x)[0] - wanted, lambda x: slopes(x)[0])
    return _Law(log_cost, cost_slope), excess
