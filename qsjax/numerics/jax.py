"""JAX for all of qsjax; importing it makes the records its pytrees (`numerics.loading`)."""

import jax
import jax.numpy as jnp

from qsjax.numerics.loading import loaded

__all__ = ["jax", "jnp"]

loaded()
