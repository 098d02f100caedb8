"""The main question: which split is best for the MoE and for its dense twins, and by how much."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from qsjax import validate
from qsjax.grid import STACKED, Axes, Records, make_axes, stack, twin_of
from qsjax.machine import free_memory
from qsjax.search import Objective, Optimum, search
from qsjax.serving import Relaxation, relax
from qsjax.specs import (
    CONVENTIONS,
    DEGREES,
    KV_MODES,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
    named_convention,
)
from qsjax.units import GIB

CONTEXTS = tuple(1024.0 * 2**k for k in range(15))  # 1k to 16M tokens, the paper's range
# Peak memory of a search, measured: of a cell where every score is kept, and of a design at one
# place of the kept axes but the longest [B].
BYTES_PER_CELL, BYTES_PER_DESIGN = 150.0, 2048.0


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
        needs: what the infeasible cells would need; None if there are none.
    """

    variants: tuple[Variant, ...]
    hardware: HardwareSpec
    convention: str
    other: str
    optimum: Optimum
    beside: Optimum
    needs: Relaxation | None = None


def variants_of(model: ModelSpec, qs: Sequence[float], convention: Convention) -> list[Variant]:
    """The model and, if it has experts, its dense twins."""
    if float(np.asarray(model.experts)) <= 1:
        return [Variant("dense", None, model)]
    twins = [Variant("dense", q, twin_of(model, q, definition=convention.twin)) for q in qs]
    return [Variant("moe", None, model), *twins]


def divisors(number: int) -> list[int]:
    """All divisors in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [k for k in range(1, number + 1) if number % k == 0]


def axis_values(
    gpus: Sequence[int],
    contexts: Sequence[float],
    overrides: Mapping[str, Sequence[float | str]],
) -> dict[str, Sequence[float | str]]:
    """GPU counts, contexts, and the full tp x ep x pp x dp x kvp x KV-mode tensor below them.

    Degrees range over the divisors of the GPU counts unless `overrides` names them.
    """
    default = sorted({d for count in gpus for d in divisors(int(count))})
    return {
        "gpus": list(gpus),
        "context": list(contexts),
        **dict.fromkeys(DEGREES, default),
        "kv_mode": ["kvp", "cp"],
        **overrides,
    }


def grid_of(variants: Sequence[Variant], values: Mapping[str, Sequence[float | str]]) -> Axes:
    """The axes of an exploration: variant, GPU count and context kept, the partition searched."""
    labels = [variant.label for variant in variants]
    return make_axes({"model": labels, **values}, searched=("batch",))


def bytes_of(axes: Axes) -> float:
    """Memory that a search takes, about [B]: large grids keep no scores (`qsjax.staging`)."""
    every_score = axes.cells * BYTES_PER_CELL
    lanes = max((len(axis.values) for axis in axes.kept), default=1)
    return min(every_score, axes.cells / lanes * BYTES_PER_DESIGN + 0.5 * axes.cells)


def check_size(axes: Axes) -> None:
    """Raise `ValueError` if a grid is too large to be evaluated in one piece."""
    free, needed = free_memory(), bytes_of(axes)
    if needed > 0.5 * free:
        lengths = " x ".join(f"{axis.name} {len(axis.values)}" for axis in axes.all)
        raise ValueError(
            f"the grid has {axes.cells:,} cells ({lengths}) and would take about "
            f"{needed / GIB:,.1f} GiB, but {free / GIB:,.1f} GiB are free: give fewer values of "
            "some axes, or stream it in constant memory with `qsjax sweep`"
        )


def check_inputs(
    model: ModelSpec,
    hardware: HardwareSpec,
    axes: Mapping[str, Sequence[float | str]],
    workload: Workload,
    overridden: Iterable[str],
) -> None:
    """Raise one `ValueError` with every problem of an exploration's inputs.

    Degrees of axes that the user wrote down (`overridden`) must be legal for the model; of default
    axes an illegal degree is a cell with a reason.
    """
    problems = []
    if taken := sorted({"q", *STACKED}.intersection(overridden)):
        problems.append(f"{', '.join(taken)}: an argument of its own, not an axis to override")
    modes = axes.get("kv_mode", ())
    unknown = [mode for mode in modes if mode not in KV_MODES]
    if unknown or len(modes) == 0:
        given = ", ".join(map(str, unknown)) or "nothing"
        problems.append(f"kv_mode: {given} is not a KV mode; give some of {', '.join(KV_MODES)}")
    checks: list[Callable[[], None]] = [
        partial(validate.check_model, model),
        partial(validate.check_hardware, hardware),
        partial(validate.check_workload, workload),
        *(
            partial(validate.check_axis, name, values)
            for name, values in axes.items()
            if name not in ("kv_mode", *STACKED)
        ),
    ]
    checks += [
        partial(validate.check_partition, Partition(**{name: float(value)}), model)
        for name in ("tp", "ep", "pp")
        # Redundant experts change what ep must divide; then only the grid can tell.
        if name in overridden and not (name == "ep" and "redundant_experts" in overridden)
        for value in axes[name]
    ]
    for check in checks:
        try:
            check()
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))


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
        qs: quality-equivalence factors of the dense twins (eq. 11, 21); none for the model alone.
        convention: `physical` or `paper`; the other one is searched too, and shown beside.
        workload: dtypes and batch; context is taken from `contexts`. Without it weights are in FP8
            and the cache in 16 bits; `qsjax.workload(name)` has what a model is published in.
        overrides: values of any axis, instead of its default.
        objective: what is maximised.

    Raises:
        ValueError: the input has mistakes; the message lists all of them.
    """
    named_convention(convention)
    if no_axes := sorted(validate.CONVENTION_RULES.keys() & set(overrides or ())):
        raise ValueError(
            f"{', '.join(no_axes)}: factors of an accounting are no axes of a search; "
            "`qsjax.sensitivity.problem` takes them"
        )
    other = next(name for name in CONVENTIONS if name != convention)
    base = workload or Workload(context=1.0)
    validate.check_lists({"gpus": gpus, "contexts": contexts, "qs": qs, **(overrides or {})})
    validate.check_axis("gpus", gpus)
    values = axis_values(gpus, contexts, overrides or {})
    twins = {"q": qs} if len(qs) else {}
    check_inputs(model, hardware, {**values, **twins}, base, overrides or ())

    def run(name: str) -> tuple[list[Variant], Records, Optimum]:
        rules = CONVENTIONS[name]
        variants = variants_of(model, qs, rules)
        axes = grid_of(variants, values)
        check_size(axes)
        specs = stack([variant.spec for variant in variants])
        records = Records(specs, hardware, Partition(), base)
        return variants, records, search(records, axes, rules, objective)

    # Compilation dominates the wall time and releases the GIL: one thread for each convention.
    with ThreadPoolExecutor(2) as pool:
        (variants, records, optimum), (_, _, beside) = pool.map(run, (convention, other))
    needs = None
    if not optimum.is_feasible.all():
        where = ~optimum.is_feasible
        needs = relax(records, optimum.axes, CONVENTIONS[convention], where)
    return Exploration(tuple(variants), hardware, convention, other, optimum, beside, needs)
