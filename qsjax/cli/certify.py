"""`qsjax certify MODEL`: what holds in a whole box of hardware numbers, proved."""

from typing import Any

from qsjax.cli import options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.options import flag, verb
from qsjax.cost.metrics import OF_TIME
from qsjax.output.result import Result
from qsjax.questions.certify import CLAIMS, certify
from qsjax.records.conversion import number_of_text

CONTEXTS = (131072.0,)


@verb("certify")
@options.one_model
@options.workload_options("128k")
@options.axis_options
@flag(
    "--box",
    str,
    "How far numbers range: a share of every capacity, rate, time and overlap that is not 0, "
    "or of one number (or context), or its two ends. May be repeated.",
    ("0.25",),
    multiple=True,
    metavar="SHARE | NAME=SHARE | NAME=LOW:HIGH",
)
@flag(
    "--claim claims",
    CLAIMS,
    "What to prove.  [default: all]",
    CLAIMS,
    multiple=True,
    show_default=False,
)
@flag("--metric", OF_TIME, "What is best.", "tokens_per_s_per_gpu")
def command(model: str, **flags: Any) -> Result:
    r"""Prove who wins, by which split, and what limits it, in a whole box of hardware numbers.

    Each claim is proved, refuted by a point where it fails, or left undecided with the share of the
    box in which it is proved. `largest` is the largest box in which it is proved, over the one
    asked for.

    \b
    Examples:
      qsjax certify deepseek-v3 --gpus 32 --convention paper
      qsjax certify grok-1 --gpus 32 --box hbm_bw=0.25 --box context=64k:128k --claim winner
    """
    problem = problem_of(model, flags, CONTEXTS, objective=flags["metric"])
    return certify(problem, _box(flags["box"]), claims=flags["claims"])


def _box(given: tuple[str, ...]) -> Any:
    try:
        if len(given) == 1 and "=" not in given[0]:
            return float(given[0])
        box = {name.strip(): _ends(ends) for name, _, ends in (g.partition("=") for g in given)}
        if len(box) == len(given):
            return box
        raise ValueError
    except ValueError:
        raise ValueError(
            f"--box {' '.join(given)!r}: write one share such as 0.25, or for each number "
            "one NAME=0.25 or NAME=LOW:HIGH"
        ) from None


def _ends(written: str) -> Any:
    numbers = [number_of_text(part) for part in written.split(":")]
    return numbers[0] if len(numbers) == 1 else tuple(numbers)
