"""Rows of plain values that figures read, also from a labelled data set."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.plotting.style import (
    Look,
    Row,
    category_looks,
    family_looks,
    variant_label,
    variant_looks,
)
from qsjax.records.specs import DEGREES
from qsjax.records.tables import table

if TYPE_CHECKING:
    import xarray as xr

_LOOKS = table("plotting/looks.toml")
# Axis text of the quantities that rows carry.
METRICS: dict[str, str] = _LOOKS["axes"]


def as_rows(data: "Sequence[Row] | xr.Dataset") -> list[Row]:
    """Rows as they are, or one row for every cell of the data set of `explore`."""
    if isinstance(data, Sequence):
        return [in_ms(row) for row in data]
    return [_row(data, cell) for cell in np.ndindex(*(data.sizes[d] for d in _dims(data)))]


def in_ms(row: Row) -> Row:
    """A row with its times in milliseconds, as figures show them, beside `tpot` [s]."""
    if row.get("tpot") is None or "tpot_ms" in row:
        return row
    parts = {
        name: {term: 1e3 * t for term, t in row[name].items()}
        for name in ("terms", "hidden")
        if name in row
    }
    return {**row, "tpot_ms": 1e3 * row["tpot"], **parts}


def _dims(data: "xr.Dataset") -> list[str]:
    return [str(name) for name in data["is_feasible"].dims]


def _row(data: "xr.Dataset", cell: tuple[int, ...]) -> dict[str, Any]:
    at = data.isel(dict(zip(_dims(data), cell, strict=True)))
    name = str(at["variant"].item())
    twin = re.fullmatch(r"(\w+) q=([\d.e+-]+)", name)
    row: dict[str, Any] = {
        "variant": twin[1] if twin else name,
        "q": float(twin[2]) if twin else None,
        "gpus": int(at["gpus"]),
        "context": float(at["context"]),
        "is_feasible": bool(at["is_feasible"]),
    }
    if not row["is_feasible"]:
        counts = dict(
            zip(at["reason"].values.tolist(), at["infeasible_reasons"].values.tolist(), strict=True)
        )
        return row | {"reasons": {k: v for k, v in counts.items() if v}}
    names = [str(name) for name in at.data_vars if str(name).startswith("terms.")]
    terms = {name.removeprefix("terms."): float(at[name]) * 1e3 for name in names}
    metrics = [name for name in METRICS if name in at]
    return (
        row
        | {name: float(at[name]) for name in metrics}
        | {name: int(at[name]) for name in DEGREES}
        | {"tpot_ms": float(at["tpot"]) * 1e3, "terms": terms}
    )


def named(rows: Sequence[Row]) -> tuple[Callable[[Row], str], dict[str, Look]]:
    """How each row is named, by `label` if rows have their own, else by variant; and the looks."""
    if any(row.get("label") not in (None, row.get("variant")) for row in rows):
        has_twins = any(row.get("q") is not None for row in rows)
        names = [str(row["label"]) for row in rows]
        looks = family_looks(rows) if has_twins else category_looks(names)
        return lambda row: str(row["label"]), looks
    return variant_label, variant_looks(rows)


def why_infeasible(row: Row) -> str:
    """The reason of an infeasible cell in two short lines."""
    reasons = row.get("reasons") or {}
    for name, short in _LOOKS["reasons"].items():
        if reasons.get(name):
            return short
    if not reasons:
        return "in-\nfeasible"
    return str(max(reasons, key=lambda name: reasons[name])).replace(" ", "\n", 1)
