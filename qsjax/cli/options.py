"""What every verb shares: flags of the same name for the same thing, errors, formats."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from qsjax import catalog
from qsjax.engines.spread import LEVEL
from qsjax.records.conversion import listed_of_text, number_of_text
from qsjax.records.precision import STORED
from qsjax.records.specs import CONVENTIONS, DEGREES

# What most people have or compare with; the paper's ideal chip is `paper-reference`.
HARDWARE = "h100-sxm"
Command = TypeVar("Command", bound=Callable[..., Any])


class Numbers(click.ParamType[list[float]]):
    """Comma-separated numbers and ranges; k and M are 1024 and 1024^2.

    `whole` allows no fraction, `none` also takes the word none: no numbers.
    """

    name = "numbers"

    def __init__(self, *, whole: bool = False, none: bool = False) -> None:
        self.whole, self.none = whole, none

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[float]:
        """The numbers of `value`, all positive and finite."""
        if not isinstance(value, str):
            return list(value)
        if self.none and value.strip() == "none":
            return []
        try:
            parts = listed_of_text(value) if value.strip() else []
            numbers = [number_of_text(part) if isinstance(part, str) else part for part in parts]
        except ValueError:
            self.fail(
                f"{value!r} is not a list of numbers; write for example 1,2,4 or 8..64 (8, 16, 32, "
                "64) or 1k,128k,1M"
            )
        if not numbers:
            self.fail("the list is empty; give at least one number")
        wrong = [n for n in numbers if not (0 < n < float("inf")) or (self.whole and n != int(n))]
        if wrong:
            kind = "positive whole numbers" if self.whole else "positive numbers"
            self.fail(f"{', '.join(f'{n:g}' for n in wrong)}: only {kind} are allowed")
        return numbers


def input_errors(command: Command) -> Command:
    """Turn the library's ValueError about its input into one message and exit code 2."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # `| head` has read enough: no mistake of the input
            raise
        except (ValueError, OSError) as error:
            if "QSJAX_TRACEBACK" in os.environ:
                raise
            raise click.UsageError(str(error)) from error

    return guarded  # type: ignore[return-value]  # same signature, as wraps says


def options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several click options as one decorator, shown in the given order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def names_of(kind: str) -> Any:
    """Shell completion of catalogue names: `model` or `hardware`."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        names = catalog.model_names() if kind == "model" else catalog.hardware_names()
        return [name for name in names if name.startswith(incomplete)]

    return complete


model_argument = click.argument("model", shell_complete=names_of("model"))
hardware_option = click.option(
    "--hardware",
    default=HARDWARE,
    show_default=True,
    shell_complete=names_of("hardware"),
    help="Accelerator by name (`qsjax hardware` lists them) or a TOML file.",
)
system_options = options(
    hardware_option,
    click.option(
        "--gpus",
        type=Numbers(whole=True),
        default="64",
        show_default=True,
        help="GPU counts, each used exactly, such as 8,16 or 8..64.",
    ),
)
dtype_options = options(
    click.option(
        "--convention",
        type=click.Choice([*CONVENTIONS, "both"]),
        default="physical",
        show_default=True,
        help="Accounting: physical, what the paper's tables imply, or both of them.",
    ),
    click.option(
        "--weights",
        type=click.Choice(list(STORED)),
        help="Dtype of the weights.  [default: as the model is published]",
    ),
    click.option(
        "--kv",
        type=click.Choice(list(STORED)),
        help="Dtype of the KV cache.  [default: as the model is published]",
    ),
)


def context_option(default: str) -> Callable[[Any], Any]:
    """The flag for contexts; what is taken without it differs from verb to verb."""
    text = f"Context lengths, such as 1k,128k,1M.  [default: {default}]"
    return click.option("--context", type=Numbers(whole=True), help=text)


quality_options = options(
    click.option(
        "--twins",
        type=Numbers(none=True),
        default="5",
        show_default=True,
        help="Dense models of equal quality at these factors q of the active size; none for none.",
    ),
    dtype_options,
)
PUBLISHED = "powers of two from 1k to what the model is published for"
workload_options = options(context_option(PUBLISHED), quality_options)
batch_option = click.option(
    "--batch",
    type=Numbers(whole=True),
    help="Sequences per attention replica.  [default: what is best, or fits]",
)


def degree_options(help_: str) -> Callable[[Any], Any]:
    """A flag for each degree of a partition; `help_` has its name for {}."""
    return options(
        *(
            click.option(f"--{name}", type=Numbers(whole=True), help=help_.format(name))
            for name in DEGREES
        )
    )


axis_options = options(
    degree_options("Values of the axis {}."),
    click.option(
        "--replicas",
        type=Numbers(whole=True),
        help="Independent copies of the deployment.  [default: as many as the GPUs have room for]",
    ),
    click.option(
        "--kv-mode", help="KV parallelism: comma-separated none, kvp (Helix), cp (pass-Q)."
    ),
    batch_option,
)
format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="What is printed.",
)
level_option = click.option(
    "--level",
    type=float,
    default=LEVEL,
    show_default=True,
    help="Probability with which measured values lie in the intervals.",
)
output_options = options(
    format_option,
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for data, tables, figures and the exact inputs.",
    ),
)


def axis_overrides(**flags: Any) -> dict[str, Any]:
    """The axis flags that were given, as values of axes."""
    given = {name: values for name, values in flags.items() if values is not None}
    if "kv_mode" in given:
        given["kv_mode"] = [mode.strip() for mode in given["kv_mode"].split(",") if mode.strip()]
    return given


def is_default(name: str) -> bool:
    """Whether a flag of the running command was left as it is."""
    given = click.get_current_context().get_parameter_source(name)
    return given is not None and given.name == "DEFAULT"
