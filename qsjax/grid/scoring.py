"""Scores of designs with their feasibility, the tie rule, and the counts of reasons."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from qsjax.cost.decode import StepCost
from qsjax.cost.feasibility import MEMORY_RULES, REASONS
from qsjax.cost.metrics import METRICS
from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, ArrayLike, xp

# Objectives of a streamed grid: metrics of a step alone.
StepObjective = Literal["tokens_per_s_per_gpu", "tokens_per_s_per_user", "tokens_per_s", "tpot"]
# Grids run long, so their loops are compiled for the widest vectors.
WIDE = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_enable_fast_min_max": True}
# Scores this close (relative) count as equal; then fewest GPUs wins, then the lowest index.
TIE_TOLERANCE = 1e-9
# The name of the count of feasible designs, beside those of `REASONS`.
FEASIBLE = "feasible"
# The axis of the designs, ahead of the kept axis along the vectors.
DESIGNS = -2


class Choice(NamedTuple):
    """One design per kept cell: flat position over the searched axes, and its score."""

    position: Array
    score: Array


class Scored(NamedTuple):
    """Scores of a block or of a part of it.

    Attributes:
        score: what is maximised; `lowest` or less where a design is infeasible.
        gpus: GPUs of each design, where they may differ within a kept cell.
        feasible: where it runs, on the axes that this depends on.
        broken: where each reason holds, likewise.
        metrics: further numbers of each design that are asked for.
    """

    score: Array
    gpus: Array | None
    feasible: Array
    broken: dict[str, Array]
    metrics: tuple[Array, ...] = ()


# Counts that `count_together` made, by the names of their flags.
Codes = dict[tuple[str, ...], Array]


class Reduced(NamedTuple):
    """What is kept of a block: choices and counts per kept cell, spreads of metrics over it."""

    best: Choice
    feasible: Array
    reasons: Array
    spread: tuple[Any, ...] = ()


def tolerance(dtype: DTypeLike) -> float:
    """Relative difference up to which scores count as equal; float32 cannot tell less apart."""
    return max(TIE_TOLERANCE, 4.0 * float(np.finfo(np.dtype(dtype)).eps))


def pick_best(score: Any, is_feasible: Any, gpus: Any, by: Any = xp, axis: int = -1) -> Choice:
    """Best feasible entry along an axis, by the tie rule; index 0 where there is none.

    `by` is what computes it: JAX, or NumPy.
    """
    masked = by.where(is_feasible, score, -by.inf)
    best = by.max(masked, axis=axis, keepdims=True)
    is_tied = is_feasible & (masked >= best - tolerance(masked.dtype) * by.abs(best))
    cost = by.where(is_tied, gpus, by.inf)
    index = by.expand_dims(by.argmin(cost, axis=axis), axis)
    found = by.take_along_axis(masked, index, axis=axis)
    return Choice(by.squeeze(index, axis), by.squeeze(found, axis))


def lowest(dtype: DTypeLike) -> float:
    """Infeasible designs score this or less, feasible ones more."""
    return float(np.finfo(np.dtype(dtype)).min)


def scores_of(
    step: StepCost,
    broken: dict[str, Array],
    gpus: ArrayLike | None,
    objective: StepObjective,
    is_allowed: Array | None = None,
) -> Scored:
    """Score of every design, computed once, with its feasibility in the same number.

    One number for each design is all that the choice reads; what is counted besides has the axes
    that it depends on, often far fewer.

    Args:
        step: costs of the block.
        broken: rules that it breaks, from `decode_parts`.
        gpus: the GPU count if it is prescribed; all feasible designs have it then.
        objective: what is maximised.
        is_allowed: further condition on feasible designs.
    """
    is_legal = fits = xp.ones((), bool)
    for name, is_broken in broken.items():
        if name in MEMORY_RULES:
            fits = fits & ~is_broken
        else:
            is_legal = is_legal & ~is_broken
    if is_allowed is not None:
        fits = fits & is_allowed
    # Two numbers below every score, or XLA joins the conditions, and no arithmetic is skipped where
    # the design alone is illegal.
    value: Array = getattr(step, objective)
    score = -value if METRICS[objective].less_is_better else value
    score = xp.where(is_legal, score, lowest(score.dtype))
    score = xp.where(fits, score, -xp.inf)
    return Scored(score, step.gpus if gpus is None else None, is_legal & fits, broken)


def _fitting(designs: int) -> tuple[int, int]:
    """Bits of a count of designs, and how many counts share a 32-bit number."""
    bits = designs.bit_length()
    return bits, max(1, 31 // bits)


def count_together(flags: Sequence[Array]) -> Array:
    """Designs for which each flag holds, along the axis `DESIGNS`; the flags have one shape.

    Returns:
        Counts along a new first axis, several in one number: `unpack_counts` takes them apart.
    """
    bits, fitting = _fitting(flags[0].shape[DESIGNS])
    codes = []
    for at in range(0, len(flags), fitting):
        code = xp.zeros(flags[0].shape, xp.int32)
        for k, flag in enumerate(flags[at : at + fitting]):
            code = code | xp.where(flag, xp.int32(1 << k * bits), xp.int32(0))
        codes.append(xp.sum(code, axis=DESIGNS, dtype=xp.int32))
    return xp.stack(codes)


def unpack_counts(codes: Array, number: int, designs: int) -> Array:
    """The counts that `count_together` made of `number` flags of so many designs."""
    bits, fitting = _fitting(designs)
    shifts = (bits * xp.arange(fitting, dtype=xp.int32)).reshape(1, -1, *(1,) * (codes.ndim - 1))
    counts: Array = (codes[:, None] >> shifts) & xp.int32((1 << bits) - 1)
    return counts.reshape(-1, *codes.shape[1:])[:number]


def ranked(x: Array, rank: int) -> Array:
    """`x` with axes of length 1 ahead, up to the rank."""
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


def of_shape(scored: Scored, shape: tuple[int, ...]) -> Scored:
    """The scores and metrics broadcast to the shape, all other arrays to its rank."""
    score, *metrics = (xp.broadcast_to(x, shape) for x in (scored.score, *scored.metrics))
    others = (scored.gpus, scored.feasible, scored.broken)
    gpus, feasible, broken = trees.map(lambda x: ranked(x, len(shape)), others)
    return Scored(score, gpus, feasible, broken, tuple(metrics))


def count_designs(scored: Scored) -> Codes:
    """Designs that are feasible (`FEASIBLE`), and with each reason, along the axis `DESIGNS`."""
    flags = {FEASIBLE: scored.feasible, **scored.broken}
    designs = scored.score.shape[DESIGNS]
    counts: Codes = {}
    for shape in {flag.shape: None for flag in flags.values()}:
        names = tuple(name for name, flag in flags.items() if flag.shape == shape)
        full = (*shape[:DESIGNS], designs, *shape[DESIGNS + 1 :])
        counts[names] = count_together([xp.broadcast_to(flags[name], full) for name in names])
    return counts


def stacked(counts: dict[str, Any], shape: tuple[int, ...]) -> Any:
    """Counts of each reason of `REASONS`, along a new first axis."""
    none = xp.zeros(shape, xp.int32)
    return xp.stack([xp.broadcast_to(counts.get(name, none), shape) for name in REASONS])
