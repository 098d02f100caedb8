"""The simulator: one pure scan over events, for any number of deployments at once.

Between two events (an arrival, a prompt chunk, the end of an answer, a full cache) the batch is
fixed and every context grows alike, so that any number of decode steps is one sum. An iteration
does one of: let a finished sequence go; evict one for want of cache; add a prompt's chunk to the
step that is being filled; run that step; run decode steps up to the next event; wait for an
arrival.
"""

from typing import Any, NamedTuple

import numpy as np

from qsjax.engines.schedulers import Scheduler
from qsjax.numerics.jax import jax, jnp
from qsjax.numerics.namespace import Array, ArrayLike
from qsjax.questions.simulation.steps import (
    StepTable,
    context_segment,
    decode_line,
    interpolate,
    prompt_attention,
)
from qsjax.questions.simulation.traffic import Traffic

MOST = 2**31 - 1  # no index of a request is as large
NEVER = jnp.inf  # finish of a slot that does not decode


class Lane(NamedTuple):
    """One attention replica: its step costs, its engine's rules, its requests."""

    table: StepTable
    scheduler: Scheduler
    traffic: Traffic


class Slots(NamedTuple):
    """Admitted requests, shape (slots,): index or -1, tick of the last token, context then.

    An evicted one keeps its slot without a finish, and `rest` tokens are still to be made.
    """

    request: Array
    finish: Array
    final: Array
    rest: Array


class Filling(NamedTuple):
    """The step that is being filled, and the prompt that is being read."""

    request: Array  # -1: none
    total: Array  # tokens to be in the cache when it is read
    done: Array
    rest: Array  # tokens of the answer still to be made
    chunk: Array  # prompt tokens of the step
    attention: Array  # of its chunks, in one stage [s]
    ready: Array  # prompts that end in the step
    lasting: Array  # of them with more than one token to make
    context: Array  # of those, summed


class State(NamedTuple):
    """A deployment between two events; counts are floats."""

    now: Array
    head: Array  # next request that was not admitted yet
    completed: Array
    tick: Array  # decode steps so far
    decoding: Array  # sequences
    context: Array  # of those, summed
    held: Array  # cache of all admitted [tokens]
    promised: Array  # tokens that they will still make
    evicted: Array  # requests that wait for a second start
    last_tick: Array  # time of the last decode step
    new: Array  # sequences that came since
    late: Array  # when users have the tokens of the last steps, after their end [s]
    returns: Array  # in a closed loop: when users come with their next requests, (slots,) [s]
    slots: Slots
    filling: Filling


class Event(NamedTuple):
    """What an iteration did.

    Attributes:
        now: time after it [s].
        placed: request whose prompt ends with the step that is being filled; -1 for none.
        popped: request that is done; -1 for none.
        evicted: whether a request lost its cache.
        ran: whether steps were run.
        steps: how many.
        seconds: time of them all [s].
        decoding: sequences that made tokens in them.
        chunk: prompt tokens of the step.
        gap: time between the tokens of those at the first of the steps [s], for `had` sequences.
        had: sequences that made a token before.
        later: mean time of the further steps [s].
        late: when users have the tokens made then, after `now` [s].
    """

    now: Array
    placed: Array
    popped: Array
    evicted: Array
    ran: Array
    steps: Array
    seconds: Array
    decoding: Array
    chunk: Array
    gap: Array
    had: Array
    later: Array
    late: Array


def start(slots: int, work: Traffic) -> State:
    """The state of empty deployments at time 0; NumPy makes it, nothing is compiled.

    Arrays of `work` may have leading axes, and so has the state; a closed loop has a slot for each
    of its users.
    """
    shape = np.shape(work.users)
    come = np.full((*shape, slots), NEVER)
    first = np.asarray(work.arrival)[..., :slots]
    is_first = np.arange(first.shape[-1]) < np.asarray(work.users)[..., None]
    come[..., : first.shape[-1]] = np.where(is_first, first, NEVER)

    def full(value: float, *more: int, dtype: type = float) -> Array:
        return jnp.asarray(np.full((*shape, *more), value, dtype))

    zero, none = full(0.0), full(-1, dtype=np.int32)
    empty = Slots(
        request=full(-1, slots, dtype=np.int32),
        finish=full(NEVER, slots),
        final=full(0.0, slots),
        rest=full(0.0, slots),
    )
    filling = Filling(none, *(zero,) * 8)
    return State(zero, full(0, dtype=np.int32), *(zero,) * 10, jnp.asarray(come), empty, filling)


