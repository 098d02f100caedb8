"""The five records that a cost law takes, and all together: frozen pytrees, SI units, no behaviour.

Every field that a user may sweep or differentiate is a traced leaf: a number or an array that
broadcasts against the others. Closed choices are static metadata, and each of their values is one
compilation. Labels of models and accelerators are no part of the pytree: they would make two models
two compilations and forbid a batch of them.

Construction checks nothing, as transforms rebuild records with tracers: entry points call
`records.checks`.
"""

import dataclasses
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from qsjax.numerics import trees
from qsjax.numerics.namespace import ArrayLike
from qsjax.numerics.safe import Rounding, scalar
from qsjax.records.fields import (
    AT_LEAST_ONE,
    BATCH,
    CONTEXT,
    COUNT,
    COUNT_OR_NONE,
    DEGREE,
    EFFICIENCY,
    FLAG,
    GPUS,
    POSITIVE,
    SHARE,
    Facts,
    Rule,
    facts_of,
    hint,
    number,
)
from qsjax.records.units import GIB

Dtype = Literal["bf16", "fp8", "fp4"]
ExpertTraffic = Literal["coverage", "full_pool", "all_experts", "top_k"]
FfnSharding = Literal["stage", "tp"]
DenseReplicas = Literal["whole", "sharded"]
ExpertExchange = Literal["off_replica", "relayed", "every_token"]
Bottleneck = Literal["per_phase", "global"]
MlaLayout = Literal["latent", "latent_over_tp", "two_latents", "keys_and_values_over_tp"]

# Degrees of parallelism, in the order in which designs are listed.
DEGREES = ("tp", "ep", "pp", "dp", "kvp")
KV_NONE, KV_HELIX, KV_CP = 0.0, 1.0, 2.0
KV_MODES: dict[str, float] = {"none": KV_NONE, "kvp": KV_HELIX, "cp": KV_CP}


# FP8 with a scale of 4 B for 128 elements: 132 B a token and layer, whatever the cache is. Source:
# `indexer_k_cache` of vLLM and SGLang, https://github.com/sgl-project/sglang/pull/11309.
INDEX_KEY = 1.0 + 4.0 / 128.0

Record = TypeVar("Record")

AICONFIGURATOR = "NVIDIA AIConfigurator (https://github.com/ai-dynamo/aiconfigurator)"
FITTED = "fitted: docs/validation.md gives the 95 % intervals and the errors"


def _static(default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"static": True})


def _label() -> Any:
    return dataclasses.field(default="", compare=False)


def _bytes(what: str, default: float, group: str = "") -> Any:
    article = "an" if what[0] in "aeiou" else "a"
    return number(f"bytes of {article} {what}", "B", POSITIVE, default, group=group)


def _count(meaning: str, unit: str = "1", **facts: Any) -> Any:
    return number(meaning, unit, COUNT_OR_NONE, 0.0, **facts)


def _shared_ratio() -> Any:
    meaning = "bytes of a weight of shared experts and dense layers over one of the others"
    return number(meaning, rule=POSITIVE, default=1.0)


def _efficiency(meaning: str, default: float, source: str = FITTED) -> Any:
    return number(meaning, rule=EFFICIENCY, default=default, ideal=1.0, source=source)


def _overhead(meaning: str, default: float, source: str = FITTED) -> Any:
    return number(meaning, "s", default=default, group="overhead", ideal=0.0, source=source)


def _share(meaning: str) -> Any:
    return number(meaning, rule=SHARE, default=0.0, ideal=0.0)


def _startup(meaning: str) -> Any:
    return number(meaning, "s", default=0.0, ideal=0.0)


def _tier_bytes(what: str, name: str) -> Any:
    return number(f"capacity of {what} for caches", "B", default=0.0, key=f"{name}_capacity")


def _tier_bandwidth(what: str, name: str) -> Any:
    return number(f"bandwidth from {what}", "B/s", default=0.0, key=f"{name}_bandwidth")


