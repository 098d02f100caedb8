"""Compiled programs kept between processes: while a question runs, in the user's cache folder.

`QSJAX_CACHE` names another folder, or is "off". Who keeps the programs of JAX in a folder of their
own (`JAX_COMPILATION_CACHE_DIR`) keeps these there too. Outside of questions nothing is changed.
"""

import contextlib
import hashlib
import os
import platform
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax.experimental.compilation_cache import compilation_cache

from qsjax.numerics.jax import jax

# Compiled programs kept on disk [B]; the oldest go first.
CACHE_BYTES = 256 * 2**20
_OFF = ("off", "0", "no")
_SETTINGS: dict[str, Any] = {
    # XLA's loader takes its own tuning hints for missing features of the processor, at length.
    "jax_logging_level": "CRITICAL",
    "jax_persistent_cache_min_compile_time_secs": 0.05,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
_lock = threading.Lock()
_running = 0  # questions within `kept`
_usable: dict[Path, bool] = {}  # folders that were tried in this process
_before: dict[str, Any] = {}


def _processor() -> str:
    """Digest of the processor: machines that share a home folder may differ."""
    try:
        facts = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        facts = [platform.processor()]
    fixed = [line for line in facts if not line.startswith(("cpu MHz", "bogomips", "apicid"))]
    return hashlib.sha256("\n".join([platform.machine(), *fixed]).encode()).hexdigest()[:12]


def folder() -> Path | None:
    """Where compiled programs are kept; None where they are not, or JAX keeps them by itself."""
    given = os.environ.get("QSJAX_CACHE", "")
    if given.lower() in _OFF or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = Path(given) if given else Path(home) / "qsjax"
    return base / f"jax-{jax.__version__}-{_processor()}"


def _prune(place: Path) -> None:
    """Remove the programs longest unused, down to half of CACHE_BYTES, once there are more."""
    files = sorted(place.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    kept = 0
    if sum(file.stat().st_size for file in files) > CACHE_BYTES:
        for file in files:
            kept += file.stat().st_size
            if kept > CACHE_BYTES // 2:
                file.unlink(missing_ok=True)


def _can_use(place: Path) -> bool:
    """Whether a folder can be written, tried once; it is said once where it cannot."""
    if place not in _usable:
        try:
            place.mkdir(parents=True, exist_ok=True)
            _prune(place)
            _usable[place] = os.access(place, os.W_OK)
            why = "it cannot be written"
        except OSError as error:
            _usable[place], why = False, str(error.strerror or error)
        if not _usable[place]:
            warnings.warn(
                f"compiled programs are not kept in {place}: {why}; QSJAX_CACHE names another "
                "folder, or is off",
                stacklevel=2,
            )
    return _usable[place]


def _set(place: Path) -> None:
    _before.update({name: getattr(jax.config, name) for name in _SETTINGS})
    for name, value in _SETTINGS.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # what was compiled before has settled that there is none
    jax.config.update("jax_compilation_cache_dir", str(place))


def _unset() -> None:
    jax.config.update("jax_compilation_cache_dir", None)
    for name, value in _before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    _before.clear()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep what the body compiles for the next process.

    What cannot be read or written is compiled again: JAX warns, and work goes on.
    """
    global _running
    with _lock:
        place = folder()
        taken: Any = jax.config.values["jax_compilation_cache_dir"]
        own = bool(_before) or taken is None
        used = place is not None and own and _can_use(place)
        if place is not None and used and not _running:
            _set(place)
        _running += used
    try:
        yield
    finally:
        with _lock:
            _running -= used
            if used and not _running:
                _unset()
