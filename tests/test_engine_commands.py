"""Command lines as people publish them: what each says, and what is said of the rest."""

import pytest

from qsjax import catalog
from qsjax.engines import engine_of, read
from qsjax.engines.precision import about_name, broken_blocks, weights_of
from qsjax.engines.rules import ENGINES, flags_of, load_flags
from qsjax.records.specs import Partition

VLLM, SGLANG, TRT, ATOM = (
    "vllm serve m ",
    "python3 -m sglang.launch_server --model-path m ",
    "trtllm-serve m ",
    "python3 -m atom.entrypoints.openai_server --model m ",
)
# Command line -> what it says, beside one GPU and nothing else: tp, ep, pp, dp, kvp, n(replicas),
# b(atch), c(ontext), w(eights), kv (bytes), u(sable), s(tatic).
COMMANDS = {
    # vLLM: spellings
    VLLM + "--tensor-parallel-size 8": {"tp": 8},
    VLLM + "--tensor-parallel-size=8": {"tp": 8},
    VLLM + "--tensor_parallel_size 8 --max_model_len 4096": {"tp": 8, "c": 4096},
    VLLM + "--tensor-par 8": {"tp": 8},
    VLLM + "-tp=8 -pp=2": {"tp": 8, "pp": 2},
    "vllm serve --model m -tp 4": {"tp": 4},
    "vllm serve --trust-remote-code m -tp 4": {"tp": 4},
    "vllm serve -tp 4 m": {"tp": 4},
    VLLM + "-tp 2 \\\n  --max-num-seqs 64 \\\n  --port 8000": {"tp": 2, "b": 64},
    # vLLM: context
    VLLM + "--max-model-len 8k": {"c": 8000},
    VLLM + "--max-model-len 1M": {"c": 2**20},
    VLLM + "--max-model-len 25.6k": {"c": 25600},
    VLLM + "--max-model-len auto": {},
    VLLM + "--max-model-len -1": {},
    VLLM + "--max-model-len 8K --max-num-batched-tokens 8K": {"c": 8192},
    # vLLM: cache and weights
    VLLM + "--kv-cache-dtype auto": {},
    VLLM + "--kv-cache-dtype fp8_e5m2": {"kv": 1},
    VLLM + "--kv-cache-dtype fp8_ds_mla": {"kv": 1},
    VLLM + "--kv-cache-dtype nvfp4": {"kv": 0.5625},
    VLLM + "--kv-cache-dtype fp16": {"kv": 2},
    VLLM + "--quantization fp8 --kv-cache-dtype fp8": {"w": "fp8", "kv": 1},
    VLLM + "-q awq_marlin --dtype half": {"w": "fp4"},
    VLLM + "--quantization compressed-tensors": {},
    VLLM + "--quantization bitsandbytes --load-format bitsandbytes": {"w": "fp4"},
    # vLLM: expert and data parallelism
    VLLM + "-tp 8 --enable-expert-parallel": {"tp": 8, "ep": 8},
    VLLM + "-dp 8 --enable-expert-parallel": {"dp": 8, "ep": 8},
    VLLM + "--data-parallel-size 8 -ep --data-parallel-hybrid-lb": {"dp": 8, "ep": 8},
    VLLM + "-dp 16 -ep --data-parallel-size-local 8 --data-parallel-address 10.0.0.1 "
    "--data-parallel-rpc-port 13345 --headless": {"dp": 16, "ep": 16},
    VLLM + "-tp 4 -dp 2 -ep --all2all-backend deepep_low_latency": {"tp": 4, "dp": 2, "ep": 8},
    VLLM + "-tp 4 -dp 2": {"tp": 4, "dp": 2},
    VLLM + "-tp 8 --no-enable-expert-parallel": {"tp": 8},
    VLLM + "-tp 8 -dcp 4": {"tp": 2, "kvp": 4},
    VLLM + "-tp 8 --nnodes 2 --node-rank 0 --master-addr head -pp 2": {"tp": 8, "pp": 2},
    # vLLM: what is named only
    VLLM + "-tp 8 --speculative-config.method mtp --speculative-config.num_speculative_tokens 2": {
        "tp": 8
    },
    VLLM + """--speculative-config '{"method": "eagle3", "num_speculative_tokens": 3}'""": {},
    VLLM + """-O3 -tp 2 --compilation-config '{"cudagraph_mode": "FULL_DECODE_ONLY"}'""": {"tp": 2},
    VLLM + "-O.mode=3 -cc.cudagraph_mode PIECEWISE --enforce-eager": {},
    VLLM + "--cuda-graph-sizes 1 2 4 8 --served-model-name a b -tp 2": {"tp": 2},
    VLLM + "--async-scheduling --no-enable-prefix-caching --disable-log-requests -tp 8 "
    "--max-num-batched-tokens 8192 --max-num-seqs 512 --gpu-memory-utilization 0.95 "
    "--stream-interval 20": {"tp": 8, "b": 512, "u": 0.95},
    VLLM + "--tool-call-parser kimi_k2 --enable-auto-tool-choice --reasoning-parser kimi_k2 "
    "--mm-encoder-tp-mode data --trust-remote-code -tp 8": {"tp": 8},
    VLLM + "--brand-new-option 3 -tp 8 --seed -1": {"tp": 8},
    VLLM + "--swap-space=64 --max-seq-len-to-capture 10240 --block-size=64 -tp 8": {"tp": 8},
    # vLLM: what stands in front and behind
    "VLLM_USE_V1=1 VLLM_ATTENTION_BACKEND=FLASHMLA vllm serve m -tp 8": {"tp": 8},
    "env CUDA_VISIBLE_DEVICES=0,1 nohup vllm serve m -tp 2 > log.txt 2>&1 &": {"tp": 2},
    "python -m vllm.entrypoints.openai.api_server --model m -tp 4 | tee log": {"tp": 4},
    "numactl --cpunodebind=0 python3 -m vllm.entrypoints.openai.api_server --model=m -tp 8": {
        "tp": 8
    },
    "docker run --gpus all -v ~/.cache/vllm:/root -p 8000:8000 --ipc=host "
    "vllm/vllm-openai:v0.11.0 --model m --tensor-parallel-size 8": {"tp": 8},
    "docker run --runtime nvidia --name vllm -e VLLM_USE_V1=1 vllm/vllm-openai m -tp 2": {"tp": 2},
    "docker run --gpus all image bash -c 'vllm serve m -tp 8 --max-num-seqs 32'": {
        "tp": 8,
        "b": 32,
    },
    "docker run --gpus all --name vllm vllm/vllm-openai:v0 bash -lc 'pip install -U vllm && \\\n"
    "  vllm serve m --tensor-parallel-size 8 --served-model-name m-fp8'": {"tp": 8},
    "export VLLM_USE_V1=1\nvllm serve m -tp 8\n# vllm serve m -tp 4": {"tp": 8},
    "vllm bench throughput --model m -tp 4 --input-len 1024": {"tp": 4},
    "vllm serve --omni m --no-brand-new -tp 2": {"tp": 2},
    "/opt/venv/bin/vllm serve m -tp 8": {"tp": 8},
    "(vllm serve m -tp 2 &) && sleep 60": {"tp": 2},
    "python3 -m dynamo.vllm --model m --tensor-parallel-size 8 -ep": {"tp": 8, "ep": 8},
    # SGLang
    SGLANG + "--tp 8": {"tp": 8},
    SGLANG + "--tp-size=8 --context-len 32768": {"tp": 8, "c": 32768},
    "sglang serve --model-path m --tp 8 --mem-fraction-static 0.85": {"tp": 8, "s": 0.85},
    SGLANG + "--tp 8 --dp 8 --enable-dp-attention --moe-a2a-backend deepep": {"dp": 8, "ep": 8},
    SGLANG + "--tp 16 --dp 16 --enable-dp-attention --moe-a2a-backend mooncake": {
        "dp": 16,
        "ep": 16,
    },
    SGLANG + "--tp 8 --moe-a2a-backend none": {"tp": 8},
    SGLANG + "--tp 8 --ep 2 --moe-a2a-backend=deepep --deepep-mode normal": {"tp": 8, "ep": 8},
    SGLANG + "--tp 8 --enable-deepep-moe --dp 4 --enable-dp-attention": {"tp": 2, "dp": 4, "ep": 8},
    SGLANG + "--tp 8 --enable-dp-attention": {"tp": 8},
    SGLANG + "--tp 4 --dp 2": {"tp": 4, "n": 2},
    SGLANG + "--tp 8 --dp 8 --enable-dp-attention --max-running-requests 1024 "
    "--cuda-graph-bs 1 2 4 8 --disaggregation-mode decode --disable-radix-cache": {
        "dp": 8,
        "b": 128,
    },
    SGLANG + "--tp 8 --speculative-algo EAGLE --speculative-num-steps 3 "
    "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4": {"tp": 8},
    SGLANG + "--tp 8 --quantization modelopt_fp4 --kv-cache-dtype fp8_e4m3 "
    "--attention-backend trtllm_mla --moe-runner-backend flashinfer_trtllm "
    "--chunked-prefill-size 16384 --enable-flashinfer-allreduce-fusion": {
        "tp": 8,
        "w": "fp4",
        "kv": 1,
    },
    SGLANG + "--tp 16 --nnodes 2 --node-rank 0 --dist-init-addr 10.0.0.1:5000": {"tp": 16},
    SGLANG + "--tp 8 --moe-dense-tp-size 1 --enable-dp-lm-head --enable-two-batch-overlap "
    "--ep-num-redundant-experts 32 --disable-radix": {"tp": 8},
    "SGLANG_USE_AITER=1 python3 -m sglang.launch_server --model m --tensor-parallel-size 8 "
    "--num-continuous-decode-steps 4 --max-prefill-tokens 131072": {"tp": 8},
    "docker run --gpus all --shm-size 32g lmsysorg/sglang:latest python3 -m "
    "sglang.launch_server --model-path m --tp 2": {"tp": 2},
    "python3 -m dynamo.sglang --model-path m --tp-size 8 --ep-size 8": {"tp": 8, "ep": 8},
    "python3 -m dynamo.trtllm --model-path m --tensor-parallel-size 4 --expert-parallel-size 4 "
    "--enable-attention-dp": {"dp": 4, "ep": 4},
    SGLANG + "--tp 8 --attn-dp-size 8 --ep 8": {"dp": 8, "ep": 8},
    SGLANG + "--tp 16 --attention-data-parallel-size 4 --dp 2": {"tp": 4, "dp": 4, "n": 2},
    SGLANG + "--tp 8 --dcp-size 8": {"kvp": 8},
    SGLANG + "--tp 8 --attn-dp-size 2 --dcp-size 2": {"tp": 2, "dp": 2, "kvp": 2},
    # What stands in front gives variables their values; a shell's defaults count.
    "export TP=8 EP=4\npython3 -m sglang.launch_server --model-path m --tp $TP --ep ${EP}": {
        "tp": 8,
        "ep": 4,
    },
    "MODEL=m TP=2\n# a comment's lone quote\nvllm serve $MODEL -tp ${TP:-4} \\\n"
    "  --max-num-seqs ${CONC:-64} \\ \n  --max-model-len 8192 \\": {"tp": 2, "b": 64, "c": 8192},
    VLLM + "--quantization fp8_per_block --device-memory-utilization 0.8": {"w": "fp8", "u": 0.8},
    VLLM + "-dpl 8 -dp 16 -ep -dpa 10.0.0.1 -dpp 13345 -dpb ray -n 2 -r 0": {"dp": 16, "ep": 16},
    VLLM + "--compilation_config.pass_config.fuse_allreduce_rms true -tp 8": {"tp": 8},
    # ATOM: data parallelism is replicas, unless attention is parallel in data.
    ATOM + "-tp 8 --kv_cache_dtype fp8 --enable-expert-parallel": {"tp": 8, "ep": 8, "kv": 1},
    ATOM + "-tp 4 -dp 2 --enable-expert-parallel": {"tp": 4, "ep": 4, "n": 2},
    ATOM + "-tp 4 -dp 2 --enable-dp-attention --enable-tbo prefill": {"dp": 8},
    ATOM + "-tp 8 --enable-dp-attention --enable-expert-parallel --method mtp "
    "--num-speculative-tokens 3 --no-enable_prefix_caching": {"dp": 8, "ep": 8},
    'docker exec -d a bash -c "\nexport A=1\ncd /app/ATOM\npython3 -m '
    'atom.entrypoints.openai_server \\\n  --model m -tp 4 \\\n --max-num-seqs 64 > log 2>&1\n"': {
        "tp": 4,
        "b": 64,
    },
    # TensorRT-LLM
    TRT + "--tp_size 8": {"tp": 8},
    TRT + "--port=8888 --trust_remote_code --backend=pytorch --max_seq_len=9300 "
    "--max_num_tokens=8192 --tp_size=4 --ep_size=4 > server.log 2>&1 &": {
        "tp": 4,
        "ep": 4,
        "c": 9300,
    },
    TRT + "--tp_size 8 --ep_size 8 --pp_size 2 --max_batch_size 128 --max_num_tokens 8192 "
    "--max_seq_len 9216 --kv_cache_free_gpu_memory_fraction 0.8": {
        "tp": 8,
        "ep": 8,
        "pp": 2,
        "b": 128,
        "c": 9216,
    },
    "trtllm-serve serve m --tp_size=4 --backend pytorch --host 0.0.0.0": {"tp": 4},
    "mpirun -n 1 --oversubscribe --allow-run-as-root trtllm-serve m --tp_size 8": {"tp": 8},
    "trtllm-llmapi-launch trtllm-serve m --tp_size 16 --ep_size 4 --trust_remote_code": {
        "tp": 16,
        "ep": 4,
    },
    TRT + "--tp_size 8 --ep_size 8 --enable_attention_dp --kv_cache_dtype fp8": {
        "dp": 8,
        "ep": 8,
        "kv": 1,
    },
    "trtllm-bench -m m throughput --dataset d.txt --backend pytorch --tp 8 --ep 8 "
    "--num_requests 64 --concurrency 64 --max_batch_size 64 --kv_cache_free_gpu_mem_fraction 0.8": {
        "tp": 8,
        "ep": 8,
        "b": 64,
    },
    # model.json of Triton's vLLM backend, and the like.
    '{"model": "m", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.5, "max_model_len": '
    '8192, "enforce_eager": true}': {"tp": 2, "u": 0.5, "c": 8192},
    "engine_args:\n  model: m\n  tensor_parallel_size: 4\n  max_model_len: 8192\n": {
        "tp": 4,
        "c": 8192,
    },
}
_NAMES = {
    "n": "replicas",
    "b": "batch",
    "c": "context",
    "w": "weights",
    "kv": "bytes_kv",
    "u": "usable_fraction",
    "s": "static_fraction",
}


