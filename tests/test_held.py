"""What engines hold, as they log it: padded weights, entries of the cache, room for it."""

import dataclasses

import pytest

from qsjax import catalog
from qsjax.cost import speculation
from qsjax.cost.decode import decode_step
from qsjax.cost.laws import params
from qsjax.cost.laws.memory import (
    kv_bytes_per_sequence,
    reserve_bytes,
    usable_bytes,
    weights_bytes,
)
from qsjax.cost.laws.sharding import layout
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.engines import kernels, memory, read
from qsjax.engines.held import cache_bytes_per_token, held, padding, scales
from qsjax.engines.tuning import Formats, tune
from qsjax.evidence.measurements import read_case
from qsjax.records.precision import workload_of
from qsjax.records.specs import PHYSICAL, Partition, Records
from qsjax.records.units import GIB

H100 = catalog.hardware_entry("h100-sxm")


def _held(command, model, hardware=H100, part=None, weights=None):
    deployment = read(command)
    if part is None:
        part = Partition(tp=deployment.tp, dp=deployment.dp, ep=deployment.ep)
    work = catalog.workload(model, weights)
    if deployment.bytes_kv is not None:
        work = dataclasses.replace(work, bytes_kv=deployment.bytes_kv)
    entry = catalog.model_entry(model)
    is_given = deployment.bytes_kv is not None
    return held(deployment, entry, hardware, part, work, is_cache_given=is_given), part


def _sizes(found, part, name):
    """Weights, and what they leave of the engine's share [GiB]."""
    model, hardware, work = catalog.model(name), found.hardware, found.workload
    weights = float(weights_bytes(model, part, work, layout(model, part, PHYSICAL)))
    room = float(usable_bytes(model, hardware)) - weights
    return (weights + found.beside) / GIB, room / GIB


@pytest.mark.parametrize(
    ("words", "weights", "cache"),
    [
        # https://github.com/vllm-project/vllm/issues/23278 and 27508: Marlin
        ("VLLM_MXFP4_USE_MARLIN=1 vllm serve m", 65.9651, -2.14),
        (
            "VLLM_MXFP4_USE_MARLIN=1 vllm serve m --gpu-memory-utilization 0.95 "
            "--max-num-batched-tokens 1024",
            65.9651,
            1.71,
        ),
        # https://github.com/vllm-project/vllm/issues/33155: Triton's kernels; out of memory
        ("vllm serve m", 64.38, None),
    ],
)
def test_gpt_oss_on_one_h100_is_what_vllm_logs(words, weights, cache):
    found, part = _held(words, "gpt-oss-120b")
    held_weights, room = _sizes(found, part, "gpt-oss-120b")
    assert held_weights == pytest.approx(weights, rel=0.003)
    if cache is None:
        assert room < 0
    else:
        assert room == pytest.approx(cache, abs=0.15)


@pytest.mark.parametrize(
    ("words", "hardware", "size"),
    [
        ("vllm serve m -tp 8 --kv-cache-dtype fp8", "h200-sxm", 48_068),
        ("vllm serve m -tp 8 --kv-cache-dtype fp8_ds_mla", "h200-sxm", 48_068),
        ("vllm serve m -tp 8", "h200-sxm", 78_324),
        ("vllm serve m -tp 8 --kv-cache-dtype bfloat16", "b200-sxm", 78_324),
        ("sglang --tp 8", "h200-sxm", 78_324),
        ("sglang --tp 8", "b200-sxm", 48_068),  # its own default with FP4 units
        ("sglang --tp 8 --kv-cache-dtype bf16", "b200-sxm", 78_324),
    ],
)
def test_the_cache_of_a_token_of_sparse_latent_attention(words, hardware, size):
    """By hand: 61 layers of 656 or 1,152 B, and 128 B of index keys with a scale of 4."""
    found, part = _held(words, "deepseek-v3.2", catalog.hardware_entry(hardware))
    work = dataclasses.replace(found.workload, context=4096.0)
    cache = float(kv_bytes_per_sequence(catalog.model("deepseek-v3.2"), part, work, PHYSICAL))
    assert cache / 4096 == pytest.approx(size)


def test_other_caches_are_left_alone():
    for model in ("deepseek-v3", "llama-3.1-70b"):
        found, _ = _held("sglang --tp 8", model, catalog.hardware_entry("b200-sxm"))
        assert (found.workload.bytes_kv, found.workload.kv_scale_bytes) == (2, 0)


