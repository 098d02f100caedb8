"""The families of Hugging Face configs, as `families.toml` states them, and what none reads."""

import dataclasses
import operator
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from qsjax.catalog import layers, mixers, selective
from qsjax.catalog.layers import Part
from qsjax.catalog.modules import Names
from qsjax.records.specs import INDEX_KEY
from qsjax.records.tables import table

_TABLE = table("catalog/families.toml")
_MODULES = SimpleNamespace(layers=layers, mixers=mixers, selective=selective)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Names of one family's fields, and the parts that decide the kinds of its layers.

    The fields are those of `families.toml`, which explains them.
    """

    types: tuple[str, ...]
    fields: Mapping[str, str]
    names: Names
    parts: tuple[Part, ...] = ()
    state_bytes: float = 4.0
    index_bytes: float = INDEX_KEY
    note: str = ""


_OWN = {field.name for field in dataclasses.fields(Family)} | {"like"}


def _rules(entry: Mapping[str, Any]) -> dict[str, str]:
    """Rules of an entry by field: those of the sets that it is like, then its own."""
    rules: dict[str, str] = {}
    for name in entry.get("like", "").split():
        rules |= _rules(_TABLE["sets"][name])
    return rules | {name: rule for name, rule in entry.items() if name not in _OWN}


def _family(name: str, entry: Mapping[str, Any]) -> Family:
    return Family(
        types=tuple(entry.get("types", name).split()),
        fields=_rules(entry),
        parts=tuple(operator.attrgetter(x)(_MODULES) for x in entry.get("parts", "").split()),
        names={
            group: tuple(x.split())
            for group, x in (_TABLE["names"] | entry.get("names", {})).items()
        },
        **{key: entry[key] for key in ("state_bytes", "index_bytes", "note") if key in entry},
    )


FAMILIES = {name: _family(name, entry) for name, entry in _TABLE["families"].items()}

# What configs of a type leave out where they stand within another one.
LEFT_OUT: dict[str, dict[str, int]] = {
    name: dict(zip(_TABLE["sizes"].split(), more.pop("sizes"), strict=True)) | more
    for name, more in _TABLE["left_out"].items()
}

# Names of KV heads and of the width of a head, of which any that a config has holds.
_NAMES = [
    _TABLE["sets"]["grouped"][of].split(" = ")[0].split("|") for of in ("kv_heads", "head_dim")
]
# KV heads and width of a head by type, with these names, of configs that leave them out.
GROUPS = {
    name: {names[0]: (size, names) for names, size in zip(_NAMES, sizes, strict=True) if size}
    for *sizes, types in _TABLE["heads"]
    for name in types.split()
}

# Models that no family reads: the nearest one, and what differs.
REFUSED: dict[str, tuple[str, str]] = {
    name: (near, differs) for names, near, differs in _TABLE["refused"] for name in names.split()
}
