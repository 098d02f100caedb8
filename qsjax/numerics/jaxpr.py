"""Tapes of what JAX transforms: its own trace of a function, in the operations of a tape."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from qsjax.numerics import trees
from qsjax.numerics.loading import in_float64
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.tape import Tape, UnknownOperationError, Writer, recording

P = ParamSpec("P")
R = TypeVar("R")

# Primitives that run a program of their own, and the parameter that holds it.
_NESTED = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
_SAME_NAME = ("floor", "ceil", "sqrt", "square", "exp", "expm1", "log", "log1p", "sign")
# The operations of primitives.
OPERATIONS = {name: name for name in _SAME_NAME} | {
    "abs": "absolute",
    "add": "add",
    "add_any": "add",
    "sub": "subtract",
    "mul": "multiply",
    "neg": "negative",
    "rem": "fmod",
    "pow": "power",
    "max": "maximum",
    "min": "minimum",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "is_finite": "isfinite",
}
# Logarithms that newer releases of JAX have whole.
_BASES = {"log2": 2.0, "log10": 10.0}
_OF_BOOL = {"and": "logical_and", "or": "logical_or", "not": "logical_not"}


def _operation(eqn: Any) -> tuple[str, Any]:
    """Name and detail of the step that an equation on scalars is."""
    name, params, dtype = eqn.primitive.name, eqn.params, eqn.outvars[0].aval.dtype
    if name in OPERATIONS:
        return OPERATIONS[name], None
    if name == "div" and np.issubdtype(dtype, np.floating):
        return "divide", None
    if name in _OF_BOOL and dtype == np.bool_:
        return _OF_BOOL[name], None
    if name == "convert_element_type":
        return "cast", np.dtype(dtype)
    if name == "select_n" and eqn.invars[0].aval.dtype == np.bool_:
        return "where", None
    if name == "integer_pow":
        return "whole_power", params["y"]
    if name == "round" and params["rounding_method"].name == "TO_NEAREST_EVEN":
        return "rint", None
    raise UnknownOperationError(name)


def _write(writer: Writer, closed: Any, arguments: list[int]) -> list[int]:
    """Append a program that reads its arguments from slots; the slots of its results."""
    jaxpr = closed.jaxpr
    at: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
    for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
        at[var] = writer.constant(np.asarray(value, var.aval.dtype))

    def of(atom: Any) -> int:
        if hasattr(atom, "val"):  # a literal, not a variable
            aval: Any = atom.aval
            return writer.constant(np.asarray(atom.val, aval.dtype))
        return at[atom]

    for eqn in jaxpr.eqns:
        reads = [of(atom) for atom in eqn.invars]
        if eqn.primitive.name in _NESTED:
            made = _write(writer, eqn.params[_NESTED[eqn.primitive.name]], reads)
        elif eqn.primitive.name in _BASES:
            of_base = writer.constant(np.log(_BASES[eqn.primitive.name]))
            made = [writer.step("divide", [writer.step("log", reads), of_base])]
        else:
            name, detail = _operation(eqn)
            if name == "where":
                which, otherwise, chosen = reads
                reads = [which, chosen, otherwise]
            made = [writer.step(name, reads, detail)]
        at.update(zip(eqn.outvars, made, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


@in_float64
def record(function: Callable[..., Any], tree: Any) -> Tape:
    """Trace a function by JAX, whatever transformations it takes.

    Args:
        function: elementwise in its positional arguments, pytrees of numbers.
        tree: structure of the tuple of arguments.

    Raises:
        UnknownOperationError: this release of JAX traces it to what no tape has.
    """
    from qsjax.numerics.jax import jax

    leaves = [jax.ShapeDtypeStruct((), np.float64)] * tree.num_leaves
    with recording(None):
        traced = jax.make_jaxpr(function, return_shape=True)
        closed, result = traced(*trees.unflatten(tree, leaves))
    writer = Writer(len(leaves))
    results = _write(writer, closed, list(range(len(leaves))))
    return writer.tape(results, trees.structure(result))


def on_host_by_jax(function: Callable[P, R]) -> Callable[P, R]:
    """As `on_host`, of a function that JAX differentiates.

    Where a release of JAX traces it to an operation that no tape has, it is compiled after all.
    """
    played = on_host(function, record)

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        try:
            return played(*args, **options)
        except UnknownOperationError:
            found: R = _compiled(function, args, options)
            return found

    return run


@in_float64
def _compiled(function: Callable[..., Any], args: Any, options: dict[str, Any]) -> Any:
    """The function of scalars compiled for every element of its arguments."""
    from qsjax.numerics.jax import jax

    leaves, tree = trees.flatten(args)
    wide = np.broadcast_arrays(*(np.asarray(leaf, np.float64) for leaf in leaves))

    def one(*numbers: Any) -> Any:
        return function(*trees.unflatten(tree, numbers), **options)

    found = jax.jit(jax.vmap(one))(*map(np.ravel, wide))
    return trees.map(lambda x: np.reshape(np.asarray(x), wide[0].shape), found)
