"""An explanation: ledgers that sum, findings with the right numbers, alternatives that are best."""

import dataclasses

import jax
import numpy as np
import pytest
from listed_cases import brute_force
from tolerances import CANCELLATION, EXACT

from qsjax import catalog
from qsjax.cost.decode import decode_step
from qsjax.cost.prefill import prefill_step
from qsjax.grid.search import evaluate
from qsjax.numerics import numpy_backend
from qsjax.questions.disaggregation import companion
from qsjax.questions.explain import (
    Explanation,
    explain,
    explain_both,
    explanation_record,
    partition_axes,
)
from qsjax.records.scenario import Records
from qsjax.records.specs import CONVENTIONS, PHYSICAL, Partition, Workload
from qsjax.records.units import GIB

MODEL, GPU = catalog.model("mixtral-8x7b"), catalog.hardware("h100-sxm")
CONTEXT = 65536.0
WORK = Workload(context=CONTEXT)


@pytest.fixture(scope="module")
def both() -> tuple[Explanation, Explanation]:
    return explain_both(MODEL, GPU, Partition(tp=4.0, dp=2.0, ep=1.0), WORK)


def test_both_conventions_stand_next_to_each_other(both):
    assert [explanation.convention for explanation in both] == ["physical", "paper"]


def test_ledgers_sum_to_their_totals(both):
    for explanation in both:
        for case in (explanation.stated, explanation.best, explanation.best_as_fast):
            if case is None:
                continue
            parts = case.parts
            assert sum(parts.memory.values()) == pytest.approx(GPU.hbm_bytes, rel=CANCELLATION)
            assert sum(parts.time.values()) == pytest.approx(parts.step.tpot, rel=CANCELLATION)
            record = explanation_record(explanation)["stated"]
            assert sum(record["time_ms"].values()) == pytest.approx(record["tpot_ms"], rel=EXACT)
            assert sum(record["memory_bytes"].values()) == pytest.approx(record["hbm_bytes"])


def test_the_stated_design_is_what_was_stated(both):
    stated = both[0].stated
    workload = dataclasses.replace(WORK, batch=stated.parts.step.capacity.batch)
    step = decode_step(MODEL, GPU, Partition(tp=4.0, dp=2.0, ep=1.0), workload, PHYSICAL)
    assert stated.is_feasible
    assert float(step.tpot) == pytest.approx(stated.parts.step.tpot, rel=EXACT)
    assert stated.parts.step.capacity.batch == stated.parts.step.capacity.max_batch > 1


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_alternatives_are_those_of_brute_force(name):
    # A small batch: then its TPOT keeps the best design out.
    work = dataclasses.replace(WORK, batch=2.0)
    explanation = explain(MODEL, GPU, Partition(tp=4.0, dp=2.0), work, name)
    records = Records(MODEL, GPU, Partition(), WORK)
    axes = partition_axes(8, CONTEXT)
    found, runs = brute_force(records, axes, CONVENTIONS[name], np.arange(1.0, 161.0))
    rate, tpot = found["tokens_per_s_per_gpu"], found["tpot"]
    best, as_fast = explanation.best.parts.step, explanation.best_as_fast.parts.step
    assert best.tokens_per_s_per_gpu == pytest.approx(rate[runs].max(), rel=EXACT)
    limit = explanation.stated.parts.step.tpot * (1 + 1e-9)
    expected = rate[runs & (tpot <= limit)].max()
    assert as_fast.tokens_per_s_per_gpu == pytest.approx(expected, rel=EXACT)
    assert as_fast.tpot <= limit < best.tpot


def test_beside_an_infeasible_design_nothing_is_as_fast():
    explanation = explain(MODEL, GPU, Partition(tp=4.0, dp=3.0, ep=5.0), WORK)
    assert not explanation.stated.is_feasible
    assert explanation.best_as_fast is None


def finding(partition, workload=WORK, model=MODEL):
    found = explain(model, GPU, partition, workload)
    return found, {item.reason: item for item in found.stated.shortcomings}


def test_weights_that_do_not_fit_are_counted():
    found, items = finding(Partition(), model=catalog.model("deepseek-v3"))
    cap = found.stated.parts.step.capacity
    item = items["weights do not fit"]
    assert item.missing == cap.weights - cap.usable > 0
    assert f"{item.missing / GIB:,.2f} GiB too much" in item.text
    assert found.needs.gpus > 1
    assert found.best_as_fast is None


def test_a_sequence_that_does_not_fit_is_counted():
    found, items = finding(Partition(tp=2.0), dataclasses.replace(WORK, context=2.0**21))
    cap = found.stated.parts.step.capacity
    missing = items["no sequence fits"].missing
    assert missing == cap.weights + cap.kv_per_sequence - cap.usable > 0
    assert found.stated.parts.memory["free"] == pytest.approx(-missing, rel=EXACT)


