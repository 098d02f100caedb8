"""Results of benchmarks of engines, in the files that they write, as records of a user."""

import gzip
import json
import warnings

import pytest
import yaml

from qsjax.engines.releases import facts
from qsjax.evidence.measurements.deployment import deployment_of
from qsjax.evidence.measurements.facts import with_facts
from qsjax.evidence.measurements.storage import read_records

# Keys as of vllm/benchmarks/serve.py, `--save-result`.
VLLM = {
    "date": "20251101-101010",
    "endpoint_type": "vllm",
    "model_id": "Qwen/Qwen3-32B",
    "tokenizer_id": "Qwen/Qwen3-32B",
    "num_prompts": 256,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 32,
    "duration": 61.2,
    "completed": 250,
    "total_input_tokens": 256000,
    "total_output_tokens": 128000,
    "request_goodput": None,
    "output_throughput": 2141.0,
    "mean_ttft_ms": 180.2,
    "p99_ttft_ms": 420.0,
    "mean_tpot_ms": 13.9,
    "median_tpot_ms": 13.7,
    "p99_tpot_ms": 16.0,
    "mean_itl_ms": 13.8,
}
# sglang/bench_serving.py, a line for each run.
SGLANG = {
    "backend": "sglang",
    "dataset_name": "random",
    "max_concurrency": 32,
    "completed": 250,
    "total_input_tokens": 256000,
    "total_output_tokens": 128000,
    "concurrency": 30.5,
    "mean_tpot_ms": 13.9,
    "mean_itl_ms": 14.1,
    "accept_length": None,
    "server_info": {
        "model_path": "Qwen/Qwen3-32B",
        "tp_size": 4,
        "dp_size": 1,
        "ep_size": 1,
        "kv_cache_dtype": "auto",
        "quantization": None,
        "dtype": "auto",
    },
}
# tensorrt_llm/bench, `--report_json`.
TRTLLM = {
    "engine": {"model": "Qwen/Qwen3-32B", "dtype": "bfloat16", "quantization": "FP8"},
    "world_info": {"tp_size": 4, "pp_size": 1, "ep_size": None, "world_size": 4},
    "request_info": {
        "num_requests": 512,
        "avg_num_concurrent_requests": 30.5,
        "avg_input_length": 1024.0,
        "avg_output_length": 512.0,
    },
    "streaming_metrics": {"avg_ttft_ms": 300.0, "avg_tpot_ms": 13.9},
}
# genai-perf and aiperf, profile_export*.json.
AIPERF = {
    "inter_token_latency": {"unit": "ms", "avg": 13.9, "p50": 13.5, "p99": 18.0},
    "input_sequence_length": {"unit": "tokens", "avg": 1024.0},
    "output_sequence_length": {"unit": "tokens", "avg": 512.0},
    "input_config": {
        "endpoint": {"model_names": ["Qwen/Qwen3-32B"]},
        "loadgen": {"concurrency": 32},
    },
}
# llmperf, *_summary.json: seconds.
LLMPERF = {
    "model": "Qwen/Qwen3-32B",
    "mean_input_tokens": 1024,
    "mean_output_tokens": 512,
    "num_concurrent_requests": 32,
    "results_inter_token_latency_s_mean": 0.014459,  # of all tokens of a request, the first too
    "results_ttft_s_mean": 0.3,
    "results_end_to_end_latency_s_mean": 7.4029,
}
PLACE = {"hardware": "h200-sxm", "tp": 4}


# guidellm 0.5 to 0.8, benchmarks.json: `time_per_output_token` has the first token in it.
GUIDELLM = {
    "metadata": {"guidellm_version": "0.6.0"},
    "args": {"backend_kwargs": {"model": "Qwen/Qwen3-32B"}},
    "benchmarks": [
        {
            "type_": "generative_benchmark",
            "config": {"strategy": {"type_": "concurrent", "streams": 32}},
            "metrics": {
                "request_concurrency": {"successful": {"mean": 31.2}},
                "time_per_output_token_ms": {"successful": {"mean": 21.0}},
                "inter_token_latency_ms": {"successful": {"mean": 13.9}, "total": {"mean": 15.0}},
                "prompt_token_count": {"successful": {"total_sum": 512000, "count": 500}},
                "output_token_count": {"successful": {"mean": 512.0}},
            },
        }
    ],
}
# SGLang's genai-bench, a file for each scenario and concurrency, in seconds.
GENAI_BENCH = {
    "aggregated_metrics": {
        "scenario": "D(1024,512)",
        "num_concurrency": 32,
        "stats": {
            "tpot": {"min": 0.012, "max": 0.016, "mean": 0.0139},
            "num_input_tokens": {"mean": 1024.0},
            "num_output_tokens": {"mean": 512.0},
        },
    },
    "individual_request_metrics": [{"tpot": 0.0139, "num_input_tokens": 1024}],
}
# llama-benchy 0.4, results.py: the prompt follows a context, which a phase before it may have sent.
LLAMA_BENCHY = {
    "version": "0.4.0",
    "model": "Qwen/Qwen3-32B",
    "max_concurrency": 64,
    "benchmarks": [
        {
            "concurrency": 32,
            "context_size": context,
            "prompt_size": 1024 - context,
            "response_size": 512,
            "is_context_prefill_phase": is_before,
            "tg_throughput": {"mean": 2250.0, "std": 1.0, "values": [2250.0]},
            "tg_req_throughput": {"mean": rate, "std": 1.0, "values": [rate]},
        }
        for context, is_before, rate in ((0, True, 9.0), (768, False, 1000 / 13.9))
    ],
}
# aiperf 0.13, profile_export_aiperf.json: models and phases are lists.
AIPERF_13 = {
    "schema_version": "1.4",
    "inter_token_latency": {"unit": "ms", "avg": 13.9},
    "input_sequence_length": {"unit": "tokens", "avg": 1024.0},
    "output_sequence_length": {"unit": "tokens", "avg": 512.0},
    "input_config": {
        "models": {"items": [{"name": "Qwen/Qwen3-32B", "weight": 1.0}]},
        "phases": [{"name": "warmup"}, {"type": "concurrency", "concurrency": 32}],
    },
}
# Hugging Face's inference-benchmarker; the warm-up is no run.
BENCHMARKER = {
    "config": {"tokenizer": "Qwen/Qwen3-32B", "max_vus": 32},
    "results": [
        {"id": "warmup", "inter_token_latency_ms": {"avg": 99.0}},
        {
            "id": "throughput",
            "executor_type": "ConstantVUs",
            "config": {"max_vus": 32, "rate": None, "num_gpus": None},
            "inter_token_latency_ms": {"p50": 13.0, "avg": 13.9},
            "e2e_latency_ms": {"avg": 7400.0},
            "successful_requests": 500,
            "total_tokens": 256000,
            "total_tokens_sent": 512000,
            "request_rate": 4.3,
        },
    ],
}
# inference-perf, summary_lifecycle_metrics.json: seconds; 4 requests a second stay 8 seconds.
INFERENCE_PERF = {
    "load_summary": {"count": 500, "requested_rate": 4.2, "achieved_rate": 4.1},
    "successes": {
        "count": 500,
        "latency": {
            "request_latency": {"mean": 8.0},
            "normalized_time_per_output_token": {"mean": 0.0163},
            "time_per_output_token": {"mean": 0.0139},
            "time_to_first_token": {"mean": 0.9},
        },
        "throughput": {"requests_per_sec": 4.0},
        "prompt_len": {"mean": 1024.0},
        "output_len": {"mean": 512.0},
    },
}
# genai-perf, profile_export_genai_perf.csv, with thousands as it writes them, and a user's lines.
GENAI_PERF = """\
Metric,avg,min,max,p99,p95,p90,p75,p50,p25
Time To First Token (ms),"1,146.31",249.48,"3,485.23",3457,3349,3215,1330,640,286
Inter Token Latency (ms),13.90,12.1,15.2,15.1,15.0,14.9,14.2,13.8,13.1
Output Sequence Length (tokens),512.00,512,512,512,512,512,512,512,512
Input Sequence Length (tokens),"1,024.00","1,024.00",1024,1024,1024,1024,1024,1024,1024

Metric,Value
Output Token Throughput (per sec),261.25
Request Count (count),40.00
model,Qwen/Qwen3-32B
hardware,h200-sxm
tp,4
concurrency,32
"""


def as_lines(run):
    return "\n".join(json.dumps(one) for one in (run, run))


@pytest.mark.parametrize(
    ("text", "sequences"),
    [
        (json.dumps(VLLM | PLACE), 32),
        (json.dumps([VLLM | PLACE]), 32),
        (as_lines(VLLM | PLACE), 32),
        (json.dumps(SGLANG | {"gpu": "H200"}), 30.5),
        (as_lines(SGLANG | {"gpu": "H200"}), 30.5),
        (json.dumps(TRTLLM | {"hardware": "H200"}), 30.5),
        (json.dumps(AIPERF | PLACE), 32),
        (json.dumps(LLMPERF | PLACE), 32),
        (json.dumps(GUIDELLM | PLACE), 32),
        (json.dumps(LLAMA_BENCHY | PLACE), 32),
        (json.dumps(GENAI_BENCH | PLACE | {"model": "Qwen/Qwen3-32B"}), 32),
        (json.dumps(AIPERF_13 | PLACE), 32),
        (json.dumps(BENCHMARKER | PLACE), 32),
        (json.dumps(INFERENCE_PERF | PLACE | {"model": "Qwen/Qwen3-32B"}), 32),
    ],
)
def test_a_result_is_a_record(tmp_path, text, sequences):
    (tmp_path / "result.json").write_text(text)
    records = read_records(tmp_path / "result.json")
    assert len(records) == 1 + text.count("\n")
    record = records[0]
    assert "unusable" not in record
    scale = {"ms": 1e-3, "s": 1.0}[record["unit"]]
    assert (record["metric"], record["value"] * scale) == ("TPOT", pytest.approx(0.0139))
    point = deployment_of(record)
    assert (point.model_name, point.hardware_name) == ("qwen3-32b", "h200-sxm")
    assert (float(point.partition.tp), float(point.workload.batch)) == (4, sequences)
    assert (point.prompt, point.output) == (1024, 512)


# llm-d-benchmark, benchmark_report/br_v0_2_example.yaml; version 0.1 by a guide of llm-d.
_OF_LLM_D = {
    "latency": {
        "time_per_output_token": {"units": "s/token", "mean": 0.0139},
        "request_latency": {"units": "s", "mean": 8.0},
    },
    "requests": {"input_length": {"mean": 1024.0}, "output_length": {"mean": 512.0}},
}
LLM_D = {
    "version": "0.1",
    "scenario": {
        "load": {"args": {"server": {"model_name": "Qwen/Qwen3-32B"}}},
        "model": {"name": "unknown"},
    },
    "metrics": _OF_LLM_D | {"throughput": {"requests_per_sec": 4.0}},
}
LLM_D_2 = {
    "version": "0.2",
    "scenario": {"stack": [{"standardized": {"model": {"name": "Qwen/Qwen3-32B"}}}]},
    "results": {
        "request_performance": {
            "aggregate": _OF_LLM_D | {"throughput": {"request_rate": {"mean": 4.0}}}
        }
    },
}


# The same of `vllm bench serve`, which has milliseconds: 29,000 were in flight, or nobody knew.
IN_MS = [
    json.loads(
        json.dumps(one)
        .replace('"s/token", "mean": 0.0139', '"ms/token", "mean": 13.9')
        .replace('"s", "mean": 8.0', '"ms", "mean": 8000.0')
    )
    for one in (LLM_D, LLM_D_2)
]


@pytest.mark.parametrize("report", [LLM_D, LLM_D_2, *IN_MS])
def test_reports_of_llm_d_are_read_and_ask_for_the_gpus(tmp_path, report):
    """Its load goes to all replicas; 4 requests a second that take 8 s are 32 in flight."""
    (tmp_path / "report.yaml").write_text(yaml.safe_dump(report))
    with pytest.raises(ValueError, match="gpu is missing"):
        read_records(tmp_path / "report.yaml")
    told = {"hardware": "h200", "tp": "4", "gpus": "8"}
    (record,) = read_records(tmp_path / "report.yaml", told)
    assert (record["value"], record["unit"]) == (pytest.approx(0.0139), "s")
    point = deployment_of(record)
    assert (point.model_name, point.prompt, point.output) == ("qwen3-32b", 1024, 512)
    assert float(point.workload.batch) == 16


# InferenceX, utils/process_result.py: seconds without a unit, beside tokens per second and user.
INFERENCEX = {
    "hw": "h200",
    "tp": 8,
    "ep": 8,
    "conc": 64,
    "model": "deepseek-ai/DeepSeek-R1-0528",
    "framework": "sglang",
    "precision": "fp8",
    "isl": 1024,
    "osl": 8192,
    "mean_ttft": 0.6,
    "mean_tpot": 0.028,
    "mean_intvty": 35.71,
    "tput_per_gpu": 300.1,
}


