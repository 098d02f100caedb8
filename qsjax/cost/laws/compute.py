"""Arithmetic of one microbatch on one GPU, per phase [FLOP] (paper 4.1)."""

import math
from typing import NamedTuple

from qsjax.cost.laws import params
from qsjax.cost.laws.sharding import Context, weight_ranks
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.safe import ceil, safe_divide, safe_log, safe_sqrt
from qsjax.records.specs import Convention, Dtype, HardwareSpec, ModelSpec, Partition, Workload


def peak_flops(hardware: HardwareSpec, dtype: Dtype, convention: Convention) -> Array:
    """Peak rate of the matrix units at `dtype` [FLOP/s]; BF16 for all in the paper's tables."""
    name = "bf16" if convention.compute_dtype == "bf16" else dtype
    return xp.asarray(getattr(hardware, f"flops_{name}"))


def attended_tokens(model: ModelSpec, workload: Workload) -> tuple[Array, Array]:
    """Tokens that a query of a full layer and of a window layer attends to [1].

    Entries of several tokens count as one.
    """
    context, topk = xp.asarray(workload.context), xp.asarray(model.sparse_topk)
    full = xp.where(topk > 0, xp.minimum(context, topk), context)
    chosen = xp.minimum(params.index_keys(model, context), topk)
    beside = params.beside_window(model, chosen, params.pooled_entries(model, context))
    return full, xp.minimum(context, xp.asarray(model.window)) + beside


def flops_per_score(model: ModelSpec) -> Array:
    """Product with a key and with a value, of one query row and one token [FLOP].

    MLA is counted in its absorbed form, where queries meet the latent itself.
    """
    latent = xp.asarray(model.kv_latent)
    grouped = 4.0 * xp.asarray(model.head_dim)
    return xp.where(latent > 0, 2.0 * (2.0 * latent + model.rope_dim), grouped)


def query_tiles(ctx: Context) -> tuple[Array, Array]:
    """Tiles that the query rows of one KV head fill, and rows of the tiles per row in use [1].

    The rows that share a KV head (all those of a latent) are one operand of the matrix units, which
    take `query_tile` rows at a time (FlashAttention-3, arXiv 2407.08608; 64 for Hopper's wgmma).
    A tile of 1 pads nothing, also where KV heads that do not divide leave a broken number of rows.
    """
    model, hardware, partition, workload, *_ = ctx
    kv_heads = xp.ceil(xp.asarray(model.kv_heads) / partition.tp)
    kv_heads = xp.where(xp.asarray(model.kv_latent) > 0, 1.0, kv_heads)
    rows = xp.asarray(model.heads) / partition.tp / kv_heads * workload.query_tokens
    tile = xp.asarray(hardware.query_tile)
    # Straight through: at full tiles further rows are not free.
    tiles = xp.where(tile > 1, ceil(rows / tile), rows)
    return tiles, tiles * tile / rows


def index_flops(model: ModelSpec, workload: Workload) -> Array:
    """Scores of all indexers of one query and one token, as products of attention's dtype [FLOP].

    Keys of 8 bits meet queries of 8 bits, twice as fast as those of 16 bits.
    """
    scores = 2.0 * xp.asarray(model.index_heads) * model.index_dim * model.index_layers
    scores = params.index_keys(model, scores)
    if workload.attn_dtype != "bf16":
        return scores
    return xp.where(xp.asarray(workload.bytes_index) < 2.0, 0.5, 1.0) * scores


class Attention(NamedTuple):
    """What one token asks of a GPU in the attention phase of a stage.

    Attributes:
        rows: query rows: heads over every split.
        attended: tokens that each of them meets, over the softmax layers.
        indexer: scores of the indexer (DeepSeek sparse attention) per token of context [FLOP].
        state: states of linear layers [FLOP].
    """

    rows: Array
    attended: Array
    indexer: Array
    state: Array


def attention_work(ctx: Context) -> Attention:
    """Work of one token; the paper's tables do not divide it by kvp.

    The state of a linear layer has no sequence dimension that kvp could divide.
    """
    model, _, partition, workload, convention, _ = ctx
    replica = xp.asarray(partition.tp) * partition.pp
    shards = replica * partition.kvp if convention.attention_flops_over_kvp else replica
    full, window = attended_tokens(model, workload)
    state = 4.0 * xp.asarray(model.linear_state) * model.linear_layers
    return Attention(
        rows=xp.asarray(model.heads) / shards,
        attended=params.full_layers(model) * full + model.window_layers * window,
        indexer=index_flops(model, workload) / shards,
        state=state / (weight_ranks(partition) * partition.pp),
    )


def attention_flops(ctx: Context) -> Array:
    """Attention phase of one token, without what fills a tile [FLOP]."""
    work = attention_work(ctx)
    softmax = work.rows * flops_per_score(ctx.model) * work.attended
    return softmax + work.indexer * ctx.workload.context + work.state


