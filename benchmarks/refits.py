"""Errors of serving measurements whose whole group was left out of the fit.

A group is an accelerator, an engine or a model. For each of them the constants are fitted anew to
the others, so that no record judges constants that it helped to choose.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from qsjax.engines.rules import generation_of
from qsjax.engines.spread import UNSTATED
from qsjax.evidence.calibration import NOISE, SOFT, WIDTH, covariance_of
from qsjax.evidence.measurements import Case, predict
from qsjax.evidence.measurements.predict import batches, columns_of, outcomes, time_values
from qsjax.evidence.validation import LEFT_OUT
from qsjax.numerics.safe import scalar
from qsjax.records.specs import HardwareSpec

# Sign with which the logarithm of a prediction is one of a time.
TIMES = {"tpot": 1, "served_tpot": 1, "throughput": -1, "served_throughput": -1, "static": -1}
# Generations of a maker, whose constants are fitted together; the others keep them as they ship.
FITTED = (("ampere", "hopper", "blackwell"), ("cdna3", "cdna4"))
CONFIDENCES = {"high": 1.0, "medium": 0.5}
# Constants that serving determines, of which a law may have some only.
SCALED = (
    *("eff_weight_read", "eff_gemm", "eff_exp", "eff_allreduce", "gemm_startup", "expert_startup"),
    *("attention_startup", "expert_read_ratio", "expert_gemm_ratio"),
    *(f"{name}_overhead" for name in ("layer", "latent", "expert", "sequence", "step")),
)
REACH = 3.0  # of the logarithm of a factor
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
    """Scored measurements of serving, their groups, and residuals for any constants.

    What is fitted are factors on the constants of `SCALED`, whatever these are for an engine and a
    generation: logarithms of 0 are the constants as they ship.
    """

    def __init__(self, cases: Sequence[Case], weights: Sequence[float]) -> None:
        """Scored cases of `TIMES`, and the weight of each in a fit."""
        self.cases = tuple(cases)
        self.labels = [labels_of(case) for case in cases]
        self.sign = np.array([TIMES[case.kind] for case in cases])
        self.target = np.log([case.measured * case.unit for case in cases])
        self.root = np.sqrt(np.asarray(weights))
        self._built, self._position = batches(cases)
        self._columns = columns_of(cases)
        known = {field.name for field in dataclasses.fields(HardwareSpec)}
        self.names = tuple(name for name in SCALED if name in known)

    def residuals(self, logs: np.ndarray) -> np.ndarray:
        """Logarithm of predicted over measured time, one row for each row of factors."""
        factors, moved = np.exp(logs), []
        for batch, convention in self._built:
            fields: Row = {
                name: np.asarray(getattr(batch.hardware, name)) * factors[:, i, None]
                for i, name in enumerate(self.names)
            }
            hardware = dataclasses.replace(batch.hardware, **fields)
            moved.append((batch._replace(hardware=hardware), convention))
        whole = outcomes(moved, self._position, {}, (len(logs),))
        return self.sign * (np.log(time_values(self._columns, whole)) - self.target)

    def jacobian(self, logs: np.ndarray) -> np.ndarray:
        """Derivatives of the residuals in the logarithms of the factors, (record, constant)."""
        moved = self.residuals(np.vstack([logs, logs + STEP * np.eye(len(logs))]))
        return (moved[1:] - moved[0]).T / STEP

    def pulled(self, logs: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Weighted residuals of some records, and what draws the factors to 1."""
        own = (self.root * self.residuals(logs[None])[0])[keep]
        return np.append(own, NOISE / WIDTH * logs)

    def pulled_jacobian(self, logs: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Derivatives of `pulled`."""
        own = (self.root[:, None] * self.jacobian(logs))[keep]
        return np.vstack([own, NOISE / WIDTH * np.eye(len(logs))])

    def fit(self, keep: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Logarithms of the factors that fit some of the records best."""
        found = least_squares(
            lambda logs: self.pulled(logs, keep),
            start,
            jac=lambda logs: self.pulled_jacobian(logs, keep),
            bounds=(-REACH, REACH),
            loss="soft_l1",
            f_scale=SOFT,
            max_nfev=EVALUATIONS,
        )
        return found.x


def serving_of(cases: Sequence[Case], confidences: Mapping[str, str]) -> Serving:
    """The scored measurements of serving among cases; `confidences` by record."""
    chosen = [case for case in cases if case.kind in TIMES and not case.not_scored]
    weights = [CONFIDENCES.get(confidences[case.id], 0.25) for case in chosen]
    return Serving(chosen, weights)


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
    """Fit without each group in turn, by maker; predict what was left out.

    The covariance is that of the first maker's constants.
    """
    shipped = np.zeros(len(serving.names))
    generations = np.array([row["generation"] for row in serving.labels])
    plain = serving.residuals(shipped[None])[0]
    errors = {by: plain.copy() for by in LEFT_OUT}
    fits = []
    for maker in FITTED:
        own = np.isin(generations, maker)
        whole = serving.fit(own, serving.fit(own, shipped))
        fits.append((own, whole))
        for by in LEFT_OUT:
            names = np.array([row[by] for row in serving.labels])
            for name in sorted(set(names[own])):
                out = own & (names == name)
                logs = serving.fit(own & ~out, whole)
                errors[by][out] = serving.residuals(logs[None])[0, out]
    own, whole = fits[0]
    steep = serving.jacobian(whole)
    covariance = covariance_of(serving.pulled(whole, own), serving.pulled_jacobian(whole, own))
    regimes = [p.regime for p in predict(serving.cases)]
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
    return LeftOut(rows, serving.names, covariance)
