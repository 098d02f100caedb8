"""What the tests and sums of a shell come to, where the values in them are known."""

import ast
import fnmatch
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

_WHOLE: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: int(a / b),  # a shell cuts towards zero
    ast.Mod: operator.mod,
}
COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}
_NUMBERS = {f"-{compare.__name__}": compare for compare in COMPARED.values()}  # `-eq`, `-lt`


def _sum(node: ast.expr, text: Callable[[str], str]) -> int:
    if isinstance(node, ast.BinOp) and type(node.op) in _WHOLE:
        return _WHOLE[type(node.op)](_sum(node.left, text), _sum(node.right, text))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
        left, right = _sum(node.left, text), _sum(node.comparators[0], text)
        return int(COMPARED[type(node.ops[0])](left, right))
    if isinstance(node, ast.BoolOp):
        parts = [_sum(one, text) for one in node.values]
        return int(all(parts) if isinstance(node.op, ast.And) else any(parts))
    if isinstance(node, ast.Name):
        return int(text(node.id))
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    raise ValueError("no sum of whole numbers")


def computed(sum_: str, text: Callable[[str], str]) -> int | None:
    """What `$(( sum ))` comes to, None where a value is not known; `text` has variables' values.

    >>> computed("(N + 1) / 2", {"N": "8"}.get), computed("-" * 6000 + "1", {}.get)
    (4, None)
    """
    bare = re.sub(r"[${}]", "", sum_).replace("&&", " and ").replace("||", " or ").strip()
    try:
        return _sum(ast.parse(bare, mode="eval").body, text)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return None


def _single(words: Sequence[str], is_unset: Callable[[str], bool]) -> bool | None:
    """One test: `-z A`, `A = B`, `A -gt B`; None where it is another, or a value is not known."""
    if words[:1] == ["!"]:
        inner = _single(words[1:], is_unset)
        return None if inner is None else not inner
    values = ["" if is_unset(word) else word for word in words]
    if words[:1] == ["-n"] and any(is_unset(word) for word in words[1:]):
        return None  # whoever starts the script may set it
    if len(words) == 2 and words[0] in ("-z", "-n") and "$" not in values[1]:
        return (values[1] == "") == (words[0] == "-z")
    if len(words) != 3 or any("$" in word for word in (words[0], words[2])):
        return None
    left, how, right = words
    if how in ("=", "==", "!="):
        return fnmatch.fnmatchcase(left, right) == (how != "!=")
    try:
        return _NUMBERS[how](int(left), int(right))
    except (KeyError, ValueError):
        return None


def holds(
    words: Sequence[str], is_unset: Callable[[str], bool], text: Callable[[str], str]
) -> bool | None:
    """Whether `[ ... ]` or `(( ... ))`, or several with `&&` and `||` between, holds.

    None where that is not known.

    Args:
        words: of the test, with the values of variables where those are known.
        is_unset: whether a word is a variable that nothing sets.
        text: the value of a variable by its name.

    >>> test = ["[", "8", "-gt", "1", "]", "&&", "[[", "a", "==", "b*", "]]"]
    >>> holds(test, lambda _: False, {}.get), holds(["((8", ">", "1))"], lambda _: False, {}.get)
    (False, True)
    """
    found: bool | None = True
    how, inner = "&&", list[str]()
    opened = ""
    for word in [*words, "&&"]:
        bare = word.removesuffix(";")
        if bare in ("[", "[[", "test"):
            opened = bare
        elif word.startswith("((") or opened == "((":
            opened = "" if bare.endswith("))") else "(("
            inner.append(bare.removeprefix("((").removesuffix("))"))
            if not opened:
                inner = ["((", " ".join(inner)]
        elif word in ("&&", "||", "-a", "-o"):
            one = _part(inner, opened, is_unset, text)
            decides = how in ("||", "-o")  # what a part must be to decide by itself
            if found is decides or one is decides:
                found = decides
            elif found is None or one is None:
                found = None
            how, inner = word, []
        elif bare and bare not in ("]", "]]"):
            inner.append(bare)
    return found


def _part(
    words: Sequence[str], opened: str, is_unset: Callable[[str], bool], text: Callable[[str], str]
) -> bool | None:
    if words[:1] == ["(("]:
        value = computed(words[1], text)
        return None if value is None else bool(value)
    return _single(words, is_unset) if opened else None
