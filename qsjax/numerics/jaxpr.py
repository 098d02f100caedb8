"""Tapes and JAX: what it transforms as a tape, and tapes as what it transforms."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from qsjax.numerics import trees
from qsjax.numerics.loading import in_float64, is_tracer
from qsjax.numerics.numpy_backend import Hoisted, Slots, on_host, operation_of
from qsjax.numerics.safe import whole_number
from qsjax.numerics.tape import Step, Symbol, Tape, UnknownOperationError, Writer, recording
from qsjax.numerics.tape import record as record_law

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
        closed, result = jax.make_jaxpr(function, return_shape=True)(*trees.unflatten(tree, leaves))
    writer = Writer(len(leaves))
    return writer.tape(_write(writer, closed, list(range(len(leaves)))), trees.structure(result))


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
            return _compiled(function, args, options)

    return run


def hoisted_by_jax(
    function: Callable[..., Any], kept: tuple[Any, ...], last: Any, **options: Any
) -> Callable[[Any], Any]:
    """`Hoisted` of a function that JAX differentiates, compiled as in `on_host_by_jax`."""
    try:
        return Hoisted(function, kept, last, record, **options)
    except UnknownOperationError:
        return lambda changed: _compiled(function, (*kept, changed), options)


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


@lru_cache(maxsize=1)
def _by_jax() -> dict[str, Callable[..., Any]]:
    """The operations of a tape as those of XLA."""
    from qsjax.numerics.jax import jax

    lax = jax.lax
    return {own: getattr(lax, name) for name, own in OPERATIONS.items() if hasattr(lax, name)} | {
        "divide": lax.div,
        "rint": lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
        "logical_and": lax.bitwise_and,
        "logical_or": lax.bitwise_or,
        "logical_not": lax.bitwise_not,
        "where": lax.select,
        "whole_power": lax.integer_pow,
        "cast": lax.convert_element_type,
        "whole_number": whole_number,
    }


def played(steps: Sequence[Step], slots: Slots) -> Slots:
    """The slots after some steps by JAX, on arrays that broadcast; by NumPy where none is JAX's."""
    from qsjax.numerics.jax import jax

    known, wide, by_jax = dict(slots), {}, _by_jax()

    def widened(at: int, shape: tuple[int, ...]) -> Any:
        x = known[at]
        if np.shape(x) == shape:
            return x
        if (at, shape) not in wide:
            axes = range(len(shape) - np.ndim(x), len(shape))
            wide[at, shape] = jax.lax.broadcast_in_dim(x, shape, tuple(axes))
        return wide[at, shape]

    for step in steps:
        operands = [known[at] for at in step.reads]
        if not any(isinstance(x, jax.Array) for x in operands):
            known[step.writes] = operation_of(step)(*operands)
            continue
        shape = np.broadcast_shapes(*map(np.shape, operands))
        detail = () if step.detail is None else (step.detail,)
        run = by_jax[step.name]
        known[step.writes] = run(*(widened(at, shape) for at in step.reads), *detail)
    return known


def by_tape(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, elementwise, by its tape, which JAX traces and differentiates sooner than a law.

    A law goes through `jax.numpy`, whose functions are programs of their own; here each operation
    is one of XLA, with its own derivative. Keyword arguments are options, which are hashable.
    """

    @lru_cache(maxsize=128)
    def tape_of(tree: Any, options: tuple[tuple[str, Any], ...]) -> Tape:
        return record_law(partial(function, **dict(options)), tree, whole=("whole_number",))

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        leaves, tree = trees.flatten(args)
        tape = tape_of(tree, tuple(sorted(options.items())))
        reals = (x if is_tracer(x) else np.asarray(x, np.float64)[()] for x in leaves)
        with np.errstate(all="ignore"):
            slots = played(tape.steps, dict(enumerate(reals)) | tape.constants)
        return trees.unflatten(tape.tree, [slots[at] for at in tape.results])

    return run


def host_unless_traced(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as `on_host`, and by its tape under a transformation of JAX."""
    on_numbers, on_tracers = on_host(function), by_tape(function)

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        leaves = trees.leaves(args)
        if any(isinstance(leaf, Symbol) for leaf in leaves):
            return function(*args, **options)
        return (on_tracers if any(map(is_tracer, leaves)) else on_numbers)(*args, **options)

    return run
