"""Records: published precisions, labels that cost no compilation, facts of fields."""

import decimal
import fractions
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsjax import catalog
from qsjax.cost.laws.params import total_params
from qsjax.cost.meanings import attributes_of, meaning_of
from qsjax.grid.axes import stack
from qsjax.grid.problem import Problem
from qsjax.questions.explore import explore
from qsjax.questions.step import decode
from qsjax.records.checks import check_axes, check_records, traced_out_of_range
from qsjax.records.fields import facts_of, numbers_of
from qsjax.records.precision import STORED, stored_in, workload_of
from qsjax.records.specs import (
    KV_MODES,
    PHYSICAL,
    HardwareSpec,
    ModelSpec,
    Partition,
    Precision,
    Workload,
)

FLOAT32 = 1e-6  # transforms of a process without x64
H200 = catalog.hardware("h200-sxm")
SHAPE = {"layers": 2.0, "hidden": 64.0, "vocab": 100.0, "heads": 4.0, "kv_heads": 4.0}
SHAPE |= {"head_dim": 16.0, "expert_ff": 128.0}


class TestPrecision:
    @pytest.mark.parametrize("name", catalog.model_names())
    def test_a_model_carries_what_its_entry_says(self, name):
        entry = catalog.model_entry(name)
        precision = entry.spec.precision
        assert precision.bytes_ffn_weight == (entry.weight_bytes or STORED[entry.weight_dtype])
        assert precision.bytes_attn_weight == STORED[entry.attn_weight_dtype]
        assert precision.bytes_kv == STORED[entry.kv_dtype]
        multiply = entry.multiply_dtype or entry.weight_dtype
        assert precision.ffn_dtype == ("bf16" if entry.weight_dtype == "bf16" else multiply)
        assert catalog.workload(name) == workload_of(entry.spec, context=1.0)

    def test_a_model_of_ones_own_is_in_sixteen_bits_as_in_a_file(self):
        work = workload_of(ModelSpec(**SHAPE), context=1024.0)
        sizes = (work.bytes_attn_weight, work.bytes_ffn_weight, work.bytes_kv, work.bytes_dispatch)
        sizes += (work.bytes_head_weight, work.bytes_embedding_weight)
        assert (sizes, work.ffn_dtype) == ((2.0,) * 6, "bf16")

    def test_what_a_model_does_not_state_it_does_not_have(self):
        model = ModelSpec(**SHAPE)
        names = "dense_layers shared_experts kv_latent window_layers linear_layers index_layers"
        assert [getattr(model, name) for name in names.split()] == [0.0] * 6

    def test_the_default_workload_is_that_of_deepseek_v3(self):
        assert workload_of(catalog.model("deepseek-v3"), context=7.0) == Workload(context=7.0)

    def test_other_dtypes_and_fields_win(self):
        model = catalog.model("mixtral-8x7b")
        work = workload_of(model, weights="fp8", context=9.0, bytes_dispatch=3.0)
        assert (work.bytes_ffn_weight, work.bytes_kv, work.context) == (1.0, 2.0, 9.0)
        assert (work.ffn_dtype, work.bytes_dispatch) == ("fp8", 3.0)
        assert workload_of(model, kv="fp8", context=1.0).bytes_kv == 1.0

    def test_weights_of_any_size_are_multiplied_and_sent_in_sixteen_bits(self):
        work = stored_in(catalog.workload("deepseek-v3"), 0.6)
        sizes = (work.bytes_attn_weight, work.bytes_ffn_weight, work.bytes_head_weight)
        assert sizes == (0.6, 0.6, 0.6)
        assert (work.bytes_dispatch, work.shared_weight_ratio) == (2.0, 1.0)
        assert (work.proj_dtype, work.ffn_dtype) == ("bf16", "bf16")

    @pytest.mark.parametrize("name", ["deepseek-v3", "mixtral-8x7b", "gpt-oss-120b"])
    def test_every_way_to_give_a_model_counts_in_it(self, name):
        """By name, as a record, and as a record that goes through jit."""
        split, asked = Partition(tp=8.0, ep=8.0), {"context": 32768.0, "batch": 8.0}
        by_name = float(decode(name, H200, split, **asked).tpot)
        model = catalog.model(name)
        assert float(decode(model, H200, split, **asked).tpot) == by_name
        traced = jax.jit(lambda m: decode(m, H200, split, **asked).tpot)(model)
        assert float(traced) == pytest.approx(by_name, rel=FLOAT32)
        stated = workload_of(model, context=1.0)
        assert float(decode(name, H200, split, workload=stated, **asked).tpot) == by_name
        served = Problem(model, H200, gpus=8, context=32768).stated.models[0]
        assert (served.name, served.workload) == (name, stated)

    def test_transforms_keep_it(self):
        """Under jit with the model as argument the precision is that of the model."""
        for name in ("deepseek-v3", "mixtral-8x7b"):
            model = catalog.model(name)
            weight = jax.jit(lambda m: workload_of(m, context=1.0).bytes_ffn_weight + 0.0)(model)
            assert float(weight) == model.precision.bytes_ffn_weight

    def test_a_stack_of_several_says_that_it_has_none(self):
        models = stack([catalog.model("deepseek-v3"), catalog.model("mixtral-8x7b")])
        with pytest.raises(ValueError, match="published in different precisions; give a workload"):
            workload_of(models, context=1.0)
        same = stack([catalog.model("mixtral-8x7b"), catalog.model("mixtral-8x22b")])
        assert workload_of(same, context=1.0).ffn_dtype == "bf16"


