"""Fits the constants of an accelerator to measurements, by gradient.

The constants are few, shared by all records and physical: shares of a peak in (0, 1] and times
above zero. Residuals are logarithms of predicted over measured, so that a record counts by its
relative error; scipy's least squares gets their exact derivatives from JAX, played by NumPy.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from qsjax.evidence.measurements import Case, Skipped, read_cases, records_given
from qsjax.evidence.measurements.cases import plain
from qsjax.evidence.measurements.predict import (
    TRTLLM_OVERHEAD,
    Outcome,
    batches,
    columns_of,
    log_slopes,
    outcomes,
    slopes_of_outcomes,
    time_values,
)
from qsjax.evidence.validation import statistics_of
from qsjax.grid.entry import entry
from qsjax.numerics.safe import scalar
from qsjax.output.result import Result, Row, Table
from qsjax.records.tables import table
from qsjax.records.units import US

# Residuals beyond this count linearly: a single odd record cannot carry the fit.
SOFT = 0.1
# Two-sided 95 % of a normal distribution.
QUANTILE = 1.96
# Intervals wider than this factor, and pairs closer than this correlation, are reported.
WIDE, ALIKE = 2.0, 0.95
# Where measurements are fewer than constants: standard deviations of the logarithm of a constant
# about the catalogue's value, and of a measurement about the rest of its configuration.
WIDTH, NOISE = 0.5, 0.05
# Derivatives of log prediction in log constant below this have no hold on it.
NO_EFFECT = 1e-4
# Eigenvalues of the normal matrix below this share of the largest are rounding; timers repeat to
# about 0.1 %, so residuals are never taken as more exact than that.
RANK_TOLERANCE, LEAST_VARIANCE = 1e-12, 1e-6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A constant in SI units.

    Attributes:
        name: a field of HardwareSpec, or "trtllm_overhead".
        value: fitted, or a first guess.
        low: end of its 95 % interval, or a bound.
        high: the same.
        unit: "us" or "" for a share.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""


def _constant(name: str, told: Mapping[str, Any]) -> Constant:
    if "us" not in told:
        return Constant(name=name, value=told["share"], low=0.05, high=told.get("high", 1.0))
    value, low = told["us"] * US, told.get("low", 0.1) * US
    return Constant(name=name, value=value, low=low, high=1e-2, unit="us")


_TABLE = table("evidence/constants.toml")
PARAMETERS = {name: _constant(name, told) for name, told in _TABLE.items()}
DEFAULT_FREE = tuple(name for name, told in _TABLE.items() if told.get("served"))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Constants, how well they are known, and what they leave.

    Attributes:
        constants: those that were fitted.
        held: those that were not, as they have no effect on these measurements. Those that too few
            measurements do not tell are neither fitted nor held: they keep the catalogue's value.
        warnings: constants that the measurements do not determine, in words.
        records: measurements that were used.
        errors: relative error of each of them.
    """

    constants: tuple[Constant, ...]
    held: tuple[str, ...]
    warnings: tuple[str, ...]
    records: int
    errors: np.ndarray

    @property
    def values(self) -> dict[str, float]:
        """The constants by name, as `measurements.predict` takes them."""
        return {constant.name: constant.value for constant in self.constants}


class _Problem:
    """Residuals and their Jacobian in the logarithms of the free constants."""

    def __init__(
        self, cases: Sequence[Case], names: Sequence[str], fixed: Mapping[str, float]
    ) -> None:
        self.names = tuple(names)
        self._deployed, self._columns = batches(cases), columns_of(cases)
        self._fixed = {name: value for name, value in fixed.items() if name not in names}
        self._targets = np.log([case.measured * case.unit for case in cases])

    def _outcomes(self, logs: np.ndarray) -> Outcome:
        free = dict(zip(self.names, np.exp(logs), strict=True))
        return outcomes(*self._deployed, {**self._fixed, **free})

    def value(self, logs: np.ndarray) -> np.ndarray:
        """Residuals at the logarithms of the constants."""
        return np.log(time_values(self._columns, self._outcomes(logs))) - self._targets

    def jacobian(self, logs: np.ndarray) -> np.ndarray:
        """Derivatives of the residuals, (case, constant)."""
        at = dict(zip(self.names, logs, strict=True))
        change = slopes_of_outcomes(*self._deployed, at, self._fixed)
        return log_slopes(self._columns, self._outcomes(logs), change).T


