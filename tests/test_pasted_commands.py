"""Commands as they stand in scripts, manifests, units and Python: one command, many coats."""

import json
import time

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
    "quotation marks with a dollar": LINE
    + """ --speculative-config $'{"method": "ngram",\n "num_speculative_tokens": 3}'""",
    "prose around it": f"I can't start this:\n\n```bash\n{LINE}\n```\nIt stops.\n",
    "supervisord": f"[program:v]\ncommand={LINE}\nautostart=true\n",
    "a release of several points": "VERSION=0.11.0\n"
    "docker run vllm/vllm-openai:v$VERSION " + LINE[11:],
    # https://github.com/LMCache/LMCache, operator/config/samples
    "remarks that name commands": '# Arguments alone (ENTRYPOINT ["vllm", "serve"]) reach\n'
    "# `vllm serve`.\n" + POD + f"    args: {ARGUMENTS}\n",
    "another program of its image": "docker run -d --entrypoint python3 lmcache/vllm-openai:1 -m "
    "lmcache.v1.http_server --port 5\ndocker run -d lmcache/vllm-openai:1 " + LINE[11:],
    # https://github.com/kserve/kserve, docs/samples
    "a runtime of KServe and its service": "kind: ServingRuntime\nspec:\n  containers:\n  - args:\n"
    "    - --model=/mnt/models\n    command: [python, -m, vllm.entrypoints.openai.api_server]\n"
    "    image: quay.io/modh/vllm\n  - args: [--max-model-len=1]\n"
    "    image: a/proxy\n---\nkind: InferenceService\nspec:\n  predictor:\n    model:\n"
    "      args:\n      - -tp=4\n      - --max-model-len=8192\n      storageUri: hf://org/m\n",
    "compose, a text": IMAGE + "    command: --model org/m --tensor-parallel-size 4 "
    "--max-model-len 8192\n",
    "compose, a text in quotation marks": IMAGE
    + """    command: "--model org/m -tp 4 --max-model-len=8192 --served-model-name 'a b'"\n""",
    "comments behind the words of a list": "A=(\n  -tp 4 # it's of a node\n  --max-model-len 8192\n"
    ')\nvllm serve org/m "${A[@]}" # the server',
    "compose, a list": IMAGE
    + "    command:\n      - --model\n      - org/m\n      - --tensor-parallel-size=4\n"
    '      - "--max-model-len"\n      - "8192"\n',
    "compose, folded": IMAGE
    + "    command: >-\n      --model org/m\n      --tensor-parallel-size 4\n"
    "      --max-model-len 8192\n",
    "compose, a text in quotation marks over lines": IMAGE
    + '    command: "--model org/m\n      -tp 4\n      --max-model-len 8192"\n    ports: ["1:2"]\n',
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
    "a task of Amazon ECS": json.dumps(
        {
            "containerDefinitions": [
                {
                    "name": "v",
                    "image": "vllm/vllm-openai:v0.11",
                    "command": [*ARGUMENTS[:2], "$TP", *ARGUMENTS[3:]],
                    "environment": [{"name": "TP", "value": "4"}],
                }
            ]
        }
    ),
    # https://github.com/microsoft/vscode, launch.json: a program and its arguments, null for none
    "a launch in JSON": json.dumps(
        {"configurations": [{"command": None, "program": "/a/vllm", "args": ["serve", *ARGUMENTS]}]}
    ),
    "a shell's lines in JSON": json.dumps(
        {"image": "vllm/vllm-openai", "command": "export TP=4\n" + LINE.replace("4", "$TP")}
    ),
    "arguments before the command": POD
    + "    args:\n    - org/m\n    - -tp\n    - '4'\n    - --max-model-len\n    - '8192'\n"
    "    command:\n    - vllm\n    - serve\n",
    "an argument of a container file": "FROM vllm/vllm-openai:v0.10\nARG m=org/m\nARG gpus=4\n"
    "ENV m=$m TP=$gpus\nCMD vllm serve $m -tp $TP --max-model-len 8192\n",
    "a container of NixOS": "{ lib, ... }: {\n  virtualisation.oci-containers.containers.v = {\n"
    '    image = "vllm/vllm-openai:latest";\n    cmd = [\n      "--model=org/m"\n'
    '      # "--max-model-len=1"\n      "-tp" "4"\n      "--max-model-len=8192" ];\n'
    '    extraOptions = [ "--ipc=host" ];\n  };\n}\n',
    "just": "m := 'org/m'\ntp := \"4\"\n\nserve:\n    vllm serve {{m}} -tp {{ tp }} \\\n"
    "      --max-model-len 8192\n",
    # https://learn.microsoft.com, managed online endpoints
    "Azure ML": "environment_variables:\n  MODEL_NAME: org/m\n"
    '  VLLM_ARGS: "-tp 4 --max-model-len 8192"\nenvironment:\n  image: a.azurecr.io/vllm:1\n',
    "a container before a program": "docker run --gpus all vllm/vllm-openai:latest org/m -tp 4 \\\n"
    "  --max-model-len 8192\n\nvllm serve org/n -tp 8\n",
    "a program in an open container": "docker run -it --gpus all vllm/vllm-openai:latest bash\n"
    f"{LINE}\n",
    "a shell's arguments": POD + f'    command: ["/bin/sh", "-c"]\n    args: ["{LINE}"]\n',
    "sbatch": f"sbatch -p gpu --gres=gpu:h100:4 --wrap='{LINE}'",
    "Slurm's variables": "#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --gres=gpu:h100:4 # of a node\n"
    + LINE.replace("4", "$SLURM_GPUS_ON_NODE"),
    "defaults of Jinja": "[Service]\nExecStart=/opt/vllm/bin/vllm serve {{ m | default('org/m') }} "
    "-tp {{ v.tp | default(4, true) | int }} --max-model-len {{ len | default(8192) }}\n",
    "defaults of Helm": POD + '    args: ["{{ .Values.m | default \\"org/m\\" }}", -tp, '
    '"{{ default 4 .Values.tp }}",\n      --max-model-len, '
    '"{{ .Values.len | default 8192 | quote }}"]\n',
    "variables of Terraform": 'variable "tp" {\n  type = number\n  default = 4\n}\nlocals {\n'
    '  model = "org/m" # ours\n}\nresource "docker_container" "v" {\n'
    '  image   = "vllm/vllm-openai"\n  command = ["--model", local.model, "-tp",\n'
    '    tostring(var.tp), "--max-model-len=8192", "--seed=${var.tp}"]\n}\n',
    "variables of dstack": "type: service\nenv:\n  TOKEN:\n  M: org/m\n  TP: 4\ncommands:\n"
    "- uv pip install vllm\n- |\n  vllm serve $M \\\n    -tp $TP --max-model-len 8192\n",
    "a template of RunPod": json.dumps(
        {"imageName": "vllm/vllm-openai:v0.11", "dockerArgs": LINE[11:], "env": {"A": "b"}}
    ),
    "Ray's models from a bucket": "applications:\n- args:\n    llm_configs:\n"
    "    - model_loading_config:\n        model_id: a\n        model_source: {bucket_uri: org/m}\n"
    "      engine_kwargs: {tensor_parallel_size: 4, max_model_len: 8192}\n",
    "AWS's options with JSON": "option.model_id=org/m\noption.tensor_parallel_degree=4\n"
    'option.max_model_len=8192\noption.speculative_config={"method": "mtp", "a": 2}\n',
    "an alias of YAML": "x-args: &args [org/m, --tensor-parallel-size=4, --max-model-len=8192]\n"
    + IMAGE
    + "    command: *args\n",
    "a mapping of YAML that is merged": "x-base: &base\n  image: vllm/vllm-openai:v0.11\n"
    "  command: --model org/n -tp 2\nservices:\n  v:\n    <<: *base\n"
    "    command: >\n      --model org/m -tp 4\n      --max-model-len 8192\n",
    "variables of YAML that are merged": "x-env: &env {TP: 4, M: org/m}\n"
    + IMAGE
    + "    environment:\n      <<: *env\n    entrypoint: [/bin/sh, -c]\n"
    "    command: ['vllm serve $$M -tp $${TP} --max-model-len 8192']\n",
    "an arm of a script's default": 'K=${1:-small}\ncase "$K" in\n  large|big) M=org/n; TP=8 ;;\n'
    '  "tiny" | s*)\n    M=org/m\n    if [ -n "$A" ]; then echo; fi\n    TP=4;;\n'
    "  *) M=org/o TP=1\n  ;;\nesac\nvllm serve $M -tp $TP --max-model-len 8192\n",
    "a patch of Kustomize": "kind: Kustomization\npatches:\n- target: {kind: Deployment}\n"
    "  patch: |-\n    - op: replace\n      path: /spec/template/spec/containers/0/args\n"
    "      value:\n      - --model=org/m\n      - --tensor-parallel-size=4\n    - op: add\n"
    "      path: /spec/template/spec/containers/0/args/-\n      value: --max-model-len=8192\n",
    # https://github.com/llm-d-incubation/llm-d-modelservice, templates/_helpers.tpl
    "variables of llm-d's chart": "decode:\n  parallelism:\n    tensor: 4\n    data: 1\n"
    "  containers:\n  - image: ghcr.io/llm-d/llm-d-cuda:v0.4\n    modelCommand: custom\n"
    "    command: [sh, -c]\n    args:\n    - |\n"
    f"      exec {LINE.replace('4', '$TP_SIZE')} -dp $DP_SIZE\n",
    "a text of Python with its defaults": "import os, subprocess\n"
    "tp = int(os.environ.get('TP', 4))\nmodel = os.getenv('M', 'org/m')\n"
    "subprocess.run(f'vllm serve {model} -tp {tp} --max-model-len {8 * 1024}', shell=True)\n",
    "GPUs that a script counts": "#SBATCH -N 2\n#SBATCH --gpus-per-node=4\n"
    "N=$(nvidia-smi --list-gpus | wc -l)\n" + LINE.replace("4", "${N}"),
    "a batch file": "@echo off\nset TP=4\nset MODEL=org/m\ndocker run --gpus all ^\n  "
    "vllm/vllm-openai:latest ^\n  --model %MODEL% ^\n  -tp %TP% --max-model-len 8192\n",
    "make, which reads its variables first": "serve:\n\tvllm serve $(MODEL) -tp $(TP) \\\n"
    "\t\t--max-model-len 8192\n\nMODEL ?= org/m\nTP = 4 # GPUs\n",
    "a workflow of GitHub": "on: push\njobs:\n  a:\n    env:\n      MODEL: org/m\n    steps:\n"
    "      - uses: b/c@v4\n      - name: d\n        run: |\n          docker run -d \\\n"
    "            vllm/vllm-openai:latest --model ${{ env.MODEL }} \\\n            -tp 4 "
    "--max-model-len 8192\n",
    "several variables of a container file": "FROM vllm/vllm-openai:v0.10\nENV MODEL=org/m \\\n"
    '    TP=4 A="b c"\nENTRYPOINT vllm serve $MODEL -tp $TP --max-model-len 8192\n',
    "a model that KServe stores": "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
    "spec:\n  predictor:\n    model:\n      modelFormat:\n        name: vLLM\n      storageUri: "
    "hf://org/m\n      args:\n        - --tensor-parallel-size=4\n        - --max-model-len=8192\n",
    "values that are handed to helm": "helm install v vllm/vllm-stack -f - <<EOF\n"
    "servingEngineSpec:\n  modelSpec:\n  - name: a\n    repository: vllm/vllm-openai\n"
    "    modelURL: org/m\n    vllmConfig:\n      tensorParallelSize: 4\n      maxModelLen: 8192\n"
    "      extraArgs: ['--disable-log-requests']\nEOF\n",
    "code in a text": f"1. Run `{LINE}` on a node.\n2. `curl localhost:8000`\n",
    "code in a table": f"| model | command |\n|---|---|\n| m | `{LINE}` |\n",
    "cloud-init": "runcmd:\n  - docker run -d --gpus all vllm/vllm-openai:latest --model org/m "
    "-tp 4 --max-model-len 8192\n",
    "user data of Terraform": 'resource "aws_instance" "v" {\n  user_data = <<-EOF\n    #!/bin/sh\n'
    "    docker run --gpus all vllm/vllm-openai:latest --model org/m -tp 4 --max-model-len 8192\n"
    "  EOF\n}\n",
    "Azure": "az containerapp create --name v --image vllm/vllm-openai --args --model org/m -tp 4 "
    "--max-model-len 8192",
    "tmux": f'tmux new-session -d -s v "{LINE}"',
    "nohup": f"nohup {LINE} > log 2>&1 &",
    "singularity": "singularity run --nv docker://vllm/vllm-openai:latest --model org/m -tp 4 "
    "--max-model-len 8192",
    "a comment between": LINE.replace(" --max", " \\\n  # --max-num-seqs 12 \\\n --max"),
    "a script that is written": f"cat > run.sh <<'EOF'\n#!/bin/bash\n{LINE}\nEOF\nbash run.sh",
    "a unit": "[Service]\nType=simple\nExecStart=/opt/env/bin/" + LINE + "\nRestart=always\n",
    "a unit of a container": "[Unit]\nDescription=Our vllm\n[Service]\nEnvironment=MODEL=org/m "
    "\"TP=4\"\nEnvironment=A='b c'\nExecStartPre=-/usr/bin/docker pull vllm/vllm-openai:latest\n"
    "ExecStart=/usr/bin/docker run --rm \\\n    vllm/vllm-openai:latest \\\n    --model ${MODEL} "
    "-tp ${TP} --max-model-len 8192\nExecStop=/usr/bin/docker stop vllm\n",
    "Cloud Run": "gcloud run deploy v \\\n  --image=vllm/vllm-openai:latest \\\n  --gpu=4 \\ # a\n"
    '  --args="--model=org/m,-tp,4,--max-model-len=8192" \\\n  --port=8000\n',
    "Cloud Run with a comma of its own": "gcloud run deploy v --image a.dev/vllm-openai --command="
    'vllm,serve --args "^;^org/m;-tp=4;--max-model-len;8192" --region x',
    "kubectl run": f"kubectl run v --image=vllm/vllm-openai --port=80 -- --model {LINE[11:]}",
    "oc run": f"oc run v --image=vllm/vllm-openai -- --model {LINE[11:]}",
    "Run:ai": f"runai inference submit v -i vllm/vllm-openai -g 4 -- --model {LINE[11:]}",
    "Vertex AI": "gcloud ai models upload --container-image-uri=a.dev/x/pytorch-vllm-serve:1 "
    "--container-command=python,-m,vllm.entrypoints.api_server "
    '--container-args="--model=org/m,--tensor-parallel-size=4,--max-model-len=8192"',
    "an entry point that is told": f"docker run --entrypoint vllm vllm/vllm-openai {LINE[5:]}",
    "a shell of its own in a folder": f"(cd /x && {LINE}) 2>&1 | tee log",
    "Vast.ai": "vastai create instance 12 --image vllm/vllm-openai:latest --disk 40 --args --model "
    "org/m -tp 4 --max-model-len 8192",
    "a unit that is written": "cat > /etc/systemd/system/v.service << 'UNIT'\n[Service]\nExecStart="
    "/opt/bin/vllm serve org/m \\\n    -tp 4 \\\n    --max-model-len 8192\nRestart=always\nUNIT\n"
    "systemctl daemon-reload",
    "a list in Python": "cmd = ['vllm', 'serve', 'org/m', '-tp', str(4),"
    " '--max-model-len', '8192']",
    # Modal's example of vLLM, https://modal.com/docs/examples/vllm_inference
    "a list in Python that is added to": "MODEL = 'org/m'\nN: int = 4\nFAST_BOOT = False \n"
    "def serve():\n    cmd = ['vllm', 'serve', MODEL, '--port', str(8000),\n"
    "        '--enforce-eager' if FAST_BOOT else '--no-enforce-eager']\n"
    "    cmd += ['--tensor-parallel-size', f'{N}']\n    if N > 2:\n"
    "        cmd.extend(['--max-model-len', '8192'])\n    else:\n"
    "        cmd.append('--max-num-seqs=1')\n    subprocess.Popen(cmd)",
    # sagemaker-entrypoint.sh of https://github.com/vllm-project/vllm
    "variables of SageMaker": "env = {\n    'SM_VLLM_MODEL': \"org/m\",\n"
    "    'SM_VLLM_TENSOR_PARALLEL_SIZE': str(4),\n    'SM_VLLM_MAX_MODEL_LEN': '8192'\n}",
    "variables of SageMaker on one line": "docker run -e SM_VLLM_MODEL=org/m -e "
    "SM_VLLM_MAX_MODEL_LEN=8192 --env SM_VLLM_TENSOR_PARALLEL_SIZE=4 ecr.aws/vllm",
    "variables of SageMaker's container": "docker run --gpus all \\\n  -e "
    "SM_SGLANG_MODEL_PATH=org/m -e SM_SGLANG_TP=4 \\\n"
    "  -e SM_SGLANG_CONTEXT_LENGTH=8192 \\\n  ecr.aws/sglang:0.5",
    # What the engines log of their flags; SGLang names all that it has.
    "vLLM's log": "(APIServer pid=1) INFO 04-19 [utils.py:233] vLLM API server\n"
    "(APIServer pid=1) INFO [api_server.py:1] non-default args: "
    "{'model_tag': 'org/m', 'model': 'org/m', 'dtype': 'bfloat16', 'max_model_len': 8192, "
    "'served_model_name': ['x', 'y'], 'enable_prefix_caching': False, 'max_num_seqs': None, "
    "'compilation_config': {'mode': <CompilationMode.VLLM_COMPILE: 3>, 'debug': None}, "
    "'lora_modules': [LoRAModulePath(name='a', path='b')], 'tensor_parallel_size': 4}\n",
    "SGLang's log": "[2026-02-26 05:19:58] server_args=ServerArgs(model_path='org/m', "
    "tokenizer_path='org/m', trust_remote_code=False, context_length=8192, host='127.0.0.1', "
    "quantization=None, kv_cache_dtype='auto', max_running_requests=None, tp_size=4, pp_size=1, "
    "dp_size=1, ep_size=1, page_size=1, some_field_of_later=7, moe_a2a_backend='none', "
    "enable_dp_attention=False)\n[2026-02-26 05:19:59 TP0] Load weight begin.\n",
    "apptainer": "apptainer instance run --nv --bind /models:/data /images/vllm-openai_v0.8.3.sif "
    "mine --model org/m --max-model-len 8192 -tp 4",
    "a cell of a notebook": f"%%bash --bg\n{LINE}",
    "a notebook": json.dumps({"cells": [{"cell_type": "code", "source": [f"!{LINE}\n", "x = 1"]}]}),
    "a line of a notebook": f"import os\n!{LINE} &",
    # https://dstack.ai/docs, vLLM
    "dstack": "type: service\nenv:\n  - MODEL=org/m\ncommands:\n  - |\n    vllm serve $MODEL \\\n"
    "      -tp $DSTACK_GPUS_NUM --max-model-len 8192\nresources:\n  gpu: H100:80GB:4\n",
    # SkyPilot's serve.yaml
    "SkyPilot": "resources:\n  accelerators: {H100:4, A100-80GB:4}\nnum_nodes: 1\n"
    "envs:\n  MODEL_NAME: org/m\nrun: |\n  conda activate vllm\n"
    "  vllm serve $MODEL_NAME -tp $SKYPILOT_NUM_GPUS_PER_NODE --max-model-len 8192 \\\n"
    "    -pp $SKYPILOT_NUM_NODES 2>&1 | tee log\n",
    # https://docs.djl.ai/master/docs/serving/serving/docs/lmi
    "AWS's options": "engine=Python\noption.model_id=org/m\noption.rolling_batch=vllm\n"
    "option.tensor_parallel_degree=4\noption.max_model_len=8192\noption.entryPoint=x\n",
    "AWS's container": "docker run -e HF_MODEL_ID=org/m -e OPTION_TENSOR_PARALLEL_DEGREE=4 -e "
    "OPTION_MAX_MODEL_LEN=8192 ecr.aws/djl-inference:lmi",
    "AWS's variables": 'env = {\n  "HF_MODEL_ID": "org/m",\n  "OPTION_ROLLING_BATCH": "vllm",\n'
    '  "OPTION_TENSOR_PARALLEL_DEGREE": "4",\n  "OPTION_MAX_MODEL_LEN": "8192"\n}\n',
    "RunPod's worker": "docker run -e MODEL_NAME=org/m -e TENSOR_PARALLEL_SIZE=4 \\\n"
    "  -e MAX_MODEL_LEN=8192 runpod/worker-v1-vllm:v2.11.3",
    "TRL": "trl vllm-serve --model org/m --tensor-parallel-size 4 --max-model-len 8192",
    "fish": "set -gx TP 4\nset MODEL org/m\nvllm serve $MODEL -tp $TP --max-model-len 8192",
    "PowerShell": '$MODEL = "org/m"\ndocker run --gpus all `\n  vllm/vllm-openai:latest `\n'
    "  --model $MODEL `\n  -tp 4 `\n  --max-model-len 8192\n",
    "Nomad": 'job "v" {\n  task "v" {\n    config {\n      image = "vllm/vllm-openai:v0.11.0"\n'
    '      args = [\n        "--model", "org/m", "--tensor-parallel-size", "4",\n'
    '        "--max-model-len=8192",\n      ]\n    }\n  }\n}\n',
    "Terraform": 'resource "kubernetes_deployment" "v" {\n  spec {\n    container {\n'
    '      image   = "vllm/vllm-openai:latest"\n'
    '      command = ["python3", "-m", "vllm.entrypoints.openai.api_server"]\n'
    '      args = ["--model", "org/m", "-tp", "4", "--max-model-len", "8192"]\n    }\n  }\n}\n',
    "Podman's unit": "[Unit]\nDescription=v\n[Container]\nImage=docker.io/vllm/vllm-openai:latest\n"
    "Exec=--model org/m -tp 4 \\\n  --max-model-len 8192\n[Install]\nWantedBy=default.target\n",
    # A unit that is restarted has a [Service] too: nothing of it was read, without a word.
    "Podman's unit that is restarted": "[Container]\nImage=docker.io/vllm/vllm-openai:latest\n"
    "Exec=--model org/m -tp 4 --max-model-len 8192\n[Service]\nRestart=always\n",
    "llama-swap": "models:\n  m:\n    proxy: http://127.0.0.1:9503\n    cmd: |\n"
    "      docker run --rm --gpus all\n        -p 9503:8000\n        vllm/vllm-openai:v0.10.0\n"
    "        --model org/m -tp 4\n        --max-model-len 8192\n",
    "GPUStack": "source: huggingface\nhuggingface_repo_id: org/m\nbackend: vllm\n"
    "backend_parameters:\n  - --tensor-parallel-size=4\n  - --max-model-len=8192\n",
    "KubeAI": "apiVersion: kubeai.org/v1\nkind: Model\nspec:\n  url: hf://org/m\n  engine: VLLM\n"
    "  args:\n    - --max-model-len=8192\n    - --tensor-parallel-size=4\n",
    "a chart": "modelName: org/m\nimage:\n  tag: v0.7.3\nextraArgs:\n"
    '  - "--max-model-len"\n  - "8192"\n  # as many as there are\n'
    '  - --compilation-config={"level": 3, "sizes": [1, 2]}\n  - "--tensor-parallel-size 4"\n'
    "sidecar:\n  - --max-num-seqs=7\n",
    # https://github.com/llm-d-incubation/llm-d-modelservice, examples/values-cpu.yaml and others
    "llm-d's chart": "modelArtifacts:\n  uri: 'hf://org/m'\ndecode:\n  parallelism:\n"
    "    tensor: 4\n  containers:\n  - name: vllm\n    image: ghcr.io/llm-d/llm-d:v0.2.0\n"
    "    modelCommand: vllmServe\n    args:\n      - '--max-model-len'\n      - '8192'\n"
    "    mountModelVolume: true\nprefill:\n  create: false\n",
    "a variable on one line": POD
    + "    env:\n    - {name: TP, value: '4'}\n    args: ['--model=org/m',"
    " '--tensor-parallel-size=$(TP)', '--max-model-len=8192']\n",
    "a chart's list": "model:\n  name: org/m\nvllm:\n"
    '  extraArgs: ["--max-model-len", "8192", "-tp", "4"]\n',
    # vLLM 0.33, tests/evals, with arguments of a client beside them; vLLM Ascend, tests/e2e
    "arguments of a server": "model_name: org/m\nbench_args: --port 80 --seed 1\n"
    'server_args: "--enforce-eager --max-model-len 8192 --tensor-parallel-size 4"\n',
    "a server's command in a list of cases": "test_cases:\n  - name: one\n    model: org/m\n"
    '    server_cmd:\n      - "--port"\n      - "$PORT"\n      - "--tensor-parallel-size"\n'
    '      - "4"\n      - "--max-model-len"\n      - "8192"\n    benchmarks: {}\n',
    "a server's command behind an anchor": "_cmd: &cmd\n  - --tensor-parallel-size\n  - '4'\n"
    "  - --max-model-len\n  - '8192'\ntest_cases:\n  - model: org/m\n    server_cmd: *cmd\n"
    "    server_cmd_extra:\n      - --async-scheduling\n",
    # vLLM Ascend 0.23, tests/e2e: both lists have flags that are read; several cases; a path
    "a server's command in two lists of a case": "_cmd: &cmd\n  - --api_server_count\n  - '1'\n"
    "  - --max-model-len\n  - '8192'\ntest_cases:\n  - name: one\n    model: org/m\n"
    "    server_cmd: *cmd\n    server_cmd_extra: [--tensor-parallel-size, '4']\n"
    "  - name: two\n    model: org/m\n    server_cmd: *cmd\n"
    "    server_cmd_extra: [--tensor-parallel-size, '8']\n",
    "keys of a test below its model": "model_name: org/m\nserve:\n  tensor_parallel_size: 4\n"
    "  max_model_len: 8192\ntasks:\n- name: gsm8k\n",
    # vLLM 0.33, .buildkite/performance-benchmarks/tests: there was a tab in it
    "a test in JSON": '{"defaults": {"server_parameters": {\n\t"model": "org/m",\n'
    '"tensor_parallel_size": 4, "max_model_len": 8192}}, "tests": [{"test_name": "a"}]}\n',
    # vLLM 0.33, tests/evals: its JSON was cut at the ends of lines, and the rest lost
    "JSON in a folded text": "model_name: org/m\nserver_args: >-\n  --max-model-len 8192\n"
    '  --speculative-config \'{"method":"mtp",\n  "num_speculative_tokens":2}\'\n'
    "  --tensor-parallel-size 4\n",
    # https://github.com/eugr/spark-vllm-docker, recipes
    "a recipe with its defaults": "name: M\nmodel: org/m\ndefaults:\n  tensor_parallel: 4\n"
    "  max_model_len: 8192\ncommand: |\n  vllm serve org/m \\\n    -tp {tensor_parallel} \\\n"
    "    --max-model-len {max_model_len} --override-generation-config '{{\"a\": 1}}'\n",
    # vLLM 0.33, examples/rl and tests: a condition was the value of its flag
    "options of a script in Python": "parser.add_argument('-m', '--model', default='org/m')\n"
    "parser.add_argument('--tp-size', type=int, help='GPUs (4)', default=4)\n"
    "args = parser.parse_args()\nllm = LLM(args.model, tensor_parallel_size=args.tp_size,\n"
    "    max_model_len=int(os.environ.get('LEN', '8192')),\n"
    "    quantization='ascend' if 'W8A8' in args.model else None)\n",
    # Names in braces: of Ansible, in a list without a leading line; of a Taskfile; of workflows
    "variables of Ansible": "- hosts: gpu\n  vars:\n    model: org/m\n    tp: 4\n  tasks:\n"
    "    - name: run\n      community.docker.docker_container:\n        name: v\n"
    "        image: vllm/vllm-openai:latest\n        command: >-\n          --model {{ model }}\n"
    "          --tensor-parallel-size {{ tp }} --max-model-len 8192\n",
    "variables of a Taskfile": "version: '3'\nvars:\n  MODEL: org/m\n  TP: 4\ntasks:\n  serve:\n"
    "    cmds:\n      - vllm serve {{.MODEL}} -tp {{.TP}} --max-model-len 8192\n",
    "a matrix of one": "jobs:\n  a:\n    strategy:\n      matrix:\n        tp: [4]\n    steps:\n"
    "      - run: |\n          vllm serve org/m -tp ${{ matrix.tp }} --max-model-len 8192\n",
    "parameters of Argo": "spec:\n  arguments:\n    parameters:\n    - name: tp\n      value: '4'\n"
    "  templates:\n  - container:\n      image: vllm/vllm-openai:v0.12\n"
    "      args: [--model, org/m, -tp, '{{inputs.parameters.tp}}', --max-model-len, '8192']\n",
    "keys in TOML": "[vllm]\nmodel = 'org/m'\ntp = 4\nmax_model_len = 8192\n",
    "items of a list, and how many": "M=(org/m org/n)\nGPUS=(0 1 2 3)\nN=8192\n"
    'vllm serve "${M[0]}" -tp ${#GPUS[@]} --max-model-len ${N:?no length is given}',
    "workers of two roles": "workers:\n- role: prefill\n  model: org/m\n  tensor_parallel_size: 1\n"
    "  max_model_len: 1\n- role: decode\n  model: org/m\n  tensor_parallel_size: 4\n"
    "  max_model_len: 8192\n",
    # LMCache, docs/source
    "reStructuredText": "Serve\n=====\n\nIt's one command:\n\n.. code-block:: bash\n"
    "   :emphasize-lines: 1\n\n   vllm serve org/m \\\n       -tp 4 --max-model-len 8192\n\n"
    "vLLM's server listens.\n",
    "NeMo Evaluator": "deployment:\n  type: vllm\n  hf_model_handle: org/m\n"
    '  tensor_parallel_size: 4\n  port: 8000\n  extra_args: "--max-model-len 8192"\n',
    "extra arguments of what decodes": "prefill:\n  extra-args: >-\n    --max-model-len 1\n"
    "decode:\n  model: org/m\n  extra-args: >-\n    --max-model-len 8192\n    -tp 4\n",
    "a text in Python": f'subprocess.Popen(f"{LINE} --port {{port}}", shell=True)',
    "vLLM in Python": "from vllm import LLM\nTP = 4\nllm = LLM('org/m', tensor_parallel_size=TP,\n"
    "    max_model_len=8192, enforce_eager=False)  # (one node)",
    "arguments in Python": "AsyncEngineArgs(model='org/m', tensor_parallel_size=4,"
    " max_model_len=8192, quantization=None)",
    "a name that Python sets below": "def f():\n    return LLM(NAME, tensor_parallel_size=4,\n"
    "        max_model_len=8192)\n\nNAME = 'org/m'\n",
    "SGLang in Python": "import sglang as sgl\nllm = sgl.Engine(model_path='org/m', tp_size=4,\n"
    "    context_length=8192)",
    "TensorRT-LLM in Python": "from tensorrt_llm import LLM\nllm = LLM(model='org/m',"
    " tensor_parallel_size=4, max_seq_len=8192)",
    # https://github.com/vllm-project/production-stack, values.yaml
    "the production stack": "servingEngineSpec:\n  modelSpec:\n  - name: m\n    modelURL: org/m\n"
    "    vllmConfig:\n      enablePrefixCaching: true\n      maxModelLen: 8192\n"
    '      tensorParallelSize: 4\n      extraArgs: ["--disable-log-requests"]\n'
    "    lmcacheConfig:\n      enabled: true\n",
    # A command as issues quote it, its lines joined: https://github.com/vllm-project/vllm/issues/14232
    "lines that a quotation has joined": "docker run --gpus all \\ -p 80:80 \\ --ipc=host \\ "
    "vllm/vllm-openai:v0.7.3 \\ --tensor-parallel-size 4 \\ --model org/m \\ --max-model-len 8192",
    "a list that is added to": 'A=(-tp 4)\nA+=(--max-model-len 8192)\nvllm serve org/m "${A[@]}"',
    "a script of the engine's": "python3 vllm/entrypoints/openai/api_server.py -tp 4 --model org/m "
    "--max-model-len 8192",
    "a function that takes two words for itself": 'serve() {\n  shift 2\n  vllm serve "$@"\n}\n'
    f"serve a b {LINE[11:]}",
    "a command of its own on the next line": f"{LINE} --chat-template=x\nmytool -tp 8",
    "a list in JSON": json.dumps(["--model", *ARGUMENTS]),
    "arguments in JSON": json.dumps({"image": "vllm/vllm-openai:x", "arguments": ARGUMENTS}),
    "a text in Python that has a name": "cmd = (f'vllm serve {MODEL} '\n    '-tp 4 '\n"
    "    '--max-model-len 8192')\nPopen(cmd, shell=True)".replace("{MODEL}", "org/m"),
    "a list in Python whose program has a name": "command = [str(vllm), 'serve', 'org/m', '-tp', 4,"
    "\n    '--max-model-len', f'{8192:g}']\nif drafts:\n    command.extend(['-dp', '2'])",
    "names of a function in Python": "def one():\n    name, tp = 'a/b', 2\n    tp = 4\n"
    "    name = 'org/m'\n    llm = LLM(name, tensor_parallel_size=tp, max_model_len=8192)\n\n"
    "def two():\n    name = 'c/d'\n    tp = 8\n    llm = LLM(name, tensor_parallel_size=tp)\n",
    "keywords in Python that have a name": "engine_args: dict = {\n    'model': 'org/m',\n"
    "    'tensor_parallel_size': 4,\n}\nllm = LLM(**engine_args, max_model_len=8192)",
    # Scripts of https://github.com/sgl-project/sglang, docs/platforms/ascend
    "expr": "nnodes=2\nTP=`expr 2 \\* ${nnodes}`\n" + LINE.replace("4", "$TP"),
    # CSGHub's entry of vLLM: a flag that is added where it lacks
    "a flag that is added where it lacks": 'A=""\nA="$A --model org/m -tp 4"\n'
    'if [[ ! $A == *"--max-model-len"* ]]; then\n  A="$A --max-model-len 8192"\nfi\n'
    "python3 -m vllm.entrypoints.openai.api_server $A",
    # https://docs.ray.io, Serving LLMs
    "Ray in Python": "LLMConfig(\n    model_loading_config=dict(model_id='mine',"
    " model_source='org/m'),\n    deployment_config=dict(num_replicas=2),\n"
    "    engine_kwargs=dict(\n        tensor_parallel_size=4,\n        max_model_len=8192,\n"
    "        reasoning_parser='deepseek_r1'\n        ### hf_token=os.environ['HF_TOKEN'],\n"
    "    ),\n)",
    # Tests of https://github.com/sgl-project/sglang, and of vLLM
    "SGLang's helper of tests": "class T(U):\n    @classmethod\n    def setUpClass(cls):\n"
    "        cls.model = 'org/m'\n        cls.other_args = ['--tp-size', 4, '--context-length']\n"
    "        cls.other_args += ['8192']\n        cls.process = popen_launch_server(cls.model,\n"
    "            URL, timeout=T, other_args=cls.other_args)\n",
    "SGLang's helper with parts": "class T(U):\n    model = 'org/m'\n    base = ['--tp', '4']\n"
    "    def setUp(self):\n        popen_launch_server(self.model, URL, other_args=self.base +\n"
    "            ['--context-length', '8192'])\n",
    "vLLM's helper of tests": "M = 'org/m'\nARGS = ['--max-model-len', '8192']\ndef f():\n"
    "    args = list(ARGS)\n    args.extend(['-tp', '4'])\n"
    "    with RemoteOpenAIServer(M, args, max_wait_seconds=None) as server:\n        pass\n",
    "SGLang's arguments in Python": "M = 'org/m'\nargs = f'--model {M} --tp-size 4 "
    "--context-length 8192'.split()\nrun_server(prepare_server_args(args))",
    "RunPod in Python": "M = 'org/m'\npod = runpod.create_pod(name='v', gpu_count=4,\n"
    "    image_name='vllm/vllm-openai:v0.6.3',\n"
    "    docker_args=f'--model {M} -tp 4 --max-model-len 8192')",
    "RunPod in Python in prose": "Use `vllm/vllm-openai`, don't build one:\n```python\n"
    "runpod.create_pod(\n    image_name='vllm/vllm-openai:latest',  # or what's there\n"
    "    docker_args=(\n        '--model org/m '\n        '-tp 4 --max-model-len 8192'\n    )\n)\n"
    "```\n",
    "Docker in Python": "client.containers.run('vllm/vllm-openai:latest', detach=True,\n"
    f"    command={['--model', *ARGUMENTS]})",
    "a program that has a name": "vllm_bin = '/opt/bin/vllm'\ndef f(port):\n    cmd = [\n"
    "        vllm_bin, 'serve', 'org/m', '-tp', '4', '--max-model-len', '8192', '--port', port,\n"
    "    ]\n    return Popen(cmd)",
    "a text behind a keyword": f"ensure(backend=B.VLLM, command='{LINE}')",
    "keywords in Python that are added later": "args = {'model': 'org/m'}\n"
    "more = {'max_model_len': 8192}\nargs.update(more)\nargs['tensor_parallel_size'] = 4  # GPUs\n"
    "llm = LLM(**args)",
    "a dict of dicts in Python": "from vllm import LLM\nllm = LLM(**{'model': 'org/m', **more, "
    "**dict(max_model_len=8192)}, tensor_parallel_size=4)",
    "a settings file that Markdown shows": "One file:\n```yaml\n# config.yaml\nmodel: org/m\n"
    "max-model-len: 8192\n```\nand\n```bash\nvllm serve --config config.yaml -tp 4\n```\n",
    "launchd": "<plist version='1.0'><dict>\n<key>EnvironmentVariables</key><dict><key>N</key>"
    "<string>4</string></dict>\n<key>ProgramArguments</key>\n<array>\n"
    + "".join(
        f"  <string>{word}</string>\n"
        for word in ("/opt/bin/vllm", "serve", "org/m", "-tp", "${N}", "--max-model-len=8192")
    )
    + "</array>\n<key>RunAtLoad</key>\n<true/>\n</dict></plist>\n",
    # https://github.com/hiyouga/LLaMA-Factory, examples/inference
    "LLaMA-Factory": "model_name_or_path: org/m\ntemplate: qwen\ninfer_backend: vllm  # of three\n"
    "vllm_maxlen: 8192\nvllm_config:\n  tensor_parallel_size: 4\n",
    "LLaMA-Factory's command": "llamafactory-cli api --model_name_or_path org/m "
    "--infer_backend vllm --vllm_maxlen 8192 --vllm_config.tensor_parallel_size 4 > log",
    # https://docs.baseten.co/engines, both of its schemas
    "Truss": "resources:\n  accelerator: H100:4\ntrt_llm:\n  build:\n    base_model: decoder\n"
    "    checkpoint_repository:\n      repo: org/m\n      source: HF\n    max_input_len: 8000\n"
    "    max_output_len: 192\n    num_builder_gpus: 2\n    tensor_parallel_count: 4\n",
    "Truss of today": "trt_llm:\n  inference_stack: v2\n  build:\n    checkpoint_repository:\n"
    "      repo: org/m\n    quantization_type: no_quant\n  runtime:\n    max_seq_len: 8192\n"
    "    tensor_parallel_size: 4\n    served_model_name: x\n",
    "SGLang for TPUs": "python3 -u -m sgl_jax.launch_server --model-path org/m --tp-size=4 "
    "--device=tpu --context-length 8192",
    "Cerebrium": "[cerebrium.dependencies.pip]\nvllm = '==0.9.1'\n[cerebrium.runtime.custom]\n"
    f"entrypoint = {['vllm', 'serve', *ARGUMENTS]}\nport = 8080\n".replace("'", '"'),
    # Tools that start an engine by arguments of their own
    "another module of the engine": 'docker run vllm/vllm-openai:nightly -c "set -e; python3 -m '
    f'vllm.patches.apply_all ; exec {LINE}"',
    "docker inspect": json.dumps(
        [
            {
                "Config": {
                    "Image": "v",
                    "Entrypoint": ["vllm", "serve"],
                    "Cmd": ["org/m", "-tp=$N", "--max-model-len", "8192"],
                    "Env": ["N=4"],
                }
            }
        ]
    ),
    "RunPod's interface": json.dumps(
        {"imageName": "vllm/vllm-openai:latest", "gpuCount": 4, "dockerStartCmd": ARGUMENTS}
    ),
    "PM2": f"pm2 start vllm --name v -- {LINE[5:]}",
    "a daemon": f"start-stop-daemon --start --exec /opt/bin/vllm --background -- {LINE[5:]}",
    "PM2's file": "module.exports = {\n  apps: [{\n    name: 'v',\n    script: '/opt/bin/vllm',\n"
    f"    args: '{LINE[5:]}',\n    interpreter: 'none'\n  }}]\n}}\n",
    "PM2's file with a list": "module.exports = { apps: [{ script: 'vllm', args: ['serve', 'org/m',"
    " '-tp', '4',\n  '--max-model-len', '8192'] }] }",
    "RunPod": "runpodctl create pod --gpuType 'NVIDIA H100 80GB HBM3' --gpuCount 4 --imageName "
    f"vllm/vllm-openai:latest --args '--model {LINE[11:]}'",
    "RunPod with a command": f"runpodctl create pod --args='{LINE}' --imageName=vllm/vllm-openai",
    "lm_eval": "lm_eval --model vllm --model_args pretrained=org/m,tensor_parallel_size=4,"
    "dtype=auto,max_model_len=8192 --tasks gsm8k --batch_size auto > log",
    "lm_eval with JSON": 'lm-eval --model=vllm --tasks gsm8k --model_args=\'{"pretrained": '
    '"org/m", "tensor_parallel_size": 4, "max_length": 8192}\'',
    "lm_eval of today": "lm-eval run --model sglang --model_args pretrained=org/m tp_size=4 "
    "context_length=8192 --tasks gsm8k",
    "lighteval": "lighteval vllm 'model_name=org/m,tensor_parallel_size=4,max_model_length=8192' "
    "'lighteval|gsm8k|0'",
    # https://github.com/modelscope/ms-swift, examples/infer
    "ms-swift": "CUDA_VISIBLE_DEVICES=0,1,2,3 swift infer --model org/m --infer_backend vllm \\\n"
    " --vllm_tensor_parallel_size 4 --vllm_max_model_len 8192 --stream true --val_dataset a#100\n"
    "echo done",
    "ms-swift with SGLang": "swift deploy --model org/m --sglang_tp_size 4 --infer_backend sglang "
    "--sglang_context_length 8192 --max_new_tokens 2048",
    "Xinference": "xinference launch --model-engine vLLM --model-name org/m --model-format fp8 "
    "--n-gpu 4 --max_model_len 8192 --quantization Int4",
    "FastChat": "python3 -m fastchat.serve.vllm_worker --model-path org/m --num-gpus 4 "
    "--controller http://localhost:21001 --max-model-len 8192",
    "verl": "python3 -m verl.trainer.main_ppo data.train_batch_size=8 actor_rollout_ref.model.path="
    "org/m actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.tensor_model_parallel_size"
    "=4 +actor_rollout_ref.rollout.engine_kwargs.vllm.max_model_len=8192 trainer.nnodes=1",
    "values on helm's line": "helm upgrade -i v vllm/vllm-stack --set "
    "'servingEngineSpec.modelSpec[0].name=m,servingEngineSpec.modelSpec[0].modelURL=org/m' \\\n"
    " --set servingEngineSpec.modelSpec[0].vllmConfig.tensorParallelSize=4 "
    "--set=servingEngineSpec.modelSpec[0].vllmConfig.maxModelLen=8192",
    "a list on helm's line": "helm install v ./chart --set modelName=org/m --set "
    "'extraArgs={--tensor-parallel-size,4,--max-model-len=8192}'",
    "a file of variables": '# of Compose\nMODEL_NAME=org/m\nTENSOR_PARALLEL_SIZE=4\nHF_TOKEN="a"\n'
    "MAX_MODEL_LEN=8192 # tokens\n",
    "a file of variables with the name for clients": "MODEL=org/m\nMODEL_NAME=mine\nTP=4\n"
    "TENSOR_PARALLEL_SIZE=4\nMAX_MODEL_LEN=8192\n",
    "a file of variables that name vLLM": "export VLLM_MODEL=org/m\nVLLM_TENSOR_PARALLEL_SIZE=4\n\n"
    "VLLM_MAX_MODEL_LEN=8192",
    "a ConfigMap": "kind: ConfigMap\nmetadata:\n  name: c\ndata:\n  MODEL: org/m\n  TP: '4'\n---\n"
    "kind: Pod\n" + POD + "    args: [--model=$(MODEL), -tp=$(TP), --max-model-len=8192]\n"
    "    envFrom:\n    - configMapRef:\n        name: c\n",
    "keys of a ConfigMap": "kind: Pod\n" + POD + "    env:\n    - name: TP\n      valueFrom:\n"
    "        configMapKeyRef:\n          name: c\n          key: degree\n    - name: LEN\n"
    "      valueFrom:\n        configMapKeyRef:\n          key: long\n          name: c\n"
    "    args: [--model=org/m, -tp=$(TP), --max-model-len=$(LEN)]\n---\nkind: ConfigMap\n"
    "metadata:\n  name: c\ndata:\n  degree: '4'\n  long: '8192'\n",
    "variables of PowerShell": "$env:TP='4'\ndocker run --gpus all `\n  vllm/vllm-openai:latest `\n"
    "  --model org/m -tp $env:TP --max-model-len 8192\n",
    "a container of AWS's with a degree by its old name": "HF_MODEL_ID=org/m\n"
    "OPTION_ROLLING_BATCH=vllm\nTENSOR_PARALLEL_DEGREE=4\nOPTION_MAX_MODEL_LEN=8192\n",
    "signs of minus": LINE.replace(" --", " \u2212\u2212"),
    "values of a chart whose keys are flags": "vllm:\n  model: org/m\n  image:\n    tag: v0.2\n"
    "  tensorParallelSize: 4\n  maxModelLen: 8192\n",
    "such values below args": "llm:\n  model: hf://org/m\n  args:\n    maxModelLen: '8192'\n"
    "    tensorParallelSize: '4'\n",
    "the operator of the production stack": "kind: VLLMRuntime\nspec:\n  model:\n"
    "    modelURL: org/m\n    maxModelLen: 8192\n  vllmConfig:\n    tensorParallelSize: 4\n",
    "its operator behind another document": "kind: CacheServer\nspec:\n  port: 80\n---\n"
    "kind: VLLMRuntime\nspec:\n  model:\n    modelURL: org/m\n    maxModelLen: 8192\n"
    "  vllmConfig:\n    tensorParallelSize: 4\n    port: 80\n",
    "flags of a file of variables": "VLLM_MODEL=org/m\nVLLM_EXTRA_ARGS=-tp 4 --max-model-len 8192\n"
    "HF_TOKEN=\n",
    "a task of CloudFormation": "Resources:\n  Task:\n    ContainerDefinitions:\n"
    "        - Name: vllm\n          Image: vllm/vllm-openai:latest\n"
    '          Command: [--model, org/m, -tp, "4", --max-model-len=8192]\n',
    "arguments of Beam": "VLLM(gpu='H100', vllm_args=VLLMArgs(model='org/m', "
    "tensor_parallel_size=4, max_model_len=8192))\n",
    "degrees of KServe's workers": "kind: InferenceService\nspec:\n  predictor:\n    model:\n"
    "      modelFormat:\n        name: huggingface\n"
    "      args: [--model_id=org/m, --max-model-len=8192]\n"
    "    workerSpec:\n      tensorParallelSize: 4\n",
    "a chart of llm-d with lists in brackets": "modelArtifacts: {uri: 'hf://org/m'}\ndecode:\n"
    "  parallelism: {tensor: 4}\n  containers:\n  - modelCommand: vllmServe\n"
    '    args: [--max-model-len, "8192"]\nprefill: {parallelism: {tensor: 1}}\n',
    # https://github.com/vllm-project/aibrix, samples/disaggregation
    "the role that decodes of AIBrix": "kind: StormService\nspec:\n  template:\n    spec:\n"
    "      roles:\n"
    + "".join(
        f"      - name: {role}\n        template:\n          spec:\n            containers:\n"
        f"            - name: engine\n              command: [sh, -c]\n              args:\n"
        f"              - |\n                vllm serve org/m -tp {tp} --max-model-len 8192\n"
        for role, tp in (("prefill", 1), ("decode", 4))
    ),
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
    assert "--model-tag" not in " ".join(got.notes)  # the model's other name in vLLM's log


