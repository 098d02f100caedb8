"""Numbers as users give them, in float64 before any arithmetic: text, lists, arrays, tracers."""

import re
from collections.abc import Iterable, Sized
from typing import Any

import numpy as np

from qsjax.numerics.loading import is_tracer
from qsjax.numerics.namespace import xp
from qsjax.records.fields import Facts
from qsjax.records.units import KIB, MIB, WRITTEN

# A mistyped range shall not fill the memory; axes are shorter by far.
LONGEST = 1_000_000
_SUFFIXES = {"k": KIB, "m": MIB}
# Units of what is counted: only counts may end in k or M.
_COUNTED = ("1", "tokens", "sequences")
_QUANTITY = re.compile(r"\s*([0-9.eE+-]+)\s*([a-zA-Z\u00b5/]+)\s*")
_SHORT = 60  # characters of a value that a message shows
# Numbers with commas for thousands: "131,072" is no list, "16,384" seldom one of lengths.
_LEADING, _GROUPED = re.compile(r",0\d"), re.compile(r"\s*\d{1,3}(?:,\d{3})+\s*")
_OF_OBJECTS = "OUT"  # kinds of arrays whose items are texts or objects, as those of pandas are
# Requests a second: 2/s, 2 req/s, 120/min, 5 rps.
_RATE = re.compile(r"\s*(?:r(?:eq\w*)?)?\s*(?:/|per)\s*([smh])[a-z]*$|\s*[rq]ps$", re.IGNORECASE)
_SMALL = 4  # bytes of a float below which the numbers of an accelerator overflow


class NoNumberError(ValueError):
    """A value that is no number, with the reason."""


