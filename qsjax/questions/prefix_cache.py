"""Prefixes that come again: keep their cache, load it from a tier, or compute it again."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qsjax.cost.meanings import meaning_of
from qsjax.cost.metrics import costs
from qsjax.cost.prefix import TIERS, Reuse, cached_of
from qsjax.grid.cells import take
from qsjax.grid.prefixes import (
    RANGES,
    WAYS,
    Design,
    Turns,
    columns,
    design_label,
    designs_of,
    reuse_of,
    turns,
)
from qsjax.grid.problem import Problem, describe, question
from qsjax.grid.remarks import prices_of
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.output.result import Drawing, Result, Row, Table, plain, text
from qsjax.records import checks
from qsjax.records.specs import DEGREES, Partition
from qsjax.records.units import MIB, MS

CURVE_POINTS = 121
ASKED = Reuse()  # default requests


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class PrefixCaching(Result):
    """What every place for the cache of prefixes costs.

    Attributes:
        problem: what was asked; its contexts are not looked at.
        requests: what of their prompts was seen before, and when.
        designs: one for each model, accelerator and variant that runs.
        turns: by design and parameter (`reuse_interval`, `prefix_hit_rate`), where another place
            becomes the best.
        found: one row for each design and place.
    """

    problem: Problem
    requests: Reuse
    designs: tuple[Design, ...]
    turns: tuple[Mapping[str, Turns], ...]
    found: tuple[Row, ...]

    stem = "prefix-cache"
    index = ("model", "hardware", "variant", "place")
    given = ("requests",)

    def lengths(self) -> list[float]:
        """Tokens of a request."""
        return [scalar(self.requests.isl) + scalar(self.requests.osl)]

    def rows(self) -> list[Row]:
        """One row for each place of each design, in SI units."""
        return [dict(row) for row in self.found]

    def summary(self) -> str:
        """The best place, what it gains, and up to which reuse interval each place is best."""
        lines = []
        for turned, rows in zip(self.turns, self._by_design(), strict=True):
            best = next(row for row in rows if row["is_best"])
            again = next(row for row in rows if row["place"] == "recompute")
            line = f"{words.subject(best)}: prefixes are best {WAYS[best['place']]}"
            if best is not again and best["gain"] < 1.0 + words.EQUAL:
                lines.append(
                    f"{words.subject(best)}: no place for prefixes gains anything; "
                    f"{WAYS[best['place']]} {100 * best['found']:.2g} % of them are found."
                )
                continue
            if best is not again:
                line += (
                    f", {best['gain']:.2f} times the tokens/s of computing them again; the first "
                    f"token comes after {words.milliseconds(best['ttft'])} instead of "
                    f"{words.milliseconds(again['ttft'])}"
                )
            lines.append(f"{line}. {_along(turned['reuse_interval'])}")
        return "\n".join(lines)

    def _by_design(self) -> list[list[Row]]:
        rows = iter(self.found)
        return [[next(rows) for _ in design.places] for design in self.designs]

    def tables(self) -> list[Table]:
        """The places of each design, the best one marked."""
        heads = ["place", "batch", "found %", "holds for s", "load ms", "pays from GB/s"]
        heads += ["TTFT ms", "TPOT ms", "tok/s/GPU", "gain", "USD/M"]
        tables = []
        for rows in self._by_design():
            first = rows[0]
            cells = [
                (
                    f"{row['place']}{' *' if row['is_best'] else ''}",
                    f"{row['batch']:,.0f}",
                    f"{100 * row['found']:.1f}",
                    text(row["holds_for"]) if row["place"] != "recompute" else "",
                    f"{row['load_time'] / MS:,.2f}" if row["place"] in TIERS else "",
                    text(row["pays_from"] / 1e9) if row["place"] in TIERS else "",
                    f"{row['ttft'] / MS:,.1f}",
                    f"{row['tpot'] / MS:,.2f}",
                    f"{row['tokens_per_s_per_gpu']:,.1f}",
                    f"{row['gain']:.3f}x",
                    text(row["usd_per_million_tokens"]),
                )
                for row in rows
            ]
            split = words.split(first, first["variant"] == "moe")
            whole, token = first["prefix_bytes"] / MIB, first["prefix_bytes_per_token"] / 1e3
            title = (
                f"{words.subject(first)}, {split}: a prefix has {whole:,.0f} MiB on each GPU, "
                f"{token:,.4g} kB a token"
            )
            tables.append(Table(title, heads, cells))
        return tables

    def remarks(self) -> list[str]:
        """What the requests are, and where the hit rate turns the choice."""
        reuse = self.requests
        asked = (
            f"Requests: {words.length(scalar(reuse.isl))} in, {scalar(reuse.osl):,.0f} out, "
            f"{100 * scalar(reuse.prefix_hit_rate):g} % of a prompt seen before, "
            f"{words.value(scalar(reuse.reuse_interval), 's')} ago."
        )
        turning = []
        for design, turned in zip(self.designs, self.turns, strict=True):
            along = turned["prefix_hit_rate"]
            if along.roots:
                turning.append(f"{_series(design)}. {_along(along, 'hit rate', '1')}")
        note = "* most tokens/s, and so the least money. TTFT is without a queue."
        return [asked, *turning, note, *prices_of(self.problem)]

    def record(self) -> Row:
        """Rows, requests and turning points."""
        return Result.record(self) | {
            "requests": plain(self.requests),
            "turns": [
                {name: {"roots": [r.value for r in one.roots], "sides": list(one.sides)}
                 for name, one in turned.items()}
                for turned in self.turns
            ],
        }  # fmt: skip

    def curves(self, parameter: str) -> list[Row]:
        """GPU time of a request in every place along a parameter, and where the best one turns."""
        spaced = np.geomspace if parameter == "reuse_interval" else np.linspace
        values = spaced(*RANGES[parameter], CURVE_POINTS)
        curves = []
        for design, turned in zip(self.designs, self.turns, strict=True):
            part = design.records.partition
            name = f"{_series(design)} on {design.cells.hardware.name}"
            gpus = scalar(part.tp) * scalar(part.pp) * scalar(part.kvp)
            for place, column in columns(design, {parameter: values}).items():
                curves.append(
                    {
                        "design": name,
                        "place": place,
                        "way": WAYS[place],
                        "values": values,
                        "seconds": column["seconds"] * gpus,
                        "roots": [root.value for root in turned[parameter].roots],
                    }
                )
        return curves

    def drawings(self) -> dict[str, Drawing]:
        """GPU time of a request against the reuse interval, and against the hit rate."""
        from qsjax import plotting

        lengths = (words.length(scalar(x)) for x in (self.requests.isl, self.requests.osl))
        title = "{} in, {} out".format(*lengths)
        names = {"reuse_interval": "interval", "prefix_hit_rate": "hit-rate"}
        return {
            name: partial(
                plotting.prefix_places,
                self.curves(parameter),
                parameter=parameter,
                title=f"{describe(self.problem).partition(' at ')[0]}, {title}: prefixes are best "
                f"{_among(self.turns[0][parameter], meaning_of(parameter).units)}",
            )
            for parameter, name in names.items()
        }


def _series(design: Design) -> str:
    return f"{design.cells.model.name}, {design.cells.variants[0].label}"


def _along(turned: Turns, what: str = "reuse interval", unit: str = "s") -> str:
    """Which place is best up to where."""
    if not turned.roots:
        low, high = RANGES["prefix_hit_rate" if unit == "1" else "reuse_interval"]
        ends = f"{_amount(low, unit)} to {_amount(high, unit)}"
        return f"Best at every {what} from {ends}: {WAYS[turned.sides[0]]}."
    return f"Best by {what}: {_among(turned, unit)}."


def _amount(value: float, unit: str) -> str:
    """A time, or a hit rate as people write it."""
    return f"{100 * value:.3g} %" if unit == "1" else words.value(value, unit)


def _among(turned: Turns, unit: str = "s") -> str:
    """The best places in the order of a parameter, with the values at which they change."""
    parts = [
        f"{WAYS[side]} up to {_amount(root.value, unit)}"
        for side, root in zip(turned.sides, turned.roots, strict=False)
    ]
    last = WAYS[turned.sides[-1]]
    return f"{', '.join(parts)}, then {last}" if parts else f"{last} everywhere"


def _rows(design: Design) -> list[Row]:
    cells = design.cells
    degrees = {name: int(scalar(getattr(design.records.partition, name))) for name in DEGREES}
    label: Row = design_label(design) | {"variant": cells.variants[0].label} | degrees
    economy = take(cells.economy, 0)
    by_place = columns(design)
    rates = {name: float(x["tokens_per_s_per_gpu"][0]) for name, x in by_place.items()}
    best = max(rates, key=rates.__getitem__)
    reuse = design.reuse
    cached = cached_of((scalar(reuse.isl), scalar(reuse.osl)), scalar(reuse.prefix_hit_rate))
    rows = []
    for name, column in by_place.items():
        at = {key: float(x[0]) for key, x in column.items()}
        rows.append(
            label
            | {"place": name, "batch": at["batch"], "found": at["found"]}
            | {"prefixes": at["prefixes"], "holds_for": at["holds_for"]}
            | {"prefix_bytes": at["kept"], "load_time": at["load"], "pays_from": at["pays_from"]}
            | {"prefix_bytes_per_token": at["kept"] / cached if cached else 0.0}
            | {"ttft": at["ttft"], "ttft_found": at["ttft_found"], "tpot": at["tpot"]}
            | {"tokens_per_s_per_gpu": rates[name], "gain": rates[name] / rates["recompute"]}
            | {"usd_per_million_tokens": costs(rates[name], 1.0, economy)["usd_per_million_tokens"]}
            | {"is_best": name == best}
        )
    return rows


@question
def prefix_cache(
    problem: Problem,
    partition: Partition | None = None,
    *,
    isl: Any = ASKED.isl,
    osl: Any = ASKED.osl,
    prefix_hit_rate: Any = ASKED.prefix_hit_rate,
    reuse_interval: Any = ASKED.reuse_interval,
    tiers: Sequence[str] | None = None,
) -> PrefixCaching:
    """What it costs to keep the cache of prefixes in HBM, to load it from a tier, or to recompute.

    A share of each prompt was seen before, in the request whose answer ended one reuse interval
    ago. HBM that keeps prefixes has no room for sequences that decode; a tier has its own room, and
    loading from it holds up the prefill, layer by layer. In a place too small for all prefixes only
    a share of them is found. Each place runs the batch that makes the most tokens/s there, up to
    that of the design.

    Args:
        problem: one GPU count; models, accelerators and twins each get an answer. Its contexts are
            ignored.
        partition: the design of all; if None, each has its best one at the mean context.
        isl: input tokens of a request.
        osl: output tokens.
        prefix_hit_rate: share of a prompt that was seen before; at most this much is found.
        reuse_interval: time from an answer to the next prompt with its prefix [s].
        tiers: of `host`, `ssd` and `remote`; all that the accelerator has if None.

    Raises:
        ValueError: with everything that is out of range; a tier that the accelerator lacks; several
            GPU counts; nothing runs.

    >>> found = prefix_cache(Problem("llama-3.1-8b", "h100-sxm", gpus=1), prefix_hit_rate=0.9)
    >>> [row["place"] for row in found.rows()]
    ['recompute', 'hbm', 'host', 'ssd', 'remote']
    """
    partition = checks.one_partition(partition)
    reuse = reuse_of(
        {"isl": isl, "osl": osl, "prefix_hit_rate": prefix_hit_rate}
        | {"reuse_interval": reuse_interval}
    )
    designs = designs_of(problem, reuse, partition, tiers)
    turned = tuple(
        {name: turns(one, name, ends) for name, ends in RANGES.items()} for one in designs
    )
    rows = tuple(row for design in designs for row in _rows(design))
    return PrefixCaching(problem, reuse, tuple(designs), turned, rows)
