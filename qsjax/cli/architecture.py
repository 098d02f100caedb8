"""`qsjax architecture MODEL`: which architecture of equal quality serves best."""

from typing import Any

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import WHOLE, flag, verb
from qsjax.output.result import Result
from qsjax.questions.architecture import LAWS, architecture
from qsjax.questions.architecture.answers import MULTIPLE, TOKENS
from qsjax.questions.architecture.shapes import VARIED

CONTEXT = 32768.0


@verb("architecture")
@options.one_model
@options.context_option("32k")
@options.dtype_options
@serving_options.request_options
@options.options(*(flag(f"--{name.replace('_', '-')}", WHOLE, "Values to try.") for name in VARIED))
@flag("--law", str, f"What quality is equal under: {', '.join(LAWS)}.", "joint")
@flag("--tokens", float, "Training tokens.", TOKENS)
@flag("--multiple", float, "Of which widths are.", MULTIPLE)
@serving_options.target_options
def command(model: str, **flags: Any) -> Result:
    r"""Compare variants of MODEL that a published law calls equally good, each served at its best.

    Every variant gets the width of experts that keeps the quality, rounded up to one that can be
    built. --hardware takes several, with commas: what does the next accelerator change?

    \b
    Examples:
      qsjax architecture deepseek-v3 --hardware h200-sxm --experts 64,256,512 --top-k 4,8,16
      qsjax architecture qwen3-235b-a22b --hardware h200-sxm,b200-sxm --granularity 1,2,4
    """
    vary = {name: flags[name] for name in VARIED if flags[name] is not None}
    if not vary:
        raise ValueError("nothing varies; give for example --experts 64,128,256 --top-k 4,8")
    problem = problem_of(model, flags | {"twins": []}, (CONTEXT,))
    how = {name: flags[name] for name in ("law", "tokens", "multiple")}
    return architecture(problem, vary, **how)
