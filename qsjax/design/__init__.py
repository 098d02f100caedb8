"""Inverse design: hardware from a budget or from targets."""

from qsjax.design.costs import CostModel as CostModel
from qsjax.design.costs import Price as Price
from qsjax.design.costs import check_cost as check_cost
from qsjax.design.solvers import Design as Design
from qsjax.design.solvers import best_hardware as best_hardware
from qsjax.design.solvers import cheapest_hardware as cheapest_hardware