@pytest.mark.parametrize(("told", "tp", "dp"), [("false", 8, 1), ("true", 1, 8)])
def test_inferencex_counts_gpus_as_tp_and_seconds(tmp_path, told, tp, dp):
    run = INFERENCEX | {"dp_attention": told}
    (tmp_path / "a.json").write_text(json.dumps([run]))
    rest = {k: v for k, v in run.items() if k not in ("mean_tpot", "mean_intvty", "mean_ttft")}
    row = rest | {"mean_tpot_ms": 28}
    lines = [",".join(map(str, part)) for part in (row, row.values())]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    for name in ("a.json", "a.csv"):
        (record,) = read_records(tmp_path / name)
        point = deployment_of(record)
        degrees = [float(getattr(point.partition, one)) for one in ("tp", "dp", "ep")]
        assert degrees == [tp, dp, 8]
        assert float(point.workload.batch) * dp == 64
        assert record["value"] * {"ms": 1e-3, "s": 1.0}[record["unit"]] == pytest.approx(0.028)


@pytest.mark.parametrize(
    ("told", "dp", "batch", "steps"),
    [
        ({"tp": 2, "gpus": 8, "batch": 8}, 4, 8, 1),
        ({"tp": 8, "conc": 64, "dp_attn": "true"}, 8, 8, 1),
        ({"tp": 8, "conc": 64, "spec_decoding": "NGRAM"}, 1, 64, 2),
        ({"tp": 8, "conc": 64, "mean_accept_length": 2.5}, 1, 64, 3),
        ({"tp": 8, "conc": 64, "request_rate": 1, "mean_e2el_ms": 8000}, 1, 64, 1),
        ({"tp": 8, "max_concurrency": 64, "request_rate": 1, "mean_e2el_ms": 8000}, 1, 8, 1),
    ],
)
def test_a_run_means_the_same_in_json_and_in_csv(tmp_path, told, dp, batch, steps):
    """JSON lost replicas that follow from `gpus`, other names of columns, and n-grams."""
    run = {"model": "qwen3-32b", "hardware": "H200", "isl": 1024, "osl": 512, "tpot_ms": 15} | told
    (tmp_path / "a.json").write_text(json.dumps([run]))
    lines = [",".join(map(str, part)) for part in (run, run.values())]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    for name in ("a.json", "a.csv"):
        one = deployment_of(read_records(tmp_path / name)[0])
        found = one.partition.dp, one.workload.batch, one.workload.query_tokens
        assert tuple(map(float, found)) == (dp, batch, steps)


@pytest.mark.parametrize(("dp", "degrees"), [(8, (1, 8, 8)), (2, (4, 2, 8)), (1, (8, 1, 8))])
def test_sglang_s_replicas_of_attention_share_its_tp(tmp_path, dp, degrees):
    """They were taken to have as many GPUs each, 64 in all."""
    server = {"model_path": "deepseek-ai/DeepSeek-R1", "tp_size": 8, "dp_size": dp, "ep_size": 8}
    run = SGLANG | {"gpu": "H200", "server_info": server | {"enable_dp_attention": True}}
    (tmp_path / "a.json").write_text(json.dumps(run))
    point = deployment_of(read_records(tmp_path / "a.json")[0])
    assert tuple(float(getattr(point.partition, name)) for name in ("tp", "dp", "ep")) == degrees
    assert float(point.workload.batch) * dp == 30.5


@pytest.mark.parametrize("name", ["dcp_size", "decode_context_parallel_size"])
def test_context_parallelism_of_engines_is_within_tp(tmp_path, name):
    """8 GPUs were 64: vLLM and SGLang share those of tp."""
    run = SGLANG | {"hardware": "H200", "model": "deepseek-v3", "tp_size": 8, name: 4}
    (tmp_path / "a.json").write_text(json.dumps(run))
    (tmp_path / "a.csv").write_text(
        f"model,hardware,tp,{name},concurrency,isl,osl,tpot_ms\ndeepseek-v3,H200,8,4,8,9,9,9\n"
    )
    for file in ("a.json", "a.csv"):
        split = deployment_of(read_records(tmp_path / file)[0]).partition
        assert (split.tp, split.kvp, split.dp) == (2, 4, 1)


def test_drafts_that_a_run_tells_are_served_too(tmp_path):
    """SGLang's `accept_length`, of 4 tokens that each step runs; InferenceX names the drafter."""
    server = SGLANG["server_info"] | {"speculative_num_draft_tokens": 4}
    run = SGLANG | {"gpu": "H200", "accept_length": 2.7, "server_info": server}
    (tmp_path / "a.json").write_text(json.dumps(run))
    work = deployment_of(read_records(tmp_path / "a.json")[0]).workload
    assert (float(work.query_tokens), float(work.tokens_per_step)) == (4, 2.7)
    # vLLM's, of all steps, in its file and as it prints them
    told = {"acceptance_length": 2.7, "num_drafts": 100, "draft_tokens": 300}
    run = VLLM | PLACE | {f"spec_decode_{name}": value for name, value in told.items()}
    (tmp_path / "a.json").write_text(json.dumps(run))
    said = {"Acceptance length": 2.7, "Drafts": 100, "Draft tokens": 300, "model": "qwen3-32b"}
    lines = "".join(f"{name}: {value}\n" for name, value in (said | PLACE).items())
    (tmp_path / "a.txt").write_text(PRINTED + lines)
    for path in ("a.json", "a.txt"):
        work = deployment_of(read_records(tmp_path / path)[0]).workload
        assert (float(work.query_tokens), float(work.tokens_per_step)) == (4, 2.7)
    serve = 'vllm serve Qwen/Qwen3-32B -tp 4 \\\n --speculative-config \'{"method": "mtp"}\'\n'
    (tmp_path / "a.txt").write_text(serve + PRINTED + "model: qwen3-32b\nhardware: H200\ntp: 4\n")
    assert read_records(tmp_path / "a.txt")[0]["phase"] == "aggregated MTP"
    own = {"model": "qwen3-32b", "hardware": "H200", "tp": "4"}
    (tmp_path / "a.txt").write_text(with_facts(f"vllm serve m, then:\n{PRINTED}", own))
    assert read_records(tmp_path / "a.txt")[0]["phase"] == "aggregated"
    both = f"{serve}{PRINTED}vllm serve Qwen/Qwen3-32B -tp 4\n{PRINTED}"
    (tmp_path / "a.txt").write_text(both + "model: qwen3-32b\nhardware: H200\ntp: 4\n")
    assert [one["phase"] for one in read_records(tmp_path / "a.txt")] == [
        "aggregated MTP",
        "aggregated",
    ]
    # aiperf's, in the mean of its requests, and trtllm-bench's, which says no number of drafts
    names = ("acceptance_length", "steps", "draft_tokens")
    means = zip(names, (2.7, 100.0, 300.0), strict=True)
    told = {f"spec_decode_{name}": {"unit": "ratio", "avg": value} for name, value in means}
    for one in (AIPERF, AIPERF_13):
        (tmp_path / "a.json").write_text(json.dumps(one | PLACE | told))
        work = deployment_of(read_records(tmp_path / "a.json")[0]).workload
        assert (float(work.query_tokens), float(work.tokens_per_step)) == (4, 2.7)
    told = {"acceptance_length_percentiles": {"average": 2.7, "p50": 2.5}}
    (tmp_path / "a.json").write_text(json.dumps(TRTLLM | PLACE | {"decoding_stats": told}))
    work = deployment_of(read_records(tmp_path / "a.json")[0]).workload
    assert (float(work.query_tokens), float(work.tokens_per_step)) == (3, 2.7)  # 2 cannot be
    (tmp_path / "a.json").write_text(json.dumps([INFERENCEX | {"spec_decoding": "mtp"}]))
    assert read_records(tmp_path / "a.json")[0]["phase"] == "aggregated MTP"
    (tmp_path / "a.json").write_text(json.dumps([INFERENCEX | {"spec_decoding": "none"}]))
    assert read_records(tmp_path / "a.json")[0]["phase"] == "aggregated"


@pytest.mark.parametrize(("ratio", "length"), [(1.0, 1.0), (0.5, None), (None, None)])
def test_requests_of_one_length_are_told_by_the_ratio_of_a_run(tmp_path, ratio, length):
    run = SGLANG | {"gpu": "H200", "random_range_ratio": ratio}
    (tmp_path / "a.json").write_text(json.dumps(run))
    assert facts(read_records(tmp_path / "a.json")[0]).get("length_ratio") == length


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        # The longest request that SGLang takes was the mean context of all.
        ({"server_info": SGLANG["server_info"] | {"context_length": 131072}}, {"context": 1280}),
        ({"context_len": 131072}, {"context": 1280}),
        # What an engine computes in says nothing of a checkpoint of fewer bits.
        ({"model": "deepseek-ai/DeepSeek-R1", "dtype": "bfloat16"}, {"bytes_ffn_weight": 1.0}),
        ({"model": "Qwen/Qwen3-32B-AWQ", "dtype": "float16"}, {"bytes_ffn_weight": 0.52}),
        ({"model": "Qwen/Qwen3-32B-AWQ", "weights": "bf16"}, {"bytes_ffn_weight": 2.0}),
        ({"dtype": "fp8"}, {"bytes_ffn_weight": 1.0}),
        # Hits of the prefix cache, as shares, percents and sums: vllm-project/vllm #46938 and
        # #51155, SGLang's bench_serving, NVIDIA's aiperf.
        ({"cache_hit_rate": 0.75}, {"cached_tokens": 768}),
        ({"prefix_cache_hit_rate": 75.0}, {"cached_tokens": 768}),
        ({"cache_hit_pct": 0.5}, {"cached_tokens": 5.12}),
        ({"total_cached_tokens": 64000}, {"cached_tokens": 256}),
        ({"cache_hit_rate": 0.0}, {"cached_tokens": 0}),
        ({"cache_hit_rate": 0.5, "random_input_len": 9}, {"cached_tokens": 512}),
        ({"cache_hit": False}, {"context": 1280}),
        # Limits of the server, under the names of its flags.
        ({"max_num_seqs": 8}, {"max_sequences": 8}),
        ({"max_running_requests": 8, "mem_fraction_static": 0.8}, {"static_fraction": 0.8}),
        ({"gpu_memory_utilization": 0.95}, {"memory_utilisation": 0.95}),
    ],
)
def test_what_a_server_says_of_itself_in_a_result(tmp_path, change, wanted):
    run = SGLANG | {"hardware": "H200", "tp": 8} | change
    (tmp_path / "a.json").write_text(json.dumps(run))
    (record,) = read_records(tmp_path / "a.json")
    point, known = deployment_of(record), facts(record)
    for name, value in wanted.items():
        got = known[name] if name in known else float(getattr(point.workload, name))
        assert got == pytest.approx(value), name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        # sgl-project/sglang #12389: without a stream the time per token was the whole request's.
        ({"mean_ttft_ms": 0.0, "mean_itl_ms": 0.0}, "not streamed.*has the first token in it"),
        ({"server_info": {"device": "cuda", "tp_size": 4}, "model": "m"}, "gpu is missing; add"),
    ],
)
def test_what_a_result_does_not_say_is_told(tmp_path, change, why):
    run = SGLANG | ({} if "device" in str(change) else {"hardware": "H200"}) | change
    (tmp_path / "a.json").write_text(json.dumps(run))
    with pytest.raises(ValueError, match=why):
        read_records(tmp_path / "a.json")


def test_a_distribution_without_a_mean_is_of_its_median(tmp_path):
    """The whole distribution was the value, which was "not one number"."""
    run = {**PLACE, "model": "qwen3-32b", "concurrency": 8, "isl": 1024, "osl": 512}
    (tmp_path / "a.json").write_text(json.dumps(run | {"tpot_ms": {"p50": 8.8, "p99": 14.0}}))
    (record,) = read_records(tmp_path / "a.json")
    assert (record["value"], record["unit"], record["statistic"]) == (8.8, "ms", "median")
    (tmp_path / "a.json").write_text(json.dumps(run | {"tpot_ms": {"p99": 14.0}}))
    with pytest.raises(ValueError, match="a time per token is missing"):
        read_records(tmp_path / "a.json")


def test_a_time_whose_unit_nothing_tells_is_no_value(tmp_path):
    run = {k: v for k, v in INFERENCEX.items() if k != "mean_intvty"}
    (tmp_path / "a.json").write_text(json.dumps([run]))
    with pytest.raises(
        ValueError, match="mean_tpot has no unit; call it mean_tpot_ms or mean_tpot_s"
    ):
        read_records(tmp_path / "a.json")
    # That of another time of the file tells it.
    (tmp_path / "a.json").write_text(
        json.dumps(run | {"median_tpot": 0.025, "median_intvty": 40.0})
    )
    assert read_records(tmp_path / "a.json")[0]["unit"] == "s"


def test_numbers_as_texts_and_none_at_all(tmp_path):
    run = VLLM | PLACE | {"mean_tpot_ms": "13.9", "completed": "250", "tp": "4"}
    (tmp_path / "a.json").write_text(json.dumps([run, run | {"mean_tpot_ms": float("nan")}]))
    first, second = read_records(tmp_path / "a.json")
    assert (first["value"], first["isl"], first["tp"]) == (13.9, 1024, 4)
    assert second["unusable"] == "value nan is not a time; give milliseconds above 0"


def test_a_result_says_where_its_accelerator_is_written(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(VLLM))
    with pytest.raises(ValueError, match=r"gpu is missing; add \"hardware\".*--metadata hardware="):
        read_records(tmp_path / "a.json")


