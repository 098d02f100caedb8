"""`qsjax sweep SPEC`: a search of any size from a file, resumable, on one host or many."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from qsjax.cli import session
from qsjax.cli.help import Verb
from qsjax.cli.options import COUNT, FOLDER, OLD_FILE, flag
from qsjax.numerics.jax import jax
from qsjax.records.units import GIB
from qsjax.streaming import hosts
from qsjax.streaming.question import sweep


@click.command("sweep", cls=Verb)
@click.argument("file", metavar="SPEC", type=OLD_FILE)
@flag(
    "--out",
    FOLDER,
    "Folder for the finished chunks and the results; shared by all processes.",
    required=True,
)
@flag(
    "--prune/--no-prune",
    bool,
    "Let bounds decide who wins, or evaluate every design.  [default: what takes less time]",
)
@flag("--resume", bool, "Go on with the sweep in --out.")
@flag(
    "--memory",
    click.FloatRange(min=0.0, min_open=True),
    "Memory for the blocks in flight [GiB].  [default: a quarter of what is free]",
)
@flag(
    "--chunk",
    COUNT,
    "Designs between two saves, the most that is lost if killed.  [default: some seconds' work]",
)
@flag("--devices", COUNT, "CPU devices.  [default: one for each core]")
@flag("--coordinator", str, "Address of process 0.", metavar="HOST:PORT")
@flag("--processes", COUNT, "Number of processes.")
@flag("--process-id", click.IntRange(min=0), "Number of this process, from 0.")
def command(file: Path, **flags: Any) -> None:
    r"""Search every design that SPEC describes, in constant memory.

    A sweep that was killed goes on with --resume, to the same result. Several processes share the
    work: SLURM, Open MPI, Kubernetes and TPU pods are recognised; elsewhere give the last three
    flags or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

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
        how = {name: flags[name] for name in ("resume", "prune", "chunk")}
        memory = flags["memory"] and flags["memory"] * GIB
        found = sweep(file, flags["out"], memory=memory, processes=me, **how)
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
