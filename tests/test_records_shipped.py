"""What the shipped records state of themselves, and which of them are scored."""

import collections
import datetime

import jax
import numpy as np
import pytest

from benchmarks import unseen
from qsjax.cost.prefill import Prompts, prefill_step
from qsjax.cost.shared import shared_steps
from qsjax.engines.releases import date, issue, release, version
from qsjax.engines.schedulers import filling_of
from qsjax.engines.spread import load_spread
from qsjax.evidence.measurements import Case, load_records, read_case, read_cases
from qsjax.evidence.measurements.deployment import engine_of
from qsjax.evidence.measurements.predict import FIRST_TOKENS, Asked, batches, outcomes
from qsjax.evidence.validation import validate
from qsjax.records.specs import Records
from tests.test_validation import EXAMPLE


@pytest.fixture(scope="module")
def by_id():
    return {record["id"]: record for record in load_records()}


def test_columns_of_a_published_sweep(by_id):
    record = by_id["silicon-0923"]
    stated = {name: record[name] for name in ("isl", "osl", "ttft_ms", "speculation", "confidence")}
    assert stated == {
        "isl": 8192, "osl": 1024, "ttft_ms": 205.53, "speculation": "none", "confidence": "medium",
    }  # fmt: skip
    assert release(record) == "0.19.0"
    assert "silicon_sample.csv" in record["source"]
    assert read_case(record).deployments[0].prompt == pytest.approx(0.9 * 8192)


def test_mean_concurrency_counts_before_its_limit(by_id):
    record = by_id["sgl_cookbook-078"]
    assert (record["concurrency"], record["mean_concurrency"]) == (64, 58.63)
    assert read_case(record).deployments[0].workload.batch == 58.63
    shared = read_case({**EXAMPLE, "tp": 4, "dp": 2, "mean_concurrency": 13.0})
    assert shared.deployments[0].workload.batch == 6.5


def test_first_tokens_of_older_records_are_known(by_id):
    assert sum(record["ttft_ms"] is not None for record in by_id.values()) == 958 + 448 + 301 + 134


@pytest.mark.parametrize(
    ("written", "family", "named"),
    [
        ("TRT-LLM + Dynamo", "trtllm", ""),
        ("TensorRT-LLM 1.2.0rc6.post3", "trtllm", "1.2.0rc6.post3"),
        ("vllm-tpu (V1)", "vllm", ""),
        ("vllm nightly-5b8c30d62b754b57", "vllm", "nightly-5b8c30d62b754b57"),
        ("Transformers NeuronX 2.18.1", "neuronx", "2.18.1"),
        ("ATOM", "atom", ""),
        ("sglang", "sglang", ""),
    ],
)
def test_engines_and_releases_of_records(written, family, named):
    assert (engine_of({"engine": written}), release({"engine": written})) == (family, named)


def test_unstated_speculation_is_predicted_but_not_scored():
    other = {**EXAMPLE, "id": "mine-2", "value": 3.0, "speculation": "not stated"}
    report = validate([EXAMPLE, other])
    first, second = report.records
    assert second["predicted"] == first["predicted"]
    assert (first["not_scored"], second["not_scored"]) == ("", "speculation is not stated")
    assert [row["id"] for row in report.predicted] == ["mine-1"]
    assert report.by("gpu")["h100-sxm"]["median_abs_error_pct"] == abs(first["error_pct"])
    assert report.by("gpu")["h100-sxm"]["not_scored"] == 1
    assert report.not_scored() == {"speculation is not stated": 1}


def test_reasons_why_shipped_records_are_not_scored(by_id):
    reasons = collections.Counter(r["not_scored"] for r in by_id.values() if r["not_scored"])
    assert reasons == {
        "speculation is not stated": 565,
        "precision of the weights is not stated": 1,
        "labelled tp=2, ep=4, dp=2 on 4 GPUs; its times are those of tp=2, ep=2 on 2": 7,
        "speculation without the number of accepted tokens": 4,
        "throughput stalls from 128 requests on, 2 to 4 times slower than the same on B200: the "
        "set-up of this run": 14,
        "image of the day of release, with which a B200 takes twice as long as an H200": 10,
        "without the kernels (AITER) that the article reports to be seven times as fast": 5,
        "the cache is full: throughput falls from 32 to 64 requests": 1,
        "the options of its page ask for data parallel attention where the engine does not look "
        "for it": 70,
    }
    served = [r for r in by_id.values() if r["category"] == "inferencex_agg"]
    assert {r["speculation"] for r in served} == {"none", "not stated"}
    # Only models that bring heads of their own can have drafted without saying so.
    drafting = {r["model"].split("/")[-1] for r in served if r["speculation"] == "not stated"}
    assert drafting == {"DeepSeek-R1", "DeepSeek-V3", "GLM-5", "Qwen3.5-397B-A17B"}


