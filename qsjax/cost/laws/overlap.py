"""Which part of a transfer is seen: phase-aware overlap (paper 4.3)."""

from qsjax.numerics.namespace import Array, ArrayLike, xp


def exposed_bandwidth(
    bandwidth: Array, window: ArrayLike, overlap: ArrayLike, tail: ArrayLike | None = None
) -> Array:
    """Seconds of a transfer's bandwidth part that the phase does not hide [s].

    Args:
        bandwidth: bandwidth part of the family [s].
        window: time of the phases that may hide it [s].
        overlap: share of the window that the family may use.
        tail: share of the bandwidth part that nothing can hide (the end of a ring), if any.
    """
    hidden = overlap * xp.asarray(window)
    if tail is None:
        return xp.maximum(0.0, bandwidth - hidden)
    at_the_end = xp.asarray(tail) * bandwidth
    return at_the_end + xp.maximum(0.0, (bandwidth - at_the_end) - hidden)


def exposed_startup(startup: Array, startup_overlap: ArrayLike) -> Array:
    """Seconds of a transfer's start-ups that are not hidden [s]."""
    return (1.0 - xp.asarray(startup_overlap)) * startup
