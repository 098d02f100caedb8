"""Laws of kernels: blends, start-ups and two kinds of all-reduce, by hand and in their limits."""

import dataclasses

import jax
import numpy as np
import pytest
from tolerances import EXACT

from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.laws import collectives, overheads
from qsjax.engines.tuning import Formats, share_of_norm, tune
from qsjax.numerics.safe import blend
from qsjax.records.specs import PHYSICAL, Partition

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
    step = decode_step(model, hardware, Partition(tp=8.0), work, PHYSICAL)
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


def test_four_bit_experts_on_hopper_are_read_no_faster_with_more_bandwidth():
    formats = dataclasses.replace(BF16, experts="mxfp4")
    rates = []
    for name in ("h100", "h200"):
        spec = tune(catalog.hardware_entry(name), "vllm", formats).spec
        rates.append(spec.hbm_bw * spec.eff_weight_read * spec.expert_read_ratio)
    assert rates[0] == pytest.approx(rates[1], rel=EXACT)


def test_the_nearest_entry_is_named():
    found = tune(catalog.hardware_entry("h200"), "atom", dataclasses.replace(BF16, dense="fp4"))
    assert found.served_by == "hopper vllm, bf16 products, bf16 experts"
    assert found.stand_ins == (
        "no kernels of atom are known; those of vllm stand in",
        "no kernels of fp4 are known; those of bf16 stand in",
    )
    same = tune(catalog.hardware_entry("h200"), "vllm", BF16)
    assert same.served_by
    assert not same.stand_ins


@pytest.mark.parametrize(
    ("name", "engine", "release"), [("a100", "vllm", None), ("h100", "trtllm", (0, 6)),
                                    ("h100", "", None)],
)  # fmt: skip
def test_without_a_table_the_plain_form_stays(name, engine, release):
    entry = catalog.hardware_entry(name)
    found = tune(entry, engine, BF16, release)
    assert found.spec == entry.spec
    assert not found.served_by
    assert found.expert_balance == "even"
