"""`qsjax speculate MODEL...`: what speculation gains at every batch."""

from typing import Any

import click

from qsjax.cli import grid_options, options
from qsjax.cli.emit import emit
from qsjax.cost.speculation import ACCEPTANCE, METHODS
from qsjax.questions.speculate import speculate

CONTEXT = 8192.0


@click.command("speculate")
@click.argument("models", nargs=-1, required=True, shell_complete=options.names_of("model"))
@options.system_options
@options.context_option("8k")
@options.quality_options
@click.option(
    "--acceptance",
    type=float,
    default=ACCEPTANCE,
    show_default=True,
    help="Chance of a draft to be accepted, given those before it.",
)
@click.option("--drafts", type=int, default=1, show_default=True, help="Tokens drafted in a step.")
@click.option(
    "--method", type=click.Choice(METHODS), default="mtp", show_default=True, help="Who drafts."
)
@click.option("--head-params", type=float, help="Parameters of an Eagle head.")
@options.axis_options
@options.output_options
@options.input_errors
def command(models: tuple[str, ...], **flags: Any) -> None:
    r"""Tell what speculation gains of MODELS and their dense twins against the batch.

    Drafts come from the model's own layer (mtp), an Eagle head or n-grams; the first two are passes
    of one layer, which cost what the laws of the step say.

    \b
    Examples:
      qsjax speculate deepseek-v3 --hardware h200-sxm --gpus 16 --twins 1 --acceptance 0.85
      qsjax speculate llama-3.1-70b --hardware h100-sxm --gpus 4 --method eagle --drafts 3
    """
    problem = grid_options.problem_of(models, flags, (CONTEXT,))
    names = ("acceptance", "drafts", "method", "head_params")
    emit(speculate(problem, **{name: flags[name] for name in names}), flags)
