"""What a device does with one block: score every design once, and reduce the scores."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.decode import StepCost, decode_parts
from qsjax.grid import Records
from qsjax.reduction import (
    Choice,
    Objective,
    Scored,
    choose,
    count_reasons,
    levels,
    of_shape,
    scores_of,
    sums,
)
from qsjax.specs import Convention
from qsjax.staging import map_tiles, tiles_of

Metric = Literal["tpot", "tokens_per_s", "tokens_per_s_per_gpu", "tokens_per_s_per_user"]
# Bins of the quantiles: 256 for each factor of two, so that a quantile is right to 0.4 %.
_BINS_PER_OCTAVE, _LOWEST, _OCTAVES = 256, -40, 96
BINS = _BINS_PER_OCTAVE * _OCTAVES


class Spread(NamedTuple):
    """Range and histogram of a metric over the feasible designs of a block."""

    low: jax.Array
    high: jax.Array
    bins: jax.Array


class Reduction(NamedTuple):
    """What is left of a block: the best design of each kept cell, and sums over the block."""

    best: Choice
    feasible: jax.Array
    reasons: jax.Array
    spread: tuple[Spread, ...]


def bin_of(values: jax.Array) -> jax.Array:
    """Logarithmic bin, read off the bits of the number."""
    exact = values.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(exact, jnp.int32) >> 15
    return jnp.clip(bits - (127 + _LOWEST) * _BINS_PER_OCTAVE, 0, BINS - 1)


def bin_edges() -> np.ndarray:
    """Lower edges of the bins, and the last upper one."""
    octave, part = np.divmod(np.arange(BINS + 1), _BINS_PER_OCTAVE)
    edges: np.ndarray = np.exp2(octave + _LOWEST) * (1.0 + part / _BINS_PER_OCTAVE)
    return edges


def _spread(values: jax.Array, is_feasible: jax.Array) -> Spread:
    flags = is_feasible.astype(jnp.int32).reshape(-1)
    values = jnp.broadcast_to(values, is_feasible.shape)
    return Spread(
        jnp.min(jnp.where(is_feasible, values, jnp.inf)),
        jnp.max(jnp.where(is_feasible, values, -jnp.inf)),
        jnp.zeros(BINS, jnp.int32).at[bin_of(values).reshape(-1)].add(flags),
    )


def _scored(
    records: Records, job_rules: tuple[Convention, Objective], bounds: Mapping[str, Any]
) -> tuple[StepCost, Scored]:
    convention, objective = job_rules
    step, broken = decode_parts(*records[:4], convention, records.gpus)
    is_allowed = jnp.ones((), bool)
    for name, (low, high) in bounds.items():
        value = getattr(step, name)
        is_allowed = is_allowed & (value >= low) & (value <= high)
    return step, scores_of(step, broken, records.gpus, objective, is_allowed)


def reduce_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> Reduction:
    """One block: kept cells first, designs along the last axis, in tiles of the designs."""
    tiles = tiles_of(shape[-1])
    part = (*shape[:-1], shape[-1] // tiles)

    def one(own: Records, rules: Convention, limits: Any) -> Any:
        step, scored = _scored(own, (rules, objective), limits)
        metrics = [jnp.broadcast_to(getattr(step, name), part) for name in statistics]
        scored = of_shape(scored, part)
        return scored, sums(scored.score), metrics

    scored, found, metrics = map_tiles(one, (records, convention, dict(bounds)), shape, tiles)
    _, illegal = levels(scored.score.dtype)
    has_batch = records.workload.batch is not None
    feasible, reasons = count_reasons(scored, found, has_batch=has_batch)
    is_counted = (scored.score > illegal) & is_real[None]
    spread = tuple(_spread(values, is_counted) for values in metrics)
    best = choose(scored.score, found.highest, scored.gpus, illegal)
    return Reduction(best, feasible, reasons, spread)


def detail_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> tuple[jax.Array, ...]:
    """Every score of a block, and the two axes of the Pareto front."""
    step, scored = _scored(records, (convention, objective), bounds)
    parts = (scored.score, step.tokens_per_s_per_gpu, step.tokens_per_s_per_user)
    return tuple(jnp.broadcast_to(x, shape) for x in parts)


def survivors_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> jax.Array:
    """Feasible designs of a block that no point of a front (`bounds["front"]`) dominates."""
    own = {name: pair for name, pair in bounds.items() if name != "front"}
    step, scored = _scored(records, (convention, objective), own)
    _, illegal = levels(scored.score.dtype)
    rate, speed = step.tokens_per_s_per_gpu, step.tokens_per_s_per_user
    is_open = (scored.score > illegal) & is_real
    for x, y in zip(*bounds["front"], strict=True):
        is_open = is_open & ((rate > x) | (speed > y))
    return jnp.sum(is_open, dtype=jnp.int32)
