"""`qsjax size MODEL`: the fewest GPUs for users or a rate within limits of latency."""

from typing import Any

import click

from qsjax.cli import grid_options, options, serving_options, traffic_options
from qsjax.cli.emit import emit
from qsjax.questions.simulation.apart import size_apart
from qsjax.questions.simulation.sizing import REPLICA_GPUS, size
from qsjax.records.specs import DEGREES


@click.command("size")
@options.model_argument
@options.hardware_option
@click.option("--users", type=float, help="Requests in flight.")
@click.option("--rate", type=float, help="Requests/s that arrive by chance.")
@traffic_options.demand_options
@traffic_options.limit_options
@click.option(
    "--quantile",
    type=float,
    default=0.95,
    show_default=True,
    help="Share of the requests that must keep each limit.",
)
@click.option(
    "--replica-gpus",
    type=options.Numbers(whole=True),
    default=",".join(map(str, REPLICA_GPUS)),
    show_default=True,
    help="Sizes of a replica that are tried.",
)
@click.option(
    "--prefill-hardware",
    shell_complete=options.names_of("hardware"),
    help="Accelerator of GPUs that do nothing but prefill; --hardware then decodes.",
)
@traffic_options.engine_options
@options.degree_options("Degrees {} to try.")
@options.dtype_options
@serving_options.economy_options
@options.output_options
@options.input_errors
def command(model: str, **flags: Any) -> None:
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
    more = {name: flags[name] for name in ("users", "rate", "quantile", "replica_gpus")}
    asked = more | traffic_options.arguments_of(flags)
    if flags["prefill_hardware"] is None:
        emit(size(problem, **asked), flags)
        return
    users, *rest = (asked.pop(name) for name in ("users", "prefix_hit_rate", "think"))
    if users is not None or any(rest) or asked["rate"] is None:
        raise ValueError(
            "--prefill-hardware: pools of their own are sized for a --rate, without --users, "
            "--prefix-hit-rate and --think"
        )
    emit(size_apart(problem, flags["prefill_hardware"], **asked), flags)
