"""One decode step: the laws composed, with every term left visible."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from qsjax.cost import communication, compute, memory, traffic
from qsjax.cost.collectives import Cost
from qsjax.cost.overlap import exposed
from qsjax.feasibility import Capacity, capacity, reasons
from qsjax.layout import layout
from qsjax.numerics import at_least
from qsjax.specs import (
    KV_CP,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)


class Phases(NamedTuple):
    """One value for each phase of a layer, and for the output head [s]."""

    attention: jax.Array
    projection: jax.Array
    ffn: jax.Array
    head: jax.Array


def compute_times(ctx: communication.Context, microbatch: jax.Array, load: jax.Array) -> Phases:
    """Arithmetic time of each phase [s]."""
    model, hardware, part, work, conv, lay = ctx
    weights = memory.attention_weights_per_gpu(model, part, lay)
    gemm = hardware.eff_gemm
    return Phases(
        attention=compute.attention_flops(model, part, work, conv, microbatch)
        / (compute.peak_flops(hardware, work.attn_dtype, conv) * hardware.eff_attention),
        projection=compute.projection_flops(model, part, conv, weights, microbatch)
        / (compute.peak_flops(hardware, work.proj_dtype, conv) * gemm),
        ffn=compute.ffn_flops(model, part, conv, lay, microbatch, load)
        / (compute.peak_flops(hardware, work.ffn_dtype, conv) * gemm),
        head=compute.head_flops(model, part, conv, microbatch)
        / (compute.peak_flops(hardware, work.head_dtype, conv) * gemm),
    )


class Hbm(NamedTuple):
    """HBM time by source of the bytes [s]."""

    kv: jax.Array
    attention_weights: jax.Array
    routed: jax.Array
    always: jax.Array
    head: jax.Array
    activations: Phases

    def phases(self) -> Phases:
        """The same seconds by phase."""
        act = self.activations
        return Phases(
            attention=self.kv + act.attention,
            projection=self.attention_weights + act.projection,
            ffn=self.routed + self.always + act.ffn,
            head=self.head + act.head,
        )


def hbm_times(ctx: communication.Context, microbatch: jax.Array) -> Hbm:
    """HBM time of each source [s]."""
    model, hardware, part, work, conv, lay = ctx
    streaming = jnp.asarray(hardware.hbm_bw) * hardware.eff_weight_read
    routed_tokens = microbatch * lay.pool_replicas
    factor = traffic.expert_traffic_factor(model, conv, routed_tokens, microbatch)
    pool = compute.streamed_pool(model, conv)
    attention = jnp.zeros(())
    activations = Phases(*(jnp.zeros(()),) * 4)
    if conv.scope == "full_model":
        per_gpu = memory.attention_weights_per_gpu(model, part, lay)
        attention = jnp.asarray(work.bytes_attn_weight) * per_gpu / streaming
    if conv.activations == "gemm_io":
        activations = Phases(
            traffic.attention_activation_bytes(model, part, work, microbatch) / streaming,
            traffic.projection_activation_bytes(model, part, work, microbatch) / streaming,
            traffic.ffn_activation_bytes(model, part, work, conv, lay, microbatch) / streaming,
            traffic.head_activation_bytes(model, part, work, conv, microbatch) / streaming,
        )
    attended = compute.attended_tokens(model, work)
    kv = traffic.kv_bytes(model, part, work, conv, attended, microbatch)
    return Hbm(
        kv=kv / (jnp.asarray(hardware.hbm_bw) * hardware.eff_kv_read),
        attention_weights=attention,
        routed=traffic.routed_bytes(pool, part, work, lay, factor) / streaming,
        always=traffic.always_read_bytes(model, part, work, conv, lay) / streaming,
        head=traffic.head_bytes(model, part, work, conv) / streaming,
        activations=activations,
    )


class Bound(NamedTuple):
    """Time before communication, and the windows in which communication may hide [s]."""

    t_bound: jax.Array
    windows: Phases


def bottleneck(arithmetic: Phases, hbm: Phases, convention: Convention) -> Bound:
    """Slower of arithmetic and HBM: over the whole step (eq. 19) or in every phase [s]."""
    if convention.bottleneck == "global":
        return Bound(jnp.maximum(sum(arithmetic), sum(hbm)), arithmetic)
    slower = Phases(*(jnp.maximum(c, h) for c, h in zip(arithmetic, hbm, strict=True)))
    return Bound(sum(slower[1:], slower[0]), slower)


class Families(NamedTuple):
    """Start-up and bandwidth part of each communication family of a layer [s]."""

    tp: Cost
    kv: Cost
    ep: Cost
    layout: Cost


class Exposed(NamedTuple):
    """What overlap leaves of each communication family [s]."""

    tp: jax.Array
    kv: jax.Array
    ep: jax.Array
    layout: jax.Array


def communication_times(
    ctx: communication.Context, microbatch: jax.Array, load: jax.Array
) -> Families:
    """Every family of a microbatch, before overlap [s]."""
    return Families(
        tp=communication.tensor_parallel(ctx, microbatch),
        kv=communication.kv_parallel(ctx, microbatch),
        ep=communication.expert_parallel(ctx, microbatch, load),
        layout=communication.layout_transition(ctx, microbatch),
    )


def exposed_times(ctx: communication.Context, comm: Families, windows: Phases) -> Exposed:
    """What overlap leaves of every family [s]."""
    hardware = ctx.hardware
    startup = hardware.overlap_startup
    is_ring = jnp.where(jnp.equal(ctx.partition.kv_mode, KV_CP), 1.0, 0.0)
    tail = is_ring * hardware.cp_ring_tail
    around_ffn = windows.projection + windows.ffn
    return Exposed(
        tp=exposed(comm.tp, around_ffn, hardware.overlap_tp, startup),
        kv=exposed(comm.kv, windows.attention, hardware.overlap_kv, startup, tail),
        ep=exposed(comm.ep, windows.ffn, hardware.overlap_ep, startup),
        layout=exposed(comm.layout, windows.ffn, hardware.overlap_layout, startup),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Every term of one decode step.

    Times are per microbatch and pipeline stage, except `tpot`: `t_stage` is `t_bound` plus the
    four exposed families plus `t_overhead`.

    Attributes:
        reasons: bit set of `feasibility.REASONS`; 0 = feasible.
        capacity: memory per GPU, B_max and the batch.
        microbatch: sequences of an attention replica in a stage at a time.
        gpus: GPUs of the design.
        compute: arithmetic time by phase [s].
        hbm: HBM time by source of the bytes [s].
        comm: start-up and bandwidth part by family [s].
        exposed: what overlap leaves of `comm` [s].
        t_bound: bottleneck of arithmetic and HBM [s].
        t_overhead: launch overhead of the layers [s].
        t_p2p: hand-over to the next stage [s].
        tpot: time per output token of a sequence [s].
        tokens_per_s: of the whole design.
        tokens_per_s_per_gpu: of each GPU.
        tokens_per_s_per_user: of each sequence, 1/TPOT.
    """

    reasons: jax.Array
    capacity: Capacity
    microbatch: jax.Array
    gpus: jax.Array
    compute: Phases
    hbm: Hbm
    comm: Families
    exposed: Exposed
    t_bound: jax.Array
    t_overhead: jax.Array
    t_stage: jax.Array
    t_p2p: jax.Array
    tpot: jax.Array
    tokens_per_s: jax.Array
    tokens_per_s_per_gpu: jax.Array
    tokens_per_s_per_user: jax.Array


