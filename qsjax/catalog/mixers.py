"""Mixers of layers without softmax attention: which layers have them, what they weigh and keep.

Each function takes a config and the shape read so far, and returns the fields that it decides.
The rules are those of the `modeling_*.py` of each family in huggingface/transformers.
"""

import math
from collections.abc import Container, Iterable

from qsjax.catalog.layers import Shape, step_of
from qsjax.catalog.reading import Reading, number, numbers, texts
from qsjax.records.tables import table


def gated_delta_net(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen3-Next: parameters and state of a gated delta net, on all but every n-th layer.

    Projections to q, k, v and z, to the two gates of each value head, a short convolution over
    q, k and v, and the output. The state is one matrix a value head and the convolution's tail.
    """
    d, layers = shape["hidden"], shape["layers"]
    key_dim, value_dim = (number(reading, f"linear_{k}_head_dim") for k in ("key", "value"))
    keys, values = (number(reading, f"linear_num_{k}_heads") for k in ("key", "value"))
    kernel = number(reading, "linear_conv_kernel_dim", 4.0)
    channels = 2.0 * keys * key_dim + values * value_dim
    projections = d * (channels + values * value_dim) + d * 2.0 * values
    kinds = texts(reading, "layer_types")
    every = step_of(reading, "full_attention_interval", 4.0)
    return {
        "linear_layers": float(kinds.count("linear_attention"))
        if kinds
        else layers - layers // every,
        "linear_params": projections + channels * kernel + values * value_dim * d,
        "linear_state": values * key_dim * value_dim,
        "linear_tail": channels * (kernel - 1.0),
    }


def lightning(reading: Reading, shape: Shape) -> dict[str, float]:
    """MiniMax, Ring: lightning attention where `attn_type_list` is 0, or but in the last of groups.

    Its matrices are q, k, v, gate and output, its state one of the head dimension a head.
    """
    inner = shape["heads"] * shape["head_dim"]
    count = numbers(reading, "attn_type_list").count(0.0) + _last_of_groups(reading, shape, 1.0)
    count += texts(reading, "layer_types").count("linear_attention")
    if not count:
        return {}
    return {
        "linear_layers": float(count),
        "linear_params": 5.0 * shape["hidden"] * inner,
        "linear_state": inner * shape["head_dim"],
    }


_SOFTMAX = ("attention", "full_attention", "sliding_attention", "hybrid")


def _linear_layers(reading: Reading, shape: Shape, other: float) -> float:
    """Layers that a list of kinds does not call attention, or `other` without such a list."""
    kinds = texts(reading, "layer_types") or texts(reading, "layers_block_type")
    if not kinds:
        return other
    return float(sum(kind not in _SOFTMAX for kind in kinds))


def _first(*values: float) -> float:
    return next((value for value in values if value), 0.0)


def _mamba2(reading: Reading, shape: Shape) -> dict[str, float]:
    """A Mamba-2 mixer: one projection in, a short convolution over x, B and C, one out.

    Source: Dao and Gu, arXiv 2405.21060; the state is one matrix of `d_state` columns a head.
    """
    d = shape["hidden"]
    heads = number(reading, "mamba_n_heads|mamba_num_heads|n_mamba_heads|num_heads")
    expanded = d * number(reading, "mamba_expand|expand", 2.0)
    given = number(reading, "mamba_d_ssm", 0.0)
    names = ("mamba_d_head", "mamba_head_dim", "mamba_headdim")
    own_key = next((name for name in names if reading.config.get(name) is not None), "")
    if reading.config.get(own_key) in (None, "auto"):
        own = number(reading, "head_dim", 0.0) if "num_heads" in reading.config else 0.0
        inner = _first(given, heads * own, expanded)
    else:
        inner = _first(given, heads * number(reading, own_key))
    groups = number(reading, "mamba_n_groups|mamba_ngroups|n_groups", 1.0)
    state = number(reading, "mamba_d_state|ssm_state_size|state_size")
    kernel = number(reading, "mamba_d_conv|conv_kernel", 4.0)
    channels = inner + 2.0 * groups * state
    return {
        "linear_params": d * (inner + channels + heads) + channels * kernel + inner * d,
        "linear_state": inner * state,
        "linear_tail": channels * (kernel - 1.0),
    }


def _mamba1(reading: Reading, shape: Shape, width: float = 0.0) -> dict[str, float]:
    """A Mamba mixer: projections in and out, of x to dt, B and C, of dt, and the matrix A.

    Source: Gu and Dao, arXiv 2312.00752. `width`: as a config states it beside its ratio.
    """
    d = shape["hidden"]
    inner = width or d * number(reading, "mamba_expand|expand", 2.0)
    state = number(reading, "mamba_d_state|state_size", 16.0)
    kernel = number(reading, "mamba_d_conv|conv_kernel", 4.0)
    key = "mamba_dt_rank" if "mamba_dt_rank" in reading.config else "time_step_rank"
    is_auto = reading.config.get(key) in (None, "auto")
    rank = float(math.ceil(d / 16)) if is_auto else number(reading, key)
    selection = inner * (rank + 2.0 * state) + rank * inner + inner * state
    return {
        "linear_params": 2.0 * d * inner + selection + inner * kernel + inner * d,
        "linear_state": inner * state,
        "linear_tail": inner * (kernel - 1.0),
    }


def mamba2_but_attention(reading: Reading, shape: Shape) -> dict[str, float]:
    """Bamba, Granite 4: Mamba-2 but in the layers that are listed as attention."""
    listed = numbers(reading, "attn_layer_indices")
    count = _linear_layers(reading, shape, shape["layers"] - len(listed))
    return {"linear_layers": count} | (_mamba2(reading, shape) if count else {})


def mamba2_where_listed(reading: Reading, shape: Shape) -> dict[str, float]:
    """Granite 4: attention in every layer that `layer_types` does not call Mamba."""
    count = _linear_layers(reading, shape, 0.0)
    return {"linear_layers": count} | _mamba2(reading, shape) if count else {}


def mamba2_beside_attention(reading: Reading, shape: Shape) -> dict[str, float]:
    """Falcon-H1: both mixers in every layer, which count as two layers with one network."""
    layers = shape["layers"]
    both = {"layers": 2.0 * layers, "linear_layers": layers, "bare_layers": layers}
    return both | _mamba2(reading, shape)


def _no_networks(shape: Shape) -> dict[str, float]:
    """Every layer is a mixer without a network."""
    return {"linear_layers": shape["layers"], "bare_layers": shape["layers"], "expert_ff": 0.0}


def mamba_only(reading: Reading, shape: Shape) -> dict[str, float]:
    """Mamba, Falcon-Mamba: mixers and no networks.

    The configs of Falcon-Mamba state `expand` 16 beside the width that its tensors have.
    """
    width = number(reading, "intermediate_size", 0.0)
    return _no_networks(shape) | _mamba1(reading, shape, width)


def mamba2_only(reading: Reading, shape: Shape) -> dict[str, float]:
    """Mamba-2 models: mixers and no networks."""
    return _no_networks(shape) | _mamba2(reading, shape)


def shared_transformer(reading: Reading, shape: Shape) -> dict[str, float]:
    """Zamba: Mamba in all layers, and before some a transformer block that these have in common.

    The block sees the hidden state beside the embedding, so that its projections are twice as wide
    as the model. Zamba 2 has two blocks in turn, Mamba-2, and adapters of low rank in every place.
    """
    d, layers, ff = shape["hidden"], shape["layers"], shape["expert_ff"]
    wide, kv = (shape[name] * shape["head_dim"] for name in ("heads", "kv_heads"))
    kinds = texts(reading, "layer_types") or texts(reading, "layers_block_type")
    listed = float(len(numbers(reading, "hybrid_layer_ids")))
    places = float(kinds.count("hybrid")) if kinds else listed
    if not places:
        reading.problems.append('"layers_block_type" names no "hybrid" layer')
        return {}
    is_second = reading.config.get("model_type") == "zamba2"
    rank = number(reading, "adapter_rank", 128.0) if is_second else 0.0
    adapters = rank * (d + 2.0 * ff)
    if number(reading, "use_shared_attention_adapter", 0.0):
        adapters += 12.0 * d * rank
    # Queries, keys and values of 2 d, of which the other laws know d.
    block = 3.0 * d * wide + 4.0 * d * kv + 3.0 * d * ff
    return {
        "layers": layers + places,
        "linear_layers": layers,
        "bare_layers": layers,
        "attn_extra_params": d * wide + 2.0 * d * kv + d * d + adapters,
        "repeated_params": max(0.0, places - number(reading, "num_mem_blocks", 1.0)) * block,
        **(_mamba2 if is_second else _mamba1)(reading, shape),
    }


def _every(layers: float, period: float, offset: float) -> float:
    """How many of the layers are `offset` beyond a multiple of `period`."""
    return max(0.0, math.ceil((layers - offset) / period))


def jamba(reading: Reading, shape: Shape) -> dict[str, float]:
    """Jamba: attention and experts each in layers of a period, Mamba in the others."""
    layers = shape["layers"]
    softmax = _every(
        layers,
        step_of(reading, "attn_layer_period", 8.0),
        number(reading, "attn_layer_offset", 4.0),
    )
    routed = _every(
        layers,
        step_of(reading, "expert_layer_period", 2.0),
        number(reading, "expert_layer_offset", 1.0),
    )
    dense = layers - routed if shape["experts"] > 1 else 0.0
    kinds = {"linear_layers": layers - softmax, "dense_layers": dense}
    return kinds | {"dense_ff": shape["expert_ff"] if dense else 0.0} | _mamba1(reading, shape)


# Layers that are looked at one by one.
_MOST = 1024.0
# A letter or a name of Nemotron-H's blocks, each of which is a mixer or a network.
_BLOCKS = {
    name: kind for kind, x in table("catalog/families.toml")["blocks"].items() for name in x.split()
}


def _pattern(reading: Reading) -> list[str]:
    pattern = reading.config.get("hybrid_override_pattern")
    return list(pattern) if isinstance(pattern, str) else texts(reading, "layers_block_type")


def _places(kinds: Iterable[str], wanted: Container[str]) -> list[int]:
    return [at for at, kind in enumerate(kinds) if kind in wanted]


def blocks_of(reading: Reading, shape: Shape) -> dict[str, list[int]]:
    """Which blocks of a config have softmax attention, a linear mixer, experts, a dense network.

    Tables of quantised modules count blocks as the config does. A kind whose blocks the config does
    not tell is left out.
    """
    config = reading.config
    kinds = [_BLOCKS.get(block, "") for block in _pattern(reading)]
    if {"routed", "dense"} & set(kinds):
        return {kind: _places(kinds, [kind]) for kind in kinds}
    if config.get("num_hidden_layers") != shape["layers"] or shape["layers"] > _MOST:
        return {}
    layers = int(shape["layers"])
    return _mixers_of(reading, shape, layers) | _networks_of(reading, shape, layers)


def _mixers_of(reading: Reading, shape: Shape, layers: int) -> dict[str, list[int]]:
    mixers = texts(reading, "layer_types")
    if not shape.get("linear_layers"):
        return {"softmax": [*range(layers)]}
    if len(mixers) != layers:
        return {}
    softmax = _places(mixers, _SOFTMAX)
    return {"softmax": softmax, "linear": sorted({*range(layers)} - {*softmax})}


def _networks_of(reading: Reading, shape: Shape, layers: int) -> dict[str, list[int]]:
    is_dense = shape.get("experts", 1.0) <= 1
    count = layers if is_dense else int(shape.get("dense_layers", 0.0))
    first = (reading.config.get(key) for key in ("first_k_dense_replace", "num_dense_layers"))
    networks = texts(reading, "mlp_layer_types")
    if networks and not is_dense:
        dense = _places(networks, ["dense"])
    elif is_dense or not count or count in first:
        dense = [*range(count)]
    else:
        return {}
    return {"dense": dense, "routed": sorted({*range(layers)} - {*dense})}


def nemotron_h(reading: Reading, shape: Shape) -> dict[str, float]:
    """Nemotron-H and Nemotron 3: mixers are the layers, networks are shared out among them."""
    named = _pattern(reading)
    unknown = sorted({block for block in named if block not in _BLOCKS})
    if unknown or not named:
        given = ", ".join(unknown) or "missing"
        reading.problems.append(f'"hybrid_override_pattern": {given}; known: M, *, - and E')
        return {}
    kinds = [_BLOCKS[block] for block in named]
    mamba, routed, dense = (float(kinds.count(kind)) for kind in ("linear", "routed", "dense"))
    mixers = mamba + kinds.count("softmax")
    found = {"layers": mixers, "linear_layers": mamba}
    if routed + dense > mixers:
        reading.problems.append('"hybrid_override_pattern" has more networks than mixers')
    if routed:
        width = number(reading, "moe_intermediate_size")
        found |= {
            "experts": number(reading, "n_routed_experts"),
            "top_k": number(reading, "num_experts_per_tok"),
            "expert_ff": width,
            "shared_experts": number(reading, "n_shared_experts", 0.0),
            "shared_ff": number(reading, "moe_shared_expert_intermediate_size", width),
            "dense_layers": dense,
            "dense_ff": shape["expert_ff"] if dense else 0.0,
        }
    found["bare_layers"] = mixers - routed - dense
    return found | (_mamba2(reading, shape) if mamba else {})


def _delta_attention(reading: Reading, shape: Shape, gates: float) -> dict[str, float]:
    """Kimi delta attention: q, k, v with a short convolution, decay, beta, output gate, output.

    Decay and output gate are of low rank, but for `gates` of them that are whole. The state is one
    matrix a head. Source: Kimi Linear, arXiv 2510.26692.
    """
    d = shape["hidden"]
    heads = number(reading, "linear_num_heads|linear_attn_config.num_heads", shape["heads"])
    width = number(reading, "linear_head_dim|linear_attn_config.head_dim", 128.0)
    names = "linear_conv_kernel_dim|linear_attn_config.short_conv_kernel_size"
    kernel = number(reading, f"{names}|short_conv_kernel_size", 4.0)
    inner = heads * width
    low_rank = width * (d + inner)
    return {
        "linear_params": 4.0 * d * inner
        + 3.0 * inner * kernel
        + d * heads
        + gates * d * inner
        + (2.0 - gates) * low_rank,
        "linear_state": inner * width,
        "linear_tail": 3.0 * inner * (kernel - 1.0),
    }


def kimi_linear(reading: Reading, shape: Shape) -> dict[str, float]:
    """Kimi Linear and K3: delta attention where listed, softmax attention perhaps with a gate.

    Source of K3's keys: its config and the shapes of its weights, moonshotai/Kimi-K3.
    """
    listed = float(len(numbers(reading, "linear_attn_config.kda_layers")))
    if not listed and (softmax := numbers(reading, "linear_attn_config.full_attn_layers")):
        listed = shape["layers"] - len(softmax)
    count = _linear_layers(reading, shape, listed)
    whole = number(reading, "linear_attn_config.use_full_rank_gate", 0.0)
    gate = number(reading, "mla_use_output_gate", 0.0) * shape["heads"] * shape["v_head_dim"]
    found = {"linear_layers": count, "attn_extra_params": shape["hidden"] * gate}
    return found | _delta_attention(reading, shape, whole)


def deltas_beside_grouped(reading: Reading, shape: Shape) -> dict[str, float]:
    """Solar Open 2: delta attention but in layers of grouped attention, whose output has a gate.

    Those are listed, or the first of every `gqa_interval` + 1.
    Source: vLLM, models/solar_open2.py and transformers_utils/configs/solar_open2.py.
    """
    listed = len(numbers(reading, "gqa_layers"))
    softmax = listed or math.ceil(shape["layers"] / (1.0 + step_of(reading, "gqa_interval", 3.0)))
    count = _linear_layers(reading, shape, shape["layers"] - softmax)
    gate = number(reading, "use_gqa_gate", 1.0) * shape["heads"] * shape["head_dim"]
    whole = 2.0 * number(reading, "kda_use_full_proj", 0.0)
    found = {"linear_layers": count, "attn_extra_params": shape["hidden"] * gate}
    return found | _delta_attention(reading, shape, whole)


def deltas_beside_latents(reading: Reading, shape: Shape) -> dict[str, float]:
    """GigaChat 3.5: gated delta nets but in layers of latent attention, whose output has a gate.

    Source: vLLM, models/gigachat3_5.py. The gates of its norms (0.01 % of all) are left out.
    """
    gate = number(reading, "gated_attention", 1.0) * shape["heads"] * shape["v_head_dim"]
    found = {"attn_extra_params": shape["hidden"] * gate}
    if reading.config.get("linear_attention_type", "") is None:
        return found
    listed = len(numbers(reading, "full_attention_layers"))
    count = _linear_layers(reading, shape, shape["layers"] - listed)
    return gated_delta_net(reading, shape) | found | {"linear_layers": count}


def _last_of_groups(reading: Reading, shape: Shape, default: float) -> float:
    """Layers but the last of every group and those beyond the last whole group."""
    layers, group = shape["layers"], step_of(reading, "layer_group_size", default)
    return layers - layers // group - layers % group


def bailing_hybrid(reading: Reading, shape: Shape) -> dict[str, float]:
    """Ling 2.6 and 3.0: delta attention, and softmax attention with a gate a head, by groups."""
    count = _linear_layers(reading, shape, _last_of_groups(reading, shape, 6.0))
    gate = {"attn_extra_params": shape["hidden"] * shape["heads"]}
    whole = 2.0 * number(reading, "no_kda_lora", 1.0)
    return {"linear_layers": count} | gate | _delta_attention(reading, shape, whole)


def lightning_but_last(reading: Reading, shape: Shape) -> dict[str, float]:
    """Ling 2.5: lightning attention, and latent attention, by groups of layers.

    Its matrices are q, k and v, gate and output.
    Source: inclusionAI/Ring-V2.5, models/modeling_bailing_moe_v2_5.py.
    """
    heads, width = shape["heads"], number(reading, "head_dim", shape["hidden"] / shape["heads"])
    kv = number(reading, "num_key_value_heads", heads)
    return {
        "linear_layers": _last_of_groups(reading, shape, 1.0),
        "linear_params": shape["hidden"] * width * (3.0 * heads + 2.0 * kv),
        "linear_state": heads * width * width,
    }


def short_convolution(reading: Reading, shape: Shape) -> dict[str, float]:
    """LFM2: gated short convolutions but where attention is listed; none without a list."""
    d, kernel = shape["hidden"], number(reading, "conv_L_cache", 3.0)
    listed = len(numbers(reading, "full_attn_idxs"))
    other = shape["layers"] - listed if "full_attn_idxs" in reading.config else 0.0
    count = _linear_layers(reading, shape, other)
    if not count:
        return {}
    return {
        "linear_layers": count,
        "linear_params": 4.0 * d * d + d * kernel,
        "linear_tail": d * (kernel - 1.0),
    }


def cross_attention(reading: Reading, shape: Shape) -> dict[str, float]:
    """Llama 3.2 Vision: some layers attend an image alone; for text they keep nothing."""
    listed = numbers(reading, "cross_attention_layers")
    inner = (shape["heads"] + shape["kv_heads"]) * shape["head_dim"]
    return {"linear_layers": float(len(listed)), "linear_params": 2.0 * shape["hidden"] * inner}
