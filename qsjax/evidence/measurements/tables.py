"""Tables as documents and terminals draw them: a bar between cells, a run a row or a column."""

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence

from qsjax.evidence.measurements import columns

Row = tuple[int, list[str]]  # the number of its line, and its cells
_LINE = re.compile(r"[ \t]*\|.*\|[ \t]*")
_RULE = re.compile(r"[\s|:+=\u2500-\u257f-]*")
_BARS = str.maketrans("\u2502\u2503", "||")  # as terminals draw them
# Of a table with a statistic a column, the first that it has of these counts, and none of others.
_MEANS = ("mean", "average", "avg", "value", "median", "p50")
_OTHERS = re.compile(
    r"p\d+(?:\.\d+)?|min|max|std\w*|delta|\u0394.*|change|diff\w*|unit|status|%"
    r"|.*(?:\u53d8\u5316|\u63d0\u5347|\u5dee\u5f02)",
    re.IGNORECASE,
)
# Emphasis, marks of footnotes, `c=` in front of a count, and units behind a number.
_DRESS = re.compile(r"\*+|`|<br ?/?>")
_NAMED = re.compile(r"^(?![TtPpDdEe][Pp]=)[A-Za-z]+=(?=\d)")  # "c=8" below a heading
_COUNTED = re.compile(
    r"([\d.,]+) ?(?:(ms|us|\u00b5s|s)(?:/tok(?:en)?)?|tok(?:ens)?/s|req/s)", re.IGNORECASE
)
# One column for the lengths of prompt and answer, as 1024/1024 or 1k/8k.
LENGTHS = re.compile(
    r"(?:isl|in(?:put)?)(?: (?:len|length|tokens?))? ?[/:x_] ?(?:osl|out(?:put)?)"
    r"(?: (?:len|lengths?|tokens?))?",
    re.IGNORECASE,
)
# Its degrees where the heading names them, as "TP x EP".
_DEGREES = re.compile(r"(tp|pp|dp|ep)(?: ?[x/,&+\u00d7-] ?(tp|pp|dp|ep))+", re.IGNORECASE)
_REMARK = re.compile(r"(?<=\d)\s*\([^()\d]*\)$")  # behind a count: "64 (current)"
# One column for the split, as TP8, tp4dp2 or "TP=8, EP=8"; a deviation behind a mean.
_SPLIT = re.compile(r"(?:(?:tp|pp|dp|ep)[ =:-]?\d+[ ,;+x_/-]*)+", re.IGNORECASE)
_DEGREE = re.compile(r"(tp|pp|dp|ep)[ =:-]?(\d+)", re.IGNORECASE)
_DEVIATION = re.compile(r"(?<=[\d.]) ?(?:\u00b1|\+/-) ?[\d.]+|\s*\([+\u2212-]?[\d.]+ ?%\)$")
# The same within the name of a run, as in "TP4 before".
_NAMED_DEGREE = re.compile(r"(?<![a-z])(tp|pp|dp|ep)[ =:-]?(\d+)(?![\d.])", re.IGNORECASE)
# A change from one run to the other, which is no run.
_CHANGE = re.compile(r"[-+\u2212]?[\d.,]+ ?(?:[%\u00d7]|x\b).*")
# What the name of a run says of its precision, of the weights or of the cache.
_PRECISION = re.compile(
    r"(?<![a-z0-9])(?:bf16|fp16|fp8|int8|int4|nvfp4|mxfp4|fp4|w8a8|w4a16|w4a8|[48]-?bit)(?![a-z0-9])"
)
# The first heading of a table of parts of a distribution, beside one of its mean.
_PARTS = re.compile(r"percentiles?$", re.IGNORECASE)
_DEGREE_NAMES = ("tp", "pp", "dp", "ep")
# A title above a table, as Markdown has it, and what it or the heading of a run says.
_TITLE = re.compile(r"\s*(?:#{1,6}\s+(.+)|\*\*(.+)\*\*:?\s*)")
_DRAFTS = re.compile(r"\b(?:mtp|eagle|nextn)|\bspec(?:ulati|[ _-]?dec)", re.IGNORECASE)
_UNDRAFTED = re.compile(r"\b(?:non?|not|without|off|disabled|baseline)\b|w/o", re.IGNORECASE)
_AT_ONCE = re.compile(
    r"(?:\u5e76\u53d1\u6570?|concurrency|conc|c|users?|vus)[ =:-]*(\d+)"
    r"|(\d+) (?:concurrent(?: \w+)?|users?)"
)
_KIBI = re.compile(r"(\d+)k", re.IGNORECASE)


