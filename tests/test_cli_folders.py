"""Every verb with `--out` leaves its inputs in the folder, and a page can be made of it."""

import json

import pytest
from click.testing import CliRunner

from qsjax.cli import cli, printing

SMALL = ["--gpus", "4", "--hardware", "h100-sxm"]
RUNS = {
    "explore": ["mixtral-8x7b", "--context", "8k", *SMALL],
    "explain": ["mixtral-8x7b", "--tp", "4", "--hardware", "h100-sxm"],
    "compare": ["mixtral-8x7b", "--context", "8k,32k", *SMALL],
    "pareto": ["mixtral-8x7b", "--context", "8k", *SMALL],
    "mix": ["mixtral-8x7b", "requests.csv", *SMALL],
    "sensitivity": ["mixtral-8x7b", "--context", "8k", "--parameter", "hbm_bw", "--span", "1",
                    "--uncertain", "q=normal:5,1", "--draws", "4", *SMALL],
}  # fmt: skip


@pytest.mark.parametrize("verb", list(RUNS))
def test_a_folder_holds_its_inputs_and_becomes_a_page(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requests.csv").write_text("isl,osl\n1000,500\n8000,1000\n")
    # Rich and click write to the standard output of the process, which the runner replaces.
    done = CliRunner().invoke(cli, [verb, *RUNS[verb], "--out", "results"])
    assert done.exit_code == 0, done.output
    _, _, said = done.stderr.strip().rpartition("Written to results: ")
    assert set(said.split(", ")) == {path.name for path in (tmp_path / "results").iterdir()}
    inputs = json.loads((tmp_path / "results" / "inputs.json").read_text())
    assert inputs["command"][:2] == [verb, "mixtral-8x7b"]
    text = json.dumps(inputs)
    assert '"hbm_bw": 3350000000000.0' in text
    assert '"expert_ff": 14336' in text
    page = CliRunner().invoke(cli, ["report", "results"])
    assert page.exception is None
    assert page.exit_code == 0


def test_a_comparison_is_drawn_once_for_each_accounting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(
        cli, ["compare", *RUNS["compare"], "--convention", "both", "--out", "results"]
    )
    from qsjax.output.report.charts import charts
    from qsjax.output.report.reading import read

    titles = [chart["title"] for chart in charts(read(tmp_path / "results").tables, "physical", "")]
    assert titles == [
        f"Throughput of the best design over context, {name} accounting"
        for name in ("physical", "paper")
    ]


def test_a_reader_who_stops_listening_loses_no_file(tmp_path, monkeypatch):
    """`qsjax explore ... --out DIR | head -1` left no folder."""

    def closed(_):
        raise BrokenPipeError

    monkeypatch.setattr(printing, "table", closed)
    line = f"explore llama-3.1-8b --gpus 1 --context 8k --out {tmp_path / 'out'}"
    CliRunner().invoke(cli, line.split())
    assert (tmp_path / "out" / "best.csv").exists()
