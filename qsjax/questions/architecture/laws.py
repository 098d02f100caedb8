"""What an architecture is worth: published laws of loss, with constants, source and fitted range.

A law maps the shapes of a model and its training tokens to a quality, one number. Laws differ in
what they see; only `co-design` was fitted to models of different caches.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from qsjax.cost.laws import params
from qsjax.cost.laws.closed_forms import KAPLAN_ALPHA
from qsjax.numerics.namespace import Array, xp
from qsjax.records.specs import ModelSpec
from qsjax.records.tables import table

Seen = dict[str, Array]
# Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.1: loss (8.8e13/N)^0.076, N without embeddings.
KAPLAN_PARAMETERS = 8.8e13
PAPER_Q = 5.0  # of the paper's tables 3 to 6
FLOPS = 6.0  # of a parameter and training token, forward and backward
# What may be varied and changes the cache.
CACHE = ("kv_heads", "kv_latent", "layers")
_LATENT = "arXiv 2601.18089 (LatentMoE) compares accuracies and has no law of loss"
LEFT_OUT = {"latent-moe": _LATENT, "2601.18089": _LATENT}


class Law(NamedTuple):
    """A law of quality.

    Attributes:
        sees: what the law depends on, from a model and its training tokens.
        quality: from those.
        title: in a few words.
        source: where form, constants and range stand.
        unit: of the quality.
        fitted: least and greatest value of what it sees, where the source fitted it.
        less_is_better: whether it is a loss.
        cache: names in `CACHE` that the models of the fit differ in.
    """

    sees: Callable[[ModelSpec, Array], Seen]
    quality: Callable[[Seen], Array]
    title: str
    source: str
    unit: str
    fitted: Mapping[str, tuple[float, float]]
    less_is_better: bool = True
    cache: Sequence[str] = ()


def _blocks(model: ModelSpec) -> Array:
    """Parameters of all matrices that text uses without embeddings and routers [parameters]."""
    ends = params.embedding_params(model) + params.router_params(model)
    return params.total_params(model) - ends - model.lookup_params - xp.asarray(model.idle_params)


def _active_blocks(model: ModelSpec) -> Array:
    """Of these, what one token uses [parameters]."""
    return _blocks(model) - (1.0 - params.sparsity(model)) * params.pool_params(model)


def _joint_sees(model: ModelSpec, tokens: Array) -> Seen:
    return {
        "active parameters": params.active_params(model),
        "expansion": 1.0 / params.sparsity(model),
        "training tokens": tokens,
    }


def _joint(seen: Seen) -> Array:
    """Loss [nat/token] (arXiv 2502.05172, eq. 4 and 6, table 3).

    Experts there are as wide as a dense network and one serves a token, so E/K of ours count.
    """
    start, most = 2.0732, 290.4521
    few = 1.0 / (1.0 / start - 1.0 / most)
    experts = 1.0 / (1.0 / (seen["expansion"] - 1.0 + few) + 1.0 / most)
    log = xp.log(experts)
    size = 35.91 * experts**-0.2285 * seen["active parameters"] ** (-0.1889 + 0.0098 * log)
    data = 35.98 * experts**0.5529 * seen["training tokens"] ** (-0.1775 - 0.0259 * log)
    return size + data + 1.3637


def _fine_sees(model: ModelSpec, tokens: Array) -> Seen:
    return {
        "parameters": _blocks(model),
        "granularity": xp.asarray(model.top_k),
        "expansion": 1.0 / params.sparsity(model),
        "training tokens": tokens,
    }


def _fine(seen: Seen) -> Array:
    """Loss [nat/token] (arXiv 2402.07871, eq. 9, table 1): one for MoE, one for dense models."""
    size, tokens = seen["parameters"], seen["training tokens"]
    moe = (2.1 * seen["granularity"] ** -0.58 + 18.1) * size**-0.115 + 30.8 * tokens**-0.147
    dense = 16.3 * size**-0.126 + 26.7 * tokens**-0.127
    return 0.47 + xp.where(seen["expansion"] > 1.0, moe, dense)


def _leverage_sees(model: ModelSpec, tokens: Array) -> Seen:
    top_k, experts = xp.asarray(model.top_k), xp.asarray(model.experts)
    shared = xp.asarray(model.shared_experts)
    return {
        "activation ratio": (top_k + shared) / (experts + shared),
        "granularity": 2.0 * xp.asarray(model.hidden) / xp.asarray(model.expert_ff),
        "training FLOPs": FLOPS * _active_blocks(model) * tokens,
    }


def _leverage(seen: Seen) -> Array:
    """Training FLOPs of a dense model as good [FLOP] (arXiv 2507.17702, eq. 10 and 13, table 2).

    The bases of its logarithms are not printed: 10 for the FLOPs and 2 for the granularity are
    those that give its optimum near 12 and its leverage above 7 at 10^22 FLOPs. A dense model
    has a leverage of 1.
    """
    start, most = 1.63e-2, 5.28e16
    ratio, fine = seen["activation ratio"], xp.log2(seen["granularity"])
    few = 1.0 / (1.0 / start - 1.0 / most)
    saturated = 1.0 / (1.0 / (ratio + few) + 1.0 / most)
    power = 1.23 - 7.61e-2 * xp.log10(seen["training FLOPs"])
    power = power + 1.67e-2 * fine**2 - 1.17e-1 * fine
    return xp.where(ratio < 1.0, saturated**power, 1.0) * seen["training FLOPs"]


def _paper_sees(model: ModelSpec, tokens: Array) -> Seen:
    routed = params.sparsity(model) * params.pool_params(model)
    return {
        "other parameters": _active_blocks(model) - routed,
        "active expert parameters": routed,
        "experts": xp.asarray(model.experts),
        "training tokens": tokens,
    }


def _paper(seen: Seen) -> Array:
    """Loss [nat/token] of the dense model that eq. 11 calls equal, by Kaplan's power of its size.

    With one q for all sparsities, as in the paper's tables.
    """
    q = xp.where(seen["experts"] > 1.0, PAPER_Q, 1.0)
    size = seen["other parameters"] + q * seen["active expert parameters"]
    return (KAPLAN_PARAMETERS / size) ** KAPLAN_ALPHA


def _principled_sees(model: ModelSpec, tokens: Array) -> Seen:
    return {
        "parameters": _blocks(model),
        "experts": xp.asarray(model.experts),
        "active experts": xp.asarray(model.top_k),
        "training tokens": tokens,
    }


def _principled(seen: Seen) -> Array:
    """Loss, up to a factor that is not printed (arXiv 2601.08215, eq. 3); one number of tokens."""
    experts = seen["experts"] ** 0.023 * seen["active experts"] ** -0.018
    return experts * seen["parameters"] ** -0.052


def _co_design_sees(model: ModelSpec, tokens: Array) -> Seen:
    hidden, latent = xp.asarray(model.hidden), xp.asarray(model.kv_latent)
    grouped = hidden * xp.asarray(model.kv_heads) / xp.asarray(model.heads)
    routed = xp.asarray(model.top_k) * xp.asarray(model.expert_ff)
    shared = xp.asarray(model.shared_experts) * xp.asarray(model.shared_ff)
    return {
        "layers": xp.asarray(model.layers),
        "hidden": hidden,
        "active share": params.sparsity(model),
        "active expansion": (routed + shared) / hidden,
        "cache width": xp.where(latent > 0, (latent + xp.asarray(model.rope_dim)) / 2, grouped),
        "training tokens": tokens,
    }


def _co_design(seen: Seen) -> Array:
    """Loss [nat/token] (arXiv 2602.10377, eq. 15, table 6); one number of training tokens.

    Its models have heads of keys and values and no shared experts. Here shared experts count as
    active ones, and the width of a cache of latents is half of what it holds of a token.
    """
    hidden, share = seen["hidden"], seen["active share"]
    width = 0.031 * share**1.09 * hidden**0.33 + 500.0 * hidden**-0.97
    depth, cache = 9.96 * seen["layers"] ** -1.63, 0.20 * seen["cache width"] ** -0.05
    return depth + width * seen["active expansion"] ** -0.17 + cache + 2.53


def _sparsity_sees(model: ModelSpec, tokens: Array) -> Seen:
    return {
        "parameters": _blocks(model),
        "sparsity": 1.0 - params.sparsity(model),
        "training tokens": tokens,
        "training FLOPs": FLOPS * _active_blocks(model) * tokens,
    }


def _sparsity(seen: Seen) -> Array:
    """Loss [nat/token] (arXiv 2501.12370, eq. 6, table 3)."""
    size, share = seen["parameters"], 1.0 - seen["sparsity"]
    alone = 16612.50 * size**-0.5962 + 5455.67 * seen["training tokens"] ** -0.3954
    return alone + 0.4598 * share**0.1666 + 17.26 * share**-0.1603 * size**-0.1595 + 0.94


def _five_sees(model: ModelSpec, tokens: Array) -> Seen:
    shared = xp.asarray(model.shared_experts)
    active = xp.asarray(model.top_k) + shared
    return {
        "parameters": _blocks(model),
        "active parameters": _active_blocks(model),
        "active experts": active,
        "shared share": shared / active,
        "training tokens": tokens,
    }


def _five(seen: Seen) -> Array:
    """Loss [nat/token] (arXiv 2509.23678); shared experts are among the active ones."""
    experts, shared = seen["active experts"], seen["shared share"]
    choice = 0.1577 * experts + 7.2446 / experts + 5.1395 * shared**2 - 3.2363 * shared
    size, active = seen["parameters"], seen["active parameters"]
    large, used = size**-0.2383, active**-0.2383
    coupled = choice * (large + 0.0013 * used + 0.0450 * active / size)
    data = 27129.05 * seen["training tokens"] ** -0.4694
    return coupled + 38.051 * large + 31.096 * used + data + 1.8182


# What each law of laws.toml sees, and its quality from that.
_FORMS = {
    "joint": (_joint_sees, _joint),
    "fine-grained": (_fine_sees, _fine),
    "leverage": (_leverage_sees, _leverage),
    "principled": (_principled_sees, _principled),
    "co-design": (_co_design_sees, _co_design),
    "sparsity": (_sparsity_sees, _sparsity),
    "five-factor": (_five_sees, _five),
    "paper": (_paper_sees, _paper),
}
_PUBLISHED = table("questions/architecture/laws.toml")
LAWS = {name: Law(*_FORMS[name], **told) for name, told in _PUBLISHED.items()}


def unseen(law: Law, names: Iterable[str]) -> list[str]:
    """What changes the cache, of these names, and no two models of the fit differ in."""
    return [name for name in names if name in CACHE and name not in law.cache]


def outside(law: Law, seen: dict[str, float]) -> dict[str, float]:
    """What leaves the range in which a law was fitted, by name."""
    return {
        name: seen[name]
        for name, (low, high) in law.fitted.items()
        if not low <= seen[name] <= high
    }
