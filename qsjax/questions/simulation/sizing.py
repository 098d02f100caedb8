"""The fewest GPUs for a number of users or a rate of requests within limits of latency.

Every partition of every replica size is screened by its step tables (`screening`), the best are
simulated (`searching`), and the winner once more with fresh requests.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qsjax.cost.metrics import Economy, costs, follows_load
from qsjax.engines.rules import Engine
from qsjax.engines.schedulers import Scheduler
from qsjax.grid.cells import label_of, numbers_at
from qsjax.grid.limits import given_limits
from qsjax.grid.problem import Problem, fixed_question, pairs_of
from qsjax.grid.remarks import prices_of
from qsjax.numerics.namespace import ArrayLike
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.output.labels import split_name
from qsjax.output.result import Result, Row, Table, plain, text
from qsjax.questions.simulation.loads import (
    busy_of,
    limits_in_words,
    loads_of,
    notes_of,
    number_of,
    read_demand,
    scheduled,
    scheduler_of,
)
from qsjax.questions.simulation.outcomes import Outcome, equal_replicas, needed_for, row_of
from qsjax.questions.simulation.screening import (
    Asked,
    Option,
    Target,
    cells_of_replica,
    least_replicas,
    options,
)
from qsjax.questions.simulation.searching import fewest
from qsjax.questions.simulation.traffic import Demand, draw_lengths
from qsjax.records.units import MS

# Sizes of a replica that are tried [GPUs].
REPLICA_GPUS = (1, 2, 4, 8, 16)
# Most users without a limit on TTFT: one replica may then have all of them wait, and is simulated.
MOST_QUEUED = 200_000
# Share of the requests in flight above which the answer says how many wait.
MOST_WAITING = 0.25
# Least measured requests in the search and for its winner: with 400 of random arrivals TPOT comes
# out 1 to 4 % below that of a long run, with 200 of users whose answers vary up to 6 % off.
MEASURED, OF_WINNER = 400, 2000
# The search simulates enough requests for this quantile, its winner for the one asked for.
SEARCHED = 0.99


@dataclasses.dataclass(frozen=True, slots=True)
class Sized:
    """The least GPUs of one model on one accelerator.

    Attributes:
        label: model, accelerator and variant.
        economy: price and power.
        option: the partition of a replica; None where no number of GPUs is enough.
        replicas: how many serve.
        outcome: what one attention replica then does with fresh requests.
        busy: mean of the shares of the time in which arithmetic and HBM run.
        binds: limits that one replica less would break, and what it would have [s].
        least: GPUs that the screening asks for; 0 where none do.
        best_ttft: shortest TTFT of any design without load [s].
        best_tpot: shortest TPOT of any design [s].
        screened: designs that hold a request; `simulated` of them were simulated.
        simulated: see there.
    """

    label: Row
    economy: Economy
    option: Option | None
    replicas: int
    outcome: Outcome | None
    busy: float
    binds: Mapping[str, float]
    least: int
    best_ttft: float
    best_tpot: float
    screened: int
    simulated: int

    @property
    def gpus(self) -> int | None:
        """GPUs of all replicas; None where no number is enough."""
        return None if self.option is None else self.replicas * self.option.gpus

    def row(self, target: Target) -> Row:
        """The winner, or that there is none, with the numbers of `row_of`; times in s."""
        row: Row = {
            **self.label,
            "gpus": self.gpus,
            "binds": list(self.binds),
            "gpus_screened": self.least,
            "best_ttft": self.best_ttft,
            "best_tpot": self.best_tpot,
            "designs_screened": self.screened,
            "designs_simulated": self.simulated,
        }
        if self.option is None or self.outcome is None:
            return row
        design = self.option.design | {"replicas": self.replicas}
        count = self.replicas * int(scalar(self.option.records.partition.dp))
        numbers = row_of(
            self.outcome,
            replicas=equal_replicas(self.outcome, count, target.users),
            gpus=float(self.replicas * self.option.gpus),
            ttft=target.ttft,
            tpot=target.tpot,
        )
        if target.rate:
            numbers |= _served(target.rate, self.outcome, self.replicas * self.option.gpus)
            numbers["goodput_per_s"] = target.rate * self.outcome.attained(target.ttft, target.tpot)
        at = {f"{n}_at_quantile": self.outcome.quantile(n, target.quantile)
              for n in ("ttft", "tpot")}  # fmt: skip
        at |= {f"{n}_of_one_less": self.binds.get(n, math.nan) for n in ("ttft", "tpot")}
        # Everything is counted: prompts and answers run on these GPUs.
        price = costs(float(numbers["tokens_per_s_per_gpu"] or 0.0), self.busy, self.economy)
        more = {"busy": self.busy, "power_is_measured": follows_load(self.economy)}
        more["is_moe"] = scalar(self.option.records.model.experts) > 1
        return row | {"replica_gpus": self.option.gpus, **design} | at | numbers | price | more


def _served(rate: float, outcome: Outcome, gpus: int) -> Row:
    """What is served where all that comes at a rate is answered.

    A short run counts too few answers: those to the last requests are still being made.
    """
    tokens = rate * float(np.mean(outcome.traffic.output))
    return {
        "requests_per_s": rate,
        "tokens_per_s": tokens,
        "tokens_per_s_per_gpu": tokens / gpus,
    }


BINDS = {"rate": "the rate"}  # limits that a copy less would break, as people call them


def _serves(row: Row, target: Target, load: str, limits: str) -> str:
    """What so many GPUs do: without a limit on TTFT a replica may serve any few users at a time."""
    s = "s" * (row["gpus"] == 1)
    few = MOST_WAITING * (row["waiting"] + row["decoding"])
    served = f"serve{s} {load} with {limits}"
    if not target.users or math.isfinite(target.ttft) or row["waiting"] <= few:
        return served
    told = f"keep{s} {limits}" if math.isfinite(target.tpot) else served
    waiting = f"{row['waiting']:,.0f}"
    return (
        f"{told}, but of {load} {waiting} wait{'s' * (waiting == '1')} for a first token on "
        "average: give a limit on TTFT to size for them too"
    )


def sentences(row: Row, target: Target, *, pool: str = "") -> list[str]:
    """How many GPUs serve, and what they do then; those of a `pool` without a price of their own.

    A pool of `prefill` makes one token of each prompt.
    """
    title = f"{row['model']} on {row['hardware']}"
    often = target.rate or 0.0
    load = f"{often:{'.3g' if often < 1 else ',g'}} request{'s' * (often != 1)}/s"
    if target.users:
        load = words.count(target.users, "user")
    said = limits_in_words(target.ttft, target.tpot)
    share = f"{100 * target.quantile:g} % of the requests"
    limits = f"{said} for {share}" if said else "no limits"
    if row["gpus"] is None and not row["designs_screened"]:
        return [
            f"{title}: no replica of the sizes tried holds the weights and the longest request; "
            "shorten it or give larger replica_gpus (--replica-gpus)."
        ]
    if row["gpus"] is None:
        return [
            f"{title}: no number of GPUs serves {load} with {limits}. The best that any design "
            f"does without load is TTFT {words.value(row['best_ttft'], 's')} and TPOT "
            f"{words.value(row['best_tpot'], 's')}."
        ]
    total = words.count(row["gpus"], "GPU")
    if row["replica_gpus"] > 1:
        copies = words.count(row["replicas"], "copy").replace("copys", "copies")
        split = words.split(row | {"replicas": 1}, row["is_moe"])
        total += f" ({copies} of {row['replica_gpus']}: {split})"
    times = ", ".join(
        f"{name.upper()} {words.value(row[f'{name}_at_quantile'], 's')}"
        for name in ("ttft", "tpot")
        if math.isfinite(row[f"{name}_at_quantile"])
    )
    had = {name: row.get(f"{name}_of_one_less", math.nan) for name in row["binds"]}
    bound = words.joined(
        BINDS.get(name, name.upper()) + (f" ({words.value(x, 's')})" if math.isfinite(x) else "")
        for name, x in had.items()
    )
    fewer = row["gpus"] - row["replica_gpus"]
    least = f"; {fewer:,.0f} would not keep {bound}" if row["binds"] and fewer else ""
    price = row["usd_per_million_tokens"]
    cost = (
        ""
        if price is None or pool
        else f", {price:,.2f} USD a million output tokens, prompts included"
    )
    made = "prompts/s" if pool == "prefill" else "tokens/s"
    # With a rate asked for, what a sample of arrivals made of it would only confuse.
    rate = "" if target.rate else f"{words.number(row['requests_per_s'])} requests/s, "
    return [
        f"{title}: {total} {_serves(row, target, load, limits)}{least}.",
        f"{share} have at most {times}; {rate}"
        f"{words.number(row['tokens_per_s_per_gpu'])} {made} on each GPU{cost}.",
    ]


# Columns of a table of sizes: heads, and fields as `Sized.row` has them.
SERVED = {"req/s": "requests_per_s"}
MADE = {"tok/s/GPU": "tokens_per_s_per_gpu", "USD/Mtok": "usd_per_million_tokens"}


def table_of(rows: Sequence[Row], names: Sequence[str], numbers: Mapping[str, str]) -> Table:
    """What serves in each row, between columns that name it and further numbers of it."""
    cells = [
        [
            *(row[name] for name in names),
            text(row["gpus"]),
            "-" if row["gpus"] is None else split_name(row),
            *(text(row.get(f"{name}_at_quantile", np.nan) / MS) for name in ("ttft", "tpot")),
            *(text(row.get(name)) for name in numbers.values()),
        ]
        for row in rows
    ]
    return Table("", [*names, "GPUs", "split", "TTFT ms", "TPOT ms", *numbers], cells, len(names))


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Sizing(Result):
    """The fewest GPUs for each model on each accelerator.

    Attributes:
        problem: what was asked.
        target: users or rate, and limits.
        asked: lengths of the requests, engine and sizes of a replica, as they were given.
        sized: one for each model on each accelerator.
    """

    problem: Problem
    target: Target
    asked: Row
    sized: tuple[Sized, ...]

    stem = "size"
    given = ("target",)
    index = ("model", "hardware")

    def lengths(self) -> list[float]:
        """The longest request [tokens]."""
        return [max((one.outcome.longest for one in self.sized if one.outcome), default=0.0)]

    def rows(self) -> list[Row]:
        """One row for each model and accelerator; `gpus` is None where no number is enough."""
        return [one.row(self.target) for one in self.sized]

    def summary(self) -> str:
        """How many GPUs serve, in which replicas, and what one less would break."""
        return "\n".join(line for row in self.rows() for line in sentences(row, self.target))

    def cautions(self) -> list[str]:
        """What else to know before the answer: users who stay in step, odd units."""
        limits = self.target.tpot, self.target.ttft
        return [*Result.cautions(self), *notes_of((one.outcome for one in self.sized), *limits)]

    def tables(self) -> list[Table]:
        """Every model on every accelerator, where there are several."""
        several = [self.rows()] if len(self.sized) > 1 else []
        return [table_of(rows, ("model", "hardware"), SERVED | MADE) for rows in several]

    def remarks(self) -> list[str]:
        """Energy, sources of prices, and how many designs were looked at."""
        energies = [
            f"{row['model']} on {row['hardware']}: {row['joules_per_token']:,.2f} J per output "
            "token, prompts included "
            f"({words.power(row['watts_per_gpu'], is_measured=row['power_is_measured'])})."
            for row in self.rows()
            if row.get("joules_per_token") is not None
        ]
        screened, simulated = (
            sum(getattr(one, name) for one in self.sized) for name in ("screened", "simulated")
        )
        counted = f"{screened:,} designs screened, {simulated:,} simulated."
        return [*energies, *prices_of(self.problem), counted]

    def record(self) -> Row:
        """Rows and target."""
        return Result.record(self) | {"target": self.target._asdict()}


def _target(problem: Problem, loads: Row, limits: Row, quantile: Any) -> Target:
    """The load and the limits.

    Raises:
        ValueError: with everything that is out of range.
    """
    several = {name: loads_of(name, x) for name, x in loads.items() if x is not None}
    for name, values in several.items():
        if len(values) > 1:
            raise ValueError(f"{name}: {len(values)} values were given; size is for one of them")
    given = {name: values[0] for name, values in several.items()}
    problems = []
    if len(given) != 1:
        count = "both are" if given else "none is"
        problems.append(f"  users, rate: {count} given; give one of them: users or requests/s")
    for name, limit in limits.items():
        given[name] = number_of(name, limit, unit="s")
        if given[name] == 0:
            problems.append(f"  {name}: 0 is not allowed; give a number above 0")
    if given.get("users", 0.0) > MOST_QUEUED and math.isinf(given["ttft"]):
        problems.append(
            f"  users: {given['users']:,.0f} may all wait for one replica where TTFT has no limit; "
            f"give a ttft, or at most {MOST_QUEUED:,} users"
        )
    share = number_of("quantile", quantile, 1.0)
    if share in (0.0, 1.0):
        problems.append(
            f"  quantile {share:g} is not allowed; give a share between 0 and 1, such as 0.95"
        )
    if problems:
        raise ValueError("\n".join(["size:", *problems]))
    if given_limits(problem.limits):
        raise ValueError(
            "size takes its limits as ttft and tpot: give these, and a problem without limits"
        )
    return Target(**given, quantile=share)


def _check_answers(target: Target, demand: Demand) -> None:
    answers = draw_lengths(demand.osl, MEASURED, np.random.default_rng(demand.seed))
    if math.isfinite(target.tpot) and answers.max() <= 1:
        raise ValueError(
            "size:\n  tpot: answers of one token have no time between tokens; leave it out, or "
            "give longer answers (osl)"
        )


@fixed_question("looks for the fewest GPUs")
def size(
    problem: Problem,
    *,
    users: float | None = None,
    rate: float | None = None,
    isl: str | float | None = None,
    osl: str | float | None = None,
    ttft: float | str = math.inf,
    tpot: float | str = math.inf,
    quantile: float = 0.95,
    replica_gpus: Sequence[int] = REPLICA_GPUS,
    prefix_hit_rate: float = 0.0,
    think: float | str = 0.0,
    seed: int = 0,
    scheduler: Scheduler | Mapping[str, ArrayLike] | None = None,
) -> Sizing:
    """The fewest GPUs that serve so many users, or such a rate, within limits of latency.

    The answer is whole replicas of one partition. Every partition is screened by its step costs,
    the best are simulated request by request, and the winner once more with others, and more.

    Args:
        problem: models, accelerators, precisions, prices, and the partitions that are allowed
            (`axes`). Its GPU counts, contexts and batches are ignored.
        users: people who each have one request in flight, or think about the next.
        rate: mean arrival rate, at random times (Poisson) [requests/s], in place of users.
        isl: input tokens of a request: a number, a range such as "800-1000", or
            "lognormal:MEDIAN:SIGMA".
        osl: output tokens, likewise.
        ttft: longest time to first token [s].
        tpot: longest mean time between the tokens of a request [s].
        quantile: share of the requests that must keep each limit; enough of them are simulated.
        replica_gpus: sizes of a replica that are tried.
        prefix_hit_rate: share of each prompt that is already cached.
        think: mean time that a user takes from an answer to the next request [s].
        seed: seed of lengths and arrivals.
        scheduler: rules in place of those of the problem's engine, or vLLM's, whole or by name,
            such as `{"budget": 4096}`.

    Raises:
        ValueError: with everything that is out of range.

    >>> from qsjax.grid.problem import Problem
    >>> p = Problem("llama-3.1-8b", "h100-sxm")
    >>> size(p, users=2, isl=500, osl=50, quantile=0.5, replica_gpus=[1]).rows()[0]["gpus"]
    1
    """
    loads, limits = {"users": users, "rate": rate}, {"ttft": ttft, "tpot": tpot}
    target = _target(problem, loads, limits, quantile)
    given = Demand(isl, osl, prefix_hit_rate, think=think, seed=seed)  # type: ignore[arg-type]  # read
    demand = read_demand(given)
    _check_answers(target, demand)
    sizes = [int(count) for count in loads_of("replica_gpus", replica_gpus)]
    engine = scheduled(problem)
    rules = (engine, scheduler)
    sized = tuple(_sized(problem, at, rules, demand, target, sizes) for at in pairs_of(problem))
    asked = {"engine": engine, "scheduler": plain(scheduler), "replica_gpus": sizes}
    return Sizing(problem, target, plain(demand) | asked, sized)


def _sized(
    problem: Problem,
    at: tuple[int, int],
    rules_of: tuple[Engine, Any],
    demand: Demand,
    target: Target,
    replica_gpus: Sequence[int],
) -> Sized:
    asked = Asked(scheduler_of(*rules_of, problem.stated.accelerators[at[1]]), demand, target)
    candidates = options(problem, at, asked, replica_gpus)
    few = max(needed_for(min(target.quantile, SEARCHED)), MEASURED)
    many = max(needed_for(target.quantile), OF_WINNER)
    winner, simulated = fewest(candidates, asked, few, many)
    option, replicas, outcome, binds = winner or (None, 0, None, {})
    busy = 0.0
    if option is not None and outcome is not None:
        each = replicas * scalar(option.records.partition.dp)
        rate = target.rate / each if target.rate else outcome.requests_per_s
        busy = busy_of(option.records, problem.stated.rules_of(*at), outcome, rate)
    least = min((x.gpus * least_replicas(x, target) for x in candidates), default=math.inf)
    one = cells_of_replica(problem, at, replica_gpus[0], 1.0)
    return Sized(
        label=label_of(one),
        economy=numbers_at(one.economy, 0),
        option=option,
        replicas=replicas,
        outcome=outcome,
        busy=busy,
        binds=binds,
        least=int(least) if math.isfinite(least) else 0,
        best_ttft=min((x.ttft for x in candidates), default=math.nan),
        best_tpot=min((x.tpot for x in candidates), default=math.nan),
        screened=len(candidates),
        simulated=simulated,
    )
