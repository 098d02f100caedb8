"""The live page: Panel's controls and Bokeh's figures around a `View`."""

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Legend, LegendItem, Span
from bokeh.plotting import figure

from qsjax.grid.problem import Problem
from qsjax.live import view as live
from qsjax.live.view import Setting, Shown, View
from qsjax.output import words
from qsjax.output.labels import split_name
from qsjax.plotting import style
from qsjax.plotting.ledgers import memory_look
from qsjax.plotting.rows import Row
from qsjax.records.units import GIB, MS, quantity, tokens

ASSETS = files("qsjax.live") / "assets"
INK = style.INKS["both"]  # reads on a light and on a dark page
# Milliseconds that moves of a slider are gathered: while one is answered, many come in.
GATHER = 10
STEPS = {f"{2 ** (k / 4):.3g}x": float(f"{2 ** (k / 4):.3g}") for k in range(-8, 13)}
GPUS = tuple(2.0**k for k in range(9))
QS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
TPOTS = (5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0)
USER_RATES = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0)
RATE = "tokens_per_s_per_gpu"
HATCHES = {"/": "/", "\\": "\\", "x": "x", "-": "-", "+": "+", "|": "|", ".": "."}


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _options(
    values: Sequence[float], own: float, text: Callable[[float], str], none: float | None = None
) -> dict[str, float]:
    """Positions of a slider by what they are called, with the problem's own value among them."""
    given = sorted({*values, own} - {none})
    return ({"none": none} if none is not None else {}) | {text(value): value for value in given}


def _controls(problem: Problem, start: Setting) -> dict[str, Any]:
    """A widget for each field of a `Setting` that the problem has."""
    kept = {"sizing_mode": "stretch_width", "stylesheets": [_asset("widgets.css")]}

    def slider(name: str, title: str, options: dict[str, float]) -> Any:
        return pn.widgets.DiscreteSlider(
            name=title, options=options, value=getattr(start, name), css_classes=[name], **kept
        )

    names = live.accelerators(problem)
    found: dict[str, Any] = {
        "hardware": pn.widgets.Select(
            name="accelerator", options=names, value=start.hardware, css_classes=["hardware"], **kept
        )
    }
    found |= {name: slider(name, title, STEPS) for name, title in live.FACTORS.items()}
    gpus = _options(GPUS, start.gpus, lambda x: f"{x:,.0f}")
    gpus |= {f"{x:,.0f}": x for x in problem.stated.gpus}
    found["gpus"] = slider("gpus", "GPUs", dict(sorted(gpus.items(), key=lambda item: item[1])))
    lengths = _options(live.contexts(problem), start.context, words.length)
    found["context"] = slider("context", "context", lengths)
    if live.is_moe(problem):
        own = _options((*QS, *problem.stated.twins), start.q, lambda x: f"q = {x:g}", 0.0)
        found["q"] = slider("q", "dense twin of equal quality", own)
    limits = {
        "max_tpot": _options(
            [x * MS for x in TPOTS], start.max_tpot, lambda x: f"{x / MS:g} ms", math.inf
        ),
        "min_user_rate": _options(USER_RATES, start.min_user_rate, lambda x: f"{x:g}", 0.0),
    }
    found["max_tpot"] = slider("max_tpot", "time of a token at most", limits["max_tpot"])
    found["min_user_rate"] = slider(
        "min_user_rate", "tokens/s/user at least", limits["min_user_rate"]
    )
    return found


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

    def __init__(self, problem: Problem) -> None:
        at = live.contexts(problem)
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
        self.items = [LegendItem(label="", renderers=[*own[:2]]) for own in drawn]
        self.items.append(LegendItem(label="at the start", renderers=[drawn[0][2]]))
        legend = Legend(
            items=self.items, orientation="horizontal", border_line_alpha=0,
            background_fill_alpha=0, label_text_color=INK.text, label_text_font_size="12px",
            margin=0, padding=2,
        )  # fmt: skip
        self.plot.add_layout(legend, "above")

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
            item.label = name
            item.visible = bool(own)
        rates = [x for s in (*self.sources, *self.starts) for x in s.data["rate"] if x == x]
        if rates:
            low, high = min(rates) / 1.25, max(rates) * 1.25
            self.plot.y_range.update(start=low, end=high)
            at = ticks(low, high)
            self.plot.yaxis.ticker = FixedTicker(ticks=at)
            self.plot.yaxis.major_label_overrides = {x: quantity(x) for x in at}
        self.marker.location = context

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

    def __init__(self, title: str, unit: str, look: Callable[[str], style.Look]) -> None:
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
        self.head = pn.pane.HTML("", **_STRETCH)
        self.table = pn.pane.HTML("", **_STRETCH)
        self.body = pn.Column(self.head, pn.pane.Bokeh(self.plot, **_WIDE), self.table, **_WIDE)

    def show(self, parts: Mapping[str, Mapping[str, float]], where: str) -> None:
        """Draw parts by the name of what has them, in the unit of the axis."""
        self.head.object = f"<h3>{self.title} {html.escape(where)}</h3>"
        self.source.data = _stacked(parts, self.look)
        names = list(parts)[::-1]
        self.plot.yaxis.major_label_overrides = dict(enumerate(names))
        top = max((sum(own.values()) for own in parts.values()), default=1.0)
        self.plot.x_range.end = top * 1.02
        self.plot.y_range.update(end=max(len(names), 1) - 0.4)
        self.table.object = _table(parts, self.unit, self.look) if parts else "<p>Nothing runs.</p>"


