"""Models, accelerators and conventions side by side: who wins, by how much, where, and why."""

from qsjax.questions.compare.answers import compare as compare
from qsjax.questions.compare.ranking import Subject as Subject