def test_latents_of_eight_bits_multiply_in_eight():
    for model, dtype in (("deepseek-v3", "fp8"), ("llama-3.1-70b", "bf16")):
        found, _ = _held("vllm serve m -tp 8 --kv-cache-dtype fp8", model)
        assert found.workload.attn_dtype == dtype


def test_each_engine_has_its_own_reserve_on_a_small_card():
    """By hand, Qwen3-1.7B on 24 GiB: not the 4 GiB that an accelerator keeps by default."""
    small = dataclasses.replace(
        H100, name="small", spec=dataclasses.replace(H100.spec, hbm_bytes=24 * GIB)
    )
    visible = 0.99 * 24
    logits = 256 * 151_936 * 38 / GIB
    # A forward pass of 8,192 tokens: residual stream, copy and input, gate, up and product.
    forward = 8192 * 2 * (3 * 2048 + 3 * 6144) / GIB
    weights = _sizes(*_held("vllm serve m", "qwen3-1.7b", small), "qwen3-1.7b")[0]
    for words, room in (
        ("vllm serve m", 0.9 * visible - 0.3 - logits),
        ("vllm serve m --gpu-memory-utilization 0.95", 0.95 * visible - 0.3 - logits),
        ("sglang --tp 1", (1 - 2.9 / 24) * (visible - 0.3)),
        ("sglang --tp 1 --mem-fraction-static 0.8", 0.8 * (visible - 0.3)),
        ("trtllm-serve m", weights + 0.9 * (visible - 0.3 - forward - weights)),
        (
            "trtllm-serve m --kv_cache_free_gpu_memory_fraction 0.5",
            weights + 0.5 * (visible - 0.3 - forward - weights),
        ),
    ):
        found, part = _held(words, "qwen3-1.7b", small)
        assert sum(_sizes(found, part, "qwen3-1.7b")) == pytest.approx(room, abs=1e-6), words


def test_four_bits_multiply_in_sixteen_where_no_unit_has_four():
    hopper, _ = _held("vllm serve m", "gpt-oss-120b")
    assert hopper.hardware.flops_fp4 == hopper.hardware.flops_bf16
    assert any("multiply in 16 bits" in note for note in hopper.notes)
    blackwell, _ = _held("vllm serve m", "gpt-oss-120b", catalog.hardware_entry("b200-sxm"))
    assert not any("multiply in 16 bits" in note for note in blackwell.notes)
    assert blackwell.hardware.flops_fp4 == catalog.hardware("b200-sxm").flops_fp4


def test_launches_of_the_kernels_are_counted():
    bf16 = Formats(dense="bf16", experts="mxfp4", cache="bf16")
    own = tune(H100, "vllm", bf16).spec.expert_startup
    for words, more in (("vllm serve m", 50e-6), ("VLLM_MXFP4_USE_MARLIN=1 vllm serve m", 0.0)):
        found, _ = _held(words, "gpt-oss-20b")
        assert found.hardware.expert_startup == pytest.approx(own + more)


def test_a_command_line_takes_the_kernels_of_its_engine_and_says_which():
    found, _ = _held("vllm serve m -tp 8", "llama-3.1-70b")
    formats = Formats(dense="bf16", experts="bf16", cache="bf16")
    tuned = tune(H100, "vllm", formats).spec
    assert found.hardware.gemm_startup == tuned.gemm_startup > 0
    assert found.hardware.eff_kv_read == tuned.eff_kv_read
    name = "hopper vllm, bf16 products, bf16 experts"
    assert f"constants of the kernels: {name}" in found.notes
    plain, _ = _held("vllm serve m -tp 8", "llama-3.1-70b", catalog.hardware_entry("a100"))
    assert plain.hardware.gemm_startup == 0
    assert any(note.startswith("no kernels of vLLM are known on a100") for note in plain.notes)


