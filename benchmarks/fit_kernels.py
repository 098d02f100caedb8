"""Fit the kernel constants of `[served]` in qsjax/engines/kernels.toml to the shipped measurements.

Run `python -m benchmarks.fit_kernels`: constants, and errors by group. `--left-out` also fits
without every accelerator, engine and model in turn and prints the errors on what was left out;
`--only eager` fits what steps with prompts take and holds the others, `--only amd` and `--only
serial` those of AMD's accelerators and of steps that wait for the host, which have records of
their own; `--write` puts the constants into the
table. A fit takes half a minute, the groups a minute more. `--rank-skew` fits anew under each of
SKEWS in place of `cost.laws.compute.RANK_SKEW`, and prints how well each explains the records.

The constants are few, and each has a prior: what the measurements do not determine stays there.
Residuals are logarithms of predicted over measured; a configuration of many records counts less for
each.
"""

import argparse
import copy
import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.optimize import least_squares

from qsjax.catalog import hardware_entry
from qsjax.cost.laws import compute
from qsjax.engines.rules import load_kernels
from qsjax.engines.tuning import Entries, fields
from qsjax.evidence.measurements import Case, load_records, read_cases
from qsjax.evidence.measurements.predict import Batch, batches, served
from qsjax.evidence.measurements.storage import Record
from qsjax.numerics.loading import in_float64
from qsjax.records.fields import numbers_of
from qsjax.records.specs import Convention, HardwareSpec

TABLE = Path(str(resources.files("qsjax.engines") / "kernels.toml"))
SERVED = "inferencex_agg"
# Weights of served records, and of single ones that hold what those leave open, wide splits.
CATEGORIES = {
    SERVED: 1.0,
    "wide_ep": 3.0,
    "infersim": 3.0,
    "deepseek_official": 3.0,
    "itl_load": 3.0,
    "itl_linear_fit": 3.0,
}
WEIGHTS = {"high": 1.0, "medium": 0.6, "low": 0.6}
KINDS = ("tpot", "served_tpot", "intercept")
# Of records whose speculation is not stated.
UNSTATED = 0.6
# Releases whose published runs of a model are up to twice as fast as without speculation.
SPECULATING = {"deepseek": ("1.2.0rc6.post3", "1.1.0rc2.post2"), "qwen3.5": ("sglang 0.5.9",)}
# Priors: value, and standard deviation of its logarithm. Factors on tables stay near 1; start-ups
# of dense products near a third, as kernels of a graph start while others end; times of the host
# near those of a traced step.
PRIORS = {
    "gemm_peak": (1.0, 0.2),
    "dequantised.others": (2.5, 0.2),
    "latent": (12.0, 0.5),
    "sparse": (50.0, 0.5),
    "sequence": (5.0, 0.5),
    "layer.vllm": (20.0, 0.5),
    "layer.sglang": (25.0, 0.5),
    "layer.trtllm": (10.0, 0.5),
    "step.vllm": (300.0, 0.5),
    "step.sglang": (300.0, 0.5),
    "step.trtllm": (100.0, 0.5),
    "newer.sglang": (1.0, 0.3),
    "newer.trtllm": (1.0, 0.3),
    "eager.vllm": (60.0, 0.5),
    "eager.sglang": (150.0, 0.5),
    "eager.trtllm": (50.0, 0.5),
    "gemm_startup.others": (0.3, 1.0),
    "gemm_startup.trtllm.fp8_block": (0.3, 1.0),
    "gemm_startup.hopper.vllm.fp8": (0.3, 1.0),
    "gemm_startup.blackwell.vllm.fp4": (0.3, 1.0),
    "experts.quantised": (20.0, 0.7),
    "experts.others.nvfp4": (1.0, 1.0),
    "experts.trtllm.fp8": (1.0, 1.0),
    "serial": (5.0, 1.0),
    "amd.read": (0.85, 0.2),
    "amd.expert_gemm": (0.35, 1.0),
    "amd.vllm": (1.3, 0.5),
    "amd.layer.cdna3": (70.0, 0.5),
    "amd.layer.cdna4": (70.0, 0.5),
    "amd.older": (250.0, 0.7),
}
# Constants that are fitted to cases of their own, after the others.
APART = ("serial", "amd")
# Log error that counts as one prior deviation, and beyond which residuals count linearly.
SCALE = 0.1
# A configuration of n records counts n to the power of one less this.
CROWDING = 0.2
# Sets of constants that one compiled call evaluates, and the step of differences.
SETS, STEP, ROUNDS = 8, 1e-4, 12
SKEWS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1)

