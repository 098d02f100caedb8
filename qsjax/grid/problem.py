"""The problem that every question takes: models, accelerators, GPU counts, contexts, limits."""

import dataclasses
import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar, get_args

import numpy as np

from qsjax.cost.meanings import meaning_of
from qsjax.cost.metrics import Economy, Objective, check_economy, check_metrics, check_prices
from qsjax.cost.metrics import economy_of as economy_of_hardware
from qsjax.cost.prefix import mean_context
from qsjax.engines.command_line import engine_named
from qsjax.grid.axes import PARTITION_AXES, STACKED
from qsjax.grid.entry import entry
from qsjax.grid.limits import RISING, Limits, check_limits, given_limits
from qsjax.grid.served import (
    TRACED,
    Accelerator,
    Served,
    as_accelerator,
    as_served,
    counted,
    served_by,
)
from qsjax.numerics.numpy_backend import is_traced
from qsjax.records import checks
from qsjax.records.conversion import kind_of
from qsjax.records.fields import numbers_of
from qsjax.records.precision import STORED, dtype_named
from qsjax.records.specs import (
    CONVENTIONS,
    DEGREES,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
    named_convention,
    replace,
)
from qsjax.records.units import DIMENSIONS, listed, part_of_second, tokens, with_unit

CONTEXTS = tuple(1024.0 * 2**k for k in range(15))  # 1k to 16M tokens, the paper's range
USUAL_CONTEXT = 131072.0  # longest context taken for a model whose publisher states none
# Arguments that are no entries of `axes`.
ARGUMENTS = ("model", "hardware", "gpus", "context", "q")
# Objectives of one user: a smaller batch is never worse.
FAST = ("tpot", "tokens_per_s_per_user")
ACCOUNTING = "own"  # name of a convention that has none


def several(value: Any) -> tuple[list[Any], bool]:
    """The values of an argument that takes one or several, and whether it was one."""
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    is_one = isinstance(value, str | bytes | Path | Mapping | ModelSpec | HardwareSpec) or (
        not hasattr(value, "__iter__") or hasattr(value, "spec")
    )
    return ([value], True) if is_one else (list(value), False)


def numbers(name: str, value: Any) -> tuple[list[float], bool]:
    """Numbers of an argument that takes one or several ("8k" is 8,192), and whether it was one.

    Raises:
        ValueError: something else than numbers, or numbers out of their bounds.
    """
    if name == "twins" and (value is None or str(value) == "none" or np.size(value) == 0):
        return [], False
    values, problem = checks.read_axis("q" if name == "twins" else name, value)
    if problem is not None:
        raise ValueError(problem if problem.startswith("unknown axis") else f"{name}: {problem}")
    listed = list(values)
    return listed, len(listed) == 1 if isinstance(value, str) else np.ndim(value) == 0


def _contexts_up_to(longest: Sequence[int]) -> list[float]:
    """Powers of two from 1k to the longest context that any of the models is published for."""
    most = max((float(count) or USUAL_CONTEXT for count in longest), default=USUAL_CONTEXT)
    return [context for context in CONTEXTS if context <= max(most, CONTEXTS[0])]


def _unique(items: Sequence[Any]) -> list[Any]:
    """Items with a number appended to names that occur twice."""
    counts = Counter(item.name for item in items)
    number = {name: itertools.count(1) for name in counts}
    return [
        x._replace(name=f"{x.name} {next(number[x.name])}") if counts[x.name] > 1 else x
        for x in items
    ]


