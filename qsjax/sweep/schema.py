"""What the file of a sweep may hold: tables, keys, and what their values must be."""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any, get_args

from qsjax import validate
from qsjax.reduction import Objective
from qsjax.specs import CONVENTIONS, Workload
from qsjax.sweep.engine import Precision
from qsjax.sweep.kernels import Metric

METRICS = get_args(Metric)
NAMES = "a list of names"
# Table -> key -> what is allowed; the words are those of the messages.
SCHEMA: dict[str, dict[str, str]] = {
    "sweep": {
        "models": NAMES,
        "hardware": NAMES,
        "twins": "a list of numbers",
        "convention": "one of " + ", ".join(CONVENTIONS),
        "objective": "one of " + ", ".join(get_args(Objective)),
        "precision": "one of " + ", ".join(get_args(Precision)),
        "skip_illegal": "true or false",
    },
    "axes": {},
    "workload": {f.name: "a number" for f in dataclasses.fields(Workload)},
    "constraints": {f"{side}_{m}": "a number" for m in METRICS for side in ("min", "max")},
    "outputs": {
        "winners": "true or false",
        "top_k": "a whole number",
        "pareto": "true or false",
        "statistics": "a list of " + ", ".join(METRICS),
    },
}
for _name in ("attn_dtype", "proj_dtype", "ffn_dtype", "head_dtype"):
    SCHEMA["workload"][_name] = "one of bf16, fp8, fp4"


def near(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known ones, or all."""
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"


def _type_problem(value: Any, allowed: str) -> str | None:
    """Why a value is not what the schema's words say."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if allowed.startswith("one of "):
        choices = allowed.removeprefix("one of ").split(", ")
        good = isinstance(value, str) and value in choices
    elif allowed.startswith("a list of "):
        items = value if isinstance(value, list) else []
        good = bool(items)
        if allowed == "a list of numbers":
            good &= all(isinstance(x, int | float) and not isinstance(x, bool) for x in items)
        else:
            good &= all(isinstance(x, str) for x in items)
            names = allowed.removeprefix("a list of ").split(", ")
            good &= names == ["names"] or all(x in names for x in items)
    elif allowed == "true or false":
        good = isinstance(value, bool)
    elif allowed == "a whole number":
        good = isinstance(value, int) and is_number and value >= 0
    else:
        good = is_number
    return None if good else f"{value!r} is not allowed; give {allowed}"


def _bound_problem(table: str, key: str, value: Any) -> str | None:
    """Why a value of the right type is out of its bounds."""
    rules = {
        "sweep": {"twins": validate.AXIS_RULES["q"]},
        "workload": validate.WORKLOAD_RULES,
        "constraints": dict.fromkeys(SCHEMA["constraints"], validate.Rule()),
    }
    rule = rules.get(table, {}).get(key)
    return None if rule is None else validate.value_problem(rule, value)


def value_problem(table: str, key: str, value: Any) -> str | None:
    """What is wrong with the value of a key of `SCHEMA`, or None."""
    return _type_problem(value, SCHEMA[table][key]) or _bound_problem(table, key, value)
