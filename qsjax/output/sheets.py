"""Rows of CSV with a heading or of JSON a line, each checked; all mistakes in one message."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

MOST_ERRORS = 20  # rows named in one message
# What columns of input and output tokens are called; the last are those of Azure's traces, of
# BurstGPT and of Splitwise (https://github.com/Azure/AzurePublicDataset,
# https://github.com/HPMLL/BurstGPT, https://github.com/Mutinifni/splitwise-sim).
LENGTHS: dict[str, tuple[str, ...]] = {
    "isl": (
        *("isl", "input_tokens", "prompt_tokens", "input_length", "num_prefill_tokens"),
        *("contexttokens", "request tokens", "prompt_size"),
    ),
    "osl": (
        *("osl", "output_tokens", "completion_tokens", "output_length", "num_decode_tokens"),
        *("generatedtokens", "response tokens", "token_size"),
    ),
}
Item = TypeVar("Item")


def _places(header: Sequence[str], headings: Mapping[str, Sequence[str]], name: str) -> list[int]:
    """Where the first accepted heading of each column stands; -1 where none does."""
    lowered = [heading.strip().lower() for heading in header]
    wanted = {heading for accepted in headings.values() for heading in accepted}
    twice = [x for x, count in Counter(lowered).items() if count > 1 and x in wanted]
    if twice:
        raise ValueError(f"{name}: the first row names {', '.join(twice)} twice; keep one of them")
    return [
        next((lowered.index(heading) for heading in accepted if heading in lowered), -1)
        for accepted in headings.values()
    ]


def _as_lines(text: str, name: str) -> str:
    """A list in JSON as an object a line."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: not JSON: {error}") from error
    return "\n".join(json.dumps(one) for one in found)


def _grid(text: str, name: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The heading, and the number and cells of each row; of JSON by the first object's keys."""
    start = text.lstrip("\ufeff \n\r\t")
    if start.startswith("["):
        text = _as_lines(start, name)
    if start.startswith(("{", "[")):
        objects = []
        for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
            try:
                one = json.loads(line) if line.strip() else None
            except ValueError as error:
                raise ValueError(f"{name}: row {number}: not JSON: {error}") from error
            objects += [(number, one)] if isinstance(one, dict) else []
        keys = list(objects[0][1]) if objects else []
        return keys, [(number, [str(one.get(k, "")) for k in keys]) for number, one in objects]
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(reader, [])
        return header, [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{name}: row {reader.line_num}: {error}; mend the quotes") from error


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
    found = zip(headings, _places(header, headings, name), strict=True)
    columns = {column: at for column, at in found if at >= 0}
    rows = [
        (number, {c: cells[at].strip() if at < len(cells) else "" for c, at in columns.items()})
        for number, cells in lines
        if any(cell.strip() for cell in cells)
    ]
    return header, columns, rows


def gathered(rows: Iterable[tuple[int, Callable[[], Item]]], name: str) -> list[Item]:
    """What every row is read as.

    Raises:
        ValueError: with the number of every bad row (the heading is row 1), or there is none.
    """
    found, problems = [], []
    for number, read in rows:
        try:
            found.append(read())
        except ValueError as error:
            problems.append(f"  row {number}: {error}")
    if problems:
        more = len(problems) - MOST_ERRORS
        rest = [f"  and {more} more rows"] if more > 0 else []
        raise ValueError("\n".join([f"{name}:", *problems[:MOST_ERRORS], *rest]))
    if not found:
        raise ValueError(f"{name}: there is no row below the heading; give at least one request")
    return found
