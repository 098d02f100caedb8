"""The paper's tables as a result: printed, ours under two accountings, and how far apart."""

import dataclasses
from functools import partial
from operator import itemgetter

from qsjax import catalog
from qsjax.evidence.paper.cells import Cell, all_cells, time_model_error
from qsjax.evidence.paper.printed import CALIBRATION, MODELS
from qsjax.grid.entry import entry
from qsjax.output.result import Drawing, Result, Row, Table, spec_dict, text
from qsjax.records.rows import grouped
from qsjax.records.specs import HardwareSpec, ModelSpec

REFERENCE = "paper-reference"
NEAR_PCT = 2.0  # so near a printed number counts as met


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Reproduction(Result):
    """Every printed number beside ours.

    Attributes:
        models: the paper's.
        hardware: its reference system.
        cells: in printed order.
    """

    models: dict[str, ModelSpec]
    hardware: HardwareSpec
    cells: tuple[Cell, ...]

    stem = "reproduce"
    columns = ("table", "row", "quantity", "published", "paper", "error_pct", "physical")

    def rows(self) -> list[Row]:
        """One row for each printed number; errors in %, None without a number."""
        names = (*self.columns[:-1], "beyond_rounding_pct", "physical", "note")
        return [{name: getattr(cell, name) for name in names} for cell in self.cells]

    def by_table(self) -> dict[str, list[Row]]:
        """Rows grouped by their table, in printed order."""
        return grouped(self.rows(), itemgetter("table"))

    def summary(self) -> str:
        """How many printed numbers are met, and what is behind the headline of the paper."""
        rows = [row for row in self.rows() if row["beyond_rounding_pct"] is not None]
        near = [row for row in rows if abs(row["beyond_rounding_pct"]) <= NEAR_PCT]
        count, rms = time_model_error(list(self.cells))
        lines = [
            f"{len(near)} of {len(rows)} printed numbers are met within {NEAR_PCT:g} % beyond "
            f"rounding; the {count} throughputs and times of tables 4, 5 and 6 have a root mean "
            f"square log error of {rms:.4f} at the printed batches."
        ]
        at = {row["quantity"]: row for row in self.by_table()["4"] if row["row"] == "128k"}
        ratio = at["dense over MoE"]
        lines.append(
            f"DeepSeek-V3 at 128k, dense over MoE: {ratio['published']:.1f} printed, "
            f"{ratio['paper']:.1f} by the paper's accounting, {ratio['physical']:.2f} by the "
            "physical one."
        )
        return "\n".join(lines)

    def tables(self) -> list[Table]:
        """The paper's tables, one each, and the notes that they number."""
        heads = ("row", "quantity", "published", "ours (paper)", "error", "beyond rounding",
                 "ours (physical)")  # fmt: skip
        notes = list(dict.fromkeys(row["note"] for row in self.rows() if row["note"]))
        found = [
            Table(_title(number), heads, [_cells(row, notes) for row in rows], 2)
            for number, rows in self.by_table().items()
        ]
        lines = [[f"[{i}]", note] for i, note in enumerate(notes, 1)]
        return [*found, Table("Notes", ("", "note"), lines, 2)]

    def record(self) -> Row:
        """The cells, the error over all of them, and what was calibrated."""
        count, rms = time_model_error(list(self.cells))
        return {
            "source": "arXiv 2603.08960",
            "rms_log_error_beyond_rounding": rms,
            "numbers_in_rms": count,
            **self.inputs(),
            "calibration": {
                f"{model} {gpus} GPUs": memory._asdict()
                for (model, gpus), memory in CALIBRATION.items()
            },
            "cells": self.rows(),
        }

    def inputs(self) -> Row:
        """The models and the reference system."""
        return {
            "hardware": spec_dict(self.hardware),
            "models": {name: spec_dict(spec) for name, spec in self.models.items()},
        }

    def drawings(self) -> dict[str, Drawing]:
        """One picture for each table."""
        from qsjax import plotting

        return {
            f"table-{n}": partial(
                plotting.paper_table, rows, physical=True, title=f"{_title(n)}{_met(rows)}"
            )
            for n, rows in self.by_table().items()
        }


def _met(rows: list[Row]) -> str:
    """How many numbers of a table are met."""
    known = [row for row in rows if row["beyond_rounding_pct"] is not None]
    near = sum(abs(row["beyond_rounding_pct"]) <= NEAR_PCT for row in known)
    if not known:
        return ""
    return f": {near} of {len(known)} numbers met within {NEAR_PCT:g} % beyond rounding"


def _title(number: str) -> str:
    return f"Section {number}" if "." in number else f"Table {number}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %" if value else "0"


def _cells(row: Row, notes: list[str]) -> list[str]:
    mark = f" [{notes.index(row['note']) + 1}]" if row["note"] else ""
    return [
        row["row"],
        row["quantity"] + mark,
        "infeasible" if row["published"] is None else text(row["published"]),
        text(row["paper"]),
        _percent(row["error_pct"]),
        _percent(row["beyond_rounding_pct"]),
        text(row["physical"]),
    ]


@entry
def reproduce() -> Reproduction:
    """Tables 1, 3, 4, 5, 6 and section 3.4 of the paper, cell by cell.

    Beside each printed number: ours under the paper's convention, its error, the error beyond what
    the printed digits allow, and ours under the physical convention. Batches are computed with a
    capacity calibrated for each model (declared in the notes); the physical column has none.

    Source: The qs Inequality, arXiv 2603.08960.

    >>> found = reproduce()
    >>> len(found.rows()) == len(found.cells)
    True
    """
    models = {name: catalog.model(name) for name in MODELS}
    hardware = catalog.hardware(REFERENCE)
    return Reproduction(models, hardware, tuple(all_cells(models, hardware)))
