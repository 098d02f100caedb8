"""`qsjax explore` and the catalogue verbs, run as a user runs them."""

import contextlib
import json
import re

import pytest
from click.testing import CliRunner
from prompt import process, qsjax

from qsjax import catalog
from qsjax.cli import cli
from qsjax.grid.problem import Problem
from qsjax.output import files
from qsjax.questions.explore import explore
from qsjax.records.checks import divisors


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The README's main job: JSON on standard output and a result folder."""
    out = tmp_path_factory.mktemp("results") / "demo"
    asked = ("--gpus", "64", "--hardware", "paper-reference", "--format", "json")
    done = process("explore", "deepseek-v3", *asked, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), out


def test_the_main_job_evaluates_a_million_cells(run):
    result, _ = run
    assert result["cells_evaluated"] >= 5 * 10**5
    assert result["answer"].startswith("On 64 of the paper's accelerators, deepseek-v3 is fastest")
    assert 0 < result["cells_feasible"] < result["cells_evaluated"]
    assert result["infeasible_reasons"]["wrong GPU count"] > 0
    assert len(result["best"]) == 2 * 8  # 1k to 128k: it is published for 160k


def test_every_row_has_the_documented_keys(run):
    result, _ = run
    keys = set("model variant context q tp ep pp dp kvp kv_mode batch".split())
    keys |= {"tpot", "replicas", "tokens_per_s_per_gpu", "bound_by", "terms"}
    for row in result["best"]:
        assert keys <= set(row)
        assert row["tp"] * row["pp"] * row["dp"] * row["kvp"] * row["replicas"] == 64
        assert sum(row["terms"].values()) == pytest.approx(row["tpot"], rel=1e-12)


def test_the_folder_holds_data_tables_figures_and_inputs(run):
    import xarray as xr

    result, out = run
    assert json.loads((out / "result.json").read_text())["best"] == result["best"]
    with xr.open_dataset(out / "best.nc", engine="h5netcdf") as data:
        first = result["best"][0]
        cell = data.sel(variant="moe", gpus=64, context=first["context"])
        assert float(cell.tokens_per_s_per_gpu) == first["tokens_per_s_per_gpu"]
    assert (out / "best.csv").read_text().startswith("model,hardware,variant,q,gpus,context")
    for name in ("throughput", "partition", "time"):
        assert (out / f"{name}.svg").read_text().lstrip().startswith("<?xml")
    inputs = json.loads((out / "inputs.json").read_text())
    assert inputs["command"] == ["explore", "deepseek-v3"]
    assert inputs["hardware"]["paper-reference"]["hbm_bytes"] == 180e9
    assert inputs["models"]["deepseek-v3"]["experts"] == 256
    assert inputs["workloads"]["deepseek-v3"]["bytes_ffn_weight"] == 1
    assert inputs["repeat"].startswith("qsjax explore deepseek-v3 --gpus 64")


def test_the_table_names_the_winner_and_the_reasons():
    done = qsjax("explore", "llama-3.1-8b", "--gpus", "1", "--context", "8k", "--hardware", "h100")
    assert done.returncode == 0, done.stderr
    assert "8k" in done.stdout
    assert "designs decided" in done.stdout
    assert "Infeasible, by reason" in done.stdout


