"""Which hardware number binds at each interactivity: elasticities along the Pareto front.

At a point of the front users hold the rate and the batch gives: of a parameter x that makes the
step faster, the batch rises until TPOT T is what it was. With G = n B/T tokens/s/GPU and n fixed by
the split,

    d ln G / d ln x at the same T  =  d ln B / d ln x  =  -(d ln T/d ln x) / (d ln T/d ln B),

so every parameter's share of TPOT is amplified by the same factor 1/(d ln T/d ln B), at least 1.
Where the split's largest batch is reached, memory binds too: users may be faster than they must
be, and the slope is that of the throughput of the largest batch.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from qsjax.cost.meanings import meaning_of
from qsjax.cost.metrics import PRICES
from qsjax.engines.spread import LEVEL
from qsjax.grid.cells import blocks_of, take
from qsjax.grid.fronts import Front, front_of_cell
from qsjax.grid.gradients import RateSlopes, slopes_at_rate
from qsjax.grid.intervals import bounded_rows
from qsjax.grid.limits import given_limits
from qsjax.grid.optimum import any_batch
from qsjax.grid.parameters import Parameter, resolve
from qsjax.grid.problem import Problem, describe, fixed_question
from qsjax.grid.solution import DESIGN_COLUMNS
from qsjax.output import words
from qsjax.output.labels import series_name
from qsjax.output.result import CELL, Drawing, Result, Row, Table, text
from qsjax.records.checks import value_problem
from qsjax.records.fields import Rule
from qsjax.records.units import listed

# Everything that a step's time depends on: by Euler's rule the shares of these sum to 1.
HARDWARE = ("hbm_bw", "flops", "flops_exp", "link_bw", "latency", "overhead", "hbm_bytes")
POINTS = 24
HEADS = ("label", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "batch", "limited_by")
# From this batch on the slope in the batch is smooth; below it stands for whole sequences.
SMOOTH = 10
BELOW = 1e-7  # relative distance by which a point may miss the rate that was asked for


@dataclasses.dataclass(frozen=True, slots=True)
class FrontSlopes:
    """One front with the slopes along it.

    Attributes:
        front: the points that were looked at, by falling tokens/s/user.
        is_full: whether each is its split's largest batch, so that memory binds too.
        slopes: at the same tokens/s/user, one a point; where memory binds, at the largest batch.
    """

    front: Front
    is_full: np.ndarray
    slopes: RateSlopes


def _thinned(front: Front, points: int) -> Front:
    """The best point of the front at each of `points` interactivities, evenly in their logarithm.

    Fewer where the front has fewer.
    """
    user = front.user
    wanted = np.geomspace(user[0], user[-1] * (1.0 - BELOW), points)
    # Sorted by falling rate: the last point that still gives users what they want.
    at = np.searchsorted(-user, -wanted * (1.0 - BELOW), side="right") - 1
    at = np.unique(np.clip(at, 0, len(user) - 1))
    return dataclasses.replace(
        front,
        **{name: take(getattr(front, name), at) for name in ("winners", "step", "economy")},
    )


def _slopes_along(front: Front, parameters: Sequence[Parameter], points: int) -> FrontSlopes:
    thin = _thinned(front, points)
    is_full = thin.batch >= np.asarray(thin.step.capacity.max_batch)
    return FrontSlopes(thin, is_full, slopes_at_rate(thin.winners, parameters, is_full))


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Binding(Result):
    """Slopes along every front of a problem.

    Attributes:
        problem: what was asked.
        parameters: what is varied.
        fronts: one for each model (outer), accelerator and cell with a design.
    """

    problem: Problem
    parameters: tuple[Parameter, ...]
    fronts: tuple[FrontSlopes, ...]

    stem = "binding"
    index = ("label", "gpus", "context", "point", "parameter")
    framed = (
        *("label", "point", *CELL, *DESIGN_COLUMNS),
        *("limited_by", "parameter", "share", "elasticity"),
    )

    def rows(self) -> list[Row]:
        """One row for each parameter at each point of each front."""
        return [row for line in self.fronts for row in self._rows_of(line)]

    def _rows_of(self, line: FrontSlopes) -> list[Row]:
        rows: list[Row] = []
        for k, point in enumerate(bounded_rows(line.front)):
            label = series_name(self.problem, point, "gpus", "context")
            head: Row = {"label": label, "point": k, **point}
            head["limited_by"] = "memory" if line.is_full[k] else "interactivity"
            head["amplification"] = float(line.slopes.amplification[k])
            for p, parameter in enumerate(self.parameters):
                gain = float(line.slopes.elasticity[p, k])
                share = float(line.slopes.share[p, k])
                row = {**head, "parameter": parameter.name, "share": share, "elasticity": gain}
                for name, price in PRICES.items():
                    if name in point:
                        row[f"elasticity_{name}"] = float(parameter.name == price) - gain
                rows.append(row)
        return rows

    def bands(self) -> list[Row]:
        """By series and stretch of the front, the parameter that moves it most, and how much."""
        bands: list[Row] = []
        points = groupby(self.rows(), lambda row: (row["label"], row["point"]))
        tops = [max(rows, key=lambda row: abs(row["elasticity"])) for _, rows in points]
        stretches = groupby(tops, lambda row: (row["label"], row["parameter"]))
        for (label, parameter), run in stretches:
            part = list(run)
            users = [row["tokens_per_s_per_user"] for row in part]
            gains = [abs(row["elasticity"]) for row in part if row["batch"] >= SMOOTH]
            band: Row = {"label": label, "parameter": parameter, "from": users[-1], "to": users[0]}
            band |= {"least": min(gains, default=None), "most": max(gains, default=None)}
            band["change"] = "more" if part[0]["elasticity"] > 0 else "less"
            bands.append(band)
        return bands

    def summary(self) -> str:
        """What binds where, and what was asked."""
        lines = []
        for label, run in groupby(self.bands(), lambda band: band["label"]):
            spans = _spans(list(run)[::-1])
            lines.append(f"{self._who(label)} is bound by {', then by '.join(spans)}.")
        if not lines:
            return f"{words.nothing(self.problem)}."
        stated = self.problem.stated
        where = f"{listed(stated.gpus)} {words.joined(run.name for run in stated.accelerators)}"
        lines[0] = f"On {where} at {words.places(stated.contexts)}, {lines[0]}"
        if any(row["batch"] < SMOOTH for row in self.rows()):  # there it is steps of one sequence
            lines[-1] += f" Gains are those at batches of {SMOOTH} or more."
        return "\n".join(lines)

    def _who(self, label: str) -> str:
        """The subject of a series: the model itself, or what sets it apart."""
        models = self.problem.stated.models
        if len(models) > 1:
            return label
        is_plain = label in ("MoE", "dense")
        return models[0].name if is_plain else f"{models[0].name} ({label})"

    def tables(self) -> list[Table]:
        """Elasticities of tokens/s/GPU: a line for each point of each front."""
        points: dict[tuple[Any, ...], list[str]] = {}
        for row in self.rows():
            key = tuple(row[name] for name in ("label", "gpus", "context", "point"))
            first = [text(row[name]).replace("interactivity", "TPOT") for name in HEADS]
            points.setdefault(key, first)
            points[key].append(f"{round(row['elasticity'], 2) + 0.0:+.2f}")
        heads = ["series", "tok/s/user", "tok/s/GPU", "batch", "limited by"]
        heads += [parameter.name for parameter in self.parameters]
        title = "% of tokens/s/GPU for 1 % more, at the same tokens/s/user"
        return [Table(title, heads, list(points.values()))]

    def remarks(self) -> list[str]:
        """What was asked, what an error of the time comes to, and what its interval rests on."""
        lines = [f"{describe(self.problem)}."]
        factors = [float(x) for line in self.fronts for x in line.slopes.amplification]
        if factors:
            of = _range("", min(factors), max(factors), 2)
            rate = "At the same tokens/s/user an error of 1 % in TPOT"
            lines.append(f"{rate} is one of {of} % in tokens/s/GPU.")
        return [*lines, *words.rests_on(self.rows(), LEVEL)]

    def inputs(self) -> Row:
        """The problem's records as plain numbers, and the parameters."""
        return Result.inputs(self) | {"parameters": [p.name for p in self.parameters]}

    def drawings(self) -> dict[str, Drawing]:
        """Every front with its bands beneath."""
        from qsjax import plotting

        drawn: dict[str, Drawing] = {}
        rows = self.rows()
        for k, label in enumerate(dict.fromkeys(row["label"] for row in rows)):
            series = [row for row in rows if row["label"] == label]
            end = f"-{k + 1}" if k else ""
            drawn[f"bands{end}"] = partial(plotting.front_bands, series, title=self._title(label))
        return drawn

    def _title(self, label: str) -> str:
        runs = [band for band in self.bands() if band["label"] == label]
        names = [meaning_of(name).long_name for name in dict.fromkeys(b["parameter"] for b in runs)]
        known = [band for band in runs if band["most"] is not None]
        more = ""
        if known:
            top = max(known, key=lambda band: band["most"])
            more = f"; 1 % {top['change']} {top['parameter']} gives up to {top['most']:.2g} % more"
            batches = [row["batch"] for row in self.rows() if row["label"] == label]
            more += f" at batches of {SMOOTH} or more" if min(batches) < SMOOTH else ""
        label = ", ".join(filter(None, (words.heading(self.problem), label)))
        return f"{label}: bound by {words.joined(reversed(names))}{more}"


