"""One stated deployment: does it run, where do memory and time go, and what would be better."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.disaggregation import Companion
from qsjax.cost.metrics import Economy, costs, elasticities, follows_load
from qsjax.cost.prefix import cached_of, requests_of
from qsjax.engines.rules import NOT_READ
from qsjax.engines.spread import LEVEL, check_level, nearest_engine
from qsjax.grid.case import Case, alongside, best_case, case_at, case_record
from qsjax.grid.cells import Cells, numbers_at, one_cell
from qsjax.grid.diagnosis import remarks
from qsjax.grid.intervals import NamedCase, Names, bounds_of_case, lead_of
from qsjax.grid.limits import LIMITS, Limits, violations
from qsjax.grid.limits import describe as describe_limit
from qsjax.grid.needs import least_gpus
from qsjax.grid.optimum import any_batch, best_of, least_hbm_bytes
from qsjax.grid.problem import Problem, describe, of_requests, question
from qsjax.grid.remarks import kernels_used, prices_of
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output import columns, words
from qsjax.output.labels import split_name
from qsjax.output.result import Drawing, Result, Row, Table, plain
from qsjax.questions.explain.prompts import Pools, pools_of
from qsjax.records import checks
from qsjax.records.rows import grouped
from qsjax.records.specs import Convention, Partition, is_papers
from qsjax.records.units import GIB, MS, TFLOP

# Share of a whole below which a part is not told: it reads as 0.0 %.
SMALLEST = 5e-4
# Gap that says nothing of two ways to serve prompts: the median error of pools of their own, of
# which 38 were measured (README, "How near it comes").
POOLS_ERROR = 0.130
# To the laws a dense model is a mixture of one expert; to people it has an FFN.
_DENSE_NAMES = {"weights: routed experts": "weights: FFN", "hbm_routed": "hbm_ffn"}


class Needs(NamedTuple):
    """What a cell would need to run; NaN or infinite where no value is enough.

    Attributes:
        hbm_bytes: HBM of each GPU from which another split of as many GPUs fits [B].
        gpus: smallest power of two of these GPUs that holds it.
    """

    hbm_bytes: float
    gpus: float


def _begun(text: str) -> str:
    """A sentence with a capital, unless a flag or a degree (`tp=3`) begins it."""
    first = text.split(" ")[0]
    return text if "=" in first or first.startswith("-") else f"{text[0].upper()}{text[1:]}"


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """A stated design under one convention, and better ones of as many GPUs.

    Attributes:
        convention: name of the accounting.
        stated: the design itself.
        best: the best one within the problem's limits, at any batch; None if nothing runs.
        best_as_fast: the same among those whose TPOT is not longer than the stated one's; None if
            the stated design does not run.
        needs: with what something would run; None if the stated design runs.
    """

    convention: str
    stated: Case
    best: Case | None
    best_as_fast: Case | None
    needs: Needs | None

    def cases(self) -> dict[str, Case]:
        """The stated and the better designs, by name."""
        names = ("stated", "best", "best_as_fast")
        return {name: case for name in names if (case := getattr(self, name)) is not None}


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Explanation(Result):
    """A stated design, and better ones.

    Attributes:
        problem: what was asked.
        sides: under the problem's accounting, and under the other one if it was asked for.
        economy: price and power.
        requests: input and output tokens of a request, if they were given.
        companions: what prompts cost beside each design that runs, by its name; none unless
            requests were given.
        notes: warnings about a legal but costly design, and other remarks.
        more: further facts of the designs, by their name, such as flags of engines.
        engine: what serves it, of those that were measured; "" where that is not stated.
        level: probability with which measured values lie in the intervals.
        cached: tokens of a request's prompt whose cache is there already.
        refusal: why the engine does not start what would run, "" where it does.
        pools: the best of all splits of as many GPUs, with prefill on GPUs of its own and without;
            None without requests, or where the stated design does not run.
    """

    problem: Problem
    sides: tuple[Side, ...]
    economy: Economy
    requests: tuple[float, float] | None
    companions: Mapping[str, Companion]
    notes: tuple[str, ...]
    more: Mapping[str, Row] = dataclasses.field(default_factory=dict)
    engine: str = ""
    level: float = LEVEL
    cached: float = 0.0
    refusal: str = ""
    pools: Pools | None = None

    stem = "explain"
    index = ("convention", "design")

    @property
    def own(self) -> Side:
        """Under the problem's accounting."""
        return self.sides[0]

    @property
    def stated(self) -> Case:
        """The design under the problem's accounting."""
        return self.own.stated

    @property
    def prefill(self) -> Companion | None:
        """Prefill alongside the stated design; None without requests."""
        return self.companions.get("stated")

    @property
    def is_moe(self) -> bool:
        """Whether what is served has experts."""
        return self.stated.records.model.is_moe

    def rows(self) -> list[Row]:
        """One row for each design under each accounting."""
        names = ("roofline", "shortcomings", "memory_bytes", "hidden")
        return [
            {"convention": side.convention, "design": name}
            | self.bounds(case)
            | {key: x for key, x in case_record(case).items() if key not in names}
            for side in self.sides
            for name, case in side.cases().items()
        ]

    def bounds(self, case: Case) -> Row:
        """Ends of the interval of a design's TPOT and throughput, and what it rests on."""
        return bounds_of_case(self._named_case(case), self.level)

    def _named_case(self, case: Case) -> NamedCase:
        accelerator = self.problem.stated.accelerators[0].name
        return NamedCase(case, Names(accelerator, self.own_name, self.engine))

    def summary(self) -> str:
        """Whether it runs, how many requests fit, what is better, and how prompts are served."""
        stated, case = self.problem.stated, self.stated
        row = case_record(case) | self.bounds(case)
        model, device = self.own_name, stated.accelerators[0].name
        where = f"{model} on {row['gpus']:,.0f} {device} with {words.split(row, self.is_moe)}"
        context = words.length(stated.contexts[0])
        if not case.is_feasible:
            lacks = " ".join(f"{_begun(item.text)}." for item in case.shortcomings)
            lines = [f"No, {where} does not run at {context}.", lacks, self._would_help()]
        else:
            fits = int(row["max_batch"]) * int(row["users"]) // int(row["batch"])
            first = (
                f"{where} runs: {words.batch_of(row, fits)} at {context}, "
                f"{words.number(row['tokens_per_s_per_gpu'])} tokens/s on each GPU, "
                f"{words.time_of(row)}."
            )
            lines = [first, self.refusal, self._breaks(), self._better(), self._prompts()]
        return "\n".join(filter(None, lines))

    @property
    def own_name(self) -> str:
        """The model, or the dense twin of it that is explained."""
        stated = self.problem.stated
        return f"{stated.models[0].name}{words.twin(stated.twins[0] if stated.twins else None)}"

    def _breaks(self) -> str:
        """The limits that the stated design does not keep."""
        case, limits = self.stated, self.problem.limits
        records = case.records
        bits = on_host(violations)(
            limits, records.partition, records.hardware, case.parts.step, self.economy
        )
        broken = [describe_limit(limits, name) for name, bit in LIMITS.items() if int(bits) & bit]
        return f"It does not keep {words.joined(broken)}." if broken else ""

    def _better(self) -> str:
        best, rate = self.own.best, self.stated.rate * (1.0 + words.EQUAL)
        if best is None and (kept := words.kept(self.problem)):
            return f"No design on as many GPUs keeps {kept}."
        if best is None or best.rate <= rate:
            return "No design on as many GPUs has more throughput."
        fast = self.own.best_as_fast
        better = fast if fast is not None and fast.rate > rate else best
        row = case_record(better)
        if better is best:
            gain = f"at {words.milliseconds(row['tpot'])} a token; as fast as it is, none has more"
        else:
            gain = "at no more time a token"
            if best.rate > better.rate * (1.0 + words.EQUAL):
                gain += f"; {best.rate / self.stated.rate:.1f} times if a token may take longer"
        # What no machine keeps, the paper's accounting, has no error.
        sides = map(self._named_case, (better, self.stated))
        unsure = "" if is_papers(better.rules) or lead_of(*sides).is_sure else ", within the error"
        more = words.gap(better.rate / self.stated.rate, "more", "less")
        return (
            f"Better: {words.split(row, self.is_moe)}, {words.batch_of(row)}: {more} throughput"
            f"{unsure}, {gain}."
        )

    def _would_help(self) -> str:
        best, needs = self.own.best, self.own.needs
        if best is not None:
            row = case_record(best)
            design = f"{words.split(row, self.is_moe)}, {words.batch_of(row)}"
            return f"As many GPUs run it with {design}, {words.milliseconds(row['tpot'])} a token."
        has_others = scalar(self.stated.parts.step.gpus) > 1
        return "" if needs is None else _takes(needs, " with another split" * has_others)

    def _prompts(self) -> str:
        prompts = self.prefill
        if prompts is None or self.requests is None:
            return ""
        apart = prompts.tokens_per_s_per_gpu_disaggregated
        shared = prompts.tokens_per_s_per_gpu_aggregated
        isl, osl = (words.length(x) for x in self.requests)
        isl += f" ({self.cached:,.0f} of it cached)" if self.cached else ""
        need = prompts.prefill_gpus_per_decode_gpu
        ratio = f"{need:.2g}" if need < 100 else words.number(need)
        return (
            f"Requests of {isl} in and {osl} out need {ratio} "
            f"prefill GPU{'' if ratio == '1' else 's'} for each decode GPU of this split: "
            f"{words.number(apart)} output tokens/s on each GPU against {words.number(shared)} "
            f"where the same GPUs do both.{self._pays()}"
        )

    def _pays(self) -> str:
        """Whether disaggregation pays, each way by its own best split."""
        if self.pools is None:
            return ""
        apart, _, together = self.pools
        kept = words.kept(self.problem)
        if apart is None or together is None:
            ways = {"apart": apart, "where the same GPUs do both": together}
            none = words.joined(name for name, way in ways.items() if way is None)
            return f" No split keeps {kept} {none}."
        ahead = apart.rate / together.rate
        pays = "pays" if ahead > 1.0 else "does not pay"
        if abs(ahead - 1.0) < POOLS_ERROR:
            pays = "makes no difference beyond the error"
        first, second = (
            f"{words.number(way.rate)} at {words.milliseconds(way.tpot)} a token"
            for way in (apart, together)
        )
        return (
            f" For throughput, with the best split of each way, disaggregation {pays}: "
            f"{first} against {second}, by {split_name(together.design) or 'one GPU'} and "
            f"{together.design['batch']:,} sequences of a replica."
        )

    def tables(self) -> list[Table]:
        """The designs, memory, time, and the phases under the roofline."""
        case = case_record(self.stated)
        records = [self._side_record(side) for side in self.sides]
        return [_designs(records), *_ledgers(case, self.is_moe)]

    def remarks(self) -> list[str]:
        """Prompts, costs, the best design as flags of engines, and notes."""
        lines = words.rests_on([self.bounds(self.stated)], self.level)
        if self.prefill is not None:
            lines.append(_prefill_line(self.prefill))
        lines += [
            _cost_line(name, self.costs_of(name, case))
            for name, case in self._shown().items()
            if case.is_feasible
        ]
        lines += prices_of(self.problem)
        for engine, written in self.more.get("best", {}).get("engine_flags", {}).items():
            lines.append(f"The best design for {engine}: {written['flags']}")
            lines += [f"  ({remark})" for remark in written["notes"]]
        return [*lines, *(f"Note: {note}." for note in self.notes if NOT_READ not in note)]

    def cautions(self) -> list[str]:
        """What to know before the answer: flags that are not read too."""
        unread = [f"Note: {note}." for note in self.notes if NOT_READ in note]
        return [*Result.cautions(self), *unread]

    def _shown(self) -> dict[str, Case]:
        """The stated design, and the best one where that is another."""
        cases = self.own.cases()
        best = cases.get("best")
        is_same = best and _design_of(case_record(best)) == _design_of(case_record(self.stated))
        names = ("stated",) if is_same else ("stated", "best")
        return {name: case for name, case in cases.items() if name in names}

    def record(self) -> Row:
        """Both conventions, prices, prefill and notes; None for what is missing."""
        stated, (first, *others) = self.problem.stated, map(self._side_record, self.sides)
        record: Row = {
            "model": stated.models[0].name,
            "hardware": stated.accelerators[0].name,
            "is_moe": self.is_moe,
            "context": stated.contexts[0],
            "level": self.level,
            **first,
            "beside": others[0] if others else None,
            "prefill": None if self.prefill is None else dataclasses.asdict(self.prefill),
            "pools": None if self.pools is None else self.pools.record(),
            "notes": list(self.notes),
            "cost_elasticities": elasticities(
                *self._rate_and_load("stated", self.stated), self.economy
            ),
        }
        for name, case in self.own.cases().items():
            record[name] |= {"costs": self.costs_of(name, case), **self.more.get(name, {})}
        return record

    def _side_record(self, side: Side) -> Row:
        record: Row = {"convention": side.convention, "best": None, "best_as_fast": None}
        for name, case in side.cases().items():
            record[name] = case_record(case) | self.bounds(case)
            if name != "stated" and side.stated.is_feasible:
                record[name]["gain"] = case.rate / side.stated.rate
        return record | {"needs": None if side.needs is None else side.needs._asdict()}

    def _rate_and_load(self, name: str, case: Case) -> tuple[float, float]:
        """Output tokens/s/GPU and load of one of the designs, with prompts if there are any."""
        beside = self.companions.get(name)
        if beside is None:
            return case.rate, scalar(case.parts.step.busy)
        return beside.best_rate, beside.best_busy

    def costs_of(self, name: str, case: Case) -> Row:
        """Price, energy and power of one of the designs, its prompts included if there are any."""
        prices = costs(*self._rate_and_load(name, case), self.economy)
        beside = self.companions.get(name)
        where = (
            None if beside is None else "GPUs of their own" if beside.is_apart else "the same GPUs"
        )
        return prices | {"prompts_on": where, "power_is_measured": follows_load(self.economy)}

    def inputs(self) -> Row:
        """The problem's records, and the design, as plain numbers."""
        partition, batch = self.stated.records.partition, self.stated.records.workload.batch
        stated = {"partition": plain(partition), "batch_stated": batch, "cached": self.cached}
        return Result.inputs(self) | stated

    def drawings(self) -> dict[str, Drawing]:
        """Phases under the roofline, and what fills the memory."""
        from qsjax import plotting

        chip, name = self.stated.records.hardware, self.problem.stated.models[0].name
        title = describe(dataclasses.replace(self.problem, twins=())).replace(
            name, self.own_name, 1
        )
        cases = {name: case_record(case) for name, case in self._shown().items()}
        points = [
            {"variant": "moe" if self.is_moe else "dense", "q": None, "phase": name, **roof}
            for name, roof in cases["stated"]["roofline"].items()
        ]
        peaks = {name: scalar(getattr(chip, f"flops_{name}")) for name in ("bf16", "fp8")}
        roofs = {"hbm_bw": scalar(chip.hbm_bw), "peaks": peaks}
        by_bound = grouped(points, lambda point: str(point["bound"]))
        bounds = [
            (
                words.joined(point["phase"] for point in bound_by)
                if len(by_bound) > 1
                else "everything"
            )
            + f" bound by {bound}"
            for bound, bound_by in by_bound.items()
        ]
        ran = "" if self.stated.is_feasible else "if it ran, "
        drawings: dict[str, Drawing] = {
            "roofline": partial(
                plotting.roofline, points, roofs, title=f"{title}: {ran}{words.joined(bounds)}"
            )
        }
        ledgers = [
            {
                "label": name,
                "terms": for_people(case["memory_bytes"], self.is_moe),
                "capacity": case["hbm_bytes"],
            }
            for name, case in cases.items()
        ]
        stated = ledgers[0]
        short = -min(0.0, *stated["terms"].values()) / GIB
        cache = 100.0 * stated["terms"].get("KV cache", 0.0) / stated["capacity"]
        head = f"{title}: the cache fills {cache:.0f} % of the memory"
        if short:
            head = f"{title}: {short:,.1f} GiB are missing on each GPU"
        drawings["memory"] = partial(plotting.memory_ledger, ledgers, title=head)
        return drawings


