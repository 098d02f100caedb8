"""A sweep on several hosts: JAX's processes, a share of the chunks each, and heartbeats.

The processes exchange nothing while they compute: each takes every n-th chunk and records it in the
shared folder. JAX finds coordinator, number and rank in the environment of SLURM, Open MPI,
Kubernetes and TPU pods; here are only the variables that a plain launch sets.
"""

import contextlib
import dataclasses
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jax.experimental import multihost_utils

from qsjax.numerics.jax import jax
from qsjax.output import files

# A process writes a heartbeat every BEAT seconds; one silent for PATIENCE is lost.
BEAT, PATIENCE, START_PATIENCE = 1.0, 20.0, 300.0
# Set in a step of several tasks, not in the shell that launches it.
_CLUSTERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


class HostLostError(RuntimeError):
    """Another process of the sweep has died, does not answer, or never came."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, slots=True)
class Processes:
    """How many processes share a sweep, which one this is, and a number that names this run."""

    count: int = 1
    rank: int = 0
    run: int = 0

    def share(self, chunks: list[int]) -> list[int]:
        """The chunks of this process."""
        return [chunk for chunk in chunks if chunk % self.count == self.rank]


def _given(
    environment: Mapping[str, str],
    coordinator: str | None,
    processes: int | None,
    process_id: int | None,
) -> tuple[str | None, int | None, int | None]:
    problems: list[str] = []

    def number(given: int | None, *names: str) -> int | None:
        found = next((name for name in names if environment.get(name)), None)
        if given is not None or found is None:
            return given
        text = environment[found]
        if not text.isdecimal():
            problems.append(f"{found}={text!r} is not allowed; give a whole number")
            return None
        return int(text)

    address = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    count = number(processes, "JAX_NUM_PROCESSES")
    rank = number(process_id, "JAX_PROCESS_ID", "JOB_COMPLETION_INDEX")
    host, _, port = (address or "host:1").rpartition(":")
    if not host or not (port.isdecimal() and 0 < int(port) < 2**16):
        problems.append(f"coordinator {address!r} is not allowed; give HOST:PORT, as node0:4000")
    if count is not None and rank is not None and not rank < max(1, count):
        most = max(1, count) - 1
        problems.append(f"process id {rank} of {count} processes is not allowed; give 0 to {most}")
    if count == 0:
        problems.append("0 processes are not allowed; give 1 or more")
    if problems:
        raise ValueError("\n".join(problems))
    return address, count, rank


def _join(
    timeout: int, address: str | None = None, count: int | None = None, rank: int | None = None
) -> None:
    """`jax.distributed.initialize`, or an error after `timeout` seconds.

    JAX itself aborts the process with a trace of its own, hence the longer time for it.
    """
    failed: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(address, count, rank, initialization_timeout=timeout + 60)
        except (RuntimeError, ValueError) as error:  # told in the thread that waits
            failed.append(error)

    thread = threading.Thread(target=initialize, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise HostLostError(
            f"not all processes met at {address or 'the coordinator'} within {timeout} s; start "
            "all of them, each with a process id of its own, and give all the address of process 0"
        )
    if failed:
        raise failed[0]


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    timeout: int = 300,
) -> Processes:
    """Join the processes of this sweep; a process on its own needs nothing.

    Args:
        coordinator: host:port of process 0; else JAX_COORDINATOR_ADDRESS.
        processes: how many; else JAX_NUM_PROCESSES.
        process_id: which one this is; else JAX_PROCESS_ID or JOB_COMPLETION_INDEX.
        timeout: seconds to wait for the coordinator.

    Raises:
        ValueError: one of the three is missing, or is not what it should be.
        HostLostError: the processes did not meet in time.
    """
    given = _given(os.environ, coordinator, processes, process_id)
    if given[1] == 1:
        return Processes()
    if all(value is None for value in given):
        in_cluster = any(int(os.environ.get(name) or 1) > 1 for name in _CLUSTERS)
        is_pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
        if not (in_cluster or is_pod):
            return Processes()
        _join(timeout)
    else:
        names = ("--coordinator", "--processes", "--process-id")
        missing = [name for name, value in zip(names, given, strict=True) if value is None]
        if missing:
            raise ValueError(
                f"several processes need {', '.join(names)}; missing: {', '.join(missing)}"
            )
        _join(timeout, *given)
    # All wait here and agree on a number, so heartbeats of an earlier run are told apart.
    run = multihost_utils.broadcast_one_to_all(np.array(secrets.randbelow(2**31), np.int32))
    return Processes(jax.process_count(), jax.process_index(), int(run))


def agree(me: Processes, is_ready: bool) -> None:
    """Wait until every process has said whether it can go on.

    A process that stopped alone would leave the others waiting for it, and be kept by them.

    Raises:
        ValueError: another process cannot.
    """
    if me.count == 1:
        return
    said = np.asarray(multihost_utils.process_allgather(np.array(is_ready))).reshape(-1)
    others = [str(rank) for rank in np.flatnonzero(~said.astype(bool)) if rank != me.rank]
    if others and is_ready:
        raise ValueError(f"process {others[0]} has refused the sweep: its own message says why")


class Heartbeat:
    """Writes this process's heartbeat and watches those of the others, in the shared folder."""

    def __init__(self, folder: Path, me: Processes) -> None:
        self.folder, self.me = folder / "alive", me
        self._stop = threading.Event()
        self._state, self._one_writes = "running", threading.Lock()
        self._seen: dict[int, tuple[str, float]] = {}
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _path(self, rank: int) -> Path:
        return self.folder / f"{rank}.txt"

    def _write(self) -> None:
        with self._one_writes:  # or a beat that was begun would take back what is said meanwhile
            said = f"{self.me.run} {self._state} {time.time()}"
            files.write_atomically(self._path(self.me.rank), said)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):  # a full disk is reported where chunks are written
                self._write()

    def __enter__(self) -> "Heartbeat":
        """Start the heartbeat."""
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop the heartbeat and record how the run ended."""
        self.say("failed" if kind else "done")
        self._stop.set()
        self._thread.join()

    def say(self, state: str) -> None:
        """Tell the others a state."""
        self._state = state
        with contextlib.suppress(OSError):  # the error that ends this process matters more
            self._write()

    def check(self) -> None:
        """Raise HostLostError if another process has failed or fallen silent."""
        now = time.monotonic()
        for rank in range(self.me.count):
            if rank == self.me.rank:
                continue
            content = self._read(rank)
            before, since = self._seen.get(rank, ("", self._started))
            if content != before:
                self._seen[rank] = (content, now)
                since = now
            state = self.state_of(rank)
            limit = PATIENCE if content else START_PATIENCE
            if state == "failed" or (state != "done" and now - since > limit):
                what = "has failed" if state == "failed" else f"is silent for {now - since:.0f} s"
                raise HostLostError(
                    f"process {rank} of {self.me.count} {what}; process {self.me.rank} stops. "
                    "Finished chunks are kept: start all processes again with --resume"
                )

    def wait(self, is_ready: Callable[[], bool], pause: float = 0.2) -> None:
        """Wait for a condition, as long as the others live."""
        while not is_ready():
            self.check()
            time.sleep(pause)

    def state_of(self, rank: int) -> str:
        """Last state that a process told in this run."""
        return (self._read(rank).split() or ["", ""])[1]

    def _read(self, rank: int) -> str:
        try:
            content = self._path(rank).read_text()
        except OSError:
            return ""
        return content if content.startswith(f"{self.me.run} ") else ""
