"""The fewest replicas that keep the limits, by simulations of the designs that may need fewest.

Designs are tried in the order of what the screening asks for, several numbers of replicas of each
at a time, until none that is left could need fewer GPUs than the best so far.
"""

import math
from typing import NamedTuple

import numpy as np

from qsjax.numerics.safe import scalar
from qsjax.questions.simulation.events import Lane
from qsjax.questions.simulation.outcomes import CUT, Outcome
from qsjax.questions.simulation.screening import Asked, Option, Target, for_replica, least_replicas
from qsjax.questions.simulation.serving import FOR_FEW, most_at_once, simulate
from qsjax.questions.simulation.traffic import met_midway, traffic_of

# Designs simulated at a time, numbers of replicas of each in a round, and rounds at most.
DESIGNS, LEVELS, ROUNDS = 12, 8, 6
MOST_REPLICAS = 1_000_000
# Share of the GPUs that the screening asks for below which no fewer are tried.
TRUST = 0.9
# Searches at most, where the winner of one needs more replicas than it seemed.
TURNS = 4


def _deployment(option: Option, asked: Asked, replicas: int) -> Lane:
    rules, demand, target, measured = for_replica(asked, option.records)
    count = replicas * int(scalar(option.records.partition.dp))
    requests = requests_for(measured, math.ceil((target.users or 0.0) / count))
    demand = demand._replace(requests=requests)
    work = traffic_of(demand, users=target.users, rate=target.rate, replicas=count)
    one = Lane(option.table, rules, work)
    return one._replace(traffic=met_midway(work, most_at_once(one), demand.seed))


def broken(outcome: Outcome, target: Target) -> dict[str, float]:
    """Limits that more than the allowed share of the requests misses, and what they have [s]."""
    limits = {"ttft": target.ttft, "tpot": target.tpot}
    had = {name: outcome.quantile(name, target.quantile) for name in limits}
    missed = {name: had[name] for name in limits if had[name] > limits[name] * (1.0 + 1e-12)}
    if target.rate is not None and _falls_behind(outcome):
        missed["rate"] = math.nan
    return missed


