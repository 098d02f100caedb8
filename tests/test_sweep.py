"""The streaming engine against the dense search: winners, sums, sets, devices, precision."""

import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import search, search_placed
from tolerances import EXACT, SCALING

import qsjax as qs
from qsjax import catalog
from qsjax.catalog import toml
from qsjax.cost.decode import decode_parts, evaluate
from qsjax.cost.feasibility import REASONS
from qsjax.cost.laws.params import dense_twin
from qsjax.grid.axes import axis_arrays, make_axes, matrix_arrays, place, stack
from qsjax.grid.cells import concatenated
from qsjax.grid.scoring import scores_of
from qsjax.grid.staging import tiles_of
from qsjax.grid.tiles import reduce_tiles
from qsjax.records.specs import PAPER, PHYSICAL, Partition, Records, Workload
from qsjax.streaming import aggregate as tallies
from qsjax.streaming import plan as planning
from qsjax.streaming import spec
from qsjax.streaming.asked import job_of
from qsjax.streaming.engine import Job
from qsjax.streaming.kernels import BINS, bin_of
from qsjax.streaming.run import Outputs, sweep

DEGREES = [1, 2, 4, 8]
BEST = Outputs()
CONTEXTS = np.geomspace(1024, 2**24, 13).round()


def records(**workload):
    model = catalog.model("mixtral-8x7b")
    both = stack([model, dense_twin(model, 3.0)])
    work = Workload(context=1.0, **workload)
    return Records(both, catalog.hardware("h100-sxm"), Partition(), work, None)


def grid(**extra):
    degrees = dict.fromkeys(("tp", "ep", "pp", "dp", "kvp"), DEGREES)
    axes = {"context": CONTEXTS, "gpus": [4, 8], "model": ["moe", "dense"], **extra}
    return make_axes({**axes, **degrees, "kv_mode": ["kvp", "cp"]})


def swept(axes, job, wanted=BEST, skip=True, devices=None, blocks=2**9, **options):
    """A sweep in small blocks, so that a small grid has several calls and chunks."""
    devices = devices or jax.local_devices()[:1]
    sizes = {"BLOCK_CELLS": blocks, "BLOCK_ROWS": 1, "CALL_CELLS": 4 * blocks, "FEW_CALLS": 0}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**sizes, "CHUNK_CELLS": 10 * blocks, **options}.items():
            patch.setattr(planning, name, value)
        plan = planning.make_plan(
            job.records, axes, job.convention, skip_illegal=skip, devices=len(devices)
        )
    return plan, *sweep(job, plan, wanted, devices)


def in_order_of(plan, axes, array):
    """An array over the kept axes of `axes`, in the order of the plan."""
    names = [axis.name for axis in axes.kept]
    return np.transpose(array, [names.index(axis.name) for axis in plan.axes.kept])


@pytest.mark.parametrize("skip", [True, False], ids=["legal", "all"])
@pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
def test_streaming_finds_what_the_dense_search_finds(convention, skip):
    axes = grid()
    dense = search(records(), axes, convention)
    plan, tally, cells = swept(axes, Job(records(), convention), skip=skip)
    assert plan.chunks > 1
    assert plan.blocks > plan.per_call
    winners = plan.designs[cells["position"]]
    is_feasible = in_order_of(plan, axes, dense.is_feasible)
    assert is_feasible.any()
    assert not is_feasible.all()
    expected = in_order_of(plan, axes, dense.index)
    np.testing.assert_array_equal(winners[is_feasible], expected[is_feasible])
    np.testing.assert_array_equal(cells["feasible"], in_order_of(plan, axes, dense.feasible))
    rate = in_order_of(plan, axes, dense.step.tokens_per_s_per_gpu)[is_feasible]
    np.testing.assert_allclose(cells["score"][is_feasible], rate, rtol=EXACT)
    assert np.isneginf(cells["score"][~is_feasible]).all()
    assert tally.feasible == dense.feasible.sum()
    assert tally.computed == math.prod(plan.kept) * len(plan.designs)
    if not skip:
        counts = {name: int(count.sum()) for name, count in dense.reasons.items()}
        assert dict(zip(REASONS, map(int, tally.reasons), strict=True)) == counts
        assert tally.computed == axes.cells


