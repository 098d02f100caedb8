"""Kernel launches of a stage: time that neither arithmetic nor bytes explain."""

from qsjax.cost.laws import params
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.records.specs import HardwareSpec, ModelSpec, Partition, Workload

# Dense products of a softmax layer with grouped and with latent attention (queries down and up, the
# two absorbed products of the latent, output), of a linear layer, and of a feed-forward network.
GROUPED_PRODUCTS, LATENT_PRODUCTS, LINEAR_PRODUCTS, FFN_PRODUCTS = 2.0, 5.0, 3.0, 2.0


def startups(model: ModelSpec, hardware: HardwareSpec) -> Array:
    """Start-ups of the kernels of all layers and of the head [s], each kernel counted.

    Dense networks stand in `dense_layers`, in shared experts, and in every layer of a model without
    a mixture.
    """
    softmax = params.softmax_layers(model)
    networks = xp.asarray(model.layers) - xp.asarray(model.bare_layers)
    is_mixture = xp.asarray(model.experts) > 1
    routed = xp.where(is_mixture, params.moe_layers(model), 0.0)
    shared = xp.where(xp.asarray(model.shared_experts) > 0, routed, 0.0)
    is_latent = xp.asarray(model.kv_latent) > 0
    around_softmax = softmax * xp.where(is_latent, LATENT_PRODUCTS, GROUPED_PRODUCTS)
    ffn = FFN_PRODUCTS * (networks - routed + shared)
    products = around_softmax + LINEAR_PRODUCTS * xp.asarray(model.linear_layers) + ffn
    attention = xp.asarray(hardware.attention_startup) * softmax
    experts = xp.asarray(hardware.expert_startup) * routed
    return xp.asarray(hardware.gemm_startup) * (products + 1.0) + attention + experts


def eager(model: ModelSpec, hardware: HardwareSpec, tokens: ArrayLike) -> Array:
    """What launches take longer in a pass over so many tokens, prompts among them, all layers [s].

    Graphs are captured for passes up to a size; kernels of longer ones are launched one by one.
    Experts, and attention that is latent, linear or sparse, each bring about as many kernels as a
    dense layer has: passes of vLLM 0.20 that are too short for the GPU to hide it take 0.27 ms a
    dense layer, 1.0 one with experts and linear attention, 1.5 one of DeepSeek-V4
    (`benchmarks.passes`).
    """
    latent = xp.where(xp.asarray(model.kv_latent) > 0, params.softmax_layers(model), 0.0)
    routed = xp.where(xp.asarray(model.experts) > 1, params.moe_layers(model), 0.0)
    special = latent + xp.asarray(model.linear_layers) + model.index_layers
    launched = hardware.eager_overhead * (xp.asarray(model.layers) + routed + special)
    return xp.where(xp.asarray(tokens) > hardware.captured_tokens, launched, 0.0)


def overhead(
    model: ModelSpec, hardware: HardwareSpec, partition: Partition, workload: Workload
) -> Array:
    """Launches of a stage's layers, and start-ups of their kernels [s].

    Latent attention has more projections than grouped attention. Experts need kernels for routing,
    permutation and quantisation around their products; those for FP4 experts fuse them. Indexers
    rotate and quantise keys narrower than activations in kernels of their own; others do not
    (MiniMax-M3, which chooses whole blocks).
    """
    total = xp.asarray(hardware.layer_overhead) * model.layers
    is_latent = xp.asarray(model.kv_latent) > 0
    latent = xp.where(is_latent, params.softmax_layers(model), 0.0)
    total = total + hardware.latent_overhead * latent
    if workload.ffn_dtype != "fp4":
        routed = xp.where(xp.asarray(model.experts) > 1, params.moe_layers(model), 0.0)
        total = total + hardware.expert_overhead * routed
    is_quantised = xp.where(xp.asarray(workload.bytes_index) < workload.bytes_act, 1.0, 0.0)
    total = total + hardware.sparse_overhead * (is_quantised * model.index_layers)
    total = total + hardware.linear_overhead * xp.asarray(model.linear_layers)
    return (total + startups(model, hardware)) / partition.pp