@pytest.mark.parametrize(
    "text",
    [
        "lm_eval --model hf --model_args pretrained=org/m,parallelize=True --tasks gsm8k",
        "swift infer --model org/m --infer_backend lmdeploy --lmdeploy_tp 4",
        "xinference launch --model-engine transformers --model-name org/m --n-gpu 4",
        "HF_TOKEN=a\nMODEL=org/m\n",
        "helm install v vllm/vllm-stack -f values.yaml",
        "helm install v x --set --set= --set a --set a=1 --set a.b=2",
        "helm install v x --set " + ".".join("a" * 2000) + "=1",
        "gcloud run deploy v --image=vllm/vllm-openai:latest",
        "module.exports = { apps: [{ script: 'mine', args: '' }] }",
        "from vllm import LLM, SamplingParams\nllm = make(SamplingParams())\n",
    ],
)
def test_tools_that_start_another_engine_are_none_of_these(text):
    with pytest.raises(ValueError, match=r"not an engine whose flags|sets variables|is Python"):
        read(text)


TRUSS = "trt_llm:\n  build:\n    checkpoint_repository:\n      repo: org/m\n    quantization_type: "


@pytest.mark.parametrize(
    ("text", "weights", "cache"),
    [
        (TRUSS + "no_quant\n", None, None),
        (TRUSS + "fp8\n", "fp8", None),
        (TRUSS + "fp8_kv\n", "fp8", 1),
        (TRUSS + "fp4_kv\n", "fp4", 1),
        (TRUSS + "weights_int4\n", "fp4", None),
        (TRUSS + "weights_kv_int8\n", "fp8", 1),
        (
            "max_batch_size: 4\nmax_seq_len: 8\nquant_config:\n  quant_algo: W4A16_AWQ\n"
            "  kv_cache_quant_algo: FP8\n",
            "fp4",
            1,
        ),
    ],
)
def test_quantisations_of_tensorrt_llm(text, weights, cache):
    got = read(text)
    assert (got.engine, got.weights, got.bytes_kv) == ("trtllm", weights, cache)


