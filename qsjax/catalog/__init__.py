"""Models and accelerators by name, as data with a source for every number."""

import dataclasses
import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any

from qsjax.specs import HardwareSpec, ModelSpec

_UNITS = {
    "_gb_per_s": 1e9,
    "_tb_per_s": 1e12,
    "_tflop_per_s": 1e12,
    "_pflop_per_s": 1e15,
    "_gib": 2.0**30,
    "_gb": 1e9,
    "_us": 1e-6,
}
_FIELDS = {
    "hbm_capacity": "hbm_bytes",
    "hbm_bandwidth": "hbm_bw",
    "peak_bf16": "flops_bf16",
    "peak_fp8": "flops_fp8",
    "peak_fp4": "flops_fp4",
    "intra_bandwidth": "intra_bw",
    "inter_bandwidth": "inter_bw",
    "reserve": "reserve_bytes",
}


@cache
def _files(kind: str) -> dict[str, dict[str, Any]]:
    folder = resources.files("qsjax.catalog") / "data" / kind
    return {f.name[:-5]: tomllib.loads(f.read_text()) for f in folder.iterdir()}


def _find(kind: str, name: str) -> dict[str, Any]:
    def key(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    for stem, data in _files(kind).items():
        if key(name) in map(key, [stem, *data["aliases"]]):
            return data
    raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(_files(kind))}")


def model_names() -> tuple[str, ...]:
    return tuple(sorted(_files("models")))


def hardware_names() -> tuple[str, ...]:
    return tuple(sorted(_files("hardware")))


def model(name: str) -> ModelSpec:
    return ModelSpec(**{k: float(v) for k, v in _find("models", name)["shape"].items()})


def _si(data: dict[str, Any]) -> dict[str, float]:
    fields = {f.name for f in dataclasses.fields(HardwareSpec)}
    out = {}
    for key, value in data.items():
        suffix = next((s for s in _UNITS if key.endswith(s)), "")
        stem = key.removesuffix(suffix)
        name = _FIELDS.get(stem, stem)
        if name in fields:
            out[name] = value * _UNITS.get(suffix, 1.0)
    return out


def hardware(name: str) -> HardwareSpec:
    defaults = tomllib.loads((resources.files("qsjax.catalog") / "data/defaults.toml").read_text())
    got = _si(defaults) | _si(_find("hardware", name))
    got.setdefault("flops_fp8", got["flops_bf16"])
    got.setdefault("flops_fp4", got["flops_fp8"])
    return HardwareSpec(**got)