def _needs(cells: Cells) -> Needs:
    whole = dataclasses.replace(cells, limits=Limits())
    hbm = float(least_hbm_bytes(whole.inputs, best_of(whole))[0])
    return Needs(hbm, float(least_gpus(cells, np.ones(1, bool))[0]))


def _takes(needs: Needs, split: str = "") -> str:
    """What it would take to run, in a sentence."""
    fits = words.would_fit(*needs, split=split)
    return f"{fits[0].upper()}{fits[1:]}." if fits else "No number of GPUs is enough."


def for_people(terms: Mapping[str, float], is_moe: bool) -> dict[str, float]:
    """Terms of a ledger under the names that people expect of this kind of model."""
    return {_DENSE_NAMES.get(n, n) if not is_moe else n: x for n, x in terms.items()}


def _design_of(case: Row) -> tuple[str, bool, int]:
    """What two designs that are one share: split, and batch."""
    return split_name(case), case["is_feasible"], case["batch"]


def _designs(records: Sequence[Row]) -> Table:
    names = {"stated": "stated", "best": "best", "best_as_fast": "best, as fast"}
    numbers = ("batch", "users", "tpot", "between", "user", "gpu")
    rows = []
    for record in records:
        # A design that is several of them is one row.
        given = {key: _design_of(record[key]) for key in names if record[key] is not None}
        for keys in grouped(given, given.get).values():
            # The best design at all needs no second title.
            titled = [key for key in keys if key != "best_as_fast" or "best" not in keys]
            label, case = ", ".join(names[key] for key in titled), record[keys[-1]]
            shown = ["does not run", *[""] * len(numbers)]
            if case["is_feasible"]:
                gain = f"{case['gain']:.2f}x" if case.get("gain") else ""
                shown = [*columns.cells(case, *numbers), gain]
            first = [record["convention"]] if len(records) > 1 else []
            rows.append([*first, label, split_name(case), *shown])
    heads = ["convention"] if len(records) > 1 else []
    heads += ["design", *columns.heads("split", *numbers), "gain"]
    return Table("The design, and the best ones of as many GPUs", heads, rows, len(heads) - 7)


