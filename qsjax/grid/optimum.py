"""The optimiser of every question: the best design of every row, by one tie rule.

Few cells are evaluated by NumPy, many by compiled blocks of rows; where the batch is searched too,
the designs that run are tried at every batch of a ladder.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import decode_step
from qsjax.cost.feasibility import MEMORY_REASONS, REASONS
from qsjax.cost.ledger import RESOURCES, resource_times, time_ledger
from qsjax.cost.metrics import Economy, Objective, score_of
from qsjax.grid.bounded import best_two, is_bounded
from qsjax.grid.cells import (
    Cells,
    Designs,
    Winners,
    concatenated,
    placed,
    shaped,
    step_of,
    step_on_host,
    take,
)
from qsjax.grid.limits import LIMITS, Limits, given_limits, violations
from qsjax.grid.pairs import Candidates, score_candidates
from qsjax.grid.parameters import Inputs
from qsjax.grid.problem import FAST, Problem, with_batch
from qsjax.grid.progress import over
from qsjax.grid.scoring import pick_best
from qsjax.numerics import trees
from qsjax.numerics.loading import jitted
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.numpy_backend import on_host

# Up to this many cells NumPy finishes before XLA would compile: about 0.2 s for 2^20.
SMALL = 2**21
BLOCK = 2**18  # cells evaluated at a time by a compiled program: as many as stay in the caches


class Best(NamedTuple):
    """Best and second-best design of every row, and how many designs fit.

    Attributes:
        position: of the winner among the designs; 0 where no design is feasible.
        score: its objective, turned so that more is better; -inf where none is feasible.
        second: position of the runner-up; `second_score` is -inf without one.
        second_score: its objective.
        batch: sequences per attention replica of the winner.
        feasible: number of feasible designs.
        reasons: designs with each of `REASONS`, shape (reason, row).
        limits: designs that run but break each of `LIMITS`, shape (limit, row).
        shortfall: usable bytes per GPU that the least demanding legal design lacks for its
            weights and one sequence (or its batch) [B]; negative where it fits, infinite without
            a legal design.
    """

    position: np.ndarray
    score: np.ndarray
    second: np.ndarray
    second_score: np.ndarray
    batch: np.ndarray
    feasible: np.ndarray
    reasons: np.ndarray
    limits: np.ndarray
    shortfall: np.ndarray


def least_hbm_bytes(inputs: Inputs, best: Best) -> np.ndarray:
    """HBM of each GPU from which a legal design of a row would fit [B]; inf if none is legal.

    A whole byte more than rounding can take away.
    """
    hardware = inputs.hardware
    lacking = best.shortfall / np.asarray(hardware.usable_fraction)
    return np.ceil(np.asarray(hardware.hbm_bytes) + lacking) + 1.0


class _Table(NamedTuple):
    """Scores, GPUs and broken rules that a choice reads, shape (row, design)."""

    score: Array
    gpus: Array
    batch: Array
    reasons: Array
    broken: Array
    lacking: Array


def _table(
    inputs: Inputs,
    designs: Designs,
    limits: Limits,
    economy: Economy,
    *,
    objective: Objective,
    is_limited: bool,
) -> _Table:
    """Scores of designs and the rules they break; all arguments broadcast."""
    step = step_of(Winners(inputs, designs))
    cap = step.capacity
    has_batch = designs.batch is not None or inputs.workload.batch is not None
    sequences = cap.batch if has_batch else 1.0
    broken = xp.zeros((), xp.int32)
    if is_limited:
        broken = violations(limits, designs.partition, inputs.hardware, step, economy)
    return _Table(
        score=score_of(objective, step, economy),
        gpus=step.gpus,
        batch=cap.batch,
        reasons=step.reasons,
        broken=broken,
        lacking=cap.weights + sequences * cap.kv_per_sequence - cap.usable,
    )


def _two_best(score: Any, allowed: Any, gpus: Any, xp: Any) -> tuple[Any, Any]:
    """The best design of every row and the best of the others, by the tie rule."""
    best = pick_best(score, allowed, gpus, xp)
    is_other = xp.arange(score.shape[1])[None, :] != best.position[:, None]
    return best, pick_best(score, allowed & is_other, gpus, xp)


def _reduce(table: _Table, shape: tuple[int, int], xp: Any) -> Best:
    """Reduce a table over its designs; `xp` is jax.numpy or numpy."""

    def full(x: Any) -> Any:
        return xp.broadcast_to(x, shape)

    why, broken = full(table.reasons).astype(xp.int32), full(table.broken).astype(xp.int32)
    score, gpus = full(table.score), full(table.gpus)
    runs = why == 0
    allowed = runs & (broken == 0)
    best, second = _two_best(score, allowed, gpus, xp)
    needed = xp.where((why & ~MEMORY_REASONS) == 0, full(table.lacking), xp.inf)

    def count(bits: Any, names: Any, where: Any) -> Any:
        return xp.stack([xp.sum(((bits & bit) != 0) & where, axis=-1) for bit in names.values()])

    return Best(
        position=best.position,
        score=best.score,
        second=second.position,
        second_score=second.score,
        batch=xp.take_along_axis(full(table.batch), best.position[:, None], axis=-1)[:, 0],
        feasible=xp.sum(allowed, axis=-1),
        reasons=count(why, REASONS, xp.ones((), bool)),
        limits=count(broken, LIMITS, runs),
        shortfall=xp.min(needed, axis=-1),
    )


_table_on_host = on_host(_table)


@partial(jitted, static_argnames=("objective", "is_limited"))
def _best(inputs: Inputs, designs: Designs, limits: Limits, economy: Economy, **how: Any) -> Best:
    shape = inputs.q.shape[0], xp.shape(designs.partition.tp)[0]
    table = _table(shaped(inputs, 1), shaped(designs, 0), limits, shaped(economy, 1), **how)
    return _reduce(table, shape, xp)


def _column(x: np.ndarray) -> np.ndarray:
    """Values as a column, of one row where all are equal: terms of them are computed once."""
    return x[:1, None] if len(x) and np.ptp(x) == 0 else x[:, None]


def _small(
    cells: Cells, inputs: Inputs, economy: Economy, among: np.ndarray | None = None, **how: Any
) -> Best:
    """`_best` by NumPy: nothing is compiled."""
    columns, prices = trees.map(_column, (inputs, economy))
    if among is None:
        designs, count = trees.map(lambda x: _column(x).T, cells.designs), cells.count
    else:
        designs, count = take(cells.designs, among), among.shape[1]
    table = _table_on_host(columns, designs, cells.limits, prices, **how)
    return _reduce(table, (len(inputs.q), count), np)


def best_of(
    cells: Cells,
    inputs: Inputs | None = None,
    economy: Economy | None = None,
    among: np.ndarray | None = None,
) -> Best:
    """The best design of every row.

    Args:
        cells: designs to choose from, objective and limits.
        inputs: rows in place of the cells' own: draws, roots, variants.
        economy: price and power of those rows; of their hardware unless given.
        among: positions of the few designs that each row chooses from, rising, shape (rows, few);
            of all where the batch is searched too.
    """
    rows = cells.inputs if inputs is None else inputs
    if economy is None:
        economy = cells.economy if inputs is None else prices_of(cells, rows)
    if cells.any_batch and is_fastest_with_one(cells):
        return _best_with_one(cells, rows, economy)
    if cells.any_batch:
        return _best_batches(cells, rows, economy)
    return _best_listed(cells, rows, economy, among)


def _best_listed(
    cells: Cells, rows: Inputs, economy: Economy, among: np.ndarray | None = None
) -> Best:
    """The best design of every row at the batches that the designs have, or the largest."""
    is_limited = bool(given_limits(cells.limits))
    how: dict[str, Any] = {"objective": cells.objective, "is_limited": is_limited}
    count = len(rows.q)
    if among is not None:
        few = _small(cells, rows, economy, among, **how)
        own = [np.take_along_axis(among, x[:, None], 1)[:, 0] for x in (few.position, few.second)]
        return few._replace(position=own[0], second=own[1])
    if count * cells.count <= SMALL:
        return _small(cells, rows, economy, **how)
    block = max(1, BLOCK // cells.count)  # of one shape, whatever the rows: one compilation
    at = np.pad(np.arange(count), (0, -count % block), mode="edge")
    parts: list[Best] = []
    for k in over(range(0, len(at), block)):
        own, prices = take((rows, economy), at[k : k + block])
        parts.append(trees.map(np.asarray, _best(own, cells.designs, cells.limits, prices, **how)))
    return trees.map(lambda x: x[..., :count], concatenated(*parts, axis=-1))


def prices_of(cells: Cells, rows: Inputs) -> Economy:
    """Price and power of rows with their own hardware, with the cells' shares."""
    prices: Economy = trees.map(lambda x: np.broadcast_to(x[:1], rows.q.shape), cells.economy)
    of_hardware = {name: getattr(rows.hardware, name) for name in cells.of_hardware}
    return dataclasses.replace(prices, **of_hardware)