# Headings of sweeps that people write from these results, and a row of each.
SWEEPS = [
    (
        "isl,osl,concurrency,num_prompts,req_per_s,output_tok_s,total_tok_s,mean_e2e_ms,"
        "mean_ttft_ms,mean_tpot_ms,median_tpot_ms,p99_tpot_ms,mean_itl_ms,duration_s,success_count",
        "1024,512,64,640,5,2500,7500,9000,400,16.5,16.4,19,16.6,100,640",
    ),
    (
        "input,output,mc,rps,QPM,per_stream_decode_tok_s,p95_ttft_ms,Mean TPOT (ms),"
        "Median ITL (ms),Benchmark Duration (s),Total Generated Tokens,Request Throughput (req/s)",
        "1024,512,64,5,300,71,600,16.5,15,100,327680,5",
    ),
    (
        "input_len,output_len,parallel,ttft_mean_ms,tpot_p99_ms,itl_p99_ms,e2el_mean_ms,"
        "tpot_mean_ms,tpot_p50_ms,std_tpot_ms,tput_per_gpu,output_throughput,commit,image,config",
        "1024,512,64,400,19,40,9000,16.5,16.4,1,700,2500,x,y,z",
    ),
    (
        "Mean Input Tokens,Mean Output Tokens,Concurrent Requests,Completed Requests,Run ID,status,"
        "Mean End to End Latency (s),P95 Inter Token Latency (ms),Mean Inter Token Latency (ms),"
        "itl_med,gpu_power_mean_w,gpu_util_p95_pct,mem_used_max_mb,error_rate,ok_reqs,p99_ms",
        "1024,512,64,640,r1,ok,9.1,19,16.5,16.4,450,99,80000,0,640,9",
    ),
    ("Avg Input,Generated Tokens,Virtual Users,TBT (ms)", "1024,512,64,16.5"),
    # `vllm bench sweep serve`, summary.csv
    (
        "_benchmark_name,max_concurrency,random_input_len,random_output_len,mean_tpot_ms,run_number",
        "serve,64,1024,512,16.5,0",
    ),
    ("Prompt Length,Max New Tokens,Parallel Requests,Latency per Token [ms]", "1024,512,64,16.5"),
    ("ISL,OSL,C,decode ms/token,ITL%", "1024,512,64,16.5,-3"),
]


@pytest.mark.parametrize(("heading", "cells"), SWEEPS)
def test_headings_of_sweeps(tmp_path, heading, cells):
    """Of several times the mean holds; rates and first tokens are not of the deployment."""
    text = f"model,hardware,tp,{heading}\nQwen/Qwen3-32B,h200-sxm,4,{cells}\n"
    (tmp_path / "a.csv").write_text(text)
    (record,) = read_records(tmp_path / "a.csv")
    assert (record["value"], record["metric"], record["unit"]) == (16.5, "TPOT", "ms")
    assert (record["isl"], record["osl"], record["concurrency"]) == (1024, 512, 64)


def test_lengths_of_prompts_and_completions(tmp_path):
    text = "model,gpu,tp,users,avg_prompt_tokens,avg_completion_tokens,tpot_ms\nm,h,1,4,512,64,9\n"
    (tmp_path / "a.csv").write_text(text)
    (record,) = read_records(tmp_path / "a.csv")
    assert (record["isl"], record["osl"]) == (512, 64)


def test_thousands_with_a_part_behind_the_point(tmp_path):
    """1,524.16 was refused; 1,524 may still be 1.524."""
    text = "model: m\ngpu: h\ntp: 1\nisl: 9\nosl: 9\n| users | TPOT (ms) |\n|---|---|\n| 8 | {} |\n"
    (tmp_path / "a.md").write_text(text.format("1,524.16"))
    assert read_records(tmp_path / "a.md")[0]["value"] == 1524.16
    (tmp_path / "a.md").write_text(text.format("1,524"))
    with pytest.raises(ValueError, match=r"it may be 1\.524"):
        read_records(tmp_path / "a.md")


@pytest.mark.parametrize(("length", "tokens"), [(2.7, 2.7), (-1.0, 1.0)])
def test_tokens_of_a_step_of_a_fixed_batch(tmp_path, length, tokens):
    """`acc_length` of SGLang's bench_one_batch_server was read over; -1 says that there is none."""
    run = ONE_BATCH_SERVER | PLACE | {"model": "qwen3-32b", "acc_length": length}
    (tmp_path / "a.jsonl").write_text(json.dumps(run))
    (record,) = read_records(tmp_path / "a.jsonl")
    assert float(deployment_of(record).workload.tokens_per_step) == tokens


def test_lengths_in_k(tmp_path):
    text = "model,hardware,tp,isl,osl,concurrency,tpot_ms\nqwen3-8b,h100,1,8k,1K,32,16.5\n"
    (tmp_path / "a.csv").write_text(text)
    (record,) = read_records(tmp_path / "a.csv")
    assert (record["isl"], record["osl"]) == (8192, 1024)


LLMPERF_ROW = {x: str(y) for x, y in LLMPERF.items()} | {"hardware": "h200", "tp": "4"}


def test_what_llmperf_calls_a_time_between_tokens_has_the_first_in_it(tmp_path):
    """Its client appends the time to first token to those that it sums: 4 % more here, 16 % more at
    150 tokens. The lengths that it asks for are not those that it had, either."""
    had = {"results_number_input_tokens_mean": "990", "results_number_output_tokens_mean": "474.5"}
    for name, more, tpot, lengths in (
        ("a", {}, 0.0139, (1024, 512)),
        ("b", had, 0.0150, (990, 474.5)),
    ):
        row = LLMPERF_ROW | more
        (tmp_path / f"{name}.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
        for kind in ("csv", "json"):
            (record,) = read_records(tmp_path / f"{name}.{kind}")
            assert (record["value"], record["unit"]) == (pytest.approx(tpot, rel=1e-3), "s")
            assert tuple(map(float, (record["isl"], record["osl"]))) == lengths
    for kind in ("csv", "json"):
        bare = {x: y for x, y in LLMPERF_ROW.items() if "end_to_end" not in x}
        text = (
            json.dumps(bare) if kind == "json" else f"{','.join(bare)}\n{','.join(bare.values())}"
        )
        (tmp_path / f"c.{kind}").write_text(text)
        with pytest.raises(ValueError, match=r"has the first in it; give results_end_to_end_laten"):
            read_records(tmp_path / f"c.{kind}")


@pytest.mark.parametrize(
    "told",
    [
        {"tpot_ms": {"p50": 9.5, "p99": 12}},
        {"time_per_output_token_ms": {"median": 9.5, "p95": 11}},
        {"inter_token_latency": {"unit": "ms", "p50": 9.5}},
    ],
)
def test_a_distribution_without_a_mean_has_its_median(tmp_path, told):
    """Its dictionary was the value of the record, and the run had no prompts in it."""
    run = {"model": "qwen3-32b", "hardware": "H200", "tp": 4, "concurrency": 8, "isl": 9, "osl": 9}
    (tmp_path / "a.json").write_text(json.dumps(run | told))
    (record,) = read_records(tmp_path / "a.json")
    assert (record["value"], record["unit"], record["phase"]) == (9.5, "ms", "aggregated")
    assert record["statistic"] == "median"
    (tmp_path / "a.json").write_text(json.dumps(run | {"tpot_ms": {"p95": 9.5}}))
    with pytest.raises(ValueError, match="a time per token is missing; give tpot_ms"):
        read_records(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["ctx", "kv_len"])
def test_a_context_beyond_the_lengths_is_a_limit(tmp_path, name):
    """What the server allows counted as the context of each step: 24,576 tokens, not 1,536."""
    row = {"model": "qwen3-32b", "hardware": "h200", "tp": 4, "concurrency": 8, "isl": 1024}
    row |= {"osl": 1024, name: 24576, "mean_tpot_ms": 9.5}
    (tmp_path / "a.json").write_text(json.dumps(row))
    (tmp_path / "a.csv").write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    for kind in ("csv", "json"):
        (record,) = read_records(tmp_path / f"a.{kind}")
        assert float(deployment_of(record).workload.context) == 1536
        (tmp_path / f"a.{kind}").write_text(
            (tmp_path / f"a.{kind}").read_text().replace("24576", "2000")
        )
        assert (
            float(deployment_of(read_records(tmp_path / f"a.{kind}")[0]).workload.context) == 2000
        )


def test_a_column_that_changes_the_meaning_is_still_refused(tmp_path):
    text = "model,hardware,tp,isl,osl,concurrency,mean_tpot_ms,lora_rank\nm,h,1,1,1,1,1,16\n"
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match="unknown column 'lora_rank'"):
        read_records(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("model", "bits"),
    [
        ("deepseek-ai/DeepSeek-R1-0528", 8),
        ("Qwen/Qwen3-32B", 16),
        ("Qwen/Qwen3-32B-AWQ", 4.16),
        ("openai/gpt-oss-120b", 4.25),
        ("nvidia/DeepSeek-R1-0528-FP4-v2", 4.5),
    ],
)
def test_a_user_s_weights_are_those_of_the_checkpoint(tmp_path, model, bits):
    """DeepSeek-R1 was taken to have 16 bits where a file did not say how many."""
    run = VLLM | {"model_id": model, "hardware": "b200-sxm", "tp": 1}
    (tmp_path / "a.json").write_text(json.dumps(run))
    (record,) = read_records(tmp_path / "a.json")
    stored = float(deployment_of(record).workload.bytes_ffn_weight)
    # MXFP4 of gpt-oss is padded by kernels.
    assert stored * 8 == pytest.approx(bits, rel=0.15 if "oss" in model else 1e-3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_report_of_a_metric_a_line(tmp_path, encoding):
    """Commas are thousands, also beside a point; lines of two cells are a user's."""
    (tmp_path / "a.csv").write_bytes(GENAI_PERF.replace("\n", "\r\n").encode(encoding))
    (record,) = read_records(tmp_path / "a.csv")
    assert (record["value"], record["metric"], record["unit"]) == (13.9, "TPOT", "ms")
    point = deployment_of(record)
    assert (point.prompt, point.output, float(point.workload.batch)) == (1024, 512, 32)
    assert (point.model_name, float(point.partition.tp)) == ("qwen3-32b", 4)


# As `vllm bench serve` prints it, cut: vllm-project/recipes, NVIDIA/Nemotron-3-Nano-30B-A3B.md.
PRINTED = """\
============ Serving Benchmark Result ============
Successful requests:                     500
Failed requests:                         0
Maximum request concurrency:             32
Benchmark duration (s):                  132.49
Total input tokens:                      512000
Total generated tokens:                  256000
Request throughput (req/s):              15.46
---------------Time to First Token----------------
Mean TTFT (ms):                          4490.58
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          13.90
P99 TPOT (ms):                           63.01
---------------Inter-token Latency----------------
Mean ITL (ms):                           15.10
==================================================
"""


def test_what_a_benchmark_prints(tmp_path):
    (tmp_path / "a.txt").write_text(PRINTED + "model: Qwen/Qwen3-32B\nhardware: H200\ntp: 4\n")
    (record,) = read_records(tmp_path / "a.txt")
    assert (record["value"], record["metric"], record["unit"]) == (13.9, "TPOT", "ms")
    point = deployment_of(record)
    assert (point.prompt, point.output, float(point.workload.batch)) == (1024, 512, 32)
    assert (point.model_name, float(point.partition.tp)) == ("qwen3-32b", 4)
    (tmp_path / "a.txt").write_text(PRINTED)
    with pytest.raises(ValueError, match=r"without model, hardware, tp; add a line .*`tp: \.\.\.`"):
        read_records(tmp_path / "a.txt")


# Lines of a printed result with what terminals, chats and collectors of logs add, and commands.
SERVED = "vllm serve Qwen/Qwen3-32B \\\n  --tensor-parallel-size 4 --kv-cache-dtype fp8\n"
BOTH_SERVED = (
    f"vllm serve Qwen/Qwen3-8B -tp 2\n{PRINTED}\n"
    f"python3 -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --dp 8 "
    f"--enable-dp-attention --max-running-requests 64\n{PRINTED}"
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # Docker, GitHub and MPI set something in front of each line.
        *(
            (
                "".join(
                    front.format(i % 10) + line for i, line in enumerate(PRINTED.splitlines(True))
                ),
                {},
            )
            for front in ("bench-1  | ", "2026-04-17T10:00:0{}.1Z ", "[1,0]<stdout>:", "> ")
        ),
        # vllm-project/vllm #31826: marks behind numbers; the median was taken for the mean.
        (PRINTED.replace("13.90", "13.90   <===== was 15.00").replace("P99 T", "Median T"), {}),
        (PRINTED.replace("13.90", "13.90 (-7.3%)").replace("P99 T", "Median T"), {}),
        # ovg-project/kvcached #136: a rate with its unit; the cap was how many ran.
        (
            "Traffic request rate: 1.0 RPS.\n" + PRINTED.replace(" 15.46", " 0.98"),
            {"concurrency": pytest.approx(0.98 * (4.49058 + 511 * 0.0139))},
        ),
        (PRINTED.replace("Mean TTFT", "Cache Hit Rate: 75.0%\nMean TTFT"), {"cached_tokens": 768}),
        (PRINTED.replace("Maximum request", "Max reqeuest"), {}),  # SGLang before 0.4.2
        # vllm-project/vllm #46938 and #51155.
        (
            PRINTED.replace("Mean TTFT", "Prefix cache hit rate (%): 75.00\nMean TTFT"),
            {"cached_tokens": 768},
        ),
        (
            PRINTED.replace("Total gen", "Total cached tokens: 384000\nTotal gen"),
            {"cached_tokens": 768},
        ),
        # The command of the server, which had to be said again, or was not heard.
        (SERVED + PRINTED, {"tp": 4, "kv_dtype": "fp8", "engine": "vllm"}),
        (SERVED.replace("fp8", "fp8 --max-num-seqs 8 -dp 2") + PRINTED, {"tp": 4, "dp": 2}),
    ],
)
def test_a_printed_result_as_people_keep_it(tmp_path, text, wanted):
    own = "hardware: H200\n" + ("" if "serve" in text else "model: qwen3-32b\ntp: 4\n")
    (tmp_path / "a.txt").write_text(text + own)
    (record,) = read_records(tmp_path / "a.txt")
    wanted = {"value": 13.9, "metric": "TPOT", "isl": 1024, "osl": 512, "concurrency": 32} | wanted
    assert {name: record.get(name) for name in wanted} == wanted
    assert deployment_of(record).model_name == "qwen3-32b"


