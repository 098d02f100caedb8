"""`qsjax mix MODEL REQUESTS.csv`: one split for a distribution of contexts."""

import json
from pathlib import Path
from typing import Any

import click

from qsjax import catalog
from qsjax.cli import options, serving_options, session
from qsjax.grid.limits import check_limits
from qsjax.grid.problem import variants_of
from qsjax.numerics.safe import scalar
from qsjax.output import files, folder
from qsjax.questions.continuous_batching import Together, best_together
from qsjax.questions.mix import ClassResult, Mix, best_for_mix, classes_of, read_requests
from qsjax.records.specs import CONVENTIONS, DEGREES
from qsjax.records.units import MS


def _class(result: ClassResult) -> dict[str, Any]:
    loss = 1.0 - result.rate / result.own_rate if result.own_rate else None
    return {
        "context": result.request.context,
        "share": result.request.tokens,
        "batch": int(result.batch),
        "tokens_per_s_per_gpu": result.rate,
        "own_tokens_per_s_per_gpu": result.own_rate,
        "own_design": _design(result.own_design),
        "loss": loss,
    }


def _design(design: dict[str, Any]) -> dict[str, Any]:
    """Degrees as whole numbers, and no KV mode where one rank holds a cache, as other verbs do."""
    if not design:
        return design
    whole = {name: int(design[name]) for name in DEGREES}
    return {**design, **whole, "kv_mode": design["kv_mode"] if whole["kvp"] > 1 else "none"}


def _record(name: str, mix: Mix) -> dict[str, Any]:
    return {
        "variant": name,
        "is_feasible": mix.partition is not None,
        "design": _design(mix.design),
        "tokens_per_s_per_gpu": mix.rate,
        "tokens_per_s_per_gpu_of_own": mix.rate_of_own,
        "loss": mix.loss,
        "classes": [_class(result) for result in mix.classes],
    }


def _split(design: dict[str, Any]) -> str:
    if not design:
        return "nothing runs"
    parts = [f"{name}={design[name]:g}" for name in DEGREES if design[name] > 1]
    mode = " cp" if design["kv_mode"] == "cp" and design["kvp"] > 1 else ""
    return (" ".join(parts) or "one GPU") + mode


def _one_batch(found: Together) -> dict[str, Any]:
    step = found.step
    return {
        "is_feasible": step is not None,
        "mean_context": found.context,
        "design": _design(found.design),
        "batch": int(found.batch),
        "tpot_ms": None if step is None else scalar(step.tpot) / MS,
        "tokens_per_s_per_user": None if step is None else scalar(step.tokens_per_s_per_user),
        "tokens_per_s_per_gpu": 0.0 if step is None else scalar(step.tokens_per_s_per_gpu),
    }


def _print_together(record: dict[str, Any]) -> None:
    found = record.get("together")
    if found is None:
        return
    if not found["is_feasible"]:
        click.echo("  all lengths in one batch: no split holds the longest within the limits.")
        return
    click.echo(
        f"  all lengths in one batch (mean context {found['mean_context']:,.0f}): "
        f"{_split(found['design'])}, batch {found['batch']:,}, TPOT {found['tpot_ms']:,.2f} ms, "
        f"{found['tokens_per_s_per_gpu']:,.1f} tokens/s/GPU."
    )


def _print(record: dict[str, Any], title: str) -> None:
    click.echo(f"{title}, {record['variant']}:")
    if not record["is_feasible"]:
        missing = [c["context"] for c in record["classes"] if not c["own_design"]]
        listed = ", ".join(f"{context:,.0f}" for context in missing)
        reason = f"no split runs at {listed} tokens" if missing else "no split runs every class"
        click.echo(f"  {reason}; more GPUs, or a limit on the context, would help.")
        _print_together(record)
        return
    click.echo(
        f"  best for the mix: {_split(record['design'])}, "
        f"{record['tokens_per_s_per_gpu']:,.1f} tokens/s/GPU; a split for each class would give "
        f"{record['tokens_per_s_per_gpu_of_own']:,.1f}, so one split costs {record['loss']:.1%}."
    )
    _print_together(record)
    cells = [
        (
            f"{c['context']:,.0f}",
            f"{c['share']:.1%}",
            f"{c['batch']:,}",
            f"{c['tokens_per_s_per_gpu']:,.1f}",
            f"{c['own_tokens_per_s_per_gpu']:,.1f}",
            f"{c['loss']:.1%}",
            _split(c["own_design"]),
        )
        for c in record["classes"]
    ]
    heads = ("context", "share", "batch", "tok/s/GPU", "own best", "loss", "own best split")
    options.print_table("Classes of requests", heads, cells)


