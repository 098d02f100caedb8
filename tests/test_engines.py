"""Engine flags in and out: what vLLM and SGLang mean by their degrees."""

import itertools
import re

import pytest

from qsjax import catalog
from qsjax.engines import Deployment, engine_of, memory, read, write
from qsjax.engines.operating_point import OperatingPoint
from qsjax.records.specs import Partition

# (command line, model with experts, tp, ep, pp, dp, kvp, replicas, batch, GPUs)
CASES = [
    ("vllm serve m -tp 8", True, 8, 1, 1, 1, 1, 1, None, 8),
    ("--tensor-parallel-size=8 -pp 2 --max-num-seqs 64", True, 8, 1, 2, 1, 1, 1, 64, 16),
    ("vllm serve m -tp 1 -dp 8 --enable-expert-parallel", True, 1, 8, 1, 8, 1, 1, None, 8),
    ("vllm serve m -tp 4 -dp 2 --enable-expert-parallel", True, 4, 8, 1, 2, 1, 1, None, 8),
    ("vllm serve m -tp 4 -dp 2", True, 4, 1, 1, 2, 1, 1, None, 8),
    ("vllm serve m -tp 4 -dp 2 --enable-expert-parallel", False, 4, 1, 1, 1, 1, 2, None, 8),
    ("vllm serve m -tp 8 -dcp 4 --enable-expert-parallel", True, 2, 8, 1, 1, 4, 1, None, 8),
    ("python -m sglang.launch_server --model-path m --tp 8", True, 8, 1, 1, 1, 1, 1, None, 8),
    ("--tp-size 8 --dp-size 4 --enable-dp-attention --ep-size 8", True, 2, 8, 1, 4, 1, 1, None, 8),
    ("--tp-size 8 --dp-size 4 --ep-size 2", True, 8, 2, 1, 1, 1, 4, None, 32),
    (
        "--tp 16 --dp 16 --enable-dp-attention --ep 16 --pp-size 2 --max-running-requests 2048",
        *(True, 1, 16, 2, 16, 1, 1, 128, 32),
    ),
]


@pytest.mark.parametrize(
    ("flags", "is_moe", "tp", "ep", "pp", "dp", "kvp", "n", "batch", "gpus"), CASES
)
def test_degrees(flags, is_moe, tp, ep, pp, dp, kvp, n, batch, gpus):
    got = read(flags, is_moe=is_moe)
    assert (got.tp, got.ep, got.pp, got.dp, got.kvp, got.replicas) == (tp, ep, pp, dp, kvp, n)
    assert got.batch == batch
    assert got.gpus == gpus


def test_everything_else_is_read():
    got = read(
        "vllm serve org/name -tp 2 --gpu-memory-utilization 0.85 --kv-cache-dtype fp8_e4m3 "
        "--max-model-len 128K --quantization fp8 --block-size 32 --trust-remote-code --port 80"
    )
    assert (got.model, got.usable_fraction, got.bytes_kv) == ("org/name", 0.85, 1.0)
    assert (got.context, got.weights, got.kv_block) == (131072, "fp8", 32)
    assert any("--trust-remote-code, --port" in note for note in got.notes)


def test_a_command_line_may_be_one_quoted_word():
    """It was taken for the program, and the deployment for one GPU."""
    assert read(["vllm serve m --tensor-parallel-size 8"]).tp == 8
    assert read(["sglang --tp 8"]).tp == 8
    assert read("vllm serve m").tp == 1


def test_the_shares_of_memory_are_two_quantities():
    """vLLM's holds its own buffers, SGLang's weights and cache alone."""
    got = read("sglang --tp 8 --mem-fraction-static 0.88")
    assert (got.static_fraction, got.usable_fraction) == (0.88, None)
    assert write(Deployment(usable_fraction=0.9), "sglang").command == "--tp-size 1"


def test_every_width_of_a_cache_is_written_as_it_is_read():
    for width, flag in ((1.0, "fp8"), (0.5625, "fp4_e2m1")):
        assert f"--kv-cache-dtype {flag}" in write(Deployment(bytes_kv=width), "sglang").command
        assert read(f"sglang --tp 8 --kv-cache-dtype {flag}").bytes_kv == width
    written = write(Deployment(bytes_kv=0.5625), "trtllm")
    assert written.command == "--tp_size 1 --kv_cache_dtype nvfp4"
    assert read(written.flags, "trtllm").bytes_kv == 0.5625


