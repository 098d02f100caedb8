"""Prompts and answers that share steps: by hand, against oracle and simulation, in the limits."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from qsjax import catalog
from qsjax.cost import shared as laws
from qsjax.cost.coefficients import rates
from qsjax.cost.decode import decode_step
from qsjax.cost.laws.sharding import context_of
from qsjax.cost.prefill import Answers, Prompts, prefill_step
from qsjax.cost.shared import Filling, with_any
from qsjax.engines.rules import load_schedulers
from qsjax.engines.schedulers import Scheduler, default_scheduler, filling_of
from qsjax.questions.simulation import serving, traffic
from qsjax.records.specs import PHYSICAL, Partition, Records, Workload
from tests import oracle, tolerances
from tests.hosted import hosted
from tests.test_prefill import DENSE, HARDWARE, MOE, WORKLOAD

CHUNKED, ALONE, WHOLE = Filling(), Filling(mixed=0.0), Filling(whole=1.0)
BUNCHED = Filling(whole=1.0, bunched=1.0)
shared_steps, filled_steps, rush = map(hosted, (laws.shared_steps, laws.filled_steps, laws.rush))


def steps(batch, prompt, output, rules=CHUNKED, pp=1.0, **workload):
    work = Workload(context=prompt, batch=batch, **workload)
    return filled_steps(Partition(pp=pp), work, prompt, output, rules)


def shared(batch, prompt, output, rules=CHUNKED, model=DENSE, hardware=HARDWARE, **degrees):
    work = dataclasses.replace(WORKLOAD, context=prompt + output / 2.0, batch=batch)
    return shared_steps(
        Records(model, hardware, Partition(**degrees), work), PHYSICAL, prompt, output, rules
    )


def test_a_full_step_by_hand():
    # 29 steps of 9,000-token prompts: a sequence that decodes brings 310.3 tokens a step to read,
    # so that 26.3 others and itself fill 8,192 tokens, however many are in flight.
    for batch in (64.0, 640.0):
        found = steps(batch, 9000.0, 30.0)
        others = 8191.0 / (1.0 + 9000.0 / 29.0)
        assert float(found.decoding) == pytest.approx(1.0 + others)
        assert float(found.chunk) == pytest.approx(8191.0 - others)
        assert float(found.share) == pytest.approx(1.0)


def test_a_rare_prompt_by_hand():
    # 7 others, of whose 1,001 steps one reads the prompt: 7 * 1000/1001 prompts in 1,000 steps.
    found = steps(8.0, 1000.0, 1001.0)
    others = 7.0 / 1.001
    assert float(found.decoding) == pytest.approx(1.0 + others)
    rate = others / 1000.0
    assert float(found.share) == pytest.approx(-np.expm1(-rate))
    assert float(found.chunk * found.share) == pytest.approx(others)


def test_requests_that_start_together_by_hand():
    # 16 prompts of 1,000 tokens: 8 fit beside 16 answers, so that 8 others delay a sequence.
    found = steps(16.0, 1000.0, 1001.0, BUNCHED)
    decoding = 1.0 + 15.0 / 1.001
    assert float(found.decoding) == pytest.approx(decoding)
    assert float(found.chunk) == 8000.0
    assert float(found.share) == pytest.approx((decoding - 8.0) / 8000.0)
    # 8 of them are read in one step, and none waits for another's prompt.
    alone = steps(8.0, 1000.0, 1001.0, BUNCHED)
    assert (float(alone.chunk), float(alone.share)) == (8000.0, 0.0)
    # As many prompts are read in all; the mean over all steps knows the same number.
    assert float(alone.share_of_all * alone.chunk) == pytest.approx(float(alone.everyone))


def test_many_that_start_together_fill_every_step_as_by_chance():
    """In the limit of a full budget it does not matter who comes when."""
    for prompt, output in ((9000.0, 30.0), (100.0, 50.0)):
        even = Filling(bunched=1.0)
        found, chance = steps(1e6, prompt, output, even), steps(1e6, prompt, output, CHUNKED)
        assert float(found.chunk) == pytest.approx(float(chance.chunk))
        assert float(found.share) == pytest.approx(float(chance.share), rel=0.05)


def test_a_step_with_prompts_is_no_shorter_than_one_without():
    """Where short messages of all-reduces cost most, as on links without NVLink."""
    slow = HARDWARE.replace(intra_bw=2e10, eff_allreduce=0.05)
    found = shared(1000.0, 1000.0, 1000.0, Filling(budget=2048.0), hardware=slow, tp=8.0)
    assert float(found.full.ttft) < float(found.step.tpot)
    assert float(found.wait) == 0.0
    assert float(found.tpot) == float(found.step.tpot)


def test_decoding_waits_by_hand():
    # All 8 decode; each of 7 others brings 20,000 tokens in 100 steps: passes of 2/3 * 10,000.
    found = steps(8.0, 20_000.0, 101.0, ALONE)
    assert float(found.decoding) == 8.0
    assert float(found.share * found.chunk) == pytest.approx(7.0 * 200.0)
    assert float(found.chunk) == pytest.approx(0.21 / -np.expm1(-0.21) * 20_000.0 / 3.0)


def test_a_wave_of_equal_requests_by_hand():
    """All 8 are read before any decodes: each waits for half of the others after its own."""
    wave = ALONE._replace(bunched=1.0, budget=1000.0)
    found = shared(8.0, 1000.0, 101.0, wave)
    step, read = float(found.step.tpot), float(found.full.ttft)
    assert float(found.tpot) == pytest.approx(step + 7.0 * read / 2.0 / 100.0)
    first = float(found.ttft)
    assert first == pytest.approx(8.0 * read / 2.0 + read / 2.0, rel=1e-6)
    # As long in all as without a wave, in which requests wait after their first token alone.
    chance = shared(8.0, 1000.0, 101.0, ALONE._replace(budget=1000.0))
    together = first + 100.0 * float(found.tpot)
    assert together == pytest.approx(float(chance.ttft + 100.0 * chance.tpot), rel=1e-6)


@pytest.mark.parametrize("rules", [CHUNKED, ALONE, WHOLE, BUNCHED, ALONE._replace(bunched=1.0)])
@pytest.mark.parametrize("pp", [1.0, 4.0])
@pytest.mark.parametrize(("query", "accepted"), [(1.0, 1.0), (4.0, 2.5)])
def test_the_oracle_agrees(rules, pp, query, accepted):
    lengths = (1.0, 100.0, 1000.0, 9000.0, 100_000.0)
    for batch, prompt, output in itertools.product((1.0, 7.0, 300.0), lengths, lengths):
        found = steps(
            batch, prompt, output, rules, pp, query_tokens=query,
            tokens_per_step=accepted,
        )  # fmt: skip
        wanted = oracle.filled_steps(
            batch, prompt, output, rules.budget, rules.mixed, rules.whole, rules.bunched, pp,
            query, accepted,
        )  # fmt: skip
        np.testing.assert_allclose(found, wanted, rtol=1e-8)


def test_a_step_with_both_by_hand():
    """500 answers beside 1,500 tokens of prompts of 3,000: weights once, attention apart."""
    work = dataclasses.replace(WORKLOAD, context=2000.0, batch=500.0)
    step = decode_step(Records(DENSE, HARDWARE, Partition(), work), PHYSICAL)
    cache = step.hbm.kv + step.hbm.activations.attention
    answers = Answers(500.0, step.compute.attention, cache, 0.25)
    both = prefill_step(
        Records(DENSE, HARDWARE, Partition(), WORKLOAD),
        PHYSICAL,
        Prompts(3000.0, 0.5),
        answers=answers,
    )
    attention = 10 * 4 * 64 * 16 * 1500 * 1500 / (1e14 * 0.5)
    read = 2 * 10 * 2 * 4 * 64 * 2000 * 500 / 1e12  # keys and values of ten layers
    queries = 10 * 2 * 16 * 2 * 64 * 500 * 2 / 2 / 1e12
    projection = 2 * 2000 * 10 * 1024 * 64 * (2 * 16 + 2 * 4) / (2e14 * 0.5)
    ffn = 2 * 2000 * 10 * 3 * 1024 * 4096 / (2e14 * 0.5)
    head_bytes = 2 * 32000 * 1024
    assert float(both.compute.projection) == pytest.approx(projection)
    assert float(both.compute.ffn) == pytest.approx(ffn)
    assert float(both.compute.head) == pytest.approx(2 * 32000 * 1024 * 500.5 / (1e14 * 0.5))
    assert float(both.hbm.head) == pytest.approx((head_bytes + 500.5 * 2 * (1024 + 32000)) / 1e12)
    assert float(both.hbm.attention) >= read + queries
    # Seconds of a stage: prompts' attention and that of the answers one after the other.
    decoding = max(float(step.compute.attention), float(cache))
    assert decoding == pytest.approx(float(cache))
    slower = [max(float(c), float(h)) for c, h in zip(both.compute[1:], both.hbm[1:], strict=True)]
    total = attention + decoding + sum(slower) + 10 * 1e-5 + 0.25
    assert float(both.ttft) - HARDWARE.step_overhead == pytest.approx(total, rel=1e-6)


def test_host_work_of_answers_is_part_of_a_full_step():
    slow = dataclasses.replace(HARDWARE, sequence_overhead=2e-5)
    quick, found = (shared(200.0, 3000.0, 300.0, hardware=one) for one in (HARDWARE, slow))
    decoding = float(found.steps.decoding)
    assert decoding > 50.0
    longer = float(found.full.ttft - quick.full.ttft)
    assert longer == pytest.approx(2e-5 * decoding, rel=1e-6)
    alone = shared(200.0, 3000.0, 300.0, ALONE, hardware=slow)
    assert float(alone.full.ttft) < float(found.full.ttft) - 0.9 * longer


def test_without_answers_a_pass_is_a_prefill():
    found = shared(1.0, 4096.0, 100.0, ALONE)
    alone = prefill_step(Records(DENSE, HARDWARE, Partition(), WORKLOAD), PHYSICAL, Prompts(4096.0))
    assert float(found.full.ttft) == pytest.approx(float(alone.ttft), rel=tolerances.EXACT)
    assert float(found.wait) == 0.0
    assert float(found.ttft) == pytest.approx(float(alone.ttft), rel=1e-6)


def test_long_answers_wait_for_whole_prompts():
    """Output far beyond input times batch: (B - 1) prompts in the time of an answer."""
    batch, prompt, output = 8.0, 2000.0, 1e7
    found = shared(batch, prompt, output, ALONE)
    alone = prefill_step(Records(DENSE, HARDWARE, Partition(), WORKLOAD), PHYSICAL, Prompts(prompt))
    wait = (batch - 1.0) * float(alone.ttft) / output
    assert float(found.wait) == pytest.approx(wait, rel=1e-4)
    assert float(found.tpot) == pytest.approx(float(found.step.tpot) + wait, rel=1e-9)
    # Sharing spares the weights of one step, no more.
    mixed = shared(batch, prompt, output)
    assert wait - 7.0 * float(mixed.step.tpot) / output < float(mixed.wait) < wait
    assert float(mixed.tpot) == pytest.approx(float(found.tpot), rel=1e-5)


def test_long_prompts_fill_every_step():
    """Input far beyond output: the time of a step full of prompt tokens, for any batch."""
    budget = 8192.0
    full = prefill_step(
        Records(DENSE, HARDWARE, Partition(), WORKLOAD), PHYSICAL, Prompts(1e5, budget / 1e5)
    )
    for batch in (16.0, 1024.0):
        found = shared(batch, 1e5, 2.0)
        assert float(found.tpot) == pytest.approx(float(full.ttft), rel=0.02)


def test_nothing_to_read_leaves_the_decode_step():
    work = dataclasses.replace(WORKLOAD, context=1000.0, batch=64.0)
    design = (Records(DENSE, HARDWARE, Partition(), work), PHYSICAL)
    found = shared_steps(*design, 1000.0, np.inf)
    assert float(found.step.tpot) == float(decode_step(*design).tpot)
    assert float(found.wait) == 0.0
    assert float(found.tpot) == float(found.step.tpot)
    assert float(found.tokens_per_s) == pytest.approx(64.0 / float(found.step.tpot))


@pytest.mark.parametrize("rules", [CHUNKED, ALONE, WHOLE, BUNCHED])
@pytest.mark.parametrize("model", [DENSE, MOE])
def test_slopes_meet_finite_differences(rules, model):
    def log_times(bw, prompt):
        hardware = HARDWARE.replace(hbm_bw=bw)
        found = shared(20.0, prompt, 100.0, rules, model, hardware, tp=2.0)
        return jax.numpy.log(jax.numpy.stack([found.tpot, found.ttft, found.tokens_per_s]))

    # Away from the steps at which a prompt needs one chunk more.
    at = (1e12, 3000.0)
    slopes = jax.jacobian(log_times, argnums=(0, 1))(*at)
    for k, slope in enumerate(slopes):
        h = 1e-5 * at[k]
        moved = [log_times(*(x + s * h * (i == k) for i, x in enumerate(at))) for s in (1, -1)]
        np.testing.assert_allclose(
            slope, (moved[0] - moved[1]) / (2 * h), rtol=1e-4, atol=1e-7 / at[k]
        )


@pytest.mark.parametrize("rules", [CHUNKED, ALONE, WHOLE, BUNCHED])
@pytest.mark.parametrize(("prompt", "output"), [(1.0, 1.0), (1e6, 2.0), (2.0, 1e6)])
def test_slopes_are_finite(rules, prompt, output):
    def total(hardware, prompt, output):
        found = shared(9.0, prompt, output, rules, MOE, hardware, tp=2.0, ep=2.0, pp=2.0)
        return found.tpot + found.ttft + found.tokens_per_s + found.busy

    slopes = jax.grad(total, argnums=(0, 1, 2))(jax.tree.map(float, HARDWARE), prompt, output)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(slopes))


def test_more_budget_never_waits_less_for_a_token():
    """A larger budget reads prompts sooner and makes steps longer, while prompts wait."""
    found = [shared(64.0, 30_000.0, 30.0, Filling(budget=b)) for b in (1024.0, 4096.0, 16384.0)]
    assert np.all(np.diff([float(x.tpot) for x in found]) > 0)
    assert np.all(np.diff([float(x.ttft) for x in found]) < 0)


def test_a_rush_by_hand():
    # 20 prompts of 1,000 tokens: 2.44 passes of 8,192 tokens; a request waits for half the others.
    work = dataclasses.replace(WORKLOAD, batch=20.0)
    design = (Records(DENSE, HARDWARE, Partition(), work), PHYSICAL, 1000.0)
    one = prefill_step(*design[:2], Prompts(design[2], 8.192)).ttft
    assert float(rush(*design)) == pytest.approx((20_000 / 8192 + 1) / 2 * float(one))
    # Half of each prompt is in the cache: 1.22 passes of 16.4 prompts.
    rest = prefill_step(*design[:2], Prompts(design[2], 16.384, 500.0)).ttft
    halved = float(rush(*design, cached=500.0))
    assert halved == pytest.approx((10_000 / 8192 + 1) / 2 * float(rest))
    few = dataclasses.replace(work, batch=2.0)
    two = prefill_step(*design[:2], Prompts(design[2], 2.0)).ttft
    assert float(
        rush(Records(DENSE, HARDWARE, Partition(), few), PHYSICAL, 1000.0)
    ) == pytest.approx(float(two))


def test_a_rush_fills_every_stage_with_a_budget():
    work = dataclasses.replace(WORKLOAD, batch=40.0)
    design = (Records(DENSE, HARDWARE, Partition(pp=2.0), work), PHYSICAL, 1000.0)
    one = prefill_step(*design[:2], Prompts(design[2], 8.192)).ttft
    assert float(rush(*design)) == pytest.approx((40_000 / 16_384 + 1) / 2 * float(one))


@pytest.mark.parametrize("pp", [1.0, 2.0])
def test_a_gpu_is_busy_in_its_steps_and_in_its_share_of_the_passes(pp):
    found = shared(64.0, 4000.0, 200.0, ALONE, pp=pp)
    mean = float(found.steps.everyone * (1.0 + 1.0 / 199.0) / found.tokens_per_s)
    passes = pp * float(found.steps.share_of_all * found.full.t_busy)
    works = float(found.step.busy * found.step.tpot) + passes
    assert float(found.busy) == pytest.approx(works / mean)
    assert 0.1 < float(found.busy) < 1.0


GRID = tuple(itertools.product((128, 1024, 9000), (30, 256), (4, 32)))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_the_simulation_agrees(engine):
    """Mean times of a closed loop served one request at a time, without the engine's front end."""
    one = Records(
        catalog.model("qwen3-8b"), catalog.hardware("h200-sxm"), Partition(),
        catalog.workload("qwen3-8b"),
    )  # fmt: skip
    usual = default_scheduler(engine, float(one.hardware.hbm_bytes))
    rules = dataclasses.replace(usual, frontend=0.0, stream_steps=0.0)
    some = [
        serving.deploy(
            one, PHYSICAL, rules,
            traffic.closed_loop(
                users,
                traffic.Demand(
                    f"{int(0.8 * i)}-{i}", f"{int(0.8 * o)}-{o}", requests=10 * users
                ),
            ),
        )
        for i, o, users in GRID
    ]  # fmt: skip
    errors = []
    for (_, _, users), seen in zip(GRID, serving.simulate(some), strict=True):
        prompt, output = (float(np.mean(x)) for x in (seen.traffic.prompt, seen.traffic.output))
        work = dataclasses.replace(
            one.workload, context=prompt + output / 2.0, batch=float(users), kv_block=1.0
        )
        found = shared_steps(one._replace(workload=work), PHYSICAL, prompt, output, filling(rules))
        errors.append(float(found.tpot) / seen.mean("tpot") - 1.0)
    assert np.median(np.abs(errors)) < 0.02
    assert np.max(np.abs(errors)) < 0.10


