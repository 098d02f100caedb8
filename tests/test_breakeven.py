"""Roots against their definition: both sides equal there, and the stated order on either side."""

import dataclasses
import re

import numpy as np
import pytest
from tolerances import ROOT

from qsjax import catalog
from qsjax.cost.ledger import RESOURCES
from qsjax.grid.limits import Limits
from qsjax.grid.problem import Problem
from qsjax.grid.roots import Root, find_roots
from qsjax.grid.solution import solve_all
from qsjax.numerics.loading import in_float64
from qsjax.output import words
from qsjax.questions.break_even import break_even, solve_for
from qsjax.questions.break_even.roots import Roots
from qsjax.questions.explore import explore

CELLS = {"gpus": [16], "context": [8192.0, 131072.0]}
FIELDS = ("hbm_bw", "hbm_bytes", "inter_bw", "flops_fp8")


@pytest.fixture(scope="module")
def hardware():
    return catalog.hardware("h200-sxm")


@pytest.fixture(scope="module")
def model():
    return catalog.model("deepseek-v3")


@in_float64
def best(model, hardware, **cells):
    """Best score of every cell by a fresh search; 0 where infeasible."""
    (found,) = solve_all(Problem(model, hardware, **cells))
    scores = np.asarray(found.best.score)
    return np.where(np.isfinite(scores), np.abs(scores), 0.0)


