"""Inverse design: the best hardware under a budget, and the cheapest that meets targets.

For a fixed split of every workload the problem is smooth in log hardware, with fractional batches:
SciPy's SLSQP solves it with exact JAX gradients, from every split that wins on a sample of
affordable hardware. The answer is then searched on the exact grid, with whole batches, and bounds
of all splits over boxes of hardware say how much better any other could be.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from qsjax.cost.metrics import METRICS, TARGETS, check_metrics
from qsjax.grid.cells import Cells, Winners, blocks_of, of_variant, take
from qsjax.grid.optimum import Best
from qsjax.grid.parameters import read, with_rounding
from qsjax.grid.problem import Problem, question
from qsjax.grid.solution import cell_labels, design_label
from qsjax.output import words
from qsjax.questions.design.answers import Design, HardwareDesign
from qsjax.questions.design.costs import (
    CostModel,
    affordable,
    check_cost,
    cost_of,
    cost_slopes,
    members,
)
from qsjax.questions.design.gaps import Gap, Search, has_bounds
from qsjax.questions.design.tasks import SPAN, Laws, Task, refine
from qsjax.records.checks import check_positive

SAMPLES = 64  # hardware on which promising splits are looked for
SAMPLE_SPAN = 10.0
STARTS = 12  # most promising splits that are refined
ROUNDS = 3  # refinements of the split that the exact grid prefers
PARTS = 12_000  # boxes of hardware that are judged for the gap, at most
SCALINGS = 24  # bisections of the factor by which a sample must grow to meet the targets


@question
def design(
    problem: Problem,
    cost: CostModel,
    *,
    budget: float | None = None,
    weights: Sequence[float] | None = None,
    variant: int = 0,
    seed: int = 0,
    parts: int = PARTS,
    **targets: float | Sequence[float],
) -> HardwareDesign:
    """The best hardware that costs at most a budget, or the cheapest that meets targets.

    Every cell (context, GPU count) is a workload. Each model on each accelerator, which is the
    reference of the prices, has a design of its own.

    Args:
        problem: what is served; its objective is what a budget maximises.
        cost: what may be chosen, and its price.
        budget: in the cost model's unit.
        weights: share of each workload, in tokens; equal by default. A mix counts as the harmonic
            mean of rates (what a GPU reaches that serves one after another) or the mean of times.
        variant: 0 for the model itself, 1 for its first dense twin.
        seed: seed of the sample of hardware on which promising splits are sought.
        parts: most boxes into which the hardware is cut, to bound how much better any could be
            over all splits; 0 leaves the gap open.
        **targets: instead of a budget one metric and what it must reach, one number or one per
            workload: `tpot=0.02` for at most 20 ms.

    Raises:
        ValueError: a cost model that allows infinite hardware, a budget that holds no design, or
            targets out of reach of any hardware within a factor of 100 of the reference.
    """
    check_cost(cost, budget)
    if (budget is None) == (not targets):
        raise ValueError("give either a budget or targets, such as tpot=0.02")
    if targets:
        if len(targets) > 1:
            raise ValueError(f"targets of one metric, not of {', '.join(targets)}")
        if weights is not None:
            raise ValueError("weights mix workloads for a budget; every target holds by itself")
        check_metrics(list(targets), TARGETS)
        (metric,) = targets
        problem = dataclasses.replace(problem, objective=metric)  # type: ignore[arg-type]  # checked
    answers = []
    for cells in blocks_of(problem):
        if not 0 <= variant < len(cells.variants):
            raise ValueError(
                f"variant={variant}: {cells.model.name} has {len(cells.variants)}; give twins"
            )
        workloads = of_variant(cells, variant)
        if budget is not None:
            answers.append(_best(Task(workloads, cost, weights, budget, None), seed, parts))
        else:
            answers.append(_cheapest(workloads, cost, next(iter(targets.values())), seed, parts))
    return HardwareDesign(problem, cost, tuple(answers))


def _best(task: Task, seed: int, parts: int) -> Design:
    cost, budget = task.cost, task.budget or 0.0
    sample = affordable(cost, _sample(task, seed), budget)
    of_sample = task.search(sample)
    merit = task.exact(of_sample)
    if not np.isfinite(merit).any():
        fitted = _scaled_to_targets(task, _sample(task, seed))
        raise ValueError(
            f"budget {budget:g} buys no hardware that holds the workloads; "
            + (f"about {cost_of(cost, fitted).min():g} would" if len(fitted) else "no budget would")
        )
    return _proved(task, *_improve(task, sample, of_sample, merit), parts)


def _cheapest(
    stated: Cells, cost: CostModel, targets: float | Sequence[float], seed: int, parts: int
) -> Design:
    metric: Any = stated.objective
    given = check_positive(metric, targets, METRICS[metric].unit)
    if given.size not in (1, stated.cells):
        raise ValueError(f"targets: give one value, or {stated.cells}, one per workload")
    task = Task(stated, cost, None, None, np.broadcast_to(given, stated.cells))
    sample = _scaled_to_targets(task, _sample(task, seed))
    if not len(sample):
        most = task.search(np.full((1, len(task.quantities)), SPAN))
        unit = METRICS[metric].unit
        reached = words.joined(words.value(abs(x), unit) for x in np.asarray(most.score)[0])
        goals = words.joined(dict.fromkeys(words.goal(metric, x) for x in given))
        raise ValueError(
            f"no hardware within a factor {SPAN:g} of the reference meets {goals}; with everything "
            f"at the edge it is {reached}"
        )
    merit = -cost_of(cost, sample)
    return _proved(task, *_improve(task, sample, task.search(sample), merit), parts)


def _proved(task: Task, factors: np.ndarray, starts: int, parts: int) -> Design:
    """The answer with its gap: from here on hardware over all splits, not around one of them."""
    if parts <= 0 or not has_bounds(task.stated):
        return _answer(task, factors, starts, Gap(factors, float("nan"), 0))
    merit = _merit(task, factors[None], task.search(factors[None]))[0]
    if task.budget is None:
        merit = -np.log(-merit)
    gap = Search(task).run(factors, float(merit), parts)
    return _answer(task, gap.factors, starts, gap)


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
    return good * np.exp(high)[:, None]


def _merit(task: Task, factors: np.ndarray, best: Best) -> np.ndarray:
    """What is maximised, exactly; -inf where limits are broken."""
    spent = cost_of(task.cost, factors)
    if task.budget is None:
        return np.where(task.misses(best), -np.inf, -spent)
    return np.where(spent <= task.budget * (1 + 1e-9), task.exact(best), -np.inf)


def _splits(task: Task, best: Best) -> list[tuple[int, ...]]:
    """Best split of every workload, by hardware, and the batches where these are searched."""
    numbers = [best.position, *([best.batch] if task.stated.any_batch else [])]
    return [tuple(int(x) for x in row) for row in np.concatenate(numbers, axis=-1)]


def _improve(
    task: Task, sample: np.ndarray, of_sample: Best, merit: np.ndarray
) -> tuple[np.ndarray, int]:
    """Best factors of the sample and of what SLSQP makes of its best splits, and the starts."""
    pool, splits = [sample], _splits(task, of_sample)
    tried: dict[tuple[int, ...], np.ndarray] = {}
    for k in np.argsort(-merit):
        split = splits[k]
        if np.isfinite(merit[k]) and split not in tried and len(tried) < STARTS:
            tried[split] = np.log(sample[k])
    starts = len(tried)
    queue = list(tried.items())
    for _ in range(1 + ROUNDS):
        fresh = []
        for split, start in queue:
            position, held = np.array(split[: task.stated.cells]), split[task.stated.cells :]
            x, room = refine(task, position, start, np.array(held, float) if held else None)
            fresh.append(x)
            if task.stated.designs.batch is None and not held:
                for batch in (np.floor(room), np.ceil(room)):
                    fresh.append(refine(task, position, x, np.maximum(batch, 1.0))[0])
        factors = np.exp(np.array(fresh))
        pool.append(factors)
        # Where the exact grid prefers another split, that one is refined in the next round.
        queue = []
        for x, split in zip(fresh, _splits(task, task.search(factors)), strict=True):
            if split not in tried:
                tried[split] = x
                queue.append((split, x))
        queue = queue[:STARTS]
        if not queue:
            break
    every = np.concatenate(pool)
    return every[int(np.argmax(_merit(task, every, task.search(every))))], starts


def _answer(task: Task, factors: np.ndarray, starts: int, gap: Gap) -> Design:
    stated, cost = task.stated, task.cost
    chosen = task.search(factors[None])
    position = np.asarray(chosen.position)[0]
    spent = float(cost_of(cost, factors))
    same_cost = affordable(cost, np.ones((1, len(factors))), spent)
    designs = take(stated.designs, position)
    if stated.any_batch:
        designs = designs._replace(batch=chosen.batch[0])
    relaxed = Winners(with_rounding(stated.inputs, "relaxed"), designs)
    x = np.log(factors)
    laws = Laws(task, relaxed)
    logs, slopes = laws.values(x)[0], laws.slopes(x)[0]
    share = task.weights * np.exp(-logs)
    gain = (share / share.sum()) @ slopes
    marginal = gain * spent / cost_slopes(cost, factors)

    def plain(log_mix: np.ndarray) -> float:
        return float(np.exp(task.sign * log_mix)) if np.isfinite(log_mix) else float("nan")

    names, inputs = task.quantities, stated.inputs
    return Design(
        factors=dict(zip(names, map(float, factors), strict=True)),
        hardware={
            field: float(np.asarray(read(inputs, field))[0] * factor)
            for name, factor in zip(names, factors, strict=True)
            for field in members(name)
        },
        cost=spent,
        objective=plain(task.exact(chosen)[0]),
        relaxed=plain(task.mix(logs)),
        reference_cost=float(cost_of(cost, np.ones(len(factors)))),
        reference=plain(task.exact(task.search(same_cost))[0]),
        metrics=[float(abs(score)) for score in np.asarray(chosen.score)[0]],
        designs=[
            design_label(stated, int(p)) | {"batch": int(b)}
            for p, b in zip(position, chosen.batch[0], strict=True)
        ],
        labels=cell_labels(stated),
        marginal=dict(zip(names, map(float, marginal), strict=True)),
        at_bound=[n for n, v in zip(names, x, strict=True) if abs(v) > np.log(SPAN) * (1 - 1e-6)],
        starts=starts,
        gap=gap.gap,
        parts=gap.boxes,
    )