def test_lengths_that_are_no_numbers_are_told():
    """Python's own words for it were."""
    text = f"{TRUSS}no_quant\n    max_input_len: abc\n    max_output_len: 8\n"
    with pytest.raises(ValueError, match=r"max_output_len: abc and 8; give two whole numbers"):
        read(text)


def test_what_truss_says_beyond_the_engine():
    got = read(TRUSS + "fp4_mlp_only\n    speculator:\n      num_draft_tokens: 9\n")
    assert "not read: quantization_type: fp4_mlp_only, speculator" in got.notes[-1]
    with pytest.raises(ValueError, match="YAML without the command"):
        read(TRUSS + "fp8\n    base_model: encoder_bert\n")


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("vllm serve org/m \\\n", "x --tensor-paralel-size 2"),
        ("docker run \\\n", "x --tensor-paralel-size 2"),
        ("f(x)\n", "g(x)"),
    ],
)
def test_long_texts_take_no_more_than_their_length(line, end):
    """The words behind each command, and the lines before each call of Python, were looked through:
    20,000 lines took many minutes.
    """

    def seconds(lines):
        taken = []
        for _ in range(3):
            start = time.process_time()
            with pytest.raises(ValueError, match="flags"):
                read(line * lines + end)
            taken.append(time.process_time() - start)
        return min(taken)

    assert seconds(1600) < 24 * seconds(200)  # 8 times; 64, where it grows with the square


