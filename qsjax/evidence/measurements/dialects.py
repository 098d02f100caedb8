"""Rows that programs write, one run each under keys of their own, as runs under plain names.

Sources of the keys: AIConfigurator (sdk/common.py: ColumnsAgg, ColumnsDisagg), llama.cpp
(tools/llama-bench, batched-bench), SGLang (bench_one_batch.py, bench_one_batch_server.py),
InferenceX (utils/process_result.py), llmperf (token_benchmark_ray.py, its OpenAI client), Hugging
Face's optimum-benchmark. vLLM's `bench sweep` writes the keys of its results, a run a row.
"""

import csv
import functools
import itertools
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from qsjax import catalog
from qsjax.catalog.reading import value_at
from qsjax.cost.laws.params import total_params
from qsjax.evidence.measurements import reports, tables
from qsjax.evidence.measurements.columns import is_time
from qsjax.evidence.measurements.names import find_model

Row = dict[str, Any]
# What a name of a GGUF file says of its weights, and of its part of several files.
_OF_FILE = re.compile(
    r"(?:-\d+-of-\d+)?(?:\.gguf)?$|[-_.](?:UD-)?(?:I?Q\d\w*|TQ\d_0|MXFP4(?:_MOE)?|B?F16|F32)$",
    re.IGNORECASE,
)
_CACHES = {"q8_0": "int8", "f16": "fp16", "bf16": "bf16"}
# What llama-bench calls a model: "qwen3moe 30B.A3B Q4_K - Medium".
_OF_TYPE = re.compile(r"\s+(?:all )?(?:I?Q\d\w*|TQ\d_0|MXFP4|B?F16|F32)\b.*$", re.IGNORECASE)
_DEVICE = re.compile(r"(?m)^[ \t]*(?:Device \d+: |ggml_vulkan: \d+ = )([^,(\n]*\S)")
_ALIKE = 0.001  # of the same size: norms and biases are not counted
_LAST_DIGIT = {1e9: 5e6, 1e6: 5e3}  # half a unit of the last digit: 7.24 B, 134.52 M
_SIZES = {"MiB": 2.0**20, "GiB": 2.0**30, "M": 1e6, "B": 1e9}
_TEST = re.compile(r"tg(?P<count>\d+)(?: @ d(?P<depth>\d+))?")
# Keys by which a table is one of a program, whose columns are not asked to be known.
_STEP = "report.per_token.latency.mean"  # of optimum-benchmark, in seconds
_OF_PROGRAMS = ({"tokens/s/user", "tpot"}, {"avg_ts", "model_filename"}, {_STEP})
_OF_LLMPERF = "results_inter_token_latency_s_mean"
LLMPERF = ("results_end_to_end_latency_s_mean", "results_ttft_s_mean")  # what corrects it
# llama-batched-bench's JSON, and the headings of its table.
_BATCHED = {"pp": "PP", "tg": "TG", "pl": "B", "t_tg": "T_TG s"}
_TOTALS = {"total_input_tokens", "total_output_tokens"}


@functools.cache
def _sizes() -> dict[str, float]:
    """Parameters of the models of the catalogue."""
    names = catalog.model_names()
    return {name: float(total_params(catalog.model_entry(name).spec)) for name in names}


def _of_size(kind: str, count: float | None) -> str:
    """The model that llama.cpp calls so: its "llama 7B" may be Llama 2 or Mistral, by their sizes.

    Of several as large it is the one that is called most alike; the kind itself where none is.
    """
    name = _OF_TYPE.sub("", kind).replace("moe ", " ").replace(".", "-")
    count = count or 0.0
    reach = _ALIKE * count + next(
        (half for unit, half in _LAST_DIGIT.items() if count >= unit), 0.0
    )
    near = [one for one, size in _sizes().items() if abs(size - count) < reach]

    def alike(one: str) -> int:
        pairs = zip(re.sub(r"\W", "", name.lower()), re.sub(r"\W", "", one), strict=False)
        return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))

    return max(near, key=alike, default=name)


