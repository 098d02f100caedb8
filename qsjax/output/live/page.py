"""The live page: Panel's controls and Bokeh's figures around a `View`."""

import dataclasses
import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import panel as pn

from qsjax.grid.problem import Problem
from qsjax.grid.solution import Row
from qsjax.numerics.safe import scalar
from qsjax.output import words
from qsjax.output.files import asset
from qsjax.output.live import view as live
from qsjax.output.live.figures import STRETCH, STYLED, WIDE, Bars, Curves
from qsjax.output.live.view import Setting, View
from qsjax.plotting import style
from qsjax.plotting.ledgers import memory_look
from qsjax.questions.explore import Exploration
from qsjax.records.units import GIB, MS

# Milliseconds that moves of a slider are gathered: while one is answered, many come in.
GATHER = 10
KEPT = 20  # explorations kept, of about a MB each
STEPS = {f"{2 ** (k / 4):.3g}x": float(f"{2 ** (k / 4):.3g}") for k in range(-8, 13)}
GPUS = tuple(2.0**k for k in range(9))
QS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
TPOTS = (5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0)
USER_RATES = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0)


def _options(
    values: Sequence[float], own: float, text: Callable[[float], str], none: float | None = None
) -> dict[str, float]:
    """Positions of a slider by what they are called, with the problem's own value among them."""
    given = sorted({*values, own} - {none})
    return ({"none": none} if none is not None else {}) | {text(x): x for x in given}


class Slider:
    """A slider over positions that have names.

    The text of Panel's `DiscreteSlider` is written by the browser and by Python, and after quick
    moves an older one stays. Here only the browser writes it.

    Attributes:
        values: of the positions.
    """

    def __init__(self, name: str, title: str, options: dict[str, float], value: float) -> None:
        self.values = list(options.values())
        texts = [f"{title}: <b>{text}</b>" for text in options]
        at = self.values.index(value)
        self.label = pn.widgets.StaticText(value=texts[at], margin=(5, 10, 0, 10), **STYLED)
        self.slider = pn.widgets.IntSlider(
            end=len(texts) - 1, value=at, label="", show_value=False, css_classes=[name],
            bar_color=style.MOE.colour, margin=(0, 10, 8, 10), **STYLED,
        )  # fmt: skip
        self.slider._debounce = GATHER  # Panel would gather moves for 50 ms
        write = f"target.text = {json.dumps(texts)}[source.value]"
        self.slider.jslink(self.label, code={"value": write})
        self.body = pn.Column(self.label, self.slider, **WIDE)

    @property
    def value(self) -> float:
        """Of the position."""
        return self.values[self.slider.value]

    @value.setter
    def value(self, value: float) -> None:
        self.slider.value = self.values.index(value)


def _controls(problem: Problem, start: Setting) -> dict[str, Any]:
    """A widget for each field of a `Setting` that the problem has."""

    def slider(name: str, title: str, options: dict[str, float]) -> Slider:
        return Slider(name, title, options, getattr(start, name))

    names = live.accelerators(problem)
    controls: dict[str, Any] = {
        "hardware": pn.widgets.Select(
            label="accelerator", options=names, value=start.hardware, css_classes=["hardware"],
            **STYLED,
        )
    }  # fmt: skip
    controls |= {name: slider(name, title, STEPS) for name, title in live.FACTORS.items()}
    gpus = _options(GPUS, start.gpus, lambda x: f"{x:,.0f}")
    gpus |= {f"{x:,.0f}": x for x in problem.stated.gpus}
    controls["gpus"] = slider("gpus", "GPUs", dict(sorted(gpus.items(), key=lambda item: item[1])))
    lengths = _options(live.contexts(problem), start.context, words.length)
    controls["context"] = slider("context", "context", lengths)
    if live.is_moe(problem):
        own = _options((*QS, *problem.stated.twins), start.q, lambda x: f"q = {x:g}", 0.0)
        controls["q"] = slider("q", "dense twin of equal quality", own)
    times = [x * MS for x in TPOTS]
    longest = _options(times, start.max_tpot, lambda x: f"{x / MS:g} ms", math.inf)
    controls["max_tpot"] = slider("max_tpot", "time of a token at most", longest)
    rates = _options(USER_RATES, start.min_user_rate, lambda x: f"{x:g}", 0.0)
    controls["min_user_rate"] = slider("min_user_rate", "tokens/s/user at least", rates)
    return controls


