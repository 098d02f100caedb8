"""Settings that hold for every test: one thread a worker, eight CPU devices, strict promotion."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # XLA and BLAS size their thread pools when loaded; the workers already use all cores.
    for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import jax

jax.config.update("jax_num_cpu_devices", 8)  # so that sharded code runs on any machine
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests call laws by themselves; entry points switch 64 bits on where a process has not.
jax.config.update("jax_enable_x64", True)

# The first call of a jitted function compiles, so a deadline would measure XLA.
hypothesis.settings.register_profile("qsjax", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("qsjax")