def test_skipping_computes_only_designs_that_some_cell_allows():
    plan, tally, _ = swept(grid(), Job(records(), PHYSICAL))
    assert tally.computed < grid().cells / 10
    every, _, _ = swept(grid(), Job(records(), PHYSICAL), skip=False)
    assert set(plan.designs) < set(every.designs)


def test_a_plan_for_other_devices_runs_on_those_at_hand():
    """A sweep may be resumed on another machine: its calls are no multiple of the devices then."""
    job = Job(records(), PHYSICAL)
    wanted = Outputs(top_k=3, pareto=True)
    three = jax.local_devices()[:3]
    plan, tally, cells = swept(grid(), job, wanted, devices=three, FEW_CALLS=10**9)
    assert plan.per_call % 2 == 1
    other, again = sweep(job, plan, wanted, jax.local_devices()[:2])
    for name in ("position", "feasible"):
        np.testing.assert_array_equal(cells[name], again[name])
    np.testing.assert_array_equal(tally.reasons, other.reasons)
    np.testing.assert_array_equal(tally.edge.position, other.edge.position)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_the_number_of_devices_changes_nothing(devices):
    job = Job(records(), PHYSICAL, statistics=("tpot",))
    wanted = Outputs(top_k=7, pareto=True)
    _, one, alone = swept(grid(), job, wanted)
    _, several, cells = swept(grid(), job, wanted, devices=jax.local_devices()[:devices])
    for name in ("position", "feasible"):
        np.testing.assert_array_equal(alone[name], cells[name])
    # another loop length may contract another product and sum: the last bit, never the winner
    np.testing.assert_allclose(alone["score"], cells["score"], rtol=SCALING)
    for name in ("best", "edge"):
        for field in ("cell", "position"):
            a, b = (getattr(getattr(t, name), field) for t in (one, several))
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.bins, several.bins)
    np.testing.assert_array_equal(one.reasons, several.reasons)


def dense_points(axes, convention):
    """Score axes and feasibility of every design, kept axes first."""
    placed = place(records(), axis_arrays(axes), convention)
    step = jax.tree.map(lambda x: np.broadcast_to(x, axes.shape), evaluate(placed, convention))
    return step, step.reasons == 0


def test_top_k_front_and_spread_are_those_of_the_dense_grid():
    axes = grid(batch=[1.0, 16.0, 256.0])
    job = Job(records(), PHYSICAL, statistics=("tpot", "tokens_per_s_per_user"))
    plan, tally, _ = swept(axes, job, Outputs(top_k=25, pareto=True))
    step, is_feasible = dense_points(axes, PHYSICAL)
    rate, speed = (x[is_feasible] for x in (step.tokens_per_s_per_gpu, step.tokens_per_s_per_user))

    np.testing.assert_allclose(tally.best.score, np.sort(rate)[::-1][:25], rtol=EXACT)
    at = planning.winner_coordinates(plan, tally.best.cell, tally.best.position)
    model = jax.tree.map(lambda x: x[at["model"].astype(int)], records().model)
    part = Partition(**{n: at[n] for n in ("tp", "ep", "pp", "dp", "kvp", "kv_mode")})
    work = Workload(context=at["context"], batch=at["batch"])
    again = evaluate(Records(model, records().hardware, part, work, at["gpus"]), PHYSICAL)
    np.testing.assert_allclose(again.tokens_per_s_per_gpu, tally.best.score, rtol=EXACT)

    order = np.lexsort((-speed, -rate))
    points = np.stack([rate[order], speed[order]], axis=1)
    keep = points[:, 1] > np.append(-np.inf, np.maximum.accumulate(points[:, 1])[:-1])
    found = np.stack([tally.edge.rate, tally.edge.speed], axis=1)
    np.testing.assert_allclose(found, points[keep], rtol=EXACT)
    assert len(found) > 5

    for k, name in enumerate(job.statistics):
        values = getattr(step, name)[is_feasible]
        np.testing.assert_allclose([tally.low[k], tally.high[k]], [values.min(), values.max()])
        shares = np.array([0.05, 0.5, 0.95])
        exact = np.quantile(values, shares, method="inverted_cdf")
        np.testing.assert_allclose(tallies.quantiles(tally, k, shares), exact, rtol=0.004)
    assert list(bin_of(jnp.array([1e-30, 1e30]))) == [0, BINS - 1]


