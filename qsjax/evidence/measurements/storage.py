"""Records from the package and from users' files."""

import contextlib
import csv
import functools
import gzip
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from qsjax.engines.settings import mapping
from qsjax.evidence.measurements import columns, dialects, facts, reports, results, tables
from qsjax.evidence.measurements.names import gpus_in
from qsjax.output import files, sheets
from qsjax.records.conversion import kind_of

Record = dict[str, Any]

# What a record must have; other fields may be missing or null.
REQUIRED = ("id", "category", "metric", "value", "unit", "model", "gpu")
_REQUIRED_TEXTS = ("category", "metric", "unit", "model", "gpu")
_TEXTS = frozenset(
    "id category model weights_dtype kv_dtype gpu phase engine metric unit source confidence "
    "notes remark payload_dtype speculation not_scored statistic".split()
)  # fmt: skip
_FLAGS = frozenset(("saturated", "outlier"))
_MISSING = {
    "gpu": '; add "hardware" to it, and "tp" and other degrees (`vllm bench serve --metadata '
    "hardware=h100-sxm tp=8` writes them into its result), or say them behind the file: `qsjax "
    "validate FILE hardware=h100-sxm tp=8`"
}
_MEANS = ("avg", "average", "mean")  # how headings of means begin
# What says how a run was split, and on how many GPUs.
_SPLIT = {"tp", "dp", "pp", "ep", "kvp", "moe_tp"}
_DEGREES = {*_SPLIT, "n_gpus"}
# Columns of which benchmarks write several.
_SEVERAL = ("tpot", "concurrency", "isl", "osl", "engine")
NOTHING: Mapping[str, str] = {}
# Times between what a server sends, which may be several tokens.
_STEPS = re.compile(r"itl|inter_token|tbt|between")


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

    Made by `python -m benchmarks.left_out`; `benchmarks.refits.LeftOut` describes the columns.
    """
    return tuple(_shipped("left_out.csv.gz"))


def _shipped(name: str) -> list[dict[str, str]]:
    with (resources.files("qsjax.evidence.measurements") / name).open("rb") as stream:
        text = gzip.decompress(stream.read()).decode("utf-8")
    return list(csv.DictReader(text.splitlines()))


def read_json(path: str | Path, text: str | None = None) -> tuple[Record, ...]:
    """Records of a user's file: a JSON list of objects, or an object with a list `records`.

    Or the results of a benchmark as it writes them: one run, or a line for each (`results`).
    A record with missing fields or the like stays as one that is not predicted, and says why.

    Raises:
        ValueError: With every problem of the file: not JSON, no list, no usable record.
    """
    where = Path(path)
    text = files.content_of(where) if text is None else text
    try:
        runs = results.runs_in(text)
        data = json.loads(text) if runs is None else runs
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        reason = reason if text.strip() else "the file is empty"
        is_json = not isinstance(error, RecursionError | json.JSONDecodeError)
        raise ValueError(f"{where}: {'' if is_json else 'not JSON: '}{reason}") from error
    records = data.get("records") if isinstance(data, Mapping) else data
    if not isinstance(records, list):
        raise ValueError(f'{where}: give a list of records, or an object with a list "records"')
    return _of_runs(where, records)


def _of_runs(where: Path, runs: Sequence[Any]) -> tuple[Record, ...]:
    """The records of runs of benchmarks, and of what has their names already."""
    named = [
        columns.as_record(results.as_given(one), i) if isinstance(one, Mapping) else one
        for i, one in enumerate(runs)
    ]
    found = [(record, _problems(i, record)) for i, record in enumerate(named)]
    usable = [record for record, problems in found if not problems]
    bare = [x for x in usable if not _DEGREES & x.keys() and gpus_in(str(x["gpu"])) < 2]
    if bare:
        warnings.warn(
            f"{where.name}: {len(bare)} of {len(found)} runs do not say on how many GPUs, and were "
            "taken for those of one; if there were more, say so behind the file: tp=8",
            stacklevel=4,
        )
    counted = [x for x in usable if x["category"] == "user" and x.get("n_gpus") is not None]
    counted = [x for x in counted if x["n_gpus"] != 1 and not _SPLIT & x.keys()]
    for record in counted:  # as what "8x H100" counts
        record["tp"] = record["n_gpus"]
    if counted:
        warnings.warn(
            f"{where.name}: {len(counted)} of {len(found)} runs say how many GPUs, but not their "
            "split, and were taken as tensor parallel over all; if not, say so behind the file: "
            "tp=4 dp=2",
            stacklevel=4,
        )
    return _usable(where, found)


def _usable(where: Path, found: Sequence[tuple[Any, list[str]]]) -> tuple[Record, ...]:
    """The records, of which those with problems carry them as `unusable`.

    Raises:
        ValueError: none is left without; with all problems.
    """
    if found and all(problems for _, problems in found):
        lines = [f"  {line}" for _, problems in found for line in problems]
        raise ValueError("\n".join([f"{where}:", *sheets.listed(lines, "problems")]))
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
    if record.get("unusable"):
        return [f"{name}: {record['unusable']}"]
    if not any(record.get(key) is not None for key in ("metric", "value", "unit")):
        record = {**record, "metric": "TPOT", "unit": "ms", "value": 1.0}
        more = _problems(index, {"id": name, "category": "user", **record})
        bare = [x for x in map(str, record) if columns.is_time(x) and not columns.known_of(x)[2]]
        told = f"{bare[0]} has no unit; call it {bare[0]}_ms or {bare[0]}_s" if bare else ""
        rate = columns.rate_in(map(str, record))
        lacks = f"a time per token is missing; {rate or 'give tpot_ms'}"
        return [f"{name}: {told or lacks}", *more]
    found = [
        f"{name}: {key} is missing{_MISSING.get(key, '')}"
        for key in REQUIRED
        if record.get(key) is None
    ]
    found += [
        f"{name}: {key} is {record[key]!r}, not a text; put it in quotes"
        for key in _REQUIRED_TEXTS
        if not isinstance(record.get(key) or "", str)
    ]
    value = record.get("value")
    if isinstance(value, int | float) and str(record.get("unit")) == "ms" and not value > 0:
        found.append(f"{name}: value {value} is not a time; give milliseconds above 0")
    return found


# Columns of a user's CSV: what must be there, what may be, and what a field may not be below.
CSV_REQUIRED = ("model", "hardware", "tp", "tpot")
CSV_TEXTS = ("model", "hardware", "weights", "kv", "engine", "expert_kernels")
CSV_NUMBERS = (*columns.COUNTS, "tpot")
# What says how many requests are served at once where they are sent at a rate.
_OF_RATE = ("request_rate", "request_throughput", "mean_ttft", "mean_e2el")
_RATES = {"request_rate", "request_throughput", "rps", "qps", "req_s", "req_per_s", "requests_s"}
_BESIDE = (*_OF_RATE, *dialects.LLMPERF)
_WHOLE = ("tp", "pp", "dp", "ep", "kvp", "gpus")


class _Column(NamedTuple):
    """A column: what it means, what its heading calls that, its unit, and the heading."""

    name: str
    own: str
    unit: str
    heading: str


def read_csv(path: str | Path, text: str | None = None) -> tuple[Record, ...]:
    """Records of a user's CSV, one measured deployment a row; also with semicolons or tabs.

    Or the tables of a document (`tables`).

    Rows are named by their line. `batch` counts the sequences of an attention replica, and
    `concurrency` those of all. With `isl` and `osl` the measurement is taken as aggregated serving,
    in which prompts interleave; else as decoding alone, at `context` tokens. A row with what is no
    number, not above 0 or in no column stays as one that is not predicted, and says why.
    `columns` has other names of columns, and what numbers look like.

    Raises:
        ValueError: With every problem of the file: missing, unknown or repeated columns, no usable
            row.
    """
    where = Path(path)
    text = files.content_of(where) if text is None else text
    rows = tables.tidied(_rows(where, text))
    found, unknown, problems = _columns(rows.pop(0)[1] if rows else [])
    is_drawn = tables.is_drawn(text)
    if unknown and is_drawn:  # documents have columns of remarks
        line = f"{where.name}: {_named('not read', unknown)}"
        warnings.warn(line, stacklevel=3)
    elif unknown:
        known = ", ".join(sorted({*CSV_REQUIRED, *CSV_TEXTS, *CSV_NUMBERS}))
        told = _named("unknown", unknown)
        problems.append(f"{told}; known: {known.replace('tpot', 'tpot_ms')}")
    if not text.strip():
        problems.insert(0, "the file is empty")
    elif problems and is_drawn:
        problems.append("what the table lacks may be a line above it, such as `hardware: h100`")
    elif problems and not unknown:
        problems.append("what the table lacks may be said behind the file, such as hardware=h100")
    # Spreadsheets write empty rows as separators, and such columns at the end of rows.
    full = [row for row in rows if any(cell.strip() for cell in row[1])]
    if not problems and not full:
        problems.append("no rows; give one measured deployment a row")
    if problems:
        raise ValueError("\n".join([f"{where}:", *(f"  {line}" for line in problems)]))
    has_commas = columns.has_decimal_commas(cell for _, row in full for cell in row)
    return _usable(where, [_csv_row(number, found, row, has_commas) for number, row in full])


def _rows(where: Path, text: str) -> list[tables.Row]:
    """The heading and the rows of a table, with their lines: as CSV, or as a document draws it.

    Raises:
        ValueError: a cell has no end, or a document has tables of several kinds.
    """
    try:
        drawn = tables.rows_in(text, reports.beside_tables)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if drawn:
        return drawn
    lines = text.splitlines()
    remarks = (i for i, line in enumerate(lines) if not sheets.REMARK.fullmatch(line.strip()))
    blank = next(remarks, len(lines))
    delimiter = sheets.delimiter_of("".join(lines[blank : blank + 1]))
    reader = csv.reader(lines[blank:], delimiter=delimiter)
    rows: list[tables.Row] = []
    try:
        for row in reader:
            rows.append((blank + reader.line_num, row))
    except csv.Error as error:  # a cell without end, most often an open quotation mark
        line = rows[-1][0] if rows else blank
        raise ValueError(
            f"{where}: after line {line}: {error}; close its quotation mark"
        ) from error
    return tables.labelled(rows) if rows else rows


def _text_of(where: Path) -> str:
    """The text of a file, as tables and JSON have it: columns apart by tabs, YAML as JSON."""
    text = sheets.tabbed(files.content_of(where))
    tree = mapping(text) if where.suffix.lower() in (".yaml", ".yml") else {}
    if not tree:
        return text
    try:
        reports.refuse(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return json.dumps(tree, default=str)


def read_records(path: str | Path, told: Mapping[str, str] = NOTHING) -> tuple[Record, ...]:
    """Records of a user's file, JSON or CSV by how it begins; errors as of the reader of either.

    Or reports of benchmarks, as `reports` has them, or a folder of such files. `told` is what they
    do not say (`facts`).
    """
    where = Path(path)
    if where.is_dir():
        return _in_folder(where, told)
    text = reports.unfronted(_text_of(where))
    with contextlib.suppress(ValueError, RecursionError):  # the reader of JSON says where
        text = facts.with_facts(text, told)
    is_json = reports.is_json(text) or str(path).lower().endswith((".json", ".jsonl"))
    try:
        reports.refuse(text)
        runs = None if is_json else dialects.rows_in(text) or reports.runs_in_text(text)
    except csv.Error:
        runs = None  # the reader of tables says where
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if runs is not None:
        return _of_runs(where, runs)
    return read_json(path, text) if is_json else read_csv(path, text)


# Endings of files that may hold records.
_FILES = (".json", ".jsonl", ".csv", ".tsv", ".md", ".txt", ".log", ".gz")


def records_given(
    measured: Any, told: Mapping[str, str] = NOTHING
) -> tuple[tuple[Record, ...], dict[str, str]]:
    """Records of what a user measured, and what tells it in `inputs.json`.

    Args:
        measured: a file, a folder, or a data frame with the columns of a CSV.
        told: what they do not say, by the names that `facts.KNOWN` has.

    Raises:
        ValueError: as `read_records`; it is none of these.
    """
    if hasattr(measured, "to_csv"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data frame.csv"
            measured.to_csv(path, index=False)
            try:
                return read_records(path, told), files.told(path)
            except ValueError as error:  # nobody knows the folder
                raise ValueError(str(error).replace(str(path), path.stem)) from None
    if not isinstance(measured, str | os.PathLike):
        raise ValueError(
            f"measurements: {kind_of(measured)} was given; give a file, a folder or a data frame"
        )
    path = Path(measured)
    return read_records(path, told), files.told(path, _files_of(path))


def _files_of(path: Path) -> tuple[Path, ...]:
    """The file itself, or the files of a folder that may hold records, by their names."""
    if not path.is_dir():
        return (path,)
    found = (one for one in path.rglob("*") if one.suffix.lower() in _FILES)
    return tuple(sorted(one for one in found if one.is_file()))


def _in_folder(where: Path, told: Mapping[str, str]) -> tuple[Record, ...]:
    """Records of the files of a folder and of those below it, in the order of their names.

    A file that cannot be read is a record that is not predicted, and says why.

    Raises:
        ValueError: there is none, or none can be read; with why of each.
    """
    paths = _files_of(where)
    found: list[Record] = []
    problems: list[str] = []
    for path in paths:
        name = path.relative_to(where).as_posix()
        try:
            records = read_records(path, told)
        except ValueError as error:
            why = " ".join(str(error).removeprefix(f"{path}:").split())
            problems.append(f"  {name}: {why}")
            texts = dict.fromkeys(_REQUIRED_TEXTS, "")
            records = ({**texts, "id": "file", "value": None, "unusable": why},)
        found += [{**record, "id": f"{name}: {record['id']}"} for record in records]
    if len(problems) == len(paths):
        problems = problems or [f"  no file of records in it; they end in {', '.join(_FILES)}"]
        raise ValueError("\n".join([f"{where}:", *sheets.listed(problems, "files")]))
    return tuple(found)


def _named(what: str, headings: Sequence[str]) -> str:
    return f"{what} column{'s' if len(headings) > 1 else ''} {', '.join(map(repr, headings))}"


def _columns(headings: Sequence[str]) -> tuple[list[_Column], list[str], list[str]]:
    """The columns of a file, headings that mean none, and what is wrong with the others."""
    found: list[_Column] = []
    problems, unknown = list[str](), list[str]()
    for heading in headings:
        try:
            found.append(_Column(*columns.column_of(heading), heading.strip().lower()))
        except KeyError:
            found.append(_Column("", "", "", ""))
            if heading.strip():
                unknown.append(heading.strip().lower())
    for name in _SEVERAL:
        same = sorted(
            (one for one in found if one.name == name),
            key=lambda one: columns.rank_of(one.name, one.own),
        )
        others = {one.heading for one in same[1:] if one.own != same[0].own}
        found = [_Column("", "", "", "") if one.heading in others else one for one in found]
    given = [one.name for one in found if one.name]
    shown = {"tpot": "tpot_ms"}
    missing = [name for name in CSV_REQUIRED if name not in given]
    problems = [f"column {shown.get(name, name)!r} is missing" for name in missing] + problems
    if "tpot" in missing and (rate := columns.rate_in(headings)):
        problems[missing.index("tpot")] += f"; {rate}"
    if not {"batch", "concurrency"} & set(given) and not (_rates(found) and "osl" in given):
        problems.append("column 'batch' is missing, or 'concurrency'")
    if "context" not in given and not {"isl", "osl"} <= set(given):
        problems.append("column 'context' is missing, or both 'isl' and 'osl'")
    for name in dict.fromkeys(given):
        headings = [one.heading for one in found if one.name == name]
        if len(headings) > 1:
            all_same = len(set(headings)) == 1
            what = (
                f"column {headings[0]!r} is given"
                if all_same
                else f"columns {', '.join(headings)} give it"
            )
            problems.append(f"{what} {len(headings)} times; keep one")
    for one in found:
        if one.name == "tpot" and not one.unit:
            problems.append(
                f"column {one.heading!r} has no unit; call it {one.own}_ms or {one.own}_s"
            )
    return found, list(dict.fromkeys(unknown)), problems


def _rates(found: Sequence[_Column]) -> set[str]:
    """Names of the rates of requests of a file that has no column of how many are served at once.

    How many that are follows from the rate and from the time of a request.
    """
    is_served = any(one.name in ("batch", "concurrency") for one in found)
    return set() if is_served else _RATES & {one.own for one in found}


def _csv_row(
    number: int, found: Sequence[_Column], row: Sequence[str], has_commas: bool
) -> tuple[Record, list[str]]:
    cells = {one.name: cell.strip() for one, cell in zip(found, row, strict=False) if one.name}
    problems, values = [], dict[str, float]()
    if any(cell.strip() for cell in row[len(found) :]):
        problems.append(
            f"row {number}: {len(row)} cells for {len(found)} columns; numbers have a decimal point"
        )
    shown = {one.name: one.heading for one in found}
    rates = _rates(found)
    needed = {*CSV_REQUIRED, *({"batch"} if "concurrency" not in cells and not rates else ())}
    for name in CSV_NUMBERS:
        text = cells.get(name, "")
        if not text and name not in needed:
            continue
        try:
            is_mean = shown.get(name, "").startswith(_MEANS)
            values[name] = columns.number(text, name, has_commas=has_commas, is_mean=is_mean)
        except ValueError as error:
            problems.append(f"row {number}: {shown.get(name, name)} is {error}")
            continue
        whole = name in _WHOLE and values[name] % 1.0 != 0.0
        if not 0 < values[name] < float("inf") or whole:
            kind = "whole number" if whole else "number"
            problems.append(f"row {number}: {shown[name]} is {text}; give a {kind} above 0")
    problems += _empty(number, cells, values, has_rate=bool(rates))
    served = "isl" in values and "osl" in values
    given: Record = {"id": f"row {number}", "phase": "aggregated" if served else "decode-only"}
    for one, cell in zip(found, row, strict=False):
        is_read = one.name != "concurrency" or "batch" not in values
        if cell.strip() and ((one.name and is_read) or one.own in _BESIDE):
            is_whole = not one.unit or one.own.endswith("_s_mean")  # llmperf's has its unit within
            key = one.own if is_whole else f"{one.own}_{one.unit}"
            given[key] = values.get(one.name, cell.strip())
        elif one.own in rates:
            given["request_throughput"] = cell.strip()
    record = columns.as_record(results.as_given(given), number)
    if record.get("unusable"):
        return record, [*problems, f"row {number}: {record['unusable']}"]
    time = next((one for one in found if one.name == "tpot"), None)
    if time and record["phase"] not in ("aggregated", "decode-only") and _STEPS.search(time.own):
        problems.append(
            f"row {number}: with drafts {time.heading} may be that of a step, which yields "
            "several tokens; give TPOT"
        )
    return record, problems


def _empty(
    number: int, cells: Mapping[str, str], values: Mapping[str, float], *, has_rate: bool
) -> list[str]:
    """Cells of a row that must not be empty; how many are served at once may follow from a rate."""
    problems = [
        f"row {number}: {name} is empty" for name in ("model", "hardware") if not cells.get(name)
    ]
    served = "isl" in values and "osl" in values
    if not served and not cells.get("context"):
        problems.append(f"row {number}: context is empty; give it, or isl and osl")
    if not has_rate and "batch" not in cells and not cells.get("concurrency"):
        problems.append(f"row {number}: concurrency is empty")
    named = gpus_in(cells.get("hardware", ""))
    gpus = values.get("gpus", math.prod(values.get(n, 1.0) for n in ("tp", "pp", "dp", "kvp")))
    if named > 1 and named != gpus and "gpus" not in values:
        problems.append(
            f"row {number}: {cells['hardware']} is {named:g} GPUs, not {gpus:g}; a column gpus "
            "says how many of them serve"
        )
    return problems
