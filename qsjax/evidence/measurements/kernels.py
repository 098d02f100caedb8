"""Kernels and collectives measured by themselves, predicted from the building blocks of a step.

All-reduces of an engine, DeepGEMM's products and FlashMLA have the laws of an engine's kernels,
without what serving makes of them; NCCL's collectives, of which no step is made, those of a ring.
Their constants are those of kernel tables, those of exchanges by library.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from qsjax.catalog import HardwareEntry
from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.laws import collectives, communication, compute
from qsjax.cost.laws.sharding import context_of
from qsjax.engines.operating_point import OperatingPoint
from qsjax.engines.rules import generation_of, load_kernels
from qsjax.engines.tuning import Entries, Formats, fields, find
from qsjax.evidence.measurements.deployment import UnusableError, hardware_of
from qsjax.evidence.measurements.names import PRECISIONS, find_model
from qsjax.grid.axes import stack
from qsjax.numerics.namespace import ArrayLike, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import blend, scalar
from qsjax.records.specs import PHYSICAL, HardwareSpec, ModelSpec, Partition, Records, Workload
from qsjax.records.units import US

Part = Literal["attention", "experts", "dispatch", "combine", "exchange"]
CATEGORIES = ("kernel", "moe_a2a", "nccl")
# A curve over message sizes is read where decode works: 64 tokens of 8,192 elements in BF16 [B].
MESSAGE = 2.0**20
_MLA = re.compile(r"MLA decode \((\d+) heads, (\d+)\+(\d+)\)")
_GEMM = re.compile(r"grouped GEMM E=(\d+) local=\d+ topk=(\d+) h=(\d+) f=(\d+)")
_COLLECTIVE = re.compile(r"(all_gather|reduce_scatter|all_reduce|alltoall) x(\d+)")
# Engines whose own all-reduces are named after them.
_ENGINE = re.compile(r"\b(vllm|sglang|trtllm)", re.IGNORECASE)
# Libraries of exchanges, by a part of what was measured.
_EXCHANGES = {"OneSided": "one_sided", "TwoSided": "two_sided", "deepep": "deepep", "pplx": "pplx"}
_PLAIN = Formats(dense="bf16", experts="bf16", cache="bf16")
# DeepGEMM and FlashMLA, which InferSim measured, are the kernels of this engine's tables.
LIBRARIES = "sglang"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel or collective and what was measured of it.

    Attributes:
        id: of the record.
        part: of a decode step, or the name of a collective.
        measured: time [us].
        one: what runs it; of a collective only the accelerator.
        ranks: of a collective.
    """

    id: str
    part: str
    measured: float
    one: OperatingPoint
    ranks: float = 1.0


def read(record: Mapping[str, Any]) -> Kernel:
    """The kernel of a record.

    Raises:
        UnusableError: Why the model has nothing to say of it.
    """
    name, value = str(record["model"]), record["value"]
    hardware = hardware_of(record)
    if record["category"] == "nccl":
        found = _COLLECTIVE.search(name)
        if found is None or not isinstance(value, Mapping):
            raise UnusableError("a collective without a size or a curve")
        one = _deployment(_LAYER, name, hardware, Partition(), Workload(context=1.0, batch=1.0))
        if engine := _ENGINE.search(name):
            one = _alone(one, engine[1].lower())
        return Kernel(
            id=str(record["id"]),
            part=found[1],
            measured=_at_message(value),
            one=one,
            ranks=float(found[2]),
        )
    if not str(record.get("unit") or "").startswith("us"):
        raise UnusableError("a rate of a kernel by itself: where the efficiencies come from")
    measured = float(sum(value)) if isinstance(value, list) else float(value)
    part, one = (
        _moe_a2a(record, hardware) if "a2a" in record["category"] else _kernel(record, hardware)
    )
    return Kernel(id=str(record["id"]), part=part, measured=measured, one=one)


# One layer with experts and latent attention; the shapes of a record replace its own.
_LAYER = ModelSpec(
    layers=1.0, hidden=7168.0, vocab=1.0, heads=128.0, kv_heads=128.0, head_dim=192.0,
    expert_ff=2048.0, experts=256.0, top_k=8.0, kv_latent=512.0, rope_dim=64.0, qk_nope_dim=128.0,
    v_head_dim=128.0,
)  # fmt: skip


def _deployment(
    model: ModelSpec, name: str, hardware: HardwareEntry, partition: Partition, workload: Workload
) -> OperatingPoint:
    return OperatingPoint(
        model=model,
        model_name=name,
        hardware=hardware.spec,
        hardware_name=hardware.name,
        partition=partition,
        workload=workload,
    )


# What serving makes of the tables: nothing.
_UNSERVED = {
    "gemm_peak": 1.0,
    "gemm_startup": {"others": 1.0},
    "experts": {"quantised": 0.0, "others": {}},
    "newer": {},
}


