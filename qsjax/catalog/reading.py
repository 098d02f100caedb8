"""Reads numbers out of a config.json and collects what is missing or malformed."""

import codecs
import dataclasses
import gzip
import re
import zlib
from collections.abc import Mapping
from typing import Any

from qsjax.records.checks import LARGEST, value_problem
from qsjax.records.fields import COUNT_OR_NONE, Rule, facts_of
from qsjax.records.specs import ModelSpec
from qsjax.records.tables import table

FLAGS = frozenset(table("catalog/families.toml")["flags"].split())  # keys that hold true or false
_GZIP = b"\x1f\x8b"
# What files begin with that are no text, or not the one that is meant, and what to do.
_OTHERS = {
    b"PK\x03\x04": "a workbook or an archive; save its sheet as CSV, or unpack it",
    b"PAR1": "a Parquet file; save it as CSV",
    b"GGUF": "a file of weights",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself (git lfs pull)",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A config under reading. `problems` grows; `keys` notes which key gave which field."""

    config: Mapping[str, Any]
    problems: list[str]
    keys: dict[str, str]


def decoded(data: bytes) -> str:
    """The text of a file in UTF-8 or, where its first bytes say so, in UTF-16; also by gzip.

    Raises:
        UnicodeDecodeError: it is neither.
        OSError: it is of gzip, and damaged, or a file of another kind; with what to do.
    """
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error) as error:
            raise OSError(str(error)) from error
    for start, what in _OTHERS.items():
        if data.startswith(start):
            raise OSError(f"it is {what}")
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


def value_at(config: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none.

    "name.0" is the first of a list, "name.-1" its last, "name.*" the first of a table.
    """
    value: Any = config
    for part in path.split("."):
        if isinstance(value, list) and part.removeprefix("-").isdigit():
            value = value[int(part)] if -len(value) <= int(part) < len(value) else None
        elif isinstance(value, Mapping):
            value = next(iter(value.values()), None) if part == "*" else value.get(part)
        else:
            return None
    return value


def _finite(value: Any, *, is_flag: bool) -> float | str:
    """A value as a number, or what it is instead."""
    if isinstance(value, bool) and not is_flag:
        return f"{str(value).lower()}, not a number"
    if not isinstance(value, int | float) or value != value:
        return f"{value!r}, not a number"
    # Compared as it is: a whole number of any length is valid JSON, but not a float.
    if not -LARGEST <= value <= LARGEST:
        return f"too large; give at most {LARGEST:g}"
    return float(value)


def number(
    reading: Reading, names: str, default: float | None = None, rule: Rule = COUNT_OR_NONE
) -> float:
    """The count at the first present of the keys "one|another"; null counts as absent.

    What is no whole number or outside the rule is a problem. Without a default so is a missing key,
    and 1 stands in so that reading can go on.
    """
    for name in names.split("|"):
        value = value_at(reading.config, name)
        if value is None:
            continue
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]  # said once for every layer
        found = _finite(value, is_flag=name in FLAGS)
        if not isinstance(found, float):
            reading.problems.append(f'"{name}" is {found}')
            return 1.0
        problem = value_problem(rule, found)
        if problem is not None:
            reading.problems.append(f'"{name}": {problem}')
            return 1.0
        return found
    if default is None:
        reading.problems.append(f'missing "{names.replace("|", chr(34) + " or " + chr(34))}"')
        return 1.0
    return default


def texts(reading: Reading, name: str) -> list[str]:
    """The list of strings at a key, empty if there is none."""
    value = value_at(reading.config, name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        reading.problems.append(f'"{name}" is not a list of strings')
        return []
    return value


def numbers(reading: Reading, name: str) -> list[float]:
    """The list of numbers at a key, empty if there is none."""
    value = value_at(reading.config, name)
    if value is None:
        return []
    items = value if isinstance(value, list) else [None]
    found = [_finite(item, is_flag=True) for item in items]
    floats = [item for item in found if isinstance(item, float)]
    if len(floats) < len(found):
        reading.problems.append(f'"{name}" is not a list of numbers')
        return []
    return floats


def field(reading: Reading, shape: Mapping[str, float], name: str, rule: str) -> float:
    """The value of a field's rule "key|other key = default"; "= default" alone is a constant.

    A default is a number, an earlier field, or two of them as "hidden/heads", "a+b" or "a*b".
    """
    names, _, default = (part.strip() for part in rule.partition("="))
    fallback = _evaluate(default, shape) if default else None
    if names:
        bounds = facts_of(ModelSpec)[name].rule
        may_lack = not bounds.whole or name in ("experts", "top_k")  # 0 is that of a dense one
        return number(reading, names, fallback, COUNT_OR_NONE if may_lack else bounds)
    return 0.0 if fallback is None else fallback


def sources(reading: Reading, rule: str) -> set[str]:
    """The earlier fields that the value of a rule is computed from; none where a key gives it."""
    names, _, default = (part.strip() for part in rule.partition("="))
    if any(value_at(reading.config, name) is not None for name in names.split("|")):
        return set()
    return set(re.split(r"[/+*]", default))


def _evaluate(text: str, shape: Mapping[str, float]) -> float:
    first, *rest = re.split(r"([/+*])", text)
    value = shape[first] if first in shape else float(first)
    if not rest:
        return value
    sign, name = rest
    other = shape[name] if name in shape else float(name)
    match sign:
        case "/":
            return value / other if other else 0.0
        case "+":
            return value + other
        case _:
            return value * other