def test_what_gathered_queries_hold_and_move():
    """By hand: twice as many KV ranks share the projections; their all-reduce spans all ranks."""
    model, work = catalog.model("llama-3.1-70b"), catalog.workload("llama-3.1-70b")
    work = dataclasses.replace(work, context=4096.0, batch=8.0)
    whole, copied = Partition(tp=8.0), Partition(tp=4.0, kvp=2.0)
    shared = dataclasses.replace(copied, gathers_queries=True)
    step = {
        name: decode_step(Records(model, H100.spec, part, work), PHYSICAL)
        for name, part in (("whole", whole), ("copied", copied), ("shared", shared))
    }
    held_by = {name: float(one.capacity.weights) for name, one in step.items()}
    assert held_by["shared"] == held_by["whole"] < held_by["copied"]
    cache = {name: float(one.capacity.kv_per_sequence) for name, one in step.items()}
    assert cache["shared"] == cache["copied"] == cache["whole"]  # 8 heads over 8, or 4 x 2 ranks
    assert step["shared"].comm.tp == step["whole"].comm.tp
    queries = 80 * 8 * 64 / 4 * 128 * 2 * 0.5 / (H100.spec.intra_bw * H100.spec.eff_link)
    more = float(step["shared"].comm.kv.bandwidth - step["copied"].comm.kv.bandwidth)
    assert more == pytest.approx(queries)
    assert float(step["shared"].comm.layout.bandwidth) == 0 < step["copied"].comm.layout.bandwidth
    first = [
        float(
            prefill_step(
                Records(model, H100.spec, part, work), PHYSICAL, Prompts(4096.0)
            ).compute.projection
        )
        for part in (whole, shared)
    ]
    assert first[0] == pytest.approx(first[1])


def test_the_cache_of_a_token_of_every_model():
    """Sparse latent attention as engines lay it out; of all others the elements by their bytes."""
    shown = {
        name: cache_bytes_per_token(catalog.model(name)) for name in ("deepseek-v3.2", "glm-5.2")
    }
    assert shown["deepseek-v3.2"] == {"bf16": 78_324, "fp8": 48_068, "fp8_plain": 43_188}
    assert shown["glm-5.2"] == {"bf16": 92_628, "fp8": 53_940, "fp8_plain": 47_700}
    for name in catalog.model_names():
        model = catalog.model(name)
        if model.sparse_topk:
            continue
        per_layer = model.kv_latent + model.rope_dim or 2 * model.kv_heads * model.head_dim
        layers = float(params.full_layers(model)) + model.window_layers * model.window_cache
        elements = layers * per_layer * float(params.cache_layers(model))
        expected = pytest.approx({"bf16": 2 * elements, "fp8": elements, "fp8_plain": elements})
        assert cache_bytes_per_token(model) == expected, name


def test_entries_of_deepseek_v4_are_584_bytes_and_its_index_keys_132():
    """SGLang's DSV4PoolConfigurator: 584 B of FP8 an entry, 132 B of an index key."""
    model = dataclasses.replace(
        catalog.model("llama-3.1-8b"), layers=3.0, kv_heads=1.0, head_dim=512.0, rope_dim=64.0,
        window_layers=3.0, window=128.0, window_cache=0.5, sparse_topk=512.0, index_layers=1.0,
        index_heads=64.0, index_dim=128.0, entry_tokens=4.0, pooled_layers=1.0, pooled_tokens=128.0,
    )  # fmt: skip
    beside = scales("vllm", 1.0, model)
    sizes = [
        float(kv_bytes_per_sequence(model, Partition(), work, PHYSICAL))
        for tokens in (1024.0, 2048.0)
        for work in [workload_of(model, context=tokens, bytes_kv=1.0, kv_scale_bytes=beside)]
    ]
    assert sizes[1] - sizes[0] == pytest.approx(1024 / 4 * (584 + 132) + 1024 / 128 * 584)


SERVED = {
    "id": "mine", "category": "mine", "model": "llama-3.1-70b", "gpu": "b200", "n_gpus": 1, "tp": 1,
    "weights_dtype": "fp8", "kv_dtype": "fp8", "concurrency": 128, "isl": 8192, "osl": 1024,
    "phase": "aggregated", "metric": "TPOT", "value": 45.0, "unit": "ms", "engine": "trtllm 1.1",
}  # fmt: skip


