"""explain, pareto, compare, mix and completion, run as a user runs them, mistakes included."""

import csv
import io
import json
import re
import shlex
import types

import prompt
import pytest

SMALL = ("mixtral-8x7b", "--hardware", "h100-sxm")


def qsjax(*arguments, code=0):
    return prompt.qsjax(*arguments, code=code)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """Runs the command as a user does; what it compiles is kept for the tests of this file."""
    cache = tmp_path_factory.mktemp("cache")

    def run(*arguments, **how):
        return prompt.process(*arguments, **{"code": 0, "QSJAX_CACHE": str(cache), **how})

    run.cache = cache
    return run


def as_json(done):
    """Standard output as strict JSON."""
    return json.loads(done.stdout, parse_constant=pytest.fail)


def mistake(done):
    """The one message of a run that was refused: nothing on standard output."""
    assert done.stdout == ""
    assert done.stderr.count("Error:") == 1
    return done.stderr


def asked(out):
    """What `inputs.json` of a folder says."""
    return json.loads((out / "inputs.json").read_text(), parse_constant=pytest.fail)


def test_explain_takes_a_design_apart_quietly_and_verbosely(process, tmp_path):
    arguments = ("explain", *SMALL, "--tp", "8", "--isl", "30000", "--osl", "2000")
    assert "contradict" in mistake(qsjax(*arguments, "--context", "32k", code=2))
    out = tmp_path / "explained"
    loud = process(*arguments, "--format", "json", "-v", "--out", str(out))
    assert "jax" in loud.stderr
    assert "Written to" in loud.stderr
    quiet = qsjax(*arguments, "--format", "json", "-q", "--out", str(tmp_path / "quiet"))
    assert (quiet.stdout, quiet.stderr) == (loud.stdout, "")
    record = as_json(loud)
    stated = record["stated"]
    assert stated["is_feasible"]
    assert record["context"] == 31000
    assert sum(stated["terms"].values()) == pytest.approx(stated["tpot"], rel=1e-12)
    assert sum(stated["memory_bytes"].values()) == pytest.approx(stated["hbm_bytes"], rel=1e-12)
    assert record["best"]["gain"] >= 1
    assert record["beside"] is None
    assert record["prefill"]["ttft"] > 0
    assert "--tensor-parallel-size" in record["best"]["engine_flags"]["vllm"]["flags"]
    assert json.loads((out / "result.json").read_text()) == record
    inputs = asked(out)
    assert shlex.split(inputs["repeat"])[1:3] == ["explain", "mixtral-8x7b"]
    assert (inputs["partition"]["tp"], inputs["contexts"]) == (8, [31000])
    assert inputs["flags"]["isl"] == [30000]
    assert inputs["models"]["mixtral-8x7b"]["experts"] == 8
    assert list(inputs["hardware"]) == ["h100-sxm"]
    for name in ("memory.svg", "roofline.svg"):
        assert (out / name).read_text().startswith("<?xml")


def test_explain_reads_engine_flags():
    vllm = ("vllm", "serve", "m", "--tensor-parallel-size", "4", "--data-parallel-size", "2")
    more = ("--enable-expert-parallel", "--max-num-seqs", "16", "--kv-cache-dtype", "fp8")
    one = as_json(qsjax("explain", *SMALL, "--format", "json", "--", *vllm, *more))
    sglang = ("--tp-size", "8", "--dp-size", "2", "--enable-dp-attention", "--ep-size", "8")
    more = ("--max-running-requests", "32", "--kv-cache-dtype", "fp8_e4m3", "--page-size", "16")
    two = as_json(qsjax("explain", *SMALL, "--format", "json", "--", *sglang, *more))
    # The same work on the same split; the kernels of each engine take their own time.
    for phase, work in one["stated"]["roofline"].items():
        other = two["stated"]["roofline"][phase]
        for name in ("flops", "hbm_bytes"):
            assert work[name] == pytest.approx(other[name], rel=1e-12)
    for side, engine in ((one, "vllm"), (two, "sglang")):
        assert any(f"constants of the kernels: hopper {engine}" in note for note in side["notes"])
    assert (one["stated"]["tp"], one["stated"]["dp"], one["stated"]["ep"]) == (4, 2, 8)
    assert one["stated"]["batch"] == 16
    assert any("ep=8 here" in note for note in one["notes"])


