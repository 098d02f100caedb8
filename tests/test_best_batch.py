"""The batch that is best for one user, against every batch of the ladder."""

import dataclasses

import jax
import numpy as np
import pytest

from qsjax.grid import optimum, pairs
from qsjax.grid.cells import cells_of, take
from qsjax.grid.limits import Limits
from qsjax.grid.optimum import best_of
from qsjax.grid.problem import Problem
from qsjax.questions.explain import explain
from qsjax.questions.explore import explore
from qsjax.questions.prefix_cache import prefix_cache
from qsjax.questions.sensitivity import sensitivity
from qsjax.questions.speculate import speculate


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("objective", ["tpot", "tokens_per_s_per_user"])
@pytest.mark.parametrize("convention", ["physical", "paper"])
@pytest.mark.parametrize("limits", [Limits(), Limits(max_tpot=0.02, max_pp=2)])
def test_one_sequence_is_as_good_as_the_best_of_all_batches(
    monkeypatch, objective, convention, limits
):
    problem = Problem(
        "deepseek-v3",
        "h200-sxm",
        gpus=[16, 32],
        context=[1024, 32768],
        twins=[3],
        batch="best",
        objective=objective,
        limits=limits,
        convention=convention,
    )
    cells = cells_of(problem)
    found = best_of(cells)
    monkeypatch.setattr(optimum, "FAST", ())
    want = best_of(cells)
    for name in ("position", "score", "second_score", "batch", "feasible", "reasons"):
        np.testing.assert_allclose(getattr(found, name), getattr(want, name), rtol=1e-12)
    assert (found.feasible > 0).any()


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(max_tpot=0.05),
        Limits(max_tpot=0.02, max_pp=2),
        Limits(min_user_rate=30.0, min_headroom=0.2),
    ],
)
@pytest.mark.parametrize(
    ("model", "gpus", "convention"),
    [("deepseek-v3", [16, 64], "physical"), ("mixtral-8x7b", [1, 8], "paper")],
)
def test_ranges_that_bounds_leave_out_hold_no_winner(monkeypatch, limits, model, gpus, convention):
    problem = Problem(
        model,
        "h200-sxm",
        gpus=gpus,
        context=["1k", "8k", "128k"],
        twins=[5],
        batch="best",
        limits=limits,
        convention=convention,
    )
    cells = cells_of(problem)
    found = best_of(cells)
    monkeypatch.setattr(optimum, "is_bounded", lambda *_: False)
    want = best_of(cells)
    for name in found._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(want, name), name)
    assert (found.feasible > 1).any()


def test_compiled_blocks_agree(monkeypatch):
    problem = Problem("mixtral-8x7b", "h100-sxm", gpus=[8], batch="best", objective="tpot")
    cells = cells_of(problem)
    found = best_of(cells)
    monkeypatch.setattr(optimum, "SMALL", 0)
    again = best_of(cells)
    np.testing.assert_allclose(again.score, found.score, rtol=1e-12)
    np.testing.assert_array_equal(again.batch, found.batch)


@pytest.mark.parametrize("objective", ["tokens_per_s_per_gpu", "tokens_per_s"])
def test_rows_that_are_alike_are_answered_alike_however_many(monkeypatch, objective):
    limits = Limits(max_tpot=0.03)
    problem = Problem(
        *("mixtral-8x7b", "h100-sxm"),
        gpus=8, context=8192, twins=(), batch="best", limits=limits, objective=objective,
    )  # fmt: skip
    cells = cells_of(problem)
    (one,) = best_of(cells).score
    monkeypatch.setattr(pairs, "TOGETHER", 2 * cells.count)  # two rows at a time
    assert best_of(cells, take(cells.inputs, [0] * 5)).score.tolist() == [one] * 5


@pytest.mark.parametrize("asked", [{"objective": "tpot"}, {"limits": Limits(max_tpot=0.02)}])
def test_every_question_takes_the_batch_that_the_objective_and_the_limits_ask(asked):
    problem = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k", **asked)
    best = explore(dataclasses.replace(problem, batch="best"))
    want = best.rows()[0]["tpot"]
    assert best.rows()[0]["is_feasible"]
    assert explore(problem).rows()[0]["tpot"] == want
    assert explain(problem).rows()[0]["tpot"] == want
    assert np.isfinite(sensitivity(problem, ["hbm_bw"]).rows()[0]["elasticity"])
    assert speculate(problem).rows()
    assert prefix_cache(problem).rows()
    largest = explore(dataclasses.replace(problem, batch="largest")).rows()[0]
    assert not largest["is_feasible"] or largest["tpot"] > want


def test_batches_may_be_an_array():
    asked = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k", batch=np.array([1, 8]))
    assert explore(asked).rows()[0]["batch"] == 8
