"""Cells to optimise and the legal designs to choose from: rows x designs instead of a full tensor.

A derivative, a root or an inverse design asks for the optimum of the same cells over and over, at
slightly other parameters. Which splits are legal does not depend on those, so illegal ones are
dropped once, and every continuous parameter is an array over the rows: one compilation serves all.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.cost.feasibility import MEMORY_REASONS, REASONS, Capacity, reasons
from qsjax.cost.laws.params import dense_twin
from qsjax.cost.laws.sharding import layout
from qsjax.cost.ledger import resource_times, time_ledger
from qsjax.grid.axes import PARTITION_AXES, Axis
from qsjax.grid.parameters import Inputs, write
from qsjax.grid.problem import CONTEXTS, Variant, axis_values, check_inputs, grid_of, variants_of
from qsjax.grid.search import Objective, check_objective, pick_best, score_of
from qsjax.records.checks import check_axes, check_records
from qsjax.records.precision import workload_of
from qsjax.records.specs import (
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
    named_convention,
)

SMALL_BLOCK = 64  # rows evaluated at a time: one compilation for every solver's few rows
MANY_ROWS = 2**13  # from here on a second compilation for larger blocks pays off
LARGE_BLOCK = 2**21  # designs evaluated at a time: bounds the memory of a large problem

Array = jax.Array | np.ndarray


class Designs(NamedTuple):
    """Designs to choose from: leaves of shape (designs,); `batch` None takes the largest."""

    partition: Partition
    batch: Array | None


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Cells, their inputs, and the designs that each may choose.

    Attributes:
        axes: the axes of the cells, `variant` first; cells are flat in their order.
        variants: of the axis `variant`: the model and its dense twins.
        inputs: one row per cell.
        designs: every split that is legal in at least one cell.
        objective: what the best design maximises.
    """

    axes: tuple[Axis, ...]
    variants: tuple[Variant, ...]
    inputs: Inputs
    designs: Designs
    objective: Objective = "tokens_per_s_per_gpu"

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape, dtype=np.int64))


class Best(NamedTuple):
    """Of every row: position and score of the best and the second-best design, and what fits.

    Attributes:
        position: of the winner among the designs; 0 where no design is feasible.
        score: its objective; -inf where none is feasible.
        second: position of the runner-up; `second_score` is -inf without one.
        second_score: its objective.
        feasible: number of feasible designs.
        reasons: designs with each of `REASONS`, shape (reason, row).
        resource: index in `ledger.RESOURCES` of the largest part of the winner's TPOT.
        shortfall: usable bytes per GPU that the least demanding legal design lacks for its
            weights and one sequence (or its batch) [B]; negative where it fits, infinite without
            a legal design.
    """

    position: Array
    score: Array
    second: Array
    second_score: Array
    feasible: Array
    reasons: Array
    resource: Array
    shortfall: Array


class Winners(NamedTuple):
    """One design per row with its inputs: what is differentiated."""

    inputs: Inputs
    designs: Designs


def served_model(inputs: Inputs) -> ModelSpec:
    """The model of every row: the mixture itself, or its dense twin where q > 0."""
    is_twin = jnp.greater(inputs.q, 0)
    q = jnp.where(is_twin, inputs.q, 1.0)
    twin = dense_twin(inputs.model, q, inputs.convention.twin)

    def choose(own: jax.Array, other: jax.Array) -> jax.Array:
        return own if other is own else jnp.where(is_twin, other, own)

    served: ModelSpec = jax.tree.map(choose, inputs.model, twin)
    return served


def step_of(winners: Winners) -> StepCost:
    """The decode step of every row."""
    inputs, designs = winners
    workload = inputs.workload
    if designs.batch is not None:
        workload = dataclasses.replace(workload, batch=designs.batch)
    others = (designs.partition, workload, inputs.convention, inputs.gpus)
    return decode_step(served_model(inputs), inputs.hardware, *others)


def _shaped(tree: Any, axis: int) -> Any:
    """Leaves as columns (axis 1) or rows (axis 0) of a table rows x designs."""
    return jax.tree.map(lambda leaf: jnp.expand_dims(jnp.asarray(leaf), axis), tree)


