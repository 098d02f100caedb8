"""Checks of what a user gives, on the host and before any jit.

Each check raises one `ValueError` with all problems of its input: what was given, what is allowed,
how to mend it. Bounds of a field are among its facts, conditions between fields are functions. What
passes comes back in float64 (`records.conversion`).
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from qsjax.numerics.loading import is_tracer
from qsjax.numerics.namespace import xp
from qsjax.records.conversion import (
    NoNumberError,
    as_float64,
    kind_of,
    listed_of_text,
    maybe_one,
    names_of,
    read_number,
)
from qsjax.records.fields import BATCH, Facts, Rule, choices_of, facts_of, near, numbers_of
from qsjax.records.specs import (
    FIELDS,
    KV_MODES,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Precision,
    Workload,
    field_hint,
)

Values = Mapping[str, Any]

# Beyond this the products of a few numbers leave the range of floats.
LARGEST = 1e24
_SHORT = 60  # characters of a value that a message shows
# The record that an argument of this name is.
KINDS: dict[str, type] = {
    "model": ModelSpec,
    "hardware": HardwareSpec,
    "partition": Partition,
    "workload": Workload,
    "convention": Convention,
}


def value_problem(rule: Rule, value: Any) -> str | None:
    """What is wrong with a number or an array of numbers under a rule, or None."""
    if isinstance(value, float):  # the common case, twenty times faster than an array of one
        is_in = rule.low < value if rule.above else rule.low <= value
        is_in = is_in and -math.inf < value <= min(rule.high, LARGEST)
        if is_in and (not rule.whole or value.is_integer()):
            return None
    try:
        given = as_float64(value)
    except NoNumberError as error:
        return f"{error}; give {rule}"
    if is_tracer(given):
        return f"a traced value is not known yet; give {rule}"
    numbers = np.asarray(given)
    if numbers.size == 0:
        return f"no value was given; give at least one, each {rule}"
    too_low = numbers <= rule.low if rule.above else numbers < rule.low
    bad = ~np.isfinite(numbers) | too_low | (numbers > min(rule.high, LARGEST))
    if rule.whole:
        bad |= numbers != np.floor(numbers)
    if not bad.any():
        return None
    worst = float(numbers[bad].flat[0])
    more = f", at most {LARGEST:g}" if worst > LARGEST and rule.high == math.inf else ""
    if rule.high == 1.0 and 2.0 <= worst <= 100.0 and not rule.whole:
        more = f" ({worst / 100:g} for {worst:g} %)"
    return f"{worst:.12g} is not allowed; give {rule}{more}"


def _number(name: str, facts: Facts, value: Any) -> tuple[Any, str | None]:
    """A value of a field in float64, and what is wrong with it; traced ones have no bounds."""
    if name == "kv_mode" and isinstance(value, str):
        known = f"{value!r} is not a KV mode; give one of {', '.join(KV_MODES)}"
        return KV_MODES.get(value, value), None if value in KV_MODES else known
    try:
        number = read_number(facts, value)
    except NoNumberError as error:
        return value, f"{error}; give {facts.rule}"
    return number, None if is_tracer(number) else value_problem(facts.rule, number)


def _numbers(kind: type, values: Values) -> tuple[dict[str, Any], dict[str, str]]:
    """The sound numbers of a record's fields, and the problems of the others."""
    numbers: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, facts in facts_of(kind).items():
        if name not in values or (values[name] is None and facts.may_be_none):
            continue
        number, problem = _number(name, facts, values[name])
        if problem is None:
            numbers[name] = number
        else:
            problems[name] = problem
    return numbers, problems


