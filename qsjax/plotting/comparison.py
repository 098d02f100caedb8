"""Who is ahead, by how much, and why: GPU time per token of several designs, by resource."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from qsjax.plotting import scales, style
from qsjax.plotting.style import INFEASIBLE, MOE, RESOURCES, Row
from qsjax.plotting.throughput import throughput_vs_context
from qsjax.records import units
from qsjax.records.rows import grouped
from qsjax.records.units import quantity

# Bars are cut at MOST times the first subject's, and say so.
MOST = 6.0
_LANE = 1.0  # room between two groups, in bars


@style.styled
def lead_over_context(
    rows: Sequence[Row],
    ax: Axes | None = None,
    *,
    turns: Sequence[Row] = (),
    title: str | None = None,
) -> Axes:
    """Tokens/s/GPU of every subject over context, and where the lead changes.

    Args:
        rows: mappings with `context`, `subject` and `is_feasible`; where a subject runs, also
            `tokens_per_s_per_gpu`.
        ax: where to draw.
        turns: mappings with `context` and `after`, the subject that leads from there on.
        title: what the picture shows.
    """
    named = [{**row, "label": row["subject"], "gpus": 0} for row in rows]
    ax = throughput_vs_context(named, ax, crossovers=False, title=title)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** (0.1 * len(turns)))
    for k, turn in enumerate(turns):
        ax.axvline(turn["context"], color=style.ink().quiet, linewidth=1.0,
                   linestyle=(0, (4, 2)), zorder=1)  # fmt: skip
        text = f"from {units.about(turn['context'])} on: {turn['after']}"
        left, right = ax.get_xlim()
        is_late = turn["context"] ** 2 > left * right
        at, offset = (turn["context"], 0.985 - 0.075 * k), (-4 if is_late else 4, 0)
        style.note(ax, text, at, offset, 8.5, xycoords=ax.get_xaxis_transform(), va="top",
                   ha="right" if is_late else "left")  # fmt: skip
    return ax


@style.styled
def sure_leads(
    rows: Sequence[Row], ax: Axes | None = None, *, first: str = "the first", where: str = ""
) -> Axes:
    """Throughput of every subject over that of the first, between what it lies, and how sure.

    Filled where the difference is larger than the error, hollow where it is within it; bars are the
    80 % intervals of the ratio. At the right stands the probability of being ahead of the first.

    Args:
        rows: mappings with `context`, `subject`, `factor`, `margin` (the interval reaches from
            factor / margin to factor * margin), `chance` (of being ahead of the first), `is_sure`.
        ax: where to draw.
        first: the subject that the factors are over.
        where: the GPUs of all, for the title.
    """
    groups = grouped(rows, lambda row: row["context"])
    ax = style.dressed(ax, (7.0, 1.6 + 0.3 * (len(rows) + _LANE * len(groups))), "x")
    places, names, y = [], [], 0.0
    for context in style.rows_that_fit(ax, groups, 2 * _LANE):
        members = groups[context]
        places.append(y)
        names.append(f"at {units.tokens(context)}:")
        for row in members:
            y += 1.0
            places.append(y)
            names.append(row["subject"])
            ends = row["factor"] / row["margin"], row["factor"] * row["margin"]
            ax.plot(ends, [y, y], color=MOE.colour, linewidth=1.6, zorder=2)
            ax.plot([row["factor"]], [y], MOE.marker, color=MOE.colour, markersize=6,
                    markerfacecolor=MOE.colour if row["is_sure"] else "none",
                    zorder=3)  # fmt: skip
            style.note(ax, units.chance(row["chance"]), (1.0, y), (-2, 0), va="center",
                       xycoords=ax.get_yaxis_transform(), ha="right")  # fmt: skip
        y += _LANE
    ax.axvline(1.0, color=style.ink().text, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(low, high * (high / low) ** 0.12)  # room for the probabilities
    scales.number_axis(ax.xaxis)
    ax.set_ylim(y - _LANE + 0.6, -0.7)
    style.name_rows(ax, places, names)
    sure = sum(bool(row["is_sure"]) for row in rows)
    differences = f"{len(rows)} difference{'s' if len(rows) > 1 else ''}"
    said = f"{sure or 'none'} of {differences} {'is' if sure < 2 else 'are'} larger than the error"
    if len(rows) == 1:
        said = f"the difference is {'larger than' if sure else 'within'} the error"
    said = f"On {where}: {said}" if where else said
    style.label(ax, said, f"tokens/s/GPU over {first} [1]; right: probability of being ahead")
    handles = [
        style.mark(MOE.marker, "larger than the error", color=MOE.colour),
        style.mark(MOE.marker, "within the error", color=MOE.colour, markerfacecolor="none"),
    ]
    return style.legend_above(ax, 2, handles)


def total(row: Row) -> float:
    """GPU time per token of a row, all resources [s]."""
    return float(sum(row["gpu_time"].values()))


@style.styled
def gpu_time(
    rows: Sequence[Row],
    ax: Axes | None = None,
    *,
    resources: Sequence[str] | None = None,
    title: str | None = None,
) -> Axes:
    """GPU time per token of every subject at every context, by resource: shorter is better.

    Bars are relative to the first subject that runs at a context, so that lengths compare. At the
    right stand tokens/s/GPU, those of the leader in bold.

    Args:
        rows: mappings with `context`, `subject` and `is_feasible`; where a subject runs, also
            `gpu_time` by resource and `tokens_per_s_per_gpu`.
        ax: where to draw.
        resources: those to name in the legend; by default those that take time.
        title: what the picture shows.
    """
    groups = grouped(rows, lambda row: row["context"])
    ax = style.dressed(ax, (7.4, 1.7 + 0.26 * (len(rows) + _LANE * len(groups))), "x")
    places, names, y = [], [], 0.0
    for context in style.rows_that_fit(ax, groups, _LANE):
        members = groups[context]
        running = [row for row in members if row["is_feasible"]]
        unit = total(running[0]) if running else 1.0
        best = max((row["tokens_per_s_per_gpu"] for row in running), default=0.0)
        style.note(ax, f"{units.tokens(context)} tokens", (0.0, y), (2, 0), va="center")
        for row in members:
            y += 1.0
            places.append(y)
            names.append(row["subject"])
            if row["is_feasible"]:
                _bar(ax, y, row, unit, row["tokens_per_s_per_gpu"] == best)
            else:
                colour = INFEASIBLE.colour
                style.note(ax, "nothing runs", (0.0, y), (4, 0), 8, va="center", color=colour)
        # Beside its bars only: in a narrow panel the name of the context reaches beyond 1.
        ax.plot([1.0, 1.0], [y - len(members) + 0.4, y + 0.6], color=style.ink().text,
                linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)  # fmt: skip
        y += _LANE
    longest = max((_length(row, groups) for row in rows), default=1.0)
    # Room at the right for the throughput, and for the length of bars that are cut.
    room = 1.22 if longest <= MOST else 1.55
    ax.set_xlim(0, room * max(min(longest, MOST), 1.0))
    ax.set_ylim(y - _LANE + 0.6, -0.7)
    style.name_rows(ax, places, names)
    style.label(ax, title, "GPU time per token, first subject = 1 [1]; right: tokens/s/GPU")
    told = used_resources(rows) if resources is None else resources
    return style.legend_above(ax, 4, handles=style.keys({name: RESOURCES[name] for name in told}))


def _length(row: Row, groups: dict[float, list[Row]]) -> float:
    if not row["is_feasible"]:
        return 0.0
    first = next(other for other in groups[row["context"]] if other["is_feasible"])
    return total(row) / total(first)


def _bar(ax: Axes, y: float, row: Row, unit: float, is_best: bool) -> None:
    left = 0.0
    for name, look in RESOURCES.items():
        size = min(row["gpu_time"].get(name, 0.0) / unit, MOST - left)
        ax.barh(y, size, 0.8, left=left, **style.filled(look), zorder=2)
        left += size
    length = total(row) / unit
    text = units.quantity(row["tokens_per_s_per_gpu"])
    if length > MOST:
        text = f"bar {length:.3g} long   {text}"
    style.note(ax, text, (1.0, y), xycoords=ax.get_yaxis_transform(), va="center", ha="right",
               fontweight="bold" if is_best else "normal")  # fmt: skip


def used_resources(rows: Sequence[Row]) -> list[str]:
    """Resources that take time in any row, in the order of the ledger."""
    running = [row["gpu_time"] for row in rows if row["is_feasible"]]
    return [name for name in RESOURCES if any(terms.get(name, 0.0) > 0 for terms in running)]


SHOWN = 24  # architectures drawn


@style.styled
def architecture_gains(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """Throughput of every architecture over the reference's, one mark for each accelerator.

    The best stand at the top; beside each stand its parameters.

    Args:
        rows: mappings with `architecture`, `hardware`, `gain` [1], `total_params` and
            `active_params`.
        ax: where to draw.
        title: what the picture shows.
    """
    by_name = grouped(rows, lambda row: row["architecture"])
    names = sorted(by_name, key=lambda name: max(row["gain"] for row in by_name[name]))[-SHOWN:]
    looks = style.category_looks([row["hardware"] for row in rows])
    ax = style.dressed(ax, (7.4, 1.9 + 0.26 * len(names)), "x")
    for y, name in enumerate(names):
        gains = [row["gain"] for row in by_name[name]]
        ax.plot([min(gains), max(gains)], [y, y], color=style.ink().quiet, linewidth=1.0, zorder=2)
        for row in by_name[name]:
            look = looks[row["hardware"]]
            is_first = y == len(names) - 1
            ax.plot(row["gain"], y, linestyle="none", marker=look.marker, color=look.colour,
                    label=row["hardware"] if is_first else None, zorder=3)  # fmt: skip
    ax.axvline(1.0, color=style.ink().text, linewidth=1.0)
    labels = []
    for name in names:
        total, active = (
            f"{quantity(by_name[name][0][k])}".replace("G", "B")
            for k in ("total_params", "active_params")
        )
        labels.append(f"{name}  {total}, {active} active")
    style.name_rows(ax, range(len(names)), labels, 7.5)
    ax.margins(x=0.08)
    style.label(ax, title, "tokens/s/GPU over the reference's, at equal quality [1]")
    return style.legend_above(ax, 4)