class Page:
    """One tab of the page: its controls, its figures, and what follows a move.

    Attributes:
        problem: what is asked.
        controls: widgets by the field of `Setting`.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.start = problem, live.first(problem)
        self.controls = _controls(problem, self.start)
        self.answer = pn.pane.HTML("", css_classes=["said"], **STRETCH)
        self.device = pn.pane.HTML("", **STRETCH)
        self.curves = Curves(live.contexts(problem))
        self.time = Bars("Where the time of a token goes", "ms", style.RESOURCES.__getitem__)
        self.memory = Bars("What fills a GPU's memory", "GiB", memory_look)
        self.is_first = True
        self.drawn: Setting | None = None  # whose curves are drawn
        # Of the last settings, whatever their context; the oldest first.
        self.explored: dict[Setting, Exploration] = {}
        for widget in self.controls.values():
            part = widget.slider if isinstance(widget, Slider) else widget
            part.param.watch(lambda _: self.update(), "value")
        self.update()

    @property
    def setting(self) -> Setting:
        """Where the controls stand."""
        return dataclasses.replace(
            self.start, **{name: widget.value for name, widget in self.controls.items()}
        )

    def view(self, setting: Setting) -> View:
        """The answer of a setting; moves of the context explore nothing anew."""
        elsewhere = dataclasses.replace(setting, context=0.0)
        explored = self.explored.pop(elsewhere, None) or live.explored(self.problem, setting)
        self.explored[elsewhere] = explored
        if len(self.explored) > KEPT:
            del self.explored[next(iter(self.explored))]
        return live.view(self.problem, setting, explored)

    def update(self) -> None:
        """Answer the setting, and draw it."""
        setting = self.setting
        try:
            view = self.view(setting)
        except ValueError as error:  # what of the problem does not fit this accelerator
            lines = str(error).splitlines()
            view = View("\n".join(["This cannot be answered.", *lines]), [], [], [])
        elsewhere = dataclasses.replace(setting, context=0.0)
        with pn.io.hold():  # one message, and one painting
            self.draw(view, setting)
            if view.rows and elsewhere != self.drawn:
                self.drawn = elsewhere
                self.show(view.curve, setting)

    def show(self, rows: Sequence[Row], setting: Setting) -> None:
        """Draw the curves, and keep the first ones as those of the start."""
        self.curves.show(rows, setting.context)
        if self.is_first:
            self.is_first = False
            self.curves.remember()

    def draw(self, view: View, setting: Setting) -> None:
        """Show an answer with its bars."""
        lead, *more = (html.escape(line) for line in view.answer.splitlines())
        self.answer.object = f"<p class=lead>{lead}</p>" + "".join(f"<p>{x}</p>" for x in more)
        if view.rows:
            self.device.object = f"<p class=quiet>{_device(self.problem, setting)}</p>"
        where = f"at {words.length(setting.context)}"
        shown = [(style.variant_label(one.row), one) for one in view.shown]
        self.time.show({name: _scaled(one.time, MS) for name, one in shown}, where)
        self.memory.show({name: _scaled(one.memory, GIB) for name, one in shown}, where)
        self.curves.marker.location = setting.context
        if not view.rows:
            self.drawn = None
            self.curves.show([], setting.context)

    def template(self) -> Any:
        """The page as Panel serves it."""
        groups = {
            "Hardware": ("hardware", *live.FACTORS),
            "Deployment": ("gpus", "context", "q"),
            "Limits": ("max_tpot", "min_user_rate"),
        }
        shown: list[Any] = []
        for title, names in groups.items():
            shown.append(pn.pane.HTML(f"<h2>{title}</h2>", **STRETCH))
            widgets = [self.controls[name] for name in names if name in self.controls]
            shown += [getattr(widget, "body", widget) for widget in widgets]
            shown += [self.device] if title == "Hardware" else []
        name = self.problem.stated.models[0].name
        page = pn.Template(asset("live/assets/page.html"))
        page.add_variable("css", asset("palette.css") + asset("live/assets/page.css"))
        page.add_variable("heading", name)
        page.add_panel("controls", pn.Column(*shown, **WIDE))
        page.add_panel("answer", self.answer)
        page.add_panel("throughput", self.curves.body)
        page.add_panel("time", self.time.body)
        page.add_panel("memory", self.memory.body)
        return page


def _scaled(parts: Mapping[str, float], unit: float) -> dict[str, float]:
    return {name: size / unit for name, size in parts.items()}


def _device(problem: Problem, setting: Setting) -> str:
    """The accelerator of a setting in numbers."""
    spec = live.accelerator(problem, setting).spec
    size = words.value(scalar(spec.hbm_bytes), "B")
    hbm, inside, between = (
        words.value(scalar(rate), "B/s") for rate in (spec.hbm_bw, spec.intra_bw, spec.inter_bw)
    )
    flops = words.value(max(scalar(spec.flops_bf16), scalar(spec.flops_fp8)), "FLOP/s")
    return (
        f"{size} of HBM at {hbm}; links {inside} in islands of {scalar(spec.island_size):g}, "
        f"{between} between; {flops}"
    )
