"""A small serving problem and its brute force: every partition at every whole batch."""

import dataclasses

import numpy as np

from qsjax import catalog
from qsjax.grid.axes import axis_arrays, make_axes, place, stack
from qsjax.grid.problem import axis_values, grid_of, variants_of
from qsjax.grid.search import evaluate
from qsjax.records.scenario import Records
from qsjax.records.specs import Partition, Workload

GPU = catalog.hardware("h100-sxm")
CONTEXT = 65536.0


def problem(convention, gpus=(8,), contexts=(CONTEXT,), models=2, **overrides):
    """Mixtral and a dense twin on one island: few partitions, batches of a few dozen."""
    variants = variants_of(catalog.model("mixtral-8x7b"), [2.0], convention)[:models]
    axes = grid_of(variants, axis_values(gpus, contexts, overrides))
    specs = stack([variant.spec for variant in variants])
    return Records(specs, GPU, Partition(), Workload(context=1.0)), axes


def brute_force(records, axes, convention, batches):
    """The step of all partitions at all `batches`, (cells, partitions * batches) each; a mask."""
    values = {axis.name: axis.names or axis.values for axis in axes.all}
    dense = make_axes(values | {"batch": batches}, searched=("batch",))
    step = evaluate(place(records, axis_arrays(dense), convention), convention)
    kept = len(dense.kept)

    def flat(x):
        return np.broadcast_to(np.asarray(x), dense.shape).reshape(*dense.shape[:kept], -1)

    fields = {f.name: getattr(step, f.name) for f in dataclasses.fields(step)}
    rates = ("tpot", "tokens_per_s_per_gpu", "tokens_per_s_per_user", "gpus")
    found = {name: flat(fields[name]) for name in rates}
    cap = step.capacity
    found["headroom"] = flat(1 - (cap.weights + cap.batch * cap.kv_per_sequence) / cap.usable)
    found["batch"] = flat(cap.batch)
    return found, flat(step.reasons) == 0
