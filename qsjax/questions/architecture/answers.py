"""The question about architectures, and its answer."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qsjax.cost.laws import params
from qsjax.grid.gradients import slopes_at_rate
from qsjax.grid.limits import given_limits
from qsjax.grid.parameters import resolve
from qsjax.grid.problem import Problem, describe, fixed_question
from qsjax.grid.served import MODEL
from qsjax.grid.solution import Solution, rows_of, solve_all
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.output.result import Drawing, Result, Row, Table, text
from qsjax.questions.architecture import shapes
from qsjax.questions.architecture.laws import LAWS, LEFT_OUT, outside, unseen
from qsjax.records.specs import ModelSpec

# DeepSeek-V3's, 14.8 trillion (arXiv 2412.19437, section 4.1).
TOKENS = 14.8e12
MULTIPLE = 64.0  # widths of experts are whole multiples of it, as kernels ask
SLOPES = ("experts", "top_k", "layers", "hidden")  # counts as if they were continuous
WIDTHS = ("expert_ff", "shared_ff")
SHOWN = "experts top_k shared_experts expert_ff kv_heads kv_latent layers hidden".split()
TOLD = (
    *("hardware", "gpus", "context", "expert_ff", "quality"),
    *("tokens_per_s_per_gpu", "gain", "batch"),
)
_totals = on_host(lambda model: (params.total_params(model), params.active_params(model)))


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One architecture.

    Attributes:
        name: what differs from the reference.
        spec: its shapes.
        quality: under the law, in its unit.
        outside: what leaves the law's fitted range, and by how much.
    """

    name: str
    spec: ModelSpec
    quality: float
    outside: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Architectures(Result):
    """Architectures of equal quality, and how each serves.

    Attributes:
        problem: what was asked, of the reference.
        varied: names that were varied.
        law: name in `LAWS`.
        tokens: of training.
        candidates: the reference first.
        dropped: variants that were left out, with the reason.
        solutions: the best designs, of each candidate one for each accelerator.
        slopes: at the same quality and tokens/s/user, of every name of `SLOPES`, likewise; arrays
            over the cells.
    """

    problem: Problem
    varied: tuple[str, ...]
    law: str
    tokens: float
    candidates: tuple[Candidate, ...]
    dropped: tuple[tuple[str, str], ...]
    solutions: tuple[Solution, ...]
    slopes: tuple[dict[str, np.ndarray], ...]

    stem = "architecture"
    given = ("law", "tokens")
    index = ("architecture", "hardware", "gpus", "context")

    def rows(self) -> list[Row]:
        """One row for each architecture, accelerator and cell, the reference first."""
        rows: list[Row] = []
        first: dict[tuple[Any, ...], float] = {}
        each = _repeated(self.candidates, self.problem)
        for candidate, solution, slopes in zip(each, self.solutions, self.slopes, strict=True):
            total, active = (float(x) for x in _totals(candidate.spec))
            shown = {name: scalar(getattr(candidate.spec, name)) for name in SHOWN}
            head = {"architecture": candidate.name, "law": self.law, **shown}
            head |= {"total_params": total, "active_params": active, "quality": candidate.quality}
            place = ("hardware", "q", *(axis.name for axis in solution.cells.axes))
            for k, row in enumerate(rows_of(solution)):
                key = tuple(row[name] for name in place)
                rate = row.get("tokens_per_s_per_gpu", np.nan)
                first.setdefault(key, rate)
                own_slopes = {name: float(x[k]) for name, x in slopes.items()}
                more = {"gain": rate / first[key], "slopes": own_slopes}
                kept = {n: v for n, v in row.items() if n not in ("model", "variant", "q")}
                rows.append({**head, **kept, **more})
        return rows

    def best(self) -> list[Row]:
        """The row of the architecture that serves best in every cell of every accelerator."""
        cells: dict[tuple[Any, ...], Row] = {}
        for row in self.rows():
            key = (row["hardware"], row["gpus"], row["context"])
            if row["is_feasible"]:
                rate = cells[key]["tokens_per_s_per_gpu"] if key in cells else 0.0
                if row["tokens_per_s_per_gpu"] > rate * (1 + 1e-9):
                    cells[key] = row
        return list(cells.values())

    def findings(self) -> list[str]:
        """Which architecture serves best, a sentence for each cell."""
        reference = self.candidates[0].name
        lines = []
        for row in self.best():
            where = f"on {row['gpus']:g} {row['hardware']} at {words.length(row['context'])}"
            gain = f", {row['gain']:.3g} times {reference}" if np.isfinite(row["gain"]) else ""
            if row["architecture"] == reference:
                lines.append(f"{reference} itself serves best {where}")
                continue
            lines.append(
                f"{row['architecture']} serves best {where}: "
                f"{row['tokens_per_s_per_gpu']:,.4g} tokens/s/GPU{gain}"
            )
        return lines or ["no architecture fits"]

    def summary(self) -> str:
        """Which architecture serves best at equal quality, on every accelerator."""
        far = any(candidate.outside for candidate in self.candidates)
        blind = unseen(LAWS[self.law], self.varied)
        line = f"Equal by the {self.law} law"
        line += ", far outside of what it was fitted to" if far else ""
        line += f"; it has never seen {' or '.join(blind)} varied" if blind else ""
        return "\n".join(f"{text}." for text in (*self.findings(), line))

    def tables(self) -> list[Table]:
        """Every architecture, the best first."""
        rows = sorted(self.rows(), key=lambda row: -row.get("tokens_per_s_per_gpu", 0.0))
        lines = [
            [
                row["architecture"],
                *(text(row.get(name)) for name in TOLD),
                f"{row['slopes']['layers']:+.2f}",
            ]
            for row in rows
        ]
        heads = ["architecture", "hardware", "GPUs", "context", "expert width", "quality"]
        heads += ["tok/s/GPU", "over the reference", "batch", "% for 1 % more layers"]
        return [Table("Equal quality, best first", heads, lines)]

    def remarks(self) -> list[str]:
        """On what the equality rests, and what was left out."""
        law = LAWS[self.law]
        seen = f"{self.tokens / 1e12:g} trillion training tokens"
        lines = [f"Equal under the {law.title} ({law.source}), {seen}."]
        far: dict[str, list[float]] = {}
        for candidate in self.candidates:
            for name, value in candidate.outside.items():
                far.setdefault(name, []).append(value)
        if far:
            parts = [
                f"{name} {_range(values)} (fitted at {_range(law.fitted[name])})"
                for name, values in far.items()
            ]
            lines.append(f"Extrapolated: {', '.join(parts)}.")
        if blind := unseen(law, self.varied):
            lines.append(f"The models of its fit do not differ in {', '.join(blind)}.")
        if self.dropped:
            lines.append(f"Left out: {'; '.join(f'{n} ({why})' for n, why in self.dropped)}.")
        return [*lines, f"{describe(self.problem)}."]

    def record(self) -> Row:
        """Rows, the law and what was left out."""
        law = LAWS[self.law]
        about = {"title": law.title, "source": law.source, "unit": law.unit, "fitted": law.fitted}
        dropped = [{"architecture": n, "why": why} for n, why in self.dropped]
        outside_ = {candidate.name: candidate.outside for candidate in self.candidates}
        return {"law": about, "rows": self.rows(), "dropped": dropped, "outside": outside_}

    def drawings(self) -> dict[str, Drawing]:
        """What every architecture gains over the reference, on each accelerator."""
        from qsjax import plotting

        rows = [row for row in self.rows() if row["is_feasible"] and np.isfinite(row["gain"])]
        if not rows:
            return {}
        first = rows[0]
        of_cell = [r for r in rows if all(r[n] == first[n] for n in ("gpus", "context"))]
        best = [r for r in self.best() if all(r[n] == first[n] for n in ("gpus", "context"))]
        names: dict[str, list[str]] = {}
        for row in best:
            lead = "" if abs(row["gain"] - 1.0) < words.EQUAL else f" ({words.gap(row['gain'])})"
            names.setdefault(row["architecture"], []).append(f"{row['hardware']}{lead}")
        where = "; ".join(f"{name} on {', '.join(on)}" for name, on in names.items())
        name = self.problem.stated.models[0].name
        title = f"{name}: of equal quality by the {self.law} law, fastest is {where}"
        return {"gains": partial(plotting.architecture_gains, of_cell, title=title)}