Constants = dict[str, Any]


def get(served: Constants, path: str) -> float:
    """A constant by its dotted path."""
    value: Any = served
    for name in path.split("."):
        value = value[name]
    return float(value)


def changed(served: Constants, values: dict[str, float]) -> Constants:
    """The table with constants changed, by their dotted paths."""
    new = copy.deepcopy(served)
    for path, value in values.items():
        *outer, last = path.split(".")
        inner = new
        for name in outer:
            inner = inner[name]
        inner[last] = value
    return new


@partial(jax.jit, static_argnames="convention")
def _times(batch: Batch, convention: Convention) -> jax.Array:
    """Time per output token, with the prompts of others where they are served [s]."""
    return served(batch, batch.hardware, convention).tpot


class Fitter:
    """Predictions of all cases for several sets of constants in one call."""

    def __init__(self, cases: Sequence[Case]) -> None:
        ones = [case.deployments[0] for case in cases]
        self.measured = np.array([case.measured * case.unit for case in cases])
        keys = [(one.kernels, one.hardware_name) for one in ones]
        specs = {key: hardware_entry(key[1]).spec for key in dict.fromkeys(keys)}
        self._entries = [(key[0], spec) for key, spec in specs.items()]
        own = np.array([list(specs).index(key) for key in keys])
        built, position = batches(cases)
        at = np.argsort(position)
        self._parts: list[tuple[Batch, Convention, np.ndarray, np.ndarray]] = []
        for batch, convention in built:
            here, at = at[: len(batch.prompt)], at[len(batch.prompt) :]
            tiled = jax.tree.map(partial(_tiled, n=len(here)), batch)
            self._parts.append((tiled, convention, here, own[here]))

    def errors(self, sets: Sequence[Constants]) -> np.ndarray:
        """Logarithms of predicted over measured, by set and case."""
        rows = []
        for first in range(0, len(sets), SETS):
            some = sets[first : first + SETS]
            rows.append(self._call([*some, *[some[-1]] * (SETS - len(some))])[: len(some)])
        return np.log(np.concatenate(rows) / self.measured)

    def _call(self, sets: Sequence[Constants]) -> np.ndarray:
        tuned = [[_fields(entries, spec, one) for entries, spec in self._entries] for one in sets]
        found = np.empty((SETS, len(self.measured)))
        for batch, convention, here, own in self._parts:
            columns = {
                name: np.array([[row[k][name] for k in own] for row in tuned]).ravel()
                for name in tuned[0][0]
            }
            hardware = dataclasses.replace(batch.hardware, **columns)
            times = _times(batch._replace(hardware=hardware), convention)
            found[:, here] = np.broadcast_to(times, (SETS * len(here),)).reshape(SETS, len(here))
        return found


def _tiled(leaf: Any, n: int) -> np.ndarray:
    return np.tile(np.broadcast_to(np.asarray(leaf, np.float64), (n,)), SETS)


def _fields(entries: Entries | None, spec: HardwareSpec, served: Constants) -> dict[str, float]:
    own = {name: float(value) for name, value in numbers_of(spec).items()}
    return own if entries is None else {**own, **fields(entries, spec, served)}


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    """The cases of the fit, what their records say, and the calls that predict them."""

    cases: tuple[Case, ...]
    records: tuple[Record, ...]
    fitter: Fitter

    def apart(self) -> np.ndarray:
        """Which of APART is fitted to each case; "" where it is none."""
        return np.array([_apart(case) for case in self.cases])

    def column(self, name: str) -> np.ndarray:
        """Accelerator, model, or engine with the generation of the accelerator, by case."""
        ones = [case.deployments[0] for case in self.cases]
        if name == "engine":
            served = [one.kernels.generation if one.kernels else "plain" for one in ones]
            return np.array([f"{g} {one.engine}" for g, one in zip(served, ones, strict=True)])
        return np.array([getattr(one, f"{name}_name") for one in ones])

    def scored(self) -> np.ndarray:
        """Which cases tell whether the model is right."""
        served = [record["category"] == SERVED for record in self.records]
        scored = np.array([not case.not_scored for case in self.cases])
        return (np.array(served) | (self.apart() == "amd")) & scored

    def weights(self) -> np.ndarray:
        """Of the residuals."""
        settings = [_setting(case) for case in self.cases]
        counts = Counter(settings)
        found = []
        for case, record, setting in zip(self.cases, self.records, settings, strict=True):
            weight = CATEGORIES.get(str(record["category"]), 1.0) * counts[setting] ** -CROWDING
            weight *= WEIGHTS[str(record["confidence"])] * (UNSTATED if case.not_scored else 1.0)
            found.append(weight)
        return np.array(found)


