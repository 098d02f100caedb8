"""Precisions of a published model, from `quantization_config` or hf_quant_config.json."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from qsjax.catalog.modules import ALL_ATTENTION, WHOLE, Blocks, Format, Names, Rules, formats
from qsjax.catalog.reading import value_at
from qsjax.records.precision import STORED, Stored
from qsjax.records.specs import Dtype
from qsjax.records.tables import table

# Bytes of a weight with an 8-bit scale for 32 of them.
MXFP4, MXFP8 = 0.53125, 1.03125
_SCALE = 2.0  # bytes of a group's 16-bit scale
OTHERWISE = "for any other remove the table from a copy of the file and give --weights and --kv"
Table = Mapping[str, Any]


def _own(dtype: Dtype, stored: float = 0.0, multiply: Dtype | None = None) -> Format:
    return Format(dtype, stored or STORED[dtype], multiply)


_TABLE = table("catalog/quantisation.toml")
ALGORITHMS = {name: _own(**told) for name, told in _TABLE["algorithms"].items()}
METHODS = {name: _own(**told) for name, told in _TABLE["methods"].items()}
# Those of 4-bit integers, whose scales are as many as the table has groups.
_INTEGERS = ("W4A16", "W4A16_AWQ", "W4A8_AWQ")
MIXED = "MIXED_PRECISION"
# Formats that torchao, quark and MLX name.
_FLOATS = {name: METHODS[name] for name in ("fp8", "mxfp8", "nvfp4", "mxfp4")}
_FLOATS["float8"] = METHODS["fp8"]


class Scheme(NamedTuple):
    """What a table says: the format of most weights, and of the modules that differ."""

    default: Format
    rules: Rules = ()


def _spelt(name: Any) -> str:
    """A method without the ways to spell it: `modelopt_fp4` and `intel/auto-round` are old ones."""
    plain = re.split(r"[/.]", str(name).lower().replace("_", "-"))[-1]
    bare = re.sub(r"^(?:auto-)?(modelopt|gptq|awq)(?:-.*)?$", r"\1", plain)
    return str(_TABLE["spelt"].get(plain, bare))


def _number(table: Table, key: str, problems: list[str]) -> float:
    """A positive number of a table; a problem and 0 where it is none."""
    value = value_at(table, key)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
        return float(value)
    problems.append(f'"{key}" is {value!r}, not a number above 0; {OTHERWISE}')
    return 0.0


def _bits(table: Table, key: str, problems: list[str]) -> float:
    bits = _number(table, key, problems)
    if bits > 16:
        problems.append(f'"{key}" is {bits:g}; give at most 16; {OTHERWISE}')
        return 0.0
    return bits


def _items(table: Any) -> Iterable[tuple[str, Any]]:
    return table.items() if isinstance(table, Mapping) else ()


_ROW = -1  # group of a scale that is of a whole row


def _integer(
    bits: float, group: Any, multiply: Dtype | None, zero: bool, scale: float = _SCALE
) -> Format:
    """Integers with a scale, and some with a zero, for each group; one of a row weighs nothing."""
    if not 0 < bits < 16:
        return WHOLE
    dtype: Dtype = "fp8" if bits > 4 else "fp4"
    if not isinstance(group, int) or isinstance(group, bool) or group == 0:
        return Format(dtype, STORED[dtype] if bits in (4, 8) else bits / 8, multiply)
    beside = (scale + (bits / 8 if zero else 0.0)) / group if group > 0 else 0.0
    return Format(dtype, bits / 8 + beside, multiply)


def _float(bits: float, group: Any, multiply: Dtype | None) -> Format:
    """Floats of 4 or 8 bits, with a scale for each 32 of them or as their dtype has it."""
    dtype: Dtype = "fp4" if bits == 4 else "fp8"
    beside = {"fp4": MXFP4, "fp8": MXFP8}[dtype]
    return Format(dtype, beside if group == 32 else STORED[dtype], multiply)


# How compressed-tensors and Quark say that a scale is of a whole row or matrix.
_OF_ROWS = ("channel", "tensor", "per_channel", "per_tensor")


def _wider(bits: Any, weight_bits: float) -> Dtype | None:
    """What weights of some bits are widened to under activations of others; None for neither."""
    if not isinstance(bits, int | float) or bits >= 16:
        return "bf16"
    if bits <= weight_bits:
        return None
    return "fp8" if bits > 4 else "fp4"


def _algorithm(name: Any, key: str, problems: list[str], group: Any = None) -> Format:
    if str(name or "null").upper() in ("NULL", "NONE", "NO_QUANT", "UNQUANTIZED"):
        return WHOLE
    upper = re.sub(r"^W8A8_SQ_.*", "W8A8_SQ_PER_CHANNEL", str(name).upper())
    if upper not in ALGORITHMS:
        problems.append(f'unknown "{key}" {name!r}; known: {", ".join(ALGORITHMS)}; {OTHERWISE}')
        return WHOLE
    own = ALGORITHMS[upper]
    return _integer(4.0, group, own.multiply, zero=False) if group and upper in _INTEGERS else own


def _modelopt(table: Table, problems: list[str]) -> Scheme:
    if not table.keys() & {"quant_algo", "kv_cache_quant_algo"}:  # vLLM refuses it too
        problems.append(f'missing "quant_algo" of ModelOpt; {OTHERWISE}')
    if str(table.get("quant_algo")).upper() != MIXED:
        group = table.get("group_size") or value_at(
            table, "config_groups.group_0.weights.group_size"
        )
        return Scheme(_algorithm(table.get("quant_algo"), "quant_algo", problems, group))
    layers = table.get("quantized_layers")
    if layers is None and isinstance(table.get("config_groups"), Mapping):  # Nemotron 3, Qwen 3.6
        return _compressed(table, problems)
    if not isinstance(layers, Mapping) or not layers:
        problems.append(f'"quant_algo" is {MIXED}, but no "quantized_layers" say what is mixed')
        return Scheme(WHOLE)

    def kind(one: Any) -> tuple[str, str]:
        return str(value_at(one, "quant_algo")), repr(value_at(one, "group_size"))

    sizes = {kind(one): value_at(one, "group_size") for one in layers.values()}
    key = "quantized_layers.*.quant_algo"
    read = {one: _algorithm(one[0], key, problems, size) for one, size in sizes.items()}
    return Scheme(WHOLE, [(name, read[kind(one)]) for name, one in layers.items()])


def _one_group(group: Any, problems: list[str]) -> Format:
    """A group of compressed-tensors; one without weights is one of activations."""
    table = {"config_groups": {"*": group}}
    if isinstance(group, Mapping) and group.get("weights") is None:
        return WHOLE
    bits = _bits(table, "config_groups.*.weights.num_bits", problems)
    size = value_at(table, "config_groups.*.weights.group_size")
    if size is None and value_at(table, "config_groups.*.weights.strategy") in _OF_ROWS:
        size = _ROW
    wide = _wider(value_at(table, "config_groups.*.input_activations.num_bits"), bits)
    if value_at(table, "config_groups.*.weights.type") == "float":
        return _float(bits, size, wide) if bits in (4, 8) else WHOLE
    has_zero = value_at(table, "config_groups.*.weights.symmetric") is False
    return _integer(bits, size, wide, zero=has_zero)


def _compressed(table: Table, problems: list[str]) -> Scheme:
    """Groups of compressed-tensors by their targets; no group means that only the cache is."""
    groups = table.get("config_groups")
    if not isinstance(groups, Mapping):
        problems.append(f'"config_groups" is {groups!r}, not an object; {OTHERWISE}')
        return Scheme(WHOLE)
    rules: list[tuple[str, Format]] = []
    default = WHOLE
    for group in groups.values():
        form = _one_group(group, problems)
        if form == WHOLE:
            continue
        targets = value_at(group, "targets")
        names = [str(name) for name in targets] if isinstance(targets, list) else ["Linear"]
        for name in names:
            # A class of modules, such as Linear, is all of them.
            if name.isidentifier() and name[0].isupper():
                if default not in (WHOLE, form):
                    problems.append(f'"config_groups" keep {name} in two formats; {OTHERWISE}')
                default = form
            else:
                rules.append((name, form))
    return Scheme(default, rules)


# Signs that make a name a pattern.
_PATTERN = re.compile(r"[*+?^$()\[\]{}|\\]")


def _bit_count(table: Table, problems: list[str]) -> Scheme:
    """AWQ, GPTQ, AutoRound: so many bits, with a scale and a zero for a group."""
    if "bits" not in table and "w_bit" in table:  # as AutoAWQ's own file has it
        table = {"bits": table["w_bit"], "group_size": table.get("q_group_size"), **table}
    bits = _bits(table, "bits", problems)
    wide = _wider(table.get("act_bits"), bits)
    data = str(table.get("data_type", "int"))
    if data.startswith(("mx_fp", "nv_fp", "mxfp", "nvfp", "fp8")):
        name = {"mx": "mxfp", "nv": "nvfp"}.get(data[:2], "fp") + f"{bits:g}"
        return Scheme(_FLOATS.get(name, WHOLE)._replace(multiply=wide))
    own = _integer(bits, table.get("group_size"), wide, zero=True)
    rules: list[tuple[str, Format]] = []

    def stated(one: Table) -> Format:  # what a module does not say is as of all
        both = {**table, **one}
        return _integer(_bits(both, "bits", problems), both.get("group_size"), wide, zero=True)

    for name, one in _items(table.get("dynamic")):
        is_whole = name.startswith("-:") or not isinstance(one, Mapping)
        form = WHOLE if is_whole else stated(one)
        rules.append((f"re:{name.removeprefix('-:').removeprefix('+:')}", form))
    inside = table.get("modules_in_block_to_quantize")
    if isinstance(inside, list) and inside:  # of GPTQ, in lists of what is quantised together
        names = [x for one in inside for x in (one if isinstance(one, list) else [one])]
        return Scheme(WHOLE, [*rules, *((str(name), own) for name in names)])
    # A name holds before a pattern: vLLM, `INCConfig.get_layer_config`.
    named = sorted(_items(table.get("extra_config")), key=lambda x: bool(_PATTERN.search(x[0])))
    for name, one in named:
        if isinstance(one, Mapping):
            rules.append((f"re:.*(?:{name})" if _PATTERN.search(name) else name, stated(one)))
    return Scheme(own, rules)


def _bitsandbytes(table: Table, problems: list[str]) -> Scheme:
    if not (table.get("load_in_4bit") or table.get("_load_in_4bit")):  # of some releases
        return Scheme(_own("fp8"))
    # A 32-bit scale for 64 weights, or for 256 of their scales, which are then of 8 bits.
    twice = bool(table.get("bnb_4bit_use_double_quant"))
    return Scheme(_own("fp4", 0.5 + (1 + 4 / 256) / 64 if twice else 0.5625, "bf16"))


def _quark_weight(one: Any, problems: list[str]) -> Format:
    """A layer's table of AMD Quark."""
    weight = value_at(one, "weight")
    if isinstance(weight, list):  # in two steps, of which the last is stored
        weight = weight[-1] if weight else None
    if not isinstance(weight, Mapping):
        return WHOLE
    name, size = str(weight.get("dtype")), weight.get("group_size")
    if size is None and weight.get("qscheme") in _OF_ROWS:
        size = _ROW
    active = value_at(one, "input_tensors.dtype")
    bits = re.search(r"\d+", name)
    if name == "None" or bits is None:
        problems.append(f'"weight.dtype" is {weight.get("dtype")!r}; {OTHERWISE}')
        return WHOLE
    count = float(bits[0])
    found = re.search(r"\d+", str(active)) if active is not None else None
    wide = _wider(float(found[0]) if found else None, count)
    if "int" in name:
        return _integer(count, size, wide, zero=name.startswith("uint"))
    if count in (4, 8):
        return _float(count, size, wide)
    return WHOLE if count >= 16 else Format("fp8", count / 8 + 1 / 32, wide)


