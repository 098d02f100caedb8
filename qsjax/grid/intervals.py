"""The interval of every predicted time, and how sure one design is to be ahead of another."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.ledger import regimes_of, resource_times
from qsjax.engines.rules import generation_of
from qsjax.engines.spread import (
    LEVEL,
    SHARED,
    Error,
    chance_below,
    deviation,
    difference,
    error_of,
    factor_of,
    load_spread,
    quantile,
)
from qsjax.grid.case import Case
from qsjax.grid.cells import Winners, records_on_host, take
from qsjax.grid.fronts import Front
from qsjax.grid.served import base_name
from qsjax.grid.solution import Row, Solution, ledger_of
from qsjax.numerics.namespace import xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import safe_log
from qsjax.records.specs import Convention, HardwareSpec, Records, is_papers

STEP = 1e-3  # relative, of the derivatives
# A difference is larger than the error where one is ahead with this probability: where the
# two-sided interval of `LEVEL` leaves it out.
SURE = 0.5 + 0.5 * LEVEL
_ONE_SYSTEM = frozenset(SHARED) - {"model"}  # what a model and its twin have in common
Arrays = dict[str, np.ndarray]


@on_host
def _log_tpot(records: Records, convention: Convention) -> Any:
    return safe_log(xp.asarray(decode_step(records, convention).tpot))


def _slopes(records: Records, rules: Convention, names: tuple[str, ...], count: int) -> np.ndarray:
    """Derivatives of the logarithm of TPOT in those of the hardware's constants."""
    fields = {f.name for f in dataclasses.fields(HardwareSpec)}
    moves = np.vstack([np.zeros(len(names)), STEP * np.eye(len(names))])[..., None]
    moved: dict[str, Any] = {
        name: np.asarray(getattr(records.hardware, name)) * (1.0 + moves[:, i])
        for i, name in enumerate(names)
        if name in fields
    }
    hardware = dataclasses.replace(records.hardware, **moved)
    moved_logs = _log_tpot(records._replace(hardware=hardware), rules)
    logs = np.broadcast_to(np.asarray(moved_logs), (len(moves), count))
    return (logs[1:] - logs[0]).T / STEP


def _error(
    records: Records, rules: Convention, device: str, terms: Mapping[str, Any], engine: str
) -> Error:
    """The error to be expected of steps of one accelerator, one each."""
    spread = load_spread()
    regimes = np.atleast_1d(regimes_of(resource_times(terms)))
    count = len(regimes)
    # What the paper counts is no machine that anyone could measure.
    generation = "" if is_papers(rules) else generation_of(device)
    experts = np.broadcast_to(np.asarray(records.model.experts), count)
    groups = {
        "engine": np.full(count, engine),
        "generation": np.full(count, generation),
        "kind": np.where(experts > 1, "MoE", "dense"),
        "regime": regimes,
    }
    return error_of(spread, groups, _slopes(records, rules, spread.constants, count))


def bounds_of(solution: Solution, level: float) -> Arrays:
    """`bounds_of_winners`, and, where there are twins, how probably each is ahead of the MoE.

    Raises:
        ValueError: `level` is no probability.
    """
    device = solution.cells.hardware
    winners = (solution.winners, solution.step, device.name)
    error, bounds = bounds_of_winners(*winners, level, device.engine)
    if len(solution.cells.variants) > 1 and not is_papers(solution.winners.inputs.convention):
        bounds["chance_over_moe"] = _over_moe(solution, error)
    return bounds


def bounds_of_winners(
    winners: Winners, step: StepCost, device: str, level: float = LEVEL, engine: str = ""
) -> tuple[Error, Arrays]:
    """The error of designs, and intervals that hold the measured values with a probability.

    `tpot_low` and `tpot_high` [s], the same of tokens/s/GPU, and in words what they rest on.
    """
    rules = winners.inputs.convention
    records = records_on_host(winners.inputs, winners.designs.partition)
    workload = dataclasses.replace(records.workload, batch=step.capacity.batch)
    terms = ledger_of(winners, step)
    error = _error(records._replace(workload=workload), rules, device, terms, engine)
    return error, _bounds(error, step, level)


def bounded_rows(front: Front) -> list[Row]:
    """The rows of a front with the intervals of its points."""
    rows = front.rows()
    if not rows:
        return rows
    _, bounds = bounds_of_winners(
        front.winners, front.step, front.label["hardware"], engine=front.engine
    )
    return [row | {k: x[at].item() for k, x in bounds.items()} for at, row in enumerate(rows)]


def _over_moe(solution: Solution, error: Error) -> np.ndarray:
    """Probability that each cell makes more tokens/s/GPU than the MoE; NaN where one is missing."""
    chances = np.full(solution.cells.cells, np.nan)
    per = solution.cells.per_variant
    runs, rate = solution.is_feasible, np.asarray(solution.step.tokens_per_s_per_gpu)
    for cell in range(per, len(chances)):
        first = cell % per
        if runs[cell] and runs[first]:
            ratio = float(rate[cell] / rate[first])
            chances[cell] = _lead(error, ratio, _ONE_SYSTEM, (cell, first)).chance
    return chances


def _bounds(error: Error, step: StepCost, level: float) -> Arrays:
    factor = factor_of(load_spread(), error, level)
    tpot, rate = np.atleast_1d(step.tpot), np.atleast_1d(step.tokens_per_s_per_gpu)
    return {
        "tpot_low": tpot / factor,
        "tpot_high": tpot * factor,
        "tokens_per_s_per_gpu_low": rate / factor,
        "tokens_per_s_per_gpu_high": rate * factor,
        "interval_rests_on": np.array(error.rests_on),
    }


