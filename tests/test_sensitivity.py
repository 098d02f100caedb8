"""Slopes at fixed designs: against differences, at kinks, by Euler's identity, to second order."""

import dataclasses

import jax
import numpy as np
import pytest
from designs import random_designs
from tolerances import CANCELLATION, EXACT, EXTRAPOLATED_DIFFERENCE, FINITE_DIFFERENCE

from qsjax import catalog
from qsjax.cost.metrics import Economy
from qsjax.grid import gradients
from qsjax.grid import optimum as optimum_module
from qsjax.grid.cells import Designs, Winners, as_rows, cells_of, step_of, take
from qsjax.grid.gradients import hessian_at, slopes_at
from qsjax.grid.optimum import best_of
from qsjax.grid.parameters import (
    DEFAULT_PARAMETERS,
    GROUPS,
    Inputs,
    Parameter,
    factor_bounds,
    members_of,
    read,
    resolve,
    scaled,
    with_rounding,
)
from qsjax.grid.problem import Problem
from qsjax.grid.solution import solve
from qsjax.numerics.namespace import xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.questions.explore import explore
from qsjax.questions.sensitivity import hessian, sensitivity
from qsjax.records.specs import (
    FIELDS,
    PAPER,
    PHYSICAL,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)

ROWS = 2048
METRICS = ("tokens_per_s_per_gpu", "tpot", "max_batch")
RATES = ("hbm_bw", *(f"flops_{x}" for x in ("bf16", "fp8", "fp4", "exp")), "intra_bw", "inter_bw")
# Every time that a record states, but of prompts, which decoding does not see.
DELAYS = [n for n, field in FIELDS.items() if field.unit == "s" and n != "eager_overhead"]
CHECKED = resolve(
    [
        *("hbm_bytes", "usable_fraction", "hbm_bw", "eff_gemm", "flops_bf16", "flops_fp8"),
        *("intra_bw", "inter_bw", "latency", "layer_overhead", "overlap_tp", "q", "context"),
        *("bytes_kv", "bytes_ffn_weight", "hidden", "expert_ff", "top_k", "kv_overhead"),
    ]
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random_winners(seed, convention, given=False, rows=ROWS):
    """Legal and illegal designs, half of them served by the dense twin."""
    drawn = random_designs(seed, convention, given, rows)
    rng = np.random.default_rng(seed)
    work = {k: v for k, v in drawn.workload.items() if k != "batch"}
    inputs = Inputs(
        ModelSpec(**drawn.model),
        HardwareSpec(**drawn.hardware),
        Workload(**work),
        dataclasses.replace(convention, **drawn.convention),
        np.where(rng.random(rows) < 0.5, rng.uniform(1, 10, rows), 0.0),
        np.full(rows, 64.0),
    )
    inputs = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x, np.float64), rows), inputs)
    partition = jax.tree.map(lambda x: np.asarray(x, np.float64), Partition(**drawn.partition))
    return Winners(inputs, Designs(partition, drawn.workload["batch"]))


@on_host
def log_metrics(winners):
    step = step_of(winners)
    batch = step.capacity.max_batch
    positive = xp.where(batch > 0, batch, 1.0)
    return [xp.log(x) for x in (step.tokens_per_s_per_gpu, step.tpot, positive)]


def differences(winners, parameter, h=2e-3):
    """Central differences in log parameter, extrapolated twice; NaN where they do not settle."""

    def central(step):
        up, down = (
            np.array(log_metrics(winners._replace(inputs=scaled(winners.inputs, parameter, f))))
            for f in (np.exp(step), np.exp(-step))
        )
        return (up - down) / (2 * step)

    wide, middle, narrow = (central(h / 2**k) for k in range(3))
    first, second = (4 * middle - wide) / 3, (4 * narrow - middle) / 3
    is_smooth = np.abs(first - second) < 1e-9 * np.maximum(1, np.abs(second))
    if winners.inputs.convention.rounding == "floor":  # many small steps look like a slope
        is_smooth &= wide[METRICS.index("max_batch")] == 0
    return np.where(is_smooth, (16 * second - first) / 15, np.nan)