def any_batch(problem: Problem) -> tuple[Problem, np.ndarray | None]:
    """The problem, searching the batch, and the batches it prescribes in rising order."""
    asked = problem.stated.batches
    return with_batch(problem, "best"), None if asked is None else np.sort(asked)


@on_host
def _resources(winners: Winners) -> dict[str, Array]:
    records, convention = placed(winners), winners.inputs.convention
    return resource_times(time_ledger(decode_step(records, convention), records, convention))


def binding_resource(winners: Winners) -> np.ndarray:
    """Index in `ledger.RESOURCES` of the largest part of the TPOT of every row."""
    rows = np.shape(winners.inputs.q)
    by_resource = _resources(winners)  # whose keys a pytree has sorted
    times = [np.broadcast_to(by_resource[name], rows) for name in RESOURCES]
    return np.argmax(np.stack(times), axis=0)


def winners_at(cells: Cells, inputs: Inputs, best: Best) -> Winners:
    """Every row with its best design."""
    partition = take(cells.designs.partition, best.position)
    has_batch = cells.any_batch or cells.designs.batch is not None
    return Winners(inputs, Designs(partition, best.batch if has_batch else None))


def candidates_of(cells: Cells, inputs: Inputs, economy: Economy) -> tuple[Candidates, Best]:
    """The designs that run with one sequence in each row, and reasons of the others."""
    shape = len(inputs.q), cells.count
    columns, prices = trees.map(_column, (inputs, economy))
    designs = trees.map(lambda x: _column(x).T, cells.designs._replace(batch=None))
    table = _table_on_host(
        columns, designs, Limits(), prices, objective="tokens_per_s_per_gpu", is_limited=False
    )
    row, position = np.nonzero(np.broadcast_to(table.reasons, shape) == 0)
    largest = np.broadcast_to(table.batch, shape)[row, position]
    candidates = Candidates(Winners(columns, designs), prices, row, position, largest)
    return candidates, _reduce(table, shape, np)