@click.command("mix")
@options.model_argument
@click.argument("requests", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@options.system_options
@click.option(
    "--q",
    type=options.Numbers(),
    default="5",
    show_default=True,
    help="Quality-equivalence factors of the dense twins.",
)
@click.option(
    "--together",
    is_flag=True,
    help="Also find the split for one batch that holds all lengths at once.",
)
@options.dtype_options
@serving_options.limit_options
@serving_options.economy_options
@options.output_options
@options.input_errors
def command(model: str, requests: Path, **flags: Any) -> None:
    r"""Find the split of MODEL that is best for the whole distribution of lengths in REQUESTS.

    REQUESTS is a CSV file whose first row names its columns: context, or isl and osl (input and
    output tokens), and optionally count and batch. Each length is served in batches of its own;
    --together adds one batch for the whole distribution, as continuous batching makes it.

    \b
    Examples:
      qsjax mix deepseek-v3 requests.csv --hardware h200-sxm --gpus 64
      qsjax mix mixtral-8x7b requests.csv --hardware h100-sxm --gpus 8 --max-tpot 30ms
      qsjax mix gpt-oss-120b requests.csv --hardware h100-sxm --gpus 8 --together
    """
    try:
        text = requests.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{requests}: is not a text file in UTF-8 ({error})") from error
    read = read_requests(text, requests.name)
    classes = classes_of(read)
    rules, device = CONVENTIONS[flags["convention"]], catalog.hardware(flags["hardware"])
    count = serving_options.one("gpus", flags["gpus"])
    limits, economy = serving_options.limits_of(flags), serving_options.economy_from(device, flags)
    check_limits(limits, economy)
    work = serving_options.workload_of(model, flags)
    found = []
    for variant in variants_of(catalog.model(model), flags["q"], rules):
        asked = (variant.spec, device, work, int(count or 1))
        kept: dict[str, Any] = {"limits": limits, "economy": economy}
        record = _record(variant.label, best_for_mix(*asked, classes, rules, **kept))
        if flags["together"]:
            record["together"] = _one_batch(best_together(*asked, read, rules, **kept))
        found.append(record)
    result = {"model": model, "hardware": flags["hardware"], "convention": flags["convention"]}
    result |= {"gpus": count, "mixes": found}
    if flags["format_"] == "json":
        options.print_json(result)
    elif flags["format_"] == "csv":
        click.echo(files.csv_text(_flat(found)), nl=False)
    else:
        for record in found:
            _print(record, f"{model} on {count:g} x {flags['hardware']}")
    if flags["out"]:
        out: Path = flags["out"]
        records = {
            "requests": folder.of_file(requests),
            "model": {"name": model, **files.spec_dict(catalog.model(model))},
            "hardware": {"name": flags["hardware"], **files.spec_dict(device)},
            "workload": folder.of_workload(work),
        }
        text = folder.text("mix", [model, str(requests)], flags, records)
        files.write_atomically(out / "inputs.json", text)
        files.write_atomically(out / "result.json", json.dumps(files.finite(result), indent=1))
        files.write_atomically(out / "mix.csv", files.csv_text(_flat(found)))
        session.note(f"Written to {out}: inputs.json, result.json, mix.csv")


def _flat(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each class of each variant."""
    return [
        {"variant": record["variant"], "design": _split(record["design"]), **row}
        for record in found
        for row in record["classes"]
    ]