def _said(got):
    """What a deployment says beside one GPU and nothing else."""
    degrees = {name: getattr(got, name) for name in ("tp", "ep", "pp", "dp", "kvp")}
    degrees["n"] = got.replicas
    rest = {short: getattr(got, name) for short, name in _NAMES.items() if short != "n"}
    return {name: x for name, x in degrees.items() if x != 1} | {
        name: x for name, x in rest.items() if x is not None
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_published_command_lines_are_read(command):
    got = read(command)
    assert _said(got) == pytest.approx(COMMANDS[command])
    assert got.model == "m"


def test_the_table_is_long_and_names_every_engine():
    assert len(COMMANDS) >= 60
    assert {engine_of(command) for command in COMMANDS} == set(ENGINES)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("lmdeploy serve api_server m --tp 8", "'lmdeploy' is not an engine"),
        ("python -m mlc_llm.serve m --tp 8", "'mlc_llm.serve' is not an engine"),
        ("text-generation-launcher --model-id m", "is not an engine"),
        ("./build/bin/llama-server -m m.gguf -c 8192", "'llama-server' is not an engine"),
        ("ollama run m", "'ollama' is not an engine"),
        ("docker-compose up vllm", "'docker-compose' is not an engine"),
        (
            "trtllm-serve disaggregated -c d.yaml",
            "disaggregated` starts no server of a model; give",
        ),
        ("trtllm-bench --model m prepare-dataset", "runs a model by `throughput` or"),
        ('{"a":' * 3_000, "the text is JSON without the command of a server"),
        ('{"model": "m", "temperature": 0.5}', "the text is JSON without the command of a server"),
        (
            '"""It\'s the model."""\nimport vllm\nfrom vllm import LLM\n',
            "the text is Python without",
        ),
        ("A=1 python3 -m llumnix.entrypoints.api_server --model m -tp 8", "'llumnix.entrypoints"),
        ("python -m atom.benchmarks.benchmark_serving --model m", "'atom.benchmarks.benchmark_ser"),
        (SGLANG + "--tp 8 --enable-expert-parallel", "not of sglang, which has --ep-size"),
        (TRT + "--enable-expert-parallel", "not of trtllm, which has --ep-size"),
        (VLLM + "--tp-size 8", "which has --tensor-parallel-size"),
        (VLLM + "-tp 4 --dcp 4", "a short name has one dash; write -dcp"),
        (VLLM + "-tp auto", "'auto' is not a number; give a whole number of at least 1"),
        ("docker run -p 80:80 ghcr.io/x/text-generation-inference:3 --model-id m/n", "3'"),
        ("sudo docker run --name a/b -v /x:/y mm/lmdeploy lmdeploy serve m", "'mm/lmdeploy'"),
        ("vllm chat --url http://localhost:8000/v1", "`vllm chat` is a client"),
        ("vllm bench serve --model m --request-rate 10", "is a client"),
        ("python3 -m sglang_router.launch_router --policy x", "is not an engine"),
        (TRT + "--enable_attention_dp=perhaps", "neither true nor false"),
        (VLLM + "-tp 8 --compilation-config '{", "close every quotation mark"),
        (VLLM + "--max-num 8", "--max-num-seqs"),
        (VLLM + "-tp 8 --prefill-context-parallel-size 2", "it takes 2 times the GPUs"),
        (VLLM + "--config missing.yaml", "missing.yaml: cannot be read"),
        (VLLM + "--quantization fp7", "'fp7' is not modelled"),
        (TRT + "--tp_size 8 --ep_size 3", "3 does not divide"),
        (SGLANG + "--tp 8 --max-running-request-s 8", "did you mean --max-running-requests"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(command, words):
    with pytest.raises(ValueError, match="flags:") as caught:
        read(command)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["a b " * 9000, "it's " + "x" * 9000])
def test_a_long_text_is_not_printed_whole(text):
    with pytest.raises(ValueError, match="flags:") as caught:
        read(text)
    assert len(str(caught.value)) < 1000


def test_settings_of_a_line_each():
    script = (
        "cat > e.yml <<EOF\nkv_cache_config: {dtype: fp8, free_gpu_memory_fraction: 0.7}  # a\n"
        'speculative_config: {"decoding_type": "MTP", "num_nextn_predict_layers": 2}\nEOF\n'
        "trtllm-serve m --tp_size 8 --extra_llm_api_options e.yml\n"
    )
    got = read(script)
    assert (got.bytes_kv, got.free_fraction, got.drafts, got.drafter) == (1, 0.7, 2, "mtp")
    got = read("cat > c.yml <<E\nspeculative-config: {method: mtp, num_speculative_tokens: 3}\nE\n"
               "vllm serve m --config c.yml --max-num-batched-tokens 16k")  # fmt: skip
    assert (got.drafts, got.drafter, got.batched_tokens) == (3, "mtp", 16000)


def test_a_script_that_writes_its_settings_is_read_with_them():
    script = (
        "CONF=extra.yml; CONC=64\n# the server's settings\ncat > $CONF << EOF\n"
        "enable_attention_dp: true\nkv_cache_config:\n    dtype: fp8\n"
        "    free_gpu_memory_fraction: 0.85\nmax_batch_size: $CONC\nEOF\n"
        "cat << 'END' >> extra.yml\nattention_dp_config:\n    enable_balance: true\nEND\n"
        "mpirun -n 1 trtllm-serve m --tp_size=8 --ep_size=8 \\\n"
        "  --extra_llm_api_options=$CONF > log 2>&1 &\n"
    )
    got = read(script)
    assert _said(got) == {"dp": 8, "ep": 8, "b": 64, "kv": 1}
    assert (got.model, got.free_fraction) == ("m", 0.85)
    assert "--attention-dp-config.enable-balance" in got.notes[-1]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            'CMD="python3 -m sglang.launch_server --model-path m --port 1"\n'
            'CMD+=" --tp 8 --ep-size 4"\nCMD+=" --max-running-requests 256"\n$CMD > log &',
            {"tp": 8, "ep": 4, "b": 256},
        ),
        (
            'CMD=(\n  vllm serve m\n  # a note on what\'s below\n  "${MORE[@]}"\n'
            '  -tp 8\n)\nprintf "%q " "${CMD[@]}"',
            {"tp": 8},
        ),
        (
            "args=$(echo -m sglang.launch_server --model-path m --nccl-init $HEAD:$PORT \\\n"
            "  --nnodes 2 --node-rank $RANK --tp 16 --dp 2 --enable-dp-attention\n)\nargs=($args)",
            {"tp": 8, "dp": 2},
        ),
        ("vllm serve serve m -tp 8", {"tp": 8}),
        (
            "vllm serve m \\\n  -tp 2 \\  # of a node\n  -dp 4 \\\t# in all\n  -ep  # experts",
            {"tp": 2, "dp": 4, "ep": 8},
        ),
        ("docker run -d vllm/vllm-openai:v1 --model m -tp 2 ${VLLM_ARGS:-}", {"tp": 2}),
        ("python -m vllm serve m -tp 2; echo up", {"tp": 2}),
        # Functions, with what they are called with.
        (
            'serve() { local LOG="$1" MODEL="$2" TP="$3"; shift 3\n'
            '  nohup vllm serve "$MODEL" -tp "$TP" "$@" >"$LOG" 2>&1 &\n}\n'
            "serve a.log m 2 --max-num-seqs 64",
            {"tp": 2, "b": 64},
        ),
        (
            "function start {\n  vllm serve $1 --max-model-len $LEN ${@:3} -tp ${2:-1}\n}\n"
            'run ()\n{\n  if start "$1" 4 -dp 2; then echo up; fi\n}\nLEN=8192\nrun m > log',
            {"tp": 4, "dp": 2, "c": 8192},
        ),
        (
            'far() { ssh $1 "cd /x; vllm serve m -tp $2 > $3.log &"; }\nfar a 8 n0; far b 8 n1',
            {"tp": 8},
        ),
        # Loops: of one value, of several, and what a turn makes of itself.
        ("for x in m; do\n  for n in 2; do vllm serve $x -tp $n; done\ndone", {"tp": 2}),
        ("n=1\nfor n in 1 2 4; do vllm serve m -tp $n; done", {}),
        ("n=1; while [ $n -lt $MAX ]; do n=$((n * 2)); done\nvllm serve m -tp $n", {}),
        # A script that another writes.
        (
            "M=m TP=8\ncat > $JOB <<-END\n#!/bin/bash\nvllm serve $M --port \\$PORT \\\n"
            "-tp $TP \\\n> /x/log_\\${ID}.txt 2>&1 &\nEND\nsbatch $JOB",
            {"tp": 8},
        ),
        # PowerShell
        (
            "$env:P = (Resolve-Path 'a/b').Path\n$MODEL = 'm'\nvllm serve $MODEL `\n  -tp 2 `\n"
            "  --port 8000",
            {"tp": 2},
        ),
    ],
)
def test_commands_in_scripts(script, said):
    got = read(script)
    assert _said(got) == said
    assert got.model == "m"
    assert "time: ;" not in " ".join(got.notes)


