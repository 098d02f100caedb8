"""Commands as they stand in scripts, manifests, units and Python: one command, many coats."""

import json

import pytest

from qsjax.engines import read

LINE = "vllm serve org/m -tp 4 --max-model-len 8192"
IMAGE = "services:\n  v:\n    image: vllm/vllm-openai:latest\n"
POD = "spec:\n  containers:\n  - name: v\n    image: vllm/vllm-openai\n"
ARGUMENTS = ["org/m", "--tensor-parallel-size", "4", "--max-model-len", "8192"]
# Every one of these starts LINE.
COATS = {
    "ends of lines of Windows": LINE.replace(" --max", " \\\r\n  --max") + "\r\n",
    "byte order mark": "\ufeff" + LINE,
    "bash -c": f'bash -c "{LINE}"',
    "quotation marks within others": "bash -lc 'cd /w && "
    + LINE
    + """ --speculative-config '\\''{"method":"ngram","num_speculative_tokens":3}'\\'''""",
    "escaped ones": 'sh -c "'
    + LINE
    + """ --hf-overrides '{\\"rope_scaling\\":{\\"factor\\":4.0}}'\"""",
    "a default": "TP=${TP:-4}\n" + LINE.replace("4", "$TP").replace("8192", "${LEN:-8192}"),
    "a default that is kept": ': "${TP:=4}"\n' + LINE.replace("4", "$TP"),
    "a default within a default": LINE.replace("4", "${TP:-${N:-4}}"),
    "srun": f"srun -N1 --ntasks=1 --container-image=a.sqsh --mpi=pmix {LINE}",
    "srun with a shell": f"srun -N1 --gres=gpu:4 bash -c '{LINE}' &",
    "mpirun": "mpirun -n 4 --allow-run-as-root trtllm-llmapi-launch trtllm-serve org/m --tp_size 4"
    " --max_seq_len 8192",
    "a flag again": LINE.replace("4", "2") + " -tp=4",
    "JSON": LINE + """ --compilation-config '{"level": 3, "cudagraph_capture_sizes": [1, 2]}'""",
    "compose, a text": IMAGE + "    command: --model org/m --tensor-parallel-size 4 "
    "--max-model-len 8192\n",
    "compose, a list": IMAGE
    + "    command:\n      - --model\n      - org/m\n      - --tensor-parallel-size=4\n"
    '      - "--max-model-len"\n      - "8192"\n',
    "compose, folded": IMAGE
    + "    command: >-\n      --model org/m\n      --tensor-parallel-size 4\n"
    "      --max-model-len 8192\n",
    "compose, variables": IMAGE
    + "    environment:\n      TP: 4\n    command: --model ${MODEL:-org/m} -tp ${TP} "
    "--max-model-len 8192\n",
    "a manifest in JSON": json.dumps(
        {
            "kind": "Pod",
            "spec": {
                "containers": [
                    {
                        "image": "vllm/vllm-openai:v0.11",
                        "args": [*ARGUMENTS[:2], "$(TP)", *ARGUMENTS[3:]],
                        "command": ["vllm", "serve"],
                        "env": [{"name": "TP", "value": "4"}],
                    }
                ]
            },
        }
    ),
    "arguments before the command": POD
    + "    args:\n    - org/m\n    - -tp\n    - '4'\n    - --max-model-len\n    - '8192'\n"
    "    command:\n    - vllm\n    - serve\n",
    "a shell's arguments": POD + f'    command: ["/bin/sh", "-c"]\n    args: ["{LINE}"]\n',
    "tmux": f'tmux new-session -d -s v "{LINE}"',
    "nohup": f"nohup {LINE} > log 2>&1 &",
    "singularity": "singularity run --nv docker://vllm/vllm-openai:latest --model org/m -tp 4 "
    "--max-model-len 8192",
    "a comment between": LINE.replace(" --max", " \\\n  # --max-num-seqs 12 \\\n --max"),
    "a script that is written": f"cat > run.sh <<'EOF'\n#!/bin/bash\n{LINE}\nEOF\nbash run.sh",
    "a unit": "[Service]\nType=simple\nExecStart=/opt/env/bin/" + LINE + "\nRestart=always\n",
    "a unit that is written": "cat > /etc/systemd/system/v.service << 'UNIT'\n[Service]\nExecStart="
    "/opt/bin/vllm serve org/m \\\n    -tp 4 \\\n    --max-model-len 8192\nRestart=always\nUNIT\n"
    "systemctl daemon-reload",
    "a list in Python": "cmd = ['vllm', 'serve', 'org/m', '-tp', str(4),"
    " '--max-model-len', '8192']",
    "a text in Python": f'subprocess.Popen(f"{LINE} --port {{port}}", shell=True)',
    "vLLM in Python": "from vllm import LLM\nTP = 4\nllm = LLM('org/m', tensor_parallel_size=TP,\n"
    "    max_model_len=8192, enforce_eager=False)  # (one node)",
    "arguments in Python": "AsyncEngineArgs(model='org/m', tensor_parallel_size=4,"
    " max_model_len=8192, quantization=None)",
    "SGLang in Python": "import sglang as sgl\nllm = sgl.Engine(model_path='org/m', tp_size=4,\n"
    "    context_length=8192)",
    "TensorRT-LLM in Python": "from tensorrt_llm import LLM\nllm = LLM(model='org/m',"
    " tensor_parallel_size=4, max_seq_len=8192)",
    # https://github.com/vllm-project/production-stack, values.yaml
    "the production stack": "servingEngineSpec:\n  modelSpec:\n  - name: m\n    modelURL: org/m\n"
    "    vllmConfig:\n      enablePrefixCaching: true\n      maxModelLen: 8192\n"
    '      tensorParallelSize: 4\n      extraArgs: ["--disable-log-requests"]\n'
    "    lmcacheConfig:\n      enabled: true\n",
    # https://docs.ray.io, Serving LLMs
    "Ray in Python": "LLMConfig(\n    model_loading_config=dict(model_id='mine',"
    " model_source='org/m'),\n    deployment_config=dict(num_replicas=2),\n"
    "    engine_kwargs=dict(\n        tensor_parallel_size=4,\n        max_model_len=8192,\n"
    "        reasoning_parser='deepseek_r1'\n        ### hf_token=os.environ['HF_TOKEN'],\n"
    "    ),\n)",
    "Ray's manifest": "applications:\n- args:\n    llm_configs:\n    - model_loading_config:\n"
    "        model_id: mine\n        model_source: org/m\n      engine_kwargs:\n"
    "        tensor_parallel_size: 4\n        max_model_len: 8192  # tokens\n"
    "        kv_transfer_config:\n          kv_connector: LMCacheConnectorV1\n"
    "      deployment_config:\n        num_replicas: 1\n",
}


