"""Bytes of a dtype, and workloads in the precision that a model is published in."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from qsjax.records.specs import INDEX_KEY, Dtype, ModelSpec, Precision, Workload

# Bytes of an element with its scales. NVFP4 has a byte for 16 elements, MXFP4 one for 32.
STORED: dict[Dtype, float] = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}

# As engines, checkpoints and frameworks spell these dtypes.
_SPELT: dict[Dtype, str] = {
    "bf16": "bfloat16 float16 fp16 half f16",
    "fp8": "fp8_e4m3 fp8_e5m2 e4m3 e5m2 float8",
    "fp4": "nvfp4",
}
SPELLINGS = {name: dtype for dtype, names in _SPELT.items() for name in names.split()}
SIZES = STORED | {name: STORED[dtype] for name, dtype in SPELLINGS.items()}


def dtype_named(given: Any) -> Any:
    """A dtype by its name here; anything else as it is.

    >>> dtype_named("FP8_e4m3"), dtype_named("int4")
    ('fp8', 'int4')
    """
    return SPELLINGS.get(given.lower(), given.lower()) if isinstance(given, str) else given


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """In what a model is published: dtypes, and bytes where these do not say them.

    Bytes are those of a weight with its scales, in the mean of all modules of the kind.

    Attributes:
        weight_dtype: of routed experts, or of a dense model's networks.
        attn_weight_dtype: of the attention weights.
        multiply_dtype: what quantised weights are dequantised to, None where they multiply as they
            are.
        kv_dtype: of the cache.
        weight_block: weights in a row or column that share a scale, of which engines want whole
            multiples on every GPU; 0 where any split will do.
        state_bytes: of an element of a recurrent state, 0 where there is none or engines take 4.
        index_bytes: of an element of an index key.
        weight_bytes: of a feed-forward weight, 0 where `STORED` says it.
        attn_bytes: of an attention weight, likewise.
        shared_bytes: of a weight of shared experts and dense layers, 0 for those of the others.
        head_bytes: of a weight of the output head, 0 for 16 bits.
        embedding_bytes: of a weight of the input embedding, likewise.
        modules: dtype of every kind of module, where these differ.
    """

    weight_dtype: Dtype = "bf16"
    attn_weight_dtype: Dtype = "bf16"
    multiply_dtype: Dtype | None = None
    kv_dtype: Dtype = "bf16"
    weight_block: int = 0
    state_bytes: float = 0.0
    index_bytes: float = INDEX_KEY
    weight_bytes: float = 0.0
    attn_bytes: float = 0.0
    shared_bytes: float = 0.0
    head_bytes: float = 0.0
    embedding_bytes: float = 0.0
    modules: Mapping[str, Dtype] = dataclasses.field(default_factory=dict)


def precision_of(stored: Stored) -> Precision:
    """Precision of a model as it is stored."""

    def multiplied(dtype: Dtype) -> Dtype:
        return dtype if dtype == "bf16" else stored.multiply_dtype or dtype

    size = stored.weight_bytes or STORED[stored.weight_dtype]
    ffn = multiplied(stored.weight_dtype)
    return Precision(
        bytes_attn_weight=stored.attn_bytes or STORED[stored.attn_weight_dtype],
        bytes_ffn_weight=size,
        shared_weight_ratio=stored.shared_bytes / size if stored.shared_bytes else 1.0,
        bytes_head_weight=stored.head_bytes or STORED["bf16"],
        bytes_embedding_weight=stored.embedding_bytes or STORED["bf16"],
        bytes_kv=STORED[stored.kv_dtype],
        bytes_index=stored.index_bytes,
        bytes_state=stored.state_bytes or 4.0,
        bytes_dispatch=2.0 if ffn == "bf16" else 1.0,
        proj_dtype=multiplied(stored.attn_weight_dtype),
        ffn_dtype=ffn,
    )


def stored_in(workload: Workload, size: float) -> Workload:
    """A workload whose weights, embeddings and head among them, take `size` bytes each [B].

    They multiply in 16 bits.
    """
    return dataclasses.replace(
        workload,
        bytes_attn_weight=size,
        bytes_ffn_weight=size,
        bytes_head_weight=size,
        bytes_embedding_weight=size,
        shared_weight_ratio=1.0,
        bytes_dispatch=2.0,
        proj_dtype="bf16",
        ffn_dtype="bf16",
    )


def workload_of(
    model: ModelSpec, *, weights: Dtype | None = None, kv: Dtype | None = None, **fields: Any
) -> Workload:
    """A workload in the precision that a model is published in.

    Args:
        model: the model.
        weights: dtype of the attention and FFN weights instead.
        kv: dtype of the cache instead.
        fields: further fields of the workload, `context` among them; they win.

    Raises:
        ValueError: a dtype is unknown, or a stack of models has several precisions.
    """
    weights, kv = dtype_named(weights), dtype_named(kv)
    for dtype in (weights, kv):
        if dtype is not None and dtype not in tuple(STORED):
            raise ValueError(f"dtype {dtype!r} is unknown; give one of {', '.join(STORED)}")
    precision = model.precision
    if precision is None:
        raise ValueError(
            "the models of this stack are published in different precisions; give a workload"
        )
    if weights is not None:
        precision = dataclasses.replace(
            precision_of(Stored(weight_dtype=weights, attn_weight_dtype=weights)),
            bytes_kv=precision.bytes_kv,
            bytes_index=precision.bytes_index,
            bytes_state=precision.bytes_state,
        )
    if kv is not None:
        precision = dataclasses.replace(precision, bytes_kv=STORED[kv])
    published = {f.name: getattr(precision, f.name) for f in dataclasses.fields(precision)}
    return Workload(**(published | fields))
