"""Configs that other programs write of a model, under the keys of config.json.

Sources of the keys: vLLM, transformers_utils/configs/mistral.py (Mistral's params.json);
meta-llama/llama-models, models/llama3/model.py (Meta's, whose networks have a rule for their
width); TensorRT-LLM, tensorrt_llm/models/modeling_utils.py and qwen/config.py (checkpoints and
engines); mlc-ai/mlc-llm, python/mlc_llm/interface/gen_config.py (mlc-chat-config.json).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from qsjax.catalog.reading import value_at
from qsjax.records.tables import table

Config = Mapping[str, Any]
# Files of these programs that stand where config.json does.
NAMES = ("config.json", "params.json", "mlc-chat-config.json")
TABLE = table("catalog/other_files.toml")
# MLC's names of formats: bits of a weight, and of the scale of each group of 32.
_MLC = re.compile(r"q([2348])f(16|32)_\d")
_GROUP = 32
_MOST = 10**6  # beyond any size that a model has


def _renamed(config: Config, names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in config.items()}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST


def _width(config: Config) -> dict[str, Any]:
    """Width of the networks by Meta's rule: two thirds of four times the model's, rounded up."""
    multiple: Any = config.get("multiple_of")
    factor: Any = config.get("ffn_dim_multiplier")
    is_number = isinstance(factor, int | float) and 0 < factor < _MOST
    if not (_is_count(multiple) and _is_count(config["dim"]) and (factor is None or is_number)):
        return {}
    width = int(2 * 4 * config["dim"] / 3)
    width = width if factor is None else int(factor * width)
    return {"intermediate_size": multiple * math.ceil(width / multiple), "model_type": "llama"}


def _params(config: Config) -> dict[str, Any] | None:
    """Mistral's and Meta's params.json."""
    if not {"dim", "n_layers", "n_heads"} <= config.keys() or "moe_args" in config:
        return None
    found = _renamed(config, TABLE["params"])
    moe = config.get("moe")
    if isinstance(moe, Mapping):
        is_fine = bool(moe.get("num_shared_experts"))
        found |= _renamed(moe, TABLE["params_moe"])
        found["num_local_experts"] = moe.get("num_experts")
        found["model_type"] = "deepseek_v3" if is_fine else "mixtral"
    elif config.get("kv_lora_rank"):
        found["model_type"] = "minicpm3"  # latent attention beside dense networks
    else:
        found["model_type"] = "mistral"
    if "hidden_dim" not in config:
        found |= _width(config)
    windows = config.get("sliding_window")
    if isinstance(windows, list) and windows and _is_count(config["n_layers"]):
        kinds = ["sliding_attention" if one else "full_attention" for one in windows]
        found["layer_types"] = kinds * (config["n_layers"] // len(windows))
        found["sliding_window"] = next(filter(None, windows), None)
    if value_at(config, "quantization.qformat_weight") == "fp8_e4m3":
        found["quantization"] = {"quant_method": "fp8"}
    return found


def _tensorrt(config: Config) -> dict[str, Any] | None:
    """A checkpoint of TensorRT-LLM, or an engine made of it."""
    inner = config.get("pretrained_config")
    own = inner if isinstance(inner, Mapping) else config
    types = TABLE["tensorrt"].get(str(own.get("architecture")))
    if types is None or "mapping" not in own or own.get("qwen_type") == "qwen":
        return None
    experts = value_at(own, "moe.num_experts") or own.get("moe_num_experts") or 0
    many = {"num_local_experts": experts, "num_experts": experts}
    many["num_experts_per_tok"] = value_at(own, "moe.top_k") or own.get("moe_top_k")
    if "moe_shared_expert_intermediate_size" in own:
        many["shared_expert_intermediate_size"] = own["moe_shared_expert_intermediate_size"]
    found = {
        "model_type": types[bool(experts)],
        "head_dim": own.get("head_size"),
        "tie_word_embeddings": bool(own.get("share_embedding_table")),
        **(many if experts else {}),
    }
    return {**own, **found}


def _mlc(config: Config) -> dict[str, Any] | None:
    """MLC's chat config, whose weights have a format by its name."""
    inner, name = config.get("model_config"), config.get("quantization")
    if not isinstance(inner, Mapping) or not isinstance(name, str):
        return None
    form = _MLC.fullmatch(name)
    scale = float(form[2]) / 8 if form else 0.0
    table: Any = None if name.startswith("q0") else {"quant_method": name}
    if form:
        bits = int(form[1])
        table = {"quant_method": "mlc", "bits": bits, "scale_bytes": scale, "group_size": _GROUP}
    outer = {key: value for key, value in config.items() if key != "model_config"}
    return {**outer, **inner, "quantization": table}


def under_its_keys(config: Config) -> Config:
    """A config under the keys of config.json, whichever program wrote it.

    >>> under_its_keys({"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 256})["hidden_size"]
    64
    """
    return next(
        (found for read in (_params, _tensorrt, _mlc) if (found := read(config)) is not None),
        config,
    )
