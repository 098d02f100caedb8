"""An accelerator as the kernels of an engine use it, by kernels.toml."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from qsjax.engines.rules import generation_of, load_kernels
from qsjax.numerics.safe import scalar
from qsjax.records.fields import defaults_of
from qsjax.records.specs import HardwareSpec, Workload
from qsjax.records.units import TB, US

# A weight of four bits that no unit of Hopper multiplies: kernels widen it first.
WIDENED = ("int4", "mxfp4", "nvfp4")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Number formats of a deployment, in the words of the table.

    Attributes:
        dense: of projections and dense networks: "bf16", "fp8", "fp8_block" or "fp4".
        experts: "bf16", "fp8", "fp8_block", "int4", "mxfp4", "nvfp4", or of the latter two those
            of other kernels, such as "mxfp4_triton" and "nvfp4_cutlass".
        cache: "bf16", "fp8" or "latent", a latent of 16 bits.
    """

    dense: str
    experts: str
    cache: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Which entries of the table serve a deployment.

    `is_newer`: the engine is of a release from which on its constants differ. `is_serial`: its
    steps wait for the host.
    """

    generation: str
    engine: str
    formats: Formats
    is_newer: bool = False
    is_serial: bool = False

    @property
    def has_tables(self) -> bool:
        """Whether kernels of the generation were measured by themselves; AMD's were not."""
        return self.generation in load_kernels()["gemm"]

    def __str__(self) -> str:
        since = newer_since(self.generation, self.engine)
        release = ""
        if since:
            first = ".".join(map(str, since))
            release = f" {first} or newer" if self.is_newer else f" before {first}"
        name = f"{self.generation} {self.engine}{release}"
        if not self.has_tables:
            return name
        return f"{name}, {self.formats.dense} products, {self.formats.experts} experts"


