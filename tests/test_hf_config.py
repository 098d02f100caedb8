"""Hugging Face configs of every family give the catalogue's shapes; broken ones say why."""

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from qsjax import catalog
from qsjax.catalog import huggingface
from qsjax.catalog.families import FAMILIES, LEFT_OUT, REFUSED
from qsjax.cost.decode import decode_step
from qsjax.cost.laws import compute, params, traffic
from qsjax.cost.laws.memory import kv_bytes_per_sequence, weights_bytes
from qsjax.cost.laws.sharding import context_of, layout
from qsjax.engines.held import cache_bytes_per_token
from qsjax.records import precision
from qsjax.records.specs import PHYSICAL, Partition, Records

CONFIGS = sorted((Path(__file__).parent / "data" / "hf_configs").glob("*.json"))
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 512,
    "vocab_size": 1000,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
}

# Keys as published, where transformers' own configs have others, and totals as published.
MIMO = {
    "model_type": "mimo_v2_flash", "vocab_size": 152576, "hidden_size": 4096,
    "intermediate_size": 16384, "num_hidden_layers": 48, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "swa_num_key_value_heads": 8,
    "hybrid_layer_pattern": [0, *([1] * 4 + [0]), *([1] * 5 + [0]) * 7],
    "sliding_window_size": 128, "moe_layer_freq": [0, *[1] * 47], "moe_intermediate_size": 2048,
    "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": None,
    "max_position_embeddings": 262144,
}  # fmt: skip
KIMI_LINEAR = {
    "model_type": "kimi_linear", "vocab_size": 163840, "hidden_size": 2304, "num_hidden_layers": 27,
    "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 9216,
    "moe_intermediate_size": 1024, "num_experts": 256, "num_experts_per_token": 8,
    "num_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 512, "q_lora_rank": None,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "linear_attn_config": {
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128, "num_heads": 32,
        "kda_layers": [i for i in range(1, 28) if i not in (4, 8, 12, 16, 20, 24, 27)],
        "short_conv_kernel_size": 4,
    },
}  # fmt: skip
NEMOTRON_3 = {
    "model_type": "nemotron_h", "vocab_size": 131072, "hidden_size": 2688, "num_hidden_layers": 52,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 1856,
    "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128,
    "conv_kernel": 4, "expand": 2, "n_routed_experts": 128, "num_experts_per_tok": 6,
    "n_shared_experts": 1, "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712, "tie_word_embeddings": False,
    "mamba_ssm_cache_dtype": "float32",
}  # fmt: skip
STEP = {
    "model_type": "step3p5", "vocab_size": 128896, "hidden_size": 4096, "num_hidden_layers": 45,
    "num_attention_heads": 64, "num_attention_groups": 8, "head_dim": 128,
    "intermediate_size": 11264, "moe_intermediate_size": 1280, "share_expert_dim": 1280,
    "moe_num_experts": 288, "moe_top_k": 8,
    "moe_layers_enum": ",".join(str(i) for i in range(3, 45)), "sliding_window": 512,
    "layer_types": ["full_attention", *["sliding_attention"] * 3] * 11 + ["full_attention"],
    "attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8},
    "use_head_wise_attn_gate": True, "max_position_embeddings": 262144,
}  # fmt: skip
HUNYUAN = {
    "model_type": "hunyuan_v1_moe", "vocab_size": 128167, "hidden_size": 4096,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 3072, "moe_intermediate_size": [3072] * 32, "num_experts": 64,
    "moe_topk": [8] * 32, "num_shared_expert": [1] * 32, "tie_word_embeddings": True,
}  # fmt: skip
LING = {
    "model_type": "bailing_moe_v2", "vocab_size": 157184, "hidden_size": 4096,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_experts": 256,
    "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": 1,
}  # fmt: skip
LONGCAT = {
    "model_type": "longcat_flash", "vocab_size": 131072, "hidden_size": 6144, "num_layers": 28,
    "num_attention_heads": 64, "ffn_hidden_size": 12288, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_topk": 12,
    "n_routed_experts": 512, "zero_expert_num": 256, "expert_ffn_hidden_size": 2048,
}  # fmt: skip
CHATGLM = {
    "model_type": "chatglm", "padded_vocab_size": 151552, "hidden_size": 4096, "num_layers": 40,
    "num_attention_heads": 32, "multi_query_group_num": 2, "kv_channels": 128,
    "ffn_hidden_size": 13696,
}  # fmt: skip
MLLAMA = {
    "model_type": "mllama_text_model", "vocab_size": 128256, "hidden_size": 4096,
    "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
}  # fmt: skip
GEMMA_4 = {
    "model_type": "gemma4_text", "vocab_size": 262144, "hidden_size": 5376, "num_hidden_layers": 60,
    "intermediate_size": 21504, "num_attention_heads": 32, "num_key_value_heads": 16,
    "num_global_key_value_heads": 4, "head_dim": 256, "global_head_dim": 512,
    "attention_k_eq_v": True, "hidden_size_per_layer_input": 0, "sliding_window": 1024,
    "layer_types": [*["sliding_attention"] * 5, "full_attention"] * 10,
    "max_position_embeddings": 262144,
}  # fmt: skip
SUPER = {
    "model_type": "nemotron-nas", "architectures": ["DeciLMForCausalLM"], "vocab_size": 128256,
    "hidden_size": 8192, "num_hidden_layers": 4, "num_attention_heads": 64,
    "block_configs": [
        {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 5.25}},
        {"attention": {"no_op": True, "n_heads_in_group": None}, "ffn": {"ffn_mult": 2.625}},
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
        {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 1.3125}},
    ],
}  # fmt: skip
KIMI_K3 = {
    "model_type": "kimi_k3",
    "architectures": ["KimiK3ForConditionalGeneration"],
    "text_config": {
        "model_type": "kimi_linear", "architectures": ["KimiLinearForCausalLM"],
        "vocab_size": 163840, "hidden_size": 7168, "num_hidden_layers": 93,
        "intermediate_size": 33792, "num_attention_heads": 96, "num_key_value_heads": 96,
        "first_k_dense_replace": 1, "kv_lora_rank": 512, "q_lora_rank": 1536,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "moe_intermediate_size": 3072, "routed_expert_hidden_size": 3584, "num_experts": 896,
        "num_experts_per_token": 16, "num_shared_experts": 2, "moe_layer_freq": 1,
        "mla_use_output_gate": True, "max_position_embeddings": 1048576,
        "linear_attn_config": {
            "kda_layers": [i for i in range(1, 92) if i % 4], "head_dim": 128, "num_heads": 96,
            "full_attn_layers": [*range(4, 93, 4), 93], "short_conv_kernel_size": 4,
            "use_full_rank_gate": True,
        },
        "quantization_config": {
            "quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"], "input_activations": None,
                    "weights": {"num_bits": 4, "type": "float", "group_size": 32},
                }
            },
            "ignore": [
                "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*lm_head.*",
                "re:.*mlp\\.(gate|up|gate_up|down)_proj.*", "re:.*vision_tower.*",
            ],
        },
    },
}  # fmt: skip
MINIMAX_M3 = {
    "model_type": "minimax_m3_vl",
    "architectures": ["MiniMaxM3SparseForConditionalGeneration"],
    "text_config": {
        "vocab_size": 200064, "hidden_size": 6144, "num_hidden_layers": 60,
        "intermediate_size": 3072, "dense_intermediate_size": 12288,
        "shared_intermediate_size": 3072, "n_shared_experts": 1, "num_attention_heads": 64,
        "num_key_value_heads": 4, "head_dim": 128, "num_local_experts": 128,
        "num_experts_per_tok": 4, "max_position_embeddings": 1048576,
        "moe_layer_freq": [0] * 3 + [1] * 57,
        "sparse_attention_config": {
            "sparse_attention_freq": [0] * 3 + [1] * 57, "sparse_num_index_heads": 4,
            "sparse_index_dim": 128, "sparse_block_size": 128, "sparse_topk_blocks": 16,
        },
    },
}  # fmt: skip
# The defaults of inclusionAI/Ring-V2.5, models/configuration_bailing_moe_v2_5.py.
RING_2_5 = {
    "model_type": "bailing_hybrid", "architectures": ["BailingMoeV2_5ForCausalLM"],
    "vocab_size": 157184, "hidden_size": 2048, "num_hidden_layers": 20, "intermediate_size": 5120,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 256,
    "num_experts_per_tok": 8, "num_shared_experts": 1, "moe_intermediate_size": 512,
    "first_k_dense_replace": 1, "layer_group_size": 5, "kv_lora_rank": 512, "q_lora_rank": None,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
}  # fmt: skip
HUNYUAN_LARGE = {
    "model_type": "hunyuan", "vocab_size": 129024, "hidden_size": 6400, "num_hidden_layers": 64,
    "num_attention_heads": 80, "num_key_value_heads": 8, "intermediate_size": 18304,
    "num_experts": 16, "moe_topk": 1, "num_shared_expert": 1, "tie_word_embeddings": True,
    "use_cla": True, "cla_share_factor": 2, "max_position_embeddings": 131072,
}  # fmt: skip
ERNIE_VL = {
    "model_type": "ernie4_5_moe_vl", "vocab_size": 103424, "hidden_size": 2560,
    "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4,
    "intermediate_size": 12288, "moe_num_experts": [64, 64], "moe_k": 6,
    "moe_intermediate_size": [1536, 512], "moe_num_shared_experts": 2,
    "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28], "tie_word_embeddings": True,
}  # fmt: skip
# The defaults of vLLM's configuration classes (transformers_utils/configs), which are those of
# upstage/Solar-Open2-250B and ai-sage/GigaChat3.5-432B-A28B; of the latter one in four is whole.
SOLAR_OPEN_2 = {
    "model_type": "solar_open2", "vocab_size": 196608, "hidden_size": 4096,
    "intermediate_size": 10240, "num_hidden_layers": 48, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "moe_intermediate_size": 1280,
    "num_experts_per_tok": 8, "n_shared_experts": 1, "n_routed_experts": 320,
    "first_k_dense_replace": 0, "gqa_interval": 3, "use_gqa_gate": True, "kda_use_full_proj": False,
    "linear_attn_config": {
        "short_conv_kernel_size": 4, "head_dim": 128, "num_heads": 64, "num_kv_heads": None,
    },
}  # fmt: skip
GIGACHAT = {
    "model_type": "gigachat3_5", "vocab_size": 128256, "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 40,
    "num_attention_heads": 64, "n_shared_experts": 1, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3, "kv_lora_rank": 512,
    "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
    "gated_attention": True, "full_attention_layers": list(range(3, 40, 4)),
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "linear_num_key_heads": 32, "linear_num_value_heads": 64,
}  # fmt: skip
PUBLISHED = (
    MIMO, KIMI_LINEAR, NEMOTRON_3, STEP, HUNYUAN, LING, LONGCAT, CHATGLM, MLLAMA, GEMMA_4, SUPER,
    KIMI_K3, MINIMAX_M3, RING_2_5, HUNYUAN_LARGE, ERNIE_VL, SOLAR_OPEN_2, GIGACHAT,
)  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(config, **beside):
        folder = tmp_path / "my-model"
        folder.mkdir(exist_ok=True)
        for name, data in {"config": config, **beside}.items():
            text = data if isinstance(data, str) else json.dumps(data)
            (folder / f"{name}.json").write_text(text, "utf-8")
        return folder

    return write


def problems(path):
    with pytest.raises(ValueError, match=r"config\.json:\n") as caught:
        catalog.load_hf(path)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_gives_the_catalogues_model(path):
    imported, entry = catalog.load_hf(path), catalog.model_entry(path.stem)
    assert imported.name == path.stem
    assert imported.spec == entry.spec
    assert (imported.weight_dtype, imported.attn_weight_dtype, imported.kv_dtype) == (
        entry.weight_dtype,
        entry.attn_weight_dtype,
        entry.kv_dtype,
    )
    assert imported.max_context == entry.max_context
    assert (imported.mtp_layers > 0) == (entry.mtp_layers > 0)
    assert imported.expert_hidden == entry.expert_hidden
    assert catalog.model(path) == entry.spec


def test_every_family_has_a_config():
    seen = set()
    counted = json.loads((CONFIGS[0].parent.parent / "transformers_counts.json").read_text())
    built = [found["config"] for found in counted["counts"].values() if "config" in found]
    others = [HORIZON, *(one["config"] for one in OTHERS)]
    for outer in [*(json.loads(path.read_text()) for path in CONFIGS), *built, *PUBLISHED, *others]:
        family = huggingface._family(huggingface._text_config(outer), outer)
        seen |= {name for name, one in FAMILIES.items() if one is family}
    assert seen == set(FAMILIES)


def test_the_guide_lists_every_type():
    guide = Path(__file__).parent.parent / "docs" / "guides" / "your-own-model.md"
    named = (
        guide.read_text() + "`grok-1``Grok1ModelForCausalLM``Grok1ForCausalLM``DeciLMForCausalLM`"
    )
    types = [name for family in FAMILIES.values() for name in family.types]
    missing = [name for name in types if f"`{name.removesuffix('_text')}`" not in named]
    assert missing == []


