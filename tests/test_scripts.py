"""Scripts, manifests and terminals that hold the command of a server.

Each text has the form of public files, which its comment names; what it means was worked out by
hand.
"""

import pytest

from qsjax.engines import read

LISTED = """#!/usr/bin/env bash
set -euo pipefail
MODEL_NAME=Qwen/Qwen2.5-32B-Instruct-AWQ
GPU_MEMORY_UTILIZATION=0.92
if [[ -z "${KEY:-}" ]]; then
  echo "KEY must be set; see vllm serve --help" >&2
  exit 1
fi
args=(
  "$MODEL_NAME"
  # --enforce-eager
  --gpu-memory-utilization "$GPU_MEMORY_UTILIZATION"
  --max-num-seqs "${MAX_NUM_SEQS:-32}"
  --speculative-config '{"method": "mtp", "num_speculative_tokens": 2}'
)
if [[ "${MODEL_NAME,,}" == *awq* ]]; then
  args+=(--quantization awq)
fi
args+=(--tensor-parallel-size 2)
exec vllm serve "${args[@]}" "$@"
"""


def test_a_list_of_arguments_is_what_its_script_puts_into_it():
    """The form of the servers' scripts on RunPod and of vllm-ascend: it was read as no flags."""
    got = read(LISTED)
    assert (got.model, got.tp, got.batch) == ("Qwen/Qwen2.5-32B-Instruct-AWQ", 2, 32)
    assert (got.usable_fraction, got.drafts) == (0.92, 2)
    # What stands under a condition is left out, and said.
    assert got.weights is None
    assert any(note.endswith("under a condition: --quantization awq") for note in got.notes)


OPTIONS = """dp=1
model=openai/gpt-oss-120b
while [[ $# -gt 0 ]]; do
  case $1 in
    --dp) dp=$2; shift 2 ;;
    *) exit 1 ;;
  esac
done
args=" --model-path $model \\
    --tp-size=4 --data-parallel-size=$dp --max-running-requests $((dp * 512))"
if [ -n "$eagle" ]; then
    args="$args --speculative-algorithm EAGLE3"
fi
set -x
python3 -m sglang.launch_server $args
"""


def test_options_of_a_script_that_begin_empty_are_not_known():
    """Forms of vLLM-Omni's scripts and of a script that is told all by its flags.

    The first option was entered as given, behind a space; `--model-path` missed its value; a
    variable of flags behind the model's became the model.
    """
    text = (
        'MODEL=""; EXTRA=""\nwhile [[ $# -gt 0 ]]; do\n  case "$1" in\n'
        '    --model) MODEL="$2"; shift 2 ;;\n  esac\ndone\nif [ -n "$QUANT" ]; then\n'
        '  EXTRA="$EXTRA --quantization $QUANT"\nfi\n'
        'python3 -m sglang.launch_server --model-path "$MODEL" ${PARALLEL} --tp 2 $EXTRA\n'
    )
    got = read(text)
    assert (got.model, got.tp, got.loader) == ("$MODEL", 2, None)
    assert any(note.endswith("under a condition: --quantization $QUANT") for note in got.notes)
    assert any("not read" in note and "${PARALLEL}" in note for note in got.notes)


SETTINGS = """CFG=/tmp/a.yml
cat > "$CFG" <<EOF
kv_cache_config:
  dtype: fp8
EOF
if [ -n "$EAGLE" ]; then
cat >> "$CFG" <<EOF
speculative_config:
  decoding_type: Eagle
  max_draft_len: 3
EOF
fi
docker run -v "$CFG:/etc/b.yml:ro" x/tensorrt-llm:1 trtllm-serve org/m --tp_size 8 \\
  --extra_llm_api_options /etc/b.yml
cat > "$CFG" <<EOF
enable_attention_dp: true
EOF
docker run -v "$CFG:/etc/b.yml:ro" x/tensorrt-llm:1 trtllm-serve org/m --tp_size 8 \\
  --extra_llm_api_options /etc/b.yml
"""


