"""How the report writes its numbers and tables."""

from collections.abc import Iterable
from typing import Any

from benchmarks import problem

M = 1e6
Found = dict[str, Any]
DTYPES = {"float64": "f64", "float32": "f32"}


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(x) for x in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def millions(rate: float) -> str:
    return f"{rate / M:,.1f} M" if rate < 1e9 else f"{rate / 1e9:,.2f} G"


def sizes(found: Found) -> list[str]:
    """Cells of the smaller and of the larger grid of one call."""
    return [millions(n * problem.DESIGNS * problem.VARIANTS) for n in found["contexts"]]
