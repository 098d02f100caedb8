"""Questions with an engine: its kernels in place of constants that fit all engines."""

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from tolerances import EXACT

import qsjax as qs
from qsjax import catalog
from qsjax.catalog import toml
from qsjax.cli import cli
from qsjax.cost.decode import decode_step
from qsjax.cost.speculation import speculated
from qsjax.engines.held import held
from qsjax.engines.reading import read
from qsjax.engines.tuning import Formats, tune
from qsjax.numerics.numpy_backend import on_host
from qsjax.questions.explain.stated import Asked, stated_by
from qsjax.questions.simulation.loads import scheduled
from qsjax.records.specs import PHYSICAL, Partition, Records
from qsjax.streaming import spec
from qsjax.streaming.asked import Options, complaints

LLAMA = {"model": "llama-3.1-70b", "hardware": "h100-sxm", "gpus": 8, "context": "2k"}
TP8 = Partition(tp=8)


def asked(**changes):
    return qs.Problem(**{**LLAMA, "engine": "vllm", **changes})


def test_a_command_line_counts_experts_as_its_kernels_were_fitted():
    """As records do whose errors are published, and as `engine=` does."""
    words = "vllm serve deepseek-ai/DeepSeek-V3 -tp 8 --enable-expert-parallel"
    asked = Asked(tuple(words.split()), "h200-sxm", {}, None, None)
    assert stated_by(asked).problem.stated.rules_of().expert_balance == "skewed"
    plain = asked._replace(words=(), model="deepseek-v3", design={"tp": 8})
    assert stated_by(plain).problem.stated.rules_of().expert_balance == "even"
    # So do the drafts of its own layer, whose experts were counted as evenly loaded.
    words += " --max-num-seqs 64 --speculative-config.method mtp"
    words += " --speculative-config.num_speculative_tokens 1"
    found = stated_by(asked._replace(words=tuple(words.split()))).problem.stated
    (model,), (device,) = found.models, found.accelerators
    work = dataclasses.replace(
        model.workload, batch=64.0, query_tokens=1.0, tokens_per_step=1.0, draft_time=0.0
    )
    records = Records(model.spec, device.tuned[model.name].spec, Partition(tp=8, ep=8), work, None)
    drafted = speculated(records, found.rules_of(), "mtp", 0.8, 1.0)
    draft_time = float(drafted.workload.draft_time)
    assert float(model.workload.draft_time) == pytest.approx(draft_time, rel=EXACT)


def test_each_of_several_accelerators_counts_experts_as_alone(tmp_path):
    """One with measured kernels made those without count as it does: 670 tokens/s/GPU were 666."""
    names = ["a100-sxm", "h100-sxm"]
    several = asked(model="deepseek-v3", hardware=names, gpus=64, context="8k", twins=())
    alone = [qs.explore(several.replace(hardware=name)).rows()[0] for name in names]
    both = qs.explore(several).rows()
    for one, of_both in zip(alone, both, strict=True):
        assert of_both["tokens_per_s_per_gpu"] == one["tokens_per_s_per_gpu"], one["hardware"]
    with pytest.raises(ValueError, match="the load of experts is counted in several ways"):
        qs.sweep(several, tmp_path)


def test_a_settings_file_says_which_kernels_multiply_the_experts(tmp_path):
    """In one quoted text, which ends as the name of a file does."""
    path = tmp_path / "options.yaml"
    line = f"trtllm-serve nvidia/DeepSeek-R1-0528-FP4 --tp_size 8 --extra_llm_api_options {path}"
    for backend, entry in (("CUTLASS", "nvfp4_cutlass experts"), ("TRTLLM", "nvfp4 experts")):
        path.write_text(f"moe_config:\n  backend: {backend}\n")
        done = CliRunner().invoke(cli, ["explain", line, "--hardware", "b200", "--context", "8k"])
        assert done.exit_code == 0, done.output
        assert entry in " ".join(done.output.split())
        assert "not read" not in done.output


@pytest.mark.parametrize(
    ("words", "hardware", "told"),
    [
        ("vllm serve nvidia/DeepSeek-R1-NVFP4 -tp 8 --moe-backend flashinfer_cutlass", "b200", ""),
        ("vllm serve openai/gpt-oss-120b --moe-backend=marlin", "h100", ""),
        ("sglang serve openai/gpt-oss-120b --moe-runner-backend auto", "b200", ""),
        ("vllm serve nvidia/DeepSeek-R1-NVFP4 -tp 8 --moe-backend marlin", "b200", "marlin"),
        ("sglang serve Qwen/Qwen3-30B-A3B-FP8 --moe-runner-backend triton", "h200", "triton"),
    ],
)
def test_a_backend_of_the_experts_is_told_where_it_changes_nothing(words, hardware, told):
    """All were "not read", also those whose kernels the answer named and counted."""
    command = read(words)
    entry = catalog.model_entry(command.model)
    device = catalog.hardware_entry(hardware)
    part = Partition(tp=command.tp)
    notes = held(command, entry, device, part, qs.workload(command.model)).notes
    said = [one for one in (*command.notes, *notes) if "not read" in one]
    assert said == (
        [f"not read, though it may change time: the experts' backend {told}"] * bool(told)
    )
    assert not any("fp8_block are known" in one for one in notes)  # all tables of FP8 are of blocks