_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width"}
_STRETCH: dict[str, Any] = {**_WIDE, "stylesheets": [_asset("widgets.css")], "margin": (0, 5)}


def _stacked(
    parts: Mapping[str, Mapping[str, float]], look: Callable[[str], style.Look]
) -> dict[str, list[Any]]:
    """Columns of stacked bars, the first one on top."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("y", "left", "right", "colour", "alpha", "hatch", "part", "size")
    }
    for y, (name, own) in enumerate(reversed(parts.items())):
        left = 0.0
        for part, size in own.items():
            drawn = look(part)
            is_empty = drawn.colour == "none"
            values = (y, left, left + size, "#ffffff" if is_empty else drawn.colour,
                      0.0 if is_empty else 1.0, HATCHES.get(drawn.hatch[:1], " "),
                      f"{name}: {part}", size)  # fmt: skip
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
            left += size
    return columns


def _table(
    parts: Mapping[str, Mapping[str, float]], unit: str, look: Callable[[str], style.Look]
) -> str:
    """The parts as an HTML table with a key of their colours; parts of next to nothing left out."""
    names = list(dict.fromkeys(part for own in parts.values() for part in own))
    totals = {who: sum(own.values()) for who, own in parts.items()}
    told = [n for n in names if any(own.get(n, 0) > 0.005 * totals[w] for w, own in parts.items())]
    heads = "".join(f"<th>{html.escape(who)}</th>" for who in parts)
    lines = [f"<tr><th>{unit}</th>{heads}</tr>"]
    for name in told:
        colour = look(name).colour
        key = "border-color:currentColor" if colour == "none" else f"background:{colour}"
        cells = "".join(f"<td>{words.number(own.get(name, 0.0))}</td>" for own in parts.values())
        lines.append(f"<tr><td><i class=key style='{key}'></i>{html.escape(name)}</td>{cells}</tr>")
    sums = "".join(f"<td>{words.number(total)}</td>" for total in totals.values())
    return f"<table>{''.join(lines)}<tr><td>together</td>{sums}</tr></table>"


class Page:
    """One tab of the page: its controls, its figures, and what follows a move.

    Attributes:
        problem: what is asked.
        controls: widgets by the field of `Setting`.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.start = problem, live.first(problem)
        self.controls = _controls(problem, self.start)
        self.answer = pn.pane.HTML("", css_classes=["said"], **_STRETCH)
        self.device = pn.pane.HTML("", **_STRETCH)
        self.curves = Curves(problem)
        self.time = Bars("Where the time of a token goes", "ms", style.RESOURCES.__getitem__)
        self.memory = Bars("What fills a GPU's memory", "GiB", memory_look)
        self.is_due, self.is_first, self.left, self.rows = False, True, [], {}
        for widget in self.controls.values():
            widget.param.watch(lambda _: self.moved(), "value")
        self.update()

    @property
    def setting(self) -> Setting:
        """Where the controls stand."""
        return dataclasses.replace(
            self.start, **{name: widget.value for name, widget in self.controls.items()}
        )

    def moved(self) -> None:
        """Answer soon: moves that come in meanwhile are answered together."""
        if not self.is_due:
            self.is_due = True
            later(self.update)

    def update(self) -> None:
        """Answer the setting, draw it, and have the rest of the curves follow."""
        self.is_due = False
        setting = self.setting
        try:
            found = live.view(self.problem, setting)
        except ValueError as error:  # what of the problem does not fit this accelerator
            lines = str(error).splitlines()
            found = View("\n".join(["This cannot be answered.", *lines]), [], [])
        with pn.io.hold():
            self.draw(found, setting)
        self.left = [x for x in live.contexts(self.problem) if x != setting.context]
        self.left = self.left if found.rows else []
        self.follow()

    def follow(self) -> None:
        """Draw more of the curves, unless a new setting has to be answered first."""
        setting = self.setting
        if self.is_due or not self.left:
            return
        many = len(self.left) if live.is_quick(self.problem, setting) else 1
        part, self.left = self.left[:many], self.left[many:]
        self.rows |= {(r["context"], r["q"]): r for r in live.curve(self.problem, setting, part)}
        with pn.io.hold():
            self.curves.show(list(self.rows.values()), setting.context)
        if self.left:
            later(self.follow)
        elif self.is_first:
            self.is_first = False
            self.curves.remember()

    def draw(self, found: View, setting: Setting) -> None:
        """Show an answer with its bars; curves keep what is not known yet."""
        lead, *more = (html.escape(line) for line in found.answer.splitlines())
        self.answer.object = f"<p class=lead>{lead}</p>" + "".join(f"<p>{x}</p>" for x in more)
        if found.rows:
            self.device.object = f"<p class=quiet>{_device(self.problem, setting)}</p>"
        self.rows = {(r["context"], r["q"]): r for r in found.rows}
        where = f"at {words.length(setting.context)}"
        shown = [(style.variant_label(one.row), one) for one in found.shown]
        self.time.show({name: _scaled(one.time, MS) for name, one in shown}, where)
        self.memory.show({name: _scaled(one.memory, GIB) for name, one in shown}, where)
        self.curves.marker.location = setting.context
        if not self.left:
            self.curves.show(found.rows, setting.context)

    def template(self) -> Any:
        """The page as Panel serves it."""
        groups = {
            "Hardware": ("hardware", *live.FACTORS),
            "Deployment": ("gpus", "context", "q"),
            "Limits": ("max_tpot", "min_user_rate"),
        }
        shown: list[Any] = []
        for title, names in groups.items():
            shown.append(pn.pane.HTML(f"<h2>{title}</h2>", **_STRETCH))
            shown += [self.controls[name] for name in names if name in self.controls]
            shown += [self.device] if title == "Hardware" else []
        name = self.problem.stated.models[0].name
        page = pn.Template(_asset("page.html"))
        page.add_variable("css", _asset("page.css"))
        page.add_variable("heading", name)
        page.add_panel("controls", pn.Column(*shown, **_WIDE))
        page.add_panel("answer", self.answer)
        page.add_panel("throughput", pn.pane.Bokeh(self.curves.plot, **_WIDE))
        page.add_panel("time", self.time.body)
        page.add_panel("memory", self.memory.body)
        return page


def _scaled(parts: Mapping[str, float], unit: float) -> dict[str, float]:
    return {name: value / unit for name, value in parts.items() if value > 0}


def _device(problem: Problem, setting: Setting) -> str:
    """The accelerator of a setting in numbers."""
    spec = live.accelerator(problem, setting).spec
    flops = max(float(spec.flops_bf16), float(spec.flops_fp8))
    return (
        f"{words.value(float(spec.hbm_bytes), 'B')} of HBM at "
        f"{words.value(float(spec.hbm_bw), 'B/s')}; links {words.value(float(spec.intra_bw), 'B/s')}"
        f" in islands of {float(spec.island_size):g}, {words.value(float(spec.inter_bw), 'B/s')} "
        f"between; {words.value(flops, 'FLOP/s')}"
    )


def later(action: Callable[[], None]) -> None:
    """Run an action in the tab's document after the moves that are on their way."""
    document = pn.state.curdoc
    if document is None:
        action()
    else:
        document.add_timeout_callback(action, GATHER)
