"""Laws of kernels: blends, start-ups and two kinds of all-reduce, by hand and in their limits."""

import dataclasses
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import EXACT

from benchmarks import fit_kernels
from qsjax import catalog
from qsjax.catalog.lookup import model_entry
from qsjax.cost.decode import decode_step
from qsjax.cost.laws import collectives, overheads
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.engines.releases import is_overlapped
from qsjax.engines.rules import load_kernels
from qsjax.engines.tuning import (
    Formats,
    fields,
    find,
    first_release,
    formats_of,
    share_of_norm,
    tune,
)
from qsjax.numerics.safe import blend
from qsjax.records import checks
from qsjax.records.specs import PHYSICAL, Partition, Records, Workload

BF16 = Formats(dense="bf16", experts="bf16", cache="bf16")


def test_a_blend_by_hand():
    # (t - 3)(t - 4) = 1/2 * 12 has the roots 1 and 6.
    assert float(blend(np.float64(3.0), np.float64(4.0), 0.5)) == pytest.approx(6.0, rel=EXACT)


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0, 3.0])
def test_a_blend_is_near_the_norm(exponent):
    a = np.geomspace(0.01, 100.0, 401)
    norm = (a**exponent + 1.0) ** (1.0 / exponent)
    found = blend(a, np.ones(401), share_of_norm(exponent))
    np.testing.assert_allclose(found, norm, rtol=0.023)
    np.testing.assert_allclose(found[200], norm[200], rtol=EXACT)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("other", [0.0, 1.0, 2.0])
def test_a_blend_has_a_gradient_also_at_the_kink(share, other):
    for argument in range(3):
        slope = jax.grad(blend, argument)(1.0, other, share)
        assert np.isfinite(slope)


def test_plain_constants_give_the_plain_form():
    model, work = catalog.model("deepseek-v3"), catalog.workload("deepseek-v3")
    hardware = catalog.hardware("h200")
    work = dataclasses.replace(work, batch=64.0, context=4096.0)
    step = decode_step(Records(model, hardware, Partition(tp=8.0), work), PHYSICAL)
    slower = [max(c, h) for c, h in zip(step.compute, step.hbm.phases(), strict=True)]
    np.testing.assert_allclose(step.windows, slower, rtol=EXACT)


def test_start_ups_of_a_mixture_by_hand():
    # 61 latent layers of 5 products, 3 dense networks and 58 shared experts of 2, the head: 428.
    hardware = dataclasses.replace(
        catalog.ideal(catalog.hardware("h200")),
        gemm_startup=1e-6, attention_startup=10e-6, expert_startup=100e-6,
    )  # fmt: skip
    found = overheads.startups(catalog.model("deepseek-v3"), hardware)
    assert float(found) == pytest.approx(428e-6 + 61 * 10e-6 + 58 * 100e-6, rel=EXACT)


@pytest.mark.parametrize(("model", "layers"), [("deepseek-v3.2", 61), ("minimax-m3", 0)])
def test_indexers_that_quantise_their_keys_have_kernels_of_their_own(model, layers):
    """DeepSeek's keys have 8 bits in all 61 layers, MiniMax-M3's have 16."""
    ideal = catalog.ideal(catalog.hardware("h200"))
    hardware = dataclasses.replace(ideal, sparse_overhead=1e-5)
    given = (catalog.model(model), Partition(), catalog.workload(model))
    found, none = (overheads.overhead(given[0], h, *given[1:]) for h in (hardware, ideal))
    assert float(found - none) == pytest.approx(layers * 1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        ("llama-3.1-70b", 80),  # dense layers with grouped attention
        ("deepseek-v3", 61 + 58 + 61),  # 58 of experts, all of latent attention
        ("deepseek-v3.2", 61 + 58 + 61 + 61),  # and an indexer in each
        ("qwen3-next-80b-a3b", 48 + 48 + 36),  # experts in all, linear attention in 36
    ],
)
def test_passes_longer_than_captured_graphs_launch_every_kind_of_kernel(model, kinds):
    ideal = catalog.ideal(catalog.hardware("h200"))
    hardware = dataclasses.replace(ideal, eager_overhead=1e-4, captured_tokens=512.0)
    spec = catalog.model(model)
    longer = [float(overheads.eager(spec, hardware, n)) for n in (1.0, 512.0, 513.0, 8192.0)]
    assert longer == pytest.approx([0.0, 0.0, kinds * 1e-4, kinds * 1e-4], rel=EXACT)