def test_no_more_sequences_run_than_the_cache_holds():
    """By hand: 160 KiB of cache a token; TensorRT-LLM keeps room for the whole answer."""
    one = read_case({**SERVED, "concurrency": 8}).deployments[0]
    weights = float(weights_bytes(one.model, one.partition, one.workload,
                                  layout(one.model, one.partition, PHYSICAL)))  # fmt: skip
    per_token = 80 * 2 * 8 * 128
    free = usable_bytes_of(one, weights) - weights
    room = free / per_token / (8192 + 1024)
    many = read_case(SERVED).deployments[0].workload.batch
    assert 60 < many < 128
    assert many == pytest.approx(room, rel=2e-3)  # blocks of the cache are rounded up
    assert read_case({**SERVED, "concurrency": 8}).deployments[0].workload.batch == 8
    # A stated mean is what runs; a deployment whose weights have no room did not run.
    assert read_case({**SERVED, "mean_concurrency": 100}).deployments[0].workload.batch == 100
    assert "do not fit in the 48.0 GB" in read_case({**SERVED, "gpu": "l40s"}).because
    # Without an engine's rules: by hand 70.6 GB of weights, all that the driver leaves beside them.
    plain = read_case({**SERVED, "concurrency": 10**6, "engine": None}).deployments[0]
    left = memory.visible_bytes(catalog.hardware("b200-sxm").hbm_bytes) - weights
    assert plain.workload.batch == pytest.approx(left / per_token / (8192 + 512), rel=0.02)
    assert memory.running(one, {"max_sequences": 4.0}) == 4


def test_what_a_share_leaves_beside_the_weights_bounds_sequences_of_an_engine_that_ran():
    """By hand: gpt-oss-120b on one H100, whose sampler vLLM's rules give more than there is."""
    served = SERVED | {"model": "openai/gpt-oss-120b", "weights_dtype": "mxfp4", "kv_dtype": "auto",
                       "gpu": "h100", "n_gpus": 1, "tp": 1, "engine": "vllm 0.10.2"}  # fmt: skip
    one = read_case({**served, "concurrency": 8}).deployments[0]
    weights, cache = memory.sizes(one.model, one.partition, one.workload)
    assert memory.usable_bytes(one, {}, weights, 1.0) < weights
    left = 0.9 * 0.99 * 80 * 2**30 - weights - memory.unquantised_bytes(one) - 0.3 * 2**30
    assert read_case({**served, "concurrency": 500}).deployments[0].workload.batch == pytest.approx(
        left / cache, rel=1e-6
    )


@pytest.mark.parametrize(
    ("engine", "model", "running"),
    [
        # --max-running-requests is of a server, --max-num-seqs of a replica.
        ("sglang 0.5.14", "qwen3-30b-a3b", 7),
        ("vllm 0.11", "qwen3-30b-a3b", 30),
        # Replicas of a dense model are servers of their own.
        ("sglang 0.5.14", "llama-3.1-8b", 30),
    ],
)
@pytest.mark.parametrize("notes", ["--max-running-requests 30", "max-num-seqs=30"])
def test_attention_replicas_of_sglang_share_the_limit_of_their_server(
    engine, model, running, notes
):
    served = {**SERVED, "engine": engine, "model": model, "n_gpus": 4, "dp": 4, "notes": notes}
    assert read_case(served).deployments[0].workload.batch == running


def of_sglang(**changes):
    served = {**SERVED, "engine": "sglang 0.5.16", "gpu": "h200", "concurrency": 512, **changes}
    return float(read_case(served).deployments[0].workload.batch)


def test_what_sglang_runs_at_once_where_no_flag_says():
    drafting = {"phase": "aggregated, EAGLE", "notes": "accept len 2"}
    small = {"model": "llama-3.1-8b", "isl": 100, "osl": 100}
    assert of_sglang(**small) == 512
    assert of_sglang(**small, **drafting) == 48
    assert of_sglang(**small, **drafting, max_sequences=100) == 100
    flash = {"model": "deepseek-v4-flash", "n_gpus": 8, "dp": 8, "ep": 8}
    assert of_sglang(**flash, gpu="b300") == 256 / 8
    # Scripts of InferenceX give their number.
    assert of_sglang(**small, **drafting, category="inferencex_agg") == 512


def test_sglangs_pool_of_states_by_hand():
    """0.9 of 1.9 parts of the room; five states of 30 layers a request, one without prefixes."""
    hybrid = {"model": "qwen3.5-35b-a3b", "weights_dtype": "fp8", "isl": 500, "osl": 500}
    one = read_case({**SERVED, "engine": "sglang 0.5.16", "gpu": "h200", **hybrid}).deployments[0]
    weights = float(weights_bytes(one.model, one.partition, one.workload,
                                  layout(one.model, one.partition, PHYSICAL)))  # fmt: skip
    weights += memory.unquantised_bytes(one)
    free = memory.usable_bytes(one, {}, weights, 1.0) - weights
    # 32 heads of 128 x 128 in FP32, and three inputs of a convolution over q, k and v in BF16.
    state = 30 * (32 * 128 * 128 * 4 + 3 * (2 * 16 * 128 + 32 * 128) * 2)
    assert of_sglang(**hybrid) == pytest.approx(free * 0.9 / 1.9 / state / 5, abs=1)
    assert of_sglang(**hybrid, notes="--disable-radix-cache") == 512


