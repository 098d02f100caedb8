"""Evaluate and reduce blocks on the devices, in order and in constant memory."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qsjax.grid.axes import place
from qsjax.grid.scoring import WIDE, Reduced, StepObjective
from qsjax.numerics.jax import jax
from qsjax.numerics.namespace import Array
from qsjax.records.specs import Convention, Records
from qsjax.streaming.kernels import Metric, Wanted, reduce_one
from qsjax.streaming.plan import Plan, design_arrays, kept_arrays

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
    objective: StepObjective = "tokens_per_s_per_gpu"
    bounds: Mapping[Metric, tuple[float, float]] = dataclasses.field(default_factory=dict)
    statistics: tuple[Metric, ...] = ()
    precision: Precision = "float64"


def run_blocks(
    moving: tuple[list[Array], Array, Array | None],
    fixed: tuple[list[Array], Convention],
    bounds: Any,
    packing: tuple[Any, tuple[tuple[int, ...], ...]],
    wanted: Wanted,
    mesh: Mesh,
    kernel: Any,
) -> Any:
    """Every block of a call, spread over the devices of the mesh and one after another on each.

    Args:
        moving: what varies between blocks, with the blocks ahead: packs of leaves of the records
            (of one shape, along a second axis), which coordinates are real, and the axis q.
        fixed: packs of the other leaves, and the accounting.
        bounds: limits of metrics.
        packing: structure of the records, places of the leaves of each pack, moving ones first.
        wanted: what is made of every block alike.
        mesh: the devices.
        kernel: what is made of a block.
    """
    (tree, packs), along, everywhere = packing, PartitionSpec(BLOCKS), PartitionSpec()

    def on_device(local: Any, fixed: Any, limits: Any) -> Any:
        others, rules = fixed

        def one(own: Any) -> Any:
            packed, is_real, q = own
            arrays = zip(packs, [*packed, *others], strict=True)
            leaves = {at: x[k] for places, x in arrays for k, at in enumerate(places)}
            records = jax.tree.unflatten(tree, [leaves[at] for at in range(tree.num_leaves)])
            if q is not None:
                records = place(records, {"q": q}, rules)
            return kernel(records, limits, rules, wanted, is_real)

        return jax.lax.map(one, local)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(along, everywhere, everywhere),
        out_specs=along,
        check_vma=False,
    )(moving, fixed, bounds)


@lru_cache
def program_for(platform: str) -> Callable[..., Any]:
    """`run_blocks` compiled for a platform."""
    names = ("packing", "wanted", "mesh", "kernel")
    # On a processor these passes cost 0.15 s of a first result and gain nothing.
    brief = {"xla_llvm_disable_expensive_passes": True} if platform == "cpu" else {}
    return jax.jit(run_blocks, static_argnames=names, compiler_options=WIDE | brief)


class _Packs:
    """Records of a job by block of a plan; those that no block changes stay on the devices."""

    def __init__(self, job: Job, plan: Plan, mesh: Mesh) -> None:
        self._job, self._plan = job, plan
        self._designs = design_arrays(plan)
        leaves, tree, _ = self._placed(np.zeros(2, int))
        rank = len(plan.inner) + 2
        groups: dict[tuple[bool, tuple[int, ...]], list[int]] = {}
        for at, leaf in enumerate(leaves):
            varies = leaf.ndim == rank and len(leaf) == 2
            groups.setdefault((varies, leaf.shape), []).append(at)
        self._moving = [tuple(own) for (varies, _), own in groups.items() if varies]
        still = [tuple(own) for (varies, _), own in groups.items() if not varies]
        self.packing = tree, (*self._moving, *still)
        fixed = [np.stack([leaves[at] for at in own]) for own in still]
        # Without the axis of the blocks, if they have it.
        fixed = [x[:, 0] if x.ndim > rank else x for x in fixed]
        with jax.enable_x64(job.precision == "float64"):
            everywhere = NamedSharding(mesh, PartitionSpec())
            self.fixed = jax.device_put((fixed, job.convention), everywhere)

    def _placed(self, blocks: np.ndarray) -> tuple[list[np.ndarray], Any, np.ndarray | None]:
        """Leaves of the records at the blocks, their structure, and the axis q."""
        arrays = kept_arrays(self._plan, blocks) | self._designs
        q = arrays.pop("q", None)
        leaves, tree = jax.tree.flatten(place(self._job.records, arrays, self._job.convention))
        return [np.asarray(leaf, self._job.precision) for leaf in leaves], tree, q

    def moving(self, blocks: np.ndarray) -> tuple[Any, ...]:
        """What varies between blocks, with the blocks ahead."""
        plan = self._plan
        leaves, _, q = self._placed(blocks)
        if q is not None:
            q = np.broadcast_to(q, (len(blocks), *q.shape[1:]))
        _, real = plan.ranges(blocks)
        inner = int(np.prod(plan.inner[1:]))
        is_real = np.arange(plan.step)[None, :] < (real // inner)[:, None]
        is_real = is_real.reshape(*is_real.shape, *(1,) * len(plan.inner))
        packed = [np.stack([leaves[at] for at in own], axis=1) for own in self._moving]
        return packed, is_real, q


def _fetched(found: Any, count: int) -> Any:
    """The first results of a call, on the host; waits for them."""
    return jax.tree.map(lambda x: np.asarray(x)[:count], found)


class Engine:
    """The devices of this process at work on a plan."""

    def __init__(self, job: Job, plan: Plan, devices: Sequence[jax.Device] | None = None) -> None:
        self.job, self.plan = job, plan
        self.devices = list(devices or jax.local_devices())

    def _on(self, devices: Sequence[jax.Device]) -> tuple[Mesh, _Packs]:
        mesh = Mesh(np.array(devices), (BLOCKS,))
        return mesh, _Packs(self.job, self.plan, mesh)

    @cached_property
    def _all(self) -> tuple[Mesh, _Packs]:
        return self._on(self.devices)

    @cached_property
    def _one(self) -> tuple[Mesh, _Packs]:
        return self._on(self.devices[:1])

    def _start(
        self, on: tuple[Mesh, _Packs], moving: tuple[Any, ...], kernel: Any, **limits: Any
    ) -> Any:
        """Results of a call that may still be running."""
        job, plan, (mesh, packs) = self.job, self.plan, on
        bounds = {name: tuple(map(float, pair)) for name, pair in job.bounds.items()}
        with jax.enable_x64(job.precision == "float64"):
            return program_for(mesh.devices.flat[0].platform)(
                moving,
                packs.fixed,
                bounds | limits,
                packs.packing,
                Wanted(job.objective, (*plan.inner, len(plan.designs)), job.statistics),
                mesh,
                kernel,
            )

    def _padded(self, blocks: np.ndarray) -> np.ndarray:
        """A call's blocks, padded to one number for all calls and devices: one program serves all.

        A sweep may be resumed on another number of devices than its calls were made for.
        """
        devices = len(self.devices)
        size = -(-self.plan.per_call // devices) * devices
        return np.append(blocks, np.full(size - len(blocks), blocks[-1]))

    def one(self, block: int, kernel: Any) -> Any:
        """Results of `kernel` for one block."""
        scores = self._start(self._one, self._one[1].moving(np.array([block])), kernel)
        return jax.tree.map(lambda x: np.asarray(x)[0], scores)

    def call(self, blocks: np.ndarray, kernel: Any, **limits: Any) -> Any:
        """Results of `kernel` for the blocks of a call, which come along the first axis."""
        moving = self._all[1].moving(self._padded(blocks))
        return _fetched(self._start(self._all, moving, kernel, **limits), len(blocks))

    def stream(self, blocks: np.ndarray) -> Iterator[tuple[np.ndarray, Reduced]]:
        """Reductions of the blocks, in order, a call at a time; the next call runs meanwhile."""
        size = self.plan.per_call
        calls = [blocks[i : i + size] for i in range(0, len(blocks), size)]
        padded = [self._padded(call) for call in calls]
        # Placed all at once: during calls the devices need every core of the host.
        moving = self._all[1].moving(np.concatenate(padded))

        def start(at: int) -> Reduced:
            first = at * len(padded[0])
            own = jax.tree.map(lambda x: x[first : first + len(padded[at])], moving)
            return self._start(self._all, own, reduce_one)

        # One call at a time: two on one CPU device take turns and are slower than one.
        coming = start(0)
        for at, call in enumerate(calls):
            reduced: Reduced = _fetched(coming, len(call))
            if at + 1 < len(calls):
                coming = start(at + 1)
            yield call, reduced
