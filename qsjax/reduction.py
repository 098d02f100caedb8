"""A block of designs as a matrix: scored once, in tiles, and reduced by the tie rule."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from qsjax.decode import StepCost, decode_parts
from qsjax.feasibility import REASONS
from qsjax.grid import Records
from qsjax.specs import Convention
from qsjax.staging import map_tiles

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
    """A block as a matrix: kept axes, then all designs along the last.

    Attributes:
        score: what is maximised; of an infeasible design one of three levels below every score:
            -infinity where no sequence fits, then `TOO_MANY`, then `ILLEGAL`.
        gpus: GPUs of each design, where they may differ within a kept cell.
        broken: where each reason holds that does not depend on the batch, on the axes of its own.

    A block in tiles has the tiles along a further first axis of every array.
    """

    score: jax.Array
    gpus: jax.Array | None
    broken: dict[str, jax.Array]


class Sums(NamedTuple):
    """Highest score over the designs; how many run, hold a sequence, hold less than the batch."""

    highest: jax.Array
    feasible: jax.Array
    room: jax.Array
    too_many: jax.Array


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


def score_tiles(
    records: Records,
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    tiles: int,
) -> tuple[Scored, Sums]:
    """`scores` of a block of this shape in tiles of its designs, low-rank terms computed once."""
    part = (*shape[:-1], shape[-1] // tiles)

    def one(own: Records, rules: Convention) -> tuple[Scored, Sums]:
        scored = of_shape(scores(own, rules, objective), part)
        return scored, sums(scored.score)

    found: tuple[Scored, Sums] = map_tiles(one, (records, convention), shape, tiles)
    return found


def sums(score: jax.Array) -> Sums:
    """Reductions of a tile while its scores are still close to the core."""
    too_many, illegal = levels(score.dtype)
    return Sums(
        jnp.max(score, axis=-1),
        tally(score > illegal),
        tally(score > -jnp.inf),
        tally(score <= too_many),
    )


def of_shape(scored: Scored, shape: tuple[int, ...]) -> Scored:
    """The scores broadcast to the shape, all other arrays to its rank."""

    def ranked(x: jax.Array) -> jax.Array:
        return x.reshape((1,) * (len(shape) - x.ndim) + x.shape)

    gpus = None if scored.gpus is None else ranked(scored.gpus)
    broken = {name: ranked(x) for name, x in scored.broken.items()}
    return Scored(jnp.broadcast_to(scored.score, shape), gpus, broken)


def positions(shape: tuple[int, ...]) -> jax.Array:
    """Position of every design of a block in tiles (tiles, kept axes, designs of a tile)."""
    tile = jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    return tile * shape[-1] + jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)


def choose(
    score: jax.Array,
    highest: jax.Array,
    gpus: jax.Array | None,
    illegal: float,
    but: jax.Array | None = None,
) -> Choice:
    """`pick_best` on a block in tiles.

    Where all designs of a kept cell have as many GPUs, only the first tile that holds a score
    within the tolerance is read again.

    Args:
        score: (tiles, kept axes, designs of a tile).
        highest: highest score of each tile, without the design `but`.
        gpus: as in `Scored`.
        illegal: level of illegal designs.
        but: position that is left out.
    """
    tiles, width = score.shape[0], score.shape[-1]
    best = jnp.max(highest, axis=0)
    least = best - TIE_TOLERANCE * jnp.abs(best)
    if gpus is not None:
        return _choose_cheapest(score, least, gpus, illegal, but)
    is_in = (highest >= least[None]) & (highest > illegal)
    tile = jnp.min(jnp.where(is_in, _count(highest.shape, 0), tiles), axis=0)
    row = _row(score, jnp.minimum(tile, tiles - 1), but)
    is_tied = (row >= least[..., None]) & (row > illegal)
    first = jnp.min(jnp.where(is_tied, _count(row.shape, -1), width), axis=-1)
    has_any = (tile < tiles) & (first < width)
    at = jnp.where(has_any, first, 0)
    chosen = jnp.take_along_axis(row, at[..., None], axis=-1)[..., 0]
    return Choice(jnp.where(has_any, tile * width + at, 0), jnp.where(has_any, chosen, -jnp.inf))


def choose_second(
    score: jax.Array, highest: jax.Array, gpus: jax.Array | None, illegal: float, best: Choice
) -> Choice:
    """The best of the other designs; arguments as for `choose`."""
    tile = best.position // score.shape[-1]
    left = jnp.max(_row(score, tile, best.position), axis=-1)
    others = jnp.where(_count(highest.shape, 0) == tile[None], left[None], highest)
    return choose(score, others, gpus, illegal, best.position)


def _count(shape: tuple[int, ...], axis: int) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, shape, axis % len(shape))


def _row(score: jax.Array, tile: jax.Array, but: jax.Array | None) -> jax.Array:
    # One tile of each kept cell, the design `but` left out.
    kept = jnp.indices(tile.shape, dtype=jnp.int32, sparse=True)
    row = score[(tile, *kept)]
    if but is None:
        return row
    position = tile[..., None] * score.shape[-1] + _count(row.shape, -1)
    return jnp.where(position == but[..., None], -jnp.inf, row)


def _choose_cheapest(
    score: jax.Array, least: jax.Array, gpus: jax.Array, illegal: float, but: jax.Array | None
) -> Choice:
    position = _count(score.shape, 0) * score.shape[-1] + _count(score.shape, -1)
    is_tied = (score >= least[None, ..., None]) & (score > illegal)
    if but is not None:
        is_tied = is_tied & (position != but[None, ..., None])
    cost = jnp.where(is_tied, gpus, jnp.inf)
    is_tied = is_tied & (cost == cost.min(-1, keepdims=True).min(0, keepdims=True))
    none = score.shape[0] * score.shape[-1]
    first = jnp.where(is_tied, position, none).min(-1).min(0)
    at = jnp.where(first < none, first, 0)
    row = _row(score, at // score.shape[-1], None)
    chosen = jnp.take_along_axis(row, (at % score.shape[-1])[..., None], axis=-1)[..., 0]
    return Choice(at, jnp.where(first < none, chosen, -jnp.inf))


def tally(flag: jax.Array) -> jax.Array:
    """True entries along the last axis; 32-bit counters fill a vector, 64-bit ones do not."""
    return jnp.sum(flag, axis=-1, dtype=jnp.int32)


def count_reasons(scored: Scored, sums: Sums, *, has_batch: bool) -> tuple[jax.Array, jax.Array]:
    """Feasible designs and designs with each reason, per kept cell; each at its own rank."""
    tiles, *kept, width = scored.score.shape

    def count(flag: jax.Array) -> jax.Array:
        repeats = width // flag.shape[-1]
        total = jnp.sum(tally(flag), axis=0, dtype=jnp.int32)
        return jnp.broadcast_to(repeats * total, tuple(kept))

    feasible, have_room, too_many = (
        jnp.sum(x, axis=0, dtype=jnp.int32) for x in (sums.feasible, sums.room, sums.too_many)
    )
    counts = {name: count(flag) for name, flag in scored.broken.items()}
    counts["no sequence fits"] = tiles * width - counts["weights do not fit"] - have_room
    if has_batch:
        counts["batch does not fit"] = too_many
    none = jnp.zeros(tuple(kept), jnp.int32)
    return feasible, jnp.stack([counts.get(n, none) for n in REASONS])