Balance = Literal["even", "skewed"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The record of an accelerator with the constants of its kernels, and where they are from.

    Attributes:
        spec: the record.
        entries: what was used; None where the table has nothing, so that the catalogue's constants
            stand.
        expert_balance: how the load of the experts is counted, as its constants were fitted.
        notes: what was used, and what stands in for what was asked for, in words.
    """

    spec: HardwareSpec
    entries: Entries | None = None
    expert_balance: Balance = "even"
    notes: tuple[str, ...] = ()


class Named(Protocol):
    """A model or an accelerator under its name."""

    @property
    def name(self) -> str:
        """In the catalogue."""

    @property
    def spec(self) -> Any:
        """Its record."""


def formats_of(
    model: Named, work: Workload, *, is_mxfp4: bool = False, kernels: str = ""
) -> Formats:
    """The formats of a workload.

    Args:
        model: its name says which scales its FP8 has, its record what is cached.
        work: bytes and dtypes.
        is_mxfp4: experts of four bits are MXFP4, as the checkpoint has them.
        kernels: of experts of four bits, by `kernels.name_of`.
    """
    dense: str = work.proj_dtype
    experts: str = work.ffn_dtype
    if model.name.startswith(tuple(load_kernels()["fp8_blocks"])):  # a scale for every block
        dense, experts = ("fp8_block" if one == "fp8" else one for one in (dense, experts))
    if experts == "fp4":
        experts = "mxfp4" if is_mxfp4 else "nvfp4"
        if kernels == "cutlass" or (is_mxfp4 and kernels == "triton"):
            experts = f"{experts}_{kernels}"
    elif experts == "bf16" and scalar(work.bytes_ffn_weight) < 1.0:
        experts = "int4"
    wide = "latent" if scalar(model.spec.kv_latent) > 0 else "bf16"
    cache = "fp8" if scalar(work.bytes_kv) <= 1.0 else wide
    return Formats(dense=dense, experts=experts, cache=cache)


def share_of_norm(exponent: float) -> float:
    """The share of `blend` that meets the p-norm where both resources take as long [1].

    >>> share_of_norm(1.0)
    1.0
    """
    return float((2.0 ** (1.0 / exponent) - 1.0) ** 2)


def _nearest_engine(table: Collection[str], engine: str) -> str:
    order: Sequence[str] = (engine, *load_kernels()["engines"])
    return next(name for name in order if name in table)


def _nearest_format(row: Mapping[str, Any], asked: str) -> str:
    """The format itself, or the one that the table names in its place; at last 16 bits."""
    instead: Mapping[str, str] = load_kernels()["instead"]
    name, seen = asked, set[str]()
    while name not in row and name not in seen:
        seen.add(name)
        name = instead.get(name, "bf16")
    return name if name in row else str(next(iter(row)))


def newer_since(generation: str, engine: str) -> tuple[int, ...] | None:
    """The release since which an engine counts as newer; None where releases do not differ."""
    table = load_kernels()["newer"]
    since = table.get(generation, table).get(engine)
    return None if since is None else tuple(since)


def first_release(engine: str, model: str) -> tuple[int, ...]:
    """The first release of an engine that runs a model of the catalogue; () where none is known."""
    known: Mapping[str, Sequence[int]] = load_kernels()["first"].get(engine, {})
    return next((tuple(since) for name, since in known.items() if model.startswith(name)), ())


def waits_for_host(
    engine: str, release: tuple[int, ...] | None, is_overlapped: bool | None = None
) -> bool:
    """Whether the steps of an engine wait for its host, which works between them.

    Args:
        engine: as in `find`.
        release: as in `find`.
        is_overlapped: what a flag says of it; None where none does.
    """
    since = load_kernels()["overlapped"].get(engine)
    if since is None or is_overlapped is not None:
        return since is not None and not is_overlapped
    return bool(release and release < tuple(since))


def find(
    name: str, engine: str, formats: Formats, release: tuple[int, ...] | None
) -> Entries | None:
    """The entries nearest to a deployment; None where the plain form stands.

    Args:
        name: of the accelerator in the catalogue.
        engine: "vllm", "sglang", "trtllm", "atom", or "" if it is not stated.
        formats: of weights and cache.
        release: of the engine, its numbers; None is the current one, () one that is not known.
    """
    kernels = load_kernels()
    generation = "" if name in kernels["unlike"] else generation_of(name)
    if not engine or (release and release < tuple(kernels["since"].get(engine, release))):
        return None
    since = newer_since(generation, engine)
    is_newer = since is not None and (release is None or release >= since)
    if generation in kernels["served"]["amd"]["layer"]:
        nearest = _nearest_engine(kernels["amd"], engine)
        return Entries(generation=generation, engine=nearest, formats=formats, is_newer=is_newer)
    if generation not in kernels["gemm"]:
        return None
    nearest = _nearest_engine(kernels["gemm"][generation], engine)
    used = Formats(
        dense=_nearest_format(kernels["gemm"][generation][nearest], formats.dense),
        experts=_nearest_format(kernels["experts"][generation][nearest], formats.experts),
        cache=_nearest_format(kernels["attention"][generation][nearest], formats.cache),
    )
    return Entries(generation=generation, engine=nearest, formats=used, is_newer=is_newer)


def fields(
    entries: Entries, spec: HardwareSpec, served: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """The fields of an accelerator that its kernels set.

    Args:
        entries: of the table.
        spec: the accelerator as the catalogue has it.
        served: replaces the constants that are fitted to served deployments.
    """
    kernels = load_kernels()
    served = served or kernels["served"]
    # Kernels widen weights of four bits to 16 where no units multiply them.
    units = {} if has_fp4_units(spec) else {"flops_fp4": scalar(spec.flops_bf16)}
    own = units | _allreduce_fields(entries)
    if entries.has_tables:
        own |= _dense_fields(entries, served)
        own |= _expert_fields(entries, served, scalar(spec.hbm_bw))
        own |= _attention_fields(entries, served)
        own |= _host_fields(entries, served)
    else:
        own |= _amd_fields(entries, served)
    return own | _waits(entries.engine, own, spec, served) if entries.is_serial else own


def _hidden(engine: str, served: Mapping[str, Any]) -> dict[str, float]:
    """What overlap hides of an engine's host, of a step and of a sequence [s]."""
    times = {"step_overhead": served["step"][engine], "sequence_overhead": served["sequence"]}
    return {name: served["serial"] * US * time for name, time in times.items()}


def _waits(
    engine: str, own: Mapping[str, float], spec: HardwareSpec, served: Mapping[str, Any]
) -> dict[str, float]:
    """Overheads where steps wait for an engine's host, over those in `own` or else the record."""
    hidden = _hidden(engine, served)
    return {name: own.get(name, scalar(getattr(spec, name))) + hidden[name] for name in hidden}


def _waiting(engine: str, served: Mapping[str, Any]) -> str:
    step, sequence = _hidden(engine, served).values()
    since = ".".join(map(str, load_kernels()["overlapped"][engine]))
    return (
        f"steps wait for the host, {step * 1e3:.1f} ms each and {sequence / US:.0f} us a sequence, "
        f"which --async-scheduling hides, the default from {since} on"
    )


def tune(
    entry: Named,
    engine: str,
    formats: Formats,
    release: tuple[int, ...] | None = None,
    launches: float = 0.0,
    *,
    is_overlapped: bool | None = None,
) -> Tuned:
    """The accelerator as the kernels of an engine use it.

    Arguments as in `find` and `waits_for_host`; `launches` of a layer with experts are beyond those
    of the table [s].
    """
    entries, served = find(entry.name, engine, formats, release), load_kernels()["served"]
    waits = waits_for_host(engine, release, is_overlapped)
    changes: dict[str, Any] = _waits(engine, {}, entry.spec, served) if waits else {}
    if entries is not None:
        entries = dataclasses.replace(entries, is_serial=waits)
        changes = fields(entries, entry.spec)
    if launches:
        startup = changes.get("expert_startup", scalar(entry.spec.expert_startup))
        changes["expert_startup"] = startup + launches
    spec = dataclasses.replace(entry.spec, **changes)
    waiting = (_waiting(engine, served),) if waits else ()
    if entries is None:
        return Tuned(spec=spec, notes=waiting)
    asked = [(engine, entries.engine)]
    asked += [(formats.dense, entries.formats.dense), (formats.experts, entries.formats.experts)]
    stand_ins = [
        f"no kernels of {name} are known; those of {used} stand in"
        for name, used in asked
        if name != used
    ]
    return Tuned(
        spec=spec,
        entries=entries,
        expert_balance="skewed",
        notes=(f"constants of the kernels: {entries}", *stand_ins, *waiting),
    )


def _share(entries: Entries, served: Mapping[str, Any]) -> float:
    """Share of the start-ups and times of the host that a newer release takes [1]."""
    return float(served["newer"].get(entries.engine, 1.0)) if entries.is_newer else 1.0


def _amd_fields(entries: Entries, served: Mapping[str, Any]) -> dict[str, float]:
    """What an engine makes of an accelerator of AMD, without kernel tables."""
    amd, formats = served["amd"], entries.formats
    is_quantised = (formats.dense, formats.experts) != ("bf16", "bf16")
    layer = amd["layer"][entries.generation]
    if entries.engine == "vllm":
        layer = amd["vllm"] * layer
    if entries.engine == "sglang" and is_quantised and not entries.is_newer:
        layer = amd["older"]
    fields = {
        "eff_weight_read": amd["read"],
        "eff_gemm": scalar(defaults_of(HardwareSpec)["eff_gemm"]),
        "expert_gemm_ratio": amd["expert_gemm"],
        "expert_blend": 1.0,
        "expert_overhead": 0.0,
        "layer_overhead": layer * US,
    }
    if entries.engine in load_kernels()["portable"]:
        fields |= {f"{name}_overhead": served[name] * US for name in ("linear", "sparse")}
    return fields


def has_fp4_units(spec: HardwareSpec) -> bool:
    """Whether the matrix units multiply FP4: their peak is above that of FP8."""
    return scalar(spec.flops_fp4) > scalar(spec.flops_fp8)


def _of_engine(table: Mapping[str, Any], entries: Entries) -> Mapping[str, Any]:
    """A table's entries for an engine, overridden by those for it on its generation of GPUs."""
    of_all: Mapping[str, Any] = table.get(entries.engine, {})
    return {**of_all, **table.get(entries.generation, {}).get(entries.engine, {})}


def _row(table: str, entries: Entries) -> Any:
    return load_kernels()[table][entries.generation][entries.engine]


def _dense_fields(entries: Entries, served: Mapping[str, Any]) -> dict[str, float]:
    dense = entries.formats.dense
    startup, read, peak, norm = _row("gemm", entries)[dense]
    factors = served["gemm_startup"]
    return {
        "gemm_startup": _of_engine(factors, entries).get(dense, factors["others"]) * startup * US,
        "eff_weight_read": read,
        "eff_gemm": served["gemm_peak"] * peak,
        "gemm_blend": share_of_norm(norm),
    }


def expert_startup(entries: Entries, served: Mapping[str, Any], table: float) -> float:
    """What the start-up of the experts in the table [us] comes to in an engine [us].

    Experts of 8 bits multiply activations that are quantised first, in kernels that the tables
    lack; those of 4 bits on FP4 units take a multiple. An engine may have a factor of its own.
    """
    form = entries.formats.experts.removesuffix("_block")
    factors = {**served["experts"]["others"], **_of_engine(served["experts"], entries)}
    if form in factors:
        return float(factors[form]) * table
    return table + (float(served["experts"]["quantised"]) if form == "fp8" else 0.0)


def _expert_fields(entries: Entries, served: Mapping[str, Any], hbm_bw: float) -> dict[str, float]:
    formats = entries.formats
    dense = _row("gemm", entries)[formats.dense]
    row = _row("experts", entries)
    if entries.is_newer:
        row = {**row, **_of_engine(load_kernels()["experts_newer"], entries)}
    startup, read, peak, norm = row[formats.experts]
    widened = served["dequantised"]
    bound = widened.get(formats.experts, widened["others"])
    if entries.generation == "hopper" and formats.experts.startswith(WIDENED):
        read = min(read, bound * TB / hbm_bw)
    return {
        "expert_startup": _share(entries, served) * expert_startup(entries, served, startup) * US,
        "expert_read_ratio": read / dense[1],
        "expert_gemm_ratio": peak / (served["gemm_peak"] * dense[2]),
        "expert_blend": share_of_norm(norm),
        "expert_overhead": 0.0,
    }


def _attention_fields(entries: Entries, served: Mapping[str, Any]) -> dict[str, float]:
    startup, read = _row("attention", entries)[entries.formats.cache]
    return {"attention_startup": _share(entries, served) * startup * US, "eff_kv_read": read}


def _allreduce_fields(entries: Entries) -> dict[str, float]:
    kernels = load_kernels()
    rows = kernels["allreduce"][entries.generation]
    if entries.is_newer:
        rows = {**rows, **kernels["allreduce_newer"].get(entries.generation, {})}
    startup, growth, one, latency, two = rows[_nearest_engine(rows, entries.engine)]
    # Links can do what the best of their kernels does: AITER's on MI355X reach more than NCCL's.
    link = max(kernels["link"], two)
    return {
        # Half of an all-reduce, of which the laws count two; shares are of the link itself.
        "intra_latency": 0.5 * startup * US,
        "rank_latency": growth * US,
        "one_shot_share": one,
        "two_shot_latency": latency * US,
        "eff_link": link,
        "eff_allreduce": two / link,
    }


def _host_fields(entries: Entries, served: Mapping[str, Any]) -> dict[str, float]:
    share = _share(entries, served)
    times = {name: share * served[name][entries.engine] for name in ("layer", "step")}
    times |= {name: share * served[name] for name in ("latent", "linear", "sparse")}
    times |= {"eager": served["eager"][entries.engine], "sequence": served["sequence"]}
    overheads = {f"{name}_overhead": value * US for name, value in times.items()}
    return overheads | {"captured_tokens": load_kernels()["captured"].get(entries.engine, 0.0)}
