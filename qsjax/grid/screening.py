"""The partitions of one cell that can run, as a flat list: the start of every serving question.

Legality and memory do not depend on the batch, so they are decided once for each partition of the
dense tensor; only what is left (a few per cent) is evaluated, at every batch.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from qsjax.cost.feasibility import MEMORY_REASONS, REASONS, Capacity, capacity, reasons
from qsjax.cost.laws.sharding import layout
from qsjax.grid.axes import Axes, Axis, axis_arrays, place
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention


class Screened(NamedTuple):
    """Reasons and memory of every design, broadcast to one shape."""

    reasons: jax.Array
    capacity: Capacity


class Candidates(NamedTuple):
    """Designs of one kept cell, all legal and with room for one sequence.

    Attributes:
        records: inputs; searched fields have shape (n, 1), all others are scalars.
        position: flat position of each design over the searched axes, shape (n,).
        largest: B_max of each design, shape (n,).
        reasons: number of designs of the cell with each reason, by name.
        cells: number of designs of the cell.
    """

    records: Records
    position: np.ndarray
    largest: np.ndarray
    reasons: dict[str, int]
    cells: int


@on_host
def _screen(records: Records, convention: Convention) -> Screened:
    model, hardware, partition, workload, gpus = records
    lay = layout(model, partition, convention)
    cap = capacity(model, hardware, partition, workload, convention, lay)
    return Screened(reasons(model, partition, workload, convention, lay, cap, gpus), cap)


def screen(records: Records, convention: Convention) -> Screened:
    """Reasons and memory of broadcast records, without the cost of a step."""
    leaves, tree = jax.tree.flatten(_screen(records, convention))
    full: Screened = jax.tree.unflatten(tree, np.broadcast_arrays(*leaves))
    return full


def is_legal(screened: Screened) -> np.ndarray:
    """Which designs are partitions at all, whatever the memory."""
    return np.asarray((screened.reasons & ~MEMORY_REASONS) == 0)


def as_float64(tree: Any) -> Any:
    """Every leaf as a float64 array: calls differ in their numbers only, one compilation."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def without_batch(axes: Axes) -> Axes:
    """The same axes less `batch`."""
    keep = [tuple(a for a in group if a.name != "batch") for group in (axes.kept, axes.searched)]
    return Axes(*keep)


def batches_asked(records: Records, axes: Axes) -> np.ndarray | None:
    """The batches that an axis `batch` or the workload prescribes, in rising order."""
    asked = next((axis.values for axis in axes.all if axis.name == "batch"), None)
    if asked is None and records.workload.batch is not None:
        asked = np.asarray(records.workload.batch, np.float64)
    return None if asked is None else np.unique(asked)


def labels_of(axes: Axes, cell: tuple[int, ...]) -> dict[str, str | float]:
    """Coordinates of a kept cell as users read them."""
    return {axis.name: axis.labels[i] for axis, i in zip(axes.kept, cell, strict=True)}


def cells(axes: Axes) -> Iterator[tuple[int, ...]]:
    """Indices of the kept cells."""
    return np.ndindex(axes.shape[: len(axes.kept)])


def cell_axes(axes: Axes, cell: tuple[int, ...]) -> Axes:
    """The grid of one kept cell: its kept axes have one value each."""
    kept = tuple(
        Axis(axis.name, axis.values[i : i + 1], axis.names[i : i + 1])
        for axis, i in zip(axes.kept, cell, strict=True)
    )
    return Axes(kept, axes.searched)


def flat_records(
    records: Records, axes: Axes, cell: tuple[int, ...], index: np.ndarray, convention: Convention
) -> Records:
    """Records of the designs at flat positions `index` over the searched axes of a kept cell.

    Searched fields get the shape of `index`, kept ones are scalars.
    """
    lengths = [len(axis.values) for axis in axes.searched]
    at = np.unravel_index(index, lengths) if lengths else ()
    values = {axis.name: axis.values[i] for axis, i in zip(axes.kept, cell, strict=True)}
    values |= {axis.name: axis.values[i] for axis, i in zip(axes.searched, at, strict=True)}
    placed: Records = as_float64(place(records, values, convention))
    return placed


def designs(axes: Axes, position: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of the searched axes at flat positions over them, by name."""
    lengths = [len(axis.values) for axis in axes.searched]
    at = np.unravel_index(position, lengths) if lengths else ()
    return {axis.name: np.array(axis.labels)[i] for axis, i in zip(axes.searched, at, strict=True)}


def design_labels(axes: Axes, position: int) -> dict[str, float | str]:
    """`designs` of a single position, as plain values."""
    found = designs(axes, np.array([position]))
    return {name: values[0].item() for name, values in found.items()}


def candidates(
    records: Records, axes: Axes, cell: tuple[int, ...], convention: Convention
) -> Candidates:
    """The designs of a kept cell that are legal and hold at least one sequence.

    Args:
        records: inputs; the workload's batch is not looked at.
        axes: the grid; an axis `batch` must have been taken out (`without_batch`).
        cell: index over the kept axes.
        convention: accounting.
    """
    one = cell_axes(axes, cell)
    free = records._replace(workload=dataclasses.replace(records.workload, batch=None))
    screened = screen(as_float64(place(free, axis_arrays(one), convention)), convention)
    shape = one.shape
    why = np.broadcast_to(np.asarray(screened.reasons), shape).reshape(-1)
    largest = np.broadcast_to(np.asarray(screened.capacity.max_batch), shape).reshape(-1)
    index = np.flatnonzero(why == 0)
    return Candidates(
        records=flat_records(free, axes, cell, index[:, None], convention),
        position=index,
        largest=largest[index],
        reasons={name: int(np.count_nonzero(why & bit)) for name, bit in REASONS.items()},
        cells=int(why.size),
    )
