"""The answer of a comparison: gaps, prices, where the lead changes, tables and figures."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from qsjax.cost.meanings import Meaning
from qsjax.cost.metrics import Economy, costs
from qsjax.cost.prefix import cached_of, requests_of
from qsjax.engines.spread import LEVEL, check_level
from qsjax.grid.case import alongside
from qsjax.grid.problem import Problem, economy_of, fixed_question, of_requests
from qsjax.grid.served import base_name
from qsjax.numerics.safe import scalar
from qsjax.output import columns, words
from qsjax.output.result import Drawing, Result, Row, Table, text
from qsjax.questions.compare.ranking import (
    Decision,
    Place,
    Ranking,
    Subject,
    ranking_of,
    subjects_of,
)

# From a part this many times the whole gap on, parts cancel out and no share explains the gap.
CANCELS = 2.0
# Longest name of a subject that is not folded in a table [characters].
LONG = 14


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Comparison(Result):
    """Subjects side by side.

    Attributes:
        problem: what was asked.
        subjects: by name.
        sides: under the problem's accounting, and under the second one if it was asked for.
        economies: price and power of each subject's accelerator.
        requests: input and output tokens of a request, if they were given.
        cached: tokens of its prompt whose cache is there already.
    """

    problem: Problem
    subjects: Mapping[str, Subject]
    sides: tuple[Ranking, ...]
    economies: tuple[Economy, ...]
    requests: tuple[float, float] | None
    cached: float

    stem = "compare"
    meanings = MappingProxyType(
        {
            "margin": Meaning("factor from which the difference would be larger than the error"),
            "factor": Meaning("throughput of each GPU over that of the first subject"),
        }
    )

    @property
    def index(self) -> tuple[str, ...]:  # type: ignore[override]  # depends on what was asked
        """Axes of the data set."""
        several = self.own.places[0].batch is not None
        return ("convention", "subject", "context", *(["batch"] if several else []))

    @property
    def own(self) -> Ranking:
        """Under the problem's accounting."""
        return self.sides[0]

    def rows(self) -> list[Row]:
        """One row for each subject at each place under each accounting, with its price."""
        return [row for side in self.sides for row in self.rows_of(side)]

    def rows_of(self, side: Ranking) -> list[Row]:
        """The rows under one accounting, place by place."""
        places, subjects = range(len(side.places)), range(len(self.subjects))
        return [side.row(i, k) | self._prices(side, i, k) for k in places for i in subjects]

    def _prices(self, side: Ranking, subject: int, place: int) -> Row:
        case, economy = side.cases[subject][place], self.economies[subject]
        if case is None:
            return {}
        row: Row = costs(case.rate, scalar(case.parts.step.busy), economy)
        if self.requests is not None:
            device = side.names[subject][0]
            prompts = alongside(case, self.requests, self.cached, self.problem.engine, device)
            row |= {f"prefill_{name}": x for name, x in dataclasses.asdict(prompts).items()}
            whole = costs(prompts.best_rate, prompts.best_busy, economy)["usd_per_million_tokens"]
            row["usd_per_million_tokens_with_prompts"] = whole
        return {name: x for name, x in row.items() if x is not None}

    def summary(self) -> str:
        """The gaps to the first subject, what tokens cost, and who leads where."""
        return _shortened("\n".join(filter(None, _answer(self))), self.own.short_names())

    def decisions(self) -> list[Decision]:
        """How sure the winners are; none under the paper's accounting.

        That leaves out what real machines lose, so measurements say nothing of how near it is.
        """
        return [d for side in self.sides if side.is_real for d in side.decisions()]

    def remarks(self) -> list[str]:
        """How sure the winners are, what the intervals rest on, and what is left out."""
        running, stated = (
            [row for row in rows if row["is_feasible"]]
            for rows in (self.rows(), self.rows_of(self.own))
        )
        sure = map(str, self.decisions())
        rests = words.rests_on(running, self.own.level)
        drafted = any(scalar(m.workload.tokens_per_step) > 1 for m in self.problem.stated.models)
        more = ["The time of drafting is left out; qsjax speculate counts it."] * drafted
        return [*sure, *words.open_limits(self.problem, stated), *rests, *more, *self.own.refusals]

    def tables(self) -> list[Table]:
        """Every subject at every place, and the parts of its time as in the paper's table 5."""
        tables = []
        for side in self.sides:
            end = f", {side.convention} convention" if len(self.sides) > 1 else ""
            end += f"; {words.count(self.problem.stated.gpus[0], 'GPU')}"
            tables.append(_main_table(self.rows_of(side), side.short_names(), end))
        if len(self.sides) > 1:
            tables += [_parts_table(self.rows_of(side), side.convention) for side in self.sides]
        return tables

    def turns(self) -> list[Row]:
        """Where the lead changes, under both accountings."""
        return [
            {"convention": side.convention, **turn._asdict()}
            for side in self.sides
            for turn in side.crossovers
        ]

    def record(self) -> Row:
        """Rows, where the lead changes, and how sure the winners are."""
        return {
            "level": self.own.level,
            "rows": self.rows(),
            "turns": self.turns(),
            "decisions": [decision._asdict() for decision in self.decisions()],
        }

    def inputs(self) -> Row:
        """The problem's records as plain numbers, and the subjects."""
        stated = self.problem.stated
        sides = [
            {
                "label": name,
                "model": stated.models[one.model].name,
                "hardware": stated.accelerators[one.hardware].name,
                "q": one.q,
            }
            for name, one in self.subjects.items()
        ]
        return Result.inputs(self) | {"subjects": sides}

    def drawings(self) -> dict[str, Drawing]:
        """GPU time by resource, how sure the leads are, and throughput over context."""
        from qsjax import plotting
        from qsjax.plotting.comparison import used_resources

        sides = [self.rows_of(side) for side in self.sides]
        named = used_resources(self.rows())
        contexts = {row["context"] for row in sides[0]}
        tall = 2.4 + 0.26 * (len(sides[0]) + len(contexts))

        def why(side: Ranking, ax: Any, title: str) -> None:
            plotting.gpu_time(self.rows_of(side), ax, resources=named, title=title)

        def throughput(side: Ranking, ax: Any, title: str) -> None:
            turns = [turn._asdict() for turn in side.crossovers]
            plotting.lead_over_context(self.rows_of(side), ax, turns=turns, title=title)

        drawings: dict[str, Drawing] = {"why": partial(self._panels, why, tall)}
        if (
            len(contexts) > 1
            and self.own.places[0].batch is None
            and all(any(row["is_feasible"] for row in side) for side in sides)
        ):
            drawings["throughput"] = partial(self._panels, throughput, 4.6)
        judged = [row for row in sides[0] if "chance" in row]
        if judged and self.own.is_real:
            first = self.own.subjects[0]
            drawings["sure"] = partial(plotting.sure_leads, judged, first=first, where=_where(self))
        return drawings

    def _panels(self, draw: Any, tall: float, ax: Any = None) -> Any:
        """The accountings beside each other; on `ax`, if it is given, the problem's own."""
        from qsjax import plotting

        sides = self.sides[:1] if ax is not None else self.sides
        size = (6.4 * len(sides), tall)
        axes = [ax] if ax is not None else plotting.figure(1, len(sides), size=size)[1][0]
        for panel, side in zip(axes, sides, strict=True):
            says = " ".join(_leads(side)).rstrip(".")
            several = f"{side.convention} accounting: " if len(self.sides) > 1 else ""
            draw(side, panel, f"On {_where(self)}: {several}{says}")
        return axes[0]


