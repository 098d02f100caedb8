"""A problem and the options of a sweep, checked and turned into a job over axes."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from qsjax.grid.axes import Axes, make_axes, stack, twin_of
from qsjax.grid.limits import describe, given_limits
from qsjax.grid.problem import Problem, Stated, axis_values
from qsjax.grid.served import Served, serving
from qsjax.numerics import trees
from qsjax.records import checks
from qsjax.records.conversion import as_float64
from qsjax.records.fields import NOT_NEGATIVE, Rule, choices_of, facts_of, hint
from qsjax.records.specs import CONVENTIONS, Convention, ModelSpec, Partition, Records, Workload
from qsjax.streaming.engine import Job, Precision
from qsjax.streaming.kernels import Metric
from qsjax.streaming.run import Outputs

METRICS: tuple[Metric, ...] = get_args(Metric)
BOUNDS = tuple(f"{side}_{metric}" for metric in METRICS for side in ("min", "max"))
# Limits of a problem that a sweep supports, and the bound of a metric that each one is.
BOUNDED = {"max_tpot": "max_tpot", "min_user_rate": "min_tokens_per_s_per_user"}
# The top designs are held in memory and written with every chunk.
_TOP = Rule(high=100_000, whole=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a sweep beside its problem.

    Attributes:
        outputs: what is kept.
        statistics: metrics whose range and quantiles over all feasible designs are kept.
        precision: of the numbers.
        skip_illegal: whether designs are left out that no kept cell allows.
        bounds: `min_` or `max_` of a metric, which designs must keep.
        q: quality factors of an axis that makes every model its dense twin.
        any_gpus: whether designs have the GPU count that their degrees take; the problem's own
            counts are no axis then.
    """

    outputs: Outputs = dataclasses.field(default_factory=Outputs)
    statistics: Sequence[Metric] = ()
    precision: Precision = "float64"
    skip_illegal: bool = True
    bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    q: Sequence[float] = ()
    any_gpus: bool = False

    def content(self) -> dict[str, Any]:
        """What identifies the sweep together with its problem."""
        optional = ("skip_illegal", "bounds", "q", "any_gpus")
        default = Options()
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in optional or value != getattr(default, name)
        }


OUTPUTS = tuple(field.name for field in dataclasses.fields(Outputs))


def options_of(given: Mapping[str, Any], **more: Any) -> Options:
    """Options of what is kept, by name: outputs, statistics, precision.

    Raises:
        ValueError: a name is not known.
    """
    known = (*OUTPUTS, "statistics", "precision")
    if unknown := sorted(given.keys() - set(known)):
        raise ValueError(f"{', '.join(unknown)}: {hint(unknown[0], known)}")
    outputs = Outputs(**{name: x for name, x in given.items() if name in OUTPUTS})
    others = {name: x for name, x in given.items() if name not in OUTPUTS}
    return Options(outputs=outputs, **others, **more)


def repeated(values: Sequence[Any]) -> str | None:
    """What is wrong with a list that names something twice, or None."""
    seen: set[Any] = set()
    for value in values:
        if isinstance(value, str | int | float):
            if value in seen:
                shown = repr(value) if isinstance(value, str) else f"{value:g}"
                return f"{shown} is there twice; give every value once"
            seen.add(value)
    return None


def problems_of(options: Options) -> Iterator[tuple[str, str]]:
    """Name of each option and what is wrong with it."""
    for name in ("winners", "pareto", "wins"):
        if problem := checks.choice_problem(getattr(options.outputs, name), (True, False)):
            yield name, problem
    if problem := checks.choice_problem(options.skip_illegal, (True, False)):
        yield "skip_illegal", problem
    top = options.outputs.top_k
    if not isinstance(top, int | np.integer) or checks.value_problem(_TOP, top):
        yield "top_k", f"{top!r} is not allowed; give {_TOP}"
    if problem := checks.choice_problem(options.precision, get_args(Precision)):
        yield "precision", problem
    given = options.statistics
    if not isinstance(given, list | tuple):
        yield "statistics", f"{given!r} is not allowed; give a list of {', '.join(METRICS)}"
    else:
        strange = (checks.choice_problem(metric, METRICS) for metric in given)
        if problem := next(filter(None, strange), repeated(given)):
            yield "statistics", problem
    yield from _bound_problems(options.bounds)


