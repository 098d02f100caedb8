"""One decode step: the laws composed, with every term left visible."""

import dataclasses
from typing import NamedTuple

from qsjax.cost.coefficients import Families, Phases, Rates, rates
from qsjax.cost.feasibility import REASONS, Capacity, bits_of, broken_rules, capacity, replicas_of
from qsjax.cost.laws import communication, compute, overheads, traffic
from qsjax.cost.laws.collectives import Cost
from qsjax.cost.laws.communication import exposed_bandwidth, exposed_startup
from qsjax.cost.laws.sharding import Context, context_of
from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import at_least, blend
from qsjax.records.specs import KV_CP, Convention, HardwareSpec, ModelSpec, Records, Workload


class Hbm(NamedTuple):
    """HBM time by source of the bytes [s]."""

    kv: Array
    attention_weights: Array
    routed: Array
    always: Array
    head: Array
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


class Bound(NamedTuple):
    """Time before communication, and the windows in which communication may hide [s]."""

    t_bound: Array
    windows: Phases


class BatchState(NamedTuple):
    """A microbatch's sequences, the load of its busiest expert rank, and its share of the pool."""

    microbatch: Array
    load: Array
    coverage: Array


def compute_times(rate: Rates, at: BatchState) -> Phases:
    """Arithmetic time of each phase [s]."""
    phases = rate.compute
    return Phases(
        attention=at.microbatch * phases.attention,
        projection=at.microbatch * phases.projection,
        ffn=at.microbatch * (at.load * rate.compute_routed + phases.ffn),
        head=at.microbatch * phases.head,
    )


def hbm_times(rate: Rates, at: BatchState) -> Hbm:
    """HBM time of each source [s]."""
    return Hbm(
        kv=at.microbatch * rate.kv,
        attention_weights=rate.weights.projection,
        routed=at.coverage * rate.pool,
        always=rate.weights.ffn,
        head=rate.weights.head,
        activations=Phases(*(at.microbatch * x for x in rate.activations)),
    )


def phase_times(rate: Rates, at: BatchState) -> tuple[Phases, Phases]:
    """Arithmetic and HBM time of each phase [s], with as few operations per design as possible."""
    act, weights = rate.activations, rate.weights
    hbm = Phases(
        attention=at.microbatch * (rate.kv + act.attention),
        projection=at.microbatch * act.projection + weights.projection,
        ffn=at.coverage * rate.pool + (at.microbatch * act.ffn + weights.ffn),
        head=at.microbatch * act.head + weights.head,
    )
    return compute_times(rate, at), hbm


def blends(model: ModelSpec, hardware: HardwareSpec) -> Phases:
    """How far arithmetic and bytes of a phase add up, 0 to 1; attention takes the slower."""
    dense = xp.asarray(hardware.gemm_blend)
    ffn = xp.where(xp.asarray(model.experts) > 1, hardware.expert_blend, dense)
    return Phases(xp.zeros(()), dense, ffn, dense)


def bottleneck(rate: Rates, at: BatchState, convention: Convention, share: Phases) -> Bound:
    """Arithmetic and HBM over the whole step (eq. 19) or in every phase, blended [s]."""
    arithmetic, hbm = phase_times(rate, at)
    if convention.bottleneck == "global":
        return Bound(xp.maximum(sum(arithmetic), sum(hbm)), arithmetic)
    # Attention has no fixed part: the slower side does not depend on the batch.
    attention = at.microbatch * xp.maximum(
        rate.compute.attention, rate.kv + rate.activations.attention
    )
    blended = map(blend, arithmetic[1:], hbm[1:], share[1:])
    slower = Phases(attention, *blended)
    return Bound(sum(slower[1:], slower[0]), slower)


