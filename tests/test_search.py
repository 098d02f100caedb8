"""The search: tie rule, runner-up, reasons, agreement with a scalar loop, compilation count."""

import dataclasses
import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.feasibility import REASONS
from qsjax.cost.laws.params import dense_twin
from qsjax.grid.axes import make_axes, stack
from qsjax.grid.search import pick_best, search
from qsjax.records.scenario import Records
from qsjax.records.specs import PAPER, PHYSICAL, Partition, Workload

DEGREES = [1, 2, 4, 8]


def mixtral():
    return catalog.model("mixtral-8x7b")


def h100():
    return catalog.hardware("h100-sxm")


def records(model=None, **workload):
    return Records(model or mixtral(), h100(), Partition(), Workload(context=1.0, **workload), 8.0)


def small_axes(**extra):
    degrees = dict.fromkeys(("tp", "ep", "pp", "dp", "kvp"), DEGREES)
    return make_axes({"context": [1024, 65536], **extra, **degrees, "kv_mode": ["kvp", "cp"]})


def position(scores, feasible=None, gpus=None):
    scores = jnp.asarray(scores, float)
    feasible = jnp.ones(scores.shape, bool) if feasible is None else jnp.asarray(feasible)
    gpus = jnp.ones(scores.shape) if gpus is None else jnp.asarray(gpus, float)
    return int(pick_best(scores, feasible, gpus).position)


def test_best_is_the_largest_feasible_score():
    assert position([1, 5, 3]) == 1
    assert position([1, 5, 3], feasible=[True, False, True]) == 2


def test_ties_go_to_fewest_gpus_and_then_to_the_lowest_index():
    tied = [1.0, 1.0 + 5e-10, 1.0 + 9e-10, 0.5]
    assert position(tied) == 0
    assert position(tied, gpus=[8, 4, 4, 1]) == 1
    # outside the tolerance of 1e-9 the better score wins, whatever it costs
    assert position([1.0, 1.0 + 2e-9], gpus=[1, 64]) == 1


def test_no_feasible_design_is_index_zero_and_minus_infinity():
    choice = pick_best(jnp.ones(3), jnp.zeros(3, bool), jnp.ones(3))
    assert int(choice.position) == 0
    assert float(choice.score) == -np.inf


@pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
def test_grid_agrees_with_a_scalar_loop(convention):
    """Winner, runner-up and counts of every cell, from one decode step at a time."""
    axes = small_axes()
    found = search(records(), axes, convention)
    names = [axis.name for axis in axes.searched]
    combos = list(itertools.product(*(axis.values for axis in axes.searched)))
    step_of = jax.jit(
        lambda p, n: decode_step(mixtral(), h100(), p, Workload(context=n), convention, 8.0)
    )
    for at, context in enumerate(axes.kept[0].values):
        scores, counts = [], dict.fromkeys(REASONS, 0)
        for combo in combos:
            step = step_of(Partition(**dict(zip(names, combo, strict=True))), context)
            bits = int(step.reasons)
            scores.append(float(step.tokens_per_s_per_gpu) if bits == 0 else -np.inf)
            for name, bit in REASONS.items():
                counts[name] += bool(bits & bit)
        order = np.argsort(-np.array(scores), kind="stable")
        best, second = scores[order[0]], scores[order[1]]
        assert scores[int(found.index[at])] == pytest.approx(best, rel=1e-9)
        assert found.margin[at] == pytest.approx(best / second - 1.0, abs=2e-9)
        assert int(found.runner_up[at]) != int(found.index[at])
        assert int(found.feasible[at]) == int(np.isfinite(scores).sum())
        assert {k: int(v[at]) for k, v in found.reasons.items()} == counts


def test_the_winners_step_is_that_of_its_partition():
    found = search(records(), small_axes(), PHYSICAL)
    part = jax.tree.map(lambda x: float(np.broadcast_to(x, (2,))[1]), found.records.partition)
    step = decode_step(mixtral(), h100(), part, Workload(context=65536.0), PHYSICAL, 8.0)
    assert float(step.tpot) == pytest.approx(float(found.step.tpot[1]), rel=1e-12)
    assert int(step.reasons) == 0


