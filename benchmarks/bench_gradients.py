"""Slopes at every optimum of a problem beside the search itself and beside finite differences.

Prints JSON. The search is `solve` over the full partition tensor of 10^7 designs; its optima are
differentiated in 15 parameters, exactly and by central differences, in the same run. Before it a
first gradient and a first `vmap` of one design, with what JAX needs to start.

    python benchmarks/bench_gradients.py
"""

import json
import time

import jax
import numpy as np

import qsjax as qs
from qsjax.grid.cells import cells_of, step_of
from qsjax.grid.gradients import slopes_at
from qsjax.grid.parameters import resolve, scaled, with_rounding
from qsjax.grid.problem import Problem
from qsjax.grid.solution import solve
from qsjax.numerics.loading import in_float64

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


def first_calls_of_decode():
    """Seconds until the first gradient of `qs.decode` in a rate, then of a first `vmap`."""
    hardware, split = qs.hardware("h200-sxm"), qs.Partition(tp=8, ep=8)

    def tpot(hbm_bw):
        changed = hardware.replace(hbm_bw=hbm_bw)
        return qs.decode("deepseek-v3", changed, split, context="8k", batch=64).tpot

    tpot(4.8e12)  # reads the catalogue
    times = []
    for call in (lambda: jax.grad(tpot)(4.8e12), lambda: jax.vmap(tpot)(np.full(1000, 4.8e12))):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


@in_float64
def measure():
    """One search, its exact slopes and the differences, as a dict of plain numbers."""
    first_of_decode = first_calls_of_decode()
    problem = Problem("deepseek-v3", "paper-reference", gpus=64, context=CONTEXTS, twins=[5])
    found = {}

    def sweep():
        found["solution"] = solve(cells_of(problem))

    sweep_first, sweep_time = best_time(sweep)
    solution = found["solution"]
    winners = solution.winners._replace(inputs=with_rounding(solution.winners.inputs, "relaxed"))
    relaxed = jax.tree.map(lambda x: np.asarray(x)[solution.is_feasible], winners)
    inputs = relaxed.inputs

    def exact(one_sided):
        return slopes_at(relaxed, PARAMETERS, [METRIC], one_sided=one_sided)

    exact_first, exact_time = best_time(lambda: exact(False))
    sided_first, sided_time = best_time(lambda: exact(True))
    _, difference_time = best_time(lambda: differences(relaxed))
    gap = np.abs(exact(False).elasticity[0] - differences(relaxed))
    return {
        "benchmark": "gradients",
        "designs": solution.cells.cells * solution.cells.enumerated,
        "optima": len(inputs.q),
        "parameters": len(PARAMETERS),
        "sweep_s": sweep_time,
        "elasticities_s": exact_time,
        "elasticities_over_sweep": exact_time / sweep_time,
        "with_both_sides_s": sided_time,
        "with_both_sides_over_sweep": sided_time / sweep_time,
        "differences_s": difference_time,
        "first_of_decode_s": first_of_decode,
        "first_calls_s": [sweep_first, exact_first, sided_first],
        "median_gap": float(np.median(gap)),
        "largest_gap": float(gap.max()),
        "step_of_differences": STEP,
        "device": str(jax.devices()[0]),
        "jax": jax.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
