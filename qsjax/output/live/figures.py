"""Figures of the live page: Bokeh's plots, drawn from rows in milliseconds, and their tables."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import panel as pn
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Legend, LegendItem, Span
from bokeh.plotting import figure

from qsjax.grid.solution import Row
from qsjax.output import words
from qsjax.output.files import asset
from qsjax.output.labels import split_name
from qsjax.plotting import style
from qsjax.plotting.ledgers import TOLD
from qsjax.questions.explore.titles import finding
from qsjax.records.units import quantity, tokens

INK = style.INKS["both"]  # reads on a light and on a dark page
RATE = "tokens_per_s_per_gpu"
Parts = Mapping[str, Mapping[str, float]]
Look = Callable[[str], style.Look]


WIDE: dict[str, Any] = {"sizing_mode": "stretch_width"}
STYLED: dict[str, Any] = {**WIDE, "stylesheets": [asset("live/assets/widgets.css")]}
STRETCH: dict[str, Any] = {**STYLED, "margin": (0, 5)}


def _figure(height: int, **options: Any) -> Any:
    """A Bokeh figure in our style: no frame, ink for any page, width of its place."""
    plot = figure(
        height=height, sizing_mode="stretch_width", toolbar_location=None, tools="",
        background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None,
        min_border_right=18, **options,
    )  # fmt: skip
    for axis in plot.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = INK.text
        axis.axis_line_color = axis.major_tick_line_color = INK.quiet
        axis.minor_tick_line_color = None
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
    plot.grid.grid_line_color = INK.quiet
    plot.grid.grid_line_alpha = 0.22
    return plot


def ticks(low: float, high: float) -> list[float]:
    """Round numbers of a logarithmic axis: 1, 2, 5 of each power of ten, or the powers alone.

    >>> ticks(300.0, 2500.0)
    [500.0, 1000.0, 2000.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [float(s * 10**k) for k in powers for s in steps if low <= s * 10**k <= high]


class Curves:
    """Throughput over context: as the controls stand, and faintly as they stood at the start."""

    def __init__(self, at: Sequence[float]) -> None:
        self.plot = _figure(
            320, x_axis_type="log", y_axis_type="log",
            x_range=(min(at) / 1.15, max(at) * 1.15), y_range=(1.0, 10.0),
            x_axis_label="context [tokens]", y_axis_label="tokens/s/GPU",
        )  # fmt: skip
        shown = at[:: max(1, math.ceil(len(at) / 9))]
        self.plot.xaxis.ticker = FixedTicker(ticks=list(shown))
        self.plot.xaxis.major_label_overrides = {x: tokens(x) for x in shown}
        self.marker = Span(
            dimension="height", line_color=INK.text, line_dash="dotted", line_width=1.5
        )
        self.plot.add_layout(self.marker)
        self.sources = [ColumnDataSource(_points([])) for _ in range(2)]
        self.starts = [ColumnDataSource(_points([])) for _ in range(2)]
        drawn = [self._line(*pair) for pair in zip(self.sources, self.starts, strict=True)]
        hover = [("", "@name at @where"), ("tokens/s/GPU", "@rate{0,0.0}"), ("time of a token",
                 "@time"), ("design", "@design")]  # fmt: skip
        self.plot.add_tools(HoverTool(renderers=[dots for _, dots, _ in drawn], tooltips=hover))
        self.items = [LegendItem(label=value(""), renderers=[*own[:2]]) for own in drawn]
        self.items.append(LegendItem(label=value("at the start"), renderers=[drawn[0][2]]))
        legend = Legend(
            items=self.items, orientation="horizontal", border_line_alpha=0,
            background_fill_alpha=0, label_text_color=INK.text, label_text_font_size="12px",
            margin=0, padding=2, spacing=14,
        )  # fmt: skip
        self.plot.add_layout(legend, "above")
        self.head = pn.pane.HTML("", **STRETCH)
        self.body = pn.Column(self.head, pn.pane.Bokeh(self.plot, **WIDE), **WIDE)

    def _line(self, source: Any, start: Any) -> tuple[Any, Any, Any]:
        look = (style.MOE, style.DENSE[0])[source is self.sources[1]]
        before = self.plot.line(
            "x", "rate", source=start, color=look.colour, line_dash="dashed", alpha=0.6
        )
        line = self.plot.line("x", "rate", source=source, color=look.colour, line_width=2.5)
        dots = self.plot.scatter(
            "x", "rate", source=source, color=look.colour, size=8,
            marker={"o": "circle", "s": "square"}[look.marker],
        )  # fmt: skip
        return line, dots, before

    def show(self, rows: Sequence[Row], context: float) -> None:
        """Draw the rows of all contexts, and mark one of these."""
        parts = style_of(rows)
        for source, item, (name, own) in zip(self.sources, self.items, parts, strict=False):
            source.data = _points(own)
            item.label = value(name)
            item.visible = bool(own)
        rates = [x for s in (*self.sources, *self.starts) for x in s.data["rate"] if x == x]
        if rates:
            low, high = min(rates) / 1.25, max(rates) * 1.25
            self.plot.y_range.update(start=low, end=high)
            at = ticks(low, high)
            self.plot.yaxis.ticker = FixedTicker(ticks=at)
            self.plot.yaxis.major_label_overrides = {x: quantity(x) for x in at}
        self.marker.location = context
        twins = [row for row in parts[1][1] if np.isfinite(row.get("speedup_over_moe", np.nan))]
        title = finding(twins, "Throughput") if twins else "Throughput of the best split"
        self.head.object = f"<h3>{html.escape(title)}</h3>"

    def remember(self) -> None:
        """Keep what is drawn as the curves of the start."""
        for source, start in zip(self.sources, self.starts, strict=True):
            start.data = dict(source.data)


def style_of(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The model and its twin by name, each with its rows in the order of the context."""
    own = [row for row in rows if row["q"] is None]
    twin = [row for row in rows if row["q"] is not None]
    ordered = [sorted(part, key=lambda row: row["context"]) for part in (own, twin)]
    return [(style.variant_label(part[0]) if part else "", part) for part in ordered]


def _points(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Columns of a curve; NaN where nothing runs."""
    runs = [row["is_feasible"] for row in rows]
    pairs = list(zip(rows, runs, strict=True))
    return {
        "x": [row["context"] for row in rows],
        "rate": [row[RATE] if ok else math.nan for row, ok in pairs],
        "name": [style.variant_label(row) for row in rows],
        "where": [words.length(row["context"]) for row in rows],
        "time": [words.milliseconds(row["tpot"]) if ok else "" for row, ok in pairs],
        "design": [f"{split_name(row)}, batch {row['batch']:,}" if ok else "" for row, ok in pairs],
    }


class Bars:
    """One stacked bar for the model and one for its twin, and the same numbers as a table."""

    def __init__(self, title: str, unit: str, look: Look) -> None:
        self.title, self.unit, self.look = title, unit, look
        self.plot = _figure(150, x_range=(0.0, 1.0), y_range=(-0.6, 1.6), x_axis_label=unit)
        self.plot.ygrid.visible = False
        self.plot.yaxis.ticker = FixedTicker(ticks=[0, 1])
        self.source = ColumnDataSource(_stacked({}, look))
        bars = self.plot.hbar(
            y="y", left="left", right="right", height=0.7, source=self.source, fill_color="colour",
            fill_alpha="alpha", hatch_pattern="hatch", hatch_color=style.EDGE[:7],
            hatch_alpha=0.5, hatch_scale=8, line_color=INK.quiet, line_width=0.5,
        )  # fmt: skip
        tips = [("@part", f"@size{{0,0.0}} {unit}")]
        self.plot.add_tools(HoverTool(renderers=[bars], tooltips=tips))
        self.head = pn.pane.HTML("", **STRETCH)
        self.table = pn.pane.HTML("", **STRETCH)
        self.body = pn.Column(self.head, pn.pane.Bokeh(self.plot, **WIDE), self.table, **WIDE)

    def show(self, parts: Parts, where: str) -> None:
        """Draw parts by the name of what has them, in the unit of the axis."""
        self.head.object = f"<h3>{self.title} {html.escape(where)}</h3>"
        self.source.data = _stacked(parts, self.look)
        names = list(parts)[::-1]
        self.plot.yaxis.major_label_overrides = dict(enumerate(names))
        top = max((sum(own.values()) for own in parts.values()), default=1.0)
        self.plot.x_range.end = top * 1.02
        self.plot.y_range.update(end=max(len(names), 1) - 0.4)
        self.table.object = _table(parts, self.unit, self.look) if parts else "<p>Nothing runs.</p>"


def _stacked(parts: Parts, look: Look) -> dict[str, list[Any]]:
    """Columns of stacked bars, the first one on top."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("y", "left", "right", "colour", "alpha", "hatch", "part", "size")
    }
    for y, (name, own) in enumerate(list(parts.items())[::-1]):
        left = 0.0
        for part, size in own.items():
            if size <= 0:
                continue
            drawn = look(part)
            is_empty = drawn.colour == "none"
            colour, alpha = ("#ffffff", 0.0) if is_empty else (drawn.colour, 1.0)
            # Bokeh calls them as matplotlib does; a blank is none.
            values = (y, left, left + size, colour, alpha, drawn.hatch[:1] or " ",
                      f"{name}: {part}", size)  # fmt: skip
            for column, entry in zip(columns.values(), values, strict=True):
                column.append(entry)
            left += size
    return columns


def _table(parts: Parts, unit: str, look: Look) -> str:
    """The parts as an HTML table with a key of their colours; parts of next to nothing left out."""
    names = next(iter(parts.values()))
    totals = {who: sum(own.values()) for who, own in parts.items()}
    told = [n for n in names if any(own[n] > TOLD * totals[w] for w, own in parts.items())]
    heads = "".join(f"<th>{html.escape(who)}</th>" for who in parts)
    lines = [f"<tr><th>{unit}</th>{heads}</tr>"]
    for name in told:
        colour = look(name).colour
        key = "border-color:currentColor" if colour == "none" else f"background:{colour}"
        cells = "".join(f"<td>{words.number(own[name])}</td>" for own in parts.values())
        lines.append(f"<tr><td><i class=key style='{key}'></i>{html.escape(name)}</td>{cells}</tr>")
    sums = "".join(f"<td>{words.number(total)}</td>" for total in totals.values())
    return f"<table>{''.join(lines)}<tr><td>together</td>{sums}</tr></table>"
