"""From engine flags to a deployment: what the engines mean by their degrees."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from qsjax.engines.deployment import Deployment
from qsjax.engines.flags import Parsed, engine_of, parse, split
from qsjax.engines.releases import stated
from qsjax.engines.rules import ENGINES, NOT_READ, Engine, load_flags


def _gathered(engine: str, ranks: float, dcp: float) -> str:
    return (
        f"{engine}'s context parallelism uses the GPUs of tensor parallelism: {ranks:g} ranks are "
        f"tp={ranks / dcp:g} x kvp={dcp:g} here, which share the weights and gather the queries"
    )


def _untold(found: dict[str, Any]) -> str:
    return "" if "tp_total" in found else " (not given, or a variable; write its value)"


def _vllm(found: dict[str, Any], is_moe: bool) -> dict[str, Any]:
    tp, dcp = found.get("tp_total", 1.0), found.get("dcp", 1.0)
    dp, expert_parallel = found.get("dp_total", 1.0), found.get("expert_parallel", False)
    if tp % dcp:
        raise ValueError(
            f"vllm flags:\n  --decode-context-parallel-size: {dcp:g} does not divide the "
            f"{tp:g} ranks of --tensor-parallel-size{_untold(found)}, whose GPUs it uses; choose a "
            "divisor"
        )
    if (pcp := found.get("pcp", 1.0)) > 1:
        raise ValueError(
            f"vllm flags:\n  --prefill-context-parallel-size: it takes {pcp:g} times the GPUs, "
            "which is not modelled; leave it out, or give the server that decodes without it"
        )
    notes = []
    if dcp > 1:
        notes.append(_gathered("vLLM", tp, dcp))
    if expert_parallel and is_moe:
        notes.append(
            f"vLLM's expert parallelism spans tensor times data parallelism: ep={tp * dp:g} here"
        )
    if expert_parallel and not is_moe:
        notes.append("--enable-expert-parallel does nothing for a dense model")
    if dp > 1 and is_moe and not expert_parallel:
        notes.append(
            f"without --enable-expert-parallel every expert is split over all {tp * dp:g} GPUs of "
            "tensor and data parallelism (ep=1)"
        )
    if dp > 1 and not is_moe:
        notes.append(f"data parallelism of a dense model is {dp:g} separate replicas")
    return {
        "tp": tp / dcp,
        "kvp": dcp,
        "gathers_queries": dcp > 1,
        "dp": dp if is_moe else 1.0,
        "replicas": 1.0 if is_moe else dp,
        "ep": tp * dp if expert_parallel and is_moe else 1.0,
        "batch": found.get("sequences"),
        "kv_block": found.get("kv_block", 16.0),
        "notes": notes,
    }


def _sglang_problems(
    found: dict[str, Any], tp: float, ep: float, dp: float, dcp: float
) -> list[str]:
    """What does not divide SGLang's ranks."""
    problems = []
    if tp % (dp * dcp):
        degrees = {"--dp-size": dp, "--dcp-size": dcp}
        degree = " x ".join(name for name, ranks in degrees.items() if ranks > 1)
        problems.append(
            f"{degree}: {dp * dcp:g} does not divide the {tp:g} ranks of --tp-size, which "
            "attention's data and context parallelism divide; choose a divisor"
        )
    if tp % ep:
        problems.append(f"--ep-size: {ep:g} does not divide the {tp:g} ranks of --tp-size")
    if problems and "tp_total" not in found:
        problems.append("--tp-size: not given, or a variable; write its value")
    return problems


def _sglang(found: dict[str, Any], is_moe: bool) -> dict[str, Any]:
    tp, ep, dcp = (found.get(name, 1.0) for name in ("tp_total", "ep", "dcp"))
    replicas, dp = found.get("dp_total", 1.0), found.get("attention_dp", 1.0)
    if found.get("dp_attention", False) and dp == 1:
        replicas, dp = 1.0, replicas
    notes = []
    backends = load_flags()["sglang"]["expert_backends"]
    if found.get("expert_backend", "none") in backends or found.get("expert_parallel"):
        if ep != tp and is_moe:
            notes.append(
                f"SGLang sets --ep-size to --tp-size with an all-to-all backend or "
                f"--enable-ep-moe: ep={tp:g} here"
            )
        ep = tp
    if problems := _sglang_problems(found, tp, ep, dp, dcp):
        raise ValueError("\n".join(["sglang flags:", *(f"  {p}" for p in problems)]))
    sequences = found.get("sequences")
    if dp > 1:
        notes.append(
            f"with --enable-dp-attention SGLang's tp={tp:g} counts all GPUs of a stage: "
            f"tp={tp / dp / dcp:g} x dp={dp:g} here"
        )
    if replicas > 1:
        notes.append(
            f"without --enable-dp-attention --dp-size {replicas:g} is as many separate replicas, "
            "which share no experts"
        )
    if dcp > 1:
        notes.append(_gathered("SGLang", tp / dp, dcp))
    if ep > 1 and not is_moe:
        notes.append("--ep-size does nothing for a dense model")
    if sequences is not None and dp > 1:
        notes.append("--max-running-requests is divided over the attention replicas")
        sequences = max(1.0, float(int(sequences / dp)))
    return {
        "tp": tp / (dp * dcp),
        "kvp": dcp,
        "gathers_queries": dcp > 1,
        "dp": dp,
        "replicas": replicas,
        "ep": ep if is_moe else 1.0,
        "batch": sequences,
        "kv_block": found.get("kv_block", 1.0),
        "notes": notes,
    }


