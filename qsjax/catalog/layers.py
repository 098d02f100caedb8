"""Which layers of a Hugging Face model are which, and what their special layers weigh.

Each function takes a config and the shape read so far, and returns the fields that it decides.
The rules are those of the `modeling_*.py` of each family in huggingface/transformers.
"""

import math
from collections.abc import Callable, Mapping

from qsjax.catalog.reading import Reading, number, numbers, texts

Shape = Mapping[str, float]
Part = Callable[[Reading, Shape], dict[str, float]]


def _step(reading: Reading, name: str, default: float) -> float:
    """A number of layers to step by; one that cannot be is a problem, and 1 stands in."""
    step = number(reading, name, default)
    if step < 1 or step != int(step):
        reading.problems.append(f'"{name}" is {step:g}; give a whole number of at least 1')
        return 1.0
    return step


def first_layers_dense(reading: Reading, shape: Shape) -> dict[str, float]:
    """DeepSeek, Kimi, GLM: the first layers are dense, then every `moe_layer_freq`-th is routed."""
    kinds = texts(reading, "mlp_layer_types")
    if kinds:  # what transformers 5 writes
        return {"dense_layers": float(kinds.count("dense"))}
    layers = shape["layers"]
    first = min(layers, max(0.0, number(reading, "first_k_dense_replace", 0.0)))
    step = _step(reading, "moe_layer_freq", 1.0)
    routed = math.ceil(layers / step) - math.ceil(first / step)
    return {"dense_layers": layers - routed}


def sparse_step(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen: every `decoder_sparse_step`-th layer is routed unless `mlp_only_layers` lists it."""
    step = _step(reading, "decoder_sparse_step", 1.0)
    dense, layers = set(numbers(reading, "mlp_only_layers")), shape["layers"]
    listed = sum(1 for i in dense if 0 <= i < layers and (i + 1) % step == 0)
    return {"dense_layers": layers - (layers // step - listed)}


def interleaved(reading: Reading, shape: Shape) -> dict[str, float]:
    """Llama 4: the last of every `interleave_moe_layer_step` layers is routed."""
    step = _step(reading, "interleave_moe_layer_step", 1.0)
    return {"dense_layers": shape["layers"] - shape["layers"] // step}


def one_shared_expert(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen: one shared expert where its width is given."""
    return {"shared_experts": 1.0 if shape["shared_ff"] > 0 else 0.0}


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
    full = shape["layers"] // _step(reading, "sliding_window_pattern", 6.0)
    return _windows(reading, shape, shape["layers"] - full, "sliding_window")


def chunks_but_every_nth(reading: Reading, shape: Shape) -> dict[str, float]:
    """Llama 4: the last of every four layers sees the whole context, the others their chunk."""
    rotary = numbers(reading, "no_rope_layers")
    full = shape["layers"] // _step(reading, "no_rope_layer_interval", 4.0)
    count = sum(rotary) if rotary else shape["layers"] - full
    return _windows(reading, shape, count, "attention_chunk_size")


def sparse_index(reading: Reading, shape: Shape) -> dict[str, float]:
    """DeepSeek sparse attention: the indexer's query, key and weight projections.

    Its queries come from the low-rank query, its one key and the head weights from the hidden
    state. Layers that `indexer_types` calls shared have none and take the choice of the layer
    before (GLM-5.2). Source: DeepSeek-V3.2 `inference/model.py`, class Indexer.
    """
    heads, width = shape["index_heads"], shape["index_dim"]
    from_query = shape["q_lora_rank"] * heads * width
    layers = shape["layers"]
    kinds = texts(reading, "indexer_types")
    own = float(kinds.count("full")) if kinds else layers
    weights = from_query + shape["hidden"] * (width + heads)
    return {"index_layers": own, "attn_extra_params": weights * own / layers}


def output_gate(reading: Reading, shape: Shape) -> dict[str, float]:
    """Qwen3-Next: the query projection also makes a gate for the attention output."""
    has_gate = number(reading, "attn_output_gate", 1.0)
    return {"attn_extra_params": has_gate * shape["hidden"] * shape["heads"] * shape["head_dim"]}


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
    every = _step(reading, "full_attention_interval", 4.0)
    return {
        "linear_layers": float(kinds.count("linear_attention"))
        if kinds
        else layers - layers // every,
        "linear_params": projections + channels * kernel + values * value_dim * d,
        "linear_state": values * key_dim * value_dim,
        "linear_tail": channels * (kernel - 1.0),
    }


def lightning(reading: Reading, shape: Shape) -> dict[str, float]:
    """MiniMax: lightning attention where `attn_type_list` is 0: q, k, v, gate and output.

    Its state is one matrix of the head dimension a head.
    """
    inner = shape["heads"] * shape["head_dim"]
    count = numbers(reading, "attn_type_list").count(0.0)
    count += texts(reading, "layer_types").count("linear_attention")
    if not count:
        return {}
    return {
        "linear_layers": float(count),
        "linear_params": 5.0 * shape["hidden"] * inner,
        "linear_state": inner * shape["head_dim"],
    }
