"""Layers of a Hugging Face model that choose tokens, gate their output or differ in their heads.

Each function takes a config and the shape read so far, and returns the fields that it decides.
The rules are those of the `modeling_*.py` of each family in huggingface/transformers, where no
other source is named.
"""

from qsjax.catalog.layers import Shape, other_layers
from qsjax.catalog.reading import Reading, number, numbers, texts

_ATTENTION = "sparse_attention_config"


def _more(shape: Shape, extra: float) -> dict[str, float]:
    return {"attn_extra_params": shape.get("attn_extra_params", 0.0) + extra}


def sparse_index(reading: Reading, shape: Shape) -> dict[str, float]:
    """DeepSeek sparse attention: the indexer's query, key and weight projections.

    Its queries come from the low-rank query where there is one, its one key and the head weights
    from the hidden state. Layers that `indexer_types` calls shared have none and take the choice of
    the layer before (GLM-5.2). Source: DeepSeek-V3.2 `inference/model.py`, class Indexer.
    """
    heads, width = shape["index_heads"], shape["index_dim"]
    from_query = (shape["q_lora_rank"] or shape["hidden"]) * heads * width
    layers = shape["layers"]
    kinds = texts(reading, "indexer_types")
    own = float(kinds.count("full")) if kinds else layers
    weights = from_query + shape["hidden"] * (width + heads)
    return {"index_layers": own} | _more(shape, weights * own / layers)


# Tokens of an entry that an indexer chooses, and of one that all queries read, unless a config says
# otherwise; and layers by these numbers.
_RATES = {"compressed_sparse_attention": 4.0, "heavily_compressed_attention": 128.0}


def _compression(reading: Reading, shape: Shape) -> tuple[int, int, float, float]:
    """DeepSeek-V4: choosing and pooling layers, and the tokens of an entry of each."""
    named = texts(reading, "layer_types")
    each, pool = (number(reading, f"compress_rates.{kind}", _RATES[kind]) for kind in _RATES)
    each, pool = (
        number(reading, f"compress_rate_{short}", rate)
        for short, rate in (("csa", each), ("hca", pool))
    )
    rates = numbers(reading, "compress_ratios")[: int(shape["layers"])]
    if rates and not named:
        names = {0.0: "sliding_attention", each: "each", pool: "pool"}
        unknown = sorted({rate for rate in rates if rate not in names})
        if unknown or len(rates) < shape["layers"]:
            reading.problems.append(
                f'"compress_ratios" has {len(rates)} of {shape["layers"]:g} layers'
                + "".join(f", unknown {rate:g}" for rate in unknown)
            )
        return rates.count(each), rates.count(pool), each, pool
    if not named:  # what transformers takes: two layers that pool, then both kinds in turn
        later = int(shape["layers"]) - 2
        return later // 2, later - later // 2 + 2, each, pool
    kinds = [named.count(kind) for kind in _RATES]
    return kinds[0], kinds[1], each, pool


def compressed_attention(reading: Reading, shape: Shape) -> dict[str, float]:
    """DeepSeek-V4: windows, and beside them entries of several tokens.

    Every layer has a window of its one KV head, whose keys are its values. Some also keep an entry
    of 4 tokens, of which an indexer chooses, others one of 128. Compressors make an entry and its
    gate, those of 4 tokens in two overlapping versions; queries and outputs are of low rank,
    outputs in groups of heads. Two halves of a layer mix `hc_mult` streams of residuals.
    """
    d, heads, width = shape["hidden"], shape["heads"], shape["head_dim"]
    chosen, pooled, each, pool = _compression(reading, shape)
    rank, out = number(reading, "q_lora_rank"), number(reading, "o_lora_rank")
    index_heads, index = number(reading, "index_n_heads"), number(reading, "index_head_dim")
    params = d * rank + rank * heads * width + d * width
    params += heads * width * out + number(reading, "o_groups") * out * d
    choosing = 4.0 * (d + each / 2.0) * (width + index) + rank * index_heads * index
    choosing += d * index_heads
    of_kinds = chosen * choosing + pooled * (2.0 * d + pool) * width
    streams = number(reading, "hc_mult", 4.0)
    mixing = shape["layers"] * 2.0 * (2.0 + streams) * streams + streams
    found = {
        "window_layers": shape["layers"],
        "window": number(reading, "sliding_window", 128.0),
        "window_cache": 0.5,
        "window_params": params + of_kinds / shape["layers"],
        "rope_dim": number(reading, "qk_rope_head_dim", width / 8.0),
        "extra_params": mixing * streams * d,
        "pooled_layers": float(pooled),
        "pooled_tokens": pool if pooled else 0.0,
    }
    if chosen:
        found |= {"index_layers": float(chosen), "entry_tokens": each, "index_dim": index}
        found |= {"index_heads": index_heads, "sparse_topk": number(reading, "index_topk")}
    return found


