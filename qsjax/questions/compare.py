"""Models, accelerators and conventions side by side: who wins, by how much, where, and why.

A design's GPU time per token, N TPOT / (D B), is the reciprocal of its tokens/s/GPU and a sum of
terms, so the gap between two designs divides exactly into the gaps of their terms.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.ledger import resource_times
from qsjax.cost.meanings import Meaning
from qsjax.cost.metrics import Economy, costs
from qsjax.cost.prefix import cached_of, requests_of
from qsjax.engines.spread import LEVEL, check_level
from qsjax.grid.case import Case, alongside, best_case, design_record, gpu_time, sequences_of
from qsjax.grid.cells import Cells, cells_of, of_variant, take
from qsjax.grid.infeasibility import refusals
from qsjax.grid.intervals import Lead, NamedCase, Names, bounds_of_case, lead_of, names_of
from qsjax.grid.needs import least_gpus
from qsjax.grid.optimum import Best, best_of, least_hbm_bytes
from qsjax.grid.parameters import write
from qsjax.grid.problem import Problem, check_single, economy_of, fixed_question, of_requests
from qsjax.grid.served import base_name, variants_of
from qsjax.numerics.safe import scalar
from qsjax.output import columns, words
from qsjax.output.labels import series_name
from qsjax.output.result import Drawing, Result, Row, Table, text
from qsjax.records.conversion import kind_of
from qsjax.records.specs import Convention, is_papers

# Relative width to which a turning point is found.
TURN_WIDTH = 0.02
# A measurement that removes less of the variance than this share is not named.
WORTH = 0.05
# From a part this many times the whole gap on, parts cancel out and no share explains the gap.
CANCELS = 2.0
# Longest name of a subject that is not folded in a table [characters].
LONG = 14


class Subject(NamedTuple):
    """One side of a comparison: indices of its model and accelerator, and q of a dense twin."""

    model: int = 0
    hardware: int = 0
    q: float | None = None


class Place(NamedTuple):
    """Where subjects are compared: a context [tokens], and the batch if several were stated."""

    context: float
    batch: float | None = None

    @property
    def words(self) -> str:
        """`at 8k`, or `at batch 16 and 8k`."""
        at = words.length(self.context)
        return f"at {at}" if self.batch is None else f"at batch {self.batch:,.0f} and {at}"


class Crossover(NamedTuple):
    """A context at which two subjects change places: `after` is ahead from there on."""

    context: float
    before: str
    after: str


class Decision(NamedTuple):
    """How sure the winner of a context is, and what would make it surer.

    Attributes:
        context: where [tokens].
        batch: if several were stated.
        winner: the subject with the most tokens/s/GPU.
        rival: the subject most likely to beat it.
        factor: predicted tokens/s/GPU of the winner over the rival's.
        chance: probability that the winner beats the rival.
        margin: factor from which the difference would be larger than the error.
        is_sure: whether it is.
        measure: subject of which one measurement would remove most of the variance of the factor.
        removes: how much of it that would be [1].
    """

    context: float
    batch: float | None
    winner: str
    rival: str
    factor: float
    chance: float
    margin: float
    is_sure: bool
    measure: str
    removes: float

    @property
    def claim(self) -> str:
        """Who beats whom, and how probably."""
        sure = f"with a probability of {words.chance(self.chance)}"
        return f"{self.winner} beats {self.rival} {sure}"

    def __str__(self) -> str:
        """In words, with what would decide it where it is not sure."""
        at = Place(self.context, self.batch).words
        line = f"{at[0].upper()}{at[1:]} {self.claim}"
        if self.is_sure:
            return f"{line}."
        return (
            f"{line}: a lead of {self.factor:.2f} times is within the error, one of "
            f"{self.margin:.2f} times would not be.{self._measured()}"
        )

    def _measured(self) -> str:
        """Which measurement would decide most; nothing where none would help."""
        if self.removes < WORTH:
            return ""
        return (
            f" A measurement of {self.measure} would decide most: it removes "
            f"{100 * self.removes:.0f} % of the variance."
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Ranking:
    """The best design of every subject at every place, under one convention.

    Attributes:
        convention: name of the accounting.
        subjects: names, along the first axis.
        places: contexts [tokens] and stated batches, along the second axis.
        cases: best designs; None where nothing runs.
        crossovers: where the order of two neighbours at the top changes, in order of context.
        names: of every subject, names of its accelerator and of its model.
        level: probability with which measured values lie in the intervals.
        is_real: whether the accounting is not the paper's, which no machine keeps.
        refusals: why nothing runs where it does not, a sentence each.
    """

    convention: str
    subjects: tuple[str, ...]
    places: tuple[Place, ...]
    cases: tuple[tuple[Case | None, ...], ...]
    crossovers: tuple[Crossover, ...] = ()
    names: tuple[Names, ...] = ()
    level: float = LEVEL
    is_real: bool = True
    refusals: tuple[str, ...] = ()

    def named_case(self, subject: int, place: int) -> NamedCase | None:
        """A cell's design under the names of its subject; None where nothing runs."""
        case = self.cases[subject][place]
        return None if case is None else NamedCase(case, self.names[subject])

    def lead(self, first: int, second: int, place: int) -> Lead | None:
        """How sure one subject is to be ahead of another; None where one of them does not run."""
        a, b = self.named_case(first, place), self.named_case(second, place)
        return None if a is None or b is None else lead_of(a, b)

    def decision(self, place: int) -> Decision | None:
        """The winner against the subject most likely to beat it; None with nobody beside it."""
        best = self.winner(place)
        if best is None:
            return None
        leads = {
            k: lead
            for k in range(len(self.subjects))
            if k != best and (lead := self.lead(best, k, place)) is not None
        }
        if not leads:
            return None
        rival = min(leads, key=lambda k: leads[k].chance)
        lead, names = leads[rival], (self.subjects[best], self.subjects[rival])
        measure = int(lead.gains[1] > lead.gains[0])
        return Decision(
            *(*self.places[place], *names),
            factor=self.rate(best, place) / self.rate(rival, place),
            chance=lead.chance,
            margin=lead.margin,
            is_sure=lead.is_sure,
            measure=names[measure],
            removes=lead.gains[measure],
        )

    def decisions(self) -> list[Decision]:
        """The decision at every place where two subjects run."""
        decisions = map(self.decision, range(len(self.places)))
        return [decision for decision in decisions if decision is not None]

    def rate(self, subject: int, place: int) -> float:
        """Tokens/s/GPU of a cell; 0 where nothing runs."""
        case = self.cases[subject][place]
        return 0.0 if case is None else case.rate

    def winner(self, place: int) -> int | None:
        """The subject with the most tokens/s/GPU; None where nothing runs."""
        rates = [self.rate(i, place) for i in range(len(self.subjects))]
        return int(np.argmax(rates)) if max(rates) > 0 else None

    def row(self, subject: int, place: int) -> Row:
        """A subject at a place, with the factor over the first subject and why."""
        first, case = self.cases[0][place], self.cases[subject][place]
        context, batch = self.places[place]
        row: Row = {
            "convention": self.convention,
            "context": int(context),
            "subject": self.subjects[subject],
            "is_feasible": case is not None,
            "is_winner": subject == self.winner(place),
        }
        side = self.named_case(subject, place)
        if case is not None and side is not None:
            row |= design_record(case) | bounds_of_case(side, self.level)
            row["is_moe"] = case.records.model.is_moe
            row["gpu_time"] = resource_times(gpu_time(case))
            unit = self.unit
            row["table_5"] = {n: t / unit if unit else None for n, t in table_5(case).items()}
        if case is not None and first is not None:
            row["factor"] = self.rate(subject, place) / self.rate(0, place)
            lead = self.lead(subject, 0, place) if subject else None
            if lead is not None:
                row |= {"attribution": attribution(first, case)}
                row |= {"chance": lead.chance, "is_sure": lead.is_sure, "margin": lead.margin}
        return row | ({} if batch is None else {"batch": int(batch)})

    def short_names(self) -> dict[str, str]:
        """Names of the subjects, all but the first shortened to what sets them apart."""
        first, *rest = self.subjects
        device, model, _ = self.names[0]
        short = {first: first}
        for name in rest:
            # Whole names alone: a100-sxm is no part of a100-sxm-40g, nor deepseek-v3 of ...-v3.2.
            ending = re.sub(rf"^{re.escape(model)}(?=[:@,]|$)", "", name)
            ending = re.sub(rf"@{re.escape(device)}(\.toml)?(?=[:,]|$)", "", ending, count=1)
            short[name] = ending.lstrip(":@, ") or name
            if re.fullmatch(r"q=[\d.]+", short[name]):
                short[name] = f"the dense twin ({short[name]})"
        clash = len(set(short.values())) < len(short)
        return dict(zip(short, short, strict=True)) if clash else short

    @property
    def unit(self) -> float | None:
        """Compute of the first design that runs, by which table 5 is divided [GPU-s]."""
        running = (case for row in self.cases for case in row if case is not None)
        return next((table_5(case)["compute"] for case in running), None)


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


