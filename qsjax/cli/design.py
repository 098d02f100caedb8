"""`qsjax design MODEL`: hardware from a budget or from targets."""

from typing import Any

from qsjax.cli import options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import NUMBERS, flag, verb
from qsjax.cost.metrics import TARGETS
from qsjax.output.result import Result
from qsjax.questions.design import CostModel, Price, design

CONTEXTS = (32768.0,)


@verb("design")
@options.one_model
@options.workload_options("32k")
@options.axis_options
@flag(
    "--price",
    str,
    "Cost of a field at the reference hardware's value, growing with its power: hbm_bytes=20, "
    "flops=40^1.2. Fields: hbm_bytes, hbm_bw, flops, intra_bw, inter_bw, link_bw. Repeat it.",
    multiple=True,
    metavar="FIELD=COST[^EXPONENT]",
)
@flag("--base", float, "Cost of everything else.", 0.0)
@flag("--budget", float, "Find the best hardware that costs at most this.")
@flag(
    "--target",
    str,
    "Find the cheapest hardware that reaches this, one value or one per workload (tpot as 20ms).",
)
@flag("--metric", TARGETS, "What counts.", "tokens_per_s_per_gpu")
@flag("--weight", NUMBERS, "Shares of the workloads.  [default: equal]")
@flag("--dense", bool, "Design for the first dense twin instead of the MoE.")
def command(model: str, **flags: Any) -> Result:
    r"""Find the best accelerator for MODEL under a budget, or the cheapest that meets targets.

    Every context (and GPU count) is one workload. Costs are in any unit, relative to the reference
    accelerator of --hardware. Answers are verified on the exact grid, with whole batches.

    \b
    Examples:
      qsjax design deepseek-v3 --context 8k,128k --budget 100 \
          --price hbm_bytes=25 --price hbm_bw=35 --price flops=30^1.2 --price link_bw=10
      qsjax design deepseek-v3 --context 32k --metric tpot --target 20ms \
          --price hbm_bytes=40 --price hbm_bw=60
    """
    cost = CostModel(dict(_price(text) for text in flags["price"]), flags["base"])
    target, metric = flags["target"], flags["metric"]
    goal = {} if target is None else {metric: target.split(",")}
    return design(
        problem_of(model, flags, CONTEXTS, objective=metric),
        cost,
        budget=flags["budget"],
        weights=flags["weight"],
        variant=1 if flags["dense"] else 0,
        **goal,
    )


def _price(text: str) -> tuple[str, Price]:
    name, _, rest = text.partition("=")
    cost, _, exponent = rest.partition("^")
    try:
        return name.strip(), Price(float(cost), float(exponent or 1.0))
    except ValueError:
        raise ValueError(f"--price {text!r}: write FIELD=COST, or FIELD=COST^EXPONENT") from None