def choice_of_blocks(reading: Reading, shape: Shape) -> dict[str, float]:
    """MiniMax-M3: an indexer chooses blocks of tokens, but not in the first layers.

    Layers that see everything are layers with a window of the longest context. The indexer has a
    query for each of its heads and one key a token, which engines keep in 16 bits.
    """
    kinds = texts(reading, "layer_types")
    flags = numbers(reading, f"{_ATTENTION}.sparse_attention_freq")
    sparse = float(kinds.count("minimax_m3_sparse")) if kinds else float(sum(map(bool, flags)))
    if not sparse:
        return {}
    heads = number(reading, f"index_n_heads|{_ATTENTION}.sparse_num_index_heads")
    width = number(reading, f"index_head_dim|{_ATTENTION}.sparse_index_dim")
    block = number(reading, f"index_block_size|{_ATTENTION}.sparse_block_size")
    blocks = number(reading, f"index_topk_blocks|{_ATTENTION}.sparse_topk_blocks")
    inner = (shape["heads"] + shape["kv_heads"]) * shape["head_dim"]
    found = {"index_layers": sparse, "index_heads": heads, "index_dim": width}
    found |= {"sparse_topk": block * blocks}
    found |= _more(shape, shape["hidden"] * (heads + 1.0) * width)
    if sparse < shape["layers"]:
        found["window_layers"] = shape["layers"] - sparse
        found["window"] = number(reading, "max_position_embeddings")
        found["window_params"] = 2.0 * shape["hidden"] * inner
    return found


def gated_latent(reading: Reading, shape: Shape) -> dict[str, float]:
    """Hy 4: a gate for the values of every head, and streams of residuals that are mixed anew.

    Each half of a layer makes weights to read and to write `hc_mult` streams, the head to read.
    """
    streams = number(reading, "hc_mult", 1.0) * shape["hidden"]
    count = number(reading, "hc_mult", 1.0)
    mixing = 2.0 * 2.0 * count * streams * shape["layers"] + count * streams
    gate = shape["hidden"] * shape["heads"] * shape["v_head_dim"]
    return _more(shape, gate) | {"extra_params": mixing}


def doubled_query(reading: Reading, shape: Shape) -> dict[str, float]:
    """A.X K2: query and gate from twice the low-rank query, gates of low rank behind the norms.

    Norms in front of attention have one, and those in front of experts.
    """
    d, rank, heads = shape["hidden"], shape["q_lora_rank"], shape["heads"]
    query = rank * heads * (shape["qk_nope_dim"] + shape["rope_dim"] + 2.0 * shape["v_head_dim"])
    gate = 2.0 * d * number(reading, "gated_norm_rank", 0.0)
    routed = shape["layers"] - shape["dense_layers"]
    return _more(shape, query) | {"extra_params": gate * (shape["layers"] + routed)}


def shared_latents(reading: Reading, shape: Shape) -> dict[str, float]:
    """Mistral Large 4: layers that `kv_source_layers` points elsewhere read another's latents."""
    sources = numbers(reading, "kv_source_layers")
    return {"shared_kv_layers": float(sum(at != source for at, source in enumerate(sources)))}


