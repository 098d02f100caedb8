"""The answer of the live page: `explore` of a problem with its controls applied."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qsjax import catalog
from qsjax.cost.ledger import resource_times
from qsjax.grid.case import best_case, memory_of
from qsjax.grid.parameters import resolve
from qsjax.grid.problem import Problem, question
from qsjax.grid.served import Accelerator, as_accelerator
from qsjax.grid.solution import Row
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.questions.explore import Exploration, explore
from qsjax.questions.explore.sentences import also_missing, answer

# Hardware numbers that have a slider: a field, or a group of fields that are scaled together.
FACTORS: dict[str, str] = {
    "hbm_bw": "HBM bandwidth",
    "hbm_bytes": "HBM capacity",
    "link_bw": "link bandwidth",
    "flops": "FLOP/s",
}
# Terms of the memory ledger that the page tells together; others are told as they are.
TOGETHER: dict[str, tuple[str, ...]] = {
    "weights: experts and FFN": (
        *("weights: routed experts", "weights: experts of other modalities"),
        *("weights: shared experts", "weights: dense FFN", "weights: router"),
    ),
    "weights: embedding, head, norms": ("weights: embedding and head", "weights: norms"),
    "KV cache": ("KV cache", "KV block waste"),
    "kept by the engine": ("reserve", "unused by engine"),
}
_TOLD_AS = {term: told for told, terms in TOGETHER.items() for term in terms}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where the controls stand.

    Attributes:
        hardware: name of the accelerator, of the problem or of the catalogue.
        gpus: how many.
        context: of the answer [tokens].
        q: quality factor of the dense twin; 0 for no twin.
        max_tpot: longest time per output token [s]; infinite without a limit.
        min_user_rate: fewest tokens/s/user; 0 without a limit.
        hbm_bw: factor on the HBM bandwidth.
        hbm_bytes: factor on the HBM capacity.
        link_bw: factor on the bandwidth of both fabrics.
        flops: factor on the peaks of the matrix units.
    """

    hardware: str
    gpus: float
    context: float
    q: float = 0.0
    max_tpot: float = np.inf
    min_user_rate: float = 0.0
    hbm_bw: float = 1.0
    hbm_bytes: float = 1.0
    link_bw: float = 1.0
    flops: float = 1.0


class Shown(NamedTuple):
    """A design in the bars of the page.

    Attributes:
        row: of the exploration.
        time: parts of the time of a token, by resource [s]; they sum to `tpot`.
        memory: parts of the memory of a GPU [B]; they sum to its capacity.
    """

    row: Row
    time: dict[str, float]
    memory: dict[str, float]


class View(NamedTuple):
    """What the page says at the context of a setting.

    Attributes:
        answer: of the exploration, one to three lines, and why a cell has no design.
        rows: of the exploration.
        shown: its designs that run.
        curve: rows of all contexts, where they are answered at once; else those of this one.
    """

    answer: str
    rows: list[Row]
    shown: list[Shown]
    curve: list[Row]


def check(problem: Problem) -> None:
    """Raise `ValueError` with everything of the problem that one page cannot show."""
    stated, wrong = problem.stated, []
    if len(stated.models) > 1:
        names = ", ".join(model.name for model in stated.models)
        wrong.append(f"model: the page shows one model; {names} are {len(stated.models)}")
    wrong += [
        f"axes: the page shows one value of {name}; {len(values)} are given"
        for name, values in stated.kept.items()
        if len(values) > 1
    ]
    if stated.second is not None:
        wrong.append("convention: the page shows one accounting; give physical or paper")
    if wrong:
        raise ValueError("\n".join(wrong))


def accelerators(problem: Problem) -> list[str]:
    """Names to choose from: those of the problem, then those of the catalogue."""
    names = [device.name for device in problem.stated.accelerators]
    return list(dict.fromkeys([*names, *catalog.hardware_names()]))


def contexts(problem: Problem) -> tuple[float, ...]:
    """Contexts of the curves [tokens]: those of the problem; the usual ones around a single one."""
    given = [float(context) for context in problem.stated.contexts]
    if len(given) > 1:
        return tuple(sorted(given))
    usual = dataclasses.replace(problem, context=None).stated.contexts
    return tuple(sorted({*map(float, usual), *given}))


def is_moe(problem: Problem) -> bool:
    """Whether the model has experts, so that a dense twin is something else."""
    return problem.stated.models[0].spec.is_moe


def first(problem: Problem) -> Setting:
    """The setting that is the problem as it was stated; at 32k where it leaves a choice."""
    stated, limits = problem.stated, problem.limits
    return Setting(
        hardware=stated.accelerators[0].name,
        gpus=float(stated.gpus[0]),
        context=words.nearest(stated.contexts),
        q=float(stated.twins[0]) if stated.twins and is_moe(problem) else 0.0,
        max_tpot=scalar(limits.max_tpot),
        min_user_rate=scalar(limits.min_user_rate),
    )


def accelerator(problem: Problem, setting: Setting) -> Accelerator:
    """The accelerator of a setting, scaled; its name says by how much."""
    by_name = {device.name: device for device in problem.stated.accelerators}
    device = by_name.get(setting.hardware) or as_accelerator(setting.hardware)
    factors = {name: getattr(setting, name) for name in FACTORS if getattr(setting, name) != 1.0}
    if not factors:
        return device
    changes = {
        member: scalar(getattr(device.spec, member)) * factor
        for name, factor in factors.items()
        for member in resolve([name])[0].members
    }
    changed = [f"{factor:g}x {FACTORS[name]}" for name, factor in factors.items()]
    return as_accelerator(device.spec.replace(**changes, label=", ".join([device.name, *changed])))


def problem_at(problem: Problem, setting: Setting, at: Sequence[float] = ()) -> Problem:
    """The problem with the controls set, at the setting's context, or at others.

    Within limits on a user's speed a smaller batch may be the best: then all batches are tried.

    Raises:
        ValueError: with everything in which the two do not fit together.
    """
    limits = dataclasses.replace(
        problem.limits, max_tpot=setting.max_tpot, min_user_rate=setting.min_user_rate
    )
    return dataclasses.replace(
        problem,
        hardware=accelerator(problem, setting).spec,
        gpus=setting.gpus,
        context=list(at) or setting.context,
        twins=setting.q or (),
        limits=limits,
    )


@question
def explored(problem: Problem, setting: Setting) -> Exploration:
    """The problem with its controls set, at all contexts: seven more cost less than one asked anew.

    Raises:
        ValueError: the controls do not fit together.
    """
    return explore(problem_at(problem, setting, contexts(problem)))


@question
def view(problem: Problem, setting: Setting, found: Exploration | None = None) -> View:
    """What the page says of a problem with its controls set.

    Args:
        problem: of one model.
        setting: the controls.
        found: what `explored` gave for them; it does not depend on their context.

    Raises:
        ValueError: they do not fit together.
    """
    found = found or explored(problem, setting)
    (solution,) = found.solutions
    curve, rows, shown = found.rows(), [], []
    for cell, row in enumerate(curve):
        if row["context"] != setting.context:
            continue
        rows.append(row)
        case = best_case(solution.cells, cell, solution.best)
        if case is not None:
            parts: dict[str, float] = collections.defaultdict(float)
            for term, held in memory_of(case).items():
                parts[_TOLD_AS.get(term, term)] += held
            shown.append(Shown(row, resource_times(row["terms"]), dict(parts)))
    first = answer(found.problem, rows)
    return View("\n".join([first, *also_missing(found.problem, rows, first)]), rows, shown, curve)
