"""`qsjax explore MODEL`: the main job."""

from typing import Any

from qsjax.cli import options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import verb
from qsjax.output.result import Result
from qsjax.questions.explore import explore


@verb("explore")
@options.one_model
@options.workload_options()
@options.axis_options
@options.level_option
def command(model: str, **flags: Any) -> Result:
    r"""Find the best split of MODEL and of its dense twins, over every partition.

    MODEL is a name (`qsjax models`), a Hugging Face config.json or a TOML file.

    \b
    Examples:
      qsjax explore deepseek-v3 --gpus 64
      qsjax explore mixtral-8x7b --gpus 8..64 --hardware h200-sxm --context 8k,32k --twins none
      qsjax explore grok-1 --hardware paper-reference --convention both --twins 2,3,5
    """
    return explore(problem_of(model, flags), level=flags["level"])
