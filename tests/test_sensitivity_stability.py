"""Switch factors against a fresh search on either side, and the rows and maps made of them."""

import dataclasses

import jax
import numpy as np
import pytest

from qsjax import catalog
from qsjax.grid.cells import cells_of
from qsjax.grid.optimum import best_of, binding_resource, winners_at
from qsjax.grid.parameters import resolve, scaled
from qsjax.grid.problem import Problem
from qsjax.grid.solution import rows_of, solve
from qsjax.questions.sensitivity import sensitivity, switching
from qsjax.questions.sensitivity.switching import KINDS, switches
from qsjax.questions.sensitivity.tables import throughput_map

NAMES = ("hbm_bytes", "hbm_bw", "flops", "eff_gemm", "q", "context", "overlap_tp")
CELLS = {"gpus": [8], "context": [4096.0, 65536.0], "twins": [3.0]}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def solved(*arguments, **stated):
    with jax.enable_x64(True):
        return solve(cells_of(Problem(*arguments, **stated)))


@pytest.fixture(scope="module")
def solution():
    model, hardware = catalog.model("mixtral-8x7b"), catalog.hardware("h100-sxm")
    return solved(model, hardware, **CELLS)


@pytest.fixture(scope="module")
def found(solution):
    return switches(solution, NAMES)


def state(solution, name, factor):
    """Winner's position, its resource, and whether each cell's twin beats its MoE."""
    stated = solution.cells
    rows = scaled(stated.inputs, resolve([name])[0], factor)
    best = best_of(stated, rows)
    per = stated.cells // 2
    wins = best.score[per:] > best.score[:per]
    resource = binding_resource(winners_at(stated, rows, best))
    return best.position, resource, np.tile(wins, 2)


def test_each_kind_changes_at_its_factor_and_not_before(solution, found):
    base, checked = state(solution, NAMES[0], 1.0), 0
    for n in range(len(KINDS)):
        for k, name in enumerate(NAMES):
            for side, factors in ((-1, found.down), (1, found.up)):
                for cell in np.flatnonzero(np.isfinite(factors[n, k])):
                    factor = factors[n, k, cell]
                    assert (factor - 1) * side > 0
                    before = state(solution, name, 1 + (factor - 1) * (1 - 1e-5))
                    after = state(solution, name, 1 + (factor - 1) * (1 + 1e-6))
                    assert before[n][cell] == base[n][cell], (KINDS[n], name, factor)
                    assert after[n][cell] != base[n][cell], (KINDS[n], name, factor)
                    checked += 1
    assert checked > 12


def test_what_it_changes_to_is_found_there(solution, found):
    n, checked = KINDS.index("partition"), 0
    for k, name in enumerate(NAMES):
        for cell in np.flatnonzero(np.isfinite(found.up[n, k])):
            position = state(solution, name, found.up[n, k, cell])[n][cell]
            to = found.up_to[n, k, cell]
            assert to in (-1, position)
            checked += 1
    assert checked > 2


def test_an_efficiency_is_not_varied_beyond_one(found):
    k = NAMES.index("eff_gemm")
    now = float(catalog.hardware("h100-sxm").eff_gemm)
    assert found.high[k] == pytest.approx(1 / now)
    assert np.all(np.isnan(found.up[:, k]) | (found.up[:, k] <= 1 / now))


def test_a_parameter_at_zero_switches_nothing(found):
    k = NAMES.index("overlap_tp")
    assert np.isnan(found.down[:, k]).all()
    assert np.isnan(found.up[:, k]).all()


def test_the_nearest_switch_is_the_nearest_of_all_kinds(found):
    down, up = found.nearest()
    with np.errstate(invalid="ignore"):
        assert np.array_equal(np.isnan(up), np.isnan(found.up).all(axis=0))
    known = np.isfinite(up)
    assert known.any()
    assert np.all(up[known] <= np.nan_to_num(found.up, nan=np.inf)[:, known].min(axis=0))
    assert np.all(down[np.isfinite(down)] < 1)


