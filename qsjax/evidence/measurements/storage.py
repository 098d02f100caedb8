"""Records from the package and from users' files."""

import csv
import functools
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

Record = dict[str, Any]

# What a record must have; other fields may be missing or null.
REQUIRED = ("id", "category", "metric", "value", "unit", "model", "gpu")
_REQUIRED_TEXTS = ("category", "metric", "unit", "model", "gpu")
_TEXTS = frozenset(
    "id category model weights_dtype kv_dtype gpu phase engine metric unit source confidence "
    "notes remark payload_dtype speculation not_scored".split()
)  # fmt: skip
_FLAGS = frozenset(("saturated", "outlier"))


def _value(name: str, text: str) -> Any:
    if text == "":
        return None
    if name in _FLAGS:
        return text == "1"
    return text if name in _TEXTS else json.loads(text)


@functools.cache
def load_records() -> tuple[Record, ...]:
    """The measurements that ship with the package, in their published order.

    Each has a source and a confidence; docs/guides/calibration.md describes the columns.
    """
    folder = resources.files("qsjax.evidence.measurements")
    sources = json.loads((folder / "sources.json").read_text("utf-8"))
    rows = _shipped("measured.csv.gz")
    records = [{name: _value(name, item) for name, item in row.items()} for row in rows]
    return tuple({**record, "source": sources[int(record["source"])]} for record in records)


@functools.cache
def load_left_out() -> tuple[dict[str, str], ...]:
    """Errors of the shipped measurements of serving, each without its own group.

    Made by `python -m benchmarks.left_out`; `left_out.LeftOut` describes the columns.
    """
    return tuple(_shipped("left_out.csv.gz"))


def _shipped(name: str) -> list[dict[str, str]]:
    with (resources.files("qsjax.evidence.measurements") / name).open("rb") as stream:
        text = gzip.decompress(stream.read()).decode("utf-8")
    return list(csv.DictReader(text.splitlines()))


