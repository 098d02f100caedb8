"""qsjax: every way of serving a language model, evaluated at once and differentiated."""

import jax

# float64 is the reference precision: byte counts reach 1e15, and floor() of a batch must not flip.
jax.config.update("jax_enable_x64", True)

from qsjax.catalog import hardware as hardware
from qsjax.catalog import ideal as ideal
from qsjax.catalog import model as model
from qsjax.catalog import workload as workload
from qsjax.cost.params import active_params as active_params
from qsjax.cost.params import dense_twin as dense_twin
from qsjax.cost.params import total_params as total_params
from qsjax.decode import StepCost as StepCost
from qsjax.decode import decode_step as decode_step
from qsjax.explore import Exploration as Exploration
from qsjax.explore import explore as explore
from qsjax.export import best_rows as best_rows
from qsjax.export import grid_dataset as grid_dataset
from qsjax.export import to_dataset as to_dataset
from qsjax.grid import Records as Records
from qsjax.grid import make_axes as make_axes
from qsjax.grid import stack as stack
from qsjax.ledger import time_ledger as time_ledger
from qsjax.search import Optimum as Optimum
from qsjax.search import search as search
from qsjax.specs import PAPER as PAPER
from qsjax.specs import PHYSICAL as PHYSICAL
from qsjax.specs import Convention as Convention
from qsjax.specs import HardwareSpec as HardwareSpec
from qsjax.specs import ModelSpec as ModelSpec
from qsjax.specs import Partition as Partition
from qsjax.specs import Workload as Workload

__version__ = "0.1.0"
