"""MoE against its dense twin at equal interactivity: who wins, by how much, and how surely.

The paper compares both at their largest batch, where their users wait differently long. Here both
hold the same limit on TPOT, each with the split and batch that are then best for it. The quality
factor q is known badly, so the comparison is made at several q and integrated over a distribution.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from qsjax.grid.cells import cells_of
from qsjax.grid.distributions import Distribution, check, frozen, lognormal
from qsjax.grid.fronts import Front, front_of_cell
from qsjax.grid.intervals import SURE, is_sure, lead_at_rate
from qsjax.grid.limits import given_limits
from qsjax.grid.optimum import any_batch
from qsjax.grid.problem import Problem, describe, fixed_question, pairs_of
from qsjax.output import words
from qsjax.output.result import Drawing, Result, Row, Table
from qsjax.records.checks import check_positive, value_problem
from qsjax.records.fields import Rule
from qsjax.records.specs import CONVENTIONS, Convention, is_papers
from qsjax.records.units import MS

TPOTS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
# The two multipliers of section 3.4, 3.67 and 5.31, lie about one deviation from the 5 used.
Q = lognormal(5.0, 0.25)
NODES = 9  # quality factors at which the twins are searched
# Probability at each end of the distribution that lies beyond the nodes.
TAIL = 0.005
SIDES = ("moe", "dense", "neither")
USUAL = next(iter(CONVENTIONS))  # the default accounting, which titles leave out
MOST_LOG = 50.0  # log ratio that stands for a side that cannot serve at all


def chance(log_q: np.ndarray, gain: np.ndarray, given: Distribution) -> float:
    """Probability that the gain is above 0 if q is distributed as given [1].

    Args:
        log_q: logarithms of the nodes, rising.
        gain: logarithm of the twin's throughput over the MoE's at each, by straight lines between;
            infinite where only one of both serves, -infinite where none does; constant beyond.
        given: distribution of q.

    >>> flat = np.log(np.array([2.0, 8.0]))
    >>> round(chance(flat, np.array([1.0, -1.0]), lognormal(4.0, 0.3)), 6)
    0.5
    """
    law, gain = frozen("q", given), np.clip(gain, -MOST_LOG, MOST_LOG)
    ends = [0.0, *law.cdf(np.exp(log_q[1:-1])), 1.0]
    total = 0.0
    for k in range(len(log_q) - 1):
        a, b = gain[k], gain[k + 1]
        if a > 0 and b > 0:
            total += ends[k + 1] - ends[k]
        elif (a > 0) != (b > 0):
            middle = float(law.cdf(np.exp(_crossing(log_q[k], log_q[k + 1], a, b))))
            total += middle - ends[k] if a > 0 else ends[k + 1] - middle
    return float(np.clip(total, 0.0, 1.0))


def _crossing(left: float, right: float, a: float, b: float) -> float:
    """Where a straight line from a to b is 0; the middle where one of both cannot serve at all."""
    if max(abs(a), abs(b)) >= MOST_LOG:
        return 0.5 * (left + right)
    return float(left + (right - left) * a / (a - b))


def break_even(log_q: np.ndarray, gain: np.ndarray) -> float:
    """The largest q among the nodes up to which the twin wins [1]; 0 or infinite beyond them."""
    wins = np.flatnonzero(gain > 0)
    if not len(wins):
        return 0.0
    last = int(wins[-1])
    if last == len(gain) - 1:
        return np.inf
    ends = np.clip(gain[last : last + 2], -MOST_LOG, MOST_LOG)
    return float(np.exp(_crossing(*log_q[last : last + 2], *ends)))


def speedup_at(log_q: np.ndarray, gain: np.ndarray, at: float) -> float:
    """The twin's throughput over the MoE's at a q [1]: 0 or infinite where only one serves."""
    right = int(np.clip(np.searchsorted(log_q, at), 1, len(log_q) - 1))
    ends = gain[right - 1 : right + 1]
    share = (at - log_q[right - 1]) / (log_q[right] - log_q[right - 1])
    if not np.isfinite(ends).all():
        return float(np.exp(ends[int(share > 0.5)]))
    return float(np.exp(ends[0] + np.clip(share, 0.0, 1.0) * (ends[1] - ends[0])))


@dataclasses.dataclass(frozen=True, slots=True)
class Contest:
    """MoE and twins of one model on one accelerator under one convention.

    Attributes:
        convention: its name.
        is_papers: whether it is the paper's, whose error nobody can measure.
        labels: coordinates of the cells, one for each GPU count, context and further axis.
        log_q: logarithms of the twins' quality factors, rising.
        moe: front of the MoE of every cell.
        twins: fronts of the twins (node, cell).
    """

    convention: str
    is_papers: bool
    labels: tuple[Row, ...]
    log_q: np.ndarray
    moe: tuple[Front, ...]
    twins: tuple[tuple[Front, ...], ...]


def _rates(front: Front, tpots: Sequence[float]) -> np.ndarray:
    """Most tokens/s/GPU within each limit; 0 where nothing keeps it."""
    at = [front.within(tpot) for tpot in tpots]
    return np.array([0.0 if k is None else front.gpu[k] for k in at])


def _contest(
    problem: Problem, nodes: np.ndarray, model: int, hardware: int, rules: Convention, name: str
) -> Contest:
    free, asked = any_batch(dataclasses.replace(problem, twins=nodes.tolist()))
    cells = cells_of(free, model, hardware, rules)
    fronts = [front_of_cell(cells, cell, asked) for cell in range(cells.cells)]
    per = cells.per_variant
    lines = [tuple(fronts[k : k + per]) for k in range(0, len(fronts), per)]
    drop = ("variant", "q")
    labels = [{k: v for k, v in front.label.items() if k not in drop} for front in lines[0]]
    head = (name, is_papers(rules), tuple(labels), np.log(nodes))
    return Contest(*head, lines[0], tuple(lines[1:]))


def _gains(contest: Contest, cell: int, tpots: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rates of the MoE (limit) and log ratios of the twins over it (node, limit)."""
    moe = _rates(contest.moe[cell], tpots)
    twins = np.stack([_rates(line[cell], tpots) for line in contest.twins])
    with np.errstate(divide="ignore", invalid="ignore"):
        return moe, np.where(twins > 0, np.log(twins) - np.log(moe), -np.inf)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class MoeOrDense(Result):
    """Who wins at equal interactivity, by how much, and with which probability.

    Attributes:
        problem: what was asked.
        tpots: limits on TPOT [s]; the last is infinite: the largest batch, as in the paper.
        q: distribution of the quality factor.
        contests: one for each convention (outer: the problem's own first), model and accelerator;
            the paper's convention is there only with `convention="both"`.
    """

    problem: Problem
    tpots: tuple[float, ...]
    q: Distribution
    contests: tuple[Contest, ...]

    stem = "moe-or-dense"
    index = ("convention", "model", "hardware", "gpus", "context", "tpot_limit")

    def rows(self) -> list[Row]:
        """One row for each convention, cell and limit; rates are 0 where nothing keeps it.

        `speedup_over_moe` is the twin's at the median q, `speedup_low` and `speedup_high` those at
        the quantiles 0.95 and 0.05 of q. `p_dense_wins` and `p_moe_wins` are probabilities of q
        alone, `chance_over_moe` is that of the time model's error at the median q.
        """
        return [row for _, rows in self.by_system() for row in rows]

    def _rows_of(self, contest: Contest, cell: int, label: Row) -> list[Row]:
        moe, gains = _gains(contest, cell, self.tpots)
        levels = np.log(frozen("q", self.q).ppf([0.5, 0.95, 0.05]))
        return [
            {"convention": contest.convention, **label, "tpot_limit": tpot}
            | self._verdict(contest, cell, tpot, moe=float(moe[k]), gain=gains[:, k], levels=levels)
            for k, tpot in enumerate(self.tpots)
        ]

    def _verdict(
        self,
        contest: Contest,
        cell: int,
        tpot: float,
        *,
        moe: float,
        gain: np.ndarray,
        levels: np.ndarray,
    ) -> Row:
        if moe == 0.0 and not (gain > -np.inf).any():
            nobody = {"p_dense_wins": 0.0, "p_moe_wins": 0.0}
            return {"winner": "neither", "is_feasible": False} | nobody
        p_dense = chance(contest.log_q, gain, self.q)
        row: Row = {
            "is_feasible": True,
            "tokens_per_s_per_gpu_moe": moe,
            "p_dense_wins": p_dense,
            "p_moe_wins": 1.0 - p_dense if moe > 0.0 else 0.0,
            "break_even_q": break_even(contest.log_q, gain),
        }
        row["winner"] = max(SIDES, key=lambda side: _odds(row, side))
        if moe > 0.0:
            names = ("speedup_over_moe", "speedup_low", "speedup_high")
            speeds = (speedup_at(contest.log_q, gain, level) for level in levels)
            row |= dict(zip(names, speeds, strict=True))
        half = len(contest.twins) // 2  # the median
        fronts = {"moe": contest.moe[cell], "dense": contest.twins[half][cell]}
        for name, front in fronts.items():
            place = front.within(tpot)
            if place is not None:
                row[name] = front.rows()[place]
        lead = None if contest.is_papers else lead_at_rate(fronts["dense"], fronts["moe"], tpot)
        return row | ({} if lead is None else {"chance_over_moe": lead.chance})

    def by_system(self) -> list[tuple[Row, list[Row]]]:
        """The rows of each convention, model, accelerator and further coordinate, with those."""
        systems: dict[tuple[Any, ...], tuple[Row, list[Row]]] = {}
        for contest in self.contests:
            for cell, label in enumerate(contest.labels):
                head = {"convention": contest.convention}
                head |= {k: v for k, v in label.items() if k != "context"}
                rows = systems.setdefault(tuple(head.values()), (head, []))[1]
                rows += self._rows_of(contest, cell, label)
        return list(systems.values())

    def findings(self) -> list[str]:
        """Who wins where, a sentence for each convention, model and accelerator."""
        return [f"{self._where(head)}: {_finding(rows)}." for head, rows in self.by_system()]

    def _where(self, head: Row) -> str:
        named = ("model", "hardware", "gpus", "convention")
        more = "".join(f", {k} {v:g}" for k, v in head.items() if k not in named)
        where = f"{head['model']} on {head['gpus']:g} {head['hardware']}{more}"
        is_plain = not self.problem.stated.second and head["convention"] == USUAL
        return where if is_plain else f"{where}, {head['convention']} accounting"

    def summary(self) -> str:
        """Who wins where, under each accounting that was asked for."""
        return "\n".join(self.findings())

    def tables(self) -> list[Table]:
        """A map of each system and accounting: winner, lead, probability by limit and context."""
        tables = []
        for head, rows in self.by_system():
            contexts = sorted({row["context"] for row in rows})
            at = {(row["tpot_limit"], row["context"]): _verdict_words(row) for row in rows}
            lines = [
                [f"{t / MS:g}" if np.isfinite(t) else "any", *(at[t, c] for c in contexts)]
                for t in self.tpots
            ]
            heads = ["TPOT ms", *map(words.length, contexts)]
            title = f"{self._where(head)}: winner within each TPOT, its lead and how sure that is"
            tables.append(Table(title, heads, lines))
        return tables

    def remarks(self) -> list[str]:
        """What was asked, and what the lead and its probability are."""
        q = ", ".join(f"{x:g}" for x in self.q.numbers)
        lead = f"Leads are in tokens/s/GPU at the median of q, which is {self.q.kind} ({q})."
        sure = (
            f"A side is said to win where its probability is at least {100 * SURE:.0f} %; that is "
            "the probability of q alone. A lead marked * is within the error of the time model."
        )
        return [f"{lead} {sure}", f"{describe(self.problem)}."]

    def inputs(self) -> Row:
        """Records, limits and the distribution of q."""
        return Result.inputs(self) | {
            "tpots": [t for t in self.tpots if np.isfinite(t)],
            "q": [self.q.kind, *self.q.numbers],
        }

    def drawings(self) -> dict[str, Drawing]:
        """Maps over context and limit: the speed-up and its probability, by convention."""
        from qsjax import plotting

        drawings: dict[str, Drawing] = {}
        for head, rows in self.by_system():
            if any(row["is_feasible"] for row in rows):
                name = head["convention"]
                copies = sum(key.startswith(name) for key in drawings)
                verdict = "; ".join(_verdicts(rows)) or _finding(rows)
                title = f"{self._where(head)}: {verdict}"
                key = f"{name}-{copies + 1}" if copies else name
                drawings[key] = partial(plotting.contest_map, rows, title=title)
        return drawings


