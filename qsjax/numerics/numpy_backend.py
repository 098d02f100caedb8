"""Laws run by NumPy, from their tapes (`qsjax.numerics.jaxpr`).

Compiling takes a second or two where the answer about few designs takes milliseconds, and a new
process has nothing compiled. NumPy plays a law on any grid at once: terms that depend on few axes
stay small, and no shape is compiled for.
"""

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import numpy as np

from qsjax.numerics.float64 import in_float64
from qsjax.numerics.jaxpr import Tape, record

P = ParamSpec("P")
R = TypeVar("R")
Operation = Callable[..., Any]
Options = tuple[tuple[str, Any], ...]

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


def _play(player: _Player, leaves: list[np.ndarray]) -> list[Any]:
    tape = player.tape
    slots: dict[int, Any] = dict(enumerate(leaves)) | tape.constants
    # Guarded divisions and logarithms compute the discarded side too, as compiled code does.
    with np.errstate(all="ignore"):
        for step, run in zip(tape.steps, player.operations, strict=True):
            slots[step.writes] = run(*[slots[at] for at in step.reads])
            for at in step.frees:
                del slots[at]
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
        leaves, tree = jax.tree.flatten(args)
        values = [np.asarray(leaf, np.float64)[()] for leaf in leaves]
        chosen = tuple(sorted(options.items()))
        player = _player(function, chosen, tree)
        if player is None:
            program = in_float64(_compiled(function, chosen))
            found: R = program(*jax.tree.unflatten(tree, values))
        else:
            found = jax.tree.unflatten(player.tape.tree, _play(player, values))
        return found

    return run


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
