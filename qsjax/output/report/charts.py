"""Interactive figures as data: points with their tooltips."""

from collections.abc import Callable, Sequence
from typing import Any

from qsjax.cost.meanings import meaning_of
from qsjax.output.labels import split_name
from qsjax.output.result import text
from qsjax.plotting import style
from qsjax.plotting.ledgers import by_resource
from qsjax.plotting.rows import METRICS, in_ms, named, why_infeasible
from qsjax.plotting.style import Row
from qsjax.records.rows import grouped
from qsjax.records.specs import DEGREES, FIELDS
from qsjax.records.units import quantity, tokens

Chart = dict[str, Any]
Tip = list[tuple[str, str]]

MOST_LINES = 12
_DASHES = ("", "7 3", "2 2", "8 3 2 3", "4 2 1 2")
_MARKS = ("circle", "square", "triangle", "diamond", "down")
CONVENTION_DASH = {"physical": "", "paper": "6 4"}


def charts(tables: dict[str, list[dict[str, Any]]], convention: str, tag: str) -> list[Chart]:
    """Every figure that the rows of a folder allow.

    Args:
        tables: rows by name.
        convention: the accounting of the folder's results.
        tag: tells folders apart in titles; empty if there is one.
    """
    drawn: list[Chart] = []
    for rows in ([in_ms(row) for row in table] for table in tables.values()):
        for fits, draw in _KINDS:
            usable = [row for row in rows if fits(row)]
            if usable and len(usable) >= len(rows) // 2:
                drawn += [chart for chart in draw(rows, convention) if _is_figure(chart)]
    for chart in drawn:
        chart["title"] += f" ({tag})" if tag else ""
    return drawn


def _is_figure(chart: Chart) -> bool:
    """Whether a chart has more to show than a table: no line of one point each."""
    lines = chart["series"]
    return bool(lines) and (chart["kind"] != "line" or any(len(x["points"]) > 1 for x in lines))


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(row.get(name) is not None for name in names)


def _tip(row: Row, *extra: tuple[str, str]) -> Tip:
    """The design behind a point, as lines of a tooltip."""
    lines: Tip = [*extra]
    if any(row.get(name) for name in DEGREES):
        lines.append(("design", split_name(row)))
    known = {
        "batch": "batch per replica",
        "tpot_ms": "TPOT [ms]",
        "tokens_per_s_per_gpu": "tokens/s/GPU",
        "tokens_per_s_per_user": "tokens/s/user",
        "bound_by": "bound by",
        "usd_per_million_tokens": "USD per million tokens",
    }
    lines += [(said, _text(row[name])) for name, said in known.items() if row.get(name) is not None]
    return lines


def _text(value: Any) -> str:
    is_large = isinstance(value, int | float) and abs(value) >= 1e6
    return quantity(value) if is_large else text(value)


def _look(looks: dict[str, style.Look], name: str) -> dict[str, str]:
    at = list(looks).index(name)
    return {"colour": looks[name].colour, "mark": _MARKS[at % len(_MARKS)],
            "dash": _DASHES[at % len(_DASHES)]}  # fmt: skip


CONTEXT = ("context [tokens]", "tokens")
RATE = (METRICS["tokens_per_s_per_gpu"], "log")


def _chart(
    title: str, kind: str, lines: list[Chart], x: tuple[str, str], y: tuple[str, str], **more: Any
) -> Chart:
    """A figure; `x` and `y` are what stands at the axes, and how they are spaced."""
    axes = {name: {"label": label, "scale": scale} for name, (label, scale) in (("x", x), ("y", y))}
    return {"title": title, "kind": kind, "series": lines, **axes, **more}


def _line(
    name: str, convention: str, points: list[Chart], look: dict[str, str], variant: str = ""
) -> Chart:
    """A line or a set of bars; toggles act on its variant, which is its name unless given."""
    return {"name": name, "variant": variant or name, "convention": convention,
            "points": points, **look}  # fmt: skip


