"""Models from a Hugging Face config.json."""

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from qsjax.catalog.entries import ModelEntry
from qsjax.catalog.families import FAMILIES, GROUPS, LEFT_OUT, REFUSED, Family
from qsjax.catalog.mixers import blocks_of
from qsjax.catalog.other_files import NAMES, TABLE, under_its_keys
from qsjax.catalog.quantisation import has_own_experts, precisions
from qsjax.catalog.reading import Reading, decoded, field, number, sources, value_at
from qsjax.catalog.selective import expert_hidden, narrowed_experts
from qsjax.records import checks
from qsjax.records.fields import defaults_of
from qsjax.records.precision import Stored, precision_of
from qsjax.records.specs import ModelSpec

# Where multimodal models keep the language model, the outer ones first.
_INNER = ("thinker_config", "llm_config", "language_config", "text_config")
_CLASS = re.compile(r"(ForCausalLM|ForConditionalGeneration)$")
# Heads that guess tokens for a model: their configs say the shape of that model.
_DRAFT = re.compile(r"eagle|medusa|mtp|nextn|dflash|speculator|draft", re.IGNORECASE)
_DRAFT_KEYS = ("draft_vocab_size", "speculators_model_type", "eagle_config", "dflash_config")
# Where a quantisation stands: before transformers 4.45 compressed-tensors wrote its own key, and
# MLX has one.
_TABLES = ("quantization_config", "compression_config", "quantization")
# Bytes of the dtypes of recurrent states.
_STATES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
# Keys that count the layers of a multi-token-prediction module, and types that have one uncounted.
_PREDICTION = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
_PREDICTING = ("qwen3_next", "mimo_v2_flash", "longcat_flash", "glm4_moe_lite")
_MOST_TOKENS = 1e9  # of a context that a config may state
BY_HAND = "give its numbers by hand in a .toml file (docs/guides/your-own-model.md)"


def expanded(name: str | Path) -> Path:
    """The path of a name that may begin with the home of somebody.

    Raises:
        ValueError: nobody has that name.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # ~somebody
        raise ValueError(f"{name}: {error}; give the path in full") from error


def _no_json(text: str) -> str:
    """What to mend in a text that is no JSON, as far as it is known."""
    if not text.strip():
        return "; the file is empty"
    if re.match(r"[^/{\[<]", re.sub(r"(?m)^\s*(?:#|//).*", "", text).strip()):
        return "; if it starts an engine, `qsjax explain FILE` reads it"
    if re.search(r"(?m)^\s*(?://|#)|/\*|,\s*(?://.*)?[}\]]", text):
        return "; JSON has no comments and no comma before a closing bracket, so remove them"
    if text.lstrip().startswith("<"):
        return "; it is a page of HTML: download the file itself"
    if text.lstrip().startswith("{") and not text.rstrip().endswith("}"):
        return "; its end is missing"
    return ""


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    text = ""
    try:
        text = decoded(path.read_bytes())
        data = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return {}
    except ValueError as error:  # also a whole number of thousands of digits
        problems.append(f"not JSON: {error}{_no_json(text)}")
        return {}
    except RecursionError:
        problems.append("not a config: nested too deeply")
        return {}
    if not isinstance(data, dict):
        problems.append("not a JSON object")
        return {}
    return data


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model of a multimodal config, on top of the outer keys.

    LLaVA, Pixtral, PaliGemma: what the inner one leaves out is the default of its type.
    """
    merged = _grouped(config)
    for key in _INNER:
        inner = merged.get(key)
        if isinstance(inner, Mapping):
            inner = _grouped(inner)
            defaults = LEFT_OUT.get(str(inner.get("model_type")), {})
            given = {name: value for name, value in inner.items() if value is not None}
            left = {name: value for name, value in defaults.items() if name not in inner}
            merged = left | {k: v for k, v in merged.items() if v is not None} | given
    return _without_prediction(merged)