class Stated(NamedTuple):
    """A problem's arguments in one form: lists of numbers and of named records.

    Attributes:
        models: one or several.
        accelerators: likewise.
        gpus: GPU counts.
        contexts: context lengths [tokens].
        twins: quality factors of the dense twins.
        batches: batches to choose from; None for the largest that fits, or for all of them.
        any_batch: whether all of them are searched.
        searched: values of partition axes that are not searched in full.
        kept: further axes of the result.
        rules: the accounting, before an engine's kernels count in it (`rules_of`).
        convention: its name.
        second: name of the accounting that is reported beside it; None without.
        single: arguments that were one value: no axis of the result.
    """

    models: tuple[Served, ...]
    accelerators: tuple[Accelerator, ...]
    gpus: tuple[float, ...]
    contexts: tuple[float, ...]
    twins: tuple[float, ...]
    batches: tuple[float, ...] | None
    any_batch: bool
    searched: dict[str, list[float | str]]
    kept: dict[str, list[float]]
    rules: Convention
    convention: str
    second: str | None
    single: frozenset[str]

    @property
    def dense(self) -> list[str]:
        """Names of the models without experts, which have no dense twins."""
        return [model.name for model in self.models if not model.spec.is_moe]

    @property
    def accountings(self) -> dict[str, Convention]:
        """The accounting by its name, and behind it the second one."""
        more = {} if self.second is None else {self.second: CONVENTIONS[self.second]}
        return {self.convention: self.rules} | more

    def rules_of(self, model: int = 0, hardware: int = 0) -> Convention:
        """The accounting of a model on an accelerator: see `counted`."""
        tuned = self.accelerators[hardware].tuned
        return counted(self.rules, tuned.get(self.models[model].name))


def axis_values(stated: Stated) -> dict[str, Sequence[float | str]]:
    """GPU counts, contexts, and the full tp x ep x pp x dp x kvp x KV-mode tensor below them.

    Degrees range over the divisors of the GPU counts unless the problem names them.

    Raises:
        ValueError: a GPU count is out of bounds, before its divisors are enumerated.
    """
    gpus = checks.check_axes({"gpus": stated.gpus})["gpus"]
    default = sorted({d for count in gpus for d in checks.divisors(int(count))})
    batches = [] if stated.any_batch else list(stated.batches or ())
    return {
        "gpus": list(gpus),
        "context": list(stated.contexts),
        **dict.fromkeys(DEGREES, default),
        "kv_mode": ["kvp", "cp"],
        **stated.searched,
        **stated.kept,
        **({"batch": batches} if batches else {}),
    }


class ProblemError(ValueError):
    """What is wrong with a problem: `mistakes` are the arguments and what is wrong with each."""

    def __init__(self, mistakes: Sequence[tuple[str, str]]) -> None:
        self.mistakes = list(dict.fromkeys(mistakes))
        super().__init__("\n".join(dict.fromkeys(text for _, text in mistakes)))


class _Mistakes(list[tuple[str, str]]):
    """Arguments and what is wrong with them, collected so that one error lists all."""

    def run(self, name: str, check: Any, *args: Any, default: Any = None) -> Any:
        """Return what `check` returns; where it raises, note the mistake and return the default."""
        try:
            return check(*args)
        except ValueError as error:
            self.append((name, str(error)))
            return default


def named_rules(convention: str | Convention) -> tuple[Convention, str, str | None]:
    """The convention of a `Problem`, its name, and the name of a second one to report."""
    convention = convention.lower() if isinstance(convention, str) else convention
    if convention == "both":
        first, second = CONVENTIONS
        return CONVENTIONS[first], first, second
    if isinstance(convention, Convention):
        rules: Convention = checks.check_records(convention=convention)[0]
        names = [name for name, preset in CONVENTIONS.items() if preset == rules]
        return rules, names[0] if names else ACCOUNTING, None
    return named_convention(convention), convention, None


