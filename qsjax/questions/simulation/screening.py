"""What every partition of a replica can serve at best, by its step costs alone."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qsjax.engines.schedulers import Scheduler, of_replica, sharing
from qsjax.grid.batches import ladder
from qsjax.grid.cells import Cells, one_cell, records_on_host
from qsjax.grid.optimum import candidates_of
from qsjax.grid.problem import Problem, with_batch
from qsjax.grid.solution import design_label
from qsjax.numerics import trees
from qsjax.numerics.safe import scalar
from qsjax.questions.simulation.serving import holds, lengths_of
from qsjax.questions.simulation.steps import (
    CONTEXT_KNOTS,
    LENGTH_KNOTS,
    TOKEN_KNOTS,
    StepTable,
    step_table,
)
from qsjax.questions.simulation.traffic import Demand, traffic_of
from qsjax.records.specs import Records

# At most so many prompts queue ahead of a request while the batch is not full.
QUEUE = 4.0


class Target(NamedTuple):
    """What must be served, and how fast.

    Attributes:
        users: who have a request in flight or think; None if a rate is given.
        rate: requests a second; None if users are given.
        ttft: longest time to first token [s].
        tpot: longest time per output token of a request [s].
        quantile: share of the requests that must keep each limit.
    """

    users: float | None = None
    rate: float | None = None
    ttft: float = math.inf
    tpot: float = math.inf
    quantile: float = 0.95


class Asked(NamedTuple):
    """What the deployments of a search have in common.

    Attributes:
        rules: of the engine.
        demand: the requests; how many there are follows from those that are `measured`.
        target: what must be served.
        measured: requests that are measured, at least.
    """

    rules: Scheduler
    demand: Demand
    target: Target
    measured: int = 0


class Option(NamedTuple):
    """One partition of a replica, and what it does at best.

    Attributes:
        gpus: of a replica.
        design: values of the searched axes.
        records: model, accelerator, the design as a partition, and dtypes.
        table: its step costs.
        ttft: without load [s].
        tpot: of a lone sequence [s].
        rate: requests a second of a replica, at most.
        users: of a replica within the limits, at most.
    """

    gpus: int
    design: dict[str, float | str]
    records: Records
    table: StepTable
    ttft: float
    tpot: float
    rate: float
    users: float


class Usual(NamedTuple):
    """Mean lengths of the requests [tokens]."""

    prompt: float
    output: float
    cached: float


def _reading(table: StepTable, rules: Scheduler, mean: Usual) -> tuple[float, float, float]:
    """A usual prompt: seconds alone, seconds of a replica at best, and steps that it rides in."""
    stages, budget, missing = scalar(table.stages), scalar(rules.budget), mean.prompt - mean.cached
    ends = np.array([mean.prompt, mean.cached])
    attention = float(-np.diff(ends * np.interp(ends, LENGTH_KNOTS, table.attention))[0])
    whole, rest = divmod(missing, budget)
    full, left = map(float, np.interp([budget, rest], TOKEN_KNOTS, table.linear))
    alone = whole * full + (left if rest else 0.0)
    per_token = float(np.min((table.linear / TOKEN_KNOTS)[2.0 * budget >= TOKEN_KNOTS]))
    chunks = missing / budget if missing < budget else math.ceil(missing / budget)
    steps = chunks / stages * scalar(rules.mixed)
    alone += scalar(rules.frontend)
    return alone + stages * attention, missing * per_token / stages + attention, steps


def best_case(table: StepTable, asked: Asked, mean: Usual) -> tuple[float, float, float, float]:
    """No-load TTFT and TPOT [s], and the largest rate [1/s] and users of an attention replica.

    A batch of B makes B tokens a step. Of every second, prompts take their time of passes over
    full chunks, and where they ride in decode steps these steps make tokens too. No queue, no
    chance: a screening that simulations follow.
    """
    rules, target = asked.rules, asked.target
    alone, reading, rides = _reading(table, rules, mean)
    stages, accepted = scalar(table.stages), scalar(table.tokens_per_step)
    # The first step sees the prompt, the last one all but its own tokens and the one before.
    seen = mean.prompt + 0.5 * max(mean.output - 1.0 - accepted, 0.0)
    column = np.array([np.interp(seen, CONTEXT_KNOTS, row) for row in table.decode])
    at_first = float(np.interp(mean.prompt, CONTEXT_KNOTS, table.decode[0]))
    alone += scalar(rules.stream_steps) * at_first
    held = mean.prompt + 0.5 * mean.output + scalar(table.cache_each)
    most = scalar(rules.budget) * stages / scalar(table.query_tokens)
    slots = min(scalar(rules.sequences), scalar(table.states))
    fits = max(1.0, min(slots, scalar(table.cache) / held, most))
    batches = np.append(ladder(math.floor(fits)), fits)
    steps = np.interp(batches, TOKEN_KNOTS, column)
    needed = max(mean.output - 1.0, 0.0) / accepted / batches
    busy = np.maximum(steps * needed + reading - np.minimum(rides, needed) * steps, reading)
    rates = 1.0 / busy
    # Of a request's time its own prompt is no part of TPOT, which is never below that of a step.
    further = max(mean.output - 1.0, 1e-300)
    tpot = np.maximum((batches * busy - reading) / further, steps / accepted) * (needed > 0)
    allowed = (tpot <= target.tpot) & (alone <= target.ttft)
    lone = float(column[0]) / accepted
    if not allowed.any():
        return alone, lone, 0.0, 0.0
    # Requests wait for each other's prompts; for room they wait only where the batch is full.
    wait = np.where(batches < fits, min(target.ttft, QUEUE * alone), target.ttft)
    users = batches + rates * (wait + asked.demand.think)
    return alone, lone, float(rates[allowed].max()), float(users[allowed].max())


def _row(tree: Any, at: int) -> Any:
    return trees.map(lambda x: x[at] if np.ndim(x) else x, tree)


def options(
    problem: Problem, at: tuple[int, int], asked: Asked, replica_gpus: Sequence[int]
) -> list[Option]:
    """Every partition of every replica size that holds the longest request, with its best case."""
    requests = traffic_of(asked.demand, users=1.0)
    lengths = lengths_of(requests)
    mean = Usual(*(float(np.mean(x)) for x in (requests.prompt, requests.output, requests.cached)))
    kept = []
    for count in replica_gpus:
        cells = cells_of_replica(problem, at, count, lengths[1])
        legal, _ = candidates_of(cells, cells.inputs, cells.economy)
        if not len(legal.position):
            continue
        (inputs, designs), _ = legal.flat(np.arange(len(legal.position)))
        part = designs.partition
        flat = records_on_host(inputs, part)._replace(gpus=None)
        # A smaller deployment, copied, is an option of its own count.
        fills = np.asarray(part.tp) * part.pp * part.dp * part.kvp == count
        tables = step_table(flat, problem.stated.rules_of(*at), lengths, asked.rules)
        for row, position in enumerate(legal.position):
            records, table = _row((flat, tables), row)
            if not fills[row] or not holds(table, lengths[1]):
                continue
            dp = scalar(records.partition.dp)
            ttft, tpot, rate, users = best_case(table, for_replica(asked, records), mean)
            design = design_label(cells, int(position))
            kept.append(Option(count, design, records, table, ttft, tpot, rate * dp, users * dp))
    return kept


def cells_of_replica(problem: Problem, at: tuple[int, int], gpus: int, context: float) -> Cells:
    """The designs of one replica."""
    return one_cell(with_batch(problem, "best", gpus=gpus, context=context), *at)


def least_replicas(option: Option, target: Target) -> float:
    """Replicas that keep the limits by the step costs alone; infinite where no number does."""
    asked, served = (target.users, option.users) if target.users else (target.rate, option.rate)
    assert asked is not None
    return max(1, math.ceil(asked / served - 1e-9)) if served > 0 else math.inf


def for_replica(asked: Asked, records: Records) -> Asked:
    """With the rules of one attention replica of a design."""
    return asked._replace(rules=of_replica(asked.rules, sharing(records.model, records.partition)))