def _quark(table: Table, problems: list[str]) -> Scheme:
    layers = _items(table.get("layer_quant_config"))
    rules = [(name, _quark_weight(one, problems)) for name, one in layers]
    # Linear layers as such come before what holds for all: vLLM, `QuarkConfig`.
    whole = value_at(table, "layer_type_quant_config.Linear") or table.get("global_quant_config")
    return Scheme(_quark_weight(whole, problems), rules)


def _torchao_type(kind: Any, problems: list[str]) -> Format:
    """One of torchao's classes of configuration, or its name in small letters."""
    name = kind.get("_type", kind) if isinstance(kind, Mapping) else kind
    places = ("group_size", "granularity._data.group_size", "weight_granularity._data.group_size")
    size = next((n for at in places if (n := value_at(kind, f"_data.{at}"))), None)
    plain = re.sub(r"[^a-z0-9]", "", str(name).lower())
    # IntxWeightOnlyConfig: the width of its weights is a field of its own.
    plain = plain.replace("intx", str(value_at(kind, "_data.weight_dtype._data") or "intx"))
    # MXDynamicActivationMXWeightConfig: likewise, "float4_e2m1fn_x2".
    if given := re.match(r"float(\d)", str(value_at(kind, "_data.weight_dtype._data"))):
        plain = re.sub(r"mx(?=dynamic|weight)", f"mxfp{given[1]}", plain)
    weight = re.search(r"(u?int|float|nvfp|mxfp|mx)(\d?)(?:w|weight)", plain)
    if weight is None or weight[1] == "mx" or not weight[2]:
        weight = re.search(r"(u?int|float|nvfp|mxfp)(\d)", plain)
    if weight is None:
        problems.append(f'unknown "quant_type" {str(name)[:60]!r}; {OTHERWISE}')
        return WHOLE
    bits = float(weight[2])
    active = re.search(
        r"(?:int|float)(\d)dynamicactivation|dynamicactivation(?:int|float)(\d)", plain
    )
    acts = float(next(filter(None, active.groups()))) if active else 16.0
    wide = _wider(acts, bits)
    if weight[1].endswith("int"):
        group = size if isinstance(size, int) else (128 if bits == 4 else None)
        return _integer(bits, group, wide, zero=bits == 4)
    own = _FLOATS.get(f"{weight[1]}{weight[2]}", WHOLE)
    return own if weight[1] in ("nvfp", "mxfp") else own._replace(multiply=wide)


