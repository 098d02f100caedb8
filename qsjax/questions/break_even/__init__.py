"""Break-even points and targets, each with all of its roots or the reason why there is none."""

from qsjax.questions.break_even.solvers import break_even as break_even
from qsjax.questions.break_even.solvers import solve_for as solve_for
