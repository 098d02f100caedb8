"""`qsjax calibrate`: the constants that fit a user's own measurements."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from qsjax.cli import options, printing, session
from qsjax.evidence import measurements
from qsjax.evidence.calibration import DEFAULT_FREE, PARAMETERS, Constant, Fit, fit
from qsjax.evidence.measurements import Case, Skipped, read_cases
from qsjax.output import files, folder
from qsjax.output.result import Table
from qsjax.records.units import US

# Keys of an accelerator's TOML file: times carry their unit.
_KEYS = {"us": "_us", "": ""}


def _scaled(constant: Constant) -> tuple[float, float, float]:
    scale = US if constant.unit == "us" else 1.0
    return constant.value / scale, constant.low / scale, constant.high / scale


def _summary(fitted: Fit, skipped: list[Skipped]) -> dict[str, Any]:
    size = 100.0 * np.abs(fitted.errors)
    return {
        "constants": {
            constant.name: dict(zip(("value", "low", "high"), _scaled(constant), strict=True))
            | {"unit": constant.unit or "share"}
            for constant in fitted.constants
        },
        "held": list(fitted.held),
        "warnings": list(fitted.warnings),
        "records": fitted.records,
        "skipped": {one.id: one.because for one in skipped},
        "median_abs_error_pct": float(np.median(size)),
        "p90_abs_error_pct": float(np.percentile(size, 90)),
        "bias_pct": float(100.0 * np.median(fitted.errors)),
    }


def _toml(fitted: Fit) -> str:
    lines = ["# Fitted by `qsjax calibrate`; paste into the TOML file of your accelerator."]
    for constant in fitted.constants:
        if constant.name in PARAMETERS and constant.name != "trtllm_overhead":
            value = _scaled(constant)[0]
            lines.append(f"{constant.name}{_KEYS[constant.unit]} = {value:.4g}")
    return "\n".join(lines) + "\n"


def _print(fitted: Fit, skipped: list[Skipped], summary: dict[str, Any]) -> None:
    rows = []
    for constant in fitted.constants:
        value, low, high = (f"{x:.3g}" for x in _scaled(constant))
        rows.append((constant.name, constant.unit or "share", value, f"{low} to {high}"))
    heads = ("constant", "unit", "value", "95 % interval")
    title = (
        f"{fitted.records} measurements: median error {summary['median_abs_error_pct']:.1f} %, "
        f"90th percentile {summary['p90_abs_error_pct']:.1f} %, bias {summary['bias_pct']:+.1f} %"
    )
    printing.table(Table(title, heads, rows, 2))
    for line in fitted.warnings:
        click.echo(f"Note: {line}.")
    for one in skipped:
        click.echo(f"Not used: {one.id}: {one.because}.")


def _named(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError(f"--fit {text!r} names no constant; known: {', '.join(PARAMETERS)}")
    return names


@click.command("calibrate")
@click.argument("measured", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--fit",
    "names",
    help="Comma-separated constants.  [default: those that served deployments determine]",
)
@options.output_options
@options.input_errors
def command(measured: Path, names: str | None, format_: str, out: Path | None) -> None:
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
    cases = read_cases(measurements.read_csv(measured))
    used = [case for case in cases if isinstance(case, Case)]
    skipped = [case for case in cases if isinstance(case, Skipped)]
    if not used:
        reasons = "; ".join(f"{one.id}: {one.because}" for one in skipped)
        raise ValueError(f"{measured}: no row can be predicted: {reasons}")
    free = DEFAULT_FREE if names is None else _named(names)
    fitted = fit(used, free)
    summary = _summary(fitted, skipped)
    if format_ == "json":
        printing.json_of(summary)
    elif format_ == "csv":
        rows = [{"constant": k, **v} for k, v in summary["constants"].items()]
        click.echo(files.csv_text(rows), nl=False)
    else:
        _print(fitted, skipped, summary)
    if out is not None:
        read = {"measured": folder.of_file(measured)}
        asked = folder.text("calibrate", [str(measured)], {"fit": names}, read)
        files.write_atomically(out / "inputs.json", asked)
        files.write_json(out / "calibration.json", summary)
        files.write_atomically(out / "constants.toml", _toml(fitted))
        session.note(f"wrote inputs.json, calibration.json, constants.toml to {out}")