def usable_bytes_of(one, weights):
    """Weights, and 0.9 of what they, the runtime and a pass of 8,192 tokens leave."""
    forward = 8192 * 2 * (3 * 8192 + 3 * 28672)
    visible = 0.99 * float(one.hardware.hbm_bytes)
    return weights + 0.9 * (visible - weights - 0.3 * GIB - forward)


def test_the_rules_of_an_engine_leave_no_reserve_beside_theirs():
    found, _ = _held("vllm serve m --tensor-parallel-size 8", "mixtral-8x7b")
    kept = float(reserve_bytes(catalog.model("mixtral-8x7b"), found.hardware))
    assert kept == found.hardware.reserve_bytes


def test_a_width_that_kernels_take_as_it_is_is_not_padded():
    entry = catalog.model_entry("gpt-oss-120b")
    wide = dataclasses.replace(entry.spec, hidden=3072.0, expert_ff=3072.0)
    work = catalog.workload("gpt-oss-120b")
    for spec, is_padded in ((entry.spec, True), (wide, False)):
        own = dataclasses.replace(entry, spec=spec)
        found = held(read("sglang serve m"), own, H100, Partition(), work, is_cache_given=False)
        kernels = next(note for note in found.notes if "kernels are those of" in note)
        assert ("pad" in kernels) == is_padded


def test_experts_that_read_a_projection_are_padded_by_their_own_width():
    """Kimi K3's, 3,072 wide: 192 on each of 16 GPUs, of 256; it was 96, of 2.7 times as many."""
    entry, b200 = catalog.model_entry("kimi-k3"), catalog.hardware_entry("b200-sxm")
    rule = kernels.kernels_of({}, "sglang", b200)
    assert padding(entry, rule, Partition(tp=16.0)) == pytest.approx(256 / 192)
    assert padding(entry, rule, Partition(tp=16.0, ep=16.0)) == 1


def test_a_measurement_with_drafts_has_their_time():
    """Two passes of a layer like the model's, one after the other, before all are verified."""
    drafting = {"phase": "aggregated, EAGLE", "draft_tokens": 3, "accepted": 2.5}
    served = {**SERVED, "engine": "sglang 0.5.16", "concurrency": 4}
    one = read_case({**served, **drafting}).deployments[0]
    alone = read_case(served).deployments[0]
    work = dataclasses.replace(alone.workload, batch=4.0)
    layer = speculation.draft_model(one.model, "mtp")
    bare = dataclasses.replace(one.hardware, sequence_overhead=0.0)
    each = decode_step(Records(layer, bare, one.partition, work), one.convention).tpot
    assert one.workload.draft_time == pytest.approx(2 * float(each), rel=1e-9)
    assert alone.workload.draft_time == 0


def test_what_vllm_does_not_start_on_older_generations():
    """Volta since 0.21 (its installation guide), nor Volta and Turing in BF16 (gpu_worker.py)."""
    plain = "vllm serve meta-llama/Llama-3.2-1B-Instruct --max-model-len 4096"
    v100, t4 = catalog.hardware_entry("v100"), catalog.hardware_entry("t4")
    found, _ = _held(plain, "llama-3.2-1b", v100)
    assert found.notes[0] == "older releases alone run on v100-sxm-16g: not vLLM 0.21"
    assert "older" not in _held(f"{plain} --dtype half", "llama-3.2-1b", t4)[0].notes[0]
    for said in ("--dtype bfloat16", "--dtype=bfloat16"):
        with pytest.raises(ValueError, match=r"does not start in bf16 on t4.*write --dtype half"):
            _held(f"{plain} {said}", "llama-3.2-1b", t4)
        assert _held(f"{plain} {said}", "llama-3.2-1b", catalog.hardware_entry("a10"))
    with pytest.raises(ValueError, match="vLLM runs no weights in fp8 on v100-sxm-16g"):
        _held("vllm serve Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B-FP8", v100)
    # Weights alone in eight bits are widened: GPTQ is run on Volta, FP8 on Turing.
    assert _held("vllm serve x/Qwen3-8B-GPTQ-Int8", "x/Qwen3-8B-GPTQ-Int8", v100)
    assert _held("vllm serve Qwen/Qwen3-4B-FP8", "Qwen/Qwen3-4B-FP8", t4)
