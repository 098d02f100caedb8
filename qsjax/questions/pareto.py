"""The exact front of tokens/s/GPU against tokens/s/user, with the design behind every point."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.metrics import Economy
from qsjax.grid.batches import clip_to, every, ladder, spacing_of
from qsjax.grid.cells import Cells, Designs, Winners, cells_of, step_of, take
from qsjax.grid.infeasibility import Refusal, Remedies, refusals, remedies
from qsjax.grid.limits import Limits, violations
from qsjax.grid.optimum import any_batch, candidates_of
from qsjax.grid.pairs import Block, Candidates, allowed_batches, blocks, step_at
from qsjax.grid.problem import Problem, describe, question
from qsjax.grid.solution import cell_labels, design_of, design_row, metrics_of
from qsjax.numerics.numpy_backend import on_host
from qsjax.output.labels import series_name
from qsjax.output.result import Drawing, Result, Row, inputs_of

# Points that a front may hold at first; a cell with more is done again with twice as many.
CAPACITY = 2048
_step_on_host = on_host(step_of)


class Points(NamedTuple):
    """Designs as arrays; unused entries have both rates at -inf.

    Attributes:
        user: tokens/s/user, falling.
        gpu: tokens/s/GPU, rising.
        gpus: GPUs of the design.
        row: which candidate.
        batch: sequences per attention replica.
    """

    user: jax.Array
    gpu: jax.Array
    gpus: jax.Array
    row: jax.Array
    batch: jax.Array


def front_of(points: Points, capacity: int) -> tuple[Points, jax.Array]:
    """The points that no other beats in both rates, and their number (it may exceed `capacity`).

    Sorted by the first rate, a point is on the front if its second exceeds all before it. Of equal
    points the one with the fewest GPUs stays, then the lowest row, then the smallest batch.
    """
    keys = (-points.user, -points.gpu, points.gpus, points.row, points.batch)
    user, gpu, gpus, row, batch = jax.lax.sort(keys, num_keys=len(keys))
    before = jnp.concatenate([jnp.full((1,), -jnp.inf), jax.lax.cummax(-gpu)[:-1]])
    is_front = -gpu > before
    (at,) = jnp.nonzero(is_front, size=capacity, fill_value=len(user))
    ordered = Points(-user, -gpu, gpus, row, batch)
    unused = (-jnp.inf, -jnp.inf, jnp.inf, jnp.inf, jnp.inf)
    kept = [
        x.at[at].get(mode="fill", fill_value=value)
        for x, value in zip(ordered, unused, strict=True)
    ]
    return Points(*kept), jnp.sum(is_front)


@jax.jit
def absorb(points: Points, block: Block, limits: Limits) -> tuple[Points, jax.Array]:
    """The front of `points` and a block of designs, and its number of points."""
    (inputs, designs), economy, largest, batches, rows = block
    batch = jnp.minimum(batches, largest)
    step = step_at(block.winners, batch)
    broken = violations(limits, designs.partition, inputs.hardware, step, economy)
    allowed = (batch >= 1.0) & (broken == 0)

    def flat(x: jax.Array) -> jax.Array:
        return jnp.where(allowed, jnp.broadcast_to(x, batch.shape), -jnp.inf).reshape(-1)

    new = Points(
        flat(step.tokens_per_s_per_user),
        flat(step.tokens_per_s_per_gpu),
        jnp.broadcast_to(step.gpus, batch.shape).reshape(-1),
        jnp.broadcast_to(rows[:, None], batch.shape).reshape(-1),
        batch.reshape(-1),
    )
    both = Points(*(jnp.concatenate(pair) for pair in zip(points, new, strict=True)))
    return front_of(both, len(points.user))


@dataclasses.dataclass(frozen=True, slots=True)
class Front:
    """The front of one cell, by falling tokens/s/user.

    Attributes:
        label: model, accelerator and coordinates of the cell.
        winners: inputs and design of every point, with its batch; one a row.
        step: their cost.
        economy: price and power of each.
        decided: designs of the cell: partitions times batches.
        evaluated: of them, those whose step was computed; the others are illegal or do not fit.
        spacing: upper bound of the throughput lost, at the same tokens/s/user, by the batches that
            the ladder leaves out; 0 if all (or all those asked for) were tried.
    """

    label: Row
    winners: Winners
    step: StepCost
    economy: Economy
    decided: int
    evaluated: int
    spacing: float

    @property
    def user(self) -> np.ndarray:
        """Tokens/s/user of every point."""
        return np.asarray(self.step.tokens_per_s_per_user)

    @property
    def gpu(self) -> np.ndarray:
        """Tokens/s/GPU of every point."""
        return np.asarray(self.step.tokens_per_s_per_gpu)

    @property
    def batch(self) -> np.ndarray:
        """Sequences per attention replica of every point."""
        return np.asarray(self.winners.designs.batch)

    def rows(self) -> list[Row]:
        """One row for each point."""
        design = design_of(self.winners.designs.partition, self.step)
        metrics = metrics_of(self.step, self.economy)
        return [self.label | design_row(design, metrics, k) for k in range(len(self.user))]


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A cell without a design.

    Attributes:
        label: model, accelerator and coordinates of the cell.
        why: what is in the way.
        would_help: single changes that are enough.
    """

    label: Row
    why: tuple[Refusal, ...]
    would_help: Remedies


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Pareto(Result):
    """The fronts of all cells of a problem.

    Attributes:
        problem: what was asked.
        fronts: one for each model (outer), accelerator and cell; those of `refused` are empty.
        refused: the cells without a design.
    """

    problem: Problem
    fronts: tuple[Front, ...]
    refused: tuple[Refused, ...]

    stem = "pareto"
    columns = (
        *("label", "context", "gpus", "tp", "ep", "pp", "dp", "kvp", "replicas", "batch"),
        *("tpot", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "usd_per_million_tokens"),
    )

    def rows(self) -> list[Row]:
        """One row for each point of each front, with the name of its line."""
        found = [row for front in self.fronts for row in front.rows()]
        axes = ("gpus", "context")
        return [{"label": series_name(self.problem, row, *axes), **row} for row in found]

    def counts(self) -> Row:
        """Designs decided and evaluated, and what the batches left out lose at most."""
        return {
            "convention": self.problem.stated.convention,
            "designs_decided": sum(front.decided for front in self.fronts),
            "designs_evaluated": sum(front.evaluated for front in self.fronts),
            "largest_loss_between_batches": max(front.spacing for front in self.fronts),
        }

    def summary(self) -> str:
        """What was asked, and how many designs there are."""
        counts = self.counts()
        lost = counts["largest_loss_between_batches"]
        between = f" Between the batches tried at most {lost:.1%} of tokens/s/GPU is lost."
        return (
            f"{describe(self.problem)}: {counts['designs_decided']:,} designs decided, "
            f"{counts['designs_evaluated']:,} of them evaluated.{between if lost else ''}"
        )

    def record(self) -> Row:
        """Counts, fronts, and the cells without a design."""
        refused = [
            {
                **item.label,
                "why": [refusal.text for refusal in item.why],
                "would_help": dataclasses.asdict(item.would_help),
            }
            for item in self.refused
        ]
        return {**self.counts(), "front": self.rows(), "refused": refused}

    def inputs(self) -> Row:
        """The problem's records as plain numbers."""
        return inputs_of(self.problem)

    def drawings(self) -> dict[str, Drawing]:
        """The fronts of all cells in one picture."""
        from qsjax import plotting

        rows = self.rows()
        title = describe(self.problem)
        return {"pareto": partial(plotting.pareto_front, rows, title=title)} if rows else {}


