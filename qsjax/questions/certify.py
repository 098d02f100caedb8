"""Certificates: what holds in a whole box of hardware numbers and contexts, proved, not sampled."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.cost.ledger import RESOURCES
from qsjax.cost.metrics import OF_TIME
from qsjax.grid.bounds import Judge, region_of
from qsjax.grid.cells import Cells, cells_of
from qsjax.grid.optimum import Best, best_of, binding_resource, winners_at
from qsjax.grid.parameters import HARDWARE_PARAMETERS, Parameter, bounds, read, resolve
from qsjax.grid.problem import Problem, describe, question
from qsjax.grid.proofs import Arena, Claim, Verdict
from qsjax.grid.served import variants_of
from qsjax.grid.solution import cell_labels, design_label
from qsjax.output import words
from qsjax.output.labels import axis_value, variant_name, with_fields
from qsjax.output.result import Drawing, Result, Row, Table, text
from qsjax.records import checks
from qsjax.records.conversion import as_float64, names_of
from qsjax.records.fields import COUNT, facts_of, hint
from qsjax.records.specs import DEGREES, FIELDS, HardwareSpec

CLAIMS = ("winner", "partition", "bottleneck")
PARTS = 2_000  # parts of a box that are judged before the rest is left undecided
PROBE = 200  # likewise, of each box that is tried for the largest one
_UNITS = ("B", "B/s", "FLOP/s", "s")  # of capacities, rates and times
_OVERLAPS = ("overlap_", "cp_ring_tail")
_UNREAD = "eager_overhead"  # by any decode step
# Boxes that are tried, over the one that was asked for.
_WIDER, _NARROWER = tuple(1.5**k for k in range(1, 5)), tuple(0.5**k for k in range(1, 9))
_TOLD = 3  # numbers of a counter-example in a sentence
_CUTS = 4  # bisections between a box in which a claim holds and one in which it may not

Ends = dict[str, tuple[float, float]]
Box = float | Mapping[str, float | tuple[float, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """Verdict on one claim about one box.

    Attributes:
        label: the cell's coordinates, with the contestant that the claim is about.
        claim: one of `CLAIMS`.
        says: what holds at the problem's own numbers.
        verdict: `proved` in the whole box, `refuted` by a point, or `undecided`.
        proved: share of the box (by logarithms) in which it was proved.
        largest: largest box around the problem's own numbers in which it was proved, over the one
            that was asked for; 0 where none was, NaN where none was sought.
        refuted_from: smallest such box in which a counter-example is known; NaN if none is.
        instead: what holds at the counter-example, if there is one.
        at: its numbers, by field.
        parts: parts of the box that were judged.
        evaluated: designs times parts.
    """

    label: Row
    claim: str
    says: str
    verdict: str
    proved: float
    largest: float
    refuted_from: float
    instead: str
    at: dict[str, float]
    parts: int
    evaluated: int


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Certificates(Result):
    """Claims about a box with their verdicts.

    Attributes:
        problem: what was asked.
        box: range of every number that varies, by accelerator and field; a context's by cell.
        certificates: one for each cell, claim and contestant.
    """

    problem: Problem
    box: dict[str, Ends]
    certificates: tuple[Certificate, ...]

    stem = "certificates"
    index = ("cell", "claim")
    given = ("box",)

    def rows(self) -> list[Row]:
        """One row for each claim; `largest` and `refuted_from` are over the box asked for."""
        rows = []
        for certificate in self.certificates:
            row = dataclasses.asdict(certificate)
            label, at = row.pop("label"), row.pop("at")
            rows.append(label | row | ({"at": at} if at else {}))
        return rows

    def summary(self) -> str:
        """How many claims hold in the whole box, and what became of the first."""
        names = list(dict.fromkeys(name for ends in self.box.values() for name in ends))
        if not self.certificates:
            return f"Nothing of {describe(self.problem)} runs, so nothing was claimed."
        first = f"It is {_said(self.certificates[0])}."
        if len(cells := list(dict.fromkeys(map(self._cell, self.certificates)))) > 1:
            first = f"On {cells[0]} it{first[2:]}"
        where = f"{words.count(len(names), 'number')} around {describe(self.problem)}"
        if len(self.certificates) == 1:
            return f"{first} The box spans {where}."
        claims = words.count(len(self.certificates), "claim")
        return f"Of {claims} about a box of {where}, {self._verdicts()}. {first}"

    def _cell(self, certificate: Certificate) -> str:
        """The place of a claim: accelerator, GPUs, context, and what else the problem varies."""
        row, kept = certificate.label, self.problem.stated.kept
        place = f"{row['gpus']:,.0f} {row['hardware']} at {words.length(row['context'])}"
        return place + with_fields(row, kept)

    def tables(self) -> list[Table]:
        """Every claim, of whom, and what became of it."""
        kept = list(self.problem.stated.kept)
        heads = ["model", "hardware", "GPUs", "context", *kept, "of", "claim", "says", "verdict",
                 "proved %", "largest", "instead"]  # fmt: skip
        cells = [
            [
                *(text(row[name]) for name in ("model", "hardware", "gpus", "context")),
                *(axis_value(name, row[name]) for name in kept),
                variant_name(row),
                row["claim"],
                _shorter(row["says"]),
                row["verdict"],
                f"{100 * row['proved']:.3g}",
                text(row["largest"]),
                row["instead"] and _shorter(row["instead"]),
            ]
            for row in self.rows()
        ]
        return [Table("", heads, cells, 2)] if cells else []

    def _verdicts(self) -> str:
        """How many claims are proved, refuted and undecided."""
        verdicts = [certificate.verdict for certificate in self.certificates]
        return words.joined(
            f"{verdicts.count(verdict)} {'is' if verdicts.count(verdict) == 1 else 'are'} {verdict}"
            for verdict in ("proved", "refuted", "undecided")
            if verdict in verdicts
        )

    def remarks(self) -> list[str]:
        """What varied, and where each refuted claim fails."""
        specs = {device.name: device.spec for device in self.problem.stated.accelerators}
        lines = [
            f"The box of {device}: {'; '.join(_ranges(ends, specs[device]))}."
            for device, ends in self.box.items()
        ]
        for certificate in self.certificates:
            if certificate.verdict == "refuted":
                at = [_number(name, value) for name, value in certificate.at.items()]
                rest = f" ({len(at) - _TOLD} more numbers: see `at`)" if len(at) > _TOLD else ""
                instead = _found(certificate.claim, certificate.instead)
                where = words.joined(at[:_TOLD])
                lines.append(f"Refuted {_what(certificate)}: at {where}{rest} {instead}.")
        return lines

    def drawings(self) -> dict[str, Drawing]:
        """Of each claim the largest box in which it is proved, and the first that refutes it."""
        from qsjax import plotting

        rows = self.rows()
        count = words.count(len(rows), "claim")
        title = f"{describe(self.problem)}: of {count}, {self._verdicts()}"
        return {"certificates": partial(plotting.certified_boxes, rows, title=title)}


@question
def certify(
    problem: Problem,
    box: Box = 0.25,
    *,
    claims: Sequence[str] = CLAIMS,
    largest: bool = True,
    parts: int = PARTS,
) -> Certificates:
    """Prove what holds at the problem's own numbers in a whole box around them.

    Claims: `winner` (of several models and dense twins on an accelerator, which one is best, each
    by its best design), `partition` (the best design of each of them) and `bottleneck` (the
    resource that takes most of the TPOT of the best design of each). Every split is a rival at
    every point. A design within 1e-9 of the best one counts as best.

    Args:
        problem: what is asked; its objective says what is best, and each accelerator and each cell
            has a box of its own. Without numbers of `batch` it is the largest that fits.
        box: a share (0.25 for 25 % up and down) of every capacity, rate, time and overlap of the
            accelerator that is not 0; or by name of a hardware number or `context` a share, or the
            two ends in the number's unit. Efficiencies multiply numbers that vary already: name
            them if they shall vary too. A group such as `link_bw` takes a share and moves together.
        claims: which of them.
        largest: whether to look for the largest box of the same proportions, too.
        parts: into how many parts a box may be cut before the rest is left undecided.

    Raises:
        ValueError: an unknown number or claim, a winner without rivals, a box that leaves the
            physical range or does not hold the problem's own numbers, or a batch that is searched.

    >>> from qsjax.grid.problem import Problem
    >>> problem = Problem("mixtral-8x7b", "h100-sxm", gpus=2, context="8k")
    >>> found = certify(problem, {"hbm_bw": 0.01}, largest=False)
    >>> found.rows()[0]["verdict"]
    'proved'
    """
    claims = list(dict.fromkeys(names_of(claims)))
    _check(problem, claims, parts)
    if problem.batch is None:
        problem = dataclasses.replace(problem, batch="largest")
    stated = problem.stated
    certificates: list[Certificate] = []
    boxes: dict[str, Ends] = {}
    for h, device in enumerate(stated.accelerators):
        models = [cells_of(problem, m, h) for m in range(len(stated.models))]
        for case in _cases(models):
            ends, parameters = _box_of(box, case[0].cells, case[0].cell)
            boxes.setdefault(device.name, {}).update(ends)
            for claim in claims:
                certificates += _certified(case, claim, ends, parameters, parts, largest)
    return Certificates(problem, boxes, tuple(certificates))


def _number(name: str, value: float) -> str:
    """A field and its value with its unit."""
    return f"{name} {words.value(value, FIELDS[name].unit)}"


def _ranges(ends: Ends, spec: HardwareSpec) -> Iterator[str]:
    """How far numbers range: by shares those that do, by their ends the others."""
    shares: dict[str, list[str]] = {}
    for name, (low, high) in ends.items():
        value = np.nan if name == "context" else float(np.asarray(getattr(spec, name)))
        if np.isclose(low + high, 2 * value):
            shares.setdefault(f"{(high - low) / (high + low):.3g}", []).append(name)
        else:
            yield f"from {_number(name, low)} to {_number(name, high)}"
    for share, names in shares.items():
        yield f"{100 * float(share):g} % up and down of {words.joined(names)}"


def _who(says: str) -> str:
    """A contestant in words."""
    return says.replace("dense q=", "the dense twin of q = ") if says != "moe" else "the MoE"


def _found(claim: str, says: str, of: str = "") -> str:
    """A claim in words: a contestant wins, a split is best, or a resource limits."""
    if says == "nothing runs":
        return says
    if claim == "winner":
        return f"{_who(says)} wins"
    if claim == "bottleneck":
        return f"{words.RESOURCE_WORDS[says]} takes most of the time{of}"
    return f"the best split{of} is {_shorter(says)}"


def _shorter(says: str) -> str:
    """A split by its degrees above 1, in the usual mode of `kvp` without it; all else as it is."""
    usual = {"kvp", *(f"{name}=1" for name in DEGREES)}
    return " ".join(part for part in says.split(" ") if part not in usual) or "one GPU"


def _what(cert: Certificate) -> str:
    """A claim as a clause, with the contestant that it is about."""
    q = cert.label["q"]
    of = f" of {cert.label['model'] if q is None else _who(f'dense q={q:g}')}"
    return f"that {_found(cert.claim, cert.says, of)}"


def _said(cert: Certificate) -> str:
    """A verdict in words."""
    if cert.verdict == "proved":
        return f"proved for the whole box {_what(cert)}"
    if cert.verdict == "refuted":
        return f"refuted {_what(cert)}: at some points {_found(cert.claim, cert.instead)}"
    if cert.proved > 0:
        return (
            f"proved for {100 * cert.proved:.0f} % of the box {_what(cert)}; the rest is undecided"
            f"{_narrower(cert)}"
        )
    return f"undecided {_what(cert)}{_narrower(cert)}"


def _narrower(cert: Certificate) -> str:
    """The box of the same proportions that is known to be proved."""
    return f", a box {cert.largest:.2g} times as wide is proved" if cert.largest > 0 else ""


def _check(problem: Problem, claims: Sequence[str], parts: int) -> None:
    wrong = [] if claims else [f"claims: none was given; give some of {', '.join(CLAIMS)}"]
    for claim in claims:
        if claim not in CLAIMS:
            wrong.append(f"claims: {claim!r} is not a claim; {hint(claim, CLAIMS)}")
    stated = problem.stated
    rivals = sum(len(variants_of(model.spec, stated.twins)) for model in stated.models)
    if set(claims) == {"winner"} and rivals == 1:
        wrong.append("claims: winner: a model alone has no rivals; give twins or several models")
    if problem.batch == "best":
        wrong.append("batch: 'best' is searched within limits; give 'largest' or numbers")
    if problem.objective not in OF_TIME:
        wrong.append(f"objective: {problem.objective} has no bounds; give {', '.join(OF_TIME)}")
    if strange := checks.value_problem(COUNT, parts):
        wrong.append(f"parts: {strange}")
    if wrong:
        raise ValueError("\n".join(wrong))


class _Contestant(NamedTuple):
    """A model or a dense twin in one cell of the problem: a row of cells, with its best design."""

    cells: Cells
    cell: int
    best: Best
    label: Row


_Case = Sequence[_Contestant]


def _cases(models: Sequence[Cells]) -> Iterator[_Case]:
    """The contestants of every cell: all models and twins that are served in it."""
    solved = [(cells, best_of(cells), cell_labels(cells)) for cells in models]
    per = models[0].per_variant
    for at in range(per):
        yield [
            _Contestant(cells, cell, best, labels[cell])
            for cells, best, labels in solved
            for cell in range(at, cells.cells, per)
        ]


def _default_names(inputs: Any, cell: int) -> list[str]:
    """Capacities, rates, times and overlaps of an accelerator that are not 0."""
    facts = facts_of(HardwareSpec)
    return [
        name
        for name in HARDWARE_PARAMETERS
        if (facts[name].unit in _UNITS or name.startswith(_OVERLAPS))
        and name != _UNREAD
        and np.asarray(read(inputs, name))[cell] > 0
    ]


def _box_of(box: Box, cells: Cells, cell: int) -> tuple[Ends, tuple[Parameter, ...]]:
    """Range of every field that varies around a cell, and the parameters.

    Raises:
        ValueError: with everything that is wrong with the box.
    """
    if isinstance(box, Mapping):
        given = dict(box)
    else:
        given = dict.fromkeys(_default_names(cells.inputs, cell), _share(box))
    allowed = {*HARDWARE_PARAMETERS, "context"}
    wrong: list[str] = []
    ends: Ends = {}
    parameters: list[Parameter] = []
    for name, value in given.items():
        try:
            parameter = resolve([name])[0]
        except ValueError as error:
            wrong.append(f"box: {error}")
            continue
        if not allowed.issuperset(parameter.members):
            wrong.append(f"box: {name}: only hardware numbers and context have a box")
            continue
        parameters.append(parameter)
        for field in parameter.members:
            current = float(np.asarray(read(cells.inputs, field))[cell])
            ends[field], problem = _range(name, field, value, current)
            if problem is not None:
                wrong.append(f"box: {problem}")
    members = [field for parameter in parameters for field in parameter.members]
    if twice := sorted({field for field in members if members.count(field) > 1}):
        wrong.append(f"box: {', '.join(twice)} twice; give the group or its members")
    if not wrong:
        spec = cells.hardware.spec
        high = {field: pair[1] for field, pair in ends.items() if field != "context"}
        try:  # numbers that are allowed one by one may not be together
            checks.check_records(hardware=dataclasses.replace(spec, **high, label=""))
        except ValueError as error:
            wrong.append(f"box: its upper corner leaves the physical range: {error}")
    if not given:
        wrong.append("box: nothing varies; give a share such as 0.25")
    if wrong:
        raise ValueError("\n".join(dict.fromkeys(wrong)))
    return ends, tuple(parameters)


def _share(box: Any) -> float:
    """The one share of a box without names."""
    try:
        share = as_float64(box)
    except ValueError:
        share = 0.0
    if np.ndim(share) or not 0 < share < 1:
        raise ValueError(
            f"box: {box!r} is not a range; give a share above 0 and below 1, or one for each name, "
            'as {"hbm_bw": 0.1}'
        )
    return float(share)


def _range(
    name: str, field: str, value: Any, current: float
) -> tuple[tuple[float, float], str | None]:
    """The ends of a field and what is wrong with them."""
    try:
        numbers = [float(x) for x in np.ravel(np.asarray(value, float))]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 1 and 0 < numbers[0] < 1:
        pair = (current * (1 - numbers[0]), current * (1 + numbers[0]))
    elif len(numbers) == 2 and name == field:
        pair = (numbers[0], numbers[1])
    else:
        form = "a share above 0 and below 1" + (", or both ends" if name == field else "")
        return (current, current), f"{name}: {value!r} is not a range; give {form}"
    if not (np.isfinite(pair).all() and pair[0] <= current <= pair[1]):
        return pair, (
            f"{name}: {pair[0]:g} to {pair[1]:g} does not hold the problem's own {current:g}; give "
            "ends on both sides of it, or another problem"
        )
    if _leaves(field, pair, current):
        least, most = bounds(field)
        allowed = f"above {least:g}" + (f" up to {most:g}" if np.isfinite(most) else "")
        return pair, (
            f"{field}: {pair[0]:g} to {pair[1]:g} leaves the physical range ({allowed}); "
            "give a smaller box"
        )
    return pair, None


def _leaves(field: str, pair: tuple[float, float], current: float) -> bool:
    """Whether a range leaves the physical one of its field."""
    least, most = bounds(field)
    return pair[0] < least or pair[1] > most or pair[0] <= 0 < current


def _scaled(ends: Ends, inputs: Any, cell: int, scale: float) -> Ends | None:
    """The box enlarged about the point; None where it would leave the physical range."""
    wider = {}
    for field, (low, high) in ends.items():
        current = float(np.asarray(read(inputs, field))[cell])
        pair = current + scale * (low - current), current + scale * (high - current)
        if _leaves(field, pair, current):
            return None
        wider[field] = pair
    return wider


def _certified(
    case: _Case, claim: str, ends: Ends, parameters: Sequence[Parameter], parts: int, largest: bool
) -> list[Certificate]:
    """Certificates of one kind of claim in one cell."""
    running = [k for k, contestant in enumerate(case) if contestant.best.feasible[contestant.cell]]
    if claim != "winner":
        alone = ([case[k]] for k in running)
        return [_certificate(one, 0, claim, ends, parameters, parts, largest) for one in alone]
    if len(case) < 2 or not running:
        return []
    first = max(running, key=lambda k: case[k].best.score[case[k].cell])
    return [_certificate(case, first, claim, ends, parameters, parts, largest)]


def _certificate(
    case: _Case,
    k: int,
    claim: str,
    ends: Ends,
    parameters: Sequence[Parameter],
    parts: int,
    largest: bool,
) -> Certificate:
    """The verdict on one claim about one of some contestants."""
    cells, cell, best, label = case[k]
    position, resource, says = None, None, _contestant(case, k)
    if claim == "partition":
        position = int(best.position[cell])
        says = _split(cells, position)
    elif claim == "bottleneck":
        resource = says = _bound_by(cells, cells.inputs, best, cell)

    def attempt(ends: Ends, most: int) -> tuple[Verdict, Arena]:
        arena = Arena([
            Judge(each, row, region_of(each, row, parameters, ends), resource=resource)
            for each, row, *_ in case
        ])  # fmt: skip
        return arena.prove(Claim(k, position, resource), most), arena

    verdict, arena = attempt(ends, parts)
    instead, at = "", {}
    if verdict.refuted is not None:
        region = arena.judges[0].region
        at = {name: float(x) for name, x in region.fields(verdict.refuted).items()}
        instead = _instead(case, claim, arena, verdict.refuted)
    sizes = (np.nan, np.nan)
    if largest:
        sizes = _largest(attempt, verdict, ends, cells, cell)
    if claim == "winner":
        label = {name: x for name, x in label.items() if name != "q"}
        label |= {"variant": "all", "q": None}
    return Certificate(
        label=label,
        claim=claim,
        says=says,
        verdict="refuted" if at else "proved" if verdict.holds else "undecided",
        proved=verdict.proved,
        largest=sizes[0],
        refuted_from=sizes[1],
        instead=instead,
        at=at,
        parts=verdict.parts,
        evaluated=verdict.evaluated,
    )


def _contestant(case: _Case, k: int) -> str:
    """Name of a contestant: what sets it apart from the others."""
    names, label = {contestant.label["model"] for contestant in case}, case[k].label
    return f"{label['model']} {variant_name(label)}" if len(names) > 1 else variant_name(label)


def _split(cells: Cells, position: int) -> str:
    label = design_label(cells, position)
    parts = [f"{name}={value}" for name, value in label.items() if name != "kv_mode"]
    mode = [label["kv_mode"]] if label["kvp"] > 1 else []
    return " ".join([*parts, *mode])


def _bound_by(cells: Cells, inputs: Any, best: Best, row: int) -> str:
    return list(RESOURCES)[int(binding_resource(winners_at(cells, inputs, best))[row])]


def _largest(
    attempt: Any, first: Verdict, ends: Ends, cells: Cells, cell: int
) -> tuple[float, float]:
    """The largest box of these proportions in which a claim is proved, and the least that fails."""
    refuted = [1.0] if first.refuted is not None else []

    def holds(scale: float) -> bool | None:
        box = _scaled(ends, cells.inputs, cell, scale)
        if box is None:
            return None
        verdict: Verdict = attempt(box, PROBE)[0]
        if verdict.refuted is not None:
            refuted.append(scale)
        return verdict.holds

    last, tried = 1.0, _WIDER if first.holds else _NARROWER
    for scale in tried:
        outcome = holds(scale)
        if outcome != first.holds:
            break
        last = scale
    low, high = (last, scale) if first.holds else (scale, last)
    if outcome == first.holds or outcome is None:  # no box that was tried is on the other side
        return (last if first.holds else 0.0), min(refuted, default=np.nan)
    for _ in range(_CUTS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, min(refuted, default=np.nan)


def _instead(case: _Case, claim: str, arena: Arena, point: np.ndarray) -> str:
    """What the optimiser finds at the counter-example."""
    optima = []
    for contestant, judge in zip(case, arena.judges, strict=True):
        inputs = judge.region.at(point[None])
        optima.append((inputs, best_of(contestant.cells, inputs)))
    tops = [best.score[0] if best.feasible[0] else -np.inf for _, best in optima]
    k = int(np.argmax(tops))
    if tops[k] == -np.inf:
        return "nothing runs"
    cells, (inputs, best) = case[k].cells, optima[k]
    if claim == "winner":
        return _contestant(case, k)
    if claim == "partition":
        return _split(cells, int(best.position[0]))
    return _bound_by(cells, inputs, best, 0)
