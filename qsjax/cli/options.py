"""What every verb shares: flags of the same name for the same thing, errors, formats."""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from qsjax import catalog
from qsjax.cli import printing
from qsjax.engines.spread import LEVEL
from qsjax.output import files
from qsjax.records.conversion import number_of_text
from qsjax.records.precision import STORED
from qsjax.records.specs import CONVENTIONS, DEGREES
from qsjax.records.units import MS

Command = TypeVar("Command", bound=Callable[..., Any])


class Numbers(click.ParamType[list[float]]):
    """Comma-separated numbers; k and M are 1024 and 1024^2; `whole` allows no fraction."""

    name = "numbers"

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[float]:
        """The numbers of `value`, all positive and finite."""
        if not isinstance(value, str):
            return list(value)
        try:
            numbers = [number_of_text(part) for part in value.split(",")] if value.strip() else []
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers; write for example 1,2,4 or 1k,128k,1M")
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
    default="paper-reference",
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
        help="GPU counts, each used exactly.",
    ),
)
dtype_options = options(
    click.option(
        "--convention",
        type=click.Choice(list(CONVENTIONS)),
        default="physical",
        show_default=True,
        help="Accounting: physical, or what the paper's tables imply.",
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
        "--q",
        type=Numbers(),
        default="5",
        show_default=True,
        help="Quality-equivalence factors of the dense twins.",
    ),
    dtype_options,
)
workload_options = options(context_option("1k to 16M by powers of two"), quality_options)
axis_options = options(
    *(
        click.option(f"--{name}", type=Numbers(whole=True), help=f"Values of the axis {name}.")
        for name in DEGREES
    ),
    click.option(
        "--replicas",
        type=Numbers(whole=True),
        help="Independent copies of the deployment.  [default: as many as the GPUs have room for]",
    ),
    click.option(
        "--kv-mode", help="KV parallelism: comma-separated none, kvp (Helix), cp (pass-Q)."
    ),
    click.option(
        "--batch",
        type=Numbers(whole=True),
        help="Sequences per attention replica.  [default: the largest that fits]",
    ),
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


def print_json(value: Any) -> None:
    """One JSON object on standard output; NaN and infinity become null."""
    click.echo(json.dumps(files.finite(value), indent=1, allow_nan=False))


def is_terminal() -> bool:
    """Whether a person watches: colours and progress bars are for people."""
    return sys.stdout.isatty()


def gpus(count: float) -> str:
    """A number of GPUs in words."""
    return "1 GPU" if count == 1 else f"{count:,.0f} GPUs"


def interval(row: Mapping[str, Any]) -> str:
    """Ends of the interval of a row's TPOT [ms]."""
    return f"{row['tpot_low'] / MS:,.2f} to {row['tpot_high'] / MS:,.2f}"


def print_table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1
) -> None:
    """A table for people; the first `left` columns are text, the others numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for at, head in enumerate(heads):
        table.add_column(head, justify="left" if at < left else "right")
    for row in rows:
        table.add_row(*row)
    printing.show(table, None if is_terminal() else 160)


def print_rows(
    rows: list[dict[str, Any]], format_: str, as_table: Callable[[list[dict[str, Any]]], None]
) -> None:
    """Rows in the format of the flag."""
    if format_ == "json":
        print_json(rows)
    elif format_ == "csv":
        click.echo(files.csv_text(rows), nl=False)
    else:
        as_table(rows)


def print_record(record: dict[str, Any], format_: str) -> None:
    """One record: JSON, or name and value for each number in it."""
    if format_ == "json":
        print_json(record)
        return
    lines = list(_flat(record))
    if format_ == "csv":
        click.echo(files.csv_text([{"name": n, "value": v} for n, v in lines]), nl=False)
        return
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {_plain(value)}")


def _flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for at, item in enumerate(value):
                yield from _flat(item, f"{prefix}{name}[{at}].")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)
