"""What the verbs say to a person: names, units, notes, and nothing that was asked left out."""

import dataclasses
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import qsjax as qs
from qsjax import catalog
from qsjax.cli import cli
from qsjax.cost.roofline import take_apart
from qsjax.grid.diagnosis import remarks
from qsjax.records.specs import PAPER, PHYSICAL, Partition, Records, Workload


def said(*words, code=0):
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize(
    "line", ["mlc_llm serve m", "aphrodite run m -tp 2", "mystery serve m", "koboldcpp --model m"]
)
def test_a_program_that_is_no_engine_is_no_model_either(line):
    done = CliRunner().invoke(cli, ["explain", "--hardware", "h100-sxm", "--", *line.split()])
    assert done.exit_code == 2
    assert f"'{line.split()[0]}' is not an engine whose flags are read" in done.stderr


def test_the_ffn_of_a_dense_model_is_not_called_experts():
    text = said("explain", "llama-3.1-8b", "--hardware", "h100-sxm", "--tp", "2").stdout
    assert "weights: FFN" in text
    assert "reading weights: FFN" in text
    assert "routed" not in text


def test_the_experts_of_a_mixture_are():
    text = said("explain", "mixtral-8x7b", "--hardware", "h100-sxm", "--tp", "8").stdout
    assert "weights: routed experts" in text
    assert "if it ran" not in text


def test_ledgers_of_a_design_that_does_not_run_say_so():
    text = said("explain", "deepseek-v3", "--hardware", "h100-sxm", "--tp", "8").stdout
    assert "does not run" in text
    assert "what it would take with 1 sequence if it ran" in text


def test_a_batch_that_does_not_fit_is_answered_by_the_one_that_does():
    flags = ("--hardware", "h100-sxm", "--tp", "4", "--batch", "64")
    text = said("explain", "llama-3.1-70b", *flags).stdout
    assert "As many GPUs run it with tensor parallelism over 4 GPUs, 56 users, 34 ms a" in text


def test_a_dense_model_is_not_compared_with_a_mixture():
    flags = ("--gpus", "1", "--hardware", "h100-sxm", "--context", "8k")
    assert "MoE" not in said("explore", "llama-3.1-8b", *flags).stdout
    assert "(paper)" not in said("explore", "mixtral-8x7b", *flags, "--weights", "fp4").stdout
    assert "vs MoE" in said("explore", "mixtral-8x7b", *flags, "--weights", "fp4").stdout


def test_one_gpu_is_no_plural():
    flags = ("--gpus", "1", "--hardware", "h100-sxm", "--context", "8k")
    assert "on 1 h100-sxm GPU:" in said("explore", "llama-3.1-70b", *flags).stdout


LLAMA = qs.Problem("llama-2-7b", "h100-sxm", gpus=1)
BEYOND = {
    "5,120": lambda: qs.explore(dataclasses.replace(LLAMA, context="5k")),
    "6,000": lambda: qs.explain_command(
        "vllm serve meta-llama/Llama-2-7b-hf --max-model-len 6000", "h100-sxm"
    ),
    "5,010": lambda: qs.simulate(LLAMA, users=1, isl=5000, osl=10, requests=20),
    "5,011": lambda: qs.size(LLAMA, users=1, isl=5001, osl=10, quantile=0.5, replica_gpus=[1]),
    "5,012": lambda: qs.prefix_cache(LLAMA, isl=5000, osl=12),
    "5,013": lambda: qs.mix(LLAMA, [qs.Request(5013, 1), qs.Request(100, 1)]),
}


@pytest.mark.parametrize("length", BEYOND)
def test_contexts_beyond_the_published_ones_are_told_in_python(length):
    found = BEYOND[length]()
    said = f"Note: llama-2-7b is published for up to 4,096 tokens; {length} is beyond that."
    assert said in repr(found)
    assert said in found._repr_html_()
    assert "Note: " not in repr(qs.explore(LLAMA))
    refused = [note for note in getattr(found, "notes", ()) if "engines refuse a limit of" in note]
    assert len(refused) == (length == "6,000")


