"""Distributions of uncertain inputs: how they are written, checked, and drawn from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from qsjax.grid.parameters import bounds, resolve
from qsjax.grid.remarks import RATES_AND_SIZES, SMALLEST
from qsjax.numerics import trees
from qsjax.records.conversion import NoNumberError, as_float64, kind_of
from qsjax.records.fields import hint
from qsjax.records.specs import FIELDS

# Inputs of the quality factor, q = (loss_dense / loss_moe)^(1 / alpha) (eq. 12 to 14).
LOSSES = ("loss_dense", "loss_moe", "alpha")
# Kind -> (names of its numbers, what they must keep).
KINDS: dict[str, tuple[str, str]] = {
    "normal": ("mean, standard deviation", "a standard deviation above 0"),
    "lognormal": ("median, standard deviation of the logarithm", "both above 0"),
    "uniform": ("low, high", "low below high"),
    "triangular": ("low, mode, high", "low <= mode <= high and low < high"),
}


@trees.record
@dataclasses.dataclass(frozen=True, slots=True)
class Distribution:
    """A kind of `KINDS` and its numbers, such as `Distribution("normal", (5.0, 1.0))`."""

    kind: str = dataclasses.field(metadata={"static": True})
    numbers: tuple[float, ...]


def normal(mean: float, deviation: float) -> Distribution:
    """A normal distribution, cut at the values that its field allows."""
    return Distribution("normal", (mean, deviation))


def lognormal(median: float, deviation: float) -> Distribution:
    """A log-normal distribution from its median and the standard deviation of the logarithm."""
    return Distribution("lognormal", (median, deviation))


def uniform(low: float, high: float) -> Distribution:
    """A uniform distribution: every value from low to high is equally likely."""
    return Distribution("uniform", (low, high))


def triangular(low: float, mode: float, high: float) -> Distribution:
    """A triangular distribution: most likely at the mode, falling linearly to both ends."""
    return Distribution("triangular", (low, mode, high))


def parse(text: str) -> Distribution:
    """The distribution of a text such as `normal:5,1`.

    >>> parse("triangular:2,4,9")
    Distribution(kind='triangular', numbers=(2.0, 4.0, 9.0))
    """
    kind, _, rest = text.partition(":")
    try:
        numbers = tuple(float(part) for part in rest.split(","))
    except ValueError:
        forms = ", ".join(f"{name}:{what}" for name, (what, _) in KINDS.items())
        raise ValueError(f"{text!r} is not a distribution; write one of {forms}") from None
    return Distribution(kind.strip(), numbers)


def named(text: str) -> tuple[str, Distribution]:
    """The name and the distribution of a text such as `q=normal:5,1`."""
    name, separator, rest = text.partition("=")
    if not separator:
        raise ValueError(f"--uncertain {text!r}: write NAME=KIND:NUMBERS, such as q=normal:5,1")
    return name.strip(), parse(rest)


def _is_valid(kind: str, numbers: tuple[float, ...]) -> bool:
    try:
        values = [as_float64(number) for number in numbers if not isinstance(number, str)]
    except NoNumberError:
        return False
    if len(values) != len(KINDS[kind][0].split(",")) or not np.isfinite(values).all():
        return False
    if "normal" in kind:
        return min(numbers if kind == "lognormal" else numbers[1:]) > 0
    return list(numbers) == sorted(numbers) and numbers[0] < numbers[-1]


def _limits(name: str) -> tuple[float, float]:
    return (0.0, np.inf) if name in LOSSES else bounds(name)


def _problem(name: str, given: Distribution) -> str | None:
    if not isinstance(given, Distribution):
        return f"{name}: {given!r} is not a distribution; give for example qsjax.normal(5, 1)"
    if given.kind not in KINDS:
        return f"{name}: {given.kind!r} is not a distribution; {hint(given.kind, KINDS)}"
    what, rule = KINDS[given.kind]
    if not _is_valid(given.kind, given.numbers):
        return f"{name}: {given.kind} takes {what}, with {rule}; got {given.numbers}"
    if name in RATES_AND_SIZES and 0 < given.numbers[0] < SMALLEST:
        unit = FIELDS[name].unit
        return f"{name}: {given.numbers[0]:g} {unit} is none of an accelerator; 1 T{unit} is 1e12"
    low, high = _limits(name)
    ends = given.numbers if given.kind in ("uniform", "triangular") else (given.numbers[0],)
    if min(ends) < low or max(ends) > high:
        return f"{name}: {given.kind} {given.numbers} leaves the allowed range {low:g} to {high:g}"
    return None


def check(distributions: Mapping[str, Distribution]) -> None:
    """Raise one `ValueError` with every problem of the distributions and their names."""
    if not isinstance(distributions, Mapping):
        raise ValueError(
            f"distributions: {kind_of(distributions)} was given; give for example "
            '{"q": qsjax.normal(5, 1)}'
        )
    told = []
    for name, given in distributions.items():
        problem = None
        if name not in LOSSES:
            try:
                problem = _group_problem(name)
            except ValueError as error:
                problem = str(error)
        told.append(problem or _problem(name, given))
    if "q" in distributions and any(name in distributions for name in LOSSES):
        told.append("q: give either q or the losses and exponent that it follows from")
    if ("loss_dense" in distributions) != ("loss_moe" in distributions):
        told.append("loss_dense and loss_moe go together; give both")
    if not distributions:
        told.append("no distribution was given; give for example q=normal:5,1")
    problems = [problem for problem in told if problem]
    if problems:
        raise ValueError("\n".join(problems))


def _group_problem(name: str) -> str | None:
    members = resolve([name])[0].members
    if len(members) > 1:
        return f"{name} is a group; give a distribution to one of {', '.join(members)}"
    return None


def frozen(name: str, given: Distribution) -> Any:
    """SciPy's frozen distribution; a normal one is truncated to the field's allowed values."""
    from scipy import stats  # half a second, which only those wait for who draw

    numbers = given.numbers
    match given.kind:
        case "normal":
            mean, sd = numbers
            low, high = ((limit - mean) / sd for limit in _limits(name))
            return stats.truncnorm(low, high, loc=mean, scale=sd)
        case "lognormal":
            return stats.lognorm(s=numbers[1], scale=numbers[0])
        case "uniform":
            return stats.uniform(numbers[0], numbers[1] - numbers[0])
        case _:
            low, mode, high = numbers
            return stats.triang((mode - low) / (high - low), loc=low, scale=high - low)
