"""Where time and memory go: stacked bars whose parts sum to the total."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from qsjax.cost.ledger import resource_times
from qsjax.plotting import style
from qsjax.plotting.rows import as_rows, named
from qsjax.plotting.style import RESOURCES, Look, Row
from qsjax.records import units
from qsjax.records.rows import grouped
from qsjax.records.units import GIB

if TYPE_CHECKING:
    import xarray as xr

# Smaller shares of a bar have no place in the legend: nobody would find them in it.
TOLD = 0.005
_HIDDEN: dict[str, Any] = {"facecolor": "none", "hatch": "//////"}
# Length of a line of a name below a bar [inches].
NAME_ROOM = 1.5
# Memory by what it holds. Terms are looked up by the first key that their name contains.
MEMORY = style.looks_of("memory")


def by_resource(terms: Mapping[str, float]) -> dict[str, float]:
    """Times of the resources that take any."""
    return {resource: value for resource, value in resource_times(terms).items() if value > 0}


@style.styled
def time_breakdown(
    data: "Sequence[Row] | xr.Dataset",
    ax: Axes | None = None,
    *,
    share: bool = False,
    title: str | None = None,
) -> Axes:
    """One stacked bar for each variant at each context, its parts summing to TPOT.

    Communication that overlap hides stands beside the bar, hatched and without fill: it takes no
    time of its own.

    Args:
        data: rows with `terms` [ms] and, if known, `hidden` [ms] by communication term.
        ax: where to draw.
        share: draw shares of TPOT [%] instead of milliseconds.
        title: what the picture shows.
    """
    rows = [row for row in as_rows(data) if row["is_feasible"]]
    contexts = sorted({row["context"] for row in rows})
    name_of, looks = named(rows)
    names = list(dict.fromkeys(name_of(row) for row in rows))
    wide = min(11.5, max(7.4, 1.6 + 0.3 * len(contexts) * (len(names) + 0.6)))
    ax = style.dressed(ax, (wide, 4.4), "y")
    width = 0.8 / len(names)
    tallest = max((row["tpot_ms"] for row in rows), default=1.0)
    for (context, name), members in grouped(
        rows, lambda row: (row["context"], name_of(row))
    ).items():
        x = contexts.index(context) + (names.index(name) - (len(names) - 1) / 2) * width
        row = members[0]
        scale = 100.0 / row["tpot_ms"] if share else 1.0
        room = 0.66 if row.get("hidden") else 0.88
        top = _bar(ax, x, room * width, row["terms"], scale)
        _bar(ax, x + 0.46 * width, 0.2 * width, row.get("hidden") or {}, scale, is_hidden=True)
        if not share and len(rows) <= 18:
            style.note(ax, units.quantity(row["tpot_ms"]), (x, top), (0, 2), 7.5, ha="center")
        ax.plot(x, -0.022 * (100.0 if share else tallest), marker=looks[name].marker,
                color=looks[name].colour, markersize=4.5, clip_on=False)  # fmt: skip
    ax.set_ylim(-0.045 * (100.0 if share else tallest), (100.0 if share else tallest) * 1.06)
    ax.set_xticks(range(len(contexts)), [units.tokens(context) for context in contexts])
    ax.tick_params(axis="x", length=0)
    at = "context [tokens]"
    if len(contexts) == 1 < len(names):  # every bar is named
        places = [(k - (len(names) - 1) / 2) * width for k in range(len(names))]
        size = style.sizes(ax).tick
        folded = [style.wrapped(name, NAME_ROOM, size) for name in names]
        ax.set_xticks(places, folded, rotation=90, fontsize=size)
        at = f"at {units.tokens(contexts[0])} tokens"
    what = "share of a token's time [%]" if share else "time per output token [ms]"
    style.label(ax, title, at, what)
    shown = [style.mark(look.marker, name, color=look.colour) for name, look in looks.items()]
    more = shown if len(contexts) > 1 else []
    return style.legend_above(ax, 4, handles=[*_time_handles(rows), *more])


def _bar(
    ax: Axes,
    x: float,
    width: float,
    terms: Mapping[str, float],
    scale: float,
    *,
    is_hidden: bool = False,
) -> float:
    bottom = 0.0
    for resource, value in by_resource(terms).items():
        look = style.filled(RESOURCES[resource])
        if is_hidden:
            look = _HIDDEN | {"edgecolor": RESOURCES[resource].colour, "linewidth": 0.8}
        ax.bar(x, value * scale, width, bottom=bottom, **look, zorder=2)
        bottom += value * scale
    return bottom


def _time_handles(rows: Sequence[Row]) -> list[Patch]:
    present = {
        name
        for row in rows
        for name, value in by_resource(row["terms"]).items()
        if value >= TOLD * row["tpot_ms"]
    }
    handles = style.keys({name: look for name, look in RESOURCES.items() if name in present})
    if any(by_resource(row.get("hidden") or {}) for row in rows):
        colour = RESOURCES["comm TP"].colour
        handles.append(Patch(**_HIDDEN, edgecolor=colour, label="hidden communication"))
    return handles


def memory_look(name: str) -> Look:
    """Look of a memory term, by the first key of MEMORY in its name."""
    lowered = name.lower()
    return next((look for key, look in MEMORY.items() if key in lowered), RESOURCES["overhead"])


@style.styled
def memory_ledger(
    ledgers: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """One bar of HBM for each design, its parts summing to the capacity of a GPU.

    The bar of a design that does not fit goes beyond the capacity.

    Args:
        ledgers: mappings with `label`, `terms` (name to bytes, in drawing order; what is left is
            `free`, below 0 where they do not fit) and `capacity` [B].
        ax: where to draw.
        title: what the picture shows.
    """
    names = list(dict.fromkeys(name for ledger in ledgers for name in ledger["terms"]))
    ax = style.dressed(ax, (7.4, 1.3 + 0.5 * len(ledgers) + 0.08 * len(names)), "x")
    held = [sum(max(0.0, float(x)) for x in ledger["terms"].values()) for ledger in ledgers]
    widest = max(*held, *(float(ledger["capacity"]) for ledger in ledgers)) / GIB
    for y, ledger in enumerate(reversed(ledgers)):
        left = 0.0
        for name, value in ledger["terms"].items():
            look, size = memory_look(name), max(0.0, float(value)) / GIB
            is_free = look.colour == "none"
            ax.barh(y, size, 0.62, left=left, **_filled(look, 0.7 if is_free else 0.25), zorder=2)
            if size > 0.09 * widest:
                _name_part(ax, left + size / 2, y, size, is_free)
            left += size
        capacity = float(ledger["capacity"]) / GIB
        ax.plot([capacity] * 2, [y - 0.4, y + 0.4], color=style.ink().text, linewidth=1.6, zorder=3)
    style.name_rows(ax, range(len(ledgers)), [str(one["label"]) for one in reversed(ledgers)])
    ax.set_ylim(-0.6, len(ledgers) - 0.4)
    ax.set_xlim(0, widest * 1.03)
    style.label(ax, title, "HBM of one GPU [GiB]; the dark line is its capacity")
    told = [
        name
        for name in names
        if any(one["terms"].get(name, 0.0) >= TOLD * float(one["capacity"]) for one in ledgers)
    ]
    handles = [
        Patch(**_filled(memory_look(name), 0.5), label=name.replace("_", " ")) for name in told
    ]
    return style.legend_above(ax, 4, handles)


def _name_part(ax: Axes, x: float, y: int, size: float, is_free: bool) -> None:
    ground = None if is_free else {"facecolor": "#ffffffd0", "edgecolor": "none", "pad": 1.0}
    colour = style.ink().text if is_free else "#1b1f24"
    ax.text(x, y, f"{size:.3g}", ha="center", va="center", fontsize=7.5, color=colour, bbox=ground,
            zorder=4)  # fmt: skip


def _filled(look: Look, width: float) -> dict[str, Any]:
    """How a part of the memory is drawn: what is free has a dashed outline."""
    drawn = style.filled(look) | {"linewidth": width}
    if look.colour == "none":
        drawn["linestyle"] = "--"
    return drawn
