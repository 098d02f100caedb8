"""`qsjax app MODEL`: the live page."""

from typing import Any

import click

from qsjax.cli import options, serving_options
from qsjax.cli.grid_options import problem_of
from qsjax.cli.help import Verb
from qsjax.cli.options import flag
from qsjax.output.live.server import app

PORT = 5006


@click.command("app", cls=Verb)
@options.one_model
@options.workload_options()
@serving_options.limit_options
@flag("--port", int, "Port on 127.0.0.1; 0 for any that is free.", PORT)
@flag("--browser/--no-browser", bool, "Open the page in a browser.", True)
def command(model: str, port: int, browser: bool, **flags: Any) -> None:
    r"""Serve a page for MODEL on which answer and figures follow sliders.

    The flags say where the sliders start. Only this machine reaches the page. Ctrl-C ends it. It
    needs the extra `app`: pip install 'qsjax[app]'.

    \b
    Examples:
      qsjax app deepseek-v3 --hardware h200-sxm --gpus 64
      qsjax app mixtral-8x7b --gpus 8 --twins none --max-tpot 30ms --port 8000 --no-browser
    """
    problem = problem_of(model, flags)
    try:
        page = app(problem, port=port, browser=browser)
    except ModuleNotFoundError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{page.url} (Ctrl-C ends it)")
    try:
        page.wait()
    except KeyboardInterrupt:
        page.stop()
