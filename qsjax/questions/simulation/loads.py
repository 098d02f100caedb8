"""One design under several loads: the curve of latency against users or rate, and its end."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import StepCost, evaluate
from qsjax.cost.disaggregation import busy_seconds
from qsjax.cost.feasibility import REASONS
from qsjax.engines.rules import Engine
from qsjax.engines.schedulers import Scheduler, check_scheduler, default_scheduler
from qsjax.grid.case import best_partition, records_at
from qsjax.grid.cells import Cells, label_of, one_cell
from qsjax.grid.problem import Problem, fixed_question, pairs_of, with_batch
from qsjax.grid.remarks import long_limits
from qsjax.grid.served import Accelerator
from qsjax.grid.solution import degrees_of
from qsjax.numerics.namespace import ArrayLike
from qsjax.numerics.safe import scalar
from qsjax.output import files, sheets, words
from qsjax.output.labels import split_name
from qsjax.output.result import Drawing, Result, Row, Table, flat, plain
from qsjax.questions.simulation.outcomes import Outcome, equal_replicas, row_of
from qsjax.questions.simulation.serving import deploy, largest_rate, with_traffic
from qsjax.questions.simulation.serving import simulate as run
from qsjax.questions.simulation.traffic import (
    LENGTH,
    Demand,
    Traffic,
    dealt,
    draw_lengths,
    read_trace,
    traffic_of,
)
from qsjax.records import checks
from qsjax.records.conversion import NoNumberError, as_float64, kind_of, rate_of_text
from qsjax.records.specs import Convention, Partition, Records
from qsjax.records.units import MS

# Share of the requests that keep their limits, from which on a load counts as served within them.
MOST_KEPT = 0.95
# Requests of a run unless stated: so many, doubled until there are so many of each user.
REQUESTS, OF_A_USER = 1000, 5
# Up to this factor the first half of a run may wait longer than the second: draws differ so.
SETTLED = 1.25
# Requests of each user from which on a round is measured: the first and the last are not.
ROUNDS = 3


class Load(NamedTuple):
    """A design under one load.

    Attributes:
        load: users, or requests/s of the whole deployment.
        outcome: of the attention replica that was simulated.
    """

    load: float
    outcome: Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """One design under its loads.

    Attributes:
        label: model, accelerator, variant, GPUs and degrees.
        loads: in the order in which they were given.
        gpus: of the whole deployment.
        replicas: attention replicas of it.
        largest_rate: requests/s of the deployment when it never waits for any.
    """

    label: Row
    loads: tuple[Load, ...]
    gpus: float
    replicas: int
    largest_rate: float

    @property
    def name(self) -> str:
        """The design in words."""
        split = f" ({split_name(self.label)})" if self.gpus > 1 else ""
        return f"{self.label['model']} on {self.gpus:,.0f} {self.label['hardware']}{split}"


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.1f}"


def _ms(seconds: float) -> str:
    return words.value(seconds, "s") if math.isfinite(seconds) else "-"


def limits_in_words(ttft: float, tpot: float) -> str:
    """The limits that were given, in words; "" without one.

    >>> limits_in_words(2.0, 0.05), limits_in_words(math.inf, math.inf)
    ('TTFT <= 2 s and TPOT <= 50 ms', '')
    """
    limits = {"TTFT": ttft, "TPOT": tpot}
    given = [f"{n} <= {words.value(x, 's')}" for n, x in limits.items() if math.isfinite(x)]
    return " and ".join(given)


def notes_of(outcomes: Iterable[Outcome | None], tpot: float, ttft: float) -> list[str]:
    """Limits [s] in odd units; what (nearly) equal answers do to users who never pause."""
    odd = [f"Note: {line}" for line in long_limits(tpot, ttft)]
    loops = [one for one in outcomes if one and one.traffic.users > 1]
    osl = max((one.traffic.output[0] for one in loops if one.is_in_step), default=0)
    if osl:
        return [
            *odd,
            "Note: all answers are equally long and nobody pauses, so users stay in step, as in a "
            "benchmark, and their first tokens wait for each other. With lengths that vary, such "
            f"as {0.9 * osl:.0f}-{1.1 * osl:.0f} for osl, or pauses (think) the answer may differ "
            "much.",
        ]
    halves = (one.settling for one in loops)
    early, late = max(halves, key=lambda half: half[0] / half[1], default=(0.0, 0.0))
    if early > SETTLED * late:
        odd.append(
            "Note: users begin in step, and answers of nearly one length part them slowly: first "
            f"tokens take {words.value(early, 's')} in the first half of the run and "
            f"{words.value(late, 's')} in the second. More requests tell what lasts."
        )
    return odd


def _short(one: Load) -> str:
    """What to give where a deployment still fills while the measured requests come; or ""."""
    users, count = int(one.outcome.traffic.users), len(one.outcome.arrival)
    if users and count >= ROUNDS * users:
        return ""
    if users:
        return (
            f"At {one.load:g} users {words.count(count, 'request')} on a replica leave no time in "
            f"which all its users are served; give {OF_A_USER * users:,} requests."
        )
    (begin, end), took = one.outcome.came, one.outcome.mean("e2e")
    if end - begin >= 2.0 * took:
        return ""
    return (
        f"At {one.load:g} requests/s the measured requests come within "
        f"{words.value(end - begin, 's')}, and one takes {words.value(took, 's')}: the deployment "
        f"still fills; give {words.number(5.0 * one.load * took)} requests."
    )


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Simulation(Result):
    """Deployments under load.

    Attributes:
        problem: what was asked.
        unit: of the loads: "users" or "req/s".
        asked: lengths, number and source of the requests, limits and engine, as they were given.
        served: the design on each model and accelerator.
    """

    problem: Problem
    unit: str
    asked: Row
    served: tuple[Served, ...]

    stem = "simulate"
    index = ("model", "hardware", "load")

    def lengths(self) -> list[float]:
        """The longest request [tokens]."""
        return [max(one.outcome.longest for served in self.served for one in served.loads)]

    def cautions(self) -> list[str]:
        """What else to know before the answer: users who stay in step, odd units."""
        outcomes = (one.outcome for served in self.served for one in served.loads)
        limits = self.asked["tpot"], self.asked["ttft"]
        return [*Result.cautions(self), *notes_of(outcomes, *limits)]

    def remarks(self) -> list[str]:
        """Loads that a design does not sustain, and what would; runs that are too short."""
        is_rated = self.unit == "req/s"
        loads = [
            (one, served.largest_rate if is_rated else math.inf)
            for served in self.served
            for one in served.loads
        ]
        sustained = [one for one, most in loads if "requests" in self.asked and one.load <= most]
        return [
            *filter(None, map(_short, sustained)),
            *(
                f"{one.load:g} requests/s are more than the {most:.3g} that this design sustains: "
                "the queue grows without end, and its times say how long the run was; "
                f"{math.ceil(one.load / most)} of it would do."
                for one, most in loads
                if most < one.load < math.inf
            ),
        ]

    def tables(self) -> list[Table]:
        """One row for each load: rates, quantiles of latency, what waits and what runs."""
        several = len(self.served) > 1
        load = "users" if self.unit == "users" else "load req/s"
        first = ["design", load] if several else [load]
        times = ("ttft_p50", "ttft_p95", "tpot_p50", "tpot_p95", "itl_p95", "e2e_p50")
        heads = [f"{name.partition('_')[0].upper()} {name[-3:]} ms" for name in times]
        heads = ["req/s", "tok/s/GPU", *heads, "waiting", "decoding", "kept", "evicted"]
        cells = [
            [
                *([f"{row['model']} on {row['hardware']}"] if several else []),
                f"{row['load']:g}",
                words.number(row["requests_per_s"]),
                words.number(row["tokens_per_s_per_gpu"]),
                *(_number(None if row[name] is None else row[name] / MS) for name in times),
                _number(row["waiting"]),
                _number(row["decoding"]),
                f"{row['attained']:.1%}",
                f"{row['evictions']:,}",
            ]
            for row in self.rows()
        ]
        return [Table("", [*first, *heads], cells, len(first))]

    def rows(self) -> list[Row]:
        """One row for each load of each design; times in s, None for quantiles of too few."""
        limits = {name: self.asked[name] for name in ("ttft", "tpot")}
        return [
            served.label
            | {"load": one.load, "load_unit": self.unit}
            | row_of(one.outcome, replicas=alike, gpus=served.gpus, **limits)
            for served in self.served
            for one in served.loads
            for alike in [equal_replicas(one.outcome, served.replicas, one.load)]
        ]

    @property
    def requests(self) -> list[Row]:
        """One row for each simulated request of each load; times in s."""
        return [
            {
                **{name: served.label[name] for name in ("model", "hardware")},
                "load": one.load,
                "arrival": float(seen.arrival[at]),
                "isl": float(seen.traffic.prompt[at]),
                "osl": float(seen.traffic.output[at]),
                "first_token": float(seen.first[at]),
                "finish": float(seen.finish[at]),
                "is_measured": bool(seen.measured[at]),
            }
            for served in self.served
            for one in served.loads
            for seen in [one.outcome]
            for at in range(len(seen.arrival))
        ]

    def summary(self) -> str:
        """Where each design keeps its limits, and what it does at its lowest and highest load."""
        lines = []
        for served in self.served:
            ends = sorted(served.loads, key=lambda one: one.load)
            lines += self._kept(served, ends)
            for one in ends[:1] + ends[1:][-1:]:
                shares, tpot = one.outcome.shares, one.outcome.mean("tpot")
                unit = "user" if (one.load, self.unit) == (1.0, "users") else self.unit
                load = f"at {one.load:g} {unit}" if one.load < math.inf else "with all at once"
                then = "" if math.isnan(tpot) else f", then one every {_ms(tpot)}"
                alike = equal_replicas(one.outcome, served.replicas, one.load)
                rate = alike * one.outcome.requests_per_s
                lines.append(
                    f"{served.name} {load}: first token after {_ms(one.outcome.mean('ttft'))}"
                    f"{then} on average; {words.number(rate)} requests/s; time: "
                    f"{shares['prompts']:.0%} in steps with prompts, {shares['decode']:.0%} in "
                    f"decode steps, {shares['idle']:.0%} idle."
                )
        return "\n".join(lines)

    def _kept(self, served: Served, loads: list[Load]) -> list[str]:
        """Shares that keep the limits at the highest load that most do, and at the next one."""
        limits = {name: self.asked[name] for name in ("ttft", "tpot")}
        if not (said := limits_in_words(**limits)):
            return []
        shares = [one.outcome.attained(**limits) for one in loads]
        at = max((n for n, share in enumerate(shares) if share >= MOST_KEPT), default=0)
        places = [f" at {one.load:g} {self.unit}" * (len(loads) > 1) for one in loads]
        first = f"{shares[at]:.0%} of the requests keep {said}{places[at]}"
        then = [f", {shares[n]:.0%}{places[n]}" for n in range(at + 1, len(loads))][:1]
        return [f"{served.name}: {''.join([first, *then])}."]

    def record(self) -> Row:
        """Rows, and what each design sustains."""
        largest = [{**served.label, "largest_rate": served.largest_rate} for served in self.served]
        return {"notes": self.remarks(), "loads": self.rows(), "sustained": largest}

    def drawings(self) -> dict[str, Drawing]:
        """Latency against load of each design; none of a single load."""
        from functools import partial

        from qsjax import plotting

        several = len(self.served) > 1
        drawings: dict[str, Drawing] = {}
        for served in self.served:
            part = [row for row in self.rows() if served.label.items() <= row.items()]
            if len(part) > 1:
                place = f"-{served.label['model']}-{served.label['hardware']}" if several else ""
                title = f"{served.name} sustains {served.largest_rate:.3g} requests/s"
                draw = partial(plotting.latency_against_load, part, title=title)
                drawings[f"latency_against_load{place}"] = draw
        return drawings

    def more_files(self) -> dict[str, str]:
        """The requests one by one."""
        return {"requests.csv": files.csv_text([flat(row) for row in self.requests])}


def step_of_one(records: Records, convention: Convention) -> StepCost:
    """The step of a design with one short sequence.

    Raises:
        ValueError: it cannot run, with every reason.
    """
    work = dataclasses.replace(records.workload, context=1.0, batch=1.0)
    step = evaluate(records._replace(workload=work), convention)
    bits = int(np.asarray(step.reasons))
    broken = [f"  {text}" for text, bit in REASONS.items() if bits & bit]
    if broken:
        hint = "`qsjax explain` says what is missing"
        raise ValueError("\n".join([f"the design cannot run ({hint}):", *broken]))
    return step


def busy_of(records: Records, convention: Convention, outcome: Outcome, rate: float) -> float:
    """Mean of the shares of the time in which arithmetic and HBM of a GPU run, at a rate [1/s].

    By the laws, at the mean number of decoding sequences and their mean context; prompts that
    share a step with answers count as passes of their own, so it is at most 1.
    """
    work = outcome.traffic
    prompt, missing, output = (
        float(np.mean(x[outcome.measured]))
        for x in (work.prompt, work.prompt - work.cached, work.output)
    )
    batch = max(1.0, outcome.in_flight["decoding"])
    workload = dataclasses.replace(records.workload, context=prompt + 0.5 * output, batch=batch)
    busy = busy_seconds(records._replace(workload=workload), missing, output, convention)
    return min(1.0, busy * rate)


def scheduled(problem: Problem) -> Engine:
    """The engine whose scheduler is followed: the problem's, or vLLM."""
    engine: Any = problem.engine or "vllm"
    return engine


