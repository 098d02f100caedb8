"""Blocks evaluated and reduced on the devices, streamed in order: memory does not grow."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from qsjax.decode import StepCost, decode_parts
from qsjax.grid import Records, place
from qsjax.search import (
    WIDE,
    Choice,
    Objective,
    Scored,
    choose,
    count_reasons,
    levels,
    scores_of,
)
from qsjax.specs import Convention
from qsjax.sweep.plan import Plan, design_arrays, kept_arrays

Precision = Literal["float64", "float32"]
Metric = Literal["tpot", "tokens_per_s", "tokens_per_s_per_gpu", "tokens_per_s_per_user"]
BLOCKS = "blocks"
# Designs of a tile: their scores and the coefficients of a row stay close to the core.
TILE_CELLS = 2**14
# Bins of the quantiles: 256 for each factor of two, so that a quantile is right to 0.4 %.
_BINS_PER_OCTAVE, _LOWEST, _OCTAVES = 256, -40, 96
BINS = _BINS_PER_OCTAVE * _OCTAVES


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What is asked of every design.

    Attributes:
        records: the inputs; axes replace their fields.
        convention: accounting.
        objective: what is maximised (`tpot` is minimised).
        bounds: lowest and highest value allowed of some metrics.
        statistics: metrics whose range and quantiles are wanted.
        precision: float64, or float32 for throughput (its error: benchmarks/RESULTS.md).
    """

    records: Records
    convention: Convention
    objective: Objective = "tokens_per_s_per_gpu"
    bounds: Mapping[Metric, tuple[float, float]] = dataclasses.field(default_factory=dict)
    statistics: tuple[Metric, ...] = ()
    precision: Precision = "float64"


class Spread(NamedTuple):
    """Range and histogram of a metric over the feasible designs of a block."""

    low: jax.Array
    high: jax.Array
    bins: jax.Array


class Reduction(NamedTuple):
    """What is left of a block: the best design of each kept cell, and sums over the block."""

    best: Choice
    feasible: jax.Array
    reasons: jax.Array
    spread: tuple[Spread, ...]


def bin_of(values: jax.Array) -> jax.Array:
    """Logarithmic bin, read off the bits of the number."""
    exact = values.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(exact, jnp.int32) >> 15
    return jnp.clip(bits - (127 + _LOWEST) * _BINS_PER_OCTAVE, 0, BINS - 1)


def bin_edges() -> np.ndarray:
    """Lower edges of the bins, and the last upper one."""
    octave, part = np.divmod(np.arange(BINS + 1), _BINS_PER_OCTAVE)
    edges: np.ndarray = np.exp2(octave + _LOWEST) * (1.0 + part / _BINS_PER_OCTAVE)
    return edges


def _spread(values: jax.Array, is_feasible: jax.Array) -> Spread:
    flags = is_feasible.astype(jnp.int32).reshape(-1)
    values = jnp.broadcast_to(values, is_feasible.shape)
    return Spread(
        jnp.min(jnp.where(is_feasible, values, jnp.inf)),
        jnp.max(jnp.where(is_feasible, values, -jnp.inf)),
        jnp.zeros(BINS, jnp.int32).at[bin_of(values).reshape(-1)].add(flags),
    )


def _scored(
    records: Records, job_rules: tuple[Convention, Objective], bounds: Mapping[str, Any]
) -> tuple[StepCost, Scored]:
    convention, objective = job_rules
    step, broken = decode_parts(*records[:4], convention, records.gpus)
    is_allowed = jnp.ones((), bool)
    for name, (low, high) in bounds.items():
        value = getattr(step, name)
        is_allowed = is_allowed & (value >= low) & (value <= high)
    return step, scores_of(step, broken, records.gpus, objective, is_allowed)