def attribution(first: Case, second: Case) -> dict[str, float]:
    """Share of each resource in the gap of GPU time between two designs [1].

    The shares sum to 1; a negative one is a resource in which the slower design is ahead. All are 0
    if there is no gap.
    """
    a, b = resource_times(gpu_time(first)), resource_times(gpu_time(second))
    gap = sum(b.values()) - sum(a.values())
    return {name: (b[name] - a[name]) / gap if gap else 0.0 for name in a}


def table_5(case: Case) -> dict[str, float]:
    """HBM, compute and exposed communication of an output token [GPU-s], as the paper's table 5.

    Both sides of the roofline count in full, so the three overlap and do not sum to the time. For
    designs of one split, as in the paper, ratios are those of its times per token.
    """
    step = case.parts.step
    share = scalar(case.records.partition.pp) * scalar(step.gpus) / sequences_of(case)
    share /= scalar(case.records.workload.tokens_per_step)
    return {
        "HBM": share * sum(scalar(t) for t in step.hbm.phases()),
        "compute": share * sum(scalar(t) for t in step.compute),
        "communication": share * sum(scalar(t) for t in step.exposed),
    }


def _named(problem: Problem, subjects: Mapping[str, Subject] | None) -> dict[str, Subject]:
    """The subjects by name: those given, or every model, accelerator and twin of the problem."""
    stated = problem.stated
    check_single(problem, "a comparison is over contexts", "gpus")
    if not isinstance(subjects, Mapping | None):
        raise ValueError(f'subjects: {kind_of(subjects)} was given; give {{"A": qsjax.Subject()}}')
    named = dict(subjects or {})
    if strange := [name for name, one in named.items() if not isinstance(one, Subject)]:
        raise ValueError(f"subjects: {words.joined(strange)}: no Subject; give qsjax.Subject(0, 0)")
    if subjects is None:
        for m, model in enumerate(stated.models):
            for h, device in enumerate(stated.accelerators):
                for variant in variants_of(model.spec, stated.twins):
                    row: Row = {name: values[0] for name, values in stated.kept.items()}
                    row |= {"model": model.name, "hardware": device.name}
                    row |= {"variant": variant.name, "q": variant.q}
                    name = series_name(problem, row)
                    if len(stated.models) > 1 and len(stated.accelerators) > 1:
                        name = name.replace(", ", "@", 1)  # as the command names a pair
                    named[name] = Subject(m, h, variant.q)
    for name, one in named.items():
        sizes = {"model": len(stated.models), "hardware": len(stated.accelerators)}
        wrong = [what for what, size in sizes.items() if getattr(one, what) not in range(size)]
        wrong += ["q"] if one.q not in (None, *stated.twins) else []
        if wrong:
            raise ValueError(
                f"subjects: {name!r} is {one}, and the problem has no such {words.joined(wrong)}; "
                "models and accelerators count from 0, and q is one of its twins"
            )
    for name, one in named.items():
        first = next(text for text, subject in named.items() if subject == one)
        if first != name:
            both = f"{stated.models[one.model].name} on {stated.accelerators[one.hardware].name}"
            raise ValueError(f"{first!r} and {name!r} are both {both}; give one of them")
    if len(named) < 2:
        raise ValueError(
            "a comparison needs at least two different subjects; given: "
            f"{stated.models[0].name} on {stated.accelerators[0].name}; give several models or "
            "accelerators, or twins of a mixture"
        )
    return named