@pytest.mark.parametrize("verb", ["explore", "pareto", "compare", "explain", "sensitivity"])
def test_contexts_beyond_the_published_ones_are_noted(verb):
    flags = ["--hardware", "h100-sxm", *(["--tp", "8"] if verb == "explain" else ["--gpus", "8"])]
    if verb == "sensitivity":
        flags += ["--span", "1", "--parameter", "hbm_bw"]
    long = said(verb, "mixtral-8x7b", *flags, "--context", "64k")
    assert "published for up to 32,768 tokens; 65,536 is beyond that" in long.stderr
    assert not said(verb, "mixtral-8x7b", *flags, "--context", "32k").stderr
    assert not said(verb, "mixtral-8x7b", *flags, "--context", "64k", "-q").stderr


def test_a_parameter_without_effect_is_shown_if_it_was_named():
    flags = ("--hardware", "h100-sxm", "--gpus", "8", "--context", "8k", "--span", "1")
    asked = ("--metric", "max_batch", "--parameter", "hbm_bw,hbm_bytes")
    text = said("sensitivity", "llama-3.1-70b", *flags, *asked).stdout
    assert "hbm_bw" in text
    assert "+0.000" in text
    assert "left out" not in text


def test_parameters_that_the_table_leaves_out_are_counted():
    flags = ("--hardware", "h100-sxm", "--gpus", "8", "--context", "8k", "--span", "1")
    text = said("sensitivity", "llama-3.1-70b", *flags).stdout
    assert "parameters below 0.005 are left out" in text
    assert text.count("┃ parameter") == 1  # one table


def test_a_comparison_without_a_turn_names_who_leads():
    flags = ("--hardware", "h100-sxm", "--gpus", "8", "--context", "1k,2k")
    text = said("compare", "mixtral-8x7b", *flags).stdout
    assert "mixtral-8x7b leads at every context." in text
    assert "paper" not in text


def test_a_front_without_points_is_no_empty_table():
    flags = ("--hardware", "h100-sxm", "--gpus", "8", "--max-tpot", "1ms")
    text = said("pareto", "llama-3.1-70b", *flags).stdout
    assert "tok/s/user" not in text
    assert "no faster accelerator that was tried" in text


def test_a_target_that_is_a_time_is_one_of_tpot():
    line = "break-even llama-3.1-70b --parameter gpus --target 20ms --context 8k".split()
    assert "4 GPUs keep TPOT <= 20 ms" in said(*line).stdout


def test_times_of_a_target_have_their_unit():
    flags = ("--hardware", "h100-sxm", "--parameter", "gpus", "--metric", "tpot", "--context", "8k")
    text = said("break-even", "mixtral-8x7b", *flags, "--gpus", "8,16", "--target", "0.05").stdout
    assert "GPUs keep TPOT <= 50 ms with " in text
    assert " ms, and no fewer of those tried." in text


@pytest.mark.parametrize(("verb", "default"), [("pareto", "8k"), ("compare", "1k,8k,32k,128k")])
def test_the_help_names_the_contexts_that_are_taken(verb, default):
    text = " ".join(said(verb, "--help").stdout.split())
    assert f"Contexts, as 1k,128k,1M. [default: {default}]" in text