def _verdict_words(row: Row) -> str:
    """The winner of a cell, its lead and its probability; `equal` where nobody leads."""
    winner, speed = row["winner"], row.get("speedup_over_moe")
    if winner == "neither":
        return "neither serves"
    odds = 100.0 * _odds(row, winner)
    sure = f"({'>99' if odds > 99 else f'{odds:.0f}'} %)"
    if not speed:
        return f"{winner} alone {sure}"
    if abs(speed - 1.0) < words.EQUAL:
        return "equal"
    mark = "*" if _is_open(row) else ""
    return f"{winner} x{speed if winner == 'dense' else 1.0 / speed:.3g}{mark} {sure}"


def _is_open(row: Row) -> bool:
    """Whether a lead at the median q is within the error of the time model."""
    return "chance_over_moe" in row and not is_sure(row["chance_over_moe"])


def _odds(row: Row, side: str) -> float:
    """Probability that a side wins; `neither` that none serves."""
    if side == "neither":
        return float(1.0 - row["p_dense_wins"] - row["p_moe_wins"])
    return float(row[f"p_{side}_wins"])


def _finding(rows: Sequence[Row]) -> str:
    """Where each side wins almost surely, and how many cells are left to q."""
    runs = [row for row in rows if row["is_feasible"]]
    if not runs:
        return "neither serves within any limit"
    clauses = _verdicts(rows)
    unsure = sum(max(_odds(row, side) for side in SIDES) < SURE for row in runs)
    if not clauses:
        return "which of them wins depends on q in every case"
    if unsure:
        verb = "depends" if unsure == 1 else "depend"
        clauses.append(f"{unsure} of {words.count(len(runs), 'case')} {verb} on q")
    if within := sum(map(_is_open, runs)):
        verb = "is" if within == 1 else "are"
        leads = words.count(len(runs), "lead")
        clauses.append(f"{within} of {leads} {verb} within the error of the time model")
    return "; ".join(clauses)


