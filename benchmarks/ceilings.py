"""What this machine's element-wise units reach in code compiled like the search.

Each loop is one fused kernel with the compiler options and the threads of the search: a few
independent chains of operations on every element, so that neither latency nor memory counts. A
result is compared with these, not with a data sheet: clock, vector width and neighbours are then
the same on both sides.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import best_seconds
from qsjax.grid.scoring import WIDE

# Elements of a kernel: with CHAINS * links operations each, its two passes over memory vanish.
ELEMENTS = {"cpu": 2**18, "gpu": 2**24}
CHAINS = 8
COPY_BYTES, COPIES = 2**26, 8

Operation = Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]


# Each operation takes another chain's value, so that no algebra can shorten the chain.
def _multiply_add(x: jax.Array, other: jax.Array, c: jax.Array, link: int) -> jax.Array:
    return x * c + other


def _larger(x: jax.Array, other: jax.Array, c: jax.Array, link: int) -> jax.Array:
    return jnp.maximum(x, c - other) if link % 2 else jnp.minimum(x, c - other)


def _chosen(x: jax.Array, other: jax.Array, c: jax.Array, link: int) -> jax.Array:
    return jnp.where(x < c, other, x)


def _quotient(x: jax.Array, other: jax.Array, c: jax.Array, link: int) -> jax.Array:
    return other / (x + c)


def _exponential(x: jax.Array, other: jax.Array, c: jax.Array, link: int) -> jax.Array:
    return jnp.exp(x * c - 1.0)


# Name: the operation, how many it counts for, and its links in each chain.
KINDS: dict[str, tuple[Operation, int, int]] = {
    "multiply_add": (_multiply_add, 2, 32),
    "max_min": (_larger, 2, 32),  # with the subtraction that keeps it from being folded
    "compare_select": (_chosen, 2, 32),
    "divide": (_quotient, 1, 6),
    "exp": (_exponential, 1, 3),
}


@partial(jax.jit, static_argnames="kind", compiler_options=WIDE)
def _kernel(x: jax.Array, c: jax.Array, kind: str) -> jax.Array:
    operation, _, links = KINDS[kind]
    chains = [x + k * c for k in range(CHAINS)]
    for link in range(links):
        step = 1 + link % (CHAINS - 1)
        chains = [operation(y, chains[(k + step) % CHAINS], c, link) for k, y in enumerate(chains)]
    return sum(chains[1:], chains[0])


def rate(kind: str, dtype: str, seconds: float) -> float:
    """Operations of a kind per second, all cores together."""
    _, count, links = KINDS[kind]
    size = ELEMENTS.get(jax.default_backend(), ELEMENTS["gpu"])
    x = jnp.asarray(np.linspace(0.25, 0.5, size), dtype)
    c = jnp.asarray(0.125, dtype)
    return size * CHAINS * links * count / best_seconds(lambda: _kernel(x, c, kind), seconds)


@partial(jax.jit, donate_argnums=0, compiler_options=WIDE)
def _copy(x: jax.Array) -> jax.Array:
    copied: jax.Array = jax.lax.fori_loop(0, COPIES, lambda _, y: y + 1.0, x)
    return copied


def copy_bandwidth(dtype: str, seconds: float) -> float:
    """Bytes read and written per second by a loop over an array that no cache holds."""
    held = [jnp.zeros(COPY_BYTES // np.dtype(dtype).itemsize, dtype)]

    def call() -> jax.Array:
        held[0] = _copy(held[0])
        return held[0]

    return 2.0 * COPIES * COPY_BYTES / best_seconds(call, seconds)


def ceilings(dtype: str, seconds: float = 0.3) -> dict[str, float]:
    """Operations per second by kind, and bytes per second of a copy, each timed for so long."""
    found = {kind: rate(kind, dtype, seconds) for kind in KINDS}
    return found | {"copy_bytes": copy_bandwidth(dtype, seconds)}
