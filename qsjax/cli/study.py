"""`qsjax study`: the dimensions of the paper's Table 2, and which of them change the winner."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from qsjax import catalog
from qsjax.cli import figures, options, serving_options, session
from qsjax.evidence.paper.table_2 import BASELINE, GPUS, QS, Study, steadiness, study, summary
from qsjax.grid.problem import CONTEXTS
from qsjax.output import files, folder
from qsjax.records.specs import CONVENTIONS

MODELS = ("grok-1", "qwen3-235b-a22b", "deepseek-v3", "switch-c")


def _where(row: dict[str, Any]) -> str:
    """Models with the contexts at which their winner changes."""
    from qsjax.plotting.scales import tokens

    return "; ".join(
        f"{model} at {', '.join(tokens(context) for context in contexts)}"
        for model, contexts in row["where"].items()
    )


def _print(rows: list[dict[str, Any]], result: Study) -> None:
    steady = steadiness(result)
    for convention in dict.fromkeys(row["convention"] for row in rows):
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
        same, cells = steady[convention]
        click.echo(
            f"{convention}: in {same} of {cells} cells (model, q, context) one side wins in every "
            "combination of the hardware dimensions.\n"
        )


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
    specs = {name: catalog.model(name) for name in named}
    hardware = catalog.hardware(flags["hardware"])
    chosen = flags["convention"]
    result = study(
        specs,
        hardware,
        contexts=flags["context"] or CONTEXTS,
        qs=flags["q"],
        conventions=[chosen] if chosen else list(CONVENTIONS),
        gpus=int(serving_options.one("gpus", flags["gpus"]) or GPUS),
    )
    rows = summary(result)
    if flags["format_"] == "json":
        options.print_json({"summary": rows, "combinations": result.factorial})
    elif flags["format_"] == "csv":
        click.echo(files.csv_text([_flat(row) for row in rows]), nl=False)
    else:
        _print(rows, result)
    if flags["out"]:
        records = {
            "hardware": {"name": flags["hardware"], **files.spec_dict(hardware)},
            "models": [{"name": n, **files.spec_dict(spec)} for n, spec in specs.items()],
        }
        _write(flags["out"], rows, result, folder.text("study", named, flags, records))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "where": _where(row)}


def _drawings(rows: list[dict[str, Any]]) -> Mapping[str, Callable[[], Any]]:
    from qsjax import plotting

    def draw() -> Any:
        conventions = list(dict.fromkeys(row["convention"] for row in rows))
        tall = 1.9 + 0.25 * len(rows) / len(conventions)
        _, axes = plotting.figure(1, len(conventions), size=(6.6 * len(conventions), tall))
        for ax, convention in zip(axes[0], conventions, strict=True):
            own = [row for row in rows if row["convention"] == convention]
            varied = [row for row in own if row["dimension"] != BASELINE]
            plotting.winner_shifts(varied, ax, title=f"{convention} accounting")
        return axes[0, 0]

    return {"study": draw}


def _write(out: Path, rows: list[dict[str, Any]], result: Study, asked: str) -> None:
    found = {"summary": rows, "combinations": result.factorial}
    files.write_atomically(out / "inputs.json", asked)
    files.write_atomically(out / "result.json", json.dumps(files.finite(found), indent=1))
    files.write_atomically(out / "summary.csv", files.csv_text([_flat(row) for row in rows]))
    files.write_atomically(out / "study.csv", files.csv_text(result.rows))
    names = ["inputs.json", "result.json", "summary.csv", "study.csv"]
    session.note(f"Written to {out}: {', '.join(names + figures.save(out, _drawings(rows)))}")
