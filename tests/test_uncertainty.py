"""Uncertain inputs: against hand-made draws, known variances, and the deterministic limit."""

import numpy as np
import pytest
from scipy import stats

from qsjax import catalog
from qsjax.grid.distributions import check, frozen, parse
from qsjax.grid.problem import Problem
from qsjax.grid.solution import solve_all
from qsjax.numerics.loading import in_float64
from qsjax.questions.break_even import break_even
from qsjax.questions.sensitivity import (
    Distribution,
    lognormal,
    normal,
    triangular,
    uncertainty,
    uniform,
)
from qsjax.questions.sensitivity.draws import QUANTILES


@pytest.fixture(scope="module")
def stated():
    model, hardware = catalog.model("mixtral-8x7b"), catalog.hardware("h100-sxm")
    return Problem(model, hardware, gpus=[8], context=[8192.0, 131072.0], twins=[3.0])


def propagate(stated, given, **how):
    """The one outcome of one model on one accelerator."""
    (outcome,) = uncertainty(stated, given, **how).outcomes
    return outcome


@pytest.fixture(scope="module")
def outcome(stated):
    given = {"q": Distribution("uniform", (1.0, 9.0)), "hbm_bw": parse("uniform:3e12,4e12")}
    return propagate(stated, given, draws=128, seed=3)


def test_the_same_seed_gives_the_same_result(stated, outcome):
    given = {"q": Distribution("uniform", (1.0, 9.0)), "hbm_bw": parse("uniform:3e12,4e12")}
    again = propagate(stated, given, draws=128, seed=3)
    other = propagate(stated, given, draws=128, seed=4)
    np.testing.assert_array_equal(again.scores, outcome.scores)
    assert np.any(other.scores != outcome.scores)


def test_quantiles_are_those_of_the_draws(outcome):
    want = np.exp(np.quantile(np.log(outcome.scores), QUANTILES, axis=0))
    np.testing.assert_allclose(outcome.throughput, want, rtol=1e-9)
    assert np.all(np.diff(outcome.throughput, axis=0) >= 0)


def test_the_probability_that_dense_wins_is_that_of_q_below_break_even(stated):
    roots = break_even(stated, "q").cells
    given = {"q": parse("uniform:0.5,6")}
    found = propagate(stated, given, draws=1024)
    for result, p in zip(roots, found.p_dense_wins[2:], strict=True):
        (root,) = result.roots
        want = np.clip((root.value - 0.5) / 5.5, 0, 1)
        assert p == pytest.approx(want, abs=2e-3)
    assert np.isnan(found.p_dense_wins[:2]).all()
    # A single input explains all of it.
    np.testing.assert_allclose(found.first_order_verdict[:, 2:], 1, atol=0.05)
    assert found.first_order.shape == (1, 4)


def test_an_input_that_does_nothing_explains_nothing(outcome):
    moe, twin = outcome.first_order[:, :2], outcome.first_order[:, 2:]
    np.testing.assert_allclose(moe[0], 0, atol=1e-9)
    np.testing.assert_allclose(moe[1], 1, atol=0.05)
    np.testing.assert_allclose(twin.sum(axis=0), 1, atol=0.1)
    assert np.all(twin > 0.05)
    assert twin[0, 0] > twin[0, 1]  # the longer the context, the less the weights matter
    assert np.all(outcome.first_order_verdict[0, 2:] > 0.5)


def test_first_order_shares_of_a_sum_are_its_variances(stated):
    # Without limits of memory or compute, log throughput is nearly linear in small changes.
    given = {"hbm_bw": parse("lognormal:3.35e12,0.01"), "eff_gemm": parse("normal:0.7,0.0001")}
    found = propagate(stated, given, draws=256)
    assert np.all(found.first_order[0] > 0.95)
    assert np.all(np.abs(found.first_order[1]) < 0.05)


def test_narrow_distributions_give_the_deterministic_optimum(stated):
    (solution,) = in_float64(solve_all)(stated)
    now = np.asarray(solution.best.score)
    found = propagate(stated, {"hbm_bw": parse("normal:3.35e12,1")}, draws=16)
    np.testing.assert_allclose(found.throughput[2], now, rtol=1e-6)
    np.testing.assert_array_equal(found.p_feasible, 1.0)


def test_losses_and_exponent_give_q(stated):
    q = (2.34 / 2.12) ** (1 / 0.076)
    direct = propagate(stated, {"q": Distribution("normal", (q, 1e-9))}, draws=2)
    losses = {"loss_dense": 2.34, "loss_moe": 2.12}
    found = propagate(stated, {"alpha": parse("normal:0.076,1e-9")}, draws=2, losses=losses)
    np.testing.assert_allclose(found.throughput, direct.throughput, rtol=1e-6)


def test_draws_without_a_design_are_counted(stated):
    found = propagate(stated, {"hbm_bytes": parse("uniform:1e9,4e10")}, draws=64)
    assert np.all((found.p_feasible > 0) & (found.p_feasible < 1))
    assert np.all(np.isfinite(found.throughput))
    assert np.isnan(found.first_order).all()