def decode_step(
    model: ModelSpec,
    hardware: HardwareSpec,
    partition: Partition,
    workload: Workload,
    convention: Convention,
    gpus: ArrayLike | None = None,
) -> StepCost:
    """Cost of one decode step, every term [s, B, tokens/s].

    Pure and unchecked: fields of all records broadcast against each other, so one call serves a
    scalar design as well as a dense grid, and it may be jitted, vmapped and differentiated.

    Args:
        model: shapes; a dense twin is a model like any other.
        hardware: accelerator and fabrics.
        partition: parallel degrees.
        workload: context, dtypes and batch; `batch=None` takes the largest that fits.
        convention: accounting, `PHYSICAL` or `PAPER` or any variation.
        gpus: if given, designs of another GPU count carry the reason "wrong GPU count".
    """
    lay = layout(model, partition, convention)
    cap = capacity(model, hardware, partition, workload, convention, lay)
    ctx = communication.Context(model, hardware, partition, workload, convention, lay)
    pp = jnp.asarray(partition.pp)
    microbatch = at_least(cap.batch / pp, 1.0)
    load = compute.expert_load(model, partition, convention, microbatch * lay.pool_replicas)

    arithmetic = compute_times(ctx, microbatch, load)
    hbm = hbm_times(ctx, microbatch)
    bound = bottleneck(arithmetic, hbm.phases(), convention)
    comm = communication_times(ctx, microbatch, load)
    seen = exposed_times(ctx, comm, bound.windows)
    t_overhead = jnp.asarray(hardware.layer_overhead) * model.layers / pp
    t_stage = bound.t_bound + (seen.tp + seen.kv + seen.ep + seen.layout) + t_overhead
    t_p2p = communication.pipeline(ctx, microbatch)
    tpot = (pp * (t_stage + t_p2p) + hardware.step_overhead) / workload.tokens_per_step
    tokens_per_s = jnp.asarray(partition.dp) * cap.batch / tpot
    return StepCost(
        reasons=reasons(model, partition, workload, convention, lay, cap, gpus),
        capacity=cap,
        microbatch=microbatch,
        gpus=lay.gpus,
        compute=arithmetic,
        hbm=hbm,
        comm=comm,
        exposed=seen,
        t_bound=bound.t_bound,
        t_overhead=t_overhead,
        t_stage=t_stage,
        t_p2p=t_p2p,
        tpot=tpot,
        tokens_per_s=tokens_per_s,
        tokens_per_s_per_gpu=tokens_per_s / lay.gpus,
        tokens_per_s_per_user=1.0 / tpot,
    )