def _points(rows: Sequence[Row], x: str, y: str, tip: Callable[[Row], Tip]) -> list[Chart]:
    """Points of a line, from the least of `x` on."""
    ordered = sorted(rows, key=lambda row: row[x])
    return [{"x": row[x], "y": row[y], "tip": tip(row)} for row in ordered]


def _at(row: Row) -> tuple[str, str]:
    """The line of a tooltip that tells the context."""
    return "context", tokens(row["context"])


def _over_context(rows: Sequence[Row], convention: str) -> list[Chart]:
    (name_of, looks), lines, rate = named(rows), [], "tokens_per_s_per_gpu"

    def tip(row: Row) -> Tip:
        if row[rate] is not None:
            return _tip(row, _at(row))
        return [_at(row), ("infeasible", why_infeasible(row).replace("\n", " "))]

    counts = sorted({row.get("gpus") or 0 for row in rows})
    for (label, gpus), members in grouped(rows, lambda r: (name_of(r), r.get("gpus"))).items():
        shown = [
            {**row, rate: row.get(rate) if row.get("is_feasible", True) else None}
            for row in members
        ]
        points = _points(shown, "context", rate, tip)
        look, name = _look(looks, label), label
        if len(counts) > 1:
            look["dash"] = _DASHES[counts.index(gpus or 0) % len(_DASHES)]
            name = f"{label}, {gpus} GPUs"
        lines.append(_line(name, convention, points, look, label))
    return [_chart("Throughput of the best design over context", "line", lines, CONTEXT, RATE)]


def _subjects(rows: Sequence[Row], convention: str) -> list[Chart]:
    """A comparison: one figure for each accounting."""
    named_so = [{**row, "label": row["subject"]} for row in rows]
    by_name = grouped(named_so, lambda row: str(row.get("convention") or convention))
    return [
        chart | {"title": f"{chart['title']}, {counted} accounting"}
        for counted, members in by_name.items()
        for chart in _over_context(members, counted)
    ]


def _is_factor(row: Row) -> bool:
    """Whether a row compares with the MoE in one number; draws have quantiles there."""
    return _has("variant", "context")(row) and isinstance(row.get("speedup_over_moe"), int | float)


def _speedups(rows: Sequence[Row], convention: str) -> list[Chart]:
    (name_of, looks), lines = named(rows), []
    head = "speedup_over_moe"
    keys = {
        key: key.removeprefix(head).lstrip("_") or convention
        for row in rows for key in row if key.startswith(head)
    }  # fmt: skip
    twins = [row for row in rows if row["variant"] != "moe" and row.get("is_feasible", True)]
    several = len({row.get("gpus") for row in rows}) > 1
    for (label, gpus), members in grouped(twins, lambda r: (name_of(r), r.get("gpus"))).items():
        for key, name in keys.items():

            def tip(row: Row, key: str = key, name: str = name) -> Tip:
                return _tip(row, _at(row), (f"over the MoE, {name}", f"{row[key]:.3g}x"))

            points = _points([row for row in members if row.get(key)], "context", key, tip)
            whole = f"{label}, {gpus} GPUs, {name}" if several else f"{label}, {name}"
            look = _look(looks, label) | {"dash": CONVENTION_DASH.get(name, "2 2")}
            lines.append(_line(whole, name, points, look, label))
    over = (METRICS[head], "log")
    return [_chart("Dense twin over MoE", "line", lines, CONTEXT, over, reference=1.0)]


