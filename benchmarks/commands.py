"""The share of public command lines that are read, and read right.

    python -m benchmarks.commands

The lines, their sources and what they say are in tests/data/commands.toml.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qsjax.engines import read

LINES = Path(__file__).parent.parent / "tests" / "data" / "commands.toml"
DEGREES = ("tp", "dp", "ep", "pp", "kvp", "replicas")  # 1 where a line does not say
OTHERS = (
    *("engine", "model", "context", "batch", "usable_fraction", "static_fraction"),
    *("bytes_kv", "loader"),
)


class Outcome(NamedTuple):
    """One line: why it is refused, or each quantity read wrong with what is right."""

    command: dict[str, Any]
    refusal: str
    wrong: dict[str, tuple[Any, Any]]


def commands() -> list[dict[str, Any]]:
    """The corpus: `from`, `line` and, of a line that a reader of its flags must read, `expect`."""
    return tomllib.loads(LINES.read_text("utf-8"))["command"]


def outcomes() -> Iterator[Outcome]:
    """What becomes of each line, read as of a model with experts."""
    for command in commands():
        try:
            found = read(command["line"])
        except ValueError as error:
            yield Outcome(command, str(error), {})
            continue
        said = dict.fromkeys(DEGREES, 1) | dict.fromkeys(OTHERS) | command["expect"]
        pairs = {name: (getattr(found, name), right) for name, right in said.items()}
        yield Outcome(command, "", {name: two for name, two in pairs.items() if two[0] != two[1]})


def main() -> None:
    """Print each line that is refused or read wrong, and the shares."""
    every = list(outcomes())
    for one in every:
        if one.refusal or one.wrong:
            wrong = ", ".join(f"{name} {a} for {b}" for name, (a, b) in one.wrong.items())
            print(f"{one.command['from']}\n  {one.command['line'][:100]}\n  {one.refusal or wrong}")
    refused = sum(bool(one.refusal) for one in every)
    wrong = sum(bool(one.wrong) for one in every)
    read_share = 100 * (1 - refused / len(every))
    print(f"{len(every)} lines: {read_share:.1f} % read, {refused} refused, {wrong} read wrong")


if __name__ == "__main__":
    main()
