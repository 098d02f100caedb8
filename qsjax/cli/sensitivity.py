"""`qsjax sensitivity MODEL`: what throughput depends on, how far that holds, and how sure it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from qsjax.cli import figures, options, session
from qsjax.cli.grid_options import cell_name, inputs_text, names, settings_of
from qsjax.cli.slope_figures import drawings
from qsjax.output import files
from qsjax.questions.sensitivity import (
    DEFAULT_PARAMETERS,
    METRICS,
    problem,
    resolve,
    sensitivity,
    solve,
)
from qsjax.questions.sensitivity import to_dataset as slopes_dataset
from qsjax.questions.sensitivity.metrics import check_metrics
from qsjax.questions.sensitivity.switching import SPAN, switches
from qsjax.questions.sensitivity.tables import cell_rows, outcome_rows, slope_rows
from qsjax.questions.sensitivity.uncertainty import DRAWS, check, parse, propagate

SHOWN = 8  # parameters of a cell in the table


@click.command("sensitivity")
@options.model_argument
@options.system_options
@options.workload_options
@options.axis_options
@click.option(
    "--metric",
    default="tokens_per_s_per_gpu",
    show_default=True,
    help=f"Comma-separated: {', '.join(METRICS)}.",
)
@click.option(
    "--parameter",
    help="Comma-separated fields of hardware, workload or model, q, or groups (flops, link_bw, "
    "latency, overlap, weight_bytes).  [default: all hardware fields, q, context, bytes]",
)
@click.option(
    "--rounding",
    type=click.Choice(["straight_through", "floor", "relaxed"]),
    default="straight_through",
    show_default=True,
    help="How the slope treats the whole batch.",
)
@click.option(
    "--span",
    type=float,
    default=SPAN,
    show_default=True,
    help="Factor to both sides in which switches are sought; 1 leaves them out.",
)
@click.option(
    "--uncertain",
    multiple=True,
    metavar="NAME=KIND:NUMBERS",
    help="Distribution of an input, such as q=normal:5,1 or alpha=triangular:0.06,0.076,0.1; "
    "kinds: normal, lognormal, uniform, triangular. May be repeated.",
)
@click.option(
    "--loss",
    nargs=2,
    type=float,
    metavar="DENSE MOE",
    help="Losses from which an uncertain alpha gives q.",
)
@click.option("--draws", type=int, default=DRAWS, show_default=True, help="A power of two.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@options.output_options
@options.input_errors
def command(model: str, **flags: Any) -> None:
    r"""Say how much 1 % more of each parameter moves the optimum of MODEL, and for how long.

    Elasticities are exact derivatives at the best split of every cell. Beside them stand the
    factors at which the best split, its bottleneck or the winner changes, and what uncertain inputs
    do to the verdict.

    \b
    Examples:
      qsjax sensitivity deepseek-v3 --context 8k,128k
      qsjax sensitivity mixtral-8x7b --gpus 8 --parameter hbm_bw,flops,q --metric tpot,speedup
      qsjax sensitivity grok-1 --context 32k --uncertain q=normal:5,1 --draws 256
    """
    metrics = names(flags["metric"])
    chosen = names(flags["parameter"]) if flags["parameter"] else list(DEFAULT_PARAMETERS)
    distributions = dict(_distribution(text) for text in flags["uncertain"])
    _check(metrics, chosen, distributions, flags)
    settings = settings_of(model, flags)
    solution = solve(problem(**settings))
    result = sensitivity(solution, chosen, metrics, flags["rounding"])
    found = switches(solution, chosen, flags["span"]) if flags["span"] != 1.0 else None
    rows = [{"model": model, **row} for row in slope_rows(result, found)]
    summary: dict[str, Any] = {
        "convention": flags["convention"],
        "rounding": flags["rounding"],
        "optima": cell_rows(solution),
        "cells": rows,
    }
    outcome = None
    if distributions:
        losses = dict(zip(("loss_dense", "loss_moe"), flags["loss"] or (), strict=False))
        outcome = propagate(
            solution.problem,
            distributions,
            draws=flags["draws"],
            seed=flags["seed"],
            losses=losses,
        )
        summary["uncertainty"] = outcome_rows(outcome)
    if flags["format_"] == "json":
        options.print_json(summary)
    elif flags["format_"] == "csv":
        click.echo(files.csv_text(rows), nl=False)
    else:
        _tables(model, summary, are_named=flags["parameter"] is not None)
    if flags["out"]:
        data = slopes_dataset(result)
        pictures = drawings(model, rows, settings, outcome, flags["span"])
        inputs = inputs_text("sensitivity", model, flags, settings)
        _write(flags["out"], inputs, summary, data, pictures)


def _check(
    metrics: list[str], parameters: list[str], distributions: dict[str, Any], flags: dict[str, Any]
) -> None:
    """Names first: a misspelt one should not cost a search."""
    resolve(parameters)
    check_metrics(metrics)
    if distributions:
        check(distributions)
    if not flags["span"] >= 1.0:
        raise ValueError(f"--span {flags['span']:g}: give a factor above 1, or 1 for no switches")


def _distribution(text: str) -> tuple[str, Any]:
    name, separator, rest = text.partition("=")
    if not separator:
        raise ValueError(f"--uncertain {text!r}: write NAME=KIND:NUMBERS, such as q=normal:5,1")
    return name.strip(), parse(rest)


def _factor(value: float | None) -> str:
    return "-" if value is None else f"x{value:.4g}"


def _tables(model: str, summary: dict[str, Any], are_named: bool) -> None:
    """A table for each cell: every parameter that was named, else the largest ones."""
    rows = summary["cells"]
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["metric"], cell_name(row)), []).append(row)
    heads = ("parameter", "elasticity", "left", "right", "below", "above", "what changes above")
    for (metric, cell), found in cells.items():
        if found[0]["elasticity"] is None:
            click.echo(f"{model}, {cell}: {found[0]['masked']}\n")
            continue
        largest = sorted(found, key=lambda row: -abs(row["elasticity"]))
        if not are_named:
            largest = [row for row in largest[:SHOWN] if row["elasticity"] != 0]
        lines = [
            (
                row["parameter"],
                *(f"{row[name]:+.3f}" for name in ("elasticity", "left", "right")),
                *(_factor(row.get(f"switch_{side}")) for side in ("down", "up")),
                row.get("switch_up_what", ""),
            )
            for row in largest
        ]
        bound = f", bound by {found[0]['bound_by']}"
        options.print_table(f"{model}, {cell}: {metric}{bound}", heads, lines)
        if not are_named and len(found) > len(lines):
            click.echo(
                f"The largest {len(lines)} of {len(found)}; --parameter names others, and "
                "--format csv has them all."
            )
    for row in summary.get("uncertainty", []):
        if np.isfinite(row["p_dense_wins"]):
            causes = ", ".join(f"{k} {v:.2f}" for k, v in row["first_order_verdict"].items())
            click.echo(
                f"{cell_name(row)}: the twin wins with probability {row['p_dense_wins']:.3f}; "
                f"speed-up {_spread(row['speedup_over_moe'])}; variance from {causes}"
            )


def _spread(quantiles: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in quantiles.items())


def _write(
    out: Path,
    inputs: str,
    summary: dict[str, Any],
    data: Any,
    pictures: dict[str, Callable[[], Any]],
) -> None:
    files.write_atomically(out / "inputs.json", inputs)
    files.write_atomically(out / "result.json", json.dumps(files.finite(summary), indent=1))
    files.write_atomically(out / "sensitivity.csv", files.csv_text(summary["cells"]))
    files.write_dataset(out / "sensitivity.nc", data)
    names = ["inputs.json", "result.json", "sensitivity.csv", "sensitivity.nc"]
    session.note(f"Written to {out}: {', '.join(names + figures.save(out, pictures))}")
