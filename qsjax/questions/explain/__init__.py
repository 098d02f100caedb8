"""One stated deployment: does it run, where do memory and time go, and what would be better."""

from qsjax.questions.explain.answers import Explanation as Explanation
from qsjax.questions.explain.answers import explain as explain
from qsjax.questions.explain.deployed import explain_command as explain_command
from qsjax.questions.explain.stated import is_command as is_command