def test_what_a_reader_fills_in_counts_as_not_given():
    got = read(VLLM + "-tp $TP --max-num-seqs <concurrency> --kv-cache-dtype {dtype} -ep")
    assert _said(got) == {}
    (told,) = [note for note in got.notes if note.startswith("no value is known of")]
    assert "-tp $TP, --max-num-seqs <concurrency>, --kv-cache-dtype {dtype}, so all" in told
    assert told.endswith("write it behind the command or its file: -tp VALUE")
    got = read(TRT + "--tp_size=$TP --enable_attention_dp=$DP")
    assert "--tp-size $TP, --enable-attention-dp $DP, so all" in got.notes[-1]


def test_flags_are_sorted_by_what_they_can_change():
    """One line for those without effect, one for those that may have one; the result goes on."""
    got = read(VLLM + "--port 1 --enforce-eager --brand-new 3 4 --seed 0 --enable-lora")
    assert got.notes == (
        "without effect here: --port, --seed",
        "not read, though it may change memory or time: --enforce-eager, --brand-new, "
        "--enable-lora; all numbers are without it",
    )
    got = read(VLLM + "--dtype float32 --enable-eplb")
    assert "--enable-eplb, --dtype;" in got.notes[0]
    assert "Partition.redundant_experts" in got.notes[0]