def _breakdown(rows: Sequence[Row], convention: str) -> list[Chart]:
    usable = [row for row in rows if row.get("terms") and row.get("is_feasible", True)]
    several = len({row.get("gpus") for row in usable}) > 1
    (name_of, _), bars = named(usable), []
    for row in sorted(usable, key=lambda r: (r.get("gpus") or 0, r["context"])):
        label = name_of(row)
        place = tokens(row["context"]) + (f" · {row['gpus']} GPUs" if several else "")
        for resource, value in by_resource(row["terms"]).items():
            share = f"{value:.3g} ms, {100 * value / row['tpot_ms']:.0f} % of TPOT"
            bars.append({"place": place, "variant": label, "part": resource, "y": value,
                         "tip": [(resource, share), *_tip(row)]})  # fmt: skip
    colours = {name: look.colour for name, look in style.RESOURCES.items()}
    hatches = {name: look.hatch[:1] for name, look in style.RESOURCES.items()}
    plain = {"colour": "#888", "mark": "", "dash": ""}
    by_label = grouped(bars, lambda bar: bar["variant"])
    lines = [_line(label, convention, points, plain) for label, points in by_label.items()]
    axes = (CONTEXT[0], "category"), (METRICS["tpot_ms"], "linear")
    title = "Where the time of a token goes"
    return [_chart(title, "stack", lines, *axes, parts=colours, hatches=hatches)]


def _is_design(row: Row) -> bool:
    """Whether a row may be a point of a front; winners of a sweep's cells have no variant."""
    is_named = row.get("label") is not None or row.get("variant") is not None
    return is_named and _has("tokens_per_s_per_user", "tokens_per_s_per_gpu")(row)


def _front(rows: Sequence[Row], convention: str) -> list[Chart]:
    """Only where several designs stand for one variant and context: a front, not an optimum."""
    name_of, looks = named(rows)
    groups = grouped(rows, lambda row: (name_of(row), row.get("context"), row.get("gpus")))
    if max(len(members) for members in groups.values()) < 2:
        return []
    lines = []
    several = len({row.get("context") for row in rows}) > 1
    for (label, context, _), members in groups.items():
        points = _points(members, "tokens_per_s_per_user", "tokens_per_s_per_gpu", _tip)
        name = f"{label}, {tokens(context)}" if several and context else label
        lines.append(_line(name, convention, points, _look(looks, label), label))
    user = (METRICS["tokens_per_s_per_user"], "log")
    return [_chart("Throughput against interactivity", "step", lines, user, RATE)]


def _is_slope(row: Row) -> bool:
    """Whether a row is an elasticity at the optimum of a context, not one along a front."""
    return _has("variant", "parameter", "elasticity")(row) and "point" not in row


def _elasticities(rows: Sequence[Row], convention: str) -> list[Chart]:
    """A figure for each metric and number of GPUs."""
    parts = grouped(rows, lambda row: (row.get("metric"), row.get("gpus")))
    drawn = []
    for (metric, gpus), cells in parts.items():
        title = "Elasticities over context"
        if len(parts) > 1:
            title += "".join(f", {x}" for x in (metric, gpus and f"{gpus:g} GPUs") if x)
        lines = _of_one_metric(cells, convention)
        y = (f"elasticity of {metric or 'the metric'} [1]", "linear")
        drawn.append(_chart(title, "line", lines, CONTEXT, y, reference=0.0))
    return drawn


def _of_one_metric(rows: Sequence[Row], convention: str) -> list[Chart]:
    """Lines of the parameters that move a metric most; colours tell variants apart, marks these."""
    looks, lines = style.variant_looks(rows), []
    usable = [{"context": 1.0, **row} for row in rows if row["elasticity"] is not None]
    size = {
        name: max(abs(row["elasticity"]) for row in accounting)
        for name, accounting in grouped(usable, lambda row: row["parameter"]).items()
    }
    # As many as there are marks; the table has them all.
    most = sorted((name for name in size if size[name] >= 5e-3), key=lambda n: -size[n])
    most = most[: len(_MARKS)]
    for (label, parameter), members in grouped(
        usable, lambda row: (style.variant_label(row), row["parameter"])
    ).items():
        if parameter not in most:
            continue

        def tip(row: Row) -> Tip:
            slope = f"{row['elasticity']:+.3f}"
            return [("parameter", row["parameter"]), _at(row), ("elasticity", slope)]

        points = _points(members, "context", "elasticity", tip)
        at = most.index(parameter)
        look = {"colour": looks[label].colour, "mark": _MARKS[at], "dash": _DASHES[at]}
        accounting = members[0].get("convention") or convention
        lines.append(_line(f"{label}: {parameter}", accounting, points, look, label))
    return lines


