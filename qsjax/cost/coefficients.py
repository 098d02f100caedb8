"""What a decode step costs before its batch is known: seconds per sequence, and fixed seconds.

Every time of a step is `fixed + rate * microbatch`, up to a maximum here and there. The rates
depend on fewer axes of a grid than the batch does, so a search computes them at their own rank and
leaves only the arithmetic with the batch for every cell.
"""

from typing import Generic, NamedTuple, TypeVar

from qsjax.cost.laws import communication, compute, memory, traffic
from qsjax.cost.laws.collectives import Cost
from qsjax.cost.laws.sharding import Context
from qsjax.numerics.namespace import Array, xp


class Phases(NamedTuple):
    """One value for each phase of a layer, and for the output head [s]."""

    attention: Array
    projection: Array
    ffn: Array
    head: Array


Seconds = TypeVar("Seconds")


class Families(NamedTuple, Generic[Seconds]):
    """Something of each communication family: the parts of its cost, or seconds [s]."""

    tp: Seconds
    kv: Seconds
    ep: Seconds
    layout: Seconds


class Rates(NamedTuple):
    """Seconds of one microbatch in one stage, per sequence unless said otherwise.

    A sequence brings `query_tokens` tokens to a step (more than one with speculation); its cache is
    read once for all of them.

    Attributes:
        compute: arithmetic, the routed experts left out.
        compute_routed: arithmetic of the routed experts under an even load.
        kv: reading the cache.
        activations: inputs and outputs of the matrix products.
        weights: reading the weights that every token uses, per microbatch.
        pool: reading the whole expert pool once, per microbatch.
        comm: start-ups per microbatch, and bandwidth parts (expert exchange: even load; two shots).
        reduction: the all-reduces of both kinds.
        p2p: handing over to the next stage, as `comm`.
    """

    compute: Phases
    compute_routed: Array
    kv: Array
    activations: Phases
    weights: Phases
    pool: Array
    comm: Families[Cost]
    reduction: communication.Reduction
    p2p: Cost


def _compute(ctx: Context) -> tuple[Phases, Array]:
    model, hardware, part, work, conv, lay = ctx
    tokens = xp.asarray(work.query_tokens)
    weights = memory.attention_weights_per_gpu(model, part, lay)
    gemm = hardware.eff_gemm
    ffn = compute.peak_flops(hardware, work.ffn_dtype, conv) * gemm
    experts = ffn * compute.of_experts(model, hardware.expert_gemm_ratio)
    phases = Phases(
        attention=tokens * compute.attention_seconds(ctx),
        projection=compute.projection_flops(ctx, weights, tokens)
        / (compute.peak_flops(hardware, work.proj_dtype, conv) * gemm),
        ffn=compute.always_flops(ctx, tokens) / ffn,
        head=compute.head_flops(ctx, tokens)
        / (compute.peak_flops(hardware, work.head_dtype, conv) * gemm),
    )
    return phases, compute.routed_flops(ctx, tokens, xp.ones(())) / experts


def _activations(ctx: Context, streaming: Array) -> Phases:
    tokens = xp.asarray(ctx.workload.query_tokens)
    experts = streaming * compute.of_experts(ctx.model, ctx.hardware.expert_read_ratio)
    if ctx.convention.activations == "none":
        return Phases(*(xp.zeros(()),) * 4)
    return Phases(
        traffic.attention_activation_bytes(ctx, tokens) / streaming,
        traffic.projection_activation_bytes(ctx, tokens) / streaming,
        traffic.ffn_activation_bytes(ctx, tokens) / experts,
        traffic.head_activation_bytes(ctx, tokens) / streaming,
    )


def _weights(ctx: Context, streaming: Array) -> Phases:
    attention = xp.zeros(())
    if ctx.convention.scope == "full_model":
        per_gpu = memory.attention_weights_per_gpu(ctx.model, ctx.partition, ctx.lay)
        attention = xp.asarray(ctx.workload.bytes_attn_weight) * per_gpu / streaming
    return Phases(
        attention=xp.zeros(()),
        projection=attention,
        ffn=traffic.always_read_bytes(ctx) / streaming,
        head=traffic.head_bytes(ctx) / streaming,
    )


def rates(ctx: Context) -> Rates:
    """Every coefficient of a step, each with the axes that it depends on [s]."""
    model, hardware, part, work, conv, _ = ctx
    one, tokens = xp.ones(()), xp.asarray(work.query_tokens)
    phases, routed = _compute(ctx)
    bandwidth = xp.asarray(hardware.hbm_bw)
    streaming = bandwidth * hardware.eff_weight_read
    kv = traffic.kv_bytes(ctx, compute.attended_tokens(model, work), one)
    pool = compute.streamed_pool(model, conv)
    p2p = communication.pipeline(ctx)
    reduction = communication.tensor_parallel(ctx, tokens)
    load = compute.rank_load(part) if conv.expert_balance == "skewed" else one
    experts = streaming * compute.of_experts(model, hardware.expert_read_ratio)
    load = compute.of_experts(model, load)
    return Rates(
        compute=phases,
        compute_routed=routed,
        kv=kv * (1.0 / (bandwidth * hardware.eff_kv_read)),
        activations=_activations(ctx, streaming),
        weights=_weights(ctx, streaming),
        pool=traffic.routed_bytes(ctx, pool, load) / experts,
        comm=Families(
            tp=reduction.two_shot,
            kv=communication.kv_parallel(ctx, tokens),
            ep=communication.expert_parallel(ctx, tokens, one),
            layout=communication.layout_transition(ctx, tokens),
        ),
        reduction=reduction,
        p2p=Cost(p2p.startup, tokens * p2p.bandwidth),
    )
