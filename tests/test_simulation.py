"""The simulator of serving over time: against hand, against plain Python, and in its limits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.engines.schedulers import Scheduler, default_scheduler
from qsjax.questions.simulation import events, screening, steps, traffic
from qsjax.questions.simulation.traffic import Traffic
from qsjax.records.specs import PHYSICAL, Partition, Records
from tests import event_oracle, tolerances

ITERATIONS, BLOCKS = 512, 64  # events of a block, and blocks at most


def table_of(linear=0.0, decode=0.0, per_token=0.0, attention=0.0, cache=1e9, **fields):
    """Tables of plain laws: `linear` a token, `decode` a step, `per_token` of its mean context."""
    tokens, contexts = steps.TOKEN_KNOTS, steps.CONTEXT_KNOTS
    values = {
        "decode": decode + per_token * tokens[:, None] * contexts,
        "linear": linear * tokens,
        "attention": attention * steps.LENGTH_KNOTS,
        "query_tokens": 1.0,
        "tokens_per_step": 1.0,
        "stages": 1.0,
        "cache": cache,
        "cache_each": 0.0,
        "states": 1e9,
    }
    return steps.StepTable(**{k: jnp.asarray(v) for k, v in {**values, **fields}.items()})


def batched(*lanes):
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y, float) for y in x]), *lanes)


def run(table, rules, work, iterations=ITERATIONS, slots=16):
    lanes = batched(events.Lane(table, rules, work))
    states = events.start(slots, lanes.traffic)
    state, seen = events.run_block(lanes, states, iterations=iterations)
    for _ in range(BLOCKS):
        if float(state.completed[0]) >= len(work.arrival):
            break
        state, more = events.run_block(lanes, state, iterations=iterations)
        seen = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seen, more)
    assert float(state.completed[0]) >= len(work.arrival), "the requests never end"
    times = events.block_times(lanes.traffic, seen)
    return jax.tree.map(lambda x: np.asarray(x[0]), times), jax.tree.map(lambda x: x[:, 0], seen)


def requests(arrival, prompt, output, users=0.0, cached=0.0, think=0.0):
    some = (prompt, output, cached, think)
    *full, think = (np.broadcast_to(np.asarray(x, float), len(arrival)) for x in some)
    return Traffic(np.asarray(arrival, float), *full, np.asarray(users), think)


def test_a_schedule_worked_by_hand():
    # A token of a prompt takes 1 s, a decode step 10 s; 8 tokens a step.
    table = table_of(linear=1.0, decode=10.0)
    work = requests([0.0, 1.0], [12.0, 4.0], [3.0, 2.0])
    times, seen = run(table, Scheduler(budget=8.0), work)
    # 8 tokens to 8 s; 4 of the first and 4 of the second prompt to 16 s; one step with both to
    # 26 s, after which the second has its 2 tokens; one more for the first to 36 s.
    np.testing.assert_allclose(times.first, [16.0, 16.0])
    np.testing.assert_allclose(times.finish, [36.0, 26.0])
    np.testing.assert_allclose(np.asarray(seen.chunk)[np.asarray(seen.chunk) > 0], [8.0, 8.0])


def test_answers_take_room_of_prompts_in_a_mixed_step():
    table = table_of(linear=1.0, decode=10.0)
    work = requests([0.0, 2.5], [2.0, 14.0], [9.0, 1.0])
    times, seen = run(table, Scheduler(budget=8.0), work)
    # 2 tokens to 2 s, a decode step to 12 s; then 7 + 1 tokens twice, to 20 and 28 s.
    np.testing.assert_allclose(times.first, [2.0, 28.0])
    assert float(times.finish[1]) == 28.0
    # 3 of 8 later tokens are there; 5 further steps.
    np.testing.assert_allclose(times.finish[0], 28.0 + 5 * 10.0)
    mixed = np.asarray(seen.chunk) == 7.0
    np.testing.assert_array_equal(np.asarray(seen.decoding)[mixed], [1.0, 1.0])


def test_prompts_alone_stall_decoding():
    table = table_of(linear=1.0, decode=10.0)
    work = requests([0.0, 2.5], [2.0, 14.0], [3.0, 1.0])
    times, seen = run(table, Scheduler(budget=8.0, mixed=0.0), work)
    # Prompt to 2, decode to 12, prompts of 8 and 6 to 26, decode to 36: a gap of 24 s.
    np.testing.assert_allclose(times.first, [2.0, 26.0])
    np.testing.assert_allclose(times.finish, [36.0, 26.0])
    assert 24.0 in np.asarray(seen.gap)[np.asarray(seen.had) > 0]


def test_eviction_by_hand():
    # 10 tokens of cache: two prompts of 4 leave room for one step; the second then starts anew.
    table = table_of(linear=1.0, decode=10.0, cache=10.0)
    work = requests([0.0, 0.0], [4.0, 4.0], [4.0, 4.0])
    times, seen = run(table, Scheduler(budget=8.0), work)
    # Both prompts to 8 s, one step to 18 s (10 tokens held). The second goes; the first runs 2
    # steps to 38 s, holding 7. Again: 4 + 2 tokens read to 44 s, its third token; one step.
    np.testing.assert_allclose(times.first, [8.0, 8.0])
    np.testing.assert_allclose(times.finish, [38.0, 54.0])
    assert int(np.asarray(seen.evicted).sum()) == 1


AT_BEST = {"cached": 4.0, "output": 9.0, "tpot": 11.0, "alone": 61.18, "lone": 10.275}
AT_BEST |= {"busy": 43.85, "batch": 2.0}


@pytest.mark.parametrize(
    "case",
    [
        {"states": 2.0},
        {"sequences": 2.0},
        {"cache": 60.0},  # of two with 28.5 tokens on average and 1.5 more each
        {"query_tokens": 8.0},  # 16 tokens a round of two microbatches
        # Two tokens a step: 2 steps of two sequences, of which 1.5 have prompts with them.
        {"states": 2.0, "tokens_per_step": 2.0, "lone": 5.135, "busy": 0.5 * 10.54 + 17.475},
        # One sequence: 6.5 steps without prompts of 8; who waits has four prompts before him.
        {"states": 2.0, "tpot": 10.4, "busy": 6.5 * 10.275 + 17.475, "batch": 1.0},
        # Two full chunks of 11 s; 512 pairs of tokens.
        {"states": 2.0, "cached": 8.0, "tpot": 12.0, "alone": 53.22, "busy": 3.0 * 10.55 + 14.62},
        # Half a chunk of 7 s, in a quarter of a round; 176 pairs of tokens.
        {"states": 2.0, "cached": 20.0, "alone": 31.5, "busy": 3.75 * 10.55 + 4.135},
        {"states": 2.0, "mixed": 0.0, "tpot": 15.0, "busy": 4.0 * 10.55 + 17.475},
        # Room for a part of one, which is alone and waits for room.
        {"cache": 20.0, "busy": 6.5 * 10.275 + 17.475, "batch": 1.0, "wait": 300.0},
        # The prompt's own token only; one more token, which comes with the prompt of the next.
        {"states": 2.0, "output": 1.0, "tpot": 0.0, "lone": 10.24, "busy": 17.475},
        {"states": 2.0, "output": 2.0, "tpot": 15.0, "lone": 10.24, "busy": 17.475}
        | {"batch": 1.0},
    ],
    ids=[
        *("states", "sequences", "cache", "queries", "two a step", "one sequence", "chunks"),
        *("part of a chunk", "prompts alone", "part of one", "one token", "two tokens"),
    ],
)
def test_a_screening_worked_by_hand(case):
    # 24 tokens, 4 of them cached, in chunks of 8: 2 of 8 + 3 s and one of 4 + 3 s; 0.01 s for each
    # of 24^2 - 4^2 pairs of tokens in both stages; 0.5 s before, and 2 lone steps after the first
    # token, which see the prompt: 61.18 s. A replica reads at best 16 tokens in 19 s in one of two
    # stages: 17.475 s for the prompt. An answer takes 8 more tokens of 10 + 0.275 B s a step of B:
    # of 4 steps of two sequences 1.5 come with the prompt, so that a request takes 17.475 + 2.5 *
    # 10.55 = 43.85 s. Of the time of two its own prompt is no part of TPOT; each token takes a
    # step at least: 10.55.
    want = AT_BEST | case
    of_table = ("states", "query_tokens", "tokens_per_step")
    few = {name: want[name] for name in of_table if name in want}
    few |= {"linear": 1.0 + 3.0 / steps.TOKEN_KNOTS, "stages": 2.0, "cache_each": 1.5}
    table = table_of(
        decode=10.0, per_token=0.01, attention=0.01, cache=want.get("cache", 1e9), **few
    )
    rules = Scheduler(
        budget=8.0, sequences=want.get("sequences", 1024.0), mixed=want.get("mixed", 1.0),
        frontend=0.5, stream_steps=2.0,
    )  # fmt: skip
    mean = screening.Usual(24.0, want["output"], want["cached"])

    def at_best(ttft):
        target = screening.Target(users=1.0, ttft=ttft, tpot=want["tpot"])
        asked = screening.Asked(rules, traffic.Demand(24, 9, think=5.0), target)
        return screening.best_case(table, asked, mean)

    rate = 1.0 / want["busy"]
    wait = want.get("wait", 300.0 if want["batch"] == 2.0 else 4.0 * want["alone"])
    users = want["batch"] + rate * (wait + 5.0)
    found = at_best(300.0)
    np.testing.assert_allclose(
        found, (want["alone"], want["lone"], rate, users), rtol=tolerances.EXACT
    )
    assert at_best(found[0])[2] > 0
    assert at_best(np.nextafter(found[0], 0.0)) == (*found[:2], 0.0, 0.0)


@pytest.mark.parametrize(("first", "growth"), [(0.1, 0.0), (0.1, 0.003), (0.7, 0.7)])
def test_steps_within_a_time_are_the_fewest(first, growth):
    count = np.arange(1.0, 2000.0)
    lasts = count * (first + 0.5 * growth * (count - 1.0))
    np.testing.assert_array_equal(events._steps_within(lasts, first, growth), count)
    longer = np.nextafter(lasts, np.inf)
    np.testing.assert_array_equal(events._steps_within(longer, first, growth), count + 1.0)


def costs_of(table):
    plain = [np.asarray(x).tolist() for x in (table.decode, table.linear, table.attention)]
    knots = (steps.TOKEN_KNOTS, steps.LENGTH_KNOTS, steps.CONTEXT_KNOTS)
    return event_oracle.Costs(*(x.tolist() for x in knots), *plain)


def oracle(table, rules, work):
    engine = event_oracle.Engine(
        costs=costs_of(table),
        budget=rules.budget,
        sequences=rules.sequences,
        mixed=bool(rules.mixed),
        whole=bool(rules.whole),
        reserve=rules.reserve,
        cache=float(table.cache),
        each=float(table.cache_each),
        stages=float(table.stages),
        query=float(table.query_tokens),
        accepted=float(table.tokens_per_step),
        users=int(work.users),
        think=work.think.tolist(),
        frontend=rules.frontend,
        stream=rules.stream_steps,
    )
    rows = zip(work.arrival, work.prompt, work.output, work.cached, strict=True)
    asked = [event_oracle.Request(i, *map(float, row)) for i, row in enumerate(rows)]
    return engine.serve(asked), engine


def real_table(**fields):
    """Tables of a real deployment, with a window, so that contexts cross knots."""
    model, hardware = catalog.model("gpt-oss-20b"), catalog.hardware("h100-sxm")
    records = Records(model, hardware, Partition(), catalog.workload("gpt-oss-20b"))
    table = steps.step_table(records, PHYSICAL, (300.0, 600.0))
    return table._replace(**{k: jnp.asarray(v) for k, v in fields.items()})


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "rules",
    [
        Scheduler(budget=256.0, sequences=8.0),
        Scheduler(budget=64.0, sequences=12.0, reserve=0.05),
        Scheduler(budget=128.0, sequences=8.0, mixed=0.0, reserve=0.7),
        Scheduler(budget=256.0, sequences=8.0, whole=1.0, reserve=1.0),
    ],
    ids=["mixed", "small budget", "prompts first", "whole prompts"],
)
def test_the_schedule_is_that_of_plain_python(rules, seed):
    rng = np.random.default_rng(seed)
    count = 40
    users = 0.0 if seed % 2 else float(rng.integers(1, 14))
    table = real_table(
        cache=float(rng.integers(700, 3000)),
        tokens_per_step=[1.0, 1.5][seed // 2 % 2],
        query_tokens=[1.0, 2.0][seed // 2 % 2],
        stages=[1.0, 2.0][seed // 4 % 2],
    )
    prompt, output = rng.integers(1, 400, count), rng.integers(1, 120, count)
    arrival = np.cumsum(rng.exponential(0.05, count))
    cached = np.floor(prompt * rng.uniform(0.0, 0.9)) * (seed % 3 == 2)
    think = rng.exponential(0.05, count) * (seed % 4 >= 2)
    work = requests(arrival, prompt, output, users, cached, think)
    late = {"frontend": [0.0, 0.0137][seed // 3 % 2], "stream_steps": [3.0, 0.0][seed // 6]}
    rules = dataclasses.replace(rules, **late)
    times, seen = run(table, rules, work)
    expected, engine = oracle(table, rules, work)
    np.testing.assert_allclose(times.first, [r.first for r in expected], rtol=tolerances.EXACT)
    np.testing.assert_allclose(times.finish, [r.finish for r in expected], rtol=tolerances.EXACT)
    assert int(np.asarray(seen.evicted).sum()) == sum(r.evictions for r in expected)
    ran = np.asarray(seen.ran)
    each = [
        (d, c)
        for d, c, n in zip(*(np.asarray(x)[ran] for x in (seen.decoding, seen.chunk, seen.steps)),
                           strict=True)
        for _ in range(int(n))
    ]  # fmt: skip
    np.testing.assert_allclose(each, engine.log)
    if users == 0:
        np.testing.assert_allclose(times.arrival, work.arrival)


def test_evictions_are_among_the_random_workloads():
    rng = np.random.default_rng(0)
    rules = Scheduler(budget=256.0, sequences=8.0)
    work = requests(np.zeros(40), rng.integers(1, 400, 40), rng.integers(60, 120, 40))
    _, seen = run(real_table(cache=900.0), rules, work)
    assert int(np.asarray(seen.evicted).sum()) > 3


# Limits.
def test_no_load_latency_is_the_laws():
    model, hardware = catalog.model("llama-3.1-8b"), catalog.hardware("h100-sxm")
    work, part = catalog.workload("llama-3.1-8b"), Partition()
    records = Records(model, hardware, part, work)
    table = steps.step_table(records, PHYSICAL, (2048.0, 4096.0))
    rules = Scheduler()
    times, _ = run(table, rules, requests([0.0, 100.0], [2048.0, 2048.0], [1.0, 129.0]))
    ttft = float(prefill_step(Records(model, hardware, part, work), PHYSICAL, Prompts(2048.0)).ttft)
    np.testing.assert_allclose(times.first - times.arrival, ttft, rtol=tolerances.EXACT)

    at = dataclasses.replace(work, context=2048.0 + 63.5, batch=1.0)
    tpot = float(decode_step(Records(model, hardware, part, at), PHYSICAL).tpot)
    got = (times.finish[1] - times.first[1]) / 128
    np.testing.assert_allclose(got, tpot, rtol=1e-6)

    # A token is on its way for a decode step of its own sequence, the first one too: of two tokens
    # the time between was longer by what reading the prompt's cache takes.
    rules = dataclasses.replace(rules, stream_steps=1.0)
    times, _ = run(table, rules, requests([0.0], [2048.0], [2.0]))
    at = dataclasses.replace(work, context=2048.0, batch=1.0)
    tpot = float(decode_step(Records(model, hardware, part, at), PHYSICAL).tpot)
    np.testing.assert_allclose(times.first, ttft + tpot, rtol=tolerances.EXACT)
    np.testing.assert_allclose(times.finish - times.first, tpot, rtol=tolerances.EXACT)


def one_server(work):
    """Times of requests that are served one at a time, 1 s each."""
    lanes = batched(
        events.Lane(table_of(linear=1.0 / 64.0), Scheduler(budget=64.0, sequences=1.0), work)
    )
    _, seen = events.run_block(lanes, events.start(2, lanes.traffic), iterations=80_000)
    return jax.tree.map(lambda x: np.asarray(x[0]), events.block_times(lanes.traffic, seen))


def test_one_server_of_fixed_service_is_an_m_d_1_queue():
    # The mean wait is rho / (2 (1 - rho)) (Pollaczek, Khinchine).
    times = one_server(traffic.open_loop(0.5, traffic.Demand(64, 1, requests=20_000, seed=3)))
    wait = times.first - times.arrival - 1.0
    # A new step takes up whoever is there, so that service starts at once: no slack for steps.
    np.testing.assert_allclose(wait.mean(), 0.5, rtol=0.05)


def test_two_users_who_think_and_one_server():
    # Whenever a service begins, the other user thinks, 1 s on average: with 1 - 1/e he comes before
    # it ends. So e services follow each other on average, and the first comes after 1/2 s.
    demand = traffic.Demand(64, 1, requests=20_000, think=1.0, seed=3)
    times = one_server(traffic.closed_loop(2, demand))
    rate = np.e / (np.e + 0.5)
    np.testing.assert_allclose(len(times.first) / times.finish[-1], rate, rtol=0.01)
    in_cycle = 1.0 + np.mean(times.finish - times.arrival)  # Little's law over both users
    np.testing.assert_allclose(rate * in_cycle, 2.0, rtol=0.01)


def test_derivatives_are_those_of_finite_differences():
    rules, work = (
        Scheduler(budget=256.0, sequences=8.0),
        traffic.closed_loop(6, traffic.Demand(300, 40, requests=30)),
    )

    def mean_latency(bandwidth):
        scale = 1.0 / bandwidth
        table = real_table()
        table = table._replace(decode=table.decode * scale, linear=table.linear * (1 + scale))
        lanes = jax.tree.map(lambda x: jnp.asarray(x, float)[None], events.Lane(table, rules, work))
        _, seen = events.scan(lanes, events.start(8, lanes.traffic), 256)
        times = events.times_of(lanes.traffic, seen)
        return jnp.mean(times.finish - times.arrival)

    slope = float(jax.grad(mean_latency)(1.0))
    step = 1e-5
    difference = (mean_latency(1.0 + step) - mean_latency(1.0 - step)) / (2 * step)
    np.testing.assert_allclose(slope, float(difference), rtol=tolerances.FINITE_DIFFERENCE)
    assert slope < 0


def test_a_pool_of_recurrent_states_bounds_what_runs():
    """SGLang: 0.9/1.9 of the room holds states alone, five a request; the cache has the rest."""
    model, hardware = catalog.model("qwen3-next-80b-a3b"), catalog.hardware("h200-sxm")
    work, part = catalog.workload("qwen3-next-80b-a3b"), Partition(tp=4)
    records = Records(model, hardware, part, work)
    rules = default_scheduler("sglang", float(hardware.hbm_bytes))
    shared = steps.step_table(records, PHYSICAL, (1000.0, 1500.0))
    pooled = steps.step_table(records, PHYSICAL, (1000.0, 1500.0), rules)

    held = decode_step(
        Records(model, hardware, part, dataclasses.replace(work, context=0.0, batch=1.0)), PHYSICAL
    ).capacity
    room = float(held.usable - held.weights)
    state = float(held.kv_per_sequence)
    assert float(pooled.states) == np.floor(room * 0.9 / 1.9 / (5.0 * state))
    np.testing.assert_allclose(pooled.cache, shared.cache / 1.9, rtol=1e-9)
    lost = float(shared.cache_each - pooled.cache_each)  # tokens whose cache a state would fill
    np.testing.assert_allclose(lost * room / float(shared.cache), state, rtol=1e-6)
    assert float(shared.states) > 1e6

    few = pooled._replace(states=jnp.asarray(2.0))
    rules = dataclasses.replace(rules, frontend=0.0, stream_steps=0.0)
    times, _ = run(few, rules, requests([0.0] * 3, [64.0] * 3, [100.0] * 3))
    assert times.first[2] > times.finish[0]


def test_a_model_without_states_has_no_pool():
    model, hardware = catalog.model("llama-3.1-8b"), catalog.hardware("h100-sxm")
    records = Records(model, hardware, Partition(), catalog.workload("llama-3.1-8b"))
    plain = steps.step_table(records, PHYSICAL, (300.0, 600.0), Scheduler(block=1.0))
    rules = Scheduler(block=1.0, state_share=0.5, state_slots=5.0)
    pooled = steps.step_table(records, PHYSICAL, (300.0, 600.0), rules)
    np.testing.assert_array_equal(pooled.cache, plain.cache)
    assert float(pooled.states) == float(plain.states)
