"""What engines hold on a GPU: weights padded to the tiles of kernels, entries of a cache."""

import dataclasses
import math
import re
from typing import NamedTuple

from qsjax.catalog import HardwareEntry, ModelEntry
from qsjax.catalog.quantisation import MXFP4
from qsjax.cost.laws.memory import kv_bytes_per_sequence
from qsjax.engines import kernels, memory, releases
from qsjax.engines.deployment import Deployment
from qsjax.engines.kernels import ExpertKernels
from qsjax.engines.operating_point import OperatingPoint
from qsjax.engines.precision import expert_width
from qsjax.engines.rules import (
    NOT_READ,
    generation_of,
    left_behind,
    load_engines,
    load_schedulers,
    refuses,
)
from qsjax.engines.tuning import Balance, Tuned, formats_of, has_fp4_units, tune
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.precision import workload_of
from qsjax.records.specs import PHYSICAL, Dtype, HardwareSpec, ModelSpec, Partition, Workload
from qsjax.records.units import GIB, US

NAMES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM", "atom": "ATOM"}
_IN_BF16 = re.compile(r"""\bdtype["']?[=: ]{1,3}["']?(?:torch\.)?b(?:float|f)16\b""")


def padding(model: ModelEntry, rule: ExpertKernels, partition: Partition) -> float:
    """What kernels hold of MXFP4 experts over what the checkpoint holds [1]: rows and columns."""
    stage = scalar(partition.dp) * scalar(partition.kvp) * scalar(partition.tp)
    hidden = model.expert_hidden or scalar(model.spec.hidden)
    width = expert_width(model.spec, model.expert_hidden)
    shard = width / max(1.0, stage / scalar(partition.ep))

    def padded(size: float, tile: float) -> float:
        return math.ceil(size / tile) * tile / size

    return padded(hidden, rule.across) * padded(shard, rule.along)


def is_sparse(model: ModelSpec) -> bool:
    """Whether an indexer chooses the tokens of latent attention (DeepSeek sparse attention)."""
    return scalar(model.index_dim) > 0 and scalar(model.kv_latent) > 0


def has_entries(model: ModelSpec) -> bool:
    """Whether layers keep entries of several tokens (DeepSeek-V4)."""
    return scalar(model.entry_tokens) > 0 or scalar(model.pooled_layers) > 0


def own_cache(engine: str, model: ModelSpec, hardware: HardwareEntry) -> float | None:
    """Bytes of a cache element where no flag says them; None for those of the model.

    Entries of several tokens are of 8 bits in vLLM and SGLang: `--kv-cache-dtype fp8` of
    https://blog.vllm.ai/2026/04/24/deepseek-v4.html.
    """
    if has_entries(model) and engine in ("vllm", "sglang"):
        return 1.0
    if is_sparse(model) and load_engines().get(engine, {}).get("fp8_sparse_cache_with_fp4_units"):
        return 1.0 if has_fp4_units(hardware.spec) else 2.0
    return None


def attention_dtype(bytes_kv: float, model: ModelSpec) -> Dtype:
    """What multiplies in attention: latents of 8 bits meet queries of 8 bits.

    Sources: TensorRT-LLM, examples/models/core/deepseek_v3; FlashMLA-FP8,
    https://lmsys.org/blog/2025-09-26-sglang-ant-group.
    """
    return "fp8" if bytes_kv <= 1.0 and scalar(model.kv_latent) > 0 else "bf16"


def scales(engine: str, bytes_kv: float, model: ModelSpec) -> float:
    """What an entry of sparse latent attention holds beside 8-bit elements, by token and layer [B].

    Four scales of 4 B, and the rotary part in BF16: 656 B, of which 576 are elements. Entries of
    DeepSeek-V4 have eight scales of 1 B: 584 B, of which 512 are elements.
    Source: `fp8_ds_mla` of vLLM; 54.52 GiB of 1,462,784 tokens in
    https://github.com/sgl-project/sglang/pull/11309; `_scale_dim` in vLLM's
    model_executor/layers/deepseek_compressor.py.
    """
    if bytes_kv != 1.0 or engine not in ("vllm", "sglang"):
        return 0.0
    if has_entries(model):  # layers with a window have this share of a cache
        return (8.0 + scalar(model.rope_dim)) / scalar(model.window_cache)
    return 16.0 + scalar(model.rope_dim) if is_sparse(model) else 0.0


def cache_bytes_per_token(model: ModelSpec) -> dict[str, float]:
    """What a token adds to the caches of vLLM and SGLang, by the dtype of an element [B].

    "fp8" is as they lay it out: the latent entries of a model with an indexer keep scales, and
    their rotary part in 16 bits. "fp8_plain" is a byte an element, as in laws without an engine.
    """

    def size(context: float, bytes_kv: float, beside: float) -> float:
        work = workload_of(model, context=context, bytes_kv=bytes_kv, kv_scale_bytes=beside)
        return scalar(on_host(_cache)(model, Partition(), work))

    laid_out = {"bf16": (2.0, scales("vllm", 2.0, model)), "fp8": (1.0, scales("vllm", 1.0, model))}
    kinds = laid_out | {"fp8_plain": (1.0, 0.0)}
    return {name: size(2.0, *kind) - size(1.0, *kind) for name, kind in kinds.items()}


