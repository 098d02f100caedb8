"""Flags of engines: how they are spelled (`flags.toml`), and what they say."""

import dataclasses
import difflib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from qsjax.engines import settings
from qsjax.engines.command_line import split as split
from qsjax.engines.rules import ENGINES, MANY, Engine, Flag, flags_of, load_flags
from qsjax.records.precision import SIZES

_SWITCHED = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_TOLD = ("true", "false")
# What a reader fills in: a variable of a shell without a value, <a number>, {a number}.
_OPEN = re.compile(r"\$[\w{(@*#]|^<.*>$|^\{.*\}$")
_VARIABLE = re.compile(r"\$\{?\w+\}?")
_ARGUMENTS = re.compile(r"[\"']?\$\{?[@*]\}?[\"']?")  # all that a script was started with
# The same as a value within JSON.
_PLACEHOLDER = re.compile(r":\s*(?:<[^<>]*>|\$\{?\w+\}?)(?=\s*[,}])")


@dataclasses.dataclass(slots=True)
class Parsed:
    """What a command line says: by quantity, flags without effect, not read, without a value.

    `settings` are the words that its settings file adds.
    """

    said: dict[str, Any] = dataclasses.field(default_factory=dict)
    ignored: list[str] = dataclasses.field(default_factory=list)
    unread: list[str] = dataclasses.field(default_factory=list)
    open: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    settings: list[str] = dataclasses.field(default_factory=list)


def engine_of(flags: str | Sequence[str]) -> Engine:
    """Which engine a command line is for, by its program or by flags that only one has.

    >>> engine_of("vllm serve m -tp 8")
    'vllm'
    >>> engine_of("--tp-size 8 --enable-dp-attention")
    'sglang'
    """
    engine, words, *_ = split(flags)
    if engine:
        return engine
    names = [_name(word) for word in words if word.startswith("-")]
    spelled = {one: [flag for flag in names if flag in flags_of(one)] for one in ENGINES}
    # `--tp_size` is SGLang's and TensorRT-LLM's; the first of equals wins.
    return max(ENGINES, key=lambda one: len(spelled[one]))


def _name(word: str) -> str:
    """A flag without its value, with dashes."""
    return word.split("=", 1)[0].replace("_", "-")


def _resolve(name: str, engine: Engine) -> tuple[Flag | None, bool]:
    """The flag that a spelling means, and whether a `--no-` turns it off.

    Raises:
        ValueError: the name is short for several flags.
    """
    known = flags_of(engine)
    base = name.split(".", 1)[0]
    if re.fullmatch(r"-O\d", name):
        return Flag("O", "unread", 0), False
    for spelled in (name, base):
        if spelled in known:
            return known[spelled], False
        if spelled.startswith("--no-") and f"--{spelled[5:]}" in known:
            return known[f"--{spelled[5:]}"]._replace(values=0), True
    if not name.startswith("--") or len(base) < 4:
        return None, False
    if (short := known.get(name[1:])) and short.effect == "read":
        raise ValueError(f"{name}: a short name has one dash; write {name[1:]}")
    longer = {flag for spelled, flag in known.items() if spelled.startswith(base)}
    meanings = {(flag.effect, flag.quantity, flag.values) for flag in longer}
    if len(meanings) > 1 and not any(flag.effect == "read" for flag in longer):
        # Older releases had fewer flags, of which it was short for one; none of them is read.
        return Flag(base.lstrip("-"), "unread", max(flag.values for flag in longer)), False
    if len(meanings) > 1:
        names = ", ".join(sorted(f"--{flag.name}" for flag in longer))
        raise ValueError(f"{name}: short for several flags: {names}; give one of them")
    return next(iter(longer), None), False


