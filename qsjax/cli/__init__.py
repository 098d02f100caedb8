"""The command `qsjax`: thin verbs over the library, each in a module that is loaded when called.

Exit codes: 0 done (that nothing runs is an answer too), 1 an internal fault or an interruption, 2 a
mistake in the input: one message on standard error, nothing written.
"""

import difflib
import gc
import importlib
import os
import re
import sys
import warnings
from typing import Any

import click
from click.shell_completion import CompletionItem

from qsjax.numerics import loading

# Verb -> what it answers. Each is the `command` of the module of its name.
VERBS: dict[str, str] = {
    "explore": "Best split of a model and its dense twins, over every partition.",
    "explain": "One deployment: does it run, where do memory and time go, what is better.",
    "pareto": "Tokens/s/GPU against tokens/s/user, and the best design within limits.",
    "compare": "Models, accelerators and conventions side by side, and why they differ.",
    "sensitivity": "What 1 % more of each parameter does to the optimum, and for how long.",
    "moe-or-dense": "MoE against its dense twin at equal interactivity, and how surely.",
    "binding": "Which hardware number binds at each interactivity.",
    "architecture": "Which architecture of equal quality serves best, under a law of loss.",
    "break-even": "Where the MoE and its twin are equal; what reaches a target.",
    "certify": "What holds in a whole box of hardware numbers, proved.",
    "design": "The best accelerator under a budget, the cheapest that meets targets.",
    "sweep": "Grids of any size from a file: streamed, resumable, on many hosts.",
    "mix": "The split that is best for a distribution of contexts.",
    "simulate": "One deployment under load: queues, quantiles of latency, preemptions.",
    "size": "The fewest GPUs for users or a rate of requests within limits.",
    "speculate": "What drafted tokens gain at every batch, of a model and its twins.",
    "prefix-cache": "Prefixes that come again: keep, load from a tier, or compute again.",
    "study": "The paper's Table 2: which of its dimensions change the winner.",
    "reproduce": "The paper's tables: published, ours, error.",
    "validate": "Predictions against published measurements.",
    "calibrate": "Fit the constants to your own measurements.",
    "models": "The model catalogue.",
    "hardware": "The accelerator catalogue.",
    "app": "A local page with sliders: answer and figures follow every move.",
    "report": "One interactive page from result folders.",
    "completion": "Shell completion: how to switch it on.",
}
WIDTH = 100  # characters of a line where no terminal says how many it has
# Options that some verb lacks, and what does the same.
MEANT = {
    **dict.fromkeys(("--model", "-m"), ": the model stands by itself, as in its help"),
    "--gpus": ": `simulate` counts those of its degrees (--tp 8), `size` looks for the number",
    "--tpot": ": `pareto`, `compare` and `mix` have --max-tpot, `size` and `simulate` --tpot",
    "--trace": ": `mix` takes the file by itself, `simulate` has --trace",
    "--disaggregated": ": `size --prefill-hardware NAME` has GPUs of their own for prompts",
}
EVERY_VERB = {
    "--format table|json|csv": "What is printed on standard output.",
    "--out DIRECTORY": "Write data, tables, figures and the exact inputs there.",
    "-q, --quiet": "Print the result and no notes.",
    "-v, --verbose": "Also print versions, device and time, on standard error.",
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
        from qsjax.cli import session

        command: click.Command = session.give_verbosity(module.command)
        # Docstrings are raw: the mark that keeps examples from being wrapped is still two letters.
        command.help = (command.help or "").replace("\\b\n", "\b\n")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb of the first word; the nearest ones where there is none."""
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            near = difflib.get_close_matches(name, VERBS, n=3)
            more = f"did you mean {' or '.join(near)}?" if near else "`qsjax --help` lists them"
            ctx.fail(f"no verb {name!r}; {more}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; the library's ValueError about its input is one message and exit code 2."""
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:  # the help is what was asked for
            raise
        except click.UsageError as error:
            raise click.UsageError(self._message(error), error.ctx) from error
        except BrokenPipeError:  # `| head` has read enough: no mistake of the input
            raise
        except (ValueError, OSError) as error:
            if "QSJAX_TRACEBACK" in os.environ:
                raise
            from qsjax.output.files import FULL

            if {getattr(own, "errno", None) for own in (error, error.__cause__)} & {*FULL}:
                raise click.ClickException(str(error)) from error  # no mistake of the input
            raise click.UsageError(str(error)) from error

    def _message(self, error: click.UsageError) -> str:
        """An error of click in our words, with what would mend it."""
        message = error.format_message()
        for ours, theirs in (("number", "float"), ("whole number", "integer")):
            message = re.sub(rf"not a valid {theirs}( range)?", f"not a {ours}", message)
        verb = error.ctx.info_name if error.ctx is not None else None
        told = rf"\1; `qsjax {verb}` lists all, `qsjax {verb} show \2` shows one"
        message = re.sub(r"^(No such command '(.*)')\.$", told, message)
        if isinstance(error, click.NoSuchOption) and error.ctx:
            meant = MEANT.get(error.option_name) or self._where(error)
            return f"{verb} has no {error.option_name}{meant}" if meant else message
        if message.startswith("Got unexpected extra argument") and error.ctx is not None:
            takes = [own.make_metavar(error.ctx) for own in error.ctx.command.params
                     if isinstance(own, click.Argument)]  # fmt: skip
            more = "; `qsjax compare` takes several models" if "MODEL" in takes else ""
            message += f"; {verb} takes {' and '.join(takes) or 'no argument'}{more}"
        return message

    def _where(self, error: click.NoSuchOption) -> str:
        """Which verbs have an option that its verb lacks."""
        context, name = click.get_current_context(), error.option_name
        having = [verb for verb in VERBS if (own := self.get_command(context, verb))
                  and any(name in one.opts for one in own.params)]  # fmt: skip
        if having or error.possibilities:
            return f"; it is an option of {', '.join(having)}" * bool(having)
        verb = error.ctx.info_name if error.ctx else ""
        more = " (what an engine takes stands behind its command, after `--`)"
        is_long = verb == "explain" and len(name) > 2
        return f"; `qsjax {verb} --help` lists what it has{more if is_long else ''}"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs that begin so, without importing any."""
        verbs = [CompletionItem(n, help=text) for n, text in VERBS.items()]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(verb for verb in verbs if verb.value.startswith(incomplete)), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of verbs, without importing any."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))
        with formatter.section("Of every verb that prints a result"):
            formatter.write_dl(list(EVERY_VERB.items()))


HELP = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}


@click.group(cls=LazyGroup, context_settings=HELP)
@click.version_option(package_name="qsjax")
def cli() -> None:
    """Which model, on which accelerators, split how, at which context: every choice at once."""


def main() -> None:
    """Run the command line; mistakes of the user end with one message and exit code 2."""
    # Tracing makes many objects and few cycles; looking for these at every 700 took a fifth of it.
    gc.set_threshold(50_000, 20, 20)
    loading.wait()
    # Python has no streams where a shell closed them (`>&-`): what is printed goes nowhere.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if "_QSJAX_COMPLETE" not in os.environ:
        from qsjax.cli import session

        warnings.showwarning = session.warned
    # Where no terminal says how wide it is, lines are as wide as those of the tables.
    is_open = sys.stdout.isatty() or "COLUMNS" in os.environ
    cli(prog_name="qsjax", terminal_width=None if is_open else WIDTH)
