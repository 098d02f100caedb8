"""Bounds of every design over boxes of hardware numbers and contexts.

The laws themselves are played on intervals (`numerics.intervals`), so whatever they say, the bounds
follow. A box is judged at the largest batch that fits, which its capacity bounds; ranges of slopes
tell how far a value lies from that at the centre (mean value form).
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import decode_step
from qsjax.cost.ledger import resource_times, time_ledger
from qsjax.cost.metrics import Economy, Objective, metric_value
from qsjax.grid.cells import Cells, Designs, Winners, as_rows, numbers_at, placed, step_of, take
from qsjax.grid.limits import Limits, given_limits, violations
from qsjax.grid.parameters import Inputs, Parameter, members_of, write
from qsjax.numerics import trees
from qsjax.numerics.enclosing import enclose, fingerprint
from qsjax.numerics.intervals import (
    EXACT,
    RANGE,
    ROUNDING,
    Enclosed,
    Pair,
    absolute_slopes,
    range_of,
)
from qsjax.numerics.jax import jax
from qsjax.numerics.namespace import Array, xp
from qsjax.numerics.numpy_backend import on_host

ELEMENTS = 2**17  # boxes times designs that are judged at a time
Fields = dict[str, np.ndarray]


class Judged(NamedTuple):
    """What bounds are made of.

    Attributes:
        value: the metric, above 0.
        reasons: bits of `REASONS`: 0 where a design runs.
        broken: bits of `LIMITS`: 0 where it keeps them.
        batch: sequences of an attention replica.
        ahead: time of one resource less that of each other [s], if one was named.
    """

    value: Any
    reasons: Any
    broken: Any
    batch: Any
    ahead: dict[str, Any]


def _judge(
    winners: Winners,
    limits: Limits,
    economy: Economy,
    *,
    metric: Objective,
    is_limited: bool,
    resource: str | None,
) -> Judged:
    inputs, designs = winners
    records = placed(winners)
    step = decode_step(records, inputs.convention)
    broken = xp.zeros((), xp.int32)
    if is_limited:
        broken = violations(limits, designs.partition, inputs.hardware, step, economy)
    ahead: dict[str, Array] = {}
    if resource is not None:
        times = resource_times(time_ledger(step, records, inputs.convention))
        ahead = {name: times[resource] - t for name, t in times.items() if name != resource}
    value = metric_value(metric, step, economy)
    return Judged(value, step.reasons, broken, step.capacity.batch, ahead)


def _value(
    winners: Winners, limits: Limits, economy: Economy, *, metric: Objective | None
) -> Array:
    step = step_of(winners)
    return step.capacity.batch if metric is None else metric_value(metric, step, economy)


_judge_at = on_host(_judge)


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A box of parameters around a point; parts of it are boxes of the unit cube.

    Attributes:
        inputs: the point, every leaf a number.
        parameters: what varies, each along an axis of the cube.
        low: the members' values at the lower end, by field.
        high: at the upper end.
    """

    inputs: Inputs
    parameters: tuple[Parameter, ...]
    low: dict[str, float]
    high: dict[str, float]

    @property
    def axis_of(self) -> dict[str, int]:
        """Axis of every field."""
        return {
            field: k for k, parameter in enumerate(self.parameters) for field in parameter.members
        }

    def fields(self, unit: np.ndarray) -> Fields:
        """Values at points of the unit cube, shape (..., parameter): along logarithms above 0."""
        values = {}
        for field, k in self.axis_of.items():
            low, high, at = self.low[field], self.high[field], unit[..., k]
            value = low * (high / low) ** at if low > 0 else low + (high - low) * at
            values[field] = np.clip(value, low, high)
        return values

    def at(self, unit: np.ndarray) -> Inputs:
        """Inputs at points of the unit cube, one a row."""
        return write(as_rows(self.inputs, len(unit)), self.fields(unit))


class Boxes(NamedTuple):
    """Parts of a region: corners in the unit cube, shape (boxes, parameters)."""

    low: np.ndarray
    high: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """The centre of each."""
        return 0.5 * (self.low + self.high)

    @property
    def share(self) -> np.ndarray:
        """Share of the region that each is."""
        return np.prod(self.high - self.low, axis=-1)

    def halved(self, axis: np.ndarray) -> "tuple[Boxes, Boxes]":
        """The lower and the upper half of each, cut along an axis of its own."""
        rows = np.arange(len(self.low))
        first, second = self.high.copy(), self.low.copy()
        first[rows, axis] = second[rows, axis] = self.middle[rows, axis]
        return Boxes(self.low, first), Boxes(second, self.high)

    @staticmethod
    def whole(parameters: int) -> "Boxes":
        """The region itself."""
        return Boxes(np.zeros((1, parameters)), np.ones((1, parameters)))


