"""What an infeasible cell would need: checked by giving it, and by a brute-force enumeration."""

import dataclasses
import itertools

import numpy as np
import pytest

from qsjax import catalog
from qsjax.cost.decode import evaluate
from qsjax.cost.laws.params import dense_twin
from qsjax.grid.cells import cells_of
from qsjax.grid.needs import MOST_GPUS, _power_of_two_partitions, least_gpus
from qsjax.grid.optimum import least_hbm_bytes
from qsjax.grid.problem import Problem
from qsjax.grid.solution import solve
from qsjax.records.specs import PHYSICAL, Partition, Records, Workload
from qsjax.records.units import GIB

GPU = dataclasses.replace(catalog.hardware("h100-sxm"), reserve_bytes=1.5 * GIB)
MODEL = catalog.model("deepseek-v3")
WORK = Workload(context=1.0)


def problem(convention="physical", hardware=GPU, **more):
    arguments = {"gpus": 8, "context": [4096, 2**24], "twins": 5, "workload": WORK}
    return Problem(MODEL, hardware, convention=convention, **(arguments | more))


def least_of(solution):
    return least_hbm_bytes(solution.cells.inputs, solution.best)


def solved(*args, **more):
    return solve(cells_of(problem(*args, **more)))


def counts(**more):
    cells = cells_of(problem(**more))
    return least_gpus(cells, np.ones(cells.cells, bool))


@pytest.mark.parametrize("convention", ["physical", "paper"])
@pytest.mark.parametrize("batch", ["largest", 3.0])
def test_the_capacity_is_just_enough(convention, batch):
    found = solved(convention, batch=batch)
    assert not found.is_feasible.all()
    needed = least_of(found)
    assert np.isfinite(needed).all()
    for cell, capacity in enumerate(needed):
        for factor, is_enough in ((1.0, True), (1 - 1e-9, False)):
            chip = dataclasses.replace(GPU, hbm_bytes=float(capacity * factor))
            assert solved(convention, chip, batch=batch).is_feasible[cell] == is_enough


def degrees_of(count):
    powers = [2.0**k for k in range(int(np.log2(count)) + 1)]
    for tp, ep, dp, kvp in itertools.product(powers, repeat=4):
        if count % (tp * dp * kvp) == 0:
            yield {"tp": tp, "ep": ep, "dp": dp, "kvp": kvp, "pp": count / (tp * dp * kvp)}


def test_the_gpu_count_is_the_smallest_by_brute_force():
    found = counts(gpus=4, context=4096)
    for i, own in enumerate((MODEL, dense_twin(MODEL, 5.0))):

        def fits(count, spec=own):
            rows = list(degrees_of(count))
            split = {k: np.array([row[k] for row in rows]) for k in rows[0]}
            workload = dataclasses.replace(WORK, context=4096.0)
            step = evaluate(Records(spec, GPU, Partition(**split), workload, None), PHYSICAL)
            return bool(np.any(np.asarray(step.reasons) == 0))

        assert found[i] == next(n for n in (1, 2, 4, 8, 16, 32, 64) if fits(n))
    assert found[0] > 4


def test_the_partitions_are_all_of_them():
    partition, gpus = _power_of_two_partitions()
    small = gpus == 8
    listed = {
        tuple(float(getattr(partition, k)[i]) for k in ("tp", "ep", "pp", "dp", "kvp"))
        for i in np.flatnonzero(small)
    }
    expected = {
        tuple(row[k] for k in ("tp", "ep", "pp", "dp", "kvp"))
        for row in degrees_of(8)
        if row["ep"] <= row["tp"] * row["dp"] * row["kvp"]
    }
    assert listed == expected
    assert small.sum() == len(expected)
    assert gpus.max() == MOST_GPUS
    assert gpus.min() == 1


def test_nothing_helps_without_a_legal_partition_or_with_too_long_a_context():
    alone = dict.fromkeys(("tp", "pp", "dp", "kvp"), 1)
    never = solved(axes={**alone, "kv_mode": "cp"})  # a ring of one
    assert np.isinf(least_of(never)).all()
    assert np.isnan(counts(context=2.0**39)).all()


def test_only_the_cells_asked_for_are_looked_at():
    cells = cells_of(problem())
    where = np.array([False, False, True, False])
    assert (np.isfinite(least_gpus(cells, where)) == where).all()


def test_the_smallest_batch_of_several_counts():
    expected = least_of(solved(batch=2))
    assert (least_of(solved(batch=[16, 2])) == expected).all()
    assert (expected > least_of(solved())).all()
    assert (counts(batch=[16, 2]) == counts(batch=2)).all()