def test_printed_results_of_several_servers(tmp_path):
    """Each was of the first model."""
    (tmp_path / "a.txt").write_text(f"{BOTH_SERVED}\nhardware: H200\n")
    first, second = map(deployment_of, read_records(tmp_path / "a.txt"))
    assert (first.model_name, second.model_name) == ("qwen3-8b", "deepseek-v3")
    assert (first.partition.tp, second.partition.tp, second.partition.dp) == (2, 1, 8)
    commands = [
        f"vllm bench serve --model Qwen/{name}\n{PRINTED}" for name in ("Qwen3-8B", "Qwen3-32B")
    ]
    (tmp_path / "a.txt").write_text("hardware: H200\ntp: 4\n" + "".join(commands))
    assert [x["model"] for x in read_records(tmp_path / "a.txt")] == [
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-32B",
    ]


def test_a_told_split_that_is_not_that_of_a_server_in_front_is_told(tmp_path):
    """All results of a document had it in silence."""
    text = "".join(
        f"vllm serve Qwen/Qwen3-32B -tp {tp} --max-num-seqs 2048\n{PRINTED}" for tp in (8, 2)
    )
    (tmp_path / "a.md").write_text(text)
    first, second = read_records(tmp_path / "a.md", {"hardware": "H200"})
    assert (first["tp"], second["tp"]) == (8, 2)
    with pytest.warns(UserWarning, match=r"^tp=1 is taken, though .* server says tp=[82]$") as told:
        records = read_records(tmp_path / "a.md", {"hardware": "H200", "tp": "1"})
    assert [one["tp"] for one in records] == [1, 1]
    assert [str(one.message)[-4:] for one in told] == ["tp=8", "tp=2"]


def test_a_line_that_leaves_the_split_open_is_that_of_the_server(tmp_path):
    """`tp: auto` ended in "Unknown format code 'g' for object of type 'str'"."""
    (tmp_path / "a.md").write_text(f"vllm serve Qwen/Qwen3-32B -tp 8\ntp: auto\n{PRINTED}")
    (record,) = read_records(tmp_path / "a.md", {"hardware": "H200"})
    assert record["tp"] == 8


def test_names_in_bold_above_a_printed_result(tmp_path):
    """It was refused as one without model and hardware."""
    bold = "- **Model:** Qwen/Qwen3-32B\n* **Hardware:** 4x H200\n- TP: 4\n\n"
    (tmp_path / "a.md").write_text(bold + PRINTED)
    (record,) = read_records(tmp_path / "a.md")
    point = deployment_of(record)
    assert (point.model_name, point.hardware_name) == ("qwen3-32b", "h200-sxm")
    assert (float(point.partition.tp), point.output) == (4, 512)


def test_rates_that_trtllm_bench_prints_say_lengths_and_load(tmp_path):
    """Older releases print no details of requests; of 22,153.54 tokens/s half are output."""
    text = (
        "TP Size:                1\n= PERFORMANCE OVERVIEW\n"
        "Request Throughput (req/sec):                     86.5373\n"
        "Total Output Throughput (tokens/sec):             11076.7700\n"
        "Total Token Throughput (tokens/sec):              22153.5399\n"
        "Average request latency (ms):                     1093.2284\n"
        "Average time-per-output-token [TPOT] (ms): 7.3272\n"
    )
    (tmp_path / "a.txt").write_text(text)
    (record,) = read_records(tmp_path / "a.txt", {"model": "llama-3.1-8b", "hardware": "h100"})
    point = deployment_of(record)
    assert (point.prompt, point.output) == (pytest.approx(128, 1e-3), pytest.approx(128, 1e-3))
    assert float(point.workload.batch) == pytest.approx(86.5373 * 1.0932284)


