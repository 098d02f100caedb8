"""GGUF files by their names, which tell the type of their weights."""

import re
from typing import NamedTuple

from qsjax.records.tables import table

BITS: dict[str, float] = table("catalog/gguf.toml")["bits"]
_OLLAMA = table("catalog/gguf.toml")["ollama"]
_OTHERS = r"TQ\d_0|MXFP4(?:_MOE)?|B?F16|FP16|F32"
_TYPE = re.compile(
    rf"(?i)(?:^|[-_.:/])(I?Q\d_(?:[01]|K(?:_[A-Z]+)?|XXS|XS|S|M|NL)|{_OTHERS})(?=$|[-_.:/])"
)
# What names of GGUF files add to that of a model.
_ADDED = re.compile(rf"(?i)(?:[-_.:](?:gguf|UD|I?Q\d_\w+?|{_OTHERS}|\d{{5}}-of-\d{{5}}))+$")


class Type(NamedTuple):
    """The type of a file's weights as its name spells it, and the one of `BITS` that it counts as.

    The latter is "" for one that is not known.
    """

    name: str
    like: str


def is_named(name: str) -> bool:
    """Whether a name is that of a GGUF file, or of a repository of them."""
    return "gguf" in name.lower() or bool(
        re.search(r"[-_.:](?:I?Q|TQ)\d_\w+$", name, re.IGNORECASE)
    )


def without(name: str) -> str:
    """A name without what those of GGUF files add to it.

    >>> without("unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL"), without("Qwen3-8B-BF16")
    ('unsloth/Qwen3-8B', 'Qwen3-8B-BF16')
    """
    return _ADDED.sub("", name) if is_named(name) else name


def type_of(name: str) -> Type | None:
    """The type that a name tells; None where it tells none.

    Types in `_L` and `_XL` that llama.cpp does not have count as the `_M`, `_L` or plain one of as
    many bits.

    >>> type_of("unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL")
    Type(name='q4_k_xl', like='q4_k_m')
    """
    found = _TYPE.findall(name)
    if not found:
        return None
    told = found[-1].lower()
    stem = re.sub(r"_k_x*l$", "_k", told)
    near = (told, f"{stem}_m", f"{stem}_l", stem, f"{stem.removesuffix('_k')}_0")
    return Type(told, next((one for one in near if one in BITS), ""))


_TAG = re.compile(
    r"(?:ollama(?:_chat)?/|library/)?([a-z][a-z0-9.-]*):"
    r"(latest|e?\d+(?:\.\d+)?(?:x\d+(?:\.\d+)?)?[bm](?:-[\w.-]+)?|scout|maverick|mini|medium|micro)"
)


def of_ollama(name: str) -> tuple[str, str] | None:
    """A tag of Ollama's library without its type, and the type of its weights; None for others.

    >>> of_ollama("llama3.3:latest"), of_ollama("qwen3:4b-instruct-2507-fp16")
    (('llama3.3:70b', 'q4_k_m'), ('qwen3:4b-instruct-2507', 'fp16'))
    """
    found = _TAG.fullmatch(name)
    if found is None or (found[2] == "latest" and found[1] not in _OLLAMA["latest"]):
        return None
    tag = _OLLAMA["latest"][found[1]] if found[2] == "latest" else found[2]
    told, plain = type_of(f"{found[1]}:{tag}"), f"{found[1]}:{_ADDED.sub('', tag)}"
    usual = _OLLAMA["types"].get(plain, _OLLAMA["types"].get(found[1], _OLLAMA["type"]))
    usual = "q4_0" if tag.endswith("-qat") else usual
    return plain, told.like if told else usual