def _torchao(table: Table, problems: list[str]) -> Scheme:
    kind = table.get("quant_type")
    # Wrapped once or twice, and called by its old or its new name.
    while isinstance(kind, Mapping) and isinstance(kind.get("default"), Mapping | str):
        kind = kind["default"]
    if isinstance(kind, str):
        kind = {"_type": kind, "_data": table.get("quant_type_kwargs")}
    paths = ("_data.module_fqn_to_config", "_data.fqn_to_config")
    each = next((found for path in paths if (found := value_at(kind, path))), None)
    if not isinstance(each, Mapping):
        return Scheme(_torchao_type(kind, problems))
    read = {
        name: WHOLE if one is None else _torchao_type(one, problems) for name, one in each.items()
    }
    default = read.pop("_default", WHOLE)
    return Scheme(default, list(read.items()))


def _w4afp8(table: Table, problems: list[str]) -> Scheme:
    """SGLang: routed experts of 4-bit integers in groups of 128, all else in FP8.

    Source: https://github.com/sgl-project/sglang, srt/layers/quantization/w4afp8.py.
    """
    size = table.get("group_size") or 128
    return Scheme(_own("fp8"), [("experts.*", _integer(4.0, size, "fp8", zero=False))])


def _hqq_weight(params: Table, problems: list[str]) -> Format:
    """Scales and zeros of 16 bits each, which are seldom quantised themselves."""
    size = params.get("group_size", 64)
    return _integer(_bits(params, "nbits", problems), size, "bf16", False, 2 * _SCALE)


