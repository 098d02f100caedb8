"""The plain search: every design of every cell scored at once. Tiles and streams are held to it."""

import math
from typing import NamedTuple

import jax
import numpy as np

from qsjax.cost.decode import StepCost, decode_parts, evaluate
from qsjax.cost.feasibility import REASONS
from qsjax.grid.axes import matrix_arrays, place
from qsjax.grid.cells import full
from qsjax.grid.scoring import pick_best, scores_of
from qsjax.numerics.numpy_backend import on_host


@on_host
def _scores(records, convention, objective):
    return scores_of(*decode_parts(records, convention), records.gpus, objective)


class Found(NamedTuple):
    """Per kept cell: the winner's flat index over the searched axes, its cost, and counts."""

    index: np.ndarray
    score: np.ndarray
    step: StepCost
    feasible: np.ndarray
    reasons: dict[str, np.ndarray]

    @property
    def is_feasible(self):
        return self.feasible > 0


def search(records, axes, convention, objective="tokens_per_s_per_gpu"):
    """The best design over the searched axes for each cell of the kept ones, by NumPy."""
    return search_placed(
        place(records, matrix_arrays(axes), convention), axes, convention, objective
    )


def search_placed(placed, axes, convention, objective="tokens_per_s_per_gpu"):
    """`search` of records that stand on the axes already."""
    kept = tuple(len(axis.values) for axis in axes.kept)
    shape = (*kept, axes.cells // math.prod(kept))
    scored = _scores(placed, convention, objective=objective)
    gpus = np.zeros(()) if scored.gpus is None else scored.gpus
    score, is_feasible = (np.broadcast_to(x, shape) for x in (scored.score, scored.feasible))
    best = pick_best(score, is_feasible, gpus, np)
    step = full(evaluate(placed, convention), shape)
    at = best.position[..., None]
    broken = {name: np.broadcast_to(flag, shape).sum(-1) for name, flag in scored.broken.items()}
    return Found(
        best.position,
        best.score,
        jax.tree.map(lambda x: np.take_along_axis(x, at, axis=-1)[..., 0], step),
        is_feasible.sum(axis=-1),
        {name: broken.get(name, np.zeros(kept, int)) for name in REASONS},
    )
