"""`qsjax binding MODEL...`: which hardware number binds at each interactivity."""

from typing import Any

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import flag, verb
from qsjax.output.result import Result
from qsjax.questions.binding import HARDWARE, POINTS, binding

CONTEXT = 8192.0


@verb("binding")
@options.some_models
@options.workload_options("8k")
@serving_options.request_options
@flag("--parameter", str, "Hardware fields or groups of them.", ",".join(HARDWARE))
@flag("--points", int, "Points of each front.", POINTS)
@options.axis_options
@serving_options.target_options
def command(models: tuple[str, ...], **flags: Any) -> Result:
    r"""Say what 1 % more of each hardware number does along the front of MODELS and their twins.

    Users keep their tokens/s: what gets faster, a larger batch uses. The table has the elasticity
    of tokens/s/GPU in each parameter; those of price and energy are in the data.

    \b
    Examples:
      qsjax binding deepseek-v3 --hardware h200-sxm
      qsjax binding llama-3.1-70b --hardware h100-sxm,b200-sxm --gpus 8 --parameter hbm_bw,flops
    """
    return binding(problem_of(models, flags, (CONTEXT,)), flags["parameter"], flags["points"])