@pytest.mark.parametrize("given", ["null", "[1, 2]", "[" * 5000, "=,=", "a"])
def test_arguments_that_are_no_pairs_name_no_model(given):
    assert read(f"lm_eval --model vllm --model_args '{given}' --tasks a").model is None


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}\nc: 1\n",
        "services:\n  a: &a\n    image: vllm/vllm-openai\n    b: *a\n",
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n + 1}: &a{n + 1} {{x: *a{n}, y: *a{n}}}\n" for n in range(40)),
    ],
)
def test_anchors_of_yaml_are_read_once(text):
    with pytest.raises(ValueError, match="YAML without the command of a server"):
        read(text)


def test_keywords_of_another_kind_are_none():
    """A set in place of a table ended in a traceback."""
    with pytest.raises(ValueError, match="not an engine whose flags"):
        read("LLMConfig(model_loading_config={'org/m'}, engine_kwargs=[1])\n")


def test_arguments_of_a_container_whose_quotation_is_open_are_told():
    with pytest.raises(ValueError, match="close every quotation mark"):
        read("runpodctl create pod --imageName vllm/vllm-openai --args '--model \"org/m'")


def test_what_python_leaves_open_is_not_known():
    """vLLM's docs/models/supported_models.md; it was a traceback."""
    got = read("llm = LLM(model='org/m', tensor_parallel_size=..., dtype={1}, max_model_len=8192)")
    assert (got.model, got.tp, got.context) == ("org/m", 1, 8192)
    assert any("no value is known of --tensor-parallel-size" in note for note in got.notes)


