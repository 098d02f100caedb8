"""Settings files of engines (`--config`): the part of YAML that they use, as flags."""

import re
from pathlib import Path

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+) *:(?: +(?P<value>.*))?$")

# A mapping on its line, `{dtype: fp8, tokens_per_block: 64}`, of plain values.
_FLOW = re.compile(r"\{([^{}\[\]]+)\}(?:\s+#.*)?")
_PAIR = re.compile(r"""['"]?([\w.-]+)['"]?\s*:\s*['"]?([^,'"]*[^,'"\s])""")


def _scalar(text: str) -> str:
    text = text.strip()
    if text[:1] in ("'", '"'):
        end = text.find(text[0], 1)
        return text[1:end] if end > 0 else text
    return re.split(r"\s+#", text)[0].strip()


def read(path: str, text: str | None = None) -> list[str]:
    """Flags of a file of `key: value` lines: `--key=value`, `--outer.key=value` where nested.

    Args:
        path: the file.
        text: what it holds, if it is not on this disk.

    Raises:
        ValueError: the file cannot be read, or a line is neither that nor an item of a list.
    """
    try:
        lines = (Path(path).read_text("utf-8") if text is None else text).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); give a YAML file, or the "
            "script that writes it (cat > FILE <<EOF), or leave the flag out and say what it holds "
            "by flags"
        ) from None
    flags: list[str] = []
    outer: list[tuple[int, str]] = []
    depth = 0  # of brackets that a line leaves open
    for number, line in enumerate(lines, 1):
        bare, was_open = line.strip(), depth > 0
        depth += sum(map(line.count, "[{")) - sum(map(line.count, "]}"))
        if was_open:
            continue
        if not bare or bare.startswith(("#", "-")):  # items of a list change no key
            continue
        match = _LINE.match(line)
        if match is None:
            told = "; engines read YAML alone" if path.endswith(".toml") else ""
            raise ValueError(f"{path}, line {number}: {bare!r} is not `key: value`{told}")
        indent = len(match["indent"])
        while outer and outer[-1][0] >= indent:
            outer.pop()
        outer.append((indent, match["key"]))
        name = ".".join(key for _, key in outer)
        if pairs := _FLOW.fullmatch((match["value"] or "").strip()):
            flags += [f"--{name}.{key}={x}" for key, x in _PAIR.findall(pairs[1])]
            continue
        value = _scalar(match["value"] or "")
        if value.lower() not in ("", "null", "~", "|", ">"):
            flags.append(f"--{name}={value}")
    return flags