@pytest.mark.parametrize("coat", COATS)
def test_one_command_in_many_coats(coat):
    got = read(COATS[coat])
    assert (got.model, got.tp, got.context) == ("org/m", 4, 8192)
    assert (got.dp, got.pp, got.ep, got.batch) == (1, 1, 1, None)


@pytest.mark.parametrize("line", ["vllm serve org/m -tp 2", "vllm serve org/m"])
def test_words_behind_a_quoted_line_are_of_it(line):
    got = read([line, "-tp", "4", "--hf-overrides", '{"a": 1}', "-dp", "2"])
    assert (got.model, got.tp, got.dp) == ("org/m", 4, 2)


# https://github.com/ai-dynamo/dynamo, recipes/a.x-k2/vllm/disagg-b200/deploy.yaml, cut
COMPONENT = """\
    - name: {name}
      podTemplate:
        spec:
          containers:
            - name: main
              image: example.com/dynamo/vllm-runtime:axk2-v0.23.0
              command:
"""
WORKER = (
    COMPONENT
    + """\
                - /bin/bash
                - -lc
              args:
                - |
"""
)
DYNAMO = "kind: DynamoGraphDeployment\nspec:\n  components:\n" + COMPONENT.format(name="Frontend")
DYNAMO += """\
                - python3
                - -m
                - dynamo.frontend
                - --router-mode
                - kv
"""
DYNAMO += (
    WORKER.format(name="VllmPrefillWorker")
    + """\
                  set -Eeuo pipefail
                  exec python3 -m dynamo.vllm \\
                    --model skt/A.X-K2-NVFP4 \\
                    --tensor-parallel-size 4 \\
                    --max-num-seqs 16 \\
                    --disaggregation-mode prefill
"""
)
DYNAMO += (
    WORKER.format(name="VllmDecodeWorker")
    + """\
                  exec python3 -m dynamo.vllm \\
                    --model skt/A.X-K2-NVFP4 \\
                    --tensor-parallel-size 4 \\
                    --enable-expert-parallel \\
                    --max-num-seqs 64 \\
                    --kv-cache-dtype fp8 \\
                    --block-size 64 \\
                    --disaggregation-mode decode
"""
)


def test_of_several_servers_of_a_manifest_it_is_the_one_that_decodes():
    """A router in an engine's image is none of them."""
    got = read(DYNAMO)
    assert (got.model, got.tp, got.ep) == ("skt/A.X-K2-NVFP4", 4, 4)
    assert (got.batch, got.bytes_kv, got.kv_block) == (64, 1, 64)
    assert any("starts 2 servers; this is the first of them that decodes" in x for x in got.notes)


# The same repository, recipes/deepseek-v32-fp4/trtllm/agg-round-robin/deploy.yaml, cut
MOUNTED = """\
kind: DynamoGraphDeployment
spec:
  services:
    Frontend:
      extraPodSpec:
        mainContainer:
          command:
            - python3
          args:
            - -m
            - dynamo.frontend
          image: nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime:1.0.1
    agg:
      extraPodSpec:
        mainContainer:
          args:
            - --model-path
            - nvidia/DeepSeek-V3.2-NVFP4
            - --extra-engine-args
            - /config/aggregated.yaml
          command:
            - python3
            - -m
            - dynamo.trtllm
          image: nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime:1.0.1
---
kind: ConfigMap
data:
  aggregated.yaml: |
    max_num_tokens: 8192
    enable_attention_dp: true
    kv_cache_config:
      dtype: fp8
      free_gpu_memory_fraction: 0.9
      tokens_per_block: 64
    max_batch_size: 8
    moe_expert_parallel_size: 8
    tensor_parallel_size: 8
"""


