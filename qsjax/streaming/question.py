"""The question `sweep`: stream a problem or a file into a folder, and read the results there."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsjax.catalog import toml
from qsjax.cost.meanings import meaning_of
from qsjax.grid.entry import entry
from qsjax.grid.free_memory import free_memory
from qsjax.grid.problem import Problem
from qsjax.output import words
from qsjax.output.labels import split_name
from qsjax.output.result import Drawing, Result, Row, Table, inputs_of
from qsjax.records.conversion import kind_of
from qsjax.records.specs import DEGREES, FIELDS
from qsjax.records.units import GIB
from qsjax.streaming import campaign, hosts, results, spec, store
from qsjax.streaming.asked import job_of, options_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# Fields of the top designs that their sentence names by itself.
_NAMED = ("gpus", "context", "kv_mode", "batch")
SERIES = 12  # lines of a figure at most


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Sweep(Result):
    """A finished sweep; its numbers stay in its folder until they are asked for.

    Attributes:
        folder: where they are.
        counts: designs in the grid, computed, feasible, by reason; quantiles of statistics.
    """

    folder: Path
    counts: Row

    stem = "winners"

    def frame(self) -> "pd.DataFrame":
        """The best design of every kept cell; the top designs where winners were not kept."""
        return results.table(self.folder)

    def rows(self) -> list[Row]:
        """The rows of `frame`."""
        return self.frame().to_dict("records")

    def top(self) -> "pd.DataFrame":
        """The best designs of all."""
        return results.table(self.folder, "top")

    def wins(self) -> "pd.DataFrame":
        """The designs that are the best in some cell, and in how many."""
        return results.table(self.folder, "wins")

    def front(self) -> "pd.DataFrame":
        """Tokens/s/GPU against tokens/s/user, over all designs."""
        return results.table(self.folder, "front")

    @property
    def dataset(self) -> "xr.Dataset":
        """The best designs over the kept axes, read from the folder as they are needed."""
        return results.dataset(self.folder)

    def summary(self) -> str:
        """The best design of all, where it was kept, and how many there are and fit."""
        counts = self.counts
        compared, evaluated = counts["designs_computed"], counts["designs_evaluated"]
        sentence = f"{compared:,} designs computed of {counts['designs_in_grid']:,} in the grid"
        if evaluated < compared:
            sentence = (
                f"{compared:,} designs decided of {counts['designs_in_grid']:,} in the grid, "
                f"{1 - evaluated / compared:.3%} of them by bounds without evaluation"
            )
        if counts["designs_feasible"] is not None:
            sentence += f", {counts['designs_feasible']:,} feasible"
        return f"{self._best()}{sentence}."

    def _best(self) -> str:
        """The first of the top designs in a sentence; nothing where none were kept."""
        try:
            top = self.top()
        except ValueError:
            return ""
        if top.empty:
            return "Nothing runs.\n"
        row = top.iloc[0].to_dict()
        row |= {name: int(row.get(name, 1)) for name in DEGREES}
        mode = row.get("kv_mode") if row["kvp"] > 1 else None
        kept = [n for n in row if n in FIELDS and n not in (*_NAMED, *DEGREES)]
        fields = "".join(f", {_named(name, row[name])}," for name in kept).replace(",,", ",")
        at = f" at {words.length(row['context'])}" if "context" in row else ""
        gpus = row.get("gpus", row["gpus_used"])
        row |= {"kv_mode": mode, "replicas": int(gpus // row["gpus_used"])}
        where = f"{gpus:,.0f} {row['hardware']}{fields}{at}"
        return (
            f"Best of all: {row['model']} on {where} with "
            f"{split_name(row)}: {words.number(row['tokens_per_s_per_gpu'])} "
            f"tokens/s on each GPU, {words.milliseconds(row['tpot'])} a token.\n"
        )

    def tables(self) -> list[Table]:
        """None: the rows may be millions."""
        return []

    def record(self) -> Row:
        """The counts."""
        return self.counts

    def inputs(self) -> Row:
        """What the sweep is."""
        return store.manifest(self.folder) or {}

    def drawings(self) -> dict[str, Drawing]:
        """Throughput over context, where that is an axis and the lines are few."""
        from qsjax import plotting

        data = self.dataset
        if "context" not in data.dims:
            return {}
        axes = [str(n) for n in data.dims if n != "context" and data.sizes[n] > 1] or ["model"]
        rows = self.rows()
        for row in rows:
            row |= {"is_feasible": row["feasible"] > 0, "variant": row["model"], "q": None}
            row["label"] = ", ".join(_named(name, row[name]) for name in axes)
        if len({row["label"] for row in rows}) > SERIES:
            return {}
        return {"throughput": partial(plotting.throughput_vs_context, rows, title=_title(rows))}

    def save(self, folder: str | Path, asked: Mapping[str, Any] | None = None) -> list[Path]:
        """Copies of the files of the result; its own folder has them already."""
        return results.copies(self.folder, Path(folder))


def _named(name: str, value: Any) -> str:
    """A coordinate of a line, with its unit."""
    if isinstance(value, str):
        return value
    return f"{name} {words.value(value, meaning_of(name).units)}"


def _title(rows: Sequence[Row]) -> str:
    """Which line leads at the shortest and at the longest context."""
    running = [row for row in rows if row["is_feasible"]]
    if not running:
        return "Nothing runs"
    ends = [pick(row["context"] for row in running) for pick in (min, max)]
    parts = [[row for row in running if row["context"] == end] for end in ends]
    best = [max(part, key=lambda row: row["tokens_per_s_per_gpu"]) for part in parts]
    if best[0]["label"] == best[1]["label"]:
        return f"{best[0]['label']} is fastest"
    said = (f"{row['label']} at {words.length(row['context'])}" for row in best)
    return f"Fastest is {words.joined(said)}"


def _asked(asked: Problem | str | Path, kept: Mapping[str, Any]) -> campaign.Question:
    options = options_of(kept)
    if isinstance(asked, str | Path):
        if kept:
            raise ValueError(
                f"{', '.join(kept)}: the file {asked} says what is kept; write it there"
            )
        asked, options = spec.asked_in(toml.read(Path(asked)))
    elif not isinstance(asked, Problem):
        raise ValueError(f"{kind_of(asked)} is not a sweep; give a Problem or a .toml file")
    if asked.batch is None:
        asked = dataclasses.replace(asked, batch="largest")
    job, axes = job_of(asked, options)
    content = inputs_of(asked) | options.content()
    return campaign.Question(job, axes, options.outputs, content, options.skip_illegal)


def _memory(me: hosts.Processes) -> float:
    """A quarter of what is free, 1 GiB at least and where that is not known [B]."""
    free = free_memory()
    return (max(GIB, 0.25 * free) if math.isfinite(free) else GIB) / me.count


@entry
def sweep(
    asked: Problem | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    prune: bool | None = None,
    memory: float | None = None,
    chunk: int | None = None,
    processes: hosts.Processes | None = None,
    **kept: Any,
) -> Sweep | None:
    """The best design of every cell of a grid of any size, in constant memory.

    Finished chunks are recorded in the folder: a sweep that was killed goes on with `resume`, to
    the same result.

    Args:
        asked: a problem, or a TOML file (docs/guides/sweeps.md), which has outputs and precision
            of its own. Numbers of `batch` are an axis of the result here; without them it is the
            largest that fits, whatever the objective.
        out: folder for the chunks and the results; shared by all processes.
        resume: go on with the sweep that the folder holds.
        prune: let bounds decide which designs win, so that few are evaluated, with the same
            result. It goes with no front, statistics or float32; with limits it goes with `wins`
            alone and leaves out the count of feasible designs. By default it is used where it is
            predicted to take less time.
        memory: memory for the blocks in flight [B]; a quarter of what is free unless given.
        chunk: designs between two saves; some seconds' work unless given.
        processes: this process among several that share the work (`streaming.hosts.start`).
        **kept: of a problem, what is kept: `winners` (of every cell, True unless given), `top_k`
            (so many of the best designs of all, 10), `pareto` (the front of tokens/s/GPU against
            tokens/s/user over all designs), `wins` (how many cells each design wins), `statistics`
            (metrics whose range and quantiles over all feasible designs are kept); and
            `precision`, "float64" or "float32" for throughput.

    Returns:
        The result; None in all processes but the first.

    Raises:
        ValueError: the question has mistakes (the message lists all), or the folder holds another
            sweep.
        OSError: the disk is full; what is finished is kept.
    """
    question = _asked(asked, kept)
    given = {"resume": resume, "memory": memory, "chunk_cells": chunk, "prune": prune}
    counts = _counted(question, Path(out), processes or hosts.Processes(), given)
    return None if counts is None else Sweep(Path(out), counts)


def _counted(
    question: campaign.Question, folder: Path, me: hosts.Processes, given: dict[str, Any]
) -> Row | None:
    """The counts of the sweep when its files are written; None in all processes but the first."""
    with contextlib.ExitStack() as held:

        def prepare() -> campaign.SweepRun:
            if me.rank == 0:
                held.enter_context(store.claim(folder))
            settings = given | {"memory": given["memory"] or _memory(me)}
            return campaign.prepare(question, folder, **settings, is_first=me.rank == 0)

        return campaign.execute(_in_turn(prepare, me, folder), me)


def _in_turn(
    prepare: Callable[[], campaign.SweepRun], me: hosts.Processes, folder: Path
) -> campaign.SweepRun:
    """Prepare the sweep, process 0 first; all processes stop if one of them fails."""
    if me.rank:
        hosts.agree(me, is_ready=True)
    try:
        planned = prepare()
    except (ValueError, OSError) as error:
        hosts.agree(me, is_ready=False)
        if isinstance(error, OSError):
            said = error.strerror or error
            raise ValueError(f"--out {folder} cannot be written: {said}") from error
        raise
    hosts.agree(me, is_ready=True)
    if not me.rank:  # the turn of the others
        hosts.agree(me, is_ready=True)
    return planned
