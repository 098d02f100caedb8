"""`qsjax validate`: predictions against published measurements."""

from pathlib import Path
from typing import Any

import click

from qsjax.cli import grid_options, options
from qsjax.cli.emit import emit
from qsjax.evidence.validation import validate


@click.command("validate")
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Records of your own, as JSON or CSV.  [default: those that ship with qsjax]",
)
@click.option("--category", help="Comma-separated categories to look at.  [default: all]")
@options.output_options
@options.input_errors
def command(data: Path | None, category: str | None, **flags: Any) -> None:
    r"""Compare predictions with published measurements.

    Every record has a prediction with its error, or the reason why there is none. Errors are
    predicted over measured, less 1.

    \b
    Examples:
      qsjax validate
      qsjax validate --category inferencex_agg,wide_ep --out results/validation
      qsjax validate --data mine.json --format json
    """
    wanted = None if category is None else grid_options.names(category)
    emit(validate(data, category=wanted), flags | {"data": data, "category": category})