@pytest.mark.parametrize(
    ("path", "inner", "outer"),
    [
        ("qwen3-32b", "qwen3_vl_text", "Qwen3VLForConditionalGeneration"),
        ("qwen3-235b-a22b", "qwen3_vl_moe_text", "Qwen3VLMoeForConditionalGeneration"),
        ("qwen2.5-72b", "qwen2_5_vl_text", "Qwen2_5_VLForConditionalGeneration"),
        ("glm-4.5-air", "glm4v_moe_text", "Glm4vMoeForConditionalGeneration"),
    ],
)
def test_the_language_model_of_a_model_of_images(write, path, inner, outer):
    config = json.loads((CONFIGS[0].parent / f"{path}.json").read_text())
    nested = {**config, "architectures": None, "model_type": inner}
    imported = catalog.load_hf(
        write({"architectures": [outer], "text_config": nested, "vision_config": {}})
    )
    assert imported.spec == catalog.model(path)
    assert imported.note.startswith("the vision encoder is left out")


def test_granite(write):
    # ibm-granite/granite-3.1-3b-a800m-base: 3.3 B, of which 0.8 B active without embeddings.
    mixture = {
        "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe", "vocab_size": 49152,
        "hidden_size": 1536, "intermediate_size": 512, "num_hidden_layers": 32,
        "num_attention_heads": 24, "num_key_value_heads": 8, "num_local_experts": 40,
        "num_experts_per_tok": 8, "tie_word_embeddings": True,
    }  # fmt: skip
    spec = catalog.load_hf(write(mixture)).spec
    assert float(params.total_params(spec)) == pytest.approx(3.3e9, rel=0.01)
    active = float(params.active_params(spec)) - float(params.embedding_params(spec))
    assert active == pytest.approx(0.8e9, rel=0.02)


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        # ibm-granite/granite-4.0-micro, and Llama Guard 4, whose card counts 0.9 B of vision too.
        (
            {
                "model_type": "granitemoehybrid", "vocab_size": 100352, "hidden_size": 2560,
                "intermediate_size": 8192, "shared_intermediate_size": 8192,
                "num_local_experts": 0, "num_experts_per_tok": 0, "num_hidden_layers": 40,
                "num_attention_heads": 40, "num_key_value_heads": 8, "tie_word_embeddings": True,
                "layer_types": ["attention"] * 40, "mamba_d_state": 256, "mamba_n_heads": 80,
                "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_d_conv": 4,
            },
            3.4,
        ),
        (
            {
                "model_type": "llama4_text", "vocab_size": 202048, "hidden_size": 5120,
                "intermediate_size": 8192, "intermediate_size_mlp": 8192, "moe_layers": [],
                "num_local_experts": 0, "num_experts_per_tok": 0, "num_hidden_layers": 48,
                "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
                "interleave_moe_layer_step": 0, "attention_chunk_size": 8192,
            },
            11.1,
        ),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_family_of_mixtures_may_have_a_dense_model(write, config, billions):
    spec = catalog.load_hf(write(config)).spec
    assert (spec.experts, spec.top_k, spec.shared_experts) == (1, 1, 0)
    assert float(params.total_params(spec)) / 1e9 == pytest.approx(billions, rel=0.01)
    found = problems(write(config | {"num_local_experts": 8, "interleave_moe_layer_step": 1}))
    assert found[0].startswith('"num_experts_per_tok": 0 is not allowed')


def test_no_type_belongs_to_two_families():
    types = [name for family in FAMILIES.values() for name in family.types]
    assert len(types) == len(set(types))


def test_a_config_may_be_of_gzip(write, tmp_path):
    plain = catalog.load_hf(write(LLAMA))
    packed = tmp_path / "my-model" / "config.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(LLAMA).encode()))
    entry = catalog.model_entry(str(packed))
    assert (entry.name, entry.spec) == ("my-model", plain.spec)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read: Compressed file ended"):
        catalog.model_entry(packed)


def test_a_folder_is_a_model(write):
    folder = write(LLAMA)
    entry = catalog.model_entry(str(folder))
    assert (entry.name, entry.spec.kv_heads, entry.spec.head_dim) == ("my-model", 8, 64)
    assert entry.spec == catalog.model(folder / "config.json") == catalog.model(folder)
    assert entry.note == ""


def test_what_is_left_out_is_noted(write):
    imported = catalog.load_hf(write(LLAMA | {"vision_config": {}, "num_nextn_predict_layers": 1}))
    assert imported.note == (
        "the vision encoder is left out; the multi-token-prediction module is left out"
    )
    assert imported.mtp_layers == 1


@pytest.mark.parametrize(
    ("table", "weights", "attention", "kv"),
    [
        ({"quant_method": "fp8"}, "fp8", "fp8", "bf16"),
        ({"quant_method": "awq", "bits": 4}, "fp4", "fp4", "bf16"),
        ({"quant_method": "gptq", "bits": 8}, "fp8", "fp8", "bf16"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "fp4", "fp4", "bf16"),
        ({"quant_method": "bitsandbytes", "_load_in_4bit": True}, "fp4", "fp4", "bf16"),
        (
            {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
            "fp4",
            "bf16",
            "bf16",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
                "kv_cache_scheme": {"num_bits": 8, "type": "float"},
                "ignore": ["lm_head"],
            },
            "fp8",
            "fp8",
            "fp8",
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"},
            "fp4",
            "fp4",
            "fp8",
        ),
        (None, "bf16", "bf16", "bf16"),
        (
            {"quant_method": "modelopt", "quant_algo": "NO_QUANT", "kv_cache_quant_algo": "FP8"},
            "bf16",
            "bf16",
            "fp8",
        ),
        ({"quant_method": "auto-round", "bits": 4}, "fp4", "fp4", "bf16"),
        # Only the cache is quantised.
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {},
                "kv_cache_scheme": {"num_bits": 8, "type": "float"},
            },
            "bf16",
            "bf16",
            "fp8",
        ),
    ],
)
def test_quantisation(write, table, weights, attention, kv):
    imported = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
    assert imported.weight_dtype == weights
    assert imported.attn_weight_dtype == attention
    assert imported.kv_dtype == kv
    is_mxfp4 = table is not None and table["quant_method"] == "mxfp4"
    assert imported.weight_bytes == (0.53125 if is_mxfp4 else 0)


@pytest.mark.parametrize(
    ("table", "block"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 128),
        ({"quant_method": "fp8"}, 0),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 64),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 0),
        ({"quant_method": "mxfp4"}, 0),  # its kernels pad
        (None, 0),
    ],
)
def test_blocks_that_no_split_may_cut(write, table, block):
    imported = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
    assert imported.weight_block == block


def test_blocks_of_compressed_tensors(write):
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    table = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": weights}},
    }
    assert catalog.load_hf(write(LLAMA | {"quantization_config": table})).weight_block == 128


def compressed(**weights):
    groups = {"group_0": {"weights": {"num_bits": 4, **weights}}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


@pytest.mark.parametrize(
    ("table", "stored"),
    [
        # Of 128 weights: a scale of two bytes, and with AWQ and GPTQ a zero of half a byte.
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, (64 + 2.5) / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 0.5),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, (128 + 3) / 128),
        (compressed(type="int", group_size=128), (64 + 2) / 128),
        (compressed(type="int", group_size=32), 0),  # (16 + 2) / 32, as of NVFP4
        (compressed(type="int", group_size=64), (32 + 2) / 64),
        (compressed(type="float", group_size=16), 0),
        (compressed(type="float", group_size=32), (16 + 1) / 32),
        (compressed(type="int"), 0),
        (compressed(type="int", group_size="128"), 0),
    ],
)
def test_scales_of_four_bit_weights(write, table, stored):
    imported = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
    assert imported.weight_bytes == stored


INT8 = {"num_bits": 8, "type": "int"}


@pytest.mark.parametrize(
    ("table", "multiply"),
    [
        (None, "bf16"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "fp4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "bf16"),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "bf16"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bf16"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, "bf16"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
        (compressed(type="int", group_size=128), "bf16"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": INT8, "input_activations": INT8}},
            },
            "fp8",
        ),
    ],
)
def test_weights_under_wider_activations_multiply_in_those(write, table, multiply):
    path = write(LLAMA | {"quantization_config": table})
    work = catalog.workload(path)
    assert (work.ffn_dtype, work.proj_dtype) == (multiply, multiply)
    assert work.bytes_dispatch == (2.0 if multiply == "bf16" else 1.0)
    assert catalog.workload(path, weights="fp4").ffn_dtype == "fp4"


@pytest.mark.parametrize(
    ("exempt", "attention"),
    [
        (["re:.*lm_head", "re:.*self_attn", "re:.*router"], "bf16"),
        (["re:.*self_attn.(q|k|v|o)_proj"], "bf16"),
        ([f"model.layers.{i}.self_attn*" for i in range(4)], "bf16"),
        ([f"model.layers.{i}.self_attn.{p}_proj" for i in range(4) for p in "qkvo"], "bf16"),
        # Parts of an attention block whose projections are quantised.
        ([f"model.layers.{i}.self_attn.{p}_norm" for i in range(4) for p in "qk"], "fp8"),
        ([f"model.layers.{i}.linear_attn.conv1d" for i in range(4)], "fp8"),
        (["model.layers.0.self_attn.indexer.weights_proj"], "fp8"),
        (["re:.*self_attn.kv_b_proj"], "fp8"),
        # The encoder of a multimodal model, and a module of its own for prediction.
        (["vision_tower.vision_model.encoder.layers.0.self_attn.out_proj"], "fp8"),
        (["visual.blocks.0.attn.proj", "mtp.layers.0.self_attn.o_proj"], "fp8"),
        ([f"model.layers.{i}.self_attn*" for i in (0, 4, 5, 6)], "fp8"),
    ],
)
def test_attention_is_exempt_where_its_projections_are(write, exempt, attention):
    table = {"quant_method": "fp8", "modules_to_not_convert": exempt}
    imported = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
    assert (imported.weight_dtype, imported.attn_weight_dtype) == ("fp8", attention)


def test_the_older_key_of_compressed_tensors(write):
    groups = {"group_0": {"weights": {"num_bits": 8}}, "group_1": {"weights": {"num_bits": 8}}}
    table = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert catalog.load_hf(write(LLAMA | {"compression_config": table})).weight_dtype == "fp8"
    groups["group_1"]["weights"]["num_bits"] = 4
    (only,) = problems(write(LLAMA | {"compression_config": table}))
    assert only.startswith('"config_groups" keep Linear in two formats; for any other')


def test_quantisation_beside_the_config_wins(write):
    beside = {
        "producer": {"name": "modelopt"},
        "quantization": {
            "quant_algo": "NVFP4",
            "kv_cache_quant_algo": "FP8",
            "exclude_modules": ["lm_head", *(f"model.layers.{i}.self_attn*" for i in range(4))],
        },
    }
    config = LLAMA | {"quantization_config": {"quant_method": "fp8"}}
    imported = catalog.load_hf(write(config, hf_quant_config=beside))
    assert (imported.weight_dtype, imported.attn_weight_dtype, imported.kv_dtype) == (
        "fp4",
        "bf16",
        "fp8",
    )


def test_all_problems_of_a_config_at_once(write):
    broken = LLAMA | {
        "num_hidden_layers": "4",
        "num_key_value_heads": 5,
        "head_dim": 0,
        "quantization_config": {"quant_method": "zip", "kv_cache_quant_algo": "FP3"},
    }
    del broken["vocab_size"]
    found = problems(write(broken))
    expected = [
        "\"num_hidden_layers\" is '4', not a number",
        'missing "vocab_size"',
        '"head_dim": 0 is not allowed; give a whole number of at least 1',
        '"num_key_value_heads": 5 does not divide 8 query heads; choose a divisor of 8: 1, 2, 4, 8',
        "unknown \"quant_method\" 'zip'; known: fp8, ",
        "unknown \"kv_cache_quant_algo\" 'FP3'; known: FP8, ",
    ]
    pairs = zip(found, expected, strict=True)
    assert [pair for pair in pairs if not pair[0].startswith(pair[1])] == []


def test_problems_have_the_line_of_their_key(write):
    inner = LLAMA | {"hidden_size": "512", "vocab_size": -1, "quantization_config": {"bits": 4}}
    inner["model_type"] = "seed_oss"  # of which transformers' defaults are not known here
    del inner["num_hidden_layers"]
    outer = {"vocab_size": 3, "quantization_config": {}, "text_config": inner}
    found = problems(write(json.dumps(outer, indent=1)))
    assert found == [
        'missing "num_hidden_layers" or "num_layers" or "n_layer" or "n_layers"',
        # Given twice, so that its line is not certain.
        '"vocab_size": -1 is not allowed; give a whole number of at least 1',
        "line 9: \"hidden_size\" is '512', not a number",
    ]


def test_missing_key_names_its_alternatives(write):
    config = {**LLAMA, "model_type": "mixtral", "architectures": [], "num_experts_per_tok": 2}
    (only,) = problems(write(config))
    assert only == 'missing "num_local_experts" or "num_experts"'


