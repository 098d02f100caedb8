"""The contest at equal interactivity equals brute force, and its probability that of draws."""

import dataclasses
import math

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from serving_cases import brute_force, problem
from tolerances import EXACT

import qsjax as qs
from qsjax.cli import cli
from qsjax.grid.batches import SPACING
from qsjax.questions.moe_or_dense import (
    MOST_LOG,
    _finding,
    _verdict_words,
    break_even,
    chance,
    speedup_at,
)

LARGEST = 160
BATCHES = np.arange(1.0, LARGEST + 1)
TPOTS = (0.012, 0.02, 0.04)
Q = qs.uniform(1.2, 6.0)


def asked(convention="physical", **more):
    return problem(convention, twins=(), **more)


@pytest.fixture(scope="module", params=["physical", "paper"])
def answer(request):
    return qs.moe_or_dense(asked(request.param, batch=BATCHES.tolist()), TPOTS, Q, nodes=5)


def rates(own, q, limits):
    """Most tokens/s/GPU of MoE and twins within each limit, by every partition at every batch."""
    found, runs = brute_force(dataclasses.replace(own, twins=tuple(map(float, q))), BATCHES)
    for limit in limits:
        keeps = [run & (row["tpot"] <= limit) for row, run in zip(found, runs, strict=True)]
        yield [
            np.max(row["tokens_per_s_per_gpu"], where=own, initial=0.0)
            for row, own in zip(found, keeps, strict=True)
        ]


def test_every_speed_up_is_that_of_brute_force(answer):
    own = answer.problem
    for contest in answer.contests:
        under = dataclasses.replace(own, convention=contest.convention)
        fronts = [contest.moe[0], *(front[0] for front in contest.twins[::2])]
        limits = (*TPOTS, np.inf)
        searched = rates(under, np.exp(contest.log_q[::2]), limits)
        for limit, best in zip(limits, searched, strict=True):
            ours = [max(f.gpu[f.step.tpot <= limit], default=0.0) for f in fronts]
            np.testing.assert_allclose(ours, best, rtol=EXACT)


def test_the_probability_is_the_share_of_draws_that_the_twin_wins(answer):
    """Each q evenly from its distribution, searched anew by brute force."""
    own = dataclasses.replace(answer.problem, convention=answer.contests[0].convention)
    levels = (np.arange(24) + 0.5) / 24
    limits = (TPOTS[0], np.inf)
    drawn = np.split(stats.uniform(1.2, 4.8).ppf(levels), 6)  # all at once would take gigabytes
    for limit, *searched in zip(limits, *(rates(own, q, limits) for q in drawn), strict=True):
        share = np.mean([np.array(dense) > moe for moe, *dense in searched])
        row = next(r for r in answer.rows() if r["tpot_limit"] == limit)
        assert row["p_dense_wins"] == pytest.approx(share, abs=2.0 / 24)


def test_the_rows_name_the_designs_and_the_largest_batch_is_the_papers_point(answer):
    for row in answer.rows():
        for side in ("moe", "dense"):
            if side in row:
                assert row[side]["tpot"] <= row["tpot_limit"]
        assert row["winner"] in ("moe", "dense", "neither")
        assert row["p_dense_wins"] + row["p_moe_wins"] <= 1.0 + EXACT
    own = answer.problem
    free = dataclasses.replace(own, batch="best", twins=(3.6,), limits=qs.Limits())
    best = {row["variant"]: row["tokens_per_s_per_gpu"] for row in qs.explore(free).rows()}
    last = next(row for row in answer.rows() if math.isinf(row["tpot_limit"]))
    assert last["tokens_per_s_per_gpu_moe"] == pytest.approx(best["moe"], rel=SPACING)
    assert last["speedup_over_moe"] == pytest.approx(best["dense"] / best["moe"], rel=SPACING)


