"""qsjax: every way of serving a language model, evaluated at once and differentiated.

`Problem` says what is asked: models, accelerators, GPU counts, contexts, limits. A question is a
function of it (`explore`, `pareto`, `sensitivity`, ...); its result has `dataset`, `frame()`,
`plot()` and `save()`. `decode` and `prefill` are one step of one design, for `jax.jit`, `jax.vmap`
and `jax.grad`.
"""

import importlib
from typing import Any

from qsjax.catalog import hardware, hardware_names, ideal, model, model_names, workload
from qsjax.cost.laws.params import active_params, dense_twin, total_params
from qsjax.cost.metrics import Economy
from qsjax.grid.limits import Limits
from qsjax.grid.problem import Problem
from qsjax.questions.explore import explore
from qsjax.questions.step import decode, prefill
from qsjax.records.specs import (
    PAPER,
    PHYSICAL,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)

__version__ = "0.1.0"
__all__ = [
    "PAPER",
    "PHYSICAL",
    "Convention",
    "Economy",
    "HardwareSpec",
    "Limits",
    "ModelSpec",
    "Partition",
    "Problem",
    "Workload",
    "active_params",
    "decode",
    "dense_twin",
    "engines",
    "explore",
    "hardware",
    "hardware_names",
    "ideal",
    "model",
    "model_names",
    "plotting",
    "prefill",
    "total_params",
    "workload",
]
# Rooms that are public as they are, imported when they are first named.
_ROOMS = ("engines", "plotting")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"qsjax.{name}")
    raise AttributeError(f"module 'qsjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
