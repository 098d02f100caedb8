"""Parameters of a model and its dense twin: the laws, of a record, a name or a file."""

import dataclasses
from typing import Any

import numpy as np

from qsjax import catalog
from qsjax.cost.laws import params
from qsjax.cost.laws.params import TwinDefinition
from qsjax.numerics.jaxpr import host_unless_traced
from qsjax.numerics.loading import in_float64
from qsjax.numerics.namespace import ArrayLike
from qsjax.numerics.numpy_backend import is_traced
from qsjax.records import checks
from qsjax.records.specs import ModelSpec

# Numbers, not arrays of JAX: these would warn and lose half of their digits where x64 is off.
_total = host_unless_traced(params.total_params)
_active = host_unless_traced(params.active_params)
_twin = host_unless_traced(params.dense_twin)


def _shapes(model: Any) -> ModelSpec:
    found = model if checks.is_record(model) else catalog.model(model)
    (spec,) = checks.check_records(model=found)
    return spec


@in_float64
def total_params(model: Any) -> ArrayLike:
    """Parameters of a model [1].

    Args:
        model: its shapes, a name or a file, as for `model`.

    Raises:
        ValueError: a number is out of its range.

    >>> round(float(total_params("mixtral-8x7b")) / 1e9, 1)
    46.7
    """
    return _total(_shapes(model))


@in_float64
def active_params(model: Any) -> ArrayLike:
    """Parameters that a token passes through [1]; arguments as for `total_params`.

    >>> round(float(active_params("mixtral-8x7b")) / 1e9, 1)
    12.9
    """
    return _active(_shapes(model))


@in_float64
def dense_twin(model: Any, q: ArrayLike, definition: TwinDefinition = "active_ffn") -> ModelSpec:
    """The dense model of equal quality, if a dense one needs q times the active parameters.

    Args:
        model: the mixture of experts, as for `total_params`.
        q: quality-equivalence factor [1]; broadcasts against the fields.
        definition: "active_ffn" widens the one remaining expert to q times the active width,
            "total" gives every layer one network so that the total is q s times the old one.

    Source: The qs Inequality, arXiv 2603.08960, eq. 11 (active_ffn) and eq. 21 (total).

    Raises:
        ValueError: a number is out of its range, or the model has no experts.

    >>> float(dense_twin("mixtral-8x7b", 5.0).experts)
    1.0
    """
    q, problem = checks.read_field("q", q)
    if problem:
        raise ValueError(f"q: {problem}")
    checks.check_choice("definition", definition, TwinDefinition)
    shapes = _shapes(model)
    if not is_traced(shapes) and np.all(np.asarray(shapes.experts) <= 1):
        raise ValueError(f"model: {shapes.label or 'it'} has no experts, so it has no dense twin")
    twin = _twin(shapes, q, definition=definition)
    name = f"{shapes.label}, q={q:g}" if shapes.label and isinstance(q, float) else shapes.label
    return dataclasses.replace(twin, label=name)