def reduce_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> Reduction:
    """One block: kept cells first, designs along the last axis."""
    step, scored = _scored(records, (convention, objective), bounds)
    score = jax.lax.optimization_barrier(jnp.broadcast_to(scored.score, shape))
    _, illegal = levels(score.dtype)
    has_batch = records.workload.batch is not None
    feasible, reasons = count_reasons(scored, score, has_batch=has_batch)
    spread = tuple(_spread(getattr(step, name), (score > illegal) & is_real) for name in statistics)
    return Reduction(choose(score, scored.gpus, illegal), feasible, reasons, spread)


def tile_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Kept axis along which a block is cut into tiles, and the coordinates of a tile."""
    axis = next((k for k, n in enumerate(shape[:-1]) if n > 1), 0)
    length, rest = shape[axis], math.prod(shape[axis + 1 :])
    fitting = [n for n in range(1, length + 1) if length % n == 0 and n * rest <= TILE_CELLS]
    return axis, max(fitting, default=1)


def reduce_tiled(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> Reduction:
    """`reduce_one` in a loop over tiles of a block.

    What does not depend on the tile leaves the loop and is kept in memory; without a loop XLA would
    recompute it for every design, as it fuses all that is cheap into the last expression.
    """
    axis, rows = tile_of(shape)
    tiles = shape[axis] // rows
    leaves, tree = jax.tree.flatten((records, is_real))
    cut = [x.ndim == len(shape) and x.shape[axis] == shape[axis] and tiles > 1 for x in leaves]
    # All axes before this one have length 1, so a reshape is all that cutting takes.
    moving = [
        x.reshape(tiles, *x.shape[:axis], rows, *x.shape[axis + 1 :])
        for x, c in zip(leaves, cut, strict=True)
        if c
    ]
    part_shape = (*shape[:axis], rows, *shape[axis + 1 :])

    def one(parts: list[jax.Array]) -> Reduction:
        each = iter(parts)
        whole = [next(each) if c else x for x, c in zip(leaves, cut, strict=True)]
        own, real = jax.tree.unflatten(tree, whole)
        return reduce_one(own, bounds, convention, objective, part_shape, statistics, real)

    if tiles == 1:
        return reduce_one(records, bounds, convention, objective, shape, statistics, is_real)
    found = jax.lax.map(one, moving)
    kept = shape[:-1]
    return Reduction(
        Choice(*(x.reshape(kept) for x in found.best)),
        found.feasible.reshape(kept),
        jnp.moveaxis(found.reasons, 0, 1).reshape(-1, *kept),
        tuple(Spread(s.low.min(), s.high.max(), s.bins.sum(0)) for s in found.spread),
    )


def detail_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> tuple[jax.Array, ...]:
    """Every score of a block, and the two axes of the Pareto front."""
    step, scored = _scored(records, (convention, objective), bounds)
    parts = (scored.score, step.tokens_per_s_per_gpu, step.tokens_per_s_per_user)
    return tuple(jnp.broadcast_to(x, shape) for x in parts)


def survivors_one(
    records: Records,
    bounds: Mapping[str, Any],
    convention: Convention,
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    is_real: jax.Array,
) -> jax.Array:
    """Feasible designs of a block that no point of a front (`bounds["front"]`) dominates."""
    own = {name: pair for name, pair in bounds.items() if name != "front"}
    step, scored = _scored(records, (convention, objective), own)
    _, illegal = levels(scored.score.dtype)
    rate, speed = step.tokens_per_s_per_gpu, step.tokens_per_s_per_user
    is_open = (scored.score > illegal) & is_real
    for x, y in zip(*bounds["front"], strict=True):
        is_open = is_open & ((rate > x) | (speed > y))
    return jnp.sum(is_open, dtype=jnp.int32)


@partial(
    jax.jit,
    static_argnames=("tree", "varies", "objective", "shape", "statistics", "mesh", "kernel"),
    compiler_options=WIDE,
)
def run_blocks(
    leaves: list[jax.Array],
    apart: tuple[jax.Array, jax.Array | None],
    bounds: Any,
    convention: Convention,
    tree: Any,
    varies: tuple[bool, ...],
    objective: Objective,
    shape: tuple[int, ...],
    statistics: tuple[Metric, ...],
    mesh: Mesh,
    kernel: Any,
) -> Any:
    """Every block of a call, spread over the devices of the mesh and one after another on each."""
    along = PartitionSpec(BLOCKS)
    specs = [along if v else PartitionSpec() for v in varies]

    def on_device(local: list[jax.Array], apart: Any, limits: Any, rules: Any) -> Any:
        def one(moving: Any) -> Any:
            own, (is_real, q) = moving
            parts = iter(own)
            whole = [
                next(parts) if v else x.reshape(x.shape[1:]) if x.ndim > len(shape) else x
                for x, v in zip(local, varies, strict=True)
            ]
            records = jax.tree.unflatten(tree, whole)
            if q is not None:
                records = place(records, {"q": q}, rules)
            return kernel(records, limits, rules, objective, shape, statistics, is_real)

        return jax.lax.map(one, ([x for x, v in zip(local, varies, strict=True) if v], apart))

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(specs, along, PartitionSpec(), PartitionSpec()),
        out_specs=along,
        check_vma=False,
    )(leaves, apart, bounds, convention)


def mesh_of(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A line of devices; by default those of this process."""
    return Mesh(np.array(devices or jax.local_devices()), (BLOCKS,))


