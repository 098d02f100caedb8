"""What a result folder holds: tables of rows, a summary, the inputs, and pictures."""

import base64
import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsjax.records.rows import leaves

# More rows would make the page slow to open; what is left out is said on the page.
MOST_ROWS = 5000
# Files that say what was asked; all others say what was found.
INPUTS = ("inputs.json", "sweep.json")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The content of one result folder.

    Attributes:
        name: the folder's own name.
        summary: the single values of the JSON files.
        tables: rows by name: every list of objects in the JSON files, and CSV files with others.
        inputs: what the run was asked, `inputs.json` or `sweep.json`.
        pictures: `data:` addresses of the SVG files by name.
    """

    name: str
    summary: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]]
    inputs: dict[str, Any]
    pictures: dict[str, str]


def read(path: Path) -> Folder:
    """A result folder, as a verb of the command line writes it with `--out`.

    Raises:
        ValueError: it is no folder, holds nothing to show, or a file in it is broken; the message
            lists all problems.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; give one that a verb wrote with --out")
    problems: list[str] = []
    result: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    for file in sorted(path.glob("*.json")):
        (inputs if file.name in INPUTS else result).update(_json(file, problems))
    listed = _lists(result)
    tables = dict(listed)
    for file in sorted(path.glob("*.csv")):
        if not any(name.split(".")[-1] == file.stem for name in listed):
            rows = _csv(file, problems)
            if not _repeats(rows, listed):
                tables[file.stem] = rows
    if problems:
        raise ValueError(f"{path}:\n" + "\n".join(f"  {problem}" for problem in problems))
    pictures = {
        file.stem: f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"
        for file in sorted(path.glob("*.svg"))
    }
    if not (tables or result or pictures):
        raise ValueError(
            f"{path} holds no JSON, CSV or SVG; write results into it first, for example "
            f"with `qsjax explore mixtral-8x7b --gpus 8 --out {path}`"
        )
    return Folder(
        name=path.resolve().name,
        summary=_singles(result),
        tables={name: rows for name, rows in tables.items() if rows},
        inputs=inputs,
        pictures=pictures,
    )


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        problems.append(f"{path.name}: {error}; write the results again")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name}: an object is expected, {type(content).__name__} was found")
        return {}
    return content


def _csv(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except (ValueError, csv.Error, OSError) as error:
        problems.append(f"{path.name}: {error}; write the results again")
        return []
    heads = reader.fieldnames or []
    twice = sorted({head for head in heads if heads.count(head) > 1})
    if twice:
        problems.append(f"{path.name}: column {', '.join(twice)} stands twice; keep one")
        return []
    ragged = [k for k, row in enumerate(rows, 2) if None in row or None in row.values()]
    if ragged:
        lines = ", ".join(map(str, ragged[:5]))
        problems.append(f"{path.name}: line {lines} has another number of columns than the header")
        return []
    return [{name: _value(text) for name, text in row.items()} for row in rows]


def _repeats(rows: list[dict[str, Any]], listed: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether a CSV file has the rows of a list in the JSON files, or of several together."""
    columns = set(rows[0]) if rows else set()
    same = [len(own) for own in listed.values() if {n for r in own for n in _singles(r)} <= columns]
    return bool(same) and len(rows) in {*same, sum(same)}


def _value(text: str) -> Any:
    words = {"": None, "True": True, "False": False}
    if text in words:
        return words[text]
    try:
        number = float(text)
    except ValueError:
        return text
    return int(text) if text.lstrip("+-").isdigit() else number


def _lists(content: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: value
        for name, value in leaves(content)
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    }


def _singles(content: dict[str, Any]) -> dict[str, Any]:
    """Values that are no table, nested ones with dotted names."""
    return {
        name: value
        for name, value in leaves(content)
        if not (isinstance(value, list) and value and isinstance(value[0], dict))
    }


def flat(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with nested objects as dotted columns, at most MOST_ROWS of them."""
    return [_singles(row) for row in rows[:MOST_ROWS]]
