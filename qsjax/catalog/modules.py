"""Which modules of a model a quantisation table means, and what each group of modules weighs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from qsjax.records.precision import STORED
from qsjax.records.specs import Dtype
from qsjax.records.tables import table


class Format(NamedTuple):
    """How the weights of a module are kept.

    Attributes:
        dtype: by its bits: integers of 8 bits are "fp8", those of 4 or less "fp4".
        stored: bytes of a weight with its scales.
        multiply: what engines dequantise it to, None where it multiplies as it is.
    """

    dtype: Dtype = "bf16"
    stored: float = 2.0
    multiply: Dtype | None = None

    @property
    def special(self) -> float:
        """Bytes of a weight, 0 where they are those of its dtype."""
        return 0.0 if self.stored == STORED[self.dtype] else self.stored


WHOLE = Format()
# The group of every projection of attention, of which the others are parts.
ALL_ATTENTION = "all attention"
# Patterns and formats; of several that mean a module the first holds.
Rules = Sequence[tuple[str, Format]]
# Numbers of the blocks of a kind ("softmax", "linear", "routed" or "dense"); what is unknown lacks.
Blocks = Mapping[str, Sequence[int]]
# Names of a group's modules.
Names = Mapping[str, tuple[str, ...]]
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("query", "keys", "values", "output"), "softmax"),
    **dict.fromkeys(("linear input", "linear output"), "linear"),
    **dict.fromkeys(("routed experts", "shared experts"), "routed"),
    "dense layers": "dense",
}
# What goes into a network is called like what comes out of it, but for this.
_INTO = {out: x.split() for out, x in table("catalog/families.toml")["into"].items()}
_PREFIXES = ("model.", "language_model.model.", "model.language_model.", "")
_NOT_TEXT = re.compile(r"vision|visual|audio|tower|\bmtp\b")
_LAYER = re.compile(r"\b(?:layers|blocks|h)\.(\d+)(?:\.|\b)")
# Layers that are looked at where a pattern chooses numbers in its own way.
_MOST = 512


def _into(names: Iterable[str]) -> tuple[str, ...]:
    """Names of what goes into networks of which `names` come out."""
    split = (name.rpartition(".") for name in names)
    return tuple(f"{path}.{more}" for path, _, last in split for more in _INTO.get(last, ()))


class _Means:
    """Finds the format of a module by its name among the patterns of a table."""

    def __init__(
        self, rules: Rules, default: Format, layers: float, blocks: Blocks, names: Names
    ) -> None:
        self.default, self.of_all = default, layers
        self.blocks, self.names = blocks, dict(names)
        for group in ("routed experts", "shared experts", "dense layers"):
            self.names[f"into {group}"] = _into(self.names[group])
        self.plain: dict[str, tuple[int, Format]] = {}
        self.patterns: list[tuple[int, re.Pattern[str], Format]] = []
        self.layers: set[int] = set()
        for at, (name, form) in enumerate(rules):
            self._add(at, name, form)

    def _add(self, at: int, name: str, form: Format) -> None:
        if name.startswith("re:"):
            try:
                self.patterns.append((at, re.compile(name[3:]), form))
            except re.error:
                return  # engines would not start with it
            if re.search(r"\d", name):
                self.layers.update(range(_MOST))
            return
        if _NOT_TEXT.search(name):
            return
        found = _LAYER.search(name)
        own = f"layers.{name[found.start(1) :]}" if found else name.removeprefix("model.")
        own = own.removesuffix(".weight")
        if found:
            self.layers.add(int(found[1]))
        if "*" not in own:
            self.plain.setdefault(own, (at, form))
            return
        text = re.escape(own.removeprefix("layers.*.")).replace(r"\*", ".*")
        self.patterns.append((at, re.compile(rf"(?:.*\.)?{text}(?:\..*)?$"), form))

    def of(self, name: str) -> Format:
        """The format of a module "layers.N.what.it.is" or "lm_head"."""
        parts = name.split(".")
        ends = range(1, len(parts) + 1)
        runs = (".".join(parts[a:b]) for b in ends for a in range(b))
        found = [self.plain[run] for run in runs if run in self.plain]
        full = [prefix + name for prefix in _PREFIXES]
        found += [
            (at, form)
            for at, pattern, form in self.patterns
            if any(pattern.match(one) for one in full)
        ]
        return min(found, key=lambda one: one[0])[1] if found else self.default

    def of_group(self, layer: int, group: str) -> Format:
        """The format of a group's modules in a layer: that of a name that the table means."""
        forms = (self.of(f"layers.{layer}.{name}") for name in self.names[group])
        return next((one for one in forms if one != self.default), self.default)


