"""Prefill: hand-worked terms and limits."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hosted import hosted
from tolerances import EXACT

import qsjax as qs
from qsjax import catalog
from qsjax.catalog import ideal
from qsjax.cost.laws.communication import expert_parallel
from qsjax.cost.laws.sharding import context_of
from qsjax.cost.prefill import Prompts, mean_attended, prefill_step
from qsjax.records.specs import PHYSICAL, HardwareSpec, ModelSpec, Partition, Records, Workload

PROMPT = 4096.0
DENSE = ModelSpec(
    layers=10.0, hidden=1024.0, vocab=32000.0, heads=16.0, kv_heads=4.0, head_dim=64.0,
    expert_ff=4096.0,
)  # fmt: skip
MOE = dataclasses.replace(DENSE, experts=8.0, top_k=2.0)
HARDWARE = HardwareSpec(
    hbm_bytes=8e10, hbm_bw=1e12, flops_bf16=1e14, flops_fp8=2e14, flops_fp4=4e14, intra_bw=1e11,
    inter_bw=1e10, island_size=8.0, reserve_bytes=0.0, moe_reserve_bytes=0.0,
)  # fmt: skip
HARDWARE = dataclasses.replace(
    ideal(HARDWARE), eff_gemm=0.5, eff_attention=0.5, step_overhead=1e-3, layer_overhead=1e-5,
    intra_latency=1e-5, inter_latency=5e-6, eff_allreduce=0.1,
)  # fmt: skip
WORKLOAD = Workload(context=1.0)


def step(model=DENSE, prompt=PROMPT, hardware=HARDWARE, prompts=1.0, mode="pass_kv", **degrees):
    partition = Partition(**degrees)
    design = Records(model, hardware, partition, WORKLOAD), PHYSICAL
    return hosted(prefill_step)(*design, Prompts(prompt, prompts), context_parallel=mode)


@pytest.mark.parametrize(("prompt", "limit"), [(100, 1e9), (100, 30), (30, 100)])
def test_mean_attended_is_the_sum_over_a_prompt(prompt, limit):
    by_hand = sum(min(i, limit) for i in range(prompt)) / prompt
    assert float(mean_attended(prompt, limit)) == pytest.approx(by_hand, abs=0.5)


def test_terms_by_hand():
    cost = step(tp=4.0)
    pairs = PROMPT * PROMPT / 2
    attention = 10 * 4 * 64 * 16 * pairs / 4 / (1e14 * 0.5)
    projection = 2 * PROMPT * 10 * 1024 * 64 * (2 * 16 + 2 * 4) / 4 / (2e14 * 0.5)
    ffn = 2 * PROMPT * 10 * 3 * 1024 * 4096 / 4 / (2e14 * 0.5)
    head = 2 * 32000 * 1024 / 4 / (1e14 * 0.5)
    assert np.allclose(cost.compute, [attention, projection, ffn, head], rtol=EXACT)
    # Two ring all-reduces a layer of the whole prompt, at the full link: messages are long.
    messages = 10 * 2 * (2 * 3 / 4 * PROMPT * 1024 * 2 / 1e11 + 2 * 1e-5)
    assert float(cost.comm) == pytest.approx(messages, rel=EXACT)
    slower = sum(max(float(c), float(h)) for c, h in zip(cost.compute, cost.hbm, strict=True))
    assert float(cost.ttft) == pytest.approx(slower + messages + 10 * 1e-5 + 1e-3, rel=EXACT)
    assert float(cost.tokens_per_s) == pytest.approx(PROMPT / (float(cost.ttft) - 1e-3))


@pytest.mark.parametrize(("prompt", "padding"), [(1000.0, None), (8000.0, 4.0)])
def test_prompts_that_choose_their_tokens_fill_tiles_by_hand(prompt, padding):
    """16 heads of a rank in tiles of 64 rows; prompts within the choice attend to all, unpadded."""
    model = dataclasses.replace(
        DENSE, heads=64.0, kv_latent=512.0, rope_dim=64.0, qk_nope_dim=128.0, v_head_dim=128.0,
        sparse_topk=2048.0,
    )  # fmt: skip
    hardware = dataclasses.replace(HARDWARE, query_tile=64.0)
    cost = step(model=model, prompt=prompt, hardware=hardware, tp=4.0)
    attended = float(mean_attended(prompt, 2048.0))
    pair = 2 * (128 + 64 + 128) if padding is None else padding * 2 * (2 * 512 + 64)
    by_hand = prompt * attended * 10 * 16 * pair / (1e14 * 0.5)
    assert float(cost.compute.attention) == pytest.approx(by_hand, rel=EXACT)


def test_the_busiest_rank_receives_its_load():
    partition = Partition(ep=4.0, dp=4.0)
    skewed = dataclasses.replace(PHYSICAL, expert_load_factor=1.5)
    even, busy = (
        prefill_step(Records(MOE, HARDWARE, partition, WORKLOAD), rules, Prompts(PROMPT))
        for rules in (PHYSICAL, skewed)
    )
    # Of four expert ranks three are elsewhere; dispatch in one byte, combine in two.
    exchange = 10 * PROMPT * 2 * 1024 * (1 + 2) * 3 / 4 / 1e11
    assert float(busy.comm - even.comm) == pytest.approx(0.5 * exchange, rel=EXACT)
    assert float(busy.compute.ffn - even.compute.ffn) == pytest.approx(
        0.5 * 2 * PROMPT * 10 * 2 * 3 * 1024 * 4096 / (2e14 * 0.5), rel=EXACT
    )


def test_a_token_crosses_once_to_each_island_that_it_has_experts_on():
    """Two of eight ranks in four islands of two: what any placement of the two copies sends."""
    slow = dataclasses.replace(HARDWARE, island_size=2.0, inter_bw=1e9, inter_latency=0.0)
    away = [len({a // 2, b // 2} - {0}) for a, b in itertools.product(range(8), repeat=2)]
    exchange = 10 * PROMPT * 1024 * (1 + 2) * np.mean(away) / (1e9 * HARDWARE.eff_link)
    found = step(MOE, hardware=slow, ep=8.0, dp=8.0).comm
    assert float(found) == pytest.approx(exchange, rel=EXACT)
    # Inside, where links between islands are free: of two copies half is on one's own rank or its
    # neighbour's, and so is half of what arrives from elsewhere.
    free = dataclasses.replace(slow, inter_bw=1e30)
    hops = [(a % 2 != 0) + (b % 2 != 0) for a, b in itertools.product(range(8), repeat=2)]
    exchange = 10 * PROMPT * 1024 * (1 + 2) * np.mean(hops) / (1e11 * HARDWARE.eff_link)
    found = step(MOE, hardware=free, ep=8.0, dp=8.0).comm
    assert float(found) == pytest.approx(exchange, rel=EXACT)


@pytest.mark.parametrize(
    ("tp", "dp", "ep"), [(4, 2, 8), (8, 2, 8), (4, 2, 2), (4, 2, 4), (2, 4, 4)]
)
def test_replicas_and_experts_over_several_islands_by_placement(tp, dp, ep):
    """GPU g is in island g // 2, replica g // tp and expert rank g // (GPUs of one)."""
    width, crossed, taken = tp * dp // ep, [], []
    for pair in itertools.product(range(ep), repeat=2):
        ranks = [range(e * width, (e + 1) * width) for e in pair]
        islands = [{g // 2 for g in rank} if min(rank) >= tp else set() for rank in ranks]
        crossed.append(len(set.union(*islands) - {g // 2 for g in range(tp)}))
        taken.append(sum(len(rank) for rank in ranks if min(rank) >= tp))
    model = dataclasses.replace(MOE, kv_heads=8.0)
    design = {"tp": float(tp), "dp": float(dp), "ep": float(ep)}
    rules = dataclasses.replace(PHYSICAL, expert_exchange="relayed")

    def exchange(**links):
        hardware = dataclasses.replace(HARDWARE, island_size=2.0, **links)
        records = Records(model, hardware, Partition(**design), WORKLOAD)
        return float(expert_parallel(context_of(records, rules), 1.0, 1.0).bandwidth)

    token = 10 * 1024 * (1 + 2) / tp / HARDWARE.eff_link
    assert exchange(intra_bw=1e30) == pytest.approx(token * np.mean(crossed) / 1e10, rel=EXACT)
    # Of what arrives at one GPU of an island half is for its neighbour, which a mesh reaches by
    # all of its links where the island has no others.
    inside = pytest.approx(token * np.mean(taken) / 2 / 1e11, rel=EXACT)
    assert exchange(inter_bw=1e30) == inside == exchange(inter_bw=1e30, mesh=1.0)


# DeepEP's normal kernels on H800, 4,096 tokens of DeepSeek-V3 (https://github.com/deepseek-ai/DeepEP
# at dd758ca, docs/legacy.md): expert ranks, and GB/s, the mean of dispatch and combine, by its own
# count: a token is a message to each node that it has experts on, its own too, and these are on at
# most four nodes, which the law does not know.
@pytest.mark.parametrize(
    ("ranks", "rate", "ratio"), [(16, 43.0, 1.01), (32, 57.5, 1.15), (64, 50.5, 1.72)]
)
def test_exchanges_of_prompts_as_deepep_measures_them(ranks, rate, ratio):
    nodes = min(ranks // 8, 4)
    measured = nodes * (1 - (1 - 1 / nodes) ** 8) * 7168 * (1 + 2) / (rate * 1e9)
    own = Records(
        catalog.model("deepseek-v3"),
        catalog.hardware("h800-sxm"),
        Partition(dp=float(ranks), ep=float(ranks)),
        catalog.workload("deepseek-v3"),
    )
    convention = dataclasses.replace(PHYSICAL, expert_exchange="relayed")
    one = expert_parallel(context_of(own, convention), 1.0, 1.0)
    assert float(one.bandwidth) / 58 / measured == pytest.approx(ratio, abs=0.02)


# Prompt tokens/s of a node of eight in four nodes, measured with half of a batch beside the other:
# https://www.lmsys.org/blog/2025-05-05-large-scale-ep (SGLang on H100, and DeepSeek's own profile).
@pytest.mark.parametrize(
    ("hardware", "prompt", "measured", "ratio"),
    [
        ("h800-sxm", 4096.0, 62_713, 0.71),
        ("h100-sxm", 1024.0, 57_674, 0.83),
        ("h100-sxm", 2048.0, 54_543, 0.86),
        ("h100-sxm", 4096.0, 50_302, 0.89),
    ],
)
def test_prompts_of_deepseek_over_four_nodes(hardware, prompt, measured, ratio):
    own = Records(
        catalog.model("deepseek-v3"),
        catalog.hardware(hardware),
        Partition(dp=32.0, ep=32.0),
        catalog.workload("deepseek-v3"),
    )
    cost = prefill_step(own, PHYSICAL, Prompts(prompt, 16384.0 / prompt))
    assert 8 * float(cost.tokens_per_s_per_gpu) / measured == pytest.approx(ratio, abs=0.01)


def test_context_parallelism_divides_attention_and_sends_what_it_passes():
    one = step()
    four = {mode: step(kvp=4.0, mode=mode) for mode in ("pass_kv", "pass_q")}
    for cost in four.values():
        assert float(cost.compute.attention) == pytest.approx(float(one.compute.attention) / 4)
        assert float(cost.compute.ffn) == pytest.approx(float(one.compute.ffn) / 4)
    per_byte = 10 * 2 / 1e11
    width = {"pass_kv": 3 / 4 * 2 * 4 * 64, "pass_q": 3 / 16 * 16 * (64 + 64 + 1)}
    wanted = PROMPT * per_byte * (width["pass_kv"] - width["pass_q"])
    difference = float(four["pass_kv"].comm - four["pass_q"].comm)
    assert difference == pytest.approx(wanted)


def test_copies_of_the_weights_run_their_own_tokens():
    rules = dataclasses.replace(PHYSICAL, ffn_sharding="tp")
    one, four = (
        hosted(prefill_step)(
            Records(DENSE, HARDWARE, Partition(kvp=n, tp=2.0), WORKLOAD), rules, Prompts(PROMPT)
        )
        for n in (1.0, 4.0)
    )
    assert float(four.compute.ffn) == pytest.approx(float(one.compute.ffn) / 4, rel=EXACT)
    # The all-reduces of a quarter of the tokens, and three hops of the ring with all keys and
    # values of a rank's heads but its own quarter.
    reduced = 10 * 2 * (2 * 1 / 2 * PROMPT / 4 * 1024 * 2 / 1e11 + 2 * 1e-5)
    ring = 10 * (3 * 1e-5 + 3 / 4 * PROMPT * 2 * 2 * 64 * 2 / 1e11)
    assert float(four.comm) == pytest.approx(reduced + ring, rel=EXACT)


# Seconds on 16 nodes of eight H100, with the feed-forward in FP8: https://arxiv.org/abs/2411.01783
@pytest.mark.parametrize(("prompt", "measured", "ratio"), [("1M", 77, 0.94), ("128k", 3.8, 0.66)])
def test_a_prompt_of_llama_405b_over_copies_on_16_nodes(prompt, measured, ratio):
    given = qs.workload("llama-3.1-405b").replace(bytes_ffn_weight=1.0, ffn_dtype="fp8")
    found = qs.prefill(
        "llama-3.1-405b",
        "h100-sxm",
        Partition(tp=8.0, kvp=16.0),
        prompt=prompt,
        workload=given,
        convention=PHYSICAL.replace(ffn_sharding="tp"),
    )
    assert float(found.ttft) / measured == pytest.approx(ratio, abs=0.01)


def test_the_paper_has_no_prefill():
    with pytest.raises(ValueError, match="the paper counts decoding alone"):
        qs.prefill("llama-3.1-8b", "h100-sxm", prompt="1k", convention="paper")


@pytest.mark.parametrize(
    ("family", "phases", "degrees"),
    [
        ("tp", ("projection", "ffn"), {"tp": 4.0}),
        ("kv", ("attention",), {"kvp": 4.0}),
        ("ep", ("ffn",), {"ep": 4.0, "dp": 4.0}),
        ("layout", ("ffn",), {"tp": 2.0, "kvp": 2.0, "ep": 2.0}),
    ],
)
def test_communication_hides_in_its_phases(family, phases, degrees):
    """A thousandth of the time that they take hides as much."""
    hides = dataclasses.replace(HARDWARE, **{f"overlap_{family}": 1e-3})
    none, some = (step(MOE, hardware=x, **degrees) for x in (HARDWARE, hides))
    seconds = sum(max(float(getattr(x, name)) for x in (none.compute, none.hbm)) for name in phases)
    assert float(none.comm - some.comm) == pytest.approx(1e-3 * seconds, rel=EXACT)


def test_pipeline_stages_raise_throughput_not_speed():
    one, two = step(), step(pp=2.0)
    assert float(two.ttft) > float(one.ttft) * 0.99
    assert float(two.tokens_per_s) > 1.8 * float(one.tokens_per_s)


def test_latent_attention_is_not_absorbed():
    latent = {"kv_latent": 512.0, "rope_dim": 64.0, "qk_nope_dim": 128.0, "v_head_dim": 128.0}
    cost = step(dataclasses.replace(DENSE, **latent))
    ratio = float(cost.compute.attention / step().compute.attention)
    assert ratio == pytest.approx(2 * (128 + 64 + 128) / (4 * 64))


@pytest.mark.parametrize("model", [DENSE, MOE])
@pytest.mark.parametrize("prompt", [1.0, 17.0, 1e6])
def test_gradients_are_finite(model, prompt):
    def log_ttft(hardware, prompt):
        return step(model, prompt, hardware, tp=2.0, ep=2.0, dp=2.0, kvp=2.0).ttft

    hardware = jax.tree.map(float, HARDWARE)
    gradients = jax.grad(log_ttft, argnums=(0, 1))(hardware, prompt)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(gradients))
