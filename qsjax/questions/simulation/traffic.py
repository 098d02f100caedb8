"""Requests over time: when they arrive, and how long their prompts and answers are."""

import datetime
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from qsjax.output import sheets
from qsjax.records.conversion import number_of_text
from qsjax.records.units import MS, TIMES, US

# Accepted headings of each column of a trace.
COLUMNS = sheets.LENGTHS | sheets.headings("trace")
COLUMNS["arrival"] += tuple(f"{name}_{unit}" for name in COLUMNS["arrival"] for unit in TIMES)
_MOST = 100_000_000  # requests of a trace
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# Above these a number of seconds since 1970 is one of milliseconds and so on: 1e11 s are in 5138.
_EPOCHS = ((1e17, TIMES["ns"]), (1e14, US), (1e11, MS))


class Traffic(NamedTuple):
    """Requests to one attention replica, in order of arrival; arrays have shape (requests,).

    Attributes:
        arrival: time of arrival [s]; in a closed loop that of the first request of each user.
        prompt: tokens of the prompt.
        output: tokens of the answer, the first one included.
        cached: tokens of the prompt whose cache is there already (a shared prefix).
        users: requests in flight in a closed loop, in which each answer lets the next request in;
            0 says that they arrive by the clock.
        think: times that users take from an answer to their next request, in order of answers
            [s].
    """

    arrival: np.ndarray
    prompt: np.ndarray
    output: np.ndarray
    cached: np.ndarray
    users: np.ndarray
    think: np.ndarray


