"""From a deployment to engine flags, with a note for everything that an engine cannot express."""

from typing import Literal, NamedTuple

from qsjax.engines.deployment import Deployment
from qsjax.engines.rules import load_flags
from qsjax.records.specs import KV_CP

WrittenEngine = Literal["vllm", "sglang", "trtllm"]


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


# A cache of four bits, as `flags.toml` reads it.
_FP4: dict[WrittenEngine, str] = {"vllm": "fp4_e2m1", "sglang": "fp4_e2m1", "trtllm": "nvfp4"}
_WEIGHTS = {"fp8": "fp8", "fp4": "modelopt_fp4"}


Said = dict[str, float | str | bool | None]


def _flags(engine: WrittenEngine, said: Said) -> list[str]:
    """Quantities of `flags.toml` as an engine spells them first; None, False and 0 say nothing."""
    rules, words = load_flags()[engine], list[str]()
    for quantity, value in said.items():
        if value:
            spelling = rules["switches" if value is True else "reads"][quantity].split()[0]
            words.append(f"--{spelling.replace('-', '_') if engine == 'trtllm' else spelling}")
            if value is not True:
                words.append(value if isinstance(value, str) else f"{round(value, 4):.12g}")
    return words


def _several(count: float) -> float:
    """A number of ranks that a flag says; 0 for one alone."""
    return count if count > 1 else 0.0


def _context(deployment: Deployment, engine: str) -> list[str]:
    """What an engine's context parallelism does otherwise than the design."""
    if deployment.gathers_queries or deployment.kvp == 1:
        return []
    own = "ring of queries" if deployment.kv_mode == KV_CP else "copies of attention's weights"
    return [
        f"{engine} has no {own}: its context parallelism shares attention's weights and gathers "
        "the queries, which holds less and moves more"
    ]


def _vllm(deployment: Deployment, is_moe: bool) -> tuple[Said, list[str]]:
    dp, stage = deployment.dp, deployment.tp * deployment.kvp * deployment.dp
    notes = _context(deployment, "vLLM")
    if is_moe and deployment.ep not in (1.0, stage):
        notes.append(
            f"ep={deployment.ep:.0f} cannot be written: vLLM spreads experts over all "
            f"{stage:.0f} GPUs of a stage or splits each over them"
        )
    if not is_moe and dp > 1:
        notes.append("vLLM runs a dense model's data parallelism as separate replicas")
    return {
        "tp_total": deployment.tp * deployment.kvp,
        "pp": _several(deployment.pp),
        "dp_total": _several(dp * deployment.replicas),
        "dcp": _several(deployment.kvp),
        "expert_parallel": is_moe and deployment.ep > 1,
        "sequences": deployment.batch,
        "context": deployment.context,
        "usable_fraction": deployment.usable_fraction,
    }, notes


def _sglang(deployment: Deployment, is_moe: bool) -> tuple[Said, list[str]]:
    dp, notes = deployment.dp, _context(deployment, "SGLang")
    if not is_moe and dp > 1:
        notes.append("--enable-dp-attention serves models with latent attention or experts")
    return {
        "tp_total": deployment.tp * deployment.kvp * dp,
        "pp": _several(deployment.pp),
        "dp_total": _several(dp if dp > 1 else deployment.replicas),
        "dp_attention": dp > 1,
        "ep": _several(deployment.ep) if is_moe else None,
        "dcp": _several(deployment.kvp),
        "sequences": deployment.batch and deployment.batch * dp,
        "context": deployment.context,
        "static_fraction": deployment.static_fraction,
    }, notes


def _trtllm(deployment: Deployment, is_moe: bool) -> tuple[Said, list[str]]:
    dp, notes = deployment.dp, list[str]()
    if dp > 1 and deployment.tp > 1:
        notes.append(
            f"tp={deployment.tp:.0f} within dp={dp:.0f} cannot be written: the attention data "
            "parallelism of TensorRT-LLM makes every GPU of a stage a replica"
        )
    if not is_moe and dp > 1:  # tensorrt_llm/_torch/models/modeling_llama.py: its MLP has a TP of 1
        notes.append("TensorRT-LLM runs a dense model's attention data parallelism as whole copies")
    if deployment.kvp > 1:
        notes.append(f"kvp={deployment.kvp:.0f} cannot be written: no flag of it is known here")
    return {
        "tp_total": deployment.tp * deployment.kvp * dp,
        "pp": _several(deployment.pp),
        "dp_attention": dp > 1,
        "ep": _several(deployment.ep) if is_moe else None,
        "sequences": deployment.batch,
        "context": deployment.context,
        "free_fraction": deployment.free_fraction,
    }, notes


_WRITERS = {"vllm": _vllm, "sglang": _sglang, "trtllm": _trtllm}


def write(deployment: Deployment, engine: WrittenEngine, is_moe: bool = True) -> Written:
    """The flags that start `deployment`, as near as the engine can come to it.

    >>> write(Deployment(tp=4.0, kvp=2.0, dp=2.0, ep=16.0, batch=64.0), "vllm").command
    '--tensor-parallel-size 8 --data-parallel-size 2 --decode-context-parallel-size 2
     --enable-expert-parallel --max-num-seqs 64'
    """
    said, notes = _WRITERS[engine](deployment, is_moe)
    said["kv_dtype"] = {1.0: "fp8", 0.5625: _FP4[engine]}.get(deployment.bytes_kv or 0.0)
    if engine != "trtllm":  # which takes the format of weights from the checkpoint
        said["quantization"] = _WEIGHTS.get(deployment.weights or "")
    return Written(engine, tuple(_flags(engine, said)), tuple(notes))