def _split_axes(
    given: Mapping[str, Any], wrong: _Mistakes
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The partition axes, and the others."""
    searched: dict[str, list[float | str]] = {}
    kept: dict[str, list[float]] = {}
    taken = sorted({*ARGUMENTS, *STACKED, "twins"}.intersection(given))
    wrong += [
        (name, f"{name}: not in axes; give Problem(..., {'twins' if name == 'q' else name}=[...])")
        for name in taken
    ]
    for name, value in given.items():
        if name in taken:
            continue
        if name == "kv_mode":
            searched[name], problem = checks.read_axis(name, value)
            if problem is not None:
                wrong.append((name, f"{name}: {problem}"))
        else:
            values, _ = wrong.run(name, numbers, name, value, default=([], False))
            if values:
                (searched if name in PARTITION_AXES else kept)[name] = list(dict.fromkeys(values))
    return searched, kept


def _check_degrees(
    searched: Mapping[str, Sequence[Any]], models: Sequence[Served], wrong: _Mistakes
) -> None:
    """Degrees that the user wrote down must be legal for some of the models."""
    for name in ("tp", "ep", "pp"):
        # Redundant experts change what ep must divide; then only the grid can tell.
        if name == "ep" and "redundant_experts" in searched:
            continue
        for value in searched.get(name, ()):
            refused, degree = _Mistakes(), Partition().replace(**{name: float(value)})
            for model in models:
                refused.run(name, checks.check_partition, degree, model.spec)
            if models and len(refused) == len(models):
                wrong.append(refused[0])


def _check_meetings(
    kept: Mapping[str, Sequence[float]],
    models: Sequence[Served],
    devices: Sequence[Accelerator],
    wrong: _Mistakes,
) -> None:
    """Fields that axes change must go with the others of their record wherever axes meet.

    A design of more experts per token than experts, for example, has no cost, and no reason of the
    grid names it: unlike a split that does not fit, it is a mistake of the problem.
    """
    records = [(one.name, each) for one in models for each in (one.spec, one.workload)]
    for subject, record in [*records, *((one.name, one.spec) for one in devices)]:
        fields = numbers_of(record)
        names = [name for name in kept if name in fields]
        meshes = np.meshgrid(*(kept[name] for name in names), sparse=True)
        met = fields | dict(zip(names, meshes, strict=True))
        problems = checks.problems_of(type(record), met) if names else {}
        wrong += [
            (name, f"axes of {subject}: {name}: {problem}") for name, problem in problems.items()
        ]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """What is asked: models, accelerators, GPU counts, contexts, and what a design must keep.

    An argument that is given a list is an axis of the result. Partition degrees are searched over
    all divisors of the GPU counts, unless `axes` names their values; any other field of any record
    in `axes` is a further axis of the result.

    Attributes:
        model: a name, Hugging Face id, config.json or its dict, .toml file, `ModelSpec`, or a list;
            a `Served` has precisions and speculation of its own.
        hardware: a name, .toml file, `HardwareSpec`, or a list.
        gpus: GPU counts, each used in full: copies of a deployment fill what one leaves.
        context: context lengths [tokens]; by default powers of two from 1k to what the model is
            published for.
        twins: quality factors q of the dense twins that are searched as well (eq. 11, 21).
        batch: sequences of an attention replica: the `largest` that fits, the `best` within the
            limits, or numbers to choose from. By default the best where a smaller one may win, as
            with the objective `tpot` or a limit on it, and the largest elsewhere.
        limits: what a design must keep.
        economy: an `Economy`, or some of its fields by name, such as `{"utilisation": 0.6}`; the
            hardware's by default.
        objective: what is best: a name of `metrics.METRICS`.
        convention: `physical`, `paper`, `both` for the paper's beside the physical, or a
            `Convention`.
        workload: precisions in place of those that the model is published in: a `Workload`, or some
            of its fields by name, such as `{"bytes_act": 1.0}`.
        weights: dtype of the weights in place of the published one.
        kv: dtype of the cache, likewise.
        axes: values by name of field.
        engine: what serves it: `vllm`, `sglang`, `trtllm` or `atom`; the constants are those of its
            kernels then, in place of those that fit all engines. Times per token of the measured
            records are 5.7 % off in the median by the first, 10.6 by the others.

    Raises:
        ValueError: the arguments have mistakes; the message lists all of them.

    >>> Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="32k", twins=[2, 5])
    Problem: mixtral-8x7b with twins q=2, 5 on 8 h100-sxm at 32k
    """

    model: Any
    hardware: Any
    _: dataclasses.KW_ONLY
    gpus: Any = 64
    context: Any = None
    twins: Any = ()
    batch: Any = None
    limits: Limits = Limits()
    economy: Economy | Mapping[str, float] | None = None
    objective: Objective = "tokens_per_s_per_gpu"
    convention: str | Convention = "physical"
    workload: Workload | Mapping[str, Any] | None = None
    weights: Any = None
    kv: Any = None
    axes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    engine: str = ""
    stated: Stated = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Read the engine in any of its spellings, and the rest into one form."""
        engine = self.engine or ""
        if isinstance(engine, str):
            object.__setattr__(self, "engine", engine_named(engine) or engine)
        object.__setattr__(self, "stated", _state(self))

    replace = replace

    def __repr__(self) -> str:
        return f"Problem: {describe(self)}"


