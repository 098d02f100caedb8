"""How far measured times are from predicted ones, by engine, generation, kind of model and regime.

The logarithm of measured over predicted time has the variance of all measurements times a ratio for
each group; a group of few configurations has a ratio near 1. `spread.json` is made by
`python -m benchmarks.left_out` from measurements whose whole group was left out of the fit.
"""

import functools
import json
import numbers
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from qsjax.records.fields import near

FACTORS = ("engine", "generation", "kind", "regime")
LEVEL = 0.8  # of an interval, unless another is asked for
UNSTATED = "not stated"  # measurements that do not say their engine
LARGEST_Z = 40.0  # beyond all that was measured
# What two designs may share; the errors of what they share cancel between them.
SHARED = ("engine", "accelerator", "model")


class Spread(NamedTuple):
    """Widths of the groups.

    Attributes:
        width: standard deviation of the logarithm of measured over predicted time.
        ratios: by factor and group, variance over that of all.
        records: by factor and group, how many were measured.
        left: by what two designs share ("engine accelerator"), the part of the variance that is
            left in their difference.
        quantiles: probabilities, and the absolute error in standard deviations that it stays below.
        constants: names of the fitted constants.
        covariance: of their logarithms.
        elsewhere: how many times and rates of other publications are known, to which nothing is
            fitted, and the factor by which `LEVEL` of them are off at most.
    """

    width: float
    ratios: Mapping[str, Mapping[str, float]]
    records: Mapping[str, Mapping[str, int]]
    left: Mapping[str, float]
    quantiles: np.ndarray
    constants: tuple[str, ...] = ()
    covariance: np.ndarray = np.zeros((0, 0))
    elsewhere: tuple[int, float] = (0, 1.0)


@functools.cache
def load_spread() -> Spread:
    """The spread that ships with the package."""
    text = (resources.files("qsjax.engines") / "spread.json").read_text("utf-8")
    stored: dict[str, Any] = json.loads(text)
    arrays = {name: np.asarray(stored[name], float) for name in ("quantiles", "covariance")}
    return Spread(**stored | arrays | {"constants": tuple(stored["constants"])})


def nearest_engine(name: str) -> tuple[str, str]:
    """The engine whose measured errors stand for those of `name`, and a note where it is another.

    "" is any engine: without a name, or where no measured one is spelled alike.

    >>> nearest_engine("sglnag")
    ('sglang', "no measurements of the engine 'sglnag': intervals are those of sglang")
    """
    known = [engine for engine in load_spread().records["engine"] if engine != UNSTATED]
    if not name or name in known:
        return name, ""
    close = near(name, known, 1)
    used, told = (close[0], close[0]) if close else ("", f"all measured ones ({', '.join(known)})")
    return used, f"no measurements of the engine {name!r}: intervals are those of {told}"


class Error(NamedTuple):
    """The error to be expected of predictions, one each.

    Attributes:
        variance: of the logarithm of measured over predicted time, by the groups.
        slopes: derivatives of the logarithm of the time, (prediction, constant).
        rests_on: what was measured, in words.
    """

    variance: np.ndarray
    slopes: np.ndarray
    rests_on: list[str]


def error_of(
    spread: Spread, groups: Mapping[str, np.ndarray], slopes: np.ndarray | None = None
) -> Error:
    """The error to be expected of predictions.

    Args:
        spread: as measured.
        groups: by factor, the name of each prediction's group. One that is not stated counts as
            all groups; a generation that was never measured, and all else that is not stated then,
            as the widest.
        slopes: derivatives of the logarithm of the time in those of the constants.
    """
    count = len(groups["kind"])
    variance = np.full(count, spread.width**2)
    is_strange = [str(name) not in spread.ratios["generation"] for name in groups["generation"]]
    for factor in FACTORS:
        ratios = spread.ratios[factor]
        missing = np.where(is_strange, max(1.0, *ratios.values()), 1.0)
        pairs = zip(groups[factor], missing, strict=True)
        variance = variance * [ratios.get(str(name), unknown) for name, unknown in pairs]
    if slopes is None:
        slopes = np.zeros((count, len(spread.constants)))
    named = zip(*(groups[factor] for factor in FACTORS), strict=True)
    return Error(variance, slopes, [_rests_on(spread, tuple(map(str, row))) for row in named])


