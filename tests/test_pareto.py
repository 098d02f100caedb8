"""The front equals brute force, and what the ladder leaves out is bounded."""

import dataclasses

import jax
import numpy as np
import pytest
from designs import random_designs, records
from serving_cases import brute_force, problem
from tolerances import EXACT, MONOTONE

from qsjax.grid.batches import DENSE, SPACING
from qsjax.grid.limits import Limits
from qsjax.grid.search import evaluate
from qsjax.questions import pareto as pareto_module
from qsjax.questions.pareto import Points, absorb, front_of, pareto
from qsjax.records.scenario import Records
from qsjax.records.specs import KV_MODES, PAPER, PHYSICAL, Partition

CONVENTIONS = pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
LARGEST = 160


def undominated(user, gpu):
    """The front of a list, by comparing every point with every other."""
    points = np.unique(np.stack([user, gpu], axis=1), axis=0)
    u, g = points.T
    beaten = [np.any((u >= a) & (g >= b) & ((u > a) | (g > b))) for a, b in points]
    return points[~np.array(beaten)][::-1]


@CONVENTIONS
def test_the_front_is_that_of_brute_force(convention):
    problem_records, axes = problem(convention)
    found, runs = brute_force(problem_records, axes, convention, np.arange(1.0, LARGEST + 1))
    assert found["batch"][runs].max() < LARGEST  # every batch that fits is among them
    fronts = pareto(problem_records, axes, convention, every_batch=True)
    for front, cell in zip(fronts, np.ndindex(runs.shape[:-1]), strict=True):
        rates = (found[f"tokens_per_s_per_{x}"][cell][runs[cell]] for x in ("user", "gpu"))
        expected = undominated(*rates)
        assert len(front.user) > 10
        np.testing.assert_allclose(np.stack([front.user, front.gpu], 1), expected, rtol=EXACT)
        assert front.spacing == 0.0
        assert front.evaluated <= front.decided


@CONVENTIONS
def test_every_point_is_the_design_behind_it(convention):
    problem_records, axes = problem(convention)
    for front, i in zip(pareto(problem_records, axes, convention), range(2), strict=True):
        modes = np.array([KV_MODES[mode] for mode in front.design["kv_mode"]])
        partition = Partition(**(front.design | {"kv_mode": modes}))
        model = jax.tree.map(lambda x, at=i: x[at], problem_records.model)
        workload = dataclasses.replace(problem_records.workload, context=65536.0, batch=front.batch)
        at = Records(model, problem_records.hardware, partition, workload, front.gpus)
        step = evaluate(at, convention)
        assert (np.asarray(step.reasons) == 0).all()
        np.testing.assert_allclose(step.tokens_per_s_per_user, front.user, rtol=EXACT)
        np.testing.assert_allclose(step.tokens_per_s_per_gpu, front.gpu, rtol=EXACT)


def test_the_ladder_loses_no_more_than_its_spacing():
    problem_records, axes = problem(PHYSICAL, contexts=(2048.0,))
    whole = pareto(problem_records, axes, PHYSICAL, every_batch=True)
    for front, full in zip(pareto(problem_records, axes, PHYSICAL), whole, strict=True):
        assert 0 < front.spacing <= max(SPACING, 1 / DENSE)
        assert front.decided < full.decided
        for user, gpu in zip(full.user, full.gpu, strict=True):
            as_fast = front.gpu[front.user >= user * (1 - MONOTONE)]
            assert as_fast.max() >= gpu / (1 + front.spacing)
        assert front.gpu[-1] == full.gpu[-1]  # the largest batch that fits is never left out


def test_a_list_of_batches_is_taken_as_it_is():
    problem_records, axes = problem(PHYSICAL, batch=[4.0, 9.0])
    for front in pareto(problem_records, axes, PHYSICAL):
        assert set(front.batch) <= {4.0, 9.0}
    fixed = dataclasses.replace(problem_records.workload, batch=5.0)
    for front in pareto(problem_records._replace(workload=fixed), problem(PHYSICAL)[1], PHYSICAL):
        assert set(front.batch) == {5.0}


def test_limits_cut_the_front():
    problem_records, axes = problem(PHYSICAL)
    slowest = 2.0 / min(front.user.max() for front in pareto(problem_records, axes, PHYSICAL))
    limit = Limits(max_tpot=slowest, max_pp=1.0)
    for front in pareto(problem_records, axes, PHYSICAL, limits=limit, every_batch=True):
        assert len(front.user) > 0
        assert (1 / front.user <= slowest).all()
        assert (front.design["pp"] == 1).all()


def test_a_front_with_more_points_than_room_is_done_again(monkeypatch):
    problem_records, axes = problem(PHYSICAL)
    expected = pareto(problem_records, axes, PHYSICAL)
    monkeypatch.setattr(pareto_module, "CAPACITY", 16)
    for small, front in zip(pareto(problem_records, axes, PHYSICAL), expected, strict=True):
        assert (small.user == front.user).all()
        assert (small.batch == front.batch).all()


def test_of_equal_points_the_one_with_fewest_gpus_stays():
    points = Points(
        *(np.array(x, float) for x in ([2, 2, 2], [3, 3, 3], [8, 4, 4], [0, 2, 1], [1] * 3))
    )
    front, count = front_of(points, 3)
    assert int(count) == 1
    assert (float(front.gpus[0]), float(front.row[0])) == (4.0, 1.0)
    assert front.user[1] == -np.inf


def test_cells_of_all_kinds_share_one_compilation():
    problem_records, axes = problem(PHYSICAL, contexts=(4096.0, 32768.0))
    before = absorb._cache_size()
    pareto(problem_records, axes, PHYSICAL)
    more, other = problem(PHYSICAL, gpus=(4, 8), contexts=(8192.0,))
    pareto(more, other, PHYSICAL, limits=Limits(max_tpot=0.1))
    assert absorb._cache_size() <= before + 1


@CONVENTIONS
def test_tpot_does_not_fall_with_the_batch(convention):
    # The bound of the ladder and the bisection under a TPOT limit rest on it.
    designs = random_designs(7, convention, True, 4000)
    model, hardware, partition, workload, _, _ = records(designs, convention, {})
    low = dataclasses.replace(workload, batch=np.maximum(1.0, np.floor(designs.workload["batch"])))
    high = dataclasses.replace(workload, batch=low.batch + np.ceil(0.02 * low.batch))
    first, second = (
        np.asarray(evaluate(Records(model, hardware, partition, w, None), convention).tpot)
        for w in (low, high)
    )
    assert (second >= first * (1 - MONOTONE)).all()
    assert (second > first).any()


def test_an_empty_cell_has_an_empty_front():
    problem_records, axes = problem(PHYSICAL, contexts=(2.0**39,))
    for front in pareto(problem_records, axes, PHYSICAL):
        assert len(front.user) == 0
        assert front.decided > 0