def test_a_container_without_a_name_and_flags():
    assert read("apptainer instance run --nv images/vllm-openai_v0.8.3.sif").model is None


def test_a_log_that_is_broken_is_no_command():
    with pytest.raises(ValueError, match="flags:"):
        read("server_args=ServerArgs(model_path='o'org/m', tp_size=4)\n")


@pytest.mark.parametrize(
    "text",
    [
        'bash -c "vllm serve org/m"',
        "SM_VLLM_MODEL=org/m\n",
        POD + '    command: ["/bin/sh", "-c"]\n    args: [\n      "exec vllm serve org/m"\n    ]\n',
        # https://github.com/vllm-project/production-stack, tutorials/assets
        "servingEngineSpec:\n  modelSpec:\n  - name: m\n    modelURL: org/m\n    requestGPU: 1\n",
    ],
)
def test_a_command_without_flags(text):
    """A shell was read as the model, or nothing."""
    assert (read(text).model, read(text).tp) == ("org/m", 1)


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


@pytest.mark.parametrize("module", ["sglang_router.launch_router", "dynamo.mocker"])
def test_a_module_that_serves_no_model_in_an_image_of_an_engine(module):
    """Python's own program was read as the model, on one GPU."""
    with pytest.raises(ValueError, match=f"'{module}' is not an engine"):
        read(POD.replace("vllm", "sglang") + f'    command: ["python", "-m", "{module}"]\n')


