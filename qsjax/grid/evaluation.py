"""Many designs at once, each with its own inputs: few by NumPy, many compiled."""

import math
from typing import Any

import jax
import numpy as np

from qsjax.cost.decode import StepCost, decode_step
from qsjax.grid.optimum import SMALL
from qsjax.grid.scoring import WIDE
from qsjax.numerics.float64 import in_float64
from qsjax.numerics.numpy_backend import on_host
from qsjax.records.scenario import Records
from qsjax.records.specs import Convention


def _evaluate(records: Records, convention: Convention) -> StepCost:
    return decode_step(records, convention)


_evaluate_on_host = on_host(_evaluate)
_evaluate_compiled = in_float64(jax.jit(_evaluate, compiler_options=WIDE))


def evaluate(records: Records, convention: Convention) -> StepCost:
    """The decode step of broadcast records."""
    leaves = jax.tree.leaves(records)
    cells = math.prod(np.broadcast_shapes(*(np.shape(leaf) for leaf in leaves)))
    run = _evaluate_on_host if cells <= SMALL else _evaluate_compiled
    return run(records, convention)


def full(tree: Any, shape: tuple[int, ...]) -> Any:
    """Every leaf as a NumPy array of `shape`."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), shape), tree)
