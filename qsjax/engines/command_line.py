"""A command line in parts: which engine's program it starts, and the words after it."""

import difflib
import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from qsjax.engines import pasted

Engine = Literal["vllm", "sglang", "trtllm"]
# What names a program, a module or an image of each engine.
NAMES: dict[str, Engine] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm": "trtllm",
    "trtllm-serve": "trtllm",
    "tensorrt_llm": "trtllm",
    "sglang_router": "sglang",  # its launch_server starts servers too
}
_CONTAINERS = ("docker", "podman", "nerdctl")
_IMAGE = re.compile(
    r"^(?=.*/)(?:.*/)?[\w.-]*?(vllm|sglang|tensorrt-llm|trtllm)[^/:]*(/[\w.-]+)?([:@][^/]*)?$"
)
_BEFORE_NO_IMAGE = ("-v", "--volume", "-e", "--env", "--name", "--mount", "-w", "--network")
_PATH = re.compile(r"\w[\w.-]*(/[\w.-]+)+(:\S+)?")
_VERBS = ("bench", "chat", "complete")  # of vLLM, beside `serve`: they measure, or ask a server
_END = re.compile(r"(\d?>>?.*|&>.*|\|\|?|&&?|;|\)|#.*)$")  # what the shell does after the program


# `cat > FILE << EOF`, in any order
_HERE = re.compile(
    r"^(?P<line>[^\n]*)<<-?\s*(?P<q>['\"]?)(?P<end>\w+)(?P=q)(?P<rest>[^\n]*)\n(?P<text>.*?)\n"
    r"[ \t]*(?P=end)[ \t]*(?:\n|$)",
    re.DOTALL | re.MULTILINE,
)
_WRITTEN = re.compile(r"(?:>>?|\btee(?: -a)?)\s*['\"]?([^\s|;&<>'\"]+)")


class Command(NamedTuple):
    """One command: the engine of its program, None without one, and the words after that.

    `files` are the settings that the same script writes, by path.
    """

    engine: Engine | None
    words: list[str]
    files: Mapping[str, str]


def _shell(line: str) -> list[str]:
    lines = [one for one in line.splitlines() if not one.lstrip().startswith("#")]
    # Recipes put comments behind the backslash, where a shell would end the command.
    joined = re.sub(r"\\[ \t]*(?:[ \t]#[^\n]*)?(\n|$)", " ", "\n".join(lines))
    try:
        return shlex.split(joined)
    except ValueError as error:
        raise ValueError(f"flags:\n  {error} in {line!r}; close every quotation mark") from None


def _files(text: str) -> tuple[str, list[tuple[str, str]]]:
    """A script without the files that it writes in place, and those: path and what is appended."""
    found = [
        (path[1], here["text"])
        for here in _HERE.finditer(text)
        if (path := _WRITTEN.search(f"{here['line']} {here['rest']}"))
    ]
    return _HERE.sub("\n", text), found


def _words(words: list[str]) -> list[str]:
    # `bash -c "vllm serve ..."`
    quoted = [
        word for word in words if re.search(r"\S*(vllm|sglang|trtllm)\S*\s.*\s-", word, re.DOTALL)
    ]
    if quoted and not quoted[0].startswith("-"):
        # `CMD="vllm serve ..."`, `CMD+=" ..."`
        name = re.match(r"\w+(?==)", quoted[0])
        more = [word for word in words if name and word.startswith(f"{name[0]}+=")]
        words = [
            *words[: words.index(quoted[0])],
            *_shell(" ".join([quoted[0], *(word.split("=", 1)[1] for word in more)])),
        ]
    return [word for word in words if word.strip() and word != "\\"]


def _expanded(words: list[str], before: list[str]) -> list[str]:
    """The words with the variables that stand in front of the program, and with stated defaults."""
    pairs = [word.split("=", 1) for word in before if re.match(r"[A-Za-z_]\w*=", word)]
    values = {name: value.rstrip(";") for name, value in pairs}
    if {"else", "elif", "esac"} & set(before):  # which of its values holds is not known
        several = {n for n, value in pairs if value.rstrip(";") != values[n]}
        values = {name: value for name, value in values.items() if name not in several}

    def value(found: re.Match[str]) -> str:
        name, default = found[1] or found[3], found[2]
        return values.get(name) or (found[0] if default is None else default)

    full = [re.sub(r"\$(?:\{(\w+)(?::?-([^{}]*))?\}|(\w+))", value, word) for word in words]
    return [word for word in full if word]