@pytest.mark.parametrize(
    ("seed", "convention", "rounding", "given"),
    [
        (1, PHYSICAL, "relaxed", False),
        (2, PHYSICAL, "floor", False),
        (3, PAPER, "relaxed", True),
    ],
)
def test_elasticities_agree_with_differences(seed, convention, rounding, given):
    winners = random_winners(seed, convention, given)
    winners = winners._replace(inputs=with_rounding(winners.inputs, rounding))
    slopes = slopes_at(winners, CHECKED, METRICS, one_sided=False)
    compared = 0
    for k, parameter in enumerate(CHECKED):
        want, got = differences(winners, parameter), slopes.elasticity[:, k]
        smooth = np.isfinite(want)
        error = np.abs(got - want)[smooth]
        allowed = EXTRAPOLATED_DIFFERENCE * np.abs(want[smooth]) + 1e-9
        assert np.all(error <= allowed), (parameter.name, float((error - allowed).max()))
        compared += smooth.sum()
    assert compared > 0.4 * slopes.elasticity.size


@pytest.mark.parametrize("rounding", ["straight_through", "floor", "relaxed"])
def test_slopes_are_finite_everywhere(rounding):
    winners = random_winners(4, PHYSICAL)
    inputs = with_rounding(winners.inputs, rounding)
    slopes = slopes_at(winners._replace(inputs=inputs), CHECKED, METRICS)
    assert all(np.isfinite(x).all() for x in slopes)
    assert np.any(slopes.elasticity[0] != 0)
    assert np.any(slopes.left != slopes.right)


def test_slopes_by_numpy_are_those_of_the_compiler():
    winners = random_winners(4, PHYSICAL)
    members = members_of(CHECKED)
    prices = as_rows(Economy(usd_per_hour=0.0, watts=0.0), ROWS)

    def total(values):
        (log,) = gradients._logs(winners, members, METRICS[:1], prices)(values)
        return log.sum()

    compiled = jax.jit(jax.grad(total))(tuple(np.asarray(read(winners.inputs, n)) for n in members))
    _, played = gradients._gradient(winners, prices, members=members, metric=METRICS[0])
    for got, want in zip(played, compiled, strict=True):
        np.testing.assert_allclose(np.broadcast_to(got, ROWS), want, rtol=EXACT, atol=CANCELLATION)


def test_a_straight_through_slope_is_the_unrounded_one_over_the_whole_batch():
    winners = random_winners(5, PHYSICAL)
    inputs = dataclasses.replace(winners.inputs.workload, kv_block=np.ones(ROWS))
    winners = winners._replace(inputs=winners.inputs._replace(workload=inputs))
    relaxed = winners._replace(inputs=with_rounding(winners.inputs, "relaxed"))
    capacity = resolve(["hbm_bytes"])
    whole = slopes_at(winners, capacity, ["max_batch"], one_sided=False)
    smooth = slopes_at(relaxed, capacity, ["max_batch"], one_sided=False)
    fits = (whole.value[0] > 1.5) & (whole.value[0] < 1e6)
    assert fits.sum() > 100
    slope = smooth.derivative[0, 0] / whole.value[0] * np.asarray(read(winners.inputs, "hbm_bytes"))
    np.testing.assert_allclose(whole.elasticity[0, 0][fits], slope[fits], rtol=EXACT)


@pytest.mark.parametrize("given", [False, True])
def test_rates_and_delays_scale_throughput_together(given):
    """Euler: time is homogeneous of degree -1 in rates and 1 in delays."""
    winners = random_winners(6, PHYSICAL, given)
    assert {"layer_overhead", "attention_startup", "rank_latency"} < set(DELAYS)
    names = [*RATES, *DELAYS]
    slopes = slopes_at(winners, resolve(names), ["tokens_per_s_per_gpu"], one_sided=False)
    elasticity = slopes.elasticity[0]
    total = elasticity[: len(RATES)].sum(0) - elasticity[len(RATES) :].sum(0)
    np.testing.assert_allclose(total, 1.0, rtol=EXACT)


