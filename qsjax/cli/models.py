"""`qsjax models`: the model catalogue."""

import click

from qsjax import catalog
from qsjax.cli import options, printing
from qsjax.output import catalogue


@click.group("models", invoke_without_command=True)
@options.format_option
@click.pass_context
def command(ctx: click.Context, format_: str) -> None:
    r"""List the models of the catalogue, with parameter totals and active counts.

    \b
    Examples:
      qsjax models
      qsjax models show deepseek-v3
      qsjax models show path/to/config.json --format json
    """
    if ctx.invoked_subcommand is None:
        rows = [catalogue.model_row(catalog.model_entry(name)) for name in catalog.model_names()]
        printing.rows(rows, format_, catalogue.models_table)


@command.command("show")
@click.argument("name")
@options.format_option
def show(name: str, format_: str) -> None:
    """Show every number of one model: by name, Hugging Face config.json or TOML file."""
    printing.record(catalogue.model_record(catalog.model_entry(name)), format_)
