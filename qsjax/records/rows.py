"""Rows of plain values: what results, tables and figures are made of."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

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
