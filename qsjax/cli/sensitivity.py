"""`qsjax sensitivity MODEL`: what throughput depends on, how far that holds, and how sure it is."""

import dataclasses
from typing import Any

from qsjax.cli import options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import flag, verb
from qsjax.grid.distributions import check, named
from qsjax.output.result import Result
from qsjax.questions.sensitivity import DEFAULT_PARAMETERS, METRIC_NAMES, sensitivity, uncertainty
from qsjax.questions.sensitivity.draws import DRAWS
from qsjax.questions.sensitivity.switching import SPAN
from qsjax.records.conversion import names_of

CONTEXTS = (32768.0,)


@verb("sensitivity")
@options.one_model
@options.workload_options("32k")
@options.axis_options
@flag("--metric", str, f"Comma-separated: {', '.join(METRIC_NAMES)}.", "tokens_per_s_per_gpu")
@flag(
    "--parameter",
    str,
    "Comma-separated fields of hardware, workload or model, q, or groups (flops, link_bw, "
    "latency, overhead, overlap, weight_bytes).  [default: all hardware fields, q, context, bytes]",
)
@flag(
    "--rounding",
    ["straight_through", "floor", "relaxed"],
    "How the slope treats whole batches.",
    "straight_through",
)
@flag("--span", float, "Factor up and down over which switches are sought; 1 skips them.", SPAN)
@flag(
    "--uncertain",
    str,
    "Distribution of an input, such as q=normal:5,1 or alpha=triangular:0.06,0.076,0.1; "
    "kinds: normal, lognormal, uniform, triangular. May be repeated.",
    multiple=True,
    metavar="NAME=KIND:NUMBERS",
)
@flag(
    "--loss", float, "Losses from which an uncertain alpha gives q.", nargs=2, metavar="DENSE MOE"
)
@flag("--draws", int, "Draws of the uncertain inputs: a power of two.", DRAWS)
@flag("--seed", int, "Seed of the draws.", 0)
def command(model: str, **flags: Any) -> Result:
    r"""Say how much 1 % more of each parameter moves the optimum of MODEL, and for how long.

    Elasticities are exact derivatives at the best split of every context and GPU count, beside the
    factors at which split, bottleneck or winner change. --uncertain says how sure the verdict is.

    \b
    Examples:
      qsjax sensitivity deepseek-v3 --context 8k,128k
      qsjax sensitivity mixtral-8x7b --gpus 8 --parameter hbm_bw,flops,q --metric tpot,speedup
      qsjax sensitivity grok-1 --context 32k --uncertain q=normal:5,1 --draws 256
    """
    span, chosen = flags["span"], flags["parameter"]
    if not span >= 1.0:
        raise ValueError(f"--span {span:g}: give a factor above 1, or 1 for no switches")
    given = dict(named(text) for text in flags["uncertain"])
    if given:
        check(given)  # names first: a misspelt one should not cost a search
    problem = problem_of(model, flags, CONTEXTS)
    found = sensitivity(
        problem,
        names_of(chosen or DEFAULT_PARAMETERS),
        names_of(flags["metric"]),
        flags["rounding"],
        span if span > 1.0 else None,
    )
    if given:
        losses = dict(zip(("loss_dense", "loss_moe"), flags["loss"] or (), strict=False))
        how = {"draws": flags["draws"], "seed": flags["seed"], "losses": losses}
        found = dataclasses.replace(found, uncertainty=uncertainty(problem, given, **how))
    return found
