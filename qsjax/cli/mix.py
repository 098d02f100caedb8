"""`qsjax mix MODEL REQUESTS.csv`: one split for a distribution of contexts."""

from pathlib import Path
from typing import Any

import click

from qsjax.cli import grid_options, options, serving_options
from qsjax.cli.emit import emit
from qsjax.output.labels import split_name, variant_name
from qsjax.output.result import Row
from qsjax.questions.mix import Mix, mix
from qsjax.records.units import MS


@click.command("mix")
@options.model_argument
@click.argument("requests", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@options.system_options
@options.quality_options
@click.option(
    "--together",
    is_flag=True,
    help="Also find the split for one batch that holds all lengths at once.",
)
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
    more: dict[str, Any] = {"limits": serving_options.limits_of(flags)}
    more["economy"] = serving_options.economy_flags(flags)
    problem = grid_options.problem_of(model, flags | {"context": None}, **more)
    emit(mix(problem, requests, together=flags["together"]), flags, _tell)


def _tell(found: Mix) -> None:
    for one in found.mixtures:
        record = one.record()
        click.echo(
            f"{record['model']} on {record['gpus']:g} x {record['hardware']}, "
            f"{variant_name(record)}:"
        )
        if record["is_feasible"]:
            rate, own = record["tokens_per_s_per_gpu"], record["tokens_per_s_per_gpu_of_own"]
            click.echo(
                f"  best for the mix: {split_name(record['design'])}, {rate:,.1f} tokens/s/GPU; a "
                f"split for each class would give {own:,.1f}, so one split costs "
                f"{record['loss']:.1%}."
            )
        else:
            missing = [f"{c['context']:,.0f}" for c in record["classes"] if not c["own_design"]]
            where = f"at {', '.join(missing)} tokens" if missing else "every class"
            click.echo(
                f"  no split runs {where}; more GPUs, or a limit on the context, would help."
            )
        _say_together(record.get("together"))
        if record["is_feasible"]:
            _print_classes(record["classes"])


def _say_together(found: Row | None) -> None:
    if found is None:
        return
    if not found["is_feasible"]:
        click.echo("  all lengths in one batch: no split holds the longest within the limits.")
        return
    click.echo(
        f"  all lengths in one batch (mean context {found['mean_context']:,.0f}): "
        f"{split_name(found['design'])}, batch {found['batch']:,}, TPOT "
        f"{found['tpot'] / MS:,.2f} ms, {found['tokens_per_s_per_gpu']:,.1f} tokens/s/GPU."
    )


def _print_classes(classes: list[Row]) -> None:
    cells = [
        (
            f"{c['context']:,.0f}",
            f"{c['share']:.1%}",
            f"{c['batch']:,}",
            f"{c['tokens_per_s_per_gpu']:,.1f}",
            f"{c['own_tokens_per_s_per_gpu']:,.1f}",
            f"{c['loss']:.1%}",
            split_name(c["own_design"]),
        )
        for c in classes
    ]
    heads = ("context", "share", "batch", "tok/s/GPU", "own best", "loss", "own best split")
    options.print_table("Classes of requests", heads, cells)
