"""A user's own TOML files: what they may say, and that one message names every problem."""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from qsjax import catalog
from qsjax.records.fields import facts_of
from qsjax.records.specs import HardwareSpec
from qsjax.records.units import DIMENSIONS, GB, GIB, TB, TFLOP

GUIDES = Path(__file__).parent.parent / "docs" / "guides"
HARDWARE = """\
hbm_capacity_gb = 96
hbm_bandwidth_tb_per_s = 4
peak_bf16_tflop_per_s = 500
intra_bandwidth_gb_per_s = 400
inter_bandwidth_gbit_per_s = 400
island_size = 16
"""
MODEL = """\
[shape]
layers = 4
hidden = 512
vocab = 1000
heads = 8
kv_heads = 2
head_dim = 64
expert_ff = 2048
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(load, path):
    with pytest.raises(ValueError, match=str(path.name)) as caught:
        load(path)
    first, *rest = str(caught.value).splitlines()
    assert first == f"{path}:"
    return [line.strip() for line in rest]


def assert_start_with(found, expected):
    pairs = zip(found, expected, strict=True)
    assert [pair for pair in pairs if not pair[0].startswith(pair[1])] == []


def test_hardware_by_units(write):
    entry = catalog.hardware_entry(write(HARDWARE))
    spec = entry.spec
    assert (spec.hbm_bytes, spec.hbm_bw, spec.flops_bf16) == (96 * GB, 4 * TB, 500 * TFLOP)
    assert (spec.intra_bw, spec.inter_bw, spec.island_size) == (400 * GB, 50 * GB, 16)
    assert spec.flops_fp4 == spec.flops_bf16
    assert spec.eff_link == catalog.hardware("h100").eff_link
    assert entry.name == entry.title == "mine"
    assert catalog.hardware(str(write(HARDWARE))) == spec


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("hbm_capacity_gib = 80", "hbm_bytes", 80 * GIB),
        ("hbm_capacity_mib = 1024", "hbm_bytes", GIB),
        ("hbm_bandwidth_gb_per_s = 3350", "hbm_bw", 3.35 * TB),
        ("peak_fp4_pflop_per_s = 4.5", "flops_fp4", 4.5e15),
        ("intra_latency_us = 2.1", "intra_latency", 2.1e-6),
        ("step_overhead_ms = 0.2", "step_overhead", 2e-4),
        ("price_usd_per_hour = 2.5", "usd_per_hour", 2.5),
        ("power_watts = 700", "watts", 700.0),
        ("overlap_ep = 0.5", "overlap_ep", 0.5),
        ("reserve_gb = 0", "reserve_bytes", 0.0),
    ],
)
def test_hardware_extends_another(write, line, field, value):
    spec = catalog.hardware(write(f'extends = "h100"\n{line}\n'))
    assert getattr(spec, field) == value
    assert dataclasses.replace(catalog.hardware("h100"), **{field: value}) == spec


def test_a_stand_in_follows_the_peak_it_stands_for(write):
    entry = catalog.hardware_entry(write('extends = "a100"\npeak_bf16_tflop_per_s = 400\n'))
    assert entry.spec.flops_fp8 == entry.spec.flops_fp4 == 400 * TFLOP
    assert [text[:11] for text in entry.assumptions] == [
        "no power_ba",
        "no fp8 peak",
        "no fp4 peak",
    ]
    entry = catalog.hardware_entry(write('extends = "a100"\npeak_fp8_tflop_per_s = 600\n'))
    assert (entry.spec.flops_bf16, entry.spec.flops_fp4) == (312 * TFLOP, 600 * TFLOP)
    assert [text[:11] for text in entry.assumptions] == ["no power_ba", "no fp4 peak"]


def test_every_hardware_problem_with_its_line(write):
    text = """\
