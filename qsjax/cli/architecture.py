"""`qsjax architecture MODEL`: which architecture of equal quality serves best."""

from typing import Any, ClassVar

import click

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import WHOLE, flag, verb
from qsjax.output.result import Result
from qsjax.questions.architecture import LAWS, architecture
from qsjax.questions.architecture.answers import TOKENS
from qsjax.questions.architecture.shapes import VARIED

CONTEXT = 32768.0
_VARIED = f"Values to try of {', '.join(VARIED)}."


class Amount(click.ParamType[float]):
    """A number of which B and T are 1e9 and 1e12, such as 14.8T."""

    name = "number"
    SCALES: ClassVar = {"B": 1e9, "T": 1e12}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        text = str(value).strip().upper()
        scale = self.SCALES.get(text[-1:])
        try:
            return float(text) if scale is None else float(text[:-1]) * scale
        except ValueError:
            self.fail(f"{value!r} is not a number; write for example 14.8T or 500B")


@verb("architecture")
@options.one_model
@options.context_option("32k")
@options.dtype_options
@serving_options.request_options
@options.options(*(flag(f"--{name.replace('_', '-')}", WHOLE, _VARIED) for name in VARIED))
@flag("--law", str, f"What quality is equal under: {', '.join(LAWS)}.", "joint")
@flag("--tokens", Amount(), "Training tokens.", f"{TOKENS / 1e12:g}T")
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
    return architecture(problem, vary, flags["law"], tokens=flags["tokens"])