def test_a_settings_file_is_what_its_server_finds():
    """The form of TensorRT-LLM's guides and of scripts for gpt-oss.

    All that a script writes to a path was one file: the first server had attention's data
    parallelism of the second, and drafts that a condition adds. A file that a container has at
    another path was none.
    """
    got = read(SETTINGS)
    assert (got.tp, got.dp, got.bytes_kv, got.drafts) == (8, 1, 1, None)
    assert any(note.endswith("under a condition: --speculative_config") for note in got.notes)
    assert read("EAGLE=/models/e\n" + SETTINGS).drafts == 3


def test_a_text_of_arguments_is_several_words_and_options_keep_their_defaults():
    """mlcommons/inference language/gpt-oss/run_server.sh."""
    got = read(OPTIONS)
    assert (got.model, got.tp, got.replicas, got.batch) == ("openai/gpt-oss-120b", 4, 1, 512)
    assert got.drafts is None
    assert any("--speculative-algorithm EAGLE3" in note for note in got.notes)


@pytest.mark.parametrize(
    "after",
    [
        "vllm serve other/model --tensor-parallel-size 8 --max-num-seqs 7",
        "python3 -m sglang.bench_serving --max-concurrency 64 --tp 4",
        "curl http://localhost:8000/v1/models -d '{\"max_num_seqs\": 3}'",
        "code=$?\nrm -rf build -tp 8",
        "INFO 11-06 02:09:05 [launcher.py:42] -tp 8",
    ],
)
def test_a_server_ends_where_its_line_ends(after):
    """What followed on other lines was read as flags: the last server's degrees won."""
    got = read(f"vllm serve m \\\n  --max-model-len 4096 \\\n  -tp 2\n{after}\n")
    assert (got.model, got.tp, got.context, got.batch) == ("m", 2, 4096, None)
    told = any("the text starts 2 servers" in note for note in got.notes)
    assert told == after.startswith("vllm serve")


@pytest.mark.parametrize(
    "last", ["--no-enable-prefix-caching", "--trust_remote_code", "--enforce-eager"]
)
def test_a_switch_takes_no_word_of_the_next_line(last):
    """vLLM Ascend's tutorials: the model was the API that lm_eval calls."""
    got = read(f"vllm serve m -tp 2 {last}\n\nlm_eval --model local-completions --tasks gsm8k\n")
    assert (got.model, got.tp) == ("m", 2)
    assert not any("lm_eval" in note for note in got.notes)


def test_lines_without_backslashes_go_on_with_flags():
    """Of a `cmd: |` of llama-swap, and of a recipe that wraps a value."""
    got = read("vllm serve\nQwen/Qwen3-32B\n  -tp 4\n  --max-model-len\n  8192\n  --seed 1")
    assert (got.model, got.tp, got.context) == ("Qwen/Qwen3-32B", 4, 8192)


COMPOSE = """services:
  ui:
    image: open-webui/open-webui
    command: ["serve", "--workers", "4"]
  vllm:
    image: vllm/vllm-openai:v0.8.5
    environment:
      MODEL: Qwen/Qwen3-32B
      TP: "4"  # GPUs
    command: ["--model", "${MODEL}", "-tp", "${TP}"]
  other:
    image: vllm/vllm-openai:v0.8.5
    command: --model Qwen/Qwen3-8B -tp 8
"""
POD = """apiVersion: apps/v1
spec:
  containers:
  - name: server
    image: vllm/vllm-openai
    command: ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    args:
    - --model=$(MODEL_ID)
    - --tensor-parallel-size=$(TP)
    env:
    - name: MODEL_ID
      value: Qwen/Qwen3-32B
    - name: TP
      value: "4"
"""
KSERVE = """kubectl apply -f - <<EOF
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
spec:
  predictor:
    model:
      modelFormat:
        name: huggingface
      args:
      - --model_name=q
      - --model_id=Qwen/Qwen3-32B
      - --tensor-parallel-size=4
EOF
"""
MAKEFILE = """MODEL ?= Qwen/Qwen3-32B
TP    ?= 4 # GPUs
run: stop
\tdocker run -d --gpus all \\
\t  vllm/vllm-openai:latest \\
\t  --model "$(MODEL)" --tensor-parallel-size $(TP)

clean:
\trm -rf build
"""