def fit(
    cases: Sequence[Case],
    free: Sequence[str] = DEFAULT_FREE,
    fixed: Mapping[str, float] | None = None,
    weights: Sequence[float] | None = None,
) -> Fit:
    """The constants that fit the cases best.

    Args:
        cases: measurements, from `measurements.read_case`; sizes, and what is not scored, are
            left out. Engines keep the plain form, whose constants these are.
        free: names in PARAMETERS; those without effect on the cases are held.
        fixed: values of others; else the catalogue's.
        weights: of each case in the sum of squares; equal if not given.

    Fewer cases than constants determine some of them: these are fitted, drawn to the catalogue's
    values, and the others keep those; `warnings` names them.

    Raises:
        ValueError: If a name is unknown, or none has an effect.
    """
    unknown = [name for name in free if name not in PARAMETERS]
    if unknown:
        known = ", ".join(PARAMETERS)
        raise ValueError(f"unknown constants {', '.join(unknown)}; known: {known}")
    pairs = list(zip(cases, weights if weights is not None else [1.0] * len(cases), strict=True))
    sizes = ("tokens", "kv", "weights")
    kept = [(plain(c), w) for c, w in pairs if c.kind not in sizes and not c.not_scored]
    chosen, root = [c for c, _ in kept], np.sqrt([w for _, w in kept])
    if not chosen:
        raise ValueError("no measurement of a time or a rate; give at least one for each constant")
    start = np.log([PARAMETERS[name].value for name in free])
    reach = np.abs(_Problem(chosen, free, fixed or {}).jacobian(start)).max(axis=0)
    names = [name for name, hold in zip(free, reach, strict=True) if hold > NO_EFFECT]
    if not names:
        raise ValueError(f"the measurements do not depend on {', '.join(free)}; name others")
    held = tuple(name for name in free if name not in names)
    problem = _Problem(chosen, names, fixed or {})
    if len(chosen) >= len(names):
        return _summarise(problem, root, _Prior(np.zeros(len(names)), 0.0), held, ())
    prior = _priors(chosen[0], names)
    slopes = root[:, None] * problem.jacobian(prior)
    told = dict(zip(names, _determined(slopes), strict=True))
    untold = tuple(
        f"{name} is not determined by {len(chosen)} measurements and keeps its value; give more, "
        "where it matters"
        for name, is_told in told.items()
        if not is_told
    )
    names = [name for name, is_told in told.items() if is_told]
    problem = _Problem(chosen, names, fixed or {})
    return _summarise(problem, root, _Prior(_priors(chosen[0], names), NOISE / WIDTH), held, untold)


class _Prior(NamedTuple):
    """What draws the logarithms of the constants to those of the catalogue, and how strongly."""

    logs: np.ndarray
    pull: float


def _priors(case: Case, names: Sequence[str]) -> np.ndarray:
    """Logarithms of the constants of a case's accelerator, within their bounds."""
    own = case.deployments[0].hardware
    values = [
        TRTLLM_OVERHEAD if name == "trtllm_overhead" else scalar(getattr(own, name))
        for name in names
    ]
    low, high = _bounds(names)
    return np.clip(np.log(np.maximum(values, 1e-9)), low + 1e-6, high - 1e-6)


def _bounds(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.log([getattr(PARAMETERS[n], end) for n in names]) for end in ("low", "high"))
    return low, high


