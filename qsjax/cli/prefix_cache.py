"""`qsjax prefix-cache MODEL...`: keep prefixes, load them from a tier, or compute them again."""

from typing import Any

from qsjax.cli import grid_options, options, serving_options
from qsjax.cli.options import flag, verb
from qsjax.output.result import Result
from qsjax.questions.prefix_cache import prefix_cache
from qsjax.records.conversion import names_of


@verb("prefix-cache")
@options.some_models
@options.quality_options
@serving_options.reuse_options
@flag("--tiers", str, "Of host, ssd and remote, with commas.  [default: all there are]")
@options.axis_options
@serving_options.economy_options
def command(models: tuple[str, ...], **flags: Any) -> Result:
    r"""Say what it costs to keep the cache of prefixes, to load it, or to compute it again.

    A share of each prompt was seen before. Its cache is kept in HBM, where it takes room from
    running sequences, or loaded from a tier that the accelerator has (host memory, SSDs, a remote
    store), or computed again.

    \b
    Examples:
      qsjax prefix-cache deepseek-v3 --hardware h200-sxm --gpus 16 --twins 1
      qsjax prefix-cache llama-3.1-70b --hardware h100-sxm --gpus 4 --isl 32k \
        --prefix-hit-rate 0.9 --reuse-interval 300s --tiers host,ssd
    """
    reuse, others = serving_options.reuse_flags(flags)
    problem = grid_options.problem_of(models, others)
    return prefix_cache(problem, **reuse, tiers=names_of(flags["tiers"] or ()) or None)
