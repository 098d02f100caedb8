"""Whether a design can run: what fits in memory, and every reason why a cell is infeasible."""

from collections.abc import Mapping
from typing import NamedTuple

from qsjax.cost.laws import memory
from qsjax.cost.laws.sharding import Context, Layout, weight_ranks
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.safe import at_least
from qsjax.records.specs import KV_CP, KV_NONE, Partition

# One bit each, so that a cell carries all its reasons.
REASONS: dict[str, int] = {
    "weights do not fit": 1,
    "no sequence fits": 2,
    "tp does not divide the query heads": 4,
    "ep exceeds or does not divide the experts": 8,
    "ep does not divide the stage": 16,
    "pp exceeds the layers": 32,
    "wrong GPU count": 64,
    "KV mode not applicable": 128,
    "batch does not fit": 256,
}
# What only traced numbers can break: checks tell others before there is a step.
OUT_OF_RANGE_BIT, CONTRADICTION_BIT = 512, 1024
TRACED_REASONS = {
    "a number is out of its range": OUT_OF_RANGE_BIT,
    "numbers contradict each other": CONTRADICTION_BIT,
}
# What memory can mend, as texts and as a bit set; the other reasons say that a split is illegal.
MEMORY_RULES = ("weights do not fit", "no sequence fits", "batch does not fit")
MEMORY_REASONS = sum(REASONS[text] for text in MEMORY_RULES)


class Capacity(NamedTuple):
    """Memory side of a step: bytes per GPU and the batches that follow [B, 1]."""

    usable: Array
    weights: Array
    kv_per_sequence: Array
    max_batch: Array
    batch: Array


def capacity(ctx: Context) -> Capacity:
    """Weights, cache and batch of a partition; the batch is at least 1, to keep times finite."""
    model, hardware, partition, workload, convention, lay = ctx
    usable = memory.usable_bytes(model, hardware)
    weights = memory.weights_bytes(model, partition, workload, lay)
    per_sequence = memory.kv_bytes_per_sequence(model, partition, workload, convention)
    largest = memory.max_batch(usable, weights, per_sequence, convention)
    batch = largest if workload.batch is None else xp.asarray(workload.batch)
    return Capacity(usable, weights, per_sequence, largest, at_least(batch, 1.0))


def _divides(divisor: ArrayLike, number: ArrayLike) -> Array:
    # Exact for whole numbers, and a tenth of the cost of a remainder.
    number = xp.asarray(number)
    return xp.equal(xp.floor(number / divisor) * divisor, number)


def replicas_of(partition: Partition, lay: Layout, gpus: ArrayLike | None) -> Array:
    """Independent copies of a deployment: as given, or as many as the GPUs have room for [1]."""
    if partition.replicas is not None:
        return xp.asarray(partition.replicas)
    if gpus is None:
        return xp.ones(())
    return at_least(xp.floor(xp.asarray(gpus) / lay.gpus), 1.0)


def broken_rules(ctx: Context, cap: Capacity, gpus: ArrayLike | None) -> dict[str, Array]:
    """Where each reason of `REASONS` holds; every array has only the axes that it depends on."""
    model, _, part, workload, convention, lay = ctx
    fits = cap.weights <= cap.usable
    ep = xp.asarray(part.ep)
    pool = xp.round(xp.asarray(model.experts) * lay.expert_copies)
    expert_ranks = ep if convention.ffn_sharding == "stage" else ep * part.tp
    broken = {
        "weights do not fit": ~fits,
        "no sequence fits": fits & (cap.max_batch < 1),
        "tp does not divide the query heads": ~_divides(weight_ranks(part), model.heads),
        "ep exceeds or does not divide the experts": ~_divides(ep, pool),
        "ep does not divide the stage": ~_divides(expert_ranks, lay.stage_gpus),
        "pp exceeds the layers": xp.asarray(part.pp) > model.layers,
        "KV mode not applicable": xp.where(
            xp.asarray(part.kvp) > 1, xp.equal(part.kv_mode, KV_NONE), xp.equal(part.kv_mode, KV_CP)
        ),
    }
    if gpus is not None and part.replicas is None:
        broken["wrong GPU count"] = ~_divides(lay.gpus, gpus)
    elif gpus is not None:
        broken["wrong GPU count"] = ~xp.equal(lay.gpus * xp.asarray(part.replicas), gpus)
    if workload.batch is not None:
        broken["batch does not fit"] = xp.asarray(workload.batch) > cap.max_batch
    return broken


def bits_of(broken: Mapping[str, Array], places: Mapping[str, int]) -> Array:
    """What is broken as a set of the bits of its names [int32]; 0 where nothing is."""
    bits = xp.zeros((), xp.int32)
    for name, is_broken in broken.items():
        bits = bits + xp.where(is_broken, xp.int32(places[name]), xp.int32(0))
    return bits


def reasons(ctx: Context, cap: Capacity, gpus: ArrayLike | None) -> Array:
    """Bit set of the reasons why a design is infeasible [int32]."""
    return bits_of(broken_rules(ctx, cap, gpus), REASONS)


def reason_names(bits: int) -> list[str]:
    """Names of the reasons in a bit set.

    >>> reason_names(1 | 64)
    ['weights do not fit', 'wrong GPU count']
    """
    return [name for name, bit in (REASONS | TRACED_REASONS).items() if bits & bit]