def filling(rules: Scheduler) -> Filling:
    return Filling(rules.budget, rules.mixed, rules.whole)


def test_requests_on_their_way_decode_nothing():
    """By hand: of 32 users with answers of 101 tokens one in five waits for its last token."""
    plain, late = (shared(32.0, 1024.0, 101.0, Filling(stream_steps=s)) for s in (0.0, 25.0))
    alone, here = 1.0 / 1.01, 1.0 / 1.26  # 100 steps of decode, one of the prompt, 25 of the way
    assert float(plain.steps.decoding) == pytest.approx(1.0 + 31.0 * alone)
    assert float(late.steps.decoding) == pytest.approx(1.0 + 31.0 * here)
    assert float(late.tpot) < float(plain.tpot)
    # Little's law: every one of the 32 is on its way, or read, or decodes.
    rate = float(late.tokens_per_s) / 101.0
    assert rate * float(late.ttft + 100.0 * late.tpot) == pytest.approx(32.0)
    front = shared(32.0, 1024.0, 101.0, Filling(stream_steps=25.0, frontend=0.02))
    assert float(front.ttft - late.ttft) == pytest.approx(0.02)
    assert float(front.tpot) == float(late.tpot)


def test_replicas_in_lockstep_by_hand():
    """Three replicas, of which each reads in a fifth of its steps: one of them does in 48.8 %."""
    assert float(with_any(0.2, 3.0)) == pytest.approx((1.0 - 0.8**3) / 0.2)
    assert float(with_any(0.2, 1.0)) == pytest.approx(1.0)
    # All read all the time, or never: as many steps as of one, or the sum of all.
    assert float(with_any(1.0, 8.0)) == pytest.approx(1.0)
    assert float(with_any(0.0, 8.0)) == pytest.approx(8.0)