def _workload(given: Workload | Mapping[str, Any], published: Workload) -> Workload:
    """A model's own workload with the fields that a problem states, or the one that it states.

    Raises:
        ValueError: a field does not exist here, or its value is not allowed.
    """
    if isinstance(given, Mapping):
        known = {field.name for field in dataclasses.fields(Workload)} - {"context", "batch"}
        checks.check_names("workload", given, sorted(known))
        given = dataclasses.replace(published, **given)
    return checks.check_records(workload=given)[0]


def _repeated(what: str, given: Sequence[Any], items: Sequence[Any]) -> list[tuple[str, str]]:
    """Names that mean the same record, which would be compared with itself."""
    pairs = zip(items, given, strict=True)
    names = [x[:3] if x and isinstance(y, str) else None for x, y in pairs]
    return [
        (what, f"{what}: {first!r} and {again!r} are both {name[0]}; give one of them")
        for i, (name, again) in enumerate(zip(names, given, strict=True))
        for first in [given[names.index(name)]]
        if name and names.index(name) < i
    ]


def _records(problem: Problem, wrong: _Mistakes) -> tuple[Any, Any, set[str]]:
    models, one_model = several(problem.model)
    devices, one_device = several(problem.hardware)
    work = problem.workload
    stored = {"weights": dtype_named(problem.weights), "kv": dtype_named(problem.kv)}
    for name, dtype in stored.items():
        unknown = None if dtype is None else checks.choice_problem(dtype, tuple(STORED))
        if unknown is not None:
            wrong.append((name, f"{name}: {unknown}"))
            stored[name] = None
    asked = (*stored.values(), None if isinstance(work, Mapping) else work)
    served = [wrong.run("model", as_served, item, *asked) for item in models]
    accelerators = [wrong.run("hardware", as_accelerator, item) for item in devices]
    if not isinstance(work, Workload):  # whose numbers may be arrays
        wrong += _repeated("model", models, served)
    wrong += _repeated("hardware", devices, accelerators)
    served = [item for item in served if item is not None]
    accelerators = [item for item in accelerators if item is not None]
    wrong += [
        (what, f"{what}: {TRACED}")
        for what, part in (("model", served), ("hardware", accelerators))
        if is_traced([item.spec for item in part])
    ]  # fmt: skip
    for what, given in (("model", models), ("hardware", devices)):
        if not given:
            wrong.append((what, f"{what}: nothing was given; give at least one"))
    if work is not None:
        stated = [wrong.run("workload", _workload, work, item.workload) for item in served]
        served = [
            m._replace(workload=w) for m, w in zip(served, stated, strict=True) if w is not None
        ]
    served = _unique(served)
    accelerators = [
        wrong.run("engine", served_by, problem.engine, served, item, default=item)
        for item in _unique(accelerators)
    ]
    singles = {"model": one_model, "hardware": one_device}
    return served, accelerators, {name for name, is_one in singles.items() if is_one}


def _batches(problem: Problem, wrong: _Mistakes) -> tuple[float, ...] | None:
    batch = problem.batch
    if isinstance(problem.workload, Workload) and problem.workload.batch is not None:
        if not isinstance(batch, str | None):
            wrong.append(("batch", "batch: given twice, and in the workload; keep one"))
        batch = np.ravel(problem.workload.batch).tolist()
    if isinstance(batch, str) and batch.isalpha() and batch not in ("largest", "best"):
        wrong.append(("batch", f"batch: {batch!r} is not known; give largest, best, or numbers"))
        return None
    if batch is None or (isinstance(batch, str) and batch in ("largest", "best")):
        return None
    values, _ = wrong.run("batch", numbers, "batch", batch, default=([], False))
    return tuple(dict.fromkeys(values))


