"""Kernel launches of a stage: time that neither arithmetic nor bytes explain."""

import jax
import jax.numpy as jnp

from qsjax.cost.laws import params
from qsjax.records.specs import HardwareSpec, ModelSpec, Partition, Workload


def overhead(
    model: ModelSpec, hardware: HardwareSpec, partition: Partition, workload: Workload
) -> jax.Array:
    """Launches of a stage's layers [s].

    Latent attention has more projections than grouped attention. Experts need kernels for routing,
    permutation and quantisation around their products; those for FP4 experts fuse them.
    """
    total = jnp.asarray(hardware.layer_overhead) * model.layers
    is_latent = jnp.asarray(model.kv_latent) > 0
    latent = jnp.where(is_latent, params.softmax_layers(model), 0.0)
    total = total + hardware.latent_overhead * latent
    if workload.ffn_dtype != "fp4":
        routed = jnp.where(jnp.asarray(model.experts) > 1, params.moe_layers(model), 0.0)
        total = total + hardware.expert_overhead * routed
    return total / partition.pp
