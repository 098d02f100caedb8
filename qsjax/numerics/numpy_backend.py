"""Laws run by NumPy, from their tapes (`qsjax.numerics.jaxpr`).

Compiling takes a second or two where the answer about few designs takes milliseconds, and a new
process has nothing compiled. NumPy plays a law on any grid at once: terms that depend on few axes
stay small, and no shape is compiled for.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import numpy as np

from qsjax.numerics.float64 import in_float64
from qsjax.numerics.jaxpr import Step, Tape, record

P = ParamSpec("P")
R = TypeVar("R")
Operation = Callable[..., Any]
Options = tuple[tuple[str, Any], ...]
Slots = dict[int, Any]
Steps = list[tuple[Step, Operation]]

# Primitives whose NumPy function takes the same arguments and has no parameters.
_SAME_NAME = ("floor", "ceil", "sqrt", "square", "exp", "expm1", "log", "log1p", "sign", "abs")
_PLAIN: dict[str, Operation] = {name: getattr(np, name) for name in _SAME_NAME} | {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "rem": np.fmod,
    "pow": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "not": np.invert,
    "is_finite": np.isfinite,
}


class UnknownPrimitiveError(Exception):
    """A traced operation that has no NumPy function here."""


class _Player(NamedTuple):
    """A tape, and the NumPy function of each of its steps."""

    tape: Tape
    operations: list[Operation]


def _select(which: Any, otherwise: Any, chosen: Any) -> Any:
    return np.where(which, chosen, otherwise)


def _cast(x: Any, dtype: np.dtype) -> Any:
    return np.asarray(x).astype(dtype)


def operation_of(eqn: Any) -> Operation:
    """The NumPy function of an equation on scalars; `UnknownPrimitiveError` if there is none."""
    name, params, dtype = eqn.primitive.name, eqn.params, eqn.outvars[0].aval.dtype
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "div" and np.issubdtype(dtype, np.floating):
        return np.true_divide
    if name == "convert_element_type":
        return partial(_cast, dtype=np.dtype(dtype))
    if name == "select_n" and eqn.invars[0].aval.dtype == bool:
        return _select
    if name == "integer_pow":
        return lambda x: np.power(x, float(params["y"]))
    if name == "round" and params["rounding_method"] == jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        return np.rint
    raise UnknownPrimitiveError(name)


@lru_cache(maxsize=128)
def _player(function: Operation, options: Options, tree: Any) -> _Player | None:
    """The trace of a function of scalars; None if NumPy cannot run it."""
    law = partial(function, **dict(options))
    tape = in_float64(record)(law, tree, [np.float64] * tree.num_leaves)
    try:
        return _Player(tape, [operation_of(step.eqn) for step in tape.steps])
    except UnknownPrimitiveError:
        return None


@lru_cache(maxsize=128)
def _compiled(function: Operation, options: Options) -> Operation:
    return jax.jit(partial(function, **dict(options)))


def _run(steps: Iterable[tuple[Step, Operation]], slots: Slots) -> None:
    """Play steps on arrays that broadcast, in place; free slots after their last use."""
    # Guarded divisions and logarithms compute the discarded side too, as compiled code does.
    with np.errstate(all="ignore"):
        for step, run in steps:
            slots[step.writes] = run(*[slots[at] for at in step.reads])
            for at in step.frees:
                del slots[at]


def _play(player: _Player, leaves: list[np.ndarray]) -> list[Any]:
    tape = player.tape
    slots: Slots = dict(enumerate(leaves)) | tape.constants
    _run(zip(tape.steps, player.operations, strict=True), slots)
    return [slots[at] for at in tape.results]


def on_host(function: Callable[P, R]) -> Callable[P, R]:
    """`function` evaluated by NumPy in float64, without compiling.

    Args:
        function: elementwise in its positional arguments: pytrees of numbers or arrays that
            broadcast. Keyword arguments are options: hashable, and one trace for each value.

    Returns:
        The function with NumPy arrays as results, each of no more axes than it depends on. Where a
        release of jax traces it to an operation unknown here, it is compiled after all.
    """

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        values, tree = _floats(args)
        chosen = tuple(sorted(options.items()))
        player = _player(function, chosen, tree)
        if player is None:
            program = in_float64(_compiled(function, chosen))
            found: R = program(*jax.tree.unflatten(tree, values))
        else:
            found = jax.tree.unflatten(player.tape.tree, _play(player, values))
        return found

    return run


def _floats(tree: Any) -> tuple[list[Any], Any]:
    leaves, structure = jax.tree.flatten(tree)
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

    return jax.tree.map(own, tree)


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
def _halves(function: Operation, options: Options, tree: Any) -> _Halves | None:
    """`_player` in two halves."""
    player = _player(function, options, tree)
    if player is None:
        return None
    tape, reached = player.tape, {tree.num_leaves - 1}
    early: Steps = []
    late: Steps = []
    for step, run in zip(tape.steps, player.operations, strict=True):
        is_reached = not reached.isdisjoint(step.reads)
        (late if is_reached else early).append((step, run))
        reached |= {step.writes} if is_reached else set()
    kept = frozenset(at for step, _ in late for at in step.reads).union(tape.results)
    freeing = [(step._replace(frees=tuple(set(step.frees) - kept)), run) for step, run in early]
    return _Halves(tape, freeing, late, kept)


class Hoisted:
    """A function of a grid and one more, changing argument, evaluated at places of the grid.

    Terms that do not depend on that argument are computed once and kept.

    Args:
        function: elementwise, as of `on_host`; its last argument is the number.
        kept: the arguments before it, which broadcast.
        options: of the function.
    """

    def __init__(self, function: Callable[..., Any], *kept: Any, **options: Any) -> None:
        leaves, tree = _floats((*kept, 0.0))
        self._halves = _halves(function, tuple(sorted(options.items())), tree)
        if self._halves is None:
            self._call, self._kept = partial(on_host(function), **options), kept
            return
        slots: Slots = dict(enumerate(leaves)) | self._halves.tape.constants
        _run(self._halves.early, slots)
        self._last = len(leaves) - 1
        self._slots = {at: x for at, x in slots.items() if at in self._halves.kept}

    def __call__(self, index: tuple[np.ndarray, ...], value: Any) -> Any:
        """Results at places of the grid, each with its value, shape (n,) as the index has."""
        if self._halves is None:
            return self._call(*picked(self._kept, index), value)
        slots = picked(self._slots, index)
        slots[self._last] = np.asarray(value, np.float64)
        _run(self._halves.late, slots)
        tape = self._halves.tape
        return jax.tree.unflatten(tape.tree, [slots[at] for at in tape.results])


def is_traced(tree: Any) -> bool:
    """Whether a leaf stands for a number that a transformation of JAX will give."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def host_unless_traced(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as `on_host`, and itself where it is called under a transformation of JAX."""
    played = on_host(function)

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        return (function if is_traced(args) else played)(*args, **options)

    return run