def test_several_printed_results(tmp_path):
    """vLLM's run-performance-benchmarks.sh prints one for each rate; lines in between are of the
    next. Without a limit Little's law says how many were in flight."""
    rate = "qps 4:\n" + PRINTED.replace("Maximum request concurrency:             32\n", "")
    rate = (
        rate.replace("13.90", "15.90")
        .replace(
            "=" * 50 + "\n", "Mean E2EL (ms):                          2000.00\n" + "=" * 50 + "\n"
        )
        .replace("= Serving", "=" * 12 + " Serving")
    )
    (tmp_path / "a.txt").write_text(PRINTED + rate + "model: qwen3-32b\nhardware: H200\ntp: 4\n")
    first, second = read_records(tmp_path / "a.txt")
    assert (first["value"], first["concurrency"]) == (13.9, 32)
    assert (second["value"], second["concurrency"]) == (15.9, pytest.approx(30.92))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (PRINTED, {"model": "qwen3-32b", "hardware": "H200", "tp": "4"}),
        (
            "# ".join(f"\n{PRINTED}".splitlines(True)),
            {"model": "qwen3-32b", "hardware": "H200", "tp": "4"},
        ),
        # The command stands in front.
        (
            f"$ vllm bench serve --model Qwen/Qwen3-32B --num-prompts 9\n{PRINTED}",
            {"hardware": "H200", "tp": "4"},
        ),
        (
            json.dumps({"mean_tpot_ms": 13.9, "max_concurrency": 32, "model_id": "qwen3-32b"}),
            {"hardware": "H200", "tp": "4", "isl": "1024", "osl": "512"},
        ),
        (
            "concurrency;isl;osl;tpot_ms\n32;1024;512;13.9\n",
            {"model": "qwen3-32b", "hardware": "H200", "tp": "4"},
        ),
        # A comma of the command or of a fact is none between cells, nor has a row to be full.
        (
            "# ours\nconcurrency,isl,osl,tpot_ms,notes\n32,1024,512,13.9\n",
            {"model": "qwen3-32b", "hardware": "H200", "tp": "4", "engine": "vLLM, patched"},
        ),
        (
            "| concurrency | input tokens | output tokens | Output tokens/s | TPOT (ms) |\n"
            "|---|---|---|---|---|\n| 32 | 1024 | 512 | 2302 | 13.9 |\n",
            {"model": "qwen3-32b", "hardware": "H200", "tp": "4"},
        ),
    ],
)
def test_what_a_file_does_not_say_stands_behind_it(tmp_path, text, told):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=r"hardware"):
        read_records(tmp_path / "a.txt")
    (record,) = read_records(tmp_path / "a.txt", told)
    found = deployment_of(record)
    assert (found.model_name, found.hardware_name) == ("qwen3-32b", "h200-sxm")
    assert (found.partition.tp, found.workload.batch, found.output) == (4, 32, 512)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"mean_tpot_ms": 13.9, "max_concurrency": 32, "input_len": 1024, "osl": 512}),
        json.dumps([VLLM | {"model_id": "m", "max_concurrency": 32}]),
        PRINTED,
        "max_concurrency,isl,osl,mean TPOT (ms)\n32,1024,512,13.9\n",
    ],
)
def test_what_a_file_says_is_not_what_stands_behind_it(tmp_path, text):
    """Every run was one of 8 at once, and of 1,000 tokens."""
    (tmp_path / "a.txt").write_text(text)
    told = {"model": "qwen3-32b", "hardware": "H200", "tp": "4", "concurrency": "8", "isl": "1k"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (record,) = read_records(tmp_path / "a.txt", told)
    assert float(deployment_of(record).workload.batch) == 32
    is_told = any("itself, 32: concurrency=8 is not taken" in str(one.message) for one in said)
    assert is_told or text.startswith("max")


def test_tokens_of_a_step_in_a_table(tmp_path):
    """A column of them was read over, and rows with drafts were predicted without."""
    (tmp_path / "a.md").write_text(
        "model: qwen3-32b\nhardware: H200\ntp: 4\n\n"
        "| 并发 | 输入 | 输出 | med TPOT (ms) | Accept length |\n|---|---|---|---|---|\n"
        "| 8 | 3.5K | 1K | 9.9 | — |\n| 8 | 3.5K | 1K | 4.7 | 3.16 |\n"
    )
    plain, drafted = (deployment_of(one) for one in read_records(tmp_path / "a.md"))
    assert (plain.prompt, plain.output, plain.workload.batch) == (3584, 1024, 8)
    assert (plain.workload.tokens_per_step, drafted.workload.tokens_per_step) == (1, 3.16)
    assert float(drafted.workload.query_tokens) > 1


DRAFTED = 'vllm serve m --speculative-config \'{"method": "mtp"}\'\n'
DRAFTS = "model: qwen3-32b\nhardware: H200\ntp: 4\n{}\n| isl | osl | concurrency | {} |\n"


@pytest.mark.parametrize(
    ("server", "column", "row", "phase"),
    [
        ("", "TPOT (ms) | MTP", "9 | off", "aggregated"),
        ("", "TPOT (ms) | MTP", "9 | on", "aggregated MTP"),
        ("", "TPOT (ms) | speculative_algorithm", "9 | EAGLE3", "aggregated EAGLE"),
        ("", "TPOT (ms) | spec_decoding", "9 | none", "aggregated"),
        (DRAFTED, "TPOT (ms)", "9", "aggregated MTP"),
        ("sglang serve m\n", "TPOT (ms)", "9", "aggregated"),
        ("", "ITL (ms) | MTP", "9 | off", "aggregated"),
        (DRAFTED, "ITL (ms)", "9", "may be that of a step, which yields several tokens; give TPOT"),
        ("", "ITL (ms) | accept_length", "9 | 2.4", "several tokens; give TPOT"),
        (f"{DRAFTED}vllm serve m\n", "TPOT (ms)", "9", "some of its servers have drafts"),
        # vllm-project/recipes #923: a row's own name, and its change behind the time.
        ("", "Mean TPOT | Config", "14.3 ms (+32%) | + MTP", "aggregated MTP"),
        ("", "Mean TPOT | Config", "10.8 ms | Baseline, no MTP", "aggregated"),
    ],
)
def test_drafts_that_a_table_tells(tmp_path, server, column, row, phase):
    """They were read over: rows were predicted without drafts, some 100 % too slow."""
    table = DRAFTS.format(server, column) + f"|---|---|---|---|\n| 1024 | 512 | 8 | {row} |\n"
    (tmp_path / "a.md").write_text(table)
    if "aggregated" not in phase:
        with pytest.raises(ValueError, match=phase):
            read_records(tmp_path / "a.md")
        return
    assert read_records(tmp_path / "a.md")[0]["phase"] == phase


@pytest.mark.parametrize(
    ("table", "sequences", "phases"),
    [
        # ROCm/ATOM, recipes: tables with the same columns below titles.
        (
            "### FP8 (TP8)\n| isl | osl | concurrency | TPOT (ms) |\n|---|---|---|---|\n"
            "| 1024 | 512 | 16 | 9 |\n\n### FP8 + MTP3 (TP8)\nof the same\n"
            "| isl | osl | concurrency | TPOT (ms) |\n|---|---|---|---|\n| 1024 | 512 | 16 | 6 |\n",
            [16, 16],
            ["aggregated", "aggregated MTP"],
        ),
        # A run a column, whose heading says how many there are at once, or who drafts.
        (
            "isl: 1024\nosl: 512\n| 指标 | 并发 1 | 并发 16 | 变化 |\n|---|---|---|---|\n"
            "| Mean TPOT (ms) | 9 | 12 | +3% |\n",
            [1, 16],
            ["aggregated", "aggregated"],
        ),
        (
            "isl: 1024\nosl: 512\nconcurrency: 4\n## EAGLE3 vs none\n"
            "| Metric | No spec decode | With Eagle3 |\n|---|---|---|\n| TPOT (ms) | 9 | 6 |\n",
            [4, 4],
            ["aggregated", "aggregated EAGLE"],
        ),
        # Runs that a column names, and whose changes are none; a line that begins otherwise.
        (
            "isl: 1024\nosl: 512\nconcurrency: 1\n| Config | Notes | Median TPOT |\n|---|---|---|\n"
            "| MTP off | — | 75.65 ms |\n| Native MTP, 2 tokens | 73.55% | 47.33 ms/token |\n",
            [1, 1],
            ["aggregated", "aggregated MTP"],
        ),
        (
            "isl: 1024\nosl: 512\nconcurrency: 2\n"
            "| 메트릭 | GPU | EAGLE3 | 변화 |\n|---|---|---|---|\n"
            "| Mean TPOT (ms) | 23.41 | **22.27** | -4.9% |\n",
            [2, 2],
            ["aggregated", "aggregated EAGLE"],
        ),
        # Tables that differ in columns that mean nothing.
        (
            "isl: 1024\nosl: 512\n| concurrency | ITL (ms) | E2EL (ms) |\n|---|---|---|\n"
            "| 4 | 11.81 | 12293 |\n\n| concurrency | Δ | ITL (ms) | ITL% |\n|---|---|---|---|\n"
            "| 8 | 1 | 11.0 | -7 |\n",
            [4, 8],
            ["aggregated", "aggregated"],
        ),
        # What a table beside it says of its drafts.
        (
            "isl: 1024\nosl: 512\nconcurrency: 9\n| Metric | Mean | P99 |\n|---|---|---|\n"
            "| TPOT excl. first token (ms) | 9 | 12 |\n| ITL (ms) | 31 | 90 |\n\n"
            "| Metric | Value |\n|---|---|\n| Acceptance length | 3.03 |\n",
            [9],
            ["aggregated EAGLE"],
        ),
        # Lengths of the user's own beside a column of both.
        (
            "isl: 9\nosl: 9\n| Input/Output Tokens | concurrency | TPOT (ms) |\n|---|---|---|\n"
            "| `1024 / 512` | **4** | 9 ms |\n",
            [4],
            ["aggregated"],
        ),
    ],
)
def test_what_titles_and_headings_of_runs_say(tmp_path, table, sequences, phases):
    """Both tables were read as without drafts, and all runs as of one concurrency."""
    (tmp_path / "a.md").write_text(f"model: qwen3-32b\nhardware: H200\ntp: 4\n{table}", "utf-8")
    records = read_records(tmp_path / "a.md")
    assert [one["concurrency"] for one in records] == sequences
    assert [one["phase"] for one in records] == phases
    assert {one["isl"] for one in records} == {1024}


def test_drafts_that_names_of_runs_say_in_files(tmp_path):
    """CSV and JSON were read as without drafts."""
    run = {"config": "eagle3", "model": "qwen3-32b", "hardware": "h200", "tp": "4", "c": "8"}
    run |= {"isl": "1024", "osl": "512", "mean_tpot_ms": "5.1"}
    (tmp_path / "a.csv").write_text(f"{','.join(run)}\n{','.join(run.values())}\n")
    plain = {**run, "concurrency": 8, "config": "no-mtp"}
    (tmp_path / "a.json").write_text(json.dumps([run | {"config": "mtp3"}, plain]))
    found = [x["phase"] for kind in ("csv", "json") for x in read_records(tmp_path / f"a.{kind}")]
    assert found == ["aggregated EAGLE", "aggregated MTP", "aggregated"]


def test_lengths_of_which_one_request_would_outlast_the_run_are_sums(tmp_path):
    """40,960 tokens of 12.1 ms are 496 s of 68: each of 80 requests had 512."""
    run = {"model": "qwen3-32b", "concurrency": 8, "successful_requests": 80, "duration_s": 68.4}
    run |= {"input_tokens": 81920, "output_tokens": 40960, "mean_tpot_ms": 12.1, **PLACE}
    (tmp_path / "a.json").write_text(json.dumps(run))
    point = deployment_of(read_records(tmp_path / "a.json")[0])
    assert (point.prompt, point.output) == (1024, 512)
    (tmp_path / "a.json").write_text(json.dumps(run | {"duration_s": 684.0}))
    assert deployment_of(read_records(tmp_path / "a.json")[0]).output == 40960


def test_percentiles_beside_a_summary_and_means_with_three_digits(tmp_path):
    """evalscope prints both tables, of which none was read; 153.628 was one of two numbers."""
    text = (
        "model: qwen3-8b\nhardware: H100\ntp: 1\n| Key | Value |\n|---|---|\n"
        "| Number of concurrency | 64 |\n| Average time per output token (s) | 0.0094 |\n"
        "| Average input tokens per request | 153.628 |\n"
        "| Average output tokens per request | 256 |\n\n"
        "| Percentiles | TPOT (s) | Input tokens | Output tokens |\n|---|---|---|---|\n"
        "| 10% | 0.0093 | 84 | 221 |\n"
    )
    (tmp_path / "a.md").write_text(text)
    (record,) = read_records(tmp_path / "a.md")
    assert (record["value"], record["isl"], record["concurrency"]) == (0.0094, 153.628, 64)


def test_a_printed_result_as_a_list(tmp_path):
    text = "".join(f"* {line}\n" if ":" in line else f"{line}\n" for line in PRINTED.splitlines())
    (tmp_path / "a.md").write_text(f"- **Model**: Qwen3-32B\n{text}hardware: H200\ntp: 4\n")
    point = deployment_of(read_records(tmp_path / "a.md")[0])
    assert (point.prompt, point.output, float(point.workload.batch)) == (1024, 512, 32)


@pytest.mark.parametrize(
    ("table", "splits"),
    [
        (
            "| Metric | TP8 before | TP8 after | Δ | TP4 after |\n|---|---|---|---|---|\n"
            "| Mean TPOT (ms) | 9 | 8 | -11% | 7 |\n",
            [(8, 1), (8, 1), (4, 1)],
        ),
        (
            "| Config | TPOT P50 |\n|---|---|\n| TP=1 | 23.6 ms |\n| TP=2 DP=2 PIX | 17.1 ms |\n",
            [(1, 1), (2, 2)],
        ),
        (
            "### Low latency (TP=8 + MXFP4)\n| Config | TPOT avg |\n|---|---|\n| a | 6 ms |\n\n"
            "### More (TP=4, DP=2, MXFP4)\n| Config | TPOT avg |\n|---|---|\n| b | 11 ms |\n",
            [(8, 1), (4, 2)],
        ),
        ("| Metric | a | Over b |\n|---|---|---|\n| TPOT avg | 9.0 ms | **1.02×** |\n", [(2, 1)]),
        # Of two pools, of which none is told; with a column of its own.
        ("| Config | TPOT (ms) |\n|---|---|\n| P-TP8 / D-TP4 | 9 |\n", [(2, 1)]),
        ("| Config | tp | TPOT (ms) |\n|---|---|---|\n| from TP8 | 4 | 9 |\n", [(4, 1)]),
    ],
)
def test_splits_that_names_of_runs_say(tmp_path, table, splits):
    """All of them were read as the split that stands behind the file."""
    (tmp_path / "a.md").write_text(f"concurrency: 8\nisl: 1024\nosl: 512\n\n{table}")
    told = {"model": "qwen3-32b", "hardware": "H200", "tp": "2"}
    found = [deployment_of(x).partition for x in read_records(tmp_path / "a.md", told)]
    assert [(float(x.tp), float(x.dp)) for x in found] == splits


def test_precisions_that_names_of_runs_say_are_told(tmp_path):
    """They may be of the weights or of the cache."""
    head = "model: qwen3-32b\nhardware: H200\ntp: 2\nconcurrency: 8\nisl: 1024\nosl: 512\n\n"
    one = "\n| Config | TPOT (ms) |\n|---|---|\n| x | 9 |\n"
    for table in (
        "| Metric | bf16 | fp8 e4m3 |\n|---|---|---|\n| Mean TPOT (ms) | 38.4 | 39.4 |\n",
        f"### BF16{one}\n### FP8 (online){one}",
    ):
        (tmp_path / "a.md").write_text(head + table)
        with pytest.warns(UserWarning, match=r"\(bf16, fp8\), which is not read: give a column we"):
            assert len(read_records(tmp_path / "a.md")) == 2


def test_tables_that_differ_in_their_time_alone(tmp_path):
    """Those of TPOT are read where others beside them are of ITL, in any order."""
    heading = DRAFTS.format("", "Mean {} (ms)")
    tables = [f"{heading.format(x)}|---|---|---|---|\n| 9 | 9 | 8 | {y} |\n" for x, y in TIMES]
    for order in (1, -1):
        (tmp_path / "a.md").write_text("\n".join(tables[::order]))
        assert [one["value"] for one in read_records(tmp_path / "a.md")] == [4.1]


TIMES = (("TPOT", 4.1), ("ITL", 9.8))


def test_gpus_that_aiperf_saw(tmp_path):
    gpus = {"endpoints": {"http://x": {"gpus": {"0": {"gpu_name": "NVIDIA H200"}}}}}
    run = {
        "input_config": {"phases": [{"concurrency": 4}], "models": [{"name": "qwen3-8b"}]},
        "model": "qwen3-8b",
        "inter_token_latency": {"unit": "ms", "avg": 12.5}, "telemetry_data": gpus, "tp": 1,
        "input_sequence_length": {"avg": 1024}, "output_sequence_length": {"avg": 100},
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(run))
    assert deployment_of(read_records(tmp_path / "a.json")[0]).hardware_name == "h200-sxm"


def test_gpus_that_nothing_tells_are_told(tmp_path):
    run = {"mean_tpot_ms": 9, "model": "qwen3-32b", "gpu": "H200", "concurrency": 8, "isl": 9}
    (tmp_path / "a.json").write_text(json.dumps(run | {"osl": 9}))
    with pytest.warns(UserWarning, match=r"1 of 1 runs do not say .* behind the file: tp=8"):
        read_records(tmp_path / "a.json")


def test_gpus_without_a_split_are_tensor_parallel_as_counted_ones(tmp_path):
    """2 GPUs were two replicas of one, where "2x H100" is one of two."""
    run = {"mean_tpot_ms": 9, "model": "qwen3-32b", "concurrency": 8, "isl": 9, "osl": 9}
    degrees = []
    for place in ({"gpu_name": "NVIDIA H100", "gpu_count": 2}, {"gpu_name": "2x NVIDIA H100"}):
        (tmp_path / "a.json").write_text(json.dumps(run | place))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            (record,) = read_records(tmp_path / "a.json")
        assert [("tensor parallel over all" in str(x.message)) for x in said] == (
            [True] if "gpu_count" in place else []
        )
        found = deployment_of(record).partition
        degrees.append((float(found.tp), float(found.dp)))
    assert degrees == [(2, 1), (2, 1)]


def test_sglang_s_mean_in_flight(tmp_path):
    """SGLang prints both; the limit is not what ran."""
    text = PRINTED.replace("Mean TPOT", "Concurrency:                             28.50\nMean TPOT")
    (tmp_path / "a.txt").write_text(text + "model: qwen3-32b\nhardware: H200\ntp: 4\n")
    (record,) = read_records(tmp_path / "a.txt")
    assert (record["mean_concurrency"], record["concurrency"]) == (28.5, 32)
    run = {"mean_tpot_ms": 9.0, "concurrency": 28.5, "max_concurrency": 32}
    (tmp_path / "a.json").write_text(
        json.dumps(run | {"model": "qwen3-32b", "gpu": "H200", "tp": 1})
    )
    (record,) = read_records(tmp_path / "a.json")
    assert (record["mean_concurrency"], record["concurrency"]) == (28.5, 32)


# What `trtllm-bench --streaming` prints: NVIDIA/TensorRT-LLM,
# docs/source/developer-guide/perf-benchmarking.md, cut.
OPTIMUM = {
    "config": {
        "backend": {
            "name": "pytorch",
            "model": "meta-llama/Llama-3.1-8B",
            "torch_dtype": "float16",
        },
        "environment": {"gpu": ["NVIDIA A10G"], "gpu_count": 1},
        "scenario": {
            "input_shapes": {"batch_size": 4, "sequence_length": 256},
            "generate_kwargs": {"max_new_tokens": 64},
        },
    },
    "report": {"per_token": {"latency": {"unit": "s", "mean": 0.032026, "p50": 0.031}}},
}
OPTIMUM_ROW = {
    "config.backend.model": "meta-llama/Llama-3.1-8B",
    "config.backend.torch_dtype": "float16",
    "config.environment.gpu": "['NVIDIA A10G']",
    "config.scenario.input_shapes.batch_size": "4",
    "config.scenario.input_shapes.sequence_length": "256.0",
    "config.scenario.generate_kwargs.max_new_tokens": "64.0",
    "report.per_token.latency.mean": "0.032026",
}
TRTLLM_BENCH = """\
= PYTORCH BACKEND
Model:			meta-llama/Llama-3.1-8B
KV Cache Dtype:		FP8
Quantization:		FP8
= REQUEST DETAILS
Number of concurrent requests:  94.6
Average Input Length (tokens):  128.0
Average Output Length (tokens): 128.0
= WORLD + RUNTIME INFORMATION
TP Size:                2
PP Size:                1
EP Size:                None
= PERFORMANCE OVERVIEW
Request Throughput (req/sec):                     86.5373
Average time-per-output-token [TPOT] (ms): 7.3272
"""


def test_what_trtllm_bench_prints(tmp_path):
    (tmp_path / "a.txt").write_text("hardware: H100\n" + TRTLLM_BENCH)
    (record,) = read_records(tmp_path / "a.txt")
    assert (record["value"], record["unit"], record["engine"]) == (7.3272, "ms", "trtllm")
    point = deployment_of(record)
    assert (point.prompt, point.output, float(point.partition.tp)) == (128, 128, 2)
    assert (float(point.workload.bytes_kv), float(point.workload.batch)) == (1, 94.6)
    (tmp_path / "a.txt").write_text(TRTLLM_BENCH.rsplit("Average", 1)[0])
    with pytest.raises(ValueError, match="only with `--streaming`"):
        read_records(tmp_path / "a.txt")


# What evalscope prints, cut: https://github.com/modelscope/evalscope, perf/utils.
EVALSCOPE = """\
+-----------------------------------+-----------+
| Key                               |     Value |
+===================================+===========+
| Number of concurrency             |    5      |
+-----------------------------------+-----------+
| Output token throughput (tok/s)   |  514.391  |
+-----------------------------------+-----------+
| Average time to first token (s)   |    0.0413 |
+-----------------------------------+-----------+
| Average time per output token (s) |    0.0095 |
+-----------------------------------+-----------+
| Average inter-token latency (s)   |    0.0096 |
+-----------------------------------+-----------+
| Average input tokens per request  |   94.75   |
+-----------------------------------+-----------+
| Average output tokens per request | 1486.59   |
+-----------------------------------+-----------+
"""


def test_a_metric_a_row_and_a_run_a_column(tmp_path):
    (tmp_path / "a.txt").write_text("model: qwen3-8b\nhardware: H20\ntp: 1\n" + EVALSCOPE)
    (record,) = read_records(tmp_path / "a.txt")
    assert (record["value"], record["unit"], record["concurrency"]) == (0.0095, "s", 5)
    assert (record["isl"], record["osl"]) == (94.75, 1486.59)
    (tmp_path / "a.txt").write_text(EVALSCOPE)
    with pytest.raises(ValueError, match=r"may be a line above it, such as `hardware: h100`"):
        read_records(tmp_path / "a.txt")


# Tables of documents: ROCm/ATOM, recipes/DeepSeek-R1.md; sgl-project/sglang-jax, gpt-oss-120b.
ATOM_TABLE = """\
Performance on 8xMI300X GPUs:

| ISL  | OSL  | Concurrency | Output Throughput (tok/s) | Mean TPOT (ms) |
| ---- | ---- | :---------: | ------------------------- | -------------- |
| 1024 | 1024 | c=128       | 4,274                     | **28.8**       |
| 1024 | 1024 | 256         | 6,039                     | 40.8 ms        |

model: deepseek-r1
hardware: MI300X
tp: 8
"""


def test_tables_of_documents(tmp_path):
    (tmp_path / "a.md").write_text(ATOM_TABLE)
    first, second = read_records(tmp_path / "a.md")
    assert (first["value"], first["concurrency"], first["isl"]) == (28.8, 128, 1024)
    assert (second["value"], second["concurrency"], second["tp"]) == (40.8, 256, 8)
    assert (first["id"], second["id"]) == ("row 5", "row 6")
    (tmp_path / "b.md").write_text(
        "model: gpt-oss-120b\ngpu: v6e\ntp: 8\n| ISL/OSL | Batch Size | TTFT(ms) | ITL |\n"
        "|---|---|---|---|\n| 1024/1024 | 8 | 303.18 | 8.64 ms |\n"
        "| 4k/1k | 16 | 2341.97 | 10.91 ms |\n"
    )
    first, second = read_records(tmp_path / "b.md")
    assert (first["value"], first["unit"], first["batch"]) == (8.64, "ms", 8)
    assert (second["isl"], second["osl"]) == (4096, 1024)
    (tmp_path / "c.md").write_text(ATOM_TABLE + "\n| TP | TPOT (ms) |\n|---|---|\n| 8 | 9 |\n")
    with pytest.raises(ValueError, match="tables with other columns"):
        read_records(tmp_path / "c.md")


# sgl-project/sglang-jax and vLLM's issues: a statistic a column, a gain beside each number.
STATISTICS = """\
| Metric | P99 | Mean | Median |
|---|---:|---:|---:|
| TTFT (ms) | 617,809.77 | 313,680.33 | 318,780.79 |
| ITL (ms) | 1,155.56 | 27.74 | 15.00 |
"""
GAINS = """\
| concurrency | TTFT (ms) | \u0394 | ITL (ms) | \u0394 | tok/s/user | Winner |
|---|---|---|---|---|---|---|
| 4 | 197.2 | -0.9% | 11.81 | 0.0% | 84.1 | here |
"""


# Tables that tools print: AISBench (its issue #218), evalscope of 2025, tenstorrent's reports.
AISBENCH = """\
[2026-03-26 10:19:48,085] [ais_bench] [INFO] Performance Results of task [x]:
| Performance Parameters | Stage | Average | Min | Max | Median | P75 | N |
+========================+=======+=========+=====+=====+========+=====+===+
| E2EL | total | 6500.0 ms | 1.0 ms | 9.0 ms | 6.0 ms | 6.0 ms | 128 |
| TPOT | total | 12.5 ms | 1.0 ms | 9.0 ms | 6.0 ms | 6.0 ms | 128 |
| InputTokens | total | 1024.0 | 1.0 | 1.0 | 1.0 | 1.0 | 128 |
| OutputTokens | total | 512.0 | 1.0 | 1.0 | 1.0 | 1.0 | 128 |

| Common Metric | Stage | Value |
+===============+=======+=======+
| Concurrency | total | 15.5 |
| Max Concurrency | total | 16 |
""".replace("|", "\u2502")
EVALSCOPE_SWEEP = (
    """\
#------#------#----------#---------#
#      # Rate #      Avg #     Avg #
#Conc. #      #  Lat.(s) # TPOT(s) #
|------|------|----------|---------|
|   16 |  INF |   13.512 |  0.0125 |
""".replace("|", "\u2502")
    .replace("#", "\u2503")
    .replace("-", "\u2501")
)
# ai-dynamo/dynamo #2552; what is lacking may be said above it.
GENAI_PERF_TABLE = (
    """\
NVIDIA GenAI-Perf # LLM Metrics
#                        Statistic #      avg #      min #      p90 #
|----------------------------------|----------|----------|----------|
|         Inter Token Latency (ms) |    12.50 |    15.43 |    18.79 |
| Output Token Throughput Per User |    80.25 |    52.87 |    60.04 |
|                (tokens/sec/user) |          |          |          |
|   Output Sequence Length (tokens)|   512.00 |   148.00 |   149.00 |
|   Input Sequence Length (tokens) | 1,024.05 | 3,000.00 | 3,000.00 |
""".replace("|", "\u2502")
    .replace("#", "\u2503")
    .replace("\u2503 LLM", "| LLM")
)
RATES = (
    "| RPS | Median TTFT (ms) | Mean TTFT (ms) | Mean TPOT (ms) |\n|---|---|---|---|\n"
    "| 2.0 | 600 | 612.5 | 12.5 |\n"
)
SPLITS = (
    "| ISL mean | OSL mean | {} | Concur | Cache Hit % | TPOT Avg (ms) |\n"
    "|---|---|---|---|---|---|\n"
    "| 1024 | 512 | {} | 16 (now) | 0.5 | 12.5 |\n"
)


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ("concurrency: 16\n" + GENAI_PERF_TABLE, {"tp": 4, "batch": 16, "prompt": 1024.05}),
        (AISBENCH, {"tp": 4, "batch": 15.5, "prompt": 1024}),
        ("isl: 1024\nosl: 512\n" + EVALSCOPE_SWEEP, {"tp": 4, "batch": 16}),
        ("isl: 1024\nosl: 512\n" + RATES, {"tp": 4, "batch": 2.0 * (0.6125 + 511 * 0.0125)}),
        (SPLITS.format("TP x EP", "4x4"), {"tp": 4, "ep": 4, "dp": 1, "batch": 16}),
        (SPLITS.format("TP/PP", "2/2"), {"tp": 2, "pp": 2, "batch": 16}),
    ],
)
def test_tables_of_tools_and_of_people(tmp_path, table, wanted):
    """They were refused, though they say it all."""
    own = "model: qwen3-30b-a3b\nhardware: 4xH200\n" + ("" if "ISL" in table else "tp: 4\n")
    (tmp_path / "a.txt").write_text(f"{own}\n{table}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (record,) = read_records(tmp_path / "a.txt")
    point = deployment_of(record)
    assert record["value"] * {"ms": 1e-3, "s": 1}[record["unit"]] == pytest.approx(0.0125)
    got = {"batch": point.workload.batch, "prompt": point.prompt}
    got |= {name: getattr(point.partition, name) for name in ("tp", "ep", "pp", "dp")}
    assert {name: float(got[name]) for name in wanted} == pytest.approx(wanted)
    if "Cache" in table:
        assert facts(record)["cached_tokens"] == pytest.approx(5.12)


def test_columns_that_documents_have_beside(tmp_path):
    """Statistics are no runs; remarks are passed over, and told."""
    own = "model: qwen3-8b\nhardware: h100\ntp: 1\nisl: 512\nosl: 64\n"
    (tmp_path / "a.md").write_text(own + "concurrency: 8\n" + STATISTICS)
    (record,) = read_records(tmp_path / "a.md")
    assert (record["value"], record["metric"], record["concurrency"]) == (27.74, "TPOT", 8)
    (tmp_path / "a.md").write_text(own + "concurrency: 8\n" + STATISTICS.replace("Mean", "Max"))
    (record,) = read_records(tmp_path / "a.md")
    assert (record["value"], record["metric"]) == (15, "median_ITL")
    (tmp_path / "b.md").write_text(own + GAINS)
    with pytest.warns(UserWarning, match=r"b\.md: not read columns '\u03b4', 'winner'"):
        (record,) = read_records(tmp_path / "b.md")
    assert (record["value"], record["concurrency"]) == (11.81, 4)


def test_a_packed_and_an_empty_file(tmp_path):
    packed = gzip.compress((PRINTED + "model: qwen3-32b\nhardware: H200\ntp: 4\n").encode())
    (tmp_path / "a.txt.gz").write_bytes(packed)
    assert read_records(tmp_path / "a.txt.gz")[0]["value"] == 13.9
    (tmp_path / "b.gz").write_bytes(packed[:60])
    (tmp_path / "c.json").write_text(" \n")
    (tmp_path / "d.csv").write_text("\n")
    (tmp_path / "e.xlsx").write_bytes(b"PK\x03\x04\xff")
    for name, why in (
        ("e.xlsx", "it is a workbook or an archive; save its sheet as CSV"),
        ("b.gz", "cannot be read"),
        ("c.json", "is empty"),
        ("d.csv", "is empty"),
    ):
        with pytest.raises(ValueError, match=why):
            read_records(tmp_path / name)


def test_unknown_columns_are_told_together(tmp_path):
    (tmp_path / "a.csv").write_text("model,hardware,tp,batch,context,tpot_ms,hue,mood\n")
    with pytest.raises(ValueError, match=r"unknown columns 'hue', 'mood'; known: batch"):
        read_records(tmp_path / "a.csv")


def test_the_model_of_guidellm_0_2(tmp_path):
    one = GUIDELLM["benchmarks"][0] | {"worker": {"backend_model": "Qwen/Qwen3-32B"}}
    (tmp_path / "a.json").write_text(json.dumps(PLACE | {"benchmarks": [one]}))
    assert read_records(tmp_path / "a.json")[0]["model"] == "Qwen/Qwen3-32B"


def test_strategies_of_guidellm(tmp_path):
    """Of a rate, the mean of the requests in flight; of none at all, one."""
    one = GUIDELLM["benchmarks"][0]
    kinds = [{"type_": "synchronous"}, {"type_": "constant", "rate": 2.0}, {"type_": "throughput"}]
    every = [one | {"config": {"strategy": kind}} for kind in kinds]
    failed = one | {"metrics": {"inter_token_latency_ms": {"successful": {"mean": 0.0}}}}
    text = json.dumps(GUIDELLM | PLACE | {"benchmarks": [*every, failed]})
    (tmp_path / "a.json").write_text(text)
    *records, last = read_records(tmp_path / "a.json")
    counts = [float(deployment_of(record).workload.batch) for record in records]
    assert counts == [1, 31.2, 31.2]
    assert "a time per token is missing; give tpot_ms" in last["unusable"]


@pytest.mark.parametrize(
    ("change", "sequences"),
    [
        # By Little's law 2 a second of 0.18 s and 511 times 13.9 ms each.
        ({"request_rate": 2.0, "request_throughput": 1.9}, 1.9 * (0.1802 + 511 * 0.0139)),
        ({"request_rate": 2.0}, 2.0 * (0.1802 + 511 * 0.0139)),
        ({"request_rate": 9.0, "request_throughput": 8.8}, 32),
        ({"request_rate": 2.0, "request_throughput": 2.0, "mean_e2el_ms": 7e3}, 14),
        ({"request_rate": 2.0, "concurrency": 13.5}, 13.5),
        ({"max_concurrency": None, "request_throughput": 4.0}, 4.0 * (0.1802 + 511 * 0.0139)),
    ],
)
def test_at_a_rate_the_number_at_once_is_a_cap(tmp_path, change, sequences):
    """vLLM and SGLang send requests as they come, and hold back those above the number."""
    run = {**VLLM, "hardware": "H200", "tp": 4, **change}
    run["completed"] = 250
    (tmp_path / "a.json").write_text(json.dumps(run))
    (record,) = read_records(tmp_path / "a.json")
    assert float(deployment_of(record).workload.batch) == pytest.approx(sequences, rel=1e-6)
    names = ("request_rate", "request_throughput", "max_concurrency", "mean_e2el_ms")
    if change.get("max_concurrency", 0) is None or "concurrency" in change:
        return
    cells = {name: run[name] for name in names if run.get(name)} | {"isl": 1024, "osl": 512}
    cells |= {name: run[name] for name in ("mean_ttft_ms", "mean_tpot_ms", "hardware", "tp")}
    text = f"model,{','.join(cells)}\nqwen3-32b,{','.join(map(str, cells.values()))}\n"
    (tmp_path / "a.csv").write_text(text)
    (record,) = read_records(tmp_path / "a.csv")
    assert record["concurrency"] == pytest.approx(sequences, rel=1e-6)


def test_a_printed_result_at_a_rate(tmp_path):
    text = PRINTED.replace("Mean TTFT", "Request rate configured (RPS): 1.00\nMean TTFT")
    text = text.replace(" 15.46", " 0.98") + "model: qwen3-32b\nhardware: H200\ntp: 4\n"
    (tmp_path / "a.txt").write_text(text)
    (record,) = read_records(tmp_path / "a.txt")
    assert record["concurrency"] == pytest.approx(0.98 * (4.49058 + 511 * 0.0139))


def test_a_printed_rate_has_more_digits_by_its_duration(tmp_path):
    """0.05 printed requests a second were 0.0539: 28 in flight in place of 30.5."""
    text = PRINTED.replace("512000", "55805").replace("256000", "209303").replace(" 500\n", " 50\n")
    text = text.replace("Maximum request concurrency:             32\n", "").replace(
        "15.46", "0.05"
    )
    text = text.replace("132.49", "927.90").replace("4490.58", "646.82").replace("13.90", "135.20")
    (tmp_path / "a.txt").write_text(text + "model: qwen3-32b\nhardware: H200\ntp: 4\n")
    (record,) = read_records(tmp_path / "a.txt")
    expected = 50 / 927.90 * (0.64682 + (209303 / 50 - 1) * 0.1352)
    assert record["concurrency"] == pytest.approx(expected)


@pytest.mark.parametrize("odd", ["nine", [9], {"a": 1}])
def test_odd_numbers_of_a_report_are_none(tmp_path, odd):
    run = {"id": "x", "inter_token_latency_ms": {"avg": 13.9}, "config": {"rate": 2.0}}
    run |= {"e2e_latency_ms": {"avg": odd}, "total_tokens": odd, "request_rate": odd}
    (tmp_path / "a.json").write_text(json.dumps({"results": [run], **PLACE, "model": "qwen3-32b"}))
    (record,) = read_records(tmp_path / "a.json")
    assert (record["concurrency"], record.get("osl")) == (None, None)


def test_no_more_are_in_flight_than_are_sent(tmp_path):
    """A rush of 100 requests in 17 s with few long answers: Little's law by means says 112."""
    run = VLLM | {"completed": 100, "max_concurrency": None, "request_throughput": 5.77}
    run |= {"mean_ttft_ms": 5399.1, "mean_tpot_ms": 36.13, "hardware": "H200", "tp": 4}
    run |= {"total_input_tokens": 102300, "total_output_tokens": 38827}
    (tmp_path / "a.json").write_text(json.dumps(run))
    (record,) = read_records(tmp_path / "a.json")
    assert record["concurrency"] == 100


@pytest.mark.parametrize("most", ["not set", "[result]", "32"])
def test_what_sglang_prints_at_a_rate(tmp_path, most):
    """Without a limit it prints "not set", which was compared with a number."""
    lines = f"Traffic request rate: 4.0\nMax request concurrency: {most}\nConcurrency: 12.5\n"
    text = PRINTED.replace("Maximum request concurrency:             32\n", lines)
    (tmp_path / "a.txt").write_text(text + "model: qwen3-32b\nhardware: H200\ntp: 4\n")
    (record,) = read_records(tmp_path / "a.txt")
    assert float(deployment_of(record).workload.batch) == 12.5


@pytest.mark.parametrize(
    ("more", "sequences"), [({}, 16), ({"dp": 2, "ep": 8}, 32), ({"concurrency": 4}, 4)]
)
def test_the_size_of_a_batch_is_of_a_replica(tmp_path, more, sequences):
    """As in a CSV; it was not read."""
    config = {"model": "qwen3-30b-a3b", "gpu": "H200", "tp": 4, "batch_size": 16}
    run = {"config": config | more, "results": {"isl": 512, "osl": 64, "tpot_ms": 9.0}}
    (tmp_path / "a.json").write_text(json.dumps(run))
    (record,) = read_records(tmp_path / "a.json")
    point = deployment_of(record)
    assert float(point.workload.batch * point.partition.dp) == sequences


@pytest.mark.parametrize("between", ["", "\n"])
def test_objects_behind_each_other(tmp_path, between):
    """`cat results/*.json`, also of several lines each."""
    run = json.dumps(VLLM | PLACE, indent=2)
    (tmp_path / "a.json").write_text(run + between + run)
    assert [one["value"] for one in read_records(tmp_path / "a.json")] == [13.9, 13.9]


@pytest.mark.parametrize(
    ("beside", "lacking"),
    [
        ("- Model: Qwen3-32B\n- Model: Qwen3-8B\n- Input length: 1024\n", "'model' is missing"),
        ("- Model: Qwen3-32B\n- Input length: 512-2048\n", "'context' is missing"),
    ],
)
def test_what_a_document_says_twice_or_as_a_range_is_not_taken(tmp_path, beside, lacking):
    """One of two models, or the least of a range, would be predicted without a word."""
    table = "| Concurrency | TPOT (ms) |\n|---|---|\n| 16 | 21.5 |\n"
    given = f"{beside}- GPU: A100\n- TP: 4\n- Output length: 256\n\n{table}"
    (tmp_path / "a.md").write_text(given)
    with pytest.raises(ValueError, match=lacking):
        read_records(tmp_path / "a.md")


def test_runs_below_any_key(tmp_path):
    rows = [{"concurrency": n, "isl": 512, "osl": 64, "tpot_ms": 8.0 + n} for n in (4, 8)]
    given = {"model": "qwen3-8b", "hardware": "H100", "tp": 2, "results": rows, "notes": ["x"]}
    (tmp_path / "a.json").write_text(json.dumps(given))
    found = [deployment_of(record) for record in read_records(tmp_path / "a.json")]
    assert [float(one.workload.batch) for one in found] == [4, 8]
    assert {float(one.partition.tp) for one in found} == {2}
    # What holds for all stands below a key of its own as well.
    place = {"model": "qwen3-8b", "gpu": "H100", "tensor_parallel_size": 2}
    for name, dumped in (("c.json", json.dumps), ("c.yaml", yaml.safe_dump)):
        (tmp_path / name).write_text(dumped({"config": place, "results": rows}))
        nested = [deployment_of(record) for record in read_records(tmp_path / name)]
        assert [one.partition for one in nested] == [one.partition for one in found]
        assert [one.model for one in nested] == [one.model for one in found]
    keyed = {"model": "qwen3-8b", "hardware": "H100", "tp": 2, "4": rows[0], "8": rows[1]}
    (tmp_path / "b.json").write_text(json.dumps(keyed))
    assert [record["value"] for record in read_records(tmp_path / "b.json")] == [12, 16]
    rows[0].pop("concurrency")
    (tmp_path / "a.json").write_text(json.dumps(given))
    with pytest.raises(ValueError, match="unknown batch; give concurrency"):
        deployment_of(read_records(tmp_path / "a.json")[0])


MLPERF = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Server
Mean Time to Output Token (ns) : 27123456
"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MLPERF, "MLPerf's LoadGen, which does not say how many requests.*give a CSV"),
        (json.dumps({"avg_latency": 1.5, "latencies": [1.5]}), "vllm bench serve --save-result"),
        (
            json.dumps({"elapsed_time": 9.0, "num_requests": 9, "tokens_per_second": 99.0}),
            "throughput` has no time per token",
        ),
        (
            json.dumps(
                {"world_info": {"tp_size": 4}, "performance": {"request_throughput_req_s": 4.0}}
            ),
            "only with `--streaming`",
        ),
        ("Run Info,Run Info\nRun ID,Run Index\n,\n1,0\n", "give its benchmarks.json"),
        ("<!doctype html><html></html>", "a page of HTML; give the JSON"),
        ("hardware: h200\n<html><table></table></html>", "a page of HTML; give the JSON"),
        (
            "Type,Name,Request Count,Failure Count,Median Response Time\nPOST,/v1,9,0,5\n",
            "a table of Locust, which times whole requests; give a CSV",
        ),
        (json.dumps({"metrics": {"http_req_duration": {"avg": 9}}}), "a table of k6, which times"),
        (
            "| model | test | t/s |\n|---|---|---|\n| q | tg128 | 99 |\n",
            r"names no GPU; add a line `hardware: \.\.\.`",
        ),
        (json.dumps({"eval_count": 9, "eval_duration": 99}), "Ollama, which does not say the bits"),
        (
            "model,hardware,tp,isl,osl,concurrency,tok/s/user\nq,h,1,1,1,1,50\n",
            "'tpot_ms' is missing; if 'tok/s/user' is counted from the first token on, give 1000",
        ),
        *(
            (
                f"model,hardware,tp,isl,osl,clients,{rate}\nq,h,1,1,1,1,50\n",
                f"'tpot_ms' is missing; '{rate}' counts the time in which prompts are read too: g",
            )
            for rate in ("tokens/s", "tok/s/gpu", "Output throughput", "output_tokens_per_s", "tps")
        ),
        (
            json.dumps({"model": "q", "hardware": "h", "tps_per_user": 50}),
            "token is missing; if 'tps_per_user' is counted from the first token on, give 1000 ov",
        ),
        ("NVIDIA AIPerf | LLM Metrics\n\u2502 x \u2502\n", "AIPerf prints.*profile_export JSON"),
        ("Metric,avg\nInter Token Latency (ms),9\nmodel,x\n", "without hardware, tp, concurrency"),
        (
            "INFO [loggers.py] Avg generation throughput: 9.0 tokens/s, Running: 8",
            "log of a server",
        ),
        ("[TP0] Decode batch. #running-req: 6, gen throughput (token/s): 25, ", "log of a server"),
        (
            "hardware: h\nDecode.  median latency:    0.006 s, median throughput: 9",
            "bench_one_batch",
        ),
        (
            "total duration:  5.4s\neval rate:     96.1 tokens/s",
            "what Ollama prints, without the b",
        ),
        (
            "llama_perf_context_print:        eval time =  5120.00 ms /  256 runs  ( 20.00 ms per",
            "of a request of llama.cpp, without its model.*llama-bench -o json",
        ),
        (json.dumps({"timings": {"predicted_per_token_ms": 20.0}}), "a request of llama.cpp, with"),
        ("Averages: prompt_tps=850.5, generation_tps=55.1", "what MLX prints, without its model"),
        (
            "==========\nPrompt: 27 tokens, 120.5 tokens-per-sec\n"
            "Generation: 256 tokens, 28.1 tokens-per-sec\n",
            "what MLX prints, without its model",
        ),
        ("Avg latency: 1.81 seconds\n", "what `vllm bench latency` prints, which times whole"),
        # vllm-project/vllm #359.
        (
            "Average latency: 67.59 s\nAverage latency per output token: 1.10 s\n",
            "benchmark_serving.py printed in 2023, whose time per token has the prompt's in it",
        ),
        *(
            (line, 'a log of a server that starts.*"metric": "kv_tokens"')
            for line in (
                "INFO 12-11 [kv_cache_utils.py] GPU KV cache size: 686,320 tokens\n",
                "[2026-03-26 10:19:48 TP0] max_total_num_tokens=1234567, context_len=40960\n",
                "[TRT-LLM] [I] Allocated 71.2 GiB for max tokens in paged KV cache (123456)\n",
            )
        ),
        (as_lines(VLLM | PLACE | {"failed": 300}), "300 of its 550 requests failed"),
        # The server that decodes is not all of the deployment.
        (
            f'vllm serve m -tp 4 --kv-transfer-config \'{{"kv_role": "kv_consumer"}}\'\n{PRINTED}',
            "without model, hardware, tp",
        ),
    ],
)
def test_reports_that_are_refused_say_what_to_give(tmp_path, text, why):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=why):
        read_records(tmp_path / "a.txt")