def test_the_static_share_of_sglang_leaves_its_buffers_out():
    """By hand: 0.85 of the 79.2 visible of 80 GiB, less 2.2 that NCCL and CUDA hold."""
    flags = ("--", "sglang", "--tp-size", "8", "--mem-fraction-static", "0.85")
    record = as_json(qsjax("explain", *SMALL, "--format", "json", *flags))
    memory = record["stated"]["memory_bytes"]
    outside = memory["reserve"] + memory["unused by engine"]
    assert (80 - outside / 2**30) == pytest.approx(0.85 * (0.99 * 80 - 2.2))
    written = record["best"]["engine_flags"]
    assert "--mem-fraction-static 0.85" in written["sglang"]["flags"]
    # vLLM's share also holds those 2.2, and 1,024 rows of logits.
    logits = 1024 * 32000 * 38 / 2**30
    share = round((0.85 * (0.99 * 80 - 2.2) + 2.2 + logits) / (0.99 * 80), 4)
    assert f"--gpu-memory-utilization {share}" in written["vllm"]["flags"]
    fuller = as_json(qsjax("explain", *SMALL, "--format", "json", *flags[:-1], "1"))
    assert "utilization" not in fuller["best"]["engine_flags"]["vllm"]["flags"]
    assert any("keeps more" in n for n in fuller["best"]["engine_flags"]["vllm"]["notes"])


def test_tensorrt_llm_has_its_own_flags_back():
    """Its share is of what is free beside the weights; who asks of others is not told of it."""
    words = "trtllm-serve meta-llama/Llama-3.3-70B-Instruct --tp_size 4 --max_batch_size 64"
    words += " --max_seq_len 16384 --kv_cache_free_gpu_memory_fraction 0.85 --kv_cache_dtype fp8"
    command = ("explain", "--hardware", "h200-sxm", "--format", "json")
    record = as_json(qsjax(*command, "--", *words.split()))
    written = record["stated"]["engine_flags"]
    assert written["trtllm"]["flags"].split() == words.split()[2:]
    assert "extra_llm_api_options" in written["trtllm"]["notes"][0]
    asked = (*command, "deepseek-v3", "--tp", "1", "--dp", "8", "--ep", "8", "--engine")
    flags = as_json(qsjax(*asked, "trtllm"))["stated"]["engine_flags"]["trtllm"]["flags"]
    assert flags.startswith("--tp_size 8 --enable_attention_dp --ep_size 8 --max_batch_size")
    assert "trtllm" not in as_json(qsjax(*asked, "vllm"))["stated"]["engine_flags"]


def test_explain_reads_the_file_of_a_script(tmp_path, monkeypatch):
    """By its name, behind the dashes, or from standard input; with ends of lines of Windows."""
    script = tmp_path / "run.sh"
    script.write_bytes(
        b"\xef\xbb\xbfvllm serve Qwen/Qwen3-8B \\\r\n  -tp 2 --max-model-len 4096\r\n"
    )
    flags = ("--hardware", "NVIDIA H100 80GB HBM3", "--format", "json")
    for words in ([script], ["--", script], ["-"]):
        given = types.SimpleNamespace(stdin=io.StringIO(script.read_text("utf-8")))
        monkeypatch.setattr("qsjax.cli.explain.sys", given)
        record = as_json(qsjax("explain", *flags, *words))
        assert (record["model"], record["hardware"]) == ("qwen3-8b", "h100-sxm")
        assert record["stated"]["tp"] == 2
    script.write_bytes(b"\xff\xfe\xff")
    assert "is not a text file" in qsjax("explain", *flags, script, code=2).stderr


def test_flags_may_follow_the_file_of_a_script(tmp_path):
    script = tmp_path / "run.sh"
    script.write_text("for TP in 1 2; do\n  vllm serve Qwen/Qwen3-8B -tp $TP &\ndone\n")
    flags = ("--hardware", "h100-sxm", "--format", "json", "--", script)
    assert any("-tp VALUE" in note for note in as_json(qsjax("explain", *flags))["notes"])
    assert as_json(qsjax("explain", *flags, "-tp", "2"))["stated"]["tp"] == 2


def test_a_count_of_gpus_may_stand_in_the_name_of_the_accelerator():
    said = ("explain", "qwen3-8b", "--format", "json", "--context", "4k")
    plain = as_json(qsjax(*said, "--hardware", "h200", "--gpus", "2"))
    for name in ("2xH200", "2 x NVIDIA H200", "H200-141GB x2", "H200:2"):
        assert as_json(qsjax(*said, "--hardware", name)) == plain


def test_models_and_dtypes_as_people_spell_them():
    said = ("--hardware", "h200", "--context", "4k", "--tp", "1", "--format", "json")
    plain = as_json(qsjax("explain", "qwen3-8b", *said, "--weights", "fp4", "--kv", "fp8"))
    for name in ("Qwen/Qwen3_8B", "qwen3-8b:latest"):
        asked = ("--weights", "NVFP4", "--kv", "fp8_e4m3")
        assert as_json(qsjax("explain", name, *said, *asked)) == plain


def test_rates_and_engines_as_people_write_them():
    said = ("simulate", "qwen3-8b", "--hardware", "h200", "--isl", "500", "--osl", "20",
            "--requests", "20", "--format", "json")  # fmt: skip
    plain = as_json(qsjax(*said, "--rate", "2,4", "--engine", "trtllm"))
    asked = ("--rate", "2/s,240 req/min", "--engine", "TensorRT-LLM")
    assert as_json(qsjax(*said, *asked)) == plain