def _trtllm(found: dict[str, Any], is_moe: bool) -> dict[str, Any]:
    tp, ep = found.get("tp_total", 1.0), found.get("ep", 1.0)
    shared, cp, notes = found.get("dp_attention", False), found.get("cp", 1.0), []
    if cp > 1 and found.get("cp_type") != "helix":
        raise ValueError(
            f"trtllm flags:\n  --cp_size: it takes {cp:g} times the GPUs and is modelled as Helix "
            "alone; add `cp_config: {cp_type: HELIX}` to the settings, or leave it out"
        )
    if tp * cp % ep:
        by = "--tp_size times --cp_size" if cp > 1 else "--tp_size"
        raise ValueError(
            f"trtllm flags:\n  --ep_size: {ep:g} does not divide the {tp * cp:g} ranks of {by}"
            f"{_untold(found)}"
        )
    if cp > 1:
        notes.append(
            f"TensorRT-LLM's Helix splits sequences over {cp:g} ranks and the experts over those "
            f"of tensor parallelism too: kvp={cp:g} here"
        )
    if shared and tp > 1:
        notes.append(
            f"with attention data parallelism every one of the {tp:g} ranks of TensorRT-LLM holds "
            f"all of attention: tp=1 x dp={tp:g} here"
        )
    return {
        "tp": 1.0 if shared else tp,
        "dp": tp if shared else 1.0,
        "kvp": cp,
        "ep": ep if is_moe else 1.0,
        "batch": found.get("sequences"),
        "kv_block": found.get("kv_block", 32.0),
        "notes": notes,
    }


def _atom(found: dict[str, Any], is_moe: bool) -> dict[str, Any]:
    tp, dp = found.get("tp_total", 1.0), found.get("dp_total", 1.0)
    shared = found.get("dp_attention", False) and tp * dp > 1
    replicas, notes = dp, []
    if shared:
        notes.append(
            f"with --enable-dp-attention every one of ATOM's {tp * dp:g} ranks holds all of "
            f"attention: tp=1 x dp={tp * dp:g} here"
        )
        tp, dp, replicas = 1.0, tp * dp, 1.0
    elif dp > 1:
        notes.append(f"without --enable-dp-attention ATOM's data parallelism is {dp:g} replicas")
        dp = 1.0
    is_split = found.get("expert_parallel", False) and is_moe
    meaning = _vllm({**found, "tp_total": tp, "dp_total": dp, "expert_parallel": is_split}, True)
    return meaning | {"replicas": replicas, "notes": notes}


_READERS: dict[Engine, Callable[[dict[str, Any], bool], dict[str, Any]]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "trtllm": _trtllm,
    "atom": _atom,
}


def _remarks(parsed: Parsed) -> list[str]:
    """One note for flags without effect, and likewise of prefixes, not read, without a value."""
    rules = load_flags()
    if parsed.said.get("dtype") in ("float32", "float"):
        parsed.unread.append("--dtype")
    elif "dtype" in parsed.said:
        parsed.ignored.append("--dtype")
    notes = []
    if parsed.open:
        name = parsed.open[0].partition(" ")[0]
        notes.append(
            f"no value is known of {', '.join(dict.fromkeys(parsed.open))}, so all numbers are "
            f"without it; write it behind the command or its file: {name} VALUE"
        )
    flags = parsed.ignored + parsed.unread
    kept = [flag for flag in flags if any(part in flag for part in rules["prefixes"])]
    if kept:
        notes.append(
            f"whether and where prefixes are kept ({', '.join(dict.fromkeys(kept))}): "
            "--prefix-hit-rate says how much of a prompt is found; ask qsjax prefix-cache where to "
            "keep it"
        )
    if parsed.ignored:
        notes.append(f"without effect here: {', '.join(dict.fromkeys(parsed.ignored))}")
    if parsed.unread:
        names = ", ".join(dict.fromkeys(parsed.unread))
        fields = [field for part, field in rules["in_python"].items() if part in names]
        hint = f" (in Python: {', '.join(dict.fromkeys(fields))})" if fields else ""
        notes.append(f"{NOT_READ} memory or time: {names}; all numbers are without it{hint}")
    if "context" in parsed.said and parsed.said["context"] is None:
        notes.append(
            "the longest context that fits is left to the engine; --context says how long "
            "sequences are"
        )
    return notes


