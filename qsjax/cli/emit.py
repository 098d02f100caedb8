"""Print a result in the format asked for, and write its folder."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from qsjax.cli import printing, session
from qsjax.output import files
from qsjax.output.result import Result, flat


def asked() -> dict[str, Any]:
    """The command as it was given, for `inputs.json`."""
    context = click.get_current_context()
    given = {name: value for name, value in context.params.items() if value is not None}
    words: list[str] = []
    for parameter in context.command.params:
        if isinstance(parameter, click.Argument) and parameter.name in given:
            argument = given.pop(parameter.name)
            words += map(str, argument if isinstance(argument, tuple) else [argument])
    return {
        "command": [context.info_name, *words],
        "repeat": shlex.join(["qsjax", *sys.argv[1:]]),
        "flags": {name: x for name, x in given.items() if name not in ("out", "format_")},
    }


def emit(result: Result, format_: str, out: Path | None) -> None:
    """Print a result as JSON, as CSV, or for people, and write the folder of --out.

    The folder is written after the answer is read, and where its reader stops listening, too.
    """
    for line in result.cautions():
        session.note(line)
    try:
        _print(result, format_)
    finally:
        if out:
            _write(result, out)


def _print(result: Result, format_: str) -> None:
    """People read the answer first, then its tables, then what else is to be said."""
    if format_ == "json":
        printing.json_of({"answer": result.summary(), **result.record()})
    elif format_ == "csv":
        click.echo(files.csv_text([flat(row) for row in result.rows()]), nl=False)
    else:
        click.echo(result.summary())
        for table in result.tables():
            printing.table(table)
        for line in result.remarks():
            click.echo(line)


def _write(result: Result, out: Path) -> None:
    try:
        written = result.save(out, asked())
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written: {error.strerror or error}") from error
    session.note(f"Written to {out}: {', '.join(path.name for path in written)}")
