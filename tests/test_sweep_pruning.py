"""Sweeps that bounds decide, against the same sweeps with every design evaluated."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsjax as qs
from qsjax.grid.axes import place
from qsjax.streaming import plan as planning
from qsjax.streaming import pruning, results
from qsjax.streaming.plan import make_plan
from qsjax.streaming.question import job_of
from qsjax.streaming.run import Outputs, sweep

WINS = Outputs(winners=False, top_k=0, wins=True)
RATES = {"hbm_bw": 3.35e12, "inter_bw": 5e10, "intra_bw": 4.5e11, "flops_fp8": 1.979e15}


def around(names, steps, reach=2.0):
    """Values of hardware numbers around those of an H100."""
    return {n: np.geomspace(RATES[n] / reach, RATES[n] * reach, steps) for n in names}


def both(problem, **options):
    """A sweep decided by bounds and one evaluated whole, with their plan."""
    job, axes = job_of(problem, "float64", ())
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
    assert found.computed == full.computed == plan.cells_computed
    assert found.feasible == full.feasible
    assert found.doubtful == 0


CASES = {
    "two models": dict(model=["mixtral-8x7b", "qwen3-235b-a22b"], gpus=8, context=["8k", "64k"]),
    "with twins, on two counts": dict(model="deepseek-v3", gpus=[16, 32], twins=[2, 5]),
    "paper": dict(model="deepseek-v3", gpus=32, twins=[5], convention="paper"),
    "nothing fits": dict(model="deepseek-v3", gpus=[2, 16], context=["8k"]),
    "few cells run": dict(model="mixtral-8x7b", gpus=2, context=["8k", "512k"], weights="bf16"),
    "for the user": dict(model="deepseek-v3", gpus=16, objective="tpot"),
    "at given batches": dict(model="mixtral-8x7b", gpus=8, batch=[1, 64]),
    "dense": dict(model="llama-3.1-8b", gpus=8),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_bounds_and_evaluation_agree_on_every_winner(case):
    stated = {"context": ["8k", "128k"], **case}
    steps = around(["hbm_bw", "inter_bw"], 9)
    problem = qs.Problem(hardware="h100-sxm", axes={**steps, "step_overhead": [0, 1e-3]}, **stated)
    found, full, plan = both(problem, SMALL=4)
    assert_same(found, full, plan)
    assert found.evaluated < 0.2 * full.evaluated