def traced_out_of_range(record: Any) -> Any:
    """Where a traced number of a record is out of its bounds, NaN too; False if none is traced."""
    is_out: Any = False
    for name, facts in facts_of(type(record)).items():
        value = getattr(record, name)
        if not is_tracer(value):
            continue
        rule = facts.rule
        sound = (value > rule.low) if rule.above else (value >= rule.low)
        sound &= value <= min(rule.high, LARGEST)
        if rule.whole:
            sound &= xp.equal(value, xp.floor(value))
        is_out |= ~sound
    precision = getattr(record, "precision", None)
    return is_out if precision is None else is_out | traced_out_of_range(precision)


def divisors(count: int) -> list[int]:
    """All divisors in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    low = [k for k in range(1, math.isqrt(count) + 1) if count % k == 0]
    return sorted({*low, *(count // k for k in low)})


def listed_divisors(number: Any) -> str:
    """Divisors of a count in words, those that a degree may have."""
    return ", ".join(str(k) for k in divisors(int(np.max(number))) if k <= 4096)


class Relation(NamedTuple):
    """What several fields of a record must keep together.

    Attributes:
        names: fields that the condition takes, of which the first is told.
        holds: the condition, of operators that arrays and traced numbers have.
        told: what is wrong, with the fields in braces.
        whole: a field in `names` whose divisors are `{divisors}`.
    """

    names: tuple[str, ...]
    holds: Callable[..., Any]
    told: str
    whole: str = ""

    def fails(self, v: Values) -> Any:
        """Where the condition is false; nowhere if one of the fields is absent."""
        return v.keys() >= {*self.names} and ~self.holds(*(v[name] for name in self.names))

    def problem(self, v: Values) -> str:
        """What is wrong, with the first numbers that fail."""
        *numbers, fails = np.broadcast_arrays(*(v[name] for name in self.names), self.fails(v))
        first = {n: x[fails][0] for n, x in zip(self.names, numbers, strict=True)}
        divisors = listed_divisors(first[self.whole]) if self.whole else ""
        return self.told.format(**{n: f"{x:g}" for n, x in first.items()}, divisors=divisors)


def _related(names: str, holds: Callable[..., Any], told: str, whole: str = "") -> Relation:
    return Relation(tuple(names.split()), holds, told, whole)


def _divides(field: str, whole: str, told: str) -> Relation:
    choose = f" does not divide {{{whole}}} {told}; choose a divisor of {{{whole}}}: {{divisors}}"
    shown = f"{field}={{{field}}}"
    return _related(f"{field} {whole}", lambda x, total: total % x == 0, shown + choose, whole)


def _at_most(field: str, most: str, told: str) -> Relation:
    return _related(f"{field} {most}", lambda x, largest: x <= largest, told)


def _goes_with(count: str, size: str) -> Relation:
    """A field that must be positive where another one is."""
    told = f"0 is not allowed with {count} = {{{count}}}; give a number above 0"
    return _related(f"{size} {count}", lambda width, n: (n == 0) | (width > 0), told)


_RELATIONS: dict[type, tuple[Relation, ...]] = {
    ModelSpec: (
        _at_most("top_k", "experts", "{top_k} exceeds the {experts} experts; lower it"),
        _related(
            "kv_heads heads kv_latent",
            lambda n, h, c: (c > 0) | (h % n == 0),
            "{kv_heads} does not divide {heads} query heads; choose a divisor of {heads}: "
            "{divisors}",
            "heads",
        ),
        _at_most("dense_layers", "layers", "{dense_layers} exceeds the {layers} layers; lower it"),
        _related(
            "bare_layers dense_layers layers",
            lambda bare, dense, n: (dense > n) | (dense + bare <= n),
            "{dense_layers} dense layers and {bare_layers} without a network exceed the {layers} "
            "layers; lower one",
        ),
        _related(
            "window_layers linear_layers layers",
            lambda window, linear, n: window + linear <= n,
            "{window_layers} with a window and {linear_layers} linear ones exceed the {layers} "
            "layers; lower one",
        ),
        _related(
            "pooled_layers index_layers entry_tokens window_layers",
            lambda pool, index, of, n: (pool <= n) & ((of <= 0) | (pool + index <= n)),
            "layers with entries exceed the {window_layers} with a window; lower them",
        ),
        _goes_with("dense_layers", "dense_ff"),
        _goes_with("shared_experts", "shared_ff"),
        _goes_with("window_layers", "window"),
        _related(
            "window window_layers",
            lambda width, n: (width == 0) | (n > 0),
            "{window} changes nothing while window_layers is 0; give how many layers have it",
        ),
        _goes_with("linear_layers", "linear_params"),
        _goes_with("kv_latent", "v_head_dim"),
        _goes_with("v_head_dim", "qk_nope_dim"),
        _goes_with("q_lora_rank", "kv_latent"),
        _goes_with("index_heads", "index_dim"),
        _goes_with("index_dim", "index_layers"),
        _goes_with("pooled_layers", "pooled_tokens"),
        _related(
            "expert_ff layers dense_layers bare_layers",
            lambda width, n, dense, bare: (n <= dense + bare) | (width > 0),
            "0 leaves layers without a feed-forward network; give its width",
        ),
    ),
    HardwareSpec: (
        _related(
            "overlap_tp overlap_ep overlap_layout",
            lambda tp, ep, layout: tp + ep + layout <= 1.0 + 1e-6,  # traced numbers have 32 bits
            "overlap_tp overlap_ep overlap_layout share the window of the feed-forward network, "
            "but their sum exceeds 1; lower one of them",
        ),
    ),
    Partition: (
        _divides("tp", "heads", "query heads"),
        _divides("ep", "experts", "experts"),
        _at_most("pp", "layers", "pp={pp} exceeds the {layers} layers; lower it"),
    ),
    Workload: (
        _at_most(
            *("tokens_per_step", "query_tokens"),
            "{tokens_per_step} exceeds the {query_tokens} query_tokens that a step runs; raise it",
        ),
    ),
}


def _contradictions(kind: type, numbers: Values) -> dict[str, str]:
    """Problems between fields that have none of their own and are not traced."""
    v = {name: np.asarray(x, float) for name, x in numbers.items() if not is_tracer(x)}
    if v.keys() >= {"experts", "redundant_experts"}:
        v["experts"] = v["experts"] + np.where(v["experts"] > 1, v["redundant_experts"], 0.0)
    broken = (one for one in _RELATIONS.get(kind, ()) if np.any(one.fails(v)))
    return {one.names[0]: one.problem(v) for one in broken}


def traced_contradictions(record: Any) -> Any:
    """Where traced numbers of a record contradict others of it; False if none is traced."""
    v, is_odd = numbers_of(record), False
    for one in _RELATIONS.get(type(record), ()):
        if any(is_tracer(v.get(name)) for name in one.names):
            is_odd |= one.fails(v)
    return is_odd


def problems_of(kind: type, values: Values) -> dict[str, str]:
    """Problem by field of a set of a record's fields, not necessarily all of them."""
    numbers, problems = _numbers(kind, values)
    return problems | _contradictions(kind, numbers)


