"""An explanation: ledgers that sum, findings with the right numbers, alternatives that are best."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from serving_cases import CONTEXT, GPU, MODEL, WORK, brute_force, problem
from tolerances import CANCELLATION, EXACT

from qsjax.cost.decode import decode_step, evaluate
from qsjax.cost.disaggregation import companion
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.cost.shared import shared_steps
from qsjax.engines.schedulers import filling_of
from qsjax.grid.case import case_record
from qsjax.grid.limits import Limits
from qsjax.grid.problem import Problem
from qsjax.numerics import numpy_backend
from qsjax.questions.explain import Explanation, explain, explain_command, prompts
from qsjax.records.specs import CONVENTIONS, PHYSICAL, Partition, Records
from qsjax.records.units import GIB


def explained(partition=None, convention="both", **more):
    """A design of Mixtral on 8 H100."""
    return explain(problem(convention, **({"twins": ()} | more)), partition)


@pytest.fixture(scope="module")
def answer() -> Explanation:
    return explained(Partition(tp=4.0, dp=2.0, ep=1.0))


@pytest.fixture(scope="module")
def both(answer):
    return answer.sides


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
            record = case_record(case)
            assert sum(record["terms"].values()) == pytest.approx(record["tpot"], rel=EXACT)
            assert sum(record["memory_bytes"].values()) == pytest.approx(record["hbm_bytes"])


def test_memory_has_experts_of_other_modalities_and_holds_common_blocks_once():
    model = dataclasses.replace(MODEL, idle_params=4e9, repeated_params=1e9)
    asked = dataclasses.replace(problem("physical"), model=model, twins=())
    more, plain = (
        case_record(explain(one, Partition(tp=8.0)).stated)["memory_bytes"]
        for one in (asked, dataclasses.replace(asked, model=MODEL))
    )
    assert sum(more.values()) == pytest.approx(GPU.hbm_bytes, rel=CANCELLATION)
    assert more["weights: experts of other modalities"] > 0
    assert more["weights: attention"] < plain["weights: attention"]


def test_the_stated_design_is_what_was_stated(both):
    stated = both[0].stated
    batch = stated.parts.step.capacity.batch
    workload = dataclasses.replace(WORK, context=CONTEXT, batch=batch)
    step = decode_step(Records(MODEL, GPU, Partition(tp=4.0, dp=2.0, ep=1.0), workload), PHYSICAL)
    assert stated.is_feasible
    assert float(step.tpot) == pytest.approx(stated.parts.step.tpot, rel=EXACT)
    assert stated.parts.step.capacity.batch == stated.parts.step.capacity.max_batch > 1


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_alternatives_are_those_of_brute_force(name):
    # A small batch: then its TPOT keeps the best design out.
    side = explained(Partition(tp=4.0, dp=2.0), name, batch=2).own
    (found,), (runs,) = brute_force(problem(name, twins=()), np.arange(1.0, 161.0))
    rate, tpot = found["tokens_per_s_per_gpu"], found["tpot"]
    best, as_fast = side.best.parts.step, side.best_as_fast.parts.step
    assert best.tokens_per_s_per_gpu == pytest.approx(rate[runs].max(), rel=EXACT)
    limit = side.stated.parts.step.tpot * (1 + 1e-9)
    expected = rate[runs & (tpot <= limit)].max()
    assert as_fast.tokens_per_s_per_gpu == pytest.approx(expected, rel=EXACT)
    assert as_fast.tpot <= limit < best.tpot


def test_limits_of_the_problem_hold_for_the_alternatives():
    free = explained(Partition(tp=4.0, dp=2.0)).own.best
    bound = explained(Partition(tp=4.0, dp=2.0), limits=Limits(max_tp=1.0, min_headroom=0.1)).own
    assert bound.best.records.partition.tp == 1
    assert bound.best.rate < free.rate


def test_limits_that_the_stated_design_breaks_are_told():
    """The design is as stated, whatever is asked of the others."""
    stated = Partition(tp=4.0, dp=2.0)
    own = float(explained(stated).stated.parts.step.tpot)
    kept, broken, by_all = (
        explained(stated, limits=Limits(**limits)).summary()
        for limits in (
            {"max_tpot": 1.01 * own, "max_tp": 4.0},
            {"max_tpot": 0.99 * own, "max_tp": 1.0, "max_gpus": 8.0},
            {"max_tpot": 1e-6},
        )
    )
    assert "It does not keep" not in kept
    assert f"It does not keep TPOT <= {990 * own:g} ms and tp <= 1." in broken
    assert "No design on as many GPUs keeps TPOT <= 0.001 ms." in by_all


def test_beside_an_infeasible_design_nothing_is_as_fast():
    side = explained(Partition(tp=4.0, dp=3.0, ep=5.0), gpus=12).own
    assert not side.stated.is_feasible
    assert side.best_as_fast is None


def test_what_the_degrees_leave_copies_fill():
    one = explained(Partition(tp=4.0), gpus=4).stated.parts.step
    two = explained(Partition(tp=4.0)).stated.parts.step
    assert (two.replicas, two.gpus) == (2, 8)
    assert two.tokens_per_s == 2 * one.tokens_per_s
    assert two.tokens_per_s_per_gpu == one.tokens_per_s_per_gpu
    dense = Problem("llama-3.1-8b", GPU, gpus=8, context=8192)
    copies, ranks = (explain(dense, Partition(dp=n)).stated for n in (1.0, 8.0))
    assert copies.parts.step.replicas == 8
    assert copies.rate == pytest.approx(ranks.rate, rel=EXACT)


def test_copies_that_do_not_fill_the_gpus_are_told():
    (item,) = explained(Partition(tp=4.0), gpus=10).stated.shortcomings
    assert item.reason == "wrong GPU count"
    assert "takes 4 GPUs, and whole copies do not fill 10; give 8 or 12 GPUs" in item.text
    (item,) = explained(Partition(tp=4.0, replicas=3.0)).stated.shortcomings
    assert "3 of them are not 8" in item.text


def test_without_a_partition_the_best_one_is_explained():
    answer = explained()
    assert answer.stated.is_feasible
    assert answer.own.best.rate >= answer.stated.rate
    batch = answer.stated.parts.step.capacity.batch
    assert answer.sides[1].stated.parts.step.capacity.batch == batch
    best = explained(batch="best")
    assert best.stated.rate == pytest.approx(answer.own.best.rate, rel=EXACT)
    with pytest.raises(ValueError, match=r"no design keeps TPOT <= 0\.01 ms\."):
        explained(limits=Limits(max_tpot=1e-5), batch="best")


def test_only_one_cell_is_explained():
    with pytest.raises(ValueError, match=r"gpus \(2 values\), twins \(2 values\)"):
        explain(problem(gpus=[4, 8], twins=[2, 5]), Partition())


def test_the_only_twin_is_what_is_explained():
    twin = explain(problem("both", twins=2.0), Partition(tp=8.0))
    assert not twin.is_moe
    assert twin.stated.records.model.experts == 1
    # The two accountings mean different twins.
    own, paper = (side.stated.parts.memory["weights: routed experts"] for side in twin.sides)
    assert own != paper


def test_an_answer_is_saved_with_its_pictures(answer, tmp_path):
    names = {path.name for path in answer.save(tmp_path)}
    assert names >= {"result.json", "explain.csv", "explain.nc", "memory.svg", "roofline.svg"}
    rows = answer.rows()
    assert [row["design"] for row in rows[:3]] == ["stated", "best", "best_as_fast"]
    for row in rows:
        assert sum(row["terms"].values()) == pytest.approx(row["tpot"], rel=EXACT)
    assert answer.dataset.tpot.attrs["units"] == "s"


def finding(partition, **more):
    gpus = np.prod([getattr(partition, n) for n in ("tp", "pp", "dp", "kvp")])
    side = explained(partition, **({"gpus": float(gpus)} | more)).own
    return side, {item.reason: item for item in side.stated.shortcomings}


def big(partition):
    asked = Problem("deepseek-v3", GPU, gpus=1, context=CONTEXT)
    side = explain(asked, partition).own
    return side, {item.reason: item for item in side.stated.shortcomings}


def test_weights_that_do_not_fit_are_counted():
    found, items = big(Partition())
    cap = found.stated.parts.step.capacity
    item = items["weights do not fit"]
    assert item.missing == cap.weights - cap.usable > 0
    assert f"{item.missing / GIB:,.2f} GiB too much" in item.text
    assert found.needs.gpus > 1
    assert found.best_as_fast is None


def test_a_sequence_that_does_not_fit_is_counted():
    found, items = finding(Partition(tp=2.0), context=2.0**21)
    cap = found.stated.parts.step.capacity
    missing = items["no sequence fits"].missing
    assert missing == cap.weights + cap.kv_per_sequence - cap.usable > 0
    assert found.stated.parts.memory["free"] == pytest.approx(-missing, rel=EXACT)


def test_a_batch_that_does_not_fit_says_how_many_do():
    found, items = finding(Partition(tp=8.0), batch=4096.0)
    cap = found.stated.parts.step.capacity
    item = items["batch does not fit"]
    assert f"at most {cap.max_batch:g} fit" in item.text
    assert item.missing == pytest.approx(-found.stated.parts.memory["free"], rel=EXACT)
    room = float(cap.max_batch) * CONTEXT  # tokens, or somewhat more
    _, items = finding(Partition(tp=8.0), batch=2.0, context=room / 1.5)
    assert "at most 1 fit" in items["batch does not fit"].text


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
    answer = explained(Partition(tp=4.0, ep=4.0, dp=2.0))
    assert answer.own.stated.shortcomings == ()
    assert [one.text for one in answer.sides[1].stated.shortcomings] == [
        "ep=4 times tp=4 does not divide the 8 GPUs of a pipeline stage; choose ep of 1, 2"
    ]


def test_what_would_be_needed_is_enough():
    side, _ = big(Partition())
    needs = side.needs
    for chip, gpus in ((GPU.replace(hbm_bytes=needs.hbm_bytes), 1), (GPU, needs.gpus)):
        assert explain(Problem("deepseek-v3", chip, gpus=gpus, context=CONTEXT)).stated.is_feasible


def test_bad_numbers_are_errors():
    with pytest.raises(ValueError, match="tp"):
        explained(Partition(tp=0.0))
    with pytest.raises(ValueError, match="context"):
        explained(Partition(), context=-1.0)


def test_a_convention_is_traced_once():
    other = Problem("deepseek-v3", "h200-sxm", gpus=8, context=CONTEXT, workload=WORK)
    explain(other, Partition(tp=8.0))  # its kernels wait, which is told by one law more
    before = numpy_backend._player.cache_info().misses
    explained(Partition(tp=4.0))
    assert numpy_backend._player.cache_info().misses == before


@pytest.mark.parametrize(
    ("line", "hardware", "is_refused"),
    [
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct", "l4", True),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct", "h100-sxm", False),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 4096", "l4", False),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --max_model_len auto", "l4", False),
        ("sglang serve --model-path meta-llama/Llama-3.1-8B-Instruct", "l4", False),
        # Another length would not mend it, for the weights have no room.
        ("vllm serve meta-llama/Llama-3.1-70B-Instruct", "l4", False),
    ],
)
def test_vllm_starts_for_no_limit_of_the_model_of_which_no_sequence_fits(
    line, hardware, is_refused
):
    """It was said to run."""
    said = explain_command(line, hardware).summary().splitlines()[1]
    assert said.startswith("vLLM refuses to start it without --max-model-len") == is_refused
    assert ("131,072 tokens" in said and "--max-model-len 8192" in said) == is_refused


@pytest.mark.parametrize(
    "line",
    [
        "trtllm-serve meta-llama/Llama-3.1-405B --tp_size 4 --free_gpu_memory_fraction 0.5",
        "trtllm-serve Qwen/Qwen3-8B --max_num_tokens 10000000",
    ],
)
def test_a_server_without_room_does_not_run(line):
    """The share of the HBM that is left was told to be none: 1.16, and -5.5."""
    assert explain_command(line, "h200-sxm").summary().startswith("No, ")


def test_gpus_that_prefill_read_as_many_short_prompts_as_fill_a_step():
    """It was one at a time: 100 in and 100 out of Qwen3-8B took 1.8 prefill GPUs for each other."""
    answer = explain(problem(twins=(), context=1074.0), Partition(tp=8.0))
    records, step = answer.stated.records, answer.stated.parts.step
    for prompt, cached in ((128.0, 0.0), (1024.0, 896.0)):
        found = companion(records, step, PHYSICAL, prompt, 100.0, cached=cached)
        own = records._replace(gpus=None)
        one, full = (
            prefill_step(own, PHYSICAL, Prompts(prompt, count, cached)) for count in (1.0, 64.0)
        )
        assert found.ttft == pytest.approx(float(one.ttft), rel=EXACT)
        assert found.prompt_tokens_per_s_per_gpu == pytest.approx(
            float(full.tokens_per_s_per_gpu), rel=EXACT
        )
        assert full.tokens_per_s_per_gpu > 3 * one.tokens_per_s_per_gpu


def test_answers_of_one_token_come_no_faster_than_prompts_are_read():
    """They counted as two: 1,000 tokens in and 1 out were read at more than the peak of an H100."""
    one = Problem("llama-3.1-8b", "h100-sxm", gpus=1, context="1k")
    found = explain(one, Partition(), requests=(1000.0, 1.0)).prefill
    most = found.prompt_tokens_per_s_per_gpu / 1000.0
    assert found.tokens_per_s_per_gpu_aggregated == pytest.approx(most, rel=0.05)
    two = explain(one, Partition(), requests=(1000.0, 2.0)).prefill
    assert two.tokens_per_s_per_gpu_aggregated == pytest.approx(2.0 * most, rel=0.05)


def test_disaggregation_is_weighed_by_the_best_split_of_each_way():
    """One split did both, and was chosen for decode: of Qwen3-32B on 8 H100, 4k in and 512 out, 538
    tokens/s/GPU stood against 195, where other splits make 513 with prompts on the same GPUs.
    """
    asked = (2000.0, 500.0)
    one = Problem("llama-3.1-70b", "h200-sxm", gpus=4, context=2250.0)

    def beside(row, batch=None):
        split = Partition(**{name: float(row.get(name, 1)) for name in ("tp", "pp", "kvp")})
        return explain(dataclasses.replace(one, batch=batch), split, requests=asked)

    apart, prefill, together = explain(one, requests=asked).pools
    same = beside(together.design, together.design["batch"]).prefill
    assert together[:2] == pytest.approx(
        (same.tokens_per_s_per_gpu_aggregated, same.tpot_aggregated), rel=CANCELLATION
    )
    decode = beside(apart.design, apart.design["batch"]).stated
    reading = beside(prefill).prefill.prompt_tokens_per_s_per_gpu
    assert apart.tpot == pytest.approx(float(decode.parts.step.tpot), rel=CANCELLATION)
    assert apart.rate == pytest.approx(1.0 / (1.0 / decode.rate + 4.0 / reading), rel=CANCELLATION)
    splits = [{"tp": tp, "pp": pp, "kvp": kvp} for tp in (1, 2, 4) for pp in (1, 2, 4)
              for kvp in (1, 2, 4) if tp * pp * kvp <= 4]  # fmt: skip
    tried = [beside(row, batch).prefill for row in splits for batch in (None, 8, 64)]
    every = [found for found in tried if found is not None]
    hair = 1.0 + 1e-9
    assert max(x.tokens_per_s_per_gpu_aggregated for x in every) <= together.rate * hair
    assert max(x.tokens_per_s_per_gpu_disaggregated for x in every) <= apart.rate * hair
    assert max(x.prompt_tokens_per_s_per_gpu for x in every) <= reading * hair

    said = explain(Problem("qwen3-32b", "h100-sxm", gpus=8), requests=(4096, 512)).summary()
    assert "disaggregation makes no difference beyond the error: 559 at 41.4 ms a token" in said
    kept = dataclasses.replace(one, limits=Limits(max_tpot=0.02))
    limited = explain(kept, requests=asked).pools
    assert max(limited.apart.tpot, limited.together.tpot) <= 0.02
    out_of_reach = dataclasses.replace(one, limits=Limits(max_tpot=1e-4))
    answer = explain(out_of_reach, Partition(tp=4.0), requests=asked)
    assert (
        "No split keeps TPOT <= 0.1 ms apart and where the same GPUs do both." in answer.summary()
    )
    assert explain(one, Partition(tp=4.0)).pools is None


@pytest.mark.parametrize("limit", [np.inf, 0.05, 0.02])
@pytest.mark.parametrize("of", [("deepseek-v3", "h200-sxm", 64), ("qwen3-32b", "h100-sxm", 8)])
def test_few_batches_tell_which_split_is_best(of, limit, monkeypatch):
    """Of 78,472 splits (4,608 GPUs) 240 batches each took 25 s and 4 GB."""
    model, hardware, gpus = of
    asked = Problem(model, hardware, gpus=gpus, limits=Limits(max_tpot=limit))
    tried, served = [], prompts.served_rates
    monkeypatch.setattr(
        prompts,
        "served_rates",
        lambda records, *own, **more: (
            tried.append(np.shape(records.workload.batch)) or served(records, *own, **more)
        ),
    )
    few = explain(asked, requests=(3000, 700)).pools
    (every, coarse), (rows, fine) = tried
    assert rows <= every / 2
    assert coarse < fine / 4
    monkeypatch.setattr(prompts, "_may_win", lambda batches, *_: np.ones(len(batches), bool))
    assert explain(asked, requests=(3000, 700)).pools == few


def test_prefill_supplies_decode():
    requests = (65024.0, 1024.0)
    answer = explain(problem(twins=()), Partition(tp=4.0, dp=2.0), requests=requests)
    stated = answer.stated
    step = stated.parts.step
    rules = filling_of("vllm", GPU.hbm_bytes)
    assert rules.lockstep == 1.0  # its replicas share the experts here
    found = companion(stated.records, step, stated.rules, 65024.0, 1024.0, rules)
    assert answer.prefill == found
    work = dataclasses.replace(WORK, context=CONTEXT)
    cost = prefill_step(
        Records(MODEL, GPU, Partition(tp=4.0, dp=2.0), work), PHYSICAL, Prompts(65024.0)
    )
    assert found.ttft == pytest.approx(float(cost.ttft), rel=EXACT)
    # Prompt tokens needed by one GPU of decode are those that its share of prefill GPUs makes.
    needed = step.tokens_per_s_per_gpu * 65024.0 / 1024.0
    made = found.prefill_gpus_per_decode_gpu * found.prompt_tokens_per_s_per_gpu
    assert made == pytest.approx(needed, rel=EXACT)
    split = step.tokens_per_s_per_gpu / (1 + found.prefill_gpus_per_decode_gpu)
    assert found.tokens_per_s_per_gpu_disaggregated == pytest.approx(split, rel=EXACT)
    # A step with both holds 8,192 tokens, of which every sequence that decodes has one.
    records = stated.records
    both = shared_steps(records, PHYSICAL, 65024.0, 1024.0, rules)
    for name in ("tpot", "ttft"):
        assert getattr(found, f"{name}_aggregated") == pytest.approx(
            float(getattr(both, name)), rel=EXACT
        )
    assert found.wait == pytest.approx(float(both.tpot - step.tpot), rel=EXACT)
    assert found.decoding_aggregated == pytest.approx(float(both.steps.decoding), rel=EXACT)
    # Two attention replicas on eight GPUs.
    rate = float(both.tokens_per_s) * 2.0 / 8.0
    assert found.tokens_per_s_per_gpu_aggregated == pytest.approx(rate, rel=EXACT)


def test_prompts_are_counted_as_the_steps_beside_them():
    """Experts are skewed for both where the kernels of an engine were fitted so: 4 to 8 % less."""
    asked = Problem("deepseek-v3", "h200-sxm", gpus=16, twins=(), engine="vllm")
    requests = (4096.0, 512.0)
    answer = explain(asked, Partition(dp=16.0, ep=16.0), requests=requests)
    records, rules = answer.stated.records, answer.stated.rules
    assert rules.expert_balance == "skewed"
    alone = prefill_step(records._replace(gpus=None), rules, Prompts(requests[0]))
    assert answer.prefill.ttft == pytest.approx(float(alone.ttft), rel=EXACT)
    # Pools count alike: their best design has the rate that it has by itself.
    way = answer.pools.together
    degrees = {name: float(way.design[name]) for name in ("tp", "ep", "pp", "dp", "kvp")}
    own = dataclasses.replace(asked, batch=[float(way.design["batch"])])
    beside = explain(own, Partition(**degrees), requests=requests).prefill
    assert beside.tokens_per_s_per_gpu_aggregated == pytest.approx(way.rate, rel=EXACT)


def test_prompts_share_steps_by_the_rules_of_the_engine():
    """SGLang's decoding waits for prompts, whose bound is no step; vLLM's is at most a full one."""
    asked = Problem("qwen3-8b", "h200-sxm", gpus=1, twins=(), context=9015.0, batch=[64.0])
    found = {
        engine: explain(
            dataclasses.replace(asked, engine=engine), Partition(), requests=(9000.0, 30.0)
        ).prefill
        for engine in ("vllm", "sglang")
    }
    # Of 63 others those whose last token is not on its way to a user.
    away = filling_of("sglang", 141e9).stream_steps / 29.0
    assert found["sglang"].decoding_aggregated == pytest.approx(1.0 + 63.0 / (1.0 + away))
    assert found["sglang"].wait > 60 * found["sglang"].ttft / 30
    assert found["vllm"].decoding_aggregated < 30.0
    assert found["vllm"].wait < found["vllm"].ttft


def test_the_best_design_runs_as_it_is_recorded(both):
    best = both[0].best
    step = evaluate(best.records, PHYSICAL)
    assert int(step.reasons) == 0
    assert float(step.tpot) == pytest.approx(best.parts.step.tpot, rel=EXACT)
    assert all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(best.records))


def test_a_command_line_is_explained_in_one_call():
    line = "vllm serve Qwen/Qwen3-8B -tp 2 --max-num-seqs 16"
    found = explain_command(line, "h100-sxm", context="8k")
    part, step = found.stated.records.partition, found.stated.parts.step
    assert (found.own_name, float(part.tp), float(step.capacity.batch)) == ("qwen3-8b", 2.0, 16.0)
    assert found.more["stated"]["engine_flags"].keys() == {"vllm", "sglang"}
    design = {"tp": 4, "replicas": 3, "batch": 8}
    own = explain_command(line, "h100-sxm", design=design, requests=(1000.0, 200.0))
    part, step = own.stated.records.partition, own.stated.parts.step
    assert (float(part.tp), float(step.gpus), float(step.capacity.batch)) == (4.0, 12.0, 8.0)
    assert own.problem.stated.contexts == (1100.0,)
    for chip, tells in (("h100-sxm", True), ("h200-sxm", False)):
        placed = explain_command(f"resources:\n  accelerators: H200:2\nrun: {line}\n", chip)
        assert any("asks for h200-sxm, and this is h100" in x for x in placed.notes) == tells
    for asked, chip in (("H200:2", "h200-sxm"), ("{H200:2, B200:2}", "h100-sxm")):
        text = f"resources:\n  accelerators: {asked}\nrun: {line}\n"
        placed = explain_command(text, None)  # it was the H100
        own = explain_command(text, chip).stated.records.hardware
        assert placed.stated.records.hardware == own
        assert any("h200-sxm is taken, for which" in x for x in placed.notes) == (
            chip == "h200-sxm"
        )


SGLANG_HYBRID = "python -m sglang.launch_server --model-path Qwen/Qwen3.5-35B-A3B "


@pytest.mark.parametrize(
    ("line", "context", "running"),
    [
        ("vllm serve Qwen/Qwen3-0.6B", "1k", 1024),
        ("vllm serve Qwen/Qwen3-0.6B --max-num-seqs 200", "1k", 200),
        (SGLANG_HYBRID, "1k", None),
        (SGLANG_HYBRID + "--max-running-requests 400", "1k", None),
        (SGLANG_HYBRID + "--max-running-requests 8", "1k", 8),
    ],
)
def test_an_engines_own_limit_of_sequences_holds_where_no_flag_says(line, context, running):
    found = explain_command(line, "h200-sxm", context=context)
    batch = float(found.stated.parts.step.capacity.batch)
    said = [note for note in found.notes if "sequences of a replica at once" in note]
    if running is None:  # the pool of recurrent states
        assert 20 < batch < 200
        running = batch
    assert batch == running
    assert bool(said) == (line.split()[-1] not in ("200", "8"))
    assert all(f"runs {running:,.0f} sequences" in note for note in said)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"design": {"tq": 3}}, "design: tq is not known"),
        ({"design": {"tp": [1, 2]}}, "tp: .* one design has one"),
        ({"design": {"kv_mode": "x"}}, "kv_mode: 'x' is not one mode"),
        ({"twins": 5.0}, "no experts"),
        ({"twins": [5, 8]}, "twins: .* one design has one"),
        ({"twin": 5.0}, "twin: not known; give some of model, twins"),
        ({"acceptance": 0.5}, "nothing drafts here"),
        ({"gpus": 0}, "gpus: 0 is not allowed"),
    ],
)
def test_explain_command_tells_what_is_wrong(given, told):
    with pytest.raises(ValueError, match=told):
        explain_command("vllm serve Qwen/Qwen3-8B -tp 2", "h100-sxm", **given)


def test_what_does_not_run_is_told_and_drawn():
    asked = Problem("llama-3.1-70b", "h100-sxm", gpus=4, context="32k", batch=64)
    found = explain(asked, Partition(tp=4))
    ax = found.plot("memory")
    assert " GiB are missing on each GPU" in ax.get_title(loc="left").replace("\n", " ")
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert max(ends) > 80  # beyond the capacity of the GPU
    assert ax.get_xlim()[1] > max(ends)
    assert "if it ran, " in found.plot("roofline").get_title(loc="left").replace("\n", " ")
    twin = Problem("mixtral-8x7b", "h100-sxm", gpus=4, context="32k", twins=5)
    title = explain(twin, Partition(tp=4)).plot("roofline").get_title(loc="left")
    assert title.replace("\n", " ").startswith(
        "mixtral-8x7b (dense twin, q = 5) on 4 h100-sxm at 32k"
    )
    lines = explain(asked, Partition(tp=3)).summary().splitlines()
    assert any(line.startswith("tp=3 does not divide the 64 query heads") for line in lines)


def test_a_first_token_of_a_steady_state_is_said_to_have_no_queue():
    """Of 50 users on 4 H100 it said 229 ms, beside 934 ms of `simulate`."""
    asked = Problem("llama-3.1-8b", "h100-sxm", gpus=1, batch=8)
    told = "\n".join(explain(asked, Partition(), requests=(1000, 100)).remarks())
    assert re.search(r"the first token comes after \d+ ms without a queue", told)


def test_a_batch_that_does_not_fit_is_counted_as_people_write_it():
    """It said 1e+06 sequences."""
    asked = Problem("llama-3.1-8b", "h100-sxm", gpus=8, context=8192, batch=1e6)
    told = explain(asked, Partition(tp=8)).summary()
    assert "1,000,000 sequences take 125,000.00 GiB beside the weights" in told


def test_a_better_design_says_what_more_time_a_token_would_give():
    asked = Problem("deepseek-v3", "h200-sxm", gpus=8, context="8k")
    better = explain(asked, Partition(tp=8)).summary().splitlines()[1]
    assert re.search(
        r"at no more time a token; [0-9.]+ times if a token may take longer\.$", better
    )


@pytest.mark.parametrize(
    ("model", "device", "length", "gain"),
    [
        ("llama-3.1-70b", "h100-sxm", 4096, "22 % more throughput, within the error"),
        ("deepseek-v3", "mi355x", 8192, " times as much throughput, at no more time"),
        ("deepseek-v3", "h200-sxm", 8192, "No design on as many GPUs has more throughput"),
        ("qwen3-32b", "h100-sxm", 1024, " more throughput"),
    ],
)
def test_a_gain_within_the_error_is_no_win(model, device, length, gain):
    gpus, split = (16, None) if device == "h200-sxm" else (8, Partition(tp=8))
    problem = Problem(model, device, gpus=gpus, context=length + 512)
    found = explain(problem, split, requests=(length, 1024))
    _, better, prompts = found.summary().splitlines()
    assert gain in better
    ratio = found.pools.apart.rate / found.pools.together.rate
    assert ("no difference beyond the error" in prompts) == (abs(ratio - 1) < 0.131)
    assert ("disaggregation pays" in prompts) == (ratio > 1.131)
