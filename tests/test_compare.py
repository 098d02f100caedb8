"""Side by side: winners, turning points, and gaps that divide into their terms."""

import dataclasses
import json
import re

import numpy as np
import prompt
import pytest
from serving_cases import GPU, MODEL, WORK, brute_force, problem
from tolerances import CANCELLATION, EXACT

from qsjax.cost.laws.params import dense_twin
from qsjax.grid.case import case_of, gpu_time
from qsjax.grid.limits import Limits
from qsjax.grid.problem import Problem
from qsjax.grid.served import served
from qsjax.questions.compare.answers import _shares, compare
from qsjax.questions.compare.ranking import Subject, attribution, table_5
from qsjax.questions.explain import explain
from qsjax.records.specs import CONVENTIONS, PHYSICAL, Partition, Records

CONTEXTS = [1024.0, 16384.0, 131072.0]


@pytest.fixture(scope="module")
def answer():
    return compare(problem("both", context=CONTEXTS))


@pytest.fixture(params=[0, 1], ids=["physical", "paper"])
def found(request, answer):
    return answer.sides[request.param]


def test_both_accountings_stand_beside_each_other(answer):
    assert [side.convention for side in answer.sides] == ["physical", "paper"]
    assert answer.own.subjects == ("MoE", "dense q=2")


def test_every_cell_is_the_best_by_brute_force(found):
    rules = CONVENTIONS[found.convention]
    asked = problem(found.convention, context=CONTEXTS[2])
    (cell,), (runs,) = brute_force(
        asked, np.arange(1.0, 200.0), spec=dense_twin(MODEL, 2.0, rules.twin)
    )
    best = cell["tokens_per_s_per_gpu"][runs].max()
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
    tokens = step.replicas * float(part.dp) * step.capacity.batch
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
    quick = dataclasses.replace(GPU, hbm_bw=0.5 * GPU.hbm_bw, label="quick", **rates)

    def ranked(*contexts):
        asked = Problem(MODEL, [quick, GPU], gpus=8, context=list(contexts), workload=WORK)
        return compare(asked).own

    result = ranked(128.0, 131072.0)
    assert [result.winner(0), result.winner(1)] == [0, 1]
    (turn,) = result.crossovers
    assert (turn.before, turn.after) == ("quick", "h100-sxm")
    assert 128 < turn.context < 131072
    around = ranked(round(turn.context / 1.03), turn.context)
    assert [around.winner(0), around.winner(1)] == [0, 1]


def test_nothing_runs_is_a_result():
    answer = compare(problem("both", gpus=1, context=2.0**26))
    assert answer.own.cases == ((None,), (None,))
    assert answer.own.winner(0) is None
    assert answer.own.rate(0, 0) == 0
    assert answer.own.crossovers == ()
    assert answer.turns() == answer.decisions() == []
    assert answer.summary() == "Nothing runs on 1 h100-sxm with mixtral-8x7b at 64M."


def test_limits_and_batches_of_the_problem_hold():
    free = compare(problem()).own
    tpot = 0.8 * min(case.parts.step.tpot for (case,) in free.cases)
    bound = compare(problem(limits=Limits(max_tpot=tpot))).own
    for (case,), (before,) in zip(bound.cases, free.cases, strict=True):
        assert case.parts.step.tpot <= tpot
        assert case.rate < before.rate
    for (case,) in compare(problem(batch=4)).own.cases:
        assert case.parts.step.capacity.batch == 4


def test_subjects_may_be_some_of_the_problem():
    asked = Problem(MODEL, ["h100-sxm", "h200-sxm"], gpus=8, context=8192, twins=[2, 5])
    some = compare(asked, {"a": Subject(0, 0), "b": Subject(0, 1, 5.0)})
    whole = compare(asked)
    names = list(whole.own.subjects)
    assert len(names) == 6
    assert some.own.rate(1, 0) == whole.own.rate(names.index("h200-sxm, dense q=5"), 0)


def test_an_answer_has_axes_and_pictures(answer):
    data = answer.dataset
    assert dict(data.sizes) == {"convention": 2, "subject": 2, "context": 3}
    cell = data.sel(convention="physical", subject="MoE", context=16384)
    assert float(cell.tokens_per_s_per_gpu) == answer.own.rate(0, 1)
    assert list(data.subject.values) == ["MoE", "dense q=2"]
    assert data.tpot.attrs["units"] == "s"
    assert set(answer.figures) == {"why", "throughput", "sure"}


def test_a_comparison_agrees_with_an_explanation(answer):
    for k, context in enumerate(CONTEXTS):
        found = explain(problem(context=context, twins=(), batch="best"))
        assert found.stated.rate == pytest.approx(answer.own.rate(0, k), rel=EXACT)


@pytest.mark.parametrize("engine", ["", "vllm", "sglang", "trtllm", "atom"])
def test_requests_cost_what_an_explanation_says(engine):
    """`compare` took vLLM's rules for every engine, and one attention replica for all."""
    asked = Problem("gpt-oss-120b", "mi355x", gpus=4, engine=engine, twins=[5.0])
    row = compare(asked, requests=(4096.0, 512.0)).rows()[0]
    found = explain(asked.replace(twins=()), requests=(4096.0, 512.0)).prefill
    for name, value in dataclasses.asdict(found).items():
        assert row[f"prefill_{name}"] == pytest.approx(value, rel=EXACT), name


