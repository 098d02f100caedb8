"""`qsjax pareto MODEL...`: the front of throughput against interactivity."""

from typing import Any

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import flag, verb
from qsjax.output.result import Result
from qsjax.questions.pareto import pareto

CONTEXT = 8192.0


@verb("pareto")
@options.some_models
@options.workload_options("8k")
@serving_options.request_options
@options.axis_options
@serving_options.target_options
@flag("--every-batch", bool, "Try every batch, not a ladder of 2 % steps.")
def command(models: tuple[str, ...], **flags: Any) -> Result:
    r"""Trace tokens/s/GPU against tokens/s/user for MODELS and their dense twins.

    The front is exact over every split and batch tried. --hardware takes several, with commas. With
    limits, the last point of a front is the best design that keeps them; if none does, the output
    says which limit is in the way and what would help.

    \b
    Examples:
      qsjax pareto deepseek-v3 --hardware h200-sxm --gpus 64 --context 8k
      qsjax pareto qwen3-235b-a22b --hardware h100-sxm,b200-sxm --isl 4096 --osl 1024
      qsjax pareto deepseek-v3 --hardware h200-sxm --max-tpot 20ms --max-usd 3 --usd-per-hour 2.5
    """
    return pareto(problem_of(models, flags, (CONTEXT,)), flags["every_batch"])
