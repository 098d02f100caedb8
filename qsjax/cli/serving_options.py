"""Flags that the serving verbs share: dtypes, requests, limits and prices."""

import re
from collections.abc import Sequence
from typing import Any

import click

from qsjax.catalog import gguf, lookup
from qsjax.cli.options import WHOLE, flag, options
from qsjax.cost.prefix import Reuse, mean_context
from qsjax.grid.limits import Limits
from qsjax.records.conversion import quantity_of_text, seconds_of_text
from qsjax.records.fields import defaults_of, facts_of
from qsjax.records.specs import DEGREES, HardwareSpec
from qsjax.records.units import tokens


class Duration(click.ParamType[float]):
    """A time with its unit, such as 50ms; a bare number could be either milliseconds or seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if not isinstance(value, str):
            return float(value)
        is_bare = value.strip()[-1:].isdigit()
        seconds = seconds_of_text(f"{value}s" if is_bare else value)
        if seconds is None:
            self.fail(f"{value!r} is not a time; write for example 800us, 50ms, 2s, 5min or 1h")
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not allowed; give a time above 0, such as 50ms")
        if is_bare:
            self.fail(f"{value!r} has no unit; write {value}ms or {value}s")
        return seconds


_REQUEST = "Tokens of a request; the context is isl + osl/2."
request_options = options(*(flag(f"--{name}", WHOLE, _REQUEST) for name in ("isl", "osl")))

prefix_option = flag("--prefix-hit-rate", float, "Share of each prompt already cached.", 0.0)
REUSE = defaults_of(Reuse)
_REUSED = f"Input and output tokens.  [default: {tokens(REUSE['isl'])}, {REUSE['osl']:g}]"
reuse_options = options(
    *(flag(f"--{name}", WHOLE, _REUSED) for name in ("isl", "osl")),
    flag(
        "--prefix-hit-rate",
        float,
        f"Share of each prompt seen before, 0 to 1.  [default: {REUSE['prefix_hit_rate']:g}]",
    ),
    flag(
        "--reuse-interval",
        Duration(),
        f"Time until a prefix comes again.  [default: {REUSE['reuse_interval']:g}s]",
    ),
)


def reuse_flags(flags: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was said of requests with prefixes, and the other flags: no context follows from it."""
    lengths = {name: one(name, flags[name]) for name in ("isl", "osl")}
    said = {name: value for name in REUSE if (value := (flags | lengths)[name]) is not None}
    return said, {name: value for name, value in flags.items() if name not in REUSE}


_GPU = "Price and power of one GPU.  [default: catalogue]"
_SITE = "Share of paid time in use; PUE."
economy_options = options(
    *(flag(f"--{name}", float, _GPU) for name in ("usd-per-hour", "watts")),
    *(flag(f"--{name}", float, _SITE, 1.0) for name in ("utilisation", "pue")),
)
_COST = "Most USD per 1M output tokens, joules per token."
limit_options = options(
    flag("--max-tpot", Duration(), "Longest time per output token, as 50ms."),
    flag("--min-user-rate", float, "Fewest tokens/s of each user."),
    flag("--max-gpus", float, "Most GPUs in all."),
    flag("--headroom min_headroom", float, "Share of usable memory that stays free."),
    *(flag(f"--max-{name}", float, _COST) for name in ("usd", "joules")),
    *(flag(f"--max-{name}", float, "Largest tp, ep, pp, dp, kvp.") for name in DEGREES),
    flag("--tp-in-island", bool, "Keep tp within an NVLink (or like) domain."),
)
target_options = options(limit_options, economy_options)


def _check_pairs(flags: dict[str, Any]) -> None:
    """Raise `ValueError` with every flag whose values a limit all excludes."""
    problems = []
    for name in ("gpus", *DEGREES):
        values, most = flags.get(name), flags[f"max_{name}"]
        if values and most is not None and min(values) > most:
            listed = ",".join(f"{value:g}" for value in values)
            problems.append(
                f"--{name} {listed} and --max-{name} {most:g} contradict each other; raise the "
                "limit or give a smaller value"
            )
    if problems:
        raise ValueError("\n".join(problems))


def limits_of(flags: dict[str, Any]) -> Limits:
    """The limits that were given.

    Raises:
        ValueError: a limit excludes every value of the flag that it bounds.
    """
    _check_pairs(flags)
    names = ("max_tpot", "min_user_rate", "max_gpus", "min_headroom", "max_usd", "max_joules")
    degrees = tuple(f"max_{name}" for name in DEGREES)
    given = {n: flags[n] for n in (*names, *degrees) if flags[n] is not None}
    return Limits(**given, tp_in_island=float(flags["tp_in_island"]))


