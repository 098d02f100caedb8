"""Prefill and decode on pools of their own or on the same GPUs, each by its best splits."""

import dataclasses
from typing import NamedTuple

import numpy as np

from qsjax.cost.disaggregation import readers_for, served_rates
from qsjax.cost.shared import Filling
from qsjax.engines.schedulers import filling_of, sharing
from qsjax.grid.batches import ladder
from qsjax.grid.cells import Cells, one_cell, records_on_host
from qsjax.grid.optimum import any_batch, candidates_of
from qsjax.grid.pairs import Candidates
from qsjax.grid.problem import Problem
from qsjax.grid.solution import design_label
from qsjax.numerics import trees
from qsjax.numerics.safe import scalar
from qsjax.output.result import Row
from qsjax.records.specs import Partition

# Batches that are tried of each split: a step loses at most 5 % of the throughput.
SPACING, DENSE = 0.05, 20


class Way(NamedTuple):
    """The most output tokens of a way to serve prompts too.

    Attributes:
        rate: output tokens of each GPU, those that read prompts counted [1/s].
        tpot: time per output token [s].
        design: split and batch of the GPUs that decode.
    """

    rate: float
    tpot: float
    design: Row


class Pools(NamedTuple):
    """Both ways, each by its best splits of as many GPUs within the limit on TPOT, if any keeps it.

    Attributes:
        apart: with prefill on GPUs of its own.
        prefill: split of the GPUs that read most prompts.
        together: with prompts and answers on the same GPUs.
    """

    apart: Way | None
    prefill: Row
    together: Way | None

    def record(self) -> Row:
        """All of it by name."""
        ways = {"apart": self.apart, "together": self.together}
        named = {name: None if way is None else way._asdict() for name, way in ways.items()}
        return named | {"prefill": self.prefill}


def pools_of(
    problem: Problem, requests: tuple[float, float], cached: float, engine: str
) -> Pools | None:
    """Both ways for one cell; None where nothing runs.

    Every split that runs is tried at a ladder of batches, a fine one where it may be the best.
    Rates of pools are averages: the GPUs of each need not be a whole number of replicas, nor as
    many as those of the problem.

    Args:
        problem: one cell.
        requests: input and output tokens of a request.
        cached: tokens of a prompt whose cache is there already.
        engine: whose rules fill the steps that prompts and answers share.
    """
    cells = one_cell(any_batch(problem)[0])
    legal, _ = candidates_of(cells, cells.inputs, cells.economy)
    if not len(legal.position):
        return None
    limits = problem.limits
    longest = min(scalar(limits.max_tpot), 1.0 / max(scalar(limits.min_user_rate), 1e-300))
    every, most = np.arange(len(legal.position)), legal.largest.max()

    def tried(rows: np.ndarray, steps: np.ndarray) -> _Tried:
        return _tried(problem, legal, rows, steps, (requests, cached, engine))

    # Few batches of each split tell which may be the best of either way.
    coarse = tried(every, ladder(most, spacing=1.0, dense=1))
    ways = (coarse.apart, coarse.tpot), (coarse.together, coarse.shared)
    rows = np.flatnonzero(sum(_may_win(coarse.batches, *way, longest) for way in ways))
    fine = tried(rows, ladder(most, SPACING, DENSE)) if len(rows) else coarse

    def best(rate: np.ndarray, times: np.ndarray) -> Way | None:
        kept = np.where(times <= longest, rate, 0.0)
        row, at = np.unravel_index(np.argmax(kept), kept.shape)
        design = _design(cells, legal, fine.rows[row]) | {"batch": int(fine.batches[row, at])}
        one = Way(float(rate[row, at]), float(times[row, at]), design)
        return one if kept[row, at] > 0 else None

    row = int(np.argmax(coarse.reading[:, 0]))
    decode = best(fine.apart, fine.tpot)
    if decode is not None:
        readers = readers_for(decode.rate, *requests, float(coarse.reading[row, 0]))
        decode = decode._replace(rate=decode.rate / (1.0 + readers))
    return Pools(decode, _design(cells, legal, row), best(fine.together, fine.shared))


class _Tried(NamedTuple):
    """Splits at batches, and what they make there (`served_rates`): (splits, batches)."""

    rows: np.ndarray
    batches: np.ndarray
    apart: np.ndarray
    tpot: np.ndarray
    reading: np.ndarray
    together: np.ndarray
    shared: np.ndarray


def _tried(
    problem: Problem,
    legal: Candidates,
    rows: np.ndarray,
    steps: np.ndarray,
    asked: tuple[tuple[float, float], float, str],
) -> _Tried:
    """Some of the legal splits at each of some batches, as far as these fit."""
    requests, cached, engine = asked
    (inputs, designs), _ = legal.flat(rows)
    flat = records_on_host(inputs, designs.partition)
    records = trees.map(lambda x: np.reshape(x, (-1, 1)) if np.ndim(x) else x, flat)
    batches = np.minimum(steps, legal.largest[rows, None])
    work = dataclasses.replace(records.workload, batch=batches)
    rules = _filling(problem, np.broadcast_to(records.partition.dp, (len(rows), 1)), engine)
    records, convention = records._replace(workload=work), problem.stated.rules_of()
    rates = served_rates(records, convention, *requests, rules, cached=cached)
    return _Tried(rows, batches, *(np.broadcast_to(x, batches.shape) for x in rates))


def _may_win(
    batches: np.ndarray, rate: np.ndarray, times: np.ndarray, longest: float
) -> np.ndarray:
    """Splits that may make the most at a batch between two that were tried.

    Until the next batch a rate grows by no more than the batch does, and, but for what tiles round,
    to no more than the next rate.
    """
    after, grown = (np.concatenate([x[:, 1:], x[:, -1:]], axis=1) for x in (rate, batches))
    kept = times <= longest
    between = np.maximum(rate, np.minimum(rate * grown / batches, (1.0 + SPACING) * after))
    most = np.where(kept, between, 0.0).max(axis=1)
    return (most > 0) & (most >= np.where(kept, rate, 0.0).max())


def _design(cells: Cells, legal: Candidates, row: int) -> Row:
    return design_label(cells, int(legal.position[row]))


def _filling(problem: Problem, dp: np.ndarray, engine: str) -> Filling:
    """The engine's rules for each of some numbers of attention replicas, shape (designs, 1)."""
    (model,), (device,) = problem.stated.models, problem.stated.accelerators
    each = {
        count: filling_of(
            engine,
            scalar(device.spec.hbm_bytes),
            device.name,
            sharing(model.spec, Partition(dp=count)),
        )
        for count in np.unique(dp)
    }
    return each[dp[0, 0]]._replace(budget=np.array([[each[x].budget] for x in dp[:, 0]]))
