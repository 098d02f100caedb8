"""Names of cells, variants and splits in tables and figures."""

from collections.abc import Iterable, Mapping
from typing import Any

from qsjax.cost.meanings import meaning_of
from qsjax.grid.problem import Problem
from qsjax.output.words import count, joined, value
from qsjax.records.rows import degrees

DIGITS = 6  # of the values of an axis: close ones differ


def variant_name(row: Mapping[str, Any]) -> str:
    """`moe`, `dense`, or `dense q=5`."""
    q = row.get("q")  # a row that solves for q has none
    return str(row["variant"]) if q is None else f"{row['variant']} q={q:g}"


def with_fields(row: Mapping[str, Any], fields: Iterable[str]) -> str:
    """What follows a cell in words: the fields that are axes of the problem, with their values.

    >>> with_fields({"hbm_bw": 4e12}, ["hbm_bw"]), with_fields({}, [])
    (' with hbm_bw = 4 TB/s', '')
    """
    kept = [f"{name} = {axis_value(name, row[name])}" for name in fields]
    return f" with {joined(kept)}" if kept else ""


def cell_name(row: Mapping[str, Any], fields: Iterable[str] = ()) -> str:
    """A cell in words, by the coordinates that the row has and these fields.

    >>> cell_name({"model": "m", "variant": "moe", "gpus": 1, "context": 8192})
    'm, moe, 1 GPU, context 8,192'
    >>> cell_name({"variant": "moe", "gpus": 8, "hardware": "l4", "hbm_bw": 4e12}, ["hbm_bw"])
    'moe, 8 l4, hbm_bw 4 TB/s'
    """
    parts = [str(row["model"])] if "model" in row else []
    parts.append(variant_name(row))
    if row.get("gpus") is not None:
        device = row.get("hardware")
        parts.append(f"{row['gpus']:,.0f} {device}" if device else count(row["gpus"], "GPU"))
    if "context" in row:
        parts.append(f"context {row['context']:,.0f}")
    parts += [f"{name} {axis_value(name, row[name])}" for name in fields]
    return ", ".join(parts)


def series_name(problem: Problem, row: Mapping[str, Any], *axes: str) -> str:
    """What names the line of a row: its variant, and what else the problem has several of.

    Args:
        problem: what was asked.
        row: a cell of it.
        *axes: of `gpus` and `context`, those that are no axis of the picture.
    """
    stated = problem.stated
    parts = [] if len(stated.models) == 1 else [str(row["model"])]
    parts += [] if len(stated.accelerators) == 1 else [str(row["hardware"])]
    if not parts or stated.twins:
        name = variant_name(row)
        parts.append("MoE" if name == "moe" else name)
    if "gpus" in axes and len(stated.gpus) > 1:
        parts.append(count(row["gpus"], "GPU"))
    if "context" in axes and len(stated.contexts) > 1:
        parts.append(f"{row['context']:,.0f} tokens")
    kept = [field for field in stated.kept if field not in axes]
    return ", ".join([*parts, *(f"{field} {axis_value(field, row[field])}" for field in kept)])


def axis_value(field: str, amount: float) -> str:
    """The value of a field that is an axis of the problem, with its unit.

    >>> axis_value("hbm_bw", 4e12)
    '4 TB/s'
    >>> axis_value("expert_ff", 14336.0), axis_value("eff_gemm", 0.51)
    ('14,336', '0.51')
    """
    return value(amount, meaning_of(field).units, DIGITS)


def split_name(row: Mapping[str, Any]) -> str:
    """The split of a design in a few words: degrees above 1, and whole copies.

    >>> split_name({"tp": 8, "ep": 1, "pp": 1, "dp": 1, "kvp": 2, "kv_mode": "cp", "replicas": 2})
    '2 x tp=8 kvp=2 cp'
    """
    one = degrees(row) + (" cp" if row.get("kv_mode") == "cp" else "")
    copies = row.get("replicas", 1)
    return one if copies == 1 else f"{copies} x {one}"
