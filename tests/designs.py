"""Random designs for tests: legal and illegal, as dicts of arrays with a leading axis."""

import dataclasses
import types
from typing import NamedTuple

import numpy as np

from qsjax.records.specs import (
    PAPER,
    PHYSICAL,
    HardwareSpec,
    ModelSpec,
    Partition,
    Records,
    Workload,
)

EFFICIENCIES = ("kv_read", "weight_read", "gemm", "attention", "exp", "link", "allreduce")
OVERLAPS = ("tp", "kv", "ep", "layout", "startup")


class Designs(NamedTuple):
    """Fields of the records by name, each an array over the designs; `gpus` may be None."""

    model: dict
    hardware: dict
    partition: dict
    workload: dict
    convention: dict
    gpus: object


def floats(values):
    return np.asarray(values, np.float64)


def choose(rng, values, n):
    return floats(rng.choice(values, n))


def log_uniform(rng, low, high, n):
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def sometimes(rng, values, share=0.5):
    """The values where a coin falls right, else 0."""
    return np.where(rng.random(values.shape) < share, values, 0.0)


def random_models(rng, n):
    """Dense, MoE, MLA, windowed, linear and sparse models as a dict of arrays."""
    layers = floats(rng.integers(4, 100, n))
    heads = choose(rng, [8, 12, 16, 32, 40, 64, 96, 128], n)
    experts = choose(rng, [1, 1, 2, 8, 16, 60, 64, 128, 256, 2048], n)
    sparse = rng.random(n) < 0.2
    window_layers = sometimes(rng, np.floor(layers * rng.random(n)), 0.4)
    linear_layers = sometimes(rng, np.floor((layers - window_layers) * rng.random(n)), 0.4)
    dense_layers = sometimes(rng, np.floor(layers * rng.random(n) * 0.5), 0.5)
    is_mla = rng.random(n) < 0.4
    own = rng.spawn(1)[0]
    entries = sometimes(own, choose(own, [4, 8], n), 0.3)
    index_layers = np.where(sparse, np.ceil(layers * own.random(n)), 0.0)
    index_layers = np.where(entries > 0, np.minimum(index_layers, window_layers), index_layers)
    pooled = np.floor((window_layers - np.where(entries > 0, index_layers, 0.0)) * own.random(n))
    return {
        "layers": layers,
        "hidden": choose(rng, [1024, 2880, 4096, 5120, 7168, 8192], n),
        "vocab": choose(rng, [32000, 50257, 128256, 151936], n),
        "heads": heads,
        "kv_heads": np.minimum(heads, choose(rng, [1, 2, 3, 4, 8, 12, 128], n)),
        "head_dim": choose(rng, [64, 80, 128, 192, 256], n),
        "expert_ff": choose(rng, [768, 1536, 2048, 14336, 28672], n),
        "experts": experts,
        "top_k": np.minimum(experts, choose(rng, [1, 2, 4, 8, 10], n)),
        "shared_experts": sometimes(rng, choose(rng, [1, 2], n)),
        "shared_ff": choose(rng, [1024, 2048], n),
        "dense_layers": dense_layers,
        "dense_ff": choose(rng, [12288, 18432], n),
        "bare_layers": sometimes(rng, np.floor((layers - dense_layers) * rng.random(n)), 0.2),
        "ffn_matrices": choose(rng, [2, 3], n),
        "tied_embeddings": choose(rng, [0, 1], n),
        "kv_latent": np.where(is_mla, choose(rng, [256, 512], n), 0.0),
        "rope_dim": np.where(is_mla, 64.0, 0.0),
        "q_lora_rank": np.where(is_mla, choose(rng, [0, 1536], n), 0.0),
        "qk_nope_dim": np.where(is_mla, 128.0, 0.0),
        "v_head_dim": np.where(is_mla, choose(rng, [128, 192], n), 0.0),
        "window_layers": window_layers,
        "window": choose(rng, [128, 1024, 4096], n),
        "window_cache": choose(rng, [1, 1, 0.5, 2], n),
        "window_params": sometimes(rng, log_uniform(rng, 1e6, 1e8, n), 0.2),
        "shared_kv_layers": sometimes(rng, np.floor((layers - linear_layers) * rng.random(n)), 0.2),
        "linear_layers": linear_layers,
        "linear_params": sometimes(rng, log_uniform(rng, 1e6, 1e9, n)),
        "linear_state": log_uniform(rng, 1e4, 1e7, n),
        "linear_tail": sometimes(rng, log_uniform(rng, 1e3, 1e5, n)),
        "sparse_topk": np.where(sparse, choose(rng, [512, 2048], n), 0.0),
        "index_layers": index_layers,
        "index_heads": np.where(sparse, 64.0, 0.0),
        "index_dim": np.where(sparse, 128.0, 0.0),
        "entry_tokens": entries,
        "pooled_layers": sometimes(own, pooled, 0.4),
        "pooled_tokens": 128.0 * np.ones(n),
        "repeated_params": sometimes(own, log_uniform(own, 1e5, 1e6, n), 0.2),
        "idle_params": sometimes(own, log_uniform(own, 1e6, 1e10, n), 0.2),
        "attn_extra_params": sometimes(rng, log_uniform(rng, 1e3, 1e7, n)),
        "extra_params": sometimes(rng, log_uniform(rng, 1e6, 1e10, n)),
        "lookup_params": sometimes(rng, log_uniform(rng, 1e6, 1e10, n), 0.2),
    }


