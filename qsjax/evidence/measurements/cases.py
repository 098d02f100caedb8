"""Which quantity of the model a record measures, or why none."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from qsjax.catalog import hardware_entry
from qsjax.cost.speculation import draft_model, draft_seconds
from qsjax.engines import releases as read
from qsjax.engines.memory import release_of, running, too_full, too_heavy
from qsjax.engines.operating_point import OperatingPoint
from qsjax.evidence.measurements import kernels
from qsjax.evidence.measurements.deployment import (
    UnusableError,
    batch_of,
    deployment_of,
    partition_of,
)
from qsjax.evidence.measurements.kernels import Kernel
from qsjax.evidence.measurements.names import TABLE, find_hardware, is_median, metric_of, rate_unit
from qsjax.grid.cells import GPU_DEGREES
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.checks import LARGEST
from qsjax.records.specs import PHYSICAL, Convention, Records, Workload
from qsjax.records.units import GIB, TIMES

Kind = (
    Literal["tpot", "served_tpot", "ttft", "throughput", "served_throughput", "static"]
    | Literal["slope", "intercept", "tokens", "kv", "weights"]
)
# Contexts between which the published linear fits of the inter-token latency were made [tokens].
SWEEP = (256.0, 125_000.0)
# Kinds of measurement in which prompts and answers share the GPUs.
SERVED = ("served_tpot", "served_throughput", "ttft")
GPUS_PER_NODE = 8.0
_SHARES = frozenset(("memory_utilisation", "static_fraction"))
MEMORY_FACTS = _SHARES | {"memory_gb", "memory_gib", "weights_gb"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One number of a record and the deployments that predict it.

    Attributes:
        id: of the record.
        kind: what is predicted: time to first token, time per token or tokens/s without or with
            the prompts of others, tokens/s of a static batch, slope and intercept of the time per
            token over the context, tokens that the cache holds, bytes of cache or weights per GPU.
        measured: in the unit of the record.
        unit: one unit of the record in SI.
        deployments: one, or two at the ends of a sweep.
        facts: what the record states besides its fields.
        is_median: whether it is the median of all requests, instead of their mean.
        not_scored: why the prediction is not held against the measurement; "" where it is.
    """

    id: str
    kind: Kind
    measured: float
    unit: float
    deployments: tuple[OperatingPoint, ...]
    facts: dict[str, float]
    is_median: bool = False
    not_scored: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A record without a prediction."""

    id: str
    because: str


def plain(case: Case) -> Case:
    """The case without the constants of an engine's kernels: on the catalogue's accelerator."""
    return dataclasses.replace(case, deployments=tuple(map(_plain, case.deployments)))


def _plain(one: OperatingPoint) -> OperatingPoint:
    if one.kernels is None:
        return one
    return dataclasses.replace(
        one,
        hardware=hardware_entry(one.hardware_name).spec,
        convention=dataclasses.replace(one.convention, expert_balance=PHYSICAL.expert_balance),
        kernels=None,
    )


_NEVER: dict[str, str] = TABLE["never"]
_KINDS: dict[str, tuple[Kind, str]] = TABLE["kinds"]


def _unpredictable(record: Mapping[str, Any]) -> str | None:
    """Why a record as a whole says nothing of the model; None if it may."""
    phase, notes = str(record.get("phase") or ""), str(record.get("notes") or "")
    checks = {
        _NEVER.get(str(record["category"]), ""): record["category"] in _NEVER,
        "saturated: requests queue, fewer are in flight than the concurrency says": record.get(
            "saturated"
        ),
        "an outlier against repeated runs": record.get("outlier"),
        "simulated, not measured": "simulat" in f"{record['metric']} {notes} {phase}".lower()
        or "sim-MTP" in phase,
        "not one number": not isinstance(record["value"], int | float)
        or isinstance(record["value"], bool)
        or not abs(record["value"]) <= LARGEST,
        "a ratio of two deployments, of which one is not stated": record.get("unit") == "x",
        "capacity as planned, not as measured": "theoretical" in str(record["metric"]),
        "a setting that works, not the capacity": record["metric"] == "max_context_single_request",
        "no cache fits: an error relative to nothing": record["metric"] == "kv_gib_available"
        and isinstance(record["value"], int | float)
        and record["value"] <= 0,
        "prefill": phase.startswith("prefill") or "prefill" in str(record["metric"]),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _not_scored(record: Mapping[str, Any]) -> str:
    """Why a record cannot tell whether the model is right, though it says enough to predict it."""
    stated = str(record.get("not_scored") or "")
    unstated = record.get("speculation") == "not stated"
    return stated or ("speculation is not stated" if unstated else "")


def _throughput(record: Mapping[str, Any]) -> tuple[Kind, float] | None:
    """Tokens/s: whole deployment per unit of the record."""
    metric, phase = str(record["metric"]).lower(), str(record.get("phase") or "")
    unit = rate_unit(str(record.get("unit") or ""), metric)
    counts = f"{metric} {record.get('unit')}".lower()
    if unit.startswith("tok/s") and re.search("total|input", counts) and "output" not in metric:
        raise UnusableError(f"metric {record['metric']!r} may count prompts; give output tokens")
    partition = partition_of(record, {})
    gpus = math.prod(scalar(getattr(partition, name)) for name in GPU_DEGREES)
    is_served = "aggregated" in phase or phase.startswith("mixed")
    kind: Kind = "served_throughput" if is_served else "throughput"
    kind = "static" if "static" in phase else kind
    if unit.startswith("tok/s/gpu"):
        return kind, gpus
    if unit.startswith("tok/s/node"):
        return kind, gpus / GPUS_PER_NODE
    if unit.startswith("tok/s (whole"):
        return kind, 1.0
    if unit == "tok/s/user":
        return kind, scalar(partition.dp) * batch_of(record, partition)
    return None


def _time_unit(text: str) -> float:
    """Seconds of a unit such as "ms" or "us/token"."""
    name = text.split("/")[0].strip()
    if name not in TIMES:
        raise UnusableError(f"unit {text!r} is not a time; known: {', '.join(TIMES)}")
    return TIMES[name]


def _kind(record: Mapping[str, Any]) -> tuple[Kind, float]:
    metric = metric_of(str(record["metric"]))
    if metric in _KINDS:
        kind, of = _KINDS[metric]
        unit = {"GiB": GIB, "1": 1.0}.get(of, 0.0)  # of contexts, whose length the deployment has
        if of == "time":
            unit = _time_unit(str(record["unit"]))
        phase = str(record.get("phase") or "")
        if metric == "TPOT" and ("aggregated" in phase or phase.startswith("mixed")):
            kind = "served_tpot"
        return kind, unit
    throughput = _throughput(record)
    if throughput is None or not throughput[1]:
        raise UnusableError(f"metric {metric!r} in {record.get('unit')!r} is not predicted")
    if "e2e" in metric:
        raise UnusableError("end to end over prefill and decode GPUs whose numbers are not stated")
    return throughput


def _materialised(one: OperatingPoint) -> Workload:
    """The cache of an engine without latent attention: keys and values of every head."""
    model = one.model
    width = scalar(model.qk_nope_dim) + scalar(model.rope_dim)
    heads = scalar(model.heads) / scalar(one.partition.tp)
    latent = scalar(model.kv_latent) + scalar(model.rope_dim)
    per_element = scalar(one.workload.bytes_kv) * 2.0 * heads * width / latent
    return dataclasses.replace(one.workload, bytes_kv=per_element)


def _sized(record: Mapping[str, Any], kind: Kind, facts: dict[str, float]) -> OperatingPoint:
    """The deployment of a size: it needs no batch, and one of tokens no context.

    An accelerator that the catalogue lacks will do if the record states the memory it has.
    """
    if kind == "weights" or {"usable_gib", "memory_gib"} & set(facts):
        known = find_hardware(str(record["gpu"])) is not None
        record = record if known else {**record, "gpu": "h100"}
    length = (record.get("isl") or 0.0) + (record.get("osl") or 0.0)
    context = float(record.get("avg_context") or length or 1024.0)
    one = deployment_of({**record, "batch_total": 1.0, "batch_per_gpu": None}, context=context)
    one = dataclasses.replace(one, release=release_of(record) if one.engine == "vllm" else "")
    remarks = f"{record.get('notes')} {record.get('phase')}"
    if re.search(r"without mla|pre-mla", remarks, re.IGNORECASE):
        one = dataclasses.replace(one, workload=_materialised(one))
    return one


def read_cases(records: Sequence[Mapping[str, Any]]) -> list[Case | Kernel | Skipped]:
    """Every record as a case, or why the model does not predict it.

    Records of one publication about one deployment share what it states of the memory.
    """
    shared: dict[tuple[str, ...], list[tuple[Mapping[str, Any], dict[str, float]]]] = {}
    for record in records:
        wrong = record.get("unusable") or read.malformed(record)
        stated = (record, {} if wrong else read.facts(record))
        shared.setdefault(_publication(record), []).append(stated)
    cases = []
    for i, record in enumerate(records):
        lent = _lent(record, shared[_publication(record)])
        full = {**record, **{k: v for k, v in lent.items() if record.get(k) is None}}
        if i and "same experiment as previous record" in str(record.get("notes")):
            full["phase"] = records[i - 1].get("phase")
        cases.append(read_case(full))
    return cases


def _lent(
    record: Mapping[str, Any], others: Sequence[tuple[Mapping[str, Any], dict[str, float]]]
) -> dict[str, float]:
    """What a publication states of the memory of a record.

    Two values of one metric are of two settings, so that neither lends the other its share; nor
    does a publication that states several.
    """
    values: dict[str, set[float]] = {}
    for other, stated in others:
        is_another = other.get("metric") == record.get("metric") and other is not record
        is_another = is_another and other.get("value") != record.get("value")
        for name in MEMORY_FACTS & set(stated):
            if not (is_another and name in _SHARES):
                values.setdefault(name, set()).add(stated[name])
    return {name: min(stated) for name, stated in values.items() if len(stated) == 1}


def _publication(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(record.get(name)) for name in ("source", "model", "gpu", "n_gpus"))


@on_host
def _draft_seconds(records: Records, *, convention: Convention) -> Array:
    return draft_seconds(draft_model(records.model, "mtp"), records, convention)


def _drafting(one: OperatingPoint) -> OperatingPoint:
    """The deployment with the time of its drafts, one after the other, by a layer of the model."""
    drafts = scalar(one.workload.query_tokens) - 1.0
    if not drafts > 0:
        return one
    records = Records(one.model, one.hardware, one.partition, one.workload)
    each = scalar(_draft_seconds(records, convention=one.convention))
    return dataclasses.replace(
        one, workload=dataclasses.replace(one.workload, draft_time=drafts * each)
    )


def _timed(
    record: Mapping[str, Any], kind: Kind, facts: dict[str, float]
) -> tuple[OperatingPoint, ...]:
    """The deployments of a time or a rate: one, or two at the ends of a sweep."""
    contexts = SWEEP if kind in ("slope", "intercept") else (None,)
    deployments = tuple(deployment_of(record, context=context) for context in contexts)
    one = deployments[0]
    if wrong := too_heavy(one, facts) or (kind not in SERVED and too_full(one, facts)):
        raise UnusableError(wrong)
    if (kind == "static" and not one.prompt) or (kind in SERVED and not one.output):
        raise UnusableError("unknown lengths of prompt and output")
    if kind in ("tpot", "served_tpot") and 0.0 < one.output <= 1.0:
        raise UnusableError("osl is 1: after the first token comes none whose time this could be")
    if kind in ("served_tpot", "served_throughput") and not record.get("mean_concurrency"):
        works = (dataclasses.replace(x.workload, batch=running(x, facts)) for x in deployments)
        pairs = zip(deployments, works, strict=True)  # not all of those in flight run
        deployments = tuple(dataclasses.replace(one, workload=work) for one, work in pairs)
    return tuple(map(_drafting, deployments))


def read_case(record: Mapping[str, Any]) -> Case | Kernel | Skipped:
    """What a record measures, or why the model does not predict it."""
    name = str(record["id"])
    wrong = record.get("unusable") or read.malformed(record)
    if wrong is not None:
        return Skipped(id=name, because=wrong)
    if record["category"] in kernels.CATEGORIES:
        try:
            return kernels.read(record)
        # Also values that are no numbers, or beyond all floats.
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            return Skipped(id=name, because=str(error))
    reason = _unpredictable(record)
    if reason is not None:
        return Skipped(id=name, because=reason)
    facts = read.facts(record)
    try:
        kind, unit = _kind(record)
        if kind in ("tokens", "kv", "weights"):
            deployments: tuple[OperatingPoint, ...] = (_sized(record, kind, facts),)
            unit = unit or scalar(deployments[0].workload.context)
        else:
            deployments = _timed(record, kind, facts)
    except (TypeError, ValueError) as error:  # also fields that are no numbers
        return Skipped(id=name, because=str(error))
    if record["value"] <= 0:
        return Skipped(id=name, because="not above zero: an error relative to nothing")
    return Case(
        id=name,
        kind=kind,
        measured=float(record["value"]),
        unit=unit,
        deployments=deployments,
        facts=facts,
        is_median=is_median(record),
        not_scored=_not_scored(record),
    )
