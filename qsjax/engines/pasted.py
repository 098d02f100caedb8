"""Command lines as people paste them: out of manifests, container files, chats."""

import re
import shlex

# What holds a command in manifests and container files, and what a list there looks like.
_HELD = re.compile(
    r"^(?P<indent>[ \t]*)(?P<item>-[ \t]+)?['\"]?"
    r"(?:command|args|entrypoint|run|CMD|ENTRYPOINT)['\"]?"
    r"(?:[ \t]*:|(?=[ \t]*\[))[ \t]*(?P<rest>.*)$"
)
_TEXT = ("", ">", ">-", "|", "|-")  # a block of text follows
_QUOTED = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s,\[\]]+))\s*,?""")
_CALL = re.compile(r"^\s*[\w.= ]*\b(?:run|Popen|check_call|call)\((\[.*?\])", re.DOTALL)
_IMAGE = re.compile(r"^\s*(?:-\s+)?['\"]?image['\"]?\s*:\s*['\"]?([^\s'\"]+)", re.MULTILINE)


def _items(text: str) -> str:
    """The words of a list in brackets, for a shell."""
    words = []
    for one in _QUOTED.finditer(text.strip().strip("[],")):
        double, single, bare = one.groups()
        words.append(
            re.sub(r"\\(.)", r"\1", double) if double is not None else single or bare or ""
        )
    return shlex.join(words)


def _item(text: str) -> str:
    """An item of a list: quoted, one word with quotation marks of its own, or several."""
    quoted = _QUOTED.match(text)
    if quoted and quoted[3] is None:
        return _items(quoted[0])
    plain = re.sub(r"\s+#.*$", "", text).strip()
    return plain if re.search(r"\s", plain) and "{" not in plain else shlex.quote(plain)


def _block(lines: list[str], indent: int, is_item: bool) -> str:
    """The command of an indented list, a word an item, or of a block of text."""
    inside: list[str] = []
    for line in lines:
        bare, depth = line.strip(), len(line) - len(line.lstrip())
        is_list = bare.startswith("- ") and not is_item
        if bare and depth <= indent and not (is_list and depth == indent):
            break
        inside.append(bare)
    words: list[str] = []
    for bare in inside:
        if not bare.startswith("- "):  # more of a text, or of the item before
            words.append(f"{bare}\n")
        elif bare[2:].strip() not in _TEXT:
            words.append(_item(bare[2:].strip()))
    return " ".join(word for word in words if word.strip() and not word.startswith("#"))


def command_in(text: str) -> tuple[str, str]:
    """The command that a manifest, a container file or a call holds, and the image that runs it.

    Manifests are those of Compose, Kubernetes and SkyPilot. Entry point, command and arguments
    follow each other. Any other text is what it was, without an image.

    >>> command_in('CMD ["vllm", "serve", "m", "-tp", "4"]')
    ('vllm serve m -tp 4', '')
    """
    call = _CALL.match(text)
    if call:
        return _items(call[1]), ""
    lines, parts = text.splitlines(), list[str]()
    for at, line in enumerate(lines):
        key = _HELD.match(line)
        if key is None:
            continue
        rest = key["rest"].strip()
        if rest.startswith("["):
            after = "\n".join([rest, *lines[at + 1 :]])
            parts.append(_items(after[: after.find("]") + 1] if "]" in after else after))
        else:
            more = _block(lines[at + 1 :], len(key["indent"]), bool(key["item"]))
            parts.append(more if rest in _TEXT else f"{rest} {more}")
    if not any(parts):
        return text, ""
    image = _IMAGE.search(text)
    return " ".join(parts), image[1] if image else ""


# What word processors and chats make of dashes and quotation marks.
_TYPED = (
    (re.compile(r"(?:(?<=\s)|^)[\u2013\u2014\u2212]-?(?=\w{2,})"), "--"),
    (re.compile(r"(?:(?<=\s)|^)[\u2013\u2212](?=\w\b)"), "-"),
    (re.compile("[\u201c\u201d\u201e]"), '"'),
    (re.compile("[\u2018\u2019]"), "'"),
    (re.compile("[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"[ \t][`^][ \t]*\n"), " "),  # how other shells go on in the next line
    (re.compile(r"\A\s*[$%>-][ \t]+"), ""),  # a prompt
)


def as_typed(text: str) -> str:
    """A text with the dashes and quotation marks that its writer typed, without a prompt."""
    for pattern, typed in _TYPED:
        text = pattern.sub(typed, text)
    return text