def _llama(row: Mapping[str, Any]) -> Row:
    """llama-bench: one sequence, whose tokens a second are the reciprocal of their time."""
    told = str(row.get("gpu_info") or row.get("hardware") or "")
    gpus = [name.strip() for name in told.split(",") if name.strip()]
    if not row.get("n_gen") or row.get("n_prompt"):
        return {"unusable": "it times prompts; those of generated tokens (n_gen) are read"}
    if row.get("n_gpu_layers") == 0:
        return {"unusable": "no layer runs on a GPU"}
    if not gpus:
        return {"unusable": "it names no GPU; add a line `hardware: ...`, or give -o json"}
    name = PurePath(str(row["model_filename"]).replace("\\", "/")).name
    while (shorter := _OF_FILE.sub("", name)) != name:
        name = shorter
    size, count = row.get("model_size"), row.get("model_n_params")
    if row.get("model") is None and find_model(name) is None:
        name = _of_size(str(row.get("model_type") or name), count)
    return {
        "model": row.get("model") or name,
        "hardware": row.get("hardware") or gpus[0],
        "tp" if row.get("split_mode") in ("row", "tensor") else "pp": len(gpus),
        "concurrency": 1,
        "context": (row.get("n_depth") or 0) + row["n_gen"] / 2,
        "tpot_s": 1.0 / row["avg_ts"] if row["avg_ts"] else None,
        "weights": f"{8 * size / count:.3f} bits a weight" if size and count else None,
        "kv": _CACHES.get(str(row.get("type_k"))),
        "engine": "llama.cpp",
        "phase": "decode-only",
    }


def _one_batch(row: Mapping[str, Any]) -> Row:
    """SGLang's fixed batches: the median of their steps, or what follows the first token."""
    size = row["output_len"]
    rest = (row.get("latency") or 0.0) - (row.get("last_ttft") or 0.0)
    step = row.get("median_decode_latency")
    return {
        **{name: value for name, value in row.items() if name not in ("input_len", "output_len")},
        "concurrency": row["batch_size"],
        "context": row["input_len"] + size / 2,
        "median_itl_s" if step else "mean_tpot_s": step or rest / size,
        "phase": "decode-only",
    }


def _configurator(row: Mapping[str, Any]) -> Row:
    """AIConfigurator's designs, as it predicts them; of separate servers those that decode."""
    side = "(d)" if "(d)tp" in row else ""

    def own(name: str) -> Any:
        found = row.get(f"{side}{name}")
        return row.get(name) if found is None else found

    degrees = {name: own(name) or 1 for name in ("tp", "pp", "dp")}
    found = {name: row.get(name) for name in ("model", "isl", "osl", "concurrency")}
    four = own("moe") if "4" in str(own("moe")) else None
    found |= degrees | {"ep": own("moe_ep"), "tpot_ms": row["tpot"], "kv": own("kvcache")}
    found |= {"hardware": own("hardware") or own("system"), "engine": own("backend")}
    found |= {"weights": four or own("gemm")}
    if side:
        context = row["isl"] + row["osl"] / 2
        found |= {"phase": "decode-only", "context": context}
        found |= {"concurrency": own("bs") * degrees["dp"], "isl": None, "osl": None}
    return found


def _decoding(row: Mapping[str, Any]) -> Row:
    """InferenceX with separate servers: those that decode, all of whose GPUs serve the load."""
    gpus, tp = row.get("num_decode_gpu"), row["decode_tp"]
    each = str(row.get("decode_dp_attention")).lower() == "true"
    degrees = {"tp": 1, "dp": gpus or tp} if each else {"tp": tp}
    more = {"n_gpus": gpus, "num_gpus": gpus, "ep": row.get("decode_ep")}
    return {**row, **degrees, **more, "dp_attention": None, "phase": "decode-only"}


def _llmperf(row: Mapping[str, Any]) -> Row:
    """llmperf: its time between tokens is that of a whole request over its tokens, with the first.

    Its client appends the time to first token to those between tokens, and sums them.
    """
    sizes = row.get("results_number_output_tokens_mean") or row.get("mean_output_tokens")
    whole, first, size = (float(x or 0.0) for x in (*(row.get(x) for x in LLMPERF), sizes))
    if not (whole > first > 0.0 and size > 1.0):
        wanted = f"give {' and '.join(LLMPERF)} beside it, or tpot_ms"
        return {"unusable": f"its time between tokens has the first in it; {wanted}"}
    others = {name: value for name, value in row.items() if name != _OF_LLMPERF}
    return {**others, "tpot_s": (whole - first) / (size - 1.0)}


def _optimum(row: Mapping[str, Any]) -> Row:
    """optimum-benchmark, or a row of the LLM-Perf leaderboard: the steps of a fixed batch."""

    def said(path: str) -> Any:
        found = row.get(path, value_at(row, path))
        return None if found in ("", "nan") else found

    gpus = re.findall(r"[^\[\]'\",]*\w[^\[\]'\",]*", str(said("config.environment.gpu") or ""))
    shapes = "config.scenario.input_shapes"
    prompt, size = said(f"{shapes}.sequence_length"), said(f"{shapes}.batch_size")
    answer = said("config.scenario.generate_kwargs.max_new_tokens")
    own = {name: row[name] for name in row.keys() & {*reports.OWN}}
    if None in (said(_STEP), prompt, size, answer):
        return {"unusable": f"it has no {_STEP}, or no batch_size, sequence_length, max_new_tokens"}
    found = {
        "model": said("config.backend.model"),
        "hardware": gpus[0].strip() if gpus else None,
        "pp": len(gpus) or None,  # Transformers divides layers
        "concurrency": float(size),
        "context": float(prompt) + float(answer) / 2,
        "tpot_s": float(said(_STEP)),
        "weights": said("config.backend.quantization_scheme") or said("config.backend.torch_dtype"),
        "phase": "decode-only",
    }
    return {name: x for name, x in found.items() if x is not None} | own


