"""The exact front of tokens/s/GPU against tokens/s/user of a cell, and the design of each point."""

import dataclasses
from typing import NamedTuple

import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.metrics import Economy
from qsjax.grid.batches import clip_to, every, ladder, spacing_of
from qsjax.grid.cells import Cells, Designs, Winners, concatenated, full, step_on_host, take
from qsjax.grid.limits import Limits
from qsjax.grid.optimum import candidates_of
from qsjax.grid.pairs import Candidates, allowed_batches, judge, rectangles
from qsjax.grid.solution import Row, cell_labels, design_of, design_row, metrics_of


class Points(NamedTuple):
    """Designs as arrays.

    Attributes:
        user: tokens/s/user, falling.
        gpu: tokens/s/GPU, rising.
        gpus: GPUs of the design.
        row: which candidate.
        batch: sequences per attention replica.
    """

    user: np.ndarray
    gpu: np.ndarray
    gpus: np.ndarray
    row: np.ndarray
    batch: np.ndarray


def undominated(first: np.ndarray, second: np.ndarray, *ties: np.ndarray) -> np.ndarray:
    """Places of the pairs of rates that no other pair beats in both, by falling first rate.

    Sorted by the first rate, a pair stays if its second exceeds all before it. Of equal pairs the
    one with the least of the first of `ties` stays, then of the second, and so on.
    """
    order = np.lexsort((*ties[::-1], -second, -first))
    before = np.append(-np.inf, np.maximum.accumulate(second[order])[:-1])
    return order[second[order] > before]


def front_of(points: Points) -> Points:
    """The points that no other beats in both rates; of equal ones that with the fewest GPUs."""
    ties = points.gpus, points.row, points.batch
    return take(points, undominated(points.user, points.gpu, *ties))


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
        engine: what serves, "" where that is not stated.
    """

    label: Row
    winners: Winners
    step: StepCost
    economy: Economy
    decided: int
    evaluated: int
    spacing: float
    engine: str = ""

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

    def within(self, tpot: float) -> int | None:
        """The point with the most tokens/s/GPU within a limit on TPOT; None if none keeps it."""
        keeps = np.flatnonzero(self.step.tpot <= tpot)
        return int(keeps[-1]) if len(keeps) else None

    def rows(self) -> list[Row]:
        """One row for each point."""
        design = design_of(self.winners.designs.partition, self.step)
        metrics = metrics_of(self.step, self.economy)
        return [self.label | design_row(design, metrics, k) for k in range(len(self.user))]


def _points(
    candidates: Candidates, largest: np.ndarray, batches: np.ndarray, limits: Limits
) -> tuple[Points, int]:
    """The front of candidates at every batch up to their largest, and how many were evaluated."""
    parts, evaluated = [Points(*np.empty((5, 0)))], 0
    for block in rectangles(candidates, largest, batches):
        batch = np.minimum(block.batches, block.largest)
        own = (block.winners, block.economy, limits, batch)
        *rates, broken = judge(*own, objective="tokens_per_s_per_user")
        tried = (*rates, block.rows[:, None], batch)
        keeps = (batch >= 1.0) & np.broadcast_to(broken == 0, batch.shape)
        parts.append(front_of(Points(*(np.broadcast_to(x, batch.shape)[keeps] for x in tried))))
        evaluated += batch.size
    return front_of(concatenated(*parts)), evaluated


def front_of_cell(
    cells: Cells, cell: int, asked: np.ndarray | None = None, every_batch: bool = False
) -> Front:
    """The front of a cell over its designs and batches within the limits.

    Args:
        cells: whose batch is searched (`optimum.any_batch`).
        cell: which of them.
        asked: batches to choose from, in rising order; if None the ladder of `batches.ladder`, and
            of each partition its largest batch.
        every_batch: every whole batch up to the largest, instead of the ladder.
    """
    candidates, _ = candidates_of(cells, *take((cells.inputs, cells.economy), [cell]))
    largest = allowed_batches(candidates, cells.limits)
    most = float(np.max(largest, initial=1.0))
    if asked is not None:
        batches, largest = asked, clip_to(asked, largest)
    else:
        batches = every(most) if every_batch else ladder(most)
    points, evaluated = _points(candidates, largest, batches, cells.limits)
    (inputs, (partition, _)), economy = candidates.flat(points.row.astype(np.int64))
    winners = Winners(inputs, Designs(partition, points.batch))
    return Front(
        label=cell_labels(cells)[cell],
        winners=winners,
        step=full(step_on_host(winners), points.batch.shape),
        economy=economy,
        decided=cells.enumerated * len(batches),
        evaluated=evaluated,
        spacing=0.0 if asked is not None else spacing_of(batches),
        engine=cells.hardware.engine,
    )
