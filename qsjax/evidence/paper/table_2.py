"""The paper's Table 2 as one study: what is varied there, and whether it changes who wins.

Source of the dimensions: *The qs Inequality*, arXiv 2603.08960, Table 2 and section 4.5. Latencies,
overlap fractions and the ring's tail have no printed values; those here span none to much.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import product
from operator import itemgetter
from typing import Any

import numpy as np

from qsjax.evidence.paper.printed import PRINTED
from qsjax.grid.cells import Cells, Designs, cells_of, concatenated, take
from qsjax.grid.optimum import best_of
from qsjax.grid.parameters import Inputs, read, write
from qsjax.grid.problem import Problem
from qsjax.numerics.loading import in_float64
from qsjax.output import files
from qsjax.output.result import Drawing, Result, Row, Table
from qsjax.records.rows import grouped
from qsjax.records.specs import CONVENTIONS, KV_MODES
from qsjax.records.units import tokens

GPUS = 32  # tp 8 x kvp 4, the table's reference split
QS = (2.0, 3.0, 5.0, 8.0)
REFERENCE_Q = 5.0
BASELINE = "reference"
# Designs are filled up to a multiple of this, so that one compilation serves several models.
DESIGN_BLOCK = 256

# Dimension -> label of a value -> what it does to hardware fields: ("scale" or "set", number).
Change = Mapping[str, Sequence[Any]]
HARDWARE: dict[str, dict[str, Change]] = PRINTED["hardware"]
# Dimension -> label -> degrees that designs must have; all others are searched.
SPLITS: dict[str, dict[str, dict[str, Any]]] = PRINTED["splits"]


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Study(Result):
    """Who wins under every variation.

    Attributes:
        problem: what was varied.
        cases: one per (convention, model, dimension, value, q, context): `speedup` of the twin over
            the MoE (None where either is infeasible), `winner` (`dense`, `moe`, `neither`), the
            `reference_winner` of the same cell, and whether it `flips`.
        factorial: one per (convention, model, q, context): over all combinations of the hardware
            dimensions, `combinations` with a winner, `dense_share` of them that the twin wins, and
            `flipped_by`: by how much the share of flips is larger with a dimension's value than
            with its reference value.
    """

    problem: Problem
    cases: list[Row]
    factorial: list[Row]

    stem = "summary"

    def rows(self) -> list[Row]:
        """Per convention, dimension and value: how often the dense twin wins, and what flips.

        `flips` counts cells (model, q, context) whose winner differs from the reference's,
        `to_dense` those that the twin takes over; `where` lists models with the contexts at which
        they flip at `q`: the reference 5, or the first q where that is not among them.
        """
        return _summary(self.cases)

    def summary(self) -> str:
        """What changes the winner most often, and how many cells keep theirs, by accounting."""
        lines = []
        for name, verdict in self.verdicts().items():
            rows = [row for row in self.rows() if row["convention"] == name]
            varied = [row for row in rows if row["dimension"] != BASELINE]
            most = max(varied, key=lambda row: row["flips"] / max(1, row["cells"]))
            base = next(row for row in rows if row["dimension"] == BASELINE)
            end = f" ({name} convention)" if len(self.verdicts()) > 1 else ""
            lines.append(
                f"On the paper's accelerator the dense twin wins in {base['dense_wins']} of "
                f"{base['cells']} cells, each a model, a q and a context{end}."
            )
            lines.append(
                f"Of what the paper's Table 2 varies, {most['dimension']} ({most['value']}) "
                f"changes the winner most often: in {most['flips']} of {most['cells']} cells."
                if most["flips"]
                else "Nothing that the paper's Table 2 varies changes the winner of any cell."
            )
            lines.append(verdict)
        return "\n".join(lines)

    def tables(self) -> list[Table]:
        """By accounting, for each dimension and value: who wins, and which cells flip."""
        found = []
        for name in self.verdicts():
            own = [row for row in self.rows() if row["convention"] == name]
            heads = ["dimension", "value", "cells", "dense wins", "flips", "to dense"]
            lines = [
                [
                    row["dimension"],
                    row["value"],
                    *(f"{row[key]}" for key in ("cells", "dense_wins", "flips", "to_dense")),
                    _where(row),
                ]
                for row in own
            ]
            title = (
                f"{name} accounting. A cell (model, q, context) flips where its winner is not that "
                f"of the reference; last column: flips at q={own[0]['q']:g}"
            )
            found.append(Table(title, [*heads, f"at q={own[0]['q']:g}"], lines, 2))
        return found

    def verdicts(self) -> dict[str, str]:
        """By convention, in how many cells one side always wins."""
        return {
            name: f"In {same} of {cells} cells one side wins in every combination of the hardware "
            "dimensions."
            for name, (same, cells) in self.steadiness().items()
        }

    def steadiness(self) -> dict[str, tuple[int, int]]:
        """By convention: cells with one winner in all combinations, and cells with any."""
        counts: dict[str, tuple[int, int]] = {}
        for row in self.factorial:
            steady, cells = counts.get(row["convention"], (0, 0))
            decided = row["combinations"] > 0
            agrees = decided and row["dense_share"] in (0.0, 1.0)
            counts[row["convention"]] = steady + agrees, cells + decided
        return counts

    def record(self) -> Row:
        """The summary, and all combinations."""
        return {"rows": self.rows(), "combinations": self.factorial}

    def more_files(self) -> dict[str, str]:
        """All cases."""
        return {"study.csv": files.csv_text(self.cases)}

    def drawings(self) -> dict[str, Drawing]:
        """Where the winner changes, for each convention (the first name shows all)."""
        rows = [row for row in self.rows() if row["dimension"] != BASELINE]

        def draw(ax: Any = None) -> Any:
            from qsjax import plotting

            names = list(dict.fromkeys(row["convention"] for row in rows))
            axes = [ax] * len(names)
            if ax is None:
                size = (6.6 * len(names), 1.9 + 0.25 * (1 + len(rows) / len(names)))
                axes = list(plotting.figure(1, len(names), size=size)[1][0])
            for panel, name in zip(axes, names, strict=True):
                own = [row for row in rows if row["convention"] == name]
                most = max(own, key=lambda row: row["flips"])
                says = f"{most['dimension']} ({most['value']}) changes the winner most often"
                says = says if most["flips"] else "nothing changes the winner"
                plotting.winner_shifts(own, panel, title=f"{name} accounting: {says}")
            return axes[0]

        return {"study": draw}


def _where(row: Row) -> str:
    """Models with the contexts at which their winner changes."""
    return "; ".join(
        f"{model} at {', '.join(tokens(context) for context in contexts)}"
        for model, contexts in row["where"].items()
    )


def _changed(inputs: Inputs, change: Change) -> Inputs:
    fields = {}
    for name, (how, number) in change.items():
        value = np.asarray(read(inputs, name))
        fields[name] = value * number if how == "scale" else np.full_like(value, number)
    return write(inputs, fields)


def _score(stated: Cells, keep: np.ndarray, inputs: Inputs | None = None) -> np.ndarray:
    """Best scores among the kept designs, repeated up to one count: one shape for every subset."""
    at, count = np.flatnonzero(keep), DESIGN_BLOCK * -(-stated.count // DESIGN_BLOCK)
    designs = take(stated.designs, np.concatenate([at, np.full(count - len(at), at[0])]))
    return np.asarray(best_of(dataclasses.replace(stated, designs=designs), inputs).score)


def _subset(designs: Designs, degrees: Mapping[str, Any]) -> np.ndarray:
    codes = {name: KV_MODES.get(value, value) for name, value in degrees.items()}
    columns = [np.asarray(getattr(designs.partition, name)) == v for name, v in codes.items()]
    kept: np.ndarray = np.logical_and.reduce(columns)
    if degrees == {"kv_mode": "cp"}:  # at kvp = 1 there is no ring
        kept = kept | (np.asarray(designs.partition.kvp) == 1)
    return kept


def _verdicts(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Speed-up (NaN where undefined) and winner of every twin, from scores (..., variant, cell)."""
    moe, dense = score[..., :1, :], score[..., 1:, :]
    with np.errstate(invalid="ignore"):
        gain = np.where(np.isfinite(moe) & np.isfinite(dense), dense / moe, np.nan)
        names = np.where(dense > moe, "dense", "moe")
    return gain, np.where(np.isfinite(moe) | np.isfinite(dense), names, "neither")


