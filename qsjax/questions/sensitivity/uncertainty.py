"""What uncertain inputs do to throughput and to the verdict: quantiles, probabilities, and why.

Draws come from a fixed seed. For every draw each cell is re-optimised over all its designs, so the
spread is that of the best deployment, not that of one design.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from qsjax.cost.laws.closed_forms import KAPLAN_ALPHA, quality_multiplier
from qsjax.grid.optimum import Problem, best_of, take
from qsjax.grid.parameters import bounds, resolve, write
from qsjax.grid.solution import cell_labels

DRAWS = 1024
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Inputs of the quality factor, q = (loss_dense / loss_moe)^(1 / alpha) (eq. 12 to 14).
LOSSES = ("loss_dense", "loss_moe", "alpha")
# Kind -> (names of its numbers, what they must keep).
KINDS: dict[str, tuple[str, str]] = {
    "normal": ("mean, standard deviation", "a standard deviation above 0"),
    "lognormal": ("median, standard deviation of the logarithm", "both above 0"),
    "uniform": ("low, high", "low below high"),
    "triangular": ("low, mode, high", "low <= mode <= high and low < high"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Distribution:
    """A kind of `KINDS` and its numbers, such as `Distribution("normal", (5.0, 1.0))`."""

    kind: str
    numbers: tuple[float, ...]


def parse(text: str) -> Distribution:
    """The distribution of a text such as `normal:5,1`.

    >>> parse("triangular:2,4,9")
    Distribution(kind='triangular', numbers=(2.0, 4.0, 9.0))
    """
    kind, _, rest = text.partition(":")
    try:
        numbers = tuple(float(part) for part in rest.split(","))
    except ValueError:
        forms = ", ".join(f"{name}:{what}" for name, (what, _) in KINDS.items())
        raise ValueError(f"{text!r} is not a distribution; write one of {forms}") from None
    return Distribution(kind.strip(), numbers)


def _is_valid(kind: str, numbers: tuple[float, ...]) -> bool:
    if len(numbers) != len(KINDS[kind][0].split(",")) or not np.isfinite(numbers).all():
        return False
    match kind:
        case "normal":
            return numbers[1] > 0
        case "lognormal":
            return numbers[0] > 0 and numbers[1] > 0
        case "uniform":
            return numbers[0] < numbers[1]
        case _:
            return numbers[0] <= numbers[1] <= numbers[2] and numbers[0] < numbers[2]


def _limits(name: str) -> tuple[float, float]:
    return (0.0, np.inf) if name in LOSSES else bounds(name)


def _problem(name: str, given: Distribution) -> str | None:
    if given.kind not in KINDS:
        near = difflib.get_close_matches(given.kind, KINDS, n=1) or list(KINDS)
        return f"{name}: {given.kind!r} is not a distribution; did you mean {', '.join(near)}?"
    what, rule = KINDS[given.kind]
    if not _is_valid(given.kind, given.numbers):
        return f"{name}: {given.kind} takes {what}, with {rule}; got {given.numbers}"
    low, high = _limits(name)
    ends = given.numbers if given.kind in ("uniform", "triangular") else (given.numbers[0],)
    if min(ends) < low or max(ends) > high:
        return f"{name}: {given.kind} {given.numbers} leaves the allowed range {low:g} to {high:g}"
    return None


def check(distributions: Mapping[str, Distribution]) -> None:
    """Raise one `ValueError` with every problem of the distributions and their names."""
    found = []
    for name, given in distributions.items():
        problem = None
        if name not in LOSSES:
            try:
                problem = _group_problem(name)
            except ValueError as error:
                problem = str(error)
        found.append(problem or _problem(name, given))
    if "q" in distributions and any(name in distributions for name in LOSSES):
        found.append("q: give either q or the losses and exponent that it follows from")
    if ("loss_dense" in distributions) != ("loss_moe" in distributions):
        found.append("loss_dense and loss_moe go together; give both")
    if not distributions:
        found.append("no distribution was given; give for example q=normal:5,1")
    problems = [problem for problem in found if problem]
    if problems:
        raise ValueError("\n".join(problems))


def _group_problem(name: str) -> str | None:
    members = resolve([name])[0].members
    if len(members) > 1:
        return f"{name} is a group; give a distribution to one of {', '.join(members)}"
    return None


def frozen(name: str, given: Distribution) -> Any:
    """SciPy's frozen distribution; a normal one is truncated to the field's allowed values."""
    numbers = given.numbers
    match given.kind:
        case "normal":
            mean, sd = numbers
            low, high = ((limit - mean) / sd for limit in _limits(name))
            return stats.truncnorm(low, high, loc=mean, scale=sd)
        case "lognormal":
            return stats.lognorm(s=numbers[1], scale=numbers[0])
        case "uniform":
            return stats.uniform(numbers[0], numbers[1] - numbers[0])
        case _:
            low, mode, high = numbers
            return stats.triang((mode - low) / (high - low), loc=low, scale=high - low)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Draws and what they give, per cell.

    Attributes:
        labels: coordinates of the cells.
        names: the uncertain inputs.
        seed: of the draws.
        quantiles: probabilities of `throughput`.
        throughput: quantiles of the objective, shape (quantile, cell), over the draws that are
            feasible; NaN where none is.
        p_feasible: share of draws with a feasible design, per cell.
        p_dense_wins: share of the draws, among those where either is feasible, in which the twin
            beats the MoE; NaN for the MoE's own cells.
        speedup: quantiles of the twin over the MoE, shape (quantile, cell); NaN likewise.
        first_order: share of the variance of log objective that each input explains alone,
            shape (input, cell); NaN where the objective does not vary or is not always feasible.
        first_order_verdict: the same of log speed-up.
        scores: the draws of the objective themselves, shape (draw, cell); NaN where infeasible.
    """

    labels: list[dict[str, Any]]
    names: tuple[str, ...]
    seed: int
    quantiles: tuple[float, ...]
    throughput: np.ndarray
    p_feasible: np.ndarray
    p_dense_wins: np.ndarray
    speedup: np.ndarray
    first_order: np.ndarray
    first_order_verdict: np.ndarray
    scores: np.ndarray


