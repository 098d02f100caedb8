"""Laws as lists of operations: traced as scalars once, played on arrays of any shape.

A law is written as if its arguments were scalars, so its trace is a list of scalar operations, and
broadcasting them is the law on any grid: a term has the axes that it depends on, and no others.
`numpy_backend` plays a tape by NumPy, `qsjax.grid.staging` inside a compiled program.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

# Primitives that run a program of their own, and the parameter that holds it.
_NESTED = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


class Step(NamedTuple):
    """An operation, the slots it reads and writes, and those it reads last."""

    eqn: Any
    reads: tuple[int, ...]
    writes: int
    frees: tuple[int, ...] = ()


class Tape(NamedTuple):
    """A trace as operations on numbered slots, of which the arguments are the first."""

    constants: dict[int, Any]
    steps: list[Step]
    results: list[int]
    tree: Any


class _Writer:
    """A tape while it is written; the same operation on the same slots is written once."""

    def __init__(self, arguments: int, whole: Collection[str]) -> None:
        self.whole = whole
        self.next = arguments
        self.slots: dict[Any, int] = {}
        self.constants: dict[int, Any] = {}
        self.steps: list[Step] = []

    def slot(self, key: Any) -> tuple[int, bool]:
        """The slot of what `key` describes, and whether it is new."""
        is_new = key not in self.slots
        if is_new:
            self.slots[key] = self.next
            self.next += 1
        return self.slots[key], is_new

    def constant(self, value: Any, dtype: np.dtype) -> int:
        """The slot of a number, or of one that a surrounding program computes."""
        if isinstance(value, jax.core.Tracer):
            at, _ = self.slot(id(value))
            self.constants[at] = value
        else:
            array = np.asarray(value, dtype)
            at, _ = self.slot((array.dtype.str, array.tobytes()))
            self.constants[at] = array[()]
        return at

    def write(self, closed: ClosedJaxpr, arguments: list[int]) -> list[int]:
        """Append a program that reads its arguments from slots; the slots of its results."""
        jaxpr = closed.jaxpr
        at: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            at[var] = self.constant(value, var.aval.dtype)

        def of(atom: Any) -> int:
            if isinstance(atom, Literal):
                aval: Any = atom.aval
                return self.constant(atom.val, aval.dtype)
            return at[atom]

        for eqn in jaxpr.eqns:
            reads = [of(atom) for atom in eqn.invars]
            name = eqn.primitive.name
            if name in _NESTED and eqn.params.get("name") not in self.whole:
                made = self.write(eqn.params[_NESTED[name]], reads)
            else:
                where, is_new = self.slot((name, str(eqn.params), *reads))
                if is_new:
                    self.steps.append(Step(eqn, tuple(reads), where))
                made = [where]
            at.update(zip(eqn.outvars, made, strict=True))
        return [of(atom) for atom in jaxpr.outvars]


def name_of(eqn: Any) -> str:
    """Name of an operation: that of the primitive, or of the function that it runs whole."""
    return eqn.params["name"] if eqn.primitive.name in _NESTED else eqn.primitive.name


def _pruned(steps: list[Step], results: list[int]) -> list[Step]:
    """The steps that the results need, each with the slots that nothing needs after it."""
    needed, kept = set(results), []
    for step in reversed(steps):
        if step.writes in needed:
            frees = tuple(set(step.reads) - needed)
            needed.update(step.reads)
            kept.append(step._replace(frees=frees))
    return kept[::-1]


def record(
    function: Callable[..., Any], tree: Any, dtypes: Sequence[Any], whole: Collection[str] = ()
) -> Tape:
    """Trace a function of scalars.

    Args:
        function: elementwise in its positional arguments, pytrees of numbers.
        tree: structure of the tuple of arguments.
        dtypes: type of each leaf.
        whole: names of compiled functions of one result that stay one operation each.
    """
    leaves = [jax.ShapeDtypeStruct((), dtype) for dtype in dtypes]
    closed, result = jax.make_jaxpr(function, return_shape=True)(*jax.tree.unflatten(tree, leaves))
    writer = _Writer(len(leaves), whole)
    results = writer.write(closed, list(range(len(leaves))))
    steps = _pruned(writer.steps, results)
    return Tape(writer.constants, steps, results, jax.tree.structure(result))
