"""`python -m benchmarks.run`: what its JSON holds, its counts, and the report made of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import mutants, operations, report, scaling

ROOT = Path(__file__).parent.parent
# What is measured is optimised, if little: the programs of most tests are not.
XLA = os.environ.get("XLA_FLAGS", "").replace("optimization_level=0", "optimization_level=1")
MEASURED = {**os.environ, "XLA_FLAGS": XLA}
PROMISED = (
    *("argmax_f64_cells_per_s", "argmax_f32_cells_per_s", "numpy_f64_cells_per_s"),
    *("gradient_f64_cells_per_s", "ceiling_fraction_f64", "ops_per_cell", "compile_s"),
)


@pytest.mark.slow
def test_quick_prints_one_object_with_every_number():
    options = "--quick --seconds 0.1 --json --device cpu".split()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *options],
        cwd=ROOT,
        env={**MEASURED, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in PROMISED:
        assert found[name] > 0, name
    assert found["machine"]["backend"] == "cpu"
    shared = operations.by_hand(found["bandwidths_f64"])
    assert found["ops_per_cell"] == sum(shared.values())
    # A search beyond the machine's ceiling would mean that one of the two is measured wrongly.
    assert found["ceiling_fraction_f64"] < 1.2
    text = report.text({"cpu": found})
    assert "fused arg-max, float64" in text
    assert found["command"] in text


def test_operations_of_a_program_are_counted_by_kind_and_turn():
    def turn(x, y):
        return jnp.exp(jnp.maximum(x * y, 0.5) / (x + y))

    def program(x):
        return jax.lax.fori_loop(0, 7, lambda _, y: turn(x, y), x)

    compiled = jax.jit(program).lower(jnp.ones(1000)).compile()
    found = operations.in_program(compiled.as_text())
    assert found.pop("multiply_add") == pytest.approx(14000, rel=0.01)  # and the loop's counter
    assert found["max_min"] == found["divide"] == found["exp"] == 7000


def test_the_table_counts_what_the_search_executes():
    """With many contexts the designs' own terms vanish and the innermost loop remains."""
    compiled = operations.compiled_counts(256, "float64")["by_kind"]
    needed = operations.by_hand()
    for kind, count in needed.items():
        assert 0.5 * count <= compiled[kind] <= 1.5 * count + 3.0, (kind, compiled)


def test_bandwidths_of_a_block_share_what_they_do_not_change():
    alone, shared = operations.by_hand(), operations.by_hand(4)
    assert (alone["divide"], shared["divide"]) == (5.0, 4.25)  # the largest batch; blends, tokens/s
    assert (alone["exp"], shared["exp"]) == (1.0, 0.25)
    # Every bound has a side that reads the HBM; the kind of all-reduce is chosen once.
    assert (alone["max_min"], shared["max_min"]) == (10.0, 9.25)
    assert all(shared[kind] < alone[kind] for kind in ("multiply_add", "compare_select"))


def test_the_ceiling_is_the_sum_of_the_units_times():
    counts, rates = {"divide": 2, "exp": 1}, {"divide": 4.0, "exp": 2.0}
    assert operations.cells_per_s_at_the_ceiling(counts, rates) == pytest.approx(1.0)
    assert operations.share_of_time(counts, rates) == {"divide": 0.5, "exp": 0.5}


def test_a_missed_target_says_by_how_much():
    assert report._against("x", 120.0, 150.0, "{:.0f}")[-1] == "missed by 20%"
    assert report._against("x", 150.0, 150.0, "{:.0f}")[-1] == "met"
    assert report._against("x", 1.5, 1.0, "{:.1f}", at_most=True)[-1] == "missed by 50%"


@pytest.mark.slow
def test_a_measurement_in_its_own_process():
    task = {"what": "cells", "sizes": [1e4, 1e5], "budget_s": 60.0}
    rows = scaling.run_apart(task)["rows"]
    assert [row["computed"] for row in rows] == [row["cells"] for row in rows]
    assert all(0 < row["peak_rss_mb"] < 1000 for row in rows)


def test_a_failed_measurement_is_an_error():
    with pytest.raises(RuntimeError, match="exit code"):
        scaling.run_apart({"what": "nothing"}, timeout=60.0)


def test_mutants_that_are_explained_exist():
    """An entry whose line has gone explains nothing."""
    made = {path: {one.key for one in mutants.mutants(path)} for path, _ in mutants.explained()}
    assert not [key for key in mutants.explained() if key not in made[key[0]]]
