"""Flags and formats that all verbs share."""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from qsjax import catalog
from qsjax.catalog import gguf, lookup
from qsjax.cli import EVERY_VERB
from qsjax.cli.emit import emit
from qsjax.cli.help import Verb
from qsjax.engines.command_line import engine_named
from qsjax.engines.rules import ENGINES
from qsjax.engines.spread import LEVEL
from qsjax.output.result import Result
from qsjax.records.conversion import as_float64, listed_of_text, maybe_one, rate_of_text
from qsjax.records.precision import STORED, dtype_named
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
        asked = param.name if param else ""
        unit = "people" if asked in ("users", "rate") else "1"  # 5k are no 5,120
        if told := maybe_one(value, of_lengths=asked in ("context", "isl", "osl")):
            self.fail(told)
        try:
            parts = listed_of_text(value, unit) if value.strip() else []
            numbers = [as_float64(part, unit) for part in parts]
        except ValueError:
            name, count = lookup.counted(value)
            if asked == "gpus" and count > 1 and "," not in value:
                self.fail(f"{value!r} is not a number; write --hardware {name} --gpus {count}")
            more = "" if unit == "people" else " or 8..64 (8, 16, 32, 64) or 1k,128k,1M"
            self.fail(f"{value!r} is not a list of numbers; write for example 1,2,4{more}")
        if not numbers:
            self.fail("the list is empty; give at least one number")
        wrong = [n for n in numbers if not (0 < n < float("inf")) or (self.whole and n != int(n))]
        if wrong:
            kind = "positive whole numbers" if self.whole else "positive numbers"
            self.fail(f"{', '.join(f'{n:g}' for n in wrong)}: only {kind} are allowed")
        return numbers


class Rates(Numbers):
    """Requests a second, as numbers or with their unit: 2, 2/s, 2 req/s, 120/min."""

    name = "rates"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[float]:
        """Rates a second, all positive and finite."""
        found: list[float] = []
        for plain, seconds in map(rate_of_text, value.split(",")):
            found += [rate / seconds for rate in super().convert(plain, param, ctx)]
        return found


class Engines(click.Choice[str]):
    """An engine by any of its spellings: TensorRT-LLM, trt-llm, vllm-v1."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Its short name."""
        found = engine_named(str(value))
        return super().convert(found if found in self.choices else value, param, ctx)


class Dtypes(click.Choice[str]):
    """A dtype of weights or cache, also as engines and checkpoints spell it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Its name here."""
        plain = dtype_named(value)
        is_format = plain in {*lookup.FORMATS, *gguf.BITS} - {*self.choices}
        if is_format and param is not None and param.name == "weights":
            self.fail(
                f"{value!r} is no dtype but a format of checkpoints, which the model's name tells: "
                f"MODEL-{plain}"
            )
        return super().convert(plain, param, ctx)


WHOLE, NUMBERS, RATES = Numbers(whole=True), Numbers(), Rates()
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
RECORDS = click.Path(path_type=Path)  # a file or a folder
OLD_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
COUNT = click.IntRange(min=1)
LONG = 11  # characters of choices that stand beside the name of their flag


