"""Rows that programs write, one run each under keys of their own, as runs under plain names.

Sources of the keys: AIConfigurator (sdk/common.py: ColumnsAgg, ColumnsDisagg), llama.cpp
(tools/llama-bench), SGLang (bench_one_batch.py, bench_one_batch_server.py), InferenceX
(utils/process_result.py). vLLM's `bench sweep` writes the keys of its results, a run a row.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from qsjax.evidence.measurements.columns import is_time

Row = dict[str, Any]
# What a name of a GGUF file says of its weights, and of its part of several files.
_OF_FILE = re.compile(
    r"(?:-\d+-of-\d+)?(?:\.gguf)?$|[-_.](?:UD-)?(?:I?Q\d\w*|TQ\d_0|MXFP4(?:_MOE)?|B?F16|F32)$",
    re.IGNORECASE,
)
_CACHES = {"q8_0": "int8", "f16": "fp16", "bf16": "bf16"}
# Keys by which a table is one of a program, whose columns are not asked to be known.
_OF_PROGRAMS = ({"tokens/s/user", "tpot"}, {"avg_ts", "model_filename"})
_TOTALS = {"total_input_tokens", "total_output_tokens"}


def _llama(row: Mapping[str, Any]) -> Row:
    """llama-bench: one sequence, whose tokens a second are the reciprocal of their time."""
    gpus = [name.strip() for name in str(row.get("gpu_info") or "").split(",") if name.strip()]
    if not row.get("n_gen") or row.get("n_prompt"):
        return {"unusable": "it times prompts; those of generated tokens (n_gen) are read"}
    if not gpus or row.get("n_gpu_layers") == 0:
        return {"unusable": "no layer runs on a GPU"}
    name = PurePath(str(row["model_filename"]).replace("\\", "/")).name
    while (shorter := _OF_FILE.sub("", name)) != name:
        name = shorter
    size, count = row.get("model_size"), row.get("model_n_params")
    return {
        "model": row.get("model") or name,
        "hardware": row.get("hardware") or gpus[0],
        "tp" if row.get("split_mode") in ("row", "tensor") else "pp": len(gpus),
        "concurrency": 1,
        "context": (row.get("n_depth") or 0) + row["n_gen"] / 2,
        "tpot_s": 1.0 / row["avg_ts"],
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
    drafter = str(row.get("spec_decoding") or "none").upper()
    phase = "decode-only" if drafter in ("NONE", "FALSE") else f"decode-only {drafter}"
    return {**row, **degrees, **more, "dp_attention": None, "phase": phase}


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
    if {"tokens/s/user", "tpot"} <= row.keys():
        return _configurator(row)
    return _decoding(row) if row.get("decode_tp") else dict(row)


def rows_in(text: str) -> list[Row] | None:
    """The rows of a program's CSV with numbers in them; None of any other table."""
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