def _tier_latency(what: str, default: float, source: str) -> Any:
    return number(f"start-up of a load from {what}", "s", default=default, ideal=0.0, source=source)


def _overlap(meaning: str) -> Any:
    return number(meaning, rule=SHARE, default=0.0, group="overlap")


def _register_labelled(record: type[Record]) -> type[Record]:
    """Make a record without static fields a pytree whose label transforms drop."""
    return trees.record(record, dropped=("label",))


def _shown(name: str, value: Any) -> str:
    """`hbm_bw=6e12`; the name alone where the value is traced or an array."""
    if isinstance(value, str):
        return f"{name}={value}"
    if not isinstance(value, numbers.Real):
        return name
    try:
        digits = f"{float(value):.6g}"
    except OverflowError:
        return name
    return f"{name}={digits.replace('e+0', 'e').replace('e+', 'e').replace('e-0', 'e-')}"


def replace(record: Record, /, **changes: Any) -> Record:
    """`record` with these fields changed; its label says so.

    Raises:
        ValueError: a name is no field of the record.
    """
    known = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]  # a dataclass
    for name in changes.keys() - known:
        raise ValueError(
            f"{type(record).__name__} has no field {name!r}; {field_hint(name, known)}"
        )
    label = getattr(record, "label", "")
    if label and "label" not in changes:
        kept = [part for part in label.split(", ") if part.partition("=")[0] not in changes]
        changes["label"] = ", ".join([*kept, *(_shown(n, v) for n, v in changes.items())])
    return dataclasses.replace(record, **changes)  # type: ignore[type-var]  # a dataclass


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What a model's weights and cache are stored and multiplied in; 16 bits unless given.

    The fields are those of the same name of `Workload`. Embeddings and head are in 16 bits and
    recurrent states in 32 unless the checkpoint says otherwise, as engines keep them.
    """

    bytes_attn_weight: ArrayLike = _bytes("attention weight", 2.0)
    bytes_ffn_weight: ArrayLike = _bytes("feed-forward weight", 2.0)
    shared_weight_ratio: ArrayLike = _shared_ratio()
    bytes_head_weight: ArrayLike = _bytes("head weight", 2.0)
    bytes_embedding_weight: ArrayLike = _bytes("weight of the input embedding", 2.0)
    bytes_kv: ArrayLike = _bytes("cache element", 2.0)
    bytes_index: ArrayLike = _bytes("index key's element", INDEX_KEY)
    bytes_state: ArrayLike = _bytes("recurrent state's element", 4.0)
    bytes_dispatch: ArrayLike = _bytes("dispatched activation", 2.0)
    proj_dtype: Dtype = _static("bf16")
    ffn_dtype: Dtype = _static("bf16")


@_register_labelled
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shapes of a decoder. A dense model is the record with `experts = top_k = 1`.

    Layers are of three kinds by their feed-forward network (`dense_layers` with width `dense_ff`,
    `bare_layers` with none, the others with `experts` experts of width `expert_ff`) and of three by
    their attention (full, `window_layers` that keep `window` tokens, `linear_layers` that keep a
    fixed state: a recurrent one in `bytes_state` and a convolution's last inputs in `bytes_act`).
    Of the full ones `index_layers` choose tokens by an indexer of their own; the others take a
    neighbour's choice. With `entry_tokens` (DeepSeek-V4) layers with a window choose instead:
    beside the window they keep one entry for every `entry_tokens` tokens and read those that the
    indexer chooses; the `pooled_layers` keep one for every `pooled_tokens` and read all.

    `precision` is what the model is published in, None in a stack of models that differ in it;
    laws take the precisions of the `Workload`. The `label` is no part of the pytree: inside
    transforms it is empty.
    """

    layers: ArrayLike = number("layers", rule=COUNT)
    hidden: ArrayLike = number("width of the residual stream", rule=COUNT)
    vocab: ArrayLike = number("entries of the vocabulary", rule=COUNT)
    heads: ArrayLike = number("query heads", rule=COUNT)
    kv_heads: ArrayLike = number("key and value heads", rule=COUNT)
    head_dim: ArrayLike = number("width of a head", rule=COUNT)
    expert_ff: ArrayLike = number("width of an expert")
    experts: ArrayLike = number(
        "routed experts of a layer", rule=COUNT, default=1.0, also=("E", "s", "num_experts")
    )
    top_k: ArrayLike = number(
        "routed experts of a token", rule=COUNT, default=1.0, also=("K", "s", "num_experts_per_tok")
    )
    shared_experts: ArrayLike = _count("shared experts")
    shared_ff: ArrayLike = number("width of a shared expert", default=0.0)
    dense_layers: ArrayLike = _count("layers without experts")
    dense_ff: ArrayLike = number("width of a layer without experts", default=0.0)
    bare_layers: ArrayLike = _count("layers without a feed-forward network")
    ffn_matrices: ArrayLike = number(
        "matrices of a feed-forward network", rule=Rule(low=2.0, high=3.0, whole=True), default=3.0
    )
    tied_embeddings: ArrayLike = number("head shares the embedding", rule=FLAG, default=0.0)
    # Multi-head latent attention; kv_latent = 0 says that the model does not have it.
    kv_latent: ArrayLike = _count("width of the KV latent", also=("kv_lora_rank",))
    rope_dim: ArrayLike = _count("width of the rotary key")
    q_lora_rank: ArrayLike = _count("rank of the query latent")
    qk_nope_dim: ArrayLike = _count("width of a key without position")
    v_head_dim: ArrayLike = _count("width of a value")
    # Layers with a window, with linear attention, or with a learned selection of tokens.
    window_layers: ArrayLike = _count("layers with a window")
    window: ArrayLike = _count("attention window", "tokens")
    window_cache: ArrayLike = number(
        "cache of a layer with a window over that of one without", rule=POSITIVE, default=1.0
    )
    window_params: ArrayLike = number(
        "attention parameters of a layer with a window, 0 for those of the others", default=0.0
    )
    shared_kv_layers: ArrayLike = _count("softmax layers that read the cache of another")
    linear_layers: ArrayLike = _count("layers with linear attention")
    linear_params: ArrayLike = number("parameters of a linear layer", default=0.0)
    linear_state: ArrayLike = number("state elements of a linear layer", default=0.0)
    linear_tail: ArrayLike = number("elements that a linear layer's convolution keeps", default=0.0)
    sparse_topk: ArrayLike = _count("tokens or entries that sparse attention reads", "tokens")
    index_layers: ArrayLike = _count("layers with an indexer")
    index_heads: ArrayLike = _count("heads of the indexer")
    index_dim: ArrayLike = _count("width of an indexer head")
    entry_tokens: ArrayLike = _count(
        "tokens of a cache entry that an indexer chooses, 0 where it chooses tokens", "tokens"
    )
    pooled_layers: ArrayLike = _count(
        "layers with a window that also read entries of pooled tokens"
    )
    pooled_tokens: ArrayLike = _count("tokens of a pooled entry", "tokens")
    # Matrices that no other field describes.
    attn_extra_params: ArrayLike = number(
        "further parameters of a softmax-attention layer", default=0.0
    )
    extra_params: ArrayLike = number("further parameters of the model", default=0.0)
    lookup_params: ArrayLike = number("further embeddings, which are looked up", default=0.0)
    idle_params: ArrayLike = number(
        "parameters of experts for images, which are held and no text uses", default=0.0
    )
    repeated_params: ArrayLike = number(
        "parameters of layers that have the weights of another, which are held once", default=0.0
    )
    precision: Precision | None = Precision()
    label: str = _label()

    replace = replace

    @property
    def is_moe(self) -> bool:
        """Whether some of many experts serve a token."""
        return scalar(self.experts) > 1


