"""Writes the page of what is read: `python docs/supported.py`, and each build of the site.

Families, engine flags and quantisations stand in tables that the code reads; the page is those.
"""

from collections.abc import Iterable
from pathlib import Path

from qsjax import catalog
from qsjax.catalog import families, gguf, quantisation
from qsjax.engines.flags import sizes_of
from qsjax.engines.held import NAMES
from qsjax.engines.rules import ENGINES, Engine, flags_of, load_engines, load_flags
from qsjax.output.files import write_atomically

PAGE = Path(__file__).parent / "supported.md"
INTRODUCTION = """\
# What is read

This page is written from the tables that the code reads, at each build of the site. A `config.json`
of another family is refused by name. A flag that no table has counts as not read: it is named, and
the result goes on without it. Flags that are spelled with underscores, or cut short, are the same.
"""
# Quantities of a deployment, as people call them.
QUANTITIES = {
    "tp_total": "tensor parallelism",
    "pp": "pipeline stages",
    "dp_total": "data parallelism",
    "attention_dp": "data parallelism of attention",
    "dcp": "decode context parallelism",
    "pcp": "prefill context parallelism (1 alone)",
    "cp": "Helix (kvp) where the type of context parallelism is HELIX (1 alone elsewhere)",
    "cp_type": "type of context parallelism (HELIX alone)",
    "ep": "expert parallelism",
    "expert_parallel": "expert parallelism over all GPUs of a stage",
    "overlapped": "whether steps wait for the host",
    "expert_backend": "expert parallelism that the backend sets",
    "expert_kernels": "kernels of the experts",
    "dp_attention": "attention replicas that share the experts",
    "usable_fraction": "share of the memory, buffers included",
    "static_fraction": "share of the memory for weights and cache",
    "free_fraction": "share of the free memory for the cache",
    "batched_tokens": "tokens of a forward pass, for which memory is kept",
    "sequences": "batch",
    "context": "longest context",
    "kv_dtype": "dtype of the cache",
    "state_dtype": "dtype of recurrent states",
    "states_dtype": "dtype of recurrent states, unless the other says it",
    "kv_block": "tokens of a cache block",
    "quantization": "dtype of the weights, or a loader",
    "dtype": "16 bits; float32 is not read",
    "model": "the model that is served",
    "speculative": "speculation, as JSON",
    "drafter": "what drafts: a head of the model, a model, n-grams",
    "draft_model": "the model that drafts, which tells who does where nothing else says it",
    "drafts": "tokens that a step drafts",
    "verified": "tokens that a step verifies, the sampled one included",
    "config": "a YAML file of further flags",
}


def code(names: Iterable[str]) -> str:
    """Names as code, in one paragraph."""
    return ", ".join(f"`{name}`" for name in names)


def rows(heads: tuple[str, ...], cells: Iterable[tuple[str, ...]]) -> list[str]:
    """A Markdown table."""
    lines = [heads, ("---",) * len(heads), *cells]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def name_of(part: families.Part) -> str:
    """What a part of a family is called on the page."""
    return part.__name__.strip("_").replace("_", " ")


def layer_kinds(family: families.Family) -> str:
    """What a family has besides dense layers with attention over the whole context."""
    found = ["latent attention"] if "kv_latent" in family.fields else []
    found += ["experts"] if "experts" in family.fields else []
    return ", ".join([*found, *map(name_of, family.parts)]) or "-"


def part_lines() -> list[str]:
    """What every part of a family means, and the types that are refused by name."""
    parts = {name_of(part): part for one in families.FAMILIES.values() for part in one.parts}
    told = [(name, (part.__doc__ or "").split("\n")[0]) for name, part in sorted(parts.items())]
    refused = [(f"`{name}`", f"`{like}`", why) for name, (like, why) in families.REFUSED.items()]
    return [
        "What these parts are, and where they come from:",
        "",
        *rows(("part", "what it is"), told),
        "Refused by name, because reading them like the family that is nearest would be wrong:",
        "",
        *rows(("`model_type`", "nearest", "what differs"), refused),
        "Heads that draft for another model (Eagle, Medusa, `...NextN`) are refused as such.",
        "",
    ]