class TestReplace:
    def test_the_label_says_what_was_replaced(self):
        assert H200.replace(hbm_bw=6e12).label == "h200-sxm, hbm_bw=6e12"
        twice = H200.replace(hbm_bw=6e12).replace(hbm_bw=5e12, layer_overhead=1.5e-5)
        assert twice.label == "h200-sxm, hbm_bw=5e12, layer_overhead=1.5e-5"
        assert H200.replace(hbm_bw=np.array([1e12, 2e12])).label == "h200-sxm, hbm_bw"
        assert H200.replace(hbm_bw=6e12, label="mine").label == "mine"
        assert catalog.model("mixtral-8x7b").replace(layers=16).label == "mixtral-8x7b, layers=16"
        assert Partition().replace(tp=8).tp == 8

    def test_keys_of_a_file_are_told_in_the_label_too(self):
        assert catalog.hardware("h200", hbm_bandwidth_tb_per_s=6).label == (
            "h200-sxm, hbm_bandwidth_tb_per_s=6"
        )

    def test_an_unknown_field_is_told_with_the_nearest(self):
        with pytest.raises(ValueError, match="HardwareSpec has no field 'hbm_bandwith'; did you"):
            H200.replace(hbm_bandwith=1e12)

    def test_labels_are_no_part_of_an_accelerator(self):
        assert H200.replace(label="mine") == H200
        assert jax.tree.map(lambda x: x, H200).label == ""
        assert len(jax.tree.leaves(H200)) == len(facts_of(HardwareSpec))

    def test_nothing_compiles_again_for_a_label_or_a_number(self):
        traces = []

        @jax.jit
        def rate(hardware):
            traces.append(hardware.label)
            return hardware.hbm_bw * 2.0

        for hardware in (H200, H200.replace(hbm_bw=6e12), catalog.hardware("h100-sxm")):
            assert float(rate(hardware)) == pytest.approx(2.0 * hardware.hbm_bw, rel=FLOAT32)
        assert traces == [""]

    def test_it_works_under_jit_vmap_and_grad(self):
        labels = set()

        def seconds(bandwidth):
            hardware = H200.replace(hbm_bw=bandwidth)
            labels.add(hardware.label)
            return hardware.hbm_bytes / hardware.hbm_bw

        slope = jax.grad(seconds)(4e12)
        assert float(slope) == pytest.approx(-H200.hbm_bytes / 16e24)
        assert jax.vmap(jax.jit(seconds))(np.array([1e12, 2e12, 4e12])).shape == (3,)
        assert labels == {"h200-sxm, hbm_bw"}


