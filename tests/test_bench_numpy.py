"""The NumPy yardstick says what the package says: costs, winners and counts."""

import dataclasses

import jax
import numpy as np
import pytest
from designs import random_hardware
from tolerances import EXACT

from benchmarks import numpy_model, problem
from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.feasibility import MEMORY_RULES, REASONS
from qsjax.cost.laws.params import dense_twin
from qsjax.grid.axes import matrix_arrays, place, stack
from qsjax.records.specs import PHYSICAL, HardwareSpec

# Latent attention; grouped attention with windows; linear and shared; index selection.
MODELS = ("deepseek-v3", "gpt-oss-120b", "qwen3-next-80b-a3b", "deepseek-v3.2")


def block(model, contexts=3, **fields):
    """Placed records of a model and its dense twin, and their shape."""
    one = catalog.model(model)
    both = stack([one, dense_twin(one, 3.0)])
    given = problem.records(problem.GPUS)._replace(model=both)
    given = given._replace(workload=dataclasses.replace(given.workload, **fields))
    grid = problem.axes(contexts, problem.EVERY)
    placed = place(given, matrix_arrays(grid), PHYSICAL)
    as_arrays = jax.tree.map(lambda x: np.asarray(x, np.float64), placed)
    return as_arrays, (2, contexts, problem.EVERY_DESIGNS)


def compare(records, shape):
    ours = problem.reduce_block(records, shape)
    theirs = numpy_model.search(*records, shape)
    assert theirs.feasible.any()
    np.testing.assert_array_equal(ours.best.position, theirs.position)
    np.testing.assert_allclose(ours.best.score, theirs.score, rtol=EXACT)
    np.testing.assert_array_equal(ours.feasible, theirs.feasible)
    np.testing.assert_array_equal(ours.reasons, theirs.reasons)
    step = jax.jit(lambda r: decode_step(r, PHYSICAL))(records)
    plain = numpy_model.decode(*records)
    for name in ("tpot", "tokens_per_s_per_gpu"):
        one, other = (np.broadcast_to(getattr(x, name), shape) for x in (step, plain))
        np.testing.assert_allclose(one, other, rtol=EXACT)


@pytest.mark.parametrize("model", MODELS)
def test_numpy_agrees(model):
    compare(*block(model))


@pytest.mark.parametrize("model", ["deepseek-v3", "qwen3-next-80b-a3b"])
def test_numpy_agrees_in_every_number_of_hardware_and_workload(model):
    """Numbers that the catalogue leaves at 0 or 1: overlaps, tails, kernels, overheads."""
    fields = {k: float(v[0]) for k, v in random_hardware(np.random.default_rng(3), 1).items()}
    fields |= {"hbm_bytes": 2e11, "overlap_kv": 0.3, "cp_ring_tail": 0.2, "overlap_startup": 0.4}
    fields |= {"overlap_tp": 0.6, "overlap_ep": 0.5, "overlap_layout": 0.7}
    fields |= {"gemm_blend": 0.1, "expert_blend": 0.3, "one_shot_share": 0.6}
    fields |= {"gemm_startup": 5e-6, "attention_startup": 9e-6, "expert_startup": 4e-5}
    fields |= {"two_shot_latency": 8e-6, "rank_latency": 4e-7, "island_size": 8.0, "mesh": 0.7}
    records, shape = block(
        model,
        kv_scale_bytes=80.0,
        kv_block=64.0,
        query_tokens=2.0,
        tokens_per_step=1.7,
        draft_time=0.003,
    )
    hardware = jax.tree.map(np.asarray, HardwareSpec(**fields))
    partition = dataclasses.replace(
        records.partition,
        redundant_experts=np.asarray(32.0),
        kv_messages=np.asarray(3.0),
        layout_messages=np.asarray(2.0),
    )
    compare(records._replace(hardware=hardware, partition=partition), shape)


def test_every_cell_of_the_headline_is_legal_and_numpy_agrees():
    records, shape = problem.block(problem.axes(5), "float64")
    assert shape == (problem.VARIANTS, 5, problem.DESIGNS)
    ours = problem.reduce_block(records, shape)
    by_memory = [k for k, name in enumerate(REASONS) if name in MEMORY_RULES]
    others = np.delete(np.asarray(ours.reasons), by_memory, axis=0)
    assert not others.any()
    compare(records, shape)
