"""Ring collectives over a node-local and an inter-node fabric (paper 4.3).

Standard models: Thakur et al. 2005, Hoefler et al. 2007, Patarasuk and Yuan 2009. Every collective
is a pair (start-up seconds, bandwidth seconds), because the two parts overlap differently.
"""

from typing import NamedTuple

from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.records.specs import Convention, HardwareSpec


class Cost(NamedTuple):
    """Start-up and bandwidth part of a transfer [s]."""

    startup: Array
    bandwidth: Array


class Group(NamedTuple):
    """Ranks of a group inside one island, and islands that it spans; 1 and 1 is no group [1]."""

    inner: Array
    outer: Array


def group(
    size: ArrayLike, stride: ArrayLike, hardware: HardwareSpec, convention: Convention
) -> Group:
    """How `size` ranks placed `stride` GPUs apart meet the islands.

    `hierarchical`: inside an island first, then between islands. `flat`: one ring, wholly on the
    fabric that the group spans.
    """
    size, island = xp.asarray(size), xp.asarray(hardware.island_size)
    if convention.topology == "flat":
        fits = size * stride <= island
        return Group(xp.where(fits, size, 1.0), xp.where(fits, 1.0, size))
    inner = xp.minimum(size, xp.maximum(1.0, xp.floor(island / stride)))
    return Group(inner, xp.ceil(size / inner))


def hops(ranks: Array, convention: Convention) -> Array:
    """Start-ups of a half collective [1]: p-1 around a ring, one where all reach all directly."""
    return ranks - 1.0 if convention.startup == "ring" else xp.where(ranks > 1, 1.0, 0.0)


def inside_bw(ranks: Array, hardware: HardwareSpec) -> Array:
    """Bandwidth of a rank to all others of so many in its island [B/s].

    In a mesh the links to ranks outside the group lie idle.
    """
    peers = xp.maximum(ranks - 1.0, 1.0)
    idle = 1.0 - peers / xp.maximum(xp.asarray(hardware.island_size) - 1.0, peers)
    return xp.asarray(hardware.intra_bw) * (1.0 - hardware.mesh * idle)


def half_collective(
    ranks: Group, message_bytes: ArrayLike, hardware: HardwareSpec, convention: Convention
) -> Cost:
    """All-gather or reduce-scatter of `message_bytes` in total per rank [s]; 0 for one rank."""
    startup = (
        hops(ranks.inner, convention) * hardware.intra_latency
        + hops(ranks.outer, convention) * hardware.inter_latency
    )
    inner = (ranks.inner - 1.0) / (ranks.inner * inside_bw(ranks.inner, hardware))
    outer = (ranks.outer - 1.0) / (ranks.outer * ranks.inner * hardware.inter_bw)
    return Cost(startup, xp.asarray(message_bytes) * ((inner + outer) / hardware.eff_link))


def all_to_all(
    ranks: Group, message_bytes: ArrayLike, hardware: HardwareSpec, convention: Convention
) -> Cost:
    """Exchange of `message_bytes` per rank, equal parts to every rank of the group [s].

    Unlike a reduction it cannot thin out inside an island: what is meant for other islands crosses
    the slow fabric whole.
    """
    startup = half_collective(ranks, 0.0, hardware, convention).startup
    size = ranks.inner * ranks.outer
    inner = (ranks.inner - 1.0) / (size * inside_bw(ranks.inner, hardware))
    outer = (ranks.outer - 1.0) / (ranks.outer * hardware.inter_bw)
    return Cost(startup, xp.asarray(message_bytes) * ((inner + outer) / hardware.eff_link))


def all_reduce(
    ranks: Group, message_bytes: ArrayLike, hardware: HardwareSpec, convention: Convention
) -> Cost:
    """Reduce-scatter and all-gather of `message_bytes` [s].

    The messages of a decode step are too short to fill the link: one-shot kernels move more bytes
    than a ring, and `eff_allreduce` is the share of the reachable bandwidth that is left.
    `rank_latency` is the start-up's growth with every doubling of the ranks of an island.
    """
    half = half_collective(ranks, message_bytes, hardware, convention)
    growth = hardware.rank_latency * xp.log2(xp.asarray(ranks.inner))
    bandwidth = 2.0 / xp.asarray(hardware.eff_allreduce) * half.bandwidth
    return Cost(2.0 * half.startup + growth, bandwidth)


def one_shot(
    ranks: Group, message_bytes: ArrayLike, hardware: HardwareSpec, convention: Convention
) -> Array:
    """All-reduce in which every rank sends its whole message to all others of an island [s].

    The bandwidth part alone. Where there is no such kernel (efficiency 0, or several islands), that
    of `all_reduce` stands in.
    """
    seconds = (ranks.inner - 1.0) * xp.asarray(message_bytes) / inside_bw(ranks.inner, hardware)
    has_kernel = (xp.asarray(hardware.one_shot_share) > 0) & (ranks.outer <= 1)
    efficiency = xp.where(has_kernel, hardware.one_shot_share, 1.0)
    two_shot = all_reduce(ranks, message_bytes, hardware, convention).bandwidth
    return xp.where(has_kernel, seconds / efficiency, two_shot)


def point_to_point(is_intra: Array, message_bytes: ArrayLike, hardware: HardwareSpec) -> Cost:
    """One message on the node-local (`is_intra`) or the inter-node fabric [s]."""
    latency = xp.where(is_intra, hardware.intra_latency, hardware.inter_latency)
    bandwidth = xp.where(is_intra, inside_bw(xp.asarray(2.0), hardware), hardware.inter_bw)
    return Cost(latency, xp.asarray(message_bytes) / (bandwidth * hardware.eff_link))
