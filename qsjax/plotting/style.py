"""One visual language for every figure: palette, ink, axes, and how numbers are written.

Backgrounds are transparent and ink is a grey, so one file serves light and dark pages. What things
look like is data: `looks.toml`, and Matplotlib's settings, `qsjax.mplstyle`.
"""

import contextlib
import functools
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from qsjax.records.tables import table

P = ParamSpec("P")
Row = Mapping[str, Any]
Theme = Literal["both", "light", "dark"]


class Ink(NamedTuple):
    """Colours that depend on the page: text, and quiet lines."""

    text: str
    quiet: str


_LOOKS = table("plotting/looks.toml")
INKS = {name: Ink(**colours) for name, colours in _LOOKS["ink"].items()}
_theme: ContextVar[Theme] = ContextVar("theme", default="both")


class Look(NamedTuple):
    """Colour, hatch, marker and line of one thing in all figures."""

    colour: str
    hatch: str = ""
    marker: str = "o"
    line: Any = "-"


def _look(told: Any) -> Look:
    """A look of the table: of its own, or that of the resource whose name it gives."""
    if isinstance(told, str):
        return RESOURCES[told]
    line = (0, tuple(told["dashes"])) if "dashes" in told else "-"
    return Look(told["colour"], told.get("hatch", ""), told.get("marker", "o"), line)


def looks_of(kind: str) -> dict[str, Look]:
    """A table of looks by name: `resources`, `memory`, `parameters` or `sides`."""
    return {name: _look(told) for name, told in _LOOKS[kind].items()}


RESOURCES = looks_of("resources")
MOES, DENSE, CATEGORIES = (
    tuple(map(_look, _LOOKS["variants"][name])) for name in ("moe", "dense", "others")
)
MOE = MOES[0]
# Hatches and outlines of filled areas.
EDGE = "#20242aa8"
INFEASIBLE = Look("#8a8f98", "//////", marker="x")
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "qsjax", ["#173a5e", "#1f6f94", "#1fa08a", "#8fc65a", "#f3dd6b"]
)


@contextlib.contextmanager
def theme(name: Theme) -> Iterator[None]:
    """Draw for one kind of page inside the block: `light`, `dark`, or `both` (the default).

    Raises:
        ValueError: no such theme.
    """
    if name not in INKS:
        raise ValueError(f"theme {name!r} is not known; choose one of {', '.join(INKS)}")
    token = _theme.set(name)
    try:
        yield
    finally:
        _theme.reset(token)


def ink() -> Ink:
    """Colours of the current theme."""
    return INKS[_theme.get()]


def settings() -> Any:  # matplotlib types the keys as hundreds of literals
    """matplotlib settings of the current theme."""
    text, quiet = ink()
    inked = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return _settings() | dict.fromkeys(inked, text) | {"axes.edgecolor": quiet}


@functools.cache
def _settings() -> Any:
    path = Path(__file__).with_name("qsjax.mplstyle")
    return dict(mpl.rc_params_from_file(path, use_default_template=False))


