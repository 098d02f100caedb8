"""The errors of qsjax and of NVIDIA's AIConfigurator on the same measurements, in one run.

AIConfigurator runs in a process of its own, by the interpreter that has it: `python -m venv rivals
&& rivals/bin/pip install aiconfigurator`, then `python -m benchmarks.side_by_side --rivals
rivals/bin/python`. It is asked in its aggregated mode, with its measured tables, at the lengths,
batch and split of each record; precisions are those of the record. What its tables do not cover is
counted and left out for both. Its schedulers were tuned on some of these records, and our constants
were fitted to some. It takes ten minutes or more; its answers are kept in `build/`, and a rerun
asks for what is new. The tables go to `docs/side-by-side.md`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
PAGE, KEPT = ROOT / "docs" / "side-by-side.md", ROOT / "build" / "side_by_side.json"
SYSTEMS = ("h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm")
ENGINES = ("vllm", "sglang", "trtllm")
# Names of Hugging Face repositories under which AIConfigurator has a configuration.
MODELS = {
    "deepseek-v3": "deepseek-ai/DeepSeek-V3",
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "kimi-k2.5": "moonshotai/Kimi-K2.5",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "minimax-m2.5": "MiniMaxAI/MiniMax-M2.5",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
    "qwen3-32b": "Qwen/Qwen3-32B",
}
BLOCKS = ("deepseek-v3", "minimax-m2.5", "qwen3-235b-a22b")  # a scale for each 128 x 128 weights
Row = dict[str, Any]


def request_of(record: Row, row: Row) -> Row | None:
    """What AIConfigurator is asked for a record; None if it knows none of its names."""
    known = row["gpu"].split("-")[0] + "_sxm"
    if known not in SYSTEMS or row["engine"] not in ENGINES or row["model"] not in MODELS:
        return None
    dtype = str(record["weights_dtype"])
    gemm = {"fp8": "fp8_block" if row["model"] in BLOCKS else "fp8", "fp4": "nvfp4"}
    quantised = {"bf16": "bfloat16"} | gemm
    stage, ep = row["tp"] * row["dp"], row["ep"]
    asked: Row = {
        "model_path": MODELS[row["model"]],
        "system_name": known,
        "backend_name": row["engine"],
        "isl": round(row["prompt"]),
        "osl": round(row["output"]),
        "batch_size": max(1, round(row["batch"])),
        "tp_size": int(row["tp"]),
        "attention_dp_size": int(row["dp"]),
    }
    if row["is_moe"]:
        asked |= {"moe_ep_size": int(ep), "moe_tp_size": int(stage / ep)}
    if row["model"] not in ("gpt-oss-120b", "kimi-k2.5") and dtype in quantised:
        asked["gemm_quant_mode"] = quantised[dtype]
        asked |= {"moe_quant_mode": quantised[dtype]} if row["is_moe"] else {}
    if record["kv_dtype"]:
        asked["kvcache_quant_mode"] = {"bf16": "bfloat16"}.get(record["kv_dtype"], "fp8")
    return asked


def answer(
    requests: Sequence[Row | None], estimate: Callable[..., Any], kept: dict[str, float | str]
) -> list[float | str]:
    """TPOT of each request [ms], or why there is none; run by the rival's interpreter.

    Args:
        requests: as of `request_of`.
        estimate: the rival's function.
        kept: answers to the same requests, to which new ones are added.
    """
    found: list[float | str] = []
    for asked in requests:
        key = json.dumps(asked, sort_keys=True)
        if asked is None:
            kept[key] = "no such model, accelerator or engine"
        elif key not in kept:
            try:
                kept[key] = float(estimate(**asked).tpot)
            except (RuntimeError, ValueError) as error:  # how it says that it has no table
                kept[key] = f"{type(error).__name__}: {error}"[:100]
            KEPT.write_text(json.dumps(kept), encoding="utf-8")
        found.append(kept[key])
    return found


def measured() -> tuple[list[Row], list[Row | None]]:
    """The scored measurements of TPOT with our predictions, and what the rival is asked."""
    from qsjax.evidence.measurements import Case, load_records, predict, read_cases
    from qsjax.numerics.loading import in_float64
    from qsjax.numerics.safe import scalar

    records = load_records()
    pairs = list(zip(records, read_cases(records), strict=True))
    kept = [
        (record, case)
        for record, case in pairs
        if isinstance(case, Case) and case.kind == "served_tpot" and not case.not_scored
    ]
    ours = in_float64(predict)([case for _, case in kept])
    rows, requests = [], []
    for (record, case), prediction in zip(kept, ours, strict=True):
        one = case.deployments[0]
        row: Row = {
            "id": case.id, "model": one.model_name, "gpu": one.hardware_name,
            "engine": one.engine, "prompt": one.prompt, "output": one.output,
            "batch": scalar(one.workload.batch), "is_moe": scalar(one.model.experts) > 1,
            "tp": scalar(one.partition.tp), "dp": scalar(one.partition.dp),
            "ep": scalar(one.partition.ep), "measured": case.measured * case.unit * 1e3,
            "qsjax": prediction.value * case.unit * 1e3,
        }  # fmt: skip
        rows.append(row)
        requests.append(request_of(record, row))
    return rows, requests


def _errors(rows: Sequence[Row], name: str) -> list[str]:
    error = np.array([100.0 * (row[name] / row["measured"] - 1.0) for row in rows])
    size = np.abs(error)
    return [f"{np.median(size):.1f}", f"{np.percentile(size, 90):.1f}", f"{np.median(error):+.1f}"]


def table(rows: Sequence[Row], by: Sequence[str]) -> str:
    """Both errors by group; the smaller median in bold."""
    keys = sorted({tuple(row[name] for name in by) for row in rows}) if by else [()]
    heads = [*by, "records", "qsjax", "90 %", "bias", "AIConfigurator", "90 %", "bias"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for key in keys:
        own = [row for row in rows if all(row[n] == v for n, v in zip(by, key, strict=True))]
        a, b = _errors(own, "qsjax"), _errors(own, "rival")
        winner = a if float(a[0]) <= float(b[0]) else b
        winner[0] = f"**{winner[0]}**"
        lines.append("| " + " | ".join([*key, str(len(own)), *a, *b]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Ask both, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rivals", required=True, help="interpreter that has aiconfigurator")
    rows, requests = measured()
    run = [parser.parse_args().rivals, __file__, "--answer"]
    done = subprocess.run(run, input=json.dumps(requests), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    both, reasons = [], dict[str, int]()
    for row, rival in zip(rows, found["tpot"], strict=True):
        if isinstance(rival, str) or not rival > 0:
            why = str(rival).partition(":")[0]
            reasons[why] = reasons.get(why, 0) + 1
        else:
            both.append(row | {"rival": rival})
    missing = ", ".join(f"{why}: {count}" for why, count in reasons.items())
    text = [
        "# Side by side with AIConfigurator\n",
        f"Time per output token of the same {len(both)} measurements, in per cent of the measured; "
        "median and 90th percentile of the absolute error, and median of the error. AIConfigurator "
        f"{found['version']}, aggregated mode, measured tables of its latest releases of each "
        f"engine. Not covered by it and left out for both: {missing}. Written by `python -m "
        "benchmarks.side_by_side --rivals PYTHON`; rows that we lose stand beside the others.\n",
        table(both, ()),
        table(both, ("engine",)),
        table(both, ("gpu", "engine")),
        table(both, ("model", "gpu", "engine")),
    ]
    PAGE.write_text("\n".join(text), encoding="utf-8")
    print(table(both, ()))


def _answer_here() -> None:
    import contextlib
    import io
    import logging
    from importlib import metadata

    from aiconfigurator.cli.api import cli_estimate

    logging.disable(logging.CRITICAL)
    KEPT.parent.mkdir(exist_ok=True)
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    with contextlib.redirect_stdout(io.StringIO()):
        found = answer(json.load(sys.stdin), cli_estimate, kept)
    print(json.dumps({"tpot": found, "version": metadata.version("aiconfigurator")}))


if __name__ == "__main__":
    _answer_here() if sys.argv[1:] == ["--answer"] else main()
