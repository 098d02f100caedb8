"""Columns of tables of designs: their heads, and how numbers are written."""

from collections.abc import Callable, Mapping
from typing import Any

from qsjax.output import words
from qsjax.output.labels import split_name
from qsjax.records.units import MS

COLUMNS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "split": ("split", split_name),
    "batch": ("batch", lambda row: f"{row['batch']:,.0f}"),
    "users": ("users", lambda row: f"{row['users']:,.0f}"),
    "tpot": ("TPOT ms", lambda row: f"{row['tpot'] / MS:,.2f}"),
    "between": ("between", words.between),
    "user": ("tok/s/user", lambda row: f"{row['tokens_per_s_per_user']:,.1f}"),
    "gpu": ("tok/s/GPU", lambda row: f"{row['tokens_per_s_per_gpu']:,.1f}"),
}


def heads(*names: str) -> list[str]:
    """What stands at the heads of columns of `COLUMNS`."""
    return [COLUMNS[name][0] for name in names]


def cells(row: Mapping[str, Any], *names: str) -> list[str]:
    """The cells of a row in columns of `COLUMNS`."""
    return [COLUMNS[name][1](row) for name in names]