@contextlib.contextmanager
def in_force() -> Iterator[None]:
    """Apply our settings inside the block, and restore only these afterwards.

    `matplotlib.rc_context` would also undo what a notebook's backend sets when the first figure
    wakes it, and no later figure would be shown.
    """
    wanted = settings()
    before = {name: mpl.rcParams[name] for name in wanted}
    mpl.rcParams.update(wanted)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def styled(draw: Callable[P, Axes]) -> Callable[P, Axes]:
    """Run a plotting function under our settings, without changing the caller's."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Axes:
        with in_force():
            ax = draw(*args, **kwargs)
            keep_inside(ax)
        # Ticks of axes that the caller made carry our names too.
        for axis in (ax.xaxis, ax.yaxis):
            for text in axis.findobj(Text):
                text.set_parse_math(False)
        return ax

    return wrapped


def keep_inside(ax: Axes) -> None:
    """Shrink a panel that no layout moves, so title, legend and names leave its neighbours free.

    Nothing is written outside of the figure or over a panel above or at the left; a panel keeps at
    least half of its height and width.
    """
    fig = ax.get_figure(root=True)
    if fig is None or _has_layout(ax):
        return
    taken = ax.get_tightbbox()
    if taken is None:
        return
    frame, own = fig.bbox, ax.get_window_extent()
    left, top = frame.x0, frame.y1
    for other in fig.axes:
        box = None if other is ax else other.get_tightbbox()
        if box is None:
            continue
        if box.y0 >= own.y1 and box.x0 < own.x1 and box.x1 > own.x0:
            top = min(top, box.y0)
        if box.x1 <= own.x0 and box.y0 < own.y1 and box.y1 > own.y0:
            left = max(left, box.x1)
    right = min(max(left - taken.x0, 0.0), own.width / 2) / frame.width
    down = min(max(taken.y1 - top, 0.0), own.height / 2) / frame.height
    if right or down:
        at = ax.get_position()
        ax.set_position((at.x0 + right, at.y0, at.width - right, at.height - down))
        ax.set_in_layout(True)


def filled(look: Look) -> dict[str, Any]:
    """How an area of a look is drawn; one without a colour has a quiet outline."""
    edge = ink().quiet if look.colour == "none" else EDGE
    return {"facecolor": look.colour, "hatch": look.hatch, "edgecolor": edge, "linewidth": 0.25}


def line(look: Look) -> dict[str, Any]:
    """How a line of a look is drawn, with its points."""
    return {"color": look.colour, "linestyle": look.line, "marker": look.marker}


def keys(looks: Mapping[str, Look]) -> list[Patch]:
    """Handles of areas for a legend, by name."""
    return [Patch(**filled(look), label=name) for name, look in looks.items()]


def infeasible_key(hatch: str, label: str = "infeasible") -> Patch:
    """The handle of areas in which nothing runs."""
    return Patch(facecolor="none", edgecolor=ink().quiet, hatch=hatch, linewidth=0, label=label)


def note(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float] = (0.0, 0.0),
    size: float | None = None,
    **options: Any,
) -> None:
    """A remark in our ink beside a point.

    Args:
        ax: the panel.
        text: what is written.
        at: the point, in data coordinates unless `options` has others (`xycoords`).
        offset: how far from it [pt].
        size: of the text [pt]; that of the ticks unless given.
        options: of `Axes.annotate`.
    """
    look: dict[str, Any] = {"fontsize": sizes(ax).tick if size is None else size}
    look |= {"color": ink().text} | options
    ax.annotate(text, at, xytext=offset, textcoords="offset points", **look)


def figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.4, 4.3), **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in our style and its panels, an array (rows, columns) of Axes.

    Args:
        rows: panels below each other.
        columns: panels beside each other.
        size: width and height [inch].
        options: passed to `Figure.subplots`, such as `sharex`.
    """
    with in_force():
        fig = plt.figure(figsize=size, layout="constrained")
        return fig, fig.subplots(rows, columns, squeeze=False, **options)


def dressed(
    ax: Axes | None,
    size: tuple[float, float] = (7.4, 4.3),
    lines: Literal["x", "y", "both"] | None = None,
) -> Axes:
    """`ax`, or new axes of `size` [inch], with our spines, ticks, ink and a transparent ground.

    Quiet `lines` of a grid go from the ticks of an axis, or of both, behind the data.
    """
    if ax is None:
        # pyplot's, so that a notebook shows the figure of a bare call.
        ax = plt.figure(figsize=size, layout="constrained").add_subplot()
    colours = ink()
    ax.set_facecolor("none")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours.quiet)
        spine.set_linewidth(0.8)
    ax.tick_params(
        which="both", color=colours.quiet, labelcolor=colours.text, labelsize=sizes(ax).tick
    )
    ax.tick_params(which="minor", length=0)
    if lines:
        ax.grid(visible=True, axis=lines, color=colours.quiet, alpha=0.22, linewidth=0.7)
    return ax


def mark(marker: str, label: str, **look: Any) -> Line2D:
    """The handle of a marker without a line."""
    return Line2D([], [], linestyle="none", marker=marker, label=label, **look)


