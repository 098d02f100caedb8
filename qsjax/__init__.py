"""qsjax: every way of serving a language model, evaluated at once and differentiated."""

import jax

# float64 is the reference precision: byte counts reach 1e15, and floor() of a batch must not flip.
jax.config.update("jax_enable_x64", True)

from qsjax.catalog import hardware as hardware
from qsjax.catalog import ideal as ideal
from qsjax.catalog import model as model
from qsjax.catalog import workload as workload
from qsjax.cost.decode import StepCost as StepCost
from qsjax.cost.decode import decode_step as decode_step
from qsjax.cost.laws.params import active_params as active_params
from qsjax.cost.laws.params import dense_twin as dense_twin
from qsjax.cost.laws.params import total_params as total_params
from qsjax.cost.ledger import time_ledger as time_ledger
from qsjax.grid.axes import make_axes as make_axes
from qsjax.grid.axes import stack as stack
from qsjax.grid.search import Optimum as Optimum
from qsjax.grid.search import search as search
from qsjax.output.files import best_rows as best_rows
from qsjax.output.files import grid_dataset as grid_dataset
from qsjax.output.files import to_dataset as to_dataset
from qsjax.questions.explore import Exploration as Exploration
from qsjax.questions.explore import explore as explore
from qsjax.records.scenario import Records as Records
from qsjax.records.specs import PAPER as PAPER
from qsjax.records.specs import PHYSICAL as PHYSICAL
from qsjax.records.specs import Convention as Convention
from qsjax.records.specs import HardwareSpec as HardwareSpec
from qsjax.records.specs import ModelSpec as ModelSpec
from qsjax.records.specs import Partition as Partition
from qsjax.records.specs import Workload as Workload

__version__ = "0.1.0"