def random_hardware(rng, n):
    """Accelerators within a factor of ten of today's, with islands of 1 to 72 GPUs."""
    flops = log_uniform(rng, 3e14, 5e15, n)
    share = {f"eff_{name}": rng.uniform(0.3, 1.0, n) for name in EFFICIENCIES}
    hidden = {f"overlap_{name}": sometimes(rng, rng.random(n)) for name in OVERLAPS}
    return {
        "hbm_bytes": log_uniform(rng, 3e10, 1e12, n),
        "hbm_bw": log_uniform(rng, 1e12, 2e13, n),
        "flops_bf16": flops,
        "flops_fp8": flops * rng.uniform(1, 3, n),
        "flops_fp4": flops * rng.uniform(2, 6, n),
        "intra_bw": log_uniform(rng, 5e10, 2e12, n),
        "inter_bw": log_uniform(rng, 1e10, 5e11, n),
        "island_size": choose(rng, [1, 2, 4, 6, 8, 16, 72], n),
        "flops_exp": sometimes(rng, log_uniform(rng, 1e12, 2e13, n)),
        "query_tile": choose(rng, [1, 8, 16, 64], n),
        "intra_latency": log_uniform(rng, 1e-7, 1e-5, n),
        "inter_latency": log_uniform(rng, 1e-6, 1e-4, n),
        "usable_fraction": rng.uniform(0.5, 1.0, n),
        "reserve_bytes": sometimes(rng, rng.uniform(0, 1e10, n)),
        "moe_reserve_bytes": sometimes(rng, rng.uniform(0, 1e10, n)),
        "exchange_overhead": sometimes(rng, rng.uniform(0, 1e-4, n)),
        "layer_overhead": sometimes(rng, rng.uniform(0, 1e-5, n)),
        "step_overhead": sometimes(rng, rng.uniform(0, 1e-3, n)),
        "latent_overhead": sometimes(rng, rng.uniform(0, 1e-5, n)),
        "expert_overhead": sometimes(rng, rng.uniform(0, 1e-5, n)),
        "sequence_overhead": sometimes(rng, rng.uniform(0, 1e-4, n)),
        "eager_overhead": np.zeros(n),
        "gemm_blend": sometimes(rng, rng.random(n)),
        "expert_blend": sometimes(rng, rng.random(n)),
        "expert_read_ratio": rng.uniform(0.5, 1.5, n),
        "expert_gemm_ratio": rng.uniform(0.5, 1.5, n),
        "gemm_startup": sometimes(rng, rng.uniform(0, 1e-5, n)),
        "attention_startup": sometimes(rng, rng.uniform(0, 1e-5, n)),
        "expert_startup": sometimes(rng, rng.uniform(0, 5e-5, n)),
        "linear_overhead": sometimes(rng, rng.uniform(0, 1e-5, n)),
        "sparse_overhead": sometimes(rng, rng.uniform(0, 5e-5, n)),
        "one_shot_share": sometimes(rng, rng.uniform(0.2, 1.0, n)),
        "two_shot_latency": sometimes(rng, rng.uniform(0, 2e-5, n)),
        "rank_latency": sometimes(rng, rng.uniform(0, 1e-6, n)),
        "mesh": sometimes(rng, rng.random(n)),
        "cp_ring_tail": sometimes(rng, rng.random(n)),
        **share,
        **hidden,
    }


