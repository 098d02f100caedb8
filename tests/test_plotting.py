"""Figures: they show what they are given, say where nothing is feasible, and share one language."""

import dataclasses
import functools
import io
import itertools
import math
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.cbook import pts_to_prestep
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text

import qsjax
from qsjax import plotting
from qsjax.cost import ledger
from qsjax.plotting import labels, style, throughput
from qsjax.plotting.rows import as_rows
from qsjax.records import units

CONTEXTS = [1024 * 4**k for k in range(6)]
TERMS = {name: 0.0 for names in ledger.RESOURCES.values() for name in names}


def row(variant, q, context, rate, *, gpus=64, feasible=True):
    start = {"variant": variant, "q": q, "gpus": gpus, "context": context}
    if not feasible:
        return start | {"is_feasible": False, "reasons": {"no sequence fits": 7}}
    return start | {
        "is_feasible": True,
        "tp": 8,
        "ep": 4,
        "pp": 1,
        "dp": 1,
        "kvp": 2,
        "batch": 16,
        "tpot_ms": 10.0,
        "tokens_per_s_per_gpu": rate,
        "tokens_per_s_per_user": 100.0,
        "bound_by": "HBM KV",
        "terms": TERMS | {"hbm_kv": 7.0, "compute_ffn": 2.0, "comm_ep": 1.0},
        "hidden": {"comm_ep": 0.5},
    }


def rows(missing=()):
    moe = [row("moe", None, c, 1e6 / c, feasible=c not in missing) for c in CONTEXTS]
    return moe + [row("dense", 5.0, c, 3e4 / c**0.6) for c in CONTEXTS]


def cells(**extra):
    parameters = {"hbm_bw": 0.8, "bytes_kv": -0.5, "flops_fp8": 0.1}
    return [
        {"variant": v, "q": q, "context": c, "parameter": p, "elasticity": e, "left": e - 0.1,
         "right": e + 0.1, "switch_down": 0.5, "switch_up": None, "bound_by": "HBM KV"} | extra
        for (v, q), c, (p, e) in itertools.product(
            [("moe", None), ("dense", 5.0)], CONTEXTS, parameters.items()
        )
    ]  # fmt: skip