_NARROW = 4.2  # narrower panels [inch] are the user's own: what is written in them is small
_KEY = 0.42  # width of a legend's key with the room around it [inch]
_LEGEND = 0.45  # most of a panel's height that goes to its legend
_EDGES = 0.45  # what the label of an axis and the gaps beside a panel take [inch]


class Sizes(NamedTuple):
    """Sizes of text in a panel [pt]."""

    title: float = 11.0
    label: float = 9.5
    tick: float = 8.5
    legend: float = 8.5


def sizes(ax: Axes) -> Sizes:
    """Sizes of text that suit the width of a panel."""
    return Sizes(8.5, 7.5, 6.8, 6.5) if is_narrow(ax) else Sizes()


def rows_in(ax: Axes | None, most: int, lanes: int) -> int:
    """Rows of so many lanes that a panel holds with legible names, at most `most` and at least 3.

    A picture of its own is made as high as its rows need.
    """
    if ax is None:
        return most
    return min(most, max(3, int(panel_height(ax) * 72 / 8.5 / max(1, lanes))))


def is_narrow(ax: Axes) -> bool:
    """Whether a panel is narrow: one of several side by side, or in a small picture."""
    return _cell(ax) < _NARROW


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of the longest line of a text [inch] at a size [pt]."""
    return max(_line_width(line, bold) for line in text.split("\n")) * size / _MEASURED / 72


_MEASURED = 100.0  # size at which a line is measured [pt]: Matplotlib's own, which it scales


@functools.lru_cache(maxsize=4096)  # a title is tried in many widths
def _line_width(line: str, bold: bool) -> float:
    """Width of a line [pt] at `_MEASURED`."""
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=_MEASURED)
    return float(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0])


def wrapped(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """A text in lines of at most `room` [inch]; a longer word is parted behind its dashes."""
    lines: list[str] = []
    for line in text.split("\n"):
        held = ""
        for part, gap in _parts(line, room, size, bold):
            longer = f"{held}{gap}{part}" if held else part
            if held and text_width(longer, size, bold=bold) > room:
                lines.append(held)
                held = part
            else:
                held = longer
        lines.append(held)
    return "\n".join(lines)


# Where a line may end: not between a number and its unit, nor beside a sign.
_GAPS = re.compile(r"(?<![=<>\d]) (?![=<>%])")


def balanced(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """A text as `wrapped`, in as few lines, with no word or two alone on the last of them."""
    lines = wrapped(text, room, size, bold=bold)
    for share in np.arange(0.95, 0.5, -0.05):
        tried = wrapped(text, float(share) * room, size, bold=bold)
        is_longer = tried.count("\n") > lines.count("\n")
        if is_longer or tried.replace("\n", " ") != lines.replace("\n", " "):  # a word is parted
            break
        lines = tried
    return lines


def _parts(line: str, room: float, size: float, bold: bool) -> Iterator[tuple[str, str]]:
    """The words of a line, long ones in parts, each with what stands before it."""
    for told in _GAPS.split(line):
        fits = text_width(told, size, bold=bold) <= room
        for word in [told] if fits else told.split(" "):
            pieces = [word]
            if text_width(word, size, bold=bold) > room:
                pieces = re.findall(r"[^-/_.,]*[-/_.,]+|[^-/_.,]+", word) or pieces
            for k, piece in enumerate(pieces):
                yield piece, "" if k else " "


def fitting(text: str, size: float, place: tuple[float, float]) -> str:
    """Lines that fit a cell of a width and height [inch]: as they are, else on one, else none."""
    line = 1.25 * size / 72
    for tried in (text, text.replace("\n", " ")):
        high = line * (1 + tried.count("\n"))
        if high <= place[1] and text_width(tried, size) <= place[0]:
            return tried
    return ""


def _has_layout(ax: Axes) -> bool:
    """Whether a layout moves the panel, so that names at its sides take room from it."""
    fig = ax.get_figure(root=True)
    return fig is not None and fig.get_layout_engine() is not None


def _cell(ax: Axes) -> float:
    """Width of a panel with the names at its left [inch]."""
    width = ax.figure.bbox.width / ax.figure.dpi
    spec = ax.get_subplotspec()
    if spec is None or not _has_layout(ax):
        return float(ax.get_position().width * width)
    return float(width * len(spec.colspan) / spec.get_gridspec().ncols)


def panel_width(ax: Axes) -> float:
    """Width of a panel [inch] as the layout will leave it beside the names at its left."""
    if ax.get_subplotspec() is None or not _has_layout(ax):
        return _cell(ax)
    if ax.get_aspect() != "auto":  # square, in the middle of its place
        return (_cell(ax) + min(_cell(ax), 0.6 * _height(ax))) / 2 - _EDGES / 2
    ticks = ax.get_yticklabels()
    names = max(
        (text_width(tick.get_text(), float(tick.get_fontsize())) for tick in ticks), default=0.0
    )
    return max(_cell(ax) - max(names, 0.3) - _EDGES, 1.0)


def _height(ax: Axes) -> float:
    """Height of a panel [inch], before the layout has moved it."""
    return float(ax.get_position().height * ax.figure.bbox.height / ax.figure.dpi)


def panel_height(ax: Axes) -> float:
    """Height of a given panel [inch] that a title of two lines and a legend leave it."""
    return 0.6 * _height(ax)


def label(
    ax: Axes, title: str | None, x: str | None = None, y: str | None = None, *, beside: float = 0.0
) -> None:
    """Title (what the picture shows) and axis labels with units, in as many lines as they need.

    Args:
        ax: the panel.
        title: what the picture shows.
        x: quantity and unit of the horizontal axis.
        y: those of the vertical axis.
        beside: width of what is written at the right of the panel [inch].
    """
    size = sizes(ax)
    if title:
        spec = ax.get_subplotspec()
        # Panels below each other begin where the longest names of all end: less room than here.
        room = panel_width(ax) - (beside if spec and spec.get_gridspec().ncols > 1 else 0.0)
        lines = balanced(title, room, size.title, bold=True)
        written = ax.set_title(lines, loc="left", color=ink().text)
        written.set(fontsize=size.title, fontweight="bold", parse_math=False)
    for name, write, room in ((x, ax.set_xlabel, panel_width(ax)), (y, ax.set_ylabel, _height(ax))):
        if name is not None:
            short = room if name is x else 0.75 * room  # titles and legends take from the height
            write(wrapped(name, short, size.label), color=ink().text, fontsize=size.label)


def name_rows(ax: Axes, places: Sequence[float], names: Sequence[str], size: float = 8.5) -> None:
    """Row names at the left, wrapped where they would take half of a narrow panel.

    Where the lines of one would stand on those of the next, long ones lose their middle.

    Args:
        ax: the panel.
        places: of the rows.
        names: one for each.
        size: of the text in a wide panel [pt].
    """
    size = min(size, sizes(ax).tick)
    room = 0.4 * _cell(ax)
    folded = [wrapped(name, room, size) for name in names]
    most = _lines_of_a_row(ax, places, size)
    folded = [
        name if name.count("\n") < most else shortened(full, room, size)
        for name, full in zip(folded, names, strict=True)
    ]
    ax.set_yticks(places, folded, fontsize=size)
    ax.tick_params(axis="y", length=0)


def _lines_of_a_row(ax: Axes, places: Sequence[float], size: float) -> int:
    """Lines of text [pt] that fit a row without touching the next one."""
    low, high = ax.get_ylim()
    gaps = np.diff(np.sort(np.asarray(places, float)))
    share = float(np.min(gaps, initial=abs(high - low))) / (abs(high - low) or 1.0)
    # A title and a legend of ours take a part of what the panel has now.
    return max(1, int(0.9 * share * _height(ax) * 72 / (1.2 * size)))


def shortened(text: str, room: float, size: float) -> str:
    """A text of at most `room` [inch]: as it is, or without its middle."""
    kept = len(text)
    shown = text
    while kept > 2 and text_width(shown, size) > room:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}\u2026{text[len(text) - kept // 2 :]}"
    return shown


def most_rows(ax: Axes) -> int:
    """Rows of text that a panel holds; panels of our own are tall enough for all."""
    left = 0.55 if is_narrow(ax) else 1.0  # title and legend take the rest of a small panel
    return max(2, int(left * _height(ax) * 72 / 8.5))


def rows_that_fit(ax: Axes, groups: Mapping[Any, Sequence[Any]], lane: float) -> list[Any]:
    """Keys of as many groups of rows, spread evenly, as fit a panel without overlapping text.

    Args:
        ax: the panel; one of our own has the height that all need.
        groups: rows by key, in order.
        lane: rows between two groups.
    """
    keys = list(groups)
    high = max((len(rows) for rows in groups.values()), default=1) + lane
    most = max(2, int(most_rows(ax) / high))
    if len(keys) <= most:
        return keys
    return [keys[round(k * (len(keys) - 1) / (most - 1))] for k in range(most)]


def legend_above(ax: Axes, columns: int, handles: Sequence[Artist] = ()) -> Axes:
    """`ax` with a legend in rows between title and panel, where it can hide no data.

    Args:
        ax: the panel.
        columns: at most; fewer where the panel is too narrow for its longest name.
        handles: what is named; all that has a label unless given.

    A panel that is too low for all names has the first ones, and how many more there are.
    """
    handles = list(handles or ax.get_legend_handles_labels()[0])
    size = sizes(ax).legend
    longest = max((text_width(str(h.get_label()), size) for h in handles), default=0.1)
    columns = max(1, min(columns, int(panel_width(ax) / (_KEY * size / 8.5 + longest))))
    rows = math.ceil(len(handles) / columns)
    most = max(2, int(_LEGEND * _height(ax) * 72 / (15.0 * size / 8.5)))
    if rows > most:
        rest = len(handles) - (most * columns - 1)
        handles = [*handles[: most * columns - 1], mark("", f"and {rest} more")]
        rows = most
    if handles:
        ax.legend(handles=handles, labelcolor=ink().text, loc="lower left", ncols=columns,
                  bbox_to_anchor=(0.0, 1.0), fontsize=size, borderaxespad=0.3, handlelength=1.8,
                  columnspacing=1.3)  # fmt: skip
    pad = 8.0 + 15.0 * rows * size / 8.5
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=pad, fontsize=sizes(ax).title)
    return ax


def nth(looks: Sequence[Look], k: int) -> Look:
    """The k-th look; beyond the last the colours come again, with other markers and lines."""
    turn, at = divmod(k, len(looks))
    other = looks[(at + turn) % len(looks)]
    return looks[at]._replace(marker=other.marker, line=other.line)


def family_looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Looks of lines by their `label`: mixtures blue, dense twins orange, models by shade."""
    looks: dict[str, Look] = {}
    counts = {"moe": 0, "dense": 0}
    for row in rows:
        name = str(row["label"])
        if name not in looks:
            kind = "moe" if row["variant"] == "moe" else "dense"
            look, k = (MOES, DENSE)[kind == "dense"], counts[kind]
            looks[name] = nth(look, k)
            counts[kind] += 1
    return looks


def variant_label(row: Row) -> str:
    """`MoE`, `dense`, `dense q=5`."""
    name = {"moe": "MoE"}.get(row["variant"], str(row["variant"]))
    q = row.get("q")
    return name if q is None or name == "MoE" else f"{name} q={q:g}"


def variant_looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Look of every variant in `rows`, by label; the same variant looks the same in any figure.

    MoE is blue; the dense twins take the dense looks in the order of their q.
    """
    dense = {variant_label(row): row.get("q") or 0.0 for row in rows if row["variant"] != "moe"}
    ordered = sorted(dense, key=lambda name: (dense[name], name))
    looks = {name: nth(DENSE, k) for k, name in enumerate(ordered)}
    if any(row["variant"] == "moe" for row in rows):
        looks = {"MoE": MOE, **looks}
    return looks


def category_looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each of `names`, in their order."""
    return {name: nth(CATEGORIES, k) for k, name in enumerate(dict.fromkeys(names))}


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
