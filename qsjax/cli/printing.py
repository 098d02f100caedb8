"""Tables for people, whole at any width of the terminal."""

from typing import TYPE_CHECKING

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
    found = [natural for _, natural in widths]
    while sum(found) > room:
        spare = [at for at, (least, _) in enumerate(widths) if found[at] > least]
        if not spare:
            break
        found[max(spare, key=found.__getitem__)] -= 1
    return found


def show(table: "Table", width: int | None) -> None:
    """Print a table. Where it is too wide text folds, then the rules go; no number is ever cut.

    Args:
        table: right-justified columns hold numbers, the others text.
        width: characters of a line; None for those of the terminal.
    """
    from rich import box
    from rich.console import Console

    room = Console(width=width).width
    widths = [_widths(column) for column in table.columns]
    around = _CELL_RULES * len(widths) + _TABLE_RULES
    if sum(least for least, _ in widths) + around > room:
        table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, 0
        around = len(widths) - 1
    found = _fit(widths, room - around)
    for column, characters in zip(table.columns, found, strict=True):
        column.width = characters
    Console(width=max(room, sum(found) + around)).print(table)
