"""Laws over boxes: the range of what a law returns, and which laws are the same function.

A law is recorded as a tape and played by the rules of `qsjax.numerics.intervals`: it is bounded by
itself, and nobody states its bounds a second time.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from qsjax.numerics import trees
from qsjax.numerics.intervals import EXACT, RANGE, Enclosed, Rule, exact_of, rule_of
from qsjax.numerics.tape import (
    Step,
    Tape,
    needed_steps,
    record,
)

_RISING, _FALLING = ("greater_equal", "greater"), ("less_equal", "less")


class _Play(NamedTuple):
    """A step: its rule for intervals, and NumPy's function where all it reads is exact."""

    step: Step
    rule: Rule
    exact: Rule


class _Score(NamedTuple):
    tape: Tape
    plays: list[_Play]
    remainders: int


def _shortened(step: Step, made_by: Mapping[int, Step], tape: Tape) -> Step:
    """A step, or the one that it ends: where(x >= y, x, y) is a maximum, 1 - exp(x) a hit."""
    if step.name == "where":
        which, chosen, otherwise = step.reads
        test = made_by.get(which)
        if test and test.name in (*_RISING, *_FALLING) and {chosen, otherwise} == {*test.reads}:
            is_larger = (test.name in _RISING) == (test.reads[0] == chosen)
            return step._replace(name="maximum" if is_larger else "minimum", reads=test.reads)
    elif step.name == "subtract":
        one, exp = tape.constants.get(step.reads[0], 0.0), made_by.get(step.reads[1])
        if exp and exp.name == "exp" and np.ndim(one) == 0 and one == 1.0:
            return step._replace(name="hit", reads=exp.reads)
    return step


@lru_cache(maxsize=128)
def _tape(function: Callable[..., Any], options: Any, tree: Any) -> Tape:
    """A law of scalars, in which a blend is one operation."""
    return record(partial(function, **dict(options)), tree, whole=("blend",))


@lru_cache(maxsize=64)
def _score(function: Callable[..., Any], options: Any, tree: Any, first: int) -> _Score:
    """A law of scalars, each step with its rule; remainders are axes from `first`."""
    tape = _tape(function, options, tree)
    made_by = {step.writes: step for step in tape.steps}
    steps = [_shortened(step, made_by, tape) for step in tape.steps]
    plays, remainders = [], 0
    for step in needed_steps(steps, tape.results):
        exact = exact_of(step)
        plays.append(_Play(step, rule_of(step, first + remainders), exact))
        remainders += step.name == "floor"
    return _Score(tape, plays, remainders)


def centre(low: Any, high: Any) -> Any:
    """The middle of an interval as `enclose` parts it: the geometric one of positive numbers."""
    if (np.asarray(low) > 0).all():
        return np.sqrt(low) * np.sqrt(high)
    return 0.5 * (np.asarray(low) + np.asarray(high))


def _argument(low: Any, high: Any, axis: int) -> Any:
    if axis == EXACT:
        return np.asarray(low, np.float64)[()]
    low, high = np.asarray(low, np.float64)[()], np.asarray(high, np.float64)[()]
    relative = bool((low > 0).all())
    if axis == RANGE:
        return Enclosed(low, high, {}, relative)
    half = 0.5 * (np.log(high / low) if relative else high - low)
    return Enclosed(low, high, {axis: (half, half)}, relative)


def enclose(
    function: Callable[..., Any], low: Any, high: Any, axes: Any, **options: Any
) -> tuple[Any, int]:
    """What `function` can return over boxes.

    Args:
        function: elementwise in its positional arguments: pytrees of numbers that broadcast.
        low: tuple of its arguments at the lower ends.
        high: at the upper ends.
        axes: number of the axis of every leaf, `EXACT` where it does not vary; leaves of one number
            move together. With `RANGE` a leaf varies and its slopes are left out.
        **options: keyword arguments: hashable, and one trace for each value.

    Returns:
        Its results as `Enclosed`, plain arrays where they do not vary; and the number of axes of
        remainders, which follow those of the arguments.

    Raises:
        UnknownOperationError: the law has an operation without a rule.
    """
    score, slots = _ready(function, low, high, axes, options)
    with np.errstate(all="ignore"):
        for play in score.plays:
            read = [slots[at] for at in play.step.reads]
            run = play.rule if any(isinstance(x, Enclosed) for x in read) else play.exact
            slots[play.step.writes] = run(*read)
            for at in play.step.frees:
                slots.pop(at, None)
    found = [slots[at] for at in score.tape.results]
    return trees.unflatten(score.tape.tree, found), score.remainders


def _ready(
    function: Callable[..., Any], low: Any, high: Any, axes: Any, options: dict[str, Any]
) -> tuple[_Score, dict[int, Any]]:
    leaves, tree = trees.flatten(low)
    places = trees.leaves(axes)
    first = 1 + max(EXACT, *places)
    score = _score(function, tuple(sorted(options.items())), tree, first)
    arguments = map(_argument, leaves, trees.leaves(high), places)
    return score, dict(enumerate(arguments)) | score.tape.constants


_DIGITS = 12  # to which exact numbers count as equal
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def _mixed(*parts: Any) -> Any:
    """Numbers of 64 bits mixed into one; equal only where all are, but for chance."""
    mixed = np.uint64(0)
    for part in parts:
        turned = (mixed << np.uint64(7)) | (mixed >> np.uint64(57))
        mixed = (turned ^ part) * _SPREAD
        mixed = mixed ^ (mixed >> np.uint64(29))
    return mixed


def _named(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(sha256(name.encode()).digest()[:8]))


def _numbered(x: Any) -> Any:
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    rounded = np.ldexp(np.round(mantissa, _DIGITS), exponent) + 0.0
    return _mixed(rounded.view(np.uint64))


def fingerprint(
    function: Callable[..., Any], low: Any, high: Any, axes: Any, **options: Any
) -> Any:
    """A number for each design, equal where the law is the same function of what varies.

    Every operation numbers its result by what it is and by the numbers of its operands (value
    numbering); exact ones count to twelve digits. What is multiplied by 0 is 0, whatever it is, and
    a choice is what it chooses. Arguments as for `enclose`; the law has one result.
    """
    score, slots = _ready(function, low, high, axes, options)
    marks = {at: _named(f"argument {at}") for at, x in slots.items() if isinstance(x, Enclosed)}
    with np.errstate(all="ignore"):
        zero, one = _numbered(0.0), _numbered(1.0)
        for play in score.plays:
            name, reads, at, _, detail = play.step
            if not any(read in marks for read in reads):
                slots[at] = play.exact(*[slots[read] for read in reads])
                continue
            operands = [marks[read] if read in marks else _numbered(slots[read]) for read in reads]
            mark = _mixed(_named(f"{name} {detail}"), *operands)
            if name in ("multiply", "divide"):
                a, b = operands
                is_none = (a == zero) | ((b == zero) & (name == "multiply"))
                mark = np.where(b == one, a, mark)
                mark = np.where((a == one) & (name == "multiply"), b, mark)
                mark = np.where(is_none, zero, mark)
            elif name == "add":
                a, b = operands
                mark = np.where(a == zero, b, np.where(b == zero, a, mark))
            elif name == "where" and reads[0] not in marks:
                mark = np.where(slots[reads[0]], operands[1], operands[2])
            marks[at] = mark
        (result,) = score.tape.results
        return marks[result] if result in marks else _numbered(slots[result])
