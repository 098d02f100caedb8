"""The split that is best for a whole distribution of contexts.

Requests of similar length are served in batches of their own, and the design is the same for all.
With shares w_i of the output tokens and rates r_i, the whole makes 1 / sum(w_i / r_i) tokens/s/GPU.
"""

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.meanings import Meaning
from qsjax.grid.cells import Cells, Designs, Winners, blocks_of, step_on_host, take
from qsjax.grid.optimum import any_batch, candidates_of
from qsjax.grid.pairs import score_candidates
from qsjax.grid.parameters import Inputs, write
from qsjax.grid.problem import Problem, fixed_question
from qsjax.grid.scoring import pick_best
from qsjax.grid.solution import cell_labels, design_label
from qsjax.numerics import trees
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.output.labels import cell_name, split_name, with_fields
from qsjax.output.result import Result, Row, Table
from qsjax.questions.mix.averages import averaged, spans
from qsjax.questions.mix.requests import Request, classes_of, requests_of
from qsjax.records.units import MS


class ClassResult(NamedTuple):
    """One class under the common design and under its own best one.

    Attributes:
        context: of the class [tokens].
        share: of it in the output tokens.
        batch: with the common design.
        tokens_per_s_per_gpu: likewise.
        own_tokens_per_s_per_gpu: with the best design for this class alone.
        own_design: that design; empty if none runs.
    """

    context: float
    share: float
    batch: int
    tokens_per_s_per_gpu: float
    own_tokens_per_s_per_gpu: float
    own_design: Row

    def row(self) -> Row:
        """The class as plain numbers, with the share of its throughput that the design costs."""
        alone = self.own_tokens_per_s_per_gpu
        return self._asdict() | {"loss": 1.0 - self.tokens_per_s_per_gpu / alone if alone else None}


@dataclasses.dataclass(frozen=True, slots=True)
class OneBatch:
    """The best split for one batch of all requests.

    Attributes:
        context: mean over the slots of the batch [tokens].
        design: its degrees; empty if nothing runs.
        batch: sequences per attention replica.
        step: cost of the step; None if nothing runs.
    """

    context: float
    design: Row
    batch: float
    step: StepCost | None


@dataclasses.dataclass(frozen=True, slots=True)
class Mixture:
    """The best split of one cell for all classes together.

    Attributes:
        label: model, accelerator and coordinates of the cell, but its context.
        design: its degrees; empty if no split runs every class.
        rate: output tokens/s/GPU over all classes; 0 then.
        rate_of_own: the same if every class had its own best split: an upper bound.
        classes: each class, in order of context.
        together: one batch for all lengths, if it was asked for.
    """

    label: Row
    design: Row
    rate: float
    rate_of_own: float
    classes: tuple[ClassResult, ...]
    together: OneBatch | None

    @property
    def loss(self) -> float:
        """Share of the throughput that one common split costs, against a split for each class."""
        return 1.0 - self.rate / self.rate_of_own if self.rate_of_own > 0 else 0.0

    def record(self) -> Row:
        """The mixture as plain numbers."""
        record = {
            **self.label,
            "is_feasible": bool(self.design),
            "design": self.design,
            "tokens_per_s_per_gpu": self.rate,
            "tokens_per_s_per_gpu_of_own": self.rate_of_own,
            "loss": self.loss,
            "classes": [one.row() for one in self.classes],
        }
        return record if self.together is None else record | {"together": _one_batch(self.together)}


