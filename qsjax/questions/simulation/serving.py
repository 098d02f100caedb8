"""Lanes with their requests, simulated together: from records to outcomes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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

MANY = 128  # deployments from which on vectors are filled
ITERATIONS = 256  # events between two looks at whether all are done
# Requests of the run without pauses that tells the largest rate.
SATURATING = 400


class Room(NamedTuple):
    """What a program has room for: lanes side by side, requests in flight, and all requests."""

    lanes: int
    slots: int
    requests: int


# A program takes 4 s to compile, as long as 8 lanes take for 100,000 events each: few deployments
# share one of much room. Many have vectors that are full; one or two run in half of the time.
FOR_TWO, FOR_FEW, FOR_MANY = Room(2, 64, 4096), Room(8, 64, 4096), Room(256, 64, 1024)
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


def _rounded(number: float) -> int:
    """A power of four that is not smaller, so that few sizes compile."""
    return int(4 ** np.ceil(np.log2(number) / 2.0))


def room_of(one: Lane, least: Room = FOR_TWO) -> Room:
    """Room for all of a deployment's requests, in powers of four."""
    count, users = len(one.traffic.arrival), int(one.traffic.users)
    shortest = float(np.min(one.traffic.prompt)) + scalar(one.table.cache_each)
    most = min(count, _most_running(one), max(1.0, scalar(one.table.cache) // shortest))
    slots, requests = _rounded(users or most), _rounded(count)
    return Room(least.lanes, max(least.slots, slots), max(least.requests, requests))


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


def _stack(ones: Sequence[Lane], room: Room) -> Lane:
    """Lanes along one axis, filled up to the room."""
    lanes = [one._replace(traffic=_filled(one.traffic, room.requests)) for one in ones]
    never = lanes[0].traffic._replace(arrival=np.full(room.requests, np.inf))
    lanes += [lanes[0]._replace(traffic=never)] * (room.lanes - len(ones))
    return jax.tree.map(
        lambda *x: xp.asarray(np.stack([np.asarray(y, np.float64) for y in x])), *lanes
    )


def _run(ones: Sequence[Lane], room: Room) -> tuple[events.Times, Any]:
    """Times of the requests, and all events, of deployments with as many requests each."""
    lanes = _stack(ones, room)
    states = events.start(room.slots, lanes.traffic)
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
    # Filled up with blocks without events.
    none = events.Event(*(np.full_like(x, fill) for x, fill in zip(seen[0], _NOTHING, strict=True)))
    seen += [none] * (_rounded(len(seen)) - len(seen))
    joined = jax.tree.map(lambda *x: np.concatenate(x), *seen)
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
    count = len(deployments)
    least = FOR_MANY if count >= MANY else FOR_TWO if count <= FOR_TWO.lanes else FOR_FEW
    if lanes is not None:
        least = FOR_FEW._replace(lanes=lanes)

    def alike(at: int) -> tuple[int, Room]:
        return len(deployments[at].traffic.arrival), room_of(deployments[at], least)

    groups = grouped(range(len(deployments)), alike)
    outcomes: dict[int, Outcome] = {}
    for (_, room), members in over(groups.items()):
        for begin in range(0, len(members), room.lanes):
            block = members[begin : begin + room.lanes]
            times, seen = _run([deployments[at] for at in block], room)
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
