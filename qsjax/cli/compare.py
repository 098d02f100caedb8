"""`qsjax compare A B ...`: models, accelerators and conventions side by side."""

from typing import Any

import click

from qsjax import catalog
from qsjax.cli import options, serving_options
from qsjax.cli.emit import emit
from qsjax.numerics.safe import scalar
from qsjax.output.labels import split_name
from qsjax.output.result import Row
from qsjax.questions.compare import Comparison, Subject, compare
from qsjax.records.units import MS

CONTEXTS = (1024.0, 8192.0, 32768.0, 131072.0, 1048576.0)


@click.command("compare")
@click.argument("subjects", nargs=-1, required=True, shell_complete=options.names_of("model"))
@options.system_options
@options.context_option("1k,8k,32k,128k,1M")
@options.quality_options
@serving_options.request_options
@options.level_option
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
    serving_options.one("gpus", flags["gpus"])
    models: list[str] = []
    devices: list[str] = []
    named = {text: _subject(text, flags["hardware"], models, devices) for text in subjects}
    first = named[subjects[0]]
    if len(subjects) == 1 and first.q is None and _has_experts(models[0]):
        model, _, device = subjects[0].partition("@")
        at = f"@{device}" if device else ""
        named |= {f"{model}:q={q:g}{at}": first._replace(q=q) for q in flags["q"]}
    twins = list(dict.fromkeys(s.q for s in named.values() if s.q is not None))
    more = {"hardware": ",".join(devices), "q": twins}
    problem = serving_options.problem_of(models, flags | more, CONTEXTS)
    emit(compare(problem, named, level=flags["level"]), flags, _tell)


def _has_experts(model: str) -> bool:
    return scalar(catalog.model(model).experts) > 1


def _subject(text: str, device: str, models: list[str], devices: list[str]) -> Subject:
    """A subject as it is written; its model and accelerator join the lists."""
    named, _, own = text.partition("@")
    model, q = serving_options.model_and_q(named)
    for name, known in ((model, models), (own or device, devices)):
        if name not in known:
            known.append(name)
    return Subject(models.index(model), devices.index(own or device), q)


def _tell(found: Comparison) -> None:
    rows, others = found.own.rows(), found.beside.rows()
    gpus, first = found.problem.stated.gpus[0], found.own.subjects[0]
    cells = []
    for row, beside in zip(rows, others, strict=True):
        factors = [f"{x['factor']:.2f}x" if "factor" in x else "-" for x in (row, beside)]
        if row["is_feasible"]:
            lead = " *" if row["is_winner"] else ""
            numbers = (
                split_name(row),
                f"{row['batch']:,}",
                f"{row['tpot'] / MS:,.2f}",
                options.interval(row),
                f"{row['tokens_per_s_per_gpu']:,.1f}{lead}",
            )
        else:
            numbers = ("nothing runs", "", "", "", "")
            factors[0] = ""
        cells.append((f"{row['context']:,}", row["subject"], *numbers, *factors, _why(row)))
    within = f"TPOT ms ({found.own.level:.0%})"
    heads = ("context", "subject", "split", "batch", "TPOT ms", within, "tok/s/GPU")
    conventions = found.own.convention, found.beside.convention
    title = f"{gpus:g} GPUs; * leads; factors are over {first}"
    options.print_table(title, (*heads, *conventions, "why (share of the gap)"), cells, left=3)
    for side in (rows, others):
        _print_table_5(side)
    for line in found.leads():
        click.echo(line)
    for decision in found.decisions():
        click.echo(f"{decision}.")


def _why(row: Row) -> str:
    """The resources that make most of the gap to the first subject."""
    shares = sorted(row.get("attribution", {}).items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} {share:+.0%}" for name, share in shares[:2] if abs(share) >= 0.005)


def _print_table_5(rows: list[Row]) -> None:
    columns = ("HBM", "compute", "communication")
    parts = [
        (f"{row['context']:,}", row["subject"], *(f"{row['table_5'][n]:,.2f}" for n in columns))
        for row in rows
        if row["is_feasible"]
    ]
    head = (
        f"GPU time per token ({rows[0]['convention']}) in HBM, compute and exposed "
        "communication; 1 = the first subject's compute at the first context (as table 5)"
    )
    options.print_table(head, ("context", "subject", *columns), parts, left=2)