def _determined(slopes: np.ndarray) -> np.ndarray:
    """Which constants few measurements tell: those that lose more than half of their variance.

    At least one: the one that they tell most of. The variances are `WIDTH` of a constant and
    `NOISE` of a measurement.
    """
    precision = slopes.T @ slopes / NOISE**2 + np.eye(slopes.shape[1]) / WIDTH**2
    told = 1.0 - np.diag(np.linalg.inv(precision)) / WIDTH**2
    known: np.ndarray = told > 0.5
    known[np.argmax(told)] = True
    return known


def _summarise(
    problem: _Problem, root: np.ndarray, prior: _Prior, held: tuple[str, ...], kept: tuple[str, ...]
) -> Fit:
    names = problem.names
    low, high = _bounds(names)
    pulls = prior.pull * np.eye(len(names))[: len(names) if prior.pull else 0]
    found = least_squares(
        lambda logs: np.append(root * problem.value(logs), pulls @ (logs - prior.logs)),
        prior.logs if prior.pull else np.log([PARAMETERS[name].value for name in names]),
        jac=lambda logs: np.vstack([root[:, None] * problem.jacobian(logs), pulls]),
        bounds=(low, high),
        loss="soft_l1",
        f_scale=SOFT,
    )
    logs, residuals = found.x, problem.value(found.x)
    jacobian = np.vstack([root[:, None] * problem.jacobian(logs), pulls])
    weighted = np.append(root * residuals, pulls @ (logs - prior.logs))
    covariance = covariance_of(weighted, jacobian)
    if prior.pull:  # fewer measurements than constants do not tell their own scatter
        covariance = np.linalg.inv(jacobian.T @ jacobian) * NOISE**2
    sigma = np.sqrt(np.diag(covariance))
    constants = tuple(
        dataclasses.replace(
            first,
            value=float(np.exp(x)),
            low=max(float(np.exp(x - QUANTILE * s)), first.low),
            high=float(np.exp(min(x + QUANTILE * s, np.log(first.high)))),
        )
        for first, x, s in zip((PARAMETERS[n] for n in names), logs, sigma, strict=True)
    )
    return Fit(
        constants=constants,
        held=held,
        warnings=(*kept, *_warnings(names, logs, sigma, covariance, held)),
        records=len(residuals),
        errors=np.expm1(residuals),
    )


