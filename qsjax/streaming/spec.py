"""A sweep as a TOML file: every mistake at its line, and the job that it asks for."""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qsjax.grid.axes import Axes, make_axes, stack, twin_of
from qsjax.numerics.safe import scalar
from qsjax.output import files
from qsjax.records.fields import facts_of
from qsjax.records.quantities import FIELDS
from qsjax.records.scenario import Records
from qsjax.records.specs import (
    CONVENTIONS,
    DEGREES,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)
from qsjax.streaming.engine import Job
from qsjax.streaming.run import Outputs
from qsjax.streaming.schema import DTYPES, NAMES, PRECISIONS, SCHEMA, conflicts, near, value_problem
from qsjax.streaming.values import RANGE_HELP, axis_values

# Reads a model or an accelerator by its name; ValueError says what is wrong with it.
Reader = Callable[[str], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """A checked file: its tables as plain values, axes as lists of numbers."""

    sweep: dict[str, Any]
    axes: dict[str, list[Any]]
    workload: dict[str, Any]
    constraints: dict[str, float]
    outputs: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """What identifies the sweep."""
        return dataclasses.asdict(self)


def _line(text: str, table: str, key: str = "") -> int:
    """Line of a key in a table, or of the table's header; 0 if it cannot be found."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([\w.-]+)\s*\]", line)
        if header:
            current = header.group(1)
            if current == table and not key:
                return number
        here = re.match(r"""\s*["']?([\w-]+)["']?\s*=""", line)
        if here and here.group(1) == key and current in (table, ""):
            return number
        if current == "" and re.match(rf"\s*{re.escape(table)}\s*\.\s*{re.escape(key)}\s*=", line):
            return number
    return 0


def _syntax(text: str, error: str) -> str:
    """What TOML says, with the line itself; a key given twice is the commonest case."""
    found = re.search(r"at line (\d+)", error)
    if not found:
        return error
    number = int(found.group(1))
    line = text.splitlines()[number - 1].strip()
    if "overwrite" in error:
        return f"line {number}: {line.partition('=')[0].strip()} is there twice; keep one"
    return f"line {number}: {error}: {line}"


def parse(text: str, source: str = "sweep", readers: Mapping[str, Reader] = {}) -> Spec:
    """The checked content of a file.

    Args:
        text: the file, TOML.
        source: its name, for messages.
        readers: for `models` and `hardware`, what reads one by name, so that unknown names are
            told with all other mistakes.

    Raises:
        ValueError: with every mistake, each at its line and key.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: {_syntax(text, str(error))}") from error
    problems: list[tuple[int, str]] = []

    def blame(table: str, key: str, problem: str) -> None:
        where = f"[{table}] {key}".strip()
        problems.append((_line(text, table, key), f"{where}: {problem}"))

    for table, content in raw.items():
        if table not in SCHEMA:
            blame(table, "", f"unknown table; {near(table, SCHEMA)}")
        elif not isinstance(content, dict):
            blame(table, "", f"is no table; write [{table}] and its keys below")
    tables = {t: raw.get(t, {}) if isinstance(raw.get(t, {}), dict) else {} for t in SCHEMA}
    for table, keys in SCHEMA.items():
        for key, value in tables[table].items() if table != "axes" else ():
            if key not in keys:
                blame(table, key, f"unknown key; {near(key, keys)}")
            elif (problem := value_problem(table, key, value)) is not None:
                blame(table, key, problem)
            elif key in readers:
                for said in _unreadable(readers[key], value):
                    blame(table, key, said)
    for key, problem in conflicts(tables["constraints"]):
        blame("constraints", key, problem)
    for key in ("models", "hardware"):
        if key not in tables["sweep"]:
            blame("sweep", key, f"is missing; give {NAMES}")
    axes = _axes(tables["axes"], blame)
    if "context" not in axes and "context" not in tables["workload"]:
        blame("axes", "context", f"is missing; {RANGE_HELP}")
    for key in set(axes) & set(tables["workload"]):
        blame("workload", key, "is an axis too; keep one of the two")
    if problems:
        found = sorted(problems, key=lambda problem: problem[0])
        lines = [f"line {n}: {what}" if n else what for n, what in found]
        raise ValueError("\n".join([f"{source}:", *(f"  {line}" for line in lines)]))
    return Spec(tables["sweep"], axes, tables["workload"], tables["constraints"], tables["outputs"])


def _unreadable(reader: Reader, names: list[str]) -> Iterator[str]:
    for name in names:
        try:
            reader(name)
        except ValueError as error:
            yield str(error)


def _axes(table: Mapping[str, Any], blame: Callable[[str, str, str], None]) -> dict[str, list[Any]]:
    gpus = axis_values("gpus", table["gpus"], [])[0] if "gpus" in table else []
    axes: dict[str, list[Any]] = {}
    known = [n for n in FIELDS if n not in facts_of(Convention)]
    for name, value in table.items():
        if name not in known:
            blame("axes", name, f"no such field; {near(name, known)}")
            continue
        axes[name], problem = axis_values(name, value, gpus)
        if problem is not None:
            blame("axes", name, problem)
    if "gpus" not in table and not set(DEGREES) & set(table):
        blame("axes", "gpus", "is missing; give GPU counts, or the degrees themselves")
    for name in DEGREES:
        axes.setdefault(name, axis_values(name, "divisors", gpus)[0] if gpus else [1.0])
    axes.setdefault("kv_mode", ["kvp", "cp"])
    return axes


def read(path: Path, readers: Mapping[str, Reader] = {}) -> Spec:
    """The sweep in a file; arguments and errors as `parse`.

    Raises:
        ValueError: also where the file is no text.
    """
    return parse(files.content_of(path), str(path), readers)


def _shared_workload(works: Mapping[str, Workload], stated: Mapping[str, Any]) -> Workload:
    """One workload for models by name: their own values side by side, under what the file states.

    Raises:
        ValueError: they would multiply in different dtypes.
    """
    for field in DTYPES:
        found: dict[str, str] = {}
        for name, work in works.items():
            found.setdefault(getattr(work, field), name)
        if field not in stated and len(found) > 1:
            said = ", ".join(f"{name} in {dtype}" for dtype, name in found.items())
            raise ValueError(
                f"[sweep] models: they are published in different precisions ({said}), and a sweep "
                f"has one {field}; set weights in [workload] to one of them, or sweep them apart"
            )
    own = stack([dataclasses.replace(work, **stated) for work in works.values()])
    leaves, tree = jax.tree.flatten(own)
    return jax.tree.unflatten(tree, [x if np.ptp(x) else float(x[0]) for x in leaves])


def _bounds(constraints: Mapping[str, float]) -> dict[Any, tuple[float, float]]:
    bounds: dict[Any, tuple[float, float]] = {}
    for key, value in constraints.items():
        side, _, metric = key.partition("_")
        low, high = bounds.get(metric, (-np.inf, np.inf))
        bounds[metric] = (float(value), high) if side == "min" else (low, float(value))
    return bounds


def records_of(
    models: Mapping[str, tuple[ModelSpec, Workload]],
    chips: Mapping[str, HardwareSpec],
    twins: Sequence[float],
    rules: Convention,
    stated: Mapping[str, Any],
) -> tuple[list[str], Records]:
    """Models with their dense twins, and accelerators, as stacks; names of the models.

    Raises:
        ValueError: the models multiply in different dtypes.
    """
    named: dict[str, ModelSpec] = {}
    works: dict[str, Workload] = {}
    for name, (own, work) in models.items():
        factors = twins if scalar(own.experts) > 1 else ()
        family = {name: own} | {
            f"{name} dense q={q:g}": twin_of(own, float(q), definition=rules.twin) for q in factors
        }
        named |= family
        works |= dict.fromkeys(family, work)
    work = _shared_workload(works, stated)
    specs, devices = stack(list(named.values())), stack(list(chips.values()))
    return list(named), Records(specs, devices, Partition(), work, None)


def build(
    spec: Spec,
    model: Callable[[str], ModelSpec],
    hardware: Callable[[str], HardwareSpec],
    workload: Callable[..., Workload],
) -> tuple[Job, Axes, Outputs]:
    """The job, the grid and what is kept.

    Args:
        spec: the file.
        model: reads a model by its name.
        hardware: reads an accelerator.
        workload: the precisions that a model is published in, by its name and as keywords `weights`
            and `kv` the dtypes that are taken instead, or None.

    Raises:
        ValueError: models without experts under the axis q, or in precisions that differ.
    """
    rules = CONVENTIONS[spec.sweep.get("convention", "physical")]
    stated = {name: value for name, value in spec.workload.items() if name not in PRECISIONS}
    stored = {name: spec.workload.get(name) for name in PRECISIONS}
    named = {name: (model(name), workload(name, **stored)) for name in spec.sweep["models"]}
    dense = [name for name, (own, _) in named.items() if scalar(own.experts) <= 1]
    twins = spec.sweep.get("twins", [])
    if "q" in spec.axes and (dense or twins):
        dense += [f"the twins of {name}" for name in named if twins and name not in dense]
        raise ValueError(
            "[axes] q: makes every model its dense twin, but there are no experts to replace in "
            f"{', '.join(dense)}; drop the axis, or these"
        )
    chips = {name: hardware(name) for name in spec.sweep["hardware"]}
    labels, records = records_of(named, chips, twins, rules, stated)
    values: dict[str, Any] = {"model": labels, "hardware": list(chips), **spec.axes}
    job = Job(
        records,
        rules,
        spec.sweep.get("objective", "tokens_per_s_per_gpu"),
        _bounds(spec.constraints),
        tuple(spec.outputs.get("statistics", [])),
        spec.sweep.get("precision", "float64"),
    )
    wanted = {name: value for name, value in spec.outputs.items() if name != "statistics"}
    return job, make_axes(values), Outputs(**wanted)