def _leads(side: Ranking) -> list[str]:
    if side.crossovers:
        return [
            f"{turn.after} overtakes {turn.before} at about {turn.context:,.0f} tokens."
            for turn in side.crossovers
        ]
    leaders = [side.winner(k) for k in range(len(side.places))]
    named = list(dict.fromkeys(side.subjects[i] for i in leaders if i is not None))
    if not named:
        return ["nothing runs."]
    if len(named) > 1:
        return [f"{words.joined(named)} lead in turn."]
    where = "at every context" + (" at which something runs" if None in leaders else "")
    return [f"{named[0]} leads {where}."]


def _answer(comparison: Comparison) -> list[str]:
    """One to three sentences: the gaps to the first subject, prices, and where the lead changes."""
    side, rows = comparison.own, comparison.rows()
    several = len(side.subjects)
    parts = [rows[k * several : (k + 1) * several] for k in range(len(side.places))]
    shown = [k for k in range(len(parts)) if any(row["is_feasible"] for row in parts[k])]
    if not shown:
        where = words.joined(place.words for place in side.places)
        return [f"{words.nothing(comparison.problem)} on {_where(comparison)} {where}."]
    batched = side.places[0].batch is not None
    if not batched:
        near = words.nearest(side.places[k].context for k in shown)
        shown = [k for k in shown if side.places[k].context == near][:1]
    where = _where(comparison)
    sentences = [_gaps(parts[k], side.places[k], where if k == shown[0] else "") for k in shown]
    turns = [] if batched or len(parts) == 1 else [*_spread(parts), *_leads(side)]
    prices = " ".join(filter(None, [_prices(comparison, parts[shown[0]]), _sure(side, shown[0])]))
    return ["\n".join(sentences), "" if batched else prices, " ".join(turns)]


