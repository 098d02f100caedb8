"""`qsjax explore MODEL`: the main job."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from qsjax import catalog
from qsjax.cli import figures, options, printing, session
from qsjax.cost.feasibility import MEMORY_REASONS, REASONS
from qsjax.cost.laws.memory import usable_bytes
from qsjax.grid.problem import CONTEXTS
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output import files, folder
from qsjax.questions.explore import Exploration, explore
from qsjax.records.specs import DEGREES, Workload
from qsjax.records.units import GIB


def _summary(exploration: Exploration) -> dict[str, Any]:
    optimum = exploration.optimum
    return {
        "convention": exploration.convention,
        "cells_evaluated": optimum.axes.cells,
        "cells_feasible": int(optimum.feasible.sum()),
        "infeasible_reasons": {k: int(v.sum()) for k, v in optimum.reasons.items()},
    }


def _table(exploration: Exploration, rows: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    several = len({row["gpus"] for row in rows}) > 1
    for name in (
        "context",
        *(["GPUs"] if several else []),
        "variant",
        "tp",
        "ep",
        "pp",
        "dp",
        "kvp",
    ):
        table.add_column(name, justify="left" if name == "variant" else "right")
    factors = ["vs MoE", f"({exploration.other})"] if len(exploration.variants) > 1 else []
    for name in ("batch", "TPOT ms", "tok/s/GPU", "bound by", *factors):
        table.add_column(name, justify="left" if name == "bound by" else "right")
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["gpus"], rows[i]["context"], i))
    last = None
    for row in (rows[i] for i in order):
        if last not in (None, (row["gpus"], row["context"])):
            table.add_section()
        last = (row["gpus"], row["context"])
        cells = _cells(row, exploration.other, several)
        table.add_row(*cells[: len(table.columns)])  # a dense model has no factors
    printing.show(table, None if options.is_terminal() else 140)


def _cells(row: dict[str, Any], other: str, several: bool) -> list[str]:
    start = [_tokens(row["context"]), *([str(row["gpus"])] if several else []), _label(row)]
    if not row["is_feasible"]:
        return [*start, *["-"] * 7, "infeasible"]
    mode = {"none": "", "kvp": "", "cp": " cp"}[row["kv_mode"]]
    degrees = [str(row[name]) for name in ("tp", "ep", "pp", "dp")] + [f"{row['kvp']}{mode}"]
    gains = [row["speedup_over_moe"], row[f"speedup_over_moe_{other}"]]
    return [
        *start,
        *degrees,
        f"{row['batch']:,}",
        f"{row['tpot_ms']:.2f}",
        f"{row['tokens_per_s_per_gpu']:,.1f}",
        row["bound_by"],
        *("" if row["variant"] == "moe" else _factor(gain) for gain in gains),
    ]


def _factor(gain: float) -> str:
    return f"{gain:.2f}x" if np.isfinite(gain) else "-"


def _tokens(count: int) -> str:
    for size, unit in ((2**20, "M"), (2**10, "k")):
        if count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


@click.command("explore")
@click.argument("model")
@options.system_options
@options.workload_options
@options.axis_options
@options.output_options
@options.input_errors
def command(model: str, **flags: Any) -> None:
    r"""Find the best split of MODEL and of its dense twins, over every partition.

    MODEL is a name (`qsjax models`), a Hugging Face config.json or a TOML file.

    \b
    Examples:
      qsjax explore deepseek-v3 --gpus 64
      qsjax explore mixtral-8x7b --gpus 8,16 --hardware h200-sxm --context 8k,32k
      qsjax explore grok-1 --hardware paper-reference --convention paper --q 2,3,5
    """
    overrides = options.axis_overrides(
        **{name: flags[name] for name in (*DEGREES, "kv_mode", "batch")}
    )
    entry = catalog.model_entry(model)
    session.note_contexts(model, flags["context"])
    work = catalog.workload_of(entry, flags["weights"], flags["kv"])
    exploration = explore(
        entry.spec,
        catalog.hardware(flags["hardware"]),
        gpus=[int(count) for count in flags["gpus"]],
        contexts=flags["context"] or CONTEXTS,
        qs=flags["q"],
        convention=flags["convention"],
        workload=work,
        overrides=overrides,
    )
    rows = [{"model": model, **row} for row in files.best_rows(exploration)]
    summary = _summary(exploration)
    if flags["format_"] == "json":
        options.print_json({**summary, "best": rows})
    elif flags["format_"] == "csv":
        click.echo(files.csv_text(rows), nl=False)
    else:
        _print(model, flags, exploration, rows, summary)
    if flags["out"]:
        _write(flags["out"], model, flags, work, exploration, rows, summary)


def _print(
    model: str,
    flags: dict[str, Any],
    exploration: Exploration,
    rows: list[dict[str, Any]],
    summary: dict[str, Any],
) -> None:
    usable = scalar(on_host(usable_bytes)(catalog.model(model), exploration.hardware))
    title = f"{model} on {flags['hardware']} ({usable / GIB:.0f} GiB usable), "
    _table(exploration, rows, title + f"{exploration.convention} convention")
    feasible = summary["cells_feasible"]
    click.echo(f"{summary['cells_evaluated']:,} designs evaluated, {feasible:,} feasible.")
    reasons = {k: v for k, v in summary["infeasible_reasons"].items() if v}
    listed = "; ".join(f"{name} {count:,}" for name, count in reasons.items())
    click.echo(f"Infeasible, by reason (a design may have several): {listed or 'none'}.")
    for row in rows:
        if not row["is_feasible"]:
            click.echo(f"No design for {_where(row)}: {_needs(row)}.")


def _where(row: dict[str, Any]) -> str:
    return f"{_label(row)} at {_tokens(row['context'])} on {options.gpus(row['gpus'])}"


def _label(row: dict[str, Any]) -> str:
    return row["variant"] if row["q"] is None else f"{row['variant']} q={row['q']:g}"


def _needs(row: dict[str, Any]) -> str:
    gpus = (
        f"{options.gpus(row['needs_gpus'])} of this kind" if np.isfinite(row["needs_gpus"]) else ""
    )
    if np.isfinite(row["needs_hbm_bytes"]):
        hbm = f"{row['needs_hbm_bytes'] / GIB:,.1f} GiB of HBM on each GPU"
        return f"it would fit with {hbm}" + (f", or with {gpus}" if gpus else "")
    why = ", ".join(name for name in row["reasons"] if not REASONS[name] & MEMORY_REASONS)
    free = f"; with a free choice of the split it would fit on {gpus}" if gpus else ""
    return f"no split of these axes is legal ({why}){free}"


def _write(
    out: Path,
    model: str,
    flags: dict[str, Any],
    work: Workload,
    exploration: Exploration,
    rows: list[dict[str, Any]],
    summary: dict[str, Any],
) -> None:
    hardware = {"name": flags["hardware"], **files.spec_dict(exploration.hardware)}
    records = {
        "hardware": hardware,
        "models": {v.label: files.spec_dict(v.spec) for v in exploration.variants},
        "workload": folder.of_workload(work),
    }
    asked = folder.text("explore", [model], flags, records)
    files.write_atomically(out / "inputs.json", asked)
    result = json.dumps(files.finite({**summary, "best": rows}), indent=1)
    files.write_atomically(out / "result.json", result)
    files.write_atomically(out / "best.csv", files.csv_text(rows))
    files.write_dataset(out / "best.nc", files.to_dataset(exploration))
    names = ["inputs.json", "result.json", "best.csv", "best.nc"]
    names += figures.save(out, _drawings(rows, f"{model} on {flags['hardware']}"))
    session.note(f"Written to {out}: {', '.join(names)}")


def _drawings(rows: list[dict[str, Any]], title: str) -> dict[str, Callable[[], Any]]:
    """Throughput over context, the map of the winners, and where their time goes."""
    from qsjax import plotting

    found: dict[str, Callable[[], Any]] = {}
    if any(row["is_feasible"] for row in rows):
        found["throughput"] = partial(plotting.throughput_vs_context, rows, title=title)
    for count in dict.fromkeys(row["gpus"] for row in rows):
        part = [row for row in rows if row["gpus"] == count]
        if any(row["is_feasible"] for row in part):
            name, head = f"{count}-gpus", f"{title}, {count} GPUs"
            found[f"partition-{name}"] = partial(plotting.best_partition_map, part, title=head)
            found[f"time-{name}"] = partial(plotting.time_breakdown, part, share=True, title=head)
    return found
