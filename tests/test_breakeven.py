"""Roots against their definition: both sides equal there, and the stated order on either side."""

import dataclasses

import numpy as np
import pytest
from tolerances import ROOT

from qsjax import catalog
from qsjax.questions.break_even import break_even, min_gpus, solve_for
from qsjax.questions.break_even.roots import find_roots
from qsjax.questions.sensitivity import problem, solve

CELLS = {"gpus": [16], "contexts": [8192.0, 131072.0]}
FIELDS = ("hbm_bw", "hbm_bytes", "inter_bw", "flops_fp8")


@pytest.fixture(scope="module")
def hardware():
    return catalog.hardware("h200-sxm")


@pytest.fixture(scope="module")
def model():
    return catalog.model("deepseek-v3")


def best(model, hardware, **cells):
    """Best score of every cell by a fresh search; 0 where infeasible."""
    scores = np.asarray(solve(problem(model, hardware, **cells)).best.score)
    return np.where(np.isfinite(scores), np.abs(scores), 0.0)


def ratio(model, hardware, q, **cells):
    """Dense over MoE; NaN or infinite where one is infeasible."""
    moe, dense = best(model, hardware, qs=[q], **cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        return dense / moe


def test_at_the_break_even_q_both_are_equal(model, hardware):
    found = break_even(problem(model, hardware, **CELLS), "q")
    assert [r.cell["context"] for r in found] == CELLS["contexts"]
    kinds = set()
    for result in found:
        (root,) = result.roots
        assert result.sides == ("dense", "moe")
        at = {"gpus": [16], "contexts": [result.cell["context"]]}
        if root.kind == "equal":
            assert ratio(model, hardware, root.value, **at) == pytest.approx(1, rel=ROOT)
        assert ratio(model, hardware, root.value * (1 - ROOT), **at) > 1
        assert ratio(model, hardware, root.value * (1 + ROOT), **at) < 1
        kinds.add(root.kind)
    assert "equal" in kinds


def test_every_crossing_of_context_is_found(model, hardware):
    stated = problem(model, hardware, gpus=[16], contexts=[8192.0, 16384.0], qs=[4.0])
    (result,) = break_even(stated, "context", low=2048.0, high=1048576.0)
    assert "context" not in result.cell
    edges = [2048.0, *(root.value for root in result.roots), 1048576.0]
    assert len(edges) > 2
    for side, low, high in zip(result.sides, edges[:-1], edges[1:], strict=True):
        middle = np.sqrt(low * high)
        wins = ratio(model, hardware, 4.0, gpus=[16], contexts=[middle]) > 1
        assert wins == (side == "dense"), (side, middle)


@pytest.mark.parametrize("name", FIELDS)
def test_the_order_of_a_hardware_field_is_as_stated(model, hardware, name):
    stated = problem(model, hardware, gpus=[16], contexts=[8192.0], qs=[5.0])
    (result,) = break_even(stated, name, points=65)
    at = {"gpus": [16], "contexts": [8192.0]}
    edges = [result.low, *(root.value for root in result.roots), result.high]
    for side, low, high in zip(result.sides, edges[:-1], edges[1:], strict=True):
        middle = dataclasses.replace(hardware, **{name: float(np.sqrt(low * high))})
        value = ratio(model, middle, 5.0, **at)
        assert side == ("neither feasible" if np.isnan(value) else "dense" if value > 1 else "moe")
    assert result.message


def test_without_a_root_the_answer_says_who_wins(model, hardware):
    stated = problem(model, hardware, gpus=[16], contexts=[8192.0])
    (result,) = break_even(stated, "q", low=100.0, high=200.0)
    assert result.roots == ()
    assert result.message == "none: the MoE is better everywhere for q in [100, 200]"
    small = problem(model, hardware, gpus=[1], contexts=[8192.0])
    (result,) = break_even(small, "q", low=6.0, high=10.0)
    assert "neither is feasible anywhere" in result.message


def test_where_one_side_stops_fitting_is_a_root_of_its_own(model, hardware):
    stated = problem(model, hardware, gpus=[16], contexts=[8192.0], qs=[2.0])
    (result,) = break_even(stated, "hbm_bytes", low=1e9, high=1e11)
    assert result.sides[0] == "neither feasible"
    assert result.roots[0].kind == "feasibility"
    for factor, fits in ((1 + 1e-9, True), (1 - 1e-9, False)):
        sized = dataclasses.replace(hardware, hbm_bytes=result.roots[0].value * factor)
        scores = best(model, sized, gpus=[16], contexts=[8192.0], qs=[2.0])
        assert scores.any() == fits


def test_a_target_is_met_exactly_at_the_root(model, hardware):
    stated = problem(model, hardware, gpus=[16], contexts=[8192.0], qs=[])
    (now,) = best(model, hardware, gpus=[16], contexts=[8192.0], qs=[])
    (result,) = solve_for(stated, "hbm_bw", "tokens_per_s_per_gpu", 1.1 * now)
    assert result.sides == ("missed", "met")
    faster = dataclasses.replace(hardware, hbm_bw=result.roots[0].value)
    (reached,) = best(model, faster, gpus=[16], contexts=[8192.0], qs=[])
    assert reached == pytest.approx(1.1 * now, rel=ROOT)


def test_an_unreachable_target_reports_the_best(model, hardware):
    stated = problem(model, hardware, gpus=[16], contexts=[8192.0], qs=[])
    (result,) = solve_for(stated, "hbm_bw", "tpot", 1e-6)
    assert result.roots == ()
    assert "missed everywhere" in result.message
    assert 0 < result.best < 1


def test_the_least_gpu_count_is_the_first_that_reaches(model, hardware):
    counts = [4, 8, 16, 32]
    rows = min_gpus(model, hardware, counts, "tpot", 0.03, contexts=[8192.0], qs=[4.0])
    assert [row["variant"] for row in rows] == ["moe", "dense"]
    cells = {"contexts": [8192.0], "qs": [4.0], "objective": "tpot"}
    scores = best(model, hardware, gpus=counts, **cells).reshape(2, -1)
    for variant, row in enumerate(rows):
        values = np.where(scores[variant] > 0, scores[variant], np.inf).tolist()
        first = next((n for n, v in zip(counts, values, strict=True) if v <= 0.03), None)
        assert row["gpus"] == first
        assert row["best"] == pytest.approx(min(values))


def test_roots_of_a_known_function():
    def margin(cell, x):
        return np.where(cell == 0, np.sin(3 * x), np.where(x > 1, 1.0, np.nan))

    found = find_roots(margin, np.array([0, 1]), 1.5, 20.0, 65)
    first = [value for value, *_ in found[0]]
    np.testing.assert_allclose(np.log(first), np.pi / 3 * np.arange(1, 3), rtol=1e-12)
    (value, kind, *_) = found[1][0]
    assert kind == "feasibility"
    assert value == pytest.approx(np.e, rel=1e-9)


def test_a_root_on_a_scanned_value_is_found_once():
    found = find_roots(lambda cell, x: x - np.log(10.0), np.array([0]), 1.0, 100.0, 3)
    assert [value for value, *_ in found[0]] == pytest.approx([10.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"parameter": "flops"}, "group"),
        ({"parameter": "tp"}, "no derivative"),
        ({"parameter": "q", "low": 5.0, "high": 5.0}, "below high"),
        ({"parameter": "q", "low": -1.0}, "above 0"),
        ({"parameter": "overlap_tp"}, "give low and high"),
    ],
)
def test_wrong_intervals_and_parameters_are_refused(model, hardware, arguments, words):
    with pytest.raises(ValueError, match=words):
        break_even(problem(model, hardware, **CELLS), **arguments)


def test_a_dense_model_has_no_break_even(hardware):
    stated = problem(catalog.model("llama-3.1-70b"), hardware, **CELLS)
    with pytest.raises(ValueError, match="no experts"):
        break_even(stated, "q")


def test_a_target_must_be_positive(model, hardware):
    with pytest.raises(ValueError, match="target=-1"):
        solve_for(problem(model, hardware, **CELLS), "hbm_bw", "tpot", -1.0)
