"""What a verb does with its result: print it in the format asked for, and write its folder."""

import shlex
import sys
from collections.abc import Mapping
from typing import Any

import click

from qsjax.cli import printing, session
from qsjax.output import files
from qsjax.output.result import Result, flat


def asked(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The command as it was given, for `inputs.json`."""
    context = click.get_current_context()
    words: list[str] = []
    for parameter in context.command.params:
        given = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument) and given is not None:
            words += map(str, given) if isinstance(given, tuple) else [str(given)]
    return {
        "command": [context.info_name, *words],
        "repeat": shlex.join(["qsjax", *sys.argv[1:]]),
        "flags": {k: v for k, v in flags.items() if v is not None and k not in ("out", "format_")},
    }


def emit(result: Result, flags: Mapping[str, Any]) -> None:
    """Print a result as JSON, as CSV, or for people, and write the folder of --out.

    People read the answer first, then its tables, then what else is to be said.

    Args:
        result: of a question.
        flags: `format_`, `out`, and whatever else was given.
    """
    if flags["format_"] == "json":
        printing.json_of({"answer": result.summary(), **result.record()})
    elif flags["format_"] == "csv":
        click.echo(files.csv_text([flat(row) for row in result.rows()]), nl=False)
    else:
        click.echo(result.summary())
        for table in result.tables():
            printing.table(table)
        for line in result.remarks():
            click.echo(line)
    if flags["out"]:
        written = result.save(flags["out"], asked(flags))
        session.note(f"Written to {flags['out']}: {', '.join(path.name for path in written)}")
