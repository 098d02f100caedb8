"""What a token adds to the cache, counted apart from the law of the memory."""

import jax
import jax.numpy as jnp

from qsjax.cost.laws.params import cache_layers, entries_kept, full_layers, index_keys
from qsjax.records.specs import ModelSpec


def kv_elements_per_token(model: ModelSpec) -> jax.Array:
    """Elements that one token adds to the cache in all softmax layers [elements].

    A windowed layer counts as a full one: it adds as much until its window is full. Latent
    attention stores the latent and the rotary key once for all heads; sparse attention adds its
    index keys. Linear layers add nothing.
    """
    latent = jnp.asarray(model.kv_latent)
    per_layer = jnp.where(
        latent > 0, latent + model.rope_dim, 2.0 * model.kv_heads * model.head_dim
    )
    windowed = model.window_layers * model.window_cache * (1.0 + entries_kept(model, 1.0))
    layers = cache_layers(model) * (full_layers(model) + windowed)
    return layers * per_layer + model.index_layers * index_keys(model, model.index_dim)