def _apart(case: Case) -> str:
    entries = case.deployments[0].kernels
    if entries is None:
        return ""
    return "serial" if entries.is_serial else "" if entries.has_tables else "amd"


def _setting(case: Case) -> tuple[Any, ...]:
    one = case.deployments[0]
    is_split = float(one.partition.ep) > 1  # type: ignore[arg-type]  # floats of deployment_of
    names = (one.hardware_name, one.model_name, one.engine)
    return (*names, one.workload.ffn_dtype, is_split)


def _is_usable(case: Case, record: Record) -> bool:
    """Whether a case belongs in the fit: times per token of deployments that the table serves."""
    one, unscored = case.deployments[0], case.not_scored
    if one.kernels is None or case.kind not in KINDS:
        return False
    if not one.kernels.has_tables:
        return not unscored
    if record["category"] not in CATEGORIES:
        return False
    engine, name = str(record.get("engine")), one.model_name
    seem_to = SPECULATING.get(
        next((known for known in SPECULATING if name.startswith(known)), ""), ()
    )
    if unscored and "speculation" not in unscored:
        return False
    return not (unscored and any(release in engine for release in seem_to))


def load() -> Data:
    """The shipped cases of the fit; an intercept is the time of the shorter of its two contexts."""
    records = load_records()
    pairs = [
        (dataclasses.replace(case, deployments=case.deployments[:1]), record)
        for case, record in zip(read_cases(records), records, strict=True)
        if isinstance(case, Case) and _is_usable(case, record)
    ]
    cases = tuple(case for case, _ in pairs)
    return Data(cases, tuple(record for _, record in pairs), Fitter(cases))


def fit(
    data: Data, start: Constants, mask: np.ndarray, rounds: int = ROUNDS, only: str = ""
) -> Constants:
    """The constants that fit the cases of a mask best, near their priors; those named `only...`.

    Those of APART are fitted after the others, which they share in part, to their cases alone.
    """
    for group in ("", *APART):
        names = [n for n in PRIORS if n.startswith(only) and _group(n) == group]
        some = mask & (data.apart() == group)
        if names and some.any():
            start = _fit(data, start, some, rounds, names)
    return start


def _group(name: str) -> str:
    return next((one for one in APART if name.startswith(one)), "")


def _fit(
    data: Data, start: Constants, mask: np.ndarray, rounds: int, names: Sequence[str]
) -> Constants:
    weights = data.weights()[mask]
    prior = np.log([PRIORS[name][0] for name in names])
    spread = np.array([PRIORS[name][1] for name in names])

    def table(logs: np.ndarray) -> Constants:
        return changed(start, dict(zip(names, np.exp(logs).tolist(), strict=True)))

    def residuals(logs: np.ndarray) -> np.ndarray:
        errors = data.fitter.errors([table(logs)])[0, mask]
        return np.concatenate([weights * errors, SCALE * (logs - prior) / spread])

    def jacobian(logs: np.ndarray) -> np.ndarray:
        points = [table(logs), *(table(logs + STEP * e) for e in np.eye(len(logs)))]
        errors = data.fitter.errors(points)[:, mask]
        slopes = (weights * (errors[1:] - errors[0]) / STEP).T
        return np.concatenate([slopes, SCALE * np.diag(1.0 / spread)])

    first = np.log([get(start, name) for name in names])
    found = least_squares(
        residuals, first, jac=jacobian, loss="soft_l1", f_scale=SCALE, max_nfev=rounds
    )
    return table(found.x)


def summary(errors: np.ndarray) -> str:
    """Count, median and 90th percentile of the absolute error, and bias, in per cent."""
    size = 100 * np.abs(errors)
    return (
        f"n={len(errors):4d}  median {np.median(size):5.1f} %  p90 {np.percentile(size, 90):5.1f} %"
        f"  bias {100 * np.median(errors):+5.1f} %"
    )


