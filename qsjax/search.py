"""The best design of every cell: mask, arg-max, runner-up, and why the others fell out."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import numpy as np

from qsjax.blocks import Scorer, reduce_tiles, reduce_whole
from qsjax.decode import StepCost, decode_step
from qsjax.feasibility import REASONS
from qsjax.grid import Axes, Records, matrix_arrays, place
from qsjax.reduction import TIE_TOLERANCE as TIE_TOLERANCE
from qsjax.reduction import WIDE as WIDE
from qsjax.reduction import Choice as Choice
from qsjax.reduction import Objective as Objective
from qsjax.reduction import Reduced, Scored
from qsjax.reduction import levels as levels
from qsjax.reduction import pick_best as pick_best
from qsjax.reduction import score_of as score_of
from qsjax.reduction import scores as scores
from qsjax.specs import Convention

# Winners and small grids are compiled quickly instead of for speed.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
SMALL = 2**22  # designs


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


def _scorer(objective: Objective) -> Scorer:
    def score(records: Records, convention: Convention) -> Scored:
        return scores(records, convention, objective)

    return score


@partial(jax.jit, static_argnames=("shape", "objective"), compiler_options=WIDE)
def reduce_block(
    records: Records, convention: Convention, shape: tuple[int, ...], objective: Objective
) -> Reduced:
    """Evaluate a block, kept axes first and all designs along the last, and reduce the last."""
    has_batch = records.workload.batch is not None
    given = (records, convention)
    reduced, _ = reduce_tiles(
        _scorer(objective), given, shape, has_batch=has_batch, with_second=True
    )
    return reduced


@partial(jax.jit, static_argnames=("shape", "objective"), compiler_options=QUICK)
def reduce_small(
    records: Records, convention: Convention, shape: tuple[int, ...], objective: Objective
) -> Reduced:
    """`reduce_block` where compiling takes longer than computing: half of the one, slower in it."""
    has_batch = records.workload.batch is not None
    given = (records, convention)
    reduced, _ = reduce_whole(_scorer(objective), given, shape, has_batch=has_batch)
    return reduced


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
    reduce = reduce_small if axes.cells <= SMALL else reduce_block
    block = reduce(placed, convention, (*kept, axes.cells // math.prod(kept)), objective)
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