@pytest.mark.parametrize(
    ("command", "release", "overlapped"),
    [
        ("docker run vllm/vllm-openai:v0.11.0 --model m", "0.11.0", None),
        ("docker run vllm/vllm-openai:latest --model m --no-async-scheduling", "", False),
        ("docker run vllm/vllm-openai-rocm:v0.14.1-x --model m --async-scheduling", "0.14.1", True),
        ("docker run rocm/vllm:rocm6.4.1_vllm_0.9.1_20250702 vllm serve m", "0.9.1", None),
        ("pip install vllm[flashinfer]==0.10.2 && vllm serve m", "0.10.2", None),
        ("docker run nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.5.1 vllm serve m", "", None),
        ("docker run lmsysorg/sglang:v0.5.3.post1 sglang serve --model-path m", "0.5.3", None),
        ("vllm serve m", "", None),
    ],
)
def test_images_and_packages_tell_the_release(command, release, overlapped):
    got = read(command)
    assert (got.release, got.overlapped) == (release, overlapped)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_flag_is_listed_twice(engine):
    rules = load_flags()[engine]
    groups = [rules[kind].values() for kind in ("reads", "switches", "no_effect", "unread")]
    names = [name for group in groups for text in group for name in text.split()]
    assert len(names) == len(set(names))
    assert len(flags_of(engine)) >= len(names)


