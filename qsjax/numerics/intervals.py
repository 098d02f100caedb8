"""Operations on intervals with slopes: the rules by which laws are bounded over boxes.

Beside its range a value has the range of its slopes along named axes of the box, which bounds the
difference of two laws far better than their ranges do (mean value form). Method: Moore, Kearfott
and Cloud, Introduction to Interval Analysis, SIAM 2009, chapters 5 and 6. `numerics.enclosing`
plays a law's tape by these rules.

Two things make it tight for a cost law, which is a sum of products of positive numbers. Slopes are
logarithmic where a value keeps its sign: those of a product add up, and that of a sum lies between
those of its parts. And a rounded number is the number itself less a remainder, which is an axis of
its own.

Results are those of float64 arithmetic without outward rounding: whoever compares them allows
`ROUNDING`, a hundred times what a few hundred operations lose.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.numerics.numpy_backend import operation_of
from qsjax.numerics.tape import COMPARISONS, LOGIC, Step, UnknownOperationError

ROUNDING = 1e-11  # relative
WHOLE = 1e-12  # relative distance by which a number may miss the whole one below it

Pair = tuple[Any, Any]
Slopes = dict[int, Pair]
_ZERO: Pair = (0.0, 0.0)


class Enclosed(NamedTuple):
    """A value over a box.

    Attributes:
        low: no smaller value is reached.
        high: no larger one.
        slopes: by axis, the range of the derivative along it, whose unit is half of the box; of the
            logarithm (df/dx = slope * f) if `relative`.
        relative: whether slopes are those of the logarithm.
    """

    low: Any
    high: Any
    slopes: Slopes
    relative: bool

    @property
    def range(self) -> Pair:
        """Both ends."""
        return self.low, self.high


EXACT = -1  # the axis of an argument that does not vary
RANGE = -2  # that of one that varies along none: its slopes are not wanted


def _any(x: Any) -> bool:
    return bool(np.count_nonzero(x))  # a quarter of the time of np.any


def _all(x: Any) -> bool:
    return bool(np.count_nonzero(x) == np.size(x))


def range_of(x: Any) -> Pair:
    """Both ends of a value, which may be exact."""
    return x.range if isinstance(x, Enclosed) else (x, x)


def _clean(x: Any) -> Any:
    """0 for what is 0 times infinity."""
    is_none = np.isnan(x)
    return np.where(is_none, 0.0, x) if _any(is_none) else x


def _times(a: Pair, b: Pair) -> Pair:
    (al, ah), (bl, bh) = a, b
    if al is ah and bl is bh:
        both = al * bl
        return both, both
    if _all(al >= 0) and _all(bl >= 0):
        return _clean(al * bl), _clean(ah * bh)
    return _hull_of([_clean(x * y) for x in (al, ah) for y in (bl, bh)])


def _hull_of(ends: list[Any]) -> Pair:
    low = high = ends[0]
    for end in ends[1:]:
        low, high = np.minimum(low, end), np.maximum(high, end)
    return low, high


def _over(a: Pair, b: Pair) -> Pair:
    low, high = b
    crosses = (low < 0) & (high > 0)
    product = _times(a, (1.0 / high, 1.0 / low))
    if not _any(crosses):
        return product
    return np.where(crosses, -np.inf, product[0]), np.where(crosses, np.inf, product[1])


def _plus(a: Pair, b: Pair) -> Pair:
    return a[0] + b[0], a[1] + b[1]


def _negated(a: Pair) -> Pair:
    return -a[1], -a[0]


def _hull(a: Pair, b: Pair) -> Pair:
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


def _chosen(is_first: Any, is_second: Any, a: Pair, b: Pair) -> Pair:
    """`a` where it is surely the first, `b` where it is surely the second, else both."""
    both = _hull(a, b)
    low, high = (
        np.where(is_first, x, np.where(is_second, y, z)) for x, y, z in zip(a, b, both, strict=True)
    )
    return low, high


def _keeps_sign(x: Any) -> bool:
    low, high = range_of(x)
    return bool(_all(low > 0) or _all(high < 0))


def _relative(x: Any) -> Slopes | None:
    """Slopes of the logarithm, if the value has them."""
    if not isinstance(x, Enclosed):
        return {}
    if x.relative or not x.slopes:
        return x.slopes
    if _keeps_sign(x):
        return {axis: _over(slope, x.range) for axis, slope in x.slopes.items()}
    return None


def absolute_slopes(x: Any) -> Slopes:
    """Slopes of the value itself."""
    if not isinstance(x, Enclosed):
        return {}
    if not x.relative:
        return x.slopes
    return {axis: _times(slope, x.range) for axis, slope in x.slopes.items()}


def _merged(a: Slopes, b: Slopes, join: Callable[[Pair, Pair], Pair]) -> Slopes:
    return {axis: join(a.get(axis, _ZERO), b.get(axis, _ZERO)) for axis in {**a, **b}}


def _share(a: Pair, b: Pair) -> Pair:
    """a / (a + b) of numbers whose sum keeps its sign; anything from 0 to 1 where both are 0."""
    if _all(a[0] >= 0) and _all(b[0] >= 0):  # rises with a, falls with b
        low, high = a[0] / (a[0] + b[1]), a[1] / (a[1] + b[0])
        return _clean(low), np.where(np.isnan(high), 1.0, high)
    ends = [x / (x + y) for x in a for y in b]
    is_none = np.isnan(ends[0])
    for end in ends[1:]:
        is_none = is_none | np.isnan(end)
    low, high = _hull_of(ends)
    return np.where(is_none, 0.0, low), np.where(is_none, 1.0, high)


def _mean(weights: Sequence[Pair], a: Pair, b: Pair) -> Pair:
    """w a + v b between two pairs of weights, where 0 times infinity is 0."""

    def mean(x: Any, y: Any, w: Any, v: Any) -> Any:
        total = w * x + v * y
        return _clean(w * x) + _clean(v * y) if _any(np.isnan(total)) else total

    low, high = ([mean(*ends, *pair) for pair in weights] for ends in zip(a, b, strict=True))
    return np.minimum(*low), np.maximum(*high)


def _add(a: Any, b: Any) -> Enclosed:
    low, high = _plus(range_of(a), range_of(b))
    own, other = _relative(a), _relative(b)
    (al, ah), (bl, bh) = range_of(a), range_of(b)
    same_sign = (_all(al >= 0) and _all(bl >= 0)) or (_all(ah <= 0) and _all(bh <= 0))
    if own is not None and other is not None and same_sign:
        join = partial(_mean, [(w, 1.0 - w) for w in _share((al, ah), (bl, bh))])
        return Enclosed(low, high, _merged(own, other, join), relative=True)
    total = Enclosed(low, high, {}, relative=False)
    if own is None:
        a, b, own, other = b, a, other, own
    if own is not None and other is None and _keeps_sign(total) and _all(range_of(a)[0] >= 0):
        share = _share(range_of(a), range_of(b))
        parts = {axis: _times(slope, share) for axis, slope in own.items()}
        rest = {axis: _over(slope, (low, high)) for axis, slope in absolute_slopes(b).items()}
        return Enclosed(low, high, _merged(parts, rest, _plus), relative=True)
    return total._replace(slopes=_merged(absolute_slopes(a), absolute_slopes(b), _plus))


def _neg(a: Any) -> Any:
    if not isinstance(a, Enclosed):
        return -a
    slopes = a.slopes if a.relative else {k: _negated(s) for k, s in a.slopes.items()}
    return a._replace(low=-a.high, high=-a.low, slopes=slopes)


def _sub(a: Any, b: Any) -> Enclosed:
    return _add(a, _neg(b))


def _mul(a: Any, b: Any) -> Enclosed:
    low, high = _times(range_of(a), range_of(b))
    own, other = _relative(a), _relative(b)
    if own is not None and other is not None:
        return Enclosed(low, high, _merged(own, other, _plus), relative=True)
    first = {axis: _times(slope, range_of(b)) for axis, slope in absolute_slopes(a).items()}
    second = {axis: _times(slope, range_of(a)) for axis, slope in absolute_slopes(b).items()}
    return Enclosed(low, high, _merged(first, second, _plus), relative=False)


def _div(a: Any, b: Any) -> Enclosed:
    low, high = _over(range_of(a), range_of(b))
    own, other = _relative(a), _relative(b)
    if own is not None and other is not None:
        return Enclosed(
            low, high, _merged(own, other, lambda x, y: _plus(x, _negated(y))), relative=True
        )
    falling = {axis: _negated(_times(s, (low, high))) for axis, s in absolute_slopes(b).items()}
    slopes = _merged(absolute_slopes(a), falling, _plus)
    return Enclosed(
        low, high, {axis: _over(s, range_of(b)) for axis, s in slopes.items()}, relative=False
    )


def _is_zero(x: Any) -> bool:
    return not isinstance(x, Enclosed) and not _any(x)


def _larger(a: Any, b: Any) -> Enclosed:
    (al, ah), (bl, bh) = range_of(a), range_of(b)
    low, high = np.maximum(al, bl), np.maximum(ah, bh)
    own, other = _relative(a), _relative(b)
    relative = own is not None and other is not None
    if relative and (_is_zero(a) or _is_zero(b)):  # 0 has every logarithmic slope
        return Enclosed(low, high, {**own, **other}, relative=True)  # type: ignore[dict-item]
    if not relative:
        own, other = absolute_slopes(a), absolute_slopes(b)
    join = partial(_chosen, al >= bh, bl >= ah)
    return Enclosed(low, high, _merged(own, other, join), relative)  # type: ignore[arg-type]


def _smaller(a: Any, b: Any) -> Any:
    return _neg(_larger(_neg(a), _neg(b)))


def _abs(a: Enclosed) -> Enclosed:
    low, high = np.abs(a.low), np.abs(a.high)
    is_positive, is_negative = a.low >= 0, a.high <= 0
    absolute = Enclosed(
        np.where(is_positive | is_negative, np.minimum(low, high), 0.0),
        np.maximum(low, high),
        a.slopes,
        a.relative,
    )
    if a.relative:
        return absolute
    slopes = {k: _chosen(is_positive, is_negative, s, _negated(s)) for k, s in a.slopes.items()}
    return absolute._replace(slopes=slopes)


def _blended(a: Any, b: Any, share: Any) -> Any:
    """The value of `blend` by NumPy, of a, b >= 0 and a share from 0 to 1."""
    apart = a - b
    overlap = 4.0 * share * (a * b)
    smooth = 0.5 * ((a + b) + np.sqrt(apart * apart + overlap))
    return np.where(overlap > 0, smooth, np.maximum(a, b))


def _weight(a: Any, b: Any, share: Any) -> Any:
    """Logarithmic slope of `blend` along its first argument; that along the second is the rest."""
    whole = _blended(a, b, share)
    inner = (whole - b) + share * b
    return np.clip(a * inner / (whole * ((whole - a) + (whole - b))), 0.0, 1.0)


def _blend(a: Any, b: Any, share: Any) -> Enclosed:
    """Rises with all three; of degree one in the first two, whose weights depend on their ratio."""
    own, other = _relative(a), _relative(b)
    if own is None or other is None or isinstance(share, Enclosed):
        return _blend_in_parts(a, b, share)
    (al, ah), (bl, bh) = range_of(a), range_of(b)
    if not (_all(al > 0) and _all(bl > 0) and _all(share <= 1.0)):
        return _blend_in_parts(a, b, share)
    least, most = _weight(al, bh, share), _weight(ah, bl, share)
    is_first, is_second = al >= bh, bl >= ah  # at a share of 0, where the weight is none at a tie
    least = np.where(share > 0, least, np.where(is_first, 1.0, 0.0))
    most = np.where(share > 0, most, np.where(is_second, 0.0, 1.0))

    join = partial(_mean, [(w, 1.0 - w) for w in (least, most)])
    low, high = _blended(al, bl, share), _blended(ah, bh, share)
    return Enclosed(low, high, _merged(own, other, join), relative=True)


def _blend_in_parts(a: Any, b: Any, share: Any) -> Enclosed:
    """The formula of `blend`, operation by operation."""
    apart = _abs(_sub(a, b))
    overlap = _mul(_mul(4.0, share), _mul(a, b))
    is_smooth = _compared("greater", overlap, 0.0)
    root = _sqrt(_select(is_smooth, _add(_mul(apart, apart), overlap), 1.0))
    smooth = _mul(0.5, _add(_add(a, b), root))
    return _select(is_smooth, smooth, _larger(a, b))


def _exp(a: Enclosed) -> Enclosed:
    return Enclosed(np.exp(a.low), np.exp(a.high), absolute_slopes(a), relative=True)


def _log(a: Enclosed) -> Enclosed:
    slopes = {axis: _over(slope, a.range) for axis, slope in absolute_slopes(a).items()}
    return Enclosed(np.log(a.low), np.log(a.high), _relative(a) or slopes, relative=False)


def _log1p(a: Enclosed) -> Enclosed:
    inside = 1.0 + a.low, 1.0 + a.high
    slopes = {axis: _over(slope, inside) for axis, slope in absolute_slopes(a).items()}
    return Enclosed(np.log1p(a.low), np.log1p(a.high), slopes, relative=False)


def _hit(a: Enclosed) -> Enclosed:
    """1 - exp(a) of a <= 0: x / (e^x - 1), its logarithmic slope in x = -a, falls from 1 to 0."""
    low, high = -np.expm1(a.high), -np.expm1(a.low)
    slopes = _relative(a)
    if slopes is None or not _all(a.high <= 0):
        return _sub(1.0, _exp(a))
    steep = tuple(np.where(x > 0, x / np.expm1(x), 1.0) for x in (-a.low, -a.high))
    return Enclosed(low, high, {k: _times(s, steep) for k, s in slopes.items()}, relative=True)  # type: ignore[arg-type]


def _power(a: Any, b: Any) -> Enclosed:
    """a^b of a >= 0."""
    low, high = _hull_of([np.power(x, y) for x in range_of(a) for y in range_of(b)])
    own, base = _relative(a), range_of(a)
    if own is None or _any(base[0] < 0):
        raise UnknownOperationError("pow of a number that may be negative")
    slopes = {axis: _times(slope, range_of(b)) for axis, slope in own.items()}
    logs = np.log(base[0]), np.log(base[1])
    varied = {axis: _times(slope, logs) for axis, slope in absolute_slopes(b).items()}
    return Enclosed(low, high, _merged(slopes, varied, _plus), relative=True)


def _whole_power(a: Enclosed, y: int) -> Enclosed:
    if y < 0:
        return _div(1.0, _whole_power(a, -y))
    low, high = _hull_of([np.power(a.low, float(y)), np.power(a.high, float(y))])
    if y % 2 == 0:
        low = np.where((a.low < 0) & (a.high > 0), 0.0, low)
    own = _relative(a)
    if own is not None:
        slopes = {axis: (y * slope[0], y * slope[1]) for axis, slope in own.items()}
        return Enclosed(low, high, slopes, relative=True)
    steep = _hull_of([y * np.power(x, y - 1.0) for x in a.range])
    steep = _hull(steep, _ZERO) if y > 1 else steep
    slopes = {axis: _times(slope, steep) for axis, slope in absolute_slopes(a).items()}
    return Enclosed(low, high, slopes, relative=False)


def _sqrt(a: Enclosed) -> Enclosed:
    if _relative(a) is not None:
        return _power(a, 0.5)
    low, high = np.sqrt(a.low), np.sqrt(a.high)
    steep = 2.0 * low, 2.0 * high
    slopes = {axis: _over(slope, steep) for axis, slope in a.slopes.items()}
    return Enclosed(low, high, slopes, relative=False)


def _floor(a: Enclosed, remainder: int) -> Enclosed:
    """The number less a remainder, which is within 1 of the one at the centre."""
    low = np.floor(a.low - WHOLE * np.abs(a.low))
    high = np.floor(a.high + WHOLE * np.abs(a.high))
    relative = _relative(a)
    is_fixed = low == high
    whole = Enclosed(low, high, {}, relative=False)

    def free(slope: Pair) -> Pair:
        return np.where(is_fixed, 0.0, slope[0]), np.where(is_fixed, 0.0, slope[1])

    if relative is not None and _keeps_sign(whole):
        ratio = _hull_of([1.0, 1.0 + 1.0 / low, 1.0 + 1.0 / high])
        slopes = {axis: free(_times(slope, ratio)) for axis, slope in relative.items()}
        slopes[remainder] = free(_over((-1.0, -1.0), (low, high)))
        return whole._replace(slopes=slopes, relative=True)
    slopes = {axis: free(slope) for axis, slope in absolute_slopes(a).items()}
    slopes[remainder] = free((-1.0, -1.0))
    return whole._replace(slopes=slopes)


def _compared(name: str, a: Any, b: Any) -> Enclosed:
    (al, ah), (bl, bh) = range_of(a), range_of(b)
    match name:
        case "less":
            sure, may = ah < bl, ~(al >= bh)
        case "less_equal":
            sure, may = ah <= bl, ~(al > bh)
        case "greater":
            sure, may = al > bh, ~(ah <= bl)
        case "greater_equal":
            sure, may = al >= bh, ~(ah < bl)
        case _:
            sure = (al == ah) & (bl == bh) & (al == bl)
            may = ~((ah < bl) | (al > bh))
            sure, may = (sure, may) if name == "equal" else (~may, ~sure)
    return Enclosed(sure, may, {**_axes(a), **_axes(b)}, relative=False)


def _axes(x: Any) -> Slopes:
    return dict.fromkeys(x.slopes, _ZERO) if isinstance(x, Enclosed) else {}


def _logic(name: str, *flags: Any) -> Enclosed:
    axes: Slopes = {}
    for flag in flags:
        axes |= _axes(flag)
    if name == "logical_not":
        low, high = range_of(flags[0])
        return Enclosed(np.invert(high), np.invert(low), axes, relative=False)
    join = np.logical_and if name == "logical_and" else np.logical_or
    (al, ah), (bl, bh) = (range_of(flag) for flag in flags)
    return Enclosed(join(al, bl), join(ah, bh), axes, relative=False)


def _select(which: Any, chosen: Any, otherwise: Any) -> Enclosed:
    sure, may = range_of(which)
    low, high = _chosen(sure, ~may, range_of(chosen), range_of(otherwise))
    own, other = _relative(chosen), _relative(otherwise)
    is_open = may & ~sure
    jumps = bool(_any(is_open))
    relative = own is not None and other is not None and not jumps  # 0 jumps by no factor
    if not relative:
        own, other = absolute_slopes(chosen), absolute_slopes(otherwise)
    slopes = _merged(own, other, partial(_chosen, sure, ~may))  # type: ignore[arg-type]
    if jumps:
        for axis in {**slopes, **_axes(which)}:
            slope = slopes.get(axis, _ZERO)
            slopes[axis] = (
                np.where(is_open, -np.inf, slope[0]),
                np.where(is_open, np.inf, slope[1]),
            )
    return Enclosed(low, high, slopes, relative)


def _cast(a: Enclosed, dtype: np.dtype) -> Enclosed:
    low, high = np.asarray(a.low).astype(dtype), np.asarray(a.high).astype(dtype)
    if np.asarray(a.low).dtype != bool:
        return a._replace(low=low, high=high)
    jump = np.where(low != high, np.inf, 0.0)
    return Enclosed(low, high, dict.fromkeys(a.slopes, (-jump, jump)), relative=False)


Rule = Callable[..., Any]
_RULES: dict[str, Rule] = {
    "add": _add,
    "subtract": _sub,
    "multiply": _mul,
    "divide": _div,
    "negative": _neg,
    "absolute": _abs,
    "blend": _blend,
    "maximum": _larger,
    "minimum": _smaller,
    "exp": _exp,
    "hit": _hit,
    "log": _log,
    "log1p": _log1p,
    "sqrt": _sqrt,
    "square": partial(_whole_power, y=2),
    "power": _power,
    "where": _select,
    **{name: partial(_compared, name) for name in COMPARISONS},
    **{name: partial(_logic, name) for name in LOGIC},
}
# NumPy's functions of what it has no name for.
_EXACT: dict[str, Rule] = {"blend": _blended, "hit": lambda x: -np.expm1(x)}


def rule_of(step: Step, remainder: int) -> Rule:
    """How a step is played on intervals; what `floor` takes off is the axis `remainder`."""
    if step.name == "floor":
        return partial(_floor, remainder=remainder)
    if step.name == "cast":
        return partial(_cast, dtype=step.detail)
    if step.name == "whole_power":
        return partial(_whole_power, y=step.detail)
    if step.name in _RULES:
        return _RULES[step.name]

    def unknown(*_: Any) -> Any:
        raise UnknownOperationError(f"{step.name} of a number that varies")

    return unknown


def exact_of(step: Step) -> Rule:
    """NumPy's function of a step all of whose arguments are exact."""
    return _EXACT.get(step.name) or operation_of(step)