def test_stacked_models_agree_with_single_ones():
    twin = dense_twin(mixtral(), 3.0)
    both = search(
        records(stack([mixtral(), twin])), small_axes(model=["moe", "dense q=3"]), PHYSICAL
    )
    alone = search(records(twin), small_axes(), PHYSICAL)
    # kept axes: context, model
    np.testing.assert_allclose(both.step.tpot[:, 1], alone.step.tpot, rtol=1e-12)


def test_stacked_hardware_and_an_axis_of_q():
    chips = [h100(), catalog.hardware("b200-sxm")]
    several = records()._replace(hardware=stack(chips))
    axes = small_axes(hardware=["h100", "b200"], q=[2.0, 5.0])
    found = search(several, axes, PHYSICAL)
    assert found.is_feasible.shape == (2, 2, 2)
    alone = search(
        Records(dense_twin(mixtral(), 5.0), chips[1], Partition(), Workload(context=1.0), 8.0),
        small_axes(),
        PHYSICAL,
    )
    np.testing.assert_allclose(found.step.tpot[:, 1, 1], alone.step.tpot, rtol=1e-12)


def test_hardware_fields_and_batch_are_axes():
    axes = small_axes(hbm_bw=[3e12, 6e12], batch=[1, 8])
    found = search(records(), axes, PHYSICAL)
    assert found.is_feasible.shape == (2, 2, 2)
    assert (found.step.tpot[:, 1] < found.step.tpot[:, 0]).all()
    assert (found.step.capacity.batch[..., 1] == 8).all()


def test_a_batch_that_does_not_fit_is_a_reason():
    found = search(records(), small_axes(batch=[1e6]), PHYSICAL)
    assert not found.is_feasible.any()
    assert (found.reasons["batch does not fit"] > 0).all()


def test_objectives():
    axes = small_axes(batch=[1, 64])
    quick = search(records(), axes, PHYSICAL, "tpot")
    cheap = search(records(), axes, PHYSICAL, "tokens_per_s_per_gpu")
    assert (quick.step.tpot <= cheap.step.tpot).all()
    assert (quick.step.tokens_per_s_per_gpu <= cheap.step.tokens_per_s_per_gpu).all()
    assert (quick.step.tpot < cheap.step.tpot).any()


def test_new_hardware_numbers_do_not_compile_again(caplog):
    axes = small_axes()
    search(records(), axes, PHYSICAL)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for bandwidth in (1e12, 2e12, 3e12):
            faster = dataclasses.replace(h100(), hbm_bw=bandwidth)
            search(records()._replace(hardware=faster), axes, PHYSICAL)
    compiled = [r.message for r in caplog.records if "Compiling" in r.message]
    assert not [m for m in compiled if "reduce" in m or "evaluate" in m], compiled


def test_vmap_over_hardware_and_over_models():
    chips = stack([h100(), catalog.hardware("b200-sxm"), catalog.hardware("mi300x")])
    part, work = Partition(tp=8.0), Workload(context=8192.0)

    @jax.jit
    def rate(model, hardware):
        return decode_step(model, hardware, part, work, PHYSICAL).tokens_per_s_per_gpu

    by_chip = jax.vmap(rate, (None, 0))(mixtral(), chips)
    assert by_chip.shape == (3,)
    assert float(by_chip[0]) == pytest.approx(float(rate(mixtral(), h100())), rel=1e-12)

    names = ["mixtral-8x7b", "llama-3.1-70b", "deepseek-v3", "gpt-oss-120b"]
    models = stack([catalog.model(name) for name in names])
    big = catalog.hardware("b300-sxm")
    by_model = jax.jit(jax.vmap(rate, (0, None)))(models, big)
    for at, name in enumerate(names):
        one = float(rate(catalog.model(name), big))
        assert float(by_model[at]) == pytest.approx(one, rel=1e-12)
