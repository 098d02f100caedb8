"""Figures of `qsjax sensitivity --out`: what is drawn from its rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from qsjax.cli.grid_options import variant_name
from qsjax.questions.sensitivity import HARDWARE_PARAMETERS
from qsjax.questions.sensitivity.tables import throughput_map
from qsjax.questions.sensitivity.uncertainty import Outcome

FIGURE_CONTEXT = 131072.0


def drawings(
    model: str,
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    outcome: Outcome | None,
    span: float,
) -> dict[str, Callable[[], Any]]:
    """Figure name -> what draws it."""
    from qsjax import plotting

    found: dict[str, Callable[[], Any]] = {}
    first = [row for row in rows if row["metric"] == rows[0]["metric"]]
    first = [row for row in first if row["gpus"] == rows[0]["gpus"]]
    contexts = sorted({row["context"] for row in first})
    context = min(contexts, key=lambda c: abs(np.log(c / FIGURE_CONTEXT)))
    at = [row for row in first if row["context"] == context]
    title = f"{model}, context {context:,.0f}"
    if any(row["elasticity"] is not None for row in at):
        found["tornado"] = partial(plotting.tornado, at, title=title)
    if any(row.get("switch_up") or row.get("switch_down") for row in at):
        what = {"what": "split, bottleneck or winner"}
        moving = [{**row, **what} for row in at if row["switch_up"] or row["switch_down"]]
        found["stability"] = partial(plotting.stability_intervals, moving, reach=span, title=title)
    for label in dict.fromkeys(variant_name(row) for row in first):
        own = _stackable([row for row in first if variant_name(row) == label])
        if len(contexts) > 1 and any(row["elasticity"] for row in own):
            name = f"elasticities-{label.replace(' ', '-').replace('=', '')}"
            found[name] = partial(plotting.elasticity_bands, own, title=f"{model}, {label}")
    drawn = throughput_map(
        **{k: v for k, v in settings.items() if k not in ("contexts", "gpus")},
        gpus=settings["gpus"][:1],
        context=context,
    )
    served = "the MoE" if rows[0]["variant"] == "moe" else "the model"
    found["iso-throughput"] = partial(
        plotting.iso_throughput,
        drawn.x,
        drawn.y,
        drawn.values,
        gradient=(drawn.x_elasticity, drawn.y_elasticity),
        point=drawn.today,
        title=f"{title}, {served}",
    )
    if outcome is not None and len(contexts) > 1:
        found |= _fans(model, outcome, rows[0]["gpus"])
    return found


def _stackable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of hardware and q without shares of another field, which would count it twice."""
    own = [*HARDWARE_PARAMETERS, "q", "flops", "link_bw", "latency"]
    names = [n for n in own if not n.startswith("eff_") and n != "usable_fraction"]
    kept = [row for row in rows if row["parameter"] in names]
    return kept or rows


def _fans(model: str, outcome: Outcome, gpus: float) -> dict[str, Callable[[], Any]]:
    from qsjax import plotting

    found: dict[str, Callable[[], Any]] = {}
    twins = [label for label in outcome.labels if label["q"] is not None]
    for q in dict.fromkeys(label["q"] for label in twins):
        cells = [
            k
            for k, label in enumerate(outcome.labels)
            if label["q"] == q
            and label["gpus"] == gpus
            and np.isfinite(outcome.speedup[:, k]).all()
        ]
        if len(cells) > 1:
            quantiles = {
                p: outcome.speedup[n, cells].tolist() for n, p in enumerate(outcome.quantiles)
            }
            found[f"verdict-q{q:g}"] = partial(
                plotting.verdict_fan,
                [outcome.labels[k]["context"] for k in cells],
                quantiles,
                probability=outcome.p_dense_wins[cells].tolist(),
                title=f"{model}, uncertain {', '.join(outcome.names)}",
            )
    return found
