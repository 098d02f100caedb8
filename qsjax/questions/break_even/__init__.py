"""Break-even points and targets, each with all of its roots or the reason why there is none."""

from qsjax.questions.break_even.roots import Root as Root
from qsjax.questions.break_even.roots import Roots as Roots
from qsjax.questions.break_even.solvers import break_even as break_even
from qsjax.questions.break_even.solvers import least_gpus as least_gpus
from qsjax.questions.break_even.solvers import reach as reach