def _rests_on(spread: Spread, row: tuple[str, ...]) -> str:
    engine, generation, kind, regime = row
    if generation not in spread.records["generation"]:
        return "no measurement of this hardware: the widest interval of all"
    pairs = zip(FACTORS, row, strict=True)
    least = min(n for factor, name in pairs if (n := spread.records[factor].get(name)) is not None)
    known = engine if engine in spread.records["engine"] else ""
    return f"{kind}, {generation}, {known or 'any engine'}, {regime}: {least:,} measurements"


def deviation(spread: Spread, error: Error) -> np.ndarray:
    """Standard deviation of the logarithm of measured over predicted time, one a prediction."""
    fit = np.einsum("ni,ij,nj->n", error.slopes, spread.covariance, error.slopes)
    return np.sqrt(error.variance + fit)


def check_level(level: Any) -> None:
    """Raise `ValueError` for a level of intervals that is no probability."""
    shown = f"{float(level):g}" if isinstance(level, numbers.Real) else repr(level)
    if not isinstance(level, numbers.Real) or not 0.0 < float(level) < 1.0:
        raise ValueError(f"level: {shown} is not allowed; give a probability between 0 and 1")


def quantile(spread: Spread, level: float) -> float:
    """What the absolute error over its deviation stays below with a probability of `level`."""
    check_level(level)
    probabilities, z = spread.quantiles
    return float(np.interp(level, [0.0, *probabilities, 1.0], [0.0, *z, LARGEST_Z]))


def factor_of(spread: Spread, error: Error, level: float = LEVEL) -> np.ndarray:
    """Factor by which measured times are off at most, either way, with a probability of `level`."""
    return np.exp(quantile(spread, level) * deviation(spread, error))


def chance_below(spread: Spread, z: float) -> float:
    """Probability that an error stays below `z` standard deviations, with the tails as measured."""
    probabilities, quantiles = spread.quantiles
    inside = np.interp(abs(z), [0.0, *quantiles, LARGEST_Z], [0.0, *probabilities, 1.0])
    return float(0.5 + 0.5 * np.sign(z) * inside)


class Difference(NamedTuple):
    """How much faster one design is than another, in logarithms of their times.

    Attributes:
        mean: predicted advantage of the first.
        sigma: its standard deviation.
        gains: by design, the part of the variance that one measurement of it removes [1].
    """

    mean: float
    sigma: float
    gains: tuple[float, float]


def difference(
    spread: Spread,
    error: Error,
    ratio: float,
    shared: frozenset[str],
    pair: tuple[int, int],
    weights: tuple[float, float] = (1.0, 1.0),
) -> Difference:
    """The advantage of one of two designs; what errs alike cancels.

    With time errors e and weights w the error of the advantage is w_2 e_2 - w_1 e_1.

    Args:
        spread: as measured.
        error: of all designs.
        ratio: predicted time (GPU-seconds a token) of the second over that of the first.
        shared: which of `SHARED` are the same.
        pair: which designs.
        weights: per cent of the advantage for one per cent of the time of each.
    """
    left = spread.left[" ".join(name for name in SHARED if name in shared)]
    alone = spread.left[" ".join(SHARED)]
    one, two = weights
    apart = one * error.slopes[pair[0]] - two * error.slopes[pair[1]]
    own = np.square(weights) @ error.variance[list(pair)]
    # Of the rest both have the same, which weights that differ leave a part of.
    common = one * two * error.variance[list(pair)].sum()
    variance = max(own - (1.0 - left) * common, left * own) + apart @ spread.covariance @ apart
    gains = []
    for sign, weight, k in zip((1.0, -1.0), weights, pair, strict=True):
        # A measurement of one batch tells all of its configuration's error but its own scatter.
        covers = weight * (left - alone) * error.variance[k]
        covers += sign * (apart @ spread.covariance @ error.slopes[k])
        whole = deviation(spread, error)[k] ** 2
        gains.append(float(max(covers, 0.0) ** 2 / whole / variance) if variance else 0.0)
    return Difference(float(np.log(ratio)), float(np.sqrt(variance)), (gains[0], gains[1]))