def scheduler_of(
    engine: Engine, scheduler: Scheduler | Mapping[str, ArrayLike] | None, device: Accelerator
) -> Scheduler:
    """The rules of an engine on an accelerator, with what is given in place of them.

    Raises:
        ValueError: with every rule that is unknown or out of its range.
    """
    if not isinstance(scheduler, Scheduler | Mapping | None):
        kind = kind_of(scheduler)
        raise ValueError(f'scheduler: {kind} was given; give rules by name: {{"budget": 4096}}')
    if not isinstance(scheduler, Scheduler):
        given: dict[str, Any] = dict(scheduler or {})
        checks.check_names("scheduler", given, [f.name for f in dataclasses.fields(Scheduler)])
        shipped = default_scheduler(engine, scalar(device.spec.hbm_bytes), device.name)
        scheduler = dataclasses.replace(shipped, **given)
    check_scheduler(scheduler)
    return scheduler


def _records(cells: Cells, partition: Partition | None) -> Records:
    """The design of a cell, the best one if none is stated."""
    if partition := checks.one_partition(partition):
        records = records_at(cells, 0, partition)
        checks.check_partition(partition, records.model)
        return records
    best = best_partition(cells)
    if best is None:
        raise ValueError(
            f"{cells.model.name} on {cells.inputs.gpus[0]:g} {cells.hardware.name}: no design "
            "holds a request of mean length; give more GPUs, or ask explore what is in the way"
        )
    return records_at(cells, 0, best)