def communication_times(rate: Rates, at: BatchState) -> Families[Cost]:
    """Every family of a microbatch, before overlap [s]."""
    family, batch = rate.comm, at.microbatch
    return Families(
        tp=communication.shorter(rate.reduction, batch),
        kv=Cost(family.kv.startup, batch * family.kv.bandwidth),
        ep=Cost(family.ep.startup, batch * (at.load * family.ep.bandwidth)),
        layout=Cost(family.layout.startup, batch * family.layout.bandwidth),
    )


def exposed_times(
    ctx: Context, rate: Rates, comm: Families[Cost], at: BatchState, bound: Bound
) -> tuple[Families[Array], Families[Array]]:
    """What overlap leaves of the bandwidth part and of the start-ups of every family [s]."""
    hardware, windows = ctx.hardware, bound.windows
    is_ring = xp.where(xp.equal(ctx.partition.kv_mode, KV_CP), 1.0, 0.0)
    tail = is_ring * hardware.cp_ring_tail
    attention = rate.compute.attention
    if ctx.convention.bottleneck == "per_phase":
        attention = xp.maximum(attention, rate.kv + rate.activations.attention)
    around_ffn = windows.projection + windows.ffn
    seen = Families(
        tp=exposed_bandwidth(comm.tp.bandwidth, around_ffn, hardware.overlap_tp),
        kv=at.microbatch
        * exposed_bandwidth(rate.comm.kv.bandwidth, attention, hardware.overlap_kv, tail),
        ep=exposed_bandwidth(comm.ep.bandwidth, windows.ffn, hardware.overlap_ep),
        layout=exposed_bandwidth(comm.layout.bandwidth, windows.ffn, hardware.overlap_layout),
    )
    startups = Families(*(exposed_startup(cost.startup, hardware.overlap_startup) for cost in comm))
    if ctx.convention.two_batch_overlap:
        # The exchange of one half of the batch runs, start-ups included, beside the other half.
        exchange = comm.ep.bandwidth + comm.ep.startup
        seen = seen._replace(ep=exposed_bandwidth(exchange, bound.t_bound, 1.0))
        startups = startups._replace(ep=xp.zeros(()))
    return seen, startups


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Every term of one decode step.

    Times are per microbatch and pipeline stage, except `tpot`: a stage takes `t_bound`, the four
    exposed families and `t_overhead` one after the other.

    Attributes:
        reasons: bit set of `feasibility.REASONS`; 0 = feasible.
        capacity: memory per GPU, B_max and the batch.
        microbatch: sequences of an attention replica in a stage at a time.
        gpus: GPUs of the design, of all its copies.
        replicas: independent copies of the deployment.
        compute: arithmetic time by phase [s].
        hbm: HBM time by source of the bytes [s].
        comm: start-up and bandwidth part by family [s].
        exposed: what overlap leaves of `comm` [s].
        windows: time of every phase before communication [s].
        t_bound: bottleneck of arithmetic and HBM [s].
        t_overhead: launch overhead of the layers, host work for the sequences [s].
        t_p2p: hand-over to the next stage [s].
        busy: mean of the shares of the time in which a GPU's arithmetic and its HBM run.
        tpot: time per output token of a sequence [s].
        tokens_per_s: of the whole design.
        tokens_per_s_per_gpu: of each GPU.
        tokens_per_s_per_user: of each sequence, 1/TPOT.
    """

    reasons: Array
    capacity: Capacity
    microbatch: Array
    gpus: Array
    replicas: Array
    compute: Phases
    hbm: Hbm
    comm: Families[Cost]
    exposed: Families[Array]
    windows: Phases
    t_bound: Array
    t_overhead: Array
    t_p2p: Array
    busy: Array
    tpot: Array
    tokens_per_s: Array
    tokens_per_s_per_gpu: Array
    tokens_per_s_per_user: Array


def decode_step(records: Records, convention: Convention) -> StepCost:
    """Cost of one decode step, every term [s, B, tokens/s].

    Pure and unchecked: fields of all records broadcast against each other, so one call serves a
    scalar design as well as a dense grid, and it may be jitted, vmapped and differentiated.

    Args:
        records: the design; a dense twin is a model like any other, `batch=None` takes the largest
            that fits. If GPUs are given, whole copies of the design must fill them, or it carries
            the reason "wrong GPU count".
        convention: accounting, `PHYSICAL` or `PAPER` or any variation.
    """
    return decode_parts(records, convention)[0]


evaluate = on_host(decode_step)  # by NumPy


def _busy(rate: Rates, at: BatchState) -> Array:
    """Mean of the times in which arithmetic and HBM of a stage run for a microbatch [s]."""
    parts = (*compute_times(rate, at), *hbm_times(rate, at).phases())
    return 0.5 * sum(parts[1:], parts[0])


def once_a_step(hardware: HardwareSpec, workload: Workload) -> Array:
    """What a step takes besides its stages, of each token that it yields [s]: drafts too."""
    return (xp.asarray(hardware.step_overhead) + workload.draft_time) / workload.tokens_per_step


def rounds_of(pp: ArrayLike, convention: Convention) -> Array:
    """How often the terms of a stage count in a step [1]: twice a stage with two-batch overlap."""
    return 2.0 * xp.asarray(pp) if convention.two_batch_overlap else xp.asarray(pp)


def decode_parts(records: Records, convention: Convention) -> tuple[StepCost, dict[str, Array]]:
    """`decode_step`, and each rule that may make a design infeasible with the axes of its own.

    Terms that do not depend on the batch are added up among themselves first, so that a grid spends
    no operation per design on them.
    """
    model, hardware, partition, workload, gpus = records
    ctx = context_of(records, convention)
    lay, cap, rate = ctx.lay, capacity(ctx), rates(ctx)
    rounds = rounds_of(partition.pp, convention)
    microbatch = at_least(cap.batch * (1.0 / rounds), 1.0)
    tokens = microbatch * (lay.pool_replicas * workload.query_tokens)
    at = BatchState(
        microbatch,
        compute.expert_load(ctx, tokens),
        traffic.expert_traffic_factor(ctx, tokens, microbatch),
    )
    bound = bottleneck(rate, at, convention, blends(model, hardware))
    comm = communication_times(rate, at)
    seen, startups = exposed_times(ctx, rate, comm, at, bound)
    launched = overheads.overhead(model, hardware, partition, workload)
    per_sequence = xp.asarray(hardware.sequence_overhead)
    fixed = sum(startups[1:], startups[0]) + launched
    varying = bound.t_bound + (seen.tp + seen.ep + seen.layout + seen.kv)
    per_token = rounds / workload.tokens_per_step
    unhidden = per_token * (fixed + rate.p2p.startup) + once_a_step(hardware, workload)
    tpot = per_token * (varying + microbatch * (rate.p2p.bandwidth + per_sequence)) + unhidden
    copies, streams = replicas_of(partition, lay, gpus), xp.asarray(partition.dp)
    broken = broken_rules(ctx, cap, gpus)
    step = StepCost(
        reasons=bits_of(broken, REASONS),
        capacity=cap,
        microbatch=microbatch,
        gpus=lay.gpus * copies,
        replicas=copies,
        compute=compute_times(rate, at),
        hbm=hbm_times(rate, at),
        comm=comm,
        exposed=Families(*(x + y for x, y in zip(seen, startups, strict=True))),
        windows=bound.windows,
        t_bound=bound.t_bound,
        t_overhead=launched + microbatch * per_sequence,
        t_p2p=rate.p2p.startup + microbatch * rate.p2p.bandwidth,
        busy=_busy(rate, at) * cap.batch / (microbatch * workload.tokens_per_step * tpot),
        tpot=tpot,
        tokens_per_s=(streams * copies) * cap.batch / tpot,
        tokens_per_s_per_gpu=(streams / lay.gpus) * cap.batch / tpot,
        tokens_per_s_per_user=1.0 / tpot,
    )
    return step, broken
