"""The five communication families of one microbatch in one stage, and what is seen (paper 4.3)."""

from typing import NamedTuple

from qsjax.cost.laws import collectives, params
from qsjax.cost.laws.collectives import Cost
from qsjax.cost.laws.sharding import Context, weight_ranks
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.records.specs import KV_CP


def _per_layer(cost: Cost, layers: Array, launches: Array | float) -> Cost:
    return Cost(layers * launches * cost.startup, layers * cost.bandwidth)


def _stage_layers(ctx: Context) -> Array:
    return xp.asarray(ctx.model.layers) / ctx.partition.pp


def _moe_stage_layers(ctx: Context) -> Array:
    return params.moe_layers(ctx.model) / ctx.partition.pp


def _hidden_bytes(ctx: Context) -> Array:
    return xp.asarray(ctx.model.hidden) * ctx.workload.bytes_act


class Reduction(NamedTuple):
    """The two all-reduces of a stage's layers, both as one shot or both as two shots [s].

    Attributes:
        two_shot: start-up of either kind, and bandwidth part of the two-shot kind.
        latency: what two shots take longer, whatever the message.
        one_shot: bandwidth part of the one-shot kind.
    """

    two_shot: Cost
    latency: Array
    one_shot: Array


def tensor_parallel(ctx: Context, microbatch: Array) -> Reduction:
    """Two all-reduces a layer [s]: over tp after attention, over the FFN's split after the FFN.

    Under Helix the KV ranks hold different sequences after their exchange, so the first one
    carries 1/kvp of the microbatch. Ranks that gather queries hold heads, and it spans them all.
    """
    part, hardware, convention = ctx.partition, ctx.hardware, ctx.convention
    message = _hidden_bytes(ctx)
    is_divided = convention.ffn_sharding == "stage" and not part.gathers_queries
    first = message / part.kvp if is_divided else message
    pairs = [
        (collectives.group(n, 1.0, hardware, convention), size)
        for n, size in ((weight_ranks(part), first), (ctx.lay.ffn_tp, message))
    ]
    two = [collectives.all_reduce(ranks, size, hardware, convention) for ranks, size in pairs]
    one = [collectives.one_shot(ranks, size, hardware, convention) for ranks, size in pairs]
    layers = _stage_layers(ctx)
    launches = 0.5 * xp.asarray(part.tp_messages)
    real = sum(xp.where(ranks.inner > 1, 1.0, 0.0) for ranks, _ in pairs)
    return Reduction(
        Cost(
            layers * launches * (two[0].startup + two[1].startup),
            microbatch * (layers * (two[0].bandwidth + two[1].bandwidth)),
        ),
        layers * real * hardware.two_shot_latency,
        microbatch * (layers * (one[0] + one[1])),
    )


def shorter(reduction: Reduction, sequences: ArrayLike) -> Cost:
    """The faster kind for so many sequences [s]."""
    two = reduction.latency + sequences * reduction.two_shot.bandwidth
    return Cost(reduction.two_shot.startup, xp.minimum(two, sequences * reduction.one_shot))