@_register_labelled
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HardwareSpec:
    """One accelerator and its two fabrics. Bandwidths are per GPU and in one direction.

    Efficiencies are the reachable share of a peak: `eff_allreduce` of the link in the short
    all-reduces of tensor parallelism, `eff_exp` of `flops_exp`, the exponentials per second (0: the
    softmax takes no time). An overlap fraction is the share of a phase's time in which a
    communication family may run unseen. `moe_reserve_bytes` is the further memory that engines keep
    free for the kernels of a mixture of experts.

    The measured kernels of an engine need more (docs/concepts/cost-model.md, "Kernels"); the
    defaults are those of the plain form. A blend of 0 takes the slower of arithmetic and bytes in a
    phase, 1 their sum; the ratios are the efficiencies of routed experts over those of dense
    products. `one_shot_share` of the link (0: no such kernel) and `two_shot_latency` decide between
    two all-reduces. In a `mesh` of 1 every pair of an island has a link of its own, so that n ranks
    reach (n - 1) / (island - 1) of `intra_bw`; through a switch, 0, any two reach all of it.

    What is left out takes the defaults of a TOML file, so that the same numbers give the same
    answers in both; `qsjax.ideal` makes an accelerator without losses of any other. Defaults that
    no source states are fitted to published serving measurements on A100, H100 and B200:
    `python -m benchmarks.fit_constants`, results in docs/validation.md. The `label` is no part of
    the pytree: inside transforms it is empty.
    """

    hbm_bytes: ArrayLike = number("HBM capacity", "B", POSITIVE, key="hbm_capacity")
    hbm_bw: ArrayLike = number("HBM bandwidth", "B/s", POSITIVE, key="hbm_bandwidth")
    flops_bf16: ArrayLike = number("bf16 peak", "FLOP/s", POSITIVE, key="peak_bf16", group="flops")
    flops_fp8: ArrayLike = number("fp8 peak", "FLOP/s", POSITIVE, key="peak_fp8", group="flops")
    flops_fp4: ArrayLike = number("fp4 peak", "FLOP/s", POSITIVE, key="peak_fp4", group="flops")
    intra_bw: ArrayLike = number(
        "bandwidth inside an island", "B/s", POSITIVE, key="intra_bandwidth", group="link_bw"
    )
    inter_bw: ArrayLike = number(
        "bandwidth between islands", "B/s", POSITIVE, key="inter_bandwidth", group="link_bw"
    )
    island_size: ArrayLike = number("GPUs of an island", rule=COUNT)
    flops_exp: ArrayLike = number("exponentials", "FLOP/s", default=0.0, key="peak_exp")
    query_tile: ArrayLike = number(
        "query rows that attention kernels run at once", rule=COUNT, default=1.0
    )
    intra_latency: ArrayLike = number(
        "start-up of a message inside an island",
        "s",
        default=3e-6,
        group="latency",
        ideal=0.0,
        source="half of a short all-reduce in a captured graph, 2.7 to 7.4 us on H100 and B200 "
        f"({AICONFIGURATOR}, systems/data/*/comm/*/custom_allreduce_perf.parquet)",
    )
    inter_latency: ArrayLike = number(
        "start-up of a message between islands",
        "s",
        default=25e-6,
        group="latency",
        ideal=0.0,
        source="DeepEP low-latency dispatch and combine of two tokens over 2 to 8 nodes, 22 to 31 "
        f"us ({AICONFIGURATOR}, systems/data/h200_sxm/comm/sglang/0.5.6.post2)",
    )
    usable_fraction: ArrayLike = number(
        "share of the HBM that engines use",
        rule=EFFICIENCY,
        default=0.9,
        source="default of vLLM's --gpu-memory-utilization, https://docs.vllm.ai",
    )
    reserve_bytes: ArrayLike = number(
        "memory that the runtime keeps",
        "B",
        default=4 * GIB,
        key="reserve",
        source=f"{AICONFIGURATOR} at 095f58a, systems/*.yaml: 3.5 GiB besides weights and cache, "
        "0.4 GiB for NCCL; cache of Llama 3.1 70B int8 on one 80 GB GPU to 0.2 % "
        "(https://github.com/vllm-project/vllm/pull/12569)",
    )
    moe_reserve_bytes: ArrayLike = number(
        "memory kept for the kernels of experts",
        "B",
        default=5.7 * GIB,
        key="moe_reserve",
        source="fitted to the cache that vLLM reports for gpt-oss-120b, Qwen3-235B-A22B and "
        "DeepSeek-V3 on H100 and H200 (https://github.com/vllm-project/vllm/issues/27508 and "
        "21348, https://blog.vllm.ai/2025/12/17/large-scale-serving.html)",
    )
    eff_kv_read: ArrayLike = _efficiency(
        "reached share of the HBM bandwidth, cache",
        0.87,
        "0.895 of the memory bandwidth: FlashMLA dense decode on H800 "
        "(https://github.com/deepseek-ai/FlashMLA), and the slope of Llama 3.1 8B attention on "
        "H100 (vLLM blog on fp8 KV cache, derived; 0.825 with fp8 KV)",
    )
    eff_weight_read: ArrayLike = _efficiency(
        "reached share of the HBM bandwidth, weights",
        0.92,
        f"{FITTED}; held at 0.92, what copies reach",
    )
    eff_gemm: ArrayLike = _efficiency("reached share of the peak, matrices", 0.51)
    eff_attention: ArrayLike = _efficiency(
        "reached share of the peak, attention",
        0.60,
        "FlashMLA decode kernels where they are compute-bound: 0.53 to 0.67 of the peak on H800, "
        "0.58 to 0.84 on H20 (https://github.com/deepseek-ai/FlashMLA; "
        "https://github.com/alibaba/InferSim, bench_data/mla)",
    )
    eff_exp: ArrayLike = _efficiency("reached share of the exponentials", 0.38)
    eff_link: ArrayLike = _efficiency(
        "reached share of the links",
        0.75,
        "large all-reduces of nccl-tests on H100, H200, B200 and GB200 reach 0.72 to 0.80 of "
        f"NVLink ({AICONFIGURATOR}, systems/data/*/comm/nccl); 0.80 in InferSim",
    )
    eff_allreduce: ArrayLike = _efficiency("reached share of the links, short all-reduces", 0.19)
    exchange_overhead: ArrayLike = _overhead(
        "overhead of a message of an expert exchange inside an island",
        12e-6,
        "dispatch or combine of one or two tokens inside an island, 11 to 22 us, median 15, less "
        "intra_latency: DeepEP low-latency kernels on H100, H200, B200 and GB200 and "
        f"TensorRT-LLM's NVLink exchange on GB200 ({AICONFIGURATOR}, systems/data/*/comm)",
    )
    layer_overhead: ArrayLike = _overhead("overhead of a layer", 63e-6)
    latent_overhead: ArrayLike = _overhead("further overhead of a layer, latent attention", 40e-6)
    expert_overhead: ArrayLike = _overhead("further overhead of a layer, experts not fused", 30e-6)
    sequence_overhead: ArrayLike = _overhead("overhead of a sequence of a replica", 3.2e-6)
    eager_overhead: ArrayLike = _overhead(
        "further overhead of a layer of a pass with prompts that no captured graph runs",
        10e-6,
        "assumed: the launches of an eager layer less those of a captured one; served measurements "
        "do not determine it",
    )
    captured_tokens: ArrayLike = _count(
        "most tokens of a pass with prompts that captured graphs run"
    )
    step_overhead: ArrayLike = _overhead("overhead of a step", 50e-6)
    gemm_blend: ArrayLike = _share("how far arithmetic and bytes of matrices add up")
    expert_blend: ArrayLike = _share("how far arithmetic and bytes of experts add up")
    expert_read_ratio: ArrayLike = number(
        "reached bandwidth of routed experts over that of other weights",
        rule=POSITIVE,
        default=1.0,
        ideal=1.0,
    )
    expert_gemm_ratio: ArrayLike = number(
        "reached peak of routed experts over that of other matrices",
        rule=POSITIVE,
        default=1.0,
        ideal=1.0,
    )
    gemm_startup: ArrayLike = _startup("start-up of a dense product")
    attention_startup: ArrayLike = _startup("start-up of a layer's attention")
    expert_startup: ArrayLike = _startup("start-up of a layer's routed experts")
    linear_overhead: ArrayLike = _startup("further overhead of a layer, linear attention")
    sparse_overhead: ArrayLike = _startup("further overhead of a layer, sparse attention")
    one_shot_share: ArrayLike = _share("reached share of the links, one-shot all-reduces")
    two_shot_latency: ArrayLike = _startup("what two-shot all-reduces take longer to start")
    rank_latency: ArrayLike = _startup("start-up of an all-reduce by doubling of its ranks")
    mesh: ArrayLike = number(
        "how far an island is a mesh of links between pairs, not a switch", rule=SHARE, default=0.0
    )
    overlap_tp: ArrayLike = _overlap("hidden share, tensor parallelism")
    overlap_kv: ArrayLike = _overlap("hidden share, KV parallelism")
    overlap_ep: ArrayLike = _overlap("hidden share, expert exchange")
    overlap_layout: ArrayLike = _overlap("hidden share, change of layout")
    overlap_startup: ArrayLike = _overlap("hidden share, start-ups")
    cp_ring_tail: ArrayLike = number(
        "seen share of a context-parallel ring", rule=SHARE, default=0.0
    )
    # Where caches are kept besides the HBM, of one GPU; 0 says that there is no such tier.
    host_bytes: ArrayLike = _tier_bytes("host memory", "host")
    host_bw: ArrayLike = _tier_bandwidth("host memory", "host")
    host_latency: ArrayLike = _tier_latency(
        "host memory", 20e-6, "assumed: two launches of a copy from pinned memory, about 10 us each"
    )
    ssd_bytes: ArrayLike = _tier_bytes("SSDs", "ssd")
    ssd_bw: ArrayLike = _tier_bandwidth("SSDs", "ssd")
    ssd_latency: ArrayLike = _tier_latency(
        "SSDs", 100e-6, "assumed: one read of a data-centre NVMe drive, 60 to 100 us in data sheets"
    )
    remote_bytes: ArrayLike = _tier_bytes("a remote store", "remote")
    remote_bw: ArrayLike = _tier_bandwidth("a remote store", "remote")
    remote_latency: ArrayLike = _tier_latency(
        "a remote store",
        1e-3,
        "assumed: a look-up and an answer of a store in the same data centre",
    )
    eff_tier: ArrayLike = _efficiency(
        "reached share of the bandwidth of a tier",
        0.85,
        "copies from pinned memory over PCIe Gen5 x16 reach 54 of 64 GB/s on H20 "
        "(https://gitea.gahow.org/gahow/agentic-kvc at 837df6b)",
    )
    usd_per_hour: ArrayLike = number("price of a GPU", "USD/h", default=0.0, key="price")
    watts: ArrayLike = number("power of a GPU", "W", default=0.0, key="power")
    power_base: ArrayLike = number(
        "share of the power while serving next to nothing", rule=SHARE, default=1.0
    )
    power_gain: ArrayLike = number("further share of the power at full load", default=0.0)
    power_exponent: ArrayLike = number(
        "exponent of the load in the power",
        rule=POSITIVE,
        default=0.8,
        source="assumed: between 0.7 of Vidur-Energy (https://github.com/ozcanmiraay/vidur-energy) "
        "and 1; an H100 without load then draws 90 W",
    )
    label: str = _label()

    replace = replace


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """How one model is split: `dp * pp * kvp * tp` GPUs, experts over `ep` of every stage.

    A message count says how many launches a layer's payload of that family is divided into:
    start-ups scale with it, bytes do not. `redundant_experts` are copies of busy experts that a
    load balancer adds to the pool of each layer. `replicas` are independent copies of the whole
    deployment; None means as many as fit the prescribed GPU count (one if there is none), just as
    None for `Workload.batch` means the largest batch. KV ranks hold copies of
    attention's weights and of the vocabulary; with `gathers_queries` they share them and gather the
    queries of all heads before they attend (vLLM's decode context parallelism).
    """

    tp: ArrayLike = number("tensor parallelism", rule=DEGREE, default=1.0)
    ep: ArrayLike = number("expert parallelism", rule=DEGREE, default=1.0)
    pp: ArrayLike = number("pipeline stages", rule=DEGREE, default=1.0)
    dp: ArrayLike = number("data parallelism", rule=DEGREE, default=1.0)
    kvp: ArrayLike = number("KV parallelism", rule=DEGREE, default=1.0)
    kv_mode: ArrayLike = number(
        "kind of KV parallelism",
        rule=Rule(high=max(KV_MODES.values()), whole=True),
        default=KV_HELIX,
    )
    replicas: ArrayLike | None = number("copies of the deployment", rule=DEGREE, default=None)
    tp_messages: ArrayLike = number("messages of tensor parallelism in a layer", default=2.0)
    kv_messages: ArrayLike = number("messages of KV parallelism in a layer", default=1.0)
    ep_messages: ArrayLike = number("messages of the expert exchange in a layer", default=2.0)
    layout_messages: ArrayLike = number("messages of a change of layout in a layer", default=1.0)
    redundant_experts: ArrayLike = _count("redundant experts of a layer")
    gathers_queries: bool = _static(False)

    replace = replace


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one decode step does. `batch` counts the sequences of an attention replica.

    The dtypes are those of DeepSeek-V3 unless given: FP8 weights, a 16-bit cache.
    `records.precision.workload_of` takes those that a model is published in.
    `batch = None` stands for the largest batch that fits (B_max), the paper's operating point.
    With speculation a step runs `query_tokens` tokens of each sequence and `tokens_per_step` of
    them are accepted, after `draft_time` of drafting (`cost.speculation` says how long that is).
    `kv_scale_bytes` are the scales of a quantised cache, per token and layer; index keys have a
    width of their own, with their scales.
    """

    context: ArrayLike = number("context", "tokens", CONTEXT)
    batch: ArrayLike | None = number("sequences of a replica", "sequences", BATCH, None)
    bytes_attn_weight: ArrayLike = _bytes("attention weight", 1.0, group="weight_bytes")
    bytes_ffn_weight: ArrayLike = _bytes("feed-forward weight", 1.0, group="weight_bytes")
    shared_weight_ratio: ArrayLike = _shared_ratio()
    bytes_head_weight: ArrayLike = _bytes("head weight", 2.0, group="weight_bytes")
    bytes_embedding_weight: ArrayLike = _bytes(
        "weight of the input embedding", 2.0, group="weight_bytes"
    )
    bytes_kv: ArrayLike = _bytes("cache element", 2.0)
    bytes_index: ArrayLike = _bytes("index key's element", INDEX_KEY)
    bytes_state: ArrayLike = _bytes("recurrent state's element", 4.0)
    bytes_act: ArrayLike = _bytes("activation", 2.0)
    bytes_dispatch: ArrayLike = _bytes("dispatched activation", 1.0)
    kv_scale_bytes: ArrayLike = number("bytes of cache scales, token and layer", "B", default=0.0)
    kv_block: ArrayLike = number("tokens of a cache block", "tokens", AT_LEAST_ONE, 1.0)
    query_tokens: ArrayLike = number("tokens that a step runs", "tokens", AT_LEAST_ONE, 1.0)
    tokens_per_step: ArrayLike = number("tokens that a step yields", "tokens", AT_LEAST_ONE, 1.0)
    draft_time: ArrayLike = number("time of a step's drafts", "s", default=0.0)
    attn_dtype: Dtype = _static("bf16")
    proj_dtype: Dtype = _static("fp8")
    ffn_dtype: Dtype = _static("fp8")
    head_dtype: Dtype = _static("bf16")

    replace = replace


@trees.record
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """The accounting: which of several published ways of counting each term is used.

    `PHYSICAL` and `PAPER` are the two presets. docs/concepts/cost-model.md says what each switch
    does and what the paper's printed tables imply about it.
    """

    expert_traffic: ExpertTraffic = _static("coverage")
    ffn_sharding: FfnSharding = _static("stage")
    dense_replicas: DenseReplicas = _static("whole")
    bottleneck: Bottleneck = _static("per_phase")
    twin: Literal["active_ffn", "total"] = _static("active_ffn")
    scope: Literal["full_model", "routed_ffn"] = _static("full_model")
    expert_time_sharding: Literal["ep", "none"] = _static("ep")
    expert_exchange: ExpertExchange = _static("off_replica")
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
    dense_flops_factor: ArrayLike = number("arithmetic of dense twins", rule=POSITIVE, default=1.0)
    kv_overhead: ArrayLike = number("cache over its own size", rule=AT_LEAST_ONE, default=1.0)
    kv_exchange_volume: ArrayLike = number("volume of the KV exchange", default=1.0)
    ep_exchange_volume: ArrayLike = number("volume of the expert exchange", default=1.0)
    expert_load_factor: ArrayLike = number(
        "load of the busiest expert over the mean", rule=AT_LEAST_ONE, default=1.0
    )

    replace = replace


class Records(NamedTuple):
    """The inputs of one evaluation; their fields broadcast against each other.

    Beside a stack of models the workload has one value for all of them, or one for each, in every
    field by itself.
    """

    model: ModelSpec
    hardware: HardwareSpec
    partition: Partition
    workload: Workload
    gpus: ArrayLike | None = None


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


def is_papers(convention: Convention) -> bool:
    """Whether all choices are the paper's; its numbers may be others, or arrays."""
    choices = (f.name for f in dataclasses.fields(Convention) if f.metadata.get("static"))
    return all(getattr(convention, name) == getattr(PAPER, name) for name in choices)


