"""`qsjax pareto MODEL...`: the front of throughput against interactivity."""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from qsjax import catalog
from qsjax.cli import figures, options, serving_options, session
from qsjax.cost.metrics import Economy, costs
from qsjax.grid.axes import stack
from qsjax.grid.problem import Problem, axis_values, grid_of, variants_of
from qsjax.output import files, folder
from qsjax.questions.pareto import Front, pareto
from qsjax.questions.requirements import remedies
from qsjax.questions.serving import serve
from qsjax.records.scenario import Records
from qsjax.records.specs import CONVENTIONS, DEGREES, Partition
from qsjax.records.units import MS

CONTEXT = 8192.0


class Series(NamedTuple):
    """The fronts of one model on one accelerator, and why empty ones are empty."""

    fronts: list[Front]
    rows: list[dict[str, Any]]
    refused: list[dict[str, Any]]


def _rows(front: Front, fixed: dict[str, Any], economy: Economy) -> list[dict[str, Any]]:
    return [
        {
            **fixed,
            "variant": str(front.labels["model"]),
            "context": front.labels["context"],
            "gpus": int(front.gpus[i]),
            **{name: int(front.design[name][i]) for name in DEGREES},
            "kv_mode": str(front.design["kv_mode"][i]) if front.design["kvp"][i] > 1 else "none",
            "batch": int(front.batch[i]),
            "tpot_ms": 1.0 / float(front.user[i]) / MS,
            "tokens_per_s_per_user": float(front.user[i]),
            "tokens_per_s_per_gpu": float(front.gpu[i]),
            **costs(float(front.gpu[i]), economy),
        }
        for i in range(len(front.user))
    ]


def _series(model: str, hardware: str, flags: dict[str, Any]) -> Series:
    rules, device = CONVENTIONS[flags["convention"]], catalog.hardware(hardware)
    work = serving_options.workload_of(model, flags)
    variants = variants_of(catalog.model(model), flags["q"], rules)
    overrides = options.axis_overrides(
        **{name: flags[name] for name in (*DEGREES, "kv_mode", "batch")}
    )
    contexts = serving_options.contexts_of(flags, (CONTEXT,))
    counts = [int(count) for count in flags["gpus"]]
    values = axis_values(counts, contexts, overrides)
    Problem(model, device, gpus=counts, context=contexts, twins=flags["q"], axes=overrides)
    axes = grid_of(variants, values)
    records = Records(stack([v.spec for v in variants]), device, Partition(), work)
    limits, economy = serving_options.limits_of(flags), serving_options.economy_from(device, flags)
    every = flags["every_batch"]
    fronts = pareto(records, axes, rules, limits=limits, economy=economy, every_batch=every)
    fixed = {"model": model, "hardware": hardware, "convention": flags["convention"]}
    rows = [row for front in fronts for row in _rows(front, fixed, economy)]
    refused: list[dict[str, Any]] = []
    if any(len(front.user) == 0 for front in fronts):
        for served in serve(records, axes, rules, limits, economy):
            if served.best is not None:
                continue
            spec = next(v.spec for v in variants if v.label == served.labels["model"])
            asked = dataclasses.replace(work, context=float(served.labels["context"]))
            count = int(served.labels["gpus"])
            help_ = remedies(spec, device, asked, count, limits, economy, rules)
            refused.append(
                {
                    **fixed,
                    "variant": served.labels["model"],
                    "gpus": count,
                    "context": served.labels["context"],
                    "why": [refusal.text for refusal in served.refusals],
                    "would_help": dataclasses.asdict(help_),
                }
            )
    return Series(fronts, rows, refused)


