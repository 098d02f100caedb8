"""The files of a finished sweep: labelled winners, their table, top designs, front, summary."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qsjax.cost.decode import evaluate
from qsjax.cost.feasibility import REASONS
from qsjax.cost.meanings import attributes_of
from qsjax.grid.axes import Axis, place
from qsjax.output import files
from qsjax.records.specs import KV_MODES
from qsjax.streaming import store
from qsjax.streaming.aggregate import Designs, Tally, merge, new_tally, quantiles
from qsjax.streaming.engine import Job
from qsjax.streaming.plan import Plan, chunk_range, coordinates, winner_coordinates
from qsjax.streaming.run import Outputs

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

ROWS = 2**14  # designs whose terms are evaluated at a time, as many as stay in the caches
_KINDS = (".nc", ".parquet", ".csv", ".json")  # files of a result
# A table for spreadsheets beside the Parquet file, up to this many rows.
CSV_ROWS = 100_000
# What netCDF takes beside the numbers: names, attributes, descriptions of the variables.
_HEADER = 2**16
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
METRICS = ("tpot", "tokens_per_s", "tokens_per_s_per_gpu", "tokens_per_s_per_user")
Columns = dict[str, np.ndarray]


def table(folder: Path, name: str = "winners") -> "pd.DataFrame":
    """The winners (the top designs where none were kept), or another table of a sweep.

    Raises:
        ValueError: the sweep did not keep it.
    """
    import pandas as pd

    whole, short = folder / f"{name}.parquet", folder / f"{name}.csv"
    if whole.exists():
        return pd.read_parquet(whole)
    if short.exists():
        return pd.read_csv(short)
    if name == "winners":
        return table(folder, "top" if (folder / "top.csv").exists() else "wins")
    raise ValueError(f"{folder} has no {name}; sweep with winners, top_k, wins or pareto for it")


def dataset(folder: Path) -> "xr.Dataset":
    """The winners over the kept axes, read as they are needed.

    Raises:
        ValueError: the sweep did not keep them.
    """
    import xarray as xr

    path = folder / "winners.nc"
    if not path.exists():
        raise ValueError(f"{folder} has no winners; sweep with winners=True to keep them")
    return xr.open_dataset(path, engine="h5netcdf")


def _names(axis: Axis, values: np.ndarray) -> np.ndarray:
    if axis.name == "kv_mode":
        modes = {code: name for name, code in KV_MODES.items()}
        return np.array([modes[float(v)] for v in values], dtype=object)
    if not axis.names:
        return values
    return np.array([axis.names[int(v)] for v in values], dtype=object)


def columns(job: Job, plan: Plan, cells: np.ndarray, positions: np.ndarray) -> Columns:
    """Coordinates and metrics of designs, one row each."""
    if len(cells) == 0:  # the columns of a table without rows are those of any design
        some = columns(job, plan, np.zeros(1, int), np.zeros(1, int))
        return {name: column[:0] for name, column in some.items()}
    parts_of: dict[str, list[np.ndarray]] = {}
    axes = (*plan.axes.kept, *plan.axes.searched)
    for start in range(0, len(cells), ROWS):
        part, at = cells[start : start + ROWS], positions[start : start + ROWS]
        chosen = winner_coordinates(plan, part, at)
        step = evaluate(place(job.records, chosen, job.convention), job.convention)
        values = {axis.name: _names(axis, chosen[axis.name]) for axis in axes}
        for name in METRICS:
            values[name] = np.asarray(getattr(step, name), np.float64)
        if "batch" not in values:
            values["batch"] = np.asarray(step.capacity.batch, np.float64)
        for name, column in values.items():
            parts_of.setdefault(name, []).append(np.broadcast_to(column, len(part)))
    return {name: np.concatenate(parts) for name, parts in parts_of.items()}


def csv_bytes(table: Mapping[str, np.ndarray]) -> bytes:
    """Columns as CSV; whole numbers without a fraction, others in full."""

    def shown(column: np.ndarray) -> list[Any]:
        return [
            int(x) if isinstance(x, float) and x.is_integer() and abs(x) < 2**53 else x
            for x in column.tolist()
        ]

    rows = zip(*map(shown, table.values()), strict=True)
    return files.csv_text([dict(zip(table, row, strict=True)) for row in rows], table).encode()


def _of(job: Job, plan: Plan, designs: Designs) -> Columns:
    return columns(job, plan, designs.cell, designs.position) | {"gpus_used": designs.gpus}


def wins_table(plan: Plan, tally: Tally) -> Columns:
    """Designs that win somewhere: how many kept cells, and their share of all; most first."""
    keys, counts = tally.wins
    stack, position = np.divmod(keys, len(plan.designs))
    order = np.lexsort((position, -counts, stack))
    stack, position, counts = stack[order], position[order], counts[order]
    own, searched = plan.axes.kept[: plan.stacked], plan.axes.searched
    at = coordinates(own, stack) | coordinates(searched, plan.designs[position])
    table = {axis.name: _names(axis, at[axis.name]) for axis in (*own, *searched)}
    return table | {"wins": counts, "share": counts / math.prod(plan.kept[plan.stacked :])}


def copies(folder: Path, out: Path) -> list[Path]:
    """The files of a result, copied from its folder unless that is where they are wanted."""
    # The chunks are in a folder of their own.
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in _KINDS]
    if out.resolve() == folder.resolve():
        return paths
    folder = files.folder_of(out)
    return [Path(shutil.copy2(path, folder / path.name)) for path in paths]


def summary(job: Job, plan: Plan, tally: Tally) -> dict[str, Any]:
    """Counts, and the range and quantiles of the metrics that were asked for."""
    spread = {
        name: {
            "min": float(tally.low[k]),
            "max": float(tally.high[k]),
            **{
                f"q{int(100 * share):02d}": float(value)
                for share, value in zip(SHARES, quantiles(tally, k, np.array(SHARES)), strict=True)
            },
        }
        for k, name in enumerate(job.statistics)
        if tally.feasible
    }
    return {
        "designs_in_grid": plan.axes.cells,
        "designs_computed": tally.computed,
        "designs_evaluated": tally.evaluated,
        "designs_feasible": None if plan.pruned and job.bounds else tally.feasible,
        "cells_within_rounding_of_a_tie": tally.doubtful,
        "designs_with_reason": dict(zip(REASONS, map(int, tally.reasons), strict=True)),
        "objective": job.objective,
        "statistics": spread,
    }


def _tables(job: Job, plan: Plan, folder: Path) -> Iterator[tuple[Tally, Columns]]:
    # Tally and table of the winners of each chunk, in order.
    for chunk in range(plan.chunks):
        tally, cells = store.load_chunk(folder, chunk)
        table: Columns = {}
        if cells:
            at = np.arange(*chunk_range(plan, chunk))
            table = columns(job, plan, at, cells["position"].astype(int))
            is_feasible = cells["feasible"] > 0
            for name in set(table) - {axis.name for axis in plan.axes.kept}:
                nothing: Any = "" if table[name].dtype.kind == "O" else np.nan
                table[name] = np.where(is_feasible, table[name], nothing)
            table |= {"score": cells["score"].astype(np.float64), "feasible": cells["feasible"]}
        yield tally, table


def write(job: Job, plan: Plan, wanted: Outputs, folder: Path) -> dict[str, Any]:
    """Merge the chunks and write every file of the result; returns the summary.

    Raises:
        OSError: with the space that is needed, if the disk is full; the chunks are kept.
    """
    try:
        return _write(job, plan, wanted, folder)
    except OSError as error:
        if error.errno not in files.FULL:
            raise
        # Spooled columns, the dataset of them, and the table, which is compressed.
        row = 8 * (len(plan.axes.all) + len(METRICS) + 3)
        size = 3 * row * math.prod(plan.kept)
        needs = f"the results in {folder} take some {size:,} bytes while they are made"
        raise store.no_space(needs) from error


def _write(job: Job, plan: Plan, wanted: Outputs, folder: Path) -> dict[str, Any]:
    tally = new_tally(len(job.statistics))
    with tempfile.TemporaryDirectory(dir=folder, prefix=store.SCRATCH) as scratch:
        spool = Spool(Path(scratch))
        for part, table in _tables(job, plan, folder):
            tally = merge(tally, part, wanted.top_k)
            if wanted.winners:
                spool.add(table)
        if wanted.winners:
            _write_dataset(job, plan, spool, folder)
            os.replace(spool.close_table(), folder / "winners.parquet")
            if spool.rows <= CSV_ROWS:
                store.write(folder / "winners.csv", csv_bytes(spool.columns()))
    if wanted.top_k:
        store.write(folder / "top.csv", csv_bytes(_of(job, plan, tally.best)))
    if wanted.wins:
        store.write(folder / "wins.csv", csv_bytes(wins_table(plan, tally)))
    if wanted.pareto:
        store.write(folder / "front.csv", csv_bytes(_of(job, plan, tally.edge)))
    counts = summary(job, plan, tally)
    store.write(folder / "summary.json", json.dumps(counts, indent=1, allow_nan=False).encode())
    return counts


class Spool:
    """Columns appended to files chunk by chunk, so that memory does not grow with the cells."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.rows = scratch, 0
        self.kinds: dict[str, np.dtype[Any]] = {}
        self._writer: Any = None

    def add(self, table: Columns) -> None:
        """Append rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = pa.table(table)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.scratch / "winners.parquet", rows.schema)
        self._writer.write_table(rows)
        for name, column in table.items():
            if name == "kv_mode":
                column = np.array([KV_MODES.get(mode, np.nan) for mode in column])
            if column.dtype.kind != "O":
                self.kinds[name] = column.dtype
                with open(self.scratch / f"{name}.bin", "ab") as file:
                    file.write(np.ascontiguousarray(column).data)  # `tofile` hides why it fails
        self.rows += len(next(iter(table.values())))

    def column(self, name: str) -> np.ndarray:
        """A column, mapped from its file."""
        return np.memmap(self.scratch / f"{name}.bin", self.kinds[name], "r")

    def close_table(self) -> Path:
        """The finished Parquet file."""
        self._writer.close()
        return self.scratch / "winners.parquet"

    def columns(self) -> Columns:
        """All columns in memory; for small tables."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.scratch.parent / "winners.parquet")
        return {
            name: np.array(table[name].to_pylist(), dtype=object) for name in table.schema.names
        }