def random_partitions(rng, n, models):
    """Legal and illegal partitions; half take an expert parallelism that suits model and stage."""
    degrees = {
        "tp": choose(rng, [1, 1, 2, 3, 4, 8, 16], n),
        "pp": choose(rng, [1, 1, 1, 2, 3, 8, 128], n),
        "dp": choose(rng, [1, 1, 2, 3, 4, 16], n),
        "kvp": choose(rng, [1, 1, 2, 4, 5, 8], n),
    }
    stage = degrees["dp"] * degrees["kvp"] * degrees["tp"]
    suitable = np.gcd(stage.astype(int), models["experts"].astype(int)).astype(float)
    anything = choose(rng, [1, 2, 3, 4, 8, 32, 64], n)
    return {
        **degrees,
        "ep": np.where(rng.random(n) < 0.6, suitable, anything),
        "kv_mode": choose(rng, [0, 1, 2], n),
        "tp_messages": choose(rng, [2, 4, 28], n),
        "kv_messages": choose(rng, [1, 2, 3], n),
        "ep_messages": choose(rng, [2, 4], n),
        "layout_messages": choose(rng, [1, 3], n),
        "redundant_experts": choose(rng, [0, 0, 8, 32], n),
        "replicas": choose(rng, [1, 1, 2, 5], n) if rng.random() < 0.5 else None,
    }


def random_workloads(rng, n, given):
    """Contexts of 1 to 10^7 tokens; the batch drawn, or left to be the largest that fits."""
    element = (
        "attn_weight",
        "ffn_weight",
        "head_weight",
        "embedding_weight",
        "kv",
        "index",
        "state",
        "act",
        "dispatch",
    )
    sizes = {f"bytes_{name}": choose(rng, [0.5, 0.5625, 1, 2], n) for name in element}
    batch = np.ceil(log_uniform(rng, 0.01, 5e3, n)) if given else None
    return {
        "context": np.ceil(log_uniform(rng, 1, 1e7, n)),
        "batch": batch,
        "shared_weight_ratio": choose(rng, [1, 1, 2, 3.5], n),
        "kv_block": choose(rng, [1, 16, 64], n),
        "tokens_per_step": choose(rng, [1, 1, 1.7, 3], n),
        "query_tokens": choose(rng, [1, 1, 2, 4], n),
        "kv_scale_bytes": choose(rng, [0, 0, 4, 80], n),
        **sizes,
    }


def random_designs(seed, convention, given, n):
    """Random records as dicts of arrays, the convention's numbers included, and GPU counts.

    The presets keep their numbers. `given` says whether batch and GPU count are prescribed.
    """
    rng = np.random.default_rng(seed)
    models = random_models(rng, n)
    partitions = random_partitions(rng, n, models)
    numbers = {
        "dense_flops_factor": choose(rng, [1, 3], n),
        "kv_overhead": rng.uniform(1, 2, n),
        "kv_exchange_volume": choose(rng, [0, 1, 1.5], n),
        "ep_exchange_volume": choose(rng, [1, 2], n),
        "expert_load_factor": rng.uniform(1, 2, n),
    }
    if convention in (PHYSICAL, PAPER):
        numbers = {name: np.full(n, getattr(convention, name)) for name in numbers}
    true_gpus = partitions["tp"] * partitions["pp"] * partitions["dp"] * partitions["kvp"]
    if partitions["replicas"] is not None:
        true_gpus = true_gpus * partitions["replicas"]
    gpus = np.where(rng.random(n) < 0.8, true_gpus, 64.0) if given else None
    workloads = random_workloads(rng, n, given)
    return Designs(models, random_hardware(rng, n), partitions, workloads, numbers, gpus)


def rows(fields, n, **static):
    """One namespace of Python floats for each design."""
    for i in range(n):
        values = {k: None if v is None else float(v[i]) for k, v in fields.items()}
        yield types.SimpleNamespace(**values, **static)


def records(designs, convention, dtypes, gathers=False):
    """The package's records with a leading axis of designs, and the accounting."""
    models, hardware, partitions, workloads, numbers, gpus = designs
    made = Records(
        ModelSpec(**models),
        HardwareSpec(**hardware),
        Partition(**partitions, gathers_queries=gathers),
        Workload(**workloads, **dtypes),
        gpus,
    )
    return made, dataclasses.replace(convention, **numbers)