def _one_at_a_time(stated: Cells) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Labels (dimension, value) and scores (scenario, variant, context), the reference first."""
    labels = [(BASELINE, BASELINE)]
    scenarios: list[Change] = [{}]
    for dimension, values in HARDWARE.items():
        labels += [(dimension, value) for value in values]
        scenarios += values.values()
    rows = concatenated(*(_changed(stated.inputs, change) for change in scenarios))
    score = _score(stated, np.ones(stated.count, bool), rows)
    scores = [score.reshape(len(scenarios), -1)]
    for dimension, choices in SPLITS.items():
        for value, degrees in choices.items():
            # A twin has one expert: what the degree asks of the mixture is 1 for it.
            of_twins = {**degrees, "ep": 1.0} if "ep" in degrees else degrees
            keeps = [_subset(stated.designs, own) for own in (degrees, of_twins)]
            if not all(keep.any() for keep in keeps):
                continue
            moe, twins = (_score(stated, keep) for keep in keeps)
            labels.append((dimension, value))
            scores.append(np.where(np.asarray(stated.inputs.q) > 0, twins, moe)[None])
    return labels, np.concatenate(scores).reshape(len(labels), stated.shape[0], -1)


def _factorial(stated: Cells, winners: np.ndarray) -> list[dict[str, Any]]:
    """Every combination of the hardware dimensions, reference values included, per twin cell."""
    combinations = list(product(*[[BASELINE, *values] for values in HARDWARE.values()]))
    parts = []
    for combination in combinations:
        change: dict[str, Any] = {}
        for dimension, value in zip(HARDWARE, combination, strict=True):
            change |= HARDWARE[dimension].get(value, {})
        parts.append(_changed(stated.inputs, change))
    score = _score(stated, np.ones(stated.count, bool), concatenated(*parts))
    _, names = _verdicts(score.reshape(len(combinations), stated.shape[0], -1))
    table = np.array(combinations)
    rows = []
    for twin, cell in np.ndindex(names.shape[1:]):
        own, usual = names[:, twin, cell], winners[twin, cell]
        valid = (own != "neither") & (usual != "neither")
        flips = valid & (own != usual)
        by: dict[str, float] = {}
        for k, (dimension, values) in enumerate(HARDWARE.items()):
            usually = flips[table[:, k] == BASELINE].mean()
            more = {value: float(flips[table[:, k] == value].mean() - usually) for value in values}
            by |= {f"{dimension} {value}": share for value, share in more.items() if share > 0}
        rows.append(
            {
                "q": stated.variants[twin + 1].q,
                "context": float(stated.axes[2].values[cell]),
                "reference_winner": str(usual),
                "combinations": int((own != "neither").sum()),
                "dense_share": float((own == "dense").sum() / max(1, (own != "neither").sum())),
                "flipped_by": by,
            }
        )
    return rows


@in_float64
def study(problem: Problem, conventions: Sequence[str] = tuple(CONVENTIONS)) -> Study:
    """Vary every dimension of the paper's Table 2, one at a time and in all combinations.

    Args:
        problem: mixtures of experts (the paper's are Grok-1, Qwen3-235B, DeepSeek-V3 and
            Switch-C), one reference accelerator and GPU count (GPUS), contexts and twins (QS).
        conventions: names of the accountings.

    Raises:
        ValueError: a model without experts, no twins, several accelerators or GPU counts.
    """
    stated = problem.stated
    wrong = []
    if dense := ", ".join(stated.dense):
        wrong.append(f"{dense}: no experts, so there is no twin to compare with")
    if not stated.twins:
        wrong.append("twins: none; give quality factors, such as twins=[2, 3, 5, 8]")
    for name, given in (("gpus", stated.gpus), ("hardware", stated.accelerators)):
        if len(given) > 1:
            wrong.append(f"{name}: {len(given)} values; give one value")
    if problem.engine:
        wrong.append("engine: the paper's Table 2 varies an accelerator without kernels; drop it")
    if stated.kept:
        wrong.append(f"axes: {', '.join(stated.kept)} is varied already or cannot be; leave it out")
    if unknown := [str(name) for name in conventions if name not in tuple(CONVENTIONS)]:
        wrong.append(
            f"conventions: {', '.join(unknown)} not known; give {' or '.join(CONVENTIONS)}"
        )
    if wrong:
        raise ValueError("\n".join(wrong))
    cases, factorial = list[Row](), list[Row]()
    for convention, (m, own) in product(conventions, enumerate(stated.models)):
        cells = cells_of(problem, m, 0, CONVENTIONS[convention])
        head = {"convention": convention, "model": own.name}
        found, combined = _study_of(cells)
        cases += [head | row for row in found]
        factorial += [head | row for row in combined]
    return Study(problem, cases, factorial)


def _study_of(cells: Cells) -> tuple[list[Row], list[Row]]:
    labels, score = _one_at_a_time(cells)
    gain, winner = _verdicts(score)
    rows = []
    for at in np.ndindex(gain.shape):
        scenario, twin, cell = at
        dimension, value = labels[scenario]
        rows.append(
            {
                "dimension": dimension,
                "value": value,
                "q": cells.variants[twin + 1].q,
                "context": float(cells.axes[2].values[cell]),
                "speedup": float(gain[at]) if np.isfinite(gain[at]) else None,
                "winner": str(winner[at]),
                "reference_winner": str(winner[0, twin, cell]),
                "flips": {str(winner[at]), str(winner[0, twin, cell])} == {"dense", "moe"},
            }
        )
    return rows, _factorial(cells, winner[0])


def _summary(cases: list[Row]) -> list[Row]:
    qs = list(dict.fromkeys(row["q"] for row in cases))
    shown = REFERENCE_Q if REFERENCE_Q in qs else next(iter(qs), REFERENCE_Q)
    groups = grouped(cases, itemgetter("convention", "dimension", "value"))
    varied = [(name, value) for name, values in HARDWARE.items() for value in values]
    varied += [(name, value) for name, values in SPLITS.items() for value in values]
    order = [(name, *at) for name in CONVENTIONS for at in [(BASELINE, BASELINE), *varied]]
    found = []
    for convention, dimension, value in sorted(groups, key=order.index):
        rows = groups[convention, dimension, value]
        told = (row for row in rows if row["flips"] and row["q"] == shown)
        by_model = grouped(told, itemgetter("model")).items()
        found.append(
            {
                "convention": convention,
                "dimension": dimension,
                "value": value,
                "cells": sum(row["winner"] != "neither" for row in rows),
                "dense_wins": sum(row["winner"] == "dense" for row in rows),
                "flips": sum(row["flips"] for row in rows),
                "to_dense": sum(row["flips"] and row["winner"] == "dense" for row in rows),
                "q": shown,
                "where": {model: [row["context"] for row in own] for model, own in by_model},
            }
        )
    return found
