"""`qsjax moe-or-dense MODEL`: an MoE against its dense twin at equal interactivity."""

from typing import Any

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import flag, verb
from qsjax.grid.distributions import parse
from qsjax.output.result import Result
from qsjax.questions.moe_or_dense import NODES, moe_or_dense

CONTEXTS = (1024.0, 8192.0, 32768.0, 131072.0)


@verb("moe-or-dense")
@options.one_model
@options.context_option("1k,8k,32k,128k")
@flag(
    "--tpot",
    str,
    "Longest times per output token; the largest batch is always compared too.",
    "10ms,20ms,30ms,50ms,100ms,200ms",
)
@flag(
    "--q quality",
    str,
    "Distribution of the quality factor: normal, lognormal, uniform or triangular.",
    "lognormal:5,0.25",
)
@flag("--nodes", int, "Quality factors searched.", NODES)
@options.dtype_options
@options.axis_options
def command(model: str, **flags: Any) -> Result:
    r"""Say where MODEL beats its dense twin of equal quality, for users who wait equally long.

    Both have the split and the batch that are best within each limit. Each lead comes with the
    probability that it is one, since the quality factor q is uncertain.

    \b
    Examples:
      qsjax moe-or-dense deepseek-v3 --hardware h200-sxm
      qsjax moe-or-dense deepseek-v3 --convention both
      qsjax moe-or-dense grok-1 --hardware b200-sxm --tpot 20ms,50ms --q triangular:2,3,5
    """
    duration = serving_options.Duration()
    tpots = [duration.convert(text.strip(), None, None) for text in flags["tpot"].split(",")]
    problem = problem_of(model, flags | {"twins": []}, CONTEXTS)
    return moe_or_dense(problem, tpots, parse(flags["quality"]), flags["nodes"])