def test_lines_of_a_log_in_notes_are_no_log(tmp_path):
    notes = "GPU KV cache size: 686 tokens"
    one = {"model": "m", "gpu": "h", "tp": 1, "concurrency": 1, "isl": 1, "osl": 1, "tpot_ms": 9}
    (tmp_path / "a.json").write_text(json.dumps([one | {"notes": notes}], indent=1))
    (tmp_path / "a.csv").write_text(
        f"{','.join(one)},notes\n{','.join(map(str, one.values()))},{notes}\n"
    )
    for name in ("a.json", "a.csv"):
        assert read_records(tmp_path / name)[0]["value"] == 9


# llama-bench, -o json: the tokens of one sequence a second; prompts are timed apart.
LLAMA_BENCH = {
    "gpu_info": "NVIDIA H100 80GB HBM3",
    "backends": "CUDA",
    "model_filename": "models/Qwen3-8B-Q4_K_M.gguf",
    "model_type": "qwen3 8B Q4_K - Medium",
    "model_size": 5027783680,
    "model_n_params": 8190735360,
    "type_k": "f16",
    "n_gpu_layers": 99,
    "split_mode": "layer",
    "n_prompt": 0,
    "n_gen": 128,
    "n_depth": 4096,
    "avg_ts": 125.0,
}
# What llama-bench and llama-batched-bench print: llama.cpp, tools/llama-bench/README.md.
LLAMA_PRINTS = """\
ggml_cuda_init: found 2 CUDA devices:
  Device 0: NVIDIA H100 80GB HBM3, compute capability 9.0, VMM: yes
  Device 1: NVIDIA H100 80GB HBM3, compute capability 9.0, VMM: yes
| model                  |     size | params | backend | ngl | test          |           t/s |
| ---------------------- | -------: | -----: | ------- | --: | ------------: | ------------: |
| qwen3 8B Q4_K - Medium | 4.68 GiB | 8.19 B | CUDA    |  99 |         pp512 | 5000.1 \u00b1 3.1 |
| qwen3 8B Q4_K - Medium | 4.68 GiB | 8.19 B | CUDA    |  99 | tg128 @ d4096 | 125.00 \u00b1 0.3 |

build: 3edfa7d3 (5000)
"""
BATCHED_PRINTS = """\
|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|  4096 |    128 |    8 |  33792 |    0.080 | 12000.00 |    1.600 |   640.00 |    1.680 |   962.00 |
model: qwen3-8b
hardware: H100
tp: 2
"""
BATCHED = {  # --output-format jsonl, with what a user says: `pp` are tokens of the prompt
    "model": "qwen3-8b", "hardware": "H100", "tp": 2, "n_kv_max": 65536, "n_gpu_layers": 99,
    "pp": 4096, "tg": 128, "pl": 8, "n_kv": 33792, "t_pp": 0.08, "t_tg": 1.6, "speed_tg": 640.0,
}  # fmt: skip
# A column for the split, a deviation behind a mean, bars as terminals draw them.
BARS = """\
model: qwen3-235b-a22b
gpu: h200
\u250c\u2500\u2500\u2500\u252c\u2500\u2500\u2510
\u2502 Config     \u2502 ISL  \u2502 OSL \u2502 Users \u2502 TPOT (ms)  \u2502
\u251c\u2500\u2500\u2500\u253c\u2500\u2500\u2524
\u2502 TP=8, EP=8 \u2502 1024 \u2502 256 \u2502 16    \u2502 12.5 \u00b1 0.3 \u2502
\u2514\u2500\u2500\u2500\u2534\u2500\u2500\u2518
"""
CHINESE = (
    "\u6a21\u578b,\u786c\u4ef6,tp,\u8f93\u5165\u957f\u5ea6,\u8f93\u51fa\u957f\u5ea6,\u5e76\u53d1\u6570,TPOT(ms)\n"
    "qwen3-32b,h200,4,1024,256,16,12.5\n"
)
# AIConfigurator, best_config_topn.csv, aggregated and with separate servers.
CONFIGURATOR = """\
model,isl,osl,concurrency,bs,ttft,tpot,tokens/s/gpu,tokens/s/user,tp,pp,dp,moe_tp,moe_ep,gemm,kvcache,moe,backend,version,system
Qwen/Qwen3-235B-A22B,4000,500,64,64,804.0,21.4,343,46.7,4,1,2,1,8,fp8_block,fp8,fp8_block,trtllm,1.2,h200_sxm
"""
SEPARATE = """\
model,isl,osl,concurrency,ttft,tpot,tokens/s/user,(p)tp,(p)bs,(d)tp,(d)pp,(d)dp,(d)moe_ep,(d)bs,(d)gemm,(d)kvcache,(d)moe,(d)backend,(d)system
Qwen/Qwen3-235B-A22B,4000,500,384,580,20,50,4,1,1,1,8,8,24,fp8,fp8,nvfp4,trtllm,b200_sxm
"""
# SGLang's bench_one_batch and bench_one_batch_server: no prompts among the answers.
ONE_BATCH = {
    "run_name": "default", "batch_size": 16, "input_len": 1024, "output_len": 256,
    "prefill_latency": 0.5, "median_decode_latency": 0.0125, "total_latency": 3.7,
}  # fmt: skip
ONE_BATCH_SERVER = {
    "batch_size": 16, "input_len": 1024, "output_len": 256, "latency": 3.7, "last_ttft": 0.5,
}  # fmt: skip
# InferenceX with separate servers: four that decode, on 8 GPUs each.
SEPARATE_INFERENCEX = {
    "hw": "gb200", "model": "deepseek-ai/DeepSeek-R1-0528", "framework": "dynamo-trt",
    "precision": "fp4", "spec_decoding": "mtp", "isl": 1024, "osl": 1024, "conc": 1024,
    "prefill_tp": 4, "num_prefill_gpu": 4, "decode_tp": 8, "decode_ep": 8,
    "decode_dp_attention": True, "num_decode_gpu": 32, "mean_tpot": 0.0125,
    "median_tpot": 0.0123, "median_intvty": 81.3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds", "degrees", "batch", "context", "engine"),
    [
        (json.dumps([LLAMA_BENCH]), 0.008, (1, 1, 1, 1), 1, 4160, ""),
        (LLAMA_PRINTS, 0.008, (1, 1, 1, 2), 1, 4160, ""),
        (BATCHED_PRINTS, 0.0125, (2, 1, 1, 1), 8, 4160, ""),
        (json.dumps(BATCHED), 0.0125, (2, 1, 1, 1), 8, 4160, ""),
        (
            "# of Monday\nsep=;\nmodel;gpu;tp;mean_isl;completion_tokens;num_users;ms_per_token\n"
            "qwen3-32b;h200;4;1024;256;16;12,5\n",
            *(0.0125, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (
            "model,hw,parallel,isl,osl,concurrency,tpot_ms\n"
            "qwen3-32b,h200,tp4pp1dp1,1024,256,16,12.5\n",
            *(0.0125, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (BARS, 0.0125, (8, 1, 8, 1), 16, 1152, ""),
        (CHINESE, 0.0125, (4, 1, 1, 1), 16, 1152, ""),
        (
            "model: qwen3-32b\nhardware: h200\ntp: 4\nconcurrency: 16\nisl: 1024\n\nosl: 256\n"
            "tpot_ms: 12.5\n",
            *(0.0125, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (CONFIGURATOR, 0.0214, (4, 2, 8, 1), 32, 4250, "trtllm"),
        (SEPARATE, 0.020, (1, 8, 8, 1), 24, 4250, "trtllm"),
        (
            json.dumps(ONE_BATCH | PLACE | {"model": "qwen3-32b"}),
            *(0.0125, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (
            as_lines(ONE_BATCH_SERVER | PLACE | {"model": "qwen3-32b"}),
            *(0.0125, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (json.dumps(SEPARATE_INFERENCEX), 0.0125, (1, 32, 8, 1), 32, 1536, "trtllm"),
        (
            "run_number,model_id,hardware,tp,max_concurrency,completed,total_input_tokens,"
            "total_output_tokens,mean_tpot_ms,std_odd\n"
            "0,qwen3-32b,h200,4,32,250,256000,128000,13.9,\n",
            *(0.0139, (4, 1, 1, 1), 32, 1280, ""),
        ),
        (
            json.dumps({"model": "qwen3-32b", "gpu": "h200", "tp": 2, "concurrency": 8,
                        "input_tokens": 100, "output_tokens": 50, "tpot_ms_p50": 7.0}),
            *(0.007, (2, 1, 1, 1), 8, 125, ""),
        ),
        (
            json.dumps({"model": "qwen3-32b", "gpu": "h200", "tp": 2, "concurrency": 8,
                        "completed": 10, "prompt_tokens": 1000, "output_tokens": 500,
                        "request_throughput": 2.0, "output_throughput": 100.1,
                        "tpot_ms": {"mean": 7.0}}),
            *(0.007, (2, 1, 1, 1), 8, 125, ""),
        ),
        (
            "# Qwen3\n- **Model:** [Qwen3-32B](https://a.b/c) (dense)\n- **GPU**: 4x NVIDIA H200\n"
            "<table><tr><td>a badge</td></tr></table>\n**Notes:**\n\n- **TP**: `4`\n"
            "* **Note:** no more\n\n| ISL | OSL | Concurrency | TPOT (ms) |\n"
            "|---|---|---|---|\n| 1024 | 256 | 16 | 12.5 |\n",
            *(0.0125, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (
            "- Model: Qwen/Qwen3-32B\n- GPU: 4x NVIDIA A100 80GB\n* TP: 4\n"
            "- Input length: 1,024 tokens\n- Output length: 256 tokens\n\n"
            "| Concurrency | TPOT (ms) |\n|---|---|\n| 16 | 21.5 |\n",
            *(0.0215, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (
            "| Setting | Value |\n|---|---|\n| Model | Qwen3-32B |\n| GPU | A100 80GB |\n"
            "| TP | 4 |\n| ISL/OSL | 1k/256 |\n\n"
            "| Metric | c=16 | c=32 |\n|---|---|---|\n| TPOT (ms) | 21.5 | 30 |\n",
            *(0.0215, (4, 1, 1, 1), 16, 1152, ""),
        ),
        (
            "      model  hardware  tp  batch  context  tpot_ms\n"
            "0  Qwen3-32B      A100   4     16     1152     21.5\n",
            *(0.0215, (4, 1, 1, 1), 16, 1152, ""),
        ),
        # optimum-benchmark, its JSON, and a table of the LLM-Perf leaderboard of its keys.
        (
            json.dumps(OPTIMUM),
            *(0.032026, (1, 1, 1, 1), 4, 288, ""),
        ),
        (
            f"config.name,{','.join(OPTIMUM_ROW)}\nx,{','.join(OPTIMUM_ROW.values())}\n",
            *(0.032026, (1, 1, 1, 1), 4, 288, ""),
        ),
    ],
    ids=["llama", "prints", "batched", "jsonl", "remark", "split", "bars", "chinese", "lines",
         "aic", "aic separate", "batch", "server", "inferencex", "sweep", "one object",
         "sums", "bold", "listed", "settings", "pandas", "optimum", "llm-perf"],
)  # fmt: skip
def test_runs_under_keys_of_a_program_s_own(
    tmp_path, text, seconds, degrees, batch, context, engine
):
    (tmp_path / "a.txt").write_text(text)
    record = next(x for x in read_records(tmp_path / "a.txt") if "unusable" not in x)
    assert record["value"] * {"ms": 1e-3, "s": 1.0}[record["unit"]] == pytest.approx(seconds)
    point = deployment_of(record)
    assert tuple(float(getattr(point.partition, d)) for d in ("tp", "dp", "ep", "pp")) == degrees
    work = point.workload
    assert (float(work.batch), float(work.context), point.engine) == (batch, context, engine)
    if "4.68 GiB" in text:
        assert work.bytes_ffn_weight == pytest.approx(4.68 * 2**30 / 8.19e9, rel=1e-3)
    if "model_filename" in text:
        assert work.bytes_ffn_weight == pytest.approx(5027783680 / 8190735360, rel=1e-4)
        assert work.ffn_dtype == "bf16"
    if "spec_decoding" in text:
        assert float(work.query_tokens) > 1


@pytest.mark.parametrize(
    ("kind", "count", "name"),
    [
        ("llama 8B Q4_K - Medium", 8.03, "llama-3.1-8b"),
        # It calls Mistral so too, which was taken for Llama 2.
        ("llama 7B Q8_0", 7.24, "mistral-7b"),
        ("llama 7B Q8_0", 6.74, "llama-2-7b"),
        ("llama 8x7B Q4_0", 46.70, "mixtral-8x7b"),
        ("qwen2 32B Q4_K - Medium", 32.76, "qwen2.5-32b"),
        ("qwen3moe 30B.A3B Q4_K - Medium", 30.53, "qwen3-30b-a3b"),
        ("gpt-oss 20B MXFP4 MoE", 20.91, "gpt-oss-20b"),
    ],
)
def test_models_as_llama_bench_calls_them(tmp_path, kind, count, name):
    table = "hardware: H100\n| model | params | test | t/s |\n|---|---|---|---|\n"
    (tmp_path / "a.md").write_text(f"{table}| {kind} | {count:.2f} B | tg9 | 9 |\n")
    assert deployment_of(read_records(tmp_path / "a.md")[0]).model_name == name
    own = {"model_n_params": count * 1e9, "model_size": count * 6e8}
    row = {**LLAMA_BENCH, "model_filename": "a.gguf", "model_type": kind, **own}
    (tmp_path / "a.json").write_text(json.dumps([row]))
    assert deployment_of(read_records(tmp_path / "a.json")[0]).model_name == name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n_prompt": 512, "n_gen": 0}, "it times prompts; those of generated tokens"),
        ({"n_gpu_layers": 0}, "no layer runs on a GPU"),
        ({"avg_ts": 0}, "value is missing"),
    ],
)
def test_runs_of_llama_bench_that_say_nothing_of_tokens(tmp_path, change, why):
    (tmp_path / "a.json").write_text(json.dumps([LLAMA_BENCH, LLAMA_BENCH | change]))
    *_, last = read_records(tmp_path / "a.json")
    assert last["unusable"].startswith(why)


def test_many_problems_are_counted_and_folders_are_no_files(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "b.json").write_text(json.dumps([{"x": 1}] * 50))
    with pytest.raises(ValueError, match=r"and \d+ more problems") as caught:
        read_records(tmp_path)
    assert len(str(caught.value)) < 5000


def test_a_folder_of_results(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "b.json").write_text(json.dumps(VLLM | PLACE))
    (tmp_path / "more" / "a.jsonl").write_text(as_lines(SGLANG | {"gpu": "H200"}))
    (tmp_path / "c.csv").write_text("Type,Request Count,Median Response Time\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    records = read_records(tmp_path)
    assert [record["id"] for record in records] == [
        "b.json: record 1", "c.csv: file", "more/a.jsonl: record 1", "more/a.jsonl: record 2",
    ]  # fmt: skip
    assert records[1]["unusable"].startswith("a table of Locust")
    for name in ("b.json", "more/a.jsonl"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"\n  c\.csv: a table of Locust"):
        read_records(tmp_path)
    (tmp_path / "c.csv").unlink()
    with pytest.raises(ValueError, match=r"no file of records in it; they end in \.json, "):
        read_records(tmp_path)
