"""Records: published precisions, labels that cost no compilation, facts of fields."""

import jax
import numpy as np
import pytest

import qsjax
from qsjax import catalog
from qsjax.grid.axes import stack
from qsjax.records.fields import facts_of
from qsjax.records.precision import STORED, workload_of
from qsjax.records.quantities import long_name_of, unit_of
from qsjax.records.specs import HardwareSpec, ModelSpec, Precision, Workload

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
        assert (work.bytes_ffn_weight, work.bytes_kv, work.ffn_dtype) == (2.0, 2.0, "bf16")

    def test_the_default_workload_is_that_of_deepseek_v3(self):
        assert workload_of(catalog.model("deepseek-v3"), context=7.0) == Workload(context=7.0)

    def test_other_dtypes_and_fields_win(self):
        model = catalog.model("mixtral-8x7b")
        work = workload_of(model, weights="fp8", context=9.0, bytes_dispatch=3.0)
        assert (work.bytes_ffn_weight, work.bytes_kv, work.context) == (1.0, 2.0, 9.0)
        assert (work.ffn_dtype, work.bytes_dispatch) == ("fp8", 3.0)
        assert workload_of(model, kv="fp8", context=1.0).bytes_kv == 1.0

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
        assert qsjax.Partition().replace(tp=8).tp == 8

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
            assert float(rate(hardware)) == 2.0 * hardware.hbm_bw
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
        ("gpus", "GPUs", "1"),
        ("term_hbm_kv", "part of the time per output token: hbm kv", "s"),
        ("capacity_weights", "weights of a GPU", "B"),
    ],
)
def test_every_name_has_a_meaning_and_a_unit(name, meaning, unit):
    assert (long_name_of(name), unit_of(name)) == (meaning, unit)
