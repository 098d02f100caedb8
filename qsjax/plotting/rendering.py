"""A finished figure as bytes: the same bytes for the same figure, on every run."""

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qsjax.plotting.style import in_force

Format = Literal["svg", "png", "pdf"]


def render(drawn: Axes | Figure, format_: Format = "svg") -> bytes:
    """The figure as the content of a file, without dates and with stable identifiers."""
    fig = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    assert fig is not None
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[format_]
    buffer = io.BytesIO()
    with in_force():
        fig.canvas.print_figure(
            buffer,
            format=format_,
            dpi=160,
            facecolor="none",
            edgecolor="none",
            bbox_inches="tight",
            pad_inches=0.08,
            metadata=undated,
        )
    return buffer.getvalue()
