"""The command as its tests run it: in their own process, as another would import JAX again.

What only a process shows (streams, exit codes of the shell, caches, completion) starts one.
"""

import os
import subprocess
import sys
from typing import NamedTuple
from unittest import mock

from click.testing import CliRunner

from qsjax.cli import cli


class Done(NamedTuple):
    """What `subprocess.run` tells of a command."""

    returncode: int
    stdout: str
    stderr: str


def qsjax(*arguments: object, code: int | None = None) -> Done:
    """Run the command in this process; warnings that it does not tell itself are errors."""
    words = [str(word) for word in arguments]
    with mock.patch.object(sys, "argv", ["qsjax", *words]):  # `inputs.json` says how to repeat it
        ended = CliRunner().invoke(cli, words, prog_name="qsjax")
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return checked(Done(ended.exit_code, ended.stdout, ended.stderr), code)


COMMAND = ("-W", "error::DeprecationWarning:qsjax", "-m", "qsjax")


def process(
    *arguments: object,
    code: int | None = None,
    start: tuple[str, ...] = COMMAND,
    **environment: str,
) -> Done:
    """Run the command as a user does."""
    ended = subprocess.run(
        [sys.executable, *start, *(str(word) for word in arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        timeout=300,
        check=False,
    )
    return checked(Done(ended.returncode, ended.stdout, ended.stderr), code)


def checked(done: Done, code: int | None) -> Done:
    """A run that ended as it should, if that is said, and without a traceback."""
    assert code is None or done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done
