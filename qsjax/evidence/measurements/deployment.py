"""From the fields of a record to the records that the cost model takes."""

import dataclasses
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from qsjax import catalog
from qsjax.catalog import HardwareEntry, ModelEntry
from qsjax.engines import held, kernels
from qsjax.engines import releases as read
from qsjax.engines.kernels import ExpertKernels
from qsjax.engines.operating_point import OperatingPoint
from qsjax.engines.rules import refuses
from qsjax.engines.tuning import Tuned, first_release, formats_of, tune
from qsjax.evidence.measurements.names import (
    PRECISIONS,
    Precision,
    find_hardware,
    find_model,
    gpus_in,
    precision_of,
)
from qsjax.numerics.safe import scalar
from qsjax.records import checks
from qsjax.records import specs as records
from qsjax.records.specs import (
    KV_CP,
    KV_HELIX,
    PHYSICAL,
    Convention,
    ModelSpec,
    Partition,
    Workload,
)

# Engines by a part of what records call them.
ENGINES = ("trtllm", "vllm", "sglang", "atom", "neuronx")
# Engines that divide a model over the cores of a chip, of which each holds whole heads.
CORES = {"neuronx": 2.0}
KV_BLOCK = 16.0  # tokens of a block in vLLM's paged cache


class UnusableError(ValueError):
    """Why a record says too little, or something else than what the model predicts."""


def _count(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name)
    return float(value) if value else 0.0


def partition_of(record: Mapping[str, Any], facts: Mapping[str, float]) -> Partition:
    """Parallel degrees; what a record leaves out follows from its GPU count.

    SGLang's flags count the GPUs of a stage as `tp`, of which attention replicas take `dp` parts:
    --tp 8 --dp 8 --enable-dp-attention runs on 8 GPUs.

    Raises:
        UnusableError: If the degrees need more GPUs than the record has.
    """
    tp, dp, kvp = (_count(record, name) for name in ("tp", "dp", "kvp"))
    named = gpus_in(str(record.get("gpu") or ""))
    gpus, pp = _count(record, "n_gpus"), _count(record, "pp") or 1.0
    if named > 1 and not gpus:
        said = max(1.0, tp) * max(1.0, dp) * pp * max(1.0, kvp)
        if (tp or dp) and said != named:
            raise UnusableError(
                f"{record['gpu']} is {named:g} GPUs, but the degrees take {said:g}; give n_gpus"
            )
        gpus, tp = named, tp or named / (max(1.0, dp) * pp)
    kvp = kvp or 1.0
    if gpus and tp * max(1.0, dp) * pp * kvp > gpus:
        if engine_of(record) != "sglang" or tp * pp * kvp != gpus or tp % dp:
            given = f"tp={tp:g}, dp={dp or 1:g}, pp={pp:g}, kvp={kvp:g}"
            raise UnusableError(f"{given} take more than n_gpus={gpus:g}; tp counts one replica")
        tp /= dp
    tp = tp or (gpus / (dp * pp * kvp) if dp and gpus else 1.0)
    dp = max(1.0, gpus / (tp * pp * kvp)) if gpus else dp or 1.0
    ep = _count(record, "ep")
    if not ep:
        moe_tp = _count(record, "moe_tp")
        ep = dp * tp * kvp / moe_tp if moe_tp else 1.0
    mode = KV_CP if kvp > 1 else KV_HELIX
    extra = facts.get("redundant_experts", 0.0)
    return Partition(tp=tp, ep=ep, pp=pp, dp=dp, kvp=kvp, kv_mode=mode, redundant_experts=extra)


@lru_cache(maxsize=1024)  # many records are of one deployment
def _check_partition(partition: Partition, model: ModelSpec) -> None:
    """Refuse degrees that no engine would run.

    Whether `ep` divides the experts is left open: copies of busy ones are often not stated.

    Raises:
        UnusableError: With every degree that is wrong.
    """
    try:
        checks.check_partition(dataclasses.replace(partition, ep=1.0), model)
    except ValueError as error:
        lines = (line.strip() for line in str(error).splitlines()[1:])
        raise UnusableError("; ".join(lines)) from error
    ep, tp, dp, kvp = (float(getattr(partition, name)) for name in ("ep", "tp", "dp", "kvp"))
    stage, experts_held = tp * dp * kvp, scalar(model.experts) + scalar(partition.redundant_experts)
    if ep > experts_held:
        raise UnusableError(f"ep={ep:g} exceeds the number of experts, {experts_held:g}")
    if stage % ep:
        raise UnusableError(f"ep={ep:g} does not divide the {stage:g} GPUs of a stage")


def batch_of(record: Mapping[str, Any], partition: Partition) -> float:
    """Sequences of an attention replica; 0 where no field gives them."""
    dp = scalar(partition.dp)
    if record.get("batch_per_gpu"):
        gpus = _count(record, "n_gpus")
        return float(record["batch_per_gpu"]) * (gpus / dp if gpus else 1.0)
    sequences = ("mean_concurrency", "batch_total", "concurrency")
    total = next(filter(None, (_count(record, name) for name in sequences)), 0.0)
    return total / dp or _count(record, "batch")