def _grouped(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the KV heads and the width of heads that its class has where it has none."""
    own = GROUPS.get(str(config.get("model_type")), {})
    left = {key: n for key, (n, names) in own.items() if not config.keys() & set(names)}
    return left | dict(config)


def _without_prediction(config: dict[str, Any]) -> dict[str, Any]:
    """A config whose lists of layers end where the model does.

    Step 3.5 and 3.7 list the layers of their prediction module behind those of the model.
    Source: huggingface/transformers, models/step3p7/configuration_step3p7.py.
    """
    layers, more = config.get("num_hidden_layers"), _mtp_layers(config)
    if not isinstance(layers, int):
        return config
    return {
        key: value[:layers]
        if isinstance(value, list) and more and len(value) == layers + more
        else value
        for key, value in config.items()
    }


def _draft(config: Mapping[str, Any], outer: Mapping[str, Any], names: list[str]) -> str:
    """What tells that a config is of a head that drafts for a model; "" where it is none."""
    is_whole = any(isinstance(outer.get(key), Mapping) for key in _INNER)  # NVIDIA's Eagle 2.5 VL
    drafts = [name for name in names if _DRAFT.search(name) and not is_whole]
    drafts += [f'"{key}"' for key in _DRAFT_KEYS if config.get(key) is not None]
    return drafts[0] if drafts else ""


def _family(config: Mapping[str, Any], outer: Mapping[str, Any]) -> Family | str:
    """The family of a config, or what is wrong with it."""
    both = (config, outer)
    lists = [one.get("architectures") for one in both]
    listed = [str(name) for names in lists if isinstance(names, list) for name in names]
    named = [str(one["model_type"]) for one in both if one.get("model_type")]
    if draft := _draft(config, outer, [*listed, *named]):
        return (
            f"{draft} is of a draft head, not of a model: give the config of the model that it "
            "drafts for, and its gain as query_tokens and tokens_per_step of the workload"
        )
    # A type may be spelt otherwise ("AXK1"); a class tells it where nothing else does.
    names = [*listed, *named, *map(_type_of, named or listed)]
    families = (one for name in names for one in FAMILIES.values() if name in one.types)
    family = next(families, None)
    if family is None or any(name in REFUSED for name in names):
        return _unknown(config, (*named, *listed))
    # DeepSeek-OCR and the smallest DeepSeek-VL2 have no latents.
    is_plain = family is FAMILIES["deepseek"] and config.get("use_mla") is False
    return FAMILIES["glm4_moe"] if is_plain else family


def _type_of(architecture: str) -> str:
    """The type whose name is that of an architecture: "Qwen3MoeForCausalLM" is "qwen3_moe"."""
    plain = _CLASS.sub("", architecture).lower()
    types = (name for family in FAMILIES.values() for name in family.types)
    return next((name for name in types if name.lower().replace("_", "") == plain), "")


def _other_file(config: Mapping[str, Any]) -> str:
    """What is said of another file of a model; "" where it is none that is known here."""
    if "peft_type" in config:
        base = config.get("base_model_name_or_path") or "it was trained on"
        return f"this is of an adapter (LoRA); give the model {base}, or its config.json"
    kinds = TABLE["others"].items()
    what = next((what for keys, what in kinds if all(key in config for key in keys.split())), "")
    is_model = "hidden_size" in config and "architecture" not in config
    if not what or is_model:
        return ""
    return f"this is {what}; give the config.json beside it, or of the model that it is made of"


def _unknown(config: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """What is said of an architecture without a family: the nearest one, and what differs."""
    if not names and (other := _other_file(config)):
        return other
    given = ", ".join(dict.fromkeys(names)) or 'no "model_type"'
    if refused := next((REFUSED[name] for name in names if name in REFUSED), None):
        near, differs = refused
        return f"architecture {given} is not read: nearest is {near}, but {differs}; {BY_HAND}"
    if isinstance(inner := config.get("text_model_id"), str):  # Ultravox
        return f"architecture {given} has a language model of its own, {inner}: give that one"
    if re.search(r"bert|MaskedLM", given, re.IGNORECASE):
        return f"architecture {given} is of an encoder, which makes no tokens: nothing decodes here"
    types = {name: family for family in FAMILIES.values() for name in family.types}
    known = (
        f"{len(types)} types are known (docs/guides/your-own-model.md lists them); for any other "
        f"{BY_HAND}"
    )
    if config.get("is_encoder_decoder"):
        return f"unknown architecture ({given}): an encoder with a decoder; {known}"
    near = next((found for name in names for found in _alike(name, types)), "")
    if not near:
        return f"unknown architecture ({given}); {known}"
    differs = _differs(config, near, types[near])
    return f"unknown architecture ({given}); nearest is {near}, and the file {differs}; {known}"


def _differs(config: Mapping[str, Any], name: str, family: Family) -> str:
    """What a config lacks of the keys that a family of a type needs."""
    rules = (rule.partition("=") for rule in family.fields.values())
    needed = (keys.strip().split("|") for keys, _, default in rules if not default)
    lacks = [keys[0] for keys in needed if all(value_at(config, key) is None for key in keys)]
    if lacks:
        return f"lacks {', '.join(lacks)}"
    return f'has its keys (if it is built so, write "model_type": "{name}" into a copy)'


def _alike(name: str, types: Mapping[str, Family]) -> list[str]:
    """Types whose names are like one, or are how it begins; the longest first."""
    plain = _CLASS.sub("", name).lower()
    start = [one for one in types if plain.startswith(one.lower()) or one.startswith(plain)]
    return sorted(start, key=len, reverse=True) or difflib.get_close_matches(plain, types, n=1)


def _shape(family: Family, reading: Reading) -> dict[str, float]:
    """The fields of a config; those that could not be read are left out."""
    shape: dict[str, float] = {}
    unread: set[str] = set()
    for name, rule in family.fields.items():
        before = len(reading.problems)
        shape[name] = field(reading, shape, name, rule)
        reading.keys[name] = rule.partition("=")[0].strip().split("|")[0]
        if len(reading.problems) > before or sources(reading, rule) & unread:
            unread.add(name)
    if unread:
        return {name: value for name, value in shape.items() if name not in unread}
    for part in family.parts:
        shape |= part(reading, shape)
    if shape.get("experts") == 0 and not shape.get("top_k"):  # of a family of mixtures, but dense
        one = dict.fromkeys(("experts", "top_k"), 1.0)
        none = dict.fromkeys(("shared_experts", "dense_layers"), 0.0)
        shape |= one | none | {"expert_ff": shape.get("dense_ff") or shape["expert_ff"]}
    _tell_foreign(family, reading, shape)
    # A width that no layer has would make two equal models unequal.
    for count, width in (("dense_layers", "dense_ff"), ("shared_experts", "shared_ff")):
        if not shape.get(count):
            shape[width] = 0.0
    return shape


# Keys that say what a family of plain layers does not have, and what they make of a model.
_CHOOSES = {
    "index_topk": "chooses tokens by an indexer",
    "mova_num_experts": "has experts of values",
}
_FOREIGN = {
    "n_routed_experts|num_local_experts|num_experts|moe_num_experts": "has experts",
    "kv_lora_rank": "has latent attention",
    **_CHOOSES,
    "linear_num_value_heads|mamba_d_state|ssm_state_size": "has layers with a state",
}


def _tell_foreign(family: Family, reading: Reading, shape: Mapping[str, float]) -> None:
    """A file of a dense family that says more than the family reads is a problem, not dense."""
    is_plain = shape.get("experts", 1.0) <= 1 and not shape.get("kv_latent")
    is_plain = is_plain and not shape.get("linear_layers")
    told = _FOREIGN if is_plain else {} if shape.get("sparse_topk") else _CHOOSES
    for names, what in told.items():
        for name in names.split("|"):
            value = value_at(reading.config, name)
            if isinstance(value, list) and value:  # one for each layer, or for all
                value = value[-1]
            is_count = isinstance(value, int | float) and not isinstance(value, bool)
            if is_count and value > 1 and not (is_plain and _decides(family, name)):
                problem = f'"{name}" is {value:g}: the model {what}, but its family does not'
                reading.problems.append(f"{problem}; {BY_HAND}")


def _decides(family: Family, name: str) -> bool:
    """Whether a family reads a key by name, or has parts that do more than choose windows."""
    rules = (rule.partition("=")[0].split("|") for rule in family.fields.values())
    return any(name in (one.strip() for one in names) for names in rules) or any(
        "window" not in part.__name__ for part in family.parts
    )


def _left_to_defaults(outer: Mapping[str, Any], problems: list[str]) -> list[str]:
    """LLaVA, Qwen2-Audio: inner configs that say only what differs from transformers' defaults."""
    inner = [outer[key] for key in _INNER if isinstance(outer.get(key), Mapping)]
    if not inner or not any(problem.startswith('missing "hidden_size"') for problem in problems):
        return []
    name = inner[-1].get("_name_or_path")
    model = f"the language model, {name}" if name else "the language model"
    return [f"it leaves out what equals transformers' defaults: give the config.json of {model}"]


_POSITIONS = "max_position_embeddings|max_seq_len|n_positions|seq_length|max_sequence_length|n_ctx"


def _longest(reading: Reading) -> int:
    """The longest context by a config [tokens], 0 where it does not say it.

    YaRN multiplies the length that a model was trained for, which configs state with the product or
    without it. Source: vLLM, config/model.py (_get_and_verify_max_len).
    """
    longest = number(reading, _POSITIONS, 0.0)
    for key in ("rope_scaling", "rope_parameters"):
        rope = reading.config.get(key)
        if isinstance(rope, Mapping) and "yarn" in (rope.get("rope_type"), rope.get("type")):
            trained, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
            if isinstance(trained, int | float) and isinstance(factor, int | float):
                scaled = float(trained) * float(factor)
                longest = max(longest, scaled) if scaled < _MOST_TOKENS else longest
    return int(longest)


def _mtp_layers(config: Mapping[str, Any]) -> int:
    """Layers that predict further tokens."""
    counts = (config[key] for key in _PREDICTION if isinstance(config.get(key), int))
    return next(filter(None, counts), int(config.get("model_type") in _PREDICTING))


def _notes(config: Mapping[str, Any], family: Family | str) -> list[str]:
    """What of a config is left out or read roughly."""
    notes = [family.note] if isinstance(family, Family) and family.note else []
    if isinstance(config.get("vision_config"), Mapping):
        notes.append("the vision encoder is left out")
    if _mtp_layers(config):
        notes.append("the multi-token-prediction module is left out")
    if any(_is_sparse(config[key]) for key in _TABLES if isinstance(config.get(key), Mapping)):
        notes.append("2:4 sparsity is not counted: weights are held, read and multiplied as dense")
    return notes


def _is_sparse(table: Mapping[str, Any]) -> bool:
    """Whether two of four weights are zero, as compressed-tensors says it."""
    paths = ("sparsity_config.sparsity_structure", "sparsity_config.format", "format")
    return any(re.search(r"2:4|-24", str(value_at(table, path))) for path in paths)


def _shape_problems(family: Family, reading: Reading, shape: Mapping[str, float]) -> list[str]:
    """Problems of the fields that were read, with the defaults of those that no key gives.

    A field that is computed from one with a problem has none of its own.
    """
    keys = reading.keys
    defaults = {k: v for k, v in defaults_of(ModelSpec).items() if k not in keys}
    found = checks.problems_of(ModelSpec, {**defaults, **shape})
    rules = family.fields
    own = [name for name in found if not sources(reading, rules.get(name, "")) & found.keys()]
    return [f'"{keys.get(name) or name}": {found[name]}' for name in own]


def _beside(path: Path | None) -> Path:
    """hf_quant_config.json beside config.json, and NAME_hf_quant_config.json: NAME_config.json."""
    plain = "" if path is None else path.name.removesuffix(".gz")
    if path is None or not plain.endswith("config.json"):
        return Path()
    return path.with_name(f"{plain.removesuffix('config.json')}hf_quant_config.json")


def _quantisation(
    reading: Reading, family: Family | None, beside: Path, shape: Mapping[str, float]
) -> Stored:
    """From the file beside the config if it is there, else from the config.

    Without a family, whose shape is then empty, only the cache is read.
    """
    config, problems = reading.config, reading.problems
    where = (blocks_of(reading, shape), family.names) if shape and family else ({}, {})
    table = next((config[key] for key in _TABLES if config.get(key) is not None), None)
    if isinstance(table, Mapping) and isinstance(table.get("quantization"), Mapping):
        # ModelOpt's own file within the config
        table = {"quant_method": "modelopt", **table, **table["quantization"]}
    if not beside.is_file() or (isinstance(table, Mapping) and has_own_experts(table)):
        experts = config.get("expert_dtype")
        if isinstance(table, Mapping) and experts is not None:  # DeepSeek-V4 has it outside
            table = {"expert_dtype": experts, **table}
        return precisions(table, shape, problems, *where)
    found: list[str] = []
    given = _json(beside, found).get("quantization")
    if isinstance(given, Mapping):
        given = {"quant_method": "modelopt", **given}
    read = precisions(given, shape, found, *where)
    problems.extend(f"{beside.name}: {problem}" for problem in found)
    return read


def _state_bytes(reading: Reading, family: Family, shape: Mapping[str, float]) -> float:
    """Bytes of an element of the recurrent state; 0 in a model without one."""
    if not any(shape.get(key) for key in ("linear_state", "pooled_layers", "entry_tokens")):
        return 0.0
    for key in ("mamba_ssm_dtype", "mamba_ssm_cache_dtype"):
        given = reading.config.get(key)
        if given is not None:
            name = str(given).removeprefix("torch.")
            if name not in _STATES:
                reading.problems.append(f'"{key}" is {given!r}; known: {", ".join(_STATES)}')
            return _STATES.get(name, family.state_bytes)
    return family.state_bytes


def _line(problem: str, path: Path | None) -> int:
    """Line of the key that a problem starts with; 0 where the file has it never or repeatedly."""
    key = re.match(r'(?:unknown )?"(?:[^"]*\.)?([^".]+)"', problem)
    if key is None or path is None:
        return 0
    lines = decoded(path.read_bytes()).splitlines()
    here = [at for at, line in enumerate(lines, start=1) if f'"{key[1]}":' in line]
    return here[0] if len(here) == 1 and len(lines) > 1 else 0


def config_in(folder: Path) -> Path:
    """The config of a folder: config.json, or that of another program where there is none."""
    files = (folder / name for name in NAMES)
    return next((one for one in files if one.is_file()), folder / "config.json")


def load(source: str | Path | Mapping[str, Any]) -> ModelEntry:
    """The entry of a config.json, of the folder that holds it, or of its content.

    The name is the folder's, or the file's own if it is not called config.json; of a content it is
    what `_name_or_path` says.

    Raises:
        ValueError: With all problems of the file and the keys concerned.
    """
    if isinstance(source, Mapping):
        name = str(source.get("_name_or_path") or "config")
        return _model(source, None, name, [])
    path = expanded(source)
    if path.is_dir():
        path = config_in(path)
    problems: list[str] = []
    outer = _json(path, problems)
    plain = path.with_name(path.name.removesuffix(".gz"))
    name = path.resolve().parent.name if plain.name in NAMES else plain.stem
    return _model(outer, path, name, problems)


def _model(
    outer: Mapping[str, Any], path: Path | None, name: str, problems: list[str]
) -> ModelEntry:
    """The entry of a content, or one `ValueError` with its problems and those found before."""
    outer = under_its_keys(outer)
    config = _text_config(outer)
    reading = Reading(config=config, problems=problems, keys={})
    shape: dict[str, float] = {}
    own: dict[str, Any] = {}
    is_narrowed = False
    family: Family | str = ""
    if not problems:
        family = _family(config, outer)
        if isinstance(family, str):
            problems.append(family)
        else:
            shape = _shape(family, reading)
            if not shape.get("window_layers"):
                shape.pop("window", None)  # configs tell it of models whose layers are all full
            problems += _shape_problems(family, reading, shape)
            problems += _left_to_defaults(outer, problems)
            own = {"state_bytes": _state_bytes(reading, family, shape)}
            own["index_bytes"] = family.index_bytes
            is_narrowed = narrowed_experts in family.parts
        known = None if isinstance(family, str) else family
        stored = _quantisation(reading, known, _beside(path), {} if problems else shape)
        max_context = _longest(reading)
    if problems:
        told = dict.fromkeys(problems)
        found = sorted(((_line(text, path), text) for text in told), key=itemgetter(0))
        shown = (f"  line {line}: {text}" if line else f"  {text}" for line, text in found)
        raise ValueError("\n".join([f"{path or name}:", *shown]))
    stored = dataclasses.replace(stored, **own)
    return ModelEntry(
        **dataclasses.asdict(stored),
        name=name,
        spec=ModelSpec(**shape, precision=precision_of(stored), label=name),
        title=name,
        source="config.json",
        max_context=max_context,
        mtp_layers=_mtp_layers(config),
        expert_hidden=expert_hidden(reading) if is_narrowed else 0,
        note="; ".join(_notes(config, family)),
    )
