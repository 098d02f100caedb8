"""Kernels of one block: score every design once, and reduce the scores."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import decode_parts
from qsjax.grid.scoring import Reduced, Scored, StepObjective, lowest, scores_of
from qsjax.grid.staging import evaluate
from qsjax.grid.tiles import count_tiles, reduce_tiles
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.namespace import Array
from qsjax.records.specs import Convention, Records

Metric = StepObjective
# Bins of the quantiles: 256 for each factor of two, so that a quantile is right to 0.4 %.
_BINS_PER_OCTAVE, _LOWEST, _OCTAVES = 256, -40, 96
BINS = _BINS_PER_OCTAVE * _OCTAVES
_FRONT = ("tokens_per_s_per_gpu", "tokens_per_s_per_user")  # axes of the Pareto front


class Spread(NamedTuple):
    """Range and histogram of a metric over the feasible designs of a block."""

    low: Array
    high: Array
    bins: Array


class Wanted(NamedTuple):
    """What all blocks of a sweep share; hashable, as a static argument.

    Attributes:
        objective: what is maximised.
        shape: kept cells of a block, then designs.
        statistics: metrics whose spread is wanted.
    """

    objective: StepObjective
    shape: tuple[int, ...]
    statistics: tuple[Metric, ...]


def bin_of(values: Array) -> Array:
    """Logarithmic bin, read off the bits of the number."""
    exact = values.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(exact, jnp.int32) >> 15
    return jnp.clip(bits - (127 + _LOWEST) * _BINS_PER_OCTAVE, 0, BINS - 1)


def bin_edges() -> np.ndarray:
    """Lower edges of the bins, and the last upper one."""
    octave, part = np.divmod(np.arange(BINS + 1), _BINS_PER_OCTAVE)
    return np.exp2(octave + _LOWEST) * (1.0 + part / _BINS_PER_OCTAVE)


def _spread(values: Array, is_feasible: Array) -> Spread:
    flags = is_feasible.astype(jnp.int32).reshape(-1)
    return Spread(
        jnp.min(jnp.where(is_feasible, values, jnp.inf)),
        jnp.max(jnp.where(is_feasible, values, -jnp.inf)),
        jnp.zeros(BINS, jnp.int32).at[bin_of(values).reshape(-1)].add(flags),
    )


def _scored(
    records: Records,
    convention: Convention,
    bounds: Mapping[str, Any],
    objective: StepObjective,
    metrics: tuple[str, ...] = (),
) -> Scored:
    step, broken = decode_parts(records, convention)
    is_allowed = jnp.ones((), bool)
    for name, (low, high) in bounds.items():
        value = getattr(step, name)
        is_allowed = is_allowed & (value >= low) & (value <= high)
    scored = scores_of(step, broken, records.gpus, objective, is_allowed)
    return scored._replace(metrics=tuple(getattr(step, name) for name in metrics))


def reduce_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    wanted: Wanted,
    is_real: Array,
) -> Reduced:
    """One block: kept cells first, designs along the last axis."""

    def scorer(own: Records, rules: Convention, limits: Any, is_own: Array) -> Scored:
        scored = _scored(own, rules, limits, wanted.objective, wanted.statistics)
        return scored._replace(metrics=(*scored.metrics, is_own)) if wanted.statistics else scored

    def spreads(scored: Scored) -> tuple[Spread, ...]:
        if not scored.metrics:
            return ()
        *metrics, is_own = scored.metrics
        counted = (scored.score > lowest(scored.score.dtype)) & is_own
        return tuple(_spread(values, counted) for values in metrics)

    arguments = (records, convention, dict(bounds), is_real)
    reduced, spread = reduce_tiles(scorer, arguments, wanted.shape, extra=spreads)
    spread = tuple(
        Spread(x.low.min(), x.high.max(), x.bins.reshape(-1, BINS).sum(0)) for x in spread
    )
    return reduced._replace(spread=spread)


def detail_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    wanted: Wanted,
    is_real: Array,
) -> tuple[Array, ...]:
    """Every score of a block, and the two axes of the Pareto front."""

    def scorer(own: Records, rules: Convention, limits: Any) -> tuple[Array, ...]:
        scored = _scored(own, rules, limits, wanted.objective, _FRONT)
        return scored.score, *scored.metrics

    scores = evaluate(scorer, (records, convention, dict(bounds)))
    return tuple(jnp.broadcast_to(x, wanted.shape) for x in scores)


def survivors_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    wanted: Wanted,
    is_real: Array,
) -> Array:
    """Feasible designs of a block that no point of a front (`bounds["front"]`) dominates."""
    own = {name: pair for name, pair in bounds.items() if name != "front"}

    def is_beyond(own_records: Records, rules: Convention, limits: Any, is_own: Array) -> Array:
        scored = _scored(own_records, rules, limits, wanted.objective, _FRONT)
        is_open = scored.feasible & is_own
        rate, speed = scored.metrics
        for x, y in zip(*bounds["front"], strict=True):
            is_open = is_open & ((rate > x) | (speed > y))
        return is_open

    return count_tiles(is_beyond, (records, convention, own, is_real), wanted.shape)