def _cache(model: ModelSpec, part: Partition, work: Workload) -> Array:
    return kv_bytes_per_sequence(model, part, work, PHYSICAL)


class Held(NamedTuple):
    """A deployment's records as its engine holds them.

    Attributes:
        hardware: with the engine's kernels and its own division of the memory.
        workload: with padded weights and the cache's dtype.
        beside: weights that no law counts [B].
        kept: what vLLM's share of the memory would hold besides weights and cache [B].
        most: sequences of a replica that the engine runs at once, beside a limit that a flag sets.
        expert_balance: how the load of the experts is counted, as the kernels were fitted.
        notes: one sentence each.
    """

    hardware: HardwareSpec
    workload: Workload
    beside: float
    kept: float
    most: float
    expert_balance: Balance
    notes: tuple[str, ...]


class _Experts(NamedTuple):
    """Bytes of an expert's weight as kernels hold it, their launches, their name, a note."""

    weight: float
    launches: float = 0.0
    kernels: str = ""
    notes: tuple[str, ...] = ()


def _record(deployment: Deployment) -> dict[str, str]:
    """The command line as a record that states its engine's release and its flags."""
    return {
        "engine": f"{deployment.engine or ''} {deployment.release}",
        "notes": deployment.words,
    }


def _experts(
    deployment: Deployment, entry: ModelEntry, hardware: HardwareEntry, part: Partition, own: float
) -> _Experts:
    """What kernels make of MXFP4 experts; others are as they are."""
    model = entry.spec
    if own != MXFP4 or not model.is_moe:
        return _Experts(own)
    rule = kernels.kernels_of(_record(deployment), deployment.engine or "", hardware)
    factor = padding(entry, rule, part)
    note = f"the experts' kernels are those of {rule.name}"
    if factor > 1:
        note += f", which pad MXFP4 weights by {100 * (factor - 1):.1f} %"
    if rule.launches:
        note += f" and take {rule.launches / US:.0f} us more in a layer"
    return _Experts(own * factor, rule.launches, rule.name, (note,))


def _facts(deployment: Deployment) -> dict[str, float]:
    """What the command line says of the memory, as `memory.usable_bytes` reads it."""
    said = {
        "memory_utilisation": deployment.free_fraction or deployment.usable_fraction,
        "static_fraction": deployment.static_fraction,
        "max_batched_tokens": deployment.batched_tokens,
        "max_sequences": deployment.batch,
        "max_model_len": deployment.context,
    }
    own: dict[str, float] = {}
    if deployment.engine == "atom":  # has the share of vLLM and profiles it with its own sizes
        rules = load_schedulers()["atom"]
        own = {"max_batched_tokens": rules["budget"][0], "max_sequences": rules["sequences"][0]}
    return own | {name: value for name, value in said.items() if value is not None}


LEAST = 1e-9  # share of an accelerator whose engine's own buffers take all of it


def _divided(
    deployment: Deployment, one: OperatingPoint
) -> tuple[HardwareSpec, float, float, float, tuple[str, ...]]:
    """The accelerator as its engine divides it, and the last four fields of `Held`."""
    facts, beside = _facts(deployment), memory.unquantised_bytes(one)
    weights = memory.sizes(one.model, one.partition, one.workload)[0] + beside
    kept = memory.vllm_kept(one, facts, weights)
    usable = memory.usable_bytes(one, facts, weights, 0.0)
    # A flag's limit is the batch itself; what it leaves is the pool of states.
    limits = facts if deployment.batch is None else {"scripted": 1.0}
    drafts = deployment.drafts is not None
    most, room = memory.limit(one, limits, usable - weights, drafts=drafts), usable - beside
    capacity = scalar(one.hardware.hbm_bytes)
    # What vLLM keeps is in its share; the others' shares are of weights and cache alone. ATOM has
    # the share of vLLM, and is divided by its rules here.
    rules = "vllm" if one.engine == "atom" else one.engine
    reserve = kept + beside if rules == "vllm" else 0.0
    hardware = dataclasses.replace(
        one.hardware,
        usable_fraction=max((room + reserve) / capacity, LEAST),
        reserve_bytes=reserve,
        moe_reserve_bytes=0.0,
    )
    note = (
        f"memory by {NAMES[rules]}'s own rules: {room / GIB:,.2f} GiB of the "
        f"{capacity / GIB:,.0f} GiB are left for weights and cache at this split"
    )
    return hardware, beside, kept, most, (note,)