def _hqq(table: Table, problems: list[str]) -> Scheme:
    inner = table.get("quant_config", table)
    own = value_at(inner, "weight_quant_params")
    if isinstance(own, Mapping):
        return Scheme(_hqq_weight(own, problems))
    rules = []
    for name, one in _items(inner):
        params = value_at(one, "weight_quant_params") or one
        if isinstance(params, Mapping) and "nbits" in params:
            rules.append((name, _hqq_weight(params, problems)))
    if not rules:
        problems.append(f'"quant_config" has no "weight_quant_params"; {OTHERWISE}')
    return Scheme(WHOLE, rules)


def _fp_quant(table: Table, problems: list[str]) -> Scheme:
    """FP-Quant: MXFP4 or NVFP4 behind a rotation, which QuTLASS multiplies in FP4."""
    name = str(table.get("forward_dtype", "mxfp4"))
    if name not in ("mxfp4", "nvfp4"):
        problems.append(f'"forward_dtype" is {name!r}; known: mxfp4, nvfp4; {OTHERWISE}')
        return Scheme(WHOLE)
    wide: Dtype | None = "bf16" if table.get("pseudoquantization") else None
    return Scheme(_FLOATS[name]._replace(multiply=wide))


def _in_the_mean(stored: float) -> Format:
    """Codes of so many bytes a weight, which kernels widen; those as small as NVFP4's count so."""
    return _own("fp4" if stored <= STORED["fp4"] else "fp8", stored, "bf16")


