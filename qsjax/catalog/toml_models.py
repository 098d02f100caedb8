"""Models from TOML: `[shape]` holds the fields of `ModelSpec`, the rest describes the model."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, get_args

from qsjax.catalog import toml
from qsjax.catalog.entries import Deviation, ModelEntry
from qsjax.catalog.toml import Document, complain
from qsjax.records import checks, fields
from qsjax.records.fields import COUNT, FLAG, POSITIVE, Rule, hint
from qsjax.records.precision import Stored, precision_of
from qsjax.records.specs import Dtype, ModelSpec

SHAPE = fields.facts_of(ModelSpec)
OPTIONAL = fields.defaults_of(ModelSpec)
REQUIRED = [name for name in SHAPE if name not in OPTIONAL]
TEXTS = ("title", "source", "published_source", "note", "extends")
STORED_AS = [field.name for field in dataclasses.fields(Stored) if field.name != "modules"]
DTYPES = [name for name in STORED_AS if name.endswith("_dtype")]
BYTES = ("weight_bytes", "attn_bytes", "shared_bytes", "head_bytes", "embedding_bytes")
COUNTS = ("max_context", "mtp_layers", "expert_hidden")
KEYS = (
    *(*TEXTS, *DTYPES, "published_total", "published_active"),
    *COUNTS,
    *(*(name for name in STORED_AS if name not in DTYPES), "aliases", "shape", "exception"),
)


def _field(document: Document, key: str, raw: Any) -> float | None:
    """The value of a field of `[shape]`, None where it is no number at all."""
    path = f"shape.{key}"
    if key not in SHAPE:
        complain(document, path, f"unknown field; {hint(key, SHAPE)}")
        return None
    is_flag = SHAPE[key].rule == FLAG and isinstance(raw, bool)
    number = toml.number_of(document, path, int(raw) if is_flag else raw)
    return None if number is None else float(number)


def _shape(document: Document, inherited: dict[str, float], extends: bool) -> dict[str, Any]:
    """All fields of the record; what is missing or wrong becomes a problem."""
    table = document.table.get("shape", {})
    if not isinstance(table, dict):
        complain(document, "shape", "write it as a table: [shape], then one line a field")
        table = {}
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
    value = toml.text_of(document, key, default)
    known: tuple[Dtype, ...] = get_args(Dtype)
    if value not in known:
        complain(document, key, f"unknown precision {value!r}; known: {', '.join(known)}")
    return next((dtype for dtype in known if dtype == value), default)


def _number(document: Document, key: str, rule: Rule = POSITIVE) -> float | None:
    if key not in document.table:
        return None
    number = toml.number_of(document, key, document.table[key], rule)
    return None if number is None else float(number)


def _count(document: Document, key: str, default: int) -> int:
    return int(_number(document, key, COUNT) or default)


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


def _stored(document: Document, base: ModelEntry | None) -> Stored:
    """In what the model is published; details of the base count while its weights stay."""
    old: Stored = base or Stored()
    weights = _dtype(document, "weight_dtype", old.weight_dtype)
    alike = old if weights == old.weight_dtype else Stored(attn_weight_dtype=weights)
    multiply = alike.multiply_dtype
    if "multiply_dtype" in document.table:
        multiply = _dtype(document, "multiply_dtype", weights)
    sizes: dict[str, Any] = {k: _number(document, k) or getattr(alike, k) for k in BYTES}
    return Stored(
        **sizes,
        weight_dtype=weights,
        attn_weight_dtype=_dtype(document, "attn_weight_dtype", alike.attn_weight_dtype),
        multiply_dtype=multiply,
        kv_dtype=_dtype(document, "kv_dtype", old.kv_dtype),
        weight_block=_count(document, "weight_block", alike.weight_block),
        state_bytes=_number(document, "state_bytes") or old.state_bytes,
        index_bytes=_number(document, "index_bytes") or old.index_bytes,
    )


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
            place = "it belongs under [shape]" if key in SHAPE else hint(key, KEYS)
            complain(document, key, f"unknown key; {place}")
    texts = {key: toml.text_of(document, key) for key in TEXTS}
    base = toml.base_of(document, texts["extends"], parent)
    shape = _shape(document, fields.numbers_of(base.spec) if base else {}, bool(texts["extends"]))
    stored = _stored(document, base)
    details: dict[str, Any] = {
        "title": texts["title"] or name,
        "aliases": toml.texts_of(document, "aliases"),
        "source": texts["source"] or (base.source if base else ""),
        "published_total": _number(document, "published_total"),
        "published_active": _number(document, "published_active"),
        "published_source": texts["published_source"],
        **{key: _count(document, key, getattr(base, key, 0)) for key in COUNTS},
        "note": texts["note"],
        "deviations": _deviations(document),
    }
    narrow, hidden = details["expert_hidden"], shape.get("hidden", math.inf)
    if narrow > hidden:
        complain(document, "expert_hidden", f"{narrow} is not allowed; give at most {hidden:g}")
    toml.raise_problems(document)
    spec = ModelSpec(**shape, precision=precision_of(stored), label=name)
    return ModelEntry(name=name, spec=spec, **details, **dataclasses.asdict(stored))
