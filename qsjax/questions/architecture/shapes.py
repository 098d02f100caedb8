"""Variants of a model that can be built, each as wide as its quality asks."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import elementwise

from qsjax.grid.axes import stack
from qsjax.grid.cells import take
from qsjax.numerics.jax import jax
from qsjax.numerics.jaxpr import on_host_by_jax
from qsjax.numerics.namespace import Array, ArrayLike, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.questions.architecture.laws import LAWS, Law, Seen
from qsjax.records import checks
from qsjax.records.fields import hint
from qsjax.records.specs import ModelSpec

# What may be varied. `granularity` splits every expert into so many: as many times more experts,
# and as many times more of them for each token.
VARIED = (
    *("experts", "top_k", "granularity", "shared_experts"),
    *("kv_heads", "kv_latent", "layers", "hidden"),
)
MOST = 256  # variants
WIDEST = 32.0  # of an expert, over the model's own width
# Kinds of layers that keep their share when the depth changes.
KINDS = (
    *("bare_layers", "window_layers", "linear_layers", "shared_kv_layers", "index_layers"),
    "pooled_layers",
)
Values = dict[str, float]
TOLERANCES = {"xatol": 1e-12, "xrtol": 1e-13}  # of the logarithm of a width


def variants_of(vary: Mapping[str, Any]) -> list[Values]:
    """All combinations of the values.

    Raises:
        ValueError: with every name that cannot be varied and every number that is no count.
    """
    wrong, lists = [], {}
    for name, given in vary.items():
        if name not in VARIED:
            wrong.append(f"vary: {name!r} cannot be varied; {hint(name, VARIED)}")
            continue
        values = np.atleast_1d(np.asarray(given, np.float64))
        least = 0.0 if name == "shared_experts" else 1.0
        if values.size == 0 or not ((values >= least) & (values == np.floor(values))).all():
            wrong.append(
                f"vary: {name} {np.ravel(given).tolist()}: give whole numbers from {least:g}"
            )
        lists[name] = list(dict.fromkeys(values.tolist()))
    if not wrong and (count := np.prod([len(v) for v in lists.values()])) > MOST:
        wrong.append(f"vary: {count:,.0f} combinations are more than {MOST}; give fewer values")
    if wrong:
        raise ValueError("\n".join(wrong))
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def built(reference: ModelSpec, values: Values) -> tuple[ModelSpec, str | None]:
    """The reference with these values, still as wide as it was, and why it cannot be built."""
    fields: dict[str, Any] = dict(values)
    split = fields.pop("granularity", 1.0)
    experts = fields.get("experts", scalar(reference.experts)) * split
    fields |= {"experts": experts, "top_k": fields.get("top_k", scalar(reference.top_k)) * split}
    if fields.get("shared_experts", 0.0) > 0 and scalar(reference.shared_experts) == 0:
        fields["shared_ff"] = reference.expert_ff
    if "kv_heads" in fields and scalar(reference.kv_latent) > 0:
        return reference, "kv_heads: the model has latent attention; vary kv_latent"
    if "kv_latent" in fields and scalar(reference.kv_latent) == 0:
        return reference, "kv_latent: the model has no latent attention; vary kv_heads"
    if "layers" in fields:
        factor = fields["layers"] / scalar(reference.layers)
        fields |= {kind: factor * scalar(getattr(reference, kind)) for kind in KINDS}
        if any(fields[kind] != np.floor(fields[kind]) for kind in KINDS):
            layers = f"{fields['layers']:g}"
            return reference, f"layers {layers}: kinds of layers do not keep their shares"
    model = dataclasses.replace(reference, **fields)
    if fields["top_k"] > fields["experts"]:
        return model, f"top_k {fields['top_k']:g} of {fields['experts']:g} experts"
    if scalar(model.heads) % scalar(model.kv_heads):
        return model, f"kv_heads {scalar(model.kv_heads):g} do not divide {scalar(model.heads):g}"
    try:
        checks.check_records(model=model)
    except ValueError as error:
        return model, str(error).replace("\n", " ")
    return model, None


def with_width(model: ModelSpec, width: Any, shared_ratio: float) -> ModelSpec:
    """The model with experts of a width, shared ones in proportion."""
    return dataclasses.replace(model, expert_ff=width, shared_ff=xp.asarray(width) * shared_ratio)


@on_host
def quality_of(model: ModelSpec, tokens: ArrayLike, *, law: str) -> Array:
    """Quality of models under a law."""
    rule = LAWS[law]
    return rule.quality(rule.sees(model, xp.asarray(tokens)))


@on_host
def seen_of(model: ModelSpec, tokens: ArrayLike, *, law: str) -> Seen:
    """What a law sees of models."""
    return LAWS[law].sees(model, xp.asarray(tokens))


@on_host_by_jax
def quality_slopes(model: ModelSpec, tokens: ArrayLike, *, law: str, names: tuple[str, ...]) -> Any:
    """d quality / d log field for every field by name, the widths of experts among them."""
    values = {name: xp.asarray(getattr(model, name)) for name in names}

    def quality(at: dict[str, Array]) -> Array:
        rule = LAWS[law]
        fields: dict[str, Any] = dict(at)
        return rule.quality(rule.sees(dataclasses.replace(model, **fields), xp.asarray(tokens)))

    slopes = jax.grad(quality)(values)
    return {name: slopes[name] * values[name] for name in names}


def widths(
    models: Sequence[ModelSpec], ratio: float, target: float, law: str, tokens: float
) -> np.ndarray:
    """Width of the experts of each model at which its quality is the target's; NaN without one."""
    whole = stack([dataclasses.replace(model, precision=None, label="") for model in models])
    rule: Law = LAWS[law]
    sign = -1.0 if rule.less_is_better else 1.0

    def lead(log_width: np.ndarray, row: np.ndarray) -> np.ndarray:
        """How much better than the target, relative."""
        widened = with_width(take(whole, row.astype(int)), np.exp(log_width), ratio)
        quality = np.asarray(quality_of(widened, tokens, law=law))
        return np.asarray(sign * (quality / target - 1.0))

    rows = np.arange(len(models))
    low, high = np.zeros(len(models)), np.log(WIDEST * np.asarray(whole.hidden))
    has_root = (lead(low, rows) < 0) & (lead(high, rows) > 0)
    solved = elementwise.find_root(lead, (low, high), args=(rows,), tolerances=TOLERANCES)
    return np.where(has_root, np.exp(solved.x), np.nan)
