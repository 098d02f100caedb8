"""The front equals brute force, and what the ladder leaves out is bounded."""

import dataclasses

import numpy as np
import pytest
from designs import random_designs, records
from serving_cases import CONTEXT, GPU, MODEL, WORK, brute_force, problem, specs_of
from tolerances import EXACT, MONOTONE

from qsjax.cost.decode import decode_step, evaluate
from qsjax.grid import pairs
from qsjax.grid.batches import DENSE, SPACING
from qsjax.grid.fronts import Points, front_of
from qsjax.grid.infeasibility import RATES
from qsjax.grid.limits import Limits
from qsjax.grid.problem import Problem
from qsjax.questions.pareto import pareto
from qsjax.records.specs import CONVENTIONS as CONVENTIONS_BY_NAME
from qsjax.records.specs import DEGREES, KV_MODES, PHYSICAL, Partition, Records

CONVENTIONS = pytest.mark.parametrize("convention", ["physical", "paper"])
LARGEST = 160


def undominated(user, gpu):
    """The front of a list, by comparing every point with every other."""
    points = np.unique(np.stack([user, gpu], axis=1), axis=0)
    u, g = points.T
    beaten = [np.any((u >= a) & (g >= b) & ((u > a) | (g > b))) for a, b in points]
    return points[~np.array(beaten)][::-1]


@CONVENTIONS
def test_the_front_is_that_of_brute_force(convention):
    asked = problem(convention)
    found, runs = brute_force(asked, np.arange(1.0, LARGEST + 1))
    answer = pareto(asked, every_batch=True)
    for front, row, run in zip(answer.fronts, found, runs, strict=True):
        assert row["batch"][run].max() < LARGEST  # every batch that fits is among them
        expected = undominated(*(row[f"tokens_per_s_per_{x}"][run] for x in ("user", "gpu")))
        assert len(front.user) > 10
        np.testing.assert_allclose(np.stack([front.user, front.gpu], 1), expected, rtol=EXACT)
        assert front.spacing == 0.0
        assert front.evaluated <= front.decided
    assert answer.refused == ()


@CONVENTIONS
def test_every_row_is_the_design_behind_its_point(convention):
    asked = problem(convention)
    rows = pareto(asked).rows()
    assert {row["label"] for row in rows} == {"MoE", "dense q=2"}
    for spec, label in zip(specs_of(asked), ("MoE", "dense q=2"), strict=True):
        own = [row for row in rows if row["label"] == label]
        column = {name: np.array([row[name] for row in own], float) for name in (*DEGREES, "batch")}
        modes = np.array([KV_MODES["kvp" if r["kvp"] == 1 else r["kv_mode"]] for r in own])
        batch = column.pop("batch")
        part, work = Partition(**column, kv_mode=modes), WORK.replace(context=CONTEXT, batch=batch)
        at = Records(spec, GPU, part, work, np.full(len(own), 8.0))
        step = evaluate(at, CONVENTIONS_BY_NAME[convention])
        assert (np.asarray(step.reasons) == 0).all()
        for name in ("tpot", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "replicas"):
            told = [row[name] for row in own]
            np.testing.assert_allclose(getattr(step, name), told, rtol=EXACT)


def test_the_ladder_loses_no_more_than_its_spacing():
    asked = problem(context=2048.0)
    whole = pareto(asked, every_batch=True).fronts
    for front, full in zip(pareto(asked).fronts, whole, strict=True):
        assert 0 < front.spacing <= max(SPACING, 1 / DENSE)
        assert front.decided < full.decided
        for user, gpu in zip(full.user, full.gpu, strict=True):
            as_fast = front.gpu[front.user >= user * (1 - MONOTONE)]
            assert as_fast.max() >= gpu / (1 + front.spacing)
        assert front.gpu[-1] == full.gpu[-1]  # the largest batch that fits is never left out


def test_a_list_of_batches_is_taken_as_it_is():
    for front in pareto(problem(batch=[4.0, 9.0])).fronts:
        assert set(front.batch) <= {4.0, 9.0}
        assert len(front.user) > 0
    for front in pareto(problem(workload=WORK.replace(batch=5.0))).fronts:
        assert set(front.batch) == {5.0}


def test_limits_cut_the_front():
    slowest = 2.0 / min(front.user.max() for front in pareto(problem()).fronts)
    limit = Limits(max_tpot=slowest, max_pp=1.0)
    for front in pareto(problem(limits=limit), every_batch=True).fronts:
        assert len(front.user) > 0
        assert (1 / front.user <= slowest).all()
        assert all(row["pp"] == 1 for row in front.rows())