def test_heads_that_do_not_divide_the_hidden_size(write):
    (only,) = problems(write(LLAMA | {"hidden_size": 500}))
    assert only.startswith('"head_dim": 62.5 is not allowed; give a whole number')


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('{"model_type": ', "not JSON: "),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
            "cannot be read: it is a po",
        ),
        ("PK\x03\x04", "cannot be read: it is a workbook or an archive"),
        ("[1, 2]", "not a JSON object"),
        ('{"model_type": "llama", "hidden_size": NaN}', 'missing "num_hidden_layers"'),
        ("{}", 'unknown architecture (no "model_type")'),
        ("[" * 100_000, "not a config: nested too deeply"),
        ('{"hidden_size": %s}' % ("9" * 5000), "not JSON: Exceeds the limit"),
        ('{"architectures": [null, 3]}', "unknown architecture (None, 3)"),
        ('{"architectures": 3, "model_type": []}', 'unknown architecture (no "model_type")'),
    ],
)
def test_broken_files(write, text, start):
    assert problems(write(text))[0].startswith(start)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda text: "// mine\n" + text, "no comments and no comma before a closing bracket"),
        (lambda text: text.replace("{", "{ /* mine */", 1), "no comments and no comma"),
        (lambda text: text[:-1] + ",\n}", "no comments and no comma"),
        (lambda text: text[: len(text) // 2], "its end is missing"),
        (lambda text: "  \n", "the file is empty"),
        (
            lambda text: "<!doctype html><html></html>",
            "it is a page of HTML: download the file its",
        ),
        (lambda text: "#!/bin/sh\nvllm serve m\n", "starts an engine, `qsjax explain FILE` reads"),
        (lambda text: "run: vllm serve m\n", "starts an engine, `qsjax explain FILE` reads it"),
    ],
)
def test_what_to_mend_in_a_file_that_is_no_json(write, change, hint):
    (only,) = problems(write(change(json.dumps(LLAMA))))
    assert only.startswith("not JSON: ")
    assert hint in only


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_encodings_that_say_which_they_are(tmp_path, encoding):
    text = ("\ufeff" if encoding.endswith("be") else "") + json.dumps(LLAMA).replace(",", ",\r\n")
    (tmp_path / "config.json").write_bytes(text.encode(encoding))
    assert catalog.load_hf(tmp_path / "config.json").spec.layers == 4


def test_what_follows_from_a_problem_is_none_of_its_own(write):
    (only,) = problems(write(LLAMA | {"hidden_size": "512"}))
    assert only == "\"hidden_size\" is '512', not a number"
    (only,) = problems(write(LLAMA | {"num_attention_heads": -8}))
    assert only.startswith('"num_attention_heads": -8 is not allowed')


def test_a_byte_order_mark_is_no_problem(write):
    assert catalog.load_hf(write("\ufeff" + json.dumps(LLAMA))).spec.layers == 4


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"num_hidden_layers": True}, '"num_hidden_layers" is true, not a number'),
        ({"hidden_size": 10**400}, '"hidden_size" is too large; give at most 1e+24'),
        ({"vocab_size": float("inf")}, '"vocab_size" is too large'),
        (
            {"quantization_config": {"quant_method": "awq", "bits": [4]}},
            '"bits" is [4], not a number above 0; for any other remove the table',
        ),
        (
            {"quantization_config": {"quant_method": "fp8", "ignored_layers": 3}},
            '"ignored_layers" is not a list of names',
        ),
        (
            {"quantization_config": {"quant_method": "spqr"}},
            "unknown \"quant_method\" 'spqr'; known: fp8, ",
        ),
    ],
)
def test_odd_values_are_problems(write, change, start):
    (only,) = problems(write(LLAMA | change))
    assert only.startswith(start)


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-30b-a3b"])
def test_layers_are_counted_without_walking_them(write, name):
    config = json.loads((CONFIGS[0].parent / f"{name}.json").read_text())
    few, many = (
        catalog.load_hf(write(config | {"num_hidden_layers": layers})).spec.dense_layers
        for layers in (10, 10**15)
    )
    assert few == many == (3 if name == "deepseek-v3" else 0)


def test_a_broken_quantisation_file_is_told_apart(write):
    (only,) = problems(write(LLAMA, hf_quant_config="{"))
    assert only.startswith("hf_quant_config.json: not JSON: ")


def test_unknown_architecture_says_what_to_do(write):
    (only,) = problems(write({"model_type": "zyx", "architectures": ["ZyxForCausalLM"]}))
    assert only.startswith("unknown architecture (zyx, ZyxForCausalLM); 2")
    assert "docs/guides/your-own-model.md" in only


def test_an_architecture_tells_the_type_where_nothing_else_does(write):
    config = json.loads((CONFIGS[0].parent / "qwen3-30b-a3b.json").read_text())
    assert config.pop("model_type") == "qwen3_moe"
    assert catalog.load_hf(write(config)).spec == catalog.model("qwen3-30b-a3b")
    plain = {key: value for key, value in LLAMA.items() if key != "model_type"}
    assert catalog.load_hf(write(plain)).spec == catalog.load_hf(write(LLAMA)).spec


def test_the_nearest_family_of_one_that_is_not_read(write):
    (only,) = problems(write(LLAMA | {"model_type": "zaya", "architectures": []}))
    assert only.startswith("architecture zaya is not read: nearest is olmoe, but its attention")
    (only,) = problems(write({"model_type": "qwen3_7", "hidden_size": 64}))
    assert only.startswith(
        "unknown architecture (qwen3_7); nearest is qwen3, and the file lacks num_hidden_layers, "
        "vocab_size, num_attention_heads, intermediate_size; 2"
    )
    (only,) = problems(write({"model_type": "xlm-roberta", "hidden_size": 768}))
    assert only == (
        "architecture xlm-roberta is of an encoder, which makes no tokens: nothing decodes here"
    )
    (only,) = problems(write({"model_type": "t5", "is_encoder_decoder": True}))
    assert only.startswith("unknown architecture (t5): an encoder with a decoder; 2")
    # One that is built as its neighbour is read under that type.
    strange = LLAMA | {"model_type": "llama_of_mine", "architectures": ["MineForCausalLM"]}
    (only,) = problems(write(strange))
    assert 'has its keys (if it is built so, write "model_type": "llama" into a copy)' in only
    assert catalog.load_hf(write(strange | {"model_type": "llama"})).spec.layers == 4


def test_what_is_refused_is_not_known():
    types = {name for family in FAMILIES.values() for name in family.types}
    assert types.isdisjoint(REFUSED)
    assert {near for near, _ in REFUSED.values()} <= types


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        catalog.model(tmp_path / "config.json")


def test_impossible_steps_are_problems(write):
    config = json.loads((CONFIGS[0].parent / "qwen3-30b-a3b.json").read_text())
    (only,) = problems(write(config | {"decoder_sparse_step": 0}))
    assert only.startswith('"decoder_sparse_step" is 0; give a whole number of at least 1')


@pytest.mark.parametrize(
    ("change", "windows"),
    [
        ({}, 0),
        ({"use_sliding_window": True, "sliding_window": 1024, "max_window_layers": 6}, 30),
        ({"use_sliding_window": True, "sliding_window": 40960, "max_window_layers": 6}, 0),
        ({"use_sliding_window": False, "sliding_window": 1024}, 0),
    ],
)
def test_qwen_windows(write, change, windows):
    config = json.loads((CONFIGS[0].parent / "qwen3-8b.json").read_text())
    assert catalog.load_hf(write(config | change)).spec.window_layers == windows


def test_qwen_layers_by_list(write):
    config = json.loads((CONFIGS[0].parent / "qwen3-30b-a3b.json").read_text())
    spec = catalog.load_hf(
        write(config | {"mlp_only_layers": [0, 1, 1, 99], "decoder_sparse_step": 2})
    ).spec
    # Layers 1, 3, 5, ... are routed, but for layer 1.
    assert (spec.dense_layers, spec.dense_ff) == (25, 6144)


def test_recurrent_states_have_a_dtype_of_their_own(write):
    config = json.loads((CONFIGS[0].parent / "qwen3.5-397b-a17b.json").read_text())
    spec = catalog.load_hf(write(config)).spec
    # 64 value heads of 128 x 128, and three inputs of a convolution over 12,288 channels.
    assert (spec.linear_state, spec.linear_tail) == (64 * 128 * 128, 3 * 12_288)
    work = precision.workload_of(spec, context=1.0)
    held = float(params.state_bytes(spec, work)) / spec.linear_layers
    assert held == 4 * 64 * 128 * 128 + 2 * 3 * 12_288
    assert precision.workload_of(spec, weights="fp8", context=1.0).bytes_state == 4
    for given, expected in (("bfloat16", 2), ("torch.float16", 2), ("float32", 4), (None, 4)):
        imported = catalog.load_hf(write(config | {"mamba_ssm_dtype": given}))
        assert imported.spec.precision.bytes_state == expected
    (only,) = problems(write(config | {"mamba_ssm_dtype": "int8"}))
    assert only.endswith("\"mamba_ssm_dtype\" is 'int8'; known: float32, bfloat16, float16")


def test_the_state_of_lightning_attention_is_of_the_models_dtype():
    assert catalog.model("minimax-text-01").precision.bytes_state == 2
    assert catalog.load_hf(CONFIGS[0].parent / "minimax-text-01.json").state_bytes == 2


@pytest.mark.parametrize("load", [catalog.load_hf, catalog.model])
def test_the_home_of_nobody_is_told(load):
    with pytest.raises(ValueError, match=r"~nobody-at-all/x\.json: .*; give the path in full"):
        load("~nobody-at-all/x.json")


def test_layers_that_share_the_choice_of_an_indexer(write):
    # GLM-5.2: layers 0, 1, 2, 6, 10, ..., 74 have an indexer.
    config = json.loads((CONFIGS[0].parent / "glm-5.json").read_text())
    kinds = ["full" if i < 3 or i % 4 == 2 else "shared" for i in range(78)]
    every, some = (
        catalog.load_hf(write(config | change)).spec for change in ({}, {"indexer_types": kinds})
    )
    assert (every.index_layers, some.index_layers) == (78, 21)
    assert cache_bytes_per_token(some)["fp8_plain"] == 78 * 576 + 21 * 132
    gap = params.total_params(every) - params.total_params(some)
    assert float(gap) == pytest.approx(57 * (2048 * 32 * 128 + 6144 * (128 + 32)), rel=1e-6)
    # FP8, with index keys of 128 B and a scale of 4 B.
    work = precision.workload_of(some, kv="fp8", context=1000.0)
    size = kv_bytes_per_sequence(some, Partition(), work, PHYSICAL) / 1000
    assert float(size) == pytest.approx(47_702, rel=1e-4)


def test_batch_of_a_model_with_recurrent_states():
    model, part = catalog.model("qwen3.5-397b-a17b"), Partition(dp=8.0, ep=8.0)
    work = precision.workload_of(model, weights="fp4", kv="fp8", context=8192.0)
    cost = decode_step(Records(model, catalog.hardware("b200"), part, work), PHYSICAL)
    assert float(cost.capacity.max_batch) == 402


def with_experts(name, **changes):
    return json.loads((CONFIGS[0].parent / f"{name}.json").read_text()) | changes


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["LlamaForCausalLMEagle3"]}, "LlamaForCausalLMEagle3"),
        ({"architectures": ["EagleLlamaForCausalLM"]}, "EagleLlamaForCausalLM"),
        ({"architectures": ["LlamaForCausalLM"], "draft_vocab_size": 32000}, '"draft_vocab_size"'),
        ({"architectures": ["DeepSeekMTPModel"]}, "DeepSeekMTPModel"),
        ({"architectures": ["DFlashDraftModel"], "model_type": "qwen3"}, "DFlashDraftModel"),
        ({"model_type": "medusa"}, "medusa"),
    ],
)
def test_draft_heads_are_no_models(write, change, named):
    (only,) = problems(write(LLAMA | change))
    assert only.startswith(f"{named} is of a draft head, not of a model: give the config of")


def rope(key, kind, factor, trained):
    scaling = {kind.partition("=")[0]: kind.partition("=")[2], "factor": factor}
    return {key: scaling | {"original_max_position_embeddings": trained}}


@pytest.mark.parametrize(
    ("positions", "more", "longest"),
    [
        (32768, {}, 32768),
        # As Qwen's cards say to write it, and as DeepSeek and Llama have it.
        (32768, rope("rope_scaling", "type=yarn", 4.0, 32768), 131072),
        (163840, rope("rope_parameters", "rope_type=yarn", 40, 4096), 163840),
        (131072, rope("rope_scaling", "rope_type=llama3", 8.0, 131072), 131072),
        (4096, rope("rope_scaling", "type=yarn", "x", None), 4096),
        (None, {"n_positions": 2048}, 2048),
    ],
)
def test_the_longest_context_of_a_config(write, positions, more, longest):
    """What YaRN makes of it was read over: 32,768 tokens for Qwen2.5 with 131,072."""
    config = LLAMA | {"max_position_embeddings": positions} | more
    assert catalog.load_hf(write(config)).max_context == longest


def test_a_model_that_is_called_as_a_head_is_one(write):
    """nvidia/Eagle2.5-8B reads images; it was told to be a head that drafts."""
    named = {"model_type": "eagle_2_5_vl", "architectures": ["Eagle2_5_VLForConditionalGeneration"]}
    spec = catalog.load_hf(write(named | {"text_config": LLAMA})).spec
    assert dataclasses.replace(spec, label="") == dataclasses.replace(
        catalog.load_hf(write(LLAMA)).spec, label=""
    )


def test_configs_of_transformers_5(write):
    config = with_experts("qwen3-30b-a3b")
    config["num_local_experts"] = config.pop("num_experts")
    config["dtype"] = config.pop("torch_dtype", "bfloat16")
    assert catalog.load_hf(write(config)).spec == catalog.model("qwen3-30b-a3b")
    for key, kinds in (("mlp_layer_types", ["dense", "sparse"]), ("is_moe_layer", [False, True])):
        listed = with_experts("deepseek-v3", **{key: kinds[:1] * 3 + kinds[1:] * 58})
        del listed["first_k_dense_replace"]
        assert catalog.load_hf(write(listed)).spec.dense_layers == 3


