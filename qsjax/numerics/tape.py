"""Laws as lists of operations: recorded as scalars once, played on arrays of any shape.

A law is written as if its arguments were scalars, so it is a list of scalar operations, and
broadcasting them is the law on any grid: a term has the axes that it depends on, and no others.
A law is recorded by calling it with `Symbol`s for numbers, which note what is done to them;
`numerics.namespace` brings its functions to them. That takes a tenth of the time of a trace by JAX,
which `numerics.jaxpr` makes of what JAX differentiates.

`numpy_backend` plays a tape by NumPy, `numerics.intervals` on intervals, `qsjax.grid.staging`
inside a compiled program.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from qsjax.numerics import trees
from qsjax.numerics.loading import is_tracer

# What is recorded by the name of NumPy's function, and what its result is.
_ARITHMETIC = ("add", "subtract", "multiply", "maximum", "minimum", "negative", "absolute", "sign")
_REAL = (
    *("divide", "fmod", "power", "floor", "ceil", "rint", "sqrt", "square"),
    *("exp", "expm1", "log", "log1p"),
)
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_TESTS = (*COMPARISONS, "isfinite")
LOGIC = ("logical_and", "logical_or", "logical_not")
# What `&`, `|` and `~` are of truth values.
_LOGIC_OF_BITS = {"bitwise_and": LOGIC[0], "bitwise_or": LOGIC[1], "invert": LOGIC[2]}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(np, name) for name in (*_ARITHMETIC, *_REAL, *_TESTS, *LOGIC, "where")
}

# Kinds of numbers, from the narrowest.
BOOL, INTEGER, REAL = "bif"


class UnknownOperationError(Exception):
    """An operation that cannot be played."""


class Step(NamedTuple):
    """An operation, the slots it reads and writes, and those it reads last.

    Attributes:
        name: of NumPy's function; `cast`, `whole_power`; or that of a function that stays whole.
        detail: the type that is cast to, the exponent of a whole power.
    """

    name: str
    reads: tuple[int, ...]
    writes: int
    frees: tuple[int, ...] = ()
    detail: Any = None


class Tape(NamedTuple):
    """Operations on numbered slots, of which the arguments are the first."""

    constants: dict[int, Any]
    steps: list[Step]
    results: list[int]
    tree: Any


class Writer:
    """A tape while it is written; the same operation on the same slots is written once."""

    def __init__(self, arguments: int, whole: Collection[str] = (), real: Any = np.float64) -> None:
        self.whole = whole
        self.dtypes = {BOOL: np.dtype(bool), INTEGER: np.dtype(np.int32), REAL: np.dtype(real)}
        self.next = arguments
        self.slots: dict[Any, int] = {}
        self.constants: dict[int, Any] = {}
        self.steps: list[Step] = []

    def _slot(self, key: Any) -> tuple[int, bool]:
        """The slot of what `key` describes, and whether it is new."""
        is_new = key not in self.slots
        if is_new:
            self.slots[key] = self.next
            self.next += 1
        return self.slots[key], is_new

    def constant(self, value: Any) -> int:
        """The slot of a number, or of one that a surrounding program computes."""
        if is_tracer(value):
            at, _ = self._slot(id(value))
            self.constants[at] = value
            return at
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a law computes with {value!r}, which is no number")
        array = array.astype(self.dtypes[_kind_of(array)])
        at, _ = self._slot((array.dtype.str, array.shape, array.tobytes()))
        self.constants[at] = array[()]
        return at

    def step(self, name: str, reads: Sequence[int], detail: Any = None) -> int:
        """The slot of an operation on slots."""
        at, is_new = self._slot((name, detail, *reads))
        if is_new:
            self.steps.append(Step(name, tuple(reads), at, (), detail))
        return at

    def tape(self, results: list[int], tree: Any) -> Tape:
        """The steps that the results need."""
        return Tape(self.constants, needed_steps(self.steps, results), results, tree)


def needed_steps(steps: Sequence[Step], results: Sequence[int]) -> list[Step]:
    """The steps that results need, each with the slots that nothing needs after it."""
    needed, kept = set(results), []
    for step in reversed(steps):
        if step.writes in needed:
            kept.append(step._replace(frees=tuple(set(step.reads) - needed)))
            needed.update(step.reads)
    return kept[::-1]


class _Recording(threading.local):
    """The tape that this thread writes."""

    writer: Writer | None = None


_recording = _Recording()


@contextmanager
def recording(writer: Writer | None) -> Iterator[None]:
    """Write what laws do to a tape, or with None leave them to JAX."""
    before, _recording.writer = _recording.writer, writer
    try:
        # Guarded divisions and logarithms compute the discarded side too, of constants as well.
        with np.errstate(all="ignore"):
            yield
    finally:
        _recording.writer = before


def writer_here() -> Writer | None:
    """The tape that this thread writes; None where laws are JAX's."""
    return _recording.writer


