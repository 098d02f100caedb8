"""A distribution of contexts instead of one: the split that is best for all of them together.

Requests of similar length are served in batches of their own, and the design is the same for all.
With shares w_i of the output tokens and rates r_i, the whole makes 1 / sum(w_i / r_i) tokens/s/GPU.
"""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qsjax.cost.metrics import Economy
from qsjax.grid.axes import make_axes
from qsjax.grid.batches import score_candidates
from qsjax.grid.limits import Limits
from qsjax.grid.problem import axis_values
from qsjax.grid.screening import candidates, design_labels, flat_records
from qsjax.grid.search import TIE_TOLERANCE
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention, HardwareSpec, ModelSpec, Partition, Workload

# Accepted headings of each column.
COLUMNS: dict[str, tuple[str, ...]] = {
    "context": ("context", "context_tokens"),
    "isl": ("isl", "input_tokens", "prompt_tokens", "input_length", "num_prefill_tokens"),
    "osl": ("osl", "output_tokens", "completion_tokens", "output_length", "num_decode_tokens"),
    "count": ("count", "requests", "weight"),
    "batch": ("batch",),
}
MOST_ERRORS = 20  # rows named in one message
MOST_CLASSES = 24  # lengths that are kept apart


class Request(NamedTuple):
    """Requests of one length: mean context while decoding, output tokens, and a batch if given.

    `output` is what the context of each grows by, around its mean.
    """

    context: float
    tokens: float
    batch: float | None = None
    output: float = 0.0


def _columns(header: Sequence[str], name: str) -> dict[str, int]:
    lowered = [heading.strip().lower() for heading in header]
    found = {
        column: lowered.index(heading)
        for column, headings in COLUMNS.items()
        for heading in headings
        if heading in lowered
    }
    if "context" not in found and not {"isl", "osl"} <= set(found):
        raise ValueError(
            f"{name}: the first row must name the columns: context, or isl and osl, and if wanted "
            f"count and batch; it has {', '.join(header) or 'nothing'}"
        )
    if "context" in found and {"isl", "osl"} & set(found):
        raise ValueError(f"{name}: context and isl/osl contradict each other; keep one of them")
    return found


def _row(columns: Mapping[str, int], cells: Sequence[str]) -> Request:
    values: dict[str, float] = {}
    for column, at in columns.items():
        text = cells[at].strip() if at < len(cells) else ""
        if not text and column in ("count", "batch"):
            continue
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{column} {text!r} is not a number") from None
        least = 0.0 if column == "isl" else 1.0
        if column == "count":
            least = np.nextafter(0.0, 1.0)
        if not (least <= value < np.inf):
            allowed = "above 0" if column == "count" else f"of at least {least:g}"
            raise ValueError(f"{column} {text} is not allowed; give a number {allowed}")
        values[column] = value
    count, batch = values.get("count", 1.0), values.get("batch")
    if "context" in values:
        return Request(values["context"], count, batch)
    # A sequence grows while it decodes: on average half of its output is there.
    context = max(1.0, values["isl"] + 0.5 * values["osl"])
    return Request(context, count * values["osl"], batch, values["osl"])


def read_requests(text: str, name: str = "requests") -> list[Request]:
    """Requests from CSV: columns context, or isl and osl, and optionally count and batch.

    Args:
        text: content of the file; the first row names the columns.
        name: what messages call it.

    Raises:
        ValueError: with the number of every bad row (the heading is row 1).
    """
    reader = csv.reader(io.StringIO(text))
    columns = _columns(next(reader, []), name)
    found, problems = [], []
    for number, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            found.append(_row(columns, cells))
        except ValueError as error:
            problems.append(f"  row {number}: {error}")
    if problems:
        more = len(problems) - MOST_ERRORS
        rest = [f"  and {more} more rows"] if more > 0 else []
        raise ValueError("\n".join([f"{name}:", *problems[:MOST_ERRORS], *rest]))
    if not found:
        raise ValueError(f"{name}: there is no row below the heading; give at least one request")
    return found


