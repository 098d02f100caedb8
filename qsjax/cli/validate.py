"""`qsjax validate`: predictions against published measurements."""

from pathlib import Path

import click

from qsjax.cli.options import RECORDS, flag, verb
from qsjax.evidence.validation import validate
from qsjax.output.result import Result


@verb("validate")
@click.argument("given", nargs=-1, metavar="[DATA] [NAME=VALUE]...")
@flag("--data", RECORDS, "As DATA.  [default: those that ship with qsjax]")
@flag("--category", str, "Comma-separated categories to look at.  [default: all]")
def command(given: tuple[str, ...], data: Path | None, category: str | None) -> Result:
    r"""Compare predictions with published measurements.

    DATA is yours: a result of a benchmark, JSON, CSV, a folder; what it does not say stands behind
    it. Every record has a prediction with its error, or the reason why there is none. Errors are
    predicted over measured, less 1.

    \b
    Examples:
      qsjax validate
      qsjax validate --category inferencex_agg,wide_ep --out results/validation
      qsjax validate result.json hardware=h100 tp=8 --format json
    """
    paths = [one for one in given if "=" not in one or Path(one).exists()]
    if len(paths) + (data is not None) > 1:
        raise ValueError(f"several files, {', '.join(paths)}; give one, or a folder of them")
    told = dict(one.split("=", 1) for one in given if one not in paths)
    return validate(next(iter(paths), data), category=category, told=told)
