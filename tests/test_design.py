"""Inverse design: limits kept, exact answers, and nothing better beside them."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import linprog

from qsjax import catalog
from qsjax.grid.cells import cells_of
from qsjax.grid.optimum import best_of
from qsjax.grid.problem import Problem
from qsjax.grid.solution import solve_all
from qsjax.numerics.loading import in_float64
from qsjax.questions.design import CostModel, Price, design, solvers
from qsjax.questions.design.costs import affordable, cost_of
from qsjax.questions.design.gaps import bought
from qsjax.questions.design.tasks import Task

COST = CostModel(
    {"hbm_bytes": Price(30), "hbm_bw": Price(40), "flops": Price(25, 1.3), "intra_bw": Price(5)}
)
CONTEXTS = [4096.0, 32768.0]


@pytest.fixture(scope="module", autouse=True)
def few_starts():
    """What holds of an answer holds of one from fewer splits, in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solvers, "STARTS", 3)
        yield


@pytest.fixture(scope="module")
def hardware():
    return catalog.hardware("h100-sxm")


def asked(hardware, contexts=CONTEXTS, **more):
    return Problem("mixtral-8x7b", hardware, gpus=[8], context=contexts, **more)


def best_hardware(stated, cost, budget, **how):
    (answer,) = design(stated, cost, budget=budget, **{"parts": 0, **how}).answers
    return answer


@pytest.fixture(scope="module")
def stated(hardware):
    return asked(hardware)


@pytest.fixture(scope="module")
def best(stated):
    return best_hardware(stated, COST, 100.0, parts=300)


def mix(rates):
    return 1 / np.mean(1 / np.asarray(rates), axis=-1)


@in_float64
def rates_at(hardware, fields, **more):
    (solution,) = solve_all(asked(dataclasses.replace(hardware, **fields), **more))
    return np.asarray(solution.best.score)


def test_the_answer_is_what_a_fresh_search_finds(hardware, best):
    rates = rates_at(hardware, best.hardware)
    np.testing.assert_allclose(best.metrics, rates, rtol=1e-9)
    assert best.objective == pytest.approx(mix(rates), rel=1e-9)
    assert best.objective <= best.relaxed * (1 + 1e-9)


def test_the_budget_is_spent_and_the_reference_beaten(best):
    assert best.cost == pytest.approx(100.0, rel=1e-6)
    assert best.cost <= 100.0 * (1 + 1e-9)
    assert best.objective > 1.01 * best.reference


def test_no_hardware_of_a_random_sample_is_better(hardware, stated, best):
    rng = np.random.default_rng(1)
    around = np.array(list(best.factors.values())) * np.exp(rng.normal(0, 0.1, (128, 4)))
    anywhere = np.exp(rng.normal(0, 1.0, (128, 4)))
    factors = affordable(COST, np.concatenate([around, anywhere]), 100.0)
    cells = in_float64(cells_of)(stated)
    inputs = cells.inputs
    fields = [("hbm_bytes",), ("hbm_bw",), ("flops_bf16", "flops_fp8", "flops_fp4"), ("intra_bw",)]
    found = []
    for factor in factors:
        grown = {
            name: getattr(inputs.hardware, name) * f
            for names, f in zip(fields, factor, strict=True)
            for name in names
        }
        rows = inputs._replace(hardware=dataclasses.replace(inputs.hardware, **grown))
        found.append(in_float64(best_of)(cells, rows).score)
    with np.errstate(divide="ignore"):
        others = np.array([mix(r) if np.isfinite(r).all() else 0.0 for r in found])
    assert others.max() <= best.objective * (1 + 2e-3)
    assert others.max() > 0.9 * best.objective


def test_marginal_gains_are_close_where_the_optimum_is_inside(best):
    inside = {k: v for k, v in best.marginal.items() if k not in best.at_bound}
    assert set(inside) <= set(COST.prices)
    assert all(gain > -1e-6 for gain in inside.values())