def _aqlm(table: Table, problems: list[str]) -> Scheme:
    keys = ("num_codebooks", "nbits_per_codebook", "in_group_size")
    books, bits, group = (_number(table, key, problems) for key in keys)
    return Scheme(_in_the_mean(books * bits / (8 * group) if group else 0.5))


def _exl(table: Table, problems: list[str]) -> Scheme:
    """ExLlama's EXL2 and EXL3: bits of a weight in the mean, scales among them, and of the head.

    Source: turboderp-org/exllamav2, doc/convert.md (`-b`, `-hb`).
    """

    def one(key: str) -> Format:
        return _in_the_mean(_bits(table, key, problems) / 8)

    return Scheme(one("bits"), [("lm_head", one("head_bits"))] if "head_bits" in table else ())


def _mlx(table: Table, problems: list[str]) -> Scheme:
    """MLX writes its options without a method, and those of a module under the module's name."""

    def one(options: Table) -> Format:
        mode = str(options.get("mode", "affine"))  # a module's options are all of its own
        if mode in _FLOATS:
            return _FLOATS[mode]._replace(multiply="bf16")
        bits, group = _bits(options, "bits", problems), options.get("group_size", 64)
        # Beside the scale of a group stands a bias of as many bits.
        return _integer(bits, group, "bf16", False, 2 * _SCALE)

    rules = [
        (name, one(options) if isinstance(options, Mapping) else WHOLE)
        for name, options in table.items()
        if isinstance(options, Mapping) or (options is False and ("." in name or name == "lm_head"))
    ]
    return Scheme(one(table), rules)


def _quanto(table: Table, problems: list[str]) -> Scheme:
    """Quanto names the width: "int8", "int4", "int2" or "float8"; 4 bits and fewer have groups."""
    name = str(table.get("weights"))
    bits = re.fullmatch(r"(?:float|int)(\d)", name)
    if bits is None:
        problems.append(f'"weights" is {name!r}; known: int8, int4, int2, float8; {OTHERWISE}')
        return Scheme(WHOLE)
    count = float(bits[1])
    return Scheme(_integer(count, _ROW if count == 8 else 128, "bf16", zero=count < 8))


def _higgs(table: Table, problems: list[str]) -> Scheme:
    bits = _bits(table, "bits", problems)
    return Scheme(_integer(bits, table.get("group_size", 256), "bf16", zero=False))


def _mlc(table: Table, problems: list[str]) -> Scheme:
    """MLC's formats, of which `other_files` has the bits: q4f16_1 and the like."""
    bits, size, scale = (_number(table, k, problems) for k in ("bits", "group_size", "scale_bytes"))
    return Scheme(_integer(bits, int(size), "bf16", False, scale))


