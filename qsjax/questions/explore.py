"""The main question: which split is best for the MoE and for its dense twins, and by how much."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from qsjax.grid.axes import stack
from qsjax.grid.problem import (
    CONTEXTS,
    Variant,
    axis_values,
    check_inputs,
    check_size,
    grid_of,
    variants_of,
)
from qsjax.grid.search import Objective, Optimum, search
from qsjax.questions.serving import Relaxation, relax
from qsjax.records import checks
from qsjax.records.fields import facts_of
from qsjax.records.precision import workload_of
from qsjax.records.scenario import Records
from qsjax.records.specs import (
    CONVENTIONS,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
    named_convention,
)


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
        workload: batch, and dtypes other than the published ones; its context is not used.
        overrides: values of any axis, instead of its default.
        objective: what is maximised.

    Raises:
        ValueError: the input has mistakes; the message lists all of them.
    """
    named_convention(convention)
    if no_axes := sorted(facts_of(Convention).keys() & set(overrides or ())):
        raise ValueError(
            f"{', '.join(no_axes)}: factors of an accounting are no axes of a search; "
            "`qsjax.questions.sensitivity.problem` takes them"
        )
    other = next(name for name in CONVENTIONS if name != convention)
    given = {"gpus": gpus, "context": contexts, **(overrides or {})}
    given |= {"q": qs} if np.size(qs) else {}
    check_inputs(model, hardware, given, workload, overrides or ())
    base = workload_of(model, context=1.0) if workload is None else workload
    model, hardware, base = checks.check_records(model=model, hardware=hardware, workload=base)
    read = checks.check_axes(given)
    qs = read.pop("q", ())
    values = axis_values(read.pop("gpus"), read.pop("context"), read)

    def run(name: str) -> tuple[list[Variant], Records, Optimum]:
        rules = CONVENTIONS[name]
        variants = variants_of(model, qs, rules)
        axes = grid_of(variants, values)
        check_size(axes)
        records = Records(stack([v.spec for v in variants]), hardware, Partition(), base)
        return variants, records, search(records, axes, rules, objective)

    # Compilation dominates the wall time and releases the GIL: one thread for each convention.
    with ThreadPoolExecutor(2) as pool:
        (variants, records, optimum), (_, _, beside) = pool.map(run, (convention, other))
    needs = None
    if not optimum.is_feasible.all():
        where = ~optimum.is_feasible
        needs = relax(records, optimum.axes, CONVENTIONS[convention], where)
    return Exploration(tuple(variants), hardware, convention, other, optimum, beside, needs)
