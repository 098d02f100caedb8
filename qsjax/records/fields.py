"""Facts of a field, stated once as its metadata: meaning, unit, bounds, name in files."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, get_args

_FACTS = "facts"
_LISTED = 8  # names of a long list that a message shows


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Bounds of a number; `low` and `high` are allowed values unless `above` is set."""

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.high):
            start = f"above {self.low:g} and up" if self.above else f"from {self.low:g}"
            return f"{kind} {start} to {self.high:g}"
        return f"{kind} {'above' if self.above else 'of at least'} {self.low:g}"


def near(name: object, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that a mistyped one may mean, nearest first; none where none is near."""
    return difflib.get_close_matches(str(name).lower(), list(known), n=most)


def hint(name: object, known: Iterable[str]) -> str:
    """What to give in place of an unknown name: the nearest ones, or all of a few.

    >>> hint("hbm_bandwith", ["hbm_bw", "hbm_bytes"]), hint("q", ["tp", "ep"])
    ('did you mean hbm_bw?', 'known: tp, ep')
    """
    names = list(known)
    found = near(name, names)
    if found:
        return f"did you mean {' or '.join(found)}?"
    left = len(names) - _LISTED if len(names) > 2 * _LISTED else 0
    shown = ", ".join(names[: len(names) - left])
    return f"known: {shown}{f' and {left} more' if left else ''}"


POSITIVE = Rule(above=True)
NOT_NEGATIVE = Rule()
AT_LEAST_ONE = Rule(low=1.0)
COUNT = Rule(low=1.0, whole=True)
COUNT_OR_NONE = Rule(whole=True)
SHARE = Rule(high=1.0)
EFFICIENCY = Rule(high=1.0, above=True)
FLAG = Rule(high=1.0, whole=True)
# Counts beyond reason are mistakes: divisors are enumerated, products of degrees stay exact.
DEGREE = Rule(low=1.0, high=1e9, whole=True)
GPUS = Rule(low=1.0, high=1e9, whole=True)
BATCH = Rule(low=1.0, high=1e9)
CONTEXT = Rule(above=True, high=1e12)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a number.

    Attributes:
        meaning: in a few words, as the label of an axis.
        unit: SI; "1" for counts, shares and factors.
        rule: its bounds.
        key: its name in TOML files, without the unit.
        also: its symbol in the paper, or its name in config.json.
        group: name of the parameter that scales it together with its like; "" if there is none.
        ideal: its value in an accelerator without losses; None where that says nothing of it.
        source: where the default comes from; "" where it is neutral.
        may_be_none: whether None stands for what the laws choose.
    """

    meaning: str
    unit: str = "1"
    rule: Rule = NOT_NEGATIVE
    key: str = ""
    also: tuple[str, ...] = ()
    group: str = ""
    ideal: float | None = None
    source: str = ""
    may_be_none: bool = False

    @property
    def is_flag(self) -> bool:
        """Whether the number says yes or no."""
        return self.rule == FLAG


def number(
    meaning: str,
    unit: str = "1",
    rule: Rule = NOT_NEGATIVE,
    default: Any = dataclasses.MISSING,
    **facts: Any,
) -> Any:
    """A field of a record that holds a number, with its `Facts`; required without a default."""
    known = Facts(meaning=meaning, unit=unit, rule=rule, **facts)
    return dataclasses.field(default=default, metadata={_FACTS: known})


@cache
def _facts_of(record: Any) -> Mapping[str, Facts]:
    return MappingProxyType(
        {
            field.name: dataclasses.replace(
                facts, key=facts.key or field.name, may_be_none=field.default is None
            )
            for field in dataclasses.fields(record)
            if (facts := field.metadata.get(_FACTS)) is not None
        }
    )


def facts_of(record: type) -> Mapping[str, Facts]:
    """Name and facts of every number of a record, in the order of its fields."""
    return _facts_of(record)


def choices_of(record: type) -> dict[str, tuple[Any, ...]]:
    """Name and allowed values of every closed choice of a record."""
    return {
        field.name: get_args(field.type) or (True, False)
        for field in dataclasses.fields(record)
        if field.metadata.get("static")
    }


def numbers_of(record: Any) -> dict[str, Any]:
    """Name and value of every number of a record."""
    return {name: getattr(record, name) for name in facts_of(type(record))}


def defaults_of(record: type) -> Mapping[str, Any]:
    """Name and default of every number of a record that need not be given."""
    return MappingProxyType(
        {
            field.name: field.default
            for field in dataclasses.fields(record)
            if field.name in facts_of(record) and field.default is not dataclasses.MISSING
        }
    )


def groups_of(*records: type) -> Mapping[str, tuple[str, ...]]:
    """Name and members of every group of fields that are scaled together."""
    groups: dict[str, tuple[str, ...]] = {}
    for record in records:
        for name, facts in facts_of(record).items():
            if facts.group:
                groups[facts.group] = (*groups.get(facts.group, ()), name)
    return MappingProxyType(groups)
