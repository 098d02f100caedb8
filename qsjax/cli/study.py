"""`qsjax study`: the dimensions of the paper's Table 2, and which of them change the winner."""

from typing import Any

import click

from qsjax.cli import options, session
from qsjax.cli.emit import emit
from qsjax.evidence.paper.table_2 import GPUS, QS, Study, study
from qsjax.grid.problem import CONTEXTS, Problem
from qsjax.records.specs import CONVENTIONS

MODELS = ("grok-1", "qwen3-235b-a22b", "deepseek-v3", "switch-c")


def _where(row: dict[str, Any]) -> str:
    """Models with the contexts at which their winner changes."""
    from qsjax.plotting.scales import tokens

    return "; ".join(
        f"{model} at {', '.join(tokens(context) for context in contexts)}"
        for model, contexts in row["where"].items()
    )


def _tell(found: Study) -> None:
    rows = found.rows()
    for convention, verdict in found.verdicts().items():
        own = [row for row in rows if row["convention"] == convention]
        heads = ("dimension", "value", "cells", "dense wins", "flips", "to dense",
                 f"flips at q={own[0]['q']:g}")  # fmt: skip
        lines = [
            (
                row["dimension"],
                row["value"],
                *(f"{row[name]}" for name in ("cells", "dense_wins", "flips", "to_dense")),
                _where(row),
            )
            for row in own
        ]
        options.print_table(f"{convention} accounting: who wins", heads, lines, left=2)
        click.echo(f"{verdict}\n")


@click.command("study")
@click.argument("models", nargs=-1, shell_complete=options.names_of("model"))
@options.hardware_option
@click.option(
    "--gpus",
    type=options.Numbers(whole=True),
    default=str(GPUS),
    show_default=True,
    help="GPUs of every deployment; the table's reference split needs 32.",
)
@click.option(
    "--context",
    type=options.Numbers(whole=True),
    help="Context lengths.  [default: 1k to 16M by powers of two]",
)
@click.option(
    "--q",
    type=options.Numbers(),
    default=",".join(f"{q:g}" for q in QS),
    show_default=True,
    help="Quality-equivalence factors of the dense twins.",
)
@click.option(
    "--convention",
    type=click.Choice(list(CONVENTIONS)),
    help="Accounting.  [default: both]",
)
@options.output_options
@options.input_errors
def command(models: tuple[str, ...], **flags: Any) -> None:
    r"""Vary every dimension of the paper's Table 2 and count where the winner changes.

    MODELS are mixtures of experts; without any, the paper's four. Splits, capacity, bandwidth,
    links, latency, overlap and the ring's tail are varied one at a time, the hardware in all
    combinations too; MoE and twins are re-optimised every time.

    \b
    Examples:
      qsjax study --out results/study
      qsjax study deepseek-v3 --context 8k,128k --q 5
      qsjax study mixtral-8x7b --gpus 8 --convention physical --format csv
    """
    named = list(models) or list(MODELS)
    for model in named:
        session.note_contexts(model, flags["context"])
    chosen = flags["convention"]
    problem = Problem(
        named,
        flags["hardware"],
        gpus=flags["gpus"],
        context=flags["context"] or CONTEXTS,
        twins=flags["q"],
    )
    emit(study(problem, [chosen] if chosen else list(CONVENTIONS)), flags, _tell)
