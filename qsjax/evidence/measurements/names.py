"""How publications spell models, accelerators, precisions, metrics and units."""

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from qsjax import catalog
from qsjax.catalog import HardwareEntry, ModelEntry, gguf, lookup
from qsjax.records.precision import SPELLINGS
from qsjax.records.specs import Dtype
from qsjax.records.tables import table

# What a publication appends to the name of a model besides what `qsjax.catalog` knows; removed one
# after another.
_APPENDED = re.compile(
    r"[\s_-]+(\(.*\)|shape.*|[abh]\d+0\w?|671b|99(\.9)?|preview|bnb([\s_-]?[48]-?bit)?|gguf|hf)$",
    re.IGNORECASE,
)
# A size that stands in brackets belongs to the name: "Qwen3 (30B-A3B bf16 by size)".
_SIZE = re.compile(r"\s*\((\d[\d.]*b\S*)[^)]*\)", re.IGNORECASE)
_BITS = re.compile(r"([1-9]\d?(?:\.\d+)?) bits a weight")
# What stands between the accelerators of a mixed system.
_SEPARATE = re.compile(r"[,/+&]| and ")
# Spellings of accelerators, precisions, metrics, columns and printed results, as the file says.
TABLE = table("evidence/measurements/names.toml")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes of an element as stored, scales included, and the units that multiply it."""

    stored: float
    native: Dtype


PRECISIONS = {name: Precision(**own) for name, own in TABLE["precisions"].items()}


def precision_of(name: str) -> Precision | None:
    """The precision that a text begins with ("fp8 FFN + bf16 attn" is fp8); None if unknown.

    So many "bits a weight", and types of GGUF files (Q4_K_M), are of one that is widened to 16.
    """
    low = name.strip().lower().removeprefix("torch.")
    told = _BITS.fullmatch(low)
    bits = float(told[1]) if told else gguf.BITS.get(low, 0.0) if "q" in low else 0.0
    if bits:
        return Precision(stored=bits / 8.0, native="bf16")
    for spelling, key in (TABLE["spellings"] | SPELLINGS).items():
        if low.startswith(spelling):
            return PRECISIONS[key]
    return next((p for key, p in PRECISIONS.items() if low.startswith(key)), None)


def find_model(name: str) -> ModelEntry | None:
    """The catalogue's entry for a published spelling or of a file or folder, or None.

    Raises:
        ValueError: With all problems of a file.
    """
    text = lookup.PLACE.sub("", name.strip())
    if name.startswith("models--"):  # a folder of the hub's cache
        text = text.replace("--", "/")
    if text.lower().endswith((".toml", ".json")) or text.startswith((".", "/", "~")):
        return catalog.model_entry(text)
    return _named(text) or _named(_SIZE.sub(r"-\1", text))


@lru_cache(maxsize=1024)  # many records are of one model
def _named(text: str) -> ModelEntry | None:
    while True:
        try:
            # The entry alone: a record says itself which precisions it runs in.
            return catalog.model_entry(lookup.find("models", text))
        except ValueError:
            shorter = _APPENDED.sub("", text)
        if shorter == text:
            return None
        text = shorter


def _part(text: str) -> str | None:
    """The catalogue's name of an accelerator in small letters, "" where it lacks that variant."""
    return next((entry for pattern, entry in TABLE["hardware"] if re.search(pattern, text)), None)


def find_hardware(name: str) -> HardwareEntry | None:
    """The catalogue's entry for a published spelling or of a file, or None.

    Raises:
        ValueError: With all problems of a file.
    """
    is_file = name.strip().lower().endswith(".toml")
    return catalog.hardware_entry(name.strip()) if is_file else _accelerator(name)


@lru_cache(maxsize=1024)
def _accelerator(name: str) -> HardwareEntry | None:
    low = name.strip().lower().replace("_", " ")
    if len({entry for part in _SEPARATE.split(low) if (entry := _part(part))}) > 1:
        return None  # several accelerators
    chip = lookup.counted(name)[0]  # of a cloud's machine, whose own name may say less
    entry = _part(low) if chip in name else chip
    if entry is not None:
        found = catalog.hardware_entry(entry) if entry else None
        return found if found and _has_memory(found, low) else None
    try:
        return catalog.hardware_entry(chip)
    except ValueError:
        return None


def _has_memory(entry: HardwareEntry, text: str) -> bool:
    """Whether an accelerator has the memory that its name says, of one or of all that it counts."""
    plain = re.sub(
        r"(?:cx\d|infiniband|\bib|roce)\W*\d+ ?gb?|\d+ ?gb(?:/s|ps)|\b480 ?gb?", "", text
    )  # of links, and of a Grace CPU
    said = re.search(r"\b(\d{2,4}) ?g(?:i?b)?\b", plain)
    if said is None:
        return True
    size = float(said[1])
    return lookup.has_memory(entry, size, size / gpus_in(text))


def gpus_in(name: str) -> float:
    """How many accelerators a name counts; 1 where it counts none."""
    return float(lookup.counted(name)[1])


def metric_of(name: str) -> str:
    """The metric of a published name, also of benchmarks that say which mean they print.

    A median between tokens has no prompts in it, a mean has. Other names stay as they are.
    """
    plain = re.sub(r"[ _]?\(?ms\)?$", "", name.lower()).replace(" ", "_")
    plain = plain.replace("inter_token_latency", "itl")
    if plain in TABLE["metrics"]:
        return str(TABLE["metrics"][plain])
    bare = re.sub(r"^(mean|median|avg|average|p50)_", "", plain)
    if bare == "ttft":
        return "TTFT"
    return "TPOT" if bare in ("tpot", "itl") else name


def is_median(record: Mapping[str, Any]) -> bool:
    """Whether a record is of the median request: as it states, or by its metric's name."""
    return record.get("statistic") == "median" or bool(
        re.match(r"(median|p50)_", str(record["metric"]).lower())
    )


def rate_unit(unit: str, metric: str) -> str:
    """A rate in the spelling "tok/s/gpu"; a server's own total is "tok/s (whole".

    vLLM and SGLang print "Output token throughput (tok/s)".
    """
    plain = unit.lower().replace("tokens", "tok").replace("token", "tok")
    plain = re.sub(r" ?(?:/| per ) ?", "/", re.sub(r"^tps\b", "tok/s", plain))
    plain = re.sub(r"/(?:sec|second)\b", "/s", plain)
    return "tok/s (whole" if plain == "tok/s" and "output" in metric.lower() else plain
