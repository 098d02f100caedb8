"""The best design of every cell: mask, arg-max, runner-up, and why the others fell out."""

import dataclasses
import math
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from qsjax.decode import StepCost, decode_parts, decode_step
from qsjax.feasibility import REASONS
from qsjax.grid import Axes, Records, matrix_arrays, place
from qsjax.specs import Convention

Objective = Literal["tokens_per_s_per_gpu", "tokens_per_s_per_user", "tokens_per_s", "tpot"]
# Rules that need the batch, and those that need memory: the others hold for a partition as such.
BATCH_RULES = ("no sequence fits", "batch does not fit")
MEMORY_RULES = ("weights do not fit", *BATCH_RULES)
# Grids run long in wide vectors; a handful of winners is compiled quickly instead.
WIDE = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_enable_fast_min_max": True}
QUICK = {"xla_backend_optimization_level": 0}
# Scores this close (relative) count as equal; then fewest GPUs wins, then the lowest index.
TIE_TOLERANCE = 1e-9


class Choice(NamedTuple):
    """One design per kept cell: flat position over the searched axes, and its score."""

    position: jax.Array
    score: jax.Array


class Reduced(NamedTuple):
    """What a search keeps of a block: two choices and counts per kept cell."""

    best: Choice
    second: Choice
    feasible: jax.Array
    reasons: jax.Array


class Scored(NamedTuple):
    """A block as a matrix: kept axes first, all designs along the last.

    Attributes:
        score: what is maximised; of an infeasible design one of three levels below every score:
            -infinity where no sequence fits, then `TOO_MANY`, then `ILLEGAL`.
        gpus: GPUs of each design, where they may differ within a kept cell.
        broken: where each reason holds that does not depend on the batch, on the axes of its own.
    """

    score: jax.Array
    gpus: jax.Array | None
    broken: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, slots=True)
class Optimum:
    """The best design of each kept cell.

    Attributes:
        axes: the grid that was searched.
        records: inputs at the winners; fields broadcast over the kept axes.
        step: cost of the winners, every term, shape of the kept axes.
        is_feasible: whether any design of the cell is feasible; where none is, the winner is the
            first design and its `step.reasons` are not zero.
        index: flat index of the winner over the searched axes.
        runner_up: flat index of the best other design; `margin` is the winner's score over its
            own, less 1 (infinite without a second feasible design).
        feasible: number of feasible designs.
        reasons: number of designs with each reason, by name.
    """

    axes: Axes
    records: Records
    step: StepCost
    is_feasible: np.ndarray
    index: np.ndarray
    runner_up: np.ndarray
    margin: np.ndarray
    feasible: np.ndarray
    reasons: dict[str, np.ndarray]


def score_of(step: StepCost, objective: Objective) -> jax.Array:
    """What is maximised: the objective, or its negative where less is better."""
    value: jax.Array = getattr(step, objective)
    return -value if objective == "tpot" else value


def pick_best(score: jax.Array, is_feasible: jax.Array, gpus: jax.Array) -> Choice:
    """Best feasible entry along the last axis, by the tie rule; index 0 where there is none."""
    masked = jnp.where(is_feasible, score, -jnp.inf)
    best = jnp.max(masked, axis=-1, keepdims=True)
    is_tied = is_feasible & (masked >= best - TIE_TOLERANCE * jnp.abs(best))
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

    One number for each design is all that the reductions read again, so a block stays in the cache.

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


def choose(score: jax.Array, gpus: jax.Array | None, illegal: float) -> Choice:
    """`pick_best` on scored designs, in reductions that the compiler turns into vector code."""
    best = jnp.max(score, axis=-1, keepdims=True)
    is_tied = (score >= best - TIE_TOLERANCE * jnp.abs(best)) & (score > illegal)
    if gpus is not None:
        cost = jnp.where(is_tied, gpus, jnp.inf)
        is_tied = is_tied & (cost == jnp.min(cost, axis=-1, keepdims=True))
    designs = score.shape[-1]
    place_of = jax.lax.broadcasted_iota(jnp.int32, score.shape, score.ndim - 1)
    first = jnp.min(jnp.where(is_tied, place_of, designs), axis=-1)
    position = jnp.where(first < designs, first, 0)
    chosen = jnp.take_along_axis(score, position[..., None], axis=-1)[..., 0]
    return Choice(position, jnp.where(first < designs, chosen, -jnp.inf))