def test_precision_has_the_facts_of_the_workload():
    facts = facts_of(Workload)
    for name, fact in facts_of(Precision).items():
        assert (fact.meaning, fact.unit, fact.rule) == (
            facts[name].meaning,
            facts[name].unit,
            facts[name].rule,
        )


@pytest.mark.parametrize(
    ("name", "meaning", "unit"),
    [
        ("hbm_bw", "HBM bandwidth", "B/s"),
        ("context", "context", "tokens"),
        ("bytes_kv", "bytes of a cache element", "B"),
        ("tpot", "time per output token", "s"),
        ("capacity_weights", "weights of a GPU", "B"),
        ("terms.hbm_kv", "part of TPOT: hbm kv", "s"),
        ("gpu_time.HBM KV", "GPU time of an output token: HBM KV", "s"),
        ("moe.tpot", "moe: time per output token", "s"),
        ("fields.hbm_bw", "fields: HBM bandwidth", "B/s"),
        ("own_tokens_per_s_per_gpu", "own: throughput of each GPU", "tokens/s/GPU"),
        ("runner_up.tp", "runner up: tensor parallelism", "1"),
        ("prefill_ttft", "prefill: time to first token", "s"),
        (
            "prefill_prompt_tokens_per_s_per_gpu",
            "prefill: prompt: throughput of each GPU",
            "tokens/s/GPU",
        ),
        (
            "usd_per_million_tokens_with_prompts",
            "price of output tokens: with prompts",
            "USD per million tokens",
        ),
    ],
)
def test_every_name_has_a_meaning_and_a_unit(name, meaning, unit):
    assert attributes_of(name) == {"long_name": meaning, "units": unit}


def test_no_array_of_a_result_is_without_meaning():
    """A name of which nothing is known would be its own meaning."""
    step = decode("mixtral-8x7b", H200, Partition(tp=8.0), context=8192, batch=1.0).cost
    leaves = jax.tree_util.tree_leaves_with_path(step)
    names = {"_".join(key.name for key in path) for path, _ in leaves}
    assert len(names) > 40
    assert not [n for n in names if meaning_of(n).long_name == n.replace("_", " ")]


def refused(**given):
    with pytest.raises(ValueError, match=r".") as caught:
        check_records(**given)
    return str(caught.value)


