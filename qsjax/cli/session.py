"""Verbosity of one run of the command."""

import os
import time
from functools import partial
from typing import Any

import click

from qsjax import __version__
from qsjax.cli import EVERY_VERB


def note(text: str) -> None:
    """A remark on standard error; `--quiet` leaves it out."""
    if not _settings().get("quiet"):
        click.echo(text, err=True)


def warned(message: Any, *_: Any, **__: Any) -> None:
    """A warning of a library as one line, in place of `warnings.showwarning`."""
    click.echo(f"Note: {message}", err=True)


def _settings() -> dict[str, Any]:
    context = click.get_current_context(silent=True)
    if context is None:
        return {}
    return context.find_root().ensure_object(dict)


def _set(name: str) -> Any:
    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            settings = context.find_root().ensure_object(dict)
            if name == "verbose" and name not in settings:
                context.find_root().call_on_close(partial(_report, time.perf_counter()))
            settings[name] = True

    return remember


def _report(start: float) -> None:
    from qsjax.numerics import programs  # late, with JAX: it takes longer than all of `--help`
    from qsjax.numerics.jax import jax

    seconds, device = time.perf_counter() - start, jax.devices()[0]
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or programs.folder() or "off"
    click.echo(
        f"qsjax {__version__}, jax {jax.__version__} on {device.platform} ({device.device_kind}), "
        f"compiled programs: {folder}, {seconds:.2f} s",
        err=True,
    )


def verbosity() -> list[click.Option]:
    """The flags that every verb has, whatever else it takes."""
    return [
        click.Option(
            names.split(", "), is_flag=True, expose_value=False, is_eager=True,
            callback=_set(names.partition("--")[2]), help=text,
        )
        for names, text in EVERY_VERB.items()
        if ", " in names
    ]  # fmt: skip


def give_verbosity(command: click.Command) -> click.Command:
    """The command, and the commands below it, with the flags of `verbosity`."""
    known = {option for parameter in command.params for option in parameter.opts}
    command.params += [option for option in verbosity() if not known.intersection(option.opts)]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            give_verbosity(below)
    return command
