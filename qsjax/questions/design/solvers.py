"""Inverse design: the best hardware under a budget, and the cheapest that meets targets.

For a fixed split of every workload the problem is smooth in log hardware, with fractional batches:
SciPy's SLSQP solves it with exact JAX gradients, from every split that wins on a sample of
affordable hardware. The answer is then searched on the exact grid, with whole batches.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from qsjax.grid.optimum import Best, Problem, Winners, take
from qsjax.grid.parameters import read, with_rounding
from qsjax.grid.search import Objective
from qsjax.grid.solution import cell_labels, design_label
from qsjax.questions.design.costs import CostModel, affordable, check_cost, cost_of, members
from qsjax.questions.design.tasks import LEAST, SPAN, Task, log_metrics, log_slopes, refine

SAMPLES = 64  # hardware on which promising splits are looked for
SAMPLE_SPAN = 10.0
STARTS = 12  # most promising splits that are refined
ROUNDS = 3  # refinements of the split that the exact grid prefers
SCALINGS = 24  # bisections of the factor by which a sample must grow to meet the targets


@dataclasses.dataclass(frozen=True, slots=True)
class Design:
    """Hardware found, and how it does on the exact grid.

    Attributes:
        factors: by quantity, over the reference hardware.
        hardware: the chosen fields, in SI units.
        cost: in the cost model's unit.
        objective: the mix (see `best_hardware`) with whole batches: the exact answer.
        relaxed: the mix with fractional batches at the same hardware, an upper estimate.
        reference_cost: cost of the reference hardware.
        reference: mix of the reference hardware, scaled as a whole to the same cost; NaN where it
            does not fit.
        metrics: per workload, the exact metric.
        designs: per workload, the exact best split.
        labels: per workload, its coordinates.
        marginal: by quantity, d log mix / d log cost with fractional batches: all are equal where
            the design is optimal and neither a bound nor a whole batch holds it.
        at_bound: quantities that ended at the edge of the range that was searched.
        starts: splits from which the optimiser was started.
    """

    factors: dict[str, float]
    hardware: dict[str, float]
    cost: float
    objective: float
    relaxed: float
    reference_cost: float
    reference: float
    metrics: list[float]
    designs: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    marginal: dict[str, float]
    at_bound: list[str]
    starts: int


def best_hardware(
    stated: Problem,
    cost: CostModel,
    budget: float,
    *,
    weights: Sequence[float] | None = None,
    metric: Objective = "tokens_per_s_per_gpu",
    seed: int = 0,
) -> Design:
    """The hardware that serves the workloads best among all that cost at most `budget`.

    Args:
        stated: one cell per workload (a single variant and GPU count, or as many as wanted).
        cost: what may be chosen, and its price.
        budget: in the cost model's unit.
        weights: share of each workload, in tokens; equal by default. A mix counts as the harmonic
            mean of rates, what a GPU reaches that serves them in turn, or as the mean of times.
        metric: what is maximised (`tpot` is minimised).
        seed: of the sample of hardware on which promising splits are looked for.

    Raises:
        ValueError: a cost model that allows infinite hardware, a budget that holds no design.
    """
    check_cost(cost, budget)
    task = Task(stated, cost, weights, metric, budget, None)
    sample = affordable(cost, _sample(task, seed), budget)
    found = task.search(sample)
    merit = task.exact(found)
    if not np.isfinite(merit).any():
        least = _cheapest(task, _sample(task, seed))
        raise ValueError(
            f"budget {budget:g} buys no hardware that holds the workloads; "
            + (f"about {least:g} would" if np.isfinite(least) else "no budget would")
        )
    return _answer(task, *_improve(task, sample, found, merit))


def cheapest_hardware(
    stated: Problem,
    cost: CostModel,
    targets: float | Sequence[float],
    *,
    metric: Objective = "tokens_per_s_per_gpu",
    seed: int = 0,
) -> Design:
    """The cheapest hardware on which every workload meets its target.

    Args:
        stated: one cell per workload.
        cost: what may be chosen, and its price.
        targets: of the metric, one or one per workload: at least, or at most for `tpot` [s].
        metric: what must be reached.
        seed: of the sample of hardware.

    Raises:
        ValueError: a wrong cost model or target, or a target out of reach of any hardware within
            a factor of 100 of the reference.
    """
    check_cost(cost)
    wanted = np.broadcast_to(np.asarray(targets, float), stated.cells)
    if not (np.isfinite(wanted) & (wanted > 0)).all():
        raise ValueError(f"targets {targets} must be finite numbers above 0, in SI units")
    task = Task(stated, cost, None, metric, None, wanted)
    sample = _scaled_to_targets(task, _sample(task, seed))
    if not len(sample):
        most = task.search(np.full((1, len(task.quantities)), SPAN))
        reached = ", ".join(f"{abs(score):.6g}" for score in np.asarray(most.score)[0])
        raise ValueError(
            f"no hardware within a factor {SPAN:g} of the reference meets {metric} "
            f"{targets}; with everything at the edge it is {reached}"
        )
    merit = -cost_of(cost, sample)
    return _answer(task, *_improve(task, sample, task.search(sample), merit))


def _sample(task: Task, seed: int) -> np.ndarray:
    """Factors of the reference and of hardware around it, shape (sample, quantity)."""
    count = len(task.quantities)
    unit = qmc.Sobol(count, rng=np.random.default_rng(seed)).random(SAMPLES)
    spread = np.exp((2 * unit - 1) * np.log(SAMPLE_SPAN))
    return np.concatenate([np.ones((1, count)), spread])


def _scaled_to_targets(task: Task, factors: np.ndarray) -> np.ndarray:
    """The factors scaled as little as meets the targets; those that never do are dropped."""
    edge = SPAN / factors.max(axis=-1)
    good = factors[~task.misses(task.search(factors * edge[:, None]))]
    high, low = np.log(SPAN / good.max(axis=-1)), np.log(1 / (SPAN * good.min(axis=-1)))
    for _ in range(SCALINGS if len(good) else 0):
        middle = 0.5 * (low + high)
        misses = task.misses(task.search(good * np.exp(middle)[:, None]))
        low, high = np.where(misses, middle, low), np.where(misses, high, middle)
    scaled: np.ndarray = good * np.exp(high)[:, None]
    return scaled


def _cheapest(task: Task, factors: np.ndarray) -> float:
    """Least cost of the sample scaled until all workloads fit; inf if none ever does."""
    fitted = _scaled_to_targets(task, factors)
    return float(cost_of(task.cost, fitted).min()) if len(fitted) else np.inf


def _merit(task: Task, factors: np.ndarray, found: Best) -> np.ndarray:
    """What is maximised, exactly; -inf where limits are broken."""
    spent = cost_of(task.cost, factors)
    if task.budget is None:
        return np.where(task.misses(found), -np.inf, -spent)
    return np.where(spent <= task.budget * (1 + 1e-9), task.exact(found), -np.inf)


def _improve(
    task: Task, sample: np.ndarray, found: Best, merit: np.ndarray
) -> tuple[np.ndarray, int]:
    """Best factors of the sample and of what SLSQP makes of its best splits, and the starts."""
    pool, positions = [sample], np.asarray(found.position)
    tried: dict[tuple[int, ...], np.ndarray] = {}
    for k in np.argsort(-merit):
        split = tuple(int(p) for p in positions[k])
        if np.isfinite(merit[k]) and split not in tried and len(tried) < STARTS:
            tried[split] = np.log(sample[k])
    starts = len(tried)
    queue = list(tried.items())
    for _ in range(1 + ROUNDS):
        fresh = []
        for split, start in queue:
            position = np.array(split)
            x, room = refine(task, position, start)
            fresh.append(x)
            if task.stated.designs.batch is None:
                for batch in (np.floor(room), np.ceil(room)):
                    fresh.append(refine(task, position, x, np.maximum(batch, 1.0))[0])
        factors = np.exp(np.array(fresh))
        pool.append(factors)
        # Where the exact grid prefers another split, that one is refined in the next round.
        preferred = np.asarray(task.search(factors).position)
        queue = []
        for x, split in zip(fresh, map(tuple, preferred.tolist()), strict=True):
            if split not in tried:
                tried[split] = x
                queue.append((split, x))
        queue = queue[:STARTS]
        if not queue:
            break
    every = np.concatenate(pool)
    best = int(np.argmax(_merit(task, every, task.search(every))))
    return every[best], starts


def _answer(task: Task, factors: np.ndarray, starts: int) -> Design:
    stated, cost = task.stated, task.cost
    found = task.search(factors[None])
    position = np.asarray(found.position)[0]
    spent = float(cost_of(cost, factors))
    same_cost = affordable(cost, np.ones((1, len(factors))), spent)
    relaxed = Winners(with_rounding(stated.inputs, "relaxed"), take(stated.designs, position))
    x = np.log(factors)
    logs = np.asarray(log_metrics(relaxed, x, task.quantities, task.metric)[0])
    slopes = np.asarray(log_slopes(relaxed, x, task.quantities, task.metric)[0])
    share = task.weights * np.exp(-logs)
    gain = (share / share.sum()) @ slopes
    prices = list(cost.prices.values())
    growth = [
        p.exponent * p.cost * f**p.exponent / spent for p, f in zip(prices, factors, strict=True)
    ]
    direction = -1.0 if task.metric in LEAST else 1.0

    def plain(log_mix: np.ndarray) -> float:
        return float(np.exp(direction * log_mix)) if np.isfinite(log_mix) else float("nan")

    names = task.quantities
    inputs = stated.inputs
    return Design(
        factors=dict(zip(names, map(float, factors), strict=True)),
        hardware={
            field: float(np.asarray(read(inputs, field))[0] * factor)
            for name, factor in zip(names, factors, strict=True)
            for field in members(name)
        },
        cost=spent,
        objective=plain(task.exact(found)[0]),
        relaxed=plain(task.mix(logs)),
        reference_cost=float(cost_of(cost, np.ones(len(factors)))),
        reference=plain(task.exact(task.search(same_cost))[0]),
        metrics=[float(abs(score)) for score in np.asarray(found.score)[0]],
        designs=[design_label(stated, int(p)) for p in position],
        labels=cell_labels(stated),
        marginal={n: float(g / c) for n, g, c in zip(names, gain, growth, strict=True)},
        at_bound=[n for n, v in zip(names, x, strict=True) if abs(v) > np.log(SPAN) * (1 - 1e-6)],
        starts=starts,
    )
