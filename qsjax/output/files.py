"""Results with labels: rows for people, xarray for notebooks, and files written in one step."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from qsjax.cost.decode import StepCost
from qsjax.cost.feasibility import REASONS
from qsjax.cost.ledger import resource_times, time_ledger
from qsjax.cost.roofline import communication
from qsjax.grid.axes import Axes, Axis, axis_arrays, place
from qsjax.grid.search import Optimum, evaluate, winners
from qsjax.numerics.numpy_backend import on_host
from qsjax.questions.explore import Exploration
from qsjax.records.scenario import Records
from qsjax.records.specs import CONVENTIONS, DEGREES, KV_MODES, Convention
from qsjax.records.units import MS

if TYPE_CHECKING:
    import xarray as xr


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `path` in one step: it holds the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def finite(value: Any) -> Any:
    """`value` with numbers that JSON does not know replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """`value` as a JSON file, written in one step; NaN and infinity become null."""
    write_atomically(path, json.dumps(finite(value), indent=1) + "\n")


def reason_names(bits: int) -> list[str]:
    """Names of the reasons in a bit set.

    >>> reason_names(1 | 64)
    ['weights do not fit', 'wrong GPU count']
    """
    return [name for name, bit in REASONS.items() if bits & bit]


_ledger, _by_resource = on_host(time_ledger), on_host(resource_times)
_communication = on_host(communication)


def winner_terms(optimum: Optimum, convention: str) -> dict[str, np.ndarray]:
    """The time ledger of the winners [s], each term with the shape of the kept axes."""
    records = optimum.records
    ledger = _ledger(
        optimum.step,
        CONVENTIONS[convention],
        records.partition,
        records.workload,
        records.hardware.step_overhead,
    )
    shape = optimum.is_feasible.shape
    return {name: np.broadcast_to(np.asarray(t), shape) for name, t in ledger.items()}


def hidden_times(optimum: Optimum, convention: str) -> dict[str, np.ndarray]:
    """Communication of the winners that overlap hides [s], by the name of its ledger term."""
    messages = _communication(optimum.step, optimum.records, CONVENTIONS[convention])
    shape = optimum.is_feasible.shape
    return {f"comm_{k}": np.broadcast_to(m.hidden, shape) for k, m in messages.items()}


def bound_by(terms: Mapping[str, ArrayLike]) -> np.ndarray:
    """Name of the resource that takes the largest part of TPOT, per cell."""
    by_resource = _by_resource(terms)
    largest = np.argmax(np.stack([np.asarray(t) for t in by_resource.values()]), axis=0)
    names: np.ndarray = np.asarray(list(by_resource))[largest]
    return names


def best_rows(exploration: Exploration) -> list[dict[str, Any]]:
    """One row per (variant, GPU count, context, ...): the winner, or why there is none."""
    optimum, beside = exploration.optimum, exploration.beside
    shape = optimum.is_feasible.shape
    terms = winner_terms(optimum, exploration.convention)
    hidden = hidden_times(optimum, exploration.convention)
    binds = bound_by(terms)
    part = jax.tree.map(lambda x: np.broadcast_to(x, shape), optimum.records.partition)
    modes = {code: name for name, code in KV_MODES.items()}
    _, *axes = optimum.axes.kept
    second = winners(optimum.axes, optimum.runner_up)
    second = {name: np.broadcast_to(second.get(name, 1.0), shape) for name in DEGREES}
    gain, gain_beside = speedup(optimum), speedup(beside)
    rows = []
    for cell in np.ndindex(shape):
        variant = exploration.variants[cell[0]]
        step = jax.tree.map(lambda x, at=cell: float(x[at]), optimum.step)
        row: dict[str, Any] = {
            "variant": variant.name,
            "q": variant.q,
            **{axis.name: _coordinate(axis, at) for axis, at in zip(axes, cell[1:], strict=True)},
            "is_feasible": bool(optimum.is_feasible[cell]),
            "cells_feasible": int(optimum.feasible[cell]),
        }
        if row["is_feasible"]:
            row |= {name: int(getattr(part, name)[cell]) for name in DEGREES}
            row["kv_mode"] = modes[float(part.kv_mode[cell])] if row["kvp"] > 1 else "none"
            row |= {
                "batch": int(step.capacity.batch),
                "tpot_ms": step.tpot / MS,
                "tokens_per_s_per_gpu": step.tokens_per_s_per_gpu,
                "tokens_per_s_per_user": step.tokens_per_s_per_user,
                "tokens_per_s": step.tokens_per_s,
                "bound_by": str(binds[cell]),
                "terms": {name: float(t[cell]) / MS for name, t in terms.items()},
                "hidden": {name: float(t[cell]) / MS for name, t in hidden.items()},
                "margin": float(optimum.margin[cell]),
                "runner_up": {name: int(second[name][cell]) for name in DEGREES},
                "speedup_over_moe": float(gain[cell]),
                f"speedup_over_moe_{exploration.other}": float(gain_beside[cell]),
            }
        else:
            counts = {name: int(count[cell]) for name, count in optimum.reasons.items()}
            row["reasons"] = {name: count for name, count in counts.items() if count}
            if exploration.needs is not None:
                row["needs_hbm_bytes"] = float(exploration.needs.hbm_bytes[cell])
                row["needs_gpus"] = float(exploration.needs.gpus[cell])
        rows.append(row)
    return rows


