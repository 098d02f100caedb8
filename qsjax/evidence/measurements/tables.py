"""Tables as documents and terminals draw them: a bar between cells, a run a row or a column."""

import re
from collections.abc import Callable, Iterable, Sequence

from qsjax.evidence.measurements import columns

Row = tuple[int, list[str]]  # the number of its line, and its cells
_LINE = re.compile(r"[ \t]*\|.*\|[ \t]*")
_RULE = re.compile(r"[\s|:+=\u2500-\u257f-]*")
_BARS = str.maketrans("\u2502\u2503", "||")  # as terminals draw them
# What begins a table that has a metric a row and a run a column.
_METRICS = ("metric", "metrics", "key", "\u6307\u6807", "")
# Of a table with a statistic a column, the first that it has of these counts, and none of others.
_MEANS = ("mean", "average", "avg", "value", "median", "p50")
_OTHERS = re.compile(
    r"p\d+(?:\.\d+)?|min|max|std\w*|delta|\u0394.*|change|diff\w*|unit|status|%", re.IGNORECASE
)
# Emphasis, marks of footnotes, `c=` in front of a count, and units behind a number.
_DRESS = re.compile(r"\*+|`|<br ?/?>|^(?![TtPpDdEe][Pp]=)[A-Za-z]+=(?=\d)")
_COUNTED = re.compile(r"([\d.,]+) ?(?:(ms|us|\u00b5s|s)|tok(?:ens)?/s|req/s)", re.IGNORECASE)
# One column for the lengths of prompt and answer, as 1024/1024 or 1k/8k.
_LENGTHS = re.compile(
    r"(?:isl|in(?:put)?)(?: (?:len|length|tokens?))? ?[/:x_] ?(?:osl|out(?:put)?)"
    r"(?: (?:len|lengths?|tokens?))?",
    re.IGNORECASE,
)
# One column for the split, as TP8, tp4dp2 or "TP=8, EP=8"; a deviation behind a mean.
_SPLIT = re.compile(r"(?:(?:tp|pp|dp|ep)[ =:-]?\d+[ ,;+x_/-]*)+", re.IGNORECASE)
_DEGREE = re.compile(r"(tp|pp|dp|ep)[ =:-]?(\d+)", re.IGNORECASE)
_DEVIATION = re.compile(r"(?<=[\d.]) ?(?:\u00b1|\+/-) ?[\d.]+")
_KIBI = re.compile(r"(\d+)k", re.IGNORECASE)


def _column(heading: str) -> tuple[str, str]:
    """The column that a heading means and its unit, "" for none."""
    try:
        name, _, unit = columns.column_of(heading)
    except KeyError:
        return "", ""
    return name, unit


def drawn(text: str) -> list[list[Row]]:
    """The tables of a text; rows of the wrong length are of none."""
    every: list[list[Row]] = []
    rows: list[Row] = []
    for number, line in enumerate([*text.translate(_BARS).splitlines(), ""], 1):
        if _LINE.fullmatch(line) and not _RULE.fullmatch(line):
            cells = line.strip().strip("|").split("|")
            rows.append((number, [_DRESS.sub("", cell.strip()).strip() for cell in cells]))
        elif not _RULE.fullmatch(line) or not line.strip():
            every += [rows] if len(rows) > 1 else []
            rows = []
    return every


def is_drawn(text: str) -> bool:
    """Whether a text has a table with bars between its cells."""
    return bool(drawn(text))


def _turned(rows: list[Row]) -> list[Row]:
    """A table that has a run a row, of one that has a run a column as well."""
    lead, named = rows[0][1][0].lower(), [cells[0] for _, cells in rows[1:]]
    if lead not in _METRICS or not any(_column(name)[0] == "tpot" for name in named):
        return rows
    width = min(len(cells) for _, cells in rows)
    heads = [cell.lower() for cell in rows[0][1][:width]]
    kept = [at for at in range(1, width) if not _OTHERS.fullmatch(heads[at])]
    mean = next((name for name in _MEANS if name in heads[1:]), "")
    if mean:
        kept = [heads.index(mean)]
        named = [f"{mean} {name}" if mean in ("median", "p50") else name for name in named]
    runs = [(rows[0][0], [cells[at] for _, cells in rows[1:]]) for at in kept]
    return [(rows[0][0], named), *runs]


