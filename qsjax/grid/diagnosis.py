"""Why a stated design cannot run, in numbers, and warnings about a legal but costly one."""

import dataclasses

from qsjax.cost.decode import StepCost
from qsjax.cost.feasibility import REASONS
from qsjax.cost.laws.compute import query_tiles
from qsjax.cost.laws.sharding import cache_layout, context_of
from qsjax.cost.roofline import Roof
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.checks import listed_divisors
from qsjax.records.specs import PHYSICAL, Convention, Records
from qsjax.records.units import GB, GIB

# A kernel slower than reading the cache by less than this is not worth a warning.
WORTH_TELLING = 1.05
_cache_layout = on_host(cache_layout)


@dataclasses.dataclass(frozen=True, slots=True)
class Shortcoming:
    """A rule that a design breaks.

    Attributes:
        reason: name in `feasibility.REASONS`.
        missing: what is missing on each GPU [B]; 0 where the rule is not about memory.
        text: the finding, with its numbers and what would mend it.
    """

    reason: str
    missing: float
    text: str


def _gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"


def _expert_ranks(ep: float, tp: float, stage: float, convention: Convention) -> str:
    """Why the ranks of the experts do not divide a stage, and which ones would."""
    whole = convention.ffn_sharding == "stage"
    ranks = f"ep={ep:g}" if whole else f"ep={ep:g} times tp={tp:g}"
    allowed = listed_divisors(stage if whole else stage / tp)
    return (
        f"{ranks} does not divide the {stage:g} GPUs of a pipeline stage; "
        f"choose {'one' if whole else 'ep'} of {allowed}"
    )


def _copies(copy: float, replicas: float, records: Records) -> str:
    """Why whole copies do not make up the GPUs asked for."""
    asked = scalar(copy * replicas if records.gpus is None else records.gpus)
    own = f"a copy of the deployment takes {copy:g} GPUs"
    if records.partition.replicas is not None:
        return f"{own}, and {replicas:g} of them are not {asked:g}; drop replicas, or change one"
    counts = (copy * max(1.0, asked // copy), copy * (asked // copy + 1))
    near = " or ".join(dict.fromkeys(f"{count:g}" for count in counts))
    return f"{own}, and whole copies do not fill {asked:g}; give {near} GPUs, or other degrees"


def shortcomings(
    records: Records, step: StepCost, batch: float | None, convention: Convention
) -> list[Shortcoming]:
    """Every rule that a design of scalars breaks.

    Args:
        records: the design.
        step: its cost; the batch in it is at least 1.
        batch: sequences per attention replica that were asked for; None for the largest.
        convention: the one that `step` was evaluated under.
    """
    model, part, cap = records.model, records.partition, step.capacity
    bits = int(step.reasons)
    tp, ep, pp, kvp = (scalar(getattr(part, name)) for name in ("tp", "ep", "pp", "kvp"))
    heads, experts, layers = map(scalar, (model.heads, model.experts, model.layers))
    if experts > 1:
        experts += scalar(part.redundant_experts)
    usable, weights, one = map(scalar, (cap.usable, cap.weights, cap.kv_per_sequence))
    context = scalar(records.workload.context)
    copy = scalar(step.gpus) / scalar(step.replicas)
    stage = copy / pp
    asked = batch or 1.0
    over = max(0.0, weights + asked * one - usable)
    texts = {
        "weights do not fit": f"the weights take {_gib(weights)} of each GPU, but "
        f"{_gib(usable)} are usable: {_gib(weights - usable)} too much",
        "no sequence fits": f"beside the weights {_gib(usable - weights)} are left on each GPU, "
        f"but one sequence of {context:,.0f} tokens takes {_gib(one)}: "
        f"{_gib(weights + one - usable)} are missing",
        "tp does not divide the query heads": f"tp={tp:g} does not divide the {heads:g} query "
        f"heads; choose one of {listed_divisors(heads)}",
        "ep exceeds or does not divide the experts": f"ep={ep:g} does not divide the {experts:g} "
        f"experts; choose one of {listed_divisors(experts)}",
        "ep does not divide the stage": _expert_ranks(ep, tp, stage, convention),
        "pp exceeds the layers": f"pp={pp:g} is more than the {layers:g} layers",
        "wrong GPU count": _copies(copy, float(step.replicas), records),
        "KV mode not applicable": "kv_mode none goes with kvp=1 only"
        if kvp > 1
        else "kv_mode cp needs kvp above 1",
        "batch does not fit": f"{asked:,.0f} sequences take {_gib(asked * one)} beside the "
        f"weights, but {_gib(usable - weights)} are left: at most "
        f"{max(0.0, float(cap.max_batch)):,.0f} fit, {_gib(over)} are missing",
    }
    memory = {
        "weights do not fit": weights - usable,
        "no sequence fits": weights + one - usable,
        "batch does not fit": over,
    }
    return [
        Shortcoming(name, memory.get(name, 0.0), texts[name])
        for name, bit in REASONS.items()
        if bits & bit and not (name == "batch does not fit" and float(cap.max_batch) < 1)
    ]


@on_host
def _tiles(records: Records) -> tuple[Array, Array]:
    return query_tiles(context_of(records, PHYSICAL))


def _kernel_bound(records: Records, slower: float) -> str:
    """Why attention waits for its kernel, and what would shorten the wait."""
    model, hardware = records.model, records.hardware
    tiles, padding = map(scalar, _tiles(records))
    tile, rate = scalar(hardware.query_tile), scalar(hardware.flops_exp)
    one = "the latent" if scalar(model.kv_latent) > 0 else "a KV head"
    rows = f"{tiles * tile / padding:.3g} query rows of {one}"
    if padding > 1:
        softmax = ", and with the softmax" if rate > 0 else ":"
        cause = f"{rows} fill {100 / padding:.3g} % of {tiles:g} x {tile:g} rows{softmax} this"
        remedy = "more tokens per step (speculation) cost less"
    else:
        cause, remedy = f"the softmax of {rows}", "faster exponentials would"
    return (
        f"attention waits for its kernel, not for the memory: {cause} takes {slower:.2f} times as "
        f"long as reading the cache; faster memory would not help, {remedy}"
    )


def remarks(records: Records, convention: Convention, attention: Roof | None = None) -> list[str]:
    """Warnings about a legal but costly design of scalars.

    The slow fabric and copies of the cache under its tp, and a kernel that memory waits for.
    """
    model, hardware = records.model, records.hardware
    tp, island = scalar(records.partition.tp), scalar(hardware.island_size)
    lines = []
    if tp > island:
        fast, slow = (scalar(bw) / GB for bw in (hardware.intra_bw, hardware.inter_bw))
        lines.append(
            f"tp={tp:g} leaves its island of {island:g} GPUs, so every all-reduce crosses the slow "
            f"fabric ({slow:g} GB/s per GPU against {fast:g}); pp or dp keeps tp inside"
        )
    copies = tp / float(_cache_layout(model, tp, mla_layout=convention.mla_cache)[1])
    if copies > 1:
        heads = f"there are {scalar(model.kv_heads):g} KV heads"
        why = "all heads share its latent" if scalar(model.kv_latent) > 0 else heads
        lines.append(
            f"tp={tp:g} holds the KV cache {copies:.3g} times over, as {why}; dp or kvp in place "
            "of tp would not"
        )
    if attention is not None and attention.bound == "kernel":
        slower = float(attention.compute) / float(attention.hbm)
        lines += [_kernel_bound(records, slower)] if slower >= WORTH_TELLING else []
    return lines