def test_explain_takes_the_address_of_a_model():
    address = "https://huggingface.co/Qwen/Qwen3-8B"
    record = as_json(qsjax("explain", address, *SMALL[1:], "--format", "json"))
    assert record["model"] == "qwen3-8b"


def test_explain_says_where_flags_of_engines_stand():
    done = qsjax("explain", *SMALL, "--tensor-parallel-size", "2", code=2)
    assert "has no --tensor-parallel-size" in done.stderr
    assert "after `--`" in " ".join(done.stderr.split())


def test_explain_says_that_the_flags_serve_another_model():
    served = ("--", "vllm", "serve", "{}", "-tp", "8")
    for name, is_other in (("deepseek-ai/DeepSeek-V3", True), ("/models/Mixtral-8x7B", False)):
        words = [word.format(name) for word in served]
        record = as_json(qsjax("explain", *SMALL, "--format", "json", *words))
        assert any(f"serve {name}" in note for note in record["notes"]) == is_other


def test_explain_says_what_context_parallelism_of_vllm_holds():
    """By hand: 8 ranks share what kvp=8 holds 8 times, so tp=8 holds 70.7 GiB, not 83.1.

    In GiB: attention 2.94, of which 1.72 are the down-projections that every rank holds; routed
    experts 66.45, shared ones 0.61, the dense layer and the router 0.18. That is the 70.2 of the
    layers; embedding and head, which ranks split too, are the other 0.55.
    """
    flags = ("--hardware", "b200-sxm", "--format", "json", "--")
    words = ("vllm", "serve", "moonshotai/Kimi-K2.5", "-tp", "8")
    sizes = []
    for more in (("-dcp", "8"), ()):
        record = as_json(qsjax("explain", "kimi-k2.5", *flags, *words, *more))
        memory = record["stated"]["memory_bytes"]
        weights = sum(size for name, size in memory.items() if name.startswith("weights"))
        assert weights / 2**30 == pytest.approx(70.73, abs=0.05)
        layers = weights - memory["weights: embedding and head"]
        assert layers / 2**30 == pytest.approx(70.18, abs=0.01)
        sizes.append(record["stated"]["max_batch"])
    # The latent cache is divided, where tensor parallelism copies it.
    assert sizes[0] == pytest.approx(8 * sizes[1], rel=0.1)


def test_explain_keeps_the_dtype_of_the_model_under_a_loader():
    flags = ("--hardware", "b200-sxm", "--format", "json")
    sglang = ("--", "python3", "-m", "sglang.launch_server", "--model", "m", "--tp", "8")
    same = [
        as_json(qsjax("explain", "kimi-k2.5", *flags, *sglang, *more))["stated"]["memory_bytes"]
        for more in ((), ("--quantization", "compressed-tensors"))
    ]
    assert same[0] == same[1]


def weights_of(record):
    """Weights of a GPU [GiB]."""
    memory = record["stated"]["memory_bytes"]
    return sum(size for name, size in memory.items() if name.startswith("weights")) / 2**30


@pytest.mark.parametrize(
    ("served", "size", "words"),
    [
        # What llama-quantize makes of Llama 3.1 8B [GiB]: its README's table.
        (("./Meta-Llama-3.1-8B.Q4_K_M.gguf",), 4.58, "type Q4_K_M takes 4.8944 bits"),
        (("bartowski/Meta-Llama-3.1-8B-GGUF:IQ2_XXS",), 2.23, "2.3824 bits"),
        (("x/Llama-3.1-8B", "--quantization", "gguf", "--tokenizer", "y"), 14.96, "tells no type"),
        (("x-UD-Q4_K_XL.gguf",), 4.58, "Q4_K_XL, counted as Q4_K_M"),
        (("x-Q4_K_M",), 14.96, ""),  # no GGUF file
    ],
)
def test_the_name_of_a_gguf_file_tells_its_bits(served, size, words):
    flags = ("--hardware", "h100-sxm", "--format", "json", "--", "vllm", "serve", *served)
    record = as_json(qsjax("explain", "llama-3.1-8b", *flags))
    assert weights_of(record) == pytest.approx(size, rel=2e-3)
    assert any("GGUF" in note and words in note for note in record["notes"]) == bool(words)


@pytest.mark.parametrize(
    ("served", "size", "words"),
    [
        ("./Meta-Llama-3.1-8B.Q4_K_M.gguf", 4.58, "type Q4_K_M takes 4.8944 bits"),
        ("bartowski/Meta-Llama-3.1-8B-GGUF:Q6_K_L", 6.14, "Q6_K_L, counted as Q6_K"),
        ("/m/Llama-3.1-8B-UD-Q8_K_XL-00001-of-00002.gguf", 7.95, "Q8_K_XL, counted as Q8_0"),
        ("unsloth/Llama-3.1-8B-GGUF", 14.96, "tells no type"),
    ],
)
def test_the_name_of_a_gguf_file_tells_its_model(served, size, words):
    """The message of an unknown model said so, and the command that it gave was refused."""
    flags = ("--hardware", "h100-sxm", "--format", "json", "--", "vllm", "serve", served)
    record = as_json(qsjax("explain", *flags))
    assert record["model"] == "llama-3.1-8b"
    assert weights_of(record) == pytest.approx(size, rel=2e-3)
    assert any("GGUF" in note and words in note for note in record["notes"])