def _shortened(text: str, short: Mapping[str, str]) -> str:
    """The text with short names of subjects."""
    longest = sorted(short, key=len, reverse=True)
    replaced = re.sub("|".join(map(re.escape, longest)), lambda match: short[match[0]], text)
    return re.sub(r"(^|[.\n] ?)the dense", r"\1The dense", replaced)


def _sure(side: Ranking, place: int) -> str:
    """How sure the winner is at one place."""
    decision = side.decision(place) if side.is_real else None
    if decision is None:
        return ""
    unsure = "" if decision.is_sure else ", so the difference is within the error"
    return f"{decision.claim}{unsure}."


def _spread(parts: Sequence[Sequence[Row]]) -> list[str]:
    """How the gap of two subjects goes from the shortest context to the longest."""
    if len(parts[0]) != 2:
        return []
    known = [rows[1] for rows in parts if "factor" in rows[1]]
    if len(known) < 2:
        return []
    first, last = (words.length(row["context"]) for row in (known[0], known[-1]))
    low, high = (words.gap(row["factor"], "more", "less") for row in (known[0], known[-1]))
    if low == high:
        verb = "is" if low == "equal" else "makes"
        return [f"{known[0]['subject']} {verb} {low} at {first} and {last} alike."]
    first, last = (
        end + ("" if row.get("is_sure", True) else " (within the error)")
        for end, row in ((first, known[0]), (last, known[-1]))
    )
    return [f"{known[0]['subject']} goes from {low} at {first} to {high} at {last}."]


def _where(comparison: Comparison) -> str:
    """The GPUs of every side: `64 h100-sxm`, or `64 GPUs` where subjects name theirs."""
    gpus = comparison.problem.stated.gpus[0]
    device = comparison.own.names[0][0]
    first = comparison.own.subjects[0]
    named = device in first or "@" in first
    where = words.count(gpus, "GPU") if named else f"{gpus:,.0f} {device}"
    models = comparison.problem.stated.models
    more = len(models) == 1 and base_name(models[0].name) not in comparison.own.subjects[0]
    return f"{where} with {models[0].name}" if more else where