class TestEntry:
    """What entry points do with the records that they are given, by `check_records`."""

    @pytest.mark.parametrize(
        "value",
        [
            4096,
            "4096",
            "4k",
            np.int32(4096),
            np.float32(4096),
            np.array(4096, np.int16),
            jnp.int32(4096),
            decimal.Decimal(4096),
            fractions.Fraction(4096),
        ],
    )
    def test_a_number_of_any_kind_is_a_float(self, value):
        (work,) = check_records(workload=Workload(context=value))
        assert type(work.context) is float
        assert work.context == 4096.0

    @pytest.mark.parametrize(
        "values", [[1, "2k"], (1, 2048), np.array([1, 2048], np.int32), jnp.array([1.0, 2048.0])]
    )
    def test_several_are_a_float64_array(self, values):
        (work,) = check_records(workload=Workload(context=values))
        assert work.context.dtype == np.float64
        assert work.context.tolist() == [1.0, 2048.0]
        listed = refused(single=True, workload=Workload(context=values))
        assert "context: " in listed
        assert "is a list; give one number" in listed

    def test_narrow_integers_do_not_overflow(self):
        deepseek = catalog.model("deepseek-v3")
        narrow = {name: np.int32(x) for name, x in numbers_of(deepseek).items() if x == int(x)}
        (model,) = check_records(model=deepseek.replace(**narrow))
        assert float(total_params(model)) == float(total_params(deepseek)) > 6.7e11

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (np.float16(8), "float16 cannot hold such numbers; use float64"),
            (jnp.ones(2, jnp.bfloat16), "bfloat16 cannot hold such numbers; use float64"),
            (True, "True is not a number; give a number above 0"),
            (np.array([True]), "array([ True]) is not a number"),
            ("many", "'many' is not a number"),
            ("8k", "'8k' is not a number"),
            (b"8", "b'8' is not a number"),
            (None, "None is not a number"),
            (8 + 0j, "(8+0j) is not a number"),
            (np.array([8j]), "is not a number"),
            (np.datetime64("2026-01-01"), "is not a number"),
            ({8}, "a set is not a list of numbers"),
            ({"a": 8}, "a dict is not a list of numbers"),
            (iter([8]), "a list_iterator is not a list of numbers"),
            ([[1, 2], [3]], "its rows differ in length"),
            ([], "no value was given"),
            (range(10**9), "1,000,000,000 values are given, at most 1,000,000 are allowed"),
            pytest.param(10**400, "000... is not a number", id="huge"),
            (np.nan, "nan is not allowed"),
            ([8e12, np.inf], "inf is not allowed"),
            (1e30, "at most 1e+24"),
        ],
    )
    def test_what_is_no_number_is_told(self, value, said):
        text = refused(hardware=H200.replace(hbm_bw=value))
        assert text.startswith("hardware:\n  hbm_bw: ")
        assert said in text

    def test_flags_are_true_false_or_one_bit(self):
        shape = ModelSpec(**SHAPE, tied_embeddings=True)
        assert check_records(model=shape)[0].tied_embeddings == 1.0
        assert "tied_embeddings: 'yes' is not a number; give a whole number from 0 to 1" in refused(
            model=shape.replace(tied_embeddings="yes")
        )

    def test_kv_modes_may_be_named(self):
        (partition,) = check_records(partition=Partition(kvp=2, kv_mode="cp"))
        assert partition.kv_mode == KV_MODES["cp"]
        assert "kv_mode: 'ring' is not a KV mode; give one of" in refused(
            partition=Partition(kv_mode="ring")
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                {"expert_traffic": "coverge"},
                "coverage, full_pool, all_experts, top_k; did you mean",
            ),
            ({"two_batch_overlap": "yes"}, "'yes' is not allowed; give one of True, False"),
            ({"two_batch_overlap": 1}, "1 is not allowed; give one of True, False"),
            ({"rounding": ["floor"]}, "['floor'] is not allowed; give one of straight_through"),
        ],
    )
    def test_mistyped_choices_are_told(self, change, said):
        text = refused(convention=PHYSICAL.replace(**change))
        assert said in text
        with pytest.raises(ValueError, match=next(iter(change))):
            Problem("mixtral-8x7b", H200, convention=PHYSICAL.replace(**change))
        with pytest.raises(ValueError, match=next(iter(change))):
            decode("mixtral-8x7b", H200, context=8192, convention=PHYSICAL.replace(**change))
        assert "ffn_dtype: 'int4' is not allowed" in refused(
            workload=Workload(context=1.0, ffn_dtype="int4")
        )

    def test_all_mistakes_of_a_call_stand_in_one_message(self):
        text = refused(
            model=ModelSpec(**SHAPE).replace(layers="two", precision=Precision(bytes_kv=-1.0)),
            hardware=H200.replace(hbm_bw=0.0, eff_gemm=2.0),
            partition=8,
            workload=Workload(context=np.nan, proj_dtype="fp6"),
            convention=PHYSICAL.replace(kv_overhead=0.5),
        )
        assert [line.partition(": ")[0].strip().rstrip(":") for line in text.splitlines()] == [
            *("model", "layers", "precision.bytes_kv", "hardware", "hbm_bw", "eff_gemm"),
            *("partition", "workload", "context", "proj_dtype", "convention", "kv_overhead"),
        ]

    def test_tracers_pass_where_numbers_do(self):
        def seconds(bandwidth):
            (hardware,) = check_records(hardware=H200.replace(hbm_bw=bandwidth))
            return hardware.hbm_bytes / hardware.hbm_bw

        by_hand = H200.hbm_bytes / 2e9
        close = functools.partial(pytest.approx, rel=FLOAT32)
        assert float(jax.jit(seconds)(2e9)) == close(by_hand)
        assert float(jax.jit(seconds)(jnp.int32(2_000_000_000))) == close(by_hand)
        assert float(jax.grad(seconds)(2e9)) == close(-by_hand / 2e9)
        assert jax.vmap(seconds)(jnp.array([2e9, 4e9])).tolist() == close([by_hand, by_hand / 2])
        with pytest.raises(ValueError, match="float16 cannot hold such numbers"):
            jax.jit(seconds)(jnp.float16(4.0))
        with pytest.raises(ValueError, match="a traced value is not an axis"):
            jax.jit(lambda x: check_axes({"hbm_bw": x}))(jnp.ones(3))

    def test_tracers_that_are_out_of_range_are_told_by_value(self):
        rates = jnp.array([0.0, 1e-300, 2e12, jnp.inf, jnp.nan])
        is_out = jax.vmap(lambda x: traced_out_of_range(H200.replace(hbm_bw=x)))(rates)
        assert is_out.tolist() == [True, False, False, True, True]
        degrees = jnp.array([0.0, 1.0, 1.5])
        is_out = jax.vmap(lambda x: traced_out_of_range(Partition(tp=x)))(degrees)
        assert is_out.tolist() == [True, False, True]