def ratio(model, hardware, q, **cells):
    """Dense over MoE; NaN or infinite where one is infeasible."""
    moe, dense = best(model, hardware, twins=[q], **cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        return dense / moe


def test_at_the_break_even_q_both_are_equal(model, hardware):
    found = break_even(Problem(model, hardware, **CELLS), "q").cells
    assert [r.cell["context"] for r in found] == CELLS["context"]
    kinds = set()
    for result in found:
        (root,) = result.roots
        assert result.sides == ("dense", "moe")
        at = {"gpus": [16], "context": [result.cell["context"]]}
        if root.kind == "equal":
            assert ratio(model, hardware, root.value, **at) == pytest.approx(1, rel=ROOT)
        assert ratio(model, hardware, root.value * (1 - ROOT), **at) > 1
        assert ratio(model, hardware, root.value * (1 + ROOT), **at) < 1
        kinds.add(root.kind)
    assert "equal" in kinds


def test_every_crossing_of_context_is_found(model, hardware):
    stated = Problem(model, hardware, gpus=[16], context=[8192.0, 16384.0], twins=[4.0])
    (result,) = break_even(stated, "context", low=2048.0, high=1048576.0).cells
    assert "context" not in result.cell
    edges = [2048.0, *(root.value for root in result.roots), 1048576.0]
    assert len(edges) > 2
    for side, low, high in zip(result.sides, edges[:-1], edges[1:], strict=True):
        middle = np.sqrt(low * high)
        wins = ratio(model, hardware, 4.0, gpus=[16], context=[middle]) > 1
        assert wins == (side == "dense"), (side, middle)


def test_every_change_of_the_lead_says_why():
    """Against fresh explorations just behind each root and halfway between two."""
    asked = {"gpus": 64, "twins": 5}
    (found,) = break_even(Problem("deepseek-v3", "h100-sxm", **asked), "context").cells
    roots = [root.value for root in found.roots]
    assert len(found.reasons) == len(roots) == 3
    places = [*(x * 1.001 for x in roots), *np.sqrt(np.multiply(roots[:-1], roots[1:]))]
    rows = explore(Problem("deepseek-v3", "h100-sxm", **asked, context=places)).rows()
    by_words = {text: RESOURCES[name] for name, text in words.RESOURCE_WORDS.items()}
    for k, (side, why) in enumerate(zip(found.sides[1:], found.reasons, strict=True)):
        moe, dense = rows[k], rows[k + len(places)]
        ahead, behind = (moe, dense) if side == "moe" else (dense, moe)
        assert ahead["tokens_per_s_per_gpu"] > behind["tokens_per_s_per_gpu"]
        told = re.match(
            r"the (MoE|dense twin) spends (more|less) on (.*) \((\d+) % .* (\d+) %", why
        )
        own, other = (moe, dense) if told[1] == "MoE" else (dense, moe)
        assert (told[2] == "more") == (own is behind)
        for row, share in ((own, told[4]), (other, told[5])):
            part = sum(row["terms"][term] for term in by_words[told[3]]) / row["tpot"]
            assert float(share) == pytest.approx(100 * part, abs=1)
        assert words.split(own, is_moe=own is moe) in why
    for k, lead in enumerate(found.halfway, start=len(roots)):
        rates = [rows[at]["tokens_per_s_per_gpu"] for at in (k, k + len(places))]
        assert lead == pytest.approx(max(rates) / min(rates) - 1, rel=1e-6)


@pytest.mark.parametrize("name", FIELDS)
def test_the_order_of_a_hardware_field_is_as_stated(model, hardware, name):
    stated = Problem(model, hardware, gpus=[16], context=[8192.0], twins=[5.0])
    (result,) = break_even(stated, name, points=65).cells
    at = {"gpus": [16], "context": [8192.0]}
    edges = [result.low, *(root.value for root in result.roots), result.high]
    for side, low, high in zip(result.sides, edges[:-1], edges[1:], strict=True):
        middle = dataclasses.replace(hardware, **{name: float(np.sqrt(low * high))})
        value = ratio(model, middle, 5.0, **at)
        assert side == ("neither feasible" if np.isnan(value) else "dense" if value > 1 else "moe")
    assert result.message


def test_without_a_root_the_answer_says_who_wins(model, hardware):
    stated = Problem(model, hardware, gpus=[16], context=[8192.0])
    (result,) = break_even(stated, "q", low=100.0, high=200.0).cells
    assert result.roots == ()
    assert result.message == ("the MoE is ahead at every quality factor q from 100 to 200")
    small = Problem(model, hardware, gpus=[1], context=[8192.0])
    (result,) = break_even(small, "q", low=6.0, high=10.0).cells
    assert result.message == "neither runs at every quality factor q from 6 to 10"


def test_where_one_side_stops_fitting_is_a_root_of_its_own(model, hardware):
    stated = Problem(model, hardware, gpus=[16], context=[8192.0], twins=[2.0])
    (result,) = break_even(stated, "hbm_bytes", low=1e9, high=1e11).cells
    assert result.sides[0] == "neither feasible"
    assert result.roots[0].kind == "feasibility"
    for factor, fits in ((1 + 1e-9, True), (1 - 1e-9, False)):
        sized = dataclasses.replace(hardware, hbm_bytes=result.roots[0].value * factor)
        scores = best(model, sized, gpus=[16], context=[8192.0], twins=[2.0])
        assert scores.any() == fits


def test_a_target_is_met_exactly_at_the_root(model, hardware):
    stated = Problem(model, hardware, gpus=[16], context=[8192.0], twins=[])
    (now,) = best(model, hardware, gpus=[16], context=[8192.0], twins=[])
    (result,) = solve_for(stated, "hbm_bw", tokens_per_s_per_gpu=1.1 * now).cells
    assert result.sides == ("missed", "met")
    faster = dataclasses.replace(hardware, hbm_bw=result.roots[0].value)
    (reached,) = best(model, faster, gpus=[16], context=[8192.0], twins=[])
    assert reached == pytest.approx(1.1 * now, rel=ROOT)


def test_an_unreachable_target_reports_the_best(model, hardware):
    stated = Problem(model, hardware, gpus=[16], context=[8192.0], twins=[])
    (result,) = solve_for(stated, "hbm_bw", tpot="1us").cells
    assert result.roots == ()
    assert result.message == (
        "TPOT <= 1 us is missed at every HBM bandwidth (hbm_bw) from 48 GB/s to 480 TB/s; "
        f"the best is {words.milliseconds(result.best)}; today it is 4.8 TB/s"
    )
    assert 0 < result.best < 1


def test_the_least_gpu_count_is_the_first_that_reaches(model, hardware):
    counts = [4, 8, 16, 32]
    asked = Problem(model, hardware, gpus=counts, context=[8192.0], twins=[4.0])
    rows = solve_for(asked, "gpus", tpot="30 ms").rows()
    assert [row["variant"] for row in rows] == ["moe", "dense"]
    cells = {"context": [8192.0], "twins": [4.0], "objective": "tpot", "batch": "best"}
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


@pytest.mark.parametrize("turn", [1.0, -1.0])
def test_an_order_that_changes_beside_the_end_of_feasibility_is_found(turn):
    """A target that was met up to there was called missed throughout."""

    def margin(cell, x):
        at = turn * (x - 2.0)
        return np.where(at < 0, -0.01 - at, np.nan)

    found = find_roots(margin, np.array([0]), 1.0, np.exp(4.0), 9)[0]
    values = [2.0 - 0.01 * turn, 2.0]
    assert np.log([value for value, *_ in found]) == pytest.approx(sorted(values), abs=1e-8)
    kinds = ["equal", "feasibility"]
    assert [kind for _, kind, *_ in found] == (kinds if turn > 0 else kinds[::-1])


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
        break_even(Problem(model, hardware, twins=[5], **CELLS), **arguments)


def test_a_dense_model_has_no_break_even(hardware):
    stated = Problem(catalog.model("llama-3.1-70b"), hardware, **CELLS)
    with pytest.raises(ValueError, match="no experts"):
        break_even(stated, "q")


def test_a_target_must_be_positive(model, hardware):
    with pytest.raises(ValueError, match=r"tpot: -1\.0 is not allowed"):
        solve_for(Problem(model, hardware, **CELLS), "hbm_bw", tpot=-1.0)


def test_a_target_on_time_may_be_met_by_a_smaller_batch_than_the_largest():
    asked = Problem(
        "deepseek-v3", "h200-sxm", gpus=[2**k for k in range(9)], context="32k", twins=[5]
    )
    found = solve_for(asked, "gpus", tpot=0.03)
    assert [row["gpus"] for row in found.rows()] == [8, 2]
    dense = found.rows()[1]
    assert dense["value"] < 0.03
    # With the largest batch that fits no count at all reaches it.
    counts = asked.stated.gpus
    largest = best(
        "deepseek-v3", "h200-sxm", gpus=counts, context="32k", twins=[5], objective="tpot",
        batch="largest",
    )  # fmt: skip
    dense_largest = largest.reshape(2, -1)[1]
    assert np.all((dense_largest == 0) | (dense_largest > 0.03))


def test_limits_that_a_smaller_batch_keeps_do_not_rule_a_design_out(model, hardware):
    limits = Limits(max_tpot=0.03)
    asked = Problem(model, hardware, gpus=[32], context=[32768.0], limits=limits)
    (result,) = break_even(asked, "q", low=1.0, high=10.0, points=9).cells
    assert "neither feasible" not in result.sides


def test_prescribed_batches_stay(model, hardware):
    asked = Problem(model, hardware, gpus=[32], context=[8192.0], batch=[64.0])
    found = solve_for(asked, "gpus", tpot=10.0)
    assert found.problem.stated.batches == (64.0,)
    (row,) = found.rows()
    (want,) = best(
        model, hardware, gpus=[32], context=[8192.0], batch=[64.0], objective="tpot"
    ).ravel()
    assert row["value"] == pytest.approx(want)


def test_results_are_tables_figures_and_files(model, hardware, tmp_path):
    found = break_even(Problem(model, hardware, **CELLS))
    assert "break-even.csv" in {path.name for path in found.save(tmp_path)}
    assert found.record()["solutions"] == found.rows()
    lines = repr(found).splitlines()
    for line, row in zip(lines, found.rows(), strict=False):
        assert row["message"] in line
        assert f" of {row['roots'][0]:.3g}, " in line


@pytest.mark.parametrize("target", [{}, {"tpot": 1.0, "tokens_per_s": 1.0}, {"tpots": 1.0}])
def test_not_one_known_target_is_refused(model, hardware, target):
    with pytest.raises(ValueError, match=r"one target|did you mean|known"):
        solve_for(Problem(model, hardware, **CELLS), "hbm_bw", **target)


def test_roots_that_lie_close_are_told_apart():
    roots = tuple(Root(x, "equal") for x in (16156.0, 16214.0, 16664.0))
    found = Roots({}, "context", 1024.0, 32768.0, roots, ("moe", "dense", "moe", "dense"))
    assert re.findall(r"([0-9,]+) tokens", found.message) == ["16,160", "16,210", "16,660"]


def test_a_target_of_q_is_asked_of_the_twin_alone(model, hardware):
    stated = Problem(model, hardware, gpus=[16], context=[8192.0])
    (row,) = solve_for(stated, "q", tpot=0.05).rows()
    assert row["variant"] == "dense"
    assert "today" not in row["message"]
    assert row["message"].startswith("TPOT <= 50 ms is ")
    with pytest.raises(ValueError, match="no experts, so there is no dense twin"):
        solve_for(Problem("llama-3.1-8b", hardware, gpus=[1], context=[8192.0]), "q", tpot=0.05)


@pytest.mark.parametrize(
    ("gpus", "tpot", "says"),
    [
        ([1], 0.003, "no design on 1 GPU keeps TPOT <= 3 ms; the best is "),
        ([1, 2], 0.003, "no design on 1 or 2 GPUs keeps TPOT <= 3 ms; the best is "),
        ([1], 0.03, "1 GPU keeps TPOT <= 30 ms with "),
        ([1, 2], 0.03, "1 GPU keeps TPOT <= 30 ms with "),
    ],
)
def test_counts_of_gpus_are_told_as_people_say_them(gpus, tpot, says):
    stated = Problem("llama-3.1-8b", "h100-sxm", gpus=gpus, context=[8192.0])
    (row,) = solve_for(stated, "gpus", tpot=tpot).rows()
    assert row["message"].startswith(says)


def test_the_picture_of_a_target_says_what_is_met():
    stated = Problem(["llama-3.1-8b", "qwen3-8b"], "h100-sxm", gpus=[1, 2], context=[8192.0])
    title = solve_for(stated, "gpus", tpot=0.006).plot().get_title(loc="left").replace("\n", " ")
    assert title == (
        "llama-3.1-8b and qwen3-8b: whether TPOT <= 6 ms is met changes with the number of GPUs in "
        "both cases"
    )