def test_a_file_of_weights_is_no_model():
    wrong = qsjax("explain", "llama.Q4_K_M.gguf", "--hardware", "h100-sxm", code=2)
    assert "give the config.json of its model" in mistake(wrong)


def test_the_dtype_of_recurrent_states_is_a_flag():
    """Qwen3.5-397B: a state of 4 bytes an element unless the engine is told else."""
    flags = ("qwen3.5-397b-a17b", "--hardware", "b200-sxm", "--context", "8k", "--format", "json")
    engine = ("--", "vllm", "serve", "m", "-dp", "8", "-ep")
    batches = [
        as_json(qsjax("explain", *flags, *engine, *more))["stated"]["max_batch"]
        for more in ((), ("--mamba-ssm-cache-dtype", "bfloat16"), ("--mamba-cache-dtype", "auto"))
    ]
    assert batches[0] == batches[2]
    # By hand: 45 layers of 64 states of 128 x 128, 15 layers of two heads of 256.
    state, tail, cache = 45 * 64 * 128 * 128, 45 * 3 * 12_288 * 2, 8192 * 15 * 2 * 2 * 256 * 2
    ratio = (4 * state + tail + cache) / (2 * state + tail + cache)
    assert batches[1] / batches[0] == pytest.approx(ratio, rel=0.01)


def test_a_small_card_keeps_what_its_file_states(tmp_path):
    card = tmp_path / "rtx.toml"
    card.write_text(
        "hbm_capacity_gib = 24\nhbm_bandwidth_gb_per_s = 1008\npeak_bf16_tflop_per_s = 165\n"
        "intra_bandwidth_gb_per_s = 32\ninter_bandwidth_gb_per_s = 25\nisland_size = 8\n"
    )
    flags = ("qwen3-1.7b", "--context", "8k", "--format", "json", "--hardware")
    record = as_json(qsjax("explain", *flags, str(card)))
    assert record["stated"]["memory_bytes"]["reserve"] == 4 * 2**30
    assert any("state reserve_gib" in note for note in record["notes"])
    card.write_text(card.read_text() + "reserve_gib = 3\n")
    record = as_json(qsjax("explain", *flags, str(card)))
    assert record["stated"]["memory_bytes"]["reserve"] == 3 * 2**30
    assert not any("state reserve_gib" in note for note in record["notes"])
    # By hand, vLLM on one L40S: 0.3 GiB of context, 256 rows of 128,000 logits.
    one = as_json(qsjax("explain", *flags, "l40s"))["stated"]["memory_bytes"]
    used = one["reserve"] + one["unused by engine"]
    kept = 0.3 * 2**30 + 256 * 128_000 * 38
    assert used == pytest.approx(48e9 * (1 - 0.9 * 0.99) + kept, rel=0.03)


def test_explain_warns_of_a_split_that_engines_refuse():
    flags = ("--hardware", "h200-sxm", "--format", "json", "--tp", "32")
    for more, is_broken in (((), True), (("--weights", "bf16"), False)):
        notes = as_json(qsjax("explain", "deepseek-v3", *flags, *more))["notes"]
        assert any("refuse this split" in note and "are 576" in note for note in notes) == is_broken


@pytest.mark.parametrize(
    ("model", "command", "words"),
    [
        # https://github.com/vllm-project/vllm/issues/17569: 1536 / 8
        ("own", "vllm serve m -tp 8", "are 192"),
        ("own", "vllm serve m -tp 8 --enable-expert-parallel", ""),
        # https://github.com/sgl-project/sglang/issues/3345: 18432 / 32
        ("deepseek-v3", "python3 -m sglang.launch_server --model-path m --tp 32", "are 576"),
    ],
)
def test_a_split_that_the_engine_refuses_does_not_run(tmp_path, model, command, words):
    if model == "own":
        path = tmp_path / "qwen3-fp8.toml"
        text = 'extends = "qwen3-235b-a22b"\nweight_dtype = "fp8"\nweight_block = 128\n'
        path.write_text(text, encoding="utf-8")
        model = str(path)
    flags = ("--hardware", "h200-sxm", "--format", "json", "--")
    stated = as_json(qsjax("explain", model, *flags, *command.split()))["stated"]
    assert stated["is_feasible"] == (not words)
    texts = [lacks["text"] for lacks in stated["shortcomings"]]
    assert [words in text for text in texts] == ([True] if words else [])