def test_the_cheapest_hardware_meets_its_targets_and_costs_what_the_best_one_did(
    hardware, stated, best
):
    targets = [0.98 * value for value in best.metrics]
    (found,) = design(stated, COST, tokens_per_s_per_gpu=targets, parts=0).answers
    rates = rates_at(hardware, found.hardware)
    assert np.all(rates >= np.array(targets) * (1 - 2e-9))
    assert found.cost < best.cost
    assert found.cost > 0.8 * best.cost


def test_no_hardware_of_a_random_sample_exceeds_the_gap(stated, best):
    assert best.parts > 0
    assert 0.0 <= best.gap < np.inf
    rng = np.random.default_rng(2)
    factors = affordable(COST, np.exp(rng.normal(0, 0.6, (256, 4))), 100.0)
    cells = in_float64(cells_of)(stated)
    task = Task(cells, COST, None, 100.0, None)
    merits = in_float64(task.exact)(in_float64(task.search)(factors))
    assert np.exp(merits.max()) <= best.objective * (1 + best.gap) * (1 + 1e-6)


def test_the_cheapest_of_two_quantities_is_proved(hardware):
    cost = CostModel({"hbm_bytes": Price(40), "hbm_bw": Price(60)})
    (found,) = design(asked(hardware, [32768.0]), cost, tpot=0.02).answers
    assert found.gap == 0.0
    # Any cheaper pair misses the target or does not fit: a grid of them, by the search itself.
    cells = in_float64(cells_of)(asked(hardware, [32768.0], objective="tpot", batch=[1]))
    task = Task(cells, cost, None, None, np.array([0.02]))
    first, second = np.meshgrid(np.geomspace(0.05, 20, 40), np.geomspace(0.01, 20, 40))
    pairs = np.stack([first.ravel(), second.ravel()], axis=-1)
    spent = 40 * pairs[:, 0] + 60 * pairs[:, 1]
    cheaper = pairs[spent < found.cost * (1 - 1e-6)]
    assert len(cheaper) > 100
    assert task.misses(in_float64(task.search)(cheaper)).all()


def test_no_parts_leave_the_gap_open(hardware):
    cost = CostModel({"hbm_bw": Price(60)})
    (found,) = design(asked(hardware, [32768.0]), cost, tpot=0.02, parts=0).answers
    assert np.isnan(found.gap)


def test_what_money_buys_is_a_linear_program():
    rng = np.random.default_rng(3)
    slope, price = rng.normal(0, 1, (50, 3)), rng.uniform(0.1, 2, (50, 3))
    money = rng.uniform(-1, 3, 50)
    value, _ = bought(slope, price, money)
    for k in range(50):
        found = linprog(
            -slope[k], A_ub=price[k : k + 1], b_ub=money[k : k + 1], bounds=[(-1, 1)] * 3
        )
        if found.success:
            assert value[k] == pytest.approx(-found.fun, abs=1e-9)


def test_weights_shift_the_design(hardware, stated, best):
    long, short = (
        best_hardware(stated, COST, 100.0, weights=weights)
        for weights in ([0.01, 0.99], [0.99, 0.01])
    )
    assert long.metrics[1] >= best.metrics[1] * (1 - 1e-6)
    assert short.metrics[0] >= best.metrics[0] * (1 - 1e-6)
    # Short contexts need less memory.
    assert short.factors["hbm_bytes"] < 0.95 * long.factors["hbm_bytes"]


def test_times_are_made_small(hardware):
    stated = asked(hardware, [4096.0], objective="tpot")
    cost = CostModel({"hbm_bw": Price(60), "intra_bw": Price(40)})
    found = best_hardware(stated, cost, 100.0)
    assert found.objective == pytest.approx(found.metrics[0])
    assert found.objective <= found.reference