def drawn(text: str) -> list[list[Row]]:
    """The tables of a text; rows of the wrong length are of none."""
    every: list[list[Row]] = []
    rows: list[Row] = []
    given = [*text.splitlines(), ""]
    for number, line in enumerate((one.translate(_BARS) for one in given), 1):
        if _LINE.fullmatch(line) and not _RULE.fullmatch(line):
            cells = line.strip().strip("|").split("|")
            plain = [_DRESS.sub("", cell.strip()).strip() for cell in cells]
            rows.append((number, [_NAMED.sub("", cell) for cell in plain] if rows else plain))
        elif not _RULE.fullmatch(line) or not line.strip():
            every += [rows] if len(rows) > 1 else []
            rows = []
    return [_with_one_head(rows, given) for rows in every]


def _with_one_head(rows: list[Row], lines: Sequence[str]) -> list[Row]:
    """A table whose heading is one row, where terminals draw it in thick bars over several."""
    heads = list(itertools.takewhile(lambda row: "\u2503" in lines[row[0] - 1], rows))
    widths = {len(cells) for _, cells in heads}
    if not 1 < len(heads) < len(rows) or len(widths) > 1:
        return rows
    cells = [" ".join(filter(None, parts)) for parts in zip(*(x for _, x in heads), strict=True)]
    return [(heads[0][0], cells), *rows[len(heads) :]]


def is_drawn(text: str) -> bool:
    """Whether a text has a table with bars between its cells."""
    return bool(drawn(text))


def drafter_in(text: str) -> str:
    """Who drafts by a heading: "none" where it says that nobody does, "" where it says nothing."""
    if not _DRAFTS.search(text):
        return ""
    if _UNDRAFTED.search(text):
        return "" if re.search(r"\bvs\b", text, re.IGNORECASE) else "none"
    return "mtp" if "mtp" in text.lower() else "eagle"


def _titled(rows: list[Row], lines: Sequence[str]) -> str:
    """The title above a table; "" where none is."""
    above = (_TITLE.fullmatch(line) for line in reversed(lines[: rows[0][0] - 1]))
    return next((found[1] or found[2] for found in above if found), "")


def _has_splits(rows: list[Row]) -> bool:
    """Whether a table says the degrees of its runs: a column for one, or for all of them."""
    if {*_DEGREE_NAMES} & columns.meant(rows[0][1]):
        return True
    cells = zip(*(cells for _, cells in rows[1:]), strict=False)
    return any(all(map(_SPLIT.fullmatch, one)) for one in cells)


def _names_told(names: Sequence[Sequence[str]], given: set[str]) -> dict[str, list[str]]:
    """What the names of runs say of each: who drafts, and its split where each name has one.

    Args:
        names: of each run.
        given: columns that say it already.
    """
    told = {"drafter": [next(filter(None, map(drafter_in, one)), "") for one in names]}
    bits = {" ".join(_PRECISION.findall(" | ".join(one).lower())) for one in names}
    if len(bits) > 1 and not given & {"weights", "kv"}:
        warnings.warn(
            f"names of runs differ in a precision ({', '.join(sorted(bits - {''}))}), which is not "
            "read: give a column weights or kv",
            stacklevel=4,
        )
    found = [_NAMED_DEGREE.findall(" | ".join(one).lower()) for one in names]
    splits = [dict(one) for one in found]
    if all(splits) and all(map(lambda one, each: len(one) == len(each), found, splits)):
        every = dict.fromkeys(name for split in splits for name in split)
        told |= {name: [split.get(name, "1") for split in splits] for name in every}
    return {name: x for name, x in told.items() if any(x) and name not in given}


