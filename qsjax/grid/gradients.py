"""Derivatives at fixed designs: elasticities, one-sided slopes at kinks, second derivatives.

At an optimum over designs the design itself has no slope (envelope theorem), so the derivative of
the best value is the derivative of one evaluation at the winner. The model is elementwise over
rows: one reverse pass over the sum of a metric gives its slopes in every parameter of every row.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.metrics import METRICS, OF_HARDWARE, Economy, check_metrics, metric_value
from qsjax.grid.cells import Designs, Winners, as_rows, concatenated, step_of, take
from qsjax.grid.parameters import Inputs, Parameter, members_of, read, with_rounding, write
from qsjax.grid.progress import over
from qsjax.numerics.jax import jax
from qsjax.numerics.jaxpr import by_tape, on_host_by_jax
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.safe import safe_log

# Relative distance at which the slopes left and right of a value are taken.
SIDE_STEP = 1e-7
# Left and right slopes closer than this to the slope itself are no kink.
KINK_TOLERANCE = 1e-5
VALUES = 2**16  # numbers of each operation at a time: as many as stay in the caches
# Slopes in the batch are taken just above it: below, a pipeline's stages stand empty.
ABOVE = 1e-7

Values = tuple[Array, ...]


class Slopes(NamedTuple):
    """Slopes of log metrics at fixed designs, shape (metric, parameter, row).

    Attributes:
        value: the metrics, shape (metric, row).
        elasticity: d log metric / d log parameter; 0 where the parameter is 0.
        derivative: d metric / d parameter; of a group, all members raised by the same amount.
        left: elasticity just below the parameter's value.
        right: elasticity just above it; both equal `elasticity` away from kinks.
    """

    value: np.ndarray
    elasticity: np.ndarray
    derivative: np.ndarray
    left: np.ndarray
    right: np.ndarray


_step = by_tape(step_of)


def _held_step(winners: Winners, offset: Array) -> StepCost:
    """The step with the largest batch moving smoothly from its rounded value, or not at all.

    A rounded batch jumps where a parameter is nudged across a step; the jump is not a slope.
    `offset` is the rounded batch less the unrounded one, or the rounded batch itself where its
    derivative is 0.
    """
    inputs, designs = winners
    moves = inputs.convention.rounding != "floor"
    smooth = with_rounding(inputs, "relaxed")
    largest = offset
    if moves:
        largest = largest + _step(Winners(smooth, designs)).capacity.max_batch
    batch = largest if designs.batch is None else designs.batch
    step = _step(Winners(smooth, Designs(designs.partition, batch)))
    return dataclasses.replace(step, capacity=step.capacity._replace(max_batch=largest))


def _offset(winners: Winners) -> Array:
    rounded = _step(winners).capacity.max_batch
    if winners.inputs.convention.rounding == "floor":
        return rounded
    smooth = winners._replace(inputs=with_rounding(winners.inputs, "relaxed"))
    return rounded - _step(smooth).capacity.max_batch


def _logs(
    winners: Winners,
    members: tuple[str, ...],
    metrics: tuple[str, ...],
    economy: Economy,
    offset: Array | None = None,
) -> Callable[[Values], Values]:
    """Function from the members' values to log metrics, 0 where not positive."""

    def of(values: Values) -> Values:
        inputs = write(winners.inputs, dict(zip(members, values, strict=True)))
        changed = winners._replace(inputs=inputs)
        step = _step(changed) if offset is None else _held_step(changed, offset)
        own: dict[str, Any] = {name: getattr(inputs.hardware, name) for name in OF_HARDWARE}
        prices = dataclasses.replace(economy, **own)
        return tuple(safe_log(metric_value(name, step, prices)) for name in metrics)

    return of


def _values(inputs: Inputs, members: tuple[str, ...]) -> Values:
    rows = inputs.q.shape
    return tuple(xp.broadcast_to(xp.asarray(read(inputs, name)), rows) for name in members)