def _falls_behind(outcome: Outcome) -> bool:
    """Whether more requests come than are served: the last ones wait far longer than the first."""
    wait = (outcome.first - outcome.arrival)[outcome.measured]
    third = max(1, len(wait) // 3)
    grows = wait[-third:].mean() - wait[:third].mean()
    return bool(grows > 0.1 * (outcome.arrival[-1] - outcome.arrival[0]))


class _Bracket(NamedTuple):
    """Numbers of replicas between which the least lies: `low` is not enough, `high` is."""

    option: Option
    low: int
    high: float


def _levels(bracket: _Bracket, most: int) -> list[int]:
    """Numbers of replicas to try between the ends."""
    high = int(min(bracket.high - 1, most))
    if high <= bracket.low:
        return []
    if high - bracket.low <= LEVELS:
        return list(range(bracket.low + 1, high + 1))
    if math.isfinite(bracket.high):
        return sorted({int(x) for x in np.rint(np.linspace(bracket.low + 1, high, LEVELS))})
    ahead = bracket.low + 1 + np.append(0, 2 ** np.arange(LEVELS - 2)) * max(1, bracket.low // 8)
    return sorted({*(int(x) for x in ahead if x < high), high})


def _simulated(deployments: list[Lane]) -> list[Outcome]:
    """Outcomes of deployments, few or many, by the same programs."""
    return simulate(deployments, FOR_FEW.lanes)


def _tighten(brackets: list[_Bracket], asked: Asked, best: float) -> list[_Bracket]:
    """One round: every bracket at several levels, all simulated together."""
    tries, target = [], asked.target
    for place, bracket in enumerate(brackets):
        most = int(min(_most(bracket.option, target), (best - 1) // bracket.option.gpus))
        tries += [(place, level) for level in _levels(bracket, most)]
    outcomes = _simulated([_deployment(brackets[at].option, asked, n) for at, n in tries])
    out = list(brackets)
    for (place, level), outcome in zip(tries, outcomes, strict=True):
        one = out[place]
        if broken(outcome, target):
            out[place] = one._replace(low=max(one.low, level))
        else:
            out[place] = one._replace(high=min(one.high, level))
    # More replicas are not worse: a level that failed above one that passed was bad luck.
    return [one._replace(low=min(one.low, int(min(one.high - 1, 1e18)))) for one in out]


def _most(option: Option, target: Target) -> int:
    """Replicas beyond which none carries less: one user each, or hardly any load."""
    if target.users is not None:
        return math.ceil(target.users / int(scalar(option.records.partition.dp)))
    return int(min(MOST_REPLICAS, 64.0 * least_replicas(option, target)))


def search(
    candidates: list[Option], asked: Asked, below: float = math.inf
) -> tuple[Option | None, int, int]:
    """The option and replicas with the fewest GPUs, and how many options were simulated.

    The option is None where none of the candidates serves on fewer GPUs than `below`.
    """
    target = asked.target

    def screened(option: Option) -> float:
        return option.gpus * least_replicas(option, target)

    def at_best(option: Option) -> float:
        return option.gpus * math.ceil(TRUST * least_replicas(option, target))

    order = sorted((x for x in candidates if math.isfinite(screened(x))),
                   key=lambda x: (screened(x), x.gpus, x.ttft))  # fmt: skip
    best = below
    winner, replicas, simulated = None, 0, 0
    for begin in range(0, len(order), DESIGNS):
        tried = [x for x in order[begin : begin + DESIGNS] if at_best(x) < best]
        if not tried:
            continue
        simulated += len(tried)
        brackets = [_Bracket(x, int(at_best(x)) // x.gpus - 1, math.inf) for x in tried]
        for _ in range(ROUNDS):
            brackets = _tighten(brackets, asked, best)
            for one in brackets:
                if one.option.gpus * one.high < best:
                    best, winner = one.option.gpus * one.high, one.option
                    replicas = int(one.high)
            brackets = [
                x
                for x in brackets
                if (x.low + 1) * x.option.gpus < best and _levels(x, _most(x.option, target))
            ]
            if not brackets:
                break
    return winner, replicas, simulated


def requests_for(measured: int, users: int) -> int:
    """Requests of a simulation in which so many are measured, with so many users of a replica.

    All first and last ones of the users are left out. Their number is rounded up to a power of two,
    so that deployments of few lengths run side by side.

    >>> requests_for(400, 0), requests_for(400, 100)
    (502, 658)
    """
    cut = 2.0 ** math.ceil(math.log2(users)) if users else 0.0
    return math.ceil(max(measured / (1.0 - 2.0 * CUT), measured + 2.0 * cut)) + 2


def fewest(
    candidates: list[Option], asked: Asked, few: int, many: int
) -> tuple[tuple[Option, int, Outcome, dict[str, float]] | None, int]:
    """What needs the fewest GPUs by `many` requests it was not chosen by, and designs simulated.

    A design that `few` requests flatter may need more replicas than they say. Others may then need
    fewer GPUs than it: they are searched by the requests that showed it.
    """
    left, best, below, simulated = list(candidates), None, math.inf, 0
    chosen_by = asked._replace(measured=few)
    for turn in range(TURNS):
        option, replicas, more = search(left, chosen_by, below)
        simulated += more
        if option is None:
            break
        demand = asked.demand._replace(seed=asked.demand.seed + 1 + turn)
        fresh = asked._replace(demand=demand, measured=many)
        confirmed, outcome, binds = confirm(option, fresh, replicas)
        if confirmed * option.gpus < below:
            best, below = (option, confirmed, outcome, binds), confirmed * option.gpus
        if confirmed <= replicas:
            break
        left = [x for x in left if x is not option]
        chosen_by = fresh
    return best, simulated


def confirm(option: Option, asked: Asked, replicas: int) -> tuple[int, Outcome, dict[str, float]]:
    """The fewest replicas near these that keep the limits, and what one less would break."""
    target, most = asked.target, _most(option, asked.target)
    seen: dict[int, Outcome] = {}
    while True:
        new = [n for n in (replicas - 1, replicas) if n > 0 and n not in seen]
        seen |= dict(
            zip(new, _simulated([_deployment(option, asked, n) for n in new]), strict=True)
        )
        less = broken(seen[replicas - 1], target) if replicas > 1 else {}
        if broken(seen[replicas], target) and replicas < most:
            replicas += 1
        elif replicas > 1 and not less:
            replicas -= 1
        else:
            return replicas, seen[replicas], less
