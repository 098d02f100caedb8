"""The best design of every cell: mask, arg-max, runner-up, and why the others fell out."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.feasibility import REASONS
from qsjax.grid.axes import Axes, matrix_arrays, place
from qsjax.grid.evaluation import evaluate as evaluate
from qsjax.grid.evaluation import full as full
from qsjax.grid.optimum import SMALL
from qsjax.grid.scoring import TIE_TOLERANCE as TIE_TOLERANCE
from qsjax.grid.scoring import WIDE as WIDE
from qsjax.grid.scoring import Choice as Choice
from qsjax.grid.scoring import Reduced, Scored, StepObjective, ranked, stacked
from qsjax.grid.scoring import pick_best as pick_best
from qsjax.grid.scoring import scores as scores
from qsjax.grid.tiles import reduce_tiles
from qsjax.numerics.float64 import in_float64
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention


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


@partial(jax.jit, static_argnames=("shape", "objective"), compiler_options=WIDE)
def reduce_block(
    records: Records, convention: Convention, shape: tuple[int, ...], objective: StepObjective
) -> Reduced:
    """Evaluate a block, kept axes first and all designs along the last, and reduce the last."""

    def scorer(own: Records, rules: Convention) -> Scored:
        return scores(own, rules, objective)

    reduced, _ = reduce_tiles(scorer, (records, convention), shape, with_second=True)
    return reduced


_scores_on_host = on_host(scores)


def reduce_small(
    records: Records, convention: Convention, shape: tuple[int, ...], objective: StepObjective
) -> Reduced:
    """`reduce_block` by NumPy: nothing is compiled."""
    scored: Any = _scores_on_host(records, convention, objective=objective)
    score, is_feasible = (np.broadcast_to(x, shape) for x in (scored.score, scored.feasible))
    gpus = np.zeros(()) if scored.gpus is None else scored.gpus
    best: Any = pick_best(score, is_feasible, gpus, np)
    is_other = is_feasible.copy()
    np.put_along_axis(is_other, best.position[..., None], values=False, axis=-1)

    def count(flag: Any) -> Any:
        flag = ranked(flag, len(shape))
        return shape[-1] // flag.shape[-1] * np.count_nonzero(flag, axis=-1)

    feasible: Any = np.broadcast_to(count(scored.feasible), shape[:-1])
    broken = {name: count(flag) for name, flag in scored.broken.items()}
    second = pick_best(score, is_other, gpus, np)
    return Reduced(best, second, feasible, stacked(broken, shape[:-1], np))


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


@in_float64
def search(
    records: Records,
    axes: Axes,
    convention: Convention,
    objective: StepObjective = "tokens_per_s_per_gpu",
) -> Optimum:
    """Best design over the searched axes for each cell of the kept ones.

    Args:
        records: model, hardware, partition, workload and GPU count; axes replace their fields.
        axes: the grid, from `grid.make_axes`; an axis `q` searches the dense twins.
        convention: accounting.
        objective: what is maximised (`tpot` is minimised).

    Raises:
        ValueError: an unknown objective.
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
