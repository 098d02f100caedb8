"""Per-GPU memory: resident weights, KV cache of one sequence, and the largest batch (paper 4.2)."""

from qsjax.cost.laws import params
from qsjax.cost.laws.sharding import Layout, cache_layout, weight_ranks
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.safe import ceil, floor
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Workload


def reserve_bytes(model: ModelSpec, hardware: HardwareSpec) -> Array:
    """HBM that an engine keeps for itself [B]; more for the kernels of a mixture of experts."""
    moe = xp.where(xp.asarray(model.experts) > 1, hardware.moe_reserve_bytes, 0.0)
    return xp.asarray(hardware.reserve_bytes) + moe


def usable_bytes(model: ModelSpec, hardware: HardwareSpec) -> Array:
    """HBM that an engine may fill [B]: its share of the capacity less its own reserve."""
    share = xp.asarray(hardware.usable_fraction) * hardware.hbm_bytes
    return share - reserve_bytes(model, hardware)


def attention_weights_per_gpu(model: ModelSpec, partition: Partition, lay: Layout) -> Array:
    """Elements of all attention matrices on one GPU [1].

    Split over `weight_ranks` and pp, except the part that every one of them needs whole: KV heads
    beyond their number, and the down-projections of MLA.
    """
    shared = params.replicated_attention_params(model)
    split = params.attention_params(model) - shared
    ranks = weight_ranks(partition)
    per_layer = split / ranks + shared / lay.kv_weight_split
    stated = xp.asarray(model.window_params)
    windowed = model.window_layers * xp.where(stated > 0, stated / ranks, per_layer)
    softmax = params.full_layers(model) * per_layer + windowed
    return (softmax + params.linear_params(model) / ranks) / partition.pp


def vocabulary_bytes(model: ModelSpec, partition: Partition, workload: Workload) -> Array:
    """Embeddings and output head per GPU, lookups by layer among them [B].

    The first stage holds the input embedding and the last one the head, so with pipeline stages
    no GPU holds both: the larger one counts.
    """
    tied, pp = xp.asarray(model.tied_embeddings), xp.asarray(partition.pp)
    head = xp.asarray(workload.bytes_head_weight)
    embedding = xp.asarray(workload.bytes_embedding_weight)
    untied = (1.0 - tied) * embedding
    bytes_ = xp.where(pp > 1, xp.maximum(head, untied), head + untied)
    looked_up = embedding * model.lookup_params / pp
    return (params.head_params(model) * bytes_ + looked_up) / weight_ranks(partition)


def weight_terms(
    model: ModelSpec, partition: Partition, workload: Workload, lay: Layout
) -> dict[str, Array]:
    """Weight bytes per GPU by kind [B] (specification of the terms: docs, Memory).

    Blocks that layers have in common count as attention, and are held once.
    """
    pp, ffn = xp.asarray(partition.pp), xp.asarray(workload.bytes_ffn_weight)
    shared = params.shared_weight_bytes(workload) / (lay.ffn_tp * pp)
    expert = ffn / (lay.expert_memory_shards * pp)
    norms = xp.asarray(workload.bytes_embedding_weight) * params.norm_params(model)
    repeated = model.repeated_params / (weight_ranks(partition) * pp)
    attention = attention_weights_per_gpu(model, partition, lay) - repeated
    return {
        "weights: attention": xp.asarray(workload.bytes_attn_weight) * attention,
        "weights: routed experts": expert * (params.pool_params(model) * lay.expert_copies),
        "weights: experts of other modalities": expert * model.idle_params,
        "weights: shared experts": shared * params.shared_params(model),
        "weights: dense FFN": shared * params.dense_ffn_params(model),
        "weights: router": ffn * params.router_params(model) / pp,
        "weights: embedding and head": vocabulary_bytes(model, partition, workload),
        "weights: norms": norms / pp,
    }


def weights_bytes(model: ModelSpec, partition: Partition, workload: Workload, lay: Layout) -> Array:
    """Resident weight bytes per GPU [B]."""
    return xp.asarray(sum(weight_terms(model, partition, workload, lay).values()))


def kv_bytes_per_sequence(
    model: ModelSpec, partition: Partition, workload: Workload, convention: Convention
) -> Array:
    """Cache bytes that one sequence of `context` tokens holds on one GPU [B]."""
    elements, split = cache_layout(model, partition.tp, convention.mla_cache)
    block = xp.asarray(workload.kv_block)
    tokens = block * ceil(workload.context / block, convention.rounding)
    windowed = xp.asarray(model.window_layers) * model.window_cache
    window = xp.minimum(tokens, xp.asarray(model.window)) + params.entries_kept(model, tokens)
    kept = params.cache_layers(model) * (params.full_layers(model) * tokens + windowed * window)
    overhead = xp.asarray(convention.kv_overhead)
    per_token = overhead * (workload.bytes_kv * elements + workload.kv_scale_bytes) / split
    index = overhead * workload.bytes_index * xp.asarray(model.index_dim) * model.index_layers
    pp = xp.asarray(partition.pp)
    # The context multiplies what the partition alone decides: one product for each of their pairs.
    ranks = partition.kvp * pp
    state = params.state_bytes(model, workload) / (weight_ranks(partition) * pp)
    unfinished = workload.bytes_state * params.unfinished_elements(model) / pp
    keys = index / ranks * params.index_keys(model, tokens)
    return per_token / ranks * kept + keys + state + unfinished


def max_batch(
    usable: Array, weights: Array, kv_per_sequence: Array, convention: Convention
) -> Array:
    """Sequences that fit beside the weights, B_max (eq. 20); below 1 where none fits [1]."""
    return floor((usable - weights) / kv_per_sequence, convention.rounding)
