"""Requests of many lengths: read, checked, and merged into few classes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qsjax.output import sheets
from qsjax.records.conversion import kind_of

# Accepted headings of each column.
COLUMNS = sheets.LENGTHS | sheets.headings("mix")
MOST_CLASSES = 24  # lengths that are kept apart


class Request(NamedTuple):
    """Requests of one length: mean context while decoding, output tokens, and a batch if given.

    While a request decodes, its context grows by `output` tokens around this mean.
    """

    context: float
    tokens: float
    batch: float | None = None
    output: float = 0.0


def _check(header: Sequence[str], columns: Mapping[str, int], name: str) -> None:
    if "context" not in columns and not {"isl", "osl"} <= set(columns):
        raise ValueError(
            f"{name}: the first row must name the columns: context, or isl and osl, and optionally "
            f"count and batch; it has {', '.join(header) or 'nothing'}"
        )
    if "context" in columns and {"isl", "osl"} & set(columns):
        raise ValueError(f"{name}: context and isl/osl contradict each other; keep one of them")


def _number(column: str, text: str) -> float:
    """A cell of the file.

    Raises:
        ValueError: it is no number that the column may have.
    """
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
    return value


def _row(cells: Mapping[str, str]) -> Request:
    """A request from the cells of its columns; count and batch may be empty."""
    values = {
        column: _number(column, text)
        for column, text in cells.items()
        if text or column not in ("count", "batch")
    }
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
    header, columns, rows = sheets.cells_of(text, COLUMNS, name)
    _check(header, columns, name)
    return sheets.gathered(((number, partial(_row, cells)) for number, cells in rows), name)


def requests_of(given: Any) -> list[Request]:
    """Requests from a CSV file, its text, a data frame, or a list of `Request` or (input, output).

    Raises:
        ValueError: with the number of every bad row.
    """
    if (table := sheets.text_of(given, "requests")) is not None:
        return read_requests(*table)

    def request(item: Any) -> Request:
        if isinstance(item, Request):
            cells = {"context": item.context, "count": item.tokens, "batch": item.batch}
            _row({name: "" if value is None else f"{value}" for name, value in cells.items()})
            return item
        if np.shape(item) != (2,):
            raise ValueError(f"{item!r} is neither a Request nor a pair of input and output tokens")
        return _row(dict(zip(("isl", "osl"), map(str, item), strict=True)))

    if not isinstance(given, Sequence | np.ndarray):
        raise ValueError(
            f"requests: {kind_of(given)} was given; give a file, a data frame or a list "
            "of pairs of input and output tokens"
        )
    rows = ((k, partial(request, item)) for k, item in enumerate(given, start=1))
    return sheets.gathered(rows, "requests")


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
