"""What the remarks of a record say about its deployment, as numbers.

A record may carry these facts as keys of their own; else they are read from its notes.
"""

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

from qsjax.engines.rules import load_engines, load_kernels, load_spellings
from qsjax.records.checks import LARGEST

_NUMBER = r"(\d*\.?\d+)"
# Between a flag and its value: "--flag 1", "flag=1", "'flag': 1", "flag (1)".
_IS = r"['\"]?(?: ?[=:] ?| \(| )"
# Fact: patterns in the notes, of which the first that matches counts.
PATTERNS = {
    fact: [one.replace("<number>", _NUMBER).replace("<is>", _IS) for one in patterns]
    for fact, patterns in load_spellings()["notes"].items()
}
_STATED = {
    engine: [one.replace("<release>", r"(\d+\.\d+(?:\.\d+)*)") for one in patterns]
    for engine, patterns in load_spellings()["releases"].items()
}
# Fields of a deployment that are numbers, of which missing ones follow from the others.
NUMBERS = (
    *("n_gpus", "tp", "pp", "dp", "ep", "moe_tp", "kvp"),
    *("batch", "batch_per_gpu", "batch_total", "concurrency", "mean_concurrency"),
    *("isl", "osl", "avg_context", "ttft_ms"),
)


# What a time is of all requests.
STATISTICS = ("mean", "median")


def malformed(record: Mapping[str, Any]) -> str | None:
    """What is wrong with the numbers of a record, all of them; None if nothing is."""
    wrong = []
    for name in (*NUMBERS, *PATTERNS):
        value = record.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            wrong.append(f"{name} is {value!r}, not a number")
        elif not 0 <= value <= LARGEST:
            wrong.append(f"{name} is out of range; give a number from 0 to {LARGEST:g}")
    statistic = record.get("statistic")
    if statistic not in (None, "", *STATISTICS):
        wrong.append(f"statistic is {statistic!r}; give {' or '.join(STATISTICS)}")
    return "; ".join(wrong) or None


def facts(record: Mapping[str, Any]) -> dict[str, float]:
    """Every fact that a record states."""
    notes = str(record.get("notes") or "")
    known: dict[str, float] = {}
    for name, patterns in PATTERNS.items():
        if record.get(name) is not None:
            known[name] = float(record[name])
            continue
        match = next((m for p in patterns if (m := re.search(p, notes))), None)
        if match:
            known[name] = float(match.group(1))
    if record.get("category") in load_engines()["sglang"]["running"]["scripted"]:
        known["scripted"] = 1.0
    if re.search("lengths? exact|exact lengths?", notes):
        known.setdefault("length_ratio", 1.0)
    if "scripted" in known or re.search("disable[-_]radix[-_]cache", notes):
        known["prefix_cache"] = 0.0
    return known


def mean_length(facts: Mapping[str, float]) -> float:
    """Mean over nominal length of requests drawn evenly between ratio and 1 times the nominal."""
    return 0.5 * (1.0 + facts.get("length_ratio", 1.0))


def speculation(record: Mapping[str, Any], facts: Mapping[str, float]) -> tuple[float, float]:
    """Tokens that a step runs and tokens that it accepts, of each sequence.

    Where nothing says how many it runs it is one draft, or as few as it can accept so many of.
    """
    if not re.search("MTP|EAGLE|NEXTN", str(record.get("phase") or ""), re.IGNORECASE):
        return 1.0, 1.0
    # "accept length 1.8-1.9": the middle of the range that follows.
    span = re.search(rf"accept length {_NUMBER}-{_NUMBER}", str(record.get("notes") or ""))
    accepted = facts.get("accepted", 1.85)
    if span:
        accepted = 0.5 * (float(span.group(1)) + float(span.group(2)))
    return facts.get("draft_tokens", max(2.0, math.ceil(accepted))), accepted


def is_overlapped(record: Mapping[str, Any], model: str) -> bool | None:
    """Whether flags in the notes, or a source's known scripts, have the host work beside steps.

    None where neither says so; `model` is its name in the catalogue.
    """
    flag = re.search(r"\b(no[-_])?async[-_]scheduling\b", str(record.get("notes") or ""))
    if flag:
        return not flag[1]
    scripted = load_kernels()["scripted"]
    is_scripted = record.get("category") in scripted["categories"]
    return True if is_scripted and model.startswith(tuple(scripted["families"])) else None


def release(record: Mapping[str, Any]) -> str:
    """Release of the engine as it is written, "0.5.1.post1"; "" if it is not stated."""
    match = re.search(r"\b\d+\.\d+\S*|\bnightly\S*", str(record.get("engine") or ""))
    return match[0].rstrip(")") if match else ""


def stated(words: str, engine: str) -> str:
    """Release of an engine by the images and packages that a text names; "" if it names none.

    >>> stated("docker run vllm/vllm-openai:v0.11.0 --model m", "vllm")
    '0.11.0'
    """
    found = (re.search(pattern, words) for pattern in _STATED.get(engine, ()))
    return next((match[1] for match in found if match), "")


def version(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Release of the engine, its numbers; None if it is not stated."""
    match = re.search(r"\d+(?:\.\d+)+", str(record.get("engine") or ""))
    return tuple(map(int, match[0].split("."))) if match else None


def issue(record: Mapping[str, Any]) -> int | None:
    """Number of vLLM's issue or pull request that is the source; None for other sources."""
    match = re.search(r"vllm-project/vllm/(?:issues|pull)/(\d+)", str(record.get("source") or ""))
    return int(match[1]) if match else None


def date(record: Mapping[str, Any]) -> datetime.date | None:
    """Day of the source as its address tells it; None if it does not."""
    match = re.search(r"\b(20\d\d)[/-](\d\d)[/-](\d\d)\b", str(record.get("source") or ""))
    return datetime.date(int(match[1]), int(match[2]), int(match[3])) if match else None
