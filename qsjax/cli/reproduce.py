"""`qsjax reproduce`: the paper's tables beside ours."""

from qsjax.cli.options import verb
from qsjax.evidence.paper import reproduce
from qsjax.output.result import Result


@verb("reproduce")
def command() -> Result:
    r"""Recompute tables 1, 3, 4, 5, 6 and section 3.4 of the paper, cell by cell.

    Beside each printed number: ours under the paper's convention, its error, the error beyond what
    the printed digits allow, and ours under the physical convention. Batches are computed with a
    capacity calibrated per model (declared in the notes); the physical column has no calibration.

    \b
    Examples:
      qsjax reproduce
      qsjax reproduce --format json
      qsjax reproduce --out results/paper
    """
    return reproduce()
