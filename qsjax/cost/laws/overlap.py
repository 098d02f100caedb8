"""Which part of a transfer is seen: phase-aware overlap (paper 4.3)."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def exposed_bandwidth(
    bandwidth: jax.Array, window: ArrayLike, overlap: ArrayLike, tail: ArrayLike | None = None
) -> jax.Array:
    """Seconds of a transfer's bandwidth part that the phase does not hide [s].

    Args:
        bandwidth: bandwidth part of the family [s].
        window: time of the phases that may hide it [s].
        overlap: share of the window that the family may use.
        tail: share of the bandwidth part that nothing can hide (the end of a ring), if any.
    """
    hidden = overlap * jnp.asarray(window)
    if tail is None:
        return jnp.maximum(0.0, bandwidth - hidden)
    at_the_end = jnp.asarray(tail) * bandwidth
    return at_the_end + jnp.maximum(0.0, (bandwidth - at_the_end) - hidden)


def exposed_startup(startup: jax.Array, startup_overlap: ArrayLike) -> jax.Array:
    """Seconds of a transfer's start-ups that are not hidden [s]."""
    return (1.0 - jnp.asarray(startup_overlap)) * startup
