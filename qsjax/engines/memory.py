"""What an engine leaves for weights and cache, by the rules of that engine (engines.toml)."""

import dataclasses
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from qsjax import catalog
from qsjax.cost.laws import params
from qsjax.cost.laws.memory import kv_bytes_per_sequence, weights_bytes
from qsjax.cost.laws.sharding import layout
from qsjax.engines import releases
from qsjax.engines.operating_point import OperatingPoint
from qsjax.engines.rules import ENGINES, load_engines
from qsjax.engines.schedulers import Scheduler, default_scheduler
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.fields import numbers_of
from qsjax.records.specs import PHYSICAL, ModelSpec, Partition, Workload
from qsjax.records.units import GB, GIB

Facts = Mapping[str, float]
# A batch that is published is one in flight, of which a few may wait: two of InferenceX's decode
# servers had up to 1.04 times what fits.
_NEARLY_FULL = 1.1


def release_of(record: Mapping[str, Any]) -> str:
    """Which of vLLM's engines a record speaks of: "v0", "v1_optional" or "v1".

    By the version, else by the number of the issue or pull request that is the source.
    """
    version, issue = releases.version(record), releases.issue(record)
    if version is not None:
        is_old = version < (0, 8)
    else:
        is_old = issue is not None and issue < load_engines()["vllm"]["v0"]["first_default_issue"]
    # "V0" names an engine, "V0.11" a version.
    named = re.findall(r"\bV([01])\b(?!\.\d)", str(record.get("engine") or ""))
    if "0" in named or (is_old and "1" not in named):
        return "v0"
    return "v1_optional" if is_old else "v1"


def _floats(record: ModelSpec | Partition) -> dict[str, float]:
    return {n: float(value) for n, value in numbers_of(record).items() if value is not None}


def unquantised_bytes(one: OperatingPoint) -> float:
    """What quantised checkpoints hold besides the sizes of the cost law [B].

    The router stays in 16 bits, and engines hold the up-projections of latent attention a second
    time, absorbed, in BF16.

    Source: `exclude_modules` of nvidia/DeepSeek-V3-0324-NVFP4 (mlp.gate), and the 21.21 GiB of
    https://github.com/vllm-project/vllm/pull/14447.
    """
    model, part = _floats(one.model), _floats(one.partition)
    softmax = model["layers"] - model["linear_layers"]
    width = model["kv_latent"] * model["heads"] * (model["qk_nope_dim"] + model["v_head_dim"])
    router = scalar(on_host(params.router_params)(one.model))
    missing = max(0.0, 2.0 - scalar(one.workload.bytes_ffn_weight))
    ranks = part["tp"] * (part["kvp"] if one.partition.gathers_queries else 1.0)
    return (2.0 * softmax * width / ranks + missing * router) / part["pp"]


def forward_bytes(one: OperatingPoint, tokens: float) -> float:
    """Peak of the activations of a forward pass [B].

    The residual stream, its copy and the input of a layer beside the widest intermediate: gate, up
    and their product in a dense layer; in one with experts, the copies of the tokens or the gate
    and up that replace them, and their product. Checked against vLLM's log for Llama 3.1 8B, 110.6
    kB a token (https://github.com/vllm-project/vllm/issues/10517: 0.92 GiB for 9,000 tokens).
    """
    model, part = _floats(one.model), _floats(one.partition)
    stage = part["dp"] * part["kvp"] * part["tp"]
    split, expert_split = part["kvp"] * part["tp"], max(1.0, stage / part["ep"])
    hidden, expert = model["hidden"], model["expert_ff"] / expert_split
    widths = [3.0 * model["dense_ff"] / split]
    if model["experts"] > 1:
        widths.append(model["top_k"] * (max(2.0 * expert, hidden) + expert))
    else:
        widths.append(3.0 * model["expert_ff"] / split)
    return tokens * scalar(one.workload.bytes_act) * (3.0 * hidden + max(widths))


