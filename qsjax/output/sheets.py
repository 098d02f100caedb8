"""Rows of CSV with a heading or of JSON a line, each checked; all mistakes in one message."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from qsjax.output import files
from qsjax.records.tables import table

MOST_ERRORS = 20  # rows named in one message


def headings(kind: str) -> dict[str, tuple[str, ...]]:
    """Accepted headings of the columns of a kind of table, the preferred one first."""
    return {name: tuple(x.split()) for name, x in table("output/headings.toml")[kind].items()}


LENGTHS = headings("lengths")
# Lines above a table: empty, a remark, or what tells Excel how cells are divided.
REMARK = re.compile(r"\s*(?:#.*)?|sep=.", re.IGNORECASE)
_COMMA = re.compile(r"([+-]?\d+),(\d+)")
Item = TypeVar("Item")


def delimiter_of(line: str) -> str:
    """What divides the cells of a line: the most frequent of those that spreadsheets write."""
    return max(",;\t", key=line.count)


def tabbed(text: str) -> str:
    r"""A table whose columns are two spaces apart with tabs between them; another text as it is.

    So do `column -t` and pandas print, the latter with the number of each row in front.

    >>> tabbed("gpu   tp  batch\n0  L4  1  8"), tabbed("gpu, tp\nL4, 1")
    ('gpu\ttp\tbatch\nL4\t1\t8', 'gpu, tp\nL4, 1')
    """
    lines = text.strip("\n").splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    if len(rows) < 2 or len(rows[0]) < 3 or re.search(r"[,;\t|{\[<:]", lines[0]):
        return text
    if all(len(row) == len(rows[0]) + 1 and row[0].isdigit() for row in rows[1:]):
        rows = [rows[0], *(row[1:] for row in rows[1:])]
    is_even = all(len(row) == len(rows[0]) for row in rows)
    return "\n".join("\t".join(row) for row in rows) if is_even else text


def plain(heading: str) -> str:
    """A heading without capitals, spaces and signs.

    >>> plain("Arrival Time (ms)"), plain("promptTokens")
    ('arrival_time_ms', 'prompt_tokens')
    """
    apart = re.sub(r"(?<=[a-z\d])(?=[A-Z])", "_", heading)
    return re.sub(r"[\W_]+", "_", apart.lower()).strip("_")


def _places(header: Sequence[str], headings: Mapping[str, Sequence[str]], name: str) -> list[int]:
    """Where the first accepted heading of each column stands; -1 where none does."""
    lowered = [plain(heading) for heading in header]
    wanted = {heading for accepted in headings.values() for heading in accepted}
    twice = [x for x, count in Counter(lowered).items() if count > 1 and x in wanted]
    if twice:
        raise ValueError(f"{name}: the first row names {', '.join(twice)} twice; keep one of them")
    return [
        next((lowered.index(heading) for heading in accepted if heading in lowered), -1)
        for accepted in headings.values()
    ]


def _flat(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of an object: itself with what objects in it hold, or one for each turn of it."""
    row: dict[str, Any] = {}
    left = [one]
    while left:  # the outer ones first, which hold
        inner = dict(left.pop(0))
        for key, x in inner.items():  # a number with its unit is the number
            if isinstance(x, Mapping) and x.keys() == {"value", "unit"}:
                inner[key] = x["value"]
        row = {key: x for key, x in inner.items() if not isinstance(x, Mapping)} | row
        left += [x for x in inner.values() if isinstance(x, Mapping)]
    turns = next((x for x in row.values() if isinstance(x, list) and _has_lengths(x)), None)
    if turns is None:
        yield row
        return
    alone = {key: x for key, x in row.items() if x is not turns}
    for turn in turns:
        yield from _flat({**alone, **turn})


def _has_lengths(items: Sequence[Any]) -> bool:
    """Whether a list is one of requests, and not of messages or of tokens."""
    return bool(items) and all(
        isinstance(one, Mapping)
        and all({*map(plain, one)} & {*accepted} for accepted in LENGTHS.values())
        for one in items
    )