def test_a_settings_file_gives_way_to_the_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "# comment\nmodel: m\ntensor-parallel-size: 4\nmax_model_len: 10240  # tokens\n"
        "no-enable-prefix-caching: true\nenable-expert-parallel: false\nasync-scheduling: true\n"
        "compilation-config: '{\"mode\": 3}'\nlora-modules:\n  - a\n  - b\nport: null\n",
        encoding="utf-8",
    )
    got = read(f"vllm serve --config {path} -tp 8")
    assert _said(got) == {"tp": 8, "c": 10240}
    assert got.model == "m"
    assert got.overlapped
    assert "--compilation-config" in got.notes[-1]
    assert read(f"vllm serve other --config={path}").tp == 4
    # A map over several lines was left out.
    path.write_text("kv_cache_config: {\n  dtype: fp8,\n  free_gpu_memory_fraction: 0.85}\n")
    got = read(f"trtllm-serve m --extra_llm_api_options {path}")
    assert (got.bytes_kv, got.free_fraction) == (1, 0.85)
    path.write_text("tensor-parallel-size 4\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: 'tensor-parallel-size 4' is not `key: value`"):
        read(f"vllm serve m --config {path}")
    path = path.rename(tmp_path / "settings.toml")
    with pytest.raises(ValueError, match="is not `key: value`; engines read YAML alone"):
        read(f"vllm serve m --config {path}")