@pytest.mark.parametrize(
    "words",
    [
        ("vllm", "serve", "Qwen/Qwen3-0.6B", "-dp", "2"),
        ("A=1 vllm serve Qwen/Qwen3-0.6B -dp 2",),
        ("python3", "-m", "sglang.launch_server", "--model-path", "Qwen/Qwen3-0.6B", "--dp", "2"),
        ("docker run -p 80:80 vllm/vllm-openai:v1 --model Qwen/Qwen3-0.6B -dp 2",),
        ("uv", "run", "vllm", "serve", "Qwen/Qwen3-0.6B", "-dp", "2"),
        ("uv run vllm serve Qwen/Qwen3-0.6B -dp 2",),
        # A folder of the machine that serves it, which is not this one.
        ("vllm serve /data/models/Qwen3-0.6B -dp 2",),
        ("vllm serve /hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12/ -dp 2",),
        ("vllm serve /data/Qwen3-0.6B/snapshots/c1899de289a04d12 -dp 2",),
        ("vllm serve /data/ours --served-model-name Qwen/Qwen3-0.6B -dp 2",),
        # Scripts and manifests in one word were taken for the name of a model.
        ("#!/bin/sh\nset -e\nDP=2\nvllm serve $FOLDER/Qwen/Qwen3-0.6B -dp $DP\nsleep 9\n",),
        ("FROM vllm/vllm-openai:v1\nCMD --model Qwen/Qwen3-0.6B -dp 2\n",),
        ("services:\n a:\n  image: vllm/vllm-openai\n  command: --model Qwen/Qwen3-0.6B -dp 2",),
    ],
)
def test_a_command_line_alone_names_the_model(words):
    flags = ("explain", "--hardware", "h100", "--context", "1k", "--format", "json", "--")
    found = as_json(qsjax(*flags, *words))
    assert (found["model"], found["stated"]["gpus"]) == ("qwen3-0.6b", 2)


@pytest.mark.parametrize("words", [("-tp", "8"), ("vllm", "serve", "$MODEL", "-tp", "8")])
def test_explain_asks_for_the_model_that_no_command_line_names(words):
    assert "MODEL is missing" in mistake(qsjax("explain", "--", *words, code=2))


def test_a_folder_that_is_not_here_and_names_no_model():
    said = mistake(qsjax("explain", "--hardware", "h100", "--", "vllm serve /data/ours", code=2))
    assert "'/data/ours', which is not on this machine: unknown model 'ours'" in said
    assert "MODEL in front of the command line says which it is" in said


@pytest.mark.parametrize("words", [("vllm serve Qwen/Qwen3-8B -tp 2",), "vllm serve m".split()])
def test_explain_tells_of_its_own_options_behind_the_dashes(words):
    said = mistake(qsjax("explain", "--", *words, "--hardware=b200", code=2))
    assert "write it before: qsjax explain --hardware ... -- COMMAND LINE" in said


def test_explain_takes_a_dense_twin():
    options = ("--hardware", "h100-sxm", "--tp", "8", "--convention", "both", "--format", "json")
    twin = as_json(qsjax("explain", "mixtral-8x7b:q=2", *options))
    assert twin["stated"]["memory_bytes"]["weights: router"] == 0
    assert twin["stated"]["tpot"] != twin["beside"]["stated"]["tpot"]
    assert "no experts" in mistake(qsjax("explain", "llama-3.1-8b:q=2", *options, code=2))


def test_explain_says_what_is_missing():
    done = qsjax("explain", "deepseek-v3", "--hardware", "h100-sxm", "--tp", "8")
    assert "does not run" in done.stdout
    assert "too much" in done.stdout
    assert "GPUs of this kind" in done.stdout


def test_explain_prints_every_ledger_for_people():
    text = qsjax("explain", *SMALL, "--tp", "8").stdout
    for words in ("Memory of one GPU", "capacity", "TPOT", "roofline", "best design for vllm"):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tp", "2,4"), "one design has one"),
        (("--kv-mode", "ring"), "not one mode"),
        (("--isl", "100"), "go together"),
        (("--", "vllm", "serve", "m", "--tensor-paralel-size", "8"), "--tensor-parallel-size"),
        (("--", "sglang", "--tp-size", "8", "--max-model-len", "5"), "a flag of vllm"),
        (("--context", "64k", "--", "-tp", "8", "--max-model-len", "4096"), "contradict"),
        (("--tp", "0"), "positive"),
    ],
)
def test_explain_refuses(arguments, words):
    assert words in mistake(qsjax("explain", *SMALL, *arguments, code=2))


def test_an_unknown_model_or_accelerator_is_refused():
    assert "mixtral-8x7b" in mistake(qsjax("explain", "mixtral-8x7", code=2))
    wrong = qsjax("pareto", "mixtral-8x7b", "--hardware", "h100-smx", code=2)
    assert "h100-sxm" in mistake(wrong)


