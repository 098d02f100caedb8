"""The spread of errors by group, from measurements whose whole group was left out of the fit."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qsjax.engines.spread import FACTORS, SHARED, Spread, error_of
from qsjax.evidence.validation import LEFT_OUT

Row = Mapping[str, Any]
# Configurations that the prior of a group's width counts as: widths of few are drawn to all.
PRIOR = 8.0
# Errors beyond this many standard deviations widen no group further; tails are in the quantiles.
CLIP = 3.0
ROUNDS = 30
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
NORMAL = 0.6745  # median of the absolute value of a normal variable


class Errors(NamedTuple):
    """Errors of records with their groups, each once for every kind of group that was left out.

    Attributes:
        value: logarithm of measured over predicted time.
        groups: by factor, the name of each one's group.
        fit: variance from the constants.
        weight: of each; the records of a configuration count as one and a little more.
        left_out: kind and name of the group that was left out.
        members: by that name, which of all errors are of the group.
    """

    value: np.ndarray
    groups: dict[str, np.ndarray]
    fit: np.ndarray
    weight: np.ndarray
    left_out: np.ndarray
    members: dict[str, np.ndarray]


def errors_of(rows: Sequence[Row]) -> Errors:
    """The errors of `refits.leave_out`, in one table."""
    names = np.array([row["configuration"] for row in rows])
    _, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
    alone = shares(rows)[" ".join(SHARED)]
    weight = 1.0 / (1.0 + (counts[inverse] - 1.0) * (1.0 - alone))
    times = len(LEFT_OUT)
    groups = {by: np.array([f"{by} {row[by]}" for row in rows]) for by in LEFT_OUT}
    return Errors(
        np.concatenate([[float(row[f"without_{by}"]) for row in rows] for by in LEFT_OUT]),
        {f: np.tile([str(row[f]) for row in rows], times) for f in FACTORS},
        np.tile([float(row["fit_variance"]) for row in rows], times),
        np.tile(weight, times) / times,
        np.concatenate(list(groups.values())),
        {n: np.tile(whole == n, times) for whole in groups.values() for n in np.unique(whole)},
    )


def shares(rows: Sequence[Row]) -> dict[str, float]:
    """Variance among records that share some of `SHARED`, over that of all [1]."""
    value = np.array([float(row["without_model"]) for row in rows])
    whole = float(np.median(np.abs(value)) / NORMAL) ** 2
    found = {"": 1.0}
    for count in range(1, len(SHARED) + 1):
        for names in itertools.combinations(SHARED, count):
            by = ("configuration",) if count == len(SHARED) else names
            keys = np.array(["/".join(str(row[name]) for name in by) for row in rows])
            found[" ".join(names)] = min(1.0, _scatter(value, keys) / whole)
    return found


def _scatter(value: np.ndarray, keys: np.ndarray) -> float:
    """Robust variance about the medians of groups of two and more."""
    groups = [value[keys == key] for key in np.unique(keys)]
    groups = [group for group in groups if len(group) > 1]
    apart = np.concatenate([group - np.median(group) for group in groups])
    freedom = 1.0 - len(groups) / len(apart)
    return float(np.median(np.abs(apart)) / NORMAL) ** 2 / freedom


def spread_from(errors: Errors, keep: np.ndarray | None = None) -> Spread:
    """Widths of the groups, drawn to that of all where configurations are few."""
    keep = np.ones(len(errors.value), bool) if keep is None else keep
    square, weight = errors.value[keep] ** 2 - errors.fit[keep], errors.weight[keep]
    names, codes = {}, {}
    for f in FACTORS:
        names[f], codes[f] = np.unique(errors.groups[f][keep], return_inverse=True)
    total = {f: np.bincount(codes[f], weight) for f in FACTORS}
    ratios = {f: np.ones(len(names[f])) for f in FACTORS}
    variance = float(np.median(np.abs(errors.value[keep])) / NORMAL) ** 2
    for _ in range(ROUNDS):
        product = np.prod([ratios[f][codes[f]] for f in FACTORS], axis=0)
        clipped = weight * np.clip(square / (variance * product), 0.0, CLIP**2)
        variance *= float(clipped.sum() / weight.sum())
        for f in FACTORS:
            own = np.bincount(codes[f], clipped) * ratios[f]
            ratios[f] = (own + PRIOR) / (total[f] + PRIOR)
            ratios[f] *= weight.sum() / (ratios[f] @ total[f])
    return Spread(
        width=float(np.sqrt(variance)),
        ratios={f: dict(zip(names[f].tolist(), ratios[f].tolist(), strict=True)) for f in FACTORS},
        records={
            f: {
                str(name): round(count / len(LEFT_OUT))
                for name, count in zip(names[f], np.bincount(codes[f]), strict=True)
            }
            for f in FACTORS
        },
        left={},
        quantiles=np.zeros((2, 0)),
    )


def scores(errors: Errors) -> np.ndarray:
    """Errors over standard deviations that were estimated without the group of each."""
    found = np.zeros(len(errors.value))
    for name, member in errors.members.items():
        out = errors.left_out == name
        spread = spread_from(errors, ~member)
        variance = error_of(spread, {f: x[out] for f, x in errors.groups.items()}).variance
        found[out] = errors.value[out] / np.sqrt(variance + errors.fit[out])
    return found


def quantiles_of(z: np.ndarray) -> np.ndarray:
    """Levels, and what the absolute z stays below in as many of the cases."""
    return np.array([LEVELS, np.quantile(np.abs(z), LEVELS)])


def coverage(errors: Errors, z: np.ndarray, level: float) -> dict[str, tuple[int, int]]:
    """Records of each left-out group, and how many are inside intervals made without it."""
    found = {}
    for name, member in errors.members.items():
        out = errors.left_out == name
        bound = np.interp(level, *quantiles_of(z[~member]))
        found[name] = (int(out.sum()), int(np.sum(np.abs(z[out]) <= bound)))
    return found


def build(rows: Sequence[Row], constants: Sequence[str], covariance: np.ndarray) -> Spread:
    """The spread of all errors, with the quantiles of those of groups left out."""
    errors = errors_of(rows)
    quantiles = quantiles_of(scores(errors))
    return spread_from(errors)._replace(
        left=shares(rows),
        quantiles=quantiles,
        constants=tuple(constants),
        covariance=np.asarray(covariance),
    )
