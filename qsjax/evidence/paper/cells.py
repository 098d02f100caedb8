"""The tables cell by cell: printed, ours, error, and where the paper contradicts itself."""

import dataclasses
import math
from fnmatch import fnmatchcase

import numpy as np

from qsjax.cost.decode import StepCost
from qsjax.cost.laws import closed_forms
from qsjax.evidence.paper.evaluate import Results, compute
from qsjax.evidence.paper.printed import PAIRS, PRINTED, SWITCH
from qsjax.numerics.namespace import ArrayLike
from qsjax.numerics.safe import scalar
from qsjax.records.specs import HardwareSpec, ModelSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One printed number beside ours.

    Attributes:
        table: `1`, `3`, `4`, `5`, `6` or `3.4`.
        row: which row of it.
        quantity: which column.
        published: the printed number; None where the paper prints "infeasible".
        decimals: digits after its point, which say how far it is rounded.
        paper: our value under the paper's convention (infeasible: None).
        physical: our value under the physical convention.
        note: where the paper contradicts itself, or what stands behind the number.
    """

    table: str
    row: str
    quantity: str
    published: float | None
    decimals: int
    paper: float | None
    physical: float | None
    note: str = ""

    @property
    def error_pct(self) -> float | None:
        """Ours over the printed number, less 1 [%]; None without both or with a printed 0."""
        if not self.published or self.paper is None:
            return None
        return 100.0 * (self.paper / self.published - 1.0)

    @property
    def beyond_rounding_pct(self) -> float | None:
        """Error outside the interval that the printed digits allow [%]; 0 inside it.

        A printed 0.2 stands for 0.15 to 0.25.
        """
        if self.published is None or self.paper is None:
            return None
        half = 0.5 * 10.0**-self.decimals
        low, high = self.published - half, self.published + half
        slack = 1e-12 * abs(self.published)
        if low - slack <= self.paper <= high + slack:
            return 0.0
        edge = high if self.paper > high else low
        return 100.0 * (self.paper / edge - 1.0) if edge else math.inf


def _cell(
    table: str,
    row: str,
    quantity: str,
    text: str,
    paper: float | None,
    physical: float | None,
) -> Cell:
    """A number as it is printed beside ours, with its note."""
    of = (table, row, quantity)
    told = (note for *names, note in PRINTED["notes"] if all(map(fnmatchcase, of, names)))
    decimals = len(text.partition(".")[2])
    return Cell(*of, float(text), decimals, paper, physical, next(told, ""))


def quality_cells() -> list[Cell]:
    """Table 1 and the multipliers of section 3.4: closed forms, the same in both conventions."""
    cells = []
    for row, experts, top_k, s, product in PRINTED["table_1"]:
        ours = float(closed_forms.sparsity(top_k, experts))
        cells.append(_cell("1", row, "s", s, ours, ours))
        if product:
            both = float(closed_forms.qs(PRINTED["table_1_q"], ours))
            cells.append(_cell("1", row, "q*s", product, both, both))
    for row, dense, moe, q in PRINTED["quality"]:
        ours = float(closed_forms.quality_multiplier(dense, moe))
        cells.append(_cell("3.4", row, "q", q, ours, ours))
    return cells


def reuse_cells(results: Results) -> list[Cell]:
    """Table 3: batches, reuse, and its routing and capacity factors."""
    cells = []
    largest = results.batches, results.physical.capacity.max_batch
    for row, pair in zip(PRINTED["table_3"], PAIRS["3"], strict=True):
        model, gpus, q, experts, top_k, *texts = row
        moe, dense = map(results.at, pair)
        s = float(closed_forms.sparsity(top_k, experts))
        both = [reuse_row(batch[moe], batch[dense], s, q) for batch in largest]
        for quantity, text in zip(both[0], texts, strict=True):
            ours = (one[quantity] for one in both)
            cells.append(_cell("3", f"{model} {gpus} GPUs q={q:g}", quantity, text, *ours))
    return [*cells, infeasible_cell(results, "3")]


def reuse_row(
    batch_moe: ArrayLike, batch_dense: ArrayLike, s: float, q: float
) -> dict[str, float | None]:
    """The columns of table 3 from two batches; None where a batch is below one sequence."""
    moe, dense = scalar(batch_moe), scalar(batch_dense)
    fits = moe >= 1 and dense >= 1
    return {
        "s": s,
        "q*s": float(closed_forms.qs(q, s)),
        "B_moe": moe,
        "B_dense": dense,
        "r_moe": float(closed_forms.expert_batch(moe, s)),
        "r_dense": dense,
        "routing factor": float(closed_forms.routing_factor(s)),
        "capacity factor": float(closed_forms.capacity_factor(dense, moe)) if fits else None,
        "reuse gap": float(closed_forms.reuse_gap(dense, moe, s)) if fits else None,
    }


def infeasible_cell(results: Results, table: str) -> Cell:
    """Switch-C-2048, which the paper prints as not fitting: batches below 1 say so."""
    ours, physical = (max(batch, 0.0) for batch in results.largest(results.at(SWITCH)))
    note = f"printed: infeasible; ours: {'infeasible' if ours < 1 else 'feasible'}"
    note += " (0 = no sequence fits)"
    return Cell(table, "switch-c-2048 64 GPUs", "B_moe", None, 0, ours, physical, note)


def _by_context(results: Results) -> dict[int, list[int]]:
    """Positions of the MoE and dense points of table 4, by context."""
    pairs = zip(PRINTED["table_4"], PAIRS["4"], strict=True)
    return {row[0]: [results.at(point) for point in pair] for row, pair in pairs}


def throughput_cells(results: Results) -> list[Cell]:
    """Table 4: batches and relative throughput over context, DeepSeek-V3 on 64 GPUs."""
    cells = []
    pairs = _by_context(results)
    first = pairs[1024][0]
    for context, *texts in PRINTED["table_4"]:
        row = f"{context // 1024}k"
        for name, at, batch, rate in zip(
            ("moe", "dense"), pairs[context], texts[:2], texts[2:], strict=True
        ):
            cells.append(_cell("4", row, f"B_{name}", batch, *results.largest(at)))
            both = results.faster(at, first, 100.0)
            cells.append(_cell("4", row, f"throughput_{name}", rate, *both))
    moe, dense = pairs[131072]
    both = results.faster(dense, moe)
    return [*cells, _cell("4", "128k", "dense over MoE", PRINTED["headline"], *both)]


def attribution_cells(results: Results) -> list[Cell]:
    """Table 5: HBM, compute and exposed communication per token, in MoE compute at 1k."""
    rows = _by_context(results)
    steps = results.paper, results.physical
    unit = [_parts(step, rows[1024][0])["compute"] for step in steps]
    cells = []
    for context, variant, *texts in PRINTED["table_5"]:
        parts = [_parts(step, rows[context][variant == "dense"]) for step in steps]
        for name, text in zip(parts[0], texts, strict=True):
            ours = (own[name] / one for own, one in zip(parts, unit, strict=True))
            cells.append(_cell("5", f"{context // 1024}k {variant}", name, text, *ours))
    return cells


def _parts(step: StepCost, at: int) -> dict[str, float]:
    batch = step.microbatch[at]
    hbm = sum(phase[at] for phase in step.hbm.phases())
    return {
        "HBM": float(hbm / batch),
        "compute": float(sum(phase[at] for phase in step.compute) / batch),
        "communication": float(sum(family[at] for family in step.exposed) / batch),
    }


def generality_cells(results: Results) -> list[Cell]:
    """Table 6: dense over MoE at 128k for the other models."""
    cells = []
    for (model, q, *_, rate), pair in zip(PRINTED["table_6"], PAIRS["6"], strict=True):
        moe, dense = map(results.at, pair)
        both = results.faster(dense, moe, 100.0)
        cells.append(_cell("6", f"{model} q={q:g}", "throughput_dense", rate, *both))
    return [*cells, infeasible_cell(results, "6")]


def all_cells(models: dict[str, ModelSpec], hardware: HardwareSpec) -> list[Cell]:
    """Every cell of tables 1, 3, 4, 5, 6 and of section 3.4."""
    results = compute(models, hardware)
    return [
        *quality_cells(),
        *reuse_cells(results),
        *throughput_cells(results),
        *attribution_cells(results),
        *generality_cells(results),
    ]


def time_model_error(cells: list[Cell]) -> tuple[int, float]:
    """Number of printed throughputs and times, and the rms log error beyond rounding over them.

    Counted are tables 4 (throughput), 5 and 6; not the batches, which are calibrated, the headline,
    which repeats table 4, and the two cells that are 100 and 1 by normalisation.
    """
    logs = []
    for cell in cells:
        is_time = cell.table in ("5", "6") or cell.quantity.startswith("throughput")
        is_unit = (cell.row, cell.quantity) in (("1k", "throughput_moe"), ("1k moe", "compute"))
        beyond = cell.beyond_rounding_pct
        if is_time and not is_unit and beyond is not None:
            logs.append(math.log1p(beyond / 100.0))
    return len(logs), float(np.sqrt(np.mean(np.square(logs))))
