"""Figures of a result folder: drawn by qsjax.plotting, written in one step."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qsjax.output import files


def save(out: Path, drawings: Mapping[str, Callable[[], Any]]) -> list[str]:
    """Draw (each callable returns its Axes) and write every picture as SVG; the file names."""
    from qsjax import plotting  # a second to import: only runs with --out pay

    names = []
    for name, draw in drawings.items():
        files.write_atomically(out / f"{name}.svg", plotting.render(draw()))
        names.append(f"{name}.svg")
    return names
