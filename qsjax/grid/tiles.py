"""A block of designs scored in tiles and reduced by the tie rule, in two passes.

The first pass keeps of every tile no more than its highest score and its counts, so that no score
ever leaves the processor. The second scores again only the tiles that may hold the winner, a few of
hundreds, and finds its place there; then the runner-up's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qsjax.grid.scoring import (
    DESIGNS,
    FEASIBLE,
    Choice,
    Codes,
    Reduced,
    Scored,
    count_designs,
    lowest,
    of_shape,
    pick_best,
    stacked,
    tolerance,
    unpack_counts,
)
from qsjax.grid.staging import Cut, Staged, cut_of, restore

Scorer = Callable[..., Scored]
# With fewer kept cells than this to a design, two stages save nothing.
_LANES = 3


class _Round(NamedTuple):
    """What a search of the second pass goes by; rows are the axes before the designs, flat.

    Attributes:
        wanted: (tiles, rows) tiles that may hold the choice.
        least: (rows, lanes) score from which designs count as equal to the best.
        sure: (tiles, rows, lanes) tiles whose highest score reached `least` in the first pass.
        but: (rows, lanes) position that is left out; -1 for none.
    """

    wanted: jax.Array
    least: jax.Array
    sure: jax.Array
    but: jax.Array


class _Found(NamedTuple):
    """Choice of each cell so far, its GPUs (infinite: none yet), and the best score but its."""

    gpus: jax.Array
    position: jax.Array
    score: jax.Array
    others: jax.Array


def _round(highest: jax.Array, best: jax.Array, but: jax.Array, read: jax.Array) -> _Round:
    # `read`: tiles of which `best` is known from the second pass itself.
    least = best - tolerance(highest.dtype) * jnp.abs(best)
    may = (highest >= least[None]) & (highest > lowest(highest.dtype))
    return _Round(jnp.any(may, axis=-1), least, may & ~read[..., None], but)


def _look(scored: Scored, tile: jax.Array, row: jax.Array, go: _Round, found: _Found) -> _Found:
    """What a tile changes in the choices of a row; `scored.score` is (designs, lanes)."""
    score, width = scored.score, scored.score.shape[0]
    index = jax.lax.broadcasted_iota(jnp.int32, score.shape, 0)
    score = jnp.where(tile * width + index == go.but[row][None], -jnp.inf, score)
    # The first pass may round otherwise than this one: what reached the score there, counts here.
    here = jnp.max(score, axis=0)
    least = jnp.where(go.sure[tile, row], jnp.minimum(go.least[row], here), go.least[row])
    is_tied = (score >= least[None]) & (score > lowest(score.dtype))
    cost = jnp.where(is_tied, 0.0 if scored.gpus is None else scored.gpus, jnp.inf)
    fewest = jnp.min(cost, axis=0)
    first = jnp.min(jnp.where(is_tied & (cost == fewest[None]), index, width), axis=0)
    is_own = index == first[None]
    value = jnp.max(jnp.where(is_own, score, -jnp.inf), axis=0)
    rest = jnp.max(jnp.where(is_own, -jnp.inf, score), axis=0)
    old = _Found(*(x[row] for x in found))
    is_better = fewest < old.gpus
    new = _Found(
        jnp.where(is_better, fewest, old.gpus),
        jnp.where(is_better, tile * width + first, old.position),
        jnp.where(is_better, value, old.score),
        jnp.maximum(jnp.maximum(old.others, rest), jnp.where(is_better, old.score, value)),
    )
    put = jax.lax.dynamic_update_index_in_dim
    return _Found(*(put(x, y, row, axis=0) for x, y in zip(found, new, strict=True)))


def choose(
    score: Callable[[jax.Array, jax.Array], Scored], highest: jax.Array, rounds: int
) -> Choice:
    """The best design of every cell, and in a second round the best of the others.

    By the tie rule, from the tiles of a row that reach the highest score.

    Args:
        score: scores of a tile in a row, (designs, lanes).
        highest: (tiles, rows, lanes) of the first pass.
        rounds: 1, or 2 with the runner-up.

    Returns:
        Choices with the rounds along the first axis; position 0 and -infinity where there is none.
    """
    tiles, rows, lanes = highest.shape
    none = jnp.full((rows, lanes), -jnp.inf, highest.dtype)
    nobody = jnp.full((rows, lanes), -1, jnp.int32)
    nothing = _Found(jnp.full((rows, lanes), jnp.inf, highest.dtype), nobody, none, none)
    index = jnp.arange(tiles * rows, dtype=jnp.int32)

    def one(go: _Round, _: None) -> tuple[_Round, Choice]:
        wanted = go.wanted.reshape(-1)

        def next_after(at: jax.Array) -> jax.Array:
            return jnp.min(jnp.where(wanted & (index > at), index, tiles * rows))

        def look(state: tuple[jax.Array, _Found]) -> tuple[jax.Array, _Found]:
            at, found = state
            tile, row = at // rows, at % rows
            return next_after(at), _look(score(tile, row), tile, row, go, found)

        start = (next_after(jnp.int32(-1)), nothing)
        found = jax.lax.while_loop(lambda state: state[0] < tiles * rows, look, start)[1]
        unread = jnp.max(jnp.where(go.wanted[..., None], -jnp.inf, highest), axis=0)
        rest = jnp.maximum(found.others, unread)
        is_any = found.position >= 0
        choice = Choice(jnp.where(is_any, found.position, 0), jnp.where(is_any, found.score, none))
        return _round(highest, rest, found.position, go.wanted), choice

    unread = jnp.zeros((tiles, rows), bool)
    _, choices = jax.lax.scan(
        one, _round(highest, jnp.max(highest, axis=0), nobody, unread), length=rounds
    )
    return choices


def _larger(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(x > y, x, y)


def _highest(score: jax.Array) -> jax.Array:
    """Highest score along the designs."""
    # Not by `max`: in float32 XLA leaves that to a library, three times as slow as its own loop.
    start = jnp.array(-jnp.inf, score.dtype)
    axis = score.ndim + DESIGNS
    highest: jax.Array = jax.lax.reduce(score, start, _larger, (axis,))
    return highest


def _totals(
    codes: Codes, over: tuple[int, ...], width: int, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Feasible designs and reasons, from counts of parts of `width` along the axes `over`."""
    totals: dict[str, jax.Array] = {}
    for names, code in codes.items():
        counts = jnp.sum(unpack_counts(code, len(names), width), axis=over, dtype=jnp.int32)
        totals |= dict(zip(names, counts, strict=True))
    return jnp.broadcast_to(totals[FEASIBLE], shape), stacked(totals, shape)