def test_prompts_of_replicas_that_share_experts():
    """By hand: more steps have prompts, in which a smaller share of them meets the experts."""
    chunked, locked = CHUNKED, Filling(lockstep=1.0)
    given = (64.0, 1024.0, 1024.0)
    split = {"model": MOE, "dp": 4.0, "ep": 4.0}
    free, bound = (shared(*given, rules, **split) for rules in (chunked, locked))
    more = with_any(free.steps.share, 4.0)
    routed = free.full.compute.ffn - bound.full.compute.ffn
    assert float(bound.wait) == pytest.approx(
        float(more * free.steps.share * (bound.full.ttft - bound.step.tpot))
    )
    assert float(routed) > 0
    assert float(bound.full.compute.projection) == float(free.full.compute.projection)
    assert float(free.wait) < float(bound.wait) < float(more * free.wait)
    # Replicas of a dense model are whole copies, which wait for nobody.
    alone = {"model": DENSE, "dp": 4.0}
    assert float(shared(*given, locked, **alone).tpot) == float(
        shared(*given, chunked, **alone).tpot
    )


def test_a_pass_in_which_some_of_the_replicas_read():
    """By hand: a quarter of the replicas with 1,000 tokens each, as 250 tokens at the experts."""
    design = (Records(MOE, HARDWARE, Partition(dp=4.0, ep=4.0), WORKLOAD), PHYSICAL)
    some = prefill_step(*design, Prompts(1000.0, reading=0.25))
    few, all_of_them = (prefill_step(*design, Prompts(tokens)) for tokens in (250.0, 1000.0))
    assert float(some.compute.attention) == float(all_of_them.compute.attention)
    own = float(rates(context_of(*design)).compute.ffn)  # the router, which every token meets
    routed = float(few.compute.ffn) - 250.0 * own
    assert float(some.compute.ffn) == pytest.approx(1000.0 * own + routed)