def test_eager_passes_are_prefills_alone():
    """Of two stages each launches its half; decode steps and passes of captured graphs nothing."""
    model, work = catalog.model("deepseek-v3"), catalog.workload("deepseek-v3")
    ideal = catalog.ideal(catalog.hardware("h200"))
    eager = dataclasses.replace(ideal, eager_overhead=1e-4, captured_tokens=512.0)
    work = dataclasses.replace(work, batch=8.0, context=4096.0)
    records = [Records(model, h, Partition(tp=8.0, pp=2.0), work) for h in (ideal, eager)]
    for tokens, seconds in ((512.0, 0.0), (1024.0, 180 * 1e-4)):
        plain, longer = (prefill_step(one, PHYSICAL, Prompts(tokens)) for one in records)
        assert float(longer.t_overhead - plain.t_overhead) == pytest.approx(
            0.5 * seconds, abs=1e-12
        )
        assert float(longer.ttft - plain.ttft) == pytest.approx(seconds, abs=1e-12)
    assert decode_step(records[0], PHYSICAL).tpot == decode_step(records[1], PHYSICAL).tpot


def test_which_engines_capture_passes_with_prompts():
    entry = catalog.hardware_entry("b200-sxm")
    found = {e: tune(entry, e, BF16).spec.captured_tokens for e in ("vllm", "sglang", "trtllm")}
    assert found == {"vllm": 512.0, "sglang": 0.0, "trtllm": 0.0}


def test_all_reduces_by_hand():
    # 8 ranks, 450 GB/s: one shot 7 m / (0.5 * 450), two shots 2 * 7/8 m / 450 / 0.25.
    hardware = dataclasses.replace(
        catalog.ideal(catalog.hardware("h200")), one_shot_share=0.5, eff_allreduce=0.25
    )
    ranks = collectives.group(8.0, 1.0, hardware, PHYSICAL)
    one = collectives.one_shot(ranks, 1e6, hardware, PHYSICAL)
    two = collectives.all_reduce(ranks, 1e6, hardware, PHYSICAL).bandwidth
    assert float(one) == pytest.approx(7e6 / 225e9, rel=EXACT)
    assert float(two) == pytest.approx(7e6 / 450e9, rel=EXACT)
    apart = collectives.group(16.0, 1.0, hardware, PHYSICAL)
    far = collectives.one_shot(apart, 1e6, hardware, PHYSICAL)
    assert far == collectives.all_reduce(apart, 1e6, hardware, PHYSICAL).bandwidth


def test_ranks_of_a_mesh_reach_the_links_between_them():
    """MI300X: seven links of 64 GB/s each; of 4 ranks one has 3, a pair 1, all 8 have 7."""
    mesh = catalog.ideal(catalog.hardware("mi300x"))
    assert mesh.mesh == 1
    for ranks, links in ((2.0, 1), (4.0, 3), (8.0, 7)):
        one = collectives.group(ranks, 1.0, mesh, PHYSICAL)
        assert float(collectives.inside_bw(one.inner, mesh)) == pytest.approx(links * 64e9)
        half = collectives.half_collective(one, 1e6, mesh, PHYSICAL).bandwidth
        assert float(half) == pytest.approx(1e6 / ranks / 64e9)
        direct = dataclasses.replace(mesh, one_shot_share=1.0)
        assert float(collectives.one_shot(one, 1e6, direct, PHYSICAL)) == pytest.approx(1e6 / 64e9)
    switch = dataclasses.replace(mesh, mesh=0.0)
    assert collectives.inside_bw(jnp.asarray(2.0), switch) == mesh.intra_bw
    pair = collectives.point_to_point(jnp.asarray(True), 1e6, mesh).bandwidth
    assert float(pair) == pytest.approx(1e6 / 64e9)
    alone = collectives.group(1.0, 1.0, mesh, PHYSICAL)
    slope = jax.grad(
        lambda x: (
            collectives.half_collective(
                alone, 1e6, dataclasses.replace(mesh, mesh=x), PHYSICAL
            ).bandwidth
        )
    )(1.0)
    assert slope == 0.0