@pytest.mark.parametrize("inner", ["text_config", "llm_config", "language_config"])
def test_the_language_model_may_be_anywhere(write, inner):
    assert catalog.load_hf(write({"model_type": "vlm", inner: LLAMA})).spec.layers == 4
    omni = {"model_type": "omni", "thinker_config": {inner: LLAMA, "hidden_size": 7}}
    assert catalog.load_hf(write(omni)).spec.hidden == 512


@pytest.mark.parametrize("kind", ["llama", "glm4", "qwen2"])
@pytest.mark.parametrize("key", ["num_kv_heads", "n_head_kv", "multi_query_group_num"])
def test_other_names_of_kv_heads_and_of_their_width_hold(write, kind, key):
    """Of types that read neither, each query head was taken for one of keys."""
    spec = catalog.load_hf(write(LLAMA | {"model_type": kind, key: 2, "kv_channels": 96})).spec
    assert (spec.kv_heads, spec.head_dim) == (2, 96)


@pytest.mark.parametrize("given", [0, [], False, "fp8", {}])
@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_a_quantisation_that_is_none_is_told(write, key, given):
    (only,) = problems(write(LLAMA | {key: given}))
    start = 'missing "quant_method"' if given == {} else f'"quantization_config" is {given!r}, not'
    assert only.startswith(start)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"num_hidden_layers": 4.5}, '"num_hidden_layers": 4.5 is not allowed'),
        ({"intermediate_size": -2048}, '"intermediate_size": -2048 is not allowed'),
        ({"intermediate_size": 2048.5}, '"intermediate_size": 2048.5 is not allowed'),
        ({"max_position_embeddings": -1}, '"max_position_embeddings": -1 is not allowed'),
    ],
)
def test_counts_that_are_none(write, change, found):
    (only,) = problems(write(LLAMA | change))
    assert only.startswith(found)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("first_k_dense_replace", -1),
        ("first_k_dense_replace", 2.5),
        ("n_shared_experts", -1),
        ("moe_intermediate_size", 0.5),
    ],
)
def test_counts_of_layers_that_are_none(write, key, value):
    (only,) = problems(write(with_experts("deepseek-v3", **{key: value})))
    assert only.startswith(f'"{key}": {value:g} is not allowed; give a whole number of at least 0')


MIXED = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {
            "targets": ["re:.*mlp.experts.*"],
            "weights": {"num_bits": 4, "type": "float", "group_size": 16},
            "input_activations": {"num_bits": 4, "type": "float"},
        },
        "group_1": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float"},
            "input_activations": {"num_bits": 8, "type": "float"},
        },
    },
    "ignore": ["lm_head", "re:.*mlp.shared_experts.*", "model.layers.0.mlp.down_proj"],
}


def test_blocks_that_never_have_attention_are_no_layers(write):
    """Llama-3.3-Nemotron-Super-49B: 31 of 80 blocks are networks alone."""
    block = {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 5.25}}
    bare = {"attention": {"no_op": True, "n_heads_in_group": None}, "ffn": {"ffn_mult": 1.3125}}
    nothing = {"attention": {"no_op": True}, "ffn": {"no_op": True}}
    blocks = [block] * 49 + [bare] * 30 + [nothing]
    config = SUPER | {"num_hidden_layers": 80, "block_configs": blocks}
    spec = catalog.load_hf(write(config)).spec
    assert (spec.layers, spec.linear_layers, spec.bare_layers) == (49, 0, 0)
    networks = 3 * 8192 * (49 * 28672 + 30 * 7168)
    attention = 49 * (2 * 8192 * 8192 + 2 * 8192 * 1024)
    found = float(params.total_params(spec))
    assert found == pytest.approx(networks + attention + 2 * 128256 * 8192)
    # An 8-bit key and an 8-bit value of 8 heads in 49 layers.
    work = precision.workload_of(spec, kv="fp8", context=1.0)
    size = kv_bytes_per_sequence(spec, Partition(), work, PHYSICAL)
    assert float(size) == pytest.approx(49 * 2 * 8 * 128, rel=1e-6)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (MIMO, "mimo-v2-flash"),
        (STEP, "step-3.5-flash"),
        (HUNYUAN, "hunyuan-a13b"),
        (LONGCAT, "longcat-flash"),
        (GEMMA_4, "gemma-4-31b"),
        (KIMI_K3, "kimi-k3"),
        (MINIMAX_M3, "minimax-m3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_keys_give_the_catalogues_shape(write, config, name):
    imported, entry = (
        dataclasses.replace(spec, precision=None)
        for spec in (catalog.load_hf(write(config)).spec, catalog.model(name))
    )
    assert imported == entry


def test_lists_of_layers_end_where_the_model_does(write):
    """Step 3.5 and 3.7 list three layers of their prediction module behind their 45."""
    kinds = [*STEP["layer_types"], *["sliding_attention"] * 3]
    longer = STEP | {"num_nextn_predict_layers": 3, "layer_types": kinds}
    own = catalog.load_hf(write(STEP)).spec
    assert own.window_layers == 33
    assert catalog.load_hf(write(longer)).spec == own
    nested = {"model_type": "step3p7", "vision_config": {}, "text_config": longer}
    assert catalog.load_hf(write(nested)).spec == own


def test_step_without_a_list_of_routed_layers(write):
    """Without one transformers routes all layers but the first three."""
    config = {name: value for name, value in STEP.items() if name != "moe_layers_enum"}
    spec = catalog.load_hf(write(config)).spec
    assert spec == catalog.load_hf(write(STEP)).spec
    assert catalog.load_hf(write(config | {"first_k_dense_replace": 5})).spec.dense_layers == 5


NETWORK = ("gate", "up", "down")
QUARK = {
    "quant_method": "quark",
    "global_quant_config": {
        "weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32},
        "input_tensors": {"dtype": "fp4"},
    },
    "layer_quant_config": {
        "*self_attn*": {"weight": {"dtype": "fp8_e4m3"}, "input_tensors": {"dtype": "fp8_e4m3"}}
    },
    "exclude": [
        "lm_head",
        *(f"model.layers.{i}.mlp.shared_experts.{x}_proj" for i in range(61) for x in NETWORK),
    ],
}
LISTED = {
    "quant_method": "modelopt",
    "quant_algo": "MIXED_PRECISION",
    "kv_cache_quant_algo": "FP8",
    "quantized_layers": {
        f"model.layers.{i}.{name}": {"quant_algo": algorithm}
        for i in range(61)
        for name, algorithm in (
            ("self_attn.o_proj", "FP8"),
            *((f"mlp.{'' if i < 3 else 'experts.0.'}{x}_proj", "NVFP4") for x in NETWORK),
        )
    },
}


# The same, by groups alone: nvidia/Qwen3.6-27B-NVFP4, nvidia/NVIDIA-Nemotron-3-Super-120B-A12B.
GROUPED = {
    "quant_method": "modelopt",
    "quant_algo": "MIXED_PRECISION",
    "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    "config_groups": {
        f"group_{bits}": {
            "weights": {"num_bits": bits, "type": "float", "dynamic": False} | size,
            "input_activations": {"num_bits": bits, "type": "float"},
            "targets": [
                name
                for name, one in LISTED["quantized_layers"].items()
                if one["quant_algo"] == algorithm
            ],
        }
        for bits, size, algorithm in ((8, {}, "FP8"), (4, {"group_size": 16}, "NVFP4"))
    },
}


@pytest.mark.parametrize(
    ("table", "modules", "dense"),
    [
        (GROUPED, "attention bf16, output fp8, routed fp4, shared bf16, dense fp4", 0.5625),
        # One of nine matrices of dense layers is exempt.
        (MIXED, "attention fp8, output fp8, routed fp4, shared bf16, dense fp8", 10 / 9),
        (QUARK, "attention fp8, output fp8, routed fp4, shared bf16, dense fp4", 0.53125),
        (LISTED, "attention bf16, output fp8, routed fp4, shared bf16, dense fp4", 0.5625),
    ],
)
def test_modules_of_different_precisions(write, table, modules, dense):
    imported = catalog.load_hf(write(with_experts("deepseek-v3", quantization_config=table)))
    names = ("attention", "attention output", "routed experts", "shared experts", "dense layers")
    shown = [
        f"{name.split()[-1 if 'output' in name else 0]} {imported.modules[name]}" for name in names
    ]
    assert ", ".join(shown) == modules
    # Shared experts of 58 layers are 2,048 wide, networks of 3 are 18,432.
    mean = (58 * 2048 * 2 + 3 * 18432 * dense) / (58 * 2048 + 3 * 18432)
    own = imported.spec.precision
    assert own.shared_weight_ratio * own.bytes_ffn_weight == pytest.approx(mean)


def nano(table):
    """Nemotron 3 Nano with a table of quantised modules, which counts its 52 blocks."""
    pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
    config = with_experts("nemotron-3-nano-30b-a3b", quantization_config=table)
    assert config["hybrid_override_pattern"] == pattern
    return config


# Weights of a mixer: Mamba's in and out, attention's four.
MAMBA = 2688 * (2 * 4096 + 2 * 8 * 128 + 64) + (4096 + 2 * 8 * 128) * 4 + 4096 * 2688
MIXER = 2 * 2688 * 32 * 128 + 2 * 2688 * 2 * 128


def test_blocks_that_are_excluded_by_their_numbers(write):
    """nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4: attention and the mixers before it are whole."""
    attention, mamba = (5, 12, 19, 26, 33, 42), (4, 11, 18, 25, 32, 41)
    names = [f"backbone.layers.{i}.mixer.{j}_proj" for i in attention for j in "qkvo"]
    names += [f"backbone.layers.{i}.mixer.{j}_proj" for i in mamba for j in ("in", "out")]
    table = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": names}
    found = catalog.load_hf(write(nano(table)))
    whole = 2.0 * (6 * MIXER + 6 * MAMBA) + 0.5625 * 17 * MAMBA
    assert found.attn_bytes == pytest.approx(whole / (6 * MIXER + 23 * MAMBA), rel=1e-3)
    assert (found.weight_dtype, found.weight_bytes, found.shared_bytes) == ("fp4", 0, 0)


def test_blocks_that_are_quantised_by_their_numbers(write):
    """nvidia/NVIDIA-Nemotron-3.5-Lightning: experts of 4 bits, mixers of 8, attention whole."""
    pattern = nano({})["hybrid_override_pattern"]
    layers = {}
    for at, kind in enumerate(pattern):
        pair = [f"{x}.{y}_proj" for x in ("experts.0", "shared_experts") for y in NETWORK[1:]]
        own = {"E": pair, "M": ["in_proj"]}
        algorithm = "FP8" if kind == "M" else "W4A16_NVFP4"
        for name in own.get(kind, ()):
            layers[f"backbone.layers.{at}.mixer.{name}"] = {"quant_algo": algorithm}
    table = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    found = catalog.load_hf(write(nano(table)))
    assert (found.weight_dtype, found.weight_bytes, found.multiply_dtype) == ("fp4", 0, "bf16")
    assert found.modules["shared experts"] == "fp4"
    assert found.modules["attention"] == "fp8"
    assert found.modules["attention output"] == "bf16"


def test_dense_layers_that_are_excluded_whole_take_no_experts_with_them(write):
    """nvidia/GLM-5.1-NVFP4 names "model.layers.0*": the first layers, which have no experts."""
    names = ["model.layers.0*", "model.layers.1.*", "model.layers.2.*"]
    names += [f"model.layers.{i}.self_attn*" for i in range(3, 61)]
    table = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": names}
    found = catalog.load_hf(write(with_experts("deepseek-v3", quantization_config=table)))
    assert (found.weight_dtype, found.weight_bytes, found.attn_bytes) == ("fp4", 0, 0)
    kinds = ("attention", "routed experts", "shared experts", "dense layers")
    assert [found.modules[kind] for kind in kinds] == ["bf16", "fp4", "fp4", "bf16"]
    # Per layer 2048 wide in NVFP4 against three of 18,432 in BF16.
    shared, dense = 58 * 2048, 3 * 18432
    mean = (0.5625 * shared + 2.0 * dense) / (shared + dense)
    assert found.shared_bytes == pytest.approx(mean)


def test_experts_beside_the_network_of_a_layer(write):
    """nvidia/Gemma-4-26B-A4B-NVFP4 excludes "layers.N.mlp*", in which others have their experts."""
    names = [
        f"model.language_model.layers.{i}.{name}*"
        for i in range(30)
        for name in ("mlp", "router", "self_attn")
    ]
    beside = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": names}}
    config = json.loads((CONFIGS[0].parent / "gemma-4-26b-a4b.json").read_text())
    found = catalog.load_hf(write(config, hf_quant_config=beside))
    assert (found.weight_dtype, found.attn_weight_dtype) == ("fp4", "bf16")
    assert (found.modules["routed experts"], found.modules["shared experts"]) == ("fp4", "bf16")
    assert found.shared_bytes == 2


@pytest.mark.parametrize("name", ["config.json", "nvidia--Some-NVFP4_config.json"])
def test_a_quantisation_beside_a_config_of_any_name(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(LLAMA))
    assert catalog.model_entry(tmp_path / name).weight_dtype == "bf16"
    table = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    other = name.replace("config.json", "hf_quant_config.json")
    (tmp_path / other).write_text(json.dumps(table))
    paths = [tmp_path / name] + ([tmp_path] if name == "config.json" else [])
    for path in paths:
        found = catalog.model_entry(path)
        assert (found.weight_dtype, found.kv_dtype) == ("fp4", "fp8")
        assert catalog.model(path).precision.bytes_kv == 1