def _mixed(means: _Means, parts: Iterable[tuple[str, float, float]]) -> Format:
    """One format for modules of several: that of most weights, with the mean of their bytes.

    Args:
        means: the table.
        parts: a group of names, the layers that have such a module, and its weights.
    """
    weights: dict[Format, float] = {}
    for group, layers, size in parts:
        for form, count in _layers_by_format(means, group, layers).items():
            weights[form] = weights.get(form, 0.0) + count * size
    total = sum(weights.values())
    if not total:
        return means.default
    main = max(weights, key=lambda form: weights[form])
    if len({form.stored for form, weight in weights.items() if weight}) == 1:
        return main  # without roundings
    return main._replace(stored=sum(form.stored * w for form, w in weights.items()) / total)


def _layers_by_format(means: _Means, group: str, layers: float) -> dict[Format, float]:
    """How many of the `layers` that have a group's module keep it in which format.

    Where it is unknown which layers these are, those that the table does not name are the first to
    lack it.
    """
    found: dict[Format, float] = {}
    blocks = means.blocks.get(_KINDS[group.removeprefix("into ")])
    if blocks is not None:
        for block in blocks:
            form = means.of_group(block, group)
            found[form] = found.get(form, 0.0) + 1.0
        return found
    named = sorted(layer for layer in means.layers if layer < means.of_all)
    counted = [(layer, 1.0) for layer in named]
    # One layer stands for all that no pattern names.
    unnamed = int(max((means.of_all, *means.layers))) + 1
    counted.append((unnamed, means.of_all - len(named)))
    for layer, count in counted:
        form = means.of_group(layer, group)
        found[form] = found.get(form, 0.0) + count
    surplus = means.of_all - layers
    for form in (means.default, *sorted(found, key=lambda one: -found[one])):
        lacking = min(surplus, found.get(form, 0.0))
        found[form] = found.get(form, 0.0) - lacking
        surplus -= lacking
    return found


def _attention(shape: Mapping[str, float]) -> tuple[float, float, float, float]:
    """Weights of the queries, of keys, of values, and of the output of a softmax layer."""
    d, heads, width = shape["hidden"], shape["heads"], shape["head_dim"]
    latent, rope = shape.get("kv_latent", 0.0), shape.get("rope_dim", 0.0)
    if not latent:
        keys = d * shape["kv_heads"] * width
        return d * heads * width, keys, keys, d * heads * width
    rank, value = shape["q_lora_rank"], shape["v_head_dim"]
    query = d * rank + (rank or d) * heads * width
    spread = latent * heads * (shape["qk_nope_dim"] + value)
    return query, d * (latent + rope), spread, heads * value * d


def formats(
    rules: Rules,
    default: Format,
    shape: Mapping[str, float],
    blocks: Blocks,
    names: Names,
) -> dict[str, Format]:
    """The format of every group of modules that a model has.

    Args:
        rules: patterns of a table.
        default: of the modules that no pattern means.
        shape: fields of the model.
        blocks: which blocks have which modules, as far as it is known.
        names: of the modules of each group.
    """
    layers, dense = shape["layers"], shape.get("dense_layers", 0.0)
    linear, inside = shape.get("linear_layers", 0.0), shape.get("linear_params", 0.0)
    means = _Means(rules, default, layers, blocks, names)
    query, keys, values, output = _attention(shape)
    softmax = layers - linear
    # Of the projections of a linear layer about a third is the output.
    outputs = (("output", softmax, output), ("linear output", linear, inside / 3.0))
    inputs = (
        ("query", softmax, query),
        ("keys", softmax, keys),
        ("values", softmax, values),
        ("linear input", linear, inside * 2.0 / 3.0),
    )
    found = {
        ALL_ATTENTION: _mixed(means, inputs + outputs),
        "attention": _mixed(means, inputs),
        "attention output": _mixed(means, outputs),
    }
    into = shape.get("ffn_matrices", 3.0) - 1.0

    def network(group: str, count: float) -> Format:
        return _mixed(means, [(group, count, 1.0), (f"into {group}", count, into)])

    if shape.get("experts", 1.0) <= 1:
        return found | {"feed-forward": network("dense layers", layers)}
    found["routed experts"] = network("routed experts", layers - dense)
    if shape.get("shared_experts"):
        found["shared experts"] = network("shared experts", layers - dense)
    if dense:
        found["dense layers"] = network("dense layers", dense)
    return found
