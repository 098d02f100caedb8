"""Models and accelerators as data: by name, or from a file of the user's.

Every number has a source; docs/guides/your-own-model.md and your-own-hardware.md show the format.
"""

import dataclasses
from pathlib import Path
from typing import Any

from qsjax.catalog import lookup
from qsjax.catalog.entries import Deviation as Deviation
from qsjax.catalog.entries import HardwareEntry as HardwareEntry
from qsjax.catalog.entries import ModelEntry as ModelEntry
from qsjax.catalog.entries import Source as Source
from qsjax.catalog.huggingface import HfModel as HfModel
from qsjax.catalog.huggingface import load as load_hf
from qsjax.catalog.lookup import hardware_entry as hardware_entry
from qsjax.catalog.lookup import model_entry as model_entry
from qsjax.catalog.quantisation import STORED
from qsjax.records.specs import Dtype, HardwareSpec, ModelSpec, Workload

__all__ = [
    "Deviation",
    "HardwareEntry",
    "HfModel",
    "ModelEntry",
    "Source",
    "hardware",
    "hardware_entry",
    "hardware_names",
    "ideal",
    "load_hf",
    "model",
    "model_entry",
    "model_names",
    "workload",
    "workload_of",
]


def model_names() -> tuple[str, ...]:
    """The names of all models, in alphabetical order."""
    return lookup.names("models")


def hardware_names() -> tuple[str, ...]:
    """The names of all accelerators, in alphabetical order."""
    return lookup.names("hardware")


def model(name: str | Path) -> ModelSpec:
    """The shape of a model: by name, Hugging Face id, config.json, its folder, or .toml file.

    Raises:
        ValueError: If the name is unknown, or with all problems of the file.

    >>> model("deepseek-ai/DeepSeek-V3").layers
    61.0
    """
    return model_entry(name).spec


def hardware(name: str | Path | None = None, **keys: Any) -> HardwareSpec:
    """The numbers of an accelerator: by name, from a .toml file, or from keys of such a file.

    Args:
        name: A name of the catalogue or the path of a .toml file.
        keys: Keys of a .toml file with their values; they replace those of `name`, without which
            the defaults of a file hold.

    Raises:
        ValueError: If the name is unknown, or with all problems of the file or the keys.

    >>> hardware("h100").intra_bw
    450000000000.0
    >>> hardware("h100", hbm_bandwidth_tb_per_s=6).hbm_bw
    6000000000000.0
    """
    return (lookup.hardware_from(name, keys) if keys else hardware_entry(name)).spec


def ideal(hardware: HardwareSpec) -> HardwareSpec:
    """The same accelerator at the speed of light: efficiencies 1, no overheads, no latencies.

    Capacity, what is reserved of it, the overlap fractions and what attention kernels run at once
    (`query_tile`) stay.
    """
    return dataclasses.replace(
        hardware,
        eff_kv_read=1.0,
        eff_weight_read=1.0,
        eff_gemm=1.0,
        eff_attention=1.0,
        eff_exp=1.0,
        eff_link=1.0,
        eff_allreduce=1.0,
        intra_latency=0.0,
        inter_latency=0.0,
        exchange_overhead=0.0,
        layer_overhead=0.0,
        latent_overhead=0.0,
        expert_overhead=0.0,
        sequence_overhead=0.0,
        prefill_overhead=0.0,
        step_overhead=0.0,
        gemm_blend=0.0,
        expert_blend=0.0,
        expert_read_ratio=1.0,
        expert_gemm_ratio=1.0,
        gemm_startup=0.0,
        attention_startup=0.0,
        expert_startup=0.0,
        linear_overhead=0.0,
        sparse_overhead=0.0,
        one_shot_share=0.0,
        two_shot_latency=0.0,
        rank_latency=0.0,
    )


def workload(name: str | Path, weights: Dtype | None = None, kv: Dtype | None = None) -> Workload:
    """The precisions that a model is published in, or others, as a workload of context 1.

    Args:
        name: as of `model`.
        weights: dtype of the attention and FFN weights instead.
        kv: dtype of the cache instead.

    Raises:
        ValueError: If the name or a dtype is unknown, or with all problems of the file.

    >>> workload("mixtral-8x7b").bytes_ffn_weight, workload("deepseek-v3").bytes_ffn_weight
    (2.0, 1.0)
    """
    return workload_of(model_entry(name), weights, kv)


def workload_of(entry: ModelEntry, weights: Dtype | None, kv: Dtype | None) -> Workload:
    """The workload of an entry; embeddings and head stay in 16 bits, as engines keep them."""
    unknown = [dtype for dtype in (weights, kv) if dtype is not None and dtype not in STORED]
    if unknown:
        raise ValueError(f"dtype {unknown[0]!r} is unknown; give one of {', '.join(STORED)}")
    ffn = weights or entry.weight_dtype
    attention = weights or entry.attn_weight_dtype
    stored = STORED[weights] if weights else entry.weight_bytes or STORED[ffn]

    def multiplied(dtype: Dtype) -> Dtype:
        own = None if weights else entry.multiply_dtype
        return dtype if dtype == "bf16" or own is None else own

    return Workload(
        context=1.0,
        bytes_attn_weight=STORED[attention],
        bytes_ffn_weight=stored,
        bytes_kv=STORED[kv or entry.kv_dtype],
        bytes_dispatch=2.0 if multiplied(ffn) == "bf16" else 1.0,
        proj_dtype=multiplied(attention),
        ffn_dtype=multiplied(ffn),
    )