def test_settings_that_a_manifest_mounts():
    got = read(MOUNTED)
    assert (got.engine, got.model) == ("trtllm", "nvidia/DeepSeek-V3.2-NVFP4")
    assert (got.tp, got.dp, got.ep, got.batch) == (1, 8, 8, 8)
    assert (got.free_fraction, got.bytes_kv, got.kv_block) == (0.9, 1, 64)


def test_settings_that_a_container_mounts():
    """NVIDIA's Nemotron 3 Super: written here, read under another folder there."""
    got = read(
        "cat > ./extra.yml <<EOF\nkv_cache_config:\n   mamba_ssm_cache_dtype: float16\n"
        "speculative_config:\n  decoding_type: MTP\n  num_nextn_predict_layers: 3\nEOF\n"
        'docker run --gpus all -it --rm -v "$(pwd)/extra.yml:/workspace/extra.yml:ro" \\\n'
        "  nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc12 \\\n  trtllm-serve org/m --tp_size 2 \\\n"
        "  --extra_llm_api_options /workspace/extra.yml --max_batch_size 8"
    )
    assert (got.tp, got.batch, got.bytes_state) == (2, 8, 2)
    assert (got.drafts, got.drafter) == (3, "mtp")


def test_what_a_branch_puts_into_an_empty_list_is_left_out():
    """InferenceX's scripts begin with empty lists, and print the command before they start it."""
    got = read(
        'EP_ARGS=()\nif [ "$EP_SIZE" -gt 1 ]; then\n  EP_ARGS=(--enable-expert-parallel)\nfi\n'
        'CMD=(\n  vllm serve org/m -tp 8\n  "${EP_ARGS[@]}"\n)\n'
        'printf "%q " "${CMD[@]}" | tee cmd.txt\n"${CMD[@]}" > log 2>&1 &\n'
    )
    assert (got.tp, got.ep) == (8, 1)
    assert "left out, because the script adds it under a condition: --enable-expert-parallel" in (
        got.notes
    )
    assert not any("servers" in note for note in got.notes)


def test_keywords_that_take_tables_keep_them():
    """What a keyword of Ray's says as a table is JSON to the engine; a variable stays unknown."""
    got = read(
        "LLMConfig(model_loading_config={'model_id': 'org/m'}, engine_kwargs={\n"
        "    'tensor_parallel_size': args.tp, 'enable_expert_parallel': True,\n"
        "    'speculative_config': {'method': 'mtp', 'num_speculative_tokens': 3}})"
    )
    assert (got.drafts, got.drafter, got.tp) == (3, "mtp", 1)
    assert any("--tensor-parallel-size $tp" in note for note in got.notes)
    got = read(
        "from tensorrt_llm import LLM\nLLM(model='org/m', tensor_parallel_size=8,\n"
        "    kv_cache_config=KvCacheConfig(free_gpu_memory_fraction=0.8, dtype='fp8'))"
    )
    assert (got.free_fraction, got.bytes_kv) == (0.8, 1)


@pytest.mark.parametrize(
    "line",
    [
        "sglang serve --model-path org/m --tp $TP --ep-size 8",
        "sglang serve --model-path org/m --dp 8 --enable-dp-attention",
        "trtllm-serve org/m --tp_size $TP --ep_size 8",
    ],
)
def test_degrees_of_a_split_that_is_not_known(line):
    with pytest.raises(ValueError, match="not given, or a variable"):
        read(line)


def test_a_script_that_ends_within_a_list():
    """Cut off, and with a byte that no text has."""
    text = "ARGS=(-tp 4)\nif [ $A ]; then\n  ARGS=(\x00"
    assert read(f"{text}\n)\nfi\nvllm serve org/m").model == "org/m"
    with pytest.raises(ValueError, match="is no engine"):
        read(text)


RECIPE = """
model:
  model_id: "MiniMaxAI/MiniMax-M2.5"
  docker_image: "vllm/vllm-openai:v0.20.2"
  base_args:
    - "--compilation-config"
    - '{"mode":3,"pass_config":{"fuse_minimax_qk_norm":true}}'
    - "--kv-cache-dtype"
    - "fp8"
  base_env: {}
variants:
  nvfp4:
    model_id: "nvidia/MiniMax-M2.5-NVFP4"
    extra_args: ["--max-num-seqs", "4"]
"""


@pytest.mark.parametrize("inline", [False, True])
def test_a_recipe_of_vllm_is_its_base_command(inline):
    listed = RECIPE[RECIPE.index("\n    - ") : RECIPE.index("  base_env")]
    text = RECIPE.replace(listed, ' ["--kv-cache-dtype", "fp8"]\n') if inline else RECIPE
    got = read(text)
    assert (got.engine, got.model) == ("vllm", "MiniMaxAI/MiniMax-M2.5")
    assert (got.bytes_kv, got.batch, got.gpus) == (1, None, 1)
    assert any("features, variants" in note for note in got.notes)