def kv_parallel(ctx: Context, microbatch: Array) -> Cost:
    """Exchange of partial attention outputs over kvp [s] and, in pass-Q, the ring of queries.

    Each head's output travels with its log-sum-exp. Ranks that share the weights gather the queries
    of all their heads first. Sources: Helix, arXiv 2507.07120; context parallelism with pass-Q,
    arXiv 2411.01783; vLLM, https://docs.vllm.ai/en/latest/serving/context_parallel_deployment.html.
    """
    model, part, hardware = ctx.model, ctx.partition, ctx.hardware
    latent, kvp = xp.asarray(model.kv_latent), xp.asarray(part.kvp)
    output_dim = xp.where(latent > 0, latent, model.head_dim)
    query_dim = xp.where(latent > 0, latent + model.rope_dim, model.head_dim)
    per_dim = model.heads / xp.asarray(part.tp) * ctx.workload.bytes_act
    ranks = collectives.group(kvp, part.tp, hardware, ctx.convention)
    exchange = collectives.all_to_all(ranks, per_dim * (output_dim + 1.0), hardware, ctx.convention)
    ring = collectives.point_to_point(
        ranks.outer <= 1, per_dim * query_dim * (kvp - 1.0) / kvp, hardware
    )
    is_ring = xp.where(xp.equal(part.kv_mode, KV_CP), 1.0, 0.0)
    layers = params.softmax_layers(model) / part.pp
    startup = part.kv_messages * exchange.startup + is_ring * (kvp - 1.0) * ring.startup
    volume = ctx.convention.kv_exchange_volume * exchange.bandwidth + is_ring * ring.bandwidth
    if part.gathers_queries:
        gather = collectives.half_collective(ranks, per_dim * query_dim, hardware, ctx.convention)
        startup, volume = startup + gather.startup, volume + gather.bandwidth
    return Cost(layers * startup, microbatch * (layers * volume))


def _every_token(ctx: Context) -> Cost:
    # The paper's tables: a copy of each token for each expert, one start-up a message, one fabric.
    part, hardware = ctx.partition, ctx.hardware
    ep = xp.asarray(part.ep)
    is_intra = ctx.lay.expert_tp * ep <= hardware.island_size
    message = 2.0 * xp.asarray(ctx.model.top_k) * _hidden_bytes(ctx)
    cost = collectives.point_to_point(is_intra, message, hardware)
    is_spread = xp.where(ep > 1, 1.0, 0.0)
    return Cost(is_spread * cost.startup, is_spread * cost.bandwidth)


def _islands_met(copies: Array, away: Array, islands: Array) -> Array:
    """Islands of those `away` that a token's copies reach, each anywhere among `islands` [1]."""
    missed = xp.log(xp.where(islands > 1, 1.0 - 1.0 / xp.maximum(islands, 1.0), 1.0))
    return away * (1.0 - xp.exp(copies * missed))


def _off_replica(ctx: Context) -> Cost:
    part, hardware = ctx.partition, ctx.hardware
    ep = xp.asarray(part.ep)
    replica_ranks = xp.asarray(part.kvp) * part.tp
    # The replicas that share a pool hold equal parts of it, so each finds 1/replicas at home.
    at_home = xp.maximum(1.0, ep / ctx.lay.pool_replicas)
    ranks = collectives.group(ep, ctx.lay.expert_tp, hardware, ctx.convention)
    near = xp.maximum(ranks.inner, at_home)
    # Every rank of an expert's tensor-parallel group needs the tokens; across replicas it is the
    # layout transition that gathers them.
    receivers = xp.minimum(ctx.lay.expert_tp, replica_ranks)
    copies = xp.minimum(ctx.model.top_k, ep)
    token = xp.asarray(ctx.model.hidden) / replica_ranks
    token = token * (xp.asarray(ctx.workload.bytes_dispatch) + ctx.workload.bytes_act)
    at_rank = copies * receivers * token / ep
    away = ep - near
    inside, outside = near - at_home, at_rank * away
    spanned = xp.maximum(1.0, receivers / hardware.island_size)
    reached = ranks.inner * receivers / spanned
    if ctx.convention.expert_exchange == "relayed":
        # What lands on one GPU of another island is handed on to the others there that take it.
        inside = inside + away * (1.0 - 1.0 / reached)
        met = _islands_met(copies, away / ranks.inner, ep / ranks.inner)
        outside = token * met * spanned
    inside = at_rank * inside / collectives.inside_bw(reached, hardware)
    outside = outside / hardware.inter_bw
    # Exchange kernels synchronise all ranks, which takes longer than a start-up of the fabric;
    # between islands it is part of the measured latency.
    inside_latency = xp.asarray(hardware.intra_latency) + hardware.exchange_overhead
    latency = xp.where(
        away > 0, hardware.inter_latency, xp.where(near > at_home, inside_latency, 0.0)
    )
    return Cost(latency, xp.maximum(inside, outside) / hardware.eff_link)


