"""The main question: which split is best for the MoE and for its dense twins, and by how much."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from qsjax.cost.params import dense_twin
from qsjax.grid import Axes, Records, make_axes, stack
from qsjax.search import Objective, Optimum, search
from qsjax.specs import (
    CONVENTIONS,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)

CONTEXTS = tuple(1024.0 * 2**k for k in range(15))  # 1k to 16M tokens, the paper's range
DEGREES = ("tp", "ep", "pp", "dp", "kvp")


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """One row of the comparison: the model itself, or its dense twin at a quality factor q."""

    name: str
    q: float | None
    spec: ModelSpec

    @property
    def label(self) -> str:
        """`moe`, `dense`, or `dense q=5`."""
        return self.name if self.q is None else f"{self.name} q={self.q:g}"


@dataclasses.dataclass(frozen=True, slots=True)
class Exploration:
    """The optimum of every (variant, GPU count, context), under two conventions.

    Attributes:
        variants: along the first axis of every array.
        hardware: the accelerator.
        convention: name of the chosen convention; `other` of the one shown beside it.
        optimum: best designs under the chosen convention, kept axes (model, gpus, context).
        beside: the same search under `other`.
    """

    variants: tuple[Variant, ...]
    hardware: HardwareSpec
    convention: str
    other: str
    optimum: Optimum
    beside: Optimum


def variants_of(model: ModelSpec, qs: Sequence[float], convention: Convention) -> list[Variant]:
    """The model and, if it has experts, its dense twins."""
    if float(np.asarray(model.experts)) <= 1:
        return [Variant("dense", None, model)]
    twins = [Variant("dense", q, dense_twin(model, q, convention.twin)) for q in qs]
    return [Variant("moe", None, model), *twins]


def divisors(number: int) -> list[int]:
    """All divisors in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [k for k in range(1, number + 1) if number % k == 0]


def grid_of(
    variants: Sequence[Variant],
    gpus: Sequence[int],
    contexts: Sequence[float],
    overrides: Mapping[str, Sequence[float | str]],
) -> Axes:
    """The full tp x ep x pp x dp x kvp x KV-mode tensor for every variant, GPU count and context.

    Degrees range over the divisors of the GPU counts unless `overrides` names them.
    """
    default = sorted({d for count in gpus for d in divisors(count)})
    axes: dict[str, Sequence[float | str]] = {
        "model": [variant.label for variant in variants],
        "gpus": list(gpus),
        "context": list(contexts),
        **dict.fromkeys(DEGREES, default),
        "kv_mode": ["kvp", "cp"],
    }
    return make_axes(axes | dict(overrides), searched=("batch",))


def explore(
    model: ModelSpec,
    hardware: HardwareSpec,
    *,
    gpus: Sequence[int] = (64,),
    contexts: Sequence[float] = CONTEXTS,
    qs: Sequence[float] = (5.0,),
    convention: str = "physical",
    workload: Workload | None = None,
    overrides: Mapping[str, Sequence[float | str]] | None = None,
    objective: Objective = "tokens_per_s_per_gpu",
) -> Exploration:
    """Search every split for the model and its dense twins, at every GPU count and context.

    Args:
        model: any model; a dense one is searched alone.
        hardware: accelerator.
        gpus: GPU counts; every design uses exactly one of them.
        contexts: context lengths [tokens].
        qs: quality-equivalence factors of the dense twins (eq. 11, 21).
        convention: `physical` or `paper`; the other one is searched too, and shown beside.
        workload: dtypes and batch; context is taken from `contexts`.
        overrides: values of any axis, instead of its default.
        objective: what is maximised.

    Raises:
        ValueError: the input has mistakes; the message lists all of them.
    """
    other = next(name for name in CONVENTIONS if name != convention)
    base = workload or Workload(context=1.0)

    def run(name: str) -> tuple[list[Variant], Optimum]:
        rules = CONVENTIONS[name]
        variants = variants_of(model, qs, rules)
        axes = grid_of(variants, gpus, contexts, overrides or {})
        specs = stack([variant.spec for variant in variants])
        records = Records(specs, hardware, Partition(), base)
        return variants, search(records, axes, rules, objective)

    # Compilation dominates the wall time and releases the GIL: one thread for each convention.
    with ThreadPoolExecutor(2) as pool:
        (variants, optimum), (_, beside) = pool.map(run, (convention, other))
    return Exploration(tuple(variants), hardware, convention, other, optimum, beside)
