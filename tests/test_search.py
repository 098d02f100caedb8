"""The optimiser: tie rule, runner-up, reasons, agreement with a scalar loop, compilations."""

import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qsjax as qs
from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.feasibility import MEMORY_REASONS, REASONS
from qsjax.grid import optimum
from qsjax.grid.axes import stack
from qsjax.grid.cells import cells_of, model_on_host, of_variant, variants_alone
from qsjax.grid.scoring import pick_best
from qsjax.grid.solution import solve
from qsjax.records.specs import CONVENTIONS, KV_MODES, PHYSICAL, Partition, Records, Workload

DEGREES = [1, 2, 4, 8]


def mixtral():
    return catalog.model("mixtral-8x7b")


def h100():
    return catalog.hardware("h100-sxm")


AXES = {**dict.fromkeys(("tp", "ep", "pp", "dp", "kvp"), DEGREES), "kv_mode": ["kvp", "cp"]}


def solved(model="mixtral-8x7b", hardware="h100-sxm", axes=AXES, **asked):
    """The optimiser's answer to a problem; its cells are flat, the variant first."""
    given = {"gpus": 8, "context": [1024, 65536], "workload": Workload(context=1.0), **asked}
    return solve(cells_of(qs.Problem(model, hardware, axes=axes, **given)))


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
    for scale in (1e-6, 1e6):  # which is of the score
        assert position([scale, scale * (1.0 + 5e-10)], gpus=[1, 64]) == 0
        assert position([scale, scale * (1.0 + 2e-9)], gpus=[1, 64]) == 1


def test_no_feasible_design_is_index_zero_and_minus_infinity():
    choice = pick_best(jnp.ones(3), jnp.zeros(3, bool), jnp.ones(3))
    assert int(choice.position) == 0
    assert float(choice.score) == -np.inf


@pytest.mark.parametrize("convention", ["physical", "paper"])
def test_grid_agrees_with_a_scalar_loop(convention):
    """Winner, runner-up and counts of every cell, from one decode step at a time."""
    found, rules = solved(convention=convention), CONVENTIONS[convention]
    combos = list(itertools.product(*(AXES[name] for name in AXES)))
    step_of = jax.jit(
        lambda p, n: decode_step(Records(mixtral(), h100(), p, Workload(context=n), 8.0), rules)
    )
    for at, context in enumerate((1024.0, 65536.0)):
        scores, unfit = [], 0
        for combo in combos:
            degrees = dict(zip(AXES, combo, strict=True))
            degrees["kv_mode"] = KV_MODES[degrees["kv_mode"]]
            step = step_of(Partition(**{k: float(v) for k, v in degrees.items()}), context)
            bits = int(step.reasons)
            scores.append(float(step.tokens_per_s_per_gpu) if bits == 0 else -np.inf)
            # Memory counts against designs that are legal otherwise.
            is_legal = not bits & ~MEMORY_REASONS
            unfit += is_legal and bool(bits & REASONS["weights do not fit"])
        first, second = sorted(scores, reverse=True)[:2]
        assert found.best.score[at] == pytest.approx(first, rel=1e-9)
        assert found.best.second_score[at] == pytest.approx(second, rel=1e-9)
        assert found.best.second[at] != found.best.position[at]
        assert found.best.feasible[at] == np.isfinite(scores).sum()
        counts = dict(zip(REASONS, found.reasons[:, at], strict=True))
        assert counts["weights do not fit"] == unfit
        part = jax.tree.map(lambda x, at=at: float(x[at]), found.winners.designs.partition)
        step = step_of(part, context)
        assert float(step.tpot) == pytest.approx(float(found.step.tpot[at]), rel=1e-12)
        assert int(step.reasons) == 0


