"""`qsjax sweep SPEC`: a search of any size from a file, resumable, on one host or many."""

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jax

from qsjax import catalog
from qsjax.cli import options, session
from qsjax.grid.free_memory import free_memory
from qsjax.records.units import GIB
from qsjax.streaming import campaign, hosts, spec, store


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> float:
    """A quarter of what is free, 1 GiB at least and where that is not known."""
    free = free_memory()
    return max(1.0 * GIB, 0.25 * free) if math.isfinite(free) else 1.0 * GIB


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], Callable[[int], None]]]:
    """Rate and remaining time on standard error, where a person watches; else silence."""
    if not sys.stderr.isatty():
        yield lambda total, done: lambda cells: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.percentage:5.1f} %"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )

    def start(total: int, done: int) -> Callable[[int], None]:
        task = bar.add_task("", total=total, completed=done, rate="")

        def report(cells: int) -> None:
            speed = bar.tasks[0].speed or 0.0
            bar.update(task, advance=cells, rate=f"{speed / 1e6:,.1f} M designs/s")

        return report

    with bar:
        yield start


@click.command("sweep")
@click.argument(
    "file", metavar="SPEC", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the finished chunks and the results; shared by all processes.",
)
@click.option("--resume", is_flag=True, help="Go on with the sweep in --out.")
@click.option(
    "--memory",
    type=click.FloatRange(min=0.0, min_open=True),
    help="GiB for the blocks in flight.  [default: a quarter of what is free]",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    help="Designs between two records: what a kill loses at most.  [default: some seconds' work]",
)
@click.option(
    "--devices", type=click.IntRange(min=1), help="CPU devices.  [default: one for each core]"
)
@click.option("--coordinator", metavar="HOST:PORT", help="Address of process 0.")
@click.option("--processes", type=click.IntRange(min=1), help="Number of processes.")
@click.option("--process-id", type=click.IntRange(min=0), help="Number of this process, from 0.")
@options.input_errors
def command(file: Path, **flags: Any) -> None:
    r"""Search every design that SPEC describes, in constant memory.

    A sweep that was killed goes on with --resume, to the same result. Several processes share the
    work: SLURM, Open MPI, Kubernetes and TPU pods are recognised, else give the three flags or
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    \b
    Examples:
      qsjax sweep study.toml --out results/study
      qsjax sweep study.toml --out results/study --resume
      qsjax sweep study.toml --out /shared/study --coordinator node0:4000 \
        --processes 4 --process-id 0
    """
    asked = spec.read(file, {"models": catalog.model, "hardware": catalog.hardware})
    jax.config.update("jax_num_cpu_devices", flags["devices"] or _cores())
    me = hosts.Processes()
    try:
        me = hosts.start(flags["coordinator"], flags["processes"], flags["process_id"])
        job, axes, wanted = spec.build(asked, catalog.model, catalog.hardware, catalog.workload)
        campaign.check(job, axes)
        found = _run(job, axes, wanted, asked, me, flags)
    except hosts.HostLostError as error:
        # Leaving in the usual way would wait for the process that is gone.
        click.echo(f"Error: {error}", err=True)
        sys.stderr.flush()
        os._exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {where}{error.strerror or error}", err=True)
        if me.count > 1:
            os._exit(1)
        raise SystemExit(1) from error
    if found is not None:
        click.echo(
            f"{found['designs_computed']:,} designs computed of {found['designs_in_grid']:,} in "
            f"the grid, {found['designs_feasible']:,} feasible."
        )
        session.note(f"Written to {flags['out']}.")
    if me.count > 1:
        jax.distributed.shutdown()


def _run(
    job: Any, axes: Any, wanted: Any, asked: Any, me: Any, flags: dict[str, Any]
) -> dict[str, Any] | None:
    folder = flags["out"]
    memory = flags["memory"] * GIB if flags["memory"] else _memory() / me.count

    def warn(line: str) -> None:
        click.echo(line, err=True)

    with contextlib.ExitStack() as held:

        def prepare() -> campaign.SweepRun:
            if me.rank == 0:
                held.enter_context(store.claim(folder))
            return campaign.prepare(
                job,
                axes,
                wanted,
                asked.content(),
                folder,
                resume=flags["resume"],
                skip_illegal=asked.sweep.get("skip_illegal", True),
                memory=memory,
                chunk_cells=flags["chunk"],
                is_first=me.rank == 0,
            )

        planned = _in_turn(prepare, me, folder)
        start = held.enter_context(_progress())
        return campaign.execute(planned, me, start if me.rank == 0 else _silent, warn)


def _in_turn(
    prepare: Callable[[], campaign.SweepRun], me: hosts.Processes, folder: Path
) -> campaign.SweepRun:
    """The sweep, prepared by process 0 and then by the others; all stop if one of them must."""
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


def _silent(total: int, done: int) -> Callable[[int], None]:
    return lambda cells: None