def _ledgers(case: Row, is_moe: bool) -> list[Table]:
    capacity, end = case["hbm_bytes"], ""
    if not case["is_feasible"]:
        end = f": what it would take with {words.count(case['batch'], 'sequence')} if it ran"
    memory = [
        (name, f"{size / GIB:,.3f}", f"{100 * size / capacity:.1f}")
        for name, size in for_people(case["memory_bytes"], is_moe).items()
        if abs(size) >= SMALLEST * capacity
    ]
    memory.append(("capacity", f"{capacity / GIB:,.3f}", "100.0"))
    hides = any(case["hidden"].values())
    time = []
    for name, t in for_people(case["terms"], is_moe).items():
        hidden = case["hidden"].get(name, 0.0)
        if max(t, hidden) >= SMALLEST * case["tpot"]:
            row = [words.TERM_WORDS[name], f"{t / MS:,.4f}", f"{100 * t / case['tpot']:.1f}"]
            time.append([*row, *([f"{hidden / MS:,.4f}" if hidden else ""] if hides else [])])
    time.append(["TPOT", f"{case['tpot'] / MS:,.4f}", "100.0", *([""] if hides else [])])
    roofs = [
        (
            name,
            roof["bound"],
            f"{roof['intensity']:,.1f}",
            f"{roof['ridge']:,.0f}",
            f"{roof['flops_per_s'] / TFLOP:,.1f}",
            f"{100 * roof['flops_share']:.1f}",
            f"{100 * roof['bandwidth_share']:.1f}",
        )
        for name, roof in case["roofline"].items()
    ]
    heads = ("phase", "bound", "FLOP/B", "ridge", "TFLOP/s", "% of peak", "% of HBM")
    hidden_head = ["hidden ms"] if hides else []
    return [
        Table(f"Memory of one GPU{end}", ("", "GiB", "%"), memory),
        Table(f"Time of one output token{end}", ("", "ms", "%", *hidden_head), time),
        Table("Phases under the roofline", heads, roofs, 2),
    ]


