"""How publications spell models, accelerators, precisions, metrics and units."""

import dataclasses
import re

from qsjax import catalog
from qsjax.catalog import HardwareEntry, ModelEntry, lookup
from qsjax.records.specs import Dtype
from qsjax.records.units import GB

# What a publication appends to the name of a model besides what `qsjax.catalog` knows; removed one
# after another.
_APPENDED = re.compile(
    r"[\s_-]+(\(.*\)|shape.*|[abh]\d+0\w?|671b|99(\.9)?|preview|bnb([\s_-]?[48]-?bit)?|gguf|hf)$",
    re.IGNORECASE,
)
# A size that stands in brackets belongs to the name: "Qwen3 (30B-A3B bf16 by size)".
_SIZE = re.compile(r"\s*\((\d[\d.]*b\S*)[^)]*\)", re.IGNORECASE)
# What stands between the accelerators of a mixed system.
_SEPARATE = re.compile(r"[,/+&]| and ")
# Where a model comes from, and which of its revisions: neither says what it is.
_PLACE = re.compile(
    r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.cn/models)/|^models--"
    r"|(?<=[\w)])(?:@[\w./-]+|:(?:main|latest|[0-9a-f]{7,40})|/(?:tree|blob|resolve)/\S*)$"
)
# First match wins; the pattern is looked for anywhere in the lower-case name. Variants with another
# memory or fabric than the catalogue's part are not that part, and so have no entry.
_HARDWARE = (
    (r"gh200.*14[14]", ""),
    (r"gh200", "gh200-96g"),
    (r"gb[23]00.*\bnvl(?!72)\d", ""),
    (r"(a100|h800)\b.*\bpcie", ""),
    (r"h100\b.*pcie", "h100-pcie"),
    (r"h100[ _-]nvl\b|h100\b.*\b94 ?g", "h100-nvl"),
    (r"h200[ _-]nvl\b", "h200-nvl"),
    (r"hbm2e", "h100-hbm2e-96g"),
    (r"a100\b.*\b40 ?g", "a100-sxm-40g"),
    (r"h20\b.*141|h20-3e", "h20-141g"),
    (r"rtx 3090|24gb gpu", ""),
    (r"rtx[ _-]?4090", "rtx-4090"),
    (r"rtx[ _-]?5090", "rtx-5090"),
    (r"rtx[ _-]?pro[ _-]?6000", "rtx-pro-6000"),
    (r"dgx[ _-]?spark|\bgb10\b", "dgx-spark"),
    (r"rubin|vr200", "rubin-nvl72"),
    (r"gb300", "gb300-nvl72"),
    (r"gb200", "gb200-nvl72"),
    (r"b300", "b300-sxm"),
    (r"b200", "b200-sxm"),
    (r"h800", "h800-sxm"),
    (r"h20\b|h20-", "h20-96g"),
    (r"h200", "h200-sxm"),
    (r"h100", "h100-sxm"),
    (r"a100", "a100-sxm"),
    (r"mi300x", "mi300x"),
    (r"mi325x", "mi325x"),
    (r"mi350x", "mi350x"),
    (r"mi355x", "mi355x"),
    (r"inf2|inferentia[ -]?2", "inferentia2"),
    (r"trn1|trainium[ -]?1", "trainium1"),
    (r"trn2|trainium[ -]?2", "trainium2"),
    (r"trn3|trainium[ -]?3", ""),
    (r"\bl40s\b", "l40s"),
    (r"\bl4\b", "l4"),
    (r"\ba10g\b", "a10g"),
    (r"\bv5e\b|v5[ -]?lite", "tpu-v5e"),
    (r"\bv5p\b", "tpu-v5p"),
    (r"\bv6e\b|trillium", "tpu-v6e"),
    (r"tpu[ -]?v?7|ironwood", "tpu7x"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bytes of an element as stored, scales included, and the units that multiply it."""

    stored: float
    native: Dtype


# MXFP4 has a scale byte for 32 elements, NVFP4 one for 16; int4 two
# bytes for a group of 32, AWQ two and a half for one of 128.
PRECISIONS: dict[str, Precision] = {
    "bf16": Precision(stored=2.0, native="bf16"),
    "fp16": Precision(stored=2.0, native="bf16"),
    "fp8": Precision(stored=1.0, native="fp8"),
    "int8": Precision(stored=1.0, native="fp8"),
    "mxfp8": Precision(stored=1.03125, native="fp8"),
    "mxfp4": Precision(stored=0.53125, native="fp4"),
    "nvfp4": Precision(stored=0.5625, native="fp4"),
    "fp4": Precision(stored=0.5625, native="fp4"),
    "int4": Precision(stored=0.5625, native="bf16"),
    "awq": Precision(stored=0.52, native="bf16"),
    "w4afp8": Precision(stored=0.5625, native="fp8"),
}
# As configurations, flags and checkpoints (bits of weights and activations) spell them.
_SPELLINGS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float8": "fp8",
    "e4m3": "fp8",
    "e5m2": "fp8",
    "f16": "fp16",
    "modelopt_fp4": "nvfp4",
    "w8a8": "int8",
    "w4a16": "int4",
    "w4a8": "w4afp8",
    "gptq": "int4",
    "uint4": "int4",
    "4bit": "int4",
    "4-bit": "int4",
    "8bit": "int8",
    "8-bit": "int8",
}


def precision_of(name: str) -> Precision | None:
    """The precision that a text begins with ("fp8 FFN + bf16 attn" is fp8); None if unknown."""
    low = name.strip().lower().removeprefix("torch.")
    for spelling, key in _SPELLINGS.items():
        if low.startswith(spelling):
            return PRECISIONS[key]
    return next((p for key, p in PRECISIONS.items() if low.startswith(key)), None)


def find_model(name: str) -> ModelEntry | None:
    """The catalogue's entry for a published spelling or of a file or folder, or None.

    Raises:
        ValueError: With all problems of a file.
    """
    text = _PLACE.sub("", name.strip())
    if name.startswith("models--"):  # a folder of the hub's cache
        text = text.replace("--", "/")
    if text.lower().endswith((".toml", ".json")) or text.startswith((".", "/", "~")):
        return catalog.model_entry(text)
    return _named(text) or _named(_SIZE.sub(r"-\1", text))


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
    return next((entry for pattern, entry in _HARDWARE if re.search(pattern, text)), None)


def find_hardware(name: str) -> HardwareEntry | None:
    """The catalogue's entry for a published spelling or of a file, or None.

    Raises:
        ValueError: With all problems of a file.
    """
    low = name.strip().lower()
    if low.endswith(".toml"):
        return catalog.hardware_entry(name.strip())
    low = low.replace("_", " ")
    if len({entry for part in _SEPARATE.split(low) if (entry := _part(part))}) > 1:
        return None  # several accelerators
    entry = _part(low)
    if entry is not None:
        found = catalog.hardware_entry(entry) if entry else None
        return found if found and _has_memory(found, low) else None
    try:
        return catalog.hardware_entry(_COUNT.sub("", name.strip()))
    except ValueError:
        return None


# Four parts of one name differ in their memory; binary units and spare dies make it differ by less.
_NEAR = 0.1


def _has_memory(entry: HardwareEntry, text: str) -> bool:
    """Whether an accelerator has the memory that its name says, of one or of all that it counts."""
    plain = re.sub(
        r"(?:cx\d|infiniband|\bib|roce)\W*\d+ ?gb?|\d+ ?gb(?:/s|ps)|\b480 ?gb?", "", text
    )  # of links, and of a Grace CPU
    said = re.search(r"\b(\d{2,4}) ?g(?:i?b)?\b", plain)
    if said is None:
        return True
    capacity = float(entry.spec.hbm_bytes) / GB  # type: ignore[arg-type]  # catalogue entries hold floats
    size = float(said[1])
    sizes = (size, size / gpus_in(text))
    return any(abs(one / capacity - 1.0) <= _NEAR for one in sizes)


# "8xH100", "8 x NVIDIA H100", "H100 x8", "2*H200".
_COUNT = re.compile(
    r"^(\d{1,4}) ?[x\u00d7*] ?(?=[a-z])|(?:(?<=\d)|\s)[x\u00d7*] ?(\d{1,4})$", re.IGNORECASE
)


def gpus_in(name: str) -> float:
    """How many accelerators a name counts; 1 where it counts none."""
    found = _COUNT.search(name.strip())
    return float(found[1] or found[2]) if found else 1.0


# What benchmarks and logs call some metrics, in lower case.
_METRICS = {
    "median_itl": "median_ITL",
    "p50_itl": "median_ITL",
    "gpu_kv_cache_size": "kv_tokens",
    "max_total_num_tokens": "kv_tokens",
    "available_kv_cache_memory": "kv_gib_available",
}


def metric_of(name: str) -> str:
    """The metric of a published name, also of benchmarks that say which mean they print.

    A median between tokens has no prompts in it, a mean has. Other names stay as they are.
    """
    plain = re.sub(r"[ _]?\(?ms\)?$", "", name.lower()).replace(" ", "_")
    if plain in _METRICS:
        return _METRICS[plain]
    bare = re.sub(r"^(mean|median|avg|average|p50)_", "", plain)
    if bare == "ttft":
        return "TTFT"
    return "TPOT" if bare in ("tpot", "itl") else name


def rate_unit(unit: str, metric: str) -> str:
    """A rate in the spelling "tok/s/gpu"; a server's own total is "tok/s (whole".

    vLLM and SGLang print "Output token throughput (tok/s)".
    """
    plain = unit.lower().replace("tokens", "tok").replace("token", "tok")
    plain = re.sub(r" ?(?:/| per ) ?", "/", re.sub(r"^tps\b", "tok/s", plain))
    plain = re.sub(r"/(?:sec|second)\b", "/s", plain)
    return "tok/s (whole" if plain == "tok/s" and "output" in metric.lower() else plain