_READERS: dict[str, Callable[[Table, list[str]], Scheme]] = {
    "awq": _bit_count,
    "gptq": _bit_count,
    "auto-round": _bit_count,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "bitsandbytes": _bitsandbytes,
    "quark": _quark,
    "torchao": _torchao,
    "hqq": _hqq,
    "w4afp8": _w4afp8,
    "aqlm": _aqlm,
    "fp-quant": _fp_quant,
    "exl2": _exl,
    "mlx": _mlx,
    "mlc": _mlc,
    "quanto": _quanto,
    "higgs": _higgs,
}
KNOWN_METHODS = (*METHODS, *_READERS)


def _method(table: Table, problems: list[str]) -> str:
    """The method of a table, which ModelOpt, MLX and old tables of bitsandbytes leave out."""
    if table.get("quant_method") is not None:
        return _spelt(table["quant_method"])
    if "load_in_4bit" in table or "load_in_8bit" in table:
        return "bitsandbytes"
    if "bits" in table and "quant_algo" not in table:
        return "mlx"
    if table.keys() & {"quant_algo", "kv_cache_quant_algo", "quantized_layers", "producer"}:
        return "modelopt"
    problems.append(f'missing "quant_method"; known: {", ".join(KNOWN_METHODS)}; {OTHERWISE}')
    return "none"


def _scheme(table: Table, method: str, problems: list[str]) -> Scheme:
    if method == "none":
        return Scheme(WHOLE)
    if method in METHODS:
        return Scheme(METHODS[method])
    if method in _READERS:
        return _READERS[method](table, problems)
    known = ", ".join(KNOWN_METHODS)
    problems.append(f'unknown "quant_method" {method!r}; known: {known}; {OTHERWISE}')
    return Scheme(WHOLE)


_EIGHT = ("fp8", "mxfp8")


def has_own_experts(table: Table) -> bool:
    """Whether experts alone were quantised anew, and all else stays in the FP8 that it was in.

    ModelOpt's NVFP4 of DeepSeek-V4 and of MiniMax-M3, whose lists of exempt modules are of that
    second run. Source: SGLang (https://github.com/sgl-project/sglang/pull/25820), and vLLM's
    DeepseekV4FP8Config.
    """
    return bool(table.get("moe_quant_algo")) and _spelt(table.get("quant_method")) in _EIGHT


# Source: vLLM 0.33, model_executor/layers/quantization/fp8.py and models/bailing_moe_v3.py.
_OF_EXPERTS = ("expert_dtype", "store_dtype", "routed_experts_quant_method")


def _experts(table: Table, problems: list[str]) -> list[tuple[str, Format]]:
    """Routed experts of another dtype than the rest, of DeepSeek-V4, MiMo-V2.6 and Ling 3."""
    if has_own_experts(table):
        return [("experts.*", _algorithm(table["moe_quant_algo"], "moe_quant_algo", problems))]
    key = next((one for one in _OF_EXPERTS if table.get(one) is not None), None)
    if key is None or _spelt(table.get("quant_method")) != "fp8":
        return []  # other methods say it themselves
    four = _own("fp4", MXFP4)
    formats = {"fp4": four, "mxfp4": four, "fp8": _own("fp8"), "bf16": WHOLE}
    if str(table[key]) not in formats:
        problems.append(f'unknown "{key}" {table[key]!r}; known: {", ".join(formats)}; {OTHERWISE}')
        return []
    return [("experts.*", formats[str(table[key])])]


def _exempt(table: Table, problems: list[str]) -> list[tuple[str, Format]]:
    found: list[tuple[str, Format]] = []
    for key in () if has_own_experts(table) else _TABLE["exempt"].split():
        names = table.get(key)
        if names is None:
            continue
        if not isinstance(names, list):
            problems.append(f'"{key}" is not a list of names')
            continue
        found += [(str(name), WHOLE) for name in names]
    return found


def _cache(table: Table, problems: list[str]) -> Dtype:
    key = "kv_cache_scheme.num_bits"
    if isinstance(table.get("kv_cache_scheme"), Mapping):
        bits = _bits(table, key, problems)
        return "bf16" if bits >= 16 or not bits else ("fp8" if bits > 4 else "fp4")
    if table.get("kv_cache_group") or value_at(table, "export.kv_cache_group"):  # Quark
        tables = (table.get(key) for key in ("layer_quant_config", "kv_cache_quant_config"))
        each = (one for found in tables for _, one in _items(found))
        names = [str(value_at(one, "output_tensors.dtype")) for one in each]
        return "fp8" if any("8" in name for name in names) else "bf16"
    name = table.get("kv_cache_scheme") or table.get("kv_cache_quant_algo")
    return _algorithm(name, "kv_cache_quant_algo", problems).dtype


