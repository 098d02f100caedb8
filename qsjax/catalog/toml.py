"""TOML files with the line of each key, so that one message can name every problem of a file."""

import dataclasses
import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from qsjax.records.checks import value_problem
from qsjax.records.conversion import shown
from qsjax.records.fields import Rule

Entry = TypeVar("Entry")
_HEADER = re.compile(r"^\[(\[?)\s*([A-Za-z0-9_.-]+)\s*\]?\]")
_KEY = re.compile(r"^([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\s*=")
_LONG_STRING = re.compile(r'"""|\'\'\'')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed file. `problems` grows while the file is read; `lines` maps dotted keys to lines.

    `is_readable` is False where the text is no TOML at all: then nothing else can be said of it.
    """

    label: str
    table: dict[str, Any]
    lines: dict[str, int]
    problems: list[tuple[int, str]]
    is_readable: bool = True


def _scan(text: str) -> tuple[dict[str, int], list[tuple[int, str, int]]]:
    """Line of each key and table, and (line, name, line of the first) of each repeated one."""
    lines: dict[str, int] = {}
    repeated: list[tuple[int, str, int]] = []
    arrays: set[str] = set()
    table, inside = "", False
    for number, raw in enumerate(text.splitlines(), start=1):
        line, was_inside = raw.strip(), inside
        inside ^= len(_LONG_STRING.findall(line)) % 2 == 1
        if was_inside:
            continue
        if header := _HEADER.match(line):
            name = header[2]
            # Each [[table]] is a new one, told apart by its line, and so is each [table.below] it.
            arrays |= {name} if header[1] else set()
            if name in lines and name.partition(".")[0] not in arrays:
                repeated.append((number, f"[{name}]", lines[name]))
            table = f"{name}:{number}." if header[1] else f"{name}."
            lines.setdefault(name, number)
        elif match := _KEY.match(line):
            key = table + match[1]
            if key in lines:
                repeated.append((number, match[1], lines[key]))
            else:
                lines[key] = number
    return lines, repeated


def parse(text: str, label: str) -> Document:
    """The document of a text; a key or table given twice is a problem, its first value is kept."""
    lines, repeated = _scan(text)
    problems = [
        (number, f"{key}: given twice, first on line {first}; keep one")
        for number, key, first in repeated
    ]
    rows = text.splitlines()
    for number, _, _ in repeated:
        rows[number - 1] = ""
    try:
        table = tomllib.loads("\n".join(rows), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        at = re.search(r"at line (\d+)", reason)
        number = int(at[1]) if at else 0
        shown = f": {rows[number - 1].strip()}" if at else ""
        problems.append((number, f"not TOML: {reason}{shown}"))
        return Document(label=label, table={}, lines=lines, problems=problems, is_readable=False)
    return Document(label=label, table=table, lines=lines, problems=problems)


def complain(document: Document, key: str, problem: str) -> None:
    """Note a problem of a dotted key; without such a key, of the whole file."""
    shown = key.rpartition(".")[2]
    document.problems.append(
        (document.lines.get(key, 0), f"{shown}: {problem}" if key else problem)
    )


def read(path: Path) -> Document:
    """The document of a file, with or without a byte order mark.

    Raises:
        ValueError: If the file cannot be read.
    """
    try:
        return parse(path.read_text("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: cannot be read: {why}") from error


def raise_problems(document: Document) -> None:
    """Raise one `ValueError` that lists all problems in the order of the lines."""
    if document.problems:
        listed = (
            f"  line {number}: {text}" if number else f"  {text}"
            for number, text in sorted(document.problems)
        )
        raise ValueError("\n".join([f"{document.label}:", *listed]))


def base_of(document: Document, name: str, parent: Callable[[str], Entry]) -> Entry | None:
    """The entry that a file extends, by its name if any; one that is not found is a problem."""
    try:
        return parent(name) if name else None
    except ValueError as error:
        complain(document, "extends", str(error))
        return None


def text_of(document: Document, key: str, default: str = "") -> str:
    """The string at a key of the top level; another type is a problem."""
    value = document.table.get(key, default)
    if not isinstance(value, str):
        complain(document, key, f"{value} is not a text; put it in quotes")
        return default
    return value


def texts_of(document: Document, key: str) -> tuple[str, ...]:
    """The list of strings at a key of the top level; another type is a problem."""
    value = document.table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        complain(document, key, 'give a list of texts, such as ["one", "two"]')
        return ()
    return tuple(value)


def exact(value: Any) -> Any:
    """A value of Python as a parsed file holds it: real numbers to the digits that they print."""
    if isinstance(value, Real) and not isinstance(value, bool | int):
        return Decimal(repr(float(value)))
    return value


def number_of(document: Document, key: str, value: Any, rule: Rule | None = None) -> Decimal | None:
    """An exact number from a parsed value; another type is a problem, and one against the rule."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        hint = "; write a plain number, units belong in the key" if isinstance(value, str) else ""
        complain(document, key, f"{shown(value)} is not a number{hint}")
        return None
    number = Decimal(value)
    if rule and (problem := value_problem(rule, float(number))):
        complain(document, key, problem)
        return None
    return number