def _turn(first: Cells, second: Cells, low: float, high: float) -> float:
    """Context between two at which the second subject gets ahead [tokens]."""
    while high / low > 1.0 + TURN_WIDTH:
        middle = float(np.round(np.sqrt(low * high)))
        if middle in (low, high):
            break
        here = {"context": np.full(1, middle)}
        before, after = (
            best_of(cells, write(take(cells.inputs, [0]), here)).score[0]
            for cells in (first, second)
        )
        low, high = (low, middle) if after > before else (middle, high)
    return high


def _refusal(problem: Problem, cells: Cells, best: Best, cell: int) -> str:
    """Why a cell has no design, and what would help."""
    if words.kept(problem) and cells.designs.batch is None:
        return refusals(cells, cell)[0].text
    hbm = float(least_hbm_bytes(cells.inputs, best)[cell])
    gpus = least_gpus(cells, np.arange(cells.cells) == cell)[cell]
    return words.would_fit(hbm, gpus) or "no split is legal"


def _ranking(
    problem: Problem,
    subjects: Mapping[str, Subject],
    convention: str,
    rules: Convention,
    level: float,
) -> Ranking:
    contexts, batches = problem.stated.contexts, problem.stated.batches or ()
    if len(batches) > 1:
        each = [dataclasses.replace(problem, batch=[batch]) for batch in batches]
    else:
        each = [problem]
    places = tuple(
        Place(context, batch if len(batches) > 1 else None)
        for batch in batches or (None,)
        for context in contexts
    )
    columns: list[list[Case | None]] = [[] for _ in subjects]
    refused: list[str] = []
    for one in each:
        of_pairs = [cells_of(one, s.model, s.hardware, rules) for s in subjects.values()]
        sides = [
            of_variant(cells, [variant.q for variant in cells.variants].index(subject.q))
            for cells, subject in zip(of_pairs, subjects.values(), strict=True)
        ]
        for name, column, cells in zip(subjects, columns, sides, strict=True):
            best = best_of(cells)
            cases = [best_case(cells, k, best) for k in range(len(contexts))]
            for k in [k for k, case in enumerate(cases) if case is None]:
                where = places[len(column) + k].words
                refused.append(
                    f"{name} has no design {where}: {_refusal(problem, cells, best, k)}."
                )
            column += cases
    ranking = Ranking(
        *(convention, tuple(subjects), places, tuple(map(tuple, columns))),
        names=tuple(
            names_of(one.hardware.name, one.model.name, one.variants[0].q, one.hardware.engine)
            for one in sides
        ),
        level=level,
        is_real=not is_papers(rules),
        refusals=tuple(refused),
    )
    crossovers = []
    for k in range(len(contexts) - 1 if len(each) == 1 else 0):
        before, after = ranking.winner(k), ranking.winner(k + 1)
        if before is None or after is None or before == after:
            continue
        at = _turn(sides[before], sides[after], contexts[k], contexts[k + 1])
        crossovers.append(Crossover(at, ranking.subjects[before], ranking.subjects[after]))
    return dataclasses.replace(ranking, crossovers=tuple(crossovers))


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
    named = _named(asked, subjects)
    sides = (_ranking(asked, named, *one, level) for one in stated.accountings.items())
    economies = tuple(economy_of(asked, stated.accelerators[s.hardware]) for s in named.values())
    return Comparison(asked, named, tuple(sides), economies, requests, cached)