class _Model:
    """Log objective of every cell for a matrix of draws, shape (input, draw) -> (cell, draw)."""

    def __init__(self, stated: Problem, names: tuple[str, ...], fixed: Mapping[str, float]) -> None:
        self.stated, self.names, self.fixed = stated, names, fixed

    def __call__(self, draws: np.ndarray) -> np.ndarray:
        stated, count = self.stated, draws.shape[1]
        values = dict(zip(self.names, draws, strict=True))
        if any(name in values for name in LOSSES):
            losses = {**self.fixed, **{k: values.pop(k) for k in LOSSES if k in values}}
            values["q"] = np.asarray(quality_multiplier(**losses))
        rows = take(stated.inputs, np.tile(np.arange(stated.cells), count))
        fields = {name: np.repeat(draw, stated.cells) for name, draw in values.items()}
        if "q" in fields:  # the mixture itself has none
            fields["q"] = np.where(np.asarray(rows.q) > 0, fields["q"], 0.0)
        rows = write(rows, fields)
        score = np.asarray(best_of(rows, stated.designs, stated.objective).score)
        score = score.reshape(count, stated.cells).T
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(score), np.log(np.abs(score)), np.nan)


def _indices(
    model: _Model, distributions: Sequence[Any], draws: int, seed: int, per: int
) -> tuple[np.ndarray, np.ndarray]:
    """First-order Sobol indices of log objective and of log speed-up, shape (input, cell)."""
    undefined: list[np.ndarray] = []  # by call: rows that are infeasible in some of its draws

    def both(matrix: np.ndarray) -> np.ndarray:
        logs = model(matrix)
        outputs = np.concatenate([logs, logs - np.tile(logs[:per], (len(logs) // per, 1))])
        undefined.append(np.isnan(outputs).any(axis=1))
        return np.where(undefined[-1][:, None], 0.0, outputs)

    with np.errstate(invalid="ignore", divide="ignore"):
        found = stats.sobol_indices(
            func=both, n=draws, dists=list(distributions), rng=np.random.default_rng(seed)
        )
    # SciPy drops the axis of a single input or output.
    first = np.reshape(found.first_order, (-1, len(distributions))).T
    # A cell that is infeasible in any draw has no variance to share out.
    is_defined = np.isfinite(first) & ~np.any(undefined, axis=0)
    first = np.where(is_defined, first, np.nan)
    half = first.shape[1] // 2
    return first[:, :half], first[:, half:]


def propagate(
    stated: Problem,
    distributions: Mapping[str, Distribution],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    quantiles: Sequence[float] = QUANTILES,
    losses: Mapping[str, float] | None = None,
) -> Outcome:
    """Quantiles of the optimum and of the verdict under uncertain inputs, and their causes.

    Args:
        stated: cells from `sensitivity.problem`. With an uncertain q every twin has the drawn one.
        distributions: by name of a continuous field, `q`, or `loss_dense`, `loss_moe` and `alpha`,
            from which q = (loss_dense/loss_moe)^(1/alpha) follows (eq. 12 to 14).
        draws: a power of two.
        seed: of the draws; the same seed gives the same result.
        quantiles: probabilities to report.
        losses: fixed values of the losses and the exponent that have no distribution.

    Raises:
        ValueError: wrong names, distributions or quantiles; the message lists all of them.
    """
    check(distributions)
    _check_draws(draws, quantiles)
    names = tuple(distributions)
    fixed = {"alpha": KAPLAN_ALPHA, **(losses or {})}
    uses_losses = any(name in LOSSES for name in names)
    missing = [n for n in LOSSES if uses_losses and n not in fixed and n not in names]
    if missing:
        raise ValueError(f"q follows from both losses and the exponent; give {', '.join(missing)}")
    model = _Model(stated, names, fixed)
    shapes = [frozen(name, given) for name, given in distributions.items()]
    values = _draw(shapes, draws, seed)
    logs, per = model(values), stated.cells // stated.shape[0]
    moe = np.tile(logs[:per], (stated.shape[0], 1))
    sign = -1.0 if stated.objective == "tpot" else 1.0
    gain = sign * (logs - moe)
    either = np.isfinite(logs) | np.isfinite(moe)
    wins = np.where(np.isfinite(logs) & np.isfinite(moe), gain > 0, np.isfinite(logs))
    twin = np.arange(stated.cells) >= per
    compared = np.where(twin, either.sum(1), 0)
    p_dense = (wins & either).sum(1) / np.where(compared > 0, compared, 1)
    first, first_verdict = _indices(model, shapes, draws, seed, per)
    return Outcome(
        labels=cell_labels(stated),
        names=names,
        seed=seed,
        quantiles=tuple(quantiles),
        throughput=np.exp(_quantiles(logs, quantiles)),
        p_feasible=np.isfinite(logs).mean(1),
        p_dense_wins=np.where(compared > 0, p_dense, np.nan),
        speedup=np.where(twin, np.exp(_quantiles(gain, quantiles)), np.nan),
        first_order=first,
        first_order_verdict=np.where(twin, first_verdict, np.nan),
        scores=np.exp(logs).T,
    )


def _check_draws(draws: int, quantiles: Sequence[float]) -> None:
    if draws < 2 or draws & (draws - 1):
        raise ValueError(f"draws={draws} is not a power of two; give for example {DRAWS}")
    if not all(0 < p < 1 for p in quantiles):
        raise ValueError(f"quantiles {tuple(quantiles)} must lie between 0 and 1")


def _draw(shapes: Sequence[Any], draws: int, seed: int) -> np.ndarray:
    """Scrambled Sobol points through the quantile functions, shape (input, draw)."""
    uniform = stats.qmc.Sobol(len(shapes), rng=np.random.default_rng(seed)).random(draws)
    return np.stack([shape.ppf(column) for shape, column in zip(shapes, uniform.T, strict=True)])


def _quantiles(x: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles over the draws that are not NaN, shape (quantile, cell)."""
    out = np.full((len(quantiles), len(x)), np.nan)
    for k, row in enumerate(x):
        known = row[np.isfinite(row)]
        if known.size:
            out[:, k] = np.quantile(known, quantiles)
    return out
