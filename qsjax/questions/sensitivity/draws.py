"""What uncertain inputs do to throughput and to the verdict: quantiles, probabilities, and why.

Draws come from a fixed seed. For every draw each cell is re-optimised over all its designs, so the
spread is that of the best deployment, not that of one design.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.cost.laws.closed_forms import KAPLAN_ALPHA, quality_multiplier
from qsjax.cost.metrics import METRICS
from qsjax.grid.cells import Cells, blocks_of, take
from qsjax.grid.distributions import LOSSES, Distribution, check, frozen
from qsjax.grid.optimum import best_of
from qsjax.grid.parameters import varied
from qsjax.grid.problem import Problem, question
from qsjax.grid.solution import cell_labels, joined
from qsjax.numerics.numpy_backend import on_host
from qsjax.output import words
from qsjax.output.labels import cell_name
from qsjax.output.result import Drawing, Result, Row, Table

SHOWN = 3  # cells in the first lines

if TYPE_CHECKING:
    import xarray as xr

DRAWS = 1024
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_q_of = on_host(quality_multiplier)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Draws and what they give, per cell.

    Attributes:
        cells: what was solved.
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

    cells: Cells
    throughput: np.ndarray
    p_feasible: np.ndarray
    p_dense_wins: np.ndarray
    speedup: np.ndarray
    first_order: np.ndarray
    first_order_verdict: np.ndarray
    scores: np.ndarray

    @property
    def labels(self) -> list[Row]:
        """Model, accelerator and coordinates of the cells."""
        return cell_labels(self.cells)


Logs = Callable[[np.ndarray], np.ndarray]


def _log_objective(
    stated: Cells, names: tuple[str, ...], fixed: Mapping[str, float], draws: np.ndarray
) -> np.ndarray:
    """Log objective of every cell for a matrix of draws, shape (input, draw) -> (cell, draw)."""
    count, values = draws.shape[1], dict(zip(names, draws, strict=True))
    if any(name in values for name in LOSSES):
        losses = {**fixed, **{k: values.pop(k) for k in LOSSES if k in values}}
        values["q"] = np.asarray(_q_of(*(losses[name] for name in LOSSES)))
    rows = take(stated.inputs, np.tile(np.arange(stated.cells), count))
    fields = {name: np.repeat(draw, stated.cells) for name, draw in values.items()}
    score = np.asarray(best_of(stated, varied(rows, fields)).score)
    score = score.reshape(count, stated.cells).T
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(score), np.log(np.abs(score)), np.nan)


def _indices(
    model: Logs, distributions: Sequence[Any], draws: int, seed: int, per: int
) -> tuple[np.ndarray, np.ndarray]:
    """First-order Sobol indices of log objective and of log speed-up, shape (input, cell)."""
    from scipy import stats

    undefined: list[np.ndarray] = []  # by call: rows that are infeasible in some of its draws

    def both(matrix: np.ndarray) -> np.ndarray:
        logs = model(matrix)
        outputs = np.concatenate([logs, logs - np.tile(logs[:per], (len(logs) // per, 1))])
        undefined.append(np.isnan(outputs).any(axis=1))
        return np.where(undefined[-1][:, None], 0.0, outputs)

    with np.errstate(invalid="ignore", divide="ignore"):
        sobol = stats.sobol_indices(
            func=both, n=draws, dists=list(distributions), rng=np.random.default_rng(seed)
        )
    # SciPy drops the axis of a single input or output.
    first = np.reshape(sobol.first_order, (-1, len(distributions))).T
    # A cell that is infeasible in any draw has no variance to share out.
    is_defined = np.isfinite(first) & ~np.any(undefined, axis=0)
    first = np.where(is_defined, first, np.nan)
    half = first.shape[1] // 2
    return first[:, :half], first[:, half:]


def _propagate(
    stated: Cells,
    distributions: Mapping[str, Distribution],
    draws: int,
    seed: int,
    quantiles: Sequence[float],
    fixed: Mapping[str, float],
) -> Outcome:
    """Quantiles of the optimum and of the verdict of one model on one accelerator."""
    model = partial(_log_objective, stated, tuple(distributions), fixed)
    shapes = [frozen(name, given) for name, given in distributions.items()]
    logs, per = model(_draw(shapes, draws, seed)), stated.per_variant
    moe = np.tile(logs[:per], (stated.shape[0], 1))
    sign = -1.0 if METRICS[stated.objective].less_is_better else 1.0
    gain = sign * (logs - moe)
    either = np.isfinite(logs) | np.isfinite(moe)
    wins = np.where(np.isfinite(logs) & np.isfinite(moe), gain > 0, np.isfinite(logs))
    twin = np.arange(stated.cells) >= per
    compared = np.where(twin, either.sum(1), 0)
    p_dense = (wins & either).sum(1) / np.where(compared > 0, compared, 1)
    first, first_verdict = _indices(model, shapes, draws, seed, per)
    return Outcome(
        cells=stated,
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
    from scipy.stats import qmc

    uniform = qmc.Sobol(len(shapes), rng=np.random.default_rng(seed)).random(draws)
    return np.stack([shape.ppf(column) for shape, column in zip(shapes, uniform.T, strict=True)])


def _quantiles(x: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles over the draws that are not NaN, shape (quantile, cell)."""
    table = np.full((len(quantiles), len(x)), np.nan)
    known = np.isfinite(x).any(axis=1)
    table[:, known] = np.nanquantile(x[known], quantiles, axis=1)
    return table


