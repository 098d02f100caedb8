"""Flags of vLLM and SGLang: how they are spelled, and what they say."""

import difflib
import shlex
from collections.abc import Sequence
from typing import Any, Literal

Engine = Literal["vllm", "sglang"]

# Field of `Deployment` (or an intermediate number) by spelling.
VLLM = {
    "tp_total": ("--tensor-parallel-size", "-tp"),
    "pp": ("--pipeline-parallel-size", "-pp"),
    "dp_total": ("--data-parallel-size", "-dp"),
    "dcp": ("--decode-context-parallel-size", "-dcp"),
    "usable_fraction": ("--gpu-memory-utilization",),
    "kv_dtype": ("--kv-cache-dtype",),
    "sequences": ("--max-num-seqs",),
    "context": ("--max-model-len",),
    "weights": ("--quantization", "-q"),
    "kv_block": ("--block-size",),
    "model": ("--model",),
}
SGLANG = {
    "tp_total": ("--tp-size", "--tensor-parallel-size", "--tp"),
    "pp": ("--pp-size", "--pipeline-parallel-size", "--pp"),
    "dp_total": ("--dp-size", "--data-parallel-size", "--dp"),
    "ep": ("--ep-size", "--expert-parallel-size", "--ep"),
    "static_fraction": ("--mem-fraction-static",),
    "kv_dtype": ("--kv-cache-dtype",),
    "sequences": ("--max-running-requests",),
    "context": ("--context-length",),
    "weights": ("--quantization",),
    "kv_block": ("--page-size",),
    "model": ("--model-path", "--model"),
}
SWITCHES: dict[Engine, dict[str, str]] = {
    "vllm": {"--enable-expert-parallel": "expert_parallel", "-ep": "expert_parallel"},
    "sglang": {"--enable-dp-attention": "dp_attention"},
}
SPELLINGS: dict[Engine, dict[str, tuple[str, ...]]] = {"vllm": VLLM, "sglang": SGLANG}
# Flags that change nothing that is modelled: name -> number of values.
NO_EFFECT = {
    "--trust-remote-code": 0,
    "--host": 1,
    "--port": 1,
    "--served-model-name": 1,
    "--dtype": 1,
    "--load-format": 1,
    "--download-dir": 1,
    "--seed": 1,
    "--api-key": 1,
    "--enable-chunked-prefill": 0,
    "--enable-prefix-caching": 0,
    "--no-enable-prefix-caching": 0,
    "--disable-radix-cache": 0,
    "--tool-call-parser": 1,
    "--reasoning-parser": 1,
    "--enable-auto-tool-choice": 0,
    "--distributed-executor-backend": 1,
    "--attention-backend": 1,
    "--moe-a2a-backend": 1,
    "--max-num-batched-tokens": 1,
    "--chunked-prefill-size": 1,
    "--cuda-graph-max-bs": 1,
    "--nnodes": 1,
    "--node-rank": 1,
    "--dist-init-addr": 1,
    "--enable-dp-lm-head": 0,
    "--no-enable-chunked-prefill": 0,
    "--no-trust-remote-code": 0,
    "--swap-space": 1,
    "--revision": 1,
    "--tokenizer": 1,
    "--tokenizer-path": 1,
    "--tokenizer-mode": 1,
    "--chat-template": 1,
    "--generation-config": 1,
    "--override-generation-config": 1,
    "--disable-log-requests": 0,
    "--disable-log-stats": 0,
    "--log-level": 1,
    "--all2all-backend": 1,
    "--deepep-mode": 1,
    "--data-parallel-size-local": 1,
    "--data-parallel-address": 1,
    "--data-parallel-rpc-port": 1,
    "--data-parallel-backend": 1,
}
# Flags that change what is modelled, but do not say by how much: name -> number of values.
UNREAD = {
    "--speculative-config": 1,
    "--speculative-algorithm": 1,
    "--speculative-num-steps": 1,
    "--speculative-eagle-topk": 1,
    "--speculative-num-draft-tokens": 1,
    "--speculative-draft-model-path": 1,
    "--enforce-eager": 0,
    "--disable-cuda-graph": 0,
    "--enable-dbo": 0,
    "--enable-two-batch-overlap": 0,
    "--enable-eplb": 0,
    "--eplb-config": 1,
    "--ep-num-redundant-experts": 1,
}
BYTES_OF_CACHE = {
    "auto": 2.0,
    "bf16": 2.0,
    "bfloat16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp4_e2m1": 0.5625,  # with a scale byte for 16 elements
}
DTYPE_OF_WEIGHTS = {
    "fp8": "fp8",
    "modelopt": "fp8",
    "w8a8_fp8": "fp8",
    "compressed-tensors": "fp8",
    "modelopt_fp4": "fp4",
    "nvfp4": "fp4",
    "petit_nvfp4": "fp4",
    "mxfp4": "fp4",
}
WHOLE = ("tp_total", "pp", "dp_total", "dcp", "ep", "sequences", "kv_block")


