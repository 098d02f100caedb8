"""Break-even points and targets, each with all of its roots or the reason why there is none."""

from qsjax.breakeven.roots import Root as Root
from qsjax.breakeven.roots import Roots as Roots
from qsjax.breakeven.solvers import break_even as break_even
from qsjax.breakeven.solvers import least_gpus as least_gpus
from qsjax.breakeven.solvers import reach as reach
