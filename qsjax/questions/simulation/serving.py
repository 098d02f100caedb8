"""Lanes with their requests, simulated together: from records to outcomes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qsjax.engines.schedulers import Scheduler, check_scheduler, of_replica, sharing
from qsjax.grid.progress import over
from qsjax.numerics.jax import jax
from qsjax.numerics.namespace import xp
from qsjax.numerics.safe import scalar
from qsjax.questions.simulation import events
from qsjax.questions.simulation.events import Lane
from qsjax.questions.simulation.outcomes import Outcome, cut_of
from qsjax.questions.simulation.steps import StepTable, step_table
from qsjax.questions.simulation.traffic import Traffic
from qsjax.records.rows import grouped
from qsjax.records.specs import Convention, Records

# Lanes that run side by side: few, so that the slowest holds up no others, or where there are
# many, so that the vectors are full.
FEW_LANES, LANES, MANY = 8, 256, 128
ITERATIONS = 256  # events between two looks at whether all are done
FEWEST_SLOTS, FEWEST_REQUESTS = 64, 1024
# Requests of the run without pauses that tells the largest rate.
SATURATING = 400
# An iteration in which nothing happens, by the fields of `Event`.
_NOTHING = (0.0, -1, -1, False, False, *(0.0,) * 8)


def deploy(
    records: Records, convention: Convention, scheduler: Scheduler, traffic: Traffic
) -> Lane:
    """An attention replica of a design, with requests of its own.

    Replicas of one design (`dp`) that share their experts run in step; the others are taken to
    carry the same load, as in the law of a decode step.

    Args:
        records: the design; context and batch of the workload are not looked at.
        convention: accounting.
        scheduler: rules of its engine.
        traffic: the requests of one replica.

    Raises:
        ValueError: rules out of range, or requests that the cache does not hold.
    """
    check_scheduler(scheduler)
    scheduler = of_replica(scheduler, sharing(records.model, records.partition))
    table = step_table(records, convention, lengths_of(traffic), scheduler)
    check_fits(table, traffic)
    return Lane(table, scheduler, traffic)


def lengths_of(traffic: Traffic) -> tuple[float, float]:
    """The mean prompt, and the longest context [tokens]."""
    return float(np.mean(traffic.prompt)), float(np.max(traffic.prompt + traffic.output))


def holds(table: StepTable, length: float) -> bool:
    """Whether the cache of a replica holds a request of so many tokens."""
    room = scalar(table.cache) - scalar(table.cache_each)
    return length + scalar(table.tokens_per_step) <= room


def check_fits(table: StepTable, traffic: Traffic) -> None:
    """Raise `ValueError` where the cache of a replica does not hold the longest request."""
    _, longest = lengths_of(traffic)
    if not holds(table, longest):
        held = max(0.0, scalar(table.cache) - scalar(table.cache_each))
        raise ValueError(
            f"the longest request has {longest:,.0f} tokens, and the cache of a replica holds "
            f"{held:,.0f}; give more GPUs to a replica, a smaller cache type or shorter requests"
        )


def _most_running(one: Lane) -> float:
    return min(scalar(one.scheduler.sequences), scalar(one.table.states))


def slots_of(one: Lane) -> int:
    """Room for all that are in flight, a power of four, so that few sizes compile."""
    count, users = len(one.traffic.arrival), int(one.traffic.users)
    least = float(np.min(one.traffic.prompt)) + scalar(one.table.cache_each)
    most = min(count, _most_running(one), max(1.0, scalar(one.table.cache) // least))
    return int(max(FEWEST_SLOTS, 4 ** np.ceil(np.log2(users or most) / 2.0)))


def _filled(work: Traffic, requests: int) -> Traffic:
    """So many requests: those that are added never come."""
    more = (0, requests - len(work.arrival))
    return work._replace(
        arrival=np.pad(work.arrival, more, constant_values=np.inf),
        **{
            name: np.pad(getattr(work, name), more)
            for name in ("prompt", "output", "cached", "think")
        },
    )


def _stack(ones: Sequence[Lane]) -> Lane:
    """Lanes along one axis, filled up to lengths and numbers for which few programs are compiled.

    A program takes 2 s to compile, as long as a lane takes for some 20,000 events. Few lanes are
    two, such as the last ones of a size, or `FEW_LANES`.
    """
    count = len(ones[0].traffic.arrival)
    requests = max(FEWEST_REQUESTS, int(4 ** np.ceil(np.log2(count) / 2.0)))
    lanes = [one._replace(traffic=_filled(one.traffic, requests)) for one in ones]
    idle = lanes[0]._replace(traffic=lanes[0].traffic._replace(arrival=np.full(requests, np.inf)))
    width = 2 if len(ones) <= 2 else max(FEW_LANES, int(2 ** np.ceil(np.log2(len(ones)))))
    lanes += [idle] * (width - len(ones))
    return jax.tree.map(
        lambda *x: xp.asarray(np.stack([np.asarray(y, np.float64) for y in x])), *lanes
    )


def _run(ones: Sequence[Lane], slots: int) -> tuple[events.Times, Any]:
    """Times of the requests, and all events, of deployments with as many requests each."""
    lanes = _stack(ones)
    states = events.start(slots, lanes.traffic)
    count, seen = len(ones[0].traffic.arrival), []
    while True:
        states, more = events.run_block(lanes, states, iterations=ITERATIONS)
        seen.append(jax.tree.map(np.asarray, more))
        if not np.all(np.isfinite(seen[-1].now)):
            raise ValueError(
                "a step takes no finite time on a design here; check the numbers of its accelerator"
            )
        if np.min(np.asarray(states.completed)[: len(ones)]) >= count:
            break
    # A power of two of blocks, the last ones without events, so that few lengths compile.
    blocks = int(2 ** np.ceil(np.log2(len(seen))))
    none = events.Event(*(np.full_like(x, fill) for x, fill in zip(seen[0], _NOTHING, strict=True)))
    joined = jax.tree.map(lambda *x: np.concatenate(x), *seen, *[none] * (blocks - len(seen)))
    times = events.block_times(lanes.traffic, joined)
    return jax.tree.map(lambda x: np.asarray(x)[:, :count], times), joined


def _outcome(one: Lane, times: events.Times, seen: events.Event, lane: int) -> Outcome:
    events_of_lane = jax.tree.map(lambda x: x[:, lane], seen)
    return Outcome(
        traffic=one.traffic,
        arrival=np.asarray(times.arrival[lane]),
        first=np.asarray(times.first[lane]),
        finish=np.asarray(times.finish[lane]),
        steps=jax.tree.map(lambda x: x[events_of_lane.ran], events_of_lane),
        evictions=int(np.sum(events_of_lane.evicted)),
        cut=cut_of(one.traffic),
    )


def simulate(deployments: Sequence[Lane], lanes: int | None = None) -> list[Outcome]:
    """What each deployment did with its requests; many run side by side.

    Args:
        deployments: as `deploy` gives them; designs, rates and seeds may all differ.
        lanes: how many run side by side, chosen unless given; the outcomes do not depend on it.
    """

    def alike(at: int) -> tuple[int, int]:
        return len(deployments[at].traffic.arrival), slots_of(deployments[at])

    groups = grouped(range(len(deployments)), alike)
    outcomes: dict[int, Outcome] = {}
    for (_, slots), members in over(groups.items()):
        width = lanes or (LANES if len(members) >= MANY else FEW_LANES)
        for begin in range(0, len(members), width):
            block = members[begin : begin + width]
            times, seen = _run([deployments[at] for at in block], slots)
            for lane, at in enumerate(block):
                outcomes[at] = _outcome(deployments[at], times, seen, lane)
    return [outcomes[at] for at in range(len(deployments))]


def most_at_once(one: Lane) -> float:
    """Requests of the mean length that the deployment can run at a time."""
    mean = float(np.mean(one.traffic.prompt + one.traffic.output)) + scalar(one.table.cache_each)
    return min(_most_running(one), max(1.0, scalar(one.table.cache) // mean))


def saturated(one: Lane) -> Lane:
    """The deployment with as many users as it can run at a time: it never waits for requests."""
    work, users = one.traffic, int(min(most_at_once(one), SATURATING)) + 1
    pick = np.random.default_rng(0).integers(len(work.arrival), size=max(SATURATING, 4 * users))
    prompt, output, cached = (x[pick] for x in (work.prompt, work.output, work.cached))
    none, flight = np.zeros(len(pick)), np.array(float(users))
    return one._replace(traffic=Traffic(none, prompt, output, cached, flight, none))


def largest_rate(one: Lane) -> float:
    """Requests a second that a replica serves when it never waits for any [1/s]."""
    return simulate([saturated(one)])[0].requests_per_s


def with_traffic(one: Lane, traffic: Traffic) -> Lane:
    """The same deployment with other requests, which must fit."""
    check_fits(one.table, traffic)
    return one._replace(traffic=traffic)