@pytest.mark.parametrize(
    ("engine", "model", "hardware"),
    [
        ("vllm", "gpt-oss-120b", "h100-sxm"),  # Triton's kernels, which launch more
        ("trtllm", "gpt-oss-20b", "h200-sxm"),
        ("vllm", "gpt-oss-120b", "mi300x"),
        ("sglang", "nvidia/DeepSeek-R1-NVFP4", "b200-sxm"),
        ("vllm", "nvidia/Qwen3-30B-A3B-NVFP4", "h100-sxm"),
        ("vllm", "Qwen/Qwen3-30B-A3B-FP8", "h200-sxm"),
    ],
)
def test_a_command_line_and_an_engine_have_the_same_kernels(engine, model, hardware):
    """Launches and 16-bit units of four-bit weights were those of the command line alone."""
    program = {"vllm": "vllm serve", "sglang": "sglang serve", "trtllm": "trtllm-serve"}[engine]
    entry, device = catalog.model_entry(model), catalog.hardware_entry(hardware)
    command = read(f"{program} {model}")
    kernels = held(command, entry, device, Partition(), qs.workload(model)).hardware
    (tuned,) = qs.Problem(model, hardware, engine=engine).stated.accelerators[0].tuned.values()
    for field in dataclasses.fields(kernels):
        if not field.name.endswith(("reserve_bytes", "usable_fraction")):  # rules of memory
            assert getattr(kernels, field.name) == getattr(tuned.spec, field.name), field.name


@pytest.mark.parametrize(
    ("changes", "formats"),
    [
        ({}, ("bf16", "bf16", "bf16")),
        ({"weights": "fp8", "kv": "fp8"}, ("fp8", "fp8", "fp8")),
        ({"engine": "sglang", "model": "mixtral-8x7b"}, ("bf16", "bf16", "bf16")),
        ({"engine": "trtllm", "hardware": "b200-sxm", "model": "deepseek-v3"},
         ("fp8_block", "fp8_block", "latent")),
        ({"engine": "sglang", "hardware": "mi300x"}, ("bf16", "bf16", "bf16")),
    ],
)  # fmt: skip
def test_steps_are_those_of_the_kernels(changes, formats):
    """The best design's step is the law of a step on the tuned accelerator, load skewed."""
    problem = asked(**changes)
    device, served = problem.stated.accelerators[0], problem.stated.models[0]
    entry = catalog.hardware_entry(device.name)
    dense, experts, cache = formats
    tuned = tune(entry, problem.engine, Formats(dense=dense, experts=experts, cache=cache))
    (row,) = qs.explore(problem).rows()
    degrees = {name: float(row[name]) for name in ("tp", "ep", "pp", "dp", "kvp")}
    mode = {"none": 0.0, "kvp": 1.0, "cp": 2.0}[row["kv_mode"]]
    work = dataclasses.replace(served.workload, context=2048.0, batch=float(row["batch"]))
    rules = dataclasses.replace(PHYSICAL, expert_balance=tuned.expert_balance)
    part = Partition(**degrees, kv_mode=mode, replicas=float(row["replicas"]))
    step = on_host(decode_step)(Records(served.spec, tuned.spec, part, work), rules)
    assert row["tpot"] == pytest.approx(float(step.tpot), rel=EXACT)
    assert problem.engine in row["interval_rests_on"]
    assert row["tpot"] != pytest.approx(
        qs.explore(dataclasses.replace(problem, engine="")).rows()[0]["tpot"], rel=0.01
    )


def test_a_command_line_and_its_engine_say_the_same():
    command = "vllm serve meta-llama/Llama-3.1-70B-Instruct -tp 8"
    told = qs.explain_command(command, "h100-sxm", context=2048, design={"batch": 256})
    found = qs.explain(asked(batch=256), TP8)
    assert float(found.stated.parts.step.tpot) == pytest.approx(
        float(told.stated.parts.step.tpot), rel=EXACT
    )
    assert found.engine == told.engine == "vllm"
    assert any("hopper vllm, bf16 products" in line for line in found.remarks())
    again = qs.explain_command(
        "", "h100-sxm", model="llama-3.1-70b", engine="vllm", context=2048,
        design={"batch": 256, "tp": 8},
    )  # fmt: skip
    assert again.stated.parts.step.tpot == found.stated.parts.step.tpot
    with pytest.raises(ValueError, match="the command line is one of vllm; drop engine"):
        qs.explain_command(command, "h100-sxm", engine="sglang")


