"""One design taken apart: memory that sums to the capacity, phases under the roofline, messages."""

import dataclasses
from typing import NamedTuple

from qsjax.cost.coefficients import Phases
from qsjax.cost.decode import StepCost, decode_step, rounds_of
from qsjax.cost.feasibility import Capacity
from qsjax.cost.laws import compute, memory
from qsjax.cost.laws.sharding import context_of, layout
from qsjax.cost.ledger import time_ledger
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import safe_divide
from qsjax.records.specs import Convention, Records


def memory_ledger(records: Records, convention: Convention, cap: Capacity) -> dict[str, Array]:
    """Where the HBM of a GPU goes [B]; the terms sum to its capacity.

    `free` is what the engine may still fill. It is negative by what is missing if the weights and
    the batch do not fit.

    Args:
        records: the design.
        convention: accounting.
        cap: its memory and batch.
    """
    model, hardware, part, work, _ = records
    plain = dataclasses.replace(work, kv_block=1.0)
    bare = dataclasses.replace(convention, kv_overhead=1.0)
    used = cap.batch * memory.kv_bytes_per_sequence(model, part, plain, bare)
    held = cap.batch * memory.kv_bytes_per_sequence(model, part, work, convention)
    capacity = xp.asarray(hardware.hbm_bytes)
    terms = {
        **memory.weight_terms(model, part, work, layout(model, part, convention)),
        "KV cache": used,
        "KV block waste": held - used,
        "reserve": memory.reserve_bytes(model, hardware),
        "unused by engine": (1.0 - xp.asarray(hardware.usable_fraction)) * capacity,
    }
    return {**terms, "free": capacity - xp.asarray(sum(terms.values()))}


class Roof(NamedTuple):
    """A phase under the roofline, per microbatch and stage, on one GPU.

    Attributes:
        compute: arithmetic time [s].
        hbm: time of its HBM traffic [s].
        flops: arithmetic [FLOP].
        hbm_bytes: traffic [B].
        intensity: FLOP per byte.
        ridge: intensity at which both times are equal [FLOP/B].
        flops_per_s: rate reached while the phase runs.
        flops_share: of the peak of its dtype, 0 to 1.
        bandwidth_share: of the HBM bandwidth, 0 to 1.
        filled: share of the arithmetic time that the arithmetic needs; below 1 where attention
            waits for its softmax or runs tiles that it does not fill.
    """

    compute: Array
    hbm: Array
    flops: Array
    hbm_bytes: Array
    intensity: Array
    ridge: Array
    flops_per_s: Array
    flops_share: Array
    bandwidth_share: Array
    filled: Array

    @property
    def bound(self) -> str:
        """What sets the time of the phase: "HBM", "compute", or the "kernel" of attention."""
        compute, hbm, filled = (float(x) for x in (self.compute, self.hbm, self.filled))
        if compute < hbm:
            return "HBM"
        return "compute" if filled * compute >= hbm else "kernel"


def _phase_bytes(step: StepCost, records: Records) -> Phases:
    hardware, hbm = records.hardware, step.hbm
    streaming = xp.asarray(hardware.hbm_bw) * hardware.eff_weight_read
    experts = streaming * compute.of_experts(records.model, hardware.expert_read_ratio)
    cache = xp.asarray(hardware.hbm_bw) * hardware.eff_kv_read
    phases = hbm.phases()
    return Phases(
        attention=hbm.kv * cache + hbm.activations.attention * streaming,
        projection=phases.projection * streaming,
        ffn=(hbm.routed + hbm.activations.ffn) * experts + hbm.always * streaming,
        head=phases.head * streaming,
    )


def _ffn_flops(step: StepCost, records: Records, convention: Convention) -> Array:
    """Arithmetic of the feed-forward phase [FLOP]; experts have an efficiency of their own."""
    ctx = context_of(records, convention)
    tokens = step.microbatch * records.workload.query_tokens
    load = compute.expert_load(ctx, tokens * ctx.lay.pool_replicas)
    return compute.routed_flops(ctx, tokens, load) + compute.always_flops(ctx, tokens)


def roofline(step: StepCost, records: Records, convention: Convention) -> dict[str, Roof]:
    """Every phase under the roofline: what binds it and how close it comes to the roof.

    A phase takes the longer of its two times, and what a blend adds to it.
    """
    hardware = records.hardware
    work = records.workload
    tokens = step.microbatch * work.query_tokens
    hbm_bytes, hbm = _phase_bytes(step, records), step.hbm.phases()
    dtypes = work.attn_dtype, work.proj_dtype, work.ffn_dtype, work.head_dtype
    roofs = {}
    for i, (name, dtype) in enumerate(zip(Phases._fields, dtypes, strict=True)):
        peak = compute.peak_flops(hardware, dtype, convention)
        time = xp.maximum(step.compute[i], hbm[i])
        if convention.bottleneck == "per_phase":
            time = step.windows[i]
        flops, filled = step.compute[i] * peak * hardware.eff_gemm, xp.ones(())
        if name == "attention":
            flops = tokens * compute.attention_flops(context_of(records, convention))
            filled = safe_divide(flops, step.compute[i] * peak * hardware.eff_attention, 1.0)
        if name == "ffn":
            flops = _ffn_flops(step, records, convention)
        safe = xp.where(time > 0, time, 1.0)
        reached = flops / safe
        roofs[name] = Roof(
            compute=step.compute[i],
            hbm=hbm[i],
            flops=flops,
            hbm_bytes=hbm_bytes[i],
            intensity=flops / xp.where(hbm_bytes[i] > 0, hbm_bytes[i], xp.inf),
            ridge=peak / hardware.hbm_bw,
            flops_per_s=reached,
            flops_share=reached / peak,
            bandwidth_share=hbm_bytes[i] / (safe * hardware.hbm_bw),
            filled=filled,
        )
    return roofs


class Messages(NamedTuple):
    """A communication family per output token [s]: what it takes, what is seen and what is not."""

    startup: Array
    bandwidth: Array
    exposed: Array
    hidden: Array


def communication(step: StepCost, records: Records, convention: Convention) -> dict[str, Messages]:
    """Every family, its time split into an exposed and a hidden part [s].

    The exposed parts are the terms `comm_*` of the time ledger; hidden time runs beside a phase.
    """
    times = rounds_of(records.partition.pp, convention) / records.workload.tokens_per_step
    messages = {}
    for name in step.exposed._fields:
        cost, seen = getattr(step.comm, name), getattr(step.exposed, name)
        messages[name] = Messages(
            startup=times * cost.startup,
            bandwidth=times * cost.bandwidth,
            exposed=times * seen,
            hidden=times * (cost.startup + cost.bandwidth - seen),
        )
    return messages


class Parts(NamedTuple):
    """A design taken apart, every part with its own sum.

    Attributes:
        step: the step itself.
        memory: sums to the capacity [B].
        time: sums to TPOT [s].
        messages: exposed and hidden communication [s].
        roofs: the phases under the roofline.
    """

    step: StepCost
    memory: dict[str, Array]
    time: dict[str, Array]
    messages: dict[str, Messages]
    roofs: dict[str, Roof]


@on_host
def take_apart(records: Records, convention: Convention) -> Parts:
    """Everything about a design whose batch is given."""
    step = decode_step(records, convention)
    return Parts(
        step=step,
        memory=memory_ledger(records, convention, step.capacity),
        time=time_ledger(step, records, convention),
        messages=communication(step, records, convention),
        roofs=roofline(step, records, convention),
    )
