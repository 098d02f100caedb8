"""The exact front of tokens/s/GPU against tokens/s/user, with the design behind every point."""

import dataclasses
from functools import partial

from qsjax.grid.cells import cells_of
from qsjax.grid.fronts import Front, front_of_cell
from qsjax.grid.infeasibility import Refusal, Remedies, refusals, remedies
from qsjax.grid.optimum import any_batch
from qsjax.grid.problem import Problem, describe, question
from qsjax.output.labels import series_name
from qsjax.output.result import Drawing, Result, Row, inputs_of


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
                front = front_of_cell(cells, cell, asked, every_batch)
                fronts.append(front)
                if len(front.user) == 0:
                    why = refusals(cells, cell, asked)
                    refused.append(Refused(front.label, why, remedies(problem, m, h, cell)))
    return Pareto(problem, tuple(fronts), tuple(refused))
