"""Bytes of a dtype, and workloads in the precision that a model is published in."""

import dataclasses
from typing import Any

from qsjax.records.specs import INDEX_KEY, Dtype, ModelSpec, Precision, Workload

# Bytes of an element with its scales. NVFP4 has a byte for 16 elements, MXFP4 one for 32.
STORED: dict[Dtype, float] = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}


def precision_of(
    weights: Dtype,
    attention: Dtype,
    kv: Dtype,
    *,
    weight_bytes: float = 0.0,
    attn_bytes: float = 0.0,
    shared_bytes: float = 0.0,
    head_bytes: float = 0.0,
    embedding_bytes: float = 0.0,
    multiply: Dtype | None = None,
    index_bytes: float = INDEX_KEY,
    state_bytes: float = 0.0,
) -> Precision:
    """Precision of a model by its dtypes.

    Args:
        weights: of the feed-forward networks.
        attention: of the attention weights.
        kv: of the cache.
        weight_bytes: of a feed-forward weight with its scales, 0 where `STORED` says it.
        attn_bytes: of an attention weight, likewise.
        shared_bytes: of a weight of shared experts and dense layers, 0 for those of the others.
        head_bytes: of a weight of the output head, 0 for 16 bits.
        embedding_bytes: of a weight of the input embedding, likewise.
        index_bytes: of an element of an index key.
        state_bytes: of an element of a recurrent state, 0 for the 4 that engines take.
        multiply: what quantised weights are dequantised to, None where they multiply as they are.
    """

    def multiplied(dtype: Dtype) -> Dtype:
        return dtype if dtype == "bf16" or multiply is None else multiply

    stored = weight_bytes or STORED[weights]
    return Precision(
        bytes_attn_weight=attn_bytes or STORED[attention],
        bytes_ffn_weight=stored,
        shared_weight_ratio=shared_bytes / stored if shared_bytes else 1.0,
        bytes_head_weight=head_bytes or STORED["bf16"],
        bytes_embedding_weight=embedding_bytes or STORED["bf16"],
        bytes_kv=STORED[kv],
        bytes_index=index_bytes,
        bytes_state=state_bytes or 4.0,
        bytes_dispatch=2.0 if multiplied(weights) == "bf16" else 1.0,
        proj_dtype=multiplied(attention),
        ffn_dtype=multiplied(weights),
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
    for dtype in (weights, kv):
        if dtype is not None and dtype not in STORED:
            raise ValueError(f"dtype {dtype!r} is unknown; give one of {', '.join(STORED)}")
    precision = model.precision
    if precision is None:
        raise ValueError(
            "the models of this stack are published in different precisions; give a workload"
        )
    if weights is not None:
        stored = precision_of(weights, weights, kv or "bf16")
        precision = dataclasses.replace(
            stored,
            bytes_kv=precision.bytes_kv,
            bytes_index=precision.bytes_index,
            bytes_state=precision.bytes_state,
        )
    if kv is not None:
        precision = dataclasses.replace(precision, bytes_kv=STORED[kv])
    published = {f.name: getattr(precision, f.name) for f in dataclasses.fields(precision)}
    return Workload(**(published | fields))
