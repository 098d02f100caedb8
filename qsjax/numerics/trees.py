"""Trees of numbers as those of JAX (pytrees), for what runs without it.

A tree is a record, a tuple, a list, a dict or None; anything else is a leaf.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from qsjax.numerics.loading import when_loaded

Record = TypeVar("Record")

# Names of the numbers and of the static fields of every type of record.
_RECORDS: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}


class Structure(NamedTuple):
    """A tree without its leaves; hashable.

    Attributes:
        kind: type of the node; None is a leaf.
        static: what else the node is made of: values of static fields, or keys.
        children: of the node, in order.
        num_leaves: leaves below it.
    """

    kind: type | None
    static: tuple[Any, ...]
    children: tuple["Structure", ...]
    num_leaves: int


_LEAF = Structure(None, (), (), 1)
_NONE = Structure(type(None), (), (), 0)


def record(cls: type[Record], dropped: tuple[str, ...] = ()) -> type[Record]:
    """Make a dataclass a tree, here and in JAX.

    Args:
        cls: its fields are numbers, but for those with `static` in their metadata.
        dropped: fields that transformations forget: they have their defaults after them.
    """
    fields = [f for f in dataclasses.fields(cls) if f.name not in dropped]  # type: ignore[arg-type]
    static = tuple(f.name for f in fields if f.metadata.get("static"))
    numbers = tuple(f.name for f in fields if f.name not in static)
    _RECORDS[cls] = numbers, static

    def tell_jax() -> None:
        from qsjax.numerics.jax import jax

        jax.tree_util.register_dataclass(cls, list(numbers), list(static), list(dropped))

    when_loaded(tell_jax)
    return cls


def _parts(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """Static parts and children of a node; None of a leaf."""
    kind = type(x)
    if kind in _RECORDS:
        numbers, static = _RECORDS[kind]
        return tuple(getattr(x, n) for n in static), tuple(getattr(x, n) for n in numbers)
    if isinstance(x, tuple | list):
        return (), tuple(x)
    if kind is dict:
        keys = tuple(sorted(x))
        return keys, tuple(x[key] for key in keys)
    return None


def _walk(x: Any, leaves: list[Any]) -> Structure:
    if type(x) is float:  # most leaves
        leaves.append(x)
        return _LEAF
    if x is None:
        return _NONE
    parts = _parts(x)
    if parts is None:
        leaves.append(x)
        return _LEAF
    before = len(leaves)
    children = tuple([_walk(child, leaves) for child in parts[1]])
    return Structure(type(x), parts[0], children, len(leaves) - before)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree in order, and its structure."""
    leaves: list[Any] = []
    return leaves, _walk(tree, leaves)


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree in order."""
    return flatten(tree)[0]


def structure(tree: Any) -> Structure:
    """The structure of a tree."""
    return flatten(tree)[1]


def unflatten(node: Structure, leaves: Iterable[Any]) -> Any:
    """The tree of a structure with these leaves."""
    kind, leaves = node.kind, iter(leaves)
    if kind is None:
        return next(leaves)
    if kind is type(None):
        return None
    children = [unflatten(child, leaves) for child in node.children]
    if kind in _RECORDS:
        numbers, static = _RECORDS[kind]
        return kind(**dict(zip((*numbers, *static), (*children, *node.static), strict=True)))
    if kind is dict:
        return dict(zip(node.static, children, strict=True))
    return kind(*children) if hasattr(kind, "_fields") else kind(children)


def map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:  # as JAX
    """The tree with `function` of every leaf, and of the leaves of other trees of its structure."""
    first, own = flatten(tree)
    rest = [flatten(other) for other in others]
    for _, other in rest:
        if other != own:
            raise ValueError("trees differ in structure")
    columns = (first, *(found for found, _ in rest))
    return unflatten(own, [function(*row) for row in zip(*columns, strict=True)])
