"""Where a design keeps prefixes: the best batch for each place, and where the best one changes."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.decode import decode_step, evaluate
from qsjax.cost.prefix import PLACES, TIERS, PrefixCost, Reuse, prefix_costs
from qsjax.grid.batches import ladder
from qsjax.grid.cells import Cells, label_of, records_on_host, take, variants_alone
from qsjax.grid.optimum import best_of
from qsjax.grid.problem import Problem, check_single, describe
from qsjax.grid.roots import SCAN_POINTS, SPAN, Root, find_roots
from qsjax.grid.solution import Row
from qsjax.numerics.namespace import Array
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.records.checks import problems_of
from qsjax.records.conversion import read_number
from qsjax.records.fields import facts_of, hint
from qsjax.records.specs import Convention, Partition, Records

# What is done with prefixes in each place.
WAYS = {
    "recompute": "computed again",
    "hbm": "kept in HBM",
    "host": "loaded from host memory",
    "ssd": "loaded from SSDs",
    "remote": "loaded from a remote store",
}
# Parameters that only decide between places, and the interval searched for each.
RANGES = {"prefix_hit_rate": (1e-3, 1.0), "reuse_interval": (0.1, 1e6)}
TIER_FIELDS = tuple(f"{tier}_{what}" for tier in TIERS for what in ("bytes", "bw", "latency"))
PARAMETERS = (*RANGES, *TIER_FIELDS)
Columns = dict[str, dict[str, np.ndarray]]


class Design(NamedTuple):
    """A design, the batches that it may run, and the places that there are.

    Attributes:
        cells: its only cell.
        records: its inputs, all scalars; the batch is left open.
        batches: to choose from, in rising order.
        places: of `PLACES`.
        reuse: the requests.
        rules: the accounting.
    """

    cells: Cells
    records: Records
    batches: np.ndarray
    places: tuple[str, ...]
    reuse: Reuse
    rules: Convention


def design_label(design: Design) -> Row:
    """Model, accelerator, variant and GPUs of a design."""
    return label_of(design.cells) | {"gpus": float(np.asarray(design.records.gpus))}


class Turns(NamedTuple):
    """Where the best place changes along a parameter: one side more than roots."""

    roots: tuple[Root, ...]
    sides: tuple[str, ...]


def reuse_of(given: Mapping[str, Any]) -> Reuse:
    """Requests of numbers as a user writes them ("8k" is 8,192).

    Raises:
        ValueError: with every number that is unknown or out of its range.
    """
    facts = facts_of(Reuse)
    wrong = {name: f"is not known; {hint(name, facts)}" for name in given if name not in facts}
    wrong |= problems_of(Reuse, given)
    numbers = {name: read_number(facts[name], x) for name, x in given.items() if name not in wrong}
    wrong |= {name: "several were given; give one" for name, x in numbers.items() if np.ndim(x)}
    if wrong:
        lines = (f"  {name}: {problem}" for name, problem in wrong.items())
        raise ValueError("\n".join(["requests with prefixes:", *lines]))
    return Reuse(**{name: float(value) for name, value in numbers.items()})


def check_tiers(asked: Sequence[str] | None, problem: Problem) -> None:
    """Raise `ValueError` with every tier that is unknown, or that an accelerator lacks."""
    wrong = []
    for name in asked or ():
        if name not in TIERS:
            wrong.append(f"  {name!r} is not a tier; {hint(name, TIERS)}")
            continue
        for device in problem.stated.accelerators:
            keys = {f"{name}_capacity_gb": "bytes", f"{name}_bandwidth_gb_per_s": "bw"}
            lacks = [k for k, f in keys.items() if not getattr(device.spec, f"{name}_{f}") > 0]
            if lacks:
                wrong.append(
                    f"  {name}: {device.name} has no such tier; give it {' and '.join(lacks)} "
                    "above 0"
                )
    if wrong:
        raise ValueError("\n".join(["tiers:", *wrong]))


@on_host
def _costs(
    records: Records, reuse: Reuse, *, convention: Convention
) -> tuple[dict[str, PrefixCost], Array]:
    costs = prefix_costs(records, convention, reuse)
    at = dataclasses.replace(records.workload, context=reuse.isl + 0.5 * reuse.osl)
    return costs, decode_step(records._replace(workload=at, gpus=None), convention).tpot


def _design(
    cells: Cells,
    partition: Partition | None,
    reuse: Reuse,
    tiers: Sequence[str] | None,
) -> Design | None:
    """The stated design or the best one; None where nothing runs."""
    inputs = take(cells.inputs, 0)
    rules = inputs.convention
    most = np.inf if cells.designs.batch is None else float(np.max(cells.designs.batch))
    if partition is None:
        best = best_of(cells)
        if best.feasible[0] == 0:
            return None
        partition = take(cells.designs.partition, int(best.position[0]))
        most = float(best.batch[0])
    work = dataclasses.replace(inputs.workload, batch=1.0)
    records = records_on_host(inputs, partition)._replace(workload=work)
    step = evaluate(records, rules)
    if int(step.reasons) != 0:
        return None
    chip = inputs.hardware
    there = [
        tier
        for tier in tiers or TIERS
        if min(float(getattr(chip, f"{tier}_{what}")) for what in ("bytes", "bw")) > 0
    ]
    places = tuple(name for name in PLACES if name not in TIERS or name in there)
    batches = ladder(min(most, float(step.capacity.max_batch)))
    return Design(cells, records, batches, places, reuse, rules)


def designs_of(
    problem: Problem,
    reuse: Reuse,
    partition: Partition | None = None,
    tiers: Sequence[str] | None = None,
) -> list[Design]:
    """A design for each model, accelerator and variant of a problem.

    Args:
        problem: what is asked; its contexts are not looked at, for the requests have their own.
        reuse: the requests.
        partition: the design of all; if None, each has its best one at the mean context.
        tiers: those to choose from; all that an accelerator has if None.

    Raises:
        ValueError: there are several GPU counts or further axes, a tier is not there, or nothing
            runs.
    """
    check_single(problem, "one design is looked at", "gpus")
    check_tiers(tiers, problem)
    context = scalar(reuse.isl) + 0.5 * scalar(reuse.osl)
    asked = dataclasses.replace(problem, context=[context])
    every = [_design(cells, partition, reuse, tiers) for cells in variants_alone(asked)]
    kept = [design for design in every if design is not None]
    if not kept:
        raise ValueError(
            f"{describe(asked)}: no design holds a request of {context:,.0f} tokens; give "
            "more GPUs, or ask explain what is in the way"
        )
    return kept


def columns(design: Design, changes: Mapping[str, np.ndarray] | None = None) -> Columns:
    """Costs and batch with every place, each at the batch with the most tokens/s.

    Args:
        design: what is served.
        changes: values of some of `PARAMETERS`, arrays of one shape, in place of today's.
    """
    rows = {name: np.atleast_1d(x)[:, None] for name, x in (changes or {}).items()}
    of_reuse = {name: x for name, x in rows.items() if name in RANGES}
    of_chip: dict[str, Any] = {name: x for name, x in rows.items() if name not in RANGES}
    model, chip, partition, work, _ = design.records
    records = Records(
        model,
        dataclasses.replace(chip, **of_chip),
        partition,
        dataclasses.replace(work, batch=design.batches[None, :]),
    )
    reuse = dataclasses.replace(design.reuse, **of_reuse)
    costs, tpot = _costs(records, reuse, convention=design.rules)
    count = max((len(x) for x in rows.values()), default=1)
    shape, by_place = (count, len(design.batches)), Columns()
    for name in design.places:
        full = {key: np.broadcast_to(x, shape) for key, x in costs[name]._asdict().items()}
        full |= {
            "tpot": np.broadcast_to(tpot, shape),
            "batch": np.broadcast_to(design.batches, shape),
        }
        best = np.argmax(full["tokens_per_s_per_gpu"], axis=1)[:, None]
        by_place[name] = {key: np.take_along_axis(x, best, 1)[:, 0] for key, x in full.items()}
    return by_place


def interval_of(
    design: Design, parameter: str, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Where to search: as given, or the usual range, or a hundred times around today's value.

    Raises:
        ValueError: the interval is empty, or there is no value to search around.
    """
    now = 0.0
    if parameter not in RANGES:
        now = scalar(getattr(design.records.hardware, parameter))
    around = RANGES.get(parameter, (now / SPAN, now * SPAN))
    start = around[0] if low is None else float(low)
    end = around[1] if high is None else float(high)
    most = 1.0 if parameter == "prefix_hit_rate" else np.inf
    if not 0 < start < end <= most or not np.isfinite(end):
        raise ValueError(
            f"interval of {parameter}: low={start:g} and high={end:g} are not allowed; give "
            f"0 < low < high{' <= 1' if most == 1.0 else ''}"
        )
    return start, end


