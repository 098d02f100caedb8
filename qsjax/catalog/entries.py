"""What the catalogue knows of a model or an accelerator besides the numbers of its record."""

import dataclasses
from typing import Literal

from qsjax.records.precision import Stored
from qsjax.records.specs import HardwareSpec, ModelSpec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """Why a count by the shapes is more than 1 % off the published one, and by which ratio."""

    of: Literal["total", "active"]
    ratio: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry(Stored):
    """A model: its record, in what it is published, what its publisher says of it.

    Published counts are in parameters and None where there is none. `max_context` is in tokens, 0
    where unknown. `mtp_layers` predict further tokens and are no part of the record. Routed experts
    that read a projection of the hidden state count in the record as narrower ones of all of it;
    `expert_hidden` is its width, 0 where they read all.
    """

    name: str
    spec: ModelSpec
    title: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""
    published_total: float | None = None
    published_active: float | None = None
    published_source: str = ""
    max_context: int = 0
    mtp_layers: int = 0
    expert_hidden: int = 0
    note: str = ""
    deviations: tuple[Deviation, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where some of the numbers of an accelerator come from."""

    of: tuple[str, ...]
    at: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HardwareEntry:
    """An accelerator: its record, the sources, and what was assumed for want of a figure.

    `given` lists the quantities that the entry states itself; the others are defaults, inherited
    or assumed. `assumptions` says which.
    """

    name: str
    spec: HardwareSpec
    title: str = ""
    aliases: tuple[str, ...] = ()
    note: str = ""
    given: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    assumptions: tuple[str, ...] = ()
