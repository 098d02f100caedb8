"""`qsjax simulate MODEL`: one deployment under load, request by request."""

import json
import math
from pathlib import Path
from typing import Any

import click

from qsjax import catalog
from qsjax.cli import figures, options, printing, serving_options, session, traffic_options
from qsjax.output import files, folder, words
from qsjax.output.result import Table
from qsjax.questions.simulation import loads
from qsjax.questions.simulation.traffic import Traffic, read_trace
from qsjax.records import checks
from qsjax.records.scenario import Records
from qsjax.records.specs import CONVENTIONS, DEGREES, Partition


def _partition(flags: dict[str, Any]) -> Partition:
    given: dict[str, Any] = {name: serving_options.one(name, flags[name], 1.0) for name in DEGREES}
    return Partition(**given)


def _text(value: Any, digits: int = 1) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _show(rows: list[dict[str, Any]], title: str) -> None:
    heads = ("load", "req/s", "tok/s/GPU", "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95",
             "ITL p95", "E2E p50", "waiting", "decoding", "kept", "evicted")  # fmt: skip
    cells = [
        (
            f"{row['load']:g} {row['load_unit']}",
            _text(row["requests_per_s"], 2),
            _text(row["tokens_per_s_per_gpu"]),
            *(_text(row[f"{name}_ms"]) for name in
              ("ttft_p50", "ttft_p95", "tpot_p50", "tpot_p95", "itl_p95", "e2e_p50")),
            _text(row["waiting"]),
            _text(row["decoding"]),
            f"{row['attained']:.1%}",
            f"{row['evictions']:,}",
        )
        for row in rows
    ]  # fmt: skip
    printing.table(Table(f"{title} (times in ms)", heads, cells))


def _sentence(row: dict[str, Any], title: str) -> str:
    shares = ", ".join(
        f"{row[f'share_{name}']:.0%} {text}"
        for name, text in (("prompts", "in steps with prompts"), ("decode", "in decode steps"),
                           ("idle", "idle"))
    )  # fmt: skip
    return (
        f"{title} at {row['load']:g} {row['load_unit']}: first token after "
        f"{_text(row['ttft_mean_ms'])} ms, then one every "
        f"{_text(row['tpot_mean_ms'])} ms on average; "
        f"{_text(row['requests_per_s'], 2)} requests/s; time: {shares}."
    )


def _drawing(found: loads.Loads, title: str) -> Any:
    from qsjax import plotting

    knee = f"{title} sustains {found.largest_rate:.3g} requests/s"
    return plotting.latency_against_load(found.rows, title=knee)


def _trace(path: Path) -> Traffic:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not a text file in UTF-8 ({error})") from error
    return read_trace(text, path.name)


@click.command("simulate")
@options.model_argument
@options.hardware_option
@click.option(
    "--users", type=options.Numbers(whole=True), help="Requests in flight; several: a curve."
)
@click.option(
    "--rate", type=options.Numbers(), help="Requests/s that arrive by chance; several: a curve."
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="CSV file with the columns arrival [s], isl, osl, and if wanted cached.",
)
@traffic_options.demand_options
@click.option(
    "--requests", type=click.IntRange(1), default=1000, show_default=True, help="Requests of a run."
)
@traffic_options.limit_options
@traffic_options.engine_options
@options.options(
    *(
        click.option(
            f"--{name}", type=options.Numbers(whole=True), help=f"Degree {name}.  [default: 1]"
        )
        for name in DEGREES
    )
)
@options.dtype_options
@options.output_options
@options.input_errors
def command(model: str, **flags: Any) -> None:
    r"""Simulate one deployment of MODEL under load: queues, quantiles of latency, preemptions.

    Requests come from --users who each wait for an answer before the next request, at a --rate by
    chance, or from a --trace. The first and last tenth of them are not measured. The answer for a
    steady batch stays with `qsjax explain --isl --osl`.

    \b
    Examples:
      qsjax simulate qwen3-8b --hardware h200-sxm --users 64 --isl 9000 --osl 30
      qsjax simulate llama-3.1-70b --hardware h100-sxm --tp 8 --rate 1,2,4 --isl 4000 --osl 500
      qsjax simulate gpt-oss-120b --hardware b200-sxm --trace requests.csv --ttft 2s --tpot 30ms
    """
    spec, device = catalog.model(model), catalog.hardware(flags["hardware"])
    partition = _partition(flags)
    checks.check_partition(partition, spec)
    work, rules = serving_options.workload_of(model, flags), traffic_options.scheduler_of(flags)
    asked = [name for name in ("users", "rate", "trace") if flags[name] is not None]
    if len(asked) != 1:
        raise ValueError("give exactly one of --users, --rate and --trace")
    limits: dict[str, Any] = {name: flags[name] or math.inf for name in ("ttft", "tpot")}
    rest = (Records(spec, device, partition, work), CONVENTIONS[flags["convention"]], rules)
    if flags["trace"]:
        if flags["isl"] or flags["osl"]:
            raise ValueError("--trace has lengths of its own; leave --isl and --osl out")
        read = _trace(flags["trace"])
        found = loads.at_trace(*rest, read, **limits)
    else:
        demand = traffic_options.demand_of(flags, flags["requests"])
        found = loads.at_loads(*rest, demand, users=flags["users"], rates=flags["rate"], **limits)
    title = f"{model} on {words.count(found.gpus, 'GPU')} {flags['hardware']}, {flags['engine']}"
    if flags["format_"] == "table":
        for row in found.rows:
            click.echo(_sentence(row, title))
        _show(found.rows, title)
    else:
        printing.rows(found.rows, flags["format_"], lambda rows: None)
    for line in found.notes:
        session.note(line)
    if flags["out"]:
        out: Path = flags["out"]
        records = {
            "model": {"name": model, **files.spec_dict(spec)},
            "hardware": {"name": flags["hardware"], **files.spec_dict(device)},
            "partition": files.spec_dict(partition),
            "workload": folder.of_workload(work),
            "scheduler": files.spec_dict(rules),
        }
        if flags["trace"]:
            records["trace"] = folder.of_file(flags["trace"])
        text = folder.text("simulate", [model], flags, records)
        files.write_atomically(out / "inputs.json", text)
        files.write_atomically(out / "result.json", json.dumps(files.finite(found.rows), indent=1))
        files.write_atomically(out / "simulate.csv", files.csv_text(found.rows))
        files.write_atomically(out / "requests.csv", files.csv_text(found.requests))
        names = ["inputs.json", "result.json", "simulate.csv", "requests.csv"]
        if len(found.rows) > 1:
            names += figures.save(out, {"latency_against_load": lambda: _drawing(found, title)})
        session.note(f"Written to {out}: {', '.join(names)}")
