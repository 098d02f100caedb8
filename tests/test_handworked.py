"""Published and hand-worked values, with the arithmetic beside each.

Shapes are those of the models' `config.json`; the hardware is an H100 SXM with 3.35 TB/s and every
efficiency 1, so that each number is bytes over bandwidth.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from tolerances import EXACT, PRINTED_3_DIGITS

from qsjax.catalog import ideal
from qsjax.cost.decode import decode_step
from qsjax.cost.laws import memory, params
from qsjax.records.specs import PHYSICAL, HardwareSpec, ModelSpec, Partition, Records, Workload

HBM_BW = 3.35e12
LLAMA_70B = ModelSpec(
    layers=80,
    hidden=8192,
    vocab=128256,
    heads=64,
    kv_heads=8,
    head_dim=128,
    expert_ff=28672,
)
MIXTRAL_8X7B = ModelSpec(
    layers=32,
    hidden=4096,
    vocab=32000,
    heads=32,
    kv_heads=8,
    head_dim=128,
    expert_ff=14336,
    experts=8,
    top_k=2,
)
DEEPSEEK_V3 = ModelSpec(
    layers=61,
    hidden=7168,
    vocab=129280,
    heads=128,
    kv_heads=128,
    head_dim=128,
    expert_ff=2048,
    experts=256,
    top_k=8,
    shared_experts=1,
    shared_ff=2048,
    dense_layers=3,
    dense_ff=18432,
    kv_latent=512,
    rope_dim=64,
    q_lora_rank=1536,
    qk_nope_dim=128,
    v_head_dim=128,
)
H100 = ideal(
    HardwareSpec(
        hbm_bytes=80e9,
        hbm_bw=HBM_BW,
        flops_bf16=989e12,
        flops_fp8=1979e12,
        flops_fp4=1979e12,
        intra_bw=450e9,
        inter_bw=50e9,
        island_size=8,
        reserve_bytes=0.0,
        moe_reserve_bytes=0.0,
    )
)
TP8 = Partition(tp=8)
BF16 = Workload(
    context=4096,
    batch=1,
    bytes_attn_weight=2,
    bytes_ffn_weight=2,
    bytes_head_weight=2,
    bytes_kv=2,
    bytes_act=2,
    proj_dtype="bf16",
    ffn_dtype="bf16",
)


@functools.cache
def compiled():
    return jax.jit(decode_step)


def eight_h100(model, batch, **workload):
    """The step on eight H100s."""
    work = dataclasses.replace(BF16, batch=batch, **workload)
    return compiled()(Records(model, H100, TP8, work), PHYSICAL)


def weights_and_kv_ms(step):
    hbm = step.hbm
    return 1e3 * (hbm.kv + hbm.attention_weights + hbm.routed + hbm.always + hbm.head)


def test_llama_70b_parameters():
    # https://huggingface.co/meta-llama/Llama-3.1-70B config.json and the index of its weights:
    # 141,107,412,992 bytes of bf16, of which 161 norm vectors are not counted here.
    attention = 80 * (2 * 8192 * 64 * 128 + 2 * 8192 * 8 * 128)
    ffn = 80 * 3 * 8192 * 28672
    embeddings = 2 * 128256 * 8192
    assert attention + ffn + embeddings == 70_552_387_584
    assert attention + ffn + embeddings + 161 * 8192 == 141_107_412_992 // 2
    assert params.total_params(LLAMA_70B) == 70_552_387_584
    assert params.active_params(LLAMA_70B) == 70_552_387_584


def test_llama_70b_cache_of_one_token_per_gpu():
    # 80 layers, keys and values, one of eight KV heads of 128, two bytes each.
    assert 80 * 2 * 1 * 128 * 2 == 40_960
    assert eight_h100(LLAMA_70B, 1, context=1).capacity.kv_per_sequence == 40_960


@pytest.mark.parametrize(("bytes_kv", "expected"), [(2, 70_272), (1, 35_136)])
def test_deepseek_v3_cache_of_one_token_per_rank(bytes_kv, expected):
    # DeepSeek-V2, arXiv 2405.04434, table 1: (d_c + d_r) l elements; V3, arXiv 2412.19437, §4.2:
    # d_c = 512, d_r = 64, 61 layers. Every tensor-parallel rank holds all of it.
    assert 61 * (512 + 64) * bytes_kv == expected
    step = eight_h100(DEEPSEEK_V3, 1, context=1, bytes_kv=bytes_kv)
    np.testing.assert_allclose(step.capacity.kv_per_sequence, expected, rtol=EXACT)


# Model, tp, tokens a step runs; tiles of 64 rows per KV head, KV heads of a GPU, FLOP of a score.
TILED = {
    "one tile of 8 rows": (LLAMA_70B, 8, 1, 1, 1, 4 * 128),
    "one tile of 32 rows": (LLAMA_70B, 2, 4, 1, 4, 4 * 128),
    "one tile of 16 latent rows": (DEEPSEEK_V3, 8, 1, 1, 1, 2 * (2 * 512 + 64)),
    "two tiles of a latent": (DEEPSEEK_V3, 1, 1, 2, 1, 2 * (2 * 512 + 64)),
    "four tiles of a latent": (DEEPSEEK_V3, 1, 2, 4, 1, 2 * (2 * 512 + 64)),
}


@pytest.mark.parametrize("case", TILED)
@pytest.mark.parametrize("rate", [3.9e12, 3.9e10])
def test_attention_runs_whole_tiles_and_hides_a_softmax_behind_others(case, rate):
    # FlashAttention-3, arXiv 2407.08608: 64 rows a tile, 3.9e12 exponentials a second on H100.
    model, tp, tokens, tiles, kv_heads, score = TILED[case]
    scores = tiles * 64 * kv_heads * 4096 * model.layers
    products, softmax = scores * score / (989e12 * 0.6), scores / (rate * 0.5)
    by_hand = products + softmax if tiles == 1 else max(products, softmax)
    gpu = dataclasses.replace(H100, flops_exp=rate, query_tile=64, eff_attention=0.6, eff_exp=0.5)
    work = dataclasses.replace(BF16, query_tokens=tokens)
    step = compiled()(Records(model, gpu, Partition(tp=tp), work), PHYSICAL)
    np.testing.assert_allclose(step.compute.attention, by_hand, rtol=EXACT)


def test_a_tile_of_one_row_pads_nothing():
    # phi-4: 40 heads and 10 KV heads; a GPU of 8 has 5 heads and holds 2 KV heads.
    model = dataclasses.replace(LLAMA_70B, heads=40, kv_heads=10)
    by_hand = 5 * 4 * 128 * 4096 * model.layers / 989e12
    step = compiled()(Records(model, H100, TP8, BF16), PHYSICAL)
    np.testing.assert_allclose(step.compute.attention, by_hand, rtol=EXACT)


@pytest.mark.parametrize("tile", [1, 8, 64])
def test_more_tokens_per_step_are_not_free_where_tiles_are_full(tile):
    gpu = dataclasses.replace(H100, query_tile=tile, flops_exp=3.9e12)

    def seconds(tokens):
        work = dataclasses.replace(BF16, query_tokens=tokens)
        return decode_step(Records(DEEPSEEK_V3, gpu, Partition(), work), PHYSICAL).compute.attention

    np.testing.assert_allclose(seconds(2.0), 2 * seconds(1.0), rtol=EXACT)
    np.testing.assert_allclose(jax.grad(seconds)(1.0), seconds(1.0), rtol=EXACT)
    np.testing.assert_allclose(jax.grad(jax.grad(seconds))(1.0), 0.0, atol=EXACT * seconds(1.0))


@pytest.mark.parametrize(("batch", "printed"), [(1, 5.24), (64, 8.39)])
def test_llama_70b_memory_time(batch, printed):
    # All weights but the input embedding once, and 4096 tokens of cache a sequence.
    weights = 2 * (70_552_387_584 - 128256 * 8192) / 8
    by_hand = (weights + batch * 4096 * 40_960) / HBM_BW * 1e3
    assert by_hand == pytest.approx(printed, rel=PRINTED_3_DIGITS)
    step = eight_h100(LLAMA_70B, batch)
    np.testing.assert_allclose(weights_and_kv_ms(step), by_hand, rtol=EXACT)


@pytest.mark.parametrize(
    ("batch", "printed"), [(1, 0.841), (2, 1.472), (4, 2.301), (16, 3.332), (64, 3.366)]
)
def test_mixtral_expert_traffic(batch, printed):
    # Mixtral of Experts, arXiv 2401.04088, table 1. Coverage: an expert is idle if all tokens
    # choose two others of the eight, with probability (3/4)^B.
    pool = 2 * 32 * 8 * 3 * 4096 * 14336 / 8
    by_hand = pool * (1 - 0.75**batch) / HBM_BW * 1e3
    assert by_hand == pytest.approx(printed, rel=PRINTED_3_DIGITS)
    step = eight_h100(MIXTRAL_8X7B, batch)
    np.testing.assert_allclose(1e3 * step.hbm.routed, by_hand, rtol=EXACT)


def test_llama_70b_against_aiconfigurator():
    # Speed-of-light times of NVIDIA AIConfigurator (github.com/ai-dynamo/aiconfigurator) for
    # Llama-3.1-70B, H100 SXM, TP=8, bf16, 4096 tokens of context, batch 64, one step, in ms.
    qkv, attention, output = 0.530, 3.211, 0.429
    gate_up, down, logits = 2.852, 1.438, 0.079
    hbm = eight_h100(LLAMA_70B, 64).hbm
    act = hbm.activations
    ours = {
        "attention": hbm.kv + act.attention,
        "projection": hbm.attention_weights + act.projection,
        "ffn": hbm.routed + hbm.always + act.ffn,
        "head": hbm.head + act.head,
    }
    theirs = {
        "attention": attention,
        "projection": qkv + output,
        "ffn": gate_up + down,
        "head": logits,
    }
    for phase, t in ours.items():
        np.testing.assert_allclose(1e3 * t, theirs[phase], rtol=PRINTED_3_DIGITS, err_msg=phase)
    total = 1e3 * sum(ours.values())
    np.testing.assert_allclose(total, sum(theirs.values()), rtol=PRINTED_3_DIGITS)


def test_llama_70b_all_reduce_against_aiconfigurator():
    # Two a layer, each .326 ms a step: 80 x 2 x 7/8 x 64 x 8192 x 2 B / 450 GB/s.
    each = 80 * 2 * 7 / 8 * 64 * 8192 * 2 / 450e9 * 1e3
    assert each == pytest.approx(0.326, rel=PRINTED_3_DIGITS)
    comm = eight_h100(LLAMA_70B, 64).comm
    np.testing.assert_allclose(1e3 * comm.tp.bandwidth, 2 * each, rtol=EXACT)
    assert comm.tp.startup == 0


def test_only_a_mixture_of_experts_pays_the_reserve_of_its_kernels():
    kept = {"reserve_bytes": 3e9, "moe_reserve_bytes": 2e9, "usable_fraction": 0.9}
    hardware = dataclasses.replace(H100, hbm_bytes=80e9, **kept)
    assert float(memory.reserve_bytes(LLAMA_70B, hardware)) == 3e9
    assert float(memory.reserve_bytes(MIXTRAL_8X7B, hardware)) == 5e9
    assert float(memory.usable_bytes(MIXTRAL_8X7B, hardware)) == 0.9 * 80e9 - 5e9


@pytest.mark.parametrize(("entry_tokens", "entries"), [(0.0, 4.0), (1.0, 10.0), (4.0, 10.0)])
def test_entries_beside_a_window_by_hand(entry_tokens, entries):
    # Of four layers with a window two choose 12 entries, if there are any, and one pools 16.
    layers = ModelSpec(
        layers=4.0, hidden=8.0, vocab=8.0, heads=1.0, kv_heads=1.0, head_dim=8.0, expert_ff=8.0,
        window_layers=4.0, index_layers=2.0, entry_tokens=entry_tokens, pooled_layers=1.0,
    )  # fmt: skip
    assert float(params.beside_window(layers, 12.0, 16.0)) == entries