def test_attention_of_which_only_the_output_is_quantised(write):
    # nvidia/DeepSeek-V3.1-NVFP4 and V3.2: q, kv projections in 16 bits, o_proj in NVFP4.
    names = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
    exempt = [f"model.layers.{i}.self_attn.{name}" for i in range(61) for name in names]
    table = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": [*exempt, "lm_head"]}
    imported = catalog.load_hf(write(with_experts("deepseek-v3", quantization_config=table)))
    output = 128 * 128 * 7168
    rest = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256
    mean = (2 * rest + 0.5625 * output) / (rest + output)
    assert imported.spec.precision.bytes_attn_weight == pytest.approx(mean)
    assert imported.modules["attention output"] == "fp4"
    assert imported.spec.precision.shared_weight_ratio == 1


def test_experts_that_stay_whole_weigh_so():
    # Kimi K2.5: at dp 8 and ep 8 each of 8 GPUs holds 60 shared experts and a dense layer in BF16.
    model = catalog.model("kimi-k2.5")
    assert model.precision.shared_weight_ratio * model.precision.bytes_ffn_weight == 2
    work, part = precision.workload_of(model, context=1.0), Partition(dp=8.0, ep=8.0)
    lay = layout(model, part, PHYSICAL)
    plain = dataclasses.replace(work, shared_weight_ratio=1.0)
    gap = weights_bytes(model, part, work, lay) - weights_bytes(model, part, plain, lay)
    whole = 3 * 7168 * (60 * 2048 + 18432)
    assert float(gap) == pytest.approx((2 - 0.5625) * whole, rel=1e-3)
    assert float(gap) / 2**30 == pytest.approx(4.1, abs=0.05)


@pytest.mark.parametrize(
    ("table", "dtype", "stored", "multiply"),
    [
        ({"bits": 4, "group_size": 64}, "fp4", 0.5 + 4 / 64, "bf16"),
        ({"bits": 8, "group_size": 32, "mode": "mxfp8"}, "fp8", 1.03125, "bf16"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "fp4", (48 + 2.375) / 128, "bf16"),
        ({"quant_method": "auto_round", "bits": 4, "group_size": 128}, "fp4", 66.5 / 128, "bf16"),
        ({"quant_method": "inc", "bits": 2, "group_size": 32}, "fp4", 10.25 / 32, "bf16"),
        ({"quant_method": "mxfp8"}, "fp8", 1.03125, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "fp8", 1.03125, "fp8"),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}, "fp4", 0.5625, "fp4"),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "fp8", 1, "bf16"),
        (
            {
                "quant_method": "torchao",
                "quant_type": {
                    "default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}
                },
            },
            "fp4",
            66.5 / 128,
            "bf16",
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Float8DynamicActivationFloat8WeightConfig"}},
            },
            "fp8",
            1,
            "fp8",
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Int8DynamicActivationInt4WeightConfig"}},
            },
            "fp4",
            66.5 / 128,
            "fp8",
        ),
        (
            {
                "quant_method": "hqq",
                "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}},
            },
            "fp4",
            36 / 64,  # HqqConfig's own: neither scales nor zeros are quantised
            "bf16",
        ),
        (
            {
                "quant_method": "aqlm",
                "num_codebooks": 1,
                "nbits_per_codebook": 16,
                "in_group_size": 8,
            },
            "fp4",
            0.25,
            "bf16",
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {
                    "_type": "Int8DynamicActivationIntxWeightConfig",
                    "_data": {
                        "weight_dtype": {"_type": "torch.dtype", "_data": "int4"},
                        "weight_granularity": {"_type": "PerGroup", "_data": {"group_size": 32}},
                    },
                }},
            },
            "fp4",
            18.5 / 32,
            "fp8",
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {
                    "_type": "FqnToConfig",
                    "_data": {"fqn_to_config": {
                        "_default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}},
                        "re:.*lm_head": None,
                    }},
                }},
            },
            "fp4",
            66.5 / 128,
            "bf16",
        ),
        ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, "fp4", 0.53125, "fp4"),
        ({"quant_method": "fp_quant", "forward_dtype": "nvfp4", "pseudoquantization": True}, "fp4",
         0.5625, "bf16"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"},
          "input_tensors": {"dtype": "fp8_e4m3"}}}, "fp8", 1, "fp8"),
        # Bits in the mean, with scales; and names under which engines load a method.
        ({"quant_method": "exl2", "bits": 4.65, "head_bits": 6}, "fp8", 4.65 / 8, "bf16"),
        ({"quant_method": "exl3", "bits": 3.5, "out_scales": "auto"}, "fp4", 3.5 / 8, "bf16"),
        ({"quant_method": "auto_awq", "bits": 4, "group_size": 128}, "fp4", 66.5 / 128, "bf16"),
        ({"quant_method": "marlin", "bits": 4, "group_size": 128}, "fp4", 66.5 / 128, "bf16"),
        ({"quant_method": "QuantizationMethod.GPTQ", "bits": 4, "group_size": 128}, "fp4",
         66.5 / 128, "bf16"),
        ({"quant_method": "gpt_oss_mxfp4"}, "fp4", 0.53125, "fp4"),
        ({"quant_method": "smooth_quant", "quant_dtype": "int8"}, "fp8", 1, "fp8"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "fp4", 0.5625, "bf16"),
        # Of 256 blocks of 64: half a byte each, 256 scales of a byte, and one of 4 for these.
        ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, "fp4", 8452 / 16384, "bf16"),
        ({"quant_method": "exl2", "bits": 4.5}, "fp4", 4.5 / 8, "bf16"),
        ({"quant_method": "gptq", "bits": 16, "group_size": 128}, "bf16", 2, "bf16"),
        ({"quant_method": "auto_round", "bits": 2, "group_size": 32, "act_bits": 4}, "fp4",
         10.25 / 32, "fp4"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {
            "dtype": "fp6_e3m2", "group_size": 32}}}, "fp8", (24 + 1) / 32, "bf16"),
    ],
)  # fmt: skip
def test_formats(write, table, dtype, stored, multiply):
    key = "quantization_config" if "quant_method" in table else "quantization"
    imported = catalog.load_hf(write(LLAMA | {key: table}))
    assert (imported.weight_dtype, imported.attn_weight_dtype) == (dtype, dtype)
    own = imported.spec.precision
    assert own.bytes_ffn_weight == own.bytes_attn_weight == pytest.approx(stored)
    assert own.ffn_dtype == multiply


@pytest.mark.parametrize(
    ("more", "is_told"),
    [
        ({"sparsity_config": {"format": "sparse-24-bitmask", "sparsity_structure": "2:4"}}, True),
        ({"format": "marlin-24", "sparsity_config": {"format": "dense"}}, True),
        ({"format": "pack-quantized", "sparsity_config": {"format": "dense"}}, False),
    ],
)
def test_sparsity_is_told(write, more, is_told):
    table = {"quant_method": "compressed-tensors", "config_groups": {}} | more
    note = catalog.load_hf(write(LLAMA | {"quantization_config": table})).note
    assert ("2:4 sparsity is not counted" in note) == is_told


FP8_OUT = {"output_tensors": {"dtype": "fp8_e4m3"}}


@pytest.mark.parametrize(
    "table",
    [
        {"kv_cache_group": ["*k_proj"], "layer_quant_config": {"*k_proj": FP8_OUT}},
        # As Quark writes it, and vLLM reads it.
        {"export": {"kv_cache_group": ["*k_proj"]}, "layer_quant_config": {"*k_proj": FP8_OUT}},
        {"export": {"kv_cache_group": ["*k_proj"]}, "kv_cache_quant_config": {"*k_proj": FP8_OUT}},
        {"export": {"kv_cache_group": []}, "kv_cache_quant_config": {}},
    ],
)
def test_the_cache_of_quark(write, table):
    weight = {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}
    own = {"quant_method": "quark", "global_quant_config": {"weight": weight}, **table}
    found = catalog.load_hf(write(LLAMA | {"quantization_config": own}))
    assert found.kv_dtype == ("bf16" if table.get("kv_cache_quant_config") == {} else "fp8")


def test_patterns_of_autoround_and_modes_of_mlx(write):
    """A name holds before a pattern; a module of MLX has the mode that its own options say."""
    own = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": {
        ".*self_attn.*": {"bits": 8, "group_size": 128},
        **{f"model.layers.{i}.self_attn.{p}_proj": {"bits": 2} for i in range(4) for p in "qkv"},
    }}  # fmt: skip
    found = catalog.load_hf(write(LLAMA | {"quantization_config": own}))
    assert found.modules["attention output"] == "fp8"
    assert found.attn_weight_dtype == "fp4"
    mlx = {"bits": 4, "group_size": 32, "mode": "mxfp4"}
    mlx |= {f"model.layers.{i}.mlp.down_proj": {"bits": 8, "group_size": 64} for i in range(4)}
    found = catalog.load_hf(write(LLAMA | {"quantization": mlx}))
    assert found.weight_bytes == pytest.approx((2 * 0.53125 + 1.0625) / 3)


def test_some_modules_of_mlx_and_gptq(write):
    mlx = {"bits": 4, "group_size": 64, "model.layers.0.mlp.down_proj": {"bits": 8}}
    mlx |= {f"model.layers.{i}.self_attn.o_proj": False for i in range(4)}
    found = catalog.load_hf(write(LLAMA | {"quantization": mlx}))
    assert found.modules["attention output"] == "bf16"
    # One of the twelve matrices of four networks.
    assert found.weight_bytes == pytest.approx((11 * 0.5625 + 1.0625) / 12)
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*attn.*": {}}}
    assert catalog.load_hf(write(LLAMA | {"quantization_config": gptq})).attn_weight_dtype == "bf16"
    inside = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"]]
    gptq |= {"dynamic": {}, "modules_in_block_to_quantize": inside}
    found = catalog.load_hf(write(LLAMA | {"quantization_config": gptq}))
    assert (found.weight_dtype, found.attn_weight_dtype) == ("bf16", "fp4")


@pytest.mark.parametrize(
    "more",
    [
        {
            "quant_method": "gptq",
            "dynamic": {"-:.*attn.*": {"bits": 8}, "+:.*down.*": {"group_size": 32}},
        },
        {
            "quant_method": "auto-round",
            "extra_config": {".*attn.*": {"bits": 16}, ".*down.*": {"group_size": 32}},
        },
    ],
)
def test_what_a_module_does_not_say_is_as_of_all(write, more):
    """As of vLLM: `gptq_utils.override_config`, `INCConfig.get_layer_config`."""
    table = {"bits": 4, "group_size": 128} | more
    found = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
    assert found.attn_weight_dtype == "bf16"
    assert found.weight_bytes == pytest.approx((2 * 66.5 / 128 + 18.5 / 32) / 3)


@pytest.mark.parametrize(
    ("table", "start"),
    [
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, '"quant_algo" is MIXED'),
        (
            {
                "quant_algo": "MIXED_PRECISION",
                "quant_method": "modelopt",
                "quantized_layers": {"a": {"quant_algo": "FP7", "group_size": [16]}},
            },
            "unknown \"quantized_layers.*.quant_algo\" 'FP7'",
        ),
        ({"quant_method": "modelopt"}, 'missing "quant_algo" of ModelOpt'),
        ({"quant_method": "fp8", "expert_dtype": ["fp4"]}, "unknown \"expert_dtype\" ['fp4']"),
        ({"quant_method": "gptq", "bits": True}, '"bits" is True'),
        ({"quant_method": "gptq", "bits": 32}, '"bits" is 32; give at most 16'),
        ({"quant_method": "torchao", "quant_type": "autoquant"}, 'unknown "quant_type"'),
        ({"quant_method": "hqq", "quant_config": {}}, '"quant_config" has no'),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {}}},
            '"weight.dtype" is None',
        ),
        ({"quant_method": "compressed-tensors", "config_groups": 3}, '"config_groups" is 3, not'),
        ({"quant_method": "fp_quant", "forward_dtype": "hif4"}, "\"forward_dtype\" is 'hif4'"),
    ],
)
def test_formats_that_are_none(write, table, start):
    (only,) = problems(write(LLAMA | {"quantization_config": table}))
    assert only.startswith(start)


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        # By the model card of each; active ones with the embeddings.
        (MIMO, 309e9, 15e9),
        (KIMI_LINEAR, 49.1e9, None),
        (NEMOTRON_3, 31.6e9, 3.6e9),
        (STEP, 196.8e9, None),
        (HUNYUAN, 80.4e9, 13e9),
        (LING, 103e9, 6.1e9),
        (LONGCAT, 560e9, None),
        (CHATGLM, 9.4e9, None),
        (MLLAMA, 9.775e9, None),  # with the vision encoder 10.6 B
        (GEMMA_4, 30.7e9, None),
        (KIMI_K3, 2.78e12, 104e9),
        (MINIMAX_M3, 428e9, None),
        (HUNYUAN_LARGE, 389e9, 52e9),
        (SOLAR_OPEN_2, 250e9, 15e9),
        (GIGACHAT, 432e9, 28e9),  # with the module that predicts tokens
        (ERNIE_VL, 28.6245e9, 3.35e9),  # as transformers 5.24 builds its language model
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_configs_as_published(write, config, total, active):
    spec = catalog.load_hf(write(config)).spec
    assert float(params.total_params(spec)) == pytest.approx(total, rel=0.01)
    if active:
        assert float(params.active_params(spec)) == pytest.approx(active, rel=0.1)


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        (SOLAR_OPEN_2, {"gqa_layers": list(range(0, 48, 4))}),
        (SOLAR_OPEN_2, {"layer_types": ["full_attention", *["linear_attention"] * 3] * 12}),
        (GIGACHAT, {"layer_types": [*["linear_attention"] * 3, "full_attention"] * 10}),
    ],
)
def test_layers_of_softmax_attention_are_listed_in_many_ways(write, config, changed):
    spec = catalog.load_hf(write(config)).spec
    other = catalog.load_hf(write(config | changed)).spec
    assert other == spec
    assert params.softmax_layers(spec) == spec.layers / 4


