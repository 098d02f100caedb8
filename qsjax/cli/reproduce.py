"""`qsjax reproduce`: the paper's tables beside ours."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from qsjax import catalog
from qsjax.cli import figures, options, printing, session
from qsjax.evidence import paper
from qsjax.output import files, folder

COLUMNS = ("published", "paper", "error_pct", "beyond_rounding_pct", "physical")


def _rows(cells: list[paper.Cell]) -> list[dict[str, Any]]:
    return [
        {
            "table": cell.table,
            "row": cell.row,
            "quantity": cell.quantity,
            "published": cell.published,
            "paper": cell.paper,
            "error_pct": paper.error_pct(cell),
            "beyond_rounding_pct": paper.beyond_rounding_pct(cell),
            "physical": cell.physical,
            "note": cell.note,
        }
        for cell in cells
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %" if value else "0"


def _title(number: str) -> str:
    return f"Section {number}" if "." in number else f"Table {number}"


def _print_table(rows: list[dict[str, Any]], number: str) -> None:
    from rich.table import Table

    table = Table(title=_title(number), title_justify="left", header_style="bold")
    for column in ("row", "quantity"):
        table.add_column(column)
    for column in ("published", "ours (paper)", "error", "beyond rounding", "ours (physical)"):
        table.add_column(column, justify="right")
    table.add_column("note", max_width=48)
    for row in rows:
        table.add_row(
            row["row"],
            row["quantity"],
            "infeasible" if row["published"] is None else _number(row["published"]),
            _number(row["paper"]),
            _percent(row["error_pct"]),
            _percent(row["beyond_rounding_pct"]),
            _number(row["physical"]),
            row["note"],
        )
    printing.show(table, None if printing.is_terminal() else 160)


def _write(out: Path, rows: list[dict[str, Any]], result: dict[str, Any]) -> None:
    files.write_json(out / "reproduce.json", result)
    files.write_atomically(out / "reproduce.csv", files.csv_text(rows))
    records = {name: result[name] for name in ("hardware", "models")}
    files.write_atomically(out / "inputs.json", folder.text("reproduce", [], {}, records))
    from qsjax import plotting

    tables = by_table(rows).items()
    drawings = {
        f"table-{n}": partial(plotting.paper_table, table, physical=True, title=_title(n))
        for n, table in tables
    }
    names = ["reproduce.json", "reproduce.csv", "inputs.json", *figures.save(out, drawings)]
    session.note(f"Written to {out}: {', '.join(names)}")


def by_table(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows grouped by their table, in printed order."""
    numbers = dict.fromkeys(row["table"] for row in rows)
    return {number: [row for row in rows if row["table"] == number] for number in numbers}


@click.command("reproduce")
@options.output_options
@options.input_errors
def command(format_: str, out: Path | None) -> None:
    r"""Recompute tables 1, 3, 4, 5, 6 and section 3.4 of the paper, cell by cell.

    Beside each printed number: ours under the paper's convention, its error, the error beyond what
    the printed digits allow, and ours under the physical convention. Batches are computed with a
    capacity calibrated per model (declared in the notes); the physical column has no calibration.

    \b
    Examples:
      qsjax reproduce
      qsjax reproduce --format json
      qsjax reproduce --out results/paper
    """
    models = {name: catalog.model(name) for name in paper.MODELS}
    hardware = catalog.hardware("paper-reference")
    cells = paper.reproduce(models, hardware)
    rows = _rows(cells)
    count, rms = paper.time_model_error(cells)
    result = {
        "source": "arXiv 2603.08960",
        "rms_log_error_beyond_rounding": rms,
        "numbers_in_rms": count,
        "hardware": files.spec_dict(hardware),
        "models": {name: files.spec_dict(spec) for name, spec in models.items()},
        "calibration": {
            f"{model} {gpus} GPUs": memory._asdict()
            for (model, gpus), memory in paper.CALIBRATION.items()
        },
        "cells": rows,
    }
    if format_ == "json":
        printing.json_of(result)
    elif format_ == "csv":
        click.echo(files.csv_text(rows), nl=False)
    else:
        for number, table in by_table(rows).items():
            _print_table(table, number)
        click.echo(
            f"Root mean square log error beyond rounding: {rms:.4f} over {count} printed "
            "throughputs and times (tables 4, 5, 6) at the printed batches."
        )
    if out:
        _write(out, rows, result)
