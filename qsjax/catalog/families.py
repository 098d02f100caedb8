"""How each family of Hugging Face configs names the fields of `ModelSpec`.

A rule reads "key|other key = default": the first present key, else the default, which may be an
earlier field or two of them ("hidden/heads"). Without a default the key is required; without a
key the rule is a constant.
"""

import dataclasses
from collections.abc import Mapping

from qsjax.catalog import layers
from qsjax.catalog.layers import Part


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Names of one family's fields, and the parts that decide the kinds of its layers.

    `types` are values of `model_type`, or names in `architectures`, which take precedence.
    `state_bytes` is what engines take for an element of its recurrent state where no key says so.
    """

    types: tuple[str, ...]
    fields: Mapping[str, str]
    parts: tuple[Part, ...] = ()
    state_bytes: float = 4.0


_SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "vocab": "vocab_size",
    "heads": "num_attention_heads",
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
_FINE_GRAINED = {
    "expert_ff": "moe_intermediate_size",
    "experts": "n_routed_experts|num_experts|num_local_experts",
    "top_k": "num_experts_per_tok",
    "dense_ff": "intermediate_size = 0",
}
_SHARED_ALIKE = {
    "shared_experts": "n_shared_experts = 0",
    "shared_ff": "moe_intermediate_size",
}
_ONE_SHARED = {"shared_ff": "shared_expert_intermediate_size = 0"}
_INDEXED = {
    "index_layers": "= layers",
    "sparse_topk": "index_topk",
    "index_heads": "index_n_heads",
    "index_dim": "index_head_dim",
}
_TIED = {"tied_embeddings": "tie_word_embeddings = 1"}
# Gemma 3 configs leave out what equals the defaults of Gemma3TextConfig.
_GEMMA3 = {
    "vocab": "vocab_size = 262208",
    "heads": "num_attention_heads = 8",
    "kv_heads": "num_key_value_heads = 4",
    "head_dim": "head_dim = 256",
}

FAMILIES: dict[str, Family] = {
    "llama": Family(types=("llama", "granite"), fields=_DENSE),
    "mistral": Family(types=("mistral",), fields=_DENSE, parts=(layers.window_everywhere,)),
    "phi3": Family(types=("phi3",), fields=_DENSE, parts=(layers.window_everywhere,)),
    "qwen": Family(
        types=("qwen2", "qwen3", "qwen2_vl", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl_text"),
        fields=_DENSE,
        parts=(layers.window_from_a_layer_on,),
    ),
    "gemma2": Family(types=("gemma2",), fields=_DENSE | _TIED, parts=(layers.window_every_other,)),
    "gemma3": Family(
        types=("gemma3", "gemma3_text"),
        fields=_DENSE | _TIED | _GEMMA3,
        parts=(layers.window_but_every_nth,),
    ),
    "mixtral": Family(
        types=("mixtral", "phimoe"), fields=_ALL_ROUTED, parts=(layers.window_everywhere,)
    ),
    "olmoe": Family(types=("olmoe", "granitemoe"), fields=_ALL_ROUTED),
    "minimax": Family(
        types=("minimax_m2", "minimax_text_01", "minimax_m1", "minimax"),
        fields=_ALL_ROUTED,
        parts=(layers.lightning,),
        # vLLM, `linear_attention_state_dtype`: that of the model, and float32 is refused.
        state_bytes=2.0,
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
        types=("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text"),
        fields=_GROUPED | _FINE_GRAINED | _ONE_SHARED,
        parts=(layers.sparse_step, layers.one_shared_expert, layers.window_from_a_layer_on),
    ),
    "qwen3_next": Family(
        types=("qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text"),
        fields=_GROUPED | _FINE_GRAINED | _ONE_SHARED,
        parts=(
            layers.sparse_step,
            layers.one_shared_expert,
            layers.output_gate,
            layers.gated_delta_net,
        ),
    ),
    "deepseek": Family(
        types=("deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25"),
        fields=_LATENT | _FINE_GRAINED | _SHARED_ALIKE,
        parts=(layers.first_layers_dense,),
    ),
    "deepseek_sparse": Family(
        types=("deepseek_v32", "glm_moe_dsa"),
        fields=_LATENT | _FINE_GRAINED | _SHARED_ALIKE | _INDEXED,
        parts=(layers.first_layers_dense, layers.sparse_index),
    ),
    "glm4_moe": Family(
        types=("glm4_moe", "glm4v_moe_text"),
        fields=_GROUPED | _FINE_GRAINED | _SHARED_ALIKE,
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