def number_of(
    name: str,
    given: Any,
    most: float = math.inf,
    *,
    least: float = 0.0,
    unit: str = "1",
    whole: bool = False,
) -> float:
    """A number of the user's, from `least` to `most`; a time may be a text with its unit.

    Raises:
        ValueError: it is none, or another one.
    """
    try:
        number = as_float64(given, unit)
    except NoNumberError as error:
        raise ValueError(f"{name}: {error}; give a number") from error
    if np.ndim(number) or not least <= number <= most or (whole and number % 1 != 0):
        end = f" to {most:g}" if most < math.inf else " on"
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name}: {given} is not allowed; give one {kind} from {least:g}{end}")
    return float(number)


def _rates(given: Any) -> Any:
    """Rates a second: those of texts may have a unit, as `120/min` has."""
    if isinstance(given, list | tuple):
        return [_rates(rate) for rate in given]
    if not isinstance(given, str):
        return given
    read = [rate_of_text(part) for part in given.split(",")]
    rates = [as_float64(number, "users") / seconds for number, seconds in read]
    return rates if len(rates) > 1 else rates[0]


def loads_of(name: str, given: Any) -> list[float]:
    """Users or rates, one or several.

    Raises:
        ValueError: one is no number above 0.
    """
    try:
        # Users are people, of whom 5k are no 5,120.
        given = _rates(given) if name == "rate" else given
        loads = [float(x) for x in np.ravel(as_float64(given, "users"))]
    except NoNumberError as error:
        raise ValueError(f"{name}: {error}; give a number above 0, or several") from error
    wrong = [x for x in loads if not 0 < x < math.inf or (name == "users" and x != int(x))]
    if wrong or not loads:
        shown = ", ".join(f"{x:g}" for x in wrong) or "nothing"
        kind = "whole numbers" if name == "users" else "numbers"
        raise ValueError(f"{name}: {shown} is not allowed; give {kind} above 0")
    return loads