def test_the_settings_of_tensorrt_llm_win_over_the_line(tmp_path):
    path = tmp_path / "extra.yaml"
    path.write_text(
        "enable_attention_dp: true\nmax_batch_size: 64\nkv_cache_config:\n"
        "  dtype: fp8\n  free_gpu_memory_fraction: 0.85\n  enable_block_reuse: false\n"
        "cuda_graph_config:\n  enable_padding: true\n  batch_sizes: [1, 2,\n    4]\n",
        encoding="utf-8",
    )
    got = read(f"{TRT} --tp_size 8 --ep_size 8 --max_batch_size 8 --extra_llm_api_options {path}")
    assert _said(got) == {"dp": 8, "ep": 8, "b": 64, "kv": 1}
    assert got.free_fraction == 0.85
    assert "--cuda-graph-config.enable-padding" in got.notes[-1]


@pytest.mark.parametrize(
    ("own", "quantization", "dtype", "words"),
    [
        ("bf16", "fp8", "fp8", ""),
        ("bf16", "awq", "fp4", ""),
        ("bf16", "modelopt", "fp8", "checkpoint of that kind"),
        ("bf16", "compressed-tensors", None, "names a loader"),
        ("fp8", "fp8", None, ""),
        ("fp8", "modelopt", None, ""),
        ("fp8", "modelopt_fp4", "fp4", "serves a checkpoint in fp4"),
        ("fp8", "compressed-tensors", None, "stay in fp8"),
        ("fp4", "modelopt", None, "stay in fp4"),
        ("fp4", "compressed-tensors", None, "stay in fp4"),
        ("fp4", "fp8", None, "stay in fp4"),
        ("fp4", "mxfp4", None, ""),
        ("fp4", "awq_marlin", None, ""),
    ],
)
def test_a_loader_is_no_dtype(own, quantization, dtype, words):
    got, notes = weights_of(own, read(VLLM + f"--quantization {quantization}"))
    assert got == dtype
    assert words in " ".join(notes)
    assert bool(notes) == bool(words)