def _gaps(rows: Sequence[Row], place: Place, where: str) -> str:
    """The gaps to the first subject that runs, at one place; `where` names its GPUs."""
    one, *others = [row for row in rows if row["is_feasible"]]
    how = f" with {words.split(one, one['is_moe'])}" if where else ""
    rate = words.number(one["tokens_per_s_per_gpu"])
    at = f"{place.words} on {where}," if where else place.words
    lead = f"{at[0].upper()}{at[1:]} {one['subject']} makes {rate} tokens/s on each GPU{how}"
    gaps: list[str] = []
    for row in others:
        ratio = row["tokens_per_s_per_gpu"] / one["tokens_per_s_per_gpu"]
        is_sure = row.get("is_sure", not words.within_error(row, one))
        why = _why(row) if len(others) == 1 and where and is_sure else ""
        unsure = "" if is_sure else ", within the error"
        gap = words.gap(ratio, "more", "less").replace("equal", "as much")
        verb = "" if gaps else "makes "  # said once
        gaps.append(f"{row['subject']} {verb}{gap}{unsure}{why}")
    none = [row["subject"] for row in rows if not row["is_feasible"]]
    more = [f"{words.joined(none)} {'does' if len(none) == 1 else 'do'} not run"] if none else []
    return "; ".join([lead, *([words.joined(gaps)] if gaps else []), *more]) + "."


def _why(row: Row) -> str:
    """The resource that makes up most of a gap, if one does."""
    shares = row.get("attribution", {})
    if not shares or max(shares.values()) < words.MOST:
        return ""
    most = max(shares, key=lambda name: shares[name])
    return f" (most of the gap is {words.RESOURCE_WORDS[most]})"


def _prices(comparison: Comparison, rows: Sequence[Row]) -> str:
    """What a million output tokens costs, the cheapest first, and where no price is known."""
    name = "usd_per_million_tokens" + ("_with_prompts" if comparison.requests else "")
    known = sorted((row for row in rows if name in row), key=lambda row: row[name])
    if not known or (len({row[name] for row in known}) < 2 and len(known) == len(rows)):
        return ""
    one, *others = known
    what = "A million output tokens" + (", prompts included," if comparison.requests else "")
    listed = [f"{row[name]:,.2f} for {row['subject']}" for row in others]
    more = f", {words.joined(listed)}" if listed else ""
    sentence = f"{what} costs {one[name]:,.2f} USD for {one['subject']}{more}."
    at = [row["subject"] for row in rows].index(one["subject"])
    price = scalar(comparison.economies[at].usd_per_hour)
    for row in rows:
        if row["is_feasible"] and name not in row:
            equal = price * _output_rate(row) / _output_rate(one)
            sentence += (
                f" No price of {row['subject']} is known: it is ahead per dollar if a GPU-hour "
                f"costs less than {equal:.2f} USD ({one['subject']} costs {price:.2f})."
            )
    return sentence


def _output_rate(row: Row) -> float:
    """Output tokens/s of each GPU, prompts served too where requests were given."""
    ways = [f"prefill_tokens_per_s_per_gpu_{way}" for way in ("disaggregated", "aggregated")]
    known = [row[way] for way in ways if way in row]
    return float(max(known, default=row["tokens_per_s_per_gpu"]))


def _main_table(rows: Sequence[Row], short: Mapping[str, str], end: str) -> Table:
    price, head = "usd_per_million_tokens", "USD/Mtok"
    with_prompts = f"{price}_with_prompts"
    if any(with_prompts in row for row in rows):
        price, head = with_prompts, "USD/Mtok with prompts"
    names = ("split", "batch", "users", "tpot", "between", "gpu")
    priced = any(price in row for row in rows)
    heads = ["context", "subject", *columns.heads(*names), *([head] if priced else [])]
    heads += ["factor", "why"]
    cells: list[Sequence[str]] = []
    for _, part in groupby(rows, itemgetter("context")):
        cells += [()] if cells else []
        for row in part:
            start = [f"{row['context']:,}", _foldable(short[row["subject"]])]
            if not row["is_feasible"]:
                cells.append([*start, "nothing runs", *[""] * (len(heads) - 3)])
                continue
            design = columns.cells(row, *names)
            design[-1] += " *" if row["is_winner"] else ""
            usd = [f"{row[price]:,.3f}" if price in row else "-"] if priced else []
            factor = f"{row['factor']:.2f}x" if "factor" in row else "-"
            cells.append([*start, *design, *usd, factor, _shares(row)])
    first = next(iter(short))
    title = (
        f"The best designs (* leads); factors are over {first}, why is the share of the gap{end}"
    )
    return Table(title, heads, cells, 3)


