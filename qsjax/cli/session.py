"""What holds for a whole run of the command: how much is said, and the cache of compiled code."""

import hashlib
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import jax

from qsjax import __version__

# Compiled programs kept on disk [B]; the oldest go first.
CACHE_BYTES = 256 * 2**20
_OFF = ("off", "0", "no")


def note(text: str) -> None:
    """A remark on standard error; `--quiet` leaves it out."""
    if not _settings().get("quiet"):
        click.echo(text, err=True)


def note_contexts(model: str, longest: int, contexts: Iterable[float] | None) -> None:
    """Say which of the stated contexts are longer than `model` is published for (0: unknown)."""
    beyond = [f"{context:,.0f}" for context in contexts or () if context > longest > 0]
    if beyond:
        listed = ", ".join(beyond)
        note(f"Note: {model} is published for up to {longest:,} tokens; {listed}: a what-if.")


def detail(text: str) -> None:
    """A remark that only `--verbose` asks for."""
    if _settings().get("verbose"):
        click.echo(text, err=True)


def _settings() -> dict[str, Any]:
    context = click.get_current_context(silent=True)
    if context is None:
        return {}
    return context.find_root().ensure_object(dict)


def _processor() -> str:
    """What compiled code depends on; a home folder may be shared by different machines."""
    try:
        facts = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        facts = [platform.processor()]
    fixed = [line for line in facts if not line.startswith(("cpu MHz", "bogomips", "apicid"))]
    return hashlib.sha256("\n".join([platform.machine(), *fixed]).encode()).hexdigest()[:12]


def cache_folder() -> Path | None:
    """Where compiled programs are kept: QSJAX_CACHE, or the user's cache folder; None if off."""
    given = os.environ.get("QSJAX_CACHE", "")
    if given.lower() in _OFF:
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = Path(given) if given else Path(home) / "qsjax"
    return base / f"jax-{jax.__version__}-{_processor()}"


def _prune(folder: Path) -> None:
    """Remove the programs longest unused, down to half of CACHE_BYTES, once there are more."""
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    kept = 0
    if sum(file.stat().st_size for file in files) > CACHE_BYTES:
        for file in files:
            kept += file.stat().st_size
            if kept > CACHE_BYTES // 2:
                file.unlink(missing_ok=True)


def use_cache() -> None:
    """Keep compiled programs between runs; a folder that cannot be written is no error."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # the user's own choice for all jax programs
        return
    folder = cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # XLA's loader takes its own tuning hints for missing features of the processor, at length.
    jax.config.update("jax_logging_level", "CRITICAL")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _set(name: str) -> Any:
    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            settings = context.find_root().ensure_object(dict)
            settings[name] = True
            if name == "verbose" and "start" not in settings:
                settings["start"] = time.perf_counter()
                context.find_root().call_on_close(_report)

    return remember


def _report() -> None:
    seconds = time.perf_counter() - _settings().get("start", time.perf_counter())
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_folder() or "off"
    device = jax.devices()[0]
    detail(
        f"qsjax {__version__}, jax {jax.__version__} on {device.platform} "
        f"({device.device_kind}), compiled programs: {folder}, {seconds:.2f} s"
    )


def verbosity() -> list[click.Option]:
    """The flags that every verb has, whatever else it takes."""
    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set("quiet"),
            help="Print the result and nothing beside it.",
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set("verbose"),
            help="Also say versions, device and time, on standard error.",
        ),
    ]


def give_verbosity(command: click.Command) -> click.Command:
    """The command, and the commands below it, with the flags of `verbosity`."""
    known = {option for parameter in command.params for option in parameter.opts}
    command.params += [option for option in verbosity() if not known.intersection(option.opts)]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            give_verbosity(below)
    return command
