"""Accelerators from TOML: the unit stands in the key, every problem of a file in one message."""

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from qsjax.catalog.entries import HardwareEntry, Source
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
from qsjax.records.specs import HardwareSpec
from qsjax.records.units import GB, GIB, MIB, MS, PFLOP, TB, TFLOP, US

BITS_PER_BYTE = 8

# Of each kind of quantity, the units a key may end in and what one is in SI.
UNITS: dict[str, dict[str, float]] = {
    "capacity": {"gb": GB, "gib": GIB, "mib": MIB, "tb": TB},
    "bandwidth": {"gb_per_s": GB, "tb_per_s": TB, "gbit_per_s": GB / BITS_PER_BYTE},
    "compute rate": {"tflop_per_s": TFLOP, "pflop_per_s": PFLOP},
    "time": {"us": US, "ms": MS},
    "price": {"usd_per_hour": 1.0},
    "power": {"watts": 1.0},
}


class Quantity(NamedTuple):
    """A field of `HardwareSpec` that a file gives in a unit."""

    field: str
    kind: str


QUANTITIES: dict[str, Quantity] = {
    "hbm_capacity": Quantity("hbm_bytes", "capacity"),
    "hbm_bandwidth": Quantity("hbm_bw", "bandwidth"),
    "peak_bf16": Quantity("flops_bf16", "compute rate"),
    "peak_fp8": Quantity("flops_fp8", "compute rate"),
    "peak_fp4": Quantity("flops_fp4", "compute rate"),
    "peak_exp": Quantity("flops_exp", "compute rate"),
    "intra_bandwidth": Quantity("intra_bw", "bandwidth"),
    "inter_bandwidth": Quantity("inter_bw", "bandwidth"),
    "intra_latency": Quantity("intra_latency", "time"),
    "inter_latency": Quantity("inter_latency", "time"),
    "reserve": Quantity("reserve_bytes", "capacity"),
    "moe_reserve": Quantity("moe_reserve_bytes", "capacity"),
    "exchange_overhead": Quantity("exchange_overhead", "time"),
    "layer_overhead": Quantity("layer_overhead", "time"),
    "latent_overhead": Quantity("latent_overhead", "time"),
    "expert_overhead": Quantity("expert_overhead", "time"),
    "sequence_overhead": Quantity("sequence_overhead", "time"),
    "prefill_overhead": Quantity("prefill_overhead", "time"),
    "step_overhead": Quantity("step_overhead", "time"),
    **{
        name: Quantity(name, "time")
        for name in (
            *("gemm_startup", "attention_startup", "expert_startup", "linear_overhead"),
            *("sparse_overhead", "two_shot_latency", "rank_latency"),
        )
    },
    "price": Quantity("usd_per_hour", "price"),
    "power": Quantity("watts", "power"),
}
# Fields without a unit are keys as they are.
PLAIN = sorted(
    {field.name for field in dataclasses.fields(HardwareSpec)}
    - {quantity.field for quantity in QUANTITIES.values()}
)
REQUIRED = "hbm_capacity hbm_bandwidth peak_bf16 intra_bandwidth inter_bandwidth island_size"
OPTIONAL: dict[str, Any] = {
    field.name: field.default
    for field in dataclasses.fields(HardwareSpec)
    if field.default is not dataclasses.MISSING
}
TEXTS = ("title", "note", "extends")
OTHER = (*TEXTS, "aliases", "source")
KEYS = (*(f"{name}_{u}" for name, q in QUANTITIES.items() for u in UNITS[q.kind]), *PLAIN, *OTHER)

FALLBACKS = {
    "flops_fp8": ("flops_bf16", "no fp8 peak: the bf16 peak stands in (weights are dequantised)"),
    "flops_fp4": ("flops_fp8", "no fp4 peak: the fp8 peak stands in (weights are dequantised)"),
}

# Fields that cost nothing unless a file gives them: the value that says so, and what it means.
FREE = {
    "flops_exp": (0.0, "no peak_exp: the softmax of attention takes no time"),
    "query_tile": (1.0, "no query_tile: attention kernels pad no query rows"),
}


