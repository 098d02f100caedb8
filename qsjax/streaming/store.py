"""A sweep on disk: its description and its finished chunks, with checksums and atomic writes."""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qsjax.output import files
from qsjax.records.rows import leaves
from qsjax.streaming.aggregate import Designs, Tally

MANIFEST, CHUNKS, LOCK = "sweep.json", "chunks", ".lock"
# Where results are made before they are moved into place.
SCRATCH = ".merge."
_KEPT = "Finished chunks are kept; make room and run again with --resume"
_DIGEST = hashlib.sha256().digest_size
_SETS = ("best", "edge")
_COUNTS = ("computed", "evaluated", "doubtful", "feasible")
_SUMS = ("reasons", "low", "high", "bins", "wins")


class DamagedChunkError(ValueError):
    """A chunk file that is not what was written."""


def write(path: Path, data: bytes) -> None:
    """Write `path` in one step and through to the disk: whole, or not at all.

    Raises:
        OSError: with the space that is left, if the disk is full; nothing half-written remains.
    """
    try:
        files.write_atomically(path, data, through=True)
    except OSError as error:
        if error.errno in files.FULL:
            left = shutil.disk_usage(path.parent).free
            raise no_space(f"{path} needs {len(data):,} bytes and {left:,} are free") from error
        raise


def reserve(path: Path, size: int) -> None:
    """Check that `size` bytes can be written at `path`, for libraries that crash otherwise.

    Raises:
        OSError: the disk is full.
    """
    try:
        with open(path, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(path.parent).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Lock a sweep's folder against other runs, and remove scratch files of a killed run.

    The system frees the claim of a process that dies. Where it knows no such locks, none is taken.

    Raises:
        ValueError: another run is at work in the folder.
        OSError: the folder cannot be made or written.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "ab") as file:
        if not _lock(file.fileno()):
            raise ValueError(
                f"another run is at work in {folder}; wait for it, or choose another --out"
            )
        for rest in folder.glob(f"{SCRATCH}*"):
            shutil.rmtree(rest, ignore_errors=True)
        try:
            yield
        finally:
            if is_new and [path.name for path in folder.iterdir()] == [LOCK]:
                shutil.rmtree(folder, ignore_errors=True)


def _lock(handle: int) -> bool:
    """Whether a file is locked for this process; also where there are no locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def no_space(needs: str) -> OSError:
    """The error of a full disk, with what was needed and what to do."""
    return OSError(errno.ENOSPC, f"no space left: {needs}. {_KEPT}")


def manifest(folder: Path) -> dict[str, Any] | None:
    """What the sweep in this folder is, or None if there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another folder") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (no object); choose another folder")
    return content


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Keys that differ between two descriptions, with both values."""
    was, now = dict(leaves(old)), dict(leaves(json.loads(json.dumps(dict(new)))))
    lines = []
    for key in dict.fromkeys([*was, *now]):
        if was.get(key) != now.get(key):
            lines.append(f"{key}: was {_short(was.get(key))}, now {_short(now.get(key))}")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 120 else f"{text[:100]}... ({len(text)} characters)"


def chunk_path(folder: Path, chunk: int) -> Path:
    """File of a chunk."""
    return folder / CHUNKS / f"{chunk:06d}.chunk"


def _checksum(folder: Path, chunk: int, body: bytes) -> bytes:
    """Checksum of a chunk at its place in this sweep: no other chunk, nor another sweep's, fits."""
    path = folder / MANIFEST
    sha = hashlib.sha256(path.read_bytes() if path.exists() else b"")
    sha.update(f"chunk {chunk}:".encode())
    sha.update(body)
    return sha.digest()


def save_chunk(folder: Path, chunk: int, tally: Tally, cells: Mapping[str, np.ndarray]) -> None:
    """Record a finished chunk: its tally and its kept cells."""
    arrays = {f"cells.{name}": array for name, array in cells.items()}
    arrays |= {name: np.asarray(getattr(tally, name)) for name in (*_COUNTS, *_SUMS)}
    for name in _SETS:
        arrays |= {f"{name}.{k}": x for k, x in getattr(tally, name)._asdict().items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes the names for flags
    body = buffer.getvalue()
    write(chunk_path(folder, chunk), _checksum(folder, chunk, body) + body)


def load_chunk(folder: Path, chunk: int) -> tuple[Tally, dict[str, np.ndarray]]:
    """A recorded chunk.

    Raises:
        FileNotFoundError: it is not finished.
        DamagedChunkError: its file is not what was written.
    """
    path = chunk_path(folder, chunk)
    data = path.read_bytes()
    if _checksum(folder, chunk, data[_DIGEST:]) != data[:_DIGEST]:
        raise DamagedChunkError(f"chunk {chunk} ({path}) is damaged or of another sweep or place")
    try:
        with np.load(io.BytesIO(data[_DIGEST:]), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise DamagedChunkError(f"chunk {chunk} ({path}) cannot be read: {error}") from error
    named: dict[str, Any] = {name: int(arrays[name]) for name in _COUNTS}
    named |= {name: arrays[name] for name in _SUMS}
    named |= {n: Designs(*(arrays[f"{n}.{k}"] for k in Designs._fields)) for n in _SETS}
    prefix = "cells."
    cells = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
    return Tally(**named), cells


def finished(folder: Path, chunks: Sequence[int]) -> tuple[list[int], list[str]]:
    """Which of some chunks are recorded and whole; and a line for each one that is damaged.

    A damaged one is removed, so that nobody takes it for finished.
    """
    done, damaged = [], []
    for chunk in chunks:
        try:
            load_chunk(folder, chunk)
            done.append(chunk)
        except FileNotFoundError:
            continue
        except DamagedChunkError as error:
            damaged.append(str(error))
            chunk_path(folder, chunk).unlink(missing_ok=True)
    return done, damaged
