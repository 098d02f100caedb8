"""Errors of serving measurements whose whole group was left out of the fit.

A group is an accelerator, an engine or a model. For each of them the constants are fitted anew to
the others, so that no record judges constants that it helped to choose.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.optimize import least_squares

from qsjax.engines.generations import generation_of
from qsjax.engines.spread import UNSTATED
from qsjax.evidence.calibration import DEFAULT_FREE, PARAMETERS, SOFT, covariance_of
from qsjax.evidence.measurements import Case, predict
from qsjax.evidence.measurements.predict import batches, outcomes_on_host, time_values
from qsjax.evidence.validation import LEFT_OUT
from qsjax.numerics.safe import scalar

# Sign with which the logarithm of a prediction is one of a time.
TIMES = {"tpot": 1, "served_tpot": 1, "throughput": -1, "served_throughput": -1, "static": -1}
# Generations whose constants are fitted together; the others take them as they are.
FITTED = ("ampere", "hopper", "blackwell")
CONFIDENCES = {"high": 1.0, "medium": 0.5}
# Relative step of the derivatives, and evaluations of a fit that starts at the one of all records.
STEP, EVALUATIONS = 1e-4, 8

Row = dict[str, Any]


def labels_of(case: Case) -> Row:
    """The groups of a case, and its configuration: what a sweep over the batch keeps."""
    one = case.deployments[0]
    part, work = one.partition, one.workload
    degrees = (scalar(getattr(part, name)) for name in ("tp", "ep", "pp", "dp", "kvp"))
    formats = (work.ffn_dtype, scalar(work.bytes_ffn_weight), scalar(work.bytes_kv))
    own = (one.model_name, one.hardware_name, one.engine, *formats, *degrees)
    return {
        "accelerator": one.hardware_name,
        "engine": one.engine or UNSTATED,
        "model": one.model_name,
        "generation": generation_of(one.hardware_name),
        "kind": "MoE" if scalar(one.model.experts) > 1 else "dense",
        "configuration": "/".join(f"{x:g}" if isinstance(x, float) else str(x) for x in own),
    }


class Serving:
    """Scored measurements of serving, their groups, and residuals for any constants."""

    def __init__(
        self, cases: Sequence[Case], weights: Sequence[float], fixed: Mapping[str, float]
    ) -> None:
        """Scored cases of `TIMES`; the weight of each in a fit; constants that are held."""
        self.cases = tuple(cases)
        self.weights, self.fixed = np.asarray(weights), dict(fixed)
        self.labels = [labels_of(case) for case in cases]
        self.sign = np.array([TIMES[case.kind] for case in cases])
        self.target = np.log([case.measured * case.unit for case in cases])
        self.is_fitted = np.array([row["generation"] in FITTED for row in self.labels])
        self._built, self._position = batches(cases)

    def residuals(self, logs: np.ndarray) -> np.ndarray:
        """Logarithm of predicted over measured time, one row for each row of constants."""
        given: Row = {k: np.float64(v) for k, v in self.fixed.items()}
        given |= {name: logs[:, i, None] for i, name in enumerate(DEFAULT_FREE)}
        given = {n: np.exp(x) if n in DEFAULT_FREE else x for n, x in given.items()}
        whole = outcomes_on_host(self._built, self._position, given)
        rows = [
            np.log(np.asarray(time_values(self.cases, jax.tree.map(lambda x, at=k: x[at], whole))))
            for k in range(len(logs))
        ]
        found: np.ndarray = self.sign * (np.stack(rows) - self.target)
        return found

    def jacobian(self, logs: np.ndarray) -> np.ndarray:
        """Derivatives of the residuals in the logarithms of the constants, (record, constant)."""
        moved = self.residuals(np.vstack([logs, logs + STEP * np.eye(len(logs))]))
        steep: np.ndarray = (moved[1:] - moved[0]).T / STEP
        return steep

    def fit(self, keep: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Logarithms of the constants that fit some of the records best."""
        root = np.sqrt(self.weights * keep * self.is_fitted)[keep & self.is_fitted]
        chosen = keep & self.is_fitted
        bounds = np.log([[PARAMETERS[n].low, PARAMETERS[n].high] for n in DEFAULT_FREE]).T
        found = least_squares(
            lambda logs: root * self.residuals(logs[None])[0, chosen],
            np.clip(start, bounds[0] + 1e-6, bounds[1] - 1e-6),
            jac=lambda logs: root[:, None] * self.jacobian(logs)[chosen],
            bounds=tuple(bounds),
            loss="soft_l1",
            f_scale=SOFT,
            max_nfev=EVALUATIONS,
        )
        logs: np.ndarray = found.x
        return logs


def serving_of(
    cases: Sequence[Case], confidences: Mapping[str, str], fixed: Mapping[str, float]
) -> Serving:
    """The scored measurements of serving among cases; `confidences` by record."""
    chosen = [case for case in cases if case.kind in TIMES and not case.not_scored]
    weights = [CONFIDENCES.get(confidences[case.id], 0.25) for case in chosen]
    return Serving(chosen, weights, fixed)


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """Errors without a record's own groups, and how well the constants are known.

    Attributes:
        rows: one for each record: `id`, its groups, `regime`, `configuration`, `fit_variance` (of
            the logarithm of its time, from the constants), and the logarithm of measured over
            predicted time when its accelerator, engine or model was left out of the fit.
        constants: names of the constants.
        covariance: of their logarithms, fitted to all records.
    """

    rows: list[Row]
    constants: tuple[str, ...]
    covariance: np.ndarray


def leave_out(serving: Serving) -> LeftOut:
    """Fit without each group in turn; predict what was left out."""
    everything = np.ones(len(serving.cases), bool)
    start = np.log([PARAMETERS[name].start for name in DEFAULT_FREE])
    whole = serving.fit(everything, serving.fit(everything, start))
    plain = serving.residuals(whole[None])[0]
    steep = serving.jacobian(whole)
    root = np.sqrt(serving.weights * serving.is_fitted)
    covariance = covariance_of(root * plain, root[:, None] * steep)
    regimes = [p.regime for p in predict(serving.cases)]
    errors: dict[str, np.ndarray] = {}
    for by in LEFT_OUT:
        names = np.array([row[by] for row in serving.labels])
        errors[by] = plain.copy()
        for name in sorted(set(names[serving.is_fitted])):
            out = names == name
            logs = serving.fit(~out, whole)
            errors[by][out] = serving.residuals(logs[None])[0, out]
    rows = [
        {
            "id": case.id,
            **labels,
            "regime": regimes[i],
            "fit_variance": float(steep[i] @ covariance @ steep[i]),
            **{f"without_{by}": -float(errors[by][i]) for by in LEFT_OUT},
        }
        for i, (case, labels) in enumerate(zip(serving.cases, serving.labels, strict=True))
    ]
    return LeftOut(rows, DEFAULT_FREE, covariance)
