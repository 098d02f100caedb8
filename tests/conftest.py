"""Settings that hold for every test: one thread a worker, eight CPU devices, strict promotion.

Compiled programs are kept in pytest's cache folder: for the other workers, for the processes that
tests start, and for the next run. `QSJAX_CACHE=off` compiles everything anew.
"""

import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # XLA and BLAS size their thread pools when loaded; the workers already use all cores.
    for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
if version("jaxlib") == "0.10.1":  # another one may not know the flag, and then XLA aborts
    # XLA's new writer of fused loops takes three times as long over a law of 900 scalar operations,
    # and LLVM's optimisation as long as all the rest, for programs that run once on little data.
    # What compares compiled programs with oracle and NumPy, `make test` runs as a user's process
    # compiles (XLA_FLAGS=). No program is cut into parts for threads that the workers do not have.
    flags = (
        "cpu_use_fusion_emitters=false",
        "cpu_parallel_codegen_split_count=1",
        "backend_optimization_level=0",
    )
    os.environ.setdefault("XLA_FLAGS", " ".join(f"--xla_{flag}" for flag in flags))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("QSJAX_CACHE", str(Path(__file__).parents[1] / ".pytest_cache/programs"))

import hypothesis
import jax
import pytest

from qsjax.numerics import programs
from qsjax.questions.simulation import events

# Modules and collected tests stay, and tracing makes millions of objects: Python's own rhythm of
# looking through them all for cycles took a fifth of the time.
gc.set_threshold(100_000, 20, 20)

jax.config.update("jax_num_cpu_devices", 8)  # so that sharded code runs on any machine
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests call laws by themselves; entry points switch 64 bits on where a process has not.
jax.config.update("jax_enable_x64", True)
# Optimised, the loop over events is no slower to compile, and runs in a fifth of the time.
events.run_block = jax.jit(
    events.scan,
    static_argnames="iterations",
    compiler_options={"xla_backend_optimization_level": 1},
)
if folder := programs.folder():
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The first call of a jitted function compiles, so a deadline would measure XLA.
hypothesis.settings.register_profile("qsjax", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("qsjax")


@pytest.fixture(autouse=True)
def _no_figure_stays():
    yield
    if plt := sys.modules.get("matplotlib.pyplot"):
        plt.close("all")


def pytest_collection_finish():
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Files with slow tests first, so that no worker is left alone with one of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