def tally(flag: jax.Array) -> jax.Array:
    """True entries along the last axis; 32-bit counters fill a vector, 64-bit ones do not."""
    return jnp.sum(flag, axis=-1, dtype=jnp.int32)


def count_reasons(
    scored: Scored, score: jax.Array, *, has_batch: bool
) -> tuple[jax.Array, jax.Array]:
    """Feasible designs and designs with each reason, per kept cell; each at its own rank."""
    shape, rank = score.shape, score.ndim
    too_many, illegal = levels(score.dtype)

    def count(flag: jax.Array) -> jax.Array:
        flag = flag.reshape((1,) * (rank - flag.ndim) + flag.shape)
        repeats = shape[-1] // flag.shape[-1]
        return jnp.broadcast_to(repeats * tally(flag), shape[:-1])

    counts = {name: count(flag) for name, flag in scored.broken.items()}
    have_room = tally(score > -jnp.inf)
    counts["no sequence fits"] = shape[-1] - counts["weights do not fit"] - have_room
    if has_batch:
        counts["batch does not fit"] = tally(score <= too_many)
    none = jnp.zeros(shape[:-1], have_room.dtype)
    return tally(score > illegal), jnp.stack([counts.get(n, none) for n in REASONS])


@partial(jax.jit, static_argnames=("shape", "objective"), compiler_options=WIDE)
def reduce_block(
    records: Records, convention: Convention, shape: tuple[int, ...], objective: Objective
) -> Reduced:
    """Evaluate a block, kept axes first and all designs along the last, and reduce the last."""
    scored = scores(records, convention, objective)
    score = jax.lax.optimization_barrier(jnp.broadcast_to(scored.score, shape))
    has_batch = records.workload.batch is not None
    feasible, reasons = count_reasons(scored, score, has_batch=has_batch)
    _, illegal = levels(score.dtype)
    best = choose(score, scored.gpus, illegal)
    position = jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
    others = jnp.where(position == best.position[..., None], -jnp.inf, score)
    return Reduced(best, choose(others, scored.gpus, illegal), feasible, reasons)


@partial(jax.jit, compiler_options=QUICK)
def evaluate(records: Records, convention: Convention) -> StepCost:
    """The decode step of broadcast records, compiled once for each convention and rank."""
    return decode_step(*records[:4], convention, records.gpus)


def winners(axes: Axes, index: np.ndarray) -> dict[str, np.ndarray]:
    """Coordinates at the given flat indices over the searched axes, and those of the kept axes."""
    rank = len(axes.kept)
    lengths = [len(axis.values) for axis in axes.searched]
    at = np.unravel_index(index, lengths) if lengths else ()
    chosen = {axis.name: axis.values[i] for axis, i in zip(axes.searched, at, strict=True)}
    kept = {
        axis.name: axis.values.reshape([-1 if j == k else 1 for j in range(rank)])
        for k, axis in enumerate(axes.kept)
    }
    return {**kept, **chosen}


def full(tree: Any, shape: tuple[int, ...]) -> Any:
    """Every leaf as a NumPy array of `shape`."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), shape), tree)


def search(
    records: Records,
    axes: Axes,
    convention: Convention,
    objective: Objective = "tokens_per_s_per_gpu",
) -> Optimum:
    """Best design over the searched axes for each cell of the kept ones.

    Args:
        records: model, hardware, partition, workload and GPU count; axes replace their fields.
        axes: the grid, from `grid.make_axes`; an axis `q` searches the dense twins.
        convention: accounting.
        objective: what is maximised (`tpot` is minimised).
    """
    kept = tuple(len(axis.values) for axis in axes.kept)
    placed = place(records, matrix_arrays(axes), convention)
    block = reduce_block(placed, convention, (*kept, axes.cells // math.prod(kept)), objective)
    block = jax.tree.map(np.asarray, block)
    at = place(records, winners(axes, block.best.position), convention)
    step = full(evaluate(at, convention), kept)
    with np.errstate(invalid="ignore"):
        margin = np.abs(block.best.score - block.second.score) / np.abs(block.second.score)
    return Optimum(
        axes=axes,
        records=at,
        step=step,
        is_feasible=block.feasible > 0,
        index=block.best.position,
        runner_up=block.second.position,
        margin=np.where(block.feasible > 1, margin, np.inf),
        feasible=block.feasible,
        reasons=dict(zip(REASONS, block.reasons, strict=True)),
    )