def _bound_problems(bounds: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    wrong = {name: checks.value_problem(NOT_NEGATIVE, value) for name, value in bounds.items()}
    yield from ((name, problem) for name, problem in wrong.items() if problem)
    for metric in METRICS:
        ends = f"min_{metric}", f"max_{metric}"
        if all(name in bounds and not wrong[name] for name in ends):
            low, high = (as_float64(bounds[name]) for name in ends)
            if low > high:
                yield ends[0], f"{low:g} exceeds {ends[1]} = {high:g}; no design keeps both"


def _unswept(problem: Problem, options: Options) -> Iterator[tuple[str, str]]:
    """What a problem asks for that a streamed grid cannot do."""
    stated = problem.stated
    if problem.batch == "best":
        yield "batch", 'batch: a sweep takes the "largest" that fits, or numbers'
    if problem.objective not in METRICS:
        known = ", ".join(METRICS)
        yield "objective", f"objective: a sweep has no {problem.objective}; give one of {known}"
    if stated.second is not None:
        yield "convention", f"convention: a sweep has one; give {' or '.join(CONVENTIONS)}"
    limits = problem.limits
    if others := [describe(limits, name) for name in given_limits(limits) if name not in BOUNDED]:
        yield (
            "limits",
            f"limits: a sweep keeps those on {' and '.join(BOUNDED)}, not {', '.join(others)}; "
            "name the values of axes instead",
        )
    for name in facts_of(Convention):
        if name in stated.kept:
            yield name, f"{name}: a sweep has one accounting; give it in a Convention"
    dense = stated.dense
    if len(options.q) and (dense or stated.twins):
        if stated.twins:
            dense += [f"the twins of {m.name}" for m in stated.models if m.name not in dense]
        yield (
            "q",
            "q: makes every model its dense twin, but there are no experts to replace in "
            f"{', '.join(dense)}; drop the axis, or these",
        )
    yield from _precisions_apart(stated.models)
    if any(len({str(x.entries) for x in d.tuned.values()}) > 1 for d in stated.accelerators):
        yield "engine", "engine: kernels of several formats; sweep models of one format at a time"
    if len(_accountings(stated)) > 1:
        yield (
            "engine",
            "engine: the load of experts is counted in several ways, as kernels were fitted on "
            "each accelerator; sweep those with measured kernels apart from the others",
        )


def _accountings(stated: Stated) -> list[Convention]:
    """The accountings of all models with experts on all accelerators."""
    each: list[Convention] = []
    for model, served in enumerate(stated.models):
        for hardware in range(len(stated.accelerators) if served.spec.is_moe else 0):
            rules = stated.rules_of(model, hardware)
            each += [] if rules in each else [rules]
    return each


def _precisions_apart(models: Sequence[Served]) -> Iterator[tuple[str, str]]:
    """Models that multiply in different dtypes, where a sweep has one for all."""
    for field in choices_of(Workload):
        models_of: dict[str, str] = {}
        for model in models:
            models_of.setdefault(getattr(model.workload, field), model.name)
        if len(models_of) > 1:
            listed = ", ".join(f"{name} in {dtype}" for dtype, name in models_of.items())
            yield (
                "model",
                f"model: they are published in different precisions ({listed}), and a sweep "
                f"has one {field}; set weights to one of them, or sweep them apart",
            )
            return


def complaints(problem: Problem, options: Options) -> list[tuple[str, str]]:
    """Name of each argument and option of a sweep, and what is wrong with it."""
    return [*problems_of(options), *_unswept(problem, options)]


def _records_of(problem: Problem) -> tuple[list[str], Records]:
    """Models with their dense twins, and accelerators, as stacks; names of the models."""
    stated = problem.stated
    specs: dict[str, ModelSpec] = {}
    works: list[Workload] = []
    for model in stated.models:
        family = {model.name: model.spec}
        for q in stated.twins if model.spec.is_moe else ():
            twin = twin_of(model.spec, float(q), definition=stated.rules.twin)
            family[f"{model.name} dense q={q:g}"] = twin
        specs |= family
        works += [model.workload] * len(family)
    # One value where all models share it.
    work = trees.map(lambda x: x if np.ptp(x) else float(x[0]), stack(works))
    devices = stack([serving(device, stated.models[0]).spec for device in stated.accelerators])
    return list(specs), Records(stack(list(specs.values())), devices, Partition(), work, None)


def _bounds_of(problem: Problem, options: Options) -> dict[Metric, tuple[float, float]]:
    """Lowest and highest value allowed of each metric that is bounded."""
    limits = {
        bound: float(np.asarray(getattr(problem.limits, name)))
        for name, bound in BOUNDED.items()
        if name in given_limits(problem.limits)
    }
    ends = limits | {name: as_float64(value) for name, value in options.bounds.items()}
    return {
        metric: (ends.get(f"min_{metric}", -math.inf), ends.get(f"max_{metric}", math.inf))
        for metric in METRICS
        if {f"min_{metric}", f"max_{metric}"} & ends.keys()
    }


def job_of(problem: Problem, options: Options) -> tuple[Job, Axes]:
    """A problem as a streamed grid.

    Raises:
        ValueError: with every option that is wrong, and all that a streamed grid cannot do.
    """
    if wrong := complaints(problem, options):
        texts = (t if t.startswith(f"{name}: ") else f"{name}: {t}" for name, t in wrong)
        raise ValueError("\n".join(texts))
    stated = problem.stated
    labels, records = _records_of(problem)
    values: dict[str, Any] = {"model": labels, "hardware": [d.name for d in stated.accelerators]}
    values |= axis_values(stated)
    if len(options.q):
        values["q"] = list(options.q)
    if options.any_gpus:
        del values["gpus"]
    objective: Any = problem.objective
    bounds, statistics = _bounds_of(problem, options), tuple(options.statistics)
    rules = (_accountings(stated) or [stated.rules])[0]
    job = Job(records, rules, objective, bounds, statistics, options.precision)
    return job, make_axes(values)
