"""The catalogue's accelerators: datasheet values, sources, defaults, variants."""

import dataclasses

import numpy as np
import pytest

import qsjax as qs
from benchmarks import fit_experts, fit_h20
from qsjax import catalog
from qsjax.catalog import lookup
from qsjax.cost.prefix import TIERS
from qsjax.records import checks
from qsjax.records.fields import defaults_of, facts_of, numbers_of
from qsjax.records.specs import HardwareSpec
from qsjax.records.tables import table
from qsjax.records.units import GB, GIB, MIB, PFLOP, TB, TFLOP

EVERY = pytest.mark.parametrize("name", catalog.hardware_names())
VARIANTS = [name for name in catalog.hardware_names() if name.startswith("paper-reference-")]


def test_paper_reference_is_the_papers():
    spec = catalog.hardware("paper-reference")
    assert (spec.hbm_bytes, spec.hbm_bw) == (180 * GB, 8 * TB)
    assert (spec.flops_bf16, spec.flops_fp8) == (2.25 * PFLOP, 4.5 * PFLOP)
    assert (spec.intra_bw, spec.inter_bw, spec.island_size) == (900 * GB, 448 * GB, 8)
    # 126 of 180 GB, as the tables imply.
    assert spec.usable_fraction * spec.hbm_bytes - spec.reserve_bytes == pytest.approx(126 * GB)
    assert (spec.intra_latency, spec.inter_latency) == (2.1e-6, 2.1e-6)
    assert (spec.overlap_tp, spec.overlap_ep, spec.overlap_layout) == (0.5, 0, 0)
    assert (spec.eff_gemm, spec.eff_link, spec.layer_overhead, spec.step_overhead) == (1, 1, 0, 0)


def test_h100_is_its_datasheet():
    spec = catalog.hardware("h100-sxm")
    assert (spec.hbm_bytes, spec.hbm_bw) == (80 * GIB, 3.35e12)
    assert (spec.flops_bf16, spec.flops_fp8) == (989 * TFLOP, 1978 * TFLOP)
    assert (spec.intra_bw, spec.inter_bw, spec.island_size) == (450 * GB, 50 * GB, 8)
    assert (spec.watts, spec.usd_per_hour) == (700, 6.88)


def test_capacity_in_mib_is_what_nvidia_smi_reports():
    assert catalog.hardware("h200").hbm_bytes == 143_771 * MIB


@pytest.mark.parametrize(
    ("variant", "changed"),
    [
        ("secondary", {"intra_bw": 448 * GB}),
        ("capacity-75", {"hbm_bytes": 135 * GB}),
        ("capacity-125", {"hbm_bytes": 225 * GB}),
        ("bandwidth-75", {"hbm_bw": 6 * TB}),
        ("bandwidth-125", {"hbm_bw": 10 * TB}),
    ],
)
def test_variant_changes_one_thing(variant, changed):
    reference = catalog.hardware("paper-reference")
    assert catalog.hardware(f"paper-reference-{variant}") == dataclasses.replace(
        reference, **changed
    )


@EVERY
def test_entry_is_sound(name):
    entry = catalog.hardware_entry(name)
    checks.check_records(hardware=entry.spec)
    assert entry.title
    assert all(type(value) is float for value in numbers_of(entry.spec).values())
    assert entry.spec.label == name
    spec = entry.spec
    # The default of what a runtime keeps is that of 80 GB.
    assert spec.hbm_bytes > 60 * GIB or {"reserve", "usable_fraction"} & {*entry.given}
    assert spec.flops_bf16 <= spec.flops_fp8 <= spec.flops_fp4
    # Gigabytes per second against bits, one direction against two: a slip is a factor of 8 or 1000.
    # NVLink 6 has 1.8 TB/s a direction; Inf2 shares 100 Gbit/s among 12 chips, 1.04 GB/s each.
    assert 10 * GB < spec.intra_bw <= 1800 * GB
    assert 1 * GB < spec.inter_bw <= spec.intra_bw
    # LPDDR5x of DGX Spark, HBM4 of Rubin.
    assert 273 * GB <= spec.hbm_bw <= 22 * TB
    # A lane of PCIe has 1 or 2 GB/s to 4 a direction, a Grace CPU 450 GB/s for
    # two GPUs and a Vera CPU 900.
    for tier, (low, high) in {"host": (32, 450), "ssd": (4, 16), "remote": (12, 200)}.items():
        size, speed = (getattr(spec, f"{tier}_{what}") for what in ("bytes", "bw"))
        assert (size > 0) == (speed > 0)
        assert size == 0 or low * GB <= speed <= high * GB
    assert spec.host_bytes < TB
    assert spec.host_bytes < spec.ssd_bytes < spec.remote_bytes or not spec.ssd_bytes


