"""`qsjax validate`: predictions against published measurements."""

from pathlib import Path
from typing import Any

import click

from qsjax.cli import figures, options, session
from qsjax.evidence import measurements
from qsjax.evidence.validation import Report, validate
from qsjax.output import files, folder

COLUMNS = (
    ("predicted", "predicted"),
    ("not scored", "not_scored"),
    ("skipped", "skipped"),
    ("median |e| %", "median_abs_error_pct"),
    ("90th |e| %", "p90_abs_error_pct"),
    ("bias %", "bias_pct"),
)
SHOWN = ("category", "gpu", "regime")


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,d}" if isinstance(value, int) else f"{value:.1f}"


def _print_groups(report: Report, name: str) -> None:
    groups = {key: row for key, row in report.by(name).items() if row["predicted"]}
    options.print_table(
        f"Errors by {name}",
        (name, *(head for head, _ in COLUMNS)),
        [(key, *(_cell(row[column]) for _, column in COLUMNS)) for key, row in groups.items()],
    )


def _print(report: Report) -> None:
    for name in SHOWN:
        _print_groups(report, name)
    options.print_table(
        "Largest errors",
        ("record", "model", "accelerator", "error %", "known reason"),
        [
            (row["id"], row["model"], row["gpu"], f"{row['error_pct']:+.0f}", row["reason"])
            for row in report.worst()
        ],
        left=3,
    )
    for title, counts in (
        ("Predicted but not scored", report.not_scored()),
        ("Not predicted", report.skipped()),
    ):
        options.print_table(
            title, ("reason", "records"), [(reason, f"{n:,}") for reason, n in counts.items()]
        )


def _write(out: Path, asked: str, report: Report, summary: dict[str, Any]) -> None:
    from qsjax import plotting

    files.write_atomically(out / "inputs.json", asked)
    files.write_atomically(out / "records.csv", files.csv_text(_plain(report.records)))
    files.write_json(out / "validation.json", summary)
    times = [row for row in report.deployments if row["unit"] == "ms"]
    drawings = {
        "parity": lambda: plotting.parity(times),
        "residuals_by_gpu": lambda: plotting.residuals(report.deployments),
        "residuals_by_model": lambda: plotting.residuals(report.deployments, by="model"),
        "residuals_by_regime": lambda: plotting.residuals(report.deployments, by="regime"),
    }
    names = figures.save(out, drawings)
    session.note(f"wrote inputs.json, records.csv, validation.json, {', '.join(names)} to {out}")


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the same columns and without nested values."""
    names = dict.fromkeys(name for row in rows for name in row if name != "shares")
    return [{name: row.get(name) for name in names} for row in rows]


@click.command("validate")
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Records of your own, as JSON.  [default: those that ship with qsjax]",
)
@click.option("--category", help="Comma-separated categories to look at.  [default: all]")
@options.output_options
@options.input_errors
def command(data: Path | None, category: str | None, format_: str, out: Path | None) -> None:
    r"""Compare predictions with published measurements.

    Every record has a prediction with its error, or the reason why there is none. Errors are
    predicted over measured, less 1.

    \b
    Examples:
      qsjax validate
      qsjax validate --category inferencex_agg,wide_ep --out results/validation
      qsjax validate --data mine.json --format json
    """
    records = measurements.load_records() if data is None else measurements.read_json(data)
    if category is not None:
        wanted = [name.strip() for name in category.split(",")]
        known = sorted({str(record["category"]) for record in records})
        if missing := [name for name in wanted if name not in known]:
            raise ValueError(f"no records of {', '.join(missing)}; there are {', '.join(known)}")
        records = tuple(record for record in records if record["category"] in wanted)
    report = validate(records)
    summary = {"records": report.records, "summary": report.summary}
    if format_ == "json":
        options.print_json(summary)
    elif format_ == "csv":
        click.echo(files.csv_text(_plain(report.records)), nl=False)
    else:
        _print(report)
    if out is not None:
        read = {} if data is None else {"data": folder.of_file(data)}
        asked = folder.text("validate", [], {"data": data, "category": category}, read)
        _write(out, asked, report, summary)