def _verdicts(rows: Sequence[Row]) -> list[str]:
    """Where each side that ever does wins almost surely."""
    sides = (("the dense twin", "dense"), ("the MoE", "moe"))
    return [f"{name} wins {where}" for name, side in sides if (where := _wins(rows, side))]


def _wins(rows: Sequence[Row], side: str) -> str:
    """Where a side wins almost surely: limits of one pattern together, tightest first."""
    contexts = sorted({row["context"] for row in rows})
    patterns = []
    for tpot in sorted({row["tpot_limit"] for row in rows}):
        part = sorted((r for r in rows if r["tpot_limit"] == tpot), key=lambda r: r["context"])
        is_won = [row["is_feasible"] and _odds(row, side) >= SURE for row in part]
        patterns.append((tpot, _where(contexts, is_won)))
    runs = [(where, list(run)) for where, run in groupby(patterns, lambda pair: pair[1])]
    return ", ".join(f"{where} {_limits([t for t, _ in run])}" for where, run in runs if where)


def _where(contexts: Sequence[float], wins: Sequence[bool]) -> str:
    """Contexts at which a side wins, in words; nothing where it never does."""
    if not any(wins):
        return ""
    if all(wins) and len(wins) > 1:
        return "at every context"
    first, last = wins.index(True), len(wins) - 1 - list(wins)[::-1].index(True)
    if all(wins[first : last + 1]) and first < last:
        if last == len(wins) - 1:
            return f"from {words.length(contexts[first])} on"
        if first == 0:
            return f"up to {words.length(contexts[last])}"
    return "at " + words.joined(
        words.length(c) for c, won in zip(contexts, wins, strict=True) if won
    )


