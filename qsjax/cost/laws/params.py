"""Parameter counts of a model, and its quality-matched dense twin.

Every function takes a `ModelSpec` whose fields may be numbers, arrays or tracers, and returns their
broadcast. Only matrices are counted; `norm_params` has the vectors apart. The formulas are those of
docs/concepts/cost-model.md, section "Parameters", where each symbol is defined.
"""

import dataclasses
from typing import Literal

from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.records.specs import ModelSpec, Workload

TwinDefinition = Literal["active_ffn", "total"]


def _arrays(*values: ArrayLike) -> tuple[Array, ...]:
    return tuple(xp.asarray(value) for value in values)


def moe_layers(model: ModelSpec) -> Array:
    """Layers with routed experts [layers]; in a dense model all that have a network."""
    layers, dense, bare = _arrays(model.layers, model.dense_layers, model.bare_layers)
    return layers - dense - bare


def softmax_layers(model: ModelSpec) -> Array:
    """Layers with softmax attention, windowed or not [layers]."""
    layers, linear = _arrays(model.layers, model.linear_layers)
    return layers - linear


def full_layers(model: ModelSpec) -> Array:
    """Layers whose attention keeps every token of the context [layers]."""
    return softmax_layers(model) - xp.asarray(model.window_layers)


def _over(tokens: ArrayLike, of: ArrayLike, otherwise: float) -> Array:
    """Entries of `of` tokens each among `tokens`; `otherwise` a token, where `of` is 0 [1]."""
    size = xp.asarray(of)
    return xp.asarray(tokens) * xp.where(size > 0, 1.0 / xp.where(size > 0, size, 1.0), otherwise)


def index_keys(model: ModelSpec, tokens: ArrayLike) -> Array:
    """Keys that an indexer has of `tokens` tokens: one of each of them, or of each entry [1]."""
    return _over(tokens, model.entry_tokens, 1.0)


def pooled_entries(model: ModelSpec, tokens: ArrayLike) -> Array:
    """Entries that a pooling layer has of `tokens` tokens [1]."""
    return _over(tokens, model.pooled_tokens, 0.0)


def beside_window(model: ModelSpec, chosen: ArrayLike, pooled: ArrayLike) -> Array:
    """Entries beside a window, mean of all layers with a window [1].

    Args:
        model: of whose layers some have entries.
        chosen: entries of a layer whose indexer chooses them.
        pooled: entries of a layer that pools.

    Source: DeepSeek-V4, compressed sparse and heavily compressed attention, `compress_ratios` of
    its configs.
    """
    windowed, indexed = _arrays(model.window_layers, model.index_layers)
    indexed = xp.where(xp.asarray(model.entry_tokens) > 0, indexed, 0.0)
    total = indexed * chosen + xp.asarray(model.pooled_layers) * pooled
    return total / xp.where(windowed > 0, windowed, 1.0)


def entries_kept(model: ModelSpec, tokens: ArrayLike) -> Array:
    """Entries that a sequence of `tokens` tokens keeps beside a window, mean of such layers [1]."""
    return beside_window(model, index_keys(model, tokens), pooled_entries(model, tokens))


def unfinished_elements(model: ModelSpec) -> Array:
    """What compressors keep of a sequence for entries that are not complete [elements].

    Of every such token a value and a gate; entries that an indexer chooses overlap, so that it is
    twice the tokens in two versions, and the index keys have theirs. Engines keep them in FP32.
    Source: `CompressorStateCache` of vLLM, model_executor/layers/deepseek_compressor.py.
    """
    heads, width, ratio = _arrays(model.kv_heads, model.head_dim, model.window_cache)
    entry = 2.0 * heads * width * ratio
    pooled = 2.0 * entry * model.pooled_layers * model.pooled_tokens
    each = 8.0 * (entry + model.index_dim) * model.entry_tokens
    return pooled + each * model.index_layers


