"""Run a recorded sweep: plan or resume it, compute the missing chunks, write the results."""

import dataclasses
import hashlib
import json
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qsjax.grid.axes import Axes
from qsjax.grid.progress import steps
from qsjax.numerics.jax import jax
from qsjax.streaming import results, store
from qsjax.streaming.engine import Job
from qsjax.streaming.hosts import Heartbeat, Processes
from qsjax.streaming.plan import Plan, make_plan
from qsjax.streaming.pruning import pruned
from qsjax.streaming.run import Outputs, cells_of, compute_chunks

# Seconds that a process waits for process 0 to describe the sweep in the shared folder.
WAIT = 300.0
# Damaged chunks that are named one by one.
SAID = 5
# Version of the folder's format: another one is another sweep.
FORMAT = 3


class Question(NamedTuple):
    """The grid, what is kept of it, what identifies it, and whether illegal designs are skipped."""

    job: Job
    axes: Axes
    wanted: Outputs
    content: dict[str, Any]
    skip_illegal: bool


class SweepRun(NamedTuple):
    """A sweep and its folder."""

    job: Job
    plan: Plan
    wanted: Outputs
    folder: Path


def _digest(*arrays: Any) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(np.asarray(array, np.float64)).tobytes())
    return sha.hexdigest()[:16]


def describe(job: Job, plan: Plan, content: dict[str, Any]) -> dict[str, Any]:
    """What identifies a sweep: its file, the numbers behind its names, and how it is cut."""
    return {
        "format": FORMAT,
        "spec": content,
        "model numbers": _digest(*jax.tree.leaves(job.records.model)),
        "hardware numbers": _digest(*jax.tree.leaves(job.records.hardware)),
        "plan": {
            "kept": list(plan.kept),
            "designs": _digest(plan.designs),
            "split": plan.split,
            "step": plan.step,
            "per_chunk": plan.per_chunk,
            "pruned": plan.pruned,
        },
    }


def prepare(
    asked: Question,
    folder: Path,
    *,
    resume: bool,
    memory: float,
    chunk_cells: int | None,
    prune: bool | None,
    is_first: bool,
) -> SweepRun:
    """Plan a sweep, or resume the one in its folder.

    Raises:
        ValueError: the folder holds another sweep (with the differences), or one that was not to
            be resumed; or pruning was asked for and cannot be.
    """
    job, axes, wanted, content, skip_illegal = asked
    devices = len(jax.local_devices())
    wait = WAIT if not is_first else 0.0
    while wait > 0 and store.manifest(folder) is None:
        time.sleep(0.2)
        wait -= 0.2
    plan = make_plan(
        job.records,
        axes,
        job.convention,
        skip_illegal=skip_illegal,
        devices=devices,
        memory=memory,
        chunk_cells=chunk_cells,
    )
    if prune is not False:
        plan = pruned(job, plan, wanted, is_asked=bool(prune), chunk_cells=chunk_cells)
    old = store.manifest(folder)
    if old is not None and is_first and not resume:
        raise ValueError(
            f"{folder} holds a sweep already; go on with it by --resume (resume=True), or choose "
            "another --out"
        )
    if old is not None:
        cut = old.get("plan", {})
        same = {k: cut.get(k) for k in ("split", "step", "per_chunk")}
        if all(isinstance(value, int) for value in same.values()):
            per_call = min(plan.per_call, same["per_chunk"])
            plan = dataclasses.replace(plan, **same, per_call=max(devices, per_call))
        changed = store.differences(old, describe(job, plan, content))
        if changed:
            lines = "\n".join(f"  {line}" for line in changed)
            raise ValueError(
                f"{folder} holds another sweep:\n{lines}\nrestore the file, or choose another --out"
            )
    elif is_first:
        text = json.dumps(describe(job, plan, content), indent=1)
        store.write(folder / store.MANIFEST, text.encode())
    return SweepRun(job, plan, wanted, folder)


def execute(campaign: SweepRun, me: Processes) -> dict[str, Any] | None:
    """Compute what is missing, and in process 0 write the results; damaged chunks are warned of.

    Returns:
        The summary in process 0, else None.

    Raises:
        HostLostError: another process is gone; what is finished is kept.
    """
    plan, folder = campaign.plan, campaign.folder
    mine = me.share(list(range(plan.chunks)))
    done, damaged = store.finished(folder, mine)
    for line in damaged[:SAID]:
        warnings.warn(f"{line}; it is computed again", stacklevel=2)
    if damaged[SAID:]:
        warnings.warn(f"so are {len(damaged) - SAID} more chunks", stacklevel=2)
    rest = [chunk for chunk in mine if chunk not in set(done)]
    loop = steps(cells_of(plan, mine), cells_of(plan, done), "designs")
    if me.count == 1:
        with loop as told:
            compute_chunks(*campaign, rest, told.advance)
        return results.write(*campaign)
    with Heartbeat(folder, me) as life, loop as told:

        def watched(cells: int) -> None:
            told.advance(cells)
            life.check()

        compute_chunks(*campaign, rest, watched)
        if me.rank:
            life.say("done")
            life.wait(lambda: life.state_of(0) == "done")
            return None
        # A chunk of an earlier run may be damaged until its process has looked at it and says so.
        life.wait(lambda: all(life.state_of(rank) == "done" for rank in range(1, me.count)))
        others = [chunk for chunk in range(plan.chunks) if chunk not in set(mine)]
        life.wait(lambda: all(store.chunk_path(folder, c).exists() for c in others))
        return results.write(*campaign)