def _limits(tpots: Sequence[float]) -> str:
    """Limits in words."""
    if len(tpots) == 1 and np.isinf(tpots[0]):
        return "at the largest batch"
    if np.isinf(tpots[-1]):
        return f"at {tpots[0] / MS:g} ms or more"
    return f"within {' to '.join(f'{t / MS:g}' for t in dict.fromkeys((tpots[0], tpots[-1])))} ms"


def _checked(problem: Problem, tpots: Sequence[float], q: Distribution, nodes: int) -> None:
    """Raise one `ValueError` with everything that is wrong with the arguments."""
    wrong = []
    try:
        check({"q": q})
    except ValueError as error:
        wrong.append(str(error))
    try:
        check_positive("tpots", tpots, "s")
    except ValueError as error:
        wrong.append(str(error))
    if strange := value_problem(Rule(low=3.0, whole=True), nodes):
        wrong.append(f"nodes: {strange}")
    if problem.stated.twins:
        wrong.append("twins: the distribution of q replaces them; leave twins out of the problem")
    for name in ("max_tpot", "min_user_rate"):
        if name in given_limits(problem.limits):
            wrong.append(f"limits.{name}: limits on TPOT are given as tpots; leave it out")
    if dense := ", ".join(problem.stated.dense):
        wrong.append(f"{dense}: dense already; give models with experts")
    if wrong:
        raise ValueError("\n".join(wrong))


