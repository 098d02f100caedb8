"""Which layers of a Hugging Face model are which, and what their special layers weigh.

Each function takes a config and the shape read so far, and returns the fields that it decides.
The rules are those of the `modeling_*.py` of each family in huggingface/transformers.
"""

import math
from collections.abc import Callable, Mapping

from qsjax.catalog.reading import Reading, number, numbers, texts, value_at

Shape = Mapping[str, float]
Part = Callable[[Reading, Shape], dict[str, float]]


def other_layers(reading: Reading) -> Reading:
    """What transformers 5 says of the layers that differ from the others: they are of one kind."""
    changed = reading.config.get("per_layer_config")
    first = next(iter(changed.values()), None) if isinstance(changed, Mapping) else None
    own = first if isinstance(first, Mapping) else {}
    return Reading(config=own, problems=reading.problems, keys={})


def step_of(reading: Reading, name: str, default: float) -> float:
    """A number of layers to step by; one that cannot be is a problem, and 1 stands in."""
    step = number(reading, name, default)
    if step < 1 or step != int(step):
        reading.problems.append(f'"{name}" is {step:g}; give a whole number of at least 1')
        return 1.0
    return step


def _listed_dense(reading: Reading) -> float | None:
    """Dense layers in the list of kinds that transformers 5 writes, or K-EXAONE; None without."""
    kinds = [float(kind != "dense") for kind in texts(reading, "mlp_layer_types")]
    is_routed = kinds or numbers(reading, "is_moe_layer")
    return float(is_routed.count(0.0)) if is_routed else None


def first_layers_dense(reading: Reading, shape: Shape) -> dict[str, float]:
    """DeepSeek, Kimi, GLM: the first layers are dense, then every `moe_layer_freq`-th is routed."""
    if (listed := _listed_dense(reading)) is not None:
        return {"dense_layers": listed}
    layers = shape["layers"]
    first = min(layers, max(0.0, number(reading, "first_k_dense_replace", 0.0)))
    step = step_of(reading, "moe_layer_freq", 1.0)
    routed = math.ceil(layers / step) - math.ceil(first / step)
    return {"dense_layers": layers - routed}


