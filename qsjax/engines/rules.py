"""The rules of engines, each kind in a TOML, and the generations of accelerators."""

import functools
import tomllib
from importlib import resources
from typing import Any


@functools.cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("qsjax.engines") / f"{name}.toml").read_text("utf-8"))


# How each engine divides an accelerator's memory [GiB] and runs four-bit experts.
load_engines = functools.partial(_table, "engines")
# The constants of kernels by generation, engine and format.
load_kernels = functools.partial(_table, "kernels")
# Flags by engine: which are read, which have no effect, which are not read.
load_flags = functools.partial(_table, "flags")
# The default rules of each engine's scheduler.
load_schedulers = functools.partial(_table, "schedulers")

# What is built alike errs alike.
GENERATIONS = {
    "ampere": ("a100", "a10g"),
    "ada": ("l40s", "l4", "rtx-4090"),
    "hopper": ("h100", "h200", "h800", "h20", "gh200"),
    "blackwell": ("b200", "b300", "gb200", "gb300", "rtx-pro", "rtx-5090", "dgx-spark"),
    "cdna3": ("mi300x", "mi325x"),
    "cdna4": ("mi350x", "mi355x"),
    "tpu": ("tpu",),
    "neuron": ("trainium", "inferentia"),
}


# Engines that run on some generations only. Sources: the support matrix of TensorRT-LLM, the README
# of ROCm/ATOM, and the documentation of AWS Neuron.
RUNS_ON = {
    "trtllm": ("ampere", "ada", "hopper", "blackwell"),
    "atom": ("cdna3", "cdna4"),
    "neuronx": ("neuron",),
}


def refuses(engine: str, accelerator: str) -> bool:
    """Whether an engine cannot run on an accelerator of the catalogue."""
    made = generation_of(accelerator)
    return engine in RUNS_ON and bool(made) and made not in RUNS_ON[engine]


def generation_of(name: str) -> str:
    """The generation of an accelerator of the catalogue; "" for one that is in none.

    >>> generation_of("h200-sxm"), generation_of("paper-reference")
    ('hopper', '')
    """
    starts = {start: made for made, names in GENERATIONS.items() for start in names}
    return next((made for start, made in starts.items() if name.startswith(start)), "")