def test_less_memory_ends_in_infeasibility(solution):
    found = switches(solution, ["hbm_bytes"], span=1000.0)
    n = KINDS.index("partition")
    assert np.isfinite(found.down[n]).all()
    assert found.describe("partition", -1) == "infeasible"


def test_a_span_below_one_is_refused(solution):
    with pytest.raises(ValueError, match="span=1"):
        switches(solution, NAMES, span=1.0)


def test_rows_carry_slopes_and_switches(solution):
    asked = Problem("mixtral-8x7b", "h100-sxm", **CELLS)
    rows = sensitivity(asked, NAMES, ("tpot", "speedup"), span=16.0).rows()
    assert len(rows) == 2 * len(NAMES) * solution.cells.cells
    keys = {"variant", "context", "q", "metric", "parameter", "elasticity", "left", "right"}
    keys |= {"rounding", "switch_down", "switch_up", "switch_up_what", "winner_up", "bound_by"}
    assert all(keys <= set(row) for row in rows)
    for row in rows:
        assert bool(row["switch_up_what"]) == (row["switch_up"] is not None)
    assert {row["q"] for row in rows} == {None, 3.0}
    assert any("partition to tp=" in row["switch_up_what"] for row in rows)


def test_rows_of_infeasible_cells_say_why():
    model, hardware = catalog.model("deepseek-v3"), catalog.hardware("h100-sxm")
    asked = Problem(model, hardware, gpus=[8], context=[4096.0], twins=[2.0])
    solution = solve(cells_of(asked))
    moe, twin = rows_of(solution)
    assert not moe["is_feasible"]
    assert moe["reasons"]["weights do not fit"] > 0
    assert moe["least_hbm_bytes"] > hardware.hbm_bytes
    rows = sensitivity(asked, ["hbm_bw"], ["tpot", "speedup"]).rows()
    assert [row["elasticity"] is None for row in rows] == [True, False, True, True]
    assert "fits from hbm_bytes" in rows[0]["masked"]
    assert rows[0]["masked"].endswith(" GiB)")
    assert rows[3]["masked"] == "no feasible MoE to compare with"
    assert twin["is_feasible"]


def test_a_map_is_the_search_at_each_of_its_points():
    model, hardware = catalog.model("mixtral-8x7b"), catalog.hardware("h100-sxm")
    drawn = throughput_map(Problem(model, hardware, context=8192.0, gpus=[8]), points=3, span=2.0)
    assert drawn.values.shape == (3, 3)
    bigger = dataclasses.replace(hardware, hbm_bw=drawn.x[2], hbm_bytes=drawn.y[0])
    best = solved(model, bigger, gpus=[8], context=[8192.0]).best
    assert drawn.values[0, 2] == pytest.approx(best.score[0], rel=1e-12)
    # Where memory is twice as large and as fast, arithmetic and kernels bind.
    assert np.all(drawn.x_elasticity[:, :2] > 0)
    assert np.all(drawn.x_elasticity[:, 2] >= 0)
    assert drawn.today == (hardware.hbm_bw, hardware.hbm_bytes)


def test_a_map_keeps_its_axes_where_the_problem_has_them():
    asked = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=8192)
    want = throughput_map(asked, points=3, span=2.0)
    axes = {"hbm_bw": [3e12, 4e12], "hbm_bytes": [8e10]}
    turned = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context=8192, axes=axes)
    np.testing.assert_array_equal(throughput_map(turned, points=3, span=2.0).values, want.values)


def test_switching_tells_the_nearest_change():
    found = switching(Problem("mixtral-8x7b", "h100-sxm", **CELLS), ["hbm_bw"], span=4.0)
    rows = found.rows()
    assert {row["parameter"] for row in rows} == {"hbm_bw"}
    assert any(row["switch_up"] for row in rows)
    assert found.drawings()