def lengths_of(record: Mapping[str, Any], facts: Mapping[str, float]) -> tuple[float, float, float]:
    """Mean context, prompt and output [tokens]; 0 where unknown."""
    ratio = read.mean_length(facts)
    prompt, output = ratio * _count(record, "isl"), ratio * _count(record, "osl")
    context = _count(record, "avg_context") or (prompt + output / 2 if prompt else 0.0)
    return context, prompt, output


def engine_of(record: Mapping[str, Any]) -> str:
    """The engine's family; "" where none is stated or known."""
    named = str(record.get("engine") or "").lower()
    text = re.sub(r"tensorrt-llm|trt-llm|\btrt\b", "trtllm", named)
    return next((name for name in ENGINES if name in text), "")


def _own_weights(record: Mapping[str, Any], model: ModelEntry) -> str:
    """What a record's weights are that does not say it: a user's are as the checkpoint is served.

    Publications leave it out where nothing is quantised.
    """
    if record.get("category") != "user":
        return "bf16"
    try:
        entry = catalog.model_entry(str(record["model"]))
    except ValueError:
        entry = model
    if entry.weight_dtype != "fp4":
        return entry.weight_dtype
    if entry.multiply_dtype == "bf16":
        return "awq" if entry.attn_weight_dtype == "fp4" else "int4"
    return "mxfp4" if entry.weight_bytes == PRECISIONS["mxfp4"].stored else "nvfp4"


def _weights(
    record: Mapping[str, Any], model: ModelEntry, kernels: ExpertKernels, partition: Partition
) -> tuple[Precision, Precision, float]:
    """Precision of the feed-forward and of the attention weights, and the experts' launches [s]."""
    text = str(record.get("weights_dtype") or _own_weights(record, model)).lower()
    ffn = precision_of(text)
    if ffn is None:
        raise UnusableError(f"unknown precision of the weights {text!r}")
    if "awq" in text:
        return PRECISIONS["awq"], PRECISIONS["awq"], 0.0
    launches = 0.0
    if model.weight_dtype == "fp4" and ffn.native == "fp4":
        stored = PRECISIONS["mxfp4"].stored * held.padding(model, kernels, partition)
        ffn, launches = Precision(stored=stored, native="fp4"), kernels.launches
    # Four-bit checkpoints of mixtures quantise the experts and leave attention in 16 bits:
    # `exclude_modules` of nvidia/DeepSeek-V3-0324-NVFP4, `modules_to_not_convert` of gpt-oss.
    if "bf16 att" in text or (ffn.stored < 1.0 and model.spec.is_moe):
        return ffn, PRECISIONS["bf16"], launches
    return ffn, ffn, launches


def _kv_bytes(
    record: Mapping[str, Any], ffn: Precision, model: ModelSpec, hardware: HardwareEntry
) -> float:
    text = str(record.get("kv_dtype") or "auto")
    if text.lower() == "auto":
        engine = engine_of(record)
        # TensorRT-LLM checkpoints below 16 bits bring an FP8 cache; vLLM and SGLang keep BF16.
        default = 1.0 if engine == "trtllm" and ffn.stored <= 1.0 else 2.0
        return held.own_cache(engine, model, hardware) or default
    precision = precision_of(text)
    if precision is None:
        raise UnusableError(f"unknown precision of the cache {text!r}")
    return precision.stored


def _shared_ratio(published: records.Precision, ffn: Precision) -> float:
    """Bytes of a weight of shared experts and dense layers over one of a record's routed experts.

    Those of the model's own checkpoint where the record serves one of that width, else 1.
    """
    own = scalar(published.bytes_ffn_weight)
    if abs(own - ffn.stored) > 0.1 * own:
        return 1.0
    return own * scalar(published.shared_weight_ratio) / ffn.stored


def _model(record: Mapping[str, Any], spec: ModelSpec) -> ModelSpec:
    """The model, with windows twice as long where they alone keep 16 bits in a cache of 8.

    Twice the tokens at half the bytes are the same bytes; contexts are longer than two windows. A
    kernel that the memory does not bind takes twice the time for them: 0.9 us a step too much for
    gpt-oss-20b on H100.
    Source: `--kv-cache-dtype-skip-layers`, https://github.com/vllm-project/vllm/pull/33695.
    """
    if "skip-sw" not in str(record.get("kv_dtype") or "").lower():
        return spec
    return dataclasses.replace(spec, window=2.0 * scalar(spec.window))


def _padded(engine: str, spec: ModelSpec, tp: float) -> ModelSpec:
    """The model as an engine spreads it over cores that each hold whole heads.

    Heads of queries are filled up to a multiple of the cores, those of keys and values copied.
    Source: AWS Neuron documentation, Transformers NeuronX: `tp_degree` counts the two cores of each
    chip, and Llama 2 and 3 with 32, 40 and 64 heads run on the 24 of inf2.48xlarge.
    """
    cores = CORES.get(engine, 0) * tp
    if not cores:
        return spec
    sizes = {name: scalar(getattr(spec, name)) for name in ("heads", "kv_heads", "expert_ff")}
    filled: dict[str, Any] = {name: cores * math.ceil(x / cores) for name, x in sizes.items()}
    return dataclasses.replace(spec, **filled)


