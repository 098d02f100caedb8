"""HBM bytes that one microbatch moves on one GPU, per source [B] (paper 4.1)."""

from qsjax.cost.laws import params
from qsjax.cost.laws.sharding import Context, cache_layout, weight_ranks
from qsjax.numerics.namespace import Array, xp

# Logarithm of a chance that is zero in either precision for one token or more, also where it is a
# power of the logarithm itself, as with loads that are drawn.
_NEVER = -1e18

# Shape of the gamma distribution of an expert's share of the tokens: 1 / variance of its share.
SKEW_SHAPE = 2.0


def kv_bytes(ctx: Context, attended: tuple[Array, Array], microbatch: Array) -> Array:
    """Cache bytes read per microbatch [B]; `attended` = tokens seen by a (full, window) layer."""
    model, partition, workload = ctx.model, ctx.partition, ctx.workload
    elements, split = cache_layout(model, partition.tp, ctx.convention.mla_read)
    full, window = attended
    per_token = (workload.bytes_kv * elements + workload.kv_scale_bytes) / split
    pp = xp.asarray(partition.pp)
    ranks = partition.kvp * pp
    windowed = xp.asarray(model.window_layers) * model.window_cache
    attended_tokens = params.full_layers(model) * full + windowed * window
    indexed_tokens = xp.asarray(model.index_layers) * params.index_keys(model, workload.context)
    # The context multiplies what the partition alone decides: one product for each of their pairs.
    read = per_token / ranks * attended_tokens
    indexer = workload.bytes_index * xp.asarray(model.index_dim) / ranks * indexed_tokens
    state = 2.0 * params.state_bytes(model, workload)
    return microbatch * (read + indexer + state / (weight_ranks(partition) * pp))


def expert_traffic_factor(ctx: Context, routed_tokens: Array, microbatch: Array) -> Array:
    """Share of the expert pool, redundant `copies` included, that a microbatch streams [1].

    `coverage`: expected share of experts that at least one of T tokens chooses, 1 - (1-s)^T with s
    over the enlarged pool; s at T=1, 1 for a dense model. `full_pool`: what the paper's tables do,
    per token the whole pool over the expert-local batch R = s*b, which is 1/s times the physical
    amount. Under a skewed balance an expert's share of the tokens is itself drawn (gamma, shape 2),
    so that it is missed with probability (1 + n/2)^-2 instead of e^-n. `all_experts` and `top_k`
    are the bounds that other simulators use.
    """
    convention, copies = ctx.convention, ctx.lay.expert_copies
    sparsity = xp.asarray(ctx.model.top_k) / ctx.model.experts
    match convention.expert_traffic:
        case "coverage":
            chance = sparsity / copies
            is_partial = chance < 1
            log_miss = xp.log1p(-xp.where(is_partial, chance, 0.5))
            if convention.expert_balance == "skewed":
                drawn = 1.0 - routed_tokens * (xp.where(is_partial, log_miss, _NEVER) / SKEW_SHAPE)
                return 1.0 - 1.0 / (drawn * drawn)
            # T >= 1 keeps the share at s or more, so that the difference loses no more than 1/s
            # roundings; expm1 would cost three times as much. A dense model never misses.
            return 1.0 - xp.exp(routed_tokens * xp.where(is_partial, log_miss, _NEVER))
        case "full_pool":
            reuse = microbatch * sparsity
            return microbatch * xp.minimum(1.0, reuse) / xp.maximum(1.0, reuse)
        case "all_experts":
            return xp.ones(())
        case "top_k":
            return sparsity


def routed_bytes(ctx: Context, pool: Array, factor: Array) -> Array:
    """Routed-expert weight bytes [B]: `factor` of the pool (parameters) over its shards."""
    lay = ctx.lay
    return (
        xp.asarray(ctx.workload.bytes_ffn_weight)
        * (pool * lay.expert_copies / (lay.expert_time_shards * ctx.partition.pp))
        * factor
    )


