"""What the catalogue knows of a model or an accelerator besides the numbers of its record."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from qsjax.records.specs import Dtype, HardwareSpec, ModelSpec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """Why a count by the shapes is more than 1 % off the published one, and by which ratio."""

    of: Literal["total", "active"]
    ratio: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model: its record, the precisions it is published in, what its publisher says of it.

    `weight_dtype` is that of the feed-forward networks and `weight_bytes` what one of their weights
    takes with its scales, 0 where `precision.STORED` says it by dtype; `attn_bytes` likewise, and
    `shared_bytes` of shared experts and dense layers, 0 where they are like the others;
    `head_bytes` of the output head and `embedding_bytes` of the input embedding, 0 for 16 bits.
    `modules` has the dtype of every kind of module where these differ. `multiply_dtype` is what
    quantised weights are dequantised to, None where they multiply as they are. Published counts are
    in parameters and None where there is none. `max_context` is in tokens, 0 where unknown.
    `weight_block` is how many weights in a row or column share a scale, of which engines want whole
    multiples on every GPU; 0 where any split will do. `state_bytes` is what an element of a
    recurrent state takes, 0 where there is none or engines take 4.
    """

    name: str
    spec: ModelSpec
    title: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""
    published_total: float | None = None
    published_active: float | None = None
    published_source: str = ""
    weight_dtype: Dtype = "bf16"
    weight_bytes: float = 0.0
    attn_bytes: float = 0.0
    shared_bytes: float = 0.0
    head_bytes: float = 0.0
    embedding_bytes: float = 0.0
    attn_weight_dtype: Dtype = "bf16"
    multiply_dtype: Dtype | None = None
    kv_dtype: Dtype = "bf16"
    max_context: int = 0
    weight_block: int = 0
    state_bytes: float = 0.0
    modules: Mapping[str, Dtype] = dataclasses.field(default_factory=dict)
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
