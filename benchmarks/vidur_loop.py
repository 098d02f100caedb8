"""Vidur's event loop, timed in an environment of its own: `PYTHON benchmarks/vidur_loop.py`.

Vidur 0.0.26 (`pip install vidur`) needs profiles that the package does not bring. Here every step
takes a constant time instead, so that only its loop and its scheduler are timed: its predictor
would add to that. Prints one JSON object.
"""

import json
import os
import sys
import time

os.environ["WANDB_MODE"] = "disabled"
REQUESTS, TOKENS, LAYERS = 1_000, 922, 32
OPTIONS = {
    "request_generator_config_type": "synthetic",
    "synthetic_request_generator_config_num_requests": REQUESTS,
    "length_generator_config_type": "fixed",
    "fixed_request_length_generator_config_prefill_tokens": TOKENS,
    "fixed_request_length_generator_config_decode_tokens": TOKENS,
    "interval_generator_config_type": "poisson",
    "poisson_request_interval_generator_config_qps": 2,
    "replica_scheduler_config_type": "vllm",
}
OFF = ("write_metrics", "store_plots", "enable_chrome_trace")


def main():
    """Run one replica."""
    import vidur.execution_time_predictor.random_forrest_execution_time_predictor as forest
    from vidur._native.entities import ExecutionTime
    from vidur.config import SimulationConfig
    from vidur.execution_time_predictor.base_execution_time_predictor import (
        BaseExecutionTimePredictor,
    )
    from vidur.simulator import Simulator

    predictor = forest.RandomForrestExecutionTimePredictor
    step = ExecutionTime(LAYERS, *([0.02] * 12), 0.0, 0.0)
    predictor.__init__ = BaseExecutionTimePredictor.__init__
    predictor.__abstractmethods__ = frozenset()
    predictor.get_execution_time = lambda *_: step
    words = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]
    sys.argv = [sys.argv[0], *words, *(f"--no-metrics_config_{name}" for name in OFF)]
    simulator = Simulator(SimulationConfig.create_from_cli_args())
    start = time.perf_counter()
    simulator.run()
    seconds = time.perf_counter() - start
    print(json.dumps({"requests": REQUESTS, "requests_per_s": REQUESTS / seconds}))


if __name__ == "__main__":
    main()