title = "My GPU"
hbm_capacity_gb = 80
hbm_capacity_gib = 75
hbm_bandwith_tb_per_s = 3.35
hbm_bandwidth_gb = 3
peak_bf16 = 989
peak_fp8_tflop_per_s = nan
intra_bandwidth_gb_per_s = -450
inter_bandwidth_gb_per_s = "50 GB/s"
island_size = 0
island_size = 8
usable_fraction = 1.2
overlap_tp = 0.7
overlap_ep = 0.6
intra_latency_us = inf
peak_fp4_flops = 1
eff_gemm = true
extends = "h1000"
"""
    found = problems(catalog.hardware, write(text))
    expected = [
        "line 3: hbm_capacity_gib: hbm_capacity_gb gives the same quantity",
        "line 4: hbm_bandwith_tb_per_s: unknown key; did you mean hbm_bandwidth_tb_per_s",
        "line 5: hbm_bandwidth_gb: 'gb' is a unit of capacity, but hbm_bandwidth is a bandwidth",
        "line 6: peak_bf16: the unit is missing; write peak_bf16_tflop_per_s",
        "line 7: peak_fp8_tflop_per_s: nan is not allowed; give a number above 0",
        "line 8: intra_bandwidth_gb_per_s: -450 is not allowed; give a number above 0",
        "line 9: inter_bandwidth_gb_per_s: '50 GB/s' is not a number",
        "line 10: island_size: 0 is not allowed; give a whole number of at least 1",
        "line 11: island_size: given twice, first on line 10",
        "line 12: usable_fraction: 1.2 is not allowed; give a number above 0 and up to 1",
        "line 13: overlap_tp: ",
        "line 15: intra_latency_us: inf is not allowed; give a number of at least 0",
        "line 16: peak_fp4_flops: unknown unit 'flops'; write peak_fp4_tflop_per_s",
        "line 17: eff_gemm: True is not a number",
        "line 18: extends: unknown accelerator 'h1000'; did you mean h100-sxm",
    ]
    assert_start_with(found, expected)


def test_missing_hardware_keys_are_all_named(write):
    found = problems(catalog.hardware, write("hbm_capacity_gb = 80\n"))
    assert [line.split()[0] for line in found] == [
        "hbm_bandwidth_gb_per_s",
        "inter_bandwidth_gb_per_s",
        "intra_bandwidth_gb_per_s",
        "island_size",
        "peak_bf16_tflop_per_s",
    ]


def test_model_from_a_file(write):
    entry = catalog.model_entry(write(f'weight_dtype = "fp8"\nmax_context = 4096\n{MODEL}'))
    assert (entry.spec.layers, entry.spec.experts, entry.spec.ffn_matrices) == (4, 1, 3)
    assert (entry.weight_dtype, entry.attn_weight_dtype) == ("fp8", "fp8")
    assert (entry.name, entry.max_context) == ("mine", 4096)


def test_model_extends_another(write):
    spec = catalog.model(write('extends = "DeepSeek-V3"\n[shape]\nexperts = 512\n'))
    assert spec == dataclasses.replace(catalog.model("deepseek-v3"), experts=512.0)


def test_every_model_problem_with_its_line(write):
    text = """\