def _trace(given: Any) -> Traffic:
    if isinstance(given, Traffic):
        return given
    if (table := sheets.text_of(given, "trace")) is None:
        raise ValueError(
            f"trace: {kind_of(given)} was given; give a CSV file, its text or a data frame with "
            "the columns arrival [s], isl and osl"
        )
    return read_trace(*table)


class _Work(NamedTuple):
    """What is served: requests of some lengths at several loads, or those of a trace."""

    demand: Demand | None
    trace: Traffic | None
    loads: dict[str, list[float]]
    is_counted: bool  # whether the number of requests was stated


def _named(work: _Work, replicas: int) -> list[tuple[float, Traffic]]:
    """Loads with the requests of one of the replicas."""
    demand, trace, given, is_counted = work
    if trace is not None:
        span = float(trace.arrival[-1])
        rate = len(trace.arrival) / span if span > 0 else math.inf
        return [(rate, dealt(trace, replicas) if replicas > 1 else trace)]
    assert demand is not None
    few = [f"{users:g}" for users in given.get("users") or () if users < replicas]
    if few:
        raise ValueError(
            f"users: {', '.join(few)} leave some of the {replicas} attention replicas (dp times "
            f"copies) without a request; give at least {replicas}, or a smaller dp or fewer GPUs"
        )
    most = math.ceil(max(given.get("users") or [0.0]) / replicas)
    if not is_counted and most:
        doubled = max(0, math.ceil(math.log2(OF_A_USER * most / REQUESTS)))
        demand = demand._replace(requests=REQUESTS * 2**doubled)
    return [
        (load, traffic_of(demand, **{name: load}, replicas=replicas))
        for name, loads in given.items()
        for load in loads
    ]