def _first(flags: Array) -> Array:
    """Index of the first flag that is set; beyond the last where none is.

    In place of `argmin` and the like, which XLA does not run in vectors.
    """
    count = flags.shape[0]
    return jnp.where(flags, jnp.arange(count), count).min()


def _put(slots: Slots, at: Array, holds: Array, **values: ArrayLike) -> Slots:
    """The slots with one of them changed where `holds`."""
    here = (jnp.arange(slots.request.shape[0]) == at) & holds
    return slots._replace(
        **{name: jnp.where(here, value, getattr(slots, name)) for name, value in values.items()}
    )


def _tokens_of(ticks: Array, table: StepTable) -> Array:
    """Tokens that a sequence is given after its first one in so many decode steps."""
    return ticks * table.tokens_per_step


def _pop(state: State, lane: Lane, holds: Array, at: Array) -> State:
    """Let the sequence of a slot go."""
    slots = state.slots
    context = jnp.where(holds, slots.final[at], 0.0)
    one = jnp.where(holds, 1.0, 0.0)
    pauses = lane.traffic.think
    pause = pauses[jnp.minimum(state.completed, pauses.shape[0] - 1.0).astype(int)]
    here = (jnp.arange(state.returns.shape[0]) == _first(state.returns == NEVER)) & holds
    return state._replace(
        returns=jnp.where(here, state.now + state.late + pause, state.returns),
        completed=state.completed + one,
        decoding=state.decoding - one,
        context=state.context - context,
        held=state.held - context - one * lane.table.cache_each,
        slots=_put(slots, at, holds, request=jnp.int32(-1), finish=NEVER),
    )


def _evict(state: State, lane: Lane, holds: Array) -> State:
    """Take the cache from the request that came last: the one being read, else a decoding one."""
    slots, fill, table = state.slots, state.filling, lane.table
    reads = holds & (fill.request >= 0)
    decodes = holds & (fill.request < 0)
    running = jnp.where(slots.finish < NEVER, slots.request, -1)
    latest = _first(running == running.max())
    ticks = jnp.where(decodes, slots.finish[latest] - state.tick, 0.0)
    made = _tokens_of(ticks, table)
    context = jnp.where(decodes, slots.final[latest] - made, 0.0)
    slots = _put(slots, latest, decodes, finish=NEVER, rest=made)
    free = _first(slots.request < 0)
    slots = _put(slots, free, reads, request=fill.request, finish=NEVER, rest=fill.rest)
    total = jnp.where(reads, fill.total, 0.0)
    promised = jnp.where(reads, 1.0 + _tokens_of(_ticks(fill.rest, table), table), 0.0)
    one = jnp.where(holds, 1.0, 0.0)
    return state._replace(
        decoding=state.decoding - jnp.where(decodes, 1.0, 0.0),
        context=state.context - context,
        held=state.held - context - total - one * table.cache_each,
        promised=state.promised - made - promised,
        evicted=state.evicted + one,
        slots=slots,
        filling=fill._replace(request=jnp.where(reads, jnp.int32(-1), fill.request)),
    )


def _ticks(rest: Array, table: StepTable) -> Array:
    """Decode steps until the answer is there, after the step that reads the prompt."""
    return jnp.ceil((rest - 1.0) / table.tokens_per_step)


def _left(state: State, lane: Lane) -> Array:
    """Tokens that the step being filled has room for."""
    rules, table = lane.scheduler, lane.table
    answers = jnp.asarray(rules.mixed) * state.decoding * table.query_tokens
    return jnp.asarray(rules.budget) * table.stages - answers - state.filling.chunk


def _next_arrival(state: State, lane: Lane) -> Array:
    """When the next request that was not admitted yet reaches the engine [s]; NEVER for none.

    Requests that arrive NEVER fill up a shape; they do not come in a closed loop either.
    """
    work = lane.traffic
    by_clock = work.arrival[jnp.minimum(state.head, work.arrival.shape[0] - 1)]
    comes = jnp.where(work.users > 0, state.returns.min(), by_clock)
    is_left = (state.head < work.arrival.shape[0]) & (by_clock < NEVER)
    return jnp.where(is_left, comes + lane.scheduler.frontend, NEVER)


