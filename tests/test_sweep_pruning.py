"""Sweeps that bounds decide, against the same sweeps with every design evaluated."""

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import qsjax as qs
from qsjax.cli import cli
from qsjax.streaming import pruning
from qsjax.streaming.asked import Options, job_of
from qsjax.streaming.plan import make_plan
from qsjax.streaming.run import Outputs, sweep

WINS = Outputs(winners=False, top_k=0, wins=True)
RATES = {"hbm_bw": 3.35e12, "inter_bw": 5e10, "intra_bw": 4.5e11, "flops_fp8": 1.979e15}


def around(names, steps, reach=2.0):
    """Values of hardware numbers around those of an H100."""
    return {n: np.geomspace(RATES[n] / reach, RATES[n] * reach, steps) for n in names}


def both(problem, **options):
    """A sweep decided by bounds and one evaluated whole, with their plan."""
    job, axes = job_of(problem, Options())
    plan = make_plan(job.records, axes, job.convention)
    own = pruning.pruned(job, plan, WINS, is_asked=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            patch.setattr(pruning, name, value)
        found, _ = sweep(job, own, WINS)
    return found, sweep(job, plan, WINS)[0], own


def assert_same(found, full, plan):
    """The same winners in as many cells, and the same counts of every design."""
    np.testing.assert_array_equal(found.wins, full.wins)
    np.testing.assert_array_equal(found.reasons, full.reasons)
    assert found.computed == full.computed == math.prod(plan.kept) * len(plan.designs)
    assert found.feasible == full.feasible
    assert found.doubtful == 0


LIMITED = qs.Limits(max_tpot=0.03, min_user_rate=25.0)
CASES = {
    "two models": {
        "model": ["mixtral-8x7b", "qwen3-235b-a22b"],
        "gpus": 8,
        "context": ["8k", "64k"],
    },
    "with twins, on two counts": {"model": "deepseek-v3", "gpus": [16, 32], "twins": [2, 5]},
    "paper": {"model": "deepseek-v3", "gpus": 32, "twins": [5], "convention": "paper"},
    "nothing fits": {"model": "deepseek-v3", "gpus": [2, 16], "context": ["8k"]},
    "few fit": {"model": "mixtral-8x7b", "gpus": 2, "context": ["8k", "512k"], "weights": "bf16"},
    "for the user": {
        "model": "deepseek-v3",
        "gpus": 16,
        "objective": "tpot",
        "context": ["8k", "64M"],  # of which the longer one fits nowhere
    },
    "at given batches": {"model": "mixtral-8x7b", "gpus": 8, "batch": [1, 64]},
    "dense": {"model": "llama-3.1-8b", "gpus": 8},
}


# Those of which every winner is asked for too: compiled programs are large, so each case has one.
WHOLE = ("with twins, on two counts", "paper", "for the user")


def asked_of(name):
    steps = around(["hbm_bw", "inter_bw"], 9)
    stated = {"context": ["8k", "128k"], **CASES[name]}
    return qs.Problem(hardware="h100-sxm", axes={**steps, "step_overhead": [0, 1e-3]}, **stated)


@pytest.mark.parametrize("name", [name for name in CASES if name not in WHOLE])
def test_bounds_and_evaluation_agree_on_every_winner(name):
    found, full, plan = both(asked_of(name), SMALL=4)
    assert_same(found, full, plan)
    assert found.evaluated < 0.2 * full.evaluated


@pytest.mark.parametrize("name", WHOLE)
def test_winners_scores_and_top_designs_are_bit_identical(name, monkeypatch):
    monkeypatch.setattr(pruning, "SMALL", 4)
    problem = asked_of(name)
    job, grid = job_of(problem, Options())
    plan = make_plan(job.records, grid, job.convention)
    wanted = Outputs(top_k=10, wins=True)
    own = pruning.pruned(job, plan, wanted, is_asked=True)
    found, cells = sweep(job, own, wanted)
    full, every = sweep(job, plan, wanted)
    assert own.few is not None
    assert len(own.few.at) == 128
    for key, values in every.items():
        assert cells[key].dtype == values.dtype
        np.testing.assert_array_equal(cells[key], values)
    assert_same(found, full, plan)
    assert found.evaluated <= full.evaluated / 3  # the winners are evaluated, in every cell
    for ours, theirs in zip(found.best, full.best, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_limits_leave_out_the_count_of_feasible_designs_alone():
    axes = around(["hbm_bw", "inter_bw"], 12)
    problem = qs.Problem(
        "deepseek-v3", "h100-sxm", gpus=32, context="32k", limits=LIMITED, axes=axes
    )
    found, full, _ = both(problem, SMALL=4)
    np.testing.assert_array_equal(found.wins, full.wins)
    np.testing.assert_array_equal(found.reasons, full.reasons)
    assert 0 < full.wins[1].sum() < 144  # in some cells no design keeps the limits
    assert found.evaluated < 0.2 * full.evaluated


def test_capacity_is_no_axis_of_the_boxes():
    axes = around(["hbm_bw", "inter_bw"], 5)
    job, grid = job_of(
        qs.Problem(
            "mixtral-8x7b",
            "h100-sxm",
            gpus=8,
            context=["8k", "64k"],
            axes={"hbm_bytes": [4e10, 8e10], "island_size": [4, 8], **axes},
        ),
        Options(),
    )
    plan = make_plan(job.records, grid, job.convention)
    assert set(pruning.inner_axes(job, plan)) == {"hbm_bw", "inter_bw"}


@cache
def searched():
    """A place with a box of three axes, and the winner of each of its cells, all evaluated."""
    axes = around(["hbm_bw", "inter_bw", "flops_fp8"], 8)
    problem = qs.Problem("deepseek-v3", "h100-sxm", gpus=32, context="32k", axes=axes)
    job, grid = job_of(problem, Options())
    plan = make_plan(job.records, grid, job.convention)
    names = [axis.name for axis in plan.axes.kept]
    inner = {axis.name: axis.values for axis in plan.axes.kept if axis.name in axes}
    outer = {axis.name: axis.values[0] for axis in plan.axes.kept if axis.name not in axes}
    winners = sweep(job, plan)[1]["position"]
    order = [names.index(name) for name in inner]
    return pruning.Place(job, plan, outer, inner), winners.squeeze().reshape(8, 8, 8), len(order)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 8)), min_size=3, max_size=3))
