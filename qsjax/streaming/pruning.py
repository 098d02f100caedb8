"""Decide the winners of whole boxes of kept cells by bounds, without evaluating every design.

Whether a design runs, and its largest batch, depend on some of the kept axes only. At each place on
these (an outer place) the others, such as rates and latencies, span a box of kept cells. The law
played on intervals (`numerics.intervals`) bounds every design over a box, and the mean value form
bounds how far the best one at its centre is ahead of the others. A box with one design left is
decided; others are halved along every axis, with the designs that are left; small ones are
evaluated. Method: branch and bound as in `grid.proofs`, over the places of a grid instead of a
continuum.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qsjax.cost.decode import decode_parts
from qsjax.cost.feasibility import REASONS
from qsjax.cost.metrics import METRICS
from qsjax.grid.axes import place
from qsjax.grid.bounds import log_slopes, most_apart
from qsjax.grid.cells import concatenated
from qsjax.grid.scoring import TIE_TOLERANCE, pick_best
from qsjax.numerics.enclosing import centre, enclose, fingerprint
from qsjax.numerics.intervals import EXACT, range_of
from qsjax.numerics.jax import jax
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.fields import facts_of
from qsjax.records.specs import FIELDS, Convention, HardwareSpec, Records
from qsjax.streaming.aggregate import Tally, new_tally, summed
from qsjax.streaming.engine import Job
from qsjax.streaming.hosts import cores
from qsjax.streaming.plan import MULTIPLE, Few, Plan, chunk_range, coordinates

if TYPE_CHECKING:
    from qsjax.streaming.run import Outputs

# A design behind by more than this (relative) is beaten, whatever ties and rounding do.
BEHIND = 4.0 * TIE_TOLERANCE
# Relative distance from the limit of a tie at which two programs may round to different sides.
DOUBTFUL = 1e-12
# Kept cells of a box that is evaluated and no longer cut.
SMALL = 512
# Cells, or boxes times designs, that NumPy takes at a time.
ELEMENTS = 2**16
# Boxes of a level that are cut before their parts are.
MOST_BOXES = 2**15
# Designs of a chunk, about: some minutes' work.
CHUNK = 10**12
# The designs that are evaluated in blocks come in multiples of this, two parts of a tile: with one,
# the compiled program has another form and rounds scores otherwise than that of all designs.
LEFT = 2 * MULTIPLE
# Share of the time of an evaluation that bounds may take.
SHARE = 0.5
# Seconds of a core: an outer place, and a kept cell on the borders between designs; designs that
# a core evaluates in a second. They decide which way is taken, and nothing of the result.
PLACE, BORDER, RATE = 0.2, 2e-5, 2e8


def _values(
    records: Records, convention: Convention, *, metrics: tuple[str, ...]
) -> tuple[Array, ...]:
    step, _ = decode_parts(records, convention)
    return tuple(getattr(step, name) for name in metrics)


def _value(records: Records, convention: Convention, *, metric: str) -> Array:
    return _values(records, convention, metrics=(metric,))[0]


def _rules(records: Records, convention: Convention) -> tuple[Array, Array, Array]:
    step, _ = decode_parts(records, convention)
    return step.reasons, step.capacity.batch, step.gpus


_values_at, _rules_at = on_host(_values), on_host(_rules)


class Boxes(NamedTuple):
    """Boxes of kept cells, and the designs that may win in each; the boxes come last.

    Attributes:
        low: first place on each inner axis, shape (axes, boxes).
        high: one past the last place.
        at: designs, ascending, filled up to one length by others, shape (designs, boxes).
        number: how many of them are real.
    """

    low: np.ndarray
    high: np.ndarray
    at: np.ndarray
    number: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """Kept cells of each."""
        return np.prod(self.high - self.low, axis=0)

    @property
    def is_real(self) -> np.ndarray:
        """Which of the designs are real."""
        return np.arange(len(self.at))[:, None] < self.number

    def take(self, at: Any) -> "Boxes":
        """Some of them."""
        return Boxes(*(x[..., at] for x in self))


class Picked(NamedTuple):
    """Winners of the kept cells of boxes, shape (places on each inner axis, boxes).

    Attributes:
        winner: the design; -1 where there is none.
        real: which places are of the box.
        doubtful: of these, where two programs may tell a tie, or the keeping of a limit, apart.
        tied: designs that are the best somewhere, or nearly so.
    """

    winner: np.ndarray
    real: np.ndarray
    doubtful: np.ndarray
    tied: np.ndarray


@dataclasses.dataclass(slots=True)
class Found:
    """Results for the kept cells of a place.

    Attributes:
        wins: kept cells that each design wins.
        tied: which designs win or tie in a kept cell that was evaluated.
        nobody: kept cells in which none runs.
        evaluated: designs times kept cells that were evaluated.
        doubtful: kept cells in which two designs are at the limit of a tie, or one at a limit, to
            within rounding.
    """

    wins: np.ndarray
    tied: np.ndarray
    nobody: int = 0
    evaluated: int = 0
    doubtful: int = 0


class Place:
    """The designs at one outer place, over the box of the inner axes."""

    def __init__(
        self, job: Job, plan: Plan, outer: Mapping[str, Any], inner: Mapping[str, np.ndarray]
    ) -> None:
        self._job, self._inner, self._names = job, dict(inner), list(inner)
        self._outer = {name: np.asarray(value, float) for name, value in outer.items()}
        self._designs = coordinates(plan.axes.searched, plan.designs)
        self._metrics = (job.objective, *job.bounds)
        self._sign = -1.0 if METRICS[job.objective].less_is_better else 1.0
        self.count = len(plan.designs)
        start = {name: x[:1] for name, x in inner.items()}
        found = _rules_at(self._records(start, np.arange(self.count)), job.convention)
        self.reasons, _, gpus = (np.broadcast_to(x, self.count) for x in found)
        self._gpus = gpus if job.records.gpus is None and "gpus" not in outer else None

    def _records(self, inner: Mapping[str, Any], at: np.ndarray) -> Records:
        designs = {name: x[at] for name, x in self._designs.items()}
        return place(self._job.records, {**self._outer, **inner, **designs}, self._job.convention)

    def _axes(self, records: Records) -> tuple[Any, Any]:
        none = jax.tree.map(lambda _: EXACT, (records, self._job.convention))
        numbers: Any = {name: k for k, name in enumerate(self._names)}
        return place(none[0], numbers, self._job.convention), none[1]

    @cached_property
    def _apart(self) -> np.ndarray:
        """Designs that run, the first by the tie rule of those that are equal everywhere."""
        runs = np.flatnonzero(self.reasons == 0)
        if not len(runs):
            return runs
        ends = [{name: x[k : k + 1] for name, x in self._inner.items()} for k in (0, -1)]
        low, high = ((self._records(end, runs), self._job.convention) for end in ends)
        marks = [
            np.broadcast_to(fingerprint(_value, low, high, self._axes(low[0]), metric=m), len(runs))
            for m in self._metrics
        ]
        cost = np.zeros(len(runs)) if self._gpus is None else self._gpus[runs]
        order = np.lexsort((runs, cost))
        _, first = np.unique(np.stack(marks)[:, order], axis=1, return_index=True)
        return np.sort(runs[order[first]])

    def start(self) -> Boxes:
        """All kept cells as one box, with every design that may be the best."""
        high = np.array([[len(x)] for x in self._inner.values()])
        at = self._apart
        return Boxes(np.zeros_like(high), high, at[:, None], np.array([len(at)]))

    def _placed(self, places: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the inner axes at places (parts of a box, boxes), each along its own axis."""
        pairs = enumerate(zip(self._names, places, strict=True))
        return {n: self._along(k, self._inner[n][own]) for k, (n, own) in pairs}

    def _along(self, k: int, x: np.ndarray) -> np.ndarray:
        """(parts, boxes) of an inner axis with the axes: designs, inner ones, boxes."""
        shape = [1] * (len(self._names) + 2)
        shape[1 + k], shape[-1] = x.shape
        return x.reshape(shape)

    def _wide(self, x: np.ndarray) -> np.ndarray:
        """(designs, boxes) likewise."""
        return x.reshape(x.shape[0], *[1] * len(self._names), -1)

    def cut(self, boxes: Boxes) -> Boxes:
        """Boxes halved along every axis, with the designs that may be the best in each part."""
        ends = []
        for low, high in zip(boxes.low, boxes.high, strict=True):
            cuts = [low, (low + high) // 2, high] if np.any(high - low > 1) else [low, high]
            ends.append(np.stack(cuts))
        first, after = [x[:-1] for x in ends], [x[1:] for x in ends]
        last = [np.maximum(x - 1, y) for x, y in zip(after, first, strict=True)]
        left = self._may_win(self._placed(first), self._placed(last), boxes)
        parts = left.shape[1:]
        low, high = (
            np.stack(
                [np.broadcast_to(self._along(k, x)[0], parts) for k, x in enumerate(side)]
            ).reshape(len(ends), -1)
            for side in (first, after)
        )
        is_any = np.all(high > low, axis=0)
        row = np.broadcast_to(np.arange(parts[-1]), parts).reshape(-1)[is_any]
        left = left.reshape(len(left), -1)[:, is_any]
        count = left.sum(axis=0)
        order = np.argsort(~left, axis=0, kind="stable")[: max(1, int(count.max(initial=0)))]
        return Boxes(low[:, is_any], high[:, is_any], boxes.at[order, row], count)

    def _may_win(self, first: Any, last: Any, boxes: Boxes) -> np.ndarray:
        """Which designs may win somewhere in a part, shape (designs, parts, boxes)."""
        wide, rules = self._wide(boxes.at), self._job.convention
        low, high = ((self._records(end, wide), rules) for end in (first, last))
        found, _ = enclose(_values, low, high, self._axes(low[0]), metrics=self._metrics)
        middle = {name: centre(first[name], last[name]) for name in first}
        own = _values_at(self._records(middle, wide), rules, metrics=self._metrics[:1])[0]
        shape = np.broadcast_shapes(wide.shape, *(x.shape for x in first.values()))

        def full(x: Any) -> np.ndarray:
            return np.broadcast_to(x, shape)

        with np.errstate(all="ignore"):
            ends = [full(self._sign * np.log(x)) for x in range_of(found[0])]
            score = full(self._sign * np.log(own))
        least, most = ends if self._sign > 0 else ends[::-1]
        may = full(self._wide(boxes.is_real))
        sure = may
        for value, pair in zip(found[1:], self._job.bounds.values(), strict=True):
            (lower, upper), (least_ok, most_ok) = range_of(value), pair
            may = may & (upper >= least_ok * (1 - BEHIND)) & (lower <= most_ok * (1 + BEHIND))
            sure = sure & (lower >= least_ok * (1 + BEHIND)) & (upper <= most_ok * (1 - BEHIND))
        champion = np.where(sure, score, -np.inf).argmax(axis=0)[None]

        def of_champion(x: np.ndarray) -> np.ndarray:
            return np.take_along_axis(x, champion, axis=0)

        with np.errstate(all="ignore"):
            ahead = of_champion(score) - score
            for slope in log_slopes(found[0]).values():
                whole = full(slope[0]), full(slope[1])
                ahead = ahead - most_apart((of_champion(whole[0]), of_champion(whole[1])), whole)
            ahead = np.where(of_champion(sure), ahead, -np.inf)
            best = np.where(sure, least, -np.inf).max(axis=0)
            beaten = np.fmax(ahead, best - most) > BEHIND
        return may & ~beaten

    def pick(self, boxes: Boxes) -> Picked:
        """The winners of the kept cells of boxes, evaluated."""
        sizes = (boxes.high - boxes.low).max(axis=1)
        places = [low + np.arange(n)[:, None] for low, n in zip(boxes.low, sizes, strict=True)]
        inside = [x < high for x, high in zip(places, boxes.high, strict=True)]
        places = [np.minimum(x, high - 1) for x, high in zip(places, boxes.high, strict=True)]
        wide, shape = self._wide(boxes.at), (len(boxes.at), *sizes, len(boxes.number))
        records = self._records(self._placed(places), wide)
        values = _values_at(records, self._job.convention, metrics=self._metrics)
        score = np.broadcast_to(self._sign * values[0], shape)
        allowed = np.broadcast_to(self._wide(boxes.is_real), shape)
        near = np.zeros(shape[1:], bool)
        for value, pair in zip(values[1:], self._job.bounds.values(), strict=True):
            allowed = allowed & (value >= pair[0]) & (value <= pair[1])
            for end in pair:
                near = near | np.any(np.abs(value - end) <= DOUBTFUL * np.abs(end), axis=0)
        gpus = 0.0 if self._gpus is None else self._wide(self._gpus[boxes.at])
        chosen = pick_best(score, allowed, gpus, np, axis=0)
        best = np.where(allowed, score, -np.inf).max(axis=0)
        with np.errstate(invalid="ignore"):
            close = allowed & (score >= best - BEHIND * np.abs(best))
            if np.count_nonzero(close) > best.size:
                limit, width = best - TIE_TOLERANCE * np.abs(best), DOUBTFUL * np.abs(best)
                near = near | np.any(allowed & (np.abs(score - limit) <= width), axis=0)
        winner = np.take_along_axis(
            np.broadcast_to(wide, shape), np.asarray(chosen.position)[None], axis=0
        )[0]
        winner = np.where(best > -np.inf, winner, -1)
        real = np.ones(shape[1:], bool)
        for k, own in enumerate(inside):
            real &= self._along(k, own)[0]
        is_close = np.any(close & real, axis=tuple(range(1, 1 + len(inside))))
        return Picked(winner, real, near & real, boxes.at[is_close])

    def decide(self) -> Found:
        """Who wins how many kept cells."""
        decided = Found(np.zeros(self.count, np.int64), np.zeros(self.count, bool))
        # Levels of boxes, the smallest last: so many at a time that memory does not grow.
        levels = [_alike([self.start()])]
        while levels:
            level, later = _apart(levels.pop(), MOST_BOXES)
            if later:
                levels.append(later)
            parts = [part for boxes in level for part in self._advance(boxes, decided)]
            if parts:
                levels.append(_alike(parts))
        return decided

    def _advance(self, boxes: Boxes, decided: Found) -> list[Boxes]:
        """Settle boxes that one design wins, evaluate small ones, cut the others; those left."""
        cells = boxes.cells
        is_empty = boxes.number == 0
        is_won = (boxes.number == 1) & (not self._job.bounds)
        decided.nobody += int(cells[is_empty].sum())
        np.add.at(decided.wins, boxes.at[0, is_won], cells[is_won])
        is_settled = is_empty | is_won
        is_small = ~is_settled & (cells <= SMALL)
        for part in _pieces(boxes.take(is_small), int(cells[is_small].max(initial=1))):
            self._tell(self.pick(part), part, decided)
        large = boxes.take(~is_settled & ~is_small)
        return [self.cut(part) for part in _pieces(large, 2 ** len(self._names))]

    def _tell(self, picked: Picked, boxes: Boxes, decided: Found) -> None:
        counts = np.bincount(picked.winner[picked.real] + 1, minlength=self.count + 1)
        decided.nobody += int(counts[0])
        decided.wins += counts[1:]
        decided.tied[picked.tied] = True
        decided.evaluated += int((boxes.cells * boxes.number).sum())
        decided.doubtful += int(picked.doubtful.sum())


def _pieces(boxes: Boxes, each: int) -> Iterator[Boxes]:
    """Boxes in groups so small that `each` numbers for every design stay in the cache."""
    size = max(1, ELEMENTS // (each * len(boxes.at)))
    for start in range(0, len(boxes.number), size):
        yield boxes.take(slice(start, start + size))


def _apart(level: Sequence[Boxes], most: int) -> tuple[list[Boxes], list[Boxes]]:
    """The first `most` boxes, and the rest."""
    now, later = [], []
    for boxes in level:
        here, most = boxes.take(slice(most)), max(0, most - len(boxes.number))
        now.append(here)
        later.append(boxes.take(slice(len(here.number), None)))
    return [x for x in now if len(x.number)], [x for x in later if len(x.number)]


def _alike(parts: Sequence[Boxes]) -> list[Boxes]:
    """The boxes grouped by their number of designs, padded to few sizes."""
    groups: dict[int, list[Boxes]] = {}
    for boxes in parts:
        sizes = np.array([_size(n) for n in range(len(boxes.at) + 1)])[boxes.number]
        for size in np.unique(sizes):
            part = boxes.take(sizes == size)
            missing = max(0, int(size) - len(part.at))
            at = np.pad(part.at[:size], ((0, missing), (0, 0)))
            groups.setdefault(int(size), []).append(part._replace(at=at))
    return [concatenated(*group, axis=-1) for _, group in sorted(groups.items())]


def _size(count: int) -> int:
    """Padded number of designs of a box: few sizes, little waste."""
    step = 1 << max(0, count.bit_length() - 2)
    return max(1, -(-count // step) * step)


def inner_axes(job: Job, plan: Plan) -> tuple[str, ...]:
    """Kept axes of which neither a rule nor the batch depends: they span the boxes."""
    known, candidates = facts_of(HardwareSpec), []
    arrays: dict[str, np.ndarray] = {}
    rank = len(plan.axes.kept) + 1
    for k, axis in enumerate(plan.axes.kept):
        may = axis.name in known and not FIELDS[axis.name].rule.whole and len(axis.values) > 1
        candidates += [(k, axis.name)] if may else []
        arrays[axis.name] = axis.values[[0, -1]].reshape([-1 if j == k else 1 for j in range(rank)])
    # What depends on an axis does so for any design.
    designs = coordinates(plan.axes.searched, plan.designs[:1])
    found = _rules_at(place(job.records, arrays | designs, job.convention), job.convention)
    shape = np.broadcast_shapes(*(np.shape(x) for x in found))
    shape = (1,) * (rank - len(shape)) + shape
    return tuple(name for k, name in candidates if shape[k] == 1)


class _Grid(NamedTuple):
    """The kept axes: those within a chunk that span boxes, and the coordinates of the others."""

    inner: dict[str, np.ndarray]
    outer: list[dict[str, float]]

    @property
    def cells(self) -> int:
        """Kept cells of an outer place."""
        return math.prod(len(x) for x in self.inner.values())


def _grid_of(plan: Plan, names: Sequence[str], chunk: int) -> _Grid:
    row, part = divmod(chunk, plan.row_blocks)
    lead = np.unravel_index(row, plan.kept[: plan.split]) if plan.split else ()
    own = {}
    for k, axis in enumerate(plan.axes.kept):
        values = axis.values
        if k < plan.split:
            values = values[lead[k]][None]
        elif k == plan.split:
            values = values[part * plan.step : (part + 1) * plan.step]
        own[axis.name] = values
    inner = {name: np.sort(own.pop(name)) for name in names}
    outer = [dict(zip(own, at, strict=True)) for at in itertools.product(*own.values())]
    return _Grid(inner, outer)


def _seconds(places: int, cells: int, designs: int) -> tuple[float, float]:
    """Predicted seconds of a core, by bounds and by evaluation."""
    # What is not settled lies along the borders between designs, a dimension less than the cells.
    return places * (PLACE + BORDER * cells**0.75), places * cells * designs / RATE


def _hindrance(job: Job, wanted: "Outputs") -> str | None:
    """Outputs that need every design; None if there are none."""
    asked = {
        "pareto": wanted.pareto,
        "statistics": bool(job.statistics),
        "precision float32": job.precision != "float64",
        "constraints beside winners and top_k": bool(job.bounds) and _needs_scores(wanted),
    }
    hindrances = [name for name, is_asked in asked.items() if is_asked]
    return f"leave out {', '.join(hindrances)}" if hindrances else None


def _needs_scores(wanted: "Outputs") -> bool:
    return wanted.winners or wanted.top_k > 0


def pruned(
    job: Job, plan: Plan, wanted: "Outputs", *, is_asked: bool, chunk_cells: int | None = None
) -> Plan:
    """The plan that prunes by bounds, if that is possible and either faster or asked for.

    Where scores are wanted, bounds decide first which designs win or tie anywhere, and the blocks
    are evaluated for these; else no block is.

    Args:
        job: what is asked of every design.
        plan: the blocks.
        wanted: what is kept.
        is_asked: whether it shall be, whatever it takes.
        chunk_cells: designs of a chunk, about; some minutes' work unless given.

    Raises:
        ValueError: it was asked for and cannot be.
    """
    why = _hindrance(job, wanted)
    names = inner_axes(job, plan) if why is None else ()
    if why is None and not names:
        why = "name two or more values of a rate or latency in axes"
    if why is not None:
        if is_asked:
            raise ValueError(f"prune: bounds tell which designs win, and no more; {why}")
        return plan
    needs_scores = _needs_scores(wanted)
    if needs_scores and not is_asked and len(plan.designs) < 4 * LEFT:
        return plan
    split = 0 if needs_scores else plan.stacked
    per_place = math.prod(plan.kept[split + 1 :]) * len(plan.designs)
    step = plan.kept[0]
    if not needs_scores:
        step = max(1, min(plan.kept[split], (chunk_cells or CHUNK) // per_place))
    own = dataclasses.replace(plan, split=split, step=step, per_call=1, per_chunk=1, pruned=True)
    grid = _grid_of(own, names, 0)
    bounding, evaluating = _seconds(len(grid.outer), grid.cells, len(plan.designs))
    if not is_asked and (bounding > SHARE * evaluating or job.bounds):
        return plan
    if not needs_scores:
        return own
    few = few_of(job, own, grid)
    is_few = few is not None and 2 * len(few.at) <= len(plan.designs)
    return plan if not is_few else dataclasses.replace(plan, few=few)


def _at_places(job: Job, plan: Plan, grid: _Grid) -> Iterator[tuple[int, list[int], Found]]:
    """How many designs run, how many have each reason, and what was found, at each outer place."""

    def at_place(outer: Mapping[str, float]) -> tuple[int, list[int], Found]:
        place = Place(job, plan, outer, grid.inner)
        counts = [int((place.reasons & bit > 0).sum()) for bit in REASONS.values()]
        return int((place.reasons == 0).sum()), counts, place.decide()

    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(at_place, grid.outer)


def few_of(job: Job, plan: Plan, grid: _Grid) -> Few | None:
    """The designs that win or tie anywhere; None where rounding may decide a tie."""
    is_kept, feasible, reasons = np.zeros(len(plan.designs), bool), [], []
    for runs, counts, decided in _at_places(job, plan, grid):
        if decided.doubtful:
            return None
        is_kept |= decided.tied | (decided.wins > 0)
        feasible.append(runs)
        reasons.append(counts)
    missing = min(-max(1, int(is_kept.sum())) % LEFT, int((~is_kept).sum()))
    is_kept[np.flatnonzero(~is_kept)[:missing]] = True
    shape = [1 if axis.name in grid.inner else len(axis.values) for axis in plan.axes.kept]
    return Few(
        np.flatnonzero(is_kept),
        np.array(feasible).reshape(shape),
        np.array(reasons).T.reshape(-1, *shape),
    )


def decide(job: Job, plan: Plan, chunk: int, report: Callable[[int], None]) -> Tally:
    """Who wins the kept cells of a chunk, and the counts of all designs in it."""
    grid = _grid_of(plan, inner_axes(job, plan), chunk)
    tally, designs = new_tally(0), len(plan.designs)
    stack = chunk_range(plan, chunk)[0] // math.prod(plan.kept[plan.stacked :])
    for runs, counts, decided in _at_places(job, plan, grid):
        tally.feasible += runs * grid.cells
        tally.reasons += np.array(counts, np.int64) * grid.cells
        tally.computed += designs * grid.cells
        tally.evaluated += decided.evaluated
        tally.doubtful += decided.doubtful
        at = np.flatnonzero(decided.wins)
        own = np.stack([stack * designs + at, decided.wins[at]])
        tally.wins = summed(np.concatenate([tally.wins, own], axis=1))
        report(designs * grid.cells)
    return tally