def expert_parallel(ctx: Context, microbatch: Array, load: Array) -> Cost:
    """Dispatch and combine of the tokens of the busiest rank [s].

    The ranks of one attention replica hold the same tokens after their all-reduce, so in the
    physical accounting only experts of other replicas cost a message, and at most ep of them.
    `relayed`: a token crosses to an island once, whatever experts it meets there, and is handed on
    inside. Source: DeepEP's normal kernels, https://github.com/deepseek-ai/DeepEP.
    """
    is_paper = ctx.convention.expert_exchange == "every_token"
    one = _every_token(ctx) if is_paper else _off_replica(ctx)
    layers = _moe_stage_layers(ctx)
    volume = layers * ctx.convention.ep_exchange_volume * one.bandwidth
    return Cost(layers * ctx.partition.ep_messages * one.startup, load * microbatch * volume)


def layout_transition(ctx: Context, microbatch: Array) -> Cost:
    """From attention (tp x kvp) to FFN (its split x ep) and back [s]; none under `tp` sharding."""
    part = ctx.partition
    if ctx.convention.ffn_sharding == "tp":
        return Cost(xp.zeros(()), xp.zeros(()))
    message = _hidden_bytes(ctx)
    replica_ranks = xp.asarray(part.kvp) * part.tp
    spanned = xp.maximum(1.0, ctx.lay.expert_tp / replica_ranks)

    def gather(size: ArrayLike, stride: ArrayLike, message_bytes: Array) -> Cost:
        ranks = collectives.group(size, stride, ctx.hardware, ctx.convention)
        return collectives.half_collective(ranks, message_bytes, ctx.hardware, ctx.convention)

    kv_ranks = gather(part.kvp, part.tp, message)
    replicas = gather(spanned, replica_ranks, spanned * message)
    launches = xp.asarray(part.layout_messages)
    every = _per_layer(kv_ranks, _stage_layers(ctx), launches)
    if part.gathers_queries:  # after their all-reduce the ranks hold all tokens
        every = Cost(xp.zeros(()), xp.zeros(()))
    moe = _per_layer(replicas, 2.0 * _moe_stage_layers(ctx), launches)
    return Cost(every.startup + moe.startup, microbatch * (every.bandwidth + moe.bandwidth))


def pipeline(ctx: Context) -> Cost:
    """Hidden states of one sequence handed to the next stage [s]; 0 without pipeline stages."""
    # The slowest hand-over sets the beat: one that leaves the island, if there is one.
    is_intra = ctx.lay.gpus <= ctx.hardware.island_size
    one = collectives.point_to_point(is_intra, _hidden_bytes(ctx), ctx.hardware)
    is_piped = xp.where(xp.asarray(ctx.partition.pp) > 1, 1.0, 0.0)
    return Cost(is_piped * one.startup, is_piped * one.bandwidth)


def exposed_bandwidth(
    bandwidth: Array, window: ArrayLike, overlap: ArrayLike, tail: ArrayLike | None = None
) -> Array:
    """Seconds of a transfer's bandwidth part that the phase does not hide [s].

    Args:
        bandwidth: bandwidth part of the family [s].
        window: time of the phases that may hide it [s].
        overlap: share of the window that the family may use.
        tail: share of the bandwidth part that nothing can hide (the end of a ring), if any.
    """
    hidden = overlap * xp.asarray(window)
    if tail is None:
        return xp.maximum(0.0, bandwidth - hidden)
    at_the_end = xp.asarray(tail) * bandwidth
    return at_the_end + xp.maximum(0.0, (bandwidth - at_the_end) - hidden)


def exposed_startup(startup: Array, startup_overlap: ArrayLike) -> Array:
    """Seconds of a transfer's start-ups that are not hidden [s]."""
    return (1.0 - xp.asarray(startup_overlap)) * startup
