"""`qsjax validate`: predictions against published measurements."""

from pathlib import Path
from typing import Any

import click

from qsjax.cli import options
from qsjax.cli.emit import emit
from qsjax.evidence import measurements
from qsjax.evidence.validation import validate
from qsjax.output import folder


@click.command("validate")
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Records of your own, as JSON.  [default: those that ship with qsjax]",
)
@click.option("--category", help="Comma-separated categories to look at.  [default: all]")
@options.output_options
@options.input_errors
def command(**flags: Any) -> None:
    r"""Compare predictions with published measurements.

    Every record has a prediction with its error, or the reason why there is none. Errors are
    predicted over measured, less 1.

    \b
    Examples:
      qsjax validate
      qsjax validate --category inferencex_agg,wide_ep --out results/validation
      qsjax validate --data mine.json --format json
    """
    data, category = flags["data"], flags["category"]
    records = measurements.load_records() if data is None else measurements.read_json(data)
    if category is not None:
        wanted = [name.strip() for name in category.split(",")]
        known = sorted({str(record["category"]) for record in records})
        if missing := [name for name in wanted if name not in known]:
            raise ValueError(f"no records of {', '.join(missing)}; there are {', '.join(known)}")
        records = tuple(record for record in records if record["category"] in wanted)
    emit(validate(records), flags | {"data": None if data is None else folder.of_file(data)})