def _resource(winners: Winners) -> jax.Array:
    inputs, designs = winners
    ledger = time_ledger(
        step_of(winners),
        inputs.convention,
        designs.partition,
        inputs.workload,
        jnp.asarray(inputs.hardware.step_overhead),
    )
    times = [jnp.broadcast_to(t, inputs.q.shape) for t in resource_times(ledger).values()]
    return jnp.argmax(jnp.stack(times), axis=0)


@partial(jax.jit, static_argnames="objective")
def _best(inputs: Inputs, designs: Designs, objective: Objective) -> Best:
    rows, count = inputs.q.shape[0], jnp.shape(designs.partition.tp)[0]
    step = step_of(Winners(_shaped(inputs, 1), _shaped(designs, 0)))

    def full(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (rows, count))

    why = full(step.reasons)
    score, gpus = full(score_of(step, objective)), full(step.gpus)
    best = pick_best(score, why == 0, gpus)
    is_best = jax.lax.broadcasted_iota(best.position.dtype, (rows, count), 1)
    second = pick_best(score, (why == 0) & (is_best != best.position[:, None]), gpus)
    cap = step.capacity
    sequences = 1.0 if designs.batch is None else cap.batch
    needed = full(cap.weights + sequences * cap.kv_per_sequence - cap.usable)
    least = jnp.min(jnp.where((why & ~MEMORY_REASONS) == 0, needed, jnp.inf), axis=-1)
    counts = jnp.stack([jnp.sum((why & bit) != 0, axis=-1) for bit in REASONS.values()])
    feasible = jnp.sum(why == 0, axis=-1)
    at = jax.tree.map(lambda leaf: jnp.asarray(leaf)[best.position], designs)
    return Best(*best, *second, feasible, counts, _resource(Winners(inputs, at)), least)


