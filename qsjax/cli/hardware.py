"""`qsjax hardware`: the accelerator catalogue."""

import click

from qsjax import catalog
from qsjax.cli import options, printing
from qsjax.output import catalogue


@click.group("hardware", invoke_without_command=True)
@options.format_option
@click.pass_context
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
        entries = map(catalog.hardware_entry, catalog.hardware_names())
        rows = [catalogue.hardware_record(entry) for entry in entries]
        printing.rows(rows, format_, catalogue.hardware_table)


@command.command("show")
@click.argument("name")
@options.format_option
def show(name: str, format_: str) -> None:
    """Show every number of one accelerator, by name or from a TOML file."""
    printing.record(catalogue.hardware_record(catalog.hardware_entry(name)), format_)