def _admit(state: State, lane: Lane, acts: Array) -> State:
    """Begin with the next prompt: evicted requests first, then by arrival, if there is room."""
    slots, fill, table, rules, work = state.slots, state.filling, *lane
    again = state.evicted > 0
    waits = (slots.request >= 0) & (slots.finish == NEVER)
    waiting = jnp.where(waits, slots.request, MOST)
    place = _first(waiting == waiting.min())
    at = jnp.minimum(state.head, work.arrival.shape[0] - 1)
    fresh = ~again & (_next_arrival(state, lane) <= state.now)
    request = jnp.where(again, slots.request[place], at)
    request = jnp.maximum(request, 0)
    rest = jnp.where(again, slots.rest[place], work.output[request])
    total = work.prompt[request] + work.output[request] - rest
    running = state.decoding + fill.ready
    further = 1.0 + _tokens_of(_ticks(rest, table), table)
    # Beside its prompt, one step of all, and the share of the answers that is kept free.
    growth = table.tokens_per_step * (running + 1.0)
    kept = rules.reserve * (state.promised + further)
    room = state.held + total + table.cache_each + growth + kept <= table.cache
    most = jnp.minimum(rules.sequences, table.states)
    admits = acts & (fill.request < 0) & (again | fresh) & (running < most)
    admits = admits & (room | (running == 0)) & (_left(state, lane) > 0)
    old = admits & again
    back = _first(state.returns == state.returns.min())
    came = (jnp.arange(state.returns.shape[0]) == back) & admits & ~again
    return state._replace(
        returns=jnp.where(came, NEVER, state.returns),
        head=state.head + jnp.where(admits & ~again, jnp.int32(1), jnp.int32(0)),
        held=state.held + jnp.where(admits, total + table.cache_each, 0.0),
        promised=state.promised + jnp.where(admits, further, 0.0),
        evicted=state.evicted - jnp.where(old, 1.0, 0.0),
        slots=_put(slots, place, old, request=jnp.int32(-1)),
        filling=fill._replace(
            request=jnp.where(admits, request, fill.request),
            total=jnp.where(admits, total, fill.total),
            done=jnp.where(admits, work.cached[request], fill.done),
            rest=jnp.where(admits, rest, fill.rest),
        ),
    )


def _read(state: State, lane: Lane, acts: Array) -> tuple[State, Array, Array]:
    """Add a chunk of the prompt to the step.

    Returns:
        The state, the request whose prompt ends with the chunk (-1 for none), and whether the step
        is full.
    """
    fill, table, rules = state.filling, lane.table, lane.scheduler
    left = _left(state, lane)
    missing = fill.total - fill.done
    fits_whole = (missing <= left) | ((fill.chunk == 0) & (left > 0))
    whole = jnp.where(fits_whole, missing, 0.0)
    chunk = jnp.where(
        jnp.asarray(rules.whole) > 0, whole, jnp.clip(missing, 0.0, jnp.maximum(left, 0.0))
    )
    chunk = jnp.where(acts & (fill.request >= 0), chunk, 0.0)
    done = fill.done + chunk
    ends = (chunk > 0) & (done >= fill.total)
    ticks = _ticks(fill.rest, table)
    free = _first(state.slots.request < 0)
    slots = _put(
        state.slots,
        free,
        ends,
        request=fill.request,
        finish=state.tick + rules.mixed + ticks,
        final=fill.total + _tokens_of(ticks, table),
    )
    attention = prompt_attention(table, done) - prompt_attention(table, fill.done)
    one = jnp.where(ends, 1.0, 0.0)
    placed = jnp.where(ends, fill.request, -1)
    filling = fill._replace(
        request=jnp.where(ends, -1, fill.request),
        done=done,
        chunk=fill.chunk + chunk,
        attention=fill.attention + jnp.where(chunk > 0, attention, 0.0),
        ready=fill.ready + one,
        lasting=fill.lasting + jnp.where(ticks > 0, one, 0.0),
        context=fill.context + one * fill.total,
    )
    is_full = (chunk == 0) | ~ends | (left - chunk <= 0)
    return state._replace(slots=slots, filling=filling), placed, is_full