def evaluate_blocks(
    job: Job, plan: Plan, blocks: np.ndarray, mesh: Mesh, kernel: Any = reduce_tiled, **limits: Any
) -> Any:
    """Results of `kernel` for some blocks, as NumPy arrays with the blocks along the first axis."""
    devices = mesh.devices.size
    wanted = len(blocks)
    full = np.append(blocks, np.full(-wanted % devices, blocks[-1]))
    arrays = kept_arrays(plan, full) | design_arrays(plan)
    rank = len(plan.inner) + 2
    q = arrays.pop("q", None)
    if q is not None:
        q = np.broadcast_to(q, (len(full), *q.shape[1:]))
    _, real = plan.ranges(full)
    inner = int(np.prod(plan.inner[1:]))
    is_real = np.arange(plan.step)[None, :] < (real // inner)[:, None]
    is_real = is_real.reshape(*is_real.shape, *(1,) * (rank - 2))
    leaves, tree = jax.tree.flatten(place(job.records, arrays, job.convention))
    leaves = [np.asarray(leaf, job.precision) for leaf in leaves]
    varies = tuple(leaf.ndim == rank and leaf.shape[0] == len(full) for leaf in leaves)
    shape = (*plan.inner, len(plan.designs))
    bounds = {name: tuple(map(float, pair)) for name, pair in job.bounds.items()} | limits
    with jax.enable_x64(job.precision == "float64"):
        found = run_blocks(
            leaves,
            (is_real, q),
            bounds,
            job.convention,
            tree,
            varies,
            job.objective,
            shape,
            job.statistics,
            mesh,
            kernel,
        )
        return jax.tree.map(lambda x: np.asarray(x)[:wanted], found)


def stream(
    job: Job, plan: Plan, blocks: np.ndarray, mesh: Mesh
) -> Iterator[tuple[np.ndarray, Reduction]]:
    """Reductions of the blocks, in order, a call at a time; the next call runs meanwhile."""
    calls = [blocks[i : i + plan.per_call] for i in range(0, len(blocks), plan.per_call)]

    def run(call: np.ndarray) -> Reduction:
        padded = np.append(call, np.full(plan.per_call - len(call), call[-1]))
        found = evaluate_blocks(job, plan, padded, mesh)
        result: Reduction = jax.tree.map(lambda x: x[: len(call)], found)
        return result

    # One call at a time: two on one CPU device take turns and are slower than one.
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(run, calls[0])
        for at, call in enumerate(calls):
            found = coming.result()
            if at + 1 < len(calls):
                coming = pool.submit(run, calls[at + 1])
            yield call, found