ONE = CONTEXTS[0]
RECORDS = [
    {"gpu": gpu, "measured": m, "predicted": m * f, "error_pct": 100 * (f - 1)}
    for gpu in ("H100", "B200") for m, f in ((10.0, 1.1), (20.0, 0.95), (50.0, 2.0))
]  # fmt: skip
X, Y = np.geomspace(1e12, 8e12, 12), np.geomspace(5e10, 4e11, 10)
FIELD = np.where(Y[:, None] < 8e10, np.nan, np.sqrt(X * Y[:, None]))
VARIANTS = (("moe", None), ("dense", 5.0))
POINTS = [
    {"variant": variant, "q": q, "phase": phase, "intensity": x, "flops_per_s": 3e12 * x}
    for variant, q in VARIANTS
    for phase, x in (("ffn", 9.0), ("head", 90.0))
]
TIMES = {"compute": 1.0, "HBM KV": 2.0, "comm EP": 0.5}
SUBJECTS = [
    {"context": c, "subject": name, "is_feasible": (c, name) != (ONE, "B"),
     "tokens_per_s_per_gpu": rate / k, "gpu_time": {n: k * t for n, t in TIMES.items()}}
    for c in CONTEXTS[:3] for name, rate, k in (("A", 1e3, 1.0), ("B", 1e3, 2.0), ("C", 1e3, 9.0))
]  # fmt: skip
ANSWERS = [
    {"label": "8 GPUs", "low": 1e3, "high": 1e7, "roots": [2e4, 1.4e6, 2.2e6, 2.3e6, 2.4e6, 7e6],
     "sides": ["moe", "dense", "moe", "dense", "moe", "dense", "neither feasible"]},
    {"label": "16 GPUs", "low": 1e3, "high": 1e7, "roots": [], "sides": ["moe"]},
]  # fmt: skip
SHIFTS = [
    {"dimension": d, "value": v, "cells": 40, "flips": n, "to_dense": k}
    for d, v, n, k in (("capacity", "-25 %", 10, 4), ("TP", "tp=4", 0, 0), ("TP", "tp=8", 2, 2))
]
BOUGHT = [
    {"quantity": "hbm_bw", "factor": 2.0, "value": "9.6 TB/s", "marginal": 0.4},
    {"quantity": "link_bw", "factor": 0.3, "value": "270 GB/s, 15 GB/s", "marginal": 0.4,
     "at_bound": True},
]  # fmt: skip
LEDGER = {
    "label": "MoE",
    "capacity": 8e10,
    "terms": {"routed experts": 5e10, "KV cache": 2e10, "free": 1e10},
}
FIGURES = {
    "throughput_vs_context": lambda ax=None: plotting.throughput_vs_context(rows(), ax),
    "ratio_vs_context": lambda ax=None: plotting.ratio_vs_context(
        [row | {"speedup_over_moe": 1e-3 * row["tokens_per_s_per_gpu"]} for row in rows()], ax
    ),
    "best_partition_map": lambda ax=None: plotting.best_partition_map(rows({ONE}), ax),
    "time_breakdown": lambda ax=None: plotting.time_breakdown(rows({ONE}), ax),
    "memory_ledger": lambda ax=None: plotting.memory_ledger([LEDGER], ax),
    "roofline": lambda ax=None: plotting.roofline(
        POINTS, {"hbm_bw": 3e12, "peaks": {"bf16": 1e15, "fp8": 2e15}}, ax
    ),
    "qs_plane": lambda ax=None: plotting.qs_plane(
        [
            {"model": "A", "s": 0.03, "q": 5.0},
            {"model": "B", "s": 0.03, "q": 5.0},
            {"model": "C", "s": 0.25, "q": 3.0, "q_low": 2.0, "q_high": 5.0},
        ],
        ax,
    ),
    "reuse_decomposition": lambda ax=None: plotting.reuse_decomposition(
        [
            {"label": "A", "routing": 32.0, "capacity": 1.3, "gap": 41.6},
            {"label": "B", "routing": 4.0, "capacity": 0.9, "gap": 3.6},
        ],
        ax,
    ),
    "tornado": lambda ax=None: plotting.tornado([c for c in cells() if c["context"] == ONE], ax),
    "elasticity_bands": lambda ax=None: plotting.elasticity_bands(
        [c for c in cells() if c["variant"] == "moe"], ax
    ),
    "stability_intervals": lambda ax=None: plotting.stability_intervals(
        [c for c in cells() if c["context"] == ONE], ax
    ),
    "certified_boxes": lambda ax=None: plotting.certified_boxes(
        [
            {"claim": "winner", "says": "dense q=5", "variant": "all", "q": None}
            | {"verdict": "proved", "largest": 1.5, "refuted_from": 2.0},
            {"claim": "partition", "says": "tp=8", "variant": "moe", "q": None}
            | {"verdict": "refuted", "largest": 0.2, "refuted_from": None},
        ],
        ax,
    ),
    "iso_throughput": lambda ax=None: plotting.iso_throughput(
        X, Y, FIELD, ax, gradient=(np.ones_like(FIELD), np.ones_like(FIELD)), point=(2e12, 1e11)
    ),
    "verdict_fan": lambda ax=None: plotting.verdict_fan(
        CONTEXTS,
        {q: [q + k for k in range(1, 7)] for q in (0.1, 0.5, 0.9)},
        ax,
        probability=[0.9] * 6,
    ),
    "pareto_front": lambda ax=None: plotting.pareto_front(
        [row("moe", None, ONE, 5e3 / k) | {"tokens_per_s_per_user": 10.0 * k} for k in range(1, 7)],
        ax,
    ),
    "front_bands": lambda ax=None: plotting.front_bands(
        [
            {
                "tokens_per_s_per_user": 10.0 * k,
                "tokens_per_s_per_gpu": 900.0 / k,
                "parameter": p,
                "elasticity": e * k,
            }
            for k in range(1, 6)
            for p, e in (("hbm_bw", 0.8), ("overhead", -0.3))
        ],
        ax,
    ),
    "architecture_gains": lambda ax=None: plotting.architecture_gains(
        [
            {
                "architecture": f"experts={e}",
                "hardware": h,
                "gain": g * (1.0 + 0.01 * e),
                "total_params": 1e10 * e,
                "active_params": 2e10,
            }
            for e in (8, 64, 512)
            for h, g in (("A", 0.9), ("B", 1.0))
        ],
        ax,
    ),
    "contest_map": lambda ax=None: plotting.contest_map(
        [
            {
                "context": c,
                "tpot_limit": t,
                "winner": w,
                "speedup_over_moe": s,
                "p_dense_wins": p,
                "p_moe_wins": 0.0 if w == "neither" else 1.0 - p,
            }
            for t, w, s, p in (
                (0.01, "neither", None, 0.0),
                (0.05, "dense", 1.4, 0.8),
                (math.inf, "moe", 0.5, 0.0),
            )
            for c in CONTEXTS
        ],
        ax,
    ),
    "latency_against_load": lambda ax=None: plotting.latency_against_load(
        [
            {"load": float(k), "load_unit": "req/s"}
            | {
                f"{m}_{q}": 0.02 * k * (2 + n)
                for n, m in enumerate(("ttft", "tpot", "e2e"))
                for q in ("p50", "p95")
            }
            for k in range(1, 5)
        ],
        ax,
    ),
    "speculation_gain": lambda ax=None: plotting.speculation_gain(
        [
            {"curve": name, "batch": 2.0**k, "gain": high / (1 + 0.1 * k)}
            for name, high in (("moe", 1.6), ("dense q=1", 1.8))
            for k in range(8)
        ],
        ax,
    ),
    "prefix_places": lambda ax=None: plotting.prefix_places(
        [
            {
                "design": design,
                "place": place,
                "way": place,
                "values": np.geomspace(0.1, 1e6, 9),
                "seconds": slow - 0.1 * k - 0.1 * np.arange(9) % (k + 2),
                "roots": [30.0, 2e3],
            }
            for design, slow in (("moe", 2.0), ("dense q=1", 1.8))
            for k, place in enumerate(("recompute", "hbm", "host", "ssd", "remote"))
        ],
        ax,
    ),
    "gpu_time": lambda ax=None: plotting.gpu_time(SUBJECTS, ax),
    "sure_leads": lambda ax=None: plotting.sure_leads(
        [
            {
                "context": c,
                "subject": name,
                "factor": x,
                "margin": 1.3,
                "chance": chance,
                "is_sure": x > 1.3,
            }
            for c in CONTEXTS[:2]
            for name, x, chance in (("B", 1.1, 0.7), ("C", 2.0, 0.99))
        ],
        ax,
        first="A",
    ),
    "lead_over_context": lambda ax=None: plotting.lead_over_context(
        SUBJECTS, ax, turns=[{"context": 3000.0, "after": "B"}, {"context": 9e3, "after": "A"}]
    ),
    "turning_points": lambda ax=None: plotting.turning_points(
        ANSWERS, ax, parameter="context [tokens]", tokens=True
    ),
    "chosen_hardware": lambda ax=None: plotting.chosen_hardware(BOUGHT, ax),
    "winner_shifts": lambda ax=None: plotting.winner_shifts(SHIFTS, ax),
    "parity": lambda ax=None: plotting.parity(RECORDS, ax),
    "residuals": lambda ax=None: plotting.residuals(RECORDS, ax),
    "paper_table": lambda ax=None: plotting.paper_table(
        [
            {"row": "A", "quantity": "B", "published": 86.0, "paper": 87.0, "physical": 80.0},
            {"row": "S", "quantity": "B", "published": None, "paper": None},
        ],
        ax,
        physical=True,
    ),
}


