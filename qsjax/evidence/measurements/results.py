"""Result files of benchmarks, one run each or many, under the names of a record.

Sources of the keys: vllm/benchmarks/serve.py, sglang/bench_serving.py,
tensorrt_llm/bench/dataclasses, InferenceX utils/process_result.py, genai-perf and aiperf
(profile_export*.json), llmperf (token_benchmark_ray.py). `reports` has shapes of other kinds.
"""

import re
from collections.abc import Mapping
from typing import Any

from qsjax.catalog.reading import value_at
from qsjax.evidence.measurements import columns, dialects, reports, tables
from qsjax.evidence.measurements.names import TABLE

# Sums over a run, and what counts its requests.
_TOTALS = {"isl": "total_input_tokens", "osl": "total_output_tokens"}
# Columns that say how many requests are served at once.
_SERVED = ("batch", "concurrency")
# What a distribution is read by, the best first.
_MEANS = ("avg", "mean")
_MIDDLES = (*_MEANS, "median", "p50")
# The mean or median time to the first token of answers that came in one piece.
_FIRST = ("mean_ttft_ms", "median_ttft_ms")
_UNSTREAMED = (
    "its first tokens took 0 ms, so its answers were not streamed and its time per token has the "
    "first token in it; repeat the benchmark with streaming"
)
# The longest request that a server takes.
_LONGEST = ("context_length", "context_len", "max_context_length")
# What a server computes in: a quantised checkpoint keeps its own precision.
_SIXTEEN = ("bfloat16", "bf16", "float16", "fp16", "half", "float32", "torch.bfloat16")
_SERVER: dict[str, list[str]] = TABLE["server"]
_DURATIONS = ("duration", "duration_s", "benchmark_duration_s", "benchmark_duration")
# What names a run.
_LABELS = (
    *("config", "name", "label", "run", "scenario"),
    *(f"{one}_name" for one in ("run", "case", "test", "benchmark", "experiment")),
)
_REQUESTS = ("completed", "successful_requests", "num_prompts", "num_requests")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """A number that is written as a text; any other value as it is."""
    is_text = isinstance(value, str) and re.fullmatch(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", value)
    return float(value) if is_text else value


def leaves(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and values at every depth, the outer ones first; of a distribution its mean.

    Of a time per token its median where it has no mean.

    >>> leaves({"info": {"tp_size": 8}, "inter_token_latency": {"unit": "ms", "avg": 7.5}})
    {'tp_size': 8, 'inter_token_latency_ms': 7.5}
    """
    found = {k: v for k, v in given.items() if not isinstance(v, Mapping | list)}
    for key, value in given.items():
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            found.setdefault(key, value[0])
        if not isinstance(value, Mapping):
            continue
        which = next((name for name in _MIDDLES if _is_number(value.get(name))), "")
        name = key if which in _MEANS else f"median_{key}"
        if not which or not (which in _MEANS or columns.is_time(key)):
            found = leaves(value) | found
        else:
            unit = str(value.get("unit") or value.get("units")).removesuffix("/token")
            found.setdefault(f"{name}_{unit}" if unit in columns.UNITS else name, value[which])
    return found


def times_in(given: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Keys of times per token, the best first: the key, its name and its unit ("" if unknown).

    InferenceX writes seconds without saying so; the tokens per second beside one of them tell it.
    """
    found = []
    unstated = ""
    for key, value in given.items():
        column, name, unit = columns.known_of(key)
        if column != "tpot" or not _is_number(value):
            continue
        speed = given.get(key.replace("tpot", "intvty"))
        if not unit and _is_number(speed) and abs(value * speed - 1.0) < 0.01:
            unstated = "s"
        found.append((key, name, unit))
    told = [(key, name, unit or unstated) for key, name, unit in found]
    return sorted(told, key=lambda one: columns.rank_of("tpot", one[1]))


def as_given(given: Mapping[str, Any]) -> dict[str, Any]:
    """A record, or a run of a benchmark under the names of a record; the former as it is."""
    if "value" in given or "metric" in given:
        return dict(given)
    given = dialects.plain(given)
    flat = {key: _plain(value) for key, value in leaves(given).items()}
    times = times_in(flat)
    if not times:
        return dict(given)
    key, name, unit = times[0]
    for other, _, _ in times:
        value = flat.pop(other)
        if other == key:
            flat[f"{name}_{unit}" if unit else name] = value
    requests = next((flat[name] for name in _REQUESTS if _is_number(flat.get(name))), 0)
    for field, total in _TOTALS.items():
        if _is_number(flat.get(total)) and requests:
            flat[field] = flat[total] / requests
    if _is_number(flat.get("total_cached_tokens")) and requests:
        flat.setdefault("cached_tokens", flat["total_cached_tokens"] / requests)
    step = columns.SECONDS[unit] * flat[f"{name}_{unit}"] if unit else 0.0
    flat = _cached(_server(_of_a_request(flat, requests, step)))
    if why := _unusable(flat):
        return flat | {"unusable": why}
    if flat.get("random_range_ratio") == 1:  # SGLang draws lengths from this part of the nominal on
        flat.setdefault("length_ratio", 1.0)
    if "world_info" in given:  # trtllm-bench, whose backend is PyTorch
        accepted = value_at(given, "decoding_stats.acceptance_length_percentiles.average")
        flat |= {"engine": "trtllm", "accept_length": accepted}
    mean, most = flat.get("concurrency"), flat.get("max_concurrency")
    # Where requests are sent at a rate, vLLM's and aiperf's number at once is a cap.
    cap = "concurrency" if "input_config" in given else "max_concurrency"
    sent = reports.at_rate(flat, flat[cap] if _is_number(flat.get(cap)) else None)
    served = {name for name in flat if flat[name] and columns.COLUMNS.get(name) in _SERVED}
    if sent:
        flat |= {} if served - {cap} else {"concurrency": sent}
    elif mean and _is_number(mean) and most and _is_number(most) and mean < most:  # SGLang's
        flat |= {"mean_concurrency": mean, "concurrency": most}
    elif not served:
        flat |= {"concurrency": reports.in_flight(flat)}
    flat = _without_limit(_drafting(_split(flat)))
    phase = flat.get("phase") or "aggregated"
    is_plain = phase in ("aggregated", "decode-only")
    return flat | {"phase": f"{phase} {_drafter(flat)}".strip() if is_plain else phase}


def _of_a_request(flat: Mapping[str, Any], requests: float, step: float) -> dict[str, Any]:
    """A run whose lengths are of one request, where what is beside them tells that they are sums.

    Scripts call the tokens of all requests `prompt_tokens` and `output_tokens` too: those of the
    rates, or so many that one request would have taken longer than the whole run.

    Args:
        flat: the run.
        requests: how many it has.
        step: time per token [s]; 0 where its unit is not known.
    """
    named = {columns.known_of(key)[0]: key for key in flat if columns.known_of(key)[0] in _TOTALS}
    whole, output, rate = (
        float(flat[key]) if _is_number(flat.get(key)) else 0.0
        for key in (named.get("osl", ""), "output_throughput", "request_throughput")
    )
    seconds = next((flat[name] for name in _DURATIONS if _is_number(flat.get(name))), 0.0)
    if requests <= 1:
        return dict(flat)
    is_of_rates = output and abs(whole * rate / (output * requests) - 1.0) <= 0.05
    if not (is_of_rates or 0.0 < seconds < whole * step):
        return dict(flat)
    each = {field: flat[key] / requests for field, key in named.items() if _is_number(flat[key])}
    return {key: x for key, x in flat.items() if key not in named.values()} | each


def _server(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A run with the facts of its server, without the type that this computes in."""
    found = dict(flat)
    if str(found.get("dtype")).lower() in _SIXTEEN:
        found.pop("dtype")
    for fact, flags in _SERVER.items():
        given = next((flat[flag] for flag in flags if _is_number(flat.get(flag))), None)
        found |= {fact: given} if given and found.get(fact) is None else {}
    return found


def _cached(flat: dict[str, Any]) -> dict[str, Any]:
    """A run with the tokens of a prompt that the prefix cache held, where it says their share."""
    name, rate = _of(flat, "hit_rate")
    if rate in (None, "", "-", "n/a") or rate is False or flat.get("cached_tokens") is not None:
        return flat
    is_percent = str(rate).endswith("%") or name.endswith("_pct")
    share = _plain(str(rate).rstrip("% "))
    if not _is_number(share) or not 0 <= share <= 100:
        return {"unusable": f"{name} is {rate!r}; give a share or percents, as 0.75 or 75%"}
    share /= 100 if is_percent or share > 1 else 1
    length = _of(flat, "isl")[1]
    return flat | ({"cached_tokens": share * length} if _is_number(length) else {})


def _unusable(flat: Mapping[str, Any]) -> str:
    """Why a run tells nothing of a time per token; "" where it does."""
    if flat.get("unusable"):
        return str(flat["unusable"])
    given = [flat.get(name) for name in ("failed", "completed")]
    failed, done = (float(one) if one is not None and _is_number(one) else 0.0 for one in given)
    if failed > done:
        return f"{failed:g} of its {failed + done:g} requests failed"
    ends = [flat[name] for name in _FIRST if _is_number(flat.get(name))]
    return _UNSTREAMED if ends and not any(ends) else ""


def _without_limit(flat: dict[str, Any]) -> dict[str, Any]:
    """A run without the limit of its server where its lengths say its context.

    A limit is what is called one, or a context that the lengths do not reach.
    """
    prompt, output = (_of(flat, name)[1] for name in _TOTALS)
    if None in (prompt, output):
        return flat
    flat = {name: x for name, x in flat.items() if name not in _LONGEST}
    context = _of(flat, "context")[1]
    if not all(map(_is_number, (context, prompt, output))) or context <= prompt + output:
        return flat
    return {name: x for name, x in flat.items() if columns.COLUMNS.get(name) != "context"}


def _of(flat: Mapping[str, Any], column: str) -> tuple[str, Any]:
    """The best name that a run has of a column, and what it holds; "" and None where it has none.

    >>> _of({"tp_size": 8}, "tp")
    ('tp_size', 8)
    """
    names = (name for name in (column, *columns.NAMES[column]) if flat.get(name) is not None)
    name = next(names, "")
    return name, flat.get(name)


def _split(flat: dict[str, Any]) -> dict[str, Any]:
    """A run whose `tp` counts one replica of attention, also where each of its GPUs is one.

    InferenceX and SGLang count all GPUs of a stage as `tp`, of which there are `dp` parts; the
    context parallelism of vLLM and SGLang, `dcp`, is of those of `tp`.
    """
    each = str(_of(flat, "dp_attention")[1]).lower() in ("true", "1", "1.0", "yes")
    tp, dp = (_of(flat, name)[1] for name in ("tp", "dp"))
    called, kvp = _of(flat, "kvp")
    is_within = called not in ("", "kvp") and _is_number(kvp) and _is_number(tp)
    if is_within and kvp and not tp % kvp:
        return {**flat, "kvp": kvp, "tp": tp / kvp}
    if not each or not _is_number(tp) or flat.get("num_gpus") is not None:
        return flat
    replicas = dp if dp and _is_number(dp) else tp
    return flat if tp % replicas else {**flat, "dp": replicas, "tp": tp / replicas}


# What says "no drafts".
_NO_DRAFTS = ("", "-", "0", "no", "none", "off", "false", "n/a", "disabled", "baseline", "base")


def _drafter(flat: Mapping[str, Any]) -> str:
    """Who drafts in a run: MTP, or EAGLE for all others; "" for none."""
    name, said = _of(flat, "drafter")
    if said is None:
        labels = (tables.drafter_in(x) for x in map(flat.get, _LABELS) if isinstance(x, str))
        said = next(filter(None, labels), None)
    if said is None or str(said).lower() in _NO_DRAFTS:
        return "EAGLE" if _is_number(flat.get("accepted")) else ""
    return "MTP" if "mtp" in f"{name} {said}".lower() else "EAGLE"


def _drafting(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A run with the numbers of its drafts, as SGLang writes them, or of all steps."""
    names = {"accepted": _of(flat, "accepted")[0], "draft_tokens": "speculative_num_draft_tokens"}
    more = {name: flat[key] for name, key in names.items() if _is_number(flat.get(key))}
    if more.get("accepted", 0.0) < 0.0:  # SGLang's -1 of a run without drafts
        more.pop("accepted", None)
    told = ("acceptance_length", "draft_tokens", "num_drafts", "steps")  # vLLM's; aiperf's
    given = [flat.get(f"spec_decode_{name}", 0.0) for name in told]
    length, tokens, *counts = (one if _is_number(one) else 0.0 for one in given)
    steps = max(counts)
    more |= {"accepted": length} if length else {}
    more |= {"draft_tokens": round(tokens / steps) + 1.0} if length and steps else {}
    return {**flat, **more}


def runs_in(text: str) -> list[Any] | None:
    """The runs of a file that holds one object, a report of several, or several objects.

    None of another file.

    Raises:
        ValueError: it is no JSON, or a report without times per token.
    """
    data = reports.json_of(text)
    if isinstance(data, tuple):
        return [run for one in data for run in _runs_of(one) or [one]]
    return _runs_of(data)


def _runs_of(data: Any) -> list[Any] | None:
    if not isinstance(data, Mapping) or "records" in data:
        return None
    if found := reports.runs_of(data):
        return found
    lists = [x for x in data.values() if isinstance(x, list) and x and all(map(_is_run, x))]
    below = [x for x in data.values() if _is_run(x)]
    if len(lists) == 1 or len(below) > 1:  # a list of runs, or one below each of several keys
        beside = {name: x for name, x in data.items() if not (isinstance(x, list) or _is_run(x))}
        own = leaves(beside)
        return [{**own, **one} for one in (lists[0] if len(lists) == 1 else below)]
    is_run = (
        times_in(leaves(dialects.plain(data))) or {"model", "model_id", "hardware"} & data.keys()
    )
    return [data] if is_run else None


def _is_run(given: Any) -> bool:
    """Whether this is a run with a time per token."""
    return isinstance(given, Mapping) and bool(times_in(leaves(given)))
