"""What can be differentiated: names of continuous inputs, and the inputs of a batch of cells."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qsjax.numerics.namespace import Array
from qsjax.numerics.safe import Rounding
from qsjax.records.conversion import names_of
from qsjax.records.fields import facts_of, groups_of
from qsjax.records.specs import (
    FIELDS,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
    field_hint,
)


class Inputs(NamedTuple):
    """One evaluation per row: every leaf has the shape (rows,), apart from static fields.

    `model` is the mixture of experts itself; rows with `q` above 0 serve its dense twin at that q,
    so that q and the shapes that the twin inherits are differentiable.
    """

    model: ModelSpec
    hardware: HardwareSpec
    workload: Workload
    convention: Convention
    q: Array | np.ndarray
    gpus: Array | np.ndarray


RECORDS: dict[str, type] = {
    "model": ModelSpec,
    "hardware": HardwareSpec,
    "workload": Workload,
    "convention": Convention,
}
# Several fields that are scaled together; "flops" are the matrix units, without `flops_exp`.
GROUPS = groups_of(HardwareSpec, Workload)
_PARTITION = tuple(facts_of(Partition))
# Whole numbers and flags: what they are, and what varies them instead.
DISCRETE: dict[str, str] = {
    **dict.fromkeys(_PARTITION, "a search axis; `qsjax explore --tp 1,2,4` sweeps it"),
    "batch": "a search axis; `qsjax explore --batch 1,8,64` sweeps it",
    "gpus": "a count; `qsjax explore --gpus 8,16` sweeps it, `qsjax break-even` finds the least",
    "island_size": "a count; give the problem an axis, axes={'island_size': [8, 72]}",
    "query_tile": "a count; give the problem an axis, axes={'query_tile': [8, 64]}",
    "kv_heads": "a count that is rounded up per GPU; compare two models with it changed",
    "tied_embeddings": "a flag; compare two models with it changed",
    "ffn_matrices": "2 or 3; compare two models with it changed",
    **dict.fromkeys(
        ("attn_dtype", "proj_dtype", "ffn_dtype", "head_dtype"), "a closed choice; run each of them"
    ),
}


# Continuous field -> the record that holds it.
HOME: dict[str, str] = {
    field: where
    for where, record in RECORDS.items()
    for field in facts_of(record)
    if field not in DISCRETE
}
HARDWARE_PARAMETERS = tuple(name for name, where in HOME.items() if where == "hardware")
DEFAULT_PARAMETERS: tuple[str, ...] = (
    *HARDWARE_PARAMETERS,
    "q",
    "context",
    *(name for name in HOME if name.startswith("bytes_")),
)


class Parameter(NamedTuple):
    """A name and the fields that it scales: one, or those of a group."""

    name: str
    members: tuple[str, ...]


def _problem(name: str) -> str | None:
    if name == "q" or name in HOME or name in GROUPS:
        return None
    if name in DISCRETE:
        return f"{name} has no derivative: it is {DISCRETE[name]}"
    return f"{name!r} is not a parameter; {field_hint(name, ['q', *HOME, *GROUPS, *DISCRETE])}"


def resolve(names: Sequence[str]) -> tuple[Parameter, ...]:
    """The parameters of these names; one text holds one name, or several with commas between.

    Raises:
        ValueError: no name, unknown names (with the nearest ones) and discrete fields (with what
            sweeps them), all at once.

    >>> resolve(["hbm_bw", "latency"])[1].members
    ('intra_latency', 'inter_latency')
    """
    names = names_of(names)
    if not names:
        raise ValueError("parameters: none was given; give for example hbm_bw")
    wrong = [problem for problem in map(_problem, names) if problem]
    if wrong:
        raise ValueError("\n  ".join(["parameters:", *wrong]) if len(wrong) > 1 else wrong[0])
    return tuple(Parameter(name, GROUPS.get(name, (name,))) for name in dict.fromkeys(names))


def members_of(parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """Every field that the parameters touch, once."""
    return tuple(dict.fromkeys(m for parameter in parameters for m in parameter.members))


def read(inputs: Inputs, name: str) -> Array:
    """Values of a field, one per row."""
    if name == "q":
        return inputs.q  # type: ignore[return-value]  # NumPy outside transforms, traced inside
    return getattr(getattr(inputs, HOME[name]), name)


def write(inputs: Inputs, values: Mapping[str, Array | np.ndarray]) -> Inputs:
    """`inputs` with these fields replaced, whatever record they live in."""
    changed = inputs
    for where, kind in RECORDS.items():
        own = {name: value for name, value in values.items() if name in facts_of(kind)}
        if own:
            record = dataclasses.replace(getattr(inputs, where), **own)
            changed = changed._replace(**{where: record})
    return changed._replace(q=values["q"]) if "q" in values else changed


def varied(inputs: Inputs, values: Mapping[str, np.ndarray]) -> Inputs:
    """`write`, but `q` only in rows that have one: the mixture itself has none."""
    if "q" in values:
        values = {**values, "q": np.where(np.asarray(inputs.q) > 0, values["q"], 0.0)}
    return write(inputs, values)


def scaled(inputs: Inputs, parameter: Parameter, factor: Array | np.ndarray | float) -> Inputs:
    """`inputs` with every member of the parameter multiplied by `factor` (one per row)."""
    return write(inputs, {name: read(inputs, name) * factor for name in parameter.members})


def bounds(name: str) -> tuple[float, float]:
    """Least and largest allowed value of a field, as the checks of user input have it."""
    rule = FIELDS[name].rule
    return rule.low, rule.high


def factor_bounds(inputs: Inputs, parameter: Parameter, span: float) -> tuple[float, float]:
    """Factors from 1/span to span by which all members stay within their allowed values."""
    low, high = 1.0 / span, span
    for name in parameter.members:
        value = np.asarray(read(inputs, name))
        value = value[value > 0]
        if value.size:
            least, most = bounds(name)
            low, high = max(low, least / value.min()), min(high, most / value.max())
    return min(low, 1.0), max(high, 1.0)


def with_rounding(inputs: Inputs, rounding: Rounding) -> Inputs:
    """`inputs` whose batch and cache blocks round by this rule."""
    return inputs._replace(convention=dataclasses.replace(inputs.convention, rounding=rounding))