def _cost_line(name: str, prices: Mapping[str, Any]) -> str:
    usd, joules = prices["usd_per_million_tokens"], prices["joules_per_token"]
    price = "no price known" if usd is None else f"{usd:,.3f} USD per million output tokens"
    energy = "no power known"
    if joules is not None:
        power = words.power(prices["watts_per_gpu"], is_measured=prices["power_is_measured"])
        energy = f"{joules:,.3f} J per output token ({power})"
    where = prices["prompts_on"]
    what = "decoding alone" if where is None else f"prompts on {where} included"
    return f"Cost of the {name} design, {what}: {price}, {energy}."


def _prefill_line(prompts: Companion) -> str:
    return (
        f"Prefill on the same design: first token after {prompts.ttft / MS:,.0f} ms, "
        f"{prompts.prompt_tokens_per_s_per_gpu:,.0f} prompt tokens/s/GPU. Where the same GPUs do "
        f"both, {prompts.decoding_aggregated:,.0f} of the batch decode at a time, TPOT is "
        f"{prompts.tpot_aggregated / MS:,.2f} ms, and the first token comes after "
        f"{prompts.ttft_aggregated / MS:,.0f} ms without a queue (`qsjax simulate` has it)."
    )


def _side(
    problem: Problem, partition: Partition | None, convention: str, rules: Convention
) -> Side:
    cells = one_cell(problem, rules=rules)
    free = one_cell(any_batch(problem)[0], rules=rules)
    if partition is None:
        stated = best_case(cells, 0)
        if stated is None:
            kept = words.kept(problem)
            why = f"no design keeps {kept}." if kept else f"no design runs. {_takes(_needs(cells))}"
            raise ValueError(f"{describe(problem)}: {why} Give a partition to see what it lacks")
    else:
        asked = problem.stated.batches
        stated = case_at(cells, 0, partition, None if asked is None else asked[0])
    if not stated.is_feasible:
        return Side(convention, stated, best_case(free, 0), None, _needs(cells))
    # A hair more than its own TPOT, so that rounding does not exclude the design itself.
    tpot = scalar(stated.parts.step.tpot) * (1.0 + 1e-9)
    limits = problem.limits
    fast = dataclasses.replace(limits, max_tpot=min(tpot, scalar(limits.max_tpot)))
    as_fast = best_case(dataclasses.replace(free, limits=fast), 0)
    return Side(convention, stated, best_case(free, 0), as_fast, None)