def _label(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with the name of its series: what differs between the series, and the variant."""
    varying = [
        name
        for name in ("model", "hardware", "gpus", "context")
        if len({row[name] for row in rows}) > 1
    ]

    def label(row: dict[str, Any]) -> str:
        parts = [row["variant"], *(f"{row[name]:g} GPUs" for name in varying if name == "gpus")]
        parts += [f"{row[name]:,.0f} tokens" for name in varying if name == "context"]
        return ", ".join([*(row[n] for n in varying if n in ("model", "hardware")), *parts])

    return [{"label": label(row), **row} for row in rows]


def _split(row: dict[str, Any]) -> str:
    parts = [f"{name}={row[name]}" for name in DEGREES if row[name] > 1]
    return (" ".join(parts) or "one GPU") + (" cp" if row["kv_mode"] == "cp" else "")


def _table(rows: list[dict[str, Any]], most: int) -> None:
    """Every front thinned to `most` points, its ends kept."""
    shown = []
    keys = dict.fromkeys((row["label"], row["context"], row["gpus"]) for row in rows)
    for key in keys:
        part = [row for row in rows if (row["label"], row["context"], row["gpus"]) == key]
        step = max(1.0, (len(part) - 1) / max(1, most - 1))
        at = sorted({round(i * step) for i in range(most) if round(i * step) < len(part)})
        shown += [part[i] for i in at]
    cells = [
        (
            row["label"],
            f"{row['context']:,.0f}",
            str(row["gpus"]),
            _split(row),
            f"{row['batch']:,}",
            f"{row['tpot_ms']:,.2f}",
            f"{row['tokens_per_s_per_user']:,.1f}",
            f"{row['tokens_per_s_per_gpu']:,.1f}",
            _money(row["usd_per_million_tokens"]),
            _money(row["joules_per_token"]),
        )
        for row in shown
    ]
    heads = ("series", "context", "GPUs", "split", "batch", "TPOT ms", "tok/s/user", "tok/s/GPU")
    title = "Designs that no other beats in both tokens/s/user and tokens/s/GPU"
    options.print_table(title, (*heads, "USD/Mtok", "J/tok"), cells, left=4)


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}"


def _say_designs(summary: dict[str, Any]) -> None:
    lost = summary["largest_loss_between_batches"]
    between = f" Between the batches tried at most {lost:.1%} of tokens/s/GPU is lost."
    click.echo(
        f"{summary['designs_decided']:,} designs decided, {summary['designs_evaluated']:,} of them "
        f"evaluated.{between if lost else ''}"
    )


def _say_refused(item: dict[str, Any]) -> None:
    where = f"{item['model']} {item['variant']} on {item['gpus']:g} x {item['hardware']}"
    click.echo(f"Nothing for {where} at {item['context']:,.0f} tokens:")
    for text in item["why"]:
        click.echo(f"  - {text}")
    found = item["would_help"]
    options = [
        text
        for key, text in (
            ("context", f"a context of {found['context']:,.0f} tokens"),
            ("gpus", f"{found['gpus']:,.0f} GPUs"),
            ("speed", f"an accelerator {found['speed']:.2f} times as fast in everything"),
        )
        if found[key] == found[key]  # not NaN
    ]
    if options:
        click.echo(f"  It would be possible with {', or with '.join(options)}.")
    else:
        click.echo(
            "  No shorter context, no number of GPUs and no faster accelerator that was tried "
            "makes it possible."
        )


@click.command("pareto")
@click.argument("models", nargs=-1, required=True, shell_complete=options.names_of("model"))
@options.system_options
@options.context_option("8k")
@options.quality_options
@serving_options.request_options
@options.axis_options
@serving_options.limit_options
@serving_options.economy_options
@click.option("--every-batch", is_flag=True, help="Try every batch, not a ladder of 2 % steps.")
@click.option("--points", default=12, show_default=True, help="Points of each front in the table.")
@options.output_options
@options.input_errors
def command(models: tuple[str, ...], **flags: Any) -> None:
    r"""Trace tokens/s/GPU against tokens/s/user for MODELS and their dense twins.

    The front is exact over every split and batch tried. --hardware takes several, with commas. With
    limits, the last point of a front is the best design that keeps them; if none does, the output
    says which limit is in the way and what would help.

    \b
    Examples:
      qsjax pareto deepseek-v3 --hardware h200-sxm --gpus 64 --context 8k
      qsjax pareto qwen3-235b-a22b --hardware h100-sxm,b200-sxm --isl 4096 --osl 1024
      qsjax pareto deepseek-v3 --hardware h200-sxm --max-tpot 20ms --max-usd 3 --usd-per-hour 2.5
    """
    devices = [name.strip() for name in flags["hardware"].split(",") if name.strip()]
    for model in models:
        session.note_contexts(model, serving_options.contexts_of(flags, (CONTEXT,)))
    found = [_series(model, device, flags) for model in models for device in devices]
    rows = _label([row for series in found for row in series.rows])
    refused = [item for series in found for item in series.refused]
    fronts = [front for series in found for front in series.fronts]
    summary = {
        "designs_decided": sum(front.decided for front in fronts),
        "designs_evaluated": sum(front.evaluated for front in fronts),
        "largest_loss_between_batches": max(front.spacing for front in fronts),
    }
    if flags["format_"] == "json":
        options.print_json({**summary, "front": rows, "refused": refused})
    elif flags["format_"] == "csv":
        click.echo(files.csv_text(rows), nl=False)
    else:
        if rows:
            _table(rows, flags["points"])
        _say_designs(summary)
        for item in refused:
            _say_refused(item)
    if flags["out"]:
        asked = folder.text("pareto", models, flags, _inputs(models, devices, flags))
        _write(flags["out"], asked, {**summary, "front": rows, "refused": refused}, rows)


def _inputs(models: Sequence[str], devices: Sequence[str], flags: dict[str, Any]) -> dict[str, Any]:
    return {
        "models": [{"name": n, **files.spec_dict(catalog.model(n))} for n in models],
        "hardware": [{"name": n, **files.spec_dict(catalog.hardware(n))} for n in devices],
        "workloads": [folder.of_workload(serving_options.workload_of(n, flags)) for n in models],
    }


def _write(out: Path, asked: str, result: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    files.write_atomically(out / "inputs.json", asked)
    files.write_atomically(out / "result.json", json.dumps(files.finite(result), indent=1))
    files.write_atomically(out / "pareto.csv", files.csv_text(rows))
    names = ["inputs.json", "result.json", "pareto.csv"]
    if rows:
        from qsjax import plotting

        names += figures.save(out, {"pareto": partial(plotting.pareto_front, rows)})
    session.note(f"Written to {out}: {', '.join(names)}")
