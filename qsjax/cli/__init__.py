"""The command `qsjax`: thin verbs over the library, each in a module that is loaded when called.

Exit codes: 0 done, 1 an internal fault, 2 a mistake in the input (one message, nothing written),
130 interrupted.
"""

import importlib

import click

# Verb -> what it answers. Each is the `command` of the module of its name.
VERBS: dict[str, str] = {
    "explore": "Best split of a model and its dense twins, over every partition.",
    "reproduce": "The paper's tables: published, ours, error.",
    "models": "The model catalogue.",
    "hardware": "The accelerator catalogue.",
    "report": "One interactive page from result folders.",
}


class LazyGroup(click.Group):
    """A group whose verbs are imported when they run: `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of VERBS."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command; unknown verbs are click's business."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"qsjax.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of verbs, without importing any."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qsjax")
def cli() -> None:
    """Which model, on which accelerators, split how, at which context: every choice at once."""


def main() -> None:
    """Run the command line; mistakes of the user end with one message and exit code 2."""
    cli(prog_name="qsjax")