titel = "x"
weight_dtype = "fp6"
layers = 3
max_context = -1
note = 3
[shape]
layers = 32
hidden = 4096.5
hiden = 3
heads = 32
heads = 33
kv_heads = 5
head_dim = true
expert_ff = -1
experts = 4
top_k = 8
tied_embeddings = true
window_layers = 40
"""
    found = problems(catalog.model, write(text))
    expected = [
        "[shape] lacks vocab",
        "window: 0 is not allowed with window_layers = 40",
        "line 1: titel: unknown key; did you mean title",
        "line 2: weight_dtype: unknown precision 'fp6'; known: bf16, fp8, fp4",
        "line 3: layers: unknown key; it belongs under [shape]",
        "line 4: max_context: -1 is not allowed",
        "line 5: note: 3 is not a text",
        "line 8: hidden: 4096.5 is not allowed; give a whole number",
        "line 9: hiden: unknown field; did you mean hidden",
        "line 11: heads: given twice, first on line 10",
        "line 12: kv_heads: 5 does not divide 32 query heads; choose a divisor of 32: 1, 2, 4",
        "line 13: head_dim: True is not a number",
        "line 14: expert_ff: -1 is not allowed",
        "line 16: top_k: 8 exceeds the 4 experts",
        "line 18: window_layers: 40 with a window and 0 linear ones exceed the 32 layers",
    ]
    assert_start_with(found, expected)


@pytest.mark.parametrize("load", [catalog.model, catalog.hardware])
def test_a_byte_order_mark_is_no_problem(load, write):
    text = HARDWARE if load is catalog.hardware else MODEL
    assert load(write("\ufeff" + text.replace("\n", "\r\n"))) == load(write(text, "plain.toml"))


def test_extended_files_lie_beside_the_one_that_extends_them(write, tmp_path):
    inner = tmp_path / "parts"
    inner.mkdir()
    (inner / "base.toml").write_text(HARDWARE)
    (inner / "small.toml").write_text(MODEL)
    more = write('extends = "parts/base.toml"\nisland_size = 32\n')
    assert catalog.hardware(more).hbm_bytes == 96 * GB
    shape = "[shape]\nlayers = 9\n"
    assert catalog.model(write(f'extends = "parts/small.toml"\n{shape}')).hidden == 512


@pytest.mark.parametrize("load", [catalog.model, catalog.hardware])
def test_files_that_extend_themselves(load, write):
    (only,) = problems(load, write('extends = "./mine.toml"\n'))
    assert only.startswith("line 1: extends: ")
    assert only.endswith("extends itself; name an entry of the catalogue or another file")
    write('extends = "one.toml"\n', "two.toml")
    found = problems(load, write('extends = "two.toml"\n', "one.toml"))
    assert "extends itself" in found[-1]


def test_repeated_and_unknown_tables(write):
    text = f'extends = "llama-3.1-8b"\n{MODEL}[shape]\nheads = 8\nvocab = 5.5\n'
    found = problems(catalog.model, write(text))
    expected = [
        "line 10: [shape]: given twice, first on line 2; keep one",
        "line 11: heads: given twice, first on line 6; keep one",
        "line 12: vocab: given twice, first on line 5; keep one",
    ]
    assert_start_with(found, expected)
    found = problems(catalog.hardware, write('extends = "h100"\n[memory]\nhbm_capacity_gb = 80\n'))
    assert found == [
        "line 2: memory: an accelerator has no such table; write its keys at the top of the file"
    ]


def test_numbers_without_measure(write):
    head = 'extends = "h100"\n'
    text = f"{head}hbm_bandwidth_gb_per_s = 1e300\neff_gemm = 1.0000001\nisland_size = 1e30\n"
    assert problems(catalog.hardware, write(text)) == [
        "line 2: hbm_bandwidth_gb_per_s: 1e+300 is not allowed; give a number above 0, "
        "at most 1e+24",
        "line 3: eff_gemm: 1.0000001 is not allowed; give a number above 0 and up to 1",
        "line 4: island_size: 1e+30 is not allowed; give a whole number of at least 1, "
        "at most 1e+24",
    ]
    found = problems(catalog.model, write(f"max_context = 1e400\nweight_bytes = nan\n{MODEL}"))
    assert_start_with(
        found, ["line 1: max_context: inf is not", "line 2: weight_bytes: nan is not"]
    )


@pytest.mark.parametrize("load", [catalog.model, catalog.hardware])
def test_broken_files_say_only_that(load, write, tmp_path):
    (only,) = problems(load, write("a = = 1\n"))
    assert only.startswith("line 1: not TOML: ")
    assert "line 1" in only
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path / "none.toml")


def test_keys_in_texts_and_comments_are_no_keys(write):
    text = f'note = """\nisland_size = 3\n"""\n# island_size = 5\n{HARDWARE}'
    assert catalog.hardware(write(text)).island_size == 16


def test_repeated_tables_are_no_repeated_keys(write):
    rows = '[[source]]\nof = ["hbm_capacity"]\nat = "here"\n' * 2
    assert len(catalog.hardware_entry(write(HARDWARE + rows)).sources) == 2


def test_a_replaced_number_does_not_keep_the_source_of_the_old_one(write):
    """What a datasheet says of the H100's bandwidth is no source of a what-if."""
    whole = {n for source in catalog.hardware_entry("h100").sources for n in source.of}
    entry = catalog.hardware_entry(write('extends = "h100"\nhbm_bandwidth_tb_per_s = 16\n'))
    assert {n for source in entry.sources for n in source.of} == whole - {"hbm_bandwidth"}
    rows = '[[source]]\nof = ["peak_exp"]\nat = "a plan"\n'
    entry = catalog.hardware_entry(write(f'extends = "h100"\npeak_exp_tflop_per_s = 8\n{rows}'))
    assert [source.at for source in entry.sources if "peak_exp" in source.of] == ["a plan"]


def test_malformed_tables_are_explained(write):
    found = problems(catalog.hardware, write(f'source = "a leaflet"\n{HARDWARE}'))
    assert found == ['line 1: source: write [[source]] tables: of = ["hbm_capacity"], at = "..."']
    of_text = '[[source]]\nof = "hbm_capacity"\nat = "here"\n'
    (only,) = problems(catalog.hardware, write(f"{HARDWARE}{of_text}"))
    assert only.endswith('source: write [[source]] tables: of = ["hbm_capacity"], at = "..."')
    ratio = '[[exception]]\nof = "total"\nratio = "x"\nreason = "y"\n'
    (only,) = problems(catalog.model, write(f"{MODEL}{ratio}"))
    assert "exception: write [[exception]] tables" in only
    found = problems(catalog.model, write("shape = 3\nexception = 1\naliases = [1]\n"))
    assert [line.split(": ")[1] for line in found if "line" in line] == [
        "shape",
        "exception",
        "aliases",
    ]