def _searches_batches(problem: Problem, batches: tuple[float, ...] | None) -> bool:
    """Whether all batches are searched: by request, or where the largest may not be the best.

    That is so for what one user sees, and within limits that a smaller batch keeps.
    """
    if problem.batch is not None or batches is not None:
        return isinstance(problem.batch, str) and problem.batch == "best"
    is_rising = not set(RISING).isdisjoint(given_limits(problem.limits))
    return is_rising or problem.objective in FAST


def _state(problem: Problem) -> Stated:
    """The arguments in one form.

    Raises:
        ProblemError: with all their mistakes.
    """
    wrong = _Mistakes()
    for name, kind in (("limits", Limits), ("axes", Mapping)):
        given = getattr(problem, name)
        if not isinstance(given, kind):
            hint = "qsjax.Limits(max_tpot=0.05)" if name == "limits" else '{"hbm_bw": [3e12, 5e12]}'
            raise ValueError(f"{name}: {kind_of(given)} was given; give {hint}, say")
    for name in ("limits", "economy", "workload", "convention"):
        if is_traced(getattr(problem, name)):
            raise ValueError(f"{name}: {TRACED}")
    served, devices, single = _records(problem, wrong)
    lists: dict[str, tuple[float, ...]] = {}
    for name in ("gpus", "context", "twins"):
        given = getattr(problem, name)
        if name == "context" and given is None:
            given = _contexts_up_to([model.max_context for model in served])
        values, is_one = wrong.run(name, numbers, name, given, default=([], False))
        single |= {name} if is_one else set()
        lists[name] = tuple(dict.fromkeys(values))
    usual = (CONVENTIONS["physical"], "physical", None)
    rules, label, second = wrong.run("convention", named_rules, problem.convention, default=usual)
    if problem.engine and "paper" in (second, label):
        said = "the paper's accounting knows no kernels, and theirs are fitted to the physical one"
        wrong.append(("engine", f"engine: {said}; drop engine, or take convention='physical'"))
    searched, kept = _split_axes(problem.axes, wrong)
    _check_degrees(searched, served, wrong)
    _check_meetings(kept, served, devices, wrong)
    wrong.run("objective", check_metrics, [problem.objective])
    for device in devices:
        economy = wrong.run("economy", economy_of, problem, device)
        if economy is not None:
            wrong.run("limits", check_limits, problem.limits, economy)
            if problem.objective in get_args(Objective):
                wrong.run("objective", check_prices, [problem.objective], economy, device.name)
    batches = _batches(problem, wrong)
    if wrong:
        raise ProblemError(wrong)
    return Stated(
        models=tuple(served),
        accelerators=tuple(devices),
        gpus=lists["gpus"],
        contexts=lists["context"],
        twins=lists["twins"],
        batches=batches,
        any_batch=_searches_batches(problem, batches),
        searched=searched,
        kept=kept,
        rules=rules,
        convention=label,
        second=second,
        single=frozenset(single),
    )


def with_batch(problem: Problem, batch: str | None, **changes: Any) -> Problem:
    """The problem with `best` or the default in place of the batch it prescribes, and changes."""
    work = problem.workload
    if isinstance(work, Workload):
        work = dataclasses.replace(work, batch=None)
    return dataclasses.replace(problem, **{"batch": batch, "workload": work} | changes)


def check_single(problem: Problem, why: str, *names: str) -> None:
    """Raise `ValueError` where one of these arguments, or a further axis, has several values."""
    stated = problem.stated
    given: dict[str, Sequence[Any]] = {
        "model": stated.models,
        "hardware": stated.accelerators,
        "gpus": stated.gpus,
        "context": stated.contexts,
        "twins": stated.twins,
        "batch": stated.batches or (),
    }
    asked = {name: given[name] for name in names} | stated.kept
    several = [f"{name} ({len(x)} values)" for name, x in asked.items() if len(x) > 1]
    if several:
        raise ValueError(f"{why}, so give one value for: {', '.join(several)}")


