"""qsjax: every way of serving a language model, evaluated at once and differentiated."""

__version__ = "0.1.0"
