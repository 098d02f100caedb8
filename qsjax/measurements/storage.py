"""Records from the package and from users' files."""

import csv
import functools
import gzip
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

Record = dict[str, Any]

# What a record must have; other fields may be missing or null.
REQUIRED = ("id", "category", "metric", "value", "unit", "model", "gpu")
_TEXTS = frozenset(
    "id category model weights_dtype kv_dtype gpu phase engine metric unit source confidence notes"
    .split()
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
    folder = resources.files("qsjax") / "data"
    sources = json.loads((folder / "sources.json").read_text("utf-8"))
    with (folder / "measured.csv.gz").open("rb") as stream:
        text = gzip.decompress(stream.read()).decode("utf-8")
    rows = csv.DictReader(text.splitlines())
    records = [{name: _value(name, item) for name, item in row.items()} for row in rows]
    return tuple({**record, "source": sources[int(record["source"])]} for record in records)


def read_json(path: str | Path) -> tuple[Record, ...]:
    """Records of a user's file: a JSON list of objects, or an object with a list `records`.

    Raises:
        ValueError: With every problem of the file: not JSON, no list, fields that are missing.
    """
    where = Path(path)
    try:
        data = json.loads(where.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from error
    records = data.get("records") if isinstance(data, Mapping) else data
    if not isinstance(records, list):
        raise ValueError(f'{where}: give a list of records, or an object with a list "records"')
    problems = [line for i, record in enumerate(records) for line in _problems(i, record)]
    if problems:
        raise ValueError("\n".join([f"{where}:", *(f"  {line}" for line in problems)]))
    return tuple(records)


def _problems(index: int, record: Any) -> list[str]:
    if not isinstance(record, Mapping):
        return [f"record {index + 1} is not an object"]
    name = record.get("id", f"record {index + 1}")
    found = [f"{name}: {key} is missing" for key in REQUIRED if record.get(key) is None]
    value = record.get("value")
    if isinstance(value, int | float) and str(record.get("unit")) == "ms" and value <= 0:
        found.append(f"{name}: value {value:g} is not a time; give milliseconds above 0")
    return found