def texts(ax):
    found = [t for t in ax.get_figure().findobj(mpl.text.Text) if t.get_visible() and t.get_text()]
    return [t.get_text() for t in found]


def test_every_public_figure_is_tested():
    assert set(FIGURES) == set(vars(plotting)) & {
        name for name, value in vars(plotting).items()
        if getattr(value, "__wrapped__", None) and name != "theme"
    }  # fmt: skip


ODD = ["a$b_c$d", "$\\frac$", "5% {x} ^2", "two\nlines", "a\\b", "a$b"]


LONG = "my-company/a-very-long-model-name-with-instruct-and-quantisation-w8a8-v2.1-preview"


def test_long_names_are_parted_behind_their_dashes():
    lines = style.wrapped(f"{LONG} on 8 h100-sxm: MoE is fastest", 3.0, 11.0, bold=True).split("\n")
    assert all(style.text_width(line, 11.0, bold=True) <= 3.0 for line in lines)
    assert "".join(lines).startswith(LONG)
    assert all(line.endswith("-") for line in lines[:2])


@pytest.mark.parametrize("room", [3.0, 4.0, 5.0, 6.0, 7.0])
def test_no_line_of_a_title_holds_a_lone_word(room):
    title = "At 128k DeepSeek-V3's dense twin (q = 5) is 1.00 times as fast, not 4.5"
    lines = style.balanced(title, room, 11.0, bold=True).split("\n")
    widths = [style.text_width(line, 11.0, bold=True) for line in lines]
    assert max(widths) <= room
    assert len(lines) == style.wrapped(title, room, 11.0, bold=True).count("\n") + 1
    assert min(widths) > 0.6 * max(widths)


def test_a_word_is_not_parted_to_balance_a_title():
    name = "a-name-of-some-length"
    room = style.text_width(name, 11.0, bold=True) + 0.1
    assert style.balanced(f"{name} on h100", room, 11.0, bold=True) == f"{name}\non h100"


def test_long_names_of_rows_leave_the_panel_and_each_other_their_room():
    """Two pages of a comparison had no room for the panel itself."""
    names = [f"{LONG}, {gpu}" for gpu in ("h100-sxm", "b200-sxm")] * 10
    _, panels = plotting.figure(size=(6.4, 5.0))
    ax = panels[0, 0]
    ax.set_ylim(19.5, -0.5)
    style.name_rows(ax, range(20), names)
    ax.figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in ax.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in itertools.pairwise(boxes))
    assert ax.get_window_extent().width > 0.4 * ax.figure.bbox.width
    shown = [tick.get_text() for tick in ax.get_yticklabels()]
    assert shown[0].startswith("my-company/")
    assert shown[0].endswith("h100-sxm")
    assert "\u2026" in shown[0]


def test_a_sweep_of_a_field_is_drawn_over_it():
    """One point for each value stood at the one context, each with a name of its own."""
    axes = {"hbm_bw": [2e12, 4e12, 8e12], "hbm_bytes": [80e9, 160e9]}
    asked = qsjax.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k", axes=axes)
    ax = qsjax.explore(asked).plot("throughput")
    assert ax.get_xlabel() == "HBM bandwidth (hbm_bw) [B/s]"
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) > 1]
    assert [list(line.get_xdata()) for line in lines] == [axes["hbm_bw"]] * 2
    assert {text.get_text() for text in ax.texts} == {
        "MoE, hbm_bytes 80 GB",
        "MoE, hbm_bytes 160 GB",
    }
    title = ax.get_title(loc="left").replace("\n", " ")
    assert "tokens/s/GPU with hbm_bw = 2 TB/s (MoE, hbm_bytes 160 GB) and " in title


def test_a_single_context_stands_in_the_middle():
    asked = qsjax.Problem("mixtral-8x7b", "h100-sxm", gpus=8, context="8k")
    ax = qsjax.explore(asked).plot("throughput")
    low, high = ax.get_xlim()
    assert math.sqrt(low * high) == pytest.approx(8192)