class Names(NamedTuple):
    """What designs of the same names share: fields are those of `SHARED`.

    Attributes:
        accelerator: its name in the catalogue.
        model: its name, with the quality factor of a dense twin.
        engine: what serves it; "" where it is not stated.
    """

    accelerator: str
    model: str = ""
    engine: str = ""

    def shared(self, other: "Names") -> frozenset[str]:
        """The fields in which both are the same."""
        return frozenset(name for name in SHARED if getattr(self, name) == getattr(other, name))


class NamedCase(NamedTuple):
    """A design under its names."""

    case: Case
    names: Names


def error_of_case(side: NamedCase) -> Error:
    """The error to be expected of one design."""
    case = side.case
    accelerator, _, engine = side.names
    return _error(case.records, case.rules, accelerator, case.parts.time, engine)


def bounds_of_case(side: NamedCase, level: float = LEVEL) -> dict[str, Any]:
    """The bounds of `bounds_of` for one design.

    Raises:
        ValueError: `level` is no probability.
    """
    bounds = _bounds(error_of_case(side), side.case.parts.step, level)
    return {name: x[0].item() for name, x in bounds.items()}


def is_sure(chance: float) -> bool:
    """Whether a difference is larger than the error, whoever is ahead."""
    return max(chance, 1.0 - chance) >= SURE


class Lead(NamedTuple):
    """How sure one design is to make more tokens/s/GPU than another.

    Attributes:
        chance: probability that it does.
        margin: factor of predicted rates from which it would be as good as sure (`SURE`).
        gains: shares of the variance of their ratio that a measurement of the first, or of the
            second design would remove [1].
    """

    chance: float
    margin: float
    gains: tuple[float, float]

    @property
    def is_sure(self) -> bool:
        """Whether the difference is larger than the error, whoever is ahead."""
        return is_sure(self.chance)


def names_of(hardware: str, model: str, q: float | None, engine: str = "") -> Names:
    """Accelerator and model, with q of a twin: variants of one thing err alike."""
    return Names(base_name(hardware), base_name(model) + ("" if q is None else f" q={q:g}"), engine)


def names_in(label: Mapping[str, Any], engine: str = "") -> Names:
    """The names of a cell."""
    return names_of(label["hardware"], label["model"], label["q"], engine)


def lead_of(first: NamedCase, second: NamedCase, *, ratio: float | None = None) -> Lead:
    """How sure the first design is to be ahead; errors of what both share cancel.

    In tokens/s/GPU, or by a predicted `ratio` of something else that goes with the time.
    """
    errors = [error_of_case(side) for side in (first, second)]
    ratio = first.case.rate / second.case.rate if ratio is None else ratio
    return _lead_of_two(errors, first.names.shared(second.names), ratio)


def _lead_of_two(
    errors: Sequence[Error],
    shared: frozenset[str],
    ratio: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Lead:
    """The lead of a design over another, each with an error of its own."""
    variance = np.concatenate([error.variance for error in errors])
    slopes = np.concatenate([error.slopes for error in errors])
    return _lead(Error(variance, slopes, []), ratio, shared, (0, 1), weights)


def lead_at_rate(first: Front, second: Front, tpot: float) -> Lead | None:
    """How sure the first front is to make more tokens/s/GPU within a limit on TPOT.

    Partition and batch take up what the times err, so that near the fastest design 1 % of TPOT is
    far more in throughput.

    Returns:
        The lead; None where one of both keeps no such limit.
    """
    errors, weights, rates = [], [], []
    for front in (first, second):
        at = front.within(tpot)
        if at is None:
            return None
        winners, step = take((front.winners, front.step), [at])
        error, _ = bounds_of_winners(winners, step, front.label["hardware"], engine=front.engine)
        errors.append(error)
        weights.append(_amplification(front, tpot, float(deviation(load_spread(), error)[0])))
        rates.append(front.gpu[at])
    shared = names_in(first.label).shared(names_in(second.label))
    return _lead_of_two(errors, shared, rates[0] / rates[1], (weights[0], weights[1]))


def _amplification(front: Front, tpot: float, sigma: float) -> float:
    """Per cent of throughput for one per cent of time at a limit on TPOT [1], at least 1.

    With times e^x longer the front makes G(T e^-x) e^-x: 1 + d ln G / d ln T, by the difference
    over one standard deviation of the times each way, as far as the front reaches.
    """
    times, rates = np.log(front.step.tpot), np.log(front.gpu)
    middle = min(float(np.log(tpot)), times[-1] + sigma)
    ends = np.array([max(middle - sigma, times[0]), middle + sigma])
    low, high = np.interp(ends, times, rates)
    return float(1.0 + (high - low) / (ends[1] - ends[0]))


def _lead(
    error: Error,
    ratio: float,
    shared: frozenset[str],
    pair: tuple[int, int],
    weights: tuple[float, float] = (1.0, 1.0),
) -> Lead:
    """How sure one of two designs is to be ahead that makes `ratio` times as many tokens/s/GPU."""
    spread = load_spread()
    advantage = difference(spread, error, ratio, shared, pair, weights)
    z = advantage.mean / advantage.sigma if advantage.sigma else 0.0
    margin = float(np.exp(quantile(spread, LEVEL) * advantage.sigma))
    return Lead(chance_below(spread, z), margin, advantage.gains)
