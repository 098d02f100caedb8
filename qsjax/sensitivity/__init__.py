"""Exact derivatives at every optimum: elasticities, one-sided slopes at kinks, second derivatives.

`problem` states the cells, `solve` finds their best designs, `sensitivity` differentiates there,
`to_dataset` labels the result.
"""

from qsjax.sensitivity.cells import Designs as Designs
from qsjax.sensitivity.cells import Problem as Problem
from qsjax.sensitivity.cells import Winners as Winners
from qsjax.sensitivity.cells import of_variant as of_variant
from qsjax.sensitivity.cells import problem as problem
from qsjax.sensitivity.gradients import Slopes as Slopes
from qsjax.sensitivity.gradients import hessian_at as hessian_at
from qsjax.sensitivity.gradients import slopes_at as slopes_at
from qsjax.sensitivity.gradients import with_rounding as with_rounding
from qsjax.sensitivity.metrics import METRICS as METRICS
from qsjax.sensitivity.parameters import DEFAULT_PARAMETERS as DEFAULT_PARAMETERS
from qsjax.sensitivity.parameters import GROUPS as GROUPS
from qsjax.sensitivity.parameters import HARDWARE_PARAMETERS as HARDWARE_PARAMETERS
from qsjax.sensitivity.parameters import Parameter as Parameter
from qsjax.sensitivity.parameters import resolve as resolve
from qsjax.sensitivity.solution import Sensitivity as Sensitivity
from qsjax.sensitivity.solution import Solution as Solution
from qsjax.sensitivity.solution import sensitivity as sensitivity
from qsjax.sensitivity.solution import solve as solve
from qsjax.sensitivity.solution import to_dataset as to_dataset
