"""Exact derivatives at every optimum: elasticities, one-sided slopes at kinks, second derivatives.

`problem` states the cells, `solve` finds their best designs, `sensitivity` differentiates there,
`to_dataset` labels the result.
"""

from qsjax.grid.optimum import Designs as Designs
from qsjax.grid.optimum import Problem as Problem
from qsjax.grid.optimum import Winners as Winners
from qsjax.grid.optimum import of_variant as of_variant
from qsjax.grid.optimum import problem as problem
from qsjax.grid.parameters import DEFAULT_PARAMETERS as DEFAULT_PARAMETERS
from qsjax.grid.parameters import GROUPS as GROUPS
from qsjax.grid.parameters import HARDWARE_PARAMETERS as HARDWARE_PARAMETERS
from qsjax.grid.parameters import Parameter as Parameter
from qsjax.grid.parameters import resolve as resolve
from qsjax.grid.parameters import with_rounding as with_rounding
from qsjax.grid.solution import Solution as Solution
from qsjax.grid.solution import solve as solve
from qsjax.questions.sensitivity.gradients import Slopes as Slopes
from qsjax.questions.sensitivity.gradients import hessian_at as hessian_at
from qsjax.questions.sensitivity.gradients import slopes_at as slopes_at
from qsjax.questions.sensitivity.metrics import METRICS as METRICS
from qsjax.questions.sensitivity.solution import Sensitivity as Sensitivity
from qsjax.questions.sensitivity.solution import sensitivity as sensitivity
from qsjax.questions.sensitivity.solution import to_dataset as to_dataset
