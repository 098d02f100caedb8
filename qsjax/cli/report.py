"""`qsjax report FOLDER...`: one interactive page from result folders."""

from pathlib import Path

import click

from qsjax.cli.options import FOLDER, flag


@click.command("report")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@flag("--out", FOLDER, "Folder for report.html.  [default: the first FOLDER]")
def command(folders: tuple[Path, ...], out: Path | None) -> None:
    r"""Write one self-contained HTML page from the result folders of other verbs.

    Tables can be sorted and filtered, figures say which design stands behind a point, variants and
    accountings can be switched on and off. The page needs no network and no server.

    \b
    Examples:
      qsjax explore deepseek-v3 --gpus 64 --out results/physical
      qsjax report results/physical
      qsjax report results/physical results/paper --out results
    """
    from qsjax.output import report  # matplotlib's palette behind it takes half a second

    click.echo(f"Written: {report.write(folders, out or folders[0])}")
