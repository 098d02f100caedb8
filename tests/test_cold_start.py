"""Single questions from the prompt: JAX is not loaded, and little time is taken."""

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qsjax.cli import compare, explain, explore

# Processor time over that of importing JAX alone, the quicker of two runs: 0.8 to 2.5.
MOST_OF_IMPORT = 4.0
# The package imports nothing before it is used, and the help of the command needs nothing.
MOST_OF_NAMES = 0.3
# Wall seconds: 3 is promised on two idle cores; shared machines are slower.
MOST_SECONDS = 12.0


def examples():
    """The commands in the help of the verbs."""
    for module in (explain, compare, explore):
        text = module.command.help.partition("Examples:")[2].replace("\\\n", " ")
        yield from (" ".join(line.split()) for line in text.splitlines() if "qsjax" in line)


def timed(*arguments):
    """Processor time of a new process with an empty cache [s], and what it wrote."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "QSJAX_CACHE": "off"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=MOST_SECONDS,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


EXAMPLES = [
    *examples(),
    *("qsjax models", "qsjax models show deepseek-v3", "qsjax hardware show h200-sxm"),
    *("qsjax pareto mixtral-8x7b --gpus 8 --context 8k", "qsjax speculate deepseek-v3 --gpus 8"),
]
# The file that the help of `explain` names.
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
        - image: vllm/vllm-openai:v0.11.0
          command: [vllm, serve, Qwen/Qwen3-32B, --tensor-parallel-size, "2"]
"""


@pytest.fixture(scope="module")
def importing():
    timed("-c", "import qsjax, jax")  # so that their bytecode is there
    return min(timed("-c", "import jax")[0] for _ in range(2))


def test_there_are_examples():
    assert len(EXAMPLES) >= 9


def watched(*arguments):
    """As `timed`, and whether the process loaded JAX; telling imports takes a few milliseconds."""
    seconds, done = timed("-X", "importtime", *arguments)
    is_loaded = any(line.endswith((" jax", " jax._src")) for line in done.stderr.splitlines())
    return seconds, done, is_loaded


def test_jax_would_be_seen():
    assert watched("-c", "import jax")[2]
    assert watched("-c", "import qsjax as qs; qs.model('deepseek-v3')")[2]


@pytest.mark.parametrize("arguments", [("-c", "import qsjax"), ("-m", "qsjax", "--help")])
def test_names_and_help_need_no_jax(arguments, importing):
    runs = [watched(*arguments) for _ in range(2)]
    assert min(seconds for seconds, *_ in runs) < MOST_OF_NAMES * importing
    assert not any(is_loaded for *_, is_loaded in runs)


@pytest.mark.parametrize("command", EXAMPLES)
def test_jax_is_not_loaded_and_little_time_taken(command, importing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("deploy.yaml").write_text(MANIFEST, "utf-8")
    seconds, done, is_loaded = watched("-m", *shlex.split(command))
    assert not is_loaded
    assert done.stdout
    if seconds >= MOST_OF_IMPORT * importing:  # what else the machine did then
        seconds, _ = timed("-m", *shlex.split(command))
    assert seconds < MOST_OF_IMPORT * importing


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_closed_stream_is_no_mistake(stream):
    command = f'"{sys.executable}" -m qsjax models {stream}>&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
