"""Architectures of equal quality under published laws, and which of them serves best."""

from qsjax.questions.architecture.answers import architecture as architecture
from qsjax.questions.architecture.laws import LAWS as LAWS
