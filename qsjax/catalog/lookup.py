"""Finds entries: by a forgiving name in the package's data, or in a file of the user's."""

import dataclasses
import difflib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from qsjax.catalog import gguf, huggingface, toml, toml_hardware, toml_models
from qsjax.catalog.entries import HardwareEntry, ModelEntry
from qsjax.catalog.modules import WHOLE, Format
from qsjax.catalog.quantisation import ALGORITHMS
from qsjax.records.conversion import kind_of
from qsjax.records.precision import Stored, precision_of
from qsjax.records.specs import Dtype
from qsjax.records.tables import table
from qsjax.records.units import GB

NAME_MAX = 255  # bytes that file systems allow in the name of a file
_DATA = resources.files("qsjax.catalog") / "data"
_KINDS = {"models": "model", "hardware": "accelerator"}
_OWN = {
    "models": "a folder with a config.json, or a .toml file (docs/guides/your-own-model.md)",
    "hardware": "a .toml file (docs/guides/your-own-hardware.md)",
}
_WORDS = {name: "|".join(words.split()) for name, words in table("catalog/names.toml").items()}
_VARIANT = re.compile(rf"({_WORDS['variants']})$")
# Formats of weights by what names call them; `quantisation.ALGORITHMS` has them.
FORMATS: dict[str, str] = table("catalog/quantisation.toml")["names"]
_FORMAT = re.compile(rf"({'|'.join(FORMATS)})(v\d)?$")
# The size in the name of a base, to which fine-tunes add words, and those that mean something else.
_SIZED = re.compile(r"\d[bm]\d?$")
_NO_TUNE = re.compile(_WORDS["other_models"])
# Lengths of contexts in names of fine-tunes.
_LENGTH = re.compile(r"(\d{1,4})k|(\d)m")


# Where a model comes from, which of its revisions, and how OpenRouter picks a provider of it
# (https://openrouter.ai/docs, model variants): none says what it is.
PLACE = re.compile(
    r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.cn/models)/|^models--|^HF://"
    r"|(?<=[\w)])(?:@(?:main|master|latest|(?:sha256:)?[0-9a-f]{7,64}|v?\d[\d.]*|refs/[\w./-]+)"
    r"|:(?:main|latest|[0-9a-f]{7,40}|free|beta|extended|nitro|floor|exacto|online)"
    r"|/(?:tree|blob|resolve)/\S*)$"
)


# What starts an engine, or its flags, around the name of a model.
_COMMAND = re.compile(
    r"^\S+ (?:serve|run|pull|launch|-m) \S|\s(?:--[a-z]|-[a-z]+ \S)", re.IGNORECASE
)

# Who makes an accelerator, as nvidia-smi and amd-smi print it in front of its name, and its board.
_MAKER = re.compile(
    r"^(?:nvidia|amdinstinct|amd|intel|habana|huawei)?(?:[hd]gx(?!spark|station))?(?=.)"
)


# What clouds and drivers add to a name, none of which tells two parts apart.
_BESIDE = re.compile(
    r"[()\u00ae\u2122]|(?<![a-z\d])(?:aws|google|cloud|npu|gpu|instinct|nvlink|hbm3|ampere|hopper)(?![a-z\d])",
    re.IGNORECASE,
)

# "8xH100", "8 x NVIDIA H100", "H100 x8", "2*H200", "H100:8", Lambda's "gpu_8x_h100_sxm5".
_COUNT = re.compile(
    r"^(?:gpu_)?(\d{1,4}) ?[x\u00d7*][ _]?(?=[a-z])"
    r"|(?:(?<=[\dsg])|[\s-])[x\u00d7*] ?(\d{1,4})$|:(\d{1,4})$",
    re.IGNORECASE,
)
# Slices of TPUs: "v6e-8" counts chips, "v5p-8" cores, two a chip (https://cloud.google.com/tpu/docs).
_SLICE = re.compile(r"(?:tpu[ _-]?)?(v(?:5e|5litepod|6e|(4|5p)))-(\d{1,5})", re.IGNORECASE)
_SIZE = re.compile(r"[\s_-](\d{2,3}) ?g(?:i?b)?$", re.IGNORECASE)
# Four parts of one name differ in their memory; binary units and spare dies make it differ by less.
_NEAR, _SPARE = 0.1, 0.02