def cross_layer_cache(reading: Reading, shape: Shape) -> dict[str, float]:
    """Hunyuan-Large: of `cla_share_factor` layers one has keys and values, for all of them.

    The others have no such projections; they are layers with a window of the longest context.
    Source: Hunyuan-Large, arXiv 2411.02265, section 2.2.
    """
    found = {"shared_experts": 0.0} if shape["experts"] <= 1 else {}
    factor = number(reading, "cla_share_factor", 1.0)
    if not reading.config.get("use_cla") or factor <= 1:
        return found
    layers = shape["layers"]
    shared = layers - -(-layers // factor)
    own = 2.0 * shape["hidden"] * shape["heads"] * shape["head_dim"]
    longest = number(reading, "max_position_embeddings")
    found |= {"shared_kv_layers": shared, "window_layers": shared}
    return found | {"window": longest, "window_params": own}


def factored_query(reading: Reading, shape: Shape) -> dict[str, float]:
    """Step-3: queries of all heads from a common one of `share_q_dim`, one key and one value.

    These layers are layers with a window of the longest context, which have parameters of their
    own. Source: Step-3, arXiv 2507.19427, multi-matrix factorization attention.
    """
    d, inner = shape["hidden"], shape["heads"] * shape["head_dim"]
    rank = number(reading, "share_q_dim")
    longest = "max_position_embeddings|max_position_embedding|max_seq_len"
    return {
        "window_layers": shape["layers"],
        "window": number(reading, longest, 65536.0),
        "window_params": d * rank
        + rank * inner
        + inner * d
        + 2.0 * d * shape["kv_heads"] * shape["head_dim"],
    }


def windows_of_wider_latents(reading: Reading, shape: Shape) -> dict[str, float]:
    """dots3: layers with a window have latents, heads and keys of their own; all gate their heads.

    These layers have no indexer.
    """
    d, own = shape["hidden"], other_layers(reading)
    heads = number(own, "num_attention_heads", shape["heads"])
    latent = number(own, "kv_lora_rank", shape["kv_latent"])
    nope = number(own, "qk_nope_head_dim", shape["qk_nope_dim"])
    rope, value, rank = shape["rope_dim"], shape["v_head_dim"], shape["q_lora_rank"]
    windowed = float(texts(reading, "layer_types").count("sliding_attention"))
    params = d * (rank + latent + rope + heads) + heads * value * d
    params += rank * heads * (nope + rope) + latent * heads * (nope + value)
    indexed = shape["layers"] - windowed
    index = rank * shape["index_heads"] * shape["index_dim"]
    index += d * (shape["index_dim"] + shape["index_heads"])
    return {
        "index_layers": indexed,
        "window_layers": windowed,
        "window": number(reading, "sliding_window"),
        "window_cache": (latent + rope) / (shape["kv_latent"] + rope),
        "window_params": params,
        "attn_extra_params": index + d * shape["heads"],
    }


def heads_of_layers(reading: Reading, shape: Shape) -> dict[str, float]:
    """Laguna: every layer says how many query heads it has; they have gates of their own.

    Layers with a window have one number in common, and the others another.
    """
    d, width = shape["hidden"], shape["head_dim"]
    kinds = texts(reading, "layer_types")
    every = numbers(reading, "num_attention_heads_per_layer")
    pairs = list(zip(kinds, every, strict=False))
    windowed = [heads for kind, heads in pairs if kind == "sliding_attention"]
    full = [heads for kind, heads in pairs if kind != "sliding_attention"]
    is_of_heads = reading.config.get("gating", True) in (True, "per-head")

    def gate(heads: float) -> float:
        return d * heads * (1.0 if is_of_heads else width)

    main = sum(full) / len(full) if full else shape["heads"]
    found = {"heads": main} | _more(shape, gate(main))
    if windowed:
        heads = sum(windowed) / len(windowed)
        found["window_params"] = 2.0 * d * width * (heads + shape["kv_heads"]) + gate(heads)
    return found


def gate_of_heads(reading: Reading, shape: Shape) -> dict[str, float]:
    """LFM3: one gate a query head."""
    has_gate = number(reading, "use_attention_gate", 1.0)
    return _more(shape, has_gate * shape["hidden"] * shape["heads"])


def inkling(reading: Reading, shape: Shape) -> dict[str, float]:
    """Inkling: windows with KV heads of their own, relative positions, short convolutions.

    The last inputs of the convolutions are left out of the cache: some 6 MB a sequence.
    """
    d, width, heads = shape["hidden"], shape["head_dim"], shape["heads"]
    kernel = number(reading, "sconv_kernel_size|conv_kernel_size", 4.0)
    relative = d * heads * number(reading, "d_rel", 16.0)
    kinds = texts(reading, "layer_types")
    listed = numbers(reading, "local_layer_ids")
    windowed = float(kinds.count("hybrid_sliding") if kinds else len(listed))
    own = number(reading, "swa_num_key_value_heads", shape["kv_heads"])

    def params(kv: float) -> float:
        return relative + kernel * (2.0 * kv * width + 2.0 * d)

    return _more(shape, params(shape["kv_heads"])) | {
        "window_layers": windowed,
        "window": number(reading, "sliding_window_size"),
        "window_cache": own / shape["kv_heads"],
        "window_params": 2.0 * d * width * (heads + own) + params(own),
    }


def expert_hidden(reading: Reading) -> int:
    """The width of the projection of the hidden state that routed experts read; 0 for all of it."""
    return int(number(reading, "moe_latent_size|routed_expert_hidden_size|moe_hidden_size", 0.0))


def narrowed_experts(reading: Reading, shape: Shape) -> dict[str, float]:
    """Kimi-K3, Muse Spark: routed experts work on a projection of the hidden state.

    They count as narrower ones of its full width, with the two projections beside them.
    """
    latent = expert_hidden(reading)
    if not latent:
        return {}
    routed = shape["layers"] - shape.get("dense_layers", 0.0) - shape.get("bare_layers", 0.0)
    return {
        "expert_ff": shape["expert_ff"] * latent / shape["hidden"],
        "extra_params": shape.get("extra_params", 0.0) + 2.0 * routed * latent * shape["hidden"],
    }


def experts_for_images(reading: Reading, shape: Shape) -> dict[str, float]:
    """ERNIE 4.5 VL: more experts for images alone: stored, but not read for text.

    Counts and widths are lists of two, of text and of images, or one number for both.
    """
    keys = ("moe_num_experts", "moe_intermediate_size")
    if not any(isinstance(reading.config.get(key), list) for key in keys):
        return {}
    experts, width = (number(reading, f"{key}.1|{key}", 0.0) for key in keys)
    routed = shape["layers"] - shape["dense_layers"]
    return {"idle_params": routed * experts * shape["hidden"] * (3.0 * width + 1.0)}