def _steps_within(seconds: Array, first: Array, growth: Array) -> Array:
    """Fewest steps that take at least so long; the first lasts `first`, each `growth` longer."""
    flat = first - 0.5 * growth
    root = jnp.sqrt(jnp.maximum(flat * flat + 2.0 * growth * seconds, 0.0))
    steps = jnp.ceil(2.0 * seconds / jnp.maximum(flat + root, 1e-300))

    def lasts(count: Array) -> Array:
        return count * (first + 0.5 * growth * (count - 1.0))

    steps = jnp.where(lasts(steps - 1.0) >= seconds, steps - 1.0, steps)
    return jnp.where(lasts(steps) < seconds, steps + 1.0, steps)


class _Run(NamedTuple):
    """Steps that are run at once: how many, their seconds, those of the first, who decodes.

    `pace` is the last decode step, or that of all who decode after a step with prompts [s].
    """

    steps: Array
    seconds: Array
    first: Array
    decoding: Array
    pace: Array


def _steps(state: State, lane: Lane, next_finish: Array) -> _Run:
    """The filled step, or decode steps to the next event."""
    fill, (table, rules, _) = state.filling, lane
    decoding = jnp.maximum(state.decoding, 1.0)
    mean = state.context / decoding
    low, knot = context_segment(mean)
    short, base, slope = decode_line(table, decoding, low)
    first, growth = base + slope * mean, slope * table.tokens_per_step
    # A step with prompts: microbatches that the chunk fills, tokens of the fullest one.
    mixed = jnp.where(state.decoding > 0, jnp.asarray(rules.mixed), 0.0)
    filled = jnp.clip(jnp.ceil(fill.chunk / rules.budget), 1.0, table.stages)
    tokens = fill.chunk / filled + mixed * state.decoding * table.query_tokens / table.stages
    prompts = interpolate(table.linear, tokens) + fill.attention * table.stages / filled
    prompts = prompts + mixed * (first - short)
    # Decode steps: up to a finish, a full cache, a knot of the table, or an arrival.
    wait = _next_arrival(state, lane) - state.now
    watches = (wait > 0) & (wait < NEVER) & (fill.request < 0) & (state.evicted == 0)
    to_arrival = _steps_within(jnp.where(watches, wait, 1.0), first, growth)
    limits = (
        next_finish - state.tick,
        jnp.floor((table.cache - state.held) / (decoding * table.tokens_per_step)),
        jnp.ceil((knot - mean) / table.tokens_per_step),
        jnp.where(watches, to_arrival, jnp.inf),
    )
    count = jax.lax.stop_gradient(jnp.maximum(1.0, jnp.stack(limits).min()))
    has_prompts = fill.chunk > 0
    decodes = count * (first + 0.5 * growth * (count - 1.0))
    # A first token is on its way during a decode step in which its sequence is already.
    later = jnp.maximum(state.decoding + fill.ready, 1.0)
    beside = (state.context + fill.context) / later
    _, flat, rise = decode_line(table, later, context_segment(beside)[0])
    return _Run(
        steps=jnp.where(has_prompts, 1.0, count),
        seconds=jnp.where(has_prompts, prompts, decodes),
        first=jnp.where(has_prompts, prompts, first),
        decoding=jnp.where(has_prompts, mixed * state.decoding, state.decoding),
        pace=jnp.where(has_prompts, flat + rise * beside, first + growth * (count - 1.0)),
    )


def _advance(state: State, lane: Lane, run: _Run, runs: Array, idles: Array) -> State:
    """The state after the steps, or after the wait for an arrival."""
    fill, (table, rules, _) = state.filling, lane
    arrival = _next_arrival(state, lane)
    now = jnp.where(runs, state.now + run.seconds, state.now)
    now = jnp.where(idles & (arrival < NEVER), jnp.maximum(now, arrival), now)
    has_prompts = fill.chunk > 0
    ticks = jnp.where(has_prompts, jnp.asarray(rules.mixed), run.steps)
    ticks = jnp.where(runs, ticks, 0.0)
    grown = jnp.where(runs, run.decoding * run.steps * table.tokens_per_step, 0.0)
    ready = jnp.where(runs, fill.ready, 0.0)
    ticked = ticks > 0
    of_step = ("chunk", "attention", "ready", "lasting", "context")
    emptied: Any = {name: jnp.where(runs, 0.0, getattr(fill, name)) for name in of_step}
    return state._replace(
        now=now,
        tick=state.tick + ticks,
        decoding=state.decoding + ready,
        context=state.context + grown + jnp.where(runs, fill.context, 0.0),
        held=state.held + grown,
        promised=state.promised - grown - ready,
        last_tick=jnp.where(ticked, now, state.last_tick),
        late=jnp.where(runs, rules.stream_steps * run.pace, state.late),
        new=jnp.where(ticked, 0.0, state.new + jnp.where(runs, fill.lasting, 0.0)),
        filling=fill._replace(**emptied),
    )