def test_all_reduces_of_amd_follow_their_tables():
    """Times in us that vLLM's and AITER's developers printed for MI355X and MI300X."""
    served = {**load_kernels()["served"], "allreduce": 1.0}
    tables = {
        ("mi355x", "vllm", 8.0): {96: 7.6, 192: 10.0, 768: 16.0, 1536: 24.2},
        ("mi355x", "sglang", 8.0): {96: 6.8, 192: 7.0, 768: 9.6, 1536: 12.9},
        ("mi300x", "sglang", 4.0): {512: 14.65, 1024: 22.91, 4096: 63.86},
        ("mi300x", "vllm", 2.0): {512: 17.13, 1024: 28.15, 4096: 93.79},
    }
    for (name, engine, ranks), table in tables.items():
        entry = catalog.hardware_entry(name)
        found = find(name, engine, BF16, None)
        assert found is not None
        spec = dataclasses.replace(entry.spec, **fields(found, entry.spec, served))
        group = collectives.group(ranks, 1.0, spec, PHYSICAL)
        for kib, microseconds in table.items():
            two = collectives.all_reduce(group, kib * 1024.0, spec, PHYSICAL)
            one = collectives.one_shot(group, kib * 1024.0, spec, PHYSICAL)
            slower = two.bandwidth + spec.two_shot_latency
            time = 1e6 * float(two.startup + jnp.minimum(one, slower))
            assert time == pytest.approx(microseconds, rel=0.12), (name, engine, kib)


def test_four_bit_experts_on_hopper_are_bound_by_widening_them():
    """H200 has 1.43 times the bandwidth of H100: weights of eight bits use it, others do not."""
    served = load_kernels()["served"]

    def rate(name, experts):
        formats = dataclasses.replace(BF16, experts=experts)
        spec = tune(catalog.hardware_entry(name), "vllm", formats).spec
        return spec.hbm_bw * spec.eff_weight_read * spec.expert_read_ratio

    bound = served["dequantised"]["others"] * 1e12
    assert rate("h200", "mxfp4") == rate("h200", "int4") == pytest.approx(bound, rel=EXACT)
    assert rate("h100", "mxfp4") <= bound * (1 + EXACT)
    assert rate("h200", "fp8") == pytest.approx(0.87 * 4.8e12, rel=EXACT)
    assert bound < rate("h200", "mxfp4_triton") < rate("h200", "fp8")


def test_constants_of_an_entry_by_hand():
    """Start-ups in us of SGLang's FP8 kernels on Hopper, times factors of served deployments."""
    served = load_kernels()["served"]
    newer = served["newer"]["sglang"]
    formats = Formats(dense="fp8_block", experts="fp8", cache="fp8")
    spec = tune(catalog.hardware_entry("h100"), "sglang", formats).spec
    wanted = {
        "gemm_startup": 6.5 * served["gemm_startup"]["others"],
        "expert_startup": (28.0 + served["experts"]["quantised"]) * newer,
        "attention_startup": 14.6 * newer,
        "layer_overhead": served["layer"]["sglang"] * newer,
        "latent_overhead": served["latent"] * newer,
        "sequence_overhead": served["sequence"],
        "two_shot_latency": 4.1,
    }
    for name, value in wanted.items():
        assert getattr(spec, name) == pytest.approx(1e-6 * value, rel=EXACT), name
    assert spec.eff_gemm == pytest.approx(0.606 * served["gemm_peak"], rel=EXACT)
    # Experts read at 0.877 of the bandwidth and multiply at 0.322 of the peak, in the norm of 1.4.
    assert spec.eff_weight_read * spec.expert_read_ratio == pytest.approx(0.877, rel=EXACT)
    assert spec.eff_gemm * spec.expert_gemm_ratio == pytest.approx(0.322, rel=EXACT)
    assert spec.expert_blend == pytest.approx((2 ** (1 / 1.4) - 1) ** 2, rel=EXACT)
    # All-reduces move two-shot bytes at 0.69 of the link.
    assert spec.eff_link * spec.eff_allreduce == pytest.approx(0.69, rel=EXACT)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "atom"])
def test_every_engine_makes_an_accelerator_that_is_allowed(engine):
    """AITER's all-reduces reach 0.8 of the links, which is more than the 0.75 of NCCL."""
    for name in ("a100", "h100", "b200", "mi300x", "mi355x"):
        formats = Formats(dense="fp8", experts="fp8", cache="fp8")
        spec = tune(catalog.hardware_entry(name), engine, formats).spec
        checks.check_records(hardware=spec)
        assert spec.eff_link * spec.eff_allreduce <= 1


