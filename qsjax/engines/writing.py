"""From a deployment to engine flags, with a note for everything that an engine cannot express."""

import dataclasses
from typing import Literal, NamedTuple

from qsjax.engines.deployment import Deployment
from qsjax.records.specs import KV_CP

WrittenEngine = Literal["vllm", "sglang"]


class Written(NamedTuple):
    """A deployment as flags of one engine.

    Attributes:
        engine: whose flags.
        flags: the words.
        notes: what the flags do not say, or say differently; empty if they describe the design.
    """

    engine: WrittenEngine
    flags: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def command(self) -> str:
        """The flags as one line."""
        return " ".join(self.flags)


_CACHE = {1.0: "fp8", 0.5625: "fp4_e2m1"}  # as `flags.toml` reads them
_WEIGHTS = {"fp8": "fp8", "fp4": "modelopt_fp4"}


def _common(deployment: Deployment, names: dict[str, str]) -> list[str]:
    """Flags that both engines have, under their own names.

    `share` names the field that `memory` writes: each engine counts its share of other bytes.
    """
    flags = []
    if deployment.batch is not None:
        flags += [names["batch"], f"{deployment.batch:.0f}"]
    if deployment.context is not None:
        flags += [names["context"], f"{deployment.context:.0f}"]
    share = getattr(deployment, names["share"])
    if share is not None:
        flags += [names["memory"], f"{round(share, 4):g}"]
    if deployment.bytes_kv in _CACHE:
        flags += ["--kv-cache-dtype", _CACHE[deployment.bytes_kv]]
    if deployment.weights in _WEIGHTS:
        flags += ["--quantization", _WEIGHTS[deployment.weights]]
    return flags


def _context(deployment: Deployment, engine: str) -> list[str]:
    """What an engine's context parallelism does otherwise than the design."""
    if deployment.gathers_queries:
        return []
    own = "ring of queries" if deployment.kv_mode == KV_CP else "copies of attention's weights"
    return [
        f"{engine} has no {own}: its context parallelism shares attention's weights and gathers "
        "the queries, which holds less and moves more"
    ]


def _vllm(deployment: Deployment, is_moe: bool) -> tuple[list[str], list[str]]:
    tp, kvp, dp = deployment.tp * deployment.kvp, deployment.kvp, deployment.dp
    stage, notes = tp * dp, []
    flags = ["--tensor-parallel-size", f"{tp:.0f}"]
    if deployment.pp > 1:
        flags += ["--pipeline-parallel-size", f"{deployment.pp:.0f}"]
    if dp * deployment.replicas > 1:
        flags += ["--data-parallel-size", f"{dp * deployment.replicas:.0f}"]
    if kvp > 1:
        flags += ["--decode-context-parallel-size", f"{kvp:.0f}"]
        notes += _context(deployment, "vLLM")
    if is_moe and deployment.ep > 1:
        flags.append("--enable-expert-parallel")
        if deployment.ep != stage:
            notes.append(
                f"ep={deployment.ep:.0f} cannot be written: vLLM spreads experts over all "
                f"{stage:.0f} GPUs of a stage or splits each over them"
            )
    if not is_moe and dp > 1:
        notes.append("vLLM runs a dense model's data parallelism as separate replicas")
    names = {
        "batch": "--max-num-seqs",
        "context": "--max-model-len",
        "memory": "--gpu-memory-utilization",
        "share": "usable_fraction",
    }
    return flags + _common(deployment, names), notes


def _sglang(deployment: Deployment, is_moe: bool) -> tuple[list[str], list[str]]:
    tp, dp, notes = deployment.tp * deployment.kvp, deployment.dp, []
    flags = ["--tp-size", f"{tp * dp:.0f}"]
    if deployment.pp > 1:
        flags += ["--pp-size", f"{deployment.pp:.0f}"]
    if dp > 1:
        flags += ["--dp-size", f"{dp:.0f}", "--enable-dp-attention"]
    elif deployment.replicas > 1:
        flags += ["--dp-size", f"{deployment.replicas:.0f}"]
    if is_moe and deployment.ep > 1:
        flags += ["--ep-size", f"{deployment.ep:.0f}"]
    if deployment.kvp > 1:
        flags += ["--dcp-size", f"{deployment.kvp:.0f}"]
        notes += _context(deployment, "SGLang")
    if not is_moe and dp > 1:
        notes.append("--enable-dp-attention serves models with latent attention or experts")
    batch = None if deployment.batch is None else deployment.batch * dp
    names = {
        "batch": "--max-running-requests",
        "context": "--context-length",
        "memory": "--mem-fraction-static",
        "share": "static_fraction",
    }
    return flags + _common(dataclasses.replace(deployment, batch=batch), names), notes


def write(deployment: Deployment, engine: WrittenEngine, is_moe: bool = True) -> Written:
    """The flags that start `deployment`, as near as the engine can come to it.

    >>> write(Deployment(tp=4.0, kvp=2.0, dp=2.0, ep=16.0, batch=64.0), "vllm").command
    '--tensor-parallel-size 8 --data-parallel-size 2 --decode-context-parallel-size 2
     --enable-expert-parallel --max-num-seqs 64'
    """
    flags, notes = (_vllm if engine == "vllm" else _sglang)(deployment, is_moe)
    return Written(engine, tuple(flags), tuple(notes))