def event(lane: Lane, state: State) -> tuple[State, Event]:
    """One iteration of one deployment."""
    table = lane.table
    is_empty = state.filling.chunk == 0
    next_finish = state.slots.finish.min()
    leaving = _first(state.slots.finish == next_finish)
    pops = is_empty & (next_finish <= state.tick)
    growth = state.decoding * table.tokens_per_step
    is_short = (state.decoding > 0) & (state.held + growth > table.cache)
    # Whoever is alone has room: requests beyond the cache are refused before.
    alone = state.decoding + jnp.where(state.filling.request >= 0, 1.0, 0.0) <= 1
    evicts = ~pops & is_empty & is_short & ~alone
    acts = ~pops & ~evicts
    popped = jnp.where(pops, state.slots.request[leaving], -1)
    state = _evict(_pop(state, lane, pops, leaving), lane, evicts)
    state = _admit(state, lane, acts)
    state, placed, is_full = _read(state, lane, acts)
    runs = acts & is_full
    has_work = (state.filling.chunk > 0) | (state.decoding > 0)
    run = _steps(state, lane, state.slots.finish.min())
    after = _advance(state, lane, run, runs & has_work, runs & ~has_work)
    did = runs & has_work
    gap = state.now - state.last_tick + run.first
    later = (run.seconds - run.first) / jnp.maximum(run.steps - 1.0, 1.0)
    chunk = jnp.where(did, state.filling.chunk, 0.0)
    decoding = jnp.where(did, run.decoding, 0.0)
    return after, Event(
        now=after.now,
        placed=placed,
        popped=popped,
        evicted=evicts,
        ran=did,
        steps=jnp.where(did, run.steps, 0.0),
        seconds=jnp.where(did, run.seconds, 0.0),
        decoding=decoding,
        chunk=chunk,
        gap=gap,
        had=jnp.maximum(decoding - state.new, 0.0),
        later=later,
        late=after.late,
    )


def scan(lanes: Lane, states: State, iterations: int) -> tuple[State, Event]:
    """`iterations` events of deployments along a leading axis; events have it second."""

    def body(states: State, _: Any) -> tuple[State, Event]:
        after, seen = jax.vmap(event)(lanes, states)
        return after, seen

    return jax.lax.scan(body, states, None, length=iterations)


run_block = jax.jit(scan, static_argnames="iterations")


class Times(NamedTuple):
    """When each request arrived, gave its first token, and was done, shape (lanes, requests) [s].

    NaN where it did not happen.
    """

    arrival: Array
    first: Array
    finish: Array


def times_of(traffic: Traffic, events: Event) -> Times:
    """Times of the requests of deployments, from their events in order."""

    def one(work: Traffic, seen: Event) -> Times:
        count, length = work.arrival.shape[0], seen.now.shape[0]
        order = jnp.arange(length, dtype=jnp.int32)
        # A prompt that ends with a step gives its token when the step has run.
        last = jnp.int32(length)
        run = jax.lax.cummin(jnp.where(seen.ran, order, last), reverse=True)
        moment = jnp.append(seen.now + seen.late, jnp.nan)

        def when(request: Array, at: Array) -> Array:
            target = jnp.where(request >= 0, request, count)
            first = jnp.full(count + 1, last).at[target].min(at)
            return moment[first[:-1]]

        first = when(seen.placed, run)
        finish = when(seen.popped, order)
        # Whoever is back first has the next request.
        ended = jnp.where(seen.popped >= 0, order, last)
        ended = jnp.sort(ended)[:count]
        ended = jnp.pad(ended, (0, max(0, count - ended.shape[0])), constant_values=last)
        starts = jnp.where(jnp.arange(float(count)) < work.users, work.arrival, NEVER)
        let_in = jnp.sort(jnp.append(starts, moment[ended] + work.think))[:count]
        return Times(jnp.where(work.users > 0, let_in, work.arrival), first, finish)

    return jax.vmap(one, in_axes=(0, 1))(traffic, events)


block_times = jax.jit(times_of)
