"""What a user says of a result file that does not say it: `hardware=h100 tp=8`."""

import csv
import io
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from qsjax.evidence.measurements import columns, reports, results, tables
from qsjax.output import sheets

KNOWN = (*reports.OWN, *reports.LENGTHS)


def checked(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as texts.

    Raises:
        ValueError: a name is not known; with all of these.
    """
    if unknown := [name for name in facts if name not in KNOWN]:
        raise ValueError(
            f"{', '.join(unknown)}: not what may be said of a result file; known: "
            f"{', '.join(KNOWN)}, as hardware=h100"
        )
    return {name: str(value) for name, value in facts.items()}


def _is_same(name: str, one: str, other: str) -> bool:
    try:
        both = [columns.number(x, name, has_commas=False) for x in (one, other)]
    except ValueError:
        return one == other
    return both[0] == both[1]


def _lacking(facts: Mapping[str, str], said: Mapping[str, Any]) -> dict[str, str]:
    """Facts but the numbers that a file says itself, by any name of theirs; those are told."""
    own = {columns.known_of(name)[0]: x for name, x in said.items() if re.match(r"[\d.]+$", str(x))}
    numbers = {name for name in facts if name in columns.COUNTS and name in own}
    for name in sorted(numbers):
        if not _is_same(name, str(own[name]), facts[name]):
            warnings.warn(
                f"the file says {name} itself, {own[name]}: {name}={facts[name]} is not taken",
                stacklevel=2,
            )
    return {name: x for name, x in facts.items() if name not in numbers}


def _in_json(text: str, facts: Mapping[str, str]) -> str:
    data = reports.json_of(text)
    if isinstance(data, dict) and isinstance(data.get("records"), list):
        data = data["records"]

    def told(one: Any) -> Any:
        return {**_lacking(facts, results.leaves(one)), **one} if isinstance(one, dict) else one

    return json.dumps([told(x) for x in data] if isinstance(data, list | tuple) else told(data))


def _written(rows: Iterable[Iterable[str]], mark: str = ",") -> str:
    whole = io.StringIO()
    csv.writer(whole, delimiter=mark, lineterminator="\n").writerows(rows)
    return whole.getvalue()


def _in_csv(lines: list[str], facts: Mapping[str, str]) -> str:
    mark = sheets.delimiter_of(lines[0])
    rows = [row for row in csv.reader(lines, delimiter=mark) if any(map(str.strip, row))]
    added = (facts, *[facts.values()] * len(rows))
    full = [row + [""] * (len(rows[0]) - len(row)) for row in rows]
    return _written(([*row, *more] for row, more in zip(full, added, strict=False)), mark)


def with_facts(text: str, facts: Mapping[str, str]) -> str:
    r"""The text of a result file with facts that it lacks, where its kind has them.

    >>> with_facts("batch,tpot_ms\n8,9", {"tp": "2", "engine": "vLLM, mine"})
    'batch,tpot_ms,tp,engine\n8,9,2,"vLLM, mine"\n'
    """
    lines = text.splitlines(keepends=True)
    at = next((i for i, line in enumerate(lines) if not sheets.REMARK.fullmatch(line.strip())), 0)
    lines = lines[at:]
    first = lines[0] if lines else ""
    if not facts:
        return text
    if reports.is_json(text):
        return _in_json(text, facts)
    if first.lower().startswith("metric,"):
        return "".join([first, _written(facts.items()), *lines[1:]])
    heads = first.split(sheets.delimiter_of(first))
    named = columns.meant(heads)
    if tables.is_drawn(text) or len(heads) < 2 or reports.is_printed(text):
        lacking = _lacking(facts, reports.said_in(text)) if reports.is_printed(text) else facts
        return "\n".join([*(f"{name}: {value}" for name, value in lacking.items()), text])
    return _in_csv(lines, {name: x for name, x in facts.items() if name not in named})
