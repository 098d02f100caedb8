"""Where the time of a step goes: terms that sum exactly to TPOT, and what binds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qsjax.cost.decode import StepCost, once_a_step, rounds_of
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.safe import safe_divide
from qsjax.records.specs import Convention, Records

# What a term is bound by, for the one-word answer.
RESOURCES: dict[str, tuple[str, ...]] = {
    "compute": ("compute_attention", "compute_projection", "compute_ffn", "compute_head"),
    "HBM KV": ("hbm_kv",),
    "HBM weights": ("hbm_attention_weights", "hbm_routed", "hbm_always", "hbm_head"),
    "HBM activations": ("hbm_activations",),
    "comm TP": ("comm_tp",),
    "comm KV": ("comm_kv",),
    "comm EP": ("comm_ep",),
    "comm layout": ("comm_layout",),
    "comm PP": ("comm_pp",),
    "overhead": ("overhead",),
}


def bound_terms(step: StepCost, convention: Convention) -> dict[str, Array]:
    """The terms of `t_bound` [s]: of every phase (or of the step) the slower side counts."""
    arithmetic, hbm = step.compute, step.hbm
    phases = hbm.phases()
    if convention.bottleneck == "global":
        is_compute = xp.asarray(sum(arithmetic)) >= xp.asarray(sum(phases))
        slower = [is_compute] * 4
    else:
        slower = [c >= h for c, h in zip(arithmetic, phases, strict=True)]
    # What a blend adds to the slower side counts with it.
    longest = [xp.maximum(c, h) for c, h in zip(arithmetic, phases, strict=True)]
    grown = [xp.ones(())] * 4
    if convention.bottleneck == "per_phase":
        grown = [safe_divide(t, x, 1.0) for t, x in zip(step.windows, longest, strict=True)]
    by_compute = [
        xp.where(s, c * g, 0.0) for s, c, g in zip(slower, arithmetic, grown, strict=True)
    ]
    by_hbm = [xp.where(s, 0.0, g) for s, g in zip(slower, grown, strict=True)]
    attention, projection, ffn, head = by_hbm
    act = hbm.activations
    return {
        **{f"compute_{name}": t for name, t in zip(phases._fields, by_compute, strict=True)},
        "hbm_kv": attention * hbm.kv,
        "hbm_attention_weights": projection * hbm.attention_weights,
        "hbm_routed": ffn * hbm.routed,
        "hbm_always": ffn * hbm.always,
        "hbm_head": head * hbm.head,
        "hbm_activations": attention * act.attention
        + projection * act.projection
        + ffn * act.ffn
        + head * act.head,
    }


def time_ledger(step: StepCost, records: Records, convention: Convention) -> dict[str, Array]:
    """Terms that sum to TPOT [s].

    Args:
        step: cost of the design.
        records: the design; a step makes `tokens_per_step` tokens.
        convention: the accounting that `step` was computed with.
    """
    per_stage = bound_terms(step, convention)
    per_stage |= {f"comm_{name}": t for name, t in step.exposed._asdict().items()}
    per_stage |= {"comm_pp": step.t_p2p, "overhead": step.t_overhead}
    times = rounds_of(records.partition.pp, convention) / records.workload.tokens_per_step
    terms = {name: times * t for name, t in per_stage.items()}
    terms["overhead"] = terms["overhead"] + once_a_step(records.hardware, records.workload)
    return terms


def resource_times(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Terms of the ledger, numbers or arrays, summed by resource [s]; missing ones are 0."""
    return {
        resource: sum(terms.get(name, 0.0) for name in names)
        for resource, names in RESOURCES.items()
    }


# Resources of the time ledger by regime; "prefill" is the wait for the prompts of others.
REGIMES: dict[str, tuple[str, ...]] = {
    "bandwidth-bound": ("HBM KV", "HBM weights", "HBM activations"),
    "compute-bound": ("compute",),
    "latency-bound": ("overhead",),
    "communication-bound": ("comm TP", "comm KV", "comm EP", "comm layout", "comm PP"),
    "prefill-bound": ("prefill",),
}


def regimes_of(times: Mapping[str, Any]) -> np.ndarray:
    """Name of the regime of every step, from its times or shares by resource.

    >>> str(regimes_of({"HBM KV": 2.0, "HBM weights": 2.0, "compute": 3.0}))
    'bandwidth-bound'
    """
    sums = [sum(np.asarray(times.get(part, 0.0)) for part in parts) for parts in REGIMES.values()]
    largest = np.argmax(np.stack(np.broadcast_arrays(*sums)), axis=0)
    return np.array(list(REGIMES))[largest]