def one_row(model, batch, context, convention=PHYSICAL, **degrees):
    hardware = catalog.ideal(catalog.hardware("h100-sxm"))
    inputs = Inputs(model, hardware, Workload(context=context), convention, 0.0, 64.0)
    inputs = jax.tree.map(lambda x: np.full(1, x, np.float64), inputs)
    partition = jax.tree.map(lambda x: np.full(1, x, np.float64), Partition(**degrees))
    return Winners(inputs, Designs(partition, np.full(1, float(batch))))


def beside(winners, parameter, factor):
    moved = winners._replace(inputs=scaled(winners.inputs, parameter, factor))
    return slopes_at(moved, [parameter], ["tpot"], one_sided=False).elasticity[0, 0, 0]


def check_kink(winners, name):
    """Both reported sides are the slopes found a little further out, and they differ."""
    parameter = resolve([name])[0]
    slopes = slopes_at(winners, [parameter], ["tpot"])
    left, right = slopes.left[0, 0, 0], slopes.right[0, 0, 0]
    assert abs(left - right) > 1e-3
    assert left == pytest.approx(beside(winners, parameter, 1 - 1e-5), abs=1e-4)
    assert right == pytest.approx(beside(winners, parameter, 1 + 1e-5), abs=1e-4)
    return left, right


def test_a_window_that_the_context_just_fills_is_a_kink():
    model = dataclasses.replace(
        catalog.model("mixtral-8x7b"), window_layers=32.0, window=8192.0, layers=32.0
    )
    left, right = check_kink(one_row(model, 64, 8192, tp=8), "context")
    assert left > right


def test_a_local_batch_of_one_token_per_expert_is_a_kink():
    # R = b K/E = 1: below it the paper's traffic grows with R, above it falls.
    model = dataclasses.replace(catalog.model("mixtral-8x7b"), top_k=2.0)
    left, right = check_kink(one_row(model, 4, 1024, PAPER, tp=8), "top_k")
    assert left > 0 > right


def test_the_switch_of_the_slower_fabric_is_a_kink():
    model = catalog.model("deepseek-v3")
    winners = one_row(model, 64, 4096, dp=16, ep=16)
    # Of 16 ranks 8 share the island, so 7 shares go inside and 8 outside.
    hardware = dataclasses.replace(
        winners.inputs.hardware, inter_bw=np.asarray(winners.inputs.hardware.intra_bw) * 8 / 7
    )
    winners = winners._replace(inputs=winners.inputs._replace(hardware=hardware))
    left, right = check_kink(winners, "intra_bw")
    assert left < right


def test_away_from_kinks_both_sides_are_the_slope():
    slopes = slopes_at(random_winners(4, PHYSICAL), CHECKED, METRICS)
    same = (slopes.left == slopes.elasticity) & (slopes.right == slopes.elasticity)
    assert same.mean() > 0.95


HESSIAN = resolve(["hbm_bytes", "hbm_bw", "flops", "intra_bw", "latency", "q", "context"])


def test_second_derivatives_agree_with_differences_of_slopes():
    winners = random_winners(7, PHYSICAL, rows=512)
    winners = winners._replace(inputs=with_rounding(winners.inputs, "relaxed"))
    second = hessian_at(winners, HESSIAN)
    np.testing.assert_allclose(second, second.transpose(0, 2, 1), atol=1e-10)
    h, compared = 1e-4, 0
    for k, parameter in enumerate(HESSIAN):
        ends = [
            slopes_at(
                winners._replace(inputs=scaled(winners.inputs, parameter, np.exp(side * h))),
                HESSIAN,
                ["tokens_per_s_per_gpu"],
                one_sided=False,
            ).elasticity[0]
            for side in (-1, 1)
        ]
        want = (ends[1] - ends[0]).T / (2 * h)
        smooth = np.abs(want) < 1e2  # a kink inside the difference gives a slope over h
        error = np.abs(second[:, k] - want)
        good = error <= FINITE_DIFFERENCE * np.maximum(1, np.abs(want))
        assert good[smooth].mean() > 0.97, parameter.name
        compared += smooth.sum()
    assert compared > 0.9 * second.size