def choice_problem(value: Any, allowed: tuple[Any, ...]) -> str | None:
    """What is wrong with a value of a closed choice, or None."""
    if any(type(value) is type(one) and value == one for one in allowed):
        return None
    meant = near(value, map(str, allowed), 1)
    more = f"; did you mean {meant[0]}?" if meant else ""
    return f"{value!r} is not allowed; give one of {', '.join(map(str, allowed))}{more}"


def check_choice(subject: str, value: Any, allowed: Any) -> None:
    """Raise `ValueError` unless a value is one of a `Literal`."""
    if problem := choice_problem(value, get_args(allowed)):
        raise ValueError(f"{subject}: {problem}")


def check_names(subject: str, names: Iterable[Any], known: Collection[str]) -> None:
    """Raise `ValueError` with every name that is none of the known ones."""
    if unknown := [str(name) for name in names if name not in known]:
        given = f"{subject}: {', '.join(unknown)} is not known"
        raise ValueError(f"{given}; give some of {', '.join(known)}")


def _checked(record: Any, single: bool) -> tuple[Any, dict[str, str]]:
    """A record in float64, and its problems by field."""
    kind = type(record)
    numbers, problems = _numbers(kind, numbers_of(record))
    for name, number in numbers.items():
        if single and np.ndim(number):
            problems[name] = (
                f"{_shown(getattr(record, name))} is a list; give one number, or a list in axes"
            )
    for name, allowed in choices_of(kind).items():
        problem = choice_problem(getattr(record, name), allowed)
        if problem is not None:
            problems[name] = problem
    problems |= _contradictions(kind, {k: v for k, v in numbers.items() if k not in problems})
    changes: dict[str, Any] = dict(numbers)
    precision = getattr(record, "precision", None)
    if isinstance(precision, Precision):
        changes["precision"], inner = _checked(precision, single)
        problems |= {f"precision.{name}": problem for name, problem in inner.items()}
    elif precision is not None:
        problems["precision"] = f"{_shown(precision)} is not a Precision; give Precision(...)"
    return dataclasses.replace(record, **changes), problems