def test_kernels_that_served_deployments_know_have_factors_of_their_own():
    served = load_kernels()["served"]
    formats = Formats(dense="fp8_block", experts="fp8_block", cache="fp8")
    spec = tune(catalog.hardware_entry("h100"), "trtllm", formats, ()).spec
    own = served["gemm_startup"]["trtllm"]["fp8_block"]
    assert spec.gemm_startup == pytest.approx(6.85e-6 * own, rel=EXACT)
    own = served["experts"]["trtllm"]["fp8"]
    assert spec.expert_startup == pytest.approx(60e-6 * own, rel=EXACT)


@pytest.mark.parametrize(
    ("engine", "first", "before"), [("sglang", (0, 5, 9), (0, 5, 8)), ("trtllm", (1, 2), (1, 1, 0))]
)
def test_a_release_has_its_own_share_of_start_ups(engine, first, before):
    """What is newer, as a release that is not asked for; a release not known is older."""
    entry, share = catalog.hardware_entry("h100"), load_kernels()["served"]["newer"][engine]
    current, newer, older, unknown = (
        tune(entry, engine, BF16, release) for release in (None, first, before, ())
    )
    assert current == newer
    assert older == unknown
    assert newer.spec.step_overhead == pytest.approx(share * older.spec.step_overhead, rel=EXACT)
    assert newer.spec.gemm_startup == older.spec.gemm_startup
    since = ".".join(map(str, first))
    assert str(newer.entries) == f"hopper {engine} {since} or newer, bf16 products, bf16 experts"
    assert str(older.entries) == f"hopper {engine} before {since}, bf16 products, bf16 experts"


def test_the_nearest_entry_is_named():
    found = tune(catalog.hardware_entry("h200"), "atom", dataclasses.replace(BF16, dense="fp4"))
    assert found.notes == (
        "constants of the kernels: hopper vllm, bf16 products, bf16 experts",
        "no kernels of atom are known; those of vllm stand in",
        "no kernels of fp4 are known; those of bf16 stand in",
    )
    same = tune(catalog.hardware_entry("h200"), "vllm", BF16)
    name = "hopper vllm, bf16 products, bf16 experts"
    assert same.notes == (f"constants of the kernels: {name}",)


@pytest.mark.parametrize(
    ("name", "engine", "release"), [("a100", "vllm", None), ("h100", "trtllm", (0, 6)),
                                    ("h100", "", None), ("trainium2", "neuronx", None)],
)  # fmt: skip
def test_without_a_table_the_plain_form_stays(name, engine, release):
    entry = catalog.hardware_entry(name)
    found = tune(entry, engine, BF16, release)
    assert found.spec == entry.spec
    assert found.entries is None
    assert found.expert_balance == "even"


QUANTISED = Formats(dense="fp8_block", experts="fp8", cache="bf16")


@pytest.mark.parametrize(("name", "made"), [("mi325x", "cdna3"), ("mi355x", "cdna4")])
def test_amd_has_constants_without_tables(name, made):
    """Shares of the peak and the bandwidth, and one time a layer; vLLM's is a multiple."""
    entry, amd = catalog.hardware_entry(name), load_kernels()["served"]["amd"]
    for engine, factor in (("vllm", amd["vllm"]), ("sglang", 1.0), ("atom", 1.0)):
        found = tune(entry, engine, BF16)
        assert found.spec.eff_gemm == catalog.hardware("h100").eff_gemm
        assert found.spec.eff_weight_read == amd["read"]
        assert found.spec.expert_gemm_ratio == amd["expert_gemm"]
        assert (found.spec.expert_blend, found.spec.expert_overhead) == (1.0, 0.0)
        wanted = pytest.approx(1e-6 * factor * amd["layer"][made], rel=EXACT)
        assert found.spec.layer_overhead == wanted
        assert found.spec.one_shot_share > 0
        # Routers choose as unevenly as on NVIDIA.
        assert found.expert_balance == "skewed"
    # Where an engine is not stated: the catalogue's. One that was not measured there has vLLM's.
    assert tune(entry, "", BF16).spec == entry.spec
    assert tune(entry, "lmdeploy", BF16).spec == tune(entry, "vllm", BF16).spec
    # SGLang's kernels around sparse and linear attention are those of NVIDIA's accelerators.
    served = load_kernels()["served"]
    for field in ("sparse", "linear"):
        found = {
            e: getattr(tune(entry, e, BF16).spec, f"{field}_overhead")
            for e in ("vllm", "sglang", "atom")
        }
        assert found == {"sglang": pytest.approx(served[field] * 1e-6), "vllm": 0.0, "atom": 0.0}