def test_what_is_not_read_is_said_and_no_mistake():
    more = """--compilation-config '{"cudagraph_mode": "FULL"}'"""
    got = read(f"vllm serve m -tp 8 -ep {more} --swap-space 16 --enforce-eager -dp 2")
    assert (got.tp, got.dp, got.ep) == (8, 2, 16)
    assert any("not read" in n and "--compilation-config, --enforce-eager;" in n for n in got.notes)
    assert any("without effect here: --swap-space" in note for note in got.notes)


def test_without_flags_a_quantity_is_left_open():
    got = read("-tp 2", engine="vllm")
    assert (got.usable_fraction, got.bytes_kv, got.weights, got.context) == (None,) * 4
    assert got.kv_block == 16  # vLLM's own default
    assert read("--tp 2", engine="sglang").kv_block == 1
    assert got.notes == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "vllm serve m --tensor-paralel-size 8",
            ["--tensor-paralel-size: unknown", "--tensor-parallel-size"],
        ),
        ("vllm serve m --mem-fraction-static 0.8", ["a flag of sglang"]),
        ("vllm serve m -tp x --pp 2 -dp 0", ["'x' is not a number", "--pp", "at least 1"]),
        ("vllm serve m --gpu-memory-utilization 90", ["90 is not a share"]),
        ("vllm serve m --kv-cache-dtype int3", ["'int3' is not modelled", "fp8_e4m3"]),
        ("vllm serve m -tp", ["-tp: its value is missing"]),
        ("vllm serve m -tp 6 -dcp 4", ["--decode-context-parallel-size: 4 does not divide"]),
        ("vllm serve m -tp $TP -dcp 4", ["--tensor-parallel-size (not given, or a variable;"]),
        ("sglang --tp 8 --dp 3 --enable-dp-attention --ep 5", ["--dp-size: 3", "--ep-size: 5"]),
        ("vllm serve m -tp 2.5", ["2.5 is not allowed"]),
        ("vllm serve m -tp inf", ["inf is not allowed"]),
        ("tensor-parallel-size 8", ["is in 'tensor-parallel-size 8'"]),
    ],
)
def test_mistakes_are_all_named(flags, words):
    with pytest.raises(ValueError, match="flags:") as caught:
        read(flags)
    for word in words:
        assert word in str(caught.value)


def test_what_the_engines_mean_differently_is_said():
    assert "ep=16 here" in read("vllm serve m -tp 8 -dp 2 --enable-expert-parallel").notes[0]
    gathered = read("vllm serve m -tp 8 -dcp 4")
    assert "tp=2 x kvp=4" in gathered.notes[0]
    assert gathered.gathers_queries
    assert not read("vllm serve m -tp 8").gathers_queries
    assert "separate replicas" in read("sglang --tp 8 --dp 2").notes[0]
    assert "tp=4 x dp=2" in read("sglang --tp 8 --dp 2 --enable-dp-attention").notes[0]
    assert "dense" in read("vllm serve m -tp 8 --enable-expert-parallel", is_moe=False).notes[0]
    assert "ep=1" in read("vllm serve m -tp 4 -dp 2").notes[0]


def test_the_engine_is_told_from_its_flags():
    assert engine_of("-tp 8") == "vllm"
    assert engine_of("--tp-size 8 --context-length 4096") == "sglang"
    assert engine_of("python3 -m sglang.launch_server --tensor-parallel-size 8") == "sglang"


SHARES = {"vllm": "usable_fraction", "sglang": "static_fraction", "trtllm": "free_fraction"}


@pytest.mark.parametrize("engine", SHARES)
def test_written_flags_read_back_as_the_same_design(engine):
    for tp, dp, pp, kvp in itertools.product((1.0, 4.0), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0)):
        for ep in {1.0, tp * dp * kvp}:
            design = Deployment(
                tp=tp,
                dp=dp,
                pp=pp,
                kvp=kvp,
                gathers_queries=kvp > 1,
                ep=ep,
                batch=32.0,
                usable_fraction=0.9,
                static_fraction=0.85,
                free_fraction=0.8,
                bytes_kv=1.0,
                weights="fp8",
                context=4096.0,
            )
            written = write(design, engine)
            if engine == "trtllm" and (kvp > 1 or (tp > 1 and dp > 1)):
                assert all("cannot be written" in note for note in written.notes)
                assert len(written.notes) == (kvp > 1) + (tp > 1 and dp > 1)
                continue
            got = read(written.flags, engine)
            share = SHARES[engine]
            same = all(
                getattr(got, name) == getattr(design, name)
                for name in (
                    *("tp", "dp", "pp", "kvp", "gathers_queries", "ep", "batch", share),
                    "bytes_kv",
                )
            )
            assert same
            assert not written.notes
            assert got.gpus == design.gpus
            # TensorRT-LLM has the format of weights from the checkpoint.
            assert got.weights == (None if engine == "trtllm" else "fp8")
            assert got.context == 4096