def test_second_derivatives_pass_through_the_rounded_batch():
    """Where the unrounded batch is whole, rounding must not change the curvature."""
    winners = random_winners(8, PHYSICAL, rows=512)
    workload = dataclasses.replace(winners.inputs.workload, kv_block=np.ones(512))
    inputs = winners.inputs._replace(workload=workload)
    step = step_of(Winners(inputs, winners.designs))
    cap, hardware = step.capacity, inputs.hardware
    # A hair above a whole batch; what the two roundings differ in is proportional to it.
    whole = np.maximum(1.0, np.asarray(cap.max_batch)) + 1e-7
    needed = np.asarray(cap.weights) + whole * np.asarray(cap.kv_per_sequence)
    fitted = hardware.hbm_bytes + (needed - np.asarray(cap.usable)) / hardware.usable_fraction
    inputs = inputs._replace(hardware=dataclasses.replace(hardware, hbm_bytes=fitted))
    rounded, smooth = (
        hessian_at(Winners(with_rounding(inputs, r), winners.designs), HESSIAN)
        for r in ("straight_through", "relaxed")
    )
    # Where B_max is 1 the batch is also the least that is evaluated: a kink.
    clear = whole > 1.5
    assert clear.sum() > 50
    np.testing.assert_allclose(rounded[clear], smooth[clear], rtol=1e-5, atol=1e-5)
    assert np.abs(smooth[clear]).max() > 0.1


@pytest.fixture(scope="module")
def small():
    relaxed = dataclasses.replace(PHYSICAL, rounding="relaxed")
    return Problem(
        catalog.model("mixtral-8x7b"),
        catalog.hardware("h100-sxm"),
        gpus=[8],
        context=[1024, 16384, 2.0**22],
        twins=[2.0, 5.0],
        convention=relaxed,
    )


@pytest.fixture(scope="module")
def cells(small):
    with jax.enable_x64(True):
        return cells_of(small)


@pytest.fixture(scope="module")
def optimum(cells):
    with jax.enable_x64(True):
        return solve(cells)


def slopes_of(asked, *arguments, **how):
    """The slopes of one model on one accelerator."""
    (found,) = sensitivity(asked, *arguments, **how).blocks
    return found


def test_the_slope_of_the_winner_is_the_slope_of_the_optimum(small, cells, optimum):
    names = ("hbm_bytes", "hbm_bw", "flops", "q", "context")
    result = slopes_of(small, names, rounding="relaxed", one_sided=False)
    h, compared = 1e-5, 0
    for k, parameter in enumerate(result.parameters):
        up, down = (best_of(cells, scaled(cells.inputs, parameter, np.exp(s * h))) for s in (1, -1))
        stays = (up.position == down.position)[: cells.cells] & optimum.is_feasible
        with np.errstate(invalid="ignore", divide="ignore"):
            want = (np.log(up.score) - np.log(down.score))[: cells.cells] / (2 * h)
        np.testing.assert_allclose(
            result.slopes.elasticity[0, k][stays], want[stays], atol=FINITE_DIFFERENCE
        )
        compared += stays.sum()
    assert compared > 20


def test_speedup_slopes_compare_a_twin_with_the_moe(small, optimum):
    result = slopes_of(small, ("hbm_bw", "q"), ("tokens_per_s_per_gpu", "speedup"))
    rate, gain = result.slopes.elasticity
    per = optimum.cells.cells // 3
    np.testing.assert_allclose(gain, rate - np.tile(rate[:, :per], 3), atol=EXACT)
    assert np.all(rate[1, :per] == 0)
    assert np.all(rate[1, per:][optimum.is_feasible[per:]] < 0)
    value = result.slopes.value
    np.testing.assert_allclose(value[1] * np.tile(value[0, :per], 3), value[0], rtol=EXACT)