def covariance_of(residuals: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Covariance of fitted parameters from weighted residuals and their derivatives."""
    freedom = max(1, len(residuals) - jacobian.shape[1])
    # Directions without any hold keep a tiny eigenvalue, so that their intervals are wide.
    eigenvalues, vectors = np.linalg.eigh(jacobian.T @ jacobian)
    floor = RANK_TOLERANCE * eigenvalues.max()
    variance = max(np.square(residuals).sum() / freedom, LEAST_VARIANCE)
    return (vectors / np.maximum(eigenvalues, floor)) @ vectors.T * variance


def _warnings(
    names: Sequence[str],
    logs: np.ndarray,
    sigma: np.ndarray,
    covariance: np.ndarray,
    held: tuple[str, ...],
) -> tuple[str, ...]:
    found = [f"{name} has no effect on these measurements and keeps its value" for name in held]
    for name, x, s in zip(names, logs, sigma, strict=True):
        parameter = PARAMETERS[name]
        at_bound = min(x - np.log(parameter.low), np.log(parameter.high) - x) < 1e-3
        if at_bound:
            found.append(f"{name} ends at its bound: the measurements ask for what is not possible")
        elif QUANTILE * s > np.log(WIDE):
            found.append(
                f"{name} is not identified: its interval spans a factor of "
                f"{np.exp(min(QUANTILE * s, 7.0)):.1f} or more to each side; "
                "measure where it matters more"
            )
    scale = np.sqrt(np.diag(covariance))
    for i, first in enumerate(names):
        for j in range(i):
            both = scale[i] * scale[j]
            if both > 0 and abs(covariance[i, j]) / both > ALIKE:
                found.append(
                    f"{names[j]} and {first} cannot be told apart (correlation "
                    f"{covariance[i, j] / both:+.2f}); hold one of them"
                )
    return tuple(found)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Calibration(Result):
    """Constants that fit a user's measurements.

    Attributes:
        fit: constants with their intervals, and errors of the measurements.
        skipped: measurements that could not be used.
        asked: names of the constants, and what tells the file.
    """

    fit: Fit
    skipped: tuple[Skipped, ...]
    asked: Row

    stem = "calibration"

    def rows(self) -> list[Row]:
        """One row for each constant: value and ends of its 95 % interval, in SI units."""
        return [
            {"constant": one.name, "value": one.value, "low": one.low, "high": one.high}
            | {"unit": "s" if one.unit == "us" else "1"}
            for one in self.fit.constants
        ]

    def errors(self) -> Row:
        """Median, 90th percentile, bias and the largest of the errors [%]."""
        return statistics_of(100.0 * self.fit.errors)

    def summary(self) -> str:
        """How well the constants fit."""
        found = self.errors()
        return (
            f"{self.fit.records} measurements: median error {found['median_abs_error_pct']:.1f} %, "
            f"90th percentile {found['p90_abs_error_pct']:.1f} %, bias {found['bias_pct']:+.1f} %."
        )

    def tables(self) -> list[Table]:
        """The constants, times in us."""
        rows = []
        for one in self.fit.constants:
            scale = US if one.unit == "us" else 1.0
            value, low, high = (f"{x / scale:.3g}" for x in (one.value, one.low, one.high))
            rows.append((one.name, one.unit or "share", value, f"{low} to {high}"))
        return [Table("", ("constant", "unit", "value", "95 % interval"), rows, 2)]

    def remarks(self) -> list[str]:
        """What the measurements do not determine, and those that were not used."""
        notes = [f"Note: {line}." for line in self.fit.warnings]
        return notes + [f"Not used: {one.id}: {one.because}." for one in self.skipped]

    def record(self) -> Row:
        """Constants in SI units, errors, and what was left out."""
        return {
            "constants": {row.pop("constant"): row for row in self.rows()},
            "held": list(self.fit.held),
            "warnings": list(self.fit.warnings),
            "records": self.fit.records,
            "skipped": {one.id: one.because for one in self.skipped},
            **self.errors(),
        }

    @property
    def toml(self) -> str:
        """Lines for the TOML file of an accelerator; times carry their unit in the key."""
        lines = ["# Fitted by `qsjax calibrate`; paste into the TOML file of your accelerator."]
        for one in self.fit.constants:
            if one.name in PARAMETERS and one.name != "trtllm_overhead":
                scale, end = (US, "_us") if one.unit == "us" else (1.0, "")
                lines.append(f"{one.name}{end} = {one.value / scale:.4g}")
        return "\n".join(lines) + "\n"

    def more_files(self) -> dict[str, str]:
        """The lines for a TOML file."""
        return {"constants.toml": self.toml}


@entry
def calibrate(measured: Any, free: Sequence[str] = DEFAULT_FREE) -> Calibration:
    """Efficiencies and overheads fitted to a user's own measurements.

    Args:
        measured: a file of records or a folder of them: JSON, or CSV with one deployment a row, or
            a data frame like it: columns model,
            hardware, tp, batch (sequences of an attention replica), context (or isl and osl),
            tpot_ms; where they apply pp, dp, ep, kvp, weights, kv, engine. Rows that cannot be
            predicted are left out, with the reason.
        free: names in `PARAMETERS`; those without effect on the measurements are held.

    Raises:
        ValueError: the file cannot be read, no row can be predicted, a name is unknown or has no
            effect, or the measurements are too few.
    """
    if not free:
        raise ValueError(f"no constant is named; known: {', '.join(PARAMETERS)}")
    records, told = records_given(measured)
    cases = read_cases(records)
    used = [case for case in cases if isinstance(case, Case)]
    skipped = tuple(case for case in cases if isinstance(case, Skipped))
    if not used:
        reasons = "; ".join(f"{one.id}: {one.because}" for one in skipped)
        raise ValueError(f"{told['name']}: no row can be predicted: {reasons}")
    return Calibration(fit(used, free), skipped, {"measured": told, "fit": list(free)})
