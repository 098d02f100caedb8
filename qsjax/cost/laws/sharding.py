"""How a partition divides a model: the shard counts that memory, time and messages share."""

import dataclasses
from typing import NamedTuple

from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.records.specs import (
    Convention,
    HardwareSpec,
    MlaLayout,
    ModelSpec,
    Partition,
    Records,
    Workload,
)


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Shard counts of one partition; every field broadcasts over the partition's axes.

    `expert_tp` is the tensor parallelism inside an expert, `ffn_tp` that of dense FFN and shared
    experts, `pool_replicas` the attention replicas whose tokens share one expert pool,
    `expert_copies` the size of that pool, redundant experts included, over the model's own.
    """

    stage_gpus: Array
    gpus: Array
    kv_weight_split: Array
    expert_tp: Array
    ffn_tp: Array
    pool_replicas: Array
    expert_memory_shards: Array
    expert_time_shards: Array
    expert_copies: Array


def kv_head_split(model: ModelSpec, tp: ArrayLike) -> Array:
    """Ways in which the KV heads are really split over tp ranks [1].

    Heads that do not divide are rounded up per GPU, and more ranks than heads hold copies.
    """
    heads = xp.asarray(model.kv_heads)
    return heads / xp.ceil(heads / tp)


def weight_ranks(partition: Partition) -> Array:
    """Ranks of a stage that split attention's weights and the vocabulary [1].

    KV ranks hold copies of them unless they gather queries.
    """
    tp = xp.asarray(partition.tp)
    return tp * partition.kvp if partition.gathers_queries else tp


def cache_layout(model: ModelSpec, tp: ArrayLike, mla_layout: MlaLayout) -> tuple[Array, Array]:
    """Cache elements per token and layer, and the number of tp ranks that share them.

    The MLA latent belongs to all heads, so engines replicate it over tensor-parallel ranks; the
    other layouts are what the paper's tables imply.
    """
    latent, rope = xp.asarray(model.kv_latent), xp.asarray(model.rope_dim)
    elements = {
        "latent": latent + rope,
        "latent_over_tp": latent + rope,
        "two_latents": 2.0 * (latent + rope),
        "keys_and_values_over_tp": 2.0 * latent,
    }[mla_layout]
    split = xp.asarray(tp) if mla_layout.endswith("over_tp") else xp.ones(())
    is_mla = latent > 0
    grouped = 2.0 * xp.asarray(model.kv_heads) * model.head_dim
    return xp.where(is_mla, elements, grouped), xp.where(is_mla, split, kv_head_split(model, tp))


def layout(model: ModelSpec, partition: Partition, convention: Convention) -> Layout:
    """The shard counts of `partition` under the convention's FFN sharding.

    The attention replicas of a dense model are whole copies of it, as engines run them, unless the
    convention shards its feed-forward networks over them; those of a mixture share its experts.
    """
    tp, ep, kvp, dp = (xp.asarray(getattr(partition, n)) for n in ("tp", "ep", "kvp", "dp"))
    stage_gpus = dp * kvp * tp
    if convention.ffn_sharding == "stage":
        sharing = dp
        if convention.dense_replicas == "whole":
            sharing = xp.where(xp.asarray(model.experts) > 1, dp, 1.0)
        expert_tp = xp.maximum(1.0, sharing * kvp * tp / ep)
        ffn_tp, pool_replicas = kvp * tp, sharing
    else:
        expert_tp, ffn_tp = tp, tp
        pool_replicas = xp.maximum(1.0, ep / kvp)
    expert_time_shards = ep * expert_tp
    experts = xp.asarray(model.experts)
    redundant = xp.where(experts > 1, partition.redundant_experts, 0.0)
    if convention.expert_time_sharding == "none":
        expert_time_shards, pool_replicas = expert_tp, xp.ones(())
    return Layout(
        stage_gpus=stage_gpus,
        gpus=stage_gpus * partition.pp,
        kv_weight_split=xp.where(
            xp.asarray(model.kv_latent) > 0, 1.0, kv_head_split(model, weight_ranks(partition))
        ),
        expert_tp=expert_tp,
        ffn_tp=ffn_tp,
        pool_replicas=pool_replicas,
        expert_memory_shards=ep * expert_tp,
        expert_time_shards=expert_time_shards,
        expert_copies=1.0 + redundant / experts,
    )


class Context(NamedTuple):
    """A design under an accounting, with its shard counts: what laws of several records take."""

    model: ModelSpec
    hardware: HardwareSpec
    partition: Partition
    workload: Workload
    convention: Convention
    lay: Layout


def context_of(records: Records, convention: Convention) -> Context:
    """What the laws take, of the records of a design; its GPU count enters none of them."""
    return Context(*records[:4], convention, layout(records.model, records.partition, convention))
