"""`qsjax compare A B ...`: models, accelerators and conventions side by side."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from qsjax import catalog
from qsjax.cli import figures, options, serving_options, session
from qsjax.numerics.safe import scalar
from qsjax.output import files, folder
from qsjax.questions.compare import (
    Comparison,
    Subject,
    attribution,
    by_resource,
    compare,
    gpu_time,
    table_5,
)
from qsjax.questions.explain import Case
from qsjax.records.specs import CONVENTIONS, DEGREES, KV_MODES
from qsjax.records.units import MS

CONTEXTS = (1024.0, 8192.0, 32768.0, 131072.0, 1048576.0)


def _named(text: str) -> tuple[str, float | None, str]:
    """Model, q and accelerator of a subject as it is written."""
    named, _, device = text.partition("@")
    return *serving_options.model_and_q(named), device


def subject_of(text: str, flags: dict[str, Any]) -> Subject:
    """`MODEL[:q=Q][@ACCELERATOR]`: a model, or its dense twin, on an accelerator.

    Raises:
        ValueError: the text is not of this form, or a name is unknown.
    """
    model, q, device = _named(text)
    device = device or flags["hardware"]
    work = serving_options.workload_of(model, flags)
    return Subject(text, catalog.model(model), catalog.hardware(device), work, q)


def _subjects(texts: tuple[str, ...], flags: dict[str, Any]) -> list[Subject]:
    found = [subject_of(text, flags) for text in texts]
    if len(found) == 1 and found[0].q is None and scalar(found[0].model.experts) > 1:
        model, _, device = texts[0].partition("@")
        at = f"@{device}" if device else ""
        found += [subject_of(f"{model}:q={q:g}{at}", flags) for q in flags["q"]]
    return found


def _case(case: Case) -> dict[str, Any]:
    step, part = case.parts.step, case.records.partition
    modes = {code: name for name, code in KV_MODES.items()}
    return {
        **{name: int(scalar(getattr(part, name))) for name in DEGREES},
        "kv_mode": modes[scalar(part.kv_mode)] if scalar(part.kvp) > 1 else "none",
        "batch": int(scalar(step.capacity.batch)),
        "tpot_ms": scalar(step.tpot) / MS,
        "tokens_per_s_per_user": scalar(step.tokens_per_s_per_user),
        "tokens_per_s_per_gpu": scalar(step.tokens_per_s_per_gpu),
        "gpu_ms_per_token": {n: t / MS for n, t in by_resource(gpu_time(case)).items()},
    }


def _rows(found: Comparison) -> list[dict[str, Any]]:
    unit = None
    for case in (case for row in found.cases for case in row):
        if case is not None:
            unit = table_5(case)["compute"]
            break
    rows: list[dict[str, Any]] = []
    for k, context in enumerate(found.contexts):
        best = found.winner(k)
        for i, subject in enumerate(found.subjects):
            case, first = found.cases[i][k], found.cases[0][k]
            row: dict[str, Any] = {
                "convention": found.convention,
                "context": int(context),
                "subject": subject.label,
                "gpus": found.gpus,
                "is_feasible": case is not None,
                "is_winner": i == best,
            }
            if case is not None:
                row |= _case(case)
                row["table_5"] = {n: t / unit if unit else None for n, t in table_5(case).items()}
            if case is not None and first is not None:
                row["factor"] = found.rate(i, k) / found.rate(0, k)
                if i:
                    row["attribution"] = attribution(first, case)
            rows.append(row)
    return rows


def _why(row: dict[str, Any]) -> str:
    """The resources that make most of the gap to the first subject."""
    shares = sorted(row.get("attribution", {}).items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} {share:+.0%}" for name, share in shares[:2] if abs(share) >= 0.005)


def _split(row: dict[str, Any]) -> str:
    parts = [f"{name}={row[name]}" for name in DEGREES if row[name] > 1]
    return (" ".join(parts) or "one GPU") + (" cp" if row["kv_mode"] == "cp" else "")


def _print(rows: list[dict[str, Any]], others: list[dict[str, Any]], title: str) -> None:
    cells = []
    for row, beside in zip(rows, others, strict=True):
        start = (f"{row['context']:,}", row["subject"])
        other = f"{beside['factor']:.2f}x" if "factor" in beside else "-"
        if not row["is_feasible"]:
            cells.append((*start, "nothing runs", *("",) * 4, other, ""))
            continue
        cells.append(
            (
                *start,
                _split(row),
                f"{row['batch']:,}",
                f"{row['tpot_ms']:,.2f}",
                f"{row['tokens_per_s_per_gpu']:,.1f}" + (" *" if row["is_winner"] else ""),
                f"{row['factor']:.2f}x" if "factor" in row else "-",
                other,
                _why(row),
            )
        )
    conventions = rows[0]["convention"], others[0]["convention"]
    heads = ("context", "subject", "split", "batch", "TPOT ms", "tok/s/GPU", *conventions)
    options.print_table(title, (*heads, "why (share of the gap)"), cells, left=3)
    for side in (rows, others):
        parts = [
            (
                f"{row['context']:,}",
                row["subject"],
                *(f"{row['table_5'][name]:,.2f}" for name in ("HBM", "compute", "communication")),
            )
            for row in side
            if row["is_feasible"]
        ]
        head = (
            f"GPU time per token ({side[0]['convention']}) in HBM, compute and exposed "
            "communication; 1 = the first subject's compute at the first context (as table 5)"
        )
        columns = ("context", "subject", "HBM", "compute", "communication")
        options.print_table(head, columns, parts, left=2)


def _say_turns(found: Comparison) -> None:
    for turn in found.crossovers:
        click.echo(
            f"{found.convention}: {turn.after} overtakes {turn.before} at about "
            f"{turn.context:,.0f} tokens."
        )
    if not found.crossovers:
        leaders = [found.winner(k) for k in range(len(found.contexts))]
        named = [found.subjects[i].label for i in leaders if i is not None]
        where = "at every context" + (" at which something runs" if None in leaders else "")
        says = f"{named[0]} leads {where}" if named else "nothing runs"
        click.echo(f"{found.convention}: {says}.")


@click.command("compare")
@click.argument("subjects", nargs=-1, required=True, shell_complete=options.names_of("model"))
@options.system_options
@options.context_option("1k,8k,32k,128k,1M")
@options.quality_options
@serving_options.request_options
@options.output_options
@options.input_errors
def command(subjects: tuple[str, ...], **flags: Any) -> None:
    r"""Put SUBJECTS side by side over contexts: who wins, by how much, where it turns, and why.

    A subject is MODEL[:q=Q][@ACCELERATOR]; :q=5 is the dense twin at that quality factor. One model
    with experts alone is compared with its twins at --q. Both conventions stand next to each other:
    a factor means nothing without the accounting behind it. Every design runs at its best batch;
    `qsjax explore` takes the largest that fits, which the paper's accounting may punish.

    \b
    Examples:
      qsjax compare deepseek-v3
      qsjax compare deepseek-v3 deepseek-v3:q=3 qwen3-235b-a22b --hardware h200-sxm
      qsjax compare deepseek-v3@h200-sxm deepseek-v3@b200-sxm --context 8k,128k
    """
    chosen = flags["convention"]
    other = next(name for name in CONVENTIONS if name != chosen)
    count = serving_options.one("gpus", flags["gpus"])
    contexts = sorted(serving_options.contexts_of(flags, CONTEXTS))
    sides = _subjects(subjects, flags)
    for name in dict.fromkeys(_named(text)[0] for text in subjects):
        session.note_contexts(name, flags["context"])
    both = [compare(sides, int(count or 1), contexts, name) for name in (chosen, other)]
    rows, others = (_rows(found) for found in both)
    turns = [{"convention": f.convention, **turn._asdict()} for f in both for turn in f.crossovers]
    result = {"rows": rows, "beside": others, "turns": turns}
    if flags["format_"] == "json":
        options.print_json(result)
    elif flags["format_"] == "csv":
        click.echo(files.csv_text([*rows, *others]), nl=False)
    else:
        _print(rows, others, f"{count:g} GPUs; * leads; factors are over {sides[0].label}")
        for found in both:
            _say_turns(found)
    if flags["out"]:
        records = {"subjects": [_inputs(side) for side in sides], "contexts": contexts}
        _write(flags["out"], folder.text("compare", subjects, flags, records), result)


def _panels(draw: Callable[..., Any], width: float, height: float, result: dict[str, Any]) -> Any:
    """Both conventions beside each other; `draw` draws one of them."""
    from qsjax import plotting

    _, axes = plotting.figure(1, 2, size=(width, height))
    for k, rows in enumerate((result["rows"], result["beside"])):
        name = rows[0]["convention"]
        turns = [turn for turn in result["turns"] if turn["convention"] == name]
        draw(rows, axes[0, k], turns=turns, title=f"{name} accounting")
    return axes[0, 0]


def _drawings(result: dict[str, Any]) -> Mapping[str, Callable[[], Any]]:
    from qsjax import plotting
    from qsjax.plotting import comparison

    named = comparison.used_resources([*result["rows"], *result["beside"]])

    def why(rows: list[dict[str, Any]], ax: Any, *, turns: Any, title: str) -> None:
        plotting.gpu_time(rows, ax, resources=named, title=title)

    bars, contexts = len(result["rows"]), {row["context"] for row in result["rows"]}
    tall = 2.4 + 0.26 * (bars + len(contexts))
    found = {"why": partial(_panels, why, 12.5, tall, result)}
    runs = [any(row["is_feasible"] for row in result[name]) for name in ("rows", "beside")]
    if len(contexts) > 1 and all(runs):
        found["throughput"] = partial(_panels, plotting.lead_over_context, 13.0, 4.6, result)
    return found


def _inputs(subject: Subject) -> dict[str, Any]:
    return {
        "label": subject.label,
        "q": subject.q,
        "model": files.spec_dict(subject.model),
        "hardware": files.spec_dict(subject.hardware),
        "workload": folder.of_workload(subject.workload),
    }


def _write(out: Path, asked: str, result: dict[str, Any]) -> None:
    files.write_atomically(out / "inputs.json", asked)
    files.write_atomically(out / "result.json", json.dumps(files.finite(result), indent=1))
    rows = [*result["rows"], *result["beside"]]
    files.write_atomically(out / "compare.csv", files.csv_text(rows))
    names = ["inputs.json", "result.json", "compare.csv", *figures.save(out, _drawings(result))]
    session.note(f"Written to {out}: {', '.join(names)}")