def always_read_bytes(ctx: Context) -> Array:
    """Weight bytes of dense FFN layers, shared experts and router [B]."""
    if ctx.convention.scope == "routed_ffn":
        return xp.zeros(())
    model, workload = ctx.model, ctx.workload
    split = (params.shared_params(model) + params.dense_ffn_params(model)) / ctx.lay.ffn_tp
    router = xp.asarray(workload.bytes_ffn_weight) * params.router_params(model)
    return (params.shared_weight_bytes(workload) * split + router) / ctx.partition.pp


def head_bytes(ctx: Context) -> Array:
    """Weight bytes of the output head [B]; the input embedding is looked up, not streamed."""
    if ctx.convention.scope == "routed_ffn":
        return xp.zeros(())
    shards = weight_ranks(ctx.partition) * ctx.partition.pp
    return xp.asarray(ctx.workload.bytes_head_weight) * params.head_params(ctx.model) / shards


def attention_activation_bytes(ctx: Context, microbatch: Array) -> Array:
    """Queries read and outputs written by the attention kernels [B]."""
    model, partition, workload = ctx.model, ctx.partition, ctx.workload
    latent, heads = xp.asarray(model.kv_latent), xp.asarray(model.heads)
    width = xp.where(latent > 0, 2.0 * latent + model.rope_dim, 2.0 * xp.asarray(model.head_dim))
    layers = params.softmax_layers(model) / partition.pp
    return microbatch * (workload.bytes_act * layers * heads * width / partition.tp)


def projection_activation_bytes(ctx: Context, microbatch: Array) -> Array:
    """Inputs and outputs of the projections around attention [B]."""
    model, partition, workload = ctx.model, ctx.partition, ctx.workload
    heads, latent = xp.asarray(model.heads), xp.asarray(model.kv_latent)
    query_and_output = heads * (model.qk_nope_dim + xp.asarray(model.rope_dim) + model.v_head_dim)
    grouped = 2.0 * xp.asarray(model.head_dim) * (heads + model.kv_heads)
    is_mla = latent > 0
    split = xp.where(is_mla, query_and_output, grouped) / weight_ranks(partition)
    copied = 2.0 * xp.asarray(model.hidden) + xp.where(is_mla, latent + model.rope_dim, 0.0)
    layers = params.softmax_layers(model) / partition.pp
    return microbatch * (workload.bytes_act * layers * (copied + split))


def ffn_activation_bytes(ctx: Context, microbatch: Array) -> Array:
    """Inputs, intermediates and outputs of the FFN products [B]."""
    model, _, partition, workload, convention, lay = ctx
    hidden, matrices = xp.asarray(model.hidden), xp.asarray(model.ffn_matrices)
    moe_layers, top_k = params.moe_layers(model), xp.asarray(model.top_k)
    routed = (
        lay.pool_replicas
        * top_k
        * (2.0 * hidden / partition.ep + matrices * model.expert_ff / lay.expert_time_shards)
    )
    per_token = moe_layers * routed
    if convention.scope == "full_model":
        shared = model.shared_experts * (2.0 * hidden + matrices * model.shared_ff / lay.ffn_tp)
        dense = 2.0 * hidden + matrices * model.dense_ff / lay.ffn_tp
        per_token = per_token + moe_layers * shared + model.dense_layers * dense
    return microbatch * (workload.bytes_act * per_token / partition.pp)


def head_activation_bytes(ctx: Context, microbatch: Array) -> Array:
    """Input of the head and the logits that it writes [B]."""
    model, _, partition, workload, convention, _ = ctx
    if convention.scope == "routed_ffn":
        return xp.zeros(())
    per_token = xp.asarray(model.hidden) + xp.asarray(model.vocab) / weight_ranks(partition)
    return microbatch * (workload.bytes_act * per_token / partition.pp)
