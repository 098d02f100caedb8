"""The problem that a verb's flags state."""

from collections.abc import Sequence
from typing import Any

from qsjax.cli import options, serving_options
from qsjax.grid.problem import Problem
from qsjax.grid.remarks import only_dense
from qsjax.records.conversion import names_of
from qsjax.records.specs import DEGREES

AXES = (*DEGREES, "kv_mode", "replicas")


def several(text: str) -> Any:
    """One name, or the list of several that commas separate."""
    names = names_of(text)
    return names if len(names) > 1 else text


def served(models: Any, flags: dict[str, Any], **more: Any) -> Problem:
    """The problem of the flags for hardware and precisions alone, with further arguments."""
    named: dict[str, Any] = {name: flags[name] for name in ("convention", "weights", "kv")}
    named |= {"hardware": several(flags["hardware"]), "engine": flags.get("engine") or ""}
    one = not isinstance(models, str) and len(models) == 1
    return Problem(models[0] if one else models, **(named | more))


def problem_of(
    models: Any, flags: dict[str, Any], contexts: Sequence[float] | None = None, **more: Any
) -> Problem:
    """The problem of the flags that verbs share.

    Args:
        models: one or several.
        flags: of `options.system_options`, and those of `workload_options`, `axis_options` and
            `serving_options` that the verb has.
        contexts: those without any flag; None for what the models are published for.
        **more: further arguments of `Problem`, or others in place of those of the flags.
    """
    given = [models] if isinstance(models, str) else list(models)
    arguments: dict[str, Any] = {
        "gpus": [int(count) for count in flags["gpus"]],
        "context": serving_options.contexts_of(flags) or contexts,
        "twins": flags["twins"],
        "batch": flags.get("batch") or None,
        "axes": options.axis_overrides(**{name: flags.get(name) for name in AXES}),
    }
    if "max_tpot" in flags:
        arguments["limits"] = serving_options.limits_of(flags)
    if "watts" in flags:
        arguments["economy"] = serving_options.economy_flags(flags)
    problem = served(given, flags, **(arguments | more))
    if options.is_default("twins") and only_dense(problem):
        return problem.replace(twins=())
    return problem
