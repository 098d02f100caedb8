"""The best design of every model on every accelerator: which split, at which batch, how fast."""

from qsjax.questions.explore.answers import Exploration as Exploration
from qsjax.questions.explore.answers import explore as explore