def test_csv_is_one_row_a_cell():
    done = qsjax(
        *("explore", "mixtral-8x7b", "--gpus", "8", "--context", "8k,128k"),
        *("--twins", "2", "--hardware", "h100", "--format", "csv"),
    )
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.strip().splitlines()
    assert "tokens_per_s_per_gpu" in head
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explore", "deepsek-v3"], ["deepsek-v3", "did you mean deepseek-v3"]),
        (["explore", "deepseek-v3", "--hardware", "h1000"], ["h1000", "h100-sxm"]),
        (["explore", "deepseek-v3", "--tp", "3"], ["tp=3 does not divide 128 query heads"]),
        (["explore", "deepseek-v3", "--ep", "512"], ["ep=512 does not divide 256 experts"]),
        (["explore", "deepseek-v3", "--context", "0"], ["--context", "positive whole numbers"]),
        (["explore", "deepseek-v3", "--twins", "0"], ["--twins", "positive numbers"]),
        (["explore", "deepseek-v3", "--twins", "nan"], ["--twins", "positive numbers"]),
        (["explore", "deepseek-v3", "--gpus", ""], ["--gpus", "empty"]),
        (["explore", "deepseek-v3", "--tp", "a,b"], ["--tp", "not a list of numbers"]),
        (["explore", "deepseek-v3", "--kv-mode", "ring"], ["ring", "none, kvp, cp"]),
        (["explore", "deepseek-v3", "--convention", "mine"], ["--convention", "physical"]),
        (["explore"], ["MODEL"]),
        # `--out "$DIR"` of an unset variable wrote eight files beside those of the user.
        (["pareto", "qwen3-8b", "--out", ""], ["--out is empty; give a value, or leave it out"]),
        (
            ["design", "qwen3-8b", "--price", "hbm_bw=3", "--price", "hbm_bw=4"],
            ["--price hbm_bw is given twice"],
        ),
        (["simulate", "qwen3-8b", "--mixed", "--prompts-first"], ["--mixed/--prompts-first"]),
        (["models", "show", "llama-3"], ["llama-3"]),
        (["hardware", "show", "nothing"], ["nothing", "known"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_mistakes_end_with_one_message_and_exit_code_2(arguments, words, tmp_path):
    if arguments[0] == "explore":
        arguments = [*arguments, "--out", str(tmp_path / "out")]
    with contextlib.chdir(tmp_path):
        done = qsjax(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_broken_hardware_file_is_named_with_all_its_problems(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("hbm_capacity_gb = -80\nhbm_bandwidth_tb_per_s = 0\nhbm_bandwith_gb = 3\n")
    done = qsjax("explore", "mixtral-8x7b", "--hardware", str(file))
    assert done.returncode == 2
    for word in ("mine.toml", "hbm_capacity", "hbm_bandwidth", "hbm_bandwith"):
        assert word in done.stderr


def test_models_json_has_the_counted_and_the_published_parameters():
    done = qsjax("models", "show", "llama-3.1-70b", "--format", "json")
    shown = json.loads(done.stdout)
    assert shown["params_total"] == 70_552_387_584
    assert shown["kv_bytes_per_token_bf16"] == 8 * 40_960
    listed = json.loads(qsjax("models", "--format", "json").stdout)
    assert len(listed) >= 30
    assert {"deepseek-v3", "grok-1", "switch-c-2048"} <= {row["name"] for row in listed}


@pytest.mark.parametrize(
    "name", ["deepseek-v3.2", "llama-3.1-8b", "qwen3-next-80b-a3b", "gpt-3-175b"]
)
def test_the_parts_of_a_model_sum_to_its_total(name):
    shown = json.loads(CliRunner().invoke(cli, ["models", "show", name, "--format", "json"]).stdout)
    assert sum(shown["params_by_part"].values()) == shown["params_total"]
    assert shown["params_by_part"]["attention"] > shown["params_norm"] > 0


def test_hardware_json_has_every_number_and_its_source():
    lines = qsjax("hardware", "show", "h100").stdout.splitlines()
    told = {name: value for name, _, value in (line.partition("  ") for line in lines)}
    for name, value in {"hbm_bw": "3.35 TB/s", "flops_fp8": "1.978 PFLOP/s", "watts": "700 W",
                        "intra_latency": "3 us", "usd_per_hour": "6.88 USD/h"}.items():  # fmt: skip
        assert told[name].strip() == value
    shown = json.loads(qsjax("hardware", "show", "h100", "--format", "json").stdout)
    assert shown["hbm_bw"] == 3.35e12
    assert shown["sources"]
    assert len(json.loads(qsjax("hardware", "--format", "json").stdout)) >= 18


def test_version_and_help():
    assert process("--version").stdout.startswith("qsjax")
    assert "explore" in qsjax("--help").stdout
    shown = qsjax("explore", "--help").stdout
    assert "\\b" not in shown
    assert "\n    qsjax explore deepseek-v3 --gpus 64\n" in shown


@pytest.mark.parametrize(
    ("model", "flag", "expected"),
    [("gpt-oss-20b", None, 0.53125), ("gpt-oss-20b", "fp4", 0.5625), ("deepseek-v3", None, 1.0)],
)
def test_four_bit_weights_have_scales(model, flag, expected):
    """MXFP4 has a scale for 32 elements, NVFP4 one for 16."""
    assert catalog.workload(model, flag).bytes_ffn_weight == expected


def test_a_batch_that_does_not_fit_makes_no_split_illegal():
    split = "--tp 2 --ep 1 --pp 1 --dp 1 --kvp 1 --context 8k --batch 4096"
    arguments = ["explore", "mixtral-8x7b", "--gpus", "3", *split.split()]
    output = CliRunner().invoke(cli, arguments).output
    illegal = re.findall(r"is legal \(([^)]*)\)", output)
    assert illegal
    assert all("wrong GPU count" in why and "batch" not in why for why in illegal)


def test_divisors_of_large_counts_end_at_once():
    assert len(divisors(963_761_198_400)) == 6_720


@pytest.mark.parametrize(
    ("gpus", "words"),
    [("1e6k", "a whole number from 1 to 1e+09"), ("8,,16", "not a list of numbers")],
)
@pytest.mark.parametrize("verb", ["explore", "pareto", "sensitivity"])
def test_counts_beyond_reason_and_gaps_in_lists_are_told(verb, gpus, words):
    result = CliRunner().invoke(cli, [verb, "mixtral-8x7b", "--gpus", gpus])
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x"])
def test_no_text_in_csv_is_a_formula(name):
    assert files.csv_text([{"model": name, "gain": -1.5}]) == f"model,gain\n'{name},-1.5\n"


def test_twins_of_a_dense_model_are_told_to_change_nothing():
    asked = ("explore", "llama-3.1-8b", "--gpus", "1", "--context", "8k")
    told = "Note: llama-3.1-8b is dense, so twins change nothing: there are none."
    assert told in qsjax(*asked, "--twins", "5").stderr
    assert "twins" not in qsjax(*asked).stderr
    # In Python nothing was said.
    problem = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="8k", twins=5)
    assert explore(problem).cautions() == [told]
    assert explore(problem.replace(twins=())).cautions() == []
    assert explore(problem.replace(model="mixtral-8x7b", gpus=8)).cautions() == []
    with pytest.raises(ValueError, match="Problem has no field 'gpu'; did you mean gpus"):
        problem.replace(gpu=8)


def test_a_share_in_per_cent_is_told_as_one():
    done = qsjax("speculate", "llama-3.1-8b", "--acceptance", "85%", code=2)
    assert "'85%' is not a number; 85 % is 0.85" in done.stderr
