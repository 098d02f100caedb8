"""Printing: tables that are complete at any terminal width, JSON, and records."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from qsjax.cli import WIDTH
from qsjax.output import files, words
from qsjax.output.result import Table as Content
from qsjax.records.rows import leaves
from qsjax.records.specs import FIELDS
from qsjax.records.units import US

if TYPE_CHECKING:
    from rich.table import Column, Table

_CELL_RULES, _TABLE_RULES = 3, 1  # characters that rules and padding take


def _widths(column: "Column") -> tuple[int, int]:
    """Least and natural width of a column [characters]; words and numbers stay whole."""
    head, cells = str(column.header), [str(cell) for cell in column.cells]
    is_text = column.justify != "right"
    whole = [
        part
        for cell in cells
        for part in (cell.split() if is_text or cell.count(" ") > 1 else [cell])
    ]
    least = max(map(len, [*head.split(), *whole]), default=0)
    natural = min(max(map(len, [head, *cells])), column.max_width or 10**6)
    return least, max(least, natural)


def _fit(widths: list[tuple[int, int]], room: int) -> list[int]:
    """Widths that sum to `room`, the widest first to give way; more where the least ones do."""
    fitted = [natural for _, natural in widths]
    while sum(fitted) > room:
        spare = [at for at, (least, _) in enumerate(widths) if fitted[at] > least]
        if not spare:
            break
        fitted[max(spare, key=fitted.__getitem__)] -= 1
    return fitted


def show(table: "Table", width: int | None) -> None:
    """Print a table in lines of `width` characters; None for those of the terminal.

    Where it is too wide text folds, then the rules go; no number is ever cut.
    """
    from rich import box
    from rich.console import Console

    room = Console(width=width).width
    widths = [_widths(column) for column in table.columns]
    around = _CELL_RULES * len(widths) + _TABLE_RULES
    if sum(least for least, _ in widths) + around > room:
        table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, 0
        around = len(widths) - 1
    fitted = _fit(widths, room - around)
    for column, characters in zip(table.columns, fitted, strict=True):
        column.width = characters
    Console(width=max(room, sum(fitted) + around)).print(table)


def table(content: Content) -> None:
    """A table for people; the first columns are text, the others numbers."""
    from rich.table import Table

    if not content.rows:
        return
    if content.title:  # by itself: a narrow table would fold it
        click.echo(f"\n{content.title}")
    printed = Table(header_style="bold")
    for at, head in enumerate(content.heads):
        printed.add_column(head, justify="left" if at < content.left else "right", max_width=60)
    for row in content.rows:
        if row:
            printed.add_row(*row)
        else:
            printed.add_section()
    show(printed, None if sys.stdout.isatty() else WIDTH)


def json_of(value: Any) -> None:
    """One JSON object on standard output; NaN and infinity become null."""
    click.echo(json.dumps(files.finite(value), indent=1, allow_nan=False))


def rows(
    listed: list[dict[str, Any]], format_: str, as_table: Callable[[list[dict[str, Any]]], Content]
) -> None:
    """Rows in the format of the flag."""
    if format_ == "json":
        json_of(listed)
    elif format_ == "csv":
        click.echo(files.csv_text(listed), nl=False)
    else:
        table(as_table(listed))


def record(content: dict[str, Any], format_: str) -> None:
    """One record: JSON, or name and value for each number in it."""
    if format_ == "json":
        json_of(content)
        return
    lines = list(_flat(content))
    if format_ == "csv":
        click.echo(files.csv_text([{"name": n, "value": v} for n, v in lines]), nl=False)
        return
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {_plain(name, value)}")


def _flat(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in leaves(content):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for at, item in enumerate(value):
                yield from ((f"{name}[{at}].{key}", leaf) for key, leaf in _flat(item))
        else:
            yield name, value


def _plain(name: str, value: Any) -> str:
    facts = FIELDS.get(name.rpartition(".")[2])
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, int | float) and facts is not None and facts.unit != "1":
        return f"{value / US:,.6g} us" if facts.unit == "s" else words.value(value, facts.unit, 6)
    if isinstance(value, int | float):
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)