def plain(row: Mapping[str, Any]) -> Row:
    """A run of a program that is known here under plain names; any other as it is.

    >>> plain({"avg_ts": 50.0, "n_gen": 128, "n_prompt": 0, "gpu_info": "NVIDIA H100",
    ...     "model_filename": "m/Qwen3-8B-Q4_K_M.gguf"})["tpot_s"]
    0.02
    """
    if {"avg_ts", "model_filename"} <= row.keys():
        return _llama(row)
    if {"batch_size", "input_len", "output_len"} <= row.keys() and (
        "median_decode_latency" in row or {"latency", "last_ttft"} <= row.keys()
    ):
        return _one_batch(row)
    if _OF_LLMPERF in row and not any(is_time(name) for name in row if name != _OF_LLMPERF):
        return _llmperf(row)
    if _STEP in row or value_at(row, _STEP) is not None:
        return _optimum(row)
    if {"tokens/s/user", "tpot"} <= row.keys():
        return _configurator(row)
    if _BATCHED.keys() <= row.keys():
        own = {name: row[name] for name in row.keys() & {*reports.OWN} - _BATCHED.keys()}
        return _of_batched_bench({_BATCHED.get(k, k): row[k] for k in row}, "") | own
    return _decoding(row) if row.get("decode_tp") else dict(row)


def _sized(text: str) -> float:
    """The number of "4.68 GiB" or "8.19 B"; 0 of another text."""
    count, _, unit = text.partition(" ")
    return float(count) * _SIZES[unit] if unit in _SIZES else 0.0


def _of_llama_bench(cells: Mapping[str, str], text: str) -> Row:
    """A row of the table that llama-bench prints, below the GPUs that it found, as its JSON."""
    test = _TEST.fullmatch(cells["test"])
    gpus = [] if cells.get("backend") in ("CPU", "BLAS") else _DEVICE.findall(text)
    count = _sized(cells.get("params", ""))
    return {
        "model_filename": _of_size(cells["model"], count),
        "model_size": _sized(cells.get("size", "")),
        "model_n_params": count,
        "gpu_info": ", ".join(gpus),
        "n_gpu_layers": int(cells.get("ngl") or 99),
        "split_mode": cells.get("sm", "layer"),
        "type_k": cells.get("type_k", "f16"),
        "n_gen": test and int(test["count"]),
        "n_depth": test and int(test["depth"] or 0),
        "avg_ts": float(re.split(r"\s*\u00b1", cells["t/s"])[0]),
    }


def _of_batched_bench(cells: Mapping[str, Any], text: str) -> Row:
    """A row of llama-batched-bench: B sequences of PP tokens each write TG more."""
    prompt, output, count, seconds = (float(cells[x]) for x in ("PP", "TG", "B", "T_TG s"))
    return {
        "concurrency": count,
        "context": prompt + output / 2,
        "tpot_s": seconds / output if output else None,
        "engine": "llama.cpp",
        "phase": "decode-only",
    }


# Tables that programs of llama.cpp print, by their headings.
_PRINTED = (
    ({"model", "test", "t/s"}, _of_llama_bench),
    ({"PP", "TG", "B", "T_TG s"}, _of_batched_bench),
)


def _printed(text: str) -> list[Row]:
    """The runs of tables of llama.cpp's programs, each with what a user's own lines say."""
    own = reports.own_lines(text)
    return [
        read(dict(zip(heads, cells, strict=True)), text) | own
        for (_, heads), *rows in tables.drawn(text)
        for keys, read in _PRINTED
        if keys <= {*heads}
        for _, cells in rows
        if len(cells) == len(heads)
    ]


def rows_in(text: str) -> list[Row] | None:
    """The rows of a program's table with numbers in them; None of any other table."""
    if found := _printed(text):
        return found
    lines = [line for line in text.splitlines() if line.strip()]
    heads = {head.strip() for head in next(csv.reader(lines[:1]), [])}
    has_totals = heads >= _TOTALS and any(map(is_time, heads))
    if not has_totals and not any(heads >= keys for keys in _OF_PROGRAMS):
        return None
    return [
        {name.strip(): _cell(cell) for name, cell in row.items() if name and cell}
        for row in csv.DictReader(lines)
    ]


def _cell(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()
