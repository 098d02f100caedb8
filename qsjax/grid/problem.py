"""The parts of a problem: variants of a model, values of axes, and the checks of both."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qsjax.grid.axes import STACKED, Axes, make_axes, twin_of
from qsjax.grid.free_memory import free_memory
from qsjax.records import checks
from qsjax.records.specs import (
    DEGREES,
    Convention,
    HardwareSpec,
    ModelSpec,
    Partition,
    Workload,
)
from qsjax.records.units import GIB

CONTEXTS = tuple(1024.0 * 2**k for k in range(15))  # 1k to 16M tokens, the paper's range


# Peak memory of a search, measured: of a cell where every score is kept, and of a design at one
# place of the kept axes but the longest [B].
BYTES_PER_CELL, BYTES_PER_DESIGN = 150.0, 2048.0


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """One row of the comparison: the model itself, or its dense twin at a quality factor q."""

    name: str
    q: float | None
    spec: ModelSpec

    @property
    def label(self) -> str:
        """`moe`, `dense`, or `dense q=5`."""
        return self.name if self.q is None else f"{self.name} q={self.q:g}"


def variants_of(model: ModelSpec, qs: Sequence[float], convention: Convention) -> list[Variant]:
    """The model and, if it has experts, its dense twins."""
    if float(np.asarray(model.experts)) <= 1:
        return [Variant("dense", None, model)]
    twins = [Variant("dense", q, twin_of(model, q, definition=convention.twin)) for q in qs]
    return [Variant("moe", None, model), *twins]


def divisors(number: int) -> list[int]:
    """All divisors in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    low = [k for k in range(1, math.isqrt(number) + 1) if number % k == 0]
    return sorted({*low, *(number // k for k in low)})


def axis_values(
    gpus: Sequence[int],
    contexts: Sequence[float],
    overrides: Mapping[str, Sequence[float | str]],
) -> dict[str, Sequence[float | str]]:
    """GPU counts, contexts, and the full tp x ep x pp x dp x kvp x KV-mode tensor below them.

    Degrees range over the divisors of the GPU counts unless `overrides` names them.

    Raises:
        ValueError: a GPU count is out of bounds, before its divisors are enumerated.
    """
    gpus = checks.check_axes({"gpus": gpus})["gpus"]
    default = sorted({d for count in gpus for d in divisors(int(count))})
    return {
        "gpus": list(gpus),
        "context": list(contexts),
        **dict.fromkeys(DEGREES, default),
        "kv_mode": ["kvp", "cp"],
        **overrides,
    }


def grid_of(variants: Sequence[Variant], values: Mapping[str, Sequence[float | str]]) -> Axes:
    """The axes of an exploration: variant, GPU count and context kept, the partition searched."""
    labels = [variant.label for variant in variants]
    return make_axes({"model": labels, **values}, searched=("batch",))


def bytes_of(axes: Axes) -> float:
    """Memory that a search takes, about [B]: large grids keep no scores (`qsjax.grid.staging`)."""
    every_score = axes.cells * BYTES_PER_CELL
    lanes = max((len(axis.values) for axis in axes.kept), default=1)
    return min(every_score, axes.cells / lanes * BYTES_PER_DESIGN + 0.5 * axes.cells)


def check_size(axes: Axes) -> None:
    """Raise `ValueError` if a grid is too large to be evaluated in one piece."""
    free, needed = free_memory(), bytes_of(axes)
    if needed > 0.5 * free:
        lengths = " x ".join(f"{axis.name} {len(axis.values)}" for axis in axes.all)
        raise ValueError(
            f"the grid has {axes.cells:,} cells ({lengths}) and would take about "
            f"{needed / GIB:,.1f} GiB, but {free / GIB:,.1f} GiB are free: give fewer values of "
            "some axes, or stream it in constant memory with `qsjax sweep`"
        )


def _check_degrees(name: str, values: Any, model: ModelSpec) -> None:
    """Raise `ValueError` if a stated degree is illegal for a model."""
    for value in checks.check_axes({name: values})[name]:
        checks.check_partition(Partition(**{name: value}), model)


def check_inputs(
    model: ModelSpec,
    hardware: HardwareSpec,
    axes: Mapping[str, Sequence[float | str]],
    workload: Workload | None,
    overridden: Iterable[str],
) -> None:
    """Raise one `ValueError` with every problem of an exploration's inputs.

    Degrees of axes that the user wrote down (`overridden`) must be legal for the model; of default
    axes an illegal degree is a cell with a reason.
    """
    problems = []
    if taken := sorted({"q", *STACKED}.intersection(overridden)):
        problems.append(f"{', '.join(taken)}: an argument of its own, not an axis to override")
    named = {name: values for name, values in axes.items() if name not in STACKED}
    records: dict[str, Any] = {"model": model, "hardware": hardware}
    records |= {} if workload is None else {"workload": workload}
    todo: list[Callable[[], Any]] = [
        partial(checks.check_records, **records),
        partial(checks.check_axes, named),
    ]
    # Redundant experts change what ep must divide; then only the grid can tell.
    stated = {"tp", "ep", "pp"}.intersection(overridden)
    stated -= {"ep"} if "redundant_experts" in overridden else set()
    if isinstance(model, ModelSpec):
        todo += [partial(_check_degrees, name, axes[name], model) for name in sorted(stated)]
    for check in todo:
        try:
            check()
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
