"""Settings files of engines (`--config`), which are YAML, as flags."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lazy_loader

# Loaded at the first file: every start of the command would wait for it.
yaml = lazy_loader.load("yaml")


def _flags(tree: Mapping[str, Any], lead: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flags(value, f"{lead}{key}.")
        elif value not in ("", "null", "Null", "NULL", "~"):
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"--{lead}{key}={text}"


def mapping(text: str) -> dict[str, Any]:
    """The keys of a text of YAML with their values, none where it is no such text."""
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}


def read(path: str, text: str | None = None) -> list[str]:
    """Flags of a file of `key: value` lines: `--key=value`, `--outer.key=value` where nested.

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
    return list(_flags(tree))