class _Given(NamedTuple):
    quantity: str
    field: str
    factor: float


def _resolve(key: str) -> _Given | str:
    """Which field a key gives and in which unit, or what is wrong with the key."""
    if key in PLAIN:
        return _Given(key, key, 1.0)
    name = max((n for n in QUANTITIES if key == n or key.startswith(n + "_")), key=len, default="")
    if not name:
        return f"unknown key; {nearest(key, KEYS)}"
    field, kind = QUANTITIES[name]
    unit = key[len(name) + 1 :]
    if unit in UNITS[kind]:
        return _Given(name, field, UNITS[kind][unit])
    allowed = " or ".join(f"{name}_{u}" for u in UNITS[kind])
    other = next((k for k, units in UNITS.items() if unit in units), "")
    if other:
        return f"{unit!r} is a unit of {other}, but {name} is a {kind}; write {allowed}"
    return f"{f'unknown unit {unit!r}' if unit else 'the unit is missing'}; write {allowed}"


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
        if given.field in first:
            complain(document, key, f"{first[given.field]} gives the same quantity; keep one")
            continue
        first[given.field] = key
        number = number_of(document, key, raw)
        if number is None:
            continue
        problem = checks.value_problem(checks.HARDWARE_RULES[given.field], float(number))
        if problem:
            complain(document, key, problem)
        # Decimal arithmetic: 200 microseconds are 2e-4 s to the last bit.
        else:
            values[given.field] = float(number * Decimal(repr(given.factor)))
    return values


def given_by(document: Document) -> tuple[str, ...]:
    """The quantities that a document states, without their units."""
    found = (_resolve(key) for key in document.table if key not in OTHER)
    return tuple(given.quantity for given in found if isinstance(given, _Given))


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
    assumed = [meaning for field, (free, meaning) in FREE.items() if values.get(field) == free]
    for field, (stand_in, reason) in FALLBACKS.items():
        if field not in values and stand_in in values:
            values[field] = values[stand_in]
            assumed.append(reason)
    return tuple(assumed)


def _stated(entry: HardwareEntry) -> dict[str, Any]:
    """The fields of an entry without its stand-ins: those follow the peaks of the extension."""
    assumed = {f for f, (_, reason) in FALLBACKS.items() if reason in entry.assumptions}
    return {f: value for f, value in dataclasses.asdict(entry.spec).items() if f not in assumed}


def _complain_of_missing(document: Document) -> None:
    for key in REQUIRED.split():
        if not any(name.startswith(key) for name in document.table):
            units = UNITS[QUANTITIES[key].kind] if key in QUANTITIES else ()
            names = " or ".join(f"{key}_{unit}" for unit in units) or key
            complain(document, "", f"{names} is missing")


def entry_from(
    document: Document,
    name: str,
    defaults: dict[str, float],
    parent: Callable[[str], HardwareEntry],
) -> HardwareEntry:
    """The accelerator of a document.

    Args:
        document: The parsed file.
        name: Its name in the catalogue.
        defaults: Fields that a file need not give, in SI units.
        parent: Finds the entry named by `extends`, whose numbers then replace the defaults.

    Raises:
        ValueError: With all problems of the file and their lines.
    """
    values = values_of(document)
    given = given_by(document)
    texts = {key: text_of(document, key) for key in TEXTS}
    base: HardwareEntry | None = None
    if texts["extends"]:
        try:
            base = parent(texts["extends"])
        except ValueError as error:
            complain(document, "extends", str(error))
    elif document.is_readable and "extends" not in document.table:
        _complain_of_missing(document)
    full = (_stated(base) if base else OPTIONAL | defaults) | values
    assumptions = _fill(full)
    aliases, sources = texts_of(document, "aliases"), _sources(document)
    for field, problem in checks.hardware_problems(full).items():
        complain(document, field, problem)
    raise_problems(document)
    return HardwareEntry(
        name=name,
        spec=HardwareSpec(**full),
        title=texts["title"] or name,
        aliases=aliases,
        note=texts["note"],
        given=given,
        sources=sources + (_inherited(base.sources, given) if base else ()),
        assumptions=assumptions,
    )
