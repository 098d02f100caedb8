"""Wording of designs, times, gaps and places in the answer of every result."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qsjax.cost.ledger import RESOURCES, resource_times
from qsjax.cost.metrics import METRICS, Objective
from qsjax.engines.spread import LEVEL, load_spread
from qsjax.grid.limits import describe, given_limits
from qsjax.numerics.safe import scalar
from qsjax.records.rows import grouped
from qsjax.records.tables import table
from qsjax.records.units import DIMENSIONS, GIB, HOUR, MS, part_of_second, tokens, with_unit
from qsjax.records.units import chance as chance

if TYPE_CHECKING:
    from qsjax.grid.problem import Problem

# Share of a resource in the time of a token from which it is "most of it".
MOST = 0.5
LEAST_DIGITS = 3
# A ratio nearer to 1 than this is no gap.
EQUAL = 0.005
SECONDS, HOURS = 1.0, 7200.0  # from which a time is told in them [s]
# The context that answers quote where there are several [tokens].
USUAL_CONTEXT = 32768.0
# By the names of `ledger.RESOURCES`, and by those of the terms that these are made of.
_WORDS = table("cost/meanings.toml")
RESOURCE_WORDS: dict[str, str] = _WORDS["resources"]
TERM_WORDS: dict[str, str] = _WORDS["terms"] | {
    own[0]: RESOURCE_WORDS[name] for name, own in RESOURCES.items() if len(own) == 1
}


def nearest(contexts: Iterable[float], to: float = USUAL_CONTEXT) -> float:
    """The context that differs from another one by the least factor [tokens].

    >>> nearest([1024.0, 65536.0, 1048576.0])
    65536.0
    """
    return min(contexts, key=lambda context: abs(math.log(context / to)))


def count(number: float, noun: str) -> str:
    """A number of things.

    >>> count(1, "GPU"), count(64, "GPU"), count(1024, "sequence")
    ('1 GPU', '64 GPUs', '1,024 sequences')
    """
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def twin(q: float | None) -> str:
    """What follows the name of a model where its dense twin is meant.

    >>> twin(5.0), twin(None)
    (' (dense twin, q = 5)', '')
    """
    return "" if q is None else f" (dense twin, q = {q:g})"


def subject(row: Mapping[str, Any], *, counted: bool = True) -> str:
    """Who is meant: the model or twin of a row, and its GPUs, `counted` or only by name."""
    gpus = f"{row['gpus']:,.0f} " if counted else ""
    return f"{row['model']}{twin(row['q'])} on {gpus}{row['hardware']}"


def cell(row: Mapping[str, Any]) -> str:
    """Who is meant where: the model or twin of a row, its GPUs and its context.

    >>> cell({"model": "m", "q": 5.0, "gpus": 64, "hardware": "h100-sxm", "context": 8192})
    'm (dense twin, q = 5) on 64 h100-sxm at 8k'
    """
    return f"{subject(row)} at {length(row['context'])}"


def setting(problem: "Problem") -> str:
    """What all answers to a problem have in common: model, GPUs and context, where there is one.

    >>> from qsjax.grid.problem import Problem
    >>> setting(Problem("mixtral-8x7b", ["h100-sxm", "h200-sxm"], gpus=8, context="8k"))
    'mixtral-8x7b on 8 GPUs at 8k'
    """
    stated = problem.stated
    names = [[record.name for record in part] for part in (stated.models, stated.accelerators)]
    model, device = (part[0] if len(part) == 1 else "" for part in names)
    where = f"on {device}" if device else ""
    if len(stated.gpus) == 1:
        gpus = stated.gpus[0]
        where = f"on {gpus:,.0f} {device}" if device else f"on {count(gpus, 'GPU')}"
    at = f"at {length(stated.contexts[0])}" if len(stated.contexts) == 1 else ""
    return " ".join(filter(None, (model, where, at)))


def kept(problem: "Problem") -> str:
    """The limits of a problem in words; nothing where it has none."""
    return joined(describe(problem.limits, name) for name in given_limits(problem.limits))


def open_limits(problem: "Problem", rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """That designs may miss a limit on what users wait, as far as their intervals know.

    Near the fastest designs a batch that keeps it for sure may be far smaller.
    """
    limits, lines = problem.limits, []
    slowest = scalar(limits.min_user_rate)
    longest = {
        "max_tpot": scalar(limits.max_tpot),
        "min_user_rate": 1.0 / slowest if slowest > 0 else math.inf,
    }
    for name, most in longest.items():
        may_miss = sum(row.get("tpot_high", 0.0) > most for row in rows)
        if may_miss:
            lines.append(
                f"{describe(limits, name)} lies within the intervals of {may_miss:,} of "
                f"{count(len(rows), 'design')}: whether these keep it is open, and what is said of "
                "leads and errors holds at the batches shown."
            )
    return lines


def nothing(problem: "Problem") -> str:
    """That no design can be had: none runs, or none keeps the limits.

    >>> from qsjax.grid.limits import Limits
    >>> from qsjax.grid.problem import Problem
    >>> nothing(Problem("grok-1", "h100-sxm", limits=Limits(max_tpot=0.05)))
    'No design keeps TPOT <= 50 ms'
    """
    return f"No design keeps {kept(problem)}" if kept(problem) else "Nothing runs"


def heading(problem: "Problem") -> str:
    """`setting` at the beginning of a title.

    >>> from qsjax.grid.problem import Problem
    >>> heading(Problem(["mixtral-8x7b", "grok-1"], ["h100-sxm", "h200-sxm"], gpus=8))
    'On 8 GPUs'
    >>> heading(Problem(["mixtral-8x7b", "grok-1"], "h100-sxm", gpus=[8, 16], context="8k"))
    'On h100-sxm at 8k'
    """
    text = setting(problem)
    return text[0].upper() + text[1:] if text.startswith(("on ", "at ")) else text


def would_fit(
    hbm_bytes: float, gpus: float, other: str = "", split: str = "", now: float = math.nan
) -> str:
    """What a design of `now` GPUs that does not fit would need; nothing where no memory mends it.

    >>> would_fit(100 * 2**30, 16)
    'it would fit with 100.0 GiB of HBM on each GPU, or with 16 GPUs of this kind'
    >>> would_fit(100 * 2**30, 16, now=32)  # which copies fill
    'it would fit with 100.0 GiB of HBM on each GPU, or with another split'
    >>> would_fit(153.21 * 2**30, math.inf)  # what is told suffices
    'it would fit with 153.3 GiB of HBM on each GPU'
    """
    helps = []
    if math.isfinite(hbm_bytes):
        enough = math.ceil(round(hbm_bytes / GIB * 10.0, 6)) / 10.0
        helps.append(f"{enough:,.1f} GiB of HBM on each GPU{split}")
    if math.isfinite(gpus):
        helps.append(f"{count(gpus, 'GPU')} of this kind" if now % gpus else "another split")
    helps += [other] if helps and other else []
    return f"it would fit with {', or with '.join(helps)}" if helps else ""


def power(watts: float, *, is_measured: bool) -> str:
    """What a GPU draws, and how that is known.

    >>> power(519.0, is_measured=True), power(400.0, is_measured=False)
    ('519 W a GPU, as measured at such loads', '400 W a GPU, at any load')
    """
    return f"{watts:,.0f} W a GPU, {'as measured at such loads' if is_measured else 'at any load'}"


def joined(items: Iterable[str], last: str = "and") -> str:
    """A list in words.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    names = list(items)
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def number(value: float) -> str:
    """A number to three digits, whole from 100 on.

    >>> number(2499.3), number(16.84), number(0.0123)
    ('2,499', '16.8', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    """A time in ms.

    >>> milliseconds(0.01684)
    '16.8 ms'
    """
    return f"{number(seconds / MS)} ms"


def length(context: float) -> str:
    """A context.

    >>> length(8192), length(8704)
    ('8k', '8,704 tokens')
    """
    return tokens(context) if context % 1024 == 0 else count(context, "token")


def places(contexts: Sequence[float]) -> str:
    """Contexts in words.

    >>> places([8192]), places([1024, 8192, 131072]), places([168, 13365])
    ('8k', '1k to 128k', '168 to 13,365 tokens')
    """
    low, high = length(min(contexts)), length(max(contexts))
    first = low.removesuffix(" tokens") if high.endswith(" tokens") else low
    return low if low == high else f"{first} to {high}"


def gap(ratio: float, more: str = "faster", less: str = "slower") -> str:
    """A ratio of rates as a gap.

    >>> gap(1.034), gap(0.5), gap(2.4), gap(1.001), gap(1.5, "dearer", "cheaper")
    ('3 % faster', '50 % slower', '2.4 times as fast', 'equally fast', '50 % dearer')
    """
    if abs(ratio - 1.0) < EQUAL:
        return "equally fast" if more == "faster" else "equal"
    if ratio >= 2.0:
        return f"{ratio:.1f} times as {'fast' if more == 'faster' else 'much'}"
    return f"{100.0 * abs(ratio - 1.0):.0f} % {more if ratio > 1 else less}"


def against(ratio: float, name: str) -> str:
    """A ratio of amounts over another one.

    >>> against(1.5, "b"), against(0.8, "b"), against(3.0, "b"), against(1.0, "b")
    ('50 % more than b', '20 % less than b', '3.0 times as much as b', 'as much as b')
    """
    if abs(ratio - 1.0) < EQUAL:
        return f"as much as {name}"
    return f"{gap(ratio, 'more', 'less')} {'as' if ratio >= 2.0 else 'than'} {name}"


def split(row: Mapping[str, Any], is_moe: bool) -> str:
    """The partition of a design in words, from a row with its degrees.

    >>> wide = {"tp": 1, "ep": 64, "pp": 1, "dp": 64, "kvp": 1, "replicas": 1}
    >>> split(wide, is_moe=True)
    'attention on every GPU by itself and experts over all 64'
    >>> split({"tp": 4, "ep": 1, "pp": 1, "dp": 1, "kvp": 1, "replicas": 2}, is_moe=False)
    '2 copies, each with tensor parallelism over 4 GPUs'
    >>> split({"tp": 1, "ep": 1, "pp": 1, "dp": 4, "kvp": 1, "replicas": 2}, is_moe=False)
    '2 copies, each with 4 replicas of one GPU'
    """
    tp, pp, dp, kvp, ep = (int(row[name]) for name in ("tp", "pp", "dp", "kvp", "ep"))
    copies, rank, stage = int(row.get("replicas", 1)), tp * kvp, tp * kvp * dp
    if stage * pp == 1:
        return "a whole copy on every GPU" if copies > 1 else "everything on one GPU"
    parts = []
    if is_moe and stage > 1:
        over = f"split over {rank} GPUs" if rank > 1 else "on every GPU by itself"
        parts += [f"attention {over}" + (f" ({kvp} share each cache)" if kvp > 1 else "")]
        parts += [_experts(ep, stage)]
    elif rank > 1:
        parts += [f"tensor parallelism over {tp} GPUs"] if tp > 1 else []
        parts += [f"each cache shared by {kvp} GPUs"] if kvp > 1 else []
    if pp > 1:
        parts.append(f"layers in {pp} stages")
    if dp > 1 and not is_moe:
        parts.append(f"{dp} replicas of {'this' if parts else 'one GPU'}")
    return (f"{copies} copies, each with " if copies > 1 else "") + joined(parts)


def _experts(ep: int, stage: int) -> str:
    if ep == stage:
        return f"experts over all {stage}"
    if ep == 1:
        return f"every expert split over {stage} GPUs"
    return f"experts over {ep} groups of {stage // ep} GPUs"


def largest(row: Mapping[str, Any]) -> tuple[str, float]:
    """What takes most of a token's time, in words, and its time [s], from a row with `terms`.

    >>> largest({"terms": {"hbm_kv": 0.01, "overhead": 0.0068}})
    ('reading the cache', 0.01)
    """
    by = resource_times(row["terms"])
    most = max(by, key=lambda name: by[name])
    return RESOURCE_WORDS[most], by[most]


def time_of(row: Mapping[str, Any]) -> str:
    """Time of a token and what takes most of it, from a row with `tpot` and its `terms`.

    >>> time_of({"tpot": 0.0168, "terms": {"hbm_kv": 0.01, "overhead": 0.0068}})
    '16.8 ms a token, most of it reading the cache'
    """
    what, seconds = largest(row)
    share = seconds / row["tpot"]
    how = "most" if share >= MOST else f"{100 * share:.0f} %"
    between = ""
    if "tpot_low" in row and "tpot_high" in row:
        between = f" ({number(row['tpot_low'] / MS)} to {number(row['tpot_high'] / MS)})"
    return f"{milliseconds(row['tpot'])}{between} a token, {how} of it {what}"


def between(row: Mapping[str, Any]) -> str:
    """Ends of the interval of a row's TPOT [ms], for a narrow column.

    >>> between({"tpot_low": 0.0101, "tpot_high": 0.0234})
    '10.1-23.4'
    """
    return f"{number(row['tpot_low'] / MS)}-{number(row['tpot_high'] / MS)}"


def rests_on(rows: Sequence[Mapping[str, Any]], level: float) -> list[str]:
    """What the intervals of rows rest on: a line for kinds and generations with the same count.

    The last line says how far off the predictions are of what others have published.

    >>> what = "hopper, vllm, latency-bound: 23 measurements"
    >>> rows = [{"interval_rests_on": f"{kind}, {what}"} for kind in ("MoE", "dense")]
    >>> rests_on(rows, 0.8)[0]
    'Intervals of 80 % rest on MoE and dense, hopper, vllm, latency-bound: 23 measurements.'
    """
    named = dict.fromkeys(row["interval_rests_on"] for row in rows if "interval_rests_on" in row)
    parts = [(*one.split(", ", 2), "", "")[:3] for one in named]  # kind, generation, all else
    kinds = grouped(parts, lambda part: part[1:])
    alike = [(joined(kind for kind, *_ in own), *rest) for rest, own in kinds.items()]
    generations = grouped(alike, lambda part: (part[0], part[2]))
    told = [
        ", ".join(filter(None, (kind, joined(own[1] for own in some), what)))
        for (kind, what), some in generations.items()
    ]
    lines = [f"Intervals of {100 * level:g} % rest on {one}." for one in told]
    count, factor = load_spread().elsewhere
    published = (
        f"Of {count} times and rates published elsewhere, to which nothing is fitted, "
        f"{100 * LEVEL:g} % are within a factor of {factor:.2g} of the prediction."
    )
    return [*lines, published] if lines else []


def within_error(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the intervals of two rates overlap; False where either row has none.

    >>> a = {"tokens_per_s_per_gpu_low": 90.0, "tokens_per_s_per_gpu_high": 110.0}
    >>> b = {"tokens_per_s_per_gpu_low": 105.0, "tokens_per_s_per_gpu_high": 125.0}
    >>> within_error(a, b), within_error(a, {})
    (True, False)
    """
    name = "tokens_per_s_per_gpu"
    if any(f"{name}_{end}" not in x for x in (row, other) for end in ("low", "high")):
        return False
    ends = [float(x[f"{name}_{end}"]) for x in (row, other) for end in ("low", "high")]
    return ends[0] <= ends[3] and ends[2] <= ends[1]