def _convention(record: Mapping[str, Any]) -> Convention:
    text = str(record.get("phase") or "")
    # vLLM says dual, SGLang two-batch overlap; the flags are those of both.
    named = r"(?<!no )\b[TD]BO\b|(?:two|dual)-batch overlap|microbatch"
    flags = "--enable-two-batch-overlap|--enable-dbo"
    is_halved = bool(re.search(named, text) or re.search(flags, str(record.get("notes") or "")))
    # Context parallelism copies the weights to every KV rank; Helix divides them.
    is_copied = float(record.get("kvp") or 1.0) > 1
    return dataclasses.replace(
        PHYSICAL, two_batch_overlap=is_halved, ffn_sharding="tp" if is_copied else "stage"
    )


def hardware_of(record: Mapping[str, Any]) -> HardwareEntry:
    """The catalogue's entry of a record's accelerator; `UnusableError` if there is none."""
    hardware = find_hardware(str(record["gpu"]))
    if hardware is None:
        raise UnusableError(f"accelerator {record['gpu']!r} is not in the catalogue")
    return hardware


def entries_of(record: Mapping[str, Any]) -> tuple[ModelEntry, HardwareEntry]:
    """The catalogue's entries of a record.

    Raises:
        UnusableError: If the catalogue lacks one of them.
    """
    model = find_model(str(record["model"]))
    if model is None:
        raise UnusableError(f"model {record['model']!r} is not in the catalogue")
    return model, hardware_of(record)


def _tuned(
    record: Mapping[str, Any],
    model: ModelEntry,
    hardware: HardwareEntry,
    workload: Workload,
    run_by: str,
) -> Tuned:
    """The accelerator with the constants of the kernels that run these formats."""
    formats = formats_of(model, workload, is_mxfp4=model.weight_dtype == "fp4", kernels=run_by)
    engine = engine_of(record)
    release = read.version(record) or first_release(engine, model.name)
    is_overlapped = read.is_overlapped(record, model.name)
    return tune(hardware, engine, formats, release, is_overlapped=is_overlapped)


def _served(
    record: Mapping[str, Any],
    model: ModelEntry,
    hardware: HardwareEntry,
    ffn: Precision,
    attention: Precision,
    context: float,
) -> Workload:
    """What a record serves: one sequence of a context, in its precisions of weights and cache."""
    published = model.spec.precision or records.Precision()
    bytes_kv = _kv_bytes(record, ffn, model.spec, hardware)
    return Workload(
        context=context,
        bytes_attn_weight=attention.stored,
        bytes_ffn_weight=ffn.stored,
        bytes_kv=bytes_kv,
        bytes_index=published.bytes_index,
        bytes_state=published.bytes_state,
        shared_weight_ratio=_shared_ratio(published, ffn),
        kv_scale_bytes=held.scales(engine_of(record), bytes_kv, model.spec),
        bytes_dispatch=min(2.0, max(1.0, ffn.stored)),
        kv_block=KV_BLOCK,
        attn_dtype=held.attention_dtype(bytes_kv, model.spec),
        proj_dtype=attention.native,
        ffn_dtype=ffn.native,
    )


def deployment_of(record: Mapping[str, Any], *, context: float | None = None) -> OperatingPoint:
    """What a record deployed.

    Args:
        record: fields as in the shipped data; missing ones are unknown.
        context: replaces the record's own context [tokens].

    Raises:
        UnusableError: If model, accelerator, precision, batch or context are unknown, or the engine
            does not run on the accelerator.
    """
    model, hardware = entries_of(record)
    facts = read.facts(record)
    partition = partition_of(record, facts)
    engine = engine_of(record)
    spec = _padded(engine, _model(record, model.spec), scalar(partition.tp))
    _check_partition(partition, spec)
    batch = batch_of(record, partition)
    if not batch:
        own = "; give concurrency" if record.get("category") == "user" else ""
        raise UnusableError(f"unknown batch{own}")
    own_context, prompt, output = lengths_of(record, facts)
    if not (context or own_context):
        raise UnusableError("unknown context")
    if refuses(engine, hardware.name):
        raise UnusableError(f"{engine} does not run on {hardware.name}; check the two names")
    run_by = kernels.kernels_of(record, engine, hardware)
    ffn, attention, launches = _weights(record, model, run_by, partition)
    run, accepted = read.speculation(record, facts)
    workload = dataclasses.replace(
        _served(record, model, hardware, ffn, attention, context or own_context),
        batch=batch,
        query_tokens=run,
        tokens_per_step=accepted,
    )
    tuned = _tuned(record, model, hardware, workload, run_by.name)
    return OperatingPoint(
        model=spec,
        model_name=model.name,
        hardware=tuned.spec,
        hardware_name=hardware.name,
        partition=partition,
        workload=workload,
        convention=dataclasses.replace(_convention(record), expert_balance=tuned.expert_balance),
        prompt=prompt,
        output=output,
        engine=engine,
        expert_launches=launches,
        kernels=tuned.entries,
    )
