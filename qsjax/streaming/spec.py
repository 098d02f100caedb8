"""The file of a sweep: a problem and options in TOML, with every mistake at its line."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from qsjax.catalog import toml
from qsjax.catalog.toml import Document, complain
from qsjax.grid.problem import Problem, ProblemError, numbers
from qsjax.records.conversion import LONGEST, NoNumberError, as_float64
from qsjax.records.fields import hint
from qsjax.records.specs import DEGREES, FIELDS, Workload
from qsjax.streaming import asked

# Arguments of a problem that stand among the axes or in the workload.
_ARGUMENTS = ("gpus", "context", "batch")
_STORED = ("weights", "kv")
# Tables that hold the fields of records whose mistakes a problem reports.
_RECORDS = {"workload:": "workload", "partition:": "axes"}
# Tables and their keys. Those of [axes] are arguments of a problem and its axes.
KEYS: dict[str, tuple[str, ...]] = {
    "sweep": (
        *("models", "hardware", "twins", "convention", "objective", "engine"),
        *("precision", "skip_illegal"),
    ),
    "axes": (),
    "workload": (*(field.name for field in dataclasses.fields(Workload)), *_STORED),
    "constraints": asked.BOUNDS,
    "outputs": (*asked.OUTPUTS, "statistics"),
}
_RANGES = ({"from", "to", "steps"}, {"from", "to", "steps", "scale"}, {"from", "to", "step"})
_HELP = (
    'give a number, a list, {from, to, step}, or {from, to, steps} with scale = "linear" or "log"'
)


def _floats(value: Any) -> Any:
    """A parsed value with its exact numbers as floats."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value


def _too_long(count: float) -> ValueError:
    return ValueError(f"has {count:,.0f} values, more than {LONGEST:,}; give fewer, or two sweeps")


def _range(name: str, value: Mapping[str, Any]) -> list[float]:
    """The numbers of a range.

    Raises:
        ValueError: it is none, or has too many.
    """
    if set(value) not in _RANGES:
        unknown = ", ".join(sorted(set(value))) or "nothing"
        raise ValueError(f"{unknown} is not a range; {_HELP}")
    try:
        ends = {key: as_float64(end) for key, end in value.items() if key != "scale"}
    except NoNumberError as error:
        raise ValueError(f"{error}; {_HELP}") from error
    if not all(np.ndim(end) == 0 and np.isfinite(end) for end in ends.values()):
        raise ValueError(f"a range needs finite numbers; {_HELP}")
    low, high = ends["from"], ends["to"]
    if low > high:
        raise ValueError(f"from {low:g} to {high:g} runs backwards; swap the two")
    if "step" in value:
        return _stepped(low, high, ends["step"])
    values = _spaced(low, high, value["steps"], value.get("scale", "linear"))
    if (name in FIELDS and FIELDS[name].rule.whole) or name == "context":
        values = values.round()
    # Steps closer than whole numbers, and a range from a number to itself, repeat values.
    return [float(x) for x in np.unique(values)]


def _stepped(low: float, high: float, step: float) -> list[float]:
    """From `low` by a step up to `high`."""
    if step <= 0:
        raise ValueError(f"step {step:g} is not allowed; give a number above 0")
    count = (high - low) / step
    if count >= LONGEST:
        raise _too_long(count)
    return [low + k * step for k in range(int(count * (1 + 1e-12)) + 1)]