def test_gigachat_without_linear_layers(write):
    spec = catalog.load_hf(write(GIGACHAT | {"linear_attention_type": None})).spec
    assert (params.softmax_layers(spec), spec.linear_params) == (40, 0)


def test_kimi_k3_weighs_what_its_files_do(write):
    """By the shapes of its weights: 94 GB in BF16, experts of 4.25 bits."""
    imported = catalog.load_hf(write(KIMI_K3))
    d, inner = 7168, 12288
    delta = 5 * d * inner + 128 * (d + inner) + 96 * d + 3 * inner * 4
    latent = d * (576 + 1536) + 512 * 24576 + 1536 * 18432 + 2 * d * inner
    moe = 896 * d + 2 * 3584 * d + 3 * 6144 * d
    whole = 69 * delta + 24 * latent + 92 * moe + 3 * 33792 * d + 2 * 163840 * d
    experts = 92 * 896 * 3 * 3072 * 3584
    assert float(params.total_params(imported.spec)) == pytest.approx(whole + experts, rel=1e-9)
    work = precision.workload_of(imported.spec, context=1.0)
    part = Partition()
    held = float(weights_bytes(imported.spec, part, work, layout(imported.spec, part, PHYSICAL)))
    # Its files have 1,560.86 GB, of which 0.88 GB are the vision encoder.
    assert held == pytest.approx(1_560_860_324_864 - 0.88e9, rel=1e-3)
    assert imported.modules["attention output"] == imported.modules["shared experts"] == "bf16"


def test_kimi_k3_is_not_read_as_kimi_linear_is(write):
    plain = {key: value for key, value in KIMI_K3["text_config"].items() if "expert_h" not in key}
    narrow, wide = (catalog.load_hf(write(config)).spec for config in (KIMI_K3, plain))
    assert (narrow.expert_ff, wide.expert_ff) == (1536, 3072)


def context(spec, work):
    """What the laws of traffic take, on one GPU; its numbers enter none of them."""
    return context_of(Records(spec, None, Partition(), work), PHYSICAL)


def test_a_choice_of_blocks_in_all_but_the_first_layers(write):
    spec = catalog.load_hf(write(MINIMAX_M3)).spec
    assert (spec.index_layers, spec.window_layers, spec.sparse_topk) == (57, 3, 2048)
    assert (spec.dense_layers, spec.dense_ff, spec.shared_ff) == (3, 12288, 3072)
    work = precision.workload_of(spec, context=100_000.0)
    size = float(kv_bytes_per_sequence(spec, Partition(), work, PHYSICAL)) / 100_000
    # Keys and values of 4 heads of 128 in 60 layers, and an index key of 128 in 57, in 16 bits.
    assert size == pytest.approx(60 * 2 * 4 * 128 * 2 + 57 * 128 * 2)
    full, sparse = 3 * 100_000, 57 * 2048
    read = traffic.kv_bytes(context(spec, work), compute.attended_tokens(spec, work), 1.0)
    assert float(read) == pytest.approx((full + sparse) * 2048 + 57 * 128 * 2 * 100_000)
    built = MINIMAX_M3["text_config"] | {
        "model_type": "minimax_m3_vl_text",
        "layer_types": ["full_attention"] * 3 + ["minimax_m3_sparse"] * 57,
        "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 57,
    }
    assert catalog.load_hf(write(built)).spec == spec


def test_lightning_and_latent_attention_by_groups(write):
    spec = catalog.load_hf(write(RING_2_5)).spec
    assert (spec.layers, spec.linear_layers) == (20, 16)
    # q of 16 heads, k and v of 4, gate and output of 16, each of 128; a state of 128 x 128 a head.
    assert spec.linear_params == 2048 * 128 * (16 + 2 * 4 + 16 + 16)
    assert (spec.linear_state, spec.linear_tail) == (16 * 128 * 128, 0)
    assert spec.precision.bytes_state == 2
    # Ling 3.0 has the same model_type, with delta attention; of 22 layers the last two are global.
    later = RING_2_5 | {"architectures": ["BailingMoeV3ForCausalLM"], "num_hidden_layers": 22}
    spec = catalog.load_hf(write(later)).spec
    assert spec.linear_layers == 16
    inner = 2048
    assert spec.linear_params == 6 * 2048 * inner + 3 * inner * 4 + 2048 * 16
    low = catalog.load_hf(write(later | {"no_kda_lora": False})).spec
    assert spec.linear_params - low.linear_params == 2 * (2048 * inner - 128 * (2048 + inner))


def test_layers_that_share_keys_and_values_across(write):
    spec = catalog.load_hf(write(HUNYUAN_LARGE)).spec
    work = precision.workload_of(spec, context=1000.0)
    size = float(kv_bytes_per_sequence(spec, Partition(), work, PHYSICAL)) / 1000
    assert size == pytest.approx(32 * 2 * 8 * 80 * 2)
    assert (spec.experts, spec.top_k, spec.shared_experts) == (16, 1, 1)
    attention = 64 * 2 * 6400 * 6400 + 32 * 2 * 6400 * 640
    experts = 64 * (17 * 3 * 6400 * 18304 + 6400 * 16)
    total = attention + experts + 129024 * 6400
    assert float(params.total_params(spec)) == pytest.approx(total, rel=1e-9)
    dense = {**HUNYUAN_LARGE, "num_experts": 1, "use_cla": False}
    spec = catalog.load_hf(write(dense)).spec
    assert (spec.experts, spec.shared_experts, spec.shared_kv_layers) == (1, 0, 0)


def test_experts_of_images_are_stored_but_not_read(write):
    spec = catalog.load_hf(write(ERNIE_VL)).spec
    assert (spec.expert_ff, spec.shared_ff, spec.dense_layers) == (1536, 1536, 1)
    assert spec.idle_params == 27 * 64 * 2560 * (3 * 512 + 1)
    active = float(params.total_params(spec)) - 27 * 2560 * (58 * 3 * 1536 + 64 * (3 * 512 + 1))
    assert float(params.active_params(spec)) == active
    few = catalog.load_hf(write(ERNIE_VL | {"moe_num_experts": [64, 32]})).spec
    assert (few.experts, few.idle_params) == (64, spec.idle_params / 2)


# K2 Horizon: sizes of K2HorizonConfig and of the published 375B-A23B.
HORIZON = {
    "model_type": "k2_horizon",
    "vocab_size": 250624,
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "num_experts": 0,
    "num_experts_per_tok": 0,
    "num_shared_experts": 0,
    "mova_num_experts": 0,
    "mlp_only_layers": [],
}
HORIZON_375B = HORIZON | {
    "hidden_size": 6144,
    "num_hidden_layers": 61,
    "num_attention_heads": 48,
    "intermediate_size": 16128,
    "moe_intermediate_size": 1792,
    "num_experts": 192,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "mlp_only_layers": [0, 1, 2],
}
# mlx-community/Telechat3-36B-Thinking-4bit
TELECHAT_3 = {
    "model_type": "telechat3",
    "architectures": ["Telechat3ForCausalLM"],
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "num_attention_heads": 48,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 131072,
}


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [(HORIZON, 9.0e9, 9.0e9), (HORIZON_375B, 379e9, 26.7e9), (TELECHAT_3, 36.2e9, 36.2e9)],
)
def test_types_of_late_2026(write, config, total, active):
    """Names count without embeddings, which hold 2 billion of the 9, and 3 of the 26.7."""
    spec = catalog.load_hf(write(config)).spec
    assert float(params.total_params(spec)) == pytest.approx(total, rel=0.005)
    assert float(params.active_params(spec)) == pytest.approx(active, rel=0.005)


def test_experts_of_values_are_refused(write):
    """K2-Horizon-36B-A4B chooses 4 of 64 value projections a token."""
    (only,) = problems(write(HORIZON_375B | {"mova_num_experts": 64}))
    assert '"mova_num_experts" is 64: the model has experts of values' in only


@pytest.mark.parametrize(
    ("outer", "says"),
    [
        (
            {"model_type": "glm5_next", "text_config": LLAMA},
            "glm5_next, LlamaForCausalLM is not read: nearest is kimi_linear",
        ),
        (
            {"model_type": "bagel", "llm_config": LLAMA},
            "is not read: nearest is qwen2, but it has every layer twice",
        ),
        ({"model_type": "llada2_moe"}, "nearest is llama, but it writes blocks of tokens at once"),
        ({"model_type": "ultravox", "text_model_id": "a/b"}, "language model of its own, a/b: giv"),
    ],
)
def test_a_refused_type_is_refused_whatever_its_language_model_is_called(write, outer, says):
    (only,) = problems(write(outer))
    assert says in only


def test_blocks_without_attention_or_network(write):
    spec = catalog.load_hf(write(SUPER)).spec
    # Layers are what mixes tokens: two with attention, one with a plain product. The network of the
    # block without attention is theirs.
    assert (spec.layers, spec.kv_heads, spec.linear_layers, spec.bare_layers) == (3, 8, 1, 0)
    # Widths of 2/3 of the multiple, rounded up to 256: 28,672, 14,336 and 7,168.
    assert spec.expert_ff == pytest.approx((28672 + 14336 + 7168) / 3)
    attention = 2 * (2 * 8192 * 8192 + 2 * 8192 * 1024) + 8192 * 8192
    expected = attention + 3 * 8192 * (28672 + 14336 + 7168) + 2 * 128256 * 8192
    assert float(params.total_params(spec)) == pytest.approx(expected)


def test_caches_of_layers_that_differ(write):
    def cache(config, context):
        spec = catalog.load_hf(write(config)).spec
        work = precision.workload_of(spec, context=context)
        return float(kv_bytes_per_sequence(spec, Partition(), work, PHYSICAL))

    # MiMo: 9 layers of 4 heads of 192 + 128 keep all, 39 of 8 heads the last 128 tokens.
    step = cache(MIMO, 2e5) - cache(MIMO, 1e5)
    assert step == pytest.approx(1e5 * 9 * 4 * 320 * 2)
    assert cache(MIMO, 1e5) - step == pytest.approx(39 * 128 * 8 * 320 * 2)
    # Gemma 4 31B: 10 layers of 4 heads of 512, 50 of 16 heads of 256 the last 1,024.
    assert cache(GEMMA_4, 2e5) - cache(GEMMA_4, 1e5) == pytest.approx(1e5 * 10 * 2 * 4 * 512 * 2)
    # Gemma 3n: 4 of 7 full layers and 16 of 28 windowed ones have a cache of their own.
    built = json.loads((CONFIGS[0].parent.parent / "transformers_counts.json").read_text())
    small = built["counts"]["gemma3n_text"]["config"]
    assert cache(small, 2e4) - cache(small, 1e4) == pytest.approx(1e4 * 4 * 2 * 2 * 256 * 2)
    # Falcon-H1: a state in every layer beside its cache.
    both = catalog.load_hf(write(built["counts"]["falcon_h1"]["config"])).spec
    assert (both.layers, both.linear_layers, both.bare_layers) == (64, 32, 32)
    # Nemotron 3 Nano: 23 mixers keep 64 heads of 64 x 128 in 32 bits.
    nano = catalog.load_hf(write(NEMOTRON_3)).spec
    assert (nano.layers, nano.linear_layers, nano.bare_layers) == (29, 23, 6)
    assert nano.linear_state == 64 * 64 * 128


