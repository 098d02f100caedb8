"""`qsjax calibrate`: the constants that fit a user's own measurements."""

from pathlib import Path

import click

from qsjax.cli.options import RECORDS, flag, verb
from qsjax.evidence.calibration import DEFAULT_FREE, calibrate
from qsjax.output.result import Result
from qsjax.records.conversion import names_of


@verb("calibrate")
@click.argument("measured", type=RECORDS)
@flag(
    "--fit", str, "Comma-separated constants.  [default: those that served deployments determine]"
)
def command(measured: Path, fit: str | None) -> Result:
    r"""Fit efficiencies and overheads to your own measurements.

    MEASURED is a CSV with the columns model, hardware, tp, batch (sequences per attention replica),
    context (or isl and osl) and tpot_ms; and where they apply pp, dp, ep, kvp, isl, osl, weights,
    kv, engine. A row that cannot be predicted is left out, with the reason. Every constant gets its
    95 % interval, and a note if the measurements do not determine it.

    \b
    Examples:
      qsjax calibrate mine.csv
      qsjax calibrate mine.csv --fit eff_weight_read,layer_overhead --format json
      qsjax calibrate mine.csv --out results/calibration
    """
    return calibrate(measured, DEFAULT_FREE if fit is None else names_of(fit))