def test_remarks_alone_are_no_command():
    """tests/evals of vLLM has such files; they were read as vLLM on one GPU."""
    with pytest.raises(ValueError, match="holds remarks alone"):
        read("# model_name: org/m\n# server_args: -tp 2\n")


def test_a_bracket_within_a_word_does_not_end_a_list():
    """docs/deployment/k8s.md of vLLM; the model was /bin/sh."""
    script = "pip install vllm[grpc] && vllm serve org/m --grpc -tp 2"
    got = read(POD + f'    command: ["/bin/sh", "-c"]\n    args: [\n      "{script}"\n    ]\n')
    assert (got.model, got.tp) == ("org/m", 2)


@pytest.mark.parametrize("runs", ["sleep infinity", "exec $SERVER", "/start.sh --max-num-seqs 8"])
def test_a_shell_in_an_image_of_an_engine_is_no_model(runs):
    """A pod of Dynamo's that only pulls an image; the model was /bin/sh."""
    with pytest.raises(ValueError, match="'sh' is not an engine whose flags are read"):
        read(POD + f'    command: ["/bin/sh", "-c", "{runs}"]\n')


def test_of_several_servers_of_a_script_it_is_the_one_that_decodes():
    """Dynamo's and InferenceX's scripts start what prefills and what decodes by a mode."""
    got = read(
        'if [ "$mode" = "prefill" ]; then\n  python3 -m dynamo.sglang --model-path org/m '
        "--disaggregation-mode prefill \\\n    --tp-size 4\nelse\n  python3 -m dynamo.sglang "
        "--model-path org/m --tp-size 4 --dp-size 4 --enable-dp-attention \\\n"
        "    --disaggregation-mode decode --max-running-requests 256\nfi\n"
    )
    assert (got.tp, got.dp, got.batch) == (1, 4, 64)
    assert any("starts 2 servers; this is the first of them that decodes" in x for x in got.notes)


def test_of_several_servers_of_a_script_it_is_none_that_encodes_images():
    """vLLM's examples/disaggregated/disaggregated_encoder; it was the first, which reads images."""
    got = read(
        "vllm serve org/m --gpu-memory-utilization 0.01 --ec-transfer-config "
        """'{"ec_connector": "ECExampleConnector", "ec_role": "ec_producer"}' &\n"""
        "vllm serve org/m --gpu-memory-utilization 0.7 --max-num-seqs 128 --ec-transfer-config "
        """'{"ec_role": "ec_consumer"}' &"""
    )
    assert (got.usable_fraction, got.batch) == (0.7, 128)


def test_a_share_in_percent():
    with pytest.raises(ValueError, match="92% is not a share; give a number above 0"):
        read("vllm serve org/m --gpu-memory-utilization 92%")


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


PARALLEL = (
    'ARGS=(-tp "$TP" -dp 1)\nif [ "$DP_ATTENTION" = "true" ]; then\n  ARGS=(-tp 1 -dp "$TP")\nfi\n'
    "EP_ARGS=()\nif [ $EP_SIZE -gt 1 ]; then EP_ARGS=(--enable-expert-parallel); fi\n"
    'if [[ "$DP_ATTENTION" == "true" ]]; then\n  SEQS=$(( CONC / TP ))\n'
    '  [ "$SEQS" -lt 1 ] && SEQS=1\nelse\n  SEQS=$CONC\nfi\n'
    'if [ -z "${LEN:-}" ] || [ "$LEN" = "0" ]; then\n  LEN=$(( ((ISL+1)*2) + 64 ))\nfi\n'
    'vllm serve org/m "${ARGS[@]}" "${EP_ARGS[@]}" --max-num-seqs "$SEQS" --max-model-len "$LEN"\n'
)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("TP=8 CONC=64 EP_SIZE=8 DP_ATTENTION=true ISL=1000", (1, 8, 8, 8, 2066)),
        ("TP=8 CONC=4 EP_SIZE=8 DP_ATTENTION=true ISL=1000", (1, 8, 8, 1, 2066)),
        ("TP=8 CONC=64 EP_SIZE=1 DP_ATTENTION=false LEN=9000", (8, 1, 1, 64, 9000)),
        ("TP=8 CONC=64 LEN=0 ISL=1", (8, 1, 1, None, 68)),
    ],
)
def test_a_script_s_tests_and_sums_are_done(given, said):
    """InferenceX's dsv4_fp4_b200_vllm.sh: what a branch is taken by, and what it computes."""
    got = read(f"export {given}\n{PARALLEL}")
    assert (got.tp, got.dp, got.ep, got.batch, got.context) == said
    left_out = [note for note in got.notes if note.startswith("left out")]
    assert bool(left_out) == (said[3] is None)


