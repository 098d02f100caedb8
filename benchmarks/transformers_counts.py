"""Parameters that transformers counts when it builds a model, to hold the reader of configs.

    pip install torch transformers
    python -m benchmarks.transformers_counts

It builds the default config of every type below, and the configs in tests/data/hf_configs that it
knows, on torch's meta device, and writes tests/data/transformers_counts.json. LongCat-Flash is left
out, as transformers makes weights for its experts that do nothing. Neither package is a dependency
of qsjax.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM

DATA = Path(__file__).parent.parent / "tests" / "data"
WRITTEN = DATA / "transformers_counts.json"
TYPES = (
    *("llama", "qwen2", "qwen3", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "qwen2_moe"),
    *("qwen3_moe", "gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "glm", "glm4"),
    *("gemma4_unified_text", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "deepseek_v2"),
    *("deepseek_v3", "deepseek_v32", "minimax", "minimax_m2", "kimi_linear", "nemotron"),
    *("nemotron_h", "mimo_v2_flash", "ernie4_5", "ernie4_5_moe", "hunyuan_v1_dense", "hy_v3"),
    *("hunyuan_v1_moe", "bailing_hybrid", "dots1", "ministral", "ministral3"),
    *("mistral", "mixtral", "cohere", "cohere2", "cohere2_moe", "exaone", "exaone4"),
    *("exaone_moe", "olmo", "olmo2", "olmo3", "olmo_hybrid", "olmoe", "flex_olmo", "seed_oss"),
    *("smollm3", "apertus", "arcee", "afmoe", "solar_open", "lfm2", "lfm2_moe", "jamba", "bamba"),
    *("granite", "granitemoe", "granitemoeshared", "granitemoehybrid", "falcon", "falcon_h1"),
    *("falcon_mamba", "mamba", "mamba2", "gpt2", "opt", "bloom", "mpt", "gpt_neox", "starcoder2"),
    *("phi", "phi3", "phimoe", "stablelm", "gptj", "gpt_bigcode", "codegen", "persimmon"),
    *("internlm3", "minicpm3", "helium", "hyperclovax", "gpt_oss", "llama4_text", "sarvam_mla"),
    *("sarvam_moe", "apertus1p5", "aria_text", "axk1", "axk2", "beam", "bitnet", "cosmos3_edge"),
    *("dots3_note", "flint", "glm_ocr", "granite_docling", "granite_swa", "granitemoe_swa"),
    *("hy_v4", "hy_v4_vl", "inkling_text", "iquestcoder", "jais2", "kolibri1", "laguna"),
    *("lara_mini", "lfm3", "mellum", "minimax_m3_vl", "mistral_large4", "molmo2", "muse_glimmer"),
    *("muse_spark", "nanochat", "vaultgemma", "youtu", "deepseek_v4", "zamba", "zamba2"),
    *("cwm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "mistral4"),
)
# Keys for types whose defaults build no model, or leave out what the type is about.
CHANGES: dict[str, list[dict[str, Any]]] = {
    "deepseek_v2": [{"num_experts_per_tok": 6}],
    "glm4_moe": [{"head_dim": 128}],
    "nemotron": [{"num_key_value_heads": 8}],
    "hunyuan_v1_dense": [{"head_dim": 128, "num_key_value_heads": 8}],
    "hunyuan_v1_moe": [{"head_dim": 128, "num_experts": 16, "moe_topk": 2}],
    "ministral": [{"head_dim": 128}],
    "dots1": [
        {
            "n_routed_experts": 128,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
        }
    ],
    "lfm2": [{}, {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8}],
    "lfm2_moe": [{"layer_types": ["conv", "conv", "full_attention", "conv"] * 8}],
    "falcon": [
        {},
        {"new_decoder_architecture": True, "num_kv_heads": 8, "num_attention_heads": 64}
        | {"hidden_size": 4096},
    ],
    "granitemoehybrid": [
        {"layer_types": (["mamba"] * 5 + ["attention"] + ["mamba"] * 4) * 4}
        | {"num_hidden_layers": 40, "num_local_experts": 64, "intermediate_size": 512},
    ],
    "granitemoeshared": [{"shared_intermediate_size": 1024}],
    "bamba": [{"attn_layer_indices": [9, 18, 27]}],
    "nemotron_h": [
        {},
        {"layers_block_type": ["mamba", "mlp", "mamba", "mlp", "attention", "mlp"] * 4},
        {
            "layers_block_type": ["mamba", "moe", "mamba", "moe", "attention", "moe", "mamba"],
            "moe_latent_size": 1024,
            "n_routed_experts": 128,
        },
    ],
    "gemma4_text": [
        {},
        {"enable_moe_block": True, "num_experts": 128, "top_k_experts": 8}
        | {"moe_intermediate_size": 704, "hidden_size_per_layer_input": 0},
    ],
    "qwen3_moe": [{}, {"mlp_only_layers": [0, 1]}],
    "laguna": [
        {"layer_types": ["full_attention", *["sliding_attention"] * 3] * 10}
        | {"num_attention_heads_per_layer": [48, 64, 64, 64] * 10, "gating": "per-head"},
    ],
    "minimax_m3_vl": [
        {
            "text_config": {
                "layer_types": ["full_attention"] * 3 + ["minimax_m3_sparse"] * 57,
                "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 57,
            }
        }
    ],
    "mistral_large4": [
        {},
        {
            "text_config": {
                "kv_source_layers": [i - i % 2 for i in range(72)],
                "indexer_types": ["full", "shared"] * 36,
            }
        },
    ],
}
# What says nothing of the shape.
NOISE = ("id2label", "label2id", "transformers_version", "rope_parameters", "architectures")


def counted(config: Any) -> dict[str, Any]:
    """The shape of a config, and the parameters of its model: all, and those of matrices."""
    config = config.get_text_config()
    with torch.device("meta"):
        try:
            model = AutoModelForCausalLM.from_config(config)
        except ValueError:  # the language model of a multimodal one, which has the head
            model = AutoModel.from_config(config)
            if not getattr(config, "tie_word_embeddings", False):
                model.head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    sizes = [(weight.ndim, weight.numel()) for weight in model.parameters()]
    given = json.loads(config.to_json_string(use_diff=False))
    shape = {
        key: value
        for key, value in given.items()
        if key not in NOISE and value is not None and not isinstance(value, float)
    }
    return {
        "config": shape,
        "parameters": sum(size for _, size in sizes),
        "matrices": sum(size for rank, size in sizes if rank > 1),
    }


def main() -> None:
    """Write the counts; name on standard error what cannot be built."""
    found: dict[str, Any] = {}
    for name in TYPES:
        for at, changes in enumerate(CHANGES.get(name, [{}])):
            label = f"{name}, changed" if at else name
            found[label if label not in found else f"{label} {at}"] = counted(
                CONFIG_MAPPING[name](**changes)
            )
    for path in sorted((DATA / "hf_configs").glob("*.json")):
        given = json.loads(path.read_text("utf-8"))
        if path.stem.startswith("grok"):
            continue  # its model_type is of another model
        inner = given.get("text_config", given)
        kind = str(inner.get("model_type"))
        inner = {key: value for key, value in inner.items() if key != "quantization_config"}
        try:
            count = counted(AutoConfig.for_model(**inner))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            print(f"{path.name} ({kind}): {str(error).splitlines()[0][:100]}", file=sys.stderr)
            continue
        found[path.name] = {"parameters": count["parameters"], "matrices": count["matrices"]}
    written = {"transformers": transformers.__version__, "counts": found}
    WRITTEN.write_text(json.dumps(written, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