def _objects(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of JSON with their numbers: of a list, of an object that has one, or a line each."""
    try:
        every = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{name}: not a table: nested too deeply") from error
    except ValueError as error:
        if text.startswith("["):
            raise ValueError(f"{name}: not JSON: {error}") from error
        every = None
    if every is not None:
        items = every if isinstance(every, list) else [every]
        for number, one in enumerate((row for x in items for row in _rows_of(x)), 1):
            yield number, one
        return
    for number, line in enumerate(text.splitlines(), 1):
        try:
            given = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise ValueError(f"{name}: row {number}: not JSON: {error}") from error
        for row in _rows_of(given):
            yield number, row


def _rows_of(one: Any) -> Iterator[dict[str, Any]]:
    yield from _flat(one) if isinstance(one, Mapping) else ()


def _grid(text: str, name: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The heading, and the number and cells of each row; of JSON by the keys of its objects."""
    text = tabbed(text.lstrip("\ufeff"))
    start = text.lstrip()
    if start.startswith(("{", "[")):
        objects = list(_objects(start, name))
        keys = list(dict.fromkeys(key for _, one in objects for key in one))
        cells = [[one.get(key) for key in keys] for _, one in objects]
        texts = [["" if x is None else str(x) for x in row] for row in cells]
        return keys, [(number, row) for (number, _), row in zip(objects, texts, strict=True)]
    lines = io.StringIO(text).readlines()
    above = next((at for at, line in enumerate(lines) if not REMARK.fullmatch(line.strip())), 0)
    mark = delimiter_of(lines[above]) if lines else ","
    reader = csv.reader(lines[above:], strict=True, delimiter=mark)
    try:
        header = next(reader, [])
        rows = [(above + reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        line = above + reader.line_num
        raise ValueError(f"{name}: row {line}: {error}; mend the quotes") from error
    if mark == ";":  # beside which spreadsheets write 1,5 for one and a half
        rows = [(number, [_COMMA.sub(r"\1.\2", cell) for cell in cells]) for number, cells in rows]
    return header, rows


def cells_of(
    text: str, headings: Mapping[str, Sequence[str]], name: str
) -> tuple[list[str], dict[str, int], list[tuple[int, dict[str, str]]]]:
    """The heading, the places of its columns, and each filled row's number and cells by column.

    Args:
        text: content of the file; the first row names the columns.
        headings: by column, how it may be called, the first of them preferred.
        name: what messages call the file.

    Raises:
        ValueError: it is neither CSV nor JSON a line, or a column comes twice.
    """
    header, lines = _grid(text, name)
    places = zip(headings, _places(header, headings, name), strict=True)
    columns = {column: at for column, at in places if at >= 0}
    rows = [
        (number, {c: cells[at].strip() if at < len(cells) else "" for c, at in columns.items()})
        for number, cells in lines
        if any(cell.strip() for cell in cells)
    ]
    return header, columns, rows


def text_of(given: Any, name: str) -> tuple[str, str] | None:
    """Content and name of a table that is given as a file, its text or a data frame; else None.

    Raises:
        ValueError: the file cannot be read.
    """
    if hasattr(given, "to_dict"):  # a data frame of any library that has pandas's methods
        rows = given.to_dict("records")
        return (files.csv_text(rows) if rows else f"{','.join(map(str, given))}\n"), name
    if isinstance(given, str) and "\n" in given:
        return given, name
    if isinstance(given, str | Path):
        return files.content_of(Path(given)), Path(given).name
    return None


def listed(problems: Sequence[str], kind: str) -> list[str]:
    """The first lines of a message, and how many more there are."""
    more = len(problems) - MOST_ERRORS
    return [*problems[:MOST_ERRORS], *([f"  and {more} more {kind}"] if more > 0 else [])]


def gathered(rows: Iterable[tuple[int, Callable[[], Item]]], name: str) -> list[Item]:
    """What every row is read as.

    Raises:
        ValueError: with the number of every bad row (the heading is row 1), or there is none.
    """
    items, problems = [], []
    for number, read in rows:
        try:
            items.append(read())
        except ValueError as error:
            problems.append(f"  row {number}: {error}")
    if problems:
        raise ValueError("\n".join([f"{name}:", *listed(problems, "rows")]))
    if not items:
        raise ValueError(f"{name}: there is no row below the heading; give at least one request")
    return items