def _runs_told(heads: Sequence[str], given: set[str]) -> dict[str, list[str]]:
    """What the headings of runs say of each: how many are served at once, and as `_names_told`."""
    served = [_AT_ONCE.fullmatch(head) for head in heads]
    told = {"concurrency": [x[1] or x[2] if x else "" for x in served]}
    told = told if any(served) and "concurrency" not in given else {}
    return told | _names_told([[head] for head in heads], given)


def labelled(rows: list[Row]) -> list[Row]:
    """A table with what its columns of names say of each run, unless a column has it."""
    given = columns.meant(rows[0][1])
    if any(len(cells) != len(rows[0][1]) for _, cells in rows):
        return rows
    every = {head: [cells[i] for _, cells in rows[1:]] for i, head in enumerate(rows[0][1])}
    given |= {*_DEGREE_NAMES} if _has_splits(rows) else set()
    names = [cells for head, cells in every.items() if not columns.known_of(head)[0]]
    told = _names_told([*zip(*names, strict=True)], given) if names else {}
    if not told:
        return rows
    more = [[*told], *zip(*told.values(), strict=True)]
    return [(n, [*cells, *x]) for (n, cells), x in zip(rows, more, strict=True)]


def _turned(rows: list[Row]) -> list[Row]:
    """A table that has a run a row, of one that has a run a column as well."""
    named = [cells[0] for _, cells in rows[1:]]
    if any(map(columns.is_time, rows[0][1])) or not any(map(columns.is_time, named)):
        return rows
    width = min(len(cells) for _, cells in rows)
    heads = [cell.lower() for cell in rows[0][1][:width]]
    times = [cells for _, cells in rows[1:] if columns.is_time(cells[0])]
    kept = [
        at
        for at in range(1, width)
        if not _OTHERS.fullmatch(heads[at]) and not any(_CHANGE.fullmatch(x[at]) for x in times)
    ]
    mean = next((name for name in _MEANS if name in heads[1:]), "")
    if mean:
        kept = [heads.index(mean)]
        named = [f"{mean} {name}" if mean in ("median", "p50") else name for name in named]
    told = _runs_told([heads[at] for at in kept], columns.meant(named))
    runs = [
        (rows[0][0], [*(cells[at] for _, cells in rows[1:]), *more])
        for at, *more in zip(kept, *told.values(), strict=True)
    ]
    return [(rows[0][0], [*named, *told]), *runs]


def _alike(timed: list[list[Row]]) -> list[list[Row]]:
    """Tables that differ in columns that mean nothing, or in who drafts, without the former."""
    if len({tuple(rows[0][1]) for rows in timed}) < 2:
        return timed
    lacks = any("drafter" in rows[0][1] for rows in timed)
    found = []
    for rows in timed:
        heads = rows[0][1]
        at = [i for i, x in enumerate(heads) if columns.known_of(x)[0] or LENGTHS.fullmatch(x)]
        drafter = ["drafter", *[""] * (len(rows) - 1)] if lacks and "drafter" not in heads else None
        kept = [(n, [cells[i] for i in at if i < len(cells)]) for n, cells in rows]
        found.append(
            [(n, [*cells, x]) for (n, cells), x in zip(kept, drafter, strict=True)]
            if drafter
            else kept
        )
    return found