@pytest.mark.parametrize(("name", "since"), [("mi300x", (0, 5, 12)), ("mi355x", (0, 5, 9))])
def test_older_layers_of_quantised_weights_on_amd(name, since):
    """SGLang's layers of 8 and 4 bits shrank with a release; those of 16 bits did not."""
    entry, made = catalog.hardware_entry(name), {"mi300x": "cdna3", "mi355x": "cdna4"}[name]
    amd = load_kernels()["served"]["amd"]

    def layer(formats, release, engine="sglang"):
        return 1e6 * tune(entry, engine, formats, release).spec.layer_overhead

    new, old = (pytest.approx(x, rel=EXACT) for x in (amd["layer"][made], amd["older"]))
    assert layer(QUANTISED, since) == layer(QUANTISED, None) == new
    assert layer(QUANTISED, (0, 5, 6)) == layer(QUANTISED, ()) == old
    assert layer(dataclasses.replace(BF16, experts="mxfp4"), ()) == old
    assert layer(BF16, ()) == new
    assert layer(QUANTISED, (), "atom") == new


@pytest.mark.parametrize("name", ["h100-sxm", "b200-sxm", "a100-sxm", "mi300x"])
def test_steps_wait_for_the_host_where_scheduling_is_not_asynchronous(name):
    """By hand: so many times the host's times of a step and of a sequence, everywhere."""
    served, entry = load_kernels()["served"], catalog.hardware_entry(name)

    def host(release, is_overlapped=None, engine="vllm"):
        spec = tune(entry, engine, BF16, release, is_overlapped=is_overlapped).spec
        return 1e6 * np.array([spec.step_overhead, spec.sequence_overhead])

    newer = host((0, 14))
    older = newer + served["serial"] * np.array([served["step"]["vllm"], served["sequence"]])
    for release, flag in (((0, 13, 1), None), ((0, 8), False), (None, False), ((), False)):
        assert host(release, flag) == pytest.approx(older, rel=EXACT)
    for release, flag in ((None, None), ((), None), ((0, 11), True), ((0, 21), None)):
        assert host(release, flag) == pytest.approx(newer, rel=EXACT)
    # SGLang's scheduler overlaps in all releases that are known here; its flag is another.
    assert host((0, 5, 9), False, "sglang") == pytest.approx(host(None, None, "sglang"), rel=EXACT)
    assert "--async-scheduling hides" in tune(entry, "vllm", BF16, (0, 13)).notes[-1]


@pytest.mark.parametrize(
    ("notes", "category", "model", "overlapped"),
    [
        ("--async-scheduling", "user", "qwen3-32b", True),
        ("no_async_scheduling: true", "user", "qwen3-32b", False),
        ("", "user", "gpt-oss-120b", None),
        ("", "inferencex_agg", "gpt-oss-120b", True),  # its scripts give the flag
        ("", "inferencex_agg", "qwen3-32b", None),
    ],
)
def test_what_records_say_of_asynchronous_scheduling(notes, category, model, overlapped):
    assert is_overlapped({"notes": notes, "category": category}, model) is overlapped


def test_experts_of_four_bits_multiply_in_sixteen_without_units():
    """By hand: half the peak of FP8 on CDNA3 and Hopper; CDNA4 multiplies FP4."""
    ratio = load_kernels()["served"]["amd"]["expert_gemm"]

    def found(name, experts):
        formats = dataclasses.replace(BF16, experts=experts)
        spec = tune(catalog.hardware_entry(name), "vllm", formats).spec
        return spec.expert_gemm_ratio * (spec.flops_fp8 if experts == "fp8" else spec.flops_fp4)

    assert found("mi300x", "mxfp4") == pytest.approx(ratio * 1307.4e12, rel=EXACT)
    assert found("mi355x", "mxfp4") == pytest.approx(ratio * 10e15, rel=EXACT)
    assert found("mi300x", "fp8") == pytest.approx(ratio * 2614.9e12, rel=EXACT)
    hopper = Formats(dense="bf16", experts="mxfp4_triton", cache="bf16")
    spec = tune(catalog.hardware_entry("h100-sxm"), "trtllm", hopper).spec
    share = load_kernels()["experts"]["hopper"]["trtllm"]["mxfp4_triton"][2]
    of_units = share * spec.flops_bf16
    assert spec.eff_gemm * spec.expert_gemm_ratio * spec.flops_fp4 == pytest.approx(of_units)