@pytest.mark.parametrize(
    ("name", "degrees", "block", "words"),
    [
        ("qwen3-235b-a22b", {"tp": 8.0}, 128, "routed experts of width 1,536 over 8 GPUs are 192"),
        ("qwen3-235b-a22b", {"tp": 4.0}, 128, ""),
        ("qwen3-235b-a22b", {"tp": 8.0, "ep": 8.0}, 128, ""),
        ("qwen3-235b-a22b", {"tp": 8.0}, 0, ""),
        ("qwen3-30b-a3b", {"tp": 4.0}, 128, "width 768 over 4 GPUs are 192"),
        ("deepseek-v3", {"tp": 32.0}, 128, "dense layers of width 18,432 over 32 GPUs are 576"),
        ("deepseek-v3", {"tp": 16.0}, 128, ""),
        ("deepseek-v3", {"tp": 32.0, "ep": 32.0}, 128, "shared experts of width 2,048"),
        ("deepseek-v3", {"dp": 32.0, "ep": 32.0}, 128, ""),
        ("llama-3.1-8b", {"tp": 8.0}, 128, ""),
        # Experts are 5,120 wide, and read 2,048 of the 8,192 of the hidden state.
        ("nemotron-3-ultra-550b-a55b", {"tp": 8.0}, 128, ""),
        ("nemotron-3-ultra-550b-a55b", {"tp": 16.0}, 128, "width 5,120 over 16 GPUs are 320"),
        ("qwen3-32b", {"tp": 8.0}, 256, "feed-forward layers of width 25,600 over 8 GPUs"),
    ],
)
def test_a_split_that_cuts_a_block_is_said(name, degrees, block, words):
    """By division; the second to sixth are what vLLM and SGLang start or refuse."""
    entry = catalog.model_entry(name)
    found = " ".join(broken_blocks(entry.spec, Partition(**degrees), block, entry.expert_hidden))
    assert words in found
    assert bool(found) == bool(words)