def _disaggregation(words: list[str]) -> list[str]:
    """One note where a server hands its cache to another, or takes it from there."""
    text = " ".join(words)
    for pattern, side in load_flags()["sides"].items():
        if re.search(pattern, text):
            which = f"the one {side}" if side else "one that either prefills or decodes"
            return [
                f"disaggregated serving: this server is {which}; the numbers here are of servers "
                "that decode, and --isl with --osl says how many GPUs prefill for each of them"
            ]
    return []


_DRAFT_MODEL = re.compile(r"--speculative-draft(?:-model(?:-path)?)?[= ](\S+)")


def _has_own_head(words: list[str], model: str | None) -> bool:
    """Whether SGLang's EAGLE drafts by the model's own heads: without another model that drafts.

    So do the models that have such heads (`_handle_eagle_family`); others need that path.
    """
    path = _DRAFT_MODEL.search(" ".join(words).replace("_", "-"))
    return path is None or _drafts_by(path[1], (model or "").replace("_", "-")) == "mtp"


def _drafts_by(model: str | None, target: str | None) -> str | None:
    """Who drafts where vLLM is told a model and no method: n-grams ("[ngram]") or a head.

    A model that drafts for itself does so by its own heads, which may be files of their own too.

    Source: vLLM, config/speculative.py.
    """
    name = (model or "").strip("[]").lower()
    if (
        name == "ngram"
        or re.search("nextn|-mtp", name)
        or (name and name == (target or "").lower())
    ):
        return name if name == "ngram" else "mtp"
    return "eagle" if re.search("eagle-|eagle3", name) else None


def _speculation(
    said: dict[str, Any], engine: Engine, words: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """Who drafts how many tokens, and what a step runs; nothing where that is not known."""
    named = said.get("drafter") or _drafts_by(said.get("draft_model"), said.get("model"))
    verified = said.get("verified")
    if named is None and said.get("drafts") is None:
        return {}, []
    notes = []
    if engine == "sglang" and named == "eagle" and _has_own_head(words, said.get("model")):
        named = "mtp"
        notes.append("SGLang's EAGLE drafts by the model's own heads here: mtp")
    # vLLM names the head after its model too: `qwen3_5_mtp`, `mimo_mtp`.
    known = load_flags()["drafters"]
    drafter = known.get("mtp" if named and named.endswith("_mtp") else named or "")
    if drafter is None:
        model = said.get("draft_model")
        what = f"drafts of {model}" if model else "drafts of a model that is not named"
        what = f"a drafter {named!r}" if named else what
        return {}, [f"{what}: not read; all numbers are without speculation"]
    # SGLang takes three steps of a tree where nothing is said; the others one draft.
    drafts = said.get("drafts") or (3.0 if engine == "sglang" else 1.0)
    run = max(verified or 0.0, drafts + 1.0)
    return {"drafts": drafts, "drafter": drafter, "verified": run}, notes


def read(
    flags: str | Sequence[str], engine: Engine | None = None, is_moe: bool = True
) -> Deployment:
    """The deployment that engine flags describe.

    Args:
        flags: a command line or its words, with or without the program in front.
        engine: whose flags they are; told from the flags if None.
        is_moe: whether the model has experts: data parallelism means something else without.

    Raises:
        ValueError: with every unknown flag, bad value and contradiction.

    >>> d = read("vllm serve m --tensor-parallel-size 8 --data-parallel-size 4 "
    ...          "--enable-expert-parallel --decode-context-parallel-size 2")
    >>> d.tp, d.kvp, d.dp, d.ep, d.gpus
    (4.0, 2.0, 4.0, 32.0, 32.0)
    """
    engine = engine or engine_of(flags)
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known; give one of {', '.join(ENGINES)}")
    command = split(flags)
    parsed = parse(command.words, engine, command.files)
    said, meaning = parsed.said, _READERS[engine](parsed.said, is_moe)
    notes = [*meaning.pop("notes"), *_disaggregation(command.words), *command.notes]
    notes += _remarks(parsed)
    rules, named = load_flags(), said.get("quantization") or ""
    speculation, more = _speculation(said, engine, command.words)
    notes += more
    words = " ".join([*([flags] if isinstance(flags, str) else flags), *parsed.settings])
    return Deployment(
        pp=said.get("pp", 1.0),
        context=said.get("context"),
        usable_fraction=said.get("usable_fraction"),
        static_fraction=said.get("static_fraction"),
        free_fraction=said.get("free_fraction"),
        batched_tokens=said.get("batched_tokens"),
        bytes_kv=said.get("kv_dtype") or None,
        bytes_state=said.get("state_dtype") or said.get("states_dtype") or None,
        weights=(rules["dtype_of_weights"] | rules["loaders"]).get(named) or None,
        loader=named or None,
        model=said.get("model"),
        expert_kernels=said.get("expert_kernels"),
        engine=engine,
        release=stated(words, engine),
        overlapped=said.get("overlapped"),
        words=words,
        notes=tuple(notes),
        **speculation,
        **meaning,
    )
