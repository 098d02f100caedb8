"""`qsjax speculate MODEL...`: what speculation gains at every batch."""

from typing import Any

from qsjax.cli import options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import flag, verb
from qsjax.cost.speculation import ACCEPTANCE, METHODS
from qsjax.output.result import Result
from qsjax.questions.speculate import speculate

CONTEXT = 8192.0


@verb("speculate")
@options.some_models
@options.workload_options("8k")
@flag("--acceptance", float, "Chance that a draft is accepted if those before it are.", ACCEPTANCE)
@flag("--drafts", int, "Tokens drafted in a step.", 1)
@flag("--method", METHODS, "Who drafts.", "mtp")
@flag("--head-params", float, "Parameters of an Eagle head.")
@options.axis_options
def command(models: tuple[str, ...], **flags: Any) -> Result:
    r"""Say what speculative decoding gains at every batch, for MODELS and their dense twins.

    Drafts come from the model's own extra layer (mtp), an Eagle head or n-grams. The first two take
    a pass through one layer, which costs what any layer costs.

    \b
    Examples:
      qsjax speculate deepseek-v3 --hardware h200-sxm --gpus 16 --twins 1 --acceptance 0.85
      qsjax speculate llama-3.1-70b --hardware h100-sxm --gpus 4 --method eagle --drafts 3
    """
    problem = problem_of(models, flags, (CONTEXT,))
    names = ("acceptance", "drafts", "method", "head_params")
    return speculate(problem, **{name: flags[name] for name in names})
