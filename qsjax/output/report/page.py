"""The page: data, style and script in one file."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qsjax.cost.meanings import meaning_of
from qsjax.output.files import asset, finite, write_atomically
from qsjax.output.report.charts import charts
from qsjax.output.report.reading import MOST_ROWS, Folder, flat, read
from qsjax.plotting import style
from qsjax.records.specs import CONVENTIONS

# What tells a page of qsjax, of any version, from other files.
_TITLE = b"<title>qsjax report</title>"


def _unit(column: str) -> str:
    """Unit of a column; "" where there is none to speak of."""
    head, _, term = column.partition(".")
    unit = "s" if head in ("terms", "hidden") and term else meaning_of(column).units
    return "" if unit == "1" else unit


def _table(folder: str, name: str, rows: Sequence[dict[str, Any]], convention: str) -> Any:
    shown = flat(rows)
    columns = list(dict.fromkeys(key for row in shown for key in row))
    # Terms and reasons are the fine print; they fold away behind one button.
    fine = [column for column in columns if "." in column]
    # What says the same in each of several rows.
    alike = (c for c in columns if all(row.get(c) == shown[0].get(c) for row in shown))
    same = [column for column in alike if len(shown) > 1 and column not in fine]
    return {
        "name": name,
        "folder": folder,
        "columns": columns,
        "units": [_unit(column) for column in columns],
        "fine": fine if len(fine) < len(columns) else [],
        "same": same if 2 * len(same) <= len(columns) - len(fine) else [],
        "rows": [[row.get(column) for column in columns] for row in shown],
        "variants": [style.variant_label(row) if "variant" in row else None for row in shown],
        "convention": convention,
        "left_out": max(0, len(rows) - MOST_ROWS),
    }


def _told(summary: dict[str, Any]) -> dict[str, Any]:
    """Single values of a result beside its answer; parts that are nothing are left out."""
    return {
        name: value
        for name, value in summary.items()
        if name != "answer" and value not in (None, []) and not ("." in name and value == 0)
    }


def payload(folders: Sequence[Folder]) -> dict[str, Any]:
    """Everything that the page shows, as JSON knows it."""
    several = len(folders) > 1
    content: dict[str, Any] = {
        "version": version("qsjax"),
        "folders": [],
        "charts": [],
        "tables": [],
    }
    for folder in folders:
        named = folder.summary.get("convention") or folder.inputs.get("flags", {}).get("convention")
        convention = str(named or next(iter(CONVENTIONS)))
        words = " ".join(map(str, folder.inputs.get("command", [])))
        content["folders"].append(
            {
                "name": folder.name,
                "command": str(folder.inputs.get("repeat") or (f"qsjax {words}" if words else "")),
                "answer": folder.summary.get("answer", ""),
                "summary": _told(folder.summary),
                "inputs": folder.inputs,
                "pictures": folder.pictures,
            }
        )
        content["charts"] += charts(folder.tables, convention, folder.name if several else "")
        content["tables"] += [
            _table(folder.name if several else "", name, rows, convention)
            for name, rows in folder.tables.items()
        ]
    return finite(content)


def html(folders: Sequence[Folder]) -> str:
    """One HTML page that needs no network: it holds its data, style and script."""
    # "<" could end the script element early; JSON allows it written as an escape.
    data = json.dumps(payload(folders), allow_nan=False).replace("<", "\\u003c")
    page = asset("report/assets/page.html")
    for name in ("palette.css", "report/assets/report.css", "report/assets/report.js"):
        page = page.replace(f"/*{name.split('/')[-1]}*/", asset(name))
    return page.replace("/*data*/", data)


def write(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of `folders` to `out`/report.html, in one step; its path.

    Raises:
        ValueError: a folder cannot be read, or the file there is not a page of qsjax; the message
            lists all problems.
    """
    read_folders, problems = [], []
    for folder in folders:
        try:
            read_folders.append(read(folder))
        except ValueError as error:
            problems.append(str(error))
    target = out / "report.html"
    if target.exists() and _TITLE not in target.read_bytes():
        problems.append(f"{target} was not written by qsjax; move it, or choose another --out")
    if problems:
        raise ValueError("\n".join(problems))
    write_atomically(target, html(read_folders))
    return target