def batch_of(row: Mapping[str, Any], fits: float | None = None) -> str:
    """Sequences of an attention replica, and all users where these are more.

    Args:
        row: of a design.
        fits: users that would fit, if that is more.

    >>> batch_of({"batch": 42, "users": 2688}), batch_of({"batch": 42, "users": 42}, 50)
    ('42 sequences each (2,688 users in all)', '42 users (50 would fit)')
    """
    more = [] if fits in (None, row["users"]) else [f"{fits:,.0f} would fit"]
    if row["users"] == row["batch"]:
        return count(row["batch"], "user") + (f" ({more[0]})" if more else "")
    notes = ", ".join([f"{row['users']:,.0f} users in all", *more])
    return f"{count(row['batch'], 'sequence')} each ({notes})"


def value(amount: float, unit: str, digits: int = 3) -> str:
    """A quantity of a field with its unit, as people write it.

    Prefixes stand before units of hardware alone: nobody counts in ktokens.

    >>> value(8.19e12, "B/s"), value(131072, "tokens"), value(1, "sequences"), value(0.02, "s")
    ('8.19 TB/s', '131,072 tokens', '1 sequence', '20 ms')
    >>> value(3600, "s"), value(12600, "s"), value(2e-6, "s")
    ('3,600 s', '3.5 h', '2 us')
    >>> value(2120.4, "tokens/s/GPU"), value(3.3521e12, "B/s", 5)
    ('2,120 tokens/s/GPU', '3.3521 TB/s')
    """
    if unit == "s" and amount >= HOURS:
        return f"{number(amount / HOUR)} h"
    if unit == "s" and amount < SECONDS:
        name, size = part_of_second(amount)
        return f"{number(amount / size)} {name}"
    if unit == "s":
        return f"{number(amount)} s"
    if unit in ("tokens", "sequences", "GPUs"):
        return count(amount, unit.removesuffix("s"))
    if unit == "1":
        return f"{amount:,.{digits}g}" if digits > LEAST_DIGITS else number(amount)
    if unit in DIMENSIONS:
        return with_unit(amount, unit, digits)
    return f"{number(amount)} {unit}"