# Machines of clouds, by name: their accelerator, and how many.
_MACHINES = {
    name.lower(): (chip, int(count))
    for chip, counts in table("catalog/instances.toml").items()
    for count, names in counts.items()
    for name in names.split()
}


def counted(name: str) -> tuple[str, int]:
    """An accelerator's name without how many it counts, and how many; 1 where it counts none.

    >>> counted("2xH100-80GB"), counted("h200"), counted("g6e.12xlarge"), counted("v5p-8")
    (('H100-80GB', 2), ('h200', 1), ('l40s', 4), ('tpu-v5p', 4))
    """
    if machine := _MACHINES.get(name.strip().lower().removeprefix("ml.")):
        return machine
    if cut := _SLICE.fullmatch(name.strip()):
        return f"tpu-{cut[1]}", max(1, int(cut[3]) // (2 if cut[2] else 1))
    found = _COUNT.search(name.strip())
    if found is None:
        return name, 1
    return _COUNT.sub("", name.strip()).strip(), int(found[1] or found[2] or found[3])


# Keys of manifests, scripts and programs that choose an accelerator, with what they are given: the
# rest of the line, a list below it, or what a rule of affinity takes.
_PLACED = re.compile(
    r"(?:--(?:gpu|accelerator|machine-type|vm-size|instance-type|shape)[\w-]{0,20} |^#SBATCH -G "
    r"|(?:gpu|accelerator|(?:instance|machine)[_-]?type|vm[_-]?size|\bsku|\bshape)[\w./-]{0,40}[\"']?"
    r"(?:[ \t]{0,9}[:=]|\s{1,40}operator:[ \t]{0,9}[\"']?In[\"']?\s{1,40}values:))"
    r"([^\n]{0,200}(?:\n[ \t]*- [^\n]{1,80}){0,20})",
    re.IGNORECASE | re.MULTILINE,
)
_PARTED = re.compile(r"[,\[\]{}\"'=:!#\\\n]|(?:^|\s)-+(?:[\w-]{1,20}\s)?")


def placed(text: str) -> set[str]:
    """The accelerators of the catalogue on which a manifest, a script or a program asks to run.

    >>> sorted(placed("accelerators: {H200:8, B200:8}")), placed("sbatch --gres=gpu:h100:8")
    (['b200-sxm', 'h200-sxm'], {'h100-sxm'})
    """
    words = {word.strip() for one in _PLACED.findall(text) for word in _PARTED.split(one)}
    found = {_match("hardware", counted(word)[0]) for word in words if 1 < len(word) < 60}
    return {one.entry for one in found if one}


def _off(entry: HardwareEntry, size: float) -> float:
    """By what share so many GB miss the memory of an accelerator."""
    return abs(size * GB / float(entry.spec.hbm_bytes) - 1.0)  # type: ignore[arg-type]  # a float here


def has_memory(entry: HardwareEntry, *sizes: float) -> bool:
    """Whether an accelerator has one of so many GB."""
    return any(_off(entry, size) <= _NEAR for size in sizes)


def _is_nearest(entry: str, size: float) -> bool:
    """Whether an accelerator has so many GB, and no sibling has them more nearly."""
    family = f"{entry.partition('-')[0]}-"
    alike = (one for one in names("hardware") if one == entry or one.startswith(family))
    nearest = min(_off(_hardware(one), size) for one in alike)
    return _off(_hardware(entry), size) <= min(_NEAR, nearest + _SPARE)


def canonical(name: str) -> str:
    """A name without case and separators: "DeepSeek-V3" and "deepseek_v3" are one.

    The separator before a size and the point within it count: "gemma-3-1b" is not "gemma-31b",
    nor "opt-1.3b" "opt-13b". Google's "-it" is read as "-instruct": "4b-it" is not "4bit".
    """
    plain = re.sub(r"(?<=\d)\.(?=\d+[bm](?![a-z0-9]))", "point", name.lower())
    plain = re.sub(r"(?<=\d)[^a-z0-9]+(?=\d+(?:point\d+)?[bm](?![a-z0-9]))", "~", plain)
    return re.sub(r"[^a-z0-9~]", "", re.sub(r"[-_. ]it(?![a-z0-9])", "instruct", plain))


# Publishers whose own checkpoints in FP8 have a scale for every square block of so many weights a
# side, but for those that their names call static (config.json of Qwen3-235B-A22B-FP8); so have
# those that say FP8-block (FP8_BLOCK of https://github.com/vllm-project/compressed-tensors,
# quant_scheme.py).
_BLOCKS = {"qwen": 128}
_ONE_SCALE = re.compile(r"static|pertensor|dynamic")


class _Match(NamedTuple):
    """The entry of a name, and the format of weights that the name tells beside it.

    `block` is how many weights in a row share a scale there, `context` the longest that is
    published under that name, `bits` those of a weight of a GGUF file; 0 where that is not known or
    the entry's. `said`: what a note says of the format, where the name alone does not tell it.
    `checkpoint`: its spelling where its files are known to say more than its name.
    """

    entry: str
    format: str = ""
    block: int = 0
    is_tune: bool = False
    context: int = 0
    bits: float = 0.0
    said: str = ""
    checkpoint: str = ""


def _length(word: str) -> int:
    """Tokens of a context as a name has it, 0 for none: "128k" is 131,072, "200k" 200,000."""
    found = _LENGTH.fullmatch(word)
    if found is None:
        return 0
    if found[2]:
        return int(found[2]) * 1_000_000
    number = int(found[1])
    return number * (1000 if number & (number - 1) else 1024)


def _tuned(name: str) -> _Match | None:
    """The entry of the base that the name of a fine-tune holds, in the format that it ends with.

    >>> _tuned("NousResearch/Hermes-3-Llama-3.1-405B-FP8")[:4]
    ('llama-3.1-405b', 'fp8', 0, True)
    """
    index, words = _index("models"), re.split(r"[-_ ]+", name.rpartition("/")[2])
    places = itertools.combinations(range(len(words) + 1), 2)
    for start, end in sorted(places, key=lambda place: place[0] - place[1]):
        base = canonical("-".join(words[start:end]))
        if base not in index or not any(map(_SIZED.search, map(str.lower, words[start:end]))):
            continue
        after = [canonical(word) for word in words[end:]]
        kept = [word for word in after if _FORMAT.search(word) or _VARIANT.search(word)]
        added = {*map(canonical, words[:start]), *after} - {*kept}
        if any(map(_NO_TUNE.search, added)) or added.intersection(_index("hardware")):
            return None
        found = _match("models", "-".join([base, *kept])) if added else None
        longest = max(map(_length, added), default=0)
        return found and found._replace(is_tune=True, context=longest or found.context)
    return None


def _match(kind: str, name: str) -> _Match | None:
    """The entry of a name: as given, without the organisation, without variant suffixes."""
    if "=" in name or _COMMAND.search(name):  # a change behind a name, `NAME:kv=fp8`, or flags
        return None
    name = PLACE.sub("", name) if kind == "models" else name
    if "@" in name:  # more than a name: `compare` has MODEL@ACCELERATOR
        return None
    before, _, last = name.rpartition("/")
    tail = canonical(last)
    if kind == "hardware":
        # "A100 / H100" and "h100/h200" are two, not the last.
        are_two = " / " in name or (before and _match(kind, before))
        tail = "" if are_two else _MAKER.sub("", tail)
    for candidate in (canonical(name), tail):
        if candidate in _index(kind):
            return _Match(_index(kind)[candidate], context=_contexts().get(tail, 0))
    return _bare_accelerator(name) if kind == "hardware" else _variant(name, tail)


def _bare_accelerator(name: str) -> _Match | None:
    """The accelerator of a name without a count of one, its memory, and what clouds add."""
    one, count = counted(name)
    if count == 1 and one != name:
        return _match("hardware", one)
    if size := _SIZE.search(name):
        bare = _match("hardware", name[: size.start()])
        return bare if bare and _is_nearest(bare.entry, float(size[1])) else None
    plain = _BESIDE.sub(" ", name).strip(" _-")
    return _match("hardware", plain) if plain and plain != name.strip() else None


def _variant(name: str, tail: str) -> _Match | None:
    """The model of a name without its suffixes, in the format that they tell, or of a fine-tune."""
    told: list[str] = []
    while tail not in _index("models"):
        end = _FORMAT.search(tail)
        shorter = tail[: end.start()] if end else _VARIANT.sub("", tail)
        if shorter == tail:
            return _tuned(name)
        told += [end[1]] if end else []
        tail = shorter
    form, known = _weights(told), canonical(name)
    publisher, _, own = (canonical(part) for part in name.rpartition("/"))
    square = _BLOCKS.get(publisher, 128 if "block" in own else 0)
    return _Match(
        _index("models")[tail],
        form,
        square if form == "fp8" and not _ONE_SCALE.search(known) else 0,
        context=_contexts().get(tail, 0),
        checkpoint=known if known in _checkpoints() else "",
    )


def _weights(told: Sequence[str]) -> str:
    """The format of the weights among those that a name tells, "" of none.

    The widest are of activations or of the cache (MXFP4-KV-FP8); AWQ alone is of 4 bits, but
    AWQ-8bit is not.
    """
    sized = [name for name in told if re.search(r"\d", name)] or told
    return min(sized, key=lambda x: ALGORITHMS.get(FORMATS[x], WHOLE).stored, default="")


@cache
def _stored(kind: str) -> dict[str, toml.Document]:
    """Name and document of every entry of a kind, in alphabetical order."""
    found: dict[str, Traversable] = {
        item.name.removesuffix(".toml"): item
        for item in (_DATA / kind).iterdir()
        if item.name.endswith(".toml")
    }
    return {name: toml.parse(found[name].read_text("utf-8"), name) for name in sorted(found)}


def _spellings(*given: str) -> set[str]:
    """Names with and without those who publish under them."""
    return {canonical(one) for name in given for one in (name, name.rpartition("/")[2])}


@cache
def _contexts() -> dict[str, int]:
    """Longest contexts by the spellings under which models are published for others [tokens]."""
    return {
        spelling: int(longest)
        for document in _stored("models").values()
        for name, longest in document.table.get("contexts", {}).items()
        for spelling in _spellings(name)
    }


@cache
def _checkpoints() -> dict[str, dict[str, Any]]:
    """What the files of checkpoints say beside their names, by their spellings."""
    told = table("catalog/quantisation.toml")["checkpoints"]
    return {canonical(name): own for name, own in told.items()}


@cache
def _index(kind: str) -> dict[str, str]:
    """Entries by their spellings, and models by those without what tells of their training.

    The latter never stand in for a spelling of another entry.
    """
    index: dict[str, str] = {}
    for name, document in _stored(kind).items():
        aliases = (*toml.texts_of(document, "aliases"), *document.table.get("contexts", ()))
        index |= dict.fromkeys(_spellings(name, *aliases), name)
    if kind == "models":
        for spelling, name in tuple(index.items()):
            index.setdefault(_VARIANT.sub("", spelling), name)
    return index


def names(kind: str) -> tuple[str, ...]:
    """The names of all entries of a kind ("models" or "hardware"), in alphabetical order."""
    return tuple(_stored(kind))


def is_model(name: str) -> bool:
    """Whether a name is that of a model of the catalogue, by any of its spellings."""
    return _resolved("models", name) is not None


def find(kind: str, name: str) -> str:
    """The catalogue's name of an entry.

    Raises:
        ValueError: If there is none; with the nearest names and how to give one's own.
    """
    return _found(kind, name).entry


# What MLX keeps has its format in the name: all matrices in so many bits, with a scale and a bias
# of 16 bits each for a group, or in blocks with a scale of 8 bits.
_MLX = re.compile(r"(?i)^mlx-community/|[-_]mlx(?=[-_]|$)")
_MLX_BITS = {"mxfp4": 4.25, "mxfp8": 8.25, "nvfp4": 4.5}
_MLX_FORMAT = rf"(?:(\d)[-_]?bit|{'|'.join(_MLX_BITS)})"
_MLX_WORDS = re.compile(rf"(?i)[-_](?:mlx|gs\d+|dwq|({_MLX_FORMAT}))(?=[-_]|$)")
# What MLC keeps: all matrices in so many bits, with a scale of 16 or 32 bits for 32 weights.
_MLC = re.compile(r"(?i)[-_](q([2348])f(16|32)_\d)(?:-mlc)?$")


def _resolved(kind: str, name: str) -> _Match | None:
    """The entry of a name; that of a model may be one of a GGUF file, or of MLC's or MLX's."""
    if kind != "models":
        return _match(kind, name)
    tagged = gguf.of_ollama(name)
    file = gguf.type_of(name) if gguf.is_named(name) else None
    plain, like = tagged or (gguf.without(name), file.like if file else "")
    form, bits, said = like, gguf.BITS.get(like, 0.0), ""
    if like.startswith("mxfp4"):  # of the experts alone
        form, bits = "mxfp4", 0.0
    elif like:
        said = f"{name} is taken for Ollama's tag, of type {like.upper()}" if tagged else ""
    elif mlc := _MLC.search(name):
        plain, form = name[: mlc.start()], mlc[1].lower()
        bits = float(mlc[2]) + float(mlc[3]) / 32.0
    elif _MLX.search(name) and len(told := [x for x in _MLX_WORDS.finditer(name) if x[1]]) == 1:
        plain, form = _MLX_WORDS.sub("", name), told[0][1].lower()
        group = 32.0 if "gs32" in name.lower() else 64.0
        bits = float(told[0][2]) + 32.0 / group if told[0][2] else _MLX_BITS[form]
    else:
        return _match("models", name)
    base = _match("models", plain)
    return base and base._replace(format=form, bits=bits, said=said)


def _found(kind: str, name: str) -> _Match:
    found = _resolved(kind, name)
    if found is not None:
        return found
    raise ValueError(
        f"unknown {_KINDS[kind]} {name!r}; {_hint(kind, name)} To use your own, give {_OWN[kind]}."
    )


def _hint(kind: str, name: str) -> str:
    """What an unknown name may be, or the names that are near it."""
    for other in _KINDS.keys() - {kind}:
        if _match(other, name):
            return f"{name!r} names {'a model' if other == 'models' else 'an accelerator'}."
    plain, _, change = name.partition(":")
    if "=" in change and _match(kind, plain):
        return (
            f"{_found(kind, plain).entry} is known, and {change} behind it is a change, which "
            "`qsjax compare` takes; elsewhere an option or a field says it."
        )
    told = _hint_of_model(name) if kind == "models" else _hint_of_accelerator(name)
    if told:
        return told
    if names_near := _near(kind, name):
        return f"did you mean {' or '.join(names_near)}?"
    if Path(name).is_file():
        return "the file of this name is none that is read."
    return f"`qsjax {kind}` lists the {len(names(kind))} that are known."


def _hint_of_model(name: str) -> str:
    if _COMMAND.search(name):
        return "it is a command line, which `qsjax explain -- COMMAND` reads."
    plain, at, behind = name.partition("@")
    if at and (known := _match("models", plain)):
        return _behind_at(known.entry, behind)
    base = gguf.without(name)
    if base == name or not _match("models", base):
        return ""
    return (
        f"{_found('models', base).entry} is known, and a name tells the type of a GGUF file: "
        f"{base}-GGUF:Q4_K_M."
    )


def _hint_of_accelerator(name: str) -> str:
    one, count = counted(name)
    if count > 1 and (known := _match("hardware", one)):
        return f"it counts {count} of {known.entry}: give that name, and the count apart."
    return "give one; `qsjax compare` takes several." if re.search(r"[,/]", name) else ""


def _near(kind: str, name: str) -> list[str]:
    """Entries whose names hold, begin with or are spelt like a name."""
    spellings, last = _index(kind), name.rpartition("/")[2]
    tail, begin = canonical(last), f"{re.sub(r'[ _]+', '-', last.lower())}-"
    within = [one for one in spellings if kind == "models" and _SIZED.search(one) and one in tail]
    family = [] if within else [one for one in names(kind) if one.startswith(begin)]
    alike = within or difflib.get_close_matches(tail, spellings, n=5)
    return family[:5] or list(dict.fromkeys(spellings[spelling] for spelling in alike))


def _behind_at(model: str, text: str) -> str:
    chip = text.partition(":")[0]
    if _match("hardware", chip):
        return (
            f"{model} is known, and an accelerator behind @ is what `qsjax compare` takes; "
            f"elsewhere it stands by itself, as --hardware {chip}."
        )
    return (
        f"{model} is known, but {text!r} behind @ is neither a revision (main, a commit, "
        "refs/pr/1) nor an accelerator."
    )


@cache
def _hardware(name: str) -> HardwareEntry:
    return toml_hardware.entry_from(_stored("hardware")[name], name, hardware_entry)


@cache
def _model(match: _Match) -> ModelEntry:
    name, document = match.entry, _stored("models")[match.entry]
    table = {key: value for key, value in document.table.items() if key != "contexts"}
    plain = dataclasses.replace(document, table=table)
    entry = toml_models.entry_from(plain, name, model_entry)
    entry = dataclasses.replace(entry, max_context=match.context or entry.max_context)
    entry = _stored_as(entry, match) if match.format else entry
    if not match.is_tune:
        return entry
    tune = f"Taken for a fine-tune of {name} by its name, for up to {entry.max_context:,} tokens"
    note = f"{entry.note} {tune}; its config.json tells more."
    return dataclasses.replace(entry, note=note.strip())


def _stored_as(entry: ModelEntry, match: _Match) -> ModelEntry:
    """A model in the format of weights that a name tells: "Qwen3-32B-FP8".

    As in the checkpoints of publishers, experts of 4 bits leave attention in 16, or in 8 where the
    name says that activations are (W4AFP8). One that is published so already stays as it is. The
    bits of a GGUF file, and of MLX, are those of all matrices in the mean, which engines multiply
    in 16.
    """
    told, bits, known = match.format, match.bits, _checkpoints().get(match.checkpoint, {})
    if bits:
        form = Format("bf16" if bits >= 16 else "fp8" if bits > 6 else "fp4", bits / 8.0, "bf16")
    else:
        form = ALGORITHMS.get(FORMATS[told], WHOLE)
    is_so = (form.dtype, form.multiply) == (entry.weight_dtype, entry.multiply_dtype) and not bits
    if is_so and not known:
        return entry
    is_mixed = form.dtype == "fp4" and entry.spec.is_moe and not bits
    beside = (told.startswith("w4a") and form.multiply) or "bf16"
    attention: Dtype = beside if is_mixed else form.dtype
    own = {one.name: getattr(entry, one.name) for one in dataclasses.fields(Stored)}
    by_name: dict[str, Any] = {
        "weight_dtype": form.dtype,
        "attn_weight_dtype": attention,
        "multiply_dtype": form.multiply,
        "weight_block": match.block,
        "weight_bytes": form.special,
        "attn_bytes": form.special if attention == form.dtype else 0.0,
        "shared_bytes": 0.0,
        "head_bytes": bits / 8.0,
        "embedding_bytes": bits / 8.0,
        "modules": {},
    }
    stored = Stored(**(own if is_so else own | by_name) | known)
    label = f"{entry.name}, weights={told}"
    how = match.said or ("Means of its files" if known else "Precisions by the name")
    return dataclasses.replace(
        entry,
        **dataclasses.asdict(stored),
        spec=dataclasses.replace(entry.spec, precision=precision_of(stored), label=label),
        title=f"{entry.title}, {told.upper()}",
        note=f"{entry.note} {how}; a config.json tells them by module.".strip(),
    )


def _path(
    name: str | Path | None, suffixes: tuple[str, ...], extending: tuple[Path, ...]
) -> Path | None:
    """The path that a user means, or None if it is a name.

    Raises:
        ValueError: If it is neither, such as a record in place of its name, or extends itself.
    """
    if not isinstance(name, str | Path):
        given = "None" if name is None else kind_of(name)
        raise ValueError(f"{given} is not a name; give one of the catalogue or the path of a file")
    if longest := max((len(part) for part in Path(name).parts if len(part) > NAME_MAX), default=0):
        raise ValueError(
            f"{str(name)[:40]!r}... is not a name: it has {longest:,} characters without a slash, "
            f"and a file at most {NAME_MAX}; give one of the catalogue or the path of a file"
        )
    if re.match(r"https?://", str(name)):
        return None  # nothing is fetched; the address may be that of a model of the catalogue
    path = huggingface.expanded(name)
    is_file_name = PurePath(str(path).removesuffix(".gz")).suffix.lower() in suffixes
    if ".json" in suffixes and path.suffix.lower() in (".gguf", ".safetensors"):
        if is_model(str(name)):
            return None  # a GGUF file, whose name tells model and type
        raise ValueError(
            f"{name}: a file of weights; give the config.json of its model, its folder, or a name "
            f"of the catalogue, and the file to the engine's command line"
        )
    is_folder = ".json" in suffixes and huggingface.config_in(path).is_file()
    is_path = isinstance(name, Path) or is_file_name or is_folder
    if not (is_path or str(name).startswith((".", "/", "~"))):
        return None
    path = extending[-1].parent / path if extending else path
    if any(path.resolve() == other.resolve() for other in extending):
        raise ValueError(f"{path} extends itself; name an entry of the catalogue or another file")
    return path


def hardware_entry(name: str | Path | None, extending: tuple[Path, ...] = ()) -> HardwareEntry:
    """The entry of an accelerator, by name or by the path of a .toml file.

    Args:
        name: name or path; relative paths start at the folder of the file that extends it.
        extending: files that extend it, the next one last.

    Raises:
        ValueError: If the name is unknown, or with all problems of the file.
    """
    path = _path(name, (".toml",), extending)
    if path is None:
        return _hardware(find("hardware", os.fspath(name or "")))
    parent = partial(hardware_entry, extending=(*extending, path))
    return toml_hardware.entry_from(toml.read(path), path.stem, parent)


def hardware_from(name: str | Path | None, keys: Mapping[str, Any]) -> HardwareEntry:
    """The entry of keys as in a .toml file, which extend the accelerator `name` if one is given.

    Raises:
        ValueError: With all problems of the name and the keys.
    """
    table = {key: toml.exact(value) for key, value in keys.items()}
    document = toml.Document(label="hardware", table=table, lines={}, problems=[])
    if name is None:
        return toml_hardware.entry_from(document, "my-gpu", hardware_entry)
    if "extends" in keys:
        toml.complain(document, "extends", f"{name!r} is given as well; keep one")
    table["extends"] = repr(name)
    entry = toml_hardware.entry_from(document, "my-gpu", lambda _: hardware_entry(name))
    given = (f"{key}={value}" for key, value in keys.items())
    label = ", ".join([hardware_entry(name).name, *given])
    return dataclasses.replace(entry, name=label, spec=dataclasses.replace(entry.spec, label=label))


def model_entry(
    name: str | Path | Mapping[str, Any], extending: tuple[Path, ...] = ()
) -> ModelEntry:
    """The entry of a model, by name, by the path of a .toml file, a config.json or its folder.

    The content of a config.json will do too. `extending`: as that of `hardware_entry`.

    Raises:
        ValueError: If the name is unknown, or with all problems of the file.
    """
    if isinstance(name, Mapping):
        return huggingface.load(name)
    path = _path(name, (".toml", ".json"), extending)
    if path is None:
        return _model(_found("models", os.fspath(name)))
    if path.suffix.lower() != ".toml":
        return huggingface.load(path)
    parent = partial(model_entry, extending=(*extending, path))
    return toml_models.entry_from(toml.read(path), path.stem, parent)
