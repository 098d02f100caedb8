"""How each family of Hugging Face configs names the fields of `ModelSpec`.

A rule reads "key|other key = default": the first present key, else the default, which may be an
earlier field or two of them ("hidden/heads"). Without a default the key is required; without a
key the rule is a constant.
"""

import dataclasses
from collections.abc import Mapping

from qsjax.catalog import layers, mixers, selective
from qsjax.catalog.layers import Part
from qsjax.catalog.modules import Names
from qsjax.records.specs import INDEX_KEY


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Names of one family's fields, and the parts that decide the kinds of its layers.

    `types` are values of `model_type`, or names in `architectures`, which take precedence.
    `state_bytes` is what engines take for an element of its recurrent state where no key says so,
    `index_bytes` for one of its index keys. `names` are those of groups of modules that quantised
    checkpoints call otherwise than those of most families. `note` says what of it is read roughly
    or left out.
    """

    types: tuple[str, ...]
    fields: Mapping[str, str]
    parts: tuple[Part, ...] = ()
    state_bytes: float = 4.0
    index_bytes: float = INDEX_KEY
    names: Names = dataclasses.field(default_factory=dict)
    note: str = ""


_SIZES = {
    "layers": "num_hidden_layers|num_layers|n_layer|n_layers",
    "hidden": "hidden_size|n_embd|n_embed|d_model",
    "vocab": "vocab_size|padded_vocab_size",
    "heads": "num_attention_heads|n_head|n_heads",
    "tied_embeddings": "tie_word_embeddings = 0",
}
_GROUPED = _SIZES | {
    "kv_heads": "num_key_value_heads = heads",
    "head_dim": "head_dim = hidden/heads",
}
_LATENT = _SIZES | {
    "kv_heads": "= heads",
    "kv_latent": "kv_lora_rank",
    "rope_dim": "qk_rope_head_dim",
    "q_lora_rank": "q_lora_rank = 0",
    "qk_nope_dim": "qk_nope_head_dim",
    "v_head_dim": "v_head_dim",
    "head_dim": "= qk_nope_dim+rope_dim",
}
_DENSE = _GROUPED | {"expert_ff": "intermediate_size"}
_ALL_ROUTED = _GROUPED | {
    "expert_ff": "intermediate_size",
    "experts": "num_local_experts|num_experts",
    "top_k": "num_experts_per_tok|experts_per_token",
}
_EXPERTS = {
    "expert_ff": "moe_intermediate_size",
    "experts": "n_routed_experts|num_experts|num_local_experts",
    "top_k": "num_experts_per_tok|num_experts_per_token|moe_topk",
    "dense_ff": "intermediate_size = 0",
}
_ALIKE = _EXPERTS | {
    "shared_experts": "n_shared_experts|num_shared_experts|moe_num_shared_experts = 0",
    "shared_ff": "moe_shared_expert_intermediate_size|moe_intermediate_size",
}
_ROUTED, _SHARED, _LATENT_SHARED = _GROUPED | _EXPERTS, _GROUPED | _ALIKE, _LATENT | _ALIKE
_ONE_SHARED = _ROUTED | {"shared_ff": "shared_expert_intermediate_size = 0"}
_INDEXED = _LATENT_SHARED | {
    "index_layers": "= layers",
    "sparse_topk": "index_topk",
    "index_heads": "index_n_heads",
    "index_dim": "index_head_dim",
}
_PLAIN = {"ffn_matrices": "= 2"}
_PLAIN_FOUR_WIDE = _DENSE | _PLAIN | {"expert_ff": "n_inner|ffn_hidden_size|ffn_dim = hidden*4"}
# Without attention heads say how far channels may be split.
_NO_HEADS = {"heads": "= hidden", "kv_heads": "= 1", "head_dim": "= 1", "expert_ff": "= 0"}
_TIED = {"tied_embeddings": "tie_word_embeddings = 1"}
_LEFT = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings"),
)
# Gemma 3 configs leave out what equals the defaults of Gemma3TextConfig.
_GEMMA3 = {
    "vocab": "vocab_size = 262208",
    "heads": "num_attention_heads = 8",
    "kv_heads": "num_key_value_heads = 4",
    "head_dim": "head_dim = 256",
}

FAMILIES: dict[str, Family] = {
    "llama": Family(
        types=(
            *("llama", "granite", "glm", "glm4", "glm4v_text", "seed_oss", "olmo", "olmo2"),
            *("exaone", "ministral3", "hunyuan_v1_dense", "mimo", "solar", "stablelm", "helium"),
            *("internlm2", "internlm3", "hyperclovax", "qwen2_5_omni_text", "cwm", "bitnet"),
            *("iquestcoder", "emu3_text_model", "glm_ocr_text", "granite4_vision_text"),
            *("granite_docling_text", "chameleon", "molmo2_text", "baichuan", "xverse", "orion"),
            *("aquila", "internlm", "skywork", "minicpmv", "minicpmo", "PanguEmbedded"),
        ),
        fields=_DENSE,
    ),
    "gemma": Family(
        types=("gemma", "ernie4_5", "cohere", "paddleocr_vl_text", "hunyuan_vl_text", "minicpm"),
        fields=_DENSE | _TIED,
    ),
    "smollm3": Family(
        types=("smollm3",), fields=_DENSE | _TIED, parts=(layers.window_from_a_layer_on,)
    ),
    "qwen_1": Family(
        types=("qwen",),
        fields=_DENSE | {"head_dim": "kv_channels = hidden/heads"},
        parts=(layers.half_of_the_width,),
    ),
    "molmo": Family(
        types=("molmo",),
        fields=_DENSE | {"vocab": "embedding_size|vocab_size"},
        parts=(layers.half_of_the_width,),
    ),
    "telechat": Family(
        types=("telechat",), fields=_DENSE | {"expert_ff": "ffn_hidden_size|intermediate_size"}
    ),
    "jais": Family(types=("jais",), fields=_DENSE | _TIED | {"expert_ff": "n_inner = hidden*4"}),
    "chatglm": Family(
        types=("chatglm",),
        fields=_DENSE
        | {
            "kv_heads": "multi_query_group_num = heads",
            "head_dim": "kv_channels = hidden/heads",
            "expert_ff": "ffn_hidden_size",
        },
    ),
    "plain": Family(
        types=(
            *("arcee", "apertus", "apertus1p5_text", "nemotron", "phi", "gpt_neox", "persimmon"),
            *("jais2", "nanochat", "cosmos3_edge_text"),
        ),
        fields=_DENSE | _PLAIN,
    ),
    "starcoder2": Family(
        types=("starcoder2",), fields=_DENSE | _PLAIN | _TIED, parts=(layers.window_everywhere,)
    ),
    "gpt2": Family(
        types=("gpt2", "gpt_bigcode"),
        fields=_PLAIN_FOUR_WIDE | _TIED | {"kv_heads": "num_key_value_heads = heads"},
        parts=(layers.one_head_of_keys, layers.positions),
    ),
    "gptj": Family(types=("gptj", "codegen"), fields=_PLAIN_FOUR_WIDE),
    "opt": Family(
        types=("opt",),
        fields=_PLAIN_FOUR_WIDE | _TIED,
        parts=(layers.positions, layers.no_narrow_embedding),
    ),
    "bloom": Family(types=("bloom",), fields=_PLAIN_FOUR_WIDE | _TIED),
    "mpt": Family(
        types=("mpt",),
        fields=_PLAIN_FOUR_WIDE
        | _TIED
        | {"kv_heads": "attn_config.kv_n_heads = heads", "expert_ff": "= hidden*4"},
    ),
    "falcon": Family(
        types=("falcon",), fields=_PLAIN_FOUR_WIDE | _TIED, parts=(layers.falcon_heads,)
    ),
    "nemotron_nas": Family(
        types=("nemotron-nas", "DeciLMForCausalLM"),
        fields=_GROUPED | {"kv_heads": "= heads", "expert_ff": "= 0"},
        parts=(layers.pruned_blocks,),
    ),
    "mllama": Family(types=("mllama_text_model",), fields=_DENSE, parts=(mixers.cross_attention,)),
    "mistral": Family(
        types=(
            *("mistral", "ministral", "voxtral_realtime_text"),
            *("phi3", "phi3_v", "phi4mm", "phi4_multimodal", "phi4-siglip"),
        ),
        fields=_DENSE,
        parts=(layers.window_everywhere,),
    ),
    "qwen": Family(
        types=(
            *("qwen2", "qwen3", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"),
            *("qwen3_vl_text", "dots_ocr", "Keye", "KeyeVL1_5"),
        ),
        fields=_DENSE,
        parts=(layers.window_from_a_layer_on,),
    ),
    "gemma2": Family(
        types=("gemma2", "vaultgemma"), fields=_DENSE | _TIED, parts=(layers.window_every_other,)
    ),
    "gemma3": Family(
        types=("gemma3", "gemma3_text"),
        fields=_DENSE | _TIED | _GEMMA3,
        parts=(layers.window_but_every_nth,),
    ),
    "cohere2": Family(
        types=("cohere2",), fields=_DENSE | _TIED, parts=(layers.window_but_every_fourth,)
    ),
    "exaone4": Family(
        types=("exaone4", "olmo3"), fields=_DENSE, parts=(layers.window_but_every_fourth,)
    ),
    "granite_swa": Family(
        types=("granite_swa",), fields=_DENSE, parts=(layers.window_where_listed,)
    ),
    "muse_glimmer": Family(
        types=("muse_glimmer_text",),
        fields=_DENSE,
        parts=(layers.output_gate, layers.window_where_listed),
    ),
    "gemma3n": Family(
        types=("gemma3n_text", "gemma4_text", "gemma4_unified_text"),
        fields=_DENSE | _TIED,
        parts=(layers.gemma_layers, layers.gemma_experts),
        # Experts stand beside the network of a layer, not in it.
        names={
            "routed experts": ("experts.0.down_proj", "moe.experts.0.down_proj"),
            "shared experts": ("mlp.down_proj",),
        },
    ),
    "mixtral": Family(
        types=("mixtral", "phimoe"), fields=_ALL_ROUTED, parts=(layers.window_everywhere,)
    ),
    "olmoe": Family(types=("olmoe", "granitemoe", "flex_olmo"), fields=_ALL_ROUTED),
    "granitemoe_swa": Family(
        types=("granitemoe_swa",),
        fields=_ALL_ROUTED,
        parts=(layers.one_shared_of_all, layers.window_where_listed),
    ),
    "aria": Family(
        types=("aria_text",),
        fields=_ALL_ROUTED
        | {
            "experts": "moe_num_experts",
            "top_k": "moe_topk",
            "shared_experts": "moe_num_shared_experts = 0",
            "shared_ff": "intermediate_size",
        },
    ),
    "muse_spark": Family(
        types=("muse_spark_text",),
        fields=_ROUTED,
        parts=(
            layers.first_layers_dense,
            layers.output_gate,
            layers.window_where_listed,
            selective.narrowed_experts,
        ),
    ),
    "minimax": Family(
        types=("minimax_m2", "minimax_text_01", "minimax_m1", "minimax"),
        fields=_ALL_ROUTED,
        parts=(mixers.lightning,),
        # vLLM, `linear_attention_state_dtype`: that of the model, and float32 is refused.
        state_bytes=2.0,
    ),
    "minimax_m3": Family(
        types=("minimax_m3", "minimax_m3_vl", "minimax_m3_vl_text", "minimax_m3_text"),
        fields=_ALL_ROUTED
        | {
            "shared_experts": "n_shared_experts = 1",
            "shared_ff": "shared_intermediate_size = 0",
            "dense_ff": "dense_intermediate_size = 0",
        },
        parts=(layers.listed_as_routed, selective.choice_of_blocks),
        # vLLM and SGLang keep its index keys in BF16 unless they are asked for else.
        index_bytes=2.0,
    ),
    "gpt_oss": Family(types=("gpt_oss",), fields=_ALL_ROUTED, parts=(layers.window_every_other,)),
    "grok-1": Family(types=("Grok1ModelForCausalLM", "grok-1"), fields=_ALL_ROUTED | _TIED),
    "grok-2": Family(
        types=("Grok1ForCausalLM",),
        fields={
            "shared_experts": "residual_moe = 0",
            "shared_ff": "intermediate_size",
            **_ALL_ROUTED,
            "expert_ff": "moe_intermediate_size = shared_ff",
        },
    ),
    "qwen_moe": Family(
        types=(
            *("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"),
            "interns1_pro_text",
        ),
        fields=_ONE_SHARED,
        parts=(layers.sparse_step, layers.one_shared_expert, layers.window_from_a_layer_on),
    ),
    "pangu_moe": Family(
        types=("PanguProMoE",), fields=_ONE_SHARED, parts=(layers.one_shared_expert,)
    ),
    "pangu_ultra": Family(
        types=("pangu_ultra_moe",),
        fields=_LATENT_SHARED
        | {
            "kv_latent": "attention_kv_lora_dim|kv_lora_rank",
            "rope_dim": "attention_qk_rope_dim|qk_rope_head_dim",
            "q_lora_rank": "attention_q_lora_dim|q_lora_rank = 0",
            "qk_nope_dim": "attention_qk_dim|qk_nope_head_dim",
            "v_head_dim": "attention_v_dim|v_head_dim",
            "head_dim": "= qk_nope_dim+rope_dim",
            "experts": "num_routed_experts|n_routed_experts",
            "shared_experts": "num_shared_experts|n_shared_experts = 0",
        },
        parts=(layers.first_layers_named,),
    ),
    "arctic": Family(
        types=("arctic",),
        fields=_ALL_ROUTED
        | {"shared_experts": "use_residual = 1", "shared_ff": "= hidden"}
        | {"dense_ff": "intermediate_size"},
        parts=(layers.every_nth_routed,),
    ),
    "flint": Family(
        types=("flint", "kolibri1"),
        fields=_ONE_SHARED,
        parts=(layers.sparse_step, layers.one_shared_expert, layers.window_where_listed),
    ),
    "laguna": Family(
        types=("laguna",),
        fields=_ONE_SHARED,
        parts=(
            layers.first_layers_dense,
            layers.one_shared_expert,
            selective.heads_of_layers,
            layers.window_where_listed,
        ),
    ),
    "lara_mini": Family(
        types=("lara_mini",),
        fields=_ONE_SHARED | _TIED,
        parts=(layers.one_shared_expert, mixers.gated_delta_net, layers.window_where_listed),
    ),
    "qwen3_next": Family(
        types=("qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text"),
        fields=_ONE_SHARED,
        parts=(
            layers.sparse_step,
            layers.one_shared_expert,
            layers.output_gate,
            mixers.gated_delta_net,
        ),
    ),
    "qwen3_5": Family(
        types=("qwen3_5", "qwen3_5_text"),
        fields=_DENSE,
        parts=(layers.output_gate, mixers.gated_delta_net),
    ),
    "olmo_hybrid": Family(types=("olmo_hybrid",), fields=_DENSE, parts=(mixers.gated_delta_net,)),
    "kimi_linear": Family(
        types=("kimi_linear", "kimi_k3"),
        fields=_LATENT_SHARED,
        parts=(layers.first_layers_dense, mixers.kimi_linear, selective.narrowed_experts),
    ),
    "solar_open2": Family(
        types=("solar_open2",),
        fields=_SHARED,
        parts=(layers.first_layers_dense, mixers.deltas_beside_grouped),
    ),
    "gigachat3_5": Family(
        types=("gigachat3_5",),
        fields=_LATENT_SHARED,
        parts=(layers.first_layers_dense, mixers.deltas_beside_latents),
    ),
    "bailing_hybrid": Family(
        types=("bailing_hybrid",),
        fields=_LATENT_SHARED,
        parts=(layers.first_layers_dense, mixers.bailing_hybrid),
    ),
    "bailing_moe_linear": Family(
        types=("bailing_moe_linear",),
        fields=_SHARED,
        parts=(layers.first_layers_dense, mixers.lightning),
    ),
    "bailing_moe_v2_5": Family(
        # Their model_type is that of Ling 2.6 and 3.0.
        types=("bailing_moe_v2_5", "BailingMoeV2_5ForCausalLM"),
        fields=_LATENT_SHARED,
        parts=(layers.first_layers_dense, mixers.lightning_but_last),
        # vLLM, as for MiniMax.
        state_bytes=2.0,
    ),
    "longcat_flash": Family(
        types=("longcat_flash",),
        fields=_LATENT
        | {
            "expert_ff": "expert_ffn_hidden_size",
            "experts": "n_routed_experts",
            "top_k": "moe_topk",
            "dense_ff": "ffn_hidden_size",
        },
        parts=(layers.twice_a_layer,),
    ),
    "minicpm3": Family(
        types=("minicpm3", "youtu"), fields=_LATENT | _TIED | {"expert_ff": "intermediate_size"}
    ),
    "bamba": Family(types=("bamba",), fields=_DENSE, parts=(mixers.mamba2_but_attention,)),
    "zamba": Family(
        types=("zamba", "zamba2"),
        fields=_DENSE
        | _TIED
        | {
            "head_dim": "attention_head_dim",
            "expert_ff": "intermediate_size|ffn_hidden_size = hidden*4",
        },
        parts=(mixers.shared_transformer,),
    ),
    "granite_hybrid": Family(
        types=("granitemoehybrid", "granitemoeshared"),
        fields=_ALL_ROUTED,
        parts=(layers.one_shared_of_all, mixers.mamba2_where_listed),
    ),
    "falcon_h1": Family(
        types=("falcon_h1",), fields=_DENSE, parts=(mixers.mamba2_beside_attention,)
    ),
    "jamba": Family(types=("jamba",), fields=_ALL_ROUTED, parts=(mixers.jamba,)),
    "mamba": Family(
        types=("mamba", "falcon_mamba"),
        fields=_SIZES | _TIED | _NO_HEADS,
        parts=(mixers.mamba_only,),
    ),
    "mamba2": Family(
        types=("mamba2",),
        fields=_SIZES | _NO_HEADS | {"heads": "num_heads"},
        parts=(mixers.mamba2_only,),
    ),
    "nemotron_h": Family(
        types=("nemotron_h",),
        fields=_DENSE | _PLAIN | {"layers": "num_hidden_layers = 1"},
        parts=(mixers.nemotron_h, selective.narrowed_experts),
    ),
    "lfm2": Family(
        types=("lfm2",),
        fields=_DENSE | _TIED | {"expert_ff": "block_ff_dim|intermediate_size"},
        parts=(layers.adjusted_width, mixers.short_convolution),
    ),
    "lfm3": Family(
        types=("lfm3",),
        fields=_DENSE | _TIED,
        parts=(mixers.short_convolution, selective.gate_of_heads, layers.window_where_listed),
    ),
    "lfm2_moe": Family(
        types=("lfm2_moe",),
        fields=_ROUTED | _TIED,
        parts=(layers.first_layers_named, mixers.short_convolution),
    ),
    "mimo_v2": Family(
        types=("mimo_v2_flash", "mimo_v2"),
        fields=_SHARED,
        parts=(layers.listed_as_routed, layers.mimo_window),
    ),
    "step3p5": Family(
        types=("step3p5", "step3p7"),
        fields=_ROUTED
        | {
            "kv_heads": "num_attention_groups|num_key_value_heads",
            "experts": "moe_num_experts|n_routed_experts|num_experts",
            "top_k": "moe_top_k|num_experts_per_tok",
            "shared_experts": "= 1",
            "shared_ff": "share_expert_dim|share_expert_dims",
        },
        parts=(layers.step_experts, layers.step_window),
    ),
    "step3": Family(
        types=("step3_text",),
        fields=_ROUTED
        | {
            "kv_heads": "num_attention_groups",
            "experts": "moe_num_experts",
            "top_k": "moe_top_k",
            "shared_experts": "= 1",
            "shared_ff": "share_expert_dim",
        },
        parts=(layers.step_experts, selective.factored_query),
    ),
    "ernie4_5_moe": Family(
        types=("ernie4_5_moe",),
        fields=_SHARED | _TIED | {"experts": "moe_num_experts", "top_k": "moe_k"},
        parts=(layers.between,),
    ),
    "ernie4_5_vl": Family(
        types=("ernie4_5_vl_moe_text", "ernie4_5_moe_vl"),
        fields=_ROUTED
        | _TIED
        | {
            "expert_ff": "moe_intermediate_size.0|moe_intermediate_size",
            "experts": "moe_num_experts.0|moe_num_experts",
            "top_k": "moe_k",
            "shared_experts": "moe_num_shared_experts = 0",
            "shared_ff": "moe_intermediate_size.0|moe_intermediate_size",
        },
        parts=(layers.between, selective.experts_for_images),
        note="experts for images alone are held, and no token of text uses them",
    ),
    "hunyuan_moe": Family(
        types=("hunyuan_v1_moe", "hunyuan"),
        fields=_GROUPED
        | {
            "expert_ff": "moe_intermediate_size|intermediate_size",
            "head_dim": "head_dim|attention_head_dim = hidden/heads",
            "experts": "num_experts = 1",
            "top_k": "moe_topk = 1",
            "shared_experts": "num_shared_expert = 1",
            "shared_ff": "intermediate_size",
        },
        parts=(selective.cross_layer_cache,),
    ),
    "afmoe": Family(
        types=("afmoe",),
        fields=_SHARED,
        parts=(layers.first_layers_named, layers.output_gate, layers.window_but_every_fourth),
    ),
    "beam": Family(
        types=("beam",),
        fields=_ROUTED,
        parts=(layers.first_layers_dense, layers.output_gate, layers.window_where_listed),
    ),
    "inkling": Family(
        types=("inkling_text",),
        fields=_SHARED,
        parts=(layers.first_layers_dense, selective.inkling),
    ),
    "exaone_moe": Family(
        types=("exaone_moe",),
        fields=_SHARED,
        parts=(layers.first_layers_dense, layers.window_but_every_fourth),
    ),
    "cohere2_moe": Family(
        types=("cohere2_moe",),
        fields=_ALL_ROUTED
        | _TIED
        | {
            "shared_experts": "num_shared_experts = 0",
            "shared_ff": "intermediate_size",
            "dense_ff": "prefix_dense_intermediate_size = 0",
        },
        parts=(layers.first_layers_dense, layers.window_but_every_fourth),
    ),
    "dots1": Family(
        types=("dots1", "mellum", "unlimited_ocr_text"),
        fields=_SHARED,
        parts=(layers.first_layers_dense, layers.window_where_listed),
    ),
    "deepseek": Family(
        types=(
            *("deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", "glm4_moe_lite", "mistral4"),
            *("sarvam_mla", "axk1", "dots_vlm", "deepseek_vl_v2"),
        ),
        fields=_LATENT_SHARED,
        parts=(layers.first_layers_dense,),
    ),
    "deepseek_sparse": Family(
        types=("deepseek_v32", "glm_moe_dsa"),
        fields=_INDEXED,
        parts=(layers.first_layers_dense, selective.sparse_index),
    ),
    "deepseek_v4": Family(
        types=("deepseek_v4", "DeepseekV4ForCausalLM"),
        fields=_SHARED | {"dense_ff": "= 0"},
        parts=(selective.compressed_attention,),
        note="compressors count in the precision of attention, which keeps them in BF16",
    ),
    "axk2": Family(
        types=("axk2",),
        fields=_INDEXED,
        parts=(layers.first_layers_dense, selective.sparse_index, selective.doubled_query),
    ),
    "hy_v4": Family(
        types=("hy_v4", "hy_v4_vl_text"),
        fields=_INDEXED,
        parts=(layers.first_layers_dense, selective.sparse_index, selective.gated_latent),
    ),
    "mistral_large4": Family(
        types=("mistral_large4_text",),
        fields=_INDEXED,
        parts=(layers.first_layers_dense, selective.sparse_index, selective.shared_latents),
    ),
    "dots3": Family(
        types=("dots3_note_text",),
        fields=_INDEXED | {"shared_ff": "shared_experts_intermediate_size|moe_intermediate_size"},
        parts=(layers.first_layers_dense, selective.windows_of_wider_latents),
    ),
    "glm4_moe": Family(
        types=(
            *("glm4_moe", "glm4v_moe_text", "solar_open", "hy_v3", "bailing_moe"),
            *("bailing_moe_v2", "deepseek", "sarvam_moe", "deepseek_ocr2_text"),
        ),
        fields=_SHARED,
        parts=(layers.first_layers_dense,),
    ),
    "llama4": Family(
        types=("llama4", "llama4_text"),
        fields=_ALL_ROUTED
        | {
            "shared_experts": "= 1",
            "shared_ff": "intermediate_size",
            "dense_ff": "intermediate_size_mlp = 0",
        },
        parts=(layers.interleaved, layers.chunks_but_every_nth),
    ),
    "dbrx": Family(
        types=("dbrx",),
        fields={
            "layers": "n_layers",
            "hidden": "d_model",
            "vocab": "vocab_size",
            "heads": "n_heads",
            "tied_embeddings": "tie_word_embeddings = 0",
            "kv_heads": "attn_config.kv_n_heads",
            "head_dim": "= hidden/heads",
            "expert_ff": "ffn_config.ffn_hidden_size",
            "experts": "ffn_config.moe_num_experts",
            "top_k": "ffn_config.moe_top_k",
        },
    ),
}

# What configs of a type leave out where they stand within another one: sizes of the configuration
# classes of transformers 5.24 (src/transformers/models/*/configuration_*.py).
LEFT_OUT: dict[str, dict[str, int]] = {
    name: dict(zip(_LEFT, sizes, strict=True)) | more
    for name, sizes, more in (
        ("llama", (4096, 32, 32, 11008, 32000, 2048), {}),
        ("granite", (4096, 32, 32, 11008, 32000, 2048), {}),
        ("mistral", (4096, 32, 32, 14336, 32000, 131072), {"sliding_window": 4096}),
        (
            "mixtral",
            (4096, 32, 32, 14336, 32000, 131072),
            {"num_local_experts": 8, "num_experts_per_tok": 2},
        ),
        ("qwen2", (4096, 32, 32, 22016, 151936, 32768), {}),
        ("qwen3", (4096, 32, 32, 22016, 151936, 32768), {}),
        ("gemma", (3072, 28, 16, 24576, 256000, 8192), {}),
        ("gemma2", (2304, 26, 8, 9216, 256000, 8192), {"sliding_window": 4096}),
        ("phi3", (3072, 32, 32, 8192, 32064, 4096), {}),
    )
}

# KV heads, and the width of a head where it is not hidden/heads, of configs that leave them out:
# defaults of the classes in huggingface/transformers 5.24, models/*/configuration_*.py.
_GROUPS = {
    (1, 512): "deepseek_v4",
    (2, 0): "glm4v_text starcoder2",
    (2, 128): "glm glm4 internlm3 ernie4_5 paddleocr_vl_text muse_glimmer_text",
    (2, 256): "gemma3n_text qwen3_next qwen3_5_moe_text",
    (4, 0): "qwen2_5_omni_text granite_docling_text smollm3 granite_swa qwen3_moe "
    "qwen3_omni_moe_text ernie4_5_moe ernie4_5_vl_moe_text",
    (4, 64): "sarvam_moe",
    (4, 128): "minimax_m3_vl_text flint kolibri1 lara_mini lfm3 mellum",
    (4, 192): "mimo_v2_flash",
    (4, 256): "gemma2 vaultgemma gemma4_text gemma4_unified_text qwen3_5_text",
    (5, 0): "bitnet",
    (8, 0): "exaone emu3_text_model glm_ocr_text mllama_text_model mistral ministral "
    "voxtral_realtime_text phi4_multimodal qwen2_vl_text qwen2_5_vl_text mixtral phimoe minimax "
    "bamba falcon_h1 jamba lfm2 lfm2_moe glm4_moe glm4v_moe_text",
    (8, 64): "gpt_oss",
    (8, 128): "seed_oss ministral3 cwm iquestcoder molmo2_text cosmos3_edge_text minimax_m2 laguna "
    "nemotron_h beam inkling_text solar_open hy_v3 llama4_text",
    (16, 0): "qwen2_moe qwen3_vl_moe_text zamba",
    (16, 64): "muse_spark_text",
    (16, 256): "gemma",
    (20, 128): "helium",
    (32, 0): "stablelm chameleon qwen2 exaone4 exaone_moe dots1",
    (32, 128): "qwen3 qwen3_vl_text bailing_hybrid",
    (0, 128): "afmoe cohere2_moe",
}
# Other names of the two, which then hold.
_KV_HEADS = (
    *("num_key_value_heads", "num_kv_heads", "n_kv_heads", "num_attention_groups", "n_head_kv"),
    *("multi_query_group_num", "num_query_groups"),
)
_HEAD_DIM = ("head_dim", "attention_head_dim", "kv_channels", "d_head", "head_size", "d_kv")
GROUPS = {
    name: {
        names[0]: (size, names)
        for names, size in zip((_KV_HEADS, _HEAD_DIM), sizes, strict=True)
        if size
    }
    for sizes, types in _GROUPS.items()
    for name in types.split()
}

# Models that no family reads: the nearest one, and what differs.
REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("glm5_next", "glm5_next_text"),
        ("kimi_linear", "an indexer chooses pools of 16 tokens for its latent attention"),
    ),
    **dict.fromkeys(
        ("qwen4_exp", "qwen4_exp_text"),
        ("qwen3_5_moe", "an indexer chooses its tokens, and it looks up n-grams"),
    ),
    **dict.fromkeys(
        ("inkling2_text", "inkling2_loop_text"),
        ("inkling_text", "its residuals attend blocks of layers, and some run in loops"),
    ),
    **dict.fromkeys(
        ("RefinedWeb", "RefinedWebModel"), ("falcon", "it says otherwise how many KV heads it has")
    ),
    **dict.fromkeys(
        ("deepseek_v41", "deepseek_v41_text", "DeepseekV41ForCausalLM"),
        ("deepseek_v4", "some of its layers look up n-grams, others use the cache of a layer"),
    ),
    "berrylm": (
        "qwen3_next",
        "its linear layers are delta attention, its residuals attend blocks of layers",
    ),
    **dict.fromkeys(("step4", "step4pro"), ("step3p7", "its attention chooses tokens")),
    "zaya": ("olmoe", "its attention convolves queries and keys, its router is a network"),
    "recurrent_gemma": ("gemma2", "most of its layers have a gated linear recurrence"),
    "jetmoe": ("mixtral", "its attention has experts too"),
    **dict.fromkeys(("ouro", "iquestloopcoder"), ("llama", "its layers run in loops")),
    **dict.fromkeys(
        ("llada", "llada_moe", "Dream", "sdar", "sdar_moe"),
        ("llama", "it writes blocks of tokens at once"),
    ),
    "phi4flash": ("phi3", "half of its layers read what one keeps, and others are Mamba"),
    "longcat_flash_ngram": ("longcat_flash", "it looks up n-grams"),
    "openelm": ("llama", "its layers differ in heads and widths"),
    **dict.fromkeys(
        ("plamo2", "plamo3"), ("bamba", "its projections are fused and of other widths")
    ),
    "minicpm_sala": ("minicpm", "some layers have lightning attention and others choose blocks"),
    "doge": ("llama", "its attention chooses tokens, its experts are products of keys"),
    "dory": ("llama", "some of its layers run in loops"),
    "hrm_text": ("llama", "its layers run in loops"),
    **dict.fromkeys(("rwkv", "xlstm"), ("mamba2", "its recurrence is of another kind")),
    "modernbert-decoder": ("gemma2", "its networks have two matrices in one"),
    "diffusion_gemma": ("gemma4_text", "it writes blocks of tokens at once"),
    "switch_transformers": ("mixtral", "it is an encoder with a decoder"),
    "phi3small": ("phi3", "its attention skips blocks"),
}