DEEPSEEK_V4_PRO = {
    "model_type": "deepseek_v4", "hidden_size": 7168, "num_hidden_layers": 61, "head_dim": 512,
    "vocab_size": 129280, "num_attention_heads": 128, "num_key_value_heads": 1, "q_lora_rank": 1536,
    "o_lora_rank": 1024, "o_groups": 16, "index_n_heads": 64, "index_head_dim": 128,
    "index_topk": 1024, "qk_rope_head_dim": 64, "moe_intermediate_size": 3072,
    "n_routed_experts": 384, "n_shared_experts": 1, "num_experts_per_tok": 6, "hc_mult": 4,
    "num_hash_layers": 3, "sliding_window": 128, "max_position_embeddings": 1048576,
    "compress_ratios": [128, 128, *[4, 128] * 29, 4, 0], "num_nextn_predict_layers": 1,
    "expert_dtype": "fp4",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip


def test_deepseek_v4_keeps_what_vllm_says_it_does(write):
    """9.62 GiB in BF16 at 2^20 tokens: https://blog.vllm.ai/2026/04/24/deepseek-v4.html."""
    entry = catalog.load_hf(write(DEEPSEEK_V4_PRO))
    spec, million = entry.spec, 2.0**20
    assert float(params.total_params(spec)) == pytest.approx(1.6e12, rel=0.02)
    assert float(params.active_params(spec)) == pytest.approx(49e9, rel=0.02)
    work = dataclasses.replace(precision.workload_of(spec, context=million), bytes_index=2.0)
    held = float(kv_bytes_per_sequence(spec, Partition(), work, PHYSICAL))
    # What compressors keep in FP32 of unfinished entries, which that figure leaves out.
    choosing, pooling = 8 * 2 * 2 * (512 + 128) * 4, 128 * 2 * 512 * 4
    assert (held - 30 * choosing - 31 * pooling) / 2**30 == pytest.approx(9.62, abs=0.005)
    entries, pooled = 30 * million / 4, 31 * million / 128
    by_hand = 2 * (512 * (entries + pooled + 61 * 128) + 128 * entries)
    assert held - 30 * choosing - 31 * pooling == pytest.approx(by_hand, rel=1e-12)
    attended = compute.attended_tokens(spec, work)
    read = float(traffic.kv_bytes(context(spec, work), attended, 1.0))
    assert read == pytest.approx(2 * (512 * (30 * 1024 + pooled + 61 * 128) + 128 * entries))
    assert (entry.modules["routed experts"], entry.weight_bytes) == ("fp4", 0.53125)
    assert entry.modules["attention"] == entry.modules["shared experts"] == "fp8"
    assert "compressors" in entry.note


@pytest.mark.parametrize("key", ["store_dtype", "routed_experts_quant_method"])
def test_experts_are_stored_in_four_bits_beside_fp8(write, key):
    """MiMo-V2.6-Flash is 173 GB (vLLM 0.33, recipes), of 309 billion parameters; it was 311 GB.

    Ling 3 says the same by another key: vLLM, models/bailing_moe_v3.py.
    """
    outputs = [f"model.layers.{layer}.self_attn.o_proj" for layer in range(48)]
    table = {"quant_method": "fp8", "weight_block_size": [128, 128], "ignored_layers": outputs}
    entry = catalog.load_hf(write(MIMO | {"quantization_config": {**table, key: "mxfp4"}}))
    model, part = entry.spec, Partition()
    work = precision.workload_of(model, context=1.0)
    held = float(weights_bytes(model, part, work, layout(model, part, PHYSICAL)))
    assert held == pytest.approx(173e9, rel=0.02)


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"compress_ratios": [4, 128]}, '"compress_ratios" has 2 of 61 layers'),
        ({"compress_ratios": [4, 128, 16] * 21}, '"compress_ratios" has 61 of 61 layers, unknown'),
        ({"expert_dtype": "int3"}, "unknown \"expert_dtype\" 'int3'; known: fp4, mxfp4, fp8"),
    ],
)
def test_compressions_that_are_none(write, change, start):
    (only,) = problems(write(DEEPSEEK_V4_PRO | change))
    assert only.startswith(start)


ZAMBA2 = {
    "model_type": "zamba2", "vocab_size": 32000, "hidden_size": 2560, "num_hidden_layers": 54,
    "hybrid_layer_ids": [6, 12, 18, 24, 30, 36, 42, 47, 51], "mamba_d_state": 64,
    "mamba_ngroups": 1, "n_mamba_heads": 80, "mamba_headdim": 64, "num_attention_heads": 32,
    "attention_head_dim": 160, "intermediate_size": 10240, "num_mem_blocks": 2,
    "adapter_rank": 128, "use_shared_attention_adapter": False,
}  # fmt: skip


def test_a_block_that_layers_have_in_common_is_held_once_and_read_each_time(write):
    spec = catalog.load_hf(write(ZAMBA2)).spec
    block = 14 * 2560**2 + 3 * 2560 * 10240
    mamba = 54 * (2560 * (5120 + 5248 + 80) + 5248 * 4 + 5120 * 2560)
    places = 9 * (2560**2 + 128 * (2560 + 2 * 10240))
    total = mamba + places + 2 * block + 32000 * 2560
    assert float(params.total_params(spec)) == pytest.approx(total, rel=1e-12)
    work, part = precision.workload_of(spec, context=1000.0), Partition()
    held = float(weights_bytes(spec, part, work, layout(spec, part, PHYSICAL)))
    assert held == pytest.approx(2 * (total + float(params.norm_params(spec))), rel=1e-12)
    step = decode_step(Records(spec, catalog.hardware("h100-sxm"), part, work), PHYSICAL)
    reads = float(step.hbm.attention_weights + step.hbm.routed + step.hbm.head)
    bandwidth = 3.35e12 * catalog.hardware("h100-sxm").eff_weight_read
    assert reads == pytest.approx(2 * (total + 7 * block) / bandwidth, rel=1e-3)
    assert cache_bytes_per_token(spec)["fp8_plain"] == 9 * 2 * 32 * 160


def test_the_width_of_falcon_mamba_is_that_of_its_tensors(write):
    """config.json of tiiuae/falcon-mamba-7b: `expand` 16 read 54.4 B parameters for its 7.27."""
    config = {
        "model_type": "falcon_mamba", "hidden_size": 4096, "num_hidden_layers": 64,
        "vocab_size": 65024, "expand": 16, "intermediate_size": 8192, "state_size": 16,
        "conv_kernel": 4, "time_step_rank": 256, "tie_word_embeddings": False,
    }  # fmt: skip
    spec = catalog.load_hf(write(config)).spec
    assert float(params.total_params(spec)) == pytest.approx(7.27e9, rel=2e-3)
    assert spec.linear_state == 8192 * 16
    other = catalog.load_hf(write(config | {"expand": 2, "intermediate_size": None})).spec
    assert other.linear_params == spec.linear_params


OTHERS = json.loads((CONFIGS[0].parent.parent / "published_configs.json").read_text("utf-8"))


@pytest.mark.parametrize("one", OTHERS, ids=lambda one: one["name"])
def test_files_of_models_have_the_totals_of_their_cards(write, one):
    """Models that transformers does not build, or builds of other keys.

    These are shapes written out by hand under the keys of each model's own code, not copies of
    files; MiMo-V2.5's order of windows is made up. Ring's active ones are the 0.957 and 6.1 B of
    its report (arXiv 2510.19338) and the embeddings. Totals are rounded as cards round them, that
    of DeepSeek-OCR is 2 * 129280 * 1280 + 12 * 4 * 1280^2 + 3 * 1280 * (6848 + 11 * 66 * 896).
    """
    spec = catalog.load_hf(write(one["config"])).spec
    assert float(params.total_params(spec)) == pytest.approx(one["total"], rel=0.025)
    if one["active"]:
        assert float(params.active_params(spec)) == pytest.approx(one["active"], rel=0.06)


@pytest.mark.parametrize(
    "change", [{"dim": None}, {"multiple_of": 0}, {"ffn_dim_multiplier": {}}, {"n_layers": 1e30}]
)
def test_odd_values_of_params_are_problems(change):
    (config,) = (one["config"] for one in OTHERS if one["name"] == "llama3-70b-params")
    with pytest.raises(ValueError, match="config:"):
        catalog.load_hf({**config, "sliding_window": [None, 4096], **change})