def test_published_fp8_models_have_their_block():
    for name in ("deepseek-v3", "deepseek-v3.2", "kimi-k2", "minimax-m2.5"):
        assert catalog.model_entry(name).weight_block == 128
    assert catalog.model_entry("llama-3.1-8b").weight_block == 0


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("Qwen/Qwen3-235B-A22B-FP8", 128),
        ("Qwen/Qwen3.5-397B-A17B-FP8", 128),
        ("Qwen/Qwen3-32B-FP8-Static-PerTensor", 0),
        ("RedHatAI/Qwen3-32B-FP8-dynamic", 0),
        ("RedHatAI/Qwen3-32B-FP8-block", 128),
        ("nvidia/Qwen3-235B-A22B-FP8", 0),
        ("Qwen/Qwen3-235B-A22B", 0),
    ],
)
def test_a_publisher_s_own_fp8_has_its_blocks(name, block):
    """`weight_block_size` of the configs that Qwen publishes; others have a scale a channel."""
    assert catalog.model_entry(name).weight_block == block


def test_the_name_of_a_checkpoint_tells_its_quantisation():
    for name, own in (
        ("Qwen/Qwen3-235B-A22B-FP8", "fp8"),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "fp4"),
        ("nvidia/DeepSeek-R1-0528-FP4", "fp4"),
        ("x/y_awq", "fp4"),
        ("x/y-GPTQ-Int8", "fp8"),
    ):
        assert "by its name" in about_name(name, "bf16")[0]
        assert about_name(name, own) == ()
    assert "count as fp8" in about_name("nvidia/DeepSeek-R1-0528-FP4", "fp8")[0]
    assert about_name("Qwen/Qwen3-235B-A22B", "bf16") == about_name(None, "bf16") == ()