def _alone(one: OperatingPoint, engine: str, formats: Formats = _PLAIN) -> OperatingPoint:
    """With the laws of an engine's kernels as its tables have them, without what serving adds."""
    entries = find(one.hardware_name, engine, formats, None)
    if entries is None and one.hardware_name in load_kernels()["unlike"]:
        # Its deployments are not like its generation's; its launches are.
        made = generation_of(one.hardware_name)
        entries = Entries(generation=made, engine=engine, formats=formats)
    if entries is None or not entries.has_tables:
        return one
    alone = {**load_kernels()["served"], **_UNSERVED}
    changes: dict[str, Any] = fields(entries, one.hardware, alone)
    return dataclasses.replace(
        one, hardware=dataclasses.replace(one.hardware, **changes), kernels=entries
    )


def with_exchange(one: OperatingPoint, constants: Sequence[float]) -> OperatingPoint:
    """With the exchanges of a library.

    Args:
        one: the deployment.
        constants: start-up of a dispatch or a combine inside an island [us], its growth per
            doubling of the ranks [us], share of the link; then start-up and share of the fabric
            between islands, or nothing where the library was not measured there.
    """
    gpu = one.hardware
    startup, growth, share, *between = constants
    changes: dict[str, Any] = {
        "intra_latency": (startup + growth * math.log2(scalar(one.partition.ep))) * US,
        "exchange_overhead": 0.0,
        "intra_bw": share * scalar(gpu.intra_bw),
        "eff_link": 1.0,
        "inter_bw": scalar(gpu.eff_link) * scalar(gpu.inter_bw),
    }
    if between:
        changes |= {"inter_latency": between[0] * US, "inter_bw": between[1] * scalar(gpu.inter_bw)}
    return dataclasses.replace(one, hardware=dataclasses.replace(gpu, **changes))


def library_of(metric: str) -> str:
    """The library of an exchange in the table; "" where it has no entry."""
    return next((name for part, name in _EXCHANGES.items() if part in metric), "")


def _at_message(curve: Mapping[str, Any]) -> float:
    """Time at MESSAGE of a curve in us by bytes, or of a start-up and a bandwidth [us]."""
    if "alpha_us" in curve:
        return float(curve["alpha_us"]) + MESSAGE / (float(curve["algbw_GBps"]) * 1e9) / US
    sizes = np.array([float(size) for size in curve])
    times = np.array([float(time) for time in curve.values()])
    order = np.argsort(sizes)
    return float(np.interp(MESSAGE, sizes[order], times[order]))


def _batch(record: Mapping[str, Any]) -> float:
    batch = record.get("batch_per_gpu") or record.get("batch_total")
    if not batch:
        raise UnusableError("unknown batch")
    return float(batch)


def _kernel(record: Mapping[str, Any], hardware: HardwareEntry) -> tuple[Part, OperatingPoint]:
    name = str(record["model"])
    if found := _MLA.search(name):
        heads, latent, rope = map(float, found.groups())
        model = dataclasses.replace(
            _LAYER, heads=heads, kv_heads=heads, kv_latent=latent, rope_dim=rope
        )
        stored = PRECISIONS[str(record.get("kv_dtype") or "bf16")].stored
        work = Workload(
            context=float(record.get("avg_context") or 0.0), batch=_batch(record), bytes_kv=stored
        )
        one, formats = _deployment(model, name, hardware, Partition(), work), _PLAIN
        if stored > 1.0:
            formats = dataclasses.replace(_PLAIN, cache="latent")
        return "attention", _alone(one, LIBRARIES, formats)
    if found := _GEMM.search(name):
        experts, top_k, hidden, width = map(float, found.groups())
        model = dataclasses.replace(
            _LAYER, experts=experts, top_k=top_k, hidden=hidden, expert_ff=width
        )
        ep = float(record.get("ep") or 1.0)
        work = Workload(context=1.0, batch=_batch(record))
        one = _deployment(model, name, hardware, Partition(ep=ep, dp=ep), work)
        one = _alone(one, LIBRARIES, Formats(dense="fp8_block", experts="fp8_block", cache="bf16"))
        # Two dense products: nothing is routed, permuted or quantised.
        spec = dataclasses.replace(one.hardware, expert_read_ratio=1.0, expert_gemm_ratio=1.0)
        return "experts", dataclasses.replace(one, hardware=spec)
    raise UnusableError("a kernel by itself for which the model has no term")


def _moe_a2a(record: Mapping[str, Any], hardware: HardwareEntry) -> tuple[Part, OperatingPoint]:
    metric, model = str(record["metric"]), find_model(str(record["model"]).split(" shape")[0])
    if "prepare" in metric:
        raise UnusableError("no term: the exchange of indices before a dispatch")
    if "low_precision" in metric or model is None:
        raise UnusableError("an exchange whose payload is not stated")
    both = isinstance(record["value"], list)
    part: Part = "exchange" if both else "dispatch" if "dispatch" in metric else "combine"
    text = f"{record.get('payload_dtype') or ''} {record.get('notes') or ''}".lower()
    # Low-latency kernels dispatch in FP8 unless they say otherwise, and combine in BF16.
    stated = next((p for key, p in PRECISIONS.items() if key in text.replace("bfloat", "bf")), None)
    stored = (stated or PRECISIONS["fp8"]).stored
    spec = dataclasses.replace(_LAYER, hidden=model.spec.hidden, top_k=model.spec.top_k)
    ep = float(record.get("ep") or 1.0)
    work = Workload(context=1.0, batch=_batch(record), bytes_dispatch=stored)
    one = _deployment(spec, model.name, hardware, Partition(ep=ep, dp=ep), work)
    library = library_of(metric)
    return part, with_exchange(one, load_kernels()["exchange"][library]) if library else one


