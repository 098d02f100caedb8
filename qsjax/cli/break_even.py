"""`qsjax break-even MODEL`: where MoE and twin are equal, and what reaches a target."""

from typing import Any

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import flag, verb
from qsjax.cost.metrics import TARGETS
from qsjax.output.result import Result
from qsjax.questions.break_even import break_even, solve_for
from qsjax.records.conversion import seconds_of_text

COUNTS = tuple(2.0**k for k in range(9))  # GPU counts tried for a target, 1 to 256


@verb("break-even")
@options.one_model
@options.workload_options()
@options.axis_options
@flag(
    "--parameter",
    str,
    "What is varied: q, context, a continuous field such as hbm_bw, gpus with a target; or "
    "prefix_hit_rate, reuse_interval, host_bw, ... for the best place of prefixes.",
    "q",
)
@flag("--low", str, "Start of the interval.  [default: a hundredth of today's]")
@flag("--high", str, "End of the interval.  [default: a hundred times today's]")
@flag(
    "--metric", TARGETS, "What is compared, or what must reach the target.", "tokens_per_s_per_gpu"
)
@flag("--target", str, "Solve for this value of the metric (tpot as 30ms), not for equality.")
@serving_options.reuse_options
def command(model: str, **flags: Any) -> Result:
    r"""Find every value of a parameter at which MODEL and its dense twin are equally good.

    Both get their best split at every value that is tried. With --target, find what reaches it
    instead: the least GPU count, or every crossing of a continuous parameter. Where there is no
    such value, the answer says who is ahead throughout.

    \b
    Examples:
      qsjax break-even deepseek-v3 --context 8k,128k
      qsjax break-even mixtral-8x7b --gpus 8 --parameter context --twins 3
      qsjax break-even deepseek-v3 --parameter prefix_hit_rate --isl 32k --reuse-interval 300s
      qsjax break-even deepseek-v3 --parameter gpus --metric tpot --target 30ms --context 32k
    """
    name, interval, metric = flags["parameter"], (flags["low"], flags["high"]), flags["metric"]
    if options.is_default("metric") and seconds_of_text(flags["target"] or "") is not None:
        metric = "tpot"  # as no other one is a time
    more: dict[str, Any] = {"objective": metric}
    if name == "gpus" and options.is_default("gpus"):
        more["gpus"] = COUNTS
    reuse, others = serving_options.reuse_flags(flags)
    problem = problem_of(model, others, **more)
    if flags["target"] is None:
        return break_even(problem, name, *interval, **reuse)
    return solve_for(problem, name, *interval, **{metric: flags["target"]})