def test_a_batch_that_does_not_fit_says_how_many_do():
    found, items = finding(Partition(tp=8.0), dataclasses.replace(WORK, batch=4096.0))
    cap = found.stated.parts.step.capacity
    item = items["batch does not fit"]
    assert f"at most {cap.max_batch:g} fit" in item.text
    assert item.missing == pytest.approx(-found.stated.parts.memory["free"], rel=EXACT)


@pytest.mark.parametrize(
    ("partition", "reason", "words"),
    [
        (Partition(tp=3.0), "tp does not divide the query heads", "1, 2, 4, 8, 16, 32"),
        (Partition(tp=3.0, ep=3.0), "ep exceeds or does not divide the experts", "1, 2, 4, 8"),
        (
            Partition(tp=3.0, ep=3.0, redundant_experts=2.0),
            "ep exceeds or does not divide the experts",
            "the 10 experts; choose one of 1, 2, 5, 10",
        ),
        (Partition(tp=2.0, ep=8.0), "ep does not divide the stage", "1, 2"),
        (Partition(pp=64.0), "pp exceeds the layers", "32 layers"),
        (Partition(kvp=2.0, kv_mode=0.0), "KV mode not applicable", "kvp=1"),
        (Partition(tp=4.0, kv_mode=2.0), "KV mode not applicable", "kvp above 1"),
    ],
)
def test_an_illegal_split_says_what_would_be_legal(partition, reason, words):
    _, items = finding(partition)
    assert words in items[reason].text


def test_a_split_that_one_convention_alone_refuses():
    physical, paper = explain_both(MODEL, GPU, Partition(tp=4.0, ep=4.0, dp=2.0), WORK)
    assert physical.stated.shortcomings == ()
    assert [one.text for one in paper.stated.shortcomings] == [
        "ep=4 times tp=4 does not divide the 8 GPUs of a pipeline stage; choose ep of 1, 2"
    ]


def test_bad_numbers_are_errors():
    with pytest.raises(ValueError, match="tp"):
        explain(MODEL, GPU, Partition(tp=0.0), WORK)
    with pytest.raises(ValueError, match="context"):
        explain(MODEL, GPU, Partition(), dataclasses.replace(WORK, context=-1.0))


def test_a_convention_is_traced_once():
    explain(MODEL, GPU, Partition(tp=4.0), WORK)
    before = numpy_backend._player.cache_info().misses
    explain(catalog.model("deepseek-v3"), catalog.hardware("h200-sxm"), Partition(tp=8.0), WORK)
    assert numpy_backend._player.cache_info().misses == before


def test_prefill_supplies_decode():
    stated = explain(MODEL, GPU, Partition(tp=4.0, dp=2.0), WORK).stated
    step = stated.parts.step
    found = companion(stated.records, step.tpot, step.tokens_per_s_per_gpu, 65024.0, 1024.0)
    cost = prefill_step(MODEL, GPU, Partition(tp=4.0, dp=2.0), WORK, PHYSICAL, 65024.0)
    assert found.ttft == pytest.approx(float(cost.ttft), rel=EXACT)
    # Prompt tokens needed by one GPU of decode are those that its share of prefill GPUs makes.
    needed = step.tokens_per_s_per_gpu * 65024.0 / 1024.0
    made = found.prefill_gpus_per_decode_gpu * found.prompt_tokens_per_s_per_gpu
    assert made == pytest.approx(needed, rel=EXACT)
    split = step.tokens_per_s_per_gpu / (1 + found.prefill_gpus_per_decode_gpu)
    assert found.tokens_per_s_per_gpu_disaggregated == pytest.approx(split, rel=EXACT)
    # Every other sequence of the replica is prefilled once in the time of 1024 tokens.
    share = float(cost.ttft) / 1024.0
    wait = (step.capacity.batch - 1.0) * share
    assert found.wait == pytest.approx(wait, rel=EXACT)
    assert found.tpot_aggregated == pytest.approx(step.tpot + wait, rel=EXACT)
    # The GPUs run its own prompt too.
    rate = step.tokens_per_s_per_gpu * step.tpot / (step.tpot + wait + share)
    assert found.tokens_per_s_per_gpu_aggregated == pytest.approx(rate, rel=EXACT)


def test_the_best_design_runs_as_it_is_recorded(both):
    best = both[0].best
    step = evaluate(best.records, PHYSICAL)
    assert int(step.reasons) == 0
    assert float(step.tpot) == pytest.approx(best.parts.step.tpot, rel=EXACT)
    assert all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(best.records))