def family_lines() -> list[str]:
    """Every family of `config.json`."""
    cells = rows(
        ("`model_type`, or a name in `architectures`", "besides dense layers", "status"),
        (
            (code(family.types), layer_kinds(family), family.note or "read")
            for family in families.FAMILIES.values()
        ),
    )
    return ["## Families of config.json", "", *cells]


def flag_lines(engine: Engine) -> list[str]:
    """Every flag of an engine by status."""
    rules = load_flags()[engine]
    spelled: dict[str, list[str]] = {
        quantity: [] for quantity in (*rules["reads"], *rules["switches"])
    }
    for name, flag in flags_of(engine).items():
        if flag.effect == "read":
            spelled[flag.quantity].append(name)
    cells = [(code(names), QUANTITIES[quantity]) for quantity, names in spelled.items()]
    lines = [f"### {NAMES[engine]}", "", f"Derived: {rules['derives']}.", ""]
    lines += rows(("read", "sets"), cells)
    for title, group in (("Without effect", "no_effect"), ("Not read", "unread")):
        names = sorted(name for text in rules[group].values() for name in text.split())
        lines += [f"{title}: {code(names)}.", ""]
    return lines


def quantisation_lines() -> list[str]:
    """Every quantisation, of configs and of flags."""
    flags = load_flags()
    methods = [(f"`{name}`", "quant_method") for name in quantisation.KNOWN_METHODS]
    methods += [(f"`{name}`", "quant_algo") for name in quantisation.ALGORITHMS]
    asked = [(f"`{name}`", dtype) for name, dtype in flags["dtype_of_weights"].items()]
    asked += [(f"`{name}`", "what the config says") for name in flags["loaders"]]
    cache = [
        (f"`{name}`", f"{size:g}" if size else "the model's own")
        for name, size in sizes_of("cache").items()
    ]
    state = [
        (f"`{name}`", f"{size:g}" if size else "the config's, else the engine's")
        for name, size in sizes_of("state").items()
    ]
    kernels = [
        (name, *(f"{tile:g}" for tile in rule["tile"]), f"{rule['launches_us']:g}")
        for name, rule in load_engines()["experts"].items()
        if isinstance(rule, dict)
    ]
    return [
        "## Quantisations",
        "",
        "Of a checkpoint:",
        "",
        *rows(("name", "key of its config"), methods),
        "Of `--quantization`:",
        "",
        *rows(("name", "weights"), asked),
        "Of `--kv-cache-dtype`:",
        "",
        *rows(("name", "bytes of an element"), cache),
        "Of recurrent states:",
        "",
        *rows(("name", "bytes of an element"), state),
        "Of GGUF files, by their names:",
        "",
        *rows(
            ("type", "bits of a weight"),
            ((f"`{name.upper()}`", f"{bits:g}") for name, bits in gguf.BITS.items()),
        ),
        "Kernels of MXFP4 experts, and what they pad to:",
        "",
        *rows(("kernels", "rows", "columns", "launches of a layer [us]"), kernels),
    ]


def page() -> str:
    """The whole page."""
    models = f"{len(catalog.model_names())} models and {len(catalog.hardware_names())} accelerators"
    lines = [
        INTRODUCTION,
        f"By name the catalogue has {models} (`qsjax models`, `qsjax hardware`).",
    ]
    lines += ["", *family_lines(), *part_lines(), "## Flags of engines", ""]
    for engine in ENGINES:
        lines += flag_lines(engine)
    return "\n".join([*lines, *quantisation_lines()])


def write() -> None:
    """Write the page beside this script."""
    write_atomically(PAGE, page())


if __name__ == "__main__":
    write()