def _best(timed: list[list[Row]]) -> list[list[Row]]:
    """Of tables that differ in their time per token alone those with the best one of `columns`."""
    heads = [rows[0][1] for rows in timed]
    times = [[columns.column_of(x)[1] for x in head if _column(x)[0] == "tpot"] for head in heads]
    others = {tuple(x for x in head if _column(x)[0] != "tpot") for head in heads}
    if len(others) != 1 or any(len(names) != 1 for names in times):
        return timed
    ranks = [columns.rank_of("tpot", name) for (name,) in times]
    return [rows for rows, rank in zip(timed, ranks, strict=True) if rank == min(ranks)]


def rows_in(text: str, own: Callable[[str], dict[str, str]]) -> list[Row]:
    r"""The heading and the rows of the tables that have a time per token; none without a table.

    Args:
        text: of a document, or what a program prints.
        own: what a user's own lines beside the tables say, a column each.

    Raises:
        ValueError: two tables with a time per token have other headings.

    >>> rows_in("| Key | Value |\n|---|---|\n| Mean TPOT (ms) | **9.5** |", lambda _: {"tp": "2"})
    [(1, ['Mean TPOT (ms)', 'tp']), (1, ['9.5', '2'])]
    """
    every = [_turned(rows) for rows in drawn(text)]
    timed = [rows for rows in every if any(_column(name)[0] == "tpot" for name in rows[0][1])]
    if not every:
        return []
    timed = _best(timed)
    heads = {tuple(rows[0][1]) for rows in timed}
    if len(heads) > 1:
        shown = "; ".join(" | ".join(head) for head in heads)
        raise ValueError(f"tables with other columns ({shown}); give each as a file by itself")
    rows = [(timed or every)[0][0], *(row for table in timed or every[:1] for row in table[1:])]
    given = {_column(name)[0] for name in rows[0][1]}
    lines = text.translate(_BARS).splitlines()
    outside = "\n".join(line for line in lines if not _LINE.fullmatch(line))
    more = {name: value for name, value in own(outside).items() if name not in given}
    first, *others = rows
    return [
        (first[0], [*first[1], *more]),
        *((number, [*cells, *more.values()]) for number, cells in others),
    ]


def tidied(rows: Sequence[Row]) -> list[Row]:
    """Rows with a number a cell: lengths of prompt and answer apart, units in the heading.

    >>> tidied([(1, ["ISL/OSL", "TPOT"]), (2, ["1k/1k", "9.5 ms"])])
    [(1, ['isl', 'osl', 'TPOT (ms)']), (2, ['1024', '1024', '9.5'])]
    """
    if not rows:
        return []
    width = len(rows[0][1])
    full = [(number, [*cells, *[""] * (width - len(cells))]) for number, cells in rows]
    turned: list[list[str]] = []
    for at in range(width):
        heading, *cells = (row[at] for _, row in full)
        if _LENGTHS.fullmatch(heading.strip()):
            pairs = [re.split(r"\s*[/:x]\s*", cell.strip(), maxsplit=1) for cell in cells]
            two = [(pair[0], pair[-1]) for pair in pairs]
            turned.append(["isl", *map(_length, (one for one, _ in two))])
            turned.append(["osl", *map(_length, (other for _, other in two))])
        elif cells and all(_SPLIT.fullmatch(cell.strip()) for cell in cells):
            turned += _degrees(cells)
        else:
            turned.append(_without_units(heading, cells))
    beyond = [cells[width:] for _, cells in full]
    columns_ = zip(*turned, strict=True)
    return [
        (number, [*cells, *more])
        for (number, _), cells, more in zip(full, columns_, beyond, strict=True)
    ]


def _degrees(cells: Iterable[str]) -> list[list[str]]:
    """A column for each degree that one of these splits has; what a split leaves out is 1."""
    splits = [{name.lower(): n for name, n in _DEGREE.findall(cell)} for cell in cells]
    names = dict.fromkeys(name for split in splits for name in split)
    return [[name, *(split.get(name, "1") for split in splits)] for name in names]


def _length(text: str) -> str:
    thousands = _KIBI.fullmatch(text)
    return str(1024 * int(thousands[1])) if thousands else text


def _without_units(heading: str, cells: Iterable[str]) -> list[str]:
    """A column whose numbers have no unit behind them, but the heading has that of times."""
    name, unit = _column(heading)
    cells = [_DEVIATION.sub("", cell) for cell in cells] if name == "tpot" else list(cells)
    numbers = [(cell, _COUNTED.fullmatch(cell.strip())) for cell in cells]
    units = {columns.UNITS[found[2].lower()] for _, found in numbers if found and found[2]}
    if name != "tpot" or len(units) > 1 or (unit and units - {unit}):
        return [heading, *(cell for cell, _ in numbers)]
    head = heading if unit or not units else f"{heading} ({min(units)})"
    return [head, *(found[1] if found else cell for cell, found in numbers)]