def _whole_prompt(one: OperatingPoint, facts: Facts, room: float, per_token: float) -> float:
    """Longest prompt that vLLM's first engine profiles whole [tokens]; 0 where it runs in chunks.

    Without a stated length it is the model's own, which turns chunks on above a limit. A cache that
    cannot hold it refuses to start, so that the length must have been cut to the limit or below.
    """
    limit = float(load_engines()["vllm"]["v0"]["chunked_above"])
    longest = float(catalog.model_entry(one.model_name).max_context)
    if longest > limit and longest * per_token > room:
        longest = limit
    longest = facts.get("max_model_len", longest)
    return longest if longest <= limit else 0.0


def _vllm_peak(one: OperatingPoint, facts: Facts, room: float, per_token: float) -> float:
    """Larger of vLLM's profiled peaks: forward pass and sampler [B]; `room` beside weights."""
    rules = load_engines()["vllm"]
    own = rules[one.release or "v1"]
    is_large = _total(one, facts)[0] >= rules["large"] * GIB
    is_large = is_large and not one.hardware_name.startswith("a100")
    suffix = "_large" if is_large and "tokens_large" in own else ""
    tokens, sequences = own[f"tokens{suffix}"], own.get(f"sequences{suffix}", 0.0)
    if one.release == "v0":
        whole = _whole_prompt(one, facts, room, per_token)
        tokens = max(tokens, whole) if whole else own["chunk"]
    tokens = facts.get("max_batched_tokens", tokens)
    rows = facts.get("max_sequences", sequences or tokens)
    logits = rows * scalar(one.model.vocab) * own.get("logit_bytes", rules["logit_bytes"])
    return float(max(forward_bytes(one, tokens), logits))


def _vllm_share(one: OperatingPoint, facts: Facts) -> tuple[float, float]:
    """vLLM's share of the memory, and what of it its context and communicators take [B]."""
    stated = facts.get("memory_utilisation", load_engines()["vllm"]["utilisation"])
    share = float(stated) * _total(one, facts)[1]
    usable = facts["usable_gib"] * GIB if "usable_gib" in facts else share
    return usable, facts.get("non_torch_gib", _taken(one) / GIB) * GIB


def vllm_kept(one: OperatingPoint, facts: Facts, weights: float) -> float:
    """What vLLM's share holds besides weights and cache: context, communicators, peak [B]."""
    usable, taken = _vllm_share(one, facts)
    return taken + _vllm_peak(one, facts, usable - taken - weights, 0.0)


def visible_bytes(capacity: float) -> float:
    """What CUDA reports of a capacity [B], of which vLLM's --gpu-memory-utilization is a share."""
    return float(load_engines()["shared"]["visible_share"]) * capacity


def _sglang_fraction(one: OperatingPoint, capacity: float) -> float:
    """SGLang's own share of the memory for weights and cache [1]."""
    rules, part = load_engines()["sglang"], _floats(one.partition)
    ranks = part["dp"] * part["kvp"] * part["tp"] * part["pp"]
    steps = zip(rules["reserve_below"], rules["reserve"], rules["reserve_per_rank"], strict=True)
    reserve = next(
        (base + each * ranks for below, base, each in steps if capacity < below * GIB),
        rules["reserve_above"],
    )
    reserve += rules["reserve_attention_dp"] * (part["dp"] > 1)
    reserve += rules["reserve_draft"] * (scalar(one.workload.query_tokens) > 1)
    return float(1.0 - reserve * GIB / capacity)


def _total(one: OperatingPoint, facts: Facts) -> tuple[float, float]:
    """Capacity, and what of it CUDA reports [B]: as the record states them, or the catalogue's."""
    capacity = scalar(one.hardware.hbm_bytes)
    if "memory_gib" in facts:
        return (facts["memory_gib"] * GIB,) * 2
    if "memory_gb" in facts:
        return (facts["memory_gb"] * GB,) * 2
    return capacity, visible_bytes(capacity)


def _taken(one: OperatingPoint) -> float:
    """CUDA context and communicators [B]."""
    engines, part = load_engines(), _floats(one.partition)
    release = engines["vllm"].get(one.release, {}) if one.release else {}
    context = float(release.get("context", engines["shared"]["context"]))
    return _held(context, part["dp"] * part["kvp"] * part["tp"] * part["pp"])


def _held(context: float, ranks: float) -> float:
    """What a process holds before the engine's own memory [B]; `context` in GiB."""
    communicators = float(load_engines()["shared"]["communicators"]) if ranks > 1 else 0.0
    return (context + communicators) * GIB


