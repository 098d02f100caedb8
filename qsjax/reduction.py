"""Scores of designs with their feasibility, the tie rule, and the counts of reasons."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from qsjax.decode import StepCost, decode_parts
from qsjax.feasibility import REASONS
from qsjax.grid import Records
from qsjax.specs import Convention
from qsjax.staging import DESIGNS

Objective = Literal["tokens_per_s_per_gpu", "tokens_per_s_per_user", "tokens_per_s", "tpot"]
# Rules that need the batch, and those that need memory: the others hold for a partition as such.
BATCH_RULES = ("no sequence fits", "batch does not fit")
MEMORY_RULES = ("weights do not fit", *BATCH_RULES)
# Grids run long, so their loops are compiled for the widest vectors.
WIDE = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_enable_fast_min_max": True}
# Scores this close (relative) count as equal; then fewest GPUs wins, then the lowest index.
TIE_TOLERANCE = 1e-9


class Choice(NamedTuple):
    """One design per kept cell: flat position over the searched axes, and its score."""

    position: jax.Array
    score: jax.Array


class Scored(NamedTuple):
    """Scores of a block or of a part of it.

    Attributes:
        score: what is maximised; of an infeasible design one of three levels below every score:
            -infinity where no sequence fits, then `TOO_MANY`, then `ILLEGAL`.
        gpus: GPUs of each design, where they may differ within a kept cell.
        broken: where each reason holds that does not depend on the batch, on the axes of its own.
        metrics: further numbers of each design that are asked for.
    """

    score: jax.Array
    gpus: jax.Array | None
    broken: dict[str, jax.Array]
    metrics: tuple[jax.Array, ...] = ()


class Sums(NamedTuple):
    """Highest score over the designs; how many run, hold a sequence, hold less than a batch."""

    highest: jax.Array
    feasible: jax.Array
    room: jax.Array
    too_many: jax.Array


class Reduced(NamedTuple):
    """What is kept of a block: choices and counts per kept cell; `second` only if asked for."""

    best: Choice
    second: Choice | None
    feasible: jax.Array
    reasons: jax.Array


def score_of(step: StepCost, objective: Objective) -> jax.Array:
    """What is maximised: the objective, or its negative where less is better."""
    value: jax.Array = getattr(step, objective)
    return -value if objective == "tpot" else value


def tolerance(dtype: jax.typing.DTypeLike) -> float:
    """Relative difference up to which scores count as equal; float32 cannot tell less apart."""
    return max(TIE_TOLERANCE, 4.0 * float(np.finfo(np.dtype(dtype)).eps))


def pick_best(score: jax.Array, is_feasible: jax.Array, gpus: jax.Array) -> Choice:
    """Best feasible entry along the last axis, by the tie rule; index 0 where there is none."""
    masked = jnp.where(is_feasible, score, -jnp.inf)
    best = jnp.max(masked, axis=-1, keepdims=True)
    is_tied = is_feasible & (masked >= best - tolerance(masked.dtype) * jnp.abs(best))
    cost = jnp.where(is_tied, gpus, jnp.inf)
    index = jnp.argmin(cost, axis=-1)
    return Choice(index, jnp.take_along_axis(masked, index[..., None], axis=-1)[..., 0])


def levels(dtype: jax.typing.DTypeLike) -> tuple[float, float]:
    """Scores of designs whose batch does not fit, and of illegal ones: below any real score."""
    lowest = float(np.finfo(np.dtype(dtype)).min)
    return lowest, lowest / 4.0


def scores_of(
    step: StepCost,
    broken: dict[str, jax.Array],
    gpus: ArrayLike | None,
    objective: Objective,
    is_allowed: jax.Array | None = None,
) -> Scored:
    """Score of every design, computed once, with its feasibility in the same number.

    One number for each design is all that the reductions read.

    Args:
        step: costs of the block.
        broken: rules that it breaks, from `decode_parts`.
        gpus: the GPU count if it is prescribed; all feasible designs have it then.
        objective: what is maximised.
        is_allowed: further condition; designs that fail it count as illegal.
    """
    is_illegal = jnp.zeros((), bool) if is_allowed is None else ~is_allowed
    for name, is_broken in broken.items():
        if name not in MEMORY_RULES:
            is_illegal = is_illegal | is_broken
    value = score_of(step, objective)
    too_many, illegal = levels(value.dtype)
    value = jnp.where(is_illegal, illegal, value)
    if "batch does not fit" in broken:
        value = jnp.where(broken["batch does not fit"], too_many, value)
    value = jnp.where(step.capacity.max_batch >= 1.0, value, -jnp.inf)
    low = {name: x for name, x in broken.items() if name not in BATCH_RULES}
    return Scored(value, step.gpus if gpus is None else None, low)


def scores(records: Records, convention: Convention, objective: Objective) -> Scored:
    """`scores_of` of broadcast records."""
    step, broken = decode_parts(*records[:4], convention, records.gpus)
    return scores_of(step, broken, records.gpus, objective)


def sums(score: jax.Array) -> Sums:
    """Reductions over the designs, axis `DESIGNS`, all in one pass.

    Three counts share one 32-bit number where they fit, which saves two of four reductions.
    """
    too_many, illegal = levels(score.dtype)
    highest = jnp.max(score, axis=DESIGNS)
    width = score.shape[DESIGNS]
    bits = width.bit_length()
    if 3 * bits > 31:
        flags = (score > illegal, score > -jnp.inf, score <= too_many)
        return Sums(highest, *(jnp.sum(x, axis=DESIGNS, dtype=jnp.int32) for x in flags))
    runs, has_room, is_over = 1, 1 << bits, 1 << 2 * bits
    code = jnp.where(score > illegal, runs | has_room, has_room)
    code = jnp.where(score > too_many, code, has_room | is_over)
    code = jnp.where(score > -jnp.inf, code, is_over)
    total = jnp.sum(code, axis=DESIGNS, dtype=jnp.int32)
    mask = (1 << bits) - 1
    return Sums(highest, total & mask, (total >> bits) & mask, total >> 2 * bits)


def ranked(x: jax.Array, rank: int) -> jax.Array:
    """`x` with axes of length 1 ahead, up to the rank."""
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


def of_shape(scored: Scored, shape: tuple[int, ...]) -> Scored:
    """The scores and metrics broadcast to the shape, all other arrays to its rank."""
    gpus = None if scored.gpus is None else ranked(scored.gpus, len(shape))
    broken = {name: ranked(x, len(shape)) for name, x in scored.broken.items()}
    score, *metrics = (jnp.broadcast_to(x, shape) for x in (scored.score, *scored.metrics))
    return Scored(score, gpus, broken, tuple(metrics))


def count_broken(scored: Scored, axes: tuple[int, ...]) -> dict[str, jax.Array]:
    """Designs along `axes` with each reason that holds at any batch; counts keep their rank."""

    def count(flag: jax.Array) -> jax.Array:
        repeats = math.prod(scored.score.shape[a] // flag.shape[a] for a in axes)
        return repeats * jnp.sum(flag, axis=axes, dtype=jnp.int32)

    return {name: count(flag) for name, flag in scored.broken.items()}


def reasons_of(
    found: Sums, broken: dict[str, jax.Array], designs: int, *, has_batch: bool
) -> jax.Array:
    """Designs with each reason of `REASONS`, along a new first axis, from the counts."""
    shape = found.feasible.shape
    counts = {name: jnp.broadcast_to(x, shape) for name, x in broken.items()}
    counts["no sequence fits"] = designs - counts["weights do not fit"] - found.room
    if has_batch:
        counts["batch does not fit"] = found.too_many
    none = jnp.zeros(shape, jnp.int32)
    return jnp.stack([counts.get(name, none) for name in REASONS])
