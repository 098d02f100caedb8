"""Precisions of a published model, from `quantization_config` or hf_quant_config.json."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from qsjax.catalog.reading import value_at
from qsjax.records.specs import Dtype

# By bits, as the cost laws only need bytes and the peak of the matching units.
BY_BITS: dict[int, Dtype] = {16: "bf16", 8: "fp8", 4: "fp4"}
# Bytes of an element with its scales: a byte for 32 elements.
MXFP4 = 0.53125
# Four-bit integers: a half and, for each group, a 16-bit scale and for some a four-bit zero.
INTEGER, SCALE, SCALE_AND_ZERO = 0.5, 2.0, 2.5
# quant_method of transformers whose width needs no further key.
METHODS: dict[str, Dtype] = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "fp4"}
# quant_algo and kv_cache_quant_algo of NVIDIA ModelOpt.
ALGORITHMS: dict[str, Dtype] = {
    "FP8": "fp8",
    "FP8_PB_WO": "fp8",
    "FP8_PB_REAL": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "INT8": "fp8",
    "W8A16": "fp8",
    "W8A8_SQ_PER_CHANNEL": "fp8",
    "NVFP4": "fp4",
    "NVFP4_AWQ": "fp4",
    "W4A16": "fp4",
    "W4A16_AWQ": "fp4",
    "W4A8_AWQ": "fp4",
    "MXFP4": "fp4",
}
# Those of them whose weights are dequantised, and to what, before they meet the activations.
DEQUANTISED: dict[str, Dtype] = {
    "W8A16": "bf16",
    "FP8_PB_WO": "bf16",
    "W4A16": "bf16",
    "W4A16_AWQ": "bf16",
    "W4A8_AWQ": "fp8",
}
# Weights of so many bits under activations of 16.
BY_BIT_COUNT = ("awq", "gptq", "auto-round")
KNOWN_METHODS = (*METHODS, *BY_BIT_COUNT, "compressed-tensors", "modelopt", "bitsandbytes")
OTHERWISE = "for any other remove the table from a copy of the file and give --weights and --kv"
_EXEMPT = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")
# A whole attention block, or its output projection, which every kind of attention has: norms,
# gates, indexers and convolutions are exempt in many checkpoints whose projections are not.
_ATTENTION = re.compile(r"attn(?:\W*$|.*\bo\b.*_proj|.*\b(?:o|o_b|out|c)_proj)")
_NOT_TEXT = re.compile(r"vision|visual|audio|tower|mtp|indexer")
_LAYER = re.compile(r"\b(?:layers|h|blocks)\.(\d+)\b")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Precisions:
    """Precisions of the feed-forward weights, the attention weights and the cache.

    `weight_bytes` is what a feed-forward weight takes, 0 where STORED says it. `multiply` is the
    dtype that engines dequantise weights to, None where they multiply as they are. `weight_block`
    is how many weights share a scale where engines split no such block, 0 where they may.
    """

    weights: Dtype = "bf16"
    attention: Dtype = "bf16"
    kv: Dtype = "bf16"
    weight_bytes: float = 0.0
    multiply: Dtype | None = None
    weight_block: int = 0


def _algorithm(name: Any, key: str, problems: list[str]) -> Dtype:
    if name in (None, "", "null"):
        return "bf16"
    if str(name).upper() in ALGORITHMS:
        return ALGORITHMS[str(name).upper()]
    problems.append(f'unknown "{key}" {name!r}; known: {", ".join(ALGORITHMS)}; {OTHERWISE}')
    return "bf16"


def _bits(bits: Any, key: str, problems: list[str]) -> Dtype:
    if isinstance(bits, int | float) and bits in BY_BITS:
        return BY_BITS[int(bits)]
    known = ", ".join(map(str, BY_BITS))
    problems.append(f'"{key}" is {bits!r}; known: {known}; {OTHERWISE}')
    return "bf16"


def _groups(quantisation: Mapping[str, Any], problems: list[str]) -> Dtype:
    """Of compressed-tensors: the one width of all groups; no group means that only the cache is."""
    groups = quantisation.get("config_groups")
    tables = groups.values() if isinstance(groups, Mapping) else [None]
    keys = "config_groups.*.weights.num_bits"
    found = {
        _bits(value_at({"group": one}, "group.weights.num_bits"), keys, problems)
        for one in tables
        # A group without weights is one of activations.
        if not isinstance(one, Mapping) or one.get("weights") is not None
    }
    if len(found) > 1:
        problems.append(f'"{keys}" differ between the groups; {OTHERWISE}')
    return next(iter(found), "bf16")


def _weights(quantisation: Mapping[str, Any], problems: list[str]) -> Dtype:
    method = str(quantisation.get("quant_method", "modelopt")).lower()
    if method in METHODS:
        return METHODS[method]
    if method in BY_BIT_COUNT:
        return _bits(quantisation.get("bits"), "bits", problems)
    if method == "bitsandbytes":
        return "fp4" if quantisation.get("load_in_4bit") else "fp8"
    if method == "compressed-tensors":
        return _groups(quantisation, problems)
    if method == "modelopt":
        return _algorithm(quantisation.get("quant_algo"), "quant_algo", problems)
    known = ", ".join(KNOWN_METHODS)
    problems.append(f'unknown "quant_method" {method!r}; known: {known}; {OTHERWISE}')
    return "bf16"


def _cache(quantisation: Mapping[str, Any], problems: list[str]) -> Dtype:
    if quantisation.get("kv_cache_scheme"):
        bits = value_at(quantisation, "kv_cache_scheme.num_bits")
        return _bits(bits, "kv_cache_scheme.num_bits", problems)
    return _algorithm(quantisation.get("kv_cache_quant_algo"), "kv_cache_quant_algo", problems)


def _exempts_attention(quantisation: Mapping[str, Any], layers: float, problems: list[str]) -> bool:
    """Whether the attention projections of most layers, or of all at once, are left out."""
    found: set[int] = set()
    for key in _EXEMPT:
        names = quantisation.get(key) or []
        if not isinstance(names, list):
            problems.append(f'"{key}" is not a list of names')
            continue
        for name in map(str, names):
            if not _ATTENTION.search(name) or _NOT_TEXT.search(name):
                continue
            layer = _LAYER.search(name)
            if layer is None:
                return True
            found.add(int(layer[1]))
    return sum(layer < layers for layer in found) > layers / 2


def _stored(quantisation: Mapping[str, Any]) -> float:
    """Bytes of a four-bit weight with the scales of its group; 0 where STORED says it."""
    names = (quantisation.get("quant_method"), quantisation.get("quant_algo"))
    if any(str(name).lower() == "mxfp4" for name in names):
        return MXFP4
    group, scales = quantisation.get("group_size"), SCALE_AND_ZERO
    if quantisation.get("quant_method") == "compressed-tensors":
        groups = quantisation.get("config_groups")
        tables = list(groups.values()) if isinstance(groups, Mapping) else []
        first = {"group": tables[0] if tables else None}
        group, scales = value_at(first, "group.weights.group_size"), SCALE
        if value_at(first, "group.weights.type") == "float":
            return MXFP4 if group == 32 else 0.0
    elif quantisation.get("quant_method") not in BY_BIT_COUNT:
        return 0.0
    if not isinstance(group, int) or group == 0:
        return 0.0
    # One group for a whole row, written as -1, has scales of no weight.
    return INTEGER + (scales / group if group > 0 else 0.0)


def _block(quantisation: Mapping[str, Any]) -> int:
    """Weights of a block or group that engines keep whole on one GPU; 0 where there is none."""
    method = str(quantisation.get("quant_method")).lower()
    blocks = [quantisation.get("weight_block_size")]
    groups = quantisation.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        blocks.append(value_at({"group": group}, "group.weights.block_structure"))
    for block in blocks:
        if isinstance(block, list) and block and isinstance(block[0], int):
            return max(0, block[0])
    group = quantisation.get("group_size") if method in ("awq", "gptq") else 0
    return max(0, group) if isinstance(group, int) else 0


def _multiplied(quantisation: Mapping[str, Any]) -> Dtype | None:
    """What the weights are dequantised to, None where they multiply as they are."""
    method = str(quantisation.get("quant_method", "modelopt")).lower()
    if method in BY_BIT_COUNT:
        return "bf16"
    if method == "bitsandbytes":
        return "bf16" if quantisation.get("load_in_4bit") else None
    if method == "modelopt":
        return DEQUANTISED.get(str(quantisation.get("quant_algo")).upper())
    groups = quantisation.get("config_groups")
    tables = groups.values() if isinstance(groups, Mapping) else ()
    weights = [one for one in tables if isinstance(one, Mapping) and one.get("weights")]
    is_only = bool(weights) and not any(one.get("input_activations") for one in weights)
    return "bf16" if is_only and method == "compressed-tensors" else None


def precisions(quantisation: Any, layers: float, problems: list[str]) -> Precisions:
    """The precisions of a quantisation table; None means bf16 (fp16 and fp32 are served so).

    Attention weights are bf16 where the table exempts the attention of most of the `layers`.
    """
    if quantisation is None:
        return Precisions()
    if not isinstance(quantisation, Mapping):
        problems.append('"quantization_config" is not an object')
        return Precisions()
    weights = _weights(quantisation, problems)
    is_exempt = _exempts_attention(quantisation, layers, problems)
    return Precisions(
        weights=weights,
        weight_bytes=_stored(quantisation) if weights == "fp4" else 0.0,
        multiply=_multiplied(quantisation) if weights != "bf16" else None,
        attention="bf16" if is_exempt else weights,
        kv=_cache(quantisation, problems),
        weight_block=_block(quantisation),
    )
