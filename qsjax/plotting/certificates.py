"""How large a box is in which a claim is proved, and where it is known to fail."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from qsjax.plotting import style
from qsjax.plotting.sensitivity import is_finite
from qsjax.plotting.style import CATEGORIES, Row
from qsjax.records.rows import grouped

HATCHES = ("", "////", "..")  # of the claims that `certify` knows, in the order of the rows


@style.styled
def certified_boxes(
    rows: Sequence[Row], ax: Axes | None = None, *, title: str | None = None
) -> Axes:
    """For each claim the largest box in which it is proved, and the first that refutes it.

    Args:
        rows: mappings with `claim`, `says`, `verdict`, and `largest` and `refuted_from` in boxes of
            the size asked for (None or NaN where there is none); `variant` and `q`, and `model`,
            `gpus`, `context` and `hardware` where rows differ in them.
        ax: where to draw.
        title: what the picture shows.
    """
    ax = style.dressed(ax, (8.4, 1.9 + 0.42 * len(rows)), "x")
    kinds = list(grouped(rows, lambda row: row["claim"]))
    looks = {kind: CATEGORIES[k]._replace(hatch=HATCHES[k]) for k, kind in enumerate(kinds)}
    told = ("model", "hardware", "gpus", "context")
    names = [name for name in told if len({row.get(name) for row in rows}) > 1]
    for y, row in enumerate(rows):
        look = looks[row["claim"]]
        reach = float(row["largest"]) if is_finite(row.get("largest")) else 0.0
        if row["verdict"] == "proved":
            reach = max(reach, 1.0)
        ax.barh(y, reach, 0.7, **style.filled(look), zorder=2)
        if is_finite(row.get("refuted_from")):
            ax.plot(row["refuted_from"], y, marker="x", color=style.ink().text, markersize=7,
                    linestyle="none", zorder=3)  # fmt: skip
    ax.axvline(1.0, color=style.ink().text, linewidth=1.0)
    ax.set_xlim(left=0.0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    style.name_rows(ax, range(len(rows)), [_name(row, names) for row in rows])
    style.label(ax, title, "half width of the box over the one asked for [1]")
    handles = [
        *style.keys({f"{kind}: proved": look for kind, look in looks.items()}),
        style.mark("x", "refuted", color=style.ink().text),
    ]
    return style.legend_above(ax, 4, handles)


def _name(row: Row, names: Sequence[str]) -> str:
    """What is claimed, of whom; degrees of 1 are not told."""
    parts = [f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names]
    if row["claim"] != "winner":
        parts.append(style.variant_label(row))
    said = [part for part in str(row["says"]).split(" ") if not part.endswith("=1")]
    what = f"{row['claim']}: {' '.join(said) or 'one GPU'}"
    return "\n".join([what, ", ".join(parts)]) if parts else what