def _best(timed: list[list[Row]]) -> list[list[Row]]:
    """Of tables that differ in their time per token alone those with the best one of `columns`."""
    heads = [rows[0][1] for rows in timed]
    times = [[columns.column_of(x)[1] for x in head if columns.is_time(x)] for head in heads]
    others = {tuple(x for x in head if not columns.is_time(x)) for head in heads}
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
    every = [labelled(_turned(rows)) for rows in drawn(text)]
    timed = [rows for rows in every if any(map(columns.is_time, rows[0][1]))]
    if not every:
        return []
    timed = _alike(_best([x for x in timed if not _PARTS.match(x[0][1][0])] or timed))
    heads = {tuple(rows[0][1]) for rows in timed}
    if len(heads) > 1:
        shown = "; ".join(" | ".join(head) for head in heads)
        raise ValueError(f"tables with other columns ({shown}); give each as a file by itself")
    lines = text.translate(_BARS).splitlines()
    tables, head = timed or every[:1], (timed or every)[0][0]
    given = columns.meant(head[1])
    given |= {"isl", "osl"} if any(map(LENGTHS.fullmatch, head[1])) else set()
    rows = [head, *(row for table in tables for row in table[1:])]
    titles = [[_titled(one, lines)] for one in tables]
    given |= {*_DEGREE_NAMES} if _has_splits(rows) else set()
    for name, told in _names_told(titles, given).items():
        cells = [x for x, one in zip(told, tables, strict=True) for _ in one[1:]]
        rows = [(n, [*row, x]) for (n, row), x in zip(rows, [name, *cells], strict=True)]
        given.add(name)
    settings = (cells for one in every if one not in timed for cells in _settings(one))
    listed = (f"- {name}: {value}" for name, value in settings)
    outside = "\n".join([*(line for line in lines if not _LINE.fullmatch(line)), *listed])
    more = {name: value for name, value in own(outside).items() if name not in given}
    if {"isl", "osl"} & {*given, *more}:
        more.pop("isl/osl", None)
    first, *others = rows
    at = first[1].index("drafter") if "drafter" in first[1] else None
    is_plain = [at is not None and cells[at] == "none" for _, cells in others]
    return [
        (first[0], [*first[1], *more]),
        *(
            (n, [*cells, *("" if no_drafts and x == "accepted" else more[x] for x in more)])
            for (n, cells), no_drafts in zip(others, is_plain, strict=True)
        ),
    ]


def _settings(rows: list[Row]) -> list[list[str]]:
    """Names and values of a table of settings: of two columns, or of one that is headed so."""
    at = next((i for i, cell in enumerate(rows[0][1]) if cell.lower() == "value"), 1)
    width = len(rows[0][1])
    is_one = width == 2 or rows[0][1][at].lower() == "value"
    return [[x[0], x[at]] for _, x in rows if len(x) == width] if is_one and width > 1 else []


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
        if LENGTHS.fullmatch(heading.strip()):
            pairs = [re.split(r"\s*[/:x]\s*", cell.strip(), maxsplit=1) for cell in cells]
            two = [(pair[0], pair[-1]) for pair in pairs]
            turned.append(["isl", *map(_length, (one for one, _ in two))])
            turned.append(["osl", *map(_length, (other for _, other in two))])
        elif _DEGREES.fullmatch(heading.strip()):
            names = re.findall("tp|pp|dp|ep", heading.lower())
            parts = [re.split(r"\s*[/:x,&+\u00d7]\s*", cell.strip()) for cell in cells]
            padded = [[*one, *[""] * len(names)][: len(names)] for one in parts]
            turned += [[name, *values] for name, *values in zip(names, *padded, strict=True)]
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
    name, _, unit = columns.known_of(heading)
    cells = [_DEVIATION.sub("", cell) for cell in cells] if name == "tpot" else list(cells)
    if name in columns.COUNTS:
        cells = [_REMARK.sub("", cell.strip()) for cell in cells]
    numbers = [(cell, _COUNTED.fullmatch(cell.strip())) for cell in cells]
    units = {columns.UNITS[found[2].lower()] for _, found in numbers if found and found[2]}
    if name != "tpot" or len(units) > 1 or (unit and units - {unit}):
        return [heading, *(cell for cell, _ in numbers)]
    head = heading if unit or not units else f"{heading} ({min(units)})"
    return [head, *(found[1] if found else cell for cell, found in numbers)]