def test_pareto_gives_a_front_for_every_series(tmp_path):
    out = tmp_path / "front"
    small = ("--gpus", "8", "--context", "32k", "--format", "json")
    devices = ("--hardware", "h100-sxm,h200-sxm")
    done = qsjax("pareto", "mixtral-8x7b", *devices, *small, "--out", str(out))
    result = as_json(done)
    labels = {row["label"] for row in result["front"]}
    wanted = {f"{x}, {y}" for x in ("h100-sxm", "h200-sxm") for y in ("MoE", "dense q=5")}
    assert labels == wanted
    for label in labels:
        rows = [row for row in result["front"] if row["label"] == label]
        users = [row["tokens_per_s_per_user"] for row in rows]
        gpus = [row["tokens_per_s_per_gpu"] for row in rows]
        assert users == sorted(users, reverse=True)
        assert gpus == sorted(gpus)
    assert result["designs_decided"] > result["designs_evaluated"] > 0
    assert 0 < result["largest_loss_between_batches"] <= 0.02
    assert "Written to" in done.stderr
    assert (out / "pareto.svg").exists()
    inputs = asked(out)
    assert list(inputs["hardware"]) == ["h100-sxm", "h200-sxm"]
    assert inputs["models"]["mixtral-8x7b"]["experts"] == 8
    assert inputs["workloads"]["mixtral-8x7b"]["bytes_kv"] == 2
    with (out / "pareto.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(result["front"])


def test_pareto_within_limits_and_with_a_price():
    limits = ("--max-tpot", "40ms", "--max-pp", "1", "--usd-per-hour", "2", "--utilisation", "0.5")
    done = qsjax("pareto", *SMALL, "--gpus", "8", "--twins", "2", *limits, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows
    for row in rows:
        assert float(row["tpot"]) <= 0.04
        assert row["pp"] == "1"
        rate = float(row["tokens_per_s_per_gpu"])
        assert float(row["usd_per_million_tokens"]) == pytest.approx(1e6 * 2 / 3600 / rate / 0.5)


def test_an_impossible_limit_says_what_can_be_had_and_what_would_help():
    options = ("--gpus", "8", "--twins", "2")
    front = as_json(qsjax("pareto", *SMALL, *options, "--format", "json"))["front"]
    # A little below what can be had: the latencies alone would still allow it.
    limit = f"{0.9 * min(row['tpot'] for row in front):.7f}s"
    text = qsjax("pareto", *SMALL, *options, "--max-tpot", limit).stdout
    # Once for the model and once for its twin.
    best, _ = re.findall(r"the best that can be had is TPOT <= ([0-9.]+) ms", text)
    assert len(best.replace(".", "")) <= 3
    again = qsjax("pareto", *SMALL, *options, "--max-tpot", f"{best}ms", "--format", "json")
    assert as_json(again)["front"]  # what can be had can be asked for
    assert "times as fast in everything" in text
    arguments = ("pareto", *SMALL, *options, "--max-tpot", limit, "--format", "json")
    result = as_json(qsjax(*arguments))
    assert result["front"] == []
    assert result["refused"][0]["would_help"]["speed"] > 1


def test_two_limits_that_contradict_each_other_are_named():
    options = ("--gpus", "8", "--twins", "2", "--context", "64k")
    front = as_json(qsjax("pareto", *SMALL, *options, "--format", "json"))["front"]
    tpot = min(row["tpot"] for row in front)
    usd = min(row["usd_per_million_tokens"] for row in front)
    limits = ("--max-tpot", f"{1.1 * tpot}s", "--max-usd", f"{1.05 * usd}")
    text = qsjax("pareto", *SMALL, *options, *limits).stdout
    assert "contradict each other: each can be kept, both cannot" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-tpot", "50"), "has no unit"),
        (("--max-tpot", "50m"), "is not a time"),
        (("--max-tpot", "-5ms"), "above 0"),
        (("--max-tpot", "ms"), "is not a time"),
        (("--utilisation", "60"), "0.6 for 60 %"),
        (("--usd-per-hour", "0", "--max-usd", "1"), "--usd-per-hour"),
        (("--headroom", "1.5"), "min_headroom"),
        (("--gpus", "8", "--tp", "3"), "tp=3 does not divide"),
        (("--gpus", "16,32", "--max-gpus", "8"), "--gpus 16,32 and --max-gpus 8 contradict"),
        (("--tp", "8", "--max-tp", "4"), "--tp 8 and --max-tp 4 contradict"),
        (("--format", "xml"), "xml"),
    ],
)
def test_pareto_refuses(arguments, words):
    assert words in mistake(qsjax("pareto", *SMALL, *arguments, code=2))