def split(flags: str | Sequence[str]) -> list[str]:
    """Words of a command line, less the program in front of the flags; `--a=b` becomes two."""
    words = shlex.split(flags) if isinstance(flags, str) else list(flags)
    if len(words) == 1 and len(words[0].split()) > 1:  # a whole command line, quoted in the shell
        words = shlex.split(words[0])
    out = []
    for word in words:
        if word.startswith("--") and "=" in word:
            out += word.split("=", 1)
        elif word != "\\":
            out.append(word)
    return out


def engine_of(flags: str | Sequence[str]) -> Engine:
    """Which engine a command line is for, by its program or by flags that only one has.

    >>> engine_of("vllm serve m -tp 8")
    'vllm'
    >>> engine_of("--tp-size 8 --enable-dp-attention")
    'sglang'
    """
    words = split(flags)
    if any("sglang" in word for word in words[:3]):
        return "sglang"
    if any("vllm" in word for word in words[:3]):
        return "vllm"
    own: dict[Engine, set[str]] = {
        engine: {s for names in spellings.values() for s in names} | set(SWITCHES[engine])
        for engine, spellings in SPELLINGS.items()
    }
    only_sglang = sum(word in own["sglang"] - own["vllm"] for word in words)
    only_vllm = sum(word in own["vllm"] - own["sglang"] for word in words)
    return "sglang" if only_sglang > only_vllm else "vllm"


def _number(name: str, flag: str, text: str) -> float:
    suffixes = {"k": 1e3, "K": 1024.0, "m": 1e6, "M": 1024.0**2} if name == "context" else {}
    scale = suffixes.get(text[-1:], 1.0)
    try:
        value = float(text[:-1] if scale != 1.0 else text) * scale
    except ValueError:
        raise ValueError(f"{flag}: {text!r} is not a number") from None
    if name in ("usable_fraction", "static_fraction"):
        if not 0 < value <= 1:
            raise ValueError(f"{flag}: {text} is not a share; give a number above 0, at most 1")
    elif not (value >= 1 and value < float("inf")) or (name in WHOLE and value != int(value)):
        raise ValueError(f"{flag}: {text} is not allowed; give a whole number of at least 1")
    return value


def _value(name: str, flag: str, text: str) -> Any:
    tables: dict[str, dict[str, Any]] = {"kv_dtype": BYTES_OF_CACHE, "weights": DTYPE_OF_WEIGHTS}
    if name in tables:
        if text not in tables[name]:
            known = ", ".join(tables[name])
            raise ValueError(f"{flag}: {text!r} is not modelled; known: {known}")
        return tables[name][text]
    return text if name == "model" else _number(name, flag, text)


def parse(words: list[str], engine: Engine) -> tuple[dict[str, Any], list[str], list[str]]:
    """What the words say, by quantity; the flags that change nothing modelled; those not read.

    Raises:
        ValueError: with every unknown flag and bad value.
    """
    by_flag = {flag: name for name, flags in SPELLINGS[engine].items() for flag in flags}
    found: dict[str, Any] = {}
    ignored: list[str] = []
    unread: list[str] = []
    problems: list[str] = []
    at = 0
    # The program and, for `vllm serve`, the model stand in front of the flags.
    while at < len(words) and not words[at].startswith("-"):
        if at and words[at - 1] == "serve":
            found["model"] = words[at]
        at += 1
    if words and at == len(words) and not any(name in word for name in SPELLINGS for word in words):
        problems.append(f"no flag in {' '.join(words)!r}; flags start with a dash")
    if at < len(words) and words[at] == "-m":
        at += 2
    while at < len(words):
        flag = words[at]
        at += 1
        if flag in SWITCHES[engine]:
            found[SWITCHES[engine][flag]] = True
        elif flag in by_flag:
            if at >= len(words) or (words[at].startswith("--")):
                problems.append(f"{flag}: its value is missing")
                continue
            try:
                found[by_flag[flag]] = _value(by_flag[flag], flag, words[at])
            except ValueError as error:
                problems.append(str(error))
            at += 1
        elif flag in NO_EFFECT:
            ignored.append(flag)
            at += NO_EFFECT[flag]
        elif flag in UNREAD:
            unread.append(flag)
            at += UNREAD[flag]
        else:
            problems.append(_unknown(flag, engine))
            while at < len(words) and not words[at].startswith("-"):
                at += 1
    if problems:
        raise ValueError("\n".join([f"{engine} flags:", *(f"  {p}" for p in problems)]))
    return found, ignored, unread


def _unknown(flag: str, engine: Engine) -> str:
    known = [f for names in SPELLINGS[engine].values() for f in names] + list(SWITCHES[engine])
    others: list[Engine] = [name for name in SPELLINGS if name != engine]
    for other in others:
        spelled = {f for names in SPELLINGS[other].values() for f in names} | set(SWITCHES[other])
        if flag in spelled:
            return f"{flag}: a flag of {other}, not of {engine}"
    near = difflib.get_close_matches(flag, known, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"{flag}: unknown flag; {hint}"
