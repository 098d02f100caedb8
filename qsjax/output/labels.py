"""How the cell of a row is called, in tables and figures."""

from collections.abc import Mapping
from typing import Any


def variant_name(row: Mapping[str, Any]) -> str:
    """`moe`, `dense`, or `dense q=5`."""
    q = row.get("q")  # a row that solves for q has none
    return str(row["variant"]) if q is None else f"{row['variant']} q={q:g}"


def cell_name(row: Mapping[str, Any]) -> str:
    """A cell in words, by the coordinates that the row has.

    >>> cell_name({"model": "m", "variant": "moe", "gpus": 1, "context": 8192})
    'm, moe, 1 GPU, context 8,192'
    """
    parts = [str(row["model"])] if "model" in row else []
    parts.append(variant_name(row))
    if row.get("gpus") is not None:
        parts.append(f"{row['gpus']:,.0f} GPU{'' if row['gpus'] == 1 else 's'}")
    if "context" in row:
        parts.append(f"context {row['context']:,.0f}")
    return ", ".join(parts)