def test_rules_of_engines():
    for engine, ways in {
        "sglang": (8192.0, 0.0, 0.0, 1.0),
        "trtllm": (8192.0, 1.0, 1.0, 0.0),
        "vllm": (8192.0, 1.0, 0.0, 1.0),
        "atom": (16_384.0, 0.0, 1.0, 1.0),
    }.items():
        told = load_schedulers()[engine]
        later = (told["stream_steps"], pytest.approx(told["frontend_ms"] * 1e-3))
        assert filling_of(engine, 80e9)[:6] == (*ways, *later)
    # SGLang's budget is one of the server, vLLM's and TensorRT-LLM's of each replica.
    shared = {engine: filling_of(engine, 80e9, replicas=8.0) for engine in ("sglang", "vllm")}
    assert (shared["sglang"].budget, shared["vllm"].budget) == (1024.0, 8192.0)
    assert filling_of("", 80e9) == filling_of("vllm", 80e9)
    assert filling_of("vllm", 80e9, "a100-sxm").budget == 2048.0


def test_a_measured_case_of_long_prompts_and_short_answers():
    # Qwen3-8B on one H200, 9,000 in and 30 out, 64 in flight: 308.8 ms between tokens measured;
    # (B - 1) whole prompts in the time of an answer said 637.7.
    work = dataclasses.replace(catalog.workload("qwen3-8b"), context=9015.0, batch=64.0)
    records = Records(catalog.model("qwen3-8b"), catalog.hardware("h200-sxm"), Partition(), work)
    found = shared_steps(records, PHYSICAL, 9000.0, 30.0, filling_of("vllm", 141e9))
    assert abs(float(found.tpot) / 0.3088 - 1.0) < 0.15