@pytest.mark.parametrize("levels", [4, 10**6], ids=["ties", "apart"])
def test_what_is_left_out_before_the_front_is_not_on_it(levels):
    rng = np.random.default_rng(11)

    def drawn(rows):
        rate, speed = rng.integers(1, levels + 1, (2, rows, 70)).astype(float)
        is_feasible = rng.random((rows, 70)) < 0.6
        is_feasible[0] = False
        return tallies._Scores(np.where(is_feasible, rate, -np.inf), rate, speed)

    def designs(scores, row, position):
        own = [x[row, position] for x in scores]
        return tallies.Designs(row, position, position % 3, *own)

    first, block = drawn(20), drawn(40)
    edge = tallies.front(designs(first, *np.nonzero(np.isfinite(first.score))))
    every = designs(block, *np.nonzero(np.isfinite(block.score)))
    few = designs(block, *tallies._undominated(block, edge, -1e300))
    assert len(few.cell) < 0.3 * len(every.cell)
    wanted, found = (tallies.front(concatenated(edge, own)) for own in (every, few))
    for name in ("cell", "position", "rate", "speed"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    nothing = tallies._Scores(*(np.full((3, 5), -np.inf),) * 3)
    assert len(tallies._undominated(nothing, edge, -1e300)[0]) == 0


def test_bounds_hide_designs():
    axes = grid(batch=[1.0, 16.0, 256.0])
    limit = 0.03
    job = Job(records(), PHYSICAL, bounds={"tpot": (0.0, limit)})
    _, tally, _ = swept(axes, job)
    step, is_feasible = dense_points(axes, PHYSICAL)
    allowed = is_feasible & (step.tpot <= limit)
    assert tally.feasible == allowed.sum()
    assert 0 < allowed.sum() < is_feasible.sum()
    assert tally.best.score[0] == pytest.approx(step.tokens_per_s_per_gpu[allowed].max(), rel=EXACT)


def test_an_axis_q_sweeps_the_dense_twins():
    moe = catalog.model("mixtral-8x7b")
    one = records()._replace(model=moe)
    degrees = dict.fromkeys(("tp", "ep", "pp", "dp", "kvp"), DEGREES)
    axes = make_axes({"context": CONTEXTS, "gpus": [8], "q": [2.0, 3.5, 5.0], **degrees})
    _, _, cells = swept(axes, Job(one, PHYSICAL), devices=jax.local_devices()[:2])
    dense = search(one, axes, PHYSICAL)
    # execution order: q, gpus, context
    expected = np.transpose(dense.step.tokens_per_s_per_gpu, (2, 1, 0))
    has = np.transpose(dense.is_feasible, (2, 1, 0))
    np.testing.assert_allclose(cells["score"][has], expected[has], rtol=EXACT)


def test_every_model_keeps_the_precision_that_it_is_published_in():
    """Rates of a sweep are those of `explore`, for experts of different sizes in one job."""
    names, contexts = ("mixtral-8x7b", "kimi-k2.5"), [1024.0, 65536.0]
    text = f"[sweep]\nmodels = {list(names)}\nhardware = ['h200-sxm']\n"
    job, axes = job_of(
        *spec.asked_in(toml.parse(f"{text}[axes]\ngpus = 16\ncontext = {contexts}\n", "sweep"))
    )
    assert np.asarray(job.records.workload.bytes_ffn_weight).tolist() == [2.0, 0.5625]
    assert job.records.workload.bytes_kv == 2.0
    _, _, cells = swept(axes, job)
    for name, rates in zip(names, cells["score"].reshape(2, -1), strict=True):
        problem = qs.Problem(name, "h200-sxm", gpus=16, context=contexts)
        expected = [row["tokens_per_s_per_gpu"] for row in qs.explore(problem).rows()]
        np.testing.assert_allclose(rates, expected, rtol=EXACT)


def test_float32_stays_within_its_published_error():
    job = Job(records(), PHYSICAL)
    _, _, exact = swept(grid(), job)
    _, _, rough = swept(grid(), Job(records(), PHYSICAL, precision="float32"))
    assert rough["score"].dtype == np.float32
    both = np.isfinite(exact["score"]) & np.isfinite(rough["score"])
    error = np.abs(rough["score"][both] / exact["score"][both] - 1.0)
    assert 0 < np.median(error) < 1e-6
    assert error.max() < 0.05  # a batch of a few sequences that flips at its floor


def test_new_hardware_numbers_do_not_compile_again(caplog):
    job = Job(records(), PHYSICAL)
    swept(grid(), job)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for bandwidth in (1e12, 2e12):
            chip = catalog.hardware("h100-sxm")
            faster = type(chip)(
                **{f: getattr(chip, f) for f in chip.__slots__} | {"hbm_bw": bandwidth}
            )
            swept(grid(), Job(records()._replace(hardware=faster), PHYSICAL))
    compiled = [r.message for r in caplog.records if "Compiling" in r.message]
    assert not [m for m in compiled if "run_blocks" in m or "_legal" in m], compiled


def test_memory_too_small_for_one_cell_is_said():
    count = math.prod(len(axis.values) for axis in grid().searched)
    needed = count * (8.0 * planning.COEFFICIENTS + planning.BYTES_PER_CELL)
    assert planning.make_plan(records(), grid(), PHYSICAL, skip_illegal=False, memory=needed).step
    with pytest.raises(ValueError, match="raise the limit"):
        planning.make_plan(records(), grid(), PHYSICAL, skip_illegal=False, memory=0.99 * needed)


def test_a_list_of_designs_that_does_not_fit_is_said_before_it_is_made():
    many = make_axes({n: np.arange(1.0, 1001.0) for n in ("tp", "ep", "pp", "dp", "kvp")})
    with pytest.raises(ValueError, match=r"1,000,000,000,000,000 designs.*shorten a searched axis"):
        planning.make_plan(records(), many, PHYSICAL)


@pytest.mark.parametrize("degrees", [[3.0], [3.0, 5.0, 6.0, 7.0]], ids=["one", "more than a tile"])
def test_a_grid_without_a_legal_design_is_an_answer(degrees):
    axes = grid(**dict.fromkeys(("tp", "ep", "pp"), degrees))
    axes = make_axes(
        {a.name: a.names or a.values for a in axes.all} | {"tp": degrees, "ep": degrees}
    )
    plan, tally, cells = swept(axes, Job(records(), PHYSICAL), Outputs(top_k=3, pareto=True))
    assert len(plan.designs) > 0
    assert tally.feasible == 0
    assert len(tally.best.score) == len(tally.edge.rate) == 0
    assert not cells["feasible"].any()


def test_steps_waste_little_and_are_whole_vectors():
    """By hand: two of 512 for 1,020 waste 0.4 %, and 512 is a multiple of 128."""
    assert planning._step(1020, 600, rows=1, devices=1) == 512


def test_blocks_cover_every_kept_cell_once():
    for cells in (1, 7, 500, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planning, "BLOCK_CELLS", cells)
            patch.setattr(planning, "BLOCK_ROWS", 1)
            plan = planning.make_plan(records(), grid(), PHYSICAL)
        starts, counts = plan.ranges(np.arange(plan.blocks))
        assert starts[0] == 0
        np.testing.assert_array_equal(starts[1:], (starts + counts)[:-1])
        assert starts[-1] + counts[-1] == np.prod(plan.kept)


@pytest.mark.parametrize("gpus", [None, 8.0], ids=["any", "prescribed"])
def test_tiles_change_no_choice(gpus):
    """Winner, runner-up and counts of a block in tiles and by NumPy, with ties in it."""
    axes = grid(dp=[1, 2, 4, 8])
    placed = place(records()._replace(gpus=gpus), matrix_arrays(axes), PHYSICAL)
    if gpus is None:
        placed = placed._replace(gpus=None)
    shape = (*(len(axis.values) for axis in axes.kept), 2 * 4**5)
    assert tiles_of(shape[-1]) > 1
    whole = search_placed(placed, axes, PHYSICAL)

    @jax.jit
    def reduce(placed):
        return reduce_tiles(
            lambda own: scores_of(*decode_parts(own, PHYSICAL), own.gpus, "tokens_per_s_per_gpu"),
            (placed,),
            shape,
        )[0]

    tiled = reduce(placed)
    assert int(whole.feasible.sum()) > 100
    np.testing.assert_array_equal(whole.index, tiled.best.position)
    np.testing.assert_allclose(whole.score, tiled.best.score, rtol=SCALING)
    np.testing.assert_array_equal(whole.feasible, tiled.feasible)
    np.testing.assert_array_equal(list(whole.reasons.values()), tiled.reasons)