def state_bytes(model: ModelSpec, workload: Workload) -> Array:
    """What the linear layers keep of a sequence, whatever its length [B]."""
    state, tail = _arrays(model.linear_state, model.linear_tail)
    per_layer = workload.bytes_state * state + workload.bytes_act * tail
    return xp.asarray(model.linear_layers) * per_layer


def shared_weight_bytes(workload: Workload) -> Array:
    """Bytes of a weight of the shared experts and of the layers without experts [B]."""
    return xp.asarray(workload.bytes_ffn_weight) * workload.shared_weight_ratio


def cache_layers(model: ModelSpec) -> Array:
    """Share of the softmax layers that keep a cache of their own [1]."""
    layers = softmax_layers(model)
    return 1.0 - xp.asarray(model.shared_kv_layers) / xp.where(layers > 0, layers, 1.0)


def sparsity(model: ModelSpec) -> Array:
    """Share of the routed experts that one token uses, s = K/E [1]. Expects `experts >= 1`."""
    experts, top_k = _arrays(model.experts, model.top_k)
    return top_k / xp.where(experts > 0, experts, 1.0)


def replicated_attention_params(model: ModelSpec) -> Array:
    """Attention parameters per softmax layer that tensor parallelism may copy, P_rep [parameters].

    Key and value projections, which split over the KV heads only; with multi-head latent attention
    the down-projections, which every rank holds.

    Source: shapes of grouped-query attention (Ainslie et al. 2023) and of multi-head latent
    attention (DeepSeek-V2, arXiv 2405.04434, appendix C).
    """
    d, kv_heads, head_dim = _arrays(model.hidden, model.kv_heads, model.head_dim)
    latent, rope, q_rank = _arrays(model.kv_latent, model.rope_dim, model.q_lora_rank)
    return xp.where(latent > 0, d * (latent + rope + q_rank), 2.0 * d * kv_heads * head_dim)


def attention_params(model: ModelSpec) -> Array:
    """Attention parameters of one softmax-attention layer, P_att [parameters].

    Includes `replicated_attention_params` and `attn_extra_params`.

    Source: as `replicated_attention_params`.
    """
    d, h, head_dim = _arrays(model.hidden, model.heads, model.head_dim)
    latent, rope, q_rank = _arrays(model.kv_latent, model.rope_dim, model.q_lora_rank)
    nope, v_dim = _arrays(model.qk_nope_dim, model.v_head_dim)
    query = xp.where(q_rank > 0, q_rank, d) * h * (nope + rope)
    latent_up = latent * h * (nope + v_dim) + h * v_dim * d
    split = xp.where(latent > 0, query + latent_up, 2.0 * d * h * head_dim)
    return split + replicated_attention_params(model) + xp.asarray(model.attn_extra_params)


def linear_params(model: ModelSpec) -> Array:
    """Parameters of the linear layers, and of what stands beside all layers [parameters]."""
    return xp.asarray(model.linear_layers) * model.linear_params + model.extra_params


def all_attention_params(model: ModelSpec) -> Array:
    """Attention parameters of the whole model, softmax and linear layers [parameters]."""
    linear, per_linear = _arrays(model.linear_layers, model.linear_params)
    window, per_window = _arrays(model.window_layers, model.window_params)
    per_layer = attention_params(model)
    windowed = window * xp.where(per_window > 0, per_window, per_layer)
    return full_layers(model) * per_layer + windowed + linear * per_linear


def expert_params(model: ModelSpec) -> Array:
    """Parameters of one routed expert in one layer [parameters]."""
    matrices, d, width = _arrays(model.ffn_matrices, model.hidden, model.expert_ff)
    return matrices * d * width


def pool_params(model: ModelSpec) -> Array:
    """Parameters of all routed experts in all layers, P_pool [parameters]."""
    return moe_layers(model) * xp.asarray(model.experts) * expert_params(model)