_EXAMPLES: dict[type, str] = {Partition: "tp=8", Workload: "context=8192", Convention: ""}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < _SHORT else kind_of(value)


def is_record(value: Any) -> bool:
    """Whether a value is a record, perhaps not the one that is due."""
    return isinstance(value, tuple(KINDS.values()))


def _stranger(name: str, value: Any, given: Values) -> str | None:
    """What is wrong where something else stands in place of a record, such as its name."""
    kind = KINDS[name]
    if isinstance(value, kind):
        return None
    if isinstance(value, str | Path) and kind in (ModelSpec, HardwareSpec):
        how = f"give qsjax.{name}({str(value)!r})"
    elif swapped := [other for other, record in given.items() if isinstance(record, kind)]:
        how = f"{swapped[0]} is one: swap the two"
    else:
        how = f"give qsjax.{kind.__name__}({_EXAMPLES.get(kind, '...')})"
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    return f"{name}: {_shown(value)} is not {article} {kind.__name__}; {how}"


def check_records(*, single: bool = False, **given: Any) -> tuple[Any, ...]:
    """The records with their numbers in float64, in the order given.

    Args:
        single: whether every field must be one number.
        given: records by what they are: `model`, `hardware`, `partition`, `workload`,
            `convention`.

    Raises:
        ValueError: with every problem of all of them: something else in place of a record, numbers
            out of their bounds, closed choices that do not exist, fields that contradict.
    """
    lines: list[str] = []
    checked: list[Any] = []
    for name, value in given.items():
        stranger = _stranger(name, value, given)
        if stranger is not None:
            lines.append(stranger)
            continue
        record, problems = _checked(value, single)
        checked.append(record)
        lines += _listed(name, problems)
    if lines:
        raise ValueError("\n".join(lines))
    return tuple(checked)


def one_partition(partition: Partition | None) -> Partition | None:
    """A partition of single numbers, checked, if there is one.

    Raises:
        ValueError: with everything that is wrong with it.
    """
    return None if partition is None else check_records(partition=partition, single=True)[0]


def _listed(subject: str, problems: Mapping[str, str]) -> list[str]:
    lines = (f"  {name}: {problem}" for name, problem in problems.items())
    return [f"{subject}:", *lines] if problems else []


def check_partition(partition: Partition, model: ModelSpec) -> None:
    """Raise `ValueError` with every problem of one explicit partition against a model.

    A grid does not call this: there an illegal cell is a result with its reasons.
    """
    model, partition = check_records(model=model, partition=partition)
    problems = _contradictions(Partition, numbers_of(partition) | numbers_of(model))
    if problems:
        raise ValueError("\n".join(_listed("partition", problems)))