_HEADS = {
    "gpus": "GPUs",
    "p_feasible": "runs (share of draws)",
    "p_dense_wins": "twin ahead (share of draws)",
}


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Uncertainty(Result):
    """What uncertain inputs do to the optimum and to the verdict.

    Attributes:
        problem: what was asked.
        distributions: of the uncertain inputs.
        seed: of the draws.
        quantiles: probabilities that are reported.
        outcomes: one for each model and accelerator.
    """

    problem: Problem
    distributions: Mapping[str, Distribution]
    seed: int
    quantiles: tuple[float, ...]
    outcomes: tuple[Outcome, ...]

    stem = "uncertainty"
    columns = (
        *("model", "hardware", "variant", "q", "gpus", "context", "objective.p5"),
        *("objective.p50", "objective.p95", "p_feasible", "p_dense_wins"),
    )

    def rows(self) -> list[Row]:
        """One row for each cell: quantiles, probabilities and first-order shares by name."""
        levels = [f"p{100 * level:g}" for level in self.quantiles]
        names, rows = tuple(self.distributions), []
        drawn = {"q": None} if _draws_q(self.distributions) else {}
        for outcome in self.outcomes:
            named = {
                "objective": (levels, outcome.throughput),
                "speedup_over_moe": (levels, outcome.speedup),
                "first_order": (names, outcome.first_order),
                "first_order_verdict": (names, outcome.first_order_verdict),
            }
            for cell, label in enumerate(outcome.labels):
                row: Row = (
                    label
                    | drawn
                    | {
                        "seed": self.seed,
                        "p_feasible": float(outcome.p_feasible[cell]),
                        "p_dense_wins": float(outcome.p_dense_wins[cell]),
                    }
                )
                row |= {
                    name: dict(zip(keys, x[:, cell].tolist(), strict=True))
                    for name, (keys, x) in named.items()
                }
                rows.append(row)
        return rows

    def tables(self) -> list[Table]:
        """The rows for people: quantiles under the name of the objective, with its unit."""
        name, unit = words.metric_name(self.problem.objective), METRICS[self.problem.objective].unit
        head = name if unit in ("1", name) else f"{name} [{unit}]"
        return [
            table._replace(
                heads=[_HEADS.get(x, x.replace("objective.", f"{head} ")) for x in table.heads]
            )
            for table in Result.tables(self)
        ]

    def summary(self) -> str:
        """How sure the verdict is in each of the first cells, and what makes it unsure."""
        lines = []
        for row in self.rows():
            if not np.isfinite(row["p_dense_wins"]):
                continue
            spread = list(row["speedup_over_moe"].values())
            causes = row["first_order_verdict"]
            most = max(causes, key=lambda name: causes[name])
            cause = f", most of it from {most}" if len(causes) > 1 else ""
            cell = cell_name(row, self.problem.stated.kept)
            lines.append(
                f"{cell}: with uncertain {words.joined(self.distributions)} the dense "
                f"twin is ahead with a probability of {words.chance(row['p_dense_wins'])}; it is "
                f"{spread[0]:.2f} to {spread[-1]:.2f} times as fast{cause}."
            )
        return "\n".join(lines[:SHOWN] or [self._spread(row) for row in self.rows()[:SHOWN]])

    def _spread(self, row: Row) -> str:
        """How far the optimum of a cell without a twin is spread."""
        objective, ends = self.problem.objective, list(row["objective"].items())
        name, unit = words.metric_name(objective), METRICS[objective].unit
        shown = "1" if unit == name else unit
        values = [f"{words.value(x, shown)} ({level})" for level, x in (ends[0], ends[-1])]
        what = f"{name} is {' to '.join(values)}" if row["p_feasible"] else "nothing runs"
        if 0 < row["p_feasible"] < 1:
            what += f", and a design runs with a probability of {words.chance(row['p_feasible'])}"
        cell = cell_name(row, self.problem.stated.kept)
        return f"{cell}: with uncertain {words.joined(self.distributions)} {what}."

    def inputs(self) -> Row:
        """Records and distributions."""
        drawn = {k: [v.kind, *v.numbers] for k, v in self.distributions.items()}
        return Result.inputs(self) | {"distributions": drawn, "seed": self.seed}

    @property
    def dataset(self) -> "xr.Dataset":
        """Quantiles, probabilities and shares over the cells' axes, with units."""
        blocks = [self._block(outcome) for outcome in self.outcomes]
        data = joined(self.problem, blocks, {"objective": self.problem.objective})
        data["objective"].attrs |= {"units": METRICS[self.problem.objective].unit}
        return data

    def _block(self, outcome: Outcome) -> "xr.Dataset":
        import xarray as xr

        cells = outcome.cells
        dims = tuple(axis.name for axis in cells.axes)

        def over(name: str, x: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
            return (name, *dims), x.reshape(-1, *cells.shape)

        data: dict[str, Any] = {
            "objective": over("quantile", outcome.throughput),
            "speedup": over("quantile", outcome.speedup),
            "first_order": over("input", outcome.first_order),
            "first_order_verdict": over("input", outcome.first_order_verdict),
            "p_feasible": (dims, outcome.p_feasible.reshape(cells.shape)),
            "p_dense_wins": (dims, outcome.p_dense_wins.reshape(cells.shape)),
        }
        coords: dict[str, Any] = {axis.name: axis.values for axis in cells.axes}
        is_drawn = _draws_q(self.distributions)
        coords |= {"variant": [x.name if is_drawn else x.label for x in cells.variants]}
        coords |= {"quantile": list(self.quantiles), "input": list(self.distributions)}
        return xr.Dataset(data, coords)

    def drawings(self) -> dict[str, Drawing]:
        """The spread of the verdict over context, for every twin of the first model."""
        from qsjax import plotting

        drawings: dict[str, Drawing] = {}
        outcome, name = self.outcomes[0], self.problem.stated.models[0].name
        head = f"{name}, {words.joined(self.distributions)} uncertain"
        labels, first = outcome.labels, outcome.labels[0]
        for q in dict.fromkeys(label["q"] for label in labels if label["q"] is not None):
            cells = [
                k
                for k, label in enumerate(labels)
                if label
                == first | {name: label[name] for name in ("variant", "context")} | {"q": q}
                and np.isfinite(outcome.speedup[:, k]).all()
            ]
            if len(cells) > 1:
                shown, chances = [labels[k] for k in cells], outcome.p_dense_wins[cells]
                is_drawn = _draws_q(self.distributions)
                of, end = ("", "") if is_drawn else (f" (q = {q:g})", f"-q{q:g}")
                drawings[f"verdict{end}"] = partial(
                    plotting.verdict_fan,
                    [label["context"] for label in shown],
                    dict(zip(self.quantiles, outcome.speedup[:, cells].tolist(), strict=True)),
                    probability=chances.tolist(),
                    title=f"{head}: the twin{of} {_verdict(shown, chances)}",
                )
        return drawings


def _verdict(labels: Sequence[Row], chances: np.ndarray) -> str:
    """How probably the twin wins at the shortest context and at the longest."""
    ends = [f"{words.chance(chances[k])} at {words.length(labels[k]['context'])}" for k in (0, -1)]
    return f"wins with a probability of {words.joined(ends)}"


def _draws_q(distributions: Mapping[str, Distribution]) -> bool:
    """Whether every draw has a q of its own."""
    return any(name in ("q", *LOSSES) for name in distributions)


@question
def uncertainty(
    problem: Problem,
    distributions: Mapping[str, Distribution],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    quantiles: Sequence[float] = QUANTILES,
    losses: Mapping[str, float] | None = None,
) -> Uncertainty:
    """Quantiles of the optimum and of the verdict under uncertain inputs, and their causes.

    Args:
        problem: what is asked. With an uncertain q there is one twin, which has the drawn one.
        distributions: by name of a continuous field, `q`, or `loss_dense`, `loss_moe` and `alpha`,
            from which q = (loss_dense/loss_moe)^(1/alpha) follows (eq. 12 to 14); each of `normal`,
            `lognormal`, `uniform`, `triangular`.
        draws: a power of two.
        seed: seed of the draws; the same seed gives the same result.
        quantiles: probabilities to report.
        losses: fixed values of the losses and the exponent that have no distribution.

    Raises:
        ValueError: wrong names, distributions or quantiles; the message lists all of them.
    """
    check(distributions)
    _check_draws(draws, quantiles)
    fixed = {"alpha": KAPLAN_ALPHA, **(losses or {})}
    uses_losses = any(name in LOSSES for name in distributions)
    missing = [n for n in LOSSES if uses_losses and n not in fixed and n not in distributions]
    if missing:
        raise ValueError(f"q follows from both losses and the exponent; give {', '.join(missing)}")
    if _draws_q(distributions):  # one twin, of any q: each draw has its own
        problem = dataclasses.replace(problem, twins=problem.stated.twins[:1] or (1.0,))
    outcomes = tuple(
        _propagate(cells, distributions, draws, seed, quantiles, fixed)
        for cells in blocks_of(problem)
    )
    return Uncertainty(problem, dict(distributions), seed, tuple(quantiles), outcomes)
