"""The paper's closed forms: sparsity, reuse, quality equivalence and the q*s inequality.

Every function takes numbers or arrays that broadcast. Equation numbers are the paper's
(*The qs Inequality*, arXiv 2603.08960).
"""

from qsjax.numerics.namespace import Array, ArrayLike, xp

# Kaplan et al. 2020: validation loss falls as (parameters)^-0.076.
KAPLAN_ALPHA = 0.076


def sparsity(top_k: ArrayLike, experts: ArrayLike) -> Array:
    """Share of FFN parameters that a token activates, s = K/E [1] (eq. 9).

    >>> float(sparsity(8, 256))
    0.03125
    """
    return xp.asarray(top_k, float) / experts


def expert_batch(batch: ArrayLike, s: ArrayLike) -> Array:
    """Tokens that an expert processes in a step on average, b = s*B [1] (eq. 1, 10)."""
    return xp.asarray(batch, float) * s


def reuse_gap(batch_dense: ArrayLike, batch_moe: ArrayLike, s: ArrayLike) -> Array:
    """Weight reuse of the dense model over that of the MoE, r_dense/r_moe [1] (eq. 8, 22).

    The product of `routing_factor` and `capacity_factor` (eq. 23).

    >>> round(float(reuse_gap(130, 100, 8 / 256)), 2)
    41.6
    """
    return routing_factor(s) * capacity_factor(batch_dense, batch_moe)


def routing_factor(s: ArrayLike) -> Array:
    """Reuse lost because routing fragments the batch, 1/s [1] (eq. 23)."""
    return 1.0 / xp.asarray(s, float)


def capacity_factor(batch_dense: ArrayLike, batch_moe: ArrayLike) -> Array:
    """Reuse lost because all experts stay resident, B_dense/B_moe [1] (eq. 7, 23)."""
    return xp.asarray(batch_dense, float) / batch_moe


def quality_multiplier(
    loss_dense: ArrayLike, loss_moe: ArrayLike, alpha: ArrayLike = KAPLAN_ALPHA
) -> Array:
    """Size factor q at which a dense model reaches the loss of the MoE [1] (eq. 12 to 14).

    Both losses belong to models of the same active size; loss falls as size^-alpha.

    >>> round(float(quality_multiplier(2.34, 2.12)), 2)
    3.67
    """
    return (xp.asarray(loss_dense, float) / loss_moe) ** (1.0 / xp.asarray(alpha, float))


def qs(q: ArrayLike, s: ArrayLike) -> Array:
    """The decision variable q*s [1]: below 1 the MoE moves more FFN bytes per token (eq. 18)."""
    return xp.asarray(q, float) * s
