"""`qsjax simulate MODEL`: one deployment under load, request by request."""

import math
from typing import Any

from qsjax.cli import grid_options, options, serving_options, traffic_options
from qsjax.cli.options import COUNT, OLD_FILE, RATES, WHOLE, flag, verb
from qsjax.grid.cells import GPU_DEGREES
from qsjax.output.result import Result
from qsjax.questions.simulation.loads import simulate
from qsjax.records.specs import DEGREES, Partition


@verb("simulate")
@options.model_argument
@options.hardware_option
@flag("--users", WHOLE, "Users, each with one request in flight; several: a curve.")
@flag("--rate", RATES, "Requests/s, with Poisson arrivals; several: a curve.")
@flag(
    "--trace",
    OLD_FILE,
    "CSV with the columns arrival [s], isl, osl, and if wanted cached; or as published a trace of "
    "Mooncake (JSON a line), Azure, BurstGPT, Splitwise, Bailian or AIBrix.",
)
@traffic_options.demand_options
@flag("--requests", COUNT, "Requests of a run.  [default: 1000, or more for 5 of each user]")
@traffic_options.limit_options
@traffic_options.engine_options
@options.degree_options("Degrees tp, ep, pp, dp, kvp.  [default: 1]")
@options.dtype_options
def command(model: str, **flags: Any) -> Result:
    r"""Simulate one deployment of MODEL under load: queues, quantiles of latency, preemptions.

    Requests come from --users, who each wait for an answer before the next request, at random with
    a mean --rate, or from a --trace. The first and last tenth of them are not measured. For a
    steady batch use `qsjax explain --isl --osl`.

    \b
    Examples:
      qsjax simulate qwen3-8b --hardware h200-sxm --users 64 --isl 9000 --osl 30
      qsjax simulate llama-3.1-70b --hardware h100-sxm --tp 8 --rate 1,2,4 --isl 4000 --osl 500
      qsjax simulate gpt-oss-120b --hardware b200-sxm --trace requests.csv --ttft 2s --tpot 30ms
    """
    degrees = {name: serving_options.one(name, flags[name], 1.0) for name in DEGREES}
    partition = Partition(**degrees)  # type: ignore[arg-type]  # a default is no None
    gpus = math.prod(degrees[name] or 1.0 for name in GPU_DEGREES)
    problem = grid_options.served(model, flags, gpus=gpus)
    more = {name: flags[name] for name in ("users", "rate", "trace", "requests")}
    return simulate(problem, partition, **more, **traffic_options.arguments_of(flags))