def _range(values: Sequence[float]) -> str:
    """The ends of some counts in words, one where they are the same.

    >>> _range([7.9e7, 2.7e9]), _range([1.48e13, 1.48e13])
    ('79 million to 2.7 billion', '14.8 trillion')
    """
    ends = []
    for end in (min(values), max(values)):
        large = ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"))
        size, name = next((one for one in large if end >= one[0]), (1.0, ""))
        ends.append(f"{end / size:.3g}{name}")
    return " to ".join(dict.fromkeys(ends))


def _repeated(candidates: Sequence[Candidate], problem: Problem) -> list[Candidate]:
    """The candidate of every solution."""
    return [candidate for candidate in candidates for _ in problem.stated.accelerators]


def _name(values: shapes.Values) -> str:
    """A variant in words."""
    return ", ".join(f"{meaning}={value:g}" for meaning, value in values.items()) or "the reference"


def _candidates(
    reference: ModelSpec, vary: Mapping[str, Any], law: str, tokens: float
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Architectures as good as the reference, at most a step of the width better."""
    ratio = 1.0
    if scalar(reference.shared_experts) > 0:
        ratio = scalar(reference.shared_ff) / scalar(reference.expert_ff)
    target = float(shapes.quality_of(reference, tokens, law=law))
    models, dropped = [], []
    for values in shapes.variants_of(vary):
        model, why = shapes.built(reference, values)
        if why is None:
            models.append((_name(values), model))
        else:
            dropped.append((_name(values), why))
    candidates = [_candidate(reference.label or MODEL, reference, law, tokens)]
    if not models:
        return candidates, dropped
    solved = shapes.widths([model for _, model in models], ratio, target, law, tokens)
    for (name, model), width in zip(models, solved, strict=True):
        if np.isnan(width):
            dropped.append((name, "no width of its experts makes it as good"))
            continue
        whole = MULTIPLE * np.ceil(width / MULTIPLE - 1e-9)
        built = shapes.with_width(model, whole, ratio)
        shared = (
            scalar(built.shared_ff) if scalar(built.shared_experts) else scalar(reference.shared_ff)
        )
        built = dataclasses.replace(built, expert_ff=float(whole), shared_ff=shared, label=name)
        if not _is_same(built, reference):
            candidates.append(_candidate(name, built, law, tokens))
    return candidates, dropped


def _is_same(model: ModelSpec, reference: ModelSpec) -> bool:
    return all(scalar(getattr(model, n)) == scalar(getattr(reference, n)) for n in SHOWN)


def _candidate(name: str, model: ModelSpec, law: str, tokens: float) -> Candidate:
    seen = {n: scalar(x) for n, x in shapes.seen_of(model, tokens, law=law).items()}
    return Candidate(
        name, model, scalar(shapes.quality_of(model, tokens, law=law)), outside(LAWS[law], seen)
    )


def _slopes(one: Candidate, solution: Solution, law: str, tokens: float) -> dict[str, np.ndarray]:
    """d ln (tokens/s/GPU) / d ln x at the same quality, by the experts' width, and user rate.

    With w the width, the same quality asks for d ln w / d ln x = -(dQ/d ln x) / (dQ/d ln w).
    """
    names = (*SLOPES, *WIDTHS)
    of_quality = shapes.quality_slopes(one.spec, tokens, law=law, names=names)
    held = solution.winners
    batch = np.asarray(solution.step.capacity.batch)
    held = held._replace(designs=held.designs._replace(batch=batch))
    is_full = batch >= np.asarray(solution.step.capacity.max_batch)
    slopes = dict(zip(names, slopes_at_rate(held, resolve(names), is_full).elasticity, strict=True))
    in_width = sum(scalar(of_quality[name]) for name in WIDTHS)
    by_width = sum(slopes[name] for name in WIDTHS)
    return {
        name: np.where(
            solution.is_feasible,
            slopes[name] - by_width * scalar(of_quality[name]) / in_width,
            np.nan,
        )
        for name in SLOPES
    }


def _checked(problem: Problem, law: str, tokens: float) -> None:
    """Raise one `ValueError` with everything that is wrong with the arguments."""
    wrong = []
    if law not in LAWS:
        why = LEFT_OUT.get(law, f"{law!r} is not known")
        wrong.append(f"law: {why}; give one of {', '.join(LAWS)}")
    if not (np.isfinite(tokens) and tokens >= 1):
        wrong.append(f"tokens: {tokens:g} is not allowed; give the training tokens, such as 15e12")
    models = problem.stated.models
    if len(models) > 1:
        wrong.append("model: one reference, please; its variants are compared")
    if not models[0].spec.is_moe:
        wrong.append(f"{models[0].name}: dense; give a model with experts as the reference")
    if problem.stated.twins:
        wrong.append(
            "twins: vary={'experts': [1], 'top_k': [1]} is the dense model; leave them out"
        )
    if "min_headroom" in given_limits(problem.limits):
        wrong.append("limits.min_headroom: lower the hardware's usable_fraction instead")
    if wrong:
        raise ValueError("\n".join(wrong))


@fixed_question("compares tokens/s/GPU")
def architecture(
    problem: Problem,
    vary: Mapping[str, Sequence[float]],
    law: str = "joint",
    *,
    tokens: float = TOKENS,
) -> Architectures:
    """Which architecture serves best at the quality of a reference, under a law of loss.

    Every variant gets the width of experts at which the law calls it as good as the reference,
    rounded up to a multiple of 64; then the best split, and batch within the limits, is
    sought for each on every accelerator. Slopes say what one per cent more of a count would do, at
    the same quality, as if counts were continuous.

    Args:
        problem: the reference and the system; several accelerators say what the next one changes.
        vary: values by name, in all combinations: experts, top_k, granularity (into how many each
            expert is split), shared_experts, kv_heads, kv_latent, layers, hidden.
        law: a name of `LAWS`: `joint`, `fine-grained`, `leverage`, `principled`, `co-design`,
            `sparsity`, `five-factor` or `paper`.
        tokens: training tokens; those of DeepSeek-V3 unless given.

    Raises:
        ValueError: names or numbers are wrong, or no variant can be built; with all problems.

    >>> from qsjax.grid.problem import Problem
    >>> asked = Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k")
    >>> found = architecture(asked, {"granularity": [1, 2]})
    >>> [(own.name, own.spec.expert_ff) for own in found.candidates[1:]]
    [('granularity=2', 7168.0)]
    """
    _checked(problem, law, tokens)
    served = problem.stated.models[0]
    kept, dropped = _candidates(served.spec, vary, law, float(tokens))
    if len(kept) == 1 and dropped:
        reasons = "\n".join(f"  {name}: {why}" for name, why in dropped)
        raise ValueError(f"vary: no variant can be built:\n{reasons}")
    asked = dataclasses.replace(
        problem,
        model=[candidate.spec for candidate in kept],
        workload=served.workload,
        weights=None,
        kv=None,
        objective="tokens_per_s_per_gpu",
    )
    solutions = solve_all(asked)
    slopes = tuple(
        _slopes(candidate, solution, law, float(tokens))
        for candidate, solution in zip(_repeated(kept, problem), solutions, strict=True)
    )
    return Architectures(
        problem,
        tuple(vary),
        law,
        float(tokens),
        tuple(kept),
        tuple(dropped),
        solutions,
        slopes,
    )
