"""A distribution of contexts instead of one: the split that is best for all of them together."""

from qsjax.questions.mix.answers import mix as mix
from qsjax.questions.mix.requests import Request as Request
