"""`qsjax study`: the dimensions of the paper's Table 2, and which of them change the winner."""

from typing import Any

import click

from qsjax.cli import options
from qsjax.cli.options import NUMBERS, WHOLE, flag, verb
from qsjax.evidence.paper.table_2 import GPUS, QS, study
from qsjax.grid.problem import Problem
from qsjax.output.result import Result
from qsjax.records.specs import CONVENTIONS

MODELS = ("grok-1", "qwen3-235b-a22b", "deepseek-v3", "switch-c")


@verb("study")
@click.argument("models", nargs=-1, shell_complete=options.names_of("model"))
@flag("--hardware", str, "The reference accelerator, by name or as a TOML file.", "paper-reference")
@flag("--gpus", WHOLE, "GPUs of every deployment; the table's reference split needs 32.", str(GPUS))
@flag("--context", WHOLE, f"Context lengths.  [default: {options.PUBLISHED}]")
@flag(
    "--twins",
    NUMBERS,
    "Quality-equivalence factors of the dense twins.",
    ",".join(f"{q:g}" for q in QS),
)
@options.convention_option
def command(models: tuple[str, ...], **flags: Any) -> Result:
    r"""Vary every dimension of the paper's Table 2 and count where the winner changes.

    MODELS are mixtures of experts; without any, the paper's four. Splits, capacity, bandwidth,
    links, latency, overlap and the ring's tail are varied one at a time, the hardware in all
    combinations too; MoE and twins are re-optimised every time.

    \b
    Examples:
      qsjax study --out results/study
      qsjax study deepseek-v3 --context 8k,128k --twins 5
      qsjax study mixtral-8x7b --gpus 8 --convention physical --format csv
    """
    named = {name: flags[name] for name in ("hardware", "gpus", "context", "twins")}
    problem = Problem(list(models) or list(MODELS), **named)
    chosen = flags["convention"]
    return study(problem, list(CONVENTIONS) if chosen == "both" else [chosen])
