"""Named axes, and the records broadcast over them: the only place where arrays are reshaped."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from qsjax.cost.laws.params import dense_twin
from qsjax.numerics import trees
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.checks import check_axes
from qsjax.records.fields import facts_of
from qsjax.records.specs import (
    KV_MODES,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Records,
    Workload,
)

Record = TypeVar("Record", ModelSpec, HardwareSpec, Partition, Workload)

# Axes along which whole records change, not one field.
STACKED = ("model", "hardware")
# The axes over which a search takes the best, in the order in which ties are broken.
PARTITION_AXES = tuple(facts_of(Partition))


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its name, its coordinates (float64), and names where these are only codes."""

    name: str
    values: np.ndarray
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Axes:
    """Kept axes, one result for each of their cells, and searched axes, reduced to the best."""

    kept: tuple[Axis, ...]
    searched: tuple[Axis, ...]

    @property
    def all(self) -> tuple[Axis, ...]:
        """Kept axes first, so that a search reduces trailing dimensions."""
        return self.kept + self.searched

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(len(axis.values) for axis in self.all)

    @property
    def cells(self) -> int:
        """Number of designs."""
        return int(np.prod(self.shape, dtype=np.int64))


def _axis(name: str, values: Sequence[float | str] | np.ndarray) -> Axis:
    if name in STACKED:
        return Axis(name, np.arange(len(values), dtype=np.float64), tuple(map(str, values)))
    if name == "kv_mode":
        modes = list(dict.fromkeys(str(mode) for mode in values))
        # At kvp = 1 Helix is no KV parallelism, so "none" beside it would count designs twice.
        if "kvp" in modes and "none" in modes:
            modes.remove("none")
        return Axis(name, np.array([KV_MODES[mode] for mode in modes]), tuple(modes))
    return Axis(name, np.asarray(values, dtype=np.float64).reshape(-1))


def make_axes(
    values: Mapping[str, Sequence[float | str] | np.ndarray], searched: Sequence[str] = ()
) -> Axes:
    """Axes of a grid, from names to coordinates.

    Args:
        values: `context`, `q`, `gpus`, any field of Partition, Workload, HardwareSpec or ModelSpec;
            `model` or `hardware` with one name for each record of a stack (see `stack`).
            Partition fields are searched over, all others kept.
        searched: further names to search over, such as `batch`.

    Raises:
        ValueError: names that are no field of a record, and values out of bounds, all at once.
    """
    named = {name: given for name, given in values.items() if name not in STACKED}
    values = {**values, **check_axes(named)}
    reduced = [name for name in (*PARTITION_AXES, *searched) if name in values]
    kept = [name for name in values if name not in reduced]
    return Axes(
        kept=tuple(_axis(name, values[name]) for name in kept),
        searched=tuple(_axis(name, values[name]) for name in reduced),
    )


# The dense twin of a model, without compiling.
twin_of = on_host(dense_twin)


def stack(records: Sequence[Record]) -> Record:
    """One record whose leaves hold those of all `records`, for an axis `model` or `hardware`.

    Models of different dtypes lose their precision: a stack has one dtype for all, a workload's.
    """
    if len({trees.structure(record) for record in records}) > 1:
        records = [
            dataclasses.replace(r, precision=None) if isinstance(r, ModelSpec) else r
            for r in records
        ]
    return trees.map(lambda *x: np.asarray(x, dtype=np.float64), *records)


def _along(axes: Sequence[Axis], rank: int) -> dict[str, np.ndarray]:
    return {
        axis.name: axis.values.reshape([-1 if j == k else 1 for j in range(rank)])
        for k, axis in enumerate(axes)
    }


def axis_arrays(axes: Axes) -> dict[str, np.ndarray]:
    """Coordinates of axis k shaped to rank N with its length at position k."""
    return _along(axes.all, len(axes.all))


def matrix_arrays(axes: Axes) -> dict[str, np.ndarray]:
    """Coordinates of kept axis k at position k, and of all searched axes along one last axis.

    Long contiguous rows of designs are what processors are fast at; a dense tensor of seven values
    an axis is not. Every design lists its coordinates, the last searched axis changing fastest.
    """
    rank = len(axes.kept) + 1
    rows = np.meshgrid(*(axis.values for axis in axes.searched), indexing="ij")
    ahead = (1,) * (rank - 1)
    listed = zip(axes.searched, rows, strict=True)
    return _along(axes.kept, rank) | {axis.name: row.reshape(*ahead, -1) for axis, row in listed}


def place(records: Records, arrays: Mapping[str, np.ndarray], convention: Convention) -> Records:
    """`records` with every named field replaced by its coordinates.

    `q` turns the model into its dense twin at those q; `model` and `hardware` pick from a stack,
    `model` also the workload's values for each.
    Fields that no axis names keep their value.
    """

    def with_axes(record: Record, stacked: str = "") -> Record:
        if stacked in arrays:
            at = arrays[stacked].astype(np.int64)
            record = trees.map(lambda leaf: leaf[at] if np.ndim(leaf) else leaf, record)
        names = facts_of(type(record))
        fields: dict[str, Any] = {k: v for k, v in arrays.items() if k in names}
        return dataclasses.replace(record, **fields)

    model = with_axes(records.model, "model")
    if "q" in arrays:
        model = dense_twin(model, arrays["q"], convention.twin)
    return Records(
        model=model,
        hardware=with_axes(records.hardware, "hardware"),
        partition=with_axes(records.partition),
        workload=with_axes(records.workload, "model"),
        gpus=arrays.get("gpus", records.gpus),
    )
