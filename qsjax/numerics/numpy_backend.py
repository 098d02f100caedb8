"""Laws run by NumPy, from their tapes (`qsjax.numerics.tape`).

Compiling takes a second or two where the answer about few designs takes milliseconds, and a new
process has nothing compiled. NumPy plays a law on any grid at once: terms that depend on few axes
stay small, and no shape is compiled for.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from qsjax.numerics import trees
from qsjax.numerics.loading import is_tracer
from qsjax.numerics.tape import FUNCTIONS, Step, Symbol, Tape, record

P = ParamSpec("P")
R = TypeVar("R")
Operation = Callable[..., Any]
Recorder = Callable[[Operation, Any], Tape]
Options = tuple[tuple[str, Any], ...]
Slots = dict[int, Any]
Steps = list[tuple[Step, Operation]]


class _Player(NamedTuple):
    """A tape, and the NumPy function of each of its steps."""

    tape: Tape
    steps: Steps


def operation_of(step: Step) -> Operation:
    """The NumPy function of a step."""
    if step.name == "cast":
        return lambda x: np.asarray(x).astype(step.detail)
    if step.name == "whole_power":
        return lambda x: np.power(x, float(step.detail))
    if step.name == "whole_number":
        return np.floor
    return FUNCTIONS[step.name]


@lru_cache(maxsize=128)
def _player(recorder: Recorder, function: Operation, options: Options, tree: Any) -> _Player:
    """A function of scalars, recorded."""
    tape = recorder(partial(function, **dict(options)), tree)
    return _Player(tape, [(step, operation_of(step)) for step in tape.steps])


def _run(steps: Steps, slots: Slots) -> None:
    """Play steps on arrays that broadcast, in place; free slots after their last use."""
    # Guarded divisions and logarithms compute the discarded side too, as compiled code does.
    with np.errstate(all="ignore"):
        for step, run in steps:
            slots[step.writes] = run(*[slots[at] for at in step.reads])
            for at in step.frees:
                del slots[at]


def on_host(function: Callable[P, R], recorder: Recorder = record) -> Callable[P, R]:
    """`function` evaluated by NumPy in float64, without compiling.

    Args:
        function: elementwise in its positional arguments: pytrees of numbers or arrays that
            broadcast. Keyword arguments are options: hashable, and one tape for each value.
        recorder: what makes the tape, of the function and the structure of its arguments.

    Returns:
        The function with NumPy arrays as results, each of no more axes than it depends on.
    """

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        values, tree = _floats(args)
        tape, steps = _player(recorder, function, tuple(sorted(options.items())), tree)
        slots: Slots = dict(enumerate(values)) | tape.constants
        _run(steps, slots)
        return trees.unflatten(tape.tree, [slots[at] for at in tape.results])

    return run


def _floats(tree: Any) -> tuple[list[Any], Any]:
    leaves, structure = trees.flatten(tree)
    return [np.asarray(leaf, np.float64)[()] for leaf in leaves], structure


def picked(tree: Any, index: tuple[np.ndarray, ...]) -> Any:
    """Elements of arrays at an index into the grid that they broadcast to; of one element, that."""
    flat: dict[tuple[int, ...], Any] = {}

    def own(x: Any) -> Any:
        shape = np.shape(x)
        if np.size(x) == 1:
            return np.reshape(x, ())[()]
        if shape not in flat:
            places = zip(index[len(index) - len(shape) :], shape, strict=True)
            flat[shape] = sum(
                i * math.prod(shape[k + 1 :]) for k, (i, length) in enumerate(places) if length > 1
            )
        return np.take(x, flat[shape])

    return trees.map(own, tree)


class _Halves(NamedTuple):
    """A player in two parts: steps that do not depend on its last argument, and the others.

    Attributes:
        tape: of all steps.
        early, late: the two; the early ones free nothing of what is kept.
        kept: slots that the late steps read, or that are results.
    """

    tape: Tape
    early: Steps
    late: Steps
    kept: frozenset[int]


@lru_cache(maxsize=128)
def _halves(recorder: Recorder, function: Operation, options: Options, tree: Any) -> _Halves:
    """`_player` in two halves."""
    tape, steps = _player(recorder, function, options, tree)
    reached = set(range(tree.num_leaves - tree.children[-1].num_leaves, tree.num_leaves))
    early: Steps = []
    late: Steps = []
    for step, run in steps:
        is_reached = not reached.isdisjoint(step.reads)
        (late if is_reached else early).append((step, run))
        reached |= {step.writes} if is_reached else set()
    kept = frozenset(at for step, _ in late for at in step.reads).union(tape.results)
    freeing = [(step._replace(frees=tuple(set(step.frees) - kept)), run) for step, run in early]
    return _Halves(tape, freeing, late, kept)


class Hoisted:
    """A function whose last argument changes: what does not depend on it is computed once.

    Args:
        function: elementwise, as of `on_host`.
        kept: the arguments before the last one, which broadcast.
        last: a tree of the structure of the last one.
        recorder: as of `on_host`.
        options: of the function.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        kept: tuple[Any, ...],
        last: Any = 0.0,
        recorder: Recorder = record,
        **options: Any,
    ) -> None:
        leaves, tree = _floats((*kept, last))
        self._halves = _halves(recorder, function, tuple(sorted(options.items())), tree)
        slots: Slots = dict(enumerate(leaves)) | self._halves.tape.constants
        _run(self._halves.early, slots)
        self._first = len(leaves) - tree.children[-1].num_leaves
        self._slots = {at: x for at, x in slots.items() if at in self._halves.kept}

    def __call__(self, last: Any, index: tuple[np.ndarray, ...] | None = None) -> Any:
        """Results for a last argument.

        Args:
            last: numbers or arrays that broadcast with the arguments that are kept; of `index`,
                with its shape.
            index: places of the grid of what is kept, shape (n,); the whole grid unless given.
        """
        slots = dict(self._slots) if index is None else picked(self._slots, index)
        slots.update(enumerate(_floats(last)[0], self._first))
        _run(self._halves.late, slots)
        tape = self._halves.tape
        return trees.unflatten(tape.tree, [slots[at] for at in tape.results])


def is_traced(tree: Any) -> bool:
    """Whether a leaf stands for a number that a transformation of JAX will give."""
    return any(is_tracer(leaf) or isinstance(leaf, Symbol) for leaf in trees.leaves(tree))
