"""One inverse problem, its exact search and its smooth refinement."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from qsjax.design.costs import CostModel, cost_of, members
from qsjax.search import Objective
from qsjax.sensitivity.cells import Best, Problem, Winners, best_of, step_of, take
from qsjax.sensitivity.gradients import with_rounding
from qsjax.sensitivity.parameters import read, write

SPAN = 100.0  # hardware is sought within this factor of the reference, both ways
LEAST = {"tpot"}
WHOLE = 1e-9  # slack (log) by which batches fit, so that rounding cannot lose a whole one
MET = 1e-9  # relative distance by which a target still counts as met


@partial(jax.jit, static_argnames=("quantities", "metric"))
def log_metrics(
    winners: Winners, x: jax.Array, quantities: tuple[str, ...], metric: Objective
) -> tuple[jax.Array, jax.Array]:
    """Log metric (larger is better) and log of B_max over the least batch, at log factors x."""
    fields = {
        field: read(winners.inputs, field) * jnp.exp(x[k])
        for k, name in enumerate(quantities)
        for field in members(name)
    }
    step = step_of(winners._replace(inputs=write(winners.inputs, fields)))
    value = jnp.log(getattr(step, metric))
    batch = winners.designs.batch
    room = step.capacity.max_batch / (1.0 if batch is None else jnp.asarray(batch))
    # Linear below what must fit, so that the constraint has a slope where nothing fits yet.
    fits = jnp.where(room > 1, jnp.log(jnp.where(room > 1, room, 1.0)), room - 1.0)
    return (-value if metric in LEAST else value), fits


@partial(jax.jit, static_argnames=("quantities", "metric"))
def log_slopes(
    winners: Winners, x: jax.Array, quantities: tuple[str, ...], metric: Objective
) -> tuple[jax.Array, jax.Array]:
    """Slopes of both logs in every log factor, shape (row, quantity)."""
    slopes: tuple[jax.Array, jax.Array] = jax.jacfwd(
        lambda y: log_metrics(winners, y, quantities, metric)
    )(x)
    return slopes


class Task:
    """One inverse problem: workloads, weights, cost, and what is sought."""

    def __init__(
        self,
        stated: Problem,
        cost: CostModel,
        weights: Sequence[float] | None,
        metric: Objective,
        budget: float | None,
        targets: np.ndarray | None,
    ) -> None:
        self.stated, self.cost, self.metric = stated, cost, metric
        self.budget, self.targets = budget, targets
        given = np.ones(stated.cells) if weights is None else np.asarray(weights, float)
        if given.shape != (stated.cells,) or not (np.isfinite(given) & (given > 0)).all():
            raise ValueError(f"weights: give {stated.cells} numbers above 0, one per workload")
        self.weights = given / given.sum()
        self.quantities = tuple(cost.prices)
        self.sign = -1.0 if metric in LEAST else 1.0

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
        best = best_of(write(rows, fields), self.stated.designs, self.metric)
        return Best(*(np.asarray(x).reshape(*np.shape(x)[:-1], count, cells) for x in best))

    def mix(self, log_metric: np.ndarray) -> np.ndarray:
        """Log of the mix over the last axis: harmonic mean of rates, mean of times.

        `log_metric` is the log of a rate, or minus the log of a time.
        """
        total: np.ndarray = -np.log((self.weights * np.exp(-log_metric)).sum(axis=-1))
        return total

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
        missed: np.ndarray = ~met.all(axis=-1)
        return missed


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
    arguments = (task.quantities, task.metric)

    def logs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, fits = log_metrics(winners, jnp.asarray(x), *arguments)
        return np.asarray(value), np.asarray(fits)

    def slopes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, fits = log_slopes(winners, jnp.asarray(x), *arguments)
        return np.asarray(value), np.asarray(fits)

    def mix_slope(x: np.ndarray) -> np.ndarray:
        share = task.weights * np.exp(-logs(x)[0])
        slope: np.ndarray = (share / share.sum()) @ slopes(x)[0]
        return slope

    exponent = np.array([price.exponent for price in task.cost.prices.values()])
    price = np.array([p.cost for p in task.cost.prices.values()]) * exponent
    log_cost = _log_cost(task)

    def cost_slope(x: np.ndarray) -> np.ndarray:
        slope: np.ndarray = price * np.exp(exponent * x) / np.exp(log_cost(x))
        return slope

    limits: list[dict[str, Any]] = [
        {"type": "ineq", "fun": lambda x: logs(x)[1] - WHOLE, "jac": lambda x: slopes(x)[1]}
    ]
    if task.targets is None:
        ceiling = np.log(task.budget) if task.budget is not None else np.inf
        goal: Callable[[np.ndarray], Any] = lambda x: -task.mix(logs(x)[0])  # noqa: E731
        goal_slope: Callable[[np.ndarray], Any] = lambda x: -mix_slope(x)  # noqa: E731
        limits.append(
            {
                "type": "ineq",
                "fun": lambda x: ceiling - log_cost(x),
                "jac": lambda x: -cost_slope(x),
            }
        )
    else:
        wanted = task.sign * np.log(task.targets)
        goal, goal_slope = log_cost, cost_slope
        limits.append(
            {"type": "ineq", "fun": lambda x: logs(x)[0] - wanted, "jac": lambda x: slopes(x)[0]}
        )
    edge = np.log(SPAN)
    found = minimize(
        goal,
        start,
        jac=goal_slope,
        bounds=[(-edge, edge)] * len(start),
        constraints=limits,
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-12},
    )
    held = designs.batch if designs.batch is not None else 1.0
    return found.x, np.exp(logs(found.x)[1]) * np.asarray(held)


def _log_cost(task: Task) -> Callable[[np.ndarray], Any]:
    return lambda x: np.log(cost_of(task.cost, np.exp(x)))
