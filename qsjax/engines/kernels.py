"""Which kernels multiply four-bit experts, and their launches, by engines.toml."""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from qsjax.engines import releases
from qsjax.engines.rules import load_engines
from qsjax.engines.tuning import Named, has_fp4_units
from qsjax.records.units import US

Kernels = Literal["flashinfer", "cutlass", "marlin", "triton"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExpertKernels:
    """How a kernel holds MXFP4 experts, and its launches.

    Attributes:
        name: the kernels.
        across: hidden size is padded to a multiple of this.
        along: width of an expert's shard is padded to a multiple of this.
        launches: of a layer with experts, beyond those of Marlin [s].
    """

    name: Kernels
    across: float
    along: float
    launches: float


def _is_default(record: Mapping[str, Any], since: Mapping[str, Any]) -> bool:
    """Whether a record speaks of a release from `since` on: by version, else issue, else date.

    One that says none of them is recent.
    """
    version, issue, date = releases.version(record), releases.issue(record), releases.date(record)
    if version is not None:
        return version >= tuple(since["release"])
    if issue is not None:
        return issue >= int(since["issue"])
    first: datetime.date = since["date"]
    return date is None or date >= first


def _asked_for(record: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether the scripts of a record's source are known to set what its remarks leave out."""
    source = str(record.get("source") or "")
    return record.get("category") in rule["chosen_by"] or any(
        repository in source for repository in rule["chosen_at"]
    )


def remarked(record: Mapping[str, Any]) -> Kernels | None:
    """The kernels that an engine's flags in the notes ask for."""
    notes = str(record.get("notes") or "").lower()
    if re.search(r"vllm_mxfp4_use_marlin ?= ?(1|true)", notes):
        return "marlin"
    flag = r"\bmoe[-_](?:config\.|runner[-_])?backend[ =]+(?:flashinfer_)?([a-z0-9]+)(?:_kernel)?\b"
    backend = re.search(flag, notes)
    known: dict[str, Kernels] = load_engines()["backends"]
    return known.get(backend[1]) if backend else None


def name_of(record: Mapping[str, Any], engine: str, hardware: Named) -> Kernels:
    """The kernels of a record: as it states by field or by flag, else its engine's default.

    Raises:
        ValueError: If the record states kernels that have no rule.
    """
    rules = load_engines()["experts"]
    stated = record.get("expert_kernels")
    if stated is not None:
        if stated not in get_args(Kernels):
            known = ", ".join(get_args(Kernels))
            raise ValueError(f"unknown kernels of the experts {stated!r}; use {known}")
        return stated
    said = remarked(record)
    if said is not None:
        return said
    if has_fp4_units(hardware.spec):
        return "cutlass" if _asked_for(record, rules["cutlass"]) else "flashinfer"
    rule = rules["triton"]
    is_hopper = hardware.name.startswith(tuple(rule["accelerators"]))
    if is_hopper and engine in rule["engines"]:
        return "triton"
    runs_triton = (
        engine == "vllm"
        and is_hopper
        and not _asked_for(record, rules["marlin"])
        and _is_default(record, rule["since"])
    )
    return "triton" if runs_triton else "marlin"


def kernels_of(record: Mapping[str, Any], engine: str, hardware: Named) -> ExpertKernels:
    """The kernels of a record with their tiles and launches; errors as `name_of`."""
    name = name_of(record, engine, hardware)
    rule = load_engines()["experts"][name]
    across, along = map(float, rule["tile"])
    launches = float(rule["launches_us"]) * US
    return ExpertKernels(name=name, across=across, along=along, launches=launches)
