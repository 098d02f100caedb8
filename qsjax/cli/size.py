"""`qsjax size MODEL`: the fewest GPUs for users or a rate within limits of latency."""

import json
import math
from pathlib import Path
from typing import Any

import click

from qsjax import catalog
from qsjax.cli import options, serving_options, session, traffic_options
from qsjax.cost.metrics import costs
from qsjax.output import files, folder
from qsjax.questions.simulation import sizing
from qsjax.questions.simulation.outcomes import row_of
from qsjax.records.specs import CONVENTIONS, DEGREES
from qsjax.records.units import MS


def _record(
    found: sizing.Sizing, target: sizing.Target, economy: Economy, busy: float
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "gpus": found.gpus,
        "replicas": found.replicas,
        "replica_gpus": found.replica_gpus,
        "design": found.design,
        "binds": list(found.binds),
        "gpus_screened": found.least,
        "best_ttft_ms": found.best_ttft / MS,
        "best_tpot_ms": found.best_tpot / MS,
        "designs_screened": found.screened,
        "designs_simulated": found.simulated,
        "target": target._asdict(),
    }
    if found.outcome is None or found.gpus is None:
        return record
    row = row_of(
        found.outcome,
        replicas=found.attention_replicas,
        gpus=float(found.gpus),
        ttft=target.ttft,
        tpot=target.tpot,
    )
    at = {f"{n}_at_quantile_ms": found.outcome.quantile(n, target.quantile) / MS
          for n in ("ttft", "tpot")}  # fmt: skip
    # Everything is counted: prompts and answers run on these GPUs.
    load = found.outcome.requests_per_s * busy
    return record | at | row | costs(float(row["tokens_per_s_per_gpu"] or 0.0), economy, load)


def _limits(target: sizing.Target) -> str:
    share = f"{target.quantile:.0%} of them"
    given = [
        f"{name} <= {limit / MS:g} ms"
        for name, limit in (("TTFT", target.ttft), ("TPOT", target.tpot))
        if math.isfinite(limit)
    ]
    return f"{' and '.join(given)} for {share}" if given else "no limits"


def _sentences(record: dict[str, Any], title: str, target: sizing.Target) -> list[str]:
    load = f"{target.users:g} users" if target.users else f"{target.rate:g} requests/s"
    if record["gpus"] is None:
        if not record["designs_screened"]:
            return [f"{title}: no replica size holds the longest request; shorten it or name "
                    "larger --replica-gpus."]  # fmt: skip
        return [
            f"{title}: no number of GPUs serves {load} with {_limits(target)}. The best that any "
            f"design does without load is TTFT {record['best_ttft_ms']:,.1f} ms and TPOT "
            f"{record['best_tpot_ms']:,.2f} ms."
        ]
    design = record["design"]
    split = " ".join(f"{name}={design[name]:g}" for name in DEGREES if design[name] > 1)
    of = f"{record['replicas']} x {options.gpus(record['replica_gpus'])} ({split or 'unsplit'})"
    times = ", ".join(
        f"{name.upper()} {record[f'{name}_at_quantile_ms']:,.2f} ms"
        for name in ("ttft", "tpot")
        if math.isfinite(record[f"{name}_at_quantile_ms"])
    )
    lines = [
        f"{title}: {options.gpus(record['gpus'])}, {of}, serve {load} with {_limits(target)}.",
        f"  {times} at that share; {record['requests_per_s']:,.2f} requests/s, "
        f"{record['tokens_per_s_per_gpu']:,.1f} tokens/s/GPU.",
    ]
    if record["binds"]:
        lines.append(f"  One replica less would break: {', '.join(record['binds'])}.")
    price, energy = record["usd_per_million_tokens"], record["joules_per_token"]
    if price is not None:
        lines.append(f"  {price:,.2f} USD per million output tokens, prompts included.")
    if energy is not None:
        lines.append(
            f"  {energy:,.2f} J per output token, prompts included: {serving_options.drawn(record)}."
        )
    lines.append(
        f"  {record['designs_screened']:,} designs screened, {record['designs_simulated']:,} "
        "simulated."
    )
    return lines


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
    default="1,2,4,8,16",
    show_default=True,
    help="Sizes of a replica that are tried.",
)
@traffic_options.engine_options
@options.options(
    *(
        click.option(f"--{name}", type=options.Numbers(whole=True), help=f"Degrees {name} to try.")
        for name in DEGREES
    )
)
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
    spec, device = catalog.model(model), catalog.hardware(flags["hardware"])
    work, rules = serving_options.workload_of(model, flags), traffic_options.scheduler_of(flags)
    economy = serving_options.economy_from(device, flags)
    target = sizing.Target(
        users=flags["users"],
        rate=flags["rate"],
        ttft=flags["ttft"] or math.inf,
        tpot=flags["tpot"] or math.inf,
        quantile=flags["quantile"],
    )
    found = sizing.size(
        spec,
        device,
        work,
        CONVENTIONS[flags["convention"]],
        rules,
        traffic_options.demand_of(flags, 1),
        target,
        [int(n) for n in flags["replica_gpus"]],
        options.axis_overrides(**{name: flags[name] for name in DEGREES}),
    )
    title = f"{model} on {flags['hardware']}, {flags['engine']}"
    demand = traffic_options.demand_of(flags, 1)
    design = Records(spec, device, found.partition or Partition(), work)
    busy = busy_seconds(design, 1.0, 1.0, CONVENTIONS[flags["convention"]])
    record = _record(found, target, economy, busy)
    if flags["format_"] == "table":
        click.echo("\n".join(_sentences(record, title, target)))
    else:
        options.print_record(record, flags["format_"])
    if flags["out"]:
        out: Path = flags["out"]
        records = {
            "model": {"name": model, **files.spec_dict(spec)},
            "hardware": {"name": flags["hardware"], **files.spec_dict(device)},
            "workload": folder.of_workload(work),
            "scheduler": files.spec_dict(rules),
        }
        text = folder.text("size", [model], flags, records)
        files.write_atomically(out / "inputs.json", text)
        files.write_atomically(out / "result.json", json.dumps(files.finite(record), indent=1))
        session.note(f"Written to {out}: inputs.json, result.json")