def blocks():
    for kind, load in (("model", catalog.model), ("hardware", catalog.hardware)):
        text = (GUIDES / f"your-own-{kind}.md").read_text()
        yield from (
            pytest.param(load, block, id=f"{kind}-{number}")
            for number, block in enumerate(re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
        )


@pytest.mark.parametrize(("load", "block"), list(blocks()))
def test_examples_of_the_guides_work(load, block, write):
    load(write(block))


def test_the_guide_lists_every_hardware_key():
    text = (GUIDES / "your-own-hardware.md").read_text()
    for fact in facts_of(HardwareSpec).values():
        assert f"`{fact.key}`" in text, fact.key
    for dimension in DIMENSIONS.values():
        assert all(f"`{unit}`" in text for unit in dimension.units)


def test_deep_nesting_and_unknown_users_are_told(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("title = " + "[" * 20_000 + "]" * 20_000)
    for load in (catalog.model_entry, catalog.hardware):
        with pytest.raises(ValueError, match="not TOML: nested too deeply"):
            load(str(path))
        with pytest.raises(ValueError, match="give the path in full"):
            load("~no-such-user-here/x.toml")


OWN_KEYS = {
    "hbm_capacity_gb": 96,
    "hbm_bandwidth_tb_per_s": 4.1,
    "peak_bf16_tflop_per_s": 900,
    "intra_bandwidth_gb_per_s": np.float64(450),
    "inter_bandwidth_gbit_per_s": np.int32(400),
    "island_size": 8,
}


def test_hardware_from_keywords_is_hardware_from_a_file(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in OWN_KEYS.items()))
    assert catalog.hardware(**OWN_KEYS) == catalog.hardware(path)


def test_keywords_replace_numbers_of_a_named_accelerator(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('extends = "h200-sxm"\nhbm_bandwidth_tb_per_s = 6\n')
    changed = catalog.hardware("h200-sxm", hbm_bandwidth_tb_per_s=6)
    assert changed == catalog.hardware(path)
    assert changed.hbm_bw == 6e12
    fields = catalog.hardware("h200-sxm", hbm_bw=6e12, island_size=4)
    assert fields == dataclasses.replace(changed, island_size=4.0)
    written = catalog.hardware(
        "h200-sxm", hbm_bw="6 TB/s", inter_bw="400Gbit/s", flops_fp8="2PFLOP/s"
    )
    assert (written.hbm_bw, written.inter_bw, written.flops_fp8) == (6e12, 5e10, 2e15)
    assert written.label == "h200-sxm, hbm_bw=6 TB/s, inter_bw=400Gbit/s, flops_fp8=2PFLOP/s"
    slope = jax.grad(lambda x: 2 * catalog.hardware("h200-sxm", hbm_bw=x).hbm_bw)(6e12)
    assert slope == 2.0


@pytest.mark.parametrize(
    ("name", "keys", "parts"),
    [
        ((), {"hbm_capacity": 96, "island": 8}, ["hbm_capacity_gb", "island_size", "peak_bf16"]),
        (("h200-sxm",), {"hbm_bandwidth_tb_per_s": "6"}, ["not a number"]),
        (("h200-sxm",), {"hbm_bandwidth_tb_per_s": float("nan")}, ["hbm_bandwidth_tb_per_s"]),
        (("h200-sxm",), {"island_size": True}, ["not a number"]),
        (("h20-sxmm",), {"price_usd_per_hour": -1}, ["did you mean", "price_usd_per_hour"]),
        (("",), {"island_size": 8}, ["unknown accelerator"]),
        (("h200-sxm",), {"extends": "h100-sxm"}, ["extends", "keep one"]),
        (("h200-sxm",), {"hbm_bw": -1, "intra_bw": "6 Tb/s"}, ["hbm_bw: -1", "intra_bw: '6 Tb/s'"]),
        ((), {"hbm_bw": 6e12}, ["hbm_bw: a field of HardwareSpec", "hbm_bandwidth_tb_per_s"]),
    ],
)
def test_wrong_keywords_of_hardware_are_told_together(name, keys, parts):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        catalog.hardware(*name, **keys)
    assert all(part in str(error.value) for part in parts), error.value


def test_experts_read_no_more_than_the_hidden_state(write):
    wider = MODEL.replace("[shape]", "expert_hidden = 99_999\n[shape]")
    (problem,) = problems(catalog.model, write(wider))
    assert "expert_hidden: 99999 is not allowed; give at most" in problem


def test_counts_beside_the_shape_are_whole_numbers(write):
    keys = ("max_context", "mtp_layers", "expert_hidden", "weight_block")
    given = "".join(f"{key} = 1.5\n" for key in keys)
    told = problems(catalog.model, write(MODEL.replace("[shape]", f"{given}[shape]")))
    assert [line.rpartition(": ")[0].rpartition(" ")[2] for line in told] == list(keys)
    assert all("whole number" in line for line in told), told
