"""What the verbs of derivatives share: the cells that explore's flags state, and their inputs."""

from typing import Any

from qsjax import catalog
from qsjax.cli import options, session
from qsjax.grid.problem import CONTEXTS
from qsjax.output import files, folder
from qsjax.records.specs import DEGREES

AXES = (*DEGREES, "kv_mode", "batch")


def names(text: str) -> list[str]:
    """Names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def settings_of(model: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `sensitivity.problem` from the flags that explore has too."""
    entry = catalog.model_entry(model)
    session.note_contexts(model, flags["context"])
    return {
        "model": entry.spec,
        "hardware": catalog.hardware(flags["hardware"]),
        "gpus": [int(count) for count in flags["gpus"]],
        "contexts": flags["context"] or CONTEXTS,
        "qs": flags["q"],
        "convention": flags["convention"],
        "workload": catalog.workload_of(entry, flags["weights"], flags["kv"]),
        "overrides": options.axis_overrides(**{name: flags[name] for name in AXES}),
    }


def inputs_text(verb: str, model: str, flags: dict[str, Any], settings: dict[str, Any]) -> str:
    """Everything that the run depended on, so that it can be repeated."""
    records = {
        "hardware": {"name": flags["hardware"], **files.spec_dict(settings["hardware"])},
        "model": {"name": model, **files.spec_dict(settings["model"])},
        "workload": folder.of_workload(settings["workload"]),
    }
    return folder.text(verb, [model], flags, records)


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
