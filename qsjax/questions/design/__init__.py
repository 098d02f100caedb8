"""Inverse design: hardware from a budget or from targets."""

from qsjax.questions.design.costs import CostModel as CostModel
from qsjax.questions.design.costs import Price as Price
from qsjax.questions.design.solvers import design as design
