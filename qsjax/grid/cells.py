"""A problem as rows of inputs and a list of designs: what the optimiser takes.

Which splits are legal does not depend on what is varied continuously, so illegal ones are dropped
once. Every continuous parameter is an array over the rows: draws, roots and variants of hardware
are rows with their own inputs, and one compilation serves all.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.feasibility import MEMORY_REASONS, REASONS, Capacity, reasons
from qsjax.cost.laws.params import dense_twin
from qsjax.cost.laws.sharding import context_of
from qsjax.cost.metrics import Economy, Objective, not_stated
from qsjax.grid.axes import PARTITION_AXES, Axis, make_axes
from qsjax.grid.limits import Limits
from qsjax.grid.parameters import Inputs, write
from qsjax.grid.problem import Problem, axis_values, check_single, economy_of, pairs_of
from qsjax.grid.served import Accelerator, Served, Variant, counted, serving, variants_of
from qsjax.numerics import trees
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.specs import DEGREES, Convention, ModelSpec, Partition, Records

# Degrees whose product is the number of GPUs of one copy of a deployment.
GPU_DEGREES = ("tp", "pp", "dp", "kvp")
MOST_DESIGNS = 2**22
LEFT_OUT = 4  # at most so many times as many are built before those that fit no count are left out
WRONG_COUNT = "wrong GPU count"


class Designs(NamedTuple):
    """Designs to choose from: leaves of shape (designs,); `batch` None takes the largest."""

    partition: Partition
    batch: Array | np.ndarray | None


class Winners(NamedTuple):
    """One design per row with its inputs: what is differentiated."""

    inputs: Inputs
    designs: Designs


@dataclasses.dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one model on one accelerator, their inputs, and the designs they choose from.

    Attributes:
        model: what is served.
        hardware: where.
        axes: the axes of the cells, `variant` first; cells are flat in their order.
        variants: of the axis `variant`: the model and its dense twins.
        inputs: one row per cell.
        designs: every design that is legal in at least one cell.
        objective: what the best design maximises.
        any_batch: whether the batch is searched too, within the limits.
        limits: what a design must keep.
        economy: price and power, each of shape (cells,).
        of_hardware: its fields that are those of the hardware.
        enumerated: designs of a cell before the illegal ones were dropped.
        illegal: of them, those with each of `REASONS` that were dropped, shape (reason, cell).
    """

    model: Served
    hardware: Accelerator
    axes: tuple[Axis, ...]
    variants: tuple[Variant, ...]
    inputs: Inputs
    designs: Designs
    objective: Objective
    any_batch: bool
    limits: Limits
    economy: Economy
    of_hardware: tuple[str, ...]
    enumerated: int
    illegal: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def per_variant(self) -> int:
        """Cells of each variant; those of one place are so many apart."""
        return self.cells // len(self.variants)

    @property
    def count(self) -> int:
        """Number of designs."""
        return len(np.asarray(self.designs.partition.tp))


def served_model(inputs: Inputs) -> ModelSpec:
    """The model of every row: the mixture itself, or its dense twin where q > 0."""
    is_twin = xp.greater(inputs.q, 0)
    twin = dense_twin(inputs.model, xp.where(is_twin, inputs.q, 1.0), inputs.convention.twin)

    def choose(own: Array, other: Array) -> Array:
        return own if other is own else xp.where(is_twin, other, own)

    return trees.map(choose, inputs.model, twin)


def placed(winners: Winners) -> Records:
    """The design of every row."""
    inputs, designs = winners
    workload = inputs.workload
    if designs.batch is not None:
        workload = dataclasses.replace(workload, batch=designs.batch)
    model, hardware = served_model(inputs), inputs.hardware
    return Records(model, hardware, designs.partition, workload, inputs.gpus)


def step_of(winners: Winners) -> StepCost:
    """The decode step of every row."""
    return decode_step(placed(winners), winners.inputs.convention)


def take(tree: Any, at: Any) -> Any:
    """Rows `at` of every leaf."""
    return trees.map(lambda leaf: np.asarray(leaf)[at], tree)


def concatenated(*parts: Any, axis: int = 0) -> Any:
    """The rows of several trees, or another axis of their leaves, one after another."""
    return trees.map(lambda *leaves: np.concatenate(leaves, axis), *parts)


def numbers_at(tree: Any, at: int) -> Any:
    """Row `at` of every leaf, as a number."""
    return trees.map(lambda leaf: float(np.asarray(leaf)[at]), tree)


