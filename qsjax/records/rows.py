"""Rows of plain values: what results, tables and figures are made of."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")


def grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    """Rows, or other things, gathered by `key`, in the order of first appearance.

    >>> grouped([1, 2, 3], lambda x: x % 2)
    {1: [1, 3], 0: [2]}
    """
    found: dict[Any, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
