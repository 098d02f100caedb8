"""Quantised weights under an engine: which dtype they have, and which splits break their blocks."""

import re

from qsjax.catalog import gguf
from qsjax.engines.deployment import Deployment
from qsjax.engines.rules import load_flags
from qsjax.numerics.safe import scalar
from qsjax.records.specs import ModelSpec, Partition

# Engines that refuse to start where a shard is no multiple of a block (sources: `broken_blocks`).
REFUSING = ("vllm", "sglang")
# Dtypes by what stands in names of checkpoints; eight bits count as FP8, four as FP4.
_QUANTISED = {
    "fp4": re.compile(r"[-_]((?:nv|mx)?fp4|awq|gptq|w4a\d+|int4|bnb|4bit)\b", re.IGNORECASE),
    "fp8": re.compile(r"[-_](fp8|w8a8|int8|8bit)\b", re.IGNORECASE),
}


def bits_of_gguf(deployment: Deployment) -> tuple[float | None, tuple[str, ...]]:
    """Bits of a weight of the GGUF file that is served, None where none is; and what to say of it.

    >>> bits_of_gguf(Deployment(model="unsloth/Qwen3-8B-GGUF:Q4_K_M"))[0]
    4.8944
    """
    served = deployment.model or ""
    if deployment.loader != "gguf" and "gguf" not in served.lower():
        return None, ()
    found = gguf.type_of(served)
    if found is None:
        return None, (
            f"{served} is a GGUF file whose name tells no type, such as Q4_K_M: its weights count "
            "as the model's own; --weights says what they are",
        )
    name, like = found
    if not like:
        return None, (
            f"{name.upper()} is not a known type of GGUF; known: {', '.join(gguf.BITS).upper()}; "
            "the weights count as the model's own",
        )
    as_like = "" if like == name else f", counted as {like.upper()}"
    note = f"the GGUF type {name.upper()}{as_like} takes {gguf.BITS[like]:g} bits a weight"
    return gguf.BITS[like], (f"{note}, which engines multiply in 16 bits",)


def weights_of(own: str, deployment: Deployment) -> tuple[str | None, tuple[str, ...]]:
    """The dtype that replaces the model's own, None to keep it; and what to say of it.

    A loader's name (`modelopt`, `compressed-tensors`) is no dtype: it loads what the config says. A
    name of a width is that of a checkpoint: the narrower of the two is what is served, for engines
    quantise BF16 and FP8 weights and never widen.

    >>> weights_of("fp4", Deployment(loader="modelopt", weights="fp8"))[0] is None
    True
    >>> weights_of("bf16", Deployment(loader="fp8", weights="fp8"))
    ('fp8', ())
    """
    asked, loader = deployment.weights, deployment.loader
    if loader is None or bits_of_gguf(deployment)[1]:
        return asked, ()
    is_loader = loader in load_flags()["loaders"]
    if asked is None and own == "bf16":
        return None, (
            f"--quantization {loader} names a loader, and the model's config no quantisation: its "
            "weights count as bf16; --weights says what they are",
        )
    if own == "bf16":
        kind = " or what a checkpoint of that kind has" if is_loader else ""
        return asked, ((f"--quantization {loader} reads as {asked}{kind}",) if kind else ())
    if asked == own:
        return None, ()
    if not is_loader and (asked, own) == ("fp4", "fp8"):
        return asked, (
            f"the model's own weights are {own}, but --quantization {loader} serves a checkpoint "
            f"in {asked}",
        )
    return None, (
        f"the weights stay in {own}, as the model's own config says: --quantization {loader} does "
        "not change them",
    )


def about_name(served: str | None, dtype: str) -> tuple[str, ...]:
    """A note where the served checkpoint's name tells a quantisation, and `dtype` is none of it.

    >>> about_name("Qwen/Qwen3-235B-A22B-FP8", "fp8")
    ()
    """
    named = {own: name.search(served or "") for own, name in _QUANTISED.items()}
    told = [match[1].upper() for match in named.values() if match]
    if not told or named.get(dtype):
        return ()
    return (
        f"{served} is by its name a checkpoint in {told[0]}, but the weights count as {dtype} "
        "here; --weights, or its config.json as MODEL, says what they are",
    )


def expert_width(model: ModelSpec, expert_hidden: float) -> float:
    """The width of a routed expert as engines split it, which may read a narrower hidden state."""
    return scalar(model.expert_ff) * (scalar(model.hidden) / expert_hidden if expert_hidden else 1)


def broken_blocks(
    model: ModelSpec, partition: Partition, block: int, expert_hidden: float = 0.0
) -> tuple[str, ...]:
    """The feed-forward shards that are no multiple of a block of weights: engines refuse them.

    Sources: https://github.com/vllm-project/vllm/issues/17569 (1536 / 8 = 192) and
    https://github.com/sgl-project/sglang/issues/3345 (18432 / 32 = 576), both with blocks of 128.
    """
    if not block:
        return ()
    tp, ep, dp, kvp = (scalar(getattr(partition, name)) for name in ("tp", "ep", "dp", "kvp"))
    ranks = tp * kvp
    parts = {
        "routed experts": (expert_width(model, expert_hidden), max(1.0, ranks * dp / ep)),
        "shared experts": (model.shared_ff if scalar(model.shared_experts) else 0.0, ranks),
        "dense layers": (model.dense_ff if scalar(model.dense_layers) else 0.0, ranks),
    }
    if not model.is_moe:
        parts = {"feed-forward layers": (model.expert_ff, ranks)}
    broken = [
        f"{name} of width {scalar(width):,.0f} over {split:g} GPUs are {scalar(width) / split:g}"
        for name, (width, split) in parts.items()
        if scalar(width) / split % block
    ]
    if not broken:
        return ()
    return (
        f"engines refuse this split: every shard must be a multiple of the {block} weights that "
        f"share a scale, but {'; '.join(broken)}; lower tp, or raise dp or ep",
    )
