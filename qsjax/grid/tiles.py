"""A block of designs scored in tiles and reduced by the tie rule, in two passes.

The first pass keeps of every tile no more than its highest score and its counts, so that no score
ever leaves the processor. The second scores again only the tiles that may hold the winner, a few of
hundreds, and finds its place there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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
from qsjax.grid.staging import Cut, Staged, cut_of, evaluate, restore
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.namespace import Array

Scorer = Callable[..., Scored]
# With fewer kept cells than this to a design, two stages save nothing.
_LANES = 3


class _Found(NamedTuple):
    """Choice of each cell so far, its GPUs (infinite: none yet), and its score."""

    gpus: Array
    position: Array
    score: Array


def _look(
    scored: Scored, tile: Array, row: Array, best: tuple[Array, Array], found: _Found
) -> _Found:
    """What a tile changes in the choices of a row; `scored.score` is (designs, lanes).

    `best` are the score from which designs count as equal to the best, (rows, lanes), and the tiles
    whose highest score reached it in the first pass, (tiles, rows, lanes).
    """
    score, width = scored.score, scored.score.shape[0]
    index = jax.lax.broadcasted_iota(jnp.int32, score.shape, 0)
    # The first pass may round otherwise than this one: what reached the score there, counts here.
    here, (bound, sure) = jnp.max(score, axis=0), best
    least = jnp.where(sure[tile, row], jnp.minimum(bound[row], here), bound[row])
    is_tied = (score >= least[None]) & (score > lowest(score.dtype))
    cost = jnp.where(is_tied, 0.0 if scored.gpus is None else scored.gpus, jnp.inf)
    fewest = jnp.min(cost, axis=0)
    first = jnp.min(jnp.where(is_tied & (cost == fewest[None]), index, width), axis=0)
    value = jnp.max(jnp.where(index == first[None], score, -jnp.inf), axis=0)
    old = _Found(*(x[row] for x in found))
    is_better = fewest < old.gpus
    new = _Found(
        jnp.where(is_better, fewest, old.gpus),
        jnp.where(is_better, tile * width + first, old.position),
        jnp.where(is_better, value, old.score),
    )
    put = jax.lax.dynamic_update_index_in_dim
    return _Found(*(put(x, y, row, axis=0) for x, y in zip(found, new, strict=True)))


def choose(score: Callable[[Array, Array], Scored], highest: Array) -> Choice:
    """The best design of every cell by the tie rule, from the tiles that reach the highest score.

    Args:
        score: scores of a tile in a row, (designs, lanes).
        highest: (tiles, rows, lanes) of the first pass.

    Returns:
        Choices of shape (rows, lanes); position 0 and -infinity where there is none.
    """
    tiles, rows, lanes = highest.shape
    none = jnp.full((rows, lanes), -jnp.inf, highest.dtype)
    nobody = jnp.full((rows, lanes), -1, jnp.int32)
    nothing = _Found(jnp.full((rows, lanes), jnp.inf, highest.dtype), nobody, none)
    index = jnp.arange(tiles * rows, dtype=jnp.int32)
    best = jnp.max(highest, axis=0)
    least = best - tolerance(highest.dtype) * jnp.abs(best)
    sure = (highest >= least[None]) & (highest > lowest(highest.dtype))
    wanted = jnp.any(sure, axis=-1).reshape(-1)

    def next_after(at: Array) -> Array:
        return jnp.min(jnp.where(wanted & (index > at), index, tiles * rows))

    def look(state: tuple[Array, _Found]) -> tuple[Array, _Found]:
        at, found = state
        tile, row = at // rows, at % rows
        return next_after(at), _look(score(tile, row), tile, row, (least, sure), found)

    start = (next_after(jnp.int32(-1)), nothing)
    found = jax.lax.while_loop(lambda state: state[0] < tiles * rows, look, start)[1]
    is_any = found.position >= 0
    return Choice(jnp.where(is_any, found.position, 0), jnp.where(is_any, found.score, none))


def _larger(x: Array, y: Array) -> Array:
    return jnp.where(x > y, x, y)


def _highest(score: Array) -> Array:
    """Highest score along the designs."""
    # Not by `max`: in float32 XLA leaves that to a library, three times as slow as its own loop.
    start = jnp.array(-jnp.inf, score.dtype)
    return jax.lax.reduce(score, start, _larger, (score.ndim + DESIGNS,))


def _totals(
    codes: Codes, over: tuple[int, ...], width: int, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Feasible designs and reasons, from counts of parts of `width` along the axes `over`."""
    totals: dict[str, Array] = {}
    for names, code in codes.items():
        counts = jnp.sum(unpack_counts(code, len(names), width), axis=over, dtype=jnp.int32)
        totals |= dict(zip(names, counts, strict=True))
    return jnp.broadcast_to(totals[FEASIBLE], shape), stacked(totals, shape)