def named_convention(name: str) -> Convention:
    """The preset of a name; `ValueError` if there is none."""
    if name not in tuple(CONVENTIONS):  # a list or a table has no hash
        raise ValueError(f"unknown convention {name!r}; give {' or '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


# Every number that a user may name as an axis.
FIELDS: Mapping[str, Facts] = {
    name: facts
    for record in (ModelSpec, HardwareSpec, Partition, Workload, Convention)
    for name, facts in facts_of(record).items()
} | {
    "q": Facts(meaning="quality-equivalence factor", rule=POSITIVE),
    "gpus": Facts(meaning="GPUs", rule=GPUS),
}


def field_hint(name: str, known: Iterable[str] = FIELDS) -> str:
    """`hint` that also knows a field by its key in files, and by its other names.

    >>> field_hint("kv_lora_rank"), field_hint("hbm_capacity_gb"), field_hint("s")
    ('did you mean kv_latent?', 'did you mean hbm_bytes [B]?', 'did you mean experts or top_k?')
    """
    names = tuple(known)
    meant = [n for n in names if n in FIELDS and _is_called(FIELDS[n], name)]
    if not meant:
        return hint(name, names)
    units = {n: f" [{FIELDS[n].unit}]" if FIELDS[n].unit != "1" else "" for n in meant}
    return f"did you mean {' or '.join(n + unit for n, unit in units.items())}?"


def _is_called(facts: Facts, name: str) -> bool:
    is_key = bool(facts.key) and f"{name}_".startswith(f"{facts.key}_")
    return is_key or name in facts.also or name == facts.group