def metric_name(metric: str) -> str:
    """A metric as people call it.

    >>> metric_name("tpot"), metric_name("tokens_per_s_per_gpu"), metric_name("speedup")
    ('TPOT', 'tokens/s/GPU', 'speedup')
    """
    if metric == "tpot":
        return "TPOT"
    known = {"joules_per_token": "joules per token", "max_batch": "batch", "gpus": "GPUs"}
    name = known.get(metric)
    is_unit = metric.startswith(("tokens", "usd"))
    return name or (METRICS[metric].unit if is_unit else metric)  # type: ignore[index]  # checked


def goal(metric: Objective, wanted: float) -> str:
    """A target in words.

    >>> goal("tpot", 0.02), goal("tokens_per_s_per_gpu", 3000.0)
    ('TPOT <= 20 ms', 'tokens/s/GPU >= 3,000')
    """
    sign = "<=" if METRICS[metric].less_is_better else ">="
    amount = value(wanted, "s") if metric == "tpot" else number(wanted)
    return f"{metric_name(metric)} {sign} {amount}"


def values(amounts: Sequence[float], unit: str) -> list[str]:
    """Quantities in at least three digits, and in as many as tell them apart.

    >>> values([16190.0, 16210.0, 20000.0], "tokens"), values([1.5e12], "B/s")
    (['16,190 tokens', '16,210 tokens', '20,000 tokens'], ['1.5 TB/s'])
    """
    texts: list[str] = []
    for digits in range(LEAST_DIGITS, 10):
        texts = [value(float(f"{x:.{digits}g}"), unit, digits) for x in amounts]
        if len(set(texts)) == len(texts):
            break
    return texts
