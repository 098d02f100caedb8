"""The paper's tables: what is printed, what we compute, and where the two differ."""

from qsjax.paper.cell import Cell as Cell
from qsjax.paper.cell import beyond_rounding_pct as beyond_rounding_pct
from qsjax.paper.cell import error_pct as error_pct
from qsjax.paper.cells import reproduce as reproduce
from qsjax.paper.cells import time_model_error as time_model_error
from qsjax.paper.printed import CALIBRATION as CALIBRATION
from qsjax.paper.printed import MODELS as MODELS
