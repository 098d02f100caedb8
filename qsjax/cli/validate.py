"""`qsjax validate`: predictions against published measurements."""

from pathlib import Path

from qsjax.cli.options import RECORDS, flag, verb
from qsjax.evidence.validation import validate
from qsjax.output.result import Result


@verb("validate")
@flag(
    "--data", RECORDS, "Your records: JSON, CSV, a folder.  [default: those that ship with qsjax]"
)
@flag("--category", str, "Comma-separated categories to look at.  [default: all]")
def command(data: Path | None, category: str | None) -> Result:
    r"""Compare predictions with published measurements.

    Every record has a prediction with its error, or the reason why there is none. Errors are
    predicted over measured, less 1.

    \b
    Examples:
      qsjax validate
      qsjax validate --category inferencex_agg,wide_ep --out results/validation
      qsjax validate --data mine.json --format json
    """
    return validate(data, category=category)