@on_host_by_jax
def _gradient(
    winners: Winners, economy: Economy, *, members: tuple[str, ...], metric: str
) -> tuple[Array, Values]:
    """The log of one metric and its slopes in every member, per row."""
    logs_of = _logs(winners, members, (metric,), economy)
    found: tuple[Array, Values] = jax.value_and_grad(lambda values: logs_of(values)[0])(
        _values(winners.inputs, members)
    )
    return found


@on_host_by_jax
def _slopes_beside(
    winners: Winners,
    economy: Economy,
    mask: Values,
    side: Any,
    *,
    members: tuple[str, ...],
    metrics: tuple[str, ...],
) -> Values:
    """Slopes of logs along the masked members, just below or above their values, or at them."""
    values = _values(winners.inputs, members)
    at = tuple(v * (1.0 + side * SIDE_STEP * m) for v, m in zip(values, mask, strict=True))
    direction = tuple(v * m for v, m in zip(values, mask, strict=True))
    logs_of = _logs(winners, members, metrics, economy, _offset(winners))
    return jax.jvp(logs_of, (at,), (direction,))[1]


def _kinks(
    winners: Winners,
    economy: Economy,
    masks: np.ndarray,
    members: tuple[str, ...],
    metrics: tuple[str, ...],
) -> np.ndarray:
    """Change of elasticities just left and just right, shape (2, metric, parameter, row)."""
    mask, side = tuple(masks.T[:, :, None]), np.array([-1.0, 0.0, 1.0])[:, None, None]
    beside = _slopes_beside(winners, economy, mask, side, members=members, metrics=metrics)
    shape = (3, len(masks), _rows(winners))
    left, here, right = np.stack([np.broadcast_to(x, shape) for x in beside], axis=1)
    return np.stack([left - here, right - here])


@on_host_by_jax
def _curvature(
    winners: Winners,
    economy: Economy,
    one: Values,
    other: Values,
    *,
    members: tuple[str, ...],
    metric: str,
) -> Any:
    """Second derivative of a log metric along two masks, in the members' logarithms."""
    values = _values(winners.inputs, members)
    logs_of = _logs(winners, members, (metric,), economy)

    def log_metric(exponents: Values) -> Any:
        at = tuple(v * xp.exp(x) for v, x in zip(values, exponents, strict=True))
        return logs_of(at)[0]

    origin = tuple(xp.zeros_like(v) for v in values)

    def along(mask: Values) -> Values:
        return tuple(m * xp.ones_like(x) for m, x in zip(mask, origin, strict=True))

    def slope(x: Values) -> Any:
        return jax.jvp(log_metric, (x,), (along(other),))[1]

    return jax.jvp(slope, (origin,), (along(one),))[1]


def _masks(parameters: Sequence[Parameter], members: tuple[str, ...]) -> np.ndarray:
    return np.array([[float(name in p.members) for name in members] for p in parameters])


def _prices(winners: Winners, economy: Economy | None) -> Economy:
    return as_rows(economy or Economy(usd_per_hour=0.0, watts=0.0), _rows(winners))


def _rows(winners: Winners) -> int:
    return len(np.asarray(winners.inputs.q))