def _one_batch(together: OneBatch) -> Row:
    step = together.step
    rates = ("tpot", "tokens_per_s_per_user", "tokens_per_s_per_gpu")
    return {
        "is_feasible": step is not None,
        "mean_context": together.context,
        "design": together.design,
        "batch": int(together.batch),
        **{name: None if step is None else scalar(getattr(step, name)) for name in rates},
    }


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Mix(Result):
    """The best split of every cell for a distribution of contexts.

    Attributes:
        problem: what was asked; its contexts are those of the classes.
        requests: as given.
        mixtures: one for each model (outer), accelerator and cell.
    """

    problem: Problem
    requests: tuple[Request, ...]
    mixtures: tuple[Mixture, ...]

    stem = "mix"
    index = ("cell",)
    given = ("requests",)
    meanings = MappingProxyType({"share": Meaning("share of the output tokens")})

    def lengths(self) -> list[float]:
        """The longest of the mean contexts [tokens]."""
        return [max(request.context for request in self.requests)]

    def rows(self) -> list[Row]:
        """One row for each class of each cell."""
        return [
            {**one.label, "design": split_name(one.design) if one.design else "", **each.row()}
            for one in self.mixtures
            for each in one.classes
        ]

    def summary(self) -> str:
        """The best split for all requests together, and what one split for all costs."""
        running = [one for one in self.mixtures if one.design]
        if not running:
            return self._nothing(self.mixtures[0])
        best = max(running, key=lambda one: (one.label["q"] is None, one.rate))
        low, high = best.classes[0].context, best.classes[-1].context
        label = best.label
        device = f"{label['hardware']}{with_fields(label, self.problem.stated.kept)}"
        split = words.split(best.design, label["variant"] == "moe")
        sentences = [
            f"For contexts of {words.places([low, high])} on {label['gpus']:,.0f} {device}, "
            f"{label['model']} is fastest with {split}: {words.number(best.rate)} "
            "tokens/s on each GPU.",
            f"A split of its own for each length would make {words.number(best.rate_of_own)}: one "
            f"split for all costs {100 * best.loss:.1f} %.",
        ]
        same = {name: x for name, x in label.items() if name not in ("variant", "q")}
        twins = [one for one in running if one is not best and one.label.items() >= same.items()]
        if twins:
            gaps = [f"q = {one.label['q']:g} {words.gap(one.rate / best.rate)}" for one in twins]
            sentences.append(f"Dense models of equal quality: {words.joined(gaps)}.")
        return "\n".join(sentences)

    def tables(self) -> list[Table]:
        """The classes of every cell."""
        return [_classes_table(one, self._name(one)) for one in self.mixtures if one.design]

    def _name(self, one: Mixture) -> str:
        return cell_name(one.label, self.problem.stated.kept)

    def _nothing(self, one: Mixture) -> str:
        missing = [f"{c.context:,.0f}" for c in one.classes if not c.own_design]
        where = f"contexts of {words.joined(missing)} tokens" if missing else "all classes at once"
        limits = words.kept(self.problem)
        where += f" within {limits}" if limits else ""
        return (
            f"{self._name(one)}: no split runs {where}; more GPUs, or a limit on the context, "
            "would help."
        )

    def remarks(self) -> list[str]:
        """Cells that do not run every class, and one batch for all lengths."""
        lines = [self._nothing(one) for one in self.mixtures if not one.design]
        lines = lines if any(one.design for one in self.mixtures) else lines[1:]  # told already
        for one in self.mixtures:
            if one.together is not None:
                lines.append(f"{self._name(one)}, {_together(one.together)}")
        return lines

    def record(self) -> Row:
        """Every cell with its classes."""
        convention = self.problem.stated.convention
        return {"convention": convention, "mixes": [one.record() for one in self.mixtures]}


def _together(together: OneBatch) -> str:
    if together.step is None:
        return "all lengths in one batch: no split holds the longest within the limits."
    tpot, rate = scalar(together.step.tpot), scalar(together.step.tokens_per_s_per_gpu)
    return (
        f"all lengths in one batch (mean context {together.context:,.0f}): "
        f"{split_name(together.design)}, batch {together.batch:,.0f}, TPOT {tpot / MS:,.2f} ms, "
        f"{rate:,.1f} tokens/s/GPU."
    )


def _classes_table(one: Mixture, name: str) -> Table:
    cells = [
        [
            f"{c['context']:,.0f}",
            f"{c['share']:.1%}",
            f"{c['batch']:,}",
            f"{c['tokens_per_s_per_gpu']:,.1f}",
            f"{c['own_tokens_per_s_per_gpu']:,.1f}",
            f"{c['loss']:.1%}",
            split_name(c["own_design"]),
        ]
        for c in (each.row() for each in one.classes)
    ]
    heads = ["context", "share", "batch", "tok/s/GPU", "own best", "loss", "own best split"]
    return Table(f"Classes of requests: {name}", heads, cells)


