"""Code blocks and commands of Markdown files, for tests that run what the documents say."""

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import prompt

from qsjax.cli import cli

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(qsjax [^`]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"# *([\w./-]+\.(?:toml|csv|json))\n")


class Block(NamedTuple):
    """A fenced block: its language, and its text without indentation."""

    language: str
    text: str


def blocks(markdown: str, *languages: str) -> list[Block]:
    """Blocks of the given languages."""
    found = []
    for indent, language, text in _BLOCK.findall(markdown):
        if language in languages:
            lines = [line.removeprefix(indent) for line in text.splitlines(keepends=True)]
            found.append(Block(language, "".join(lines)))
    return found


def files(markdown: str) -> dict[str, str]:
    """Files that the document shows: blocks whose first line is a comment with their name."""
    shown = [block.text for block in blocks(markdown, "toml", "csv", "json")]
    named = [(found, text) for text in shown if (found := _FILE.match(text))]
    return {found[1]: text for found, text in named}


def commands(markdown: str) -> list[str]:
    """Every command: the lines of shell blocks, and `qsjax ...` within the text."""
    lines = []
    for block in blocks(markdown, "sh", "bash", "console"):
        joined = block.text.replace("\\\n", " ")
        lines += [line.removeprefix("$ ").split("  #")[0].strip() for line in joined.splitlines()]
    lines += [line for line in _INLINE.findall(markdown) if not _is_name(line)]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _is_name(line: str) -> bool:
    """Whether `qsjax VERB` only names a verb: one that cannot run without arguments."""
    _, verb, *rest = line.split()
    command = cli.get_command(click.Context(cli), verb)
    return not rest and command is not None and any(p.required for p in command.params)


def run(command: str, folder: Path) -> prompt.Done:
    """Run a command in a folder: `qsjax` in this process, where warnings are errors too."""
    name, *rest = shlex.split(command)
    name = name.removeprefix(".venv/bin/")
    if name == "qsjax":
        with contextlib.chdir(folder):
            return prompt.qsjax(*rest)
    return process([sys.executable if name == "python" else name, *rest], folder)


def python(code: str, folder: Path) -> prompt.Done:
    """Run Python code in a folder, as a script of a user's."""
    return process([sys.executable, "-W", "error", "-c", code], folder)


def process(command: list[str], folder: Path) -> prompt.Done:
    """Run a program in a folder."""
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    return prompt.Done(ended.returncode, ended.stdout, ended.stderr)


def broken_links(path: Path) -> list[str]:
    """Links of a Markdown file to files that are not there."""
    prose = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    targets = [link.partition("#")[0] for link in _LINK.findall(prose)]
    local = [target for target in targets if target and not re.match(r"\w+:", target)]
    return [target for target in local if not (path.parent / target).exists()]