def _blocks(winners: Winners, prices: Economy, each: int) -> Iterator[tuple[Winners, Economy]]:
    """Blocks of rows so small that `each` values a row stay in the caches."""
    step = max(1, VALUES // each)
    for k in over(range(0, _rows(winners), step)):
        yield take((winners, prices), slice(k, k + step))


def slopes_at(
    winners: Winners,
    parameters: Sequence[Parameter],
    metrics: Sequence[str],
    economy: Economy | None = None,
    *,
    one_sided: bool = True,
) -> Slopes:
    """Slopes of every metric in every parameter at one fixed design per row.

    Finite in every row, feasible or not. The rounding of the batch is that of the rows' convention
    (see `with_rounding`).

    Args:
        winners: inputs and designs, one per row.
        parameters: from `resolve`.
        metrics: names of METRICS.
        economy: utilisation and power shares; price and power are those of the rows' hardware.
        one_sided: also evaluate both sides of every kink; else left = right = elasticity.
    """
    members, masks = members_of(parameters), _masks(parameters, members_of(parameters))
    names, prices = tuple(metrics), _prices(winners, economy)
    parts: list[Slopes] = []
    for some, own in _blocks(winners, prices, 3 * len(masks)):
        rows = _rows(some)
        found = [_gradient(some, own, members=members, metric=name) for name in names]
        logs = np.stack([np.broadcast_to(log, rows) for log, _ in found])
        slopes = np.stack([[np.broadcast_to(x, rows) for x in of] for _, of in found])
        values = np.stack([np.asarray(read(some.inputs, name)) for name in members])
        elasticity = np.einsum("pm,kmr->kpr", masks, slopes * values)
        left = right = elasticity
        if one_sided:
            change = _kinks(some, own, masks, members, names)
            is_kink = np.abs(change) > KINK_TOLERANCE * np.maximum(1.0, np.abs(elasticity))
            left, right = (elasticity + side for side in np.where(is_kink, change, 0.0))
        value = np.exp(logs)
        derivative = value[:, None] * np.einsum("pm,kmr->kpr", masks, slopes)
        parts.append(Slopes(value, elasticity, derivative, left, right))
    return concatenated(*parts, axis=-1)


@on_host_by_jax
def _slope_in_batch(winners: Winners) -> Array:
    """d ln TPOT / d ln B at each row's batch [1]."""
    batch = xp.asarray(winners.designs.batch) * (1.0 + ABOVE)

    def log_tpot(x: Array) -> Array:
        return xp.log(_step(winners._replace(designs=winners.designs._replace(batch=x))).tpot)

    return jax.jvp(log_tpot, (batch,), (batch,))[1]


class RateSlopes(NamedTuple):
    """Slopes at the same tokens/s/user; at the largest batch where that is what limits a row.

    Attributes:
        amplification: per cent of throughput for one per cent of TPOT, 1/(d ln T/d ln B) [1],
            shape (row,); 1 at the largest batch.
        share: part of TPOT that a parameter accounts for, -d ln TPOT / d ln parameter at the row's
            batch, shape (parameter, row); negative for one that adds to it.
        elasticity: d ln (tokens/s/GPU) / d ln parameter, shape (parameter, row).
    """

    amplification: np.ndarray
    share: np.ndarray
    elasticity: np.ndarray


def slopes_at_rate(
    winners: Winners, parameters: Sequence[Parameter], is_full: np.ndarray
) -> RateSlopes:
    """Slopes of throughput at a fixed tokens/s/user: the batch takes up the slack.

    Args:
        winners: inputs and designs with their batches, one per row.
        parameters: from `resolve`.
        is_full: whether a row's batch is the largest that fits; it then moves with the memory.
    """
    free = winners._replace(designs=winners.designs._replace(batch=None))
    of_time = slopes_at(winners, parameters, ["tpot"], one_sided=False).elasticity[0]
    of_rate = slopes_at(free, parameters, ["tokens_per_s_per_gpu"], one_sided=False).elasticity[0]
    amplification = np.where(is_full, 1.0, 1.0 / np.asarray(_slope_in_batch(winners)))
    return RateSlopes(amplification, -of_time, np.where(is_full, of_rate, -of_time * amplification))


def hessian_at(
    winners: Winners,
    parameters: Sequence[Parameter],
    metric: str = "tokens_per_s_per_gpu",
    economy: Economy | None = None,
) -> np.ndarray:
    """Second derivatives of log metric in log parameters, shape (row, parameter, parameter)."""
    check_metrics([metric], tuple(METRICS))
    members = members_of(parameters)
    masks, prices = _masks(parameters, members), _prices(winners, economy)
    one, other = tuple(masks.T[:, :, None, None]), tuple(masks.T[:, None, :, None])
    parts = []
    for some, own in _blocks(winners, prices, len(masks) ** 2):
        second = _curvature(some, own, one, other, members=members, metric=metric)
        parts.append(np.broadcast_to(second, (len(masks), len(masks), _rows(some))))
    return np.concatenate(parts, axis=-1).transpose(2, 0, 1)