def reduce_whole(
    scorer: Scorer,
    arguments: tuple[Any, ...],
    shape: tuple[int, ...],
    *,
    with_second: bool = True,
    extra: Callable[[Scored], Any] | None = None,
) -> tuple[Reduced, Any]:
    """`reduce_tiles` from scores that are all kept: half as much to compile, and slower."""
    scored = of_shape(scorer(*arguments), shape)
    column: Scored = jax.tree.map(lambda x: x[..., None], scored)
    feasible, reasons = _totals(count_designs(column), (-1,), shape[-1], shape[:-1])
    gpus = jnp.zeros(()) if scored.gpus is None else scored.gpus
    is_feasible = jnp.broadcast_to(scored.feasible, shape)
    best = pick_best(scored.score, is_feasible, gpus)
    second = None
    if with_second:
        index = jax.lax.broadcasted_iota(best.position.dtype, shape, len(shape) - 1)
        is_other = is_feasible & (index != best.position[..., None])
        second = pick_best(scored.score, is_other, gpus)
    further = None if extra is None else extra(scored)
    return Reduced(best, second, feasible, reasons), further


def _choices(staged: Staged, cut: Cut, highest: jax.Array, rounds: int) -> list[Choice]:
    """`choose` among the parts; `highest` has the outer axes and lanes, a choice the rows' ones."""
    # Parts and tiles, first and last of the outer axes, become one.
    by_part = jnp.moveaxis(highest, -2, 1).reshape(cut.tiles * cut.parts, -1, cut.lanes)

    def score(part: jax.Array, row: jax.Array) -> Scored:
        return of_shape(staged.at(part, row), (cut.width, cut.lanes))

    picked = choose(score, by_part, rounds)
    full = (rounds, *cut.rows, cut.lanes)
    position, value = (x.reshape(full) for x in picked)
    return [Choice(position[k], value[k]) for k in range(rounds)]


def reduce_tiles(
    scorer: Scorer,
    arguments: tuple[Any, ...],
    shape: tuple[int, ...],
    *,
    with_second: bool,
    extra: Callable[[Scored], Any] | None = None,
) -> tuple[Reduced, Any]:
    """Reduce a block over its designs.

    Args:
        scorer: scores of `arguments`, written as if of scalars.
        arguments: pytrees whose leaves have the kept axes first and the designs last, or are
            scalars.
        shape: kept axes, then designs.
        with_second: look for the runner-up too.
        extra: further results from the scores of a tile; they are returned with the tiles ahead.

    Returns:
        The reduction, shape of the kept axes, and what `extra` gave.
    """
    kept, cut = shape[:-1], cut_of(shape)
    if cut.lanes < _LANES:
        return reduce_whole(scorer, arguments, shape, with_second=with_second, extra=extra)

    rest = cut.outer[1:]

    def finish(found: Scored) -> tuple[jax.Array, Codes, Any]:
        scored = of_shape(found, (*rest, cut.width, cut.lanes))
        # Each part counts, whether a flag varies between parts or not.
        codes = {
            names: jnp.broadcast_to(x, (*x.shape[:-2], cut.parts, x.shape[-1]))
            for names, x in count_designs(scored).items()
        }
        highest = _highest(scored.score)
        return highest, codes, None if extra is None else extra(scored)

    staged = Staged(scorer, arguments, kept, cut)
    highest, codes, further = staged.map(finish)
    codes = {names: jnp.moveaxis(x, 1, 0) for names, x in codes.items()}
    feasible, reasons = _totals(codes, (1, -2), cut.width, (*cut.rows, cut.lanes))
    choices = _choices(staged, cut, highest, 1 + with_second)
    reduced = Reduced(choices[0], choices[-1] if with_second else None, feasible, reasons)
    return jax.tree.map(lambda x: restore(x, kept), reduced), further


def count_tiles(
    counter: Callable[..., jax.Array], arguments: tuple[Any, ...], shape: tuple[int, ...]
) -> jax.Array:
    """Designs of a block for which `counter` is true; arguments as for `reduce_tiles`."""
    cut = cut_of(shape)
    tile = (*cut.outer[1:], cut.width, cut.lanes)

    def count(flag: jax.Array) -> jax.Array:
        return jnp.sum(jnp.broadcast_to(flag, tile), dtype=jnp.int32)

    staged = Staged(counter, arguments, shape[:-1], cut)
    return jnp.sum(staged.map(count), dtype=jnp.int32)