def static_base(capacity: float, ranks: float) -> float:
    """What SGLang's --mem-fraction-static is a share of: HBM that is free at its start [B].

    The share holds weights and cache alone; vLLM's holds the engine's own buffers too.

    Args:
        capacity: HBM of an accelerator [B].
        ranks: accelerators that work together.
    """
    return visible_bytes(capacity) - _held(load_engines()["shared"]["context"], ranks)


def trtllm_free(one: OperatingPoint, facts: Facts, weights: float) -> float:
    """What TensorRT-LLM finds free beside weights and a forward pass [B]: its share is of this."""
    tokens = facts.get("max_batched_tokens", load_engines()["trtllm"]["tokens"])
    return _total(one, facts)[1] - weights - _taken(one) - forward_bytes(one, tokens)


def usable_bytes(one: OperatingPoint, facts: Facts, weights: float, per_token: float) -> float:
    """HBM for weights and cache [B], by the rules of the engine.

    Args:
        one: the deployment; an engine that is not stated counts as vLLM.
        facts: what the record states: `memory_utilisation` (vLLM's share of all memory, SGLang's
            and TensorRT-LLM's of theirs), `static_fraction`, sizes, limits of a batch.
        weights: resident weights [B].
        per_token: cache of a token [B].
    """
    capacity, visible = _total(one, facts)
    taken, stated = _taken(one), facts.get("memory_utilisation")
    if "static_fraction" in facts or one.engine == "sglang":
        own = _sglang_fraction(one, capacity) if stated is None else stated
        return facts.get("static_fraction", own) * (visible - taken)
    if one.engine == "trtllm":
        free = trtllm_free(one, facts, weights)
        fraction = float(load_engines()["trtllm"]["fraction"] if stated is None else stated)
        return weights + min(fraction * free, free)  # of weights that do not fit none is left
    usable, taken = _vllm_share(one, facts)
    if "peak_gib" in facts:
        return usable - facts["peak_gib"] * GIB - taken + weights
    if "activation_gib" in facts:
        return usable - facts["activation_gib"] * GIB - taken
    return usable - taken - _vllm_peak(one, facts, usable - taken - weights, per_token)


@on_host
def _sizes(model: ModelSpec, part: Partition, work: Workload) -> tuple[Array, Array]:
    weights = weights_bytes(model, part, work, layout(model, part, PHYSICAL))
    return weights, kv_bytes_per_sequence(model, part, work, PHYSICAL)


@lru_cache(maxsize=8192)  # several rules ask for those of one deployment
def sizes(model: ModelSpec, part: Partition, work: Workload) -> tuple[float, float]:
    """Weights of a GPU, and the cache of a sequence of the mean context [B]."""
    weights, cache = _sizes(model, part, work)
    return scalar(weights), scalar(cache)


def too_heavy(one: OperatingPoint, facts: Facts) -> str:
    """Why the weights cannot be on the GPUs of a deployment; "" where they can."""
    weights = sizes(one.model, one.partition, one.workload)[0]
    capacity, visible = _total(one, facts)
    if weights <= visible - _taken(one):
        return ""
    return (
        f"weights of {weights / GB:.1f} GB do not fit in the {capacity / GB:.1f} GB of each GPU "
        "beside what its driver takes: the degrees, the format or the accelerator are others"
    )


def too_full(one: OperatingPoint, facts: Facts) -> str:
    """Why so many sequences cannot decode at once, each with its prompt; "" where they can."""
    weights, cache = sizes(one.model, one.partition, one.workload)
    batch, context = scalar(one.workload.batch), scalar(one.workload.context)  # type: ignore[arg-type]
    left = _total(one, facts)[1] - _taken(one) - weights
    held = batch * cache * (one.prompt or context) / context
    if held <= _NEARLY_FULL * left:
        return ""
    return (
        f"a batch of {batch:,.0f} holds {held / GB:,.1f} GB of cache on each GPU, and beside the "
        f"weights {left / GB:.1f} GB are left: the batch, the degrees or the accelerator are others"
    )