def pairs_of(problem: Problem) -> list[tuple[int, int]]:
    """Places of every pair of the problem's models and accelerators, model by model."""
    stated = problem.stated
    return [(m, h) for m in range(len(stated.models)) for h in range(len(stated.accelerators))]


def economy_of(problem: Problem, device: Accelerator) -> Economy:
    """Price and power of a problem's hardware.

    Raises:
        ValueError: a number is out of its range.
    """
    given = problem.economy
    if isinstance(given, Economy):
        check_economy(given)
        return given
    if not isinstance(given, Mapping | None):
        raise ValueError(f'economy: {kind_of(given)} was given; give {{"usd_per_hour": 2.5}}, say')
    named = dict(given or {})
    checks.check_names("economy", named, [field.name for field in dataclasses.fields(Economy)])
    return economy_of_hardware(device.spec, **named)


def _lengths(contexts: Sequence[float]) -> str:
    """Contexts as `listed`, multiples of 1,024 in k."""
    if any(context % 1024 for context in contexts):
        return f"{listed(contexts)} tokens"
    return listed(contexts, tokens)


def _axis_values(name: str, values: Sequence[Any]) -> str:
    """Values of an axis as `listed`, with their unit."""
    unit = meaning_of(name).units

    def write(value: Any) -> str:
        if isinstance(value, str):
            return value
        if unit == "s":
            name, size = part_of_second(value)
            return f"{value / size:,.6g} {name}"
        return with_unit(value, unit, 6) if unit in DIMENSIONS else f"{value:,.10g}"

    return listed(values, write)


def describe(problem: Problem) -> str:
    """A problem in one line."""
    stated = problem.stated
    models = ", ".join(model.name for model in stated.models)
    if stated.twins and len(stated.dense) < len(stated.models):
        models += f" with twins q={listed(stated.twins)}"
    devices = ", ".join(device.name for device in stated.accelerators)
    line = f"{models} on {listed(stated.gpus)} {devices} at {_lengths(stated.contexts)}"
    for name, values in (stated.kept | stated.searched).items():
        line += f", {name} {_axis_values(name, values)}"
    if problem.engine:
        line += f" under {problem.engine}"
    if stated.convention != "physical":
        line += f", {stated.convention} convention"
    return line


P = ParamSpec("P")
R = TypeVar("R")


def fixed_question(best: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a question that has its own notion of what is best, whatever the objective.

    Args:
        best: what it does instead of ranking by an objective, as in "compares tokens/s/GPU".
    """
    return lambda function: question(function, best)


def of_requests(problem: Problem, requests: tuple[float, float] | None) -> Problem:
    """The problem at the mean context of requests (input, output) where it states none."""
    if requests is None or problem.context is not None:
        return problem
    return dataclasses.replace(problem, context=mean_context(*requests))


def question(function: Callable[P, R], best: str = "") -> Callable[P, R]:
    """Make a function a question: 64-bit numbers, and a Problem as its first argument."""
    answer, name = entry(function), function.__name__
    default = Problem.__dataclass_fields__["objective"].default
    names = tuple(inspect.signature(function).parameters)

    @wraps(function)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        given = args[0] if args else kwargs.get("problem")
        if not isinstance(given, Problem):
            if args or "problem" in kwargs:
                kind = repr(given) if isinstance(given, str) else kind_of(given)
                raise ValueError(
                    f"problem: {kind} is not a Problem; give qsjax.Problem(model, hardware, gpus=8)"
                )
        elif best and given.objective != default:
            raise ValueError(
                f"objective: {name} {best}, so objective={given.objective!r} would change "
                "nothing; leave it out, or ask qsjax.explore, which ranks by it"
            )
        for key, value in (*zip(names, args, strict=False), *kwargs.items()):
            if is_traced([*value.values()] if isinstance(value, Mapping) else value):
                raise ValueError(f"{key}: {TRACED}")
        return answer(*args, **kwargs)

    return ask
