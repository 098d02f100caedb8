"""`qsjax sensitivity MODEL`: what throughput depends on, how far that holds, and how sure it is."""

import dataclasses
from typing import Any

import click

from qsjax.cli import options
from qsjax.cli.emit import emit
from qsjax.cli.grid_options import names, problem_of
from qsjax.grid.distributions import check, parse
from qsjax.output.labels import cell_name
from qsjax.output.result import Row
from qsjax.questions.sensitivity import (
    DEFAULT_PARAMETERS,
    METRIC_NAMES,
    Distribution,
    Sensitivity,
    sensitivity,
    uncertainty,
)
from qsjax.questions.sensitivity.draws import DRAWS
from qsjax.questions.sensitivity.switching import SPAN

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
    help=f"Comma-separated: {', '.join(METRIC_NAMES)}.",
)
@click.option(
    "--parameter",
    help="Comma-separated fields of hardware, workload or model, q, or groups (flops, link_bw, "
    "latency, overhead, overlap, weight_bytes).  [default: all hardware fields, q, context, bytes]",
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
    span, chosen = flags["span"], flags["parameter"]
    if not span >= 1.0:
        raise ValueError(f"--span {span:g}: give a factor above 1, or 1 for no switches")
    given = dict(_distribution(text) for text in flags["uncertain"])
    if given:
        check(given)  # names first: a misspelt one should not cost a search
    problem = problem_of(model, flags)
    found = sensitivity(
        problem,
        names(chosen) if chosen else DEFAULT_PARAMETERS,
        names(flags["metric"]),
        flags["rounding"],
        span if span > 1.0 else None,
    )
    if given:
        losses = dict(zip(("loss_dense", "loss_moe"), flags["loss"] or (), strict=False))
        how = {"draws": flags["draws"], "seed": flags["seed"], "losses": losses}
        found = dataclasses.replace(found, uncertainty=uncertainty(problem, given, **how))
    emit(found, flags, lambda answer: _tell(answer, are_named=chosen is not None))


def _distribution(text: str) -> tuple[str, Distribution]:
    name, separator, rest = text.partition("=")
    if not separator:
        raise ValueError(f"--uncertain {text!r}: write NAME=KIND:NUMBERS, such as q=normal:5,1")
    return name.strip(), parse(rest)


def _factor(value: float | None) -> str:
    return "-" if value is None else f"x{value:.4g}"


def _tell(answer: Sensitivity, are_named: bool) -> None:
    """A table for each cell: every parameter that was named, else the largest ones."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in answer.rows():
        cells.setdefault((row["metric"], cell_name(row)), []).append(row)
    heads = ("parameter", "elasticity", "left", "right", "below", "above", "what changes above")
    for (metric, cell), found in cells.items():
        if found[0]["elasticity"] is None:
            click.echo(f"{cell}: {found[0]['masked']}\n")
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
        options.print_table(f"{cell}: {metric}{bound}", heads, lines)
        if not are_named and len(found) > len(lines):
            click.echo(
                f"The largest {len(lines)} of {len(found)}; --parameter names others, and "
                "--format csv has them all."
            )
    if answer.uncertainty is not None:
        click.echo(answer.uncertainty.summary())
