"""`qsjax break-even MODEL`: where MoE and twin are equal, and what reaches a target."""

import dataclasses
import json
from functools import partial
from typing import Any, get_args

import click

from qsjax.cli import figures, options, session
from qsjax.cli.grid_options import cell_name, inputs_text, settings_of
from qsjax.grid.search import Objective
from qsjax.output import files
from qsjax.questions.break_even import Roots, break_even, min_gpus, solve_for
from qsjax.questions.sensitivity import problem
from qsjax.records.quantities import unit_of

COUNTS = tuple(2**k for k in range(9))  # GPU counts tried for a target, 1 to 256


@click.command("break-even")
@options.model_argument
@options.system_options
@options.workload_options
@options.axis_options
@click.option(
    "--parameter",
    default="q",
    show_default=True,
    help="What is varied: q, context, a continuous field such as hbm_bw, or gpus with a target.",
)
@click.option("--low", type=float, help="Start of the interval.  [default: a hundredth of today's]")
@click.option("--high", type=float, help="End of the interval.  [default: a hundred times today's]")
@click.option(
    "--metric",
    type=click.Choice(get_args(Objective)),
    default="tokens_per_s_per_gpu",
    show_default=True,
    help="What is compared, or what must reach the target.",
)
@click.option(
    "--target",
    type=float,
    help="Solve for this value of the metric (tpot in seconds) instead of for equality.",
)
@options.output_options
@options.input_errors
def command(model: str, **flags: Any) -> None:
    r"""Find every value of a parameter at which MODEL and its dense twin are equally good.

    Both are re-optimised over all splits at every value that is tried. With --target, find what
    reaches it instead: the least GPU count, or every crossing of a continuous parameter. Without a
    solution the answer says on which side things are.

    \b
    Examples:
      qsjax break-even deepseek-v3 --context 8k,128k
      qsjax break-even mixtral-8x7b --gpus 8 --parameter context --q 3
      qsjax break-even deepseek-v3 --parameter hbm_bw --metric tpot --target 0.02 --context 32k
      qsjax break-even deepseek-v3 --parameter gpus --metric tpot --target 0.03 --context 32k
    """
    settings = settings_of(model, flags)
    if flags["parameter"] == "gpus":
        rows = _gpu_rows(settings, flags)
    else:
        rows = [_row(found) for found in _roots(settings, flags)]
    rows = [{"model": model, **row} for row in rows]
    result = {"convention": flags["convention"], "metric": flags["metric"], "solutions": rows}
    if flags["format_"] == "json":
        options.print_json(result)
    elif flags["format_"] == "csv":
        click.echo(files.csv_text([_flat(row) for row in rows]), nl=False)
    else:
        for row in rows:
            click.echo(f"{model}, {cell_name(row)}: {row['message']}")
    if flags["out"]:
        out = flags["out"]
        inputs = inputs_text("break-even", model, flags, settings)
        files.write_atomically(out / "inputs.json", inputs)
        files.write_atomically(out / "result.json", json.dumps(files.finite(result), indent=1))
        files.write_atomically(out / "break-even.csv", files.csv_text([_flat(r) for r in rows]))
        names = ["inputs.json", "result.json", "break-even.csv"]
        names += figures.save(out, {"break-even": partial(_draw, model, rows, flags)})
        session.note(f"Written to {out}: {', '.join(names)}")


def _draw(model: str, rows: list[dict[str, Any]], flags: dict[str, Any]) -> Any:
    from qsjax import plotting

    name = flags["parameter"]
    shown = [_counted(row) if name == "gpus" else _crossed(row) for row in rows]
    title = f"{model}: {flags['metric']}, MoE against its twin"
    if flags["target"] is not None:
        unit = " s" if flags["metric"] == "tpot" else ""
        title = f"{model}: where {flags['metric']} reaches {flags['target']:g}{unit}"
    return plotting.turning_points(
        shown,
        parameter=f"{name} [{unit_of(name)}]",
        tokens=name == "context",
        title=title,
    )


def _crossed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "label": cell_name(row), "roots": [root["value"] for root in row["roots"]]}


def _counted(row: dict[str, Any]) -> dict[str, Any]:
    """What was tried below the least count missed the target; above it nothing was asked."""
    tried, least = row["tried"], row.get("gpus")
    label = cell_name({name: value for name, value in row.items() if name != "gpus"})
    shown = {"label": label, "low": 0.8 * min(tried), "high": 1.25 * max(tried)}
    if least is None:
        return shown | {"roots": [], "sides": ["missed"]}
    return shown | {"roots": [least], "sides": ["missed" if least > min(tried) else "", ""]}


def _roots(settings: dict[str, Any], flags: dict[str, Any]) -> list[Roots]:
    name, interval = flags["parameter"], (flags["low"], flags["high"])
    stated = problem(**settings, objective=flags["metric"])
    if flags["target"] is None:
        return break_even(stated, name, *interval)
    return solve_for(stated, name, flags["metric"], flags["target"], *interval)


def _row(found: Roots) -> dict[str, Any]:
    return {
        **found.cell,
        "parameter": found.parameter,
        "low": found.low,
        "high": found.high,
        "roots": [dataclasses.asdict(root) for root in found.roots],
        "sides": list(found.sides),
        "message": found.message,
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Lists as text, for CSV."""
    flat = {name: value for name, value in row.items() if not isinstance(value, list)}
    if "roots" in row:
        flat["roots"] = " ".join(f"{root['value']:.12g}" for root in row["roots"])
        flat["kinds"] = " ".join(root["kind"] for root in row["roots"])
        flat["sides"] = " | ".join(row["sides"])
    return flat


def _gpu_rows(settings: dict[str, Any], flags: dict[str, Any]) -> list[dict[str, Any]]:
    if flags["target"] is None:
        raise ValueError(
            "--parameter gpus counts whole GPUs, which have no equality: give --metric and "
            "--target, or compare counts with `qsjax explore --gpus 8,16,32`"
        )
    given = click.get_current_context().get_parameter_source("gpus")
    is_default = given is not None and given.name == "DEFAULT"
    counts = COUNTS if is_default else settings["gpus"]
    plain = {name: value for name, value in settings.items() if name != "gpus"}
    rows = min_gpus(
        plain.pop("model"), plain.pop("hardware"), counts, flags["metric"], flags["target"], **plain
    )
    for row in rows:
        row |= {"parameter": "gpus", "tried": list(counts)}
        unit = " s" if flags["metric"] == "tpot" else ""
        wanted, metric = f"{flags['target']:g}{unit}", flags["metric"]
        best = "none is feasible"
        if row["best"] is not None:
            best = f"the best is {row['best']:.6g}{unit}"
        row["message"] = (
            f"none of {', '.join(map(str, counts))} GPUs reaches {metric} {wanted}; {best}"
            if row["gpus"] is None
            else f"{options.gpus(row['gpus'])} reach {metric} {row['value']:.6g}{unit}"
        )
        if row["gpus"] is None:
            del row["gpus"]
    return rows