def read_json(path: str | Path) -> tuple[Record, ...]:
    """Records of a user's file: a JSON list of objects, or an object with a list `records`.

    A record with missing fields or the like stays as one that is not predicted, and says why.

    Raises:
        ValueError: With every problem of the file: not JSON, no list, no usable record.
    """
    where = Path(path)
    try:
        data = json.loads(where.read_text("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{where}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{where}: not JSON: {reason}") from error
    records = data.get("records") if isinstance(data, Mapping) else data
    if not isinstance(records, list):
        raise ValueError(f'{where}: give a list of records, or an object with a list "records"')
    return _usable(where, [(record, _problems(i, record)) for i, record in enumerate(records)])


def _usable(where: Path, found: Sequence[tuple[Any, list[str]]]) -> tuple[Record, ...]:
    """The records, of which those with problems carry them as `unusable`.

    Raises:
        ValueError: none is left without; with all problems.
    """
    if found and all(problems for _, problems in found):
        lines = [line for _, problems in found for line in problems]
        raise ValueError("\n".join([f"{where}:", *(f"  {line}" for line in lines)]))
    records = []
    for number, (record, problems) in enumerate(found, 1):
        if problems:
            own = record if isinstance(record, Mapping) else {}
            texts = {name: own.get(name) for name in _REQUIRED_TEXTS}
            named = {name: x if isinstance(x, str) else "" for name, x in texts.items()}
            name = str(own.get("id", f"record {number}"))
            told = "; ".join(line.removeprefix(f"{name}: ") for line in problems)
            record = {**named, "id": name, "value": None, "unusable": told}
        records.append(record)
    return tuple(records)


def _problems(index: int, record: Any) -> list[str]:
    if not isinstance(record, Mapping):
        return [f"record {index + 1} is not an object"]
    name = record.get("id", f"record {index + 1}")
    found = [f"{name}: {key} is missing" for key in REQUIRED if record.get(key) is None]
    found += [
        f"{name}: {key} is {record[key]!r}, not a text; put it in quotes"
        for key in _REQUIRED_TEXTS
        if not isinstance(record.get(key) or "", str)
    ]
    value = record.get("value")
    if isinstance(value, int | float) and str(record.get("unit")) == "ms" and value <= 0:
        found.append(f"{name}: value {value} is not a time; give milliseconds above 0")
    return found


# Columns of a user's CSV: what must be there, what may be, and what a field may not be below.
CSV_REQUIRED = ("model", "hardware", "tp", "batch", "tpot_ms")
CSV_TEXTS = ("model", "hardware", "weights", "kv", "engine", "expert_kernels")
CSV_NUMBERS = ("tp", "pp", "dp", "ep", "kvp", "batch", "context", "isl", "osl", "tpot_ms")


def read_csv(path: str | Path) -> tuple[Record, ...]:
    """Records of a user's CSV, one measured deployment a row; also with semicolons or tabs.

    Rows are named by their line. `batch` counts the sequences of an attention replica. With `isl`
    and `osl` the measurement is taken as aggregated serving, in which prompts interleave; else as
    decoding alone, at `context` tokens. A row with what is no number, not above 0 or in no column
    stays as one that is not predicted, and says why.

    Raises:
        ValueError: With every problem of the file: missing, unknown or repeated columns, no usable
            row.
    """
    where = Path(path)
    try:
        text = where.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: cannot be read: not UTF-8, save it so ({error})") from error
    except OSError as error:
        raise ValueError(f"{where}: cannot be read: {error}") from error
    lines = text.splitlines()
    blank = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    reader = csv.DictReader(lines[blank:], delimiter=_delimiter("".join(lines[blank : blank + 1])))
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [(blank + reader.line_num, row) for row in reader]
    except csv.Error as error:  # a cell without end, most often an open quotation mark
        line = blank + reader.line_num
        raise ValueError(
            f"{where}: after line {line}: {error}; close its quotation mark"
        ) from error
    problems = _column_problems(columns)
    # Spreadsheets write empty rows as separators, and such columns at the end of rows.
    full = [row for row in rows if any(c.strip() for cells in row[1].values() for c in cells or ())]
    if not problems and not full:
        problems.append("no rows; give one measured deployment a row")
    if problems:
        raise ValueError("\n".join([f"{where}:", *(f"  {line}" for line in problems)]))
    return _usable(where, [_csv_row(number, row) for number, row in full])


def _delimiter(header: str) -> str:
    """What divides the cells of a line: the most frequent of those that spreadsheets write."""
    return max(",;\t", key=header.count)


def _column_problems(columns: Sequence[str]) -> list[str]:
    known = sorted({*CSV_REQUIRED, *CSV_TEXTS, *CSV_NUMBERS})
    problems = [f"column {name!r} is missing" for name in CSV_REQUIRED if name not in columns]
    if "context" not in columns and not {"isl", "osl"} <= set(columns):
        problems.append("column 'context' is missing, or both 'isl' and 'osl'")
    for name in dict.fromkeys(filter(None, columns)):
        if name not in known:
            problems.append(f"unknown column {name!r}; known: {', '.join(known)}")
        elif columns.count(name) > 1:
            problems.append(f"column {name!r} is given {columns.count(name)} times; keep one")
    return problems


def _csv_row(number: int, row: Mapping[str | None, Any]) -> tuple[Record, list[str]]:
    problems, values = [], dict[str, float]()
    # csv puts what exceeds the columns under None.
    beyond = row.get(None) or []
    if any(cell.strip() for cell in beyond):
        cells = len(row) - 1 + len(beyond)
        problems.append(
            f"row {number}: {cells} cells for {len(row) - 1} columns; numbers have a decimal point"
        )
    for name in CSV_NUMBERS:
        text = (row.get(name) or "").strip()
        if not text and name not in CSV_REQUIRED:
            continue
        try:
            values[name] = float(text)
        except ValueError:
            hint = " with a decimal point" if "," in text else ""
            problems.append(f"row {number}: {name} is {text!r}; give a number{hint}")
            continue
        if not 0 < values[name] < float("inf"):
            problems.append(f"row {number}: {name} is {text}; give a number above 0")
    texts = {name: (row.get(name) or "").strip() or None for name in CSV_TEXTS}
    problems += [
        f"row {number}: {name} is empty" for name in ("model", "hardware") if not texts[name]
    ]
    served = "isl" in values and "osl" in values
    if not served and not (row.get("context") or "").strip():
        problems.append(f"row {number}: context is empty; give it, or isl and osl")
    degrees = {name: values.get(name, 1.0) for name in ("tp", "pp", "dp", "ep", "kvp")}
    gpus = degrees["tp"] * degrees["pp"] * degrees["dp"] * degrees["kvp"]
    record: Record = {
        **degrees,
        "id": f"row {number}",
        "category": "user",
        "metric": "TPOT",
        "unit": "ms",
        "value": values.get("tpot_ms"),
        "model": texts["model"],
        "gpu": texts["hardware"],
        "weights_dtype": texts["weights"],
        "kv_dtype": texts["kv"],
        "engine": texts["engine"],
        "expert_kernels": texts["expert_kernels"],
        "n_gpus": gpus,
        "batch_total": values.get("batch", 1.0) * degrees["dp"],
        "avg_context": values.get("context"),
        "isl": values.get("isl"),
        "osl": values.get("osl"),
        "phase": "aggregated" if served else "decode-only",
    }
    return record, problems