def _foldable(name: str) -> str:
    """A name with spaces, where it is long, at which a table may fold it.

    >>> _foldable("llama-3.1-70b@h100-sxm:hbm_bw=x2,hbm_bytes=x2, hbm")
    'llama-3.1-70b @h100-sxm: hbm_bw=x2, hbm_bytes=x2, hbm'
    """
    return re.sub(r"(?<=[,:])(?! )|(?=@)", " ", name) if len(name) > LONG else name


def _shares(row: Row) -> str:
    """The two largest shares of a gap; no numbers where larger ones than the gap cancel out."""
    shares = sorted(row.get("attribution", {}).items(), key=lambda item: -abs(item[1]))[:2]
    if shares and abs(shares[0][1]) > CANCELS:
        return f"{' and '.join(name for name, _ in shares)}, nearly even"
    return ", ".join(f"{name} {share:+.0%}" for name, share in shares if share)


def _parts_table(every_row: Sequence[Row], convention: str) -> Table:
    rows = [row for row in every_row if row["is_feasible"]]
    names = list(rows[0]["table_5"]) if rows else []
    cells = [
        [f"{row['context']:,}", row["subject"], *(text(row["table_5"][n]) for n in names)]
        for row in rows
    ]
    title = (
        f"GPU time of an output token, {convention} convention; 1 = the first subject's "
        "compute at the first context (as the paper's table 5)"
    )
    return Table(title, ["context", "subject", *names], cells, 2)


@fixed_question("compares tokens/s/GPU (limits such as qsjax.Limits(max_tpot=0.02) hold)")
def compare(
    problem: Problem,
    subjects: Mapping[str, Subject] | None = None,
    *,
    requests: tuple[float, float] | None = None,
    prefix_hit_rate: float = 0.0,
    level: float = LEVEL,
) -> Comparison:
    """The best design of every subject at every context, and where the lead changes.

    Best is what makes the most tokens/s/GPU within the problem's limits, at its best batch unless
    the problem prescribes one; several prescribed batches are compared one by one.

    Args:
        problem: its models, accelerators and twins are the subjects; at one GPU count. Models with
            `served`, accelerators with `replace` may differ in what is asked about.
        subjects: the sides by name; all unless given.
        requests: input and output tokens of a request, for prices that include its prompt; the
            context is their mean where the problem states none.
        prefix_hit_rate: share of the prompt that is already cached.
        level: probability of the intervals of TPOT and throughput.

    Raises:
        ValueError: fewer than two subjects, several values of something else, or `level` is no
            probability.

    >>> from qsjax.grid.problem import Problem
    >>> found = compare(Problem("mixtral-8x7b", ["h100-sxm", "h200-sxm"], gpus=8, context="8k"))
    >>> found.decisions()[0].winner
    'h200-sxm'
    """
    check_level(level)
    requests = requests_of(requests)
    cached = cached_of(requests, prefix_hit_rate)
    problem = of_requests(problem, requests)
    stated = problem.stated
    asked = dataclasses.replace(
        problem, objective="tokens_per_s_per_gpu", context=sorted(stated.contexts)
    )
    if stated.batches is None:
        asked = dataclasses.replace(asked, batch="best")
    named = subjects_of(asked, subjects)
    sides = (ranking_of(asked, named, *one, level) for one in stated.accountings.items())
    economies = tuple(economy_of(asked, stated.accelerators[s.hardware]) for s in named.values())
    return Comparison(asked, named, tuple(sides), economies, requests, cached)