def _collective(kernel: Kernel, hardware: HardwareSpec) -> float:
    """Time of a collective over MESSAGE [s]: of an engine's own kernel, else of NCCL's ring."""
    ranks = collectives.group(kernel.ranks, 1.0, hardware, PHYSICAL)
    if kernel.one.kernels is not None:
        two = collectives.all_reduce(ranks, MESSAGE, hardware, PHYSICAL)
        one = collectives.one_shot(ranks, MESSAGE, hardware, PHYSICAL)
        latency = xp.asarray(hardware.two_shot_latency)
        cost = communication.shorter(communication.Reduction(two, latency, one), 1.0)
        return float(cost.startup + cost.bandwidth)
    # A ring, whose long messages fill the link.
    others = kernel.ranks - 1.0
    hops = {"all_reduce": 2.0 * others, "alltoall": 2.0}.get(kernel.part, others)
    table = load_kernels()["nccl"].get(generation_of(kernel.one.hardware_name))
    law = {"all_reduce": collectives.all_reduce, "alltoall": collectives.all_to_all}
    filled = dataclasses.replace(hardware, eff_allreduce=1.0)
    cost = law.get(kernel.part, collectives.half_collective)(ranks, MESSAGE, filled, PHYSICAL)
    startup = float(cost.startup) if table is None else (table[0] + hops * table[1]) * US
    return startup + float(cost.bandwidth)


def _step_part(part: Part, records: Records, step: StepCost) -> tuple[ArrayLike, ArrayLike]:
    """Arithmetic and bytes of a part of a layer, start-ups and bytes of an exchange [s]."""
    hardware, work = records.hardware, records.workload
    if part == "attention":
        return step.compute.attention, step.hbm.kv + step.hbm.activations.attention
    if part == "experts":
        flops = compute.routed_flops(context_of(records, PHYSICAL), step.microbatch, xp.ones(()))
        peak = compute.peak_flops(hardware, work.ffn_dtype, PHYSICAL) * hardware.eff_gemm
        return flops / peak, step.hbm.routed + step.hbm.activations.ffn
    exchange, payload = step.comm.ep, work.bytes_dispatch / (work.bytes_dispatch + work.bytes_act)
    if part == "exchange":
        return exchange.startup, exchange.bandwidth
    share = payload if part == "dispatch" else 1.0 - payload
    return 0.5 * exchange.startup, share * exchange.bandwidth


def times(kernels: Sequence[Kernel], constants: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Predicted time [us] and what bounds it, of each kernel."""
    found: dict[int, tuple[float, str]] = {}
    given = {name: value for name, value in constants.items() if name != "trtllm_overhead"}
    for i, kernel in enumerate(kernels):
        if kernel.part in ("all_reduce", "all_gather", "reduce_scatter", "alltoall"):
            hardware = kernel.one.hardware
            if kernel.one.kernels is None:
                hardware = dataclasses.replace(hardware, **given)
            found[i] = _collective(kernel, hardware) / US, "communication-bound"
    for part in get_args(Part):
        chosen = [i for i, kernel in enumerate(kernels) if kernel.part == part]
        if chosen:
            predicted = _together([kernels[i].one for i in chosen], part, given)
            found.update(zip(chosen, predicted, strict=True))
    return [found[i] for i in range(len(kernels))]


@on_host
def _sides(records: Records, *, part: Part) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    """What bounds a part of a layer on either side, and its time [s]."""
    hardware, step = records.hardware, decode_step(records, PHYSICAL)
    first, second = _step_part(part, records, step)
    first, second = xp.asarray(first), xp.asarray(second)
    if part == "experts":
        both = blend(first, second, hardware.gemm_blend)
        return first, second, both + 2.0 * xp.asarray(hardware.gemm_startup)
    if part == "attention":
        return first, second, xp.maximum(first, second) + xp.asarray(hardware.attention_startup)
    return first, second, first + second


_BOUNDS = dict.fromkeys(("experts", "attention"), ("compute-bound", "bandwidth-bound"))


def _together(ones: Sequence[OperatingPoint], part: Part, fields: Any) -> list[tuple[float, str]]:
    def leaves(name: str) -> Any:
        return stack([getattr(one, name) for one in ones])

    hardware = dataclasses.replace(leaves("hardware"), **fields)
    records = Records(leaves("model"), hardware, leaves("partition"), leaves("workload"))
    first, second, time = (np.asarray(x) + np.zeros(len(ones)) for x in _sides(records, part=part))
    names = np.where(first > second, *_BOUNDS.get(part, ("latency-bound", "communication-bound")))
    return [(float(t) / US, str(name)) for t, name in zip(time, names, strict=True)]