def explained(
    problem: Problem,
    partition: Partition | None,
    engine: str,
    *,
    requests: tuple[float, float] | None = None,
    prefix_hit_rate: float = 0.0,
    level: float = LEVEL,
) -> Explanation:
    """`explain` under an engine whose kernels the accelerator of the problem has already.

    The intervals rest on its measured errors; without measurements of it on those of the nearest
    name, or of all, and a note says so. Prompts share steps by its rules, or by vLLM's.
    """
    check_level(level)
    requests = requests_of(requests)
    problem, cached = of_requests(problem, requests), cached_of(requests, prefix_hit_rate)
    stated = problem.stated
    partition = checks.one_partition(partition)
    side = _side(problem, partition, stated.convention, stated.rules)
    if partition is None:
        partition = side.stated.records.partition
        batch = scalar(side.stated.parts.step.capacity.batch)
        problem = dataclasses.replace(any_batch(problem)[0], batch=[batch])
    others = list(stated.accountings.items())[1:]
    sides = (side, *(_side(problem, partition, *other) for other in others))
    economy = numbers_at(one_cell(problem).economy, 0)
    case = side.stated
    engine, nearest = nearest_engine(engine)
    device, prompts = stated.accelerators[0].name, {}
    if requests is not None:
        running = {name: one for name, one in side.cases().items() if one.is_feasible}
        asked = (requests, cached, engine, device)
        prompts = {name: alongside(one, *asked) for name, one in running.items()}
    pools = pools_of(problem, requests, cached, engine) if requests and case.is_feasible else None
    notes = tuple(remarks(case.records, case.rules, case.parts.roofs["attention"]))
    notes += (nearest,) if nearest else ()
    notes += tuple(kernels_used(problem))
    return Explanation(
        *(problem, sides, economy, requests, prompts, notes),
        engine=engine,
        level=level,
        cached=cached,
        pools=pools,
    )


