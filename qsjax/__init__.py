"""qsjax: every way of serving a language model, evaluated at once and differentiated.

`Problem` says what is asked: models, accelerators, GPU counts, contexts, limits. A question is a
function of it (`explore`, `pareto`, `sensitivity`, ...); its result has `dataset`, `frame()`,
`plot()` and `save()`. `decode` and `prefill` are one step of one design, for `jax.jit`, `jax.vmap`
and `jax.grad`.
"""

import lazy_loader

__version__ = "0.1.0"
# The names stand in `__init__.pyi`, for type checkers too. Each is imported when it is first used:
# JAX takes most of a second, SciPy and matplotlib as much.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