def test_a_group_sums_its_members(small, optimum):
    result = slopes_of(small, ("flops", *GROUPS["flops"]), one_sided=False)
    slopes = result.slopes.elasticity[0]
    np.testing.assert_allclose(slopes[0], slopes[1:].sum(0), atol=EXACT)


def test_costs_fall_as_throughput_rises(small, optimum):
    names = ("hbm_bw", "usd_per_hour")
    metrics = ("tokens_per_s_per_gpu", "usd_per_million_tokens")
    slopes = slopes_of(small, names, metrics, one_sided=False).slopes.elasticity
    np.testing.assert_allclose(slopes[1, 0], -slopes[0, 0], atol=EXACT)
    np.testing.assert_allclose(slopes[1, 1], 1.0, atol=EXACT)


def test_a_parameter_at_zero_has_no_elasticity_but_a_slope(small, optimum):
    result = slopes_of(small, ("overlap_tp",), ("tpot",), one_sided=False)
    assert np.all(result.slopes.elasticity == 0)
    assert np.any(result.slopes.derivative < 0)


def test_infeasible_cells_are_masked_with_the_capacity_that_would_do():
    model, hardware = catalog.model("deepseek-v3"), catalog.hardware("h100-sxm")
    stated = {"gpus": [8], "context": [8192.0], "twins": [5.0]}
    solution = solve(cells_of(Problem(model, hardware, **stated)))
    assert solution.is_feasible.tolist() == [False, True]
    data = sensitivity(Problem(model, hardware, **stated), ("hbm_bw",)).dataset
    assert np.isnan(data.elasticity.sel(variant="moe")).all()
    assert np.isfinite(data.elasticity.sel(variant="dense q=5")).all()
    assert data.attrs["rounding"] == "straight_through"
    assert data.infeasible_reasons.sel(variant="moe", reason="weights do not fit").item() > 0
    least = data.least_hbm_bytes.sel(variant="moe").item()
    for factor, fits in ((1 + 1e-9, True), (1 - 1e-9, False)):
        enough = dataclasses.replace(hardware, hbm_bytes=least * factor)
        assert solve(cells_of(Problem(model, enough, **stated))).is_feasible[0] == fits


def test_the_optima_are_those_of_explore():
    asked = Problem("deepseek-v3", "h100-sxm", gpus=[16, 32], context=[4096, 2**18], twins=[3])
    optima = sensitivity(asked, ("hbm_bw",)).record()["optima"]
    for own, row in zip(optima, explore(asked).rows(), strict=True):
        assert own == {name: row[name] for name in own}


def test_blocks_of_rows_do_not_change_the_best(cells, monkeypatch):
    monkeypatch.setattr(optimum_module, "SMALL", 0)
    whole = best_of(cells)
    monkeypatch.setattr(optimum_module, "BLOCK", 4 * cells.count)
    for got, want in zip(best_of(cells), whole, strict=True):
        np.testing.assert_array_equal(got, want)


def test_further_axes_may_be_any_field():
    axes = {"hbm_bw": [1e12, 4e12]}
    stated = cells_of(Problem("mixtral-8x7b", "h100-sxm", gpus=[8], context=[8192.0], axes=axes))
    assert [axis.name for axis in stated.axes] == ["variant", "gpus", "context", "hbm_bw"]
    rates = np.asarray(solve(stated).best.score).reshape(stated.shape)
    assert np.all(rates[..., 1] > rates[..., 0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hbm_bandwith", "did you mean .*hbm_bw"),
        ("tp", "no derivative.*qsjax explore --tp"),
        ("gpus", "no derivative.*qsjax break-even"),
        ("island_size", "axes"),
    ],
)
def test_a_wrong_parameter_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        resolve([name])