def shown(value: Any) -> str:
    """A value in a message."""
    text = "a traced value" if is_tracer(value) else repr(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def kind_of(value: Any) -> str:
    """What a value is, with its article, for a message.

    >>> kind_of(3), kind_of([])
    ('an int', 'a list')
    """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def number_of_text(text: str) -> float:
    """The number of a text; k and M are 1024 and 1024^2.

    Raises:
        ValueError: It is no number.

    >>> number_of_text("8k"), number_of_text("1.5M"), number_of_text("6e12")
    (8192.0, 1572864.0, 6000000000000.0)
    """
    scale = _SUFFIXES.get(text.strip()[-1:].lower())
    return float(text) if scale is None else float(text.strip()[:-1]) * scale


def quantity_of_text(text: str, unit: str) -> float | None:
    """What a quantity with its unit is in the unit of a field; None for what is none of its kind.

    >>> quantity_of_text("6 TB/s", "B/s"), quantity_of_text("6 TB/s", "B")
    (6000000000000.0, None)
    """
    match = _QUANTITY.fullmatch(text)
    try:
        return float(match[1]) * WRITTEN[unit][match[2].replace("\u00b5", "u")] if match else None
    except (ValueError, KeyError):
        return None


def seconds_of_text(text: str) -> float | None:
    """The seconds of a time with its unit; None for what is no such time.

    >>> seconds_of_text("50 ms"), seconds_of_text("2min"), seconds_of_text("50")
    (0.05, 120.0, None)
    """
    return quantity_of_text(text, "s")


def rate_of_text(text: str) -> tuple[str, float]:
    """The number of a rate, as text, and the seconds of its unit.

    >>> rate_of_text("120/min"), rate_of_text("2 req/s"), rate_of_text("5")
    (('120', 60.0), ('2', 1.0), ('5', 1.0))
    """
    unit = _RATE.search(text)
    kind = (unit[1] or "s").lower() if unit else "s"
    return text[: unit.start() if unit else None], {"s": 1.0, "m": 60.0, "h": 3600.0}[kind]


def names_of(given: Iterable[str]) -> list[str]:
    """Names as a list; one text holds one name, or several with commas between them.

    >>> names_of("hbm_bw, q,"), names_of(("tpot",))
    (['hbm_bw', 'q'], ['tpot'])
    """
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    return [one if isinstance(one, str) else repr(one) for one in given]


def maybe_one(text: str, *, of_lengths: bool) -> str | None:
    """What to write where a list may be one number with commas; None where it is none.

    >>> maybe_one("16,384", of_lengths=True)
    "'16,384' may be one number: write 16384; several with spaces: 8, 512"
    """
    if not _LEADING.search(text) and not (of_lengths and _GROUPED.fullmatch(text)):
        return None
    plain = text.replace(",", "").strip()
    return f"{text!r} may be one number: write {plain}; several with spaces: 8, 512"


def listed_of_text(text: str, unit: str = "1") -> list[float | str]:
    """The parts of a list in a text; a range `8..64` stands for 8, 16, 32, 64.

    A range doubles from its first number for as long as its last is not passed; `unit` is that of
    its ends.

    Raises:
        ValueError: A range does not rise, or its ends are no numbers.

    >>> listed_of_text("1k,8..64")
    ['1k', 8.0, 16.0, 32.0, 64.0]
    """
    values: list[float | str] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        if not dots:
            values.append(part)
            continue
        try:
            low, high = _of_text(first, unit), _of_text(last, unit)
        except ValueError:
            low, high = 0.0, 0.0
        if not 0 < low < high < float("inf"):
            raise ValueError(
                f"{part.strip()!r} is not a range; write it from low to high, as 8..64"
            )
        while low <= high:
            values.append(low)
            low *= 2.0
    return values


def _of_text(text: str, unit: str) -> float:
    if (number := quantity_of_text(text, unit)) is not None:
        return number
    try:
        return number_of_text(text) if unit in _COUNTED else float(text)
    except ValueError as error:
        units = f" (units: {', '.join(WRITTEN[unit])})" if unit in WRITTEN else ""
        raise NoNumberError(f"{shown(text)} is not a number{units}") from error


def _of_array(value: Any) -> Any:
    """A value with a dtype, NumPy's or traced, as float64."""
    name = value.dtype.name
    if "float" in name and value.dtype.itemsize < _SMALL:
        raise NoNumberError(f"{value.dtype} cannot hold such numbers; use float64")
    if "float" not in name and "int" not in name:
        raise NoNumberError(f"{shown(value)} is not a number")
    if is_tracer(value):
        return value.astype(xp.result_type(float))
    numbers = np.asarray(value).astype(np.float64)
    return numbers if numbers.ndim else float(numbers)


def _of_list(value: list[Any] | tuple[Any, ...] | range, unit: str) -> Any:
    items = [as_float64(item, unit) for item in value]
    if any(is_tracer(item) for item in items):
        return xp.stack(items)
    try:
        return np.asarray(items, dtype=np.float64)
    except ValueError as error:
        raise NoNumberError("its rows differ in length") from error


def as_float64(value: Any, unit: str = "1") -> Any:
    """A number as a Python float, several as a float64 array; tracers stay traced.

    Args:
        value: a number, its text, a list, or an array of any library.
        unit: of the quantity; texts of counts may end in k or M, others in their unit.

    Raises:
        NoNumberError: It is no number, or one of a type that cannot hold it.
    """
    if type(value) is float:
        return value
    if isinstance(value, str):
        return _of_text(value, unit)
    if isinstance(value, Sized) and not hasattr(value, "dtype") and len(value) > LONGEST:
        raise NoNumberError(f"{len(value):,} values are given, at most {LONGEST:,} are allowed")
    if isinstance(value, list | tuple | range):
        return _of_list(value, unit)
    if not hasattr(value, "dtype"):
        if isinstance(value, bool | bytes):
            raise NoNumberError(f"{shown(value)} is not a number")
        if isinstance(value, Iterable):
            raise NoNumberError(f"{kind_of(value)} is not a list of numbers")
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise NoNumberError(f"{shown(value)} is not a number") from error
    is_plain = is_tracer(value) or (
        isinstance(value.dtype, np.dtype) and value.dtype.kind not in _OF_OBJECTS
    )
    return _of_array(value) if is_plain else as_float64(value.tolist(), unit)


def read_number(facts: Facts, value: Any) -> Any:
    """A value of a field as float64; a flag may be True or False.

    Raises:
        NoNumberError: as for `as_float64`.
    """
    if isinstance(value, bool | np.bool_) and facts.is_flag:
        return float(value)
    return as_float64(value, facts.unit)
