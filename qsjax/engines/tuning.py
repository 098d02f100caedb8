"""An accelerator as the kernels of an engine use it, by data/kernels.toml."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from qsjax.catalog import HardwareEntry
from qsjax.engines.rules import load_kernels
from qsjax.records.specs import HardwareSpec
from qsjax.records.units import TB, US


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Number formats of a deployment, in the words of the table.

    Attributes:
        dense: of projections and dense networks: "bf16", "fp8", "fp8_block" or "fp4".
        experts: "bf16", "fp8", "int4", "mxfp4" or "nvfp4".
        cache: "bf16" or "fp8".
    """

    dense: str
    experts: str
    cache: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The record of an accelerator with the constants of its kernels, and where they are from.

    Attributes:
        spec: the record.
        served_by: generation, engine and formats of the entries that were used; "" where the table
            has none, so that the catalogue's constants stand.
        expert_balance: how the load of the experts is counted, as its constants were fitted.
        stand_ins: what was asked for and what stands in for it, in words.
    """

    spec: HardwareSpec
    served_by: str = ""
    expert_balance: Literal["even", "skewed"] = "even"
    stand_ins: tuple[str, ...] = ()


def share_of_norm(exponent: float) -> float:
    """The share of `blend` that meets the p-norm where both resources take as long [1].

    >>> share_of_norm(1.0)
    1.0
    """
    return float((2.0 ** (1.0 / exponent) - 1.0) ** 2)


def generation_of(name: str) -> str:
    """The generation of an accelerator of the catalogue; "" if the table does not know it."""
    generations: Mapping[str, Sequence[str]] = load_kernels()["generations"]
    return next((g for g, starts in generations.items() if name.startswith(tuple(starts))), "")


def is_block_scaled(model: str) -> bool:
    """Whether FP8 checkpoints of a model have a scale for every block."""
    return model.startswith(tuple(load_kernels()["fp8_blocks"]))


def _nearest_engine(table: Mapping[str, Any], engine: str) -> str:
    order: Sequence[str] = (engine, *load_kernels()["engines"])
    return next(name for name in order if name in table)


def _nearest_format(row: Mapping[str, Any], asked: str) -> str:
    """The format itself, or what the table names instead; 16 bits in the end."""
    instead: Mapping[str, str] = load_kernels()["instead"]
    name, seen = asked, set[str]()
    while name not in row and name not in seen:
        seen.add(name)
        name = instead.get(name, "bf16")
    return name if name in row else str(next(iter(row)))


def tune(
    entry: HardwareEntry,
    engine: str,
    formats: Formats,
    release: tuple[int, int] | None = None,
) -> Tuned:
    """The accelerator as the kernels of an engine use it.

    Args:
        entry: of the catalogue.
        engine: "vllm", "sglang", "trtllm", "atom", or "" if it is not stated.
        formats: of weights and cache.
        release: of the engine, major and minor; None is a recent one.
    """
    generation = generation_of(entry.name)
    kernels = load_kernels()
    is_old = release is not None and release < tuple(kernels["since"].get(engine, release))
    if is_old or not engine:
        return Tuned(spec=entry.spec)
    if generation in kernels["plain"]:
        table = kernels["plain"][generation]
        nearest = _nearest_engine(table, engine)
        spec = dataclasses.replace(entry.spec, **table[nearest])
        return Tuned(
            spec=spec,
            served_by=f"{generation} {nearest}",
            stand_ins=_stand_ins([(engine, nearest)]),
        )
    if generation not in kernels["gemm"]:
        return Tuned(spec=entry.spec)
    nearest = _nearest_engine(kernels["gemm"][generation], engine)
    dense = _nearest_format(kernels["gemm"][generation][nearest], formats.dense)
    experts = _nearest_format(kernels["experts"][generation][nearest], formats.experts)
    used = Formats(dense=dense, experts=experts, cache=formats.cache)
    fields = {
        **_dense_fields(generation, nearest, used),
        **_expert_fields(generation, nearest, used, entry.spec),
        **_attention_fields(generation, nearest, used),
        **_allreduce_fields(generation, nearest),
        **_host_fields(nearest),
    }
    return Tuned(
        spec=dataclasses.replace(entry.spec, **fields),
        served_by=f"{generation} {nearest}, {dense} products, {experts} experts",
        expert_balance="skewed",
        stand_ins=_stand_ins(
            [(engine, nearest), (formats.dense, dense), (formats.experts, experts)]
        ),
    )


def _stand_ins(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(
        f"no kernels of {asked} are known; those of {used} stand in"
        for asked, used in pairs
        if asked != used and asked
    )


def _dense_fields(generation: str, engine: str, formats: Formats) -> dict[str, float]:
    kernels, served = load_kernels(), load_kernels()["served"]
    startup, read, peak, norm = kernels["gemm"][generation][engine][formats.dense]
    return {
        "gemm_startup": served["gemm_startup"] * startup * US,
        "eff_weight_read": read,
        "eff_gemm": served["gemm_peak"] * peak,
        "gemm_blend": share_of_norm(norm),
    }


def _expert_fields(
    generation: str, engine: str, formats: Formats, spec: HardwareSpec
) -> dict[str, float]:
    kernels, served = load_kernels(), load_kernels()["served"]
    dense = kernels["gemm"][generation][engine][formats.dense]
    startup = kernels["experts"][generation][engine][formats.experts]
    factor = served["experts"][generation].get(engine, {}).get(formats.experts, 1.0)
    read = served["expert_read"]
    if generation == "hopper" and formats.experts in ("int4", "mxfp4", "nvfp4"):
        read = min(read, served["dequantised"] * TB / float(spec.hbm_bw))  # type: ignore[arg-type]  # catalogue entries hold floats
    return {
        "expert_startup": (served["expert_startup"] * factor * startup + served["routed"]) * US,
        "expert_read_ratio": read / dense[1],
        "expert_gemm_ratio": served["expert_gemm"] / (served["gemm_peak"] * dense[2]),
        "expert_blend": share_of_norm(served["expert_norm"]),
        "expert_overhead": 0.0,
    }


def _attention_fields(generation: str, engine: str, formats: Formats) -> dict[str, float]:
    kernels, served = load_kernels(), load_kernels()["served"]
    startup, read = kernels["attention"][generation][engine][formats.cache]
    return {
        "attention_startup": served["attention_startup"] * startup * US,
        "eff_kv_read": served["attention_read"] * read,
    }


def _allreduce_fields(generation: str, engine: str) -> dict[str, float]:
    kernels, served = load_kernels(), load_kernels()["served"]
    startup, growth, one, latency, two = kernels["allreduce"][generation][engine]
    factor = served["allreduce_startup"]
    return {
        # Half of an all-reduce, of which the laws count two; shares are of the link itself.
        "intra_latency": 0.5 * factor * startup * US,
        "rank_latency": factor * growth * US,
        "one_shot_share": one / factor,
        "two_shot_latency": factor * latency * US,
        "eff_link": 0.75,
        "eff_allreduce": two / factor / 0.75,
    }


def _host_fields(engine: str) -> dict[str, float]:
    served = load_kernels()["served"]
    return {
        "layer_overhead": served["layer"][engine] * US,
        "step_overhead": served["step"][engine] * US,
        "latent_overhead": served["latent"] * US,
        "linear_overhead": served["linear"] * US,
        "sparse_overhead": served["sparse"] * US,
        "sequence_overhead": served["sequence"] * US,
        "prefill_overhead": served["prefill"] * US,
    }