def test_no_winner_of_a_cell_is_dropped_and_small_boxes_have_the_right_ones(ends):
    place, winners, _ = searched()
    low = np.array([[a] for a, _ in ends])
    high = np.array([[min(8, a + n)] for a, n in ends])
    start = place.start()._replace(low=low, high=high)
    parts = place.cut(place.cut(start))
    cells = [slice(int(a), int(b)) for a, b in zip(low[:, 0], high[:, 0], strict=True)]
    assert parts.cells.sum() == start.cells[0]
    for k in range(len(parts.number)):
        own = [slice(a, b) for a, b in zip(parts.low[:, k], parts.high[:, k], strict=True)]
        left = parts.at[: parts.number[k], k]
        assert np.isin(winners[tuple(own)], left).all()
    picked = place.pick(start)
    np.testing.assert_array_equal(picked.winner[..., 0], winners[tuple(cells)])


def test_equal_designs_are_one_and_the_first_of_them_wins():
    axes = {**around(["hbm_bw"], 64), "overlap_tp": [0.0, 0.5]}
    problem = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, twins=[3], context="8k", axes=axes)
    found, full, plan = both(problem)
    assert_same(found, full, plan)


def stated(steps):
    axes = around(["hbm_bw", "inter_bw"], steps)
    return qs.Problem("deepseek-v3", "h100-sxm", gpus=32, context=["8k", "64k"], axes=axes)


def test_bounds_decide_by_themselves_where_that_is_predicted_to_pay():
    for steps, is_expected in ((4, False), (2000, True)):
        job, axes = job_of(stated(steps), Options())
        plan = make_plan(job.records, axes, job.convention)
        assert pruning.pruned(job, plan, WINS, is_asked=False).pruned is is_expected
        kept = dataclasses.replace(WINS, pareto=True)
        assert not pruning.pruned(job, plan, kept, is_asked=False).pruned


def test_the_question_says_what_was_decided_and_goes_on_after_a_stop(tmp_path):
    asked = {"winners": False, "top_k": 0, "wins": True}
    found = qs.sweep(stated(12), tmp_path / "bounds", prune=True, chunk=20_000, **asked)
    full = qs.sweep(stated(12), tmp_path / "all", prune=False, **asked)
    assert found.wins().equals(full.wins())
    assert found.wins()["wins"].sum() == 2 * 144
    assert found.wins()["share"].sum() == pytest.approx(1.0)
    assert "% of them by bounds without evaluation" in found.summary()
    assert "bounds" not in full.summary()
    chunks = sorted((tmp_path / "bounds" / "chunks").iterdir())
    assert len(chunks) > 1
    chunks[1].unlink()
    again = qs.sweep(
        stated(12), tmp_path / "bounds", prune=True, chunk=20_000, resume=True, **asked
    )
    assert again.counts == found.counts
    assert again.wins().equals(full.wins())


def test_what_needs_every_winner_cannot_be_pruned(tmp_path):
    with pytest.raises(ValueError, match=r"prune.*leave out pareto, statistics"):
        qs.sweep(stated(4), tmp_path / "out", prune=True, pareto=True, statistics=["tpot"])
    problem = qs.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=["8k", "64k"])
    with pytest.raises(ValueError, match="name two or more values of a rate or latency"):
        qs.sweep(problem, tmp_path / "out", prune=True, winners=False, top_k=0, wins=True)


def test_the_command_takes_wins_from_the_file(tmp_path):
    spec = tmp_path / "study.toml"
    spec.write_text(
        """
[sweep]
models = ["mixtral-8x7b"]
hardware = ["h100-sxm"]
[axes]
gpus = [8]
context = [8192]
hbm_bw = {from = 2e12, to = 5e12, steps = 30}
inter_bw = {from = 2e10, to = 1e11, steps = 30}
[outputs]
winners = false
top_k = 0
wins = true
"""
    )
    texts = []
    for flag in ("--prune", "--no-prune"):
        out = tmp_path / flag
        ran = CliRunner().invoke(
            cli, ["sweep", str(spec), "--out", str(out), flag, "--devices", "8"]
        )
        assert ran.exit_code == 0, ran.output
        assert ("by bounds" in ran.output) is (flag == "--prune")
        texts.append((out / "wins.csv").read_text())
    assert texts[0] == texts[1]
    assert texts[0].startswith("model,hardware,tp,ep,pp,dp,kvp,kv_mode,wins,share\n")