@EVERY
def test_every_number_has_a_source(name):
    entry = catalog.hardware_entry(name)
    cited = {quantity for source in entry.sources for quantity in source.of}
    assert set(entry.given) <= cited
    assert all(source.at for source in entry.sources)
    known = {fact.key for fact in facts_of(HardwareSpec).values()}
    assert cited <= known


def test_every_default_that_is_not_neutral_has_a_source():
    """Neutral: no price, no power or all of it, nothing hidden, no padding, a softmax for free.

    So is the plain form of the kernels: no blend, no start-ups, ratios of 1, no one-shot kernel, no
    captured graph of prompts; and an island is a switch.
    """
    facts = facts_of(HardwareSpec)
    neutral = {"flops_exp", "query_tile", "cp_ring_tail", "usd_per_hour", "watts"}
    neutral |= {"power_base", "power_gain"}
    neutral |= {name for name in facts if name.startswith("overlap_")}
    neutral |= {name for name in facts if name.endswith(("_blend", "_ratio", "_startup"))}
    neutral |= {"linear_overhead", "sparse_overhead", "captured_tokens"}
    neutral |= {"one_shot_share", "two_shot_latency", "rank_latency", "mesh"}
    neutral |= {f"{tier}_{what}" for tier in TIERS for what in ("bytes", "bw")}  # no such tier
    ones = {"query_tile", "power_base", "expert_read_ratio", "expert_gemm_ratio"}
    defaults = defaults_of(HardwareSpec)
    assert {name for name in defaults if facts[name].source} == defaults.keys() - neutral
    assert all(defaults[name] == (name in ones) for name in neutral)
    assert len(defaults) - len(neutral) == 24


def test_python_has_the_defaults_of_a_file():
    keys = {
        "hbm_capacity_gb": 192,
        "hbm_bandwidth_tb_per_s": 8,
        "peak_bf16_tflop_per_s": 2500,
        "peak_fp8_tflop_per_s": 5000,
        "peak_fp4_tflop_per_s": 1e4,
        "intra_bandwidth_gb_per_s": 900,
        "inter_bandwidth_gb_per_s": 100,
        "island_size": 72,
    }
    spec = HardwareSpec(
        hbm_bytes=192 * GB,
        hbm_bw=8 * TB,
        flops_bf16=2.5 * PFLOP,
        flops_fp8=5 * PFLOP,
        flops_fp4=10 * PFLOP,
        intra_bw=900 * GB,
        inter_bw=100 * GB,
        island_size=72.0,
    )
    assert catalog.hardware(**keys) == spec


def test_defaults_hold_for_real_accelerators_only():
    real = [n for n in catalog.hardware_names() if not n.startswith("paper-reference")]
    assert len(real) >= 19
    # AMD and AWS have no kernel tables: their constants are fitted to served deployments. H20 has
    # tables of its own.
    fitted = ("mi3", "trainium", "inferentia", "h20-")
    own = [name for name in real if not name.startswith(fitted)]
    efficiencies = {catalog.hardware(name).eff_weight_read for name in own}
    assert len(efficiencies) == 1
    assert efficiencies != {1.0}
    assert len(VARIANTS) == 5