def by_group(data: Data, errors: np.ndarray) -> None:
    """Errors of the scored cases, by accelerator, model and engine."""
    scored = data.scored()
    print(f"  {'all scored':<34} {summary(errors[scored])}")
    waiting = data.apart() == "serial"
    print(f"  {'steps that wait for the host':<34} {summary(errors[waiting])}")
    for name in ("hardware", "model", "engine"):
        column = data.column(name)
        for value in sorted(set(column[scored].tolist())):
            print(f"  {value:<34} {summary(errors[scored & (column == value)])}")


def left_out(data: Data, start: Constants, name: str) -> np.ndarray:
    """Errors of the scored cases, each predicted by a fit without its group."""
    column, scored = data.column(name), data.scored()
    errors = np.full(len(column), np.nan)
    for value in sorted(set(column[scored].tolist())):
        here = column == value
        constants = fit(data, start, ~here, rounds=6)
        errors[here] = np.expm1(data.fitter.errors([constants])[0, here])
        print(f"  without {value:<34} {summary(errors[scored & here])}", flush=True)
    print(f"  each {name} left out in turn: {summary(errors[scored])}", flush=True)
    print(f"  those of AMD: {summary(errors[scored & (data.apart() == 'amd')])}", flush=True)
    return errors


def skews(data: Data, start: Constants, only: str) -> None:
    """The mean loss of the cases under each load of the busiest rank, with constants for it."""
    before, weights = compute.RANK_SKEW, data.weights()
    is_spread = np.array([float(c.deployments[0].partition.ep) > 1 for c in data.cases])  # type: ignore[arg-type]
    for skew in SKEWS:
        compute.RANK_SKEW = skew
        jax.clear_caches()  # programs have the one before
        constants = fit(data, start, np.ones(len(weights), bool), only=only)
        errors = data.fitter.errors([constants])[0]
        loss = np.mean(np.sqrt(1.0 + np.square(weights * errors / SCALE)) - 1.0)
        mark = " (shipped)" if skew == before else ""
        shown = summary(np.expm1(errors[is_spread & data.scored()]))
        print(f"  skew {skew:.2f}: loss {loss:.5f}; ranks of experts {shown}{mark}", flush=True)
    compute.RANK_SKEW = before


def replaced(text: str, head: str, before: str, value: str) -> str | None:
    """A table with another value behind a pattern in a section; None where it has neither."""
    start = text.find(f"\n[{head}]\n")
    if start < 0:
        return None
    end = text.find("\n[", start + 2)
    end = end if end > 0 else len(text)
    found = re.compile(rf"(?m)^({before})(?:[\d.]+|\[[^\]]*\])")
    new, count = found.subn(rf"\g<1>{value}", text[start:end], count=1)
    return text[:start] + new + text[end:] if count else None


def written(text: str, served: Constants) -> str:
    """The table's text with the constants in place."""
    for path in PRIORS:
        value, names = f"{get(served, path):.3g}", path.split(".")
        for depth in range(max(0, len(names) - 2), len(names)):
            head, (key, *inner) = ".".join(["served", *names[:depth]]), names[depth:]
            entry = rf"\{{.*?\b{inner[0]} = " if inner else ""
            new = replaced(text, head, f"{key} = {entry}", value)
            if new is not None:
                text = new
                break
        else:
            raise ValueError(f"{path} has no line in the table")
    return text


@in_float64
def main() -> None:
    """Fit, then report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--left-out", action="store_true", help="leave groups out in turn")
    parser.add_argument("--write", action="store_true", help="put the constants into the table")
    parser.add_argument("--rank-skew", action="store_true", help="try loads of the busiest rank")
    parser.add_argument("--only", default="", help="fit the constants whose name begins so")
    asked = parser.parse_args()
    data, served = load(), load_kernels()["served"]
    everything = np.ones(len(data.cases), bool)
    if asked.rank_skew:
        skews(data, served, asked.only)
        return
    print("as shipped")
    by_group(data, np.expm1(data.fitter.errors([served])[0]))
    constants = fit(data, served, everything, only=asked.only)
    print(f"fitted to {len(data.cases)} records")
    for name in PRIORS:
        print(f"  {name:<34} {get(constants, name):9.3f}   before {get(served, name):9.3f}")
    by_group(data, np.expm1(data.fitter.errors([constants])[0]))
    if asked.write:
        TABLE.write_text(written(TABLE.read_text("utf-8"), constants), "utf-8")
        print(f"written to {TABLE.name}")
    if asked.left_out:
        for name in ("hardware", "engine", "model"):
            left_out(data, constants, name)


if __name__ == "__main__":
    main()
