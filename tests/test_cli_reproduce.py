"""`qsjax reproduce`, run as a user runs it."""

import csv
import io
import json

import pytest

from tests.test_cli_explore import qsjax


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "paper"
    done = qsjax("reproduce", "--format", "json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), out


def test_cells_have_the_documented_keys(run):
    result, _ = run
    keys = "table row quantity published paper error_pct beyond_rounding_pct physical note"
    assert all(set(cell) == set(keys.split()) for cell in result["cells"])
    assert {cell["table"] for cell in result["cells"]} == {"1", "3", "3.4", "4", "5", "6"}
    assert result["rms_log_error_beyond_rounding"] <= 0.065


def test_calibration_is_declared(run):
    result, _ = run
    assert result["calibration"]["grok-1 64 GPUs"]["kv_overhead"] == 1.25
    batches = [c for c in result["cells"] if c["quantity"] in ("B_moe", "B_dense")]
    assert all("calibrated" in c["note"] for c in batches if c["published"])


def test_one_figure_a_table(run):
    _, out = run
    names = {path.name for path in out.glob("*.svg")}
    assert names == {f"table-{n}.svg" for n in ("1", "3", "3.4", "4", "5", "6")}
    rows = list(csv.DictReader(io.StringIO((out / "reproduce.csv").read_text())))
    assert len(rows) == len(json.loads((out / "result.json").read_text())["cells"])


def test_the_table_shows_both_conventions():
    done = qsjax("reproduce")
    assert done.returncode == 0, done.stderr
    assert "ours (paper)" in done.stdout
    assert "ours (physical)" in done.stdout
    assert "infeasible" in done.stdout


def test_an_output_path_that_is_a_file_is_a_mistake(tmp_path):
    (tmp_path / "taken").write_text("mine")
    done = qsjax("reproduce", "--out", str(tmp_path / "taken"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"