def _spaced(low: float, high: float, steps: Any, scale: Any) -> np.ndarray:
    """So many numbers from `low` to `high`, evenly or by equal factors."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps {steps!r} is not allowed; give a whole number of at least 1")
    if steps > LONGEST:
        raise _too_long(steps)
    if scale not in ("linear", "log"):
        raise ValueError(f'scale {scale!r} is not allowed; give "linear" or "log"')
    if scale == "log" and low <= 0:
        raise ValueError(f"a logarithmic range cannot start at {low:g}; give a number above 0")
    return np.geomspace(low, high, steps) if scale == "log" else np.linspace(low, high, steps)


def _values(name: str, value: Any) -> Any:
    """The values of an axis as a problem takes them; None for the divisors of the GPU counts.

    Raises:
        ValueError: they cannot be those of an axis of a sweep.
    """
    if value == "divisors":
        if name not in DEGREES:
            raise ValueError(f'"divisors" is for {", ".join(DEGREES)}; {_HELP}')
        return None
    if isinstance(value, dict):
        return _range(name, value)
    listed = value if isinstance(value, list) else [value]
    if problem := asked.repeated(listed):
        raise ValueError(problem)
    return listed if name != "kv_mode" and not isinstance(value, str) else value


def _tables(document: Document) -> dict[str, dict[str, Any]]:
    """The tables by name; unknown tables and keys are reported."""
    for table in document.table:
        if table not in KEYS:
            complain(document, table, f"unknown table; {hint(table, KEYS)}")
    tables = {name: document.table.get(name, {}) for name in KEYS}
    for table, content in tables.items():
        if not isinstance(content, dict):
            complain(document, table, f"is not a table; write [{table}] and its keys below")
            tables[table] = {}
            continue
        for key in content if table != "axes" else ():
            if key not in KEYS[table]:
                complain(document, f"{table}.{key}", f"unknown key; {hint(key, KEYS[table])}")
        known = {key: x for key, x in content.items() if table == "axes" or key in KEYS[table]}
        tables[table] = _floats(known)
    return tables


def _named(document: Document, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values by name of axis, with those of the workload and the twins that may be lists too."""
    named: dict[str, Any] = {}
    for table, names in (("sweep", ("twins",)), ("workload", _ARGUMENTS), ("axes", None)):
        for name in tables[table] if names is None else names:
            if name in tables[table]:
                try:
                    values = _values(name, tables[table][name])
                except ValueError as error:
                    complain(document, f"{table}.{name}", str(error))
                    values = 1.0
                if values is None and "gpus" not in tables["axes"]:
                    complain(document, f"{table}.{name}", '"divisors" needs the axis gpus')
                named |= {} if values is None else {name: values}
    for name in set(tables["axes"]) & set(tables["workload"]):
        complain(document, f"workload.{name}", "is an axis too; keep one of the two")
    if "context" not in named:
        complain(document, "", f"[axes] context is missing; {_HELP}")
    if not named.keys() & {"gpus", *DEGREES}:
        complain(document, "", "[axes] gpus is missing; give GPU counts, or the degrees themselves")
    return named


def _list(document: Document, key: str, names: Any) -> list[str]:
    """A list of names that are there once."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        complain(document, key, f"{names!r} is not allowed; give a list of names")
        return []
    if problem := asked.repeated(names):
        complain(document, key, problem)
    return names


def _place(document: Document, tables: Sequence[str], mistakes: Iterable[tuple[str, str]]) -> None:
    """Report mistakes, each at its line in the first table that has the argument, or in [sweep].

    What the file's own reading has complained of is not told again.
    """
    told = {number for number, _ in document.problems if number}
    for argument, text in mistakes:
        own = "sweep.models" if argument == "model" else f"sweep.{argument}"
        keys = (f"{table}.{argument}" for table in tables)
        places = {next(filter(document.lines.get, keys), own): text.removeprefix(f"{argument}: ")}
        head, *lines = text.split("\n")
        if head in _RECORDS:
            fields = (line.strip().partition(": ") for line in lines)
            places = {f"{_RECORDS[head]}.{field}": problem for field, _, problem in fields}
        for place, problem in places.items():
            if document.lines.get(place) not in told:
                complain(document, place, problem)


def asked_in(document: Document) -> tuple[Problem, asked.Options]:
    """The problem and the options of a file.

    Raises:
        ValueError: with every mistake, each at its line and key.
    """
    if not document.is_readable:
        toml.raise_problems(document)
    tables = _tables(document)
    named, sweep, work = _named(document, tables), tables["sweep"], tables["workload"]
    any_gpus = "gpus" not in named
    named = dict.fromkeys(("gpus", *DEGREES), 1.0) | named if any_gpus else named
    q = named.pop("q", ())
    arguments: dict[str, Any] = {
        "model": _list(document, "sweep.models", sweep.get("models", [])),
        "hardware": _list(document, "sweep.hardware", sweep.get("hardware", [])),
        **{name: named.pop(name) for name in ("twins", *_ARGUMENTS) if name in named},
        **{n: sweep[n] for n in ("convention", "objective", "engine") if n in sweep},
        **{name: work[name] for name in _STORED if name in work},
        "workload": {k: x for k, x in work.items() if k not in (*_STORED, *_ARGUMENTS)} or None,
        "axes": named,
    }
    mistakes: list[tuple[str, str]] = []
    try:
        factors = numbers("q", q)[0] if np.size(q) else ()
    except ValueError as error:
        mistakes, factors = [("q", str(error))], ()
    said: dict[str, Any] = {n: sweep[n] for n in ("precision", "skip_illegal") if n in sweep}
    said |= {"bounds": tables["constraints"], "q": factors, "any_gpus": any_gpus}
    options = asked.options_of(tables["outputs"], **said)
    try:
        problem = Problem(**arguments)
        wrong = asked.complaints(problem, options)
    except ProblemError as error:
        mistakes += error.mistakes
        wrong = list(asked.problems_of(options))
    _place(document, ["axes", "workload"], mistakes)
    _place(document, ["outputs", "constraints", "axes"], wrong)
    toml.raise_problems(document)
    return problem, options
