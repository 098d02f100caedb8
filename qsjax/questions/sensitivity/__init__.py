"""Exact derivatives at every optimum, how far they hold, and what uncertain inputs do.

Elasticities, one-sided slopes at kinks, second derivatives, switches, and spreads.
"""

from qsjax.grid.distributions import Distribution as Distribution
from qsjax.grid.distributions import lognormal as lognormal
from qsjax.grid.distributions import normal as normal
from qsjax.grid.distributions import triangular as triangular
from qsjax.grid.distributions import uniform as uniform
from qsjax.grid.parameters import DEFAULT_PARAMETERS as DEFAULT_PARAMETERS
from qsjax.questions.sensitivity.answers import hessian as hessian
from qsjax.questions.sensitivity.answers import sensitivity as sensitivity
from qsjax.questions.sensitivity.answers import switching as switching
from qsjax.questions.sensitivity.draws import uncertainty as uncertainty
from qsjax.questions.sensitivity.slopes import METRIC_NAMES as METRIC_NAMES