def test_compiled_blocks_choose_as_numpy_does(monkeypatch):
    found = [solved(twins=[2.0, 5.0])]
    monkeypatch.setattr(optimum, "SMALL", 0)
    found.append(solved(twins=[2.0, 5.0]))
    numpy, compiled = (one.best for one in found)
    for name in ("position", "second", "feasible", "reasons", "limits", "batch"):
        np.testing.assert_array_equal(getattr(numpy, name), getattr(compiled, name))
    np.testing.assert_allclose(numpy.score, compiled.score, rtol=1e-12)


def test_fields_of_hardware_and_batches_are_axes():
    fast = solved(axes=AXES | {"hbm_bw": [3e12, 6e12]}, batch=8)
    rates = fast.step.tpot.reshape(fast.cells.shape)
    assert (rates[..., 1] < rates[..., 0]).all()
    assert (fast.step.capacity.batch == 8).all()
    none = solved(batch=1e6)
    assert not none.is_feasible.any()
    counts = dict(zip(REASONS, none.reasons, strict=True))
    assert (counts["batch does not fit"] > 0).all()


def test_objectives():
    quick, cheap = (
        solved(objective=name, batch=[1, 64]).step for name in ("tpot", "tokens_per_s_per_gpu")
    )
    assert (quick.tpot <= cheap.tpot).all()
    assert (quick.tokens_per_s_per_gpu <= cheap.tokens_per_s_per_gpu).all()
    assert (quick.tpot < cheap.tpot).any()


def test_new_hardware_numbers_do_not_compile_again(caplog, monkeypatch):
    monkeypatch.setattr(optimum, "SMALL", 0)
    solved()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for bandwidth in (1e12, 2e12, 3e12):
            solved(hardware=h100().replace(hbm_bw=bandwidth))
    compiled = [r.message for r in caplog.records if "Compiling" in r.message]
    assert not [m for m in compiled if "_best" in m], compiled


def test_vmap_over_hardware_and_over_models():
    chips = stack([h100(), catalog.hardware("b200-sxm"), catalog.hardware("mi300x")])
    part, work = Partition(tp=8.0), Workload(context=8192.0)

    @jax.jit
    def rate(model, hardware):
        return decode_step(Records(model, hardware, part, work), PHYSICAL).tokens_per_s_per_gpu

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


def test_designs_that_are_legal_nowhere_are_dropped_and_counted():
    """By hand: 32 GPUs divide neither count (4), 8 ranks of experts need as many GPUs (8 of 28)."""
    axes = {"tp": [1, 2, 4, 8], "dp": [1, 4], "ep": [1, 8], "pp": [1], "kvp": [1]}
    cells = cells_of(qs.Problem("mixtral-8x7b", "h100-sxm", gpus=[8, 16], context="8k", axes=axes))
    assert (cells.enumerated, cells.count) == (4 * 2 * 2 * 2, 7 + 3)
    told = {name: list(row) for name, row in zip(REASONS, cells.illegal, strict=True) if row.any()}
    assert told == {
        "ep does not divide the stage": [8, 8],
        "KV mode not applicable": [14, 14],  # the other mode, without ranks to share a cache
        "wrong GPU count": [4 + 2, 4],  # on 8 those of 16 too, in the other mode
    }


def test_a_row_does_not_depend_on_the_others():
    """A twin of q = 1 is next to the model, of q = 0."""
    cells = cells_of(qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", twins=[1]))
    alone = [solve(one).best.score[0] for one in (of_variant(cells, 0), of_variant(cells, 1))]
    assert alone[0] != alone[1]
    np.testing.assert_array_equal(solve(cells).best.score, alone)


def test_each_variant_alone_has_its_rows():
    problem = qs.Problem(
        "mixtral-8x7b", "h100-sxm", gpus=[8, 16], context=["1k", "8k", "64k"], twins=[0.5]
    )
    model, twin = variants_alone(problem)
    for one, experts in ((model, 8.0), (twin, 1.0)):
        assert one.shape == (1, 2, 3)
        np.testing.assert_array_equal(model_on_host(one.inputs).experts, np.full(6, experts))
        np.testing.assert_array_equal(one.inputs.workload.context, [1024, 8192, 65536] * 2)