def test_what_one_branch_alone_changes_stays_as_it_was():
    """The script as it runs without options; InferenceX's scripts set defaults first."""
    got = read(
        'TP=8\nif [ "$MODE" = "small" ]; then TP=2; fi\nif [ -z "$SEQS" ]; then SEQS=16; fi\n'
        'if [ "$A" = "1" ]; then\n  vllm serve org/a -tp 1\nelif [ 3 -le 2 ]; then\n'
        "  vllm serve org/b -tp 1\nfi\nB=x\nif [[ $B == y* ]]; then\n  vllm serve org/c\nelse\n"
        "  vllm serve org/m -tp $TP --max-num-seqs $SEQS\nfi"
    )
    assert got.model == "org/a"
    assert any("starts 2 servers" in note for note in got.notes)
    got = read('TP=8\nif [ "$MODE" = "small" ]; then TP=2; fi\nvllm serve org/m -tp $TP')
    assert got.tp == 8


def test_a_model_alone_in_python_and_a_switch_that_is_not_known():
    assert read("from vllm import LLM\nllm = LLM('org/m')\n").model == "org/m"
    got = read("llm = LLM('org/m', enable_expert_parallel=args.ep, max_model_len=cut())")
    assert got.model == "org/m"
    assert any("--max-model-len" in note and "no value is known" in note for note in got.notes)


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
    with pytest.raises(ValueError, match="is not an engine"):
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
    got = read(text + "guide: |\n  ```bash\n  vllm serve org/m -tp 8\n  ```\n" * inline)
    assert (got.engine, got.model) == ("vllm", "MiniMaxAI/MiniMax-M2.5")
    assert (got.bytes_kv, got.batch, got.gpus) == (1, None, 1)
    assert any("features, variants" in note for note in got.notes)


JOB = """\
name: "b200"
model:
  path: "dsr1-fp8"
  container: "dynamo-sglang"
%s
health_check:
  max_attempts: 720
benchmark:
  type: custom
  command: bash /w/bench.sh
"""
ROLES = """\
engine: sglang
roles:
  prefill:
    args:
      served-model-name: deepseek-ai/DeepSeek-R1
      tensor-parallel-size: 4
  decode:
    workers: 1
    env:
      A: '1'
    args:
        # of a node
      served-model-name: deepseek-ai/DeepSeek-R1
      tensor-parallel-size: 8
      data-parallel-size: 8
      expert-parallel-size: 8
      enable-dp-attention: true
      max-running-requests: 256
      speculative-algorithm: EAGLE
      speculative-num-steps: 2
"""
BACKEND = """\
backend:
  type: trtllm
  decode_environment:
    A: "x::y"
  trtllm_config:
    prefill:
      tensor_parallel_size: 4
    decode:
      cuda_graph_config:
        batch_sizes:
          - 1
          - 64
      enable_attention_dp: true
      kv_cache_config:
        dtype: fp8
        free_gpu_memory_fraction: 0.7
      max_batch_size: 64
      moe_expert_parallel_size: 16
      tensor_parallel_size: 16
      served-model-name: deepseek-ai/DeepSeek-R1
"""
AGGREGATED = """\
backend:
  type: vllm
  connector: null
  vllm_config:
    aggregated:
      served-model-name: "deepseek-ai/DeepSeek-R1"
      tensor-parallel-size: 8
      pipeline-parallel-size: 2
      enable-expert-parallel: true
      max-num-seqs: 16
      speculative-config: '{"method":"mtp","num_speculative_tokens":3}'
"""


@pytest.mark.parametrize(
    ("part", "engine", "degrees", "batch", "drafts"),
    [
        (ROLES, "sglang", (1, 8, 1, 8), 32, 2),
        (BACKEND, "trtllm", (1, 16, 1, 16), 64, None),
        (AGGREGATED, "vllm", (8, 1, 2, 8), 16, 3),
    ],
)
def test_jobs_of_srt_slurm(part, engine, degrees, batch, drafts):
    """InferenceX, benchmarks/multi_node/srt-slurm-recipes: both schemas, all engines."""
    got = read(JOB % part)
    assert (got.engine, got.model) == (engine, "deepseek-ai/DeepSeek-R1")
    assert (got.tp, got.dp, got.pp, got.ep) == degrees
    assert (got.batch, got.drafts) == (batch, drafts)


SERVICE = """\
apiVersion: serving.kserve.io/v1alpha1
kind: LLMInferenceService
metadata:
  name: r1
spec:
  model:
    uri: %s
    #    uri: hf://org/other
    name: org/m
  speculator:
    config:
      method: eagle3
      num_speculative_tokens: "6"
  parallelism:
    data: 32
    dataLocal: 8
    expert: true
    tensor: 2
  template:
    containers:
      - name: main
        env:
          - name: VLLM_LOGGING_LEVEL
            value: INFO
          - name: VLLM_ADDITIONAL_ARGS
            value: %s
          - name: VLLM_ALL2ALL_BACKEND
            value: deepep
  prefill:
    parallelism:
      tensor: 4
    template:
      containers:
        - name: main
          env:
            - name: VLLM_ADDITIONAL_ARGS
              value: "--max-model-len 1"
"""


@pytest.mark.parametrize("uri", ["pvc://claim", "hf://org/m", '"hf://org/m"'])
@pytest.mark.parametrize(
    "more",
    [
        '"--gpu-memory-utilization 0.95 --max-model-len 8192"',
        ">-\n              --gpu-memory-utilization 0.95\n              --max-model-len=8192",
    ],
)
def test_an_llm_inference_service_of_kserve(uri, more):
    """kserve/kserve, docs/samples/llmisvc: the controller makes the command of these."""
    got = read(SERVICE % (uri, more))
    assert (got.engine, got.model, got.tp, got.dp, got.ep) == ("vllm", "org/m", 2, 32, 64)
    assert (got.usable_fraction, got.context, got.drafts, got.drafter) == (0.95, 8192, 6, "eagle")
    # Arguments of its template come on top.
    args = "        args: [serve, /mnt/models, --max-num-seqs, '16']\n  prefill:\n"
    assert read((SERVICE % (uri, more)).replace("  prefill:\n", args)).batch == 16


@pytest.mark.parametrize(
    "text",
    [
        "model: org/m\nbackend: pytorch\ncontext_servers:\n  tensor_parallel_size: 1\n"
        "generation_servers:\n  num_instances: 2\n  urls: ['a:1']\n  {}",
        "model: org/m\nbackend: pytorch\npipeline_parallel_size: 1\n{}",  # model.yaml of Triton's
        "environment:\n  model_path: org/m\nworker_config:\n  gen:\n    {}  ctx:\n"
        "    tensor_parallel_size: 1\n",
        "from tensorrt_llm import LLM\nLLM(model='org/m', tensor_parallel_size=8,"
        " max_batch_size=64, speculative_config=a.MTPDecodingConfig(num_nextn_predict_layers=3),"
        " kv_cache_config=KvCacheConfig(dtype='fp8'))\n",
    ],
)
def test_servers_of_tensorrt_llm_without_a_command(text):
    """Its files of a service in two pools, and its call in Python, whose drafts were not read."""
    lines = (
        *("tensor_parallel_size: 8", "max_batch_size: 64", "kv_cache_config: {dtype: fp8}"),
        "speculative_config: {decoding_type: MTP, num_nextn_predict_layers: 3}",
    )
    gap = "    " if "worker_config" in text else "  " if "generation" in text else ""
    got = read(text.replace("{}", f"\n{gap}".join(lines) + "\n"))
    assert (got.engine, got.model, got.tp, got.batch) == ("trtllm", "org/m", 8, 64)
    assert (got.bytes_kv, got.drafts, got.drafter) == (1, 3, "mtp")


def test_a_settings_file_by_itself():
    """TensorRT-LLM, examples/configs/curated; vLLM's recipes, OpenAI/GPT-OSS_EAGLE3_Blackwell."""
    got = read(
        "# Copyright\n\ntensor_parallel_size: 32\nmoe_expert_parallel_size: 32\n"
        "enable_attention_dp: true\nmax_batch_size: 36\nkv_cache_config:\n  dtype: fp8\n"
        "  mamba_ssm_cache_dtype: bfloat16\n"
    )
    assert (got.engine, got.dp, got.ep, got.batch) == ("trtllm", 32, 32, 36)
    assert (got.bytes_kv, got.bytes_state, got.model) == (1, 2, None)
    got = read(
        "kv-cache-dtype: fp8\nno-enable-prefix-caching: true\nmax-num-batched-tokens: 8192\n"
        """speculative-config: '{"model":"a/b","num_speculative_tokens":7,"method":"eagle3"}'\n"""
    )
    assert (got.engine, got.bytes_kv, got.batched_tokens, got.drafts) == ("vllm", 1, 8192, 7)


@pytest.mark.parametrize(
    "text",
    [
        "modelURL: org/m\nreplicaCount: 1\n",  # of some other chart
        "vendor: zai-org\nfamilies:\n- name: GLM-5\n  hardware:\n    H100:\n      tp: 32\n",
        "deployment:\n  type: vllm\n  image: vllm/vllm-openai:latest\n  tensor_parallel_size: 8\n",
        # AIBrix's template, which says the split elsewhere.
        "kind: ConfigMap\ndata:\n  a.yaml: |\n    - spec:\n        parallelism:\n          tp: 4\n"
        "        engine_args:\n          max_num_seqs: 256\n          max_model_len: 32768\n",
    ],
)
def test_yaml_that_starts_no_server_is_refused_as_such(text):
    """A table of SGLang's cookbook; a deployment of NeMo Evaluator; a template of AIBrix."""
    with pytest.raises(ValueError, match="YAML without the command of a server"):
        read(text)


