"""What an infeasible cell would need: checked by giving it, and by a brute-force enumeration."""

import dataclasses
import itertools

import numpy as np
import pytest

from qsjax import catalog
from qsjax.grid.axes import make_axes, stack
from qsjax.grid.problem import axis_values, grid_of, variants_of
from qsjax.grid.search import evaluate, search
from qsjax.questions.serving import MOST_GPUS, _power_of_two_partitions, relax
from qsjax.records.scenario import Records
from qsjax.records.specs import PAPER, PHYSICAL, Partition, Workload
from qsjax.records.units import GIB

GPU = dataclasses.replace(catalog.hardware("h100-sxm"), reserve_bytes=1.5 * GIB)
MODEL = catalog.model("deepseek-v3")


def problem(convention, gpus=(8,), contexts=(4096, 2**24), batch=None, **overrides):
    variants = variants_of(MODEL, [5.0], convention)
    axes = grid_of(variants, axis_values(gpus, contexts, overrides))
    specs = stack([variant.spec for variant in variants])
    return Records(specs, GPU, Partition(), Workload(context=1.0, batch=batch)), axes


def with_capacity(records, hbm_bytes):
    return records._replace(hardware=dataclasses.replace(GPU, hbm_bytes=float(hbm_bytes)))


@pytest.mark.parametrize("convention", [PHYSICAL, PAPER], ids=["physical", "paper"])
@pytest.mark.parametrize("batch", [None, 3.0])
def test_the_capacity_is_just_enough(convention, batch):
    records, axes = problem(convention, batch=batch)
    assert not search(records, axes, convention).is_feasible.all()
    needed = relax(records, axes, convention).hbm_bytes
    assert np.isfinite(needed).all()
    for cell in np.ndindex(needed.shape):
        enough = search(with_capacity(records, needed[cell]), axes, convention)
        less = search(with_capacity(records, needed[cell] * (1 - 1e-9)), axes, convention)
        assert enough.is_feasible[cell]
        assert not less.is_feasible[cell]


def degrees_of(count):
    powers = [2.0**k for k in range(int(np.log2(count)) + 1)]
    for tp, ep, dp, kvp in itertools.product(powers, repeat=4):
        if count % (tp * dp * kvp) == 0:
            yield {"tp": tp, "ep": ep, "dp": dp, "kvp": kvp, "pp": count / (tp * dp * kvp)}


def test_the_gpu_count_is_the_smallest_by_brute_force():
    records, axes = problem(PHYSICAL, gpus=(4,))
    found = relax(records, axes, PHYSICAL).gpus[:, 0, 0]
    for i, variant in enumerate(variants_of(MODEL, [5.0], PHYSICAL)):

        def fits(count, spec=variant.spec):
            rows = list(degrees_of(count))
            split = {k: np.array([row[k] for row in rows]) for k in rows[0]}
            workload = Workload(context=4096.0)
            step = evaluate(Records(spec, GPU, Partition(**split), workload, None), PHYSICAL)
            return bool(np.any(np.asarray(step.reasons) == 0))

        assert found[i] == next(n for n in (1, 2, 4, 8, 16, 32, 64) if fits(n))
    assert found[0] > 4


def test_the_partitions_are_all_of_them():
    partition, counts = _power_of_two_partitions()
    small = counts == 8
    listed = {
        tuple(float(getattr(partition, k)[i, 0]) for k in ("tp", "ep", "pp", "dp", "kvp"))
        for i in np.flatnonzero(small)
    }
    expected = {
        tuple(row[k] for k in ("tp", "ep", "pp", "dp", "kvp"))
        for row in degrees_of(8)
        if row["ep"] <= row["tp"] * row["dp"] * row["kvp"]
    }
    assert listed == expected
    assert small.sum() == len(expected)
    assert counts.max() == MOST_GPUS
    assert counts.min() == 1


def test_nothing_helps_without_a_legal_partition_or_with_too_long_a_context():
    records, axes = problem(PHYSICAL, contexts=(2.0**39,), tp=[3])
    found = relax(records, axes, PHYSICAL)
    assert np.isnan(found.hbm_bytes).all()
    assert np.isnan(found.gpus).all()


def test_only_the_cells_asked_for_are_looked_at():
    records, axes = problem(PHYSICAL)
    where = np.zeros((2, 1, 2), bool)
    where[1, 0, 0] = True
    found = relax(records, axes, PHYSICAL, where)
    assert (np.isfinite(found.hbm_bytes) == where).all()
    assert (np.isfinite(found.gpus) == where).all()


def test_the_smallest_batch_of_an_axis_counts():
    records, axes = problem(PHYSICAL)
    values = {axis.name: axis.names or axis.values for axis in axes.all}
    searched = make_axes(values | {"batch": [16, 2]}, searched=("batch",))
    fixed = records._replace(workload=Workload(context=1.0, batch=2.0))
    expected = relax(fixed, axes, PHYSICAL).hbm_bytes
    assert (relax(records, searched, PHYSICAL).hbm_bytes == expected).all()
    assert (expected > relax(records, axes, PHYSICAL).hbm_bytes).all()
