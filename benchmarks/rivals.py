"""Other tools' configurations per second, in the same run, where they are installed.

A rival runs in a process of its own and by whatever interpreter has it, as its dependencies may
contradict ours: `python -m venv rivals && rivals/bin/pip install aiconfigurator llm-analysis
genz-llm`, then `python -m benchmarks.run --rivals rivals/bin/python`. Each call asks for one decode
step of one model, split and batch, which is what one cell of the grid answers. The workload differs
from call to call, so that a cache is of no use.
"""

import contextlib
import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

SECONDS = 2.0
CONTEXT, BATCHES, TP = 4096, 16, 8


def aiconfigurator() -> tuple[str, Callable[[int], Any]]:
    """The compiled engine of NVIDIA AIConfigurator, bound to one split of DeepSeek-V3."""
    from aiconfigurator_core.sdk.engine import EngineHandle

    engine = EngineHandle.compile(
        "deepseek-ai/DeepSeek-V3", "h200_sxm", "trtllm", tp_size=TP, moe_ep_size=TP
    )
    return (
        "DeepSeek-V3, one split, compiled engine, decode latency",
        lambda k: engine.predict_decode_latency(1 + k % BATCHES, CONTEXT + k, 2),
    )


def llm_analysis() -> tuple[str, Callable[[int], Any]]:
    """llm-analysis, which knows dense models and tensor parallelism."""
    from llm_analysis.analysis import LLMAnalysis
    from llm_analysis.config import (
        ModelConfig,
        ParallelismConfig,
        get_dtype_config_by_name,
        get_gpu_config_by_name,
    )

    model = ModelConfig(
        name="llama-65b",
        num_layers=80,
        n_head=64,
        hidden_dim=8192,
        vocab_size=32000,
        max_seq_len=2**20,
        ffn_embed_dim=4 * 8192,
    )
    gpu = get_gpu_config_by_name("h100-sxm-80gb")
    dtype = get_dtype_config_by_name("w16a16e16")
    logging.disable(logging.CRITICAL)
    tool = LLMAnalysis(model, gpu, dtype, ParallelismConfig(tp_size=TP))
    return "dense 65B, one split, inference summary", lambda k: tool.inference(
        batch_size_per_gpu=1 + k % BATCHES, seq_len=CONTEXT + k % CONTEXT, num_tokens_to_generate=1
    )


def genz() -> tuple[str, Callable[[int], Any]]:
    """GenZ, operator by operator."""
    from GenZ import decode_moddeling

    return "llama2_70b, one split, decode step", lambda k: decode_moddeling(
        model="llama2_70b",
        batch_size=1 + k % BATCHES,
        input_tokens=CONTEXT + k,
        output_tokens=1,
        Bb=1,
        system_name="H100_GPU",
        bits="bf16",
        tensor_parallel=TP,
    )


TOOLS = {"aiconfigurator": aiconfigurator, "llm-analysis": llm_analysis, "genz-llm": genz}


def measure_here() -> dict[str, Any]:
    """Configurations per second of every tool that this interpreter has."""
    found: dict[str, Any] = {}
    for name, make in TOOLS.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = {"missing": "not installed"}
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                what, call = make()
                call(0)
                count, start = 0, time.perf_counter()
                while (taken := time.perf_counter() - start) < SECONDS:
                    count += 1
                    call(count)
        except Exception as error:  # a rival may fail in any way; the run goes on and says so
            found[name] = {"version": version, "missing": f"{type(error).__name__}: {error}"}
            continue
        found[name] = {"version": version, "what": what, "configurations_per_s": count / taken}
    return found


def measure(python: str = sys.executable) -> dict[str, Any]:
    """What `python` measures of the rivals that it has installed."""
    # Run as a file: the other interpreter has neither jax nor this package.
    done = subprocess.run(
        [python, __file__], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {name: {"missing": reason[0]} for name in TOOLS}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(measure_here()))