@pytest.mark.parametrize(
    ("name", "config", "stored", "kv"),
    [
        # 9 of 36 layers see all; FP8 of 512 + 64; MLC's scales are of 16 bits for 32 weights.
        ("params", "ministral-8b-params", 2.0, 9 * 2 * 8 * 128 * 2),
        ("params", "mistral-large-3-params", 1.0, 61 * 576 * 2),
        ("params", "llama3-70b-params", 2.0, 80 * 2 * 8 * 128 * 2),
        ("config", "trt-llama-405b", 1.0, 126 * 2 * 8 * 128),
        ("config", "trt-engine-qwen32b", 0.5625, 64 * 2 * 8 * 128),
        ("mlc-chat-config", "mlc-llama3-8b", 0.5 + 2 / 32, 32 * 2 * 8 * 128 * 2),
    ],
)
def test_configs_of_other_programs_in_place_of_their_model(tmp_path, name, config, stored, kv):
    """In the folder, and under the names, that those programs give them."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    (config,) = (one["config"] for one in OTHERS if one["name"] == config)
    (folder / f"{name}.json").write_text(json.dumps(config))
    entry = catalog.load_hf(folder)
    assert (entry.name, catalog.model(folder)) == ("my-model", entry.spec)
    assert catalog.load_hf(folder / f"{name}.json").name == "my-model"
    own = entry.spec.precision
    assert own.bytes_ffn_weight == stored

    def cache(context):
        work = precision.workload_of(entry.spec, context=context)
        return float(kv_bytes_per_sequence(entry.spec, Partition(), work, PHYSICAL))

    assert cache(2e5) - cache(1e5) == pytest.approx(1e5 * kv)


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({"dim": 4096, "n_layers": 32, "n_groups": 8}, "this is Mistral's params.json; give the"),
        ({"weight_map": {}}, "this is an index of weights; give the config.json beside it"),
        (
            {"peft_type": "LORA", "base_model_name_or_path": "a/b"},
            "this is of an adapter (LoRA); gi",
        ),
        ({"eos_token_id": 2, "temperature": 0.6}, "this is of how tokens are drawn; give the conf"),
        (
            {"architecture": "GPTForCausalLM", "hidden_size": 64, "mapping": {}},
            "this is a checkpoint of TensorRT-LLM; give the config.json beside it, or of the model",
        ),
        (
            LLAMA | {"model_type": "ouro", "architectures": []},
            "architecture ouro is not read: near",
        ),
        # Skywork-MoE has one for all layers; it was read as a dense model of 13.9 B.
        (LLAMA | {"num_experts": [16]}, '"num_experts" is 16: the model has experts, but its fam'),
        (LLAMA | {"num_local_experts": 8}, '"num_local_experts" is 8: the model has experts, but'),
        (LLAMA | {"kv_lora_rank": 512}, '"kv_lora_rank" is 512: the model has latent attention'),
        (LLAMA | {"index_topk": 512}, '"index_topk" is 512: the model chooses tokens by an index'),
        # Of a mixture with latent attention too: it was read as if it attended to every token.
        (
            RING_2_5 | {"index_topk": 2048},
            '"index_topk" is 2048: the model chooses tokens by an in',
        ),
        (LLAMA | {"mamba_d_state": 64}, '"mamba_d_state" is 64: the model has layers with a state'),
    ],
)
def test_files_that_say_more_than_their_family_are_refused(write, config, start):
    (only,) = problems(write(config))
    assert only.startswith(start)


def test_a_file_that_leaves_out_defaults_says_whose_file_to_give(write):
    inner = {"model_type": "ovis_x", "architectures": ["LlamaForCausalLM"], "vocab_size": 32064}
    inner |= {"_name_or_path": "lmsys/vicuna-7b-v1.5", "model_type": "seed_oss"}
    found = problems(write({"model_type": "llava_next", "text_config": inner}))
    assert any(
        one.endswith("the config.json of the language model, lmsys/vicuna-7b-v1.5") for one in found
    )


# Language models of wrappers, as their files on the Hub have them, with the parameters of the
# language model alone: those of the model that they name, for their larger or smaller vocabulary.
WRAPPED = [
    (
        "llava-hf/llava-1.5-7b-hf",
        {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064},
        6_738_415_616 + 64 * 2 * 4096,
    ),
    (
        "llava-hf/llava-v1.6-mistral-7b-hf",
        {"model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8}
        | {"max_position_embeddings": 32768, "sliding_window": None, "vocab_size": 32064},
        7_241_732_096 + 64 * 2 * 4096,
    ),
    (
        "mistral-community/pixtral-12b",
        {"model_type": "mistral", "hidden_size": 5120, "head_dim": 128, "num_hidden_layers": 40}
        | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 131072}
        | {"max_position_embeddings": 1024000, "sliding_window": None},
        12_247_782_400,
    ),
    (
        "google/paligemma-3b-pt-224",
        {"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384}
        | {"num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1}
        | {"vocab_size": 257216},
        2_506_172_416 + 1216 * 2048,
    ),
    (
        "Qwen/Qwen2-Audio-7B-Instruct",
        {"model_type": "qwen2", "intermediate_size": 11008, "max_position_embeddings": 8192}
        | {"vocab_size": 156032},
        # Qwen-7B with networks and biases of Qwen2: 32 layers and two tables of tokens.
        32 * (4 * 4096 * 4096 + 3 * 4096 * 11008) + 2 * 156032 * 4096,
    ),
]


@pytest.mark.parametrize(("name", "inner", "total"), WRAPPED)
def test_what_wrappers_leave_out_is_the_default_of_the_type(write, name, inner, total):
    outer = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
    spec = catalog.load_hf(write(outer | {"text_config": inner})).spec
    assert float(params.total_params(spec)) == pytest.approx(total, rel=1e-3)
    assert float(spec.window_layers) == 0  # a window that is null is none


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_the_defaults_are_those_of_transformers(name):
    """The configs that transformers saves of each class, which benchmarks/torch_counts counts."""
    counted = json.loads((CONFIGS[0].parent.parent / "transformers_counts.json").read_text())
    config = counted["counts"][name]["config"]
    assert {key: config.get(key) for key in LEFT_OUT[name]} == LEFT_OUT[name]


def test_a_head_of_deepseek_s_own_is_a_draft_head(write):
    """SGLang's lmsys/DeepSeek-R1-NextN: one layer of the model's shape."""
    config = with_experts("deepseek-v3", num_hidden_layers=1)
    config["architectures"] = ["DeepseekV3ForCausalLMNextN"]
    (only,) = problems(write(config))
    assert only.startswith("DeepseekV3ForCausalLMNextN is of a draft head")


def test_an_embedding_narrower_than_its_model_is_refused(write):
    """facebook/opt-350m was read with a table of twice its width."""
    config = {"model_type": "opt", "hidden_size": 1024, "ffn_dim": 4096, "vocab_size": 50272}
    config |= {"num_attention_heads": 16, "num_hidden_layers": 24, "word_embed_proj_dim": 512}
    config |= {"max_position_embeddings": 2048}
    (only,) = problems(write(config))
    assert only.startswith('"word_embed_proj_dim" is 512 and not as wide as the layers')
    spec = catalog.load_hf(write(config | {"word_embed_proj_dim": 1024})).spec
    assert float(spec.layers) == 24


def test_molmo_has_gate_and_up_in_one_width(write):
    """allenai/Molmo-7B-D-0924: Qwen2-7B, whose gate and up are 37,888 wide together."""
    config = {"model_type": "molmo", "hidden_size": 3584, "intermediate_size": 37888}
    config |= {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
    config |= {"vocab_size": 152064, "embedding_size": 152064, "tie_word_embeddings": False}
    spec = catalog.load_hf(write(config)).spec
    assert float(params.total_params(spec)) == pytest.approx(7_615_616_512, rel=1e-4)


# Qwen3-30B-A3B of 48 layers, 128 experts of 768.
QWEN = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "vocab_size": 151936,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "tie_word_embeddings": False,
}


def test_gates_and_what_comes_out_of_them_may_have_other_bits(write):
    """GPTQModel's `dynamic`, mlx-community's mixed_4_6: only `down_proj` and `v_proj` are wider."""
    table = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    table["dynamic"] = {"-:.*mlp.gate": {}, "+:.*down_proj": {"bits": 8, "group_size": 32}}
    found = catalog.load_hf(write(QWEN | {"quantization_config": table}))
    four, eight = 0.5 + 2.5 / 32, 1.0 + 3.0 / 32
    assert found.weight_dtype == "fp4"
    assert found.weight_bytes == pytest.approx((2 * four + eight) / 3)
    mlx = {"bits": 4, "group_size": 64, "mode": "affine"}
    mlx |= {f"model.layers.{i}.self_attn.v_proj": {"bits": 6, "group_size": 64} for i in range(48)}
    found = catalog.load_hf(write(QWEN | {"quantization": mlx}))
    # Of 2 x 4096 + 2 x 512 columns of attention the 512 of values.
    assert found.attn_bytes == pytest.approx(0.5625 + 0.25 * 512 / (2 * 4096 + 2 * 512))
    assert found.weight_bytes == 0


def test_w4afp8_has_four_bits_in_its_routed_experts_alone(write):
    """tencent/DeepSeek-V3.1-Terminus-W4AFP8 in SGLang: attention and shared experts are FP8."""
    table = {"quant_method": "w4afp8", "activation_scheme": "dynamic"}
    table |= {"weight_block_size": [128, 128], "moe_activation_scheme": "static"}
    found = catalog.load_hf(write(with_experts("deepseek-v3", quantization_config=table)))
    kinds = ("attention", "attention output", "routed experts", "shared experts", "dense layers")
    assert [found.modules[kind] for kind in kinds] == ["fp8", "fp8", "fp4", "fp8", "fp8"]
    assert (found.weight_bytes, found.multiply_dtype) == (0.5 + 2 / 128, "fp8")


@pytest.mark.parametrize(
    ("table", "dtype", "stored"),
    [
        # ModelOpt's integers have a scale for a group, and not one for 16 as NVFP4 has.
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "fp4", 0.5 + 2 / 128),
        (
            {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": 64},
            "fp4",
            0.5 + 2 / 64,
        ),
        # AutoAWQ's own spelling, which vLLM reads too.
        (
            {"quant_method": "awq", "w_bit": 4, "q_group_size": 128, "version": "GEMM"},
            "fp4",
            0.5 + 2.5 / 128,
        ),
        # meituan/DeepSeek-R1-Block-INT8, microsoft/bitnet-b1.58-2B-4T.
        ({"quant_method": "blockwise_int8", "weight_block_size": [128, 128]}, "fp8", 1.0),
        ({"quant_method": "bitnet", "linear_class": "autobitlinear"}, "fp4", 0.25),
        # Names of TensorRT-LLM and ModelOpt; scales of rows weigh nothing, zeros half a byte.
        ({"quant_method": "modelopt", "quant_algo": "FP8_BLOCK_SCALES"}, "fp8", 1.0),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4_SVD"}, "fp4", 0.5625),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_MXFP4_MXFP8"}, "fp4", 0.53125),
        (
            {"quant_method": "modelopt", "quant_algo": "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN"},
            "fp8",
            1.0,
        ),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_QSERVE_PER_CHANNEL"}, "fp4", 0.5),
        (compressed(type="int", group_size=128, symmetric=False), "fp4", 0.5 + 2.5 / 128),
        (compressed(type="int", strategy="channel"), "fp4", 0.5),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "int4", "qscheme": "per_channel"}},
            },
            "fp4",
            0.5,
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": None},
                "layer_type_quant_config": {"Linear": {"weight": {"dtype": "fp8_e4m3"}}},
            },
            "fp8",
            1.0,
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": "int4_weight_only",
                "quant_type_kwargs": {"group_size": 64},
            },
            "fp4",
            0.5 + 2.5 / 64,
        ),
        # optimum-quanto and HIGGS, by transformers' QuantoConfig and HiggsConfig.
        ({"quant_method": "quanto", "weights": "int8", "activations": None}, "fp8", 1.0),
        ({"quant_method": "quanto", "weights": "int4"}, "fp4", 0.5 + 2.5 / 128),
        ({"quant_method": "quanto", "weights": "float8"}, "fp8", 1.0),
        ({"quant_method": "higgs", "bits": 4, "group_size": 256, "p": 2}, "fp4", 0.5 + 2 / 256),
        ({"quant_method": "ptpc_fp8"}, "fp8", 1.0),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {
                    "_type": "MXDynamicActivationMXWeightConfig",
                    "_data": {"weight_dtype": {"_data": "float4_e2m1fn_x2", "_type": "torch.dtype"},
                              "block_size": 32},
                }},
            },
            "fp4",
            0.53125,
        ),
    ],
)  # fmt: skip
def test_more_formats(write, table, dtype, stored):
    found = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
    assert found.weight_dtype == dtype
    assert found.spec.precision.bytes_ffn_weight == pytest.approx(stored)


def test_step_3_has_queries_in_two_factors(write):
    (one,) = (one for one in OTHERS if one["name"] == "step3")
    spec = catalog.load_hf(write(one["config"])).spec
    d, inner = 7168, 64 * 256
    attention = 61 * (d * 2048 + 2048 * inner + inner * d + 2 * d * 256)
    networks = 3 * d * (56 * 49 * 5120 + 5 * 18432) + 56 * d * 48
    total = attention + networks + 2 * 128815 * d
    assert float(params.total_params(spec)) == pytest.approx(total, rel=1e-9)
    # One key and one value of 256 a token and layer.
    assert cache_bytes_per_token(spec)["fp8_plain"] == 61 * 2 * 256


def test_modules_of_deepseek_v4_in_two_formats(write):
    """RedHatAI/DeepSeek-V4-Flash-NVFP4-FP8: its file says MXFP4 experts, its table NVFP4."""
    weights = {"num_bits": 8, "type": "float", "block_structure": [128, 128], "strategy": "block"}
    fours = {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group"}
    names = ("re:.*attn.*(fused_wqa_wkv|wq_b|wo_a|wo_b)$", "re:.*ffn.*(gate|up|down)_proj$")
    groups = {
        f"group_{at}": {"targets": [name], "weights": one, "input_activations": one}
        for at, (name, one) in enumerate(zip(names, (weights, fours), strict=True))
    }
    table = {"quant_method": "compressed-tensors", "config_groups": groups}
    entry = catalog.load_hf(write(DEEPSEEK_V4_PRO | {"quantization_config": table}))
    assert entry.modules == {
        "attention": "fp8", "attention output": "fp8", "routed experts": "fp4",
        "shared experts": "fp4",
    }  # fmt: skip
    assert entry.weight_bytes == 0.0  # NVFP4, not MXFP4


def test_step_3_7_has_dense_layers_only_in_front(write):
    (one,) = (one for one in OTHERS if one["name"] == "step-3.7")
    spec = catalog.load_hf(write(one["config"])).spec
    assert (spec.dense_layers, spec.window_layers, spec.experts) == (3, 33, 288)


# nvidia/DeepSeek-V4-Flash-NVFP4 and -Pro-NVFP4, config.json and hf_quant_config.json (2026-06).
NVFP4_EXPERTS = {
    "quant_algo": "MIXED_PRECISION",
    "kv_cache_quant_algo": None,
    "group_size": 16,
    "quantized_layers": {
        f"layers.{n}.ffn.experts": {"quant_algo": "NVFP4", "group_size": 16} for n in range(43)
    },
}
SECOND_RUN = ["*.attn.*", "*.ffn.shared_experts.*", "head", "mtp.*"]


@pytest.mark.parametrize("beside", [False, True])
def test_experts_that_were_quantised_anew_leave_the_rest_as_it_was(tmp_path, beside):
    """Their lists of exempt modules are of the second run: attention stays in the FP8 of the first.

    16 bits of attention and shared experts are 6.2e9 B too many of DeepSeek-V4-Flash.
    """
    (path,) = (one for one in CONFIGS if one.stem == "deepseek-v4-flash")
    config = json.loads(path.read_text())
    table = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    config["quantization_config"] = (
        table | NVFP4_EXPERTS | {"moe_quant_algo": "NVFP4", "ignore": SECOND_RUN}
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    if beside:
        told = {"quantization": NVFP4_EXPERTS | {"exclude_modules": SECOND_RUN}}
        (tmp_path / "hf_quant_config.json").write_text(json.dumps(told))
    entry = catalog.load_hf(tmp_path / "config.json")
    assert (entry.weight_dtype, entry.attn_weight_dtype) == ("fp4", "fp8")
    precision = entry.spec.precision
    assert (precision.bytes_ffn_weight, precision.bytes_attn_weight) == (0.5625, 1.0)
    assert precision.bytes_ffn_weight * precision.shared_weight_ratio == 1.0


@pytest.mark.parametrize(
    ("name", "kv_heads", "head_dim"),
    [("mistral", 8, 128), ("gpt_oss", 8, 64), ("gemma2", 4, 256), ("llama", 32, 128)],
)
def test_groups_that_a_config_leaves_out_are_those_of_its_class(write, name, kv_heads, head_dim):
    """Not a KV head for each head: transformers 5.24, models/*/configuration_*.py."""
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2} if name == "gpt_oss" else {}
    config = LLAMA | {"model_type": name, "num_attention_heads": 32, "hidden_size": 4096} | experts
    left = {k: v for k, v in config.items() if k not in ("num_key_value_heads", "head_dim")}
    left.pop("architectures", None)
    spec = catalog.load_hf(write(left)).spec
    assert (spec.kv_heads, spec.head_dim) == (kv_heads, head_dim)
    inner = catalog.load_hf(write({"model_type": "llava", "text_config": left})).spec
    assert (inner.kv_heads, inner.head_dim) == (kv_heads, head_dim)
    null = catalog.load_hf(write(left | {"num_key_value_heads": None})).spec
    assert null.kv_heads == 32


def test_lists_of_layers_that_are_left_out(write):
    (path,) = (one for one in CONFIGS if one.stem == "kimi-k3")
    config = json.loads(path.read_text())
    text = config.get("text_config", config)
    whole = catalog.load_hf(write(config)).spec
    text["linear_attn_config"].pop("kda_layers")
    assert catalog.load_hf(write(config)).spec.linear_layers == whole.linear_layers
    (path,) = (one for one in CONFIGS if one.stem == "mimo-v2-flash")
    config = json.loads(path.read_text())
    config.pop("moe_layer_freq")
    with pytest.raises(ValueError, match='missing "moe_layer_freq", which says'):
        catalog.load_hf(write(config))


def test_experts_beside_mxfp8(write):
    """MiniMax-M3.1 as RTP-LLM reads it; a byte of scales for 32 weights, or for 16."""
    (path,) = (one for one in CONFIGS if one.stem == "minimax-m3")
    config = json.loads(path.read_text())
    config["quantization_config"] = {"quant_method": "mxfp8", "moe_quant_algo": "NVFP4"}
    precision = catalog.load_hf(write(config)).spec.precision
    assert (precision.bytes_ffn_weight, precision.bytes_attn_weight) == (0.5625, 1.03125)


def test_modelopt_s_own_file_within_the_config(write):
    own = {"quant_algo": "NVFP4_AWQ", "exclude_modules": ["lm_head"], "kv_cache_quant_algo": "FP8"}
    for table in ({"quantization": own}, {"quant_method": "modelopt", "quantization": own}):
        entry = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
        assert (entry.weight_dtype, entry.kv_dtype) == ("fp4", "fp8")


@pytest.mark.parametrize(
    ("table", "head", "embedding"),
    [
        ({"bits": 4, "group_size": 64}, 0.5625, 0.5625),
        ({"bits": 4, "group_size": 64, "lm_head": False}, 2, 0.5625),
        ({"bits": 4, "group_size": 64, "model.embed_tokens": False}, 0.5625, 2),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 2, 2),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True}, 0.51953125, 2),
        (
            {
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {"lm_head": {"quant_algo": "FP8"}},
            },
            1,
            2,
        ),
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]}, 2, 2),
    ],
)
def test_head_and_embedding_of_few_bits_count_in_them(write, table, head, embedding):
    entry = catalog.load_hf(write(LLAMA | {"quantization_config": table}))
    precision = entry.spec.precision
    assert precision.bytes_head_weight == head
    assert precision.bytes_embedding_weight == embedding
    assert ("head" in entry.modules, "embedding" in entry.modules) == (head < 2, embedding < 2)
