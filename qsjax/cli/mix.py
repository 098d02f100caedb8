"""`qsjax mix MODEL REQUESTS.csv`: one split for a distribution of contexts."""

from pathlib import Path
from typing import Any

import click

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import OLD_FILE, flag, verb
from qsjax.output.result import Result
from qsjax.questions.mix import mix


@verb("mix")
@options.model_argument
@click.argument("requests", type=OLD_FILE)
@options.system_options
@options.quality_options
@flag("--together", bool, "Also find the split for one batch that holds all lengths at once.")
@serving_options.target_options
def command(model: str, requests: Path, **flags: Any) -> Result:
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
    return mix(problem_of(model, flags), requests, together=flags["together"])