@question
def explain(
    problem: Problem,
    partition: Partition | None = None,
    *,
    requests: tuple[float, float] | None = None,
    prefix_hit_rate: float = 0.0,
    level: float = LEVEL,
) -> Explanation:
    """Take one design apart, and look for better ones with as many GPUs.

    An illegal or too large design is no error: the explanation says what it lacks.

    Args:
        problem: one cell: a single model, accelerator, GPU count and context. With an engine its
            kernels run, and prompts share steps by its rules (vLLM's without). With one of `twins`,
            that dense twin is explained. Its batch is that of the design (the largest that fits
            unless given); better ones have any.
        partition: the design; the problem's best one if None. Copies of it fill the GPUs that its
            degrees leave.
        requests: input and output tokens of a request, for prefill beside decode; the context is
            their mean where the problem states none.
        prefix_hit_rate: share of a prompt that is already cached, wherever it is kept.
        level: probability of the intervals of TPOT and throughput.

    Raises:
        ValueError: several cells, a number out of its range, or no partition and nothing runs.

    >>> from qsjax.grid.problem import Problem
    >>> found = explain(Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k"), Partition(tp=4))
    >>> found.stated.is_feasible, int(found.stated.parts.step.replicas)
    (True, 2)
    """
    beside: Any = {"requests": requests, "prefix_hit_rate": prefix_hit_rate, "level": level}
    return explained(problem, partition, problem.engine, **beside)
