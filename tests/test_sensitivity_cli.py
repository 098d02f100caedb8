"""The verbs sensitivity, break-even and design, end to end, with their mistakes."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from qsjax.cli import cli
from qsjax.questions.sensitivity.answers import _strongest

SMALL = ["mixtral-8x7b", "--hardware", "h100-sxm", "--gpus", "8"]


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, [*arguments])
    assert done.exit_code == code, done.output
    return done


def test_sensitivity_prints_and_writes_its_cells(tmp_path):
    names = "hbm_bw,hbm_bytes,q"
    done = run(
        *("sensitivity", *SMALL, "--context", "8k,32k", "--parameter", names, "--format", "json"),
        *("--uncertain", "q=normal:5,1", "--draws", "16", "--out", str(tmp_path)),
    )
    result = json.loads(done.stdout)
    assert len(result["cells"]) == 2 * 2 * 3
    keys = {"model", "variant", "context", "q", "metric", "parameter", "elasticity", "left"}
    keys |= {"right", "rounding", "switch_down", "switch_up"}
    for cell in result["cells"]:
        assert keys <= set(cell)
        assert cell["left"] is not None
    by_name = {(c["variant"], c["parameter"]): c["elasticity"] for c in result["cells"]}
    assert by_name["moe", "q"] == 0 > by_name["dense", "q"]
    assert len(result["uncertainty"]) == 4
    figures = ["tornado", "stability", "elasticities-moe", "iso-throughput", "verdict"]
    files = [f"{name}.svg" for name in figures]
    files += ["inputs.json", "result.json", "sensitivity.csv", "sensitivity.nc"]
    assert all((tmp_path / name).stat().st_size > 100 for name in files)
    assert json.loads((tmp_path / "result.json").read_text())["cells"] == result["cells"]


def test_sensitivity_as_table_and_csv():
    short = ["--context", "8k", "--parameter", "hbm_bw,context", "--span", "1"]
    assert "hbm_bw" in run("sensitivity", *SMALL, *short).stdout
    text = run("sensitivity", *SMALL, *short, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["parameter"] for row in rows} == {"hbm_bw", "context"}


@pytest.mark.parametrize(
    ("ends", "holds"),
    [
        ((0.5, None), "; that holds down to 0.5 times today's hbm_bw (then pp=8 is best)."),
        ((None, 2.0), "; that holds up to 2 times today's hbm_bw (then pp=8 is best)."),
        ((None, None), "by +0.80 % for hbm_bw."),
    ],
)
def test_how_far_a_slope_holds_is_said_of_what_it_is(ends, holds):
    """Down to 0.5 times (then pp=8 is best) today's context: so it said, to be read twice."""
    what = "partition to tp=1 pp=8"
    row = {"elasticity": 0.8, "metric": "tokens_per_s_per_gpu", "parameter": "hbm_bw"}
    row |= {"switch_down": ends[0], "switch_up": ends[1]}
    row |= {"switch_down_what": what, "switch_up_what": what}
    assert _strongest([row], "mixtral").endswith(holds)


def test_an_infeasible_cell_is_explained():
    done = run(
        *("sensitivity", "deepseek-v3", "--hardware", "h100-sxm", "--gpus", "8"),
        *("--context", "8k", "--parameter", "hbm_bw", "--span", "1"),
    )
    assert "weights do not fit" in done.stdout
    assert "fits from hbm_bytes" in done.stdout


def test_break_even_solves_for_q_and_for_gpus(tmp_path):
    done = run("break-even", *SMALL, "--context", "8k", "--format", "json", "--out", str(tmp_path))
    (solution,) = json.loads(done.stdout)["solutions"]
    assert solution["kinds"] == ["equal"]
    assert solution["sides"] == ["dense", "moe"]
    assert (tmp_path / "break-even.csv").read_text().count("\n") == 2
    assert (tmp_path / "break-even.svg").exists()
    target = ["--parameter", "gpus", "--metric", "tpot", "--target", "1", "--context", "8k"]
    out = tmp_path / "gpus"
    counts = ("--gpus", "1,2,4", "--format", "json", "--out", str(out))
    done = run("break-even", *SMALL[:3], *counts, *target)
    solutions = json.loads(done.stdout)["solutions"]
    assert [(s["gpus"], s["tried"]) for s in solutions] == [(2, [1, 2, 4])] * 2
    assert (out / "break-even.svg").exists()
    text = run("break-even", *SMALL, "--context", "8k", "--low", "50").stdout
    assert "the MoE is ahead at every quality factor q from 50 to 10,000" in text


def test_design_spends_its_budget(tmp_path):
    prices = ["--price", "hbm_bw=60", "--price", "hbm_bytes=40^1.2"]
    done = run(
        *("design", *SMALL, "--context", "8k", "--budget", "100", *prices),
        *("--format", "json", "--out", str(tmp_path)),
    )
    result = json.loads(done.stdout)
    assert result["cost"] == pytest.approx(100, rel=1e-5)
    assert result["objective"] >= result["reference"]
    assert (tmp_path / "inputs.json").exists()
    assert (tmp_path / "design.svg").exists()
    assert "hbm_bw" in run("design", *SMALL, "--context", "8k", "--budget", "100", *prices).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sensitivity", *SMALL, "--parameter", "hbm_bandwith"], "hbm_bw"),
        (["sensitivity", *SMALL, "--parameter", "tp"], "qsjax explore --tp"),
        (["sensitivity", *SMALL, "--metric", "tpots"], "tpot"),
        (["sensitivity", *SMALL, "--uncertain", "q"], "NAME=KIND"),
        (["sensitivity", *SMALL, "--span", "0.5"], "above 1"),
        (["break-even", *SMALL, "--parameter", "gpus"], "--target"),
        (["break-even", *SMALL, "--metric", "tpot", "--target", "5mm"], "a number above 0 [s]"),
        (["break-even", *SMALL, "--low", "7", "--high", "3"], "below high"),
        (["break-even", "llama-3.1-70b", "--context", "8k"], "no experts"),
        (["certify", *SMALL, "--box", "0.1", "--box", "hbm_bw=0.2"], "one share such as 0.25, or"),
        (["certify", *SMALL, "--box", "q=1", "--box", "q=2"], "--box q is given twice; give it"),
        (["compare", "mixtral-8x7b", "mixtral-8x7b:hbm_bw=x2"], "@ACCELERATOR:hbm_bw=x2"),
        (["design", *SMALL], "no quantity|either --budget or --target"),
        (["design", *SMALL, "--price", "hbm_bw=x", "--budget", "1"], "FIELD=COST"),
        (["design", *SMALL, "--price", "hbm_bw=0", "--budget", "1"], "infinite hardware"),
    ],
)
def test_mistakes_end_with_one_message(arguments, words):
    done = run(*arguments, code=2)
    assert any(word in done.output.replace("\n", " ") for word in words.split("|"))
    assert "Traceback" not in done.output
