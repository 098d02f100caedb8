"""Ledgers sum to their totals, and phases keep under the roof, on random designs."""

import dataclasses

import numpy as np
import pytest
from designs import random_designs, records
from tolerances import CANCELLATION, EXACT

from qsjax.cost.decode import decode_step
from qsjax.cost.laws.compute import peak_flops
from qsjax.cost.ledger import RESOURCES, time_ledger
from qsjax.cost.roofline import communication, memory_ledger, roofline
from qsjax.grid.problem import Problem
from qsjax.questions.explore import explore
from qsjax.records.specs import PAPER, PHYSICAL

CONVENTIONS = {
    "physical": PHYSICAL,
    "paper": PAPER,
    "overlapped": dataclasses.replace(PHYSICAL, two_batch_overlap=True),
}
EVERY = pytest.mark.parametrize("name", CONVENTIONS)


def design(name, seed=3):
    convention = CONVENTIONS[name]
    drawn = random_designs(seed, convention, True, 500)
    # No kernel reads experts faster than the HBM, or multiplies faster than the peak.
    for ratio, share in (("expert_read_ratio", "weight_read"), ("expert_gemm_ratio", "gemm")):
        most = 1.0 / drawn.hardware[f"eff_{share}"]
        drawn.hardware[ratio] = np.minimum(drawn.hardware[ratio], most)
    at, rules = records(drawn, convention, {})
    at = at._replace(gpus=None)
    return at, rules, decode_step(at, rules)


@EVERY
def test_memory_sums_to_the_capacity(name):
    at, rules, step = design(name)
    batch = step.capacity.batch
    terms = memory_ledger(at, rules, step.capacity)
    total = sum(np.asarray(term) for term in terms.values())
    np.testing.assert_allclose(total, at.hardware.hbm_bytes, rtol=CANCELLATION)
    held = np.asarray(terms["KV cache"] + terms["KV block waste"])
    np.testing.assert_allclose(held, batch * step.capacity.kv_per_sequence, rtol=EXACT)
    assert (np.asarray(terms["KV block waste"]) >= -EXACT * held).all()
    fits = np.asarray(step.capacity.weights + held <= step.capacity.usable)
    free = np.asarray(terms["free"])
    scale = CANCELLATION * np.asarray(at.hardware.hbm_bytes)
    assert (free[fits] >= -scale[fits]).all()
    assert (free[~fits] <= scale[~fits]).all()
    assert fits.any()
    assert (~fits).any()


@EVERY
def test_blocks_of_one_token_waste_no_memory(name):
    at, rules, _ = design(name)
    rules = dataclasses.replace(rules, kv_overhead=1.0)
    at = at._replace(workload=dataclasses.replace(at.workload, kv_block=1.0))
    step = decode_step(at._replace(gpus=None), rules)
    terms = memory_ledger(at, rules, step.capacity)
    held = np.asarray(step.capacity.batch * step.capacity.kv_per_sequence)
    np.testing.assert_allclose(terms["KV cache"], held, rtol=EXACT)
    assert np.ptp(held) > 0


@EVERY
def test_time_sums_to_tpot_with_the_exposed_parts_of_the_messages(name):
    at, rules, step = design(name)
    terms = time_ledger(step, at, rules)
    total = sum(np.asarray(term) for term in terms.values())
    np.testing.assert_allclose(total, step.tpot, rtol=CANCELLATION)
    for family, part in communication(step, at, rules).items():
        np.testing.assert_allclose(part.exposed, terms[f"comm_{family}"], rtol=CANCELLATION)
        whole = np.asarray(part.startup + part.bandwidth)
        np.testing.assert_allclose(part.exposed + part.hidden, whole, rtol=EXACT)
        assert (np.asarray(part.hidden) >= -EXACT * whole).all()


