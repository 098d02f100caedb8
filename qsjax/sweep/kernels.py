"""What a device does with one block: score every design once, and reduce the scores."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.decode import StepCost, decode_parts
from qsjax.grid import Records
from qsjax.search import Choice, Objective, Scored, choose, count_reasons, levels, scores_of
from qsjax.specs import Convention

Metric = Literal["tpot", "tokens_per_s", "tokens_per_s_per_gpu", "tokens_per_s_per_user"]
# Designs of a tile: their scores and the coefficients of a row stay close to the core.
TILE_CELLS = 2**14
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
    """One block: kept cells first, designs along the last axis."""
    step, scored = _scored(records, (convention, objective), bounds)
    score = jax.lax.optimization_barrier(jnp.broadcast_to(scored.score, shape))
    _, illegal = levels(score.dtype)
    has_batch = records.workload.batch is not None
    feasible, reasons = count_reasons(scored, score, has_batch=has_batch)
    spread = tuple(_spread(getattr(step, name), (score > illegal) & is_real) for name in statistics)
    return Reduction(choose(score, scored.gpus, illegal), feasible, reasons, spread)


def tile_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Kept axis along which a block is cut into tiles, and the coordinates of a tile."""
    axis = next((k for k, n in enumerate(shape[:-1]) if n > 1), 0)
    length, rest = shape[axis], math.prod(shape[axis + 1 :])
    fitting = [n for n in range(1, length + 1) if length % n == 0 and n * rest <= TILE_CELLS]
    return axis, max(fitting, default=1)


def reduce_tiled(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> Reduction:
    """`reduce_one` in a loop over tiles of a block.

    What does not depend on the tile leaves the loop and is kept in memory; without a loop XLA would
    recompute it for every design, as it fuses all that is cheap into the last expression.
    """
    axis, rows = tile_of(shape)
    tiles = shape[axis] // rows
    leaves, tree = jax.tree.flatten((records, is_real))
    cut = [x.ndim == len(shape) and x.shape[axis] == shape[axis] and tiles > 1 for x in leaves]
    # All axes before this one have length 1, so a reshape is all that cutting takes.
    moving = [
        x.reshape(tiles, *x.shape[:axis], rows, *x.shape[axis + 1 :])
        for x, c in zip(leaves, cut, strict=True)
        if c
    ]
    part_shape = (*shape[:axis], rows, *shape[axis + 1 :])

    def one(parts: list[jax.Array]) -> Reduction:
        each = iter(parts)
        whole = [next(each) if c else x for x, c in zip(leaves, cut, strict=True)]
        own, real = jax.tree.unflatten(tree, whole)
        return reduce_one(own, bounds, convention, objective, part_shape, statistics, real)

    if tiles == 1:
        return reduce_one(records, bounds, convention, objective, shape, statistics, is_real)
    found = jax.lax.map(one, moving)
    kept = shape[:-1]
    return Reduction(
        Choice(*(x.reshape(kept) for x in found.best)),
        found.feasible.reshape(kept),
        jnp.moveaxis(found.reasons, 0, 1).reshape(-1, *kept),
        tuple(Spread(s.low.min(), s.high.max(), s.bins.sum(0)) for s in found.spread),
    )


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
