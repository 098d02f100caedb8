"""`qsjax binding MODEL...`: which hardware number binds at each interactivity."""

from typing import Any

import click

from qsjax.cli import options, serving_options
from qsjax.cli.emit import emit
from qsjax.cli.grid_options import names
from qsjax.questions.binding import HARDWARE, POINTS, binding

CONTEXT = 8192.0


@click.command("binding")
@click.argument("models", nargs=-1, required=True, shell_complete=options.names_of("model"))
@options.system_options
@options.context_option("8k")
@options.quality_options
@serving_options.request_options
@click.option("--parameter", default=",".join(HARDWARE), show_default=True, help="Fields, groups.")
@click.option("--points", default=POINTS, show_default=True, help="Points of each front.")
@options.axis_options
@serving_options.limit_options
@serving_options.economy_options
@options.output_options
@options.input_errors
def command(models: tuple[str, ...], **flags: Any) -> None:
    r"""Say what 1 % more of each hardware number does along the front of MODELS and their twins.

    Users keep their tokens/s: what gets faster, a larger batch uses. The table has the elasticity
    of tokens/s/GPU in each parameter; those of price and energy are in the data.

    \b
    Examples:
      qsjax binding deepseek-v3 --hardware h200-sxm
      qsjax binding llama-3.1-70b --hardware h100-sxm,b200-sxm --gpus 8 --parameter hbm_bw,flops
    """
    problem = serving_options.problem_of(models, flags, (CONTEXT,))
    emit(binding(problem, names(flags["parameter"]), flags["points"]), flags)