def test_a_looser_limit_is_never_worse(answer):
    for contest in answer.contests:
        rows = [r for r in answer.rows() if r["convention"] == contest.convention]
        moe = [row.get("tokens_per_s_per_gpu_moe", 0.0) for row in rows]
        assert moe == sorted(moe)


def test_the_chance_of_a_line_is_its_distributions_probability():
    log_q = np.log(np.geomspace(1.0, 20.0, 9))
    given = qs.lognormal(5.0, 0.3)
    for even in (3.0, 5.0, 8.0):
        gain = 0.7 * (math.log(even) - log_q)
        expected = stats.norm.cdf(math.log(even / 5.0) / 0.3)
        assert chance(log_q, gain, given) == pytest.approx(expected, abs=1e-12)
        assert chance(log_q, -gain, given) == pytest.approx(1.0 - expected, abs=1e-12)
        assert break_even(log_q, gain) == pytest.approx(even, rel=1e-12)
        assert speedup_at(log_q, gain, math.log(5.0)) == pytest.approx((even / 5.0) ** 0.7)


def test_two_crossings_count_twice():
    log_q, given = np.log(np.array([1.0, 2.0, 4.0, 8.0])), qs.uniform(1.0, 8.0)
    between = chance(log_q, np.array([-1.0, 1.0, 1.0, -1.0]), given)
    ends = np.exp([0.5 * np.log(2.0), np.log(4.0) + 0.5 * np.log(2.0)])
    assert between == pytest.approx((ends[1] - ends[0]) / 7.0)


def test_a_side_that_cannot_serve_has_lost():
    log_q, given = np.log(np.array([1.0, 2.0, 4.0])), qs.uniform(1.0, 4.0)
    assert chance(log_q, np.full(3, -np.inf), given) == 0.0
    assert chance(log_q, np.full(3, np.inf), given) == 1.0
    assert break_even(log_q, np.full(3, -np.inf)) == 0.0
    assert break_even(log_q, np.full(3, np.inf)) == np.inf
    assert speedup_at(log_q, np.array([0.0, 0.0, -np.inf]), math.log(3.9)) == 0.0
    assert np.exp(-MOST_LOG) < EXACT


def test_the_answer_is_saved_drawn_and_labelled(answer, tmp_path):
    data = answer.dataset
    assert data["tpot_limit"].attrs["units"] == "s"
    assert data.sizes["tpot_limit"] == len(TPOTS) + 1
    names = {path.name for path in answer.save(tmp_path)}
    convention = answer.problem.convention
    assert {f"{convention}.svg", "moe-or-dense.csv", "moe-or-dense.nc"} <= names
    assert "the dense twin wins" in answer.summary().splitlines()[0]
    drawn = answer.plot(convention)
    assert len(drawn.texts) == len(TPOTS) + 1
    assert "wins" in drawn.get_title(loc="left")


def test_the_papers_accounting_appears_only_where_it_is_asked_for():
    for asked_for, told in (("physical", [""]), ("both", ["physical", "paper"])):
        found = qs.moe_or_dense(asked(asked_for), [0.02], Q, nodes=3)
        assert len(found.contests) == len(found.tables()) == len(found.drawings()) == len(told)
        for line, name in zip(found.findings(), told, strict=True):
            assert line.partition(":")[0].endswith(f"{name} accounting" if name else "h100-sxm")


def test_only_a_sure_lead_is_called_a_win():
    """At even chances, and at 0.4 % more, nobody wins; at 90 % somebody does."""
    even = {"winner": "moe", "p_dense_wins": 0.5, "p_moe_wins": 0.5, "speedup_over_moe": 1.004}
    sure = even | {"p_dense_wins": 0.1, "p_moe_wins": 0.9, "speedup_over_moe": 0.8}
    assert _verdict_words(even) == "equal"
    assert _verdict_words(sure) == "moe x1.25 (90 %)"
    place = {"is_feasible": True, "tpot_limit": math.inf}
    rows = [even | place | {"context": 1024}, sure | place | {"context": 8192}]
    said = "the MoE wins at 8k at the largest batch; 1 of 2 cases depends on q"
    assert _finding(rows) == said
    assert _finding(rows[:1]) == "which of them wins depends on q in every case"
    near = [rows[1] | {"chance_over_moe": 0.3, "context": at} for at in (1024, 8192)]
    said = "the MoE wins at every context at the largest batch; 2 of 2 leads are within the error"
    assert _finding(near).startswith(said)
    assert "; 1 of 2 leads is within the error" in _finding([rows[1], near[0]])