def _module(word: str) -> Engine | None:
    """Engine of `python -m WORD` or of a script; `dynamo.vllm` passes its flags on to vLLM."""
    for part in re.split(r"[./]", word):
        if part in NAMES:
            return NAMES[part]
    return None


def _start(words: list[str]) -> tuple[Engine | None, int]:
    """The engine and the place of the first word after its program."""
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else ""
        program = NAMES.get(PurePosixPath(word).name)
        module = _module(after) if word == "-m" and "launch_router" not in after else None
        if module:
            return module, at + 2
        # A path may be a model's or an option's: a program stands in front of `serve`, or first.
        if program and (after == "serve" or word.endswith("trtllm-serve")):
            return program, at + 1 + (after == "serve") + (words[at + 1 : at + 3] == ["serve"] * 2)
        if word.endswith(".py") and _module(word):
            return _module(word), at + 1
    for at, word in enumerate(words):
        if word.startswith("-"):
            break
        if PurePosixPath(word).name in NAMES:
            return NAMES[PurePosixPath(word).name], at + 1
    is_container = any(PurePosixPath(word).name in _CONTAINERS for word in words[:3])
    for at, word in enumerate(words if is_container else ()):
        image = _IMAGE.match(word)
        if image and words[at - 1] not in _BEFORE_NO_IMAGE and not word.startswith(("-", "/", "~")):
            return NAMES[image[1].replace("tensorrt-llm", "tensorrt_llm")], at + 1
    return None, 0


def _program(words: list[str]) -> str:
    """Name of a program that is no engine's: of its Python module or its container's image."""
    if "python" in PurePosixPath(words[0]).name and words[1:2] == ["-m"] and len(words) > 2:
        return words[2]
    if any(PurePosixPath(word).name in _CONTAINERS for word in words[:3]):
        for before, word in itertools.pairwise(words):
            if before not in _BEFORE_NO_IMAGE and _PATH.fullmatch(word):
                return word
    return PurePosixPath(words[0]).name


def _dashless(words: list[str]) -> str:
    if any(word.startswith("-") for word in words):
        return ""
    return f", and no flag (which starts with a dash) is in {' '.join(words)!r}"


def split(flags: str | Sequence[str]) -> Command:
    """The engine and flags of a command line; variables, launchers and containers are dropped.

    Raises:
        ValueError: the program is none of an engine that is read.

    >>> split("VLLM_USE_V1=1 vllm serve m -tp 8 > log")
    Command(engine='vllm', words=['m', '-tp', '8'], files={})
    """
    words: list[str] = [flags] if isinstance(flags, str) else list(flags)
    written: list[tuple[str, str]] = []
    if len(words) == 1:  # a whole command line, quoted in the shell
        text, written = _files(pasted.as_typed(words[0]))
        text, image = pasted.command_in(text)
        words = _shell(text)
        if image and _start(_words(words))[0] is None:
            words = ["docker", "run", image, *words]
    words = _words(words)
    engine, at = _start(words)
    while engine is None and at < len(words) and re.match(r"[A-Za-z_]\w*=", words[at]):
        at += 1
    rest = words[at:]
    if engine is None and rest and not rest[0].startswith("-"):
        raise ValueError(
            f"flags:\n  {_program(rest)!r} is no engine whose flags are read{_dashless(rest)}; "
            "give the command line of vllm serve, sglang serve (or their Python modules) or "
            "trtllm-serve"
        )
    if engine == "vllm" and rest and rest[0] in _VERBS and words[at - 1] != "serve":
        if rest[0] != "bench" or rest[1:2] == ["serve"]:
            raise ValueError(
                f"flags:\n  `vllm {' '.join(rest[: 1 + (rest[0] == 'bench')])}` is a client; give "
                "the command line of its server"
            )
        rest = rest[2:]
    is_bare = bool(engine and rest) and "serve" not in (words[at - 1], rest[0])
    if is_bare and difflib.get_close_matches(rest[0], ["serve"], cutoff=0.75):
        raise ValueError(
            f"flags:\n  {rest[0]!r} is no command of {words[at - 1]}; did you mean `serve`?"
        )
    ends = [i for i, word in enumerate(rest) if _END.match(word)]
    rest = _expanded(rest[: ends[0]] if ends else rest, words[:at])
    texts: dict[str, str] = {}
    for path, text in written:
        name, *lines = _expanded([path, *text.splitlines()], words[:at])
        texts[name] = "\n".join([texts.get(name, ""), *lines])
    return Command(engine, rest, texts)