def shared_params(model: ModelSpec) -> Array:
    """Parameters of the shared experts in all layers, P_sh [parameters]."""
    shared, width = _arrays(model.shared_experts, model.shared_ff)
    matrices, d = _arrays(model.ffn_matrices, model.hidden)
    return moe_layers(model) * shared * matrices * d * width


def dense_ffn_params(model: ModelSpec) -> Array:
    """Parameters of the feed-forward networks of the dense layers, P_de [parameters]."""
    dense, width = _arrays(model.dense_layers, model.dense_ff)
    matrices, d = _arrays(model.ffn_matrices, model.hidden)
    return dense * matrices * d * width


def router_params(model: ModelSpec) -> Array:
    """Parameters of the routers of all layers, P_ro [parameters]; 0 where there is one expert."""
    d, experts = _arrays(model.hidden, model.experts)
    return xp.where(experts > 1, moe_layers(model) * d * experts, 0.0)


def head_params(model: ModelSpec) -> Array:
    """Parameters of the output head, P_head [parameters]."""
    vocab, d = _arrays(model.vocab, model.hidden)
    return vocab * d


def embedding_params(model: ModelSpec) -> Array:
    """Parameters of the input embedding and the head together, P_emb [parameters].

    One matrix where `tied_embeddings` is 1, else two.
    """
    return head_params(model) * (2.0 - xp.asarray(model.tied_embeddings))


def norm_params(model: ModelSpec) -> Array:
    """Parameters of the normalisation vectors, P_norm [parameters]; not in any total here.

    Two vectors a layer and one at the end, each as wide as the model.
    """
    d, layers = _arrays(model.hidden, model.layers)
    return d * (2.0 * layers + 1.0)


def resident_params(model: ModelSpec) -> Array:
    """Parameters outside the routed pool [parameters]: every token of text uses them.

    Layers that have the weights of another count once.
    """
    blocks = all_attention_params(model) + shared_params(model) + dense_ffn_params(model)
    ends = router_params(model) + embedding_params(model) + xp.asarray(model.extra_params)
    return blocks + ends + model.lookup_params - model.repeated_params


def total_params(model: ModelSpec) -> Array:
    """Parameters of all matrices [parameters]."""
    return resident_params(model) + pool_params(model) + model.idle_params


def active_params(model: ModelSpec) -> Array:
    """Parameters that one token uses, the input embedding included [parameters]."""
    return resident_params(model) + sparsity(model) * pool_params(model)


def dense_twin(
    model: ModelSpec, q: ArrayLike, definition: TwinDefinition = "active_ffn"
) -> ModelSpec:
    """The dense model of equal quality, if a dense one needs q times the active parameters.

    Args:
        model: The mixture of experts.
        q: Quality-equivalence factor [1]; broadcasts against the fields.
        definition: `"active_ffn"` widens the one remaining expert to q*K*f_e and leaves all else as
            it is, so that the pool becomes q*s times the old one. `"total"` gives every layer one
            feed-forward network whose width makes the total q*s times the old total; the width is
            never below zero, even if attention and embeddings alone exceed that.

    Source: *The qs Inequality*, arXiv 2603.08960, eq. 11 (`active_ffn`) and eq. 21 (`total`).
    """
    q = xp.asarray(q)
    if definition == "active_ffn":
        top_k, width = _arrays(model.top_k, model.expert_ff)
        return dataclasses.replace(model, experts=1.0, top_k=1.0, expert_ff=q * top_k * width)
    bare = dataclasses.replace(
        model,
        experts=1.0,
        top_k=1.0,
        expert_ff=0.0,
        shared_experts=0.0,
        shared_ff=0.0,
        dense_layers=0.0,
        dense_ff=0.0,
    )
    layers = xp.maximum(1.0, moe_layers(bare))
    matrices, d = _arrays(model.ffn_matrices, model.hidden)
    room = q * sparsity(model) * total_params(model) - total_params(bare)
    width = xp.maximum(room, 0.0) / (layers * matrices * d)
    return dataclasses.replace(bare, expert_ff=width)