def _number(name: str, flag: str, text: str) -> float | None:
    if name == "context" and text in ("auto", "-1"):
        return None  # the longest that the engine finds room for
    powers = {"k": 1, "m": 2, "g": 3} if name in ("context", "batched_tokens") else {}
    power = powers.get(text[-1:].lower(), 0)
    scale = (1000.0 if text[-1:].islower() else 1024.0) ** power
    try:
        value = float(text[:-1] if power else text) * scale
    except ValueError:
        value = float("nan")
    if name.endswith("_fraction"):
        if not 0 < value <= 1:
            raise ValueError(f"{flag}: {text} is not a share; give a number above 0, at most 1")
    elif value != value:
        raise ValueError(f"{flag}: {text!r} is not a number; give a whole number of at least 1")
    elif not (value >= 1 and value < float("inf")) or (
        name in load_flags()["whole"] and value != int(value)
    ):
        raise ValueError(f"{flag}: {text} is not allowed; give a whole number of at least 1")
    return value


def _speculative(flag: str, text: str) -> dict[str, Any]:
    """What vLLM's JSON of speculation says, by quantity."""
    try:
        found = json.loads(_PLACEHOLDER.sub(": null", text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{flag}: {text!r} is not JSON ({error.msg}); quote it whole") from None
    if not isinstance(found, dict):
        raise ValueError(f'{flag}: {text!r} is not a JSON object such as {{"method": "mtp"}}')
    said = {}
    names = {"num_speculative_tokens": "drafts", "method": "drafter", "model": "draft_model"}
    for key, name in names.items():
        if found.get(key) is not None:
            said[name] = _value(name, f"{flag}.{key}", str(found[key]))
    return said


def sizes_of(kind: Literal["cache", "state"]) -> dict[str, float]:
    """Bytes of an element of the cache or of a recurrent state by the name of its dtype [B]."""
    return SIZES | load_flags()[f"bytes_of_{kind}"]


def _value(name: str, flag: str, text: str) -> Any:
    rules = load_flags()
    allowed: dict[str, dict[str, Any]] = {
        "kv_dtype": sizes_of("cache"),
        "state_dtype": sizes_of("state"),
        "states_dtype": sizes_of("state"),
        "quantization": rules["dtype_of_weights"] | rules["loaders"],
    }
    if name in allowed:
        if text.lower() in ("none", "auto"):
            return None
        if text.lower() not in allowed[name]:
            known = ", ".join(allowed[name])
            raise ValueError(f"{flag}: {text!r} is not modelled; known: {known}")
        return text.lower() if name == "quantization" else float(allowed[name][text.lower()])
    if name in ("model", "draft_model", "expert_backend", "expert_kernels", "dtype"):
        return text
    if name in ("drafter", "cp_type"):
        return text.lower()
    if name == "speculative":
        return _speculative(flag, text)
    return _number(name, flag, text)


def _take(words: list[str], at: int, most: int) -> list[str]:
    """The values that follow a flag, at most so many; a negative number is one."""
    following = words[at : at + most]
    return list(itertools.takewhile(lambda word: re.match(r"-(?!\d)", word) is None, following))


def _note(parsed: Parsed, word: str, flag: Flag, values: list[str], is_off: bool) -> None:
    """Enter one known flag."""
    name = _name(word)
    said = " ".join(values)
    is_text = flag.quantity in ("model", "speculative")  # JSON has braces of its own
    is_open = _VARIABLE.fullmatch(said) if is_text else _OPEN.search(said)
    if flag.effect == "read" and flag.quantity != "model" and is_open:
        parsed.open.append(f"{name} {' '.join(values)}")
    elif flag.effect != "read":
        (parsed.ignored if flag.effect == "none" else parsed.unread).append(name)
    elif flag.values == 0:
        given = values[0].lower() if values else "true"
        if given not in _SWITCHED:
            parsed.problems.append(f"{name}: {values[0]!r} is neither true nor false")
        parsed.said[flag.quantity] = not is_off and _SWITCHED.get(given, False)
    elif not values:
        parsed.problems.append(f"{name}: its value is missing")
    elif flag.quantity == "speculative" and "." in name:
        parsed.unread.append(name)  # a key of it that is not read
    elif flag.quantity == "config":
        pass  # its flags stand among the words, or why it cannot be read among the problems
    else:
        try:
            value = _value(flag.quantity, name, values[0])
            parsed.said |= value if isinstance(value, dict) else {flag.quantity: value}
        except ValueError as error:
            parsed.problems.append(str(error))


def _with_settings(words: list[str], engine: Engine, files: Mapping[str, str]) -> list[str]:
    """The words, with those of a settings file, which TensorRT-LLM lets win."""
    known = flags_of(engine)
    for at, word in enumerate(words):
        flag = known.get(_name(word))
        if flag is not None and flag.quantity == "config":
            inline = word.split("=", 1)[1:]
            path = inline or words[at + 1 : at + 2]
            rest = words[:at] + words[at + 1 + (not inline) :]
            if not path:
                raise ValueError(f"{word}: its value is missing; give a YAML file")
            # Manifests and containers mount their files in a folder of their own.
            name = PurePosixPath(path[0]).name
            alike = (text for one, text in files.items() if PurePosixPath(one).name == name)
            text = files.get(path[0], next(alike, None))
            if text is None and _OPEN.search(path[0]):
                return words
            more = settings.read(path[0], text)
            if engine == "trtllm":
                return rest + more
            # In front of the flags of the line, which win, but behind the model.
            lead = 1 if rest and not rest[0].startswith("-") else 0
            return rest[:lead] + more + rest[lead:]
    return words


def parse(words: list[str], engine: Engine, files: Mapping[str, str] | None = None) -> Parsed:
    """What the words after the program say; `files` are settings beside those on the disk.

    Raises:
        ValueError: with every misspelt flag and bad value.
    """
    parsed = Parsed()
    given = words
    try:
        words = _with_settings(words, engine, files or {})
    except ValueError as error:
        parsed.problems.append(str(error))
    parsed.settings = [word for word in words if word not in given]
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-"):
            if _ARGUMENTS.fullmatch(word):
                parsed.unread.append(word)
                continue
            held = str(parsed.said.get("model", ""))
            if _VARIABLE.fullmatch(held) and not _OPEN.match(word):  # of flags, as it proves
                parsed.unread.append(parsed.said.pop("model"))
            elif "model" in parsed.said:
                parsed.unread.append(word)
            parsed.said.setdefault("model", word)
            continue
        name, inline = _name(word), word.split("=", 1)[1:]
        try:
            flag, is_off = _resolve(name, engine)
            if flag is None:
                flag = _unknown(name, engine)
        except ValueError as error:
            parsed.problems.append(str(error))
            at += len(_take(words, at, MANY))
            continue
        values = inline or _take(words, at, flag.values)
        if not flag.values and not inline and words[at : at + 1] and words[at].lower() in _TOLD:
            values = [words[at]]  # `--enforce-eager true`
        at += 0 if inline else len(values)
        _note(parsed, word, flag, values, is_off)
    if parsed.problems:
        raise ValueError("\n".join([f"{engine} flags:", *(f"  {p}" for p in parsed.problems)]))
    return parsed


# What engines call by flags of another kind: the ranks of expert parallelism, or that there is any.
_ALIKE = {"expert_parallel": "ep", "ep": "expert_parallel"}


def _own(name: str, other: Engine, engine: Engine) -> str:
    """What an engine calls that which a flag of another one says; "" where it has no such flag."""
    meant = flags_of(other)[name].quantity
    known = [(spelled, flag.quantity) for spelled, flag in flags_of(engine).items()]
    for quantity in (_ALIKE.get(meant), meant):
        own = [spelled for spelled, said in known if said == quantity]
        if own:
            return f", which has {own[0]}"
    return ""


def _unknown(name: str, engine: Engine) -> Flag:
    """An unknown flag is one that is not read.

    Raises:
        ValueError: it looks like one that is read, or is one of another engine.
    """
    others = [one for one in ENGINES if one != engine and name in flags_of(one)]
    for other in others:
        if flags_of(other)[name].effect == "read":
            raise ValueError(
                f"{name}: a flag of {other}, not of {engine}{_own(name, other, engine)}"
            )
    known = [spelled for spelled, flag in flags_of(engine).items() if flag.effect == "read"]
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.8)
    if near:
        raise ValueError(f"{name}: unknown flag; did you mean {' or '.join(near)}?")
    return Flag(name, "unread", 0 if name.startswith("--no-") else MANY)