def test_compare_shows_both_conventions_and_why(tmp_path):
    out = tmp_path / "side-by-side"
    subjects = ("mixtral-8x7b", "mixtral-8x7b:q=2", "mixtral-8x7b@h200-sxm")
    options = ("--hardware", "h100-sxm", "--gpus", "8", "--context", "8k,64k")
    options += ("--convention", "both")
    result = as_json(qsjax("compare", *subjects, *options, "--format", "json", "--out", str(out)))
    assert [row["convention"] for row in result["rows"]] == 6 * ["physical"] + 6 * ["paper"]
    for row in result["rows"]:
        assert sum(row["gpu_time"].values()) == pytest.approx(
            1 / row["tokens_per_s_per_gpu"], rel=1e-12
        )
    second = result["rows"][1]
    assert sum(second["attribution"].values()) == pytest.approx(1.0)
    assert result["rows"][2]["factor"] > 1  # more and faster memory
    assert (out / "compare.csv").exists()
    sides = asked(out)["subjects"]
    assert [(side["label"], side["q"]) for side in sides] == list(
        zip(subjects, (None, 2, None), strict=True)
    )
    assert [side["hardware"] for side in sides] == ["h100-sxm", "h100-sxm", "h200-sxm"]
    hbm = {name: chip["hbm_bytes"] for name, chip in asked(out)["hardware"].items()}
    assert hbm["h200-sxm"] > hbm["h100-sxm"]
    for name in ("why", "throughput"):
        assert (out / f"{name}.svg").read_text().count("</svg>") == 1
    text = qsjax("compare", *subjects, *options).stdout
    assert text.startswith("At 64k on 8 h100-sxm, mixtral-8x7b makes ")
    for words in ("physical", "paper", "table 5", "why", "leads"):
        assert words in text


def test_compare_draws_also_where_nothing_runs(tmp_path):
    subjects = ("switch-c", "grok-1", "--hardware", "h100-sxm", "--gpus", "1")
    done = qsjax("compare", *subjects, "--context", "8k,64k", "--out", str(tmp_path))
    assert "nothing runs" in done.stdout
    names = {"inputs.json", "why.svg", "result.json", "compare.csv", "compare.nc"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    ("subjects", "words"),
    [
        (("mixtral-8x7b:5",), "mixtral-8x7b:q=5"),
        (("mixtral-8x7b:kw=fp8",), "kw is not known; give some of q, kv, weights"),
        (("mixtral-8x7b:kw=2",), "kw is not known; give some of q, kv, weights"),
        (("mixtral-8x7b:q=fast",), "write for example mixtral-8x7b:q=5"),
        (("mixtral-8x7b:kv=fp8,kv=bf16",), "kv is given twice; give it once"),
        (("mixtral-8x7b-GGUF:Q4_K_M:kw=fp8",), "kw is not known; give some of q, kv, weights"),
        (("mixtral-8x7b:kv=fp3",), "dtype 'fp3' is unknown"),
        (("mixtral-8x7b:acceptance=1",), "give a share from 0 to below 1"),
        (("mixtral-8x7b@h100-sxm:hbm_bandwidth=x2",), "hbm_bw"),
        (("mixtral-8x7b@h100-sxm:hbm_bw=fast",), "h100-sxm:hbm_bw=x2"),
        (("llama-3.1-8b", "llama-3.1-8b"), "two different subjects"),
        (("llama-3.1-8b:q=2",), "no experts"),
        (("llama-3.1-8b",), "two different subjects"),
        (("mixtral-8x7b@h300",), "h300"),
    ],
)
def test_compare_refuses(subjects, words):
    assert words in mistake(qsjax("compare", *subjects, code=2))


def test_mix_finds_one_split_for_all(tmp_path):
    requests = tmp_path / "requests.csv"
    requests.write_text("isl,osl,count\n4000,500,10\n32000,1000,2\n")
    options = ("--hardware", "h100-sxm", "--gpus", "8", "--twins", "2")
    found = as_json(qsjax("mix", "mixtral-8x7b", str(requests), *options, "--format", "json"))
    for mix in found["mixes"]:
        assert mix["is_feasible"]
        assert 0 <= mix["loss"] < 1
        assert sum(c["share"] for c in mix["classes"]) == pytest.approx(1)
    assert "one split for all costs" in qsjax("mix", "mixtral-8x7b", str(requests), *options).stdout
    out = tmp_path / "out"
    text = qsjax(
        "mix", "mixtral-8x7b", str(requests), *options, "--format", "csv", "--out", str(out)
    )
    assert (out / "mix.csv").read_text() == text.stdout
    inputs = asked(out)
    assert inputs["requests"][1] == {
        "context": 32500,
        "tokens": 2000,
        "batch": None,
        "output": 1000,
    }
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert qsjax(*shlex.split(inputs["repeat"])[1:]).stdout == text.stdout
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_mix_together_is_one_batch_of_all_lengths(tmp_path):
    requests = tmp_path / "requests.csv"
    requests.write_text("isl,osl,count\n4000,500,10\n32000,1000,2\n")
    options = ("mix", "mixtral-8x7b", str(requests), "--hardware", "h100-sxm", "--gpus", "8")
    found = as_json(qsjax(*options, "--together", "--format", "json"))
    mean = (5000 * 4250 + 2000 * 32500) / 7000
    for mix in found["mixes"]:
        assert mix["together"]["mean_context"] == pytest.approx(mean)
        assert mix["together"]["tokens_per_s_per_gpu"] > 0
    assert "all lengths in one batch (mean context 12,321)" in qsjax(*options, "--together").stdout
    requests.write_text("context,batch\n4000,4\n8000,8\n")
    assert "several sizes at once" in mistake(qsjax(*options, "--together", code=2))