def test_a_lead_within_the_error_of_the_time_model_is_marked():
    """The twin "wins" by 2.1 times at 20 ms and 32k, of which an error of 25 % leaves nothing."""
    found = qs.moe_or_dense(
        qs.Problem("deepseek-v3", "h200-sxm", gpus=64, context=["1k", "32k"]), [0.02], nodes=3
    )
    by = {(row["context"], row["tpot_limit"]): row for row in found.rows()}
    hurried, patient = by[32768, 0.02], by[1024, math.inf]
    assert hurried["p_dense_wins"] > 0.99
    assert 0.5 < hurried["chance_over_moe"] < 0.9
    assert patient["chance_over_moe"] < 0.1
    assert _verdict_words(hurried).startswith("dense x2.11* (")
    assert "*" not in _verdict_words(patient)
    count = sum(0.1 < row["chance_over_moe"] < 0.9 for row in found.rows())
    assert f"; {count} of 4 leads are within the error of the time model." in found.summary()
    paper = qs.moe_or_dense(asked("paper"), [0.02], Q, nodes=3)
    assert "chance_over_moe" not in paper.rows()[0]


def test_nothing_that_serves_is_an_answer():
    found = qs.moe_or_dense(asked(gpus=1, context=1e6), [0.02], nodes=3)
    assert {row["winner"] for row in found.rows()} == {"neither"}
    assert found.drawings() == {}
    assert "neither serves" in found.summary()


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({}, {"tpots": [0.0, 0.1]}, "give a number above 0"),
        ({}, {"tpots": []}, "give a number above 0"),
        ({}, {"nodes": 2}, "at least 3"),
        ({}, {"q": qs.uniform(0.0, -1.0)}, "low below high"),
        ({"limits": qs.Limits(max_tpot=0.05)}, {}, "limits.max_tpot"),
        ({"model": "llama-3.1-8b"}, {}, "dense already"),
        ({"twins": (5.0,)}, {}, "leave twins out"),
    ],
)
def test_mistakes_are_told(change, arguments, says):
    with pytest.raises(ValueError, match=says):
        qs.moe_or_dense(dataclasses.replace(asked(), **change), **arguments)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ValueError, match="nodes") as caught:
        qs.moe_or_dense(dataclasses.replace(asked(), twins=(5.0,)), [-1.0], nodes=1)
    assert len(str(caught.value).splitlines()) == 3


def test_the_verb_prints_a_map_and_tells_mistakes():
    flags = ["moe-or-dense", "mixtral-8x7b", "--hardware", "h100-sxm", "--gpus", "2"]
    done = CliRunner().invoke(cli, [*flags, "--context", "32k", "--tpot", "30ms", "--nodes", "3"])
    assert done.exit_code == 0, done.output
    first, _, title = done.output.splitlines()[:3]
    assert first == "mixtral-8x7b on 2 h100-sxm: which of them wins depends on q in every case."
    assert title.endswith("winner within each TPOT, its lead and how sure that is")
    for wrong, says in (
        (["--tpot", "30"], "no unit"),
        (["--q", "lognormal:5"], "lognormal takes"),
        (["--q", "5"], "is not a distribution"),
    ):
        done = CliRunner().invoke(cli, [*flags, *wrong])
        assert done.exit_code == 2, wrong
        assert says in " ".join(done.output.split())