@fixed_question("takes the one deployment that is stated")
def simulate(
    problem: Problem,
    partition: Partition | None = None,
    *,
    users: Any = None,
    rate: Any = None,
    trace: Any = None,
    isl: str | float | None = None,
    osl: str | float | None = None,
    prefix_hit_rate: float = 0.0,
    think: float | str = 0.0,
    requests: int | None = None,
    seed: int = 0,
    ttft: float | str = math.inf,
    tpot: float | str = math.inf,
    scheduler: Scheduler | Mapping[str, ArrayLike] | None = None,
) -> Simulation:
    """One design under load, request by request: queues, quantiles of latency, evictions.

    Attention replicas (`dp`, copies) are dealt equal shares; the one with the most users is
    simulated. A tenth of the requests at each end is not measured.

    Args:
        problem: one cell for each of its models and accelerators. Copies of the design fill the
            GPUs that its degrees leave. Contexts and batches are ignored: requests have their own.
        partition: the design; the best one at the mean length of the requests if None.
        users: requests in flight, one number or several.
        rate: mean arrival rate, at random times (Poisson) [requests/s], likewise.
        trace: a CSV file, its text or a data frame with the columns arrival [s], isl, osl and
            optionally cached.
        isl: input tokens of a request: a number, a range such as "800-1000", or
            "lognormal:MEDIAN:SIGMA".
        osl: output tokens, likewise.
        prefix_hit_rate: share of each prompt that is already cached.
        think: mean time that a user takes from an answer to the next request [s].
        requests: how many are simulated; if None 1,000, doubled until there are five of each user.
        seed: seed of lengths and arrivals.
        ttft: longest time to first token [s]; `attained` is the share of requests that keep it.
        tpot: longest mean time between the tokens of a request, likewise [s].
        scheduler: rules in place of those of the problem's engine, or vLLM's, whole or by name,
            such as `{"budget": 4096}`.

    Raises:
        ValueError: with everything that is out of range or cannot run.

    >>> from qsjax.grid.problem import Problem
    >>> one = Problem("llama-3.1-8b", "h100-sxm", gpus=1)
    >>> found = simulate(one, Partition(), users=[1, 4], isl=500, osl=20, requests=60)
    >>> [row["load"] for row in found.rows()]
    [1.0, 4.0]
    """
    count = REQUESTS if requests is None else requests
    demand = Demand(isl, osl, prefix_hit_rate, count, think, seed)  # type: ignore[arg-type]  # read below
    work = _work({"users": users, "rate": rate, "trace": trace}, demand, requests is not None)
    rules = (scheduled(problem), scheduler)
    served = tuple(_served(problem, at, partition, rules, work) for at in pairs_of(problem))
    asked = {"engine": rules[0], "scheduler": plain(scheduler)}
    asked |= {name: number_of(name, x, unit="s") for name, x in (("ttft", ttft), ("tpot", tpot))}
    unit = "users" if users is not None else "req/s"
    return Simulation(problem, unit, {**(plain(work.demand) or {}), **work.loads, **asked}, served)