def turns(
    design: Design, parameter: str, interval: tuple[float, float], points: int = SCAN_POINTS
) -> Turns:
    """Every value of a parameter at which another place has the most tokens/s.

    All values at which two places are equal are found; those stay where the best one changes. A
    field of a tier decides between that tier, HBM and computing again.
    """
    tier = parameter.partition("_")[0]
    if parameter in TIER_FIELDS:
        kept = tuple(name for name in design.places if name not in TIERS or name == tier)
        design = design._replace(places=kept)
    pairs = list(combinations(range(len(design.places)), 2))

    def rates(values: np.ndarray) -> np.ndarray:
        by_place = columns(design, {parameter: values})
        return np.log([by_place[name]["tokens_per_s_per_gpu"] for name in design.places])

    def margin(cell: np.ndarray, x: np.ndarray) -> np.ndarray:
        table = rates(np.exp(x))
        first, second = np.array(pairs)[cell].T
        at = np.arange(len(x))
        return table[first, at] - table[second, at]

    equalities = find_roots(margin, np.arange(len(pairs)), *interval, points)
    values = sorted((root[0], root[1]) for roots in equalities for root in roots)
    ends = np.array([interval[0], *(value for value, _ in values), interval[1]])
    best = np.argmax(rates(np.sqrt(ends[:-1] * ends[1:])), axis=0)
    changes = np.flatnonzero(np.diff(best))
    sides = (best[0], *(best[k + 1] for k in changes))
    return Turns(tuple(Root(*values[k]) for k in changes), tuple(design.places[k] for k in sides))