@pytest.mark.parametrize(
    ("change", "experts"),
    [
        ({}, "bf16"),
        ({"bytes_ffn_weight": 0.5625}, "int4"),
        ({"bytes_ffn_weight": 0.5625, "ffn_dtype": "fp4"}, "nvfp4"),
    ],
)
def test_formats_of_a_workload(change, experts):
    given = {"bytes_ffn_weight": 2.0, "ffn_dtype": "bf16", "proj_dtype": "fp8", **change}
    work = Workload(context=1.0, **given)
    found = formats_of(model_entry("qwen3-32b"), dataclasses.replace(work, bytes_kv=1.0))
    assert found == Formats(dense="fp8_block", experts=experts, cache="fp8")
    assert formats_of(model_entry("llama-3.1-70b"), work).dense == "fp8"


def test_mxfp4_by_its_kernels():
    work = Workload(context=1.0, bytes_ffn_weight=0.53, ffn_dtype="fp4")
    for kernels, name in (("triton", "mxfp4_triton"), ("marlin", "mxfp4"), ("flashinfer", "mxfp4")):
        assert (
            formats_of(model_entry("gpt-oss-20b"), work, is_mxfp4=True, kernels=kernels).experts
            == name
        )


def test_which_experts_of_eight_bits_tensorrt_llm_multiplies_by():
    """By hand: of blocks DeepGEMM on Blackwell before 1.2, TRTLLM-Gen since; the same on Hopper.

    Those with one scale are CUTLASS's on both.
    """
    served = load_kernels()["served"]
    formats = Formats(dense="fp8_block", experts="fp8_block", cache="fp8")
    own, newer = served["experts"]["trtllm"]["fp8"], served["newer"]["trtllm"]

    def startup(name, release):
        return tune(catalog.hardware_entry(name), "trtllm", formats, release).spec.expert_startup

    assert startup("b200", (1, 1)) == pytest.approx(82e-6 * own, rel=EXACT)
    assert startup("b200", (1, 2)) == pytest.approx(25.8e-6 * own * newer, rel=EXACT)
    assert startup("h200", (1, 2)) == pytest.approx(60e-6 * own * newer, rel=EXACT)
    formats = dataclasses.replace(formats, experts="fp8")
    assert startup("b200", (1, 1)) == pytest.approx(43.7e-6 * own, rel=EXACT)
    assert startup("h200", (1, 2)) == pytest.approx(38.4e-6 * own * newer, rel=EXACT)


def test_vllm_reduces_on_blackwell_by_the_kernels_of_its_release():
    """By hand: its own before 0.17, TensorRT-LLM's since; on Hopper its own."""

    def share(name, release):
        return tune(catalog.hardware_entry(name), "vllm", BF16, release).spec.one_shot_share

    for release, one in (((0, 16), 0.18), ((), 0.18), ((0, 17), 0.64), (None, 0.64)):
        assert share("b200", release) == pytest.approx(one, rel=EXACT)
        assert share("h200", release) == pytest.approx(0.58, rel=EXACT)


def test_a_measurement_without_a_release_is_of_the_first_that_runs_its_model():
    assert first_release("sglang", "glm-5") == first_release("sglang", "glm-5.2") == (0, 5, 9)
    assert first_release("sglang", "glm-4.5") == first_release("vllm", "glm-5") == ()


def test_every_constant_of_the_fit_is_in_the_table_off_its_bounds():
    served = load_kernels()["served"]
    # Four more are AMD's in the catalogue, six of the time to first token (`left_out.Delays`).
    assert len(fit_kernels.PRIORS) + 4 + 6 <= 40
    for name in fit_kernels.PRIORS:
        assert fit_kernels.get(served, name) > 0


def test_the_fit_writes_what_it_found():
    text = fit_kernels.TABLE.read_text("utf-8")
    wanted = {name: 1.5 + i for i, name in enumerate(fit_kernels.PRIORS)}
    served = load_kernels()["served"]
    new = tomllib.loads(fit_kernels.written(text, fit_kernels.changed(served, wanted)))
    assert {name: fit_kernels.get(new["served"], name) for name in wanted} == wanted
    assert {k: v for k, v in new.items() if k != "served"} == {
        k: v for k, v in load_kernels().items() if k != "served"
    }
    same = tomllib.loads(fit_kernels.written(text, served))
    assert same == load_kernels()