def best_of(inputs: Inputs, designs: Designs, objective: Objective) -> Best:
    """The best design of every row (NumPy), block by block; the last block is filled up."""
    rows, count = len(inputs.q), len(np.asarray(designs.partition.tp))
    block = SMALL_BLOCK
    if rows > MANY_ROWS:
        block = max(block, 2 ** int(np.log2(max(1, LARGE_BLOCK // count))))
    at = np.pad(np.arange(rows), (0, -rows % block), mode="edge")
    parts: list[Best] = [
        jax.tree.map(np.asarray, _best(take(inputs, at[k : k + block]), designs, objective))
        for k in range(0, len(at), block)
    ]
    return Best(
        *(np.concatenate(column, axis=-1)[..., :rows] for column in zip(*parts, strict=True))
    )


def take(tree: Any, at: Any) -> Any:
    """Rows `at` of every leaf."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[at], tree)


def winners_at(inputs: Inputs, designs: Designs, position: np.ndarray) -> Winners:
    """Every row with the design at its position."""
    return Winners(inputs, take(designs, position))


def _rows(tree: Any, count: int) -> Any:
    """Leaves as float64 of shape (count,)."""
    return jax.tree.map(lambda x: np.broadcast_to(np.asarray(x, np.float64), count).copy(), tree)


@jax.jit
def _is_legal(inputs: Inputs, partition: Partition) -> jax.Array:
    inputs, partition = _shaped(inputs, 1), _shaped(partition, 0)
    model, rules = served_model(inputs), inputs.convention
    lay, nothing = layout(model, partition, rules), Capacity(*(jnp.zeros(()),) * 5)
    bits = reasons(model, partition, inputs.workload, rules, lay, nothing, inputs.gpus)
    return jnp.any((bits & ~MEMORY_REASONS) == 0, axis=0)


def legal_designs(inputs: Inputs, axes: Sequence[Axis]) -> Designs:
    """Every combination of the searched axes that is legal in at least one row.

    If none is, all are returned, so that the result says why.
    """
    columns = np.array(list(product(*(axis.values for axis in axes))), dtype=np.float64).T
    named = dict(zip((axis.name for axis in axes), columns, strict=True))
    degrees = {name: named[name] for name in PARTITION_AXES if name in named}
    used = np.prod([degrees.get(name, 1.0) for name in ("tp", "pp", "dp", "kvp")], axis=0)
    counts = np.unique(inputs.gpus)
    right = np.isin(np.broadcast_to(used, columns.shape[1]), counts)
    keep = right if right.any() else np.ones_like(right)
    chosen = {name: values[keep] for name, values in named.items()}
    partition = Partition(**{name: chosen[name] for name in degrees})
    designs = Designs(_rows(partition, int(keep.sum())), chosen.get("batch"))
    is_legal = np.asarray(_is_legal(inputs, designs.partition))
    return take(designs, is_legal) if is_legal.any() else designs


def problem(
    model: ModelSpec,
    hardware: HardwareSpec,
    *,
    gpus: Sequence[int] = (64,),
    contexts: Sequence[float] = CONTEXTS,
    qs: Sequence[float] = (5.0,),
    convention: str | Convention = "physical",
    workload: Workload | None = None,
    overrides: Mapping[str, Sequence[float | str]] | None = None,
    objective: Objective = "tokens_per_s_per_gpu",
) -> Problem:
    """The cells (variant, gpus, context, further axes) and their legal designs.

    Args:
        model: any model; a dense one has no twins.
        hardware: accelerator.
        gpus: GPU counts, each used exactly.
        contexts: context lengths [tokens].
        qs: quality-equivalence factors of the dense twins; none for the model alone.
        convention: `physical`, `paper`, or a `Convention`.
        workload: batch, and dtypes other than the published ones; its context is not used.
        overrides: values of search axes, or of any continuous field as a further axis.
        objective: what the best design maximises.

    Raises:
        ValueError: the input has mistakes; the message lists all of them.
    """
    rules = named_convention(convention) if isinstance(convention, str) else convention
    (rules,) = check_records(convention=rules)
    check_objective(objective)
    given = dict(overrides or {})
    stated = {"gpus": gpus, "context": contexts, **given} | ({"q": qs} if np.size(qs) else {})
    check_inputs(model, hardware, stated, workload, given)
    base = workload_of(model, context=1.0) if workload is None else workload
    if base.batch is not None:
        stated.setdefault("batch", np.ravel(base.batch).tolist())
        base = dataclasses.replace(base, batch=None)
    model, hardware, base = check_records(model=model, hardware=hardware, workload=base)
    read = check_axes(stated)
    qs = read.pop("q", ())
    values = axis_values(read.pop("gpus"), read.pop("context"), read)
    variants = variants_of(model, qs, rules)
    axes = grid_of(variants, values)
    kept = (dataclasses.replace(axes.kept[0], name="variant"), *axes.kept[1:])
    cells = int(np.prod([len(axis.values) for axis in kept], dtype=np.int64))
    mesh = np.meshgrid(*(axis.values for axis in kept), indexing="ij")
    at = {axis.name: grid.ravel() for axis, grid in zip(kept, mesh, strict=True)}
    factors = np.array([variant.q or 0.0 for variant in variants])
    zeros = np.zeros(cells)
    shapes = dataclasses.replace(model, precision=None)
    inputs = _rows(Inputs(shapes, hardware, base, rules, zeros, zeros), cells)
    inputs = inputs._replace(q=factors[at["variant"].astype(int)], gpus=at["gpus"])
    inputs = write(inputs, {name: at[name] for name in at if name not in ("variant", "gpus")})
    return Problem(kept, tuple(variants), inputs, legal_designs(inputs, axes.searched), objective)


def of_variant(stated: Problem, index: int) -> Problem:
    """The cells of one variant alone."""
    per = stated.cells // stated.shape[0]
    first = stated.axes[0]
    axis = Axis(first.name, np.zeros(1), (stated.variants[index].label,))
    return dataclasses.replace(
        stated,
        axes=(axis, *stated.axes[1:]),
        variants=(stated.variants[index],),
        inputs=take(stated.inputs, slice(index * per, (index + 1) * per)),
    )