def test_what_is_no_comparison_is_refused():
    with pytest.raises(
        ValueError,
        match="at least two different subjects; given: mixtral-8x7b on h100-sxm; give several",
    ):
        compare(problem(twins=()))
    with pytest.raises(ValueError, match=r"give one value for: gpus \(2 values\)"):
        compare(problem(gpus=[4, 8]))


def test_no_share_says_why_where_parts_cancel_out():
    """Parts larger than the gap itself are named, without a share of hundreds of per cent."""
    row = {"attribution": {"compute": -4.8, "HBM weights": 5.1, "overhead": 0.7}}
    assert _shares(row) == "HBM weights and compute, nearly even"
    row = {"attribution": {"compute": 0.9, "HBM weights": 0.1, "overhead": 0.0}}
    assert _shares(row) == "compute +90%, HBM weights +10%"
    assert _shares({}) == ""


def test_sentences_name_a_variant_by_what_it_changes():
    variants = ["llama-3.1-70b", served("llama-3.1-70b", kv="fp8")]
    said = compare(Problem(variants, "h100-sxm", gpus=8, context="8k")).summary()
    assert "; kv=fp8 makes " in said
    assert ", kv=fp8" not in said


def test_a_factor_changes_all_fields_of_a_group():
    """What `design` and `binding` call flops and link_bw was no field, and FP8 alone suggested."""
    grouped = "mixtral-8x7b@h100-sxm:flops=x0.9,link_bw=x0.7"
    named = grouped.replace("flops=x0.9", "flops_bf16=x0.9,flops_fp8=x0.9,flops_fp4=x0.9")
    named = named.replace("link_bw=x0.7", "intra_bw=x0.7,inter_bw=x0.7")
    where = ("--gpus", "16", "--context", "8k", "--format", "json")
    rates = [
        [row["tokens_per_s_per_gpu"] for row in json.loads(done.stdout)["rows"]]
        for done in (
            prompt.qsjax("compare", "mixtral-8x7b@h100-sxm", one, *where, code=0)
            for one in (grouped, named)
        )
    ]
    assert rates[0] == rates[1]
    assert rates[0][0] != rates[0][1]


def test_sentences_name_what_a_subject_has_of_its_own():
    variant = "llama-3.1-8b@h200-sxm:hbm_bw=x2"
    where = ("--hardware", "h100-sxm", "--gpus", "1", "--context", "8k")
    said = prompt.qsjax("compare", "llama-3.1-8b", variant, "qwen3-8b", *where, code=0).stdout
    first = said.partition("\n")[0]
    assert first.startswith("At 8k on 1 h100-sxm, llama-3.1-8b makes ")
    assert "; h200-sxm:hbm_bw=x2 " in first
    assert " and qwen3-8b " in first
    assert variant in said.partition("\n\n")[2]


@pytest.mark.parametrize(
    ("first", "second", "short"),
    [
        ("deepseek-v3@h200-sxm", "deepseek-v3.2@h200-sxm", "deepseek-v3.2"),
        ("llama-3.1-8b@a100-sxm", "llama-3.1-8b@a100-sxm-40g", "a100-sxm-40g"),
    ],
)
def test_names_are_shortened_by_whole_names(first, second, short):
    """DeepSeek-V3.2 beside V3 was `.2`, and an A100 of 40 GB `-40g`."""
    said = prompt.qsjax("compare", first, second, "--gpus", "16", "--context", "8k", code=0).stdout
    assert f"; {short} makes " in said
    found = compare(Problem(["mixtral-8x7b"], ["h100-sxm", "h200-sxm"], gpus=8, context=8192))
    own = found.own
    file = dataclasses.replace(own, subjects=("m@h100-sxm.toml", "m@h100-sxm.toml:hbm_bw=8TB/s"))
    assert list(file.short_names().values())[1] == "m:hbm_bw=8TB/s"


def test_long_cells_are_folded_at_the_prompt_of_python():
    """Six subjects took lines of 145 columns."""
    asked = Problem("mixtral-8x7b", ["h100-sxm", "h200-sxm"], gpus=8, context=8192, twins=[2, 3])
    shown = str(compare(asked)).partition("\ncontext")[2].splitlines()
    assert max(map(len, shown)) < 135
    assert sum("8,192" in line for line in shown) == 6 < len(shown) - 1


def test_pairs_of_a_problem_are_named_as_the_command_names_them():
    """A list of `llama-3.1-70b, h100-sxm` and others had a comma too many between each two."""
    models, devices = ["llama-3.1-8b", "qwen3-8b"], ["h100-sxm", "h200-sxm"]
    found = compare(Problem(models, devices, gpus=1, context="8k"))
    assert list(found.subjects) == [f"{model}@{device}" for model in models for device in devices]
    assert re.search(r"; h200-sxm .*, qwen3-8b \d.* and qwen3-8b@h200-sxm ", found.summary())
