"""How users' files name columns and write numbers."""

import re
from collections.abc import Iterable
from typing import Any

from qsjax.evidence.measurements.names import TABLE, metric_of

# Other names of a column, of which the first that a file has holds.
NAMES: dict[str, list[str]] = TABLE["columns"]
# What benchmarks measure beside the time of a token.
_BESIDE = re.compile("|".join(TABLE["beside"]))
# `tpot_mean` and `tpot_ms_mean` for `mean_tpot`
_BEHIND = re.compile(
    r"(\w*?(?:tpot|itl|ttft|e2el?))(?:_(ms|us|s))?_(mean|avg|med(?:ian)?|std|min|max|p\d+)"
)
# Tokens a second and user, which some count from the first token on and others from the request.
_RATE = re.compile(r"\w*(?:tok|tps)[\w /()]*user\W*|\w*(?:interactivity|intvty)\w*.*", re.DOTALL)
# Tokens a second of all requests.
_ALL = re.compile(
    r"(?:\w+[ _])?(?:tok(?:en)?s?(?:[ _/]|_?per_?)+s|tps|throughput|tput)\b.*", re.DOTALL
)
# "TPOT excl. first token"
_WITHOUT_FIRST = re.compile(r"(?<=tpot)_(?:excl\w*|without|w_o)_(?:the_)?(?:1st|first)\w*$")
COLUMNS = {spelled: name for name, others in NAMES.items() for spelled in (name, *others)}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}  # of each unit of times
UNITS = {spelled: unit for unit, every in TABLE["units"].items() for spelled in every}
# Numbers of which a part behind a point is one thousand of them.
COUNTS = tuple("tp pp dp ep kvp gpus batch concurrency context isl osl".split())
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+|[+-]?\d+,\d+")


def column_of(heading: str) -> tuple[str, str, str]:
    """What a heading means: its column ("" for none), its own name, and the unit that it states.

    >>> column_of("Mean TPOT (ms)")
    ('tpot', 'mean_tpot', 'ms')
    """
    text = heading.strip().lower()
    bracket = re.search(r"[(\[](.*?)[)\]]", text)
    unit = UNITS.get(bracket[1].strip().split("/")[0], "") if bracket else ""
    if bracket:
        text = text.replace(bracket[0], "")
    if "hit" in text:  # of a share, what tells 1 % from all
        text = f"{text} pct" if "%" in heading else text
    name = re.sub(r"[^\w]+", "_", text).strip("_")
    head, _, tail = name.rpartition("_")
    if not unit and head and tail in UNITS:
        name, unit = head, UNITS[tail]
    name = re.sub(r"^decode_(?=ms_)", "", name)
    name = _WITHOUT_FIRST.sub("", re.sub(r"^med_", "median_", name))
    if name.endswith("_s_mean"):
        unit = "s"
    elif name in ("ms_per_token", "ms_token", "ms_tok"):
        unit = "ms"
    elif behind := _BEHIND.fullmatch(name):
        which = "median" if behind[3] == "med" else behind[3]
        name, unit = f"{which}_{behind[1]}", unit or behind[2] or ""
    if "%" in text and COLUMNS.get(name) == "tpot":  # a change of it
        return "", name, ""
    if unit and COLUMNS.get(name) in COUNTS:  # "Output tokens/s" is a rate, no length
        return "", name, unit
    if name in COLUMNS:
        return COLUMNS[name], name, unit
    if _BESIDE.fullmatch(name):
        return "", name, unit
    raise KeyError(heading)


def known_of(heading: str) -> tuple[str, str, str]:
    """As `column_of`, and nothing of a heading that is not known."""
    try:
        return column_of(heading)
    except KeyError:
        return "", "", ""


def meant(headings: Iterable[str]) -> set[str]:
    """The columns that some headings mean."""
    return {known_of(heading)[0] for heading in headings}


def is_time(heading: str) -> bool:
    """Whether a heading means a time per token."""
    return known_of(heading)[0] == "tpot"


def rate_in(headings: Iterable[str]) -> str:
    """What to write in place of tokens a second, of a user or of all; "" where none means them."""
    plain = [one.strip() for one in headings]
    for rate, lacks in (
        (_RATE, "if {!r} is counted from the first token on, give 1000 over it as tpot_ms"),
        (_ALL, "{!r} counts the time in which prompts are read too: give the mean time per "
               "output token, as benchmarks print it"),
    ):  # fmt: skip
        if found := next((one for one in plain if rate.fullmatch(one.lower())), ""):
            return lacks.format(found)
    return ""


