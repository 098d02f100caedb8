"""qsjax: every way of serving a language model, evaluated at once and differentiated.

`Problem` says what is asked: models, accelerators, GPU counts, contexts, limits. A question is a
function of it (`explore`, `pareto`, `sensitivity`, ...); its result has `dataset`, `frame()`,
`plot()` and `save()`. `decode` and `prefill` are one step of one design, for `jax.jit`, `jax.vmap`
and `jax.grad`.
"""

import importlib
from typing import Any

from qsjax.catalog import hardware, hardware_names, ideal, model, model_names, workload
from qsjax.cost.metrics import Economy
from qsjax.grid.limits import Limits
from qsjax.grid.problem import Problem, served
from qsjax.questions.counts import active_params, dense_twin, total_params
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
# Questions and rooms that are imported when they are first named: SciPy and matplotlib take a
# second each.
_LATE = {
    "qsjax": ("engines", "plotting"),
    "qsjax.evidence.calibration": ("calibrate",),
    "qsjax.evidence.paper": ("reproduce",),
    "qsjax.evidence.paper.table_2": ("study",),
    "qsjax.evidence.validation": ("validate",),
    "qsjax.questions.sensitivity": (
        *("sensitivity", "switching", "uncertainty", "hessian"),
        *("normal", "lognormal", "uniform", "triangular"),
    ),
    "qsjax.output.live.server": ("app",),
    "qsjax.questions.architecture": ("architecture",),
    "qsjax.questions.binding": ("binding",),
    "qsjax.questions.break_even": ("break_even", "solve_for"),
    "qsjax.questions.certify": ("certify",),
    "qsjax.questions.compare": ("compare", "Subject"),
    "qsjax.questions.design": ("design", "CostModel", "Price"),
    "qsjax.questions.explain": ("explain",),
    "qsjax.questions.mix": ("mix", "Request"),
    "qsjax.questions.moe_or_dense": ("moe_or_dense",),
    "qsjax.questions.pareto": ("pareto",),
    "qsjax.questions.prefix_cache": ("prefix_cache",),
    "qsjax.questions.simulation.loads": ("simulate",),
    "qsjax.questions.simulation.apart": ("size_apart",),
    "qsjax.questions.simulation.sizing": ("size",),
    "qsjax.questions.speculate": ("speculate",),
    "qsjax.streaming.question": ("sweep",),
}
_HOME = {name: home for home, names in _LATE.items() for name in names}
__all__ = [
    "PAPER",
    "PHYSICAL",
    "Convention",
    "CostModel",
    "Economy",
    "HardwareSpec",
    "Limits",
    "ModelSpec",
    "Partition",
    "Price",
    "Problem",
    "Request",
    "Subject",
    "Workload",
    "active_params",
    "app",
    "architecture",
    "binding",
    "break_even",
    "calibrate",
    "certify",
    "compare",
    "decode",
    "dense_twin",
    "design",
    "engines",
    "explain",
    "explore",
    "hardware",
    "hardware_names",
    "hessian",
    "ideal",
    "lognormal",
    "mix",
    "model",
    "model_names",
    "moe_or_dense",
    "normal",
    "pareto",
    "plotting",
    "prefill",
    "prefix_cache",
    "reproduce",
    "sensitivity",
    "served",
    "simulate",
    "size",
    "size_apart",
    "solve_for",
    "speculate",
    "study",
    "sweep",
    "switching",
    "total_params",
    "triangular",
    "uncertainty",
    "uniform",
    "validate",
    "workload",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'qsjax' has no attribute {name!r}")
    if home == "qsjax":
        return importlib.import_module(f"qsjax.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