def _parity(rows: Sequence[Row], convention: str) -> list[Chart]:
    usable = [row for row in rows if row.get("predicted") and row.get("measured")]
    key = next((k for k in ("gpu", "hardware", "category") if usable and usable[0].get(k)), "id")
    groups = grouped(usable, lambda row: str(row.get(key)))
    looks = style.category_looks(sorted(groups))
    shown = ("id", "model", "gpu", "category", "error_pct", "measured", "predicted")

    def tip(row: Row) -> Tip:
        return [(k, _text(row[k])) for k in shown if row.get(k) is not None]

    lines = []
    for name in looks:
        points = _points(groups[name], "measured", "predicted", tip)
        count = f"{name} ({len(points)})"
        lines.append(_line(count, convention, points, _look(looks, name), name))
    axes = ("measured (in each record's unit)", "log"), ("predicted (in the same unit)", "log")
    return [_chart("Predicted against measured", "points", lines, *axes, parity=True)]


def _is_cell(row: Row) -> bool:
    """Whether a row is a winner of a sweep: no variant, and fields of records as axes."""
    named = row.get("variant") is None and row.get("label") is None and row.get("subject") is None
    return named and _has("tokens_per_s_per_gpu")(row) and any(name in FIELDS for name in row)


def _over_axis(rows: Sequence[Row], convention: str) -> list[Chart]:
    """Winners of a sweep over its longest axis, a line for each of the other values."""
    axes = {
        name: sorted({row[name] for row in rows if isinstance(row.get(name), int | float)})
        for name in rows[0]
        if name in FIELDS and name not in (*DEGREES, "kv_mode", "replicas", "batch")
    }
    axes = {name: values for name, values in axes.items() if len(values) > 1}
    if not axes:
        return []
    longest = max(axes, key=lambda name: len(axes[name]))
    others = [name for name in axes if name != longest]
    lines = grouped(rows, lambda row: _cell_label(row, others))
    if len(lines) > MOST_LINES:
        lines = dict(list(lines.items())[:: -(-len(lines) // MOST_LINES)])
    looks, drawn = style.category_looks(list(lines)), []
    for label, members in lines.items():
        usable = [row for row in members if row.get("tokens_per_s_per_gpu") is not None]
        points = _points(
            usable,
            longest,
            "tokens_per_s_per_gpu",
            lambda row: _tip(row, (longest, _text(row[longest]))),
        )
        drawn.append(_line(label, convention, points, _look(looks, label)))
    meaning = meaning_of(longest)
    scale = "tokens" if longest == "context" else "log"
    title, x = f"Throughput of the best design over {meaning.long_name}", meaning.long_name
    return [_chart(title, "line", drawn, (f"{x} [{meaning.units}]", scale), RATE)]


def _cell_label(row: Row, axes: Sequence[str]) -> str:
    names = [str(row[name]) for name in ("model", "hardware") if row.get(name) is not None]
    return ", ".join([*names, *(f"{name} {_text(row[name])}" for name in axes)])


_KINDS: tuple[tuple[Callable[[Row], bool], Callable[[Sequence[Row], str], list[Chart]]], ...] = (
    (_has("variant", "context", "gpus", "cells_feasible"), _over_context),
    (_has("subject", "context", "is_feasible"), _subjects),
    (_is_cell, _over_axis),
    (_is_factor, _speedups),
    (_has("variant", "context", "terms", "tpot_ms"), _breakdown),
    (_is_design, _front),
    (_is_slope, _elasticities),
    (_has("predicted", "measured"), _parity),
)