def test_narrow_panels_have_two_ticks_rows_with_room_and_no_certain_chance():
    """One tick stood on an axis from 17 to 400, and 15 names of rows on each other."""
    figure, panels = plt.subplots(2, 3, figsize=(12, 6))
    front = panels[0, 0]
    plotting.pareto_front(
        [row("moe", None, ONE, 5e3 / k) | {"tokens_per_s_per_user": k} for k in (17, 60, 400)],
        front,
    )
    figure.canvas.draw()
    shown = [
        t for t in front.get_xticks() if 17 <= t <= 400 and front.xaxis.get_major_formatter()(t)
    ]
    assert len(shown) >= 2
    many = [
        row("moe", None, ONE, 1.0)
        | {"parameter": f"p{k}", "switch_down": 0.9, "switch_up": 2.0 + k}
        for k in range(15)
    ]
    plotting.stability_intervals(many, panels[0, 1])
    assert 3 <= len(panels[0, 1].get_yticks()) < 15
    fan = {q: [q, 1 + q] for q in (0.1, 0.5, 0.9)}
    plotting.verdict_fan([1024, 8192], fan, panels[0, 2], probability=[0.0, 1.0])
    assert {"<1 %", ">99 %"} <= {text.get_text() for text in panels[0, 2].texts}
    plt.close(figure)


def test_odd_names_are_written_as_they_are():
    """Each name in each place of a figure: all of them in one picture where it holds several."""
    drawn = [
        plotting.memory_ledger([LEDGER | {"label": odd} for odd in ODD]),
        plotting.gpu_time([row | {"subject": odd} for row in SUBJECTS[:1] for odd in ODD]),
        plotting.qs_plane([{"model": odd, "s": 0.03, "q": 5.0 + k} for k, odd in enumerate(ODD)]),
        plotting.reuse_decomposition(
            [{"label": odd, "routing": 9.0, "capacity": 1.3, "gap": 11.7} for odd in ODD]
        ),
        plotting.turning_points([ANSWERS[0] | {"label": odd} for odd in ODD]),
        plotting.parity([record | {"gpu": odd} for record in RECORDS[:1] for odd in ODD]),
    ]
    for ax in drawn:
        for odd in ODD:
            assert any(odd in text for text in texts(ax)), (odd, texts(ax))
        for form in ("svg", "png", "pdf"):
            assert plotting.render(ax, form)


@pytest.mark.parametrize("odd", ODD)
def test_odd_titles_and_names_of_axes_are_written_as_they_are(odd):
    ax = plotting.turning_points(ANSWERS[:1], title=odd, parameter=odd)
    assert odd in ax.get_title(loc="left")
    assert odd in ax.get_xlabel()
    for form in ("svg", "png", "pdf"):
        assert plotting.render(ax, form)


class Drawn(NamedTuple):
    """A figure with every text in its place, as a file, and whether it changed Matplotlib."""

    ax: Axes
    svg: bytes
    changed: bool


@functools.cache
def drawn(name):
    before = dict(mpl.rcParams)
    ax = FIGURES[name]()
    changed = dict(mpl.rcParams) != before
    svg = plotting.render(ax)
    ax.get_figure().draw_without_rendering()
    return Drawn(ax, svg, changed)


@functools.cache
def given(name):
    """The figure in the right one of two panels of a caller, which are returned, as a PNG."""
    fig, panels = plt.subplots(1, 2)
    assert FIGURES[name](panels[1]) is panels[1]
    return panels, plotting.render(fig, "png")


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    def test_draws_on_the_given_axes_and_returns_them(self, name):
        (left, right), _ = given(name)
        assert not left.has_data()
        assert right.has_data() or right.patches

    def test_takes_no_text_for_a_formula(self, name):
        """Names may hold dollars; what the package writes itself holds none."""
        for ax in (drawn(name).ax, given(name)[0][1]):
            written = [t for t in ax.findobj(Text) if t.get_text() and t.get_visible()]
            assert written
            assert not any(t.get_parse_math() or "$" in t.get_text() for t in written)

    def test_leaves_the_settings_of_the_caller_alone(self, name):
        assert not drawn(name).changed

    def test_names_the_quantity_and_unit_of_numeric_axes(self, name):
        ax = drawn(name).ax
        categorical = {"best_partition_map", "memory_ledger", "reuse_decomposition", "tornado",
                       "stability_intervals", "residuals", "paper_table", "gpu_time",
                       "turning_points", "chosen_hardware", "winner_shifts",
                       "certified_boxes", "architecture_gains", "sure_leads"}  # fmt: skip
        assert "[" in ax.get_xlabel() or name in {"tornado", "paper_table"}
        assert name in categorical or "[" in ax.get_ylabel()

    def test_renders_to_the_same_bytes(self, name):
        assert drawn(name).svg == plotting.render(FIGURES[name]())
        assert b"<dc:date>" not in drawn(name).svg

    def test_is_transparent_in_the_ink_of_the_theme(self, name):
        assert plt.imread(io.BytesIO(given(name)[1]))[0, 0, 3] == 0
        with plotting.theme("dark"):
            dark = plotting.render(FIGURES[name]())
        assert style.INKS["dark"].text.encode() in dark
        assert style.INKS["both"].text.encode() not in dark

    def test_no_two_texts_overlap(self, name):
        ax = drawn(name).ax
        boxes = {text: text.get_window_extent() for text in shown(ax)}
        for (a, first), (b, second) in itertools.combinations(boxes.items(), 2):
            assert not first.padded(-1).overlaps(second.padded(-1)), (a, b)


