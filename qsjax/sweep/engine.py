"""Blocks evaluated and reduced on the devices, streamed in order: memory does not grow."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from qsjax.grid import Records, place
from qsjax.reduction import WIDE, Objective
from qsjax.specs import Convention
from qsjax.sweep.kernels import Metric, Reduction, reduce_one
from qsjax.sweep.plan import Plan, design_arrays, kept_arrays

Precision = Literal["float64", "float32"]
BLOCKS = "blocks"


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
    job: Job, plan: Plan, blocks: np.ndarray, mesh: Mesh, kernel: Any = reduce_one, **limits: Any
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