def rank_of(column: str, name: str) -> int:
    """The place of a name among those of its column: of several in one file the first holds."""
    return [column, *NAMES[column]].index(name)


def has_decimal_commas(cells: Iterable[str]) -> bool:
    """Whether a file writes 7,5 for seven and a half: one of its numbers cannot be read else."""
    found = (cell.strip() for cell in cells)
    return any(_COMMA.fullmatch(cell) and not _THOUSANDS.fullmatch(cell) for cell in found)


def number(text: str, column: str, *, has_commas: bool, is_mean: bool = False) -> float:
    """A number as people write it: 7.5, 7,5 in a file with such commas, 4,608, 4 608 or 4k tokens.

    Args:
        text: the cell.
        column: its column; counts have no part behind the point of three digits.
        has_commas: whether the file has decimal commas.
        is_mean: of a count, which may have a part behind the point.

    Raises:
        ValueError: it is none, or may be one of two; with what to write.
    """
    plain = re.sub(r"(?<=\d)[\s'\u00a0\u202f](?=\d{3}(?:\D|$))", "", text.strip().strip("\"'"))
    if has_commas:
        plain = re.sub(r"\.(?=\d{3}(?:\D|$))", "", plain).replace(",", ".")
    elif re.fullmatch(rf"{_THOUSANDS.pattern}\.\d+", plain):
        plain = plain.replace(",", "")
    elif _THOUSANDS.fullmatch(plain):
        if column not in COUNTS:
            raise ValueError(f"{text!r}; it may be {plain.replace(',', '.')}: give a decimal point")
        plain = plain.replace(",", "")
    elif not is_mean and column in COUNTS and re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+", plain):
        raise ValueError(f"{text!r}; give a number without a point, {plain.replace('.', '')}")
    if column in COUNTS and (binary := re.fullmatch(r"(\d+(?:\.\d+)?)[kK]", plain)):
        return float(binary[1]) * 1024.0
    try:
        return float(plain)
    except ValueError:
        hint = " with a decimal point" if "," in text else ""
        raise ValueError(f"{text!r}; give a number{hint}") from None


def time_metric(name: str) -> str:
    """The metric of a column of times per token: a mean, unless it says that it is a median."""
    metric = metric_of(name)
    return metric if metric in ("TPOT", "median_ITL") else "TPOT"


# Fields of a record as JSON, by the column that means them.
_ALIKE = (
    "model tp pp dp ep kvp batch concurrency isl osl engine expert_kernels cached_tokens".split()
)
_FIELDS: dict[str, str] = {**dict(zip(_ALIKE, _ALIKE, strict=True)), **TABLE["fields"]}
# What says nothing, of hardware too: what PyTorch calls a kind of device.
_NOTHING = ("auto", "none", "", "cuda", "gpu", "npu", "xpu", "hpu", "hip", "rocm")
_NUMBERS = ("value", *(field for column, field in _FIELDS.items() if column in COUNTS))


def as_record(given: dict[str, Any], index: int) -> dict[str, Any]:
    """A record of a user's JSON under the names of the fields, with numbers for their texts.

    A field that is given under its own name stays; a time per token is the value of a record
    without one.
    """
    record = dict(given)
    known: list[tuple[int, str, tuple[str, str, str]]] = []
    for key in given:
        column, name, unit = known_of(key)
        rank = rank_of(column, name) if column in NAMES and name in COLUMNS else 0
        known.append((rank, key, (column, name, unit)))
    for _, key, (column, name, unit) in sorted(known, key=lambda one: one[0]):
        field, value = _FIELDS.get(column), given[key]
        if field is not None and record.get(field) is None and value not in _NOTHING:
            record[field] = value
        is_number = not isinstance(value, dict | list)  # of a distribution without mean or median
        if column == "tpot" and unit and is_number and record.get("value") is None:
            record |= {"metric": time_metric(name), "unit": unit, "value": value}
            if re.match("median_|p50_", name):
                record.setdefault("statistic", "median")
    if (record.get("model") and record.get("gpu")) or record.get("metric"):
        record.setdefault("id", f"record {index + 1}")
        record.setdefault("category", "user")
    for field in _NUMBERS:
        if isinstance(record.get(field), str):
            commas = has_decimal_commas([record[field]])
            column = next((c for c, f in _FIELDS.items() if f == field), field)
            try:
                record[field] = number(record[field], column, has_commas=commas)
            except ValueError:
                continue  # stays, and is told as no number
    return record
