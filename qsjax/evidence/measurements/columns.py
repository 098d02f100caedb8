"""How users' files name columns and write numbers."""

import re
from collections.abc import Iterable
from typing import Any

from qsjax.evidence.measurements.names import TABLE

COLUMNS = {
    spelled: name for name, others in TABLE["columns"].items() for spelled in (name, *others)
}
_UNITS = {
    **dict.fromkeys(("ms", "msec", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "seconds"), "s"),
    **dict.fromkeys(("us", "\u00b5s", "\u03bcs", "microseconds"), "us"),
}
# Numbers of which a part behind a point is one thousand of them.
COUNTS = tuple("tp pp dp ep kvp gpus batch concurrency context isl osl".split())
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+|[+-]?\d+,\d+")


def column_of(heading: str) -> tuple[str, str, str]:
    """What a heading means: its column ("" for none), its own name, and the unit that it states.

    >>> column_of("Mean TPOT (ms)")
    ('tpot', 'mean_tpot', 'ms')
    """
    text = heading.strip().lower()
    bracket = re.search(r"[(\[](.*?)[)\]]", text)
    unit = _UNITS.get(bracket[1].strip().split("/")[0], "") if bracket else ""
    if bracket:
        text = text.replace(bracket[0], "")
    name = re.sub(r"[^\w]+", "_", text).strip("_")
    head, _, tail = name.rpartition("_")
    if not unit and head and tail in _UNITS:
        name, unit = head, _UNITS[tail]
    if name not in COLUMNS:
        raise KeyError(heading)
    return COLUMNS[name], name, unit


def has_decimal_commas(cells: Iterable[str]) -> bool:
    """Whether a file writes 7,5 for seven and a half: one of its numbers cannot be read else."""
    found = (cell.strip() for cell in cells)
    return any(_COMMA.fullmatch(cell) and not _THOUSANDS.fullmatch(cell) for cell in found)


def number(text: str, column: str, *, has_commas: bool) -> float:
    """A number as people write it: 7.5, 7,5 in a file with such commas, 4,608 or 4 608 tokens.

    Args:
        text: the cell.
        column: its column; counts have no part behind the point of three digits.
        has_commas: whether the file has decimal commas.

    Raises:
        ValueError: it is none, or may be one of two; with what to write.
    """
    plain = re.sub(r"(?<=\d)[\s'\u00a0\u202f](?=\d{3}(?:\D|$))", "", text.strip().strip("\"'"))
    if has_commas:
        plain = re.sub(r"\.(?=\d{3}(?:\D|$))", "", plain).replace(",", ".")
    elif _THOUSANDS.fullmatch(plain):
        if column not in COUNTS:
            raise ValueError(f"{text!r}; it may be {plain.replace(',', '.')}: give a decimal point")
        plain = plain.replace(",", "")
    elif column in COUNTS and re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+", plain):
        raise ValueError(f"{text!r}; give a number without a point, {plain.replace('.', '')}")
    try:
        return float(plain)
    except ValueError:
        hint = " with a decimal point" if "," in text else ""
        raise ValueError(f"{text!r}; give a number{hint}") from None


# Fields of a record as JSON, by the column that means them.
_FIELDS = {
    **{name: name for name in ("model", "tp", "pp", "dp", "ep", "kvp", "concurrency")},
    **{name: name for name in ("isl", "osl", "engine", "expert_kernels")},
    "hardware": "gpu",
    "gpus": "n_gpus",
    "context": "avg_context",
    "weights": "weights_dtype",
    "kv": "kv_dtype",
}
_NUMBERS = ("value", *(field for column, field in _FIELDS.items() if column in COUNTS))


def as_record(given: dict[str, Any], index: int) -> dict[str, Any]:
    """A record of a user's JSON under the names of the fields, with numbers for their texts.

    A field that is given under its own name stays; a time per token is the value of a record
    without one.
    """
    record = dict(given)
    for key, value in given.items():
        try:
            column, name, unit = column_of(key)
        except KeyError:
            continue
        field = _FIELDS.get(column)
        if field is not None and record.get(field) is None:
            record[field] = value
        if column == "tpot" and unit and record.get("value") is None:
            record |= {"metric": name, "unit": unit, "value": value}
    if record.get("model") and record.get("gpu"):
        record.setdefault("id", f"record {index + 1}")
        record.setdefault("category", "user")
    for field in _NUMBERS:
        if isinstance(record.get(field), str):
            commas = has_decimal_commas([record[field]])
            column = next((c for c, f in _FIELDS.items() if f == field), field)
            try:
                record[field] = number(record[field], column, has_commas=commas)
            except ValueError:
                continue  # stays, and is told as no number
    return record
