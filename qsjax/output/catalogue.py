"""The catalogue for people: one row per model or accelerator, and every number of one."""

from collections.abc import Callable
from typing import Any

from qsjax import catalog
from qsjax.cost.laws import params
from qsjax.engines.held import cache_bytes_per_token
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output.result import Table, plain, spec_dict
from qsjax.records.precision import STORED
from qsjax.records.specs import ModelSpec
from qsjax.records.units import GB, GIB, KIB, TB, TFLOP


def _counted(law: Callable[[ModelSpec], Array], entry: catalog.ModelEntry) -> float:
    return scalar(on_host(law)(entry.spec))


def model_row(entry: catalog.ModelEntry) -> dict[str, Any]:
    """A model in the list of all: counts, experts, dtypes and the cache of a token."""
    cache = cache_bytes_per_token(entry.spec)
    total, active = _counted(params.total_params, entry), _counted(params.active_params, entry)
    return {
        "name": entry.name,
        "title": entry.title,
        "params_total": total,
        "params_active": active,
        "published_total": entry.published_total,
        "published_active": entry.published_active,
        "experts": scalar(entry.spec.experts),
        "top_k": scalar(entry.spec.top_k),
        "s": _counted(params.sparsity, entry),
        "kv_bytes_per_token_bf16": cache["bf16"],
        "kv_bytes_per_token_fp8": cache["fp8"],
        "weight_dtype": entry.weight_dtype,
        "multiply_dtype": entry.multiply_dtype or entry.weight_dtype,
        "max_context": entry.max_context or None,
    }


def model_record(entry: catalog.ModelEntry) -> dict[str, Any]:
    """Every number of a model; `params_by_part` sums to `params_total`, which leaves norms out."""
    laws = {
        "attention": params.all_attention_params,
        "pool": params.pool_params,
        "shared": params.shared_params,
        "dense_ffn": params.dense_ffn_params,
        "router": params.router_params,
        "embedding": params.embedding_params,
    }
    counted = {name: _counted(law, entry) for name, law in laws.items()}
    for part in ("extra", "lookup", "idle"):
        counted[part] = scalar(getattr(entry.spec, f"{part}_params"))
    counted["repeated"] = 0.0 - scalar(entry.spec.repeated_params)
    return {
        **model_row(entry),
        "aliases": list(entry.aliases),
        "dtypes": {**_dtypes(entry), "cache": entry.kv_dtype},
        "kv_bytes_per_token_fp8_plain": cache_bytes_per_token(entry.spec)["fp8_plain"],
        "params_by_part": counted,
        "params_norm": _counted(params.norm_params, entry),
        "shape": spec_dict(entry.spec),
        "source": entry.source,
        "published_source": entry.published_source,
        "deviations": plain(entry.deviations),
        "note": entry.note,
    }


def _dtypes(entry: catalog.ModelEntry) -> dict[str, str]:
    """Dtype of the weights of every kind of module; embedding and head stay in 16 bits."""
    known = {"attention": entry.attn_weight_dtype, "feed-forward": entry.weight_dtype}
    if entry.shared_bytes == STORED["bf16"]:
        known |= {"shared experts and dense layers": "bf16"}
    return dict(entry.modules or known)


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e9:,.2f} B"


def models_table(rows: list[dict[str, Any]]) -> Table:
    """The list of all models."""
    heads = ("name", "title", "total", "active", "experts", "top-k", "KV KiB/token (bf16)")
    return Table(
        f"{len(rows)} models; `qsjax models show NAME` gives every number and its source",
        heads,
        [
            (
                row["name"],
                row["title"],
                _count(row["params_total"]),
                _count(row["params_active"]),
                f"{row['experts']:g}" if row["experts"] > 1 else "dense",
                f"{row['top_k']:g}" if row["experts"] > 1 else "",
                f"{row['kv_bytes_per_token_bf16'] / KIB:,.1f}",
            )
            for row in rows
        ],
        2,
    )


def hardware_record(entry: catalog.HardwareEntry) -> dict[str, Any]:
    """Every number of an accelerator, with its sources and assumptions."""
    return {
        "name": entry.name,
        "title": entry.title,
        "aliases": list(entry.aliases),
        **spec_dict(entry.spec),
        "given": list(entry.given),
        "assumptions": list(entry.assumptions),
        "sources": plain(entry.sources),
        "note": entry.note,
    }


def hardware_table(rows: list[dict[str, Any]]) -> Table:
    """The list of all accelerators."""
    rates = ("HBM GiB", "TB/s", "BF16", "FP8", "FP4 TFLOP/s", "fast GB/s", "slow GB/s", "island")
    return Table(
        f"{len(rows)} accelerators; `qsjax hardware show NAME` gives every number and its source",
        ("name", "title", *rates),
        [
            (
                row["name"],
                row["title"],
                f"{row['hbm_bytes'] / GIB:,.0f}",
                f"{row['hbm_bw'] / TB:.2f}",
                *(f"{row[f'flops_{d}'] / TFLOP:,.0f}" for d in ("bf16", "fp8", "fp4")),
                f"{row['intra_bw'] / GB:,.0f}",
                f"{row['inter_bw'] / GB:,.1f}",
                f"{row['island_size']:g}",
            )
            for row in rows
        ],
        2,
    )