def _coordinate(axis: Axis, at: int) -> float | int:
    value = float(axis.values[at])
    return int(value) if value.is_integer() else value


def speedup(optimum: Optimum) -> np.ndarray:
    """Tokens/s/GPU of each variant over the first one's [1]; NaN where either is infeasible."""
    rate = np.where(optimum.is_feasible, optimum.step.tokens_per_s_per_gpu, np.nan)
    return rate / rate[:1]


def to_dataset(exploration: Exploration) -> "xr.Dataset":
    """The winners as labelled arrays over (variant, gpus, context, ...): metrics and terms.

    `term_*` are those of `time_ledger`, which sum to `tpot`; the others are `metrics_of` the step.

    Infeasible cells are NaN; `infeasible_reasons` counts the designs of each cell by reason.
    """
    import xarray as xr  # 1.4 s to import: only those who ask for it pay

    optimum = exploration.optimum
    _, *axes = optimum.axes.kept
    dims = ("variant", *(axis.name for axis in axes))
    coords: dict[str, Any] = {
        "variant": [variant.label for variant in exploration.variants],
        **{axis.name: axis.values for axis in axes},
        "reason": list(REASONS),
    }
    shape, step = optimum.is_feasible.shape, optimum.step

    def masked(x: Any) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, np.where(optimum.is_feasible, np.broadcast_to(np.asarray(x), shape), np.nan)

    data: dict[str, Any] = {
        **{k: masked(v) for k, v in metrics_of(step).items() if k not in ("reasons", *coords)},
        "batch": masked(step.capacity.batch),
        "speedup_over_moe": masked(speedup(optimum)),
        f"speedup_over_moe_{exploration.other}": masked(speedup(exploration.beside)),
        "margin": masked(optimum.margin),
        "cells_feasible": (dims, optimum.feasible),
        "is_feasible": (dims, optimum.is_feasible),
        "infeasible_reasons": (("reason", *dims), np.stack(list(optimum.reasons.values()))),
    }
    part = optimum.records.partition
    data |= {name: masked(getattr(part, name)) for name in (*DEGREES, "kv_mode")}
    terms = winner_terms(optimum, exploration.convention)
    data |= {f"term_{name}": masked(t) for name, t in terms.items()}
    attrs = {"qsjax": version("qsjax"), "convention": exploration.convention}
    return xr.Dataset(data, coords, attrs)


def metrics_of(step: StepCost) -> dict[str, Any]:
    """Every leaf of a step by a flat name: `tpot`, `compute_ffn`, `comm_tp_startup`, ..."""
    leaves = jax.tree_util.tree_leaves_with_path(step)
    return {"_".join(key.name for key in path): leaf for path, leaf in leaves}


def grid_dataset(
    records: Records, axes: Axes, convention: Convention, metrics: Sequence[str] = ()
) -> "xr.Dataset":
    """Every cell of a grid, not only the winners, as labelled arrays over all its axes.

    Args:
        records: model, hardware, partition, workload and GPU count; axes replace their fields.
        axes: the grid; its size is the memory that each metric takes.
        convention: accounting.
        metrics: names of `metrics_of`; all of them if none are named. `reasons` is always there.

    Raises:
        ValueError: a metric has no such name.
    """
    import xarray as xr

    step = evaluate(place(records, axis_arrays(axes), convention), convention)
    known = metrics_of(step)
    unknown = [name for name in metrics if name not in known]
    if unknown:
        raise ValueError(f"no metric {', '.join(unknown)}; known: {', '.join(known)}")
    dims = [axis.name for axis in axes.all]
    data = {
        name: (dims, np.broadcast_to(np.asarray(known[name]), axes.shape))
        for name in dict.fromkeys(["reasons", *(metrics or known)])
    }
    attrs = {"qsjax": version("qsjax")}
    return xr.Dataset(data, {axis.name: axis.labels for axis in axes.all}, attrs)


def spec_dict(record: Any) -> dict[str, Any]:
    """A record's fields as plain numbers and strings, without its label.

    The precision of a model is left out: a workload says in which it is counted.
    """

    def plain(value: Any) -> Any:
        return value if isinstance(value, str | bool | None) else np.asarray(value).tolist()

    names = (field.name for field in dataclasses.fields(record))
    kept = (name for name in names if name not in ("label", "precision"))
    return {name: plain(getattr(record, name)) for name in kept}


def write_dataset(path: Path, dataset: "xr.Dataset") -> None:
    """`dataset` as a netCDF file, written in one step."""
    write_atomically(path, bytes(dataset.to_netcdf(engine="h5netcdf")))


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: such a text gets an apostrophe ahead."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
    return f"'{value}" if is_formula else value


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; a nested mapping becomes one column for each key."""
    import csv
    import io

    flat = [
        {
            **{k: v for k, v in row.items() if not isinstance(v, dict)},
            **{f"{k}.{n}": x for k, v in row.items() if isinstance(v, dict) for n, x in v.items()},
        }
        for row in rows
    ]
    flat = [{name: _plain(value) for name, value in row.items()} for row in flat]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