def full(tree: Any, shape: tuple[int, ...]) -> Any:
    """Every leaf as a NumPy array of `shape`."""
    return trees.map(lambda leaf: np.broadcast_to(np.asarray(leaf), shape), tree)


def shaped(tree: Any, axis: int) -> Any:
    """Leaves as columns (axis 1) or rows (axis 0) of a table rows x designs."""
    return trees.map(lambda leaf: xp.expand_dims(xp.asarray(leaf), axis), tree)


def as_rows(tree: Any, count: int) -> Any:
    """Leaves as float64 of shape (count,); a value for all rows is held once."""
    return trees.map(lambda x: np.broadcast_to(np.asarray(x, np.float64), count), tree)


step_on_host, model_on_host = on_host(step_of), on_host(served_model)


def records_on_host(inputs: Inputs, partition: Partition) -> Records:
    """The records of designs with these inputs."""
    return Records(model_on_host(inputs), inputs.hardware, partition, inputs.workload, inputs.gpus)


def label_of(cells: Cells) -> dict[str, Any]:
    """Model, accelerator and variant of cells of one variant."""
    (variant,) = cells.variants
    names = {"model": cells.model.name, "hardware": cells.hardware.name}
    return names | {"variant": variant.name, "q": variant.q}


@on_host
def _reasons(records: Records, convention: Convention) -> Array:
    nothing = Capacity(*(xp.zeros(()),) * 5)
    return reasons(context_of(records, convention), nothing, records.gpus)


def illegality(records: Records, convention: Convention) -> np.ndarray:
    """Reasons why designs cannot run that no memory mends, as bits; 0 where they are legal."""
    return np.asarray(_reasons(records, convention)).astype(np.int32) & ~MEMORY_REASONS


def _too_many(axes: Sequence[Axis]) -> ValueError:
    lengths = " x ".join(f"{axis.name} {len(axis.values)}" for axis in axes)
    names = ", ".join(axis.name for axis in axes if axis.name in DEGREES)
    return ValueError(
        f"the searched axes ({lengths}) have more than {MOST_DESIGNS:,} designs: give fewer "
        f"values, such as [1, 2, 4, 8] for each of {names}"
    )


def _listed(axes: Sequence[Axis], counts: np.ndarray) -> tuple[Designs, int]:
    """Combinations of the searched axes, the last one changing fastest, and how many were left out.

    Left out are those whose GPUs divide none of the counts, as early as the degrees tell.

    Raises:
        ValueError: they are too many to be listed.
    """
    columns: dict[str, np.ndarray] = {}
    used = np.ones(1)
    for axis in axes:
        count = len(axis.values)
        if len(used) * count > LEFT_OUT * MOST_DESIGNS:
            raise _too_many(axes)
        columns = {name: np.repeat(column, count) for name, column in columns.items()}
        columns[axis.name] = np.tile(axis.values, len(used))
        used = np.repeat(used, count)
        if axis.name in GPU_DEGREES:
            used = used * columns[axis.name]
            fits = (np.remainder.outer(counts, used) == 0).any(axis=0)
            if fits.any():
                used, columns = used[fits], {name: x[fits] for name, x in columns.items()}
        if len(used) > MOST_DESIGNS:
            raise _too_many(axes)
    degrees = {name: columns[name] for name in PARTITION_AXES if name in columns}
    total = math.prod(len(axis.values) for axis in axes)
    partition = as_rows(Partition(**degrees), len(used))  # type: ignore[arg-type]  # degrees
    return Designs(partition, columns.get("batch")), total - len(used)


