"""The problem that a verb's flags state, and how its cells are called."""

from collections.abc import Sequence
from typing import Any

from qsjax.cli import options, session
from qsjax.grid.problem import CONTEXTS, Problem
from qsjax.records.specs import DEGREES

AXES = (*DEGREES, "kv_mode", "replicas")


def names(text: str) -> list[str]:
    """Names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def several(text: str) -> Any:
    """One name, or the list of several that commas separate."""
    found = names(text)
    return found if len(found) > 1 else text


def served(models: str | Sequence[str], flags: dict[str, Any], **more: Any) -> Problem:
    """The problem of the flags for precisions and hardware alone, with further arguments."""
    named = {name: flags[name] for name in ("convention", "weights", "kv")}
    given = models if isinstance(models, str) or len(models) > 1 else models[0]
    return Problem(given, several(flags["hardware"]), **(named | more))


def problem_of(
    models: str | Sequence[str],
    flags: dict[str, Any],
    contexts: Sequence[float] = CONTEXTS,
    **more: Any,
) -> Problem:
    """The problem of the flags that verbs share.

    Args:
        models: one or several.
        flags: of `options.system_options`, `workload_options` and `axis_options`.
        contexts: those without --context.
        **more: further arguments of `Problem`, or others in place of those of the flags.
    """
    given = [models] if isinstance(models, str) else list(models)
    for name in given:
        session.note_contexts(name, flags["context"])
    arguments: dict[str, Any] = {
        "gpus": [int(count) for count in flags["gpus"]],
        "context": flags["context"] or list(contexts),
        "twins": flags["q"],
        "batch": flags.get("batch") or "largest",
        "axes": options.axis_overrides(**{name: flags.get(name) for name in AXES}),
    }
    return served(given, flags, **(arguments | more))


def variant_name(row: dict[str, Any]) -> str:
    """`moe`, `dense`, or `dense q=5`."""
    q = row.get("q")  # a row that solves for q has none
    return row["variant"] if q is None else f"{row['variant']} q={q:g}"


def cell_name(row: dict[str, Any]) -> str:
    """A cell in words, by the coordinates that the row has."""
    parts = [variant_name(row)]
    if "gpus" in row:
        parts.append(options.gpus(row["gpus"]))
    if "context" in row:
        parts.append(f"context {row['context']:,.0f}")
    return ", ".join(parts)
