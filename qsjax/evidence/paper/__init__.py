"""The paper's tables: what is printed, what we compute, and where the two differ."""

from qsjax.evidence.paper.cells import Cell as Cell
from qsjax.evidence.paper.cells import time_model_error as time_model_error
from qsjax.evidence.paper.printed import MODELS as MODELS
from qsjax.evidence.paper.reproduction import reproduce as reproduce
