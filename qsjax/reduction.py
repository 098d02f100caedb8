"""Scores of designs with their feasibility, the tie rule, and the counts of reasons."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from qsjax.decode import StepCost, decode_parts
from qsjax.feasibility import REASONS
from qsjax.grid import Records
from qsjax.specs import Convention

Objective = Literal["tokens_per_s_per_gpu", "tokens_per_s_per_user", "tokens_per_s", "tpot"]
# Rules that need the batch, and those that need memory: the others hold for a partition as such.
BATCH_RULES = ("no sequence fits", "batch does not fit")
MEMORY_RULES = ("weights do not fit", *BATCH_RULES)
# Grids run long, so their loops are compiled for the widest vectors.
WIDE = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_enable_fast_min_max": True}
# Scores this close (relative) count as equal; then fewest GPUs wins, then the lowest index.
TIE_TOLERANCE = 1e-9
# The axis of the designs, ahead of the kept axis along the vectors.
DESIGNS = -2


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


class Counts(NamedTuple):
    """Designs that run, that hold a sequence, that hold less than a prescribed batch (if any)."""

    feasible: jax.Array
    room: jax.Array
    too_many: jax.Array | None


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


def pick_best(score: Any, is_feasible: Any, gpus: Any, xp: Any = jnp) -> Choice:
    """Best feasible entry along the last axis, by the tie rule; index 0 where there is none.

    `xp` is the module that computes it, jax.numpy or numpy.
    """
    masked = xp.where(is_feasible, score, -xp.inf)
    best = xp.max(masked, axis=-1, keepdims=True)
    is_tied = is_feasible & (masked >= best - tolerance(masked.dtype) * xp.abs(best))
    cost = xp.where(is_tied, gpus, xp.inf)
    index = xp.argmin(cost, axis=-1)
    return Choice(index, xp.take_along_axis(masked, index[..., None], axis=-1)[..., 0])


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


def count_together(flags: Sequence[jax.Array]) -> list[jax.Array]:
    """Designs for which each flag holds, along the axis `DESIGNS`; the flags have one shape.

    Several counts share a 32-bit number where they fit: fewer reductions.
    """
    bits = flags[0].shape[DESIGNS].bit_length()
    fitting = max(1, 31 // bits)
    counts: list[jax.Array] = []
    for at in range(0, len(flags), fitting):
        group = flags[at : at + fitting]
        code = jnp.zeros(flags[0].shape, jnp.int32)
        for k, flag in enumerate(group):
            code = code | jnp.where(flag, jnp.int32(1 << k * bits), jnp.int32(0))
        total = jnp.sum(code, axis=DESIGNS, dtype=jnp.int32)
        mask = jnp.int32((1 << bits) - 1)
        counts += [(total >> k * bits) & mask for k in range(len(group))]
    return counts


def highest_and_counts(score: jax.Array, *, has_batch: bool) -> tuple[jax.Array, Counts]:
    """Reductions over the designs, axis `DESIGNS`."""
    too_many, illegal = levels(score.dtype)
    highest = jnp.max(score, axis=DESIGNS)
    flags = [score > illegal, score > -jnp.inf]
    if has_batch:
        runs, has_room, is_over = count_together([*flags, score <= too_many])
        return highest, Counts(runs, has_room, is_over)
    runs, has_room = count_together(flags)
    return highest, Counts(runs, has_room, None)


def ranked(x: jax.Array, rank: int) -> jax.Array:
    """`x` with axes of length 1 ahead, up to the rank."""
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


def of_shape(scored: Scored, shape: tuple[int, ...]) -> Scored:
    """The scores and metrics broadcast to the shape, all other arrays to its rank."""
    gpus = None if scored.gpus is None else ranked(scored.gpus, len(shape))
    broken = {name: ranked(x, len(shape)) for name, x in scored.broken.items()}
    score, *metrics = (jnp.broadcast_to(x, shape) for x in (scored.score, *scored.metrics))
    return Scored(score, gpus, broken, tuple(metrics))


def count_broken(scored: Scored) -> dict[str, jax.Array]:
    """Designs with each reason that holds at any batch; the counts keep their own rank."""
    designs = scored.score.shape[DESIGNS]
    counts: dict[str, jax.Array] = {}
    for shape in {flag.shape: None for flag in scored.broken.values()}:
        names = [name for name, flag in scored.broken.items() if flag.shape == shape]
        found = count_together([scored.broken[name] for name in names])
        repeats = designs // shape[DESIGNS]
        counts |= {name: repeats * count for name, count in zip(names, found, strict=True)}
    return counts


def reasons_of(found: Counts, broken: dict[str, Any], designs: int, xp: Any = jnp) -> Any:
    """Designs with each reason of `REASONS`, along a new first axis; `xp` as for `pick_best`."""
    shape = found.feasible.shape
    counts = {name: xp.broadcast_to(x, shape) for name, x in broken.items()}
    counts["no sequence fits"] = designs - counts["weights do not fit"] - found.room
    if found.too_many is not None:
        counts["batch does not fit"] = found.too_many
    none = xp.zeros(shape, xp.int32)
    return xp.stack([counts.get(name, none) for name in REASONS])
