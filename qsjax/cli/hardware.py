"""`qsjax hardware`: the accelerator catalogue."""

from typing import Any

import click

from qsjax import catalog
from qsjax.cli import options, printing
from qsjax.output import files
from qsjax.output.result import Table
from qsjax.records.units import GB, GIB, TB, TFLOP


def _details(entry: catalog.HardwareEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "aliases": list(entry.aliases),
        **files.spec_dict(entry.spec),
        "given": list(entry.given),
        "assumptions": list(entry.assumptions),
        "sources": [{"of": list(source.of), "at": source.at} for source in entry.sources],
        "note": entry.note,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    rates = ("HBM GiB", "TB/s", "BF16", "FP8", "FP4 TFLOP/s", "fast GB/s", "slow GB/s", "island")
    return Table(
        f"{len(rows)} accelerators; `qsjax hardware show NAME` gives every number and its source",
        ("name", "title", *rates),
        [
            (
                row["name"],
                row["title"],
                f"{row['hbm_bytes'] / GIB:,.0f}",
                f"{row['hbm_bw'] / TB:.2f}",
                *(f"{row[f'flops_{d}'] / TFLOP:,.0f}" for d in ("bf16", "fp8", "fp4")),
                f"{row['intra_bw'] / GB:,.0f}",
                f"{row['inter_bw'] / GB:,.1f}",
                f"{row['island_size']:g}",
            )
            for row in rows
        ],
        2,
    )


@click.group("hardware", invoke_without_command=True)
@options.format_option
@click.pass_context
@options.input_errors
def command(ctx: click.Context, format_: str) -> None:
    r"""List the accelerators of the catalogue.

    Link rates are per GPU and in one direction; SI units in JSON and CSV.

    \b
    Examples:
      qsjax hardware
      qsjax hardware show h100-sxm
      qsjax hardware show my-accelerator.toml --format json
    """
    if ctx.invoked_subcommand is None:
        rows = [_details(catalog.hardware_entry(name)) for name in catalog.hardware_names()]
        printing.rows(rows, format_, _table)


@command.command("show")
@click.argument("name")
@options.format_option
@options.input_errors
def show(name: str, format_: str) -> None:
    """Show every number of one accelerator, by name or from a TOML file."""
    printing.record(_details(catalog.hardware_entry(name)), format_)