def test_a_missing_peak_is_replaced_and_said():
    entry = catalog.hardware_entry("a100")
    assert entry.spec.flops_fp8 == entry.spec.flops_bf16 == entry.spec.flops_fp4
    found = [text[:11] for text in entry.assumptions]
    assert found == ["no power_ba", "no fp8 peak", "no fp4 peak"]
    assert catalog.hardware_entry("b200").assumptions == ()
    free = [text[:13] for text in catalog.hardware_entry("mi355x").assumptions]
    assert free == ["no peak_exp: ", "no query_tile"]


def losses(spec):
    """Efficiencies that are not 1, overheads and latencies that are not 0."""
    values = numbers_of(spec).items()
    ideal = {name: 1.0 if name.startswith("eff_") else 0.0 for name, _ in values}
    kinds = ("eff_", "overhead", "latency")
    return {n for n, v in values if any(kind in n for kind in kinds) and v != ideal[n]}


def test_ideal_is_the_speed_of_light():
    real = catalog.hardware("h100")
    assert len(losses(real)) >= 9
    ideal = catalog.ideal(real)
    assert losses(ideal) == set()
    changed = {n for n in dataclasses.asdict(real) if getattr(real, n) != getattr(ideal, n)}
    assert changed == losses(real) | {"label"}


def test_the_paper_has_no_losses_but_latency():
    # It has no memory tiers, so what their loads take does not count.
    found = {name for name in losses(catalog.hardware("paper-reference")) if "tier" not in name}
    found = {name for name in found if not name.startswith(TIERS)}
    assert found == {"intra_latency", "inter_latency"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("h100", "h100-sxm"),
        ("H100 SXM", "h100-sxm"),
        ("h100_sxm", "h100-sxm"),
        ("gb200", "gb200-nvl72"),
        ("trillium", "tpu-v6e"),
        ("paper", "paper-reference"),
        ("MI300X-192GB", "mi300x"),
        ("H20-96GB", "h20-96g"),
        ("H100-PCIE-80GB", "h100-pcie"),
        ("gb200_sxm", "gb200-nvl72"),
        ("tpu-v6e-slice", "tpu-v6e"),
        ("tpu-v5-lite-podslice", "tpu-v5e"),
        # As nvidia-smi, rocm-smi, clouds and schedulers print them.
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40g"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie"),
        ("Tesla T4", "t4"),
        ("V100-32GB", "v100-sxm-32g"),
        ("Tesla V100-PCIE-16GB", "v100-pcie-16g"),
        ("NVIDIA_TESLA_A100", "a100-sxm-40g"),  # Google's others are A100_80GB
        ("H100-MEGA", "h100-sxm"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-workstation"),
        ("AMD Instinct MI250X", "mi250x-gcd"),
        ("HL-225H", "gaudi-2"),
        ("Huawei Ascend 910B3", "ascend-910b"),
        ("H100_NVLINK_80GB", "h100-sxm"),
        ("T4 (16GB)", "t4"),
        ("AWS Trainium2", "trainium2"),
        ("Cloud TPU v5p", "tpu-v5p"),
        ("AMD Instinct\u2122 MI300X", "mi300x"),
        ("GH200 144G HBM3e", "gh200-144g"),
    ],
)
def test_accelerator_is_found_by(given, name):
    assert catalog.hardware_entry(given).name == name


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("resources:\n  accelerators: H200:8\n", "h200-sxm"),
        ("accelerators:\n  - H200:8\n  - H100:8\n", "h100-sxm h200-sxm"),
        ("nodeSelector: {cloud.google.com/gke-accelerator: nvidia-b200}", "b200-sxm"),
        ("- key: nvidia.com/gpu.product\n  operator: In\n  values:\n  - NVIDIA-H200", "h200-sxm"),
        ("amd.com/gpu.product-name: AMD_Instinct_MI300X_OAM", "mi300x"),
        ('@app.function(gpu=f"A100-80GB:{N}")', "a100-sxm"),
        ('"gpuTypeIds": ["NVIDIA H200"], "gpuCount": 8', "h200-sxm"),
        ("gcloud run deploy x --gpu 1 --gpu-type nvidia-rtx-pro-6000 \\\n -q", "rtx-pro-6000"),
        ("#SBATCH --nodes=2 --gres=gpu:h100:8", "h100-sxm"),
        ("#SBATCH -N 1\n#SBATCH -G a40:2\n", "a40"),
        ("vmSize: Standard_NC24ads_A100_v4", "a100-pcie"),
        ('instanceType: "p4d.24xlarge"', "a100-sxm-40g"),
        ("gcloud compute instances create x --machine-type g2-standard-48", "l4"),
        ("  shape: BM.GPU.H100.8", "h100-sxm"),
        ('instance_type="ml.g5.12xlarge"', "a10g"),
        ("docker run --gpus all v --gpu-memory-utilization 0.9; nvidia.com/gpu: 8", ""),
    ],
)
def test_accelerators_that_a_deployment_asks_for(text, named):
    assert lookup.placed(text) == set(named.split())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("H100 94GB", "h100-nvl"),  # was the one of 80 GiB
        ("h100/h200", "give one; `qsjax compare` takes several"),  # was an H200
        ("h100@8", "did you mean .*h100-sxm"),  # was one, as if 8 were a revision
    ],
)
def test_names_of_more_than_one_accelerator_are_none(given, told):
    with pytest.raises(ValueError, match=told):
        catalog.hardware(given)