def _block(table: Table, method: str) -> int:
    """Weights of a block or group that engines keep whole on one GPU; 0 where there is none."""
    groups = (group for _, group in _items(table.get("config_groups")))
    blocks = (value_at(group, "weights.block_structure") for group in groups)
    for block in (table.get("weight_block_size"), *blocks):
        if isinstance(block, list) and block and isinstance(block[0], int):
            return max(0, block[0])
    group = table.get("group_size") if method in ("awq", "gptq") else 0
    return max(0, group) if isinstance(group, int) else 0


def _ends(
    table: Table, method: str, rules: Sequence[tuple[str, Format]], default: Format, is_tied: bool
) -> tuple[Format, Format]:
    """Formats of output head and input embedding: 16 bits unless named, or everything is MLX's."""

    def named(*modules: str) -> Format | None:
        own = ((name.removesuffix(".weight").rpartition(".")[2], form) for name, form in rules)
        return next((form for name, form in own if name in modules), None)

    whole = default if method == "mlx" else WHOLE
    embedding = named("embed_tokens", "embed", "wte", "word_embeddings", "embeddings") or whole
    if table.get("lm_head") is True:
        return default, embedding
    return named("lm_head", "head") or (embedding if is_tied else whole), embedding


def precisions(
    quantisation: Any,
    shape: Mapping[str, float],
    problems: list[str],
    blocks: Blocks,
    names: Names,
) -> Stored:
    """The precisions of a quantisation table; None means bf16 (fp16 and fp32 are served so).

    Args:
        quantisation: the table.
        shape: fields of the model, by which modules weigh; only the cache is read without them.
        problems: grows.
        blocks: which blocks have which modules, as of `modules.formats`.
        names: of modules, likewise.
    """
    if quantisation is None:
        return Stored()
    if not isinstance(quantisation, Mapping):
        problems.append(f'"quantization_config" is {quantisation!r}, not an object')
        return Stored()
    before = len(problems)
    method = _method(quantisation, problems)
    scheme = _scheme(quantisation, method, problems)
    rules = [*_experts(quantisation, problems), *_exempt(quantisation, problems), *scheme.rules]
    kv = _cache(quantisation, problems)
    if len(problems) > before or not shape:
        return Stored(kv_dtype=kv)
    found = formats(rules, scheme.default, shape, blocks, names)
    main = found.get("routed experts") or found["feed-forward"]
    is_tied = bool(shape.get("tied_embeddings"))
    head, embedding = _ends(quantisation, method, rules, scheme.default, is_tied)
    attention = found.pop(ALL_ATTENTION)
    dense, shared = shape.get("dense_layers", 0.0), shape.get("shared_experts", 0.0)
    sizes = {
        "shared experts": (shape["layers"] - dense) * shared * shape.get("shared_ff", 0.0),
        "dense layers": dense * shape.get("dense_ff", 0.0),
    }
    total = sum(size for name, size in sizes.items() if name in found)
    mean = main.stored
    if total:
        mean = sum(found[n].stored * size for n, size in sizes.items() if n in found) / total
    return Stored(
        weight_dtype=main.dtype,
        weight_bytes=main.special,
        attn_bytes=attention.special,
        shared_bytes=0.0 if mean == main.stored else mean,
        head_bytes=0.0 if head == WHOLE else head.stored,
        embedding_bytes=0.0 if embedding == WHOLE else embedding.stored,
        multiply_dtype=main.multiply if main != WHOLE else attention.multiply,
        attn_weight_dtype=attention.dtype,
        kv_dtype=kv,
        weight_block=_block(quantisation, method),
        modules={name: form.dtype for name, form in found.items()}
        | ({"head": head.dtype} if head != WHOLE else {})
        | ({"embedding": embedding.dtype} if embedding != WHOLE else {}),
    )
