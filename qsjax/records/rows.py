"""Rows of plain values: what results, tables and figures are made of."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from qsjax.records.specs import DEGREES

Item = TypeVar("Item")


def grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    """Rows, or other things, gathered by `key`, in the order of first appearance.

    >>> grouped([1, 2, 3], lambda x: x % 2)
    {1: [1, 3], 0: [2]}
    """
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def leaves(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of a row, those of nested mappings by dotted names.

    >>> dict(leaves({"a": 1, "b": {"c": [2], "d": {}}}))
    {'a': 1, 'b.c': [2]}
    """
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", item) for key, item in leaves(value))
        else:
            yield name, value


def degrees(row: Mapping[str, Any], equals: str = "=", between: str = " ") -> str:
    """The degrees above 1 of a row's split.

    >>> degrees({"tp": 8, "ep": 4, "pp": 1}), degrees({"tp": 8, "ep": 4}, "", "/"), degrees({})
    ('tp=8 ep=4', 'tp8/ep4', 'one GPU')
    """
    parts = [f"{name}{equals}{row[name]:.0f}" for name in DEGREES if row.get(name, 1) > 1]
    return between.join(parts) or "one GPU"