class Bounds(NamedTuple):
    """Every design over every box, arrays of shape (boxes, designs).

    Attributes:
        low: the metric is never less where the design runs.
        high: it is never more.
        at_centre: the metric at the centre of the box.
        slopes: by axis (parameters, then remainders of rounding), the range of the slope of its
            logarithm; the unit is half the box.
        shared: number of axes that all designs share: the parameters.
        runs: it runs and keeps the limits in the whole box.
        may_run: it may do so somewhere.
        batch: range of its batch.
        batch_slopes: by parameter, range of the slope of the batch's logarithm.
        memory: by design, a number; equal ones have equal batches everywhere.
        ahead: the named resource takes at least so much longer than any other [s].
        ahead_parts: by parameter, its share in the uncertainty of that, and the middle slope.
    """

    low: np.ndarray
    high: np.ndarray
    at_centre: np.ndarray
    slopes: list[Pair]
    shared: int
    runs: np.ndarray
    may_run: np.ndarray
    batch: Pair
    batch_slopes: list[Pair]
    memory: np.ndarray
    ahead: np.ndarray
    ahead_parts: list[tuple[np.ndarray, np.ndarray]]


class Judge:
    """The designs of one cell, ready to be bounded."""

    def __init__(
        self, cells: Cells, cell: int, region: Region, *, resource: str | None = None
    ) -> None:
        self.cells, self.region = cells, region
        self.parameters = len(region.parameters)
        self.economy = numbers_at(cells.economy, cell)
        self.options: dict[str, Any] = {
            "metric": cells.objective,
            "is_limited": bool(given_limits(cells.limits)),
            "resource": resource,
        }

    def _arguments(self, fields: Fields, designs: Designs) -> tuple[Any, ...]:
        return Winners(write(self.region.inputs, fields), designs), self.cells.limits, self.economy

    def _axes(self, designs: Designs, *, sloped: bool = True) -> Any:
        """Numbers of axes in the structure of `_arguments`."""
        (inputs, own), *others = jax.tree.map(lambda _: EXACT, self._arguments({}, designs))
        axes = {name: k if sloped else RANGE for name, k in self.region.axis_of.items()}
        return Winners(write(inputs, axes), own), *others  # type: ignore[arg-type]  # numbers of axes

    def _enclose(
        self, boxes: Boxes, designs: Designs, *, sloped: bool = True
    ) -> tuple[Judged, int]:
        ends = (self.region.fields(end) for end in (boxes.low, boxes.high))
        low, high = ({name: x[:, None] for name, x in end.items()} for end in ends)
        return enclose(
            _judge,
            self._arguments(low, designs),
            self._arguments(high, designs),
            self._axes(designs, sloped=sloped),
            **self.options,
        )

    def designs(self, at: np.ndarray) -> Designs:
        """Designs at positions."""
        return take(self.cells.designs, at)

    def exact(self, unit: np.ndarray, designs: Designs) -> Judged:
        """The law at points of the unit cube: (points, designs)."""
        fields = {name: x[..., None] for name, x in self.region.fields(unit).items()}
        return _judge_at(*self._arguments(fields, designs), **self.options)

    def ranges(self, boxes: Boxes, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Range of the metric of designs over boxes, and whether they may run: without slopes."""
        judged, _ = self._enclose(boxes, self.designs(at), sloped=False)
        shape = len(boxes.low), len(at)
        may_run = (range_of(judged.reasons)[0] == 0) & (range_of(judged.broken)[0] == 0)
        least, most = range_of(judged.value)
        least, most, may_run = (np.broadcast_to(x, shape) for x in (least, most, may_run))
        return least * (1 - ROUNDING), most * (1 + ROUNDING), may_run

    def by_batch(self, boxes: Boxes, at: np.ndarray, main: Bounds) -> tuple[Bounds, Bounds]:
        """`main`, twice: a batch that has two values in a box is bounded at each by itself.

        A step from one sequence to two doubles what a remainder could say of it.
        """
        is_few = main.batch[1] - main.batch[0] <= 1.0

        def joined(batch: np.ndarray) -> Bounds:
            bounds = self.bound(boxes, at, batch)
            no = (np.zeros(is_few.shape),) * 2

            def chosen(new: Any, old: Any) -> Any:
                return trees.map(partial(np.where, is_few), new, old)

            shared = [
                *zip(bounds.slopes[: bounds.shared], main.slopes[: bounds.shared], strict=True)
            ]
            rest = [(new, no) for new in bounds.slopes[bounds.shared :]]
            rest += [(no, old) for old in main.slopes[bounds.shared :]]
            parts = zip(bounds.ahead_parts, main.ahead_parts, strict=True)
            return main._replace(
                low=chosen(bounds.low, main.low),
                high=chosen(bounds.high, main.high),
                at_centre=chosen(bounds.at_centre, main.at_centre),
                slopes=[chosen(new, old) for new, old in [*shared, *rest]],
                ahead=chosen(bounds.ahead, main.ahead),
                ahead_parts=[chosen(new, old) for new, old in parts],
            )

        return joined(main.batch[0]), joined(main.batch[1])

    @cached_property
    def alike(self) -> np.ndarray:
        """A number for each design: equal ones are equally good in the whole region."""
        return self._fingerprint(metric=self.options["metric"])

    @cached_property
    def batches_alike(self) -> np.ndarray:
        """A number for each design: equal ones have equal batches in the whole region."""
        return self._fingerprint(metric=None)

    def _fingerprint(self, metric: Objective | None) -> np.ndarray:
        designs = self.cells.designs
        low, high = (self.region.fields(end[0]) for end in Boxes.whole(self.parameters))
        found = fingerprint(
            _value,
            self._arguments(low, designs),
            self._arguments(high, designs),
            self._axes(designs),
            metric=metric,
        )
        return np.broadcast_to(found, self.cells.count)

    def bound(self, boxes: Boxes, at: np.ndarray, batch: np.ndarray | None = None) -> Bounds:
        """Bounds of the designs at positions over the boxes.

        Args:
            boxes: parts of the region.
            at: positions of designs.
            batch: their batches, shape (boxes, designs); the largest ones that fit unless given.
        """
        shape = len(boxes.low), len(at)
        designs = self.designs(at)
        if batch is not None:
            designs = designs._replace(batch=batch)
        found, remainders = self._enclose(boxes, designs)
        middle = self.exact(boxes.middle, designs)

        def full(x: Any) -> np.ndarray:
            return np.broadcast_to(np.asarray(x), shape)

        axes = self.parameters + remainders

        def pairs(value: Any, count: int) -> list[Pair]:
            own = log_slopes(value)
            return [tuple(full(end) for end in own.get(k, (0.0, 0.0))) for k in range(count)]  # type: ignore[misc]

        flags = [range_of(found.reasons), range_of(found.broken)]
        value = range_of(found.value)
        with np.errstate(all="ignore"):  # what jumps has slopes without end
            ahead, parts = self._ahead(found, middle, shape)
        return Bounds(
            low=full(value[0]),
            high=full(value[1]),
            at_centre=full(middle.value),
            slopes=pairs(found.value, axes),
            shared=self.parameters,
            runs=full(flags[0][1] == 0) & full(flags[1][1] == 0),
            may_run=full(flags[0][0] == 0) & full(flags[1][0] == 0),
            batch=tuple(full(x) for x in range_of(found.batch)),  # type: ignore[arg-type]
            batch_slopes=pairs(found.batch, self.parameters),
            memory=full(self.batches_alike[at]),
            ahead=ahead,
            ahead_parts=parts,
        )

    def _ahead(
        self, found: Judged, middle: Judged, shape: tuple[int, int]
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Least lead of the named resource, and what each parameter does to it."""
        least = np.full(shape, np.inf)
        count = self.parameters
        parts = [(np.zeros(shape), np.zeros(shape)) for _ in range(count)]
        for name, gap in found.ahead.items():
            slopes = absolute_slopes(gap)
            radius = sum(np.maximum(np.abs(low), np.abs(high)) for low, high in slopes.values())
            own = np.fmax(middle.ahead[name] - radius, range_of(gap)[0])
            is_least = own < least
            least = np.where(is_least, own, least)
            for k in range(count):
                low, high = slopes.get(k, (0.0, 0.0))
                both = np.maximum(np.abs(low), np.abs(high)), 0.5 * (low + high)
                parts[k] = tuple(  # type: ignore[assignment]  # two of them
                    np.where(is_least, new, old) for new, old in zip(both, parts[k], strict=True)
                )
        return least, parts


def most_apart(one: Pair, other: Pair) -> Any:
    """Largest size of the difference of two slopes, from the range of each (mean value form)."""
    return np.maximum(np.abs(one[0] - other[1]), np.abs(one[1] - other[0]))


def log_slopes(value: Any) -> dict[int, Pair]:
    """Slopes of the logarithm of a positive value; unbounded where it may not be positive."""
    if not isinstance(value, Enclosed):
        return {}
    if value.relative:
        return value.slopes
    logs = {}
    for axis, (low, high) in value.slopes.items():
        with np.errstate(all="ignore"):
            ends = [x / y for x in (low, high) for y in value.range]
        bad = ~(np.asarray(value.low) > 0)
        logs[axis] = (
            np.where(bad, -np.inf, np.fmin.reduce(ends)),
            np.where(bad, np.inf, np.fmax.reduce(ends)),
        )
    return logs


def region_of(
    cells: Cells, cell: int, parameters: Sequence[Parameter], ends: dict[str, tuple[float, float]]
) -> Region:
    """The region around a cell."""
    names = members_of(parameters)
    return Region(
        numbers_at(cells.inputs, cell),
        tuple(parameters),
        {name: ends[name][0] for name in names},
        {name: ends[name][1] for name in names},
    )
