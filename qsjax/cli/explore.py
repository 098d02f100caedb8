"""`qsjax explore MODEL`: the main job."""

from typing import Any

import click
import numpy as np

from qsjax.cli import options, printing
from qsjax.cli.emit import emit
from qsjax.cli.grid_options import problem_of, variant_name
from qsjax.cost.feasibility import MEMORY_REASONS, REASONS
from qsjax.cost.laws.memory import usable_bytes
from qsjax.numerics.numpy_backend import on_host
from qsjax.numerics.safe import scalar
from qsjax.output.result import Row
from qsjax.questions.explore import Exploration, explore
from qsjax.records.units import GIB, MS


def _table(found: Exploration, rows: list[Row], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    several = len({row["gpus"] for row in rows}) > 1
    degrees = ("tp", "ep", "pp", "dp", "kvp", "copies")
    for name in ("context", *(["GPUs"] if several else []), "variant", *degrees):
        table.add_column(name, justify="left" if name == "variant" else "right")
    factors = ["vs MoE", f"({found.other})"] if len({variant_name(row) for row in rows}) > 1 else []
    within = f"TPOT ms ({found.level:.0%})"
    for name in ("batch", "TPOT ms", within, "tok/s/GPU", "bound by", *factors):
        table.add_column(name, justify="left" if name == "bound by" else "right")
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["gpus"], rows[i]["context"], i))
    last = None
    for row in (rows[i] for i in order):
        if last not in (None, (row["gpus"], row["context"])):
            table.add_section()
        last = (row["gpus"], row["context"])
        cells = _cells(row, found.other, several)
        table.add_row(*cells[: len(table.columns)])  # a dense model has no factors
    printing.show(table, None if options.is_terminal() else 140)


def _cells(row: Row, other: str, several: bool) -> list[str]:
    start = [
        _tokens(row["context"]),
        *([str(row["gpus"])] if several else []),
        variant_name(row),
    ]
    if not row["is_feasible"]:
        return [*start, *["-"] * 9, "infeasible"]
    mode = {"none": "", "kvp": "", "cp": " cp"}[row["kv_mode"]]
    degrees = [str(row[name]) for name in ("tp", "ep", "pp", "dp")] + [f"{row['kvp']}{mode}"]
    gains = [row.get(name, np.nan) for name in ("speedup_over_moe", f"speedup_over_moe_{other}")]
    return [
        *start,
        *degrees,
        str(row["replicas"]),
        f"{row['batch']:,}",
        f"{row['tpot'] / MS:.2f}",
        options.interval(row),
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
@options.level_option
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
    emit(explore(problem_of(model, flags), level=flags["level"]), flags, _tell)


def _tell(found: Exploration) -> None:
    stated, rows, counts = found.problem.stated, found.rows(), found.counts()
    for served in stated.models:
        for device in stated.accelerators:
            own = [r for r in rows if (r["model"], r["hardware"]) == (served.name, device.name)]
            usable = scalar(on_host(usable_bytes)(served.spec, device.spec))
            title = f"{served.name} on {device.name} ({usable / GIB:.0f} GiB usable), "
            _table(found, own, title + f"{stated.convention} convention")
    click.echo(
        f"{counts['cells_evaluated']:,} designs decided, {counts['cells_feasible']:,} feasible."
    )
    for line in dict.fromkeys(row["interval_rests_on"] for row in rows if row["is_feasible"]):
        click.echo(f"Intervals rest on: {line}.")
    reasons = {k: v for k, v in counts["infeasible_reasons"].items() if v}
    listed = "; ".join(f"{name} {count:,}" for name, count in reasons.items())
    click.echo(f"Infeasible, by reason (a design may have several): {listed or 'none'}.")
    for row in rows:
        if not row["is_feasible"]:
            where = f"{variant_name(row)} at {_tokens(row['context'])}"
            click.echo(f"No design for {where} on {options.gpus(row['gpus'])}: {_needs(row)}.")


def _needs(row: Row) -> str:
    least = row["least_gpus"]
    gpus = f"{options.gpus(least)} of this kind" if np.isfinite(least) else ""
    if np.isfinite(row["least_hbm_bytes"]):
        hbm = f"{row['least_hbm_bytes'] / GIB:,.1f} GiB of HBM on each GPU"
        return f"it would fit with {hbm}" + (f", or with {gpus}" if gpus else "")
    why = ", ".join(n for n in row["reasons"] if not REASONS.get(n, 0) & MEMORY_REASONS)
    free = f"; with a free choice of the split it would fit on {gpus}" if gpus else ""
    return f"no split of these axes is legal ({why}){free}"
