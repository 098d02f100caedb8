"""Laws run by NumPy: traced as scalars once, then broadcast over arrays of any shape.

Compiling takes a second or two where the answer about few designs takes milliseconds, and a new
process has nothing compiled. A law is written as if its arguments were scalars, so its trace is a
list of scalar operations, and NumPy broadcasting them is the law on any grid: terms that depend on
few axes stay small, and no shape is compiled for.
"""

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

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
}
# Primitives that run a program of their own, and the parameter that holds it.
_NESTED = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


class UnknownPrimitiveError(Exception):
    """A traced operation that has no NumPy function here."""


class _Step(NamedTuple):
    """An operation, the slots that it reads and writes, and those that nobody reads after it."""

    run: Operation
    reads: tuple[int, ...]
    writes: int
    frees: tuple[int, ...] = ()


class _Tape(NamedTuple):
    """A trace as operations on numbered slots, of which the arguments are the first."""

    constants: dict[int, np.ndarray]
    steps: list[_Step]
    results: list[int]
    tree: Any


def _select(which: Any, otherwise: Any, chosen: Any) -> Any:
    return np.where(which, chosen, otherwise)


def _cast(x: Any, dtype: np.dtype) -> Any:
    return np.asarray(x).astype(dtype)


def _operation(eqn: Any) -> Operation:
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


class _Writer:
    """A tape while it is written; the same operation on the same slots is written once."""

    def __init__(self, arguments: int) -> None:
        self.next = arguments
        self.slots: dict[Any, int] = {}
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[_Step] = []

    def slot(self, key: Any) -> tuple[int, bool]:
        """The slot of what `key` describes, and whether it is new."""
        is_new = key not in self.slots
        if is_new:
            self.slots[key] = self.next
            self.next += 1
        return self.slots[key], is_new

    def constant(self, value: Any, dtype: np.dtype) -> int:
        """The slot of a number."""
        array = np.asarray(value, dtype)
        at, _ = self.slot((array.dtype.str, array.tobytes()))
        self.constants[at] = array[()]
        return at

    def write(self, closed: ClosedJaxpr, arguments: list[int]) -> list[int]:
        """Append a program that reads its arguments from slots; the slots of its results."""
        jaxpr = closed.jaxpr
        at: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            at[var] = self.constant(value, np.asarray(value).dtype)

        def of(atom: Any) -> int:
            if isinstance(atom, Literal):
                aval: Any = atom.aval
                return self.constant(atom.val, aval.dtype)
            return at[atom]

        for eqn in jaxpr.eqns:
            reads = [of(atom) for atom in eqn.invars]
            name = eqn.primitive.name
            if name in _NESTED:
                made = self.write(eqn.params[_NESTED[name]], reads)
            else:
                operation = _operation(eqn)
                where, is_new = self.slot((name, str(eqn.params), *reads))
                if is_new:
                    self.steps.append(_Step(operation, tuple(reads), where))
                made = [where]
            at.update(zip(eqn.outvars, made, strict=True))
        return [of(atom) for atom in jaxpr.outvars]


def _pruned(steps: list[_Step], results: list[int]) -> list[_Step]:
    """The steps that the results need, each with the slots that nothing needs after it."""
    needed, kept = set(results), []
    for step in reversed(steps):
        if step.writes in needed:
            frees = tuple(set(step.reads) - needed)
            needed.update(step.reads)
            kept.append(step._replace(frees=frees))
    return kept[::-1]


@lru_cache(maxsize=128)
def _tape(function: Operation, options: Options, tree: Any) -> _Tape | None:
    """The trace of a function of scalars; None if NumPy cannot run it."""
    leaves = [jax.ShapeDtypeStruct((), np.float64)] * tree.num_leaves
    made = jax.make_jaxpr(partial(function, **dict(options)), return_shape=True)
    closed, result = made(*jax.tree.unflatten(tree, leaves))
    writer = _Writer(tree.num_leaves)
    try:
        results = writer.write(closed, list(range(tree.num_leaves)))
    except UnknownPrimitiveError:
        return None
    steps = _pruned(writer.steps, results)
    return _Tape(writer.constants, steps, results, jax.tree.structure(result))


@lru_cache(maxsize=128)
def _compiled(function: Operation, options: Options) -> Operation:
    return jax.jit(partial(function, **dict(options)))


def _play(tape: _Tape, leaves: list[np.ndarray]) -> list[Any]:
    slots: dict[int, Any] = dict(enumerate(leaves)) | tape.constants
    # Guarded divisions and logarithms compute the discarded side too, as compiled code does.
    with np.errstate(all="ignore"):
        for step in tape.steps:
            slots[step.writes] = step.run(*[slots[at] for at in step.reads])
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
        tape = _tape(function, chosen, tree)
        if tape is None:
            found: R = _compiled(function, chosen)(*jax.tree.unflatten(tree, values))
        else:
            found = jax.tree.unflatten(tape.tree, _play(tape, values))
        return found

    return run