def narrow(side):
    """A user's grid of panels of 4 by 3 inches, one or two each way."""
    fig = plt.figure(figsize=(4.0 * side, 3.0 * side), dpi=100, layout="constrained")
    return fig.subplots(side, side, squeeze=False)


BY_FOUR = [list(FIGURES)[k : k + 4] for k in range(0, len(FIGURES), 4)]


class TestNarrow:
    """On a user's own axes: 400 pixels wide, and in a grid of four."""

    @pytest.mark.parametrize("names", [*([name] for name in FIGURES), *BY_FOUR], ids=" ".join)
    def test_all_text_stays_in_the_picture_and_apart(self, names, monkeypatch):
        label, long = style.label, "mixtral-8x7b on 8 h100-sxm: what a long title has to say of it"
        monkeypatch.setattr(
            style, "label", lambda ax, title, *names, **more: label(ax, long, *names, **more)
        )
        grid = narrow(1 if len(names) == 1 else 2)
        drawn = [FIGURES[name](ax) for name, ax in zip(names, grid.flat, strict=False)]
        fig = drawn[0].get_figure()
        fig.draw_without_rendering()
        for ax in drawn:
            boxes = {text: Text.get_window_extent(text) for text in shown(ax)}
            for text, box in boxes.items():
                assert box.x0 >= -1, text
                assert box.y0 >= -1, text
                assert box.x1 <= fig.bbox.x1 + 1, text
                assert box.y1 <= fig.bbox.y1 + 1, text
            for (a, first), (b, second) in itertools.combinations(boxes.items(), 2):
                assert not first.padded(-1).overlaps(second.padded(-1)), (a, b)

    @pytest.mark.parametrize("name", ["memory_ledger", "best_partition_map", "tornado"])
    def test_axes_without_a_layout_keep_title_and_names_to_themselves(self, name):
        fig, panels = plt.subplots(2, 2, figsize=(10, 7))
        for ax in panels[:, 0]:
            ax.plot([1, 2])
        for ax in panels[:, 1]:
            FIGURES[name](ax)
        fig.canvas.draw()
        (up_left, up), (low_left, low) = (
            [ax.get_tightbbox(fig.canvas.get_renderer()) for ax in row] for row in panels
        )
        assert up.y1 <= fig.bbox.y1 + 1
        assert low.y1 <= up.y0 + 1
        assert up.x0 >= up_left.x1 - 1
        assert low.x0 >= low_left.x1 - 1

    @pytest.mark.parametrize("side", [1, 2])
    def test_keys_of_lines_are_told_apart_without_colour(self, side):
        ax = plotting.throughput_vs_context(rows(), narrow(side)[0, 0])
        keys = [(h.get_linestyle(), h.get_marker()) for h in ax.get_legend().legend_handles]
        assert len(set(keys)) == len(keys) == 2


def grey(colour):
    return float(np.dot([0.299, 0.587, 0.114], to_rgb(colour)))


class TestGrey:
    """What a printer without colours leaves."""

    @pytest.mark.parametrize("looks", [style.MOES, style.DENSE, style.CATEGORIES])
    def test_no_two_of_many_series_look_the_same(self, looks):
        made = [style.nth(looks, k) for k in range(3 * len(looks))]
        assert len(set(made)) == len(made)
        first = made[: len(looks)]
        assert len({(look.marker, str(look.line)) for look in first}) == len(first)

    @pytest.mark.parametrize("palette", [style.RESOURCES, plotting.ledgers.MEMORY])
    def test_areas_differ_in_hatch_or_in_lightness(self, palette):
        looks = {look for look in palette.values() if look.colour != "none"}
        for a, b in itertools.combinations(looks, 2):
            assert a.hatch != b.hatch or abs(grey(a.colour) - grey(b.colour)) > 0.08, (a, b)


def test_several_accelerators_have_cells_and_bars_of_their_own():
    """The map drew one over the other, and the bars were those of the first alone."""
    asked = qsjax.Problem("mixtral-8x7b", ["h100-sxm", "h200-sxm"], gpus=8, context=["1k", "8k"])
    found = qsjax.explore(asked)
    cells = [p.get_xy() for p in found.plot("partition").patches if hasattr(p, "get_xy")]
    assert len({tuple(map(float, xy)) for xy in cells}) == 4
    bars = found.plot("time")
    assert len({round(p.get_x(), 6) for p in bars.patches}) == 4
    for name in ("throughput", "partition", "time"):
        title = found.plot(name).get_title(loc="left").replace("\n", " ")
        assert title.count("mixtral-8x7b") + title.count("h100-sxm") <= 2, title


def test_several_counts_at_one_context_are_drawn_over_the_counts():
    asked = qsjax.Problem("mixtral-8x7b", "h100-sxm", gpus=[4, 8], context="8k", twins=5)
    found = qsjax.explore(asked)
    for name in ("throughput", "ratio"):
        ax = found.plot(name, ax=plt.figure().add_subplot())
        assert ax.get_xlabel() == "GPUs [1]"
        assert "on 4 GPUs and" in ax.get_title(loc="left").replace("\n", " ")
    both = qsjax.explore(dataclasses.replace(asked, context=["1k", "8k"]))
    ax = both.plot("ratio", ax=plt.figure().add_subplot())
    lines = [line for line in ax.lines if line.get_label().startswith("dense")]
    assert [list(line.get_xdata()) for line in lines] == [[1024, 8192]] * 2


