"""What a user says of a result file that does not say it: `hardware=h100 tp=8`."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from qsjax.evidence.measurements import columns, reports, tables
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


def _in_json(text: str, facts: Mapping[str, str]) -> str:
    data = reports.json_of(text)
    if isinstance(data, dict) and isinstance(data.get("records"), list):
        data = data["records"]
    if isinstance(data, list | tuple):
        data = [{**facts, **one} if isinstance(one, dict) else one for one in data]
    elif isinstance(data, dict):
        data = {**facts, **data}
    return json.dumps(data)


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
    if first.lstrip()[:1] in ("{", "["):
        return _in_json(text, facts)
    if first.lower().startswith("metric,"):
        return "".join([first, _written(facts.items()), *lines[1:]])
    heads = first.split(sheets.delimiter_of(first))
    named = {columns.COLUMNS.get(one.strip().lower()) for one in heads}
    if tables.is_drawn(text) or len(heads) < 2 or reports.is_printed(text):
        return "\n".join([*(f"{name}: {value}" for name, value in facts.items()), text])
    return _in_csv(lines, {name: x for name, x in facts.items() if name not in named})