def test_swapped_records_and_names_are_told():
    model = catalog.model("mixtral-8x7b")
    both = r"model: a HardwareSpec is not a M(.|\n)*hardware: a ModelSpec is not a HardwareSpec"
    for ask in (Problem, functools.partial(decode, context=8192)):
        with pytest.raises(ValueError, match="model: a HardwareSpec is not a ModelSpec"):
            ask(H200, model)
        with pytest.raises(ValueError, match="'h200' names an accelerator"):
            ask("h200", "mixtral-8x7b")
    with pytest.raises(ValueError, match=both):
        Problem(H200, model)
    with pytest.raises(ValueError, match="partition: 8 is not a Partition; give qsj"):
        decode(model, H200, 8, context=8192)
    with pytest.raises(ValueError, match="workload: 8 is not a Workload; give qsjax"):
        decode(model, H200, context=8192, workload=8)


BEYOND = ["999999999999", "1e15", 1e12, 10**30, [1, 1e12]]


@pytest.mark.parametrize("count", BEYOND)
@pytest.mark.parametrize("name", ["tp", "ep", "pp", "dp", "kvp", "gpus", "batch"])
def test_counts_beyond_reason_end_at_once(name, count):
    with pytest.raises(ValueError, match=f"{name}: 1e.* to 1e.09|{name}: 999.*") as caught:
        check_axes({name: count})
    assert len(str(caught.value).splitlines()) == 2
    given = {name: count} if name in ("gpus", "batch") else {"axes": {name: count}}
    start = time.perf_counter()
    with pytest.raises(ValueError, match=f"{name}: "):
        Problem("mixtral-8x7b", H200, **given)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize("gpus", [10**6, 10**9, 720_720_000])
def test_more_designs_than_can_be_listed_end_at_once(gpus):
    """720,720,000 has 960 divisors."""
    start = time.perf_counter()
    with pytest.raises(ValueError, match="designs: give fewer values"):
        explore(Problem("mixtral-8x7b", H200, gpus=gpus, context=8192))
    assert time.perf_counter() - start < 5.0


def test_axes_that_are_no_list_are_told():
    with pytest.raises(ValueError, match="an array of 2 dimensions is not a list"):
        check_axes({"tp": [[1, 2], [4, 8]]})
    with pytest.raises(ValueError, match="kv_mode: 3 is not a KV mode; give some of none, kvp, cp"):
        check_axes({"kv_mode": 3})
    assert check_axes({"kv_mode": "kvp, cp", "context": "8k,128k"})["kv_mode"] == ["kvp", "cp"]
