"""Cells per second: dense, fused arg-max, streamed, with gradients, and the NumPy yardstick."""

import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import numpy_model, problem
from benchmarks.timing import best_seconds
from qsjax.cost.decode import decode_parts, decode_step
from qsjax.grid.axes import Axes, place
from qsjax.grid.scoring import WIDE, lowest, scores_of
from qsjax.records.specs import PHYSICAL, Records
from qsjax.streaming.engine import Job, Precision
from qsjax.streaming.plan import Plan, make_plan
from qsjax.streaming.run import Outputs, sweep

# Contexts of the grid in one call: 0.5 and 7.2 M cells with both variants; 58 M fill a GPU.
BLOCK_CONTEXTS, GRID_CONTEXTS = 72, 1024
GPU_CONTEXTS = 8192
# NumPy's blocks of 0.06 and 0.5 M cells: the smaller fits a processor's cache.
NUMPY_CONTEXTS = (8, 72)
# Contexts of the grid of every partition: those of `qsjax explore`, and enough to reduce in tiles.
EVERY_CONTEXTS = (15, 128)


def grid_contexts() -> int:
    """Contexts of the larger grid on this backend."""
    return GRID_CONTEXTS if jax.default_backend() == "cpu" else GPU_CONTEXTS


def argmax_seconds(contexts: int, dtype: str, seconds: float = 1.5) -> tuple[float, int]:
    """Seconds of one fused arg-max of a grid in a single call, as sweeps do it, and its cells."""
    grid = problem.axes(contexts)
    records, shape = problem.block(grid, dtype)
    return best_seconds(
        partial(problem.reduce_block, jax.device_put(records), shape), seconds
    ), grid.cells


def every_seconds(contexts: int, dtype: str, seconds: float = 1.0) -> tuple[float, int]:
    """Seconds of a fused search of every partition on 64 GPUs, most of them illegal; the cells."""
    grid = problem.axes(contexts, problem.EVERY)
    records, shape = problem.block(grid, dtype, problem.GPUS)
    call = partial(problem.reduce_block, jax.device_put(records), shape)
    return best_seconds(call, seconds), grid.cells


def stream_grid() -> Axes:
    """The grid of one streamed sweep of the headline: 281 M cells."""
    return problem.axes_of(2.8e8)


def stream_plan() -> Plan:
    """Blocks of that sweep; its bandwidths are the axis that is cut, `step` of them to a block."""
    return make_plan(
        problem.records(),
        stream_grid(),
        PHYSICAL,
        skip_illegal=False,
        devices=len(jax.local_devices()),
    )


def stream_every(cells: float) -> Axes:
    """A grid of every partition, about `cells` cells."""
    contexts = max(1, round(cells / problem.EVERY_DESIGNS / problem.VARIANTS))
    return problem.axes(contexts, problem.EVERY)


def stream_seconds(
    grid: Axes,
    precision: Precision,
    *,
    skip_illegal: bool,
    seconds: float = 1.0,
    gpus: float | None = None,
) -> tuple[float, int]:
    """Seconds of a streamed sweep that keeps every winner, and the cells that it computes."""
    job = Job(problem.records(gpus), PHYSICAL, problem.OBJECTIVE, precision=precision)
    devices = jax.local_devices()
    plan = make_plan(job.records, grid, PHYSICAL, skip_illegal=skip_illegal, devices=len(devices))
    call = partial(sweep, job, plan, Outputs(top_k=0), devices)
    return best_seconds(call, seconds, least=2), math.prod(plan.kept) * len(plan.designs)