def _spans(bands: Sequence[Row]) -> list[str]:
    """What binds where, and what one per cent of it gives: in full once, then in short."""
    spans: list[str] = []
    last = None
    for band in bands:
        unit = "" if spans else " tokens/s/user"
        gain = "in steps of whole sequences"
        if band["most"] is not None:
            gain = f"{_range('', band['least'], band['most'], 2)} %"
            if last is None:
                gain = f"1 % {band['change']} gives {gain} more tokens/s/GPU"
            elif band["change"] != last:
                gain = f"1 % {band['change']}: {gain}"
            last = band["change"]
        where = _range("from", band["from"], band["to"], 3)
        spans.append(f"{meaning_of(band['parameter']).long_name} {where}{unit} ({gain})")
    return spans


def _range(before: str, low: float, high: float, digits: int) -> str:
    """`from 1 to 2`, or `at 1` where both read alike."""
    ends = [f"{end:.{digits}g}" for end in (low, high)]
    if ends[0] == ends[1]:
        return f"at {ends[0]}" if before else ends[0]
    return f"{before} {' to '.join(ends)}".strip()


@fixed_question("follows the whole front of tokens/s/GPU and tokens/s/user")
def binding(
    problem: Problem, parameters: Sequence[str] = HARDWARE, points: int = POINTS
) -> Binding:
    """Elasticities of tokens/s/GPU, price and energy of a token along every front of a problem.

    Users keep their tokens/s: a larger batch uses the time that one per cent of a parameter saves.
    The design of each point is held (envelope theorem). Slopes treat the batch as a continuous
    number; where it is only a few sequences, they stand for steps of one.

    Args:
        problem: what is asked. Its limits cut the front.
        parameters: names of continuous fields or groups, as for `sensitivity`.
        points: of each front, evenly spread over the logarithm of the interactivity; at least 2.

    Raises:
        ValueError: a name is no parameter, too few points, or a limit on the headroom of memory.

    >>> from qsjax.grid.problem import Problem
    >>> found = binding(Problem("llama-3.1-70b", "h200-sxm", gpus=8, context="8k"), points=4)
    >>> {row["parameter"] for row in found.rows() if row["share"] > 0.5}
    {'hbm_bw'}
    """
    chosen = resolve(parameters)
    if strange := value_problem(Rule(low=2.0, whole=True), points):
        raise ValueError(f"points: {strange}")
    if "min_headroom" in given_limits(problem.limits):
        raise ValueError(
            "limits.min_headroom: the largest batch would not be that of the memory; lower the "
            "hardware's usable_fraction instead"
        )
    free, asked = any_batch(problem)
    fronts = []
    for cells in blocks_of(free):
        for cell in range(cells.cells):
            front = front_of_cell(cells, cell, asked)
            if len(front.user):
                fronts.append(_slopes_along(front, chosen, int(points)))
    return Binding(problem, chosen, tuple(fronts))
