"""Draws the pictures of README and docs: `python docs/pictures.py` writes docs/assets/."""

import runpy
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import qsjax
from qsjax import plotting
from qsjax.evidence import paper
from qsjax.grid.problem import CONTEXTS
from qsjax.output.files import write_atomically
from qsjax.plotting import scales, style
from qsjax.records.units import tokens

HERE = Path(__file__).parent
MODEL, Q, GPUS = "deepseek-v3", 5.0, 64
SHOWN = {2.0**k for k in (10, 12, 14, 17, 20)}
RING: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
}
FORMATS: tuple[Literal["svg", "png"], ...] = ("svg", "png")
# Title, the modules of which the first one begins the band (reading LAYERS downwards), colour.
BANDS = (
    ("entry points", ("__main__",), style.CATEGORIES[0].colour),
    ("questions", ("evidence", "questions"), style.CATEGORIES[1].colour),
    ("results", ("output", "plotting"), style.CATEGORIES[4].colour),
    ("search", ("grid",), style.CATEGORIES[3].colour),
    ("cost model, catalogue", ("engines", "catalog"), style.CATEGORIES[2].colour),
    ("records, checks", ("records",), style.CATEGORIES[7].colour),
)


def published() -> tuple[list[float], list[float], list[float]]:
    """Contexts of table 4, and dense over MoE there: printed, and ours in the same accounting."""
    cells = [c for c in paper.reproduce().cells if c.table == "4"]
    found = {(c.row, c.quantity): c for c in cells}
    contexts, printed, ours = [], [], []
    for row in dict.fromkeys(c.row for c in cells):
        moe, dense = (found[row, f"throughput_{name}"] for name in ("moe", "dense"))
        contexts.append(1024.0 * float(row.removesuffix("k")))
        printed.append(dense.published / moe.published)
        ours.append(dense.paper / moe.paper)
    return contexts, printed, ours


@style.styled
def verdict(rows: list[dict[str, Any]], ax: Axes) -> Axes:
    """Dense over MoE by context: printed and computed, under the two accountings."""
    ink = style.ink()
    contexts, printed, ours = published()
    dense = [row for row in rows if row["variant"] == "dense"]
    x, y = ([row[name] for row in dense] for name in ("context", "speedup_over_moe"))
    style.dressed(ax).set_yscale("log")
    low, high = 0.44, 9.5
    ax.set_ylim(low, high)
    scales.token_axis(ax.xaxis, CONTEXTS, 8)
    ax.axhspan(1.0, high, color=style.DENSE[0].colour, alpha=0.10, linewidth=0)
    ax.axhspan(low, 1.0, color=style.MOE.colour, alpha=0.13, linewidth=0)
    ax.axhline(1.0, color=ink.text, linewidth=1.0)
    ax.plot(contexts, ours, color=style.DENSE[1].colour, linestyle=(0, (5, 1.6)), linewidth=2.2,
            label="qsjax, same accounting")  # fmt: skip
    ax.plot(contexts, printed, color=ink.text, markeredgecolor=ink.text, markeredgewidth=1.6,
            label="printed in the paper", **RING)  # fmt: skip
    ax.plot(x, y, color=style.DENSE[0].colour, marker="s", markeredgecolor="#f4f5f6",
            markeredgewidth=0.6, linewidth=2.6, label="qsjax, physical accounting")  # fmt: skip
    at = 131072.0
    here = y[x.index(at)]
    for text, where, offset in (
        ("4.5× published", (at, printed[contexts.index(at)]), (-62, -27)),
        (f"{here:.2f}×", (at, here), (-14, 9)),
    ):
        ax.annotate(text, where, xytext=offset, textcoords="offset points", fontsize=12,
                    fontweight="bold", color=ink.text)  # fmt: skip
    for text, height, va in (
        ("the dense twin is faster", high / 1.09, "top"),
        ("the MoE is faster", low * 1.09, "bottom"),
    ):
        ax.annotate(text, (CONTEXTS[-1], height), ha="right", va=va, fontsize=9, color=ink.text)
    ax.set_yticks([0.5, 1, 2, 5], ["0.5×", "1×", "2×", "5×"])
    ax.set_yticks([], minor=True)
    says = f"At 128k DeepSeek-V3's dense twin is {here:.2f} times as fast, not 4.5"
    style.label(ax, says, "context [tokens]", "tokens/s/GPU, dense over MoE [1]")
    style.legend_above(ax, 3)
    return ax


