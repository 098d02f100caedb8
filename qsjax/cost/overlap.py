"""Which part of a transfer is seen: phase-aware overlap (paper 4.3)."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from qsjax.cost.collectives import Cost


def exposed(
    cost: Cost,
    window: ArrayLike,
    overlap: ArrayLike,
    startup_overlap: ArrayLike,
    tail: ArrayLike = 0.0,
) -> jax.Array:
    """Seconds of `cost` that the phase does not hide [s].

    Args:
        cost: start-up and bandwidth part of the family.
        window: time of the phases that may hide it [s].
        overlap: share of the window that the family may use.
        startup_overlap: share of the start-ups that is hidden.
        tail: share of the bandwidth part that nothing can hide (the end of a ring).
    """
    hideable = (1.0 - jnp.asarray(tail)) * cost.bandwidth
    seen = jnp.maximum(0.0, hideable - overlap * jnp.asarray(window))
    return (
        jnp.asarray(tail) * cost.bandwidth
        + seen
        + (1.0 - jnp.asarray(startup_overlap)) * cost.startup
    )