class Symbol(NDArrayOperatorsMixin):
    """A number of a law that is being recorded: a slot of the tape.

    NumPy's functions and all operators note what they do to it.

    Attributes:
        kind: a truth value, an integer, or a real number.
    """

    __slots__ = ("_writer", "kind", "slot")
    __hash__ = None  # type: ignore[assignment]  # `==` is recorded, as that of arrays
    shape: tuple[int, ...] = ()
    ndim = 0
    size = 1

    def __init__(self, writer: Writer, slot: int, kind: str = REAL) -> None:
        self._writer, self.slot, self.kind = writer, slot, kind

    @property
    def dtype(self) -> np.dtype:
        """That of its kind where the tape is played."""
        return self._writer.dtypes[self.kind]

    def astype(self, dtype: Any) -> "Symbol":
        """This number as one of another kind."""
        return self._as(np.dtype(dtype).kind)

    def _as(self, kind: str) -> "Symbol":
        if kind == self.kind:
            return self
        writer = self._writer
        return Symbol(writer, writer.step("cast", [self.slot], writer.dtypes[kind]), kind)

    def _refused(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a law uses the value of a number that it is recorded for")

    __bool__ = __float__ = __int__ = __index__ = __array__ = __iter__ = __len__ = _refused

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        name = _LOGIC_OF_BITS.get(ufunc.__name__, ufunc.__name__)
        if name not in FUNCTIONS or method != "__call__" or options:
            return NotImplemented
        first, *others = inputs
        if name == "power" and isinstance(others[0], int):
            slots = [_symbol_of(first, self._writer, REAL).slot]
            return Symbol(self._writer, self._writer.step("whole_power", slots, others[0]))
        return applied(name, *inputs)


def _kind_of(x: Any) -> str:
    if isinstance(x, Symbol):
        return x.kind
    kind = np.dtype(x.dtype).kind if hasattr(x, "dtype") else np.asarray(x).dtype.kind
    return INTEGER if kind == "u" else kind


def _symbol_of(x: Any, writer: Writer, kind: str) -> Symbol:
    """A number as a symbol of a kind."""
    if isinstance(x, Symbol):
        return x._as(kind)
    if is_tracer(x):
        return Symbol(writer, writer.constant(x), _kind_of(x))._as(kind)
    return Symbol(writer, writer.constant(np.asarray(x, writer.dtypes[kind])), kind)


def applied(name: str, *operands: Any) -> Symbol:
    """The result of a function on numbers, some of them symbols.

    Args:
        name: of `FUNCTIONS`, or of a function that stays whole.
        operands: of the function, in its order.
    """
    writer = next(x._writer for x in operands if isinstance(x, Symbol))
    kinds = [_kind_of(x) for x in operands]
    if name == "where":
        made = max(kinds[1:], key="bif".index)
        wanted = [BOOL, made, made]
    elif name in LOGIC:
        made, wanted = BOOL, [BOOL] * len(kinds)
    elif name in _TESTS:
        made, wanted = BOOL, [max(kinds, key="bif".index)] * len(kinds)
    elif name in _ARITHMETIC and max(kinds, key="bif".index) == INTEGER:
        made, wanted = INTEGER, [INTEGER] * len(kinds)
    else:
        made, wanted = REAL, [REAL] * len(kinds)
    given = [_symbol_of(x, writer, kind) for x, kind in zip(operands, wanted, strict=True)]
    return Symbol(writer, writer.step(name, [x.slot for x in given]), made)


def record(
    function: Callable[..., Any],
    tree: Any,
    kinds: Sequence[str] | None = None,
    whole: Collection[str] = (),
    real: Any = np.float64,
) -> Tape:
    """Record a law.

    Args:
        function: elementwise in its positional arguments, pytrees of numbers.
        tree: structure of the tuple of arguments.
        kinds: of the leaves; real numbers unless given.
        whole: names of functions (`namespace.whole`) that stay one operation each.
        real: type of real numbers.
    """
    leaves = tree.num_leaves
    writer = Writer(leaves, whole, real)
    symbols = [Symbol(writer, at, kind) for at, kind in enumerate(kinds or REAL * leaves)]
    with recording(writer):
        found = function(*trees.unflatten(tree, symbols))
    made, structure = trees.flatten(found)
    slots = [x.slot if isinstance(x, Symbol) else writer.constant(x) for x in made]
    return writer.tape(slots, structure)
