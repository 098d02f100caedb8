"""`qsjax size MODEL`: the fewest GPUs for users or a rate within limits of latency."""

from typing import Any

from qsjax.cli import grid_options, options, serving_options, traffic_options
from qsjax.cli.options import RATES, WHOLE, flag, verb
from qsjax.output.result import Result
from qsjax.questions.simulation.pools import size_apart
from qsjax.questions.simulation.sizing import REPLICA_GPUS, size
from qsjax.records.specs import DEGREES


@verb("size")
@options.model_argument
@options.hardware_option
@flag("--users", float, "Users, each with one request in flight.")
@flag("--rate", RATES, "Requests/s, with Poisson arrivals.")
@traffic_options.demand_options
@traffic_options.limit_options
@flag("--quantile", float, "Share of requests that must keep each limit.", 0.95)
@flag("--replica-gpus", WHOLE, "GPUs of one replica to try.", ",".join(map(str, REPLICA_GPUS)))
@flag(
    "--prefill-hardware",
    str,
    "Accelerator for prefill alone; --hardware then decodes.",
    shell_complete=options.names_of("hardware"),
)
@traffic_options.engine_options
@options.degree_options("Values of tp, ep, pp, dp, kvp.  [default: all]")
@options.dtype_options
@serving_options.economy_options
def command(model: str, **flags: Any) -> Result:
    r"""Find the fewest GPUs that serve MODEL to so many users, or at such a rate, within limits.

    Every split of every replica size is screened by its step costs; the best are simulated request
    by request, with whole replicas, and the winner once more with other requests.

    \b
    Examples:
      qsjax size qwen3-32b --hardware h100-sxm --users 200 --isl 8192 --osl 1024 --tpot 33ms
      qsjax size deepseek-v3 --hardware h200-sxm --rate 5 --isl 4000 --osl 800 \
        --ttft 2s --tpot 50ms --quantile 0.9
    """
    problem = grid_options.served(
        model,
        flags,
        economy=serving_options.economy_flags(flags),
        axes=options.axis_overrides(**{name: flags[name] for name in DEGREES}),
    )
    flags["rate"] = serving_options.one("rate", flags["rate"])
    more = {name: flags[name] for name in ("users", "rate", "quantile", "replica_gpus")}
    asked = more | traffic_options.arguments_of(flags)
    if flags["prefill_hardware"] is None:
        return size(problem, **asked)
    users, *rest = (asked.pop(name) for name in ("users", "prefix_hit_rate", "think"))
    if users is not None or any(rest) or asked["rate"] is None:
        raise ValueError(
            "--prefill-hardware: separate pools are sized for a --rate, without --users, "
            "--prefix-hit-rate and --think"
        )
    return size_apart(problem, flags["prefill_hardware"], **asked)