def hero() -> Figure:
    """How much the verdict depends on the accounting, and where the time goes."""
    problem = qsjax.Problem(MODEL, "paper-reference", gpus=GPUS, context=CONTEXTS, twins=Q)
    rows = qsjax.explore(problem).rows()
    figure, panels = plotting.figure(1, 2, (13.2, 5.0), gridspec_kw={"width_ratios": (1.15, 1)})
    verdict(rows, panels[0, 0])
    some = [row for row in rows if row["context"] in SHOWN]
    read = [row["context"] for row in some if row["terms"]["hbm_kv"] < 0.5 * row["tpot"]]
    after = min(context for context in SHOWN if context > max(read))
    title = f"From {tokens(after)} on, most of a token's time is reading the cache"
    plotting.time_breakdown(some, panels[0, 1], share=True, title=title)
    return figure


def bands() -> dict[str, list[str]]:
    """Modules by band, top to bottom, read from the layering test."""
    rows = runpy.run_path(str(HERE.parent / "tests" / "test_layering.py"))["LAYERS"]
    found: dict[str, list[str]] = {title: [] for title, _, _ in BANDS}
    begins = {name: title for title, names, _ in BANDS for name in names}
    title = BANDS[0][0]
    for row in rows:
        title = next((begins[name] for name in row if name in begins), title)
        found[title] += [name for name in row if "." not in name]
    return found


@style.styled
def draw_bands(ax: Axes) -> Axes:
    """Bands of modules; a module imports only what stands in its band or below."""
    ax.set_axis_off()
    ink, y = style.ink(), 0.0
    for (title, members), (_, _, colour) in zip(bands().items(), BANDS, strict=True):
        lines = [members[k : k + 6] for k in range(0, len(members), 6)]
        height = 0.55 * len(lines) + 0.25
        ax.add_patch(FancyBboxPatch((0, y - height), 10, height, facecolor=(*to_rgb(colour), 0.12),
                                    edgecolor=colour, linewidth=1.0,
                                    boxstyle="round,pad=0,rounding_size=0.12"))  # fmt: skip
        ax.annotate(title, (0.15, y - height / 2), va="center", fontsize=9.5, fontweight="bold",
                    color=ink.text)  # fmt: skip
        for level, line in enumerate(lines):
            middle = y - 0.125 - 0.55 * (level + 0.5)
            for k, name in enumerate(line):
                left = 2.45 + 1.25 * k
                ax.add_patch(FancyBboxPatch((left, middle - 0.19), 1.15, 0.38, edgecolor=colour,
                                            facecolor=(*to_rgb(colour), 0.22), linewidth=0.9,
                                            boxstyle="round,pad=0,rounding_size=0.08"))  # fmt: skip
                text = {"__init__": "qsjax", "__main__": "-m qsjax"}.get(name, name)
                ax.annotate(text, (left + 0.575, middle), ha="center", va="center", fontsize=8.4,
                            color=ink.text)  # fmt: skip
        y -= height + 0.16
    arrow = {"arrowstyle": "-|>", "color": ink.text, "linewidth": 1.4}
    ax.annotate("", (10.3, y + 0.2), xytext=(10.3, -0.05), arrowprops=arrow)
    ax.annotate("imports", (10.45, y / 2), rotation=270, va="center", fontsize=9.5, color=ink.text)
    ax.set(xlim=(-0.05, 10.9), ylim=(y, 0.05))
    return ax


def architecture() -> Figure:
    """The package in bands."""
    rows = sum(-(-len(members) // 6) for members in bands().values())
    figure, panels = plotting.figure(1, 1, (9.4, 0.44 * rows + 0.33 * len(BANDS)))
    draw_bands(panels[0, 0])
    return figure


def main() -> None:
    """Write every picture, as SVG and PNG."""
    for draw in (hero, architecture):
        figure = draw()
        for kind in FORMATS:
            path = HERE / "assets" / f"{draw.__name__}.{kind}"
            write_atomically(path, plotting.render(figure, kind))


if __name__ == "__main__":
    main()