def _tuned(
    deployment: Deployment,
    entry: ModelEntry,
    hardware: HardwareEntry,
    work: Workload,
    experts: _Experts,
) -> Tuned:
    """The accelerator with the constants of the engine's kernels, and which they are."""
    engine = deployment.engine or ""
    record = _record(deployment)
    asked = kernels.remarked(record)
    run_by = experts.kernels or asked or ""
    formats = formats_of(entry, work, is_mxfp4=bool(experts.kernels), kernels=run_by)
    tuned = tune(
        hardware,
        engine,
        formats,
        releases.version(record),
        experts.launches,
        is_overlapped=deployment.overlapped,
    )
    spec, notes = tuned.spec, tuned.notes
    if deployment.words and not notes:
        name = NAMES[engine]
        notes = (f"no kernels of {name} are known on {hardware.name}: the catalogue's stand",)
    is_heeded = experts.kernels or (work.ffn_dtype == "fp4" and asked in ("cutlass", "flashinfer"))
    backend = deployment.expert_kernels or "auto"
    if backend.lower() != "auto" and not (asked and is_heeded):
        notes += (f"{NOT_READ} time: the experts' backend {backend}",)
    if work.ffn_dtype == "fp4" and not has_fp4_units(hardware.spec):
        # Marlin and Triton's kernels dequantise; the units that multiply are those of 16 bits.
        spec = dataclasses.replace(spec, flops_fp4=spec.flops_bf16)
        notes += (f"{hardware.name} has no units of four bits: the weights multiply in 16 bits",)
    return dataclasses.replace(tuned, spec=spec, notes=notes)


def _left_behind(deployment: Deployment, entry: ModelEntry, hardware: str) -> tuple[str, ...]:
    """What is said of an engine that ran on an accelerator earlier; an error where none does."""
    engine, release = deployment.engine or "", releases.version(_record(deployment))
    if refuses(engine, hardware):
        raise ValueError(f"{NAMES[engine]} does not run on {hardware}; give another --hardware")
    lacking, made = load_engines(), generation_of(hardware)
    is_fp8 = entry.weight_dtype == "fp8" and not entry.multiply_dtype
    if is_fp8 and made in lacking["without_fp8"].get(engine, ()):
        raise ValueError(
            f"{NAMES[engine]} runs no weights in fp8 on {hardware}; give the model in 16 bits"
        )
    if _IN_BF16.search(deployment.words) and made in lacking["without_bf16"].get(engine, ()):
        raise ValueError(
            f"{NAMES[engine]} does not start in bf16 on {hardware}, which has no units of it; "
            "write --dtype half"
        )
    since = left_behind(engine, hardware)
    if not since or (release and release < tuple(map(int, since.split(".")))):
        return ()
    return (f"older releases alone run on {hardware}: not {NAMES[engine]} {since}",)


def held(
    deployment: Deployment,
    entry: ModelEntry,
    hardware: HardwareEntry,
    partition: Partition,
    workload: Workload,
    *,
    is_cache_given: bool = False,
) -> Held:
    """What the engine of a deployment holds: padded weights, its cache's entries, its own share.

    The same rules predict the sizes that engines log (`qsjax validate`).

    Args:
        deployment: the engine's command line, read.
        entry: the model.
        hardware: the accelerator.
        partition: the degrees that memory is divided by.
        workload: dtypes and lengths, before the engine's own.
        is_cache_given: the workload's cache dtype was asked for.

    Raises:
        ValueError: the engine does not run on the accelerator, or not in that dtype.
    """
    engine = deployment.engine or ""
    left = _left_behind(deployment, entry, hardware.name)
    experts = _experts(deployment, entry, hardware, partition, scalar(workload.bytes_ffn_weight))
    notes = left + experts.notes
    bytes_kv = scalar(workload.bytes_kv)
    own = own_cache(engine, entry.spec, hardware)
    if own is not None and not is_cache_given and own != bytes_kv:
        bytes_kv = own
        width = "FP8" if own == 1.0 else "BF16"
        notes += (f"{NAMES[engine]} keeps this model's cache in {width} unless a flag says else",)
    work = dataclasses.replace(
        workload,
        bytes_ffn_weight=experts.weight,
        bytes_kv=bytes_kv,
        kv_scale_bytes=scales(engine, bytes_kv, entry.spec),
        attn_dtype=attention_dtype(bytes_kv, entry.spec),
    )
    tuned = _tuned(deployment, entry, hardware, work, experts)
    one = OperatingPoint(
        model=entry.spec,
        model_name=entry.name,
        hardware=tuned.spec,
        hardware_name=hardware.name,
        partition=partition,
        workload=work,
        engine=engine,
        release=memory.release_of(_record(deployment)) if engine == "vllm" else "",
    )
    spec, beside, kept, most, about = _divided(deployment, one)
    notes = (*notes, *tuned.notes, *about)
    return Held(spec, work, beside, kept, most, tuned.expert_balance, notes)