@partial(jax.jit, static_argnames="shape", compiler_options=WIDE)
def _dense(records: Records, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    step, _ = decode_parts(records, PHYSICAL)
    return jnp.broadcast_to(step.tokens_per_s_per_gpu, shape), jnp.broadcast_to(step.reasons, shape)


def dense_seconds(contexts: int, dtype: str, seconds: float = 1.0) -> tuple[float, int]:
    """Seconds to write tokens/s/GPU and the reasons of every cell, and the cells."""
    grid = problem.axes(contexts)
    records, shape = problem.block(grid, dtype)
    return best_seconds(partial(_dense, jax.device_put(records), shape), seconds), grid.cells


def _total(hardware: Any, records: Records, shape: tuple[int, ...]) -> jax.Array:
    changed = records._replace(hardware=hardware)
    scored = problem.scores(changed)
    return jnp.sum(jnp.broadcast_to(jnp.where(scored.feasible, scored.score, 0.0), shape))


_slope_of_all = jax.jit(jax.value_and_grad(_total), static_argnames="shape", compiler_options=WIDE)


def gradient_seconds(contexts: int, dtype: str, seconds: float = 1.0) -> tuple[float, int]:
    """Seconds of a reverse pass through every cell, in all hardware numbers, and the cells."""
    grid = problem.axes(contexts)
    records, shape = problem.block(grid, dtype)
    records = jax.device_put(records)
    call = partial(_slope_of_all, records.hardware, records, shape=shape)
    return best_seconds(call, seconds), grid.cells


@jax.jit
def _slope_of_winners(hardware: Any, records: Records) -> tuple[jax.Array, Any]:
    def best(hardware: Any) -> tuple[jax.Array, jax.Array]:
        step = decode_step(records._replace(hardware=hardware), PHYSICAL)
        return jnp.sum(step.tokens_per_s_per_gpu), step.tokens_per_s_per_gpu

    (_, value), slope = jax.value_and_grad(best, has_aux=True)(hardware)
    return value, slope


def _coordinates(axes: Axes, index: np.ndarray) -> dict[str, np.ndarray]:
    """Coordinates at flat indices over the searched axes, and those of the kept axes."""
    rank = len(axes.kept)
    at = np.unravel_index(index, [len(axis.values) for axis in axes.searched])
    chosen = {axis.name: axis.values[i] for axis, i in zip(axes.searched, at, strict=True)}
    kept = {
        axis.name: axis.values.reshape([-1 if j == k else 1 for j in range(rank)])
        for k, axis in enumerate(axes.kept)
    }
    return {**kept, **chosen}


def optimum_gradient_seconds(contexts: int, seconds: float = 1.0) -> tuple[float, int]:
    """Seconds to search a grid and differentiate every optimum in all hardware numbers."""
    grid = problem.axes(contexts)
    placed, shape = problem.block(grid, "float64")
    placed = jax.device_put(placed)
    kept = shape[:-1]

    def call() -> Any:
        found = problem.reduce_block(placed, shape)
        position = np.asarray(found.best.position)
        at = place(problem.records(), _coordinates(grid, position), PHYSICAL)
        wide = jax.tree.map(
            lambda number: np.broadcast_to(np.asarray(number, float), kept), at.hardware
        )
        return _slope_of_winners(wide, at)

    return best_seconds(call, seconds), grid.cells


def numpy_seconds(contexts: int, seconds: float = 1.5) -> tuple[float, int]:
    """Seconds of the NumPy search of the same grid, and the cells."""
    grid = problem.axes(contexts)
    records, shape = problem.block(grid, "float64")
    return best_seconds(partial(numpy_model.search, *records, shape), seconds, 2), grid.cells


def numpy_rate(seconds: float = 1.5) -> tuple[float, int]:
    """NumPy's best cells per second over two block sizes, and the contexts of that block."""
    found = []
    for contexts in NUMPY_CONTEXTS:
        taken, cells = numpy_seconds(contexts, seconds)
        found.append((cells / taken, contexts))
    return max(found)


def compile_seconds(contexts: int, dtype: str) -> float:
    """Seconds to trace and compile the fused search afresh."""
    grid = problem.axes(contexts)
    records, shape = problem.block(grid, dtype)
    # Another function object, or the earlier compilation would be found again.
    fresh = jax.jit(
        lambda *args: problem.reduce_block.__wrapped__(*args, shape),
        compiler_options=WIDE,
    )
    start = time.perf_counter()
    fresh.lower(records).compile()
    return time.perf_counter() - start


def recompilations() -> int:
    """Programs that a search adds when every hardware number changes: none is meant."""
    grid = problem.axes(2)
    records, shape = problem.block(grid, "float64")
    problem.reduce_block(records, shape)
    before = problem.reduce_block._cache_size()
    faster = jax.tree.map(lambda x: x * 1.25, records.hardware)
    problem.reduce_block(records._replace(hardware=faster), shape)
    return int(problem.reduce_block._cache_size() - before)


@partial(jax.jit, static_argnames="shape", compiler_options=WIDE)
def _score(records: Records, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    step, broken = decode_parts(records, PHYSICAL)
    scored = scores_of(step, broken, records.gpus, problem.OBJECTIVE)
    return jnp.broadcast_to(scored.score, shape), jnp.broadcast_to(step.capacity.max_batch, shape)


def float32_error(contexts: int) -> dict[str, float]:
    """What float32 changes: winners, what a changed winner costs, and errors of single designs."""
    grid = problem.axes(contexts)
    found = {}
    for dtype in ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            records, shape = problem.block(grid, dtype)
            reduced = problem.reduce_block(records, shape)
            score, batch = (np.asarray(x, np.float64) for x in _score(records, shape))
            feasible = score > lowest(dtype)
            found[dtype] = (np.asarray(reduced.best.position), score, feasible, batch)
    (exact, score, feasible, batch), (rough, score_32, feasible_32, batch_32) = found.values()
    has_any = feasible.any(axis=-1)
    both = feasible & feasible_32
    picked = [np.take_along_axis(score, p[..., None], axis=-1)[..., 0] for p in (exact, rough)]
    changed = has_any & (exact != rough)
    lost = 1.0 - picked[1][changed] / picked[0][changed]
    error = np.abs(score_32[both] / score[both] - 1.0)
    is_other_batch = batch[both] != batch_32[both]
    return {
        "kept_cells": int(has_any.sum()),
        "winners_changed": int(changed.sum()),
        "largest_loss_of_a_changed_winner": float(lost.max(initial=0.0)),
        "designs_compared": int(both.sum()),
        "largest_relative_error": float(error.max(initial=0.0)),
        "median_relative_error": float(np.median(error)),
        "batches_changed": int(is_other_batch.sum()),
        "largest_relative_error_at_the_same_batch": float(error[~is_other_batch].max(initial=0.0)),
        "feasibility_changed": int((feasible != feasible_32).sum()),
    }
