"""Models from TOML: `[shape]` holds the fields of `ModelSpec`, the rest describes the model."""

from collections.abc import Callable
from typing import Any, get_args

from qsjax.catalog.entries import Deviation, ModelEntry
from qsjax.catalog.toml import (
    Document,
    complain,
    nearest,
    number_of,
    raise_problems,
    text_of,
    texts_of,
)
from qsjax.records import checks
from qsjax.records.fields import FLAG, POSITIVE, defaults_of, facts_of, numbers_of
from qsjax.records.precision import precision_of
from qsjax.records.specs import INDEX_KEY, Dtype, ModelSpec

SHAPE = facts_of(ModelSpec)
OPTIONAL = defaults_of(ModelSpec)
REQUIRED = [name for name in SHAPE if name not in OPTIONAL]
TEXTS = ("title", "source", "published_source", "note", "extends")
DTYPES = ("weight_dtype", "attn_weight_dtype", "multiply_dtype", "kv_dtype")
NUMBERS = (
    "published_total",
    "published_active",
    "max_context",
    "weight_block",
    "state_bytes",
    "index_bytes",
)
BYTES = ("weight_bytes", "attn_bytes", "shared_bytes", "head_bytes", "embedding_bytes")
KEYS = (*TEXTS, *DTYPES, *NUMBERS, *BYTES, "aliases", "shape", "exception")


def _table(document: Document) -> dict[str, Any]:
    shape = document.table.get("shape", {})
    if isinstance(shape, dict):
        return shape
    complain(document, "shape", "write it as a table: [shape], then one line a field")
    return {}


def _field(document: Document, key: str, raw: Any) -> float | None:
    """The value of a field of `[shape]`, None where it is no number at all."""
    path = f"shape.{key}"
    if key not in SHAPE:
        complain(document, path, f"unknown field; {nearest(key, SHAPE)}")
        return None
    is_flag = SHAPE[key].rule == FLAG and isinstance(raw, bool)
    number = number_of(document, path, int(raw) if is_flag else raw)
    return None if number is None else float(number)


def _shape(document: Document, inherited: dict[str, float], extends: bool) -> dict[str, Any]:
    """All fields of the record; what is missing or wrong becomes a problem."""
    table = _table(document)
    read = {key: _field(document, key, raw) for key, raw in table.items()}
    given = {key: value for key, value in read.items() if value is not None}
    missing = [name for name in REQUIRED if name not in table]
    if missing and document.is_readable and not extends:
        complain(document, "", f"[shape] lacks {', '.join(missing)}")
    full = {**OPTIONAL, **inherited, **given}
    sound = {key: value for key, value in full.items() if read.get(key, value) is not None}
    for field, problem in checks.problems_of(ModelSpec, sound).items():
        complain(document, f"shape.{field}", problem)
    return full


def _dtype(document: Document, key: str, default: Dtype) -> Dtype:
    value = text_of(document, key, default)
    known: tuple[Dtype, ...] = get_args(Dtype)
    for dtype in known:
        if value == dtype:
            return dtype
    complain(document, key, f"unknown precision {value!r}; known: {', '.join(known)}")
    return default


def _number(document: Document, key: str) -> float | None:
    if key not in document.table:
        return None
    number = number_of(document, key, document.table[key])
    if number is None:
        return None
    problem = checks.value_problem(POSITIVE, float(number))
    if problem:
        complain(document, key, problem)
        return None
    return float(number)


def _deviations(document: Document) -> tuple[Deviation, ...]:
    rows = document.table.get("exception", [])
    try:
        return tuple(
            Deviation(of=row["of"], ratio=float(row["ratio"]), reason=str(row["reason"]))
            for row in rows
        )
    except (KeyError, TypeError, ValueError):
        complain(document, "exception", 'write [[exception]] tables: of = "total", ratio, reason')
        return ()


def _index_bytes(base: ModelEntry | None) -> float:
    published = base.spec.precision if base else None
    return float(published.bytes_index) if published else INDEX_KEY  # type: ignore[arg-type]  # catalogue entries hold floats


def entry_from(document: Document, name: str, parent: Callable[[str], ModelEntry]) -> ModelEntry:
    """The model of a document.

    Args:
        document: The parsed file.
        name: Its name in the catalogue.
        parent: Finds the entry named by `extends`, whose shape the file then changes.

    Raises:
        ValueError: With all problems of the file and their lines.
    """
    for key in document.table:
        if key not in KEYS:
            hint = "it belongs under [shape]" if key in SHAPE else nearest(key, KEYS)
            complain(document, key, f"unknown key; {hint}")
    texts = {key: text_of(document, key) for key in TEXTS}
    base: ModelEntry | None = None
    if texts["extends"]:
        try:
            base = parent(texts["extends"])
        except ValueError as error:
            complain(document, "extends", str(error))
    shape = _shape(document, numbers_of(base.spec) if base else {}, bool(texts["extends"]))
    weights = _dtype(document, "weight_dtype", base.weight_dtype if base else "bf16")
    alike = base is not None and weights == base.weight_dtype
    attention = base.attn_weight_dtype if base and weights == base.weight_dtype else weights
    block = base.weight_block if base and weights == base.weight_dtype else 0
    multiply = base.multiply_dtype if base and weights == base.weight_dtype else None
    if "multiply_dtype" in document.table:
        multiply = _dtype(document, "multiply_dtype", weights)
    details: dict[str, Any] = {
        "title": texts["title"] or name,
        "aliases": texts_of(document, "aliases"),
        "source": texts["source"] or (base.source if base else ""),
        "published_total": _number(document, "published_total"),
        "published_active": _number(document, "published_active"),
        "published_source": texts["published_source"],
        "weight_dtype": weights,
        **{k: _number(document, k) or (getattr(base, k) if alike else 0.0) for k in BYTES},
        "attn_weight_dtype": _dtype(document, "attn_weight_dtype", attention),
        "multiply_dtype": multiply,
        "kv_dtype": _dtype(document, "kv_dtype", base.kv_dtype if base else "bf16"),
        "max_context": int(_number(document, "max_context") or (base.max_context if base else 0)),
        "weight_block": int(_number(document, "weight_block") or block),
        "state_bytes": _number(document, "state_bytes") or (base.state_bytes if base else 0.0),
        "note": texts["note"],
        "deviations": _deviations(document),
    }
    raise_problems(document)
    precision = precision_of(
        weights,
        details["attn_weight_dtype"],
        details["kv_dtype"],
        **{key: details[key] for key in BYTES},
        multiply=multiply,
        state_bytes=details["state_bytes"],
        index_bytes=_number(document, "index_bytes") or _index_bytes(base),
    )
    spec = ModelSpec(**shape, precision=precision, label=name)
    return ModelEntry(name=name, spec=spec, **details)