def check_rules(subject: str, record: Any, rules: Mapping[str, Rule]) -> None:
    """Raise `ValueError` with every number of a record that is out of its bounds, or a text."""
    problems = {}
    for name, rule in rules.items():
        given = getattr(record, name)
        problem = value_problem(rule, given)
        if isinstance(given, str):
            problem = f"{given!r} is not allowed; give {rule}"
        if problem is not None:
            problems[name] = problem
    if problems:
        raise ValueError("\n".join(_listed(subject, problems)))


def read_field(name: str, value: Any) -> tuple[Any, str | None]:
    """A value of a field, of `q` or of `gpus` in float64, and what is wrong with it."""
    return _number(name, FIELDS[name], value)


def check_positive(name: str, given: Any, unit: str) -> np.ndarray:
    """Numbers that must be above 0, one or several, as a float64 array of one axis.

    Raises:
        ValueError: none is given, or one that is no finite number above 0.

    >>> check_positive("tpot", 0.02, "s")
    array([0.02])
    """
    apart = ""
    try:
        numbers = np.ravel(as_float64(given, unit))
    except NoNumberError:  # `tpot=20ms`, or 20ms where the metric is a rate
        numbers, apart = np.zeros(1), "; the metric is named by itself (--metric)"
    if not (numbers.size and (np.isfinite(numbers) & (numbers > 0)).all()):
        shown = repr(given) if isinstance(given, str | list | tuple) else f"{given}"
        raise ValueError(f"{name}: {shown} is not allowed; give a number above 0 [{unit}]{apart}")
    return numbers


def read_axis(name: str, values: Any) -> tuple[Any, str | None]:
    """The values of an axis, from one number, a text such as "8k,128k" or "8..64", or a list.

    Returns:
        A float64 array of one axis or the names of KV modes, and what is wrong with them.
    """
    if name == "kv_mode":
        return _modes(values)
    if name not in FIELDS:
        return np.empty(0), f"unknown axis {name!r}; {field_hint(name)}"
    if isinstance(values, str) and (told := maybe_one(values, of_lengths=name == "context")):
        return np.empty(0), told
    try:
        given = listed_of_text(values) if isinstance(values, str) else values
    except ValueError as error:
        return np.empty(0), str(error)
    numbers, problem = read_field(name, given)
    if problem is None and is_tracer(numbers):
        problem = "a traced value is not an axis; give numbers, and trace a field of a record"
    if problem is None and np.ndim(numbers) > 1:
        problem = f"an array of {np.ndim(numbers)} dimensions is not a list; give one of them"
    if problem is None and name == "batch":  # one of a record may be a mean
        problem = value_problem(dataclasses.replace(BATCH, whole=True), numbers)
    return (np.empty(0), problem) if problem else (np.atleast_1d(numbers), None)


def _modes(values: Any) -> tuple[list[str], str | None]:
    """The KV modes of an axis, from a text such as "kvp,cp" or a list of names."""
    allowed = ", ".join(KV_MODES)
    try:
        modes = [str(mode) for mode in names_of(values)]
    except TypeError:
        modes = [str(values)]
    unknown = [mode for mode in modes if mode not in KV_MODES]
    if modes and not unknown:
        return modes, None
    shown = ", ".join(unknown) or "nothing"
    return [], f"{shown} is not a KV mode; give some of {allowed}"


def check_axes(given: Values) -> dict[str, Any]:
    """The values of axes: float64 arrays of one axis, names of KV modes.

    One number and a text such as "8k,128k" count as lists.

    Raises:
        ValueError: with every unknown name, empty list and value out of bounds.
    """
    read = {name: read_axis(name, values) for name, values in given.items()}
    unknown = [problem for name, (_, problem) in read.items() if name not in FIELDS]
    problems = {k: problem for k, (_, problem) in read.items() if k in FIELDS and problem}
    if unknown or problems:
        raise ValueError("\n".join([*filter(None, unknown), *_listed("axes", problems)]))
    return {name: values for name, (values, _) in read.items()}
