"""Models and accelerators as data: by name, or from a file of the user's.

Every number has a source; docs/guides/your-own-model.md and your-own-hardware.md show the format.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qsjax.catalog import huggingface, lookup, toml_hardware
from qsjax.catalog.entries import HardwareEntry as HardwareEntry
from qsjax.catalog.entries import ModelEntry as ModelEntry
from qsjax.catalog.lookup import hardware_entry as hardware_entry
from qsjax.catalog.lookup import model_entry as model_entry
from qsjax.records import checks, precision
from qsjax.records.fields import facts_of
from qsjax.records.specs import Dtype, HardwareSpec, ModelSpec, Workload, replace

load_hf = huggingface.load
_IDEAL = ", ideal"  # behind a label, as a changed field stands there


def model_names() -> tuple[str, ...]:
    """The names of all models, in alphabetical order."""
    return lookup.names("models")


def hardware_names() -> tuple[str, ...]:
    """The names of all accelerators, in alphabetical order."""
    return lookup.names("hardware")


def model(name: str | Path | Mapping[str, Any]) -> ModelSpec:
    """The shape of a model: by name, Hugging Face id, config.json (or content), or .toml file.

    Raises:
        ValueError: If the name is unknown, or with all problems of the file.

    >>> model("deepseek-ai/DeepSeek-V3").layers
    61.0
    """
    return model_entry(name).spec


def hardware(name: str | Path | None = None, **keys: Any) -> HardwareSpec:
    """The numbers of an accelerator: by name, from a .toml file, or from keys of such a file.

    Args:
        name: A name of the catalogue or the path of a .toml file.
        keys: Keys of a .toml file with their values; they replace those of `name`, without which
            the defaults of a file hold. Beside `name` also fields of `HardwareSpec`: in SI units,
            which may be traced, or as texts with a unit.

    Raises:
        ValueError: If the name is unknown, or with all problems of the file or the keys.

    >>> hardware("h100").intra_bw
    450000000000.0
    >>> hardware("h100", hbm_bandwidth_tb_per_s=6).hbm_bw
    6000000000000.0
    >>> hardware("h100", hbm_bw="6TB/s", intra_latency="2us").intra_latency
    2e-06
    """
    in_si = facts_of(HardwareSpec).keys() - {*toml_hardware.KEYS} if name else set[str]()
    fields = {key: value for key, value in keys.items() if key in in_si}
    rest = {key: value for key, value in keys.items() if key not in in_si}
    spec = (lookup.hardware_from(name, rest) if rest else hardware_entry(name)).spec
    if fields:
        spec = replace(spec, **fields)
        (spec,) = checks.check_records(hardware=spec)
    return spec


def ideal(hardware: HardwareSpec | str | Path) -> HardwareSpec:
    """The same accelerator at the speed of light: efficiencies 1, no overheads, no latencies.

    Capacity, the reserved part of it, the overlap fractions and the size of an attention kernel's
    tile of queries (`query_tile`) stay.

    Args:
        hardware: its numbers, a name of the catalogue or the path of a .toml file.

    Raises:
        ValueError: If the name is unknown, or with all problems of the file.

    >>> ideal("h100").eff_gemm
    1.0
    """
    own = hardware if isinstance(hardware, HardwareSpec) else hardware_entry(hardware).spec
    facts = facts_of(HardwareSpec).items()
    lossless: dict[str, Any] = {n: fact.ideal for n, fact in facts if fact.ideal is not None}
    label = f"{own.label.removesuffix(_IDEAL)}{_IDEAL}" if own.label else ""
    return dataclasses.replace(own, **lossless, label=label)


def workload(name: str | Path, weights: Dtype | None = None, kv: Dtype | None = None) -> Workload:
    """The precisions that a model is published in, or others, as a workload of context 1.

    Args:
        name: as for `model`.
        weights: dtype of the attention and FFN weights instead.
        kv: dtype of the cache instead.

    Raises:
        ValueError: If the name or a dtype is unknown, or with all problems of the file.

    >>> workload("mixtral-8x7b").bytes_ffn_weight, workload("deepseek-v3").bytes_ffn_weight
    (2.0, 1.0)
    """
    return workload_of(model_entry(name), weights, kv)


def workload_of(entry: ModelEntry, weights: Dtype | None, kv: Dtype | None) -> Workload:
    """The workload of an entry; embeddings and head stay in 16 bits, as engines keep them."""
    return precision.workload_of(entry.spec, weights=weights, kv=kv, context=1.0)
