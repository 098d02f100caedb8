"""Reports of benchmarks that hold runs in a shape of their own, as runs under plain names.

Sources of the shapes: guidellm (benchmark/schemas, 0.2 to 0.8), aiperf (config/phases,
common/models/export_models) and genai-perf (export_data/csv_exporter), Hugging Face's
inference-benchmarker (writers), inference-perf (README: "Metrics"), vLLM (benchmarks/latency.py,
throughput.py), the summary of MLPerf's LoadGen (https://github.com/mlcommons/inference).
"""

import csv
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from qsjax import engines
from qsjax.catalog.reading import value_at
from qsjax.evidence.measurements import tables
from qsjax.evidence.measurements.columns import SECONDS, is_time, known_of
from qsjax.evidence.measurements.names import TABLE, find_model

Run = dict[str, Any]
# What a report does not say, as a user may write it at the top of the file.
OWN = "model hardware gpu tp pp dp ep kvp gpus concurrency weights kv engine".split()
# Those of them that are texts.
_TEXTS = ("model", "hardware", "gpu", "weights", "kv", "engine")
_INSTEAD = "give a CSV with the columns model, hardware, tp, concurrency, isl, osl and tpot_ms"


def _over(total: Any, count: Any) -> float | None:
    """A ratio of two numbers; None where one is none, or 0."""
    is_ratio = all(isinstance(x, int | float) and x for x in (total, count))
    return total / count if is_ratio else None


def _in_flight(rate: Any, seconds: Any) -> float | None:
    """Requests in flight in the mean, by Little's law."""
    return _over(seconds, _over(1.0, rate))


def _said(report: Mapping[str, Any], rule: str) -> Any:
    """What a rule of the table `reports` says of a run in its report."""
    path, _, wanted = rule.partition(" = ")
    if wanted:
        return 1 if str(value_at(report, path)) == wanted else None
    path, _, more = rule.partition(" + ")
    if more:
        both = _said(report, path), _said(report, more)
        return None if None in both else sum(both)
    path, _, below = rule.partition(" / ")
    if below:
        return _over(_said(report, path), _said(report, below))
    path, _, unit = path.partition(" in ")
    if unit:
        told = str(value_at(report, f"{path.rpartition('.')[0]}.units")).split("/")[0]
        seconds = SECONDS.get(told)
        return _over(value_at(report, path), seconds and 1.0 / seconds)
    return float(path) if path[0].isdigit() else value_at(report, path)