def test_models_of_several_formats_have_kernels_of_their_own():
    both = asked(model=["llama-3.1-70b", "deepseek-v3"], hardware="h200-sxm", gpus=16)
    rows = qs.explore(both).rows()
    for row in rows:
        (alone,) = qs.explore(asked(model=row["model"], hardware="h200-sxm", gpus=16)).rows()
        assert row["tpot"] == alone["tpot"]
    wrong = dict(complaints(both, Options()))
    assert "kernels of several formats" in wrong["engine"]


def test_a_sweep_is_what_explore_finds(tmp_path):
    problem = asked(axes={"tp": [4, 8], "pp": [1, 2], "dp": [1], "kvp": [1]})
    found = qs.sweep(problem, tmp_path / "out").dataset
    (row,) = qs.explore(problem).rows()
    assert float(found["tpot"].squeeze()) == pytest.approx(row["tpot"], rel=EXACT)
    other = dataclasses.replace(problem, engine="sglang")
    with pytest.raises(ValueError, match=r'engine: was "vllm", now "sglang"'):
        qs.sweep(other, tmp_path / "out", resume=True)
    text = '[sweep]\nmodels = ["llama-3.1-70b"]\nhardware = ["h100-sxm"]\nengine = "%s"\n'
    text += '[axes]\ngpus = 8\ncontext = "2k"\n'
    (tmp_path / "spec.toml").write_text(text % "vllm")
    assert spec.asked_in(toml.read(tmp_path / "spec.toml"))[0].engine == "vllm"
    (tmp_path / "spec.toml").write_text(text % "vlm")
    with pytest.raises(ValueError, match=r"line 4: engine: 'vlm' .*did you mean vllm"):
        qs.sweep(tmp_path / "spec.toml", tmp_path / "other")


@pytest.mark.parametrize("convention", ["paper", "both"])
def test_the_papers_accounting_has_no_kernels(convention):
    """It took them untold, with intervals of that engine's measurements."""
    with pytest.raises(ValueError, match="engine: the paper's accounting knows no kernels"):
        asked(convention=convention)
    with pytest.raises(ValueError, match="engine: the paper's Table 2 varies an accelerator"):
        qs.study(asked(model="mixtral-8x7b", twins=5))
    line = "vllm serve meta-llama/Llama-3.1-70B-Instruct -tp 8"
    notes = qs.explain_command(line, "h100-sxm", context=2048, convention=convention).notes
    assert any("paper's accounting counts with them too" in note for note in notes)


def test_an_accelerator_without_measured_kernels_keeps_the_constants_of_all():
    tpu = asked(hardware="tpu-v6e", gpus=16)
    plain = dataclasses.replace(tpu, engine="")
    assert qs.explore(tpu).rows()[0]["tpot"] == qs.explore(plain).rows()[0]["tpot"]
    assert any("no kernels of vllm are known here" in line for line in qs.explore(tpu).remarks())


def test_simulations_run_its_kernels_under_its_scheduler():
    requests = {"users": 2, "isl": 500, "osl": 20, "requests": 20}
    rates = {
        engine: qs.simulate(asked(engine=engine), TP8, **requests).rows()[0]["tokens_per_s_per_gpu"]
        for engine in ("", "vllm", "sglang")
    }
    assert len(set(rates.values())) == 3
    assert scheduled(asked(engine="sglang")) == "sglang"
    assert scheduled(asked(engine="atom")) == "atom"
    assert scheduled(asked(engine="")) == "vllm"


@pytest.mark.parametrize("engine", ["vlm", "llama.cpp", 3])
def test_an_unknown_engine_is_told(engine):
    with pytest.raises(ValueError, match=r"engine: .*vllm, sglang, trtllm, atom"):
        asked(engine=engine)


def test_the_command_takes_an_engine():
    line = "explore llama-3.1-70b --hardware h100-sxm --gpus 8 --context 2k --format json"
    tpot = [
        CliRunner().invoke(cli, [*line.split(), *more]).stdout
        for more in ([], ["--engine", "vLLM"])
    ]
    assert "interval_rests_on" in tpot[1]
    assert tpot[0] != tpot[1]
    found = CliRunner().invoke(cli, [*line.split(), "--engine", "vlm"])
    assert found.exit_code == 2
    assert np.char.count(found.stderr, "vllm") >= 1
