"""YAML as text: templates of charts and excerpts of manifests, which no parser of YAML takes."""

import itertools
import json
import re
import shlex
import textwrap

_TEXT = ("", ">", ">-", "|", "|-", "|+", ">+")  # a block of text follows
_FOLDED = (">", ">-", ">+")  # whose lines are one
_QUOTED = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s,\[\]]+))\s*,?""")
# A list in brackets, whose words may have brackets of their own.
_LIST = re.compile(r"""\[(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\]"'])*\]""")
# A text in quotation marks as a whole; one of JSON may have a comma behind it.
_WHOLE = re.compile(r"""\"((?:[^"\\]|\\.)*)\",?|'([^']*)'""")


def below(text: str, indent: int) -> str:
    """The lines of a text that are indented more, up to the first that is not; dedented."""
    lines = (one for one in text.splitlines() if one.strip() and one.lstrip()[0] != "#")
    inside = itertools.takewhile(lambda one: len(one) - len(one.lstrip()) > indent, lines)
    return textwrap.dedent("\n".join(inside)) + "\n"


def under(text: str, *path: str) -> str:
    """What stands below nested keys of YAML, without its indentation; "" where one is missing."""
    for key in path:
        head = re.search(rf"^['\"]?{key}['\"]?:[ \t]*(?:#.*)?\n", text, re.MULTILINE)
        if head is None:
            return ""
        text = below(text[head.end() :], 0)
    return text


def text_at(text: str, key: str) -> str:
    """The text of a key at the outermost level, "" without one."""
    found = re.search(rf"^{key}:[ \t]*(['\"]?)([^\n#]*?)\1[ \t]*(?:#.*)?$", text, re.MULTILINE)
    return found[2].strip() if found else ""


def _unescaped(text: str) -> str:
    """A text in double quotation marks, of JSON or as a shell has it, without its backslashes."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return re.sub(r"\\(.)", r"\1", text)


def items(text: str) -> str:
    """The words of a list in brackets, for a shell."""
    words = []
    for one in _QUOTED.finditer(text.strip().strip("[],")):
        double, single, bare = one.groups()
        words.append(single or bare or "" if double is None else _unescaped(double))
    return shlex.join(words)


def _item(text: str) -> str:
    """An item of a list: quoted, one word with quotation marks of its own, or several."""
    quoted = _QUOTED.match(text)
    if quoted and quoted[3] is None:
        return items(quoted[0])
    plain = re.sub(r"\s+#.*$", "", text).strip()
    return plain if re.search(r"\s", plain) and "{" not in plain else shlex.quote(plain)


def block(lines: list[str], indent: int) -> str:
    """The command of a list below a key at an indent, a word an item, or of a block of text."""
    words: list[str] = []
    for line in lines:
        bare, depth = line.strip(), len(line) - len(line.lstrip())
        is_item = bare.startswith("- ")
        if bare and depth <= indent and not (is_item and depth == indent):
            break
        if not is_item:  # more of a text, or of the item before
            words.append(f"{bare}\n")
        elif bare[2:].strip() not in _TEXT:
            words.append(_item(bare[2:].strip()))
    return " ".join(word for word in words if word.strip() and not word.startswith("#"))


def given(rest: str, more: list[str], indent: int) -> str:
    """What a key at an indent holds, on its line or in those behind: a list, or a text."""
    rest = "" if rest.strip(" ,") == "null" else rest.strip()
    if rest.startswith("["):
        after = "\n".join([rest, *more])
        whole = _LIST.match(after)
        return items(whole[0] if whole else after)
    quoted = _WHOLE.fullmatch(rest)
    if not quoted and rest[:1] in ("'", '"') and rest.count(rest[0]) % 2:  # closed further down
        quoted = _WHOLE.match(" ".join([rest, *map(str.strip, more)]))
    if quoted:
        return _unescaped(quoted[1]) if quoted[2] is None else quoted[2]
    inner = block(more, indent)
    if rest in _FOLDED:
        inner = " ".join(inner.split("\n"))
    return inner if rest in _TEXT else f"{rest.removesuffix(chr(92))} {inner}"