def classes_of(requests: Sequence[Request], most: int = MOST_CLASSES) -> list[Request]:
    """At most `most` classes of requests per batch, by rising context; `tokens` become shares.

    Lengths are merged between steps of one ratio, at their mean weighted with tokens: the times of
    a step are piecewise linear in the context, so the mean stands for its class.
    """
    total = sum(request.tokens for request in requests)
    out = []
    batches: list[float | None] = list(dict.fromkeys(request.batch for request in requests))
    for batch in batches:
        part = [request for request in requests if request.batch == batch]
        context = np.array([request.context for request in part])
        tokens = np.array([request.tokens for request in part])
        low, high = float(context.min()), float(context.max())
        if len(np.unique(context)) > most:
            edges = np.geomspace(low, high, most + 1)
        else:
            edges = np.unique(np.append(context, np.inf))
        at = np.clip(np.searchsorted(edges, context, side="right") - 1, 0, max(0, len(edges) - 2))
        for k in np.unique(at):
            own = at == k
            share = tokens[own].sum()
            mean = float(np.sum(context[own] * tokens[own]) / share)
            out.append(Request(mean, float(share / total), batch))
    return sorted(out, key=lambda request: request.context)


class ClassResult(NamedTuple):
    """One class under the common design and under its own best one.

    Attributes:
        request: the class; `tokens` is its share.
        rate: tokens/s/GPU with the common design; `batch` its batch there.
        own_rate: tokens/s/GPU with the best design for this class alone.
        own_design: that design, values of the searched axes.
    """

    request: Request
    rate: float
    batch: float
    own_rate: float
    own_design: dict[str, float | str]


@dataclasses.dataclass(frozen=True, slots=True)
class Mix:
    """The best split for all classes together.

    Attributes:
        design: values of the searched axes; empty if no split runs every class.
        partition: the same as a record; None then.
        rate: output tokens/s/GPU over all classes; 0 then.
        rate_of_own: the same if every class had its own best split: an upper bound.
        classes: each class, in order of context.
        is_possible: for each class, whether any split runs it.
    """

    design: dict[str, float | str]
    partition: Partition | None
    rate: float
    rate_of_own: float
    classes: tuple[ClassResult, ...]
    is_possible: tuple[bool, ...]

    @property
    def loss(self) -> float:
        """Share of the throughput that one common split costs, against a split for each class."""
        return 1.0 - self.rate / self.rate_of_own if self.rate_of_own > 0 else 0.0


def _harmonic(shares: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Rate of a mix [tokens/s/GPU] over the first axis; 0 where a class does not run."""
    runs = (rates > 0).all(axis=0)
    time = np.sum(shares[:, None] / np.where(rates > 0, rates, 1.0), axis=0)
    return np.where(runs, 1.0 / time, 0.0)


def best_for_mix(
    model: ModelSpec,
    hardware: HardwareSpec,
    workload: Workload,
    gpus: int,
    requests: Sequence[Request],
    convention: Convention,
    *,
    limits: Limits,
    economy: Economy,
) -> Mix:
    """The split with the most tokens/s/GPU over all requests, every class at its own batch.

    Args:
        model: shapes.
        hardware: accelerator.
        workload: dtypes; context and batch come from the requests.
        gpus: GPUs of the design.
        requests: classes with shares, as from `classes_of`.
        convention: accounting.
        limits: what the design must keep for every class.
        economy: price and power.
    """
    axes = make_axes(axis_values([gpus], [request.context for request in requests], {}))
    records = Records(model, hardware, Partition(), dataclasses.replace(workload, batch=None))
    size = int(np.prod([len(axis.values) for axis in axes.searched]))
    rates, batches = np.zeros((2, len(requests), size))
    for k, request in enumerate(requests):
        found = candidates(records, axes, (0, k), convention)
        given = None if request.batch is None else np.array([request.batch])
        scores = score_candidates(found, limits, economy, convention, batches=given)
        rates[k, found.position] = np.maximum(scores.score, 0.0)
        batches[k, found.position] = scores.batch
    shares = np.array([request.tokens for request in requests])
    together = _harmonic(shares, rates)
    best = int(np.argmax(together >= together.max() * (1.0 - TIE_TOLERANCE)))
    own = rates.argmax(axis=1)
    possible = rates.max(axis=1) > 0
    at = flat_records(records, axes, (0, 0), np.asarray(best), convention)
    runs = bool(together[best] > 0)
    return Mix(
        design=design_labels(axes, best) if runs else {},
        partition=at.partition if runs else None,
        rate=float(together[best]),
        rate_of_own=float(_harmonic(shares, rates.max(axis=1, keepdims=True))[0]),
        classes=tuple(
            ClassResult(
                request,
                float(rates[k, best]) if runs else 0.0,
                float(batches[k, best]) if runs else 0.0,
                float(rates[k, own[k]]),
                design_labels(axes, int(own[k])) if possible[k] else {},
            )
            for k, request in enumerate(requests)
        ),
        is_possible=tuple(bool(x) for x in possible),
    )
