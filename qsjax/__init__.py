"""qsjax: every way of serving a language model, evaluated at once and differentiated."""

import jax

jax.config.update("jax_enable_x64", True)

__version__ = "0.1.0"
