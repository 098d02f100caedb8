"""Reads numbers out of a config.json and collects what is missing or malformed."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A config under reading. `problems` grows; `keys` notes which key gave which field."""

    config: Mapping[str, Any]
    problems: list[str]
    keys: dict[str, str]


def value_at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = config
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def number(reading: Reading, names: str, default: float | None = None) -> float:
    """The number at the first present of the keys "one|another"; null counts as absent.

    Without a default a missing key is a problem, and 1 stands in so that reading can go on.
    """
    for name in names.split("|"):
        value = value_at(reading.config, name)
        if value is None:
            continue
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
        reading.problems.append(f'"{name}" is {value!r}, not a number')
        return 1.0
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
    if not isinstance(value, list) or not all(isinstance(item, int | float) for item in value):
        reading.problems.append(f'"{name}" is not a list of numbers')
        return []
    return [float(item) for item in value]


def field(reading: Reading, shape: Mapping[str, float], rule: str) -> float:
    """The value of a rule "key|other key = default"; "= default" alone is a constant.

    A default is a number, an earlier field, or two of them as "hidden/heads" or "a+b".
    """
    names, _, default = (part.strip() for part in rule.partition("="))
    fallback = _evaluate(default, shape) if default else None
    if names:
        return number(reading, names, fallback)
    return 0.0 if fallback is None else fallback


def _evaluate(text: str, shape: Mapping[str, float]) -> float:
    if "/" in text:
        above, below = text.split("/")
        return shape[above] / shape[below] if shape[below] else 0.0
    if "+" in text:
        first, second = text.split("+")
        return shape[first] + shape[second]
    return shape[text] if text in shape else float(text)
