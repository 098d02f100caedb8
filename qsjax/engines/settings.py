"""Settings files of engines (`--config`), which are YAML, as flags."""

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lazy_loader

# Loaded at the first file: every start of the command would wait for it.
yaml = lazy_loader.load("yaml")


def _pairs(tree: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{lead}{key}.")
        elif value not in ("", "null", "Null", "NULL", "~"):
            yield f"{lead}{key}", value if isinstance(value, str) else json.dumps(value)


_TOML = re.compile(r"^\w[\w.-]* = ", re.MULTILINE)


def _tree(text: str, loader: Any) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
        tree = yaml.load(text, Loader=loader)
        if isinstance(tree, dict | list):
            return tree
    with contextlib.suppress(ValueError, RecursionError):
        return tomllib.loads(text) if _TOML.search(text) else None
    return None


def mapping(text: str, loader: Any = yaml.SafeLoader) -> dict[str, Any]:
    """The keys of a text of YAML, JSON or TOML with their values, none where it is none."""
    tree = _tree(text, loader)
    return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}


def dashed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with its keys as flags are spelt: `max-model-len` for `maxModelLen`."""
    return {_CAMEL.sub("-", key).lower().replace("_", "-"): x for key, x in tree.items()}


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


_LONGEST = 100_000  # characters of a manifest; longer texts are none


def mappings(text: str) -> Iterator[dict[str, Any]]:
    """The mappings that documents of YAML or JSON are, and those within: outer ones first."""
    documents = re.split(r"^---.*$", text, flags=re.MULTILINE) if len(text) <= _LONGEST else []
    trees = (_tree(one, yaml.SafeLoader) for one in documents)
    left: list[Any] = [tree for tree in trees if isinstance(tree, dict | list)]
    seen: set[int] = set()
    while left:
        one = left.pop(0)
        if id(one) in seen:  # an anchor may be named often, and within itself
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            yield {str(key): value for key, value in one.items()}
        inner = one.values() if isinstance(one, dict) else one
        left += [x for x in inner if isinstance(x, dict | list)]


_FLOW = re.compile(r"(?::|^[ \t]*-)[ \t]+[\[{](?!\{)", re.MULTILINE)


def in_blocks(text: str) -> str:
    r"""A text of YAML with lists and mappings in blocks where some stand in brackets.

    >>> in_blocks("args: [--port, '80']\n")
    "args:\n- --port\n- '80'\n"
    """
    is_short = len(text) <= _LONGEST and _FLOW.search(text)
    if not (tree := mapping(text, yaml.BaseLoader) if is_short else {}):
        return text
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=float("inf"))


_ALIAS = re.compile(r"(?::|^[ \t]*-)[ \t]+\*\w", re.MULTILINE)


def _size(node: Any, sizes: dict[int, float]) -> float:
    """How many values a tree has where each alias is written out, infinite where it is endless."""
    if not isinstance(node, dict | list):
        return 1.0
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")
        inner = node.values() if isinstance(node, dict) else node
        sizes[id(node)] = 1.0 + sum(_size(one, sizes) for one in inner)
    return sizes[id(node)]


def without_aliases(text: str) -> dict[str, Any]:
    """The mapping of a text of YAML that has aliases, without Compose's extensions (`x-...`).

    It is empty where the text is another one, or would be too long with every alias written out.
    """
    tree = mapping(text) if len(text) <= _LONGEST and _ALIAS.search(text) else {}
    if _size(tree, {}) > _LONGEST:
        return {}
    return {key: value for key, value in tree.items() if not key.startswith("x-")}


def read(path: str, text: str | None = None) -> list[str]:
    """Flags of a settings file: `--key=value`, `--outer.key=value` where nested; as `texts`."""
    return [f"--{name}={value}" for name, value in texts(path, text).items()]


def texts(path: str, text: str | None = None) -> dict[str, str]:
    """Values of a file of `key: value` lines as it writes them, by `key`, or `outer.key`.

    Args:
        path: the file.
        text: what it holds, if it is not on this disk.

    Raises:
        ValueError: the file cannot be read, or is no YAML of keys and values.
    """
    try:
        text = Path(path).read_text("utf-8") if text is None else text
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); give a YAML file, or the "
            "script that writes it (cat > FILE <<EOF), or leave the flag out and say what it holds "
            "by flags"
        ) from None
    line, tree = 1, None
    try:
        tree = yaml.load(text, Loader=yaml.BaseLoader) or {}  # it makes texts alone
    except (yaml.YAMLError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
    if not isinstance(tree, Mapping):
        told = "; engines read YAML alone" if path.endswith(".toml") else ""
        said = ([*text.splitlines(), ""] * line)[line - 1].strip()
        raise ValueError(f"{path}, line {line}: {said!r} is not `key: value`{told}")
    return dict(_pairs(tree))
