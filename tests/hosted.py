"""Laws by NumPy, as questions evaluate them: called by itself, JAX runs a law op by op."""

from functools import wraps

from qsjax.numerics.numpy_backend import is_traced, on_host


def hosted(law):
    """The law, by JAX only where a transformation of JAX wants to know."""
    by_numpy = on_host(law)

    @wraps(law)
    def run(*args, **options):
        return (law if is_traced(args) else by_numpy)(*args, **options)

    return run
