"""The paper's closed forms against its printed numbers and by hand."""

import jax
import pytest

from qsjax.cost.laws import closed_forms

# Section 3.4 and table 3 of arXiv 2603.08960.
DEEPSPEED = [(2.34, 2.12, 3.67), (2.60, 2.29, 5.31)]


@pytest.mark.parametrize(("dense", "moe", "printed"), DEEPSPEED)
def test_quality_multiplier_is_the_printed_one(dense, moe, printed):
    assert float(closed_forms.quality_multiplier(dense, moe)) == pytest.approx(printed, abs=0.005)


def test_quality_multiplier_depends_on_the_exponent():
    # (1.1)^(1/0.1) = 1.1^10
    assert float(closed_forms.quality_multiplier(1.1, 1.0, alpha=0.1)) == pytest.approx(1.1**10)


def test_reuse_gap_is_routing_times_capacity():
    # DeepSeek-V3, 32 GPUs: 32.0 x 1.30 = 41.60 in table 3
    s = closed_forms.sparsity(8, 256)
    assert float(s) == 0.03125
    assert float(closed_forms.routing_factor(s)) == 32.0
    assert float(closed_forms.capacity_factor(130, 100)) == pytest.approx(1.30)
    assert float(closed_forms.reuse_gap(130, 100, s)) == pytest.approx(41.60)


def test_expert_batch_of_table_3():
    # DeepSeek-V3, 64 GPUs: r_moe = 244 x 8/256 = 7.625, printed 7.63
    assert float(closed_forms.expert_batch(244, 8 / 256)) == pytest.approx(7.625)


def test_gradient_of_q_with_respect_to_the_exponent():
    # d/da (L)^(1/a) = -log(L) L^(1/a) / a^2
    import math

    ratio, alpha = 2.34 / 2.12, 0.076
    slope = jax.grad(lambda a: closed_forms.quality_multiplier(2.34, 2.12, a))(alpha)
    assert float(slope) == pytest.approx(-math.log(ratio) * ratio ** (1 / alpha) / alpha**2)
