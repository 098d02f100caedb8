"""Slopes at every optimum of a sweep beside the sweep itself and beside finite differences.

Prints JSON. The sweep is `search` over the full partition tensor of 10^7 designs; its optima are
differentiated in 15 parameters, exactly and by central differences, in the same run.

    python benchmarks/bench_gradients.py
"""

import json
import time

import jax
import numpy as np

import qsjax  # noqa: F401  # switches on 64-bit numbers
from qsjax import catalog
from qsjax.grid.axes import stack
from qsjax.grid.optimum import step_of, take
from qsjax.grid.parameters import Inputs, scaled, write
from qsjax.grid.problem import axis_values, grid_of, variants_of
from qsjax.grid.search import search
from qsjax.questions.sensitivity import Designs, Winners, resolve, slopes_at
from qsjax.records.scenario import Records
from qsjax.records.specs import PHYSICAL, Partition, Workload

PARAMETERS = resolve(
    [
        *("hbm_bytes", "hbm_bw", "flops_bf16", "flops_fp8", "intra_bw", "inter_bw"),
        *("intra_latency", "inter_latency", "eff_gemm", "eff_link", "layer_overhead"),
        *("q", "context", "bytes_kv", "bytes_ffn_weight"),
    ]
)
METRIC = "tokens_per_s_per_gpu"
REPEATS = 5
STEP = 1e-3
CONTEXTS = 1024.0 * 2 ** np.linspace(0, 14, 150)


@jax.jit
def rate(winners):
    """Log tokens/s/GPU of every row."""
    return jax.numpy.log(step_of(winners).tokens_per_s_per_gpu)


def best_time(run):
    """Seconds of the first call (with compilation) and the least of some more."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:])


def winners_of(optimum, model, qs):
    """The optima as rows that can be differentiated, q included."""
    shape = optimum.is_feasible.shape
    count = int(np.prod(shape))

    def rows(tree):
        return jax.tree.map(
            lambda x: np.broadcast_to(np.asarray(x, np.float64), shape).reshape(count), tree
        )

    hardware, workload = rows(optimum.records.hardware), rows(optimum.records.workload)
    q = np.broadcast_to(np.asarray(qs).reshape(-1, 1, 1), shape).reshape(count)
    rules = jax.tree.map(lambda x: np.full(count, x, np.float64), PHYSICAL)
    base = jax.tree.map(lambda x: np.full(count, x, np.float64), model)
    inputs = Inputs(base, hardware, workload, rules, q, rows(optimum.records.gpus))
    return Winners(write(inputs, {}), Designs(rows(optimum.records.partition), None))


def differences(winners):
    """Elasticities by central differences, two evaluations for each parameter."""
    slopes = []
    for parameter in PARAMETERS:
        ends = [
            np.asarray(rate(winners._replace(inputs=scaled(winners.inputs, parameter, f))))
            for f in (np.exp(STEP), np.exp(-STEP))
        ]
        slopes.append((ends[0] - ends[1]) / (2 * STEP))
    return np.stack(slopes)


def measure():
    """One sweep, its exact slopes and the differences, as a dict of plain numbers."""
    model, hardware = catalog.model("deepseek-v3"), catalog.hardware("paper-reference")
    variants = variants_of(model, [5.0], PHYSICAL)
    axes = grid_of(variants, axis_values([64], CONTEXTS.tolist(), {}))
    records = Records(stack([v.spec for v in variants]), hardware, Partition(), Workload(context=1))
    found = {}

    def sweep():
        found["optimum"] = search(records, axes, PHYSICAL)

    sweep_first, sweep_time = best_time(sweep)
    optimum = found["optimum"]
    winners = winners_of(optimum, model, [0.0, 5.0])
    relaxed = take(winners, optimum.is_feasible.ravel())
    inputs = relaxed.inputs
    rules = inputs.convention.__class__(rounding="relaxed")
    rules = jax.tree.map(lambda x: np.full(len(inputs.q), x, np.float64), rules)
    relaxed = relaxed._replace(inputs=inputs._replace(convention=rules))

    def exact(one_sided):
        return slopes_at(relaxed, PARAMETERS, [METRIC], one_sided=one_sided)

    exact_first, exact_time = best_time(lambda: exact(False))
    sided_first, sided_time = best_time(lambda: exact(True))
    _, difference_time = best_time(lambda: differences(relaxed))
    gap = np.abs(exact(False).elasticity[0] - differences(relaxed))
    return {
        "benchmark": "gradients",
        "designs": axes.cells,
        "optima": len(inputs.q),
        "parameters": len(PARAMETERS),
        "sweep_s": sweep_time,
        "elasticities_s": exact_time,
        "elasticities_over_sweep": exact_time / sweep_time,
        "with_both_sides_s": sided_time,
        "with_both_sides_over_sweep": sided_time / sweep_time,
        "differences_s": difference_time,
        "first_calls_s": [sweep_first, exact_first, sided_first],
        "median_gap": float(np.median(gap)),
        "largest_gap": float(gap.max()),
        "step_of_differences": STEP,
        "device": str(jax.devices()[0]),
        "jax": jax.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