def test_mix_names_bad_rows(tmp_path):
    requests = tmp_path / "requests.csv"
    requests.write_text("isl,osl\n1,a\n5,5\n-1,5\n")
    message = mistake(qsjax("mix", "mixtral-8x7b", str(requests), code=2))
    assert "row 2: osl 'a' is not a number" in message
    assert "row 4: isl -1" in message
    requests.write_bytes(b"\xff\xfeisl,osl")
    message = mistake(qsjax("mix", "mixtral-8x7b", str(requests), code=2))
    assert "requests.csv: is not a text file in UTF-8" in message
    missing = mistake(qsjax("mix", "mixtral-8x7b", str(tmp_path / "none.csv"), code=2))
    assert "does not exist" in missing


def test_programs_are_kept_unless_switched_off(process, tmp_path):
    # A search of many designs compiles: whatever other tests ran before, or on another worker.
    many = "from qsjax.cli import main; from qsjax.grid import optimum; optimum.SMALL = 0; main()"
    small = ("llama-3.1-8b", "--hardware", "h100-sxm", "--gpus", "1")
    process("explore", *small, start=("-c", many))
    assert list(process.cache.glob("jax-*/*"))
    home = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    loud = process("hardware", "-v", "--format", "json", QSJAX_CACHE="off", **home)
    assert list(tmp_path.iterdir()) == []
    assert "compiled programs: off" in loud.stderr


def test_a_cache_that_cannot_be_written_is_no_obstacle(process, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    process("models", "--format", "json", QSJAX_CACHE=str(file))


def test_completion(process):
    assert "_QSJAX_COMPLETE=bash_complete" in process("completion", "bash").stdout
    assert "nosuch" in mistake(process("completion", "nosuch", code=2))
    verbs = process(_QSJAX_COMPLETE="bash_complete", COMP_WORDS="qsjax ex", COMP_CWORD="1").stdout
    assert verbs.split() == ["plain,explore", "plain,explain"]
    words = "qsjax explain deepseek-v"
    models = process(_QSJAX_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="2").stdout
    assert "plain,deepseek-v3" in models.split()
    words = "qsjax explain m --hardware h2"
    devices = process(_QSJAX_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="4").stdout
    assert "plain,h200-sxm" in devices.split()


def verbs():
    from qsjax.cli import VERBS

    return list(VERBS)


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_help_with_examples_and_the_common_flags(verb):
    import click

    from qsjax.cli import cli

    context = click.Context(cli, info_name="qsjax", help_option_names=["-h", "--help"])
    command = cli.get_command(context, verb)
    shown = click.Context(command, info_name=verb, parent=context, terminal_width=100)
    text = command.get_help(shown)
    assert text.count("\n") < 45  # a page, even of a verb with fifty options
    assert "Examples:" in text
    assert f"qsjax {verb}" in text
    assert "--quiet" in text
    assert "--verbose" in text


# Flags that docs/guides/cli.md promises to mean the same in every verb that has them.
SHARED = (
    *(
        "--hardware",
        "--gpus",
        "--context",
        "--isl",
        "--osl",
        "--twins",
        "--convention",
        "--weights",
    ),
    *("--kv", "--tp", "--ep", "--pp", "--dp", "--kvp", "--kv-mode", "--batch", "--format", "--out"),
    *("--usd-per-hour", "--watts", "--utilisation", "--pue", "--max-tpot", "-q", "-v"),
)


def test_the_same_flag_is_the_same_everywhere():
    import click

    from qsjax.cli import cli

    context = click.Context(cli)
    seen = {}
    for verb in verbs():
        for parameter in cli.get_command(context, verb).params:
            if isinstance(parameter, click.Option):
                kind = (parameter.name, parameter.type.name, parameter.is_flag)
                for spelling in parameter.opts:
                    seen.setdefault(spelling, {}).setdefault(kind, []).append(verb)
    assert set(SHARED) <= set(seen)
    # A simulation takes a spread of lengths too, such as 1000-3000.
    for spelling in ("--isl", "--osl"):
        spread = seen[spelling].pop((spelling.removeprefix("--"), "text", False))
        assert spread == ["simulate", "size"]
    differing = {spelling: seen[spelling] for spelling in SHARED if len(seen[spelling]) > 1}
    assert not differing


def test_an_unknown_verb_is_refused(process):
    assert "no verb 'explode'; did you mean explore" in mistake(process("explode", code=2))