def test_the_cost_is_the_stated_power_law():
    factors = np.array([2.0, 1.0, 4.0, 1.0])
    assert cost_of(COST, factors) == pytest.approx(60 + 40 + 25 * 4**1.3 + 5)
    scaled = affordable(COST, factors[None], 50.0)[0]
    assert cost_of(COST, scaled) == pytest.approx(50.0)
    np.testing.assert_allclose(scaled / scaled[1], factors)


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ({"hbm_bw": Price(0)}, "infinite hardware"),
        ({"hbm_bw": Price(1, 0.0)}, "infinite hardware"),
        ({"hbm_bw": Price(1, -1.0)}, "infinite hardware"),
        ({"hbm_bandwith": Price(1)}, "did you mean .*hbm_bw"),
        ({"eff_gemm": Price(1)}, "not bought"),
        ({"inter_latency": Price(1)}, "less of it is better"),
        ({"flops": Price(1), "flops_fp8": Price(1)}, "priced twice"),
        ({}, "no quantity"),
    ],
)
def test_a_cost_that_does_not_bound_the_hardware_is_refused(stated, prices, words):
    with pytest.raises(ValueError, match=words):
        best_hardware(stated, CostModel(prices), 100.0)


def test_a_budget_that_holds_nothing_says_what_would(stated):
    with pytest.raises(ValueError, match=r"about \S+ would"):
        best_hardware(stated, CostModel({"hbm_bytes": Price(100)}), 5.0)
    with pytest.raises(ValueError, match="base cost"):
        best_hardware(stated, CostModel({"hbm_bw": Price(1)}, base=10.0), 5.0)


def test_an_impossible_target_says_what_can_be_had(stated):
    with pytest.raises(ValueError, match="everything at the edge"):
        design(stated, CostModel({"hbm_bw": Price(1)}), tpot=1e-9)
    with pytest.raises(ValueError, match="above 0"):
        design(stated, COST, tokens_per_s_per_gpu=-1.0)


def test_wrong_weights_are_refused(stated):
    free = dataclasses.replace(catalog.hardware("h100"), flops_exp=0.0)
    exponentials = CostModel({"hbm_bw": Price(40), "flops_exp": Price(5)})
    with pytest.raises(ValueError, match="flops_exp: 0 on the reference hardware"):
        best_hardware(asked(free), exponentials, 100.0)
    with pytest.raises(ValueError, match="weights: give 2"):
        best_hardware(stated, COST, 100.0, weights=[1.0, 2.0, 3.0])


def test_a_target_on_time_is_met_by_a_smaller_batch(hardware):
    stated = asked(hardware, [4096.0])
    cost = CostModel({"hbm_bw": Price(60), "intra_bw": Price(40)})
    (found,) = design(stated, cost, tpot=0.005, parts=0).answers
    (reached,) = -rates_at(hardware, found.hardware, contexts=[4096.0], objective="tpot",
                           batch="best")  # fmt: skip
    assert reached == pytest.approx(found.metrics[0], rel=1e-9)
    assert reached <= 0.005 * (1 + 2e-9)
    # With the largest batch that fits it would be missed.
    assert -rates_at(hardware, found.hardware, contexts=[4096.0], objective="tpot")[0] > 0.005


def test_answers_are_tables_figures_and_files(hardware, tmp_path):
    stated = asked(hardware, [4096.0], twins=[2.0])
    cost = CostModel({"hbm_bw": Price(60), "intra_bw": Price(40)})
    found = design(stated, cost, budget=100.0, variant=1, parts=0)
    assert {row["variant"] for row in found.rows()} == {"dense"}
    assert "design.svg" in {path.name for path in found.save(tmp_path)}
    assert found.record()["cost"] == pytest.approx(100.0)
    with pytest.raises(ValueError, match="give twins"):
        design(asked(hardware), cost, budget=100.0, variant=1)


@pytest.mark.parametrize(("budget", "said"), [(1.0, "just the"), (1.2, "1.2 times the")])
def test_what_hardware_should_have_is_said_of_the_reference(hardware, budget, said):
    found = design(
        asked(hardware, [4096.0]), CostModel({"hbm_bw": Price(1)}), budget=budget, parts=0
    )
    assert f"should have {said} HBM bandwidth of " in found.summary()


@pytest.mark.parametrize(
    "how", [{}, {"budget": 9.0, "tpot": 1.0}, {"tpot": 1.0, "tokens_per_s": 1.0}, {"tpots": 1.0}]
)
def test_neither_or_two_goals_are_refused(stated, how):
    with pytest.raises(ValueError, match=r"either a budget|one metric|did you mean|known"):
        design(stated, COST, **how)