def is_fastest_with_one(cells: Cells) -> bool:
    """Whether no batch is better than one sequence: TPOT does not fall with the batch.

    A limit on price or energy may need more, and one on memory fewer than a pipeline has stages.
    """
    others = {"max_usd", "max_joules", "min_headroom"}
    return cells.objective in FAST and others.isdisjoint(given_limits(cells.limits))


def _best_with_one(cells: Cells, inputs: Inputs, economy: Economy) -> Best:
    """`_best_batches` of an objective that one sequence serves best, without a ladder.

    A pipeline's stages hold a sequence each at the TPOT of one: of these batches the largest wins.
    """
    ones = cells.designs._replace(batch=np.ones(cells.count))
    best = _best_listed(dataclasses.replace(cells, designs=ones), inputs, economy)
    largest = take(cells.designs, best.position)._replace(batch=None)
    most = np.asarray(step_on_host(Winners(inputs, largest)).capacity.max_batch)
    rules = inputs.convention
    rounds = np.asarray(largest.partition.pp) * (2.0 if rules.two_batch_overlap else 1.0)
    why = best.reasons.copy()
    why[list(REASONS).index("batch does not fit")] = 0  # told by "no sequence fits"
    return best._replace(batch=np.maximum(1.0, np.minimum(rounds, most)), reasons=why)


def _best_batches(cells: Cells, inputs: Inputs, economy: Economy) -> Best:
    """The best design of every row over all batches that the limits allow."""
    candidates, counted = candidates_of(cells, inputs, economy)
    if is_bounded(cells.limits, cells.objective):
        scores = best_two(candidates, cells.limits)
    else:
        scores = score_candidates(candidates, cells.limits, cells.objective)
    shape = len(inputs.q), cells.count
    score, batch, gpus = np.full(shape, -np.inf), np.ones(shape), np.ones(shape)
    at = candidates.row, candidates.position
    score[at], batch[at], gpus[at] = scores.score, scores.batch, scores.gpus
    allowed = score > -np.inf
    best, second = _two_best(score, allowed, gpus, np)
    return counted._replace(
        position=best.position,
        score=best.score,
        second=second.position,
        second_score=second.score,
        batch=np.take_along_axis(batch, best.position[:, None], axis=1)[:, 0],
        feasible=allowed.sum(axis=1),
    )
