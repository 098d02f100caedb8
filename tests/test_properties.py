"""What must hold for every design: monotonicity, scaling, limits, and finite gradients.

Each example draws a seed, and with it a batch of random designs, legal and illegal.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from designs import random_designs, records
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import EXACT, FINITE_DIFFERENCE, MONOTONE, SCALING

from qsjax.cost.decode import decode_step
from qsjax.cost.laws import collectives, traffic
from qsjax.cost.laws.params import dense_twin
from qsjax.cost.laws.sharding import context_of
from qsjax.records.specs import PAPER, PHYSICAL, ModelSpec, Partition, Records, Workload

N = 64
SEEDS = st.integers(0, 2**32 - 1)
RELAXED = dataclasses.replace(PHYSICAL, rounding="relaxed")
POISSON = dataclasses.replace(PHYSICAL, expert_balance="poisson", ffn_sharding="tp")
LINKS = ("intra_bw", "inter_bw")
FLOPS = ("flops_bf16", "flops_fp8", "flops_fp4", "flops_exp")
RATES = ("hbm_bw", *FLOPS, *LINKS)
TIMES = (
    *("intra_latency", "inter_latency", "exchange_overhead"),
    *("layer_overhead", "step_overhead", "expert_overhead"),
    *("latent_overhead", "sequence_overhead", "linear_overhead", "sparse_overhead"),
    *("gemm_startup", "attention_startup", "expert_startup", "two_shot_latency", "rank_latency"),
)
WINDOWED = ("overlap_tp", "overlap_ep", "overlap_layout")
ONE_LAYER = {
    "layers": 1.0,
    "hidden": 8.0,
    "vocab": 8.0,
    "heads": 1.0,
    "kv_heads": 1.0,
    "head_dim": 8.0,
    "expert_ff": 8.0,
}
few = settings(max_examples=10)


@functools.cache
def compiled():
    return jax.jit(decode_step)


def drawn(seed, convention=PHYSICAL, given=False):
    """Random designs whose `hardware` and so on may be edited, and their evaluation."""
    return random_designs(seed, convention, given, N)


def evaluated(designs, convention=PHYSICAL):
    made, convention = records(designs, convention, {})
    return compiled()(made._replace(gpus=None), convention)


def scaled(designs, factor, **names):
    """The designs with the named fields of a record multiplied by `factor`."""
    changed = {
        record: {k: v * factor if k in fields else v for k, v in getattr(designs, record).items()}
        for record, fields in names.items()
    }
    return designs._replace(**changed)


@few
@given(seed=SEEDS, factor=st.floats(1.001, 8.0))
@pytest.mark.parametrize("name", [*RATES, "hbm_bytes"])
def test_throughput_never_falls_with_better_hardware(name, seed, factor):
    # Slow links, so that exchange is seen; and families that share a window hide no more than the
    # window between them, else the time that a faster phase saves is lost more than once.
    designs = scaled(drawn(seed), 1 / 30, hardware=LINKS)
    for overlap in WINDOWED:
        designs.hardware[overlap][:] = 1 / len(WINDOWED)
    before = evaluated(designs)
    after = evaluated(scaled(designs, factor, hardware=[name]))
    assert np.all(after.tokens_per_s_per_gpu >= before.tokens_per_s_per_gpu * (1 - MONOTONE))


@few
@given(seed=SEEDS, factor=st.floats(1.001, 1e4))
def test_largest_batch_falls_as_one_over_context(seed, factor):
    designs = drawn(seed)
    for name in ("window_layers", "linear_layers", "entry_tokens", "pooled_layers"):
        designs.model[name][:] = 0.0
    designs.workload["kv_block"][:] = 1.0
    short = evaluated(designs, RELAXED)
    long = evaluated(scaled(designs, factor, workload=["context"]), RELAXED)
    np.testing.assert_allclose(
        long.capacity.max_batch * factor, short.capacity.max_batch, rtol=EXACT
    )


@few
@given(seed=SEEDS, exponent=st.integers(-20, 20).filter(bool))
def test_the_unit_of_information_does_not_matter(seed, exponent):
    designs = drawn(seed)
    # The one number in bytes: an indexer multiplies keys below two bytes twice as fast.
    designs.model["index_heads"][:] = 0.0
    sizes = [name for name in designs.workload if "bytes" in name]
    hardware = ["hbm_bytes", "reserve_bytes", "moe_reserve_bytes", "hbm_bw", *LINKS]
    other = scaled(designs, 2.0**exponent, workload=sizes, hardware=hardware)
    before, after = evaluated(designs), evaluated(other)
    np.testing.assert_array_equal(after.capacity.batch, before.capacity.batch)
    np.testing.assert_array_equal(after.reasons, before.reasons)
    np.testing.assert_allclose(after.tpot, before.tpot, rtol=SCALING)


@few
@given(seed=SEEDS, exponent=st.integers(-20, 20).filter(bool))
def test_the_unit_of_time_does_not_matter(seed, exponent):
    designs, c = drawn(seed), 2.0**exponent
    faster = scaled(scaled(designs, c, hardware=RATES), 1 / c, hardware=TIMES)
    before, after = evaluated(designs), evaluated(faster)
    np.testing.assert_allclose(after.tpot * c, before.tpot, rtol=SCALING)


@few
@given(seed=SEEDS, c=st.floats(0.01, 100.0))
def test_throughput_is_homogeneous_in_the_rates(seed, c):
    # Euler: of degree one if nothing has a time of its own.
    designs = scaled(drawn(seed, given=True), 0.0, hardware=TIMES)
    before, after = evaluated(designs), evaluated(scaled(designs, c, hardware=RATES))
    np.testing.assert_allclose(after.tokens_per_s, c * before.tokens_per_s, rtol=EXACT)


@pytest.mark.parametrize("topology", ["hierarchical", "flat"])
@pytest.mark.parametrize("startup", ["direct", "ring"])
def test_collectives_vanish_for_one_rank_and_are_linear_in_bytes(topology, startup):
    designs = drawn(1)
    convention = dataclasses.replace(PHYSICAL, topology=topology, startup=startup)
    _, hardware, partition, *_ = records(designs, convention, {})[0]

    def both(size, message):
        ranks = collectives.group(size, partition.tp, hardware, convention)
        for law in (collectives.half_collective, collectives.all_reduce):
            yield law(ranks, message, hardware, convention)

    for cost in both(1.0, 1e9):
        assert not np.any(cost.startup)
        assert not np.any(cost.bandwidth)
    pairs = zip(both(8.0, 0.0), both(8.0, 1e3), both(8.0, 3e3), strict=True)
    for nothing, once, thrice in pairs:
        assert not np.any(nothing.bandwidth)
        assert np.all(once.startup > 0)
        np.testing.assert_array_equal(once.startup, thrice.startup)
        np.testing.assert_allclose(thrice.bandwidth, 3 * once.bandwidth, rtol=EXACT)


def expert_share(model, tokens):
    """Share of a pool without redundant experts that the tokens of a microbatch touch."""
    tokens = jnp.asarray(tokens)
    records = Records(model, None, Partition(), Workload(context=1.0))
    return traffic.expert_traffic_factor(context_of(records, PHYSICAL), tokens, tokens)


@given(experts=st.integers(2, 4096), share=st.floats(0.0, 1.0))
def test_coverage_limits(experts, share):
    top_k = float(max(1, int(share * (experts - 1))))
    model = ModelSpec(**ONE_LAYER, experts=float(experts), top_k=top_k)

    np.testing.assert_allclose(expert_share(model, 1.0), top_k / experts, rtol=EXACT)
    np.testing.assert_allclose(expert_share(model, 30.0 * experts), 1.0, rtol=EXACT)
    assert np.all(np.diff(expert_share(model, np.geomspace(1.0, 1e6, 50))) >= 0)


@pytest.mark.parametrize("tokens", [1.0, 2.5, 1e6])
def test_coverage_is_one_for_a_dense_model(tokens):
    assert expert_share(ModelSpec(**ONE_LAYER), tokens) == 1


@few
@given(seed=SEEDS)
def test_twin_at_break_even_streams_the_same_ffn_bytes(seed):
    # Of equal splits: the twin's networks are sharded over the same GPUs as the experts.
    convention = dataclasses.replace(
        PHYSICAL, expert_traffic="all_experts", dense_replicas="sharded"
    )
    designs = drawn(seed, given=True)
    designs.partition["ep"][:] = 1.0
    designs.partition["redundant_experts"][:] = 0.0
    designs.hardware["expert_read_ratio"][:] = 1.0
    made = records(designs, PHYSICAL, {})[0]._replace(gpus=None)
    model = made.model
    twin = dense_twin(model, model.experts / model.top_k, "active_ffn")
    sparse, dense = (
        compiled()(made._replace(model=m), convention).hbm.routed for m in (model, twin)
    )
    np.testing.assert_allclose(dense, sparse, rtol=EXACT)


def boundary_designs(convention, given):
    """Random designs, the last rows of which sit on the corners of the formulas."""
    designs = drawn(3, convention, given)
    model, partition, work = designs.model, designs.partition, designs.workload
    for name in ("tp", "ep", "pp", "dp", "kvp"):
        partition[name][-12:] = 1.0  # no communication at all
    model["experts"][-4:] = model["top_k"][-4:] = 1.0
    model["sparse_topk"][-8:-4] = work["context"][-8:-4]
    model["window"][-8:-4] = work["context"][-8:-4]
    designs.hardware["hbm_bytes"][-20:-16] = 1.0  # nothing fits
    work["context"][-22:-20] = 1.0
    if given:
        work["batch"][-4:] = 1.0
        work["batch"][-12:-8] = (model["experts"] / model["top_k"])[-12:-8]  # R = 1
    return designs


GRADIENT_CASES = {
    "physical": (PHYSICAL, False),
    "physical_given_batch": (PHYSICAL, True),
    "paper": (PAPER, False),
    "paper_given_batch": (PAPER, True),
    "poisson_given_batch": (POISSON, True),
}


@functools.partial(jax.jit, static_argnames="objectives")
def slopes(hardware, workload, model, partition, convention, objectives):
    """Derivatives of a sum of objectives by every number of the hardware and the workload.

    Designs do not touch each other, so the gradient of the sum holds the gradient of each.
    """

    def total(hardware, workload):
        step = decode_step(Records(model, hardware, partition, workload), convention)
        return sum(jnp.sum(getattr(step, name)) for name in objectives)

    return jax.grad(total, argnums=(0, 1))(hardware, workload)


def as_float_arrays(record):
    return jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float64), N), record)


@pytest.mark.parametrize("case", GRADIENT_CASES)
def test_gradients_are_finite_everywhere(case):
    convention, given = GRADIENT_CASES[case]
    designs = boundary_designs(convention, given)
    (model, hardware, partition, workload, _), convention = records(designs, convention, {})
    # A sum of gradients is finite only if both are.
    by_record = slopes(
        as_float_arrays(hardware),
        as_float_arrays(workload),
        model,
        partition,
        convention,
        ("tokens_per_s_per_gpu", "tpot"),
    )
    for record in by_record:
        for path, slope in jax.tree.leaves_with_path(record):
            assert np.all(np.isfinite(slope)), jax.tree_util.keystr(path)
    by_hardware, by_workload = by_record
    assert np.any(by_hardware.hbm_bw != 0)
    assert np.any(by_workload.context != 0)


@pytest.mark.parametrize("name", ["hbm_bw", "flops_fp8", "intra_bw", "eff_kv_read", "context"])
def test_gradient_agrees_with_finite_difference(name):
    designs = drawn(4, RELAXED)
    (model, hardware, partition, workload, _), convention = records(designs, RELAXED, {})
    hardware, workload = as_float_arrays(hardware), as_float_arrays(workload)
    by_hardware, by_workload = slopes(
        hardware, workload, model, partition, convention, ("tokens_per_s_per_gpu",)
    )
    record = "workload" if name == "context" else "hardware"
    slope = getattr(by_workload if name == "context" else by_hardware, name)
    h = 1e-5
    up, down = (
        evaluated(scaled(designs, 1 + sign * h, **{record: [name]}), RELAXED).tokens_per_s_per_gpu
        for sign in (1, -1)
    )
    x = getattr(designs, record)[name]
    middle = evaluated(designs, RELAXED).tokens_per_s_per_gpu
    np.testing.assert_allclose(
        slope * x / middle, (up - down) / (2 * h) / middle, atol=FINITE_DIFFERENCE
    )