def test_a_plain_split_needs_no_notes():
    for engine in SHARES:
        assert write(Deployment(tp=8.0), engine, False).notes == ()
        assert write(Deployment(tp=4.0, dp=2.0), engine, False).notes != ()


def test_what_cannot_be_written_is_said():
    assert "ep=4 cannot be written" in write(Deployment(tp=8.0, ep=4.0), "vllm").notes[0]
    for engine in ("vllm", "sglang"):
        copied = Deployment(tp=4.0, kvp=2.0)
        assert "has no copies of attention's weights" in write(copied, engine).notes[0]
        ring = Deployment(tp=4.0, kvp=2.0, kv_mode=2.0)
        assert "has no ring of queries" in write(ring, engine).notes[0]
    assert "replicas" in write(Deployment(dp=2.0), "vllm", is_moe=False).notes[0]


MANIFEST = """
services:
  server:
    image: vllm/vllm-openai:v0.11.0
    command: >
      --model Qwen/Qwen3-32B
      --tensor-parallel-size 4
    ports:
      - 8000:8000
"""
POD = """
containers:
- name: server
  image: lmsysorg/sglang:latest
  command: ["/bin/bash", "-c"]
  args:
  - |
    python3 -m sglang.launch_server --model-path Qwen/Qwen3-32B \\
      --tp 4
  env:
  - name: TOKEN
"""
ARGUMENTS = """
args:
  - --model=Qwen/Qwen3-32B
  - --tensor-parallel-size
  - "4"  # GPUs
  - --speculative-config={"method": "mtp", "num_speculative_tokens": 3}
"""


@pytest.mark.parametrize(
    "pasted",
    [
        MANIFEST,
        POD,
        ARGUMENTS,
        'command: ["vllm", "serve", "Qwen/Qwen3-32B", "--tensor-parallel-size", "4"]',
        "run: |\n  conda activate e\n  vllm serve Qwen/Qwen3-32B --tensor-parallel-size 4 &\n",
        "entrypoint: python3 -m sglang.launch_server\ncommand:\n  --model Qwen/Qwen3-32B\n  --tp 4",
        'FROM vllm/vllm-openai\nENTRYPOINT ["vllm", "serve"]\nCMD ["Qwen/Qwen3-32B", "-tp", "4"]',
        "subprocess.Popen(['vllm', 'serve', 'Qwen/Qwen3-32B', '-tp', '4'], env=env)",
        "$ vllm serve Qwen/Qwen3-32B `\n  --tensor-parallel-size 4",
        "vllm serve \u201cQwen/Qwen3-32B\u201d \u2013tensor-parallel-size\u00a04",
        "vllm serve Qwen/Qwen3-32B \u2014tensor-parallel-size 4",
        "uv run --with vllm vllm serve Qwen/Qwen3-32B -tp 4",
        "# the server\nVLLM_USE_V1=1 vllm serve Qwen/Qwen3-32B -tp 4 > log 2>&1 &",
        "python3 -m sglang_router.launch_server --model Qwen/Qwen3-32B --tp 4",
    ],
)
def test_what_people_paste(pasted):
    got = read(pasted)
    assert (got.model, got.tp, got.gpus) == ("Qwen/Qwen3-32B", 4, 4)
    assert got.engine == ("sglang" if "sglang" in pasted else "vllm")
    assert got.drafts == (3 if "speculative" in pasted else None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            """vllm serve m --kv-transfer-config '{"kv_role": "kv_producer"}'""",
            "one that prefills;",
        ),
        ("""vllm serve m --kv-transfer-config '{"kv_role":"kv_consumer"}'""", "one that decodes;"),
        ("""vllm serve m --kv-transfer-config '{"kv_connector":"NixlConnector"}'""", "either"),
        ("python3 -m sglang.launch_server --model m --disaggregation-mode decode", "decodes"),
        ("python3 -m dynamo.vllm --model m --is-prefill-worker", "prefills"),
        ("""vllm serve m --ec-transfer-config '{"ec_role": "ec_producer"}'""", "encodes images"),
    ],
)
def test_one_side_of_a_disaggregated_deployment_is_named(line, said):
    (note,) = (note for note in read(line).notes if note.startswith("disaggregated serving"))
    assert said in note
    assert "--isl" in note