def test_pods_of_a_group_are_counted():
    """llm-d, guides/wide-ep-lws: the controller tells every pod how many there are."""
    got = read(
        "kind: LeaderWorkerSet\nspec:\n  replicas: 1\n  leaderWorkerTemplate:\n    size: 2\n"
        "    workerTemplate:\n      spec:\n        containers:\n        - name: v\n"
        "          command: [bash, -c]\n          args:\n            - |-\n"
        "              T=$(( ${PER_POD:-128} * LWS_GROUP_SIZE ))\n"
        '              MORE=""\n              exec vllm serve $SPEC $MORE \\\n'
        "                org/m -ep --max-num-seqs $T \\\n"
        "                --data-parallel-size $((LWS_GROUP_SIZE * DP_LOCAL))\n"
        "          env:\n          - name: DP_LOCAL\n            value: '8'\n"
    )
    assert (got.model, got.dp, got.ep, got.batch) == ("org/m", 16, 16, 256)


def test_settings_below_a_folder_that_is_not_known():
    """InferenceX's gptoss_fp4_h100.sh writes its settings where a variable says, and reads them."""
    got = read(
        'cat > "$RESULT_DIR/config.yaml" << EOF\nmax-num-batched-tokens: 8192\n'
        'max-model-len: 131072\nEOF\nvllm serve org/m --config "$RESULT_DIR/config.yaml" -tp 4\n'
    )
    assert (got.batched_tokens, got.context, got.tp) == (8192, 131072, 4)


@pytest.mark.parametrize("method", ["mtp", "qwen3_5_mtp", "exaone_moe_mtp"])
def test_heads_named_after_their_model(method):
    config = "--speculative-config"
    got = read(f"{LINE} {config}.method {method} {config}.num_speculative_tokens 3")
    assert (got.drafts, got.drafter) == (3, "mtp")
    got = read(f"{LINE} --num-speculative-tokens 3 --speculative-model a/R1-NextN")
    assert (got.drafts, got.drafter) == (3, "mtp")


def test_a_variable_in_place_of_json_is_not_read():
    """Dynamo, recipes/ax-k2-nvfp4: its value is in a ConfigMap."""
    got = read(f'{LINE} --speculative-config="${{SPECULATIVE_CONFIG}}"')
    assert (got.tp, got.drafts) == (4, None)
    assert any("--speculative-config ${SPECULATIVE_CONFIG}" in note for note in got.notes)


def test_a_module_behind_assignments_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"'llumnix\.entrypoints\.api_server' is not an engine"):
        read("export A=1\nTP=8\npython3 -m llumnix.entrypoints.api_server --model m -tp $TP")


def test_an_option_of_a_script_is_not_given_and_arms_that_differ_are_not_known():
    options = (
        "while getopts 'm:t:' o; do\n case $o in\n  m) MODEL=$OPTARG;;\n  t) TP=$OPTARG;;\n"
        " esac\ndone\n"
    )
    line = "vllm serve ${MODEL:-org/m} -tp ${TP:-4}"
    assert (read(options + line).model, read(options + line).tp) == ("org/m", 4)
    arms = "case $GPU in\n  h100) TP=8; LEN=8192 ;;\n  h200) TP=4; LEN=8192 ;;\nesac\n"
    got = read(f"{arms}vllm serve org/m -tp $TP --max-model-len $LEN")
    assert (got.tp, got.context) == (1, 8192)
    assert any(note.startswith("no value is known of -tp $TP,") for note in got.notes)


def test_flags_behind_a_script_are_those_of_its_server():
    script = f"export A=1\n{LINE} &\nvllm bench serve --model org/m"
    got = read([script, "-tp", "2", "--max-num-seqs=8"])
    assert (got.model, got.tp, got.batch, got.context) == ("org/m", 2, 8, 8192)


def test_all_that_a_script_was_started_with_is_no_model():
    got = read('f() {\n local more="$*"\n vllm serve "$@" -tp 4 ${more}\n}')
    assert (got.model, got.tp) == (None, 4)


def test_what_python_adds_under_a_condition_is_left_out():
    got = read(
        "def serve(debug, size):\n"
        "    cmd = ['vllm', 'serve', 'org/m', '--enforce-eager' if debug else '-q',\n"
        "        '-tp', '8' if size else '4', *(['--block-size', '32'] if debug else [])]\n"
        "    if debug:\n        cmd += ['--max-num-seqs', '1']\n"
    )
    assert (got.model, got.batch, got.kv_block) == ("org/m", None, 16)
    said = "left out, because the script adds it under a condition: --enforce-eager, "
    assert f"{said}--block-size 32, --max-num-seqs 1" in got.notes
    assert any("-tp $size" in note for note in got.notes)


# https://github.com/sgl-project/sglang, benchmarks of DeepSeek-V3.2 with context parallelism
def test_flags_that_are_echoed_into_a_variable():
    got = read(
        "args=$(echo -m sglang.launch_server \\\n  --model-path org/m --tp 8 --pp-size 2 \\\n"
        "  --context-length 65536 \\\n)\n\nargs=($args)"
    )
    assert (got.engine, got.model, got.tp, got.pp, got.context) == ("sglang", "org/m", 8, 2, 65536)


def test_arguments_of_a_script_are_not_read():
    got = read("NNODES=$@\nvllm serve m -tp 8 --pipeline-parallel-size $NNODES")
    assert (got.tp, got.pp) == (8, 1)
    assert any("--pipeline-parallel-size $@" in note for note in got.notes)


def test_settings_that_are_echoed():
    got = read(
        'echo -e "tensor_parallel_size: 2\\nmax_batch_size: 64" > gen.yml\n'
        "trtllm-serve org/m --extra_llm_api_options ./gen.yml"
    )
    assert (got.tp, got.batch) == (2, 64)


@pytest.mark.parametrize("text", ["VLLM_USE_V1=1", "TP=4\nMODEL=org/m\n"])
def test_variables_alone_are_no_command(text):
    with pytest.raises(ValueError, match="sets variables alone; give the command line"):
        read(text)


def test_extra_arguments_of_alternatives_are_refused():
    one = "- name: {}\n  model_path: org/m\n  extra_args:\n  - --tp={}\n"
    with pytest.raises(ValueError, match="YAML without the command of a server"):
        read(f"models:\n{one.format('a', 4)}{one.format('b', 8)}")


def test_of_several_models_of_ray_each_has_its_own_flags():
    """The first model had the flags of the second."""
    one = "  - model_loading_config:\n      model_id: {0}\n      model_source: org/{0}\n"
    flags = "    engine_kwargs:\n      tensor_parallel_size: 4\n"
    got = read(f"args:\n  llm_configs:\n{one.format('a')}{one.format('b')}{flags}")
    assert (got.model, got.tp) == ("org/b", 4)
    assert any("serves 2 models; this is one of them" in note for note in got.notes)


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve org/m -dp 16 -dpl 8\nvllm serve org/m -dp 16 --data-parallel-start-rank 8 "
        "--headless\n",
        "sglang serve --model-path org/m --tp 16 --nnodes 2 --node-rank 1\n"
        "sglang serve --model-path org/m --tp 16 --nnodes 2 --node-rank 0\n",
        "services:\n  a:\n    image: lmsysorg/sglang\n    command: sglang serve --model-path org/m "
        "--tp 16 --nnodes 2 --node-rank 0\n  b:\n    image: lmsysorg/sglang\n    command: sglang "
        "serve --model-path org/m --tp 16 --nnodes 2 --node-rank=1\n",
    ],
)
def test_nodes_of_one_server_are_no_servers_of_their_own(text):
    got = read(text)
    assert (got.model, got.tp * got.dp * got.replicas) == ("org/m", 16)
    assert not any("servers" in note for note in got.notes)


def test_an_arm_whose_pattern_is_not_known_may_be_taken():
    arms = 'case small in\n  "$A") TP=8 ;;\n  *) TP=4 ;;\nesac\nvllm serve org/m -tp $TP'
    assert any(note.startswith("no value is known of -tp $TP,") for note in read(arms).notes)


def test_of_several_images_of_a_manifest_it_is_the_one_that_decodes():
    one = "metadata: {{labels: {{}}, name: {}}}\n" + POD + "    args: [--model, org/m, -tp, '{}']\n"
    got = read(f"{one.format('a-prefill', 1)}---\n{one.format('a-decode', 2)}")
    assert got.tp == 2
    assert any(
        "the manifest starts 2 servers; this is the first of them that" in x for x in got.notes
    )


def test_a_model_that_drafts_for_itself_does_so_by_its_own_heads():
    json_of = '{"model": "%s", "num_speculative_tokens": 3}'
    got = read(f"{LINE} --speculative-config '{json_of % 'org/m'}'")
    assert (got.drafter, got.drafts) == ("mtp", 3)
    assert read(f"{LINE} --speculative-config '{json_of % 'org/small'}'").drafter is None


def test_helix_of_tensorrt_llm_takes_further_gpus():
    """NVIDIA/TensorRT-LLM, tensorrt_llm/mapping.py: FFN layers use all of these ranks."""
    line = "trtllm-serve org/m --config a.yaml --ep_size 8"
    settings = "cat > a.yaml <<EOF\ntensor_parallel_size: 2\ncontext_parallel_size: 4\n%sEOF\n"
    got = read(settings % "cp_config: {cp_type: HELIX}\n" + line)
    assert (got.tp, got.kvp, got.ep, got.gpus) == (2, 4, 8, 8)
    with pytest.raises(ValueError, match=r"--cp_size: it takes 4 times the GPUs"):
        read(settings % "" + line)
    with pytest.raises(ValueError, match=r"does not divide the 8 ranks of --tp_size times --cp_si"):
        read(settings % "cp_config: {cp_type: HELIX}\n" + line.replace("8", "16"))


def test_services_whose_images_start_servers_are_counted():
    one = "  {}:\n    image: vllm/vllm-openai\n    command: --model org/{} -tp {}\n"
    got = read(f"services:\n{one.format('a', 'a', 2)}{one.format('b', 'b', 4)}")
    assert (got.model, got.tp) == ("org/a", 2)
    assert any("the manifest starts 2 servers" in note for note in got.notes)
    # Beside a server that is written out, an image that does something else is none.
    image = "  c:\n    image: vllm/vllm-openai\n    command: python3 download.py\n"
    assert read(f"services:\n{image}{one.format('a', 'vllm serve org/a', 2)}").notes == ()
