"""The exact front of tokens/s/GPU against tokens/s/user, with the design behind every point."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qsjax.engines.spread import LEVEL
from qsjax.grid.cells import cells_of
from qsjax.grid.fronts import Front, front_of_cell
from qsjax.grid.infeasibility import Refusal, Remedies, refusals, remedies
from qsjax.grid.intervals import bounded_rows, lead_at_rate
from qsjax.grid.optimum import any_batch
from qsjax.grid.problem import Problem, fixed_question, pairs_of
from qsjax.grid.solution import DESIGN_COLUMNS
from qsjax.output import columns, words
from qsjax.output.labels import series_name
from qsjax.output.result import CELL, Drawing, Result, Row, Table, text
from qsjax.records.rows import grouped
from qsjax.records.specs import is_papers

# What users may want, for the sentence on who leads [tokens/s].
USER_RATES = (20.0, 50.0, 100.0)
POINTS = 12  # of each front in the table
DESIGN = ("split", "batch", "users", "tpot", "between", "user", "gpu")  # its columns in the table
SIDES = ("leader", "rival")
Key = tuple[Any, ...]  # label, context and GPUs of a front


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
    index = ("label", "gpus", "context", "point")
    framed = ("label", "point", *CELL, *DESIGN_COLUMNS)

    def rows(self) -> list[Row]:
        """One row for each point of each front, with the name of its line and its interval."""
        points = [
            {"point": point, **row}
            for front in self.fronts
            for point, row in enumerate(bounded_rows(front))
        ]
        axes = ("gpus", "context")
        return [{"label": series_name(self.problem, row, *axes), **row} for row in points]

    def counts(self) -> Row:
        """Designs decided and evaluated, and what the batches left out lose at most."""
        return {
            "convention": self.problem.stated.convention,
            "designs_decided": sum(front.decided for front in self.fronts),
            "designs_evaluated": sum(front.evaluated for front in self.fronts),
            "largest_loss_between_batches": max(front.spacing for front in self.fronts),
        }

    def summary(self) -> str:
        """Both ends of the model's best front, who leads at speed, and what is refused."""
        rows = self.rows()
        if not rows:
            return _refusal(self.refused[0]) if self.refused else "Nothing runs."
        fronts = self._by_front(rows)
        full = self._best()[-1]
        split = words.split(full, full["variant"] == "moe")
        sentences = [f"{self._reach()[:-1]} with {split} and {words.batch_of(full)}."]
        if len(fronts) > 1:
            sentences.append(_leaders(self.leads(), fronts))
        sentences += [_refusal(item) for item in self.refused[:1]]
        return "\n".join(filter(None, sentences))

    def _best(self) -> list[Row]:
        """The front that reaches the most throughput, from the fastest design to the fullest.

        Those of dense twins only where no model itself runs.
        """
        fronts = list(self._by_front(self.rows()).values())
        models = [front for front in fronts if front[0]["q"] is None]
        return max(models or fronts, key=lambda front: front[-1]["tokens_per_s_per_gpu"])

    def _reach(self) -> str:
        """From where to where the best front goes."""
        best = self._best()
        fast, full = best[0], best[-1]
        if len(best) == 1:
            return (
                f"{words.cell(full)} makes {words.number(full['tokens_per_s_per_user'])} tokens/s "
                f"for each user and {words.number(full['tokens_per_s_per_gpu'])} on each GPU."
            )
        return (
            f"{words.cell(fast)} reaches from "
            f"{words.number(fast['tokens_per_s_per_user'])} tokens/s for each user (at "
            f"{words.number(fast['tokens_per_s_per_gpu'])} on each GPU) to "
            f"{words.number(full['tokens_per_s_per_gpu'])} tokens/s on each GPU (at "
            f"{words.number(full['tokens_per_s_per_user'])} for each user)."
        )

    def _by_front(self, rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
        return grouped(rows, lambda row: (row["label"], row["context"], row["gpus"]))

    def leads(self, rates: Sequence[float] = USER_RATES) -> list[Row]:
        """Which front makes the most tokens/s/GPU at rates that users may want, and how surely.

        Batches take up what the time model errs, so that near the fastest designs an error of 1 %
        is far more in throughput. Under the paper's accounting nothing is known of the error.
        """
        keys = self._by_front(self.rows())
        fronts = dict(zip(keys, (front for front in self.fronts if len(front.user)), strict=True))
        # Below the slowest design of all fronts nothing changes: one such rate says it.
        slowest = min((front.user[-1] for front in fronts.values()), default=0.0)
        idle = [rate for rate in rates if rate <= slowest]
        wanted = [*idle[-1:], *(rate for rate in rates if rate > slowest)]
        is_real = not is_papers(self.problem.stated.rules)
        leads = (_lead_at(rate, fronts, is_real=is_real) for rate in wanted)
        return [lead for lead in leads if lead]

    def tables(self) -> list[Table]:
        """Every front, thinned to POINTS with its ends kept."""
        rows, shown = self.rows(), list[Row]()
        for part in self._by_front(rows).values():
            at = np.unique(np.linspace(0, len(part) - 1, POINTS).round().astype(int))
            shown += [part[i] for i in at]
        heads = ["series", "context", "GPUs", *columns.heads(*DESIGN), "USD/Mtok", "J/tok"]
        title = "Designs that no other beats in both tokens/s/user and tokens/s/GPU"
        return [Table(title, heads, [_point(row) for row in shown], 4)]

    def remarks(self) -> list[str]:
        """How many designs there are, and what is in the way of cells without one."""
        counts = self.counts()
        lost = counts["largest_loss_between_batches"]
        between = f" Between the batches tried at most {100 * lost:.1f} % of tokens/s/GPU is lost."
        lines = [
            f"{counts['designs_decided']:,} designs decided, {counts['designs_evaluated']:,} of "
            f"them evaluated.{between if lost else ''}",
            *words.rests_on(self.rows(), LEVEL),
        ]
        for k, item in enumerate(self.refused):
            # The summary has the first, and each sentence the first reason.
            lines += [_refusal(item)] if k else []
            lines += [f"  - {refusal.text}" for refusal in item.why[1:]]
        return lines

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
        leads = [
            lead | {side: _named(lead[side], self._by_front(self.rows())) for side in SIDES}
            for lead in self.leads()
        ]
        return {**self.counts(), "leads": leads, "front": self.rows(), "refused": refused}

    def drawings(self) -> dict[str, Drawing]:
        """The fronts of all cells in one picture."""
        from qsjax import plotting

        rows = self.rows()
        if not rows:
            return {}
        fronts = self._by_front(rows)
        title = self._reach().rstrip(".")
        if len(fronts) > 1 and (leaders := _leaders(self.leads(USER_RATES[1:2]), fronts)):
            title = leaders.rstrip(".")
            if setting := words.heading(self.problem):
                title = f"{setting}: {title[0].lower()}{title[1:]}"
        return {"pareto": partial(plotting.pareto_front, rows, title=title)}


def _point(row: Row) -> list[str]:
    return [
        row["label"],
        words.length(row["context"]),
        f"{row['gpus']:g}",
        *columns.cells(row, *DESIGN),
        text(row.get("usd_per_million_tokens")),
        text(row.get("joules_per_token")),
    ]


def _lead_at(wanted: float, fronts: Mapping[Key, Front], *, is_real: bool) -> Row:
    """Which front has the most tokens/s/GPU at a rate of each user, and the next; {} if none.

    How sure that is is told if the accounting `is_real`.
    """
    places = {key: front.within(1.0 / wanted) for key, front in fronts.items()}
    made = {key: float(fronts[key].gpu[at]) for key, at in places.items() if at is not None}
    order = sorted(made, key=lambda key: -made[key])
    if not order:
        return {}
    lead: Row = {"tokens_per_s_per_user": wanted, "leader": order[0], "rival": None}
    if len(order) == 1:
        fastest = [bounded_rows(fronts[key])[0] for key in fronts if key != order[0]]
        nearly = is_real and any(row["tpot_low"] * wanted <= 1.0 for row in fastest)
        return lead | {"is_sure": not nearly}
    lead |= {"rival": order[1], "factor": made[order[0]] / made[order[1]], "is_sure": True}
    sure = lead_at_rate(fronts[order[0]], fronts[order[1]], 1.0 / wanted) if is_real else None
    if sure is not None:
        lead |= {"chance": sure.chance, "margin": sure.margin, "is_sure": sure.is_sure}
    return lead


def _leaders(leads: Sequence[Row], fronts: Mapping[Key, Any]) -> str:
    """Which front has the most tokens/s/GPU at the rates that each user may want."""
    clauses: list[str] = []
    last = None  # the leader and the next, named once for as long as they stay
    for lead in leads:
        names = [_named(lead[side], fronts) for side in SIDES if lead[side]]
        wanted = lead["tokens_per_s_per_user"]
        text = f"at {wanted:g} tokens/s for each user {names[0]}"
        if len(names) == 1:
            text += " alone is left"
        elif names == last:
            text = f"{words.gap(lead['factor'], 'more', 'less')} at {wanted:g}"
        else:
            text += f" makes {words.against(lead['factor'], names[1])} on each GPU"
        clauses.append(text + ("" if lead["is_sure"] else " (within the error)"))
        last = names
    line = ", ".join(clauses)
    return f"{line[0].upper()}{line[1:]}." if line else ""


def _named(key: Key | None, fronts: Mapping[Key, Any]) -> str:
    if key is None:
        return ""
    label, context, gpus = key
    name = _series(str(label))
    if len({one[1] for one in fronts}) > 1:
        name += f" at {words.length(context)}"
    return name + (f" on {words.count(gpus, 'GPU')}" if len({one[2] for one in fronts}) > 1 else "")


def _series(label: str) -> str:
    """What a series is called in a sentence.

    >>> _series("dense q=5"), _series("kimi-k2, b200-sxm, MoE"), _series("h200-sxm, dense q=5")
    ('the dense twin (q = 5)', 'kimi-k2 on b200-sxm', 'h200-sxm (dense twin, q = 5)')
    >>> _series("kimi-k2, b200-sxm, MoE, 8 GPUs, hbm_bw 4 TB/s"), _series("dense, hbm_bw 4 TB/s")
    ('kimi-k2 on b200-sxm, hbm_bw 4 TB/s', 'the dense model, hbm_bw 4 TB/s')
    """
    parts = label.split(", ")
    names = [part for part in parts if " " not in part and part not in ("MoE", "dense")]
    # Counts and contexts are named beside it, where there are several.
    elsewhere = ("dense q=", " GPU", " tokens")
    others = [part for part in parts if " " in part and not any(end in part for end in elsewhere)]
    twin = next((part[8:] for part in parts if part.startswith("dense q=")), None)
    if not names:
        alone = "the dense model" if "dense" in parts else "the MoE"
        who = alone if twin is None else f"the dense twin (q = {twin})"
    else:
        who = " on ".join(names) + ("" if twin is None else f" (dense twin, q = {twin})")
    return ", ".join([who, *others])


def _refusal(item: Refused) -> str:
    """A cell without a design in a sentence: what is in the way, and what would help."""
    remedy = item.would_help
    changes = (
        (remedy.context, f"a context of {remedy.context:,.0f} tokens"),
        (remedy.gpus, words.count(remedy.gpus, "GPU")),
        (remedy.speed, f"an accelerator {remedy.speed:.2f} times as fast in everything"),
    )
    known = [text for value, text in changes if value == value]  # not NaN
    helps = f"it would be possible with {', or with '.join(known)}"
    if not known:
        helps = (
            "no shorter context, no number of GPUs and no faster accelerator that was tried makes "
            "it possible"
        )
    why = f" ({item.why[0].text})" if item.why else ""
    return f"Nothing for {words.cell(item.label)}{why}: {helps}."


@fixed_question("shows all that is best in tokens/s/GPU or tokens/s/user")
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
    for m, h in pairs_of(problem):
        cells = cells_of(free, m, h)
        for cell in range(cells.cells):
            front = front_of_cell(cells, cell, asked, every_batch)
            fronts.append(front)
            if len(front.user) == 0:
                why = refusals(cells, cell, asked)
                refused.append(Refused(front.label, why, remedies(problem, m, h, cell)))
    return Pareto(problem, tuple(fronts), tuple(refused))