def test_unknown_accelerator_names_the_nearest_and_the_way_out():
    with pytest.raises(ValueError, match=r"did you mean h100-sxm") as caught:
        catalog.hardware("h10")
    assert "docs/guides/your-own-hardware.md" in str(caught.value)


def test_times_are_exact():
    # the file says 2.1 us: exactly the double nearest to 2.1e-6, not a product of two roundings
    assert catalog.hardware("paper-reference").intra_latency == 2.1e-6


def test_h20_has_the_shares_of_its_own_kernels():
    found = fit_h20.fits()
    spec = catalog.hardware("h20-96g")
    for name, value in fit_h20.fields(found).items():
        assert getattr(spec, name) == pytest.approx(value, rel=5e-3, abs=5e-4), name
    for name, most in (("products", 0.05), ("experts", 0.15), ("cache", 0.07)):
        assert np.median(np.abs(found[name].errors)) < most, name


@pytest.mark.parametrize("entry", [[40.0, 0.9, 0.4, 1.0], [60.0, 0.7, 0.25, 1.5]])
def test_the_share_of_the_peak_of_experts_is_that_of_many_tokens(entry):
    """From times of that share, those of few tokens aside; and into the table's text."""
    tokens = np.array([1.0, 4.0, 16.0, 64.0, 256.0])
    read, products = np.full(5, 1e-4), tokens * 1e-6
    none = fit_experts.Measured(np.ones(5), read, np.zeros(5), products, tokens)
    seconds = np.exp(fit_experts.errors(entry, none)) * np.array([3.0, 3.0, 1.0, 1.0, 1.0])
    startup, share, peak, norm = entry
    found = fit_experts.fit(none._replace(seconds=seconds), [startup, share, 1.0, norm])
    assert found == pytest.approx(entry, rel=5e-3)
    by_hand = startup * 1e-6 + ((1e-4 / share) ** norm + (64e-6 / peak) ** norm) ** (1 / norm)
    assert seconds[3] == pytest.approx(by_hand)
    kernels = fit_experts.KERNELS[0]
    text = fit_experts.written(fit_experts.TABLE.read_text("utf-8"), kernels, entry)
    assert f"{kernels.engine} = {{{kernels.entry} = {entry}" in text


@pytest.mark.parametrize(
    ("machine", "chip", "count"),
    [
        # Pages of the clouds, as catalog/instances.toml names them.
        ("g6e.12xlarge", "l40s", 4),
        ("p5.48xlarge", "h100-sxm", 8),
        ("p5en.48xlarge", "h200-sxm", 8),
        ("a3-megagpu-8g", "h100-sxm", 8),
        ("Standard_ND96isr_MI300X_v5", "mi300x", 8),
        ("Standard_NC96ads_A100_v4", "a100-pcie", 4),
        ("p3dn.24xlarge", "v100-sxm-32g", 8),
        ("ml.g5.12xlarge", "a10g", 4),
        ("inf2.24xlarge", "inferentia2", 6),
        ("ct6e-standard-4t", "tpu-v6e", 4),
    ],
)
def test_machines_of_clouds_count_their_accelerators(machine, chip, count):
    assert lookup.counted(machine) == (chip, count)
    with pytest.raises(ValueError, match=f"it counts {count} of {chip}: give that name"):
        catalog.hardware(machine)
    asked = f"nodeSelector:\n  node.kubernetes.io/instance-type: {machine}\n"
    assert lookup.placed(asked) == {chip}


