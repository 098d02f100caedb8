"""The five records that a cost law takes: frozen pytrees, SI units, no behaviour.

Every field that a user may sweep or differentiate is a traced leaf: a number or an array that
broadcasts against the others. Closed choices are static metadata, and each of their values is one
compilation. Names of models and accelerators are not fields: they would make two models two
compilations and forbid a batch of them, so they ride beside the records as labels.
"""

import dataclasses
from typing import Any, Literal

import jax
from jax.typing import ArrayLike

from qsjax.numerics.safe import Rounding

Dtype = Literal["bf16", "fp8", "fp4"]
ExpertTraffic = Literal["coverage", "full_pool", "all_experts", "top_k"]
FfnSharding = Literal["stage", "tp"]
Bottleneck = Literal["per_phase", "global"]
MlaLayout = Literal["latent", "latent_over_tp", "two_latents", "keys_and_values_over_tp"]

# Degrees of parallelism, in the order in which designs are listed.
DEGREES = ("tp", "ep", "pp", "dp", "kvp")
KV_NONE, KV_HELIX, KV_CP = 0.0, 1.0, 2.0
KV_MODES: dict[str, float] = {"none": KV_NONE, "kvp": KV_HELIX, "cp": KV_CP}


def _static(default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shapes of a decoder. A dense model is the record with `experts = top_k = 1`.

    Layers are of two kinds by their feed-forward network (`dense_layers` with width `dense_ff`,
    the others with `experts` experts of width `expert_ff`) and of three kinds by their attention
    (full, `window_layers` that keep `window` tokens, `linear_layers` that keep a fixed state).
    """

    layers: ArrayLike
    hidden: ArrayLike
    vocab: ArrayLike
    heads: ArrayLike
    kv_heads: ArrayLike
    head_dim: ArrayLike
    expert_ff: ArrayLike
    experts: ArrayLike = 1.0
    top_k: ArrayLike = 1.0
    shared_experts: ArrayLike = 0.0
    shared_ff: ArrayLike = 0.0
    dense_layers: ArrayLike = 0.0
    dense_ff: ArrayLike = 0.0
    ffn_matrices: ArrayLike = 3.0
    tied_embeddings: ArrayLike = 0.0
    # Multi-head latent attention; kv_latent = 0 says that the model does not have it.
    kv_latent: ArrayLike = 0.0
    rope_dim: ArrayLike = 0.0
    q_lora_rank: ArrayLike = 0.0
    qk_nope_dim: ArrayLike = 0.0
    v_head_dim: ArrayLike = 0.0
    # Layers with a window, with linear attention, or with a learned selection of tokens.
    window_layers: ArrayLike = 0.0
    window: ArrayLike = 0.0
    linear_layers: ArrayLike = 0.0
    linear_params: ArrayLike = 0.0
    linear_state: ArrayLike = 0.0
    sparse_topk: ArrayLike = 0.0
    index_heads: ArrayLike = 0.0
    index_dim: ArrayLike = 0.0
    # Matrices that no other field describes: per softmax-attention layer, and in the whole model.
    attn_extra_params: ArrayLike = 0.0
    extra_params: ArrayLike = 0.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HardwareSpec:
    """One accelerator and its two fabrics. Bandwidths are per GPU and in one direction.

    Efficiencies are the reachable share of a peak: `eff_allreduce` of the link in the short
    all-reduces of tensor parallelism, `eff_exp` of `flops_exp`, the exponentials per second (0: the
    softmax takes no time). Attention kernels run `query_tile` query rows at once. An overlap
    fraction is the share of a phase's time in which a communication family may run unseen.
    Overheads are per message of an expert exchange inside an island (beyond its start-up), per
    layer, and further per layer with latent attention, per layer with experts whose kernels are not
    fused, per sequence of a replica, per layer of a prefill, and per step. `moe_reserve_bytes` is
    the further memory that engines keep free for the kernels of a mixture of experts.

    The measured kernels of an engine need more (docs/concepts/cost-model.md, "Kernels"); the values
    here are those of the plain form. A blend of 0 takes the slower of arithmetic and bytes in a
    phase, 1 their sum; the ratios are the efficiencies of routed experts over those of dense
    products. Start-ups are per kernel: dense product, attention, all experts of a layer.
    `one_shot_share` of the link (0: no such kernel) and `two_shot_latency` decide between two
    all-reduces, and `rank_latency` is added to either per doubling of its ranks.
    """

    hbm_bytes: ArrayLike
    hbm_bw: ArrayLike
    flops_bf16: ArrayLike
    flops_fp8: ArrayLike
    flops_fp4: ArrayLike
    intra_bw: ArrayLike
    inter_bw: ArrayLike
    island_size: ArrayLike
    flops_exp: ArrayLike = 0.0
    query_tile: ArrayLike = 1.0
    intra_latency: ArrayLike = 2.0e-6
    inter_latency: ArrayLike = 5.0e-6
    usable_fraction: ArrayLike = 0.9
    reserve_bytes: ArrayLike = 0.0
    moe_reserve_bytes: ArrayLike = 0.0
    eff_kv_read: ArrayLike = 1.0
    eff_weight_read: ArrayLike = 1.0
    eff_gemm: ArrayLike = 1.0
    eff_attention: ArrayLike = 1.0
    eff_exp: ArrayLike = 1.0
    eff_link: ArrayLike = 1.0
    eff_allreduce: ArrayLike = 1.0
    exchange_overhead: ArrayLike = 0.0
    layer_overhead: ArrayLike = 0.0
    latent_overhead: ArrayLike = 0.0
    expert_overhead: ArrayLike = 0.0
    sequence_overhead: ArrayLike = 0.0
    prefill_overhead: ArrayLike = 0.0
    step_overhead: ArrayLike = 0.0
    gemm_blend: ArrayLike = 0.0
    expert_blend: ArrayLike = 0.0
    expert_read_ratio: ArrayLike = 1.0
    expert_gemm_ratio: ArrayLike = 1.0
    gemm_startup: ArrayLike = 0.0
    attention_startup: ArrayLike = 0.0
    expert_startup: ArrayLike = 0.0
    linear_overhead: ArrayLike = 0.0
    sparse_overhead: ArrayLike = 0.0
    one_shot_share: ArrayLike = 0.0
    two_shot_latency: ArrayLike = 0.0
    rank_latency: ArrayLike = 0.0
    overlap_tp: ArrayLike = 0.0
    overlap_kv: ArrayLike = 0.0
    overlap_ep: ArrayLike = 0.0
    overlap_layout: ArrayLike = 0.0
    overlap_startup: ArrayLike = 0.0
    cp_ring_tail: ArrayLike = 0.0
    usd_per_hour: ArrayLike = 0.0
    watts: ArrayLike = 0.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """How one model is split: `dp * pp * kvp * tp` GPUs, experts over `ep` of every stage.

    A message count says how many launches a layer's payload of that family is divided into:
    start-ups scale with it, bytes do not. `redundant_experts` are copies of busy experts that a
    load balancer adds to the pool of each layer.
    """

    tp: ArrayLike = 1.0
    ep: ArrayLike = 1.0
    pp: ArrayLike = 1.0
    dp: ArrayLike = 1.0
    kvp: ArrayLike = 1.0
    kv_mode: ArrayLike = KV_HELIX
    tp_messages: ArrayLike = 2.0
    kv_messages: ArrayLike = 1.0
    ep_messages: ArrayLike = 2.0
    layout_messages: ArrayLike = 1.0
    redundant_experts: ArrayLike = 0.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one decode step does. `batch` counts the sequences of an attention replica.

    The dtypes are those of DeepSeek-V3 unless given: FP8 weights, a 16-bit cache. `qsjax.workload`
    has those that a model of the catalogue is published in.
    `batch = None` stands for the largest batch that fits (B_max), the paper's operating point.
    With speculation a step runs `query_tokens` tokens of each sequence and `tokens_per_step` of
    them are accepted. `kv_scale_bytes` are the scales of a quantised cache, per token and layer.
    """

    context: ArrayLike
    batch: ArrayLike | None = None
    bytes_attn_weight: ArrayLike = 1.0
    bytes_ffn_weight: ArrayLike = 1.0
    bytes_head_weight: ArrayLike = 2.0
    bytes_kv: ArrayLike = 2.0
    bytes_act: ArrayLike = 2.0
    bytes_dispatch: ArrayLike = 1.0
    kv_scale_bytes: ArrayLike = 0.0
    kv_block: ArrayLike = 1.0
    query_tokens: ArrayLike = 1.0
    tokens_per_step: ArrayLike = 1.0
    attn_dtype: Dtype = _static("bf16")
    proj_dtype: Dtype = _static("fp8")
    ffn_dtype: Dtype = _static("fp8")
    head_dtype: Dtype = _static("bf16")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """The accounting: which of several published ways of counting each term is used.

    `PHYSICAL` and `PAPER` are the two presets. docs/concepts/cost-model.md says what each switch
    does and what the paper's printed tables imply about it.
    """

    expert_traffic: ExpertTraffic = _static("coverage")
    ffn_sharding: FfnSharding = _static("stage")
    bottleneck: Bottleneck = _static("per_phase")
    twin: Literal["active_ffn", "total"] = _static("active_ffn")
    scope: Literal["full_model", "routed_ffn"] = _static("full_model")
    expert_time_sharding: Literal["ep", "none"] = _static("ep")
    expert_exchange: Literal["off_replica", "every_token"] = _static("off_replica")
    attention_flops_over_kvp: bool = _static(True)
    attention_tiles: bool = _static(True)
    mla_cache: MlaLayout = _static("latent")
    mla_read: MlaLayout = _static("latent")
    mla_projection: Literal["exact", "two_d_squared"] = _static("exact")
    topology: Literal["hierarchical", "flat"] = _static("hierarchical")
    startup: Literal["direct", "ring"] = _static("direct")
    expert_balance: Literal["even", "poisson", "skewed"] = _static("even")
    activations: Literal["gemm_io", "none"] = _static("gemm_io")
    compute_dtype: Literal["per_phase", "bf16"] = _static("per_phase")
    two_batch_overlap: bool = _static(False)
    rounding: Rounding = _static("straight_through")
    dense_flops_factor: ArrayLike = 1.0
    kv_overhead: ArrayLike = 1.0
    kv_exchange_volume: ArrayLike = 1.0
    ep_exchange_volume: ArrayLike = 1.0
    expert_load_factor: ArrayLike = 1.0


PHYSICAL = Convention()
PAPER = Convention(
    expert_traffic="full_pool",
    ffn_sharding="tp",
    bottleneck="global",
    twin="total",
    scope="routed_ffn",
    expert_time_sharding="none",
    expert_exchange="every_token",
    attention_flops_over_kvp=False,
    attention_tiles=False,
    mla_cache="keys_and_values_over_tp",
    mla_read="two_latents",
    mla_projection="two_d_squared",
    topology="flat",
    startup="ring",
    activations="none",
    compute_dtype="bf16",
    dense_flops_factor=3.0,
    kv_exchange_volume=0.0,
    ep_exchange_volume=2.0,
)
CONVENTIONS: dict[str, Convention] = {"physical": PHYSICAL, "paper": PAPER}


def named_convention(name: str) -> Convention:
    """The preset of a name; `ValueError` if there is none."""
    if name not in CONVENTIONS:
        raise ValueError(f"unknown convention {name!r}; give {' or '.join(CONVENTIONS)}")
    return CONVENTIONS[name]