@EVERY
def test_phases_keep_under_the_roof(name):
    at, rules, step = design(name)
    for phase, roof in roofline(step, at, rules).items():
        compute, hbm = np.asarray(roof.compute), np.asarray(roof.hbm)
        assert (np.asarray(roof.flops_share) <= 1 + EXACT).all()
        assert (np.asarray(roof.bandwidth_share) <= 1 + EXACT).all()
        busy = (compute > 0) & (hbm > 0)
        longer = np.maximum(compute, hbm)
        time = np.asarray(roof.flops / np.where(busy, roof.flops_per_s, 1.0))
        # A blend takes the slower side at least, and at most both after one another.
        assert (time >= longer * (1 - EXACT))[busy].all()
        assert (time <= (compute + hbm) * (1 + EXACT))[busy].all()
        # While it is busy the binding side runs at its efficiency, which is at least 0.3 in these
        # designs, that of experts at least half of it; attention also spends time on its softmax
        # and on tiles that it does not fill.
        share = np.where(compute >= hbm, roof.flops_share, roof.bandwidth_share)
        share = share * time / np.where(busy, longer, 1.0)
        by_itself = busy & ((phase != "attention") | (compute < hbm))
        least = 0.5 * 0.3 if phase == "ffn" else 0.3
        assert (share[by_itself] >= least - EXACT).all()
        assert (np.asarray(roof.filled) <= 1 + EXACT).all()
        intensity = np.asarray(roof.flops / roof.hbm_bytes)[busy]
        np.testing.assert_allclose(np.asarray(roof.intensity)[busy], intensity, rtol=EXACT)
    assert busy.any() or name == "paper"


def test_the_arithmetic_of_the_busiest_rank_is_that_of_the_step():
    at, _, _ = design("physical")
    rules = dataclasses.replace(PHYSICAL, expert_balance="poisson")
    hardware = dataclasses.replace(at.hardware, expert_gemm_ratio=1.0)
    at = at._replace(hardware=hardware)
    step = decode_step(at, rules)
    rate = peak_flops(hardware, at.workload.ffn_dtype, rules) * hardware.eff_gemm
    flops = roofline(step, at, rules)["ffn"].flops
    np.testing.assert_allclose(flops, step.compute.ffn * rate, rtol=EXACT)


def test_without_softmax_and_empty_tiles_all_of_the_arithmetic_is_needed():
    at, rules, _ = design("physical")
    whole = {"flops_exp": 0.0, "query_tile": 1.0}
    at = at._replace(hardware=dataclasses.replace(at.hardware, **whole))
    assert np.ptp(at.hardware.eff_attention) > 0
    for roof in roofline(decode_step(at._replace(gpus=None), rules), at, rules).values():
        np.testing.assert_allclose(roof.filled, 1.0, rtol=EXACT)


def test_an_ideal_gpu_meets_at_the_ridge():
    at, rules, _ = design("physical")
    ones = {f"eff_{x}": 1.0 for x in ("kv_read", "weight_read", "gemm", "attention", "link")}
    ones |= {"expert_read_ratio": 1.0, "expert_gemm_ratio": 1.0}
    whole = {"flops_exp": 0.0, "query_tile": 1.0}
    at = at._replace(hardware=dataclasses.replace(at.hardware, **ones, **whole))
    step = decode_step(at._replace(gpus=None), rules)
    for roof in roofline(step, at, rules).values():
        above = np.asarray(roof.intensity >= roof.ridge)
        is_compute = np.asarray(roof.compute >= roof.hbm)
        near = np.isclose(roof.intensity, roof.ridge, rtol=EXACT)
        assert (above == is_compute)[~near].all()
        lower = np.minimum(roof.flops_share, roof.bandwidth_share)
        assert (lower < 1).any()


def test_a_row_is_bound_by_the_resource_that_takes_the_most_of_its_time():
    problem = Problem(["mixtral-8x7b", "llama-3.1-8b"], "h100-sxm", gpus=8, twins=3)
    seen = set()
    for row in explore(problem).rows():
        if row["is_feasible"]:
            parts = {n: sum(row["terms"][t] for t in own) for n, own in RESOURCES.items()}
            assert row["bound_by"] == max(parts, key=parts.get)
            seen.add(row["bound_by"])
    assert {"compute", "HBM KV"} <= seen