def test_machines_are_of_known_accelerators():
    for chip in table("catalog/instances.toml"):
        assert lookup.find("hardware", chip) == chip
    assert lookup.find("hardware", "g6e.xlarge") == "l40s"  # which has one


def test_slices_of_tpus_count_chips():
    """The number behind v4 and v5p is of cores, two a chip (https://cloud.google.com/tpu/docs)."""
    for name, counted in (("v6e-8", ("tpu-v6e", 8)), ("v4-8", ("tpu-v4", 4))):
        assert lookup.counted(name) == counted
    assert lookup.counted("v5litepod-16") == ("tpu-v5litepod", 16)
    assert lookup.counted("tpu-v5p-8") == ("tpu-v5p", 4)
    assert not lookup.placed("gpu-operator: v4")
    assert lookup.counted("gpu_8x_h100_sxm5") == ("h100_sxm5", 8)
    assert lookup.counted("nvidia-a10g-x4") == ("nvidia-a10g", 4)
    assert lookup.counted("l40sx8") == ("l40s", 8)


@pytest.mark.parametrize(
    "name", ["RTX 5090 D", "AMD Instinct MI250X / MI250", "V100S", "H100 HBM2e", "H20 HBM3e"]
)
def test_what_is_another_part_is_none(name):
    """Near a known name, and of another bandwidth or peak."""
    with pytest.raises(ValueError, match="unknown accelerator"):
        catalog.hardware(name)


def test_peaks_that_hardware_lacks_are_those_of_16_bits():
    """No fp8 on Volta, Turing, Ampere and CDNA2; on Ada twice, on Blackwell fp4 twice that."""
    for name in (
        "v100",
        "t4",
        "a10",
        "a30",
        "a40",
        "a100-pcie",
        "a800",
        "rtx-3090",
        "mi250x",
        "910c",
        *("rtx-3090-ti", "rtx-2080-ti", "arc-b60"),
    ):
        spec = catalog.hardware(name)
        assert spec.flops_fp4 == spec.flops_fp8 == spec.flops_bf16, name
    twice = ("l40", "rtx-6000-ada", "rtx-4080", "h800-pcie", "gaudi-2", "b100")
    for name in (*twice, "l20", "rtx-4070-ti-super", "rtx-4090-d", "mi300a", "r9700", "agx-thor"):
        spec = catalog.hardware(name)
        assert spec.flops_fp8 == pytest.approx(2.0 * spec.flops_bf16, rel=3e-3), name


def test_weights_of_eight_billion_parameters_on_a_t4():
    """16.1 GB in fp16 do not fit in 16 GB; halves on two read 8.03 GB at 0.92 of 320 GB/s."""
    assert "with 2 GPUs" in qs.explore(qs.Problem("llama-3.1-8b", "t4", gpus=1)).summary()
    step = qs.decode("llama-3.1-8b", "t4", qs.Partition(tp=2), context=1024, batch=1)
    read = 2.0 * (8.03e9 - 0.525e9) / 2.0 / (0.92 * 320e9)  # the embedding is looked up
    assert float(step.tpot) > read
    assert float(step.tpot) < 1.35 * read


def test_boards_and_makers_before_a_name():
    names = ("DGX H100", "HGX B300", "Intel Gaudi 3", "NVIDIA DGX Spark", "NVIDIA H200")
    chips = ["h100-sxm", "b300-sxm", "gaudi-3", "dgx-spark", "h200-sxm"]
    assert [lookup.find("hardware", name) for name in names] == chips