def _work(given: Row, demand: Demand, is_counted: bool) -> _Work:
    asked = [name for name, value in given.items() if value is not None]
    if len(asked) != 1:
        raise ValueError("give exactly one of users, rate and trace")
    if given["trace"] is None:
        loads = {n: loads_of(n, given[n]) for n in asked}
        return _Work(read_demand(demand), None, loads, is_counted)
    if demand.isl is not None or demand.osl is not None:
        raise ValueError("a trace states the lengths of its requests; leave isl and osl out")
    return _Work(None, _trace(given["trace"]), {}, is_counted)


def read_demand(given: Demand) -> Demand:
    """The requests that a user asks for, with their numbers read.

    Raises:
        ValueError: a length is missing, or a number is none or out of its range.
    """
    missing = [name for name in ("isl", "osl") if getattr(given, name) is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must say how long requests are: {LENGTH}")
    return given._replace(
        prefix_hit_rate=number_of("prefix_hit_rate", given.prefix_hit_rate),
        requests=int(number_of("requests", given.requests, least=1.0, whole=True)),
        think=number_of("think", given.think, unit="s"),
        seed=int(number_of("seed", given.seed, whole=True)),
    )


def _mean_context(work: _Work) -> float:
    demand, trace = work.demand, work.trace
    if trace is None:
        assert demand is not None
        rng = np.random.default_rng(demand.seed)
        prompt, output = (draw_lengths(spec, 1000, rng) for spec in (demand.isl, demand.osl))
    else:
        prompt, output = trace.prompt, trace.output
    return float(np.rint(prompt.mean() + 0.5 * output.mean()))


def _served(
    problem: Problem,
    at: tuple[int, int],
    partition: Partition | None,
    rules: tuple[Engine, Any],
    requests: _Work,
) -> Served:
    """The design on one model and accelerator under its loads."""
    cells = one_cell(with_batch(problem, None, context=_mean_context(requests)), *at)
    convention = problem.stated.rules_of(*at)
    records = _records(cells, partition)
    step = step_of_one(records, convention)
    copies, dp = scalar(step.replicas), scalar(records.partition.dp)
    replicas = int(dp * copies)
    named = _named(requests, replicas)
    longest = max((work for _, work in named), key=lambda w: float(np.max(w.prompt + w.output)))
    scheduler = scheduler_of(*rules, cells.hardware)
    one = deploy(records._replace(gpus=None), convention, scheduler, longest)
    outcomes = run([with_traffic(one, work) for _, work in named])
    label = label_of(cells) | {"gpus": int(scalar(step.gpus))}
    return Served(
        label | degrees_of(records.partition) | {"replicas": int(copies)},
        tuple(Load(load, seen) for (load, _), seen in zip(named, outcomes, strict=True)),
        scalar(step.gpus),
        replicas,
        replicas * largest_rate(one),
    )
