"""Accelerators from TOML: the unit stands in the key, every problem of a file in one message."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from qsjax.catalog import toml
from qsjax.catalog.entries import HardwareEntry, Source
from qsjax.catalog.toml import Document, complain
from qsjax.records import checks
from qsjax.records.fields import defaults_of, facts_of, hint, numbers_of
from qsjax.records.specs import HardwareSpec
from qsjax.records.units import DIMENSIONS

FACTS = facts_of(HardwareSpec)
OPTIONAL = defaults_of(HardwareSpec)
FIELDS = {facts.key: name for name, facts in FACTS.items()}
TEXTS = ("title", "note", "extends")
OTHER = (*TEXTS, "aliases", "source")

FALLBACKS = {
    "flops_fp8": ("flops_bf16", "no fp8 peak: the bf16 peak stands in (weights are dequantised)"),
    "flops_fp4": ("flops_fp8", "no fp4 peak: the fp8 peak stands in (weights are dequantised)"),
}

# Fields that cost nothing unless a file gives them: the value that says so, and what it means.
FREE = {
    "flops_exp": (0.0, "no peak_exp: the softmax of attention takes no time"),
    "query_tile": (1.0, "no query_tile: attention kernels pad no query rows"),
    "power_base": (1.0, "no power_base: a GPU draws its whole power at any load"),
}


REQUIRED = [name for name in FACTS if name not in OPTIONAL and name not in FALLBACKS]


def keys_of(field: str) -> dict[str, float]:
    """The keys that give a field, and what one is in SI: the unit stands in the key."""
    facts = FACTS[field]
    if facts.unit not in DIMENSIONS:
        return {facts.key: 1.0}
    return {f"{facts.key}_{unit}": factor for unit, factor in DIMENSIONS[facts.unit].units.items()}


KEYS = (*(key for field in FACTS for key in keys_of(field)), *OTHER)


def _resolve(key: str) -> tuple[str, float] | str:
    """Which field a key gives and what its unit is in SI, or what is wrong with the key."""
    name = max((n for n in FIELDS if key == n or key.startswith(n + "_")), key=len, default="")
    if not name and key in FACTS:
        return f"a field of HardwareSpec, in SI units; here write {' or '.join(keys_of(key))}"
    if not name:
        return f"unknown key; {hint(key, KEYS)}"
    field = FIELDS[name]
    allowed = keys_of(field)
    if key in allowed:
        return field, allowed[key]
    if name in allowed:
        return f"unknown key; {hint(key, KEYS)}"
    unit, kind = key[len(name) + 1 :], DIMENSIONS[FACTS[field].unit].name
    write = f"write {' or '.join(allowed)}"
    other = next((d.name for d in DIMENSIONS.values() if unit in d.units), "")
    if other:
        return f"{unit!r} is a unit of {other}, but {name} is a {kind}; {write}"
    return f"{f'unknown unit {unit!r}' if unit else 'the unit is missing'}; {write}"


def values_of(document: Document) -> dict[str, float]:
    """The fields that a document gives, in SI units; what it gives wrongly becomes a problem."""
    values: dict[str, float] = {}
    first: dict[str, str] = {}
    for key, raw in document.table.items():
        if key in OTHER:
            continue
        given = _resolve(key)
        if isinstance(given, str):
            is_table = isinstance(raw, dict | list)
            flat = "an accelerator has no such table; write its keys at the top of the file"
            complain(document, key, flat if is_table else given)
            continue
        field, factor = given
        if field in first:
            complain(document, key, f"{first[field]} gives the same quantity; keep one")
            continue
        first[field] = key
        number = toml.number_of(document, key, raw, FACTS[field].rule)
        if number is not None:
            # Decimal arithmetic: 200 microseconds are 2e-4 s to the last bit.
            values[field] = float(number * Decimal(repr(factor)))
    return values


def _sources(document: Document) -> tuple[Source, ...]:
    rows = document.table.get("source", [])
    try:
        if all(isinstance(row["of"], list) for row in rows):
            return tuple(Source(of=tuple(row["of"]), at=str(row["at"])) for row in rows)
    except (KeyError, TypeError):
        pass
    complain(document, "source", 'write [[source]] tables: of = ["hbm_capacity"], at = "..."')
    return ()


def _inherited(sources: tuple[Source, ...], given: tuple[str, ...]) -> tuple[Source, ...]:
    """Sources of an extended entry, less those of quantities that the extension replaces."""
    kept = ((tuple(n for n in source.of if n not in given), source.at) for source in sources)
    return tuple(Source(of=names, at=at) for names, at in kept if names)


def _fill(values: dict[str, float]) -> tuple[str, ...]:
    """Put the stand-ins of missing peaks into `values`; returns what was assumed."""
    free = FREE if values.get("watts") else {n: x for n, x in FREE.items() if n != "power_base"}
    assumed = [meaning for field, (value, meaning) in free.items() if values.get(field) == value]
    for field, (stand_in, reason) in FALLBACKS.items():
        if field not in values and stand_in in values:
            values[field] = values[stand_in]
            assumed.append(reason)
    return tuple(assumed)


def _stated(entry: HardwareEntry) -> dict[str, Any]:
    """The fields of an entry without its stand-ins: those follow the peaks of the extension."""
    assumed = {f for f, (_, reason) in FALLBACKS.items() if reason in entry.assumptions}
    return {f: value for f, value in numbers_of(entry.spec).items() if f not in assumed}


def entry_from(
    document: Document, name: str, parent: Callable[[str], HardwareEntry]
) -> HardwareEntry:
    """The accelerator of a document.

    Args:
        document: The parsed file.
        name: Its name in the catalogue.
        parent: Finds the entry named by `extends`, whose numbers then replace the defaults of
            `HardwareSpec`.

    Raises:
        ValueError: With all problems of the file and their lines.
    """
    values = values_of(document)
    given = tuple(FACTS[field].key for field in values)
    texts = {key: toml.text_of(document, key) for key in TEXTS}
    base = toml.base_of(document, texts["extends"], parent)
    if document.is_readable and "extends" not in document.table:
        for field in REQUIRED:
            if not any(key.startswith(FACTS[field].key) for key in document.table):
                complain(document, "", f"{' or '.join(keys_of(field))} is missing")
    full = (_stated(base) if base else dict(OPTIONAL)) | values
    assumptions = _fill(full)
    aliases, sources = toml.texts_of(document, "aliases"), _sources(document)
    for field, problem in checks.problems_of(HardwareSpec, full).items():
        complain(document, field, problem)
    toml.raise_problems(document)
    return HardwareEntry(
        name=name,
        spec=HardwareSpec(**full, label=name),
        title=texts["title"] or name,
        aliases=aliases,
        note=texts["note"],
        given=given,
        sources=sources + (_inherited(base.sources, given) if base else ()),
        assumptions=assumptions,
    )
