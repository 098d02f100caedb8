"""`qsjax completion SHELL`: the script that switches completion on."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    r"""Print the completion script of SHELL.

    \b
    Examples:
      qsjax completion bash > ~/.local/share/bash-completion/completions/qsjax
      qsjax completion zsh > ~/.zfunc/_qsjax
      qsjax completion fish > ~/.config/fish/completions/qsjax.fish
    """
    from qsjax.cli import cli

    found = get_completion_class(shell)
    assert found is not None  # click has all of SHELLS
    click.echo(found(cli, {}, "qsjax", "_QSJAX_COMPLETE").source())