def _runs(given: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[Run]:
    """The runs of a report by its table, under the names of its fields."""
    every = value_at(given, told["runs"]) if "runs" in told else [given]
    for one in every if isinstance(every, list) else ():
        run = {**one, "report": given} if isinstance(one, Mapping) else {}
        if None in [_said(run, rule) for rule in told["needs"]] or run.get("id") == "warmup":
            continue
        said = {
            name: [x for rule in rules if (x := _said(run, rule)) not in (None, 0, "")]
            for name, rules in told["fields"].items()
        }  # a mean of 0 is that of no request
        yield {name: found[0] for name, found in said.items() if found}


def runs_of(given: Mapping[str, Any]) -> list[Run]:
    """The runs of a report in a shape of its own; none of another object.

    Raises:
        ValueError: a report without times per token; with what to give instead.

    >>> runs_of({"tp": 2, "benchmarks": [{"config": {"strategy": {"streams": 4}},
    ...     "metrics": {"inter_token_latency_ms": {"successful": {"mean": 7.5}}}}]})
    [{'inter_token_latency_ms': 7.5, 'concurrency': 4, 'tp': 2}]
    """
    own = {name: given[name] for name in OWN if isinstance(given.get(name), str | int | float)}
    for told in TABLE["reports"].values():
        if found := [one | own for one in _runs(given, told)]:
            return found
    here = {**given, **(given["metadata"] if isinstance(given.get("metadata"), dict) else {})}
    for refused in TABLE["refused"].values() if "streaming_metrics" not in given else ():
        if all(key in here for key in refused["keys"]):
            raise ValueError(refused["why"].format(instead=_INSTEAD))
    return []


# What vLLM, SGLang and trtllm-bench print at the end of a benchmark, under the names of files.
_PRINTED: dict[str, str] = TABLE["printed"]
_TIMED = re.compile(r"(?:Mean|Median) (?:TPOT|ITL) \(ms\)")
_SAID = re.compile(r"(?m)^[ \t#]*([A-Za-z][^:\n]*?)[ \t]*:[ \t]+(\S.*?)[ \t]*$")
# The same in a document, whose writers set the names in bold: `- **Model:** Qwen3-32B (dense)`.
_BOLD = re.compile(
    r"(?m)^[ \t]*(?:[-*+][ \t]+)?(?:\*\*|__)([A-Za-z][\w /]*?)(?::(?:\*\*|__)|(?:\*\*|__)[ \t]*:)"
    r"[^\w\n]*(\w[^\n(]*)"
)
# Or in a list: `- Model: Qwen3-32B`.
_LISTED = re.compile(r"(?m)^[ \t]*[-*+][ \t]+([A-Za-z][\w /]*?)[ \t]*:[ \t]+(\w[^\n(]*)")
# What begins a line of a result that is printed as a list.
_ITEM = re.compile(r"(?m)^[ \t]*[*+-][ \t]+(?=[A-Z][^:*\n]*:[ \t]+\d)")
_TOKENS = re.compile(r"(\d[\d,]*k?)(?: tokens?)?(?: (?:per|each)\b.*)?", re.IGNORECASE)
# The line that begins a result of vLLM's and SGLang's, and the one that ends it.
_TITLE = re.compile(r"(?m)^.*Serving Benchmark Result.*$")
_TITLE_AT = re.compile(r"(?m)^(.*?)=+ *Serving Benchmark Result")
_END = re.compile(r"(?m)^[ \t#]*={20,}[ \t]*$")
# The model of the command that stands in front of a result, or of what it prints of its arguments.
_MODEL = re.compile(r"--model[= ]['\"]?([\w./-]+)|\bNamespace\([^\n]*?\bmodel='([^']+)'")
_SERVER = re.compile(r"\b(?:vllm|sglang) serve\b|launch_server|trtllm-serve|api_server")
_DRAFTED = re.compile(r"--(?:speculative[-_](?:config|algo\w*|model)|spec[-_]method)\b.*")
_TRTLLM = "= PERFORMANCE OVERVIEW"
# Lengths that a user may write beside what was printed.
LENGTHS = ("isl", "osl", "context", "batch")
BOTH = "isl/osl"  # lengths of prompts and of answers, as 1024/256
_OF_LINES = (*OWN, *LENGTHS, BOTH, "accepted")
_UNSAID = ("None", "auto")  # values of lines that say nothing
# A command of a server, as long as its lines go on.
_COMMAND = re.compile(rf"(?m)^.*(?:{_SERVER.pattern})(?=.* --?\w|.*\\[ \t]*$)(?:.*\\[ \t]*\n)*.*$")
# Of a server that is not all of the deployment.
_DISAGGREGATED = re.compile(r"disaggregation[-_]mode|kv_(?:producer|consumer)")
_DEGREES = ("tp", "pp", "dp", "ep", "kvp", "gpus")
# Columns of what the prefix cache held, and their names in files.
_CACHED = ("hit_rate", "cached_tokens")
_CACHED_NAMES = [name for column in _CACHED for name in (column, *TABLE["columns"][column])]
# A number in front of a unit or a remark: "15.0 RPS.", "13.90 (-7%)"; but none of "8, 16".
_NUMBER = re.compile(r"\d[\d.,]*(?<=\d)(?=\s)")


def _drafter(server: str) -> str:
    """Who drafts for a server by its command; "" for none."""
    drafts = _DRAFTED.search(server)
    return ("MTP" if "mtp" in drafts[0].lower() else "EAGLE") if drafts else ""


def own_lines(text: str) -> dict[str, str]:
    """What a user's own lines say, such as `hardware: H100`, by column.

    Of names in bold, or in a list, those that a document gives one value.
    """
    said = [
        (BOTH if tables.LENGTHS.fullmatch(name) else name, x) for name, x in _SAID.findall(text)
    ]
    own = {name: x for name, x in said if name in _OF_LINES}
    told: dict[str, set[str]] = {}
    listed = [*_BOLD.findall(text), *_LISTED.findall(text)]
    # Of all requests AISBench says how many ran and how many might.
    mean = {known_of(name)[1] for name, _ in listed} >= {"concurrency", "max_concurrency"}
    for name, x in (one for one in listed if not mean or known_of(one[0])[1] != "max_concurrency"):
        column = BOTH if tables.LENGTHS.fullmatch(name) else known_of(name)[0]
        value = x.rstrip("`]*_ \t")
        if column in LENGTHS:  # "1024 tokens", but no range
            value = (number[1] if (number := _TOKENS.fullmatch(value)) else "").replace(",", "")
        if value and column in _OF_LINES:
            told.setdefault(column, set()).add(value)
    return {name: min(x) for name, x in told.items() if len(x) == 1} | own


def beside_tables(text: str) -> dict[str, str]:
    """What a user's own lines and the commands of servers say of tables, by column.

    Raises:
        ValueError: of several servers some have drafts.
    """
    drafters = {_drafter(one) for one in _SERVER.split(text)[1:]}
    if len(drafters) > 1:
        raise ValueError(
            "some of its servers have drafts and others none; give the results of each as a file"
        )
    return own_lines(text) | ({"drafter": drafters.pop()} if any(drafters) else {})


def said_in(text: str) -> dict[str, str]:
    """What the lines of a printed result say, under the names of files."""
    return {_PRINTED.get(name, name): value for name, value in _SAID.findall(text)}


def _line(name: str, value: str) -> tuple[str, float | str]:
    """A line of a printed result under the name of files, its number without what is behind it."""
    column, own, _ = known_of(name)
    name = _PRINTED.get(name, own if column in _CACHED else name)
    if column in _CACHED:  # "75.0%"
        return name, value.split()[0]
    number = None if name in _TEXTS else _NUMBER.match(value)
    return name, _cell(number[0] if number else value)


def _served(text: str) -> Run:
    """What the last command of a server in front of a result says, by column; {} without one."""
    *_, command = ["", *(one[0] for one in _COMMAND.finditer(text))]
    if not command or _DISAGGREGATED.search(command):
        return {}
    try:
        flags = engines.read(command)
        known = find_model(flags.model or "")
        if known and not known.spec.is_moe:
            flags = engines.read(command, is_moe=False)
    except ValueError:  # of another program, or cut
        return {}
    said = {
        **{name: getattr(flags, name) for name in ("tp", "pp", "ep", "kvp", "model", "engine")},
        "dp": flags.dp * flags.replicas,
        "weights": flags.weights,
        "kv": "fp8" if flags.bytes_kv == 1.0 else None,
        "draft_tokens": flags.verified if flags.drafter else None,
        "notes": flags.words,
    }
    return {name: x for name, x in said.items() if x is not None}


def _printed(text: str) -> Run:
    """A result as it is printed, with a user's own lines and the command of its server."""
    own = own_lines(text).items()
    beside = {name: _cell(value) for name, value in own if value not in _UNSAID}
    text = _ITEM.sub("", text)
    said = [_line(name, value) for name, value in _SAID.findall(text)]
    kept = (*_PRINTED.values(), *OWN, *_CACHED_NAMES)
    found: Run = {
        name: value
        for name, value in said
        if (name in kept or _TIMED.fullmatch(name))
        # "not set", "None", "[result]" are no numbers
        and (
            isinstance(value, float) or (name in (*_TEXTS, *_CACHED_NAMES) and value not in _UNSAID)
        )
    }
    served, asked = _served(text), [one[1] or one[2] for one in _MODEL.finditer(text)]
    named = [one for one in (*asked[-1:], served.get("model")) if one]
    if named:
        found.setdefault("model", next((one for one in named if find_model(one)), named[0]))
    found = beside | found
    split = {name: found[name] for name in _DEGREES if name in found}
    if other := [name for name in split if served.get(name, split[name]) != split[name]]:
        taken, there = (
            " ".join(f"{n}={str(x[n]).removesuffix('.0')}" for n in other) for x in (split, served)
        )
        told = f"{taken} is taken, though the command of its server says {there}"
        warnings.warn(told, stacklevel=5)
    if split:  # of the user, who knows better
        served = {name: x for name, x in served.items() if name not in _DEGREES}
    found = {**served, **found}
    if drafter := _drafter(_SERVER.split(text)[-1]):  # the last server of those in front
        found["phase"] = f"aggregated {drafter}"
    found = _lengths(found)
    count, most = found.get("completed"), found.get("max_concurrency")
    run = {"osl": count and found.get("total_output_tokens", 0) / count, **found}
    # Requests a second are printed with two digits behind the point.
    if count and (seconds := found.pop("duration", 0)):
        rate = run.get("request_throughput", 0)
        run["request_throughput"] = count / seconds if abs(count / seconds - rate) < 0.01 else rate
    given = found.get("concurrency"), at_rate(run, most), most, in_flight(run)
    return found | {"concurrency": next((one for one in given if one), None)}


def _lengths(found: Run) -> Run:
    """A run with the lengths of its requests, where only its rates say them: as trtllm-bench's."""
    rates = (found.get(name) for name in ("request_throughput", "output_throughput", "all_rate"))
    request, output, both = (x if isinstance(x, float) else 0.0 for x in rates)
    if not (request and output < both) or "total_output_tokens" in found:
        return found
    return {"isl": (both - output) / request, "osl": output / request, **found}


# Times of a whole request, of its first token, and of its others.
_WHOLE = ("mean_e2el_ms", "mean_e2e_latency_ms", "request_latency_ms")
_FIRST = ("mean_ttft_ms", "time_to_first_token_ms", "median_ttft_ms")
_NEXT = ("tpot_ms", "mean_tpot_ms", "mean_itl_ms", "inter_token_latency_ms", "median_tpot_ms")


def in_flight(run: Mapping[str, Any]) -> float | None:
    """Requests in flight in the mean of a run, by Little's law; None where it does not say it."""
    run = {name: x for name, x in run.items() if isinstance(x, int | float)}
    whole, first, later = (
        next((float(run[name]) for name in names if run.get(name)), None)
        for names in (_WHOLE, _FIRST, _NEXT)
    )
    if whole is None and later and run.get("osl"):
        whole = (first or later) + later * (run["osl"] - 1.0)
    found = _in_flight(run.get("request_throughput"), whole / 1e3 if whole else None)
    count = run.get("completed")  # more than all are never in flight
    return min(found, float(count)) if found and count else found


def at_rate(run: Mapping[str, Any], most: float | None) -> float | None:
    """Requests in flight where they are sent at a rate, at most so many; None without a rate."""
    try:
        rate = float(run.get("request_rate") or 0)
    except (TypeError, ValueError):
        return None
    if not 0.0 < rate < float("inf"):
        return None
    found = in_flight({**run, "request_throughput": run.get("request_throughput") or rate})
    return min(found, most) if found and most else found


def _blocks(text: str) -> Iterator[str]:
    """Each printed result of a text, behind what a user wrote in front of it or behind them all."""
    before, *blocks = _TITLE.split(text)
    found = [_END.search(block) for block in blocks]
    ends = [len(block) if at is None else at.end() for block, at in zip(blocks, found, strict=True)]
    last = blocks[-1][ends[-1] :] if blocks else ""
    for block, end in zip(blocks, ends, strict=True):
        yield "\n".join((last, before, block[:end]))
        before += block[end:]


def unfronted(text: str) -> str:
    """A printed result without what Docker, GitHub or MPI set in front of each of its lines."""
    front = next((m[1] for m in _TITLE_AT.finditer(text) if m[1].strip(" \t#")), "").rstrip(" \t")
    pattern = re.sub(r"\d+", r"\\d+", re.escape(front))
    return re.sub(rf"(?m)^{pattern}[ \t]?", "", text) if front else text


def is_json(text: str) -> bool:
    """Whether a text begins as JSON's objects or lists, and not as a log, "[2026-03-26 ..."."""
    return bool(re.match(r"\s*(?:\{|\[\s*[\[{\"\]])", text))


def is_printed(text: str) -> bool:
    """Whether a text has a result in it as an engine's benchmark prints it."""
    return bool(_TITLE.search(text)) or _TRTLLM in text


def runs_in_text(text: str) -> list[Run] | None:
    """The runs of a report that is no JSON, None of another file.

    That is one of genai-perf or aiperf as CSV, a metric a line, or what `vllm bench serve`,
    `sglang.bench_serving` and `trtllm-bench` print, once or several times.

    Raises:
        ValueError: it is guidellm's, or says nothing of where it was measured.
    """
    if is_printed(text):
        every = [_printed(one) for one in _blocks(text)] or [{"engine": "trtllm"} | _printed(text)]
        runs = [{name: x for name, x in one.items() if x is not None} for one in every]
        if _TRTLLM in text and "mean_tpot_ms" not in runs[0]:
            raise ValueError(TABLE["refused"]["trtllm-bench"]["why"])
        return [_placed(one, "result file") for one in runs]
    lines = [line for line in text.splitlines() if line.strip()]
    said = [one[0] for line in lines if (one := _SAID.findall(line))]
    if len(said) == len(lines) and any(is_time(name) for name, _ in said):  # a line a column
        return [{name: _cell(value) for name, value in said}]
    rows = list(csv.reader(text.splitlines()))
    begin = next((row for row in rows if any(row)), [""])
    heads = [cell.strip().lower() for cell in begin]
    if heads[0] == "run info":
        raise ValueError("a CSV of guidellm; give its benchmarks.json")
    if heads[0] != "metric" or len(heads) < 2:
        return None
    at = next((heads.index(name) for name in ("avg", "mean", "value") if name in heads), 1)
    found = {}
    for row in rows:
        cells = [cell.strip() for cell in row]
        if cells[:1] == ["Endpoint"]:  # what aiperf tells of the machine
            break
        if len(cells) > 1 and cells[0] and cells[0].lower() != "metric":
            cell = cells[at] if len(cells) > at else cells[1]
            found[cells[0]] = _cell(cell)
    return [_placed(found, "profile_export JSON")]


def _placed(found: Run, other: str) -> Run:
    """A run that says where it was measured.

    Raises:
        ValueError: it does not; with the lines to add.
    """
    lacking = [name for name in ("model", "hardware", "tp", "concurrency") if name not in found]
    if lacking:
        between = ": " if other == "result file" else ","
        lines = " ".join(f"`{name}{between}...`" for name in lacking)
        raise ValueError(
            f"a report without {', '.join(lacking)}; add a line for each ({lines}), or give the "
            f"{other} beside it, which has the model and the concurrency"
        )
    return found


def _cell(text: str) -> float | str:
    """A number, of which commas are thousands, or a text."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


def refuse(text: str) -> None:
    """Refuse a report of which nothing can be read.

    Raises:
        ValueError: with what to give instead.
    """
    if "MLPerf Results Summary" in text[:4096]:
        raise ValueError(
            "a summary of MLPerf's LoadGen, which does not say how many requests are served at "
            f"once; {_INSTEAD}, where concurrency is that of the server's log"
        )
    is_other = not _TITLE.search(text) and "\n|" not in text
    for one in TABLE["without_tokens"] if is_other else ():
        if all(re.search(mark, text[:4096], re.IGNORECASE) for mark in one["marks"]):
            raise ValueError(f"{one['what']}, {one['why']}; {_INSTEAD}")
    drawn = re.search(r"(AIPerf|GenAI-Perf) \| LLM Metrics", text[:4096])
    if drawn and "concurrency" not in own_lines(text):
        raise ValueError(
            f"the table that {drawn[1]} prints, without its concurrency; add a line "
            "`concurrency: ...`, or give its profile_export JSON"
        )
    if re.search(r"(?mi)^[ \t]*<(?:!doctype|html|head|body)\b|\A\s*<table\b", text):
        raise ValueError(f"a page of HTML; give the JSON beside it, or {_INSTEAD}")


def json_of(text: str) -> Any:
    """What a text of JSON holds; several objects, one a line or behind each other, are a tuple.

    >>> json_of('{"a": 1}'), json_of('{"a": 1} {"a": 2}')
    ({'a': 1}, ({'a': 1}, {'a': 2}))

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        left, found, decoder = text.strip(), list[Any](), json.JSONDecoder()
        while left.startswith("{"):
            one, end = decoder.raw_decode(left)
            found.append(one)
            left = left[end:].lstrip()
        if left or len(found) < 2:
            raise
        return tuple(found)
