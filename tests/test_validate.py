"""Checks of user input: every problem in one message, with what is allowed and how to mend it."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsjax import catalog
from qsjax.records import checks
from qsjax.records.fields import defaults_of, facts_of
from qsjax.records.specs import (
    CONVENTIONS,
    FIELDS,
    PAPER,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)

MODEL, HARDWARE = catalog.model("deepseek-v3"), catalog.hardware("h100")


def message(check=checks.check_records, *arguments, **given):
    with pytest.raises(ValueError, match=":\n") as caught:
        check(*arguments, **given)
    return str(caught.value)


RECORDS = (ModelSpec, HardwareSpec, Partition, Workload, Convention)


@pytest.mark.parametrize("record", RECORDS)
def test_every_number_has_its_facts(record):
    fields = {
        field.name
        for field in dataclasses.fields(record)
        if not field.metadata.get("static") and field.name not in ("precision", "label")
    }
    facts = facts_of(record)
    assert facts.keys() == fields
    assert all(fact.meaning and fact.unit for fact in facts.values())
    assert len({fact.meaning for fact in facts.values()}) == len(facts)


@pytest.mark.parametrize("record", RECORDS)
def test_every_default_is_within_its_bounds(record):
    for name, default in defaults_of(record).items():
        if default is not None:
            assert checks.value_problem(facts_of(record)[name].rule, default) is None, name


def test_sound_input_passes():
    partition = Partition(tp=8, ep=32, pp=1, dp=4)
    given = {"model": MODEL, "hardware": HARDWARE, "partition": partition}
    for context in (131072.0, np.array([1024.0, 2048.0])):
        for convention in CONVENTIONS.values():
            others = {"workload": Workload(context=context), "convention": convention}
            assert len(checks.check_records(**given, **others)) == 5
    checks.check_partition(partition, MODEL)
    read = checks.check_axes({"tp": [1, 2, 4], "q": 5.0, "context": [1024], "hbm_bw": 8e12})
    assert {name: values.tolist() for name, values in read.items()} == {
        "tp": [1.0, 2.0, 4.0],
        "q": [5.0],
        "context": [1024.0],
        "hbm_bw": [8e12],
    }


def test_all_problems_of_a_model_at_once():
    broken = dataclasses.replace(MODEL, layers=0.0, hidden=-1.0, top_k=300.0, vocab=math.nan)
    lines = message(model=broken).splitlines()
    assert lines[0] == "model:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "layers",
        "hidden",
        "vocab",
        "top_k",
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"top_k": 300.0}, "top_k: 300 exceeds the 256 experts"),
        ({"dense_layers": 62.0}, "dense_layers: 62 exceeds the 61 layers"),
        ({"dense_ff": 0.0}, "dense_ff: 0 is not allowed with dense_layers = 3"),
        ({"shared_ff": 0.0}, "shared_ff: 0 is not allowed with shared_experts = 1"),
        ({"expert_ff": 0.0}, "expert_ff: 0 leaves layers without a feed-forward network"),
        ({"v_head_dim": 0.0}, "v_head_dim: 0 is not allowed with kv_latent = 512"),
        ({"kv_latent": 0.0}, "kv_latent: 0 is not allowed with q_lora_rank = 1536"),
        ({"window_layers": 3.0}, "window: 0 is not allowed with window_layers = 3"),
        ({"window_layers": 40.0, "linear_layers": 40.0}, "40 with a window and 40 linear ones"),
        ({"ffn_matrices": 4.0}, "ffn_matrices: 4 is not allowed; give a whole number from 2 to 3"),
        ({"tied_embeddings": 0.5}, "tied_embeddings: 0.5 is not allowed"),
        ({"heads": 12.5}, "heads: 12.5 is not allowed; give a whole number of at least 1"),
        ({"extra_params": "many"}, "extra_params: 'many' is not a number"),
    ],
)
def test_model_problem(change, text):
    assert text in message(model=dataclasses.replace(MODEL, **change))


def test_heads_problem_lists_the_divisors():
    broken = dataclasses.replace(catalog.model("llama-3.1-8b"), kv_heads=5.0)
    text = message(model=broken)
    assert "kv_heads: 5 does not divide 32 query heads; choose a divisor of 32: 1, 2, 4, 8" in text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hbm_bw": 0.0}, "hbm_bw: 0 is not allowed; give a number above 0"),
        ({"inter_bw": -1.0}, "inter_bw: -1 is not allowed"),
        ({"hbm_bytes": math.inf}, "hbm_bytes: inf is not allowed"),
        ({"intra_latency": math.nan}, "intra_latency: nan is not allowed"),
        ({"eff_gemm": 0.0}, "eff_gemm: 0 is not allowed; give a number above 0 and up to 1"),
        ({"eff_gemm": 1.1}, "eff_gemm: 1.1 is not allowed"),
        ({"overlap_kv": 1.5}, "overlap_kv: 1.5 is not allowed; give a number from 0 to 1"),
        ({"overlap_tp": 0.6, "overlap_ep": 0.6}, "their sum exceeds 1; lower one of them"),
        ({"overlap_tp": 0.5, "overlap_layout": 0.6}, "their sum exceeds 1; lower one of them"),
        ({"island_size": 2.5}, "island_size: 2.5 is not allowed; give a whole number"),
        ({"usable_fraction": 0.0}, "usable_fraction: 0 is not allowed"),
        ({"hbm_bw": np.array([1e12, -2.0])}, "hbm_bw: -2 is not allowed"),
        ({"hbm_bw": []}, "hbm_bw: no value was given; give at least one"),
    ],
)
def test_hardware_problem(change, text):
    assert text in message(hardware=dataclasses.replace(HARDWARE, **change))


def test_overlaps_may_fill_the_window():
    hidden = {"overlap_tp": 0.7, "overlap_ep": 0.2, "overlap_layout": 0.1}
    checks.check_records(hardware=dataclasses.replace(HARDWARE, **hidden))


def test_partition_against_a_model():
    text = message(checks.check_partition, Partition(tp=3, ep=7, pp=62), MODEL)
    assert text.splitlines() == [
        "partition:",
        "  tp: tp=3 does not divide 128 query heads; choose a divisor of 128: "
        "1, 2, 4, 8, 16, 32, 64, 128",
        "  ep: ep=7 does not divide 256 experts; choose a divisor of 256: "
        "1, 2, 4, 8, 16, 32, 64, 128, 256",
        "  pp: pp=62 exceeds the 61 layers; lower it",
    ]
    checks.check_records(partition=Partition(tp=3), model=MODEL)  # a result with its reasons


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"context": 0.0}, "context: 0 is not allowed; give a number above 0"),
        ({"context": -5.0}, "context: -5 is not allowed"),
        (
            {"context": 1024.0, "batch": 0.0},
            "batch: 0 is not allowed; give a number from 1 to 1e+09",
        ),
        ({"context": 1024.0, "bytes_kv": 0.0}, "bytes_kv: 0 is not allowed"),
        ({"context": 1024.0, "tokens_per_step": 0.5}, "tokens_per_step: 0.5 is not allowed"),
        (
            {"context": 1024.0, "tokens_per_step": 2.5, "query_tokens": 2.0},
            "tokens_per_step: 2.5 exceeds the 2 query_tokens that a step runs; raise it",
        ),
    ],
)
def test_workload_problem(change, text):
    assert text in message(workload=Workload(**change))


def test_convention_problem():
    broken = dataclasses.replace(PAPER, kv_overhead=0.5, ep_exchange_volume=-1.0)
    text = message(convention=broken)
    assert "kv_overhead: 0.5 is not allowed" in text
    assert "ep_exchange_volume: -1 is not allowed" in text


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("tp", [1, 2, 2.5], "tp: 2.5 is not allowed; give a whole number from 1 to 1e+09"),
        ("ep", [0], "ep: 0 is not allowed"),
        ("pp", [], "pp: no value was given; give at least one"),
        ("q", [1.0, 0.0], "q: 0 is not allowed; give a number above 0"),
        ("context", [math.nan], "context: nan is not allowed"),
        ("kv_mode", ["ring"], "kv_mode: ring is not a KV mode; give some of none, kvp, cp"),
        ("dp", "two", "dp: 'two' is not a number"),
    ],
)
def test_axis_problem(name, values, text):
    assert text in message(checks.check_axes, {name: values})


def test_unknown_axis_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown axis 'hbm_bandwidth'; did you mean .*hbm_bw"):
        checks.check_axes({"hbm_bandwidth": [1.0]})
    with pytest.raises(ValueError, match=r"tflop_per_s'; did you mean flops_bf16 \[FLOP/s\]\?"):
        checks.check_axes({"peak_bf16_tflop_per_s": [1e3]})  # as `hardware` and files take it
    with pytest.raises(ValueError, match="known: layers, "):
        checks.check_axes({"zzzz": [1.0]})


@given(st.floats(), st.sampled_from(sorted(FIELDS)))
def test_a_value_is_refused_or_within_its_bounds(value, name):
    rule = FIELDS[name].rule
    high = min(rule.high, checks.LARGEST)
    allowed = math.isfinite(value) and (
        rule.low < value <= high if rule.above else rule.low <= value <= high
    )
    allowed = allowed and (not rule.whole or value == int(value))
    assert (checks.value_problem(rule, value) is None) == allowed