def economy_flags(flags: dict[str, Any]) -> dict[str, float]:
    """Price, power and shares that were given, by name of field; the catalogue has the rest."""
    names = ("usd_per_hour", "watts", "utilisation", "pue")
    return {name: flags[name] for name in names if flags[name] is not None}


# What may follow a model's colon: a dense twin, precisions, and speculation.
MODEL_CHANGES = ("q", "kv", "weights", "acceptance", "drafts")
_WORDS = ("kv", "weights")


def changes_of(text: str, allowed: Sequence[str] | None = None) -> tuple[str, dict[str, Any]]:
    """`NAME:KEY=VALUE,KEY=VALUE`: the name, and the changes; numbers where `allowed` says so.

    Raises:
        ValueError: the text is not of this form, or a key is not known.

    >>> changes_of("h100-sxm:hbm_bw=6TB/s,flops_fp8=x2,intra_latency=2us")
    ('h100-sxm', {'hbm_bw': '6TB/s', 'flops_fp8': 'x2', 'intra_latency': '2us'})
    """
    is_name = lookup.is_model(text) or gguf.is_named(text)  # `qwen3:32b`, `m:latest`
    if allowed is not None and "=" not in text and is_name:
        return text, {}
    name, *rest = re.split(r":(?=[^:=]*=|[^=]*$)", re.sub(r"^https?://", "", text), maxsplit=1)
    changes: dict[str, Any] = {}
    for part in rest[0].split(",") if rest else ():
        key, mark, value = (x.strip() for x in part.partition("="))
        try:
            # Only a field of an accelerator has a unit, and no factor has one.
            facts = facts_of(HardwareSpec).get(key) if allowed is None else None
            amount = quantity_of_text(value, facts.unit) if facts else None
            number = float(value.removeprefix("x")) if amount is None else amount
        except ValueError:
            number = 0.0
        if mark and key and allowed is not None and key not in allowed:
            at = f", or {name}@ACCELERATOR:{part.strip()}" if key in facts_of(HardwareSpec) else ""
            at = f", or the option --{key}" if key in MODEL_CHANGES else at
            at = f"; `qsjax explain {name} --{key} {value}` tells" if key in DEGREES else at
            raise ValueError(f"{text!r}: {key} is not known; give some of {', '.join(allowed)}{at}")
        is_word = key in _WORDS and bool(value)
        if not (mark and key and (is_word or 0 < number < float("inf"))):
            raise ValueError(
                f"{text!r}: {part.strip()!r} is not a change; write for example "
                + (
                    f"{name}:q=5" + f" or {name}:kv=fp8" * ("kv" in allowed)
                    if allowed
                    else f"{name}:hbm_bw=x2 (twice as much) or {name}:hbm_bw=4TB/s (this much)"
                )
            )
        if key in changes:
            raise ValueError(f"{text!r}: {key} is given twice; give it once")
        changes[key] = value if allowed is None or is_word else number
    return name, changes


def one(name: str, values: list[float] | None, default: float | None = None) -> float | None:
    """The single value of a flag that elsewhere takes several.

    Raises:
        ValueError: there are several.
    """
    if values is None:
        return default
    if len(values) > 1:
        listed = ", ".join(f"{value:g}" for value in values)
        raise ValueError(f"--{name}: {listed} were given, but one design has one; give one value")
    return values[0]


def contexts_of(flags: dict[str, Any]) -> list[float]:
    """Contexts of --context, or of --isl and --osl: the input and, on average, half the output.

    Raises:
        ValueError: both ways were used, or one half of the second.
    """
    asked = requests_of(flags)
    if asked is None:
        return list(flags.get("context") or ())
    if flags["context"]:
        raise ValueError("--context and --isl/--osl contradict each other: give one of them")
    return [mean_context(*asked)]


def requests_of(flags: dict[str, Any]) -> tuple[float, float] | None:
    """Input and output tokens of a request, if they were given; errors as of `contexts_of`."""
    isl, osl = (one(name, flags.get(name)) for name in ("isl", "osl"))
    if (isl is None) != (osl is None):
        raise ValueError("--isl and --osl go together: give both, or --context")
    return None if isl is None or osl is None else (isl, osl)