def test_a_fit_takes_no_record_that_is_not_scored():
    from qsjax.evidence.calibration import fit

    names = ("layer_overhead",)
    records = [{**EXAMPLE, "id": str(i), "concurrency": n} for i, n in enumerate((8, 16))]
    odd = {**EXAMPLE, "id": "odd", "value": 1.0, "speculation": "not stated"}
    with_odd, without = (fit(read_cases(r), names) for r in ([*records, odd], records))
    assert with_odd.values == without.values
    assert with_odd.records == 2


def test_records_of_absent_accelerators_say_so():
    case = read_case({**EXAMPLE, "gpu": "GB200 NVL4"})
    assert not isinstance(case, Case)
    assert case.because == "accelerator 'GB200 NVL4' is not in the catalogue"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": "TensorRT-LLM 1.0", "gpu": "mi300x"}, "trtllm does not run on mi300x"),
        ({"engine": "atom", "gpu": "h100_sxm"}, "atom does not run on h100-sxm"),
        ({"engine": "neuronx", "gpu": "h100_sxm"}, "neuronx does not run on h100-sxm"),
    ],
)
def test_what_an_engine_could_not_have_run_is_skipped(change, reason):
    case = read_case({**EXAMPLE, **change})
    assert case.because.startswith(reason)


def test_requests_wait_for_an_engine_that_looks_for_them_now_and_then():
    """Five decode steps in the mean where SGLang looks every eleven."""
    at_once = {**EXAMPLE, "engine": "sglang", "ttft_ms": 100.0}
    told = {**at_once, "recv_interval": 11}
    noted = {**at_once, "notes": "--scheduler-recv-interval 11"}
    first = [validate([one]).first_tokens[0]["predicted"] for one in (at_once, told, noted)]
    with jax.enable_x64(True):
        step = float(outcomes(*batches([read_case(at_once)]), {}).tpot[0])
    assert first[1] - first[0] == pytest.approx(5e3 * step, rel=1e-9)
    assert first[2] == first[1]


@pytest.mark.parametrize(
    ("engine", "notes", "rules", "of_first_tokens"),
    [
        ("TensorRT-LLM 1.0", "", 1.0, 0.0), ("SGLang 0.5.9", "", 0.0, 0.0),
        ("vLLM 0.11", "", 1.0, 0.0), ("vLLM 0.11", "range-ratio 0.8", 0.0, 0.0),
        ("vLLM 0.11", "range-ratio 1", 1.0, 0.0), ("SGLang 0.5.9", "range-ratio 1", 1.0, 1.0),
        ("SGLang 0.5.9", "1 run; lengths exact", 1.0, 1.0),
    ],
)  # fmt: skip
def test_requests_of_one_length_start_together(engine, notes, rules, of_first_tokens):
    case = read_case({**EXAMPLE, "engine": engine, "notes": notes})
    usual = float(engine.startswith(("vLLM", "SGLang")))
    for kind, is_bunched in (("served_tpot", rules), ("ttft", of_first_tokens)):
        found = Asked(case.deployments[0], kind, case.facts).rules
        lockstep = 0.0 if is_bunched else usual
        assert (found.bunched, found.lockstep) == (is_bunched, lockstep), kind


@pytest.mark.parametrize(
    ("change", "budget"),
    [({}, 16_384), ({"dp": 8, "tp": 1}, 2048), ({"dp": 4, "tp": 2}, 4096),
     ({"dp": 8, "tp": 1, "max_batched_tokens": 1000}, 1000),
     ({"dp": 8, "tp": 1, "model": "llama-3.1-70b"}, 16_384)],
)  # fmt: skip
def test_replicas_that_share_experts_divide_the_budget_of_sglang(change, budget):
    """Its `chunked_prefill_size // dp_size`; whole copies of a dense model have one each."""
    mixture = {"model": "deepseek-v3", "gpu": "b200_sxm", "n_gpus": 8, "tp": 8, "engine": "sglang"}
    case = read_case({**EXAMPLE, **mixture, **change})
    assert Asked(case.deployments[0], case.kind, case.facts).rules.budget == budget


