"""The best design of every cell: mask, arg-max, runner-up, and why the others fell out."""

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.decode import StepCost, decode_step
from qsjax.feasibility import REASONS
from qsjax.grid import Axes, Records, axis_arrays, place
from qsjax.specs import Convention

Objective = Literal["tokens_per_s_per_gpu", "tokens_per_s_per_user", "tokens_per_s", "tpot"]
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


@partial(jax.jit, static_argnames=("convention", "kept_rank", "shape", "objective"))
def reduce_block(
    records: Records,
    convention: Convention,
    kept_rank: int,
    shape: tuple[int, ...],
    objective: Objective,
) -> Reduced:
    """Evaluate a block of the grid and reduce its searched (trailing) axes."""
    step = decode_step(
        records.model,
        records.hardware,
        records.partition,
        records.workload,
        convention,
        records.gpus,
    )

    def flat(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, shape).reshape(*shape[:kept_rank], -1)

    score, why, gpus = flat(score_of(step, objective)), flat(step.reasons), flat(step.gpus)
    is_feasible = why == 0
    best = pick_best(score, is_feasible, gpus)
    position = jax.lax.broadcasted_iota(best.position.dtype, score.shape, kept_rank)
    is_winner = position == best.position[..., None]
    second = pick_best(score, is_feasible & ~is_winner, gpus)
    counts = [jnp.sum((why & bit) != 0, axis=-1) for bit in REASONS.values()]
    return Reduced(best, second, jnp.sum(is_feasible, axis=-1), jnp.stack(counts))


@partial(jax.jit, static_argnames="convention")
def evaluate(records: Records, convention: Convention) -> StepCost:
    """The decode step of broadcast records, compiled once for each convention and rank."""
    return decode_step(
        records.model,
        records.hardware,
        records.partition,
        records.workload,
        convention,
        records.gpus,
    )


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
    shape, rank = axes.shape, len(axes.kept)
    placed = place(records, axis_arrays(axes), convention)
    block = reduce_block(placed, convention, rank, shape, objective)
    block = jax.tree.map(np.asarray, block)
    at = place(records, winners(axes, block.best.position), convention)
    step = full(evaluate(at, convention), shape[:rank])
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