@fixed_question("compares tokens/s/GPU within each TPOT")
def moe_or_dense(
    problem: Problem, tpots: Sequence[float] = TPOTS, q: Distribution = Q, nodes: int = NODES
) -> MoeOrDense:
    """MoE against its dense twin over context and limit on TPOT.

    In every cell both have the split and the batch that are best within the limit. The twin is
    searched at `nodes` quality factors between the 0.5 and 99.5 % quantiles of q; between them the
    logarithm of the speed-up is a straight line in log q, and the probability that the twin wins is
    the probability of the q at which it is above 0. A last limit allows any TPOT.

    Args:
        problem: what is asked, without twins and without a limit on TPOT. Its other limits hold.
        tpots: longest times per output token [s].
        q: distribution of the quality factor; log-normal with median 5 unless given.
        nodes: quality factors at which the twin is searched.

    Raises:
        ValueError: with everything that is wrong: a dense model, twins or limits on TPOT in the
            problem, times that are not above 0, a distribution that leaves the range of q.

    >>> from qsjax.grid.problem import Problem
    >>> found = moe_or_dense(Problem("mixtral-8x7b", "h100-sxm", gpus=2, context="32k"), [0.05])
    >>> [row["winner"] for row in found.rows()][:2]
    ['moe', 'moe']
    """
    _checked(problem, tpots, q, nodes)
    limits = (*sorted({float(t) for t in check_positive("tpots", tpots, "s")}), np.inf)
    ends = np.log(frozen("q", q).ppf([TAIL, 0.5, 1.0 - TAIL]))
    half = (int(nodes) + 1) // 2
    below = np.linspace(ends[0], ends[1], half)
    above = np.linspace(ends[1], ends[2], int(nodes) - half + 1)[1:]
    nodes_of_q = np.exp(np.concatenate([below, above]))
    contests = [
        _contest(problem, nodes_of_q, m, h, rules, name)
        for name, rules in problem.stated.accountings.items()
        for m, h in pairs_of(problem)
    ]
    return MoeOrDense(problem, limits, q, tuple(contests))
