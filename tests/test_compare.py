"""Side by side: winners, turning points, and gaps that divide into their terms."""

import dataclasses

import numpy as np
import pytest
from listed_cases import brute_force
from tolerances import CANCELLATION, EXACT

from qsjax import catalog
from qsjax.cost.laws.params import dense_twin
from qsjax.questions.compare import (
    Comparison,
    Subject,
    attribution,
    best_rate,
    compare,
    gpu_time,
    table_5,
)
from qsjax.questions.explain import case_of, partition_axes
from qsjax.records.scenario import Records
from qsjax.records.specs import CONVENTIONS, PHYSICAL, Partition, Workload

GPU, WORK = catalog.hardware("h100-sxm"), Workload(context=1.0)
MODEL = catalog.model("mixtral-8x7b")
MOE = Subject("moe", MODEL, GPU, WORK)
TWIN = Subject("twin", MODEL, GPU, WORK, 2.0)
CONTEXTS = (1024.0, 16384.0, 131072.0)


@pytest.fixture(scope="module", params=["physical", "paper"])
def found(request) -> Comparison:
    return compare([MOE, TWIN], 8, CONTEXTS, request.param)


def test_every_cell_is_the_best_by_brute_force(found):
    rules = CONVENTIONS[found.convention]
    records = Records(dense_twin(MODEL, 2.0, rules.twin), GPU, Partition(), WORK)
    cells, runs = brute_force(records, partition_axes(8, CONTEXTS[2]), rules, np.arange(1.0, 200.0))
    best = cells["tokens_per_s_per_gpu"][runs].max()
    assert found.rate(1, 2) == pytest.approx(best, rel=EXACT)


def test_gpu_time_is_the_reciprocal_of_the_rate(found):
    for i, row in enumerate(found.cases):
        for k, case in enumerate(row):
            total = sum(gpu_time(case).values())
            assert total == pytest.approx(1 / found.rate(i, k), rel=CANCELLATION)


def test_the_shares_of_a_gap_sum_to_one(found):
    for first, second in zip(*found.cases, strict=True):
        shares = attribution(first, second)
        assert sum(shares.values()) == pytest.approx(1.0, rel=EXACT)
        back = attribution(second, first)
        assert all(back[name] == pytest.approx(share) for name, share in shares.items())
    assert set(attribution(first, first).values()) == {0.0}


def test_a_gap_of_one_term_is_all_its_own():
    slow = dataclasses.replace(GPU, eff_kv_read=0.5 * GPU.eff_kv_read)
    work = dataclasses.replace(WORK, context=131072.0)
    at = [Records(MODEL, device, Partition(tp=8.0), work) for device in (GPU, slow)]
    first, second = (case_of(records, PHYSICAL, 4.0) for records in at)
    shares = attribution(first, second)
    assert shares.pop("HBM KV") == pytest.approx(1.0, rel=EXACT)
    assert max(abs(share) for share in shares.values()) < EXACT


def test_table_5_is_the_time_per_token_of_the_phases(found):
    case = found.cases[0][1]
    step, part = case.parts.step, case.records.partition
    tokens = float(part.dp) * step.capacity.batch
    time = table_5(case)
    whole = sum(step.compute) * float(part.pp) * step.gpus / tokens
    assert time["compute"] == pytest.approx(whole, rel=EXACT)
    exposed = sum(gpu_time(case)[f"comm_{name}"] for name in ("tp", "kv", "ep", "layout"))
    assert time["communication"] == pytest.approx(exposed, rel=EXACT)
    assert time["HBM"] + time["compute"] + exposed >= (1 - EXACT) * sum(
        t for name, t in gpu_time(case).items() if name not in ("overhead", "comm_pp")
    )


def test_a_turn_is_where_the_lead_changes():
    # More arithmetic and less bandwidth: ahead where the cache is short, behind where it is long.
    rates = {name: 4.0 * getattr(GPU, name) for name in ("flops_bf16", "flops_fp8", "flops_fp4")}
    quick = dataclasses.replace(GPU, hbm_bw=0.5 * GPU.hbm_bw, **rates)
    subjects = [Subject("quick", MODEL, quick, WORK), MOE]
    result = compare(subjects, 8, (128.0, 131072.0))
    assert [result.winner(0), result.winner(1)] == [0, 1]
    (turn,) = result.crossovers
    assert (turn.before, turn.after) == ("quick", "moe")
    assert 128 < turn.context < 131072
    after = [best_rate(subject, 8, turn.context, PHYSICAL) for subject in subjects]
    before = [best_rate(subject, 8, round(turn.context / 1.03), PHYSICAL) for subject in subjects]
    assert after[1] > after[0]
    assert before[0] >= before[1]


def test_nothing_runs_is_a_result():
    result = compare([MOE, TWIN], 1, (2.0**26,))
    assert result.cases == ((None,), (None,))
    assert result.winner(0) is None
    assert result.rate(0, 0) == 0
    assert result.crossovers == ()


@pytest.mark.parametrize("subjects", [[], [MOE], [MOE, MOE]])
def test_one_subject_is_no_comparison(subjects):
    with pytest.raises(ValueError, match="at least two different subjects"):
        compare(subjects, 8, CONTEXTS)