def reduce_whole(
    scorer: Scorer,
    arguments: tuple[Any, ...],
    shape: tuple[int, ...],
    *,
    extra: Callable[[Scored], Any] | None = None,
) -> tuple[Reduced, Any]:
    """`reduce_tiles` from scores that are all kept: half as much to compile, and slower."""
    scored = of_shape(evaluate(scorer, arguments), shape)
    column: Scored = jax.tree.map(lambda x: x[..., None], scored)
    feasible, reasons = _totals(count_designs(column), (-1,), shape[-1], shape[:-1])
    gpus = jnp.zeros(()) if scored.gpus is None else scored.gpus
    is_feasible = jnp.broadcast_to(scored.feasible, shape)
    further = None if extra is None else extra(scored)
    return Reduced(pick_best(scored.score, is_feasible, gpus), feasible, reasons), further


def _choice(staged: Staged, cut: Cut, highest: Array) -> Choice:
    """`choose` among the parts; `highest` has the outer axes and lanes, a choice the rows' ones."""
    # Parts and tiles, first and last of the outer axes, become one.
    by_part = jnp.moveaxis(highest, -2, 1).reshape(cut.tiles * cut.parts, -1, cut.lanes)

    def score(part: Array, row: Array) -> Scored:
        return of_shape(staged.at(part, row), (cut.width, cut.lanes))

    return Choice(*(x.reshape(*cut.rows, cut.lanes) for x in choose(score, by_part)))


def reduce_tiles(
    scorer: Scorer,
    arguments: tuple[Any, ...],
    shape: tuple[int, ...],
    *,
    extra: Callable[[Scored], Any] | None = None,
) -> tuple[Reduced, Any]:
    """Reduce a block over its designs.

    Args:
        scorer: scores of `arguments`, written as if of scalars.
        arguments: pytrees whose leaves have the kept axes first and the designs last, or are
            scalars.
        shape: kept axes, then designs.
        extra: further results from the scores of a tile; they are returned with the tiles ahead.

    Returns:
        The reduction, shape of the kept axes, and what `extra` gave.
    """
    kept, cut = shape[:-1], cut_of(shape)
    if cut.lanes < _LANES:
        return reduce_whole(scorer, arguments, shape, extra=extra)

    rest = cut.outer[1:]

    def finish(found: Scored) -> tuple[Array, Codes, Any]:
        scored = of_shape(found, (*rest, cut.width, cut.lanes))
        # Each part counts, whether a flag varies between parts or not.
        codes = {
            names: jnp.broadcast_to(x, (*x.shape[:-2], cut.parts, x.shape[-1]))
            for names, x in count_designs(scored).items()
        }
        return _highest(scored.score), codes, None if extra is None else extra(scored)

    staged = Staged(scorer, arguments, kept, cut)
    highest, codes, further = staged.map(finish)
    codes = {names: jnp.moveaxis(x, 1, 0) for names, x in codes.items()}
    feasible, reasons = _totals(codes, (1, -2), cut.width, (*cut.rows, cut.lanes))
    reduced = Reduced(_choice(staged, cut, highest), feasible, reasons)
    return jax.tree.map(lambda x: restore(x, kept), reduced), further


def count_tiles(
    counter: Callable[..., Array], arguments: tuple[Any, ...], shape: tuple[int, ...]
) -> Array:
    """Designs of a block for which `counter` is true; arguments as for `reduce_tiles`."""
    cut = cut_of(shape)
    tile = (*cut.outer[1:], cut.width, cut.lanes)

    def count(flag: Array) -> Array:
        return jnp.sum(jnp.broadcast_to(flag, tile), dtype=jnp.int32)

    return jnp.sum(Staged(counter, arguments, shape[:-1], cut).map(count), dtype=jnp.int32)