def test_a_reader_that_has_enough_is_no_mistake():
    command = [sys.executable, "-m", "qsjax", "models", "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert b"Error" not in process.stderr.read()
    assert process.returncode == 1


def test_degrees_of_a_mix_are_whole_numbers(tmp_path):
    (tmp_path / "requests.csv").write_text("isl,osl\n1000,500\n")
    flags = ["--gpus", "4", "--hardware", "h100-sxm", "--format", "json"]
    done = said("mix", "mixtral-8x7b", str(tmp_path / "requests.csv"), *flags)
    (first, _) = json.loads(done.stdout)["mixes"]
    for design in (first["design"], first["classes"][0]["own_design"]):
        assert all(isinstance(design[name], int) for name in ("tp", "ep", "pp", "dp", "kvp"))
        assert design["kvp"] == 1
        assert design["kv_mode"] == "none"


@pytest.mark.parametrize(("kv", "bound"), [("fp8", "kernel"), ("bf16", "HBM")])
def test_a_kernel_that_the_memory_waits_for_is_told(kv, bound):
    flags = ["--hardware", "h100", "--kv", kv, "--context", "128k", "--batch", "8"]
    found = json.loads(said("explain", "gpt-oss-20b", *flags, "--format", "json").stdout)
    roof = found["stated"]["roofline"]["attention"]
    assert roof["bound"] == bound
    # By hand: 8 of 64 rows, and of a score's time the part that is not its softmax.
    chip = catalog.hardware("h100-sxm")
    product = 4 * 64 / (chip.flops_bf16 * chip.eff_attention)
    softmax = 1 / (chip.flops_exp * chip.eff_exp)
    assert roof["filled"] == pytest.approx(8 / 64 * product / (product + softmax), rel=1e-12)
    notes = " ".join(found["notes"])
    told = "8 query rows of a KV head fill 12.5 % of 1 x 64 rows"
    assert (told in notes) == (bound == "kernel")


@pytest.mark.parametrize(
    ("tokens", "changed", "told", "not_told"),
    [
        (1.0, {}, "8 query rows of a KV head fill 12.5 % of 1 x 64 rows, and with the", "matter"),
        (1.0, {"flops_exp": 0.0, "query_tile": 128.0}, "of 1 x 128 rows: this takes", "softmax"),
        # Full tiles: what else a step runs takes as long again.
        (9.0, {"query_tile": 8.0}, "faster memory would not help, faster exponentials", "specul"),
        (9.5, {"query_tile": 1.0}, "the softmax of 76 query rows of a KV head takes", "fill"),
    ],
)
def test_what_a_kernel_waits_for(tokens, changed, told, not_told):
    chip = dataclasses.replace(catalog.hardware("h100-sxm"), **changed)
    work = Workload(context=131_072.0, batch=8.0, bytes_kv=1.0, query_tokens=tokens)
    at = Records(catalog.model("gpt-oss-20b"), chip, Partition(), work, None)
    (text,) = remarks(at, PHYSICAL, take_apart(at, PHYSICAL).roofs["attention"])
    assert told in text
    assert not_told not in text


@pytest.mark.parametrize(("context", "told"), [((), True), (("--context", "8k"), False)])
def test_the_limit_of_an_engine_is_no_usual_length(context, told):
    engine = ["--", "vllm", "serve", "openai/gpt-oss-120b", "-tp", "8", "--max-model-len", "131072"]
    flags = ["--hardware", "h100", *context, "--format", "json", *engine]
    notes = " ".join(json.loads(said("explain", "gpt-oss-120b", *flags).stdout)["notes"])
    assert ("counts as long as the engine's limit of 131,072 tokens" in notes) == told


class TestRemarks:
    def of(self, model, convention=PHYSICAL, **degrees):
        chip = catalog.hardware("h100-sxm")
        part, work = Partition(**degrees), Workload(context=8192.0)
        return remarks(Records(catalog.model(model), chip, part, work), convention)

    def test_tp_inside_an_island_and_within_the_kv_heads_needs_none(self):
        assert self.of("llama-3.1-70b", tp=8.0) == []

    def test_tp_across_islands_names_both_fabrics(self):
        across, copies = self.of("llama-3.1-70b", tp=16.0)
        assert "tp=16 leaves its island of 8 GPUs" in across
        assert "50 GB/s per GPU against 450" in across
        assert "2 times over, as there are 8 KV heads" in copies

    def test_a_latent_is_copied_by_every_rank(self):
        (copies,) = self.of("deepseek-v3", tp=8.0)
        assert "8 times over, as all heads share its latent" in copies
        assert self.of("deepseek-v3", PAPER, tp=8.0) == []


def test_many_contexts_beyond_the_published_ones_are_told_by_their_ends():
    long = said("explore", "llama-2-7b", "--gpus", "8", "--context", "4k,8k,16k,32k,64k")
    assert "up to 4,096 tokens; 8,192 to 65,536 are beyond that." in long.stderr
