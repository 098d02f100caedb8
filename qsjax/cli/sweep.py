"""`qsjax sweep SPEC`: a search of any size from a file, resumable, on one host or many."""

import os
import sys
from pathlib import Path
from typing import Any

import click
import jax

from qsjax.cli import options, session
from qsjax.records.units import GIB
from qsjax.streaming import hosts
from qsjax.streaming.question import sweep


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
@click.option(
    "--prune/--no-prune",
    default=None,
    help="Let bounds decide who wins, or evaluate every design.  [default: what takes less time]",
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
    jax.config.update("jax_num_cpu_devices", flags["devices"] or hosts.cores())
    me = hosts.Processes()
    try:
        me = hosts.start(flags["coordinator"], flags["processes"], flags["process_id"])
        found = sweep(
            file,
            flags["out"],
            resume=flags["resume"],
            prune=flags["prune"],
            memory=flags["memory"] and flags["memory"] * GIB,
            chunk=flags["chunk"],
            processes=me,
        )
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
        click.echo(found.summary())
        session.note(f"Written to {flags['out']}.")
    if me.count > 1:
        jax.distributed.shutdown()