def shown(ax):
    """Every text that is drawn: title, labels, legend, annotations, ticks inside the limits."""
    found = [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
    found += ax.get_legend().get_texts() if ax.get_legend() else []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def test_an_unknown_theme_is_named_with_the_known_ones():
    with (
        pytest.raises(ValueError, match="'neon' is not known; choose one of both, light, dark"),
        plotting.theme("neon"),
    ):
        pass


class TestThroughput:
    def test_infeasible_contexts_break_the_line_and_are_marked(self):
        missing = {CONTEXTS[2]}
        ax = plotting.throughput_vs_context(rows(missing))
        line = next(x for x in ax.lines if x.get_color() == style.MOE.colour)
        assert np.isnan(line.get_ydata()[2])
        assert np.isfinite(np.delete(np.asarray(line.get_ydata()), 2)).all()
        marks = [x for x in ax.lines if x.get_marker() == "x" and len(x.get_xdata()) == 1]
        assert [x.get_xdata()[0] for x in marks] == [CONTEXTS[2]]
        assert "infeasible" in texts(ax)
        # The legend of a user's own axes took the place of the one that says what crosses are.
        assert "infeasible" in texts(
            plotting.throughput_vs_context(rows(missing), plt.figure().gca())
        )

    def test_panels_that_share_an_axis_hold_all_values(self):
        _, panels = plotting.figure(1, 2, (9.0, 4.0), sharey=True)
        plotting.throughput_vs_context(rows({CONTEXTS[2]}), panels[0, 0])
        larger = [one | {"tokens_per_s_per_gpu": 1e4} for one in rows()]
        ax = plotting.throughput_vs_context(larger, panels[0, 1])
        assert ax.get_ylim()[0] < 1e6 / CONTEXTS[-1]
        assert ax.get_ylim()[1] > 1e4

    def test_crossovers_stand_where_power_laws_cross(self):
        exact = (1e6 / 3e4) ** (1 / 0.4)
        (found,) = throughput.crossings(rows()[:6], rows()[6:])
        np.testing.assert_allclose(found, (exact, 1e6 / exact), rtol=1e-12)
        assert any(
            f"near {units.about(exact)}" in t for t in texts(plotting.throughput_vs_context(rows()))
        )

    def test_no_crossover_is_claimed_across_an_infeasible_context(self):
        moe = [row("moe", None, 1024, 2.0), row("moe", None, 2048, 1.0, feasible=False)]
        dense = [row("dense", 5.0, 1024, 1.0), row("dense", 5.0, 2048, 2.0)]
        assert throughput.crossings(moe, dense) == []

    def test_the_map_names_design_reason_and_resource(self):
        found = texts(plotting.best_partition_map(rows({ONE})))
        assert "tp8\nep4\nkvp2" in found
        assert "no room\nfor KV" in found
        assert {"bound by HBM KV", "infeasible"} <= set(found)

    def test_the_map_over_gpus_orders_them(self):
        many = [row("moe", None, c, 1.0, gpus=g) for g in (64, 8, 16) for c in CONTEXTS]
        ax = plotting.best_partition_map(many, y="gpus")
        assert [t.get_text() for t in ax.get_yticklabels()] == ["8", "16", "64"]


class TestLedgers:
    def test_bars_sum_to_the_total_and_hidden_time_stands_beside(self):
        ax = plotting.time_breakdown([row("moe", None, ONE, 1.0)])
        bars = [p for p in ax.patches if p.get_height() > 0]
        solid = [p for p in bars if p.get_facecolor()[3] > 0]
        assert math.isclose(sum(p.get_height() for p in solid), 10.0)
        (hidden,) = (p for p in bars if p.get_facecolor()[3] == 0)
        assert hidden.get_height() == 0.5
        assert hidden.get_hatch()
        assert hidden.get_x() >= max(p.get_x() + p.get_width() for p in solid) - 1e-9

    def test_shares_sum_to_100(self):
        ax = plotting.time_breakdown([row("moe", None, ONE, 1.0)], share=True)
        solid = [p.get_height() for p in ax.patches if p.get_facecolor()[3] > 0]
        assert math.isclose(sum(solid), 100.0)

    def test_bars_of_one_context_are_named_and_the_legend_has_every_resource(self):
        """Twelve long names left no room for the colours: `and 12 more`."""
        sizes = [f"hbm_bw {k} TB/s, hbm_bytes 80 GB" for k in "12345678"]
        ax = plotting.time_breakdown([row("moe", None, ONE, 1.0) | {"label": s} for s in sizes])
        named = [t.get_text().replace("\n", " ") for t in ax.get_xticklabels()]
        assert named == sizes
        shown = [t.get_text() for t in ax.get_legend().get_texts()]
        assert "comm EP" in shown
        assert not any("more" in text for text in shown)

    def test_memory_bars_end_at_the_capacity(self):
        ax = FIGURES["memory_ledger"]()
        right = max(p.get_x() + p.get_width() for p in ax.patches)
        assert math.isclose(right, 8e10 / 2**30)
        assert any(math.isclose(x.get_xdata()[0], right) for x in ax.lines)


class TestSensitivity:
    def test_tornado_orders_by_size_and_leaves_undefined_out(self):
        undefined = {"variant": "moe", "q": None, "parameter": "none", "elasticity": math.nan}
        ax = plotting.tornado([c for c in cells() if c["context"] == ONE] + [undefined])
        names = [t.get_text() for t in ax.get_yticklabels()]
        assert names == ["flops_fp8", "bytes_kv", "hbm_bw"]

    def test_bands_leave_infeasible_contexts_out(self):
        found = [c for c in cells() if c["variant"] == "moe"]
        for cell in found:
            if cell["context"] == CONTEXTS[-1]:
                cell |= {"elasticity": None, "bound_by": None}
        ax = plotting.elasticity_bands(found)
        right = max(c.get_paths()[0].get_extents().x1 for c in ax.collections)
        assert right == CONTEXTS[-2]
        assert "infeasible" in texts(ax)

    def test_an_interval_without_switch_ends_in_an_arrow(self):
        ax = plotting.stability_intervals(
            [{"variant": "moe", "q": None, "parameter": "x", "switch_down": 0.5,
              "switch_up": None}], reach=16.0)  # fmt: skip
        marks = {x.get_xdata()[0]: x.get_marker() for x in ax.lines if len(x.get_xdata()) == 1}
        assert marks[0.5] == "|"
        assert marks[16.0] == ">"

    def test_no_contour_crosses_the_infeasible_region(self):
        ax = FIGURES["iso_throughput"]()
        first = Y[~np.isnan(FIELD[:, 0])][0]
        for contour in ax.collections:
            for path in getattr(contour, "get_paths", list)():
                if len(path.vertices) > 8 and path.vertices[:, 1].max() > 1e9:
                    assert path.vertices[:, 1].min() >= first * (1 - 1e-9)
        assert "no feasible design" in texts(ax)


class TestAnswers:
    def test_bars_are_relative_to_the_first_that_runs_and_cut_ones_say_so(self):
        ax = plotting.gpu_time(SUBJECTS)
        rows = {round(p.get_y() + p.get_height() / 2): 0.0 for p in ax.patches}
        for patch in ax.patches:
            rows[round(patch.get_y() + patch.get_height() / 2)] += patch.get_width()
        runs = sorted(rows.values())
        np.testing.assert_allclose(runs, [1.0, 1.0, 1.0, 2.0, 2.0, 6.0, 6.0, 6.0])
        found = texts(ax)
        assert "nothing runs" in found
        assert found.count("bar 9 long   111") == 3
        assert {t.get_text() for t in ax.texts if t.get_fontweight() == "bold"} == {"1k"}

    def test_the_line_of_the_first_crosses_no_name_of_a_context(self):
        ax = plotting.gpu_time(SUBJECTS)
        names = [t.xy[1] for t in ax.texts if t.get_text().endswith(" tokens")]
        spans = [line.get_ydata() for line in ax.lines]
        assert len(names) == len(spans) == 3
        assert not any(low < y < high for low, high in spans for y in names)

    def test_the_lead_is_named_where_it_changes(self):
        ax = FIGURES["lead_over_context"]()
        assert {"from 2.9k on: B", "from 8.8k on: A"} <= set(texts(ax))

    def test_a_subject_that_never_runs_is_named_beside_its_crosses(self):
        never = [row | {"is_feasible": row["subject"] == "A"} for row in SUBJECTS]
        assert {"A", "B", "C"} <= set(texts(plotting.lead_over_context(never)))

    def test_segments_end_at_the_roots_in_the_colour_of_the_better(self):
        ax = plotting.turning_points(ANSWERS[:1])
        bars = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
        ends = [1e3, *ANSWERS[0]["roots"], 1e7]
        np.testing.assert_allclose(bars, list(itertools.pairwise(ends)))
        assert to_rgb(ax.patches[0].get_facecolor()) == to_rgb(style.MOE.colour)
        assert to_rgb(ax.patches[1].get_facecolor()) == to_rgb(style.DENSE[0].colour)

    def test_above_a_least_count_nothing_is_claimed(self):
        ax = plotting.turning_points(
            [{"label": "x", "low": 0.8, "high": 80.0, "roots": [8], "sides": ["missed", ""]}]
        )
        (bar,) = ax.patches
        assert bar.get_x() + bar.get_width() == 8
        assert "least that meets the target" in texts(ax)

    def test_hardware_bars_start_at_the_reference(self):
        ax = plotting.chosen_hardware(BOUGHT)
        ends = [sorted((p.get_x(), p.get_x() + p.get_width())) for p in ax.patches]
        np.testing.assert_allclose(ends, [[1.0, 2.0], [0.3, 1.0]])
        assert any("edge of the range" in text for text in texts(ax))

    def test_shifts_go_left_to_the_moe_and_right_to_the_twin(self):
        ax = plotting.winner_shifts(SHIFTS)
        assert [p.get_width() for p in ax.patches] == [-15.0, 10.0, 5.0]
        assert to_rgb(ax.patches[0].get_facecolor()) == to_rgb(style.MOE.colour)
        names = [t.get_text() for t in ax.get_yticklabels()]
        assert names == ["capacity -25 %", "tp=4", "tp=8"]

    def test_an_axis_of_shifts_without_any_is_in_per_cents(self):
        ax = plotting.winner_shifts([row | {"flips": 0, "to_dense": 0} for row in SHIFTS])
        assert ax.get_xlim() == (-10.0, 10.0)


class TestStyle:
    def test_resources_are_those_of_the_ledger(self):
        assert set(style.RESOURCES) == set(ledger.RESOURCES)

    def test_a_variant_looks_the_same_in_any_figure(self):
        alone = style.variant_looks([{"variant": "moe", "q": None}])
        both = style.variant_looks(rows())
        assert alone["MoE"] == both["MoE"]

    @pytest.mark.parametrize("looks", [style.DENSE, style.CATEGORIES])
    def test_lines_differ_without_colour(self, looks):
        assert len({look.marker for look in looks}) == len(looks)
        assert len({str(look.line) for look in looks}) == len(looks)

    def test_areas_differ_without_colour(self):
        for (_, a), (_, b) in itertools.combinations(style.RESOURCES.items(), 2):
            assert a.hatch != b.hatch or abs(luminance(a.colour) - luminance(b.colour)) > 0.03

    @pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
    def test_the_ink_reads_on_light_and_dark_pages(self, page):
        high, low = sorted((luminance(style.INKS["both"].text), luminance(page)), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 4.0


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_labels_cover_neither_points_nor_each_other():
    _, panels = plotting.figure()
    ax = panels[0, 0]
    ax.set(xlim=(0, 10), ylim=(0, 10))
    names = [labels.Name(5.0, 5.0 + 0.1 * k, f"name {k}", "k") for k in range(4)]
    labels.name_points(ax, names, [(5.4, 5.0)])
    ax.get_figure().canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_map_without_a_feasible_design_is_hatched_and_has_no_arrows():
    """The mean length of no arrows was a warning of NumPy's."""
    nothing = np.full((3, 4), np.nan)
    x, y = np.geomspace(1e12, 8e12, 4), np.geomspace(5e10, 2e11, 3)
    ax = plotting.iso_throughput(x, y, nothing, gradient=(nothing, nothing), point=(2e12, 1e11))
    ax.get_figure().canvas.draw()
    assert ax.patch.get_hatch()
    assert not ax.collections


def test_names_of_designs_keep_clear_of_the_steps_of_every_front():
    """Fronts that end in long steep steps, one beside the other."""
    front = [
        row("moe", None, ONE, 4e3 / 3.0**k) | {"label": label, "tokens_per_s_per_user": 50 * u}
        for j, label in enumerate(("a", "b", "c"))
        for k, u in enumerate((1.0, 1.8, 2.4, 2.8 + 0.03 * j, 3.0 + 0.03 * j))
    ]
    ax = plotting.pareto_front(front)
    ax.get_figure().canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the leader
    assert boxes
    for line in ax.lines[::2]:
        corners = np.transpose(pts_to_prestep(line.get_xdata(), line.get_ydata()))
        steps = Path(ax.transData.transform(corners))
        assert not any(steps.intersects_bbox(box, filled=False) for box in boxes)
    for marks in ax.lines[1::2]:
        assert {0, len(marks.get_xdata()) - 1} <= set(marks.get_markevery())


def test_real_results_draw_from_rows_and_from_a_data_set():
    asked = qsjax.Problem("mixtral-8x7b", "h100-sxm", gpus=(4,), context=(4096.0, 2.0**24), twins=5)
    found = qsjax.explore(asked)
    direct, data = as_rows(found.rows()), as_rows(found.dataset)
    assert [r["is_feasible"] for r in data] == [r["is_feasible"] for r in direct]
    assert {True, False} == {r["is_feasible"] for r in direct}
    for ours, theirs in zip(data, direct, strict=True):
        assert ours["variant"] == theirs["variant"]
        if theirs["is_feasible"]:
            assert math.isclose(sum(ours["terms"].values()), theirs["tpot_ms"], rel_tol=1e-9)
            assert ours["tp"] == theirs["tp"]
    for draw in (plotting.throughput_vs_context, plotting.time_breakdown):
        assert isinstance(draw(found.dataset).get_figure(), Figure)
    plotting.best_partition_map(direct)


def test_names_of_a_crowded_roofline_stay_within_the_panel_and_apart():
    points = [
        {"variant": "dense", "q": float(q), "phase": phase, "intensity": x, "flops_per_s": x * 3e12}
        for q in range(1, 10)
        for phase, x in (("attention", 4.0 + q / 50), ("projection", 250.0 + q), ("ffn", 290.0))
    ]
    roofs = {"hbm_bw": 3.35e12, "peaks": {"bf16": 989e12, "fp8": 1978e12}}
    ax = plotting.roofline(points, roofs, title="Nine twins")
    ax.figure.canvas.draw()
    frame, names = ax.get_window_extent(), [t for t in ax.texts if t.get_text().startswith("dense")]
    boxes = [Text.get_window_extent(name) for name in names]
    assert 3 <= len(boxes) < len(points)
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and b.y1 <= frame.y1 for b in boxes)
    pairs = [(a, b) for k, a in enumerate(boxes) for b in boxes[k + 1 :]]
    assert not any(a.shrunk(0.9, 0.8).overlaps(b.shrunk(0.9, 0.8)) for a, b in pairs)
