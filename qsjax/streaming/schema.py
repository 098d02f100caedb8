"""What the file of a sweep may hold: tables, keys, and what their values must be."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

import numpy as np

from qsjax.grid.scoring import StepObjective
from qsjax.records import checks
from qsjax.records.fields import NOT_NEGATIVE, facts_of
from qsjax.records.quantities import FIELDS
from qsjax.records.specs import CONVENTIONS, Dtype, Workload
from qsjax.streaming.engine import Precision
from qsjax.streaming.kernels import Metric
from qsjax.streaming.values import is_number, repeated

METRICS = get_args(Metric)
NAMES = "a list of names"
# Top designs are rows in memory and in every chunk.
_MOST_TOP = 100_000
# Table -> key -> what is allowed; the words are those of the messages.
SCHEMA: dict[str, dict[str, str]] = {
    "sweep": {
        "models": NAMES,
        "hardware": NAMES,
        "twins": "a list of numbers",
        "convention": "one of " + ", ".join(CONVENTIONS),
        "objective": "one of " + ", ".join(get_args(StepObjective)),
        "precision": "one of " + ", ".join(get_args(Precision)),
        "skip_illegal": "true or false",
    },
    "axes": {},
    "workload": {f.name: "a number" for f in dataclasses.fields(Workload)},
    "constraints": {f"{side}_{m}": "a number" for m in METRICS for side in ("min", "max")},
    "outputs": {
        "winners": "true or false",
        "top_k": f"a whole number up to {_MOST_TOP:,}",
        "pareto": "true or false",
        "wins": "true or false",
        "statistics": "a list of " + ", ".join(METRICS),
    },
}
DTYPES = ("attn_dtype", "proj_dtype", "ffn_dtype", "head_dtype")
# What models are published in, or these instead; the bytes and dtypes follow.
PRECISIONS = ("weights", "kv")
for _name in (*DTYPES, *PRECISIONS):
    SCHEMA["workload"][_name] = "one of " + ", ".join(get_args(Dtype))


def near(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known ones, or all."""
    close = difflib.get_close_matches(name.lower(), list(known), n=3)
    return f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"


def _list_problem(items: Any, allowed: str) -> str | None:
    if not isinstance(items, list) or not items:
        return f"{items!r} is not allowed; give {allowed}"
    if allowed == "a list of numbers":
        wrong = [x for x in items if not is_number(x)]
    else:
        names = allowed.removeprefix("a list of ").split(", ")
        is_open = allowed == NAMES
        wrong = [x for x in items if not isinstance(x, str) or not (is_open or x in names)]
    return f"{wrong[0]!r} is not allowed; give {allowed}" if wrong else repeated(items)


def _type_problem(value: Any, allowed: str) -> str | None:
    """Why a value is not what the schema's words say."""
    if allowed.startswith("a list of "):
        return _list_problem(value, allowed)
    if allowed.startswith("one of "):
        good = isinstance(value, str) and value in allowed.removeprefix("one of ").split(", ")
    elif allowed == "true or false":
        good = isinstance(value, bool)
    elif allowed.startswith("a whole number"):
        good = isinstance(value, int) and is_number(value) and 0 <= value <= _MOST_TOP
    else:
        good = is_number(value)
    return None if good else f"{value!r} is not allowed; give {allowed}"


def _bound_problem(table: str, key: str, value: Any) -> str | None:
    """Why a value of the right type is out of bounds."""
    if table == "workload" and key in facts_of(Workload):
        return checks.value_problem(facts_of(Workload)[key].rule, value)
    if table == "constraints":
        return checks.value_problem(NOT_NEGATIVE, value)
    if key == "twins":
        return checks.value_problem(FIELDS["q"].rule, value)
    return None


def value_problem(table: str, key: str, value: Any) -> str | None:
    """What is wrong with the value of a key of `SCHEMA`, or None."""
    return _type_problem(value, SCHEMA[table][key]) or _bound_problem(table, key, value)


def conflicts(constraints: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lower bounds above the upper bound of the same metric."""
    for metric in METRICS:
        low, high = (constraints.get(f"{side}_{metric}", np.nan) for side in ("min", "max"))
        if is_number(low) and is_number(high) and low > high:
            yield f"min_{metric}", f"{low:g} exceeds max_{metric} = {high:g}; no design keeps both"