@pytest.mark.parametrize(
    "text",
    [
        COMPOSE,
        POD,
        KSERVE,
        MAKEFILE,
        "python api_server.py --model Qwen/Qwen3-32B -tp 4",
        "python -m huggingfaceserver --model_id=Qwen/Qwen3-32B --tensor-parallel-size 4",
        "docker run --rm -h box vllm-cpu-env --model Qwen/Qwen3-32B -tp 4",
        "IMG=r.io/x/vllm-openai:v1\ndocker run --gpus all $IMG --model Qwen/Qwen3-32B -tp 4",
        "[root@box work]# vllm serve Qwen/Qwen3-32B \\\n>   -tp 4 \\\n>   --seed 1",
        "(venv) me@box:~/x$ vllm serve Qwen/Qwen3-32B -tp 4",
        "+MODEL=Qwen/Qwen3-32B\n+vllm serve $MODEL \\\n+  -tp 4",
        "`vllm serve Qwen/Qwen3-32B -tp 4`",
        "```bash\nvllm serve Qwen/Qwen3-32B -tp 4\n```",
        'cmd = ["vllm", "serve", "Qwen/Qwen3-32B", "--port", str(port), "-tp", "4"]',
        'command=(\n  vllm serve Qwen/Qwen3-32B -tp 4\n)\n"${command[@]}"',
        'ssh host "source env && vllm serve Qwen/Qwen3-32B -tp 4"',
        'vllm serve Qwen/Qwen3-32B ${REVISION:+--revision "$REVISION"} -tp 4',
        "vllm serve Qwen/Qwen3-32B --enforce-eager true -tp 4",
        "python3 -m sglang.launch_server --model Qwen/Qwen3-32B --tp 4 --speculative-draft x/y",
    ],
)
def test_what_strangers_paste(text):
    got = read(text, is_moe=False)
    assert (got.model, got.tp, got.gpus) == ("Qwen/Qwen3-32B", 4, 4)


def test_a_list_of_python_has_variables():
    text = 'cmd = [\n "vllm", "serve", MODEL, "-tp", str(N_GPU), "--max-num-seqs", "8",\n]'
    got = read(text)
    assert (got.model, got.tp, got.batch) == ("$MODEL", 1, 8)
    assert any("-tp $N_GPU" in note for note in got.notes)


def test_a_switch_may_be_told_false():
    """It was on, and "false" the model."""
    got = read("vllm serve --enable-expert-parallel false --model m -tp 8", is_moe=True)
    assert (got.model, got.ep) == ("m", 1)


@pytest.mark.parametrize("client", ["-m sglang.bench_serving", "vllm/benchmark_serving.py"])
def test_a_client_is_no_server(client):
    """Its flags were those of a server of one GPU."""
    with pytest.raises(ValueError, match=r"serving(\.py)?' is not an engine"):
        read(f"python3 {client} --backend vllm --model m --max-concurrency 64")


def test_a_script_that_is_no_engine_s_is_named_and_not_python():
    with pytest.raises(ValueError, match=r"'scripts/launch_vllm\.py' is not an engine"):
        read("python scripts/launch_vllm.py Qwen/Qwen3-8B -- --tensor-parallel-size 8")


def test_a_settings_file_that_is_elsewhere_says_how_to_go_on():
    with pytest.raises(ValueError, match="or leave the flag out"):
        read("trtllm-serve m --tp_size 8 --extra_llm_api_options missing.yaml")


def test_quantisations_of_other_devices_are_loaders():
    assert read("vllm serve m --quantization ascend").loader == "ascend"
    assert read("vllm serve m --quantization gptq_marlin_24").weights == "fp4"