class Float(click.types.FloatParamType):
    """A number; one in per cent is told as a share."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        if found := re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*%\s*", str(value)):
            percent = float(found[1])
            self.fail(f"{value!r} is not a number; {percent:g} % is {percent / 100:g}")
        return float(super().convert(value, param, ctx))


def flag(
    names: str, kind: Any, text: str, default: Any = None, **more: Any
) -> Callable[[Any], Any]:
    """A click option whose help shows the default, if there is one.

    Args:
        names: spellings, and the name of the argument if it is another.
        kind: a type of click or Python, or the words to choose from; bool takes no value.
        text: help.
        default: value without the flag.
        **more: further arguments of `click.option`.
    """
    given = {} if default is None else {"default": default, "show_default": True}
    if isinstance(default, float) and more.get("show_default", True):
        text, given["show_default"] = f"{text}  [default: {default:g}]", False
    if kind is bool:
        # One of a pair of flags may be left open.
        kind, given = None, {"is_flag": True, "default": None if "/" in names else False} | given
    elif not isinstance(kind, type | click.ParamType):
        kind = click.Choice(list(kind), case_sensitive=False)
        if len("|".join(kind.choices)) > LONG and "metavar" not in more:
            said, mark, taken = text.partition(".")
            text = f"{said}: {', '.join(kind.choices)}{mark}{taken}"
            more["metavar"] = "NAME"
    kind = Float() if kind is float else kind
    if kind is int or isinstance(kind, Float | click.IntRange | click.FloatRange):
        more.setdefault("metavar", "NUMBER")
    return click.option(*names.split(), type=kind, help=text, **(given | more))


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
models_argument = click.argument(
    "models", nargs=-1, required=True, shell_complete=names_of("model")
)
hardware_option = flag(
    "--hardware", str, "Accelerator or TOML file.", HARDWARE, shell_complete=names_of("hardware")
)
ENGINE = f"Whose kernels run: {', '.join(ENGINES)}.  [default: what fits all]"
engine_option = flag("--engine", Engines(ENGINES), ENGINE, metavar="NAME")
system_options = options(
    hardware_option, engine_option, flag("--gpus", WHOLE, "GPUs in all, as 8,16 or 8..64.", "64")
)
one_model, some_models = (
    options(argument, system_options) for argument in (model_argument, models_argument)
)
convention_option = flag("--convention", [*CONVENTIONS, "both"], "Accounting.", "physical")
DTYPES = f"Dtype of weights, KV cache: {', '.join(STORED)}.  [default: as published]"
dtype_options = options(
    convention_option,
    *(flag(f"--{name}", Dtypes(STORED), DTYPES, metavar="NAME") for name in ("weights", "kv")),
)


def context_option(default: str) -> Callable[[Any], Any]:
    """The flag for contexts; what is taken without it differs from verb to verb."""
    return flag("--context", WHOLE, f"Contexts, as 1k,128k,1M.  [default: {default}]")


quality_options = options(
    flag("--twins", Numbers(none=True), "Dense models of equal quality: factors q, or none.", "5"),
    dtype_options,
)
PUBLISHED = "1k,2k,4k... to the model's limit"


def workload_options(default: str = PUBLISHED) -> Callable[[Any], Any]:
    """The flags for contexts, twins, accounting and dtypes."""
    return options(context_option(default), quality_options)


batch_option = flag("--batch", WHOLE, "Sequences on each replica.  [default: the best]")


def degree_options(help_: str) -> Callable[[Any], Any]:
    """A flag for each degree of a partition, all with one help."""
    return options(*(flag(f"--{name}", WHOLE, help_) for name in DEGREES))


axis_options = options(
    degree_options("Values of tp, ep, pp, dp, kvp.  [default: all]"),
    flag("--replicas", WHOLE, "Copies.  [default: as many as fill the GPUs]"),
    flag("--kv-mode", str, "Any of none, kvp (Helix), cp (pass-Q)."),
    batch_option,
)
_FORMAT, _OUT, *_ = EVERY_VERB.values()
format_option = flag("--format format_", ["table", "json", "csv"], _FORMAT, "table")
level_option = flag("--level", float, "Probability of the intervals.", LEVEL)
output_options = options(format_option, flag("--out", FOLDER, _OUT))


def _counted(given: dict[str, Any]) -> dict[str, Any]:
    """The flags of a verb, of which `--hardware 2xH100` is `--hardware H100 --gpus 2`."""
    name, count = lookup.counted(str(given.get("hardware") or ""))
    if count == 1 or "," in name:
        return given
    if "gpus" not in given or not (is_default("gpus") or given["gpus"] in (None, [count])):
        told = "--gpus says" if "gpus" in given else "the degrees say"
        raise ValueError(
            f"--hardware {given['hardware']}: {told} how many; write --hardware {name}"
        )
    return given | {"hardware": name, "gpus": [float(count)]}


def verb(name: str) -> Callable[[Callable[..., Result]], click.Command]:
    """A function of flags as a verb: its result is printed and written as the last flags say."""

    def decorate(function: Callable[..., Result]) -> click.Command:
        @wraps(function)
        def run(format_: str, out: Path | None, **given: Any) -> None:
            emit(function(**_counted(given)), format_, out)

        made = click.command(name, cls=Verb)(run)
        made.params += click.command()(output_options(lambda: None)).params
        return made

    return decorate


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