def sparse_step(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen: every `decoder_sparse_step`-th layer is routed unless `mlp_only_layers` lists it."""
    step = step_of(reading, "decoder_sparse_step", 1.0)
    dense, layers = set(numbers(reading, "mlp_only_layers")), shape["layers"]
    listed = sum(1 for i in dense if 0 <= i < layers and (i + 1) % step == 0)
    return {"dense_layers": layers - (layers // step - listed)}


def interleaved(reading: Reading, shape: Shape) -> dict[str, float]:
    """Llama 4: the last of every `interleave_moe_layer_step` layers is routed, if any is."""
    if not shape["experts"]:
        return {}
    step = step_of(reading, "interleave_moe_layer_step", 1.0)
    return {"dense_layers": shape["layers"] - shape["layers"] // step}


def listed_as_routed(reading: Reading, shape: Shape) -> dict[str, float]:
    """MiMo: `moe_layer_freq` has 1 for every routed layer; transformers 5 lists the kinds."""
    flags, listed = numbers(reading, "moe_layer_freq"), _listed_dense(reading)
    if listed is None and not flags:
        reading.problems.append('missing "moe_layer_freq", which says what layers are routed')
    return {"dense_layers": shape["layers"] - sum(flags) if listed is None else listed}


def between(reading: Reading, shape: Shape) -> dict[str, float]:
    """ERNIE 4.5: every `moe_layer_interval`-th layer from a first to a last one is routed."""
    if (listed := _listed_dense(reading)) is not None:
        return {"dense_layers": listed}
    last = shape["layers"] - 1.0
    first, end = (f"moe_layer_{at}_index.0|moe_layer_{at}_index" for at in ("start", "end"))
    start = number(reading, first, 0.0)
    is_last = reading.config.get("moe_layer_end_index") in (None, -1)
    stop = last if is_last else min(last, number(reading, end))
    step = step_of(reading, "moe_layer_interval", 1.0)
    # Of the layers i with (i + 1) a multiple of the step.
    routed = (stop + 1.0) // step - start // step if stop >= start else 0.0
    return {"dense_layers": shape["layers"] - routed}


def one_shared_expert(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen: one shared expert where its width is given."""
    return {"shared_experts": 1.0 if shape["shared_ff"] > 0 else 0.0}


def one_shared_of_all(reading: Reading, shape: Shape) -> dict[str, float]:
    """Granite: one shared expert of its own width; without experts it is the network itself."""
    width = number(reading, "shared_intermediate_size", 0.0)
    if shape["experts"] > 0:
        return {"shared_experts": 1.0 if width else 0.0, "shared_ff": width}
    return {"experts": 1.0, "top_k": 1.0, "expert_ff": width}


def _windows(reading: Reading, shape: Shape, count: float, key: str) -> dict[str, float]:
    """`count` windowed layers, or as many as `layer_types` lists; none if it is no limit."""
    window = number(reading, key, 0.0)
    context = number(reading, "max_position_embeddings", float("inf"))
    kinds = texts(reading, "layer_types")
    if kinds:
        count = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
    if window == 0 or window >= context:
        return {}
    return {"window_layers": float(count), "window": window}


def window_everywhere(reading: Reading, shape: Shape) -> dict[str, float]:
    """Mistral, Phi: every layer has the window, if there is one."""
    return _windows(reading, shape, shape["layers"], "sliding_window")


def window_from_a_layer_on(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen: layers from `max_window_layers` on have the window, if `use_sliding_window`."""
    if not number(reading, "use_sliding_window", 0.0):
        return {}
    full = number(reading, "max_window_layers", 0.0)
    return _windows(reading, shape, max(0.0, shape["layers"] - full), "sliding_window")


def window_every_other(reading: Reading, shape: Shape) -> dict[str, float]:
    """Gemma 2, gpt-oss: layers 0, 2, 4, ... have the window."""
    return _windows(reading, shape, shape["layers"] - shape["layers"] // 2, "sliding_window")


def window_but_every_nth(reading: Reading, shape: Shape) -> dict[str, float]:
    """Gemma 3: the last of every `sliding_window_pattern` layers sees the whole context."""
    full = shape["layers"] // step_of(reading, "sliding_window_pattern", 6.0)
    return _windows(reading, shape, shape["layers"] - full, "sliding_window")


def window_but_every_fourth(reading: Reading, shape: Shape) -> dict[str, float]:
    """Cohere 2, EXAONE 4, OLMo 3, AFMoE: the last of every four layers sees the whole context.

    `sliding_window_pattern` is another number, or letters of which "L" has the window.
    """
    pattern = reading.config.get("sliding_window_pattern")
    layers = shape["layers"]
    if isinstance(pattern, str) and pattern:
        local = [pattern[i % len(pattern)] == "L" for i in range(int(min(layers, 1e4)))]
        return _windows(reading, shape, float(sum(local)), "sliding_window")
    key = "sliding_window_pattern" if pattern is not None else "global_attn_every_n_layers"
    full = layers // step_of(reading, key, 4.0)
    return _windows(reading, shape, layers - full, "sliding_window")


def window_where_listed(reading: Reading, shape: Shape) -> dict[str, float]:
    """dots.llm1, SmolLM3: `layer_types` says which layers have a window, by default none."""
    return _windows(reading, shape, 0.0, "sliding_window")


def chunks_but_every_nth(reading: Reading, shape: Shape) -> dict[str, float]:
    """Llama 4: the last of every four layers sees the whole context, the others their chunk."""
    rotary = numbers(reading, "no_rope_layers")
    full = shape["layers"] // step_of(reading, "no_rope_layer_interval", 4.0)
    count = sum(rotary) if rotary else shape["layers"] - full
    return _windows(reading, shape, count, "attention_chunk_size")


def output_gate(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen3-Next: the query projection also makes a gate for the attention output."""
    has_gate = number(reading, "attn_output_gate", 1.0)
    return {"attn_extra_params": has_gate * shape["hidden"] * shape["heads"] * shape["head_dim"]}


def adjusted_width(reading: Reading, shape: Shape) -> dict[str, float]:
    """LFM2: two thirds of the width that is given, rounded up to a multiple."""
    if not number(reading, "block_auto_adjust_ff_dim", 1.0):
        return {}
    factor = reading.config.get("block_ffn_dim_multiplier", 1.0)
    of = number(reading, "block_multiple_of", 256.0)
    width = float(int(2.0 * shape["expert_ff"] / 3.0))
    if isinstance(factor, int | float):
        width = float(int(factor * width))
    return {"expert_ff": of * math.ceil(width / of) if of else width}


def half_of_the_width(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen 1: `intermediate_size` is that of gate and up together."""
    return {"expert_ff": shape["expert_ff"] / 2.0}


def no_narrow_embedding(reading: Reading, shape: Shape) -> dict[str, float]:
    """OPT-350m: tokens of half the width, which two matrices widen and narrow."""
    width = number(reading, "word_embed_proj_dim", shape["hidden"])
    if width != shape["hidden"]:
        reading.problems.append(
            f'"word_embed_proj_dim" is {width:g} and not as wide as the layers: no family has '
            "such an embedding; give its numbers by hand in a .toml file "
            "(docs/guides/your-own-model.md)"
        )
    return {}


def every_nth_routed(reading: Reading, shape: Shape) -> dict[str, float]:
    """Arctic: every `moe_layer_frequency`-th layer is routed, beside a dense residual."""
    return {
        "dense_layers": shape["layers"]
        - shape["layers"] // step_of(reading, "moe_layer_frequency", 1.0)
    }


def twice_a_layer(reading: Reading, shape: Shape) -> dict[str, float]:
    """LongCat-Flash: two attentions and two dense networks a layer, and experts beside one.

    Of the experts `zero_expert_num` do nothing: a token has that share fewer.
    """
    layers, dense = shape["layers"], shape["dense_ff"]
    idle = number(reading, "zero_expert_num", 0.0)
    total = shape["experts"] + idle
    return {
        "layers": 2.0 * layers,
        "dense_layers": layers,
        "shared_experts": 1.0,
        "shared_ff": dense,
        "top_k": float(round(shape["top_k"] * shape["experts"] / total)) if total else 1.0,
        "extra_params": layers * shape["hidden"] * idle,
    }


def mimo_window(reading: Reading, shape: Shape) -> dict[str, float]:
    """MiMo-V2: windowed layers have heads of their own; values are narrower than keys."""
    keys, values = shape["head_dim"], number(reading, "v_head_dim", shape["head_dim"])
    flags = numbers(reading, "hybrid_layer_pattern")
    key = "sliding_window_size" if "sliding_window_size" in reading.config else "sliding_window"
    found = _windows(reading, shape, sum(flags), key)
    kv = number(reading, "swa_num_key_value_heads", 2.0 * shape["kv_heads"])
    heads = number(reading, "swa_num_attention_heads", shape["heads"])
    own = number(reading, "swa_head_dim", keys) + number(reading, "swa_v_head_dim", values)
    return found | {
        "head_dim": (keys + values) / 2.0,
        "window_cache": kv * own / (shape["kv_heads"] * (keys + values)),
        "window_params": shape["hidden"] * own * (heads + kv),
    }


def step_window(reading: Reading, shape: Shape) -> dict[str, float]:
    """Step 3.5: windowed layers have query heads of their own, each head a gate."""
    d, width = shape["hidden"], shape["head_dim"]
    found = _windows(reading, shape, 0.0, "sliding_window")
    names = "attention_other_setting.num_attention_heads|num_sliding_attention_heads"
    heads = number(reading, names, shape["heads"])
    gate = number(reading, "use_head_wise_attn_gate", 1.0) * d
    own = 2.0 * d * width * (heads + shape["kv_heads"]) + gate * heads
    return found | {"window_params": own, "attn_extra_params": gate * shape["heads"]}


def step_experts(reading: Reading, shape: Shape) -> dict[str, float]:
    """Step 3: the layers of `moe_layers_enum` are routed, "3,4,5" or a list; else all but a few.

    Without it the first three are dense, unless kinds or `first_k_dense_replace` say otherwise.
    """
    if (listed := _listed_dense(reading)) is not None:
        return {"dense_layers": listed}
    given = reading.config.get("moe_layers_enum")
    if given is None:
        return {"dense_layers": number(reading, "first_k_dense_replace", 3.0)}
    parts = given if isinstance(given, list) else str(given).split(",")
    routed = {str(part).strip() for part in parts if str(part).strip().isdigit()}
    return {"dense_layers": shape["layers"] - len(routed)}


def _laurel(reading: Reading, shape: Shape) -> tuple[float, float]:
    """Gemma 3n: low-rank residuals of a layer, and projections between its parallel streams."""
    d, streams = shape["hidden"], number(reading, "altup_num_inputs", 0.0)
    layer = 2.0 * d * number(reading, "laurel_rank", 0.0)
    layer += streams**2 + streams**3 + streams * d if streams else 0.0
    return layer, 2.0 * max(0.0, streams - 1.0) * d * d


def gemma_layers(reading: Reading, shape: Shape) -> dict[str, float]:
    """Gemma 3n and 4: shared caches, embeddings of every layer, wider heads in full layers.

    What full layers lack of a projection (values that are keys, caches of others) and what every
    layer has besides is shared out: `window_params` is what remains of attention's sum.
    """
    d, heads, layers = shape["hidden"], shape["heads"], shape["layers"]
    found = window_but_every_nth(reading, shape)
    windowed = found.get("window_layers", 0.0)
    width, kv = shape["head_dim"], shape["kv_heads"]
    own = other_layers(reading)
    wide = number(reading, "global_head_dim", number(own, "head_dim", width))
    heads_of_full = number(own, "num_key_value_heads", kv)
    full_kv = number(reading, "num_global_key_value_heads", heads_of_full)
    shared = number(reading, "num_kv_shared_layers", 0.0)
    both = 2.0 - number(reading, "attention_k_eq_v", 0.0)
    streams = number(reading, "hidden_size_per_layer_input", 0.0)
    residual, between_streams = _laurel(reading, shape)
    kept = 1.0 - shared / layers
    base = 2.0 * d * wide * (heads + full_kv)
    exact = (layers - windowed) * d * wide * (2.0 * heads + both * kept * full_kv)
    exact += windowed * 2.0 * d * width * (heads + kept * kv)
    exact += layers * (2.0 * d * streams + residual)
    entries = number(reading, "vocab_size_per_layer_input", 0.0) if streams else 0.0
    found |= {"head_dim": wide, "kv_heads": full_kv, "shared_kv_layers": shared}
    found["extra_params"] = layers * streams * d + between_streams
    found["lookup_params"] = entries * layers * streams
    if windowed:
        found["window_cache"] = kv * width / (full_kv * wide)
        found["window_params"] = (exact - (layers - windowed) * base) / windowed
    else:
        found["attn_extra_params"] = max(0.0, exact / layers - base)
    if number(reading, "use_double_wide_mlp", 0.0):
        found |= {"dense_layers": shared, "dense_ff": 2.0 * shape["expert_ff"]}
    return found


def gemma_experts(reading: Reading, shape: Shape) -> dict[str, float]:
    """Gemma 4: experts beside the network of every layer."""
    if not number(reading, "enable_moe_block", 0.0):
        return {}
    return {
        "experts": number(reading, "num_experts"),
        "top_k": number(reading, "top_k_experts"),
        "expert_ff": number(reading, "moe_intermediate_size"),
        "shared_experts": 1.0,
        "shared_ff": shape["expert_ff"],
    }


def falcon_heads(reading: Reading, shape: Shape) -> dict[str, float]:
    """Falcon: one KV head, or groups of them in the newer architecture."""
    if number(reading, "new_decoder_architecture", 0.0):
        return {"kv_heads": number(reading, "num_kv_heads", shape["heads"])}
    return {"kv_heads": 1.0 if number(reading, "multi_query", 1.0) else shape["heads"]}


def one_head_of_keys(reading: Reading, shape: Shape) -> dict[str, float]:
    """GPT-BigCode: one KV head; GPT-2 has one of every query head."""
    return {"kv_heads": 1.0} if number(reading, "multi_query", 0.0) else {}


def positions(reading: Reading, shape: Shape) -> dict[str, float]:
    """GPT-2, OPT: learned positions, which are looked up; OPT has two more than it says."""
    more = 2.0 if reading.config.get("model_type") == "opt" else 0.0
    names = "n_positions|max_position_embeddings|max_seq_len"
    return {"lookup_params": (number(reading, names, 0.0) + more) * shape["hidden"]}


def pruned_blocks(reading: Reading, shape: Shape) -> dict[str, float]:
    """Nemotron Super and Ultra: blocks without attention or network, networks of many widths.

    As in Nemotron-H, the layers are those that mix tokens. A block without attention lends its
    network to the others, which are wider by it: its weights count, its all-reduce does not.
    """
    d, layers = shape["hidden"], shape["layers"]
    blocks = reading.config.get("block_configs")
    if not isinstance(blocks, list) or len(blocks) != layers:
        reading.problems.append('"block_configs" is not a list of one block a layer')
        return {}
    widths: list[float] = []
    softmax, linear, groups = 0.0, 0.0, set()
    for block in blocks:
        own = Reading(config=block, problems=reading.problems, keys={})
        if value_at(block, "attention.replace_with_linear"):
            linear += 1.0
        elif not value_at(block, "attention.no_op"):
            softmax += 1.0
            groups.add(number(own, "attention.n_heads_in_group|attention.num_key_value_heads"))
        factor = value_at(block, "ffn.ffn_mult")
        if value_at(block, "ffn.no_op"):
            continue
        if value_at(block, "ffn.replace_with_linear"):
            widths.append(d / 3.0)
        elif isinstance(factor, int | float):
            widths.append(256.0 * math.ceil(int(2.0 * factor * d / 3.0) / 256.0))
        else:
            widths.append(number(own, "ffn.intermediate_size"))
    if len(groups) != 1:
        reading.problems.append('"block_configs": heads are grouped in several ways')
        return {}
    mixers = softmax + linear
    networks = min(mixers, float(len(widths)))
    return {
        "layers": mixers,
        "kv_heads": shape["heads"] / groups.pop(),
        "linear_layers": linear,
        "linear_params": d * d if linear else 0.0,
        "bare_layers": mixers - networks,
        "expert_ff": sum(widths) / networks if networks else 0.0,
    }