@pytest.mark.parametrize(
    ("notes", "share", "cached"),
    [
        ("", FIRST_TOKENS["vllm"].rush, 0),
        # Half of 32 requests come first; of those that follow as much as of InferenceX's.
        ("--num-prompts 32", 0.5 + 0.5 * (FIRST_TOKENS["vllm"].rush - 0.1) / 0.9, 0),
        ("--num-prompts 8", 1.0, 0),
        ("cached_tokens=512", FIRST_TOKENS["vllm"].rush, 512),
    ],
)
def test_first_tokens_are_predicted_where_they_are_known(notes, share, cached):
    """By hand: the steady state of vLLM, and a share of a rush of all 16 requests."""
    record = {**EXAMPLE, "ttft_ms": 100.0, "notes": notes}
    report = validate([record, {**EXAMPLE, "id": "mine-2"}])
    (row,) = report.first_tokens
    one = read_case(record).deployments[0]
    records = Records(one.model, one.hardware, one.partition, one.workload)
    design = (records, one.convention, one.prompt)
    found = shared_steps(*design, one.output, filling_of("vllm", 141e9), cached=cached)
    tokens = 16 * (one.prompt - cached)
    passes = max(1.0, tokens / 8192)
    filled = min(tokens, 8192) / (one.prompt - cached)
    together = prefill_step(
        records, one.convention, Prompts(one.prompt, filled, float(cached))
    ).ttft
    expected = found.ttft + share * (passes + 1) / 2 * together
    assert row["predicted"] * 1e-3 == pytest.approx(float(expected), rel=1e-9)
    assert row["error_pct"] == pytest.approx(row["predicted"] - 100.0)
    assert report.first_tokens_by("engine")["all"]["predicted"] == 1
    stated = read_case({**EXAMPLE, "metric": "mean_ttft_ms", "value": 100.0})
    assert stated.kind == "ttft"


def test_the_median_request_is_none_of_those_that_come_at_once_at_the_start():
    record = {**EXAMPLE, "ttft_ms": 100.0}
    mean, middle = (
        validate([record | {"statistic": which}]).first_tokens[0]["predicted"]
        for which in ("mean", "median")
    )
    outcome = outcomes(*batches([read_case({**record, "metric": "TTFT"})]), {})
    assert mean - middle == pytest.approx(
        1e3 * FIRST_TOKENS["vllm"].rush * float(outcome.rush[0]), rel=1e-6
    )
    assert read_case({**EXAMPLE, "metric": "median_ttft_ms"}).is_median
    assert read_case({**record, "statistic": "p99"}).because == (
        "statistic is 'p99'; give mean or median"
    )


def test_statistics_of_public_results():
    """InferenceX's public file: DeepSeek-R1 on MI355X, 8 users, 1k/8k: median 0.22349 s."""
    by_id = {record["id"]: record for record in load_records()}
    first = by_id["inferencex_agg-dsr1-5"]
    assert (first["ttft_ms"], first["statistic"]) == (223.49, "median")
    counted = collections.Counter(r["statistic"] for r in by_id.values() if r["ttft_ms"])
    assert counted == {"median": 435, None: 1406}


def test_what_a_record_says_of_engine_and_source():
    source = "https://github.com/vllm-project/vllm/issues/23278"
    record = {"engine": "vLLM 0.11.2rc1", "source": source}
    assert (version(record), issue(record), date(record)) == ((0, 11, 2), 23278, None)
    blog = {"engine": "SGLang", "source": "https://lmsys.org/blog/2025-05-30-large-scale-ep/"}
    assert (version(blog), issue(blog)) == (None, None)
    assert date(blog) == datetime.date(2025, 5, 30)


def test_unseen_measurements_are_all_scored_and_none_is_shipped(by_id):
    table = unseen.rows()
    assert table.run.nunique() >= 260
    assert np.isfinite(table.error_pct).all()
    assert table.is_held.isin([0, 1])[table.quantity != "cache"].all()
    for by in ("quantity", *unseen.GROUPS):
        assert unseen.errors(table, by)["n"].sum() == len(table)
    assert load_spread().elsewhere == pytest.approx(unseen.elsewhere(table), rel=1e-3)
    given = unseen.records()
    assert all(record["source"].startswith("https://") for record in given)
    shipped = [record["source"] for record in by_id.values()]
    for address in {record["source"] for record in given}:
        assert not any(address in source for source in shipped), address