def running(one: OperatingPoint, facts: Facts) -> float:
    """Sequences of a replica that run at once: those asked for, as far as the engine holds them.

    Others wait, which their time per output token does not show. Where not even one has room, the
    rules of the engine take too much for its own buffers, and what its share leaves beside the
    weights bounds them, as all that is left does where it has no rules. The number asked for stands
    where that holds none either.
    """
    asked = scalar(one.workload.batch)  # type: ignore[arg-type]  # given
    free, cache = _free(one, facts)
    beside = _beside_weights(one, facts)
    has_rules = one.engine in ("vllm", "sglang", "trtllm")
    for left in (free, beside) if has_rules else (beside,):
        room = min(_room(one, left, cache), limit(one, facts, left))
        if room >= 1.0:
            return min(asked, room)
    return asked


def _beside_weights(one: OperatingPoint, facts: Facts) -> float:
    """What vLLM's share of the memory, or all of it, leaves beside weights and context [B]."""
    share, taken = _vllm_share(one, facts) if one.engine == "vllm" else (math.inf, _taken(one))
    weights = sizes(one.model, one.partition, one.workload)[0] + unquantised_bytes(one)
    return min(share, _total(one, facts)[1]) - taken - weights


def _free(one: OperatingPoint, facts: Facts) -> tuple[float, float]:
    """What an engine leaves for caches, and the cache of a sequence of the mean context [B]."""
    weights, cache = sizes(one.model, one.partition, one.workload)
    weights += unquantised_bytes(one)
    context = scalar(one.workload.context)
    return usable_bytes(one, facts, weights, cache / context) - weights, cache


def _room(one: OperatingPoint, free: float, cache: float) -> float:
    """Sequences that the cache holds, of what is `_free`.

    Each has its mean context, under TensorRT-LLM room for its whole answer (GUARANTEED_NO_EVICT,
    `schedulers.toml`).
    """
    context = scalar(one.workload.context)
    if pool := _pool(one):
        free, cache = free * (1.0 - scalar(pool.state_share)), cache - _state_bytes(one)
    longest = one.prompt + one.output if one.engine == "trtllm" else context
    return free * context / (cache * longest)


def limit(one: OperatingPoint, facts: Facts, free: float, *, drafts: bool = False) -> float:
    """Sequences of a replica that its engine runs at most, by a flag or without one.

    A limit of SGLang is one of the server, which attention replicas share; its pool of recurrent
    states is another limit.

    Args:
        one: the deployment.
        facts: what is stated of it: `max_sequences`; `scripted` where a script sets the number.
        free: what the engine leaves for caches [B].
        drafts: whether it speculates, if the workload does not say so.
    """
    rules = load_engines()["sglang"]["running"]
    most = of_server = facts.get("max_sequences", math.inf)
    if one.engine in ENGINES and not facts.keys() & {"max_sequences", "scripted"}:
        capacity = scalar(one.hardware.hbm_bytes)
        most = scalar(default_scheduler(one.engine, capacity, one.hardware_name).sequences)
        own = (n for family, n in rules["families"].items() if one.model_name.startswith(family))
        of_server = next(own, math.inf)
        if drafts or scalar(one.workload.query_tokens) > 1:
            of_server = min(of_server, rules["speculating"])
    if one.engine != "sglang":
        return most
    if math.isfinite(of_server):
        replicas = scalar(one.partition.dp) if one.model.is_moe else 1.0
        most = math.floor(of_server / replicas)
    if pool := _pool(one):
        # Without a cache of prefixes a request holds one state.
        slots = scalar(pool.state_slots) if facts.get("prefix_cache", 1.0) else 1.0
        room = free * scalar(pool.state_share)
        most = min(most, math.floor(room / (slots * _state_bytes(one))))
    return most


def _pool(one: OperatingPoint) -> Scheduler | None:
    """The rules by which SGLang keeps recurrent states in a pool of their own; None without one."""
    if one.engine != "sglang" or scalar(one.model.linear_layers) == 0:
        return None
    return default_scheduler("sglang", scalar(one.hardware.hbm_bytes), one.hardware_name)


def _state_bytes(one: OperatingPoint) -> float:
    """Recurrent states of a sequence [B]."""
    empty = dataclasses.replace(one.workload, context=0.0)
    return sizes(one.model, one.partition, empty)[1]