def _distinct(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Rows that differ in what legality depends on, and the one that stands for each row."""
    leaves = [*trees.leaves(inputs.model), inputs.q, inputs.gpus]
    varied = [leaf for leaf in leaves if np.ptp(leaf) > 0] or leaves[-1:]
    _, first, inverse = np.unique(np.stack(varied), axis=1, return_index=True, return_inverse=True)
    return first, np.ravel(inverse)


def _legal_designs(inputs: Inputs, designs: Designs, left_out: int) -> tuple[Designs, np.ndarray]:
    """The designs that are legal in at least one row, and the reasons of the others by row.

    If none is legal, all are kept, so that the result says why.
    """
    first, of_row = _distinct(inputs)
    columns = trees.map(lambda leaf: leaf[:, None], take(inputs, first))
    bits = illegality(records_on_host(columns, designs.partition), columns.convention)
    bits = np.broadcast_to(bits, (len(first), len(np.asarray(designs.partition.tp))))
    is_legal = (bits == 0).any(axis=0)
    is_legal |= not is_legal.any()
    dropped = bits[:, ~is_legal]
    counts = np.stack([np.count_nonzero(dropped & bit, axis=1) for bit in REASONS.values()])
    counts[list(REASONS).index(WRONG_COUNT)] += left_out
    return take(designs, is_legal), counts[:, of_row]


def cells_of(
    problem: Problem, model: int = 0, hardware: int = 0, rules: Convention | None = None
) -> Cells:
    """The cells of one of a problem's models on one accelerator, by its accounting or `rules`."""
    stated = problem.stated
    served = stated.models[model]
    device = serving(stated.accelerators[hardware], served)
    rules = counted(rules or stated.rules, device.tuned.get(served.name))
    variants = variants_of(served.spec, stated.twins)
    searched = ("batch",) if stated.batches is not None else ()
    values = {"model": [v.label for v in variants], **axis_values(stated)}
    axes = make_axes(values, searched=searched)
    kept = (dataclasses.replace(axes.kept[0], name="variant"), *axes.kept[1:])
    cells = int(np.prod([len(axis.values) for axis in kept], dtype=np.int64))
    mesh = np.meshgrid(*(axis.values for axis in kept), indexing="ij")
    at = {axis.name: grid.ravel() for axis, grid in zip(kept, mesh, strict=True)}
    factors = np.array([variant.q or 0.0 for variant in variants])
    zeros = np.zeros(cells)
    workload = dataclasses.replace(served.workload, batch=None)
    inputs = as_rows(Inputs(served.spec, device.spec, workload, rules, zeros, zeros), cells)
    inputs = inputs._replace(q=factors[at["variant"].astype(int)], gpus=at["gpus"])
    inputs = write(inputs, {name: at[name] for name in at if name not in ("variant", "gpus")})
    listed, left_out = _listed(axes.searched, np.unique(inputs.gpus))
    designs, illegal = _legal_designs(inputs, listed, left_out)
    prices, own = economy_of(problem, device), tuple[str, ...]()
    if not isinstance(problem.economy, Economy):
        own = not_stated(problem.economy or {})
        of_rows: dict[str, Any] = {name: getattr(inputs.hardware, name) for name in own}
        prices = dataclasses.replace(prices, **of_rows)
    return Cells(
        model=served,
        hardware=device,
        axes=kept,
        variants=tuple(variants),
        inputs=inputs,
        designs=designs,
        objective=problem.objective,
        any_batch=stated.any_batch,
        limits=problem.limits,
        economy=as_rows(prices, cells),
        of_hardware=own,
        enumerated=math.prod(len(axis.values) for axis in axes.searched),
        illegal=illegal,
    )


def blocks_of(problem: Problem, rules: Convention | None = None) -> list[Cells]:
    """The cells of every model on every accelerator, in the order of `pairs_of`."""
    return [cells_of(problem, m, h, rules) for m, h in pairs_of(problem)]


def variants_alone(problem: Problem) -> list[Cells]:
    """The cells of every variant of every model on every accelerator, each by itself."""
    blocks = blocks_of(problem)
    return [of_variant(cells, k) for cells in blocks for k in range(len(cells.variants))]


def of_variant(cells: Cells, index: int) -> Cells:
    """The cells of one variant alone."""
    rows = slice(index * cells.per_variant, (index + 1) * cells.per_variant)
    axis = Axis(cells.axes[0].name, np.zeros(1), (cells.variants[index].label,))
    return dataclasses.replace(
        cells,
        axes=(axis, *cells.axes[1:]),
        variants=(cells.variants[index],),
        inputs=take(cells.inputs, rows),
        economy=take(cells.economy, rows),
        illegal=cells.illegal[:, rows],
    )


def one_cell(
    problem: Problem,
    model: int | None = None,
    hardware: int | None = None,
    rules: Convention | None = None,
) -> Cells:
    """The only cell of one of a problem's models on one of its accelerators, or of its only twin.

    Args:
        problem: what is asked.
        model: which of its models; None for the only one.
        hardware: which of its accelerators; likewise.
        rules: another accounting than the problem's.

    Raises:
        ValueError: the problem has several cells.
    """
    open_ = [name for name, at in (("model", model), ("hardware", hardware)) if at is None]
    check_single(problem, "one design is looked at", *open_, "gpus", "context", "twins", "batch")
    cells = cells_of(problem, model or 0, hardware or 0, rules)
    return of_variant(cells, len(cells.variants) - 1)