def attention_seconds(ctx: Context) -> Array:
    """Attention phase of one token: products on whole tiles, exponentials of the softmax [s].

    A kernel with one tile per KV head has nothing to run beside its softmax, so both times add up;
    with more of them the products of one hide the softmax of another (ping-pong scheduling,
    arXiv 2407.08608, section 3.1). The paper's tables know neither tiles nor a softmax.
    """
    hardware, workload, convention = ctx.hardware, ctx.workload, ctx.convention
    work = attention_work(ctx)
    flop = 1.0 / (peak_flops(hardware, workload.attn_dtype, convention) * hardware.eff_attention)
    score = flops_per_score(ctx.model) * flop
    if convention.attention_tiles:
        tiles, padding = query_tiles(ctx)
        softmax = safe_divide(1.0, xp.asarray(hardware.flops_exp) * hardware.eff_exp)
        score = padding * xp.where(tiles > 1, xp.maximum(score, softmax), score + softmax)
    # What depends on the design alone comes first: two multiply-adds are left for every context.
    no_softmax = (work.indexer * flop) * workload.context + work.state * flop
    return (work.rows * score) * work.attended + no_softmax


def projection_flops(ctx: Context, exact_weights: Array, microbatch: Array) -> Array:
    """Projection phase [FLOP]: two per attention weight on this GPU (`exact_weights`)."""
    model, partition, weights = ctx.model, ctx.partition, exact_weights
    if ctx.convention.mla_projection == "two_d_squared":
        shards = weight_ranks(partition) * partition.pp
        softmax = params.softmax_layers(model) * 2.0 * xp.asarray(model.hidden) ** 2
        simplified = (softmax + params.linear_params(model)) / shards
        weights = xp.where(xp.asarray(model.kv_latent) > 0, simplified, weights)
    return 2.0 * microbatch * weights


def of_experts(model: ModelSpec, ratio: ArrayLike) -> Array:
    """A ratio of routed experts to dense products [1]; 1 where the pool is a dense network."""
    return xp.where(xp.asarray(model.experts) > 1, ratio, 1.0)


# Load of the busiest expert rank above the mean for each doubling of the ranks: served deployments
# are explained best by 0.02 to 0.03 (`python -m benchmarks.fit_kernels --rank-skew`).
RANK_SKEW = 0.03


def expert_load(ctx: Context, routed_tokens: Array) -> Array:
    """Tokens of the busiest expert rank over those of the mean rank [1]; 1 in a dense model.

    `poisson` adds the expected maximum of `ep` Poisson loads of mean n, n + sqrt(2 n ln ep);
    `skewed` a share for every doubling of the ranks, as routers do not choose evenly.
    """
    model, partition, convention = ctx.model, ctx.partition, ctx.convention
    load = xp.asarray(convention.expert_load_factor)
    if convention.expert_balance == "poisson":
        ep = xp.asarray(partition.ep)
        mean = routed_tokens * model.top_k / ep
        load = load * (1.0 + safe_sqrt(safe_divide(2.0 * safe_log(ep), mean)))
    if convention.expert_balance == "skewed":
        load = load * rank_load(partition)
    return xp.where(xp.asarray(model.experts) > 1, load, 1.0)


def rank_load(partition: Partition) -> Array:
    """Load of the busiest expert rank over the mean under `skewed` [1]."""
    return 1.0 + RANK_SKEW / math.log(2.0) * safe_log(partition.ep)


def streamed_pool(model: ModelSpec, convention: Convention) -> Array:
    """Parameters that the routed-FFN law moves and multiplies [1].

    Under `scope="routed_ffn"` a dense model stands for one block of all its parameters: the
    paper's tables charge eq. 21's total as FFN, but the MoE for its expert pool alone.
    """
    pool = params.pool_params(model)
    if convention.scope == "full_model":
        return pool
    return xp.where(xp.asarray(model.experts) > 1, pool, params.total_params(model))


def routed_flops(ctx: Context, microbatch: Array, load: Array) -> Array:
    """FFN phase, routed experts of the busiest rank [FLOP]."""
    model, convention, lay = ctx.model, ctx.convention, ctx.lay
    sparsity = xp.asarray(model.top_k) / model.experts
    factor = xp.where(xp.asarray(model.experts) > 1, 1.0, convention.dense_flops_factor)
    active = factor * sparsity * streamed_pool(model, convention)
    shards = lay.expert_time_shards * ctx.partition.pp
    return 2.0 * load * microbatch * (active * lay.pool_replicas / shards)


def always_flops(ctx: Context, microbatch: Array) -> Array:
    """FFN phase, what every token uses [FLOP]: shared experts, dense layers and router."""
    if ctx.convention.scope == "routed_ffn":
        return xp.zeros(())
    model = ctx.model
    split = (params.shared_params(model) + params.dense_ffn_params(model)) / ctx.lay.ffn_tp
    return 2.0 * microbatch * ((split + params.router_params(model)) / ctx.partition.pp)


def head_flops(ctx: Context, microbatch: Array) -> Array:
    """Output head [FLOP], spread evenly over the stages."""
    if ctx.convention.scope == "routed_ffn":
        return xp.zeros(())
    shards = weight_ranks(ctx.partition) * ctx.partition.pp
    return 2.0 * microbatch * (params.head_params(ctx.model) / shards)