@pytest.mark.parametrize("connector", ["MooncakeStoreConnector", "LMCacheMPConnector"])
def test_a_store_of_caches_is_no_side_of_a_disaggregated_deployment(connector):
    line = f"""vllm serve m --kv-transfer-config '{{"kv_connector": "{connector}"}}'"""
    assert not any("disaggregated" in note for note in read(line).notes)


@pytest.mark.parametrize(
    "line",
    [
        "lmdeploy serve api_server m --tp 2", "text-generation-launcher --model-id m --num-shard 4",
        "llama-server -m m.gguf -ngl 99", "mlc_llm serve HF://m", "ollama run m",
        "command: [\"text-generation-launcher\", \"--num-shard\", \"2\"]",
    ],
)  # fmt: skip
def test_other_engines_are_named(line):
    name = re.search(r"lmdeploy|text-generation-launcher|llama-server|mlc_llm|ollama", line)[0]
    with pytest.raises(ValueError, match=f"'{name}' is not an engine whose flags are read"):
        read(line)


SCRIPT = """#!/usr/bin/env bash
MEM=0.8
if [[ "$DP_ATTENTION" == "true" ]]; then
    STEPS=1
else
    STEPS=3
fi
python3 -m sglang.launch_server --model m --tp-size=8 --mem-fraction-static $MEM \\
    --speculative-algorithm EAGLE --speculative-num-steps $STEPS > $LOG 2>&1 &
wait_for_server --port 1
"""


def test_a_variable_of_two_branches_is_not_read():
    got = read(SCRIPT)
    assert (got.tp, got.static_fraction) == (8, 0.8)
    assert any("--speculative-num-steps $STEPS" in note for note in got.notes)
    assert read(SCRIPT.replace("else\n    STEPS=3\n", "")).drafts == 1


@pytest.mark.parametrize(
    ("path", "drafter"),
    [
        ("", "mtp"),
        ("--speculative-draft-model-path org/m", "mtp"),
        ("--speculative-draft-model-path org/d", "eagle"),
        ("--speculative-draft-model-path lmsys/DeepSeek-V3-NextN", "mtp"),
    ],
)
def test_what_drafts_and_how_many_where_no_number_is_said(path, drafter):
    """SGLang takes three steps, by the model's own heads if no other model is given; vLLM one."""
    line = "python -m sglang.launch_server --model-path org/m --speculative-algorithm EAGLE"
    got = read(f"{line} {path}")
    assert (got.drafter, got.drafts, got.verified) == (drafter, 3, 4)
    got = read("""vllm serve m --speculative-config '{"method": "eagle3", "model": "d"}'""")
    assert (got.drafter, got.drafts, got.verified) == ("eagle", 1, 2)


@pytest.mark.parametrize(
    ("name", "part", "each"),
    [
        # Three of 4,096 and three of 14,336, in 2 bytes; vLLM's log says 110.6 kB (its 10517).
        ("llama-3.1-8b", Partition(), 2 * (3 * 4096 + 3 * 14336)),
        ("llama-3.1-8b", Partition(tp=2.0, dp=2.0), 2 * (3 * 4096 + 3 * 7168)),
        # Eight copies of 7,168 with products of 2,048; two pairs of gate and up, wider than 4,096.
        ("deepseek-v3", Partition(), 2 * (3 * 7168 + 8 * (7168 + 2048))),
        ("mixtral-8x7b", Partition(), 2 * (3 * 4096 + 2 * (2 * 14336 + 14336))),
    ],
)
def test_activations_of_a_forward_pass_by_hand(name, part, each):
    assert memory.forward_bytes(_on_h100(name, part), 9000.0) == 9000.0 * each


def _on_h100(name, part, release=""):
    return OperatingPoint(
        model=catalog.model(name), model_name=name, hardware=catalog.hardware("h100-sxm"),
        hardware_name="h100-sxm", partition=part, workload=catalog.workload(name, weights="bf16"),
        release=release,
    )  # fmt: skip


def test_prompts_above_a_length_are_profiled_in_chunks_by_vllms_first_engine():
    """One of 32,768 tokens whole, one that is longer in chunks of 512."""
    one = _on_h100("llama-3.1-8b", Partition(), "v0")
    facts = ({"max_model_len": length, "max_sequences": 1.0} for length in (32_768.0, 32_769.0))
    whole, chunked = (memory.vllm_kept(one, stated, 0.0) for stated in facts)
    assert whole - chunked == (32_768 - 512) * 110_592