def _write_dataset(job: Job, plan: Plan, spool: Spool, folder: Path) -> None:
    """The winners as netCDF over the kept axes, written piece by piece and moved into place."""
    import h5netcdf
    import h5py

    path = spool.scratch / "winners.nc"
    kept = plan.axes.kept
    dims = [axis.name for axis in kept]
    lengths = [len(axis.values) for axis in kept]
    # HDF5 takes the process down with it where it cannot write.
    store.reserve(
        path,
        _HEADER + spool.rows * sum(k.itemsize for k in spool.kinds.values()) + 8 * sum(lengths),
    )
    with h5netcdf.File(path, "w") as file:
        file.attrs["qsjax"] = version("qsjax")
        file.attrs["objective"] = job.objective
        file.dimensions = {axis.name: len(axis.values) for axis in kept}
        for axis in kept:
            coordinates: Any = axis.values
            kind: Any = np.float64
            if axis.names:
                coordinates, kind = np.array(axis.names, dtype=object), h5py.string_dtype()
            coordinate = file.create_variable(axis.name, (axis.name,), kind, data=coordinates)
            coordinate.attrs.update(attributes_of(axis.name))
        for name, dtype in spool.kinds.items():
            if name in dims:
                continue
            data = spool.column(name).reshape(plan.kept)
            variable = file.create_variable(name, tuple(dims), dtype)
            for at in range(plan.kept[0]):
                variable[at] = data[at]
            variable.attrs.update(attributes_of(job.objective if name == "score" else name))
            if name == "kv_mode":
                variable.attrs["codes"] = ", ".join(f"{v:g} = {k}" for k, v in KV_MODES.items())
    os.replace(path, folder / "winners.nc")