def test_of_equal_points_the_one_with_fewest_gpus_stays():
    points = Points(
        *(np.array(x, float) for x in ([2, 2, 2], [3, 3, 3], [8, 4, 4], [0, 2, 1], [1] * 3))
    )
    front = front_of(points)
    assert (front.gpus.tolist(), front.row.tolist()) == ([4.0], [1.0])


def test_blocks_of_any_size_give_one_front(monkeypatch):
    expected = pareto(problem(), every_batch=True).fronts
    monkeypatch.setattr(pairs, "CELLS", 100)
    for small, front in zip(pareto(problem(), every_batch=True).fronts, expected, strict=True):
        assert small.evaluated < front.evaluated  # narrower blocks repeat less
        assert (small.user == front.user).all()
        assert (small.batch == front.batch).all()


def test_prices_are_those_of_the_problem():
    economy = {"usd_per_hour": 2.0, "utilisation": 0.5}
    rows = pareto(problem(economy=economy, twins=())).rows()
    for row in rows:
        rate = row["tokens_per_s_per_gpu"]
        assert row["usd_per_million_tokens"] == pytest.approx(1e6 * 2 / 3600 / rate / 0.5)
    for row in rows[:: len(rows) // 4]:
        rate = row["tokens_per_s_per_gpu"]
        degrees = {name: row[name] for name in DEGREES}
        split = Partition(**degrees, kv_mode=KV_MODES["kvp" if row["kvp"] == 1 else row["kv_mode"]])
        work = WORK.replace(context=CONTEXT, batch=float(row["batch"]))
        step = decode_step(Records(MODEL, GPU, split, work, 8.0), PHYSICAL)
        load = 0.5 * sum(float(x) for x in (*step.compute, *step.hbm.phases())) / float(step.tpot)
        drawn = GPU.watts * min(1.0, GPU.power_base + GPU.power_gain * load**GPU.power_exponent)
        assert row["joules_per_token"] == pytest.approx(drawn / rate)
    stated = economy | {"watts": 700.0}
    for row in pareto(problem(economy=stated, twins=())).rows():
        assert row["joules_per_token"] == pytest.approx(700.0 / row["tokens_per_s_per_gpu"])
    with pytest.raises(ValueError, match="economy: usd is not known; give some of usd_per_hour"):
        problem(economy={"usd": 2.0})


def test_an_answer_has_units_and_a_picture(tmp_path):
    answer = pareto(problem(twins=()))
    assert answer.dataset.tpot.attrs["units"] == "s"
    assert answer.dataset.sizes["point"] == len(answer.rows())
    names = {path.name for path in answer.save(tmp_path)}
    assert names == {"inputs.json", "result.json", "pareto.csv", "pareto.nc", "pareto.svg"}


@CONVENTIONS
def test_tpot_does_not_fall_with_the_batch(convention):
    # The bound of the ladder and the bisection under a TPOT limit rest on it.
    convention = CONVENTIONS_BY_NAME[convention]
    designs = random_designs(7, convention, True, 4000)
    made = records(designs, convention, {})[0]._replace(gpus=None)
    low = dataclasses.replace(
        made.workload, batch=np.maximum(1.0, np.floor(designs.workload["batch"]))
    )
    high = dataclasses.replace(made.workload, batch=low.batch + np.ceil(0.02 * low.batch))
    first, second = (
        np.asarray(evaluate(made._replace(workload=w), convention).tpot) for w in (low, high)
    )
    assert (second >= first * (1 - MONOTONE)).all()
    assert (second > first).any()


def test_an_empty_cell_has_an_empty_front_and_says_why():
    answer = pareto(problem(context=2.0**39))
    assert answer.rows() == []
    assert answer.drawings() == {}
    assert all(front.decided > 0 for front in answer.fronts)
    assert [item.why[0].kind for item in answer.refused] == ["memory", "memory"]
    assert all("no sequence fits" in item.why[0].text for item in answer.refused)


def test_what_would_help_helps():
    limits = Limits(max_tpot=0.0068)
    (item,) = pareto(problem(context=2.0**18, gpus=4, twins=(), limits=limits)).refused
    found = item.would_help
    assert found.context < 2.0**18
    assert found.gpus > 4
    assert found.speed > 1
    for more in ({"context": found.context}, {"gpus": found.gpus}):
        asked = {"context": 2.0**18, "gpus": 4, "twins": (), "limits": limits} | more
        assert pareto(problem(**asked)).refused == ()
    assert pareto(problem(**asked | {"context": 2 * found.context, "gpus": 4})).refused != ()
    for factor, helps in ((found.speed, True), (found.speed / 1.02, False)):
        rates = {name: factor * getattr(GPU, name) for name in RATES.members}
        chip = GPU.replace(**rates)
        asked = Problem(MODEL, chip, gpus=4, context=2.0**18, workload=WORK, limits=limits)
        assert (pareto(asked).refused == ()) == helps