def _points(
    found: Candidates, largest: np.ndarray, batches: np.ndarray, limits: Limits
) -> tuple[Points, int]:
    bounds = jax.tree.map(lambda x: np.asarray(x, np.float64), limits)
    capacity = CAPACITY
    while True:
        low, high = jnp.full(capacity, -jnp.inf), jnp.full(capacity, jnp.inf)
        points, evaluated = Points(low, low, high, high, high), 0
        most = jnp.zeros((), int)
        for block in blocks(found, largest, batches):
            rows = np.zeros(len(block.largest))
            rows[: len(block.rows)] = block.rows
            points, count = absorb(points, block._replace(rows=rows), bounds)
            most = jnp.maximum(most, count)
            evaluated += len(block.rows) * block.batches.size
        if int(most) <= capacity:
            return points, evaluated
        capacity *= 2


def _front(cells: Cells, cell: int, asked: np.ndarray | None, every_batch: bool) -> Front:
    found, _ = candidates_of(cells, *take((cells.inputs, cells.economy), [cell]))
    largest = allowed_batches(found, cells.limits)
    most = float(np.max(largest, initial=1.0))
    if asked is not None:
        batches, largest = asked, clip_to(asked, largest)
    else:
        batches = every(most) if every_batch else ladder(most)
    points, evaluated = _points(found, largest, batches, cells.limits)
    n = int(np.count_nonzero(np.asarray(points.user) > -np.inf))
    at, batch = np.asarray(points.row)[:n].astype(np.int64), np.asarray(points.batch)[:n]
    own = found.at(at)
    inputs, economy, partition = jax.tree.map(
        lambda x: x[:, 0], (own.winners.inputs, own.economy, own.winners.designs.partition)
    )
    winners = Winners(inputs, Designs(partition, batch))
    step = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), n), _step_on_host(winners))
    return Front(
        label=cell_labels(cells)[cell],
        winners=winners,
        step=step,
        economy=economy,
        decided=cells.enumerated * len(batches),
        evaluated=evaluated,
        spacing=0.0 if asked is not None else spacing_of(batches),
    )


@question
def pareto(problem: Problem, every_batch: bool = False) -> Pareto:
    """The front of each cell over all partitions and batches that keep the problem's limits.

    Partitions that are illegal or hold no sequence are decided once, whatever the batch; all others
    are evaluated at every batch tried, in blocks of one shape, with constant memory. The front over
    what was tried is exact: it equals the front of the whole list.

    Args:
        problem: what is asked. Batches are those that it prescribes, else the ladder of
            `batches.ladder`, and of each partition its largest batch.
        every_batch: try every whole batch up to the largest, instead of the ladder.

    >>> from qsjax.grid.problem import Problem
    >>> found = pareto(Problem("mixtral-8x7b", "h100-sxm", gpus=2, context="32k", batch=[1, 8]))
    >>> sorted({row["batch"] for row in found.rows()})
    [1, 8]
    """
    free, asked = any_batch(problem)
    fronts, refused = [], []
    for m in range(len(problem.stated.models)):
        for h in range(len(problem.stated.accelerators)):
            cells = cells_of(free, m, h)
            for cell in range(cells.cells):
                front = _front(cells, cell, asked, every_batch)
                fronts.append(front)
                if len(front.user) == 0:
                    why = refusals(cells, cell, asked)
                    refused.append(Refused(front.label, why, remedies(problem, m, h, cell)))
    return Pareto(problem, tuple(fronts), tuple(refused))