def test_a_normal_distribution_is_cut_at_the_allowed_values():
    shape = frozen("eff_gemm", Distribution("normal", (0.9, 0.2)))
    assert shape.support() == (0.0, 1.0)
    assert frozen("q", Distribution("normal", (5.0, 1.0))).support()[0] == 0.0


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        ("uniform:2,4", 3.0),
        ("triangular:1,2,6", 3.0),
        ("normal:5,0.5", 5.0),
        ("lognormal:0.5,0.5", 0.5 * np.exp(0.125)),
    ],
)
def test_distributions_mean_what_they_say(text, mean):
    assert frozen("q", parse(text)).mean() == pytest.approx(mean)
    assert isinstance(frozen("q", parse(text)), stats.distributions.rv_frozen)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"q": "norml:5,1"}, r"did you mean normal"),
        ({"q": "zipf:5,1"}, "known: normal, lognormal, uniform"),
        ({"q": "normal:5"}, "mean, standard deviation"),
        ({"q": "normal:5,-1"}, "above 0"),
        ({"q": "lognormal:0,1"}, "above 0"),
        ({"q": "lognormal:5,0"}, "above 0"),
        ({"q": "uniform:4,2"}, "low below high"),
        ({"q": "triangular:1,9,4"}, "low <= mode <= high"),
        ({"q": "uniform:-1,2"}, "allowed range"),
        ({"eff_gemm": "uniform:0.5,1.5"}, "allowed range 0 to 1"),
        ({"eff_gemm": "normal:1.5,0.1"}, "allowed range 0 to 1"),
        ({"hbm_bandwith": "normal:1,1"}, "did you mean"),
        ({"flops": "normal:1,1"}, "is a group"),
        ({"q": "normal:5,1", "alpha": "normal:0.1,0.01"}, "either q or"),
        ({"loss_moe": "normal:2,0.1"}, "go together"),
        ({}, "no distribution"),
    ],
)
def test_wrong_distributions_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        check({name: parse(text) for name, text in given.items()})


def test_every_mistake_is_named_at_once():
    with pytest.raises(ValueError, match=r"(?s)q: .*\n.*eff_gemm"):
        check({"q": parse("normal:5,-1"), "eff_gemm": parse("uniform:0,2")})


def test_unreadable_numbers_and_missing_losses_are_refused(stated):
    with pytest.raises(ValueError, match="not a distribution"):
        parse("normal:five,1")
    with pytest.raises(ValueError, match="loss_dense, loss_moe"):
        propagate(stated, {"alpha": parse("normal:0.076,0.01")}, draws=2)
    with pytest.raises(ValueError, match="power of two"):
        propagate(stated, {"q": parse("normal:5,1")}, draws=100)
    with pytest.raises(ValueError, match="between 0 and 1"):
        propagate(stated, {"q": parse("normal:5,1")}, quantiles=(0.5, 1.5))


def test_constructors_are_what_the_texts_say():
    assert normal(5, 1) == parse("normal:5,1")
    assert lognormal(5, 1) == parse("lognormal:5,1")
    assert uniform(1, 5) == parse("uniform:1,5")
    assert triangular(1, 2, 5) == parse("triangular:1,2,5")


def test_an_uncertain_q_needs_no_twin_of_its_own():
    asked = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=[8192, 16384])
    found = uncertainty(asked, {"q": normal(5, 1)}, draws=16)
    assert [row["variant"] for row in found.rows()] == ["moe", "moe", "dense", "dense"]
    assert list(found.drawings()) == ["verdict"]
    assert [row["q"] for row in found.rows()] == [None] * 4
    assert list(found.dataset.variant.values) == ["moe", "dense"]
    assert found.dataset.objective.attrs["units"] == "tokens/s/GPU"
    (table,) = found.tables()
    assert {"tokens/s/GPU p50", "GPUs", "twin ahead (share of draws)"} <= {*table.heads}
    assert not any("_" in head for head in table.heads)


def test_an_uncertain_q_has_no_value_in_the_answer_and_no_certain_verdict():
    """The verdict of q around 5 stood under `dense q=3`, with a probability of 0 %."""
    asked = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", twins=3)
    said = uncertainty(asked, {"q": normal(5, 1)}, draws=64).summary()
    assert said.startswith("mixtral-8x7b, dense, 8 h100-sxm, context 8,192: with uncertain q ")
    assert "with a probability of <1 %;" in said


def test_with_a_drawn_q_there_is_one_twin():
    """Twins of q = 3 and 5 were two rows with the same numbers, as all had the drawn q."""
    asked = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=["8k", "32k"], twins=[3, 5])
    found = uncertainty(asked, {"q": normal(5, 1)}, draws=32)
    assert [row["variant"] for row in found.rows()] == ["moe", "moe", "dense", "dense"]
    (draw,) = found.drawings().values()
    assert ": the twin wins with a probability of " in draw.keywords["title"]
    given = uncertainty(asked, {"hbm_bw": uniform(3e12, 4e12)}, draws=32)
    assert [row["q"] for row in given.rows()] == [None, None, 3.0, 3.0, 5.0, 5.0]
