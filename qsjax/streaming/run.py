"""A sweep from its first block to its last: chunks computed, recorded, and merged."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qsjax.grid.cells import take
from qsjax.grid.scoring import Reduced
from qsjax.numerics.jax import jax
from qsjax.streaming import store
from qsjax.streaming.aggregate import (
    Designs,
    Tally,
    add_best,
    add_front,
    add_sums,
    add_wins,
    merge,
    new_tally,
)
from qsjax.streaming.engine import Engine, Job
from qsjax.streaming.plan import Few, Plan, chunk_range, counts_of
from qsjax.streaming.pruning import decide

Cells = dict[str, np.ndarray]
Report = Callable[[int], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs of a sweep besides its counts.

    Attributes:
        winners: the best of each kept cell.
        top_k: so many of the best designs of all.
        pareto: the front over all designs.
        wins: how many kept cells each design wins.
    """

    winners: bool = True
    top_k: int = 10
    pareto: bool = False
    wins: bool = False


def _own(designs: Designs, first: int, last: int) -> Designs:
    return take(designs, (designs.cell >= first) & (designs.cell < last))


def _of_all(plan: Plan, few: Few, call: np.ndarray, reduced: Reduced) -> Reduced:
    """Results of few designs as those of all."""
    position, score = (np.asarray(x) for x in reduced.best)
    own: Any = np.where(score > -np.inf, few.at[position], 0).astype(position.dtype)
    counts: list[Any] = [counts_of(plan, x, call) for x in (few.feasible, few.reasons)]
    return Reduced(
        reduced.best._replace(position=own),
        counts[0].reshape(position.shape).astype(np.int32),
        np.moveaxis(counts[1], 0, 1).reshape(len(call), -1, *plan.inner),
    )


def run_chunk(
    engine: Engine, chunk: int, wanted: Outputs, known: Tally, report: Report = lambda cells: None
) -> tuple[Tally, Cells]:
    """Evaluate one chunk.

    `known` only spares work: designs that cannot enter its top or its front are not looked for.
    """
    plan = engine.plan
    if plan.pruned:
        return decide(engine.job, plan, chunk, report), {}
    blocks = np.arange(chunk * plan.per_chunk, min((chunk + 1) * plan.per_chunk, plan.blocks))
    first, last = chunk_range(plan, chunk)
    tally = new_tally(len(engine.job.statistics))
    tally.best, tally.edge = known.best, known.edge
    parts: list[tuple[np.ndarray, ...]] = []
    few, source = plan.few, engine
    if few is not None:
        left = dataclasses.replace(plan, designs=plan.designs[few.at])
        source = Engine(engine.job, left, engine.devices)
    for call, reduced in source.stream(blocks):
        if few is not None:
            reduced = _of_all(plan, few, call, reduced)
        add_sums(tally, plan, call, reduced)
        if wanted.top_k:
            add_best(tally, engine, call, reduced, wanted.top_k)
        if wanted.wins:
            add_wins(tally, plan, call, reduced)
        if wanted.pareto:
            add_front(tally, engine, call)
        sizes = plan.ranges(call)[1]
        if wanted.winners:
            best = reduced.best
            pick = [np.asarray(x) for x in (best.position, best.score, reduced.feasible)]
            parts += [tuple(x[k].reshape(-1)[:size] for x in pick) for k, size in enumerate(sizes)]
        report(int(sizes.sum()) * len(plan.designs))
    tally.best, tally.edge = _own(tally.best, first, last), _own(tally.edge, first, last)
    names = ("position", "score", "feasible")
    cells = {n: np.concatenate(x) for n, x in zip(names, zip(*parts, strict=True), strict=False)}
    return tally, cells


def sweep(
    job: Job,
    plan: Plan,
    wanted: Outputs = Outputs(),
    devices: Sequence[jax.Device] | None = None,
    report: Report = lambda cells: None,
) -> tuple[Tally, Cells]:
    """Search a grid of any size, in memory.

    Args:
        job: what is asked.
        plan: the blocks, from `make_plan`.
        wanted: what is kept; without `winners` the memory does not depend on the kept cells.
        devices: devices of this process; all by default.
        report: called with the number of designs done since the last call.

    Returns:
        The tally, and per kept cell (in the order of `plan.axes.kept`) the winner's `position` in
        `plan.designs`, its `score`, and the number of `feasible` designs.
    """
    engine = Engine(job, plan, devices)
    tally, parts = new_tally(len(job.statistics)), []
    for chunk in range(plan.chunks):
        part, cells = run_chunk(engine, chunk, wanted, tally, report)
        tally = merge(tally, part, wanted.top_k)
        parts.append(cells)
    shape = plan.kept
    return tally, {k: np.concatenate([p[k] for p in parts]).reshape(shape) for k in parts[0]}


def compute_chunks(
    job: Job,
    plan: Plan,
    wanted: Outputs,
    folder: Path,
    chunks: Sequence[int],
    report: Report = lambda cells: None,
) -> None:
    """Compute some chunks and record each when it is done."""
    engine, known = Engine(job, plan), new_tally(len(job.statistics))
    for chunk in chunks:
        tally, cells = run_chunk(engine, chunk, wanted, known, report)
        store.save_chunk(folder, chunk, tally, cells)
        known = merge(known, tally, wanted.top_k)


def cells_of(plan: Plan, chunks: Sequence[int]) -> int:
    """Designs of some chunks."""
    return sum((b - a) * len(plan.designs) for a, b in (chunk_range(plan, c) for c in chunks))
