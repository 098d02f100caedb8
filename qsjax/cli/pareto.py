"""`qsjax pareto MODEL...`: the front of throughput against interactivity."""

from functools import partial
from typing import Any

import click

from qsjax.cli import options, serving_options
from qsjax.cli.emit import emit
from qsjax.output.labels import split_name, variant_name
from qsjax.output.result import Row, text
from qsjax.questions.pareto import Pareto, Refused, pareto
from qsjax.records.units import MS

CONTEXT = 8192.0


@click.command("pareto")
@click.argument("models", nargs=-1, required=True, shell_complete=options.names_of("model"))
@options.system_options
@options.context_option("8k")
@options.quality_options
@serving_options.request_options
@options.axis_options
@serving_options.limit_options
@serving_options.economy_options
@click.option("--every-batch", is_flag=True, help="Try every batch, not a ladder of 2 % steps.")
@click.option("--points", default=12, show_default=True, help="Points of each front in the table.")
@options.output_options
@options.input_errors
def command(models: tuple[str, ...], **flags: Any) -> None:
    r"""Trace tokens/s/GPU against tokens/s/user for MODELS and their dense twins.

    The front is exact over every split and batch tried. --hardware takes several, with commas. With
    limits, the last point of a front is the best design that keeps them; if none does, the output
    says which limit is in the way and what would help.

    \b
    Examples:
      qsjax pareto deepseek-v3 --hardware h200-sxm --gpus 64 --context 8k
      qsjax pareto qwen3-235b-a22b --hardware h100-sxm,b200-sxm --isl 4096 --osl 1024
      qsjax pareto deepseek-v3 --hardware h200-sxm --max-tpot 20ms --max-usd 3 --usd-per-hour 2.5
    """
    problem = serving_options.problem_of(models, flags, (CONTEXT,))
    emit(pareto(problem, flags["every_batch"]), flags, partial(_tell, most=flags["points"]))


def _tell(found: Pareto, most: int) -> None:
    if rows := found.rows():
        _table(rows, most)
    click.echo(found.summary())
    for item in found.refused:
        _say_refused(item)


def _table(rows: list[Row], most: int) -> None:
    """Every front thinned to `most` points, its ends kept."""
    shown = []
    keys = dict.fromkeys((row["label"], row["context"], row["gpus"]) for row in rows)
    for key in keys:
        part = [row for row in rows if (row["label"], row["context"], row["gpus"]) == key]
        step = max(1.0, (len(part) - 1) / max(1, most - 1))
        at = sorted({round(i * step) for i in range(most) if round(i * step) < len(part)})
        shown += [part[i] for i in at]
    cells = [
        (
            row["label"],
            f"{row['context']:,.0f}",
            str(row["gpus"]),
            split_name(row),
            f"{row['batch']:,}",
            f"{row['tpot'] / MS:,.2f}",
            f"{row['tokens_per_s_per_user']:,.1f}",
            f"{row['tokens_per_s_per_gpu']:,.1f}",
            text(row.get("usd_per_million_tokens")),
            text(row.get("joules_per_token")),
        )
        for row in shown
    ]
    heads = ("series", "context", "GPUs", "split", "batch", "TPOT ms", "tok/s/user", "tok/s/GPU")
    title = "Designs that no other beats in both tokens/s/user and tokens/s/GPU"
    options.print_table(title, (*heads, "USD/Mtok", "J/tok"), cells, left=4)


def _say_refused(item: Refused) -> None:
    row, found = item.label, item.would_help
    where = f"{variant_name(row)} on {row['gpus']:g} x {row['hardware']}"
    click.echo(f"Nothing for {row['model']} {where} at {row['context']:,.0f} tokens:")
    for refusal in item.why:
        click.echo(f"  - {refusal.text}")
    changes = (
        (found.context, f"a context of {found.context:,.0f} tokens"),
        (found.gpus, f"{found.gpus:,.0f} GPUs"),
        (found.speed, f"an accelerator {found.speed:.2f} times as fast in everything"),
    )
    if known := [words for value, words in changes if value == value]:  # not NaN
        click.echo(f"  It would be possible with {', or with '.join(known)}.")
    else:
        click.echo(
            "  No shorter context, no number of GPUs and no faster accelerator that was tried "
            "makes it possible."
        )