def draw_lengths(spec: str | float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths of `count` requests [tokens], whole numbers of at least 1.

    Args:
        spec: a number (8k is 8,192); "800-1000" for all between with equal chances;
            "lognormal:1000:0.5" for a median and the standard deviation of the logarithm.
        count: requests.
        rng: source of chance.

    Raises:
        ValueError: the text is none of these.
    """
    text = str(spec).strip()
    number = r"(\d+(?:\.\d+)?[kM]?)"
    if re.fullmatch(number, text) and number_of_text(text) >= 1:
        return np.full(count, np.rint(number_of_text(text)))
    between = re.fullmatch(rf"{number}\s*-\s*{number}", text)
    if between:
        low, high = (int(number_of_text(x)) for x in between.groups())
        if 1 <= low <= high:
            return rng.integers(low, high + 1, count).astype(np.float64)
    spread = re.fullmatch(rf"lognormal:{number}:{number}", text)
    if spread and number_of_text(spread[1]) >= 1:
        median, sigma = (number_of_text(x) for x in spread.groups())
        drawn = median * np.exp(sigma * rng.standard_normal(count))
        return np.maximum(1.0, np.rint(drawn))
    raise ValueError(
        f"length {text!r} is not allowed; give a number of at least 1, a range such as 800-1000, "
        "or lognormal:MEDIAN:SIGMA such as lognormal:1000:0.5"
    )


LENGTH = "a number such as 900 or 8k, a range such as 800-1000, or lognormal:MEDIAN:SIGMA"


class Demand(NamedTuple):
    """What requests look like, whenever they come.

    Attributes:
        isl: tokens of the prompts, as `draw_lengths` reads them.
        osl: tokens of the answers.
        prefix_hit_rate: share of each prompt that is already cached.
        requests: how many are simulated.
        think: mean time that a user takes from an answer to the next request [s].
        seed: seed of lengths and arrivals.
    """

    isl: str | float
    osl: str | float
    prefix_hit_rate: float = 0.0
    requests: int = 1000
    think: float = 0.0
    seed: int = 0


def _requests(
    demand: Demand, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count, hit_rate, problems = demand.requests, demand.prefix_hit_rate, []
    if count < 1:
        problems.append(f"  requests: {count} is not allowed; give at least 1")
    if not 0 <= hit_rate <= 1:
        problems.append(f"  prefix_hit_rate: {hit_rate:g} is not allowed; give a share from 0 to 1")
    if not 0 <= demand.think < np.inf:
        problems.append(f"  think: {demand.think:g} s is not allowed; give at least 0")
    lengths = []
    for spec in (demand.isl, demand.osl):
        try:
            lengths.append(draw_lengths(spec, max(count, 1), rng))
        except ValueError as error:
            problems.append(f"  {error}")
    if problems:
        raise ValueError("\n".join(["traffic:", *problems]))
    prompt, output = lengths
    # The last token of a prompt is always computed: it makes the first token of the answer.
    return prompt, output, np.minimum(np.floor(hit_rate * prompt), prompt - 1.0)


def traffic_of(
    demand: Demand, *, users: float | None = None, rate: float | None = None, replicas: int = 1
) -> Traffic:
    """The requests of one of `replicas` that share users, or a rate [requests/s], evenly.

    The replica with the most users is taken: an even deal leaves it ceil(users / replicas). Of
    arrivals dealt at random each replica sees a Poisson process of its own.

    Raises:
        ValueError: with everything that is out of range.
    """
    if users is not None:
        return closed_loop(int(np.ceil(users / replicas)), demand)
    assert rate is not None
    return open_loop(rate / replicas, demand)


def closed_loop(users: int, demand: Demand) -> Traffic:
    """Requests of `users` who each send the next one when an answer is there.

    Times to think are exponential, as in the machine-repair model of interactive systems (Denning
    and Buzen, The operational analysis of queueing network models, 1978): with equal times, those
    who meet once would meet for ever. Users who think are met anywhere on their way: each begins
    with a pause, and the first answer is a part of one.

    Raises:
        ValueError: with everything that is out of range.
    """
    prompt, output, hit = _requests(demand, np.random.default_rng(demand.seed))
    pauses = np.random.default_rng([demand.seed, 2])
    starts, think = (demand.think * pauses.exponential(size=demand.requests) for _ in range(2))
    arrival = np.zeros(demand.requests)
    arrival[:users] = np.sort(starts[:users])
    if demand.think:
        output[:users] = np.ceil(output[:users] * pauses.uniform(size=demand.requests)[:users])
    return Traffic(arrival, prompt, output, hit, np.array(float(users)), think)


def met_midway(work: Traffic, running: float, seed: int = 0) -> Traffic:
    """The requests of a closed loop whose first `running` ones are met anywhere in their answers.

    Users who begin together, as in a benchmark, drift apart in the end, but over dozens of answers
    where these are nearly equal, and never where all are equal, which stay as they are. Users who
    think are met on their way already.
    """
    if not work.users or np.ptp(work.output) == 0 or work.think.any():
        return work
    count = int(min(running, float(work.users)))
    left = np.ceil(work.output[:count] * np.random.default_rng([seed, 3]).uniform(size=count))
    prompt, output, cached = (x.copy() for x in (work.prompt, work.output, work.cached))
    # What they have made is part of their context, all of which but the last token is held.
    prompt[:count] += output[:count] - left
    output[:count], cached[:count] = left, prompt[:count] - 1.0
    return work._replace(prompt=prompt, output=output, cached=cached)


def open_loop(rate: float, demand: Demand) -> Traffic:
    """Requests that arrive by chance, `rate` of them a second: a Poisson process, given its number.

    All come within exactly requests / rate seconds, so that a short run has the rate asked for.
    Gaps and lengths come from streams of their own, so that two rates with one seed differ in
    nothing but the clock.

    Raises:
        ValueError: with everything that is out of range.
    """
    lengths, gaps = (np.random.default_rng([demand.seed, stream]) for stream in (0, 1))
    prompt, output, hit = _requests(demand, lengths)
    moments = np.cumsum(gaps.exponential(size=demand.requests + 1))
    arrival = moments[:-1] / moments[-1] * (demand.requests / rate)
    return Traffic(arrival, prompt, output, hit, np.array(0.0), np.zeros_like(arrival))


# Columns of data sets of texts: ShareGPT, LMSYS-Chat, vLLM's custom ones, batches of OpenAI.
_TEXTS = {"conversations", "conversation", "messages", "prompt"}


def _check(header: Sequence[str], columns: Mapping[str, int], name: str) -> None:
    missing = [column for column in ("arrival", "isl", "osl") if column not in columns]
    if "isl" in missing and (texts := _TEXTS.intersection(header)):
        raise ValueError(
            f"{name}: texts ({', '.join(sorted(texts))}), not their lengths; count their tokens "
            "with the model's tokenizer and give these with --isl and --osl (900, or "
            "lognormal:MEDIAN:SIGMA), or a CSV with the columns arrival [s], isl and osl"
        )
    if missing:
        raise ValueError(
            f"{name}: the first row must name the columns arrival [s], isl and osl, and optionally "
            f"cached; it lacks {', '.join(missing)} and has {', '.join(header) or 'nothing'}"
        )


def _seconds(text: str) -> float:
    """A number, or a date and time, which is of UTC where it does not say."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.datetime.fromisoformat(text.replace("/", "-"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _row(cells: Mapping[str, str]) -> tuple[float, ...]:
    values = {"cached": 0.0, "count": 1.0}
    for column, text in cells.items():
        if column == "delay" or (not text and column in values):
            continue
        try:
            value = _seconds(text) if column == "arrival" else float(_THOUSANDS.sub("", text))
        except ValueError:
            kind = "a number, or a date with a time" if column == "arrival" else "a number"
            raise ValueError(f"{column} {text!r} is not {kind}") from None
        least = 0.0 if column in ("arrival", "cached") else 1.0
        if not least <= value < np.inf:
            raise ValueError(f"{column} {text} is not allowed; give at least {least:g}")
        if column != "arrival" and value != int(value):
            raise ValueError(f"{column} {text} is not a whole number of tokens")
        values[column] = value
    if values["cached"] >= values["isl"]:
        raise ValueError(
            f"cached {values['cached']:g} is not below isl {values['isl']:g}; the last token of a "
            "prompt is always computed"
        )
    return tuple(values[name] for name in ("arrival", "isl", "osl", "cached", "count"))


def _scale(header: Sequence[str], columns: Mapping[str, int], arrival: np.ndarray) -> float:
    """Seconds of the unit of arrivals: by their heading or size, or those of Mooncake's form.

    Sources: https://github.com/kvcache-ai/Mooncake (README), aiperf (docs, trace replay), AIBrix
    (benchmarks/generator/workload_generator), and of the form with `chat_id`, in seconds,
    https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon.
    """
    heading = sheets.plain(header[columns["arrival"]])
    stated = TIMES.get(heading.rpartition("_")[2])
    if stated:
        return stated
    is_aibrix = {"prompt", "prompt_length"} <= {*header}
    if heading == "timestamp" and (
        is_aibrix or ("input_length" in header and "chat_id" not in header)
    ):
        return MS
    return next((scale for least, scale in _EPOCHS if arrival.max() > least), 1.0)


def _refuse_turns(
    header: Sequence[str], lines: Sequence[tuple[int, Mapping[str, str]]], name: str
) -> None:
    """Refuse sessions whose later turns come when the answers before them are there.

    Raises:
        ValueError: with the closed loop that is like it.
    """
    begins = [cells for _, cells in lines if cells.get("arrival") in ("0", "0.0")]
    if "api_time" in header and len(begins) > 1:
        raise ValueError(
            f"{name}: each session counts its time from its own begin, so nothing says when they "
            "come; give one session, or users instead of a trace: --users N"
        )
    if "dependencies" in header:
        raise ValueError(
            f"{name}: its requests wait for each other (dependencies), so nothing says when they "
            "come; give users instead of a trace: --users N"
        )
    waits = [cells for _, cells in lines if cells.get("delay") and not cells.get("arrival")]
    if not waits:
        return

    def mean(column: str, rows: Sequence[Mapping[str, str]]) -> str:
        numbers = [
            float(x) for row in rows if (x := row.get(column, "")).replace(".", "", 1).isdigit()
        ]
        return f"{sum(numbers) / len(numbers):.0f}" if numbers else "N"

    every = [cells for _, cells in lines]
    raise ValueError(
        f"{name}: {len(waits)} of {len(lines)} requests wait for the answer before them (delay), "
        "so nothing says when they come; give the same as users instead of a trace: --users N "
        f"--think {mean('delay', waits)}ms --isl {mean('isl', every)} --osl {mean('osl', every)}"
    )


def read_trace(text: str, name: str = "trace") -> Traffic:
    """Requests from CSV: columns arrival [s], isl, osl, and if wanted cached [tokens].

    Azure's traces, BurstGPT, Splitwise's, Mooncake's (JSON a line, in milliseconds) and Bailian's
    (in seconds) are read as published, without requests that failed; what of Mooncake's and
    Bailian's prompts comes again is not.

    Args:
        text: content of the file; the first row names the columns. Rows are sorted by arrival, and
            the first one arrives at 0; arrivals are numbers, or dates with a time.
        name: what messages call it.

    Raises:
        ValueError: with the number of every bad row (the heading is row 1).
    """
    header, columns, lines = sheets.cells_of(text, COLUMNS, name)
    _refuse_turns(header, lines, name)
    _check(header, columns, name)
    told = [(number, cells) for number, cells in lines if any(cells.values())]
    if others := len(lines) - len(told):
        warnings.warn(f"{name}: left out are rows of no request: {others:,}", stacklevel=2)
    lines = told
    if header[columns["osl"]].strip().lower() == "response tokens":  # BurstGPT's failures have none
        answered = [(number, cells) for number, cells in lines if cells["osl"] != "0"]
        if failed := len(lines) - len(answered):
            warnings.warn(
                f"{name}: {failed:,} requests without an answer are left out", stacklevel=2
            )
        lines = answered
    rows = sheets.gathered(((number, partial(_row, cells)) for number, cells in lines), name)
    table = np.array(sorted(rows, key=lambda row: row[0]))
    if table[:, 4].sum() > _MOST:
        raise ValueError(f"{name}: {table[:, 4].sum():,.0f} requests; give at most {_MOST:,}")
    arrival, prompt, output, cached, _ = np.repeat(table, table[:, 4].astype(int), axis=0).T
    scale = _scale(header, columns, arrival)
    is_mooncakes = sheets.plain(header[columns["arrival"]]) == "timestamp" and scale == MS
    is_json, longest = text.lstrip()[:1] in ("{", "["), arrival.max()
    is_dense = np.ptp(arrival) < 20.0 * len(arrival)  # 50 requests a second, of milliseconds
    is_parted = not {"hash_ids", "prompt"} & {*header} and bool((arrival % 1.0).any())
    is_doubtful = is_dense or is_parted or not is_json
    if is_mooncakes and is_doubtful and longest <= _EPOCHS[-1][0]:
        warnings.warn(
            f"{name}: timestamp beside input_length counts in milliseconds, as in Mooncake's "
            "traces; call it timestamp_s if it is in seconds",
            stacklevel=2,
        )
    arrival = arrival * scale
    pauses = np.zeros_like(arrival)
    return Traffic(arrival - arrival[0], prompt, output, cached, np.array(0.0), pauses)


def dealt(traffic: Traffic, replicas: int) -> Traffic:
    """What one of `replicas` gets of a trace that is dealt at random."""
    keep = np.random.default_rng([0, 2]).integers(replicas, size=len(traffic.arrival)) == 0
    keep[0] = keep[0] or not keep.any()
    kept = {name: x[keep] for name, x in traffic._asdict().items() if np.ndim(x)}
    return traffic._replace(**kept)