def _harmonic(shares: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Rate of a mix [tokens/s/GPU] over the first axis; 0 where a class does not run."""
    runs = (rates > 0).all(axis=0)
    time = np.sum(shares[:, None] / np.where(rates > 0, rates, 1.0), axis=0)
    return np.where(runs, 1.0 / time, 0.0)


def _design(cells: Cells, cell: int, position: int) -> Row:
    """Degrees of a design, and its copies."""
    label = design_label(cells, position)
    gpus = label["tp"] * label["pp"] * label["dp"] * label["kvp"]
    return label | {"replicas": int(scalar(cells.inputs.gpus[cell])) // gpus}


def _scores(
    cells: Cells, cell: int, row: Inputs, batch: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens/s/GPU of every design in one row at its best batch (0 where none), and that batch."""
    candidates, _ = candidates_of(cells, row, take(cells.economy, [cell]))
    given = None if batch is None else np.array([batch])
    scores = score_candidates(candidates, cells.limits, batches=given)
    rates, batches = np.zeros((2, cells.count))
    rates[candidates.position] = np.maximum(scores.score, 0.0)
    batches[candidates.position] = scores.batch
    return rates, batches


def _best(rates: np.ndarray) -> int:
    return int(pick_best(rates, rates > 0, np.zeros(len(rates)), np).position)


def best_for_classes(
    cells: Cells, cell: int, classes: Sequence[Request], one_batch: OneBatch | None = None
) -> Mixture:
    """The split of a cell with the most tokens/s/GPU over all classes, each at its own batch."""
    inputs: Inputs = take(cells.inputs, [cell])
    tables = [
        _scores(cells, cell, write(inputs, {"context": np.full(1, one.context)}), one.batch)
        for one in classes
    ]
    rates, batches = (np.stack(column) for column in zip(*tables, strict=True))
    shares = np.array([one.tokens for one in classes])
    together = _harmonic(shares, rates)
    best, alone = _best(together), [_best(row) for row in rates]
    possible, runs = rates.max(axis=1) > 0, bool(together[best] > 0)
    return Mixture(
        label={k: v for k, v in cell_labels(cells)[cell].items() if k != "context"},
        design=_design(cells, cell, best) if runs else {},
        rate=float(together[best]),
        rate_of_own=float(_harmonic(shares, rates.max(axis=1, keepdims=True))[0]),
        classes=tuple(
            ClassResult(
                one.context,
                one.tokens,
                int(batches[k, best]) if runs else 0,
                float(rates[k, best]) if runs else 0.0,
                float(rates[k, alone[k]]),
                _design(cells, cell, alone[k]) if possible[k] else {},
            )
            for k, one in enumerate(classes)
        ),
        together=one_batch,
    )


def _one_size(requests: Sequence[Request]) -> float | None:
    """The batch that all requests ask for, if they do.

    Raises:
        ValueError: they ask for batches of several sizes.
    """
    asked = sorted({one.batch for one in requests if one.batch is not None})
    if len(asked) > 1 or (asked and any(one.batch is None for one in requests)):
        listed = ", ".join(f"{batch:g}" for batch in asked)
        raise ValueError(
            f"one batch for all lengths cannot have several sizes at once ({listed}); give all "
            "rows the same batch, or none"
        )
    return asked[0] if asked else None


def best_together(cells: Cells, cell: int, requests: Sequence[Request]) -> OneBatch:
    """The split and batch of a cell with the most tokens/s/GPU for one batch of all requests.

    The batch is taken to be large enough to hold its mean: with few sequences the cache that is
    needed varies around it, and an engine then preempts some of them. The longest request must fit
    on its own.

    Raises:
        ValueError: the requests ask for batches of several sizes.
    """
    size, inputs = _one_size(requests), take(cells.inputs, [cell])
    row = averaged(inputs, requests)
    context = float(np.asarray(row.workload.context)[0])
    rates, batches = _scores(cells, cell, row, size)
    # The mean may fit where the longest sequence alone does not.
    longest = write(inputs, {"context": np.full(1, spans(requests)[2].max())})
    alone, _ = candidates_of(cells, longest, take(cells.economy, [cell]))
    rates[~np.isin(np.arange(cells.count), alone.position)] = 0.0
    best = _best(rates)
    if rates[best] == 0:
        return OneBatch(context, {}, 0.0, None)
    designs = Designs(take(cells.designs.partition, [best]), batches[[best]])
    return OneBatch(
        context=context,
        design=_design(cells, cell, best),
        batch=float(batches[best]),
        step=trees.map(lambda x: float(np.ravel(x)[0]), step_on_host(Winners(row, designs))),
    )


@fixed_question("ranks by tokens/s/GPU over all requests")
def mix(problem: Problem, requests: Any, *, together: bool = False) -> Mix:
    """The split that makes the most tokens/s/GPU over all requests, in every cell.

    Every class of similar lengths is served at its own best batch, within the problem's limits.

    Args:
        problem: what is asked; contexts and batches come from the requests instead.
        requests: path or text of a CSV file with the columns context, or isl and osl, and
            optionally count and batch; or a list of `Request`, or of (input, output) tokens.
        together: also find the split for one batch that holds all lengths at once.

    Raises:
        ValueError: with the number of every bad row; or one batch is to have several sizes.

    >>> from qsjax.grid.problem import Problem
    >>> found = mix(Problem("mixtral-8x7b", "h100-sxm", gpus=8), [(4000, 500), (32000, 1000)])
    >>> found.mixtures[0].loss < 0.1
    True
    """
    read = requests_of(requests)
    classes = classes_of(read)
    if together:
        _one_size(read)
    free, _ = any_batch(problem)
    first = classes[0].context
    mixtures = []
    for cells in blocks_of(dataclasses.replace(free, context=first)):
        for cell in range(cells.cells):
            one = best_together(cells, cell, read) if together else None
            mixtures.append(best_for_classes(cells, cell, classes, one))
    asked = dataclasses.replace(free, context=sorted({one.context for one in classes}))
    return Mix(asked, tuple(read), tuple(mixtures))