def test_all_wrong_parameters_are_named_at_once():
    with pytest.raises(ValueError, match=r"(?s)flopz.*\n.*tp"):
        resolve(["flopz", "hbm_bw", "tp"])


def test_a_wrong_metric_is_refused(small, optimum):
    with pytest.raises(ValueError, match="did you mean tpot"):
        sensitivity(small, ("hbm_bw",), ("tpott",))
    with pytest.raises(ValueError, match="speedup"):
        hessian_at(optimum.winners, HESSIAN, "speedup")


def test_a_cost_without_a_price_is_refused():
    free = dataclasses.replace(catalog.hardware("h100-sxm"), usd_per_hour=0.0)
    model = catalog.model("mixtral-8x7b")
    asked = Problem(model, free, gpus=[8], context=[8192.0])
    with pytest.raises(ValueError, match="usd_per_hour above 0"):
        sensitivity(asked, ("hbm_bw",), ("usd_per_million_tokens",))


def test_wrong_cells_are_refused():
    model, hardware = catalog.model("mixtral-8x7b"), catalog.hardware("h100-sxm")
    with pytest.raises(ValueError, match="physical or paper"):
        Problem(model, hardware, convention="phsical")
    with pytest.raises(ValueError, match=r"(?s)context.*twins"):
        Problem(model, hardware, context=[-1.0], twins=[0.0])


def test_every_default_parameter_resolves():
    resolved = resolve(DEFAULT_PARAMETERS)
    assert all(isinstance(p, Parameter) for p in resolved)
    assert {"q", "context", "hbm_bw", "overlap_ep", "bytes_kv"} <= {p.name for p in resolved}
    assert take({"x": np.arange(3)}, 1) == {"x": 1}


def test_prices_of_the_problem_are_those_that_are_differentiated():
    economy = Economy(usd_per_hour=7.0, watts=500.0, utilisation=0.5)
    asked = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=8192, economy=economy)
    found = slopes_of(asked, ["usd_per_hour", "hbm_bw"], ["usd_per_million_tokens"])
    rate = found.solution.step.tokens_per_s_per_gpu[0]
    assert found.slopes.value[0, 0] == pytest.approx(7.0 / 3600 / (0.5 * rate) * 1e6)
    assert found.slopes.elasticity[0, 0, 0] == pytest.approx(1.0)


def test_several_models_and_accelerators_are_axes():
    asked = Problem(
        ["mixtral-8x7b", "llama-3.1-8b"], ["h100-sxm", "h200-sxm"], gpus=8, context=8192
    )
    found = sensitivity(asked, ["hbm_bw"])
    assert len(found.rows()) == 4
    assert found.dataset.elasticity.sizes == {
        "model": 2, "hardware": 2, "metric": 1, "parameter": 1,
    }  # fmt: skip
    assert found.dataset.elasticity.notnull().all()
    assert found.dataset.derivative.attrs["units"]


def test_curvature_is_asked_of_a_problem(small, optimum):
    found = hessian(small, ["hbm_bw", "q"])
    assert len(found.rows()) == 4 * optimum.cells.cells
    second = np.array([row["second"] for row in found.rows()]).reshape(-1, 2, 2)
    feasible = optimum.is_feasible
    assert np.isnan(second[~feasible]).all()
    np.testing.assert_allclose(second[feasible, 0, 1], second[feasible, 1, 0], atol=1e-9)


def test_a_factor_keeps_every_row_within_its_bounds():
    axes = {"kv_overhead": [1.25, 2.0], "eff_gemm": [0.5, 0.8]}
    cells = cells_of(Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", axes=axes))
    cache, gemm = resolve(["kv_overhead", "eff_gemm"])
    assert factor_bounds(cells.inputs, cache, 10.0) == (1 / 1.25, 10.0)
    assert factor_bounds(cells.inputs, gemm, 10.0) == (1 / 10, 1 / 0.8)
